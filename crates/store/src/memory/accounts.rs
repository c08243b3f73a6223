//! Accounts, sessions and API keys that are forgotten when the process ends.
//!
//! Invariant: a change is seen whole or not at all.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::accounts::{Account, Accounts, Changes, Records};
use crate::api_keys::ApiKey;
use crate::bans::Pending;
use crate::sessions::{Digest, Session};

/// Remembers as long as the process lives. It is as large as what it is given; whoever hands on changes bounds them.
#[derive(Debug, Default)]
pub struct MemoryAccounts {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    accounts: BTreeMap<String, Account>,
    sessions: BTreeMap<Digest, Session>,
    keys: BTreeMap<String, ApiKey>,
}

impl MemoryAccounts {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held; were it so, the maps are still whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts for MemoryAccounts {
    fn list(&self) -> Pending<'_, Records> {
        Box::pin(async move {
            let known = self.known();
            Ok(Records {
                accounts: known.accounts.values().cloned().collect(),
                sessions: known.sessions.values().cloned().collect(),
                keys: known.keys.values().cloned().collect(),
            })
        })
    }

    fn update<'a>(&'a self, changes: &'a Changes) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut known = self.known();
            for account in &changes.accounts {
                known.accounts.insert(account.name.clone(), account.clone());
            }
            for session in &changes.sessions {
                known.sessions.insert(session.id, session.clone());
            }
            for id in &changes.ended {
                known.sessions.remove(id);
            }
            for key in &changes.keys {
                known.keys.insert(key.id.clone(), key.clone());
            }
            for id in &changes.revoked {
                known.keys.remove(id);
            }
            Ok(())
        })
    }
}
