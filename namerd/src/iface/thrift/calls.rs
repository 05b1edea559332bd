//! [`Calls`]: what the four methods do (namerd reference §4.2).
//!
//! A call is begun, then waited for until it has an answer, then its reply is made: at the last moment, so that whoever
//! reads slowly gets what is true when it reads. Called by `session` and `framed`. Not for: connections.

use super::ThriftOptions;
use super::observed::{Observe, Observed, Stamps, table};
use super::stats::{Counted, ThriftStats};
use crate::access::{Caller, Denied};
use crate::iface::stats::Outcome;
use crate::names::{MAX_EXTRA, Names, show_question};
use crate::storage::VersionedDtab;
use dtab::{Activity, Addr, BoundName, BoxFuture, Dtab, Exact, NameTree, ParseError, Path, State};
use namers::WatchTable;
use namers::thrift::binary::{Wire, WireError};
use namers::thrift::call::{self, Call, Head, INTERNAL_ERROR, PROTOCOL_ERROR, UNKNOWN_METHOD};
use namers::thrift::messages::{
    AddrReq, BindReq, Bound, DelegateReq, Delegation, DtabRef, DtabReq, Failure, NameRef, Stamp,
};
use namers::thrift::{MAX_MESSAGE, convert, delegation};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use telemetry::Scope;
use tokio::runtime::Handle;

const EMPTY_PATH: &str = "empty path";

/// See the module.
pub(super) struct Calls {
    names: Names,
    trees: Table<TreeKey>,
    addrs: Table<Path>,
    dtabs: Table<String>,
    parsed: Parsed,
}

/// The calls of one connection.
pub(super) struct Asking {
    pub(super) calls: Arc<Calls>,
    /// Who is at the other end.
    pub(super) caller: Caller,
    pub(super) stats: ThriftStats,
}

/// The dtabs of the last questions, none longer than [`MAX_EXTRA`]. Routers send the same text with every name: it is parsed once, and all share it.
#[derive(Default)]
struct Parsed(Mutex<VecDeque<(String, Dtab)>>);

/// Texts that are remembered.
const REMEMBERED: usize = 32;

impl Parsed {
    fn dtab(&self, text: String) -> Result<Dtab, ParseError> {
        let found = |known: &VecDeque<(String, Dtab)>| {
            known.iter().find(|(known, _)| *known == text).map(|(_, dtab)| dtab.clone())
        };
        if let Some(dtab) = found(&self.0.lock()) {
            return Ok(dtab);
        }
        let dtab = Dtab::parse(&text)?;
        if !text.is_empty() {
            let mut known = self.0.lock();
            known.push_front((text, dtab.clone()));
            known.truncate(REMEMBERED);
        }
        Ok(dtab)
    }
}

struct Table<K> {
    observations: WatchTable<K, Observed>,
    /// Observations at most.
    limit: usize,
}

impl<K: namers::Key> Table<K> {
    fn show(&self, scope: &Scope) {
        let in_use = |table: &WatchTable<K, Observed>| table.report().iter().filter(|key| key.watchers > 0).count();
        let table = self.observations.clone();
        scope.gauge("active", move || in_use(&table) as f64).keep();
        let table = self.observations.clone();
        scope.gauge("inactive", move || table.len().saturating_sub(in_use(&table)) as f64).keep();
    }
}

/// What is bound.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TreeKey {
    ns: String,
    extra: Dtab,
    path: Path,
}

impl fmt::Display for TreeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show_question(f, &self.ns, &self.path, &self.extra)
    }
}

struct Trees(Names);

impl Observe<TreeKey> for Trees {
    type Value = NameTree<BoundName>;

    fn start(&self, key: &TreeKey) -> Activity<Self::Value> {
        self.0.bind(&key.ns, &key.extra, &key.path)
    }

    fn encode(&self, key: &TreeKey, tree: &Self::Value, stamp: Stamp) -> Option<Result<Vec<u8>, Arc<str>>> {
        Some(Ok(Bound { stamp, tree: convert::write_tree(tree), ns: key.ns.clone() }.encode()))
    }
}

