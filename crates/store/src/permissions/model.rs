//! All records of one tenant in the form that checks read: maps from names, no text compared twice.
//!
//! A tenant is a value: it is copied, changed, and put in the place of the old one as a whole (`policy.rs`), so that a check
//! sees all of a change or nothing. The maps are shared between copies until they differ.
//!
//! Invariant: every fact is in exactly one place here and comes out of [`Tenant::facts`] as it went in; nothing empty is kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::text::{pattern_key, pattern_of};
use super::{Effect, Fact, Name, Record, Subject};

/// A map whose keys come from outside: its hash is keyed by the process.
pub(super) type Map<K, V> = HashMap<K, V, ahash::RandomState>;
pub(super) type Set<T> = HashSet<T, ahash::RandomState>;

/// What is known of a user or of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// The groups it is in directly.
    pub(super) groups: Vec<Name>,
    /// The roles that are granted to it directly.
    pub(super) roles: Vec<Name>,
}

/// The entries on one resource, or on all of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    pub(super) users: Map<Name, Said>,
    pub(super) groups: Map<Name, Said>,
}

/// What the entries on a resource say of one subject, by the key of the permission's pattern.
pub(super) type Said = Vec<(Name, Effect)>;

/// One tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tenant {
    pub(super) roles: Arc<Set<Name>>,
    /// Which roles permit something, by the key of its pattern.
    pub(super) permitted: Arc<Map<Name, Set<Name>>>,
    pub(super) users: Arc<Map<Name, Standing>>,
    pub(super) groups: Arc<Map<Name, Standing>>,
    /// By the key of the resource's pattern.
    pub(super) entries: Arc<Map<Name, Entries>>,
    pub(super) deactivated: Arc<Set<Name>>,
    /// What all of it weighs, in bytes.
    pub(super) weight: usize,
}

impl Tenant {
    /// Makes `fact` hold. Whether it did not before.
    pub(super) fn add(&mut self, tenant: &Name, fact: &Fact) -> bool {
        let is_new = match fact {
            Fact::Role { role } => Arc::make_mut(&mut self.roles).insert(role.clone()),
            Fact::Permission { role, permission } => {
                let permitted = Arc::make_mut(&mut self.permitted);
                permitted.entry(key(permission)).or_default().insert(role.clone())
            }
            Fact::Grant { subject, role } => push(&mut self.standing_mut(subject).roles, role),
            Fact::Member { subject, group } => push(&mut self.standing_mut(subject).groups, group),
            Fact::Entry { resource, subject, permission, effect } => {
                let entries = Arc::make_mut(&mut self.entries).entry(key(resource)).or_default();
                let said = match subject {
                    Subject::User(name) => entries.users.entry(name.clone()).or_default(),
                    Subject::Group(name) => entries.groups.entry(name.clone()).or_default(),
                };
                match said.iter_mut().find(|(known, _)| **known == *pattern_key(permission)) {
                    Some((_, known)) if *known == *effect => false,
                    Some((_, known)) => {
                        *known = *effect;
                        // It weighs what the one before it did.
                        return true;
                    }
                    None => {
                        said.push((key(permission), *effect));
                        true
                    }
                }
            }
            Fact::Deactivated { user } => Arc::make_mut(&mut self.deactivated).insert(user.clone()),
        };
        if is_new {
            self.weight += weight(tenant, fact);
        }
        is_new
    }

    /// Makes `fact` hold no longer. Whether it did before. What depends on it (a role's permissions and grants) must be gone.
    pub(super) fn remove(&mut self, tenant: &Name, fact: &Fact) -> bool {
        let was_there = match fact {
            Fact::Role { role } => Arc::make_mut(&mut self.roles).remove(role),
            Fact::Permission { role, permission } => {
                let permitted = Arc::make_mut(&mut self.permitted);
                let Some(roles) = permitted.get_mut(pattern_key(permission)) else { return false };
                let was_there = roles.remove(role);
                if roles.is_empty() {
                    permitted.remove(pattern_key(permission));
                }
                was_there
            }
            Fact::Grant { subject, role } => self.take(subject, |standing| &mut standing.roles, role),
            Fact::Member { subject, group } => self.take(subject, |standing| &mut standing.groups, group),
            Fact::Entry { resource, subject, permission, .. } => self.remove_entry(resource, subject, permission),
            Fact::Deactivated { user } => Arc::make_mut(&mut self.deactivated).remove(user),
        };
        if was_there {
            self.weight -= weight(tenant, fact);
        }
        was_there
    }

    /// What is known of a subject.
    pub(super) fn standing(&self, subject: &Subject) -> Option<&Standing> {
        match subject {
            Subject::User(name) => self.users.get(name),
            Subject::Group(name) => self.groups.get(name),
        }
    }

