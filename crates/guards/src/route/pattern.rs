//! The path of a route as the operator writes it: `/api/*/items/**`.
//!
//! `*` stands for one segment, `{name}` for one that is called so (`permissions.resource`), `**` at the end for everything below and for the path itself. A literal segment is brought
//! into the form that [`super::normal_path`] gives to requests, so both sides of a comparison have one spelling.
//!
//! Invariant: a pattern that no normalised path could match is refused.

use super::normal_path::normalise;

/// Most segments of a pattern. Bounds the depth of a look-up.
pub(super) const MAX_SEGMENTS: usize = 64;

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// This text.
    Literal(String),
    /// Any one segment.
    One,
    /// Whatever follows, also nothing. Always the last.
    Rest,
}

/// Reads a pattern.
///
/// # Errors
/// What is wrong and what would be right.
pub(super) fn parse(pattern: &str) -> Result<Vec<Piece>, String> {
    let Some(segments) = pattern.strip_prefix('/') else {
        return Err(format!("`{pattern}` must begin with `/`"));
    };
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    if segments.is_empty() {
        return Ok(Vec::new());
    }
    let count = segments.split('/').count();
    if count > MAX_SEGMENTS {
        return Err(format!("`{pattern}` has {count} segments, at most {MAX_SEGMENTS} are possible"));
    }
    let piece = |(place, segment): (usize, &str)| match segment {
        "**" if place + 1 < count => Err(format!("`{pattern}` has `**` before its end, use `*` for one segment")),
        "**" => Ok(Piece::Rest),
        "*" => Ok(Piece::One),
        named if named.contains(['{', '}']) => match parameter(named) {
            Some(name) if segments.split('/').take(place).all(|before| parameter(before) != Some(name)) => {
                Ok(Piece::One)
            }
            Some(name) => Err(format!("`{{{name}}}` stands twice in `{pattern}`")),
            None => Err(format!(
                "`{named}` in `{pattern}`: `{{name}}` stands for a whole segment; the name has letters, digits and `_`"
            )),
        },
        literal if literal.contains('*') => {
            Err(format!("`{literal}` in `{pattern}`: `*` stands for a whole segment, write `%2A` for the character"))
        }
        literal => {
            self::literal(literal).map_err(|cause| format!("`{literal}` in `{pattern}`: {cause}")).map(Piece::Literal)
        }
    };
    segments.split('/').enumerate().map(piece).collect()
}

/// The names of the segments that have one, with their places in the path.
pub(crate) fn parameters(pattern: &str) -> Vec<(Box<str>, usize)> {
    let segments = pattern.trim_start_matches('/').split('/').enumerate();
    segments.filter_map(|(place, segment)| Some((parameter(segment)?.into(), place))).collect()
}

/// The name in `{name}`.
fn parameter(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_plain.then_some(name)
}

/// The form of a literal segment in requests.
fn literal(segment: &str) -> Result<String, String> {
    if let Some(mark) = segment.chars().find(|c| matches!(c, ';' | '?' | '#')) {
        return Err(format!("a path that is matched never holds `{mark}`"));
    }
    let mut path = String::from("/");
    for byte in segment.bytes() {
        if byte == b' ' || !byte.is_ascii() {
            path.push_str(&format!("%{byte:02X}"));
        } else {
            path.push(char::from(byte));
        }
    }
    let normal = normalise(path.as_bytes())?;
    if normal.matched == "/" {
        return Err("an empty or dot segment is never matched".to_owned());
    }
    Ok(normal.matched[1..].to_owned())
}
