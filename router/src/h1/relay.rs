//! Moving bodies between two connections: request body up while the response comes down, with back-pressure both ways.
//!
//! At most [`HIGH_WATER`] bytes wait to be written on either side; nothing more is read from the other side then.

use crate::clock;
use crate::error::{Kind, RouteError};
use crate::stream::Stream;
use crate::timer::{NEVER, Slot};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use http1::{BodyDecoder, BodyEncoder, BodyFrame, BodyLength, Conn, HeadError, Limits, ResponseHead};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

/// Bytes that may wait to be written before reading pauses.
const HIGH_WATER: usize = 64 * 1024;
/// Bodies up to this size are not "chunked" in the sense of Linkerd 1 (`streamAfterContentLengthKB`).
pub(crate) const BUFFERED_BYTES: u64 = 5 * 1024;
/// A request body up to this size, in at most [`REPLAY_CHUNKS`] pieces, is kept until the response begins, so that it
/// can be sent again.
const REPLAY_BYTES: usize = 64 * 1024;
const REPLAY_CHUNKS: usize = 64;
/// A peer that takes or gives nothing for so long, while all waits for it, is given up (attack H1-16).
pub(crate) const STALL: Duration = Duration::from_secs(60);

/// Appends raw header lines to a head that `out` ends with.
pub(crate) fn append_fields(out: &mut BytesMut, fields: &[u8]) {
    out.truncate(out.len() - 2);
    out.extend_from_slice(fields);
    out.extend_from_slice(b"\r\n");
}

/// The body of a request on its way up, over all attempts.
pub(crate) struct RequestBody {
    pub(crate) length: BodyLength,
    decoder: BodyDecoder,
    encoder: BodyEncoder,
    /// What was read so far, for another attempt; None once it is too much.
    replay: Option<Vec<Bytes>>,
    replay_bytes: usize,
    trailers: Option<HeaderMap>,
    /// All of it was read from the client.
    pub(crate) read: bool,
    /// All of it, end mark included, is queued to the upstream of this attempt.
    queued: bool,
    /// The upstream takes no more; its answer may still come.
    refused: bool,
}

/// Why the request could not be sent or answered.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The client's body broke off or was not HTTP.
    Downstream(RouteError),
    /// The client hung up.
    ClientGone,
    /// The upstream closed or reset without an answer.
    Closed(String),
    /// The upstream's TLS ended the connection, with a word about why.
    Tls(tls::HandshakeError),
    /// The upstream's answer is not HTTP.
    Framing(HeadError),
}

impl RequestBody {
    /// A body of this length; what was read of it is kept only when `replay` says that it may be sent again.
    pub(crate) fn new(length: BodyLength, replay: bool) -> RequestBody {
        RequestBody {
            length,
            decoder: BodyDecoder::new(length),
            encoder: BodyEncoder::for_request(length),
            replay: (replay || length.is_empty()).then(Vec::new),
            replay_bytes: 0,
            trailers: None,
            read: length.is_empty(),
            queued: false,
            refused: false,
        }
    }

    /// True when another attempt can send the same body.
    pub(crate) fn can_replay(&self) -> bool {
        self.replay.is_some()
    }

    /// True for bodies that Linkerd 1 calls chunked: they are never retried by class (data-plane reference §11.1).
    pub(crate) fn is_streamed(&self) -> bool {
        !matches!(self.length, BodyLength::Empty | BodyLength::Length(0..=BUFFERED_BYTES))
    }

    /// Starts an attempt: queues again what was read already.
    pub(crate) fn begin(&mut self, up: &mut Conn<Stream>) -> Result<(), RouteError> {
        self.encoder = BodyEncoder::for_request(self.length);
        self.queued = false;
        self.refused = false;
        for chunk in self.replay.iter().flatten() {
            up.queue_body(&mut self.encoder, chunk.clone()).map_err(broken)?;
        }
        if self.read { self.finish(up) } else { Ok(()) }
    }

