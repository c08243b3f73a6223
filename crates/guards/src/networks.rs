//! A set of networks, ready for asking: trusted proxies, allow lists, deny lists.
//!
//! Kept as sorted ranges that do not overlap, so that a list of a hundred thousand networks costs some seventeen comparisons
//! and an empty one a look at its length.
//!
//! Invariant: an empty set holds nobody. An IPv4-mapped IPv6 address is asked about as its IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_core::units::Cidr;

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// First and last address, sorted, not overlapping.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

/// The first and last address of a network.
enum Range {
    V4(u32, u32),
    V6(u128, u128),
}

impl Networks {
    /// The addresses of `networks`.
    #[must_use]
    pub fn new(networks: &[Cidr]) -> Networks {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for network in networks {
            match range_of(network) {
                Range::V4(first, last) => v4.push((first, last)),
                Range::V6(first, last) => v6.push((first, last)),
            }
        }
        Networks { v4: merged(v4), v6: merged(v6) }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether `address` belongs to one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => holds(&self.v4, v4.to_bits()).is_some(),
            IpAddr::V6(v6) => holds(&self.v6, v6.to_bits()).is_some(),
        }
    }

    /// The first and last address of the range that `address` lies in, for people.
    #[must_use]
    pub fn range(&self, address: IpAddr) -> Option<(IpAddr, IpAddr)> {
        match address.to_canonical() {
            IpAddr::V4(v4) => holds(&self.v4, v4.to_bits())
                .map(|(first, last)| (Ipv4Addr::from_bits(first).into(), Ipv4Addr::from_bits(last).into())),
            IpAddr::V6(v6) => holds(&self.v6, v6.to_bits())
                .map(|(first, last)| (Ipv6Addr::from_bits(first).into(), Ipv6Addr::from_bits(last).into())),
        }
    }

    /// Whether every address of `network` belongs to the set.
    #[must_use]
    pub fn covers(&self, network: &Cidr) -> bool {
        match range_of(network) {
            Range::V4(first, last) => holds(&self.v4, first).is_some_and(|range| range.1 >= last),
            Range::V6(first, last) => holds(&self.v6, first).is_some_and(|range| range.1 >= last),
        }
    }

    /// Whether any address of `network` belongs to the set.
    #[must_use]
    pub fn overlaps(&self, network: &Cidr) -> bool {
        match range_of(network) {
            Range::V4(first, last) => meets(&self.v4, first, last),
            Range::V6(first, last) => meets(&self.v6, first, last),
        }
    }
}

fn range_of(network: &Cidr) -> Range {
    let prefix = u32::from(network.prefix());
    match network.address() {
        IpAddr::V4(first) => {
            let first = first.to_bits();
            Range::V4(first, first | u32::MAX.checked_shr(prefix).unwrap_or(0))
        }
        IpAddr::V6(first) => {
            let first = first.to_bits();
            Range::V6(first, first | u128::MAX.checked_shr(prefix).unwrap_or(0))
        }
    }
}

/// Sorted, and with ranges that overlap made one.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out.into_boxed_slice()
}

#[inline]
fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> Option<(T, T)> {
    let behind = ranges.partition_point(|range| range.0 <= address);
    let candidate = *ranges.get(behind.checked_sub(1)?)?;
    (candidate.1 >= address).then_some(candidate)
}

fn meets<T: Ord + Copy>(ranges: &[(T, T)], first: T, last: T) -> bool {
    // The last range that begins at or before `last` reaches furthest of those.
    let behind = ranges.partition_point(|range| range.0 <= last);
    behind.checked_sub(1).is_some_and(|place| ranges[place].1 >= first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn sets_cover_and_overlap_as_their_networks_do() {
        let set = Networks::new(&networks(&["10.0.0.0/9", "10.128.0.0/9", "192.0.2.7", "2001:db8::/48"]));
        for (network, covers, overlaps) in [
            ("10.1.0.0/16", true, true),
            ("10.0.0.0/9", true, true),
            ("0.0.0.0/0", false, true),
            ("192.0.2.0/24", false, true),
            ("192.0.2.7", true, true),
            ("192.0.2.8", false, false),
            ("2001:db8:0:1::/64", true, true),
            ("2001:db8::/47", false, true),
            ("2001:db9::/48", false, false),
        ] {
            let network: Cidr = network.parse().unwrap();
            assert_eq!((set.covers(&network), set.overlaps(&network)), (covers, overlaps), "{network}");
        }
        assert!(Networks::default().is_empty() && !Networks::default().contains("::".parse().unwrap()));
        let range = set.range("192.0.2.7".parse().unwrap()).unwrap();
        assert_eq!(range, ("192.0.2.7".parse().unwrap(), "192.0.2.7".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_set_holds_what_one_of_its_networks_holds(
            parts in prop::collection::vec((any::<u32>(), 0u8..=32), 0..20),
            asked in prop::collection::vec(any::<u32>(), 50),
        ) {
            let list: Vec<Cidr> = parts
                .iter()
                .map(|(bits, prefix)| {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*prefix)).unwrap_or(0);
                    Cidr::new(Ipv4Addr::from_bits(bits & mask).into(), *prefix).unwrap()
                })
                .collect();
            let set = Networks::new(&list);
            for bits in asked.into_iter().chain(parts.iter().map(|part| part.0)) {
                let address: IpAddr = Ipv4Addr::from_bits(bits).into();
                prop_assert_eq!(set.contains(address), list.iter().any(|network| network.contains(address)));
                let network = Cidr::new(Ipv4Addr::from_bits(bits & 0xFFFF_0000).into(), 16).unwrap();
                let overlaps = list.iter().any(|one| one.contains(network.address()) || network.contains(one.address()));
                prop_assert_eq!(set.overlaps(&network), overlaps);
            }
        }
    }
}
