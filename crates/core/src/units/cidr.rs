//! A network or a single address: `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32` (RFC 4632, RFC 4291 section 2.3).
//!
//! Lists of trusted proxies and blocked addresses hold these. An IPv4 address inside IPv6 (`::ffff:192.0.2.7`, RFC 4291
//! section 2.5.5.2) is the same peer as the plain IPv4 address, so it is compared, kept and written as IPv4.
//!
//! Invariant: the bits behind the prefix are zero; what an operator wrote is never widened or narrowed in silence.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::text_unit;

pub(super) const FORMAT: &str = "cidr";

/// An IPv4 or IPv6 network; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The network of `address` with a prefix of `prefix` bits.
    ///
    /// # Errors
    /// The prefix is longer than the address, or bits behind it are set.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        let width = width(address);
        if prefix > width {
            return Err(CidrError::Prefix { text: format!("{address}/{prefix}"), width });
        }
        let network = masked(address, prefix);
        if network != address {
            return Err(CidrError::HostBits { text: format!("{address}/{prefix}"), network, prefix });
        }
        // `::ffff:a.b.c.d/96+n` is the IPv4 network `a.b.c.d/n`.
        Ok(match (address, address.to_canonical()) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if prefix >= 96 => Self { address: mapped, prefix: prefix - 96 },
            _ => Self { address, prefix },
        })
    }

    /// Whether `address` lies in the network. An IPv4-mapped IPv6 address counts as its IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.address) && masked(address, self.prefix) == self.address
    }

    /// The first address of the network.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// The length of the prefix in bits.
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }
}

impl From<IpAddr> for Cidr {
    fn from(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, prefix: width(address) }
    }
}

const fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// `address` with the bits behind the first `prefix` set to zero.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let behind = u32::from(width(address).saturating_sub(prefix));
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & u32::MAX.checked_shl(behind).unwrap_or(0)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & u128::MAX.checked_shl(behind).unwrap_or(0)).into(),
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.prefix == width(self.address) { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// Why a text is not a [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// No IP address in front.
    #[error("`{0}` is not a network: write an IP address or ADDRESS/PREFIX, for example `10.0.0.0/8`")]
    Shape(String),
    /// The prefix is no number, or longer than the address.
    #[error("`{text}` has no valid prefix: it is 0 to {width} bits")]
    Prefix {
        /// The whole text.
        text: String,
        /// The width of the address in bits.
        width: u8,
    },
    /// Bits behind the prefix are set, so that it is unclear which network is meant.
    #[error("`{text}` has bits set behind its prefix: write `{network}/{prefix}` for the network")]
    HostBits {
        /// The whole text.
        text: String,
        /// The network that the text lies in.
        network: IpAddr,
        /// The prefix that was given.
        prefix: u8,
    },
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let address: IpAddr = address.parse().map_err(|_| CidrError::Shape(text.to_owned()))?;
        let Some(prefix) = prefix else { return Ok(Self::from(address)) };
        let digits = prefix.bytes().all(|b| b.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        match prefix.parse() {
            Ok(prefix) if digits => Self::new(address, prefix),
            _ => Err(CidrError::Prefix { text: text.to_owned(), width: width(address) }),
        }
    }
}

text_unit!(
    Cidr,
    "Cidr",
    FORMAT,
    r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$",
    "an IP address or a network such as `10.0.0.0/8` or `2001:db8::/32`",
    ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"],
    |number: String| CidrError::Shape(number).to_string()
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_contains_its_addresses_only() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::/0", "ffff::", "192.0.2.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ] {
            let cidr: Cidr = network.parse().unwrap();
            assert!(cidr.contains(ip(inside)), "{network} contains {inside}");
            assert!(!cidr.contains(ip(outside)), "{network} does not contain {outside}");
        }
    }

    #[test]
    fn mapped_addresses_and_full_prefixes_have_one_written_form() {
        for (text, written) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
        ] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn wrong_texts_say_what_is_wrong() {
        let prefix = |text: &str, width| CidrError::Prefix { text: text.to_owned(), width };
        for (text, error) in [
            ("", CidrError::Shape("".into())),
            ("localhost", CidrError::Shape("localhost".into())),
            ("10.0.0/8", CidrError::Shape("10.0.0/8".into())),
            ("fe80::1%eth0", CidrError::Shape("fe80::1%eth0".into())),
            ("010.0.0.1", CidrError::Shape("010.0.0.1".into())),
            ("10.0.0.0/33", prefix("10.0.0.0/33", 32)),
            ("10.0.0.0/", prefix("10.0.0.0/", 32)),
            ("10.0.0.0/+8", prefix("10.0.0.0/+8", 32)),
            ("10.0.0.0/08", prefix("10.0.0.0/08", 32)),
            ("10.0.0.0/8/8", prefix("10.0.0.0/8/8", 32)),
            ("::/129", prefix("::/129", 128)),
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(error), "{text}");
        }
        assert_eq!(
            "10.1.2.3/8".parse::<Cidr>().unwrap_err().to_string(),
            "`10.1.2.3/8` has bits set behind its prefix: write `10.0.0.0/8` for the network"
        );
    }

    proptest! {
        #[test]
        fn display_reads_back(bits in any::<u128>(), v6 in any::<bool>(), prefix in 0u8..=128) {
            let address: IpAddr =
                if v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() };
            let prefix = prefix.min(width(address));
            let cidr = Cidr::new(masked(address, prefix), prefix).unwrap();
            prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
            prop_assert!(cidr.contains(address));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,16}|[0-9a-f.:]{0,20}/[0-9]{0,4}") {
            let _ = text.parse::<Cidr>();
        }
    }
}
