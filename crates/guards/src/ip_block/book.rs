//! What the register writes in: every network that is banned or was, what changed, and what happened.
//!
//! The register's lock is held around every call. Here is what needs no other part: how records grow and are forgotten, and
//! how times of the wall clock follow it.
//!
//! Invariant: what is marked as changed is known, and what is marked as forgotten is not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use portcullis_core::clock::{Now, nanos};
use portcullis_core::units::Cidr;
use portcullis_store::bans::{Ban, Ending, LONGEST_REASON_BYTES, MOST_PAST, Origin, Past, Record};

use super::state::{Event, Known};
use super::table::Lengths;

/// Things that happened and that nobody has fetched; the oldest give way.
const MOST_EVENTS: usize = 256;
/// A wall clock that moved this much against the monotonic one was stepped.
const STEP_MILLIS: u64 = 5_000;

#[derive(Default)]
pub(super) struct Book {
    pub(super) known: BTreeMap<Cidr, Entry>,
    pub(super) lengths: Lengths,
    pub(super) changed: BTreeSet<Cidr>,
    pub(super) forgotten: BTreeSet<Cidr>,
    pub(super) events: VecDeque<Event>,
    /// No ban ends before this.
    pub(super) next_end_nanos: u64,
    pub(super) next_prune_nanos: u64,
    /// Wall clock minus monotonic clock when last looked at.
    offset_millis: Option<u64>,
    pub(super) active: usize,
}

pub(super) struct Entry {
    pub(super) record: Record,
    /// When the ban ends by the monotonic clock; `None` without a ban, or for one without end.
    pub(super) until_nanos: Option<u64>,
}

impl Book {
    pub(super) fn tell(
        &mut self,
        what: &'static str,
        network: Cidr,
        origin: Origin,
        reason: String,
        until: Option<u64>,
    ) {
        if self.events.len() >= MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event { what, network, origin, reason, until_unix_millis: until });
    }

    /// Forgets the network whose last ban ended first; whether there was one without a ban that holds.
    pub(super) fn make_room(&mut self) -> bool {
        let ended = |entry: &Entry| entry.record.past.last().map_or(0, |past| past.ended_unix_millis);
        let idle = self.known.iter().filter(|(_, entry)| entry.record.ban.is_none());
        let Some(network) = idle.min_by_key(|(_, entry)| ended(entry)).map(|(network, _)| *network) else {
            return false;
        };
        self.forget(&network);
        true
    }

    pub(super) fn forget_what_is_old(&mut self, earliest_unix_millis: u64) {
        let is_old = |entry: &Entry| {
            entry.record.ban.is_none()
                && entry.record.past.iter().all(|past| past.ended_unix_millis < earliest_unix_millis)
        };
        let old: Vec<Cidr> =
            self.known.iter().filter(|(_, entry)| is_old(entry)).map(|(network, _)| *network).collect();
        for network in old {
            self.forget(&network);
        }
    }

    fn forget(&mut self, network: &Cidr) {
        self.known.remove(network);
        self.changed.remove(network);
        self.forgotten.insert(*network);
    }

    /// After a step of the wall clock the ends of bans stand at the new time, as far from now as they were.
    pub(super) fn follow_the_wall_clock(&mut self, now: &Now) {
        let offset = now.unix_millis.saturating_sub(now.monotonic_nanos / 1_000_000);
        let before = self.offset_millis.replace(offset);
        if before.is_none_or(|before| before.abs_diff(offset) < STEP_MILLIS) {
            // Small steps add up only here: what is compared with is the last large one.
            self.offset_millis = before.or(Some(offset));
            return;
        }
        for (network, entry) in &mut self.known {
            let (Some(ban), Some(until)) = (&mut entry.record.ban, entry.until_nanos) else { continue };
            let length = ban.until_unix_millis.map(|until| until.saturating_sub(ban.since_unix_millis));
            let left = until.saturating_sub(now.monotonic_nanos) / 1_000_000;
            let until_unix = now.unix_millis.saturating_add(left);
            ban.until_unix_millis = Some(until_unix);
            ban.since_unix_millis = until_unix.saturating_sub(length.unwrap_or(left));
            self.changed.insert(*network);
        }
    }
}

impl Entry {
    pub(super) fn seen(&self, now: &Now) -> Known {
        let left = self.until_nanos.map(|until| Duration::from_nanos(until.saturating_sub(now.monotonic_nanos)));
        Known { record: self.record.clone(), left }
    }
}

/// Adds to the past of a record, within its bound.
pub(super) trait Remembers {
    /// `ban` is over.
    fn past(&mut self, ban: Ban, ended_unix_millis: u64, ending: Ending);
}

impl Remembers for Record {
    fn past(&mut self, ban: Ban, ended_unix_millis: u64, ending: Ending) {
        if self.past.len() >= MOST_PAST {
            self.past.remove(0);
        }
        self.past.push(Past { ban, ended_unix_millis, ending });
    }
}

/// Milliseconds that a ban read from a store still lasts: never more than it was meant to last in all, whatever the wall
/// clock says now. `None` without end.
pub(super) fn left_of(ban: &Ban, now: &Now) -> Option<u64> {
    let until = ban.until_unix_millis?;
    let length = until.saturating_sub(ban.since_unix_millis);
    Some(until.saturating_sub(now.unix_millis).min(length))
}

/// The network of `address` whose IPv6 addresses share `ipv6_prefix` bits.
pub(super) fn network_around(address: IpAddr, ipv6_prefix: u8) -> Cidr {
    match address.to_canonical() {
        v4 @ IpAddr::V4(_) => Cidr::from(v4),
        v6 => cut_to(v6, ipv6_prefix),
    }
}

/// The network of the first `prefix` bits of `address`.
pub(super) fn cut_to(address: IpAddr, prefix: u8) -> Cidr {
    let cut = match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::from((v4.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::from((v6.to_bits() & mask).to_be_bytes())
        }
    };
    Cidr::new(cut, prefix).unwrap_or_else(|_| Cidr::from(address))
}

/// What is kept of a reason.
pub(super) fn cut(reason: &str) -> String {
    let mut kept = String::new();
    for letter in reason.chars() {
        let letter = if letter.is_control() { ' ' } else { letter };
        if kept.len() + letter.len_utf8() > LONGEST_REASON_BYTES {
            break;
        }
        kept.push(letter);
    }
    kept
}

pub(super) fn millis(time: Duration) -> u64 {
    nanos(time) / 1_000_000
}

pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
