//! Which route takes a request.

use serde_json::json;

use super::super::normal_path::{ENCODED_DOTS, ENCODED_SLASH};
use super::{Asked, rules};

fn outcomes(rules: &super::Rules, cases: &[(&str, &str, &str)]) {
    for (method, target, outcome) in cases {
        assert_eq!(Asked::new(method, target).outcome(rules), *outcome, "{method} {target}");
    }
}

#[test]
fn the_most_specific_path_wins_whatever_the_order() {
    let routes = [
        json!({ "name": "rest", "match": { "path": "/**" } }),
        json!({ "name": "api", "match": { "path": "/api/**" } }),
        json!({ "name": "exact", "match": { "path": "/api" } }),
        json!({ "name": "one", "match": { "path": "/api/*" } }),
        json!({ "name": "item", "match": { "path": "/api/items/**" } }),
        json!({ "name": "late", "match": { "path": "/api/*/late" } }),
    ];
    let reversed: Vec<_> = routes.iter().rev().collect();
    for rules in [rules(json!(routes)), rules(json!(reversed))] {
        outcomes(
            &rules,
            &[
                ("GET", "/", "rest"),
                ("GET", "/apiadmin", "rest"),
                ("GET", "/API", "rest"),
                ("GET", "/api", "exact"),
                ("GET", "/api/", "exact"),
                ("GET", "/api/x", "one"),
                ("GET", "/api/x/y", "api"),
                ("GET", "/api/items", "item"),
                ("GET", "/api/items/late", "item"),
                ("GET", "/api/x/late", "late"),
                ("GET", "/api/x/late/y", "api"),
            ],
        );
    }
}

#[test]
fn every_spelling_of_a_path_gets_its_route() {
    let rules = rules(json!([
        { "name": "public", "match": { "path": "/**" } },
        { "name": "admin", "match": { "path": "/admin/**" } },
        { "name": "cafe", "match": { "path": "/caf\u{e9} bar/**" } },
        { "name": "sum", "match": { "path": "/a%2bb" } },
    ]));
    outcomes(
        &rules,
        &[
            ("GET", "//admin", "admin"),
            ("GET", "/./admin", "admin"),
            ("GET", "/x/../admin", "admin"),
            ("GET", "/admin/", "admin"),
            ("GET", "/admin//", "admin"),
            ("GET", "/%61dmin", "admin"),
            ("GET", "/admin;x=1", "admin"),
            ("GET", "/admin;x=1/users", "admin"),
            ("GET", "/public/%2e%2e/admin", "admin"),
            ("GET", "/admin?", "admin"),
            ("GET", "/%2561dmin", "public"),
            ("GET", "/public?/../admin", "public"),
            ("GET", "/caf%c3%a9%20bar/x", "cafe"),
            ("GET", "/a+b", "sum"),
            ("GET", "/a%2Bb", "sum"),
        ],
    );
}

#[test]
fn methods_are_an_allowlist_and_never_lead_elsewhere() {
    let rules = rules(json!([
        { "name": "all", "match": { "path": "/**" } },
        { "name": "read", "match": { "path": "/docs/**", "methods": ["GET"] } },
        { "name": "write", "match": { "path": "/docs/**", "methods": ["PUT", "DELETE"] } },
        { "name": "dav", "match": { "path": "/dav/**", "methods": ["PROPFIND", "M-SEARCH", "OPTIONS"] } },
        { "name": "narrow", "match": { "path": "/items", "methods": ["GET"] } },
        { "name": "wide", "match": { "path": "/items" } },
    ]));
    let standard = "405 GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    outcomes(
        &rules,
        &[
            ("GET", "/docs", "read"),
            ("HEAD", "/docs", "read"),
            ("PUT", "/docs", "write"),
            ("POST", "/docs", "405 GET, HEAD, PUT, DELETE"),
            ("OPTIONS", "/docs", "405 GET, HEAD, PUT, DELETE"),
            ("get", "/docs", "405 GET, HEAD, PUT, DELETE"),
            ("PROPFIND", "/dav/x", "dav"),
            ("M-SEARCH", "/dav/x", "dav"),
            ("GET", "/dav/x", "405 OPTIONS, PROPFIND, M-SEARCH"),
            ("OPTIONS", "/", "all"),
            ("PATCH", "/", "all"),
            ("get", "/", standard),
            ("PROPFIND", "/", standard),
            ("TRACE", "/", standard),
            ("TRACE", "/docs", "405 GET, HEAD, PUT, DELETE"),
            ("GET", "/items", "narrow"),
            ("HEAD", "/items", "narrow"),
            ("POST", "/items", "wide"),
        ],
    );
}

