//! The response fields that tell a client where it stands: `RateLimit-Policy`, `RateLimit`, and the older `X-RateLimit-*`.
//!
//! `RateLimit` and `RateLimit-Policy` follow draft-ietf-httpapi-ratelimit-headers (structured fields, RFC 9651): lists,
//! so ours are added to those of the upstream and take nothing away. The `X-RateLimit` fields hold one number each, so
//! the stricter side speaks: ours replace the upstream's only when fewer requests are left here than the upstream says.
//!
//! Invariant: what the upstream said is never replaced by something that allows more.

use arrayvec::ArrayVec;
use http::header::{Entry, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::config::NAME_MAX;
use super::decide::Quotation;
use super::policy::{Policy, Rules};
use crate::exchange::MAX_POLICIES;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// The largest Integer of a structured field (RFC 9651, section 3.3.1).
const INTEGER_MAX: u64 = 999_999_999_999_999;

/// `, "name";r=` and `;t=`, a number each.
const ITEM_MAX: usize = 2 + NAME_MAX + 2 + 3 + 15 + 3 + 15;

type Text = ArrayVec<u8, { MAX_POLICIES * ITEM_MAX }>;

/// The start of a policy's item in `RateLimit`. Names need no escapes: they are letters, digits, `-`, `_` and `.`.
pub(super) fn item(name: &str) -> Box<[u8]> {
    format!("\"{name}\";r=").into_bytes().into_boxed_slice()
}

/// `RateLimit-Policy`: how many at once (`q`), and in how many seconds they are all back (`w`).
pub(super) fn policies(policies: &[std::sync::Arc<Policy>]) -> Option<HeaderValue> {
    if policies.is_empty() {
        return None;
    }
    let item = |policy: &std::sync::Arc<Policy>| {
        let (quota, window) = (policy.quota.capacity().min(INTEGER_MAX), policy.window_seconds.min(INTEGER_MAX));
        format!("\"{}\";q={quota};w={window}", policy.name)
    };
    let text = policies.iter().map(item).collect::<Vec<_>>().join(", ");
    Some(HeaderValue::try_from(text).expect("names of policies are visible ASCII"))
}

/// The decimal digits of 0 to 999, three bytes each.
static DIGITS: [u8; 3000] = {
    let mut digits = [b'0'; 3000];
    let mut number = 0;
    while number < 1000 {
        digits[3 * number] = b'0' + (number / 100) as u8;
        digits[3 * number + 1] = b'0' + (number / 10 % 10) as u8;
        digits[3 * number + 2] = b'0' + (number % 10) as u8;
        number += 1;
    }
    digits
};

/// A number as a field's value. Small ones, which is what most limits leave, are borrowed and not allocated.
pub(super) fn number(number: u64) -> HeaderValue {
    if number >= 1000 {
        return HeaderValue::from(number);
    }
    let leading_zeros = if number >= 100 { 0 } else { 1 + usize::from(number < 10) };
    let digits = &DIGITS[3 * number as usize..][leading_zeros..3];
    HeaderValue::from_static(std::str::from_utf8(digits).expect("digits are ASCII"))
}

/// Writes all fields. `quotations` are those of `rules.enforced`, in the same order.
pub(super) fn write(rules: &Rules, quotations: &[Quotation], unix_millis: u64, headers: &mut HeaderMap) {
    let Some(field) = &rules.field else { return };
    let mut text = Text::new();
    let mut digits = itoa::Buffer::new();
    for (policy, quotation) in rules.enforced.iter().zip(quotations) {
        if !text.is_empty() {
            put(&mut text, b", ");
        }
        put(&mut text, &policy.item);
        put(&mut text, digits.format(quotation.remaining.min(INTEGER_MAX)).as_bytes());
        if quotation.tells_reset {
            put(&mut text, b";t=");
            put(&mut text, digits.format(reset_seconds(quotation, policy)).as_bytes());
        }
        if quotation.is_nearest {
            write_older(policy, quotation, unix_millis, headers);
        }
    }
    headers.append(POLICY, field.clone());
    headers.append(STATE, HeaderValue::from_bytes(&text).expect("names and numbers are visible ASCII"));
}

/// Whole seconds until the reset, rounded up, but never more than the window that `RateLimit-Policy` states: the
/// counters round a unit's time up to whole nanoseconds, which may carry the sum just over a second's edge.
fn reset_seconds(quotation: &Quotation, policy: &Policy) -> u64 {
    quotation.reset_nanos.div_ceil(1_000_000_000).min(policy.window_seconds).min(INTEGER_MAX)
}

fn write_older(policy: &Policy, quotation: &Quotation, unix_millis: u64, headers: &mut HeaderMap) {
    // Each name is looked up once where the upstream says nothing, which is the common case.
    match headers.entry(LIMIT) {
        Entry::Vacant(place) => {
            place.insert(policy.limit.clone());
        }
        Entry::Occupied(mut theirs) => {
            let limit = theirs.insert(policy.limit.clone());
            if !is_looser(headers.get(&REMAINING), quotation.remaining) {
                headers.insert(LIMIT, limit);
                return;
            }
        }
    }
    match headers.entry(REMAINING) {
        Entry::Vacant(place) => {
            place.insert(number(quotation.remaining));
        }
        Entry::Occupied(mut theirs) if is_looser(Some(theirs.get()), quotation.remaining) => {
            theirs.insert(number(quotation.remaining));
        }
        Entry::Occupied(_) => {
            headers.remove(LIMIT);
            return;
        }
    }
    let reset_millis = quotation.reset_nanos.div_ceil(1_000_000);
    headers.insert(RESET, number(unix_millis.saturating_add(reset_millis).div_ceil(1000)));
}

/// Whether the upstream says that more than `remaining` is left. What is left out or cannot be read may be anything.
fn is_looser(theirs: Option<&HeaderValue>, remaining: u64) -> bool {
    let theirs = theirs.and_then(|theirs| theirs.to_str().ok()?.trim().parse::<u64>().ok());
    theirs.is_some_and(|theirs| theirs > remaining)
}

fn put(text: &mut Text, bytes: &[u8]) {
    text.try_extend_from_slice(bytes).expect("ITEM_MAX bounds every item");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for expected in (0..=1100).chain([u64::MAX]) {
            assert_eq!(number(expected), expected.to_string().as_str());
        }
    }
}
