//! From words to requests to output.
//!
//! Whatever a command prints on success is returned as text and printed here, so that a closed pipe is no panic. Errors go
//! to stderr as `Error: <message>`; with `--legacy-errors` the message goes to stdout as well and the exit status is 255.

mod dtab;
mod offline;
mod review;
mod shift;

use crate::api::Namerd;
use crate::args::{Cli, Command, DelegateArgs, Global, Shell};
use crate::error::{FAILED, Failure, OK};
use crate::explain;
use crate::http::Client;
use crate::settings::{Settings, Surroundings};
use clap::{CommandFactory as _, Parser as _};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

/// What a command prints, and its exit status.
pub(crate) type Outcome = Result<(String, u8), Failure>;

/// The exit status of failures with `--legacy-errors`.
const LEGACY: u8 = 255;

/// Runs the program with these words, the first of which is its name. Gives the exit status.
pub fn run(words: impl IntoIterator<Item = OsString>) -> u8 {
    let words: Vec<OsString> = words.into_iter().collect();
    let cli = match Cli::try_parse_from(&words) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => {
            // A closed pipe is no failure of ours.
            let _ = error.print();
            return OK;
        }
        Err(error) => {
            let legacy = words.iter().any(|word| word == "--legacy-errors") || legacy_by_environment();
            return report(&usage(&words, &error), legacy);
        }
    };
    let settings = settings(&cli.global);
    let legacy = settings.as_ref().map_or(cli.global.legacy_errors, Settings::legacy_errors);
    match settings.and_then(|settings| perform(cli, settings)) {
        Ok((text, status)) => {
            print(&text);
            status
        }
        Err(failure) => report(&failure, legacy),
    }
}

fn legacy_by_environment() -> bool {
    std::env::var("NAMERCTL_LEGACY_ERRORS").is_ok_and(|value| matches!(value.as_str(), "1" | "true"))
}

fn settings(global: &Global) -> Result<Settings, Failure> {
    let folder = std::env::var_os("PWD").map_or_else(|| std::env::current_dir().unwrap_or_default(), PathBuf::from);
    let mut around = Surroundings { env: &|name| std::env::var(name).ok(), folder, warn: &mut |text| warn(&text) };
    Settings::new(global.values(), global.config.as_deref(), &mut around)
}

fn perform(cli: Cli, settings: Settings) -> Outcome {
    match cli.command {
        None => Ok((Cli::command().render_long_help().to_string(), OK)),
        Some(Command::Completion { shell }) => Ok((completion(shell), OK)),
        Some(Command::Dtab(args)) => dtab::run(args, settings),
        Some(Command::Delegate(args)) => block_on(delegate(args, &settings)),
        Some(Command::Shift(args)) => block_on(shift::run(args, &settings)),
    }
}

/// Runs what waits on a runtime of its own, in this thread.
pub(crate) fn block_on(task: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(format!("the system gives no resources: {error}")))?;
    let outcome = runtime.block_on(task);
    // Lookups of names may still be under way on other threads.
    runtime.shutdown_background();
    outcome
}

/// The namerd that the settings name.
pub(crate) fn namerd(settings: &Settings) -> Result<Namerd, Failure> {
    let client = Client::new(settings.options()?);
    Ok(Namerd::new(client, settings.base()?, settings.credentials()?, settings.note()?))
}

async fn delegate(args: DelegateArgs, settings: &Settings) -> Outcome {
    let namerd = namerd(settings)?;
    let tree = namerd.delegate(&args.name, &args.path, args.dtab.as_deref()).await?;
    if args.json {
        return Ok((format!("{}\n", tree.text), OK));
    }
    let node = explain::read(&tree.value).map_err(|why| Failure::new(format!("unexpected answer: {why}")))?;
    Ok((format!("{}\n", node.render()), OK))
}

fn completion(shell: Shell) -> String {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "namerctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// What is wrong with the words, as the first `namerctl` said it where it had words for it.
fn usage(words: &[OsString], error: &clap::Error) -> Failure {
    let text = error.to_string();
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    if error.kind() == clap::error::ErrorKind::InvalidSubcommand {
        let wrong = error.get(clap::error::ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
        let after = if words.contains(&"dtab") && wrong != "dtab" { "namerctl dtab" } else { "namerctl" };
        return Failure::new(format!("unknown command {wrong:?} for {after:?}"))
            .with(format!("Run '{after} --help' for usage."));
    }
    let arity = matches!(
        error.kind(),
        clap::error::ErrorKind::MissingRequiredArgument | clap::error::ErrorKind::UnknownArgument
    );
    let command = words.iter().skip_while(|word| **word != "dtab").nth(1).copied().unwrap_or_default();
    let named_flag = text.lines().next().is_some_and(|line| line.contains("'-"));
    let message = match command {
        _ if !arity || named_flag => None,
        "list" | "ls" => Some("list does not take arguments"),
        "get" | "cat" => Some("get requires a name argument"),
        "create" | "new" => Some("create requires a name and file path"),
        "update" | "up" => Some("update requires a name and file path"),
        "delete" | "del" | "rm" => Some("delete requires one argument"),
        _ => None,
    };
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let own = first.trim_start_matches("error: ").to_owned();
    Failure::usage(message.map_or(own, str::to_owned)).with(rest.trim())
}

fn report(failure: &Failure, legacy: bool) -> u8 {
    warn(&format!("Error: {failure}"));
    if legacy {
        print(&format!("{}\n", failure.message));
        return LEGACY;
    }
    if failure.status == OK { FAILED } else { failure.status }
}

/// Prints to stdout; a closed pipe is no failure of ours.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints a line to stderr.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
