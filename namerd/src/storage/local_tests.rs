//! The local store against the contract of all stores, and what it alone promises.

use super::*;
use crate::storage::contract::{self, Subject};
use dtab::State;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tempfile::TempDir;

fn open_with(folder: &TempDir, retention: Retention) -> LocalStore {
    LocalStore::open(folder.path().to_owned(), retention, Handle::current()).unwrap()
}

fn open(folder: &TempDir) -> LocalStore {
    open_with(folder, RETENTION)
}

fn dtab(text: &str) -> Dtab {
    Dtab::parse(text).unwrap()
}

async fn put(store: &LocalStore, namespace: &str, text: &str) -> Version {
    store.put(namespace, dtab(text), Note::default()).await.unwrap()
}

async fn texts(store: &LocalStore, namespace: &str) -> Vec<Option<String>> {
    let history = store.history(namespace, usize::MAX).await.unwrap();
    history.into_iter().map(|entry| entry.dtab.map(|dtab| dtab.to_string())).collect()
}

/// What a future says when it is asked once.
fn once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn the_contract_holds() {
    let folders = Arc::new(Mutex::new(Vec::new()));
    let subject = Subject::new(move || {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(open(&folder));
        folders.lock().push(folder);
        std::future::ready(store)
    });
    contract::all(&subject).await;
}

#[tokio::test]
async fn a_restart_keeps_dtabs_versions_and_history() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let note = Note::new(Some("ana"), Some("ü & \"more\""));
    let first = store.create("a", dtab("/a => 0.001 * /b & /c"), note.clone()).await.unwrap();
    put(&store, "b", "/a => /b").await;
    store.delete("b", None, note.clone()).await.unwrap();
    put(&store, "empty", "").await;
    let history = [store.history("a", 9).await.unwrap(), store.history("b", 9).await.unwrap()];
    drop(store);

    let store = open(&folder);
    let known = store.read("a").await.unwrap().unwrap();
    assert_eq!(known, VersionedDtab { dtab: dtab("/a => 0.001 * /b & /c"), version: first.clone() });
    assert!(matches!(store.list().get(), State::Ok(names) if names.iter().eq(["a", "empty"])));
    assert_eq!(store.observe("b").get(), State::Ok(None));
    assert_eq!([store.history("a", 9).await.unwrap(), store.history("b", 9).await.unwrap()], history);
    assert_eq!(history[1].len(), 2);
    let second = store.update("a", dtab("/a => /c"), first.clone(), note).await.unwrap();
    assert!(second > first);
    assert_eq!(store.update("a", dtab("/a => /d"), first, Note::default()).await, Err(StoreError::Mismatch));
}

#[tokio::test]
async fn versions_grow_over_restarts_and_deletes_also_when_the_clock_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let before = put(&open(&folder), "a", "/a => /b").await;
    let ahead = u64::from_be_bytes(before.0.as_ref().try_into().unwrap()) + 1_000_000_000_000;
    {
        let database = Database::open(folder.path().join("dtabs.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        transaction.open_table(meta).unwrap().insert("last", ahead).unwrap();
        transaction.commit().unwrap();
    }
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let store = open(&folder);
        numbers.push(put(&store, "a", "/a => /b").await);
        store.delete("a", None, Note::default()).await.unwrap();
    }
    let expected = [1, 3, 5].map(|n: u64| Version((ahead + n).to_be_bytes().to_vec().into()));
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn the_history_keeps_the_newest_entries_only_and_always_the_present() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(&folder, Retention { entries: 3, bytes: 20, gone: 9 });
    for n in 0..5 {
        put(&store, "few", &format!("/a=>/{n}")).await;
        put(&store, "large", &format!("/a=>/more-than-twenty-bytes-{n}")).await;
    }
    put(&store, "few", "").await;
    assert_eq!(texts(&store, "few").await, ["", "/a=>/4", "/a=>/3"].map(|text| Some(text.to_owned())));
    assert_eq!(texts(&store, "large").await, [Some("/a=>/more-than-twenty-bytes-4".to_owned())]);
    drop(store);
    let store = open_with(&folder, Retention { entries: 1, bytes: 0, gone: 0 });
    assert!(matches!(store.list().get(), State::Ok(names) if names.len() == 2));
    put(&store, "few", "/a=>/5").await;
    assert_eq!(texts(&store, "few").await, [Some("/a=>/5".to_owned())]);
    store.delete("few", None, Note::default()).await.unwrap();
    assert_eq!(texts(&store, "few").await, Vec::<Option<String>>::new());
    put(&store, "few", "/a=>/6").await;
    assert_eq!(texts(&store, "few").await, [Some("/a=>/6".to_owned())]);
}

#[tokio::test]
async fn the_namespaces_longest_gone_lose_their_history() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_with(&folder, Retention { gone: 2, ..RETENTION });
    for name in ["a", "b", "c", "a"] {
        put(&store, name, "/a=>/b").await;
    }
    for name in ["b", "a", "c"] {
        store.delete(name, None, Note::default()).await.unwrap();
    }
    assert_eq!((texts(&store, "b").await.len(), texts(&store, "a").await.len()), (0, 3));
    put(&store, "a", "/a=>/c").await;
    put(&store, "d", "/a=>/c").await;
    store.delete("d", None, Note::default()).await.unwrap();
    let left = [texts(&store, "a").await.len(), texts(&store, "c").await.len(), texts(&store, "d").await.len()];
    assert_eq!(left, [4, 2, 2]);
}

