//! What the operator is told about routes that cannot work.

use serde_json::json;

use super::super::compile::compile;
use super::super::config::Config;
use super::{mistakes, path_config};

/// The mistakes in `routes`, as `path: message`.
fn told(routes: serde_json::Value) -> Vec<String> {
    mistakes(&path_config(routes)).into_iter().map(|mistake| format!("{}: {}", mistake.path, mistake.message)).collect()
}

#[test]
fn each_field_is_checked_and_all_mistakes_are_told_at_once() {
    let all = told(json!([
        { "name": "a b", "cost": 0, "upstream": "ap", "match": { "path": "api", "host": "h:80", "methods": ["get", "TRACE"] } },
        { "name": "x", "match": { "path": "/x", "headers": { "Host": "h", "bad name": "1", "x-a": " b", "x-b": "\n" } } },
        { "name": "x", "strip_prefix": "/y", "match": { "path": "/x/**/y", "host": "*.[::1]" } },
        { "name": "y", "strip_prefix": "/a/b", "match": { "path": "/a/**", "methods": [] } },
        { "name": "z", "strip_prefix": "/", "cost": 1_000_001, "match": { "path": "/z/*.js" } },
        { "name": "_other", "match": { "path": "/q?x=1" } },
        { "name": "w", "strip_prefix": "/w/", "match": { "path": "/w/../x/**", "host": "a..b" } },
    ]));
    for expected in [
        "routes[0].name: `a b` is no name",
        "routes[0].cost: 0 is out of bounds: 1 to 1000000",
        "routes[0].upstream: there is no upstream `ap`, did you mean `app`?",
        "routes[0].match.host: `h:80` holds a port: hosts are compared without it, write `h`",
        "routes[0].match.path: `api` must begin with `/`",
        "routes[0].match.methods[0]: `get` is not a method: methods are case-sensitive, write `GET`",
        "routes[0].match.methods[1]: `TRACE` is refused on every route",
        "routes[1].match.headers.Host: use `host`",
        "routes[1].match.headers.bad name: `bad name` is not the name of a header field",
        "routes[1].match.headers.x-a: ` b` has space around it",
        "routes[1].match.headers.x-b: `\\n` cannot be the value of a header field",
        "routes[2].name: `x` is the name of routes[1] already",
        "routes[2].match.path: `/x/**/y` has `**` before its end, use `*` for one segment",
        "routes[2].match.host: `*.[::1]` is no host",
        "routes[3].strip_prefix: `/a/b` must be whole segments with which `match.path` begins",
        "routes[3].match.methods: a route that takes no method takes nothing",
        "routes[4].cost: 1000001 is out of bounds",
        "routes[4].match.path: `*.js` in `/z/*.js`: `*` stands for a whole segment, write `%2A` for the character",
        "routes[5].name: `_other` is no name",
        "routes[5].match.path: `q?x=1` in `/q?x=1`: a path that is matched never holds `?`",
        "routes[6].match.path: `..` in `/w/../x/**`: the path leads above the root",
        "routes[6].match.host: `a..b` is no host",
    ] {
        let count = all.iter().filter(|mistake| mistake.starts_with(expected)).count();
        assert_eq!(count, 1, "{expected:?} in {all:#?}");
    }
    assert_eq!(all.len(), 22, "{all:#?}");
}

#[test]
fn prefixes_that_cannot_be_taken_off_are_refused() {
    for (path, prefix, is_right) in [
        ("/a/b/**", "/a", true),
        ("/a/b/**", "/a/b", true),
        ("/a/b/**", "/a/b/", true),
        ("/a/b", "/a/b", true),
        ("/a/b/**", "/", false),
        ("/a/b/**", "/a/c", false),
        ("/a/b/**", "/a/b/c", false),
        ("/a", "/a/b", false),
        ("/ab/**", "/a", false),
        ("/*/b/**", "/a", false),
        ("/a/**", "/A", false),
        ("/a/**", "a", false),
    ] {
        let told = told(json!([{ "strip_prefix": prefix, "match": { "path": path } }]));
        assert_eq!(told.is_empty(), is_right, "{path} {prefix} {told:?}");
    }
}

