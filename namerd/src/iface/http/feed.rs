//! [`Feed`]: the body of a watch: one document after the other, for as long as the client stays (namerd reference §2.8).
//!
//! The next document is made only when the one before is on its way. So whoever reads slowly gets the newest state, and
//! nothing queues. A feed ends when the process wants to end, and when its caller has lost the right to it: the next request
//! is told why. It is dropped with the connection. Called by routes with `watch`. Not for: what the documents say.

use super::watches::Permit;
use crate::access::Standing;
use crate::iface::Closing;
use bytes::Bytes;
use dtab::BoxFuture;
use hyper::body::{Body, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Makes documents.
pub(super) trait Documents: Send + 'static {
    /// Waits for the next document, which differs from the one before.
    fn next(&mut self) -> BoxFuture<'_, String>;
}

/// What ends a feed.
pub(super) struct Ends {
    pub(super) closing: Closing,
    pub(super) standing: Standing,
}

impl Ends {
    /// Waits until there is a reason to end.
    async fn come(&mut self) {
        tokio::select! {
            _ = self.closing.wait_for(|closing| *closing) => {}
            denied = self.standing.lost() => tracing::debug!("a stream ends, its caller has lost its right: {denied}"),
        }
    }
}

type Made = (Box<dyn Documents>, Ends, Option<String>);

/// See the module.
pub(super) struct Feed {
    turn: Option<BoxFuture<'static, Made>>,
    _permit: Permit,
}

impl Feed {
    /// A stream of these documents, each with a line end.
    pub(super) fn new(documents: impl Documents, ends: Ends, permit: Permit) -> Feed {
        Feed { turn: Some(Box::pin(turn(Box::new(documents), ends))), _permit: permit }
    }
}

async fn turn(mut documents: Box<dyn Documents>, mut ends: Ends) -> Made {
    let made = tokio::select! {
        biased;
        () = ends.come() => None,
        document = documents.next() => Some(document),
    };
    (documents, ends, made)
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(under_way) = self.turn.as_mut() else { return Poll::Ready(None) };
        let (documents, ends, made) = ready!(under_way.as_mut().poll(cx));
        self.turn = made.is_some().then(|| Box::pin(turn(documents, ends)) as BoxFuture<'static, Made>);
        Poll::Ready(made.map(|document| Ok(Frame::data((document + "\n").into()))))
    }
}
