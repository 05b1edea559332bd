//! From a destination to a client: path services, their bound lists, and the caches that hold them.
//!
//! A [`PathService`] is made on the first request for a [`Dst`] and kept while it is used. Its task waits for the
//! interpreter and publishes a flat weighted list; requests read snapshots. Not for: connections (`request`).

pub mod cache;
mod service;

pub use service::{PathService, PathServiceParts};

use crate::client::Client;
use crate::overrides::{Choice, Sets};
use crate::scopes::ScopeLease;
use arc_swap::ArcSwap;
use bytes::Bytes;
use dtab::{BoundName, Dtab, NameTree, Path};
use http::{HeaderName, HeaderValue};
use std::sync::Arc;
use telemetry::{Failures, RequestStats, StreamStats};
use tokio::sync::Notify;

/// Where a request goes: its name and the override it carries. The key of the path cache (naming reference §4.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dst {
    /// The logical name, e.g. `/svc/web`.
    pub path: Path,
    /// The override table.
    pub local: Dtab,
    /// The override sets, which come before the table.
    pub sets: Sets,
}

impl Dst {
    /// True without any override.
    pub fn is_base(&self) -> bool {
        self.local.is_empty() && self.sets.is_empty()
    }

    /// The tables of the override; the later ones win.
    pub fn override_layers(&self) -> impl Iterator<Item = &Dtab> {
        self.sets.iter().map(|set| &set.dtab).chain([&self.local])
    }

    /// Number of entries of the override.
    pub fn override_len(&self) -> usize {
        self.override_layers().map(|dtab| dtab.dentries().len()).sum()
    }
}

/// A value that tasks publish and requests read without waiting, or wait for once.
pub struct Cell<T> {
    value: ArcSwap<T>,
    changed: Notify,
}

impl<T> Cell<T> {
    /// A cell holding `value`.
    pub fn new(value: T) -> Cell<T> {
        Cell { value: ArcSwap::from_pointee(value), changed: Notify::new() }
    }

    /// Publishes `value` and wakes who waits.
    pub fn set(&self, value: T) {
        self.value.store(Arc::new(value));
        self.changed.notify_waiters();
    }

    /// The present value.
    pub fn load(&self) -> arc_swap::Guard<Arc<T>> {
        self.value.load()
    }

    /// Waits until `ready` answers for the value.
    pub async fn wait<R>(&self, mut ready: impl FnMut(&T) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if let Some(answer) = ready(&self.load()) {
                return answer;
            }
            changed.await;
        }
    }
}

/// What a path is bound to.
pub enum Bound {
    /// Not known yet.
    Pending,
    /// It failed before it was ever bound.
    Failed(Arc<str>),
    /// The weighted list.
    Ok(Choices),
}

/// One entry of a bound list.
pub struct Leaf {
    /// The client of the bound id.
    pub client: Arc<Client>,
    /// What the namer did not consume.
    pub residual: Path,
    /// Whose choice it is.
    pub choice: Choice,
    /// Raw header lines that every request to this leaf gets.
    pub lines: Bytes,
    /// The same as fields, for services that speak HTTP/2.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Request counters of this client for this service.
    pub stats: RequestStats,
    /// `failures/<class>` of this client for this service.
    pub failures: Failures,
    /// `request/stream/*`, `response/stream/*`, `stream/*` of this client for this service; of routers of HTTP/2.
    pub streams: Option<Arc<StreamStats>>,
    /// Ends their scope.
    pub lease: Arc<ScopeLease>,
}

/// A flat weighted list; entries without a leaf fail their share (naming reference §4.4).
pub struct Choices {
    entries: Vec<(f64, Option<Arc<Leaf>>)>,
}

impl Choices {
    /// A list of (cumulated share, leaf) made from (leaf, share).
    pub fn new(shares: impl IntoIterator<Item = (Option<Arc<Leaf>>, f64)>) -> Choices {
        let mut sum = 0.0;
        let entries = shares.into_iter().map(|(leaf, share)| {
            sum += share;
            (sum, leaf)
        });
        Choices { entries: entries.collect() }
    }

    /// The entry for a random number in [0, 1): by share, independently for every attempt. None: this share has no
    /// target.
    pub fn choose(&self, random: f64) -> Option<&Arc<Leaf>> {
        match self.entries.as_slice() {
            [] => None,
            [(_, only)] => only.as_ref(),
            many => {
                let total = many.last().map_or(0.0, |(sum, _)| *sum);
                let at = many.partition_point(|(sum, _)| *sum <= random * total);
                many[at.min(many.len() - 1)].1.as_ref()
            }
        }
    }

    /// All leaves.
    pub fn leaves(&self) -> impl Iterator<Item = &Arc<Leaf>> {
        self.entries.iter().filter_map(|(_, leaf)| leaf.as_ref())
    }
}

/// The long-run share of requests of every leaf of a bound tree; None where requests find no target
/// (naming reference §4.4). Shares add up to 1.
pub fn shares(tree: &NameTree<BoundName>) -> Vec<(Option<BoundName>, f64)> {
    let mut flat = Vec::new();
    collect_shares(tree, 1.0, &mut flat);
    flat
}

fn collect_shares(tree: &NameTree<BoundName>, share: f64, flat: &mut Vec<(Option<BoundName>, f64)>) {
    match tree {
        NameTree::Leaf(name) => flat.push((Some(name.clone()), share)),
        NameTree::Union(branches) => {
            // Relative to the largest, so that no sum of legal weights is infinite.
            let largest = branches.iter().map(|branch| branch.weight).fold(0.0, f64::max);
            let total: f64 = branches.iter().map(|branch| branch.weight / largest).sum();
            for branch in branches {
                let equal = 1.0 / branches.len() as f64;
                let part = if largest > 0.0 { branch.weight / largest / total } else { equal };
                collect_shares(&branch.tree, share * part, flat);
            }
        }
        NameTree::Neg | NameTree::Fail | NameTree::Empty | NameTree::Alt(_) => flat.push((None, share)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> NameTree<BoundName> {
        let tree = dtab::parse_tree(text).expect("a tree");
        tree.map(&mut |id| BoundName { id: id.clone(), residual: Path::empty() })
    }

    fn show(text: &str) -> Vec<(String, f64)> {
        shares(&tree(text))
            .into_iter()
            .map(|(name, share)| (name.map_or("-".into(), |n| n.id.to_string()), share))
            .collect()
    }

    #[test]
    fn shares_follow_weights() {
        assert_eq!(show("1*/a & 3*/b"), [("/a".into(), 0.25), ("/b".into(), 0.75)]);
        assert_eq!(show("1*/a & 1*$"), [("/a".into(), 0.5), ("-".into(), 0.5)]);
        assert_eq!(show("0*/a & 0*/b"), [("/a".into(), 0.5), ("/b".into(), 0.5)]);
        assert_eq!(show("1*(1*/a & 1*/b) & 1*/c"), [("/a".into(), 0.25), ("/b".into(), 0.25), ("/c".into(), 0.5)]);
        assert_eq!(show("~"), [("-".into(), 1.0)]);
        let huge = format!("1{0}*/a & 1{0}*/b", "0".repeat(308));
        assert_eq!(show(&huge), [("/a".into(), 0.5), ("/b".into(), 0.5)]);
    }

    #[test]
    fn a_zero_share_is_never_chosen() {
        let choices = Choices::new([(None, 0.0), (None, 1.0), (None, 0.0)]);
        for i in 0..1000 {
            let random = f64::from(i) / 1000.0;
            let at = choices.entries.partition_point(|(sum, _)| *sum <= random);
            assert_eq!(at, 1, "{random}");
        }
    }
}
