//! A data worker: one thread, one single-threaded runtime, its own listening sockets, its own upstream connections.
//!
//! What workers share is in [`Router`] and [`Server`]: snapshots and atomics. A request never leaves its worker. A reload
//! gives a worker another set of listeners: those that stay keep their sockets and connections ([`Home`]).

use crate::clock;
use crate::overrides;
use crate::pool::Pool;
use crate::request;
use crate::route::PathService;
use crate::router::Router;
use crate::secure::Pace;
use crate::server::Server;
use crate::timer::{Slot, Timers};
use http::HeaderMap;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, warn};

/// A listener that cannot accept says so again after this.
const TELL_AGAIN: Duration = Duration::from_secs(5);

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
    /// Serve exactly these listeners from now on, then answer. One that is not among them stops accepting; its
    /// connections end after the request at hand.
    Serve(Vec<Listening>, oneshot::Sender<()>),
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
    /// The worker's spare header maps.
    pub spare: Rc<Spare>,
    /// The worker's share of time for TLS handshakes.
    pub pace: Rc<Pace>,
    /// Room for the key of the request at hand.
    pub key: RefCell<Vec<u8>>,
    /// Does not keep services alive: what leaves the cache is gone.
    memo: RefCell<HashMap<Vec<u8>, Memo>>,
    /// The same for requests under overrides, so that ever new ones push out no others.
    override_memo: RefCell<HashMap<Vec<u8>, Memo>>,
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
        if map.capacity() > 0 && maps.len() < SPARE_MAPS && map.capacity() <= SPARE_FIELDS {
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
    /// What was identified under `key` before; `plain` without an override.
    pub fn recall(&self, key: &[u8], plain: bool) -> Option<Remembered> {
        let memo = self.memo_for(plain).borrow();
        let (service, consume, identifier) = memo.get(key)?;
        let service = service.upgrade().filter(|service| !service.is_closed())?;
        Some(Remembered { service, consume: *consume, identifier: *identifier })
    }

    fn memo_for(&self, plain: bool) -> &RefCell<HashMap<Vec<u8>, Memo>> {
        if plain { &self.memo } else { &self.override_memo }
    }

    /// Remembers an identified name.
    pub fn remember(&self, key: &[u8], entry: &Remembered, plain: bool) {
        if key.len() > MEMO_KEY_BYTES {
            return;
        }
        let mut memo = self.memo_for(plain).borrow_mut();
        if memo.len() >= MEMO_ENTRIES {
            memo.clear();
        }
        memo.insert(key.to_vec(), (Arc::downgrade(&entry.service), entry.consume, entry.identifier));
    }

    /// Another one is in force: connections that wait for a request hold this one, and need not hold its memos.
    fn forget(&self) {
        self.memo.take();
        self.override_memo.take();
    }

    fn forget_closed(&self) {
        for memo in [&self.memo, &self.override_memo] {
            memo.borrow_mut().retain(|_, (service, ..)| service.strong_count() > 0);
        }
    }
}

/// What is in force on one listener of a worker. Connections look it up for every request.
pub struct Home {
    current: RefCell<Rc<WorkerServer>>,
    timers: Rc<Timers>,
    /// The listener's number, by which its connections are ended.
    group: u64,
}

impl Home {
    /// A deadline of its own for a request among others on a connection of this listener.
    pub fn slot(&self) -> Rc<Slot> {
        self.timers.slot(self.group)
    }

    /// What is in force now.
    pub fn current(&self) -> Rc<WorkerServer> {
        self.current.borrow().clone()
    }
}

/// One listener of a worker: whose it is, and its socket when it is new.
pub struct Listening {
    /// The number of the listener; the same one for all workers, and after a reload that keeps it.
    pub id: u64,
    /// The socket, not yet in a runtime; None for a listener that the worker has already.
    pub socket: Option<std::net::TcpListener>,
    /// Its server.
    pub server: Arc<Server>,
    /// Its router.
    pub router: Arc<Router>,
}

/// A listener that accepts.
struct Accepting {
    home: Rc<Home>,
    /// Dropping it stops the accepting.
    _stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

/// A worker's own things.
struct Worker {
    pool: Rc<Pool>,
    timers: Rc<Timers>,
    spare: Rc<Spare>,
    pace: Rc<Pace>,
    accepting: Rc<RefCell<HashMap<u64, Accepting>>>,
}

/// Runs a worker on the calling thread until it is drained. Errors when the runtime cannot be made.
pub fn run(mut commands: mpsc::Receiver<Command>) -> std::io::Result<()> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async move {
        let worker = Worker {
            // Without listeners there is nothing to keep.
            pool: Rc::new(Pool::new(0)),
            timers: Rc::default(),
            spare: Rc::default(),
            pace: Rc::default(),
            accepting: Rc::default(),
        };
        let claimed = worker.pool.clone();
        tokio::task::spawn_local(async move { claimed.answer_claims().await });
        let ticking = worker.timers.clone();
        tokio::task::spawn_local(async move { ticking.run().await });
        tokio::task::spawn_local(sweep(worker.pool.clone(), worker.accepting.clone()));
        while let Some(command) = commands.recv().await {
            match command {
                // Whoever asked may have given up.
                Command::Ping(answer) => _ = answer.send(()),
                Command::Serve(listeners, answer) => {
                    worker.serve(listeners);
                    _ = answer.send(());
                }
                Command::Drain(answer) => {
                    worker.drain().await;
                    _ = answer.send(());
                    break;
                }
            }
        }
        Ok(())
    })
}

