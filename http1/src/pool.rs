//! The thread's pool of connection buffers.
//!
//! What it is for: idle connections hold no buffer and busy ones reuse warm memory, so a request allocates nothing.
//! Bounded: at most 256 buffers of at most 64 KiB per thread. What it is not: shared between threads. Called by
//! `conn` only.
//!
//! A buffer may come back while slices of it (a body chunk on its way out) are still alive. It is kept, and taken
//! again only once they are gone.

use bytes::BytesMut;
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Capacity of a fresh buffer, in bytes.
pub(crate) const BUFFER_BYTES: usize = 16 * 1024;
/// Largest buffer kept, in bytes.
pub(crate) const MAX_KEPT_BYTES: usize = 64 * 1024;
/// Most buffers kept per thread.
const MAX_KEPT: usize = 256;
/// Kept buffers tried before a fresh one is made.
const TRIES: usize = 4;

thread_local! {
    static POOL: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` on the pool, unless the thread is ending.
fn with_pool<T>(f: impl FnOnce(&mut Vec<BytesMut>) -> Option<T>) -> Option<T> {
    POOL.try_with(|pool| pool.try_borrow_mut().ok().and_then(|mut pool| f(&mut pool))).ok().flatten()
}

fn take() -> BytesMut {
    for _ in 0..TRIES {
        let Some(mut buf) = with_pool(Vec::pop) else { break };
        if buf.try_reclaim(BUFFER_BYTES) && buf.capacity() <= MAX_KEPT_BYTES {
            return buf;
        }
    }
    BytesMut::with_capacity(BUFFER_BYTES)
}

fn give(mut buf: BytesMut) {
    buf.clear();
    if buf.capacity() > MAX_KEPT_BYTES {
        return;
    }
    with_pool(|pool| {
        if pool.len() < MAX_KEPT {
            pool.push(buf);
        }
        Some(())
    });
}

/// A buffer that comes from the pool when first needed and goes back when released or dropped.
#[derive(Debug)]
pub(crate) struct Pooled {
    buf: BytesMut,
    held: bool,
}

impl Pooled {
    /// Holds no memory yet.
    pub(crate) fn new() -> Self {
        Self { buf: BytesMut::new(), held: false }
    }

    /// Makes sure a buffer is held.
    pub(crate) fn ensure(&mut self) -> &mut BytesMut {
        if !self.held {
            self.buf = take();
            self.held = true;
        }
        &mut self.buf
    }

    /// Gives the buffer back, contents and all.
    pub(crate) fn release(&mut self) {
        if self.held {
            self.held = false;
            give(std::mem::take(&mut self.buf));
        }
    }

    /// Makes room for at least `spare` more bytes, by preference without allocating: in the buffer itself if no slice
    /// of it is alive, else in another one from the pool.
    pub(crate) fn make_room(&mut self, spare: usize) {
        let buf = self.ensure();
        if buf.is_empty() && buf.try_reclaim(BUFFER_BYTES) {
            return;
        }
        if buf.capacity() - buf.len() >= spare {
            return;
        }
        if buf.len() + spare <= BUFFER_BYTES {
            let mut fresh = take();
            fresh.extend_from_slice(buf);
            give(std::mem::replace(buf, fresh));
        } else {
            buf.reserve(BUFFER_BYTES);
        }
    }
}

impl Deref for Pooled {
    type Target = BytesMut;
    fn deref(&self) -> &BytesMut {
        &self.buf
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.buf
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> usize {
        with_pool(|pool| Some(pool.len())).unwrap()
    }

    #[test]
    fn buffers_are_reused_once_their_slices_are_gone() {
        let mut a = Pooled::new();
        assert_eq!(a.capacity(), 0, "holds nothing before it is needed");
        a.ensure().extend_from_slice(b"abc");
        let at = a.as_ptr();
        let slice = a.split().freeze();
        a.release();
        assert_eq!((kept(), a.capacity()), (1, 0));
        let other = take();
        assert_ne!(other.as_ptr(), at, "a slice is alive");
        drop(slice);
        drop(other);
        a.ensure().extend_from_slice(b"abc");
        let at = a.as_ptr();
        drop(a.split());
        drop(a);
        assert_eq!(take().as_ptr(), at);
    }

    #[test]
    fn the_pool_is_bounded() {
        let many: Vec<_> = (0..300)
            .map(|_| {
                let mut buf = Pooled::new();
                buf.ensure();
                buf
            })
            .collect();
        drop(many);
        assert_eq!(kept(), MAX_KEPT);
        let mut large = Pooled::new();
        large.ensure().reserve(MAX_KEPT_BYTES + 1);
        let before = kept();
        large.release();
        assert_eq!(kept(), before);
    }

    #[test]
    fn room_is_made_without_losing_bytes() {
        let mut buf = Pooled::new();
        buf.ensure().resize(BUFFER_BYTES, 7);
        let slice = buf.split_to(BUFFER_BYTES - 100).freeze();
        buf.make_room(2048);
        assert_eq!(buf[..], [7; 100]);
        assert!(buf.capacity() >= 2148 && slice.len() == BUFFER_BYTES - 100);
        buf.resize(BUFFER_BYTES, 8);
        buf.make_room(2048);
        assert_eq!(buf.len(), BUFFER_BYTES);
        assert!(buf.capacity() >= BUFFER_BYTES + 2048);
    }
}
