//! [`DenyList`]: addresses that a registry on the network must not give (attacks N6): whoever can write there could turn
//! requests to this host itself, or to the metadata service of a cloud.
//!
//! Called by `dns_query` for what servers answer. Not for: literal addresses in names, `/etc/hosts` and files, which
//! somebody with rights on this host or on the config has written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Addresses that begin alike: `10.0.0.0/8`, `fe80::/10`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    ip: IpAddr,
    bits: u8,
}

/// The address as a number of 128 bits at the upper end, IPv4 in IPv6 as IPv4.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    }
}

impl Net {
    /// True for an address of this net.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let differ = number(self.ip) ^ number(ip);
        self.ip.is_ipv4() == ip.is_ipv4() && (self.bits == 0 || differ >> (128 - u32::from(self.bits)) == 0)
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Net, String> {
        let wrong = || format!("{text:?} is not an address or a net such as 10.0.0.0/8");
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| wrong())?;
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(bits) if bits.bytes().all(|b| b.is_ascii_digit()) => bits.parse().map_err(|_| wrong())?,
            Some(_) => return Err(wrong()),
        };
        if bits > most || bits > 0 && bits < most && number(ip) << bits != 0 {
            return Err(wrong());
        }
        Ok(Net { ip, bits })
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

/// Nets whose addresses are left out of answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DenyList(pub Vec<Net>);

impl Default for DenyList {
    /// This host (loopback, and the unspecified address, which leads there) and link-local addresses.
    fn default() -> DenyList {
        let net = |ip: IpAddr, bits| Net { ip, bits };
        DenyList(vec![
            net([0, 0, 0, 0].into(), 8),
            net([127, 0, 0, 0].into(), 8),
            net([169, 254, 0, 0].into(), 16),
            net([0_u16, 0, 0, 0, 0, 0, 0, 0].into(), 128),
            net([0_u16, 0, 0, 0, 0, 0, 0, 1].into(), 128),
            net([0xfe80_u16, 0, 0, 0, 0, 0, 0, 0].into(), 10),
        ])
    }
}

impl DenyList {
    /// True for an address that must not be used.
    pub fn denies(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_and_link_local_addresses_are_denied() {
        let list = DenyList::default();
        for denied in ["127.0.0.1", "127.8.9.1", "0.0.0.0", "169.254.169.254", "::1", "::", "fe80::1", "febf::1"] {
            assert!(list.denies(denied.parse().unwrap()), "{denied}");
        }
        for mapped in ["::ffff:127.0.0.1", "::ffff:169.254.169.254"] {
            assert!(list.denies(mapped.parse().unwrap()), "{mapped}");
        }
        for fine in ["10.0.0.1", "169.253.0.1", "128.0.0.1", "::2", "fec0::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(!list.denies(fine.parse().unwrap()), "{fine}");
        }
    }

    #[test]
    fn nets_are_read_and_shown() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(text.parse::<Net>().map(|net| net.to_string()), Ok(shown.to_owned()), "{text}");
        }
        for wrong in ["", "web", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/", "::1/64"] {
            assert!(wrong.parse::<Net>().is_err(), "{wrong}");
        }
        assert!("0.0.0.0/0".parse::<Net>().unwrap().contains("9.9.9.9".parse().unwrap()));
        assert!(!"0.0.0.0/0".parse::<Net>().unwrap().contains("fe80::1".parse().unwrap()));
    }
}
