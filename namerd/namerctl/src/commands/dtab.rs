//! The commands below `dtab` that read and write: those of the first `namerctl`, and `set` and `unset`.

use super::{Outcome, block_on, namerd, offline, review};
use crate::api::{ApiError, Namerd};
use crate::args::{Cli, DtabArgs, DtabCommand};
use crate::edit::{self, Edited, Namespace};
use crate::error::{Failure, OK};
use crate::settings::Settings;
use crate::source::Source;
use crate::wire;
use clap::CommandFactory as _;
use std::time::Duration;

pub(super) fn run(args: DtabArgs, settings: Settings) -> Outcome {
    match args.command {
        None => Ok((help(), OK)),
        Some(DtabCommand::Check { file, strict, root }) => offline::check(&file, strict, &root, args.json),
        Some(DtabCommand::Test { file }) => offline::test(&file, args.json),
        Some(command) => block_on(online(command, settings, args.json)),
    }
}

fn help() -> String {
    let mut top = Cli::command();
    top.build();
    top.find_subcommand_mut("dtab").map(|dtab| dtab.render_long_help().to_string()).unwrap_or_default()
}

async fn online(command: DtabCommand, settings: Settings, json: bool) -> Outcome {
    let namerd = namerd(&settings)?;
    match command {
        DtabCommand::List => list(&namerd, json).await,
        DtabCommand::Get { name, pretty } => get(&namerd, named(&name)?, json, pretty).await,
        DtabCommand::Create { name, file } => create(&namerd, named(&name)?, &file).await,
        DtabCommand::Update { name, file, version, allow_empty } => {
            update(&namerd, named(&name)?, &file, version, allow_empty).await
        }
        DtabCommand::Delete { name } => {
            namerd.delete(named(&name)?, None).await?;
            Ok((format!("Deleted {name}\n"), OK))
        }
        DtabCommand::Set { name, prefix, dst, create } => {
            set(&namerd, named(&name)?, &prefix, Some(&dst), create, json).await
        }
        DtabCommand::Unset { name, prefix } => set(&namerd, named(&name)?, &prefix, None, false, json).await,
        DtabCommand::History { name, limit } => review::history(&namerd, named(&name)?, limit, json).await,
        DtabCommand::Diff { name, version, to } => {
            review::diff(&namerd, named(&name)?, version.as_deref(), to.as_deref(), json).await
        }
        DtabCommand::Rollback { name, version } => {
            review::rollback(settings, named(&name)?, version.as_deref(), json).await
        }
        DtabCommand::Plan(args) => review::plan(namerd, args, json).await,
        // They need no namerd.
        DtabCommand::Check { .. } | DtabCommand::Test { .. } => Ok((String::new(), OK)),
    }
}

fn named(name: &str) -> Result<&str, Failure> {
    if name.is_empty() { Err(Failure::usage("the name of the namespace is empty")) } else { Ok(name) }
}

async fn list(namerd: &Namerd, json: bool) -> Outcome {
    let names = namerd.list().await?;
    let text = match json {
        true => format!("[{}]", names.iter().map(|name| wire::quote(name)).collect::<Vec<_>>().join(",")),
        false => names.join("\n"),
    };
    Ok((format!("{text}\n"), OK))
}

async fn get(namerd: &Namerd, name: &str, json: bool, pretty: bool) -> Outcome {
    let dtab = namerd.read(name).await?;
    let text = match (json, pretty) {
        (true, _) => format!("{}\n", wire::versioned_json(&dtab)),
        (false, false) => format!("{}\n", wire::text(&dtab.entries)),
        (false, true) if dtab.version.is_empty() => wire::pretty(&dtab.entries),
        (false, true) => format!("# version {}\n{}", dtab.version, wire::pretty(&dtab.entries)),
    };
    Ok((text, OK))
}

async fn create(namerd: &Namerd, name: &str, file: &str) -> Outcome {
    let source = Source::read(file)?;
    let (body, _) = source.body()?;
    namerd.create(name, &body).await.map_err(|error| with_place(error, &source))?;
    Ok((format!("Created {name}\n"), OK))
}

async fn update(namerd: &Namerd, name: &str, file: &str, version: Option<String>, allow_empty: bool) -> Outcome {
    let source = Source::read(file)?;
    if source.is_empty() && !allow_empty {
        let advice = "a command before the pipe may have failed; --allow-empty removes all entries";
        return Err(Failure::new(format!("{} has no entries, and nothing was written", source.name)).with(advice));
    }
    let (body, own) = source.body()?;
    // The version in the file comes before the flag, as in the first namerctl.
    let version = own.or(version).filter(|version| !version.is_empty());
    let written = namerd.update(name, &body, version.as_deref()).await;
    written.map_err(|error| with_place(error, &source))?;
    Ok((format!("Updated {name}\n"), OK))
}

/// namerd says only that a dtab is not legal: we say where, when we find it.
fn with_place(error: ApiError, source: &Source) -> Failure {
    let refused = matches!(error, ApiError::Status { status: 400, .. });
    let failure = Failure::from(error);
    match source.table() {
        Err(wrong) if refused => failure.with(wrong.to_string()),
        _ => failure,
    }
}

async fn set(namerd: &Namerd, name: &str, prefix: &str, dst: Option<&str>, create: bool, json: bool) -> Outcome {
    let shown = |what: &str, text: &str, error: dtab::ParseError| {
        let message = error.to_string();
        let message = message.split(" found at '").next().unwrap_or(&message).to_owned();
        Failure::usage(format!("{what}: {message}")).with(crate::source::caret(text, error.offset()))
    };
    let parsed = dtab::parse_prefix(prefix).map_err(|error| shown("PREFIX", prefix, error))?;
    if let Some(dst) = dst {
        dtab::parse_tree(dst).map_err(|error| shown("DST", dst, error))?;
    }
    let namespace = Namespace { namerd, name };
    let change = |entries: &[wire::Entry]| {
        Ok(match dst {
            Some(dst) => edit::set(entries, &parsed, dst.trim()),
            None => edit::unset(entries, &parsed),
        })
    };
    let edited = edit::edit(&namespace, create, Duration::ZERO, change).await?;
    let changed = matches!(edited, Edited::Written(..));
    if json {
        let diff = match &edited {
            Edited::Written(before, after) => review::diff_json(before, after),
            Edited::Unchanged => "[]".to_owned(),
        };
        return Ok((format!("{{\"changed\":{changed},\"diff\":{diff}}}\n"), OK));
    }
    let word = if changed { "Updated" } else { "Unchanged" };
    Ok((format!("{word} {name}\n"), OK))
}
