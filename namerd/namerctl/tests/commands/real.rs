//! The real HTTP interface of namerd, over a store in memory and a namer of files, with the real binary.

use crate::tool::Tool;
use dtab::{Dtab, Path};
use namerd::access::Access;
use namerd::iface::http::{HttpInterface, HttpParams};
use namerd::iface::{Interface, Peer};
use namerd::names::Names;
use namerd::storage::memory::{MemoryStore, RETENTION};
use namers::{Discovery, DnsOptions, DnsResolver, FsNamer, SystemNamer};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::watch;

const PIPELINE: &str = "/srv=>/#/io.l5d.fs;/host=>/srv;/tmp=>/srv;/svc=>/host;/host/world=>/srv/world-v1";

/// A namerd with one namespace, `internal`, and files for two versions of `world`. Gives its URL; lives as the process.
fn namerd(disco: &std::path::Path) -> String {
    for (version, port) in [("world-v1", 8001), ("world-v2", 8002)] {
        std::fs::write(disco.join(version), format!("127.0.0.1 {port}\n")).unwrap();
    }
    let (send, url) = std::sync::mpsc::channel();
    let disco = disco.to_owned();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async move {
            let discovery = Discovery::new(Handle::current());
            let dns = DnsResolver::within(&discovery, &[], DnsOptions::default());
            let system = SystemNamer::new(dns.clone(), Handle::current());
            let files = FsNamer::within(&discovery, Path::parse("/#/io.l5d.fs").unwrap(), disco, dns).unwrap();
            let stored = BTreeMap::from([("internal".to_owned(), Dtab::parse(PIPELINE).unwrap())]);
            let store = Arc::new(MemoryStore::new(stored, RETENTION));
            let names = Names::new(store, vec![Arc::new(files)], system, &discovery);
            let api = Arc::new(HttpInterface::new(names, Access::default(), HttpParams::default()));
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(format!("http://{}", listener.local_addr().unwrap())).unwrap();
            let (_closing, told) = watch::channel(false);
            loop {
                let (socket, address) = listener.accept().await.unwrap();
                let peer = Peer { address, identity: None };
                tokio::spawn(api.clone().serve(Box::new(socket), peer, told.clone()));
            }
        });
    });
    url.recv().unwrap()
}

fn version(tool: &Tool) -> String {
    let json: serde_json::Value = serde_json::from_str(&tool.ok(&["dtab", "get", "internal", "--json"], "")).unwrap();
    json["version"].as_str().unwrap().to_owned()
}

#[test]
fn dtabs_are_made_changed_and_taken_back() {
    let disco = tempfile::tempdir().unwrap();
    let tool = Tool::new(&namerd(disco.path()));
    assert_eq!(tool.ok(&["dtab", "create", "a", "-"], "# c\n/svc => /x & 0.001*/y ;\n"), "Created a\n");
    assert_eq!(tool.ok(&["dtab", "list"], ""), "a\ninternal\n");
    let run = tool.run(&["dtab", "create", "a", "-"], "/a=>/b");
    assert!(run.status == 1 && run.stderr.starts_with("Error: unexpected response: 409 Conflict\n"), "{run:?}");
    let run = tool.run(&["dtab", "update", "a", "-"], "/a => ,");
    assert!(run.stderr.contains("1 | /a => ,\n    |       ^"), "{run:?}");
    let json = tool.ok(&["dtab", "get", "a", "--json"], "");
    assert_eq!(tool.ok(&["dtab", "update", "a", "-", "--json"], &json), "Updated a\n");
    let run = tool.run(&["dtab", "update", "a", "-", "--json"], &json);
    assert!(run.status == 1 && run.stderr.contains("412 Precondition Failed"), "{run:?}");
    tool.ok(&["dtab", "set", "a", "/svc", "/z", "--author", "ann", "--reason", "größer"], "");
    let history = tool.ok(&["dtab", "history", "a"], "");
    assert!(history.lines().nth(1).unwrap().contains("ann") && history.contains("größer"), "{history}");
    assert!(tool.ok(&["dtab", "diff", "a"], "").contains("+ /svc => /z ;"));
    assert!(tool.ok(&["dtab", "rollback", "a"], "").contains("+ /svc => /x & 0.001*/y ;"));
    assert_eq!(tool.ok(&["dtab", "new", "empty", "-"], ""), "Created empty\n");
    assert_eq!(tool.ok(&["dtab", "rm", "a"], ""), "Deleted a\n");
    assert_eq!(tool.run(&["dtab", "get", "a"], "").status, 1);
    let gone: Vec<String> = tool.ok(&["dtab", "history", "a"], "").lines().map(str::to_owned).collect();
    let last = gone[2].split_whitespace().next().unwrap();
    tool.ok(&["dtab", "rollback", "a", last], "");
    assert!(tool.ok(&["dtab", "get", "a"], "").contains("0.001*/y"));
}

