//! What must be written down: marked once however often it changes, so nothing grows while a store is down.
//!
//! Invariant: what is marked as changed is not marked as ended, and the other way round.

use std::collections::{BTreeMap, BTreeSet};

use portcullis_store::accounts::{Account, Changes};
use portcullis_store::api_keys::ApiKey;
use portcullis_store::sessions::{Digest, Session};

#[derive(Default)]
pub(super) struct Marks {
    /// Grows with each mark.
    pub(super) version: u64,
    accounts: BTreeSet<String>,
    sessions: BTreeSet<Digest>,
    ended: BTreeSet<Digest>,
    /// By hash, because that is how they are found; with the id, for when they are gone.
    keys: BTreeMap<Digest, String>,
    revoked: BTreeSet<String>,
}

impl Marks {
    pub(super) fn account(&mut self, name: &str) {
        self.version += 1;
        self.accounts.insert(name.to_owned());
    }

    pub(super) fn session(&mut self, id: Digest) {
        self.version += 1;
        if !self.ended.contains(&id) {
            self.sessions.insert(id);
        }
    }

    pub(super) fn session_ended(&mut self, id: Digest) {
        self.version += 1;
        self.sessions.remove(&id);
        self.ended.insert(id);
    }

    pub(super) fn key(&mut self, hash: Digest, id: &str) {
        self.version += 1;
        if !self.revoked.contains(id) {
            self.keys.insert(hash, id.to_owned());
        }
    }

    pub(super) fn key_revoked(&mut self, id: &str) {
        self.version += 1;
        self.keys.retain(|_, known| known != id);
        self.revoked.insert(id.to_owned());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
            && self.sessions.is_empty()
            && self.ended.is_empty()
            && self.keys.is_empty()
            && self.revoked.is_empty()
    }

    /// Takes up to `most` marks, with the records as they are now.
    pub(super) fn fetch(
        &mut self,
        most: usize,
        account: impl Fn(&str) -> Option<Account>,
        session: impl Fn(&Digest) -> Option<Session>,
        key: impl Fn(&Digest) -> Option<ApiKey>,
    ) -> Changes {
        let mut changes = Changes::default();
        // What ends comes first: an end that is written late is worse than a beginning that is.
        while changes.len() < most
            && let Some(id) = self.ended.pop_first()
        {
            changes.ended.push(id);
        }
        while changes.len() < most
            && let Some(id) = self.revoked.pop_first()
        {
            changes.revoked.push(id);
        }
        while changes.len() < most
            && let Some(name) = self.accounts.pop_first()
        {
            changes.accounts.extend(account(&name));
        }
        while changes.len() < most
            && let Some(id) = self.sessions.pop_first()
        {
            changes.sessions.extend(session(&id));
        }
        while changes.len() < most
            && let Some((hash, _)) = self.keys.pop_first()
        {
            changes.keys.extend(key(&hash));
        }
        changes
    }

    /// Marks again what was fetched and not written. Its version is the same: who waits for it goes on waiting.
    pub(super) fn put_back(&mut self, changes: &Changes) {
        let version = self.version;
        changes.ended.iter().for_each(|id| self.session_ended(*id));
        changes.revoked.iter().for_each(|id| self.key_revoked(id));
        changes.accounts.iter().for_each(|account| self.account(&account.name));
        changes.sessions.iter().for_each(|session| self.session(session.id));
        changes.keys.iter().for_each(|key| self.key(key.hash, &key.id));
        self.version = version;
    }
}
