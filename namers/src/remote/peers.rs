//! [`Peers`]: the replicas of a namerd, and a connection to one that answers.
//!
//! The destination of an interpreter (`dst`) is a path of the system namer, e.g. `/$/inet/namerd.example/4100`; its
//! addresses follow DNS. A caller whose connection has failed calls again and gets another address. An address whose
//! connections end soon after they began rests before the next one, longer each time. Called by the protocols beside this
//! module. Not for: how long to wait between two questions, which is the watch table's.

use crate::backoff::Backoff;
use dtab::{Activity, Addr, Address, BoundName, DtabStack, Interpreter, NameTree, Path, State};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// One address may take so long to accept a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An address that has failed comes last for so long.
const AVOIDED: Duration = Duration::from_secs(10);
/// An address whose connection has ended rests between these two times, by how often that was so in a row.
const REST: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A connection that has lasted so long was a good one: its address does not rest.
const LASTED: Duration = REST.1;
/// DNS may take so long to answer for the first time.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing comes is looked after so often; its end is noticed after at most 2.5 times as long.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Bytes to and from a peer, over TLS or not.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What TLS makes of a socket; made by whoever knows the config.
pub type Secure =
    Arc<dyn Fn(TcpStream) -> std::pin::Pin<Box<dyn Future<Output = io::Result<Box<dyn Io>>> + Send>> + Send + Sync>;

/// Lets the system find out that the host at the other end is gone, though nothing is sent either way, or that it takes
/// nothing of what is sent.
pub fn notice_silence(socket: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 2).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(KEEPALIVE * 2))?;
    Ok(())
}

/// See the module; cloning shares what is known of the replicas.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    system: Arc<dyn Interpreter>,
    dst: Path,
    secure: Option<Secure>,
    /// Kept, so that DNS is followed while the interpreter lives.
    addresses: Mutex<Option<Activity<Addr>>>,
    avoided: Mutex<Vec<(SocketAddr, Instant)>>,
    resting: Mutex<HashMap<SocketAddr, Rest>>,
}

/// What is known of an address whose last connections ended soon.
struct Rest {
    backoff: Backoff,
    until: Instant,
}

impl Peers {
    /// The replicas at `dst`, looked up by `system`, mostly a name of the system namer. TLS as `secure` does it.
    pub fn new(system: Arc<dyn Interpreter>, dst: Path, secure: Option<Secure>) -> Peers {
        let (addresses, avoided, resting) = (Mutex::new(None), Mutex::default(), Mutex::default());
        Peers { shared: Arc::new(Shared { system, dst, secure, addresses, avoided, resting }) }
    }

    /// The destination, for messages.
    pub fn dst(&self) -> &Path {
        &self.shared.dst
    }

    /// A connection to the first address, in random order, that accepts one. Waits while all of them rest. The text of an
    /// error says what was tried.
    pub async fn connect(&self) -> Result<(SocketAddr, Box<dyn Io>), String> {
        let mut order = self.in_order().await?;
        let wait = order.iter().map(|address| self.rest_of(address)).min().unwrap_or_default();
        if !wait.is_zero() {
            tracing::debug!(dst = %self.shared.dst, ?wait, "connections to namerd end as soon as they begin");
            sleep(wait).await;
        }
        order.retain(|address| self.rest_of(address).is_zero());
        let mut tried = Vec::new();
        for address in order {
            match self.connect_to(address).await {
                Ok(io) => return Ok((address, io)),
                Err(reason) => tried.push(reason),
            }
            self.avoid(address);
        }
        if tried.is_empty() {
            tried.push("its connections end as soon as they begin".to_owned());
        }
        Err(format!("cannot connect to the namerd at {}: {}", self.shared.dst, tried.join("; ")))
    }

    /// A connection to this address and no other.
    pub(crate) async fn connect_to(&self, address: SocketAddr) -> Result<Box<dyn Io>, String> {
        match timeout(CONNECT_TIMEOUT, self.open(address)).await {
            Ok(opened) => opened.map_err(|error| format!("{address}: {error}")),
            Err(_) => Err(format!("{address}: no answer within {CONNECT_TIMEOUT:?}")),
        }
    }

    /// Says that this address has failed: others are tried first for a while.
    pub fn avoid(&self, address: SocketAddr) {
        let mut avoided = self.shared.avoided.lock();
        let now = Instant::now();
        avoided.retain(|(known, until)| *known != address && *until > now);
        avoided.push((address, now + AVOIDED));
    }

