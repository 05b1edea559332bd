//! Builds everything from a config and runs it: the only place of the router that does.
//!
//! Order of start: namers and interpreters, listening sockets, workers, admin. Order of the end: readiness fails,
//! workers stop accepting and finish, admin closes. A reload builds the next [`Live`] beside the one in force and then
//! turns all workers to it.

use crate::config::Config;
use crate::interpreters::Remotes;
use crate::live::{Changes, Live, Maker, Next};
use crate::pages;
use crate::restart::Fixed;
use crate::scopes::Scopes;
use crate::worker::{self, Command, Listening};
use admin::LivePages;
use arc_swap::ArcSwap;
use setup::administration::{AdminError, AdminSocket, Serving};
use setup::naming::{NamingError, World};
use setup::shutdown::Shutdown;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use telemetry::Metrics;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc, oneshot};
use tracing::{info, warn};

/// Histograms are summarised this often (telemetry reference §2).
const SNAPSHOT: Duration = Duration::from_secs(60);
/// Answers of the admin server that are under way have this long at the end.
const ADMIN_CLOSE: Duration = Duration::from_millis(500);
/// Access logs have this long at the end to be written.
const LOG_FLUSH: Duration = Duration::from_secs(1);
/// Caches are swept this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// Writing what is known of names to disk may take so long at the end.
const SNAPSHOT_FLUSH: Duration = Duration::from_secs(2);

/// Why a start failed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be had.
    #[error("cannot listen on {address} for {what}: {error}. {}", setup::listen::advice(error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Router and server.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// There is no administrative server.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Names cannot be had.
    #[error(transparent)]
    Naming(#[from] NamingError),
    /// The file of an interpreter cannot be followed.
    #[error("the dtab file {}: {error}", path.display())]
    DtabFile {
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A namespace has no name.
    #[error("`{0}` is not the name of a namespace")]
    Namespace(String),
    /// Certificates or keys cannot be used; a check of the config would have said so.
    #[error("TLS of {what}: {error}")]
    Tls {
        /// Whose.
        what: String,
        /// What is wrong with which file.
        error: tls::TlsError,
    },
    /// An access log cannot be written.
    #[error(
        "cannot open the access log {} of router `{router}`: {error}. Does the folder exist, and may this process write there?",
        path.display()
    )]
    AccessLog {
        /// Label of the router.
        router: String,
        /// The file.
        path: std::path::PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The system refuses something else.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] std::io::Error),
}

/// Everything that runs.
pub struct Running {
    /// What is in force.
    pub live: Arc<ArcSwap<Live>>,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    linked: Mutex<Linked>,
    workers: Workers,
    admin_task: parking_lot::Mutex<Option<Serving>>,
}

/// What a reload works with; one at a time.
struct Linked {
    /// What only a start reads.
    fixed: Fixed,
    world: World,
    metrics: Metrics,
    scopes: HashMap<String, Arc<Scopes>>,
    remotes: Remotes,
    pages: Arc<LivePages>,
    state: Arc<pages::State>,
    handle: Handle,
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

    /// Turns all workers to these listeners, and waits until they have.
    async fn serve(&self, per_worker: Vec<Vec<Listening>>) {
        let mut waiting = Vec::new();
        for (commands, listeners) in self.commands.iter().zip(per_worker) {
            let (answer, answered) = oneshot::channel();
            if commands.send(Command::Serve(listeners, answer)).await.is_ok() {
                waiting.push(answered);
            }
        }
        for answered in waiting {
            // A worker that is gone has said so already.
            let _ = answered.await;
        }
    }