struct Addrs(Names);

impl Observe<Path> for Addrs {
    type Value = Addr;

    fn start(&self, id: &Path) -> Activity<Addr> {
        self.0.resolve(id)
    }

    fn encode(&self, _: &Path, addr: &Addr, stamp: Stamp) -> Option<Result<Vec<u8>, Arc<str>>> {
        match addr {
            Addr::Failed(reason) => Some(Err(reason.clone())),
            addr => convert::write_addr(addr, stamp).map(|reply| Ok(reply.encode())),
        }
    }
}

struct Dtabs(Names);

impl Observe<String> for Dtabs {
    type Value = Option<VersionedDtab>;

    fn start(&self, ns: &String) -> Activity<Self::Value> {
        self.0.store().observe(ns)
    }

    fn encode(&self, _: &String, stored: &Self::Value, stamp: Stamp) -> Option<Result<Vec<u8>, Arc<str>>> {
        let dtab = stored.as_ref().map(|stored| Exact(&stored.dtab).to_string()).unwrap_or_default();
        Some(Ok(DtabRef { stamp, dtab }.encode()))
    }

    /// A write that changes nothing but the version is no news here.
    fn same(&self, before: &Self::Value, now: &Self::Value) -> bool {
        let dtab = |stored: &Self::Value| stored.as_ref().map(|stored| stored.dtab.clone()).unwrap_or_default();
        dtab(before) == dtab(now)
    }
}

/// A call under way.
pub(super) struct Begun {
    head: Head,
    /// The caller wants no reply.
    pub(super) oneway: bool,
    counted: Counted,
    waits: Waits,
}

enum Waits {
    /// The reply is there.
    Done(Vec<u8>, Outcome),
    /// For an answer with another stamp than this.
    Poll { live: Activity<Observed>, asked: Stamp, failure: Failure },
    /// For an explanation.
    Explain(BoxFuture<'static, (Vec<u8>, Outcome)>),
    /// For ever.
    Never,
}

impl Calls {
    pub(super) fn new(names: Names, options: &ThriftOptions, handle: &Handle) -> Calls {
        let stamps = Arc::new(Stamps::new());
        let limit = |limits: super::CacheLimits| limits.active.saturating_add(limits.inactive);
        let trees = table(Trees(names.clone()), &stamps, options.bindings, handle);
        let addrs = table(Addrs(names.clone()), &stamps, options.addresses, handle);
        let dtabs = table(Dtabs(names.clone()), &stamps, options.dtabs, handle);
        Calls {
            names,
            trees: Table { observations: trees, limit: limit(options.bindings) },
            addrs: Table { observations: addrs, limit: limit(options.addresses) },
            dtabs: Table { observations: dtabs, limit: limit(options.dtabs) },
            parsed: Parsed::default(),
        }
    }

    /// Shows below `scope` how many observations there are, and how many of them no call waits for, as Linkerd 1 does.
    pub(super) fn show(&self, scope: &Scope) {
        self.trees.show(&scope.scope("bindingcache"));
        self.addrs.show(&scope.scope("addrcache"));
        self.dtabs.show(&scope.scope("dtabcache"));
    }

    /// How many calls read each observation of a tree.
    #[cfg(test)]
    pub(super) fn readers(&self) -> Vec<usize> {
        self.trees.observations.report().iter().map(|report| report.watchers).collect()
    }
}

impl Asking {
    /// Begins the call that `message` is. Errors when it is none: then nothing can be answered.
    pub(super) fn begin(&self, message: &[u8]) -> Result<Begun, WireError> {
        let call = call::read_call(message)?;
        let (method, waits) = match call.head.method.as_str() {
            "bind" => ("bind", self.bind(&call)),
            "addr" => ("addr", self.addr(&call)),
            "delegate" => ("delegate", self.delegate(&call)),
            "dtab" => ("dtab", self.dtab(&call)),
            other => {
                let text = format!("Invalid method name: '{other}'");
                ("unknown", Ok(Waits::Done(call::exception(&call.head, UNKNOWN_METHOD, &text), Outcome::Failure)))
            }
        };
        let waits = waits.unwrap_or_else(|error| {
            Waits::Done(call::exception(&call.head, PROTOCOL_ERROR, &error.to_string()), Outcome::Failure)
        });
        Ok(Begun { oneway: call.oneway, head: call.head, counted: self.stats.begin(method), waits })
    }

