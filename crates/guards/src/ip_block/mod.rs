//! Keeps out whom the operator named, and who was banned.
//!
//! # What it does
//! Holds the client's address, as `client_address` found it, against three rules in this order: the allow list, the deny
//! list, the bans. Lists are written in the config or in files that it names, and take effect with a reload. Bans are placed
//! by a person (`portcullis bans add`), by `login_watch`, or on a wider IPv6 network when many of its networks are banned;
//! they take effect with the next request, grow when they repeat, and end by themselves.
//!
//! # Refuses when
//! The address is on the deny list or banned and not on the allow list: 403 `ERR_ADDRESS_BLOCKED`, with `Retry-After` where
//! a ban has an end. The client is not told which list or why. A trusted proxy is never refused because of a ban.
//!
//! # Remembers
//! Every network that is banned, or was within `repeat_within`, with at most ten of its past bans; at most `most_bans`
//! networks. With a durable store (`store.url`) over a restart, without one until the process ends.
//!
//! # If a dependency fails
//! A store that cannot be written changes nothing for requests: bans hold in memory, the failure is logged and counted, and
//! they are written when the store is back. A store that cannot be read stops the start.
//!
//! # Cost
//! Nothing to speak of while both lists and the bans are empty (a few loads). A list costs a binary search over its ranges;
//! bans one look-up for each length of network that is banned, without a lock.
//!
//! Invariant: a ban that was placed holds for the next request that begins, and no ban outlasts its time in the process.

mod book;
mod config;
mod decide;
mod ladder;
pub mod metrics;
mod state;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use portcullis_core::refusal::{Code, Refusal};

pub use config::{Config, Rules, WideConfig};
pub use state::{Bans, Changes, Event, Known, NotPlaced, Order};

use crate::config::{Mistake, PathConfig};
use crate::exchange::{Exchange, Touch};
use crate::guard::{Fact, Guard, Verdict};
use crate::request_path::Ground;
use crate::trail::Rule;
use decide::{Decision, decide};
use metrics::OfGuard;
use table::Hit;

/// The guard.
pub struct IpBlock {
    rules: Arc<Rules>,
    bans: Arc<Bans>,
    metrics: OfGuard,
}

/// Builds the guard and reads the files of its lists.
///
/// # Errors
/// Values out of bounds, files that cannot be read, lines in them that are no network.
pub fn build(config: &PathConfig, ground: &Ground) -> Result<IpBlock, Vec<Mistake>> {
    let rules = Arc::new(config::compile(config)?);
    Ok(IpBlock { rules, bans: Arc::clone(&ground.bans), metrics: OfGuard::new(&ground.metrics) })
}

impl Guard for IpBlock {
    fn name(&self) -> &'static str {
        "ip_block"
    }

    fn needs(&self) -> &'static [Fact] {
        &[Fact::ClientAddress]
    }

    fn begins(&self) {
        self.bans.adopt(&self.rules);
    }

    fn request(&self, exchange: &mut Exchange) -> Verdict {
        let Some(client) = exchange.client else { return Verdict::Skip };
        let now = exchange.now;
        let decision = decide(&self.rules, client.address, || self.bans.find(client.address, &now));
        if decision == Decision::Unknown {
            return Verdict::Pass;
        }
        exchange.by_rule(Rule::Fixed(rule_of(&decision)));
        exchange.explain(|_| self.explain(&decision, client.address, &now));
        let is_real = exchange.touch == Touch::Take;
        match decision {
            Decision::Unknown | Decision::Allowed | Decision::Trusted(_) => Verdict::Pass,
            Decision::Denied => {
                if is_real {
                    self.metrics.denied.inc();
                }
                Verdict::Refuse(Refusal::new(Code::AddressBlocked))
            }
            Decision::Banned(Hit { left_nanos, .. }) => {
                if is_real {
                    self.metrics.banned.inc();
                }
                let refusal = Refusal::new(Code::AddressBlocked);
                Verdict::Refuse(match left_nanos {
                    Some(left) => refusal.retry_after(left),
                    None => refusal,
                })
            }
        }
    }
}

fn rule_of(decision: &Decision) -> &'static str {
    match decision {
        Decision::Unknown => "",
        Decision::Allowed => "allow",
        Decision::Denied => "deny",
        Decision::Trusted(_) => "trusted_proxy",
        Decision::Banned(_) => "ban",
    }
}

impl IpBlock {
    /// The rule in words, for people.
    fn explain(&self, decision: &Decision, address: std::net::IpAddr, now: &portcullis_core::clock::Now) -> String {
        let range = |list: &crate::networks::Networks| match list.range(address) {
            Some((first, last)) if first == last => format!("{first}"),
            Some((first, last)) => format!("{first} to {last}"),
            None => String::new(),
        };
        match decision {
            Decision::Unknown => String::new(),
            Decision::Allowed => format!("the allow list has {}", range(&self.rules.allow)),
            Decision::Denied => format!("the deny list has {}", range(&self.rules.deny)),
            Decision::Trusted(hit) => format!("a trusted proxy, for which the ban of {} does not hold", hit.network),
            Decision::Banned(hit) => {
                let ban = self.bans.show(&hit.network, now).and_then(|known| known.record.ban);
                let why = ban.map_or_else(String::new, |ban| format!(" by {}: {}", ban.origin.name(), ban.reason));
                match hit.left_nanos {
                    Some(left) => format!("{} is banned for {} s more{why}", hit.network, left / 1_000_000_000),
                    None => format!("{} is banned until somebody lifts it{why}", hit.network),
                }
            }
        }
    }
}
