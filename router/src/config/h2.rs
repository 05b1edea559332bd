//! HTTP/2 of servers and clients: which protocol is spoken, and its settings (config reference §5.2).
//!
//! For: the readers of routers, servers and clients, and everything that opens HTTP/2 connections. Not for: names
//! (`identifier`) and classifiers (`classifier`). Linkerd 1 has these keys on h2 routers alone; here an http router has
//! them too where its servers or clients speak HTTP/2.

use super::moved::Place;
use super::problem::quote;
use super::reader::{Bad, Item, Reader};
use super::scalar::{count, double, int, limit, millis, millis_or_off, string};
use std::time::Duration;

/// The protocol of a router: what its servers and clients speak unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1 and 1.0.
    #[default]
    Http,
    /// HTTP/2.
    H2,
}

/// What a listener accepts: `servers[].protocol`. Default: the router's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServerProtocol {
    /// HTTP/1 only.
    #[default]
    Http,
    /// HTTP/2 only.
    H2,
    /// Both: told apart by ALPN, or by the first bytes of a connection.
    Detect,
}

/// What is spoken to services: `client.protocol`. Default: the router's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientProtocol {
    /// HTTP/1.
    #[default]
    Http,
    /// HTTP/2.
    H2,
    /// What the request came by.
    Same,
}

impl Protocol {
    /// The protocol of a kind of `kinds::PROTOCOLS`.
    pub(super) fn of(kind: &str) -> Protocol {
        if kind == "h2" { Protocol::H2 } else { Protocol::Http }
    }

    /// As it is written; the label of a router without one.
    pub(super) fn name(self) -> &'static str {
        match self {
            Protocol::Http => "http",
            Protocol::H2 => "h2",
        }
    }
}

impl From<Protocol> for ServerProtocol {
    fn from(protocol: Protocol) -> ServerProtocol {
        match protocol {
            Protocol::Http => ServerProtocol::Http,
            Protocol::H2 => ServerProtocol::H2,
        }
    }
}

impl From<Protocol> for ClientProtocol {
    fn from(protocol: Protocol) -> ClientProtocol {
        match protocol {
            Protocol::Http => ClientProtocol::Http,
            Protocol::H2 => ClientProtocol::H2,
        }
    }
}

impl ClientProtocol {
    /// True when a request that came by `version` is sent over HTTP/2.
    pub fn is_h2(self, version: http::Version) -> bool {
        match self {
            ClientProtocol::Http => false,
            ClientProtocol::H2 => true,
            ClientProtocol::Same => version == http::Version::HTTP_2,
        }
    }
}

