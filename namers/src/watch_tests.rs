//! Tests of the watch table with a source that is told what to do.

use super::*;
use crate::update::test_support::{eventually, until};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

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
}

type Setup = (WatchTable<String, u32>, Arc<AtomicUsize>, mpsc::UnboundedReceiver<Watched<u32>>);

fn table(end: fn(usize) -> Option<Result<(), SourceError>>) -> Setup {
    let (started, outs) = mpsc::unbounded_channel();
    let runs = Arc::new(AtomicUsize::new(0));
    let options = WatchOptions { linger: Duration::from_millis(20), max_keys: 2, ..WatchOptions::default() };
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
async fn a_full_table_says_so() {
    let (table, _, _outs) = table(|_| None);
    let _kept = (table.get(&"a".into()), table.get(&"b".into()));
    let State::Failed(text) = table.get(&"c".into()).get() else { panic!("not refused") };
    assert!(text.contains("limit of 2 watched names"), "{text}");
}

#[tokio::test]
async fn keys_may_be_asked_for_outside_the_runtime() {
    let (table, _, mut outs) = table(|_| None);
    let mut activity = std::thread::spawn(move || table.get(&"a".into())).join().unwrap();
    outs.recv().await.unwrap().ok(1);
    until(&mut activity, |s| *s == State::Ok(1)).await;
}

#[test]
fn back_off_doubles_up_to_the_limit() {
    let options = WatchOptions::default();
    for (failures, full) in [(0, 100), (1, 100), (2, 200), (6, 3200), (7, 5000), (u32::MAX, 5000)] {
        let wait = backoff(&options, failures).as_millis() as u64;
        assert!(wait >= full / 2 && wait <= full, "{failures}: {wait}");
    }
}
