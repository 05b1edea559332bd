//! Making a connection to an endpoint, within its time.
//!
//! Called by `attempt` when the worker's pool has none. Not for: choosing the endpoint, or trying another one.

use super::attempt::{Failure, Requeue};
use super::lease::Lease;
use super::prepare::{Request, show_duration};
use super::{Session, Up};
use crate::client::Client;
use crate::clock;
use crate::config::ClientParams;
use crate::error::{Kind, RouteError};
use crate::h2::{KeepAlive, Limits, Link, Opening, Transport};
use crate::meter::Metered;
use crate::pool::{Place, Upstream};
use crate::proxy_status::ProxyError;
use crate::route::PathService;
use crate::stream::Stream;
use crate::timer::NEVER;
use bytes::Bytes;
use http1::Conn;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tls::HandshakeError;
use tokio::net::TcpStream;

/// A new connection to the endpoint of `lease`, for one request at a time.
pub(crate) async fn connect(
    session: &Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    lease: &mut Lease,
    place: Place,
) -> Result<Upstream, Failure> {
    let (stream, started) =
        made(session, request, service, (client, lease), async |reached: &Reached| open(client, reached, false).await)
            .await?;
    let endpoint = lease.endpoint().clone();
    let meter = Box::new(Metered(client.stats.transport.connection()));
    let conn = Up::H1(Box::new(Conn::new(stream).with_meter(meter)));
    Ok(Upstream { conn, endpoint, created: started, reused: false, place: Some(place) })
}

/// A new connection to the endpoint of `lease`, for many requests. It is there once the endpoint has said how many.
pub(crate) async fn link(
    session: &Session,
    request: &Request,
    service: &PathService,
    client: &Client,
    lease: &mut Lease,
    place: Place,
) -> Result<Rc<Link>, Failure> {
    let params = &client.params;
    let begin = async |reached: &Reached| {
        let stream = open(client, reached, true).await?;
        reached.stage.set(Stage::Http2);
        let meter = Metered(client.stats.transport.connection());
        let opening = Opening::begin(Transport::new(stream, Bytes::new(), meter), &params.h2).await;
        let mut opening = opening.map_err(OpenError::Http)?;
        opening.settled().await.map_err(OpenError::Http)?;
        Ok(opening)
    };
    let opened = made(session, request, service, (client, lease), begin).await;
    let (opening, _) = opened.inspect_err(|_| client.stats.h2_connects.get().fail.incr())?;
    let nanos = |limit: Option<Duration>| limit.map_or(NEVER, clock::nanos);
    let limits = Limits {
        idle: clock::nanos(params.pool_idle).min(nanos(params.session_idle)),
        life: nanos(params.session_life),
    };
    let keep_alive = (KeepAlive::new(&params.h2), client.stats.clone());
    Ok(opening.serve(lease.endpoint().clone(), (place, session.cx.pool.links()), limits, keep_alive))
}

/// Where a connection is made to, and how far that is.
struct Reached {
    addr: SocketAddr,
    stage: Cell<Stage>,
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// That the endpoint answers at all.
    Tcp,
    /// The end of the TLS handshake.
    Tls,
    /// Its first SETTINGS.
    Http2,
}

/// Makes a connection by `begin` within its time, and counts it; and when it was begun.
async fn made<T>(
    session: &Session,
    request: &Request,
    service: &PathService,
    (client, lease): (&Client, &mut Lease),
    begin: impl AsyncFnOnce(&Reached) -> Result<T, OpenError>,
) -> Result<(T, u64), Failure> {
    let addr = lease.endpoint().addr();
    let started = clock::now();
    let limit = client.params.connect_timeout;
    session.slot.set(started.saturating_add(clock::nanos(limit)).min(request.due));
    let reached = Reached { addr, stage: Cell::new(Stage::Tcp) };
    let error = match session.slot.run(begin(&reached)).await {
        Ok(Ok(made)) => {
            lease.endpoint().connected();
            client.stats.connects.incr();
            client.stats.connect_latency_ms.add(clock::now().saturating_sub(started) / 1_000_000);
            return Ok((made, started));
        }
        Ok(Err(OpenError::Tcp(error))) => {
            if is_out_of_descriptors(&error) {
                session.cx.pool.make_room();
            }
            let shown = not_connected(addr, service, client, (Kind::ConnectFailed, &error.to_string()));
            if is_ours(&error) {
                return Err(Failure { error: shown, retryable: true, requeue: Requeue::Connect });
            }
            shown
        }
        Ok(Err(OpenError::Tls(error))) => tls_failed(addr, service, client, &error),
        Ok(Err(OpenError::Http(error))) => {
            let text = format!("it does not speak HTTP/2 (client.protocol): {error}");
            not_connected(addr, service, client, (Kind::ConnectFailed, &text)).because(ProxyError::HttpProtocolError)
        }
        Err(_) if clock::now() >= request.due => {
            client.stats.cancelled_connects.incr();
            return Err(Failure::fatal(request.timed_out()));
        }
        Err(_) => late(&reached, service, client),
    };
    client.stats.failed_connect_latency_ms.add(clock::now().saturating_sub(started) / 1_000_000);
    lease.connect_failed();
    Err(Failure { error, retryable: true, requeue: Requeue::Connect })
}

