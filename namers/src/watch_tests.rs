//! Tests of the watch table with a source that is told what to do.

use super::*;
use crate::snapshot::{Snapshot, SnapshotOptions};
use crate::update::test_support::{eventually, until};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Hands its reporting side to the test; counts runs.
struct Told {
    runs: Arc<AtomicUsize>,
    started: mpsc::UnboundedSender<Watched<u32>>,
    end: fn(usize) -> Option<Result<(), SourceError>>,
}

impl Source<String, u32> for Told {
    fn run(&self, _: String, out: Watched<u32>) -> BoxFuture<'static, Result<(), SourceError>> {
        let run = self.runs.fetch_add(1, Ordering::SeqCst);
        self.started.send(out).unwrap();
        let end = (self.end)(run);
        Box::pin(async move {
            match end {
                Some(result) => result,
                None => std::future::pending().await,
            }
        })
    }

    fn relist(&self, key: String) -> Option<BoxFuture<'static, Result<u32, SourceError>>> {
        (key == "listed").then(|| -> BoxFuture<'static, _> { Box::pin(async { Ok(LISTED) }) })
    }

    fn is_empty(&self, value: &u32) -> bool {
        *value == EMPTY
    }

    fn save(&self, value: &u32) -> Option<serde_json::Value> {
        Some((*value).into())
    }

    fn restore(&self, saved: &serde_json::Value) -> Option<u32> {
        saved.as_u64()?.try_into().ok()
    }
}

type Setup = (WatchTable<String, u32>, Arc<AtomicUsize>, mpsc::UnboundedReceiver<Watched<u32>>);

const LONG: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(3);
/// The value that counts as empty.
const EMPTY: u32 = 0;
/// What a list says of the key `listed`.
const LISTED: u32 = 100;

fn table(end: fn(usize) -> Option<Result<(), SourceError>>) -> Setup {
    let linger = Duration::from_millis(20);
    let defaults = WatchOptions::default();
    table_with(WatchOptions { linger, negative_linger: linger, max_keys: 2, empty_grace: GRACE, ..defaults }, end)
}

fn table_with(options: WatchOptions, end: fn(usize) -> Option<Result<(), SourceError>>) -> Setup {
    let (started, outs) = mpsc::unbounded_channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let source = Told { runs: runs.clone(), started, end };
    (WatchTable::new(source, options, Handle::current()), runs, outs)
}

#[tokio::test]
async fn readers_share_one_source_and_the_last_ends_it() {
    let (table, runs, mut outs) = table(|_| None);
    let mut first = table.get(&"a".into());
    let mut second = table.get(&"a".into());
    let out = outs.recv().await.unwrap();
    out.ok(7);
    until(&mut first, |s| *s == State::Ok(7)).await;
    until(&mut second, |s| *s == State::Ok(7)).await;
    assert_eq!((runs.load(Ordering::SeqCst), table.report()[0].watchers), (1, 2));
    drop(first);
    assert_eq!(table.report()[0].watchers, 1);
    drop(second);
    eventually("the table is empty", || table.is_empty()).await;
}

