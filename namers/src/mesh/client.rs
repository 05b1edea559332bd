//! [`MeshClient`]: one namespace of a namerd by the Mesh API.
//!
//! All names of a router share a connection. A stream that has worked for a while and is cut off moves to another replica
//! at once, by a short random pause; one that fails sooner is an error, after which the watch table waits longer and
//! longer. Called by the remote interpreter. Not for: last-known-good values, sharing of names.

use super::calls::{self, Bind, Delegate};
use super::connection::{Call, Connections};
use super::frame::{Budget, Frames};
use super::status::{Status, code};
use super::{WireError, paths};
use crate::remote::peers::Peers;
use crate::remote::{RemoteNames, TokenSource};
use crate::watch::{SourceError, Val, Watched};
use bytes::Bytes;
use dtab::{Addr, BoundName, BoxFuture, DelegateTree, Dtab, NameTree, Path};
use h2::RecvStream;
use http::StatusCode;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A message may have so many bytes.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// Unfinished messages of all streams together.
const MAX_GATHERED: usize = 64 * 1024 * 1024;
/// A stream that has lasted so long may be begun again without a back-off.
const STEADY: Duration = Duration::from_secs(5);
/// The pause before that is random, up to so long, for the sake of the replica that everybody moves to.
const SPREAD: Duration = Duration::from_millis(500);

/// Numbers of a client, and what it shows.
#[derive(Clone)]
pub struct MeshOptions {
    /// A ping is sent so often: `failureThreshold.minPeriodMs`, default 5 s.
    pub ping_every: Duration,
    /// A connection whose ping is not answered for so long is given up: `failureThreshold.closeTimeoutMs`, default 6 s.
    pub close_timeout: Duration,
    /// Flow-control window of a stream in bytes: `initialStreamWindowSizeKB` × 1024, default 10 MiB, less than 2 GiB.
    pub window: u32,
    /// The bearer token, for a namerd with access rules. Default none.
    pub token: Option<TokenSource>,
}

impl Default for MeshOptions {
    fn default() -> MeshOptions {
        MeshOptions {
            ping_every: Duration::from_secs(5),
            close_timeout: Duration::from_secs(6),
            window: 10 * 1024 * 1024,
            token: None,
        }
    }
}

/// See the module; cloning shares the connections.
#[derive(Clone)]
pub struct MeshClient {
    connections: Arc<Connections>,
    root: Path,
    budget: Budget,
}

impl MeshClient {
    /// A client of the namespace `root`, a path of one label such as `/default`, at `peers`.
    pub fn new(peers: Peers, root: Path, options: MeshOptions) -> MeshClient {
        let connections = Arc::new(Connections::new(peers, options));
        MeshClient { connections, root, budget: Budget::new(MAX_GATHERED) }
    }

    /// Gives every message of a streaming call to `each`, until that fails or the call cannot go on. Its second argument is
    /// true until it has said by true that it has seen a value on this stream: another replica may know less than the last.
    async fn follow<F>(&self, path: &str, request: Bytes, each: F) -> Result<(), SourceError>
    where
        F: Fn(Bytes, bool) -> Result<bool, WireError>,
    {
        loop {
            let begun = Instant::now();
            let mut stream = Stream::begin(self, path, &request).await.map_err(SourceError)?;
            let (mut messages, mut first) = (0_u64, true);
            let end = loop {
                match stream.next().await {
                    Ok(message) => {
                        let seen = each(message, first).map_err(|error| SourceError(stream.call.problem(&error)))?;
                        first &= !seen;
                    }
                    Err(end) => break end,
                }
                messages += 1;
            };
            let steady = messages > 0 && begun.elapsed() >= STEADY;
            if !steady || stream.refused {
                return Err(SourceError(end));
            }
            drop(stream);
            tracing::debug!("{end}; going on elsewhere");
            sleep(SPREAD.mul_f64(fastrand::f64())).await;
        }
    }
}

/// Reports a value; the first one of a stream as that of another namerd.
fn report<T: Val>(out: &Watched<T>, value: T, first: bool) {
    match first {
        true => out.ok_anew(value),
        false => out.ok(value),
    }
}

