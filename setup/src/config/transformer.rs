//! `transformers` of a namer or an interpreter (config reference §10).
//!
//! For: the readers of both. Not for: transforming, or finding out what `host` resolves to: `check` asks no network. The
//! variables of `io.l5d.k8s.localnode` are read here, so that one that is missing is a problem with a place.

use super::kinds::{Found, TRANSFORMERS};
use super::moved::Place;
use super::problem::quote;
use super::reader::{Bad, Item, Reader};
use super::scalar::{boolean, int, path, string};
use dtab::Path;
use namers::{Host, Replaces};
use std::net::{IpAddr, Ipv4Addr};

/// More transformers in one list are refused: each is a step of its own for every name.
const MAX_TRANSFORMERS: usize = 64;

/// A transformer (config reference §10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformerParams {
    /// What ids begin with, with the leading `/%`. Default: the kind and what tells transformers of it apart.
    pub prefix: Path,
    /// What it does.
    pub kind: TransformerKind,
}

/// What a transformer does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransformerKind {
    /// `io.l5d.port`: every address gets this port, at least 1.
    Port(u16),
    /// `io.l5d.localhost`: addresses of this host stay.
    Localhost,
    /// `io.l5d.specificHost`: addresses of this host stay; resolved at start.
    SpecificHost(Host),
    /// `io.l5d.k8s.localnode`: addresses in the /24 of `POD_IP` stay.
    Subnet(Ipv4Addr),
    /// `io.l5d.k8s.localnode` with `hostNetwork`: addresses whose `nodeName` is `NODE_NAME` stay.
    Node(String),
    /// `io.l5d.replace` and `io.l5d.const`: what a path is bound to, in the place of leaves or of the whole tree.
    Replace(Path, Replaces),
}

/// The transformers under the key `transformers`, in file order.
pub fn transformers(parent: &mut Reader<'_>) -> Vec<TransformerParams> {
    let items = parent.list("transformers");
    if items.len() > MAX_TRANSFORMERS {
        parent.refuse("transformers", format!("{} transformers; at most {MAX_TRANSFORMERS} are allowed", items.len()));
        return Vec::new();
    }
    items.into_iter().filter_map(|item| transformer(parent, item)).collect()
}

fn transformer<'a>(parent: &Reader<'a>, item: Item<'a>) -> Option<TransformerParams> {
    let mut reader = Reader::open(parent.context, item, Place::Other)?;
    let Found::Built(kind) = TRANSFORMERS.of(&mut reader) else { return None };
    let written = reader.get("prefix", prefix);
    let what = match kind {
        "io.l5d.port" => reader.need("port", int(1, 65_535)).map(port),
        "io.l5d.localhost" => Some((TransformerKind::Localhost, None)),
        "io.l5d.specificHost" => reader.need("host", host).map(|host| (TransformerKind::SpecificHost(host), None)),
        "io.l5d.replace" => replacement(&mut reader, Replaces::Leaves),
        "io.l5d.const" => replacement(&mut reader, Replaces::Tree),
        _ => local_node(&mut reader),
    };
    reader.finish();
    let (what, detail) = what?;
    let labels = ["%", kind].into_iter().chain(detail.as_deref());
    let prefix = written.or_else(|| Path::from_labels(labels).ok())?;
    Some(TransformerParams { prefix, kind: what })
}

/// What a transformer does, and the last label of its default prefix.
type What = (TransformerKind, Option<String>);

fn port(port: i64) -> What {
    (TransformerKind::Port(u16::try_from(port).unwrap_or(u16::MAX)), Some(port.to_string()))
}

fn replacement(reader: &mut Reader<'_>, replaces: Replaces) -> Option<What> {
    let at = reader.take("path");
    let to = reader.need("path", path)?;
    if let Some(at) = at.filter(|_| to.get(0) != Some(b"#") && to.get(0) != Some(b"$")) {
        reader.context.warn(
            &at,
            format!("no dtab applies to `{to}`, so it is bound to nothing; write a name that begins with /# or /$"),
        );
    }
    Some((TransformerKind::Replace(to, replaces), None))
}

fn local_node(reader: &mut Reader<'_>) -> Option<What> {
    let by_name = reader.get("hostNetwork", boolean).unwrap_or(false);
    let found = if by_name { node_name() } else { pod_ip() };
    found.map_err(|message| reader.refuse("kind", message)).ok()
}

fn node_name() -> Result<What, String> {
    let name = variable("NODE_NAME", "the name of this node", "spec.nodeName")?;
    Ok((TransformerKind::Node(name.clone()), Some(name)))
}

fn pod_ip() -> Result<What, String> {
    let text = variable("POD_IP", "the IP address of this pod", "status.podIP")?;
    match text.parse() {
        Ok(IpAddr::V4(ip)) => Ok((TransformerKind::Subnet(ip), Some(text))),
        Ok(IpAddr::V6(_)) => Err(format!(
            "`POD_IP` is {text}, and `io.l5d.k8s.localnode` compares IPv4 addresses only: no address would be left. \
            Write `hostNetwork: true` and set `NODE_NAME`, to compare the names of nodes"
        )),
        Err(_) => Err(format!("`POD_IP` is {}, which is not a literal IP address", quote(&text))),
    }
}

/// A variable of the environment that must have a text.
fn variable(name: &str, what: &str, field: &str) -> Result<String, String> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => Ok(text),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("the environment variable `{name}` is not text")),
        _ => Err(format!(
            "`io.l5d.k8s.localnode` needs {what} in the environment variable `{name}`, which is not set. Set it in the \
            manifest of the pod, from the field `{field}`"
        )),
    }
}

/// The prefix of a transformer, with the `/%` that is not written.
fn prefix(item: &Item<'_>) -> Result<Path, Bad> {
    let written = path(item)?;
    if written.get(0) == Some(b"%") {
        let without = written.skip(1).to_string();
        return Err(Bad::new("the prefix of a transformer is written without the leading `/%`").nearest(Some(without)));
    }
    if written.labels().any(|label| matches!(label, b"#" | b"$" | b"%")) {
        return Err(Bad::new(
            "`#`, `$` and `%` are where the parts of an id begin; the prefix of a transformer has none",
        ));
    }
    Path::from_labels([b"%".as_slice()].into_iter().chain(written.labels()))
        .map_err(|error| Bad::new(error.to_string()))
}

/// A host name or a literal address.
fn host(item: &Item<'_>) -> Result<Host, Bad> {
    let text = string(item)?;
    let bad = |what: &str| {
        Bad::new(format!("{} {what}", quote(&text))).expected("a host name or an IP address, without port")
    };
    let named = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    match Host::parse(&text) {
        _ if text.is_empty() => Err(bad("is empty")),
        Some(Host::Name(name)) if !named(&name) || name.len() > 253 => Err(bad("is not a host")),
        Some(host) => Ok(host),
        None => Err(bad("is not a host")),
    }
}
