//! The scenarios, and what an answer and a forwarded request must carry in each.
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
    /// As full, over TLS 1.3.
    TlsH1,
    /// As full, over TLS 1.3 and HTTP/2.
    TlsH2,
    /// As full, over TLS 1.3, with a full handshake for every request.
    Handshake,
    /// As full, with a token (ES256) that was seen before, and a role that the route asks for.
    JwtEs256,
    /// The same with RS256.
    JwtRs256,
    /// The same with HS256.
    JwtHs256,
    /// The same with ES256 and a new token in every request.
    JwtNew,
    /// As full, with 10 routes and with 10,000.
    Routes,
    /// As full, alone and beside 1,000 idle connections.
    Idle,
    /// As full, with one core and with two, upstream and load included.
    Cores,
}

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// HTTP/1.1 in plain text, connections kept.
    Plain,
    /// HTTP/1.1 over TLS, connections kept.
    Tls,
    /// HTTP/1.1 over TLS, a connection for every request.
    Handshakes,
    /// HTTP/2 over TLS.
    Http2,
}

/// What a contestant carries, where a proxy is compared with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Burden {
    /// 10 routes, no idle connections, one core; the only one where nothing is paired.
    Light,
    /// 10,000 routes, 1,000 idle connections, two cores.
    Heavy,
}

/// What the gateway has to reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// At most so much of HAProxy's CPU per request.
    OverHaproxy(f64),
    /// At most so much of its own CPU per request with the light burden.
    OverLight(f64),
    /// At least so many times its own requests a second with the light burden.
    TimesLight(f64),
}

const SECURITY: [&str; 5] =
    ["content-security-policy", "referrer-policy", "x-content-type-options", "x-frame-options", "x-xss-protection"];
const LIMITS: [&str; 5] =
    ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
const FORWARDING: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];

impl Scenario {
    /// All of them, in the order in which they are run.
    pub(crate) const ALL: [Self; 14] = [
        Self::Plain,
        Self::Guarded,
        Self::Full,
        Self::Refused,
        Self::TlsH1,
        Self::TlsH2,
        Self::Handshake,
        Self::JwtEs256,
        Self::JwtRs256,
        Self::JwtHs256,
        Self::JwtNew,
        Self::Routes,
        Self::Idle,
        Self::Cores,
    ];

    /// Those whose latency is measured too, and whose instructions are counted when none are named.
    pub(crate) const IN_DEPTH: [Self; 4] = [Self::Plain, Self::Guarded, Self::Full, Self::Refused];

    /// The name in tables and options.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Guarded => "guarded",
            Self::Full => "full",
            Self::Refused => "refused",
            Self::TlsH1 => "tls-h1",
            Self::TlsH2 => "tls-h2",
            Self::Handshake => "handshake",
            Self::JwtEs256 => "jwt-es256",
            Self::JwtRs256 => "jwt-rs256",
            Self::JwtHs256 => "jwt-hs256",
            Self::JwtNew => "jwt-new",
            Self::Routes => "routes",
            Self::Idle => "idle",
            Self::Cores => "cores",
        }
    }

    /// The name in file names: several scenarios may ask differently of one config.
    pub(crate) fn config_name(self) -> &'static str {
        match self {
            Self::TlsH1 | Self::TlsH2 | Self::Handshake => "tls",
            Self::Idle | Self::Cores => "full",
            Self::JwtEs256 | Self::JwtRs256 | Self::JwtHs256 | Self::JwtNew => "jwt",
            other => other.name(),
        }
    }

    /// How requests travel.
    pub(crate) fn traffic(self) -> Traffic {
        match self {
            Self::TlsH1 => Traffic::Tls,
            Self::TlsH2 => Traffic::Http2,
            Self::Handshake => Traffic::Handshakes,
            _ => Traffic::Plain,
        }
    }

    /// How many different tokens the load sends, and how they are signed.
    pub(crate) fn tokens(self) -> Option<(&'static str, u32)> {
        match self {
            Self::JwtEs256 => Some(("ES256", 1_000)),
            Self::JwtRs256 => Some(("RS256", 1_000)),
            Self::JwtHs256 => Some(("HS256", 1_000)),
            // Far more than the gateway is given memory for, so that none is remembered when its turn comes again.
            Self::JwtNew => Some(("ES256", 20_000)),
            _ => None,
        }
    }

    /// Memory for tokens that were checked, as the gateway's config says it.
    pub(crate) fn token_memory(self) -> &'static str {
        if self == Self::JwtNew { "64KiB" } else { "32MiB" }
    }

    /// What tells the two contestants of a program apart; `None` where each runs once.
    pub(crate) fn burdens(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Routes => Some(["10 routes", "10,000 routes"]),
            Self::Idle => Some(["64 busy", "64 busy + 1,000 idle"]),
            Self::Cores => Some(["1 core", "2 cores"]),
            _ => None,
        }
    }

    /// Routes in the config, one of which is for the probe; `None` where there is but one for everything.
    pub(crate) fn routes(self, burden: Burden) -> Option<u32> {
        (self == Self::Routes).then_some(if burden == Burden::Light { 10 } else { 10_000 })
    }

    /// Whether proxy, upstream and load share cores, so that the proxy waits for them.
    pub(crate) fn shares_cores(self) -> bool {
        self == Self::Cores
    }

    /// Cores of everything, where they are shared.
    pub(crate) fn cores(self, burden: Burden) -> usize {
        if self == Self::Cores && burden == Burden::Heavy { 2 } else { 1 }
    }

    /// The status every answer must have.
    pub(crate) fn status(self) -> u16 {
        if self == Self::Refused { 429 } else { 200 }
    }

    /// Whether every request must leave a line in the access log.
    pub(crate) fn is_logged(self) -> bool {
        !matches!(self, Self::Plain | Self::Guarded)
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
        if self.traffic() != Traffic::Plain {
            fields.push("strict-transport-security");
        }
        fields
    }

    /// Fields the upstream must see, in lower case. Nothing reaches it where everything is refused.
    pub(crate) fn forwarded_fields(self) -> Vec<&'static str> {
        match self {
            Self::Plain | Self::Refused => Vec::new(),
            Self::Guarded => vec!["x-request-id"],
            _ if self.tokens().is_some() => [&FORWARDING[..], &["x-request-id", "x-portcullis-user"]].concat(),
            _ => [&FORWARDING[..], &["x-request-id"]].concat(),
        }
    }

    /// What is to be reached, where a goal is set.
    pub(crate) fn goal(self) -> Option<Goal> {
        match self {
            Self::Plain | Self::Guarded | Self::Idle => None,
            Self::Full => Some(Goal::OverHaproxy(0.83)),
            Self::Refused | Self::TlsH1 => Some(Goal::OverHaproxy(0.85)),
            Self::TlsH2 => Some(Goal::OverHaproxy(1.0)),
            Self::Handshake => Some(Goal::OverHaproxy(0.65)),
            Self::JwtEs256 => Some(Goal::OverHaproxy(0.22)),
            Self::JwtRs256 => Some(Goal::OverHaproxy(0.40)),
            Self::JwtHs256 => Some(Goal::OverHaproxy(0.75)),
            Self::JwtNew => Some(Goal::OverHaproxy(0.85)),
            Self::Routes => Some(Goal::OverLight(1.2)),
            Self::Cores => Some(Goal::TimesLight(1.9)),
        }
    }

    /// The most user instructions per request, as a share of HAProxy's, where a goal is set.
    pub(crate) fn instructions_goal(self) -> Option<f64> {
        (self == Self::Full).then_some(0.6)
    }
}
