//! A client's connection that carries many requests at a time: its settings, its limits, its end.
//!
//! One task moves the frames of the connection and starts one more for every request, which then goes the way of all
//! requests (`request::run_request`). Called by `request::serve`. Not for: what becomes of a request.

use super::keep_alive::KeepAlive;
use super::link::{FRAMES_HELD, REMEMBERED_RESETS, SEND_BUFFER};
use super::transport::Flow;
use super::watch::{Flood, Side, WatchHandle, WatchLimits, Watched};
use super::{Inbound, Transport, heads};
use crate::clock;
use crate::request::{Connection, Down, Session, first_word, run_request};
use crate::timer::{Elapsed, NEVER, Slot};
use crate::worker::WorkerServer;
use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use http1::BodyLength;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use telemetry::H2Stream;
use tracing::{debug, warn};

/// Requests that the client has reset before they were begun, at one time.
const PENDING_RESETS: usize = 1000;
/// After the last word to a client, its connection may take so long to end.
const LAST_MOMENT: Duration = Duration::from_secs(1);

type Codec = server::Connection<Watched<Transport>, Bytes>;

/// What happened on a connection.
#[expect(clippy::large_enum_variant, reason = "one at a time, for a moment; a box would be one more per request")]
enum Came {
    Request(Request<RecvStream>, SendResponse<Bytes>),
    Broke(h2::Error),
    /// It is over.
    End,
    /// Something is to be looked at.
    Nothing,
}

/// Serves a connection until it ends.
pub(crate) async fn serve(connection: Rc<Connection>, transport: Transport, slot: Rc<Slot>) {
    let cx = connection.home.current();
    let params = &cx.server.params;
    let flow = transport.flow();
    let watched = Watched::new(transport, Side::Server, watch_limits(&cx));
    let watch = watched.handle();
    slot.set(clock::now().saturating_add(clock::nanos(params.header_timeout)));
    let shaking = builder(&cx).handshake(watched);
    let mut codec = match first_word(&slot, shaking).await {
        Ok(Ok(codec)) => codec,
        Ok(Err(error)) => return debug!(peer = %connection.peer, "not HTTP/2: {error}"),
        Err(_) => return debug!(peer = %connection.peer, "HTTP/2 was not begun in time"),
    };
    flow.gather();
    let heard = flow.clone();
    let asking = KeepAlive::new(&params.h2).ask(codec.ping_pong(), move || heard.received.get(), |_| {});
    let silent = {
        let mut serving = pin!(
            Serving { connection: connection.clone(), codec, slot, flow, watch, malformed: 0, going: false }.run()
        );
        let mut asking = pin!(asking);
        // The connection first: an answer may be there.
        poll_fn(|task| match serving.as_mut().poll(task) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => asking.as_mut().poll(task).map(Some),
        })
        .await
    };
    if let Some(text) = silent {
        metrics::counter!("rejected_total", "reason" => "h2-no-pong").increment(1);
        debug!(peer = %connection.peer, listener = %cx.server.label, "an HTTP/2 connection is closed: {text}");
    }
}

/// What a client may send, and make us send (attacks H2-2 to H2-7).
fn watch_limits(cx: &WorkerServer) -> WatchLimits {
    let (params, limits) = (&cx.server.params.h2, &cx.server.params.h2_limits);
    WatchLimits {
        resets_per_sec: limits.resets,
        local_resets_per_sec: limits.local_resets,
        control_frames_per_sec: limits.control_frames,
        empty_frames_per_sec: limits.empty_frames,
        continuation_frames: limits.continuation_frames,
        ..WatchLimits::downstream().sized_for(params.max_header_list)
    }
}

fn builder(cx: &WorkerServer) -> server::Builder {
    let params = &cx.server.params.h2;
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(params.stream_window)
        .initial_connection_window_size(params.connection_window)
        .max_frame_size(params.max_frame)
        .max_header_list_size(params.max_header_list)
        .header_table_size(params.header_table)
        .max_concurrent_streams(params.max_streams)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        // By the codec's own measure honest clients with small messages are floods; see `watch`.
        .data_frame_budget(FRAMES_HELD)
        // What these are about is limited by time, in `watch`: the codec counts over the life of a connection.
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(None);
    builder
}

/// A connection that is served.
struct Serving {
    connection: Rc<Connection>,
    codec: Codec,
    slot: Rc<Slot>,
    flow: Rc<Flow>,
    watch: WatchHandle,
    /// Requests that were reset with PROTOCOL_ERROR and are counted.
    malformed: u64,
    /// The client was told that no more requests are served.
    going: bool,
}

impl Serving {
    async fn run(mut self) {
        loop {
            let cx = self.connection.home.current();
            if !self.connection.is_as_secure_as_asked(&cx) {
                return self.end(Reason::INADEQUATE_SECURITY).await;
            }
            if !self.going && (self.slot.is_ending() || self.connection.is_aged(&cx)) {
                self.go();
            }
            let came = self.next(&cx).await;
            self.count_malformed(&cx);
            if let Some(flood) = self.watch.verdict().cloned() {
                return self.calm(&cx, &flood).await;
            }
            match came {
                Ok(Came::Request(request, respond)) => self.start(cx, request, respond),
                Ok(Came::Broke(error)) => return self.broke(&cx, &error),
                Ok(Came::End) => return,
                Ok(Came::Nothing) => {}
                Err(Elapsed::Drained) => self.go(),
                Err(Elapsed::Deadline) => {
                    if !self.is_late(&cx) {
                        continue;
                    }
                    return;
                }
            }
        }
    }

