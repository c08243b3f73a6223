//! Keys at an address: when they are fetched, who waits, and what holds while they cannot be. The network is the test itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use portcullis_core::clock::Now;

use super::*;
use crate::exchange::Exchange;
use crate::identity::source::Wait;

const SECOND: u64 = 1_000_000_000;

/// An issuer whose keys are fetched: cooldown 10 s, refresh 100 s, kept for 1000 s.
fn remote() -> IssuerConfig {
    let seconds = |seconds| Some(std::time::Duration::from_secs(seconds).into());
    let jwks = JwksConfig {
        url: Some("https://id.example/keys".to_owned()),
        refresh: seconds(100),
        cooldown: seconds(10),
        keep: seconds(1000),
        ..JwksConfig::default()
    };
    IssuerConfig { jwks: Some(jwks), lifetime: seconds(86_400), ..issuer() }
}

struct Stage {
    tokens: Arc<Tokens>,
    source: JwtSource,
    woken: Arc<AtomicUsize>,
}

/// The moment `seconds` after the first.
fn at(seconds: u64) -> Now {
    Now { monotonic_nanos: (seconds + 1) * SECOND, unix_millis: (NOW + seconds) * 1000 }
}

fn exchange(seconds: u64) -> Exchange {
    let mut exchange = crate::rehearsal::get("/").begin();
    exchange.now = at(seconds);
    exchange
}

