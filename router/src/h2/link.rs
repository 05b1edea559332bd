//! [`Link`]: one connection of a worker to an endpoint, shared by the requests that are on it.
//!
//! Made by `request::connect`, kept by `links`. A task of its own moves its frames, and asks the endpoint now and then whether
//! it is still there. It ends when nobody holds the link and its last request is over, when the endpoint goes away, or
//! when an answer to a PING does not come. What room it has goes to the requests of its worker that wait in line, if its
//! number is limited (`pool::Place`). Not for: which endpoint, or which of its connections (`links`).

use super::keep_alive::{Event, KeepAlive};
use super::transport::Flow;
use super::watch::{Side, WatchHandle, WatchLimits, Watched};
use super::{Links, Outbound, Transport};
use crate::client::ClientStats;
use crate::clock;
use crate::config::H2Params;
use crate::pool::{Place, Release};
use balance::Endpoint;
use bytes::Bytes;
use h2::client::{self, Connection, SendRequest};
use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
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
    /// The right to it, until it takes no more requests: one that only ends what it serves counts no longer.
    place: RefCell<Option<Place>>,
    /// It is counted as unused.
    unused: Cell<bool>,
    links: Weak<Links>,
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
    link: Weak<Link>,
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
        if let Some(link) = self.link.upgrade() {
            link.attend();
        }
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
        (place, links): (Place, &Rc<Links>),
        limits: Limits,
        (keep_alive, stats): (KeepAlive, Arc<ClientStats>),
    ) -> Rc<Link> {
        let now = clock::now();
        let state = Rc::new(State { last_used: Cell::new(now), ..State::default() });
        let pings = stats.clone();
        let addr = endpoint.addr();
        let Opening { sender, mut connection, flow, watch } = self;
        let (place, unused, links) = (RefCell::new(Some(place)), Cell::new(false), Rc::downgrade(links));
        let link = Rc::new(Link { sender, state, endpoint, created: now, limits, stats, place, unused, links });
        let driven = Rc::downgrade(&link);
        tokio::task::spawn_local(async move {
            if let Err(error) = drive(&mut connection, (&flow, &watch), keep_alive, &pings).await {
                tracing::debug!(%addr, "a connection to a service ended: {error}");
            }
            if let Some(link) = driven.upgrade() {
                link.retire();
            }
        });
        link
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
    let mut asking = pin!(keep_alive.ask(
        connection.ping_pong(),
        || flow.received.get(),
        |event| match event {
            Event::Asked => stats.pings.get().ping.incr(),
            Event::Answered(after) => stats.pings.get().latency_us.add(after.as_micros() as u64),
            Event::Silent => stats.pings.get().close.incr(),
        }
    ));
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
    /// What sends one more request, if it takes one.
    fn ready(&self) -> Option<SendRequest<Bytes>> {
        if self.state.over.get() {
            return None;
        }
        let mut sender = self.sender.clone();
        // Ready at once, unless the endpoint goes away or is gone.
        if let Poll::Ready(Err(_)) = sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            self.retire();
            return None;
        }
        (self.state.open.get() < sender.current_max_send_streams()).then_some(sender)
    }

    /// A request on this link, if it takes one more.
    pub(super) fn take(self: &Rc<Link>) -> Option<Outbound> {
        let sender = self.ready()?;
        self.begin_use();
        self.state.open.set(self.state.open.get() + 1);
        let reused = self.state.used.replace(true);
        let share = Share { state: self.state.clone(), link: Rc::downgrade(self), reused };
        Some(Outbound::new(sender, self.stats.h2.get().open(), share))
    }

    /// It is unused no longer, if it was.
    fn begin_use(&self) {
        if self.unused.replace(false)
            && let Some(place) = &*self.place.borrow()
        {
            place.used();
        }
    }

    /// It takes no more requests, and its place is free. Those that are on it go on.
    fn retire(&self) {
        self.state.over.set(true);
        self.begin_use();
        self.place.take();
    }

    /// Looks what becomes of the room on it: requests in line get it, one that serves nobody is unused, or it makes way.
    pub(super) fn attend(self: &Rc<Link>) {
        while let Some(release) = self.release() {
            match release {
                Release::Hand(waiter) => {
                    if let (Some(links), Some(request)) = (self.links.upgrade(), self.take()) {
                        links.hand(waiter, request);
                    }
                }
                Release::Unused => return self.unused.set(true),
                Release::Close => {
                    self.retire();
                    if let Some(links) = self.links.upgrade() {
                        links.remove(self);
                    }
                    return;
                }
            }
        }
    }

    /// What is to be done with the room on it; None when there is none, or nothing to be done.
    fn release(&self) -> Option<Release> {
        if self.is_limited() && self.ready().is_none() {
            return None;
        }
        let place = self.place.borrow();
        let place = place.as_ref()?;
        match self.state.open.get() {
            _ if place.is_excess() => Some(Release::Close),
            0 if self.unused.get() => None,
            0 => Some(place.release()),
            _ => place.hand().map(Release::Hand),
        }
    }

    /// True when requests may wait for room on it.
    pub(super) fn is_limited(&self) -> bool {
        self.place.borrow().as_ref().is_some_and(Place::is_limited)
    }

    /// True when it serves no request.
    pub(super) fn is_unused(&self) -> bool {
        self.unused.get()
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
        aged || (unused && !self.place.borrow().as_ref().is_some_and(Place::may_stay))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.retire();
    }
}
