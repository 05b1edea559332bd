//! Where a bound name lives: [`Addr`], the state of a replica set, and [`Address`], one member of it.
//!
//! Not for: health or load of an address (crate `balance`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Free-form facts about an address or a set (`nodeName`, `authority`, `endpoint_addr_weight`).
pub type Meta = BTreeMap<String, String>;

/// What is known of the addresses of a bound name (naming reference §4.3).
#[derive(Debug, Clone, PartialEq)]
pub enum Addr {
    /// Nothing known yet.
    Pending,
    /// Known not to exist.
    Neg,
    /// Resolution failed; the text says why.
    Failed(Arc<str>),
    /// The addresses, possibly none.
    Bound(AddrSet),
}

/// A set of addresses with facts about the whole set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AddrSet {
    /// Sorted by socket address, without duplicates.
    pub addresses: Arc<[Address]>,
    /// Facts about the whole set.
    pub meta: Meta,
}

/// One member of a replica set.
#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    /// Where to connect.
    pub socket: SocketAddr,
    /// Relative share among its siblings; 1.0 when nothing else is said.
    pub weight: f64,
    /// Facts about this address.
    pub meta: Meta,
}

impl Address {
    /// An address of weight 1 without facts.
    pub fn new(socket: SocketAddr) -> Address {
        Address { socket, weight: 1.0, meta: Meta::new() }
    }
}

impl AddrSet {
    /// A set of `addresses`: sorted; of several with one socket address the first counts.
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> AddrSet {
        let mut list: Vec<Address> = addresses.into_iter().collect();
        list.sort_by_key(|address| address.socket);
        list.dedup_by_key(|address| address.socket);
        AddrSet { addresses: list.into(), meta: Meta::new() }
    }
}

impl Addr {
    /// A bound set of plain socket addresses.
    pub fn bound(sockets: impl IntoIterator<Item = SocketAddr>) -> Addr {
        Addr::Bound(AddrSet::new(sockets.into_iter().map(Address::new)))
    }

    /// `Failed` with this reason.
    pub fn failed(reason: impl Into<Arc<str>>) -> Addr {
        Addr::Failed(reason.into())
    }
}
