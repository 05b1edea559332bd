//! The response of a call: its messages at the pace of the client, and its status.
//!
//! A message is made when flow control has room for it, is handed over piece by piece as the window opens, and counts
//! against what all streams of the connection may have under way. Called by `call`.

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{Response, StatusCode};
use namers::mesh::CONTENT_TYPE;
use namers::mesh::frame::Budget;
use namers::mesh::status::Status;
use std::future::poll_fn;
use std::time::Duration;
use tokio::time::timeout;

/// A client that has taken a part of a message may take so long for the next part.
const STALL: Duration = Duration::from_secs(60);
/// Bytes under way on one connection: a larger message counts as so many.
pub(super) const MAX_UNDER_WAY: usize = 8 * 1024 * 1024;

/// The client has given up the stream, or takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Gone {
        Gone
    }
}

/// A response whose head is sent.
pub(super) struct Reply {
    stream: SendStream<Bytes>,
    budget: Budget,
}

impl Reply {
    pub(super) fn begin(respond: &mut SendResponse<Bytes>, status: StatusCode, budget: Budget) -> Result<Reply, Gone> {
        let head = Response::builder().status(status).header("content-type", CONTENT_TYPE).body(());
        let stream = respond.send_response(head.map_err(|_| Gone)?, false)?;
        Ok(Reply { stream, budget })
    }

    /// Waits until the client takes at least a byte.
    pub(super) async fn room(&mut self) -> Result<(), Gone> {
        self.stream.reserve_capacity(1);
        self.capacity().await.map(|_| ())
    }

    async fn capacity(&mut self) -> Result<usize, Gone> {
        loop {
            let now = self.stream.capacity();
            if now > 0 {
                return Ok(now);
            }
            match poll_fn(|cx| self.stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Gone),
            }
        }
    }

    /// Sends what `make` makes; it is called a second time when the first result had to wait for other messages.
    pub(super) async fn message(&mut self, mut make: impl FnMut() -> Bytes) -> Result<(), Gone> {
        let mut frame = make();
        let counted = frame.len().min(MAX_UNDER_WAY);
        let _room = match self.budget.take(counted) {
            Some(room) => room,
            None => {
                drop(frame);
                let room = self.budget.clone();
                let room = self.unless_gone(room.wait(counted)).await?.ok_or(Gone)?;
                frame = make();
                room
            }
        };
        while !frame.is_empty() {
            self.stream.reserve_capacity(frame.len());
            let Ok(capacity) = timeout(STALL, self.capacity()).await else {
                self.stream.send_reset(Reason::CANCEL);
                return Err(Gone);
            };
            let part = frame.split_to(capacity?.min(frame.len()));
            self.stream.send_data(part, false)?;
        }
        Ok(())
    }

    /// What `future` gives, unless the client leaves first.
    pub(super) async fn unless_gone<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Gone> {
        tokio::select! {
            value = future => Ok(value),
            _ = poll_fn(|cx| self.stream.poll_reset(cx)) => Err(Gone),
        }
    }

    /// Ends the response.
    pub(super) fn end(mut self, status: &Status) -> Result<(), Gone> {
        Ok(self.stream.send_trailers(status.headers())?)
    }
}
