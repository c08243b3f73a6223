//! Permissions: who may do what. Roles and what they permit, grants, groups, entries on resources, and who is deactivated.
//!
//! Every record belongs to a tenant, and the tenant is part of its key in every backend and every look-up, so that nothing
//! of one tenant can speak for another. [`Policy`] holds all records in memory and answers checks from there; a backend
//! remembers them beyond the process and is never asked on the way of a request.
//!
//! What a check finds, in this order: a deactivated user may nothing; an entry that denies wins over everything that allows;
//! then an entry that allows, or a role that permits it, is enough; else the answer is no. Groups pass their roles and
//! entries on to everyone in them, also through groups in groups.
//!
//! Invariant: a call that answered `Ok` is kept by then as firmly as the backend keeps anything; one that failed changed
//! nothing.

mod answer;
mod change;
mod model;
mod policy;
mod stamps;
mod text;

use std::sync::Arc;

pub use answer::{Answer, Question, Why};
pub use change::{Changed, Refused};
pub use policy::{Asked, MOST_DECISIONS, Policy};
pub use text::{LONGEST_NAME_BYTES, LONGEST_RESOURCE_BYTES, LONGEST_USER_BYTES, NameError};

pub use crate::bans::{Pending, StoreError};

/// Most groups that a user or a group is in directly.
pub const MOST_GROUPS: usize = 64;
/// Most roles that are granted to a user or a group directly.
pub const MOST_GRANTS: usize = 64;
/// Most groups above a group, directly and not.
pub const MOST_ABOVE: usize = 64;
/// How deep groups may stand in groups: the longest way from a group up has this many steps.
pub const DEEPEST: usize = 8;
/// What all records may weigh together, in bytes (see [`Record::weight`]).
pub const MOST_BYTES: usize = 256 << 20;

/// A name that is shared by everything that holds it.
pub type Name = Arc<str>;

/// Who something is granted to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A user, by the name that its identity carries.
    User(Name),
    /// Everyone in a group.
    Group(Name),
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The subject may.
    Allow,
    /// The subject may not, whatever else allows it.
    Deny,
}

/// One thing that holds in a tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    /// There is a role.
    Role {
        /// Its name.
        role: Name,
    },
    /// A role permits something.
    Permission {
        /// Which role.
        role: Name,
        /// What: `documents:write`, `documents:*` for all that begins with `documents:`, or `*` for all.
        permission: Name,
    },
    /// A subject has a role.
    Grant {
        /// Who.
        subject: Subject,
        /// Which.
        role: Name,
    },
    /// A user or group is in a group.
    Member {
        /// Who.
        subject: Subject,
        /// In which.
        group: Name,
    },
    /// What a subject may do with a resource.
    Entry {
        /// Which: `document:42`, or `document:*` for all that begin with `document:`.
        resource: Name,
        /// Who.
        subject: Subject,
        /// What, as in [`Fact::Permission`].
        permission: Name,
        /// Whether it may.
        effect: Effect,
    },
    /// A user may nothing.
    Deactivated {
        /// Who.
        user: Name,
    },
}

/// One fact and the tenant it holds in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The tenant; empty for users of none.
    pub tenant: Name,
    /// What holds.
    pub fact: Fact,
}

/// One step from what holds to what shall hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This holds from now on. An entry takes the place of one that differs in its effect only.
    Add(Record),
    /// This holds no longer. That it did not hold is no error. Of an entry the effect does not matter.
    Remove(Record),
}

/// Remembers permissions beyond the process, as far as the backend does.
pub trait Permissions: Send + Sync {
    /// Every record, in no particular order.
    fn list(&self) -> Pending<'_, Vec<Record>>;

    /// Makes these changes in their order: all of them or, when it fails, none.
    fn update<'a>(&'a self, changes: &'a [Change]) -> Pending<'a, ()>;
}

impl Subject {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        match self {
            Subject::User(name) | Subject::Group(name) => name,
        }
    }

    /// `user` or `group`, as commands and backends say it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::User(_) => "user",
            Subject::Group(_) => "group",
        }
    }

    /// The one of this kind and name.
    #[must_use]
    pub fn named(kind: &str, name: &str) -> Option<Subject> {
        match kind {
            "user" => Some(Subject::User(Name::from(name))),
            "group" => Some(Subject::Group(Name::from(name))),
            _ => None,
        }
    }
}

impl Effect {
    /// The word in commands and backends.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
        }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Effect> {
        [Effect::Allow, Effect::Deny].into_iter().find(|effect| effect.name() == name)
    }
}

impl Fact {
    /// The word for its kind in commands.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Fact::Role { .. } => "role",
            Fact::Permission { .. } => "permission",
            Fact::Grant { .. } => "grant",
            Fact::Member { .. } => "member",
            Fact::Entry { .. } => "entry",
            Fact::Deactivated { .. } => "deactivated",
        }
    }

    /// Whether both are about the same thing: equal but for an entry's effect.
    #[must_use]
    pub fn is_about(&self, other: &Fact) -> bool {
        match (self, other) {
            (
                Fact::Entry { resource, subject, permission, .. },
                Fact::Entry { resource: its_resource, subject: its_subject, permission: its_permission, .. },
            ) => (resource, subject, permission) == (its_resource, its_subject, its_permission),
            _ => self == other,
        }
    }
}

impl Record {
    /// What it costs in memory, in bytes, estimated from above: its texts as often as they are held, and the maps around them.
    #[must_use]
    pub fn weight(&self) -> usize {
        let texts = match &self.fact {
            Fact::Role { role } => role.len(),
            Fact::Permission { role, permission } => role.len() + permission.len(),
            Fact::Grant { subject, role } => subject.name().len() + role.len(),
            Fact::Member { subject, group } => subject.name().len() + group.len(),
            Fact::Entry { resource, subject, permission, .. } => {
                resource.len() + subject.name().len() + permission.len()
            }
            Fact::Deactivated { user } => user.len(),
        };
        WEIGHT_OF_MAPS + 2 * texts + self.tenant.len()
    }
}

/// Places in maps and vectors that one record can take, twice as many as are filled at worst.
const WEIGHT_OF_MAPS: usize = 400;
