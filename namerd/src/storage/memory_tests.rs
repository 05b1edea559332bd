//! The store in memory against the contract of all stores.

use super::*;
use crate::storage::contract::{self, Subject};
use dtab::State;

fn empty(retention: Retention) -> MemoryStore {
    MemoryStore::new(BTreeMap::new(), retention)
}

fn dtab(text: &str) -> Dtab {
    Dtab::parse(text).unwrap()
}

async fn texts(store: &MemoryStore, namespace: &str) -> Vec<Option<String>> {
    let history = store.history(namespace, usize::MAX).await.unwrap();
    history.into_iter().map(|entry| entry.dtab.map(|dtab| dtab.to_string())).collect()
}

#[tokio::test]
async fn the_contract_holds() {
    contract::all(&Subject::new(|| ready(Arc::new(empty(RETENTION)) as Arc<dyn Store>))).await;
}

#[tokio::test]
async fn namespaces_of_the_configuration_are_there_at_once_and_in_the_history() {
    let namespaces = BTreeMap::from([("a".to_owned(), dtab("/a => /b")), ("b".to_owned(), Dtab::empty())]);
    let store = MemoryStore::new(namespaces, RETENTION);
    assert_eq!(store.read("a").await.unwrap().unwrap().dtab, dtab("/a => /b"));
    assert_eq!(store.create("b", Dtab::empty(), Note::default()).await, Err(StoreError::Exists));
    assert!(matches!(store.list().get(), State::Ok(names) if names.len() == 2));
    let history = store.history("a", 10).await.unwrap();
    assert_eq!(history[0].note.reason.as_deref(), Some("from the configuration"));
}

#[tokio::test]
async fn versions_have_eight_bytes_in_the_order_of_the_writes_of_all_namespaces_and_stores() {
    let (old, mut versions) = (empty(RETENTION), Vec::new());
    for n in 0..50 {
        versions.push(old.put(&format!("ns-{}", n % 3), dtab("/a => /b"), Note::default()).await.unwrap());
    }
    assert!(versions.is_sorted() && versions.iter().all(|version| version.0.len() == 8), "{versions:?}");
    let new = empty(RETENTION);
    new.put("ns-0", dtab("/a => /b"), Note::default()).await.unwrap();
    for version in versions {
        assert_eq!(new.update("ns-0", dtab("/x => /y"), version, Note::default()).await, Err(StoreError::Mismatch));
    }
}

#[tokio::test]
async fn the_history_keeps_the_newest_entries_only() {
    let store = empty(Retention { entries: 3, ..RETENTION });
    for n in 0..10 {
        store.put("ns", dtab(&format!("/a=>/{n}")), Note::default()).await.unwrap();
    }
    let kept = ["/a=>/9", "/a=>/8", "/a=>/7"].map(|text| Some(text.to_owned()));
    assert_eq!(texts(&store, "ns").await, kept);
}

#[tokio::test]
async fn the_history_keeps_so_many_bytes_and_always_the_present() {
    let store = empty(Retention { bytes: 14, ..RETENTION });
    for text in ["/a=>/0", "/a=>/1", "/a=>/2"] {
        store.put("ns", dtab(text), Note::default()).await.unwrap();
    }
    assert_eq!(texts(&store, "ns").await, ["/a=>/2", "/a=>/1"].map(|text| Some(text.to_owned())));
    store.put("ns", dtab("/a=>/a-longer-one-than-all"), Note::default()).await.unwrap();
    assert_eq!(texts(&store, "ns").await, [Some("/a=>/a-longer-one-than-all".to_owned())]);
}

#[tokio::test]
async fn the_namespaces_longest_gone_lose_their_history() {
    let store = empty(Retention { gone: 2, ..RETENTION });
    for name in ["a", "b", "c", "a"] {
        store.put(name, dtab("/a=>/b"), Note::default()).await.unwrap();
    }
    for name in ["b", "a", "c"] {
        store.delete(name, None, Note::default()).await.unwrap();
    }
    assert_eq!((texts(&store, "b").await.len(), texts(&store, "a").await.len()), (0, 3));
    store.put("a", dtab("/a=>/c"), Note::default()).await.unwrap();
    store.put("d", dtab("/a=>/c"), Note::default()).await.unwrap();
    store.delete("d", None, Note::default()).await.unwrap();
    let left = [texts(&store, "a").await.len(), texts(&store, "c").await.len(), texts(&store, "d").await.len()];
    assert_eq!(left, [4, 2, 2]);
}

#[tokio::test]
async fn a_million_names_leave_nothing() {
    let store = empty(RETENTION);
    for n in 0..200_000 {
        store.observe(&n.to_string());
        store.read(&n.to_string()).await.unwrap();
        store.history(&n.to_string(), 1).await.unwrap();
    }
    let report = store.report();
    assert!(report["observed"].as_u64().unwrap() <= 64 && report["histories"] == 0, "{report}");
}
