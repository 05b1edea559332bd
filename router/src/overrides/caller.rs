//! Who sends a request, as far as the router knows: [`CallerIdentity`]; and [`Cidr`], ranges of addresses.
//!
//! For: policies and sets. Not for: what headers say of a caller; that is never believed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The caller of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The address of the peer; an IPv4 address where that is what an IPv6 one stands for.
    pub ip: IpAddr,
    /// The name in the certificate that the client presented; None without TLS client authentication.
    pub certificate: Option<Arc<str>>,
}

impl CallerIdentity {
    /// A caller without a certificate.
    pub fn plain(peer: SocketAddr) -> CallerIdentity {
        CallerIdentity { ip: peer.ip().to_canonical(), certificate: None }
    }
}

impl fmt::Display for CallerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.certificate {
            Some(name) => write!(f, "{} ({})", self.ip, name.escape_default()),
            None => write!(f, "{}", self.ip),
        }
    }
}

/// The share of the caches that a source can fill is counted by this: the address, or its /64 for IPv6, which one host
/// has to itself.
pub fn source(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
    }
}

/// A range of addresses, `10.0.0.0/8`; a single address is one of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Reads a range. Errors with what is wrong; bits below the mask must be zero, since they are most often a mistake.
    pub fn parse(text: &str) -> Result<Cidr, String> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base: IpAddr =
            address.parse().map_err(|_| format!("`{text}` is not an address or a range of addresses"))?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let bits = bits.parse().ok().filter(|bits| *bits <= most);
                bits.ok_or_else(|| format!("the length of `{text}` is not 0 to {most}"))?
            }
            Some(_) => return Err(format!("the length of `{text}` is not a number")),
        };
        let cidr = Cidr { base, bits };
        if cidr.masked(base) != base {
            return Err(format!("`{text}` is not the first address of its range, {}/{bits}", cidr.masked(base)));
        }
        Ok(cidr)
    }

    fn masked(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                std::net::Ipv4Addr::from(u32::from(ip) & mask).into()
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                std::net::Ipv6Addr::from(u128::from(ip) & mask).into()
            }
        }
    }

    /// Whether `ip` is within.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.base.is_ipv4() == ip.is_ipv4() && self.masked(ip) == self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(range: &str, ip: &str) -> bool {
        Cidr::parse(range).expect("a range").contains(ip.parse().expect("an address"))
    }

    #[test]
    fn ranges_hold_what_they_say() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "fe80::1", "1.2.3.4"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("192.168.4.0/22", "192.168.7.255", "192.168.8.0"),
        ] {
            assert!(within(range, inside) && !within(range, outside), "{range}");
        }
    }

    #[test]
    fn ranges_that_are_none() {
        for bad in ["", "10.0.0.0/33", "10.0.0.1/8", "::/129", "web", "10.0.0.0/", "10.0.0.0/+8", "10/8", "1.2.3.4/a"] {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mapped_callers_are_ipv4_and_ipv6_sources_are_networks() {
        let peer: SocketAddr = "[::ffff:10.1.2.3]:5".parse().expect("an address");
        assert_eq!(CallerIdentity::plain(peer).to_string(), "10.1.2.3");
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(source(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(source(ip("10.1.2.3")), ip("10.1.2.3"));
    }
}
