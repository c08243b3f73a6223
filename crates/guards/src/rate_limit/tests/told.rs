//! What clients are told: the fields parse as the draft says, agree with each other, and loosen nothing.

use proptest::prelude::*;

use super::*;

/// A member of a structured field list of strings with integer parameters.
type Member = (String, Vec<(String, u64)>);

/// Reads what RFC 9651 allows here: a List of Strings whose parameters are non-negative Integers. Panics on the rest.
fn list(text: &str) -> Vec<Member> {
    let members = text.split(',').map(|member| {
        let (name, parameters) = member.trim_matches(' ').strip_prefix('"').unwrap().split_once('"').unwrap();
        assert!(name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'\\'));
        let parameters = parameters.strip_prefix(';').unwrap().split(';').map(|parameter| {
            let (key, value) = parameter.split_once('=').unwrap();
            assert!(key.bytes().all(|byte| byte.is_ascii_lowercase()));
            assert!(value.len() <= 15 && value.bytes().all(|byte| byte.is_ascii_digit()), "{value}");
            (key.to_owned(), value.parse().unwrap())
        });
        (name.to_owned(), parameters.collect())
    });
    members.collect()
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap().to_owned()
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    text(headers, name).parse().unwrap()
}

#[test]
fn every_answer_of_a_limited_route_says_where_the_client_stands() {
    let guard = build(&general(json!([
        { "name": "burst", "limit": "20/10s" },
        { "name": "daily", "limit": "1000/1d", "algorithm": "fixed_window" },
    ])));
    let mut exchange = Request::at(SECOND / 2).exchange(Touch::Take);
    assert_eq!(ask(&guard, &mut exchange), None);
    let head = told(&guard, &mut exchange, HeaderMap::new());
    assert_eq!(text(&head, "ratelimit-policy"), r#""burst";q=20;w=10, "daily";q=1000;w=86400"#);
    assert_eq!(text(&head, "ratelimit"), r#""burst";r=19;t=1, "daily";r=999;t=86400"#);
    assert_eq!(number(&head, "x-ratelimit-limit"), 20);
    assert_eq!(number(&head, "x-ratelimit-remaining"), 19);
    assert_eq!(number(&head, "x-ratelimit-reset"), EPOCH_MILLIS / 1000 + 1);
    assert_eq!(head.len(), 5);
}

#[test]
fn quota_and_window_are_the_burst_and_the_time_it_takes_to_come_back() {
    for (policy, expected) in [
        (json!({ "name": "p", "limit": "100/60s" }), "q=100;w=60"),
        (json!({ "name": "p", "limit": "100/1s", "burst": 200 }), "q=200;w=2"),
        (json!({ "name": "p", "limit": "200/10s", "burst": 50 }), "q=50;w=3"),
        (json!({ "name": "p", "limit": "3/1s" }), "q=3;w=1"),
        (json!({ "name": "p", "limit": "1/500ms" }), "q=1;w=1"),
        (json!({ "name": "p", "limit": "10/1m", "algorithm": "fixed_window" }), "q=10;w=60"),
    ] {
        let guard = build(&general(json!([policy.clone()])));
        let mut exchange = Request::at(0).exchange(Touch::Take);
        ask(&guard, &mut exchange);
        let head = told(&guard, &mut exchange, HeaderMap::new());
        assert_eq!(text(&head, "ratelimit-policy"), format!("\"p\";{expected}"), "{policy}");
    }
}

/// A third of a second is no whole number of nanoseconds; three of them must still not become two seconds.
#[test]
fn a_reset_is_never_later_than_the_window() {
    let guard = build(&general(json!([{ "name": "p", "limit": "3/1s" }])));
    assert_eq!(passed(&guard, 2, || Request::at(0)), 2);
    let mut exchange = Request::at(0).exchange(Touch::Take);
    ask(&guard, &mut exchange);
    let head = told(&guard, &mut exchange, HeaderMap::new());
    assert_eq!(text(&head, "ratelimit"), r#""p";r=0;t=1"#);
}

/// Row 129: a policy that did not refuse and is whole again only after `Retry-After` leaves its `t` out.
#[test]
fn a_refusal_tells_no_reset_later_than_retry_after() {
    let guard = build(&general(json!([
        { "name": "daily", "limit": "100/1d" },
        { "name": "burst", "limit": "1/10s" },
    ])));
    assert_eq!(take(&guard, Request::at(0)), None);
    let mut exchange = Request::at(3 * SECOND).exchange(Touch::Take);
    assert_eq!(ask(&guard, &mut exchange), Some(7));
    let head = told(&guard, &mut exchange, HeaderMap::new());
    assert_eq!(text(&head, "ratelimit"), r#""daily";r=99, "burst";r=0;t=7"#);
    assert_eq!(number(&head, "x-ratelimit-remaining"), 0);
    assert_eq!(number(&head, "x-ratelimit-reset"), EPOCH_MILLIS / 1000 + 10);
}

#[test]
fn what_the_upstream_says_about_its_own_limits_is_never_loosened() {
    let guard = build(&general(json!([{ "name": "ours", "limit": "10/10s" }])));
    let after = |upstream: &[(&'static str, &str)]| {
        let mut exchange = Request::at(0).exchange(Touch::Take);
        let mut fields = HeaderMap::new();
        for (name, value) in upstream {
            fields.append(*name, value.parse().unwrap());
        }
        ask(&guard, &mut exchange);
        told(&guard, &mut exchange, fields)
    };
    // Lists: ours beside theirs.
    let head = after(&[("ratelimit", r#""theirs";r=1;t=9"#), ("ratelimit-policy", r#""theirs";q=2;w=9"#)]);
    let all = |name| head.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join(", ");
    assert_eq!(all("ratelimit"), r#""theirs";r=1;t=9, "ours";r=9;t=1"#);
    assert_eq!(list(&all("ratelimit-policy")).len(), 2);
    // Numbers: the stricter side, whole.
    let limit = |head: &HeaderMap| (text(head, "x-ratelimit-limit"), text(head, "x-ratelimit-remaining"));
    let theirs = after(&[("x-ratelimit-limit", "5"), ("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "60")]);
    assert_eq!(limit(&theirs), ("5".into(), "3".into()));
    assert_eq!(text(&theirs, "x-ratelimit-reset"), "60");
    let ours = after(&[("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "60")]);
    assert_eq!(limit(&ours), ("10".into(), "7".into()));
    assert_ne!(text(&ours, "x-ratelimit-reset"), "60");
    // What cannot be compared stays.
    assert_eq!(text(&after(&[("x-ratelimit-remaining", "few")]), "x-ratelimit-remaining"), "few");
    let bare = after(&[("x-ratelimit-limit", "5")]);
    assert_eq!((text(&bare, "x-ratelimit-limit"), bare.contains_key("x-ratelimit-remaining")), ("5".into(), false));
    let unlimited = after(&[("x-ratelimit-remaining", "2")]);
    assert_eq!(
        (text(&unlimited, "x-ratelimit-remaining"), unlimited.contains_key("x-ratelimit-limit")),
        ("2".into(), false)
    );
    assert_eq!(limit(&after(&[("x-ratelimit-remaining", "2000")])), ("10".into(), "3".into()));
}

#[test]
fn the_longest_names_and_largest_numbers_fit() {
    let policies: Value = (0..8)
        .map(|number| json!({ "name": format!("{number}{}", "n".repeat(63)), "limit": "1000000000/1000d" }))
        .collect();
    let guard = build(&general(policies));
    let mut exchange = Request::at(0).exchange(Touch::Take);
    assert_eq!(ask(&guard, &mut exchange), None);
    let head = told(&guard, &mut exchange, HeaderMap::new());
    assert_eq!(list(&text(&head, "ratelimit")).len(), 8);
    assert_eq!(number(&head, "x-ratelimit-remaining"), 999_999_999);
}

fn policy() -> impl Strategy<Value = Value> {
    (1_u64..30, 1_u64..20_000, proptest::option::of(1_u64..40), any::<bool>()).prop_map(
        |(count, millis, burst, window)| {
            let limit = format!("{count}/{millis}ms");
            match burst {
                Some(burst) => json!({ "limit": limit, "burst": burst }),
                None if window && millis >= 10 => json!({ "limit": limit, "algorithm": "fixed_window" }),
                None => json!({ "limit": limit }),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Row 129, over random policies and schedules.
    #[test]
    fn fields_parse_and_agree_with_each_other(
        policies in proptest::collection::vec(policy(), 1..5),
        pauses in proptest::collection::vec(0_u64..2_000_000_000, 1..60),
    ) {
        let mut policies = policies;
        for (place, policy) in policies.iter_mut().enumerate() {
            policy["name"] = json!(format!("p-{place}"));
        }
        let guard = build(&general(policies.into()));
        let mut now = 0;
        for pause in pauses {
            now += pause;
            let mut exchange = Request::at(now).exchange(Touch::Take);
            let refused = ask(&guard, &mut exchange);
            let head = told(&guard, &mut exchange, HeaderMap::new());
            let (stated, left) = (list(&text(&head, "ratelimit-policy")), list(&text(&head, "ratelimit")));
            prop_assert_eq!(stated.len(), left.len());
            for ((stated_name, stated), (name, left)) in stated.iter().zip(&left) {
                prop_assert_eq!(stated_name, name);
                let parameter = |of: &[(String, u64)], key: &str| of.iter().find(|(name, _)| name == key).map(|(_, value)| *value);
                let (quota, window) = (parameter(stated, "q").unwrap(), parameter(stated, "w").unwrap());
                prop_assert!(quota >= 1 && window >= 1);
                prop_assert!(parameter(left, "r").unwrap() <= quota);
                let reset = parameter(left, "t");
                prop_assert!(reset.is_none_or(|reset| (1..=window).contains(&reset)), "{:?} of {}", reset, window);
                match refused {
                    None => prop_assert!(reset.is_some()),
                    Some(retry_after) => prop_assert!(retry_after >= 1 && reset.is_none_or(|reset| reset <= retry_after)),
                }
            }
            let (limit, remaining) = (number(&head, "x-ratelimit-limit"), number(&head, "x-ratelimit-remaining"));
            prop_assert!(remaining <= limit);
            let second = (EPOCH_MILLIS + now / 1_000_000) / 1000;
            prop_assert!(number(&head, "x-ratelimit-reset") >= second);
            if let Some(retry_after) = refused {
                prop_assert!(number(&head, "x-ratelimit-reset") <= second + retry_after + 1);
            }
        }
    }
}
