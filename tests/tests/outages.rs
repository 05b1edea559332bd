//! As an operator, I lose files, folders, DNS and the router itself, in any order, and my traffic does not notice
//! (requirements P1 and P2, attacks M4, N4, N5, N6).

use e2e::{Backend, Client, Disco, NameServer, Reply, StopOnDrop, Switchyard, eventually, get, holds_for, try_get};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// Requirement P1.1 says two seconds: more is for a busy machine. Nothing is listed again by itself within this time.
const SOON: Duration = Duration::from_secs(20);
/// How long what is away must not be missed.
const AWHILE: Duration = Duration::from_secs(2);
const LATER: Duration = Duration::from_secs(60);

/// Names from the folder `disco` below `outer`, state below it, and these keys of `discovery`.
fn config(outer: &Path, discovery: &str) -> String {
    format!(
        "admin: {{ port: @ADMIN@ }}
stateDir: {0}/state
discovery: {{ {discovery} }}
namers:
- kind: io.l5d.fs
  rootDir: {0}/disco
routers:
- protocol: http
  label: http
  servers: [{{ port: @P0@ }}]
  dtab: /svc => /#/io.l5d.fs
",
        outer.display()
    )
}

/// Host names by DNS, each at the port of `backend`.
fn by_dns(server: &NameServer, backend: &Backend, outer: &Path, discovery: &str) -> String {
    format!(
        "admin: {{ port: @ADMIN@ }}
stateDir: {}/state
discovery:
  dnsServers: ['{}']
  {discovery}
routers:
- protocol: http
  label: http
  servers: [{{ port: @P0@ }}]
  dtab: /svc => /$/io.buoyant.rinet/{}
",
        outer.display(),
        server.addr(),
        backend.addr().port()
    )
}

const LOOPBACK_ALLOWED: &str = "denyAddresses: []";

fn outer() -> TempDir {
    let outer = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(outer.path().join("disco")).expect("a folder");
    outer
}

fn put(folder: &Path, name: &str, backend: &Backend) {
    std::fs::write(folder.join(name), Disco::lines(&[backend.addr()])).expect("a file");
}

fn follows(switchyard: &Switchyard, name: &str, body: &str, limit: Duration) {
    eventually(&format!("requests reach {body}"), limit, || {
        (get(switchyard.addr(0), name).text() == body).then_some(())
    });
}

/// All watches of one table.
fn watches(switchyard: &Switchyard, table: &str) -> Vec<Value> {
    let page = switchyard.page("/admin/watches.json").json();
    let tables = page["tables"].as_array().expect("a list of tables");
    let found = tables.iter().find(|found| found["table"] == table).expect("the table");
    found["watches"].as_array().expect("a list of watches").clone()
}

fn has_error(switchyard: &Switchyard, table: &str, part: &str) -> bool {
    let text = |watch: &Value| watch["last_error"].as_str().is_some_and(|text| text.contains(part));
    watches(switchyard, table).iter().any(text)
}

/// A series of the Prometheus page.
fn series(switchyard: &Switchyard, name: &str) -> Option<f64> {
    let page = switchyard.page("/admin/metrics/prometheus").text();
    let line =
        page.lines().find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
    line?.rsplit(' ').next()?.parse().ok()
}

/// Waits until the snapshot on disk has this file, or has it no more.
fn saved(outer: &Path, file: &str, wanted: bool) {
    let part = format!("\"key\":\"/{file}\"");
    eventually(&format!("{file} on disk: {wanted}"), LATER, || {
        let text = std::fs::read_to_string(outer.join("state/names.jsonl")).ok()?;
        (text.contains(&part) == wanted).then_some(())
    });
}

