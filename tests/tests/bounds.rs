//! P11.1 and P11.5: every bound of names and of waiters that `docs/bounds.md` lists holds at the value that the config gives it, is shown
//! by the metrics named there, and costs nobody who was served before.
//!
//! Bounds of connections and messages are driven in `connection_limits`, `pools` and `hostile`.

use e2e::{Backend, Client, FS_CONFIG, NameServer, Reply, Switchyard, eventually, get};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Below the time that a watch without readers is kept otherwise.
const SOON: Duration = Duration::from_secs(4);
const LATER: Duration = Duration::from_secs(60);
/// The gauges of watches are set every few seconds.
const FS: &str = "{namer=\"/#/io.l5d.fs\"}";

/// The usual config with these keys at the top and in the router.
fn with(top: &str, keys: &str) -> String {
    FS_CONFIG.replace("namers:", &format!("{top}\nnamers:")).replace("  dtab: |", &format!("  {keys}\n  dtab: |"))
}

/// So many names, all with this address.
fn names(switchyard: &Switchyard, n: usize, web: &Backend) -> Vec<String> {
    let names: Vec<String> = (0..n).map(|i| format!("name-{i}")).collect();
    names.iter().for_each(|name| switchyard.disco().set(name, &[web.addr()]));
    names
}

/// The statuses of one request for each name, one after the other.
fn ask_all(switchyard: &Switchyard, names: &[String]) -> Vec<u16> {
    let mut client = Client::connect(switchyard.addr(0));
    names.iter().map(|name| client.get(name, "/").status).collect()
}

fn await_series(switchyard: &Switchyard, name: &str, holds: impl Fn(f64) -> bool) {
    let mut last = None;
    let what = format!("{name} is as it should be");
    eventually(&what, LATER, || {
        last = switchyard.series(name);
        last.is_some_and(&holds).then_some(())
    });
}

#[test]
fn p11_1_watches_stay_at_their_limit() {
    const LIMIT: usize = 3;
    let switchyard = Switchyard::start(&with("discovery: { maxWatches: 3 }", "bindingTimeoutMs: 500"));
    let web = Backend::text("web");
    let names = names(&switchyard, 8, &web);
    let (first, more) = names.split_at(LIMIT);
    assert_eq!(ask_all(&switchyard, first), [200; LIMIT]);
    for name in more {
        let response = get(switchyard.addr(0), name);
        assert_eq!(response.status, 502, "{name}: {}", response.text());
        assert!(response.text().contains("the limit of 3 watched names is reached"), "{}", response.text());
    }
    assert_eq!(ask_all(&switchyard, first), [200; LIMIT], "what was known is served");
    // Of the folder and of files.
    await_series(&switchyard, &format!("watches_limit{FS}"), |limit| limit == 2.0 * LIMIT as f64);
    await_series(&switchyard, &format!("watch_table_full_total{FS}"), |full| full >= more.len() as f64);
}

/// The names of one source of traffic are not all read at one time: those nobody reads make room.
#[test]
fn p11_1_watches_that_nobody_reads_make_room() {
    let switchyard = Switchyard::start(&with("discovery: { maxWatches: 3 }", "bindingCache: { paths: 2, clients: 2 }"));
    let web = Backend::text("web");
    let names = names(&switchyard, 12, &web);
    for round in 0..3 {
        for name in &names {
            eventually(&format!("{name} is served in round {round}"), SOON, || {
                (get(switchyard.addr(0), name).status == 200).then_some(())
            });
        }
    }
    await_series(&switchyard, &format!("watches{FS}"), |watches| watches <= 6.0);
}

/// Names of `web.test` by DNS, with these keys of `discovery`.
fn by_dns(server: &NameServer, web: &Backend, discovery: &str, keys: &str) -> Switchyard {
    server.set("web.test", &[Ipv4Addr::LOCALHOST]);
    let top = format!("discovery: {{ dnsServers: ['{}'], denyAddresses: [], {discovery} }}", server.addr());
    let leaf = format!("/$/io.buoyant.rinet/{}", web.addr().port());
    let switchyard = Switchyard::start(&with(&top, keys).replace("/#/io.l5d.fs", &leaf));
    assert_eq!(get(switchyard.addr(0), "web.test").text(), "web");
    switchyard
}