impl ServerProtocol {
    /// What TLS offers, the best first (ALPN).
    pub(super) fn alpn(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            ServerProtocol::Http => &[b"http/1.1", b"http/1.0"],
            ServerProtocol::H2 => &[b"h2"],
            ServerProtocol::Detect => &[b"h2", b"http/1.1", b"http/1.0"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// The settings of HTTP/2 connections, of a listener or of a client (config reference §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H2Params {
    /// Bytes of a stream that the peer may send ahead, 1 to 2^31 - 1. Default 65,535.
    pub stream_window: u32,
    /// The same of a connection, 65,535 to 2^31 - 1. Default 1 MiB, or that of a stream if it is more. Switchyard only.
    pub connection_window: u32,
    /// Bytes of the table by which the peer may compress headers. Default 4096.
    pub header_table: u32,
    /// The longest frame that the peer may send, 16,384 to 16,777,215 bytes. Default 16,384.
    pub max_frame: u32,
    /// Most bytes of the headers or of the trailers of a message of the peer. Default 16 KiB for servers, 1 MiB for
    /// clients (Linkerd: 8 KiB).
    pub max_header_list: u32,
    /// Streams of one connection at one time, at least 1; for servers. Default 1000.
    pub max_streams: u32,
    /// How often a peer that is silent is asked for a sign of life. Default 5 s for clients, 30 s for servers (Linkerd:
    /// never). Switchyard only.
    pub ping_every: Option<Duration>,
    /// A connection whose peer does not answer for so long is closed. Default 4 s for clients, 20 s for servers.
    pub ping_timeout: Duration,
}

impl H2Params {
    /// Those of a listener that says nothing.
    pub const SERVER: H2Params = H2Params {
        max_header_list: 16 * 1024,
        ping_every: Some(Duration::from_secs(30)),
        ping_timeout: Duration::from_secs(20),
        ..H2Params::CLIENT
    };
    /// Those of a client that says nothing: trailers of gRPC may be long, and silent services must be found out.
    pub const CLIENT: H2Params = H2Params {
        stream_window: 65_535,
        connection_window: 64 * 1024 * 1024,
        header_table: 4096,
        max_frame: 16_384,
        max_header_list: 1024 * 1024,
        max_streams: 1000,
        ping_every: Some(Duration::from_secs(5)),
        ping_timeout: Duration::from_secs(4),
    };
}

/// How much a peer may do on one connection that costs it nothing and us something (attacks group H2). Every limit is per
/// second, with bursts of twice as much, unless it says otherwise; beyond it the connection ends with
/// ENHANCE_YOUR_CALM. Switchyard only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H2Limits {
    /// Streams that the peer resets before their response is complete. Default 3000.
    pub resets: u32,
    /// Streams that we reset because of what the peer did. Default 2000.
    pub local_resets: u32,
    /// PING, SETTINGS, PRIORITY and frames of unknown types. Default 10,000: some clients measure the bandwidth by a PING
    /// for every answer.
    pub control_frames: u32,
    /// DATA frames that carry nothing, or next to nothing, and do not end their stream. Default 1000.
    pub empty_frames: u32,
    /// CONTINUATION frames of one block of headers. Default 32.
    pub continuation_frames: u32,
}

impl Default for H2Limits {
    fn default() -> H2Limits {
        H2Limits {
            resets: 3000,
            local_resets: 2000,
            control_frames: 10_000,
            empty_frames: 1000,
            continuation_frames: 32,
        }
    }
}

/// What one object sets of [`H2Params`]; what is `None` leaves the parameter as it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct H2Settings {
    /// `initialStreamWindowBytes`.
    pub stream_window: Option<u32>,
    /// `initialConnectionWindowBytes`.
    pub connection_window: Option<u32>,
    /// `headerTableBytes`.
    pub header_table: Option<u32>,
    /// `maxFrameBytes`.
    pub max_frame: Option<u32>,
    /// `maxHeaderListBytes`.
    pub max_header_list: Option<u32>,
    /// `maxConcurrentStreamsPerConnection`.
    pub max_streams: Option<u32>,
    /// `pingIntervalMs`; zero is never.
    pub ping_every: Option<Duration>,
    /// `pingTimeoutMs`.
    pub ping_timeout: Option<Duration>,
}

impl H2Settings {
    /// Overrides what is set here.
    pub(super) fn apply(&self, params: &mut H2Params) {
        let stream_window = self.stream_window.unwrap_or(params.stream_window);
        *params = H2Params {
            stream_window,
            connection_window: self.connection_window.unwrap_or(params.connection_window.max(stream_window)),
            header_table: self.header_table.unwrap_or(params.header_table),
            max_frame: self.max_frame.unwrap_or(params.max_frame),
            max_header_list: self.max_header_list.unwrap_or(params.max_header_list),
            max_streams: self.max_streams.unwrap_or(params.max_streams),
            ping_every: self.ping_every.map_or(params.ping_every, limit),
            ping_timeout: self.ping_timeout.unwrap_or(params.ping_timeout),
        };
    }
}

/// The keys of HTTP/2 that servers and clients have in common, but for the protocol.
const COMMON: [&str; 8] = [
    "initialStreamWindowBytes",
    "initialConnectionWindowBytes",
    "headerTableBytes",
    "maxFrameBytes",
    "maxHeaderListBytes",
    "windowUpdateRatio",
    "pingIntervalMs",
    "pingTimeoutMs",
];
/// Those of servers beside them.
const OF_SERVERS: [&str; 2] = ["maxConcurrentStreamsPerConnection", "h2Limits"];

/// The first key of HTTP/2 of a section of `client`, if there is one.
pub(super) fn of_client<'a>(reader: &mut Reader<'a>) -> Option<Item<'a>> {
    first(reader, &COMMON)
}

