//! Why a name or a connection failed: who made the name, which entries of which table matched, what is known of every
//! leaf, and the command that shows the rest (requirements P6).
//!
//! Called by `exchange` for requests that fail, and only for callers that may know. What it says of the name is made at
//! most once a second per name. Not for: the first lines of the texts, which are those of Linkerd 1 (`router`,
//! `attempt`, `connect`).

use super::Session;
use super::prepare::Request;
use crate::client::{Client, ReplicaState};
use crate::clock;
use crate::config::IdentifierParams;
use crate::error::{Kind, RouteError};
use crate::route::{Dst, PathService};
use crate::router::{Router, cut};
use dtab::{BoundName, DelegateTree, Delegation, Dentry, DtabStack, Path, State};
use http::HeaderMap;
use std::fmt::Write as _;

/// Bytes of a whole error text, at most.
pub(crate) const MAX_TEXT: usize = 2000;
/// Bytes of the way of a name.
const MAX_WAY: usize = 700;
/// Bytes of paths and entries that are looked at for it.
const MAX_EXPLORED: usize = 64 * 1024;
/// Bytes of one path, entry or value that is shown.
const MAX_PART: usize = 120;
/// Steps that are shown of a name that goes round in circles.
const MAX_CIRCLE: usize = 5;
/// The way of a name is made anew after this.
const FRESH_NS: u64 = 1_000_000_000;

/// `error` with the reasons behind its text, if it is about names or connections and the caller may know.
pub(crate) fn explained(
    session: &Session,
    request: &Request,
    service: &PathService,
    mut error: RouteError,
) -> RouteError {
    let about_names = matches!(
        error.kind,
        Kind::NoHosts
            | Kind::BindingFailed
            | Kind::BindingTimeout
            | Kind::ConnectFailed
            | Kind::ConnectTimeout
            | Kind::SelfLoop
    );
    if !about_names || !session.trusts_caller() {
        return error;
    }
    let router = &session.cx.router;
    let mut end = String::new();
    // Writing to a String does not fail.
    let _ = write!(end, "\nrequest id: {:016x}\nexplain: {}\n", session.told().request_id, command(router, service));
    let mut text = std::mem::take(&mut error.text);
    if !text.contains("\nservice name: ") {
        let _ = write!(text, "\n\nservice name: {}", cut(&service.dst.path.to_string(), MAX_PART));
    }
    let _ = write!(text, "\nidentifier: {}\nresolution:", identifier(router, request));
    text.push_str(&way(router, service));
    error.text = cut(&text, MAX_TEXT - end.len()).into_owned() + &end;
    error
}

/// Which identifier gave the name, and what it read.
fn identifier(router: &Router, request: &Request) -> String {
    let header = |name: &str, written: &str| {
        let value = value(&request.headers, name);
        format!("{written}: {value}")
    };
    match router.params.identifiers.get(request.identifier) {
        Some(IdentifierParams::HeaderToken { written, .. }) if written == ":authority" => {
            format!("io.l5d.header.token read {}", header("host", written))
        }
        Some(IdentifierParams::HeaderToken { header: name, written }) => {
            format!("io.l5d.header.token read {}", header(name, written))
        }
        Some(IdentifierParams::Header { header: name, written }) => {
            format!("io.l5d.header read {}", header(name, written))
        }
        Some(IdentifierParams::HeaderPath { header, segments: Some(segments) }) => {
            format!("io.l5d.header.path read {segments} segment(s) of {header}")
        }
        Some(IdentifierParams::HeaderPath { header, segments: None }) => format!("io.l5d.header.path read {header}"),
        Some(IdentifierParams::MethodAndHost { .. }) => {
            format!("io.l5d.methodAndHost read {} and {}", request.method, header("host", "Host"))
        }
        Some(IdentifierParams::Path { segments, .. }) => format!("io.l5d.path read {segments} segment(s) of the path"),
        Some(IdentifierParams::Static { .. }) | None => "io.l5d.static: the name is in the config".to_owned(),
    }
}

fn value(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map_or_else(String::new, |value| String::from_utf8_lossy(value.as_bytes()).into());
    cut(&value, MAX_PART).into_owned()
}

