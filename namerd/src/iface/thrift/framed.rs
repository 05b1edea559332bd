//! A connection that speaks framed thrift without mux: one call after the other (namerd reference §4.3, downgrade).
//!
//! A client that first calls `__can__finagle__trace__v3__` has a header before each later message. Called by the interface.
//! Not for: mux.

use super::calls::{Asking, Begun};
use super::output::write_all;
use super::{DRAIN, Input, closes};
use crate::iface::Closing;
use bytes::BytesMut;
use namers::thrift::binary::WireError;
use namers::thrift::call;
use std::collections::VecDeque;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until, timeout};

/// Calls that a client may send before it has the reply to the first.
const MAX_AHEAD: usize = 16;
const TOO_MANY: &str = "too many calls wait in this namerd";

/// Serves the connection to its end. Errors when the client is cut off for what it says.
pub(super) async fn serve<R: AsyncRead + Unpin>(
    calls: Asking,
    room: &Semaphore,
    input: Input<R>,
    mut write: impl AsyncWrite + Unpin,
    closing: Closing,
) -> Result<(), WireError> {
    let ended = converse(calls, room, input, &mut write, closing).await;
    // The client may be gone already.
    let _ = timeout(DRAIN, write.shutdown()).await;
    ended
}

async fn converse<R: AsyncRead + Unpin>(
    calls: Asking,
    room: &Semaphore,
    mut input: Input<R>,
    write: &mut (impl AsyncWrite + Unpin),
    mut closing: Closing,
) -> Result<(), WireError> {
    let mut ahead = VecDeque::from([std::mem::take(&mut input.first)]);
    // More may have come with the first frame.
    queue(&mut input, &mut ahead)?;
    let mut headers = false;
    let mut until = None;
    loop {
        let mut current = match ahead.pop_front() {
            Some(frame) => match upgrade(&frame, headers) {
                Some(reply) => {
                    headers = true;
                    if write_all(write, &framed(&[], &reply)).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                None => Some(begin(&calls, room, &frame, headers)?),
            },
            None => None,
        };
        let mut idle = current.is_none();
        while idle || current.is_some() {
            if until.is_some() && !current.as_ref().is_some_and(|(begun, _)| begun.is_finite()) {
                return Ok(());
            }
            tokio::select! {
                () = ready(&mut current) => {
                    if let Some((begun, _place)) = current.take()
                        && !begun.oneway
                    {
                        let header = if headers { call::REPLY_HEADER } else { &[] };
                        if write_all(write, &framed(header, &begun.reply())).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                read = input.read.read_buf(input.frames.buffer()) => {
                    if read.unwrap_or(0) == 0 {
                        return Ok(());
                    }
                    queue(&mut input, &mut ahead)?;
                    idle = false;
                }
                () = closes(&mut closing), if until.is_none() => until = Some(Instant::now() + DRAIN),
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return Ok(()),
            }
        }
    }
}

/// The frames that were read, to be answered in order.
fn queue<R>(input: &mut Input<R>, ahead: &mut VecDeque<BytesMut>) -> Result<(), WireError> {
    while let Some(frame) = input.frames.frame()? {
        ahead.push_back(frame);
        if ahead.len() > MAX_AHEAD {
            return Err(WireError::malformed(format!("more than {MAX_AHEAD} calls wait for the reply to another")));
        }
    }
    Ok(())
}

/// The reply to the question whether headers are understood; None for any other message.
fn upgrade(frame: &[u8], headers: bool) -> Option<Vec<u8>> {
    let asked = call::read_call(frame).ok().filter(|asked| !headers && asked.head.method == call::UPGRADE)?;
    Some(call::upgraded(&asked.head))
}

fn begin<'a>(
    calls: &Asking,
    room: &'a Semaphore,
    frame: &[u8],
    headers: bool,
) -> Result<(Begun, Option<SemaphorePermit<'a>>), WireError> {
    let message = if headers { call::behind_header(frame)? } else { frame };
    let begun = calls.begin(message)?;
    Ok(match room.try_acquire() {
        Ok(place) => (begun, Some(place)),
        Err(_) => (begun.refused(TOO_MANY), None),
    })
}

/// Waits until the call has a reply; for ever when there is none.
async fn ready(current: &mut Option<(Begun, Option<SemaphorePermit<'_>>)>) {
    match current {
        Some((begun, _)) => begun.ready().await,
        None => std::future::pending().await,
    }
}

fn framed(header: &[u8], message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(header.len() + message.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), header, message].concat()
}
