//! What config is refused and where the mistake is said to be; what the rest becomes.

use std::collections::BTreeSet;

use super::*;
use crate::rate_limit::config::compile;

/// The mistakes of a config as (path, message).
fn mistakes(config: Value) -> Vec<(String, String)> {
    let config: PathConfig = serde_json::from_value(config).unwrap();
    let found = compile(&config, &[]).expect_err("the config is wrong");
    found.into_iter().map(|mistake| (mistake.path, mistake.message)).collect()
}

/// The only mistake of a general policy that is right but for `wrong`.
fn mistake(wrong: Value) -> (String, String) {
    let mut policy = json!({ "name": "api", "limit": "10/1s" });
    for (key, value) in wrong.as_object().unwrap() {
        policy[key] = value.clone();
    }
    let mut found = mistakes(json!({ "rate_limit": [policy] }));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// Row 125, and everything else that cannot work.
#[test]
fn what_cannot_work_is_a_mistake_at_its_place() {
    for (wrong, place, hint) in [
        (json!({ "name": null }), "name", "needs a name"),
        (json!({ "name": "" }), "name", "is no name"),
        (json!({ "name": "a\"b" }), "name", "is no name"),
        (json!({ "name": "ä" }), "name", "is no name"),
        (json!({ "name": "_other" }), "name", "is no name"),
        (json!({ "name": "a".repeat(65) }), "name", "is no name"),
        (json!({ "limit": null }), "limit", "needs a limit"),
        (json!({ "limit": "10000001/1s" }), "limit", "10 million a second"),
        (json!({ "limit": "1/3650d" }), "limit", "nine years"),
        (json!({ "limit": "1/1s", "burst": 300_000_000 }), "limit", "nine years"),
        (json!({ "limit": "20000000/1d", "algorithm": "fixed_window" }), "limit", "16777215"),
        (json!({ "limit": "1/1ms", "algorithm": "fixed_window" }), "limit", "10 ms"),
        (json!({ "burst": 0 }), "burst", "1 to 1000000000"),
        (json!({ "burst": 1_000_000_001 }), "burst", "1 to 1000000000"),
        (json!({ "burst": u64::MAX }), "burst", "1 to 1000000000"),
        (json!({ "burst": 5, "algorithm": "fixed_window" }), "burst", "has no burst"),
        (json!({ "cost": 0 }), "cost", "1 to 1000000"),
        (json!({ "cost": 1_000_001 }), "cost", "1 to 1000000"),
        (json!({ "cost": 11 }), "cost", "more than the 10"),
        (json!({ "mode": "leased" }), "mode", "not available yet"),
        (json!({ "by": [] }), "by", "write 1 to 4"),
        (json!({ "by": ["user"] }), "by[0]", "`user` needs identity: name who issues tokens in identity.jwt.issuers"),
        (json!({ "by": ["address", "tenant"] }), "by[1]", "needs identity"),
        (json!({ "by": ["claim:org"] }), "by[0]", "needs identity"),
        (json!({ "by": ["adress"] }), "by[0]", "is not known; there are `address`"),
        (json!({ "by": ["header:"] }), "by[0]", "no name of a header"),
        (json!({ "by": ["header:X-Forwarded-For"] }), "by[0]", "write `address`"),
        (json!({ "by": ["header:x-a", "header:X-A"] }), "by[1]", "twice"),
        (json!({ "by": ["address", "header:a", "header:b", "header:c", "route"] }), "by", "write 1 to 4"),
    ] {
        let (path, message) = mistake(wrong.clone());
        assert_eq!(path, format!("rate_limit[0].{place}"), "{wrong}: {message}");
        assert!(message.contains(hint), "{wrong}: {message}");
    }
}

/// Row 125: what the types of the config refuse before there is a policy.
#[test]
fn rates_of_nothing_and_unknown_keys_cannot_be_written() {
    for policy in [
        json!({ "name": "api", "limit": "0/1s" }),
        json!({ "name": "api", "limit": "1/0s" }),
        json!({ "name": "api", "limit": "9223372036854775808/1s" }),
        json!({ "name": "api", "limit": 10 }),
        json!({ "name": "api", "limit": "10/1s", "burst": -1 }),
        json!({ "name": "api", "limit": "10/1s", "brust": 1 }),
        json!({ "name": "api", "limit": "10/1s", "algorithm": "leaky" }),
    ] {
        assert!(serde_json::from_value::<PathConfig>(json!({ "rate_limit": [policy.clone()] })).is_err(), "{policy}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let found = mistakes(json!({
        "rate_limit": [{ "name": "a", "by": ["user", "plan"], "cost": 0 }],
        "routes": [{ "name": "one", "rate_limit": [{ "limit": "1/1s" }] }],
    }));
    let paths: BTreeSet<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    let expected = ["rate_limit[0].by[0]", "rate_limit[0].by[1]", "rate_limit[0].cost", "rate_limit[0].limit"];
    assert_eq!(paths, expected.into_iter().chain(["routes[0].rate_limit[0].name"]).collect());
}

