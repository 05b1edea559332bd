//! A scripted HTTP/1 server: one thread accepts, one thread per connection answers, and all requests are remembered.

use crate::message::Reader;
use crate::wait::eventually;
use crate::{Headers, find, ports};
use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// So many bytes of what arrived are kept.
const BYTES_KEPT: usize = 4 * 1024 * 1024;
/// For what takes a moment, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(30);

/// A request as the backend saw it.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// All header lines.
    pub headers: Headers,
    /// The body, chunks joined.
    pub body: Vec<u8>,
    /// Fields after a chunked body.
    pub trailers: Headers,
    /// Which connection it came on, counted from 0.
    pub connection: u64,
}

impl Received {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let matching = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        matching.map(|(_, value)| value.as_str()).collect()
    }
}

/// What a backend answers.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header lines besides the framing.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// Send the body in chunks, these trailers after it.
    pub chunked: Option<Headers>,
    /// Wait so long before the first byte.
    pub delay: Duration,
    /// Close the connection after the answer, and say so.
    pub close: bool,
}

impl Reply {
    /// 200 with this body.
    pub fn text(body: impl Into<String>) -> Reply {
        let body = body.into().into_bytes();
        Reply { status: 200, headers: Vec::new(), body, chunked: None, delay: Duration::ZERO, close: false }
    }

    /// This status, the number as the body.
    pub fn status(status: u16) -> Reply {
        Reply { status, ..Reply::text(status.to_string()) }
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends the body in chunks.
    pub fn chunked(mut self) -> Reply {
        self.chunked = Some(Vec::new());
        self
    }

    /// Waits before the answer.
    pub fn after(mut self, delay: Duration) -> Reply {
        self.delay = delay;
        self
    }

    /// Closes after the answer.
    pub fn close(mut self) -> Reply {
        self.close = true;
        self
    }

    fn write(&self, head_only: bool, out: &mut impl Write) -> io::Result<()> {
        let mut text = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.close {
            text.push_str("connection: close\r\n");
        }
        match &self.chunked {
            Some(_) => text.push_str("transfer-encoding: chunked\r\n\r\n"),
            None if matches!(self.status, 204 | 304) => text.push_str("\r\n"),
            None => text.push_str(&format!("content-length: {}\r\n\r\n", self.body.len())),
        }
        let mut bytes = text.into_bytes();
        if !head_only && !matches!(self.status, 204 | 304) {
            self.write_body(&mut bytes);
        }
        out.write_all(&bytes)
    }

    fn write_body(&self, bytes: &mut Vec<u8>) {
        let Some(trailers) = &self.chunked else { return bytes.extend_from_slice(&self.body) };
        for chunk in self.body.chunks(1024) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n");
        for (name, value) in trailers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
    }
}

type Handler = dyn Fn(&Received) -> Reply + Send + Sync;
type RawHandler = dyn Fn(TcpStream) + Send + Sync;

enum Script {
    Http(Box<Handler>),
    Raw(Box<RawHandler>),
}

#[derive(Default)]
struct State {
    dead: AtomicBool,
    /// Every answer is the last one of its connection.
    retiring: AtomicBool,
    count: AtomicUsize,
    accepted: AtomicU64,
    requests: Mutex<Vec<Received>>,
    bytes: Mutex<Vec<u8>>,
    open: Mutex<HashMap<u64, TcpStream>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See the module. Dropping it kills it.
pub struct Backend {
    addr: SocketAddr,
    listener: Mutex<Option<(TcpListener, JoinHandle<()>)>>,
    state: Arc<State>,
}

impl Backend {
    /// Answers every request with 200 and this body.
    pub fn text(body: &str) -> Backend {
        let body = body.to_owned();
        Backend::with(move |_| Reply::text(body.clone()))
    }

