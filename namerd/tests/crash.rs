//! A writer to the local store is killed 200 times at random moments; what it has said to be stored must be there.
//!
//! The writer runs four tasks, each with a namespace of its own, and prints a line for each acknowledged write. Whoever wants
//! to see the same moments again sets `SWITCHYARD_CRASH_SEED` to the seed that a failure shows.

mod children;

use dtab::Dtab;
use namerd::storage::local::LocalStore;
use namerd::storage::{Note, Retention, Store, Version, VersionedDtab};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KILLS: usize = 200;
const WRITERS: usize = 4;
/// The longest that a writer lives, where it has something to say within that time.
const LIFE: Duration = Duration::from_millis(160);
/// All is kept: what is missing has been lost.
const ALL: Retention = Retention { entries: u64::MAX, bytes: u64::MAX, gone: u64::MAX };

/// What a writer has said to have done: in this namespace, this version, this text or a delete.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Acknowledged {
    namespace: String,
    /// None of a delete, whose version nobody is told.
    version: Option<Version>,
    text: Option<String>,
}

fn open(folder: &Path, runtime: &tokio::runtime::Runtime) -> LocalStore {
    LocalStore::open(folder.to_owned(), ALL, runtime.handle().clone()).expect("the store opens")
}

/// The part of the child.
#[test]
fn write_until_killed() {
    let Some(folder) = children::folder() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = Arc::new(open(&folder, &runtime));
    let tasks: Vec<_> = (0..WRITERS).map(|n| runtime.spawn(write(store.clone(), format!("ns-{n}")))).collect();
    for task in tasks {
        runtime.block_on(task).expect("a writer");
    }
}

async fn write(store: Arc<LocalStore>, namespace: String) {
    let mut known = store.read(&namespace).await.expect("read");
    for n in 0_u64.. {
        let text =
            format!("/{namespace}=>/process-{}/{n}/{}", std::process::id(), "x".repeat((n % 50 * 20) as usize + 1));
        let dtab = Dtab::parse(&text).expect("a dtab");
        let note = Note::new(Some("a writer"), None);
        let version = match known.take() {
            None => store.create(&namespace, dtab, note).await.expect("create"),
            Some(known) if n % 17 == 16 => {
                store.delete(&namespace, Some(known.version), note).await.expect("delete");
                say(&format!("acknowledged {namespace} deleted"));
                continue;
            }
            Some(known) if n % 5 == 0 => store.update(&namespace, dtab, known.version, note).await.expect("update"),
            Some(_) => store.put(&namespace, dtab, note).await.expect("put"),
        };
        known = store.read(&namespace).await.expect("read");
        assert_eq!(known.as_ref().map(|known| &known.version), Some(&version));
        let number = u64::from_be_bytes(version.0.as_ref().try_into().expect("8 bytes"));
        say(&format!("acknowledged {namespace} {number} {text}"));
    }
}

/// One write to standard output, so that a kill cannot leave half a line.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).expect("standard output");
}

fn heard(line: &str) -> Option<Acknowledged> {
    // The test harness prints to the same line before the first one of ours.
    let (_, line) = line.split_once("acknowledged ")?;
    let (namespace, rest) = line.split_once(' ')?;
    let namespace = namespace.to_owned();
    if rest == "deleted" {
        return Some(Acknowledged { namespace, version: None, text: None });
    }
    let (number, text) = rest.split_once(' ')?;
    let version = Version(number.parse::<u64>().ok()?.to_be_bytes().to_vec().into());
    Some(Acknowledged { namespace, version: Some(version), text: Some(text.to_owned()) })
}

