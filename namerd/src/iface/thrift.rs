//! The interface `io.l5d.thriftNameInterpreter`: names by long polls over ThriftMux (namerd reference §4).
//!
//! A connection is mux, or framed thrift when its first frame is a call; `session` and `framed` serve the two. What is
//! asked is the same: `calls` opens it, `observed` keeps one observation per question, however many poll for it. The
//! bytes are `namers::thrift`, which the client has in common with this. Not for: writing dtabs, the destination interface.

mod calls;
mod framed;
mod observed;
mod output;
mod session;
mod stats;

use crate::access::Access;
use crate::iface::stats::InterfaceStats;
use crate::iface::{Closing, Interface, Peer};
use crate::names::Names;
use calls::{Asking, Calls};
use dtab::BoxFuture;
use namers::remote::peers::Io;
use namers::thrift::binary::WireError;
use namers::thrift::mux::Frames;
use namers::thrift::{INTERFACE, call};
use stats::ThriftStats;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Scope;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The largest message that a client may send, in bytes, fragments together.
const MAX_REQUEST: usize = 4 * 1024 * 1024;
/// Calls that wait in the whole process, at most.
const MAX_CALLS: usize = 500_000;
/// A client may take so long for its first frame.
const FIRST_FRAME: Duration = Duration::from_secs(60);
/// What is under way may take so long when the process wants to end.
const DRAIN: Duration = Duration::from_secs(2);

/// How many observations of one kind there may be: a group of the config's `cache`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Of those that calls wait for.
    pub active: usize,
    /// Of others, which are kept so that the next poll finds its stamp. Both numbers together are the limit.
    pub inactive: usize,
    /// How long an observation is kept that no call waits for.
    pub inactive_ttl: Duration,
}

impl Default for CacheLimits {
    fn default() -> CacheLimits {
        CacheLimits { active: 20_000, inactive: 5_000, inactive_ttl: Duration::from_secs(600) }
    }
}

/// The config's `cache`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ThriftOptions {
    /// `bindingCacheActive`, `bindingCacheInactive`, `bindingCacheInactiveTTLSecs`.
    pub bindings: CacheLimits,
    /// `addrCacheActive`, `addrCacheInactive`, `addrCacheInactiveTTLSecs`.
    pub addresses: CacheLimits,
    /// For dtabs; without keys.
    pub dtabs: CacheLimits,
}

/// See the module.
pub struct ThriftInterface {
    calls: Arc<Calls>,
    access: Access,
    stats: ThriftStats,
    /// Room for calls that wait.
    room: Arc<Semaphore>,
}

impl ThriftInterface {
    /// The interface to `names`, for whom `access` lets in by its certificate: the protocol has no place for a token.
    /// Observations run on `handle`.
    pub fn new(names: Names, access: Access, options: &ThriftOptions, handle: &Handle) -> ThriftInterface {
        let room = Arc::new(Semaphore::new(MAX_CALLS));
        let calls = Arc::new(Calls::new(names, options, handle));
        ThriftInterface { calls, access, room, stats: ThriftStats::default() }
    }

    /// The same, counting below `scope`.
    pub fn counting(self, scope: &Scope) -> ThriftInterface {
        let stats = ThriftStats::new(scope);
        self.calls.show(scope);
        ThriftInterface { stats, ..self }
    }

    async fn converse(&self, io: Box<dyn Io>, peer: &Peer, mut closing: Closing) -> Result<(), WireError> {
        let (mut read, write) = tokio::io::split(io);
        let mut frames = Frames::new(MAX_REQUEST);
        let first = tokio::select! {
            first = timeout(FIRST_FRAME, next_frame(&mut read, &mut frames)) => first,
            () = closes(&mut closing) => return Ok(()),
        };
        let Ok(Some(first)) = first.unwrap_or(Ok(None)) else { return Ok(()) };
        tracing::debug!(peer = %peer.address, framed = call::is_call(&first), "a thrift client");
        let input = Input { read, frames, first };
        let calls =
            Asking { calls: self.calls.clone(), caller: self.access.connected(peer), stats: self.stats.clone() };
        if call::is_call(&input.first) {
            return framed::serve(calls, &self.room, input, write, closing).await;
        }
        session::serve(calls, self.room.clone(), input, write, closing).await
    }
}

/// What a client says: a frame that was read already, and the rest.
struct Input<R> {
    read: R,
    frames: Frames,
    first: bytes::BytesMut,
}

/// The next frame; None at the end of the connection, however it ends.
async fn next_frame(
    read: &mut (impl AsyncRead + Unpin),
    frames: &mut Frames,
) -> Result<Option<bytes::BytesMut>, WireError> {
    loop {
        if let Some(frame) = frames.frame()? {
            return Ok(Some(frame));
        }
        if read.read_buf(frames.buffer()).await.unwrap_or(0) == 0 {
            return Ok(None);
        }
    }
}

/// Waits until the process wants to end.
async fn closes(closing: &mut Closing) {
    if closing.wait_for(|closing| *closing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Interface for ThriftInterface {
    fn kind(&self) -> &'static str {
        INTERFACE
    }

    fn stats(&self) -> &InterfaceStats {
        &self.stats.all
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn serve(self: Arc<Self>, io: Box<dyn Io>, peer: Peer, closing: Closing) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Err(error) = self.converse(io, &peer, closing).await {
                tracing::info!(peer = %peer.address, "a thrift client is cut off: {error}");
                self.stats.all.cut_off();
            }
        })
    }
}

#[cfg(test)]
mod tests;
