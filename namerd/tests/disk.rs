//! The local store over a real operating system that refuses: a limit on the size of files, a full disk, a read-only one, a
//! folder that another process has; and that each acknowledged write has been synced.
//!
//! What needs a limit or a mount of its own runs in a child. Where the machine does not allow mounts, or has no `strace`,
//! that test says so and passes.

mod children;

use dtab::Dtab;
use namerd::storage::contract::{self, Subject};
use namerd::storage::local::{LocalError, LocalStore, RETENTION};
use namerd::storage::{Note, Store, StoreError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn open(folder: &Path, runtime: &Runtime) -> Result<LocalStore, LocalError> {
    LocalStore::open(folder.to_owned(), RETENTION, runtime.handle().clone())
}

/// A dtab of about so many bytes.
fn dtab_of(bytes: usize) -> Dtab {
    Dtab::parse(&format!("/large=>/{}", "x".repeat(bytes))).expect("a dtab")
}

fn passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn a_limit_on_files_is_an_outage_that_ends() {
    let folder = TempDir::new().expect("a folder");
    // Without the trap, the first write beyond the limit would end the process.
    let through = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    passed(&children::command("under_a_limit", folder.path(), &through).output().expect("sh"));
}

#[test]
fn under_a_limit() {
    let Some(folder) = children::folder() else { return };
    let runtime = Runtime::new().expect("a runtime");
    let handle = runtime.handle().clone();
    let limit = |bytes| {
        let maximum = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).expect("the limit");
    };
    let make = move || {
        let store = LocalStore::open(folder.clone(), RETENTION, handle.clone()).expect("the store opens");
        std::future::ready(Arc::new(store) as Arc<dyn Store>)
    };
    let begin = move || {
        limit(Some(0));
        std::future::ready(())
    };
    let end = move || {
        limit(None);
        std::future::ready(())
    };
    runtime.block_on(contract::outage_and_recovery(&Subject::new(make).outage(begin, end)));
}

/// Runs a part in a mount namespace whose folder is a small file system of its own; None when that is not allowed here.
fn on_a_small_disk(part: &str, options: &str) -> Option<Output> {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().to_str().expect("a path in UTF-8");
    let mount = format!("mount -t tmpfs -o {options} none '{path}'");
    let unshare = ["unshare", "--map-root-user", "--mount", "sh", "-c"];
    let allowed = Command::new(unshare[0]).args(&unshare[1..]).arg(&mount).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("not run: this machine lets nobody mount a file system for a test");
        return None;
    }
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    let through: Vec<&str> = unshare.iter().copied().chain([script.as_str()]).collect();
    Some(children::command(part, folder.path(), &through).output().expect("unshare"))
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    if let Some(output) = on_a_small_disk("on_a_full_disk", "size=6m") {
        passed(&output);
    }
}

#[test]
fn on_a_full_disk() {
    let Some(folder) = children::folder() else { return };
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![0; 3 << 20]).expect("ballast");
    let runtime = Runtime::new().expect("a runtime");
    let store = open(&folder.join("store"), &runtime).expect("the store opens");
    runtime.block_on(async {
        let small = dtab_of(10);
        let version = store.create("small", small.clone(), Note::default()).await.expect("create");
        let mut stored = Vec::new();
        let refused = loop {
            match store.create(&format!("ns-{}", stored.len()), dtab_of(100_000), Note::default()).await {
                Ok(version) => stored.push(version),
                Err(error) => break error,
            }
            assert!(stored.len() < 100, "the disk must be full some time");
        };
        assert!(stored.len() > 5, "{refused}");
        let StoreError::Unavailable(why) = &refused else { unreachable!("{refused:?}") };
        assert!(why.contains("dtabs.redb") && why.contains("its disk is full: free some space"), "{why}");
        assert_eq!(store.report()["state"], "failed");
        let known = store.read("small").await.expect("read").expect("what was known");
        assert_eq!((&known.dtab, &known.version), (&small, &version));

        fs::remove_file(&ballast).expect("room");
        stored
            .push(store.create("after", dtab_of(100_000), Note::default()).await.expect("a write where there is room"));
        let report = store.report();
        assert!(report["state"] == "ok" && report["failures"].as_u64() > Some(0), "{report}");
        drop(store);
        let store = open(&folder.join("store"), &runtime).expect("the store opens again");
        let mut found = Vec::new();
        for n in 0..stored.len() - 1 {
            found.extend(store.read(&format!("ns-{n}")).await.expect("read").map(|known| known.version));
        }
        found.extend(store.read("after").await.expect("read").map(|known| known.version));
        assert_eq!(found, stored);
    });
}

