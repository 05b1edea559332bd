//! The request path of a worker, straight through, for every protocol; and the connections of HTTP/1 clients.
//!
//! `serve` tells what a client speaks. For HTTP/1 it reads request heads, one at a time, and keeps the connection's timers;
//! `h2::serve` does so for HTTP/2. `exchange` is the path of one request: `prepare` names it, `attempt` sends it once
//! (`connect` makes connections), `answer` passes the response on, `record` counts, `notes` are for the access log, `relay`
//! moves bodies; `down` and `up` are the two sides of an exchange, whatever protocol they speak. Not for: names
//! (`route`), balancing (`balance`), framing (`http1`).

mod acquire;
mod answer;
mod attempt;
mod begun;
mod call;
mod compress;
mod connect;
mod diagnose;
mod discard;
mod down;
mod egress;
mod exchange;
mod fault;
mod lease;
mod notes;
mod prepare;
mod record;
mod relay;
mod replay;
mod stall;
mod tunnel;
mod up;
mod upgrade;
mod why;

pub(crate) use down::Down;
pub(crate) use exchange::run as run_request;
pub(crate) use up::Up;

use crate::clock;
use crate::config::ServerProtocol;
use crate::error::{Kind, RouteError};
use crate::forwarded::Labels;
use crate::h2::{self, PREFACE, Sniffed, Transport, sniff};
use crate::meter::Metered;
use crate::overrides::CallerIdentity;
use crate::respond;
use crate::secure::{self, Secured};
use crate::server::Admission;
use crate::stream::Stream;
use crate::timer::{Elapsed, NEVER, Slot};
use crate::worker::{Home, WorkerServer};
use bytes::{Bytes, BytesMut};
use down::Head;
use http::{HeaderMap, StatusCode, Version};
use http1::{BodyDecoder, BodyEncoder, BodyFrame, BodyLength, Conn, HeadError, RequestHead};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tracing::debug;

/// After a refused request, the client's remaining bytes are read for so long, so that it sees the answer.
const LINGER: Duration = Duration::from_secs(1);
/// And at most so many bytes: many clients send all of a body before they look for an answer.
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// What is known of a client's connection as long as it lives.
pub(crate) struct Connection {
    /// What is in force on the listener that accepted it.
    pub(crate) home: Rc<Home>,
    pub(crate) peer: SocketAddr,
    local: Option<SocketAddr>,
    /// `http`, or `https` where it is encrypted.
    pub(crate) scheme: &'static str,
    /// Who that is, for what is allowed to whom.
    pub(crate) caller: CallerIdentity,
    /// What TLS knows of the connection; none without TLS.
    pub(crate) secured: Option<Box<Secured>>,
    opened: u64,
    /// What `addForwardedHeader` says of this connection, and the listener's settings that say so.
    labels: RefCell<Option<(Rc<WorkerServer>, Rc<Labels>)>>,
    /// Resets with PROTOCOL_ERROR that were a service's and were passed on.
    pub(crate) passed_on: Cell<u64>,
}

/// A request of a client; of one that speaks HTTP/1, one after another.
pub(crate) struct Session {
    pub(crate) connection: Rc<Connection>,
    /// What was in force when the request at hand began.
    pub(crate) cx: Rc<WorkerServer>,
    pub(crate) conn: Down,
    pub(crate) slot: Rc<Slot>,
    /// A request was read from this connection.
    served: bool,
    /// The id of the request under way, as in `l5d-reqid`; 0 while it has none.
    pub(crate) request_id: Cell<u64>,
    /// The request under way asks for another protocol: what follows it may be no request (attack H1-9).
    pub(crate) upgrading: Cell<bool>,
    /// The request under way is a call of gRPC over HTTP/2: its client reads `grpc-status`.
    pub(crate) is_grpc: Cell<bool>,
}

