//! Hostile bytes in every field that comes from outside: a line stays one line and keeps its shape.

use std::sync::Arc;

use portcullis_core::refusal::Code;
use proptest::prelude::*;
use serde_json::Value;

use super::super::{Config, Format};
use super::{guard, named, routed};
use crate::config::PathConfig;
use crate::guard::Guard;
use crate::rehearsal::{get, outcome};
use crate::trail::Rule;

/// Bytes that a header field can hold, as clients would choose them to forge a line.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec((0x20u8..=0xff).prop_filter("DEL", |byte| *byte != 0x7f), 0..600),
        "[\"\\\\{}:,\\t ]{0,40}".prop_map(String::into_bytes),
        "\\PC{0,200}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn whatever_is_sent_a_line_is_one_object_with_one_meaning(agent in hostile(), host in hostile(), rule in "\\PC{0,60}") {
        let (guard, _, lines) = guard(&named(&["api"]));
        let mut exchange = routed(get("/").with("user-agent", &agent).with("host", &host), 0, &rule);
        guard.request(&mut exchange);
        exchange.would_refuse("rate_limit", Code::RateLimited, Rule::Named(Arc::from(rule.as_str())));
        guard.finish(&exchange, &outcome(200));
        let line = lines.take().remove(0);
        prop_assert!(line.len() <= 20 * 1024);
        let text = String::from_utf8(line).unwrap();
        prop_assert!(!text.chars().any(char::is_control));
        let read: Value = serde_json::from_str(&text).unwrap();
        let mut keys: Vec<&str> = read.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        prop_assert_eq!(keys, [
            "attempts", "bytes_in", "bytes_out", "duration_ms", "end", "host", "level", "method", "msg", "path", "peer",
            "route", "status", "time", "upstream", "user_agent", "would_refuse",
        ]);
        if let Ok(agent) = std::str::from_utf8(&agent) && agent.len() <= 256 {
            prop_assert_eq!(read["user_agent"].as_str(), Some(agent), "valid text reads back as it was");
        }
    }

    #[test]
    fn text_lines_stay_one_line(agent in hostile(), host in hostile()) {
        let config = PathConfig {
            access_log: Config { format: Some(Format::Text), ..Config::default() },
            ..PathConfig::default()
        };
        let (guard, _, lines) = guard(&config);
        let mut exchange = get("/").with("user-agent", &agent).with("host", &host).begin();
        guard.request(&mut exchange);
        guard.finish(&exchange, &outcome(200));
        let text = String::from_utf8(lines.take().remove(0)).unwrap();
        prop_assert!(!text.chars().any(char::is_control));
        // Outside quotes there are as many words as we wrote.
        let mut is_quoted = false;
        let mut bytes = text.bytes();
        let mut spaces = 0;
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => drop(bytes.next()),
                b'"' => is_quoted = !is_quoted,
                b' ' if !is_quoted => spaces += 1,
                _ => {}
            }
        }
        prop_assert_eq!((spaces, is_quoted), (11, false), "{}", text);
    }
}