/// The response of a call, message by message.
struct Stream {
    call: Call,
    body: Option<RecvStream>,
    /// The status of a response that has no body.
    ended: Option<Status>,
    frames: Frames,
    /// The peer has said why it ends, and another replica would say the same.
    refused: bool,
}

impl Stream {
    async fn begin(client: &MeshClient, path: &str, request: &Bytes) -> Result<Stream, String> {
        let mut call = client.connections.call(path, request).await?;
        let (head, body) = client.connections.response(&mut call).await?.into_parts();
        let ended = Status::of(&head.headers);
        // Linkerd 1 answers what it does not know with 400, and says more in the trailers.
        if !matches!(head.status, StatusCode::OK | StatusCode::BAD_REQUEST) && ended.is_none() {
            return Err(call.problem(&format!("HTTP status {}: is this a Mesh API?", head.status)));
        }
        let frames = Frames::new(MAX_MESSAGE, client.budget.clone());
        Ok(Stream { call, body: Some(body), ended, frames, refused: false })
    }

    /// The next message. The error says how the call ended.
    async fn next(&mut self) -> Result<Bytes, String> {
        loop {
            match self.frames.message() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) => return Err(self.call.problem(&error)),
            }
            let Some(body) = self.body.as_mut().filter(|_| self.ended.is_none()) else { return Err(self.end().await) };
            match poll_fn(|cx| body.poll_data(cx)).await {
                None => return Err(self.end().await),
                Some(Err(error)) => return Err(self.call.problem(&error)),
                Some(Ok(data)) => {
                    let taken = self.frames.push(&data);
                    let released = body.flow_control().release_capacity(data.len());
                    taken.map_err(|error| self.call.problem(&error))?;
                    released.map_err(|error| self.call.problem(&error))?;
                }
            }
        }
    }

    /// How the call ended: its status, in the head or in the trailers, if it has one.
    async fn end(&mut self) -> String {
        let mut status = self.ended.take();
        if let (None, Some(body)) = (&status, &mut self.body) {
            let trailers = poll_fn(|cx| body.poll_trailers(cx)).await;
            match trailers {
                Ok(trailers) => status = trailers.as_ref().and_then(Status::of),
                Err(error) => return self.call.problem(&error),
            }
        }
        match status {
            None => self.call.problem(&"the stream ended without a status"),
            Some(Status { code: code::OK, .. }) => self.call.problem(&"the stream ended"),
            Some(status) => {
                self.refused = status.code != code::UNAVAILABLE;
                self.call.problem(&status)
            }
        }
    }
}

impl RemoteNames for MeshClient {
    fn follow_tree(
        &self,
        dtab: Dtab,
        path: Path,
        out: Watched<NameTree<BoundName>>,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        let client = self.clone();
        let request = Bind { root: Some(self.root.clone()), name: Some(path), dtab }.write();
        Box::pin(async move {
            let each = |message, first| {
                report(&out, calls::read_tree(message)?, first);
                Ok(true)
            };
            client.follow(paths::STREAM_BOUND_TREE, request, each).await
        })
    }

    fn follow_addr(&self, id: Path, out: Watched<Addr>) -> BoxFuture<'static, Result<(), SourceError>> {
        let client = self.clone();
        Box::pin(async move {
            let each = |message, first| {
                match calls::read_addr(message)? {
                    // Nothing is known yet: what was known before stays.
                    Addr::Pending => return Ok(false),
                    Addr::Failed(reason) => out.failed(&reason),
                    addr => report(&out, addr, first),
                }
                Ok(true)
            };
            client.follow(paths::STREAM_REPLICAS, calls::write_id(&id), each).await
        })
    }

    fn explain(&self, dtab: Dtab, path: Path) -> BoxFuture<'_, Result<DelegateTree, String>> {
        let request = Delegate { root: Some(self.root.clone()), tree: Some(NameTree::Leaf(path)), dtab }.write();
        Box::pin(async move {
            let mut stream = Stream::begin(self, paths::GET_DELEGATE_TREE, &request).await?;
            let message = stream.next().await?;
            calls::read_delegation(message).map_err(|error| stream.call.problem(&error))
        })
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
