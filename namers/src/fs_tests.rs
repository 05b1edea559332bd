//! Tests of the file-system namer on real folders.

use super::*;
use crate::dns::DnsOptions;
use crate::snapshot::{Snapshot, SnapshotOptions};
use crate::update::test_support::{eventually, until};
use crate::watch::Source;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

struct Disco {
    /// Holds the root, so that the root itself can be removed.
    outer: TempDir,
    namer: FsNamer,
}

type Tree = State<NameTree<Name>>;

impl Disco {
    fn new(files: &[(&str, &str)]) -> Disco {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("disco");
        fs::create_dir(&root).unwrap();
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        // No server listens there: every name fails.
        let options = DnsOptions { timeout: Some(Duration::from_millis(50)), attempts: Some(1), ..Default::default() };
        let dns = DnsResolver::with_servers(&["127.0.0.1:9".parse().unwrap()], options, Handle::current());
        let options = WatchOptions { linger: Duration::from_millis(20), ..WatchOptions::default() };
        let namer = FsNamer::with_options(path("/#/io.l5d.fs"), root, dns, options, Handle::current()).unwrap();
        Disco { outer, namer }
    }

    fn root(&self) -> PathBuf {
        self.outer.path().join("disco")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.root().join(name), text).unwrap();
    }

    /// Writes beside and renames over.
    fn replace(&self, name: &str, text: &str) {
        let beside = self.root().join(".new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.root().join(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.root().join(name)).unwrap();
    }

    fn lookup(&self, rest: &str) -> Activity<NameTree<Name>> {
        self.namer.lookup(&path(rest))
    }

    fn resolve(&self, name: &str) -> Activity<Addr> {
        self.namer.resolve(&path(&format!("/#/io.l5d.fs{name}")))
    }

    fn problem(&self, key: &str) -> Option<String> {
        self.namer.report().into_iter().find(|report| report.key == key).and_then(|report| report.last_error)
    }
}

fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}

fn leaf(id: &str, residual: &str) -> Tree {
    let id = path(&format!("/#/io.l5d.fs{id}"));
    State::Ok(NameTree::Leaf(Name::Bound(BoundName { id, residual: path(residual) })))
}

fn neg() -> Tree {
    State::Ok(NameTree::Neg)
}

fn at(addresses: &[&str]) -> State<Addr> {
    State::Ok(Addr::bound(addresses.iter().map(|a| a.parse().unwrap())))
}

#[tokio::test]
async fn the_first_value_of_names_and_addresses() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n10.0.0.2 80\n"), ("deep/er/api", "10.0.1.1 81"), ("empty", "")]);
    until(&mut disco.lookup("/web/a/b"), |s| *s == leaf("/web", "/a/b")).await;
    until(&mut disco.lookup("/deep/er/api/x"), |s| *s == leaf("/deep/er/api", "/x")).await;
    for missing in ["/nope", "/deep", "/deep/er", "/deep/er/nope", "/WEB", "/"] {
        until(&mut disco.lookup(missing), |s| *s == neg()).await;
    }
    until(&mut disco.resolve("/web"), |s| *s == at(&["10.0.0.1:80", "10.0.0.2:80"])).await;
    until(&mut disco.resolve("/deep/er/api"), |s| *s == at(&["10.0.1.1:81"])).await;
    until(&mut disco.resolve("/empty"), |s| *s == at(&[])).await;
    for missing in ["/nope", "/web/more", "/deep"] {
        until(&mut disco.resolve(missing), |s| *s == State::Ok(Addr::Neg)).await;
    }
    assert_eq!(disco.namer.resolve(&path("/#/other/web")).get(), State::Ok(Addr::Neg));
    let names: Vec<String> = disco.namer.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["/#/io.l5d.fs/deep/er/api", "/#/io.l5d.fs/empty", "/#/io.l5d.fs/web"]);
}

#[tokio::test]
async fn edits_in_place_and_renames_change_the_addresses_and_not_the_tree() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n")]);
    let (mut tree, mut addr) = (disco.lookup("/web"), disco.resolve("/web"));
    until(&mut tree, |s| *s == leaf("/web", "/")).await;
    until(&mut addr, |s| *s == at(&["10.0.0.1:80"])).await;
    seen_at_once(&disco, &mut addr).await;
    disco.write("web", "10.0.0.2 80\n");
    until(&mut addr, |s| *s == at(&["10.0.0.2:80"])).await;
    disco.replace("web", "10.0.0.3 80\n");
    until(&mut addr, |s| *s == at(&["10.0.0.3:80"])).await;
    disco.write("web", "10.0.0.3 80 * 3\n10.0.0.4 80 * 0.5\n10.0.0.5 80\n");
    let weighted = until(&mut addr, |s| matches!(s, State::Ok(Addr::Bound(set)) if set.addresses.len() == 3)).await;
    let State::Ok(Addr::Bound(set)) = weighted else { panic!() };
    assert_eq!(set.addresses.iter().map(|a| a.weight).collect::<Vec<_>>(), [3.0, 0.5, 1.0]);
    let unchanged = tokio::time::timeout(Duration::from_millis(50), tree.changed()).await;
    assert!(unchanged.is_err());
}

