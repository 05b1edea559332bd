//! [`HttpClient`]: HTTP/1.1 to the servers of a store: keep-alive, several endpoints, TLS, bounds on time and bytes.
//!
//! A request goes to the endpoint that answered last; the others are tried in turn when that cannot be reached, and reads
//! also when it breaks off or is silent. Nothing is sent twice that may have been acted upon. Called by the stores in etcd
//! and Consul. Not for: what is asked.

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use namers::remote::peers::{Io, Secure};
use parking_lot::Mutex;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

/// One endpoint may take so long to accept a connection, look-up of its name and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections kept at most.
const MAX_IDLE: usize = 8;
/// Requests to one endpoint at once, at most, those that wait for a change apart; further ones wait.
const MAX_AT_ONCE: usize = 64;
/// An idle connection is kept for so long.
const IDLE_FOR: Duration = Duration::from_secs(30);
/// A body may have so many bytes; a hundred dtabs of 100 KB each in base64 stay below.
pub(crate) const MAX_BODY: usize = 32 << 20;
/// With `failFast`, requests fail for so long after no endpoint could be reached.
const FAIL_FAST_FOR: Duration = Duration::from_secs(1);

/// A server of a store.
#[derive(Clone)]
pub struct Endpoint {
    /// A host name or an IP address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// TLS, if any; it checks the name of this endpoint.
    pub secure: Option<Secure>,
}

impl Endpoint {
    /// An endpoint without TLS.
    pub fn plain(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.to_owned(), port, secure: None }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}{}", if self.secure.is_some() { " (TLS)" } else { "" })
    }
}

/// All endpoints, for messages.
pub(crate) fn show_all(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(",")
}

/// What may be done with a request that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: it may have been acted upon.
    Write,
    /// Another endpoint may be asked: each has its share of the time.
    Read,
    /// The same, but the answer comes when something changes: the first endpoint has all of the time.
    Wait,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) kind: Kind,
    pub(crate) method: Method,
    /// Path and query, encoded.
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// From the start until the last byte of the answer; of a stream, until its head.
    pub(crate) limit: Duration,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header that is a number.
    pub(crate) fn number(&self, header: &str) -> Option<u64> {
        self.headers.get(header)?.to_str().ok()?.trim().parse().ok()
    }

    /// What is wrong, from status and body, for messages: one line, cut to 200 characters.
    pub(crate) fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
        format!("status {}: {}", self.status.as_u16(), line.trim())
    }
}

/// A response that goes on; closing its connection on drop.
pub(crate) struct Stream {
    pub(crate) status: StatusCode,
    body: Incoming,
    buffer: Vec<u8>,
    _sender: SendRequest<Full<Bytes>>,
}

struct Idle {
    /// Where it leads to, as in [`HttpClient::endpoints`].
    endpoint: usize,
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// Why an endpoint did not do it.
struct Failure {
    text: String,
    /// The request may have arrived.
    sent: bool,
}

impl Failure {
    fn unsent(text: String) -> Failure {
        Failure { text, sent: false }
    }

    fn broken(error: &hyper::Error) -> Failure {
        Failure { text: format!("the connection broke: {error}"), sent: true }
    }
}

/// See the module.
pub(crate) struct HttpClient {
    endpoints: Vec<Endpoint>,
    /// By endpoint: requests that may be begun.
    room: Vec<Semaphore>,
    /// The endpoint that comes first.
    first: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
    fail_fast: bool,
    /// When no endpoint could be reached, and why.
    down: Mutex<Option<(Instant, String)>>,
}

impl HttpClient {
    /// A client of these endpoints, which hold the same data.
    pub(crate) fn new(endpoints: Vec<Endpoint>, fail_fast: bool) -> HttpClient {
        let room = endpoints.iter().map(|_| Semaphore::new(MAX_AT_ONCE)).collect();
        let (first, idle, down) = (AtomicUsize::new(0), Mutex::default(), Mutex::default());
        HttpClient { endpoints, room, first, idle, fail_fast, down }
    }

    /// Asks and reads the whole answer. The text of an error says what failed at which endpoint.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, String> {
        self.tried(&ask, |endpoint| self.whole(&ask, endpoint)).await
    }

    /// Asks for a response that goes on.
    pub(crate) async fn open(&self, ask: Ask) -> Result<Stream, String> {
        let (response, sender) = self.tried(&ask, |endpoint| self.send(&ask, endpoint)).await?;
        let (head, body) = response.into_parts();
        Ok(Stream { status: head.status, body, buffer: Vec::new(), _sender: sender })
    }

