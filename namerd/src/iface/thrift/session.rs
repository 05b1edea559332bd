//! A connection that speaks mux: calls by tag, in any order (namerd reference §4.3).
//!
//! Each call is a task, so that pings are answered however many wait. A reply is made when there is room to write it: a
//! client that reads slowly holds up its own replies, which are as of then, and no memory. Called by the interface. Not
//! for: framed thrift.

use super::calls::{Asking, Begun};
use super::output::write_frames;
use super::{DRAIN, Input, MAX_REQUEST, closes};
use crate::iface::Closing;
use namers::thrift::binary::WireError;
use namers::thrift::mux::{Assembler, CONTROL_TAG, Message, PROBE, VERSION, status};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Calls that wait on one connection, at most.
const MAX_CALLS: usize = 50_000;
const TOO_MANY_HERE: &str = "too many calls wait on this connection";
const TOO_MANY: &str = "too many calls wait in this namerd";
/// Replies that wait to be written.
const REPLIES: usize = 16;
/// Control messages that wait to be written; when they do not fit, nothing more is read.
const CONTROL: usize = 64;
/// A client that says nothing for so long is asked whether it is there.
const QUIET: Duration = Duration::from_secs(60);
/// And so long after that it is taken to be gone.
const GONE: Duration = Duration::from_secs(30);

/// Serves the connection to its end. Errors when the client is cut off for what it says.
pub(super) async fn serve<R: AsyncRead + Unpin>(
    calls: Asking,
    room: Arc<Semaphore>,
    input: Input<R>,
    mut write: impl AsyncWrite + Unpin,
    closing: Closing,
) -> Result<(), WireError> {
    let (control, control_queue) = mpsc::channel(CONTROL);
    let (replies, reply_queue) = mpsc::channel(REPLIES);
    let session =
        Session { calls, room, control, replies, tags: Arc::default(), tasks: JoinSet::new(), made: 0, draining: None };
    let mut writing = Box::pin(write_frames(&mut write, control_queue, reply_queue));
    let ended = tokio::select! {
        () = &mut writing => return Ok(()),
        ended = session.run(input, closing) => ended,
    };
    // What is queued is still written, if the client takes it.
    let _ = timeout(DRAIN, writing).await;
    ended
}

struct Session {
    calls: Asking,
    room: Arc<Semaphore>,
    control: mpsc::Sender<Vec<u8>>,
    replies: mpsc::Sender<Vec<u8>>,
    tags: Arc<Mutex<HashMap<u32, Waiting>>>,
    tasks: JoinSet<()>,
    /// Number of calls begun; tells two calls of the same tag apart.
    made: u64,
    /// Until when the connection stays open; None while the process does not want to end.
    draining: Option<Instant>,
}

/// A call that waits. Whoever takes it out of the table says what becomes of it.
struct Waiting {
    call: u64,
    task: AbortHandle,
    finite: bool,
}

