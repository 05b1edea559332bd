//! [`Standing`]: whether the caller of a stream keeps the right that the stream began with.
//!
//! A request is judged by the files of tokens as they are at that moment. A stream lasts: one task looks at these files
//! every second, for all streams, and each stream is judged again when they have changed. Only a token can be taken away
//! while namerd runs: policies and certificates of connections stay. Called by interfaces with streams. Not for: the
//! beginning of a stream, and what its client is told at the end.

use super::{Access, AccessParams, Caller, Denied};
use crate::iface::Peer;
use setup::tokens::TokenFile;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// The files are looked at so often.
pub const LOOK: Duration = Duration::from_secs(1);

/// The tokens of a policy, in its order; None where a file cannot be used.
pub(super) type Tokens = Arc<[Option<String>]>;

/// What a stream needs of its caller, for as long as it lasts.
#[derive(Debug, Clone)]
pub enum Needs {
    /// That anything may be read.
    Something,
    /// That this namespace may be read.
    Namespace(String),
    /// Exactly the rules that this caller has: what is shown depends on them.
    RulesOf(Caller),
}

impl Needs {
    fn judge(&self, now: &Caller) -> Result<(), Denied> {
        match self {
            Needs::Something => now.may_read_something(),
            Needs::Namespace(namespace) => now.may_read(namespace),
            Needs::RulesOf(before) if before.rules == now.rules => Ok(()),
            Needs::RulesOf(_) => Err(Denied::Forbidden("the rights of this caller have changed; ask again".into())),
        }
    }
}

/// What the files said, of two looks in a row: whoever replaces a file by writing into it is not met in the middle.
#[derive(Debug, Clone)]
pub(super) struct Look {
    tokens: watch::Receiver<Tokens>,
    every: Duration,
}

impl Look {
    /// Begins to look, on `handle`, until nobody holds the result. None when the policy has no tokens.
    pub(super) fn begin(policy: &AccessParams, every: Duration, handle: &Handle) -> Option<Look> {
        let files: Arc<[TokenFile]> = policy.tokens.iter().map(|token| token.file.clone()).collect();
        if files.is_empty() {
            return None;
        }
        let (publish, tokens) = watch::channel(read(&files));
        handle.spawn(follow(files, publish, every));
        Some(Look { tokens, every })
    }
}

fn read(files: &[TokenFile]) -> Tokens {
    files.iter().map(TokenFile::token).collect()
}

async fn follow(files: Arc<[TokenFile]>, publish: watch::Sender<Tokens>, every: Duration) {
    let mut last = publish.borrow().clone();
    loop {
        tokio::select! {
            () = sleep(every) => {}
            () = publish.closed() => return,
        }
        let looked = files.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || read(&looked)).await else { continue };
        if now == last && *publish.borrow() != now {
            tracing::info!("tokens in files have changed: streams of callers that have lost their rights end");
            publish.send_replace(now.clone());
        }
        last = now;
    }
}

/// See the module.
pub struct Standing {
    /// None when nothing can be taken away.
    held: Option<Box<Held>>,
}

struct Held {
    access: Access,
    peer: Peer,
    token: Vec<u8>,
    needs: Needs,
    look: Look,
    /// What changed between the judgement that began the stream and the first look is seen then.
    first: Option<Instant>,
}

impl Standing {
    /// Of a caller that was let in just now with this token, if it has shown one.
    pub(super) fn new(access: &Access, peer: &Peer, token: Option<&[u8]>, needs: Needs) -> Standing {
        let held = token.zip(access.look.as_ref()).map(|(token, look)| {
            Box::new(Held {
                access: access.clone(),
                peer: peer.clone(),
                token: token.to_vec(),
                needs,
                look: look.clone(),
                first: Some(Instant::now() + look.every * 3),
            })
        });
        Standing { held }
    }

    /// Waits until the right is lost, and says why. May be dropped and called again.
    pub async fn lost(&mut self) -> Denied {
        let Some(held) = &mut self.held else { return std::future::pending().await };
        loop {
            held.may_differ().await;
            if let Err(denied) = held.judge() {
                return denied;
            }
        }
    }
}

impl Held {
    /// Waits until there is a reason to judge.
    async fn may_differ(&mut self) {
        let first = self.first;
        let due = async move {
            match first {
                Some(first) => sleep_until(first).await,
                None => std::future::pending().await,
            }
        };
        let gone = tokio::select! {
            () = due => {
                self.first = None;
                return;
            }
            changed = self.look.tokens.changed() => changed.is_err(),
        };
        if gone {
            // The runtime is ending.
            std::future::pending().await
        }
    }

    /// By what was seen last; who is not let in by that is judged like a new request.
    fn judge(&self) -> Result<(), Denied> {
        let seen = self.look.tokens.borrow().clone();
        let known =
            |at: usize| seen.get(at).and_then(Option::as_ref).is_some_and(|token| token.as_bytes() == self.token);
        let by_look = self.access.caller_by(&self.peer, |at, _| known(at));
        if by_look.is_ok_and(|caller| self.needs.judge(&caller).is_ok()) {
            return Ok(());
        }
        self.needs.judge(&self.access.caller(&self.peer, Some(&self.token))?)
    }
}