/// What becomes of the connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request may come.
    Keep,
    /// Close; the client has been told, and has sent all it wanted.
    Close,
    /// Close, after reading what the client still sends.
    Linger,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    home: Rc<Home>,
    socket: tokio::net::TcpStream,
    peer: SocketAddr,
    slot: Rc<Slot>,
    admission: Admission,
) {
    let cx = home.current();
    let meter = Box::new(Metered(cx.server.stats.transport.connection()));
    let (mut stream, secured) = match &cx.server.tls {
        None => (Stream::Plain(socket), None),
        // A box of its own: connections that are only open are not to hold the room of a handshake.
        Some(tls) => match Box::pin(secure::accept((tls, &cx.server, &cx.pace), socket, peer, &slot)).await {
            Some((stream, secured)) => (stream, Some(secured)),
            None => return,
        },
    };
    let certificate = secured.as_ref().and_then(|secured| secured.peer()?.name()).map(Arc::from);
    let caller = CallerIdentity { certificate, ..CallerIdentity::plain(peer) };
    let (local, scheme) = (stream.tcp().local_addr().ok(), stream.scheme());
    let labels = RefCell::default();
    let connection = Rc::new(Connection {
        home,
        peer,
        local,
        scheme,
        caller,
        secured,
        opened: clock::now(),
        labels,
        passed_on: Cell::new(0),
    });
    match spoken(&connection, &cx, &mut stream, &slot).await {
        Some(Spoken::H2(lead)) => {
            Box::pin(h2::serve(connection, Transport::new(stream, lead, *meter), slot)).await;
        }
        Some(Spoken::H1(lead)) => {
            let conn = Conn::new(stream).with_meter(meter).with_lead(&lead);
            Session::new(connection, cx, Down::H1(Box::new(conn)), slot).run().await;
        }
        Some(Spoken::Neither(lead)) => {
            let conn = Conn::new(stream).with_meter(meter).with_lead(&lead);
            Box::pin(Session::new(connection, cx, Down::H1(Box::new(conn)), slot).refuse_protocol()).await;
        }
        None => {}
    }
    // Counted until here, also when the task is dropped or panics.
    drop(admission);
}

/// What a client turned out to speak, and what was read to find out.
enum Spoken {
    H1(Bytes),
    H2(Bytes),
    /// What the listener does not serve.
    Neither(Bytes),
}