    /// Says that a connection to this address has ended by itself, after so long: it is avoided, and when that was soon it
    /// rests. Connections that end together count once.
    pub(crate) fn ended(&self, address: SocketAddr, lasted: Duration) {
        self.avoid(address);
        let now = Instant::now();
        let mut resting = self.shared.resting.lock();
        resting.retain(|_, rest| now.saturating_duration_since(rest.until) < LASTED * 2);
        if lasted > LASTED {
            resting.remove(&address);
            return;
        }
        let new = || Rest { backoff: Backoff::new(REST.0, REST.1), until: now };
        let rest = resting.entry(address).or_insert_with(new);
        if rest.until <= now {
            rest.until = now + rest.backoff.after(Some(lasted));
        }
    }

    /// How long this address rests from now on.
    fn rest_of(&self, address: &SocketAddr) -> Duration {
        let resting = self.shared.resting.lock();
        resting.get(address).map_or(Duration::ZERO, |rest| rest.until.saturating_duration_since(Instant::now()))
    }

    async fn open(&self, address: SocketAddr) -> io::Result<Box<dyn Io>> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        notice_silence(&socket)?;
        match &self.shared.secure {
            None => Ok(Box::new(socket)),
            Some(secure) => secure(socket).await,
        }
    }

    /// The present addresses, shuffled, those that have failed last.
    async fn in_order(&self) -> Result<Vec<SocketAddr>, String> {
        let mut list: Vec<SocketAddr> = self.addresses().await?.iter().map(|address| address.socket).collect();
        fastrand::shuffle(&mut list);
        let now = Instant::now();
        let mut avoided = self.shared.avoided.lock();
        avoided.retain(|(_, until)| *until > now);
        list.sort_by_key(|address| avoided.iter().any(|(known, _)| known == address));
        Ok(list)
    }

    async fn addresses(&self) -> Result<Arc<[Address]>, String> {
        let dst = &self.shared.dst;
        let known = self.shared.addresses.lock().clone();
        let mut live = match known {
            Some(live) => live,
            None => {
                let live = self.shared.system.resolve(&self.id().await?);
                *self.shared.addresses.lock() = Some(live.clone());
                live
            }
        };
        let settled = timeout(LOOKUP_TIMEOUT, live.settled()).await;
        match settled.map_err(|_| format!("{dst} is not resolved within {LOOKUP_TIMEOUT:?}"))? {
            State::Ok(Addr::Bound(set)) if !set.addresses.is_empty() => Ok(set.addresses),
            State::Ok(Addr::Bound(_) | Addr::Neg) => Err(format!("{dst} has no addresses")),
            State::Ok(Addr::Failed(reason)) | State::Failed(reason) => {
                Err(format!("{dst} cannot be resolved: {reason}"))
            }
            State::Ok(Addr::Pending) | State::Pending => Err(format!("{dst} is not resolved yet")),
        }
    }

    /// The bound id of the destination.
    async fn id(&self) -> Result<Path, String> {
        let dst = &self.shared.dst;
        let mut bound = self.shared.system.bind(&DtabStack::new([]), dst);
        match timeout(LOOKUP_TIMEOUT, bound.settled()).await {
            Ok(State::Ok(NameTree::Leaf(BoundName { id, .. }))) => Ok(id),
            Ok(State::Failed(reason)) => Err(format!("{dst} cannot be bound: {reason}")),
            _ => Err(format!("{dst} is not the name of an address, such as /$/inet/namerd.example/4100")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::at::At;
    use tokio::net::TcpListener;

    /// An address that rests is passed over while another is there, and waited for when none is.
    #[tokio::test]
    async fn who_closes_at_once_rests_and_others_are_asked() {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.expect("a port"),
            TcpListener::bind("127.0.0.1:0").await.expect("a port"),
        ];
        let [one, two] = [0, 1].map(|at| listeners[at].local_addr().expect("an address"));
        let peers = Peers::new(Arc::new(At(vec![one, two])), Path::parse("/$/inet/namerd/4321").expect("a path"), None);
        for _ in 0..20 {
            peers.ended(one, Duration::ZERO);
        }
        let rests = peers.rest_of(&one);
        assert!(rests <= REST.0, "those of one moment count once: {rests:?}");
        for _ in 0..5 {
            peers.ended(one, Duration::ZERO);
            assert_eq!(peers.connect().await.map(|(address, _)| address), Ok(two));
        }
        peers.ended(one, LASTED * 2);
        assert_eq!(peers.rest_of(&one), Duration::ZERO, "one that has lasted");
        let begun = Instant::now();
        peers.ended(one, Duration::ZERO);
        peers.ended(two, Duration::ZERO);
        assert!(peers.connect().await.is_ok());
        assert!(begun.elapsed() >= REST.0 / 2, "{:?}", begun.elapsed());
    }
}
