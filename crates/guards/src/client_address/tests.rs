//! What the guard promises, row by row of the attack catalogue. `fields` is about what upstreams get to see, `properties`
//! about any bytes at all.

mod fields;
mod properties;

use std::net::IpAddr;

use super::config::ForwardingHeader::{Forwarded, XForwardedFor};
use super::*;
use crate::path::{Descent, Path};
use crate::rehearsal::{Ask, get, ground, values};

/// 10.0.0.0/8 and 2001:db8:a::/48 are proxies, everybody else is not.
fn guard(config: Config) -> Client {
    let path = PathConfig {
        client_address: config,
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8:a::/48".parse().unwrap()],
        ..PathConfig::default()
    };
    build(&path, &ground().0).unwrap()
}

fn by(header: ForwardingHeader) -> Client {
    guard(Config { header: Some(header), ..Config::default() })
}

fn run(guard: &Client, ask: Ask) -> Exchange {
    let mut exchange = ask.begin();
    assert!(matches!(guard.request(&mut exchange), Verdict::Pass));
    exchange
}

fn address(guard: &Client, ask: Ask) -> String {
    run(guard, ask).client.unwrap().address.to_string()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn row_44_a_direct_client_cannot_say_who_it_is() {
    let everything = || {
        get("/")
            .with("host", "app.example.com")
            .with("X-Forwarded-For", "127.0.0.1")
            .with("X-Forwarded-For", "10.0.0.1")
            .with("X-Forwarded-Proto", "https")
            .with("X-Forwarded-Host", "evil.example.com")
            .with("X-Forwarded-Port", "1")
            .with("X-Forwarded-Prefix", "/evil")
            .with("X-Forwarded-Uri", "/public")
            .with("X-Forwarded-User", "root")
            .with("Forwarded", "for=127.0.0.1;host=evil.example.com;proto=https")
            .with("X-Real-IP", "127.0.0.1")
            .with("True-Client-IP", "127.0.0.1")
            .with("CF-Connecting-IP", "127.0.0.1")
            .with("X-Client-IP", "127.0.0.1")
            .with("accept", "*/*")
    };
    let nobody = PathConfig::default();
    for guard in [build(&nobody, &ground().0).unwrap(), by(XForwardedFor), by(Forwarded)] {
        let exchange = run(&guard, everything());
        let client = exchange.client.unwrap();
        assert_eq!(
            (client.address, client.group, client.peer_is_trusted),
            (ip("203.0.113.9"), ip("203.0.113.9"), false)
        );
        assert!(!exchange.told_secure);
        let mut names: Vec<&str> = exchange.headers.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "forwarded", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]);
        assert_eq!(values(&exchange.headers, "x-forwarded-for"), ["203.0.113.9"]);
        assert_eq!(values(&exchange.headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(values(&exchange.headers, "x-forwarded-host"), ["app.example.com"]);
        assert_eq!(values(&exchange.headers, "forwarded"), ["for=203.0.113.9;host=\"app.example.com\";proto=http"]);
    }
}

#[test]
fn rows_45_and_46_the_first_untrusted_hop_from_the_right_is_the_client() {
    for (header, sent, client) in [
        (XForwardedFor, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (XForwardedFor, "6.6.6.6, 198.51.100.1, 10.2.2.2, 10.3.3.3", "198.51.100.1"),
        (XForwardedFor, "6.6.6.6,198.51.100.1,\t10.2.2.2", "198.51.100.1"),
        (XForwardedFor, "198.51.100.1:4711", "198.51.100.1"),
        (XForwardedFor, "2001:db8:b::1", "2001:db8:b::1"),
        (XForwardedFor, "[2001:db8:b::1]", "2001:db8:b::1"),
        (XForwardedFor, "[2001:db8:b::1]:80", "2001:db8:b::1"),
        (XForwardedFor, "fe80::1%eth0", "fe80::1"),
        (XForwardedFor, "[fe80::1%25eth0]:80", "fe80::1"),
        (XForwardedFor, "6.6.6.6, fe80::1%", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, fe80::1%a%b", "10.0.0.1"),
        (XForwardedFor, "::ffff:198.51.100.1", "198.51.100.1"),
        (XForwardedFor, "198.51.100.1, ::ffff:10.2.2.2", "198.51.100.1"),
        (XForwardedFor, "198.51.100.1, 2001:db8:a::7", "198.51.100.1"),
        // Only proxies all the way: the leftmost.
        (XForwardedFor, "10.9.9.9, 10.2.2.2", "10.9.9.9"),
        // What cannot be read ends the walk at the last good hop.
        (XForwardedFor, "", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, unknown", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, unknown, 10.2.2.2", "10.2.2.2"),
        (XForwardedFor, "6.6.6.6, _hidden, 10.2.2.2", "10.2.2.2"),
        (XForwardedFor, "6.6.6.6, , 10.2.2.2", "10.2.2.2"),
        (XForwardedFor, "6.6.6.6,", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, 1.2.3", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, 01.2.3.4", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, 1.2.3.4:", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, 1.2.3.4:http", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, [2001:db8:b::1", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, [2001:db8:b::1]80", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, [198.51.100.1]", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, \"198.51.100.1\"", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, 0.0.0.0", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, ::", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, localhost", "10.0.0.1"),
        (XForwardedFor, "6.6.6.6, 198.51.100.1 198.51.100.2", "10.0.0.1"),
        (Forwarded, "for=6.6.6.6, for=198.51.100.1", "198.51.100.1"),
        (Forwarded, "for=6.6.6.6, FOR=198.51.100.1;proto=https, for=10.2.2.2;by=10.0.0.1", "198.51.100.1"),
        (Forwarded, "for=\"198.51.100.1:4711\"", "198.51.100.1"),
        (Forwarded, "for=\"[2001:db8:b::1]:80\"", "2001:db8:b::1"),
        (Forwarded, "For=\"[2001:db8:b::1]:_port\"", "2001:db8:b::1"),
        (Forwarded, "by=10.0.0.1; for=198.51.100.1 ;proto=http;", "198.51.100.1"),
        (Forwarded, "for=6.6.6.6, for=198.51.100.1;ext=\"a,b;c\"", "198.51.100.1"),
        (Forwarded, "for=6.6.6.6, for=unknown, for=10.2.2.2", "10.2.2.2"),
        (Forwarded, "for=6.6.6.6, for=_secret", "10.0.0.1"),
        (Forwarded, "for=6.6.6.6, proto=https", "10.0.0.1"),
        (Forwarded, "for=6.6.6.6, for=198.51.100.1;for=198.51.100.2", "10.0.0.1"),
        (Forwarded, "for=6.6.6.6, for", "10.0.0.1"),
        (Forwarded, "for=6.6.6.6, for=\"198.51.100.1", "10.0.0.1"),
        (Forwarded, "for=6.6.6.6, for=\"198.51.100\\.1\"", "10.0.0.1"),
        (Forwarded, "for=6.6.6.6, for=198.51.100.1;ext=\"a\\b\"", "10.0.0.1"),
        (Forwarded, "198.51.100.1", "10.0.0.1"),
    ] {
        let name = header.name();
        let ask = get("/").from("10.0.0.1").with(name, sent);
        assert_eq!(address(&by(header), ask), client, "{name}: {sent}");
    }
}

#[test]
fn row_46_lines_are_one_list_and_obs_text_is_no_address() {
    let lines = get("/").from("10.0.0.1").with("x-forwarded-for", "6.6.6.6").with("x-forwarded-for", "198.51.100.1");
    assert_eq!(address(&by(XForwardedFor), lines), "198.51.100.1");
    let lines =
        get("/").from("10.0.0.1").with("x-forwarded-for", "6.6.6.6, 198.51.100.1").with("x-forwarded-for", "10.4.4.4");
    assert_eq!(address(&by(XForwardedFor), lines), "198.51.100.1");
    let text = get("/").from("10.0.0.1").with("x-forwarded-for", b"6.6.6.6, 198.51.100.\xb9");
    assert_eq!(address(&by(XForwardedFor), text), "10.0.0.1");
}

#[test]
fn row_46_no_more_than_32_hops_are_read() {
    let proxies = |count: usize| vec!["10.5.5.5"; count].join(", ");
    for (behind, client) in [(31, "198.51.100.1"), (32, "10.5.5.5"), (10_000, "10.5.5.5")] {
        let sent = format!("198.51.100.1, {}", proxies(behind));
        let exchange = run(&by(XForwardedFor), get("/").from("10.0.0.1").with("x-forwarded-for", sent));
        assert_eq!(exchange.client.unwrap().address, ip(client), "{behind}");
        let chain = &values(&exchange.headers, "x-forwarded-for")[0];
        assert_eq!(chain.split(", ").count(), MAX_HOPS + 1, "what was not read is not passed on");
    }
    // As long as a line of believed hops can be: nothing is cut off.
    let longest = vec!["2001:db8:a:1111:1111:1111:1111:1111"; 40].join(", ");
    let ask = get("/").from("2001:db8:a:1111:1111:1111:1111:1111").with("host", "h".repeat(255));
    let exchange = run(&by(XForwardedFor), ask.with("x-forwarded-for", longest));
    assert!(values(&exchange.headers, "forwarded")[0].ends_with("for=\"[2001:db8:a:1111:1111:1111:1111:1111]\""));
    assert_eq!(values(&exchange.headers, "forwarded")[0].split(", ").count(), MAX_HOPS + 1);
}

#[test]
fn row_47_only_the_configured_header_counts_and_the_other_is_written_anew() {
    let both =
        || get("/").from("10.0.0.1").with("x-forwarded-for", "198.51.100.1").with("forwarded", "for=198.51.100.2");
    assert_eq!(address(&by(XForwardedFor), both()), "198.51.100.1");
    assert_eq!(address(&by(Forwarded), both()), "198.51.100.2");
    let exchange = run(&by(XForwardedFor), both());
    assert_eq!(values(&exchange.headers, "forwarded"), ["for=198.51.100.1;proto=http, for=10.0.0.1"]);
    let exchange = run(&by(Forwarded), both());
    assert_eq!(values(&exchange.headers, "x-forwarded-for"), ["198.51.100.2, 10.0.0.1"]);
}

#[test]
fn row_48_a_mapped_address_is_the_ipv4_address() {
    for peer in ["198.51.100.1", "::ffff:198.51.100.1"] {
        let exchange = run(&guard(Config::default()), get("/").from(peer));
        let client = exchange.client.unwrap();
        assert_eq!((client.address, client.group), (ip("198.51.100.1"), ip("198.51.100.1")));
        assert_eq!(values(&exchange.headers, "x-forwarded-for"), ["198.51.100.1"]);
    }
    assert_eq!(
        address(&guard(Config::default()), get("/").from("::ffff:10.0.0.1").with("x-forwarded-for", "6.6.6.6")),
        "6.6.6.6"
    );
}

#[test]
fn ipv6_is_grouped_by_the_configured_prefix_and_quoted() {
    for (prefix, group) in [
        (None, "2001:db8:1:2::"),
        (Some(48), "2001:db8:1::"),
        (Some(56), "2001:db8:1::"),
        (Some(128), "2001:db8:1:2:3::4"),
    ] {
        let guard = guard(Config { ipv6_prefix: prefix, ..Config::default() });
        let exchange = run(&guard, get("/").from("2001:db8:1:2:3::4"));
        let client = exchange.client.unwrap();
        assert_eq!((client.address, client.group), (ip("2001:db8:1:2:3::4"), ip(group)));
        assert_eq!(values(&exchange.headers, "x-forwarded-for"), ["2001:db8:1:2:3::4"]);
        assert_eq!(values(&exchange.headers, "forwarded"), ["for=\"[2001:db8:1:2:3::4]\";proto=http"]);
    }
}

#[test]
fn mistakes_say_where_and_what() {
    let config = PathConfig {
        client_address: Config { ipv6_prefix: Some(47), ..Config::default() },
        trusted_proxies: vec!["10.0.0.0/8".parse().unwrap(), "0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        ..PathConfig::default()
    };
    let mistakes = build(&config, &ground().0).err().unwrap();
    let paths: Vec<&str> = mistakes.iter().map(|mistake| mistake.path.as_str()).collect();
    assert_eq!(paths, ["trusted_proxies[1]", "trusted_proxies[2]", "client_address.ipv6_prefix"]);
    assert_eq!(mistakes[2].message, "47 is out of bounds: 48 to 128 bits");
    assert!(Config { ipv6_prefix: Some(129), ..Config::default() }.compile("c", &[]).is_err());
    assert!(serde_json::from_str::<Config>(r#"{"headers":"forwarded"}"#).is_err());
    let read: Config = serde_json::from_str(r#"{"header":"forwarded","ipv6_prefix":56}"#).unwrap();
    assert_eq!(read.over(&Config::defaults()).header, Some(Forwarded));
    assert_eq!(Config::default().over(&Config::defaults()), Config::defaults());
}

#[test]
fn trusted_ranges_may_touch_and_overlap() {
    let list: Vec<_> =
        ["10.0.0.0/9", "10.1.0.0/16", "10.0.0.0/24", "10.128.0.0/9", "192.0.2.7", "2001:db8::/32", "255.255.255.255"]
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
    let trusted = TrustedProxies::new(&list);
    for (address, is_in) in [
        ("9.255.255.255", false),
        ("10.0.0.0", true),
        ("10.100.0.1", true),
        ("10.200.0.1", true),
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("192.0.2.6", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("255.255.255.255", true),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true),
        ("2001:db9::", false),
        ("::ffff:10.0.0.1", true),
        ("::a00:1", false),
    ] {
        assert_eq!(trusted.contains(ip(address)), is_in, "{address}");
    }
    assert!(!TrustedProxies::new(&[]).contains(ip("127.0.0.1")));
}

#[test]
fn through_the_runner_the_fact_is_given_and_explained() {
    let path = Path::builder().add(guard(Config::default())).build().unwrap();
    let mut exchange = get("/").from("10.0.0.1").with("x-forwarded-for", "198.51.100.1, 10.2.2.2").dry().begin();
    assert!(matches!(path.descend(&mut exchange), Descent::Through));
    let step = &exchange.trail.steps()[0];
    assert_eq!((step.guard, step.rule.text()), ("client_address", "x-forwarded-for"));
    assert_eq!(step.detail.as_deref(), Some("198.51.100.1, behind 2 trusted hops up to 10.0.0.1"));
    let mut exchange = get("/").dry().begin();
    path.descend(&mut exchange);
    assert_eq!(exchange.trail.steps()[0].rule.text(), "peer");
}
