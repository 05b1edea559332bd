//! Reload: a changed config file, or SIGHUP, puts the file in force without dropping a connection (requirements P9.3).
//!
//! The file is looked at once a second: editors and mounted volumes replace files in ways that no watch sees. A file that
//! does not load leaves in force what is, and log and metrics say so. Called by `cli`. Not for: what a reload does
//! (`linker`).

use crate::config;
use crate::linker::Running;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Where the config comes from.
#[derive(Debug, Clone)]
pub struct Reloader {
    path: PathBuf,
    watch: bool,
}

impl Reloader {
    /// Reloads from `path`; on its changes only when `watch` says so, on SIGHUP always.
    pub fn new(path: impl Into<PathBuf>, watch: bool) -> Reloader {
        Reloader { path: path.into(), watch }
    }

    /// Reloads as long as the process runs; `loaded` is the text in force. Errors when signals cannot be had.
    pub async fn run(self, running: Arc<Running>, loaded: String) -> std::io::Result<()> {
        metrics::gauge!("config_last_reload_successful").set(1.0);
        metrics::describe_counter!("config_reloads_total", "reloads of the config by result: ok, invalid, failed");
        let mut hangup = signal(SignalKind::hangup())?;
        let (mut in_force, mut seen) = (loaded.clone(), Some(loaded));
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(LOOK), if self.watch => false,
            };
            let text = match self.read().await {
                Ok(text) => text,
                Err(reason) => {
                    // Without a question a file that is away for a moment is nothing to talk about.
                    if asked || seen.take().is_some() {
                        failed("invalid", &format!("{reason}; the config in force stays"));
                    }
                    continue;
                }
            };
            if !asked && (seen.as_deref() == Some(&text) || !self.is_settled(&text).await) {
                continue;
            }
            if asked || text != in_force {
                if self.apply(&running, &text).await {
                    in_force.clone_from(&text);
                }
            } else {
                info!("the config file is what is in force again");
                succeeded();
            }
            seen = Some(text);
        }
    }

    async fn read(&self) -> Result<String, String> {
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let shown = path.display();
            let bytes = std::fs::read(&path).map_err(|error| format!("{shown}: cannot read: {error}"))?;
            String::from_utf8(bytes).map_err(|error| format!("{shown}: not UTF-8: {error}"))
        });
        reading.await.map_err(|error| error.to_string())?
    }

    /// True when the file is still the same a moment later: it is not being written right now.
    async fn is_settled(&self, text: &str) -> bool {
        tokio::time::sleep(LOOK / 5).await;
        self.read().await.is_ok_and(|again| again == text)
    }

    /// Puts `text` in force; true when it is.
    async fn apply(&self, running: &Running, text: &str) -> bool {
        let name = self.path.display().to_string();
        let owned = text.to_owned();
        let loading = tokio::task::spawn_blocking(move || config::load(&name, &owned));
        let config = match loading.await {
            Ok(Ok(config)) => config,
            Ok(Err(problems)) => {
                failed("invalid", &format!("the config does not load; the one in force stays:\n{problems}"));
                return false;
            }
            Err(error) => {
                failed("failed", &format!("the config cannot be loaded; the one in force stays: {error}"));
                return false;
            }
        };
        match running.reload(config).await {
            Ok((changes, restart)) => {
                info!(?changes, "config reloaded");
                if !restart.is_empty() {
                    warn!("these changes need a restart: {}", restart.join(", "));
                }
                metrics::gauge!("config_needs_restart").set(if restart.is_empty() { 0.0 } else { 1.0 });
                succeeded();
                true
            }
            Err(error) => {
                failed("failed", &format!("the config cannot be put in force; the one before stays: {error}"));
                false
            }
        }
    }
}

fn succeeded() {
    metrics::counter!("config_reloads_total", "result" => "ok").increment(1);
    metrics::gauge!("config_last_reload_successful").set(1.0);
    metrics::gauge!("config_last_reload_timestamp_seconds").set(crate::clock::wall().as_secs_f64());
}

fn failed(result: &'static str, text: &str) {
    error!("{text}");
    metrics::counter!("config_reloads_total", "result" => result).increment(1);
    metrics::gauge!("config_last_reload_successful").set(0.0);
}
