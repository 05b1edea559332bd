//! Handshakes of TLS servers: their time limit, and what is counted when one fails.
//!
//! For: the administrative server, namerd's interfaces, and the router's servers. Not for: TLS itself (crate `tls`).

use std::sync::Arc;
use std::time::Duration;
use tls::{HandshakeError, ServerTls};
use tokio::net::TcpStream;

/// A client must be done with its handshake within this time (attack T7).
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The server's side of a handshake; None when it failed, which is counted as of `side`.
pub async fn accept(
    side: &'static str,
    tls: Arc<ServerTls>,
    socket: TcpStream,
) -> Option<tls::ServerStream<TcpStream>> {
    let error = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => error,
        Err(_) => timed_out(),
    };
    count(side, error.reason);
    tracing::debug!(reason = error.reason, side, "TLS handshake failed: {error}");
    None
}

/// What a handshake has come to that is not done in time.
pub fn timed_out() -> HandshakeError {
    HandshakeError { reason: "timeout", text: format!("not done within {HANDSHAKE_TIMEOUT:?}") }
}

/// Counts a handshake that failed, of the side `server`, `client` or `admin`.
pub fn count(side: &'static str, reason: &'static str) {
    metrics::counter!("tls_handshake_failures_total", "side" => side, "reason" => reason).increment(1);
}
