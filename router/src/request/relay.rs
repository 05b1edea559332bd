//! Moving bodies between two connections: request body up while the response comes down, with back-pressure both ways.
//!
//! At most [`HIGH_WATER`] bytes wait to be written on either side; nothing more is read from the other side then.

use super::begun::Begun;
use super::compress::Compressor;
use super::prepare::too_large;
use super::replay::Replay;
use super::stall::{Stalls, from_now};
use super::{Down, Up};
use crate::classify::{self, Verdict};
use crate::clock;
use crate::config::{Classifier, LimitParams};
use crate::context::remove_l5d;
use crate::error::{Kind, RouteError};
use crate::timer::{NEVER, Slot};
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http1::{BodyDecoder, BodyEncoder, BodyError, BodyFrame, BodyLength, HeadError, Limits, ResponseHead};
use std::future::poll_fn;
use std::task::{Context, Poll};
use telemetry::{BodyStats, OpenStream};

/// Bytes that may wait to be written before reading pauses.
pub(crate) const HIGH_WATER: usize = 64 * 1024;
/// What is wrong with an answer that the codec of HTTP/2 has refused; it does not say more.
const MALFORMED: &str = "malformed HTTP/2 message";
/// How far clocks of a call may be apart.
const MOMENT: u64 = 5_000_000;
const SUCCESS_CLASS: HeaderName = HeaderName::from_static("l5d-success-class");
/// While nothing more can be read of a client's body, its connection is looked at so often, in nanoseconds.
const LOOK: u64 = 50_000_000;
/// Bytes that are compressed before others have their turn: a few milliseconds of work.
const COMPRESS_BYTES: u64 = 128 * 1024;

/// Whether Linkerd 1 would stream a body: one that is chunked, or larger than `streamAfterContentLengthKB`.
pub(crate) fn is_streamed(length: BodyLength, buffered: u64) -> bool {
    match length {
        BodyLength::Empty => false,
        BodyLength::Length(bytes) => bytes > buffered,
        BodyLength::Chunked | BodyLength::UntilClose => true,
    }
}

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
    /// What was read so far, for another attempt.
    replay: Replay,
    /// Bytes that it may have.
    most: u64,
    trailers: Option<HeaderMap>,
    /// All of it was read from the client.
    pub(crate) read: bool,
    /// All of it, end mark included, is queued to the upstream of this attempt.
    queued: bool,
    /// The upstream takes no more; its answer may still come.
    refused: bool,
    /// Bytes that were read from the client, without framing.
    pub(crate) received: u64,
    /// When that was, of one that has a body.
    read_at: Option<u64>,
    /// It is one that Linkerd 1 streams.
    streamed: bool,
    /// While a streamed one is under way: who counts that.
    open: Vec<OpenStream>,
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
    /// The upstream goes away, and has said that it did not act on the request.
    GoneAway(String),
    /// The upstream has reset the stream with this code.
    Reset(h2::Reason),
    /// The upstream does not accept us as a TLS client, and has seen nothing of the request.
    Tls(tls::HandshakeError),
    /// The upstream's answer is not HTTP.
    Framing(HeadError),
    /// The upstream's answer broke off with its head, or its body begins with what is not HTTP.
    Body(BodyError),
    /// The upstream's answer announces more bytes than this.
    TooLarge(u64),
}

impl RequestBody {
    /// A body of this length, of which `replay` keeps what was read. Up to `buffered` bytes Linkerd 1 would say that it
    /// is not streamed.
    pub(crate) fn new(length: BodyLength, replay: Replay, (limits, buffered): (&LimitParams, u64)) -> RequestBody {
        RequestBody {
            length,
            decoder: BodyDecoder::new(length).with_trailer_limit(limits.request_trailers),
            encoder: BodyEncoder::for_request(length),
            replay,
            most: limits.request_body.unwrap_or(u64::MAX),
            trailers: None,
            read: length.is_empty(),
            queued: false,
            refused: false,
            received: 0,
            read_at: None,
            streamed: is_streamed(length, buffered),
            open: Vec::new(),
        }
    }

