//! The register on a pretend clock: what holds, what ends, what is written, what is read back.

use std::net::IpAddr;
use std::time::Duration;

use portcullis_core::clock::Now;
use portcullis_store::accounts::{Account, Changes, Hash, Records};
use portcullis_store::sessions::Digest;

use super::*;
use crate::config::{Binding, FingerprintOf};

const RULES: SessionRules = SessionRules {
    idle: Duration::from_secs(900),
    absolute: Duration::from_secs(43_200),
    address: Binding::Alert,
    fingerprint: Binding::Alert,
    headers: FingerprintOf::Browser,
    most_of_account: 3,
    most: 5,
};

const EPOCH_MILLIS: u64 = 1_800_000_000_000;

fn at(seconds: u64) -> Now {
    Now { monotonic_nanos: seconds * 1_000_000_000, unix_millis: EPOCH_MILLIS + seconds * 1000 }
}

fn client(last: u8) -> Client {
    Client { network: IpAddr::from([192, 0, 2, last]), fingerprint: Digest([1; 32]), agent: "test".to_owned() }
}

fn account(name: &str) -> Account {
    Account {
        name: name.to_owned(),
        tenant: String::new(),
        email: None,
        roles: Vec::new(),
        password: Hash(String::new()),
        password_since_unix_millis: 0,
        is_disabled: false,
        epoch: 0,
        since_unix_millis: 0,
        totp: None,
        recovery: Vec::new(),
        devices: Vec::new(),
    }
}

fn end_all(account: &mut Account) -> Option<()> {
    account.epoch += 1;
    Some(())
}

fn set_disabled(account: &mut Account, is_disabled: bool) -> Option<()> {
    account.is_disabled = is_disabled;
    Some(())
}

fn register(rules: &SessionRules) -> (Register, Arc<Owner>) {
    let register = Register::new(rules.clone(), 3);
    let owner = register.add(account("ann")).unwrap();
    (register, owner)
}

fn begin(register: &Register, owner: &Arc<Owner>, now: &Now) -> Secret {
    register.begin_session(owner, owner.now().epoch, &client(1), false, now).unwrap().0
}

fn holds(register: &Register, token: &Secret, now: &Now) -> bool {
    register.session(token.expose(), &client(1), now).is_ok()
}

/// Writes everything into records, as a store would have it.
fn written(register: &Register, records: &mut Records) -> Option<u64> {
    let (changes, version) = register.changes(1000);
    let Changes { accounts, sessions, ended, keys, revoked } = changes;
    records.accounts.retain(|known| !accounts.iter().any(|new| new.name == known.name));
    records.accounts.extend(accounts);
    records.sessions.retain(|known| !ended.contains(&known.id) && !sessions.iter().any(|new| new.id == known.id));
    records.sessions.extend(sessions);
    records.keys.retain(|known| !revoked.contains(&known.id) && !keys.iter().any(|new| new.id == known.id));
    records.keys.extend(keys);
    version
}

/// Row 99.
#[test]
fn row_99_idle_and_absolute_end_by_the_monotonic_clock() {
    let (register, owner) = register(&RULES);
    let token = begin(&register, &owner, &at(0));
    assert!(holds(&register, &token, &at(899)));
    assert!(holds(&register, &token, &at(899 + 899)), "use keeps it");
    assert!(!holds(&register, &token, &at(899 + 899 + 900)), "and rest ends it");
    let token = begin(&register, &owner, &at(0));
    for step in 1..=48 {
        assert!(holds(&register, &token, &at(step * 899)), "{step}");
    }
    assert!(holds(&register, &token, &at(43_199)) && !holds(&register, &token, &at(43_200)), "whatever the use");
    // The wall clock may step by an hour without any effect.
    let token = begin(&register, &owner, &at(0));
    for unix_millis in [EPOCH_MILLIS + 3_600_000, EPOCH_MILLIS - 3_600_000] {
        assert!(holds(&register, &token, &Now { unix_millis, ..at(1) }));
        assert!(!holds(&register, &token, &Now { unix_millis, ..at(2000) }));
    }
}

