//! Coarse deadlines of one worker: no timer is registered per request.
//!
//! Every connection holds one [`Slot`]; it sets when the slot is due. The worker sleeps until the earliest deadline it
//! knows of and then looks at all slots at once, at most once per [`TICK`], so a deadline fires at most one tick late and
//! thousands of idle connections with a far deadline cost nothing. Also how a drain reaches connections that wait for a
//! request.

use crate::clock;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::Notify;

/// The least time between two looks at all slots.
pub const TICK: Duration = Duration::from_millis(20);

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// Why [`Slot::run`] gave up on a future.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elapsed {
    /// The slot's deadline is over.
    Deadline,
    /// The worker drains and the slot was waiting for a request.
    Drained,
}

/// The deadline of one connection.
pub struct Slot {
    due: Cell<u64>,
    idle: Cell<bool>,
    /// Whose connection this is: that of a listener, by its number.
    group: u64,
    ended: Cell<bool>,
    elapsed: Cell<Option<Elapsed>>,
    /// When its task is to be woken, with nothing due; [`NEVER`] for not at all.
    look: Cell<u64>,
    /// It was.
    looked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    timers: Rc<Timers>,
}

/// All slots of a worker.
pub struct Timers {
    slots: RefCell<Vec<Weak<Slot>>>,
    /// No slot is due before this.
    next: Cell<u64>,
    /// `next` has become earlier.
    sooner: Notify,
    draining: Cell<bool>,
    live: Cell<usize>,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers {
            slots: RefCell::default(),
            next: Cell::new(NEVER),
            sooner: Notify::new(),
            draining: Cell::new(false),
            live: Cell::new(0),
        }
    }
}

impl Timers {
    /// A new slot without a deadline, for a connection of the listener `group`.
    pub fn slot(self: &Rc<Timers>, group: u64) -> Rc<Slot> {
        let slot = Rc::new(Slot {
            due: Cell::new(NEVER),
            idle: Cell::new(false),
            group,
            ended: Cell::new(false),
            elapsed: Cell::new(None),
            look: Cell::new(NEVER),
            looked: Cell::new(false),
            waker: RefCell::new(None),
            timers: self.clone(),
        });
        let mut slots = self.slots.borrow_mut();
        if slots.len() > 2 * self.live.get() + 64 {
            slots.retain(|slot| slot.strong_count() > 0);
        }
        slots.push(Rc::downgrade(&slot));
        drop(slots);
        self.live.set(self.live.get() + 1);
        slot
    }

    /// Slots in use, one per connection.
    pub fn live(&self) -> usize {
        self.live.get()
    }

    /// Ends every wait for a request on connections of the listener `group`, now and from now on.
    pub fn end(&self, group: u64) {
        self.fire(|slot| {
            let ends = slot.group == group;
            slot.ended.set(slot.ended.get() || ends);
            (ends && slot.idle.get()).then_some(Elapsed::Drained)
        });
    }

    /// Ends every wait for a request, now and from now on.
    pub fn drain(&self) {
        self.draining.set(true);
        self.fire(|slot| slot.idle.get().then_some(Elapsed::Drained));
    }

    /// Ends waits as they become due; runs for ever.
    pub async fn run(&self) {
        let mut looked = 0;
        loop {
            let now = clock::now();
            let due = self.next.get().max(looked + clock::nanos(TICK));
            if due <= now {
                looked = now;
                self.next.set(self.fire(|slot| {
                    slot.look_now(now);
                    (slot.due.get() <= now).then_some(Elapsed::Deadline)
                }));
            } else if self.next.get() == NEVER {
                self.sooner.notified().await;
            } else {
                let pause = tokio::time::sleep(Duration::from_nanos(due - now));
                tokio::select! {
                    () = pause => {}
                    () = self.sooner.notified() => {}
                }
            }
        }
    }

    /// Something is to be done at `at`.
    fn wake_by(&self, at: u64) {
        if at < self.next.get() {
            self.next.set(at);
            self.sooner.notify_one();
        }
    }

    /// Ends the waits that `verdict` names; the earliest deadline that is left.
    fn fire(&self, verdict: impl Fn(&Slot) -> Option<Elapsed>) -> u64 {
        let mut earliest = NEVER;
        self.slots.borrow_mut().retain(|slot| {
            let Some(slot) = slot.upgrade() else { return false };
            if let Some(elapsed) = verdict(&slot) {
                slot.elapsed.set(Some(elapsed));
                slot.due.set(NEVER);
                if let Some(waker) = slot.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
            earliest = earliest.min(slot.due.get()).min(slot.look.get());
            true
        });
        earliest
    }
}

impl Slot {
    /// Sets when the slot is due, in nanoseconds of the process clock; [`NEVER`] for no deadline.
    pub fn set(&self, due: u64) {
        self.due.set(due);
        self.elapsed.set(None);
        self.timers.wake_by(due);
    }

    /// Has the task that runs on this slot woken at `at`, to see what nobody would wake it for. Nothing is due by that.
    pub fn look_at(&self, at: u64) {
        self.look.set(at);
        self.timers.wake_by(at);
    }

    /// True once after such a wake.
    pub fn looked(&self) -> bool {
        self.looked.take()
    }

    /// Takes [`Slot::look_at`] back.
    pub fn look_no_more(&self) {
        self.look.set(NEVER);
        self.looked.set(false);
    }

