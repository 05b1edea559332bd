//! [`Observed`]: what a store knows of all its namespaces, and the activities that readers of it hold.
//!
//! For stores that know everything there is: those in this process, and those that follow a whole folder of the store
//! behind. What was known once stays known ([`Observed::failed`] changes nothing then). Called by the stores. Not for:
//! stores that watch each namespace by itself; `namers::WatchTable` does that.

use crate::storage::VersionedDtab;
use dtab::{Activity, Publisher, State};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Names without readers are looked for when so many names are kept, and then whenever they have doubled.
const SWEEP: usize = 64;

/// See the module. A change and its publication are one step: nobody sees an older state after a newer one.
pub struct Observed {
    inner: Mutex<Inner>,
}

struct Inner {
    dtabs: BTreeMap<String, VersionedDtab>,
    /// What a namespace is that is not in `dtabs`.
    others: State<Option<VersionedDtab>>,
    /// The names that are read, and at most as many again (or [`SWEEP`]) that were.
    readers: HashMap<String, Publisher<Option<VersionedDtab>>>,
    /// Up to date while somebody reads it.
    list: Publisher<Arc<BTreeSet<String>>>,
    crowded: usize,
}

impl Default for Observed {
    fn default() -> Observed {
        Observed::new()
    }
}

impl Observed {
    /// Nothing is known yet: all activities are Pending.
    pub fn new() -> Observed {
        let (list, _) = Activity::channel();
        let dtabs = BTreeMap::new();
        let inner = Inner { dtabs, others: State::Pending, readers: HashMap::new(), list, crowded: SWEEP };
        Observed { inner: Mutex::new(inner) }
    }

    /// These are all namespaces; any other does not exist.
    pub fn replace(&self, all: BTreeMap<String, VersionedDtab>) {
        let mut inner = self.inner.lock();
        inner.dtabs = all;
        inner.others = State::Ok(None);
        inner.publish_all();
    }

    /// A namespace has this dtab now, or none. The list stays Pending until all are known ([`Observed::replace`]).
    pub fn set(&self, namespace: &str, dtab: Option<VersionedDtab>) {
        let mut inner = self.inner.lock();
        let listed = dtab.is_some();
        let was_listed = match dtab {
            Some(dtab) => inner.dtabs.insert(namespace.to_owned(), dtab).is_some(),
            None => inner.dtabs.remove(namespace).is_some(),
        };
        if listed != was_listed {
            inner.publish_list();
        }
        let state = inner.state(namespace);
        if let Some(reader) = inner.readers.get(namespace) {
            if reader.watchers() > 0 {
                reader.publish(state);
            } else {
                inner.readers.remove(namespace);
            }
        }
    }

    /// Nothing can be known, for this reason. Changes nothing where something is known already.
    pub fn failed(&self, reason: &str) {
        let mut inner = self.inner.lock();
        if !matches!(inner.others, State::Ok(_)) {
            inner.others = State::Failed(reason.into());
            inner.publish_all();
        }
    }

    /// The dtab of a namespace as it is known now; Ok(None) when there is none.
    pub fn get(&self, namespace: &str) -> State<Option<VersionedDtab>> {
        self.inner.lock().state(namespace)
    }

    /// The dtab of a namespace, over time; live until dropped.
    pub fn observe(&self, namespace: &str) -> Activity<Option<VersionedDtab>> {
        let mut inner = self.inner.lock();
        if let Some(reader) = inner.readers.get(namespace) {
            return reader.subscribe();
        }
        inner.sweep();
        let (publisher, activity) = Activity::channel();
        publisher.publish(inner.state(namespace));
        inner.readers.insert(namespace.to_owned(), publisher);
        activity
    }

    /// All namespaces, over time; live until dropped.
    pub fn list(&self) -> Activity<Arc<BTreeSet<String>>> {
        let inner = self.inner.lock();
        let activity = inner.list.subscribe();
        inner.publish_list();
        activity
    }

    /// How many namespaces are known.
    pub fn namespaces(&self) -> usize {
        self.inner.lock().dtabs.len()
    }

    /// How many names are kept for readers, those included whose readers have gone and were not looked for yet.
    pub fn observed(&self) -> usize {
        self.inner.lock().readers.len()
    }
}

impl Inner {
    fn state(&self, namespace: &str) -> State<Option<VersionedDtab>> {
        self.dtabs.get(namespace).map_or_else(|| self.others.clone(), |dtab| State::Ok(Some(dtab.clone())))
    }

    fn publish_all(&mut self) {
        self.readers.retain(|_, reader| reader.watchers() > 0);
        for (name, reader) in &self.readers {
            reader.publish(self.state(name));
        }
        self.publish_list();
    }

    /// Copies all names, so only when somebody wants them.
    fn publish_list(&self) {
        if self.list.watchers() == 0 {
            return;
        }
        self.list.publish(match &self.others {
            State::Ok(_) => State::Ok(Arc::new(self.dtabs.keys().cloned().collect())),
            State::Pending => State::Pending,
            State::Failed(reason) => State::Failed(reason.clone()),
        });
    }

