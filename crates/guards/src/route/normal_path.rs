//! The path of a request, decoded once and normalised once: the same for matching, limiting, logging and the upstream.
//!
//! Two spellings come out. `matched` is what rules see: one spelling for everything that an upstream which decodes once
//! and resolves dots understands as the same path. `forwarded` is what the upstream gets: the same segments, with path
//! parameters, the trailing slash and escapes of delimiters left as they were sent. RFC 3986, sections 5.2.4 and 6.2.2.
//!
//! Invariant: a path that two readers could understand differently is refused, never guessed at. Most paths are already
//! in normal form; those are recognised in one scan and nothing is allocated.

use std::str::from_utf8;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

/// Why a path is refused, as the client reads it.
pub(super) type Reason = &'static str;

pub(super) const NO_LEADING_SLASH: Reason = "the path must begin with a slash";
pub(super) const ABOVE_ROOT: Reason = "the path leads above the root";
pub(super) const BACKSLASH: Reason = "the path holds a backslash";
pub(super) const BROKEN_ESCAPE: Reason = "the path holds a percent sign that is not followed by two hex digits";
pub(super) const CONTROL: Reason = "the path holds a space or a control character";
pub(super) const ENCODED_BACKSLASH: Reason = "the path holds an encoded backslash";
pub(super) const ENCODED_CONTROL: Reason = "the path holds an encoded control character";
pub(super) const ENCODED_DOTS: Reason = "the path hides a dot segment behind an encoded slash or semicolon";
pub(super) const ENCODED_SLASH: Reason = "the path holds an encoded slash";
pub(super) const FRAGMENT: Reason = "the path holds a fragment or a query mark";
pub(super) const NON_ASCII: Reason = "the path holds bytes outside ASCII that are not percent-encoded";
pub(super) const NOT_UTF8: Reason = "the path holds escapes that are not valid UTF-8";
pub(super) const PARAMETERS_ALONE: Reason = "the path holds a segment that is nothing but parameters";
pub(super) const PARAMETERS_ON_DOTS: Reason = "the path holds a dot segment with parameters";
pub(super) const QUERY: Reason = "the query holds a space, a control character or bytes outside ASCII";
pub(super) const TOO_LONG: Reason = "the path is too long once it is normalised";

/// Most bytes of a normalised path with its query: what the `http` crate can hold, rounded down.
const MAX_TARGET_BYTES: usize = 65_000;

/// A request's path in normal form. Holds text only where that differs from the target as it was sent, so it is always
/// read together with the exchange's `uri`.
#[derive(Clone, Debug)]
pub struct NormalPath {
    matched: Matched,
    forwarded: Option<PathAndQuery>,
    has_encoded_slash: bool,
}

#[derive(Clone, Debug)]
enum Matched {
    /// The first so many bytes of the path as it was sent: all of it, or all but a trailing slash.
    AsSent(usize),
    /// Another spelling.
    Rewritten(Box<str>),
}

impl NormalPath {
    /// Normalises the path of `uri` and checks its query.
    ///
    /// # Errors
    /// A fixed text that tells the client what is wrong with the target.
    pub fn of(uri: &Uri) -> Result<NormalPath, &'static str> {
        if !uri.query().unwrap_or_default().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(QUERY);
        }
        let path = uri.path();
        // `http://host?x` has an empty path that reads as `/` but would be written as nothing.
        let is_written = uri.path_and_query().is_some_and(|target| target.as_str().starts_with('/'));
        if is_plain(path.as_bytes()) && is_written {
            let matched = Matched::AsSent(without_trailing_slash(path).len());
            return Ok(NormalPath { matched, forwarded: None, has_encoded_slash: false });
        }
        let normal = normalise(path.as_bytes())?;
        let matched = if normal.matched == without_trailing_slash(path) {
            Matched::AsSent(normal.matched.len())
        } else {
            Matched::Rewritten(normal.matched.into_boxed_str())
        };
        let forwarded =
            if normal.forwarded == path && is_written { None } else { Some(target(&normal.forwarded, uri.query())?) };
        Ok(NormalPath { matched, forwarded, has_encoded_slash: normal.has_encoded_slash })
    }

    /// The text that rules are matched against and logs show: begins with `/`, has no trailing slash, no empty and no
    /// dot segments, no parameters, and the only escapes left are those of bytes that may not stand for themselves.
    ///
    /// `uri` is the exchange's own.
    #[must_use]
    pub fn matched<'a>(&'a self, uri: &'a Uri) -> &'a str {
        match &self.matched {
            Matched::AsSent(length) => uri.path().get(..*length).unwrap_or("/"),
            Matched::Rewritten(text) => text,
        }
    }

    /// Path and query as they are sent to the upstream. `uri` is the exchange's own.
    #[must_use]
    pub fn forwarded(&self, uri: &Uri) -> PathAndQuery {
        let as_sent = || uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        self.forwarded.clone().unwrap_or_else(as_sent)
    }

    /// Whether the path as it was sent held an escaped slash (`%2F`), which some upstreams read as a slash.
    #[must_use]
    pub fn has_encoded_slash(&self) -> bool {
        self.has_encoded_slash
    }

    /// Takes the first `segments` segments off the forwarded path. What rules and logs see stays.
    pub(super) fn strip(&mut self, uri: &Uri, segments: usize) -> Result<(), Reason> {
        let forwarded = self.forwarded(uri);
        let mut rest = forwarded.path();
        for _ in 0..segments {
            rest = rest.get(1..).and_then(|rest| rest.find('/').map(|slash| &rest[slash..])).unwrap_or("/");
        }
        self.forwarded = Some(target(rest, forwarded.query())?);
        Ok(())
    }
}

