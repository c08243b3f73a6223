//! What is taken away, what is written anew, and what is left alone.

use super::super::config::ForwardingHeader::{Forwarded, XForwardedFor};
use super::super::{Config, foreign};
use super::{by, guard, run};
use crate::rehearsal::{get, values};

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