    /// Has a streamed body counted until it is read.
    pub(crate) fn count(&mut self, stats: &BodyStats) {
        if self.streamed && !self.read {
            self.open.push(stats.open_request());
        }
    }

    /// When all of it was read; None while it is not, and of a request without a body.
    pub(crate) fn read_at(&self) -> Option<u64> {
        self.read_at
    }

    /// True when another attempt can send the same body.
    pub(crate) fn can_replay(&self) -> bool {
        self.replay.is_whole()
    }

    /// True when a classifier may have it sent again.
    pub(crate) fn may_retry(&self) -> bool {
        self.replay.may_retry()
    }

    /// True when all of it went up: the connection can carry another request.
    pub(crate) fn is_sent(&self, up: &Up) -> bool {
        self.queued && !self.refused && up.is_flushed()
    }

    /// True when an attempt can send it from the beginning: nothing was read of it, or all that was is kept.
    pub(crate) fn can_resend(&self) -> bool {
        self.can_replay() || (self.received == 0 && !self.read)
    }

    /// True while some of it waits for the upstream, so that it may be that nothing is read of the rest.
    fn is_stuck(&self, up: &Up) -> bool {
        !self.read && !self.refused && !up.is_flushed()
    }

    /// True when the client has gone away unheard, behind what cannot be read of its body. Otherwise `slot` has it looked for
    /// again.
    fn is_forsaken(&self, down: &Down, up: &Up, slot: &Slot) -> bool {
        if !self.is_stuck(up) {
            return false;
        }
        let left = down.has_left();
        if left == Some(false) {
            slot.look_at(clock::now().saturating_add(LOOK));
        }
        left == Some(true)
    }

    /// How long it may stand still while the response is under way: who is waited for, the service or the client.
    fn stall(&self, up: &Up, stalls: &Stalls) -> u64 {
        match () {
            () if self.refused => NEVER,
            () if !up.is_flushed() => stalls.service_takes,
            () if !self.read => stalls.client_gives,
            () => NEVER,
        }
    }

    /// Starts an attempt: queues again what was read already.
    pub(crate) fn begin(&mut self, up: &mut Up) -> Result<(), RouteError> {
        self.encoder = BodyEncoder::for_request(self.length);
        self.queued = false;
        self.refused = false;
        if !self.can_resend() {
            return Err(RouteError::new(
                Kind::UpstreamClosed,
                "what was sent of the request body is not kept to be sent again",
            ));
        }
        for piece in self.replay.pieces() {
            up.queue_body(&mut self.encoder, piece).map_err(broken)?;
        }
        if self.read { self.finish(up) } else { Ok(()) }
    }

    fn finish_reading(&mut self, up: &mut Up) -> Result<(), RouteError> {
        self.read = true;
        self.read_at = Some(clock::now());
        self.open.drain(..).for_each(OpenStream::end);
        self.finish(up)
    }

    fn finish(&mut self, up: &mut Up) -> Result<(), RouteError> {
        self.queued = true;
        up.finish_body(&mut self.encoder, self.trailers.as_ref()).map_err(broken)
    }

    /// Lets go of what was kept: from the first byte of the response on, nothing is sent again.
    pub(crate) fn forget(&mut self) {
        self.replay.forget();
    }

