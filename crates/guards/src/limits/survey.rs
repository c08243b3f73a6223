//! One pass over the header fields that collects everything this guard decides by.
//!
//! Invariant: the pass looks at each line once and changes nothing.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

/// How often a field that may stand only once was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Field<'a> {
    /// Not at all.
    #[default]
    Absent,
    /// Once, with this value.
    Once(&'a HeaderValue),
    /// More than once, whatever the values.
    Repeated,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey<'a> {
    /// Lines that the client sent.
    pub(super) count: usize,
    /// Bytes of all names and values.
    pub(super) bytes: usize,
    pub(super) transfer_encoding: Field<'a>,
    pub(super) content_length: Field<'a>,
    pub(super) content_type: Field<'a>,
    pub(super) expect: Field<'a>,
    /// Whether a field is spelt like one that frames the body, but with underscores.
    pub(super) has_twin: bool,
}

impl<'a> Survey<'a> {
    /// Looks at every line. `most_bytes` is what the head may have; only above it does it matter which fields are ours.
    pub(super) fn of(headers: &'a HeaderMap, arrived_fields: usize, most_bytes: usize) -> Survey<'a> {
        let mut survey = Survey { count: arrived_fields, ..Survey::default() };
        for (name, value) in headers {
            survey.bytes += name.as_str().len() + value.len();
            match *name {
                TRANSFER_ENCODING => survey.transfer_encoding.saw(value),
                CONTENT_LENGTH => survey.content_length.saw(value),
                CONTENT_TYPE => survey.content_type.saw(value),
                EXPECT => survey.expect.saw(value),
                _ => survey.has_twin |= is_twin(name),
            }
        }
        if survey.bytes > most_bytes {
            survey.bytes = survey.bytes.saturating_sub(own_bytes(headers));
        }
        survey
    }
}

/// Bytes of the fields that guards above have set; the client is not to be told that these are too large.
fn own_bytes(headers: &HeaderMap) -> usize {
    const OWN: [&str; 6] =
        ["x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "traceparent"];
    OWN.iter().filter_map(|name| headers.get(*name).map(|value| name.len() + value.len())).sum()
}

impl<'a> Field<'a> {
    fn saw(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Field::Absent => Field::Once(value),
            _ => Field::Repeated,
        };
    }
}

/// Removes fields that CGI-style servers confuse with the real ones (`Content_Length`).
pub(super) fn remove_twins(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_twin(name)).cloned() {
        headers.remove(name);
    }
}

fn is_twin(name: &HeaderName) -> bool {
    // Names are lower case already.
    matches!(name.as_str(), "content_length" | "transfer_encoding")
}
