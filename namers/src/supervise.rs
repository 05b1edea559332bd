//! The task of one live key: runs its source, again after errors and after silence, until nobody reads the key.
//!
//! Called by the watch table, once per key. Not for: what a report means (see `watched`).

use crate::backoff::Backoff;
use crate::update::any_of;
use crate::watch::{Key, Room, Shared, SourceError, Val, WatchOptions, Watched};
use dtab::BoxFuture;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// A difference between the watched and the listed value that lasts for so long is drift, and no change under way.
const DRIFT: Duration = Duration::from_millis(1500);
/// A timer far away.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// Tells the snapshot when the key is given up, also by abortion.
struct Leaving<V: Val>(Watched<V>);

impl<V: Val> Drop for Leaving<V> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Drives the source of one key until nobody has read it for the linger, or until nobody reads it and another key waits.
/// Without `room` it waits for some first.
pub(crate) async fn supervise<K: Key, V: Val>(shared: Arc<Shared<K, V>>, key: K, watched: Watched<V>, room: Room) {
    let Some(_room) = wait_for_room(&shared, &key, &watched, room).await else { return };
    watched.restore();
    let _leaving = Leaving(watched.clone());
    let mut driving = Box::pin(drive(shared.clone(), key.clone(), watched.clone()));
    loop {
        tokio::select! {
            () = &mut driving => {}
            () = watched.publisher.unwatched() => {}
        }
        if !shared.live.lock().linger(&key) {
            continue;
        }
        let linger = match watched.has_content() {
            _ if shared.waiting.load(Ordering::Relaxed) > 0 => Duration::ZERO,
            true => shared.options.linger,
            false => shared.options.negative_linger,
        };
        tokio::select! {
            () = &mut driving => {}
            () = tokio::time::sleep(linger) => {}
        }
        if shared.live.lock().remove_unread(&key) {
            return;
        }
    }
}

/// Room in the table; None when the last reader left meanwhile.
async fn wait_for_room<K: Key, V: Val>(
    shared: &Arc<Shared<K, V>>,
    key: &K,
    watched: &Watched<V>,
    room: Room,
) -> Option<OwnedSemaphorePermit> {
    let _in_line = match room {
        Room::Has(permit) => return Some(permit),
        Room::Needs(in_line) => in_line,
    };
    loop {
        tokio::select! {
            // The semaphore is never closed.
            got = shared.room.clone().acquire_owned() => return got.ok(),
            () = watched.publisher.unwatched() => {
                if shared.live.lock().remove_unread(key) {
                    return None;
                }
            }
        }
    }
}

/// Runs the source again and again; never returns.
async fn drive<K: Key, V: Val>(shared: Arc<Shared<K, V>>, key: K, watched: Watched<V>) {
    let mut backoff = Backoff::new(shared.options.min_backoff, shared.options.max_backoff);
    loop {
        watched.begin();
        let begun = Instant::now();
        let outcome = {
            let run = || shared.source.run(key.clone(), watched.clone());
            tokio::select! {
                outcome = contained(run) => outcome,
                reason = oversee(&shared, &key, &watched) => Err(reason),
            }
        };
        let worked = (watched.failures() == 0).then(|| begun.elapsed());
        match outcome {
            Ok(()) => {
                watched.end();
                // Returns never: what is done cannot fall silent.
                oversee(&shared, &key, &watched).await;
            }
            Err(SourceError(reason)) => watched.failed(&reason),
        }
        tokio::time::sleep(backoff.after(worked)).await;
    }
}

/// Watches over a source that runs. Returns when it has to be started again: it is silent, or it misses what is there.
async fn oversee<K: Key, V: Val>(shared: &Arc<Shared<K, V>>, key: &K, watched: &Watched<V>) -> SourceError {
    let options = &shared.options;
    let mut relist = Instant::now() + next_relist(options);
    loop {
        let due = [watched.due(), watched.silent_at(options.silent_after)];
        let due = due.into_iter().flatten().chain([relist]).min().unwrap_or(relist);
        let waits: Vec<BoxFuture<'_, ()>> =
            vec![Box::pin(tokio::time::sleep_until(due)), Box::pin(watched.wake.notified())];
        any_of(waits).await;
        watched.settle();
        let now = Instant::now();
        if watched.silent_at(options.silent_after).is_some_and(|at| at <= now) {
            watched.rules.count("watch_silences_total");
            let bound = options.silent_after;
            return SourceError(format!("nothing was heard for {bound:?}; the watch is started again"));
        }
        if relist <= now {
            relist = now + next_relist(options);
            if !watched.is_done() && drifted(shared, key, watched).await {
                watched.rules.count("watch_drift_total");
                return SourceError("the watch had missed a change; it is started again".to_owned());
            }
        }
    }
}

/// Spread, so that the keys of a table do not list all at once.
fn next_relist(options: &WatchOptions) -> Duration {
    if options.relist.is_zero() { FAR } else { options.relist.mul_f64(0.75 + fastrand::f64() / 2.0) }
}

/// True when a full list, made twice, says for long something else than the watch.
async fn drifted<K: Key, V: Val>(shared: &Arc<Shared<K, V>>, key: &K, watched: &Watched<V>) -> bool {
    let list = || shared.source.relist(key.clone());
    let Some(first) = list() else { return false };
    let Ok(truth) = contained(move || first).await else { return false };
    if watched.agrees(&truth) {
        return false;
    }
    tokio::time::sleep(DRIFT).await;
    let Some(second) = list() else { return false };
    let again = contained(move || second).await;
    again.is_ok_and(|again| again == truth && !watched.agrees(&again))
}

/// Runs a future once; a panic in it is an error.
async fn contained<T>(make: impl FnOnce() -> BoxFuture<'static, Result<T, SourceError>>) -> Result<T, SourceError> {
    let (mut make, mut running) = (Some(make), None);
    std::future::poll_fn(move |context| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            if let Some(make) = make.take() {
                running = Some(make());
            }
            running.as_mut().map_or(Poll::Pending, |future| future.as_mut().poll(context))
        }));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(SourceError(panic_text(&*panic)))))
    })
    .await
}

/// What a caught panic says.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("internal error (panic): {}", said.unwrap_or("no message"))
}
