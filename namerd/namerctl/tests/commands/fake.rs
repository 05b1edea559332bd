//! A namerd for tests: its HTTP API on a real socket, over a store in memory (namerd reference §2). Every request is kept.
//!
//! One thread per connection, one request per connection at least. Not for: streams, stores.

use dtab::{Addr, BoundName, DelegateTree, Delegation, Dtab, DtabStack, Lookups, Name, NameTree, Path, State};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) dtabs: BTreeMap<String, (u64, Dtab)>,
    pub(crate) history: BTreeMap<String, Vec<Value>>,
    pub(crate) names: BTreeMap<String, Vec<String>>,
    /// Ids that are bound; `*` as last label is any.
    pub(crate) bound: BTreeSet<String>,
    pub(crate) metrics: Value,
    pub(crate) seen: Vec<Seen>,
    version: u64,
    /// Written by somebody else just before the next conditional writes.
    pub(crate) interfere: Vec<(String, String)>,
    /// The next answers, instead of what would be right: status line, headers, body.
    pub(crate) scripted: Vec<(String, String, String)>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    inner: Arc<Mutex<Inner>>,
    pub(crate) url: String,
}

impl Fake {
    pub(crate) fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let fake = Fake { inner: Arc::new(Mutex::new(Inner { metrics: json!({}), ..Inner::default() })), url };
        let serving = fake.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(socket));
            }
        });
        fake
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Stores a dtab as somebody else would.
    pub(crate) fn put(&self, namespace: &str, text: &str) {
        self.lock().write(namespace, Dtab::parse(text).unwrap(), &BTreeMap::new());
    }

    /// The dtab as it is stored.
    pub(crate) fn dtab(&self, namespace: &str) -> String {
        self.lock().dtabs.get(namespace).map(|(_, dtab)| dtab.to_string()).unwrap_or_default()
    }

    fn serve(&self, socket: TcpStream) {
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let mut writer = socket;
        while let Some(seen) = read(&mut reader) {
            let head = seen.line.starts_with("HEAD");
            let (status, mut headers, body) = self.lock().answer(seen);
            if !status.starts_with("204") {
                headers.push_str(&format!("Content-Length: {}\r\n", body.len()));
            }
            let body = if head { String::new() } else { body };
            if write!(writer, "HTTP/1.1 {status}\r\n{headers}\r\n{body}").is_err() {
                return;
            }
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).unwrap() })
}

type Answer = (String, String, String);

fn plain(status: &str) -> Answer {
    (status.to_owned(), String::new(), String::new())
}

fn json_answer(value: &Value) -> Answer {
    ("200 OK".into(), "Content-Type: application/json\r\n".into(), format!("{value}\n"))
}

/// Stamps are the base64 of four digits.
fn stamp(version: u64) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("{version:04}"))
}

fn entries(dtab: &Dtab) -> Value {
    dtab.dentries().iter().map(|d| json!({"prefix": d.prefix.to_string(), "dst": d.dst.to_string()})).collect()
}

impl Inner {
    fn write(&mut self, namespace: &str, dtab: Dtab, headers: &BTreeMap<String, String>) {
        self.version += 1;
        let entry = json!({
            "version": stamp(self.version), "time": 1_795_280_709_000_i64 + self.version as i64 * 1000,
            "author": headers.get("l5d-author"), "reason": headers.get("l5d-reason"), "dtab": entries(&dtab),
        });
        self.history.entry(namespace.into()).or_default().insert(0, entry);
        self.dtabs.insert(namespace.into(), (self.version, dtab));
    }

