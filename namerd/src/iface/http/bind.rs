//! Names: bind, addr, resolve, delegate and bound-names, and the streams of them (namerd reference §2.9 to §2.13).
//!
//! Called by the interface. Not for: the evaluation, which is [`crate::names`]'.

use super::answer::{self, Answer, Refusal};
use super::call::{self, Call, Params};
use super::encoding::{self, JSON};
use super::feed::Documents;
use crate::access::Needs;
use crate::names::Names;
use dtab::{Activity, Addr, BoundName, BoxFuture, Dtab, NameTree, Path, State};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use namers::wire;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The addresses of the leaves of a tree are waited for so long, and then shown as pending. A client that follows the
/// tree follows the addresses by itself.
const ADDRESSES_TIMEOUT: Duration = Duration::from_secs(1);
/// What `Names::explain` says when its time is over.
const TIMED_OUT: &str = "Request timed out.";

/// What is asked for by `path` and `dtab`.
struct Question {
    namespace: String,
    path: Path,
    extra: Dtab,
    watch: bool,
}

impl Question {
    /// What a stream of answers needs.
    fn needs(&self) -> Needs {
        Needs::Namespace(self.namespace.clone())
    }
}

fn bad(text: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, text)
}

/// The parameter `path`; a bad one is refused in the words of the original.
fn path(params: &Params) -> Result<Option<Path>, Refusal> {
    let Some(text) = params.get("path") else { return Ok(None) };
    match Path::parse(text) {
        Ok(path) => Ok(Some(path)),
        Err(error) => Err(Refusal::exactly(StatusCode::BAD_REQUEST, format!("Invalid path: {text} / {error}"))),
    }
}

fn needed(path: Option<Path>) -> Result<Path, Refusal> {
    path.ok_or_else(|| bad("the query parameter `path` is missing, for example ?path=/svc/web"))
}

fn dtab(text: &str) -> Result<Dtab, Refusal> {
    Dtab::parse(text).map_err(|error| Refusal::exactly(StatusCode::BAD_REQUEST, format!("Invalid dtab: {error}")))
}

