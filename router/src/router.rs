//! [`Router`]: one router of the config: its caches, its interpreter, its parameters; shared by all workers.

use crate::client::{Clients, TlsFiles};
use crate::clock;
use crate::config::{DtabSource, RouterParams};
use crate::error::{Kind, RouteError};
use crate::family::Family;
use crate::overrides;
use crate::respond::ErrorLimits;
use crate::route::cache::{Cache, Entry as _};
use crate::route::{Dst, PathService, PathServiceParts};
use crate::scopes::Scopes;
use arc_swap::ArcSwap;
use dtab::{DtabStack, Interpreter};
use http1::{HeadError, Limits};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use telemetry::{AccessLog, GaugeGuard};
use tokio::runtime::Handle;

/// Bytes of a table that an error text shows, at most.
const SHOWN_DTAB: usize = 250;
/// Bytes of an entry or a name that an error text shows, at most.
const SHOWN_PART: usize = 120;

/// See the module.
pub struct Router {
    /// Its parameters.
    pub params: Arc<RouterParams>,
    /// Its interpreter.
    pub interpreter: Arc<dyn Interpreter>,
    /// Its clients.
    pub clients: Arc<Clients>,
    /// Limits of request heads.
    pub limits: Limits,
    /// Limits of response heads.
    pub response_limits: Limits,
    /// Limits of error responses.
    pub error_limits: ErrorLimits,
    /// Where finished requests are logged.
    pub access_log: Option<AccessLog>,
    /// Where the entries of its dtab stand in the file that is in force.
    pub dtab_source: ArcSwap<DtabSource>,
    paths: Cache<Dst, PathService>,
    scopes: Arc<Scopes>,
    listeners: ArcSwap<Vec<SocketAddr>>,
    reserved: ArcSwap<Vec<SocketAddr>>,
    admin: OnceLock<SocketAddr>,
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
        let cached = &params.binding_cache;
        let share = cached.overrides_per_source.unwrap_or((cached.paths / 4).max(1));
        let paths = Cache::new(cached.paths, ttl, &scope.scope("bindcache").scope("path")).with_share(share);
        let limits = Limits {
            max_line_bytes: params.max_line_bytes,
            max_head_bytes: params.max_headers_bytes,
            ..Limits::default()
        };
        Router {
            _originator: params.originator.then(|| scope.gauge("originator", || 1.0)),
            limits,
            response_limits: Limits {
                max_line_bytes: params.limits.response_line,
                max_head_bytes: params.limits.response_headers,
                ..limits
            },
            error_limits: ErrorLimits {
                body_bytes: params.max_err_response_bytes,
                header_bytes: params.max_headers_bytes,
                timeouts_are_504: params.timeouts_are_504,
            },
            clients: Arc::new(clients),
            access_log: None,
            dtab_source: ArcSwap::from_pointee(params.dtab_source.clone()),
            params,
            interpreter,
            scopes,
            paths,
            listeners: ArcSwap::default(),
            reserved: ArcSwap::default(),
            admin: OnceLock::new(),
            handle,
        }
    }

    /// The router, logging finished requests there.
    pub fn with_access_log(mut self, log: Option<AccessLog>) -> Router {
        self.access_log = log;
        self
    }

    /// The service for `dst`; the flag says whether it is kept. One under an override counts for `caller`, who has a
    /// share of the cache for its overrides and no more (attack O13).
    pub fn service(&self, dst: &Dst, caller: IpAddr) -> (Arc<PathService>, bool) {
        self.paths.get_or_make(dst, || {
            let base = DtabStack::new([self.params.dtab.clone()]);
            let layers = dst.override_layers().cloned();
            let dtab = DtabStack::new([self.params.dtab.clone()].into_iter().chain(layers));
            let binding = match dst.is_base() {
                true => self.interpreter.bind(&dtab, &dst.path),
                false => self.interpreter.bind_overridden(&dtab, &dst.path),
            };
            PathService::new(PathServiceParts {
                dst: dst.clone(),
                params: self.params.service.for_name(&dst.path),
                binding,
                base: (!dst.is_base()).then(|| self.interpreter.bind(&base, &dst.path)),
                owner: (!dst.is_base()).then(|| overrides::source(caller)),
                clients: self.clients.clone(),
                scopes: &self.scopes,
                family: Family::of(&self.params),
                handle: &self.handle,
            })
        })
    }

    /// Notes where the router listens.
    pub fn set_listeners(&self, listeners: Vec<SocketAddr>) {
        self.listeners.store(Arc::new(listeners));
    }

    /// Makes what `old` has for names without overrides and that serves somebody: a reload replaces it by this one, and what
    /// is known of those names must not be let go of, whatever discovery says at that moment.
    pub fn inherit(&self, old: &Router) {
        for (dst, service) in old.paths.all() {
            if dst.is_base() && service.worth() > 0 {
                self.service(&dst, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            }
        }
    }

    /// Lets go of everything that is cached: a reload has replaced this router. Requests in flight hold what they need.
    pub fn retire(&self) {
        self.paths.retire();
        self.clients.retire();
    }

    /// Notes where the admin server listens.
    pub fn set_admin(&self, admin: SocketAddr) {
        // As above.
        let _ = self.admin.set(admin);
    }

    /// Where somebody on this host asks the admin server, once it is known.
    pub fn admin(&self) -> Option<SocketAddr> {
        let admin = *self.admin.get()?;
        let any = admin.ip().is_unspecified();
        Some(if any { SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), admin.port()) } else { admin })
    }

    /// True when `addr` is a listener of this very router: a request sent there would come back (attack P23).
    pub fn is_own_listener(&self, addr: SocketAddr) -> bool {
        let own = self.listeners.load();
        own.iter().any(|own| own.port() == addr.port() && (own.ip() == addr.ip() || covers(own.ip(), addr.ip())))
    }

    /// Notes where this process listens, admin included: no request may name these (requirements §5, rule 2).
    pub fn set_reserved(&self, reserved: Vec<SocketAddr>) {
        self.reserved.store(Arc::new(reserved));
    }

    /// True for a port of this process on any address of this host.
    pub fn is_reserved(&self, addr: SocketAddr) -> bool {
        let reserved = self.reserved.load();
        reserved.iter().any(|own| own.port() == addr.port()) && is_local(addr.ip().to_canonical())
    }

    /// The limit that a refused request head is over, for its error text.
    pub fn limit_of(&self, error: &HeadError) -> Option<String> {
        match error {
            HeadError::LineTooLong => Some(format!(" (maxInitialLineKB is {})", self.limits.max_line_bytes / 1024)),
            HeadError::HeadTooLarge => Some(format!(" (maxHeadersKB is {})", self.limits.max_head_bytes / 1024)),
            HeadError::TooManyHeaders => Some(format!(" (at most {} lines)", self.limits.max_headers)),
            _ => None,
        }
    }

    /// The limit that the head of a response is over: its name for `rejected_total`, and a text.
    pub fn response_limit_of(&self, error: &HeadError) -> Option<(&'static str, String)> {
        let limits = &self.response_limits;
        match error {
            HeadError::LineTooLong => {
                Some(("response-line-too-long", format!("maxResponseLineKB is {}", limits.max_line_bytes / 1024)))
            }
            HeadError::HeadTooLarge => {
                let text = format!("maxResponseHeadersKB is {}", limits.max_head_bytes / 1024);
                Some(("response-headers-too-large", text))
            }
            HeadError::TooManyHeaders => {
                Some(("response-too-many-headers", format!("at most {} lines", limits.max_headers)))
            }
            _ => None,
        }
    }

    /// Throws out what has been idle for too long.
    pub fn sweep(&self) {
        self.paths.sweep();
        self.clients.sweep();
    }

    /// The error of a name without a usable address (data-plane reference §8.2); `detail` says why.
    pub fn no_hosts(&self, dst: &Dst, detail: &str) -> RouteError {
        let name = dst.path.to_string();
        let name = cut(&name, SHOWN_PART);
        let mut text = format!("Unable to route request!\n\nservice name: {name}\ndtab:\n\nbase dtab:\n");
        write_dtab(&mut text, &self.params.dtab);
        text.push_str("override dtab:\n");
        dst.override_layers().for_each(|dtab| write_dtab(&mut text, dtab));
        // Writing to a String does not fail.
        let _ = write!(text, "\n{detail}\n");
        RouteError::new(Kind::NoHosts, text).undispatched()
    }
}