#[test]
fn one_name_means_one_definition() {
    let with_route = |own: Value| {
        json!({
            "rate_limit": [{ "name": "api", "limit": "10/1s" }],
            "routes": [{ "name": "one" }, { "name": "two", "rate_limit": [own] }],
        })
    };
    for own in [
        json!({ "name": "api", "limit": "11/1s" }),
        json!({ "name": "api", "limit": "10/1s", "burst": 9 }),
        json!({ "name": "api", "limit": "10/1s", "by": ["route"] }),
        json!({ "name": "api", "limit": "10/1s", "cost": 2 }),
        json!({ "name": "api", "limit": "10/1s", "shadow": true }),
        json!({ "name": "api", "limit": "10/1s", "algorithm": "fixed_window" }),
    ] {
        let found = mistakes(with_route(own.clone()));
        assert_eq!(found.len(), 1, "{own}: {found:?}");
        assert_eq!(found[0].0, "routes[1].rate_limit[0].name");
        assert!(found[0].1.contains("not the same as at rate_limit[0]"), "{}", found[0].1);
    }
    let same = json!({ "name": "api", "limit": "10/1s", "burst": 10, "by": ["address"], "cost": 1 });
    let config: PathConfig = serde_json::from_value(with_route(same)).unwrap();
    assert_eq!(compile(&config, &[]).unwrap().definitions.len(), 1);
    let twice = mistakes(json!({ "rate_limit": [{ "name": "a", "limit": "1/1s" }, { "name": "a", "limit": "1/1s" }] }));
    assert_eq!((twice.len(), twice[0].0.as_str()), (1, "rate_limit[1].name"));
    let built_in =
        mistakes(json!({ "routes": [{ "name": "r", "rate_limit": [{ "name": "default", "limit": "1/1s" }] }] }));
    assert!(built_in[0].1.contains("the built-in default"), "{built_in:?}");
}

#[test]
fn at_most_eight_policies_apply_to_a_request() {
    let policies = |count: usize| -> Value {
        (0..count).map(|number| json!({ "name": format!("p{number}"), "limit": "1/1s" })).collect()
    };
    assert_eq!(compile(&general(policies(8)), &[]).unwrap().general.len(), 8);
    let found = mistakes(json!({ "rate_limit": policies(9) }));
    assert_eq!((found.len(), found[0].0.as_str()), (1, "rate_limit"));
}

#[test]
fn a_route_may_not_cost_more_than_a_policy_ever_holds() {
    let found = mistakes(json!({
        "rate_limit": [{ "name": "api", "limit": "10/1s", "cost": 2 }],
        "routes": [{ "name": "ok", "cost": 5 }, { "name": "dear", "cost": 6 }],
    }));
    assert_eq!((found.len(), found[0].0.as_str()), (1, "routes[1].cost"));
    assert!(found[0].1.contains("takes 12 of policy `api`"), "{}", found[0].1);
}

#[test]
fn without_config_an_address_has_a_hundred_a_second_and_bursts_of_two_hundred() {
    let guard = build(&PathConfig::default());
    assert_eq!(passed(&guard, 300, || Request::at(SECOND)), 200);
    assert_eq!(passed(&guard, 300, || Request::at(2 * SECOND)), 100);
    assert_eq!(passed(&guard, 300, || Request::at(2 * SECOND).from("192.0.2.2")), 200);
}

#[test]
fn an_empty_list_turns_limits_off() {
    let config: PathConfig = serde_json::from_value(json!({
        "rate_limit": [{ "name": "api", "limit": "1/1h" }],
        "routes": [{ "name": "limited" }, { "name": "free", "rate_limit": [] }],
    }))
    .unwrap();
    let guard = build(&config);
    assert_eq!(passed(&guard, 9, || Request::at(0).on(0, "limited", 1)), 1);
    assert_eq!(passed(&guard, 9, || Request::at(0).on(1, "free", 1)), 9);
    let mut exchange = Request::at(0).on(1, "free", 1).exchange(Touch::Take);
    assert!(matches!(guard.request(&mut exchange), Verdict::Skip));
    assert!(told(&guard, &mut exchange, HeaderMap::new()).is_empty());
}

#[test]
fn many_routes_with_the_same_list_share_its_rules() {
    let mut config = PathConfig::default();
    config.routes = vec![crate::config::RouteConfig::default(); 10_000];
    let guard = build(&config);
    let distinct: BTreeSet<_> = guard.rules.iter().map(Arc::as_ptr).collect();
    assert_eq!((guard.rules.iter().count(), distinct.len()), (10_001, 1));
}

#[test]
fn over_takes_from_the_base_only_what_is_left_out() {
    let all = crate::rate_limit::Config::defaults();
    assert_eq!(crate::rate_limit::Config::default().over(&all), all);
    let mine = crate::rate_limit::Config { cost: Some(7), ..Default::default() };
    assert_eq!(mine.over(&all), crate::rate_limit::Config { cost: Some(7), ..all });
}
