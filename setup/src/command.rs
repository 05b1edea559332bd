//! What the command lines of both servers have in common: reading a config, the spellings of Linkerd 1, flags of the
//! process, signals, the control runtime.
//!
//! Called by the `cli` of router and namerd. Not for: commands.

use crate::shutdown::{Shutdown, parse_duration};
use clap::Args;
use std::ffi::OsString;
use std::io::Read as _;
use std::time::Duration;

/// Flags of a process that serves.
#[derive(Debug, Clone, Args)]
pub struct ProcessArgs {
    /// Log level: OFF, FATAL, CRITICAL, ERROR, WARNING, INFO, DEBUG, TRACE, ALL.
    /// Default: INFO; the demo: WARNING.
    #[arg(long)]
    pub log_level: Option<String>,
    /// Log lines as JSON objects.
    #[arg(long)]
    pub log_json: bool,
    /// How long to finish what is in flight on shutdown, e.g. 10s, 500ms. Default: admin.shutdownGraceMs.
    #[arg(long, value_parser = parse_grace)]
    pub grace: Option<Duration>,
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "not a duration; write 10s, 500ms or 30.seconds".to_owned())
}

/// Linkerd 1 spells flags with one dash: `-validate`, `-validate=true`, `-log.level=DEBUG`.
pub fn modern_spelling(arg: OsString) -> OsString {
    match arg.to_str() {
        Some("-validate" | "-validate=true") => "--validate".into(),
        Some(text) if text.starts_with("-log.level=") => text.replacen("-log.level=", "--log-level=", 1).into(),
        _ => arg,
    }
}

/// The text of a config: a file, or `-` for stdin. The error says what is wrong with which file.
pub fn read(name: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let outcome = if name == "-" {
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| ())
    } else if std::path::Path::new(name).is_dir() {
        return Err(format!("{name}: config is not a file but a folder"));
    } else {
        std::fs::read(name).map(|read| bytes = read)
    };
    outcome.map_err(|error| format!("{name}: cannot read the config: {error}"))?;
    String::from_utf8(bytes).map_err(|error| format!("{name}: the config is not UTF-8: {error}"))
}

/// The runtime for everything that is not a request. Names are evaluated again on its threads, deep ones too.
pub fn control_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    control_runtime_of(2)
}

/// The same with so many threads, at least 2: for a process that has no other runtime.
pub fn control_runtime_of(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(2))
        .thread_name("control")
        .thread_stack_size(8 * 1024 * 1024)
        .enable_all()
        .build()
}

/// Those that end the process, and the others.
pub type Signals = [tokio::task::JoinHandle<()>; 2];

/// Catches signals from now on.
pub async fn follow_signals(shutdown: &Shutdown) -> std::io::Result<Signals> {
    let (end, others) = (shutdown.clone().on_signals()?, crate::signals::follow()?);
    Ok([tokio::spawn(end), tokio::spawn(others)])
}
