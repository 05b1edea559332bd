//! [`Link`]: one connection to a namerd, shared by all calls: tags, discards, pings, drain (namerd reference §4.3, §4.4).
//!
//! Three loops drive it: one reads, one writes what has gathered, one pings. When any of them ends, so does the link, and
//! every call that waits is told. Called by `client`. Not for: which address, what is asked, when to try again.

use super::MAX_MESSAGE;
use super::mux::{self, Assembler, Frames, Message, status};
use crate::remote::peers::Io;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// Calls that wait on one link, at most, discarded ones included.
const MAX_CALLS: usize = 200_000;
/// While so many bytes wait to be sent, further calls wait as well.
const FULL: usize = 1024 * 1024;
/// Bytes that wait to be sent, at most: a namerd that asks and does not read is as good as none.
const MAX_UNSENT: usize = 16 * 1024 * 1024;
/// What is left to be said when the link ends may take so long.
const FAREWELL: Duration = Duration::from_secs(1);

/// When a connection that says nothing is given up: `failureThreshold` in configs.
#[derive(Debug, Clone)]
pub struct Pings {
    /// Time between two pings (`minPeriodMs`). Default 5 s.
    pub every: Duration,
    /// The answer may take so long, and so may the handshake (`closeTimeoutMs`). Default 4 s.
    pub timeout: Duration,
}

impl Default for Pings {
    fn default() -> Pings {
        Pings { every: Duration::from_secs(5), timeout: Duration::from_secs(4) }
    }
}

/// Why a call has no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CallError {
    /// The link has ended. What was asked on it has to be asked anew.
    Lost(Arc<str>),
    /// namerd does not answer this call.
    Refused(String),
}

/// See the module.
pub(super) struct Link {
    state: Mutex<State>,
    /// There is something to send.
    unsent: Notify,
    /// What there was is being sent.
    room: Notify,
    /// A ping was answered.
    pong: Notify,
    opened: Instant,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    calls: HashMap<u32, Waiting>,
    next: u32,
    /// Number of calls made; tells two calls of the same tag apart.
    made: u64,
    out: Vec<u8>,
    ended: Option<Arc<str>>,
}

struct Waiting {
    call: u64,
    /// None once nobody waits any more.
    reply: Option<oneshot::Sender<Result<Vec<u8>, CallError>>>,
}

/// A call that waits; dropped earlier, it is discarded.
struct Asking<'a> {
    link: &'a Link,
    tag: u32,
    call: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut state = self.link.state.lock();
        let Some(waiting) = state.calls.get_mut(&self.tag).filter(|waiting| waiting.call == self.call) else { return };
        waiting.reply = None;
        state.out.extend(Message::Tdiscarded(self.tag, "released".to_owned()).frame());
        self.link.unsent.notify_one();
    }
}

impl Link {
    /// Shakes hands over `io`. The link works while [`Link::drive`] is polled with the second value.
    pub(super) async fn open(io: Box<dyn Io>, pings: &Pings) -> Result<(Link, Driven), String> {
        let mut driven = Driven { io, frames: Frames::new(MAX_MESSAGE), pings: pings.clone() };
        let shaken = timeout(pings.timeout, driven.shake_hands()).await;
        shaken.map_err(|_| format!("no answer to the handshake within {:?}", pings.timeout))??;
        let state = Mutex::new(State { next: mux::FIRST_TAG, ..State::default() });
        let (unsent, room, pong, opened) = (Notify::new(), Notify::new(), Notify::new(), Instant::now());
        Ok((Link { state, unsent, room, pong, opened, ended: AtomicBool::new(false) }, driven))
    }

