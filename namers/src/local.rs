//! [`LocalInterpreter`]: binds, resolves and explains names in this process, over the configured namers and `/$`.
//!
//! The interpreters `default`, `io.l5d.fs`, `io.l5d.k8s.configMap` and `io.l5d.consul.interpreter` are all this one with
//! another own dtab. Not for: remote interpreters, transformers, caching of bindings (the caller's).

use crate::addresses;
use crate::binder::{Binder, Configured, Subscriptions, stacked};
use crate::system::SystemNamer;
use crate::update::{Work, any_of, change, follow};
use crate::watch::panic_text;
use dtab::{
    Activity, Addr, BoundName, BoxFuture, DelegateTree, Dtab, DtabStack, Interpreter, Lookups, Name, NameTree, Namer,
    Path, State,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// How long explaining waits for namers and addresses (naming reference §10.1).
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(2);
const TIMED_OUT: &str = "Request timed out.";

/// The interpreter of this process.
pub struct LocalInterpreter {
    namers: Arc<[Configured]>,
    own: Option<Activity<Dtab>>,
    system: SystemNamer,
    handle: Handle,
}

impl LocalInterpreter {
    /// An interpreter over `namers` in preference order (a Linkerd config lists them the other way round). `own` is the
    /// interpreter's own dtab, which comes before all others: while it is Pending so are new bindings, while it is
    /// Failed they fail. All tasks run on `handle`.
    pub fn new(
        namers: Vec<Arc<dyn Namer>>,
        own: Option<Activity<Dtab>>,
        system: SystemNamer,
        handle: Handle,
    ) -> LocalInterpreter {
        let configured = namers.into_iter().map(|namer| Configured { prefix: namer.prefix().clone(), namer });
        LocalInterpreter { namers: configured.collect(), own, system, handle }
    }

    async fn explored(&self, dtab: &DtabStack, path: &Path) -> Result<DelegateTree, String> {
        let mut own = self.own.clone();
        let mut subscriptions = Subscriptions::new(self.namers.clone());
        loop {
            let state = match stacked(own.as_mut(), dtab) {
                State::Ok(dtab) => subscriptions.evaluate(|lookups| dtab::explain(&dtab, path, lookups)),
                State::Pending => State::Pending,
                State::Failed(reason) => State::Failed(reason),
            };
            match state {
                State::Ok(tree) => return Ok(tree),
                State::Failed(reason) => return Err(reason.to_string()),
                State::Pending => {}
            }
            let mut waits = subscriptions.changes();
            waits.extend(own.as_mut().map(change));
            any_of(waits).await;
        }
    }

    /// Who may know the addresses of `id`: the namers with the longest prefix first, those of one prefix in preference
    /// order, the system namer last. An id that a transformer made begins with `/%`: of the namers, whoever holds that
    /// transformer knows it, and its prefix may be anything.
    fn resolvers(&self, id: &Path) -> Vec<Activity<Addr>> {
        if id.get(0) == Some(b"%") {
            return self.namers.iter().map(|configured| contained(configured, id)).collect();
        }
        let mut fitting: Vec<&Configured> = self.namers.iter().filter(|c| id.starts_with(&c.prefix)).collect();
        fitting.sort_by_key(|configured| std::cmp::Reverse(configured.prefix.len()));
        let mut resolvers: Vec<Activity<Addr>> = fitting.into_iter().map(|c| contained(c, id)).collect();
        if id.get(0) == Some(b"$") {
            resolvers.push(self.system.resolve(id));
        }
        resolvers
    }
}

fn contained(configured: &Configured, id: &Path) -> Activity<Addr> {
    catch_unwind(AssertUnwindSafe(|| configured.namer.resolve(id))).unwrap_or_else(|panic| {
        let text = format!("namer {}: {}", configured.prefix, panic_text(&*panic));
        Activity::constant(State::Ok(Addr::failed(text)))
    })
}

impl Interpreter for LocalInterpreter {
    /// One task per call, until the result is dropped. What needs no waiting is there on return. Once Ok, the result is
    /// never Pending or Failed again (naming reference §4.4).
    fn bind(&self, dtab: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        let subscriptions = Subscriptions::new(self.namers.clone());
        follow(&self.handle, Binder::new(self.own.clone(), dtab.clone(), path.clone(), subscriptions))
    }

    /// Failures are published as `Ok(Addr::Failed)`, never as `State::Failed`; nothing known is `State::Pending`. Once
    /// Bound or Neg, never Pending or Failed again (naming reference §4.3). An id that no namer knows is Neg.
    fn resolve(&self, id: &Path) -> Activity<Addr> {
        let resolvers = self.resolvers(id);
        if resolvers.is_empty() {
            return Activity::constant(State::Ok(Addr::Neg));
        }
        follow(&self.handle, Resolving { resolvers })
    }

    /// Waits up to 2 s for whatever is Pending, then errors with `Request timed out.`. Needs a tokio runtime with time.
    fn explain<'a>(&'a self, dtab: &'a DtabStack, path: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async move {
            let deadline = Instant::now() + EXPLAIN_TIMEOUT;
            let explored = tokio::time::timeout_at(deadline, self.explored(dtab, path)).await;
            let mut tree = explored.unwrap_or_else(|_| Err(TIMED_OUT.to_owned()))?;
            addresses::fill(&mut tree, deadline, |id| self.resolve(id)).await;
            Ok(tree)
        })
    }

    /// Reads what the namers know now. A name that nobody watched before is watched from then on, for as long as the
    /// namers let an unread name linger.
    fn explain_now(&self, dtab: &DtabStack, path: &Path, bytes: usize) -> State<DelegateTree> {
        let mut own = self.own.clone();
        let dtab = match stacked(own.as_mut(), dtab) {
            State::Ok(dtab) => dtab,
            State::Pending => return State::Failed("the interpreter's own dtab is not known yet".into()),
            State::Failed(reason) => return State::Failed(reason),
        };
        let mut subscriptions = Subscriptions::new(self.namers.clone());
        subscriptions.evaluate(|lookups| {
            let mut now = Now { lookups, namers: &self.namers };
            dtab::explain_within(&dtab, path, &mut now, bytes)
        })
    }
}

