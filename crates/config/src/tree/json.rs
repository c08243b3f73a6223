//! The one thing that JSON writes and YAML does not read: `"\ud83d\ude00"`, a character beyond 16 bits as two halves
//! (RFC 8259, section 7).
//!
//! Runs before the YAML parser on texts that are JSON, and writes `"\U0001f600"` instead.
//!
//! Invariant: lines stay as they are; behind a rewritten character, columns of the same line are two less.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// The text with each pair of halves written as one character, where the text is JSON and has such pairs.
pub(super) fn with_whole_characters(text: &str) -> Cow<'_, str> {
    let has_halves = text.contains("\\ud") || text.contains("\\uD");
    let is_json = has_halves && text.trim_start().starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok();
    if !is_json {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match pair(rest) {
            Some(character) => {
                out.push_str(&format!("\\U{:08x}", u32::from(character)));
                12
            }
            None => {
                // A backslash and what it escapes, so that `\\ud83d` is not taken for a half.
                let end = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&rest[..end]);
                end
            }
        };
        rest = &rest[taken..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The character of the pair that the text begins with.
fn pair(text: &str) -> Option<char> {
    let half = |text: &str| u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok();
    let halves = [half(text)?, half(text.get(6..)?)?];
    char::decode_utf16(halves).next()?.ok().filter(|character| u32::from(*character) > 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_become_one_character_in_json_only() {
        assert_eq!(with_whole_characters(r#"{"a": "\ud83d\ude00\n\\ud83d"}"#), r#"{"a": "\U0001f600\n\\ud83d"}"#);
        for same in [r#"a: '\ud83d\ude00'"#, r#"{"a": "\u00e9"}"#, r#"{"a": "\ud83d\ude00""#, "{}"] {
            assert_eq!(with_whole_characters(same), same);
        }
    }
}
