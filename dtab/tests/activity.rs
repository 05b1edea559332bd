//! What a value over time promises: who sees which state, when a reader wakes, and when the source learns that nobody
//! reads any more. Futures are polled by hand: nothing here waits for a clock.

use dtab::{Activity, State};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Polls once.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn a_value_begins_pending_and_shows_what_is_published() {
    let (publisher, mut activity) = Activity::channel();
    assert_eq!(activity.get(), State::Pending);
    publisher.publish(State::Ok(1));
    assert_eq!(activity.get(), State::Ok(1));
    publisher.publish(State::Failed("gone".into()));
    assert_eq!(activity.get(), State::Failed("gone".into()));
    assert_eq!(publisher.state(), State::Failed("gone".into()));
    publisher.publish(State::Pending);
    assert_eq!(activity.get(), State::Pending, "a value may become unknown again");
    assert_eq!([State::Ok(1), State::Pending, State::Failed("x".into())].map(State::ok), [Some(1), None, None]);
}

#[test]
fn changed_wakes_for_what_was_not_seen() {
    let (publisher, mut activity) = Activity::channel();
    assert_eq!(ready(activity.changed()), None, "nothing has happened");
    publisher.publish(State::Ok(1));
    assert_eq!(activity.peek(), State::Ok(1));
    assert!(activity.with(|state| *state == State::Ok(1)));
    assert_eq!(ready(activity.changed()), Some(()), "looking is not seeing");
    publisher.publish(State::Ok(2));
    assert_eq!(activity.get(), State::Ok(2));
    assert_eq!(ready(activity.changed()), None, "seen");
    publisher.publish(State::Ok(2));
    assert_eq!(ready(activity.changed()), None, "an equal state is no change");
    publisher.publish(State::Ok(3));
    publisher.publish(State::Ok(4));
    assert_eq!(ready(activity.changed()), Some(()));
    assert_eq!(activity.get(), State::Ok(4), "only the latest state counts");
    assert_eq!(ready(activity.changed()), None);
}

#[test]
fn readers_see_changes_each_for_itself() {
    let (publisher, mut first) = Activity::channel();
    publisher.publish(State::Ok(1));
    let mut second = first.clone();
    let mut third = publisher.subscribe();
    assert_eq!(first.get(), State::Ok(1));
    assert_eq!(ready(first.changed()), None);
    assert_eq!(ready(second.changed()), Some(()), "a clone has seen what the original had seen when it was cloned");
    assert_eq!(ready(third.changed()), None, "a new reader waits for what comes after the state it can read now");
    assert_eq!(third.get(), State::Ok(1));
}

#[test]
fn the_source_counts_its_readers() {
    let (publisher, activity) = Activity::<u8>::channel();
    let other = publisher.subscribe();
    assert_eq!(publisher.watchers(), 2);
    assert_eq!(ready(publisher.unwatched()), None);
    drop(activity);
    assert_eq!((publisher.watchers(), ready(publisher.unwatched())), (1, None));
    drop(other);
    assert_eq!((publisher.watchers(), ready(publisher.unwatched())), (0, Some(())));
    publisher.publish(State::Ok(7));
    assert_eq!(publisher.state(), State::Ok(7), "a value nobody reads is still kept");
    let again = publisher.subscribe();
    assert_eq!(again.peek(), State::Ok(7));
    assert_eq!(ready(publisher.unwatched()), None, "watched again");
}

#[test]
fn a_value_outlives_its_source() {
    let (publisher, mut activity) = Activity::channel();
    let second = publisher.clone();
    publisher.publish(State::Ok("last"));
    drop(publisher);
    second.publish(State::Ok("later"));
    drop(second);
    assert_eq!(ready(activity.changed()), Some(()), "what was published before the end is seen");
    assert_eq!(activity.get(), State::Ok("later"));
    assert_eq!(ready(activity.changed()), None, "and then nothing, without an error");
    assert_eq!(ready(activity.settled()), Some(State::Ok("later")));
}

#[test]
fn a_constant_is_itself_for_ever() {
    let mut constant = Activity::constant(State::Ok(5));
    let mut copy = constant.clone();
    assert_eq!(constant.get(), State::Ok(5));
    assert_eq!(ready(constant.changed()), None);
    drop(constant);
    assert_eq!(copy.peek(), State::Ok(5));
    assert_eq!(ready(copy.settled()), Some(State::Ok(5)));
    assert_eq!(ready(copy.changed()), None);
    assert_eq!(ready(Activity::constant(State::<u8>::Pending).settled()), None, "a constant Pending never settles");
}

#[test]
fn settled_waits_out_pending_only() {
    let (publisher, mut activity) = Activity::channel();
    assert_eq!(ready(activity.settled()), None);
    publisher.publish(State::Failed("ill".into()));
    assert_eq!(ready(activity.settled()), Some(State::<u8>::Failed("ill".into())));
}

#[tokio::test]
async fn a_source_task_ends_when_its_readers_are_gone() {
    let (publisher, mut activity) = Activity::channel();
    let source = tokio::spawn(async move {
        publisher.publish(State::Ok(1));
        publisher.unwatched().await;
        publisher.state()
    });
    assert_eq!(activity.settled().await, State::Ok(1));
    let reader = activity.clone();
    drop(activity);
    tokio::task::yield_now().await;
    assert!(!source.is_finished(), "one reader is left");
    drop(reader);
    assert_eq!(source.await.expect("no panic"), State::Ok(1));
}

#[tokio::test]
async fn a_waiting_reader_wakes() {
    let (publisher, mut activity) = Activity::channel();
    assert_eq!(activity.get(), State::Pending);
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last() != Some(&State::Ok(3)) {
            activity.changed().await;
            seen.push(activity.get());
        }
        seen
    });
    for i in [1, 1, 2, 3] {
        publisher.publish(State::Ok(i));
        tokio::task::yield_now().await;
    }
    let seen = reader.await.expect("no panic");
    assert_eq!(seen, [State::Ok(1), State::Ok(2), State::Ok(3)]);
    assert_eq!(publisher.watchers(), 0, "the reader went with its task");
}
