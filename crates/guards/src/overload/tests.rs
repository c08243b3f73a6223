//! Overload: marks and levels, who is shed, who may connect, and what the config refuses.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use portcullis_core::refusal::Code;
use portcullis_store::counters::Outcome;

use super::decide::{Facts, Levels, STILL_PASSING, Shed, decide, level};
use super::*;
use crate::path::{Descent, Path};
use crate::rehearsal;

fn config(overload: Value) -> PathConfig {
    serde_json::from_value(json!({ "overload": overload })).unwrap()
}

fn rules(overload: Value) -> Rules {
    Rules::compile(&config(overload)).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

const MARKS: Marks = Marks { high_percent: 85, low_percent: 75 };

#[test]
fn a_level_rises_at_its_mark_and_falls_at_the_low_one() {
    use Level::{Calm, Critical, High};
    for (before, used, expected) in [
        (Calm, 0, Calm),
        (Calm, 84, Calm),
        (Calm, 85, High),
        (High, 76, High),
        (High, 75, Calm),
        (Calm, 95, Critical),
        (Critical, 94, High),
        (Critical, 76, High),
        (Critical, 75, Calm),
        (High, 1_000_000, Critical),
    ] {
        assert_eq!(level(before, used, 100, MARKS), expected, "{before:?} at {used}");
    }
}

proptest! {
    #[test]
    fn between_the_marks_nothing_changes_but_the_end_of_critical(
        low in 10u8..94, gap in 1u8..40, share in 0u64..100, limit in 1u64..=u64::MAX, was in 0u8..3
    ) {
        let marks = Marks { high_percent: (low + gap).min(95), low_percent: low };
        let before = [Level::Calm, Level::High, Level::Critical][usize::from(was)];
        let used = (u128::from(limit) * u128::from(share) / 100) as u64;
        let after = level(before, used, limit, marks);
        let percent = u128::from(used) * 100 / u128::from(limit);
        if percent >= 95 {
            prop_assert_eq!(after, Level::Critical);
        } else if percent >= u128::from(marks.high_percent) {
            prop_assert_eq!(after, Level::High);
        } else if percent < u128::from(marks.low_percent) {
            prop_assert_eq!(after, Level::Calm);
        } else if before == Level::Calm {
            prop_assert_eq!(after, Level::Calm, "nothing begins below the high mark");
        }
        // A second look at the same changes nothing: it does not flutter.
        prop_assert_eq!(level(after, used, limit, marks), after);
    }
}

#[test]
fn who_is_shed() {
    use Level::{Calm, Critical, High};
    let (few, many) = (STILL_PASSING, STILL_PASSING + 1);
    for (memory, descriptors, in_flight, allowed, expected) in [
        (Calm, Calm, 1_000_000, true, None),
        (Calm, Calm, 1, false, Some(Shed::RequestsPerSecond)),
        (High, Calm, many, true, Some(Shed::Memory)),
        (High, Calm, few, true, None),
        (High, Calm, few, false, Some(Shed::RequestsPerSecond)),
        (Critical, Calm, many, true, Some(Shed::Memory)),
        (Critical, Calm, few, true, None),
        (Calm, High, many, true, Some(Shed::Descriptors)),
        (Calm, High, few, true, None),
        (Calm, Critical, many, true, Some(Shed::Descriptors)),
        (Calm, Critical, few, true, None),
        (High, Critical, many, true, Some(Shed::Memory)),
    ] {
        let outcome =
            Outcome { allowed, limit: 1, remaining: 0, reset_after_nanos: 0, retry_after_nanos: 3_000_000_000 };
        let facts = Facts { levels: Levels { memory, descriptors }, in_flight: &|| in_flight, rate: &|| outcome };
        let shed = decide(&facts).err().map(|(shed, _)| shed);
        assert_eq!(shed, expected, "{memory:?} {descriptors:?} {in_flight} {allowed}");
    }
}

#[test]
fn what_is_shed_for_pressure_takes_nothing_from_the_rate() {
    let levels = Levels { memory: Level::Critical, descriptors: Level::Calm };
    let facts = Facts { levels, in_flight: &|| 1000, rate: &|| panic!("the rate was asked") };
    assert!(decide(&facts).is_err());
}

#[test]
fn the_rate_is_of_the_whole_process_and_says_when_to_come_back() {
    let (ground, _) = rehearsal::ground();
    let config = config(json!({ "requests_per_second": 10, "burst": 3 }));
    let path = || Path::builder().add(build(&config, &ground).unwrap_or_else(|found| panic!("{found:?}"))).build();
    let path = path().expect("it needs nobody");
    // Clients of all kinds take from one bucket, and a dry run takes nothing.
    let codes: Vec<_> = ["203.0.113.1", "2001:db8::1", "203.0.113.2", "203.0.113.3"]
        .iter()
        .map(|from| {
            let mut dry = rehearsal::get("/").from(from).dry().begin();
            let _ = path.descend(&mut dry);
            let mut exchange = rehearsal::get("/").from(from).begin();
            match path.descend(&mut exchange) {
                Descent::Refused(refusal) => {
                    assert_eq!(exchange.trail.steps()[0].rule.text(), "requests_per_second");
                    assert_eq!(refusal.retry_after_seconds, Some(1));
                    assert!(!refusal.must_close);
                    Some(refusal.code)
                }
                _ => None,
            }
        })
        .collect();
    assert_eq!(codes, [None, None, None, Some(Code::Overloaded)]);
    assert!(ground.metrics.render().contains("portcullis_overload_shed_total{reason=\"requests_per_second\"} 1"));
}

#[test]
fn pressure_sheds_and_closes_and_ends_by_itself() {
    let (ground, _) = rehearsal::ground();
    let guard = build(&PathConfig::default(), &ground).unwrap_or_else(|found| panic!("{found:?}"));
    let path = Path::builder().add(guard).build().expect("it needs nobody");
    let in_flight = ground.metrics.gauge(&IN_FLIGHT, &[]);
    in_flight.set(100);
    let ask = || match path.descend(&mut rehearsal::get("/").begin()) {
        Descent::Refused(refusal) => Some((refusal.code, refusal.must_close)),
        _ => None,
    };
    let look = |used| ground.pressure.look(Resource::Memory, Reading { used, limit: 100 }, MARKS);
    assert_eq!(ask(), None, "nobody has looked yet");
    for (used, expected) in
        [(80, None), (90, Some((Code::Overloaded, true))), (80, Some((Code::Overloaded, true))), (75, None)]
    {
        look(used);
        assert_eq!(ask(), expected, "at {used} percent");
    }
}

fn connections(ground: &Ground) -> Arc<Connections> {
    Arc::clone(&ground.connections)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn row_130_an_address_has_so_many_and_gets_them_back() {
    let (ground, _) = rehearsal::ground();
    let connections = connections(&ground);
    let mut path = config(json!({ "connections_per_address": 2, "exempt": ["198.51.100.0/24"] }));
    path.trusted_proxies = vec!["192.0.2.0/24".parse().unwrap()];
    let rules = Rules::compile(&path).unwrap();
    let admit = |address: &str| connections.admit(&rules, Some(ip(address)), 20);
    let held = (admit("203.0.113.1").unwrap(), admit("203.0.113.1").unwrap());
    assert_eq!(admit("203.0.113.1").err(), Some(Turned::Address));
    // An IPv4-mapped address is the IPv4 address.
    assert_eq!(admit("::ffff:203.0.113.1").err(), Some(Turned::Address));
    let other = admit("203.0.113.2").unwrap();
    // A whole /64 is one client, another /64 another one.
    let network = (admit("2001:db8::1").unwrap(), admit("2001:db8::ffff:2").unwrap());
    assert_eq!(admit("2001:db8::3").err(), Some(Turned::Address));
    let neighbour = admit("2001:db8:0:1::1").unwrap();
    // Those that may have any number are counted as open and for nobody.
    let exempt: Vec<_> =
        (0..10).flat_map(|_| [admit("192.0.2.7"), admit("198.51.100.7")]).map(Result::unwrap).collect();
    assert_eq!((connections.open(), connections.addresses()), (26, 4));
    drop(held.0);
    assert!(admit("203.0.113.1").is_ok());
    drop((held.1, other, network, neighbour, exempt));
    assert_eq!((connections.open(), connections.addresses()), (0, 0));
    let told = ground.metrics.render();
    assert!(told.contains("portcullis_overload_connections_refused_total{reason=\"address\"} 3"), "{told}");
}

#[test]
fn a_connection_of_a_proxy_counts_for_the_address_that_it_tells() {
    let (ground, _) = rehearsal::ground();
    let (connections, rules) = (connections(&ground), rules(json!({ "connections_per_address": 1 })));
    let admit = || connections.admit(&rules, None, 20).unwrap();
    let (mut first, mut second) = (admit(), admit());
    assert_eq!((connections.open(), connections.addresses()), (2, 0));
    assert!(first.count_for(&rules, ip("203.0.113.1")).is_ok());
    assert!(first.count_for(&rules, ip("203.0.113.2")).is_ok(), "it is told once");
    assert!(second.count_for(&rules, ip("203.0.113.1")).is_err());
    assert_eq!((connections.open(), connections.addresses()), (2, 1));
    drop((first, second));
    assert_eq!((connections.open(), connections.addresses()), (0, 0));
}

#[test]
fn row_130_many_threads_never_have_more_than_the_limit_and_end_at_zero() {
    let (ground, _) = rehearsal::ground();
    let connections = connections(&ground);
    let rules = rules(json!({ "connections_per_address": 3 }));
    let most = std::sync::atomic::AtomicU32::new(0);
    let now = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::SeqCst;
                for _ in 0..2_000 {
                    let Ok(slot) = connections.admit(&rules, Some(ip("203.0.113.1")), 5) else { continue };
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    now.fetch_sub(1, SeqCst);
                    drop(slot);
                }
            });
        }
    });
    assert!((1..=3).contains(&most.into_inner()));
    assert_eq!((connections.open(), connections.addresses()), (0, 0));
}

