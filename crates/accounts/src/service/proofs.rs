//! Proving who one is: logins, and what must be proved again before it is changed.
//!
//! Invariant: each proof costs one hash, right or wrong; a code is good once; a guess is counted before it is looked at.

use std::sync::Arc;

use portcullis_core::clock::{Clock, Now, nanos};
use portcullis_core::secret::Secret;
use portcullis_store::accounts::{Account, Device, Hash, MOST_DEVICES, MOST_RECOVERY_CODES, Totp};
use portcullis_store::sessions::Digest;

use super::{No, Service};
use crate::lockout::{Guess, Guesser};
use crate::password;
use crate::policy;
use crate::register::{Client, LiveSession};
use crate::token::{self, Kind};
use crate::{names, totp};

/// What somebody shows to log in.
pub struct Login<'a> {
    /// The account's name as it was written.
    pub name: &'a str,
    /// The password.
    pub password: &'a Secret,
    /// A code of the second factor, or a recovery code.
    pub code: Option<&'a Secret>,
    /// A new password, where the old one has expired.
    pub new_password: Option<&'a Secret>,
    /// The token of a device that has logged in before.
    pub device: Option<&'a str>,
    /// The token of a session that the client has; it ends.
    pub previous: Option<&'a str>,
}

/// Somebody is logged in.
pub struct LoggedIn {
    /// The session's token.
    pub token: Secret,
    /// The session.
    pub session: Arc<LiveSession>,
    /// A token for a device that was not known.
    pub device: Option<Secret>,
}

impl Service {
    /// Logs in.
    ///
    /// # Errors
    /// [`No`]; all that is wrong with name, password and account is [`No::Credentials`].
    pub async fn log_in(&self, login: &Login<'_>, client: &Client, clock: &dyn Clock) -> Result<LoggedIn, No> {
        let logged_in = self.try_log_in(login, client, clock).await;
        match &logged_in {
            Ok(_) => self.counts.did("login"),
            Err(No::Credentials) => {
                self.counts.failed_logins.inc();
            }
            Err(_) => {}
        }
        logged_in
    }

    async fn try_log_in(&self, login: &Login<'_>, client: &Client, clock: &dyn Clock) -> Result<LoggedIn, No> {
        if password::is_too_long(login.password) {
            // Told by its length alone, before any account is looked at.
            return Err(No::Password(policy::Refused::Long));
        }
        let now = clock.now();
        let owner = names::canonical(login.name).ok().and_then(|name| self.register.find(&name));
        let account = owner.map(|owner| owner.now());
        let device = login.device.filter(|device| Kind::Device.is_of(device)).map(token::hash);
        let device = device.filter(|device| account.as_ref().is_some_and(|account| knows(account, device)));
        let guesser = device.map_or(Guesser::Stranger(client.network), Guesser::Device);
        let (account, guess) = self.look(account.as_deref(), guesser, login.password, &now).await?;
        let now = clock.now();
        let has_second_factor = match self.second_factor(&account, login.code, guesser, &now) {
            Ok(shown) => shown,
            Err(No::SecondFactor) => {
                guess.nothing();
                return Err(No::SecondFactor);
            }
            // The password's guess says nothing: the code's own was counted.
            Err(why) => {
                guess.nothing();
                return Err(why);
            }
        };
        guess.right();
        let epoch = self.renew(&account, login, clock).await?;
        let now = clock.now();
        if let Some(previous) = login.previous.filter(|previous| Kind::Session.is_of(previous)) {
            let id = token::hash(previous);
            self.register.end_id(&id);
        }
        let (token, session) = self.begin(&account.name, epoch, client, has_second_factor, &now)?;
        let device = if device.is_some() { None } else { Some(self.remember_device(&account.name, &now)?) };
        Ok(LoggedIn { token, session, device })
    }

    /// Holds a password against an account's, or against nobody's where there is none or it must not be looked at.
    async fn look(
        &self,
        account: Option<&Account>,
        guesser: Guesser,
        password: &Secret,
        now: &Now,
    ) -> Result<(Account, Guess), No> {
        let guess = account.and_then(|account| self.lockout.password(&account.name, guesser, now));
        let hash = match (&guess, account) {
            (Some(_), Some(account)) => account.password.clone(),
            _ => self.nobody.clone(),
        };
        let is_right = self.hashers.is_password(password::normalised(password), hash).await;
        let is_right = match is_right {
            Ok(is_right) => is_right,
            Err(why) => {
                // Nothing was looked at.
                if let Some(guess) = guess {
                    guess.nothing();
                }
                return Err(why.into());
            }
        };
        match (guess, account) {
            (Some(guess), Some(account)) if is_right && !account.is_disabled => Ok((account.clone(), guess)),
            // Dropped, a guess was wrong.
            _ => Err(No::Credentials),
        }
    }

