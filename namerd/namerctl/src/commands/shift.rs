//! `shift`: the words, the metrics, and the signals around [`crate::shift`].

use super::{Outcome, namerd, print};
use crate::api::Namerd;
use crate::args::{OnInterrupt, ShiftArgs};
use crate::edit::{Dtabs as _, Namespace};
use crate::error::{Failure, INTERRUPTED, OK};
use crate::explain::{self, Destination};
use crate::http::Client;
use crate::metrics::Routers;
use crate::settings::Settings;
use crate::shift::{Shift, alike, steps, threshold};
use crate::time::duration;
use crate::url::Url;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// A name of our own that leads to the new destination.
const QUESTION: &str = "/namerctl-shift";

pub(super) async fn run(args: ShiftArgs, settings: &Settings) -> Outcome {
    let shift = read(&args)?;
    let namerd = namerd(settings)?;
    let dtabs = Namespace { namerd: &namerd, name: &args.name };
    let current = shift.current(&dtabs.read().await?.entries)?;
    let ids = if args.abort_if.is_some() { ids(&namerd, &args).await? } else { Vec::new() };
    if args.dry_run {
        let judged = ids.iter().map(|id| format!("judged by {id}"));
        let lines: Vec<String> = shift.outline(current).into_iter().chain(judged).collect();
        return Ok((format!("{}\n", lines.join("\n")), OK));
    }
    let urls = args.metrics.iter().map(|text| {
        Url::parse(text).ok_or_else(|| Failure::usage(format!("--metrics {text}: it looks like http://router:9990")))
    });
    let routers = Routers::new(Client::new(settings.options()?), urls.collect::<Result<_, _>>()?, ids);
    let (send, mut stop) = watch::channel(false);
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = if ignores_hangup() { None } else { Some(listen(SignalKind::hangup())?) };
    let mut say = |line: String| print(&format!("{line}\n"));
    let running = shift.run(&dtabs, &routers, &mut stop, &mut say);
    let signals = async {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, () = hung_up(&mut hangup) => {} }
        send.send_replace(true);
        // A second one is for somebody who cannot wait for the write that is under way.
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, () = hung_up(&mut hangup) => {} }
    };
    tokio::select! {
        outcome = running => outcome.map(|()| (String::new(), OK)),
        () = signals => Err(Failure::new("interrupted twice: a write may be under way")
            .with(format!("look with: namerctl dtab get {}", args.name)).status(INTERRUPTED)),
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::new(format!("signals cannot be waited for: {error}")))
}

/// True below `nohup`, which means that a terminal that goes is no reason to end.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    mask.is_some_and(|mask| u64::from_str_radix(mask, 16).is_ok_and(|mask| mask & 1 == 1))
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn read(args: &ShiftArgs) -> Result<Shift, Failure> {
    let tree = |flag: &str, text: &str| {
        dtab::parse_tree(text)
            .map(|_| text.trim().to_owned())
            .map_err(|error| Failure::usage(format!("{flag}: {error}")))
    };
    let prefix = dtab::parse_prefix(&args.prefix).map_err(|error| Failure::usage(format!("PREFIX: {error}")))?;
    let every = duration(&args.every).map_err(|why| Failure::usage(format!("--every: {why}")))?;
    if every.is_zero() {
        return Err(Failure::usage("--every: a step needs some time"));
    }
    if alike(&args.from, &args.to) {
        return Err(Failure::usage("--to is the same as --from: there is nothing to shift"));
    }
    let abort = args.abort_if.as_deref().map(threshold).transpose();
    Ok(Shift {
        namespace: args.name.clone(),
        prefix,
        from: tree("--from", &args.from)?,
        to: tree("--to", &args.to)?,
        steps: steps(&args.steps).map_err(|why| Failure::usage(format!("--steps: {why}")))?,
        every,
        abort_below: abort.map_err(|why| Failure::usage(format!("--abort-if: {why}")))?,
        min_requests: f64::from(args.min_requests),
        resume: args.resume,
        rollback_on_interrupt: args.on_interrupt == OnInterrupt::Rollback,
    })
}

/// The concrete names of the new destination, by which routers count.
async fn ids(namerd: &Namerd, args: &ShiftArgs) -> Result<Vec<String>, Failure> {
    if !args.id.is_empty() {
        return Ok(args.id.clone());
    }
    let tree = namerd.delegate(&args.name, QUESTION, Some(&format!("{QUESTION} => {}", args.to))).await?;
    let node = explain::read(&tree.value).map_err(|why| Failure::new(format!("unexpected answer: {why}")))?;
    match node.destination() {
        Destination::To(list) => {
            let ids = list.into_iter().map(|(id, _)| id.split('+').next().unwrap_or_default().to_owned());
            Ok(ids.filter(|id| id != "$").collect())
        }
        other => Err(Failure::new(format!("{} is not bound to anything: {other}", args.to))
            .with("nothing was changed; say by --id which concrete names to judge by")),
    }
}
