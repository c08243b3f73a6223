//! The second look at how a body is framed, after the parser's: no more than one reading may be possible.
//!
//! The parser (hyper) has decided already how long the body is. What it tolerates and another server might read in another
//! way is refused here: the raw material of request smuggling. RFC 9112, sections 6.1 to 6.3.
//!
//! Invariant: what passes has no `Transfer-Encoding` or exactly one that is `chunked`, no `Content-Length` or exactly one
//! plain decimal, and never both.

use http::{HeaderValue, Version};
use portcullis_core::refusal::{Code, Refusal};

use super::media_type::is_token;
use super::survey::Field;
use crate::exchange::Body;

const BOTH: &str = "Content-Length and Transfer-Encoding are both present";
const LENGTH_REPEATED: &str = "Content-Length is repeated";
const LENGTH_INVALID: &str = "Content-Length is not a plain decimal number";
const LENGTH_DIFFERS: &str = "Content-Length differs from the length of the body";
const ENCODING_OF_OTHER_VERSION: &str = "Transfer-Encoding only exists in HTTP/1.1";
const ENCODING_REPEATED: &str = "Transfer-Encoding is repeated";
const ENCODING_INVALID: &str = "Transfer-Encoding is not valid";
const ENCODING_UNKNOWN: &str = "chunked is the only transfer coding";

/// Checks the two fields and gives the length that the head declares; `None` for a chunked body.
pub(super) fn declared_bytes(
    version: Version,
    encoding: &Field,
    length: &Field,
    body: Body,
) -> Result<Option<u64>, Refusal> {
    match (encoding, length) {
        (Field::Absent, Field::Absent) => Ok(match body {
            Body::Absent => Some(0),
            Body::Sized(bytes) => Some(bytes),
            Body::Unsized => None,
        }),
        (Field::Absent, Field::Once(value)) => {
            let bytes = plain_decimal(value.as_bytes()).ok_or_else(|| ambiguous(LENGTH_INVALID))?;
            match body {
                Body::Sized(other) if other != bytes => Err(ambiguous(LENGTH_DIFFERS)),
                Body::Unsized => Err(ambiguous(LENGTH_DIFFERS)),
                Body::Sized(_) | Body::Absent => Ok(Some(bytes)),
            }
        }
        (Field::Absent, Field::Repeated) => Err(ambiguous(LENGTH_REPEATED)),
        (_, Field::Once(_) | Field::Repeated) => Err(ambiguous(BOTH)),
        _ if version != Version::HTTP_11 => Err(ambiguous(ENCODING_OF_OTHER_VERSION)),
        (Field::Repeated, _) => Err(ambiguous(ENCODING_REPEATED)),
        (Field::Once(value), _) if value.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(None),
        (Field::Once(value), _) => Err(wrong_encoding(value)),
    }
}

/// Digits without sign, space or leading zeros that make a `u64`.
fn plain_decimal(digits: &[u8]) -> Option<u64> {
    match digits {
        b"0" => Some(0),
        [b'1'..=b'9', ..] if digits.iter().all(u8::is_ascii_digit) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

/// 501 for codings that exist but are not spoken here, 400 for what is no list of codings or applies chunked wrongly.
fn wrong_encoding(value: &HeaderValue) -> Refusal {
    let codings = || value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let chunked = codings().filter(|coding| is_chunked(coding)).count();
    let is_final = codings().next_back().is_some_and(is_chunked);
    if codings().all(is_token) && (chunked == 0 || (chunked == 1 && is_final && codings().count() > 1)) {
        return Refusal::new(Code::NotImplemented).because(ENCODING_UNKNOWN).closing();
    }
    ambiguous(ENCODING_INVALID)
}

/// 400; closes the connection, because where the next request begins is not sure.
fn ambiguous(reason: &'static str) -> Refusal {
    Refusal::new(Code::AmbiguousFraming).because(reason).closing()
}
