use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::config::ForwardingHeader::{Forwarded, XForwardedFor};
use super::hops::node;
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
fn rows_49_50_and_61_twins_identities_and_overrides_go_whoever_sends_them() {
    for name in [
        "X_Forwarded_For",
        "X-Forwarded_For",
        "X_Forwarded-Proto",
        "X.Forwarded.For",
        "X_Real_IP",
        "True_Client_IP",
        "CF_Connecting_IP",
        "X_Client_IP",
        "X-Portcullis-User",
        "x-portcullis-roles",
        "X_Portcullis_Tenant",
        "X-Portcullis_Auth",
        "X-Portcullis-Anything-Else",
        "X_Request_Id",
        "X-Original-URL",
        "X_Original_URL",
        "X-Rewrite-URL",
        "X_Rewrite_Url",
        "X-HTTP-Method-Override",
        "X_HTTP_Method_Override",
        "X-Method-Override",
        "Content_Length",
        "Transfer_Encoding",
    ] {
        for peer in ["203.0.113.9", "10.0.0.1"] {
            let exchange = run(&guard(Config::default()), get("/").from(peer).with(name, "1").with(name, "2"));
            assert!(!exchange.headers.contains_key(name), "{name} from {peer}");
        }
    }
}

#[test]
fn every_listed_name_passes_the_first_look() {
    for name in foreign::listed() {
        assert!(foreign::is_foreign(name.as_bytes(), true), "{name}");
        assert!(foreign::is_foreign(name.replace('-', "_").as_bytes(), true), "{name}");
    }
}

#[test]
fn other_fields_are_left_alone() {
    let kept = [
        "accept",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "traceparent",
        "transfer-encoding",
        "te",
        "forwarded-by-me",
        "x",
        "x-",
        "x-forward",
        "x-request-id",
        "x-requested-with",
        "x-user-id",
        "x_custom",
        "client-id",
        "cf-ray",
        "from",
        "host",
    ];
    let ask = kept.iter().fold(get("/"), |ask, name| ask.with(name, "1"));
    let exchange = run(&guard(Config::default()), ask);
    for name in kept {
        assert_eq!(values(&exchange.headers, name), ["1"], "{name}");
    }
}

#[test]
fn many_foreign_fields_go_in_one_request() {
    let ask = (0..90).fold(get("/"), |ask, index| ask.with(&format!("x-portcullis-{index}"), "1"));
    let exchange = run(&guard(Config::default()), ask.with("accept", "*/*"));
    assert_eq!(exchange.headers.keys_len(), 4, "accept and the three that are rebuilt without a host");
}

#[test]
fn a_trusted_proxy_may_tell_more_in_the_real_spelling() {
    let exchange = run(&guard(Config::default()), get("/").from("10.0.0.1").with("x-forwarded-port", "8443"));
    assert_eq!(values(&exchange.headers, "x-forwarded-port"), ["8443"]);
}

#[test]
fn the_protocol_is_believed_of_a_trusted_proxy_only_and_from_the_right() {
    for (header, name, sent, own_tls, is_secure) in [
        (XForwardedFor, "x-forwarded-proto", "https", false, "https"),
        (XForwardedFor, "x-forwarded-proto", "HTTPS", false, "https"),
        (XForwardedFor, "x-forwarded-proto", "wss", false, "https"),
        (XForwardedFor, "x-forwarded-proto", "http, https", false, "https"),
        (XForwardedFor, "x-forwarded-proto", "https, http", false, "http"),
        (XForwardedFor, "x-forwarded-proto", "http", true, "http"),
        (XForwardedFor, "x-forwarded-proto", "gopher", false, "http"),
        (XForwardedFor, "x-forwarded-proto", "gopher", true, "https"),
        (Forwarded, "forwarded", "for=198.51.100.1;proto=https", false, "https"),
        (Forwarded, "forwarded", "for=198.51.100.1;proto=https, for=10.2.2.2;proto=http", false, "https"),
        (Forwarded, "forwarded", "for=6.6.6.6;proto=https, for=198.51.100.1;proto=http", false, "http"),
        (Forwarded, "x-forwarded-proto", "https", false, "http"),
    ] {
        let plain = || get("/").with(name, sent);
        let ask = if own_tls { plain().secure() } else { plain() };
        let exchange = run(&by(header), ask.from("10.0.0.1"));
        assert_eq!(values(&exchange.headers, "x-forwarded-proto"), [is_secure], "{name}: {sent}");
        let is_told = is_secure == "https" && !(own_tls && sent == "gopher");
        assert_eq!(exchange.told_secure, is_told, "{name}: {sent}");
        let exchange = run(&by(header), plain());
        assert!(!exchange.told_secure);
        assert_eq!(values(&exchange.headers, "x-forwarded-proto"), ["http"]);
    }
    assert_eq!(values(&run(&by(XForwardedFor), get("/").secure()).headers, "x-forwarded-proto"), ["https"]);
}

