//! [`HttpClient`]: HTTP/1.1 to the servers of a store: keep-alive, several endpoints, TLS, bounds on time and bytes.
//!
//! A request goes to the endpoint that answered last; the others are tried in turn when that cannot be reached. Nothing is
//! sent twice that may have been acted upon. Called by the stores in etcd and Consul. Not for: what is asked.

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
use tokio::time::{Instant, timeout};

/// One endpoint may take so long to accept a connection, look-up of its name and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Idle connections kept at most.
const MAX_IDLE: usize = 8;
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

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
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
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// See the module.
pub(crate) struct HttpClient {
    endpoints: Vec<Endpoint>,
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
        HttpClient { endpoints, first: AtomicUsize::new(0), idle: Mutex::default(), fail_fast, down: Mutex::default() }
    }

    /// Asks and reads the whole answer. The text of an error says what failed, not where.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Answer, String> {
        let limit = ask.limit;
        let answered = timeout(limit, async {
            let (response, sender) = self.send(&ask).await?;
            let (head, body) = response.into_parts();
            let read = Limited::new(body, MAX_BODY).collect().await;
            let body = read.map_err(|error| format!("the answer broke off: {error}"))?.to_bytes();
            self.settle(head.status, sender);
            Ok(Answer { status: head.status, headers: head.headers, body })
        });
        answered.await.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
    }

    /// Asks for a response that goes on.
    pub(crate) async fn open(&self, ask: Ask) -> Result<Stream, String> {
        let limit = ask.limit;
        let sent = timeout(limit, self.send(&ask)).await;
        let (response, sender) = sent.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))?;
        let (head, body) = response.into_parts();
        Ok(Stream { status: head.status, body, buffer: Vec::new(), _sender: sender })
    }

    /// Keeps the connection, unless the server is in trouble: then the next request goes elsewhere.
    fn settle(&self, status: StatusCode, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock();
        if status.is_server_error() {
            idle.clear();
            self.first.fetch_add(1, Ordering::Relaxed);
        } else if !sender.is_closed() && idle.len() < MAX_IDLE {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }

    /// Sends on an idle connection; on a new one when the idle one turns out to be closed and the request was not sent, or
    /// may be repeated.
    async fn send(&self, ask: &Ask) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), String> {
        while let Some(mut sender) = self.take_idle() {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(self.request(ask)?).await {
                Ok(response) => return Ok((response, sender)),
                Err(mut error) => {
                    if error.take_message().is_none() && ask.method != Method::GET {
                        return Err(format!("the connection broke: {}", error.into_error()));
                    }
                }
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(self.request(ask)?).await;
        Ok((response.map_err(|error| format!("the connection broke: {error}"))?, sender))
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        idle.retain(|kept| kept.since.elapsed() < IDLE_FOR && !kept.sender.is_closed());
        idle.pop().map(|kept| kept.sender)
    }

    fn request(&self, ask: &Ask) -> Result<Request<Full<Bytes>>, String> {
        let host = self.in_order().next().map(Endpoint::to_string).unwrap_or_default();
        let mut request = Request::builder().method(ask.method.clone()).uri(&ask.target).header(HOST, host);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        request.body(Full::new(ask.body.clone())).map_err(|error| format!("the request cannot be written: {error}"))
    }

    fn in_order(&self) -> impl Iterator<Item = &Endpoint> {
        let (first, count) = (self.first.load(Ordering::Relaxed), self.endpoints.len());
        (0..count).filter_map(move |i| self.endpoints.get(first.wrapping_add(i) % count))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        if self.fail_fast
            && let Some((at, why)) = &*self.down.lock()
            && at.elapsed() < FAIL_FAST_FOR
        {
            return Err(why.clone());
        }
        let mut tried = Vec::new();
        for endpoint in self.in_order() {
            match timeout(CONNECT_TIMEOUT, open(endpoint)).await {
                Ok(Ok(sender)) => {
                    self.first.fetch_add(tried.len(), Ordering::Relaxed);
                    *self.down.lock() = None;
                    return Ok(sender);
                }
                Ok(Err(error)) => tried.push(format!("{endpoint}: {error}")),
                Err(_) => tried.push(format!("{endpoint}: no answer within {CONNECT_TIMEOUT:?}")),
            }
        }
        let why = format!("cannot connect: {}", tried.join("; "));
        *self.down.lock() = Some((Instant::now(), why.clone()));
        Err(why)
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
