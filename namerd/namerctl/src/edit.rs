//! Changing one entry of a dtab by compare-and-set: read, change, write over what was read, and again after a conflict.
//!
//! So two jobs that edit different prefixes at once both succeed, and order and all other entries stay. Called by `dtab
//! set`, `dtab unset`, `dtab rollback` and [`crate::shift`].

use crate::api::{ApiError, Body, Namerd};
use crate::error::Failure;
use crate::wire::{Entry, Versioned};
use std::time::Duration;
use tokio::time::Instant;

/// So often a write is tried when others write at the same time.
const ATTEMPTS: u32 = 50;
/// So often a write is tried whose outcome stays unknown.
const LOST_ANSWERS: u32 = 3;
/// A namerd that is not there is tried again so often.
const OUTAGE_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// One namespace, as compare-and-set needs it.
pub trait Dtabs {
    /// The dtab now.
    fn read(&self) -> impl Future<Output = Result<Versioned, ApiError>>;
    /// Makes the namespace with these entries.
    fn create(&self, entries: &[Entry]) -> impl Future<Output = Result<(), ApiError>>;
    /// Replaces the dtab that has this version.
    fn update(&self, entries: &[Entry], version: &str) -> impl Future<Output = Result<(), ApiError>>;
}

/// A namespace of a namerd.
pub struct Namespace<'a> {
    /// The namerd.
    pub namerd: &'a Namerd,
    /// The name.
    pub name: &'a str,
}

impl Dtabs for Namespace<'_> {
    async fn read(&self) -> Result<Versioned, ApiError> {
        self.namerd.read(self.name).await
    }

    async fn create(&self, entries: &[Entry]) -> Result<(), ApiError> {
        self.namerd.create(self.name, &Body::Entries(entries.to_vec())).await
    }

    async fn update(&self, entries: &[Entry], version: &str) -> Result<(), ApiError> {
        self.namerd.update(self.name, &Body::Entries(entries.to_vec()), Some(version)).await
    }
}

/// What came of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edited {
    /// Written: the entries before and after.
    Written(Vec<Entry>, Vec<Entry>),
    /// There was nothing to change.
    Unchanged,
}

