//! Which host a request is for: rows 24 to 27, 63 of the list of attacks.

use http::Version;
use serde_json::json;

use super::super::host::{CONTRADICTED, INVALID, MISSING, REPEATED};
use super::{Asked, rules};

fn by_host() -> super::Rules {
    rules(json!([
        { "name": "app", "match": { "host": "App.Example.com" } },
        { "name": "below", "match": { "host": "*.example.com" } },
        { "name": "deeper", "match": { "host": "*.b.example.com." } },
        { "name": "six", "match": { "host": "[2001:db8:0::1]" } },
        { "name": "four", "match": { "host": "127.0.0.1" } },
        { "name": "any", "match": { "path": "/any/**" } },
    ]))
}

#[test]
fn hosts_are_compared_without_case_trailing_dot_and_port() {
    let rules = by_host();
    for (host, outcome) in [
        ("app.example.com", "app"),
        ("APP.example.COM.:80", "app"),
        ("app.example.com:8443", "app"),
        ("app.example.com:", "app"),
        ("other.example.com", "below"),
        ("a.other.example.com", "below"),
        ("b.example.com", "below"),
        ("a.b.example.com", "deeper"),
        ("A.A.B.EXAMPLE.COM", "deeper"),
        ("[2001:DB8::0:1]:80", "six"),
        ("127.0.0.1:80", "four"),
        ("example.com", "404"),
        ("notexample.com", "404"),
        ("example.com.evil", "404"),
        ("127.0.0.2", "404"),
    ] {
        assert_eq!(Asked::new("GET", "/").with(&[("host", host.as_bytes())]).outcome(&rules), outcome, "{host}");
    }
    // A path that the host's own routes do not have is looked for among those of any host.
    let asked = Asked::new("GET", "/any/x").with(&[("host", b"unknown")]);
    assert_eq!(asked.outcome(&rules), "any");
    let asked = Asked::new("GET", "/any/x").with(&[("host", b"app.example.com")]);
    assert_eq!(asked.outcome(&rules), "app");
}

#[test]
fn a_missing_repeated_or_broken_host_is_refused() {
    let all = rules(json!([{}]));
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = "a.".repeat(127) + "a";
    for host in [
        "",
        "a,b",
        "a, b",
        "user@h",
        "h/path",
        "h:99999",
        "h:0",
        "h:x",
        "h:+1",
        "h:-1",
        "h:000080",
        "h:80:80",
        "[::1",
        "[::1]x",
        "[::1%eth0]",
        "[]",
        "[1.2.3.4]",
        "::1",
        ".",
        "..",
        ".h",
        "a..b",
        "h..",
        ":80",
        "h h",
        "h\t",
        "%68",
        "h?x",
        "h#x",
        "h\\x",
        "*",
        "a_b.*",
        "\"h\"",
        "h;x",
        &long_label,
        &long_name,
    ] {
        let asked = Asked::new("GET", "/").with(&[("host", host.as_bytes())]);
        assert_eq!(asked.outcome(&all), format!("400 {INVALID}"), "{host:?}");
    }
    let asked = Asked::new("GET", "/").with(&[("host", b"caf\xc3\xa9")]);
    assert_eq!(asked.outcome(&all), format!("400 {INVALID}"));
    let longest = format!("{}.{}", "a.".repeat(126), "");
    let asked = Asked::new("GET", "/").with(&[("host", longest.trim_end_matches('.').as_bytes())]);
    assert_eq!(asked.outcome(&all), "r0");
    assert_eq!(Asked::new("GET", "/").with(&[]).outcome(&all), format!("400 {MISSING}"));
    for twice in [[("host", b"h".as_slice()), ("host", b"h")], [("host", b"a"), ("host", b"b")]] {
        assert_eq!(Asked::new("GET", "/").with(&twice).outcome(&all), format!("400 {REPEATED}"));
    }
}