    fn bind(&self, call: &Call<'_>) -> Result<Waits, WireError> {
        let BindReq { dtab, name } = call::read_argument(call.arguments)?;
        let extra = match self.parse(call, dtab) {
            Ok(extra) => extra,
            Err(thrown) => return Ok(Waits::Done(thrown, Outcome::Failure)),
        };
        let key = TreeKey { ns: name.ns.clone(), extra, path: name.name.clone() };
        let (ns, right) = (Some(name.ns.clone()), self.caller.may_read(&name.ns));
        Ok(poll_name(call, &self.calls.trees, key, (right, name, ns)))
    }

    fn addr(&self, call: &Call<'_>) -> Result<Waits, WireError> {
        let AddrReq(name) = call::read_argument(call.arguments)?;
        let right = self.caller.may_read_something();
        Ok(poll_name(call, &self.calls.addrs, name.name.clone(), (right, name, None)))
    }

    fn dtab(&self, call: &Call<'_>) -> Result<Waits, WireError> {
        let DtabReq { stamp, ns } = call::read_argument(call.arguments)?;
        if let Err(denied) = self.caller.may_read(&ns) {
            return Ok(deny(&call.head, &denied));
        }
        Ok(poll(call, &self.calls.dtabs, ns, stamp, Failure::default()))
    }

    /// The dtab of a call, or the reply that says what is wrong with it.
    fn parse(&self, call: &Call<'_>, text: String) -> Result<Dtab, Vec<u8>> {
        let thrown = |why: String| {
            let text = format!("Internal error processing {}: '{why}'", call.head.method);
            call::exception(&call.head, INTERNAL_ERROR, &text)
        };
        if text.len() > MAX_EXTRA {
            return Err(thrown(format!("the dtab has {} bytes, and at most {MAX_EXTRA} are taken", text.len())));
        }
        self.calls.parsed.dtab(text).map_err(|error| thrown(format!("invalid dtab: {error}")))
    }

