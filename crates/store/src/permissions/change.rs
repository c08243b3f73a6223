//! What an order to change permissions comes to: checked against what holds, completed, and tried on a copy.
//!
//! Names are checked, a grant needs its role, groups never form a ring and never stand too deep, everything is bounded, and
//! a role takes its permissions and grants with it when it goes. The outcome is a list of changes for the backend and the
//! tenants as they will be, which [`super::Policy`] puts in place once the backend has them.
//!
//! Invariant: what comes out of here was checked against exactly the records that it will be applied to, because changes are
//! made one at a time.

use std::collections::HashMap;

use super::model::{Map, Set, Tenant};
use super::{
    Change, DEEPEST, Fact, MOST_ABOVE, MOST_BYTES, MOST_GRANTS, MOST_GROUPS, Name, NameError, Record, Subject,
};

/// Most permissions that the entries for one subject on one resource speak of.
const MOST_SAID: usize = 64;

/// Why an order is not carried out. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A name cannot be taken.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A role is not there.
    #[error("there is no role `{role}` in {}", tenant_in_words(.tenant))]
    NoRole {
        /// Which role.
        role: Name,
        /// Where it was looked for.
        tenant: Name,
    },
    /// A group would be inside itself.
    #[error("group `{group}` would be inside itself")]
    Ring {
        /// Which.
        group: Name,
    },
    /// Something has as much as it may have.
    #[error("{what}: at most {most} are possible")]
    TooMany {
        /// What there would be too many of.
        what: String,
        /// How many there may be.
        most: usize,
    },
}

/// A tenant in words.
pub(super) fn tenant_in_words(tenant: &str) -> String {
    if tenant.is_empty() { "the tenant of users without one".to_owned() } else { format!("tenant `{tenant}`") }
}

/// What an order comes to.
#[derive(Clone, Debug, Default)]
pub struct Changed {
    /// Every change that is one, in order. Empty when all of it held already.
    pub changes: Vec<Change>,
    /// The tenants as they will be; `None` for one without a record.
    pub(super) tenants: HashMap<Name, Option<Tenant>>,
}

/// Tries `orders` one after the other on copies of the tenants they touch. `all_weigh` is what all tenants weigh now.
pub(super) fn plan(
    tenants: &Map<Name, std::sync::Arc<Tenant>>,
    orders: &[Change],
    all_weigh: usize,
) -> Result<Changed, Refused> {
    let mut drafts: HashMap<Name, Tenant> = HashMap::new();
    let mut changes = Vec::new();
    let (mut before, mut after) = (0, 0);
    for order in orders {
        let (Change::Add(record) | Change::Remove(record)) = order;
        record.check()?;
        let draft = drafts.entry(record.tenant.clone()).or_insert_with(|| {
            let known = tenants.get(&record.tenant).map(|tenant| Tenant::clone(tenant)).unwrap_or_default();
            before += known.weight;
            known
        });
        match order {
            Change::Add(record) => add(draft, record, &mut changes)?,
            Change::Remove(record) => remove(draft, record, &mut changes),
        }
    }
    after += drafts.values().map(|draft| draft.weight).sum::<usize>();
    if after > before && all_weigh - before + after > MOST_BYTES {
        return Err(Refused::TooMany { what: "bytes of permissions in memory".to_owned(), most: MOST_BYTES });
    }
    let kept = |draft: Tenant| (!draft.is_empty()).then_some(draft);
    Ok(Changed { changes, tenants: drafts.into_iter().map(|(name, draft)| (name, kept(draft))).collect() })
}