/// Rows 94, 95: what has ended is never found again, in any way that it can end.
#[test]
fn rows_94_and_95_what_has_ended_stays_ended() {
    let (register, owner) = register(&RULES);
    type End = fn(&Register, &Secret);
    let ends: [(&str, End); 4] = [
        ("logout", |register, token| assert!(register.end("ann", &token::hash(token.expose())))),
        ("new password", |register, _| register.update("ann", end_all).unwrap()),
        ("disable", |register, _| register.update("ann", |account| set_disabled(account, true)).unwrap()),
        ("by id alone", |register, token| assert!(register.end_id(&token::hash(token.expose())))),
    ];
    for (how, end) in ends {
        let token = begin(&register, &owner, &at(0));
        assert!(holds(&register, &token, &at(1)));
        end(&register, &token);
        assert!(!holds(&register, &token, &at(1)), "{how}");
        register.update("ann", |account| set_disabled(account, false)).unwrap();
        assert!(!holds(&register, &token, &at(1)), "{how}, and enabled again");
        let mut records = Records::default();
        written(&register, &mut records);
        assert!(records.sessions.is_empty(), "{how}: {records:?}");
    }
    // A proof that was made before the password changed begins nothing afterwards.
    let epoch = owner.now().epoch;
    register.update("ann", end_all).unwrap();
    assert_eq!(register.begin_session(&owner, epoch, &client(1), false, &at(0)).err(), Some(NotKept::Gone));
}

/// Row 96: by mode.
#[test]
fn row_96_a_session_from_elsewhere_is_told_or_refused() {
    for (address, expected) in
        [(Binding::Off, Ok(false)), (Binding::Alert, Ok(true)), (Binding::Strict, Err(Refused::Elsewhere))]
    {
        let (register, owner) = register(&SessionRules { address, ..RULES });
        let token = begin(&register, &owner, &at(0));
        let seen = register.session(token.expose(), &client(2), &at(1)).map(|session| session.was_elsewhere());
        assert_eq!(seen, expected, "{address:?}");
        assert!(holds(&register, &token, &at(1)), "at home it goes on");
    }
    // Ten are told, then they are refused for a while, and the owner is not.
    let (register, owner) = register(&RULES);
    let token = begin(&register, &owner, &at(0));
    let elsewhere = |seconds| register.session(token.expose(), &client(2), &at(seconds)).is_ok();
    assert_eq!((0..15).filter(|_| elsewhere(1)).count(), 10);
    assert!(holds(&register, &token, &at(800)));
    assert!(!elsewhere(801));
    assert!(holds(&register, &token, &at(1600)));
    assert!(elsewhere(1701));
}

#[test]
fn numbers_are_bounded_and_the_one_that_rested_longest_gives_way() {
    let (register, ann) = register(&RULES);
    let tokens: Vec<Secret> = (0..3).map(|second| begin(&register, &ann, &at(second))).collect();
    assert!(holds(&register, &tokens[0], &at(10)));
    let fourth = begin(&register, &ann, &at(11));
    let held: Vec<bool> = tokens.iter().map(|token| holds(&register, token, &at(12))).collect();
    assert_eq!(held, [true, false, true]);
    assert!(holds(&register, &fourth, &at(12)));
    let bob = register.add(account("bob")).unwrap();
    begin(&register, &bob, &at(12));
    begin(&register, &bob, &at(12));
    let full = register.begin_session(&bob, 0, &client(1), false, &at(12));
    assert_eq!(full.err(), Some(NotKept::Full));
    register.tick(&at(5000));
    assert_eq!(register.statistics().sessions, 0);
    assert_eq!(register.add(account("ann")).err(), Some(NotKept::Taken));
    register.add(account("cat")).unwrap();
    assert_eq!(register.add(account("dog")).err(), Some(NotKept::Full));
}

#[test]
fn what_is_read_back_is_what_was_and_never_lasts_longer() {
    let (first, owner) = register(&RULES);
    let token = begin(&first, &owner, &at(0));
    let (key, _) =
        first.add_key("ann", "deploy", vec!["read".to_owned()], Some(EPOCH_MILLIS + 10_000_000), &at(0)).unwrap();
    assert!(holds(&first, &token, &at(600)) && first.key(key.expose(), &at(600)).is_ok());
    let mut records = Records::default();
    assert!(written(&first, &mut records).is_some());
    // The next process begins its monotonic clock anew.
    let again = |unix_seconds: u64, records: &Records| {
        let register = Register::new(RULES, 3);
        let now = Now { monotonic_nanos: 5, unix_millis: EPOCH_MILLIS + unix_seconds * 1000 };
        register.load(records.clone(), &now);
        (holds(&register, &token, &now), register.key(key.expose(), &now).is_ok(), register)
    };
    assert_eq!(
        {
            let (session, key, _) = again(1400, &records);
            (session, key)
        },
        (true, true)
    );
    assert_eq!(
        {
            let (session, key, _) = again(1500, &records);
            (session, key)
        },
        (false, true),
        "900 s of rest"
    );
    assert_eq!(
        {
            let (session, key, _) = again(10_000, &records);
            (session, key)
        },
        (false, false)
    );
    // A clock that was set back lengthens nothing: not beyond the idle time, and not beyond the whole one.
    let (holds_now, _, register) = again(0, &records);
    assert!(holds_now);
    assert!(!holds(&register, &token, &Now { monotonic_nanos: 900_000_000_010, unix_millis: 0 }));
    // What is over is marked, so that the store forgets it.
    let (_, _, register) = again(10_000, &records);
    let (changes, _) = register.changes(1000);
    assert_eq!((changes.ended.len(), changes.revoked.len()), (1, 1));
    // Sessions of an epoch that is over are over, even where their rows are left.
    let mut torn = records.clone();
    torn.accounts[0].epoch += 1;
    assert!(!again(1, &torn).0);
}

