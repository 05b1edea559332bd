//! [`Host`]: what stands where an address is expected: a literal, `localhost`, or a name for DNS.
//!
//! Called by the system namer and the file-system namer. Not for: asking DNS (see `dns`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A host as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A literal address; no DNS.
    Ip(IpAddr),
    /// A name for DNS, in lower case.
    Name(Arc<str>),
}

impl fmt::Display for Host {
    /// As [`Host::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(ip) => ip.fmt(f),
            Host::Name(name) => name.fmt(f),
        }
    }
}

impl Host {
    /// Reads a host: an IPv4 literal in any form of [`parse_ipv4`], an IPv6 literal with or without brackets, `localhost`
    /// or nothing (both 127.0.0.1, and only that: naming reference §5), otherwise a name. None when it has a colon and
    /// is no IPv6 literal.
    pub fn parse(text: &str) -> Option<Host> {
        if text.is_empty() || text.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            return Some(Host::Ip(Ipv4Addr::LOCALHOST.into()));
        }
        if let Some(ip) = parse_ipv4(text) {
            return Some(Host::Ip(ip.into()));
        }
        let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = inner.parse::<Ipv6Addr>() {
            return Some(Host::Ip(ip.into()));
        }
        (!text.contains([':', '[', ']'])).then(|| Host::Name(text.to_ascii_lowercase().into()))
    }
}

/// An IPv4 literal as Java reads it: one to four decimal parts, where the last fills the bytes that are left
/// (`127.1` is 127.0.0.1, `10.1` is 10.0.0.1). None for anything else, hexadecimal and octal forms included.
pub fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let decimal = |part: &&str| (1..=10).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if parts.len() > 4 || !parts.iter().all(decimal) {
        return None;
    }
    let (last, leading) = parts.split_last()?;
    let mut bits: u64 = 0;
    for part in leading {
        bits = (bits << 8) | u64::from(part.parse::<u8>().ok()?);
    }
    let width = 8 * (4 - leading.len() as u32);
    let last: u64 = last.parse().ok()?;
    if last >> width != 0 {
        return None;
    }
    Some(Ipv4Addr::from(((bits << width) | last) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_literals_as_java_reads_them() {
        for (text, expected) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.1", Some("127.0.0.1")),
            ("10.1", Some("10.0.0.1")),
            ("10.1.258", Some("10.1.1.2")),
            ("1234", Some("0.0.4.210")),
            ("4294967295", Some("255.255.255.255")),
            ("010.0.0.1", Some("10.0.0.1")),
            ("4294967296", None),
            ("256.0.0.1", None),
            ("1.2.3.256", None),
            ("1.2.3.4.5", None),
            ("1.2.3.", None),
            (".1", None),
            ("0x7f.1", None),
            ("+1.2.3.4", None),
            ("web", None),
            ("", None),
        ] {
            assert_eq!(parse_ipv4(text), expected.map(|e| e.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn hosts() {
        let ip = |text: &str| Some(Host::Ip(text.parse().unwrap()));
        for (text, expected) in [
            ("", ip("127.0.0.1")),
            ("localhost", ip("127.0.0.1")),
            ("Localhost.", ip("127.0.0.1")),
            ("10.1", ip("10.0.0.1")),
            ("::1", ip("::1")),
            ("[::1]", ip("::1")),
            ("Web.Example", Some(Host::Name("web.example".into()))),
            ("0x7f.1", Some(Host::Name("0x7f.1".into()))),
            ("10.0.0.1:81", None),
            ("[::1", None),
            ("[web]", None),
        ] {
            assert_eq!(Host::parse(text), expected, "{text}");
        }
    }
}
