//! [`Reading`]: one message's body as it comes in, whichever side it is from.
//!
//! Window is given back as soon as a piece is taken: the path takes no more than it has room for, and what it keeps for a
//! retry never holds the sender back (requirement P3.3). Called by `inbound` and `outbound`.

use super::io_error;
use h2::RecvStream;
use http1::{BodyError, BodyFrame};
use std::task::{Context, Poll, ready};

#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Data,
    Trailers,
    Done,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reading {
    stream: RecvStream,
    stage: Stage,
}

impl Reading {
    /// The body that comes by `stream`.
    pub(super) fn new(stream: RecvStream) -> Reading {
        let stage = if stream.is_end_stream() { Stage::Done } else { Stage::Data };
        Reading { stream, stage }
    }

    /// The next piece; None at the end, and then always. The codec has checked it against its length.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<BodyFrame>, BodyError>> {
        while self.stage == Stage::Data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    // An error here is one of the stream, which reading tells.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Ok(Some(BodyFrame::Data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Err(BodyError::Io(io_error(error)))),
                None => self.stage = Stage::Trailers,
            }
        }
        if self.stage == Stage::Trailers {
            let trailers = ready!(self.stream.poll_trailers(cx)).map_err(|error| BodyError::Io(io_error(error)))?;
            self.stage = Stage::Done;
            return Poll::Ready(Ok(trailers.filter(|trailers| !trailers.is_empty()).map(BodyFrame::Trailers)));
        }
        Poll::Ready(Ok(None))
    }
}