    fn look_now(&self, now: u64) {
        if self.look.get() <= now {
            self.look.set(NEVER);
            self.looked.set(true);
            if let Some(waker) = self.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Runs `future` until it is ready or the slot is due.
    pub async fn run<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            // Taken first: the future may set the slot anew, which forgets what has elapsed.
            let elapsed = self.elapsed.take();
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if let Some(elapsed) = elapsed {
                return Poll::Ready(Err(elapsed));
            }
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// True when no further request is wanted on this connection: the worker drains, or its listener is gone.
    pub fn is_ending(&self) -> bool {
        self.ended.get() || self.timers.draining.get()
    }

    /// As [`Slot::run`], for a wait that a drain ends.
    pub async fn run_idle<F: Future>(&self, future: F) -> Result<F::Output, Elapsed> {
        if self.is_ending() {
            return Err(Elapsed::Drained);
        }
        self.idle.set(true);
        let output = self.run(future).await;
        self.idle.set(false);
        output
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.timers.live.set(self.timers.live.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local<T>(future: impl Future<Output = T>) -> T {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().build_local(tokio::runtime::LocalOptions::default()).expect("a runtime");
        runtime.block_on(future)
    }

    #[test]
    fn a_due_slot_gives_up_and_can_be_used_again() {
        local(async {
            let timers = Rc::new(Timers::default());
            let ticking = timers.clone();
            tokio::task::spawn_local(async move { ticking.run().await });
            let slot = timers.slot(0);
            slot.set(clock::now() + 1_000_000);
            assert_eq!(slot.run(std::future::pending::<()>()).await, Err(Elapsed::Deadline));
            assert_eq!(slot.run(async { 7 }).await, Ok(7));
            slot.set(clock::now() + 1_000_000);
            assert_eq!(slot.run(std::future::pending::<()>()).await, Err(Elapsed::Deadline));
        });
    }

    #[test]
    fn a_future_that_sets_its_own_slot_elapses() {
        local(async {
            let timers = Rc::new(Timers::default());
            let ticking = timers.clone();
            tokio::task::spawn_local(async move { ticking.run().await });
            let slot = timers.slot(0);
            let stalled = poll_fn(|_| {
                slot.set(clock::now() + 1_000_000);
                Poll::<()>::Pending
            });
            assert_eq!(slot.run(stalled).await, Err(Elapsed::Deadline));
        });
    }

    #[test]
    fn a_look_wakes_and_ends_nothing() {
        local(async {
            let timers = Rc::new(Timers::default());
            let ticking = timers.clone();
            tokio::task::spawn_local(async move { ticking.run().await });
            let slot = timers.slot(0);
            let due = clock::now() + 300_000_000;
            slot.set(due);
            let mut looks = 0;
            let watching = poll_fn(|_| {
                looks += u32::from(slot.looked());
                slot.look_at(clock::now() + 1_000_000);
                if looks == 3 { Poll::Ready(()) } else { Poll::Pending }
            });
            assert_eq!(slot.run(watching).await, Ok(()));
            slot.look_no_more();
            assert_eq!(slot.run(std::future::pending::<()>()).await, Err(Elapsed::Deadline));
            assert!(clock::now() >= due && !slot.looked(), "what is due stays as it was");
        });
    }

    #[test]
    fn the_end_of_a_listener_is_for_its_connections() {
        local(async {
            let timers = Rc::new(Timers::default());
            let (mine, other) = (timers.slot(1), timers.slot(2));
            let ending = timers.clone();
            tokio::task::spawn_local(async move { ending.end(1) });
            assert_eq!(mine.run_idle(std::future::pending::<()>()).await, Err(Elapsed::Drained));
            assert!(mine.is_ending() && !other.is_ending());
            assert_eq!(other.run_idle(async { 1 }).await, Ok(1));
        });
    }

    #[test]
    fn a_near_deadline_is_kept_beside_a_far_one() {
        local(async {
            let timers = Rc::new(Timers::default());
            let ticking = timers.clone();
            tokio::task::spawn_local(async move { ticking.run().await });
            let (far, near) = (timers.slot(0), timers.slot(0));
            far.set(clock::now() + 600_000_000_000);
            tokio::task::yield_now().await;
            for _ in 0..3 {
                let due = clock::now() + 1_000_000;
                near.set(due);
                assert_eq!(near.run(std::future::pending::<()>()).await, Err(Elapsed::Deadline));
                assert!(clock::now() >= due);
            }
            assert_eq!(timers.next.get(), far.due.get(), "the far one is what is waited for");
        });
    }

    #[test]
    fn a_drain_ends_idle_waits_only() {
        local(async {
            let timers = Rc::new(Timers::default());
            let slot = timers.slot(0);
            let drainer = timers.clone();
            tokio::task::spawn_local(async move { drainer.drain() });
            assert_eq!(slot.run_idle(std::future::pending::<()>()).await, Err(Elapsed::Drained));
            assert_eq!(slot.run_idle(async {}).await, Err(Elapsed::Drained), "later waits end too");
            assert_eq!(slot.run(async { 1 }).await, Ok(1), "a request in flight goes on");
            assert_eq!(timers.live(), 1);
            drop(slot);
            assert_eq!(timers.live(), 0);
        });
    }
}