    /// Whether a second factor was shown; an error where one is needed and was not.
    fn second_factor(&self, account: &Account, code: Option<&Secret>, guesser: Guesser, now: &Now) -> Result<bool, No> {
        if !has_totp(account) {
            return Ok(false);
        }
        let Some(code) = code else { return Err(No::SecondFactor) };
        let guess = self.lockout.code(&account.name, guesser, now).ok_or(No::Credentials)?;
        // Under the register's lock, so of two that show the same code one is accepted.
        match self.register.update(&account.name, |account| accept(account, code, now)) {
            Some(()) => {
                guess.right();
                Ok(true)
            }
            None => Err(No::Credentials),
        }
    }

    /// Makes the hash again where it has become too cheap or the password too old. The epoch that then holds.
    async fn renew(&self, account: &Account, login: &Login<'_>, clock: &dyn Clock) -> Result<u64, No> {
        let age = clock.now().unix_millis.saturating_sub(account.password_since_unix_millis);
        let has_expired = self.rules.max_age.is_some_and(|most| age > nanos(most) / 1_000_000);
        if has_expired {
            let new = login.new_password.ok_or(No::Expired)?;
            let new = self.fit_new(account, login.password, new)?;
            let hash = self.hashers.hash(new).await?;
            return self.set_password(account, hash, &clock.now());
        }
        if password::is_weaker(&account.password, self.hashers.cost())
            && let Ok(stronger) = self.hashers.hash(password::normalised(login.password)).await
        {
            // Only while it is still the same password.
            self.register
                .update(&account.name, |now| (now.password == account.password).then(|| now.password = stronger));
        }
        Ok(account.epoch)
    }

    /// A token for a device that has just logged in.
    fn remember_device(&self, name: &str, now: &Now) -> Result<Secret, No> {
        let token = token::new(Kind::Device).map_err(|_| No::Failed)?;
        let device = Device { id: token::hash(token.expose()), since_unix_millis: now.unix_millis };
        self.register.update(name, |account| {
            if account.devices.len() >= MOST_DEVICES {
                account.devices.remove(0);
            }
            account.devices.push(device);
            Some(())
        });
        Ok(token)
    }

    /// Proves the password again, within a session.
    async fn prove(&self, session: &LiveSession, password: &Secret, now: &Now) -> Result<Account, No> {
        if password::is_too_long(password) {
            return Err(No::Credentials);
        }
        let account = session.owner.now();
        // Counted for this session alone: who has stolen one can guess a little, and locks nobody out.
        let guesser = Guesser::Device(session.record.id);
        let (account, guess) = self.look(Some(&account), guesser, password, now).await?;
        guess.right();
        Ok(account)
    }

    /// Changes the password. Every session ends, and this client gets a new one.
    ///
    /// # Errors
    /// [`No`]
    pub async fn change_password(
        &self,
        session: &LiveSession,
        current: &Secret,
        new: &Secret,
        client: &Client,
        clock: &dyn Clock,
    ) -> Result<LoggedIn, No> {
        let account = self.prove(session, current, &clock.now()).await?;
        let fit = self.fit_new(&account, current, new)?;
        let hash = self.hashers.hash(fit).await?;
        let now = clock.now();
        let epoch = self.set_password(&account, hash, &now)?;
        let (token, session) = self.begin(&account.name, epoch, client, session.record.has_second_factor, &now)?;
        self.counts.did("password");
        Ok(LoggedIn { token, session, device: None })
    }

    fn fit_new(&self, account: &Account, current: &Secret, new: &Secret) -> Result<Secret, No> {
        let fit = self.fit(new, &account.name, account.email.as_deref(), has_totp(account))?;
        if fit == password::normalised(current) {
            return Err(No::Password(policy::Refused::Same));
        }
        Ok(fit)
    }

    /// Sets the hash of a new password, if the account is still as it was proved; the new epoch.
    fn set_password(&self, proved: &Account, hash: Hash, now: &Now) -> Result<u64, No> {
        let set = self.register.update(&proved.name, |account| {
            if account.epoch != proved.epoch || account.is_disabled {
                return None;
            }
            account.password = hash;
            account.password_since_unix_millis = now.unix_millis;
            account.epoch += 1;
            Some(account.epoch)
        });
        set.ok_or(No::Credentials)
    }

