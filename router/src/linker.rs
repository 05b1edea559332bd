//! Builds everything from a config and runs it: the only place of the router that does.
//!
//! Order of start: namers and interpreters, listening sockets, workers, admin. Order of the end: readiness fails,
//! workers stop accepting and finish, admin closes.

use crate::config::{Config, DiscoveryParams, NamerParams, RouterParams, TelemeterParams};
use crate::pages;
use crate::router::Router;
use crate::server::{self, Server};
use crate::shutdown::Shutdown;
use crate::worker::{self, Command, Listening};
use admin::{HostCheck, PathMatcher, Security};
use dtab::{Interpreter, Namer};
use namers::{
    Discovery, DnsOptions, DnsResolver, FsNamer, LocalInterpreter, RewriteNamer, Snapshot, SnapshotOptions, SystemNamer,
};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use telemetry::{ControlMetrics, Metrics};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// Histograms are summarised this often (telemetry reference §2).
const SNAPSHOT: Duration = Duration::from_secs(60);
/// Answers of the admin server that are under way have this long at the end.
const ADMIN_CLOSE: Duration = Duration::from_millis(500);
/// Caches are swept and control metrics kept up this often.
const UPKEEP: Duration = Duration::from_secs(5);
/// Gauges of discovery are set this often.
const SHOW: Duration = Duration::from_secs(1);

/// Why a start failed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be had.
    #[error(
        "cannot listen on {address} for {what}: {error}. Is another process using the port? Choose another one in the config"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Router and server, or the admin server.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A namer cannot be made.
    #[error("namer {prefix}: {reason}")]
    Namer {
        /// Its prefix.
        prefix: String,
        /// What is wrong.
        reason: String,
    },
    /// The system refuses something else.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] std::io::Error),
}

/// A namer of the config, with what the admin pages need of it.
pub struct BuiltNamer {
    /// The namer.
    pub namer: Arc<dyn Namer>,
    /// The file-system namer, if it is one.
    pub fs: Option<Arc<FsNamer>>,
}

/// Everything that runs.
pub struct Running {
    /// The routers, in the order of the config.
    pub routers: Vec<Arc<Router>>,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// Where the servers listen: router label and address, in the order of the config.
    pub servers: Vec<(String, SocketAddr)>,
    workers: Workers,
    snapshot: Option<Arc<Snapshot>>,
    admin_task: (oneshot::Sender<()>, tokio::task::JoinHandle<()>),
}

/// The worker threads.
#[derive(Clone)]
pub struct Workers {
    commands: Vec<mpsc::Sender<Command>>,
    threads: Arc<parking_lot::Mutex<Vec<JoinHandle<()>>>>,
}

impl Workers {
    /// True when every worker answers within `limit`: they serve.
    pub async fn answer_within(&self, limit: Duration) -> bool {
        for commands in &self.commands {
            let (answer, answered) = oneshot::channel();
            let ping = async { commands.send(Command::Ping(answer)).await.is_ok() && answered.await.is_ok() };
            if !tokio::time::timeout(limit, ping).await.unwrap_or(false) {
                return false;
            }
        }
        true
    }

    /// Drains all workers; true when all finished within `grace`.
    async fn drain(&self, grace: Duration) -> bool {
        let mut waiting = Vec::new();
        for commands in &self.commands {
            let (answer, answered) = oneshot::channel();
            if commands.send(Command::Drain(answer)).await.is_ok() {
                waiting.push(answered);
            }
        }
        let all = async {
            for answered in waiting {
                // A worker that is gone has nothing in flight.
                let _ = answered.await;
            }
        };
        tokio::time::timeout(grace, all).await.is_ok()
    }
}

/// Options of the process that are not in the config.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of data workers.
    pub workers: usize,
}