impl Call<'_> {
    async fn question(&self, namespace: Option<String>, body: Incoming) -> Result<Question, Refusal> {
        let (params, _) = self.params(body).await?;
        let path = path(&params)?;
        let Some(namespace) = namespace else {
            let text = "a namespace is missing in the path, as in /api/1/bind/default";
            return Err(Refusal::new(StatusCode::NOT_FOUND, text));
        };
        self.reads(&namespace)?;
        let extra = params.get("dtab").map_or_else(|| Ok(Dtab::empty()), dtab)?;
        Ok(Question { namespace, path: needed(path)?, extra, watch: params.is_true("watch") })
    }

    /// The tree of a name.
    pub(super) async fn bind(&self, namespace: Option<String>, body: Incoming) -> Result<Answer, Refusal> {
        let asked = self.question(namespace, body).await?;
        let mut tree = self.api.names.bind(&asked.namespace, &asked.extra, &asked.path);
        if asked.watch {
            return self.stream(None, asked.needs(), Trees { names: self.api.names.clone(), tree, last: None });
        }
        let known = self.first(&mut tree, &format!("the tree of {}", asked.path)).await?;
        let document = shown_tree(&self.api.names, &known, Instant::now() + ADDRESSES_TIMEOUT).await;
        Ok(answer::whole(None, document + "\n"))
    }

    /// The addresses of a bound id.
    pub(super) async fn addr(&self, namespace: Option<String>, body: Incoming) -> Result<Answer, Refusal> {
        let asked = self.question(namespace, body).await?;
        let mut addr = self.api.names.resolve(&asked.path);
        if asked.watch {
            return self.stream(None, asked.needs(), Addrs { addr, last: None });
        }
        let known = self.first(&mut addr, &format!("the addresses of {}", asked.path)).await?;
        Ok(answer::whole(None, wire::addr(&known) + "\n"))
    }

    /// The addresses of a name.
    pub(super) async fn resolve(&self, namespace: Option<String>, body: Incoming) -> Result<Answer, Refusal> {
        let asked = self.question(namespace, body).await?;
        let tree = self.api.names.bind(&asked.namespace, &asked.extra, &asked.path);
        let mut resolved = Resolved { names: self.api.names.clone(), tree, chosen: None, last: None };
        if asked.watch {
            return self.stream(Some(JSON), asked.needs(), resolved);
        }
        let wait = self.api.params.first_answer;
        match timeout_at(Instant::now() + wait, resolved.next()).await {
            Ok(document) => Ok(answer::whole(Some(JSON), document + "\n")),
            Err(_) => {
                self.first(&mut resolved.tree, &format!("the tree of {}", asked.path)).await?;
                let text = format!("the addresses of {} are not known yet, after {wait:?}; try again", asked.path);
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, text).with(RETRY_AFTER, "1"))
            }
        }
    }

    /// How a name resolves, step by step.
    pub(super) async fn delegate(&self, namespace: Option<String>, body: Incoming) -> Result<Answer, Refusal> {
        // Whoever may read nothing is not waited for.
        let caller = self.caller()?;
        caller.may_read_something()?;
        let (params, body) = self.params(body).await?;
        let asked_path = path(&params)?;
        let extra = |params: &Params| params.get("dtab").map_or_else(|| Ok(Dtab::empty()), dtab);
        let (namespace, extra, path) = match (namespace, &self.head.method) {
            (Some(namespace), _) => (Some(namespace), extra(&params)?, needed(asked_path)?),
            (None, &Method::GET | &Method::HEAD) => {
                (params.get("namespace").map(ToOwned::to_owned), extra(&params)?, needed(asked_path)?)
            }
            (None, &Method::POST) => self.delegation_request(body).await?,
            _ => {
                let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "use GET or POST here");
                return Err(refusal.with(ALLOW, "GET, POST"));
            }
        };
        if let Some(namespace) = &namespace {
            caller.may_read(namespace)?;
        }
        match self.api.names.explain(namespace.as_deref(), &extra, &path).await {
            Ok(tree) => Ok(answer::whole(Some(JSON), wire::delegation(&tree))),
            Err(text) if text == TIMED_OUT => {
                Err(Refusal::exactly(StatusCode::SERVICE_UNAVAILABLE, text).with(RETRY_AFTER, "1"))
            }
            Err(reason) => Err(call::unknown(&format!("the explanation of {path}"), &reason)),
        }
    }

    /// The question in the body of a POST.
    async fn delegation_request(&self, body: Option<Incoming>) -> Result<(Option<String>, Dtab, Path), Refusal> {
        let json = |value: &http::HeaderValue| value.as_bytes() == JSON.as_bytes();
        let body = body.filter(|_| self.head.headers.get(CONTENT_TYPE).is_some_and(json)).ok_or_else(|| {
            Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the Content-Type has to be application/json")
        })?;
        let sent = self.read_question(body).await?;
        let malformed = || {
            let text = format!("Malformed delegation request: {}", String::from_utf8_lossy(&sent));
            Refusal::exactly(StatusCode::BAD_REQUEST, text)
        };
        let value: Value = serde_json::from_slice(&sent).map_err(|_| malformed())?;
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let (Some(extra), Some(path)) = (text("dtab"), text("path")) else { return Err(malformed()) };
        let parsed = Path::parse(path)
            .map_err(|error| Refusal::exactly(StatusCode::BAD_REQUEST, format!("Invalid path: {path} / {error}")))?;
        Ok((text("namespace").map(ToOwned::to_owned), dtab(extra)?, parsed))
    }

    /// Ids of namers that can enumerate: none here.
    pub(super) async fn bound_names(&self) -> Result<Answer, Refusal> {
        if self.head.method != Method::GET {
            let text = "this method does nothing here; use GET";
            return Err(Refusal::new(StatusCode::NOT_FOUND, text));
        }
        self.caller()?.may_read_something()?;
        let mut names = self.api.names.bound();
        if self.query().is_true("watch") {
            return self.stream(Some(JSON), Needs::Something, Bound { names, last: None });
        }
        let known = self.first(&mut names, "the names that namers can enumerate").await?;
        Ok(answer::whole(Some(JSON), shown(&known) + "\n"))
    }
}

