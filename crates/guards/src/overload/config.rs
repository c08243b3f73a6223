//! What the operator writes about overload, and the checked form.
//!
//! Two readers: the listener, which asks about connections before there is a request, and the guard.
//!
//! Invariant: the low mark is below the high one, so that shedding ends by itself and does not flutter.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use portcullis_core::units::{ByteSize, Cidr};
use portcullis_store::counters::{Algorithm, CompiledQuota, Quota};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decide::Marks;
use crate::client_address::{self, TrustedProxies};
use crate::config::{Mistake, PathConfig};

const PER_ADDRESS: RangeInclusive<u32> = 1..=1_000_000;
const PER_SECOND: RangeInclusive<u32> = 1..=1_000_000;
const BURST: RangeInclusive<u32> = 1..=10_000_000;
const MEMORY: RangeInclusive<ByteSize> = ByteSize::from_mib(16)..=ByteSize::from_kib(1 << 32);
const PERCENT: RangeInclusive<u8> = 10..=95;
/// Most networks in `exempt`.
const MOST_EXEMPT: usize = 1024;

/// What the gateway carries at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections that one address may have at once, over all workers; IPv6 addresses of one network
    /// (`client_address.ipv6_prefix`) count as one. One more is closed before it is read. `trusted_proxies` may have any
    /// number. Default: 100. Bounds: 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections_per_address: Option<u32>,
    /// Networks that may have any number of connections too: a load balancer that is not a trusted proxy, a monitor. An
    /// address of this machine counts like any other. Default: []. Bounds: 1024 networks.
    pub exempt: Option<Vec<Cidr>>,
    /// Requests a second that the whole process takes; more get 503. Default: 10000. Bounds: 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_second: Option<u32>,
    /// Requests that may come at once after a quiet time. Default: the same as `requests_per_second`. Bounds: 1 to 10000000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub burst: Option<u32>,
    /// Memory that the process may use, as the kernel counts it (resident). Default: the limit of the control group, else
    /// the memory of the machine. Bounds: 16MiB to 4TiB.
    pub memory: Option<ByteSize>,
    /// Percent of the memory, or of the descriptors for clients, from which requests are refused. Default: 85.
    /// Bounds: 10 to 95.
    #[schemars(range(min = 10, max = 95))]
    pub high_percent: Option<u8>,
    /// Percent at which that ends. Default: 75. Bounds: 10 to 95, and below `high_percent`.
    #[schemars(range(min = 10, max = 95))]
    pub low_percent: Option<u8>,
}

/// The checked form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(super) connections_per_address: u32,
    pub(super) exempt: TrustedProxies,
    pub(super) ipv6_mask: u128,
    pub(super) requests_per_second: u32,
    pub(super) rate: CompiledQuota,
    /// What `memory` says; `None` for what the system says.
    pub memory_bytes: Option<u64>,
    /// When shedding begins and ends.
    pub marks: Marks,
}

impl Config {
    /// What holds where nothing is written. `memory` has no default of its own, and `burst` follows the rate.
    #[must_use]
    pub fn defaults() -> Config {
        Config {
            connections_per_address: Some(100),
            exempt: Some(Vec::new()),
            requests_per_second: Some(10_000),
            burst: None,
            memory: None,
            high_percent: Some(85),
            low_percent: Some(75),
        }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            connections_per_address: self.connections_per_address.or(base.connections_per_address),
            exempt: self.exempt.clone().or_else(|| base.exempt.clone()),
            requests_per_second: self.requests_per_second.or(base.requests_per_second),
            burst: self.burst.or(base.burst),
            memory: self.memory.or(base.memory),
            high_percent: self.high_percent.or(base.high_percent),
            low_percent: self.low_percent.or(base.low_percent),
        }
    }
}

impl Rules {
    /// Checks the bounds.
    ///
    /// # Errors
    /// Every value that is out of bounds.
    pub fn compile(config: &PathConfig) -> Result<Rules, Vec<Mistake>> {
        let own = config.overload.over(&Config::defaults());
        let mut found = Found(Vec::new());
        let connections_per_address =
            found.within("connections_per_address", own.connections_per_address.unwrap_or(100), &PER_ADDRESS);
        let exempt = own.exempt.unwrap_or_default();
        if exempt.len() > MOST_EXEMPT {
            found.mistake("exempt", format!("{} networks, at most {MOST_EXEMPT} are possible", exempt.len()));
        }
        for (index, _) in exempt.iter().enumerate().filter(|(_, network)| network.prefix() == 0) {
            found.mistake(&format!("exempt[{index}]"), "is everybody: raise `connections_per_address`".to_owned());
        }
        let per_second = found.within("requests_per_second", own.requests_per_second.unwrap_or(10_000), &PER_SECOND);
        let burst = found.within("burst", own.burst.unwrap_or(per_second.max(1)), &BURST);
        if let Some(memory) = own.memory {
            found.within("memory", memory, &MEMORY);
        }
        let high_percent = found.within("high_percent", own.high_percent.unwrap_or(85), &PERCENT);
        let low_percent = found.within("low_percent", own.low_percent.unwrap_or(75), &PERCENT);
        if low_percent >= high_percent {
            found.mistake("low_percent", format!("{low_percent} must be below `high_percent`, {high_percent}"));
        }
        let quota = Quota {
            algorithm: Algorithm::TokenBucket,
            limit: per_second.into(),
            period_nanos: 1_000_000_000,
            burst: burst.into(),
        };
        let rate = quota.compile().map_err(|error| found.mistake("requests_per_second", error.to_string()));
        let networks: Vec<Cidr> = config.trusted_proxies.iter().chain(&exempt).copied().collect();
        match rate {
            Ok(rate) if found.0.is_empty() => Ok(Rules {
                connections_per_address,
                exempt: TrustedProxies::new(&networks),
                ipv6_mask: config.client_address.ipv6_mask(),
                requests_per_second: per_second,
                rate,
                memory_bytes: own.memory.map(ByteSize::bytes),
                marks: Marks { high_percent, low_percent },
            }),
            _ => Err(found.0),
        }
    }

    /// Whom connections from `peer` are counted for; nobody where any number is allowed.
    #[must_use]
    pub(super) fn group_of(&self, peer: IpAddr) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        (!self.exempt.contains(peer)).then(|| client_address::group(peer, self.ipv6_mask))
    }
}

struct Found(Vec<Mistake>);

impl Found {
    fn mistake(&mut self, field: &str, message: String) {
        self.0.push(Mistake::new(format!("overload.{field}"), message));
    }

    fn within<T: PartialOrd + std::fmt::Display>(&mut self, field: &str, value: T, bounds: &RangeInclusive<T>) -> T {
        if !bounds.contains(&value) {
            self.mistake(field, format!("{value} is out of bounds: {} to {}", bounds.start(), bounds.end()));
        }
        value
    }
}
