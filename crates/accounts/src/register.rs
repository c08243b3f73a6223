//! The register: every account, session and API key of the process, kept in memory, asked on the way of requests, and written
//! down by others.
//!
//! A request hashes what it carries and finds the session or key in a sharded map; whether it holds is told by the record and
//! its owner, without a further look-up: an account that ends all its sessions only moves its epoch on. Changes happen under one
//! lock, which a request takes at most once a minute for each session, to mark that it was used. Whoever keeps the store
//! fetches what is marked with [`Register::changes`], writes it in one transaction, and puts back what it could not write.
//!
//! In the process sessions end by the monotonic clock, so a step of the wall clock neither ends nor lengthens any. Across
//! processes there is only the wall clock; what is read back lasts at most as long as it was meant to last.
//!
//! Invariant: accounts, sessions and keys are bounded in number; a session or key that has ended is never found again.

mod live;
mod marks;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use portcullis_core::clock::{Now, nanos};
use portcullis_core::secret::Secret;
use portcullis_store::accounts::{Account, Changes, Records};
use portcullis_store::api_keys::ApiKey;
use portcullis_store::sessions::{Digest, Session};

pub use live::{LiveKey, LiveSession, Owner, Refused};
use live::{Shards, left};
use marks::Marks;

use crate::config::SessionRules;
use crate::token::{self, Kind};

/// Most API keys of one account.
pub const MOST_KEYS_OF_ACCOUNT: usize = 50;

/// Where a request comes from, as far as sessions are bound to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's network: its address, or for IPv6 its group.
    pub network: IpAddr,
    /// A hash over some of its header fields.
    pub fingerprint: Digest,
    /// What it calls itself, for people.
    pub agent: String,
}

/// Why something was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// As many as may be.
    #[error("there are as many as there may be")]
    Full,
    /// The name belongs to somebody.
    #[error("the name is taken")]
    Taken,
    /// There is no such account, or it changed meanwhile.
    #[error("there is no such account")]
    Gone,
    /// The operating system gave no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] token::NoRandomness),
}

/// Everything, for the whole process.
pub struct Register {
    sessions: Shards<Digest, LiveSession>,
    keys: Shards<Digest, LiveKey>,
    book: Mutex<Book>,
    rules: SessionRules,
    most_accounts: usize,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Book {
    accounts: BTreeMap<String, Arc<Owner>>,
    /// Sessions by account, in the order in which they began.
    sessions: HashMap<String, Vec<Arc<LiveSession>>>,
    keys: HashMap<String, Vec<Arc<LiveKey>>>,
    session_count: usize,
    marks: Marks,
}

/// What a moment of the register looks like in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Accounts.
    pub accounts: usize,
    /// Those that are disabled.
    pub disabled: usize,
    /// Sessions that have not ended.
    pub sessions: usize,
    /// API keys.
    pub keys: usize,
}

impl Register {
    /// An empty register.
    #[must_use]
    pub fn new(rules: SessionRules, most_accounts: usize) -> Register {
        Register {
            sessions: Shards::default(),
            keys: Shards::default(),
            book: Mutex::default(),
            rules,
            most_accounts,
            wake: OnceLock::new(),
        }
    }

