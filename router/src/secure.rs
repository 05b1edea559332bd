//! TLS on the request path: the handshakes of both sides, who the caller is, what is counted (data-plane reference §14).
//!
//! Called by `request` when a connection was accepted and when one is made. Not for: TLS itself (crate `tls`), or the time
//! that connecting may take (`request::connect`).

use crate::clock;
use crate::config::ClientParams;
use crate::error::{Kind, RouteError};
use crate::server::Server;
use crate::stream::Stream;
use crate::timer::{Elapsed, Slot};
use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, header};
use setup::handshakes::{HANDSHAKE_TIMEOUT, count, timed_out};
use std::cell::Cell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use telemetry::{GaugeGuard, Scope, Stat};
use tls::{HandshakeError, Peer, ServerTls};
use tokio::net::TcpStream;

/// And within this time once the listener ends.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// Handshakes may come together for so long before they are spread, in nanoseconds.
const SLACK: u64 = 20_000_000;
/// Nobody waits for longer than this for the turn of its handshake.
const MOST_WAIT: u64 = 1_000_000_000;
/// The first byte of a TLS record that holds a handshake (RFC 8446 §5.1).
const RECORD_OF_HANDSHAKE: u8 = 22;
/// What a handshake costs before any was measured, in nanoseconds.
const FIRST_COST: u64 = 500_000;

/// The counters of a server's TLS (telemetry reference §4.1).
pub struct TlsStats {
    connections: Arc<AtomicI64>,
    handshake_ms: Arc<Stat>,
    failed_ms: Arc<Stat>,
    _gauge: GaugeGuard,
}

impl TlsStats {
    /// Counters in the scope of a server.
    pub fn new(scope: &Scope) -> TlsStats {
        let connections = Arc::new(AtomicI64::new(0));
        let open = connections.clone();
        TlsStats {
            connections,
            handshake_ms: scope.stat("tls/handshake_latency_ms"),
            failed_ms: scope.stat("tls/failed_handshake_latency_ms"),
            _gauge: scope.gauge("tls/connections", move || open.load(Ordering::Relaxed) as f64),
        }
    }
}

/// What TLS knows of a client's connection.
pub(crate) struct Secured {
    /// The name it asked for (SNI), in lower case.
    sni: Option<Box<str>>,
    /// Who it is, when it has shown a certificate.
    peer: Option<Peer>,
    open: Arc<AtomicI64>,
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Secured {
    /// Who it is, when it has shown a certificate.
    pub(crate) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }
}

/// Tells a service of the certificate of the caller, when the client asks for it (data-plane reference §5.5). What a caller
/// sent under that name was removed before.
pub(crate) fn tell_caller(secured: Option<&Secured>, client: &ClientParams, lines: &mut BytesMut) {
    if client.forward_client_cert
        && let Some(peer) = secured.and_then(Secured::peer)
    {
        lines.extend_from_slice(format!("x-forwarded-client-cert: {}\r\n", peer.forwarded()).as_bytes());
    }
}

/// A worker's share of time for handshakes: at most a half, so that a flood of them leaves the rest alone (attack T7).
/// Each takes a place in time; those that come too fast wait for theirs.
#[derive(Debug)]
pub struct Pace {
    free_at: Cell<u64>,
    cost: Cell<u64>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { free_at: Cell::new(0), cost: Cell::new(FIRST_COST) }
    }
}

impl Pace {
    /// When the next handshake may begin; not later than `now` unless there are too many. None when that is so late that
    /// whoever waits may be gone by then: places of those who have left must not pile up before those who come.
    fn reserve(&self, now: u64) -> Option<u64> {
        let at = self.free_at.get().max(now.saturating_sub(SLACK));
        if at.saturating_sub(now) > MOST_WAIT {
            return None;
        }
        self.free_at.set(at.saturating_add(2 * self.cost.get()));
        Some(at)
    }

    fn measured(&self, cost: u64) {
        self.cost.set((7 * self.cost.get() + cost) / 8);
    }
}