/// A document of a tree with the addresses of its leaves, as far as they are known at `deadline`.
async fn shown_tree(names: &Names, tree: &NameTree<BoundName>, deadline: Instant) -> String {
    let mut live: HashMap<Path, Activity<Addr>> = HashMap::new();
    tree.for_each(&mut |leaf| {
        live.entry(leaf.id.clone()).or_insert_with(|| names.resolve(&leaf.id));
    });
    let mut known: HashMap<Path, Addr> = HashMap::new();
    for (id, mut addr) in live {
        let state = timeout_at(deadline, settled(&mut addr)).await.unwrap_or(Addr::Pending);
        known.insert(id, state);
    }
    wire::bound_tree(tree, &|name| known.get(&name.id).cloned().unwrap_or(Addr::Pending))
}

async fn settled(addr: &mut Activity<Addr>) -> Addr {
    loop {
        match addr.get() {
            State::Pending | State::Ok(Addr::Pending) => addr.changed().await,
            State::Ok(known) => return known,
            State::Failed(reason) => return Addr::Failed(reason),
        }
    }
}

fn shown(names: &[Path]) -> String {
    encoding::texts(names.iter().map(ToString::to_string))
}

/// The stream of the names that namers can enumerate.
struct Bound {
    names: Activity<Arc<[Path]>>,
    last: Option<Arc<[Path]>>,
}

impl Documents for Bound {
    fn next(&mut self) -> BoxFuture<'_, String> {
        Box::pin(async {
            loop {
                if let State::Ok(names) = self.names.get()
                    && self.last.as_ref() != Some(&names)
                {
                    let document = shown(&names);
                    self.last = Some(names);
                    return document;
                }
                self.names.changed().await;
            }
        })
    }
}

/// The stream of a tree: silent while it cannot be known.
struct Trees {
    names: Names,
    tree: Activity<NameTree<BoundName>>,
    last: Option<NameTree<BoundName>>,
}

impl Documents for Trees {
    fn next(&mut self) -> BoxFuture<'_, String> {
        Box::pin(async {
            let mut deadline = None;
            loop {
                match self.tree.get() {
                    State::Ok(tree) if self.last.as_ref() != Some(&tree) => {
                        let deadline = *deadline.get_or_insert_with(|| Instant::now() + ADDRESSES_TIMEOUT);
                        tokio::select! {
                            biased;
                            document = shown_tree(&self.names, &tree, deadline) => {
                                self.last = Some(tree);
                                return document;
                            }
                            () = self.tree.changed() => {}
                        }
                    }
                    _ => self.tree.changed().await,
                }
            }
        })
    }
}

/// The stream of the addresses of an id.
struct Addrs {
    addr: Activity<Addr>,
    last: Option<Addr>,
}

impl Addrs {
    /// Waits for addresses that differ from those before. A failure is told only while nothing else is known.
    async fn changed(&mut self) -> Addr {
        loop {
            let now = match self.addr.get() {
                State::Ok(Addr::Pending) | State::Pending => None,
                State::Ok(addr) => Some(addr),
                State::Failed(reason) if matches!(self.last, None | Some(Addr::Failed(_))) => {
                    Some(Addr::Failed(reason))
                }
                State::Failed(_) => None,
            };
            if let Some(now) = now.filter(|now| self.last.as_ref() != Some(now)) {
                self.last = Some(now.clone());
                return now;
            }
            self.addr.changed().await;
        }
    }
}

