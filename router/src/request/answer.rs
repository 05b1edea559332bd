//! Passing a response on: its head, both bodies, and what becomes of the connections.
//!
//! Called by `exchange` once an attempt has an answer. Not for: responses of the router's own (`crate::respond`).

use super::attempt::{Answer, Judged, pool_expiry};
use super::compress::{self, Compressor};
use super::down::Head;
use super::lease::{Lease, Unsettled};
use super::prepare::Request;
use super::record::{Record, SYNTHETIC};
use super::relay::{Judge, Relayed, ResponseBody, is_streamed, relay};
use super::stall::Stalls;
use super::{After, Session};
use crate::classify::{self, Verdict};
use crate::clock;
use crate::context::remove_l5d;
use crate::error::Kind;
use crate::grpc;
use crate::headers::{self, Seen};
use crate::pool::Upstream;
use crate::route::{Leaf, PathService};
use crate::timer::NEVER;
use bytes::{BufMut, BytesMut};
use h2::Reason;
use http::{HeaderMap, HeaderValue, StatusCode, Version, header};
use http1::{BodyEncoder, BodyLength, ResponseHead};
use std::sync::Arc;
use std::time::Duration;
use telemetry::{OpenStream, StreamRun};

/// How the body goes down: without chunks to HTTP/1.0, and never until close to a client that knows chunks, so that it
/// can tell a whole body from a broken one.
fn framing(body: BodyLength, version: Version) -> BodyLength {
    match body {
        BodyLength::UntilClose if version != Version::HTTP_10 => BodyLength::Chunked,
        body => body.for_version(version),
    }
}

/// What was decided with the head of a response.
struct Written {
    /// How the body goes down.
    body: BodyLength,
    /// The connection can serve another request after it.
    keep: bool,
    /// It is the error text of a router further in, and not for this client.
    secret: bool,
    compressor: Option<Compressor>,
    /// How long the service keeps its connection, as it says itself.
    announced: Option<Duration>,
}

/// Steps 10 to 12: classify, pass the response on, settle the connections.
pub(crate) async fn respond(
    session: &mut Session,
    mut request: Box<Request>,
    service: &Arc<PathService>,
    answer: Box<Answer>,
    mut upstream: Upstream,
    record: &mut Record<'_>,
) -> After {
    let Answer { mut head, body: begun, mut lease, leaf, at, verdict, mut run } = *answer;
    let known = verdict.known().map(Verdict::is_success);
    let stated = if request.is_grpc { classify::grpc_status(&head.headers) } else { None };
    record.responded(head.status, known, at);
    if let Some(notes) = &mut record.notes {
        notes.endpoint = Some(lease.endpoint().addr());
        notes.content_length = head.content_length;
        // What is said if the connection is cut before the end of the body.
        notes.failure = Some(Kind::ClientGone.class());
    }
    let clear = !session.trusts_caller();
    let mut written = write_head(session, &mut request, &mut head, (known, clear));
    session.slot.set(NEVER);
    if written.secret {
        let now = clock::now();
        [&mut run, &mut record.run].into_iter().for_each(|run| run.end(request.body.read_at(), now));
        record.relayed(None);
        // The length that was written is that of nothing.
        let _ = session.conn.finish_body(&mut BodyEncoder::new(written.body), None);
        return session.finish(written.keep && request.body.read).await;
    }
    let mut moved = ResponseBody::new(begun, written.body, written.compressor.take());
    moved.clear = clear;
    let judge = Judge { classifier: service.params.classifier, status: head.status, verdict: None };
    moved.judge = known.is_none().then_some(judge);
    let until_close = written.body == BodyLength::UntilClose;
    // Also when this process ends before the body does.
    session.conn.ends_with_close(until_close, false);
    let ended = pass_body(session, &mut request, &mut upstream, &leaf, (head.body, &mut moved), record).await;
    session.conn.ends_with_close(until_close, matches!(ended, Relayed::Whole | Relayed::ResponseOnly));
    count_streams([&mut run, &mut record.run], (&request, &moved), ended);
    if request.is_grpc && ended != Relayed::ClientGone {
        let status = stated.or(moved.grpc_status).unwrap_or_else(|| unstated(ended, moved.reset, head.status));
        leaf.client.stats.grpc.get().record(status);
        record.grpc_ended(status);
    }
    if let Judged::AtEnd(unsettled) = verdict {
        settle(unsettled, &mut lease, record, &moved, ended);
    }
    drop(lease);
    if ended == Relayed::Whole && head.keep_alive {
        let expires = pool_expiry(&upstream, &leaf.client.params, written.announced);
        session.cx.pool.put(upstream, expires);
        return if written.keep { After::Keep } else { After::Linger };
    }
    conclude(session, &leaf, &mut upstream, (ended, moved.reset), &written).await
}

