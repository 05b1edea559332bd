//! One shutdown path: a signal or a request asks once, with a grace period; the process drains and ends.

use std::time::Duration;
use tokio::sync::watch;

/// Asks for the end of the process; clone freely.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: watch::Sender<Option<Duration>>,
    default_grace: Duration,
}

impl Shutdown {
    /// Nothing asked yet; `default_grace` counts when a request names none.
    pub fn new(default_grace: Duration) -> Shutdown {
        Shutdown { sender: watch::Sender::new(None), default_grace }
    }

    /// Asks for the end within `grace`; the first request counts.
    pub fn begin(&self, grace: Option<Duration>) {
        self.sender.send_if_modified(|asked| {
            let first = asked.is_none();
            if first {
                *asked = Some(grace.unwrap_or(self.default_grace));
            }
            first
        });
    }

    /// True once asked.
    pub fn has_begun(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// Waits until asked; the grace period.
    pub async fn begun(&self) -> Duration {
        let mut receiver = self.sender.subscribe();
        loop {
            if let Some(grace) = *receiver.borrow_and_update() {
                return grace;
            }
            if receiver.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Asks on SIGTERM and SIGINT: they are caught from now on, and the future runs until then. Errors when the system does
    /// not let it listen. Called before anything serves: a process that is ready ends as asked.
    pub fn on_signals(self) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            self.begin(None);
        })
    }
}

/// Reads a duration: `30.seconds` as Linkerd 1 writes it, `30s`, `500ms`, `2m`. None when it is not one.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.strip_prefix('.').unwrap_or(unit).trim_end_matches('s') {
        "milli" | "millisecond" | "m" if unit.ends_with("ms") || unit.contains("milli") => 1,
        "" | "second" | "sec" => 1000,
        "m" | "minute" | "min" => 60_000,
        "h" | "hour" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("30.seconds", Some(30_000)),
            ("1.second", Some(1000)),
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("250.milliseconds", Some(250)),
            ("2.minutes", Some(120_000)),
            ("2m", Some(120_000)),
            ("0s", Some(0)),
            ("10", None),
            ("s", None),
            ("1.fortnight", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), ms.map(Duration::from_millis), "{text}");
        }
    }
}
