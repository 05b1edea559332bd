//! [`Sources`]: how many connections each client address has, so that one cannot take the room of all (attack A8).
//!
//! Called by `serve`. Not for: the bound of all together.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// See the module; cloning shares it.
#[derive(Clone)]
pub(super) struct Sources {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection that is counted, until it is dropped.
pub(super) struct Counted {
    sources: Sources,
    source: IpAddr,
}

impl Sources {
    /// At most so many of one address.
    pub(super) fn new(most: usize) -> Sources {
        Sources { most, open: Arc::default() }
    }

    /// Counts a connection of this address; None when it has too many.
    pub(super) fn count(&self, source: IpAddr) -> Option<Counted> {
        let source = source.to_canonical();
        let mut open = self.open.lock();
        let count = open.entry(source).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Counted { sources: self.clone(), source })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.sources.open.lock();
        if let Some(count) = open.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_the_room_of_others() {
        let sources = Sources::new(2);
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let first = sources.count(a).expect("room");
        let _second = sources.count(a).expect("room");
        assert!(sources.count(a).is_none());
        assert!(sources.count("::ffff:10.0.0.1".parse().expect("an address")).is_none(), "the same host");
        let third = sources.count(b).expect("room for another");
        drop((first, third));
        assert!(sources.count(a).is_some());
        assert_eq!(sources.open.lock().len(), 1);
    }
}
