//! What a write is, before any store has it: [`Write`], the [`Condition`] under which it happens, and the numbers that are
//! versions of the stores in this process. Called by those stores.

use crate::storage::{Note, StoreError, Version};
use dtab::Dtab;
use std::time::{SystemTime, UNIX_EPOCH};

/// What must be true of a namespace so that it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It is not there.
    Absent,
    /// It is there.
    Present,
    /// It has this version.
    Is(Version),
    /// Nothing.
    Any,
}

impl Condition {
    /// Errors with the reason when a namespace in this version, or None when it is not there, must not be written.
    pub(crate) fn check(&self, current: Option<&Version>) -> Result<(), StoreError> {
        match (self, current) {
            (Condition::Any, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => Ok(()),
            (Condition::Absent, Some(_)) => Err(StoreError::Exists),
            (Condition::Present | Condition::Is(_), None) => Err(StoreError::NotFound),
            (Condition::Is(expected), Some(current)) if expected == current => Ok(()),
            (Condition::Is(_), Some(_)) => Err(StoreError::Mismatch),
        }
    }
}

/// A write to one namespace.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) namespace: String,
    pub(crate) condition: Condition,
    /// What is to be stored; None for a delete.
    pub(crate) dtab: Option<Dtab>,
    pub(crate) note: Note,
}

impl Write {
    /// Stores a dtab.
    pub(crate) fn store(namespace: &str, condition: Condition, dtab: Dtab, note: Note) -> Write {
        Write { namespace: namespace.to_owned(), condition, dtab: Some(dtab), note }
    }

    /// Removes a namespace; with `expected`, only in that version.
    pub(crate) fn delete(namespace: &str, expected: Option<Version>, note: Note) -> Write {
        let condition = expected.map_or(Condition::Present, Condition::Is);
        Write { namespace: namespace.to_owned(), condition, dtab: None, note }
    }
}

/// How much history a store keeps. The newest entry of a namespace always stays: it is its present dtab, or its delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Entries per namespace at most.
    pub entries: u64,
    /// Bytes of text per namespace at most.
    pub bytes: u64,
    /// Namespaces that are gone and have a history still, at most; those longest gone lose it first.
    pub gone: u64,
}

/// The number of the next version after `last`: the time now in microseconds since 1970, or `last` + 1 when that is more.
///
/// So numbers grow with every write, and a store that begins anew, empty or from an old copy of its file, does not give out
/// numbers again that its predecessor gave out, as long as the clock is not turned back.
pub(crate) fn next_version(last: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    u64::try_from(now).unwrap_or(u64::MAX).max(last.saturating_add(1))
}

/// The version of this number: 8 bytes, the highest first, so that versions are ordered like their numbers.
pub(crate) fn version_of(number: u64) -> Version {
    Version(number.to_be_bytes().to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_happens_under_its_condition_only() {
        let (one, two) = (version_of(1), version_of(2));
        let cases = [
            (Condition::Any, None, Ok(())),
            (Condition::Any, Some(&one), Ok(())),
            (Condition::Absent, None, Ok(())),
            (Condition::Absent, Some(&one), Err(StoreError::Exists)),
            (Condition::Present, None, Err(StoreError::NotFound)),
            (Condition::Present, Some(&one), Ok(())),
            (Condition::Is(one.clone()), None, Err(StoreError::NotFound)),
            (Condition::Is(one.clone()), Some(&one), Ok(())),
            (Condition::Is(one.clone()), Some(&two), Err(StoreError::Mismatch)),
        ];
        for (condition, current, outcome) in cases {
            assert_eq!(condition.check(current), outcome, "{condition:?} {current:?}");
        }
    }

    #[test]
    fn numbers_grow_whatever_the_clock_says() {
        let first = next_version(0);
        assert!(first > 1_700_000_000_000_000, "{first}");
        let ahead = first + 1_000_000_000_000;
        assert_eq!((next_version(ahead), next_version(ahead + 1)), (ahead + 1, ahead + 2));
        assert!(version_of(255) < version_of(256) && version_of(ahead) < version_of(ahead + 1));
    }
}