    /// False once no call will be answered any more.
    pub(super) fn is_open(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Since the handshake.
    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Sends a thrift call and waits for its reply, as long as it takes. Dropping the future discards the call.
    pub(super) async fn call(&self, body: Vec<u8>) -> Result<Vec<u8>, CallError> {
        loop {
            let room = self.room.notified();
            {
                let state = self.state.lock();
                if state.out.len() < FULL || state.ended.is_some() {
                    break;
                }
            }
            room.await;
        }
        let (reply, answered) = oneshot::channel();
        let asking = self.begin(body, reply)?;
        let answer = answered.await.unwrap_or_else(|_| Err(CallError::Lost("the connection has ended".into())));
        drop(asking);
        answer
    }

    fn begin(
        &self,
        body: Vec<u8>,
        reply: oneshot::Sender<Result<Vec<u8>, CallError>>,
    ) -> Result<Asking<'_>, CallError> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.ended {
            return Err(CallError::Lost(reason.clone()));
        }
        if state.calls.len() >= MAX_CALLS {
            return Err(CallError::Refused(format!("{MAX_CALLS} calls wait for namerd already")));
        }
        let tag = state.free_tag();
        state.made += 1;
        let call = state.made;
        state.calls.insert(tag, Waiting { call, reply: Some(reply) });
        state.out.extend(Message::Tdispatch(tag, body).frame());
        self.unsent.notify_one();
        Ok(Asking { link: self, tag, call })
    }

    fn say(&self, message: &Message) {
        self.state.lock().out.extend(message.frame());
        self.unsent.notify_one();
    }

    /// Gives a call what came of it; a tag that nobody waits for is free from now on.
    fn finish(&self, tag: u32, answer: Result<Vec<u8>, CallError>) {
        let waiting = self.state.lock().calls.remove(&tag);
        if let Some(reply) = waiting.and_then(|waiting| waiting.reply) {
            // Whoever waited may just have left.
            let _ = reply.send(answer);
        }
    }

    /// Drives the link to its end and returns why it ended.
    pub(super) async fn drive(&self, driven: Driven) -> Arc<str> {
        let Driven { io, mut frames, pings } = driven;
        let (mut read, mut write) = tokio::io::split(io);
        let reason: Arc<str> = tokio::select! {
            reason = self.reading(&mut read, &mut frames) => reason,
            reason = self.writing(&mut write) => reason,
            reason = self.pinging(&pings) => reason,
        }
        .into();
        self.end(&reason);
        let rest = std::mem::take(&mut self.state.lock().out);
        // The connection is given up either way.
        let _ = timeout(FAREWELL, write.write_all(&rest)).await;
        reason
    }

    fn end(&self, reason: &Arc<str>) {
        self.ended.store(true, Ordering::Release);
        let calls = {
            let mut state = self.state.lock();
            state.ended = Some(reason.clone());
            std::mem::take(&mut state.calls)
        };
        self.room.notify_waiters();
        for reply in calls.into_values().filter_map(|waiting| waiting.reply) {
            let _ = reply.send(Err(CallError::Lost(reason.clone())));
        }
    }

    async fn reading(&self, read: &mut (impl AsyncRead + Unpin), frames: &mut Frames) -> String {
        let mut assembler = Assembler::new(MAX_MESSAGE);
        loop {
            match frames.frame() {
                Err(error) => return format!("namerd speaks no mux: {error}"),
                Ok(Some(frame)) => match assembler.accept(&frame) {
                    Err(error) => return format!("namerd speaks no mux: {error}"),
                    Ok(None) => {}
                    Ok(Some(message)) => {
                        if let Err(reason) = self.take(message) {
                            return reason;
                        }
                    }
                },
                Ok(None) => match read.read_buf(frames.buffer()).await {
                    Ok(0) => return "namerd has closed the connection".to_owned(),
                    Ok(_) => {}
                    Err(error) => return format!("the connection to namerd has broken: {error}"),
                },
            }
        }
    }

    /// Errors with the reason why the link ends.
    fn take(&self, message: Message) -> Result<(), String> {
        match message {
            Message::Rdispatch(tag, status::OK, body) | Message::Rreq(tag, status::OK, body) => {
                self.finish(tag, Ok(body));
            }
            Message::Rdispatch(tag, status::NACK, _) | Message::Rreq(tag, status::NACK, _) => {
                self.finish(tag, Err(CallError::Refused("namerd takes no calls now".into())));
            }
            Message::Rdispatch(tag, _, body) | Message::Rreq(tag, _, body) => {
                let text = String::from_utf8_lossy(&body).into_owned();
                self.finish(tag, Err(CallError::Refused(text)));
            }
            Message::Rerr(tag, text) => self.finish(tag, Err(CallError::Refused(text))),
            Message::Rdiscarded(tag) => self.finish(tag, Err(CallError::Refused("namerd dropped the call".into()))),
            Message::Tping(tag) => {
                self.say(&Message::Rping(tag));
                if self.state.lock().out.len() > MAX_UNSENT {
                    return Err("namerd does not read the answers to its pings".into());
                }
            }
            Message::Rping(_) => self.pong.notify_one(),
            Message::Tdrain(tag) => {
                self.say(&Message::Rdrain(tag));
                return Err("namerd is about to end".into());
            }
            Message::Tlease | Message::Rdrain(_) | Message::Rinit(..) => {}
            other => return Err(format!("namerd has sent what only clients send: {other:?}")),
        }
        Ok(())
    }

    async fn writing(&self, write: &mut (impl AsyncWrite + Unpin)) -> String {
        loop {
            let out = std::mem::take(&mut self.state.lock().out);
            if out.is_empty() {
                self.unsent.notified().await;
                continue;
            }
            self.room.notify_waiters();
            let written = async {
                write.write_all(&out).await?;
                write.flush().await
            };
            if let Err(error) = written.await {
                return format!("the connection to namerd has broken: {error}");
            }
        }
    }

    async fn pinging(&self, pings: &Pings) -> String {
        loop {
            sleep(pings.every).await;
            self.say(&Message::Tping(mux::CONTROL_TAG));
            if timeout(pings.timeout, self.pong.notified()).await.is_err() {
                return format!("namerd has not answered a ping within {:?}", pings.timeout);
            }
        }
    }
}