#[test]
fn p11_5_names_that_do_not_exist_are_remembered_up_to_the_limit() {
    let (server, web) = (NameServer::start(), Backend::text("web"));
    let switchyard = by_dns(&server, &web, "maxUnknownNames: 5, newNamesPerSec: 0", "originator: false");
    let unknown: Vec<String> = (0..60).map(|i| format!("unknown-{i}.test")).collect();
    assert!(ask_all(&switchyard, &unknown).iter().all(|status| *status == 502));
    assert_eq!(switchyard.series("negative_cache_limit"), Some(5.0));
    assert_eq!(switchyard.series("negative_cache_entries"), Some(5.0));
    assert_eq!(get(switchyard.addr(0), "web.test").text(), "web");
}

/// 32 new names are asked for at one time; so many wait; all others are refused at once.
#[test]
fn p11_5_names_that_wait_for_dns_stay_at_their_limit() {
    const UNDER_WAY: usize = 32;
    const WAITING: usize = 4;
    const NAMES: usize = 50;
    let (server, web) = (NameServer::start(), Backend::text("web"));
    // All of them come before the first one gives up, on a busy machine too.
    let keys = "bindingTimeoutMs: 8000";
    let switchyard = by_dns(&server, &web, "maxWaitingNames: 4, newNamesPerSec: 0", keys);
    server.silent(true);
    let ask = |n: usize| get(switchyard.addr(0), &format!("unknown-{n}.test"));
    let refused = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..NAMES)
            .map(|n| {
                scope.spawn({
                    let ask = &ask;
                    move || ask(n)
                })
            })
            .collect();
        assert_eq!(get(switchyard.addr(0), "web.test").text(), "web", "meanwhile");
        let answers = asking.into_iter().map(|asking| asking.join().expect("an answer"));
        answers.filter(|response| response.text().contains("too many unknown names are being asked for")).count()
    });
    assert_eq!(refused, NAMES - UNDER_WAY - WAITING);
    let counted = switchyard.series("negative_cache_refused_total{reason=\"queue\"}");
    assert!(counted.is_some_and(|counted| counted >= refused as f64), "{counted:?}");
    assert_eq!(get(switchyard.addr(0), "web.test").text(), "web");
}

#[test]
fn p11_1_the_snapshot_stays_at_its_limit() {
    const LIMIT: usize = 10;
    let state = tempfile::tempdir().expect("a folder");
    let top = format!("stateDir: {}\ndiscovery: {{ maxStoredNames: {LIMIT} }}", state.path().display());
    let switchyard = Switchyard::start(&with(&top, "originator: false"));
    let web = Backend::text("web");
    let names = names(&switchyard, 40, &web);
    assert_eq!(ask_all(&switchyard, &names), [200; 40]);
    await_series(&switchyard, "snapshot_entries_limit", |limit| limit == LIMIT as f64);
    await_series(&switchyard, "snapshot_entries", |entries| entries > 0.0 && entries <= LIMIT as f64);
    await_series(&switchyard, "snapshot_evictions_total", |evictions| evictions >= 30.0);
    assert_eq!(ask_all(&switchyard, &names), [200; 40], "all names are served, stored or not");
    eventually("the file is written", LATER, || {
        let text = std::fs::read_to_string(state.path().join("names.jsonl")).ok()?;
        let entries = text.lines().filter(|line| line.contains("\"key\"")).count();
        assert!(entries <= LIMIT, "{entries} names on disk");
        (entries > 0).then_some(())
    });
}

#[test]
fn p11_1_clients_stay_at_their_limit() {
    let switchyard = Switchyard::start(&with("", "bindingCache: { paths: 2, clients: 3 }"));
    let web = Backend::text("web");
    let names = names(&switchyard, 10, &web);
    let metric = |name: &str| switchyard.metric(&format!("rt/http/bindcache/client/{name}"));
    for round in 0..3 {
        assert_eq!(ask_all(&switchyard, &names), [200; 10], "round {round}");
        let size = metric("size");
        assert!(size.is_some_and(|size| (1.0..=3.0).contains(&size)), "{size:?}");
    }
    assert_eq!(metric("limit"), Some(3.0));
    let evicts = metric("evicts");
    assert!(evicts.is_some_and(|evicts| evicts >= 20.0), "{evicts:?}");
    assert_eq!(switchyard.metric("rt/http/bindcache/path/limit"), Some(2.0));
}

