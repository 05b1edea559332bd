//! [`Observed`]: what a question has as its answer now, encoded once, under a stamp.
//!
//! An observation is a key of a watch table: shared by all who ask, kept for a while after the last one, so that a client
//! between two polls finds what it has seen. Called by `calls`. Not for: who waits.

use crate::iface::thrift::CacheLimits;
use dtab::{Activity, BoxFuture, State};
use namers::thrift::MAX_MESSAGE;
use namers::{Key, Source, SourceError, WatchOptions, WatchTable, Watched};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;

/// Numbers that no other answer of this process has, nor, but for one chance in a billion billions, of any other: the first
/// is drawn from the randomness of the system.
pub(super) struct Stamps(AtomicU64);

impl Stamps {
    pub(super) fn new() -> Stamps {
        Stamps(AtomicU64::new(RandomState::new().hash_one(std::process::id())))
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) stamp: u64,
    /// The struct that the method returns, or why it fails.
    pub(super) outcome: Result<Arc<[u8]>, Arc<str>>,
}

impl PartialEq for Observed {
    fn eq(&self, other: &Observed) -> bool {
        self.stamp == other.stamp
    }
}

/// What to look at, and how to say it.
pub(super) trait Observe<K>: Send + Sync + 'static {
    /// What is looked at.
    type Value: Clone + PartialEq + Send + Sync + 'static;
    /// The value of `key` over time.
    fn start(&self, key: &K) -> Activity<Self::Value>;
    /// The struct that says `value`; an error is a failure of the call, None that nothing is known yet.
    fn encode(&self, key: &K, value: &Self::Value, stamp: Vec<u8>) -> Option<Result<Vec<u8>, Arc<str>>>;
    /// True for values that are said alike: the second is no news.
    fn same(&self, before: &Self::Value, now: &Self::Value) -> bool {
        before == now
    }
}

struct Observing<O> {
    observe: Arc<O>,
    stamps: Arc<Stamps>,
}

/// Observations of one kind.
pub(super) fn table<K: Key, O: Observe<K>>(
    observe: O,
    stamps: &Arc<Stamps>,
    limits: CacheLimits,
    handle: &Handle,
) -> WatchTable<K, Observed> {
    let options = WatchOptions {
        linger: limits.inactive_ttl,
        max_keys: limits.active.saturating_add(limits.inactive),
        silent_after: Duration::ZERO,
        relist: Duration::ZERO,
        ..WatchOptions::default()
    };
    let source = Observing { observe: Arc::new(observe), stamps: stamps.clone() };
    WatchTable::new(source, options, handle.clone())
}

impl<K: Key, O: Observe<K>> Source<K, Observed> for Observing<O> {
    fn run(&self, key: K, out: Watched<Observed>) -> BoxFuture<'static, Result<(), SourceError>> {
        let (observe, stamps) = (self.observe.clone(), self.stamps.clone());
        Box::pin(async move {
            let mut live = observe.start(&key);
            let mut last: Option<State<O::Value>> = None;
            loop {
                let state = live.get();
                let known = match (&last, &state) {
                    (Some(State::Ok(before)), State::Ok(now)) => observe.same(before, now),
                    (before, now) => before.as_ref() == Some(now),
                };
                if !known && let Some(observed) = observed(&*observe, &stamps, &key, &state) {
                    out.ok(observed);
                    last = Some(state);
                }
                live.changed().await;
            }
        })
    }
}

/// The answer that `state` is; None when it is none.
fn observed<K, O: Observe<K>>(observe: &O, stamps: &Stamps, key: &K, state: &State<O::Value>) -> Option<Observed> {
    let stamp = stamps.next();
    let outcome = match state {
        State::Pending => return None,
        State::Failed(reason) => Err(reason.clone()),
        State::Ok(value) => observe.encode(key, value, stamp.to_be_bytes().to_vec())?,
    };
    let outcome = outcome.and_then(|encoded| match encoded.len() > MAX_MESSAGE {
        true => Err(format!("the answer of {} bytes is larger than a message may be", encoded.len()).into()),
        false => Ok(encoded.into()),
    });
    Some(Observed { stamp, outcome })
}