/// Queues the head of the response for the client; `known` is the verdict, `clear` that what is ours is not for the client.
fn write_head(
    session: &mut Session,
    request: &mut Request,
    head: &mut ResponseHead,
    (known, clear): (Option<bool>, bool),
) -> Written {
    // An error text of a router further in is for the operator, not for who is out there.
    let secret = clear && head.headers.contains_key("l5d-err");
    let seen = Seen::of(&head.headers);
    let announced = if seen.hop_by_hop { headers::keep_alive_timeout(&head.headers) } else { None };
    let trailers = if seen.hop_by_hop { head.headers.remove(header::TRAILER) } else { None };
    headers::strip(&mut head.headers, &seen);
    let mut fields = BytesMut::with_capacity(96);
    if let Some(trailers) = trailers.filter(|_| session.conn.is_h2() || head.version == Version::HTTP_2) {
        headers::write_announced(&trailers, &mut fields);
    }
    headers::write_via(&mut head.headers, &seen, head.version, &mut fields);
    if clear {
        if secret {
            head.headers.remove("proxy-status");
            head.headers.remove(grpc::MESSAGE);
        }
        remove_l5d(&mut head.headers);
    } else if let Some(success) = known {
        fields.put_slice(if success { b"l5d-success-class: 1.0\r\n" } else { b"l5d-success-class: 0.0\r\n" });
    }
    let compression = session.cx.router.params.compression.filter(|_| !secret);
    let compressor = compression.and_then(|what| compress::begin(what, &request.headers, head));
    let body = match &compressor {
        _ if secret => BodyLength::Length(0),
        Some(_) => framing(BodyLength::Chunked, request.version),
        None => framing(head.body, request.version),
    };
    let expects_more = request.expects_continue && !request.body.read;
    let keep = request.keep_alive && body != BodyLength::UntilClose && !expects_more && !session.is_last();
    session.conn.write_head(Head {
        status: head.status,
        reason: head.reason.as_deref(),
        version: request.version,
        headers: &mut head.headers,
        fields: fields.freeze(),
        body,
        length: head.content_length.filter(|_| head.body == BodyLength::Empty && !secret),
        keep_alive: keep,
    });
    session.cx.spare.give(std::mem::take(&mut request.headers));
    session.cx.spare.give(std::mem::take(&mut head.headers));
    Written { body, keep, secret, compressor, announced }
}

/// What becomes of the connections after a response that was not whole on both sides, or whose service closes.
async fn conclude(
    session: &mut Session,
    leaf: &Leaf,
    upstream: &mut Upstream,
    (ended, reset): (Relayed, Option<Reason>),
    written: &Written,
) -> After {
    let until_close = written.body == BodyLength::UntilClose;
    match ended {
        Relayed::Whole if written.keep => After::Keep,
        Relayed::Whole | Relayed::ResponseOnly => After::Linger,
        Relayed::UpstreamBroke | Relayed::Late
            if session.is_grpc.get() && (reset.is_none() || ended == Relayed::Late) =>
        {
            Box::pin(end_call(session, ended)).await
        }
        Relayed::UpstreamBroke | Relayed::Late => {
            leaf.client.stats.failures.record(Kind::UpstreamClosed.class());
            session.abort_if(until_close, reset.unwrap_or(Reason::INTERNAL_ERROR));
            After::Close
        }
        Relayed::ClientGone => {
            if let Some(reason) = session.conn.gone() {
                upstream.conn.reset(reason);
            }
            // One that reads on all the same must not take what it has for the whole.
            session.abort_if(until_close, Reason::CANCEL);
            After::Close
        }
    }
}

