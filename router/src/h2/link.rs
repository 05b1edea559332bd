//! [`Link`]: one connection of a worker to an endpoint, shared by the requests that are on it.
//!
//! Made by `request::connect`, kept by `links`. A task of its own moves its frames, and asks the endpoint now and then whether
//! it is still there. It ends when nobody holds the link and its last request is over, when the endpoint goes away, or
//! when an answer to a PING does not come. Not for: which endpoint, or which of its connections (`links`).

use super::keep_alive::{Event, KeepAlive};
use super::transport::Flow;
use super::watch::{Side, WatchHandle, WatchLimits, Watched};
use super::{Outbound, Transport};
use crate::client::ClientStats;
use crate::clock;
use crate::config::H2Params;
use crate::pool::Place;
use balance::Endpoint;
use bytes::Bytes;
use h2::client::{self, Connection, SendRequest};
use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What is written of one request and not yet taken by the socket, at most, in bytes.
pub(super) const SEND_BUFFER: usize = 64 * 1024;
/// Streams of a connection that were reset and may still be spoken of: frames for them are no errors.
pub(super) const REMEMBERED_RESETS: usize = 4096;
/// What the frames of a connection may hold beside their bytes, until they are read.
pub(super) const FRAMES_HELD: usize = 8 * 1024 * 1024;

/// What a link and its task know of each other.
#[derive(Debug, Default)]
struct State {
    /// Requests on it.
    open: Cell<usize>,
    /// No more requests: it ended, or the endpoint has said that it goes away.
    over: Cell<bool>,
    /// It has served a request.
    used: Cell<bool>,
    /// When the last request on it ended, or it was made.
    last_used: Cell<u64>,
}

/// See the module.
pub(crate) struct Link {
    sender: SendRequest<Bytes>,
    state: Rc<State>,
    pub(super) endpoint: Arc<Endpoint>,
    created: u64,
    limits: Limits,
    stats: Arc<ClientStats>,
    _place: Place,
}

/// How long a link is kept, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Without a request.
    pub(crate) idle: u64,
    /// In all.
    pub(crate) life: u64,
}

/// One request's share of a link.
pub(super) struct Share {
    state: Rc<State>,
    reused: bool,
}

impl Share {
    /// True when the link has served before.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.state.open.set(self.state.open.get() - 1);
        self.state.last_used.set(clock::now());
    }
}

/// A link that is being made: the endpoint has not yet said what it allows.
pub(crate) struct Opening {
    sender: SendRequest<Bytes>,
    connection: Connection<Watched<Transport>, Bytes>,
    flow: Rc<Flow>,
    watch: WatchHandle,
}

impl Opening {
    /// Begins to speak HTTP/2.
    ///
    /// # Errors
    /// What the codec says.
    pub(crate) async fn begin(transport: Transport, params: &H2Params) -> Result<Opening, h2::Error> {
        let mut builder = client::Builder::new();
        builder
            .initial_window_size(params.stream_window)
            .initial_connection_window_size(params.connection_window)
            .max_frame_size(params.max_frame)
            .max_header_list_size(params.max_header_list)
            .header_table_size(params.header_table)
            .max_send_buffer_size(SEND_BUFFER)
            .max_concurrent_reset_streams(REMEMBERED_RESETS)
            .data_frame_budget(FRAMES_HELD)
            .max_local_error_reset_streams(None)
            .enable_push(false)
            // Until the endpoint says how many it takes.
            .initial_max_send_streams(0);
        let limits = WatchLimits::upstream().sized_for(params.max_header_list);
        let flow = transport.flow();
        let watched = Watched::new(transport, Side::Client, limits);
        let watch = watched.handle();
        let (sender, connection) = builder.handshake(watched).await?;
        Ok(Opening { sender, connection, flow, watch })
    }

    /// Waits until the endpoint has said how many requests it takes at a time.
    ///
    /// # Errors
    /// What it says instead.
    pub(crate) async fn settled(&mut self) -> Result<(), h2::Error> {
        poll_fn(|cx| match Pin::new(&mut self.connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(h2::Reason::NO_ERROR.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if self.sender.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// The link, which a task serves from now on.
    pub(crate) fn serve(
        self,
        endpoint: Arc<Endpoint>,
        place: Place,
        limits: Limits,
        (keep_alive, stats): (KeepAlive, Arc<ClientStats>),
    ) -> Rc<Link> {
        let now = clock::now();
        let state = Rc::new(State { last_used: Cell::new(now), ..State::default() });
        let driven = state.clone();
        let pings = stats.clone();
        let addr = endpoint.addr();
        let Opening { sender, mut connection, flow, watch } = self;
        tokio::task::spawn_local(async move {
            if let Err(error) = drive(&mut connection, (&flow, &watch), keep_alive, &pings).await {
                tracing::debug!(%addr, "a connection to a service ended: {error}");
            }
            driven.over.set(true);
        });
        Rc::new(Link { sender, state, endpoint, created: now, limits, stats, _place: place })
    }
}

/// Moves frames until the connection is over, or found dead.
async fn drive(
    connection: &mut Connection<Watched<Transport>, Bytes>,
    (flow, watch): (&Flow, &WatchHandle),
    keep_alive: KeepAlive,
    stats: &ClientStats,
) -> Result<(), String> {
    flow.gather();
    let mut asking = pin!(keep_alive.ask(connection.ping_pong(), |event| match event {
        Event::Asked => stats.pings.get().ping.incr(),
        Event::Answered(after) => stats.pings.get().latency_us.add(after.as_micros() as u64),
        Event::Silent => stats.pings.get().close.incr(),
    }));
    poll_fn(|cx| {
        if let Poll::Ready(ended) = flow.drive(cx, |cx| Pin::new(&mut *connection).poll(cx)) {
            return Poll::Ready(ended.map_err(|error| error.to_string()));
        }
        if let Some(flood) = watch.verdict() {
            metrics::counter!("rejected_total", "reason" => flood.what).increment(1);
            return Poll::Ready(Err(flood.text.clone()));
        }
        asking.as_mut().poll(cx).map(Err)
    })
    .await
}

impl Link {
    /// A request on this link, if it takes one more.
    pub(super) fn take(&self) -> Option<Outbound> {
        if self.state.over.get() {
            return None;
        }
        let mut sender = self.sender.clone();
        // Ready at once, unless the endpoint goes away or is gone.
        if let Poll::Ready(Err(_)) = sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            self.state.over.set(true);
            return None;
        }
        if self.state.open.get() >= sender.current_max_send_streams() {
            return None;
        }
        self.state.open.set(self.state.open.get() + 1);
        let reused = self.state.used.replace(true);
        Some(Outbound::new(sender, self.stats.h2.get().open(), Share { state: self.state.clone(), reused }))
    }

    /// Counts that it was found over when a request wanted it.
    pub(super) fn found_dead(&self) {
        self.stats.h2_connects.get().dead.incr();
    }

    /// True when it takes no more requests.
    pub(super) fn is_over(&self) -> bool {
        self.state.over.get() || self.endpoint.is_closed()
    }

    /// True when it is to be let go of: too old, or unused for too long. Its last requests go on.
    pub(super) fn is_spent(&self, now: u64) -> bool {
        let aged = now.saturating_sub(self.created) >= self.limits.life;
        let unused = self.state.open.get() == 0 && now.saturating_sub(self.state.last_used.get()) >= self.limits.idle;
        aged || unused
    }
}