impl Session {
    async fn run<R: AsyncRead + Unpin>(mut self, mut input: Input<R>, mut closing: Closing) -> Result<(), WireError> {
        let mut assembler = Assembler::new(MAX_REQUEST);
        let mut heard = Instant::now();
        let mut asked = false;
        if let Some(message) = assembler.accept(&input.first)? {
            self.take(message).await?;
        }
        loop {
            while let Some(frame) = input.frames.frame()? {
                if let Some(message) = assembler.accept(&frame)? {
                    self.take(message).await?;
                }
            }
            let gone = heard + if asked { QUIET + GONE } else { QUIET };
            let limit = self.draining.unwrap_or(gone).min(gone);
            tokio::select! {
                read = input.read.read_buf(input.frames.buffer()) => match read {
                    Ok(count) if count > 0 => (heard, asked) = (Instant::now(), false),
                    Ok(_) | Err(_) => return Ok(()),
                },
                Some(_) = self.tasks.join_next() => {}
                () = closes(&mut closing), if self.draining.is_none() => self.drain().await,
                () = sleep_until(limit) => {
                    if asked || self.draining.is_some() {
                        return Ok(());
                    }
                    asked = true;
                    self.say(&Message::Tping(CONTROL_TAG)).await;
                }
            }
            if self.is_drained() {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, message: Message) -> Result<(), WireError> {
        match message {
            Message::Tdispatch(tag, body) => return self.begin(tag, &body, Message::Rdispatch).await,
            Message::Treq(tag, body) => return self.begin(tag, &body, Message::Rreq).await,
            Message::Tdiscarded(tag, _) => self.discard(tag).await,
            Message::Tping(tag) => self.say(&Message::Rping(tag)).await,
            Message::Rerr(tag, text) if text == PROBE => self.say(&Message::Rerr(tag, text)).await,
            Message::Tinit(tag, VERSION) => self.say(&Message::Rinit(tag, VERSION)).await,
            Message::Tinit(tag, version) => {
                let text = format!("Unsupported Mux version: {version}");
                self.say(&Message::Rerr(tag, text.clone())).await;
                return Err(WireError::malformed(text));
            }
            Message::Rdrain(_) => self.draining = self.draining.map(|_| Instant::now()),
            Message::Rping(_) | Message::Rerr(..) => {}
            Message::Unknown(kind, tag) => {
                self.say(&Message::Rerr(tag, format!("Unexpected mux message type {kind}"))).await;
            }
            Message::Tdrain(tag)
            | Message::Rinit(tag, _)
            | Message::Rdiscarded(tag)
            | Message::Rreq(tag, ..)
            | Message::Rdispatch(tag, ..) => {
                self.say(&Message::Rerr(tag, "Unexpected mux message type".to_owned())).await;
            }
            Message::Tlease => {}
        }
        Ok(())
    }

    /// Queues a control message. It is lost when the connection has ended, which the next read shows.
    async fn say(&self, message: &Message) {
        let _ = self.control.send(message.frame()).await;
    }

    async fn begin(&mut self, tag: u32, body: &[u8], reply: fn(u32, u8, Vec<u8>) -> Message) -> Result<(), WireError> {
        if tag == 0 || self.tags.lock().contains_key(&tag) {
            let text = format!("Received duplicate tag {tag} from client.");
            self.say(&Message::Rerr(tag, text.clone())).await;
            return Err(WireError::malformed(text));
        }
        if self.draining.is_some() {
            self.say(&reply(tag, status::NACK, Vec::new())).await;
            return Ok(());
        }
        let begun = self.calls.begin(body)?;
        if self.tags.lock().len() >= MAX_CALLS {
            let refused = begun.refused(TOO_MANY_HERE).reply();
            self.say(&reply(tag, status::OK, refused)).await;
            return Ok(());
        }
        match self.room.clone().try_acquire_owned() {
            Ok(place) => self.spawn(tag, begun, reply, place),
            Err(_) => {
                let refused = begun.refused(TOO_MANY).reply();
                self.say(&reply(tag, status::OK, refused)).await;
            }
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        tag: u32,
        mut begun: Begun,
        reply: fn(u32, u8, Vec<u8>) -> Message,
        place: tokio::sync::OwnedSemaphorePermit,
    ) {
        self.made += 1;
        let (call, finite) = (self.made, begun.is_finite());
        let (tags, replies) = (self.tags.clone(), self.replies.clone());
        let answering = async move {
            begun.ready().await;
            let Ok(space) = replies.reserve().await else { return };
            let ours = {
                let mut tags = tags.lock();
                let ours = tags.get(&tag).is_some_and(|waiting| waiting.call == call);
                if ours {
                    tags.remove(&tag);
                }
                ours
            };
            if ours && !begun.oneway {
                space.send(reply(tag, status::OK, begun.reply()).frame());
            }
            drop(place);
        };
        // The lock is held meanwhile: the task may be done before the table knows it.
        let mut tags = self.tags.lock();
        let task = self.tasks.spawn(answering);
        tags.insert(tag, Waiting { call, task, finite });
    }

    /// Forgets a call. A reply that is on its way already says so itself.
    async fn discard(&mut self, tag: u32) {
        let waiting = self.tags.lock().remove(&tag);
        if let Some(waiting) = waiting {
            waiting.task.abort();
            self.say(&Message::Rdiscarded(tag)).await;
        }
    }

    async fn drain(&mut self) {
        self.draining = Some(Instant::now() + DRAIN);
        self.say(&Message::Tdrain(CONTROL_TAG)).await;
    }

    /// True once the client knows that it has to go, and no call is left that ends by itself.
    fn is_drained(&self) -> bool {
        let known = self.draining.is_some_and(|until| until <= Instant::now());
        known && !self.tags.lock().values().any(|waiting| waiting.finite)
    }
}
