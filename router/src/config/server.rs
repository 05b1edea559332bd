//! Entries of `servers` of a router (config reference §4.2, §5.1, §5.2).
//!
//! For: the reader of routers. Not for: clashes of addresses (see `clash`).

use super::forwarded::forwarded;
use super::h2::{self, Protocol, ServerProtocol};
use super::moved::Place;
use super::objects::session;
use super::overrides::overrides;
use super::params::ServerParams;
use super::reader::{Item, Reader};
use super::scalar::{boolean, header, ip, limit, millis, millis_or_off, port, size, string};
use super::socket::socket;
use super::tls::server_tls;
use ::tls::ServerTlsParams;
use setup::config::params::LOOPBACK;
use std::time::Duration;

const DEFAULT_PORT: u16 = 4140;
const DEFAULT_H2_PORT: u16 = 4142;
const DEFAULT_CALL_DEPTH: usize = 1000;
const DEFAULT_CONNECTIONS: usize = 40_000;
const DEFAULT_OF_SOURCE: usize = 20_000;
/// Longer than any usual keep-alive of a client's own pool, so that the client closes first.
const DEFAULT_IDLE: Duration = Duration::from_secs(600);
const DEFAULT_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A listener of the router called `label` with this protocol, and where its port is written.
pub(super) fn server<'a>(
    router: &Reader<'a>,
    item: Item<'a>,
    (label, of_router): (&str, Protocol),
) -> Option<(ServerParams, Item<'a>)> {
    let mut reader = Reader::open(router.context, item, Place::Server)?;
    let ip = reader.get("ip", ip).unwrap_or(LOOPBACK);
    let at = reader.take("port").unwrap_or_else(|| reader.item.clone());
    let port = reader.get("port", port).unwrap_or(match of_router {
        Protocol::Http => DEFAULT_PORT,
        Protocol::H2 => DEFAULT_H2_PORT,
    });
    let protocol = reader.get("protocol", h2::server_protocol).unwrap_or(of_router.into());
    let (h2, h2_limits) = h2::server(&mut reader, protocol);
    let session = session(&mut reader, "serverSession").unwrap_or_default();
    let clear_context = reader.get("clearContext", boolean).unwrap_or(false);
    let server = ServerParams {
        ip,
        port,
        protocol,
        h2,
        h2_limits,
        socket: socket(&mut reader).unwrap_or_default(),
        clear_context,
        overrides: overrides(&mut reader, clear_context),
        trust_forwarded: reader.get("trustForwarded", boolean),
        max_concurrent_requests: reader.get("maxConcurrentRequests", size(1)),
        max_connections: reader.get("maxConnections", size(1)).unwrap_or(DEFAULT_CONNECTIONS),
        max_connections_per_source: reader.get("maxConnectionsPerSource", size(1)).unwrap_or(DEFAULT_OF_SOURCE),
        idle_time: session.idle.unwrap_or(DEFAULT_IDLE),
        tunnel_idle_time: session.idle,
        life_time: session.life,
        timestamp_header: match of_router {
            Protocol::Http => reader.get("timestampHeader", header),
            Protocol::H2 => None,
        },
        max_call_depth: reader.get("maxCallDepth", size(0)).unwrap_or(DEFAULT_CALL_DEPTH),
        timeout: reader.get("timeoutMs", millis_or_off).and_then(limit),
        tls: tls(&mut reader, protocol),
        header_timeout: reader.get("headerTimeoutMs", millis(1)).unwrap_or(DEFAULT_HEADER_TIMEOUT),
        stall_timeout: reader.get("stallTimeoutMs", millis(1)).unwrap_or(DEFAULT_STALL_TIMEOUT),
        enforce_deadlines: reader.get("enforceDeadlines", boolean).unwrap_or(false),
        forwarded: forwarded(&mut reader, label),
        upgrades: reader.get("upgrades", boolean).unwrap_or(true),
    };
    // Linkerd accepts a label here and does nothing with it.
    reader.get("label", string);
    reader.not_yet("announce");
    reader.finish();
    Some((server, at))
}

/// TLS offers what the listener accepts, and nothing else.
fn tls(reader: &mut Reader<'_>, protocol: ServerProtocol) -> Option<ServerTlsParams> {
    server_tls(reader).map(|tls| ServerTlsParams { alpn: protocol.alpn(), ..tls })
}
