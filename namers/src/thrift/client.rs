//! [`ThriftNames`]: one namespace of a namerd, asked over ThriftMux (namerd reference §8.2).
//!
//! Every follow is a loop of long polls on the one link: ask with the last stamp, publish the answer, ask with its stamp.
//! When the link is lost, all of them ask anew on the next one, which leads to another replica when there is one. Called by
//! [`crate::remote::RemoteInterpreter`], which backs off after errors. Not for: bytes.

use super::INTERPRETER;
use super::binary::Wire;
use super::call::{self, ReplyError};
pub use super::link::Pings;
use super::link::{CallError, Link};
use super::messages::{AddrReply, AddrReq, BindReq, Bound, Delegation, Failure, NameRef, Stamp};
use super::{convert, delegation};
use crate::remote::RemoteNames;
use crate::remote::peers::Peers;
use crate::watch::{SourceError, Val, Watched};
use dtab::{Addr, BoundName, BoxFuture, DelegateTree, Dtab, Exact, NameTree, Path};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

/// A link that has held for so long is replaced at once; one that has not is an error, so that a namerd that closes
/// what it accepts is not asked again and again.
const STEADY: Duration = Duration::from_secs(1);
/// Routers that lose the same namerd come back spread over this time.
const SPREAD: Duration = Duration::from_millis(200);
/// For so long after no replica could be reached, the same is said to everybody who asks.
const RESPITE: Duration = Duration::from_millis(500);
/// Replicas that accept connections but do not shake hands, in a row, before that is an error.
const HANDSHAKES: usize = 3;
/// Answers to one follow within a second; what changes faster is seen as it is at the end of the second.
const ANSWERS_PER_SECOND: u32 = 50;
/// Explaining waits so long for the addresses of the leaves.
const ADDRESSES_TIMEOUT: Duration = Duration::from_millis(700);
/// Leaves whose addresses are asked for, at most.
const MAX_ADDRESSES: usize = 64;

/// See the module; cloning shares the connection.
#[derive(Clone)]
pub struct ThriftNames {
    shared: Arc<Shared>,
}

struct Shared {
    peers: Peers,
    namespace: String,
    pings: Pings,
    handle: Handle,
    connection: Mutex<Connection>,
}

type Opened = Result<Arc<Link>, Arc<str>>;

enum Connection {
    /// Nobody has asked yet.
    None,
    /// The last attempt failed at this time, for this reason.
    Failed(Instant, Arc<str>),
    /// Somebody connects; all wait for what comes of it.
    Opening(watch::Receiver<Option<Opened>>),
    Open(Arc<Link>, AbortHandle),
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Connection::Open(_, driver) = &*self.connection.lock() {
            driver.abort();
        }
    }
}

/// Why a series of polls has ended.
enum Ended {
    Lost(Arc<str>),
    Failed(String),
}

impl ThriftNames {
    /// Names by the dtab of `namespace`, of the namerds at `peers`. Nothing is connected before somebody asks. All tasks
    /// run on `handle`.
    pub fn new(peers: Peers, namespace: &str, pings: Pings, handle: Handle) -> ThriftNames {
        let connection = Mutex::new(Connection::None);
        ThriftNames { shared: Arc::new(Shared { peers, namespace: namespace.to_owned(), pings, handle, connection }) }
    }
}

impl Shared {
    /// The link that is open, or a new one.
    async fn link(self: &Arc<Shared>) -> Opened {
        let mut opening = match self.present() {
            Ok(opening) => opening,
            Err(known) => return known,
        };
        match opening.wait_for(Option::is_some).await {
            Ok(opened) => opened.clone().unwrap_or_else(|| Err("nothing was connected".into())),
            Err(_) => Err("connecting was given up".into()),
        }
    }

    /// What is known already, or what to wait for.
    fn present(self: &Arc<Shared>) -> Result<watch::Receiver<Option<Opened>>, Opened> {
        let mut connection = self.connection.lock();
        let again = match &*connection {
            Connection::Open(link, _) if link.is_open() => return Err(Ok(link.clone())),
            Connection::Opening(opening) => return Ok(opening.clone()),
            Connection::Failed(at, reason) if at.elapsed() < RESPITE => return Err(Err(reason.clone())),
            Connection::Open(..) => true,
            Connection::None | Connection::Failed(..) => false,
        };
        let (done, opening) = watch::channel(None);
        *connection = Connection::Opening(opening.clone());
        let shared = self.clone();
        self.handle.spawn(async move {
            if again {
                sleep(SPREAD.mul_f64(fastrand::f64())).await;
            }
            let opened = shared.open().await;
            // Nobody waits any more: the next one finds it all the same.
            let _ = done.send(Some(opened));
        });
        Ok(opening)
    }

