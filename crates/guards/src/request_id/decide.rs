//! Which id a request has, and what becomes of its trace: pure functions of bytes and fresh random numbers.
//!
//! Invariant: what comes out is made of the alphabet that is checked here, whatever came in.

use arrayvec::ArrayString;
use uuid::Uuid;

use super::config::Traceparent;
use crate::exchange::RequestId;

/// A trace id of W3C Trace Context: 32 lower-case hexadecimal digits.
type TraceId = ArrayString<32>;

/// A whole `traceparent` of version 00.
type TraceparentText = ArrayString<55>;

/// Random numbers for one request, so that the deciders need no generator.
pub(super) struct Fresh {
    id: Option<Uuid>,
}

impl Fresh {
    /// For a dry run: always the same.
    pub(super) const FIXED: Fresh = Fresh { id: None };

    /// 122 random bits. They name a request and prove nothing, so a fast generator is enough.
    pub(super) fn random() -> Fresh {
        Fresh { id: Some(Uuid::new_v4()) }
    }

    fn request_id(&self) -> RequestId {
        match self.id {
            None => text("explain"),
            Some(id) => text(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
        }
    }

    /// The request's own id as trace id, and a second number as the id of the caller's span.
    fn trace(&self) -> (TraceId, TraceparentText) {
        let (trace, span) = match self.id {
            None => (Uuid::from_u128(1), Uuid::from_u128(1)),
            Some(id) => (id, Uuid::new_v4()),
        };
        let (mut trace_buffer, mut span_buffer) = (Uuid::encode_buffer(), Uuid::encode_buffer());
        let trace = &*trace.simple().encode_lower(&mut trace_buffer);
        let span = &*span.simple().encode_lower(&mut span_buffer);
        let mut line = TraceparentText::new();
        for part in ["00-", trace, "-", &span[16..], "-01"] {
            line.push_str(part);
        }
        (text(trace), line)
    }
}

/// How often a field was sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sent<'a> {
    /// Not at all.
    Absent,
    /// Once, with this value.
    Once(&'a [u8]),
    /// More than once: nobody can know which value is meant.
    Repeated,
}

impl<'a> Sent<'a> {
    fn once(self) -> Option<&'a [u8]> {
        match self {
            Sent::Once(value) => Some(value),
            Sent::Absent | Sent::Repeated => None,
        }
    }
}

/// The id of a request, and whether it is the one that was sent. What an untrusted peer sent counts as absent.
pub(super) fn decide_id(sent: Sent<'_>, fresh: &Fresh) -> (RequestId, bool) {
    match sent.once().filter(|id| is_well_formed(id)).and_then(|id| std::str::from_utf8(id).ok()) {
        Some(id) => (text(id), true),
        None => (fresh.request_id(), false),
    }
}

fn is_well_formed(id: &[u8]) -> bool {
    (1..=64).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// What becomes of the trace fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trace {
    /// They are passed on as they are.
    Keep(TraceId),
    /// They are replaced by a trace that starts here.
    Start(TraceId, TraceparentText),
    /// There is none, and there will be none.
    Absent,
    /// A broken one is removed.
    Drop,
}

/// Decides about `traceparent`. A broken one is removed; with [`Traceparent::Start`] a new trace takes its place, as it
/// does where there was none.
pub(super) fn decide_trace(rule: Traceparent, sent: Sent<'_>, fresh: &Fresh) -> Trace {
    match (sent.once().and_then(trace_id), rule, sent) {
        (Some(trace_id), ..) => Trace::Keep(trace_id),
        (None, Traceparent::Start, _) => {
            let (trace_id, line) = fresh.trace();
            Trace::Start(trace_id, line)
        }
        (None, Traceparent::Pass, Sent::Absent) => Trace::Absent,
        (None, Traceparent::Pass, _) => Trace::Drop,
    }
}

/// The trace id of a valid `traceparent` (W3C Trace Context, section 3.2): `00-32hex-16hex-2hex` in lower case, ids not
/// all zero; a later version may carry more behind a `-`, version `ff` is no version.
pub(super) fn trace_id(value: &[u8]) -> Option<TraceId> {
    let hex = |range: std::ops::Range<usize>| {
        value.get(range).filter(|part| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    };
    let is_zero = |part: &[u8]| part.iter().all(|byte| *byte == b'0');
    let dash = |index: usize| (value.get(index) == Some(&b'-')).then_some(());
    let version = hex(0..2)?;
    dash(2)?;
    let trace = hex(3..35).filter(|trace| !is_zero(trace))?;
    dash(35)?;
    hex(36..52).filter(|span| !is_zero(span))?;
    dash(52)?;
    hex(53..55)?;
    match (version, value.len()) {
        (b"ff", _) => return None,
        (_, 55) => {}
        (b"00", _) => return None,
        (_, 512..) => return None,
        (..) => dash(55)?,
    }
    std::str::from_utf8(trace).ok().map(text)
}

fn text<const BYTES: usize>(text: &str) -> ArrayString<BYTES> {
    ArrayString::from(text).expect("callers pass texts whose length is checked or fixed")
}
