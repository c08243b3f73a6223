//! The cases of `security_headers`: what each treatment does to the answers of the upstream and to our own.

use portcullis_core::refusal::{CATALOGUE, Code, Refusal};
use proptest::prelude::*;

use super::*;
use crate::client_address;
use crate::config::RouteConfig;
use crate::exchange::Touch;
use crate::path::{Descent, Path};
use crate::rehearsal::{Ask, Wall, answer, get, ground, values};
use crate::route::Route;

const OWN: [(&str, &str); 5] = [
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("x-xss-protection", "0"),
];
const HSTS: &str = "strict-transport-security";

fn read(json: &str) -> Config {
    serde_json::from_str(json).unwrap()
}

fn guard(json: &str) -> SecurityHeaders {
    build(&PathConfig { security_headers: read(json), ..PathConfig::default() }, &ground().0).unwrap()
}

/// The upstream's fields after the guard.
fn mended(guard: &SecurityHeaders, ask: Ask, fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut head = answer(fields);
    guard.response(&mut ask.begin(), &mut head);
    sorted(&head)
}

fn sorted(head: &ResponseHead) -> Vec<(String, String)> {
    let mut fields: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    fields.sort();
    fields
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    fields.sort();
    fields
}

#[test]
fn by_default_a_silent_upstream_gets_the_whole_set() {
    let fields = mended(&guard("{}"), get("/"), &[("content-type", "text/html")]);
    let expected = [
        ("content-type", "text/html"),
        ("content-security-policy", "object-src 'none'; base-uri 'self'; frame-ancestors 'self'"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-xss-protection", "0"),
    ];
    assert_eq!(fields, owned(&expected));
}

#[test]
fn by_default_an_upstreams_own_policies_stay_and_its_brand_goes() {
    let own = [
        ("content-security-policy", "default-src 'self'"),
        ("content-security-policy", "frame-ancestors https://portal.example.com"),
        ("referrer-policy", "unsafe-url"),
        ("x-frame-options", "ALLOWALL"),
        ("cross-origin-opener-policy", "unsafe-none"),
        ("strict-transport-security", "max-age=60"),
    ];
    let mut sent = own.to_vec();
    sent.extend([("server", "Apache/2.4.1"), ("x-powered-by", "PHP/5"), ("x-powered-by", "ASP.NET")]);
    sent.extend([("x-content-type-options", "none"), ("x-xss-protection", "1; mode=block")]);
    let mut expected = own.to_vec();
    expected.extend([("x-content-type-options", "nosniff"), ("x-xss-protection", "0")]);
    assert_eq!(mended(&guard("{}"), get("/"), &sent), owned(&expected));
    assert_eq!(mended(&guard("{}"), get("/").secure(), &sent), owned(&expected), "also what it says about TLS");
}

#[test]
fn every_refusal_carries_the_strict_set_through_the_runner() {
    for entry in CATALOGUE {
        for is_secure in [false, true] {
            let path = Path::builder().add(guard("{}")).add(Wall(Refusal::new(entry.code))).build().unwrap();
            let ask = if is_secure { get("/").secure() } else { get("/") };
            let mut exchange = ask.begin();
            let Descent::Refused(refusal) = path.descend(&mut exchange) else { panic!("the wall refuses") };
            let (head, _) = path.refuse(&mut exchange, "wall", refusal);
            for (name, value) in OWN {
                assert_eq!(values(&head.headers, name), [value], "{}", entry.name);
            }
            let hsts = if is_secure { vec!["max-age=63072000; includeSubDomains"] } else { vec![] };
            assert_eq!(values(&head.headers, HSTS), hsts, "{}", entry.name);
        }
    }
}

#[test]
fn what_the_proxy_refuses_is_the_gateways_own_answer_too() {
    let path = Path::builder().add(guard("{}")).build().unwrap();
    let mut exchange = get("/").begin();
    assert!(matches!(path.descend(&mut exchange), Descent::Through));
    let (head, _) = path.refuse(&mut exchange, "proxy", Refusal::new(Code::UpstreamClosed));
    assert_eq!(values(&head.headers, "x-frame-options"), ["DENY"]);
}

#[test]
fn tls_is_promised_only_to_those_who_speak_it() {
    let plain = mended(&guard("{}"), get("/"), &[]);
    assert!(!plain.iter().any(|(name, _)| name == HSTS));
    let secure = mended(&guard("{}"), get("/").secure(), &[]);
    assert!(secure.contains(&(HSTS.to_owned(), "max-age=63072000; includeSubDomains".to_owned())));

    let trusting = PathConfig { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..PathConfig::default() };
    for (config, peer, is_promised) in
        [("{}", "10.0.0.1", true), ("{}", "203.0.113.9", false), (r#"{"hsts_behind_proxy":false}"#, "10.0.0.1", false)]
    {
        let (ground, _) = ground();
        let address = client_address::build(&trusting, &ground).unwrap();
        let path = Path::builder().add(guard(config)).add(address).build().unwrap();
        let mut exchange = get("/").from(peer).with("x-forwarded-proto", "https").begin();
        path.descend(&mut exchange);
        let mut head = answer(&[]);
        path.ascend(&mut exchange, &mut head);
        assert_eq!(head.headers.contains_key(HSTS), is_promised, "{config} {peer}");
    }
}

#[test]
fn each_field_can_be_set_left_and_removed() {
    let defaults = serde_json::to_value(Config::defaults()).unwrap();
    let keys =
        defaults.as_object().unwrap().keys().filter(|key| !matches!(key.as_str(), "remove" | "hsts_behind_proxy"));
    let mut seen = 0;
    for key in keys {
        seen += 1;
        let name = key.replace('_', "-");
        let with = |treatment: &str, sent: &[(&str, &str)], refuse: bool| {
            let path = Path::builder()
                .add(guard(&format!(r#"{{"{key}":{treatment}}}"#)))
                .add(Wall(Refusal::new(Code::RateLimited)))
                .build()
                .unwrap();
            let mut exchange = get("/").secure().begin();
            let mut head = answer(sent);
            if refuse {
                let Descent::Refused(refusal) = path.descend(&mut exchange) else { panic!("the wall refuses") };
                head = path.refuse(&mut exchange, "wall", refusal).0;
            } else {
                guard(&format!(r#"{{"{key}":{treatment}}}"#)).response(&mut exchange, &mut head);
            }
            values(&head.headers, &name)
        };
        let sent = [(name.as_str(), "theirs"), (name.as_str(), "again")];
        assert_eq!(with("\"ours\"", &sent, false), ["ours"], "{key} set");
        assert_eq!(with("\"ours\"", &[], false), ["ours"], "{key} set");
        assert_eq!(with("\"ours\"", &[], true), ["ours"], "{key} set, refused");
        assert_eq!(with(r#"{"when_absent":"ours"}"#, &sent, false), ["theirs", "again"], "{key} when absent");
        assert_eq!(with(r#"{"when_absent":"ours"}"#, &[], false), ["ours"], "{key} when absent");
        assert_eq!(with("\"keep\"", &sent, false), ["theirs", "again"], "{key} keep");
        assert_eq!(with("\"keep\"", &[], false), [""; 0], "{key} keep");
        for off in ["\"off\"", "false"] {
            assert_eq!(with(off, &sent, false), [""; 0], "{key} off");
            assert_eq!(with(off, &[], true), [""; 0], "{key} off, refused");
        }
        let strict = OWN.iter().find(|(own, _)| *own == name).map(|(_, value)| *value);
        let strict = strict.or((name == HSTS).then_some("max-age=63072000; includeSubDomains"));
        assert_eq!(with("\"keep\"", &[], true), strict.into_iter().collect::<Vec<_>>(), "{key} keep, refused");
    }
    assert_eq!(seen, 11);
}

#[test]
fn a_route_overrides_field_by_field() {
    let route = |json: &str| RouteConfig { security_headers: Some(read(json)), ..RouteConfig::default() };
    let config = PathConfig {
        security_headers: read(r#"{"referrer_policy":"no-referrer","x_frame_options":"DENY"}"#),
        routes: vec![route(r#"{"x_frame_options":"off"}"#), RouteConfig::default(), route(r#"{"server":"keep"}"#)],
        ..PathConfig::default()
    };
    let guard = build(&config, &ground().0).unwrap();
    for (index, frame, server) in [
        (Some(0), vec![], false),
        (Some(1), vec!["DENY"], false),
        (Some(2), vec!["DENY"], true),
        (None, vec!["DENY"], false),
    ] {
        let mut exchange = get("/").begin();
        let (name, upstream) = (Arc::from("r"), Arc::from("u"));
        exchange.route = index.map(|index| Arc::new(Route { index, name, upstream, cost: 1 }));
        let mut head = answer(&[("x-frame-options", "SAMEORIGIN"), ("server", "x")]);
        guard.response(&mut exchange, &mut head);
        assert_eq!(values(&head.headers, "x-frame-options"), frame, "{index:?}");
        assert_eq!(values(&head.headers, "referrer-policy"), ["no-referrer"], "{index:?}");
        assert_eq!(head.headers.contains_key("server"), server, "{index:?}");
    }
}

#[test]
fn more_fields_can_be_removed() {
    let guard = guard(r#"{"remove":["X-AspNet-Version","via"]}"#);
    let fields =
        mended(&guard, get("/"), &[("x-aspnet-version", "4"), ("via", "1.1 a"), ("via", "1.1 b"), ("age", "1")]);
    assert!(fields.iter().any(|(name, _)| name == "age"));
    assert!(!fields.iter().any(|(name, _)| name == "x-aspnet-version" || name == "via"));
}

#[test]
fn ten_thousand_routes_share_their_rules() {
    let same = RouteConfig { security_headers: Some(read(r#"{"server":"keep"}"#)), ..RouteConfig::default() };
    let mut routes = vec![RouteConfig::default(); 5000];
    routes.extend(vec![same; 5000]);
    let guard = build(&PathConfig { routes, ..PathConfig::default() }, &ground().0).unwrap();
    let distinct: std::collections::HashSet<*const Rules> = guard.rules.iter().map(Arc::as_ptr).collect();
    assert_eq!(distinct.len(), 2);
}

#[test]
fn all_mistakes_are_told_at_once_with_their_place() {
    let long = "x".repeat(9000);
    let general = format!(r#"{{"referrer_policy":"a\nb","x_frame_options":" ","content_security_policy":"{long}"}}"#);
    let route = r#"{"server":"caf\u00e9","remove":["ok","content-length","sp ace","x-request-id"]}"#;
    let config = PathConfig {
        security_headers: read(&general),
        routes: vec![
            RouteConfig::default(),
            RouteConfig { security_headers: Some(read(route)), ..RouteConfig::default() },
        ],
        ..PathConfig::default()
    };
    let mistakes = build(&config, &ground().0).err().unwrap();
    let mut paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "routes[1].security_headers.remove[1]",
            "routes[1].security_headers.remove[2]",
            "routes[1].security_headers.remove[3]",
            "routes[1].security_headers.server",
            "security_headers.content_security_policy",
            "security_headers.referrer_policy",
            "security_headers.x_frame_options",
        ]
    );
    let many = vec!["x"; 33];
    let config = Config { remove: Some(many.iter().map(|name| (*name).to_owned()).collect()), ..Config::default() };
    assert_eq!(config.compile("security_headers").unwrap_err()[0].message, "more than 32 names");
}

#[test]
fn what_is_written_reads_back_and_nonsense_is_refused() {
    let written = r#"{"content_security_policy":{"when_absent":"a"},"referrer_policy":"keep","server":"off","x_xss_protection":0}"#;
    let config = read(written);
    assert_eq!(config.content_security_policy, Some(Treatment::WhenAbsent("a".to_owned())));
    assert_eq!(config.referrer_policy, Some(Treatment::Keep));
    assert_eq!(config.server, Some(Treatment::Off));
    assert_eq!(config.x_xss_protection, Some(Treatment::Set("0".to_owned())));
    assert_eq!(read(&serde_json::to_string(&config).unwrap()), config);
    for wrong in [
        r#"{"csp":"x"}"#,
        r#"{"server":true}"#,
        r#"{"server":{}}"#,
        r#"{"server":{"default":"x"}}"#,
        r#"{"server":{"when_absent":"x","when":"y"}}"#,
        r#"{"server":["x"]}"#,
        r#"{"server":1.5}"#,
    ] {
        assert!(serde_json::from_str::<Config>(wrong).is_err(), "{wrong}");
    }
    let schema = serde_json::to_string(&schemars::schema_for!(Config)).unwrap();
    assert!(schema.contains("when_absent"), "{schema}");
}

proptest! {
    #[test]
    fn no_written_value_panics_and_what_compiles_can_be_sent(value in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
        let config = Config { server: Some(Treatment::Set(value.clone())), ..Config::default() };
        match config.compile("security_headers") {
            Ok(rules) => {
                let mut head = answer(&[]);
                let facts = Facts { is_own: false, is_secure: false, told_secure: false };
                apply(decide(&rules, &facts), &mut head);
                prop_assert_eq!(values(&head.headers, "server"), [value.trim()]);
            }
            Err(mistakes) => prop_assert_eq!(&mistakes[0].path, "security_headers.server"),
        }
    }

    #[test]
    fn whatever_an_upstream_sends_each_field_stands_once_or_as_it_sent_it(
        sent in proptest::collection::vec((0usize..6, "[a-z]{1,8}"), 0..12),
        is_secure in any::<bool>(),
    ) {
        let names = ["content-security-policy", "x-frame-options", "x-xss-protection", "server", HSTS, "x-content-type-options"];
        let sent: Vec<(&str, &str)> = sent.iter().map(|(name, value)| (names[*name], value.as_str())).collect();
        let mut head = answer(&sent);
        let mut exchange = get("/").begin();
        exchange.is_secure = is_secure;
        prop_assert_eq!(exchange.touch, Touch::Take);
        guard("{}").response(&mut exchange, &mut head);
        for name in ["x-xss-protection", "x-content-type-options"] {
            prop_assert_eq!(values(&head.headers, name).len(), 1);
        }
        for name in ["content-security-policy", "x-frame-options"] {
            let theirs: Vec<&str> = sent.iter().filter(|(own, _)| *own == name).map(|(_, value)| *value).collect();
            prop_assert!(values(&head.headers, name) == theirs || theirs.is_empty());
            prop_assert!(head.headers.contains_key(name));
        }
        prop_assert!(!head.headers.contains_key("server"));
    }
}