    fn delegate(&self, call: &Call<'_>) -> Result<Waits, WireError> {
        let DelegateReq { dtab, delegation: asked } = call::read_argument(call.arguments)?;
        if let Err(denied) = self.caller.may_read(&asked.ns) {
            return Ok(deny(&call.head, &denied));
        }
        if !asked.stamp.is_empty() {
            return Ok(Waits::Never);
        }
        let Some(path) = delegation::asked(&asked.tree).cloned() else {
            return Ok(refuse(&call.head, delegation::TOO_COMPLEX));
        };
        let extra = match self.parse(call, dtab) {
            Ok(extra) => extra,
            Err(thrown) => return Ok(Waits::Done(thrown, Outcome::Failure)),
        };
        let (names, head, ns) = (self.calls.names.clone(), call.head.clone(), asked.ns);
        Ok(Waits::Explain(Box::pin(async move {
            let explained = names.explain(Some(&ns), &extra, &path).await;
            explanation(&head, explained, ns)
        })))
    }
}

/// The reply to `delegate`.
fn explanation(head: &Head, explained: Result<dtab::DelegateTree, String>, ns: String) -> (Vec<u8>, Outcome) {
    let reason = match explained {
        Ok(tree) => {
            let answer = Delegation { stamp: delegation::STAMP.to_vec(), tree: delegation::write(&tree), ns }.encode();
            if answer.len() <= MAX_MESSAGE {
                return (call::success(head, &answer), Outcome::Success);
            }
            format!("the explanation of {} bytes is larger than a message may be", answer.len())
        }
        Err(reason) => reason,
    };
    (call::declared(head, &Failure { reason, ..Failure::default() }), Outcome::Failure)
}

/// The poll of a name, by one who has the right to it or not; `name` and `ns` are for a failure.
fn poll_name<K: namers::Key>(
    call: &Call<'_>,
    table: &Table<K>,
    key: K,
    (right, name, ns): (Result<(), Denied>, NameRef, Option<String>),
) -> Waits {
    let refusal = match right {
        Err(denied) => Some((denied.to_string(), Outcome::Refused)),
        Ok(()) => name.name.is_empty().then(|| (EMPTY_PATH.to_owned(), Outcome::Failure)),
    };
    let (asked, failure) = (name.stamp.clone(), Failure { reason: String::new(), name: Some(name), ns });
    match refusal {
        Some((reason, outcome)) => Waits::Done(call::declared(&call.head, &Failure { reason, ..failure }), outcome),
        None => poll(call, table, key, asked, failure),
    }
}

fn poll<K: namers::Key>(call: &Call<'_>, table: &Table<K>, key: K, asked: Stamp, failure: Failure) -> Waits {
    let live = table.observations.get(&key);
    if table.observations.len() > table.limit && matches!(live.peek(), State::Failed(_)) {
        let limit = table.limit;
        let reason = format!("The maximum number of concurrent observations has been reached ({limit})");
        return Waits::Done(call::declared(&call.head, &Failure { reason, ..failure }), Outcome::Failure);
    }
    Waits::Poll { live, asked, failure }
}

fn refuse(head: &Head, reason: &str) -> Waits {
    let failure = Failure { reason: reason.to_owned(), ..Failure::default() };
    Waits::Done(call::declared(head, &failure), Outcome::Failure)
}

fn deny(head: &Head, denied: &Denied) -> Waits {
    let failure = Failure { reason: denied.to_string(), ..Failure::default() };
    Waits::Done(call::declared(head, &failure), Outcome::Refused)
}

impl Begun {
    /// False for a call that may wait for a change.
    pub(super) fn is_finite(&self) -> bool {
        matches!(self.waits, Waits::Done(..) | Waits::Explain(_))
    }

    /// The same call, refused for this reason.
    pub(super) fn refused(self, reason: &str) -> Begun {
        let waits = match self.waits {
            Waits::Poll { failure, .. } => {
                let failure = Failure { reason: reason.to_owned(), ..failure };
                Waits::Done(call::declared(&self.head, &failure), Outcome::Failure)
            }
            _ => refuse(&self.head, reason),
        };
        Begun { waits, ..self }
    }

    /// Waits until there is a reply. May be dropped and called again.
    pub(super) async fn ready(&mut self) {
        match &mut self.waits {
            Waits::Done(..) => {}
            Waits::Never => std::future::pending().await,
            Waits::Explain(explaining) => {
                let (reply, outcome) = explaining.await;
                self.waits = Waits::Done(reply, outcome);
            }
            Waits::Poll { live, asked, .. } => loop {
                match live.get() {
                    State::Ok(observed) if observed.stamp.to_be_bytes() != asked[..] => return,
                    State::Failed(_) => return,
                    State::Ok(_) | State::Pending => live.changed().await,
                }
            },
        }
    }

    /// The reply to a call that is ready, as things are now.
    pub(super) fn reply(self) -> Vec<u8> {
        let (reply, outcome) = match self.waits {
            Waits::Done(reply, outcome) => (reply, outcome),
            Waits::Poll { mut live, failure, .. } => {
                let outcome = match live.get() {
                    State::Ok(observed) => observed.outcome,
                    State::Failed(reason) => Err(reason),
                    State::Pending => Err("nothing is known yet".into()),
                };
                match outcome {
                    Ok(encoded) => (call::success(&self.head, &encoded), Outcome::Success),
                    Err(reason) => {
                        let failure = Failure { reason: reason.to_string(), ..failure };
                        (call::declared(&self.head, &failure), Outcome::Failure)
                    }
                }
            }
            Waits::Explain(_) | Waits::Never => {
                let text = "the call has no answer";
                (call::exception(&self.head, INTERNAL_ERROR, text), Outcome::Failure)
            }
        };
        self.counted.end(outcome);
        reply
    }
}