#[test]
fn a_key_ends_with_its_time_its_owner_and_its_revocation() {
    let (register, _) = register(&RULES);
    let (text, key) = register.add_key("ann", "ci", Vec::new(), Some(EPOCH_MILLIS + 5000), &at(0)).unwrap();
    assert!(register.key(text.expose(), &at(4)).is_ok() && register.key(text.expose(), &at(5)).is_err());
    let (text, _) = register.add_key("ann", "ci", Vec::new(), None, &at(0)).unwrap();
    register.update("ann", |account| set_disabled(account, true)).unwrap();
    assert_eq!(register.key(text.expose(), &at(1)).err(), Some(Refused::Over));
    register.update("ann", |account| set_disabled(account, false)).unwrap();
    assert!(register.key(text.expose(), &at(1)).is_ok());
    let id = register.keys_of("ann")[1].record.id.clone();
    assert!(register.revoke("ann", &id) && !register.revoke("ann", &id));
    assert_eq!(register.key(text.expose(), &at(1)).err(), Some(Refused::Unknown));
    // Row 117: part of a key, another's secret behind a known id, a session's token.
    let session = begin(&register, &register.find("ann").unwrap(), &at(0));
    let (own, _) = register.add_key("ann", "ci", Vec::new(), None, &at(0)).unwrap();
    for wrong in
        [&own.expose()[..own.expose().len() - 1], &text.expose().replace(&id, &key.record.id), session.expose(), ""]
    {
        assert!(register.key(wrong, &at(1)).is_err());
    }
    assert!(register.session(own.expose(), &client(1), &at(1)).is_err());
    for _ in register.keys_of("ann").len()..MOST_KEYS_OF_ACCOUNT {
        register.add_key("ann", "ci", Vec::new(), None, &at(0)).unwrap();
    }
    assert_eq!(register.add_key("ann", "ci", Vec::new(), None, &at(0)).err(), Some(NotKept::Full));
}

#[test]
fn use_is_marked_once_a_minute_and_changes_are_fetched_once() {
    let (register, owner) = register(&RULES);
    let token = begin(&register, &owner, &at(0));
    let mut records = Records::default();
    let version = written(&register, &mut records).expect("all of it");
    assert!(holds(&register, &token, &at(59)));
    assert!(register.changes(1000).0.is_empty());
    assert!(holds(&register, &token, &at(61)));
    assert!(register.version() > version);
    let (changes, version) = register.changes(1000);
    assert_eq!(changes.sessions[0].seen_unix_millis, EPOCH_MILLIS + 61_000);
    // A failed writing puts back, and what ended meanwhile stays ended.
    register.end("ann", &token::hash(token.expose()));
    register.put_back(&changes);
    let (changes, later) = register.changes(1000);
    assert!(changes.sessions.is_empty() && changes.ended.len() == 1 && later > version);
    // In parts, the version is told with the last one alone.
    begin(&register, &owner, &at(62));
    begin(&register, &owner, &at(62));
    assert_eq!(register.changes(1).1, None);
    assert!(register.changes(1).1.is_some());
}

/// Row 102: a hundred threads end and use one session; it ends once and never comes back.
#[test]
fn row_102_of_a_hundred_that_log_out_one_does() {
    let (register, owner) = register(&RULES);
    let token = begin(&register, &owner, &at(0));
    let id = token::hash(token.expose());
    let ended = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let _ = register.session(token.expose(), &client(1), &at(100));
                ended.fetch_add(usize::from(register.end("ann", &id)), std::sync::atomic::Ordering::Relaxed);
                assert!(!holds(&register, &token, &at(100)));
            });
        }
    });
    assert_eq!(ended.into_inner(), 1);
    let mut records = Records::default();
    written(&register, &mut records);
    assert!(records.sessions.is_empty());
}
