//! Gives the room of a file back to the disk at the start, when most of it is free: a history that was long, or namespaces
//! that were many, leave a file that never gets smaller by itself.
//!
//! What moves is redb's work: it moves pages in transactions of its own, each synced, so whoever is killed meanwhile finds
//! all dtabs, and the rest is done at the next start. Called by `file`. Not for: when the process runs.

use redb::{Database, Error};

/// A smaller file is left as it is.
const SMALL: u64 = 16 << 20;
/// One with more in use is left as it is, for the start takes time with what is in use.
const MOST_USED: u64 = 512 << 20;

/// What would be done about a file of so many bytes, of which so many are in use.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing.
    Leave,
    /// Nothing, and the operator should know.
    TooLarge,
    /// It is made smaller.
    Shrink,
}

fn judge(length: u64, used: u64) -> Verdict {
    match () {
        () if length < SMALL || used > length / 2 => Verdict::Leave,
        () if used > MOST_USED => Verdict::TooLarge,
        () => Verdict::Shrink,
    }
}

/// Makes the file of `database`, which has `length` bytes, smaller when at least half of it is free. True when it did.
pub(super) fn shrink(database: &mut Database, length: u64) -> Result<bool, Error> {
    if length < SMALL {
        return Ok(false);
    }
    let transaction = database.begin_write()?;
    let stats = transaction.stats()?;
    transaction.abort()?;
    let used = stats.allocated_pages().saturating_mul(stats.page_size() as u64);
    match judge(length, used) {
        Verdict::Leave => return Ok(false),
        Verdict::TooLarge => {
            tracing::info!(
                length,
                used,
                "most of the file of the dtabs is free, and too much is in use to move it now"
            );
            return Ok(false);
        }
        Verdict::Shrink => {}
    }
    tracing::info!(length, used, "most of the file of the dtabs is free: it is made smaller, which may take a while");
    Ok(database.compact()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_worth_it_is_moved() {
        for (length, used, verdict) in [
            (0, 0, Verdict::Leave),
            (SMALL - 1, 0, Verdict::Leave),
            (SMALL, SMALL / 2, Verdict::Shrink),
            (SMALL, SMALL / 2 + 1, Verdict::Leave),
            (MOST_USED * 2, MOST_USED, Verdict::Shrink),
            (MOST_USED * 3, MOST_USED + 1, Verdict::TooLarge),
        ] {
            assert_eq!(judge(length, used), verdict, "{length} {used}");
        }
    }
}