    /// Drains all workers; true when all finished within `grace`.
    async fn drain(&self, grace: Duration) -> bool {
        let mut draining = tokio::task::JoinSet::new();
        for commands in self.commands.clone() {
            draining.spawn(async move {
                let (answer, answered) = oneshot::channel();
                // A worker that is gone has nothing in flight.
                if commands.send(Command::Drain(answer)).await.is_ok() {
                    let _ = answered.await;
                }
            });
        }
        tokio::time::timeout(grace, draining.join_all()).await.is_ok()
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
    let metrics = setup::administration::new_metrics(handle);
    let world = World::new(&config.discovery, handle);
    let (mut scopes, mut remotes) = (HashMap::new(), Remotes::default());
    let admin_socket = AdminSocket::open(&config.admin, &world.tls)?;
    let admin = admin_socket.address();
    let workers = start_workers(options.workers.max(1))?;
    let mut maker = Maker {
        world: &world,
        metrics: &metrics,
        scopes: &mut scopes,
        remotes: &mut remotes,
        workers: workers.commands.len(),
        admin,
        handle,
    };
    let mut next = maker.make(&config, None).await?;
    workers.serve(std::mem::take(&mut next.per_worker)).await;
    next.tell();
    let live = next.live;
    let live = Arc::new(ArcSwap::from_pointee(live));
    let state = Arc::new(pages::State {
        metrics: metrics.clone(),
        live: live.clone(),
        discovery: world.discovery.clone(),
        workers: workers.clone(),
        shutdown: shutdown.clone(),
    });
    let pages = Arc::new(LivePages::new(pages::pages(&state, &config.telemetry)));
    let (close_admin, admin_task) = admin_socket.serve(&config.admin, pages.clone(), handle);
    handle.spawn(upkeep(metrics.clone(), live.clone()));
    handle.spawn(setup::administration::show_discovery(world.discovery.clone()));
    info!(address = %admin, "admin server listening");
    let handle = handle.clone();
    let fixed = Fixed::new(&config);
    let linked = Mutex::new(Linked { fixed, world, metrics, scopes, remotes, pages, state, handle });
    Ok(Running { live, admin, linked, workers, admin_task: parking_lot::Mutex::new(Some((close_admin, admin_task))) })
}

impl Running {
    /// Puts `config` in force without dropping a connection. On an error what was in force stays so. Tells what changed,
    /// and which keys need a restart.
    pub async fn reload(&self, config: Config) -> Result<(Changes, Vec<&'static str>), StartError> {
        let mut linked = self.linked.lock().await;
        let linked = &mut *linked;
        let before = self.live.load_full();
        let mut maker = Maker {
            world: &linked.world,
            metrics: &linked.metrics,
            scopes: &mut linked.scopes,
            remotes: &mut linked.remotes,
            workers: self.workers.commands.len(),
            admin: self.admin,
            handle: &linked.handle,
        };
        let mut next = maker.make(&config, Some(&before)).await?;
        config.warnings.iter().for_each(|warning| warn!("{warning}"));
        self.workers.serve(std::mem::take(&mut next.per_worker)).await;
        next.tell();
        let Next { live, changes, .. } = next;
        let live = Arc::new(live);
        self.live.store(live.clone());
        before.retire(&live, &linked.metrics, &mut linked.scopes);
        linked.pages.replace(pages::pages(&linked.state, &config.telemetry));
        Ok((changes, linked.fixed.needs_restart(&config)))
    }

    /// Stops accepting, finishes what is in flight, at most for `grace`. True when nothing had to be cut.
    pub async fn stop(&self, grace: Duration) -> bool {
        let clean = self.workers.drain(grace).await;
        if clean {
            let threads = std::mem::take(&mut *self.workers.threads.lock());
            for thread in threads {
                // A worker that panicked has said so already.
                let _ = thread.join();
            }
        }
        // Blocks this task, when nothing else is left to do.
        telemetry::access_log::flush_all(LOG_FLUSH);
        // A reload that hangs must not hold the end.
        let linked = tokio::time::timeout(SNAPSHOT_FLUSH, self.linked.lock()).await;
        if let Ok(Some(snapshot)) = linked.map(|linked| linked.world.discovery.snapshot.clone()) {
            // Should it not work, it has said so; a disk that hangs is left alone.
            let flushing = tokio::task::spawn_blocking(move || snapshot.flush());
            let _ = tokio::time::timeout(SNAPSHOT_FLUSH, flushing).await;
        }
        // The admin server closes last; who asked for the end gets an answer.
        let admin = self.admin_task.lock().take();
        if let Some((close, serving)) = admin {
            drop(close);
            _ = tokio::time::timeout(ADMIN_CLOSE, serving).await;
        }
        clean
    }
}

async fn upkeep(metrics: Metrics, live: Arc<ArcSwap<Live>>) {
    let mut elapsed = Duration::ZERO;
    loop {
        tokio::time::sleep(UPKEEP).await;
        elapsed += UPKEEP;
        live.load().routers.iter().for_each(|router| router.sweep());
        if elapsed >= SNAPSHOT {
            elapsed = Duration::ZERO;
            metrics.snapshot();
        }
    }
}

/// Starts the worker threads; they serve nothing yet.
fn start_workers(count: usize) -> Result<Workers, StartError> {
    let (mut commands, mut threads) = (Vec::new(), Vec::new());
    for i in 0..count {
        let (sender, receiver) = mpsc::channel(8);
        let run = move || {
            if let Err(error) = worker::run(receiver) {
                tracing::error!(%error, "a worker could not start");
            }
        };
        threads.push(std::thread::Builder::new().name(format!("worker-{i}")).spawn(run)?);
        commands.push(sender);
    }
    Ok(Workers { commands, threads: Arc::new(parking_lot::Mutex::new(threads)) })
}
