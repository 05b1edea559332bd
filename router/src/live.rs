//! [`Live`]: what a config amounts to while it is in force, and how the next one is made from it.
//!
//! A router whose parameters did not change is kept, with its caches and the health of its endpoints; so is a listener
//! whose address did not change, with its sockets and connections. Nothing is in force before all of it is built. Called
//! by `linker`. Not for: reading configs, or telling the workers.

use crate::client::TlsFiles;
use crate::config::{AccessLogParams, Config, DtabSource, RouterParams, ServerParams, TlsSetting};
use crate::interpreters::Remotes;
use crate::linker::StartError;
use crate::router::Router;
use crate::scopes::Scopes;
use crate::server::{self, Server};
use crate::worker::Listening;
use setup::naming::{Naming, World};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use telemetry::{AccessLog, Metrics};
use tls::ServerTls;
use tokio::runtime::Handle;

/// See the module.
pub struct Live {
    /// The routers, in the order of the config.
    pub routers: Vec<Arc<Router>>,
    /// Where the servers listen: router label and address, in the order of the config.
    pub servers: Vec<(String, SocketAddr)>,
    /// The names.
    pub naming: Arc<Naming>,
    /// The config as JSON, secrets redacted.
    pub config: String,
    /// Parameters of each router as text, by label.
    params: HashMap<String, String>,
    listeners: HashMap<Wanted, Listener>,
    next_id: u64,
}

/// A listener as a config asks for it: address, and which one of those it is (port 0 can be asked for twice).
type Wanted = (SocketAddr, usize);

#[derive(Clone)]
struct Listener {
    id: u64,
    bound: SocketAddr,
    /// The label of its router.
    router: String,
    server: Arc<Server>,
}

/// What is needed to make a [`Live`].
pub struct Maker<'a> {
    /// Resolver and built-in names.
    pub world: &'a World,
    /// All metrics.
    pub metrics: &'a Metrics,
    /// The scopes of each router by label, kept over reloads: leases of both generations must meet in one.
    pub scopes: &'a mut HashMap<String, Arc<Scopes>>,
    /// The interpreters over a namerd.
    pub remotes: &'a mut Remotes,
    /// Number of workers: sockets per listener.
    pub workers: usize,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// The control runtime.
    pub handle: &'a Handle,
}

/// What a reload did, for the log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Changes {
    /// Routers that were kept as they are.
    pub kept: usize,
    /// Routers that were made anew.
    pub made: usize,
    /// Listeners that are new.
    pub opened: usize,
    /// Listeners that are gone.
    pub closed: usize,
}

/// A [`Live`] that is built and not yet in force, with the listeners of every worker.
pub struct Next {
    /// What will be in force.
    pub live: Live,
    /// For each worker all its listeners.
    pub per_worker: Vec<Vec<Listening>>,
    /// What is different.
    pub changes: Changes,
    /// For each router that is kept, where its entries stand in the new file.
    sources: Vec<(Arc<Router>, DtabSource)>,
}

impl Next {
    /// What others see of it, now that it is in force: nothing of a config that was refused may show.
    pub fn tell(&self) {
        for (router, source) in &self.sources {
            router.dtab_source.store(Arc::new(source.clone()));
        }
        self.live.listeners.values().for_each(|listener| listener.server.tell());
        for log in self.live.routers.iter().filter_map(|router| router.access_log.as_ref()) {
            log.enforce();
        }
    }
}