    /// Connects, and notes what came of it.
    async fn open(self: &Arc<Shared>) -> Opened {
        let connected = self.connect().await;
        let mut connection = self.connection.lock();
        match connected {
            Ok((link, driver)) => {
                *connection = Connection::Open(link.clone(), driver);
                Ok(link)
            }
            Err(reason) => {
                let reason: Arc<str> = reason.into();
                *connection = Connection::Failed(Instant::now(), reason.clone());
                Err(reason)
            }
        }
    }

    async fn connect(&self) -> Result<(Arc<Link>, AbortHandle), String> {
        let mut problem = String::new();
        for _ in 0..HANDSHAKES {
            let (address, io) = self.peers.connect().await?;
            match Link::open(io, &self.pings).await {
                Ok((link, driven)) => {
                    let (link, peers, dst) = (Arc::new(link), self.peers.clone(), self.peers.dst().clone());
                    tracing::info!(namerd = %dst, %address, "connected");
                    let driving = link.clone();
                    let driver = self.handle.spawn(async move {
                        let reason = driving.drive(driven).await;
                        tracing::warn!(namerd = %dst, %address, "{reason}");
                        peers.ended(address, driving.age());
                    });
                    return Ok((link, driver.abort_handle()));
                }
                Err(reason) => {
                    self.peers.avoid(address);
                    problem = format!("{address}: {reason}");
                }
            }
        }
        let asked = "is this the interface io.l5d.thriftNameInterpreter of a namerd?";
        Err(format!("cannot speak to the namerd at {}: {problem}; {asked}", self.peers.dst()))
    }

    fn name(&self, stamp: Stamp, name: Path) -> NameRef {
        NameRef { stamp, name, ns: self.namespace.clone() }
    }

    /// Long polls until something fails that a new link does not mend.
    async fn follow<A: Wire, V: Val>(self: Arc<Shared>, asks: impl Asks<A, V>, out: Watched<V>) -> SourceError {
        let mut pace = Pace::new();
        loop {
            let link = match self.link().await {
                Ok(link) => link,
                Err(reason) => return SourceError(reason.to_string()),
            };
            match poll(&self, &link, &asks, &out, &mut pace).await {
                Ended::Lost(_) if link.age() >= STEADY => {}
                Ended::Lost(reason) => return SourceError(reason.to_string()),
                Ended::Failed(reason) => return SourceError(reason),
            }
        }
    }

    async fn ask<T: Wire>(&self, link: &Link, method: &str, request: &impl Wire) -> Result<T, Ended> {
        let reply = link.call(call::write_call(method, request)).await;
        let answer = match reply {
            Err(CallError::Lost(reason)) => Err(Ended::Lost(reason)),
            Err(CallError::Refused(reason)) => Err(Ended::Failed(reason)),
            Ok(reply) => match call::read_reply::<T, Failure>(&reply) {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(failure)) => Err(Ended::Failed(failure.reason)),
                Err(error @ (ReplyError::Application(_) | ReplyError::Wire(_))) => {
                    Err(Ended::Failed(error.to_string()))
                }
            },
        };
        let result = if answer.is_ok() { "success" } else { "failure" };
        let labels = [("kind", INTERPRETER.to_owned()), ("method", method.to_owned()), ("result", result.to_owned())];
        metrics::counter!("interpreter_calls_total", &labels).increment(1);
        answer
    }

    async fn explained(&self, link: &Arc<Link>, dtab: Dtab, path: Path) -> Result<DelegateTree, Ended> {
        let question = delegation::question(Exact(&dtab).to_string(), self.namespace.clone(), path);
        let answer: Delegation = self.ask(link, "delegate", &question).await?;
        delegation::read(&answer.tree).map_err(Ended::Failed)
    }

    /// Fills in the addresses of the leaves, as far as they are known soon.
    async fn addressed(self: &Arc<Shared>, link: &Arc<Link>, mut tree: DelegateTree) -> DelegateTree {
        let mut ids = BTreeSet::new();
        tree.for_each_leaf(&mut |name, _| {
            ids.insert(name.id.clone());
        });
        let mut asking = JoinSet::new();
        for id in ids.into_iter().take(MAX_ADDRESSES) {
            let (shared, link) = (self.clone(), link.clone());
            let asked = async move {
                let request = AddrReq(shared.name(Stamp::new(), id.clone()));
                let answer = shared.ask::<AddrReply>(&link, "addr", &request).await;
                let addr = answer.map_or_else(|ended| Err(ended.reason()), |reply| convert::read_addr(&reply));
                (id, addr.unwrap_or_else(Addr::failed))
            };
            asking.spawn_on(timeout(ADDRESSES_TIMEOUT, asked), &self.handle);
        }
        let mut known = BTreeMap::new();
        while let Some(asked) = asking.join_next().await {
            known.extend(asked.ok().and_then(Result::ok));
        }
        tree.for_each_leaf(&mut |name, addr| {
            if let Some(known) = known.get(&name.id) {
                *addr = known.clone();
            }
        });
        tree
    }
}

