//! Bans that are forgotten when the process ends.
//!
//! Invariant: a change is seen whole or not at all.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use portcullis_core::units::Cidr;

use crate::bans::{Bans, Pending, Record};

/// Remembers as long as the process lives. It is as large as what it is given; whoever places bans bounds them.
#[derive(Debug, Default)]
pub struct MemoryBans {
    records: Mutex<BTreeMap<String, Record>>,
}

impl MemoryBans {
    fn records(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        // Nothing panics while it is held; were it so, the map is still whole.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bans for MemoryBans {
    fn list(&self) -> Pending<'_, Vec<Record>> {
        Box::pin(async move { Ok(self.records().values().cloned().collect()) })
    }

    fn update<'a>(&'a self, records: &'a [Record]) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut known = self.records();
            for record in records {
                known.insert(record.network.to_string(), record.clone());
            }
            Ok(())
        })
    }

    fn remove<'a>(&'a self, networks: &'a [Cidr]) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut known = self.records();
            for network in networks {
                known.remove(&network.to_string());
            }
            Ok(())
        })
    }
}
