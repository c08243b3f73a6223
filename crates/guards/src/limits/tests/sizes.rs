//! The edges of every bound: rows 28, 29, 31, 131 and 132 of the list of attacks.

use http::Version;
use portcullis_core::fault::Fault;
use proptest::prelude::*;
use serde_json::json;

use super::super::BodyMeter;
use super::super::config::Config;
use super::{Head, NOW, SECOND, config};
use crate::exchange::{Body, Bounds};

#[test]
fn a_body_may_have_exactly_the_limit() {
    let defaults = Config::defaults();
    for (bytes, expected) in [(1_048_576, "ok"), (1_048_577, "413 ERR_BODY_TOO_LARGE close")] {
        let length = bytes.to_string();
        let head = Head::new(Body::Sized(bytes), &[("content-length", length.as_bytes())]);
        assert_eq!(head.outcome(&defaults), expected);
        // A client that waits for 100 gets its final answer without it.
        let fields = [("content-length", length.as_bytes()), ("expect", b"100-continue".as_slice())];
        assert_eq!(Head::new(Body::Sized(bytes), &fields).outcome(&defaults), expected);
    }
    let none = config(json!({ "body_bytes": "0B" }));
    assert_eq!(Head::new(Body::Absent, &[]).outcome(&none), "ok");
    assert_eq!(Head::new(Body::Sized(0), &[("content-length", b"0")]).outcome(&none), "ok");
    assert_eq!(Head::new(Body::Sized(1), &[("content-length", b"1")]).outcome(&none), "413 ERR_BODY_TOO_LARGE close");
}

#[test]
fn a_target_of_8000_octets_passes_and_the_limit_is_exact() {
    let target = |bytes: usize| Head { target: format!("/{}", "a".repeat(bytes - 1)), ..Head::new(Body::Absent, &[]) };
    let defaults = Config::defaults();
    assert_eq!(target(8_000).outcome(&defaults), "ok");
    assert_eq!(target(8_192).outcome(&defaults), "ok");
    assert_eq!(target(8_193).outcome(&defaults), "414 ERR_URI_TOO_LONG");
    // The query counts, and so does everything else of an absolute target.
    for (head, expected) in [("/?", "ok"), ("/??", "414 ERR_URI_TOO_LONG"), ("http://h/", "414 ERR_URI_TOO_LONG")] {
        let target = format!("{head}{}", "a".repeat(8_190));
        assert_eq!(Head { target, ..Head::new(Body::Absent, &[]) }.outcome(&defaults), expected, "{head}");
    }
}

#[test]
fn lines_and_bytes_of_the_head_are_counted() {
    let lines = |count: usize| Head::new(Body::Absent, &vec![("x", b"1".as_slice()); count]);
    let defaults = Config::defaults();
    assert_eq!(lines(100).outcome(&defaults), "ok");
    assert_eq!(lines(101).outcome(&defaults), "431 ERR_TOO_MANY_HEADERS");
    let value = "a".repeat(1_023);
    let small = config(json!({ "header_bytes": "1KiB" }));
    assert_eq!(Head::new(Body::Absent, &[("x", value.as_bytes())]).outcome(&small), "ok");
    assert_eq!(Head::new(Body::Absent, &[("xy", value.as_bytes())]).outcome(&small), "431 ERR_HEADERS_TOO_LARGE");
    // A repeated name is counted each time.
    let halves = [("x", &value.as_bytes()[..512]), ("x", &value.as_bytes()[..511])];
    assert_eq!(Head::new(Body::Absent, &halves).outcome(&small), "431 ERR_HEADERS_TOO_LARGE");
    let with_body = Head::new(Body::Sized(1), &[("content-length", b"1"), ("xy", value.as_bytes())]);
    assert_eq!(with_body.outcome(&small), "431 ERR_HEADERS_TOO_LARGE close");
}

