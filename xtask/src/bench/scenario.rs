//! The four scenarios, and what an answer and a forwarded request must carry in each.
//!
//! The lists are what makes "the same work" a checked statement: before anything is timed, every candidate is
//! asked once and held against them (`checks.rs`).
use clap::ValueEnum;

/// What the proxies are asked to do. `bench/README.md` describes the work of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Reverse proxy only.
    Plain,
    /// Plus security headers, request id and a limit by address that never refuses.
    Guarded,
    /// The whole default path with every guard on.
    Full,
    /// The whole default path, every request over its limit.
    Refused,
}

const SECURITY: [&str; 5] =
    ["content-security-policy", "referrer-policy", "x-content-type-options", "x-frame-options", "x-xss-protection"];
const LIMITS: [&str; 5] =
    ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
const FORWARDING: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];

impl Scenario {
    /// All of them, in the order in which they are run.
    pub(crate) const ALL: [Self; 4] = [Self::Plain, Self::Guarded, Self::Full, Self::Refused];

    /// The name in file names, tables and options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Guarded => "guarded",
            Self::Full => "full",
            Self::Refused => "refused",
        }
    }

    /// The status every answer must have.
    pub(crate) fn status(self) -> u16 {
        if self == Self::Refused { 429 } else { 200 }
    }

    /// Whether every request must leave a line in the access log.
    pub(crate) fn is_logged(self) -> bool {
        matches!(self, Self::Full | Self::Refused)
    }

    /// Fields every answer must carry, in lower case.
    pub(crate) fn answer_fields(self) -> Vec<&'static str> {
        let mut fields = Vec::new();
        if self != Self::Plain {
            fields.extend(SECURITY);
            fields.extend(LIMITS);
            fields.push("x-request-id");
        }
        if self == Self::Refused {
            fields.push("retry-after");
        }
        fields
    }

    /// Fields the upstream must see, in lower case. Nothing reaches it where everything is refused.
    pub(crate) fn forwarded_fields(self) -> Vec<&'static str> {
        match self {
            Self::Plain | Self::Refused => Vec::new(),
            Self::Guarded => vec!["x-request-id"],
            Self::Full => [&FORWARDING[..], &["x-request-id"]].concat(),
        }
    }

    /// The most CPU per request the gateway may use, as a share of HAProxy's, where a goal is set.
    pub(crate) fn cpu_goal(self) -> Option<f64> {
        match self {
            Self::Plain | Self::Guarded => None,
            Self::Full => Some(0.83),
            Self::Refused => Some(0.85),
        }
    }

    /// The most user instructions per request, as a share of HAProxy's, where a goal is set.
    pub(crate) fn instructions_goal(self) -> Option<f64> {
        (self == Self::Full).then_some(0.6)
    }
}
