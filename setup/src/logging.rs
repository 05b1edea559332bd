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

/// The logger of the audit of namerd.
const AUDIT: &str = "audit";

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
    EnvFilter::new(directives(&LEVELS.read()))
}

/// The lines of [`AUDIT`] pass at every level but OFF, its own or that of `root`: they are records, and their level says
/// nothing about trouble.
fn directives(levels: &BTreeMap<String, &'static str>) -> String {
    let shown = |(logger, level): (&String, &&str)| match logger.as_str() {
        "root" => directive(level).to_owned(),
        logger => format!("{logger}={}", directive(level)),
    };
    let mut directives: Vec<String> = levels.iter().map(shown).collect();
    let own = levels.get(AUDIT).or_else(|| levels.get("root")).copied().unwrap_or("INFO");
    if !matches!(own, "OFF" | "INFO" | "DEBUG" | "TRACE" | "ALL") {
        directives.push(format!("{AUDIT}=info"));
    }
    directives.join(",")
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    /// What the filter of these levels lets through, as JSON.
    fn lines(levels: &[(&str, &'static str)]) -> String {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().expect("no panic").write(bytes)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let levels = levels.iter().map(|(logger, level)| ((*logger).to_owned(), *level)).collect();
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = fmt::layer().json().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(EnvFilter::new(directives(&levels))).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "audit", "a write");
            tracing::info!(target: "other", "something else");
        });
        let bytes = kept.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn the_audit_passes_unless_it_is_off() {
        for (levels, audit, other) in [
            (&[("root", "INFO")][..], true, true),
            (&[("root", "ERROR")], true, false),
            (&[("root", "WARNING")], true, false),
            (&[("root", "FATAL"), ("audit", "ERROR")], true, false),
            (&[("root", "OFF")], false, false),
            (&[("root", "OFF"), ("audit", "INFO")], true, false),
            (&[("root", "INFO"), ("audit", "OFF")], false, true),
            (&[("root", "DEBUG")], true, true),
        ] {
            let lines = lines(levels);
            assert_eq!((lines.contains("a write"), lines.contains("something else")), (audit, other), "{levels:?}");
            assert!(!audit || lines.contains(r#""target":"audit""#), "{lines}");
        }
    }
}
