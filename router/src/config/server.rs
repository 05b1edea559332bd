//! Entries of `servers` of an http router (config reference §4.2, §5.1).
//!
//! For: the reader of routers. Not for: clashes of addresses (see `clash`).

use super::moved::Place;
use super::objects::{session, socket};
use super::params::{LOOPBACK, ServerParams};
use super::reader::{Item, Reader};
use super::scalar::{boolean, header, ip, millis_or_off, port, size, string};
use super::settings::limit;
use super::tls::server_tls;

const DEFAULT_PORT: u16 = 4140;
const DEFAULT_CALL_DEPTH: usize = 1000;
const DEFAULT_CONNECTIONS: usize = 40_000;
const DEFAULT_OF_SOURCE: usize = 20_000;

/// A listener, and where its port is written.
pub(super) fn server<'a>(router: &Reader<'a>, item: Item<'a>) -> Option<(ServerParams, Item<'a>)> {
    let mut reader = Reader::open(router.context, item, Place::Server)?;
    let ip = reader.get("ip", ip).unwrap_or(LOOPBACK);
    let at = reader.take("port").unwrap_or_else(|| reader.item.clone());
    let port = reader.get("port", port).unwrap_or(DEFAULT_PORT);
    let session = session(&mut reader, "serverSession").unwrap_or_default();
    let server = ServerParams {
        ip,
        port,
        socket: socket(&mut reader).unwrap_or_default(),
        clear_context: reader.get("clearContext", boolean).unwrap_or(false),
        max_concurrent_requests: reader.get("maxConcurrentRequests", size(1)),
        max_connections: reader.get("maxConnections", size(1)).unwrap_or(DEFAULT_CONNECTIONS),
        max_connections_per_source: reader.get("maxConnectionsPerSource", size(1)).unwrap_or(DEFAULT_OF_SOURCE),
        idle_time: session.idle,
        life_time: session.life,
        timestamp_header: reader.get("timestampHeader", header),
        max_call_depth: reader.get("maxCallDepth", size(0)).unwrap_or(DEFAULT_CALL_DEPTH),
        timeout: reader.get("timeoutMs", millis_or_off).and_then(limit),
        tls: server_tls(&mut reader),
    };
    // Linkerd accepts a label here and does nothing with it.
    reader.get("label", string);
    for key in ["announce", "addForwardedHeader"] {
        reader.not_yet(key);
    }
    reader.finish();
    Some((server, at))
}
