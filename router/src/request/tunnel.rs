//! After 101: bytes both ways between a client and a service, with back-pressure, until both are done (attack H1-9).
//!
//! Called by `answer` once a service has granted an upgrade. The endpoint's lease, the request's permit and both
//! connections are held as long as the tunnel lives; a drain waits for it. Not for: what the bytes mean.

use super::attempt::Answer;
use super::down::Head;
use super::prepare::Request;
use super::record::Record;
use super::relay::HIGH_WATER;
use super::upgrade;
use super::{After, Down, Session, Up};
use crate::clock;
use crate::context::remove_l5d;
use crate::error::Kind;
use crate::headers::{self, Seen};
use crate::pool::Upstream;
use crate::server::OpenTunnel;
use crate::stream::Stream;
use crate::timer::NEVER;
use bytes::BytesMut;
use http::header;
use http1::{BodyDecoder, BodyFrame, BodyLength, Conn};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

/// Once one side has ended, the other one may be silent for so long.
const HALF_CLOSED: Duration = Duration::from_secs(3600);

/// Passes the answer 101 on and moves bytes until both sides have ended, one of them breaks, or a limit is over.
pub(crate) async fn run(
    session: &mut Session,
    mut request: Box<Request>,
    answer: Box<Answer>,
    mut upstream: Upstream,
    record: &mut Record<'_>,
) -> After {
    let server = session.cx.server.clone();
    let Answer { mut head, mut lease, at, mut run, .. } = *answer;
    run.end(None, at);
    lease.answered(at);
    record.responded(head.status, Some(true), at);
    record.run.end(None, at);
    if let Some(notes) = &mut record.notes {
        notes.endpoint = Some(lease.endpoint().addr());
    }
    let seen = Seen::of(&head.headers);
    let granted = head.headers.get(header::UPGRADE).cloned();
    headers::strip(&mut head.headers, &seen);
    let mut fields = BytesMut::with_capacity(96);
    headers::write_via(&mut head.headers, &seen, head.version, &mut fields);
    if session.trusts_caller() {
        fields.extend_from_slice(b"l5d-success-class: 1.0\r\n");
    } else {
        remove_l5d(&mut head.headers);
    }
    upgrade::write(granted.as_ref().map_or(b"", |value| value.as_bytes()), &mut fields);
    let reason = head.reason.as_deref();
    session.conn.write_head(Head {
        status: head.status,
        reason,
        version: request.version,
        headers: &mut head.headers,
        fields: fields.freeze(),
        body: BodyLength::Empty,
        length: None,
        keep_alive: true,
    });
    session.cx.spare.give(std::mem::take(&mut request.headers));
    session.cx.spare.give(std::mem::take(&mut head.headers));
    let _open = OpenTunnel::new(&server.stats);
    // What breaks on one side breaks on the other, and so does what this process cuts: an end in order would say that all
    // is there.
    sides(session, &upstream).for_each(Stream::abort_on_close);
    let broke = pump(session, &mut upstream.conn, &mut record.bytes).await;
    session.slot.set(NEVER);
    record.relayed(broke);
    drop(lease);
    if broke.is_none() {
        sides(session, &upstream).for_each(Stream::close_in_order);
    }
    After::Close
}

/// The connections below a tunnel.
fn sides<'a>(session: &'a Session, upstream: &'a Upstream) -> impl Iterator<Item = &'a Stream> {
    // Only HTTP/1 knows upgrades.
    let down = if let Down::H1(conn) = &session.conn { Some(conn.io()) } else { None };
    let up = if let Up::H1(conn) = &upstream.conn { Some(conn.io()) } else { None };
    down.into_iter().chain(up)
}

/// Moves bytes both ways, and counts them in `bytes`. None when both sides have ended in order, or nothing was under way for
/// too long; otherwise which side broke.
async fn pump(session: &mut Session, up: &mut Up, bytes: &mut (u64, u64)) -> Option<Kind> {
    let idle = session.cx.server.params.tunnel_idle_time.map_or(NEVER, clock::nanos);
    let stall = clock::nanos(session.cx.server.params.stall_timeout);
    // Only HTTP/1 knows upgrades.
    let (Down::H1(down), Up::H1(up)) = (&mut session.conn, up) else { return Some(Kind::UpstreamFraming) };
    let slot = &session.slot;
    let (mut upwards, mut downwards) = (Direction::new(), Direction::new());
    let moving = poll_fn(|cx| {
        let upward = upwards.advance(down, up, cx);
        let downward = upward.map_err(Broken::swapped).and_then(|()| downwards.advance(up, down, cx));
        *bytes = (upwards.moved, downwards.moved);
        match downward {
            Err(Broken::Sender) => return Poll::Ready(Some(Kind::UpstreamClosed)),
            Err(Broken::Receiver) => return Poll::Ready(Some(Kind::ClientGone)),
            Ok(()) if upwards.ended && downwards.ended => return Poll::Ready(None),
            Ok(()) => {}
        }
        let blocked = !up.is_flushed() || !down.is_flushed();
        let limit = match (blocked, upwards.ended || downwards.ended) {
            (true, _) => idle.min(stall),
            (false, true) => idle.min(clock::nanos(HALF_CLOSED)),
            (false, false) => idle,
        };
        slot.set(clock::now().saturating_add(limit));
        Poll::Pending
    });
    let ended = slot.run(moving).await;
    ended.unwrap_or_else(|_| match (up.is_flushed(), down.is_flushed()) {
        (true, true) => None,
        (false, _) => Some(Kind::UpstreamClosed),
        (true, false) => Some(Kind::ClientGone),
    })
}

/// One direction of a tunnel.
struct Direction {
    decoder: BodyDecoder,
    /// The sender has ended its side.
    read: bool,
    /// So has the receiver learnt.
    ended: bool,
    /// Bytes that were read.
    moved: u64,
}

/// A side of a direction broke.
enum Broken {
    Sender,
    Receiver,
}

impl Broken {
    /// The same, as the other direction calls it.
    fn swapped(self) -> Broken {
        match self {
            Broken::Sender => Broken::Receiver,
            Broken::Receiver => Broken::Sender,
        }
    }
}

impl Direction {
    fn new() -> Direction {
        Direction { decoder: BodyDecoder::new(BodyLength::UntilClose), read: false, ended: false, moved: 0 }
    }

    /// Moves bytes as far as they go without waiting.
    fn advance(&mut self, from: &mut Conn<Stream>, to: &mut Conn<Stream>, cx: &mut Context<'_>) -> Result<(), Broken> {
        while !self.ended {
            // A full queue that drains now must lead to another read: nobody else would wake this task.
            let mut moved = !self.read && to.pending_out() >= HIGH_WATER;
            while !self.read && to.pending_out() < HIGH_WATER {
                match from.poll_body(cx, &mut self.decoder) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(Some(BodyFrame::Data(bytes)))) => {
                        self.moved += bytes.len() as u64;
                        to.queue(bytes);
                    }
                    Poll::Ready(Ok(Some(BodyFrame::Trailers(_)) | None)) => self.read = true,
                    Poll::Ready(Err(_)) => return Err(Broken::Sender),
                }
                moved = true;
            }
            let written = if self.read { to.poll_shutdown(cx) } else { to.poll_flush(cx) };
            match written {
                Poll::Ready(Ok(())) if self.read => self.ended = true,
                Poll::Ready(Ok(())) if moved => {}
                Poll::Ready(Ok(())) | Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => return Err(Broken::Receiver),
            }
        }
        Ok(())
    }
}
