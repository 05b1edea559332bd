//! [`Activity`]: the one kind of changing value; a thin newtype over `tokio::sync::watch`.
//!
//! A source task owns the [`Publisher`]; readers hold activities. Dropping every reader ends the subscription: the
//! source waits for that with [`Publisher::unwatched`]. Not for: combinators; update loops are written out.

use std::sync::Arc;
use tokio::sync::watch;

/// What a changing value is at one moment (naming reference, "activity").
#[derive(Debug, Clone, PartialEq)]
pub enum State<T> {
    /// Nothing known yet.
    Pending,
    /// The value.
    Ok(T),
    /// It cannot be known; the text says why.
    Failed(Arc<str>),
}

impl<T> State<T> {
    /// The value, if there is one.
    pub fn ok(self) -> Option<T> {
        match self {
            State::Ok(value) => Some(value),
            State::Pending | State::Failed(_) => None,
        }
    }
}

/// A value over time: Pending, Ok or Failed at any moment.
#[derive(Debug, Clone)]
pub struct Activity<T> {
    receiver: watch::Receiver<State<T>>,
    /// Keeps a constant's channel open.
    _constant: Option<Arc<watch::Sender<State<T>>>>,
}

/// The writing side of an [`Activity`]; owned by the task that knows the value.
#[derive(Debug, Clone)]
pub struct Publisher<T> {
    sender: Arc<watch::Sender<State<T>>>,
}

impl<T: Clone> Activity<T> {
    /// A new value in state Pending.
    pub fn channel() -> (Publisher<T>, Activity<T>) {
        let (sender, receiver) = watch::channel(State::Pending);
        (Publisher { sender: Arc::new(sender) }, Activity { receiver, _constant: None })
    }

    /// A value that never changes.
    pub fn constant(state: State<T>) -> Activity<T> {
        let (sender, receiver) = watch::channel(state);
        Activity { receiver, _constant: Some(Arc::new(sender)) }
    }

    /// The present state; marks it as seen for [`Activity::changed`].
    pub fn get(&mut self) -> State<T> {
        self.receiver.borrow_and_update().clone()
    }

    /// The present state, without marking it as seen.
    pub fn peek(&self) -> State<T> {
        self.receiver.borrow().clone()
    }

    /// Reads the present state in place, without marking it as seen.
    pub fn with<R>(&self, read: impl FnOnce(&State<T>) -> R) -> R {
        read(&self.receiver.borrow())
    }

    /// Waits until the state differs from the one last seen with [`Activity::get`]. A value whose source is gone never
    /// changes again: then this waits for ever.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the state is not Pending and returns it.
    pub async fn settled(&mut self) -> State<T> {
        loop {
            match self.get() {
                State::Pending => self.changed().await,
                state => return state,
            }
        }
    }
}

impl<T: Clone + PartialEq> Publisher<T> {
    /// Publishes `state`, if it differs from the present one.
    pub fn publish(&self, state: State<T>) {
        self.sender.send_if_modified(|current| {
            let changed = *current != state;
            if changed {
                *current = state;
            }
            changed
        });
    }
}

impl<T: Clone> Publisher<T> {
    /// Another reader of the same value.
    pub fn subscribe(&self) -> Activity<T> {
        Activity { receiver: self.sender.subscribe(), _constant: None }
    }

    /// The present state.
    pub fn state(&self) -> State<T> {
        self.sender.borrow().clone()
    }

    /// Number of readers.
    pub fn watchers(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Waits until nobody reads the value.
    pub async fn unwatched(&self) {
        self.sender.closed().await;
    }
}