impl Stage {
    fn new() -> Stage {
        let tokens: Arc<Tokens> = Arc::default();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        tokens.wake_with(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        Stage { source: source_on(&tokens, vec![remote()]), tokens, woken }
    }

    /// A fetch that is due at this moment and ends with these keys, or fails.
    fn fetch(&self, seconds: u64, set: Option<&Value>) -> bool {
        let due = self.tokens.due(&at(seconds));
        assert!(due.len() <= 1);
        let is_due = !due.is_empty();
        for fetch in due {
            assert_eq!((fetch.issuer(), fetch.url()), (ISSUER, "https://id.example/keys"));
            let result = match set {
                Some(set) => Ok((set.to_string().into_bytes().into(), None)),
                None => Err("it is down".to_owned()),
            };
            assert_eq!(fetch.end(result, &at(seconds)).is_ok(), set.is_some());
        }
        is_due
    }

    fn ask(&self, seconds: u64, token: &str) -> String {
        told(self.source.look(&exchange(seconds), Some(token)))
    }

    /// The future that a request waits for.
    fn wait(&self, seconds: u64, token: &str) -> Wait {
        match self.source.look(&exchange(seconds), Some(token)) {
            Found::Wait(wait) => wait,
            other => panic!("it does not wait: {}", told(other)),
        }
    }
}

fn told(found: Found) -> String {
    match found {
        Found::Known(identity) => identity.user().to_owned(),
        Found::Refused(code, rule) => format!("{} {rule}", code.entry().name),
        Found::Unavailable(code, wait, rule) => format!("{} {rule} {}", code.entry().name, wait / SECOND),
        Found::Wait(_) => "waits".to_owned(),
        Found::Absent => "absent".to_owned(),
    }
}

struct Flag(AtomicUsize);

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn token() -> String {
    mint(&with("exp", json!(NOW + 20_000)), Algorithm::ES256)
}

/// The key set without the key on P-256.
fn without_p256() -> Value {
    let mut set = key_set();
    set["keys"].as_array_mut().unwrap().remove(1);
    set
}

#[test]
fn the_first_request_waits_for_the_keys_and_many_wait_for_one_fetch() {
    let stage = Stage::new();
    let flag = Arc::new(Flag(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut waits: Vec<Wait> = (0..3).map(|_| stage.wait(0, &token())).collect();
    for wait in &mut waits {
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(stage.woken.load(Ordering::Relaxed) >= 3, "who fetches was told");
    let due = stage.tokens.due(&at(0));
    assert_eq!((due.len(), stage.tokens.due(&at(0)).len()), (1, 0), "one fetch for all of them");
    for fetch in due {
        fetch.end(Ok((key_set().to_string().into_bytes().into(), None)), &at(0)).unwrap();
    }
    assert_eq!(flag.0.load(Ordering::Relaxed), 1, "one task was woken");
    for mut wait in waits {
        assert_eq!(wait.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(()));
    }
    assert_eq!(told(stage.source.look_again(&exchange(0), Some(&token()))), "ada");
    assert_eq!(stage.ask(1, &token()), "ada");
    // Who waited for the first keys has not used up the one question about an unknown one.
    assert!(!stage.fetch(1, None), "and nobody wants another fetch");
    let mut header = json!({ "alg": "ES256", "kid": "new" });
    assert_eq!(stage.ask(1, &sign(&header.to_string(), &claims().to_string(), Algorithm::ES256)), "waits");
    header["kid"] = json!("p256");
    assert_eq!(stage.ask(1, &sign(&header.to_string(), &claims().to_string(), Algorithm::ES256)), "ada");
}

#[test]
fn an_unknown_key_is_asked_for_once_in_a_cooldown() {
    let stage = Stage::new();
    assert!(stage.fetch(0, Some(&without_p256())));
    // Keys may change the moment after they were fetched.
    assert_eq!(stage.ask(1, &token()), "waits");
    assert!(stage.fetch(1, Some(&without_p256())));
    assert_eq!(told(stage.source.look_again(&exchange(1), Some(&token()))), "ERR_TOKEN_INVALID unknown_key");
    assert_eq!(stage.ask(10, &token()), "ERR_TOKEN_INVALID unknown_key", "the issuer was asked for it a moment ago");
    assert!(!stage.fetch(10, Some(&key_set())), "and is left alone");
    assert_eq!(stage.ask(11, &token()), "waits");
    assert!(stage.fetch(11, Some(&key_set())));
    assert_eq!(told(stage.source.look_again(&exchange(11), Some(&token()))), "ada");
    // A token of a key that does not exist costs the issuer one fetch in ten seconds, however many come.
    let invented = sign(&json!({ "alg": "ES256", "kid": "x" }).to_string(), &claims().to_string(), Algorithm::ES256);
    let fetches = (12..62u64).filter(|second| {
        (0..20).for_each(|_| drop(stage.ask(*second, &invented)));
        stage.fetch(*second, Some(&key_set()))
    });
    assert_eq!(fetches.count(), 5);
    assert_eq!(told(stage.source.look_again(&exchange(62), Some(&invented))), "ERR_TOKEN_INVALID unknown_key");
}

#[test]
fn who_meets_a_refresh_on_its_way_waits_for_the_fetch_after_it() {
    let stage = Stage::new();
    assert!(stage.fetch(0, Some(&without_p256())));
    let refresh = stage.tokens.due(&at(100)).remove(0);
    let waker = Waker::from(Arc::new(Flag(AtomicUsize::new(0))));
    let context = &mut Context::from_waker(&waker);
    let mut wait = stage.wait(100, &token());
    assert!(wait.as_mut().poll(context).is_pending());
    // The refresh brings what was true before the key was made.
    refresh.end(Ok((without_p256().to_string().into_bytes().into(), None)), &at(100)).unwrap();
    assert!(wait.as_mut().poll(context).is_pending());
    assert!(stage.fetch(100, Some(&key_set())), "the next one begins at once");
    assert_eq!(wait.as_mut().poll(context), Poll::Ready(()));
    assert_eq!(told(stage.source.look_again(&exchange(100), Some(&token()))), "ada");
    assert!((101..150).all(|second| !stage.fetch(second, None)), "and nobody wants another");
    // Where it fails nobody waits on.
    let stage = Stage::new();
    assert!(stage.fetch(0, Some(&without_p256())));
    let refresh = stage.tokens.due(&at(100)).remove(0);
    let mut wait = stage.wait(100, &token());
    assert!(wait.as_mut().poll(context).is_pending());
    drop(refresh);
    assert_eq!(wait.as_mut().poll(context), Poll::Ready(()));
    assert!(told(stage.source.look_again(&exchange(100), Some(&token()))).starts_with("ERR_KEYS_UNAVAILABLE"));
}

#[test]
fn keys_are_refreshed_before_they_are_old_and_used_for_a_bounded_time_without_their_issuer() {
    let stage = Stage::new();
    assert!(stage.fetch(0, Some(&key_set())));
    assert!(!stage.fetch(79, Some(&key_set())) && stage.fetch(100, Some(&key_set())), "refreshed by time alone");
    // Down from here on: the known keys are used until they are a thousand seconds old.
    assert!(stage.fetch(200, None));
    assert_eq!(stage.ask(201, &token()), "ada");
    let seen = stage.tokens.seen(&at(300)).remove(0).1;
    assert_eq!((seen.age_seconds, seen.error.as_deref()), (Some(200), Some("it is down")));
    assert_eq!(stage.ask(1100, &token()), "ada");
    let mut second = 1101;
    while !stage.fetch(second, None) {
        second += 1;
    }
    // Too old: an outage, remembered tokens included; never told as the client's mistake.
    assert!(stage.ask(second + 1, &token()).starts_with("ERR_KEYS_UNAVAILABLE issuer_unreachable "));
    let other = mint(&with("sub", json!("eve")), Algorithm::RS256);
    assert!(stage.ask(second + 1, &other).starts_with("ERR_KEYS_UNAVAILABLE"));
    // A key that is unknown while the issuer is down may be a good one.
    let stage = Stage::new();
    assert!(stage.fetch(0, Some(&without_p256())) && stage.fetch(100, None));
    assert!(stage.ask(101, &token()).starts_with("ERR_KEYS_UNAVAILABLE"));
    assert_eq!(stage.ask(101, &mint(&claims(), Algorithm::RS256)), "ada");
    // And it is back.
    assert!(stage.fetch(115, Some(&key_set())));
    assert_eq!(stage.ask(116, &token()), "ada");
}

#[test]
fn what_is_no_key_set_changes_nothing_and_a_fetch_that_is_dropped_has_failed() {
    let stage = Stage::new();
    assert!(stage.fetch(0, Some(&key_set())));
    for (number, text) in ["<html>", "{\"keys\":[]}", "{}"].into_iter().enumerate() {
        let second = 1000 + 500 * number as u64;
        let fetch = stage.tokens.due(&at(second)).remove(0);
        assert!(fetch.end(Ok((text.as_bytes().to_vec().into(), None)), &at(second)).is_err());
    }
    assert_eq!(stage.ask(900, &token()), "ada");
    drop(stage.tokens.due(&at(5000)));
    assert_eq!(stage.tokens.seen(&at(5000)).remove(0).1.error.as_deref(), Some("the fetch was given up"));
    assert!(!stage.tokens.due(&at(9000)).is_empty(), "and the next one can begin");
}

#[test]
fn the_issuers_max_age_shortens_the_time_and_never_below_the_cooldown() {
    for (max_age, due) in [(None, 100), (Some(50), 40), (Some(0), 10), (Some(1_000_000), 100)] {
        let stage = Stage::new();
        let fetch = stage.tokens.due(&at(0)).remove(0);
        let max_age = max_age.map(Duration::from_secs);
        fetch.end(Ok((key_set().to_string().into_bytes().into(), max_age)), &at(0)).unwrap();
        assert!(stage.tokens.due(&at(due - 1)).is_empty(), "{max_age:?}");
        assert!(!stage.tokens.due(&at(due)).is_empty(), "{max_age:?}");
    }
}

#[test]
fn who_waits_is_bounded_and_a_dry_run_asks_for_nothing() {
    let stage = Stage::new();
    let waits: Vec<Wait> = (0..1100)
        .filter_map(|_| match stage.source.look(&exchange(0), Some(&token())) {
            Found::Wait(mut wait) => {
                let waker = Waker::from(Arc::new(Flag(AtomicUsize::new(0))));
                let _ = wait.as_mut().poll(&mut Context::from_waker(&waker));
                Some(wait)
            }
            other => {
                assert!(told(other).starts_with("ERR_KEYS_UNAVAILABLE"));
                None
            }
        })
        .collect();
    assert_eq!(waits.len(), 1024);
    let stage = Stage::new();
    let dry = crate::rehearsal::get("/").dry().begin();
    assert!(matches!(stage.source.look(&dry, Some(&token())), Found::Unavailable(..)));
    // Where nobody fetches, nobody waits.
    let alone = source_of(vec![remote()]);
    assert!(matches!(alone.look(&exchange(0), Some(&token())), Found::Unavailable(..)));
}