    fn finish(&mut self, up: &mut Conn<Stream>) -> Result<(), RouteError> {
        self.queued = true;
        self.encoder.finish(self.trailers.as_ref(), up.out()).map_err(broken)
    }

    fn keep(&mut self, chunk: &Bytes) {
        self.replay_bytes += chunk.len();
        match &mut self.replay {
            Some(kept) if self.replay_bytes <= REPLAY_BYTES && kept.len() < REPLAY_CHUNKS => kept.push(chunk.clone()),
            _ => self.replay = None,
        }
    }

    /// Lets go of what was kept: from the first byte of the response on, nothing is sent again.
    pub(crate) fn forget(&mut self) {
        self.replay = None;
    }

    /// Moves body bytes up as far as they go without waiting.
    fn poll_up(
        &mut self,
        down: &mut Conn<Stream>,
        up: &mut Conn<Stream>,
        cx: &mut Context<'_>,
    ) -> Result<(), SendError> {
        while !self.refused {
            // A full queue that drains now must lead to another read: nobody else would wake this task.
            let mut moved = !self.queued && up.pending_out() >= HIGH_WATER;
            while !self.queued && up.pending_out() < HIGH_WATER {
                match down.poll_body(cx, &mut self.decoder) {
                    Poll::Pending => break,
                    Poll::Ready(frame) => self.take(frame, up)?,
                }
                moved = true;
            }
            match up.poll_flush(cx) {
                Poll::Ready(Ok(())) if moved => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => self.refused = true,
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        frame: Result<Option<BodyFrame>, http1::BodyError>,
        up: &mut Conn<Stream>,
    ) -> Result<(), SendError> {
        let done = match frame {
            Err(error) => {
                if !matches!(error, http1::BodyError::Io(_) | http1::BodyError::Truncated) {
                    metrics::counter!("rejected_total", "reason" => error.reason()).increment(1);
                }
                let text = format!("the request body broke off: {error}");
                return Err(SendError::Downstream(RouteError::new(Kind::DownstreamBody, text)));
            }
            Ok(Some(BodyFrame::Data(chunk))) => {
                self.keep(&chunk);
                up.queue_body(&mut self.encoder, chunk).map_err(broken)
            }
            Ok(Some(BodyFrame::Trailers(trailers))) => {
                self.trailers = Some(trailers);
                self.read = true;
                self.finish(up)
            }
            Ok(None) => {
                self.read = true;
                self.finish(up)
            }
        };
        done.map_err(SendError::Downstream)
    }

    /// Sends the request and waits for the next response head, 1xx ones included. `due` is the caller's limit; while
    /// the request body is under way, a peer that stalls makes `slot` due earlier.
    pub(crate) async fn exchange(
        &mut self,
        down: &mut Conn<Stream>,
        up: &mut Conn<Stream>,
        expected: (&Limits, &Method, &mut HeaderMap),
        (slot, due): (&Slot, u64),
    ) -> Result<ResponseHead, SendError> {
        let (limits, method, recycled) = expected;
        poll_fn(|cx| {
            let whole = self.read && up.pending_out() == 0;
            self.poll_up(down, up, cx)?;
            if !(self.read && up.pending_out() == 0) {
                slot.set(due.min(clock::now() + clock::nanos(STALL)));
            } else if !whole {
                slot.set(due);
            }
            match up.poll_response(cx, limits, method, recycled) {
                Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(head_error(error))),
                Poll::Pending => {}
            }
            if self.read && down.poll_hangup(cx).is_ready() {
                return Poll::Ready(Err(SendError::ClientGone));
            }
            Poll::Pending
        })
        .await
    }
}

fn head_error(error: HeadError) -> SendError {
    match error {
        HeadError::Closed => SendError::Closed("the connection was closed before a response".to_owned()),
        HeadError::Io(error) => match tls::HandshakeError::of_established(&error) {
            Some(said) => SendError::Tls(said),
            None => SendError::Closed(error.to_string()),
        },
        other => SendError::Framing(other),
    }
}

/// The encoder refuses more or fewer bytes than were announced; the decoder before it has checked that.
fn broken(error: http1::EncodeError) -> RouteError {
    RouteError::new(Kind::DownstreamBody, format!("the request body does not fit its length: {error}"))
}

/// How the relay of a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// Both bodies are complete.
    Whole,
    /// The response is complete, the request body is not: neither connection can be used again.
    ResponseOnly,
    /// The upstream broke off; the client must notice.
    UpstreamBroke,
    /// The client is gone.
    ClientGone,
}

