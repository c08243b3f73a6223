//! The plain model: a list of records, and every question answered by going through all of it.
//!
//! Invariant: nothing here shares code with what it is held against, nor is anything remembered.

use std::collections::BTreeSet;

use portcullis_store::permissions::{Effect, Fact, Question, Record, Subject};

/// Everything that holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Plain {
    pub(super) records: BTreeSet<Record>,
}

impl Plain {
    pub(super) fn add(&mut self, record: &Record) {
        self.records.retain(|known| known.tenant != record.tenant || !known.fact.is_about(&record.fact));
        self.records.insert(record.clone());
    }

    /// A role goes with its permissions and grants.
    pub(super) fn remove(&mut self, record: &Record) {
        self.records.retain(|known| {
            let goes_along = match (&record.fact, &known.fact) {
                (Fact::Role { role: gone }, Fact::Permission { role, .. } | Fact::Grant { role, .. }) => role == gone,
                _ => false,
            };
            known.tenant != record.tenant || !(goes_along || known.fact.is_about(&record.fact))
        });
    }

    /// Whether the answer is yes.
    pub(super) fn allows(&self, question: &Question<'_, &str>) -> bool {
        let facts: Vec<&Fact> =
            self.records.iter().filter(|known| *known.tenant == *question.tenant).map(|known| &known.fact).collect();
        if facts.iter().any(|fact| matches!(fact, Fact::Deactivated { user } if **user == *question.user)) {
            return false;
        }
        // The user, and whatever group a subject in this list is a member of, until nothing is added.
        let mut subjects = vec![Subject::User(question.user.into())];
        loop {
            let more: Vec<Subject> = facts
                .iter()
                .filter_map(|fact| match fact {
                    Fact::Member { subject, group } if subjects.contains(subject) => {
                        Some(Subject::Group(group.clone()))
                    }
                    _ => None,
                })
                .filter(|group| !subjects.contains(group))
                .collect();
            if more.is_empty() {
                break;
            }
            subjects.extend(more);
        }
        let granted = facts.iter().filter_map(|fact| match fact {
            Fact::Grant { subject, role } if subjects.contains(subject) => Some(role.to_string()),
            _ => None,
        });
        let roles: Vec<String> = granted.chain(question.carried.iter().map(|role| (*role).to_owned())).collect();
        let has_role =
            question.roles.is_empty() || question.roles.iter().any(|asked| roles.iter().any(|role| **role == **asked));
        has_role
            && question.permissions.iter().all(|permission| {
                let effects: Vec<Effect> = facts
                    .iter()
                    .filter_map(|fact| match fact {
                        Fact::Entry { resource, subject, permission: said, effect }
                            if question.resource.is_some_and(|asked| stands_for(resource, asked))
                                && subjects.contains(subject)
                                && stands_for(said, permission) =>
                        {
                            Some(*effect)
                        }
                        _ => None,
                    })
                    .collect();
                let is_permitted = facts.iter().any(|fact| match fact {
                    Fact::Permission { role, permission: said } => {
                        roles.iter().any(|known| **known == **role) && stands_for(said, permission)
                    }
                    _ => false,
                });
                !effects.contains(&Effect::Deny) && (effects.contains(&Effect::Allow) || is_permitted)
            })
    }
}

/// Whether a pattern stands for a name.
fn stands_for(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}