/// The file of the interpreter's dtab is broken when the router starts: with what an earlier one saw it serves, and says so.
#[test]
fn p2_2_a_dtab_file_that_is_broken_at_the_start_is_stood_in_for() {
    let (outer, state) = (outer(), TempDir::new().expect("a folder"));
    let (web, other) = (Backend::text("web"), Backend::text("other"));
    put(&outer.path().join("disco"), "web", &web);
    put(&outer.path().join("disco"), "other", &other);
    let rules = outer.path().join("rules.dtab");
    let write = |text: &str| std::fs::write(&rules, text).expect("a file");
    let own = format!("  interpreter: {{ kind: io.l5d.fs, dtabFile: {} }}\n", rules.display());
    let yaml = config(outer.path(), "").replace("  dtab: /svc => /#/io.l5d.fs\n", &own);
    write("/svc => /#/io.l5d.fs");
    let first = Switchyard::start(&yaml);
    follows(&first, "web", "web", LATER);
    let on_disk = || {
        eventually("the dtab is on disk", LATER, || {
            let text = std::fs::read_to_string(outer.path().join("state/names.jsonl")).ok()?;
            text.contains("\"/svc=>/#/io.l5d.fs\"").then_some(())
        });
    };
    on_disk();
    drop(first);
    for broken in [Some("/svc => "), None] {
        match broken {
            Some(text) => write(text),
            None => std::fs::remove_file(&rules).expect("it is there"),
        }
        let started = Switchyard::start(&yaml);
        assert_eq!(get(started.addr(0), "web").text(), "web", "{broken:?}");
        assert!(started.log().contains("in `stateDir`, serves until it is one"), "{}", started.log());
        let stale = || series(&started, "watches_stale{namer=\"io.l5d.fs\"}");
        eventually("it is counted", LATER, || (stale() == Some(1.0)).then_some(()));
        write("/svc => /#/io.l5d.fs/other; /svc/web => /#/io.l5d.fs/other");
        follows(&started, "web", "other", LATER);
        eventually("it is counted no more", LATER, || (stale() == Some(0.0)).then_some(()));
        write("/svc => /#/io.l5d.fs");
        follows(&started, "web", "web", LATER);
        on_disk();
    }
    write("/svc => ");
    let unknown = yaml.replace(&format!("{}/state", outer.path().display()), &state.path().display().to_string());
    let refused = std::panic::catch_unwind(|| drop(Switchyard::start(&unknown))).expect_err("it does not start");
    let text = refused.downcast_ref::<String>().expect("a text");
    assert!(text.contains("is not a dtab"), "{text}");
}

#[test]
fn p1_1_folders_and_links_that_are_swapped_are_followed() {
    let outer = outer();
    let (one, two, three) = (Backend::text("one"), Backend::text("two"), Backend::text("three"));
    let version = |name: &str, backend: &Backend| {
        let folder = outer.path().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        put(&folder, "web", backend);
    };
    let root = outer.path().join("disco");
    std::fs::remove_dir(&root).expect("the folder can be removed");
    version("v1", &one);
    version("v2", &two);
    version("v3", &three);
    symlink("v1", &root).expect("a link");
    let switchyard = Switchyard::start(&config(outer.path(), ""));
    follows(&switchyard, "web", "one", SOON);

    symlink("v2", outer.path().join("next")).expect("a link");
    std::fs::rename(outer.path().join("next"), &root).expect("the link can be swapped");
    follows(&switchyard, "web", "two", SOON);

    std::fs::remove_file(&root).expect("the link can be removed");
    std::fs::rename(outer.path().join("v3"), &root).expect("the folder can be renamed");
    follows(&switchyard, "web", "three", SOON);
    put(&root, "web", &one);
    follows(&switchyard, "web", "one", SOON);
}

#[test]
fn p1_3_an_edit_that_no_watch_can_see_is_drift_and_heals() {
    let outer = outer();
    let (one, two) = (Backend::text("one"), Backend::text("two"));
    let hidden = outer.path().join("hidden");
    let write = |backend: &Backend| {
        let text = format!("{:>60}", Disco::lines(&[backend.addr()]));
        std::fs::write(&hidden, text).expect("a file");
        let file = std::fs::File::options().write(true).open(&hidden).expect("a file");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("a time");
    };
    write(&one);
    symlink(&hidden, outer.path().join("disco/web")).expect("a link");
    let switchyard = Switchyard::start(&config(outer.path(), "relistMs: 1000"));
    follows(&switchyard, "web", "one", SOON);
    assert_eq!(series(&switchyard, "watch_drift_total"), None);
    write(&two);
    follows(&switchyard, "web", "two", LATER);
    assert_eq!(series(&switchyard, "watch_drift_total"), Some(1.0));
}

#[test]
fn p1_2_ages_and_errors_of_watches_are_metrics() {
    let outer = outer();
    let web = Backend::text("web");
    put(&outer.path().join("disco"), "web", &web);
    let switchyard = Switchyard::start(&config(outer.path(), ""));
    follows(&switchyard, "web", "web", SOON);
    eventually("the metrics are there", LATER, || {
        let watches = series(&switchyard, "watches{namer=\"/#/io.l5d.fs\"}")?;
        let age = series(&switchyard, "watch_age_seconds{namer=\"/#/io.l5d.fs\"}")?;
        (watches == 2.0 && age < 30.0).then_some(())
    });
    std::fs::rename(outer.path().join("disco"), outer.path().join("away")).expect("a rename");
    eventually("the failure is counted", LATER, || {
        let failing = series(&switchyard, "watches_failing{namer=\"/#/io.l5d.fs\"}")?;
        let age = series(&switchyard, "watch_last_success_age_seconds{namer=\"/#/io.l5d.fs\"}")?;
        (failing == 2.0 && age > 2.0).then_some(())
    });
}

