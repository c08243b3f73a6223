//! What the operator writes, and what is said about it.

use std::time::Duration;

use serde_json::json;

use super::super::config::{Config, Listener, compile};
use super::super::total::Total;
use super::{config, rules};
use crate::config::{PathConfig, RouteConfig};

fn told(general: serde_json::Value, routes: &[serde_json::Value]) -> Vec<String> {
    let route = |(index, limits): (usize, &serde_json::Value)| {
        let limits = Some(config(limits.clone()));
        RouteConfig { name: format!("r{index}"), limits, ..RouteConfig::default() }
    };
    let routes = routes.iter().enumerate().map(route).collect();
    let path = PathConfig { limits: config(general), routes, ..PathConfig::default() };
    let mistakes = compile(&path).err().unwrap_or_default();
    mistakes.into_iter().map(|mistake| format!("{}: {}", mistake.path, mistake.message)).collect()
}

#[test]
fn every_bound_has_its_bounds() {
    for (field, least, too_little, most, too_much) in [
        ("body_bytes", "0B", None, "1TiB", "1099511627777B"),
        ("header_bytes", "1KiB", Some("1023B"), "1MiB", "1048577B"),
        ("uri_bytes", "256B", Some("255B"), "32KiB", "32769B"),
        ("header_timeout", "100ms", Some("99ms"), "5m", "301s"),
        ("total", "100ms", Some("99ms"), "24h", "86401s"),
    ] {
        assert_eq!(told(json!({ field: least }), &[]), [""; 0], "{field}");
        assert_eq!(told(json!({ field: most }), &[]), [""; 0], "{field}");
        for wrong in too_little.into_iter().chain([too_much]) {
            let told = told(json!({ field: wrong }), &[]);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].starts_with(&format!("limits.{field}: ")) && told[0].contains(" is out of bounds: "));
        }
    }
    assert_eq!(told(json!({ "headers": 7 }), &[]), ["limits.headers: 7 is out of bounds: 8 to 1000"]);
    assert_eq!(told(json!({ "headers": 1001 }), &[]), ["limits.headers: 1001 is out of bounds: 8 to 1000"]);
    assert_eq!(told(json!({ "total": "off" }), &[]), [""; 0]);
}

#[test]
fn all_mistakes_are_told_and_a_route_cannot_widen_what_the_listener_enforces() {
    let all = told(
        json!({ "headers": 50 }),
        &[
            json!({ "header_bytes": "2KiB", "uri_bytes": "1KiB", "header_timeout": "1s" }),
            json!({ "headers": 51 }),
            json!({ "headers": 20, "body_bytes": "10MiB", "total": "off" }),
            json!({ "total": "48h", "content_types": ["json", "a/b;c=d", "*/*", "text/html"] }),
        ],
    );
    let before = "holds before a route is known: set it in the general `limits`";
    let media = "is no media type: write `application/json` or `image/*`, without parameters";
    assert_eq!(
        all,
        [
            format!("routes[0].limits.header_bytes: {before}"),
            format!("routes[0].limits.uri_bytes: {before}"),
            format!("routes[0].limits.header_timeout: {before}"),
            "routes[1].limits.headers: 51 is more than the general `limits.headers`, 50".to_owned(),
            "routes[3].limits.total: 2d is out of bounds: 100ms to 1d".to_owned(),
            format!("routes[3].limits.content_types[0]: `json` {media}"),
            format!("routes[3].limits.content_types[1]: `a/b;c=d` {media}"),
            format!("routes[3].limits.content_types[2]: `*/*` {media}"),
        ]
    );
    let many = vec!["a/b"; 65];
    assert_eq!(
        told(json!({ "content_types": many }), &[]),
        ["limits.content_types: 65 entries, at most 64 are possible"]
    );
}

#[test]
fn defaults_are_complete_and_within_their_bounds() {
    let defaults = Config::defaults();
    assert_eq!(Config::default().over(&defaults), defaults);
    assert_eq!(Config::default().compile("limits"), defaults.compile("limits"));
    let listener =
        Listener { header_bytes: 32_768, header_count: 100, uri_bytes: 8_192, header_timeout: Duration::from_secs(10) };
    assert_eq!(Listener::default(), listener);
    let own = config(json!({ "body_bytes": "5MiB" }));
    let merged = own.over(&config(json!({ "body_bytes": "2MiB", "total": "5s" }))).over(&defaults);
    assert_eq!((rules(&merged).body_bytes, rules(&merged).total_nanos), (5 << 20, Some(5_000_000_000)));
}

#[test]
fn a_total_is_a_duration_or_off() {
    let read = |text: &str| serde_json::from_str::<Total>(text).map_err(|error| error.to_string());
    assert_eq!(read("\"off\""), Ok(Total::Off));
    // What YAML 1.1 makes of a bare `off`.
    assert_eq!(read("false"), Ok(Total::Off));
    for total in ["\"30s\"", "\"off\"", "\"1h30m\""] {
        assert_eq!(serde_json::to_string(&read(total).expect("well-formed")).expect("text"), total);
    }
    for (text, message) in [
        ("true", "`on` is not a duration"),
        ("30", "`30` has no unit: write `30s` for seconds, or `off`"),
        ("-1", "`-1` is not a duration"),
        ("\"never\"", "`never`"),
        ("null", "expected a duration such as `30s`, or `off`"),
    ] {
        let error = read(text).expect_err("refused");
        assert!(error.contains(message), "{error}");
    }
    let schema = schemars::schema_for!(Total).to_value();
    assert_eq!(schema["anyOf"][0]["format"], "duration");
    assert_eq!(schema["anyOf"][1]["enum"], json!(["off", false]));
}
