//! Tests of the guard: what counts as a failed login, who is banned when, guesses that come at once, and mistakes.
//!
//! "Row" numbers are those of the list of attacks the project is tested against.
//!
//! Invariant: no test reads a clock or sleeps; times are made up.

mod reading;

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use portcullis_core::clock::Now;
use portcullis_core::refusal::{Code, Refusal};
use serde_json::{Value, json};

use super::*;
use crate::config::PathConfig;
use crate::path::{Descent, Path};
use crate::rehearsal::{NOW, ask, ground, outcome};
use crate::{client_address, ip_block, login_watch, route};

fn config(value: Value) -> PathConfig {
    serde_json::from_value(value).unwrap()
}

/// The guards that stand around this one, on a ground of their own.
struct Stage {
    path: Path,
    ground: Ground,
}

impl Stage {
    fn new(value: Value) -> Stage {
        let (ground, _) = ground();
        let config = config(value);
        let built = |mistakes: Vec<Mistake>| -> Path { panic!("{mistakes:?}") };
        let path = (|| {
            Ok(Path::builder()
                .add(client_address::build(&config, &ground)?)
                .add(ip_block::build(&config, &ground)?)
                .add(route::build(&config, &ground)?)
                .add(login_watch::build(&config, &ground)?)
                .build()
                .unwrap())
        })()
        .unwrap_or_else(built);
        path.begins();
        Stage { path, ground }
    }

    /// All routes, by the operator's name.
    fn named(more: Value) -> Stage {
        Stage::new(
            json!({ "routes": [{ "name": "all", "match": { "path": "/**" }, "upstream": "app", "login_watch": more }] }),
        )
    }

    /// A request on its way down, with a body that passes at once.
    fn begin(
        &self,
        from: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
        now: Now,
    ) -> Result<Exchange, Refusal> {
        let mut wanted = ask(if body.is_empty() { "GET" } else { "POST" }, path).with("host", "a").from(from);
        for (name, value) in fields {
            wanted = wanted.with(name, value);
        }
        let mut exchange = wanted.begin();
        exchange.now = now;
        exchange.body = if body.is_empty() { Body::Absent } else { Body::Sized(body.len() as u64) };
        match self.path.descend(&mut exchange) {
            Descent::Through => {
                if let Some(tap) = &exchange.request_tap {
                    tap.feed(body.as_bytes());
                }
                Ok(exchange)
            }
            Descent::Refused(refusal) => Err(refusal),
            Descent::Waiting(_) => panic!("nobody waits here"),
        }
    }

    /// The service's answer on its way up, to its end.
    fn answer(&self, mut exchange: Exchange, status: u16, body: &str) {
        let mut head = ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new() };
        self.path.ascend(&mut exchange, &mut head);
        if let Some(tap) = &exchange.answer_tap {
            tap.feed(body.as_bytes());
        }
        self.path.finish(&exchange, &outcome(status));
    }

    /// A wrong password; what the client heard.
    fn guess(&self, from: &str, account: &str, now: Now) -> u16 {
        let body = format!("{{\"user\":\"{account}\",\"password\":\"x\"}}");
        match self.begin(from, "/login", &[("content-type", "application/json")], &body, now) {
            Ok(exchange) => {
                self.answer(exchange, 401, "");
                401
            }
            Err(refusal) => refusal.code.entry().status,
        }
    }

    fn statuses(&self, from: &str, times: usize) -> Vec<u16> {
        (0..times).map(|number| self.guess(from, &format!("user{number}"), NOW)).collect()
    }

    fn counted(&self, result: &str) -> bool {
        self.ground.metrics.render().contains(&format!("login_watch_answers_total{{result=\"{result}\"}} 1"))
    }
}

fn later(seconds: u64) -> Now {
    Now {
        monotonic_nanos: NOW.monotonic_nanos + seconds * 1_000_000_000,
        unix_millis: NOW.unix_millis + seconds * 1000,
    }
}

