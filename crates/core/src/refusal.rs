//! Every "no" that a client can hear, in one enum: number, code, status, severity, client text, log level, and who says it.
//!
//! Guards and the proxy return a [`Refusal`]; the runner renders it ([`render`]) as the house's JSON or as RFC 9457.
//! The reference page is generated from [`CATALOGUE`].
//!
//! Invariant: the client's text is fixed here. Nothing of our own trouble, no address, no path of a file, reaches it.

use std::sync::Arc;

mod catalogue;
pub mod render;

pub use catalogue::{CATALOGUE, Code};

/// How bad a refusal is for the operator, as the error body's `severity` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Everyday: the client can mend it.
    Low,
    /// Worth a look when it grows.
    Medium,
    /// Something that users need is not working.
    High,
    /// The gateway itself failed.
    Critical,
}

impl Severity {
    /// The value in the error body.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// How the log treats a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Part of normal traffic.
    Info,
    /// Someone should see it in the morning.
    Warn,
    /// Someone should see it now.
    Error,
}

impl LogLevel {
    /// The value of `level` in log lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

/// One row of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Which code.
    pub code: Code,
    /// Its number; the thousands are the category (CONVENTIONS: 1 authentication ... 9 internal).
    pub number: u16,
    /// The text in `error.code`.
    pub name: &'static str,
    /// HTTP status.
    pub status: u16,
    /// `error.severity`.
    pub severity: Severity,
    /// `error.message`.
    pub message: &'static str,
    /// How the log treats it.
    pub level: LogLevel,
    /// The guard (or `proxy`, `listen`) that says it today; empty for a number that is reserved for a guard to come.
    pub said_by: &'static str,
}

/// A "no" on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which one.
    pub code: Code,
    /// `Retry-After` in whole seconds, at least 1. Set on every 429 and 503.
    pub retry_after_seconds: Option<u64>,
    /// `Allow`, which a 405 must carry (RFC 9110, section 15.5.6). Visible ASCII.
    pub allow: Option<Arc<str>>,
    /// Whether the connection must close after the answer, because what follows on it cannot be trusted or is unread.
    pub must_close: bool,
    /// Shown as `details.reason`: a fixed text that helps the client mend the request, never our own trouble.
    pub reason: Option<&'static str>,
}

impl Refusal {
    /// A refusal with nothing but its code. 429 and 503 get `Retry-After: 1` until someone knows better.
    #[must_use]
    pub fn new(code: Code) -> Refusal {
        let status = code.entry().status;
        Refusal {
            code,
            retry_after_seconds: (status == 429 || status == 503).then_some(1),
            allow: None,
            must_close: matches!(code, Code::MalformedRequest | Code::AmbiguousFraming | Code::HeaderTimeout),
            reason: None,
        }
    }

    /// 400 for bytes that are no HTTP request; closes the connection.
    #[must_use]
    pub fn malformed(reason: &'static str) -> Refusal {
        Refusal::new(Code::MalformedRequest).because(reason)
    }

    /// 404: no route takes this request.
    #[must_use]
    pub fn not_found() -> Refusal {
        Refusal::new(Code::RouteNotFound)
    }

    /// 405 with the methods that are allowed, in the form of the `Allow` field.
    #[must_use]
    pub fn method_not_allowed(allow: Arc<str>) -> Refusal {
        Refusal { allow: Some(allow), ..Refusal::new(Code::MethodNotAllowed) }
    }

    /// 429 with the time until a request may pass again.
    #[must_use]
    pub fn rate_limited(retry_after_nanos: u64) -> Refusal {
        Refusal::new(Code::RateLimited).retry_after(retry_after_nanos)
    }

    /// 503 while the circuit breaker is open, with the time until it probes.
    #[must_use]
    pub fn circuit_open(retry_after_nanos: u64) -> Refusal {
        Refusal::new(Code::CircuitOpen).retry_after(retry_after_nanos)
    }

    /// 500: the gateway's own mistake.
    #[must_use]
    pub fn internal() -> Refusal {
        Refusal::new(Code::Internal)
    }

    /// Adds what the client can do about it.
    #[must_use]
    pub fn because(mut self, reason: &'static str) -> Refusal {
        self.reason = Some(reason);
        self
    }

    /// Sets `Retry-After`, rounded up to whole seconds and at least 1.
    #[must_use]
    pub fn retry_after(mut self, wait_nanos: u64) -> Refusal {
        self.retry_after_seconds = Some(crate::clock::retry_after_seconds(wait_nanos));
        self
    }

    /// Closes the connection after the answer.
    #[must_use]
    pub fn closing(mut self) -> Refusal {
        self.must_close = true;
        self
    }
}
