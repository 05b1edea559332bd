//! The reference says what the readers do: no key is missing, none is invented, and defaults are those that hold.

use super::super::{Config, Sections, load};
use super::*;
use serde_json::{Map, Value, json};
use setup::config::reference::TOP;
use std::path::Path;

/// Objects of which this machine may not have what they need: the environment of a pod.
const NOT_HERE: &str = "transformers[](io.l5d.k8s.localnode)";

/// What an object needs beside the key that is looked at: object (or its end), key and value.
fn samples(dir: &Path) -> Vec<(&'static str, &'static str, Value)> {
    let file = |name: &str| json!(dir.join(name));
    vec![
        (TOP, "routers", json!([{ "protocol": "http", "servers": [{}] }])),
        ("routers[]", "protocol", json!("http")),
        ("routers[]", "servers", json!([{}])),
        ("routers[](http)", "httpAccessLog", json!("x.log")),
        ("routers[](h2)", "h2AccessLog", json!("x.log")),
        ("(io.l5d.h2.grpc.retryableStatusCodes)", "retryableStatusCodes", json!([14])),
        ("overrideSets[]", "name", json!("x")),
        ("overrideSets[]", "dtab", json!("/a => /b")),
        ("identifier(io.l5d.static)", "path", json!("/x")),
        ("interpreter(io.l5d.fs)", "dtabFile", file("x.dtab")),
        ("interpreter(io.l5d.namerd)", "dst", json!("/$/inet/namerd/4100")),
        ("interpreter(io.l5d.namerd).tls", "commonName", json!("namerd")),
        ("interpreter(io.l5d.namerd.http)", "dst", json!("/$/inet/namerd/4180")),
        ("interpreter(io.l5d.mesh)", "dst", json!("/$/inet/namerd/4321")),
        ("interpreter(io.l5d.mesh).tls", "commonName", json!("namerd")),
        ("interpreter(io.l5d.namerd.http).tls", "commonName", json!("namerd")),
        (".retry", "baseSeconds", json!(1)),
        (".retry", "maxSeconds", json!(2)),
        (".overrides", "mode", json!("policy")),
        (".overrides", "rules", json!([{}])),
        ("(static)", "label", json!("x")),
        ("namers[](io.l5d.fs)", "rootDir", json!(".")),
        ("namers[](io.l5d.rewrite)", "prefix", json!("/p")),
        ("namers[](io.l5d.rewrite)", "pattern", json!("/a")),
        ("namers[](io.l5d.rewrite)", "name", json!("/b")),
        ("(io.l5d.port)", "port", json!(80)),
        ("(io.l5d.specificHost)", "host", json!("127.0.0.1")),
        ("(io.l5d.replace)", "path", json!("/x")),
        ("(io.l5d.const)", "path", json!("/x")),
        ("(jittered)", "minMs", json!(1)),
        ("(jittered)", "maxMs", json!(2)),
        ("(io.l5d.successRate)", "requests", json!(10)),
        ("(io.l5d.successRateWindowed)", "window", json!(10)),
        ("admin.tls", "certPath", file("cert.pem")),
        ("admin.tls", "keyPath", file("key.pem")),
        ("servers[].tls", "certPath", file("cert.pem")),
        ("servers[].tls", "keyPath", file("key.pem")),
        ("client(io.l5d.global).tls", "commonName", json!("web")),
        ("client(io.l5d.global).tls", "trustCertsBundle", file("cert.pem")),
    ]
}