/// Starts everything. `handle` is the control runtime.
pub async fn start(
    config: Config,
    options: &Options,
    shutdown: &Shutdown,
    handle: &Handle,
) -> Result<Running, StartError> {
    config.warnings.iter().for_each(|warning| warn!("{warning}"));
    let metrics = Metrics::new();
    telemetry::register_process(&metrics);
    if let Some(control) = ControlMetrics::install() {
        control.attach(&metrics);
        handle.spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                control.run_upkeep();
            }
        });
    }
    let discovery = discovery(&config.discovery, handle);
    let dns = resolver(&config.discovery, &discovery);
    let system = SystemNamer::new(dns.clone(), handle.clone());
    let built = build_namers(&config.namers, &dns, &discovery)?;
    let in_preference: Vec<Arc<dyn Namer>> = built.iter().rev().map(|built| built.namer.clone()).collect();
    let interpreter = |namers: Vec<Arc<dyn Namer>>| -> Arc<dyn Interpreter> {
        Arc::new(LocalInterpreter::new(namers, None, system.clone(), handle.clone()))
    };
    let shared = interpreter(in_preference);
    let admin_socket = listen_admin(&config)?;
    let admin = admin_socket.local_addr()?;
    let (routers, servers, per_worker) = open_routers(&config, &shared, &metrics, options, handle)?;
    let workers = start_workers(per_worker)?;
    let state = pages::State {
        metrics: metrics.clone(),
        routers: routers.clone(),
        bare: interpreter(Vec::new()),
        fs: built.iter().filter_map(|built| built.fs.clone()).collect(),
        discovery: discovery.clone(),
        config: Arc::new(config.as_json.to_string()),
        workers: workers.clone(),
        shutdown: shutdown.clone(),
    };
    let pages = pages::pages(&Arc::new(state), &prometheus_pages(&config));
    let security = security(&config);
    // A loopback admin must not be reachable by way of a browser; one that was opened is asked for by any name.
    let hosts = if config.admin.ip.is_loopback() { HostCheck::default() } else { HostCheck::new(["*"]) };
    let (close_admin, admin_closing) = oneshot::channel::<()>();
    let closing = async move { _ = admin_closing.await };
    let admin_task = handle.spawn(admin::serve(admin_socket, Arc::new(pages), security, hosts, closing));
    handle.spawn(upkeep(metrics, routers.clone()));
    handle.spawn(show_discovery(discovery.clone()));
    info!(address = %admin, "admin server listening");
    Ok(Running {
        routers,
        admin,
        servers,
        workers,
        snapshot: discovery.snapshot,
        admin_task: (close_admin, admin_task),
    })
}

impl Running {
    /// Stops accepting, finishes what is in flight, at most for `grace`. True when nothing had to be cut.
    pub async fn stop(self, grace: Duration) -> bool {
        let clean = self.workers.drain(grace).await;
        if clean {
            let threads = std::mem::take(&mut *self.workers.threads.lock());
            for thread in threads {
                // A worker that panicked has said so already.
                let _ = thread.join();
            }
        }
        if let Some(snapshot) = self.snapshot {
            // Should it not work, it has said so.
            let _ = tokio::task::spawn_blocking(move || snapshot.flush()).await;
        }
        // The admin server closes last; who asked for the end gets an answer.
        drop(self.admin_task.0);
        _ = tokio::time::timeout(ADMIN_CLOSE, self.admin_task.1).await;
        clean
    }
}

async fn upkeep(metrics: Metrics, routers: Vec<Arc<Router>>) {
    let mut elapsed = Duration::ZERO;
    loop {
        tokio::time::sleep(UPKEEP).await;
        elapsed += UPKEEP;
        routers.iter().for_each(|router| router.sweep());
        if elapsed >= SNAPSHOT {
            elapsed = Duration::ZERO;
            metrics.snapshot();
        }
    }
}

/// What all namers share.
fn discovery(params: &DiscoveryParams, handle: &Handle) -> Discovery {
    let open = |folder: &PathBuf| Snapshot::open(folder.clone(), SnapshotOptions::default(), handle);
    let snapshot = params.state_dir.as_ref().map(open);
    Discovery { watch: params.watch(), snapshot, ..Discovery::new(handle.clone()) }
}

fn resolver(params: &DiscoveryParams, discovery: &Discovery) -> Arc<DnsResolver> {
    let options = DnsOptions {
        new_names_per_sec: params.new_names_per_sec,
        deny: params.deny.clone(),
        watch: params.watch(),
        ..DnsOptions::default()
    };
    DnsResolver::within(discovery, &params.dns_servers, options)
}

/// Keeps the gauges of discovery up to date.
async fn show_discovery(discovery: Discovery) {
    loop {
        discovery.watches.publish_metrics();
        if let Some(snapshot) = &discovery.snapshot {
            snapshot.publish_metrics();
        }
        tokio::time::sleep(SHOW).await;
    }
}

