//! The bans that hold, for asking on the way of every request.
//!
//! A network is found by its length: for each length in use, the address is cut to it and looked up. With no bans that is one
//! load of a zero word; with bans of single addresses only, one look-up. Readers take no lock: each of the 64 parts is
//! replaced whole when it changes, and writers, who hold the register's lock, copy one part.
//!
//! Invariant: a length is in use before its first network is found, and until after its last is gone.

use std::array;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use portcullis_core::units::Cidr;

const PARTS: usize = 64;

/// A network in the form of a key: its bits at the top of the word, its length, its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    bits: u128,
    prefix: u8,
    is_v6: bool,
}

/// When a ban ends, in nanoseconds of the process's clock; `u64::MAX` for never.
type Until = u64;

type Part = HashMap<Key, Until, ahash::RandomState>;

/// The bans that hold.
pub(super) struct Table {
    parts: [ArcSwap<Part>; PARTS],
    places: ahash::RandomState,
    /// Lengths in use of IPv4, a bit each.
    v4: AtomicU64,
    /// Lengths in use of IPv6, a bit each: 0 to 63, 64 to 127, 128.
    v6: [AtomicU64; 3],
}

/// How many networks of each length there are. Kept by the writer.
pub(super) struct Lengths {
    v4: [u32; 33],
    v6: [u32; 129],
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths { v4: [0; 33], v6: [0; 129] }
    }
}

/// A ban that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// Of which network.
    pub(super) network: Cidr,
    /// Nanoseconds that are left; `None` for a ban without end.
    pub(super) left_nanos: Option<u64>,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            parts: array::from_fn(|_| ArcSwap::from_pointee(Part::default())),
            places: ahash::RandomState::new(),
            v4: AtomicU64::new(0),
            v6: [const { AtomicU64::new(0) }; 3],
        }
    }
}

fn key_of(address: IpAddr, prefix: u8) -> Key {
    let (bits, is_v6) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, false),
        IpAddr::V6(v6) => (v6.to_bits(), true),
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    Key { bits: bits & mask, prefix, is_v6 }
}

fn network_of(key: Key) -> Option<Cidr> {
    let address = if key.is_v6 {
        IpAddr::from(key.bits.to_be_bytes())
    } else {
        IpAddr::from(((key.bits >> 96) as u32).to_be_bytes())
    };
    Cidr::new(address, key.prefix).ok()
}

impl Table {
    /// The longest network that holds `address` (IPv4-mapped ones already as IPv4) and is banned at `now_nanos`.
    #[inline]
    pub(super) fn find(&self, address: IpAddr, now_nanos: u64) -> Option<Hit> {
        match address {
            IpAddr::V4(_) => self.find_among(address, self.v4.load(Ordering::Acquire), 0, now_nanos),
            IpAddr::V6(_) => (0..3usize)
                .rev()
                .find_map(|word| self.find_among(address, self.v6[word].load(Ordering::Acquire), word * 64, now_nanos)),
        }
    }

    #[inline]
    fn find_among(&self, address: IpAddr, mut lengths: u64, base: usize, now_nanos: u64) -> Option<Hit> {
        while lengths != 0 {
            let bit = 63 - lengths.leading_zeros();
            lengths &= !(1 << bit);
            let key = key_of(address, (base + bit as usize) as u8);
            let until = self.parts[self.place(&key)].load().get(&key).copied();
            if let Some(until) = until.filter(|until| *until > now_nanos) {
                let left_nanos = (until != Until::MAX).then(|| until - now_nanos);
                return network_of(key).map(|network| Hit { network, left_nanos });
            }
        }
        None
    }

    /// Bans `network` until `until_nanos` (`None`: without end), in place of what was known of it.
    pub(super) fn insert(&self, network: &Cidr, until_nanos: Option<u64>, lengths: &mut Lengths) {
        let key = key_of(network.address(), network.prefix());
        let mut is_new = false;
        self.change(&key, |part| is_new = part.insert(key, until_nanos.unwrap_or(Until::MAX)).is_none());
        if is_new {
            let (count, word, bit) = self.length(&key, lengths);
            *count += 1;
            word.fetch_or(bit, Ordering::Release);
        }
    }

    /// Lets `network` in again.
    pub(super) fn remove(&self, network: &Cidr, lengths: &mut Lengths) {
        let key = key_of(network.address(), network.prefix());
        let mut was_known = false;
        self.change(&key, |part| was_known = part.remove(&key).is_some());
        if was_known {
            let (count, word, bit) = self.length(&key, lengths);
            *count -= 1;
            if *count == 0 {
                word.fetch_and(!bit, Ordering::Release);
            }
        }
    }

    fn length<'a>(&'a self, key: &Key, lengths: &'a mut Lengths) -> (&'a mut u32, &'a AtomicU64, u64) {
        let prefix = usize::from(key.prefix);
        if key.is_v6 {
            (&mut lengths.v6[prefix], &self.v6[prefix / 64], 1 << (prefix % 64))
        } else {
            (&mut lengths.v4[prefix], &self.v4, 1 << prefix)
        }
    }

    /// Only one writer at a time comes here: the register holds its lock.
    fn change(&self, key: &Key, change: impl FnOnce(&mut Part)) {
        let part = &self.parts[self.place(key)];
        let mut new = Part::clone(&part.load());
        change(&mut new);
        part.store(Arc::new(new));
    }

    #[inline]
    fn place(&self, key: &Key) -> usize {
        (self.places.hash_one(key) % PARTS as u64) as usize
    }
}
