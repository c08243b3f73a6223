//! Permissions that are forgotten when the process ends.
//!
//! Invariant: changes that come together are seen together or not at all.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::permissions::{Change, Pending, Permissions, Record};

/// Remembers as long as the process lives. It is as large as what it is given; whoever changes permissions bounds them.
#[derive(Debug, Default)]
pub struct MemoryPermissions {
    records: Mutex<BTreeSet<Record>>,
}

impl MemoryPermissions {
    fn records(&self) -> MutexGuard<'_, BTreeSet<Record>> {
        // Nothing panics while it is held; were it so, the set is still whole.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permissions for MemoryPermissions {
    fn list(&self) -> Pending<'_, Vec<Record>> {
        Box::pin(async move { Ok(self.records().iter().cloned().collect()) })
    }

    fn update<'a>(&'a self, changes: &'a [Change]) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut known = self.records();
            for change in changes {
                let (Change::Add(record) | Change::Remove(record)) = change;
                for same in same(record) {
                    known.remove(&same);
                }
                if let Change::Add(record) = change {
                    known.insert(record.clone());
                }
            }
            Ok(())
        })
    }
}

/// The record, and the one that differs from it in its effect only.
fn same(record: &Record) -> Vec<Record> {
    use crate::permissions::{Effect, Fact};
    match &record.fact {
        Fact::Entry { resource, subject, permission, .. } => [Effect::Allow, Effect::Deny]
            .map(|effect| {
                let (resource, subject, permission) = (resource.clone(), subject.clone(), permission.clone());
                Record { tenant: record.tenant.clone(), fact: Fact::Entry { resource, subject, permission, effect } }
            })
            .into(),
        _ => vec![record.clone()],
    }
}
