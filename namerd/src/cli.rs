//! The command line: `namerd CONFIG`, `namerd check CONFIG`, `namerd reference`, `namerd` on embedded defaults, and Linkerd
//! 1's spellings.

use crate::config::{self, Config};
use crate::linker::{self, Running, StartError};
use clap::{Parser, Subcommand};
use setup::command::{ProcessArgs, Signals, control_runtime_of, follow_signals, modern_spelling, read};
use setup::shutdown::Shutdown;
use setup::{descriptors, logging, panics};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Stores dtabs, and answers routers by them.
///
/// Without a config it keeps its dtabs in the folder `namerd-data`, and listens on loopback: 4180 for namerctl, 4321 and
/// 4100 for routers, 9991 for its pages.
#[derive(Debug, Parser)]
#[command(name = "namerd", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The config: a file, or `-` for stdin.
    config: Option<String>,
    /// Only validate the config, as `check` does.
    #[arg(long)]
    validate: bool,
    /// The folder for dtabs when there is no config. Default: $STATE_DIRECTORY, or `namerd-data`.
    #[arg(long, conflicts_with = "config")]
    data: Option<PathBuf>,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Validate a config without opening a socket; lists all problems.
    Check {
        /// The config: a file, or `-` for stdin.
        config: String,
    },
    /// Print the reference of all config keys, as Markdown.
    Reference,
}

/// Runs the command line; the exit code of the process.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(args.into_iter().map(modern_spelling));
    match cli {
        Cli { command: Some(Command::Check { config }), .. } => check(&config),
        Cli { command: Some(Command::Reference), .. } => {
            print!("{}", config::reference());
            ExitCode::SUCCESS
        }
        Cli { config: Some(config), validate: true, .. } => check(&config),
        Cli { config: None, validate: true, .. } => fail("which config? Give a file, or `-` for stdin"),
        Cli { config: Some(name), process, .. } => match load(&name) {
            Ok(config) => serve(config, &process),
            Err(code) => code,
        },
        Cli { config: None, data, process, .. } => {
            let folder = data.or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from));
            match config::embedded(folder) {
                Ok(config) => serve(config, &process),
                Err(problems) => fail(problems),
            }
        }
    }
}

fn fail(text: impl std::fmt::Display) -> ExitCode {
    eprintln!("namerd: {text}");
    ExitCode::FAILURE
}

fn load(name: &str) -> Result<Config, ExitCode> {
    let text = read(name).map_err(fail)?;
    let shown = if name == "-" { "<stdin>" } else { name };
    config::load(shown, &text).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::FAILURE
    })
}

fn check(name: &str) -> ExitCode {
    match load(name) {
        Ok(config) => {
            config.warnings.iter().for_each(|warning| eprintln!("{name}: warning: {warning}"));
            println!("{name}: ok: {} interface(s), {} namer(s)", config.interfaces.len(), config.namers.len());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn serve(config: Config, process: &ProcessArgs) -> ExitCode {
    if let Err(text) = logging::init(process.log_level.as_deref().unwrap_or("INFO"), process.log_json) {
        return fail(text);
    }
    panics::install();
    descriptors::raise();
    // All interfaces are served by it.
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let runtime = match control_runtime_of(cores) {
        Ok(runtime) => runtime,
        Err(error) => return fail(format!("cannot start: {error}")),
    };
    let shutdown = Shutdown::new(process.grace.unwrap_or(config.admin.shutdown_grace));
    let signals = match runtime.block_on(follow_signals(&shutdown)) {
        Ok(signals) => signals,
        Err(error) => return fail(format!("cannot follow signals: {error}")),
    };
    let handle = runtime.handle().clone();
    let outcome = runtime.block_on(async {
        let running = tokio::select! {
            started = linker::start(config, &shutdown, &handle) => started?,
            // Asked to end before there was anything to end.
            () = async { _ = shutdown.begun().await } => return Ok(ExitCode::SUCCESS),
        };
        Ok::<_, StartError>(until_end(running, &shutdown, signals).await)
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(code) => code,
        Err(error) => fail(error),
    }
}

/// Serves until asked to end; the exit code.
async fn until_end(running: Running, shutdown: &Shutdown, signals: Signals) -> ExitCode {
    let grace = shutdown.begun().await;
    signals.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!(?grace, "shutting down: no new connections, finishing what is in flight");
    if !running.stop(grace).await {
        tracing::warn!("connections were still open after the grace period and are cut");
    }
    ExitCode::SUCCESS
}
