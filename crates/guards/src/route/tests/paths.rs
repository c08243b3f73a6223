//! How single paths are read: rows 53 to 60 of the list of attacks, and what must stay as it is.

use http::Uri;
use serde_json::json;

use super::super::normal_path::*;
use super::{Asked, rules};

/// The path as rules see it and as it is forwarded.
fn read(path: &str) -> Result<(String, String), &'static str> {
    normalise(path.as_bytes()).map(|normal| (normal.matched, normal.forwarded))
}

#[test]
fn equal_paths_get_one_spelling() {
    for (sent, matched, forwarded) in [
        ("/", "/", "/"),
        ("/admin", "/admin", "/admin"),
        // Row 53.
        ("//admin", "/admin", "/admin"),
        ("/./admin", "/admin", "/admin"),
        ("/x/../admin", "/admin", "/admin"),
        ("/admin/", "/admin", "/admin/"),
        ("/admin//", "/admin", "/admin/"),
        ("/admin/.", "/admin", "/admin/"),
        ("/admin/x/..", "/admin", "/admin/"),
        ("/a/b/../../admin", "/admin", "/admin"),
        ("/x/..", "/", "/"),
        ("/.", "/", "/"),
        ("////", "/", "/"),
        ("/%2e/admin", "/admin", "/admin"),
        ("/x/%2E%2e/admin", "/admin", "/admin"),
        ("/x/.%2e/admin", "/admin", "/admin"),
        // Row 54: decoded once.
        ("/%61dmin", "/admin", "/admin"),
        ("/%2561dmin", "/%2561dmin", "/%2561dmin"),
        ("/%252e%252e/admin", "/%252e%252e/admin", "/%252e%252e/admin"),
        ("/%25%36%31", "/%2561", "/%2561"),
        // Row 56: parameters.
        ("/admin;x=1", "/admin", "/admin;x=1"),
        ("/admin;x=1/users;y=2", "/admin/users", "/admin;x=1/users;y=2"),
        ("/a;p/../admin", "/admin", "/admin"),
        ("/app/;session=1", "/app", "/app/;session=1"),
        ("/;session=1", "/", "/;session=1"),
        ("/admin;%61=%2c", "/admin", "/admin;a=%2C"),
        // Row 58: case, dots and spaces are part of the name.
        ("/Admin", "/Admin", "/Admin"),
        ("/admin.", "/admin.", "/admin."),
        ("/admin%20", "/admin%20", "/admin%20"),
        ("/adm%c4%b1n", "/adm%C4%B1n", "/adm%C4%B1n"),
        ("/.../x", "/.../x", "/.../x"),
        ("/.well-known/x", "/.well-known/x", "/.well-known/x"),
        // Row 59: an escaped mark ends nothing.
        ("/public%3f/../admin", "/admin", "/admin"),
        ("/public%3fx", "/public%3Fx", "/public%3Fx"),
        ("/a%23b", "/a%23b", "/a%23b"),
        // Delimiters mean the same to rules, escaped or not; the upstream gets the difference.
        ("/a%2cb", "/a,b", "/a%2Cb"),
        ("/a,b:c@d!$&'()*+=", "/a,b:c@d!$&'()*+=", "/a,b:c@d!$&'()*+="),
        ("/a%3bx", "/a%3Bx", "/a%3Bx"),
        // What only may stand as an escape is made one.
        ("/a[1]{x}|\"^`<>", "/a%5B1%5D%7Bx%7D%7C%22%5E%60%3C%3E", "/a%5B1%5D%7Bx%7D%7C%22%5E%60%3C%3E"),
        ("/%F0%9F%98%80", "/%F0%9F%98%80", "/%F0%9F%98%80"),
    ] {
        assert_eq!(read(sent), Ok((matched.to_owned(), forwarded.to_owned())), "{sent}");
    }
}