#[tokio::test]
async fn writes_at_the_same_time_share_a_commit_and_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = store.shared.file.lock();
    let mut puts: Vec<_> =
        (0..100).map(|n| store.put(&format!("ns-{}", n % 10), dtab("/a => /b"), Note::default())).collect();
    let mut creates: Vec<_> = (0..5).map(|_| store.create("one", dtab("/a => /b"), Note::default())).collect();
    assert!(puts.iter_mut().chain(&mut creates).all(|write| once(write).is_pending()));
    drop(held);
    let mut versions = Vec::new();
    for put in puts {
        versions.push(put.await.unwrap());
    }
    assert!(versions.is_sorted() && versions.windows(2).all(|pair| pair[0] != pair[1]), "in the order of asking");
    let mut outcomes = Vec::new();
    for create in creates {
        outcomes.push(create.await.is_ok());
    }
    assert_eq!(outcomes, [true, false, false, false, false]);
    let report = store.report();
    assert_eq!(report["writes"], 101);
    assert!(report["commits"].as_u64().unwrap() <= 3, "{report}");
    assert_eq!(texts(&store, "ns-3").await.len(), 10);
}

#[tokio::test]
async fn the_queue_is_bounded_and_serves_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let held = store.shared.file.lock();
    let mut waiting = Vec::new();
    let refused = loop {
        let mut put = store.put("ns", dtab("/a => /b"), Note::default());
        match once(&mut put) {
            Poll::Ready(outcome) => break outcome,
            Poll::Pending => waiting.push(put),
        }
        assert!(waiting.len() <= WAITING + TOGETHER, "{}", waiting.len());
    };
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("nothing was stored")), "{refused:?}");
    assert!(waiting.len() >= WAITING);
    drop(held);
    for put in waiting {
        put.await.unwrap();
    }
    put(&store, "ns", "/a => /after").await;
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_done_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let mut seen = store.observe("ns");
    seen.get();
    assert!(once(&mut store.put("ns", dtab("/a => /b"), Note::default())).is_pending());
    tokio::time::timeout(Duration::from_secs(20), seen.changed()).await.unwrap();
    assert_eq!(seen.get().ok().flatten().map(|known| known.dtab), Some(dtab("/a => /b")));
}

#[test]
fn without_a_runtime_a_write_is_an_error_and_does_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let ended = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = LocalStore::open(folder.path().to_owned(), RETENTION, ended.handle().clone()).unwrap();
    ended.shutdown_background();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for _ in 0..2 {
            let put = store.put("ns", dtab("/a => /b"), Note::default());
            let outcome = tokio::time::timeout(Duration::from_secs(20), put).await.unwrap();
            assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        }
    });
}

#[tokio::test]
async fn a_dtab_of_five_mebibytes_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    let text: Vec<String> =
        (0..90_000).map(|n| format!("/svc/a-service-with-a-name-{n:06}=>/#/io.l5d.fs/a-service-{n:06}")).collect();
    let text = text.join(";");
    assert!(text.len() > 5 << 20, "{}", text.len());
    let large = dtab(&text);
    let version = store.create("ns", large.clone(), Note::default()).await.unwrap();
    store.update("ns", large.clone(), version, Note::default()).await.unwrap();
    drop(store);
    assert_eq!(open(&folder).read("ns").await.unwrap().map(|known| known.dtab), Some(large));
}

#[tokio::test]
async fn what_was_stored_although_the_disk_failed_is_seen_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    put(&store, "ns", "/a => /b").await;
    let mut seen = store.observe("ns");
    let write = Write::store("ns", Condition::Any, dtab("/a => /c"), Note::default());
    let failed = store.shared.on_disk(&mut store.shared.file.lock(), |database| {
        tables::write(database, std::slice::from_ref(&write), &RETENTION)?;
        Err::<(), _>(redb::Error::Io(std::io::Error::from_raw_os_error(5)))
    });
    assert!(matches!(failed, Err(LocalError::Io { .. })));
    assert_eq!(seen.get().ok().flatten().map(|known| known.dtab), Some(dtab("/a => /c")));
    assert_eq!((&store.report()["state"], &store.report()["failures"]), (&"failed".into(), &1.into()));
    put(&store, "ns", "/a => /d").await;
    assert_eq!((&store.report()["state"], &store.report()["lastError"]), (&"ok".into(), &().into()));
}

#[tokio::test]
async fn the_report_says_where_and_how_much() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder);
    put(&store, "a", "/a => /b").await;
    let report = store.report();
    assert_eq!((&report["state"], &report["namespaces"], &report["writes"]), (&"ok".into(), &1.into(), &1.into()));
    assert!(report["file"].as_str().unwrap().ends_with("dtabs.redb"), "{report}");
    assert!(report["lastError"].is_null() && report["lastWriteSecondsAgo"].as_u64().unwrap() < 60, "{report}");
}