#[test]
fn a_read_only_disk_is_refused_with_what_to_do() {
    if let Some(output) = on_a_small_disk("on_a_read_only_disk", "ro") {
        passed(&output);
    }
}

#[test]
fn on_a_read_only_disk() {
    let Some(folder) = children::folder() else { return };
    let runtime = Runtime::new().expect("a runtime");
    for folder in [folder.clone(), folder.join("below")] {
        let text = open(&folder, &runtime).map(drop).expect_err("a read-only disk").to_string();
        assert!(text.contains("its file system is read-only") && text.contains("set another `path`"), "{text}");
    }
}

#[test]
fn a_folder_of_another_process_is_refused_until_that_ends() {
    if children::folder().is_some() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let runtime = Runtime::new().expect("a runtime");
    let mut command = children::command("hold_the_folder", folder.path(), &[]);
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::piped()).spawn().expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.ends_with("held"))), "the child must hold the folder");
    let text = open(folder.path(), &runtime).map(drop).expect_err("a folder in use").to_string();
    assert!(text.contains(&format!("in use by process {};", child.id())) && text.contains("`path`"), "{text}");
    child.kill().expect("kill");
    child.wait().expect("the end of the child");
    assert!(open(folder.path(), &runtime).is_ok());
}

#[test]
fn hold_the_folder() {
    let Some(folder) = children::folder() else { return };
    let runtime = Runtime::new().expect("a runtime");
    let _store = open(&folder, &runtime).expect("the store opens");
    println!("held");
    // Until it is killed, or whoever began it has gone.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn a_write_is_synced_before_it_is_acknowledged() {
    let folder = TempDir::new().expect("a folder");
    let trace = folder.path().join("trace");
    let trace_path = trace.to_str().expect("a path in UTF-8");
    let through = ["strace", "-f", "-o", trace_path, "-e", "trace=fdatasync,fsync,write"];
    let allowed = Command::new(through[0]).args(&through[1..]).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("not run: there is no strace here, or it is not allowed");
        return;
    }
    passed(&children::command("acknowledge_ten", &folder.path().join("store"), &through).output().expect("strace"));
    let trace = fs::read_to_string(&trace).expect("the trace");
    let (mut acknowledged, mut synced) = (0, false);
    for line in trace.lines() {
        let sync = line.contains("fdatasync") || line.contains("fsync");
        if sync && line.ends_with("= 0") {
            synced = true;
        } else if line.contains("acknowledged") {
            assert!(synced, "not synced before write {acknowledged} was acknowledged:\n{trace}");
            (acknowledged, synced) = (acknowledged + 1, false);
        }
    }
    assert_eq!(acknowledged, 10, "{trace}");
}

#[test]
fn acknowledge_ten() {
    let Some(folder) = children::folder() else { return };
    let runtime = Runtime::new().expect("a runtime");
    let store = open(&folder, &runtime).expect("the store opens");
    for n in 0..10 {
        let dtab = dtab_of(10 + n);
        runtime.block_on(store.put("ns", dtab, Note::default())).expect("put");
        let mut out = std::io::stdout().lock();
        out.write_all(b"acknowledged\n").and_then(|()| out.flush()).expect("standard output");
    }
}
