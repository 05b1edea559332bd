//! Moving traffic from one destination to another by steps, and back when it goes wrong.
//!
//! Each step is one compare-and-set on one entry: whatever else others change stays, and when somebody else changes this
//! entry the shift ends and leaves theirs. Between steps nothing is held: at every moment the dtab in namerd is complete, and
//! a shift that is interrupted or dies leaves it so. Called by `shift`. Not for: where rates come from ([`crate::metrics`]).

use crate::edit::{self, Dtabs, Edited, has_prefix};
use crate::error::{Failure, INTERRUPTED};
use crate::metrics::{Rate, Sample};
use crate::time::show;
use crate::wire::Entry;
use dtab::{NameTree, Path, Prefix};
use std::time::Duration;
use tokio::sync::watch;

/// A step that cannot be judged is prolonged so often before it counts as failed.
const PATIENCE: u32 = 10;
/// A namerd that is away when a step is due is waited for so long.
const STEP_PATIENCE: Duration = Duration::from_secs(60);
/// And when the old destination is to be put back.
const ROLLBACK_PATIENCE: Duration = Duration::from_secs(600);

/// Reads how the new destination fares.
pub trait Meter {
    /// All counters now.
    fn sample(&self) -> impl Future<Output = Result<Sample, String>>;
}

/// What is wanted.
#[derive(Debug, Clone)]
pub struct Shift {
    /// The namespace, for messages.
    pub namespace: String,
    /// The entry.
    pub prefix: Prefix,
    /// Its destination before.
    pub from: String,
    /// Its destination in the end.
    pub to: String,
    /// Percent for the new one, rising.
    pub steps: Vec<f64>,
    /// Between steps.
    pub every: Duration,
    /// Below this percentage of successes the shift is taken back.
    pub abort_below: Option<f64>,
    /// So many requests are needed to judge a step.
    pub min_requests: f64,
    /// Goes on where an earlier shift was interrupted.
    pub resume: bool,
    /// Takes the shift back when it is interrupted.
    pub rollback_on_interrupt: bool,
}

/// Why a pause between steps has ended.
enum Ended {
    Good,
    Bad(String),
    Interrupted,
}

/// Reads `--steps`: percentages, rising, at most 100, with two decimals at most.
pub fn steps(text: &str) -> Result<Vec<f64>, String> {
    let mut steps = Vec::new();
    for part in text.split(',').map(|part| part.trim().trim_end_matches('%')) {
        let step: f64 = part.parse().map_err(|_| format!("{part:?} is no percentage"))?;
        let fits = step > 0.0 && step <= 100.0 && (step * 100.0).fract().abs() < 1e-6;
        if !fits || steps.last().is_some_and(|last| *last >= step) {
            return Err("steps are rising percentages above 0, up to 100, with two decimals at most".into());
        }
        steps.push(step);
    }
    Ok(steps)
}

/// Reads `--abort-if`: `success<PERCENT`.
pub fn threshold(text: &str) -> Result<f64, String> {
    let wrong = || format!("{text:?} is no condition; write success<99.5");
    let number = text.trim().strip_prefix("success").map(str::trim_start).and_then(|rest| rest.strip_prefix('<'));
    let number: f64 = number.ok_or_else(wrong)?.trim().trim_end_matches('%').parse().map_err(|_| wrong())?;
    if number > 0.0 && number <= 100.0 { Ok(number) } else { Err(wrong()) }
}

impl Shift {
    /// The destination of the entry at this percentage.
    pub fn dst(&self, percent: f64) -> String {
        if percent >= 100.0 {
            return self.to.clone();
        }
        let part = |text: &str| match dtab::parse_tree(text) {
            Ok(NameTree::Leaf(_)) => text.to_owned(),
            _ => format!("({text})"),
        };
        // Two decimals: what is left of 100 may not be written as 89.99999.
        let left = (10_000.0 - percent * 100.0).round() / 100.0;
        format!("{percent} * {} & {left} * {}", part(&self.to), part(&self.from))
    }

    /// What will be done, one line each.
    pub fn outline(&self, current: f64) -> Vec<String> {
        let mut lines = vec![format!("{} in {}, now {}% on {}", self.prefix, self.namespace, current, self.to)];
        for step in self.left(current) {
            lines.push(format!("{step}%  {} => {}", self.prefix, self.dst(step)));
        }
        let judged = self.abort_below.map(|limit| format!(", back to {} if success<{limit}", self.from));
        lines.push(format!("a step every {}{}", show(self.every), judged.unwrap_or_default()));
        lines
    }