impl Ended {
    fn reason(self) -> String {
        match self {
            Ended::Lost(reason) => reason.to_string(),
            Ended::Failed(reason) => reason,
        }
    }
}

/// A question that is asked again and again.
trait Asks<A, V>: Send + Sync {
    fn method(&self) -> &'static str;
    /// The call with this stamp, on this link.
    fn call<'a>(&'a self, shared: &'a Shared, link: &'a Link, stamp: Stamp) -> BoxFuture<'a, Result<A, Ended>>;
    /// Stamp and value of an answer.
    fn read(&self, answer: A) -> (Stamp, Result<V, String>);
}

/// Polls on one link until something fails.
async fn poll<A: Wire, V: Val>(
    shared: &Shared,
    link: &Link,
    asks: &impl Asks<A, V>,
    out: &Watched<V>,
    pace: &mut Pace,
) -> Ended {
    let mut stamp = Stamp::new();
    loop {
        let answer = match asks.call(shared, link, stamp.clone()).await {
            Ok(answer) => answer,
            Err(ended) => return ended,
        };
        let (next, value) = asks.read(answer);
        match value {
            // Another namerd may know less than the last one.
            Ok(value) if stamp.is_empty() => out.ok_anew(value),
            Ok(value) => out.ok(value),
            Err(reason) => return Ended::Failed(format!("what namerd says to `{}` is none: {reason}", asks.method())),
        }
        if next == stamp || next.is_empty() {
            return Ended::Failed(format!("namerd answers `{}` without a new stamp", asks.method()));
        }
        stamp = next;
        pace.keep().await;
    }
}

/// Lets so many answers pass in a second, no more.
struct Pace {
    since: Instant,
    count: u32,
}

impl Pace {
    fn new() -> Pace {
        Pace { since: Instant::now(), count: 0 }
    }

    async fn keep(&mut self) {
        let second = Duration::from_secs(1);
        if self.since.elapsed() >= second {
            *self = Pace::new();
        }
        self.count += 1;
        if self.count >= ANSWERS_PER_SECOND {
            sleep(second.saturating_sub(self.since.elapsed())).await;
            *self = Pace::new();
        }
    }
}

struct Tree {
    /// Shared by all names of a router; its text is made anew for each call.
    dtab: Dtab,
    path: Path,
}

impl Asks<Bound, NameTree<BoundName>> for Tree {
    fn method(&self) -> &'static str {
        "bind"
    }

    fn call<'a>(&'a self, shared: &'a Shared, link: &'a Link, stamp: Stamp) -> BoxFuture<'a, Result<Bound, Ended>> {
        let request = BindReq { dtab: Exact(&self.dtab).to_string(), name: shared.name(stamp, self.path.clone()) };
        Box::pin(async move { shared.ask(link, self.method(), &request).await })
    }

    fn read(&self, answer: Bound) -> (Stamp, Result<NameTree<BoundName>, String>) {
        let tree = convert::read_tree(&answer.tree);
        (answer.stamp, tree)
    }
}

struct Addresses(Path);

impl Asks<AddrReply, Addr> for Addresses {
    fn method(&self) -> &'static str {
        "addr"
    }

    fn call<'a>(&'a self, shared: &'a Shared, link: &'a Link, stamp: Stamp) -> BoxFuture<'a, Result<AddrReply, Ended>> {
        let request = AddrReq(shared.name(stamp, self.0.clone()));
        Box::pin(async move { shared.ask(link, self.method(), &request).await })
    }

    fn read(&self, answer: AddrReply) -> (Stamp, Result<Addr, String>) {
        let addr = convert::read_addr(&answer);
        (answer.stamp, addr)
    }
}

impl RemoteNames for ThriftNames {
    fn follow_tree(
        &self,
        dtab: Dtab,
        path: Path,
        out: Watched<NameTree<BoundName>>,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        let (shared, asks) = (self.shared.clone(), Tree { dtab, path });
        Box::pin(async move { Err(shared.follow(asks, out).await) })
    }

    fn follow_addr(&self, id: Path, out: Watched<Addr>) -> BoxFuture<'static, Result<(), SourceError>> {
        let shared = self.shared.clone();
        Box::pin(async move { Err(shared.follow(Addresses(id), out).await) })
    }

    fn explain(&self, dtab: Dtab, path: Path) -> BoxFuture<'_, Result<DelegateTree, String>> {
        Box::pin(async move {
            let link = self.shared.link().await.map_err(|reason| reason.to_string())?;
            let tree = self.shared.explained(&link, dtab, path).await.map_err(Ended::reason)?;
            Ok(self.shared.addressed(&link, tree).await)
        })
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
