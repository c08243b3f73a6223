//! The register: the ladder, wider networks, bounds, clocks that jump, restarts, and a model that counts another way.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use portcullis_store::bans::{Ending, MOST_PAST, Record};
use proptest::prelude::*;

use super::*;

const DAY: u64 = 86_400;

#[test]
fn bans_hold_to_their_last_nanosecond_and_not_longer() {
    let bans = register(json!({}));
    bans.add(by_watch("203.0.113.9"), &at(0)).unwrap();
    let end = at(3600);
    let just_before = Now { monotonic_nanos: end.monotonic_nanos - 1, ..end };
    assert!(is_banned(&bans, "203.0.113.9", &just_before));
    assert!(!is_banned(&bans, "203.0.113.9", &end));
    assert!(!is_banned(&bans, "203.0.113.8", &at(1)));
}

#[test]
fn who_comes_back_stays_out_longer_and_the_last_rung_is_the_last() {
    let bans = register(json!({ "ip_block": { "ladder": ["4h", "24h", "168h"] } }));
    let mut now = 0;
    for expected in [1, 4, 24, 168, 168] {
        assert_eq!(hours(bans.add(by_watch("203.0.113.9"), &at(now))), expected);
        now += expected * 3600;
    }
    // A month after the last one began they are forgotten.
    assert_eq!(hours(bans.add(by_watch("203.0.113.9"), &at(now + 31 * DAY))), 1);
    assert_eq!(hours(bans.add(by_watch("203.0.113.10"), &at(now))), 1, "somebody else begins below");
}

#[test]
fn what_a_person_lifted_or_set_is_no_rung() {
    let bans = register(json!({}));
    let network = net("203.0.113.9");
    bans.add(by_watch("203.0.113.9"), &at(0)).unwrap();
    assert!(bans.remove(&network, &at(10)).is_some());
    assert!(bans.remove(&network, &at(11)).is_none(), "twice");
    assert!(!is_banned(&bans, "203.0.113.9", &at(11)));
    assert_eq!(hours(bans.add(by_watch("203.0.113.9"), &at(20))), 1);
    // A person's ban is as long as it says, and a person may shorten one.
    let shorter = bans.add(order("203.0.113.9", Origin::Operator, Some(Duration::from_secs(60))), &at(30)).unwrap();
    assert_eq!(shorter.left, Some(Duration::from_secs(60)));
    assert_eq!(shorter.record.past.last().unwrap().ending, Ending::Replaced);
    let endless = bans.add(order("203.0.113.9", Origin::Operator, None), &at(40)).unwrap();
    assert_eq!((endless.left, endless.record.past.len()), (None, 3));
    assert!(is_banned(&bans, "203.0.113.9", &at(400 * DAY)));
}

#[test]
fn a_second_trip_inside_a_ban_changes_nothing() {
    let bans = register(json!({}));
    bans.add(by_watch("203.0.113.9"), &at(0)).unwrap();
    let again = bans.add(by_watch("203.0.113.9"), &at(1800)).unwrap();
    assert_eq!((again.left, again.record.past.len()), (Some(Duration::from_secs(1800)), 0));
    bans.add(order("203.0.113.0/24", Origin::Operator, None), &at(1900)).unwrap();
    let inside = bans.add(by_watch("203.0.113.77"), &at(1900)).unwrap();
    assert_eq!(inside.record.network, net("203.0.113.0/24"), "the wider one holds already");
}

/// Row 121: who rotates inside a wider network meets the wider ban.
#[test]
fn row_121_many_networks_of_one_wider_network_ban_all_of_it() {
    let bans = register(json!({}));
    for third in 0..3 {
        bans.add(by_watch(&format!("2001:db8:0:{third}::/64")), &at(third)).unwrap();
    }
    assert!(!is_banned(&bans, "2001:db8:0:ff::1", &at(10)));
    // One that a person lifted was a mistake and does not count.
    bans.remove(&net("2001:db8:0:2::/64"), &at(10)).unwrap();
    bans.add(by_watch("2001:db8:0:3::/64"), &at(11)).unwrap();
    assert!(!is_banned(&bans, "2001:db8:0:ff::1", &at(12)));
    bans.add(by_watch("2001:db8:0:4::/64"), &at(13)).unwrap();
    assert!(is_banned(&bans, "2001:db8:0:ff::1", &at(14)));
    assert!(!is_banned(&bans, "2001:db8:0:100::1", &at(14)), "the next /56 is someone else");
    let wide = bans.show(&net("2001:db8::/56"), &at(14)).unwrap();
    assert_eq!(wide.record.ban.unwrap().origin, Origin::WiderNetwork);
    // A day later the old ones do not count any more.
    let bans = register(json!({}));
    for third in 0..4 {
        bans.add(by_watch(&format!("2001:db8:0:{third}::/64")), &at(third * DAY / 2)).unwrap();
    }
    assert!(!is_banned(&bans, "2001:db8:0:ff::1", &at(2 * DAY)));
}