/// The server's side of a handshake. None when it failed, which is counted and, at the level debug, logged.
pub(crate) async fn accept(
    (tls, server, pace): (&ServerTls, &Server, &Pace),
    socket: TcpStream,
    peer: SocketAddr,
    slot: &Slot,
) -> Option<(Stream, Box<Secured>)> {
    let stats = server.stats.tls.get()?;
    let started = clock::now();
    slot.set(started + clock::nanos(HANDSHAKE_TIMEOUT));
    let failed = |error: &HandshakeError| {
        stats.failed_ms.add(clock::now().saturating_sub(started) / 1_000_000);
        count("server", error.reason);
        tracing::debug!(%peer, listener = %server.label, reason = error.reason, "TLS handshake failed: {error}");
    };
    let mut shaking = pin!(paced(tls, socket, pace));
    let mut outcome = slot.run_idle(shaking.as_mut()).await;
    if matches!(outcome, Err(Elapsed::Drained)) {
        // Accepted, and not yet heard, as without TLS: it has a moment to say what it wants.
        slot.set(clock::now() + clock::nanos(LAST_MOMENT));
        outcome = slot.run(shaking).await;
    }
    match outcome {
        Ok(Ok(stream)) => {
            stats.handshake_ms.add(clock::now().saturating_sub(started) / 1_000_000);
            let open = stats.connections.clone();
            open.fetch_add(1, Ordering::Relaxed);
            let sni = ServerTls::server_name(&stream).map(Box::from);
            let secured = Secured { sni, peer: ServerTls::peer(&stream), open };
            Some((Stream::Accepted(Box::new(stream)), Box::new(secured)))
        }
        Ok(Err(error)) => {
            failed(&error);
            None
        }
        Err(_) => {
            failed(&timed_out());
            None
        }
    }
}

async fn paced(
    tls: &ServerTls,
    socket: TcpStream,
    pace: &Pace,
) -> Result<tls::ServerStream<TcpStream>, HandshakeError> {
    // Who says nothing takes no place, and neither does who says something else: that fails without any work.
    let mut first = [0];
    let said = socket.peek(&mut first).await;
    if let Err(error) = &said {
        return Err(HandshakeError { reason: "io", text: error.to_string() });
    }
    let is_handshake = first == [RECORD_OF_HANDSHAKE];
    if is_handshake {
        let now = clock::now();
        let Some(at) = pace.reserve(now) else {
            let text = "too many handshakes for this listener's worker".to_owned();
            return Err(HandshakeError { reason: "too-many", text });
        };
        if at > now {
            tokio::time::sleep(Duration::from_nanos(at - now)).await;
        }
    }
    let mut cost = 0;
    let mut handshake = pin!(tls.accept(socket));
    let outcome = poll_fn(|cx| {
        let began = clock::now();
        let polled = handshake.as_mut().poll(cx);
        cost += clock::now().saturating_sub(began);
        polled
    })
    .await;
    if is_handshake && outcome.is_ok() {
        pace.measured(cost);
    }
    outcome
}

/// Refuses a request for another host than the connection was made for, where `requireSniMatch` asks for it: what
/// decides by the one must not be passed by way of the other (attack T3). Nothing in the router decides by SNI, and
/// between two routers SNI is the name of the router while Host is that of the service, so it is not the default.
pub(crate) fn check_host(secured: Option<&Secured>, server: &Server, headers: &HeaderMap) -> Result<(), RouteError> {
    let (Some(secured), Some(tls)) = (secured, &server.tls) else { return Ok(()) };
    if !tls.requires_sni_match() {
        return Ok(());
    }
    let sni = secured.sni.as_deref().unwrap_or_default();
    let host = headers.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    if !sni.is_empty() && host_name(host).eq_ignore_ascii_case(sni.as_bytes()) {
        return Ok(());
    }
    let text = format!(
        "The request is for the host {:?}, and its TLS connection was made for {sni:?} (SNI). Please use a connection of \
         its own for each host.",
        String::from_utf8_lossy(host)
    );
    Err(RouteError::new(Kind::Misdirected, text))
}

/// A host without its port, and without a dot at its end.
fn host_name(host: &[u8]) -> &[u8] {
    let end = match host.iter().rposition(|&byte| byte == b':') {
        Some(colon) if !host[colon..].contains(&b']') => colon,
        _ => host.len(),
    };
    let name = &host[..end];
    name.strip_suffix(b".").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_its_port() {
        for (host, name) in [("a.b:80", "a.b"), ("a.b.", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")] {
            assert_eq!(host_name(host.as_bytes()), name.as_bytes());
        }
    }

    #[test]
    fn handshakes_get_half_of_the_time_and_no_more() {
        let pace = Pace::default();
        let now = 1_000_000_000;
        let waits: Vec<u64> = (0..100).filter_map(|_| pace.reserve(now)).map(|at| at.saturating_sub(now)).collect();
        assert!(waits[..20].iter().all(|wait| *wait == 0), "a burst goes ahead: {waits:?}");
        assert_eq!(waits[99], 99 * 2 * FIRST_COST - SLACK);
        pace.measured(8 * FIRST_COST);
        assert!(pace.cost.get() > FIRST_COST);
        let later = (0..10_000).filter_map(|_| pace.reserve(now)).last().expect("some have a place");
        assert!(later <= now + MOST_WAIT && pace.reserve(now).is_none(), "a flood reserves a second and no more");
        assert!(pace.reserve(now + MOST_WAIT).is_some(), "and after it there is a place");
        assert!(pace.reserve(u64::MAX / 2) < Some(u64::MAX / 2), "a pause makes up for all");
    }
}