#[test]
fn many_writers_of_one_namespace_all_succeed() {
    let disco = tempfile::tempdir().unwrap();
    let tool = Tool::new(&namerd(disco.path()));
    let prefixes: Vec<String> = (0..12).map(|i| format!("/race/{i}")).collect();
    let start = |prefix: &String| tool.command(&["dtab", "set", "internal", prefix, "/x"]).spawn().unwrap();
    let children: Vec<_> = prefixes.iter().map(start).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let dtab = tool.ok(&["dtab", "get", "internal", "--pretty=false"], "");
    assert!(prefixes.iter().all(|prefix| dtab.contains(&format!("{prefix}=>/x"))), "{dtab}");
}

#[test]
fn plans_delegations_and_shifts_are_answered() {
    let disco = tempfile::tempdir().unwrap();
    let tool = Tool::new(&namerd(disco.path()));
    let tree = tool.ok(&["delegate", "internal", "/svc/world"], "");
    assert!(tree.contains("[bound /#/io.l5d.fs/world-v1, 1 address: 127.0.0.1:8001]"), "{tree}");
    let new = format!("{PIPELINE};/host/world => 1*/srv/world-v2 & 9*/srv/world-v1");
    let words = ["dtab", "plan", "internal", "-", "--name", "/svc/world", "--name", "/svc/other"];
    let run = tool.run(&words, &new);
    let changed = format!(
        "/svc/world\n  - /#/io.l5d.fs/world-v1\n  + 90% /#/io.l5d.fs/world-v1, 10% /#/io.l5d.fs/world-v2\ninternal: 1 of 2 names change against version {}\n",
        version(&tool)
    );
    assert_eq!((run.status, run.stdout), (2, changed));
    assert_eq!(tool.run(&words, PIPELINE).status, 0);
    let run = tool.run(&["dtab", "plan", "internal", "-"], PIPELINE);
    assert!(run.stderr.contains("no router has asked internal for a name"), "{run:?}");
    let words = ["shift", "internal", "/host/world", "--from", "/srv/world-v1", "--to", "/srv/world-v2"];
    let out = tool.ok(&[&words[..], &["--steps", "0.25,10,100", "--every", "10ms"]].concat(), "");
    assert!(out.ends_with("done: /host/world => /srv/world-v2\n"), "{out}");
    assert!(tool.ok(&["dtab", "history", "internal"], "").lines().count() == 5, "one write a step");
}

#[test]
fn the_first_namerctl_sees_and_does_the_same() {
    let Some(original) = std::env::var_os("NAMERCTL_GO") else {
        println!("not run: NAMERCTL_GO does not name the first namerctl");
        return;
    };
    let disco = tempfile::tempdir().unwrap();
    let url = namerd(disco.path());
    let (ours, theirs) = (Tool::new(&url), Tool::of(original.as_ref(), &url));
    assert_eq!(theirs.ok(&["dtab", "create", "go", "-"], "/svc => 1 * /a & 9 * /b | ~ ;"), "Created go\n");
    for words in [&["list"][..], &["get", "go"], &["get", "go", "--json"], &["get", "internal", "--pretty=false"]] {
        let words = [&["dtab"], words].concat();
        assert_eq!(ours.ok(&words, ""), theirs.ok(&words, ""), "{words:?}");
    }
    let json = theirs.ok(&["dtab", "get", "go", "--json"], "");
    assert_eq!(ours.ok(&["dtab", "update", "go", "-", "--json"], &json), "Updated go\n");
    assert_eq!(theirs.run(&["dtab", "update", "go", "-", "--json"], &json).status, 255, "it was changed in between");
    assert_eq!(theirs.ok(&["dtab", "delete", "go"], ""), "Deleted go\n");
    assert_eq!(ours.run(&["dtab", "get", "go"], "").status, 1);
}