/// The watch tells of edits of `web`: they are seen before files are looked at for their own sake, which is each second. A
/// busy machine may be slow now and then, but not each time.
async fn seen_at_once(disco: &Disco, addr: &mut Activity<Addr>) {
    let mut times = Vec::new();
    for round in 0..12 {
        let started = std::time::Instant::now();
        for port in [81 + 2 * round, 82 + 2 * round] {
            disco.replace("web", &format!("10.0.0.9 {port}\n"));
            until(addr, |s| *s == at(&[&format!("10.0.0.9:{port}")])).await;
        }
        times.push(started.elapsed());
        if times[round] < Duration::from_millis(900) {
            return;
        }
    }
    panic!("two edits take as long as looks take that nobody asked for: {times:?}");
}

#[tokio::test]
async fn a_file_that_is_cut_and_written_again_is_never_seen_empty() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n")]);
    let mut addr = disco.resolve("/web");
    until(&mut addr, |s| *s == at(&["10.0.0.1:80"])).await;
    for round in 2..12 {
        let root = disco.root();
        let writer = tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut file = fs::File::create(root.join("web")).unwrap();
            let begun = std::time::Instant::now();
            std::thread::sleep(Duration::from_millis(40));
            file.write_all(format!("10.0.0.{round} 80\n").as_bytes()).unwrap();
            begun.elapsed()
        });
        addr.changed().await;
        let seen = addr.get();
        // On a busy machine the file may be empty for longer than that is doubted: then it was, and the next round counts.
        if writer.await.unwrap() < Duration::from_millis(50) {
            assert_eq!(seen, at(&[&format!("10.0.0.{round}:80")]));
            break;
        }
        until(&mut addr, |s| *s == at(&[&format!("10.0.0.{round}:80")])).await;
    }
    disco.write("web", "# nobody\n");
    until(&mut addr, |s| *s == at(&[])).await;
}

#[tokio::test]
async fn links_are_swapped_as_a_config_map_does() {
    let disco = Disco::new(&[("..v1/web", "10.0.0.1 80\n"), ("..v1/old", "10.0.0.9 80\n")]);
    let root = disco.root();
    symlink("..v1", root.join("..data")).unwrap();
    symlink("..data/web", root.join("web")).unwrap();
    symlink("..data/old", root.join("old")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let (mut web, mut old) = (disco.resolve("/web"), disco.lookup("/old"));
    until(&mut web, |s| *s == at(&["10.0.0.1:80"])).await;
    until(&mut old, |s| *s == leaf("/old", "/")).await;
    until(&mut disco.lookup("/dangling"), |s| *s == neg()).await;

    fs::create_dir(root.join("..v2")).unwrap();
    fs::write(root.join("..v2/web"), "10.0.0.2 80\n").unwrap();
    symlink("..v2", root.join("..data_tmp")).unwrap();
    fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    fs::remove_dir_all(root.join("..v1")).unwrap();
    until(&mut web, |s| *s == at(&["10.0.0.2:80"])).await;
    until(&mut old, |s| *s == neg()).await;
    assert_eq!(disco.namer.names().len(), 1);
}

#[tokio::test]
async fn a_file_is_removed_and_made_anew() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n")]);
    let (mut tree, mut addr) = (disco.lookup("/web"), disco.resolve("/web"));
    until(&mut tree, |s| *s == leaf("/web", "/")).await;
    until(&mut addr, |s| *s == at(&["10.0.0.1:80"])).await;
    disco.remove("web");
    until(&mut tree, |s| *s == neg()).await;
    assert_eq!(addr.get(), at(&["10.0.0.1:80"]), "the tree changes first");
    until(&mut addr, |s| *s == State::Ok(Addr::Neg)).await;
    disco.write("web", "10.0.0.2 80\n");
    until(&mut tree, |s| *s == leaf("/web", "/")).await;
    until(&mut addr, |s| *s == at(&["10.0.0.2:80"])).await;
}