/// How long it is known whether an address is one of this host.
const LOCAL_FOR_NS: u64 = 1_000_000_000;

/// True when a listener on the wildcard address takes what is sent to `addr`: an address of this host.
fn covers(listener: IpAddr, addr: IpAddr) -> bool {
    listener.is_unspecified() && (addr.is_loopback() || is_local(addr))
}

/// Whether `addr` belongs to this host: only then can a socket be bound to it. Asked once a second per worker and address:
/// addresses move between hosts. What cannot be found out counts as local, and is asked again.
fn is_local(addr: IpAddr) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<IpAddr, (bool, u64)>> = RefCell::default();
    }
    let now = clock::now();
    KNOWN.with_borrow_mut(|known| {
        if known.len() > 1024 {
            known.clear();
        }
        match known.get(&addr) {
            Some((local, at)) if now.saturating_sub(*at) < LOCAL_FOR_NS => *local,
            _ => match UdpSocket::bind((addr, 0)) {
                Ok(_) => {
                    known.insert(addr, (true, now));
                    true
                }
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    known.insert(addr, (false, now));
                    false
                }
                Err(_) => true,
            },
        }
    })
}

/// Writes the last entries of a table, which are those that win, as far as there is room.
fn write_dtab(text: &mut String, dtab: &dtab::Dtab) {
    let mut shown = Vec::new();
    let mut room = SHOWN_DTAB;
    for dentry in dtab.dentries().iter().rev() {
        let line = format!("  {} => {}", dentry.prefix, dentry.dst);
        let line = cut(&line, SHOWN_PART).into_owned();
        let Some(left) = room.checked_sub(line.len()) else { break };
        room = left;
        shown.push(line);
    }
    let more = dtab.dentries().len() - shown.len();
    if more > 0 {
        let _ = writeln!(text, "  ... {more} entries before these");
    }
    for line in shown.iter().rev() {
        let _ = writeln!(text, "{line}");
    }
}

/// At most `bytes` bytes of a text; what is cut ends in three dots.
pub(crate) fn cut(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let mut end = bytes.saturating_sub(3);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}...", &text[..end]))
}