fn certificates(dir: &Path) {
    let made = rcgen::generate_simple_self_signed(["web".to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("x.dtab"), "/svc => /a").unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
}

/// The parts of a path, each with its kind: `a[](x.y).b` is `a[](x.y)` and `b`.
fn parts(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in path.chars() {
        inside = (inside || c == '(') && c != ')';
        match (c, parts.last_mut()) {
            ('.', _) if !inside => parts.push(String::new()),
            (_, Some(part)) => part.push(c),
            _ => {}
        }
    }
    parts
}

/// A file in which the key at `path` has a value; without one, only the object around it is there.
fn file(path: &str, value: Option<Value>, samples: &[(&str, &str, Value)]) -> Value {
    let mut parts = parts(path);
    let key = parts.pop().unwrap_or_default();
    let mut here = Map::new();
    here.extend(value.map(|value| (key, value)));
    let mut child: Option<(String, Value)> = None;
    loop {
        let at = parts.join(".");
        let at = if at.is_empty() { TOP } else { &at };
        for (object, key, value) in samples {
            let is_it = at == *object || at.replace("(http)", "").replace("(h2)", "").ends_with(*object);
            if is_it && !here.contains_key(*key) && child.as_ref().is_none_or(|(name, _)| name != key) {
                here.insert((*key).to_owned(), value.clone());
            }
        }
        here.extend(child.take());
        let Some(part) = parts.pop() else { return Value::Object(here) };
        let (name, kind) = part.split_once('(').unwrap_or((&part, ""));
        if !kind.is_empty() {
            let key = if name == "routers[]" { "protocol" } else { "kind" };
            here.insert(key.to_owned(), json!(kind.trim_end_matches(')')));
        }
        let object = Value::Object(std::mem::take(&mut here));
        child = Some(match name.strip_suffix("[]") {
            Some(name) => (name.to_owned(), json!([object])),
            None => (name.to_owned(), object),
        });
    }
}

/// All that a config results in, as text.
fn results(file: &Value) -> String {
    let mut config: Config = load("f", &file.to_string()).unwrap_or_else(|problems| panic!("{file}\n{problems}"));
    config.warnings.clear();
    config.as_json = Value::Null;
    let name = dtab::Path::parse("/any/name").unwrap();
    let mut text = String::new();
    for router in &mut config.routers {
        text += &format!("{:?} {:?}", router.client.for_name(&name), router.service.for_name(&name));
        (router.client, router.service) = (Sections::default(), Sections::default());
        router.servers.iter_mut().for_each(|server| server.overrides.stated = false);
    }
    format!("{config:?} {text}")
}

/// The value that a default stands for, if it is written as one.
fn literal(default: &str) -> Option<Value> {
    let text = default.strip_prefix('`')?.strip_suffix('`')?;
    if text.contains('<') {
        return None;
    }
    Some(serde_json::from_str(text).unwrap_or_else(|_| json!(text)))
}

#[test]
fn every_key_has_its_line_and_every_line_its_key() {
    assert_eq!(DOCUMENT.mistakes(&known()), [""; 0]);
}

#[test]
fn defaults_are_what_holds() {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path());
    let samples = samples(dir.path());
    let known = known();
    let kinds = DOCUMENT.kinds(&known);
    let mut compared = 0;
    for section in DOCUMENT.sections().iter().filter(|section| section.object != NOT_HERE) {
        for line in &section.lines {
            let Some(value) = literal(line.default) else { continue };
            let of = |path: &&String| {
                let (object, key) = DOCUMENT.split(path);
                object == section.object && key == line.key && !path.contains("(io.l5d.static).configs")
            };
            let paths: Vec<&String> = known.keys.keys().filter(of).collect();
            let kind = kinds.contains_key(&format!("{}.{}", section.object, line.key));
            let value = if kind { json!({ "kind": value }) } else { value };
            for path in paths {
                let without =
                    samples.iter().filter(|(object, key, _)| !(path.ends_with(*key) && *object == "routers[]"));
                let without: Vec<_> = without.cloned().collect();
                let (absent, set) = (file(path, None, &without), file(path, Some(value.clone()), &without));
                assert_eq!(results(&absent), results(&set), "{path}: {value} is not the default");
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

/// What Linkerd 1 has and `check` refuses is named, with a reason, where the reference says.
#[test]
fn what_is_refused_is_explained() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences.md");
    let text = std::fs::read_to_string(path).unwrap();
    let section = text.split("## Keys that are refused\n").nth(1).unwrap().split("\n## ").next().unwrap();
    for name in DOCUMENT.refused(&known()) {
        let named = [format!("`{name}`"), format!(".{name}`"), format!("[].{name}`")];
        assert!(named.iter().any(|name| section.contains(name)), "{name} is not in docs/differences.md");
    }
}

/// `UPDATE_DOCS=1` writes it.
#[test]
fn the_document_is_this_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
    let made = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == made, "docs/config.md is out of date; `switchyard reference` prints it");
}
