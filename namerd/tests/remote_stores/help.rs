//! What all tests here need: waiting with a limit, dtabs, plain HTTP, and the tests that hold for each of these stores.

use crate::gate::Gate;
use dtab::{Activity, Dtab, State};
use namerd::storage::{Note, Store, StoreError, VersionedDtab};
use namers::{Discovery, Snapshot, SnapshotOptions, WatchOptions};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) fn dtab(text: &str) -> Dtab {
    Dtab::parse(text).expect("a dtab")
}

pub(crate) fn discovery() -> Discovery {
    Discovery::new(Handle::current())
}

/// Discovery with a snapshot on disk, and no patience for empty answers.
pub(crate) fn on_disk(folder: &Path) -> Discovery {
    let snapshot = Snapshot::open(folder.to_owned(), SnapshotOptions::default(), &Handle::current());
    let watch = WatchOptions { empty_grace: Duration::ZERO, ..WatchOptions::default() };
    Discovery { snapshot: Some(snapshot), watch, ..discovery() }
}

/// A name that no other test has.
pub(crate) fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits for a state that is accepted.
pub(crate) async fn until<T: Clone + Debug>(what: &str, live: &mut Activity<T>, accept: impl Fn(&State<T>) -> bool) {
    let wait = async {
        while !accept(&live.get()) {
            live.changed().await;
        }
    };
    if tokio::time::timeout(LIMIT, wait).await.is_err() {
        unreachable!("{what}: not within {LIMIT:?}; last seen: {:?}", live.peek());
    }
}

/// Waits for the dtab.
pub(crate) async fn until_dtab(live: &mut Activity<Option<VersionedDtab>>, text: &str) {
    let wanted = dtab(text);
    let is = |state: &State<Option<VersionedDtab>>| matches!(state, State::Ok(Some(found)) if found.dtab == wanted);
    until(text, live, is).await;
}

/// Waits until the namespace is known not to be there.
pub(crate) async fn until_gone(live: &mut Activity<Option<VersionedDtab>>) {
    until("no dtab", live, |state| *state == State::Ok(None)).await;
}

