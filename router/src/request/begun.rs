//! [`Begun`]: the body of a response from its head on, before and while it is passed on.
//!
//! Made by `attempt`, which looks at its first piece; read by `relay`, `discard` and `diagnose`. Not for: where it goes.

use super::Up;
use super::relay::SendError;
use crate::config::LimitParams;
use bytes::Bytes;
use http::HeaderMap;
use http1::{BodyDecoder, BodyError, BodyFrame, BodyLength, ResponseHead};
use std::future::poll_fn;
use std::task::{Context, Poll};

/// The body of a response, as far as it came with the head: what breaks off at once is an error, not half an answer.
pub(crate) struct Begun {
    decoder: BodyDecoder,
    first: Option<Option<BodyFrame>>,
    /// Bytes that it may have.
    most: u64,
}

impl Begun {
    /// A body that is known as a whole.
    pub(crate) fn of(bytes: Bytes) -> Begun {
        Begun {
            decoder: BodyDecoder::new(BodyLength::Empty),
            first: Some(Some(BodyFrame::Data(bytes))),
            most: u64::MAX,
        }
    }

    /// Begins to read the body of `head` without waiting for it.
    pub(crate) async fn read(up: &mut Up, head: &ResponseHead, limits: &LimitParams) -> Result<Begun, SendError> {
        let most = limits.response_body.unwrap_or(u64::MAX);
        if matches!(head.body, BodyLength::Length(length) if length > most) {
            return Err(SendError::TooLarge(most));
        }
        let mut decoder = BodyDecoder::new(head.body).with_trailer_limit(limits.response_trailers);
        if decoder.is_done() && !up.is_h2() {
            return Ok(Begun { decoder, first: None, most });
        }
        let polled = poll_fn(|cx| Poll::Ready(up.poll_body(cx, &mut decoder))).await;
        match polled {
            Poll::Ready(Err(BodyError::Io(error))) if let Some(reason) = crate::h2::reset_of(&error) => {
                Err(SendError::Reset(reason))
            }
            Poll::Ready(Err(error)) => Err(SendError::Body(error)),
            Poll::Ready(Ok(frame)) => Ok(Begun { decoder, first: Some(frame), most }),
            Poll::Pending => Ok(Begun { decoder, first: None, most }),
        }
    }

    /// Waits for the first piece, and keeps it.
    pub(crate) async fn first(&mut self, up: &mut Up) {
        if self.first.is_none()
            && let Ok(frame) = poll_fn(|cx| up.poll_body(cx, &mut self.decoder)).await
        {
            self.first = Some(frame);
        }
    }

    /// The trailers of a body that is nothing else, `Some(None)` without any; None when there is more, or it is not known
    /// yet.
    pub(crate) fn trailers_alone(&self) -> Option<Option<&HeaderMap>> {
        match &self.first {
            Some(Some(BodyFrame::Trailers(trailers))) => Some(Some(trailers)),
            Some(None) => Some(None),
            Some(Some(BodyFrame::Data(_))) | None => None,
        }
    }

    /// The next piece: the one that came with the head first. Too many bytes end it as a close would.
    pub(crate) fn poll_frame(
        &mut self,
        up: &mut Up,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<BodyFrame>, SendError>> {
        let frame = match self.first.take() {
            Some(first) => first,
            None => std::task::ready!(up.poll_body(cx, &mut self.decoder)).map_err(SendError::Body)?,
        };
        if let Some(BodyFrame::Data(chunk)) = &frame {
            match self.most.checked_sub(chunk.len() as u64) {
                Some(left) => self.most = left,
                None => return Poll::Ready(Err(SendError::TooLarge(0))),
            }
        }
        Poll::Ready(Ok(frame))
    }
}
