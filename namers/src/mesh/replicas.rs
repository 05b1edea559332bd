//! Addresses as messages, both ways.
//!
//! A weight travels as the fact `endpoint_addr_weight`, as in Linkerd 1, whose routers then ignore it: ours do not. Called
//! by `calls`.

use super::WireError;
use super::messages::{self as wire, Empty, MetaEntry, Replicated};
use bytes::Bytes;
use dtab::{Addr, AddrSet, Address, Meta};
use std::net::{IpAddr, SocketAddr};

const INET4: i32 = 0;
const INET6: i32 = 1;
const WEIGHT: &str = "endpoint_addr_weight";
const NODE_NAME: &str = "nodeName";

pub(crate) fn replicas(addr: &Addr) -> wire::Replicas {
    let result = match addr {
        Addr::Pending => Replicated::Pending(Empty {}),
        Addr::Neg => Replicated::Neg(Empty {}),
        Addr::Failed(reason) => Replicated::Failed(wire::Failed { message: Some(reason.to_string()) }),
        Addr::Bound(set) => Replicated::Bound(wire::Bound {
            endpoints: set.addresses.iter().map(endpoint).collect(),
            metadata: set.meta.iter().map(entry).collect(),
        }),
    };
    wire::Replicas { result: Some(result) }
}

pub(crate) fn read_replicas(replicas: wire::Replicas) -> Result<Addr, WireError> {
    Ok(match replicas.result {
        Some(Replicated::Pending(_)) => Addr::Pending,
        Some(Replicated::Neg(_)) => Addr::Neg,
        Some(Replicated::Failed(failed)) => Addr::failed(failed.message.unwrap_or_default()),
        Some(Replicated::Bound(bound)) => {
            let addresses: Vec<Address> = bound.endpoints.into_iter().map(read_endpoint).collect::<Result<_, _>>()?;
            Addr::Bound(AddrSet { meta: read_meta(bound.metadata), ..AddrSet::new(addresses) })
        }
        None => return Err(WireError::new("replicas without a state that this version knows")),
    })
}

/// Family, address and port are present also when they are zero: Linkerd 1 drops an endpoint that lacks one.
fn endpoint(address: &Address) -> wire::Endpoint {
    let (family, bytes) = match address.socket.ip() {
        IpAddr::V4(ip) => (INET4, Bytes::copy_from_slice(&ip.octets())),
        IpAddr::V6(ip) => (INET6, Bytes::copy_from_slice(&ip.octets())),
    };
    let mut metadata: Vec<MetaEntry> = address.meta.iter().map(entry).collect();
    if address.weight != 1.0 && !address.meta.contains_key(WEIGHT) {
        metadata.push(entry((&WEIGHT.to_owned(), &format!("{:?}", address.weight))));
    }
    wire::Endpoint {
        inet_af: Some(family),
        address: Some(bytes),
        port: Some(address.socket.port().into()),
        meta: address.meta.get(NODE_NAME).map(|node| wire::EndpointMeta { node_name: Some(node.clone()) }),
        metadata,
    }
}

fn read_endpoint(endpoint: wire::Endpoint) -> Result<Address, WireError> {
    let bytes = endpoint.address.unwrap_or_default();
    let ip = match (endpoint.inet_af.unwrap_or(INET4), bytes.len()) {
        (INET4, 4) => <[u8; 4]>::try_from(bytes.as_ref()).map(IpAddr::from).ok(),
        (INET6, 16) => <[u8; 16]>::try_from(bytes.as_ref()).map(IpAddr::from).ok(),
        _ => None,
    };
    let ip = ip.ok_or_else(|| WireError::new("an endpoint has no IP address"))?;
    let port = u16::try_from(endpoint.port.unwrap_or(0));
    let port = port.map_err(|_| WireError::new(format!("{:?} is not a port", endpoint.port)))?;
    let mut address = Address { meta: read_meta(endpoint.metadata), ..Address::new(SocketAddr::new(ip, port)) };
    if let Some(node) = endpoint.meta.and_then(|meta| meta.node_name) {
        address.meta.entry(NODE_NAME.to_owned()).or_insert(node);
    }
    if let Some(weight) = address.meta.get(WEIGHT).and_then(|text| text.parse::<f64>().ok())
        && weight.is_finite()
        && weight >= 0.0
    {
        address.weight = weight;
        address.meta.remove(WEIGHT);
    }
    Ok(address)
}

/// Both halves are present also when they are empty.
fn entry((key, value): (&String, &String)) -> MetaEntry {
    MetaEntry { key: Some(key.clone()), value: Some(value.clone()) }
}

fn read_meta(entries: Vec<MetaEntry>) -> Meta {
    entries.into_iter().map(|entry| (entry.key.unwrap_or_default(), entry.value.unwrap_or_default())).collect()
}
