//! [`Replay`]: what was read of a request body, kept so that another attempt can send it (requirement P14.3).
//!
//! Called by `relay`, which reads the body once and asks here for what it has to send again. Not for: deciding whether
//! there is another attempt (`exchange`, `attempt`).

use super::relay::is_streamed;
use bytes::{Bytes, BytesMut};
use http1::BodyLength;

/// Kept when the config does not say otherwise: enough for requeues.
const DEFAULT_BYTES: usize = 64 * 1024;
/// So many pieces are kept as they were read; what comes after them is copied, so that many small pieces do not hold a
/// whole read buffer each.
const PIECES: usize = 64;

/// The kept part of a body: all of what was read, or nothing.
pub(crate) struct Replay {
    kept: Option<Vec<Bytes>>,
    tail: BytesMut,
    bytes: usize,
    bound: usize,
    /// A classifier may retry it, as far as the body is concerned.
    by_class: bool,
}

impl Replay {
    /// For a body of this length; it is kept only if `wanted`. `bound` is `retries.replayBufferKB` in bytes, `buffered`
    /// is `streamAfterContentLengthKB`.
    pub(crate) fn new(length: BodyLength, wanted: bool, bound: Option<usize>, buffered: u64) -> Replay {
        let most = bound.unwrap_or(DEFAULT_BYTES);
        let fits = match length {
            BodyLength::Empty => true,
            BodyLength::Length(bytes) => bytes <= most as u64,
            BodyLength::Chunked | BodyLength::UntilClose => most > 0,
        };
        let by_class = bound.is_some() || !is_streamed(length, buffered);
        let wanted = wanted || length.is_empty();
        Replay { kept: (wanted && fits).then(Vec::new), tail: BytesMut::new(), bytes: 0, bound: most, by_class }
    }

    /// Notes a piece that was read; lets go of all when it is too much.
    pub(crate) fn keep(&mut self, piece: &Bytes) {
        let Some(kept) = &mut self.kept else { return };
        self.bytes += piece.len();
        if self.bytes > self.bound {
            self.forget();
        } else if kept.len() < PIECES {
            kept.push(piece.clone());
        } else {
            self.tail.extend_from_slice(piece);
        }
    }

    /// Lets go of what was kept: nothing is sent again.
    pub(crate) fn forget(&mut self) {
        self.kept = None;
        self.tail = BytesMut::new();
    }

    /// True when all that was read can be sent again.
    pub(crate) fn is_whole(&self) -> bool {
        self.kept.is_some()
    }

    /// True when a classifier may have it sent again: without `replayBufferKB`, Linkerd's rule, by which nothing
    /// chunked or above 5 KiB is retried (data-plane reference §11.1).
    pub(crate) fn may_retry(&self) -> bool {
        self.by_class && self.is_whole()
    }

    /// What to send again, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Bytes> {
        let tail = (!self.tail.is_empty()).then(|| Bytes::copy_from_slice(&self.tail));
        self.kept.iter().flatten().cloned().chain(tail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(replay: &Replay) -> Vec<u8> {
        replay.pieces().flatten().collect()
    }

    #[test]
    fn many_pieces_are_kept_in_order_up_to_the_bound() {
        let mut replay = Replay::new(BodyLength::Chunked, true, Some(1000), 5120);
        let bytes: Vec<u8> = (0..1000_u32).map(|i| (i % 251) as u8).collect();
        bytes.chunks(3).for_each(|piece| replay.keep(&Bytes::copy_from_slice(piece)));
        assert!(replay.may_retry());
        assert_eq!(kept(&replay), bytes);
        assert_eq!(replay.kept.as_ref().map(Vec::len), Some(PIECES), "the rest is copied together");
        replay.keep(&Bytes::from_static(b"x"));
        assert!(!replay.is_whole() && kept(&replay).is_empty() && replay.tail.capacity() == 0);
    }

    #[test]
    fn by_default_classifiers_retry_what_linkerd_buffers() {
        for (length, retried) in [
            (BodyLength::Empty, true),
            (BodyLength::Length(5 * 1024), true),
            (BodyLength::Length(5 * 1024 + 1), false),
            (BodyLength::Chunked, false),
        ] {
            let replay = Replay::new(length, true, None, 5120);
            assert_eq!((replay.may_retry(), replay.is_whole()), (retried, true), "{length:?}");
            assert!(Replay::new(length, true, Some(8192), 5120).may_retry(), "{length:?}: the key is the only bound");
        }
        assert!(!Replay::new(BodyLength::Length(8193), true, Some(8192), 5120).is_whole(), "not even begun");
    }

    #[test]
    fn a_bound_of_zero_keeps_no_body() {
        assert!(Replay::new(BodyLength::Empty, false, Some(0), 5120).may_retry(), "there is nothing to keep");
        assert!(!Replay::new(BodyLength::Length(1), true, Some(0), 5120).is_whole());
        assert!(!Replay::new(BodyLength::Chunked, true, Some(0), 5120).is_whole());
    }
}
