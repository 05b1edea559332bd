//! `storage` (config reference §15.1).
//!
//! For: `load`. Not for: connecting to anything.

use crate::storage::consul::Consistency;
use dtab::{Dtab, Path};
use setup::config::kinds::{BACKOFFS, Found, STORAGES};
use setup::config::moved::Place;
use setup::config::problem::quote;
use setup::config::reader::{Bad, Item, Reader};
use setup::config::scalar::{boolean, count, dtab, millis, path, port, size, string};
use setup::config::tls::{PeerTls, client_tls};
use std::path::PathBuf;
use std::time::Duration;

/// Writes that are remembered per namespace, unless the config says otherwise.
const HISTORY: usize = 10_000;

/// Where dtabs are kept.
#[derive(Debug, Clone)]
pub enum StorageParams {
    /// `io.switchyard.local`.
    Local {
        /// The folder of the database; made when it is missing. Default `namerd-data`.
        path: PathBuf,
        /// Writes that are remembered per namespace. Default 10 000.
        history: usize,
    },
    /// `io.l5d.inMemory`, with what is there at the start.
    Memory(Vec<(String, Dtab)>),
    /// `io.l5d.etcd`.
    Etcd {
        /// Where, and below which key.
        backend: BackendParams,
        /// 2 or 3; None for what the server has.
        api: Option<u8>,
    },
    /// `io.l5d.consul`.
    Consul {
        /// Where, and below which key.
        backend: BackendParams,
        /// Sent with every request.
        token: Option<String>,
        /// Default the agent's own.
        datacenter: Option<String>,
        /// Of reads. Default `default`.
        read_consistency: Consistency,
        /// Of writes. Default `default`.
        write_consistency: Consistency,
        /// Default false.
        fail_fast: bool,
        /// First and largest pause between tries.
        backoff: Option<(Duration, Duration)>,
    },
    /// `io.l5d.zk`.
    Zk {
        /// Hosts and ports of one ensemble.
        addresses: Vec<(String, u16)>,
        /// Default `/dtabs`.
        path_prefix: String,
        /// Default 10 s.
        session_timeout: Duration,
        /// Scheme and secret.
        auth: Option<(String, String)>,
        /// Scheme, id, and permissions out of `crwda`. Default: anyone may do anything.
        acls: Vec<(String, String, String)>,
    },
}

impl Default for StorageParams {
    fn default() -> StorageParams {
        StorageParams::Local { path: PathBuf::from("namerd-data"), history: HISTORY }
    }
}

/// Servers that keep keys and values.
#[derive(Debug, Clone)]
pub struct BackendParams {
    /// Hosts and ports of one cluster.
    pub endpoints: Vec<(String, u16)>,
    /// Default `/namerd/dtabs`.
    pub path_prefix: String,
    /// TLS. Default plain text.
    pub tls: Option<PeerTls>,
}

/// The storage; a problem when the key is absent.
pub(super) fn storage(top: &mut Reader<'_>) -> StorageParams {
    let Some(mut reader) = top.sub("storage", Place::Other) else {
        if !top.has("storage") {
            top.missing("storage");
        }
        return StorageParams::default();
    };
    let Found::Built(kind) = STORAGES.of(&mut reader) else { return StorageParams::default() };
    reader.get("experimental", string);
    let storage = match kind {
        "io.l5d.inMemory" => Some(memory(&mut reader)),
        "io.l5d.etcd" => etcd(&mut reader),
        "io.l5d.consul" => consul(&mut reader),
        "io.l5d.zk" => zk(&mut reader),
        _ => local(&mut reader),
    };
    reader.finish();
    storage.unwrap_or_default()
}

fn local(reader: &mut Reader<'_>) -> Option<StorageParams> {
    let path = reader.need("path", folder);
    let history = reader.get("historyPerNamespace", size(1)).unwrap_or(HISTORY);
    Some(StorageParams::Local { path: path?, history })
}

fn folder(item: &Item<'_>) -> Result<PathBuf, Bad> {
    let text = string(item)?;
    match text.is_empty() || text.contains('\0') || std::fs::metadata(&text).is_ok_and(|found| !found.is_dir()) {
        true => {
            Err(Bad::new(format!("{} is not a folder", quote(&text))).expected("a folder that exists or can be made"))
        }
        false => Ok(PathBuf::from(text)),
    }
}

fn memory(reader: &mut Reader<'_>) -> StorageParams {
    let mut namespaces = Vec::new();
    let source = reader.context.source;
    if let Some(item) = reader.take("namespaces") {
        for (name, inner) in item.entries(reader.context) {
            match dtab(source, &inner) {
                Ok(dtab) => namespaces.push((name, dtab)),
                Err(bad) => reader.context.bad(bad.at.unwrap_or(inner.pos), &inner.path, bad),
            }
        }
    }
    StorageParams::Memory(namespaces)
}

/// `host` and `port`, or `endpoints` of the same, and what lies below.
fn backend(reader: &mut Reader<'_>, default_port: u16) -> BackendParams {
    let host = reader.get("host", host).unwrap_or_else(|| "localhost".to_owned());
    let port = reader.get("port", port).unwrap_or(default_port);
    let mut endpoints = addresses(reader, "endpoints", Some(default_port));
    if !endpoints.is_empty() && (reader.has("host") || reader.has("port")) {
        reader.refuse("endpoints", "`endpoints` takes the place of `host` and `port`; write one of the two".to_owned());
    }
    if endpoints.is_empty() {
        endpoints.push((host, port));
    }
    let path_prefix = reader.get("pathPrefix", prefix).unwrap_or_else(|| "/namerd/dtabs".to_owned());
    BackendParams { endpoints, path_prefix, tls: client_tls(reader, None).and_then(|setting| setting.on()) }
}

