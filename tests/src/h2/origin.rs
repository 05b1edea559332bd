//! A server that answers by script and counts what happens to it.

use super::script::{Asked, End, Gate, Performance, Script};
use super::{Io, Knobs, Step, Sum};
use crate::PairFiles;
use bytes::Bytes;
use h2::server::{self, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// A request and what came of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its head.
    pub asked: Asked,
    /// What the script read of its body.
    pub sum: Sum,
    /// Its trailers, once read.
    pub trailers: HeaderMap,
    /// All of it was read.
    pub complete: bool,
}

/// A stream that the other side ended with a reset.
#[derive(Debug, Clone, Copy)]
pub struct Cancel {
    /// When the server knew.
    pub at: Instant,
    /// The code.
    pub code: u32,
}

type Handler = dyn Fn(&Asked) -> Script + Send + Sync;

struct State {
    handler: Box<Handler>,
    knobs: Knobs,
    tls: Option<TlsAcceptor>,
    connections: AtomicU64,
    live: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    asked: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
    cancels: Mutex<Vec<Cancel>>,
    broken: Mutex<Vec<String>>,
    retire: watch::Sender<bool>,
}

/// See the module. Dropping it cuts all connections.
pub struct Origin {
    addr: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Origin {
    /// Plain HTTP/2 by prior knowledge; each request is answered as `handler` says.
    pub fn with(handler: impl Fn(&Asked) -> Script + Send + Sync + 'static) -> Origin {
        Origin::start(Knobs::default(), None, handler)
    }

    /// As [`Origin::with`]; 200 with this text.
    pub fn text(body: &str) -> Origin {
        let body = body.to_owned();
        Origin::with(move |_| Step::text(&body))
    }

    /// As [`Origin::with`], with settings.
    pub fn tuned(knobs: Knobs, handler: impl Fn(&Asked) -> Script + Send + Sync + 'static) -> Origin {
        Origin::start(knobs, None, handler)
    }

    /// Answers everything with this text, once the gate is open.
    pub fn held(gate: &Gate, body: &str) -> Origin {
        let (gate, body) = (gate.clone(), body.to_owned());
        Origin::with(move |_| Step::held(&gate, &body))
    }

    /// With TLS; ALPN offers `h2` alone.
    pub fn tls(files: &PairFiles, handler: impl Fn(&Asked) -> Script + Send + Sync + 'static) -> Origin {
        Origin::start(Knobs::default(), Some(acceptor(files)), handler)
    }

    fn start(
        knobs: Knobs,
        tls: Option<TlsAcceptor>,
        handler: impl Fn(&Asked) -> Script + Send + Sync + 'static,
    ) -> Origin {
        let (listener, addr) = listen();
        let state = Arc::new(State {
            handler: Box::new(handler),
            knobs,
            tls,
            connections: AtomicU64::new(0),
            live: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            seen: Mutex::default(),
            cancels: Mutex::default(),
            broken: Mutex::default(),
            retire: watch::Sender::new(false),
        });
        let task = tokio::spawn(accept(listener, state.clone()));
        Origin { addr, state, task }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Number of requests so far.
    pub fn count(&self) -> usize {
        self.state.asked.load(Ordering::SeqCst)
    }

    /// Number of connections so far.
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Number of connections now.
    pub fn live(&self) -> usize {
        self.state.live.load(Ordering::SeqCst)
    }

    /// Number of streams whose script is not over.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// The largest [`Origin::open`] so far.
    pub fn most_open(&self) -> usize {
        self.state.most.load(Ordering::SeqCst)
    }

    /// All requests whose script is over.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    /// The last one of them; panics when there is none.
    pub fn last(&self) -> Seen {
        lock(&self.state.seen).last().cloned().unwrap_or_else(|| panic!("the origin has answered nothing"))
    }

    /// All streams that the other side reset.
    pub fn cancels(&self) -> Vec<Cancel> {
        lock(&self.state.cancels).clone()
    }

    /// What broke otherwise: connections that died, streams that the library refused.
    pub fn broken(&self) -> Vec<String> {
        lock(&self.state.broken).clone()
    }

    /// GOAWAY on all connections, those to come too; open streams are finished.
    pub fn retire(&self) {
        self.state.retire.send_replace(true);
    }

    /// Stops listening and cuts all connections, at once.
    pub fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server's side of TLS with this certificate; ALPN offers `h2` alone.
fn acceptor(files: &PairFiles) -> TlsAcceptor {
    let cert = CertificateDer::from_pem_file(&files.cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![cert], key);
    let mut config = config.expect("they belong together");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// A server that shakes hands where `files` are given, and then says nothing. It lives as long as the story.
pub fn mute(files: Option<&PairFiles>) -> SocketAddr {
    let (listener, addr) = listen();
    let acceptor = files.map(acceptor);
    tokio::spawn(async move {
        let (mut shaken, mut plain) = (Vec::new(), Vec::new());
        while let Ok((socket, _)) = listener.accept().await {
            match &acceptor {
                None => plain.push(socket),
                Some(tls) => shaken.extend(tls.accept(socket).await),
            }
        }
    });
    addr
}

/// A listener on a port of loopback that nobody had before.
pub(crate) fn listen() -> (TcpListener, SocketAddr) {
    let listener = crate::ports::listener();
    listener.set_nonblocking(true).expect("it can be made non-blocking");
    let addr = listener.local_addr().expect("a listener has an address");
    (TcpListener::from_std(listener).expect("the story runs in a runtime"), addr)
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let id = state.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connection(socket, id, state.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts while it lives.
struct Counted<'s>(&'s AtomicUsize);

impl<'s> Counted<'s> {
    fn new(counter: &'s AtomicUsize) -> Counted<'s> {
        counter.fetch_add(1, Ordering::SeqCst);
        Counted(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(socket: TcpStream, id: u64, state: Arc<State>) {
    let _live = Counted::new(&state.live);
    let _ = socket.set_nodelay(true);
    let served = match &state.tls {
        None => serve(Box::new(socket), id, &state).await,
        Some(tls) => match tls.accept(socket).await {
            Ok(stream) => serve(Box::new(stream), id, &state).await,
            Err(error) => Err(error.to_string()),
        },
    };
    if let Err(error) = served {
        lock(&state.broken).push(format!("connection {id}: {error}"));
    }
}

fn builder(knobs: &Knobs) -> server::Builder {
    let mut builder = server::Builder::new();
    builder.max_header_list_size(knobs.header_list.unwrap_or(4 << 20)).max_concurrent_reset_streams(100_000);
    // The harness counts resets; it does not defend itself.
    builder.data_frame_budget(1 << 26);
    builder.max_pending_accept_reset_streams(100_000).max_local_error_reset_streams(None);
    knobs.window.map(|bytes| builder.initial_window_size(bytes));
    knobs.connection_window.map(|bytes| builder.initial_connection_window_size(bytes));
    knobs.frame.map(|bytes| builder.max_frame_size(bytes));
    knobs.streams.map(|streams| builder.max_concurrent_streams(streams));
    builder
}

async fn serve(socket: Box<dyn Io>, id: u64, state: &Arc<State>) -> Result<(), String> {
    let text = |error: h2::Error| error.to_string();
    let mut connection: Connection<Box<dyn Io>, Bytes> = builder(&state.knobs).handshake(socket).await.map_err(text)?;
    let (goaway, mut goaways) = mpsc::unbounded_channel();
    let mut retire = state.retire.subscribe();
    let mut retired = false;
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(request) => {
                    let (request, respond) = request.map_err(text)?;
                    streams.spawn(stream(request, respond, id, state.clone(), goaway.clone()));
                }
                None => break,
            },
            Some(code) = goaways.recv() => match code {
                None => connection.graceful_shutdown(),
                Some(code) => connection.abrupt_shutdown(Reason::from(code)),
            },
            _ = retire.wait_for(|retire| *retire), if !retired => {
                retired = true;
                connection.graceful_shutdown();
            }
            Some(_) = streams.join_next() => {}
        }
    }
    Ok(())
}

async fn stream(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    connection: u64,
    state: Arc<State>,
    goaway: mpsc::UnboundedSender<Option<u32>>,
) {
    let _open = Counted::new(&state.open);
    state.most.fetch_max(state.open.load(Ordering::SeqCst), Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let number = state.asked.fetch_add(1, Ordering::SeqCst);
    let at = Instant::now();
    let asked = Asked { method: head.method, uri: head.uri, headers: head.headers, connection, number, at };
    let mut script = (state.handler)(&asked);
    let seen = Seen { asked, sum: Sum::default(), trailers: HeaderMap::new(), complete: false };
    let mut performance = Performance::new(respond, body, seen);
    loop {
        let rest = split_at_goaway(&mut script);
        match performance.play(script).await {
            End::Done => {}
            End::GoAway(code) => {
                _ = goaway.send(code);
                if code.is_none() {
                    script = rest;
                    continue;
                }
                // The connection ends, and this task with it.
                std::future::pending().await
            }
            End::Cancelled(code) => lock(&state.cancels).push(Cancel { at: Instant::now(), code }),
            End::Broken(what) => lock(&state.broken).push(what),
        }
        break;
    }
    lock(&state.seen).push(performance.seen);
}

/// Cuts a script after its first GOAWAY; what follows.
fn split_at_goaway(script: &mut Script) -> Script {
    let at = script.iter().position(|step| matches!(step, Step::Retire | Step::Abort(_)));
    at.map_or_else(Vec::new, |at| script.split_off(at + 1))
}
