//! The contract of a guard, and what guards say.
//!
//! A guard gathers what it needs from the [`Exchange`], asks its pure `decide`, and applies the answer: that is all an
//! `impl Guard` does. The runner ([`crate::path`]) calls the three moments in order and writes the trail.
//!
//! Invariant: `request` never blocks and never does I/O. A guard that must wait returns [`Verdict::Wait`].

use std::future::Future;
use std::pin::Pin;

use http::{HeaderMap, StatusCode};
use portcullis_core::refusal::Refusal;

use crate::exchange::Exchange;

/// A stage of the request path. See `rate_limit` for a complete example.
pub trait Guard: Send + Sync {
    /// The one name: folder, config key, metric prefix, explain row, docs anchor.
    fn name(&self) -> &'static str;

    /// What must have been given by guards above. Checked when the path is built.
    fn needs(&self) -> &'static [Fact] {
        &[]
    }

    /// What guards below can rely on after this one passed a request.
    fn gives(&self) -> &'static [Fact] {
        &[]
    }

    /// The path it stands on is the one that runs from now on. Called once; a path that was built and refused never begins.
    fn begins(&self) {}

    /// On the way down: may the request pass?
    ///
    /// State is read through [`Exchange::touch`], so that a dry run decides by the same code and changes nothing.
    fn request(&self, exchange: &mut Exchange) -> Verdict;

    /// On the way up: mends the head of the response, a refusal's included. Called for every guard whose `request` was
    /// called, innermost first.
    fn response(&self, _exchange: &mut Exchange, _head: &mut ResponseHead) {}

    /// After the last byte, or when the client hung up or the task was dropped: exactly once for every guard whose
    /// `request` was called, except in a dry run.
    fn finish(&self, _exchange: &Exchange, _outcome: &Outcome) {}
}

/// What guards give each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// [`Exchange::request_id`].
    RequestId,
    /// [`Exchange::client`].
    ClientAddress,
    /// [`Exchange::path`] and [`Exchange::route`].
    Route,
    /// [`Exchange::bounds`].
    Bounds,
    /// [`Exchange::identity`], `None` where nobody was asked for or showed one.
    Identity,
    /// [`Exchange::breaker`] and the first permit.
    Breaker,
}

/// What a guard answers.
pub enum Verdict {
    /// The request may go on.
    Pass,
    /// The request stops here and the client hears this.
    Refuse(Refusal),
    /// Nothing to do for this request (turned off, or not its kind). Shown in the trail as skipped.
    Skip,
    /// The answer depends on something that must be waited for, for example Redis.
    Wait(Waiting),
}

/// Something to wait for, and what then happens to the exchange.
pub type Waiting = Pin<Box<dyn Future<Output = Resume> + Send>>;

/// Finishes the guard's `request` once the wait is over. Must not answer [`Verdict::Wait`] more than a bounded number of times.
pub type Resume = Box<dyn FnOnce(&mut Exchange) -> Verdict + Send>;

/// Status and header fields of a response on its way up.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole response was handed to the client's connection.
    Complete,
    /// The client hung up before that.
    ClientGone,
    /// The upstream failed after the status was sent; the client saw a cut connection.
    UpstreamCut,
    /// The deadline passed after the status was sent; the client saw a cut connection.
    DeadlinePassed,
    /// The request's own code panicked; it was answered with 500.
    Panicked,
}

impl End {
    /// The value of `end` in log lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            End::Complete => "complete",
            End::ClientGone => "client_gone",
            End::UpstreamCut => "upstream_cut",
            End::DeadlinePassed => "deadline",
            End::Panicked => "panic",
        }
    }
}

/// What happened, for [`Guard::finish`].
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The status the client was sent, or 499 when it hung up before there was one.
    pub status: u16,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes handed to the client's connection.
    pub bytes_out: u64,
    /// Nanoseconds from the request head to this moment.
    pub duration_nanos: u64,
    /// Nanoseconds from asking the upstream to its response head, over all attempts; 0 when it was not asked.
    pub upstream_nanos: u64,
    /// How often the upstream was asked.
    pub attempts: u32,
}