fn first<'a>(reader: &mut Reader<'a>, keys: &[&'static str]) -> Option<Item<'a>> {
    let there = keys.iter().find(|key| reader.has(key))?;
    reader.take(there)
}

/// The keys that servers and clients have in common.
pub(super) fn settings(reader: &mut Reader<'_>) -> H2Settings {
    let settings = H2Settings {
        stream_window: reader.get("initialStreamWindowBytes", count(1)),
        connection_window: reader.get("initialConnectionWindowBytes", count(65_535)),
        header_table: reader.get("headerTableBytes", count(0)),
        max_frame: reader.get("maxFrameBytes", frame),
        max_header_list: reader.get("maxHeaderListBytes", count(1)),
        max_streams: None,
        ping_every: reader.get("pingIntervalMs", millis_or_off),
        ping_timeout: reader.get("pingTimeoutMs", millis(1)),
    };
    if let (Some(stream), Some(connection)) = (settings.stream_window, settings.connection_window)
        && stream > connection
    {
        let text =
            format!("`initialStreamWindowBytes` of {stream} is never used up: that of the connection is {connection}");
        reader.context.warn(&reader.item, text);
    }
    // When credit is returned is not for the config: it follows what the other side takes.
    reader.get("windowUpdateRatio", ratio);
    settings
}

/// The keys of a listener that accepts `protocol`.
pub(super) fn server(reader: &mut Reader<'_>, protocol: ServerProtocol) -> (H2Params, H2Limits) {
    let streams = reader.get("maxConcurrentStreamsPerConnection", count(1));
    let mut params = H2Params::SERVER;
    H2Settings { max_streams: streams, ..settings(reader) }.apply(&mut params);
    let limits = limits(reader);
    check(reader, protocol, (&params, &limits));
    (params, limits)
}

/// Warns about what cannot take effect.
fn check(reader: &mut Reader<'_>, protocol: ServerProtocol, (params, limits): (&H2Params, &H2Limits)) {
    if protocol == ServerProtocol::Http
        && let Some(at) = first(reader, &COMMON).or_else(|| first(reader, &OF_SERVERS))
    {
        let text = "no effect: this server speaks HTTP/1 alone; `protocol: h2` or `protocol: detect` would change that";
        return reader.context.warn(&at, text);
    }
    let longest = u64::from(params.max_frame) * (u64::from(limits.continuation_frames) + 1);
    if u64::from(params.max_header_list) > longest {
        let text = format!(
            "headers of {} bytes, which `maxHeaderListBytes` allows, may take more frames than \
             `h2Limits.continuationFrames` does",
            params.max_header_list
        );
        reader.context.warn(&reader.item, text);
    }
    if protocol == ServerProtocol::H2
        && let Some(at) = reader.take("upgrades")
    {
        reader.context.warn(&at, "no effect: there are no upgrades in HTTP/2");
    }
}

fn limits(parent: &mut Reader<'_>) -> H2Limits {
    let default = H2Limits::default();
    let Some(mut reader) = parent.sub("h2Limits", Place::Other) else { return default };
    let limits = H2Limits {
        resets: reader.get("resetsPerSecond", count(1)).unwrap_or(default.resets),
        local_resets: reader.get("localResetsPerSecond", count(1)).unwrap_or(default.local_resets),
        control_frames: reader.get("controlFramesPerSecond", count(1)).unwrap_or(default.control_frames),
        empty_frames: reader.get("emptyFramesPerSecond", count(1)).unwrap_or(default.empty_frames),
        continuation_frames: reader.get("continuationFrames", count(1)).unwrap_or(default.continuation_frames),
    };
    reader.finish();
    limits
}

fn frame(item: &Item<'_>) -> Result<u32, Bad> {
    int(16_384, 16_777_215)(item).map(|bytes| u32::try_from(bytes).unwrap_or(16_384))
}

fn ratio(item: &Item<'_>) -> Result<(), Bad> {
    let expected = "a number between 0 and 1, both excluded";
    match double(f64::MIN, f64::MAX)(item).map_err(|bad| bad.expected(expected))? {
        ratio if ratio > 0.0 && ratio < 1.0 => Ok(()),
        ratio => Err(Bad::new(format!("{ratio} is out of range")).expected(expected)),
    }
}

/// `protocol` of a listener.
pub(super) fn server_protocol(item: &Item<'_>) -> Result<ServerProtocol, Bad> {
    let names = [("http", ServerProtocol::Http), ("h2", ServerProtocol::H2), ("detect", ServerProtocol::Detect)];
    word(item, names, "one of: http, h2, detect")
}

/// `protocol` of a section of `client`.
pub(super) fn client_protocol(item: &Item<'_>) -> Result<ClientProtocol, Bad> {
    let names = [("http", ClientProtocol::Http), ("h2", ClientProtocol::H2), ("same", ClientProtocol::Same)];
    word(item, names, "one of: http, h2, same")
}

fn word<T, const N: usize>(item: &Item<'_>, words: [(&str, T); N], expected: &str) -> Result<T, Bad> {
    let text = string(item).map_err(|bad| bad.expected(expected))?;
    let known = words.into_iter().find(|(word, _)| *word == text);
    let bad = || Bad::new(format!("{} is not a protocol here", quote(&text))).expected(expected);
    known.map(|(_, value)| value).ok_or_else(bad)
}