#[tokio::test]
async fn a_folder_is_removed_and_made_anew() {
    let disco = Disco::new(&[("prod/web", "10.0.0.1 80\n")]);
    let (mut tree, mut addr) = (disco.lookup("/prod/web"), disco.resolve("/prod/web"));
    until(&mut tree, |s| *s == leaf("/prod/web", "/")).await;
    until(&mut addr, |s| *s == at(&["10.0.0.1:80"])).await;
    fs::remove_dir_all(disco.root().join("prod")).unwrap();
    until(&mut tree, |s| *s == neg()).await;
    until(&mut addr, |s| *s == State::Ok(Addr::Neg)).await;
    fs::create_dir(disco.root().join("prod")).unwrap();
    disco.write("prod/web", "10.0.0.2 80\n");
    until(&mut tree, |s| *s == leaf("/prod/web", "/")).await;
    until(&mut addr, |s| *s == at(&["10.0.0.2:80"])).await;
}

#[tokio::test]
async fn a_root_that_is_lost_keeps_everything_until_it_is_back() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n")]);
    let (mut tree, mut addr) = (disco.lookup("/web"), disco.resolve("/web"));
    until(&mut tree, |s| *s == leaf("/web", "/")).await;
    until(&mut addr, |s| *s == at(&["10.0.0.1:80"])).await;
    fs::remove_dir_all(disco.root()).unwrap();
    eventually("the loss is reported", || disco.problem("/").is_some() && disco.problem("/web").is_some()).await;
    assert_eq!((tree.get(), addr.get()), (leaf("/web", "/"), at(&["10.0.0.1:80"])));
    fs::create_dir(disco.root()).unwrap();
    disco.write("web", "10.0.0.2 80\n");
    until(&mut addr, |s| *s == at(&["10.0.0.2:80"])).await;
    seen_at_once(&disco, &mut addr).await;
    eventually("the recovery is reported", || disco.problem("/").is_none()).await;
}

#[tokio::test]
async fn a_root_that_is_lost_before_anything_was_read_is_failed() {
    let disco = Disco::new(&[]);
    fs::remove_dir_all(disco.root()).unwrap();
    until(&mut disco.lookup("/web"), |s| matches!(s, State::Failed(text) if text.starts_with("cannot list"))).await;
    until(&mut disco.resolve("/web"), |s| matches!(s, State::Ok(Addr::Failed(_)))).await;
    let refused = FsNamer::new(path("/#/fs"), disco.root(), disco.namer.tables.dns.clone(), Handle::current());
    assert!(matches!(refused, Err(FsError::NotAFolder(_))));
}

#[tokio::test]
async fn malformed_lines_are_reported_and_the_others_used() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\nnonsense\n"), ("bad", "nonsense\n")]);
    let (mut web, mut bad) = (disco.resolve("/web"), disco.resolve("/bad"));
    until(&mut web, |s| *s == at(&["10.0.0.1:80"])).await;
    assert_eq!(disco.problem("/web").as_deref(), Some("malformed address: nonsense (line 2)"));
    until(&mut bad, |s| *s == State::Ok(Addr::failed("malformed address: nonsense (line 1)"))).await;
    disco.write("web", "worse nonsense\n");
    eventually("it is reported", || disco.problem("/web").is_some_and(|text| text.contains("worse"))).await;
    assert_eq!(web.get(), at(&["10.0.0.1:80"]));
    disco.write("web", "10.0.0.2 80\n");
    disco.write("bad", "10.0.0.3 80\n");
    until(&mut web, |s| *s == at(&["10.0.0.2:80"])).await;
    until(&mut bad, |s| *s == at(&["10.0.0.3:80"])).await;
    assert_eq!(disco.problem("/web"), None);
}

#[tokio::test]
async fn files_over_500_kb_fail() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n"), ("huge", &"# padding\n".repeat(60_000))]);
    until(&mut disco.resolve("/huge"), |s| matches!(s, State::Ok(Addr::Failed(text)) if text.contains("500 KB"))).await;
    let mut web = disco.resolve("/web");
    until(&mut web, |s| *s == at(&["10.0.0.1:80"])).await;
    disco.write("web", &"10.0.0.2 80\n".repeat(60_000));
    eventually("it is reported", || disco.problem("/web").is_some()).await;
    assert_eq!(web.get(), at(&["10.0.0.1:80"]));
}