    fn left(&self, current: f64) -> Vec<f64> {
        self.steps.iter().copied().filter(|step| *step > current).collect()
    }

    /// The percentage at which the entry is. Errors when it is neither where the shift begins nor, with `resume`, within it.
    pub fn current(&self, entries: &[Entry]) -> Result<f64, Failure> {
        let Some(entry) = entries.iter().rev().find(|entry| has_prefix(entry, &self.prefix)) else {
            return Err(Failure::new(format!("{} has no entry {}", self.namespace, self.prefix)));
        };
        if alike(&entry.dst, &self.from) {
            return Ok(0.0);
        }
        let share = self.share(&entry.dst);
        match share {
            Some(share) if self.resume => Ok(share),
            share => {
                let advice = match share {
                    Some(share) => format!("that is {share}% of this shift: add --resume to go on from there"),
                    None => format!("--from must say what it is now: --from '{}'", entry.dst),
                };
                let (prefix, dst) = (&self.prefix, &entry.dst);
                Err(Failure::new(format!("{prefix} is not {}, but {dst}", self.from)).with(advice))
            }
        }
    }

    /// The percentage of the new destination, when this is a mix of both.
    fn share(&self, dst: &str) -> Option<f64> {
        if alike(dst, &self.to) {
            return Some(100.0);
        }
        let NameTree::Union(branches) = dtab::parse_tree(dst).ok()? else { return None };
        let [new, old] = branches.as_slice() else { return None };
        let (to, from) = (parsed(&self.to)?, parsed(&self.from)?);
        let sum = new.weight + old.weight;
        let mix = new.tree.to_string() == to.to_string() && old.tree.to_string() == from.to_string() && sum > 0.0;
        mix.then(|| (new.weight / sum * 10_000.0).round() / 100.0)
    }

    /// Runs the shift. `stop` becomes true when somebody wants it to end; `say` gets lines for people.
    pub async fn run<D: Dtabs, M: Meter>(
        &self,
        dtabs: &D,
        meter: &M,
        stop: &mut watch::Receiver<bool>,
        say: &mut dyn FnMut(String),
    ) -> Result<(), Failure> {
        let start = dtabs.read().await?;
        let begun = self.current(&start.entries)?;
        let mut now = start.entries.iter().rev().find(|entry| has_prefix(entry, &self.prefix)).map(|e| e.dst.clone());
        let mut before = match self.abort_below {
            Some(_) => meter.sample().await.map_err(|why| Failure::new(format!("nothing was changed: {why}")))?,
            None => Sample::default(),
        };
        let left = self.left(begun);
        if left.is_empty() {
            say(format!("nothing to do: {} has {begun}% on {}", self.prefix, self.to));
            return Ok(());
        }
        for (i, step) in left.iter().enumerate() {
            let at = now.clone().unwrap_or_default();
            if *stop.borrow() {
                return Err(self.interrupted(dtabs, &at).await);
            }
            let dst = self.dst(*step);
            self.write(dtabs, &at, &dst, STEP_PATIENCE).await?;
            say(format!("{step}%  {} => {dst}", self.prefix));
            now = Some(dst.clone());
            if i + 1 == left.len() && self.abort_below.is_none() {
                break;
            }
            match self.watch(meter, &mut before, stop, say).await {
                Ended::Good => {}
                Ended::Bad(why) => return Err(self.take_back(dtabs, &dst, &why).await),
                Ended::Interrupted => return Err(self.interrupted(dtabs, &dst).await),
            }
        }
        say(format!("done: {} => {}", self.prefix, now.unwrap_or_default()));
        Ok(())
    }

