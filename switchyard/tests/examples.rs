//! Every example and every YAML block of the documents loads without a problem and without a warning.
//!
//! A block that is not meant to load is marked `yaml ignore`. Paths in examples and blocks are relative to the root of the
//! workspace, so the test that loads them works there.

use router::config;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// The files below `folder` that end in `.<extension>`, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a readable text")
}

/// The blocks marked `yaml` of a document, with the number of their first line.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut open, mut wanted) = (false, false);
    for (at, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(mark) => {
                open = true;
                wanted = mark.trim() == "yaml";
                if wanted {
                    found.push((at + 2, String::new()));
                }
            }
            None => {
                if let (true, true, Some((_, block))) = (open, wanted, found.last_mut()) {
                    block.push_str(line);
                    block.push('\n');
                }
            }
        }
    }
    found
}

/// What is wrong with a config; nothing when it loads.
fn wrong(name: &str, text: &str) -> Option<String> {
    if text.contains("\n    - kind: io.l5d.k8s.localnode") {
        return wrong_in_a_pod(name);
    }
    match config::load(name, text) {
        Ok(config) if config.warnings.is_empty() => None,
        Ok(config) => Some(config.warnings.join("\n")),
        Err(problems) => Some(problems.to_string()),
    }
}

/// The same, for a file that needs the environment of a pod: a process of its own has that.
fn wrong_in_a_pod(file: &str) -> Option<String> {
    let mut check = Command::new(env!("CARGO_BIN_EXE_switchyard"));
    let ran = check.args(["check", file]).env("POD_IP", "127.0.0.1").output().expect("the binary runs");
    (!ran.status.success()).then(|| String::from_utf8_lossy(&ran.stderr).into_owned())
}

/// The certificates of the TLS examples. False, with a notice, where openssl is not installed.
fn make_certificates() -> bool {
    match Command::new("examples/tls/make-certs.sh").output() {
        Ok(made) if made.status.success() => true,
        other => {
            eprintln!("NOTICE: the TLS examples are not loaded, there are no certificates: {other:?}");
            false
        }
    }
}

#[test]
fn examples_and_documents_load() {
    std::env::set_current_dir(root()).expect("the root of the workspace");
    let certificates = make_certificates();
    let mut documents = vec![PathBuf::from("README.md")];
    documents.extend(files(Path::new("docs"), "md"));
    let mut configs: Vec<(String, String)> =
        files(Path::new("examples"), "yaml").iter().map(|path| (path.display().to_string(), read(path))).collect();
    configs.retain(|(_, text)| certificates || !text.contains("examples/tls/"));
    assert!(configs.len() >= 15, "only {} examples", configs.len());
    for document in documents {
        for (line, block) in blocks(&read(&document)) {
            configs.push((format!("{} (block at line {line})", document.display()), block));
        }
    }
    let wrong: Vec<String> = configs.iter().filter_map(|(name, text)| wrong(name, text)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Each example says what it shows and how to try it, and the list in `examples/README.md` names it.
#[test]
fn examples_explain_themselves() {
    let list = read(&root().join("examples/README.md"));
    for path in files(&root().join("examples"), "yaml") {
        let (name, text) = (path.file_name().unwrap_or_default().to_string_lossy(), read(&path));
        assert!(text.starts_with("# Shows: ") && text.contains("\n# Try"), "{name} does not explain itself");
        assert!(list.contains(&format!("({name})")), "examples/README.md does not list {name}");
    }
}

#[test]
fn blocks_are_found() {
    let text = "a\n```yaml\nx: 1\n```\n```yaml ignore\ny: 2\n```\n```sh\nz\n```\n  ```yaml\n  w: 3\n  ```\n";
    assert_eq!(blocks(text), [(3, "x: 1\n".to_owned()), (12, "  w: 3\n".to_owned())]);
}
