//! The interfaces: protocols by which callers read names and dtabs, and by HTTP also write them.
//!
//! An interface gets connections that are accepted already, TLS included (`serve` does that for all of them), and answers
//! from [`crate::names::Names`]. Not for: listening, certificates.

pub mod http;
pub mod mesh;
pub mod stats;
pub mod thrift;

use dtab::BoxFuture;
use namers::remote::peers::Io;
use stats::InterfaceStats;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The first URI of its certificate, else its first DNS name, else its common name, when one was shown and checked.
    pub identity: Option<String>,
}

/// True from the moment at which the process wants to end: connections finish what is under way, and close.
pub type Closing = watch::Receiver<bool>;

/// A protocol.
pub trait Interface: Send + Sync + 'static {
    /// The kind in configs, e.g. `io.l5d.mesh`.
    fn kind(&self) -> &'static str;

    /// What it counts.
    fn stats(&self) -> &InterfaceStats;

    /// ALPN names that this protocol has on TLS listeners, best first; empty for none.
    fn alpn(&self) -> Vec<Vec<u8>>;

    /// Serves one connection to its end. Returns early when `closing` becomes true; dropped when the grace is over.
    fn serve(self: Arc<Self>, io: Box<dyn Io>, peer: Peer, closing: Closing) -> BoxFuture<'static, ()>;
}