#[test]
fn the_host_is_the_requests_own_unless_the_operator_says_otherwise() {
    let ask = || {
        get("/")
            .from("10.0.0.1")
            .with("host", "inner.example.com:8080")
            .with("x-forwarded-for", "198.51.100.1")
            .with("x-forwarded-host", "other.example.com, outer.example.com")
            .with("forwarded", "for=198.51.100.1;host=\"outer.example.com\"")
    };
    let believing = |header| guard(Config { header: Some(header), believe_host: Some(true), ..Config::default() });
    for (guard, host) in [
        (by(XForwardedFor), "inner.example.com:8080"),
        (by(Forwarded), "inner.example.com:8080"),
        (believing(XForwardedFor), "outer.example.com"),
        (believing(Forwarded), "outer.example.com"),
    ] {
        let exchange = run(&guard, ask());
        assert_eq!(values(&exchange.headers, "x-forwarded-host"), [host]);
        let first = format!("for=198.51.100.1;host=\"{host}\";proto=http, for=10.0.0.1");
        assert_eq!(values(&exchange.headers, "forwarded"), [first]);
    }
    let untrusted = run(&believing(XForwardedFor), ask().from("203.0.113.9"));
    assert_eq!(values(&untrusted.headers, "x-forwarded-host"), ["inner.example.com:8080"]);
    let absolute = run(&by(XForwardedFor), get("http://target.example.com/x").with("host", "field.example.com"));
    assert_eq!(values(&absolute.headers, "x-forwarded-host"), ["target.example.com"]);
}

#[test]
fn a_host_that_could_break_out_of_its_quotes_is_not_written() {
    for host in [&b"a\"b"[..], b"a\\b", b"a b", b"a,b", b"a;b", b"\xff", b"", &[b'a'; 300]] {
        let exchange = run(&guard(Config::default()), get("/").with("host", host).with("x-forwarded-host", "evil"));
        assert_eq!(values(&exchange.headers, "forwarded"), ["for=203.0.113.9;proto=http"]);
        assert!(!exchange.headers.contains_key("x-forwarded-host"));
    }
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
    let list: Vec<_> = ["10.0.0.0/9", "10.0.0.0/24", "10.128.0.0/9", "192.0.2.7", "2001:db8::/32", "255.255.255.255"]
        .iter()
        .map(|network| network.parse().unwrap())
        .collect();
    let trusted = TrustedProxies::new(&list);
    for (address, is_in) in [
        ("9.255.255.255", false),
        ("10.0.0.0", true),
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

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        // Close to what is trusted, and inside.
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits & 0x01ff_ffff | 0x0a00_0000))),
        any::<u16>().prop_map(|bits| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, bits))),
    ]
}

fn is_proxy(address: IpAddr) -> bool {
    let networks =
        ["10.0.0.0/8", "2001:db8:a::/48"].map(|network| network.parse::<portcullis_core::units::Cidr>().unwrap());
    networks.iter().any(|network| network.contains(address))
}

fn is_client(address: &IpAddr) -> bool {
    !is_proxy(*address) && !address.to_canonical().is_unspecified()
}

/// Bytes that a header field can hold.
fn field_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec((0x20u8..=0xff).prop_filter("DEL", |byte| *byte != 0x7f), 0..80),
        // Made of the pieces that mean something.
        proptest::collection::vec(
            prop_oneof![
                Just("for="),
                Just("For=\""),
                Just("\""),
                Just("\\"),
                Just(","),
                Just(", "),
                Just(";"),
                Just("="),
                Just("["),
                Just("]"),
                Just("%eth0"),
                Just(":80"),
                Just("unknown"),
                Just("_x"),
                Just("10.1.1.1"),
                Just("6.6.6.6"),
                Just("2001:db8:a::1"),
                Just("2001:db8:b::1"),
                Just("proto=https"),
                Just("host=\"a\""),
                Just(" "),
                Just("\t"),
            ],
            0..24
        )
        .prop_map(|pieces| pieces.concat().into_bytes()),
    ]
}

