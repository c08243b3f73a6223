//! The networks of the proxies in front of the gateway, ready for asking.
//!
//! `request_id` asks about the peer, `client_address` about the peer and every hop. Kept as sorted ranges, so that the
//! long lists that content networks publish cost a few comparisons.
//!
//! Invariant: an empty list trusts nobody. An IPv4-mapped IPv6 address is asked about as its IPv4 address.

use std::net::IpAddr;

use portcullis_core::units::Cidr;

/// A set of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// First and last address, sorted, not overlapping.
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl TrustedProxies {
    /// The addresses of `networks`.
    #[must_use]
    pub fn new(networks: &[Cidr]) -> TrustedProxies {
        let mut v4 = Vec::new();
        let mut v6 = Vec::new();
        for network in networks {
            let prefix = u32::from(network.prefix());
            match network.address() {
                IpAddr::V4(first) => {
                    let first = first.to_bits();
                    v4.push((first, first | u32::MAX.checked_shr(prefix).unwrap_or(0)));
                }
                IpAddr::V6(first) => {
                    let first = first.to_bits();
                    v6.push((first, first | u128::MAX.checked_shr(prefix).unwrap_or(0)));
                }
            }
        }
        TrustedProxies { v4: merged(v4), v6: merged(v6) }
    }

    /// Whether `address` belongs to a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => holds(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => holds(&self.v6, v6.to_bits()),
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

fn holds<T: Ord>(ranges: &[(T, T)], address: T) -> bool {
    let behind = ranges.partition_point(|range| range.0 <= address);
    behind > 0 && ranges[behind - 1].1 >= address
}