/// Writes what `change` makes of the entries; None from it means that there is nothing to do. `create`: a namespace that is
/// not there is made. `patience`: so long a namerd that is not there, or not ready, is tried again. An error of `change` ends
/// it without a write.
pub async fn edit<D: Dtabs>(
    dtabs: &D,
    create: bool,
    patience: Duration,
    mut change: impl FnMut(&[Entry]) -> Result<Option<Vec<Entry>>, Failure>,
) -> Result<Edited, Failure> {
    let deadline = Instant::now() + patience;
    let mut lost = None;
    let (mut conflicts, mut losses) = (0, 0);
    while conflicts < ATTEMPTS {
        let (before, there) = match dtabs.read().await {
            Ok(dtab) => (dtab, true),
            Err(ApiError::NotFound) if create => (Versioned::default(), false),
            Err(error) if error.is_passing() && Instant::now() < deadline => {
                tokio::time::sleep(OUTAGE_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let Some(after) = change(&before.entries)? else {
            // A write whose answer was lost has been done.
            return Ok(lost.map_or(Edited::Unchanged, |(before, after)| Edited::Written(before, after)));
        };
        if there && before.version.is_empty() {
            let why = "namerd sent no version (ETag) with the dtab, so it cannot be changed safely";
            return Err(Failure::new(why).with("use `dtab get` and `dtab update` when nobody else writes"));
        }
        let written = match there {
            true => dtabs.update(&after, &before.version).await,
            false => dtabs.create(&after).await,
        };
        match written {
            Ok(()) => return Ok(Edited::Written(before.entries, after)),
            Err(error) if error.is_conflict() || error == ApiError::NotFound => {
                tokio::time::sleep(pause(conflicts)).await;
                conflicts += 1;
            }
            Err(error) if error.is_passing() && (losses < LOST_ANSWERS || Instant::now() < deadline) => {
                losses += 1;
                lost = Some((before.entries, after));
                tokio::time::sleep(if patience.is_zero() { pause(losses) } else { OUTAGE_PAUSE }).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!("others changed the dtab {ATTEMPTS} times in between; nothing was written")))
}

/// Grows, and differs between those who meet.
fn pause(attempt: u32) -> Duration {
    let most = Duration::from_millis(10 << attempt.min(6)).min(LONGEST_PAUSE);
    most.mul_f64(0.2 + 0.8 * fastrand::f64())
}

/// True when the prefix of the entry means the same.
pub fn has_prefix(entry: &Entry, prefix: &dtab::Prefix) -> bool {
    dtab::parse_prefix(&entry.prefix).is_ok_and(|own| own == *prefix)
}

/// The entries with `dst` in the last one of this prefix, or one more at the end. None when that is so already.
pub fn set(entries: &[Entry], prefix: &dtab::Prefix, dst: &str) -> Option<Vec<Entry>> {
    let mut after = entries.to_vec();
    match after.iter_mut().rev().find(|entry| has_prefix(entry, prefix)) {
        Some(entry) if same_tree(&entry.dst, dst) => return None,
        Some(entry) => dst.clone_into(&mut entry.dst),
        None => after.push(Entry { prefix: prefix.to_string(), dst: dst.to_owned() }),
    }
    Some(after)
}

/// The entries without all of this prefix. None when there is none.
pub fn unset(entries: &[Entry], prefix: &dtab::Prefix) -> Option<Vec<Entry>> {
    let after: Vec<Entry> = entries.iter().filter(|entry| !has_prefix(entry, prefix)).cloned().collect();
    (after.len() < entries.len()).then_some(after)
}

/// True when both texts are one tree, exact weights included.
pub fn same_tree(a: &str, b: &str) -> bool {
    a == b || matches!((dtab::parse_tree(a), dtab::parse_tree(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    pub(crate) fn entries(text: &str) -> Vec<Entry> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let entry = |part: &str| {
            let (prefix, dst) = part.split_once("=>").unwrap();
            Entry { prefix: prefix.trim().into(), dst: dst.trim().into() }
        };
        parts.map(entry).collect()
    }

    fn prefix(text: &str) -> dtab::Prefix {
        dtab::parse_prefix(text).unwrap()
    }

    /// A store in memory with another writer who comes in between.
    #[derive(Default)]
    pub(crate) struct Fake {
        pub(crate) dtab: RefCell<Option<Vec<Entry>>>,
        pub(crate) version: Cell<u64>,
        /// What others do before the next writes.
        pub(crate) others: RefCell<Vec<Vec<Entry>>>,
        /// The next so many writes are done but not answered.
        pub(crate) lose: Cell<u32>,
        /// The next so many reads are not answered.
        pub(crate) away: Cell<u32>,
        pub(crate) writes: RefCell<Vec<Vec<Entry>>>,
    }

    impl Fake {
        pub(crate) fn of(text: &str) -> Fake {
            Fake { dtab: RefCell::new(Some(entries(text))), version: Cell::new(1), ..Fake::default() }
        }

        fn write(&self, new: &[Entry]) -> Result<(), ApiError> {
            *self.dtab.borrow_mut() = Some(new.to_vec());
            self.version.set(self.version.get() + 1);
            self.writes.borrow_mut().push(new.to_vec());
            match self.lose.get() {
                0 => Ok(()),
                left => {
                    self.lose.set(left - 1);
                    Err(ApiError::Transport(crate::http::lost_for_tests()))
                }
            }
        }

        fn interfere(&self) {
            if let Some(other) = self.others.borrow_mut().pop() {
                *self.dtab.borrow_mut() = Some(other);
                self.version.set(self.version.get() + 1);
            }
        }
    }

    impl Dtabs for Fake {
        async fn read(&self) -> Result<Versioned, ApiError> {
            if self.away.get() > 0 {
                self.away.set(self.away.get() - 1);
                return Err(ApiError::Transport(crate::http::lost_for_tests()));
            }
            let entries = self.dtab.borrow().clone().ok_or(ApiError::NotFound)?;
            Ok(Versioned { version: self.version.get().to_string(), entries })
        }

        async fn create(&self, entries: &[Entry]) -> Result<(), ApiError> {
            self.interfere();
            if self.dtab.borrow().is_some() {
                return Err(ApiError::Status { status: 409, reason: "Conflict".into(), says: String::new() });
            }
            self.write(entries)
        }

        async fn update(&self, entries: &[Entry], version: &str) -> Result<(), ApiError> {
            self.interfere();
            if version != self.version.get().to_string() {
                let reason = "Precondition Failed".into();
                return Err(ApiError::Status { status: 412, reason, says: String::new() });
            }
            self.write(entries)
        }
    }

    #[test]
    fn set_changes_the_last_entry_of_the_prefix_and_nothing_else() {
        let before = entries("/a=>/1; /b => /2; /a=>/3; /c=>/4");
        let after = set(&before, &prefix("/a"), "/x | /y").unwrap();
        assert_eq!(after, entries("/a=>/1; /b => /2; /a=>/x | /y; /c=>/4"));
        assert_eq!(set(&before, &prefix("/d"), "/x").unwrap(), entries("/a=>/1; /b => /2; /a=>/3; /c=>/4; /d=>/x"));
        assert_eq!(set(&before, &prefix("/c"), " /4 "), None);
        assert_eq!(set(&entries("/\\x61=>/1"), &prefix("/a"), "/2").unwrap(), entries("/\\x61=>/2"));
    }

    #[test]
    fn unset_removes_all_of_the_prefix() {
        let before = entries("/a=>/1; /b=>/2; /a=>/3; /a/b=>/4");
        assert_eq!(unset(&before, &prefix("/a")).unwrap(), entries("/b=>/2; /a/b=>/4"));
        assert_eq!(unset(&before, &prefix("/*")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_tried_again_on_what_the_other_wrote() {
        let fake = Fake::of("/a=>/1");
        fake.others.borrow_mut().push(entries("/a=>/1; /b=>/2"));
        let edited = edit(&fake, false, Duration::ZERO, |now| Ok(set(now, &prefix("/a"), "/9"))).await.unwrap();
        assert_eq!(edited, Edited::Written(entries("/a=>/1; /b=>/2"), entries("/a=>/9; /b=>/2")));
        assert_eq!(fake.writes.borrow().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_created_unless_wanted() {
        let fake = Fake::default();
        let change = |now: &[Entry]| Ok(set(now, &prefix("/a"), "/1"));
        assert!(edit(&fake, false, Duration::ZERO, change).await.unwrap_err().message.contains("not found"));
        assert!(fake.dtab.borrow().is_none());
        // Somebody else is faster: what he wrote stays.
        fake.others.borrow_mut().push(entries("/b=>/2"));
        edit(&fake, true, Duration::ZERO, change).await.unwrap();
        assert_eq!(fake.dtab.borrow().clone().unwrap(), entries("/b=>/2; /a=>/1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_without_an_answer_is_looked_after() {
        let fake = Fake::of("/a=>/1");
        fake.lose.set(1);
        let edited = edit(&fake, false, Duration::ZERO, |now| Ok(set(now, &prefix("/a"), "/2"))).await.unwrap();
        assert_eq!(edited, Edited::Written(entries("/a=>/1"), entries("/a=>/2")));
        assert_eq!(fake.writes.borrow().len(), 1, "not written twice");
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_for_as_long_as_wanted() {
        let fake = Fake::of("/a=>/1");
        let change = |now: &[Entry]| Ok(set(now, &prefix("/a"), "/2"));
        fake.away.set(30);
        assert!(edit(&fake, false, Duration::ZERO, change).await.is_err());
        assert!(edit(&fake, false, Duration::from_secs(10), change).await.is_err());
        let edited = edit(&fake, false, Duration::from_secs(60), change).await.unwrap();
        assert_eq!(edited, Edited::Written(entries("/a=>/1"), entries("/a=>/2")));
    }

    #[tokio::test(start_paused = true)]
    async fn endless_conflicts_end() {
        let fake = Fake::of("/a=>/1");
        *fake.others.borrow_mut() = vec![entries("/a=>/3"); 100];
        let failure = edit(&fake, false, Duration::ZERO, |now| Ok(set(now, &prefix("/a"), "/2"))).await.unwrap_err();
        assert!(failure.message.contains("nothing was written"), "{failure}");
        assert!(fake.writes.borrow().is_empty());
    }
}
