//! The reader itself: where in a request each byte stands, and which byte must not pass.
//!
//! Skips by search what it need not look at: a head costs one look for each line, a body none.
//!
//! Invariant: the pieces in which bytes come make no difference, and nothing is kept of them but where they stand.

use bytes::Bytes;
use memchr::{memchr, memchr2, memchr3};

const LENGTH: &[u8] = b"content-length";
const CODING: &[u8] = b"transfer-encoding";
/// Hex digits of a chunk size: what a `u64` holds.
const SIZE_DIGITS: u8 = 16;
/// No part of HTTP/1.1's framing has it, and the parser refuses it everywhere but in chunk extensions and data.
const SPOILT: u8 = 0;

/// Where in a request the next byte stands. RFC 9112, sections 2.1 and 7.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In front of it; empty lines are skipped.
    #[default]
    Start,
    Method,
    Target,
    /// The rest of any line of the head.
    Line,
    /// At the beginning of a field line, or of the empty one that ends the head.
    Field,
    /// In a name that has begun like one of the two that frame a body.
    Name {
        is_coding: bool,
        matched: u8,
    },
    /// In the value of `Content-Length`.
    Length {
        digits: Option<u64>,
        is_over: bool,
    },
    /// Behind the carriage return of the empty line.
    HeadEnd,
    Body(u64),
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    /// Behind the carriage return of a chunk's line.
    SizeEnd {
        size: u64,
    },
    Data(u64),
    DataReturn,
    DataEnd,
    /// At the beginning of a trailer line, or of the empty one that ends the request.
    Trailer,
    TrailerLine,
    TrailerLineEnd,
    RequestEnd,
    /// The next byte must not complete a line end with what was put in its place.
    SpoilNext,
    /// Something was spoilt: the parser refuses, and the connection ends.
    Spoilt,
    /// Behind a head whose end of body nobody knows. The parser refuses it; if it did not, it would find nothing here.
    Adrift,
}

/// Follows the bytes of one connection.
#[derive(Default)]
pub(super) struct Reader {
    place: Place,
    length: Option<u64>,
    is_chunked: bool,
    /// The head is one that the parser refuses by itself. No line end may be spoilt: the parser would wait for it.
    is_adrift: bool,
    /// Bytes seen so far.
    seen: u64,
    /// The bytes that were spoilt: where they stood, and what they were.
    spoilt: [Option<(u64, u8)>; 2],
}

