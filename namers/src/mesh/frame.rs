//! gRPC's frames: a byte that says whether the message is compressed, four of its length, the message.
//!
//! Compressed ones are refused, as Linkerd 1 does. What is gathered is bounded by a length and by a budget that several
//! streams share. Called by both sides.

use super::WireError;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes before a message.
pub const HEAD: usize = 5;

/// One frame with `message`.
pub(crate) fn of(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(HEAD + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// Bytes that several streams may gather together; cloning shares it.
#[derive(Clone)]
pub struct Budget {
    room: Arc<Semaphore>,
}

impl Budget {
    /// Room for so many bytes.
    pub fn new(bytes: usize) -> Budget {
        Budget { room: Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))) }
    }

    /// Room for so many bytes, if there is; given back by drop.
    pub fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.room.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    /// The same, when there is.
    pub async fn wait(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.room.clone().acquire_many_owned(u32::try_from(bytes).ok()?).await.ok()
    }
}

/// Gathers the data of a stream into messages.
pub struct Frames {
    gathered: BytesMut,
    room: Option<OwnedSemaphorePermit>,
    budget: Budget,
    limit: usize,
}

impl Frames {
    /// Messages of at most `limit` bytes, within `budget`.
    pub fn new(limit: usize, budget: Budget) -> Frames {
        Frames { gathered: BytesMut::new(), room: None, budget, limit }
    }

    /// Takes what has come. Errors when there is no room for it.
    pub fn push(&mut self, data: &[u8]) -> Result<(), WireError> {
        let Some(more) = self.budget.take(data.len()) else {
            return Err(WireError::new("too many bytes of unfinished messages at once"));
        };
        match &mut self.room {
            Some(room) => room.merge(more),
            none => *none = Some(more),
        }
        self.gathered.extend_from_slice(data);
        Ok(())
    }

    /// The next message, when it is complete. Errors when it is compressed or too long, as soon as that is known.
    pub fn message(&mut self) -> Result<Option<Bytes>, WireError> {
        let Some(head) = self.gathered.first_chunk::<HEAD>() else { return Ok(None) };
        let [compressed, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if compressed != 0 {
            return Err(WireError::new("compressed messages are not supported"));
        }
        if length > self.limit {
            return Err(WireError::new(format!("a message of {length} bytes, more than {}", self.limit)));
        }
        if self.gathered.len() < HEAD + length {
            return Ok(None);
        }
        self.gathered.advance(HEAD);
        // Copied, so that what is kept of the message does not hold more memory than it has bytes.
        let message = Bytes::copy_from_slice(&self.gathered[..length]);
        self.gathered.advance(length);
        drop(self.room.as_mut().and_then(|room| room.split(HEAD + length)));
        if self.gathered.is_empty() {
            self.gathered = BytesMut::new();
        }
        Ok(Some(message))
    }

    /// True without the beginning of a message.
    pub fn is_empty(&self) -> bool {
        self.gathered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_arrive() {
        let bytes = [&[0, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1], b"z"].concat();
        for step in 1..=bytes.len() {
            let budget = Budget::new(bytes.len());
            let mut frames = Frames::new(3, budget.clone());
            let mut seen = Vec::new();
            for part in bytes.chunks(step) {
                frames.push(part).unwrap();
                while let Some(message) = frames.message().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [&b"abc"[..], b"", b"z"], "{step}");
            assert!(frames.is_empty());
            assert!(budget.take(bytes.len()).is_some(), "all room is given back");
        }
    }

    #[test]
    fn what_is_compressed_or_too_long_is_refused_by_its_head() {
        for (head, text) in
            [([1, 0, 0, 0, 0], "compressed"), ([0, 0, 0, 0, 4], "more than 3"), ([0, 255, 255, 255, 255], "4294967295")]
        {
            let mut frames = Frames::new(3, Budget::new(100));
            frames.push(&head).unwrap();
            assert!(frames.message().unwrap_err().0.contains(text));
        }
    }

    #[test]
    fn streams_share_a_budget_and_give_it_back_by_drop() {
        let budget = Budget::new(10);
        let (mut a, mut b) = (Frames::new(100, budget.clone()), Frames::new(100, budget.clone()));
        a.push(&[0, 0, 0, 0, 9, 1]).unwrap();
        assert!(b.push(&[0; 5]).is_err());
        drop(a);
        assert!(b.push(&[0; 5]).is_ok());
    }
}
