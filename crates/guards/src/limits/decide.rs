//! Decides whether the head of a request is within bounds, and which bounds hold for the rest of it. Pure.
//!
//! The order: framing first, because nothing else can be believed where it is ambiguous; then counts and sizes, from what
//! costs most to keep; then what the body is.
//!
//! Invariant: a request that passes says how long its body is, within the limit, or is counted as it comes.

use http::{Uri, Version};
use portcullis_core::refusal::{Code, Refusal};

use super::config::{Listener, Rules};
use super::framing;
use super::survey::{Field, Survey};
use crate::exchange::{Body, Bounds};

const EXPECTATION: &str = "100-continue is the only expectation that can be met";

/// What is known of a request.
pub(super) struct Facts<'a> {
    pub(super) version: Version,
    pub(super) uri: &'a Uri,
    pub(super) survey: &'a Survey<'a>,
    pub(super) body: Body,
    pub(super) now_nanos: u64,
}

/// A request that is not within bounds.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// The config key, for the trail.
    pub(super) rule: &'static str,
}

/// Gives the bounds, or says what is out of bounds.
pub(super) fn decide(listener: &Listener, rules: &Rules, facts: &Facts) -> Result<Bounds, Refused> {
    let survey = facts.survey;
    let refused = |rule, refusal| Err(Refused { refusal, rule });
    let declared =
        framing::declared_bytes(facts.version, &survey.transfer_encoding, &survey.content_length, facts.body)
            .map_err(|refusal| Refused { refusal, rule: "framing" })?;
    let has_body = declared != Some(0);
    // Where a body is on its way that nobody will read, the connection ends with the answer.
    let closing = |refusal: Refusal| if has_body { refusal.closing() } else { refusal };
    if survey.count > rules.headers {
        return refused("headers", closing(Refusal::new(Code::TooManyHeaders)));
    }
    if survey.bytes > listener.header_bytes {
        return refused("header_bytes", closing(Refusal::new(Code::HeadersTooLarge)));
    }
    if target_bytes(facts.uri) > listener.uri_bytes {
        return refused("uri_bytes", closing(Refusal::new(Code::UriTooLong)));
    }
    if !is_met(facts.version, &survey.expect) {
        return refused("expect", closing(Refusal::new(Code::ExpectationFailed).because(EXPECTATION)));
    }
    if declared.is_some_and(|bytes| bytes > rules.body_bytes) {
        return refused("body_bytes", Refusal::new(Code::BodyTooLarge).closing());
    }
    if has_body && !rules.content_types.is_empty() {
        let is_accepted = match survey.content_type {
            Field::Once(value) => rules.content_types.iter().any(|accepted| accepted.takes(value.as_bytes())),
            Field::Absent | Field::Repeated => false,
        };
        if !is_accepted {
            return refused("content_types", closing(Refusal::new(Code::UnsupportedMediaType)));
        }
    }
    let deadline_nanos = rules.total_nanos.map_or(u64::MAX, |total| facts.now_nanos.saturating_add(total));
    Ok(Bounds { body_bytes: rules.body_bytes, deadline_nanos })
}

/// Whether the expectation is one that is met; HTTP/1.0 knows none (RFC 9110, section 10.1.1).
fn is_met(version: Version, expect: &Field) -> bool {
    match expect {
        Field::Absent => true,
        _ if version < Version::HTTP_11 => true,
        Field::Once(value) => value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
        Field::Repeated => false,
    }
}

/// The length of the target as it was sent, without a fragment.
fn target_bytes(uri: &Uri) -> usize {
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
    scheme + authority + uri.path_and_query().map_or(0, |target| target.as_str().len())
}
