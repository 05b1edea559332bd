//! Binding, explaining, system names, the rewrite namer: `delegate.json`, `utility.json`, `rewrite.json`.

use crate::Verdict;
use crate::language::{alike, as_set, structure, text, value_json};
use dtab::system::{self, SystemError, Target};
use dtab::{Addr, BoundName, Dtab, DtabStack, Lookups, Name, NameTree, Path, State};
use router::route::shares;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// A namer of the corpus (README of the conformance folder, `delegate.json`).
pub(crate) struct CorpusNamer<'a> {
    pub(crate) prefix: Path,
    pub(crate) json: &'a Json,
}

struct Corpus<'a> {
    namers: Vec<CorpusNamer<'a>>,
}

impl<'a> Corpus<'a> {
    fn new(case: &'a Json) -> Corpus<'a> {
        let namers = case["namers"].as_array().map_or(&[][..], Vec::as_slice);
        let namer = |json: &'a Json| CorpusNamer { prefix: Path::parse(text(json, "prefix")).expect("a prefix"), json };
        Corpus { namers: namers.iter().map(namer).collect() }
    }

    fn addr(&self, id: &Path) -> Addr {
        if let Some(target) = system::target(id) {
            return match target {
                Target::Host { host, port, .. } => literal(&host, port),
                Target::Failed(reason) => Addr::failed(reason),
            };
        }
        self.namers.iter().find_map(|namer| namer.addr(id)).unwrap_or(Addr::Neg)
    }
}

/// The corpus needs no DNS: hosts are literals or the loopback.
fn literal(host: &str, port: u16) -> Addr {
    let ip = if host.is_empty() { "127.0.0.1" } else { host };
    ip.parse().map_or(Addr::failed("not a literal"), |ip| Addr::bound([std::net::SocketAddr::new(ip, port)]))
}

impl CorpusNamer<'_> {
    /// The longest entry that is a prefix of `rest`.
    fn entry(&self, rest: &Path) -> Option<&Json> {
        let entries = self.json["entries"].as_array().map_or(&[][..], Vec::as_slice);
        let matching = entries.iter().filter(|entry| rest.starts_with(&entry_path(entry)));
        matching.max_by_key(|entry| entry_path(entry).len())
    }

    /// The addresses of an id; None when it is not of this namer.
    pub(crate) fn addr(&self, id: &Path) -> Option<Addr> {
        let entry = self.entry(&id.starts_with(&self.prefix).then(|| id.skip(self.prefix.len()))?)?;
        Some(match text(entry, "result") {
            "addr-neg" => Addr::Neg,
            "addr-pending" => Addr::Pending,
            "addr-failed" => Addr::failed("addr failed"),
            _ => {
                let addrs = entry["addrs"].as_array().expect("addrs");
                Addr::bound(addrs.iter().map(|a| a.as_str().expect("text").parse().expect("an address")))
            }
        })
    }

    pub(crate) fn lookup(&self, rest: &Path) -> State<NameTree<Name>> {
        if self.json["kind"] == "rewrite" {
            return rewritten(text(self.json, "pattern"), text(self.json, "name"), rest);
        }
        let Some(entry) = self.entry(rest) else { return State::Ok(NameTree::Neg) };
        let taken = entry_path(entry);
        let residual = rest.skip(taken.len());
        State::Ok(match text(entry, "result") {
            "neg" => NameTree::Neg,
            "fail" => NameTree::Fail,
            "empty" => NameTree::Empty,
            "pending" => return State::Pending,
            "failed" => return State::Failed("namer failed".into()),
            "rewrite" => dtab::parse_tree(text(entry, "tree"))
                .expect("a tree")
                .map(&mut |path| Name::Path(path.concat(&residual))),
            _ => NameTree::Leaf(Name::Bound(BoundName { id: self.prefix.concat(&taken), residual })),
        })
    }
}

/// What the rewrite namer answers.
fn rewritten(pattern: &str, name: &str, rest: &Path) -> State<NameTree<Name>> {
    let prefix = Path::parse("/#/rewrite").expect("a path");
    namers::RewriteNamer::new(prefix, pattern, name).expect("a legal pattern").rewrite(rest)
}

