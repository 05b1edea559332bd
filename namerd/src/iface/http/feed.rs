//! [`Feed`]: the body of a watch: one document after the other, for as long as the client stays (namerd reference §2.8).
//!
//! The next document is made only when the one before is on its way. So whoever reads slowly gets the newest state, and
//! nothing queues. A feed ends when the process wants to end; it is dropped with the connection. Called by routes with
//! `watch`. Not for: what the documents say.

use super::watches::Permit;
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

type Made = (Box<dyn Documents>, Closing, Option<String>);

/// See the module.
pub(super) struct Feed {
    turn: Option<BoxFuture<'static, Made>>,
    _permit: Permit,
}

impl Feed {
    /// A stream of these documents, each with a line end.
    pub(super) fn new(documents: impl Documents, closing: Closing, permit: Permit) -> Feed {
        Feed { turn: Some(Box::pin(turn(Box::new(documents), closing))), _permit: permit }
    }
}

async fn turn(mut documents: Box<dyn Documents>, mut closing: Closing) -> Made {
    let made = tokio::select! {
        biased;
        _ = closing.wait_for(|closing| *closing) => None,
        document = documents.next() => Some(document),
    };
    (documents, closing, made)
}

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(under_way) = self.turn.as_mut() else { return Poll::Ready(None) };
        let (documents, closing, made) = ready!(under_way.as_mut().poll(cx));
        self.turn = made.is_some().then(|| Box::pin(turn(documents, closing)) as BoxFuture<'static, Made>);
        Poll::Ready(made.map(|document| Ok(Frame::data((document + "\n").into()))))
    }
}