#[test]
fn the_tenth_failure_bans_and_not_the_ninth() {
    let stage = Stage::named(json!({}));
    assert_eq!(stage.statuses("203.0.113.9", 9), [401; 9]);
    assert_eq!(stage.statuses("203.0.113.9", 2), [401, 403]);
    assert_eq!(stage.guess("203.0.113.10", "a", NOW), 401, "somebody else");
    assert_eq!(stage.guess("203.0.113.9", "a", later(3599)), 403);
    assert_eq!(stage.guess("203.0.113.9", "a", later(3600)), 401, "an hour later, and the count begins anew");
    assert_eq!((0..10).filter(|_| stage.guess("203.0.113.9", "a", later(3600)) == 401).count(), 9);
    assert_eq!(stage.guess("203.0.113.9", "a", later(3600 + 4 * 3600 - 1)), 403, "the second ban lasts four hours");
}

/// However the ten lie in time: within three quarters of the window they always ban, and spread over more than one never.
#[test]
fn ten_within_three_quarters_of_the_window_always_ban() {
    for begin in (0..600).step_by(7) {
        let stage = Stage::named(json!({}));
        let banned = (0..10)
            .map(|number| later(begin + number * 49))
            .map(|now| stage.guess("203.0.113.9", "a", now))
            .collect::<Vec<_>>();
        assert_eq!(banned, [401; 10]);
        assert_eq!(stage.guess("203.0.113.9", "a", later(begin + 450)), 403, "begun at {begin}");
        let slow = Stage::named(json!({}));
        assert!(
            (0..40).all(|number| slow.guess("203.0.113.9", "a", later(begin + number * 68)) == 401),
            "begun at {begin}"
        );
    }
}

/// Row 107: a success, the attacker's own included, resets neither the address nor another account.
#[test]
fn row_107_success_resets_nothing() {
    let stage = Stage::named(json!({}));
    for number in 0..10 {
        assert_eq!(stage.guess("203.0.113.9", &format!("user{number}"), NOW), 401);
        if number < 9 {
            let own = stage.begin(
                "203.0.113.9",
                "/login",
                &[("content-type", "application/json")],
                "{\"password\":\"mine\"}",
                NOW,
            );
            stage.answer(own.unwrap_or_else(|_| panic!("refused after {number}")), 200, "");
        }
    }
    assert_eq!(stage.guess("203.0.113.9", "a", NOW), 403);
}

#[test]
fn an_account_may_have_fewer_failures_than_an_address_that_many_share() {
    let stage = Stage::named(json!({ "failures": 100, "account_failures": 3, "account": { "json": "user" } }));
    for number in 0..20 {
        assert_eq!(stage.guess("203.0.113.9", &format!("user{number}"), NOW), 401);
    }
    // Case and spaces make no other account.
    for (account, status) in [("ada", 401), (" Ada", 401), ("ADA ", 401), ("bob", 403)] {
        assert_eq!(stage.guess("203.0.113.9", account, NOW), status, "{account}");
    }
    assert_eq!(stage.guess("203.0.113.10", "ada", NOW), 401, "the account is free from elsewhere");
}

/// Row 106: who takes a new network for each guess is met by the count of the wider one, and then by its ban.
#[test]
fn row_106_guesses_from_rotating_networks_ban_the_wider_one() {
    let stage = Stage::named(json!({ "failures": 3 }));
    let banned = (0..20).position(|third| stage.guess(&format!("2001:db8:0:{third:x}::1"), "a", NOW) == 403);
    assert_eq!(banned, Some(12), "three failures in each of four networks");
    assert_eq!(stage.guess("2001:db8:0:100::1", "a", NOW), 401, "the next /56 is someone else");
    // One network, whatever its host bits, is one client (row 121).
    let stage = Stage::named(json!({ "failures": 3 }));
    let statuses: Vec<u16> = (0..4).map(|host| stage.guess(&format!("2001:db8::{host}"), "a", NOW)).collect();
    assert_eq!(statuses, [401, 401, 401, 403]);
}

