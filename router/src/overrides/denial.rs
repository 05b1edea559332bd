//! [`Denial`]: an override that is refused: its error, its counter, its line in the log (attack O2).

use super::CallerIdentity;
use crate::clock;
use crate::error::{Kind, RouteError};
use crate::route::Dst;
use dtab::Path;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lines in the log per second and listener, at most: who is refused must not fill the disk.
const LINES_PER_SECOND: u64 = 10;
/// Entries of an override that a line shows, and bytes of each.
const SHOWN: usize = 4;
const SHOWN_BYTES: usize = 120;
/// Characters of the text that a line shows; the names in it are printed with escapes already.
const TEXT_CHARS: usize = 300;

/// What is refused, and why.
#[derive(Debug)]
pub struct Denial<'a> {
    /// The label of `override_denied_total`.
    pub reason: &'static str,
    /// For people: what is not allowed.
    pub text: String,
    /// Where the request goes, once that is known.
    pub dst: Option<&'a Dst>,
    /// The concrete name, once that is known.
    pub leaf: Option<&'a Path>,
}

impl Denial<'_> {
    /// Counts and logs the denial, and makes the error of it: 403.
    pub(super) fn settle(&self, listener: &str, caller: &CallerIdentity, lines: &LogLimit) -> RouteError {
        metrics::counter!("override_denied_total", "reason" => self.reason).increment(1);
        if lines.allows(clock::now()) {
            let service = self.dst.map(|dst| cut(&dst.path.to_string()));
            let leaf = self.leaf.map(|leaf| cut(&leaf.to_string()));
            tracing::warn!(
                listener,
                %caller,
                reason = self.reason,
                service = service.as_deref().unwrap_or("-"),
                prefix = self.dst.map(prefixes).as_deref().unwrap_or("-"),
                leaf = leaf.as_deref().unwrap_or("-"),
                "override denied: {}",
                self.text.chars().take(TEXT_CHARS).collect::<String>()
            );
        }
        let text = format!("The override of this request is not allowed: {}", self.text);
        RouteError::new(Kind::OverrideDenied, text).undispatched()
    }
}

/// The prefixes that the override rewrites, the last and strongest first; sets by their names.
fn prefixes(dst: &Dst) -> String {
    let mut shown = String::new();
    for dentry in dst.local.dentries().iter().rev().take(SHOWN) {
        // Writing to a String does not fail.
        let _ = write!(shown, "{} ", cut(&dentry.prefix.to_string()));
    }
    for set in dst.sets.iter().take(SHOWN) {
        let owner = set.owner.as_deref().unwrap_or("nobody");
        let _ = write!(shown, "set {} of {} ", set.name, cut(owner));
    }
    shown.trim_end().to_owned()
}

fn cut(text: &str) -> String {
    text.chars().flat_map(char::escape_debug).take(SHOWN_BYTES).collect()
}

/// Allows so many lines per second.
#[derive(Debug, Default)]
pub(super) struct LogLimit {
    second: AtomicU64,
    lines: AtomicU64,
}

impl LogLimit {
    fn allows(&self, now: u64) -> bool {
        let second = now / 1_000_000_000;
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines.store(0, Ordering::Relaxed);
        }
        self.lines.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_not_flooded() {
        let limit = LogLimit::default();
        let lines = |now: u64| (0..100).filter(|_| limit.allows(now)).count();
        assert_eq!((lines(5_000_000_000), lines(5_900_000_000), lines(6_000_000_000)), (10, 0, 10));
    }
}
