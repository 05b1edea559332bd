//! namerd.yaml: every key, what is refused, and the files of Linkerd 1.

use super::reference::DOCUMENT;
use super::*;
use crate::access::{Namespaces, Right};
use std::path::Path;

const INTERFACES: &str = "interfaces: [{ kind: io.l5d.httpController }]\n";
const STORAGE: &str = "storage: { kind: io.l5d.inMemory }\n";

fn good(text: &str) -> Config {
    load("f", text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// The only problem of `text` has this in it.
fn one(text: &str, part: &str) {
    let problems = load("f", text).expect_err(text);
    assert_eq!(problems.count(), 1, "{text}\n{problems}");
    assert!(problems.to_string().contains(part), "{text}\n{problems}\n{part}");
}

#[test]
fn the_reference_says_what_is_read() {
    assert_eq!(DOCUMENT.mistakes(&known()), [""; 0]);
}

/// `UPDATE_DOCS=1` writes it.
#[test]
fn the_document_is_this_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/namerd-config.md");
    let made = reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).expect("written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == made, "docs/namerd-config.md is out of date; `namerd reference` prints it");
}

#[test]
fn what_is_refused_is_explained() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences.md");
    let text = std::fs::read_to_string(path).expect("the document");
    for name in DOCUMENT.refused(&known()) {
        assert!(text.contains(&format!("`{name}`")), "{name} is not in docs/differences.md");
    }
}

#[test]
fn a_file_of_linkerd_1() {
    let config = good(
        "admin: { ip: 0.0.0.0, port: 9991 }
namers: []
storage:
  kind: io.l5d.zk
  experimental: true
  zkAddrs: [{ host: zk1, port: 2181 }, { host: zk2, port: 2181 }]
  pathPrefix: /dtabs
  sessionTimeoutMs: 10000
  authInfo: { scheme: digest, auth: 'user:pw' }
  acls: [{ scheme: world, id: anyone, perms: crwda }]
interfaces:
- kind: io.l5d.thriftNameInterpreter
  port: 4100
  ip: 0.0.0.0
  cache: { bindingCacheActive: 5000, addrCacheActive: 6000 }
- kind: io.l5d.httpController
- kind: io.l5d.mesh
telemetry: [{ kind: io.l5d.prometheus }]
",
    );
    assert_eq!((config.interfaces.len(), config.admin.port), (3, 9991));
    let InterfaceKind::Thrift(options) = &config.interfaces[0].kind else { panic!("{:?}", config.interfaces[0]) };
    assert_eq!((options.bindings.active, options.addresses.active), (5000, 6000));
    assert!(config.interfaces[0].ip.is_unspecified());
    assert_eq!(config.interfaces.iter().map(|iface| iface.port).collect::<Vec<_>>(), [4100, 4180, 4321]);
    let StorageParams::Zk { addresses, auth, .. } = &config.storage else { panic!("{:?}", config.storage) };
    assert_eq!(addresses[1], ("zk2".to_owned(), 2181));
    assert_eq!(auth.as_ref().map(|(scheme, _)| scheme.as_str()), Some("digest"));
    assert!(!config.as_json.to_string().contains("user:pw"), "{}", config.as_json);
}

#[test]
fn what_everybody_reaches_and_may_write_is_warned_of() {
    let open = "interfaces: [{ kind: io.l5d.httpController, ip: 0.0.0.0 }]\n";
    let warnings = |text: &str| good(text).warnings.join("\n");
    assert!(warnings(&format!("{STORAGE}{open}")).contains("anybody who reaches 0.0.0.0:4180 can change every dtab"));
    assert_eq!(warnings(&format!("{STORAGE}{open}access: {{}}\n")), "");
    assert_eq!(warnings(&format!("{STORAGE}{INTERFACES}")), "");
}

#[test]
fn hosts_and_options_of_interfaces_are_read() {
    let config = good(&format!(
        "{STORAGE}interfaces:
- kind: io.l5d.httpController
  allowedHosts: [namerd.example, '*']
  socketOptions: {{ keepAlive: false, readTimeoutMs: 5000 }}
"
    ));
    let InterfaceKind::Http { hosts, .. } = &config.interfaces[0].kind else { panic!("{:?}", config.interfaces[0]) };
    assert_eq!(hosts, &["namerd.example", "*"]);
    assert_eq!(config.interfaces[0].socket.keep_alive, Some(false));
    assert!(config.warnings.join("\n").contains("`readTimeoutMs` and `writeTimeoutMs` have no effect here"));
}

#[test]
fn access_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ci");
    std::fs::write(&file, "0123456789abcdef").expect("written");
    let config = good(&format!(
        "{STORAGE}{INTERFACES}access:
  anonymous: [{{ right: read }}]
  tokens:
  - name: ci
    tokenFile: {}
    rules: [{{ right: write, namespaces: [default], prefixes: [/svc/web, '/host/*'] }}]
  identities: [{{ identity: 'spiffe://a/b', rules: [{{ right: read, namespaces: ['*'] }}] }}]
",
        file.display()
    ));
    let access = config.access.expect("a policy");
    assert_eq!(access.anonymous[0].right, Right::Read);
    assert_eq!(access.anonymous[0].namespaces, Namespaces::All);
    let rule = &access.tokens[0].rules[0];
    assert_eq!((rule.right, &rule.namespaces), (Right::Write, &Namespaces::Named(vec!["default".to_owned()])));
    let prefixes = rule.prefixes.as_ref().expect("a limit");
    assert_eq!(prefixes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["/svc/web", "/host/*"]);
    assert_eq!(access.anonymous[0].prefixes, None);
    assert_eq!(access.identities[0].identity, "spiffe://a/b");
}

