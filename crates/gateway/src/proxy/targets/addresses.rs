//! The addresses of one target as they are known at the moment: fixed, or what the last look-up of its name said.
//!
//! The main thread looks names up and writes here; cores read a version on the way of a request and the addresses when
//! they connect.
//!
//! Invariant: at most [`MOST_KNOWN`] addresses are kept, and those already in use are kept first, so that a name with more
//! does not drain its connections at every look-up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};

/// Most addresses of one name that are kept.
pub const MOST_KNOWN: usize = 64;
/// Addresses that are tried for one connection.
pub const MOST_TRIED: usize = 8;

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Where it is; empty when nobody knows.
    pub addresses: Vec<SocketAddr>,
    /// Whether a look-up has ended, well or badly.
    pub is_settled: bool,
}

/// The addresses of one target.
pub struct Addresses {
    known: watch::Sender<Arc<Known>>,
    version: AtomicU64,
    next: AtomicUsize,
    /// Somebody needs a look-up before its time.
    pub wanted: Notify,
    /// A name, not an address.
    pub is_name: bool,
}

impl Addresses {
    /// Those of `host`: the address that it is, or none yet when it is a name.
    #[must_use]
    pub fn of(host: &str, port: u16) -> Addresses {
        let fixed = host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
        let known = Known { addresses: fixed.into_iter().collect(), is_settled: fixed.is_some() };
        Addresses {
            known: watch::Sender::new(Arc::new(known)),
            version: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            wanted: Notify::new(),
            is_name: fixed.is_none(),
        }
    }

    /// Changes whenever the addresses do.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What is known now.
    #[must_use]
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.borrow())
    }

    /// The answer of a look-up; empty when it failed and the last answer is too old. Whether anything changed.
    pub fn settle(&self, fresh: Vec<SocketAddr>) -> bool {
        let old = self.known();
        let addresses = merge(&old.addresses, fresh);
        if old.is_settled && old.addresses == addresses {
            return false;
        }
        self.known.send_replace(Arc::new(Known { addresses, is_settled: true }));
        self.version.fetch_add(1, Ordering::Release);
        true
    }

    /// What to try for a new connection, in order. Waits for the first look-up; an empty answer asks for another one.
    pub async fn to_try(&self) -> Vec<SocketAddr> {
        let mut known = self.known();
        if !known.is_settled {
            self.wanted.notify_one();
            let mut news = self.known.subscribe();
            // The sender is `self`, so it cannot be gone.
            let _ = news.wait_for(|known| known.is_settled).await;
            known = self.known();
        }
        if known.addresses.is_empty() {
            self.wanted.notify_one();
        }
        if known.addresses.len() < 2 {
            return known.addresses.clone();
        }
        in_order(&known.addresses, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// What is kept of a fresh answer: what was already known first, then what is new, up to the bound. Sorted answers of the
/// same addresses are equal, so that a name server that turns its list round changes nothing.
fn merge(old: &[SocketAddr], mut fresh: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_family = fresh.first().map(SocketAddr::is_ipv6);
    fresh.sort_unstable();
    fresh.dedup();
    if fresh.len() > MOST_KNOWN {
        // Stable: those that are known stay before those that are not.
        fresh.sort_by_key(|address| !old.contains(address));
        fresh.truncate(MOST_KNOWN);
        fresh.sort_unstable();
    }
    // The resolver puts first what this machine reaches best (RFC 6724); the family is kept in front.
    fresh.sort_by_key(|address| Some(address.is_ipv6()) != first_family);
    fresh
}

/// The families in turn (RFC 8305, section 4), each beginning with another address every time, so that connections spread.
fn in_order(addresses: &[SocketAddr], turn: usize) -> Vec<SocketAddr> {
    let split = addresses.partition_point(|address| address.is_ipv6() == addresses[0].is_ipv6());
    let (first, second) = addresses.split_at(split);
    let turned =
        |family: &[SocketAddr], step: usize| (step < family.len()).then(|| family[(turn + step) % family.len()]);
    (0..addresses.len())
        .flat_map(|step| [turned(first, step), turned(second, step)])
        .flatten()
        .take(MOST_TRIED)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn six(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 80))
    }

    #[test]
    fn families_take_turns_and_the_resolvers_first_stays_first() {
        let known = merge(&[], vec![six(2), six(1), four(3), four(1)]);
        assert_eq!(in_order(&known, 0), [six(1), four(1), six(2), four(3)]);
        assert_eq!(in_order(&known, 1), [six(2), four(3), six(1), four(1)]);
        let known = merge(&[], vec![four(1), six(1)]);
        assert_eq!(in_order(&known, 7), [four(1), six(1)]);
    }

    #[test]
    fn row_183_five_thousand_answers_are_bounded_and_do_not_flap() {
        let all: Vec<SocketAddr> =
            (0..5000_u32).map(|index| SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + index), 80))).collect();
        let addresses = Addresses::of("many.example", 80);
        assert!(addresses.settle(all.clone()));
        let first = addresses.known();
        assert_eq!(first.addresses.len(), MOST_KNOWN);
        assert!(in_order(&first.addresses, 0).len() <= MOST_TRIED);
        let mut turned = all.clone();
        turned.rotate_left(2500);
        assert!(!addresses.settle(turned), "the same names in another order change nothing");
        // Half of what was kept is gone: the other half stays.
        let gone = &first.addresses[..MOST_KNOWN / 2];
        let fresh = all.into_iter().filter(|address| !gone.contains(address)).rev().collect();
        assert!(addresses.settle(fresh));
        let second = addresses.known();
        assert!(first.addresses[MOST_KNOWN / 2..].iter().all(|address| second.addresses.contains(address)));
        assert_eq!(second.addresses.len(), MOST_KNOWN);
    }

    #[test]
    fn an_address_needs_no_look_up_and_a_name_has_none_before_it() {
        let fixed = Addresses::of("::1", 8080);
        assert!(!fixed.is_name && fixed.known().is_settled);
        assert_eq!(fixed.known().addresses, [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 8080))]);
        let name = Addresses::of("app", 80);
        assert!(name.is_name && !name.known().is_settled && name.known().addresses.is_empty());
    }

    #[tokio::test]
    async fn a_connection_waits_for_the_first_answer_and_no_longer() {
        let addresses = Arc::new(Addresses::of("app", 80));
        let waiting = tokio::spawn({
            let addresses = Arc::clone(&addresses);
            async move { addresses.to_try().await }
        });
        addresses.wanted.notified().await;
        addresses.settle(vec![four(1)]);
        assert_eq!(waiting.await.unwrap(), [four(1)]);
        addresses.settle(Vec::new());
        assert_eq!(addresses.to_try().await, [], "a failed look-up is told at once");
    }
}
