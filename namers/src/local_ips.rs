//! The addresses of this host, for `io.l5d.localhost`.
//!
//! Read from the tables that Linux keeps in `/proc/net` for the network namespace of the process, so that no system call
//! needs `unsafe`. Called once at start by the linker. Not for: addresses of other hosts, changes while it runs.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IPV4: &str = "/proc/net/fib_trie";
const IPV6: &str = "/proc/net/if_inet6";

/// All addresses of all interfaces that are up, sorted. Errors when the system has no such tables; without IPv6 there is
/// no second one.
pub fn local_ips() -> io::Result<Vec<IpAddr>> {
    let read = |path: &str| {
        std::fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
    };
    let mut ips: Vec<IpAddr> = ipv4(&read(IPV4)?).map(IpAddr::V4).collect();
    match read(IPV6) {
        Ok(table) => ips.extend(ipv6(&table, is_up).map(IpAddr::V6)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    ips.sort_unstable();
    ips.dedup();
    Ok(ips)
}

/// The addresses of `fib_trie`: a leaf `|-- 10.0.0.1` followed by a line `/32 host LOCAL`. The kernel takes them out when
/// their interface goes down.
fn ipv4(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut leaf: Option<Ipv4Addr> = None;
    table.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line.starts_with("+-- ") {
            leaf = None;
        }
        (line == "/32 host LOCAL").then_some(leaf).flatten()
    })
}

/// The addresses of `if_inet6`: 32 hexadecimal digits first, the name of the interface last.
fn ipv6(table: &str, is_up: impl Fn(&str) -> bool) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(move |line| {
        let mut words = line.split_whitespace();
        let (digits, interface) = (words.next()?, words.next_back()?);
        let bits = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32)?;
        is_up(interface).then_some(Ipv6Addr::from(bits))
    })
}

/// False when the system says that an interface is down: it may keep its IPv6 addresses then.
fn is_up(interface: &str) -> bool {
    const IFF_UP: u32 = 1;
    let flags = std::fs::read_to_string(format!("/sys/class/net/{interface}/flags"));
    let flags = flags.ok().and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok());
    flags.is_none_or(|flags| flags & IFF_UP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 10.9.8.7
        /32 link UNICAST
        /32 host LOCAL
Local:
  |-- 127.0.0.1
     /32 host LOCAL
";

    #[test]
    fn tables_are_read() {
        let found: Vec<String> = ipv4(FIB_TRIE).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["127.0.0.1", "10.9.8.7", "127.0.0.1"]);
        let table = "\
fd000000000000000000000000000002 04 40 00 82     eth0
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000001 05 40 20 80     down
xyz
1 02 40 00 80 eth0
";
        let found: Vec<String> = ipv6(table, |interface| interface != "down").map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["fd00::2", "::1"]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_host_has_a_loopback() {
        let ips = local_ips().unwrap();
        assert!(ips.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)), "{ips:?}");
        assert!(ips.iter().all(|ip| std::net::UdpSocket::bind((*ip, 0)).is_ok() || !ip.is_ipv4()), "{ips:?}");
    }
}