    /// Tries the endpoints in turn until one answers, as far as the request may be repeated and its time is not over. One
    /// that fails comes last from then on.
    async fn tried<T, F>(&self, ask: &Ask, attempt: impl Fn(usize) -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.fail_fast()?;
        let (count, until) = (self.endpoints.len(), Instant::now() + ask.limit);
        let share =
            if ask.kind == Kind::Read { ask.limit / u32::try_from(count.max(1)).unwrap_or(1) } else { ask.limit };
        let (first, mut tried, mut reached) = (self.first.load(Ordering::Relaxed), Vec::new(), false);
        for turn in 0..count {
            let endpoint = first.wrapping_add(turn) % count;
            let limit = if turn + 1 == count { ask.limit } else { share };
            let failure = match timeout_at(until.min(Instant::now() + limit), attempt(endpoint)).await {
                Ok(Ok(done)) => {
                    *self.down.lock() = None;
                    return Ok(done);
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure { text: format!("no answer within {limit:?}"), sent: true },
            };
            self.give_up(endpoint);
            tried.push(format!("{}: {}", self.name(endpoint), failure.text));
            reached |= failure.sent;
            if Instant::now() >= until || (failure.sent && ask.kind == Kind::Write) {
                break;
            }
        }
        let why = tried.join("; ");
        if reached {
            return Err(why);
        }
        let why = format!("cannot connect: {why}");
        *self.down.lock() = Some((Instant::now(), why.clone()));
        Err(why)
    }

    /// The last error again, while it is too early to try.
    fn fail_fast(&self) -> Result<(), String> {
        match &*self.down.lock() {
            Some((at, why)) if self.fail_fast && at.elapsed() < FAIL_FAST_FOR => Err(why.clone()),
            _ => Ok(()),
        }
    }

    fn name(&self, endpoint: usize) -> String {
        self.endpoints.get(endpoint).map(Endpoint::to_string).unwrap_or_default()
    }

    /// Trusts an endpoint no more: its idle connections are closed, and the next request goes to the one after it.
    fn give_up(&self, endpoint: usize) {
        self.idle.lock().retain(|kept| kept.endpoint != endpoint);
        let next = (endpoint + 1) % self.endpoints.len().max(1);
        // Another request may have moved on already.
        let _ = self.first.compare_exchange(endpoint, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// One try, with the whole answer.
    async fn whole(&self, ask: &Ask, endpoint: usize) -> Result<Answer, Failure> {
        let _room = match (ask.kind, self.room.get(endpoint)) {
            (Kind::Write | Kind::Read, Some(room)) => room.acquire().await.ok(),
            _ => None,
        };
        let (response, sender) = self.send(ask, endpoint).await?;
        let (head, body) = response.into_parts();
        let read = Limited::new(body, MAX_BODY).collect().await;
        let broken = |error| Failure { text: format!("the answer broke off: {error}"), sent: true };
        let body = read.map_err(broken)?.to_bytes();
        self.settle(head.status, endpoint, sender);
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// Keeps the connection, unless the server is in trouble: then the next request goes elsewhere.
    fn settle(&self, status: StatusCode, endpoint: usize, sender: SendRequest<Full<Bytes>>) {
        if status.is_server_error() {
            return self.give_up(endpoint);
        }
        let mut idle = self.idle.lock();
        if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(Idle { endpoint, sender, since: Instant::now() });
        }
    }

    /// Sends on an idle connection; on a new one when the idle one turns out to be closed and the request was not sent, or
    /// may be repeated.
    async fn send(
        &self,
        ask: &Ask,
        endpoint: usize,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), Failure> {
        while let Some(mut sender) = self.take_idle(endpoint) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(self.request(ask, endpoint)?).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => {
                    if error.take_message().is_none() && ask.kind == Kind::Write {
                        return Err(Failure::broken(&error.into_error()));
                    }
                }
            }
        }
        let mut sender = self.connect(endpoint).await?;
        let response = sender.send_request(self.request(ask, endpoint)?).await;
        Ok((response.map_err(|error| Failure::broken(&error))?, sender))
    }

    fn take_idle(&self, endpoint: usize) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        idle.retain(|kept| kept.since.elapsed() < IDLE_FOR && !kept.sender.is_closed());
        let last = idle.iter().rposition(|kept| kept.endpoint == endpoint)?;
        Some(idle.remove(last).sender)
    }

    fn request(&self, ask: &Ask, endpoint: usize) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request =
            Request::builder().method(ask.method.clone()).uri(&ask.target).header(HOST, self.name(endpoint));
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let wrong = |error| Failure::unsent(format!("the request cannot be written: {error}"));
        request.body(Full::new(ask.body.clone())).map_err(wrong)
    }

    async fn connect(&self, endpoint: usize) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let Some(endpoint) = self.endpoints.get(endpoint) else {
            return Err(Failure::unsent("there is no endpoint".to_owned()));
        };
        match timeout(CONNECT_TIMEOUT, open(endpoint)).await {
            Ok(opened) => opened.map_err(Failure::unsent),
            Err(_) => Err(Failure::unsent(format!("no connection within {CONNECT_TIMEOUT:?}"))),
        }
    }
}

async fn open(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, String> {
    let socket =
        TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await.map_err(|error| error.to_string())?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    let io: Box<dyn Io> = match &endpoint.secure {
        None => Box::new(socket),
        Some(secure) => secure(socket).await.map_err(|error| format!("TLS: {error}"))?,
    };
    let (sender, connection) = handshake(TokioIo::new(io)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("a connection to a store ended: {error}");
        }
    });
    Ok(sender)
}

impl Stream {
    /// The next line, without its end; None at the end of the stream. Cancel-safe.
    pub(crate) async fn line(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.truncate(end);
                return Ok(Some(line));
            }
            if self.buffer.len() > MAX_BODY {
                return Err(format!("a line has more than {MAX_BODY} bytes"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(format!("the stream broke off: {error}")),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

/// `text` as one segment of a path or one value of a query: everything but letters, digits and `-._~` is `%XX`.
pub(crate) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A path, each segment encoded.
pub(crate) fn encode_path(path: &str) -> String {
    path.split('/').map(encode).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