fn prefix(item: &Item<'_>) -> Result<String, Bad> {
    let prefix: Path = path(item)?;
    match prefix.is_empty() {
        true => Err(Bad::new("the prefix is empty").expected("e.g. /namerd/dtabs")),
        false => Ok(prefix.to_string()),
    }
}

fn host(item: &Item<'_>) -> Result<String, Bad> {
    let text = string(item)?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    match !text.is_empty() && text.len() <= 253 && text.bytes().all(legal) {
        true => Ok(text),
        false => Err(Bad::new(format!("{} is not a host", quote(&text))).expected("a host name or an IP address")),
    }
}

/// A list of `{host, port}`; without a default the port must be there.
fn addresses(reader: &mut Reader<'_>, key: &'static str, default_port: Option<u16>) -> Vec<(String, u16)> {
    let mut list = Vec::new();
    for item in reader.list(key) {
        let Some(mut inner) = Reader::open(reader.context, item, Place::Other) else { continue };
        let host = inner.need("host", host);
        let at = match default_port {
            Some(default) => Some(inner.get("port", port).unwrap_or(default)),
            None => inner.need("port", port),
        };
        inner.finish();
        list.extend(host.zip(at));
    }
    list
}

fn etcd(reader: &mut Reader<'_>) -> Option<StorageParams> {
    let api = reader.get("apiVersion", api_version).flatten();
    Some(StorageParams::Etcd { backend: backend(reader, 2379), api })
}

fn api_version(item: &Item<'_>) -> Result<Option<u8>, Bad> {
    match string(item)?.as_str() {
        "2" => Ok(Some(2)),
        "3" => Ok(Some(3)),
        "auto" => Ok(None),
        other => Err(Bad::new(format!("{} is no API of etcd", quote(other))).expected("one of: 2, 3, auto")),
    }
}

fn consul(reader: &mut Reader<'_>) -> Option<StorageParams> {
    Some(StorageParams::Consul {
        backend: backend(reader, 8500),
        token: reader.get("token", string),
        datacenter: reader.get("datacenter", string),
        read_consistency: reader.get("readConsistencyMode", consistency).unwrap_or_default(),
        write_consistency: reader.get("writeConsistencyMode", consistency).unwrap_or_default(),
        fail_fast: reader.get("failFast", boolean).unwrap_or(false),
        backoff: backoff(reader),
    })
}

fn consistency(item: &Item<'_>) -> Result<Consistency, Bad> {
    match string(item)?.as_str() {
        "default" => Ok(Consistency::Default),
        "stale" => Ok(Consistency::Stale),
        "consistent" => Ok(Consistency::Consistent),
        other => Err(Bad::new(format!("{} is no mode", quote(other))).expected("one of: default, stale, consistent")),
    }
}

fn backoff(parent: &mut Reader<'_>) -> Option<(Duration, Duration)> {
    let mut reader = parent.sub("backoff", Place::Other)?;
    let ms = |count: u32| Duration::from_millis(count.into());
    let backoff = match BACKOFFS.of(&mut reader) {
        Found::Built("jittered") => reader.need("minMs", count(1)).zip(reader.need("maxMs", count(1))),
        Found::Built(_) => reader.get("ms", count(0)).map(|same| (same, same)),
        Found::Refused | Found::Unknown => return None,
    };
    if let Some((min, max)) = backoff.filter(|(min, max)| min > max) {
        reader.refuse("minMs", format!("`minMs` is {min} and `maxMs` is {max}; the first must not be the greater one"));
    }
    reader.finish();
    backoff.map(|(min, max)| (ms(min), ms(max)))
}

fn zk(reader: &mut Reader<'_>) -> Option<StorageParams> {
    let addresses = addresses(reader, "zkAddrs", None);
    if addresses.is_empty() && !reader.has("zkAddrs") {
        reader.missing("zkAddrs");
    }
    Some(StorageParams::Zk {
        addresses,
        path_prefix: reader.get("pathPrefix", prefix).unwrap_or_else(|| "/dtabs".to_owned()),
        session_timeout: reader.get("sessionTimeoutMs", millis(1000)).unwrap_or(Duration::from_secs(10)),
        auth: auth(reader),
        acls: acls(reader),
    })
}

fn auth(parent: &mut Reader<'_>) -> Option<(String, String)> {
    let mut reader = parent.sub("authInfo", Place::Other)?;
    let auth = reader.need("scheme", string).zip(reader.need("auth", string));
    reader.finish();
    auth
}

fn acls(reader: &mut Reader<'_>) -> Vec<(String, String, String)> {
    let mut list = Vec::new();
    for item in reader.list("acls") {
        let Some(mut inner) = Reader::open(reader.context, item, Place::Other) else { continue };
        let (scheme, id) = (inner.need("scheme", string), inner.need("id", string));
        let perms = inner.need("perms", perms);
        inner.finish();
        list.extend(scheme.zip(id).zip(perms).map(|((scheme, id), perms)| (scheme, id, perms)));
    }
    list
}

fn perms(item: &Item<'_>) -> Result<String, Bad> {
    let text = string(item)?;
    let once = |c: char| text.matches(c).count() == 1;
    match !text.is_empty() && text.chars().all(|c| "crwda".contains(c) && once(c)) {
        true => Ok(text),
        false => Err(Bad::new(format!("{} are no permissions", quote(&text))).expected("some of `crwda`, each once")),
    }
}
