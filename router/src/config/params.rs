//! The resolved parameters of everything but clients and services: plain data, every default applied.
//!
//! For: the rest of the router, which builds itself from [`Config`]. Not for: reading (see the module of each object)
//! or the parameters that depend on a name (see `settings`).

use super::discovery::DiscoveryParams;
use super::forwarded::ForwardedParams;
use super::h2::{H2Limits, H2Params, Protocol, ServerProtocol};
use super::interpreter::InterpreterParams;
use super::limits::LimitParams;
use super::overrides::{OverrideParams, OverrideSets};
use super::settings::{ClientSettings, Sections, ServiceSettings};
use dtab::{Dtab, Path};
use setup::config::params::{AdminParams, NamerParams, SocketParams, TelemeterParams};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use telemetry::{AccessLogOptions, LogFormat};

/// A whole configuration file (config reference §3).
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The administrative server.
    pub admin: AdminParams,
    /// How discovery outlives outages and floods.
    pub discovery: DiscoveryParams,
    /// The namers in file order; a later one is asked first. Default none.
    pub namers: Vec<NamerParams>,
    /// The routers in file order; never empty.
    pub routers: Vec<RouterParams>,
    /// The telemeters in file order. Default none.
    pub telemetry: Vec<TelemeterParams>,
    /// What works but is probably not meant, each with place and key path.
    pub warnings: Vec<String>,
    /// The file as written, secrets redacted, for `/config.json`.
    pub as_json: serde_json::Value,
}

/// A router (config reference §4, §5.1).
#[derive(Debug, Clone)]
pub struct RouterParams {
    /// Name in metrics and on the dashboard; unique. Default: the protocol.
    pub label: String,
    /// What servers and clients speak that do not say it.
    pub protocol: Protocol,
    /// Put before identified names. Default `/svc`.
    pub dst_prefix: Path,
    /// Base dtab. Default empty.
    pub dtab: Dtab,
    /// How its names are bound.
    pub interpreter: InterpreterParams,
    /// Where its entries stand.
    pub dtab_source: DtabSource,
    /// Tried in this order; never empty. Default: the token in `Host`.
    pub identifiers: Vec<IdentifierParams>,
    /// Listeners; never empty.
    pub servers: Vec<ServerParams>,
    /// Parameters per concrete name.
    pub client: Sections<ClientSettings>,
    /// Parameters per logical name.
    pub service: Sections<ServiceSettings>,
    /// Limit for binding a name and getting a connection. Default 10 s.
    pub binding_timeout: Duration,
    /// Limits of the caches of bound names.
    pub binding_cache: BindingCacheParams,
    /// Whether a time limit that is over is answered with 504. Default false: 503, and 502 for names and connections.
    pub timeouts_are_504: bool,
    /// Unused connections to services that each worker keeps for this router, at most. Default 2048.
    pub max_idle_per_worker: usize,
    /// Stored overrides that requests may name.
    pub override_sets: OverrideSets,
    /// Whether metrics say that requests originate here. Default false.
    pub originator: bool,
    /// Most bytes of all headers of a message. Default 8 KiB.
    pub max_headers_bytes: usize,
    /// Most bytes of a request or status line. Default 4 KiB.
    pub max_line_bytes: usize,
    /// Most bytes of a body that the router itself writes for an error. Default 5120 KiB.
    pub max_err_response_bytes: usize,
    /// Limits that Linkerd 1 does not have.
    pub limits: LimitParams,
    /// Request bodies of known length up to so many bytes may be retried by a classifier. Default 5 KiB.
    pub buffered_bytes: u64,
    /// What is compressed on its way to clients. Default nothing.
    pub compression: Option<Compression>,
    /// Where finished requests are logged. Default nowhere.
    pub access_log: Option<AccessLogParams>,
}

/// Where the entries of a dtab stand in the file, for the texts of errors.
#[derive(Debug, Clone, Default)]
pub struct DtabSource {
    /// The file as it was named to `load`.
    pub file: String,
    /// The line of every entry, from 1, in their order.
    pub lines: Vec<u32>,
}

/// Which responses are compressed, if the client asks for it (data-plane reference §6.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Textual types, at level 6.
    Textual,
    /// Every type, at this level: 1 to 9.
    All(u32),
}

/// An access log (config reference §5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogParams {
    /// The file; relative to the working directory.
    pub path: PathBuf,
    /// The form of its lines. Default that of Linkerd 1.
    pub format: LogFormat,
    /// How the file is kept.
    pub options: AccessLogOptions,
}

/// Limits of the caches of bound names (config reference §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingCacheParams {
    /// Most logical names. Default 1000. 0 keeps none.
    pub paths: usize,
    /// Most of them that one source may have for its overrides. Default a quarter, at least 1.
    pub overrides_per_source: Option<usize>,
    /// Most bound trees. Default 1000. 0 keeps none.
    pub trees: usize,
    /// Most bound names. Default 1000. 0 keeps none.
    pub bounds: usize,
    /// Most clients. Default 1000. 0 keeps none.
    pub clients: usize,
    /// How long an unused entry stays. Default 600 s.
    pub idle_ttl: Duration,
}

