//! The command line: `switchyard CONFIG`, `switchyard check CONFIG`, `switchyard reference`, `switchyard demo`, and Linkerd 1's spellings.

use crate::demo;
use clap::{Args, Parser, Subcommand};
use router::config::{self, Config};
use router::linker::{self, Options};
use router::reload::Reloader;
use setup::command::{ProcessArgs, Signals, control_runtime, follow_signals, modern_spelling, read};
use setup::shutdown::Shutdown;
use setup::{descriptors, logging, panics};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// A per-host router for service traffic, configured in the language of Linkerd 1.
#[derive(Debug, Parser)]
#[command(name = "switchyard", version, about, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The config: a file, or `-` for stdin.
    config: Option<String>,
    /// Only validate the config, as `check` does.
    #[arg(long)]
    validate: bool,
    #[command(flatten)]
    run: RunArgs,
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
    /// Run two routers, a namerd and three services on loopback, to try things out.
    Demo {
        /// Add this to every port: 4140, 4141, 4180, 4321, 9990, 9991.
        #[arg(long, default_value_t = 0)]
        port_offset: u16,
        #[command(flatten)]
        run: RunArgs,
    },
}

#[derive(Debug, Clone, Args)]
struct RunArgs {
    #[command(flatten)]
    process: ProcessArgs,
    /// Data workers. Default: one per core.
    #[arg(long)]
    workers: Option<usize>,
    /// Reload the config on SIGHUP only, not when its file changes.
    #[arg(long)]
    no_config_watch: bool,
}

/// Runs the command line; the exit code of the process.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = Cli::parse_from(args.into_iter().map(modern_spelling));
    match cli {
        Cli { command: Some(Command::Check { config }), .. } => check(&config),
        Cli { command: Some(Command::Reference), .. } => {
            print!("{}", config::reference());
            ExitCode::SUCCESS
        }
        Cli { command: Some(Command::Demo { port_offset, run }), .. } => run_demo(port_offset, &run),
        Cli { config: Some(config), validate: true, .. } => check(&config),
        Cli { config: Some(name), run, .. } => match load(&name) {
            Ok((config, text)) => serve(&name, config, text, &run),
            Err(code) => code,
        },
        Cli { config: None, .. } => fail("which config? Give a file, or `-` for stdin; `switchyard --help` says more"),
    }
}

fn fail(text: impl std::fmt::Display) -> ExitCode {
    eprintln!("switchyard: {text}");
    ExitCode::FAILURE
}

fn load(name: &str) -> Result<(Config, String), ExitCode> {
    let text = read(name).map_err(fail)?;
    let shown = if name == "-" { "<stdin>" } else { name };
    let config = config::load(shown, &text).map_err(|problems| {
        eprintln!("{problems}");
        ExitCode::FAILURE
    })?;
    Ok((config, text))
}

fn check(name: &str) -> ExitCode {
    match load(name) {
        Ok((config, _)) => {
            config.warnings.iter().for_each(|warning| eprintln!("{name}: warning: {warning}"));
            println!("{name}: ok: {} router(s), {} namer(s)", config.routers.len(), config.namers.len());
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

fn options(run: &RunArgs) -> Options {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Options { workers: run.workers.unwrap_or(cores).max(1) }
}

fn serve(name: &str, config: Config, text: String, run: &RunArgs) -> ExitCode {
    if let Err(text) = logging::init(run.process.log_level.as_deref().unwrap_or("INFO"), run.process.log_json) {
        return fail(text);
    }
    panics::install();
    descriptors::raise();
    let runtime = match control_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format!("cannot start: {error}")),
    };
    let shutdown = Shutdown::new(run.process.grace.unwrap_or(config.admin.shutdown_grace));
    let signals = match runtime.block_on(follow_signals(&shutdown)) {
        Ok(signals) => signals,
        Err(error) => return fail(format!("cannot follow signals: {error}")),
    };
    let handle = runtime.handle().clone();
    let outcome = runtime.block_on(async {
        let options = options(run);
        let running = tokio::select! {
            started = linker::start(config, &options, &shutdown, &handle) => Arc::new(started?),
            // Asked to end before there was anything to end.
            _ = shutdown.begun() => return Ok(ExitCode::SUCCESS),
        };
        // What came by stdin cannot be read again.
        let reloading = (name != "-").then(|| {
            let reloader = Reloader::new(name, !run.no_config_watch);
            tokio::spawn(reloader.run(running.clone(), text))
        });
        let grace = until_end(&shutdown, signals, reloading).await;
        Ok::<_, linker::StartError>(ended(running.stop(grace).await))
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(code) => code,
        Err(error) => fail(error),
    }
}

type Reloading = tokio::task::JoinHandle<std::io::Result<()>>;

/// Waits until asked to end; the time that is left for what is in flight.
async fn until_end(shutdown: &Shutdown, signals: Signals, reloading: Option<Reloading>) -> Duration {
    let grace = shutdown.begun().await;
    if let Some(reloading) = reloading {
        reloading.abort();
        // However it ended: a reload that was under way is over now.
        let _ = reloading.await;
    }
    signals.iter().for_each(tokio::task::JoinHandle::abort);
    tracing::info!(?grace, "shutting down: no new connections, finishing what is in flight");
    grace
}

/// The exit code after the end, which was `clean` when nothing had to be cut.
fn ended(clean: bool) -> ExitCode {
    if !clean {
        tracing::warn!("connections were still open after the grace period and are cut");
    }
    ExitCode::SUCCESS
}

fn run_demo(port_offset: u16, run: &RunArgs) -> ExitCode {
    if let Err(text) = logging::init(run.process.log_level.as_deref().unwrap_or("WARNING"), run.process.log_json) {
        return fail(text);
    }
    let runtime = match control_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format!("cannot start: {error}")),
    };
    let shutdown = Shutdown::new(run.process.grace.unwrap_or(Duration::from_secs(2)));
    let signals = match runtime.block_on(follow_signals(&shutdown)) {
        Ok(signals) => signals,
        Err(error) => return fail(format!("cannot follow signals: {error}")),
    };
    let handle = runtime.handle().clone();
    let outcome = runtime.block_on(async {
        let (demo, serving) = demo::start(port_offset, &options(run), &shutdown, &handle).await?;
        println!("{}", demo.instructions());
        let grace = until_end(&shutdown, signals, None).await;
        let clean = serving.stop(grace).await;
        drop(demo);
        Ok::<_, demo::DemoError>(ended(clean))
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(code) => code,
        Err(error) => fail(error),
    }
}
