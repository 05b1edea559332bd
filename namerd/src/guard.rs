//! [`Guard`]: refuses an edit that would take away all destinations of most names that routers use (attack A10).
//!
//! A dtab is a pure function of names and of what namers know: both are here, so an edit is tried on the names in use before
//! it is stored. Called by the interface that writes. Not for: edits of a few names, which `namerctl dtab plan` shows.

use crate::names::Names;
use dtab::{Activity, BoundName, Dtab, DtabStack, Interpreter, NameTree, Path, State};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Names that an edit is tried on, at most.
const MAX_NAMES: usize = 2_000;
/// What namers do not know by then is not taken to be lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// Names that a refusal shows.
const SHOWN: usize = 5;

/// How much an edit may take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// Of the names in use that have a destination, so many percent may lose all of them; 100 for all.
    pub most_lost_percent: usize,
    /// With fewer names in use than that nothing is refused.
    pub min_names: usize,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard { most_lost_percent: 90, min_names: 5 }
    }
}

impl Guard {
    /// Errors with what would be lost when `after` takes the place of `before` in this namespace.
    pub async fn judge(self, names: &Names, namespace: &str, before: &Dtab, after: &Dtab) -> Result<(), String> {
        if self.most_lost_percent >= 100 || before == after {
            return Ok(());
        }
        let mut known = names.known(namespace);
        known.truncate(MAX_NAMES);
        if known.len() < self.min_names {
            return Ok(());
        }
        let deadline = Instant::now() + PATIENCE;
        let interpreter = names.without_dtab();
        let bind = |dtab: &Dtab| -> Vec<Activity<NameTree<BoundName>>> {
            let stack = DtabStack::new([dtab.clone()]);
            known.iter().map(|path| interpreter.bind(&stack, path)).collect()
        };
        let (mut had, mut lost) = (0_usize, Vec::new());
        for ((path, mut before), mut after) in known.iter().zip(bind(before)).zip(bind(after)) {
            if leads(&mut before, deadline).await != Some(true) {
                continue;
            }
            had += 1;
            if leads(&mut after, deadline).await == Some(false) {
                lost.push(path);
            }
        }
        if had < self.min_names || lost.len() * 100 <= had * self.most_lost_percent {
            return Ok(());
        }
        Err(refusal(had, &lost))
    }
}

fn refusal(had: usize, lost: &[&Path]) -> String {
    let shown: Vec<String> = lost.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if lost.len() > SHOWN { ", …" } else { "" };
    format!(
        "{} of the {had} names that routers use here would lose every destination: {}{more}; nothing was stored. `namerctl \
        dtab plan` shows what an edit does; to store it all the same send the header `l5d-force: true` (`namerctl --force`)",
        lost.len(),
        shown.join(", ")
    )
}

/// Whether the name has a destination; None when that is not known by `deadline`.
async fn leads(bound: &mut Activity<NameTree<BoundName>>, deadline: Instant) -> Option<bool> {
    match timeout_at(deadline, bound.settled()).await {
        Ok(State::Ok(tree)) => {
            let mut leaves = 0;
            tree.for_each(&mut |_| leaves += 1);
            Some(leaves > 0)
        }
        Ok(State::Failed(_) | State::Pending) | Err(_) => None,
    }
}
