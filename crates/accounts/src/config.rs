//! What the operator writes about accounts and sessions, and the checked form.
//!
//! Invariant: compiled [`Rules`] are within bounds; nothing weaker than the standards allow can be written by accident.

use std::time::Duration as StdDuration;

use portcullis_core::units::{ByteSize, Duration, Rate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lockout;
use crate::password::{Cost, MOST_LANES, MOST_MEMORY_KIB, MOST_PASSES};
use crate::policy::Policy;

/// Accounts of the gateway's own. Written, even as `accounts: {}`, it turns them on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccountsConfig {
    /// Below which path the gateway answers itself. Default: `/auth`.
    pub path: String,
    /// Who makes accounts: `closed` the operator alone (`portcullis accounts create`), `open` anybody. Default: closed.
    pub registration: Registration,
    /// The service's name: in authenticator apps, and a word that no password may hold. Default: portcullis.
    /// Bounds: 1 to 64 characters without `:`.
    pub service: String,
    /// What a password must be.
    pub password: PasswordConfig,
    /// What a password's hash costs.
    pub hashing: HashingConfig,
    /// When guesses are refused.
    pub lockout: LockoutConfig,
    /// Logins of one address, right or wrong. Default: 5/1m.
    pub login_limit: Rate,
    /// Registrations of one address. Default: 3/1h.
    pub registration_limit: Rate,
    /// Most accounts. Default: 100000. Bounds: 1 to 1000000. One takes about 1 KB.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub most: usize,
}

/// Who makes accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// The operator alone.
    #[default]
    Closed,
    /// Anybody.
    Open,
}

/// What a password must be. There are no rules about kinds of characters, on purpose (NIST SP 800-63B-4).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordConfig {
    /// Fewest characters (Unicode code points). Default: 15. Bounds: 8 to 64.
    #[schemars(range(min = 8, max = 64))]
    pub length: usize,
    /// Fewest where the account has a second factor. Default: 12. Bounds: 8 to `length`.
    #[schemars(range(min = 8, max = 64))]
    pub length_with_totp: usize,
    /// How old a password may grow until a login asks for another. Default: any age, because the standards advise against it.
    /// Bounds: at least 1d.
    pub max_age: Option<Duration>,
}

/// What a password's hash (Argon2id, RFC 9106) costs. Hashes that cost less are made again at the next login.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HashingConfig {
    /// Memory of one hash. Default: 19MiB. Bounds: 19MiB to 256MiB.
    pub memory: ByteSize,
    /// Passes over it. Default: 2. Bounds: 2 to 64.
    #[schemars(range(min = 2, max = 64))]
    pub passes: u32,
    /// Lanes. Default: 1. Bounds: 1 to 16.
    #[schemars(range(min = 1, max = 16))]
    pub lanes: u32,
    /// Hashes that run at once, each with its memory. Default: half of the cores, at least 1. Bounds: 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub at_once: Option<usize>,
    /// Hashes that wait; more get 503. Default: 32. Bounds: 1 to 10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub queue: usize,
}

/// When guesses at a password or second factor are refused. A device that has logged in before is never locked by others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LockoutConfig {
    /// Wrong guesses on an account from one address (for IPv6 its network), or from one known device. Default: 10.
    /// Bounds: 3 to 100.
    #[schemars(range(min = 3, max = 100))]
    pub failures: u32,
    /// Wrong guesses on an account from all unknown devices together. Default: 100. Bounds: `failures` to 100, the most that
    /// NIST SP 800-63B allows.
    #[schemars(range(min = 3, max = 100))]
    pub strangers: u32,
    /// How long failures count and how long guesses are then refused. Default: 15m. Bounds: 1m to 24h.
    #[serde(rename = "for")]
    pub time: Duration,
}

/// Sessions of people who have logged in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsConfig {
    /// How long one lasts without being used. Default: 15m. Bounds: 1m to 24h.
    pub idle: Duration,
    /// How long one lasts however much it is used. Default: 12h. Bounds: `idle` to 30d.
    pub absolute: Duration,
    /// What a session is bound to.
    pub bind: BindConfig,
    /// Most sessions of one account; the one that rested longest gives way. Default: 50. Bounds: 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub most_of_account: usize,
    /// Most sessions in all; more logins get 503. Default: 100000. Bounds: 1 to 10000000. One takes about 1 KB.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub most: usize,
}

/// What a session is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BindConfig {
    /// The client's address, for IPv6 its network. Default: alert.
    pub address: Binding,
    /// The client's fingerprint, a hash over some of its header fields. Default: alert.
    pub fingerprint: Binding,
    /// Which fields the fingerprint is made of: `browser` the kind of browser (of `User-Agent`) and `Accept-Language`, which
    /// survives updates; `exact` the whole `User-Agent`, `Accept-Language` and `Accept-Encoding`. Default: browser.
    pub headers: FingerprintOf,
}

