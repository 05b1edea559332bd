//! Passing a response on: its head, both bodies, and what becomes of the connections.
//!
//! Called by `exchange` once an attempt has an answer. Not for: responses of the router's own (`crate::respond`).

use super::attempt::{Answer, pool_expiry};
use super::compress;
use super::prepare::Request;
use super::record::Record;
use super::relay::{Relayed, ResponseBody, append_fields, is_streamed, relay};
use super::stall::Stalls;
use super::{After, Session};
use crate::classify;
use crate::context::remove_l5d;
use crate::error::Kind;
use crate::headers::{self, Seen};
use crate::pool::Upstream;
use crate::route::{Leaf, PathService};
use crate::timer::NEVER;
use bytes::{BufMut, BytesMut};
use http::Version;
use http1::{BodyLength, encode_response_head};
use std::sync::Arc;
use telemetry::OpenStream;

/// How the body goes down: without chunks to HTTP/1.0, and never until close to a client that knows chunks, so that it
/// can tell a whole body from a broken one.
fn framing(body: BodyLength, version: Version) -> BodyLength {
    match body {
        BodyLength::UntilClose if version != Version::HTTP_10 => BodyLength::Chunked,
        body => body.for_version(version),
    }
}

/// Steps 10 to 12: classify, pass the response on, settle the connections.
pub(crate) async fn respond(
    session: &mut Session,
    mut request: Request,
    service: &Arc<PathService>,
    answer: Answer,
    mut upstream: Upstream,
    record: &mut Record<'_>,
) -> After {
    let Answer { mut head, body: begun, lease, leaf, at } = answer;
    let success = classify::is_success(service.params.classifier, head.status);
    record.responded(head.status, success, at);
    let clear = !session.trusts_caller();
    if let Some(notes) = &mut record.notes {
        notes.endpoint = Some(lease.endpoint().addr());
        notes.content_length = head.content_length;
        // What is said if the connection is cut before the end of the body.
        notes.failure = Some(Kind::ClientGone.class());
    }
    // An error text of a router further in is for the operator, not for who is out there.
    let secret = clear && head.headers.contains_key("l5d-err");
    let seen = Seen::of(&head.headers);
    let announced = if seen.hop_by_hop { headers::keep_alive_timeout(&head.headers) } else { None };
    headers::strip(&mut head.headers, &seen);
    let mut fields = BytesMut::with_capacity(96);
    headers::write_via(&mut head.headers, &seen, head.version, &mut fields);
    if clear {
        if secret {
            head.headers.remove("proxy-status");
        }
        remove_l5d(&mut head.headers);
    } else {
        fields.put_slice(if success { b"l5d-success-class: 1.0\r\n" } else { b"l5d-success-class: 0.0\r\n" });
    }
    let compression = session.cx.router.params.compression.filter(|_| !secret);
    let compressor = compression.and_then(|what| compress::begin(what, &request.headers, &mut head));
    let body = match &compressor {
        _ if secret => BodyLength::Length(0),
        Some(_) => framing(BodyLength::Chunked, request.version),
        None => framing(head.body, request.version),
    };
    let expects_more = request.expects_continue && !request.body.read;
    let ends = session.slot.is_ending() || session.is_aged();
    let keep = request.keep_alive && body != BodyLength::UntilClose && !expects_more && !ends;
    let out = session.conn.out();
    let length = head.content_length.filter(|_| head.body == BodyLength::Empty && !secret);
    let reason = head.reason.as_deref();
    encode_response_head(out, head.status, reason, request.version, &head.headers, body, keep, length);
    append_fields(out, &fields);
    session.cx.spare.give(std::mem::take(&mut request.headers));
    session.cx.spare.give(std::mem::take(&mut head.headers));
    session.slot.set(NEVER);
    if secret {
        record.relayed(None);
        return session.finish(keep && request.body.read).await;
    }
    let mut moved = ResponseBody::new(begun, body, compressor);
    let ended = pass_body(session, &mut request, &mut upstream, &leaf, (head.body, &mut moved), record).await;
    drop(lease);
    if ended == Relayed::Whole && head.keep_alive {
        let expires = pool_expiry(&upstream, &leaf.client.params, announced);
        session.cx.pool.put(upstream, expires);
    }
    match ended {
        Relayed::Whole if keep => After::Keep,
        Relayed::Whole => After::Linger,
        Relayed::ResponseOnly => After::Linger,
        Relayed::UpstreamBroke => {
            leaf.client.stats.failures.record(Kind::UpstreamClosed.class());
            session.abort_if(body == BodyLength::UntilClose);
            After::Close
        }
        Relayed::ClientGone => After::Close,
    }
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
    let limits = (&*session.slot, &Stalls::new(&session.cx.server.params, &leaf.client.params));
    let ended = relay(&mut session.conn, &mut upstream.conn, &mut request.body, moved, limits).await;
    session.slot.set(NEVER);
    moved.recycle();
    let broke = match ended {
        Relayed::Whole | Relayed::ResponseOnly => None,
        Relayed::UpstreamBroke => Some(Kind::UpstreamClosed),
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