    /// Begins to enrol a second factor; the secret and what an app reads of it. It is not asked for until it was shown once.
    ///
    /// # Errors
    /// [`No`]
    pub async fn begin_totp(
        &self,
        session: &LiveSession,
        password: &Secret,
        clock: &dyn Clock,
    ) -> Result<(Secret, Secret), No> {
        let account = self.prove(session, password, &clock.now()).await?;
        if has_totp(&account) {
            return Err(No::Wrong("there is a second factor already: remove it first"));
        }
        let secret = token::random::<{ totp::SECRET_BYTES }>().map_err(|_| No::Failed)?;
        let begun = self.register.update(&account.name, |account| {
            if has_totp(account) {
                return None;
            }
            account.totp = Some(Totp { secret: secret.to_vec(), last_step: 0, is_confirmed: false });
            Some(())
        });
        begun.ok_or(No::Wrong("there is a second factor already: remove it first"))?;
        self.counts.did("totp_begin");
        let uri = totp::uri(secret.as_slice(), &self.rules.service, &account.name);
        Ok((Secret::new(token::base32(secret.as_slice())), uri))
    }

    /// Confirms it with a code. Every session ends, this client gets a new one, and its owner gets recovery codes, this once.
    ///
    /// # Errors
    /// [`No`]
    pub fn confirm_totp(
        &self,
        session: &LiveSession,
        code: &Secret,
        client: &Client,
        now: &Now,
    ) -> Result<(LoggedIn, Vec<Secret>), No> {
        let name = &session.record.account;
        let guess = self.lockout.code(name, Guesser::Device(session.record.id), now).ok_or(No::Credentials)?;
        let codes = (0..MOST_RECOVERY_CODES).map(|_| token::new_recovery_code());
        let codes = codes.collect::<Result<Vec<Secret>, _>>().map_err(|_| No::Failed)?;
        let hashes: Vec<Digest> = codes.iter().map(|code| token::hash_of_recovery_code(code.expose())).collect();
        let confirmed = self.register.update(name, |account| {
            let begun = account.totp.as_mut().filter(|totp| !totp.is_confirmed)?;
            begun.last_step = totp::accepted_step(&begun.secret, code.expose(), now.unix_millis, begun.last_step)?;
            begun.is_confirmed = true;
            account.recovery = hashes;
            account.epoch += 1;
            Some(account.epoch)
        });
        let epoch = confirmed.ok_or(No::Credentials)?;
        guess.right();
        let (token, session) = self.begin(name, epoch, client, true, now)?;
        self.counts.did("totp_confirm");
        Ok((LoggedIn { token, session, device: None }, codes))
    }

    /// Removes the second factor, with the password and a code. Every session ends, and this client gets a new one.
    ///
    /// # Errors
    /// [`No`]; a password that is too short without a second factor must be changed first.
    pub async fn remove_totp(
        &self,
        session: &LiveSession,
        password: &Secret,
        code: &Secret,
        client: &Client,
        clock: &dyn Clock,
    ) -> Result<LoggedIn, No> {
        let account = self.prove(session, password, &clock.now()).await?;
        if !has_totp(&account) {
            return Err(No::Unknown);
        }
        let now = clock.now();
        self.second_factor(&account, Some(code), Guesser::Device(session.record.id), &now)?;
        self.fit(password, &account.name, account.email.as_deref(), false)?;
        let removed = self.register.update(&account.name, |account| {
            account.totp = None;
            account.recovery.clear();
            account.epoch += 1;
            Some(account.epoch)
        });
        let (token, session) = self.begin(&account.name, removed.ok_or(No::Unknown)?, client, false, &now)?;
        self.counts.did("totp_remove");
        Ok(LoggedIn { token, session, device: None })
    }
}

fn knows(account: &Account, device: &Digest) -> bool {
    account.devices.iter().any(|known| known.id == *device)
}

/// Whether a second factor is asked for.
#[must_use]
pub(super) fn has_totp(account: &Account) -> bool {
    account.totp.as_ref().is_some_and(|totp| totp.is_confirmed)
}

/// Uses up a code, if it is good.
fn accept(account: &mut Account, code: &Secret, now: &Now) -> Option<()> {
    let totp = account.totp.as_mut()?;
    if let Some(step) = totp::accepted_step(&totp.secret, code.expose(), now.unix_millis, totp.last_step) {
        totp.last_step = step;
        return Some(());
    }
    let hash = token::hash_of_recovery_code(code.expose());
    let place = account.recovery.iter().position(|known| *known == hash)?;
    account.recovery.remove(place);
    Some(())
}
