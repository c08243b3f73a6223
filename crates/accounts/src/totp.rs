//! Time-based one-time codes (RFC 6238 over RFC 4226): SHA-1, six digits, steps of 30 s, as every authenticator app reads them.
//!
//! Section 5.2 says that a code is accepted once. So the last accepted step is kept, and only a later one is good, which also
//! holds when the wall clock is set back. One step before and after is taken for clocks that differ; that makes a code live
//! up to 90 s where ASVS 5.0 6.5.5 asks for 30, a known deviation.
//!
//! Invariant: a step that was accepted, and every earlier one, is never accepted again.

use aws_lc_rs::hmac;
use portcullis_core::secret::Secret;
use subtle::ConstantTimeEq;

use crate::token;

/// Seconds of one step.
pub const STEP_SECONDS: u64 = 30;
/// Bytes of a secret: as many as the hash has (RFC 4226, section 4, R6).
pub const SECRET_BYTES: usize = 20;
const DIGITS: u32 = 6;

/// The code of a step.
fn code(secret: &[u8], step: u64, digits: u32) -> u32 {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let offset = usize::from(tag[19] & 15);
    let word = [tag[offset] & 0x7f, tag[offset + 1], tag[offset + 2], tag[offset + 3]];
    u32::from_be_bytes(word) % 10u32.pow(digits)
}

/// The step of `written`, if it is the code of one that may be accepted now: the current one or one beside it, and later than
/// `last_step`.
#[must_use]
pub fn accepted_step(secret: &[u8], written: &str, unix_millis: u64, last_step: u64) -> Option<u64> {
    let now = unix_millis / 1000 / STEP_SECONDS;
    let written: String = written.chars().filter(|digit| *digit != ' ').take(16).collect();
    let mut accepted = None;
    // All of them, so that the time tells nothing of which one it was.
    for step in now.saturating_sub(1)..=now.saturating_add(1) {
        let expected = format!("{:0width$}", code(secret, step, DIGITS), width = DIGITS as usize);
        let is_same: bool = expected.as_bytes().ct_eq(written.as_bytes()).into();
        if is_same && step > last_step {
            accepted = Some(step);
        }
    }
    accepted
}

/// The code that is good at a moment; what an authenticator shows.
#[must_use]
pub fn shown(secret: &[u8], unix_millis: u64) -> String {
    format!("{:0width$}", code(secret, unix_millis / 1000 / STEP_SECONDS, DIGITS), width = DIGITS as usize)
}

/// What an authenticator app reads from a QR code.
#[must_use]
pub fn uri(secret: &[u8], issuer: &str, account: &str) -> Secret {
    let issuer = encoded(issuer);
    Secret::new(format!(
        "otpauth://totp/{issuer}:{}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={STEP_SECONDS}",
        encoded(account),
        token::base32(secret)
    ))
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8] = b"12345678901234567890";

    /// RFC 6238, appendix B, the rows of SHA-1.
    #[test]
    fn the_codes_are_those_of_rfc_6238_appendix_b() {
        for (seconds, expected) in [
            (59, 94_287_082),
            (1_111_111_109, 7_081_804),
            (1_111_111_111, 14_050_471),
            (1_234_567_890, 89_005_924),
            (2_000_000_000, 69_279_037),
            (20_000_000_000u64, 65_353_130),
        ] {
            assert_eq!(code(SEED, seconds / STEP_SECONDS, 8), expected, "{seconds}");
        }
    }

    /// RFC 4226, appendix D.
    #[test]
    fn the_codes_are_those_of_rfc_4226_appendix_d() {
        let expected = [755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871, 520_489];
        assert_eq!(std::array::from_fn(|step| code(SEED, step as u64, 6)), expected);
    }

    /// Row 113.
    #[test]
    fn row_113_a_step_is_accepted_once_and_none_before_it() {
        let at = |step: u64| step * 30_000 + 29_999;
        let text = |step: u64| format!("{:06}", code(SEED, step, 6));
        for (written, now, last, expected) in [
            (text(100), at(100), 0, Some(100)),
            (text(99), at(100), 0, Some(99)),
            (text(101), at(100), 0, Some(101)),
            // Two steps away.
            (text(98), at(100), 0, None),
            (text(102), at(100), 0, None),
            // Again, and an earlier one after a later one, also when the clock was set back.
            (text(100), at(100), 100, None),
            (text(99), at(100), 100, None),
            (text(101), at(100), 100, Some(101)),
            (text(50), at(50), 100, None),
        ] {
            assert_eq!(accepted_step(SEED, &written, now, last), expected, "{written} {now} {last}");
        }
        let spaced = format!("{} {}", &text(100)[..3], &text(100)[3..]);
        assert_eq!(accepted_step(SEED, &spaced, at(100), 0), Some(100));
        for wrong in ["", "12345", "1234567", "abcdef", &"1".repeat(10_000)] {
            assert_eq!(accepted_step(SEED, wrong, at(100), 0), None);
        }
        assert_eq!(shown(SEED, at(100)), text(100));
    }

    #[test]
    fn the_uri_says_what_apps_need() {
        let uri = uri(SEED, "Acme & Co", "ann");
        assert_eq!(
            uri.expose(),
            "otpauth://totp/Acme%20%26%20Co:ann?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Acme%20%26%20Co\
             &algorithm=SHA1&digits=6&period=30"
        );
    }
}
