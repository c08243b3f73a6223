//! What is counted about accounts and sessions.
//!
//! Invariant: no name, address or token is a label.

use portcullis_core::metric::{Counter, Declaration, Gauge, Kind, Label, Registry, Values};

use crate::register::Statistics;

/// What people and operators do with accounts.
const OPERATIONS: &[&str] = &[
    "register",
    "login",
    "logout",
    "password",
    "totp_begin",
    "totp_confirm",
    "totp_remove",
    "key_add",
    "key_revoke",
    "session_end",
    "create",
    "disable",
    "enable",
    "unlock",
];

static OPERATIONS_TOTAL: Declaration = Declaration {
    name: "user_operations_total",
    kind: Kind::Counter,
    help: "What was done with accounts",
    labels: &[Label { name: "operation", values: Values::Closed(OPERATIONS) }],
};
static FAILED_LOGINS: Declaration = Declaration {
    name: "failed_logins_total",
    kind: Kind::Counter,
    help: "Logins at the gateway's own accounts that failed: unknown, wrong, locked or disabled",
    labels: &[],
};
static LOCKED_ACCOUNTS: Declaration = Declaration {
    name: "locked_accounts_total",
    kind: Kind::Counter,
    help: "How often guesses at an account were stopped for a while",
    labels: &[],
};
static USERS: Declaration =
    Declaration { name: "users_total", kind: Kind::Gauge, help: "Accounts, disabled ones included", labels: &[] };
static ACTIVE_SESSIONS: Declaration =
    Declaration { name: "active_sessions", kind: Kind::Gauge, help: "Sessions that have not ended", labels: &[] };

/// All of them.
pub const ALL: &[&Declaration] = &[&OPERATIONS_TOTAL, &FAILED_LOGINS, &LOCKED_ACCOUNTS, &USERS, &ACTIVE_SESSIONS];

/// Their handles.
pub struct Counts {
    operations: Vec<(&'static str, Counter)>,
    /// Logins that failed.
    pub failed_logins: Counter,
    locked: Counter,
    users: Gauge,
    sessions: Gauge,
}

impl Counts {
    /// All at 0.
    #[must_use]
    pub fn new(metrics: &Registry) -> Counts {
        Counts {
            operations: OPERATIONS.iter().map(|name| (*name, metrics.counter(&OPERATIONS_TOTAL, &[name]))).collect(),
            failed_logins: metrics.counter(&FAILED_LOGINS, &[]),
            locked: metrics.counter(&LOCKED_ACCOUNTS, &[]),
            users: metrics.gauge(&USERS, &[]),
            sessions: metrics.gauge(&ACTIVE_SESSIONS, &[]),
        }
    }

    /// One of the operations was done.
    pub fn did(&self, operation: &'static str) {
        if let Some((_, counter)) = self.operations.iter().find(|(name, _)| *name == operation) {
            counter.inc();
        }
    }

    /// Shows how things stand.
    pub fn show(&self, statistics: Statistics, locked: u64) {
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.users.set(gauge(statistics.accounts));
        self.sessions.set(gauge(statistics.sessions));
        self.locked.inc_by(locked.saturating_sub(self.locked.get()));
    }
}
