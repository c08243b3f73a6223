//! `Cache-Control` as far as keeping answers depends on it (RFC 9111, section 5.2).
//!
//! Invariant: what cannot be read never makes an answer more cacheable than it would be without it.

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName};

/// The longest time that is believed, in seconds: 2^31 as RFC 9111, section 1.2.2, has it.
const MOST_SECONDS: u64 = 1 << 31;

/// What the field says. Of times that are said twice the shorter one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CacheControl {
    pub(super) is_public: bool,
    /// `private`, `no-store` or `no-cache`, also for single fields only.
    pub(super) is_forbidden: bool,
    /// `must-revalidate` or `proxy-revalidate`: not to be used once it is stale.
    pub(super) must_revalidate: bool,
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
}

impl CacheControl {
    /// Reads all lines of the field.
    pub(super) fn of(headers: &HeaderMap) -> CacheControl {
        CacheControl::read(headers, &CACHE_CONTROL)
    }

    /// Reads all lines of a field that is written alike (RFC 9213).
    pub(super) fn read(headers: &HeaderMap, field: &HeaderName) -> CacheControl {
        let mut read = CacheControl::default();
        for line in headers.get_all(field) {
            let Ok(line) = line.to_str() else {
                read.is_forbidden = true;
                continue;
            };
            for directive in split(line) {
                read.note(directive);
            }
        }
        read
    }

    fn note(&mut self, directive: &str) {
        let directive = directive.trim();
        if directive.is_empty() {
            return;
        }
        let (name, value) = directive.split_once('=').map_or((directive, None), |(name, value)| (name, Some(value)));
        // What is written wrongly may have been meant to forbid.
        if !is_token(name) || !value.is_none_or(is_value) {
            self.is_forbidden = true;
            return;
        }
        let value = value.map(|value| value.trim_matches('"'));
        let name = name.to_ascii_lowercase();
        match name.trim_matches('\'') {
            "public" => self.is_public = true,
            "private" | "no-store" | "no-cache" => self.is_forbidden = true,
            "must-revalidate" | "proxy-revalidate" => self.must_revalidate = true,
            "max-age" => self.is_forbidden |= !shorter(&mut self.max_age, value),
            "s-maxage" => self.is_forbidden |= !shorter(&mut self.s_maxage, value),
            "stale-if-error" => self.is_forbidden |= !shorter(&mut self.stale_if_error, value),
            _ => {}
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_letter = |letter: u8| letter.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&letter);
    !text.is_empty() && text.bytes().all(is_letter)
}

/// A token, or a text in quotes.
fn is_value(text: &str) -> bool {
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    is_token(text) || inside.is_some_and(|inside| !inside.contains('"'))
}

/// Takes the shorter time; whether this one could be read. One that cannot is none at all: 0 (RFC 9111, section 4.2.1).
fn shorter(known: &mut Option<u64>, value: Option<&str>) -> bool {
    let said = value.filter(|value| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()));
    // More digits than a number has are a long time.
    let time = said.map_or(0, |said| said.parse().unwrap_or(MOST_SECONDS).min(MOST_SECONDS));
    *known = Some(known.map_or(time, |known| known.min(time)));
    said.is_some()
}

/// The parts between commas that are not in quotes.
fn split(line: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    line.split(move |character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> CacheControl {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, HeaderValue::from_str(line).unwrap());
        }
        CacheControl::of(&headers)
    }

    #[test]
    fn directives_are_read_over_lines_and_cases() {
        let read = read(&["Public , MAX-AGE=60", "s-maxage=\"30\", stale-if-error=600, max-age=90"]);
        let expected = CacheControl {
            is_public: true,
            max_age: Some(60),
            s_maxage: Some(30),
            stale_if_error: Some(600),
            ..CacheControl::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_cannot_be_read_is_no_time_at_all() {
        for broken in ["max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=abc", "max-age=60 60"] {
            assert!(read(&[broken]).is_forbidden, "{broken}");
        }
        assert_eq!(read(&["max-age=99999999999999999999999"]).max_age, Some(MOST_SECONDS));
    }

    #[test]
    fn what_is_written_wrongly_forbids() {
        for broken in [
            "max-age=60; private",
            "max-age=60 private",
            "no-store; x, max-age=60",
            "public, 'private'",
            "max-age=60, \"private\"",
            "public, x=\"private",
            "public, =x",
            "public, x=\"a\"b\"",
        ] {
            assert!(read(&[broken]).is_forbidden, "{broken}");
        }
        assert!(!read(&["public,, max-age=9 ,"]).is_forbidden, "empty elements are allowed (RFC 9110, section 5.6.1)");
    }

    #[test]
    fn a_directive_in_quotes_is_none() {
        assert!(!read(&["ext=\"a, public, b\""]).is_public);
        assert!(read(&["private=\"set-cookie, x\", max-age=9"]).is_forbidden);
    }

    proptest! {
        #[test]
        fn more_directives_never_forbid_less(lines in prop::collection::vec("[ -~]{0,40}", 0..4), more in "[ -~]{0,40}") {
            let fewer: Vec<&str> = lines.iter().map(String::as_str).collect();
            let mut all = fewer.clone();
            all.push(&more);
            let (fewer, all) = (read(&fewer), read(&all));
            prop_assert!(all.is_forbidden || !fewer.is_forbidden);
            prop_assert!(all.must_revalidate || !fewer.must_revalidate);
            prop_assert!(fewer.max_age.is_none() || all.max_age <= fewer.max_age);
        }
    }
}