impl Reader {
    /// Follows bytes that came, and spoils where needed.
    pub(super) fn follow(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += self.step(bytes, at);
        }
        self.seen += bytes.len() as u64;
    }

    /// Takes at least one byte from `at` on; how many.
    fn step(&mut self, bytes: &mut [u8], at: usize) -> usize {
        let rest = &bytes[at..];
        let all = rest.len();
        let byte = rest[0];
        match self.place {
            Place::Start => match byte {
                b'\r' | b'\n' => {}
                _ => self.place = Place::Method,
            },
            Place::Method => match memchr2(b' ', b'\n', rest) {
                None => return all,
                Some(end) if rest[end] == b' ' => {
                    self.place = Place::Target;
                    return end + 1;
                }
                Some(end) => return self.first_line_is_short(end),
            },
            Place::Target => match memchr3(b' ', b'#', b'\n', rest) {
                None => return all,
                Some(end) if rest[end] == b' ' => {
                    self.place = Place::Line;
                    return end + 1;
                }
                Some(end) if rest[end] == b'\n' => return self.first_line_is_short(end),
                Some(end) => return self.spoil(bytes, at, end),
            },
            Place::Line => {
                let Some(end) = memchr(b'\n', rest) else { return all };
                self.place = Place::Field;
                return end + 1;
            }
            Place::Field => match byte {
                b'\r' => self.place = Place::HeadEnd,
                b'\n' => self.head_is_over(),
                b'c' | b'C' => self.place = Place::Name { is_coding: false, matched: 1 },
                b't' | b'T' => self.place = Place::Name { is_coding: true, matched: 1 },
                // A line that goes on from the one above.
                b' ' | b'\t' => return self.spoil(bytes, at, 0),
                _ => self.place = Place::Line,
            },
            Place::Name { is_coding, matched } => return self.name(bytes, at, is_coding, matched),
            Place::Length { digits, is_over } => return self.length(bytes, at, digits, is_over),
            Place::HeadEnd if byte == b'\n' => self.head_is_over(),
            Place::Body(left) => {
                let taken = usize::try_from(left).map_or(all, |left| left.min(all));
                self.place = if left == taken as u64 { Place::Start } else { Place::Body(left - taken as u64) };
                return taken;
            }
            Place::Size { size, digits } => match (char::from(byte).to_digit(16), byte) {
                (Some(digit), _) if digits < SIZE_DIGITS => {
                    self.place = Place::Size { size: (size << 4) | u64::from(digit), digits: digits + 1 };
                }
                (None, b'\r') if digits > 0 => self.place = Place::SizeEnd { size },
                (None, b';') if digits > 0 => self.place = Place::Extension { size },
                _ => return self.spoil(bytes, at, 0),
            },
            Place::Extension { size } => match memchr2(b'\r', b'\n', rest) {
                None => return all,
                Some(end) if rest[end] == b'\r' => {
                    self.place = Place::SizeEnd { size };
                    return end + 1;
                }
                // The parser refuses the line feed itself, and would not refuse what could be put in its place.
                Some(end) => {
                    self.place = Place::Spoilt;
                    return end + 1;
                }
            },
            Place::SizeEnd { size } if byte == b'\n' => {
                self.place = if size == 0 { Place::Trailer } else { Place::Data(size) };
            }
            Place::Data(left) => {
                let taken = usize::try_from(left).map_or(all, |left| left.min(all));
                self.place = if left == taken as u64 { Place::DataReturn } else { Place::Data(left - taken as u64) };
                return taken;
            }
            Place::DataReturn if byte == b'\r' => self.place = Place::DataEnd,
            Place::DataEnd if byte == b'\n' => self.place = Place::Size { size: 0, digits: 0 },
            Place::Trailer => match byte {
                b'\r' => self.place = Place::RequestEnd,
                b'\n' => return self.spoil_trailer(bytes, at, 0),
                _ => self.place = Place::TrailerLine,
            },
            Place::TrailerLine => match memchr2(b'\r', b'\n', rest) {
                None => return all,
                Some(end) if rest[end] == b'\r' => {
                    self.place = Place::TrailerLineEnd;
                    return end + 1;
                }
                Some(end) => return self.spoil_trailer(bytes, at, end),
            },
            Place::TrailerLineEnd if byte == b'\n' => self.place = Place::Trailer,
            Place::RequestEnd if byte == b'\n' => self.place = Place::Start,
            Place::Spoilt => return all,
            Place::Adrift => {
                bytes[at..].fill(SPOILT);
                return all;
            }
            // A line end that is broken in the middle, and what follows a spoilt line feed.
            Place::HeadEnd
            | Place::SizeEnd { .. }
            | Place::DataReturn
            | Place::DataEnd
            | Place::TrailerLineEnd
            | Place::RequestEnd
            | Place::SpoilNext => return self.spoil(bytes, at, 0),
        }
        1
    }

    fn name(&mut self, bytes: &mut [u8], at: usize, is_coding: bool, matched: u8) -> usize {
        let byte = bytes[at];
        let name = if is_coding { CODING } else { LENGTH };
        match name.get(usize::from(matched)) {
            Some(expected) if byte.eq_ignore_ascii_case(expected) => {
                self.place = Place::Name { is_coding, matched: matched + 1 };
                1
            }
            None if byte == b':' && is_coding => {
                // The parser takes no other coding than chunked, and refuses it before HTTP/1.1.
                self.is_chunked = true;
                self.place = Place::Line;
                1
            }
            None if byte == b':' => {
                self.place = Place::Length { digits: None, is_over: false };
                1
            }
            None if matches!(byte, b' ' | b'\t') => self.spoil(bytes, at, 0),
            _ => {
                self.place = Place::Line;
                // It may be the line's end.
                self.step(bytes, at)
            }
        }
    }

    fn length(&mut self, bytes: &mut [u8], at: usize, digits: Option<u64>, is_over: bool) -> usize {
        match bytes[at] {
            digit @ b'0'..=b'9' if !is_over => {
                let digit = u64::from(digit - b'0');
                match digits.unwrap_or(0).checked_mul(10).and_then(|length| length.checked_add(digit)) {
                    Some(length) => self.place = Place::Length { digits: Some(length), is_over },
                    None => return self.spoil(bytes, at, 0),
                }
            }
            b' ' | b'\t' | b'\r' => self.place = Place::Length { digits, is_over: digits.is_some() },
            b'\n' => {
                self.is_adrift |= digits.is_none() || self.length.is_some_and(|length| Some(length) != digits);
                self.length = digits;
                self.place = Place::Field;
            }
            _ => return self.spoil(bytes, at, 0),
        }
        1
    }

    fn head_is_over(&mut self) {
        self.place = match (self.is_chunked, self.length) {
            _ if self.is_adrift => Place::Adrift,
            (true, _) => Place::Size { size: 0, digits: 0 },
            (false, Some(length)) if length > 0 => Place::Body(length),
            (false, _) => Place::Start,
        };
        self.is_chunked = false;
        self.length = None;
    }

    /// A first line without a target or a version; how many bytes are done with.
    fn first_line_is_short(&mut self, end: usize) -> usize {
        self.is_adrift = true;
        self.place = Place::Field;
        end + 1
    }

    /// Puts a byte that the parser refuses at `at + offset`; how many bytes are done with.
    fn spoil(&mut self, bytes: &mut [u8], at: usize, offset: usize) -> usize {
        self.put(bytes, at + offset, SPOILT);
        self.place = Place::Spoilt;
        offset + 1
    }

    /// The parser keeps trailers until their end and would wait for it; a return that no line feed follows it refuses at
    /// once.
    fn spoil_trailer(&mut self, bytes: &mut [u8], at: usize, offset: usize) -> usize {
        self.put(bytes, at + offset, b'\r');
        self.place = Place::SpoilNext;
        offset + 1
    }

    fn put(&mut self, bytes: &mut [u8], at: usize, byte: u8) {
        let place = self.seen + at as u64;
        if let Some(free) = self.spoilt.iter_mut().find(|spoilt| spoilt.is_none()) {
            *free = Some((place, bytes[at]));
        }
        bytes[at] = byte;
    }

    /// The last bytes that were followed, without what was spoilt: for a protocol that is none of ours.
    pub(super) fn as_it_came(&self, unread: Bytes) -> Bytes {
        let begins = self.seen.saturating_sub(unread.len() as u64);
        if self.spoilt.iter().flatten().all(|(place, _)| *place < begins) {
            return unread;
        }
        let mut bytes = unread.to_vec();
        for (place, byte) in self.spoilt.iter().flatten() {
            let at = place.checked_sub(begins).and_then(|at| usize::try_from(at).ok());
            if let Some(slot) = at.and_then(|at| bytes.get_mut(at)) {
                *slot = *byte;
            }
        }
        bytes.into()
    }
}

#[cfg(test)]
mod tests;