impl Documents for Addrs {
    fn next(&mut self) -> BoxFuture<'_, String> {
        Box::pin(async { wire::addr(&self.changed().await) })
    }
}

/// The stream of the addresses of a name: those of one leaf, which is chosen anew with each change of the tree.
struct Resolved {
    names: Names,
    tree: Activity<NameTree<BoundName>>,
    chosen: Option<Chosen>,
    last: Option<String>,
}

/// The leaf of a tree that is followed; none when it has no leaf.
struct Chosen {
    tree: NameTree<BoundName>,
    leaf: Option<(Addrs, Option<f64>)>,
}

impl Resolved {
    /// Waits for the addresses of the leaf; chooses one when the tree has changed.
    async fn document(&mut self) -> Option<String> {
        if let State::Ok(tree) = self.tree.get()
            && self.chosen.as_ref().is_none_or(|chosen| chosen.tree != tree)
        {
            let leaf = choose(&tree, None);
            let followed =
                leaf.map(|(name, weight)| (Addrs { addr: self.names.resolve(&name.id), last: None }, weight));
            self.chosen = Some(Chosen { leaf: followed, tree });
            if self.chosen.as_ref().is_some_and(|chosen| chosen.leaf.is_none()) {
                return Some(wire::addr(&Addr::Neg));
            }
        }
        match self.chosen.as_mut().and_then(|chosen| chosen.leaf.as_mut()) {
            None => self.tree.changed().await,
            Some((addrs, weight)) => tokio::select! {
                biased;
                () = self.tree.changed() => {}
                addr = addrs.changed() => return Some(wire::addr(&wire::weighted(&addr, *weight))),
            },
        }
        None
    }
}

impl Documents for Resolved {
    fn next(&mut self) -> BoxFuture<'_, String> {
        Box::pin(async {
            loop {
                let Some(document) = self.document().await else { continue };
                if self.last.as_ref() != Some(&document) {
                    self.last = Some(document.clone());
                    return document;
                }
            }
        })
    }
}

/// A leaf of the tree and its weight in the innermost union: the first of alternatives that has one, a random branch of a
/// union.
fn choose(tree: &NameTree<BoundName>, weight: Option<f64>) -> Option<(&BoundName, Option<f64>)> {
    match tree {
        NameTree::Neg | NameTree::Fail | NameTree::Empty => None,
        NameTree::Leaf(name) => Some((name, weight)),
        NameTree::Alt(trees) => trees.iter().find_map(|tree| choose(tree, weight)),
        NameTree::Union(branches) => {
            let mut point = fastrand::f64() * branches.iter().map(|branch| branch.weight).sum::<f64>();
            let drawn = branches.iter().find(|branch| {
                point -= branch.weight;
                point < 0.0
            });
            let branch = drawn.or(branches.last())?;
            choose(&branch.tree, Some(branch.weight))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtab::Weighted;

    #[test]
    fn a_branch_is_chosen_by_weight() {
        let leaf = |id: &str| BoundName { id: Path::parse(id).expect("a path"), residual: Path::empty() };
        let branch = |weight, id| Weighted { weight, tree: NameTree::Leaf(leaf(id)) };
        let union = NameTree::Union(vec![branch(1.0, "/#/a"), branch(9.0, "/#/b"), branch(0.0, "/#/c")]);
        fastrand::seed(7);
        let drawn: Vec<_> = (0..1000).filter_map(|_| choose(&union, None)).collect();
        let share = |id: &str| drawn.iter().filter(|(name, _)| *name == &leaf(id)).count();
        assert!((50..150).contains(&share("/#/a")) && share("/#/c") == 0, "{} {}", share("/#/a"), share("/#/c"));
        let alt = NameTree::Alt(vec![NameTree::Neg, NameTree::Empty, NameTree::Leaf(leaf("/#/d"))]);
        assert_eq!(choose(&alt, None), Some((&leaf("/#/d"), None)));
        assert_eq!(choose(&NameTree::Empty, None), None);
    }
}
