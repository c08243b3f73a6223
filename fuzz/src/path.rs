//! Path normalisation: one normal form, stable, and no server that decodes once understands another path than the rules.
//!
//! The servers are modelled after what nginx, Tomcat and Node do with a target; `crates/cli/tests/it/differential` asks the
//! real ones.
//!
//! Invariant: a target that passes holds no dot segment and no escape that a reader might take for a separator.

use http::Uri;
use portcullis_guards::route::NormalPath;

/// Any bytes as a request target.
pub fn check(bytes: &[u8]) {
    let Ok(uri) = Uri::try_from(bytes) else { return };
    let Ok(path) = NormalPath::of(&uri) else { return };
    let matched = path.matched(&uri);
    let forwarded = path.forwarded(&uri);
    assert_eq!(forwarded.query(), uri.query(), "the query changed");
    let sent = forwarded.path();
    is_normal(matched);
    is_sendable(forwarded.as_str());
    again(matched, matched, path.has_encoded_slash(), None);
    again(forwarded.as_str(), matched, path.has_encoded_slash(), Some(forwarded.as_str()));
    let understood = decoded(matched);
    for dots in sent.split('/').map(|segment| decoded(segment.split(';').next().unwrap_or_default())) {
        assert!(dots != b"." && dots != b"..", "a dot segment in {sent:?}");
    }
    if path.has_encoded_slash() {
        // Refused, unless the route keeps them; then the route guard looks at both readings.
        return;
    }
    assert_eq!(tomcat(sent), understood, "Tomcat would understand {sent:?} as another path than {matched:?}");
    if !sent.contains(';') {
        assert_eq!(without_end_slash(nginx(sent)), understood, "nginx would understand {sent:?} otherwise");
        assert_eq!(without_end_slash(decoded(sent)), understood, "Node would understand {sent:?} otherwise");
    }
}

/// Normalising what came out changes nothing.
fn again(text: &str, matched: &str, has_encoded_slash: bool, forwarded: Option<&str>) {
    let uri = Uri::try_from(text).expect("what comes out is a target");
    let path = NormalPath::of(&uri).unwrap_or_else(|reason| panic!("{text:?} came out and is refused: {reason}"));
    assert_eq!(path.matched(&uri), matched, "normalised twice: {text:?}");
    if let Some(forwarded) = forwarded {
        assert_eq!(path.forwarded(&uri).as_str(), forwarded, "forwarded twice");
        // Dot segments may have taken the segment that held it.
        assert!(has_encoded_slash || !path.has_encoded_slash(), "an encoded slash from nowhere");
    }
}

fn is_normal(matched: &str) {
    assert!(matched.starts_with('/'), "{matched:?}");
    assert!(matched == "/" || !matched.ends_with('/'), "{matched:?}");
    assert!(!matched.contains("//"), "{matched:?}");
    let mut rest = matched.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'%' {
            let (value, after) = escape(rest).unwrap_or_else(|| panic!("a broken escape in {matched:?}"));
            let is_upper = rest[..2].iter().all(|digit| !digit.is_ascii_lowercase());
            assert!(is_upper, "an escape in lower case in {matched:?}");
            let is_needless = value.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&value);
            let is_forbidden = value < b' ' || value == 0x7F || value == b'\\';
            assert!(!is_needless && !is_forbidden, "%{value:02X} in {matched:?}");
            rest = after;
        } else {
            assert!(byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(byte), "{byte:?} in {matched:?}");
        }
    }
    assert!(std::str::from_utf8(&decoded(matched)).is_ok(), "{matched:?} is no UTF-8");
}

fn is_sendable(target: &str) {
    assert!(target.starts_with('/'), "{target:?}");
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{target:?}");
    let path = target.split('?').next().unwrap_or_default();
    assert!(!path.contains('\\') && !path.contains("//"), "{target:?}");
}

fn escape(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let digits = std::str::from_utf8(after_percent.get(..2)?).ok()?;
    Some((u8::from_str_radix(digits, 16).ok()?, &after_percent[2..]))
}

/// Every escape decoded, once.
fn decoded(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, escape(rest)) {
            (b'%', Some((value, after))) => {
                bytes.push(value);
                rest = after;
            }
            _ => bytes.push(*byte),
        }
    }
    bytes
}

/// Decodes, merges slashes, resolves dots: what a `location` of nginx is matched against.
fn nginx(path: &str) -> Vec<u8> {
    resolved(&decoded(path))
}

/// Takes parameters off every segment, then decodes, then resolves: what a servlet's mapping is matched against.
fn tomcat(path: &str) -> Vec<u8> {
    let bare: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    without_end_slash(resolved(&decoded(&bare.join("/"))))
}

fn resolved(path: &[u8]) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let ends_in_slash = path.ends_with(b"/");
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    let mut path = vec![b'/'];
    path.extend(segments.join(&b'/'));
    if ends_in_slash && path.len() > 1 {
        path.push(b'/');
    }
    path
}

fn without_end_slash(mut path: Vec<u8>) -> Vec<u8> {
    if path.len() > 1 && path.ends_with(b"/") {
        path.pop();
    }
    path
}