/// What happens when a session comes from elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Binding {
    /// Nothing.
    Off,
    /// It is counted and told. After ten in 15 minutes an account's sessions are `strict` for 15 minutes.
    #[default]
    Alert,
    /// The request is refused.
    Strict,
}

/// What a fingerprint is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FingerprintOf {
    /// The kind of browser and its language.
    #[default]
    Browser,
    /// All of it.
    Exact,
}

/// Both, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a password must be.
    pub policy: Policy,
    /// How old a password may grow.
    pub max_age: Option<StdDuration>,
    /// Who makes accounts.
    pub registration: Registration,
    /// The service's name.
    pub service: String,
    /// What a hash costs.
    pub cost: Cost,
    /// Threads that hash; `None`: half of the cores.
    pub threads: Option<usize>,
    /// Hashes that wait.
    pub queue: usize,
    /// When guesses are refused.
    pub lockout: lockout::Rules,
    /// Most accounts.
    pub most_accounts: usize,
    /// About sessions.
    pub sessions: SessionRules,
}

/// What holds for sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// Without use.
    pub idle: StdDuration,
    /// In all.
    pub absolute: StdDuration,
    /// Address.
    pub address: Binding,
    /// Fingerprint.
    pub fingerprint: Binding,
    /// What the fingerprint is made of.
    pub headers: FingerprintOf,
    /// Of one account.
    pub most_of_account: usize,
    /// In all.
    pub most: usize,
}

impl Default for AccountsConfig {
    fn default() -> AccountsConfig {
        let rate = |count, seconds| {
            Rate::new(count, StdDuration::from_secs(seconds).into()).expect("a rate within the bounds of its type")
        };
        AccountsConfig {
            path: "/auth".to_owned(),
            registration: Registration::Closed,
            service: "portcullis".to_owned(),
            password: PasswordConfig::default(),
            hashing: HashingConfig::default(),
            lockout: LockoutConfig::default(),
            login_limit: rate(5, 60),
            registration_limit: rate(3, 3600),
            most: 100_000,
        }
    }
}

impl Default for PasswordConfig {
    fn default() -> PasswordConfig {
        PasswordConfig { length: 15, length_with_totp: 12, max_age: None }
    }
}

impl Default for HashingConfig {
    fn default() -> HashingConfig {
        let Cost { passes, lanes, .. } = Cost::DEFAULT;
        HashingConfig { memory: ByteSize::from_mib(19), passes, lanes, at_once: None, queue: 32 }
    }
}

impl Default for LockoutConfig {
    fn default() -> LockoutConfig {
        LockoutConfig { failures: 10, strangers: 100, time: StdDuration::from_secs(900).into() }
    }
}

impl Default for SessionsConfig {
    fn default() -> SessionsConfig {
        SessionsConfig {
            idle: StdDuration::from_secs(900).into(),
            absolute: StdDuration::from_secs(12 * 3600).into(),
            bind: BindConfig::default(),
            most_of_account: 50,
            most: 100_000,
        }
    }
}

impl Default for BindConfig {
    fn default() -> BindConfig {
        BindConfig { address: Binding::Alert, fingerprint: Binding::Alert, headers: FingerprintOf::Browser }
    }
}

const DAY: StdDuration = StdDuration::from_secs(86_400);