#[test]
fn the_last_descriptors_and_the_last_memory_are_not_for_clients() {
    let (ground, _) = rehearsal::ground();
    let (connections, rules) = (connections(&ground), rules(json!({})));
    ground.pressure.reserve_descriptors(48);
    assert!(connections.admit(&rules, Some(ip("203.0.113.1")), 47).is_ok());
    assert_eq!(connections.admit(&rules, Some(ip("203.0.113.1")), 48).err(), Some(Turned::Descriptors));
    ground.pressure.look(Resource::Memory, Reading { used: 90, limit: 100 }, MARKS);
    assert!(connections.admit(&rules, Some(ip("203.0.113.1")), 5).is_ok());
    ground.pressure.look(Resource::Memory, Reading { used: 96, limit: 100 }, MARKS);
    // So few cannot be what fills the memory.
    let few: Vec<_> = (0..STILL_PASSING).map(|_| connections.admit(&rules, Some(ip("203.0.113.1")), 5)).collect();
    assert!(few.iter().all(Result::is_ok));
    assert_eq!(connections.admit(&rules, Some(ip("203.0.113.1")), 5).err(), Some(Turned::Memory));
    drop(few);
    assert_eq!((connections.open(), connections.addresses()), (0, 0));
}

#[test]
fn explain_tells_what_is_known() {
    let (ground, _) = rehearsal::ground();
    let guard = build(&PathConfig::default(), &ground).unwrap_or_else(|found| panic!("{found:?}"));
    let path = Path::builder().add(guard).build().unwrap();
    ground.pressure.look(Resource::Descriptors, Reading { used: 20, limit: 48 }, MARKS);
    let mut exchange = rehearsal::get("/").dry().begin();
    assert!(matches!(path.descend(&mut exchange), Descent::Through));
    let detail = exchange.trail.steps()[0].detail.as_deref();
    assert_eq!(detail, Some("memory unknown, descriptors 20 of 48, at most 10000 requests a second"));
}