/// Runs a writer for some time and gives what it has acknowledged until it was killed.
fn run_and_kill(folder: &Path, life: Duration, random: &mut fastrand::Rng) -> Vec<Acknowledged> {
    let mut command = children::command("write_until_killed", folder, &[]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a writer");
    let begun = Instant::now();
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let listener = std::thread::spawn(move || {
        let lines = output.lines().map_while(Result::ok);
        lines.filter_map(|line| heard(&line)).collect::<Vec<_>>()
    });
    // The moments are the test: early ones meet the opening of the file, later ones commits.
    std::thread::sleep(life.mul_f64(random.f64()).saturating_sub(begun.elapsed()));
    kill(&mut child);
    listener.join().expect("the listener")
}

/// Kills with SIGKILL. A writer must not have ended by itself.
fn kill(child: &mut Child) {
    use std::os::unix::process::ExitStatusExt;
    child.kill().expect("kill");
    let status = child.wait().expect("the end of the writer");
    let mut errors = String::new();
    let _ = std::io::Read::read_to_string(&mut child.stderr.take().expect("its errors"), &mut errors);
    assert_eq!(status.signal(), Some(9), "the writer ended by itself: {errors}");
}

/// What a namespace must have, oldest first: what was acknowledged, over all writers so far.
#[derive(Default)]
struct Books {
    acknowledged: HashMap<String, Vec<Acknowledged>>,
    writers: usize,
}

impl Books {
    fn add(&mut self, acknowledged: Vec<Acknowledged>) {
        self.writers += 1;
        for write in acknowledged {
            self.acknowledged.entry(write.namespace.clone()).or_default().push(write);
        }
    }

    fn len(&self) -> usize {
        self.acknowledged.values().map(Vec::len).sum()
    }

    /// The last `recent` acknowledged writes of each namespace are in the store in their order, and the present state is
    /// the newest entry.
    async fn check(&self, store: &LocalStore, recent: usize) {
        let mut versions = HashSet::new();
        for n in 0..WRITERS {
            let namespace = format!("ns-{n}");
            let expected = self.acknowledged.get(&namespace).map_or(&[][..], Vec::as_slice);
            let expected = &expected[expected.len().saturating_sub(recent)..];
            // Between two acknowledged writes there is at most one that was stored but not acknowledged, per kill.
            let limit = recent.saturating_add(self.writers);
            let mut history = store.history(&namespace, limit).await.expect("history");
            history.reverse();
            assert!(history.is_sorted_by(|a, b| a.version < b.version), "{namespace}: not in order");
            assert!(history.iter().all(|entry| versions.insert(entry.version.clone())), "{namespace}: a version twice");
            let extra = history.len() - self.find(expected, &history);
            if recent == usize::MAX {
                assert!(extra <= self.writers, "{namespace}: {extra} writes that nobody asked for");
            }
            let present = store.read(&namespace).await.expect("read");
            let newest = history.last().and_then(|entry| Some((entry.version.clone(), entry.dtab.clone()?)));
            assert_eq!(present.map(|present| (present.version, present.dtab)), newest, "{namespace}");
        }
    }

    /// Finds all `expected` in `history` in this order, and gives their number.
    fn find(&self, expected: &[Acknowledged], history: &[namerd::storage::Entry]) -> usize {
        let mut entries = history.iter();
        for write in expected {
            let found = entries.any(|entry| {
                let text = entry.dtab.as_ref().map(Dtab::to_string);
                text == write.text && write.version.as_ref().is_none_or(|version| *version == entry.version)
            });
            assert!(found, "after {} kills: lost, or out of order: {write:?}", self.writers);
        }
        expected.len()
    }
}

/// The part of the child of the test below: opening is what is killed.
#[test]
fn open_until_killed() {
    let Some(folder) = children::folder() else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _store = open(&folder, &runtime);
    loop {
        std::thread::park();
    }
}

/// A store most of whose file is free, as a long history leaves it, and what it knows.
fn mostly_free(folder: &Path, runtime: &tokio::runtime::Runtime) -> Vec<(String, Option<VersionedDtab>)> {
    let small = |n: usize| (format!("ns-{n}"), Dtab::parse(&format!("/svc/{n} => /{n}")).expect("a dtab"));
    let large = |n: usize| Dtab::parse(&format!("/svc => /{n}/{}", "x".repeat(400_000))).expect("a dtab");
    let put = async |store: &LocalStore, name: &str, dtab| {
        store.put(name, dtab, Note::default()).await.expect("put");
    };
    let store = open(folder, runtime);
    for n in 0..60 {
        runtime.block_on(put(&store, "large", large(n)));
        let (name, dtab) = small(n);
        runtime.block_on(put(&store, &name, dtab));
    }
    drop(store);
    let few = Retention { entries: 1, ..ALL };
    let store = LocalStore::open(folder.to_owned(), few, runtime.handle().clone()).expect("the store opens");
    runtime.block_on(put(&store, "large", large(60)));
    let names = (0..60).map(|n| small(n).0).chain(["large".to_owned()]);
    names.map(|name| (name.clone(), runtime.block_on(store.read(&name)).expect("read"))).collect()
}

/// At the start a file most of which is free is made smaller; whoever is killed meanwhile loses nothing.
#[test]
fn a_file_that_is_made_smaller_survives_kills() {
    if children::folder().is_some() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let before = TempDir::new().expect("a folder");
    let known = mostly_free(before.path(), &runtime);
    let size = |folder: &Path| std::fs::metadata(folder.join("dtabs.redb")).expect("the file").len();
    let full = size(before.path());
    assert!(full > 20_000_000, "{full}");
    let copy = || {
        let folder = TempDir::new().expect("a folder");
        std::fs::copy(before.path().join("dtabs.redb"), folder.path().join("dtabs.redb")).expect("a copy");
        folder
    };
    let check = |folder: &Path, what: &str| {
        let store = open(folder, &runtime);
        for (name, dtab) in &known {
            assert_eq!(&runtime.block_on(store.read(name)).expect("read"), dtab, "{name} {what}");
            let newest = runtime.block_on(store.history(name, 1)).expect("history").pop().expect("an entry");
            assert_eq!(Some(newest.version), dtab.as_ref().map(|dtab| dtab.version.clone()), "{name} {what}");
        }
        drop(store);
        let now = size(folder);
        assert!(now < full / 4, "{what}: {now} bytes of {full}");
    };
    let whole = copy();
    let begun = Instant::now();
    check(whole.path(), "at once");
    let lasts = begun.elapsed();
    println!("{full} bytes become {}, opened and checked within {lasts:?}", size(whole.path()));
    let mut partly = 0;
    for round in 0..20 {
        let folder = copy();
        let mut command = children::command("open_until_killed", folder.path(), &[]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a child");
        // The moments are the test.
        std::thread::sleep(lasts.mul_f64(f64::from(round) / 20.0));
        kill(&mut child);
        partly += usize::from(size(folder.path()) > full / 4);
        check(folder.path(), &format!("after a kill in round {round}"));
    }
    println!("20 kills, {partly} of them before the file was smaller");
}

#[test]
fn what_is_acknowledged_survives_200_kills() {
    if children::folder().is_some() {
        return;
    }
    let seed = std::env::var("SWITCHYARD_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("SWITCHYARD_CRASH_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // A store grows with its history, and so does the time to check it: ten stores with twenty kills each.
    let (mut total, mut life) = (0, LIFE);
    for _ in 0..10 {
        let folder = TempDir::new().expect("a folder");
        let mut books = Books::default();
        for _ in 0..KILLS / 10 {
            let acknowledged = run_and_kill(folder.path(), life, &mut random);
            if acknowledged.is_empty() {
                // On a busy machine even the start of a process takes its time.
                life = life.mul_f64(1.1).min(60 * LIFE);
            } else {
                life = life.mul_f64(0.97).max(LIFE);
            }
            let recent = acknowledged.len() + 20;
            books.add(acknowledged);
            runtime.block_on(books.check(&open(folder.path(), &runtime), recent));
        }
        runtime.block_on(books.check(&open(folder.path(), &runtime), usize::MAX));
        total += books.len();
    }
    println!("{KILLS} kills, {total} acknowledged writes, none lost");
    assert!(total > KILLS, "the writers must have written: {total}");
}
