//! Addresses that a request may not name, whoever sends it (requirements §5, rule 2; attacks O3 to O5).
//!
//! Pure. For: `gate`, which asks about the address of every connect, and `route`, which asks about the text of a
//! host. Not for: addresses that the operator's own table or namers give; those are never asked about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services of cloud hosts outside the link-local range, and those within that deserve their name in a log.
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Why an address is denied, as the label of `override_denied_total`; None for one that may be named. IPv6 forms that
/// carry an IPv4 address (mapped, compatible, translated, 6to4, NAT64, ISATAP) are judged by both.
pub fn denied(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => denied_v4(ip),
        IpAddr::V6(ip) => denied_v6(ip).or_else(|| embedded(ip).into_iter().find_map(denied_v4)),
    }
}

fn denied_v4(ip: Ipv4Addr) -> Option<&'static str> {
    match ip.octets() {
        _ if METADATA_V4.contains(&ip) => Some("metadata"),
        // 0.0.0.0 connects to this host; so do the others of the network, on some systems.
        [0, ..] => Some("unspecified"),
        [127, ..] => Some("loopback"),
        [169, 254, ..] => Some("link-local"),
        [224..=239, ..] => Some("multicast"),
        [255, 255, 255, 255] => Some("broadcast"),
        _ => None,
    }
}

fn denied_v6(ip: Ipv6Addr) -> Option<&'static str> {
    match ip.segments() {
        _ if METADATA_V6.contains(&ip) => Some("metadata"),
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("loopback"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        _ => None,
    }
}

/// The IPv4 addresses that an IPv6 address can stand for.
fn embedded(ip: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = ip.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let last = at([12, 13, 14, 15]);
    match ip.segments() {
        // Compatible, mapped, translated (SIIT).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![last],
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![last],
        // NAT64 of this site (RFC 8215): where the IPv4 address is depends on the length of the prefix, and zeros
        // follow it (RFC 6052 §2.2).
        [0x64, 0xff9b, 1, ..] => {
            let layouts = [(11, [6, 7, 9, 10]), (12, [7, 9, 10, 11]), (13, [9, 10, 11, 12]), (16, [12, 13, 14, 15])];
            let ends = |end: usize| octets[end..].iter().all(|octet| *octet == 0);
            let possible = layouts.into_iter().filter(|(end, _)| ends(*end)).map(|(_, places)| at(places));
            possible.filter(|v4| v4.octets()[0] != 0).collect()
        }
        [0x2002, ..] => vec![at([2, 3, 4, 5])],
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => vec![last],
        _ => Vec::new(),
    }
}

/// Why a host is denied by how it is written: `localhost`, or an address in any notation that some resolver reads, with
/// brackets, a zone, or a dot at the end. None for one that says nothing by itself: its addresses decide.
pub fn denied_host(host: &str) -> Option<&'static str> {
    let bare = host.strip_prefix('[').map_or(host, |inner| inner.strip_suffix(']').unwrap_or(inner));
    let bare = bare.split('%').next().unwrap_or(bare).trim_end_matches('.').to_ascii_lowercase();
    if bare.is_empty() || bare == "localhost" || bare.ends_with(".localhost") {
        return Some("loopback");
    }
    if bare == "metadata.google.internal" {
        return Some("metadata");
    }
    let v6 = bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    v6.and_then(denied).or_else(|| loose_v4(&bare).and_then(denied_v4))
}

/// An IPv4 address as `inet_aton` reads it: one to four parts, decimal, octal after `0` or hexadecimal after `0x`, of
/// which the last fills the bytes that are left.
fn loose_v4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = Vec::new();
    for part in text.split('.') {
        parts.push(loose_number(part)?);
        if parts.len() > 4 {
            return None;
        }
    }
    let (last, leading) = parts.split_last()?;
    let mut bits = 0;
    for &part in leading {
        bits = bits << 8 | u64::from(u8::try_from(part).ok()?);
    }
    let width = 8 * (4 - leading.len());
    (last >> width == 0).then(|| Ipv4Addr::from(((bits << width) | last) as u32))
}

fn loose_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    let legal = !digits.is_empty() && digits.len() <= 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    legal.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_request_may_name() {
        for (text, wanted) in [
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.254", Some("loopback")),
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("unspecified")),
            ("169.254.169.254", Some("metadata")),
            ("169.254.170.2", Some("metadata")),
            ("169.254.1.1", Some("link-local")),
            ("100.100.100.200", Some("metadata")),
            ("168.63.129.16", Some("metadata")),
            ("192.0.0.192", Some("metadata")),
            ("224.0.0.1", Some("multicast")),
            ("255.255.255.255", Some("broadcast")),
            ("10.0.0.1", None),
            ("172.16.0.1", None),
            ("192.168.1.1", None),
            ("100.100.100.201", None),
            ("8.8.8.8", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("fe80::1", Some("link-local")),
            ("febf::1", Some("link-local")),
            ("ff02::1", Some("multicast")),
            ("fd00:ec2::254", Some("metadata")),
            ("fd20:ce::254", Some("metadata")),
            ("fd00::1", None),
            ("2001:db8::1", None),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("::ffff:169.254.169.254", Some("metadata")),
            ("::ffff:10.0.0.1", None),
            ("::127.0.0.1", Some("loopback")),
            ("::ffff:0:127.0.0.1", Some("loopback")),
            ("2002:7f00:1::", Some("loopback")),
            ("2002:a9fe:a9fe::1", Some("metadata")),
            ("2002:a00:1::1", None),
            ("64:ff9b::127.0.0.1", Some("loopback")),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::169.254.169.254", Some("metadata")),
            ("64:ff9b:1:7f00:0:100::", Some("loopback")),
            ("64:ff9b:1:a00:0:100::", None),
            ("2001:db8::5efe:127.0.0.1", Some("loopback")),
        ] {
            assert_eq!(denied(text.parse().expect("an address")), wanted, "{text}");
        }
    }

    #[test]
    fn hosts_that_are_denied_as_they_are_written() {
        for (text, wanted) in [
            ("", Some("loopback")),
            ("localhost", Some("loopback")),
            ("LOCALHOST", Some("loopback")),
            ("localhost.", Some("loopback")),
            ("web.localhost", Some("loopback")),
            ("127.1", Some("loopback")),
            ("2130706433", Some("loopback")),
            ("0177.0.0.1", Some("loopback")),
            ("0x7f.1", Some("loopback")),
            ("0x7f000001", Some("loopback")),
            ("0xA9FEA9FE", Some("metadata")),
            ("0251.0376.0251.0376", Some("metadata")),
            ("0", Some("unspecified")),
            ("::1", Some("loopback")),
            ("[::1]", Some("loopback")),
            ("[fe80::1%eth0]", Some("link-local")),
            ("fe80::1%25eth0", Some("link-local")),
            ("::ffff:127.0.0.1", Some("loopback")),
            ("metadata.google.internal.", Some("metadata")),
            ("localhost.example.com", None),
            ("web", None),
            ("10.0.0.1", None),
            ("0x", None),
            ("09", None),
            ("1.2.3.4.5", None),
            ("0xfffffffffffffffff", None),
            ("127.0.0.256", None),
            ("...", Some("loopback")),
        ] {
            assert_eq!(denied_host(text), wanted, "{text}");
        }
    }
}