#[test]
fn each_mistake_is_told_at_its_place() {
    let mistakes = |overload: Value| {
        let found = Rules::compile(&config(overload)).err().unwrap_or_default();
        found.into_iter().map(|mistake| mistake.path).collect::<Vec<_>>()
    };
    assert!(mistakes(json!({})).is_empty());
    for (overload, path) in [
        (json!({ "connections_per_address": 0 }), "overload.connections_per_address"),
        (json!({ "requests_per_second": 0 }), "overload.requests_per_second"),
        (json!({ "requests_per_second": 1_000_001, "burst": 5 }), "overload.requests_per_second"),
        (json!({ "burst": 0 }), "overload.burst"),
        (json!({ "memory": "1MiB" }), "overload.memory"),
        (json!({ "high_percent": 96 }), "overload.high_percent"),
        (json!({ "low_percent": 5 }), "overload.low_percent"),
        (json!({ "low_percent": 85 }), "overload.low_percent"),
        (json!({ "exempt": ["10.0.0.0/8", "0.0.0.0/0"] }), "overload.exempt[1]"),
    ] {
        assert_eq!(mistakes(overload.clone()), [path], "{overload}");
    }
    assert_eq!(mistakes(json!({ "burst": 0, "memory": "1B", "connections_per_address": 0 })).len(), 3);
}