fn build_namers(
    params: &[NamerParams],
    dns: &Arc<DnsResolver>,
    discovery: &Discovery,
) -> Result<Vec<BuiltNamer>, StartError> {
    let build = |params: &NamerParams| match params {
        NamerParams::Fs { prefix, root_dir } => {
            let fs = FsNamer::within(discovery, prefix.clone(), root_dir.clone(), dns.clone())
                .map_err(|error| StartError::Namer { prefix: prefix.to_string(), reason: error.to_string() })?;
            let fs = Arc::new(fs);
            Ok(BuiltNamer { namer: fs.clone(), fs: Some(fs) })
        }
        NamerParams::Rewrite { prefix, pattern, name } => {
            let rewrite = RewriteNamer::new(prefix.clone(), pattern.text(), name)
                .map_err(|error| StartError::Namer { prefix: prefix.to_string(), reason: error.to_string() })?;
            Ok(BuiltNamer { namer: Arc::new(rewrite), fs: None })
        }
    };
    params.iter().map(build).collect()
}

fn listen_admin(config: &Config) -> Result<tokio::net::TcpListener, StartError> {
    let address = SocketAddr::new(config.admin.ip, config.admin.port);
    server::listen_once(address, &config.admin.socket)
        .and_then(tokio::net::TcpListener::from_std)
        .map_err(|error| StartError::Listen { address, what: "the admin server".to_owned(), error })
}

type Opened = (Vec<Arc<Router>>, Vec<(String, SocketAddr)>, Vec<Vec<Listening>>);

/// Makes the routers and their listening sockets, one socket per worker and server.
fn open_routers(
    config: &Config,
    interpreter: &Arc<dyn Interpreter>,
    metrics: &Metrics,
    options: &Options,
    handle: &Handle,
) -> Result<Opened, StartError> {
    let workers = options.workers.max(1);
    let mut per_worker: Vec<Vec<Listening>> = (0..workers).map(|_| Vec::new()).collect();
    let (mut routers, mut servers) = (Vec::new(), Vec::new());
    for params in &config.routers {
        let params: Arc<RouterParams> = Arc::new(params.clone());
        let scope = metrics.root().scope("rt").scope(&params.label);
        let router = Arc::new(Router::new(params.clone(), interpreter.clone(), scope.clone(), handle.clone()));
        let mut own = Vec::new();
        for server_params in &params.servers {
            let (address, sockets) = server::listen(server_params, workers).map_err(|error| StartError::Listen {
                address: SocketAddr::new(server_params.ip, server_params.port),
                what: format!("router `{}`", params.label),
                error,
            })?;
            let server = Arc::new(Server::new(server_params.clone(), address, &params, &scope));
            for (worker, socket) in per_worker.iter_mut().zip(sockets) {
                worker.push(Listening { socket, server: server.clone(), router: router.clone() });
            }
            own.push(address);
            servers.push((params.label.clone(), address));
        }
        router.set_listeners(own);
        routers.push(router);
    }
    Ok((routers, servers, per_worker))
}

fn start_workers(per_worker: Vec<Vec<Listening>>) -> Result<Workers, StartError> {
    let (mut commands, mut threads) = (Vec::new(), Vec::new());
    for (i, listening) in per_worker.into_iter().enumerate() {
        let (sender, receiver) = mpsc::channel(8);
        let run = move || {
            if let Err(error) = worker::run(listening, receiver) {
                tracing::error!(%error, "a worker could not start");
            }
        };
        threads.push(std::thread::Builder::new().name(format!("worker-{i}")).spawn(run)?);
        commands.push(sender);
    }
    Ok(Workers { commands, threads: Arc::new(parking_lot::Mutex::new(threads)) })
}

/// Paths and prefixes of the Prometheus pages: the default one is always there.
fn prometheus_pages(config: &Config) -> Vec<(String, String)> {
    const DEFAULT: &str = "/admin/metrics/prometheus";
    let mut pages: Vec<(String, String)> = Vec::new();
    for TelemeterParams::Prometheus { path, prefix } in &config.telemetry {
        pages.retain(|(known, _)| known != path);
        pages.push((path.clone(), prefix.clone()));
    }
    if !pages.iter().any(|(path, _)| path == DEFAULT) {
        pages.push((DEFAULT.to_owned(), String::new()));
    }
    pages
}

fn security(config: &Config) -> Security {
    let params = &config.admin.security;
    let matchers = |list: &[regex::Regex]| -> Vec<PathMatcher> {
        let matcher = |regex: &regex::Regex| -> PathMatcher {
            let regex = regex.clone();
            Arc::new(move |path: &str| regex.is_match(path))
        };
        list.iter().map(matcher).collect()
    };
    Security {
        ui: params.ui,
        control: params.control,
        diagnostics: params.diagnostics,
        whitelist: matchers(&params.whitelist),
        blacklist: matchers(&params.blacklist),
    }
}