#[test]
fn http_1_0_without_host_is_taken_where_no_host_is_asked_for() {
    let rules = by_host();
    let old = |target: &str| Asked { version: Version::HTTP_10, ..Asked::new("GET", target).with(&[]) };
    assert_eq!(old("/any").outcome(&rules), "any");
    assert_eq!(old("/").outcome(&rules), format!("400 {MISSING}"));
    let nobody_asks = super::rules(json!([{ "match": { "path": "/x" } }]));
    assert_eq!(old("/").outcome(&nobody_asks), "404");
    let broken = Asked { version: Version::HTTP_10, ..Asked::new("GET", "/any").with(&[("host", b"")]) };
    assert_eq!(broken.outcome(&rules), format!("400 {INVALID}"));
}

#[test]
fn the_target_wins_over_host_and_replaces_it() {
    let rules = by_host();
    let rewritten = |asked: &Asked| {
        let chosen = asked.decide(&rules).answer.ok().expect("a route takes it");
        (chosen.target.route.name.to_string(), chosen.host.map(|host| host.to_str().unwrap().to_owned()))
    };
    let asked =
        |host: &'static str| Asked::new("GET", "http://app.example.com:8080/x").with(&[("host", host.as_bytes())]);
    let as_target = Some("app.example.com:8080".to_owned());
    assert_eq!(rewritten(&asked("other.example.com")), ("app".to_owned(), as_target.clone()));
    assert_eq!(rewritten(&asked("app.example.com")), ("app".to_owned(), as_target.clone()));
    assert_eq!(rewritten(&asked("APP.example.com:8080")), ("app".to_owned(), None));
    // An absolute target does not make up for a Host that is missing or broken.
    assert_eq!(Asked::new("GET", "http://app.example.com/").with(&[]).outcome(&rules), format!("400 {MISSING}"));
    assert_eq!(asked("a,b").outcome(&rules), format!("400 {INVALID}"));
    let old = Asked { version: Version::HTTP_10, ..Asked::new("GET", "http://app.example.com:8080/").with(&[]) };
    assert_eq!(rewritten(&old), ("app".to_owned(), as_target.clone()));
    let user = Asked::new("GET", "http://user@app.example.com/");
    assert_eq!(user.outcome(&rules), format!("400 {INVALID}"));
    // HTTP/2 has the host in the target only, and the two may not differ.
    let second = |asked: Asked| Asked { version: Version::HTTP_2, ..asked };
    let without = second(Asked::new("GET", "https://app.example.com:8080/").with(&[]));
    assert_eq!(rewritten(&without), ("app".to_owned(), as_target));
    assert_eq!(second(asked("other.example.com")).outcome(&rules), format!("400 {CONTRADICTED}"));
    assert_eq!(rewritten(&second(asked("app.example.com:8080"))), ("app".to_owned(), None));
}

#[test]
fn a_target_that_is_no_path_is_refused() {
    let all = rules(json!([{}]));
    for (method, target, outcome) in [
        ("GET", "*", "400 the target may only be an asterisk with OPTIONS"),
        ("FOO", "*", "400 the target may only be an asterisk with OPTIONS"),
        ("OPTIONS", "*", "405"),
        ("CONNECT", "h:443", "405"),
        ("CONNECT", "/", "405"),
        ("CONNECT", "http://h/", "405"),
        ("GET", "h:443", "400 the target must be a path or an http URI"),
        ("GET", "ftp://h/", "400 the target must be a path or an http URI"),
        ("TRACE", "/", "405 GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    ] {
        assert_eq!(Asked::new(method, target).outcome(&all), outcome, "{method} {target}");
    }
    let connect = Asked::new("CONNECT", "h:443").decide(&all).answer.err().expect("refused");
    assert!(connect.refusal.must_close, "what follows may be meant for a tunnel");
    let none = rules(json!([{ "match": { "path": "/x" } }]));
    assert_eq!(Asked::new("TRACE", "/").outcome(&none), "405");
}