fn entry_path(entry: &Json) -> Path {
    Path::parse(text(entry, "path")).expect("a path")
}

impl Lookups for Corpus<'_> {
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        for namer in self.namers.iter().filter(|namer| path.starts_with(&namer.prefix)) {
            match namer.lookup(&path.skip(namer.prefix.len())) {
                State::Ok(NameTree::Neg) => {}
                decided => return decided,
            }
        }
        State::Ok(NameTree::Neg)
    }
}

pub(crate) fn delegate(case: &Json) -> Verdict {
    let own = case["interpreter_dtab"].as_str().unwrap_or("");
    let (own, given) = (Dtab::parse(own).expect("a dtab"), Dtab::parse(text(case, "dtab")).expect("a dtab"));
    let table = DtabStack::new([given]).below(own);
    let path = Path::parse(text(case, "path")).expect("a path");
    let mut corpus = Corpus::new(case);
    let bound = dtab::bind(&table, &path, &mut corpus);
    if let wrong @ Verdict::Fail(_) = judge_binding(&case["expect"], &bound, &|id| corpus.addr(id)) {
        return wrong;
    }
    let mut explained = dtab::explain(&table, &path, &mut corpus);
    if let State::Ok(tree) = &mut explained {
        tree.for_each_leaf(&mut |name, addr| *addr = corpus.addr(&name.id));
    }
    judge_explain(case, explained)
}

pub(crate) fn judge_binding(
    expect: &Json,
    bound: &State<NameTree<BoundName>>,
    addr: &dyn Fn(&Path) -> Addr,
) -> Verdict {
    let (state, tree) = match bound {
        State::Pending => ("pending", None),
        State::Failed(message) => {
            if expect.get("message").is_some_and(|want| want.as_str() != Some(message)) {
                return Verdict::Fail(format!("failed with {message}"));
            }
            ("failed", None)
        }
        State::Ok(tree) => ("ok", Some(tree)),
    };
    if state != text(expect, "state") {
        return Verdict::Fail(format!("binding is {bound:?}"));
    }
    let Some(tree) = tree else { return Verdict::Pass };
    let plain = |name: &BoundName| json!({ "id": name.id.to_string(), "residual": name.residual.to_string() });
    let full = |name: &BoundName| {
        json!({ "type": "leaf", "id": name.id.to_string(), "residual": name.residual.to_string(),
                "addr": addr_json(&addr(&name.id)) })
    };
    let got = json!({
        "bound": structure(tree, &full),
        "eval": value_json(tree, &plain),
        "distribution": distribution(tree, &plain),
    });
    for key in ["bound", "eval", "distribution"] {
        if let Some(want) = expect.get(key)
            && !alike(&as_set(&got[key]), &as_set(want))
        {
            return Verdict::Fail(format!("`{key}`: got  {}\n       want {want}", got[key]));
        }
    }
    Verdict::Pass
}

fn addr_json(addr: &Addr) -> Json {
    match addr {
        Addr::Pending => json!({ "state": "pending" }),
        Addr::Neg => json!({ "state": "neg" }),
        Addr::Failed(_) => json!({ "state": "failed" }),
        Addr::Bound(set) => {
            json!({ "state": "bound", "addrs": set.addresses.iter().map(|a| a.socket.to_string()).collect::<Vec<_>>() })
        }
    }
}

/// Long-run shares of requests, by the chooser that requests go through.
pub(crate) fn distribution(tree: &NameTree<BoundName>, leaf: &dyn Fn(&BoundName) -> Json) -> Json {
    let mut sums: BTreeMap<String, (Json, f64)> = BTreeMap::new();
    for (name, share) in shares(tree) {
        let key = name.as_ref().map_or(json!({ "unroutable": true }), leaf);
        sums.entry(key.to_string()).or_insert((key, 0.0)).1 += share;
    }
    let rows = sums.into_values().map(|(mut row, share)| {
        row["share"] = json!((share * 1e12).round() / 1e12);
        row
    });
    Json::Array(rows.collect())
}