#[tokio::test]
async fn a_reader_within_the_linger_keeps_the_watch() {
    let (table, runs, mut outs) = table(|_| None);
    drop(table.get(&"a".into()));
    let mut again = table.get(&"a".into());
    outs.recv().await.unwrap().ok(1);
    until(&mut again, |s| *s == State::Ok(1)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_after_a_value_keeps_the_value_and_is_reported() {
    let (table, _, mut outs) = table(|_| None);
    let mut activity = table.get(&"a".into());
    let out = outs.recv().await.unwrap();
    out.failed("down");
    assert_eq!(activity.get(), State::Failed("down".into()));
    out.ok(1);
    tokio::time::advance(Duration::from_secs(3)).await;
    out.failed("down again");
    assert_eq!(activity.get(), State::Ok(1));
    let report = table.report().remove(0);
    assert_eq!((report.state.as_str(), report.last_error.as_deref()), ("ok", Some("down again")));
    assert!(report.last_success.unwrap() >= Duration::from_secs(3) && report.age.unwrap() < Duration::from_secs(1));
    out.ok(2);
    assert_eq!((activity.get(), table.report()[0].last_error.clone()), (State::Ok(2), None));
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_are_retried_with_back_off() {
    let (table, runs, mut outs) = table(|run| match run {
        0 => Some(Err(SourceError("no route".into()))),
        1 => panic!("bug"),
        _ => None,
    });
    let mut activity = table.get(&"a".into());
    until(&mut activity, |s| *s == State::Failed("no route".into())).await;
    until(&mut activity, |s| matches!(s, State::Failed(text) if text.contains("bug"))).await;
    for _ in 0..2 {
        outs.recv().await.unwrap();
    }
    outs.recv().await.unwrap().ok(5);
    assert_eq!(activity.get(), State::Ok(5));
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_final_value_stays_until_nobody_reads_it() {
    let (table, runs, mut outs) = table(|_| Some(Ok(())));
    let mut activity = table.get(&"a".into());
    outs.recv().await.unwrap().ok(3);
    until(&mut activity, |s| *s == State::Ok(3)).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    drop(activity);
    eventually("the table is empty", || table.is_empty()).await;
}

#[tokio::test]
async fn a_full_table_says_so_and_serves_when_there_is_room() {
    let (table, _, mut outs) = table(|_| None);
    let kept = (table.get(&"a".into()), table.get(&"b".into()));
    for _ in 0..2 {
        outs.recv().await.unwrap();
    }
    let mut waiting = table.get(&"c".into());
    let State::Failed(text) = waiting.get() else { panic!("not refused") };
    assert!(text.contains("limit of 2 watched names"), "{text}");
    drop(table.get(&"d".into()));
    eventually("who left does not wait any more", || table.len() == 3).await;
    drop(kept.0);
    outs.recv().await.unwrap().ok(7);
    until(&mut waiting, |s| *s == State::Ok(7)).await;
}

#[tokio::test]
async fn a_full_table_gives_up_what_was_unread_for_longest() {
    let options = WatchOptions { linger: LONG, negative_linger: LONG, max_keys: 2, ..WatchOptions::default() };
    let (table, _, mut outs) = table_with(options, |_| None);
    for (n, key) in ["a", "b"].into_iter().enumerate() {
        drop(table.get(&key.into()));
        outs.recv().await.unwrap();
        eventually("it lingers", || table.shared.live.lock().lingering.len() == n + 1).await;
    }
    let mut next = table.get(&"c".into());
    assert_eq!(next.get(), State::Pending);
    outs.recv().await.unwrap().ok(1);
    until(&mut next, |s| *s == State::Ok(1)).await;
    let keys: Vec<String> = table.report().into_iter().map(|report| report.key).collect();
    assert_eq!(keys, ["b", "c"]);
}

#[tokio::test]
async fn what_loses_its_last_reader_gives_way_at_once_to_who_waits() {
    let options = WatchOptions { linger: LONG, negative_linger: LONG, max_keys: 1, ..WatchOptions::default() };
    let (table, _, mut outs) = table_with(options, |_| None);
    for key in ["b", "c"] {
        let read = table.get(&"a".into());
        outs.recv().await.unwrap();
        let mut waiting = table.get(&key.into());
        assert!(matches!(waiting.get(), State::Failed(_)), "refused while the other is read");
        drop(read);
        outs.recv().await.unwrap().ok(1);
        until(&mut waiting, |s| *s == State::Ok(1)).await;
        assert_eq!(table.len(), 1);
        drop(waiting);
        eventually("it lingers", || table.shared.live.lock().lingering.len() == 1).await;
        assert_eq!(table.shared.waiting.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_falls_silent_is_started_again() {
    let (table, runs, mut outs) = table(|_| None);
    let activity = table.get(&"a".into());
    let mut begun = Instant::now();
    for run in 1..4 {
        let out = outs.recv().await.unwrap();
        if run > 1 {
            // The bound, and the back-off after it.
            let silence = begun.elapsed();
            let wanted = if run == 3 { Duration::from_secs(360) } else { Duration::from_secs(60) };
            assert!(silence >= wanted && silence <= wanted + Duration::from_secs(1), "run {run}: {silence:?}");
            assert!(table.report()[0].last_error.as_deref().is_some_and(|text| text.contains("nothing was heard")));
        }
        begun = Instant::now();
        out.ok(run);
        if run == 2 {
            out.quiet_for(Duration::from_secs(300));
        }
        assert_eq!((activity.peek(), runs.load(Ordering::SeqCst)), (State::Ok(run), run as usize));
    }
    assert_eq!(table.report()[0].restarts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_reports_now_and_then_is_left_alone() {
    let (table, runs, mut outs) = table(|_| None);
    let _activity = table.get(&"a".into());
    let out = outs.recv().await.unwrap();
    for _ in 0..20 {
        out.ok(1);
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_misses_a_change_is_found_by_a_list_and_started_again() {
    // A list may come later than silence would be noticed.
    let options = WatchOptions { silent_after: Duration::ZERO, ..WatchOptions::default() };
    let (table, runs, mut outs) = table_with(options, |_| None);
    let mut activity = table.get(&"listed".into());
    let out = outs.recv().await.unwrap();
    for _ in 0..4 {
        out.ok(LISTED);
        tokio::time::sleep(Duration::from_secs(50)).await;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 1, "the list agrees");
    out.ok(LISTED + 1);
    let again = outs.recv().await.unwrap();
    assert_eq!(activity.get(), State::Ok(LISTED + 1), "the value stays meanwhile");
    assert!(table.report()[0].last_error.as_deref().is_some_and(|text| text.contains("missed a change")));
    again.ok(LISTED);
    assert_eq!(activity.get(), State::Ok(LISTED));
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_after_a_failure_is_held_back_and_then_believed() {
    let (table, _, mut outs) = table(|_| None);
    let mut activity = table.get(&"a".into());
    let out = outs.recv().await.unwrap();
    out.ok(1);
    out.ok(EMPTY);
    assert_eq!(activity.get(), State::Ok(EMPTY), "a source that is well is believed");
    out.ok(1);
    out.failed("down");
    for _ in 0..2 {
        out.ok(EMPTY);
        assert!(table.report()[0].held && table.report()[0].last_error.is_some());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(activity.get(), State::Ok(1));
    }
    out.ok(2);
    assert_eq!((activity.get(), table.report()[0].held), (State::Ok(2), false));
    out.failed("down");
    out.ok(EMPTY);
    let begun = Instant::now();
    until(&mut activity, |s| *s == State::Ok(EMPTY)).await;
    let held = begun.elapsed();
    assert!(held >= GRACE && held < GRACE + Duration::from_millis(10), "{held:?}");
    assert!(!table.report()[0].held);
}

/// A table over this folder.
fn on_disk(folder: &tempfile::TempDir) -> (Arc<Snapshot>, Setup) {
    let handle = Handle::current();
    let snapshot = Snapshot::open(folder.path().to_owned(), SnapshotOptions::default(), &handle);
    let discovery = Discovery { snapshot: Some(snapshot.clone()), ..Discovery::new(handle) };
    let (started, outs) = mpsc::unbounded_channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let source = Told { runs: runs.clone(), started, end: |_| None };
    let options = WatchOptions { empty_grace: GRACE, ..WatchOptions::default() };
    (snapshot, (WatchTable::within(&discovery, "/#/told", "told", source, options), runs, outs))
}

#[tokio::test(start_paused = true)]
async fn a_value_on_disk_stands_in_until_the_source_answers() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (snapshot, (table, _, mut outs)) = on_disk(&folder);
        let _readers = ["slow", "failing", "removed"].map(|key| table.get(&key.into()));
        for _ in 0..3 {
            outs.recv().await.unwrap().ok(7);
        }
        snapshot.flush();
    }
    let (_snapshot, (table, _, mut outs)) = on_disk(&folder);
    let stale = |at: usize| table.report()[at].stale.is_some();
    let mut slow = table.get(&"slow".into());
    let out = outs.recv().await.unwrap();
    assert_eq!(slow.get(), State::Pending, "the source is given a moment");
    until(&mut slow, |s| *s == State::Ok(7)).await;
    assert!(stale(0));
    out.ok(8);
    assert_eq!((slow.get(), stale(0)), (State::Ok(8), false));
    drop(slow);

    let mut failing = table.get(&"failing".into());
    let out = outs.recv().await.unwrap();
    out.failed("down");
    assert_eq!(failing.get(), State::Ok(7), "at once");
    assert!(stale(0) && table.report()[0].last_error.as_deref() == Some("down"));
    out.ok(EMPTY);
    assert_eq!(failing.get(), State::Ok(7), "held back");
    out.ok(9);
    assert_eq!(failing.get(), State::Ok(9));
    assert_eq!(table.get(&"never seen".into()).get(), State::Pending);
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_for_certain_is_gone_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    {
        let (snapshot, (table, _, mut outs)) = on_disk(&folder);
        let _reader = table.get(&"a".into());
        let out = outs.recv().await.unwrap();
        out.ok(7);
        out.ok(EMPTY);
        snapshot.flush();
        assert_eq!(snapshot.report().entries, 0);
    }
    let (_snapshot, (table, _, mut outs)) = on_disk(&folder);
    let mut reader = table.get(&"a".into());
    outs.recv().await.unwrap().failed("down");
    assert_eq!(reader.get(), State::Failed("down".into()));
}

#[tokio::test]
async fn keys_may_be_asked_for_outside_the_runtime() {
    let (table, _, mut outs) = table(|_| None);
    let mut activity = std::thread::spawn(move || table.get(&"a".into())).join().unwrap();
    outs.recv().await.unwrap().ok(1);
    until(&mut activity, |s| *s == State::Ok(1)).await;
}

/// Answers at once, and ends after so many milliseconds.
struct Brief(u64, Arc<AtomicUsize>);

impl Source<String, u32> for Brief {
    fn run(&self, _: String, out: Watched<u32>) -> BoxFuture<'static, Result<(), SourceError>> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let lasts = Duration::from_millis(self.0);
        Box::pin(async move {
            out.ok(7);
            tokio::time::sleep(lasts).await;
            Err(SourceError("it ended".into()))
        })
    }
}

/// A source that answers once and ends is begun again more and more seldom; one that lasts is begun again at once.
#[tokio::test(start_paused = true)]
async fn an_answer_alone_does_not_end_the_back_off() {
    for (lasts, runs) in [(0, 12..=33), (150, 12..=33), (6_000, 9..=11)] {
        let count = Arc::<AtomicUsize>::default();
        let table = WatchTable::new(Brief(lasts, count.clone()), WatchOptions::default(), Handle::current());
        let live = table.get(&"a".to_owned());
        tokio::time::sleep(Duration::from_secs(60)).await;
        let begun = count.load(Ordering::SeqCst);
        assert!(runs.contains(&begun), "{lasts} ms: {begun} times");
        assert_eq!(live.peek(), State::Ok(7), "what was known stays");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_table_before_knew_stands_in_until_the_first_answer() {
    let (old, _, mut outs) = table(|_| None);
    let _known = old.get(&"a".to_owned());
    outs.recv().await.unwrap().ok(7);
    let _unknown = old.get(&"b".to_owned());
    let (new, _, mut outs) = table(|_| None);
    new.inherit(&old);
    drop(old);
    let live = new.get(&"a".to_owned());
    assert_eq!(live.peek(), State::Ok(7), "at once");
    assert!(new.report()[0].stale.is_some());
    let out = outs.recv().await.unwrap();
    out.failed("away");
    assert_eq!(live.peek(), State::Ok(7));
    out.ok(EMPTY);
    assert_eq!(live.peek(), State::Ok(7), "an empty answer is held back");
    out.ok(8);
    assert_eq!(live.peek(), State::Ok(8));
    assert_eq!(new.report()[0].stale, None);
    assert_eq!(new.get(&"b".to_owned()).peek(), State::Pending, "of this nothing was known");
}

#[tokio::test(start_paused = true)]
async fn what_the_table_before_knew_is_not_kept_for_ever() {
    let (old, _, mut outs) = table(|_| None);
    let _known = old.get(&"a".to_owned());
    outs.recv().await.unwrap().ok(7);
    let (between, _, _outs) = table(|_| None);
    between.inherit(&old);
    let (new, _, _outs) = table(|_| None);
    new.inherit(&between);
    assert_eq!(new.get(&"a".to_owned()).peek(), State::Ok(7), "through a table that nobody has asked");
    tokio::time::advance(INHERITED).await;
    assert_eq!(between.get(&"a".to_owned()).peek(), State::Pending);
}
