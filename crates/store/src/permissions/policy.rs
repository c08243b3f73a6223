//! All permissions in memory: answers checks, remembers decisions, and takes changes in one step.
//!
//! A check looks for a remembered decision first: one hash, one look-up, three stamps (`stamps.rs`). Else it takes a reference
//! to its tenant's records, which never change under it, computes, and remembers the outcome. A change is planned, written to
//! the backend by the caller, and then put in place: new records and new stamps, under one lock.
//!
//! Decisions are remembered by a keyed 128-bit hash of the whole question (SipHash-1-3 under a secret seed), so that an entry
//! has one small size and nobody can look for two questions that share one. 100,000 of them take at most 13 MB; new ones drive
//! out those that were asked once before those that are asked again and again.
//!
//! Invariant: no remembered decision is given after a change that could alter it was acknowledged, nor when it is older than
//! the caller allows.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arrayvec::ArrayVec;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use siphasher::sip128::SipHasher13;

use super::answer::{Answer, Question, Why, answer};
use super::change::{Changed, Refused, plan};
use super::model::{Map, Tenant};
use super::stamps::{Part, Places, Stamps};
use super::text::pattern_key;
use super::{Change, Fact, Name, NameError, Record, Subject};

/// How many decisions are remembered.
pub const MOST_DECISIONS: usize = 100_000;

/// Who may do what, in all tenants.
pub struct Policy {
    held: RwLock<Held>,
    stamps: Stamps,
    /// Made by the first check, so that a gateway without permissions pays nothing.
    decisions: OnceLock<Cache<u128, Decision, UnitWeighter, ahash::RandomState>>,
    seed: [u8; 16],
    /// Whether `held` is known to be what the backend has.
    is_sure: AtomicBool,
}

#[derive(Default)]
struct Held {
    tenants: Map<Name, Arc<Tenant>>,
    /// The number of the last change.
    number: u64,
    /// What all tenants weigh.
    weight: usize,
}

/// A remembered decision.
#[derive(Clone, Copy)]
struct Decision {
    /// The last change that it saw.
    number: u64,
    asked_nanos: u64,
    places: Places,
    why: Why,
}

/// What a check heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Why it is so.
    pub why: Why,
    /// Whether it was remembered and not computed.
    pub is_remembered: bool,
}