/// Tells what a client speaks: by ALPN, or by its first bytes where the listener serves HTTP/2 without TLS (RFC 9113
/// §3.3). None when it says nothing in time.
async fn spoken(connection: &Connection, cx: &WorkerServer, stream: &mut Stream, slot: &Slot) -> Option<Spoken> {
    let protocol = cx.server.params.protocol;
    if protocol == ServerProtocol::Http {
        return Some(Spoken::H1(Bytes::new()));
    }
    if stream.alpn() == Some(b"h2") {
        return Some(Spoken::H2(Bytes::new()));
    }
    slot.set(connection.idle_until(cx));
    let mut lead = BytesMut::with_capacity(PREFACE.len());
    while sniff(&lead) == Sniffed::More {
        let first = lead.is_empty();
        let mut rest = (&mut *stream).take((PREFACE.len() - lead.len()) as u64);
        let reading = rest.read_buf(&mut lead);
        let read = if first { first_word(slot, reading).await } else { slot.run(reading).await };
        match read {
            Ok(Ok(0)) if first => return None,
            // What there is of it is for the codec to refuse.
            Ok(Ok(0)) => break,
            Ok(Ok(_)) if lead.len() < PREFACE.len() => {
                slot.set(clock::now().saturating_add(clock::nanos(cx.server.params.header_timeout)));
            }
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
    slot.set(NEVER);
    let lead = lead.freeze();
    Some(match protocol {
        _ if sniff(&lead) == Sniffed::H2 => Spoken::H2(lead),
        ServerProtocol::Detect => Spoken::H1(lead),
        ServerProtocol::H2 | ServerProtocol::Http => Spoken::Neither(lead),
    })
}

/// Waits for the first word of a client, as long as `slot` is not due. One that was accepted and not yet heard when its
/// listener ends has a moment left: its first request is on its way.
pub(crate) async fn first_word<F: Future>(slot: &Slot, reading: F) -> Result<F::Output, Elapsed> {
    let mut reading = pin!(reading);
    match slot.run_idle(reading.as_mut()).await {
        Err(Elapsed::Drained) => {
            slot.set(clock::now().saturating_add(clock::nanos(LINGER)));
            slot.run(reading).await
        }
        read => read,
    }
}

impl Connection {
    /// Whether the caller may learn names, addresses and texts of errors, and is believed what it says of others
    /// (requirements §5, rule 4).
    fn is_trusted(&self, cx: &WorkerServer) -> bool {
        cx.server.gate.trusts(&self.caller)
    }

    /// False when a reload has put TLS in force on the listener, or client certificates, and this connection is from
    /// before. Then nothing more is served on it.
    pub(crate) fn is_as_secure_as_asked(&self, cx: &WorkerServer) -> bool {
        match (&cx.server.tls, &self.secured) {
            (Some(tls), Some(secured)) => !tls.requires_client_auth() || secured.peer().is_some(),
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    /// True when the connection is older than `serverSession.lifeTimeMs`: the next answer is its last.
    pub(crate) fn is_aged(&self, cx: &WorkerServer) -> bool {
        let age = clock::now().saturating_sub(self.opened);
        cx.server.params.life_time.is_some_and(|life| age >= clock::nanos(life))
    }

    /// When an idle connection is closed. One that is too old has a little longer: a request that is on its way is
    /// answered, with the news that it was the last.
    pub(crate) fn idle_until(&self, cx: &WorkerServer) -> u64 {
        let params = &cx.server.params;
        let idle = params.socket.read_timeout.map_or(params.idle_time, |read| read.min(params.idle_time));
        let idle = clock::now().saturating_add(clock::nanos(idle));
        let life = params.life_time.map_or(NEVER, |life| self.opened.saturating_add(clock::nanos(life + LINGER)));
        idle.min(life)
    }

    /// Counts a connection that is closed for having been idle, or for its age.
    pub(crate) fn count_idle(&self, cx: &WorkerServer) {
        let stats = &cx.server.stats;
        if self.is_aged(cx) { stats.lifetime.incr() } else { stats.idle.incr() }
    }

    fn labels(&self, cx: &Rc<WorkerServer>) -> Option<Rc<Labels>> {
        let params = cx.server.params.forwarded.as_ref()?;
        let mut known = self.labels.borrow_mut();
        if let Some((made_for, labels)) = &*known
            && Rc::ptr_eq(made_for, cx)
        {
            return Some(labels.clone());
        }
        let labels = Rc::new(Labels::new(params, self.local, self.peer));
        *known = Some((cx.clone(), labels.clone()));
        Some(labels)
    }
}

impl Session {
    /// A session at its start.
    pub(crate) fn new(connection: Rc<Connection>, cx: Rc<WorkerServer>, conn: Down, slot: Rc<Slot>) -> Session {
        let request_id = Cell::new(0);
        let (upgrading, is_grpc) = (Cell::new(false), Cell::new(false));
        Session { connection, cx, conn, slot, served: false, request_id, upgrading, is_grpc }
    }

    /// Reads the end of a request that announces no bytes and has not ended with its head; false when it has some, or is
    /// reset (attack H2-11).
    pub(crate) async fn is_really_empty(&mut self) -> bool {
        self.slot.set(clock::now().saturating_add(clock::nanos(self.cx.server.params.header_timeout)));
        let mut decoder = BodyDecoder::new(BodyLength::Empty);
        let conn = &mut self.conn;
        let read = self.slot.run(poll_fn(|cx| conn.poll_body(cx, &mut decoder))).await;
        self.slot.set(NEVER);
        matches!(read, Ok(Ok(None | Some(BodyFrame::Trailers(_)))))
    }

    async fn run(&mut self) {
        // What a connection that waits for a request holds is this small future; a request lives in a box of its own.
        while self.wait().await {
            // A reload between two requests is in force from the next one on.
            let current = self.connection.home.current();
            if !Rc::ptr_eq(&current, &self.cx) {
                self.cx = current;
            }
            if !self.connection.is_as_secure_as_asked(&self.cx) {
                return;
            }
            match Box::pin(self.one_request()).await {
                After::Keep if !self.slot.is_ending() => {}
                // The answer did not say that it is the last one. What the client sends next, and nobody reads, would turn
                // the close into a reset, and take the end of the answer away.
                After::Keep | After::Linger => return Box::pin(self.linger()).await,
                After::Close => return,
            }
        }
        if self.connection.secured.is_some() {
            Box::pin(self.farewell()).await;
        }
    }

    /// Says goodbye as TLS wants it, between two requests only: it would make a broken body look whole.
    async fn farewell(&mut self) {
        self.slot.set(clock::now() + clock::nanos(LINGER));
        let Down::H1(conn) = &mut self.conn else { return };
        // Whoever is gone does not hear it.
        let _ = self.slot.run(conn.shutdown()).await;
    }

    /// Waits for the first byte of a request as long as the server's session limits allow; false: there is none.
    async fn wait(&mut self) -> bool {
        if self.has_buffered() {
            return true;
        }
        let Down::H1(conn) = &mut self.conn else { return false };
        self.slot.set(self.connection.idle_until(&self.cx));
        let reading = conn.wait_readable();
        let outcome =
            if self.served { self.slot.run_idle(reading).await } else { first_word(&self.slot, reading).await };
        self.slot.set(NEVER);
        match outcome {
            Ok(Ok(readable)) => readable,
            Ok(Err(_)) | Err(Elapsed::Drained) => false,
            Err(Elapsed::Deadline) => {
                self.connection.count_idle(&self.cx);
                false
            }
        }
    }

    async fn one_request(&mut self) -> After {
        let head = self.read_head().await;
        self.served = true;
        match head {
            Ok(head) => exchange::run(self, head, None).await,
            Err(HeadError::Closed | HeadError::Io(_)) => After::Close,
            Err(error) => self.refuse(&error).await,
        }
    }

    async fn read_head(&mut self) -> Result<RequestHead, HeadError> {
        let Down::H1(conn) = &mut self.conn else { return Err(HeadError::Closed) };
        let recycled = self.cx.spare.take();
        let mut reading = pin!(conn.read_request(&self.cx.router.limits, recycled));
        // Nearly always the whole head is there: then no deadline is set at all.
        if let Poll::Ready(outcome) = poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
            return outcome;
        }
        let params = &self.cx.server.params;
        let limit = params.socket.read_timeout.map_or(params.header_timeout, |read| read.min(params.header_timeout));
        self.slot.set(clock::now().saturating_add(clock::nanos(limit)));
        let outcome = self.slot.run(reading).await;
        self.slot.set(NEVER);
        outcome.unwrap_or_else(|_| {
            debug!(peer = %self.connection.peer, "request head took longer than {limit:?}");
            Err(HeadError::Truncated)
        })
    }

    fn has_buffered(&self) -> bool {
        matches!(&self.conn, Down::H1(conn) if conn.has_buffered())
    }

    /// Whether the caller may learn names, addresses and texts of errors, and is believed what it says of others
    /// (requirements §5, rule 4).
    pub(crate) fn trusts_caller(&self) -> bool {
        self.connection.is_trusted(&self.cx)
    }

    /// What `addForwardedHeader` says of this connection; None without it.
    pub(crate) fn labels(&self) -> Option<Rc<Labels>> {
        self.connection.labels(&self.cx)
    }

    /// Whom an error is told to. A request that has no id yet gets one.
    pub(crate) fn told(&self) -> respond::Caller {
        let id = self.request_id.get();
        let request_id = if id == 0 { fastrand::u64(1..) } else { id };
        self.request_id.set(request_id);
        respond::Caller { trusted: self.trusts_caller(), request_id }
    }

    /// True when the answer at hand is the last one of the connection.
    pub(crate) fn is_last(&self) -> bool {
        self.slot.is_ending() || self.connection.is_aged(&self.cx)
    }

    /// Makes the coming close a reset, when nothing else could tell the client that its response is not whole.
    pub(crate) fn abort_if(&mut self, needed: bool, reason: ::h2::Reason) {
        if needed || self.conn.is_h2() {
            self.abort(reason);
        }
    }

    /// Ends the request with a reset.
    pub(crate) fn abort(&mut self, reason: ::h2::Reason) {
        if reason == ::h2::Reason::PROTOCOL_ERROR {
            self.connection.passed_on.set(self.connection.passed_on.get() + 1);
        }
        self.conn.abort(reason);
    }

    /// Writes what is queued, while the client takes it.
    pub(crate) async fn finish(&mut self, keep: bool) -> After {
        self.slot.set(stall::from_now(stall::Stalls::client_takes(&self.cx.server.params)));
        let written = matches!(self.slot.run(self.conn.flush()).await, Ok(Ok(())));
        self.slot.set(NEVER);
        match (written, keep) {
            (true, true) => After::Keep,
            (true, false) => After::Linger,
            (false, _) => After::Close,
        }
    }

    /// Answers a head that is not HTTP, or too large (data-plane reference §8.1). Counted in `rejected_total`.
    pub(crate) async fn refuse(&mut self, error: &HeadError) -> After {
        let reason = error.reason();
        metrics::counter!("rejected_total", "reason" => reason).increment(1);
        let limit = self.cx.router.limit_of(error).unwrap_or_default();
        debug!(peer = %self.connection.peer, listener = %self.cx.server.label, %error, limit, "request refused");
        let hint = match reason {
            "http2-preface" => ". This listener speaks HTTP/1 only; `protocol: detect` on the server serves both",
            _ => "",
        };
        let refusal = RouteError::new(Kind::BadRequest, format!("request refused: {error}{limit}{hint}"));
        self.request_id.set(0);
        let response = respond::response(&refusal, self.cx.router.error_limits, self.told());
        self.write_error(&response, error.status(), Version::HTTP_11, false, false);
        self.finish(false).await
    }

    /// Queues an error response.
    pub(crate) fn write_error(
        &mut self,
        response: &respond::ErrorResponse,
        status: StatusCode,
        version: Version,
        head_only: bool,
        keep_alive: bool,
    ) {
        let length = response.body.len() as u64;
        let body = if head_only { BodyLength::Empty } else { BodyLength::Length(length) };
        self.conn.write_head(Head {
            status,
            reason: None,
            version,
            headers: &mut HeaderMap::new(),
            fields: Bytes::copy_from_slice(&response.fields),
            body,
            length: Some(length),
            keep_alive,
        });
        let mut encoder = BodyEncoder::new(body);
        let piece: &[u8] = if head_only { &[] } else { &response.body };
        // The length is that of the piece.
        let _ = self.conn.copy_body(&mut encoder, piece);
        let _ = self.conn.finish_body(&mut encoder, None);
    }

    /// Answers a client that speaks HTTP/1 to a listener of HTTP/2 alone.
    async fn refuse_protocol(mut self) {
        metrics::counter!("rejected_total", "reason" => "protocol").increment(1);
        let label = &self.cx.server.label;
        let text = format!(
            "The listener {label} speaks HTTP/2 only, and this is not the preface of HTTP/2. Please use HTTP/2 with prior \
             knowledge, or set `protocol: detect` on the server."
        );
        debug!(peer = %self.connection.peer, "{text}");
        let refusal = RouteError::new(Kind::BadRequest, text);
        let response = respond::response(&refusal, self.cx.router.error_limits, self.told());
        self.write_error(&response, response.status, Version::HTTP_11, false, false);
        if self.finish(false).await == After::Linger {
            self.linger().await;
        }
    }

    /// Half-closes and reads what the client still sends: closing at once could take the answer away from it.
    async fn linger(&mut self) {
        self.slot.set(clock::now() + clock::nanos(LINGER));
        let Down::H1(conn) = &mut self.conn else { return };
        let drain = async {
            if conn.shutdown().await.is_err() {
                return;
            }
            let socket = conn.io_mut();
            let mut scratch = [0; 4096];
            let mut left = LINGER_BYTES;
            while let Ok(read @ 1..) = tokio::io::AsyncReadExt::read(socket, &mut scratch).await {
                left = left.saturating_sub(read);
                if left == 0 {
                    return;
                }
            }
        };
        // Whichever comes first; the connection is closed either way.
        let _ = self.slot.run(drain).await;
    }
}
