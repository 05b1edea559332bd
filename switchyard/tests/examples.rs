//! Every example and every YAML block of the documents loads without a problem and without a warning.
//!
//! A block that is not meant to load is marked `yaml ignore`, one of a namerd.yaml `yaml namerd`. Paths in examples and blocks are relative to the root of the
//! workspace, so the test that loads them works there.

use router::config;
use setup::config::kinds;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a block of a namerd.yaml lacks.
const NAMERD: &str = "storage: { kind: io.l5d.inMemory }\ninterfaces: [{ kind: io.l5d.mesh }]\n";

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

/// The blocks with this mark of a document, with the number of their first line.
fn blocks(text: &str, marked: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let (mut open, mut wanted) = (false, false);
    for (at, line) in text.lines().enumerate() {
        match line.trim_start().strip_prefix("```") {
            Some(_) if open => open = false,
            Some(mark) => {
                open = true;
                wanted = mark.trim() == marked;
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

/// The same, for a namerd.yaml.
fn wrong_namerd(name: &str, text: &str) -> Option<String> {
    match namerd::config::load(name, text) {
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
    let examples =
        files(Path::new("examples"), "yaml").into_iter().map(|path| (path.display().to_string(), read(&path)));
    let (mut namerds, mut configs): (Vec<_>, Vec<_>) =
        examples.partition::<Vec<_>, _>(|(name, _)| name.starts_with("examples/namerd/"));
    configs.retain(|(_, text)| certificates || !text.contains("examples/tls/"));
    assert!(configs.len() >= 15, "only {} examples", configs.len());
    for document in documents {
        let (shown, text) = (document.display(), read(&document));
        let named = |(line, block)| (format!("{shown} (block at line {line})"), block);
        configs.extend(blocks(&text, "yaml").into_iter().map(named));
        namerds.extend(
            blocks(&text, "yaml namerd").into_iter().map(|(line, block)| named((line, format!("{NAMERD}{block}")))),
        );
    }
    let wrong = configs.iter().filter_map(|(name, text)| wrong(name, text));
    let wrong: Vec<String> = wrong.chain(namerds.iter().filter_map(|(name, text)| wrong_namerd(name, text))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Each example says what it shows and how to try it, and the list in `examples/README.md` names it.
#[test]
fn examples_explain_themselves() {
    let list = read(&root().join("examples/README.md"));
    for path in files(&root().join("examples"), "yaml") {
        let (name, text) = (path.strip_prefix(root().join("examples")).unwrap_or(&path).display(), read(&path));
        assert!(text.starts_with("# Shows: ") && text.contains("\n# Try"), "{name} does not explain itself");
        assert!(list.contains(&format!("({name})")), "examples/README.md does not list {name}");
    }
}

/// The kinds in an object of this key, wherever it stands in a config; those of objects within it too.
fn kinds_below<'t>(text: &'t str, key: &str, discriminator: &str) -> Vec<&'t str> {
    let (mut kinds, mut within) = (Vec::new(), None);
    let (key, kind) = (format!("{key}:"), format!("{discriminator}: "));
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let bare = line.trim_start_matches([' ', '-']);
        let (indent, is_item) = (line.len() - line.trim_start().len(), line.trim_start().starts_with("- "));
        if within.is_some_and(|outer| indent < outer || indent == outer && !is_item) {
            within = None;
        }
        if within.is_none() && bare.starts_with(&key) {
            within = Some(line.len() - bare.len());
        }
        if within.is_some() {
            let named = line.split(&kind).skip(1);
            kinds.extend(named.filter_map(|rest| rest.trim_start_matches('"').split([' ', ',', '}', '"']).next()));
        }
    }
    kinds
}

/// DESIGN: a kind is one file, one variant, one example, one entry. That variants and entries agree is tested beside the
/// readers; here, that each kind has an example and an entry.
#[test]
fn every_kind_has_an_example_and_an_entry() {
    let objects = [
        ("routers", "docs/config.md", &kinds::PROTOCOLS),
        ("namers", "docs/config.md", &kinds::NAMERS),
        ("interpreter", "docs/config.md", &kinds::INTERPRETERS),
        ("transformers", "docs/config.md", &kinds::TRANSFORMERS),
        ("identifier", "docs/config.md", &kinds::IDENTIFIERS),
        ("addForwardedHeader", "docs/config.md", &kinds::LABELERS),
        ("telemetry", "docs/config.md", &kinds::TELEMETERS),
        ("loadBalancer", "docs/config.md", &kinds::BALANCERS),
        ("failureAccrual", "docs/config.md", &kinds::ACCRUALS),
        ("responseClassifier", "docs/config.md", &kinds::CLASSIFIERS),
        ("responseClassifier", "docs/config.md", &kinds::H2_CLASSIFIERS),
        ("backoff", "docs/config.md", &kinds::BACKOFFS),
        ("storage", "docs/namerd-config.md", &kinds::STORAGES),
        ("interfaces", "docs/namerd-config.md", &kinds::INTERFACES),
    ];
    let examples: Vec<String> = files(&root().join("examples"), "yaml").iter().map(|path| read(path)).collect();
    let mut missing = Vec::new();
    for (key, document, kinds) in objects {
        let shown: BTreeSet<&str> = examples.iter().flat_map(|text| kinds_below(text, key, kinds.key)).collect();
        let entries = read(&root().join(document));
        for kind in kinds.built {
            if !shown.contains(kind) {
                missing.push(format!("{kind} is in no example as {}, below `{key}`", kinds.noun));
            }
            if !entries.contains(&format!("`{kind}`")) {
                missing.push(format!("{kind} has no entry in {document}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn kinds_are_found() {
    let text = "a:\n- kind: x\n  in: { kind: y }\nb:\n  kind: z\nc: { kind: u }\nkind: v\n";
    assert_eq!(kinds_below(text, "a", "kind"), ["x", "y"]);
    assert_eq!(kinds_below(text, "b", "kind"), ["z"]);
    assert_eq!(kinds_below(text, "c", "kind"), ["u"]);
}

#[test]
fn blocks_are_found() {
    let text = "a\n```yaml\nx: 1\n```\n```yaml ignore\ny: 2\n```\n```sh\nz\n```\n  ```yaml\n  w: 3\n  ```\n";
    assert_eq!(blocks(text, "yaml"), [(3, "x: 1\n".to_owned()), (12, "  w: 3\n".to_owned())]);
}
