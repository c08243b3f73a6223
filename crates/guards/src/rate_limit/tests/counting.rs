//! How much passes: exactly what the policies say, under concurrency, floods and clocks that jump.

use proptest::prelude::*;

use super::*;

fn bucket(limit: &str, burst: u64) -> PathConfig {
    general(json!([{ "name": "api", "limit": limit, "burst": burst }]))
}

#[test]
fn a_route_and_a_policy_both_have_a_cost() {
    let guard = build(&general(json!([{ "name": "api", "limit": "60/1m", "cost": 2 }])));
    assert_eq!(passed(&guard, 99, || Request::at(0)), 30);
    assert_eq!(passed(&guard, 99, || Request::at(0).from("192.0.2.2").on(0, "dear", 7)), 4);
    // 4 units are left and 14 are needed: ten seconds.
    assert_eq!(take(&guard, Request::at(0).from("192.0.2.2").on(0, "dear", 7)), Some(10));
    assert_eq!(take(&guard, Request::at(10 * SECOND).from("192.0.2.2").on(0, "dear", 7)), None);
}

#[test]
fn a_request_that_one_policy_refuses_takes_nothing_from_the_others() {
    let guard = build(&general(json!([
        { "name": "day", "limit": "10/1d" },
        { "name": "second", "limit": "1/1s" },
    ])));
    for second in 0..10 {
        assert_eq!(passed(&guard, 50, || Request::at(second * SECOND)), 1, "in second {second}");
    }
    assert_eq!(take(&guard, Request::at(10 * SECOND)), Some(8640 - 10), "the tenth was the last of the day");
}

#[test]
fn the_longest_wait_is_told_and_the_policy_that_asks_for_it_is_named() {
    let guard = build(&general(json!([
        { "name": "short", "limit": "1/5s" },
        { "name": "long", "limit": "1/50s" },
        { "name": "wide", "limit": "9/1s" },
    ])));
    assert_eq!(take(&guard, Request::at(0)), None);
    let mut exchange = Request::at(SECOND).exchange(Touch::Take);
    assert_eq!(ask(&guard, &mut exchange), Some(49));
    assert_eq!(exchange.rule.text(), "long");
}

#[test]
fn shadow_counts_but_refuses_nobody_and_tells_nothing() {
    let ground = ground();
    let config = general(json!([
        { "name": "trial", "limit": "2/1h", "shadow": true },
        { "name": "real", "limit": "4/1h" },
    ]));
    let guard = super::super::build(&config, &ground).unwrap();
    let mut decided = Vec::new();
    for _ in 0..6 {
        let mut exchange = Request::at(0).exchange(Touch::Take);
        let refused = ask(&guard, &mut exchange).is_some();
        let noted: Vec<_> =
            exchange.trail.steps().iter().map(|step| (step.decision.name(), step.rule.text().to_owned())).collect();
        let head = told(&guard, &mut exchange, HeaderMap::new());
        assert!(!format!("{head:?}").contains("trial"), "{head:?}");
        decided.push((refused, noted.len()));
    }
    let would = (false, 1);
    assert_eq!(decided, [(false, 0), (false, 0), would, would, (true, 0), (true, 0)]);
    let text = ground.metrics.render();
    for (policy, result, count) in [
        ("trial", "allowed", 2),
        ("trial", "would_refuse", 2),
        ("trial", "refused", 0),
        ("real", "allowed", 4),
        ("real", "refused", 2),
        ("real", "would_refuse", 0),
    ] {
        let line = format!("p_rate_limit_decisions_total{{policy=\"{policy}\",result=\"{result}\"}} {count}\n");
        assert!(text.contains(&line), "no {line} in {text}");
    }
}

#[test]
fn a_policy_in_shadow_alone_shows_no_fields() {
    let guard = build(&general(json!([{ "name": "trial", "limit": "1/1h", "shadow": true }])));
    assert_eq!(passed(&guard, 9, || Request::at(0)), 9);
    let mut exchange = Request::at(0).exchange(Touch::Take);
    ask(&guard, &mut exchange);
    assert!(told(&guard, &mut exchange, HeaderMap::new()).is_empty());
}

