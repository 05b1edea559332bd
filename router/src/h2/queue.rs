//! [`Queue`]: the bytes of one body that wait for the peer's window, with the end of the body.
//!
//! At most what the path allows (`relay::HIGH_WATER`) and one piece more waits here; the codec is never given more than the
//! window takes. Called by `inbound` and `outbound`.

use bytes::{Buf, Bytes, BytesMut};
use h2::SendStream;
use http::HeaderMap;
use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use telemetry::H2Stream;

/// Pieces below this size are sent together.
const SMALL: usize = 1024;
/// Up to so many bytes.
const TOGETHER: usize = 16 * 1024;

/// How far the end of the body is.
#[derive(Debug, Default)]
enum End {
    /// More may come.
    #[default]
    Open,
    /// All is here.
    Whole,
    /// All is here, and these trailers.
    Trailers(HeaderMap),
    /// The peer has been told.
    Told,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pieces: VecDeque<Bytes>,
    bytes: usize,
    end: End,
}

impl Queue {
    /// Appends a piece of the body.
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Says that all of the body is here.
    pub(super) fn finish(&mut self, trailers: Option<HeaderMap>) {
        self.end = trailers.filter(|trailers| !trailers.is_empty()).map_or(End::Whole, End::Trailers);
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when the codec has all that is here.
    pub(super) fn is_flushed(&self) -> bool {
        self.bytes == 0 && matches!(self.end, End::Open | End::Told)
    }

    /// True when the head is the whole message: it is to carry the end of the stream.
    pub(super) fn is_only_head(&self) -> bool {
        self.bytes == 0 && matches!(self.end, End::Whole)
    }

    /// The end was told with the head.
    pub(super) fn told(&mut self) {
        self.end = End::Told;
    }

    /// Hands over what the window takes; ready when nothing waits any more.
    pub(super) fn poll_flush(
        &mut self,
        send: &mut SendStream<Bytes>,
        stats: Option<&H2Stream>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), h2::Error>> {
        while self.bytes > 0 {
            send.reserve_capacity(self.bytes);
            let mut capacity = send.capacity();
            while capacity == 0 {
                capacity = match ready!(send.poll_capacity(cx)) {
                    Some(capacity) => capacity?,
                    // The stream is over: what ended it is told where it is read.
                    None => return Poll::Ready(Err(h2::Reason::STREAM_CLOSED.into())),
                };
            }
            let piece = self.take(capacity);
            let last = self.bytes == 0 && matches!(self.end, End::Whole);
            if let Some(stats) = stats {
                stats.sent_data(piece.len() as u64);
            }
            send.send_data(piece, last)?;
            if last {
                self.end = End::Told;
            }
        }
        match std::mem::take(&mut self.end) {
            End::Whole => send.send_data(Bytes::new(), true)?,
            End::Trailers(trailers) => {
                if let Some(stats) = stats {
                    stats.sent_trailers();
                }
                send.send_trailers(trailers)?;
            }
            End::Open => return Poll::Ready(Ok(())),
            End::Told => {}
        }
        self.end = End::Told;
        Poll::Ready(Ok(()))
    }

    /// At most so many bytes off the front: one piece, or small ones together.
    fn take(&mut self, most: usize) -> Bytes {
        let Some(first) = self.pieces.pop_front() else { return Bytes::new() };
        if first.len() >= SMALL || self.pieces.is_empty() || first.len() >= most {
            return self.part(first, most);
        }
        let mut together = BytesMut::with_capacity(self.bytes.min(TOGETHER).min(most));
        let mut next = Some(first);
        while let Some(piece) = next {
            let room = (together.capacity() - together.len()).min(most - together.len());
            let piece = self.part(piece, room);
            together.extend_from_slice(&piece);
            next = self
                .pieces
                .pop_front_if(|piece| piece.len() < SMALL && together.len() + piece.len() <= together.capacity());
        }
        together.freeze()
    }

    /// The front `most` bytes of a piece that was taken; what is left goes back.
    fn part(&mut self, mut piece: Bytes, most: usize) -> Bytes {
        let size = piece.len().min(most);
        let part = piece.split_to(size);
        if piece.has_remaining() {
            self.pieces.push_front(piece);
        }
        self.bytes -= part.len();
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_pieces_leave_together_and_large_ones_in_parts() {
        let mut queue = Queue::default();
        for piece in ["ab", "", "cde"] {
            queue.push(Bytes::from_static(piece.as_bytes()));
        }
        queue.push(Bytes::from(vec![b'x'; 6000]));
        queue.push(Bytes::from_static(b"end"));
        assert_eq!(queue.bytes(), 6008);
        assert_eq!(queue.take(65_535), "abcde");
        assert_eq!(queue.take(4000).len(), 4000);
        assert_eq!(queue.take(4000).len(), 2000);
        assert_eq!(queue.take(1), "e");
        assert_eq!(queue.take(100), "nd");
        assert_eq!(queue.bytes(), 0);
        assert!(queue.take(1).is_empty());
    }

    #[test]
    fn it_knows_what_is_left_to_tell() {
        let mut queue = Queue::default();
        assert!(queue.is_flushed() && !queue.is_only_head());
        queue.finish(Some(HeaderMap::new()));
        assert!(queue.is_only_head() && !queue.is_flushed(), "empty trailers are none");
        queue.told();
        assert!(queue.is_flushed() && !queue.is_only_head());
    }
}