    /// Moves body bytes up as far as they go without waiting.
    fn poll_up(&mut self, down: &mut Down, up: &mut Up, cx: &mut Context<'_>) -> Result<(), SendError> {
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

    fn take(&mut self, frame: Result<Option<BodyFrame>, BodyError>, up: &mut Up) -> Result<(), SendError> {
        let done = match frame {
            Err(BodyError::Trailers("headers-too-large")) => {
                let text = "the trailers of the request are longer than maxTrailersKB allows";
                return Err(SendError::Downstream(RouteError::new(Kind::TrailersTooLarge, text)));
            }
            // Its stream was reset, by the client or for what it sent: there is nobody to answer.
            Err(BodyError::Io(error)) if crate::h2::is_of_codec(&error) => return Err(SendError::ClientGone),
            Err(error) => {
                if !matches!(error, BodyError::Io(_) | BodyError::Truncated) {
                    metrics::counter!("rejected_total", "reason" => error.reason()).increment(1);
                }
                let text = format!("the request body broke off: {error}");
                return Err(SendError::Downstream(RouteError::new(Kind::DownstreamBody, text)));
            }
            Ok(Some(BodyFrame::Data(chunk))) => {
                self.replay.keep(&chunk);
                self.received += chunk.len() as u64;
                if self.received > self.most {
                    return Err(SendError::Downstream(too_large(self.most)));
                }
                up.queue_body(&mut self.encoder, chunk).map_err(broken)
            }
            Ok(Some(BodyFrame::Trailers(mut trailers))) => {
                // Context comes with the head, or not at all (attack O7).
                remove_l5d(&mut trailers);
                self.trailers = Some(trailers);
                self.finish_reading(up)
            }
            Ok(None) => self.finish_reading(up),
        };
        done.map_err(SendError::Downstream)
    }

    /// Sends the request and waits for the next response head, 1xx ones included. `due` is the caller's limit; a peer
    /// that stalls makes `slot` due earlier.
    pub(crate) async fn exchange(
        &mut self,
        down: &mut Down,
        up: &mut Up,
        expected: (&Limits, &Method, &mut HeaderMap),
        (slot, due, stalls): (&Slot, u64, &Stalls),
    ) -> Result<ResponseHead, SendError> {
        let (limits, method, recycled) = expected;
        slot.look_no_more();
        poll_fn(|cx| {
            let whole = self.read && up.is_flushed();
            self.poll_up(down, up, cx)?;
            let looked = slot.looked();
            if looked && self.is_stuck(up) {
                // Nothing has moved: what is due stays due.
            } else if !up.is_flushed() {
                slot.set(due.min(from_now(stalls.service_takes)));
            } else if !self.read {
                slot.set(due.min(from_now(stalls.client_gives)));
            } else if !whole || stalls.service_gives != NEVER {
                slot.set(due.min(from_now(stalls.service_gives)));
            }
            match up.poll_response(cx, limits, method, recycled) {
                Poll::Ready(Ok(head)) => return Poll::Ready(Ok(head)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(head_error(error))),
                Poll::Pending => {}
            }
            if down.poll_hangup(cx, self.read).is_ready() || self.is_forsaken(down, up, slot) {
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
        HeadError::Io(error) if crate::h2::is_gone_away(&error) => SendError::GoneAway(error.to_string()),
        HeadError::Io(error) if crate::h2::is_malformed(&error) => SendError::Framing(HeadError::Bad(MALFORMED)),
        HeadError::Io(error) if let Some(reason) = crate::h2::reset_of(&error) => SendError::Reset(reason),
        HeadError::Io(error) => match tls::HandshakeError::of_established(&error) {
            Some(said) if said.is_refusal() => SendError::Tls(said),
            Some(said) => SendError::Closed(said.text),
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
    /// The time of the call is over, as its caller has said (`grpc-timeout`).
    Late,
}

/// Moves the response body down, and what is left of the request body up, until the response is complete. A peer that
/// stalls makes `slot` due.
pub(crate) async fn relay(
    down: &mut Down,
    up: &mut Up,
    request: &mut RequestBody,
    response: &mut ResponseBody,
    (slot, stalls, ends): (&Slot, &Stalls, u64),
) -> Relayed {
    slot.look_no_more();
    let relaying = poll_fn(|cx| {
        let sent = request.queued && up.is_flushed();
        if !sent && let Err(error) = request.poll_up(down, up, cx) {
            note(&error);
            return Poll::Ready(Relayed::ClientGone);
        }
        if let Poll::Ready(ended) = response.poll_down(down, up, cx) {
            let whole = request.is_sent(up);
            return Poll::Ready(if ended == Relayed::Whole && !whole { Relayed::ResponseOnly } else { ended });
        }
        let blocked = !down.is_flushed();
        let limit = if blocked { stalls.client_takes } else { stalls.service_gives };
        if !(slot.looked() && request.is_stuck(up)) {
            slot.set(from_now(limit.min(request.stall(up, stalls))).min(ends));
        }
        // A client that waits for a stream and goes away would otherwise be noticed with the next write only.
        if !blocked && (down.poll_hangup(cx, request.read).is_ready() || request.is_forsaken(down, up, slot)) {
            return Poll::Ready(Relayed::ClientGone);
        }
        Poll::Pending
    });
    match slot.run(relaying).await {
        // The service's clock for the same deadline, a moment before ours.
        Ok(Relayed::UpstreamBroke) if is_about_over(ends) => Relayed::Late,
        Ok(ended) => ended,
        Err(_) if ends != NEVER && clock::now() >= ends => Relayed::Late,
        // The client takes nothing, or gives nothing of its body.
        Err(_) if !down.is_flushed() || (!request.read && up.is_flushed()) => Relayed::ClientGone,
        // The service takes nothing of the request, or was silent for longer than its socket options allow.
        Err(_) => Relayed::UpstreamBroke,
    }
}

/// True when a call is over, or will be in a moment: services count the same deadline, and a little before.
pub(crate) fn is_about_over(ends: u64) -> bool {
    ends != NEVER && clock::now().saturating_add(MOMENT) >= ends
}

/// The body of a response on its way down.
pub(crate) struct ResponseBody {
    begun: Begun,
    encoder: BodyEncoder,
    /// All of it was read from the upstream.
    read: bool,
    /// Bytes that were read from the upstream, and that were handed to the client's connection, without framing.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// The code with which the upstream has reset it.
    pub(crate) reset: Option<h2::Reason>,
    /// How its trailers are judged, when they are.
    pub(crate) judge: Option<Judge>,
    /// The status of a gRPC call that its trailers told.
    pub(crate) grpc_status: Option<u32>,
    /// What is ours among the trailers is not for the client.
    pub(crate) clear: bool,
    compressor: Option<Compressor>,
}

/// The verdict of trailers, and the classifier that gives it.
pub(crate) struct Judge {
    pub(crate) classifier: Classifier,
    pub(crate) status: StatusCode,
    /// Once they were there.
    pub(crate) verdict: Option<Verdict>,
}

/// The response body does not fit its length, or cannot be compressed.
struct Broken;

impl ResponseBody {
    /// A body that goes on with this length, compressed if there is a compressor.
    pub(crate) fn new(begun: Begun, to: BodyLength, compressor: Option<Compressor>) -> ResponseBody {
        ResponseBody {
            begun,
            encoder: BodyEncoder::new(to),
            read: false,
            received: 0,
            sent: 0,
            reset: None,
            judge: None,
            grpc_status: None,
            clear: false,
            compressor,
        }
    }

    /// The body is over: its compressor can serve another one.
    pub(crate) fn recycle(&mut self) {
        if let Some(compressor) = self.compressor.take() {
            compressor.give();
        }
    }

    /// Moves body bytes down as far as they go without waiting; ready at the end.
    fn poll_down(&mut self, down: &mut Down, up: &mut Up, cx: &mut Context<'_>) -> Poll<Relayed> {
        let turn = self.compressor.as_ref().map_or(u64::MAX, |_| self.received + COMPRESS_BYTES);
        loop {
            // As in `poll_up`.
            let mut moved = !self.read && down.pending_out() >= HIGH_WATER;
            while !self.read && down.pending_out() < HIGH_WATER && self.received < turn {
                match self.begun.poll_frame(up, cx) {
                    Poll::Pending => match self.flush(down) {
                        Ok(()) => break,
                        Err(Broken) => return Poll::Ready(Relayed::UpstreamBroke),
                    },
                    Poll::Ready(Err(error)) => {
                        note(&error);
                        if let SendError::Body(BodyError::Io(error)) = &error {
                            self.reset = crate::h2::reset_of(error);
                        }
                        return Poll::Ready(Relayed::UpstreamBroke);
                    }
                    Poll::Ready(Ok(frame)) => match self.take(down, frame) {
                        Ok(ended) => self.read = ended,
                        Err(Broken) => return Poll::Ready(Relayed::UpstreamBroke),
                    },
                }
                moved = true;
            }
            match down.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Relayed::ClientGone),
                Poll::Ready(Ok(())) if self.read => return Poll::Ready(Relayed::Whole),
                Poll::Ready(Ok(())) if self.received >= turn => {
                    // Others have their turn; then it goes on.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Ok(())) if moved => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Queues one piece of the response; true at its end.
    fn take(&mut self, down: &mut Down, frame: Option<BodyFrame>) -> Result<bool, Broken> {
        let trailers = match frame {
            Some(BodyFrame::Data(chunk)) => {
                self.received += chunk.len() as u64;
                if let Some(compressor) = &mut self.compressor {
                    compressor.write(&chunk).map_err(|_| Broken)?;
                    return self.pass_compressed(down).map(|()| false);
                }
                self.sent += chunk.len() as u64;
                return down.queue_body(&mut self.encoder, chunk).map(|()| false).map_err(|_| Broken);
            }
            Some(BodyFrame::Trailers(trailers)) => Some(trailers),
            None => None,
        };
        if let Some(compressor) = &mut self.compressor {
            compressor.finish().map_err(|_| Broken)?;
            self.pass_compressed(down)?;
        }
        let trailers = self.judged(trailers);
        down.finish_body(&mut self.encoder, trailers).map(|()| true).map_err(|_| Broken)
    }

    /// The end: the verdict, if it is a matter of trailers, which then say it too.
    fn judged(&mut self, mut trailers: Option<HeaderMap>) -> Option<HeaderMap> {
        if let Some(trailers) = &trailers {
            self.grpc_status = classify::grpc_status(trailers);
        }
        if self.clear {
            trailers.iter_mut().for_each(remove_l5d);
        }
        let Some(judge) = &mut self.judge else { return trailers };
        // The method says nothing about a success.
        let verdict = classify::late(judge.classifier, &Method::POST, judge.status, trailers.as_ref());
        judge.verdict = Some(verdict);
        if !self.clear {
            let class = HeaderValue::from_static(if verdict.is_success() { "1.0" } else { "0.0" });
            trailers.get_or_insert_default().insert(SUCCESS_CLASS, class);
        }
        trailers
    }

    /// The upstream pauses: what it has said so far must reach the client.
    fn flush(&mut self, down: &mut Down) -> Result<(), Broken> {
        let Some(compressor) = &mut self.compressor else { return Ok(()) };
        compressor.flush().map_err(|_| Broken)?;
        self.pass_compressed(down)
    }

    /// Queues what has come out of the compressor.
    fn pass_compressed(&mut self, down: &mut Down) -> Result<(), Broken> {
        let Some(compressor) = &mut self.compressor else { return Ok(()) };
        self.sent += compressor.out.len() as u64;
        down.copy_body(&mut self.encoder, &compressor.out).map_err(|_| Broken)?;
        compressor.out.clear();
        Ok(())
    }
}

/// Counts and logs a limit that cut a message when the head of the response was passed on already.
fn note(error: &SendError) {
    let (reason, limit) = match error {
        SendError::Downstream(RouteError { kind: Kind::RequestTooLarge, .. }) => ("body-too-large", "maxRequestBodyKB"),
        SendError::Downstream(RouteError { kind: Kind::TrailersTooLarge, .. }) => {
            ("trailers-too-large", "maxTrailersKB")
        }
        SendError::TooLarge(_) => ("response-body-too-large", "maxResponseBodyKB"),
        SendError::Body(BodyError::Trailers("headers-too-large")) => {
            ("response-trailers-too-large", "maxResponseTrailersKB")
        }
        _ => return,
    };
    metrics::counter!("rejected_total", "reason" => reason).increment(1);
    tracing::debug!(limit, "a message was cut: {reason}");
}