    fn answer(&mut self, seen: Seen) -> Answer {
        self.seen.push(seen.clone());
        if let Some(answer) = self.scripted.pop() {
            return answer;
        }
        let mut words = seen.line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                (key.into(), percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
            })
            .collect();
        let below = |prefix: &str| path.strip_prefix(prefix).map(str::to_owned);
        if let Some(namespace) = below("/api/1/dtabs/") {
            return self.dtab(method, &namespace, &seen);
        }
        if let Some(namespace) = below("/api/1/history/") {
            let limit = query["limit"].parse().unwrap();
            return match self.history.get(&namespace) {
                Some(list) => json_answer(&list.iter().take(limit).cloned().collect()),
                None => plain("404 Not Found"),
            };
        }
        if let Some(namespace) = below("/api/1/names/") {
            return json_answer(&json!(self.names.get(&namespace).cloned().unwrap_or_default()));
        }
        if let Some(namespace) = below("/api/1/delegate/") {
            let stored = self.dtabs.get(&namespace).map(|(_, dtab)| dtab.clone()).unwrap_or_default();
            let extra = Dtab::parse(query.get("dtab").map_or("", String::as_str)).unwrap();
            return self.delegate(&stored.concat(&extra), &query["path"]);
        }
        match (method, path) {
            (_, "/api/1/dtabs") => json_answer(&self.dtabs.keys().cloned().collect()),
            ("POST", "/api/1/delegate") => {
                let body: Value = serde_json::from_str(&seen.body).unwrap();
                assert_eq!(body["path"].as_str().unwrap(), query["path"]);
                self.delegate(&Dtab::parse(body["dtab"].as_str().unwrap()).unwrap(), &query["path"])
            }
            ("GET", "/admin/metrics.json") => json_answer(&self.metrics.clone()),
            _ => plain("404 Not Found"),
        }
    }

    fn dtab(&mut self, method: &str, namespace: &str, seen: &Seen) -> Answer {
        let parsed = || match seen.headers.get("content-type").map(String::as_str) {
            Some("application/dtab") => Dtab::parse(&seen.body).map_err(|error| error.to_string()),
            Some("application/json") => {
                let list: Vec<BTreeMap<String, String>> =
                    serde_json::from_str(&seen.body).map_err(|error| error.to_string())?;
                let text: String = list.iter().map(|e| format!("{}=>{};", e["prefix"], e["dst"])).collect();
                Dtab::parse(&text).map_err(|error| error.to_string())
            }
            _ => Err("Invalid Content-Type".into()),
        };
        if method == "PUT"
            && seen.headers.contains_key("if-match")
            && let Some((other, text)) = self.interfere.pop()
        {
            self.write(&other, Dtab::parse(&text).unwrap(), &BTreeMap::new());
        }
        let there = self.dtabs.get(namespace).map(|(version, dtab)| (stamp(*version), dtab.clone()));
        match (method, there) {
            ("GET", Some((stamp, dtab))) => {
                let (status, headers, body) = json_answer(&entries(&dtab));
                (status, format!("{headers}ETag: {stamp}\r\n"), body)
            }
            ("POST", Some(_)) => plain("409 Conflict"),
            ("GET" | "DELETE", None) => plain("404 Not Found"),
            ("PUT", None) if seen.headers.contains_key("if-match") => plain("404 Not Found"),
            ("DELETE", Some(_)) => {
                self.dtabs.remove(namespace);
                plain("204 No Content")
            }
            ("PUT", Some((stamp, _))) if seen.headers.get("if-match").is_some_and(|wanted| *wanted != stamp) => {
                plain("412 Precondition Failed")
            }
            ("PUT" | "POST", _) => match parsed() {
                Ok(dtab) => {
                    self.write(namespace, dtab, &seen.headers);
                    plain("204 No Content")
                }
                Err(why) => ("400 Bad Request".into(), String::new(), why),
            },
            _ => plain("404 Not Found"),
        }
    }

    fn delegate(&self, dtab: &Dtab, path: &str) -> Answer {
        let mut known = Known(&self.bound);
        match dtab::explain(&DtabStack::new([dtab.clone()]), &Path::parse(path).unwrap(), &mut known) {
            State::Ok(tree) => json_answer(&show(&tree)),
            other => ("503 Service Unavailable".into(), String::new(), format!("{other:?}")),
        }
    }
}

struct Known<'a>(&'a BTreeSet<String>);

impl Lookups for Known<'_> {
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        let id = path.take(3);
        if !self.0.contains(&id.to_string()) {
            return State::Ok(NameTree::Neg);
        }
        State::Ok(NameTree::Leaf(Name::Bound(BoundName { id, residual: path.skip(3) })))
    }
}

fn show(tree: &DelegateTree) -> Value {
    let mut node = match &tree.node {
        Delegation::Delegate(child) => json!({"type": "delegate", "delegate": show(child)}),
        Delegation::Alt(children) => json!({"type": "alt", "alt": children.iter().map(show).collect::<Vec<_>>()}),
        Delegation::Union(branches) => {
            let list: Vec<Value> = branches.iter().map(|(w, t)| json!({"weight": w, "tree": show(t)})).collect();
            json!({"type": "union", "union": list})
        }
        Delegation::Leaf(name, Addr::Pending) => {
            let addr = json!({"type": "bound", "addrs": [{"ip": "10.0.0.1", "port": 80, "meta": {}}], "meta": {}});
            let bound = json!({"addr": addr, "id": name.id.to_string(), "path": name.residual.to_string()});
            json!({"type": "leaf", "bound": bound})
        }
        Delegation::Neg => json!({"type": "neg"}),
        Delegation::Fail => json!({"type": "fail"}),
        Delegation::Empty => json!({"type": "empty"}),
        Delegation::Exception(why) => json!({"type": "exception", "message": why}),
        other => panic!("{other:?}"),
    };
    node["path"] = json!(tree.path);
    if let Some(dentry) = &tree.dentry {
        node["dentry"] = json!({"prefix": dentry.prefix.to_string(), "dst": dentry.dst.to_string()});
    }
    node
}
