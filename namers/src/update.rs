//! The one update loop: evaluate, publish, wait for a change in what was read, repeat.
//!
//! Everything in this crate that derives a changing value from other changing values implements [`Work`]. Not for: IO;
//! sources that talk to the world are tasks of the watch table.

use crate::watch::panic_text;
use dtab::{Activity, BoxFuture, Publisher, State};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;
use tokio::runtime::Handle;

/// A value computed from other activities.
pub(crate) trait Work: Send + 'static {
    /// What is computed.
    type Out: Clone + PartialEq + Send + Sync + 'static;

    /// The present result. Reads its inputs with [`Activity::get`], each at most once per call, so that `changed` misses
    /// nothing.
    fn evaluate(&mut self) -> State<Self::Out>;

    /// Completes when something that the last evaluation read has changed.
    fn changed(&mut self) -> BoxFuture<'_, ()>;

    /// True when `new` must not replace `current`: once Ok, never Pending or Failed again (naming reference §4.4).
    fn keeps(&self, current: &State<Self::Out>, new: &State<Self::Out>) -> bool {
        matches!(current, State::Ok(_)) && !matches!(new, State::Ok(_))
    }
}

/// Evaluates once at once, so that a result that needs no waiting is there on return; then follows changes in a task on
/// `handle` until nobody reads the result.
pub(crate) fn follow<W: Work>(handle: &Handle, mut work: W) -> Activity<W::Out> {
    let (publisher, activity) = Activity::channel();
    publisher.publish(contained(&mut work));
    handle.spawn(run(work, publisher));
    activity
}

async fn run<W: Work>(mut work: W, publisher: Publisher<W::Out>) {
    loop {
        tokio::select! {
            () = publisher.unwatched() => return,
            () = work.changed() => {}
        }
        let new = contained(&mut work);
        if !work.keeps(&publisher.state(), &new) {
            publisher.publish(new);
        }
    }
}

/// One evaluation; a panic in it is Failed, and the next change evaluates again.
fn contained<W: Work>(work: &mut W) -> State<W::Out> {
    catch_unwind(AssertUnwindSafe(|| work.evaluate())).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        tracing::error!("{text}");
        State::Failed(text.into())
    })
}

/// Completes with the first of `waits`; never when there are none.
pub(crate) async fn any_of(mut waits: Vec<BoxFuture<'_, ()>>) {
    poll_fn(|context| {
        let ready = waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready());
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await
}

/// A wait for a change of `activity`.
pub(crate) fn change<T: Clone + Send + Sync + 'static>(activity: &mut Activity<T>) -> BoxFuture<'_, ()> {
    Box::pin(activity.changed())
}

#[cfg(test)]
pub(crate) mod test_support {
    //! Bounded waits, shared by the tests of this crate.

    use dtab::{Activity, State};
    use std::time::Duration;

    /// Waits until the state satisfies `wanted`; panics with the present state after a minute.
    pub(crate) async fn until<T: Clone + std::fmt::Debug>(
        activity: &mut Activity<T>,
        wanted: impl Fn(&State<T>) -> bool,
    ) -> State<T> {
        let reached = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                let state = activity.get();
                if wanted(&state) {
                    return state;
                }
                activity.changed().await;
            }
        });
        match reached.await {
            Ok(state) => state,
            Err(_) => panic!("not reached; present state: {:?}", activity.peek()),
        }
    }

    /// Waits until `condition` holds; for facts that no activity announces.
    pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
        let reached = tokio::time::timeout(Duration::from_secs(60), async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(reached.await.is_ok(), "not reached: {what}");
    }
}