#[test]
fn p2_1_traffic_goes_on_while_folder_and_dns_are_away() {
    let outer = outer();
    let web = Backend::text("web");
    let root = outer.path().join("disco");
    put(&root, "web", &web);
    let files = Switchyard::start(&config(outer.path(), ""));
    follows(&files, "web", "web", SOON);
    std::fs::rename(&root, outer.path().join("away")).expect("a rename");
    eventually("the loss is seen", LATER, || has_error(&files, "folders", "cannot list").then_some(()));
    holds_for("requests are answered", AWHILE, || get(files.addr(0), "web").text() == "web");

    let server = NameServer::start();
    server.set("web.test", &[Ipv4Addr::LOCALHOST]);
    let state = tempfile::tempdir().expect("a folder");
    let dns = Switchyard::start(&by_dns(&server, &web, state.path(), LOOPBACK_ALLOWED));
    follows(&dns, "web.test", "web", SOON);
    server.silent(true);
    eventually("the loss is seen", 2 * LATER, || has_error(&dns, "dns", "cannot resolve web.test").then_some(()));
    holds_for("requests are answered", AWHILE, || get(dns.addr(0), "web.test").text() == "web");
}

/// DNS leaves every question without an answer: no failure, just silence.
#[test]
fn p1_2_a_watch_that_falls_silent_is_torn_down_and_listed_again() {
    let server = NameServer::start();
    server.set("web.test", &[Ipv4Addr::LOCALHOST]);
    let one = Backend::text("one");
    let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
    let two = Backend::at((elsewhere, one.addr().port()).into(), |_| Reply::text("two"));
    let state = tempfile::tempdir().expect("a folder");
    let router = Switchyard::start(&by_dns(&server, &one, state.path(), "silentAfterMs: 1000\n  denyAddresses: []"));
    follows(&router, "web.test", "one", SOON);
    let total = |name: &str| series(&router, name).unwrap_or(0.0);
    assert_eq!((total("watch_silences_total"), total("watch_restarts_total")), (0.0, 0.0));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&over);
        let serving = scope.spawn(|| {
            let mut client = Client::connect(router.addr(0));
            let begun = std::time::Instant::now();
            while !over.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(300) {
                let response = client.get("web.test", "/");
                assert_eq!(response.status, 200, "{}", response.text());
            }
        });
        let _over = StopOnDrop(&over);
        server.silent(true);
        // DNS itself gives up a query after some ten seconds: the watch does not wait for that.
        eventually("the silence is noticed again and again", LATER, || {
            (total("watch_silences_total") >= 2.0 && total("watch_restarts_total") >= 2.0).then_some(())
        });
        assert!(has_error(&router, "dns", "nothing was heard for 1s"));
        server.set("web.test", &[elsewhere]);
        server.silent(false);
        follows(&router, "web.test", "two", LATER);
        drop(stop);
        serving.join().expect("no request fails");
    });
    assert!(two.count() > 0);
    eventually("the watch is well", LATER, || watches(&router, "dns")[0]["last_error"].is_null().then_some(()));
}

#[test]
fn p2_2_a_restart_while_everything_is_away_serves_what_it_served_before() {
    let outer = outer();
    let (web, other) = (Backend::text("web"), Backend::text("other"));
    let (root, away) = (outer.path().join("disco"), outer.path().join("away"));
    put(&root, "web", &web);
    let first = Switchyard::start(&config(outer.path(), ""));
    follows(&first, "web", "web", SOON);
    saved(outer.path(), "web", true);
    drop(first);
    std::fs::rename(&root, &away).expect("a rename");

    let second = Switchyard::start(&config(outer.path(), ""));
    assert_eq!(get(second.addr(0), "web").text(), "web", "the first request, from what is on disk");
    assert!(second.log().contains("serve until it is there"), "the start says so");
    let stale = watches(&second, "files")[0]["stale_seconds"].as_f64();
    assert!(stale.is_some(), "its age is shown");
    eventually("and a metric", LATER, || {
        (series(&second, "watches_stale{namer=\"/#/io.l5d.fs\"}")? == 2.0).then_some(())
    });
    assert_eq!(get(second.addr(0), "unknown").status, 502);
    put(&away, "web", &other);
    std::fs::rename(&away, &root).expect("a rename");
    follows(&second, "web", "other", SOON);
    assert!(watches(&second, "files")[0]["stale_seconds"].is_null());
}

