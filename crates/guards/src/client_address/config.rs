//! What the operator writes about client addresses, and the checked form.
//!
//! The list of trusted proxies stands at the top of the config, because `request_id` reads it too.
//!
//! Invariant: compiled [`Rules`] never trust everybody, and group IPv6 by 48 to 128 bits.

use portcullis_core::units::Cidr;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::trusted::TrustedProxies;
use crate::config::Mistake;

/// How the client's address is found and grouped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The header that the trusted proxies write; the other one is never read. Default: `x-forwarded-for`.
    pub header: Option<ForwardingHeader>,
    /// How many leading bits of an IPv6 address make one client for limits and bans, because providers give a whole
    /// network to each customer. Default: 64. Bounds: 48 to 128.
    pub ipv6_prefix: Option<u8>,
    /// Whether a trusted proxy is believed about the host too (`X-Forwarded-Host`, or `host` of `Forwarded`). Only for a
    /// proxy that overwrites what clients send there; many pass it on as it came. Default: false, the request's own Host
    /// is passed on.
    pub believe_host: Option<bool>,
}

/// Which header carries the chain of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto` and `X-Forwarded-Host` beside it.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl ForwardingHeader {
    /// As the operator writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ForwardingHeader::XForwardedFor => "x-forwarded-for",
            ForwardingHeader::Forwarded => "forwarded",
        }
    }
}

/// The checked form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(super) trusted: TrustedProxies,
    pub(super) header: ForwardingHeader,
    /// The bits of an IPv6 address that make its group.
    pub(super) ipv6_mask: u128,
    pub(super) believe_host: bool,
}

impl Config {
    /// What holds where nothing is written.
    #[must_use]
    pub fn defaults() -> Config {
        Config { header: Some(ForwardingHeader::XForwardedFor), ipv6_prefix: Some(64), believe_host: Some(false) }
    }

    /// This config where it says something, `base` elsewhere.
    #[must_use]
    pub fn over(&self, base: &Config) -> Config {
        Config {
            header: self.header.or(base.header),
            ipv6_prefix: self.ipv6_prefix.or(base.ipv6_prefix),
            believe_host: self.believe_host.or(base.believe_host),
        }
    }

    /// The bits of an IPv6 address that make its group. A prefix that is out of bounds, which `compile` tells, is the
    /// nearest one within.
    pub(crate) fn ipv6_mask(&self) -> u128 {
        u128::MAX << (128 - u32::from(self.ipv6_prefix.unwrap_or(64).clamp(48, 128)))
    }

    /// Checks the bounds. `at` is where this config stands.
    ///
    /// # Errors
    /// An IPv6 prefix out of bounds; a trusted network that is every address there is.
    pub fn compile(&self, at: &str, trusted_proxies: &[Cidr]) -> Result<Rules, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        for (index, network) in trusted_proxies.iter().enumerate() {
            if network.prefix() == 0 {
                mistakes.push(Mistake::new(
                    format!("trusted_proxies[{index}]"),
                    format!("`{network}` is everybody, so that every client could choose its own address: name the proxies' networks"),
                ));
            }
        }
        let defaults = Config::defaults();
        let whole = self.over(&defaults);
        let prefix = whole.ipv6_prefix.unwrap_or(64);
        if !(48..=128).contains(&prefix) {
            mistakes
                .push(Mistake::new(format!("{at}.ipv6_prefix"), format!("{prefix} is out of bounds: 48 to 128 bits")));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Rules {
            trusted: TrustedProxies::new(trusted_proxies),
            header: whole.header.unwrap_or(ForwardingHeader::XForwardedFor),
            ipv6_mask: whole.ipv6_mask(),
            believe_host: whole.believe_host.unwrap_or(false),
        })
    }
}
