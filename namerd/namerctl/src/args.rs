//! The words of the command line. Those that the first `namerctl` had are as they were (namerd reference §7.1).
//!
//! Called by [`crate::run`]. Not for: what commands do.

use crate::examples;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// namerctl is a command-line client for namerd
#[derive(Debug, Parser)]
#[command(name = "namerctl", version, args_override_self = true, long_about = examples::ABOUT, after_help = examples::TOP)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What holds for every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// config file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where namerd is.
    #[arg(long, global = true, value_name = "URL", help = "namer location (e.g. http://namerd.example.com:4180)")]
    pub base_url: Option<String>,
    /// Bearer token; better in NAMERCTL_TOKEN or a file, since others can see the words of a command
    #[arg(long, global = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// File that holds the bearer token
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<String>,
    /// PEM file of the authorities to trust, instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub cacert: Option<String>,
    /// PEM file of our certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub cert: Option<String>,
    /// PEM file of its key
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Option<String>,
    /// Limit for one request, 30s by default; 0 for none
    #[arg(long, global = true, value_name = "TIME")]
    pub timeout: Option<String>,
    /// Who writes, for the history
    #[arg(long, global = true, value_name = "NAME")]
    pub author: Option<String>,
    /// Why, for the history
    #[arg(long, global = true, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Store an edit although most names in use would lose every destination by it
    #[arg(long, global = true)]
    pub force: bool,
    /// Exit with 255 and repeat the error on stdout, as the first namerctl did
    #[arg(long, global = true)]
    pub legacy_errors: bool,
}