impl State {
    /// A tag without a call. There is one: there are more tags than calls.
    fn free_tag(&mut self) -> u32 {
        loop {
            let tag = self.next;
            self.next = if tag == mux::LAST_TAG { mux::FIRST_TAG } else { tag + 1 };
            if !self.calls.contains_key(&tag) {
                return tag;
            }
        }
    }
}

/// The connection under a link.
pub(super) struct Driven {
    io: Box<dyn Io>,
    frames: Frames,
    pings: Pings,
}

impl Driven {
    /// Asks whether namerd knows `Tinit`, and if so says it. One that does not is spoken to as it is.
    async fn shake_hands(&mut self) -> Result<(), String> {
        let first = self.ask(&Message::Rerr(mux::CONTROL_TAG, mux::PROBE.to_owned())).await?;
        if first != Message::Rerr(mux::CONTROL_TAG, mux::PROBE.to_owned()) {
            return Ok(());
        }
        match self.ask(&Message::Tinit(mux::CONTROL_TAG, mux::VERSION)).await? {
            Message::Rinit(_, mux::VERSION) => Ok(()),
            Message::Rerr(_, text) => Err(format!("namerd refuses the handshake: {text}")),
            other => Err(format!("namerd answers the handshake with {other:?}")),
        }
    }

    async fn ask(&mut self, message: &Message) -> Result<Message, String> {
        let broken = |error: std::io::Error| format!("the connection has broken in the handshake: {error}");
        self.io.write_all(&message.frame()).await.map_err(broken)?;
        self.io.flush().await.map_err(broken)?;
        loop {
            if let Some(frame) = self.frames.frame().map_err(|error| error.to_string())? {
                let message = Assembler::new(0).accept(&frame).map_err(|error| error.to_string())?;
                return message.ok_or_else(|| "a fragment is no part of a handshake".to_owned());
            }
            if self.io.read_buf(self.frames.buffer()).await.map_err(broken)? == 0 {
                return Err("the connection was closed in the handshake".to_owned());
            }
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
