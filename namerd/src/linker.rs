//! Builds everything from a config and runs it: the only place of namerd that does.
//!
//! Order of start: store, namers, listening sockets, admin. Order of the end: interfaces stop accepting and finish, admin
//! closes.

mod gauges;
mod stores;

use crate::access::{Access, LOOK};
use crate::config::{Config, InterfaceKind, InterfaceParams};
use crate::iface::http::{HttpInterface, HttpParams};
use crate::iface::mesh::MeshInterface;
use crate::iface::thrift::ThriftInterface;
use crate::iface::{Closing, Interface};
use crate::names::Names;
use crate::pages;
use crate::serve::Listener;
use crate::storage::counted::Counted;
use admin::{HostCheck, LivePages};
use setup::administration::{AdminError, AdminSocket, Serving, new_metrics, show_discovery};
use setup::naming::{NamingError, World};
use setup::shutdown::Shutdown;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use telemetry::Metrics;
use tls::{ServerTlsParams, TlsError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

pub use stores::StorageError;

/// Answers of the admin server that are under way have this long at the end.
const ADMIN_CLOSE: Duration = Duration::from_millis(500);
/// Histograms are summarised this often (telemetry reference §2).
const SNAPSHOT: Duration = Duration::from_secs(60);

/// Why a start failed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be had.
    #[error("cannot listen on {address} for {kind}: {error}. {}", setup::listen::advice(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The interface.
        kind: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// Names cannot be had.
    #[error(transparent)]
    Naming(#[from] NamingError),
    /// There is no administrative server.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Certificates or keys cannot be used; a check of the config would have said so.
    #[error("TLS of {kind}: {error}")]
    Tls {
        /// The interface.
        kind: &'static str,
        /// What is wrong with which file.
        error: TlsError,
    },
}

/// Everything that runs.
pub struct Running {
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// Where the interfaces listen, with their kinds, in the order of the config.
    pub interfaces: Vec<(&'static str, SocketAddr)>,
    close: watch::Sender<bool>,
    serving: JoinSet<()>,
    admin_task: Serving,
}

/// Starts everything. `handle` is where tasks run.
pub async fn start(config: Config, shutdown: &Shutdown, handle: &Handle) -> Result<Running, StartError> {
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    let metrics = new_metrics(handle);
    let world = World::new(&config.discovery, handle);
    let admin_socket = AdminSocket::open(&config.admin, &world.tls)?;
    let store = stores::open(&config.storage, &world).await?;
    let store = Arc::new(Counted::new(store, &metrics.root().scope("dtabstore")));
    let naming = world.naming(&config.namers, None).await?;
    gauges::show(&naming, &world.discovery, &metrics.root().scope("namer"));
    let names =
        Names::new(store, naming.namers.clone(), world.system().clone(), &world.discovery).listing(naming.fs.clone());
    let access = Access::new(config.access.clone()).watching(LOOK, handle);
    let (close, closing) = watch::channel(false);
    let mut linked = Linked { names: &names, access: &access, world: &world, metrics: &metrics, closing, handle };
    let (mut interfaces, mut serving) = (Vec::new(), JoinSet::new());
    for params in &config.interfaces {
        interfaces.push(linked.interface(params, &mut serving)?);
    }
    let admin = admin_socket.address();
    let pages = pages::pages(&pages::Shown {
        metrics: &metrics,
        config: &config,
        names: &names,
        naming: &naming,
        discovery: &world.discovery,
        shutdown,
    });
    let admin_task = admin_socket.serve(&config.admin, Arc::new(LivePages::new(pages)), handle);
    handle.spawn(summarise(metrics));
    handle.spawn(show_discovery(world.discovery.clone()));
    info!(address = %admin, "admin server listening");
    Ok(Running { admin, interfaces, close, serving, admin_task })
}

/// What an interface is made of.
struct Linked<'a> {
    names: &'a Names,
    access: &'a Access,
    world: &'a World,
    metrics: &'a Metrics,
    closing: Closing,
    handle: &'a Handle,
}

impl Linked<'_> {
    fn protocol(&self, params: &InterfaceParams) -> Arc<dyn Interface> {
        let (names, access) = (self.names.clone(), self.access.clone());
        let scope = |kind| self.metrics.root().scope("interface").scope(kind);
        match params.kind.clone() {
            InterfaceKind::Http { max_watches, hosts, guard } => {
                // What listens on loopback must not be reachable by way of a browser.
                let open = hosts.is_empty() && !params.ip.is_loopback();
                let hosts = if open { HostCheck::new(["*"]) } else { HostCheck::new(hosts) };
                let own = HttpParams { hosts, watches_per_client: max_watches, guard, ..HttpParams::default() };
                Arc::new(HttpInterface::new(names, access, own).counting(&scope("io.l5d.httpController")))
            }
            InterfaceKind::Mesh => Arc::new(MeshInterface::new(names, access).counting(&scope("io.l5d.mesh"))),
            InterfaceKind::Thrift(options) => {
                let thrift = ThriftInterface::new(names, access, &options, self.handle);
                Arc::new(thrift.counting(&scope("io.l5d.thriftNameInterpreter")))
            }
        }
    }

    /// Listens, and serves from now on.
    fn interface(
        &mut self,
        params: &InterfaceParams,
        serving: &mut JoinSet<()>,
    ) -> Result<(&'static str, SocketAddr), StartError> {
        let interface = self.protocol(params);
        let kind = interface.kind();
        let failed = |error| StartError::Tls { kind, error };
        let tls = params.tls.clone().map(|tls| ServerTlsParams { alpn: interface.alpn(), ..tls });
        let tls = tls.map(|tls| self.world.tls.server(&tls)).transpose().map_err(failed)?;
        let wanted = SocketAddr::new(params.ip, params.port);
        let listener =
            Listener::open(params, tls).map_err(|error| StartError::Listen { address: wanted, kind, error })?;
        let address = listener.address();
        info!(%address, interface = kind, "listening");
        serving.spawn_on(listener.run(interface, self.closing.clone()), self.handle);
        Ok((kind, address))
    }
}

/// Sums histograms up, as Linkerd's admin pages show them.
async fn summarise(metrics: Metrics) {
    loop {
        tokio::time::sleep(SNAPSHOT).await;
        metrics.snapshot();
    }
}

impl Running {
    /// Stops accepting, finishes what is in flight, at most for `grace`. True when nothing had to be cut.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.close.send_replace(true);
        let finished = async { while self.serving.join_next().await.is_some() {} };
        let clean = tokio::time::timeout(grace, finished).await.is_ok();
        self.serving.abort_all();
        let (close, serving) = self.admin_task;
        drop(close);
        _ = tokio::time::timeout(ADMIN_CLOSE, serving).await;
        clean
    }
}
