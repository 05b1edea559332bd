//! Letting go of a response that nobody will see, because the request is tried again (data-plane reference §11.2).
//!
//! A small body is read to its end, beside the retry, so that its connection lives on; a long or slow one is not worth
//! it, and the connection is closed. Called by `exchange`. Not for: responses that are passed on (`answer`).

use super::Session;
use super::attempt::{Answer, pool_expiry};
use super::begun::Begun;
use super::prepare::Request;
use crate::clock;
use crate::headers;
use crate::pool::{Pool, Upstream};
use crate::route::Leaf;
use http1::{BodyFrame, BodyLength};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

/// A longer body is not read.
const MOST_BYTES: usize = 64 * 1024;
/// Nor one that is not there by then.
const MOST_TIME: Duration = Duration::from_secs(1);

/// Lets go of an answer. Its share of the endpoint's load ends here.
pub(crate) fn discard(session: &Session, request: &Request, answer: Box<Answer>, upstream: Upstream) {
    let Answer { head, body, leaf, mut run, .. } = *answer;
    run.end(request.body.read_at(), clock::now());
    let short = match head.body {
        BodyLength::Empty | BodyLength::Chunked => true,
        BodyLength::Length(bytes) => bytes <= MOST_BYTES as u64,
        BodyLength::UntilClose => false,
    };
    // One that goes with others needs no rescue: what is left of it is reset.
    if head.keep_alive && short && !upstream.conn.is_h2() && request.body.is_sent(&upstream.conn) {
        let pool = session.cx.pool.clone();
        let announced = headers::keep_alive_timeout(&head.headers);
        if head.body.is_empty() {
            return keep(&pool, upstream, &leaf, announced);
        }
        let mut draining = Box::pin(drain(pool, upstream, leaf, (body, announced)));
        // Nearly always the body came with the head: then the connection is there for the retry.
        if draining.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::task::spawn_local(draining);
        }
    }
}

fn keep(pool: &Pool, upstream: Upstream, leaf: &Leaf, announced: Option<Duration>) {
    let expiry = pool_expiry(&upstream, &leaf.client.params, announced);
    pool.put(upstream, expiry);
}

async fn drain(
    pool: Rc<Pool>,
    mut upstream: Upstream,
    leaf: Arc<Leaf>,
    (mut body, announced): (Begun, Option<Duration>),
) {
    let mut left = MOST_BYTES;
    let conn = &mut upstream.conn;
    let reading = async {
        loop {
            match poll_fn(|cx| body.poll_frame(conn, cx)).await {
                Ok(None) => return true,
                Ok(Some(BodyFrame::Trailers(_))) => {}
                Ok(Some(BodyFrame::Data(data))) if data.len() <= left => left -= data.len(),
                Ok(Some(BodyFrame::Data(_))) | Err(_) => return false,
            }
        }
    };
    if tokio::time::timeout(MOST_TIME, reading).await == Ok(true) {
        keep(&pool, upstream, &leaf, announced);
    }
}
