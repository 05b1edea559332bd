//! The HTTP/1 request path of a worker: one task per connection, one request at a time, straight through.
//!
//! `serve` reads request heads and keeps the connection's timers; `exchange` is the path of one request: `prepare` names
//! it, `attempt` sends it once (`connect` makes connections), `answer` passes the response on, `record` counts, `relay`
//! moves bodies. Not for: names (`route`), balancing (`balance`), framing (`http1`).

mod answer;
mod attempt;
mod connect;
mod exchange;
mod prepare;
mod record;
mod relay;

use crate::clock;
use crate::error::{Kind, RouteError};
use crate::respond;
use crate::secure::{self, Caller};
use crate::server::Admission;
use crate::stream::Stream;
use crate::timer::{Elapsed, NEVER, Slot};
use crate::worker::{Home, WorkerServer};
use http::{HeaderMap, StatusCode, Version};
use http1::{BodyLength, Conn, HeadError, RequestHead, encode_response_head};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tracing::debug;

/// A request head must be there within this time from its first byte (attack H1-16).
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
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
    /// What TLS knows of the client; none without TLS.
    pub(crate) caller: Option<Box<Caller>>,
    opened: u64,
    /// A request was read from this connection.
    served: bool,
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
    let (stream, caller) = match &cx.server.tls {
        None => (Stream::Plain(socket), None),
        // A box of its own: connections that are only open are not to hold the room of a handshake.
        Some(tls) => match Box::pin(secure::accept((tls, &cx.server, &cx.pace), socket, peer, &slot)).await {
            Some((stream, caller)) => (stream, Some(caller)),
            None => return,
        },
    };
    let conn = Conn::new(stream);
    let mut session = Session { home, cx, conn, slot, peer, caller, opened: clock::now(), served: false };
    session.run().await;
    // Counted until here, also when the task is dropped or panics.
    drop(admission);
}

impl Session {
    async fn run(&mut self) {
        // What a connection that waits for a request holds is this small future; a request lives in a box of its own.
        while self.wait().await {
            // A reload between two requests is in force from the next one on.
            self.cx = self.home.current();
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
        match (&self.cx.server.tls, &self.caller) {
            (Some(tls), Some(caller)) => !tls.requires_client_auth() || caller.peer().is_some(),
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
        self.slot.set(clock::now() + clock::nanos(HEAD_TIMEOUT));
        let outcome = self.slot.run(reading).await;
        self.slot.set(NEVER);
        outcome.unwrap_or_else(|_| {
            debug!(peer = %self.peer, "request head took longer than {HEAD_TIMEOUT:?}");
            Err(HeadError::Truncated)
        })
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
        let idle = params.idle_time.map_or(NEVER, |idle| clock::now().saturating_add(clock::nanos(idle)));
        let life = params.life_time.map_or(NEVER, |life| self.opened.saturating_add(clock::nanos(life + LINGER)));
        idle.min(life)
    }

    /// Makes the coming close a reset, when nothing else could tell the client that its response is not whole.
    pub(crate) fn abort_if(&self, needed: bool) {
        if needed {
            // Without the option the close is an ordinary one.
            let _ = socket2::SockRef::from(self.conn.io().tcp()).set_linger(Some(Duration::ZERO));
        }
    }

    /// Writes what is queued, within [`relay::STALL`].
    pub(crate) async fn finish(&mut self, keep: bool) -> After {
        self.slot.set(clock::now() + clock::nanos(relay::STALL));
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
        debug!(peer = %self.peer, listener = %self.cx.server.label, %error, "request refused");
        let refusal = RouteError::new(Kind::BadRequest, format!("request refused: {error}"));
        let response = respond::response(&refusal, self.cx.router.error_limits, self.cx.server.params.clear_context);
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
