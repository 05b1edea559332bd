//! The system namer `/$/...`: a closed list of built-in names (naming reference §5, attack L3: nothing is loaded by name).
//!
//! Pure: a lookup rewrites or binds; the addresses of what it binds come from whoever resolves [`target`].

use crate::path::{EmptyLabel, Path, PathBuilder};
use crate::traits::{BoundName, Name};
use crate::tree::NameTree;
use std::sync::Arc;

/// Why a system lookup has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemError {
    /// No such namer; a failure of the name.
    Unknown(Arc<str>),
    /// The rewrite is not possible for this text.
    Threw(Arc<str>),
}

/// What has to be resolved to get the addresses of a system id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A host and a port; an empty host is the loopback address.
    Host {
        /// Host name or literal address.
        host: String,
        /// Port, 0 to 65535.
        port: u16,
        /// True for `fixedinet`: resolved once.
        fixed: bool,
    },
    /// No address can be had; the text says why.
    Failed(String),
}

type Lookup = Result<NameTree<Name>, SystemError>;

impl From<EmptyLabel> for SystemError {
    fn from(error: EmptyLabel) -> SystemError {
        SystemError::Threw(error.to_string().into())
    }
}

/// One lookup through the system namer; Neg for paths outside `/$`.
pub fn lookup(path: &Path) -> Lookup {
    let mut path = path.clone();
    // `global` re-enters with the rest; a long path can do so often.
    while path.get(0) == Some(b"$") && path.get(1) == Some(b"com.twitter.finagle.namer.global") {
        path = path.skip(2);
    }
    look_up(&path)
}

fn look_up(path: &Path) -> Lookup {
    if path.get(0) != Some(b"$") || path.len() < 2 {
        return Ok(NameTree::Neg);
    }
    let Some(name) = path.text(1) else { return unknown(path) };
    let rest = path.skip(2);
    match name {
        "inet" | "fixedinet" => inet(path),
        "nil" => Ok(NameTree::Empty),
        "fail" => Ok(NameTree::Fail),
        "io.buoyant.rinet" => Ok(rinet(path)),
        "io.buoyant.hostportPfx" => host_port(&rest, false),
        "io.buoyant.porthostPfx" => host_port(&rest, true),
        "io.buoyant.http.anyMethod" => drop_label(&rest, 0, is_method),
        "io.buoyant.http.anyMethodPfx" => drop_label(&rest, 1, is_method),
        "io.buoyant.http.anyHost" => drop_label(&rest, 0, is_host),
        "io.buoyant.http.anyHostPfx" => drop_label(&rest, 1, is_host),
        "io.buoyant.http.subdomainOf" => subdomain(&rest, 0),
        "io.buoyant.http.subdomainOfPfx" => subdomain(&rest, 1),
        "io.buoyant.http.domainToPath" => domain_to_path(&rest, 0),
        "io.buoyant.http.domainToPathPfx" => domain_to_path(&rest, 1),
        _ => unknown(path),
    }
}

fn unknown(path: &Path) -> Lookup {
    let name = path.skip(1).take(1).show_bare();
    Err(SystemError::Unknown(format!("Unknown namer: {name} for path: {path}").into()))
}

fn bound(path: &Path, consumed: usize) -> NameTree<Name> {
    NameTree::Leaf(Name::Bound(BoundName { id: path.take(consumed), residual: path.skip(consumed) }))
}

/// `/$/inet/<host>/<port>` or `/$/inet/<port>`; the port is a 32-bit decimal integer.
fn inet(path: &Path) -> Lookup {
    if integer(path, 3).is_some() {
        Ok(bound(path, 4))
    } else if integer(path, 2).is_some() {
        Ok(bound(path, 3))
    } else {
        unknown(path)
    }
}

fn integer(path: &Path, index: usize) -> Option<i32> {
    path.text(index).and_then(|text| text.parse::<i32>().ok())
}

/// `/$/io.buoyant.rinet/<port>/<host>`; whatever the port says, this is a leaf.
fn rinet(path: &Path) -> NameTree<Name> {
    if path.len() < 4 { NameTree::Neg } else { bound(path, 4) }
}

fn path_of<'a>(labels: impl IntoIterator<Item = &'a [u8]>, rest: &Path) -> Lookup {
    let mut builder = PathBuilder::default();
    for label in labels {
        builder.push(label)?;
    }
    builder.extend(rest);
    Ok(NameTree::Leaf(Name::Path(builder.build())))
}