    fn sweep(&mut self) {
        if self.readers.len() < self.crowded {
            return;
        }
        self.readers.retain(|_, reader| reader.watchers() > 0);
        self.crowded = SWEEP.max(2 * self.readers.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Version;
    use dtab::Dtab;

    fn dtab(n: u8) -> VersionedDtab {
        VersionedDtab { dtab: Dtab::parse("/a => /b").unwrap(), version: Version(vec![n].into()) }
    }

    fn all(names: &[(&str, u8)]) -> BTreeMap<String, VersionedDtab> {
        names.iter().map(|&(name, n)| (name.to_owned(), dtab(n))).collect()
    }

    fn names(names: &[&str]) -> State<Arc<BTreeSet<String>>> {
        State::Ok(Arc::new(names.iter().map(|&name| name.to_owned()).collect()))
    }

    #[test]
    fn nothing_is_known_before_all_is_known() {
        let observed = Observed::new();
        let (mut a, mut b, mut list) = (observed.observe("a"), observed.observe("b"), observed.list());
        assert_eq!((a.get(), list.get()), (State::Pending, State::Pending));
        observed.failed("no answer");
        assert_eq!((a.get(), list.get()), (State::Failed("no answer".into()), State::Failed("no answer".into())));
        observed.set("a", Some(dtab(1)));
        assert_eq!((a.get(), list.get()), (State::Ok(Some(dtab(1))), State::Failed("no answer".into())));
        observed.replace(all(&[("a", 1)]));
        assert_eq!((a.get(), b.get(), list.get()), (State::Ok(Some(dtab(1))), State::Ok(None), names(&["a"])));
    }

    #[test]
    fn what_is_known_outlives_a_failure() {
        let observed = Observed::new();
        observed.replace(all(&[("a", 1)]));
        let (mut a, mut b) = (observed.observe("a"), observed.observe("b"));
        observed.failed("gone");
        assert_eq!((a.get(), b.get()), (State::Ok(Some(dtab(1))), State::Ok(None)));
        assert_eq!(observed.list().get(), names(&["a"]));
    }

    #[test]
    fn a_new_list_changes_all_that_differs_and_wakes_nobody_else() {
        let observed = Observed::new();
        observed.replace(all(&[("a", 1), ("b", 1), ("c", 1)]));
        let mut activities: Vec<_> = ["a", "b", "c", "d"].map(|name| observed.observe(name)).into();
        activities.iter_mut().for_each(|activity| drop(activity.get()));
        observed.replace(all(&[("a", 1), ("b", 2), ("d", 1)]));
        let woken: Vec<bool> = activities.iter_mut().map(is_changed).collect();
        assert_eq!(woken, [false, true, true, true]);
        let states: Vec<_> = activities.iter_mut().map(Activity::get).collect();
        let expected = [Some(dtab(1)), Some(dtab(2)), None, Some(dtab(1))].map(State::Ok);
        assert_eq!(states, expected);
    }

    fn is_changed<T: Clone>(activity: &mut Activity<T>) -> bool {
        let mut changed = std::pin::pin!(activity.changed());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        changed.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn equal_values_wake_nobody() {
        let observed = Observed::new();
        observed.replace(all(&[("a", 1)]));
        let (mut a, mut list) = (observed.observe("a"), observed.list());
        drop((a.get(), list.get()));
        observed.set("a", Some(dtab(1)));
        observed.set("b", None);
        assert!(!is_changed(&mut a) && !is_changed(&mut list));
        observed.set("a", Some(dtab(2)));
        assert!(is_changed(&mut a) && !is_changed(&mut list));
        observed.set("a", None);
        assert!(is_changed(&mut a) && is_changed(&mut list));
    }

    #[test]
    fn a_list_that_nobody_read_is_current_when_it_is_read() {
        let observed = Observed::new();
        observed.replace(all(&[("a", 1)]));
        drop(observed.list());
        observed.set("b", Some(dtab(1)));
        assert_eq!(observed.list().get(), names(&["a", "b"]));
        assert_eq!(observed.namespaces(), 2);
    }

    #[test]
    fn a_million_names_that_nobody_observes_any_more_leave_nothing() {
        let observed = Observed::new();
        observed.replace(BTreeMap::new());
        let kept: Vec<_> = (0..100).map(|n| observed.observe(&format!("kept-{n}"))).collect();
        for n in 0..1_000_000 {
            observed.observe(&n.to_string());
            if n % 1_000 == 0 {
                assert!(observed.observed() <= 256, "{}", observed.observed());
            }
        }
        observed.set("kept-7", Some(dtab(1)));
        assert_eq!(kept[7].peek(), State::Ok(Some(dtab(1))));
    }

    #[test]
    fn readers_of_one_name_share_and_leave_one_by_one() {
        let observed = Observed::new();
        observed.replace(all(&[("a", 1)]));
        let (first, second) = (observed.observe("a"), observed.observe("a"));
        assert_eq!(observed.observed(), 1);
        drop(first);
        observed.set("a", Some(dtab(2)));
        assert_eq!(second.peek(), State::Ok(Some(dtab(2))));
        drop(second);
        observed.set("a", Some(dtab(3)));
        assert_eq!(observed.observed(), 0);
        assert_eq!(observed.observe("a").get(), State::Ok(Some(dtab(3))));
    }
}