    /// How many permissions the entries for a subject on a resource speak of.
    pub(super) fn said_count(&self, resource: &Name, subject: &Subject) -> usize {
        let entries = self.entries.get(pattern_key(resource));
        let said = entries.and_then(|entries| match subject {
            Subject::User(name) => entries.users.get(name),
            Subject::Group(name) => entries.groups.get(name),
        });
        said.map_or(0, Vec::len)
    }

    /// Whether nothing holds.
    pub(super) fn is_empty(&self) -> bool {
        self.weight == 0
    }

    /// Everything that holds, in no particular order.
    pub(super) fn facts(&self) -> impl Iterator<Item = Fact> + '_ {
        let roles = self.roles.iter().map(|role| Fact::Role { role: role.clone() });
        let permitted = self.permitted.iter().flat_map(|(key, roles)| {
            let permission = Name::from(pattern_of(key));
            roles.iter().map(move |role| Fact::Permission { role: role.clone(), permission: permission.clone() })
        });
        let users = self.users.iter().map(|(name, standing)| (Subject::User(name.clone()), standing));
        let groups = self.groups.iter().map(|(name, standing)| (Subject::Group(name.clone()), standing));
        let standings = users.chain(groups).flat_map(|(subject, standing)| {
            let member = subject.clone();
            let roles =
                standing.roles.iter().map(move |role| Fact::Grant { subject: subject.clone(), role: role.clone() });
            let groups =
                standing.groups.iter().map(move |group| Fact::Member { subject: member.clone(), group: group.clone() });
            roles.chain(groups)
        });
        let deactivated = self.deactivated.iter().map(|user| Fact::Deactivated { user: user.clone() });
        roles.chain(permitted).chain(standings).chain(self.entries()).chain(deactivated)
    }

    fn entries(&self) -> impl Iterator<Item = Fact> + '_ {
        self.entries.iter().flat_map(|(resource, entries)| {
            let resource = Name::from(pattern_of(resource));
            let users = entries.users.iter().map(|(name, said)| (Subject::User(name.clone()), said));
            let groups = entries.groups.iter().map(|(name, said)| (Subject::Group(name.clone()), said));
            users.chain(groups).flat_map(move |(subject, said)| {
                let resource = resource.clone();
                said.iter().map(move |(permission, effect)| Fact::Entry {
                    resource: resource.clone(),
                    subject: subject.clone(),
                    permission: pattern_of(permission).into(),
                    effect: *effect,
                })
            })
        })
    }

    fn standing_mut(&mut self, subject: &Subject) -> &mut Standing {
        match subject {
            Subject::User(name) => Arc::make_mut(&mut self.users).entry(name.clone()).or_default(),
            Subject::Group(name) => Arc::make_mut(&mut self.groups).entry(name.clone()).or_default(),
        }
    }

    /// Takes `name` from a list of the subject, and the subject with its last.
    fn take(&mut self, subject: &Subject, list: fn(&mut Standing) -> &mut Vec<Name>, name: &Name) -> bool {
        let map = match subject {
            Subject::User(_) => Arc::make_mut(&mut self.users),
            Subject::Group(_) => Arc::make_mut(&mut self.groups),
        };
        let Some(standing) = map.get_mut(subject.name()) else { return false };
        let names = list(standing);
        let before = names.len();
        names.retain(|known| known != name);
        let was_there = names.len() < before;
        if *standing == Standing::default() {
            map.remove(subject.name());
        }
        was_there
    }

    fn remove_entry(&mut self, resource: &Name, subject: &Subject, permission: &Name) -> bool {
        let all = Arc::make_mut(&mut self.entries);
        let Some(entries) = all.get_mut(pattern_key(resource)) else { return false };
        let of_kind = match subject {
            Subject::User(_) => &mut entries.users,
            Subject::Group(_) => &mut entries.groups,
        };
        let Some(said) = of_kind.get_mut(subject.name()) else { return false };
        let before = said.len();
        said.retain(|(known, _)| **known != *pattern_key(permission));
        let was_there = said.len() < before;
        if said.is_empty() {
            of_kind.remove(subject.name());
        }
        if entries.users.is_empty() && entries.groups.is_empty() {
            all.remove(pattern_key(resource));
        }
        was_there
    }
}

fn push(names: &mut Vec<Name>, name: &Name) -> bool {
    let is_new = !names.contains(name);
    if is_new {
        names.push(name.clone());
    }
    is_new
}

fn key(pattern: &Name) -> Name {
    let key = pattern_key(pattern);
    if key.len() == pattern.len() { pattern.clone() } else { Name::from(key) }
}

fn weight(tenant: &Name, fact: &Fact) -> usize {
    Record { tenant: tenant.clone(), fact: fact.clone() }.weight()
}
