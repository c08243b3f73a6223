//! Writes a refusal as bytes: the house's JSON by default, RFC 9457 problem details when the client asks for them.
//!
//! Used by the runner for every refusal and by the listener for what never became a request. Hand-written JSON,
//! because a flood of 429s is a hot path; only `requestId` comes from outside and it is a checked token.
//!
//! Invariant: the body depends on the catalogue row, the time, the request id and numbers. Nothing else gets in.

use super::Refusal;
use crate::clock::rfc3339;

/// Which of the two forms a client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`, the house's own form.
    Json,
    /// `application/problem+json` (RFC 9457).
    Problem,
}

impl Form {
    /// The form for an `Accept` value: problem details only when it is named and not refused (`q=0`). A wildcard
    /// gets the default.
    #[must_use]
    pub fn for_accept(accept: Option<&[u8]>) -> Form {
        let Some(accept) = accept else { return Form::Json };
        let wanted = accept.split(|byte| *byte == b',').any(|range| {
            let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"application/problem+json"));
            let refused = parts.any(|part| {
                part.len() >= 2
                    && part[..2].eq_ignore_ascii_case(b"q=")
                    && part[2..].iter().all(|byte| *byte == b'0' || *byte == b'.')
            });
            named && !refused
        });
        if wanted { Form::Problem } else { Form::Json }
    }

    /// The `Content-Type` of the body.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Json => "application/json; charset=utf-8",
            Form::Problem => "application/problem+json; charset=utf-8",
        }
    }
}

/// The body of `refusal`. `request_id` must be made of visible ASCII without `"` and `\` (the request_id guard's alphabet).
#[must_use]
pub fn body(refusal: &Refusal, form: Form, unix_millis: u64, request_id: &str) -> Vec<u8> {
    debug_assert!(request_id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\'));
    let entry = refusal.code.entry();
    let status =
        [b'0' + (entry.status / 100) as u8, b'0' + (entry.status / 10 % 10) as u8, b'0' + (entry.status % 10) as u8];
    let timestamp = rfc3339(unix_millis);
    let mut out = Vec::with_capacity(320);
    match form {
        Form::Json => {
            put(
                &mut out,
                &[b"{\"error\":{\"code\":\"", entry.name.as_bytes(), b"\",\"message\":\"", entry.message.as_bytes()],
            );
            put(&mut out, &[b"\",\"statusCode\":", &status, b",\"severity\":\"", entry.severity.name().as_bytes()]);
            put(
                &mut out,
                &[
                    b"\",\"timestamp\":\"",
                    &timestamp,
                    b"\",\"requestId\":\"",
                    request_id.as_bytes(),
                    b"\",\"details\":{",
                ],
            );
            details(&mut out, refusal);
            out.extend_from_slice(b"}}}");
        }
        Form::Problem => {
            put(
                &mut out,
                &[b"{\"type\":\"about:blank\",\"title\":\"", entry.message.as_bytes(), b"\",\"status\":", &status],
            );
            put(
                &mut out,
                &[b",\"code\":\"", entry.name.as_bytes(), b"\",\"severity\":\"", entry.severity.name().as_bytes()],
            );
            put(&mut out, &[b"\",\"timestamp\":\"", &timestamp, b"\",\"requestId\":\"", request_id.as_bytes(), b"\""]);
            if refusal.reason.is_some() || refusal.retry_after_seconds.is_some() {
                out.push(b',');
                details(&mut out, refusal);
            }
            out.push(b'}');
        }
    }
    out
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn details(out: &mut Vec<u8>, refusal: &Refusal) {
    if let Some(seconds) = refusal.retry_after_seconds {
        put(out, &[b"\"retryAfter\":", seconds.to_string().as_bytes()]);
    }
    if let Some(reason) = refusal.reason {
        if refusal.retry_after_seconds.is_some() {
            out.push(b',');
        }
        put(out, &[b"\"reason\":\"", reason.as_bytes(), b"\""]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CATALOGUE, Refusal};
    use super::*;

    fn parsed(refusal: &Refusal, form: Form) -> serde_json::Value {
        serde_json::from_slice(&body(refusal, form, 1_767_261_600_000, "abc-123")).expect("valid JSON")
    }

    #[test]
    fn every_code_renders_in_both_forms_with_the_same_facts() {
        for entry in CATALOGUE {
            let refusal = Refusal::new(entry.code).because("a reason").retry_after(29_500_000_000);
            let json = parsed(&refusal, Form::Json);
            let error = &json["error"];
            assert_eq!(error["code"], entry.name);
            assert_eq!(error["statusCode"], entry.status);
            assert_eq!(error["severity"], entry.severity.name());
            assert_eq!(error["timestamp"], "2026-01-01T10:00:00.000Z");
            assert_eq!(error["requestId"], "abc-123");
            assert_eq!(error["details"]["retryAfter"], 30);
            assert_eq!(error["details"]["reason"], "a reason");
            let problem = parsed(&refusal, Form::Problem);
            assert_eq!(problem["status"], entry.status);
            assert_eq!(problem["code"], entry.name);
            assert_eq!(problem["title"], entry.message);
            assert_eq!(problem["retryAfter"], 30);
        }
    }

    #[test]
    fn a_bare_refusal_is_valid_json_in_both_forms() {
        for form in [Form::Json, Form::Problem] {
            parsed(&Refusal::not_found(), form);
        }
    }

    #[test]
    fn problem_details_only_when_asked_for() {
        for (accept, expected) in [
            (None, Form::Json),
            (Some("*/*"), Form::Json),
            (Some("application/json"), Form::Json),
            (Some("application/problem+json"), Form::Problem),
            (Some("text/html, Application/Problem+JSON;q=0.5"), Form::Problem),
            (Some("application/problem+json;q=0"), Form::Json),
            (Some("application/problem+json; q=0.000"), Form::Json),
            (Some("application/problem+json-not"), Form::Json),
            (Some(""), Form::Json),
        ] {
            assert_eq!(Form::for_accept(accept.map(str::as_bytes)), expected, "{accept:?}");
        }
    }
}