/// The command that shows how the name resolves, on the admin server of this process.
fn command(router: &Router, service: &PathService) -> String {
    let label = encode(&router.params.label);
    let mut query = format!("router={label}&path={}", encode(&service.dst.path.to_string()));
    if !service.dst.local.is_empty() {
        let _ = write!(query, "&dtab={}", encode(&service.dst.local.to_string()));
    }
    match (router.admin(), query.len() <= 400) {
        (Some(admin), true) => format!("curl 'http://{admin}/delegator.json?{query}'"),
        (Some(admin), false) => {
            format!("curl -G http://{admin}/delegator.json -d router={label} --data-urlencode path=... dtab=...")
        }
        (None, _) => "/delegator.json of the admin server".to_owned(),
    }
}

/// Percent-encoding of all that may not stand in a query as it is, single quotes included.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:*;".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The way of the name of a service, one line per step.
pub(crate) fn way(router: &Router, service: &PathService) -> String {
    let mut known = service.way.lock();
    let now = clock::now();
    if known.1.is_empty() || now.saturating_sub(known.0) > FRESH_NS {
        let dtab = DtabStack::new([router.params.dtab.clone(), service.dst.local.clone()]);
        let mut telling = Telling { router, dst: &service.dst, out: String::new() };
        match router.interpreter.explain_now(&dtab, &service.dst.path, MAX_EXPLORED) {
            State::Ok(tree) => telling.node(&tree, None, "", 1),
            State::Pending => telling.out.push_str(" nothing is known yet"),
            State::Failed(reason) => {
                let _ = write!(telling.out, " {}", cut(&reason, 2 * MAX_PART));
                telling.circle(&dtab);
            }
        }
        *known = (now, telling.out);
    }
    known.1.clone()
}

/// The steps from the name of a service to the leaf of a client, or to all leaves, as TRACE shows them (data-plane
/// reference §17).
pub(crate) fn way_to(router: &Router, service: &PathService, id: Option<&Path>) -> String {
    let dtab = DtabStack::new([router.params.dtab.clone(), service.dst.local.clone()]);
    let mut lines = Vec::new();
    match router.interpreter.explain_now(&dtab, &service.dst.path, MAX_EXPLORED) {
        State::Ok(tree) => _ = steps(&tree, id, &mut lines),
        State::Pending | State::Failed(_) => lines.push(format!("  {}\n", service.dst.path)),
    }
    lines.concat()
}

/// Adds the lines of a node and of what is below it; takes them away again, and is false, where they lead elsewhere.
fn steps(tree: &DelegateTree, id: Option<&Path>, lines: &mut Vec<String>) -> bool {
    let before = lines.len();
    let by = tree.dentry.as_ref().map(|dentry| format!(" ({}=>{})", dentry.prefix, dentry.dst));
    let line = format!("  {}{}\n", tree.path, by.as_deref().map_or("".into(), |by| cut(by, MAX_PART)));
    if lines.last() != Some(&line) {
        lines.push(line);
    }
    let found = match &tree.node {
        Delegation::Delegate(child) | Delegation::Transformation { tree: child, .. } => steps(child, id, lines),
        Delegation::Alt(children) => children.iter().any(|child| steps(child, id, lines)),
        Delegation::Union(branches) => branches.iter().any(|(_, child)| steps(child, id, lines)),
        Delegation::Leaf(name, _) => id.is_none_or(|id| name.id == *id),
        Delegation::Neg | Delegation::Fail | Delegation::Empty | Delegation::Exception(_) => false,
    };
    if !found && before > 0 {
        lines.truncate(before);
    }
    found
}

struct Telling<'a> {
    router: &'a Router,
    dst: &'a Dst,
    out: String,
}