fn add(draft: &mut Tenant, record: &Record, changes: &mut Vec<Change>) -> Result<(), Refused> {
    let too_many = |what: String, most| Err(Refused::TooMany { what, most });
    let tenant = &record.tenant;
    match &record.fact {
        Fact::Permission { role, .. } | Fact::Grant { role, .. } if !draft.roles.contains(role) => {
            return Err(Refused::NoRole { role: role.clone(), tenant: tenant.clone() });
        }
        Fact::Member { subject: Subject::Group(inner), group } => check_nesting(draft, inner, group)?,
        _ => {}
    }
    if draft.add(tenant, &record.fact) {
        changes.push(Change::Add(record.clone()));
    }
    match &record.fact {
        Fact::Grant { subject, .. } if draft.standing(subject).is_some_and(|known| known.roles.len() > MOST_GRANTS) => {
            too_many(format!("roles granted to {} `{}`", subject.kind(), subject.name()), MOST_GRANTS)
        }
        Fact::Member { subject, .. }
            if draft.standing(subject).is_some_and(|known| known.groups.len() > MOST_GROUPS) =>
        {
            too_many(format!("groups that {} `{}` is in", subject.kind(), subject.name()), MOST_GROUPS)
        }
        Fact::Entry { resource, subject, .. } if draft.said_count(resource, subject) > MOST_SAID => {
            let what = format!("permissions in entries for {} `{}` on `{resource}`", subject.kind(), subject.name());
            too_many(what, MOST_SAID)
        }
        _ => Ok(()),
    }
}

fn remove(draft: &mut Tenant, record: &Record, changes: &mut Vec<Change>) {
    let tenant = &record.tenant;
    let dependent: Vec<Fact> = match &record.fact {
        Fact::Role { role } => draft.facts().filter(|fact| depends_on(fact, role)).collect(),
        _ => Vec::new(),
    };
    for fact in dependent.into_iter().chain([record.fact.clone()]) {
        if draft.remove(tenant, &fact) {
            changes.push(Change::Remove(Record { tenant: tenant.clone(), fact }));
        }
    }
}

fn depends_on(fact: &Fact, gone: &Name) -> bool {
    matches!(fact, Fact::Permission { role, .. } | Fact::Grant { role, .. } if role == gone)
}

/// Whether group `inner` may stand in group `outer`: no ring, not too deep, not too many above anything.
fn check_nesting(draft: &Tenant, inner: &Name, outer: &Name) -> Result<(), Refused> {
    let above = above(draft, outer);
    if inner == outer || above.contains(inner) {
        return Err(Refused::Ring { group: inner.clone() });
    }
    let below = below(draft, inner);
    let deepest_below = below.iter().map(|group| steps_up(draft, group, Some(inner))).max().unwrap_or(0);
    if deepest_below + 1 + steps_up(draft, outer, None) > DEEPEST {
        return Err(Refused::TooMany { what: format!("groups in groups below `{outer}`"), most: DEEPEST });
    }
    for group in below.iter().chain([inner]) {
        let mut all = self::above(draft, group);
        all.extend(above.iter().cloned());
        all.insert(outer.clone());
        if all.len() > MOST_ABOVE {
            return Err(Refused::TooMany { what: format!("groups above group `{group}`"), most: MOST_ABOVE });
        }
    }
    Ok(())
}

/// Every group that `group` is in, directly or not.
fn above(draft: &Tenant, group: &Name) -> Set<Name> {
    let mut found = Set::default();
    let mut next = vec![group.clone()];
    while let Some(group) = next.pop() {
        for outer in draft.groups.get(&group).into_iter().flat_map(|standing| &standing.groups) {
            if found.insert(outer.clone()) {
                next.push(outer.clone());
            }
        }
    }
    found
}

/// Every group that is in `group`, directly or not.
fn below(draft: &Tenant, group: &Name) -> Set<Name> {
    let mut found: Set<Name> = Set::default();
    loop {
        let is_below = |standing: &super::model::Standing| {
            standing.groups.iter().any(|outer| outer == group || found.contains(outer))
        };
        let more: Vec<Name> = draft
            .groups
            .iter()
            .filter(|(name, standing)| !found.contains(*name) && is_below(standing))
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// The steps of the longest way up from `group`: to `end`, or to any group that is in no other. There are no rings, so it ends.
fn steps_up(draft: &Tenant, group: &Name, end: Option<&Name>) -> usize {
    // Level by level: after as many levels as there are steps, nothing is left to climb from.
    let mut level: Set<Name> = Set::from_iter([group.clone()]);
    let mut longest = 0;
    for steps in 0..=DEEPEST {
        if level.is_empty() {
            break;
        }
        if end.is_none_or(|end| level.contains(end)) {
            longest = steps;
        }
        let up = level.iter().filter_map(|group| draft.groups.get(group)).flat_map(|standing| &standing.groups);
        level = up.cloned().collect();
    }
    longest
}
