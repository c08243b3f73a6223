//! What people do with accounts: register, log in and out, change the password, enrol a second factor, make keys, end sessions.
//!
//! A login that fails costs one hash whatever the reason and says one thing: an unknown name, a wrong password, a locked and a
//! disabled account cannot be told apart. What changes who may do something (a password, a second factor) moves the account's
//! epoch on, which ends every session, and begins a new one for who did it.
//!
//! Nothing here waits for the disk. The caller lets the answer wait until [`Register::version`] is written.
//!
//! Invariant: no password, code or token leaves this file but in the [`Secret`] that its owner is shown once.

mod proofs;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use portcullis_core::clock::{Clock, Now, nanos};
use portcullis_core::metric::Registry;
use portcullis_core::secret::Secret;
use portcullis_store::accounts::{Account, Hash};
use portcullis_store::api_keys::{LONGEST_NAME_BYTES, LONGEST_SCOPE_BYTES, MOST_SCOPES};

use crate::config::{Registration, Rules};
use crate::hashers::{Hashers, NoAnswer};
use crate::lockout::Lockout;
use crate::metrics::Counts;
use crate::names;
use crate::password::{self, Memory};
use crate::policy;
use crate::register::{Client, LiveKey, LiveSession, NotKept, Register};

pub use proofs::{LoggedIn, Login};

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum No {
    /// Name, password or code: nobody is told which.
    #[error("the credentials are not valid")]
    Credentials,
    /// The password was right, and a code is missing.
    #[error("a second factor is required")]
    SecondFactor,
    /// The new password is not taken.
    #[error(transparent)]
    Password(#[from] policy::Refused),
    /// The password has grown too old; the login must bring another.
    #[error("the password has expired: send a new one with the login")]
    Expired,
    /// What was sent makes no sense; the text says what would.
    #[error("{0}")]
    Wrong(&'static str),
    /// The name is taken.
    #[error("the name is taken")]
    Taken,
    /// There is no such thing.
    #[error("there is no such thing")]
    Unknown,
    /// Too much of it, or too much to do.
    #[error("there is too much to do, or too much already")]
    Busy,
    /// Only the operator makes accounts.
    #[error("only the operator makes accounts")]
    Closed,
    /// Our own trouble.
    #[error("passwords cannot be handled")]
    Failed,
}

impl From<NoAnswer> for No {
    fn from(why: NoAnswer) -> No {
        match why {
            NoAnswer::Busy => No::Busy,
            NoAnswer::Failed => No::Failed,
        }
    }
}

impl From<NotKept> for No {
    fn from(why: NotKept) -> No {
        match why {
            NotKept::Full => No::Busy,
            NotKept::Taken => No::Taken,
            // Between the proof and this the account was disabled or its password changed.
            NotKept::Gone => No::Credentials,
            NotKept::NoRandomness(_) => No::Failed,
        }
    }
}

/// Accounts of one process.
pub struct Service {
    /// Everything that is known.
    pub register: Arc<Register>,
    /// What is counted.
    pub counts: Counts,
    rules: Rules,
    hashers: Hashers,
    lockout: Lockout,
    /// A hash of nobody's password, held against guesses at accounts that do not exist.
    nobody: Hash,
}

/// An account that the operator makes.
pub struct Order<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its tenant; empty without.
    pub tenant: &'a str,
    /// Its address for mail.
    pub email: Option<&'a str>,
    /// Its roles.
    pub roles: Vec<String>,
    /// Its first password.
    pub password: &'a Secret,
}

impl Service {
    /// Starts the threads that hash.
    ///
    /// # Errors
    /// When the operating system refuses a thread, or has no randomness.
    pub fn start(rules: Rules, metrics: &Registry) -> io::Result<Service> {
        let threads = rules.threads.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            (cores / 2).clamp(1, 64)
        });
        let nobody = crate::token::new(crate::token::Kind::Session).map_err(io::Error::other)?;
        let nobody = password::hash(&nobody, rules.cost, &mut Memory::default()).map_err(io::Error::other)?;
        Ok(Service {
            register: Arc::new(Register::new(rules.sessions.clone(), rules.most_accounts)),
            counts: Counts::new(metrics),
            hashers: Hashers::start(threads, rules.queue, rules.cost)?,
            lockout: Lockout::new(rules.lockout),
            rules,
            nobody,
        })
    }

    /// The rules that hold.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Makes an account for anybody who asks.
    ///
    /// # Errors
    /// [`No`]
    pub async fn register(
        &self,
        name: &str,
        email: Option<&str>,
        password: &Secret,
        clock: &dyn Clock,
    ) -> Result<String, No> {
        if self.rules.registration == Registration::Closed {
            return Err(No::Closed);
        }
        let canonical = names::canonical(name).map_err(No::Wrong)?;
        if names::is_reserved(&canonical) {
            return Err(No::Taken);
        }
        let order = Order { name: &canonical, tenant: "", email, roles: Vec::new(), password };
        self.make(&order, clock).await?;
        self.counts.did("register");
        Ok(canonical)
    }

    /// Makes an account at the operator's word.
    ///
    /// # Errors
    /// [`No`]
    pub async fn create(&self, order: &Order<'_>, clock: &dyn Clock) -> Result<String, No> {
        let name = self.make(order, clock).await?;
        self.counts.did("create");
        Ok(name)
    }

    async fn make(&self, order: &Order<'_>, clock: &dyn Clock) -> Result<String, No> {
        let name = names::canonical(order.name).map_err(No::Wrong)?;
        let email = order.email.filter(|email| !email.is_empty());
        if email.is_some_and(|email| !names::is_email(email)) {
            return Err(No::Wrong("this is no address for mail"));
        }
        let tenant =
            if order.tenant.is_empty() { String::new() } else { names::canonical(order.tenant).map_err(No::Wrong)? };
        check_words(&order.roles, portcullis_store::accounts::MOST_ROLES)?;
        let password = self.fit(order.password, &name, email, false)?;
        if self.register.find(&name).is_some() {
            return Err(No::Taken);
        }
        let password = self.hashers.hash(password).await?;
        let now = clock.now();
        self.register.add(Account {
            name: name.clone(),
            tenant,
            email: email.map(str::to_owned),
            roles: order.roles.clone(),
            password,
            password_since_unix_millis: now.unix_millis,
            is_disabled: false,
            epoch: 0,
            since_unix_millis: now.unix_millis,
            totp: None,
            recovery: Vec::new(),
            devices: Vec::new(),
        })?;
        Ok(name)
    }

    /// A password that may become one's own, normalised.
    fn fit(&self, password: &Secret, name: &str, email: Option<&str>, has_totp: bool) -> Result<Secret, No> {
        if password::is_too_long(password) {
            return Err(No::Password(policy::Refused::Long));
        }
        let password = password::normalised(password);
        self.rules.policy.check(&password, name, email, has_totp)?;
        Ok(password)
    }

    /// Disables an account, which ends its sessions and stops its keys, or enables it again.
    ///
    /// # Errors
    /// [`No::Unknown`]
    pub fn disable(&self, name: &str, is_disabled: bool) -> Result<(), No> {
        let done = self.register.update(name, |account| {
            account.is_disabled = is_disabled;
            account.epoch += 1;
            Some(())
        });
        done.ok_or(No::Unknown)?;
        self.counts.did(if is_disabled { "disable" } else { "enable" });
        Ok(())
    }

    /// Forgets wrong guesses at an account.
    ///
    /// # Errors
    /// [`No::Unknown`]
    pub fn unlock(&self, name: &str) -> Result<(), No> {
        self.register.find(name).ok_or(No::Unknown)?;
        self.lockout.forgive(name);
        self.counts.did("unlock");
        Ok(())
    }

    /// Whether strangers are refused at an account now.
    #[must_use]
    pub fn is_locked(&self, name: &str, now: &Now) -> bool {
        self.lockout.is_locked(name, now)
    }

    /// Ends the session.
    pub fn log_out(&self, session: &LiveSession) {
        self.register.end(&session.record.account, &session.record.id);
        self.counts.did("logout");
    }

    /// Ends one session of an account by its short name, or all of them but `kept`; how many.
    pub fn end_sessions(&self, account: &str, short_id: Option<&str>, kept: Option<&LiveSession>) -> usize {
        let kept = kept.map(|session| session.record.id);
        let ended = self.register.end_where(account, |session| match short_id {
            Some(short_id) => session.short_id() == short_id,
            None => Some(session.record.id) != kept,
        });
        if ended > 0 {
            self.counts.did("session_end");
        }
        ended
    }

    /// Makes an API key; its text is shown this once.
    ///
    /// # Errors
    /// [`No`]
    pub fn add_key(
        &self,
        account: &str,
        name: &str,
        scopes: Vec<String>,
        time: Option<Duration>,
        now: &Now,
    ) -> Result<(Secret, Arc<LiveKey>), No> {
        if name.is_empty() || name.len() > LONGEST_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(No::Wrong("a key has a name of 1 to 100 bytes without control characters"));
        }
        check_words(&scopes, MOST_SCOPES)?;
        let until = time.map(|time| now.unix_millis.saturating_add(nanos(time) / 1_000_000));
        let made = self.register.add_key(account, name, scopes, until, now).map_err(|why| match why {
            NotKept::Full => No::Wrong("this account has as many keys as it may: revoke one"),
            NotKept::Gone => No::Unknown,
            why => No::from(why),
        })?;
        self.counts.did("key_add");
        Ok(made)
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// [`No::Unknown`]
    pub fn revoke_key(&self, account: &str, id: &str) -> Result<(), No> {
        if !self.register.revoke(account, id) {
            return Err(No::Unknown);
        }
        self.counts.did("key_revoke");
        Ok(())
    }

    /// Housekeeping, once a second.
    pub fn tick(&self, now: &Now) {
        self.register.tick(now);
        self.counts.show(self.register.statistics(), self.lockout.locked());
    }

    /// Begins a session for somebody who has proved who it is, in place of any that the client had.
    fn begin(
        &self,
        name: &str,
        epoch: u64,
        client: &Client,
        has_second_factor: bool,
        now: &Now,
    ) -> Result<(Secret, Arc<LiveSession>), No> {
        let owner = self.register.find(name).ok_or(No::Credentials)?;
        Ok(self.register.begin_session(&owner, epoch, client, has_second_factor, now)?)
    }
}

/// Roles and scopes: visible ASCII without space, each once.
fn check_words(words: &[String], most: usize) -> Result<(), No> {
    let is_word = |word: &String| {
        (1..=LONGEST_SCOPE_BYTES).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let is_once = words.iter().enumerate().all(|(place, word)| !words[..place].contains(word));
    if words.len() > most || !is_once || !words.iter().all(is_word) {
        return Err(No::Wrong("roles and scopes are at most 32 different words of 1 to 64 visible ASCII characters"));
    }
    Ok(())
}
