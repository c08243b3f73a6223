//! Writes bytes from outside into a line so that they can neither end it nor pretend to be part of its structure.
//!
//! Printable ASCII goes through, quotes and backslashes get a backslash, everything else becomes `\uXXXX` unless it is a
//! printable character in valid UTF-8. That is a JSON string's inside (RFC 8259, section 7), and text lines use it too.
//!
//! Invariant: what is written holds no control character, no line separator of any script, no invisible direction
//! mark, and is valid UTF-8, whatever came in.

/// Appends at most `max` bytes of `bytes`, escaped, and `...` when that was not all.
pub(super) fn put_escaped(out: &mut Vec<u8>, bytes: &[u8], max: usize) {
    let (shown, is_cut) = match bytes.get(..max) {
        Some(start) => (start, bytes.len() > max),
        None => (bytes, false),
    };
    if is_plain(shown) {
        out.extend_from_slice(shown);
    } else {
        put_with_care(out, shown);
    }
    if is_cut {
        out.extend_from_slice(b"...");
    }
}

/// Whether all of it is printable ASCII without quotes and backslashes. Looks at eight bytes at a time.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().all(|word| is_plain_word(u64::from_le_bytes(*word)))
        && rest.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'"' && *byte != b'\\')
}

/// The same for eight bytes in a word: each test leaves the highest bit of a byte set where it found something.
fn is_plain_word(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHEST: u64 = 0x80 * ONES;
    // A borrow can only reach a byte from one below it that was found too, so that a clean word stays clean.
    let below = |limit: u8, word: u64| word.wrapping_sub(u64::from(limit) * ONES) & !word;
    let equal = |byte: u8| below(1, word ^ (u64::from(byte) * ONES));
    let above_tilde = word.wrapping_add(ONES) | word;
    (below(b' ', word) | equal(b'"') | equal(b'\\') | above_tilde) & HIGHEST == 0
}

#[cold]
fn put_with_care(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                _ if is_harmless(character) => {
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                _ => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| put_unit(out, *unit)),
            }
        }
        // Bytes that are no UTF-8 are shown as Latin-1 would have them, so that they can still be told apart.
        for byte in chunk.invalid() {
            put_unit(out, u16::from(*byte));
        }
    }
}

fn put_unit(out: &mut Vec<u8>, unit: u16) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(HEX[usize::from(unit >> shift & 0xf)]);
    }
}

/// Whether a character shows what it is. Not: control characters, the separators of lines and paragraphs, and the marks
/// that turn the direction of text or take no room.
fn is_harmless(character: char) -> bool {
    let hides = matches!(
        character,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !character.is_control() && !hides
}