/// `/pfx/host:port/rest` to `/pfx/host/port/rest` or the reverse.
fn host_port(rest: &Path, port_first: bool) -> Lookup {
    let (Some(prefix), Some(both)) = (rest.get(0), rest.text(1)) else { return Ok(NameTree::Neg) };
    let mut parts = both.split(':');
    let (Some(host), Some(port), None) = (parts.next(), parts.next(), parts.next()) else { return Ok(NameTree::Neg) };
    if !is_port_name(port) {
        return Ok(NameTree::Neg);
    }
    let (host, port) = (host.as_bytes(), port.as_bytes());
    let labels = if port_first { [prefix, port, host] } else { [prefix, host, port] };
    path_of(labels, &rest.skip(2))
}

/// `[a-z0-9][-a-z0-9]*`, at most 63 characters.
fn is_port_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= 63 && text.starts_with(plain) && text.chars().all(|c| plain(c) || c == '-')
}

fn is_method(label: &str) -> bool {
    !label.is_empty() && label.chars().all(|c| c.is_ascii_uppercase())
}

fn is_host(label: &str) -> bool {
    !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_' | '-'))
}

/// Drops the label after `keep` others, when it is of the kind.
fn drop_label(rest: &Path, keep: usize, kind: fn(&str) -> bool) -> Lookup {
    match rest.text(keep) {
        Some(label) if kind(label) => path_of(rest.labels().take(keep), &rest.skip(keep + 1)),
        _ => Ok(NameTree::Neg),
    }
}

/// `/domain[/pfx]/sub.domain/rest` to `[/pfx]/sub/rest`; `prefixes` labels stand between domain and host.
fn subdomain(rest: &Path, prefixes: usize) -> Lookup {
    let (Some(domain), Some(host)) = (rest.text(0), rest.text(1 + prefixes)) else { return Ok(NameTree::Neg) };
    if !is_host(domain) || !is_host(host) {
        return Ok(NameTree::Neg);
    }
    let name = match host.find(':') {
        Some(at) if at > 0 => &host[..at],
        _ => host,
    };
    let sub = name.strip_suffix(domain).and_then(|head| head.strip_suffix('.'));
    match sub {
        Some(sub) if !sub.is_empty() => {
            let labels = rest.labels().skip(1).take(prefixes).chain([sub.as_bytes()]);
            path_of(labels, &rest.skip(2 + prefixes))
        }
        _ => Ok(NameTree::Neg),
    }
}

/// `[/pfx]/a.b.c/rest` to `[/pfx]/c/b/a/rest`.
fn domain_to_path(rest: &Path, prefixes: usize) -> Lookup {
    let Some(host) = rest.text(prefixes).filter(|host| is_host(host)) else { return Ok(NameTree::Neg) };
    let reversed = host.trim_end_matches('.').split('.').rev().map(str::as_bytes);
    let empty = host.trim_end_matches('.').is_empty();
    let labels = rest.labels().take(prefixes).chain(reversed.filter(|_| !empty));
    path_of(labels, &rest.skip(prefixes + 1))
}

/// What to resolve for a bound id of `/$/inet`, `/$/fixedinet` or `/$/io.buoyant.rinet`; None for any other id.
pub fn target(id: &Path) -> Option<Target> {
    let name = (id.get(0) == Some(b"$")).then(|| id.text(1)).flatten()?;
    let (host, port) = match (name, id.len()) {
        ("inet" | "fixedinet", 3) => (Some(""), id.text(2)),
        ("inet" | "fixedinet", 4) => (id.text(2), id.text(3)),
        ("io.buoyant.rinet", 4) => (id.text(3), id.text(2)),
        _ => return None,
    };
    let Some(host) = host else { return Some(Target::Failed(format!("host of {id} is not text"))) };
    if host.contains(':') && !is_ipv6(host) {
        return Some(Target::Failed(format!("malformed host:port in {id}")));
    }
    match port.map(str::parse::<u16>) {
        Some(Ok(port)) => Some(Target::Host { host: host.to_owned(), port, fixed: name == "fixedinet" }),
        _ => Some(Target::Failed(format!("port of {id} is not a number from 0 to 65535"))),
    }
}

fn is_ipv6(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::Ipv6Addr>().is_ok()
}
