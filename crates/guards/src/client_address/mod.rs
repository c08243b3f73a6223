//! `client_address`: who is asking, and which header fields nobody but the gateway may write.
//!
//! # What it does
//! Finds the client's address. Without `trusted_proxies` it is the peer of the connection, whatever the request says.
//! With them, and when the peer is one of them, the configured header is read from the right: every trusted hop is
//! stepped over, the first other one is the client. What cannot be read ends the walk and the last good hop counts.
//! Then it takes away what clients must not say (forwarding and identity fields, method and path overrides, also spelt
//! with underscores, and what `Connection` nominates), and writes `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded`
//! anew for the upstream.
//!
//! # Refuses when
//! Never.
//!
//! # Remembers
//! Nothing.
//!
//! # If a dependency fails
//! It has none.
//!
//! # Cost
//! One pass over the field names, one small allocation for each of `X-Forwarded-For` and `Forwarded`. At most
//! [`MAX_HOPS`] hops are read.
//!
//! Invariant: a client behind an untrusted peer cannot choose its address, and its forwarding fields never get further.

mod config;
mod decide;
mod foreign;
mod hops;
mod rebuild;
#[cfg(test)]
mod tests;
mod trusted;

pub use config::{Config, ForwardingHeader, Rules};
pub use decide::MAX_HOPS;
pub(crate) use decide::group;
pub(crate) use rebuild::address_text;
pub use trusted::TrustedProxies;

use crate::config::{Mistake, PathConfig};
use crate::exchange::Exchange;
use crate::guard::{Fact, Guard, Verdict};
use crate::request_path::Ground;
use crate::trail::Rule;
use decide::{Decision, Facts, decide};

/// The guard.
pub struct Client {
    rules: Rules,
}

/// Builds the guard.
///
/// # Errors
/// Values out of bounds, and trusted proxies that would be everybody.
pub fn build(config: &PathConfig, _ground: &Ground) -> Result<Client, Vec<Mistake>> {
    let client_address = config.client_address.over(&Config::defaults());
    Ok(Client { rules: client_address.compile("client_address", &config.trusted_proxies)? })
}

impl Guard for Client {
    fn name(&self) -> &'static str {
        "client_address"
    }

    fn gives(&self) -> &'static [Fact] {
        &[Fact::ClientAddress]
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let facts = Facts { peer: exchange.peer.ip(), headers: &exchange.headers };
        let decision = decide(&self.rules, &facts);
        let client = decision.client();
        exchange.client = Some(client);
        foreign::remove(&mut exchange.headers, client.peer_is_trusted);
        match &decision {
            Decision::Direct(_) => {
                exchange.by_rule(Rule::Fixed("peer"));
                exchange.explain(|_| format!("{}, the peer of the connection", client.address));
            }
            Decision::Behind(walk) => {
                exchange.told_secure = walk.is_secure == Some(true);
                exchange.by_rule(Rule::Fixed(self.rules.header.name()));
                exchange.explain(|exchange| {
                    format!("{}, behind {} trusted hops up to {}", client.address, walk.trusted, exchange.peer.ip())
                });
            }
        }
        rebuild::write(exchange, &decision);
        Verdict::Pass
    }
}