/// All clients are in use by names: more names are served by clients that are not kept.
#[test]
fn p11_1_clients_beyond_the_limit_serve_and_are_not_kept() {
    let switchyard = Switchyard::start(&with("", "bindingCache: { paths: 10, clients: 3 }"));
    let web = Backend::text("web");
    let names = names(&switchyard, 8, &web);
    assert_eq!(ask_all(&switchyard, &names), [200; 8]);
    assert_eq!(ask_all(&switchyard, &names), [200; 8]);
    let metric = |name: &str| switchyard.metric(&format!("rt/http/bindcache/client/{name}"));
    assert_eq!((metric("size"), metric("limit"), metric("oneshots")), (Some(3.0), Some(3.0), Some(5.0)));
    assert_eq!(switchyard.metric("rt/http/bindcache/path/size"), Some(8.0));
}

#[test]
fn p11_1_what_is_idle_for_longer_than_its_ttl_goes() {
    let switchyard = Switchyard::start(&with("", "bindingCache: { idleTtlSecs: 1 }"));
    let web = Backend::text("web");
    let names = names(&switchyard, 6, &web);
    assert_eq!(ask_all(&switchyard, &names), [200; 6]);
    assert_eq!(switchyard.metric("rt/http/bindcache/path/size"), Some(6.0));
    for cache in ["path", "client"] {
        eventually(&format!("the cache of {cache} is swept"), LATER, || {
            (switchyard.metric(&format!("rt/http/bindcache/{cache}/size")) == Some(1.0)).then_some(())
        });
        assert_eq!(switchyard.metric(&format!("rt/http/bindcache/{cache}/expires")), Some(5.0), "{cache}");
    }
    assert_eq!(ask_all(&switchyard, &names), [200; 6], "they come back");
}

#[test]
fn p11_1_the_overrides_of_a_source_stay_at_their_share() {
    let switchyard = Switchyard::start(&with("", "bindingCache: { paths: 20, overridesPerSource: 3 }"));
    let web = Backend::text("web");
    let names = names(&switchyard, 5, &web);
    assert_eq!(ask_all(&switchyard, &names), [200; 5]);
    let path = |name: &str| switchyard.metric(&format!("rt/http/bindcache/path/{name}"));
    let mut client = Client::connect(switchyard.addr(0));
    for i in 0..50 {
        let local = format!("/svc/lane-{i} => /#/io.l5d.fs/name-0");
        assert_eq!(client.request("GET", "name-0", "/", &[("l5d-dtab", &local)], b"").status, 200, "override {i}");
        assert!(path("size").is_some_and(|size| size <= 8.0), "{:?} after override {i}", path("size"));
    }
    assert_eq!((path("size"), path("limit"), path("evicts")), (Some(8.0), Some(20.0), Some(47.0)));
    let misses = path("misses");
    assert_eq!(ask_all(&switchyard, &names), [200; 5]);
    assert_eq!(path("misses"), misses, "the names of the router's own dtab are all still there");
}

#[test]
fn p11_1_those_who_wait_for_a_connection_stay_at_their_limit() {
    const WAITING: usize = 3;
    let gate = Arc::new(AtomicBool::new(false));
    let opened = gate.clone();
    let web = Backend::with(move |_| {
        eventually("the gate opens", 2 * LATER, || opened.load(Ordering::SeqCst).then_some(()));
        Reply::text("web")
    });
    let keys = format!("client: {{ hostConnectionPool: {{ maxSize: 1, maxWaiters: {WAITING} }} }}");
    let switchyard = Switchyard::start_with(&with("", &keys), &["--workers", "1"]);
    switchyard.disco().set("web", &[web.addr()]);
    let ask = || get(switchyard.addr(0), "web").status;
    std::thread::scope(|scope| {
        let first = scope.spawn(ask);
        eventually("the connection is in use", LATER, || (web.count() == 1).then_some(()));
        let waiting: Vec<_> = (0..WAITING).map(|_| scope.spawn(ask)).collect();
        switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/pool_waiters", WAITING as f64);
        for _ in 0..5 {
            assert_eq!(ask(), 502, "refused at once");
        }
        let refused = switchyard.metric("rt/http/client/#/io.l5d.fs/web/pool_num_too_many_waiters");
        assert_eq!(refused, Some(5.0));
        assert_eq!(switchyard.metric("rt/http/client/#/io.l5d.fs/web/pool_waiters"), Some(WAITING as f64));
        gate.store(true, Ordering::SeqCst);
        for asking in waiting.into_iter().chain([first]) {
            assert_eq!(asking.join().expect("an answer"), 200);
        }
    });
    assert_eq!(web.connections(), 1);
}