/// The status that a caller of gRPC makes of a response without one.
fn unstated(ended: Relayed, reset: Option<Reason>, status: StatusCode) -> u32 {
    u32::from(match (ended, reset) {
        (Relayed::Late, _) => grpc::DEADLINE_EXCEEDED,
        (_, Some(reason)) => grpc::status_of_reset(reason.into()),
        (Relayed::UpstreamBroke, None) => grpc::UNAVAILABLE,
        _ => grpc::status_of_http(status.as_u16()),
    })
}

/// Counts what became of both directions, with the service and with the client.
fn count_streams(runs: [&mut StreamRun; 2], (request, moved): (&Request, &ResponseBody), ended: Relayed) {
    let now = clock::now();
    let whole = match ended {
        Relayed::Whole | Relayed::ResponseOnly => Ok(()),
        Relayed::UpstreamBroke => Err(Kind::UpstreamClosed.class()),
        Relayed::Late => Err(Kind::DeadlineExceeded.class()),
        Relayed::ClientGone => Err(Kind::ClientGone.class()),
    };
    for run in runs {
        run.request_data(request.body.received);
        run.response_data(moved.received);
        let started = if request.body.read { Some(request.started) } else { None };
        match request.body.read_at().or(started) {
            Some(read) => run.request_end(Ok(()), read),
            None => run.request_end(whole, now),
        }
        run.response_end(whole, now);
    }
}

/// Counts a response whose verdict came with its end.
fn settle(unsettled: Unsettled, lease: &mut Lease, record: &mut Record<'_>, moved: &ResponseBody, ended: Relayed) {
    let now = clock::now();
    let class = match ended {
        Relayed::Whole | Relayed::ResponseOnly => SYNTHETIC,
        Relayed::UpstreamBroke | Relayed::Late => Kind::UpstreamClosed.class(),
        Relayed::ClientGone => Kind::ClientGone.class(),
    };
    let success = moved.judge.as_ref().and_then(|judge| judge.verdict).is_some_and(Verdict::is_success);
    // Of an endpoint whose caller left, nothing is known.
    if ended != Relayed::ClientGone {
        lease.judge(success, now);
    }
    unsettled.settle(success, class, now);
    record.judged(success);
}

/// Ends a call of gRPC whose response was begun and cannot be completed: with a status, which its client reads, rather
/// than with a reset, which does not say why.
async fn end_call(session: &mut Session, ended: Relayed) -> After {
    let (code, text) = match ended {
        Relayed::Late => (grpc::DEADLINE_EXCEEDED, "the time of the call is over"),
        _ => (grpc::UNAVAILABLE, "the connection to the service broke off in the middle of the response"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert(grpc::STATUS, HeaderValue::from(u16::from(code)));
    trailers.insert(grpc::MESSAGE, HeaderValue::from_static(text));
    // Over HTTP/2, nothing is encoded.
    let _ = session.conn.finish_body(&mut BodyEncoder::new(BodyLength::Chunked), Some(trailers));
    session.finish(false).await
}

/// Moves both bodies until the response is complete, and counts them.
async fn pass_body(
    session: &mut Session,
    request: &mut Request,
    upstream: &mut Upstream,
    leaf: &Leaf,
    (length, moved): (BodyLength, &mut ResponseBody),
    record: &mut Record<'_>,
) -> Relayed {
    let streamed = is_streamed(length, session.cx.router.params.buffered_bytes);
    let stats = &leaf.client.stats.bodies;
    let open = [&session.cx.server.stats.bodies, stats].map(|stats| streamed.then(|| stats.open_response()));
    let stalls = Stalls::new(&session.cx.server.params, &leaf.client.params);
    let limits = (&*session.slot, &stalls, request.ends);
    let ended = relay(&mut session.conn, &mut upstream.conn, &mut request.body, moved, limits).await;
    session.slot.set(NEVER);
    moved.recycle();
    let broke = match ended {
        Relayed::Whole | Relayed::ResponseOnly => None,
        Relayed::UpstreamBroke => Some(Kind::UpstreamClosed),
        Relayed::Late => Some(Kind::DeadlineExceeded),
        Relayed::ClientGone => Some(Kind::ClientGone),
    };
    if broke.is_none() {
        open.into_iter().flatten().for_each(OpenStream::end);
    }
    stats.request_bytes.add(request.body.received);
    stats.response_bytes.add(moved.received);
    record.bytes = (request.body.received, moved.sent);
    record.relayed(broke);
    ended
}