/// Lookups that say what is missing instead of leaving it open.
struct Now<'a> {
    lookups: &'a mut dyn Lookups,
    namers: &'a [Configured],
}

impl Lookups for Now<'_> {
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        let known = path.get(0) != Some(b"#") || self.namers.iter().any(|namer| path.starts_with(&namer.prefix));
        if !known {
            let prefixes: Vec<String> = self.namers.iter().take(8).map(|namer| namer.prefix.to_string()).collect();
            let all = if prefixes.is_empty() { "none".to_owned() } else { prefixes.join(", ") };
            return State::Failed(format!("no namer has this prefix; configured: {all}").into());
        }
        match self.lookups.lookup(path) {
            State::Pending => State::Failed("pending: the namer does not know yet".into()),
            known => known,
        }
    }
}

/// The first of several answers that is not Neg.
struct Resolving {
    resolvers: Vec<Activity<Addr>>,
}

impl Work for Resolving {
    type Out = Addr;

    fn evaluate(&mut self) -> State<Addr> {
        // All are read, so that a change of any counts.
        let known: Vec<Addr> = self.resolvers.iter_mut().map(|addr| addresses::read(addr.get())).collect();
        addresses::publish(known.into_iter().find(|addr| *addr != Addr::Neg).unwrap_or(Addr::Neg))
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(any_of(self.resolvers.iter_mut().map(change).collect()))
    }

    fn keeps(&self, current: &State<Addr>, new: &State<Addr>) -> bool {
        addresses::keeps(current, new)
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