#[test]
fn trusted_proxies_allowed_networks_and_everybody_are_never_banned() {
    let bans = register(
        json!({ "trusted_proxies": ["10.0.0.1", "2001:db8:0:7::1"], "ip_block": { "allow": ["192.0.2.0/24"] } }),
    );
    for (network, expected) in [
        ("10.0.0.1", NotPlaced::TrustedProxy),
        ("10.0.0.0/8", NotPlaced::TrustedProxy),
        ("2001:db8:0:7::/64", NotPlaced::TrustedProxy),
        ("192.0.2.7", NotPlaced::Allowed),
        ("192.0.2.0/25", NotPlaced::Allowed),
        ("0.0.0.0/0", NotPlaced::Everybody),
        ("::/0", NotPlaced::Everybody),
    ] {
        for origin in [Origin::Operator, Origin::LoginWatch] {
            assert_eq!(bans.add(order(network, origin, Some(HOUR)), &at(0)), Err(expected), "{network}");
        }
    }
    // Four networks around a proxy's are banned; the wider one with the proxy in it is not.
    for third in 0..4 {
        bans.add(by_watch(&format!("2001:db8:0:{third}::/64")), &at(third)).unwrap();
    }
    assert!(!is_banned(&bans, "2001:db8:0:7::1", &at(10)) && is_banned(&bans, "2001:db8:0:3::1", &at(10)));
    assert!(bans.events().iter().any(|event| event.what == "ban_not_placed" && event.network == net("2001:db8::/56")));
}

#[test]
fn the_number_is_bounded_the_past_gives_way_and_bans_that_hold_do_not() {
    let bans = register(json!({ "ip_block": { "most_bans": 3 } }));
    for host in 0..3 {
        bans.add(order(&format!("203.0.113.{host}"), Origin::LoginWatch, Some(HOUR * (host + 1))), &at(0)).unwrap();
    }
    assert_eq!(bans.add(by_watch("203.0.113.9"), &at(1)), Err(NotPlaced::Full));
    assert!((0..3).all(|host| is_banned(&bans, &format!("203.0.113.{host}"), &at(1))), "none gave way");
    bans.add(by_watch("203.0.113.0"), &at(1)).expect("one that is known needs no room");
    // An hour later the first is over and gives way, and the store is told to forget it.
    bans.add(by_watch("203.0.113.9"), &at(3600)).unwrap();
    assert_eq!(bans.show(&net("203.0.113.0"), &at(3600)), None);
    assert_eq!(bans.changes(100).forgotten, [net("203.0.113.0")]);
    for round in 0..30 {
        bans.add(order("203.0.113.1", Origin::Operator, None), &at(3601 + round)).unwrap();
    }
    assert_eq!(bans.show(&net("203.0.113.1"), &at(3700)).unwrap().record.past.len(), MOST_PAST);
}

#[test]
fn what_is_old_is_forgotten_here_and_in_the_store() {
    let bans = register(json!({}));
    bans.add(by_watch("203.0.113.9"), &at(0)).unwrap();
    bans.add(order("203.0.113.10", Origin::Operator, None), &at(0)).unwrap();
    bans.tick(&at(3600));
    let _ = bans.changes(100);
    bans.tick(&at(3600 + 30 * DAY));
    assert!(bans.show(&net("203.0.113.9"), &at(3600 + 30 * DAY)).is_some(), "not yet");
    bans.tick(&at(3700 + 30 * DAY));
    let changes = bans.changes(100);
    assert_eq!((changes.records.len(), changes.forgotten), (0, vec![net("203.0.113.9")]));
    assert!(is_banned(&bans, "203.0.113.10", &at(3700 + 30 * DAY)));
}

#[test]
fn changes_are_handed_out_once_and_again_when_they_were_not_written() {
    let bans = register(json!({}));
    for host in 0..5 {
        bans.add(by_watch(&format!("203.0.113.{host}")), &at(0)).unwrap();
    }
    let first = bans.changes(3);
    assert_eq!(first.records.len(), 3);
    assert_eq!(bans.changes(100).records.len(), 2);
    assert!(bans.changes(100).is_empty());
    bans.put_back(&first);
    bans.put_back(&first);
    assert_eq!(bans.changes(100), first);
    // What changed meanwhile is written as it is then, not as it was.
    bans.put_back(&first);
    bans.remove(&net("203.0.113.0"), &at(1)).unwrap();
    let later = bans.changes(100);
    assert_eq!(later.records.len(), 3);
    assert_eq!(later.records[0].ban, None);
}