/// Checks both.
///
/// # Errors
/// Every value out of bounds, with its key.
pub fn compile(accounts: &AccountsConfig, sessions: &SessionsConfig) -> Result<Rules, Vec<(String, String)>> {
    let mut mistakes = Vec::new();
    let mut within = |key: &str, is_good: bool, bounds: &str| {
        if !is_good {
            mistakes.push((key.to_owned(), bounds.to_owned()));
        }
    };
    let AccountsConfig { password, hashing, lockout, .. } = accounts;
    let path = &accounts.path;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
    let is_path = path.strip_prefix('/').is_some_and(|rest| {
        path.len() <= 64
            && rest.bytes().all(is_plain)
            && rest.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
    });
    within("accounts.path", is_path, "must begin with `/`, not end with one, and hold plain letters, as `/auth`");
    let service = &accounts.service;
    let is_name =
        (1..=64).contains(&service.chars().count()) && !service.contains(':') && !service.contains(char::is_control);
    within("accounts.service", is_name, "must have 1 to 64 characters without `:`");
    within("accounts.password.length", (8..=64).contains(&password.length), "must be between 8 and 64");
    let shortest = (8..=password.length.max(8)).contains(&password.length_with_totp);
    within("accounts.password.length_with_totp", shortest, "must be between 8 and accounts.password.length");
    within("accounts.password.max_age", password.max_age.is_none_or(|age| *age >= DAY), "must be at least 1d");
    let memory_kib = u32::try_from(hashing.memory.bytes() / 1024).unwrap_or(u32::MAX);
    let is_enough = (Cost::DEFAULT.memory_kib..=MOST_MEMORY_KIB).contains(&memory_kib);
    within("accounts.hashing.memory", is_enough, "must be between 19MiB and 256MiB");
    within("accounts.hashing.passes", (2..=MOST_PASSES).contains(&hashing.passes), "must be between 2 and 64");
    within("accounts.hashing.lanes", (1..=MOST_LANES).contains(&hashing.lanes), "must be between 1 and 16");
    let at_once = hashing.at_once.is_none_or(|threads| (1..=64).contains(&threads));
    within("accounts.hashing.at_once", at_once, "must be between 1 and 64");
    within("accounts.hashing.queue", (1..=10_000).contains(&hashing.queue), "must be between 1 and 10000");
    within("accounts.lockout.failures", (3..=100).contains(&lockout.failures), "must be between 3 and 100");
    let strangers = (lockout.failures..=100).contains(&lockout.strangers);
    within("accounts.lockout.strangers", strangers, "must be between accounts.lockout.failures and 100");
    let time = (StdDuration::from_secs(60)..=DAY).contains(&*lockout.time);
    within("accounts.lockout.for", time, "must be between 1m and 24h");
    within("accounts.most", (1..=1_000_000).contains(&accounts.most), "must be between 1 and 1000000");
    let (idle, absolute) = (*sessions.idle, *sessions.absolute);
    within("sessions.idle", (StdDuration::from_secs(60)..=DAY).contains(&idle), "must be between 1m and 24h");
    within("sessions.absolute", (idle..=30 * DAY).contains(&absolute), "must be between sessions.idle and 30d");
    let of_account = (1..=1000).contains(&sessions.most_of_account);
    within("sessions.most_of_account", of_account, "must be between 1 and 1000");
    within("sessions.most", (1..=10_000_000).contains(&sessions.most), "must be between 1 and 10000000");
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    Ok(Rules {
        policy: Policy {
            length: password.length,
            length_with_totp: password.length_with_totp,
            words: vec![service.to_lowercase()],
        },
        max_age: password.max_age.map(|age| *age),
        registration: accounts.registration,
        service: service.clone(),
        cost: Cost { memory_kib, passes: hashing.passes, lanes: hashing.lanes },
        threads: hashing.at_once,
        queue: hashing.queue,
        lockout: lockout::Rules {
            failures: lockout.failures,
            strangers: lockout.strangers,
            codes: lockout.failures,
            time: *lockout.time,
        },
        most_accounts: accounts.most,
        sessions: SessionRules {
            idle,
            absolute,
            address: sessions.bind.address,
            fingerprint: sessions.bind.fingerprint,
            headers: sessions.bind.headers,
            most_of_account: sessions.most_of_account,
            most: sessions.most,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_that_are_promised() {
        let rules = compile(&AccountsConfig::default(), &SessionsConfig::default()).unwrap();
        assert_eq!(rules.cost, Cost::DEFAULT);
        assert_eq!((rules.policy.length, rules.policy.length_with_totp, rules.lockout.failures), (15, 12, 10));
        assert_eq!((rules.sessions.idle.as_secs(), rules.sessions.absolute.as_secs()), (900, 43_200));
        assert_eq!(rules.registration, Registration::Closed);
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        type Change = fn(&mut AccountsConfig, &mut SessionsConfig);
        let cases: [(&str, Change); 15] = [
            ("accounts.path", |accounts, _| accounts.path = "auth".to_owned()),
            ("accounts.path", |accounts, _| accounts.path = "/auth/".to_owned()),
            ("accounts.path", |accounts, _| accounts.path = "/a/../b".to_owned()),
            ("accounts.path", |accounts, _| accounts.path = "/".to_owned()),
            ("accounts.service", |accounts, _| accounts.service = "a:b".to_owned()),
            ("accounts.password.length", |accounts, _| accounts.password.length = 65),
            ("accounts.password.length_with_totp", |accounts, _| accounts.password.length_with_totp = 7),
            ("accounts.password.max_age", |accounts, _| {
                accounts.password.max_age = Some(StdDuration::from_secs(60).into())
            }),
            ("accounts.hashing.memory", |accounts, _| accounts.hashing.memory = ByteSize::from_mib(18)),
            ("accounts.hashing.passes", |accounts, _| accounts.hashing.passes = 1),
            ("accounts.lockout.failures", |accounts, _| accounts.lockout.failures = 2),
            ("accounts.lockout.strangers", |accounts, _| accounts.lockout.strangers = 101),
            ("accounts.lockout.for", |accounts, _| accounts.lockout.time = StdDuration::from_secs(1).into()),
            ("sessions.idle", |_, sessions| sessions.idle = StdDuration::from_secs(1).into()),
            ("sessions.absolute", |_, sessions| sessions.absolute = StdDuration::from_secs(60).into()),
        ];
        for (key, change) in cases {
            let (mut accounts, mut sessions) = (AccountsConfig::default(), SessionsConfig::default());
            change(&mut accounts, &mut sessions);
            let mistakes = compile(&accounts, &sessions).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert_eq!(mistakes[0].0, key);
        }
    }
}
