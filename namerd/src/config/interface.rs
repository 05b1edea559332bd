//! `interfaces` (config reference §15.2).
//!
//! For: `load`. Not for: listening.

use crate::guard::Guard;
use crate::iface::thrift::{CacheLimits, ThriftOptions};
use setup::config::clash::{Claim, Sockets};
use setup::config::kinds::{Found, INTERFACES};
use setup::config::moved::Place;
use setup::config::params::{LOOPBACK, SocketParams};
use setup::config::problem::quote;
use setup::config::reader::{Bad, Item, Reader};
use setup::config::scalar::{boolean, int, ip, port, seconds, size, string};
use setup::config::socket::socket;
use setup::config::tls::server_tls;
use std::net::IpAddr;
use tls::ServerTlsParams;

/// Watches of one caller at once, unless the config says otherwise.
const MAX_WATCHES: usize = 20_000;
/// Connections of one interface at once.
const MAX_CONNECTIONS: usize = 10_000;
/// Connections of one address at once.
const MAX_PER_SOURCE: usize = 5_000;

/// A listener with a protocol.
#[derive(Debug, Clone)]
pub struct InterfaceParams {
    /// The protocol.
    pub kind: InterfaceKind,
    /// Listen address. Default 127.0.0.1.
    pub ip: IpAddr,
    /// Listen port; 0 for any. Default 4180, 4321 or 4100.
    pub port: u16,
    /// Options of the listening socket and of connections.
    pub socket: SocketParams,
    /// TLS. Default plain text.
    pub tls: Option<ServerTlsParams>,
    /// Connections at once; further ones wait. Default 10 000.
    pub max_connections: usize,
    /// Connections of one address at once; further ones are closed. Default 5000.
    pub max_connections_per_source: usize,
}

/// A protocol of namerd with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InterfaceKind {
    /// `io.l5d.httpController`.
    Http {
        /// Watches of one caller at once. Default 20 000.
        max_watches: usize,
        /// What an edit may take away from the names in use.
        guard: Guard,
        /// `allowedHosts`: host names that requests may be for, besides `localhost` and addresses. Empty, the default: no
        /// others on a loopback listener, all on another.
        hosts: Vec<String>,
    },
    /// `io.l5d.mesh`.
    Mesh,
    /// `io.l5d.thriftNameInterpreter`.
    Thrift(ThriftOptions),
}

/// The interfaces in file order.
pub(super) fn interfaces(top: &mut Reader<'_>, sockets: &mut Sockets) -> Vec<InterfaceParams> {
    let Some(list) = top.take("interfaces") else {
        top.context.bad(top.pos("interfaces"), "interfaces", Bad::new("'interfaces' field is required"));
        return Vec::new();
    };
    let items = list.elements(top.context);
    if items.is_empty() && list.shape() == "a list" {
        top.context.bad(list.pos, &list.path, Bad::new("One or more interfaces must be specified"));
    }
    items.into_iter().filter_map(|item| interface(top, item, sockets)).collect()
}

fn interface<'a>(top: &Reader<'a>, item: Item<'a>, sockets: &mut Sockets) -> Option<InterfaceParams> {
    let mut reader = Reader::open(top.context, item, Place::Interface)?;
    let Found::Built(name) = INTERFACES.of(&mut reader) else { return None };
    let (kind, default_port) = match name {
        "io.l5d.httpController" => (http(&mut reader), 4180),
        "io.l5d.mesh" => (mesh(&mut reader), 4321),
        _ => (thrift(&mut reader), 4100),
    };
    let at = reader.take("port").unwrap_or_else(|| reader.item.clone());
    let params = InterfaceParams {
        kind,
        ip: reader.get("ip", ip).unwrap_or(LOOPBACK),
        port: reader.get("port", port).unwrap_or(default_port),
        socket: socket(&mut reader).unwrap_or_default(),
        tls: server_tls(&mut reader),
        max_connections: reader.get("maxConnections", size(1)).unwrap_or(MAX_CONNECTIONS),
        max_connections_per_source: reader.get("maxConnectionsPerSource", size(1)).unwrap_or(MAX_PER_SOURCE),
    };
    let holder = format!("the interface {name}");
    sockets.claim(top.context, &at, Claim::new(holder, params.ip, params.port, params.socket.reuse_port));
    warn_of_timeouts(&mut reader, &params.socket);
    reader.finish();
    Some(params)
}

