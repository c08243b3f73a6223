//! Properties of normalisation and matching over random input, held against models that are as plain as can be.

use http::{Method, Uri};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::super::normal_path::{NormalPath, normalise};
use super::{Asked, rules};

/// Pieces that paths are made of, chosen so that the special cases meet often.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "/", "/", "/", "/", ".", "..", "%2e", "%2E", "a", "b", "%61", "%62", "admin", ";", "x=1", "%3b", "%2f", "%2F",
        "%5c", "%25", "%2561", "%00", "%c3%a9", "%C3%A9", "%c0%af", "%2c", ",", "%7C", "|", "*", "%2a", "%", "%4", "~",
        "%7e", "\\", "?", "#", "\u{e9}", "%20", " ",
    ])
}

fn path() -> impl Strategy<Value = String> {
    vec(piece(), 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// What an upstream makes of a path: cuts it at slashes, takes parameters off if it knows them, decodes each segment once,
/// resolves dots, and overlooks empty segments. `None` when it goes above the root.
fn understood(path: &str, knows_parameters: bool) -> Option<Vec<Vec<u8>>> {
    let mut segments = Vec::new();
    for raw in path.split('/') {
        let raw = if knows_parameters { raw.split(';').next().unwrap_or_default() } else { raw };
        match decoded(raw).as_slice() {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            segment => segments.push(segment.to_vec()),
        }
    }
    Some(segments)
}

/// Whether a segment, with escaped slashes taken for slashes and escaped semicolons for semicolons, hides dots.
fn hides_dots(path: &str) -> bool {
    let lower = path.to_ascii_lowercase().replace("%2f", "/").replace("%3b", ";").replace("%2e", ".");
    lower.split('/').any(|segment| [".", ".."].contains(&segment.split(';').next().unwrap_or_default()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_upstream_understands_what_the_rules_saw(sent in path()) {
        if let Ok(normal) = normalise(sent.as_bytes()) {
            let matched = understood(&normal.matched, false);
            prop_assert!(matched.is_some());
            // What was sent means the same to the gateway as to an upstream behind it ...
            prop_assert_eq!(&understood(&sent, true), &matched);
            // ... and so does what is forwarded; to an upstream that knows no parameters, unless there are some.
            prop_assert_eq!(&understood(&normal.forwarded, true), &matched);
            if !sent.contains(';') {
                prop_assert_eq!(&understood(&normal.forwarded, false), &matched);
            }
            prop_assert!(!hides_dots(&normal.forwarded), "{}", normal.forwarded);
        }
    }

    #[test]
    fn two_paths_that_decode_alike_are_matched_alike(one in path(), two in path()) {
        if let (Ok(first), Ok(second)) = (normalise(one.as_bytes()), normalise(two.as_bytes())) {
            prop_assert_eq!(understood(&one, true) == understood(&two, true), first.matched == second.matched);
        }
    }

    #[test]
    fn normalising_twice_is_normalising_once(sent in path()) {
        if let Ok(normal) = normalise(sent.as_bytes()) {
            let again = |path: &str| normalise(path.as_bytes()).map(|again| (again.matched, again.forwarded));
            prop_assert_eq!(again(&normal.forwarded), Ok((normal.matched.clone(), normal.forwarded.clone())));
            prop_assert_eq!(again(&normal.matched), Ok((normal.matched.clone(), normal.matched.clone())));
            prop_assert!(normal.has_encoded_slash || !normal.forwarded.contains("%2F"));
        }
    }

    #[test]
    fn no_bytes_panic_and_what_passes_is_plain(sent in vec(any::<u8>(), 0..64), pieces in path()) {
        for sent in [sent.as_slice(), &[b"/", sent.as_slice()].concat(), pieces.as_bytes()] {
            if let Ok(normal) = normalise(sent) {
                for text in [normal.matched, normal.forwarded] {
                    prop_assert!(text.starts_with('/') && !text.contains("//"));
                    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#?\"<>[]^`{|}".contains(&byte));
                    prop_assert!(is_plain, "{}", text);
                }
            }
        }
    }

    #[test]
    fn reading_a_uri_agrees_with_normalising_its_path(sent in path()) {
        let Ok(uri) = sent.parse::<Uri>() else { return Ok(()) };
        match (NormalPath::of(&uri), normalise(uri.path().as_bytes())) {
            (Ok(path), Ok(normal)) => {
                prop_assert_eq!(path.matched(&uri), normal.matched);
                prop_assert_eq!(path.has_encoded_slash(), normal.has_encoded_slash);
                let forwarded = path.forwarded(&uri);
                prop_assert_eq!(forwarded.path(), normal.forwarded);
                prop_assert_eq!(forwarded.query(), uri.query());
            }
            (one, two) => prop_assert_eq!(one.map(drop).is_err() || uri.query().is_some(), two.is_err() || uri.query().is_some()),
        }
    }

    #[test]
    fn the_tree_finds_what_trying_every_pattern_finds(
        patterns in prop::collection::btree_set(vec(prop::sample::select(vec!["a", "b", "*"]), 0..4), 1..12),
        rests in vec(any::<bool>(), 12),
        asked in vec(prop::sample::select(vec!["a", "b", "c"]), 0..5),
    ) {
        let patterns: Vec<Vec<&str>> = patterns
            .into_iter()
            .zip(rests)
            .map(|(mut pattern, has_rest)| {
                pattern.extend(has_rest.then_some("**"));
                pattern
            })
            .collect();
        let routes: Vec<_> = patterns
            .iter()
            .map(|pattern| json!({ "name": format!("r{}", name(pattern)), "match": { "path": format!("/{}", pattern.join("/")) } }))
            .collect();
        let rules = rules(json!(routes));
        // Literals sort before `*`, and the end of a pattern before its `**`.
        let rank = |pattern: &&Vec<&str>| -> Vec<u8> {
            pattern.iter().map(|piece| match *piece { "**" => 3, "*" => 2, _ => 1 }).chain([0]).collect()
        };
        let expected = patterns.iter().filter(|pattern| takes(pattern, &asked)).min_by_key(rank);
        let outcome = Asked::new("GET", &format!("/{}", asked.join("/"))).outcome(&rules);
        prop_assert_eq!(outcome, expected.map_or("404".to_owned(), |pattern| format!("r{}", name(pattern))));
    }

    #[test]
    fn any_target_and_host_are_answered(target in "[ -~]{1,40}", host in vec(any::<u8>(), 0..20), method in "[A-Za-z*]{1,8}") {
        let rules = rules(json!([
            { "match": { "path": "/**", "host": "a.b" } },
            { "match": { "path": "/x/*/**", "encoded_slash": "keep", "case_insensitive": true }, "strip_prefix": "/x" },
        ]));
        let (Ok(uri), Ok(host)) = (target.parse(), http::HeaderValue::from_bytes(&host)) else { return Ok(()) };
        let mut asked = Asked::new("GET", "/");
        asked.uri = uri;
        asked.method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        asked.headers.insert(http::header::HOST, host);
        let decision = asked.decide(&rules);
        prop_assert!(decision.answer.is_err() || decision.path.is_some());
    }
}

fn name(pattern: &[&str]) -> String {
    pattern.join("-").replace("**", "rest").replace('*', "one")
}

fn takes(pattern: &[&str], asked: &[&str]) -> bool {
    match (pattern, asked) {
        ([], []) | (["**"], _) => true,
        ([piece, pattern @ ..], [segment, asked @ ..]) => (*piece == "*" || piece == segment) && takes(pattern, asked),
        _ => false,
    }
}