impl Maker<'_> {
    /// Builds what `config` asks for on top of what is in force. On an error nothing has changed.
    pub async fn make(&mut self, config: &Config, before: Option<&Live>) -> Result<Next, StartError> {
        let naming = self.world.naming(&config.namers, before.map(|live| &live.naming)).await?;
        let same_names = before.is_some_and(|live| Arc::ptr_eq(&live.naming, &naming));
        let mut next = Next {
            live: Live {
                routers: Vec::new(),
                servers: Vec::new(),
                naming,
                config: config.as_json.to_string(),
                params: HashMap::new(),
                listeners: HashMap::new(),
                next_id: before.map_or(0, |live| live.next_id),
            },
            per_worker: (0..self.workers.max(1)).map(|_| Vec::new()).collect(),
            changes: Changes::default(),
            sources: Vec::new(),
        };
        let mut own = Vec::new();
        for params in &config.routers {
            let same = before.filter(|_| same_names || params.interpreter.is_apart());
            let router = self.router(params, &mut next, same).await?;
            let mut listeners = Vec::new();
            for server in &params.servers {
                listeners.push(self.listener(params, server, &router, &mut next, before)?);
            }
            own.push((router.clone(), listeners));
            next.live.routers.push(router);
        }
        // Only now: a kept router must not learn of listeners that then cannot be had.
        let bound = next.live.servers.iter().map(|(_, address)| *address);
        let reserved: Vec<SocketAddr> = bound.chain([self.admin]).collect();
        for (router, listeners) in own {
            router.set_listeners(listeners);
            router.set_reserved(reserved.clone());
            router.set_admin(self.admin);
        }
        let gone =
            |live: &Live| live.listeners.keys().filter(|wanted| !next.live.listeners.contains_key(*wanted)).count();
        next.changes.closed = before.map_or(0, gone);
        Ok(next)
    }

    async fn router(
        &mut self,
        params: &RouterParams,
        next: &mut Next,
        before: Option<&Live>,
    ) -> Result<Arc<Router>, StartError> {
        // What the servers are like is in force with every new request; it is no reason for cold caches.
        // Neither is where its entries stand in the file.
        let same = RouterParams { servers: Vec::new(), dtab_source: DtabSource::default(), ..params.clone() };
        let shown = format!("{same:?}");
        let kept = before
            .filter(|live| live.params.get(&params.label) == Some(&shown))
            .and_then(|live| live.routers.iter().find(|router| router.params.label == params.label));
        next.live.params.insert(params.label.clone(), shown);
        if let Some(kept) = kept {
            next.changes.kept += 1;
            next.sources.push((kept.clone(), params.dtab_source.clone()));
            return Ok(kept.clone());
        }
        next.changes.made += 1;
        let root = self.metrics.root();
        let make_scopes = || Scopes::new(root.scope("rt").scope(&params.label));
        let scopes = self.scopes.entry(params.label.clone()).or_insert_with(make_scopes).clone();
        let naming = next.live.naming.clone();
        let what = format!("router `{}`", params.label);
        let bare = self.remotes.interpreter(&params.interpreter.kind, self.world, &naming, &what)?;
        let interpreter = self.world.behind(bare, &params.interpreter.transformers, &naming).await?;
        let tls = self.tls_files(params)?;
        let router = Router::new(Arc::new(params.clone()), interpreter, tls, scopes, self.handle.clone());
        Ok(Arc::new(router.with_access_log(open_access_log(params)?)))
    }

    /// The certificate files of a router's clients.
    fn tls_files(&self, params: &RouterParams) -> Result<TlsFiles, StartError> {
        let mut files = TlsFiles::new();
        let mut unchecked = 0;
        for (_, settings) in &params.client.list {
            let Some(TlsSetting::On(peer)) = &settings.tls else { continue };
            unchecked += u32::from(peer.params.disable_validation);
            let loaded = self.world.tls.client(&peer.params);
            let failed = |error| StartError::Tls { what: format!("the clients of router `{}`", params.label), error };
            files.insert(peer.params.clone(), loaded.map_err(failed)?);
        }
        metrics::gauge!("tls_validation_disabled", "router" => params.label.clone()).set(f64::from(unchecked));
        Ok(files)
    }

    /// The TLS of a listener; that of `before` when its settings are the same.
    fn server_tls(
        &self,
        params: &ServerParams,
        what: &str,
        before: Option<&Server>,
    ) -> Result<Option<Arc<ServerTls>>, StartError> {
        let Some(wanted) = &params.tls else { return Ok(None) };
        if let Some(same) = before.filter(|server| server.params.tls.as_ref() == Some(wanted)) {
            return Ok(same.tls.clone());
        }
        let failed = |error| StartError::Tls { what: what.to_owned(), error };
        self.world.tls.server(wanted).map(Some).map_err(failed)
    }

    /// Adds a listener to every worker; where it listens.
    fn listener(
        &mut self,
        params: &RouterParams,
        server: &ServerParams,
        router: &Arc<Router>,
        next: &mut Next,
        before: Option<&Live>,
    ) -> Result<SocketAddr, StartError> {
        let address = SocketAddr::new(server.ip, server.port);
        let nth = (0..).find(|nth| !next.live.listeners.contains_key(&(address, *nth))).unwrap_or(0);
        let known = before.and_then(|live| live.listeners.get(&(address, nth)));
        let what = format!("router `{}`", params.label);
        let tls = self.server_tls(server, &what, known.map(|known| &*known.server))?;
        let (id, bound, sockets) = match known {
            Some(known) => (known.id, known.bound, Vec::new()),
            None => {
                let failed = |error| StartError::Listen { address, what, error };
                // Only another listener's address may change while its port stays.
                let same_port = |(other, _): &Wanted| address.port() != 0 && other.port() == address.port();
                let ours = before.is_some_and(|live| live.listeners.keys().any(same_port));
                let (bound, sockets) = server::listen(server, self.workers.max(1), ours).map_err(failed)?;
                next.live.next_id += 1;
                next.changes.opened += 1;
                (next.live.next_id, bound, sockets)
            }
        };
        let scope = self.metrics.root().scope("rt").scope(&params.label);
        let same_router = known.filter(|known| known.router == params.label).map(|known| &*known.server);
        let made = Arc::new(Server::new(server.clone(), bound, params, &scope, same_router, tls));
        let mut sockets = sockets.into_iter();
        for worker in &mut next.per_worker {
            let (server, router) = (made.clone(), router.clone());
            worker.push(Listening { id, socket: sockets.next(), server, router });
        }
        next.live.servers.push((params.label.clone(), bound));
        let listener = Listener { id, bound, router: params.label.clone(), server: made };
        next.live.listeners.insert((address, nth), listener);
        Ok(bound)
    }
}

