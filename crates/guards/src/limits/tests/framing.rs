//! What the parser lets through and this guard does not: rows 1 to 10 of the list of attacks.

use http::Version;

use super::super::config::Config;
use super::Head;
use crate::exchange::Body;

const AMBIGUOUS: &str = "400 ERR_AMBIGUOUS_FRAMING close";
const UNKNOWN: &str = "501 ERR_NOT_IMPLEMENTED close";

fn outcome(head: &Head) -> String {
    head.outcome(&Config::defaults())
}

#[test]
fn a_length_is_one_plain_decimal() {
    for (value, expected) in [
        ("0", "ok"),
        ("5", "ok"),
        ("1048576", "ok"),
        ("+5", AMBIGUOUS),
        ("-0", AMBIGUOUS),
        ("0x5", AMBIGUOUS),
        ("1_0", AMBIGUOUS),
        ("1 0", AMBIGUOUS),
        ("", AMBIGUOUS),
        ("00", AMBIGUOUS),
        ("0200", AMBIGUOUS),
        ("5,", AMBIGUOUS),
        ("5, 5", AMBIGUOUS),
        ("5,6", AMBIGUOUS),
        (" 5", AMBIGUOUS),
        ("5\t", AMBIGUOUS),
        ("\u{661}", AMBIGUOUS),
        ("18446744073709551615", "413 ERR_BODY_TOO_LARGE close"),
        ("18446744073709551616", AMBIGUOUS),
        ("18446744073709551617", AMBIGUOUS),
    ] {
        let head = Head::new(Body::Absent, &[("content-length", value.as_bytes())]);
        assert_eq!(outcome(&head), expected, "{value:?}");
    }
    let twice = Head::new(Body::Sized(5), &[("content-length", b"5"), ("content-length", b"5")]);
    assert_eq!(outcome(&twice), AMBIGUOUS);
}

#[test]
fn the_field_says_what_the_parser_read() {
    for (body, fields, expected) in [
        (Body::Absent, &[][..], "ok"),
        (Body::Sized(5), &[("content-length", b"5".as_slice())][..], "ok"),
        (Body::Sized(5), &[("content-length", b"6")], AMBIGUOUS),
        (Body::Unsized, &[("content-length", b"6")], AMBIGUOUS),
        // HTTP/2 needs neither field.
        (Body::Sized(5), &[], "ok"),
        (Body::Unsized, &[], "ok"),
        (Body::Sized(u64::MAX), &[], "413 ERR_BODY_TOO_LARGE close"),
    ] {
        assert_eq!(outcome(&Head::new(body, fields)), expected, "{body:?} {fields:?}");
    }
}

#[test]
fn the_only_coding_is_chunked_once_in_http_1_1() {
    for (value, expected) in [
        (b"chunked".as_slice(), "ok"),
        (b"Chunked", "ok"),
        (b"xchunked", UNKNOWN),
        (b"identity", UNKNOWN),
        (b"gzip", UNKNOWN),
        (b"gzip, chunked", UNKNOWN),
        (b"chunked;a=b", AMBIGUOUS),
        (b"chunked, chunked", AMBIGUOUS),
        (b"chunked, gzip", AMBIGUOUS),
        (b"gzip, chunked, chunked", AMBIGUOUS),
        (b",chunked", AMBIGUOUS),
        (b"chunked,", AMBIGUOUS),
        (b"", AMBIGUOUS),
        (b"\xA0chunked", AMBIGUOUS),
        (b"chunked\x85", AMBIGUOUS),
        (b"\tchunked", AMBIGUOUS),
        (b"chunked ", AMBIGUOUS),
        (b"\"chunked\"", AMBIGUOUS),
    ] {
        let head = Head::new(Body::Unsized, &[("transfer-encoding", value)]);
        assert_eq!(outcome(&head), expected, "{}", value.escape_ascii());
        for version in [Version::HTTP_10, Version::HTTP_2] {
            let head = Head { version, ..Head::new(Body::Unsized, &[("transfer-encoding", value)]) };
            assert_eq!(outcome(&head), AMBIGUOUS, "{version:?}");
        }
    }
    let twice = Head::new(Body::Unsized, &[("transfer-encoding", b"chunked"), ("transfer-encoding", b"chunked")]);
    assert_eq!(outcome(&twice), AMBIGUOUS);
    for (first, second) in [("content-length", "transfer-encoding"), ("transfer-encoding", "content-length")] {
        let value = |name: &str| -> &[u8] { if name == "content-length" { b"5" } else { b"chunked" } };
        let both = Head::new(Body::Unsized, &[(first, value(first)), (second, value(second))]);
        assert_eq!(outcome(&both), AMBIGUOUS);
    }
}

#[test]
fn every_reason_may_stand_in_a_json_string() {
    for fields in [
        &[("content-length", b"x".as_slice())][..],
        &[("content-length", b"5"), ("content-length", b"5")],
        &[("content-length", b"5"), ("transfer-encoding", b"chunked")],
        &[("transfer-encoding", b"chunked"), ("transfer-encoding", b"chunked")],
        &[("transfer-encoding", b"gzip")],
        &[("transfer-encoding", b"chunked;")],
        &[("expect", b"x")],
    ] {
        let refused = Head::new(Body::Unsized, fields).decide(&Config::defaults()).expect_err("refused");
        let reason = refused.refusal.reason.expect("given");
        assert!(reason.bytes().all(|byte| (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\".contains(&byte)));
    }
}