impl Policy {
    /// Nothing is permitted to anybody yet. `seed` hides which questions are remembered under which key; keep it secret.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Policy {
        Policy {
            held: RwLock::default(),
            stamps: Stamps::new(seed),
            decisions: OnceLock::new(),
            seed,
            is_sure: AtomicBool::new(true),
        }
    }

    /// Answers a question, from memory of the same question where that is at most `age_nanos` old and still true.
    ///
    /// `None` when nobody can say: the records are in doubt (see [`Policy::doubt`]), and then only what is remembered is
    /// given, and only where `takes_remembered_in_doubt`.
    pub fn check<R: AsRef<str>>(
        &self,
        question: &Question<'_, R>,
        now_nanos: u64,
        age_nanos: u64,
        takes_remembered_in_doubt: bool,
    ) -> Option<Asked> {
        let is_sure = self.is_sure.load(Ordering::Acquire);
        if !is_sure && !takes_remembered_in_doubt {
            return None;
        }
        let key = self.key(question);
        let decisions = self.decisions.get_or_init(remembering);
        if let Some(known) = decisions.get(&key) {
            let is_young = now_nanos.saturating_sub(known.asked_nanos) <= age_nanos;
            if is_young && self.stamps.last(known.places) <= known.number {
                return Some(Asked { why: known.why, is_remembered: true });
            }
        }
        if !is_sure {
            return None;
        }
        let (tenant, number) = {
            let held = self.read();
            (held.tenants.get(question.tenant).cloned(), held.number)
        };
        let why = answer(tenant.as_deref(), question, None);
        let places = self.stamps.places(question.tenant, question.user, question.resource);
        decisions.insert(key, Decision { number, asked_nanos: now_nanos, places, why });
        Some(Asked { why, is_remembered: false })
    }

    /// Answers a question anew, with the role or entry that decided, and remembers nothing. For people.
    #[must_use]
    pub fn explain<R: AsRef<str>>(&self, question: &Question<'_, R>) -> Answer {
        let tenant = self.read().tenants.get(question.tenant).cloned();
        let mut by = String::new();
        let why = answer(tenant.as_deref(), question, Some(&mut by));
        Answer { why, by }
    }

    /// Checks and completes an order. Between this and [`Policy::commit`] nothing else may be committed: the caller makes
    /// changes one at a time.
    ///
    /// # Errors
    /// [`Refused`]; nothing was changed.
    pub fn plan(&self, orders: &[Change]) -> Result<Changed, Refused> {
        let held = self.read();
        plan(&held.tenants, orders, held.weight)
    }

    /// Puts in place what was planned, once the backend has it. From the moment it returns, no check gives an older answer.
    pub fn commit(&self, changed: Changed) {
        let mut held = self.write();
        held.number += 1;
        let number = held.number;
        for change in &changed.changes {
            let (Change::Add(record) | Change::Remove(record)) = change;
            self.stamps.stamp(part(record), number);
        }
        for (name, tenant) in changed.tenants {
            held.weight += tenant.as_ref().map_or(0, |tenant| tenant.weight);
            let old = match tenant {
                Some(tenant) => held.tenants.insert(name, Arc::new(tenant)),
                None => held.tenants.remove(&name),
            };
            held.weight -= old.map_or(0, |tenant| tenant.weight);
        }
    }

    /// Puts `records` in the place of everything, and is sure again.
    ///
    /// # Errors
    /// When a record has a name that cannot be; then everything stays as it was.
    pub fn load(&self, records: &[Record]) -> Result<(), NameError> {
        let mut tenants: Map<Name, Tenant> = Map::default();
        for record in records {
            record.check()?;
            tenants.entry(record.tenant.clone()).or_default().add(&record.tenant, &record.fact);
        }
        let weight = tenants.values().map(|tenant| tenant.weight).sum();
        let tenants = tenants.into_iter().map(|(name, tenant)| (name, Arc::new(tenant))).collect();
        let mut held = self.write();
        *held = Held { tenants, number: held.number + 1, weight };
        self.stamps.stamp_all(held.number);
        self.is_sure.store(true, Ordering::Release);
        Ok(())
    }

    /// The backend failed in the middle of a change, so nobody knows what it holds. Until the next [`Policy::load`], nothing
    /// is computed.
    pub fn doubt(&self) {
        self.is_sure.store(false, Ordering::Release);
    }

    /// Whether the records are known to be what the backend has.
    #[must_use]
    pub fn is_sure(&self) -> bool {
        self.is_sure.load(Ordering::Acquire)
    }

    /// At most `most` records in their order, those behind `after`, of one tenant or of all.
    #[must_use]
    pub fn list(&self, tenant: Option<&str>, after: Option<&Record>, most: usize) -> Vec<Record> {
        let tenants: Vec<(Name, Arc<Tenant>)> = {
            let held = self.read();
            let is_asked = |name: &Name| tenant.is_none_or(|tenant| **name == *tenant);
            held.tenants.iter().filter(|(name, _)| is_asked(name)).map(|(n, t)| (n.clone(), Arc::clone(t))).collect()
        };
        let all = tenants
            .iter()
            .flat_map(|(name, tenant)| tenant.facts().map(move |fact| Record { tenant: name.clone(), fact }));
        let mut found: Vec<Record> = all.filter(|record| after.is_none_or(|after| record > after)).collect();
        if most < found.len() {
            found.select_nth_unstable(most);
            found.truncate(most);
        }
        found.sort_unstable();
        found
    }

    /// How many decisions are remembered, and the memory for them in bytes.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        self.decisions.get().map_or((0, 0), |decisions| {
            let used = decisions.memory_used();
            (decisions.len(), used.entries + used.map)
        })
    }

    /// The key of a question.
    fn key<R: AsRef<str>>(&self, question: &Question<'_, R>) -> u128 {
        // In one piece the hash takes half the time that it takes part by part, so nearly every question is put together first.
        let mut bytes: ArrayVec<u8, 1024> = ArrayVec::new();
        let whole = write(question, |part| bytes.try_extend_from_slice(part).ok());
        let hasher = SipHasher13::new_with_key(&self.seed);
        if whole.is_some() {
            return hasher.hash(&bytes).as_u128();
        }
        let mut bytes = Vec::new();
        let _ = write(question, |part| {
            bytes.extend_from_slice(part);
            Some(())
        });
        hasher.hash(&bytes).as_u128()
    }

    fn read(&self) -> RwLockReadGuard<'_, Held> {
        // Nothing panics while it is held for writing; were it so, stamps are written first and make checks compute anew.
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remembering() -> Cache<u128, Decision, UnitWeighter, ahash::RandomState> {
    let most = MOST_DECISIONS as u64;
    Cache::with(MOST_DECISIONS, most, UnitWeighter, ahash::RandomState::default(), DefaultLifecycle::default())
}

/// Writes a question so that two different ones never give the same bytes; stops where `push` does. Texts and lists end with
/// bytes that UTF-8 does not have.
#[inline]
fn write<R: AsRef<str>>(question: &Question<'_, R>, mut push: impl FnMut(&[u8]) -> Option<()>) -> Option<()> {
    const END_OF_TEXT: u8 = 0xFF;
    const END_OF_LIST: u8 = 0xFE;
    // No resource, and one that is empty, are different questions.
    push(&[u8::from(question.resource.is_some())])?;
    let mut text = |text: &str| {
        push(text.as_bytes())?;
        push(&[END_OF_TEXT])
    };
    text(question.tenant)?;
    text(question.user)?;
    text(question.resource.unwrap_or_default())?;
    question.carried.iter().try_for_each(|role| text(role.as_ref()))?;
    for names in [question.roles, question.permissions] {
        push(&[END_OF_LIST])?;
        for name in names {
            push(name.as_bytes())?;
            push(&[END_OF_TEXT])?;
        }
    }
    Some(())
}

/// What a change of this record touches.
fn part(record: &Record) -> Part<'_> {
    let tenant = &*record.tenant;
    match &record.fact {
        Fact::Grant { subject: Subject::User(user), .. }
        | Fact::Member { subject: Subject::User(user), .. }
        | Fact::Deactivated { user } => Part::User(tenant, user),
        Fact::Entry { resource, .. } if pattern_key(resource).len() == resource.len() => {
            Part::Resource(tenant, resource)
        }
        Fact::Role { .. } | Fact::Permission { .. } | Fact::Grant { .. } | Fact::Member { .. } | Fact::Entry { .. } => {
            Part::Tenant(tenant)
        }
    }
}
