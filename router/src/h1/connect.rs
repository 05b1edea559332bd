//! Making a connection to an endpoint, within its time (DESIGN §5, step 8).
//!
//! Called by `attempt` when the worker's pool has none. Not for: choosing the endpoint, or trying another one.

use super::Session;
use super::attempt::{Failure, Lease, Requeue};
use super::prepare::{Request, show_duration};
use crate::client::Client;
use crate::clock;
use crate::config::ClientParams;
use crate::error::{Kind, RouteError};
use crate::pool::Upstream;
use crate::route::PathService;
use crate::secure;
use crate::stream::Stream;
use http1::Conn;
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;
use tls::HandshakeError;
use tokio::net::TcpStream;

/// A connection must be made within this time (data-plane reference §12: fixed in Linkerd 1).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How failures are counted in `service_creation/failures`.
const TCP_CLASS: &str = "java.net.ConnectException";
/// As before, for TLS.
pub(crate) const TLS_CLASS: &str = "com.twitter.finagle.SslException";

/// A new connection to the endpoint of `lease`.
pub(crate) async fn connect(
    session: &Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    lease: &mut Lease,
) -> Result<Upstream, Failure> {
    let addr = lease.endpoint.addr();
    let started = clock::now();
    session.slot.set(started.saturating_add(clock::nanos(CONNECT_TIMEOUT)).min(request.due));
    let reached = Cell::new(false);
    let (class, reason) = match session.slot.run(open(addr, client, &reached)).await {
        Ok(Ok(stream)) => {
            lease.endpoint.connected();
            client.stats.connects.incr();
            client.stats.connect_latency_ms.add(clock::now().saturating_sub(started) / 1_000_000);
            let endpoint = lease.endpoint.clone();
            return Ok(Upstream { conn: Conn::new(stream), endpoint, created: started, reused: false });
        }
        Ok(Err(OpenError::Tcp(error))) => (TCP_CLASS, error.to_string()),
        Ok(Err(OpenError::Tls(error))) => {
            secure::count("client", error.reason);
            (TLS_CLASS, format!("TLS: {error}"))
        }
        Err(_) if clock::now() >= request.due => return Err(Failure::fatal(request.timed_out())),
        Err(_) if reached.get() => {
            secure::count("client", "timeout");
            (TLS_CLASS, format!("TLS: the handshake was not done within {}", show_duration(CONNECT_TIMEOUT)))
        }
        Err(_) => (TCP_CLASS, format!("no answer within {}", show_duration(CONNECT_TIMEOUT))),
    };
    lease.connect_failed();
    client.stats.creation_failures.record(class);
    let error = not_connected(addr, service, client, &reason);
    Err(Failure { error, retryable: true, requeue: Requeue::Connect })
}

/// Why there is no connection.
enum OpenError {
    Tcp(std::io::Error),
    Tls(HandshakeError),
}

/// A connection with the options and the TLS of the client. `reached` is set once the endpoint has answered at all.
async fn open(addr: SocketAddr, client: &Client, reached: &Cell<bool>) -> Result<Stream, OpenError> {
    let socket = TcpStream::connect(addr).await.map_err(OpenError::Tcp)?;
    set_options(&socket, &client.params);
    let tls = match (&client.params.tls, &client.tls) {
        (None, _) => return Ok(Stream::Plain(socket)),
        (Some(_), Some(tls)) => tls,
        // Never plain text where TLS was asked for.
        (Some(_), None) => {
            let text = "the files of this client are not loaded".to_owned();
            return Err(OpenError::Tls(HandshakeError { reason: "not-loaded", text }));
        }
    };
    reached.set(true);
    // A handshake needs much room, and few connections are being made at one time.
    let stream = Box::pin(tls.connect(socket, addr.ip(), None)).await.map_err(OpenError::Tls)?;
    Ok(Stream::Connected(Box::new(stream)))
}

/// The error of an endpoint that cannot be reached (data-plane reference §8.2).
pub(crate) fn not_connected(addr: SocketAddr, service: &PathService, client: &Client, reason: &str) -> RouteError {
    let addresses: Vec<String> = client.addresses().iter().take(20).map(ToString::to_string).collect();
    let text = format!(
        "Unable to establish connection to {addr}: {reason}.\n\nservice name: {}\nclient name: {}\naddresses: [{}]\n\
         selected address: {addr}",
        service.dst.path,
        client.id,
        addresses.join(", ")
    );
    RouteError::new(Kind::ConnectFailed, text).undispatched()
}

fn set_options(socket: &TcpStream, params: &ClientParams) {
    // A connection without these options still works.
    let _ = socket.set_nodelay(params.socket.no_delay);
    if let Some(keep_alive) = params.socket.keep_alive {
        let _ = socket2::SockRef::from(socket).set_keepalive(keep_alive);
    }
}
