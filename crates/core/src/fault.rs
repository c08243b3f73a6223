//! Our own trouble on the way to the upstream: what went wrong, whose fault it is, and whether another try may help.
//!
//! The proxy makes faults; the breaker, the retry rule, the log and the client's refusal are all derived from them here,
//! so that the four can never disagree.
//!
//! Invariant: a fault carries no text for clients. What clients read is in [`crate::refusal`].

use crate::refusal::{Code, Refusal};

/// Who caused a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The client sent something broken, was too slow, or hung up. Never counts against the upstream.
    Client,
    /// The upstream was absent, slow, or lied.
    Upstream,
    /// The gateway itself.
    Us,
}

/// `error_type` of `circuit_breaker_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorType {
    /// Connect, first byte or total time ran out.
    Timeout,
    /// The upstream answered with a 5xx.
    ApiError,
    /// No connection, a reset, or an answer that is not HTTP.
    NetworkError,
}

/// Every way in which an attempt to get an answer can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The name of the upstream did not resolve.
    Resolve,
    /// The upstream refused the connection or cannot be reached.
    Connect,
    /// No connection within `timeout.connect`.
    ConnectTimeout,
    /// The upstream could not prove who it is, did not believe the gateway, or does not speak TLS as it must.
    Tls,
    /// The upstream ended TLS with an alert after the handshake: by TLS 1.3, that is also how it refuses a certificate.
    TlsAlert,
    /// The upstream said that it did not begin with the request (an HTTP/2 stream refused, or after a GOAWAY).
    Refused,
    /// No response head within `timeout.first_byte`.
    FirstByteTimeout,
    /// The request's whole time (`limits.total` or `timeout.total`) ran out while the upstream had it.
    TotalTimeout,
    /// The connection ended before a whole response head.
    Closed,
    /// The answer is not valid HTTP, or its framing is ambiguous.
    Malformed,
    /// The response head is larger than allowed.
    HeadTooLarge,
    /// The response body ended early; the status was already sent, so the client sees a cut connection.
    BodyCut,
    /// The client's body grew past the route's limit while it was streamed.
    RequestBodyTooLarge,
    /// The client's body is not valid (a broken chunk), or it ended early.
    RequestBodyBroken,
    /// The client did not deliver its body in time.
    RequestBodyTimeout,
    /// The client hung up.
    ClientGone,
}

impl Fault {
    /// Who caused it.
    #[must_use]
    pub fn blame(self) -> Blame {
        match self {
            Fault::RequestBodyTooLarge | Fault::RequestBodyBroken | Fault::RequestBodyTimeout | Fault::ClientGone => {
                Blame::Client
            }
            _ => Blame::Upstream,
        }
    }

    /// How the breaker's error counter names it; `None` when it does not count against the upstream.
    #[must_use]
    pub fn error_type(self) -> Option<ErrorType> {
        match (self, self.blame()) {
            (_, Blame::Client | Blame::Us) => None,
            (Fault::ConnectTimeout | Fault::FirstByteTimeout | Fault::TotalTimeout, _) => Some(ErrorType::Timeout),
            _ => Some(ErrorType::NetworkError),
        }
    }

    /// Whether a second attempt could succeed, given that the request itself may be repeated (RFC 9110, section 9.2.2).
    ///
    /// A slow answer is not retried: it would ask an upstream that has too much to do for more.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        self.is_before_first_byte() || self == Fault::Closed
    }

    /// Whether the upstream can have seen nothing of the request, so that even a POST may be tried again.
    #[must_use]
    pub fn is_before_first_byte(self) -> bool {
        matches!(self, Fault::Resolve | Fault::Connect | Fault::ConnectTimeout | Fault::Tls | Fault::Refused)
    }

    /// What the client hears.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Fault::Resolve => Code::UpstreamUnresolved,
            Fault::Connect => Code::UpstreamUnreachable,
            Fault::ConnectTimeout => Code::UpstreamConnectTimeout,
            Fault::Tls | Fault::TlsAlert => Code::UpstreamUntrusted,
            Fault::FirstByteTimeout => Code::UpstreamTimeout,
            Fault::TotalTimeout => Code::DeadlineExceeded,
            Fault::Closed | Fault::BodyCut | Fault::Refused => Code::UpstreamClosed,
            Fault::Malformed => Code::UpstreamMalformed,
            Fault::HeadTooLarge => Code::UpstreamHeadTooLarge,
            Fault::RequestBodyTooLarge => Code::BodyTooLarge,
            // Nobody hears the answer to a client that is gone; the code only labels the refusal.
            Fault::RequestBodyBroken | Fault::ClientGone => Code::BodyMalformed,
            Fault::RequestBodyTimeout => Code::BodyTimeout,
        }
    }

    /// A short name for logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::Resolve => "resolve",
            Fault::Connect => "connect",
            Fault::ConnectTimeout => "connect_timeout",
            Fault::Tls => "tls",
            Fault::TlsAlert => "tls_alert",
            Fault::Refused => "refused",
            Fault::FirstByteTimeout => "first_byte_timeout",
            Fault::TotalTimeout => "total_timeout",
            Fault::Closed => "closed",
            Fault::Malformed => "malformed",
            Fault::HeadTooLarge => "head_too_large",
            Fault::BodyCut => "body_cut",
            Fault::RequestBodyTooLarge => "request_body_too_large",
            Fault::RequestBodyBroken => "request_body_broken",
            Fault::RequestBodyTimeout => "request_body_timeout",
            Fault::ClientGone => "client_gone",
        }
    }
}

impl ErrorType {
    /// The label value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ErrorType::Timeout => "timeout",
            ErrorType::ApiError => "api_error",
            ErrorType::NetworkError => "network_error",
        }
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        Refusal::new(fault.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_caused_never_counts_against_the_upstream() {
        for fault in
            [Fault::RequestBodyTooLarge, Fault::RequestBodyBroken, Fault::RequestBodyTimeout, Fault::ClientGone]
        {
            assert_eq!(fault.blame(), Blame::Client);
            assert_eq!(fault.error_type(), None);
            assert!(!fault.is_retryable());
        }
    }

    #[test]
    fn whatever_may_be_retried_for_any_method_may_be_retried_at_all() {
        for fault in [Fault::Resolve, Fault::Connect, Fault::ConnectTimeout, Fault::Tls, Fault::Refused] {
            assert!(fault.is_before_first_byte() && fault.is_retryable());
        }
        assert!(!Fault::FirstByteTimeout.is_before_first_byte());
        assert!(!Fault::Malformed.is_retryable() && !Fault::FirstByteTimeout.is_retryable());
    }
}