/// Moves the response body down, and what is left of the request body up, until the response is complete. A client
/// that takes nothing makes `slot` due.
pub(crate) async fn relay(
    down: &mut Conn<Stream>,
    up: &mut Conn<Stream>,
    request: &mut RequestBody,
    (from, to): (BodyLength, BodyLength),
    slot: &Slot,
) -> Relayed {
    let mut response = ResponseBody { decoder: BodyDecoder::new(from), encoder: BodyEncoder::new(to), read: false };
    let relaying = poll_fn(|cx| {
        let sent = request.queued && up.pending_out() == 0;
        if !sent && request.poll_up(down, up, cx).is_err() {
            return Poll::Ready(Relayed::ClientGone);
        }
        if let Poll::Ready(ended) = response.poll_down(down, up, cx) {
            let whole = request.queued && !request.refused && up.pending_out() == 0;
            return Poll::Ready(if ended == Relayed::Whole && !whole { Relayed::ResponseOnly } else { ended });
        }
        let blocked = down.pending_out() > 0;
        slot.set(if blocked { clock::now() + clock::nanos(STALL) } else { NEVER });
        // A client that waits for a stream and goes away would otherwise be noticed with the next write only.
        if !blocked && request.read && down.poll_hangup(cx).is_ready() {
            return Poll::Ready(Relayed::ClientGone);
        }
        Poll::Pending
    });
    slot.run(relaying).await.unwrap_or(Relayed::ClientGone)
}

/// The body of a response on its way down.
struct ResponseBody {
    decoder: BodyDecoder,
    encoder: BodyEncoder,
    /// All of it was read from the upstream.
    read: bool,
}

impl ResponseBody {
    /// Moves body bytes down as far as they go without waiting; ready at the end.
    fn poll_down(&mut self, down: &mut Conn<Stream>, up: &mut Conn<Stream>, cx: &mut Context<'_>) -> Poll<Relayed> {
        loop {
            // As in `poll_up`.
            let mut moved = !self.read && down.pending_out() >= HIGH_WATER;
            while !self.read && down.pending_out() < HIGH_WATER {
                match up.poll_body(cx, &mut self.decoder) {
                    Poll::Pending => break,
                    Poll::Ready(Err(_)) => return Poll::Ready(Relayed::UpstreamBroke),
                    Poll::Ready(Ok(frame)) => match queue_down(down, &mut self.encoder, frame) {
                        Ok(ended) => self.read = ended,
                        Err(_) => return Poll::Ready(Relayed::UpstreamBroke),
                    },
                }
                moved = true;
            }
            match down.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Relayed::ClientGone),
                Poll::Ready(Ok(())) if self.read => return Poll::Ready(Relayed::Whole),
                Poll::Ready(Ok(())) if moved => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Queues one piece of the response; true at its end.
fn queue_down(
    down: &mut Conn<Stream>,
    encoder: &mut BodyEncoder,
    frame: Option<BodyFrame>,
) -> Result<bool, http1::EncodeError> {
    match frame {
        Some(BodyFrame::Data(chunk)) => down.queue_body(encoder, chunk).map(|()| false),
        Some(BodyFrame::Trailers(trailers)) => encoder.finish(Some(&trailers), down.out()).map(|()| true),
        None => encoder.finish(None, down.out()).map(|()| true),
    }
}
