//! A data worker: one thread, one single-threaded runtime, its own listening sockets, its own upstream connections.
//!
//! What workers share is in [`Router`] and [`Server`]: snapshots and atomics. A request never leaves its worker.

use crate::clock;
use crate::h1;
use crate::pool::Pool;
use crate::route::PathService;
use crate::router::Router;
use crate::server::Server;
use crate::timer::Timers;
use http::HeaderMap;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

/// A worker remembers this many identified names per server.
const MEMO_ENTRIES: usize = 4096;
/// Longer keys (large overrides) are looked up anew with every request.
const MEMO_KEY_BYTES: usize = 512;
/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What other threads ask of a worker.
pub enum Command {
    /// Answer, to prove that the worker serves.
    Ping(oneshot::Sender<()>),
    /// Stop accepting, finish what is in flight, then answer. Connections still open at the deadline are cut by the
    /// end of the runtime.
    Drain(oneshot::Sender<()>),
}

/// What one worker has for one server.
pub struct WorkerServer {
    /// The server.
    pub server: Arc<Server>,
    /// Its router.
    pub router: Arc<Router>,
    /// The worker's connections.
    pub pool: Rc<Pool>,
    /// The worker's deadlines.
    pub timers: Rc<Timers>,
    /// The worker's spare header maps.
    pub spare: Rc<Spare>,
    /// Room for the key of the request at hand.
    pub key: RefCell<Vec<u8>>,
    /// Does not keep services alive: what leaves the cache is gone.
    memo: RefCell<HashMap<Vec<u8>, Memo>>,
}

/// A remembered service, the path segments to remove, and the identifier.
type Memo = (Weak<PathService>, usize, usize);

/// Header maps that are used again and again; connections that wait for a request hold none.
#[derive(Default)]
pub struct Spare(RefCell<Vec<HeaderMap>>);

/// Spare maps kept, at most.
const SPARE_MAPS: usize = 256;
/// Fields a kept map may have room for, at most.
const SPARE_FIELDS: usize = 128;

impl Spare {
    /// An empty map, with room if there is one to spare.
    pub fn take(&self) -> HeaderMap {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Gives a map back. It is emptied, so that it holds on to no buffer.
    pub fn give(&self, mut map: HeaderMap) {
        let mut maps = self.0.borrow_mut();
        if maps.len() < SPARE_MAPS && map.capacity() <= SPARE_FIELDS {
            map.clear();
            maps.push(map);
        }
    }
}

/// A name that was identified before.
pub struct Remembered {
    /// Its service.
    pub service: Arc<PathService>,
    /// Path segments to remove from the target.
    pub consume: usize,
    /// The identifier that gave the name, counted from 0.
    pub identifier: usize,
}

impl WorkerServer {
    /// What was identified under `key` before.
    pub fn recall(&self, key: &[u8]) -> Option<Remembered> {
        let memo = self.memo.borrow();
        let (service, consume, identifier) = memo.get(key)?;
        let service = service.upgrade().filter(|service| !service.is_closed())?;
        Some(Remembered { service, consume: *consume, identifier: *identifier })
    }

    /// Remembers an identified name.
    pub fn remember(&self, key: &[u8], entry: &Remembered) {
        if key.len() > MEMO_KEY_BYTES {
            return;
        }
        let mut memo = self.memo.borrow_mut();
        if memo.len() >= MEMO_ENTRIES {
            memo.clear();
        }
        memo.insert(key.to_vec(), (Arc::downgrade(&entry.service), entry.consume, entry.identifier));
    }

    fn forget_closed(&self) {
        self.memo.borrow_mut().retain(|_, (service, ..)| service.strong_count() > 0);
    }
}

/// One listening socket of a worker and whose it is.
pub struct Listening {
    /// The socket, not yet in a runtime.
    pub socket: std::net::TcpListener,
    /// Its server.
    pub server: Arc<Server>,
    /// Its router.
    pub router: Arc<Router>,
}

/// Runs a worker on the calling thread until it is drained. Errors when the runtime cannot be made.
pub fn run(listening: Vec<Listening>, mut commands: mpsc::Receiver<Command>) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let (pool, timers) = (Rc::new(Pool::default()), Rc::new(Timers::default()));
        let spare = Rc::new(Spare::default());
        let ticking = timers.clone();
        tokio::task::spawn_local(async move { ticking.run().await });
        let mut accepting = Vec::new();
        let mut servers = Vec::new();
        for listening in listening {
            let served = Rc::new(WorkerServer {
                server: listening.server,
                router: listening.router,
                pool: pool.clone(),
                timers: timers.clone(),
                spare: spare.clone(),
                key: RefCell::default(),
                memo: RefCell::default(),
            });
            servers.push(served.clone());
            let listener = TcpListener::from_std(listening.socket)?;
            let (stop, stopped) = oneshot::channel();
            accepting.push((stop, tokio::task::spawn_local(accept(listener, served, stopped))));
        }
        tokio::task::spawn_local(sweep(pool.clone(), servers));
        while let Some(command) = commands.recv().await {
            match command {
                // Whoever asked may have given up.
                Command::Ping(answer) => _ = answer.send(()),
                Command::Drain(answer) => {
                    drain(accepting, &pool, &timers).await;
                    _ = answer.send(());
                    break;
                }
            }
        }
        Ok(())
    })
}

async fn sweep(pool: Rc<Pool>, servers: Vec<Rc<WorkerServer>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        pool.sweep(clock::now());
        servers.iter().for_each(|server| server.forget_closed());
    }
}

/// Stops accepting, then waits for the connections. What waits in the accept queue is taken first.
async fn drain(accepting: Vec<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>, pool: &Pool, timers: &Timers) {
    let mut tasks = Vec::new();
    for (stop, task) in accepting {
        drop(stop);
        tasks.push(task);
    }
    for task in tasks {
        // A task that panicked accepts no more either.
        let _ = task.await;
    }
    timers.drain();
    while timers.live() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pool.clear();
}

async fn accept(listener: TcpListener, served: Rc<WorkerServer>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = &mut stopped => return take_queued(listener, &served),
        };
        match accepted {
            Ok((socket, peer)) => start(&served, socket, peer),
            Err(error) => {
                // Out of descriptors, most likely: let connections end before trying again.
                warn!(listener = %served.server.label, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves the connections that are already in the accept queue, then closes the socket.
fn take_queued(listener: TcpListener, served: &Rc<WorkerServer>) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((socket, peer)) = listener.accept() {
        if socket.set_nonblocking(true).is_ok()
            && let Ok(socket) = tokio::net::TcpStream::from_std(socket)
        {
            start(served, socket, peer);
        }
    }
}

fn start(served: &Rc<WorkerServer>, socket: tokio::net::TcpStream, peer: std::net::SocketAddr) {
    let options = &served.server.params.socket;
    if let Err(error) = socket.set_nodelay(options.no_delay) {
        debug!(%peer, %error, "connection closed before it was served");
        return;
    }
    if let Some(keep_alive) = options.keep_alive {
        // An option that the system refuses is no reason to refuse the connection.
        let _ = socket2::SockRef::from(&socket).set_keepalive(keep_alive);
    }
    let slot = served.timers.slot();
    tokio::task::spawn_local(h1::serve(served.clone(), socket, peer, slot));
}
