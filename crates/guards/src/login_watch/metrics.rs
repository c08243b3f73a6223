//! What the watch over logins counts.
//!
//! Invariant: no address and no account is a label.

use portcullis_core::metric::{Counter, Declaration, Kind, Label, Registry, Values};

/// Answers that said "failed".
pub static ANSWERS: Declaration = Declaration {
    name: "login_watch_answers_total",
    kind: Kind::Counter,
    help: "Answers of the service that have the form of a failed login, by what became of them: counted as a failure; not, \
           because the request carried no credentials; not, because the same bearer token had failed before; or unread, \
           because the JSON body is too long or broken",
    labels: &[Label {
        name: "result",
        values: Values::Closed(&["failed", "no_credentials", "repeated_token", "unread"]),
    }],
};

/// Logins that were not let through.
pub static REFUSED: Declaration = Declaration {
    name: "login_watch_refusals_total",
    kind: Kind::Counter,
    help: "Logins that were refused because as many from that address are on their way as it has failures left",
    labels: &[],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&ANSWERS, &REFUSED];

/// The handles.
pub(super) struct Counts {
    pub(super) failed: Counter,
    pub(super) no_credentials: Counter,
    pub(super) repeated_token: Counter,
    pub(super) unread: Counter,
    pub(super) refused: Counter,
}

impl Counts {
    pub(super) fn new(metrics: &Registry) -> Counts {
        let answers = |result| metrics.counter(&ANSWERS, &[result]);
        Counts {
            failed: answers("failed"),
            no_credentials: answers("no_credentials"),
            repeated_token: answers("repeated_token"),
            unread: answers("unread"),
            refused: metrics.counter(&REFUSED, &[]),
        }
    }
}