#[test]
fn p2_2_a_restart_while_dns_is_dead_serves_what_it_served_before() {
    let server = NameServer::start();
    server.set("web.test", &[Ipv4Addr::LOCALHOST]);
    let (web, state) = (Backend::text("web"), tempfile::tempdir().expect("a folder"));
    let yaml = by_dns(&server, &web, state.path(), LOOPBACK_ALLOWED);
    let first = Switchyard::start(&yaml);
    follows(&first, "web.test", "web", SOON);
    // It ends as asked, and writes what is new before.
    first.signal_term();
    assert!(first.wait_exit(LATER).success());
    server.silent(true);
    let second = Switchyard::start(&yaml);
    let started = Instant::now();
    assert_eq!(get(second.addr(0), "web.test").text(), "web");
    assert!(started.elapsed() < Duration::from_secs(9), "after the moment that DNS is given: {:?}", started.elapsed());
    assert!(watches(&second, "dns")[0]["stale_seconds"].as_f64().is_some());
    server.silent(false);
    eventually("DNS is back", 2 * LATER, || watches(&second, "dns")[0]["stale_seconds"].is_null().then_some(()));
}

#[test]
fn p2_3_a_registry_that_is_empty_after_a_restart_is_not_believed_at_once() {
    let outer = outer();
    let web = Backend::text("web");
    let root = outer.path().join("disco");
    put(&root, "web", &web);
    let first = Switchyard::start(&config(outer.path(), ""));
    follows(&first, "web", "web", SOON);
    saved(outer.path(), "web", true);
    drop(first);
    std::fs::remove_file(root.join("web")).expect("the file can be removed");
    let second = Switchyard::start(&config(outer.path(), "emptyGraceMs: 3000"));
    assert_eq!(get(second.addr(0), "web").text(), "web", "held");
    assert!(has_error(&second, "folders", "held back for 3s"));
    eventually("then believed", LATER, || (get(second.addr(0), "web").status == 502).then_some(()));
    saved(outer.path(), "web", false);
    drop(second);
    let third = Switchyard::start(&config(outer.path(), ""));
    assert_eq!(get(third.addr(0), "web").status, 502, "gone for good");
}

/// Kills a router ten times while it writes; every time the next one has what was known.
fn kill_and_look(web: &Backend) {
    let outer = outer();
    let (root, away) = (outer.path().join("disco"), outer.path().join("away"));
    put(&root, "web", web);
    for round in 0..10 {
        let router = Switchyard::start(&config(outer.path(), ""));
        follows(&router, "web", "web", SOON);
        let started = Instant::now();
        // Writes come about a second after a change.
        let (moment, mut n) = (Duration::from_millis(900 + 37 * round), 0);
        while started.elapsed() < moment {
            n += 1;
            put(&root, &format!("other-{n}"), web);
            get(router.addr(0), &format!("other-{n}"));
        }
        // Dropping it is kill -9.
        drop(router);
        assert!(!outer.path().join("state/names.bad").exists(), "round {round}");
    }
    let last = Switchyard::start(&config(outer.path(), ""));
    follows(&last, "web", "web", SOON);
    saved(outer.path(), "web", true);
    drop(last);
    std::fs::rename(&root, &away).expect("a rename");
    let last = Switchyard::start(&config(outer.path(), ""));
    assert_eq!(get(last.addr(0), "web").text(), "web");
    assert!(!outer.path().join("state/names.bad").exists());
}

#[test]
fn m4_a_router_killed_while_it_writes_leaves_a_whole_snapshot() {
    let web = Backend::text("web");
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..3).map(|_| scope.spawn(|| kill_and_look(&web))).collect();
        running.into_iter().for_each(|running| running.join().expect("whole snapshots"));
    });
}

#[test]
fn m4_a_torn_or_foreign_snapshot_is_put_aside_and_the_router_starts() {
    let outer = outer();
    let web = Backend::text("web");
    put(&outer.path().join("disco"), "web", &web);
    let state = outer.path().join("state");
    std::fs::create_dir(&state).expect("a folder");
    for text in ["{\"switchyard_names\":99}\n", "{\"switch", "\0\0\0"] {
        std::fs::write(state.join("names.jsonl"), text).expect("a file");
        let router = Switchyard::start(&config(outer.path(), ""));
        follows(&router, "web", "web", SOON);
        assert_eq!(series(&router, "snapshot_load_failures_total"), Some(1.0));
        assert_eq!(std::fs::read(state.join("names.bad")).expect("it is put aside"), text.as_bytes());
    }
}

