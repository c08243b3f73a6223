//! How loud a line is: `(refusal, end, status) -> level`, nothing else.

use portcullis_core::refusal::{Code, LogLevel};

use crate::guard::End;

/// The level of the line about an exchange.
///
/// A refusal has the level of its row in the catalogue. An answer of the upstream's own with a 5xx, and an answer that
/// was cut, are worth a look; a client that hangs up is everyday.
pub(super) fn level(refused: Option<Code>, end: End, status: u16) -> LogLevel {
    match (refused, end) {
        (_, End::Panicked) => LogLevel::Error,
        (Some(code), _) => code.entry().level,
        (None, End::UpstreamCut | End::DeadlinePassed) => LogLevel::Warn,
        (None, End::Complete | End::ClientGone) if status >= 500 => LogLevel::Warn,
        (None, End::Complete | End::ClientGone) => LogLevel::Info,
    }
}
