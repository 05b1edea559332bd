//! Logs: levelled lines on stderr, as text or JSON; the level can be changed while running.
//!
//! Nothing is logged per request above debug.

use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// Level per logger; `root` is the default of all.
static LEVELS: RwLock<BTreeMap<String, &'static str>> = RwLock::new(BTreeMap::new());
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Installs the subscriber of the process, once. `level` is a Linkerd 1 level name.
pub fn init(level: &str, json: bool) -> Result<(), String> {
    let root = known(level).ok_or_else(|| format!("unknown log level `{level}`; known: {}", NAMES.join(", ")))?;
    LEVELS.write().insert("root".to_owned(), root);
    let (filter, handle) = reload::Layer::new(filter());
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let installed =
        if json { registry.with(lines.json()).try_init() } else { registry.with(lines.with_ansi(false)).try_init() };
    // A second subscriber in one process: the first stays, with its own handle.
    if installed.is_ok() {
        let _ = FILTER.set(handle);
    }
    Ok(())
}

const NAMES: [&str; 9] = ["OFF", "FATAL", "CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG", "TRACE", "ALL"];

/// The canonical spelling of a level (telemetry reference §19); `WARN` is understood too.
fn known(level: &str) -> Option<&'static str> {
    let upper = level.to_ascii_uppercase();
    let upper = if upper == "WARN" { "WARNING" } else { &upper };
    NAMES.into_iter().find(|name| *name == upper)
}

fn directive(level: &str) -> &'static str {
    match level {
        "OFF" => "off",
        "FATAL" | "CRITICAL" | "ERROR" => "error",
        "WARNING" => "warn",
        "DEBUG" => "debug",
        "TRACE" | "ALL" => "trace",
        _ => "info",
    }
}

fn filter() -> EnvFilter {
    let levels = LEVELS.read();
    let directives = levels.iter().map(|(logger, level)| match logger.as_str() {
        "root" => directive(level).to_owned(),
        logger => format!("{logger}={}", directive(level)),
    });
    EnvFilter::new(directives.collect::<Vec<_>>().join(","))
}

/// All loggers with their levels, sorted by name.
pub fn levels() -> Vec<(String, &'static str)> {
    LEVELS.read().iter().map(|(logger, level)| (logger.clone(), *level)).collect()
}

/// Sets the level of a logger: `root` or a module such as `router::h1`. Errors with what is wrong.
pub fn set_level(logger: &str, level: &str) -> Result<(), String> {
    let level = known(level).ok_or_else(|| format!("unknown log level `{level}`; known: {}", NAMES.join(", ")))?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    if logger.is_empty() || logger.len() > 200 || !logger.chars().all(legal) {
        return Err(format!("`{logger}` is not the name of a logger; try `root` or a module such as `router::h1`"));
    }
    let mut levels = LEVELS.write();
    if levels.len() >= 1000 && !levels.contains_key(logger) {
        return Err("too many loggers are set; restart to forget them".to_owned());
    }
    levels.insert(logger.to_owned(), level);
    drop(levels);
    match FILTER.get().map(|handle| handle.reload(filter())) {
        Some(Err(error)) => Err(error.to_string()),
        Some(Ok(())) | None => Ok(()),
    }
}
