//! Transformers from their parameters: asks the system and DNS what they stand for, once, and puts them around namers and
//! interpreters.
//!
//! Called by the linker, and by the conformance tests. Not for: what a transformer does (crate `namers`).

use super::NamingError;
use crate::config::params::NamerParams;
use crate::config::transformer::{TransformerKind, TransformerParams};
use dtab::{Interpreter, Namer, State};
use namers::{
    AddressEffect, AddressTransformer, DnsResolver, Host, HostIps, LocalInterpreter, Replacement, SystemNamer,
    TransformedInterpreter, TransformedNamer, Transformer, local_ips,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// A host of `io.l5d.specificHost` must be known within this.
const RESOLVE_WITHIN: Duration = Duration::from_secs(10);

/// The transformers of one list, in its order.
pub async fn built(params: &[TransformerParams], dns: &DnsResolver) -> Result<Vec<Transformer>, NamingError> {
    let mut built = Vec::new();
    for params in params {
        let transformer = transformer(params, dns).await;
        built.push(
            transformer.map_err(|reason| NamingError::Transformer { prefix: params.prefix.to_string(), reason })?,
        );
    }
    Ok(built)
}

async fn transformer(params: &TransformerParams, dns: &DnsResolver) -> Result<Transformer, String> {
    let effect = match &params.kind {
        TransformerKind::Port(port) => AddressEffect::Port(*port),
        TransformerKind::Localhost => AddressEffect::Hosts(interfaces()?.into()),
        TransformerKind::SpecificHost(Host::Ip(ip)) => AddressEffect::Hosts([ip.to_canonical()].into()),
        TransformerKind::SpecificHost(Host::Name(name)) => AddressEffect::Hosts(resolved(name, dns).await?),
        TransformerKind::Subnet(ip) => AddressEffect::Subnet(*ip),
        TransformerKind::Node(name) => AddressEffect::Node(name.clone()),
        TransformerKind::Replace(path, replaces) => {
            let (prefix, path, replaces) = (params.prefix.clone(), path.clone(), *replaces);
            return Ok(Transformer::Replacement(Replacement { prefix, path, replaces }));
        }
    };
    Ok(Transformer::Addresses(AddressTransformer { prefix: params.prefix.clone(), effect }))
}

fn interfaces() -> Result<Vec<IpAddr>, String> {
    local_ips().map_err(|error| {
        format!("cannot read the addresses of this host: {error}. Use `io.l5d.specificHost` with its address instead")
    })
}

async fn resolved(name: &Arc<str>, dns: &DnsResolver) -> Result<Arc<[IpAddr]>, String> {
    let mut ips = dns.lookup_once(name);
    let reason = match tokio::time::timeout(RESOLVE_WITHIN, ips.settled()).await {
        Ok(State::Ok(HostIps::Ips(ips))) if !ips.is_empty() => return Ok(ips),
        Ok(State::Ok(HostIps::Ips(_))) => "the name has no addresses".to_owned(),
        Ok(State::Ok(HostIps::NoSuchHost)) => "there is no such name".to_owned(),
        Ok(State::Failed(reason)) => reason.to_string(),
        Ok(State::Pending) | Err(_) => format!("no answer within {} s", RESOLVE_WITHIN.as_secs()),
    };
    Err(format!(
        "cannot resolve the host `{name}`: {reason}. It is resolved once, at start; check DNS, or write an address"
    ))
}

/// `interpreter` behind `transformers`, the last one outermost. Paths of replacements are bound by `global`.
pub fn around_interpreter(
    interpreter: Arc<dyn Interpreter>,
    transformers: Vec<Transformer>,
    global: &Arc<dyn Interpreter>,
    handle: &Handle,
) -> Arc<dyn Interpreter> {
    let around = |inner, transformer| -> Arc<dyn Interpreter> {
        Arc::new(TransformedInterpreter::new(inner, transformer, global.clone(), handle.clone()))
    };
    transformers.into_iter().fold(interpreter, around)
}

/// `namer` behind `transformers`, the last one outermost. Paths of replacements are bound by `global`.
pub fn around_namer(
    namer: Arc<dyn Namer>,
    transformers: Vec<Transformer>,
    global: &Arc<dyn Interpreter>,
    handle: &Handle,
) -> Arc<dyn Namer> {
    let around = |inner, transformer| -> Arc<dyn Namer> {
        Arc::new(TransformedNamer::new(inner, transformer, global.clone(), handle.clone()))
    };
    transformers.into_iter().fold(namer, around)
}

/// The namers of a config, each behind its transformers, in preference order: the last one of the file first.
///
/// Paths of replacements are bound by the namers without their replacements, so that no name leads back to itself.
pub(crate) async fn namers(
    params: &[NamerParams],
    namers: Vec<Arc<dyn Namer>>,
    system: &SystemNamer,
    dns: &DnsResolver,
    handle: &Handle,
) -> Result<Vec<Arc<dyn Namer>>, NamingError> {
    let interpreter = |namers: Vec<Arc<dyn Namer>>| -> Arc<dyn Interpreter> {
        Arc::new(LocalInterpreter::new(namers, None, system.clone(), handle.clone()))
    };
    let mut lists = Vec::new();
    for (params, namer) in params.iter().zip(namers).rev() {
        lists.push((namer, built(&params.transformers, dns).await?));
    }
    let nobody = interpreter(Vec::new());
    let plain = |(namer, list): &(Arc<dyn Namer>, Vec<Transformer>)| {
        let kept = list.iter().filter(|transformer| matches!(transformer, Transformer::Addresses(_)));
        around_namer(namer.clone(), kept.cloned().collect(), &nobody, handle)
    };
    let global = interpreter(lists.iter().map(plain).collect());
    Ok(lists.into_iter().map(|(namer, list)| around_namer(namer, list, &global, handle)).collect())
}
