//! Ports of loopback that nobody else gets by chance.
//!
//! The system gives a port that was closed to the next one who asks for any port: to a story that runs beside this one, or
//! to its connections. Then an address that should refuse answers, and a server cannot come back on its address. So ports
//! are taken below those that the system gives away, and none of them twice by one process. Not for: ports of addresses
//! other than loopback.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below are ports of well-known services, and those of the servers that tests of stores start.
const LOWEST: u16 = 20_000;
/// The first port that Linux gives away, unless it was told otherwise.
const USUAL_END: u16 = 32_768;
/// Fewer ports than these would soon be used up.
const ENOUGH: u16 = 4096;

/// The first port that the system gives away.
fn end() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|first| first.parse().ok());
    first.filter(|first| *first >= LOWEST + ENOUGH).unwrap_or(USUAL_END)
}

/// A listener of 127.0.0.1 on a port that this process has not had yet; panics when there is none.
pub(crate) fn listener() -> TcpListener {
    static END: OnceLock<u16> = OnceLock::new();
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let count = *END.get_or_init(end) - LOWEST;
    // Processes begin at different places.
    let next = NEXT.get_or_init(|| AtomicU16::new(RandomState::new().hash_one(0) as u16 % count));
    let step = |at: u16| Some((at + 1) % count);
    let free = (0..count).find_map(|_| {
        let at = next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step).unwrap_or_default();
        TcpListener::bind((Ipv4Addr::LOCALHOST, LOWEST + at)).ok()
    });
    free.unwrap_or_else(|| panic!("no port of {count} from {LOWEST} on is free"))
}

/// This many different ports that nobody listens on, and that nobody gets who asks the system for any.
pub fn free_ports(n: usize) -> Vec<u16> {
    let sockets: Vec<TcpListener> = (0..n).map(|_| listener()).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("a bound socket has an address").port()).collect()
}
