//! [`Server`]: one listener of a router: its parameters and counters, shared by all workers; and the sockets.

use crate::config::{RouterParams, ServerParams, SocketParams};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use telemetry::{BodyStats, Counter, Failures, GaugeGuard, RequestStats, Scope, Stat, StatusStats, TransportStats};

/// Connections that may wait to be accepted, unless `socketOptions.backlog` says otherwise.
const BACKLOG: i32 = 4096;

/// The counters of a server (telemetry reference §4.1).
pub struct ServerStats {
    /// Request counters.
    pub requests: RequestStats,
    /// `status/*`, `time/*`.
    pub status: StatusStats,
    /// `failures/<class>`.
    pub failures: Failures,
    /// `connects`.
    pub connects: Arc<Counter>,
    /// `closes`.
    pub closes: Arc<Counter>,
    /// `nacks`.
    pub nacks: Arc<Counter>,
    /// `idle`: connections closed for having been idle.
    pub idle: Arc<Counter>,
    /// `lifetime`: connections closed for their age.
    pub lifetime: Arc<Counter>,
    /// `received_bytes`, `sent_bytes`, `connection_*`.
    pub transport: Arc<TransportStats>,
    /// `request_payload_bytes`, `response_payload_bytes`, `http/stream/*`.
    pub bodies: BodyStats,
    /// `dtab/size`: entries of override tables.
    pub dtab_size: Arc<Stat>,
    /// `connections`.
    pub connections: Arc<AtomicI64>,
    _connections: GaugeGuard,
    _concurrency: Option<GaugeGuard>,
}

/// See the module.
pub struct Server {
    /// Its parameters.
    pub params: ServerParams,
    /// `<ip>/<port>`, as configured.
    pub label: String,
    /// Counters.
    pub stats: ServerStats,
    concurrent: Arc<AtomicUsize>,
}

/// One of the requests that `maxConcurrentRequests` allows.
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Server {
    /// The server of `params` in the router's scope.
    pub fn new(params: ServerParams, bound: SocketAddr, router: &RouterParams, scope: &Scope) -> Server {
        let label = format!("{}/{}", bound.ip(), bound.port());
        tracing::info!(router = %router.label, address = %bound, "listening");
        let scope = scope.scope("server").scope(&label);
        let concurrent = Arc::new(AtomicUsize::new(0));
        let stats = ServerStats::new(&scope, &concurrent, params.max_concurrent_requests.is_some());
        Server { params, label, stats, concurrent }
    }

    /// A permit for one more request; None when `maxConcurrentRequests` is reached.
    pub fn permit(&self) -> Option<Option<Permit>> {
        let Some(most) = self.params.max_concurrent_requests else { return Some(None) };
        let permit = Permit(self.concurrent.clone());
        if self.concurrent.fetch_add(1, Ordering::Relaxed) < most {
            return Some(Some(permit));
        }
        None
    }
}

impl ServerStats {
    fn new(scope: &Scope, concurrent: &Arc<AtomicUsize>, limited: bool) -> ServerStats {
        let connections = Arc::new(AtomicI64::new(0));
        let (open, running) = (connections.clone(), concurrent.clone());
        let concurrency =
            limited.then(|| scope.gauge("request_concurrency", move || running.load(Ordering::Relaxed) as f64));
        ServerStats {
            requests: RequestStats::new(scope),
            status: StatusStats::new(scope),
            failures: Failures::new(scope),
            connects: scope.counter("connects"),
            closes: scope.counter("closes"),
            nacks: scope.counter("nacks"),
            idle: scope.counter("idle"),
            lifetime: scope.counter("lifetime"),
            transport: TransportStats::new(scope),
            bodies: BodyStats::new(scope),
            dtab_size: scope.stat("dtab/size"),
            _connections: scope.gauge("connections", move || open.load(Ordering::Relaxed) as f64),
            _concurrency: concurrency,
            connections,
        }
    }
}

/// Opens one listening socket per worker on the same address, so that each worker accepts for itself.
///
/// Errors when the address cannot be had; nothing stays open then. The first socket is bound without `SO_REUSEPORT`
/// being shared with foreign processes unless `socketOptions.reusePort` asks for it: a port that is taken is an error.
pub fn listen(params: &ServerParams, workers: usize) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    let mut address = SocketAddr::new(params.ip, params.port);
    if !params.socket.reuse_port {
        address = probe(params, address)?;
    }
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = open(address, &params.socket, true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog(&params.socket))?;
        let listener: std::net::TcpListener = socket.into();
        address = listener.local_addr()?;
        sockets.push(listener);
    }
    Ok((address, sockets))
}

/// Binds once without `SO_REUSEPORT`, which fails when anybody else listens there, and tells the port that was given.
fn probe(params: &ServerParams, address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = open(address, &params.socket, false)?;
    socket.bind(&address.into())?;
    socket.listen(1)?;
    let bound: std::net::TcpListener = socket.into();
    bound.local_addr()
}

/// Opens the listening socket of the admin server with the options of the config.
pub fn listen_once(address: SocketAddr, options: &SocketParams) -> io::Result<std::net::TcpListener> {
    let socket = open(address, options, options.reuse_port)?;
    socket.bind(&address.into())?;
    socket.listen(backlog(options))?;
    Ok(socket.into())
}

fn backlog(options: &SocketParams) -> i32 {
    options.backlog.map_or(BACKLOG, |n| i32::try_from(n).unwrap_or(BACKLOG))
}

fn open(address: SocketAddr, options: &SocketParams, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(options.reuse_addr)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