/// The error when `connectTimeoutMs` is over, by what was waited for.
fn late(reached: &Reached, service: &PathService, client: &Client) -> RouteError {
    let (addr, limit) = (reached.addr, show_duration(client.params.connect_timeout));
    let text = match reached.stage.get() {
        Stage::Tls => {
            let text = format!("the handshake was not done within {limit}");
            return tls_failed(addr, service, client, &HandshakeError { reason: "timeout", text });
        }
        Stage::Tcp => format!("no answer within {limit}"),
        Stage::Http2 => {
            let done = if client.tls.is_some() { "connected, and the TLS handshake was done" } else { "connected" };
            format!(
                "{done}, but HTTP/2 was not begun: no SETTINGS within {limit}; check that the service speaks HTTP/2 \
                 (client.protocol), and client.connectTimeoutMs"
            )
        }
    };
    not_connected(addr, service, client, (Kind::ConnectTimeout, &text))
}

/// Why there is no connection.
enum OpenError {
    Tcp(std::io::Error),
    Tls(HandshakeError),
    Http(h2::Error),
}

/// A connection with the options and the TLS of the client. `reached` notes how far it is.
async fn open(client: &Client, reached: &Reached, h2: bool) -> Result<Stream, OpenError> {
    let addr = reached.addr;
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
    reached.stage.set(Stage::Tls);
    // A handshake needs much room, and few connections are being made at one time.
    let stream = match h2 {
        true => Box::pin(tls.connect_h2(socket, addr.ip())).await,
        false => Box::pin(tls.connect(socket, addr.ip(), None)).await,
    };
    Ok(Stream::Connected(Box::new(stream.map_err(OpenError::Tls)?)))
}

/// The error of an endpoint that cannot be reached (data-plane reference §8.2), counted.
fn not_connected(addr: SocketAddr, service: &PathService, client: &Client, (kind, reason): (Kind, &str)) -> RouteError {
    client.stats.creation_failures.record("java.net.ConnectException");
    RouteError::new(kind, text(addr, service, client, reason)).undispatched()
}

/// The same for one with which TLS failed; also when it says so only after the handshake.
pub(crate) fn tls_failed(
    addr: SocketAddr,
    service: &PathService,
    client: &Client,
    error: &HandshakeError,
) -> RouteError {
    setup::handshakes::count("client", error.reason);
    client.stats.creation_failures.record("com.twitter.finagle.SslException");
    let text = text(addr, service, client, &format!("TLS: {error}"));
    let (kind, cause) = match error.reason {
        "timeout" => (Kind::ConnectTimeout, ProxyError::ConnectionTimeout),
        reason if reason.starts_with("alert-") => (Kind::ConnectFailed, ProxyError::TlsAlertReceived),
        _ if error.is_about_certificate() => (Kind::ConnectFailed, ProxyError::TlsCertificateError),
        _ => (Kind::ConnectFailed, ProxyError::TlsProtocolError),
    };
    RouteError::new(kind, text).undispatched().because(cause)
}

fn text(addr: SocketAddr, service: &PathService, client: &Client, reason: &str) -> String {
    let addresses: Vec<String> = client.addresses().iter().take(20).map(ToString::to_string).collect();
    format!(
        "Unable to establish connection to {addr}: {reason}.\n\nservice name: {}\nclient name: {}\naddresses: [{}]\n\
         selected address: {addr}",
        service.dst.path,
        client.id,
        addresses.join(", ")
    )
}

/// True for what this host lacks (EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, ENOMEM): it says nothing about the endpoint.
fn is_ours(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(12 | 23 | 24 | 99 | 105))
}

/// True when the process has no file descriptors left (EMFILE), or the system (ENFILE).
fn is_out_of_descriptors(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

fn set_options(socket: &TcpStream, params: &ClientParams) {
    // A connection without these options still works.
    let _ = socket.set_nodelay(params.socket.no_delay);
    if let Some(keep_alive) = params.socket.keep_alive {
        let _ = socket2::SockRef::from(socket).set_keepalive(keep_alive);
    }
}