/// Row 176: a step of the wall clock moves no end in the process, and what is written follows it.
#[test]
fn row_176_a_step_of_the_wall_clock_neither_frees_nor_holds() {
    for step in [-3_600_000i64 * 24 * 365 * 50, -3_600_000, 3_600_000, 3_600_000 * 24 * 365] {
        let bans = register(json!({}));
        bans.tick(&at(0));
        bans.add(by_watch("203.0.113.9"), &at(0)).unwrap();
        let _ = bans.changes(100);
        let stepped = |seconds| Now { unix_millis: at(seconds).unix_millis.saturating_add_signed(step), ..at(seconds) };
        bans.tick(&stepped(600));
        assert!(is_banned(&bans, "203.0.113.9", &stepped(3599)), "step {step}");
        assert!(!is_banned(&bans, "203.0.113.9", &stepped(3600)), "step {step}");
        let written = bans.changes(100).records;
        let after_restart = register(json!({}));
        let restart = Now { monotonic_nanos: 0, ..stepped(600) };
        after_restart.load(written, &restart);
        let left = after_restart.show(&net("203.0.113.9"), &restart).unwrap().left;
        assert_eq!(left, Some(Duration::from_secs(3000)), "step {step}");
    }
}

#[test]
fn a_restart_keeps_what_is_left_ends_what_is_over_and_never_lengthens() {
    let bans = register(json!({}));
    bans.add(by_watch("203.0.113.1"), &at(0)).unwrap();
    bans.add(order("203.0.113.2", Origin::Operator, None), &at(0)).unwrap();
    let records: Vec<Record> = bans.changes(100).records;
    let restarted = |unix_seconds: i64| {
        let bans = register(json!({}));
        let now = Now { monotonic_nanos: 5, unix_millis: EPOCH_MILLIS.saturating_add_signed(unix_seconds * 1000) };
        bans.load(records.clone(), &now);
        (bans, now)
    };
    let (soon, now) = restarted(600);
    assert_eq!(soon.show(&net("203.0.113.1"), &now).unwrap().left, Some(Duration::from_secs(3000)));
    assert!(is_banned(&soon, "203.0.113.2", &now));
    // The clock is at 1970: the ban lasts as long as it was meant to last, not fifty years.
    let (early, now) = restarted(-2_000_000_000);
    assert_eq!(early.show(&net("203.0.113.1"), &now).unwrap().left, Some(HOUR));
    let (late, now) = restarted(3601);
    let over = late.show(&net("203.0.113.1"), &now).unwrap().record;
    assert!(over.ban.is_none() && over.past[0].ending == Ending::Expired);
    assert_eq!(hours(late.add(by_watch("203.0.113.1"), &now)), 4, "the past counts after a restart");
}

#[test]
fn threads_that_trip_at_once_place_one_ban() {
    let bans = register(json!({}));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for host in 0..200 {
                    let network = format!("203.0.{}.{}", host / 100, host % 100);
                    bans.add(by_watch(&network), &at(0)).unwrap();
                    assert!(is_banned(&bans, &network, &at(1)));
                }
            });
        }
    });
    let all = bans.list(None, 1000, true, &at(2));
    assert_eq!(all.len(), 200);
    assert!(all.iter().all(|known| known.record.past.is_empty()), "nobody climbed a rung by being quick");
}

#[derive(Clone, Debug)]
enum Step {
    Add(u32, u8, Option<u64>),
    Remove(u32, u8),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // A few networks close to each other, so that they nest.
    let network = || (0u32..4, prop::sample::select(vec![30u8, 31, 32]));
    let step = prop_oneof![
        (network(), prop::option::of(1u64..500)).prop_map(|((bits, prefix), time)| Step::Add(bits, prefix, time)),
        network().prop_map(|(bits, prefix)| Step::Remove(bits, prefix)),
        (1u64..300).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

fn near(bits: u32, prefix: u8) -> Cidr {
    let first = (0xCB00_7100 | bits) & (u32::MAX << (32 - prefix));
    Cidr::new(Ipv4Addr::from_bits(first).into(), prefix).unwrap()
}

proptest! {
    /// Bans of a person against a list of ends: an address is out exactly when a network around it has one ahead.
    #[test]
    fn the_register_is_a_list_of_ends(steps in steps()) {
        let bans = register(json!({}));
        let mut model: HashMap<Cidr, Option<u64>> = HashMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Add(bits, prefix, time) => {
                    let network = near(bits, prefix);
                    let order = Order { network, origin: Origin::Operator, reason: String::new(), time: time.map(Duration::from_secs) };
                    prop_assert!(bans.add(order, &at(now)).is_ok());
                    model.insert(network, time.map(|time| now + time));
                }
                Step::Remove(bits, prefix) => {
                    let network = near(bits, prefix);
                    let was = model.remove(&network).is_some_and(|until| until.is_none_or(|until| until > now));
                    prop_assert_eq!(bans.remove(&network, &at(now)).is_some(), was);
                }
                Step::Wait(time) => now += time,
            }
            for host in 0..8 {
                let address = IpAddr::from(Ipv4Addr::from_bits(0xCB00_7100 | host));
                let expected = model.iter().any(|(network, until)| network.contains(address) && until.is_none_or(|until| until > now));
                prop_assert_eq!(bans.find(address, &at(now)).is_some(), expected, "{} at {}", address, now);
            }
            let listed = bans.list(None, 100, false, &at(now)).len();
            prop_assert_eq!(listed, model.values().filter(|until| until.is_none_or(|until| until > now)).count());
        }
    }
}
