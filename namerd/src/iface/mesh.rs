//! The Mesh API, `io.l5d.mesh`: gRPC by which routers follow names, addresses and dtabs; it changes nothing.
//!
//! A connection is HTTP/2 behind a `filter`, which lets Linkerd 1 in; each of its streams is one `call`. Called by
//! `serve`. Not for: messages, which are `namers::mesh`.

mod call;
mod filter;
mod hpack;
mod reply;
mod tables;
mod upgrade;

use super::stats::InterfaceStats;
use super::{Closing, Interface, Peer};
use crate::access::Access;
use crate::names::Names;
use bytes::Bytes;
use call::Calls;
use dtab::BoxFuture;
use filter::Filter;
use h2::server::Connection;
use h2::{Ping, PingPong, Reason};
use namers::remote::peers::Io;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Scope;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use upgrade::Greeted;

/// Streams of one connection: a Linkerd 1 router has one per name and one per address set, and does not wait for room.
const MAX_STREAMS: u32 = 20_000;
/// Bytes of requests that a client may send ahead, on a stream and in all.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// A header list as the library counts it; the filter is stricter.
const MAX_HEADERS: u32 = 16 * 1024;
/// Streams that clients have given up and of which something is still kept.
const MAX_RESET: usize = 1024;
/// What waits in the library to be written, by stream.
const SEND_BUFFER: usize = 64 * 1024;
/// What small frames of data that nobody has read yet may cost, 256 a frame: one of each stream.
const SMALL_FRAMES: usize = MAX_STREAMS as usize * 256;
/// The client's first words may take so long.
const GREETING: Duration = Duration::from_secs(10);
/// Clients are asked so often whether they are still there, and may take as long to answer.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A client that is sent away may take so long to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// See the module.
pub struct MeshInterface {
    names: Names,
    access: Access,
    stats: InterfaceStats,
}

impl MeshInterface {
    /// An interface that answers from `names` to whom `access` lets in.
    pub fn new(names: Names, access: Access) -> MeshInterface {
        MeshInterface { names, access, stats: InterfaceStats::default() }
    }

    /// The same, counting below `scope`.
    pub fn counting(self, scope: &Scope) -> MeshInterface {
        MeshInterface { stats: InterfaceStats::new(scope), ..self }
    }
}

impl Interface for MeshInterface {
    fn kind(&self) -> &'static str {
        "io.l5d.mesh"
    }

    fn stats(&self) -> &InterfaceStats {
        &self.stats
    }

    fn alpn(&self) -> Vec<Vec<u8>> {
        vec![b"h2".to_vec()]
    }

    fn serve(self: Arc<Self>, io: Box<dyn Io>, peer: Peer, closing: Closing) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let address = peer.address;
            let calls = Calls::new(&self, peer, closing.clone());
            if let Err(reason) = converse(calls, io, closing).await {
                self.stats.cut_off();
                tracing::debug!(peer = %address, "a connection of io.l5d.mesh ends: {reason}");
            }
        })
    }
}

/// A connection from the first byte to the last.
async fn converse(calls: Calls, io: Box<dyn Io>, mut closing: Closing) -> Result<(), String> {
    let (connection, verdict) = tokio::select! {
        begun = begin(io) => begun?,
        // Nothing has been asked yet.
        _ = closing.wait_for(|closing| *closing) => return Ok(()),
    };
    drive(connection, calls, verdict, closing).await
}

/// A connection, once its client has said enough to begin one.
async fn begin(
    io: Box<dyn Io>,
) -> Result<(Connection<Filter<Box<dyn Io>>, Bytes>, watch::Receiver<Option<Reason>>), String> {
    let late = |_| format!("no HTTP/2 preface within {GREETING:?}");
    let Greeted { io, begun, request } = timeout(GREETING, upgrade::greet(io)).await.map_err(late)??;
    let (filter, verdict) = Filter::new(io, &begun, request);
    let handshake = builder().handshake::<_, Bytes>(filter);
    let connection = timeout(GREETING, handshake).await.map_err(late)?.map_err(|error| error.to_string())?;
    Ok((connection, verdict))
}

fn builder() -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_reset_streams(MAX_RESET)
        .max_pending_accept_reset_streams(MAX_RESET)
        .max_local_error_reset_streams(Some(MAX_RESET))
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES);
    builder
}

/// Serves the streams of a connection until it is over. What is under way ends with this future.
async fn drive(
    mut connection: Connection<Filter<Box<dyn Io>>, Bytes>,
    calls: Calls,
    mut verdict: watch::Receiver<Option<Reason>>,
    mut closing: Closing,
) -> Result<(), String> {
    let gone = silent(connection.ping_pong());
    tokio::pin!(gone);
    let mut under_way = JoinSet::new();
    let (mut refused, mut leaving) = (None, false);
    loop {
        tokio::select! {
            stream = connection.accept() => match stream {
                Some(Ok((request, respond))) => {
                    under_way.spawn(calls.clone().serve(request, respond));
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return refused.map_or(Ok(()), Err),
            },
            Some(_) = under_way.join_next() => {}
            Ok(reason) = verdict.wait_for(Option::is_some), if refused.is_none() => {
                let reason = reason.unwrap_or(Reason::PROTOCOL_ERROR);
                refused = Some(format!("the client is sent away: {reason}"));
                connection.abrupt_shutdown(reason);
                under_way.abort_all();
            }
            () = sleep(FAREWELL), if refused.is_some() => return refused.map_or(Ok(()), Err),
            _ = closing.wait_for(|closing| *closing), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
            }
            () = &mut gone => return Err(format!("no answer to a ping within {PING_EVERY:?}")),
        }
    }
}

/// Ends when the client does not answer a ping in time.
async fn silent(pings: Option<PingPong>) {
    let Some(mut pings) = pings else { return pending().await };
    loop {
        sleep(PING_EVERY).await;
        match timeout(PING_EVERY, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection says itself what is wrong with it.
            Ok(Err(_)) => return pending().await,
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