    /// Answers every request as `handler` says.
    pub fn with(handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Backend {
        Backend::start(ports::listener(), Script::Http(Box::new(handler)))
    }

    /// As [`Backend::with`], on this address.
    pub fn at(addr: SocketAddr, handler: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Backend {
        let listener = eventually("the backend's address is free", WITHIN, || TcpListener::bind(addr).ok());
        Backend::start(listener, Script::Http(Box::new(handler)))
    }

    /// Gives every connection to `handler`, which owns it. Requests and bytes are not remembered.
    pub fn raw(handler: impl Fn(TcpStream) + Send + Sync + 'static) -> Backend {
        Backend::start(ports::listener(), Script::Raw(Box::new(handler)))
    }

    fn start(listener: TcpListener, script: Script) -> Backend {
        let addr = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(State::default());
        let (accepting, shared) = (listener.try_clone().expect("the listener can be cloned"), state.clone());
        let thread = std::thread::spawn(move || accept(&accepting, &shared, &Arc::new(script)));
        Backend { addr, listener: Mutex::new(Some((listener, thread))), state }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Received> {
        lock(&self.state.requests).clone()
    }

    /// The last request; panics when there was none.
    pub fn last(&self) -> Received {
        lock(&self.state.requests).last().cloned().unwrap_or_else(|| panic!("the backend was not asked"))
    }

    /// Number of requests so far.
    pub fn count(&self) -> usize {
        self.state.count.load(Ordering::SeqCst)
    }

    /// Number of connections so far.
    pub fn connections(&self) -> u64 {
        self.state.accepted.load(Ordering::SeqCst)
    }

    /// All bytes that arrived, all connections together, at most 4 MiB.
    pub fn bytes_seen(&self) -> Vec<u8> {
        lock(&self.state.bytes).clone()
    }

    /// Ends as a graceful server does: stops listening, answers what it has read with the news that the connection
    /// ends, closes connections without a request, and returns when all are closed.
    pub fn retire(&self) {
        self.state.retiring.store(true, Ordering::SeqCst);
        self.stop_listening();
        for socket in lock(&self.state.open).values() {
            // Whoever waits for a request sees the end; what has arrived is still read.
            let _ = socket.shutdown(Shutdown::Read);
        }
        eventually("the backend has finished", WITHIN, || lock(&self.state.open).is_empty().then_some(()));
    }

    fn stop_listening(&self) {
        let Some((listener, thread)) = lock(&self.listener).take() else { return };
        // Ends the waiting accept; the socket itself closes when both descriptors are gone.
        let _ = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
        drop(listener);
        let _ = thread.join();
    }

    /// Stops listening and resets all connections, at once. What is being answered is not answered.
    pub fn kill(&self) {
        // First of all: a process that is killed accepts nobody whom it then lets down.
        self.stop_listening();
        self.state.dead.store(true, Ordering::SeqCst);
        for (_, socket) in lock(&self.state.open).drain() {
            // Whoever reads wakes up and closes; with no linger time that is a reset.
            let _ = socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO));
            let _ = socket.shutdown(Shutdown::Read);
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.kill();
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>, script: &Arc<Script>) {
    while let Ok((socket, _)) = listener.accept() {
        let id = state.accepted.fetch_add(1, Ordering::SeqCst);
        let _ = socket.set_nodelay(true);
        let Ok(clone) = socket.try_clone() else { continue };
        lock(&state.open).insert(id, clone);
        let (state, script) = (state.clone(), script.clone());
        std::thread::spawn(move || {
            match &*script {
                // A connection that breaks is what many stories are about.
                Script::Http(handler) => _ = serve(socket, id, &state, handler),
                Script::Raw(handler) => handler(socket),
            }
            lock(&state.open).remove(&id);
        });
    }
}

fn serve(mut socket: TcpStream, id: u64, state: &Arc<State>, handler: &Handler) -> io::Result<()> {
    let seen = state.clone();
    let tap = move |bytes: &[u8]| {
        let mut kept = lock(&seen.bytes);
        let room = BYTES_KEPT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    };
    let mut reader = Reader::new(socket.try_clone()?, Some(Box::new(tap)));
    while let Some(received) = read_request(&mut reader, &mut socket, id)? {
        lock(&state.requests).push(received.clone());
        state.count.fetch_add(1, Ordering::SeqCst);
        let mut reply = handler(&received);
        let due = Instant::now() + reply.delay;
        while Instant::now() < due && !state.dead.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2).min(reply.delay));
        }
        if state.dead.load(Ordering::SeqCst) {
            return Ok(());
        }
        reply.close |= state.retiring.load(Ordering::SeqCst);
        reply.write(received.method == "HEAD", &mut socket)?;
        if reply.close {
            return socket.shutdown(Shutdown::Write);
        }
    }
    Ok(())
}

fn read_request(reader: &mut Reader, socket: &mut TcpStream, connection: u64) -> io::Result<Option<Received>> {
    let Some(line) = reader.line()? else { return Ok(None) };
    let mut parts = line.splitn(3, ' ').map(str::to_owned);
    let mut part = || parts.next().unwrap_or_default();
    let (method, target, version) = (part(), part(), part());
    let headers = reader.fields()?;
    if find(&headers, "expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let (body, trailers) = reader.body(&headers, false)?;
    Ok(Some(Received { method, target, version, headers, body, trailers, connection }))
}
