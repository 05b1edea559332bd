//! Every case of the conformance corpus, table-driven, with one summary line per file.
//!
//! `SWITCHYARD_CONFORMANCE` names another folder of the same shape; files may be absent there. The shape of the files
//! is described in `tests/conformance/README.md`.

#![allow(clippy::panic, reason = "a test says what is wrong by panicking")]

mod binding;
mod language;
mod requests;
mod transform;

use serde_json::Value as Json;
use std::path::{Path as FilePath, PathBuf};

/// What came of one case: nothing, a reason not to run it, or what is wrong.
pub(crate) enum Verdict {
    /// As expected.
    Pass,
    /// Not run, and why.
    Skip(String),
    /// Not as expected.
    Fail(String),
}

impl Verdict {
    /// Pass when both are equal.
    pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(got: &T, want: &T) -> Verdict {
        if got == want { Verdict::Pass } else { Verdict::Fail(format!("got  {got:?}\n       want {want:?}")) }
    }
}

type Runner = fn(&Json) -> Verdict;

const FILES: [(&str, Runner); 11] = [
    ("path.json", language::path),
    ("nametree.json", language::nametree),
    ("dtab.json", language::dtab),
    ("lookup.json", language::lookup),
    ("eval.json", language::eval),
    ("delegate.json", binding::delegate),
    ("utility.json", binding::utility),
    ("rewrite.json", binding::rewrite),
    ("transform.json", transform::transform),
    ("identify.json", requests::identify),
    ("override.json", requests::overrides),
];

fn folder() -> PathBuf {
    match std::env::var_os("SWITCHYARD_CONFORMANCE") {
        Some(folder) => PathBuf::from(folder),
        None => FilePath::new(env!("CARGO_MANIFEST_DIR")).join("conformance/dtab"),
    }
}

fn run_file(file: &FilePath, runner: Runner) -> Result<String, Vec<String>> {
    let text = std::fs::read_to_string(file).expect("the file is readable");
    let json: Json = serde_json::from_str(&text).expect("the file is JSON");
    let cases = json["cases"].as_array().expect("the file has cases");
    let (mut passed, mut skipped, mut failures) = (0, Vec::new(), Vec::new());
    for case in cases {
        let id = case["id"].as_str().unwrap_or("?");
        match runner(case) {
            Verdict::Pass => passed += 1,
            Verdict::Skip(why) => skipped.push(format!("  not run: {id}: {why}")),
            Verdict::Fail(what) => failures.push(format!("{id}: {what}\n       case {case}")),
        }
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut summary = format!("{name}: {passed} of {}", cases.len());
    for line in &skipped {
        summary.push('\n');
        summary.push_str(line);
    }
    if failures.is_empty() { Ok(summary) } else { Err(failures) }
}

#[test]
fn conformance() {
    let folder = folder();
    let mut failures = Vec::new();
    let mut seen = 0;
    for (name, runner) in FILES {
        let file = folder.join(name);
        if !file.is_file() {
            println!("{name}: absent");
            continue;
        }
        seen += 1;
        match run_file(&file, runner) {
            Ok(summary) => println!("{summary}"),
            Err(mut wrong) => {
                println!("{name}: {} wrong", wrong.len());
                failures.append(&mut wrong);
            }
        }
    }
    assert!(seen > 0, "no conformance file in {}", folder.display());
    assert!(failures.is_empty(), "{} cases differ:\n{}", failures.len(), failures.join("\n"));
}