fn open_access_log(params: &RouterParams) -> Result<Option<AccessLog>, StartError> {
    let Some(AccessLogParams { path, format, options }) = &params.access_log else { return Ok(None) };
    let failed = |error| StartError::AccessLog { router: params.label.clone(), path: path.clone(), error };
    AccessLog::open(path, *format, *options).map(Some).map_err(failed)
}

impl Live {
    /// Lets go of what `next` does without, after the workers have turned to it.
    pub fn retire(&self, next: &Live, metrics: &Metrics, scopes: &mut HashMap<String, Arc<Scopes>>) {
        for router in &self.routers {
            if next.routers.iter().any(|kept| Arc::ptr_eq(kept, router)) {
                continue;
            }
            if let Some(heir) = next.routers.iter().find(|heir| heir.params.label == router.params.label) {
                heir.inherit(router);
            }
            router.retire();
        }
        let root = metrics.root().scope("rt");
        for (wanted, listener) in &self.listeners {
            if next.listeners.get(wanted).is_none_or(|same| same.router != listener.router) {
                root.scope(&listener.router).scope("server").scope(&listener.server.label).prune();
            }
        }
        for router in &self.routers {
            let label = &router.params.label;
            if !next.routers.iter().any(|other| other.params.label == *label) {
                scopes.remove(label);
                metrics::gauge!("tls_validation_disabled", "router" => label.clone()).set(0.0);
                root.scope(label).prune();
            }
        }
    }
}