/// What comes out of [`normalise`]; both begin with `/`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Normal {
    pub(super) matched: String,
    pub(super) forwarded: String,
    pub(super) has_encoded_slash: bool,
}

/// What a byte of a path is, on its own or as the value of an escape.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Letters, digits and `-_~`: the same thing escaped or not (RFC 3986, section 2.3).
    Unreserved,
    /// Unreserved too, but may make a dot segment.
    Dot,
    /// `!$&'()*+,=:@`: may stand for itself in a segment; an upstream may tell it from its escape.
    Delimiter,
    /// Begins parameters.
    Semicolon,
    Slash,
    Backslash,
    Percent,
    /// `#` and `?`: end the path.
    End,
    /// Space and control characters.
    Control,
    /// From 0x80.
    High,
    /// Visible, but only allowed as an escape. Some clients send it raw.
    Other,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => Class::Unreserved,
            b'.' => Class::Dot,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => Class::Delimiter,
            b';' => Class::Semicolon,
            b'/' => Class::Slash,
            b'\\' => Class::Backslash,
            b'%' => Class::Percent,
            b'#' | b'?' => Class::End,
            0..=b' ' | 0x7F => Class::Control,
            0x80.. => Class::High,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> Class {
    CLASSES[usize::from(byte)]
}

/// Whether the path is in normal form for sure: the common case, decided without allocating.
fn is_plain(path: &[u8]) -> bool {
    let mut is_segment_start = false;
    for &byte in path {
        match class(byte) {
            Class::Unreserved | Class::Delimiter => is_segment_start = false,
            Class::Slash | Class::Dot if is_segment_start => return false,
            Class::Slash => is_segment_start = true,
            Class::Dot => {}
            _ => return false,
        }
    }
    path.first() == Some(&b'/')
}

fn without_trailing_slash(path: &str) -> &str {
    match path.strip_suffix('/') {
        Some("") | None => path,
        Some(rest) => rest,
    }
}

fn target(path: &str, query: Option<&str>) -> Result<PathAndQuery, Reason> {
    let mut text = Vec::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
    text.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
    }
    if text.len() > MAX_TARGET_BYTES {
        return Err(TOO_LONG);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| CONTROL)
}

/// Normalises any bytes as a path, or says why they are none.
pub(super) fn normalise(path: &[u8]) -> Result<Normal, Reason> {
    let segments = path.strip_prefix(b"/").ok_or(NO_LEADING_SLASH)?;
    let mut matched = String::with_capacity(path.len());
    let mut forwarded = String::with_capacity(path.len());
    let mut has_encoded_slash = false;
    let mut has_trailing_slash = false;
    let mut segments = segments.split(|byte| *byte == b'/').peekable();
    let mut segment = Segment::default();
    while let Some(raw) = segments.next() {
        let is_last = segments.peek().is_none();
        segment.read(raw)?;
        has_encoded_slash |= segment.has_encoded_slash;
        has_trailing_slash = is_last;
        match (segment.matched.as_str(), segment.has_parameters) {
            ("." | "..", true) => return Err(PARAMETERS_ON_DOTS),
            ("", false) | (".", false) => {}
            ("..", false) => {
                matched.truncate(matched.rfind('/').ok_or(ABOVE_ROOT)?);
                forwarded.truncate(forwarded.rfind('/').ok_or(ABOVE_ROOT)?);
            }
            // `/app/;session=1` is how some frameworks write `/app/`. In the middle, readers disagree on what it is.
            ("", true) if is_last => {
                segment.refuse_hidden_dots()?;
                forwarded.push('/');
                forwarded.push_str(&segment.forwarded);
                has_trailing_slash = false;
            }
            ("", true) => return Err(PARAMETERS_ALONE),
            (name, _) => {
                segment.refuse_hidden_dots()?;
                matched.push('/');
                matched.push_str(name);
                forwarded.push('/');
                forwarded.push_str(&segment.forwarded);
                has_trailing_slash = false;
            }
        }
    }
    if matched.is_empty() {
        matched.push('/');
    }
    if has_trailing_slash || forwarded.is_empty() {
        forwarded.push('/');
    }
    Ok(Normal { matched, forwarded, has_encoded_slash })
}

