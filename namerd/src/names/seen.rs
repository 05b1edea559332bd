//! [`Seen`]: the names that routers ask for, so that a change can be planned against them.
//!
//! Called by `names`. Not for: what the names are bound to.

use dtab::Path;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A name that nobody has asked for is forgotten after this time.
const KEPT: Duration = Duration::from_secs(3600);
/// Names that are remembered, at most; a further one is not while all of them are young or in use.
const MAX_NAMES: usize = 100_000;
/// A full table is searched for forgotten names so often at most: the search holds everybody up.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub(super) struct Seen {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    names: HashMap<(String, Path), Use>,
    /// Not searched before; None when it never was.
    next_sweep: Option<Instant>,
}

impl Table {
    /// Whether there is room for another name, after making some if it is time for that.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.names.len() >= MAX_NAMES && self.next_sweep.is_none_or(|next| now >= next) {
            self.names.retain(|_, used| used.is_recent(now));
            self.next_sweep = Some(now + SWEEP_EVERY);
        }
        self.names.len() < MAX_NAMES
    }
}

#[derive(Clone, Copy)]
struct Use {
    /// Bindings that are live now.
    live: usize,
    last: Instant,
}

impl Use {
    fn is_recent(&self, now: Instant) -> bool {
        self.live > 0 || now.saturating_duration_since(self.last) < KEPT
    }
}

/// A name in use, until it is dropped.
pub(super) struct InUse {
    seen: Arc<Seen>,
    key: (String, Path),
}

impl Seen {
    /// Notes that `path` is asked for in `namespace`, from now until the result is dropped.
    pub(super) fn begin(self: &Arc<Seen>, namespace: &str, path: &Path) -> InUse {
        let (key, now) = ((namespace.to_owned(), path.clone()), Instant::now());
        let mut table = self.table.lock();
        if let Some(used) = table.names.get_mut(&key) {
            used.live += 1;
        } else if table.has_room(now) {
            table.names.insert(key.clone(), Use { live: 1, last: now });
        }
        drop(table);
        InUse { seen: self.clone(), key }
    }

    /// The names of `namespace` that are in use or were within the last hour, sorted by their print.
    pub(super) fn of(&self, namespace: &str) -> Vec<Path> {
        let now = Instant::now();
        let mut list: Vec<Path> = {
            let table = self.table.lock();
            let here = table.names.iter().filter(|((known, _), used)| known == namespace && used.is_recent(now));
            here.map(|((_, path), _)| path.clone()).collect()
        };
        list.sort_by_cached_key(ToString::to_string);
        list
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(used) = self.seen.table.lock().names.get_mut(&self.key) {
            used.live = used.live.saturating_sub(1);
            used.last = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a path")
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_known_while_in_use_and_an_hour_longer() {
        let seen = Arc::new(Seen::default());
        let (long, short) = (seen.begin("default", &path("/svc/long")), seen.begin("default", &path("/svc/a")));
        let _other = seen.begin("other", &path("/svc/other"));
        drop(short);
        assert_eq!(seen.of("default"), [path("/svc/a"), path("/svc/long")]);
        tokio::time::advance(KEPT).await;
        assert_eq!(seen.of("default"), [path("/svc/long")]);
        drop(long);
        assert_eq!(seen.of("default"), [path("/svc/long")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_names_does_not_grow_without_limit() {
        let seen = Arc::new(Seen::default());
        for number in 0..MAX_NAMES + 10 {
            drop(seen.begin("default", &path(&format!("/svc/{number}"))));
        }
        assert_eq!(seen.of("default").len(), MAX_NAMES);
        tokio::time::advance(KEPT).await;
        drop(seen.begin("default", &path("/svc/new")));
        assert_eq!(seen.of("default"), [path("/svc/new")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_is_swept_once_a_minute_at_most() {
        let seen = Arc::new(Seen::default());
        for number in 0..MAX_NAMES {
            drop(seen.begin("default", &path(&format!("/svc/{number}"))));
        }
        tokio::time::advance(KEPT - SWEEP_EVERY / 2).await;
        // Swept in vain: all are young.
        drop(seen.begin("default", &path("/svc/early")));
        tokio::time::advance(SWEEP_EVERY / 2).await;
        // All are old now, but it is too early to look again.
        drop(seen.begin("default", &path("/svc/early")));
        assert!(seen.of("default").is_empty());
        tokio::time::advance(SWEEP_EVERY / 2).await;
        drop(seen.begin("default", &path("/svc/new")));
        assert_eq!(seen.of("default"), [path("/svc/new")]);
    }
}