#[tokio::test]
async fn request_data_is_compared_and_never_joined() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n"), (".hidden", "10.0.0.1 80\n"), ("sub/web", "10.0.0.1 80\n")]);
    fs::write(disco.outer.path().join("secret"), "10.9.9.9 80\n").unwrap();
    let hostile: [&[&[u8]]; 8] = [
        &[b"..", b"secret"],
        &[b".", b"web"],
        &[b"../secret"],
        &[b"sub/web"],
        &[b"sub", b"..", b"web"],
        &[b"web\0"],
        &[b".hidden"],
        &[b"\xff\xfe"],
    ];
    for labels in hostile {
        let rest = Path::from_labels(labels).unwrap();
        until(&mut disco.namer.lookup(&rest), |s| *s == neg()).await;
        let mut addr = disco.namer.resolve(&path("/#/io.l5d.fs").concat(&rest));
        until(&mut addr, |s| *s == State::Ok(Addr::Neg)).await;
    }
    assert_eq!(disco.namer.names().len(), 2);
}

#[tokio::test]
async fn links_in_circles_and_pipes_are_no_names() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n")]);
    symlink(".", disco.root().join("loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(disco.root().join("socket")).unwrap();
    until(&mut disco.lookup("/loop/loop/web"), |s| *s == leaf("/loop/loop/web", "/")).await;
    until(&mut disco.lookup(&"/loop".repeat(1000)), |s| *s == neg()).await;
    until(&mut disco.lookup("/socket"), |s| *s == neg()).await;
    assert_eq!(disco.namer.names().len(), MAX_DEPTH);
    disco.remove("web");
    symlink(".", disco.root().join("loop2")).unwrap();
    assert!(disco.namer.names().is_empty());
}

#[tokio::test]
async fn a_change_without_an_event_is_found_by_polling() {
    let disco = Disco::new(&[]);
    let elsewhere = disco.outer.path().join("elsewhere");
    fs::write(&elsewhere, "10.0.0.1 80\n").unwrap();
    symlink(&elsewhere, disco.root().join("web")).unwrap();
    let mut addr = disco.resolve("/web");
    until(&mut addr, |s| *s == at(&["10.0.0.1:80"])).await;
    fs::write(&elsewhere, "10.0.0.2 80\n").unwrap();
    until(&mut addr, |s| *s == at(&["10.0.0.2:80"])).await;
}

#[tokio::test]
async fn host_names_that_cannot_be_resolved_do_not_hide_the_others() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\nweb.test 80\nlocalhost 81\n"), ("names", "web.test 80\n")]);
    until(&mut disco.resolve("/web"), |s| *s == at(&["10.0.0.1:80", "127.0.0.1:81"])).await;
    let mut names = disco.resolve("/names");
    until(&mut names, |s| matches!(s, State::Ok(Addr::Failed(text)) if text.contains("web.test"))).await;
}

#[tokio::test]
async fn dropped_readers_end_every_watch() {
    let disco = Disco::new(&[("a/web", "10.0.0.1 80\n")]);
    let (mut tree, mut addr) = (disco.lookup("/a/web"), disco.resolve("/a/web"));
    until(&mut tree, |s| *s == leaf("/a/web", "/")).await;
    until(&mut addr, |s| *s == at(&["10.0.0.1:80"])).await;
    let keys: Vec<String> = disco.namer.report().into_iter().map(|report| report.key).collect();
    assert_eq!(keys, ["/", "/a/", "/a/web"]);
    drop((tree, addr));
    eventually("nothing is watched", || disco.namer.report().is_empty()).await;
}

/// Requirement P1.3: an edit that neither wakes the watch nor shows in length and time.
#[tokio::test]
async fn an_edit_that_hides_is_found_by_a_list_and_counted() {
    let outer = tempfile::tempdir().unwrap();
    let (root, elsewhere) = (outer.path().join("disco"), outer.path().join("elsewhere"));
    fs::create_dir(&root).unwrap();
    fs::write(&elsewhere, "10.0.0.1 80\n").unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(60);
    let keep_time = || fs::File::options().write(true).open(&elsewhere).unwrap().set_modified(old).unwrap();
    keep_time();
    symlink(&elsewhere, root.join("web")).unwrap();
    let dns = DnsResolver::with_servers(&[], DnsOptions::default(), Handle::current());
    let options = WatchOptions { relist: Duration::from_millis(500), ..WatchOptions::default() };
    let namer = FsNamer::with_options(path("/#/fs"), root, dns, options, Handle::current()).unwrap();
    let mut addr = namer.resolve(&path("/#/fs/web"));
    until(&mut addr, |s| *s == at(&["10.0.0.1:80"])).await;
    fs::write(&elsewhere, "10.0.0.2 80\n").unwrap();
    keep_time();
    until(&mut addr, |s| *s == at(&["10.0.0.2:80"])).await;
    assert!(namer.report().iter().any(|watch| watch.restarts == 1), "{:?}", namer.report());
}