#[test]
fn the_only_expectation_is_100_continue() {
    let defaults = Config::defaults();
    let expecting =
        |value: &'static [u8]| Head::new(Body::Unsized, &[("transfer-encoding", b"chunked"), ("expect", value)]);
    assert_eq!(expecting(b"100-continue").outcome(&defaults), "ok");
    assert_eq!(expecting(b"100-Continue").outcome(&defaults), "ok");
    for value in [b"200-ok".as_slice(), b"", b"100-continue, x", b"100-continue;a=b"] {
        assert_eq!(expecting(value).outcome(&defaults), "417 ERR_EXPECTATION_FAILED close");
    }
    let twice = Head::new(Body::Absent, &[("expect", b"100-continue"), ("expect", b"100-continue")]);
    assert_eq!(twice.outcome(&defaults), "417 ERR_EXPECTATION_FAILED");
    let old = Head { version: Version::HTTP_10, ..Head::new(Body::Absent, &[("expect", b"x")]) };
    assert_eq!(old.outcome(&defaults), "ok");
}

#[test]
fn a_body_must_be_of_a_listed_type() {
    let json_or_image = config(json!({ "content_types": ["application/JSON", "image/*"] }));
    let refused = "415 ERR_UNSUPPORTED_MEDIA_TYPE close";
    for (value, expected) in [
        (b"application/json".as_slice(), "ok"),
        (b"Application/Json; charset=utf-8", "ok"),
        (b"application/json;x", "ok"),
        (b"image/png", "ok"),
        (b"application/jsonp", refused),
        (b"application/json/x", refused),
        (b"text/plain; application/json", refused),
        (b"text/plain, application/json", refused),
        (b"image/", refused),
        (b"image", refused),
        (b"/json", refused),
        (b"", refused),
        (b"\xffimage/png", refused),
    ] {
        let head = Head::new(Body::Sized(2), &[("content-length", b"2"), ("content-type", value)]);
        assert_eq!(head.outcome(&json_or_image), expected, "{}", value.escape_ascii());
    }
    let length = ("content-length", b"2".as_slice());
    let twice = [length, ("content-type", b"application/json"), ("content-type", b"application/json")];
    assert_eq!(Head::new(Body::Sized(2), &twice).outcome(&json_or_image), refused);
    assert_eq!(Head::new(Body::Sized(2), &[length]).outcome(&json_or_image), refused);
    assert_eq!(Head::new(Body::Unsized, &[("transfer-encoding", b"chunked")]).outcome(&json_or_image), refused);
    // Without a body the field means nothing.
    assert_eq!(Head::new(Body::Absent, &[("content-type", b"text/plain")]).outcome(&json_or_image), "ok");
    assert_eq!(Head::new(Body::Sized(2), &[length]).outcome(&Config::defaults()), "ok");
}

#[test]
fn the_deadline_is_the_whole_time_from_the_head_on() {
    let bounds = |written| Head::new(Body::Absent, &[]).decide(&config(written)).expect("within bounds");
    assert_eq!(bounds(json!({})).deadline_nanos, NOW + 30 * SECOND);
    assert_eq!(bounds(json!({ "total": "1500ms" })).deadline_nanos, NOW + 1_500_000_000);
    assert_eq!(bounds(json!({ "total": "off" })).deadline_nanos, u64::MAX);
    assert_eq!(bounds(json!({ "body_bytes": "3KiB" })).body_bytes, 3072);
}

#[test]
fn a_meter_lets_exactly_the_limit_through() {
    let mut meter = BodyMeter::new(&Bounds { body_bytes: 10, deadline_nanos: 0 });
    assert_eq!((meter.count(4), meter.count(6), meter.count(0)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(meter.count(1), Err(Fault::RequestBodyTooLarge));
    assert_eq!(meter.count(0), Err(Fault::RequestBodyTooLarge), "what was cut never looks complete");
    assert_eq!(meter.bytes(), 11);
    let mut huge = BodyMeter::new(&Bounds { body_bytes: u64::MAX - 1, deadline_nanos: 0 });
    assert_eq!(huge.count(usize::MAX), Err(Fault::RequestBodyTooLarge));
    assert_eq!(huge.count(usize::MAX), Err(Fault::RequestBodyTooLarge), "the count stays at its end");
}

proptest! {
    #[test]
    fn a_meter_refuses_from_the_first_byte_past_the_limit(limit in 0_u64..200, pieces in prop::collection::vec(0_usize..50, 0..20)) {
        let mut meter = BodyMeter::new(&Bounds { body_bytes: limit, deadline_nanos: 0 });
        let mut sum = 0;
        for piece in pieces {
            sum += piece as u64;
            prop_assert_eq!(meter.count(piece).is_ok(), sum <= limit);
        }
    }
}