/// Row 104: guesses whose answers are not known yet count against the failures that are left.
#[test]
fn row_104_as_many_guesses_are_let_through_as_may_still_fail() {
    let stage = Stage::named(json!({}));
    let begin = |number: usize| {
        let body = format!("{{\"password\":\"{number}\"}}");
        stage.begin("203.0.113.9", "/login", &[("content-type", "application/json")], &body, NOW)
    };
    assert_eq!(stage.statuses("203.0.113.9", 4), [401; 4]);
    let (through, refused): (Vec<_>, Vec<_>) = (0..50).map(begin).partition(Result::is_ok);
    assert_eq!((through.len(), refused.len()), (6, 44));
    for refusal in refused.into_iter().filter_map(Result::err) {
        assert_eq!((refusal.code, refusal.retry_after_seconds), (Code::LoginRateLimited, Some(1)));
    }
    let mut through: Vec<Exchange> = through.into_iter().filter_map(Result::ok).collect();
    // One turns out to be right, one client hangs up: both make room again.
    stage.answer(through.pop().unwrap(), 200, "");
    drop(through.pop());
    through.extend((0..2).map(|number| begin(number).unwrap_or_else(|_| panic!("there is room"))));
    assert!(begin(0).is_err());
    for exchange in through {
        stage.answer(exchange, 401, "");
    }
    assert_eq!(stage.guess("203.0.113.9", "a", NOW), 403);
}

