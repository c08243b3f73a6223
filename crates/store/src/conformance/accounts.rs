//! Checks of [`Accounts`]: what was written is read back to the last field, together, and nothing else.
//!
//! Invariant: a check takes an empty store and says what it left in it.

use crate::accounts::{
    Account, Accounts, Changes, Device, Hash, MOST_DEVICES, MOST_RECOVERY_CODES, MOST_ROLES, Records, Totp,
};
use crate::api_keys::{ApiKey, LONGEST_SCOPE_BYTES, MOST_SCOPES};
use crate::sessions::{Digest, LONGEST_AGENT_BYTES, Session};

const WIDEST: u64 = i64::MAX as u64;

/// Runs every check on an empty store; accounts are left in it, because they are never forgotten.
///
/// # Panics
/// When the backend does not do what [`Accounts`] says.
pub async fn check_all(accounts: &dyn Accounts) {
    nothing_to_do_is_done(accounts).await;
    what_is_written_is_read_back(accounts).await;
    what_ends_is_gone_and_nothing_else(accounts).await;
    the_last_word_stands(accounts).await;
    many_at_once(accounts).await;
}

fn digest(number: u64) -> Digest {
    let mut bytes = [0xA5; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Digest(bytes)
}

/// An account with nothing but what it must have.
#[must_use]
pub fn account(name: &str) -> Account {
    Account {
        name: name.to_owned(),
        tenant: String::new(),
        email: None,
        roles: Vec::new(),
        password: Hash("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned()),
        password_since_unix_millis: 0,
        is_disabled: false,
        epoch: 0,
        since_unix_millis: 0,
        totp: None,
        recovery: Vec::new(),
        devices: Vec::new(),
    }
}

/// A session of `account`, told from others by `number`.
#[must_use]
pub fn session(number: u64, account: &str) -> Session {
    Session {
        id: digest(number),
        account: account.to_owned(),
        epoch: 0,
        since_unix_millis: 1,
        seen_unix_millis: 2,
        until_unix_millis: 3,
        network: "192.0.2.1".to_owned(),
        fingerprint: digest(number + 1),
        agent: String::new(),
        has_second_factor: false,
    }
}

/// A key of `account`.
#[must_use]
pub fn key(id: &str, account: &str) -> ApiKey {
    ApiKey {
        id: id.to_owned(),
        hash: digest(9),
        account: account.to_owned(),
        name: "deploy".to_owned(),
        scopes: Vec::new(),
        since_unix_millis: 1,
        until_unix_millis: None,
        used_unix_millis: None,
    }
}

/// Every kind of field at its edges.
fn samples() -> Records {
    let full = Account {
        tenant: "acme".to_owned(),
        email: Some("x'; DROP TABLE accounts; -- \u{1f511}@example.com".to_owned()),
        roles: (0..MOST_ROLES).map(|role| format!("role:{role}")).collect(),
        password_since_unix_millis: WIDEST,
        is_disabled: true,
        epoch: WIDEST,
        since_unix_millis: WIDEST - 1,
        totp: Some(Totp { secret: (0..20).map(|byte| byte * 12).collect(), last_step: WIDEST, is_confirmed: true }),
        recovery: (0..MOST_RECOVERY_CODES as u64).map(digest).collect(),
        devices: (0..MOST_DEVICES as u64)
            .map(|device| Device { id: digest(device), since_unix_millis: device })
            .collect(),
        ..account("full")
    };
    let begun = Account {
        totp: Some(Totp { secret: vec![0; 20], last_step: 0, is_confirmed: false }),
        email: Some(String::new()),
        ..account("begun")
    };
    let wide = Session {
        epoch: WIDEST,
        since_unix_millis: WIDEST,
        seen_unix_millis: WIDEST,
        until_unix_millis: WIDEST,
        network: "2001:db8::/64".to_owned(),
        agent: "\u{1f98a} '".repeat(LONGEST_AGENT_BYTES / 6),
        has_second_factor: true,
        ..session(8, "full")
    };
    let scoped = ApiKey {
        scopes: (0..MOST_SCOPES).map(|scope| format!("{scope:x<LONGEST_SCOPE_BYTES$}")).collect(),
        until_unix_millis: Some(WIDEST),
        used_unix_millis: Some(0),
        name: "\u{1f680} x'; --".to_owned(),
        ..key("b", "full")
    };
    Records {
        accounts: vec![begun, full, account("plain")],
        sessions: vec![session(1, "plain"), wide],
        keys: vec![key("a", "plain"), scoped],
    }
}

fn written(records: Records) -> Changes {
    let Records { accounts, sessions, keys } = records;
    Changes { accounts, sessions, keys, ..Changes::default() }
}

async fn update(accounts: &dyn Accounts, changes: &Changes) {
    accounts.update(changes).await.unwrap_or_else(|error| panic!("{error}"));
}

async fn listed(accounts: &dyn Accounts) -> Records {
    accounts.list().await.unwrap_or_else(|error| panic!("{error}"))
}

/// Empty calls succeed and change nothing; what ends without having been is no error.
pub async fn nothing_to_do_is_done(accounts: &dyn Accounts) {
    update(accounts, &Changes::default()).await;
    let changes = Changes { ended: vec![digest(1)], revoked: vec!["nobody".to_owned()], ..Changes::default() };
    update(accounts, &changes).await;
    assert_eq!(listed(accounts).await, Records::default());
}

/// Every field comes back as it was given.
pub async fn what_is_written_is_read_back(accounts: &dyn Accounts) {
    update(accounts, &written(samples())).await;
    assert_eq!(listed(accounts).await, samples());
}

/// Goes on where [`what_is_written_is_read_back`] ended.
pub async fn what_ends_is_gone_and_nothing_else(accounts: &dyn Accounts) {
    let changes = Changes { ended: vec![digest(1)], revoked: vec!["b".to_owned()], ..Changes::default() };
    update(accounts, &changes).await;
    let mut left = samples();
    left.sessions.remove(0);
    left.keys.remove(1);
    assert_eq!(listed(accounts).await, left);
    // Ended and changed at once is ended: a session that was used while it ended must not come back.
    let changes = Changes {
        sessions: vec![session(8, "full")],
        ended: vec![digest(8)],
        keys: vec![key("a", "plain")],
        revoked: vec!["a".to_owned()],
        ..Changes::default()
    };
    update(accounts, &changes).await;
    assert_eq!(listed(accounts).await, Records { accounts: samples().accounts, ..Records::default() });
}

/// A second record takes the place of the first, in every field.
pub async fn the_last_word_stands(accounts: &dyn Accounts) {
    let mut records = samples();
    records.accounts = samples().accounts.into_iter().map(|known| account(&known.name)).collect();
    update(accounts, &written(samples())).await;
    let bare = Session { id: digest(8), ..session(1, "plain") };
    records.sessions = vec![session(1, "plain"), bare];
    records.keys = vec![key("a", "plain"), key("b", "plain")];
    update(accounts, &written(records.clone())).await;
    assert_eq!(listed(accounts).await, records);
    let changes = Changes {
        ended: vec![digest(1), digest(8)],
        revoked: vec!["a".to_owned(), "b".to_owned()],
        ..Changes::default()
    };
    update(accounts, &changes).await;
}

/// As many as one writing ever holds, and they all come back.
pub async fn many_at_once(accounts: &dyn Accounts) {
    let many: Vec<Session> = (0..1000).map(|number| session(number, "plain")).collect();
    update(accounts, &Changes { sessions: many.clone(), ..Changes::default() }).await;
    assert_eq!(listed(accounts).await.sessions, many);
    let ended = many.iter().map(|session| session.id).collect();
    update(accounts, &Changes { ended, ..Changes::default() }).await;
    assert_eq!(listed(accounts).await.sessions, []);
}