    /// Whom to wake when something changed. Only the first one is kept.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        // A second one would be a second keeper of the same store.
        let _ = self.wake.set(Box::new(wake));
    }

    /// Takes in what a store remembers. Called once, before anything is served. What is over is marked as ended.
    pub fn load(&self, records: Records, now: &Now) {
        let mut book = self.lock();
        for account in records.accounts {
            book.accounts.insert(account.name.clone(), Arc::new(Owner::new(account)));
        }
        for session in records.sessions {
            let owner = book.accounts.get(&session.account).cloned();
            let owner = owner.filter(|owner| owner.now().epoch == session.epoch);
            let live = owner.and_then(|owner| LiveSession::read(session.clone(), owner, &self.rules, now));
            match live {
                Some(live) => self.insert_session(&mut book, Arc::new(live)),
                None => book.marks.session_ended(session.id),
            }
        }
        for key in records.keys {
            let until = key.until_unix_millis.map(|until| left(until, now.unix_millis));
            let owner = book.accounts.get(&key.account).cloned();
            match owner.filter(|_| until != Some(0)) {
                Some(owner) => self.insert_key(&mut book, Arc::new(LiveKey::new(key, owner, now))),
                None => book.marks.key_revoked(&key.id),
            }
        }
    }

    /// The account of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Owner>> {
        self.lock().accounts.get(name).cloned()
    }

    /// Up to `most` accounts behind `after`, in the order of their names.
    #[must_use]
    pub fn list(&self, after: &str, most: usize) -> Vec<Arc<Account>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let book = self.lock();
        let behind = book.accounts.range::<str, _>((Excluded(after), Unbounded));
        behind.take(most).map(|(_, owner)| owner.now()).collect()
    }

    /// Adds an account.
    ///
    /// # Errors
    /// [`NotKept::Taken`], [`NotKept::Full`]
    pub fn add(&self, account: Account) -> Result<Arc<Owner>, NotKept> {
        let mut book = self.lock();
        if book.accounts.contains_key(&account.name) {
            return Err(NotKept::Taken);
        }
        if book.accounts.len() >= self.most_accounts {
            return Err(NotKept::Full);
        }
        let owner = Arc::new(Owner::new(account));
        let name = owner.now().name.clone();
        book.accounts.insert(name.clone(), Arc::clone(&owner));
        book.marks.account(&name);
        drop(book);
        self.wake();
        Ok(owner)
    }

    /// Changes an account, if `change` says that it may: `None` leaves it as it is. One change at a time, so what `change`
    /// sees is what it changes. Where the epoch grows, all sessions end.
    pub fn update<T>(&self, name: &str, change: impl FnOnce(&mut Account) -> Option<T>) -> Option<T> {
        let mut book = self.lock();
        let owner = Arc::clone(book.accounts.get(name)?);
        let before = owner.now();
        let mut account = Account::clone(&before);
        let result = change(&mut account)?;
        if account == *before {
            return Some(result);
        }
        let has_ended_all = account.epoch != before.epoch || account.is_disabled;
        owner.becomes(account);
        book.marks.account(name);
        if has_ended_all {
            self.end_sessions(&mut book, name, |_| true);
        }
        drop(book);
        self.wake();
        Some(result)
    }

    /// Begins a session; its token is in no other place.
    ///
    /// # Errors
    /// [`NotKept::Full`], [`NotKept::Gone`] when the account has changed to another epoch or was disabled, [`NotKept::NoRandomness`]
    pub fn begin_session(
        &self,
        owner: &Arc<Owner>,
        epoch: u64,
        client: &Client,
        has_second_factor: bool,
        now: &Now,
    ) -> Result<(Secret, Arc<LiveSession>), NotKept> {
        let token = token::new(Kind::Session)?;
        let mut book = self.lock();
        let account = owner.now();
        if account.is_disabled || account.epoch != epoch {
            return Err(NotKept::Gone);
        }
        self.end_sessions(&mut book, &account.name, |session| session.is_over(now));
        let own = book.sessions.get(&account.name).map_or(0, Vec::len);
        if own >= self.rules.most_of_account {
            let rested = book.sessions.get(&account.name).and_then(|own| own.iter().min_by_key(|one| one.seen_nanos()));
            let rested = rested.map(|session| session.record.id);
            self.end_sessions(&mut book, &account.name, |session| Some(session.record.id) == rested);
        }
        if book.session_count >= self.rules.most {
            return Err(NotKept::Full);
        }
        let record = Session {
            id: token::hash(token.expose()),
            account: account.name.clone(),
            epoch,
            since_unix_millis: now.unix_millis,
            seen_unix_millis: now.unix_millis,
            until_unix_millis: now.unix_millis.saturating_add(nanos(self.rules.absolute) / 1_000_000),
            network: client.network.to_string(),
            fingerprint: client.fingerprint,
            agent: client.agent.clone(),
            has_second_factor,
        };
        let live = LiveSession::new(record, Arc::clone(owner), &self.rules, now);
        let live = Arc::new(live);
        self.insert_session(&mut book, Arc::clone(&live));
        book.marks.session(live.record.id);
        drop(book);
        self.wake();
        Ok((token, live))
    }

    /// The session of this token, if it holds for this client; it has been used then.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn session(&self, token: &str, client: &Client, now: &Now) -> Result<Arc<LiveSession>, Refused> {
        if !Kind::Session.is_of(token) {
            return Err(Refused::Unknown);
        }
        let session = self.sessions.find(&token::hash(token)).ok_or(Refused::Unknown)?;
        if session.check(client, &self.rules, now)? {
            self.lock().marks.session(session.record.id);
            self.wake();
        }
        Ok(session)
    }

    /// The API key of this text, if it holds; it has been used then.
    ///
    /// # Errors
    /// [`Refused::Unknown`] or [`Refused::Over`]
    pub fn key(&self, text: &str, now: &Now) -> Result<Arc<LiveKey>, Refused> {
        if !Kind::ApiKey.is_of(text) {
            return Err(Refused::Unknown);
        }
        let key = self.keys.find(&token::hash(text)).ok_or(Refused::Unknown)?;
        if key.check(now)? {
            self.lock().marks.key(key.record.hash, &key.record.id);
            self.wake();
        }
        Ok(key)
    }

    /// The session of this token, if it holds, without using it.
    ///
    /// # Errors
    /// [`Refused::Unknown`] or [`Refused::Over`]
    pub fn peek_session(&self, token: &str, now: &Now) -> Result<Arc<LiveSession>, Refused> {
        let session = self.sessions.find(&token::hash(token)).ok_or(Refused::Unknown)?;
        if session.is_over(now) { Err(Refused::Over) } else { Ok(session) }
    }

    /// The API key of this text, if it holds, without using it.
    ///
    /// # Errors
    /// [`Refused::Unknown`] or [`Refused::Over`]
    pub fn peek_key(&self, text: &str, now: &Now) -> Result<Arc<LiveKey>, Refused> {
        let key = self.keys.find(&token::hash(text)).ok_or(Refused::Unknown)?;
        if key.is_over(now) { Err(Refused::Over) } else { Ok(key) }
    }

    /// The sessions of an account that have not ended, oldest first.
    #[must_use]
    pub fn sessions_of(&self, account: &str, now: &Now) -> Vec<Arc<LiveSession>> {
        let book = self.lock();
        let own = book.sessions.get(account).into_iter().flatten();
        own.filter(|session| !session.is_over(now)).cloned().collect()
    }

    /// Ends one session; whether there was one.
    pub fn end(&self, account: &str, id: &Digest) -> bool {
        self.end_where(account, |session| session.record.id == *id) > 0
    }

    /// Ends the session with this id, whosever it is.
    pub fn end_id(&self, id: &Digest) -> bool {
        self.sessions.find(id).is_some_and(|session| self.end(&session.record.account, id))
    }

    /// Ends those of an account that `is_meant`; how many.
    pub fn end_where(&self, account: &str, is_meant: impl Fn(&LiveSession) -> bool) -> usize {
        let mut book = self.lock();
        let ended = self.end_sessions(&mut book, account, is_meant);
        drop(book);
        if ended > 0 {
            self.wake();
        }
        ended
    }

    /// Makes an API key; its text is in no other place.
    ///
    /// # Errors
    /// [`NotKept`]
    pub fn add_key(
        &self,
        account: &str,
        name: &str,
        scopes: Vec<String>,
        until_unix_millis: Option<u64>,
        now: &Now,
    ) -> Result<(Secret, Arc<LiveKey>), NotKept> {
        let (id, text) = token::new_api_key()?;
        let mut book = self.lock();
        let owner =
            book.accounts.get(account).filter(|owner| !owner.now().is_disabled).cloned().ok_or(NotKept::Gone)?;
        if book.keys.get(account).map_or(0, Vec::len) >= MOST_KEYS_OF_ACCOUNT {
            return Err(NotKept::Full);
        }
        let record = ApiKey {
            id,
            hash: token::hash(text.expose()),
            account: account.to_owned(),
            name: name.to_owned(),
            scopes,
            since_unix_millis: now.unix_millis,
            until_unix_millis,
            used_unix_millis: None,
        };
        let live = Arc::new(LiveKey::new(record, owner, now));
        self.insert_key(&mut book, Arc::clone(&live));
        book.marks.key(live.record.hash, &live.record.id);
        drop(book);
        self.wake();
        Ok((text, live))
    }

    /// The API keys of an account, oldest first.
    #[must_use]
    pub fn keys_of(&self, account: &str) -> Vec<Arc<LiveKey>> {
        self.lock().keys.get(account).cloned().unwrap_or_default()
    }

    /// Revokes a key of an account; whether there was one.
    pub fn revoke(&self, account: &str, id: &str) -> bool {
        let mut book = self.lock();
        let Some(own) = book.keys.get_mut(account) else { return false };
        let Some(place) = own.iter().position(|key| key.record.id == id) else { return false };
        let key = own.remove(place);
        key.end();
        self.keys.remove(&key.record.hash);
        book.marks.key_revoked(&key.record.id);
        drop(book);
        self.wake();
        true
    }

    /// Housekeeping: forgets sessions and keys that are over.
    pub fn tick(&self, now: &Now) {
        let mut book = self.lock();
        let with_some_over: Vec<String> = book
            .sessions
            .iter()
            .filter(|(_, own)| own.iter().any(|session| session.is_over(now)))
            .map(|(name, _)| name.clone())
            .collect();
        for account in &with_some_over {
            self.end_sessions(&mut book, account, |session| session.is_over(now));
        }
        drop(book);
        if !with_some_over.is_empty() {
            self.wake();
        }
    }

    /// Numbers.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let book = self.lock();
        Statistics {
            accounts: book.accounts.len(),
            disabled: book.accounts.values().filter(|owner| owner.now().is_disabled).count(),
            sessions: book.session_count,
            keys: book.keys.values().map(Vec::len).sum(),
        }
    }

    /// Grows with each change. When everything up to this is written, so is what the caller has just done.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().marks.version
    }

    /// Up to `most` records that changed since they were last fetched, and the version that is written with them if they are
    /// all there are.
    #[must_use]
    pub fn changes(&self, most: usize) -> (Changes, Option<u64>) {
        let mut book = self.lock();
        let Book { accounts, marks, .. } = &mut *book;
        let changes = marks.fetch(
            most,
            |name| accounts.get(name).map(|owner| Account::clone(&owner.now())),
            |id| self.sessions.find(id).map(|session| session.written()),
            |hash| self.keys.find(hash).map(|key| key.written()),
        );
        let version = marks.is_empty().then_some(marks.version);
        (changes, version)
    }

    /// Marks as changed what could not be written.
    pub fn put_back(&self, changes: &Changes) {
        self.lock().marks.put_back(changes);
    }

    fn insert_session(&self, book: &mut Book, session: Arc<LiveSession>) {
        self.sessions.insert(session.record.id, Arc::clone(&session));
        book.sessions.entry(session.record.account.clone()).or_default().push(session);
        book.session_count += 1;
    }

    fn insert_key(&self, book: &mut Book, key: Arc<LiveKey>) {
        self.keys.insert(key.record.hash, Arc::clone(&key));
        book.keys.entry(key.record.account.clone()).or_default().push(key);
    }

    fn end_sessions(&self, book: &mut Book, account: &str, is_meant: impl Fn(&LiveSession) -> bool) -> usize {
        let Some(own) = book.sessions.get_mut(account) else { return 0 };
        let (ended, left): (Vec<_>, Vec<_>) = std::mem::take(own).into_iter().partition(|session| is_meant(session));
        if left.is_empty() {
            book.sessions.remove(account);
        } else {
            *own = left;
        }
        for session in &ended {
            session.end();
            self.sessions.remove(&session.record.id);
            book.marks.session_ended(session.record.id);
        }
        book.session_count -= ended.len();
        ended.len()
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        // A panic inside leaves at worst a session that is ended and still listed; better than to stop logging in.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