#[test]
fn nearing_the_limit_is_counted_once_for_each_rise() {
    let ground = ground();
    let guard = super::super::build(&bucket("10/10s", 10), &ground).unwrap();
    let count = || {
        let text = ground.metrics.render();
        let line = text.lines().find(|line| line.starts_with("p_rate_limit_near_limit_total{")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(count(), 0, "it is there before anything happens");
    assert_eq!(passed(&guard, 7, || Request::at(0)), 7);
    assert_eq!(count(), 0);
    passed(&guard, 20, || Request::at(0));
    assert_eq!(count(), 1);
    passed(&guard, 20, || Request::at(60 * SECOND));
    assert_eq!(count(), 2);
}

/// A dry run decides as the real request that follows it, and counts nothing.
#[test]
fn looking_changes_nothing_and_foretells_what_happens() {
    let ground = ground();
    let config = general(json!([
        { "name": "a", "limit": "3/1h" },
        { "name": "b", "limit": "5/1h" },
        { "name": "c", "limit": "2/1h", "shadow": true },
    ]));
    let guard = super::super::build(&config, &ground).unwrap();
    for _ in 0..5 {
        let before = ground.metrics.render();
        let mut looks: Vec<Exchange> = (0..3).map(|_| Request::at(0).exchange(Touch::Peek)).collect();
        let foretold: Vec<_> = looks.iter_mut().map(|exchange| ask(&guard, exchange)).collect();
        assert_eq!(ground.metrics.render(), before);
        let mut real = Request::at(0).exchange(Touch::Take);
        let happened = ask(&guard, &mut real);
        for (look, answer) in looks.iter_mut().zip(foretold) {
            assert_eq!(answer, happened);
            assert_eq!(told(&guard, look, HeaderMap::new()), told(&guard, &mut real, HeaderMap::new()));
            assert_eq!(look.trail.steps().len(), real.trail.steps().len(), "shadow refusals are foretold too");
        }
        assert!(looks[0].detail.as_deref().unwrap().starts_with("a by address: takes 1"), "{:?}", looks[0].detail);
        assert!(real.detail.is_none());
    }
}

#[test]
fn looking_at_one_policy_takes_nothing_either() {
    let guard = build(&bucket("1/1h", 1));
    assert!((0..5).all(|_| ask(&guard, &mut Request::at(0).exchange(Touch::Peek)).is_none()));
    assert_eq!(passed(&guard, 5, || Request::at(0)), 1);
    assert!(ask(&guard, &mut Request::at(0).exchange(Touch::Peek)).is_some());
}

/// Counters belong to the name of the policy, so a reload forgets nobody.
#[test]
fn a_reload_keeps_what_was_used() {
    let ground = ground();
    let config = bucket("5/1h", 5);
    let before = super::super::build(&config, &ground).unwrap();
    assert_eq!(passed(&before, 9, || Request::at(0)), 5);
    let after = super::super::build(&config, &ground).unwrap();
    assert_eq!(passed(&after, 9, || Request::at(0)), 0);
}

/// Row 122: a flood of new addresses neither frees the flooder's own limit nor locks out someone new.
#[test]
fn a_flood_of_new_clients_frees_nobody_and_locks_out_nobody() {
    let ground = ground_of(64 * 1024);
    let guard = super::super::build(&bucket("10/1h", 10), &ground).unwrap();
    let attacker = || Request::at(0).from("203.0.113.7");
    assert_eq!(passed(&guard, 20, attacker), 10);
    for number in 0..100_000_u32 {
        let address = std::net::Ipv4Addr::from(0x0A00_0000 + number).to_string();
        take(&guard, Request::at(0).from(&address));
        if number % 10_000 == 0 {
            assert_eq!(passed(&guard, 3, attacker), 0, "after {number} others");
        }
    }
    assert_eq!(passed(&guard, 3, attacker), 0);
    let newcomers = (0..100_u8).filter(|host| {
        let address = format!("198.51.100.{host}");
        take(&guard, Request::at(0).from(&address)).is_none()
    });
    assert_eq!(newcomers.count(), 100);
}

/// Row 123: around the edge of a fixed window up to twice the limit passes, as documented, and never more.
#[test]
fn a_fixed_window_lets_at_most_twice_its_limit_through_around_its_edge() {
    let guard = build(&general(json!([{ "name": "api", "limit": "10/10s", "algorithm": "fixed_window" }])));
    assert_eq!(passed(&guard, 99, || Request::at(10 * SECOND - 1)), 10);
    assert_eq!(passed(&guard, 99, || Request::at(11 * SECOND)), 10, "the edge was at ten seconds");
    assert_eq!(passed(&guard, 99, || Request::at(12 * SECOND)), 0, "the second window has ten in all");
}

/// Row 124: one key, many threads, no time passes.
#[test]
fn threads_on_one_subject_get_exactly_the_burst() {
    for (config, expected) in [
        (bucket("50/1h", 50), 50),
        (general(json!([{ "name": "a", "limit": "50/1h" }, { "name": "b", "limit": "30/1h" }])), 30),
        (
            general(
                json!([{ "name": "a", "limit": "30/1h" }, { "name": "b", "limit": "31/1h" }, { "name": "c", "limit": "40/1h" }]),
            ),
            30,
        ),
        (
            general(
                json!([{ "name": "a", "limit": "32/1h" }, { "name": "b", "limit": "31/1h" }, { "name": "c", "limit": "30/1h" }]),
            ),
            30,
        ),
    ] {
        for _ in 0..20 {
            let guard = build(&config);
            let barrier = std::sync::Barrier::new(64);
            let admitted: usize = std::thread::scope(|scope| {
                let one = || {
                    barrier.wait();
                    usize::from(take(&guard, Request::at(0)).is_none())
                };
                let threads: Vec<_> = (0..64).map(|_| scope.spawn(one)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(admitted, expected);
        }
    }
}

/// Row 128: the guard's clock is monotonic; should a reading jump all the same, nobody wins or is locked out for long.
#[test]
fn a_clock_that_jumps_gives_no_free_burst_and_no_long_lockout() {
    let hour = 3600 * SECOND;
    for start in [0, 2 * hour] {
        let guard = build(&bucket("10/10s", 10));
        assert_eq!(passed(&guard, 20, || Request::at(start + hour)), 10);
        let after_step_back = passed(&guard, 20, || Request::at(start));
        assert_eq!(after_step_back, 0, "an hour back gives nothing away");
        assert_eq!(passed(&guard, 20, || Request::at(start + 10 * SECOND)), 10, "and is over after one refill");
        assert!(passed(&guard, 40, || Request::at(start + 3 * hour)) <= 10, "two hours ahead give one burst");
        assert!(passed(&guard, 40, || Request::at(u64::MAX)) <= 10);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Row 123: whatever the schedule, a bucket never admits more than its burst and what came back meanwhile.
    #[test]
    fn a_bucket_never_admits_more_than_burst_and_rate_times_time(
        (count, burst) in (1_u64..50, 1_u64..50),
        pauses in proptest::collection::vec(0_u64..400_000_000, 1..200),
    ) {
        let guard = build(&bucket(&format!("{count}/1s"), burst));
        let mut now = 0;
        let mut admitted: Vec<u64> = Vec::new();
        for pause in pauses {
            now += pause;
            if take(&guard, Request::at(now)).is_none() {
                admitted.push(now);
            }
            for (place, first) in admitted.iter().enumerate() {
                let in_span = (admitted.len() - place) as u64;
                prop_assert!(in_span <= burst + (now - first) * count / SECOND);
            }
        }
    }

    /// A reference model of several policies: all are asked, and all or none are charged.
    #[test]
    fn several_policies_together_admit_what_a_plain_model_admits(
        limits in proptest::collection::vec(1_u64..6, 1..4),
        schedule in proptest::collection::vec(0_u64..3, 1..100),
    ) {
        let policies: Value = limits
            .iter()
            .enumerate()
            .map(|(place, limit)| json!({ "name": format!("p{place}"), "limit": format!("{limit}/{limit}s") }))
            .collect();
        let guard = build(&general(policies));
        // Every policy gives one unit back each second.
        let mut left: Vec<u64> = limits.clone();
        let mut now = 0;
        for pause in schedule {
            now += pause * SECOND;
            for (left, limit) in left.iter_mut().zip(&limits) {
                *left = (*left + pause).min(*limit);
            }
            let expected = left.iter().all(|left| *left > 0);
            prop_assert_eq!(take(&guard, Request::at(now)).is_none(), expected);
            if expected {
                left.iter_mut().for_each(|left| *left -= 1);
            }
        }
    }
}