#[test]
fn m3_a_disk_that_takes_nothing_is_counted_and_harms_nobody() {
    let outer = outer();
    let web = Backend::text("web");
    put(&outer.path().join("disco"), "web", &web);
    std::fs::create_dir_all(outer.path().join("state/names.tmp")).expect("a folder in the way");
    let router = Switchyard::start(&config(outer.path(), ""));
    follows(&router, "web", "web", SOON);
    eventually("the failure is counted", LATER, || {
        (series(&router, "snapshot_write_failures_total")? >= 1.0).then_some(())
    });
    assert_eq!(get(router.addr(0), "web").text(), "web");
    assert!(router.log().contains("Routing is not affected"));
}

#[test]
fn n5_a_scan_of_unknown_names_leaves_dns_memory_and_known_names_alone() {
    const THREADS: usize = 8;
    const NAMES: usize = 4000;
    const PER_SECOND: usize = 400;
    let server = NameServer::start();
    server.set("web.test", &[Ipv4Addr::LOCALHOST]);
    let (web, state) = (Backend::text("web"), tempfile::tempdir().expect("a folder"));
    let discovery = format!("{LOOPBACK_ALLOWED}\n  newNamesPerSec: {PER_SECOND}");
    let switchyard = Switchyard::start(&by_dns(&server, &web, state.path(), &discovery));
    follows(&switchyard, "web.test", "web", SOON);
    let (next, over, served) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let (started, before) = (Instant::now(), switchyard.rss_kib());
    std::thread::scope(|scope| {
        let scan = || {
            let mut client = Client::connect(switchyard.addr(0));
            while let n @ 0..NAMES = next.fetch_add(1, Ordering::SeqCst) {
                assert_eq!(client.get(&format!("host-{n}.test"), "/").status, 502, "name {n}");
            }
        };
        let scanning: Vec<_> = (0..THREADS).map(|_| scope.spawn(scan)).collect();
        let serving = scope.spawn(|| {
            let mut slowest = Duration::ZERO;
            let begun = std::time::Instant::now();
            while !over.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(300) {
                let asked = Instant::now();
                assert_eq!(get(switchyard.addr(0), "web.test").text(), "web");
                slowest = slowest.max(asked.elapsed());
                served.fetch_add(1, Ordering::SeqCst);
            }
            slowest
        });
        scanning.into_iter().for_each(|scanning| scanning.join().expect("the scan ends"));
        over.store(true, Ordering::SeqCst);
        let slowest = serving.join().expect("the known name is served");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    });
    let seconds = started.elapsed().as_secs() as usize + 1;
    // A thousand names are cached at most; one that does not exist is asked for again every few seconds.
    let most = PER_SECOND * (seconds + 1) + 1000 * seconds / 2;
    assert!(server.asked() <= most, "{} queries in {seconds} s, {most} are the limit", server.asked());
    // Growth: the pages of the binary itself count as well.
    let grown = switchyard.rss_kib().saturating_sub(before);
    assert!(grown < 160 * 1024, "{grown} KiB more than {before}");
    let watched = watches(&switchyard, "dns").len();
    assert!(watched <= 2500, "{watched} names are watched");
    assert!(served.load(Ordering::SeqCst) > 100);
    let saved = switchyard.page("/admin/watches.json").json()["snapshot"]["entries"].as_u64();
    assert_eq!(saved, Some(1), "what does not exist is not kept on disk");
}

#[test]
fn n6_a_dns_server_cannot_turn_requests_to_this_host() {
    let server = NameServer::start();
    server.set("evil.test", &[Ipv4Addr::LOCALHOST, Ipv4Addr::new(169, 254, 169, 254)]);
    let (secret, state) = (Backend::text("secret"), tempfile::tempdir().expect("a folder"));
    let switchyard = Switchyard::start(&by_dns(&server, &secret, state.path(), "newNamesPerSec: 500"));
    let response = try_get(switchyard.addr(0), "evil.test").expect("an answer");
    assert_eq!((response.status, secret.count()), (502, 0));
    assert!(has_error(&switchyard, "dns", "127.0.0.1 is left out"));
}