/// A namer over this root and this folder of state.
fn on_disk(root: &std::path::Path, state: &std::path::Path) -> Result<(FsNamer, Arc<Snapshot>), FsError> {
    let snapshot = Snapshot::open(state.to_owned(), SnapshotOptions::default(), &Handle::current());
    let discovery = Discovery { snapshot: Some(snapshot.clone()), ..Discovery::new(Handle::current()) };
    let dns = DnsResolver::within(&discovery, &["127.0.0.1:9".parse().unwrap()], DnsOptions::default());
    FsNamer::within(&discovery, path("/#/fs"), root.to_owned(), dns).map(|namer| (namer, snapshot))
}

/// Requirement P2.2.
#[tokio::test]
async fn a_restart_without_the_root_serves_what_is_on_disk() {
    let outer = tempfile::tempdir().unwrap();
    let (root, state) = (outer.path().join("disco"), outer.path().join("state"));
    fs::create_dir_all(root.join("prod")).unwrap();
    for name in ["web", "prod/api", "gone"] {
        fs::write(root.join(name), "10.0.0.1 80 * 0.5\n").unwrap();
    }
    {
        let (namer, snapshot) = on_disk(&root, &state).unwrap();
        for name in ["/web", "/prod/api", "/gone"] {
            let mut tree = namer.lookup(&path(name));
            until(&mut tree, |s| matches!(s, State::Ok(NameTree::Leaf(_)))).await;
            let mut addr = namer.resolve(&path("/#/fs").concat(&path(name)));
            until(&mut addr, |s| matches!(s, State::Ok(Addr::Bound(_)))).await;
        }
        snapshot.flush();
    }
    fs::remove_file(root.join("gone")).unwrap();
    {
        let (namer, _snapshot) = on_disk(&root, &state).unwrap();
        until(&mut namer.lookup(&path("/gone")), |s| *s == neg()).await;
    }
    let away = outer.path().join("away");
    fs::rename(&root, &away).unwrap();
    let (namer, _snapshot) = on_disk(&root, &state).unwrap();
    for name in ["/web", "/prod/api"] {
        until(&mut namer.lookup(&path(name)), |s| matches!(s, State::Ok(NameTree::Leaf(_)))).await;
    }
    let mut web = namer.resolve(&path("/#/fs/web"));
    until(&mut web, |s| matches!(s, State::Ok(Addr::Bound(set)) if set.addresses[0].weight == 0.5)).await;
    assert!(namer.report().iter().all(|watch| watch.stale.is_some()), "{:?}", namer.report());
    fs::write(away.join("web"), "10.0.0.2 80\n").unwrap();
    fs::rename(&away, &root).unwrap();
    until(&mut web, |s| *s == at(&["10.0.0.2:80"])).await;
    until(&mut namer.lookup(&path("/gone")), |s| *s == neg()).await;
}

#[tokio::test]
async fn what_is_on_disk_cannot_name_a_file_elsewhere() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("disco");
    let source = FolderSource { root, events: FolderEvents::new(), looks: Looks::new() };
    let restored = |saved: serde_json::Value| source.restore(&saved).is_some();
    assert!(restored(serde_json::json!({ "web": false, "prod": true })));
    for name in ["..", ".", "../x", "a/b", "", ".hidden", "a\0"] {
        assert!(!restored(serde_json::json!({ name: false })), "{name}");
    }
    assert!(!restored(serde_json::json!(["web"])) && !restored(serde_json::json!({ "web": 1 })));
}

/// Requirement P2.3: the root is another folder, and empty: not all names are gone at once.
#[tokio::test]
async fn a_root_that_is_replaced_by_an_empty_one_is_not_believed_at_once() {
    let disco = Disco::new(&[("web", "10.0.0.1 80\n")]);
    let mut tree = disco.lookup("/web");
    until(&mut tree, |s| *s == leaf("/web", "/")).await;
    let (root, empty) = (disco.root(), disco.outer.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    fs::rename(&root, disco.outer.path().join("away")).unwrap();
    fs::rename(&empty, &root).unwrap();
    eventually("it is held back", || disco.namer.report().iter().any(|watch| watch.held)).await;
    assert_eq!(tree.get(), leaf("/web", "/"));
    disco.write("web", "10.0.0.2 80\n");
    until(&mut disco.resolve("/web"), |s| *s == at(&["10.0.0.2:80"])).await;
    assert_eq!(tree.get(), leaf("/web", "/"));
}