#[test]
fn what_has_two_readings_is_refused() {
    for (sent, reason) in [
        ("", NO_LEADING_SLASH),
        ("admin", NO_LEADING_SLASH),
        ("/..", ABOVE_ROOT),
        ("/a/../../admin", ABOVE_ROOT),
        ("/%2e%2e/admin", ABOVE_ROOT),
        // Empty segments do not count as something to go up from.
        ("//../admin", ABOVE_ROOT),
        // Row 55.
        ("/x%2f..%2fadmin", ENCODED_DOTS),
        ("/..%2fadmin", ENCODED_DOTS),
        ("/a;x%2F..%2Fadmin", ENCODED_DOTS),
        ("/;x%2F..", ENCODED_DOTS),
        ("/x%5cadmin", ENCODED_BACKSLASH),
        ("/\\admin", BACKSLASH),
        // Row 56.
        ("/public/..;/admin", PARAMETERS_ON_DOTS),
        ("/public/.;x=1/admin", PARAMETERS_ON_DOTS),
        ("/public/%2e%2e;/admin", PARAMETERS_ON_DOTS),
        ("/public/..%3b/admin", ENCODED_DOTS),
        ("/public/..%3Bx/admin", ENCODED_DOTS),
        ("/;/admin", PARAMETERS_ALONE),
        ("/;/../admin", PARAMETERS_ALONE),
        // Row 57.
        ("/%c0%af", NOT_UTF8),
        ("/%e0%80%af", NOT_UTF8),
        ("/%ed%a0%80", NOT_UTF8),
        ("/%f8%88%80%80%80", NOT_UTF8),
        ("/%c3", NOT_UTF8),
        ("/%c3x", NOT_UTF8),
        ("/%c3/%a9", NOT_UTF8),
        ("/%80", NOT_UTF8),
        ("/adm\u{131}n", NON_ASCII),
        ("/%00", ENCODED_CONTROL),
        ("/%0d%0aX:y", ENCODED_CONTROL),
        ("/%7f", ENCODED_CONTROL),
        ("/%zz", BROKEN_ESCAPE),
        ("/%", BROKEN_ESCAPE),
        ("/a%4", BROKEN_ESCAPE),
        ("/%c3%zz", BROKEN_ESCAPE),
        ("/;%", BROKEN_ESCAPE),
        ("/a\0b", CONTROL),
        ("/a b", CONTROL),
        ("/a\x7f", CONTROL),
        // Row 59.
        ("/admin#x", FRAGMENT),
    ] {
        assert_eq!(read(sent), Err(reason), "{sent}");
    }
}

#[test]
fn every_reason_may_stand_in_a_json_string() {
    for reason in [
        NO_LEADING_SLASH,
        ABOVE_ROOT,
        BACKSLASH,
        BROKEN_ESCAPE,
        CONTROL,
        ENCODED_BACKSLASH,
        ENCODED_CONTROL,
        ENCODED_DOTS,
        ENCODED_SLASH,
        FRAGMENT,
        NON_ASCII,
        NOT_UTF8,
        PARAMETERS_ALONE,
        PARAMETERS_ON_DOTS,
        QUERY,
        TOO_LONG,
    ] {
        assert!(reason.bytes().all(|byte| (byte == b' ' || byte.is_ascii_graphic()) && !b"\"\\".contains(&byte)));
    }
}

#[test]
fn the_query_is_passed_on_as_it_was_sent() {
    let all = rules(json!([{}]));
    for (sent, forwarded) in [
        ("/a?x=%2e%2e/../;%zz&a=1&a=2", "/a?x=%2e%2e/../;%zz&a=1&a=2"),
        ("/a//b?x//y", "/a/b?x//y"),
        ("/admin?", "/admin?"),
        ("//admin?", "/admin?"),
        // Row 59: what follows the mark is no path.
        ("/public?/../admin", "/public?/../admin"),
        ("http://h", "/"),
        ("http://h?x=1", "/?x=1"),
        ("http://h/a//b?c", "/a/b?c"),
    ] {
        assert_eq!(Asked::new("GET", sent).paths(&all).1, forwarded, "{sent}");
    }
    for sent in ["/a?caf\u{e9}", "http://h/a?\u{200b}"] {
        assert_eq!(Asked::new("GET", sent).outcome(&all), format!("400 {QUERY}"), "{sent:?}");
    }
}

#[test]
fn a_path_in_normal_form_is_not_copied() {
    for sent in ["/", "/api/v1/items", "/api/v1/items/", "/a,b:c@d?x=1", "/.well-known/x", "/caf%C3%A9"] {
        let uri: Uri = sent.parse().unwrap();
        let path = NormalPath::of(&uri).unwrap();
        assert!(std::ptr::eq(path.matched(&uri).as_ptr(), uri.path().as_ptr()), "{sent}");
        assert!(std::ptr::eq(path.forwarded(&uri).as_str().as_ptr(), uri.path().as_ptr()), "{sent}");
    }
}

#[test]
fn a_path_that_grows_beyond_what_can_be_held_is_refused() {
    let uri: Uri = format!("/{}", "|".repeat(60_000)).parse().unwrap();
    assert_eq!(NormalPath::of(&uri).map(drop), Err(TOO_LONG));
    let uri: Uri = format!("/{}", "a".repeat(60_000)).parse().unwrap();
    assert!(NormalPath::of(&uri).is_ok());
}
