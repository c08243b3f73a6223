//! Who is counted apart from whom, and what is no way around a limit.

use proptest::prelude::*;

use super::*;

/// A guard with one policy of one request an hour, counted by these words.
fn one_each(by: &[&str]) -> RateLimit {
    build(&general(json!([{ "name": "api", "limit": "1/1h", "by": by }])))
}

/// Whether the second request is counted together with the first.
fn is_shared(by: &[&str], first: Request, second: Request) -> bool {
    let guard = one_each(by);
    assert_eq!(take(&guard, first), None);
    take(&guard, second).is_some()
}

fn request() -> Request {
    Request::at(0)
}

#[test]
fn each_word_counts_apart_what_it_names() {
    assert!(is_shared(&["address"], request().with("a", "1"), request().with("a", "2")));
    assert!(!is_shared(&["address"], request(), request().from("192.0.2.2")));
    assert!(!is_shared(&["address"], request().from("0.0.0.0"), request().from("::")));
    assert!(is_shared(&["header:a"], request().with("A", "1"), request().with("a", "1").from("192.0.2.2")));
    assert!(!is_shared(&["header:a"], request().with("a", "1"), request().with("a", "2")));
    assert!(is_shared(&["route"], request().on(0, "one", 1), request().on(0, "one", 1).from("192.0.2.2")));
    assert!(!is_shared(&["route"], request().on(0, "one", 1), request().on(1, "two", 1)));
    assert!(!is_shared(&["route"], request().on(0, "one", 1), request()));
    assert!(is_shared(&["address", "route"], request().on(0, "one", 1), request().on(0, "one", 1)));
    assert!(!is_shared(&["address", "route"], request().on(0, "one", 1), request().on(1, "two", 1)));
}

#[test]
fn leaving_a_header_out_or_repeating_it_is_no_way_around() {
    let by = ["header:a"];
    assert!(is_shared(&by, request(), request().from("192.0.2.2")), "who leaves it out shares one limit");
    let twice = |second: &str| request().with("a", "1").with("a", second);
    assert!(is_shared(&by, twice("2"), twice("3")), "and so does who sends it twice");
    assert!(!is_shared(&by, request(), request().with("a", "")), "nothing is not an empty text");
    assert!(!is_shared(&by, request().with("a", "1"), twice("1")));
}

#[test]
fn an_api_key_is_the_header_or_the_bearer_text_and_never_both() {
    let by = ["api_key"];
    let key = |key: &str| request().with("x-api-key", key);
    let bearer = |text: &str| request().with("authorization", text);
    assert!(!is_shared(&by, key("a"), key("b")));
    assert!(is_shared(&by, bearer("Bearer a"), bearer("bearer  a")));
    assert!(!is_shared(&by, bearer("Bearer a"), bearer("Bearer b")));
    assert!(!is_shared(&by, key("a"), bearer("Bearer a")), "the two kinds do not meet");
    assert!(is_shared(&by, request(), bearer("Basic YTpi")), "other schemes carry no API key");
    let both = |key: &str, text: &str| request().with("x-api-key", key).with("authorization", text);
    assert!(is_shared(&by, both("a", "Bearer x"), both("b", "Bearer x")), "a real bearer text with an invented key");
    assert!(is_shared(&by, both("a", "Bearer x"), both("a", "Bearer y")), "a real key with an invented bearer text");
    assert!(is_shared(&by, both("a", "Basic x"), key("a")));
    assert!(is_shared(&by, key("a").with("x-api-key", "b"), key("a").with("x-api-key", "c")));
}

/// Row 120: values that would collide if they were joined by a separator.
#[test]
fn moving_text_from_one_value_to_the_next_makes_another_subject() {
    let by = ["header:user", "header:tenant"];
    let of = |user: &str, tenant: &str| request().with("user", user).with("tenant", tenant);
    for (first, second) in [
        (("a:b", "c"), ("a", "b:c")),
        (("ab", ""), ("a", "b")),
        (("", "ab"), ("ab", "")),
        (("a\u{e9}", "b"), ("a", "\u{e9}b")),
    ] {
        assert!(!is_shared(&by, of(first.0, first.1), of(second.0, second.1)), "{first:?} {second:?}");
    }
    assert!(!is_shared(&by, request().with("user", "a"), request().with("tenant", "a")));
    let long = "x".repeat(64 * 1024);
    assert!(!is_shared(&by, of(&long, "a"), of(&format!("{long}y"), "a")), "all of a long value counts");
}

/// Row 120: different policies never share a counter, whoever is counted.
#[test]
fn policies_of_different_names_count_apart() {
    let guard = build(&general(json!([
        { "name": "a", "limit": "2/1h" },
        { "name": "b", "limit": "3/1h" },
    ])));
    assert_eq!(passed(&guard, 9, request), 2);
}

/// Row 121: limits go by the client's group, which `client_address` makes the /64 or wider.
#[test]
fn addresses_of_one_group_share_a_limit() {
    let guard = one_each(&["address"]);
    let of_group = |host: u16| {
        let mut exchange = request().exchange(Touch::Take);
        let client = exchange.client.as_mut().unwrap();
        client.address = format!("2001:db8::{host:x}").parse().unwrap();
        client.group = "2001:db8::".parse().unwrap();
        exchange
    };
    assert_eq!(ask(&guard, &mut of_group(1)), None);
    assert!((2..2000).all(|host| ask(&guard, &mut of_group(host)).is_some()));
}

#[test]
fn the_guard_needs_what_its_policies_read() {
    use crate::guard::Fact;
    for (by, needs) in [
        (vec!["address"], vec![Fact::ClientAddress]),
        (vec!["route", "address"], vec![Fact::ClientAddress, Fact::Route]),
        (vec!["route"], vec![Fact::Route]),
        (vec!["api_key", "header:a"], vec![]),
    ] {
        assert_eq!(one_each(&by).needs(), needs, "{by:?}");
    }
}

proptest! {
    /// Whatever two requests carry, they share a limit exactly when they carry the same.
    #[test]
    fn requests_share_a_limit_exactly_when_their_subjects_are_equal(
        one in proptest::array::uniform3(proptest::option::of("[ab:]{0,2}")),
        two in proptest::array::uniform3(proptest::option::of("[ab:]{0,2}")),
    ) {
        let build = |values: &[Option<String>; 3]| {
            ["a", "b", "c"].iter().zip(values).fold(request(), |request, (name, value)| match value {
                Some(value) => request.with(name, value),
                None => request,
            })
        };
        let shared = is_shared(&["header:a", "header:b", "header:c"], build(&one), build(&two));
        prop_assert_eq!(shared, one == two);
    }
}