/// One segment while it is read. Kept between segments for its buffers.
#[derive(Default)]
struct Segment {
    matched: String,
    forwarded: String,
    has_parameters: bool,
    has_encoded_slash: bool,
}

impl Segment {
    fn read(&mut self, raw: &[u8]) -> Result<(), Reason> {
        self.matched.clear();
        self.forwarded.clear();
        self.has_parameters = false;
        self.has_encoded_slash = false;
        let mut rest = raw;
        while let [byte, after @ ..] = rest {
            rest = after;
            match class(*byte) {
                Class::Unreserved | Class::Dot | Class::Delimiter => self.put(*byte),
                Class::Semicolon => {
                    self.has_parameters = true;
                    self.put(b';');
                }
                Class::Percent => rest = self.read_escape(after)?,
                Class::Other => self.put_escape(*byte),
                Class::Backslash => return Err(BACKSLASH),
                Class::End => return Err(FRAGMENT),
                Class::High => return Err(NON_ASCII),
                Class::Slash | Class::Control => return Err(CONTROL),
            }
        }
        Ok(())
    }

    /// Reads an escape whose `%` is already taken, and gives back what follows it.
    fn read_escape<'a>(&mut self, rest: &'a [u8]) -> Result<&'a [u8], Reason> {
        let (value, mut rest) = escape(rest)?;
        match class(value) {
            Class::Unreserved | Class::Dot => self.put(value),
            Class::Delimiter => {
                if !self.has_parameters {
                    self.matched.push(char::from(value));
                }
                put_escape(&mut self.forwarded, value);
            }
            Class::Slash => {
                self.has_encoded_slash = true;
                self.put_escape(value);
            }
            Class::Semicolon | Class::Percent | Class::End | Class::Other => self.put_escape(value),
            Class::Control if value == b' ' => self.put_escape(value),
            Class::Control => return Err(ENCODED_CONTROL),
            Class::Backslash => return Err(ENCODED_BACKSLASH),
            Class::High => {
                let mut bytes = [value, 0, 0, 0];
                let length = match value {
                    0xC2..=0xDF => 2,
                    0xE0..=0xEF => 3,
                    0xF0..=0xF4 => 4,
                    _ => return Err(NOT_UTF8),
                };
                for byte in &mut bytes[1..length] {
                    let after = rest.strip_prefix(b"%").ok_or(NOT_UTF8)?;
                    (*byte, rest) = escape(after)?;
                }
                // Also refuses overlong forms and surrogates.
                from_utf8(&bytes[..length]).map_err(|_| NOT_UTF8)?;
                for byte in &bytes[..length] {
                    self.put_escape(*byte);
                }
            }
        }
        Ok(rest)
    }

    fn put(&mut self, byte: u8) {
        if !self.has_parameters {
            self.matched.push(char::from(byte));
        }
        self.forwarded.push(char::from(byte));
    }

    fn put_escape(&mut self, byte: u8) {
        if !self.has_parameters {
            put_escape(&mut self.matched, byte);
        }
        put_escape(&mut self.forwarded, byte);
    }

    /// Refuses what becomes a dot segment for an upstream that takes `%2F` for a slash, or `%3B` for the beginning of
    /// parameters.
    fn refuse_hidden_dots(&self) -> Result<(), Reason> {
        let is_hidden = |piece: &str| matches!(piece.split(';').next(), Some("." | ".."));
        let is_decoded_late = ["%2F", "%3B"].iter().any(|escape| self.forwarded.contains(escape));
        if is_decoded_late && self.forwarded.replace("%3B", ";").split("%2F").any(is_hidden) {
            return Err(ENCODED_DOTS);
        }
        Ok(())
    }
}

/// The value of an escape whose `%` is already taken, and what follows it.
fn escape(rest: &[u8]) -> Result<(u8, &[u8]), Reason> {
    let [high, low, rest @ ..] = rest else { return Err(BROKEN_ESCAPE) };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).ok_or(BROKEN_ESCAPE);
    // Two hex digits make at most 255.
    Ok(((digit(high)? * 16 + digit(low)?) as u8, rest))
}

fn put_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}