/// Waits until something holds that no activity tells of.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One HTTP request, blocking; status and body.
pub(crate) fn http(port: u16, method: &str, target: &str, headers: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(LIMIT))?;
    let length = body.len();
    write!(
        socket,
        "{method} {target} HTTP/1.0\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// What is no dtab stays away: the last good one is served, the report says what is wrong, the next good one counts.
/// `write_raw` writes to the store behind.
pub(crate) async fn garbage_keeps_the_last_good(store: &Arc<dyn Store>, write_raw: impl Fn(&str)) {
    store.create("ns", dtab("/a => /b"), Note::default()).await.expect("create");
    let mut live = store.observe("ns");
    until_dtab(&mut live, "/a => /b").await;
    write_raw("this is no dtab");
    let problem = |store: &Arc<dyn Store>| store.report()["namespaces"]["ns"]["lastError"].to_string();
    eventually("the report shows the problem", || problem(store).contains("is no dtab")).await;
    assert_eq!(store.report()["ok"], false);
    until_dtab(&mut live, "/a => /b").await;
    let read = store.read("ns").await;
    assert!(matches!(&read, Err(StoreError::Unavailable(why)) if why.contains("is no dtab")), "{read:?}");
    write_raw("/a => /c");
    until_dtab(&mut live, "/a => /c").await;
    eventually("the problem is gone", || problem(store) == "null").await;
    write_raw("/a => ");
    eventually("the report shows the problem", || problem(store).contains("is no dtab")).await;
    store.put("ns", dtab("/a => /d"), Note::default()).await.expect("a put mends it");
    until_dtab(&mut live, "/a => /d").await;
}

/// Behind a gate that is shut from the start, nothing is known, and it is said why; once it opens all is well. While it is
/// shut again, `elsewhere` deletes `gone` and changes `changed`: both are noticed afterwards.
pub(crate) async fn gaps_are_bridged(store: &Arc<dyn Store>, gate: &Gate, elsewhere: &Arc<dyn Store>) {
    for name in ["gone", "changed"] {
        elsewhere.create(name, dtab("/a => /b"), Note::default()).await.expect("create");
    }
    let (mut gone, mut changed, mut list) = (store.observe("gone"), store.observe("changed"), store.list());
    let failed = |state: &State<Option<VersionedDtab>>| matches!(state, State::Failed(_));
    until("a reason", &mut gone, failed).await;
    let State::Failed(reason) = gone.get() else { unreachable!("just seen") };
    assert!(reason.contains(&gate.port().to_string()), "the reason must say where: {reason}");
    until("a reason", &mut list, |state| matches!(state, State::Failed(_))).await;
    gate.open().await;
    until_dtab(&mut gone, "/a => /b").await;
    until_dtab(&mut changed, "/a => /b").await;

    gate.shut().await;
    let why = store.read("gone").await;
    assert!(matches!(&why, Err(StoreError::Unavailable(why)) if why.contains(&gate.port().to_string())), "{why:?}");
    eventually("the report shows the outage", || {
        store.report()["namespaces"]["gone"]["lastError"].is_string() && store.report()["ok"] == false
    })
    .await;
    elsewhere.delete("gone", None, Note::default()).await.expect("delete");
    elsewhere.put("changed", dtab("/a => /c"), Note::default()).await.expect("put");
    until_dtab(&mut gone, "/a => /b").await;
    gate.open().await;
    until_dtab(&mut changed, "/a => /c").await;
    until_gone(&mut gone).await;
    let left = |state: &State<_>| matches!(state, State::Ok(names) if format!("{names:?}") == r#"{"changed"}"#);
    until("the names that are left", &mut list, left).await;
    eventually("the report is well", || store.report()["ok"] == true).await;
}

/// A process that starts while the store is away serves what its predecessor knew. `open` makes a store behind the gate.
pub(crate) async fn disk_stands_in(gate: &Gate, open: impl Fn(&Discovery) -> Arc<dyn Store>) {
    let folder = tempfile::tempdir().expect("a folder");
    gate.open().await;
    let before = on_disk(folder.path());
    let store = open(&before);
    let version = store.create("ns", dtab("/a => 0.001*/b & /c"), Note::default()).await.expect("create");
    let mut live = store.observe("ns");
    until_dtab(&mut live, "/a => 0.001*/b & /c").await;
    let mut list = store.list();
    until("the list", &mut list, |state| matches!(state, State::Ok(_))).await;
    let snapshot = before.snapshot.clone().expect("a snapshot");
    tokio::task::spawn_blocking(move || snapshot.flush()).await.expect("flush");
    gate.shut().await;
    drop((store, live, list, before));

    let store = open(&on_disk(folder.path()));
    let mut live = store.observe("ns");
    until_dtab(&mut live, "/a => 0.001*/b & /c").await;
    assert!(matches!(live.get(), State::Ok(Some(found)) if found.version == version));
    until("the list from disk", &mut store.list(), |state| matches!(state, State::Ok(names) if names.contains("ns")))
        .await;
    let refused = store.put("ns", dtab("/x => /y"), Note::default()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    gate.open().await;
    store.put("ns", dtab("/a => /new"), Note::default()).await.expect("put");
    until_dtab(&mut live, "/a => /new").await;
}

/// What one process writes another sees within a second (the median of 21 writes; all within [`LIMIT`]).
pub(crate) async fn changes_are_seen_soon(writer: &Arc<dyn Store>, reader: &Arc<dyn Store>) {
    let mut live = reader.observe("ns");
    until_gone(&mut live).await;
    let mut times = Vec::new();
    for n in 0..21 {
        let text = format!("/a => /{n}");
        writer.put("ns", dtab(&text), Note::default()).await.expect("put");
        let written = Instant::now();
        until_dtab(&mut live, &text).await;
        times.push(written.elapsed());
    }
    times.sort_unstable();
    println!(
        "{}: from the answer to a write until it is seen: median {:?}, largest {:?}",
        reader.kind(),
        times[10],
        times[20]
    );
    assert!(times[10] < Duration::from_secs(1), "{times:?}");
}

/// The history is bounded; the newest entries are those that stay. `slack` more may be there.
pub(crate) async fn history_is_bounded(store: &Arc<dyn Store>, slack: usize, count_raw: impl Fn() -> usize) {
    for n in 0..(100 + slack + 5) {
        store.put("ns", dtab(&format!("/a => /{n}")), Note::default()).await.expect("put");
    }
    let raw = count_raw();
    assert!((100..=100 + slack).contains(&raw), "{raw} records are kept");
    let history = store.history("ns", 1_000).await.expect("history");
    assert_eq!(history.len(), 100);
    for (age, entry) in history.iter().enumerate() {
        let n = 100 + slack + 4 - age;
        assert_eq!(entry.dtab, Some(dtab(&format!("/a => /{n}"))));
    }
    assert_eq!(
        history.first().map(|entry| &entry.version),
        store.read("ns").await.expect("read").map(|v| v.version).as_ref()
    );
}

/// A history is read up to a bound in bytes, whatever is stored: the newest writes of it.
pub(crate) async fn a_history_that_is_read_is_bounded_in_bytes(store: &Arc<dyn Store>) {
    let text = |write: usize| format!("/a => /{write}/{}", "x".repeat(450_000));
    const WRITES: usize = 80;
    for write in 0..WRITES {
        store.put("large", dtab(&text(write)), Note::default()).await.expect("put");
    }
    let history = store.history("large", 1_000).await.expect("history");
    let fits = (32 << 20) / 450_000;
    assert!((fits - 1..=fits + 1).contains(&history.len()), "{} of {WRITES} writes, {fits} fit", history.len());
    for (age, entry) in history.iter().enumerate() {
        assert_eq!(entry.dtab.as_ref(), Some(&dtab(&text(WRITES - 1 - age))), "{age} writes ago");
    }
    assert_eq!(store.history("large", 13).await.expect("history").len(), 13);
}