impl Global {
    /// The settings that are given.
    pub fn values(&self) -> BTreeMap<String, String> {
        let legacy = self.legacy_errors.then(|| "true".to_owned());
        let force = self.force.then(|| "true".to_owned());
        let all = [
            ("base-url", &self.base_url),
            ("token", &self.token),
            ("token-file", &self.token_file),
            ("cacert", &self.cacert),
            ("cert", &self.cert),
            ("key", &self.key),
            ("timeout", &self.timeout),
            ("author", &self.author),
            ("reason", &self.reason),
            ("force", &force),
            ("legacy-errors", &legacy),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Control namerd's delegation tables
    Dtab(DtabArgs),
    /// Show how a name resolves, step by step
    #[command(after_help = examples::DELEGATE)]
    Delegate(DelegateArgs),
    /// Move traffic from one destination to another by steps
    #[command(after_help = examples::SHIFT)]
    Shift(ShiftArgs),
    /// Print a script that completes commands in a shell
    #[command(after_help = examples::COMPLETION)]
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Shells that are completed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Shell {
    /// GNU bash
    Bash,
    /// Z shell
    Zsh,
    /// fish
    Fish,
}

/// `dtab`.
#[derive(Debug, Args)]
#[command(after_help = examples::DTAB)]
pub struct DtabArgs {
    /// input/output in json instead of text
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
        hide_default_value = true, value_parser = boolean, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub json: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Option<DtabCommand>,
}

/// The commands below `dtab`.
#[derive(Debug, Subcommand)]
pub enum DtabCommand {
    /// List delegation table names
    #[command(visible_alias = "ls", after_help = examples::LIST)]
    List,
    /// Get a delegation table by name
    #[command(visible_alias = "cat", after_help = examples::GET)]
    Get {
        /// The namespace
        name: String,
        /// pretty-print dtabs
        #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true",
            value_parser = boolean, action = clap::ArgAction::Set, value_name = "BOOL")]
        pretty: bool,
    },
    /// Create a new delegation table.
    #[command(visible_alias = "new", after_help = examples::CREATE)]
    Create {
        /// The namespace
        name: String,
        /// The dtab, as text or JSON; - for stdin
        file: String,
    },
    /// Update a delegation table.
    #[command(visible_alias = "up", after_help = examples::UPDATE)]
    Update {
        /// The namespace
        name: String,
        /// The dtab, as text or JSON; - for stdin
        file: String,
        /// only perform update if the current version matches
        #[arg(long)]
        version: Option<String>,
        /// Let a file without entries remove all of them
        #[arg(long)]
        allow_empty: bool,
    },
    /// Delete a delegation by name.
    #[command(visible_aliases = ["del", "rm"], after_help = examples::DELETE)]
    Delete {
        /// The namespace
        name: String,
    },
    /// Change one entry, whoever else writes at the same time
    #[command(after_help = examples::SET)]
    Set {
        /// The namespace
        name: String,
        /// The prefix; the last entry that has it is changed, or one is added at the end
        prefix: String,
        /// The destination
        dst: String,
        /// Make the namespace when it is not there
        #[arg(long)]
        create: bool,
    },
    /// Remove all entries of one prefix, whoever else writes at the same time
    #[command(after_help = examples::UNSET)]
    Unset {
        /// The namespace
        name: String,
        /// The prefix
        prefix: String,
    },
    /// List the writes to a namespace, newest first
    #[command(after_help = examples::HISTORY)]
    History {
        /// The namespace
        name: String,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show what the last write changed, or what has changed since a version
    #[command(after_help = examples::DIFF)]
    Diff {
        /// The namespace
        name: String,
        /// The version before
        version: Option<String>,
        /// The version after; the newest when it is left out
        to: Option<String>,
    },
    /// Write an earlier dtab again, in one write
    #[command(after_help = examples::ROLLBACK)]
    Rollback {
        /// The namespace
        name: String,
        /// The version; the one before the newest when it is left out
        version: Option<String>,
    },
    /// Show which names would go elsewhere by a new dtab; exit status 2 when some would
    #[command(after_help = examples::PLAN)]
    Plan(PlanArgs),
    /// Look for mistakes in a dtab
    #[command(after_help = examples::CHECK)]
    Check {
        /// The dtab, as text or JSON; - for stdin
        file: String,
        /// Warnings fail, too
        #[arg(long)]
        strict: bool,
        /// What names begin with; entries that they do not reach are told. Several times for several
        #[arg(long, value_name = "PREFIX")]
        root: Vec<String>,
    },
    /// Run unit tests of routing, offline
    #[command(after_help = examples::TEST)]
    Test {
        /// The tests, in YAML; - for stdin
        file: String,
    },
}

/// `dtab plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The namespace
    pub name: String,
    /// The new dtab, as text or JSON; - for stdin
    pub file: String,
    /// Look at these names instead of those that routers have asked for: a file, one name a line or a JSON array
    #[arg(long, value_name = "FILE")]
    pub names: Option<String>,
    /// Look at this name. Several times for several
    #[arg(long = "name", value_name = "PATH")]
    pub paths: Vec<String>,
    /// Fail when a name changes that does not begin so. Several times for several
    #[arg(long, value_name = "PREFIX")]
    pub scope: Vec<String>,
}

/// `delegate`.
#[derive(Debug, Args)]
pub struct DelegateArgs {
    /// The namespace
    pub name: String,
    /// The name to resolve
    pub path: String,
    /// More entries after those of the namespace, as an l5d-dtab header
    #[arg(long, value_name = "DTAB")]
    pub dtab: Option<String>,
    /// The tree as namerd sends it
    #[arg(long)]
    pub json: bool,
}

/// `shift`.
#[derive(Debug, Args)]
pub struct ShiftArgs {
    /// The namespace
    pub name: String,
    /// The prefix of the entry
    pub prefix: String,
    /// Its destination now
    #[arg(long)]
    pub from: String,
    /// Its destination in the end
    #[arg(long)]
    pub to: String,
    /// Percentages for the new destination
    #[arg(long, value_name = "LIST")]
    pub steps: String,
    /// The time between steps
    #[arg(long, value_name = "TIME")]
    pub every: String,
    /// Go back when a step is worse than this, such as 'success<99.5'
    #[arg(long, value_name = "CONDITION", requires = "metrics")]
    pub abort_if: Option<String>,
    /// Admin servers of routers, such as `http://router:9990`. Several times, or separated by commas
    #[arg(long, value_name = "URL", value_delimiter = ',', num_args = 1..)]
    pub metrics: Vec<String>,
    /// Judge by the counters of this concrete name, instead of those to which --to is bound. Several times for several
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
    /// So many requests are needed to judge a step
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub min_requests: u32,
    /// Go on where an earlier shift was interrupted
    #[arg(long)]
    pub resume: bool,
    /// What an interruption leaves
    #[arg(long, value_enum, default_value_t = OnInterrupt::Keep)]
    pub on_interrupt: OnInterrupt,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// What an interrupted shift leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnInterrupt {
    /// The step that is reached
    Keep,
    /// What was there before
    Rollback,
}

/// A boolean as Go reads it.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err("true or false is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_words_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_stand_anywhere_and_the_last_one_counts() {
        let words =
            ["namerctl", "dtab", "--base-url", "a", "up", "ns", "-", "--json", "--version", "x", "--base-url=b"];
        let cli = Cli::try_parse_from(words).unwrap();
        assert_eq!(cli.global.base_url.as_deref(), Some("b"));
        let Some(Command::Dtab(dtab)) = cli.command else { panic!("not dtab") };
        assert!(dtab.json && matches!(dtab.command, Some(DtabCommand::Update { version: Some(_), .. })));
        let cli = Cli::try_parse_from(["namerctl", "dtab", "--json=false", "cat", "ns", "--pretty=f"]).unwrap();
        let Some(Command::Dtab(dtab)) = cli.command else { panic!("not dtab") };
        assert!(!dtab.json && matches!(dtab.command, Some(DtabCommand::Get { pretty: false, .. })));
    }
}
