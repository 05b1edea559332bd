//! The HTTP/1 request path of a worker: one task per connection, one request at a time, straight through.
//!
//! `serve` reads request heads and keeps the connection's timers; `exchange` is the path of one request: `prepare` names
//! it, `attempt` sends it once (`connect` makes connections), `answer` passes the response on, `record` counts, `notes`
//! are for the access log, `relay` moves bodies. Not for: names (`route`), balancing (`balance`), framing (`http1`).

mod acquire;
mod answer;
mod attempt;
mod compress;
mod connect;
mod diagnose;
mod discard;
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
mod upgrade;
mod why;

pub(crate) use relay::append_fields;

use crate::clock;
use crate::error::{Kind, RouteError};
use crate::forwarded::Labels;
use crate::meter::Metered;
use crate::overrides::CallerIdentity;
use crate::respond;
use crate::secure::{self, Secured};
use crate::server::Admission;
use crate::stream::Stream;
use crate::timer::{Elapsed, NEVER, Slot};
use crate::worker::{Home, WorkerServer};
use http::{HeaderMap, StatusCode, Version};
use http1::{BodyLength, Conn, HeadError, RequestHead, encode_response_head};
use std::cell::{Cell, OnceCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tracing::debug;

/// After a refused request, the client's remaining bytes are read for so long, so that it sees the answer.
const LINGER: Duration = Duration::from_secs(1);
/// And at most so many bytes.
const LINGER_BYTES: usize = 256 * 1024;

/// A client's connection.
pub(crate) struct Session {
    /// What is in force on the listener that accepted it.
    home: Rc<Home>,
    /// What was in force when the request at hand began.
    pub(crate) cx: Rc<WorkerServer>,
    pub(crate) conn: Conn<Stream>,
    pub(crate) slot: Rc<Slot>,
    pub(crate) peer: SocketAddr,
    /// Who that is, for what is allowed to whom.
    pub(crate) caller: CallerIdentity,
    /// What TLS knows of the connection; none without TLS.
    pub(crate) secured: Option<Box<Secured>>,
    opened: u64,
    /// A request was read from this connection.
    served: bool,
    /// The id of the request under way, as in `l5d-reqid`; 0 while it has none.
    pub(crate) request_id: Cell<u64>,
    /// The request under way asks for another protocol: what follows it may be no request (attack H1-9).
    pub(crate) upgrading: Cell<bool>,
    /// What `addForwardedHeader` says of this connection.
    labels: OnceCell<Box<Labels>>,
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
    let (stream, secured) = match &cx.server.tls {
        None => (Stream::Plain(socket), None),
        // A box of its own: connections that are only open are not to hold the room of a handshake.
        Some(tls) => match Box::pin(secure::accept((tls, &cx.server, &cx.pace), socket, peer, &slot)).await {
            Some((stream, secured)) => (stream, Some(secured)),
            None => return,
        },
    };
    let conn = Conn::new(stream).with_meter(meter);
    let certificate = secured.as_ref().and_then(|secured| secured.peer()?.name()).map(Arc::from);
    let caller = CallerIdentity { certificate, ..CallerIdentity::plain(peer) };
    let mut session = Session {
        home,
        cx,
        conn,
        slot,
        peer,
        caller,
        secured,
        opened: clock::now(),
        served: false,
        request_id: Cell::new(0),
        upgrading: Cell::new(false),
        labels: OnceCell::new(),
    };
    session.run().await;
    // Counted until here, also when the task is dropped or panics.
    drop(admission);
}

impl Session {
    async fn run(&mut self) {
        // What a connection that waits for a request holds is this small future; a request lives in a box of its own.
        while self.wait().await {
            // A reload between two requests is in force from the next one on.
            let current = self.home.current();
            if !Rc::ptr_eq(&current, &self.cx) {
                self.cx = current;
                self.labels.take();
            }
            if !self.is_as_secure_as_asked() {
                return;
            }
            match Box::pin(self.one_request()).await {
                After::Keep if !self.slot.is_ending() => {}
                // Pipelined bytes that nobody reads would turn the close into a reset, and the answer with it.
                After::Keep if self.conn.has_buffered() => return Box::pin(self.linger()).await,
                After::Keep => break,
                After::Close => return,
                After::Linger => return Box::pin(self.linger()).await,
            }
        }
        if self.conn.io().is_tls() {
            Box::pin(self.farewell()).await;
        }
    }

    /// False when a reload has put TLS in force on the listener, or client certificates, and this connection is from
    /// before. Then nothing more is served on it.
    fn is_as_secure_as_asked(&self) -> bool {
        match (&self.cx.server.tls, &self.secured) {
            (Some(tls), Some(secured)) => !tls.requires_client_auth() || secured.peer().is_some(),
            (Some(_), None) => false,
            (None, _) => true,
        }
    }

    /// Says goodbye as TLS wants it, between two requests only: it would make a broken body look whole.
    async fn farewell(&mut self) {
        self.slot.set(clock::now() + clock::nanos(LINGER));
        // Whoever is gone does not hear it.
        let _ = self.slot.run(self.conn.shutdown()).await;
    }

    /// Waits for the first byte of a request as long as the server's session limits allow; false: there is none.
    async fn wait(&mut self) -> bool {
        if self.conn.has_buffered() {
            return true;
        }
        self.slot.set(self.idle_until());
        let mut outcome = self.slot.run_idle(self.conn.wait_readable()).await;
        if matches!(outcome, Err(Elapsed::Drained)) && !self.served {
            // Accepted, and not yet heard: the first request of a connection is on its way.
            self.slot.set(clock::now() + clock::nanos(LINGER));
            outcome = self.slot.run(self.conn.wait_readable()).await;
        }
        self.slot.set(NEVER);
        match outcome {
            Ok(Ok(readable)) => readable,
            Ok(Err(_)) | Err(Elapsed::Drained) => false,
            Err(Elapsed::Deadline) => {
                let stats = &self.cx.server.stats;
                if self.is_aged() {
                    stats.lifetime.incr()
                } else {
                    stats.idle.incr()
                }
                false
            }
        }
    }

    async fn one_request(&mut self) -> After {
        let head = self.read_head().await;
        self.served = true;
        match head {
            Ok(head) => exchange::run(self, head).await,
            Err(HeadError::Closed | HeadError::Io(_)) => After::Close,
            Err(error) => self.refuse(&error).await,
        }
    }

    async fn read_head(&mut self) -> Result<RequestHead, HeadError> {
        let recycled = self.cx.spare.take();
        let mut reading = std::pin::pin!(self.conn.read_request(&self.cx.router.limits, recycled));
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
            debug!(peer = %self.peer, "request head took longer than {limit:?}");
            Err(HeadError::Truncated)
        })
    }

    /// Whether the caller may learn names, addresses and texts of errors, and is believed what it says of others
    /// (requirements §5, rule 4).
    pub(crate) fn trusts_caller(&self) -> bool {
        self.cx.server.gate.trusts(&self.caller)
    }

    /// What `addForwardedHeader` says of this connection; None without it.
    pub(crate) fn labels(&self) -> Option<&Labels> {
        let params = self.cx.server.params.forwarded.as_ref()?;
        let make = || Box::new(Labels::new(params, self.conn.io().tcp().local_addr().ok(), self.peer));
        Some(self.labels.get_or_init(make))
    }

    /// Whom an error is told to. A request that has no id yet gets one.
    pub(crate) fn told(&self) -> respond::Caller {
        let id = self.request_id.get();
        let request_id = if id == 0 { fastrand::u64(1..) } else { id };
        self.request_id.set(request_id);
        respond::Caller { trusted: self.trusts_caller(), request_id }
    }

    /// True when the connection is older than `serverSession.lifeTimeMs`: the next answer is its last.
    pub(crate) fn is_aged(&self) -> bool {
        let age = clock::now().saturating_sub(self.opened);
        self.cx.server.params.life_time.is_some_and(|life| age >= clock::nanos(life))
    }

    /// When an idle connection is closed. One that is too old has a little longer: a request that is on its way is
    /// answered, with the news that it was the last.
    fn idle_until(&self) -> u64 {
        let params = &self.cx.server.params;
        let idle = params.socket.read_timeout.map_or(params.idle_time, |read| read.min(params.idle_time));
        let idle = clock::now().saturating_add(clock::nanos(idle));
        let life = params.life_time.map_or(NEVER, |life| self.opened.saturating_add(clock::nanos(life + LINGER)));
        idle.min(life)
    }

    /// Makes the coming close a reset, when nothing else could tell the client that its response is not whole.
    pub(crate) fn abort_if(&self, needed: bool) {
        if needed {
            self.conn.io().abort_on_close();
        }
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
    async fn refuse(&mut self, error: &HeadError) -> After {
        let reason = error.reason();
        metrics::counter!("rejected_total", "reason" => reason).increment(1);
        let limit = self.cx.router.limit_of(error).unwrap_or_default();
        debug!(peer = %self.peer, listener = %self.cx.server.label, %error, limit, "request refused");
        let refusal = RouteError::new(Kind::BadRequest, format!("request refused: {error}{limit}"));
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
        let out = self.conn.out();
        encode_response_head(out, status, None, version, &HeaderMap::new(), body, keep_alive, Some(length));
        relay::append_fields(out, &response.fields);
        if !head_only {
            out.extend_from_slice(&response.body);
        }
    }

    /// Half-closes and reads what the client still sends: closing at once could take the answer away from it.
    async fn linger(&mut self) {
        self.slot.set(clock::now() + clock::nanos(LINGER));
        let conn = &mut self.conn;
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