#[test]
fn a_hundred_threads_get_ten_evaluations() {
    for _ in 0..20 {
        let stage = Stage::named(json!({}));
        let evaluated: usize = std::thread::scope(|scope| {
            let guess = || (0..25).filter(|_| stage.guess("203.0.113.9", "a", NOW) == 401).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(guess)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(evaluated, 10);
    }
}

#[test]
fn nobody_is_in_flight_when_nothing_is() {
    let in_flight = Arc::new(InFlight::default());
    let (first, one) = in_flight.enter(7, 1);
    let (second, same) = in_flight.enter(7, 1);
    let (third, other) = in_flight.enter(7, 2);
    assert_eq!((one, same, other, in_flight.clients()), (1, 1, 2, 1));
    drop((first, third));
    assert_eq!(in_flight.enter(7, 2).1, 2, "the second of the same guess is still on its way");
    drop(second);
    assert_eq!(in_flight.clients(), 0);
}

#[test]
fn when_the_list_of_bans_is_full_the_logins_of_the_address_stay_closed() {
    let stage = Stage::new(json!({
        "ip_block": { "most_bans": 1, "login_watch": { "failures": 3 } },
    }));
    assert_eq!(stage.statuses("203.0.113.9", 4), [401, 401, 401, 403]);
    assert_eq!(stage.statuses("203.0.113.10", 4), [401, 401, 401, 429]);
    let exchange = stage.begin("203.0.113.10", "/other", &[], "", NOW);
    assert!(exchange.is_ok(), "what is no login passes");
    assert!(stage.ground.metrics.render().contains("ip_blocks_not_placed_total{why=\"full\"} 1"));
}

#[test]
fn allowed_addresses_and_trusted_proxies_are_not_counted() {
    let stage = Stage::new(json!({
        "trusted_proxies": ["10.0.0.1"],
        "ip_block": { "allow": ["192.0.2.0/24"], "login_watch": { "failures": 2 } },
    }));
    for from in ["192.0.2.1", "10.0.0.1"] {
        assert_eq!(stage.statuses(from, 20), [401; 20], "{from}");
    }
    assert_eq!(stage.statuses("203.0.113.9", 3), [401, 401, 403]);
}

#[test]
fn the_gateways_own_no_is_no_failed_login() {
    let stage = Stage::named(json!({ "failures": 2, "failure": { "status": [401, 503] } }));
    for _ in 0..10 {
        let mut exchange =
            stage.begin("203.0.113.9", "/login", &[("authorization", "Basic dTpw")], "", NOW).ok().unwrap();
        let (head, _) = stage.path.refuse(&mut exchange, "proxy", Refusal::new(Code::Overloaded));
        assert_eq!(head.status.as_u16(), 503);
        stage.path.finish(&exchange, &outcome(503));
    }
    assert_eq!(stage.guess("203.0.113.9", "a", NOW), 401);
}

#[test]
fn only_what_is_written_is_watched() {
    let stage = Stage::new(json!({
        "ip_block": { "login_watch": { "failures": 2, "paths": ["/login", "/auth/**"] } },
        "routes": [
            { "name": "off", "match": { "path": "/auth/off" }, "upstream": "app", "login_watch": { "enabled": false } },
            { "name": "all", "match": { "path": "/**" }, "upstream": "app" },
        ],
    }));
    let is_watched = |path: &str| {
        let exchange = stage.begin("203.0.113.9", path, &[("authorization", "Basic dTpw")], "", NOW).ok().unwrap();
        exchange.login.is_some()
    };
    for (path, expected) in [
        ("/login", true),
        ("/LOGIN/", true),
        ("/login/x", false),
        ("/loginx", false),
        ("/auth", true),
        ("/auth/a/b", true),
        ("//auth//a", true),
        ("/auth/off", false),
        ("/other", false),
    ] {
        assert_eq!(is_watched(path), expected, "{path}");
    }
    let unwatched = Stage::new(json!({}));
    let exchange = unwatched.begin("203.0.113.9", "/login", &[("authorization", "Basic dTpw")], "", NOW);
    assert!(exchange.is_ok_and(|exchange| exchange.login.is_none()));
}

#[test]
fn a_dry_run_says_how_many_failures_there_are_and_changes_nothing() {
    let stage = Stage::named(json!({}));
    assert_eq!(stage.statuses("203.0.113.9", 4), [401; 4]);
    for _ in 0..20 {
        let mut exchange = ask("GET", "/login")
            .with("host", "a")
            .with("authorization", "Basic dTpw")
            .from("203.0.113.9")
            .dry()
            .begin();
        assert!(matches!(stage.path.descend(&mut exchange), Descent::Through));
        let detail = exchange.trail.steps().last().unwrap().detail.as_deref();
        assert_eq!(detail, Some("203.0.113.9 has 4 of 10 failures within 600 s"));
    }
}

#[test]
fn mistakes_name_their_key() {
    for (value, expected) in [
        (json!({ "failures": 0 }), "failures: 0 is out of bounds"),
        (json!({ "account_failures": 20_000 }), "account_failures: 20000 is out of bounds"),
        (json!({ "window": "100ms" }), "window: must be between 1s and 24h"),
        (json!({ "ban": "0s" }), "ban: must be between 1s and 366d"),
        (json!({ "paths": ["login"] }), "paths[0]: `login` is no path"),
        (json!({ "paths": ["/a/*/b"] }), "paths[0]: `/a/*/b` is no path"),
        (json!({ "credentials": [] }), "credentials: must be 1 to 32"),
        (json!({ "failure": { "status": [99] } }), "failure.status[0]: 99 is no status"),
        (json!({ "failure": { "header": { "name": "a b" } } }), "failure.header.name: `a b` is no name"),
        (json!({ "failure": { "json": { "field": "" } } }), "failure.json.field: must be a name"),
    ] {
        let (ground, _) = ground();
        let general = config(json!({ "ip_block": { "login_watch": value } }));
        let mistakes = login_watch::build(&general, &ground).err().expect("a mistake");
        let told = format!("{}: {}", mistakes[0].path, mistakes[0].message);
        assert!(told.starts_with(&format!("ip_block.login_watch.{expected}")), "{told}");
        let route = config(json!({ "routes": [{ "name": "a", "login_watch": value }] }));
        let mistakes = login_watch::build(&route, &ground).err().expect("a mistake");
        assert!(mistakes[0].path.starts_with("routes[0].login_watch."), "{mistakes:?}");
    }
    assert!(
        serde_json::from_value::<PathConfig>(json!({ "ip_block": { "login_watch": { "failure": { "state": 1 } } } }))
            .is_err()
    );
}