#[test]
fn routes_that_tie_are_named() {
    let tie = told(json!([
        { "name": "one", "match": { "path": "/a%2db/", "methods": ["GET", "POST"] } },
        { "name": "two", "match": { "path": "/a-b", "methods": ["HEAD", "PUT", "DELETE"] } },
    ]));
    assert_eq!(
        tie,
        ["routes[1].match: `two` and `one` (routes[0]) take the same requests and neither is more specific"]
    );
    for (one, two, ties) in [
        (json!({ "path": "/a" }), json!({ "path": "/a" }), true),
        (json!({ "path": "/a" }), json!({ "path": "/A" }), false),
        (json!({ "path": "/a", "case_insensitive": true }), json!({ "path": "/A", "case_insensitive": true }), true),
        (json!({ "path": "/a", "case_insensitive": true }), json!({ "path": "/A" }), false),
        (json!({ "path": "/a/*" }), json!({ "path": "/a/**" }), false),
        (json!({ "host": "a.b" }), json!({ "host": "A.B." }), true),
        (json!({ "host": "a.b" }), json!({ "host": "*.b" }), false),
        (json!({ "methods": ["GET"] }), json!({ "methods": ["POST"] }), false),
        (json!({ "methods": ["GET"] }), json!({ "methods": ["HEAD"] }), false),
        (json!({ "methods": ["GET", "PUT"] }), json!({ "methods": ["GET"] }), false),
        (json!({ "methods": Config::defaults().methods }), json!({}), true),
        (json!({ "headers": { "x": "1" } }), json!({ "headers": { "X": "1" } }), true),
        (json!({ "headers": { "x": "1" } }), json!({ "headers": { "x": "2" } }), false),
        (json!({ "headers": { "x": "1" } }), json!({ "headers": { "y": "1" } }), true),
        (json!({ "headers": { "x": "1" } }), json!({ "headers": { "x": "*" } }), false),
        (json!({ "headers": { "x": "*" } }), json!({}), false),
    ] {
        let told = told(json!([{ "match": one }, { "match": two }]));
        assert_eq!(!told.is_empty(), ties, "{one} {two} {told:?}");
    }
}

#[test]
fn what_one_look_up_may_cost_is_bounded() {
    let same_path = |count: usize| -> Vec<_> {
        (0..count).map(|i| json!({ "match": { "headers": { "x-tenant": i.to_string() } } })).collect()
    };
    assert_eq!(told(json!(same_path(128))), [""; 0]);
    let told_of_many = told(json!(same_path(129)));
    assert_eq!(told_of_many, ["routes[0].match: 129 routes share host and path with `r0`, at most 128 may"]);
    let deep = |count: usize| json!([{ "match": { "path": "/a".repeat(count) } }]);
    assert_eq!(told(deep(64)), [""; 0]);
    assert_eq!(told(deep(65)).len(), 1);
}

#[test]
fn a_route_takes_the_only_upstream_or_names_one() {
    let mut config = path_config(json!([{}]));
    assert!(compile(&config).is_ok());
    config.upstreams.push("billing".to_owned());
    let told = mistakes(&config);
    assert_eq!(told[0].path, "routes[0].upstream");
    assert_eq!(told[0].message, "needed, because there is more than one upstream: `app`, `billing`");
    config.routes[0].upstream = Some("biling".to_owned());
    assert_eq!(mistakes(&config)[0].message, "there is no upstream `biling`, did you mean `billing`?");
    config.routes[0].upstream = Some("billing".to_owned());
    let rules = compile(&config).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    assert_eq!(&*rules.targets[0].route.upstream, "billing");
    // The route that nobody wrote has no place in the file.
    let unwritten = crate::config::PathConfig { routes: Vec::new(), ..config.clone() };
    assert_eq!(mistakes(&unwritten)[0].path, "routes.upstream");
    // A path that ends in a service of the same process knows no upstreams and checks no names.
    config.upstreams.clear();
    assert!(compile(&config).is_ok());
    config.routes.clear();
    assert!(compile(&config).is_ok());
}

#[test]
fn the_config_is_read_strictly_and_defaults_fill_it() {
    assert!(serde_json::from_value::<Config>(json!({ "pth": "/x" })).is_err());
    assert!(serde_json::from_value::<Config>(json!({ "encoded_slash": "decode" })).is_err());
    let written: Config =
        serde_json::from_value(json!({ "path": "/x", "encoded_slash": "keep" })).expect("well-formed");
    let full = written.over(&Config::defaults());
    assert_eq!(full.path.as_deref(), Some("/x"));
    assert_eq!(full.encoded_slash, written.encoded_slash);
    assert_eq!(full.methods, Config::defaults().methods);
    assert!(full.host.is_some() && full.headers.is_some() && full.case_insensitive.is_some());
}
