//! What identity counts.
//!
//! Invariant: no user, tenant, issuer or key is a label.

use portcullis_core::identity::CredentialKind;
use portcullis_core::metric::{Counter, Declaration, Kind, Label, Registry, Values};
use portcullis_core::refusal::Code;

const METHOD: Label = Label { name: "method", values: Values::Closed(&["jwt", "session", "api_key", "none"]) };

const ERRORS: [&str; 6] = ["missing", "invalid", "expired", "revoked", "conflict", "unavailable"];

/// Requests by how they showed who is asking.
pub static REQUESTS: Declaration = Declaration {
    name: "auth_requests_total",
    kind: Kind::Counter,
    help: "Requests on routes with identity, by the kind of credential and whether it was taken. Requests that carry none \
           and need none are not counted",
    labels: &[METHOD, Label { name: "status", values: Values::Closed(&["ok", "refused", "unavailable"]) }],
};

/// Why requests were refused.
pub static FAILURES: Declaration = Declaration {
    name: "auth_errors_total",
    kind: Kind::Counter,
    help: "Requests that were refused because of who asks, by the kind of credential and what was wrong with it",
    labels: &[METHOD, Label { name: "error_type", values: Values::Closed(&ERRORS) }],
};

/// Tokens that were taken, by whether they were remembered.
pub static TOKENS: Declaration = Declaration {
    name: "identity_tokens_total",
    kind: Kind::Counter,
    help: "JSON Web Tokens that were looked up and found (remembered), or checked from their first byte and taken (verified)",
    labels: &[Label { name: "result", values: Values::Closed(&["remembered", "verified"]) }],
};

/// All of it.
pub const ALL: &[&Declaration] = &[&REQUESTS, &FAILURES, &TOKENS];

/// The counters of one kind of credential.
struct OfMethod {
    ok: Counter,
    refused: Counter,
    unavailable: Counter,
    errors: [Counter; ERRORS.len()],
}

/// The handles.
pub(super) struct Counts {
    /// By kind; the last is for requests that carry none.
    methods: [OfMethod; 4],
    pub(super) remembered: Counter,
    pub(super) verified: Counter,
}

impl Counts {
    pub(super) fn new(metrics: &Registry) -> Counts {
        let methods = ["jwt", "session", "api_key", "none"].map(|method| OfMethod {
            ok: metrics.counter(&REQUESTS, &[method, "ok"]),
            refused: metrics.counter(&REQUESTS, &[method, "refused"]),
            unavailable: metrics.counter(&REQUESTS, &[method, "unavailable"]),
            errors: ERRORS.map(|error| metrics.counter(&FAILURES, &[method, error])),
        });
        let tokens = |result| metrics.counter(&TOKENS, &[result]);
        Counts { methods, remembered: tokens("remembered"), verified: tokens("verified") }
    }

    fn of(&self, kind: Option<CredentialKind>) -> &OfMethod {
        &self.methods[match kind {
            Some(CredentialKind::Jwt) => 0,
            Some(CredentialKind::Session) => 1,
            Some(CredentialKind::ApiKey) => 2,
            None => 3,
        }]
    }

    pub(super) fn ok(&self, kind: CredentialKind) {
        self.of(Some(kind)).ok.inc();
    }

    pub(super) fn refused(&self, kind: Option<CredentialKind>, code: Code) {
        let of = self.of(kind);
        of.refused.inc();
        // By name: codes of other sources are none that this guard says by itself.
        of.errors[match code.entry().name {
            "ERR_UNAUTHENTICATED" => 0,
            "ERR_TOKEN_EXPIRED" | "ERR_SESSION_EXPIRED" => 2,
            "ERR_TOKEN_REVOKED" => 3,
            "ERR_CREDENTIAL_CONFLICT" => 4,
            _ => 1,
        }]
        .inc();
    }

    pub(super) fn unavailable(&self, kind: CredentialKind) {
        let of = self.of(Some(kind));
        of.unavailable.inc();
        of.errors[5].inc();
    }
}