fn http(reader: &mut Reader<'_>) -> InterfaceKind {
    let max_watches = reader.get("maxWatchesPerClient", size(1)).unwrap_or(MAX_WATCHES);
    let mut hosts = Vec::new();
    for item in reader.list("allowedHosts") {
        match host(&item) {
            Ok(name) => hosts.push(name),
            Err(bad) => reader.context.bad(item.pos, &item.path, bad),
        }
    }
    InterfaceKind::Http { max_watches, hosts, guard: guard(reader) }
}

fn guard(parent: &mut Reader<'_>) -> Guard {
    let mut guard = Guard::default();
    if let Some(mut reader) = parent.sub("guard", Place::Other) {
        let percent = |value: i64| usize::try_from(value).unwrap_or(usize::MAX);
        guard.most_lost_percent = reader.get("maxLostPercent", int(0, 100)).map_or(guard.most_lost_percent, percent);
        guard.min_names = reader.get("minNames", size(1)).unwrap_or(guard.min_names);
        reader.finish();
    }
    guard
}

/// A host name without a port, or `*` for all.
fn host(item: &Item<'_>) -> Result<String, Bad> {
    let text = string(item)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    match text == "*" || (!text.is_empty() && text.len() <= 253 && text.bytes().all(plain)) {
        true => Ok(text),
        false => Err(Bad::new(format!("{} is not the name of a host", quote(&text)))
            .expected("a name without a port, such as namerd.example; `*` for all")),
    }
}

/// Times of sockets are those of the protocols, which give up clients that are silent or take nothing.
fn warn_of_timeouts(reader: &mut Reader<'_>, socket: &SocketParams) {
    let set = socket.read_timeout.is_some() || socket.write_timeout.is_some();
    if let (true, Some(at)) = (set, reader.take("socketOptions")) {
        let text = "`readTimeoutMs` and `writeTimeoutMs` have no effect here: each protocol has limits of its own";
        reader.context.warn(&at, text);
    }
}

/// The access log of Linkerd's mesh interface is not written: what happens is counted, and writes go to the audit.
fn mesh(reader: &mut Reader<'_>) -> InterfaceKind {
    let at = reader.take("h2AccessLog");
    reader.get("h2AccessLog", string);
    reader.get("h2AccessLogRollPolicy", string);
    reader.get("h2AccessLogAppend", boolean);
    reader.get("h2AccessLogRotateCount", int(-1, i64::from(i32::MAX)));
    if let Some(at) = at {
        reader.context.warn(&at, "no effect: requests of this interface are counted in metrics and not logged");
    }
    InterfaceKind::Mesh
}

/// `cache`: the limits of Linkerd, with other defaults.
fn thrift(reader: &mut Reader<'_>) -> InterfaceKind {
    let mut options = ThriftOptions::default();
    if let Some(mut cache) = reader.sub("cache", Place::Other) {
        let keys = ["bindingCacheActive", "bindingCacheInactive", "bindingCacheInactiveTTLSecs"];
        options.bindings = limits(&mut cache, keys);
        options.addresses = limits(&mut cache, ["addrCacheActive", "addrCacheInactive", "addrCacheInactiveTTLSecs"]);
        cache.finish();
    }
    InterfaceKind::Thrift(options)
}

fn limits(cache: &mut Reader<'_>, [active, inactive, ttl]: [&'static str; 3]) -> CacheLimits {
    let default = CacheLimits::default();
    CacheLimits {
        active: cache.get(active, size(1)).unwrap_or(default.active),
        inactive: cache.get(inactive, size(0)).unwrap_or(default.inactive),
        inactive_ttl: cache.get(ttl, seconds(1)).unwrap_or(default.inactive_ttl),
    }
}
