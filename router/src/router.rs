//! [`Router`]: one router of the config: its caches, its interpreter, its parameters; shared by all workers.

use crate::client::{Clients, TlsFiles};
use crate::clock;
use crate::config::RouterParams;
use crate::error::{Kind, RouteError};
use crate::respond::ErrorLimits;
use crate::route::cache::Cache;
use crate::route::{Dst, PathService, PathServiceParts};
use crate::scopes::Scopes;
use arc_swap::ArcSwap;
use dtab::{DtabStack, Interpreter};
use http1::Limits;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use telemetry::GaugeGuard;
use tokio::runtime::Handle;

/// Dentries shown in an error text, at most.
const SHOWN_DENTRIES: usize = 50;

/// See the module.
pub struct Router {
    /// Its parameters.
    pub params: Arc<RouterParams>,
    /// Its interpreter.
    pub interpreter: Arc<dyn Interpreter>,
    /// Its clients.
    pub clients: Arc<Clients>,
    /// Limits of request heads; responses may have as much.
    pub limits: Limits,
    /// Limits of error responses.
    pub error_limits: ErrorLimits,
    paths: Cache<Dst, PathService>,
    scopes: Arc<Scopes>,
    listeners: ArcSwap<Vec<SocketAddr>>,
    handle: Handle,
    _originator: Option<GaugeGuard>,
}

impl Router {
    /// A router that binds with `interpreter`, connects with the files of `tls` and counts in `scopes`; its tasks run on `handle`.
    pub fn new(
        params: Arc<RouterParams>,
        interpreter: Arc<dyn Interpreter>,
        tls: TlsFiles,
        scopes: Arc<Scopes>,
        handle: Handle,
    ) -> Router {
        let scope = scopes.root().clone();
        let clients = Clients::new(interpreter.clone(), params.clone(), tls, scopes.clone(), handle.clone());
        let ttl = clock::nanos(params.binding_cache.idle_ttl);
        let paths = Cache::new(params.binding_cache.paths, ttl, &scope.scope("bindcache").scope("path"));
        Router {
            _originator: params.originator.then(|| scope.gauge("originator", || 1.0)),
            limits: Limits {
                max_line_bytes: params.max_line_bytes,
                max_head_bytes: params.max_headers_bytes,
                ..Limits::default()
            },
            error_limits: ErrorLimits {
                body_bytes: params.max_err_response_bytes,
                header_bytes: params.max_headers_bytes,
            },
            clients: Arc::new(clients),
            params,
            interpreter,
            scopes,
            paths,
            listeners: ArcSwap::default(),
            handle,
        }
    }

    /// The service for `dst`; the flag says whether it is kept.
    pub fn service(&self, dst: &Dst) -> (Arc<PathService>, bool) {
        self.paths.get_or_make(dst, || {
            let dtab = DtabStack::new([self.params.dtab.clone(), dst.local.clone()]);
            PathService::new(PathServiceParts {
                dst: dst.clone(),
                params: self.params.service.for_name(&dst.path),
                binding: self.interpreter.bind(&dtab, &dst.path),
                clients: self.clients.clone(),
                scopes: &self.scopes,
                handle: &self.handle,
            })
        })
    }

    /// Notes where the router listens.
    pub fn set_listeners(&self, listeners: Vec<SocketAddr>) {
        self.listeners.store(Arc::new(listeners));
    }

    /// Lets go of everything that is cached: a reload has replaced this router. Requests in flight hold what they need.
    pub fn retire(&self) {
        self.paths.clear();
        self.clients.clear();
    }

    /// True when `addr` is a listener of this very router: a request sent there would come back (attack P23).
    pub fn is_own_listener(&self, addr: SocketAddr) -> bool {
        let own = self.listeners.load();
        own.iter().any(|own| own.port() == addr.port() && (own.ip() == addr.ip() || covers(own.ip(), addr.ip())))
    }

    /// Throws out what has been idle for too long.
    pub fn sweep(&self) {
        self.paths.sweep();
        self.clients.sweep();
    }

    /// The error of a name without a usable address (data-plane reference §8.2); `detail` says why.
    pub fn no_hosts(&self, dst: &Dst, detail: &str) -> RouteError {
        let mut text = format!("Unable to route request!\n\nservice name: {}\ndtab:\n\nbase dtab:\n", dst.path);
        write_dtab(&mut text, &self.params.dtab);
        text.push_str("override dtab:\n");
        write_dtab(&mut text, &dst.local);
        // Writing to a String does not fail.
        let _ = write!(text, "\n{detail}\n");
        RouteError::new(Kind::NoHosts, text).undispatched()
    }
}

/// True when a listener on the wildcard address takes what is sent to `addr`: an address of this host.
fn covers(listener: IpAddr, addr: IpAddr) -> bool {
    listener.is_unspecified() && (addr.is_loopback() || is_local(addr))
}

/// Whether `addr` belongs to this host: only then can a socket be bound to it. Asked once per worker and address.
fn is_local(addr: IpAddr) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<IpAddr, bool>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        if known.len() > 1024 {
            known.clear();
        }
        *known.entry(addr).or_insert_with(|| UdpSocket::bind((addr, 0)).is_ok())
    })
}

fn write_dtab(text: &mut String, dtab: &dtab::Dtab) {
    for dentry in dtab.dentries().iter().take(SHOWN_DENTRIES) {
        let _ = writeln!(text, "  {} => {}", dentry.prefix, dentry.dst);
    }
    if dtab.dentries().len() > SHOWN_DENTRIES {
        let _ = writeln!(text, "  ... and {} more", dtab.dentries().len() - SHOWN_DENTRIES);
    }
}