impl Worker {
    /// Puts this set of listeners in force.
    fn serve(&self, listeners: Vec<Listening>) {
        self.pool.set_limit(max_idle(&listeners));
        let mut accepting = self.accepting.borrow_mut();
        let wanted: HashSet<u64> = listeners.iter().map(|listening| listening.id).collect();
        accepting.retain(|id, _| {
            let stays = wanted.contains(id);
            if !stays {
                // Dropping its entry stops the accepting.
                self.timers.end(*id);
            }
            stays
        });
        for Listening { id, socket, server, router } in listeners {
            let label = server.label.clone();
            let served = Rc::new(WorkerServer {
                server,
                router,
                pool: self.pool.clone(),
                spare: self.spare.clone(),
                pace: self.pace.clone(),
                key: RefCell::default(),
                memo: RefCell::default(),
                override_memo: RefCell::default(),
            });
            match (accepting.get(&id), socket.map(TcpListener::from_std)) {
                (Some(known), _) => known.home.current.replace(served).forget(),
                (None, Some(Ok(listener))) => _ = accepting.insert(id, self.accept(id, listener, served)),
                (None, Some(Err(error))) => error!(listener = %label, %error, "a socket cannot be served"),
                (None, None) => error!(listener = %label, "a listener without a socket"),
            }
        }
    }

    fn accept(&self, id: u64, listener: TcpListener, served: Rc<WorkerServer>) -> Accepting {
        let home = Rc::new(Home { current: RefCell::new(served), timers: self.timers.clone(), group: id });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::task::spawn_local(accept(listener, home.clone(), stopped));
        Accepting { home, _stop: stop, task }
    }

    /// Stops accepting, then waits for the connections. What waits in the accept queue is taken first.
    async fn drain(&self) {
        let accepting: Vec<Accepting> = self.accepting.borrow_mut().drain().map(|(_, accepting)| accepting).collect();
        // All are told before any is waited for.
        let tasks: Vec<_> = accepting.into_iter().map(|accepting| accepting.task).collect();
        self.timers.drain();
        for task in tasks {
            // A task that panicked accepts no more either.
            let _ = task.await;
        }
        self.timers.drain();
        while self.timers.live() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.pool.clear();
    }
}

/// Most idle connections of a worker: what its routers allow, together.
fn max_idle(listening: &[Listening]) -> usize {
    let mut routers: Vec<&Arc<Router>> = Vec::new();
    for router in listening.iter().map(|listening| &listening.router) {
        if !routers.iter().any(|known| Arc::ptr_eq(known, router)) {
            routers.push(router);
        }
    }
    routers.iter().fold(0, |sum, router| sum.saturating_add(router.params.max_idle_per_worker))
}

async fn sweep(pool: Rc<Pool>, accepting: Rc<RefCell<HashMap<u64, Accepting>>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        pool.sweep(clock::now());
        accepting.borrow().values().for_each(|accepting| accepting.home.current().forget_closed());
    }
}

async fn accept(listener: TcpListener, home: Rc<Home>, mut stopped: oneshot::Receiver<()>) {
    let mut told = None;
    loop {
        let accepted = tokio::select! {
            // First: without descriptors accepting is ready with an error each time.
            biased;
            _ = &mut stopped => {
                take_queued(listener, &home);
                // Those too: no request after the next one.
                return home.timers.end(home.group);
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => start(&home, socket, peer),
            Err(error) => {
                // Out of descriptors, most likely: who comes waits until connections end. Those to services stay, so that
                // who is there already is served (attack M3).
                metrics::counter!("accept_errors_total").increment(1);
                if told.is_none_or(|at: Instant| at.elapsed() > TELL_AGAIN) {
                    warn!(listener = %home.current().server.label, %error, "cannot accept connections for the moment");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves the connections that are already in the accept queue, then closes the socket.
fn take_queued(listener: TcpListener, home: &Rc<Home>) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((socket, peer)) = listener.accept() {
        if socket.set_nonblocking(true).is_ok()
            && let Ok(socket) = tokio::net::TcpStream::from_std(socket)
        {
            start(home, socket, peer);
        }
    }
}

fn start(home: &Rc<Home>, socket: tokio::net::TcpStream, peer: std::net::SocketAddr) {
    let served = home.current();
    let options = &served.server.params.socket;
    if let Err(error) = socket.set_nodelay(options.no_delay) {
        debug!(%peer, %error, "connection closed before it was served");
        return;
    }
    if let Some(keep_alive) = options.keep_alive {
        // An option that the system refuses is no reason to refuse the connection.
        let _ = socket2::SockRef::from(&socket).set_keepalive(keep_alive);
    }
    let Some(admission) = served.server.admit(overrides::source(peer.ip().to_canonical())) else {
        // Closing at once is all the answer that costs nothing.
        return debug!(%peer, listener = %served.server.label, "too many connections: closed");
    };
    let slot = home.timers.slot(home.group);
    tokio::task::spawn_local(request::serve(home.clone(), socket, peer, slot, admission));
}
