//! A DNS server of a few lines: it says what a story tells it, counts, and falls silent on demand.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The addresses of the names, all with this TTL in seconds.
const TTL: u32 = 1;
/// How soon the server notices that its story is over.
const POLL: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Shared {
    zones: Mutex<HashMap<String, Vec<Ipv4Addr>>>,
    asked: AtomicUsize,
    silent: AtomicBool,
    over: AtomicBool,
}

/// A DNS server on loopback; UDP, A records, TTL 1 s. What it was not told does not exist. Dropping it ends it.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl NameServer {
    /// Starts the server on a free port.
    pub fn start() -> NameServer {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("a bound socket has an address");
        let shared: Arc<Shared> = Arc::default();
        let server = shared.clone();
        std::thread::spawn(move || serve(&socket, &server));
        NameServer { address, shared }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Gives a name these addresses; none: the name exists without addresses.
    pub fn set(&self, name: &str, ips: &[Ipv4Addr]) {
        let mut zones = self.shared.zones.lock().unwrap_or_else(PoisonError::into_inner);
        zones.insert(name.to_owned(), ips.to_vec());
    }

    /// Whether it leaves all questions without an answer.
    pub fn silent(&self, silent: bool) {
        self.shared.silent.store(silent, Ordering::SeqCst);
    }

    /// How many questions it has got.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    socket.set_read_timeout(Some(POLL)).expect("a timeout can be set");
    let mut buffer = [0; 1500];
    while !shared.over.load(Ordering::SeqCst) {
        let Ok((length, peer)) = socket.recv_from(&mut buffer) else { continue };
        shared.asked.fetch_add(1, Ordering::SeqCst);
        if shared.silent.load(Ordering::SeqCst) {
            continue;
        }
        let zones = shared.zones.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = answer(&buffer[..length], &zones) {
            // Who asked may be gone.
            let _ = socket.send_to(&reply, peer);
        }
    }
}

fn answer(query: &[u8], zones: &HashMap<String, Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).into_owned());
        at += 1 + length;
    }
    let is_a = query.get(at + 1..at + 3)? == [0, 1];
    let known = zones.get(&labels.join("."));
    let ips: &[Ipv4Addr] = known.filter(|_| is_a).map_or(&[], Vec::as_slice);
    let code = if known.is_some() { 0 } else { 3 };
    let count = u8::try_from(ips.len()).ok()?;
    let mut reply = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
    reply.extend_from_slice(query.get(12..at + 5)?);
    for ip in ips {
        reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1]);
        reply.extend_from_slice(&TTL.to_be_bytes());
        reply.extend_from_slice(&[0, 4]);
        reply.extend_from_slice(&ip.octets());
    }
    Some(reply)
}
