//! HTTP/2 for stories: a scripted server, a client, gRPC on both, and single frames where a library is too polite.
//!
//! - [`Origin`]: answers each request by a script of [`Step`]s, and remembers requests, open streams and cancels.
//! - [`Caller`]: one connection with many streams at once; [`Ask`] is a request, [`Call`] an open one, [`Answer`] its end.
//! - [`Wire`]: frames by hand, as a client or as a server ([`RawOrigin`]).
//! - [`Relay`]: a TCP relay that can become a black hole.
//! - [`grpc`]: messages with their five bytes of framing, statuses, and the usual scripts.
//!
//! For: stories about HTTP/2. They are futures run by [`story`]; whatever of the harness blocks may be called in them,
//! because servers and connections run on threads of their own. Not for: judging the codec itself.

mod caller;
pub mod grpc;
mod origin;
mod relay;
mod script;
mod wire;

pub use caller::{Answer, Ask, Call, Caller};
pub use origin::{Cancel, Origin, Seen, mute};
pub use relay::Relay;
pub use script::{Asked, Gate, Script, Step};
pub use wire::{Frame, RawOrigin, Wire, flag, kind, literals};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::future::Future;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// As [`crate::FS_CONFIG`] with an h2 router `h2`, as it was written for Linkerd 1: the authority is the service.
pub const H2_CONFIG: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: h2
  label: h2
  experimental: true
  servers: [{ port: @P0@ }]
  dtab: |
    /svc => /#/io.l5d.fs ;
"#;

/// As [`H2_CONFIG`]: the service of the gRPC call is the service.
pub const GRPC_CONFIG: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: h2
  label: h2
  experimental: true
  identifier: { kind: io.l5d.header.path, segments: 1 }
  servers: [{ port: @P0@ }]
  dtab: |
    /svc => /#/io.l5d.fs ;
"#;

/// A config with these keys in its router.
pub fn with(config: &str, keys: &str) -> String {
    config.replace("  dtab: |", &format!("  {keys}\n  dtab: |"))
}

/// A story that takes longer hangs.
const STORY_LIMIT: Duration = Duration::from_secs(600);

/// A byte stream: TCP, or TLS on it.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Runs a story to its end; panics when it takes more than ten minutes.
pub fn story(told: impl Future<Output = ()>) {
    long_story(STORY_LIMIT, told);
}

/// The same for one that may take so long.
pub fn long_story(limit: Duration, told: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let ended = runtime.block_on(async { tokio::time::timeout(limit, told).await });
    runtime.shutdown_background();
    ended.unwrap_or_else(|_| panic!("the story hangs for {limit:?}\n{}", crate::wait::logs()));
}

/// Waits for this at most so long; panics with `what` and the logs.
pub async fn within<T>(what: &str, limit: Duration, awaited: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(limit, awaited).await;
    ended.unwrap_or_else(|_| panic!("not within {limit:?}: {what}\n{}", crate::wait::logs()))
}

/// What one side of a connection announces; `None` is the default of the protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Knobs {
    /// SETTINGS_INITIAL_WINDOW_SIZE.
    pub window: Option<u32>,
    /// The window of the whole connection.
    pub connection_window: Option<u32>,
    /// SETTINGS_MAX_FRAME_SIZE.
    pub frame: Option<u32>,
    /// SETTINGS_MAX_HEADER_LIST_SIZE. Default here: 4 MiB, so that nothing fails at the harness.
    pub header_list: Option<u32>,
    /// SETTINGS_MAX_CONCURRENT_STREAMS; of servers.
    pub streams: Option<u32>,
}

impl Knobs {
    /// Windows of this size for streams.
    pub fn window(bytes: u32) -> Knobs {
        Knobs { window: Some(bytes), ..Knobs::default() }
    }
}

/// The length and a checksum of bytes that need not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub bytes: u64,
    hash: u64,
}

impl Default for Sum {
    fn default() -> Self {
        Sum { bytes: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Sum {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Sum {
        let mut sum = Sum::default();
        sum.add(bytes);
        sum
    }

    /// Adds bytes: FNV-1a, which depends on the order.
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{:016x}", self.bytes, self.hash)
    }
}

/// Bytes `from..from + n` of an endless text in which no two stretches of 64 KiB are the same.
pub fn pattern(from: usize, n: usize) -> Bytes {
    let byte = |at: usize| (at ^ (at >> 8).wrapping_mul(31) ^ (at >> 16).wrapping_mul(17)) as u8;
    (from..from + n).map(byte).collect()
}

/// Header fields from pairs.
pub fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        (name, HeaderValue::from_str(value).expect("a header value"))
    };
    pairs.iter().map(field).collect()
}

/// The value of a field as text; empty when it is not there.
pub fn text<'f>(fields: &'f HeaderMap, name: &str) -> &'f str {
    fields.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