#[test]
fn header_conditions_choose_between_equals_and_fall_back() {
    let rules = rules(json!([
        { "name": "plain", "match": { "path": "/api/**" } },
        { "name": "canary", "match": { "path": "/api/**", "headers": { "X-Canary": "1" } } },
        { "name": "tagged", "match": { "path": "/api/**", "headers": { "x-canary": "*" } } },
        { "name": "both", "match": { "path": "/api/**", "headers": { "x-canary": "1", "x-user": "*" } } },
        { "name": "deep", "match": { "path": "/api/deep", "headers": { "x-canary": "1" }, "methods": ["GET"] } },
    ]));
    let asked = |method: &str, target: &str, fields: &[(&'static str, &[u8])]| {
        let mut all = vec![("host", b"h".as_slice())];
        all.extend(fields);
        Asked::new(method, target).with(&all).outcome(&rules)
    };
    assert_eq!(asked("GET", "/api/x", &[]), "plain");
    assert_eq!(asked("GET", "/api/x", &[("x-canary", b"1")]), "canary");
    assert_eq!(asked("GET", "/api/x", &[("x-canary", b"2")]), "tagged");
    assert_eq!(asked("GET", "/api/x", &[("x-canary", b"1"), ("x-user", b"")]), "both");
    assert_eq!(asked("GET", "/api/x", &[("x-canary", b"1"), ("x-canary", b"1")]), "tagged");
    // Where the condition does not hold the next path is tried; where only the method is wrong, it is not.
    assert_eq!(asked("GET", "/api/deep", &[]), "plain");
    assert_eq!(asked("GET", "/api/deep", &[("x-canary", b"1")]), "deep");
    assert_eq!(asked("POST", "/api/deep", &[("x-canary", b"1")]), "405 GET, HEAD");
}

#[test]
fn case_counts_unless_the_route_says_otherwise() {
    let rules = rules(json!([
        { "name": "all", "match": { "path": "/**" } },
        { "name": "admin", "match": { "path": "/Admin/*/Users", "case_insensitive": true } },
        { "name": "strict", "match": { "path": "/ADMIN/x/users" } },
        { "name": "open", "match": { "path": "/open" } },
    ]));
    outcomes(
        &rules,
        &[
            ("GET", "/admin/x/users", "admin"),
            ("GET", "/aDMIN/X/uSERS", "admin"),
            ("GET", "/%41dmin/x/users", "admin"),
            ("GET", "/ADMIN/x/users", "strict"),
            ("GET", "/ADMIN/y/users", "admin"),
            ("GET", "/Open", "all"),
            ("GET", "/open", "open"),
        ],
    );
}

#[test]
fn an_encoded_slash_passes_only_where_both_readings_agree() {
    let refused = format!("400 {ENCODED_SLASH}");
    let strict = rules(json!([{ "match": { "path": "/x/**" } }]));
    let hidden = format!("400 {ENCODED_DOTS}");
    outcomes(&strict, &[("GET", "/x/a%2Fy", &refused), ("GET", "/y%2Fz", &refused), ("GET", "/x%2f..%2fy", &hidden)]);
    let rules = rules(json!([
        { "name": "kept", "match": { "path": "/**", "encoded_slash": "keep" } },
        { "name": "admin", "match": { "path": "/admin/**" } },
        { "name": "open", "match": { "path": "/open/**", "encoded_slash": "keep" } },
    ]));
    outcomes(
        &rules,
        &[
            ("GET", "/x%2fy", "kept"),
            ("GET", "/x%2F%2Fy/", "kept"),
            ("GET", "/admin%2Fx", &refused),
            ("GET", "/admin/a%2Fx", &refused),
            ("GET", "/open/g%2Fp/x", "open"),
            ("GET", "/open%2Fx", &refused),
            ("GET", "/%2Fadmin", &refused),
        ],
    );
    assert_eq!(Asked::new("GET", "/open/g%2fp").paths(&rules), ("/open/g%2Fp".to_owned(), "/open/g%2Fp".to_owned()));
}

#[test]
fn a_prefix_is_taken_off_what_is_sent_and_nothing_else() {
    let rules = rules(json!([
        { "name": "api", "match": { "path": "/api/v1/**" }, "strip_prefix": "/api/v1" },
        { "name": "old", "match": { "path": "/Old/**", "case_insensitive": true }, "strip_prefix": "/old" },
        { "name": "all", "match": { "path": "/**" } },
    ]));
    for (sent, matched, forwarded) in [
        ("/api/v1", "/api/v1", "/"),
        ("/api/v1/", "/api/v1", "/"),
        ("/api/v1/x", "/api/v1/x", "/x"),
        ("/api/v1/x/?q=/api/v1", "/api/v1/x", "/x/?q=/api/v1"),
        ("/api/v1?q", "/api/v1", "/?q"),
        ("//api/%761//x", "/api/v1/x", "/x"),
        ("/api;a=1/v1;b=2/x;c=3", "/api/v1/x", "/x;c=3"),
        ("/api/v1/;c=3", "/api/v1", "/;c=3"),
        ("/api/v1/a%2cb", "/api/v1/a,b", "/a%2Cb"),
        ("/oLD/x", "/oLD/x", "/x"),
        ("/api/v1admin", "/api/v1admin", "/api/v1admin"),
        ("/api/v1/../admin", "/api/admin", "/api/admin"),
        ("http://h/api/v1/x?q", "/api/v1/x", "/x?q"),
    ] {
        let paths = Asked::new("GET", sent).paths(&rules);
        assert_eq!(paths, (matched.to_owned(), forwarded.to_owned()), "{sent}");
    }
    // Row 60: a strip at anything but whole segments would leave `../admin`.
    assert_eq!(Asked::new("GET", "/api/v1../admin").outcome(&rules), "all");
    assert_eq!(Asked::new("GET", "/api/v1%2e%2e/admin").outcome(&rules), "all");
}

#[test]
fn without_routes_one_takes_everything() {
    let rules = rules(json!([]));
    let decision = Asked::new("POST", "/any/thing").decide(&rules);
    let route = &decision.answer.ok().expect("taken").target.route;
    assert_eq!((&*route.name, &*route.upstream, route.index, route.cost), ("default", "app", 0, 1));
    assert_eq!(Asked::new("PROPFIND", "/").outcome(&rules), "405 GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
}

#[test]
fn ten_thousand_routes_on_paths_and_hosts_are_all_found() {
    let routes: Vec<_> = (0..10_000)
        .map(|i| match i % 2 {
            0 => json!({ "match": { "path": format!("/tenants/t{i}/items/**") } }),
            _ => json!({ "match": { "path": "/tenants/**", "host": format!("t{i}.example.com") } }),
        })
        .collect();
    let rules = rules(json!(routes));
    for i in (0..10_000).step_by(37) {
        let host = if i % 2 == 0 { "elsewhere".to_owned() } else { format!("t{i}.example.com") };
        let asked = Asked::new("GET", &format!("/tenants/t{i}/items/7")).with(&[("host", host.as_bytes())]);
        assert_eq!(asked.outcome(&rules), format!("r{i}"));
    }
}