impl Default for BindingCacheParams {
    fn default() -> BindingCacheParams {
        BindingCacheParams {
            paths: 1000,
            overrides_per_source: None,
            trees: 1000,
            bounds: 1000,
            clients: 1000,
            idle_ttl: Duration::from_secs(600),
        }
    }
}

/// How a request gets its logical name (config reference §6). Headers may be the pseudo headers of HTTP/2.
#[derive(Debug, Clone)]
pub enum IdentifierParams {
    /// `io.l5d.header.token`: the value of a header as one segment.
    HeaderToken {
        /// The header in lower case. Default `host`.
        header: String,
        /// The header as written. Default `Host`.
        written: String,
    },
    /// `io.l5d.methodAndHost`: version, method and host.
    MethodAndHost {
        /// Append the segments of the URI. Default false.
        http_uri_in_dst: bool,
    },
    /// `io.l5d.path`: the first segments of the URI.
    Path {
        /// How many, at least 1. Default 1.
        segments: usize,
        /// Remove them from the URI that is forwarded. Default false.
        consume: bool,
    },
    /// `io.l5d.header`: the value of a header as a path.
    Header {
        /// The header in lower case. Default `l5d-name`.
        header: String,
        /// The header as written. Default `l5d-name`.
        written: String,
    },
    /// `io.l5d.header.path`: the first segments of a header, or all of them.
    HeaderPath {
        /// The header in lower case. Default `:path`.
        header: String,
        /// How many, at least 1. Default all.
        segments: Option<usize>,
    },
    /// `io.l5d.static`: always the same name.
    Static {
        /// The name, without the router's prefix.
        path: Path,
    },
}

impl Default for IdentifierParams {
    fn default() -> IdentifierParams {
        IdentifierParams::HeaderToken { header: "host".to_owned(), written: "Host".to_owned() }
    }
}

/// A listener of a router (config reference §4.2, §5.1).
#[derive(Debug, Clone)]
pub struct ServerParams {
    /// Listen address. Default 127.0.0.1.
    pub ip: IpAddr,
    /// Listen port; 0 for any. Default 4140 for http routers, 4142 for h2 routers.
    pub port: u16,
    /// What is accepted. Default: the router's protocol.
    pub protocol: ServerProtocol,
    /// The settings of HTTP/2 connections.
    pub h2: H2Params,
    /// What a peer may do on an HTTP/2 connection.
    pub h2_limits: H2Limits,
    /// Options of the listening socket and its connections.
    pub socket: SocketParams,
    /// Remove the context headers of inbound requests. Default false.
    pub clear_context: bool,
    /// What requests may say about their route.
    pub overrides: OverrideParams,
    /// Whether `Forwarded`, `X-Forwarded-*` and `Via` of callers are passed on. Default true, and false for callers who
    /// are not trusted because of `overrides`.
    pub trust_forwarded: Option<bool>,
    /// Requests at one time, at least 1; more are rejected at once. Default unlimited.
    pub max_concurrent_requests: Option<usize>,
    /// Connections at one time; more are closed at once. Default 40,000. Switchyard only.
    pub max_connections: usize,
    /// Connections of one address at one time; more are closed at once. Default 20,000. Switchyard only.
    pub max_connections_per_source: usize,
    /// A connection idle for so long is closed. Default 10 min (Linkerd: never).
    pub idle_time: Duration,
    /// A tunnel in which nothing moves for so long is closed. Default never: what `serverSession.idleTimeMs` says, if it
    /// is written.
    pub tunnel_idle_time: Option<Duration>,
    /// A connection of that age is closed. Default never.
    pub life_time: Option<Duration>,
    /// Header to add with the milliseconds since the epoch, as written. Default none.
    pub timestamp_header: Option<String>,
    /// Most hops in `Via`. Default 1000.
    pub max_call_depth: usize,
    /// Limit for a request from the head read to the response head. Default none.
    pub timeout: Option<Duration>,
    /// TLS. Default plain text.
    pub tls: Option<tls::ServerTlsParams>,
    /// A request head must be complete so long after its first byte. Default 10 s.
    pub header_timeout: Duration,
    /// A peer that takes or gives nothing of a body for so long, while all waits for it, is given up. Default 60 s.
    pub stall_timeout: Duration,
    /// Whether a request ends when the deadline that it carries is over. Default false.
    pub enforce_deadlines: bool,
    /// `addForwardedHeader`. Default none.
    pub forwarded: Option<ForwardedParams>,
    /// Pass `Upgrade` on and open tunnels. Default true. Linkerd 1 has no such key and opens none.
    pub upgrades: bool,
}