    /// Ends the connection of a client that costs more than it may; the requests on it end too.
    async fn calm(&mut self, cx: &WorkerServer, flood: &Flood) {
        metrics::counter!("rejected_total", "reason" => flood.what).increment(1);
        let (peer, listener) = (self.connection.peer, &cx.server.label);
        warn!(%peer, %listener, reason = flood.what, "an HTTP/2 connection is closed: {}", flood.text);
        self.end(Reason::ENHANCE_YOUR_CALM).await;
    }

    /// Ends the connection and all requests on it; the client is told why, if it listens.
    async fn end(&mut self, reason: Reason) {
        self.codec.abrupt_shutdown(reason);
        self.slot.set(clock::now().saturating_add(clock::nanos(LAST_MOMENT)));
        // Told or not, it ends.
        let Serving { codec, slot, flow, .. } = self;
        let _ = slot.run(poll_fn(|task| flow.drive(task, |task| codec.poll_closed(task)))).await;
    }

    /// Counts requests that were reset for what they are, by the codec or by `heads` (rule R of the attacks).
    fn count_malformed(&mut self, cx: &WorkerServer) {
        let own = self.connection.passed_on.get();
        let refused = self.watch.sent().protocol_errors.saturating_sub(own);
        if refused > self.malformed {
            metrics::counter!("rejected_total", "reason" => "h2-malformed").increment(refused - self.malformed);
            debug!(peer = %self.connection.peer, listener = %cx.server.label, "malformed requests were reset");
            self.malformed = refused;
        }
    }

    /// Counts the end of a connection that was not in order.
    fn broke(&self, cx: &WorkerServer, error: &h2::Error) {
        let (peer, listener) = (self.connection.peer, &cx.server.label);
        if error.is_library() {
            metrics::counter!("rejected_total", "reason" => "h2-protocol").increment(1);
            warn!(%peer, %listener, reason = "h2-protocol", "an HTTP/2 connection is closed: {error}");
        } else {
            debug!(%peer, %listener, "an HTTP/2 connection ended: {error}");
        }
    }

    /// Tells the client that no further requests are served; those that it has sent are.
    fn go(&mut self) {
        self.going = true;
        self.codec.graceful_shutdown();
    }

    /// The next request, while the frames of all others move.
    async fn next(&mut self, cx: &WorkerServer) -> Result<Came, Elapsed> {
        let counted = self.malformed + self.connection.passed_on.get();
        let Serving { connection, codec, slot, flow, watch, going, .. } = self;
        let stall = clock::nanos(cx.server.params.stall_timeout);
        let moving = poll_fn(|task| {
            if let Poll::Ready(came) = flow.drive(task, |task| codec.poll_accept(task)) {
                return Poll::Ready(match came {
                    Some(Ok((request, respond))) => Came::Request(request, respond),
                    Some(Err(error)) => Came::Broke(error),
                    None => Came::End,
                });
            }
            if watch.verdict().is_some() {
                return Poll::Ready(Came::Nothing);
            }
            if watch.sent().protocol_errors > counted {
                return Poll::Ready(Came::Nothing);
            }
            let last_moment = clock::nanos(LAST_MOMENT);
            let idle = match (watch.shut_since(), codec.has_streams(), *going) {
                (Some(since), _, _) => since.saturating_add(last_moment),
                (None, true, _) => NEVER,
                (None, false, true) => clock::now().saturating_add(last_moment),
                (None, false, false) => connection.idle_until(cx),
            };
            let stalled = match flow.blocked.get() {
                0 => NEVER,
                since => since.saturating_add(stall),
            };
            slot.set(idle.min(stalled));
            Poll::Pending
        });
        if *going { slot.run(moving).await } else { slot.run_idle(moving).await }
    }

    /// What is due: true when the connection is to end at once.
    fn is_late(&mut self, cx: &WorkerServer) -> bool {
        let blocked = self.flow.blocked.get();
        let stall = clock::nanos(cx.server.params.stall_timeout);
        if blocked > 0 && clock::now() >= blocked.saturating_add(stall) {
            metrics::counter!("rejected_total", "reason" => "h2-client-takes-nothing").increment(1);
            return true;
        }
        if self.watch.shut_since().is_some() {
            self.watch.give_up();
            return false;
        }
        if self.codec.has_streams() {
            return false;
        }
        if self.going {
            return true;
        }
        self.connection.count_idle(cx);
        self.go();
        false
    }

    /// Starts a task for a request.
    fn start(&self, cx: Rc<WorkerServer>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        if respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready() {
            // The client does not want it any more (attack H2-2).
            return;
        }
        let (parts, body) = request.into_parts();
        let (head, scheme) = match heads::request_head(parts, body.is_end_stream()) {
            Ok(head) => head,
            Err(reason) => {
                debug!(peer = %self.connection.peer, listener = %cx.server.label, reason, "request refused");
                // Counted where it is written, with those that the codec refuses.
                return respond.send_reset(Reason::PROTOCOL_ERROR);
            }
        };
        let open: Option<H2Stream> = Some(cx.server.stats.h2.get().open());
        let slot = self.connection.home.slot();
        let down = Down::H2(Box::new(Inbound::new(respond, body, open)));
        let mut session = Session::new(self.connection.clone(), cx, down, slot);
        // In a box: on its way into a task a future is moved several times.
        tokio::task::spawn_local(Box::pin(async move {
            if head.body == BodyLength::Length(0) && !session.is_really_empty().await {
                return;
            }
            // How the stream ended is settled with it.
            let _ = run_request(&mut session, head, scheme).await;
        }));
    }
}