pub(crate) fn judge_explain(case: &Json, got: State<dtab::DelegateTree>) -> Verdict {
    match got {
        State::Ok(tree) => {
            let shown: Json = serde_json::from_str(&namers::wire::delegation(&tree)).expect("JSON");
            match case.get("explain") {
                Some(want) if !alike(&sort_addrs(&shown), &sort_addrs(want)) => {
                    Verdict::Fail(format!("`explain`: got  {shown}\n       want {want}"))
                }
                _ if case.get("explain_error").is_some() => Verdict::Fail(format!("explain gave {shown}")),
                _ => Verdict::Pass,
            }
        }
        State::Failed(message) => match case.get("explain_error") {
            Some(want) => Verdict::equal(&Some(&*message), &want["message"].as_str()),
            None if case.get("explain").is_some() => Verdict::Fail(format!("explain failed with {message}")),
            None => Verdict::Pass,
        },
        State::Pending if case.get("explain").is_some() => Verdict::Fail("explain is pending".into()),
        State::Pending => Verdict::Pass,
    }
}

/// `addrs` compare as sets.
fn sort_addrs(json: &Json) -> Json {
    match json {
        Json::Object(members) => {
            let sorted = members.iter().map(|(key, value)| {
                let mut value = sort_addrs(value);
                if let (true, Json::Array(items)) = (key == "addrs", &mut value) {
                    items.sort_by_key(Json::to_string);
                }
                (key.clone(), value)
            });
            Json::Object(sorted.collect())
        }
        Json::Array(items) => Json::Array(items.iter().map(sort_addrs).collect()),
        other => other.clone(),
    }
}

pub(crate) fn utility(case: &Json) -> Verdict {
    let path = Path::parse(text(case, "path")).expect("a path");
    let got = match system::lookup(&path) {
        Err(SystemError::Unknown(message)) => {
            json!({ "kind": "unknown-namer", "message_in_linkerd": &*message })
        }
        Err(SystemError::Threw(_)) => json!({ "kind": "exception" }),
        Ok(NameTree::Neg) => json!({ "type": "neg" }),
        Ok(NameTree::Fail) => json!({ "type": "fail" }),
        Ok(NameTree::Empty) => json!({ "type": "empty" }),
        Ok(NameTree::Leaf(Name::Path(path))) => json!({ "type": "path", "path": path.to_string() }),
        Ok(NameTree::Leaf(Name::Bound(name))) => bound_json(&name),
        Ok(other) => return Verdict::Fail(format!("{other:?}")),
    };
    let want = case.get("ok").or(case.get("error")).expect("an outcome");
    for (key, want) in want.as_object().expect("an object") {
        if got[key] != *want {
            return Verdict::Fail(format!("`{key}`: got  {got}\n       want {want}"));
        }
    }
    Verdict::Pass
}

fn bound_json(name: &BoundName) -> Json {
    let mut json = json!({ "type": "bound", "id": name.id.to_string(), "residual": name.residual.to_string() });
    match system::target(&name.id) {
        Some(Target::Host { host, port, .. }) => {
            let host = if host.is_empty() { "localhost" } else { &host };
            json["endpoint"] = json!(format!("{host}:{port}"));
        }
        _ => json["addr"] = json!({ "state": "failed" }),
    }
    json
}

pub(crate) fn rewrite(case: &Json) -> Verdict {
    let path = Path::parse(text(case, "path")).expect("a path");
    let got = match rewritten(text(case, "pattern"), text(case, "name"), &path) {
        State::Ok(NameTree::Neg) => json!({ "ok": { "type": "neg" } }),
        State::Ok(NameTree::Leaf(Name::Path(path))) => json!({ "ok": { "type": "path", "path": path.to_string() } }),
        State::Failed(_) => json!({ "error": { "kind": "exception" } }),
        other => return Verdict::Fail(format!("{other:?}")),
    };
    let key = if case.get("ok").is_some() { "ok" } else { "error" };
    Verdict::equal(&got[key], &case[key])
}