impl Telling<'_> {
    /// One node and what is below it; `parent` is the path that was looked up to get here.
    fn node(&mut self, tree: &DelegateTree, parent: Option<&str>, mark: &str, depth: usize) {
        if self.out.len() > MAX_WAY {
            return;
        }
        let _ = write!(self.out, "\n{:depth$}{mark}{}", "", cut(&tree.path, MAX_PART), depth = 2 * depth.min(8));
        if let (Some(dentry), Some(parent)) = (&tree.dentry, parent) {
            self.by(dentry, parent);
        }
        let depth = depth + 1;
        match &tree.node {
            Delegation::Delegate(child) | Delegation::Transformation { tree: child, .. } => {
                self.node(child, Some(&tree.path), "", depth);
            }
            Delegation::Alt(children) => {
                children.iter().for_each(|child| self.node(child, Some(&tree.path), "| ", depth));
            }
            Delegation::Union(branches) => {
                for (weight, child) in branches {
                    self.node(child, Some(&tree.path), &format!("{weight:.2} * "), depth);
                }
            }
            Delegation::Leaf(name, _) => self.leaf(name),
            Delegation::Neg => self.out.push_str(negative(&tree.path)),
            Delegation::Fail => self.out.push_str(": the dtab says `!`, fail"),
            Delegation::Empty => self.out.push_str(": the dtab says `$`, a name without addresses"),
            Delegation::Exception(text) => {
                let _ = write!(self.out, ": failed: {}", cut(text, 2 * MAX_PART));
            }
        }
    }

    /// The entry that led to a node, and where it stands.
    fn by(&mut self, dentry: &Dentry, parent: &str) {
        let shown = format!("{} => {}", dentry.prefix, dentry.dst);
        let _ = write!(self.out, " ({}{})", cut(&shown, MAX_PART), self.source(dentry, parent));
    }

    fn source(&self, dentry: &Dentry, parent: &str) -> String {
        let Ok(parent) = Path::parse(parent) else { return String::new() };
        let find =
            |dtab: &dtab::Dtab| dtab.positions(&parent).into_iter().find(|at| dtab.dentries().get(*at) == Some(dentry));
        if let Some(at) = find(&self.dst.local) {
            return format!(", override entry {}", at + 1);
        }
        let source = self.router.dtab_source.load();
        match find(&self.router.params.dtab).and_then(|at| source.lines.get(at)) {
            Some(line) => format!(", {}:{line}", cut(&source.file, MAX_PART)),
            None => String::new(),
        }
    }

    fn leaf(&mut self, name: &BoundName) {
        let _ = match self.router.clients.peek(&name.id) {
            None => write!(self.out, ": bound; its addresses were not asked for yet"),
            Some(client) => write!(self.out, ": {}", client_state(&client)),
        };
    }

    /// The first steps of a name that cannot be shown as a tree: that of the entry with the highest precedence each.
    fn circle(&mut self, dtab: &DtabStack) {
        let mut path = self.dst.path.clone();
        for _ in 0..MAX_CIRCLE {
            let matches = dtab.matches(&path);
            let Some(dentry) = matches.first() else { return };
            let mut next = None;
            dentry.rewrite(&path).for_each(&mut |leaf| _ = next.get_or_insert_with(|| leaf.clone()));
            let Some(next) = next else { return };
            let shown = path.to_string();
            let _ = write!(self.out, "\n  {}", cut(&next.to_string(), MAX_PART));
            self.by(dentry, &shown);
            path = next;
        }
        self.out.push_str("\n  ...");
    }
}

/// What a negative node means.
fn negative(path: &str) -> &'static str {
    if path == "~" {
        ": the dtab says `~`, no such name"
    } else if path.starts_with("/#") {
        ": the namer knows no such name"
    } else if path.starts_with("/$") {
        ": no such name"
    } else {
        ": no entry of the dtab matches"
    }
}

/// What is known of the addresses of a client, and since when.
fn client_state(client: &Client) -> String {
    let age = |since: u64| clock::now().saturating_sub(since) as f64 / 1e9;
    match &**client.replicas.load() {
        ReplicaState::Pending => format!("addresses pending since {:.1} s", age(client.created)),
        ReplicaState::Failed(reason) => format!("addresses failed: {}", cut(reason, 2 * MAX_PART)),
        ReplicaState::Neg => "discovery says that this cluster does not exist".to_owned(),
        ReplicaState::Bound(replicas) if replicas.endpoints().is_empty() => {
            format!("its address set is empty, last update {:.1} s ago", age(client.updated()))
        }
        ReplicaState::Bound(replicas) => {
            let (all, open) = (replicas.endpoints().len(), replicas.counts(clock::now()).open);
            format!("{all} addresses, {open} of them open, last update {:.1} s ago", age(client.updated()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        assert_eq!(encode("/svc/a'b c#&=>é"), "/svc/a%27b%20c%23%26%3D%3E%C3%A9");
    }
}