fn field_name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("x-forwarded-for"),
        Just("forwarded"),
        Just("x-forwarded-proto"),
        Just("x-forwarded-host"),
        Just("x_forwarded_for"),
        Just("host"),
        Just("x-real-ip"),
        Just("x-portcullis-user"),
        Just("x_portcullis_user"),
        Just("connection"),
    ]
    .prop_map(str::to_owned)
}

/// How an honest proxy writes down who connected to it.
fn honest(header: ForwardingHeader, address: IpAddr, port: Option<u16>) -> String {
    let bracketed = match (address, port) {
        (IpAddr::V4(v4), None) => v4.to_string(),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), None) => format!("[{v6}]"),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port}"),
    };
    match (header, address, port) {
        (XForwardedFor, IpAddr::V6(v6), None) => v6.to_string(),
        (XForwardedFor, ..) => bracketed,
        (Forwarded, ..) => format!("for=\"{bracketed}\";proto=http;by=_proxy"),
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_no_foreign_field_is_left(
        fields in proptest::collection::vec((field_name(), field_bytes()), 0..12),
        peer in any_ip(),
        forwarded in any::<bool>(),
    ) {
        let header = if forwarded { Forwarded } else { XForwardedFor };
        let ask = fields.iter().fold(get("/").from(&peer.to_string()), |ask, (name, value)| ask.with(name, value));
        let exchange = run(&by(header), ask);
        let client = exchange.client.unwrap();
        prop_assert_eq!(client.peer_is_trusted, is_proxy(peer));
        if !client.peer_is_trusted {
            // Nothing that was sent has any say.
            prop_assert_eq!(client.address, peer.to_canonical());
            prop_assert_eq!(values(&exchange.headers, "x-forwarded-for"), [client.address.to_string()]);
            prop_assert!(!exchange.told_secure);
        }
        for name in ["x_forwarded_for", "x-real-ip", "x-portcullis-user", "x_portcullis_user"] {
            prop_assert!(!exchange.headers.contains_key(name), "{}", name);
        }
        for name in ["x-forwarded-for", "x-forwarded-proto", "forwarded"] {
            prop_assert_eq!(values(&exchange.headers, name).len(), 1);
        }
        // Whoever reads it next, by either header, finds the same client.
        for (header, name) in [(XForwardedFor, "x-forwarded-for"), (Forwarded, "forwarded")] {
            let first = values(&exchange.headers, name)[0].clone();
            let first = first.split(", ").next().unwrap();
            let shown = match header {
                XForwardedFor => Some(hops::Element::bare(first.as_bytes())),
                Forwarded => hops::Element::read(first.as_bytes()),
            };
            let shown = node(shown.unwrap().node);
            prop_assert!(shown == Some(client.address) || client.address.is_unspecified(), "{}: {:?}", name, shown);
        }
    }

    /// The property that all the rest is for: behind honest proxies, whatever the client itself sends (any lines, in
    /// front of what the proxies append), its address is the one from which it connected to the first of them.
    #[test]
    fn a_client_cannot_choose_its_address(
        sent in proptest::collection::vec(field_bytes(), 0..4),
        client in any_ip().prop_filter("a client", is_client),
        port in proptest::option::of(any::<u16>()),
        proxies in proptest::collection::vec(any_ip().prop_filter("a proxy", |address| is_proxy(*address)), 1..8),
        forwarded in any::<bool>(),
        appends_to_line in any::<bool>(),
    ) {
        let header = if forwarded { Forwarded } else { XForwardedFor };
        let mut lines = sent;
        // Each proxy appends whom it heard from, to the last line or in a line of its own.
        let heard_from = std::iter::once((client, port)).chain(proxies.iter().map(|proxy| (*proxy, None)));
        for (address, port) in heard_from.take(proxies.len()) {
            let element = honest(header, address, port);
            match lines.last_mut() {
                Some(line) if appends_to_line => line.extend_from_slice(format!(", {element}").as_bytes()),
                _ => lines.push(element.into_bytes()),
            }
        }
        let peer = proxies[proxies.len() - 1];
        let ask = lines.iter().fold(get("/").from(&peer.to_string()), |ask, line| ask.with(header.name(), line));
        prop_assert_eq!(run(&by(header), ask).client.unwrap().address, client.to_canonical());
    }

    #[test]
    fn hops_that_are_read_are_addresses_that_were_written(address in any_ip(), port in any::<u16>()) {
        let canonical = address.to_canonical();
        prop_assume!(!canonical.is_unspecified());
        for port in [None, Some(port)] {
            prop_assert_eq!(node(honest(XForwardedFor, address, port).as_bytes()), Some(canonical));
        }
        let text = address_text(canonical);
        prop_assert_eq!(text.as_str(), canonical.to_string());
    }
}