    /// Waits for a step to show whether it is good. Moves `before` on.
    async fn watch<M: Meter>(
        &self,
        meter: &M,
        before: &mut Sample,
        stop: &mut watch::Receiver<bool>,
        say: &mut dyn FnMut(String),
    ) -> Ended {
        let mut why = String::new();
        for _ in 0..PATIENCE {
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                _ = stop.wait_for(|stop| *stop) => return Ended::Interrupted,
            }
            let Some(limit) = self.abort_below else { return Ended::Good };
            let sample = tokio::select! {
                sample = meter.sample() => sample,
                _ = stop.wait_for(|stop| *stop) => return Ended::Interrupted,
            };
            let now = match sample {
                Ok(now) => now,
                Err(error) => {
                    say(format!("      not judged: {error}"));
                    why = error;
                    continue;
                }
            };
            let rate = now.since(before);
            if rate.requests() == 0.0 && rate.lost >= self.min_requests.max(1.0) {
                return Ended::Bad(format!(
                    "no request reached {}, and {} requests to services failed meanwhile",
                    self.to, rate.lost
                ));
            }
            if rate.requests() < self.min_requests {
                why = format!("only {} requests to {}, {} are needed", rate.requests(), self.to, self.min_requests);
                say(format!("      not judged: {why}"));
                continue;
            }
            say(format!("      {}", shown(&rate)));
            *before = now;
            let good = rate.percent() >= limit;
            return if good { Ended::Good } else { Ended::Bad(format!("{}, below {limit}%", shown(&rate))) };
        }
        Ended::Bad(format!("{PATIENCE} pauses were not enough to judge the step: {why}"))
    }

    /// One compare-and-set on the entry.
    async fn write<D: Dtabs>(
        &self,
        dtabs: &D,
        expected: &str,
        dst: &str,
        patience: Duration,
    ) -> Result<Edited, Failure> {
        let change = |entries: &[Entry]| {
            let entry = entries.iter().rev().find(|entry| has_prefix(entry, &self.prefix));
            match entry {
                Some(entry) if alike(&entry.dst, dst) => Ok(None),
                Some(entry) if alike(&entry.dst, expected) => Ok(edit::set(entries, &self.prefix, dst)),
                found => {
                    let found = found.map_or("gone".to_owned(), |entry| format!("now {}", entry.dst));
                    let text = format!("somebody else has changed {}: it was {expected} and is {found}", self.prefix);
                    Err(Failure::new(text).with("their change stays, and the shift has ended"))
                }
            }
        };
        let edited = edit::edit(dtabs, false, patience, change).await;
        edited.map_err(|failure| {
            let stays = format!("the last that is known to be written: {} => {expected}", self.prefix);
            let detail = failure.detail.clone().map_or(stays.clone(), |detail| format!("{detail}\n{stays}"));
            failure.with(detail)
        })
    }

    async fn take_back<D: Dtabs>(&self, dtabs: &D, now: &str, why: &str) -> Failure {
        match self.write(dtabs, now, &self.from, ROLLBACK_PATIENCE).await {
            Ok(_) => Failure::new(format!("rolled back: {why}")).with(format!("{} => {}", self.prefix, self.from)),
            Err(failure) => Failure::new(format!("rolling back failed: {}", failure.message))
                .with(format!("it was wanted because of {why}\n{}", failure.detail.unwrap_or_default())),
        }
    }

    async fn interrupted<D: Dtabs>(&self, dtabs: &D, now: &str) -> Failure {
        if self.rollback_on_interrupt {
            return self.take_back(dtabs, now, "interrupted").await.status(INTERRUPTED);
        }
        let (namespace, prefix) = (&self.namespace, &self.prefix);
        let mut lines = vec![format!("{prefix} => {now}")];
        if !alike(now, &self.from) {
            lines.push(format!("to go back: namerctl dtab set {namespace} '{prefix}' '{}'", self.from));
            lines.push("to go on: the same command with --resume".to_owned());
        }
        Failure::new(format!("interrupted; {namespace} stays as it is")).with(lines.join("\n")).status(INTERRUPTED)
    }
}

fn shown(rate: &Rate) -> String {
    format!("{} requests, {:.2}% successful", rate.requests(), rate.percent())
}

fn parsed(text: &str) -> Option<NameTree<Path>> {
    dtab::parse_tree(text).ok()
}

/// True when both print alike: a namerd may have given weights two decimals.
pub(crate) fn alike(a: &str, b: &str) -> bool {
    matches!((parsed(a), parsed(b)), (Some(a), Some(b)) if a.to_string() == b.to_string())
}

#[cfg(test)]
#[path = "shift_tests.rs"]
mod tests;