/// What a template left empty grants nothing.
#[test]
fn an_empty_limit_of_a_rule_is_refused() {
    for key in ["prefixes", "namespaces"] {
        for value in ["[]", "", "null", "~"] {
            for rule in
                [format!("{{ right: write, {key}: {value} }}"), format!("\n  - {key}: {value}\n    right: write")]
            {
                let list = if rule.starts_with('{') { format!("[{rule}]") } else { rule };
                let text = format!("{STORAGE}{INTERFACES}access:\n  anonymous: {list}\n");
                one(&text, &format!("`{key}` is empty; name at least one, e.g. ["));
            }
        }
        one(
            &format!("{STORAGE}{INTERFACES}access: {{ anonymous: [{{ right: write, {key}: /svc }}] }}\n"),
            "a single value where a list belongs",
        );
    }
}

#[test]
fn wrong_files() {
    let rest = format!("{STORAGE}{INTERFACES}");
    for (text, part) in [
        (INTERFACES.to_owned(), "required key `storage` is missing"),
        (STORAGE.to_owned(), "'interfaces' field is required"),
        (
            format!("{STORAGE}interfaces: [{{ kind: io.l5d.httpController, allowedHosts: ['a:80'] }}]\n"),
            "is not the name of a host",
        ),
        (format!("{STORAGE}interfaces: []\n"), "One or more interfaces must be specified"),
        (format!("{rest}routers: []\n"), "it belongs to `linkerd.yaml`"),
        (format!("{rest}admin: {{ port: 4180 }}\n"), "127.0.0.1:4180 is taken: the administrative server listens on"),
        (
            format!("{STORAGE}interfaces: [{{ kind: io.l5d.mesh, port: 1 }}, {{ kind: io.l5d.mesh, port: 1 }}]\n"),
            "is taken",
        ),
        (
            format!("{STORAGE}interfaces: [{{ kind: io.l5d.thriftNameInterpreter, retryBaseSecs: 1 }}]\n"),
            "dropped it in 1.3.5",
        ),
        (format!("{STORAGE}interfaces: [{{ kind: io.l5d.destination }}]\n"), "does not have yet"),
        (format!("{INTERFACES}storage: {{ kind: io.l5d.k8s }}\n"), "does not have yet"),
        (format!("{INTERFACES}storage: {{ kind: io.l5d.zk }}\n"), "required key `zkAddrs` is missing"),
        (
            format!("{INTERFACES}storage: {{ kind: io.l5d.zk, zkAddrs: [{{ host: a }}] }}\n"),
            "required key `port` is missing",
        ),
        (
            format!(
                "{INTERFACES}storage: {{ kind: io.l5d.zk, zkAddrs: [{{ host: a, port: 1 }}], acls: [{{ scheme: w, id: a, perms: rr }}] }}\n"
            ),
            "`rr` are no permissions",
        ),
        (format!("{INTERFACES}storage: {{ kind: io.l5d.etcd, apiVersion: 4 }}\n"), "is no API of etcd"),
        (
            format!("{INTERFACES}storage: {{ kind: io.l5d.etcd, host: a, endpoints: [{{ host: b }}] }}\n"),
            "write one of the two",
        ),
        (
            format!("{INTERFACES}storage: {{ kind: io.l5d.consul, readConsistencyMode: weak }}\n"),
            "expected one of: default, stale",
        ),
        (
            format!("{INTERFACES}storage: {{ kind: io.l5d.inMemory, namespaces: {{ default: '/svc = /a' }} }}\n"),
            "storage.namespaces.default",
        ),
        (format!("{rest}access:\n"), "`access` is empty, which would let everybody do everything"),
        (
            format!("{rest}access: {{ anonymous: [{{ right: all }}] }}\n"),
            "`all` is not a right; expected one of: read, write",
        ),
        (format!("{rest}access: {{ anonymous: [{{ right: write, prefixes: [svc] }}] }}\n"), "is not a prefix"),
        (format!("{rest}access: {{ tokens: [{{ name: ci, tokenFile: /nowhere }}] }}\n"), "/nowhere"),
    ] {
        one(&text, part);
    }
}

#[test]
fn namers_that_overlap() {
    let folder = tempfile::tempdir().expect("a folder");
    let fs = |prefix: &str| format!("{{ kind: io.l5d.fs, rootDir: {}, prefix: {prefix} }}", folder.path().display());
    let text = |a: &str, b: &str| format!("{STORAGE}{INTERFACES}namers: [{}, {}]\n", fs(a), fs(b));
    one(&text("/a", "/a/b"), "Namers must not have overlapping prefixes: /#/a & /#/a/b");
    assert_eq!(good(&text("/a", "/b")).namers.len(), 2);
}

#[test]
fn the_embedded_config_is_good() {
    let config = embedded(Some("/tmp/x".into())).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(matches!(&config.storage, StorageParams::Local { path, .. } if path == Path::new("/tmp/x")));
    assert!(config.interfaces.iter().all(|interface| interface.ip.is_loopback()));
    assert_eq!((config.interfaces.len(), config.warnings.len()), (3, 0));
}
