//! [`Peers`]: the replicas of a namerd, and a connection to one that answers.
//!
//! The destination of an interpreter (`dst`) is a path of the system namer, e.g. `/$/inet/namerd.example/4100`; its
//! addresses follow DNS. A caller whose connection has failed calls again and gets another address. Called by the protocols
//! beside this module. Not for: how long to wait between two calls, which is the watch table's.

use dtab::{Activity, Addr, Address, BoundName, DtabStack, Interpreter, NameTree, Path, State};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// One address may take so long to accept a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// An address that has failed comes last for so long.
const AVOIDED: Duration = Duration::from_secs(10);
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
}

impl Peers {
    /// The replicas at `dst`, looked up by `system`, mostly a name of the system namer. TLS as `secure` does it.
    pub fn new(system: Arc<dyn Interpreter>, dst: Path, secure: Option<Secure>) -> Peers {
        let (addresses, avoided) = (Mutex::new(None), Mutex::new(Vec::new()));
        Peers { shared: Arc::new(Shared { system, dst, secure, addresses, avoided }) }
    }

    /// The destination, for messages.
    pub fn dst(&self) -> &Path {
        &self.shared.dst
    }

    /// A connection to the first address, in random order, that accepts one. The text of an error says what was tried.
    pub async fn connect(&self) -> Result<(SocketAddr, Box<dyn Io>), String> {
        let mut tried = Vec::new();
        for address in self.in_order().await? {
            match self.connect_to(address).await {
                Ok(io) => return Ok((address, io)),
                Err(reason) => tried.push(reason),
            }
            self.avoid(address);
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
