//! As an operator of a busy host, I bound the caches of the router: more names than fit keep working, and a scanner with
//! thousands of names grows neither memory nor metrics.

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, eventually, get};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// The usual config with a small path cache.
fn small() -> String {
    FS_CONFIG.replace("  dtab: |", "  bindingCache: { paths: 2 }\n  dtab: |")
}

/// The elements after `prefix` of all metric names: the names that have series of their own.
fn series(switchyard: &Switchyard, prefix: &str) -> BTreeSet<String> {
    let metrics = switchyard.page("/admin/metrics.json").json();
    let keys = metrics.as_object().expect("an object").keys();
    let after = keys.filter_map(|key| key.strip_prefix(prefix));
    after.filter_map(|rest| rest.split('/').next()).map(str::to_owned).collect()
}

#[test]
fn more_names_than_fit_keep_working() {
    let switchyard = Switchyard::start(&small());
    let web = Backend::text("hello");
    let names = ["a", "b", "c", "d", "e"];
    names.iter().for_each(|name| switchyard.disco().set(name, &[web.addr()]));
    let mut client = Client::connect(switchyard.addr(0));
    for round in 0..20 {
        for name in names {
            assert_eq!(client.get(name, "/").status, 200, "{name} in round {round}");
        }
    }
    let evicts = switchyard.metric("rt/http/bindcache/path/evicts").unwrap_or(0.0);
    assert!(evicts >= 50.0, "{evicts}");
    assert_eq!(switchyard.metric("rt/http/bindcache/path/oneshots"), Some(0.0));
    eventually("what was thrown out has no metrics", SOON, || {
        (series(&switchyard, "rt/http/service/svc/").len() <= 2).then_some(())
    });
}

#[test]
fn a_full_cache_of_busy_names_serves_others_once() {
    let switchyard = Switchyard::start(&small());
    let gate = Arc::new(AtomicBool::new(false));
    let (opened, web) = (gate.clone(), Backend::text("hello"));
    let busy = Backend::with(move |_| {
        eventually("the gate opens", 4 * SOON, || opened.load(Ordering::SeqCst).then_some(()));
        Reply::text("busy")
    });
    ["a", "b"].iter().for_each(|name| switchyard.disco().set(name, &[busy.addr()]));
    let others: Vec<String> = (0..20).map(|i| format!("other-{i}")).collect();
    others.iter().for_each(|name| switchyard.disco().set(name, &[web.addr()]));
    std::thread::scope(|scope| {
        let asking: Vec<_> = ["a", "b"].map(|name| scope.spawn(|| get(switchyard.addr(0), name).text())).into();
        eventually("both are busy", SOON, || (busy.count() == 2).then_some(()));
        let mut client = Client::connect(switchyard.addr(0));
        for name in &others {
            assert_eq!(client.get(name, "/").status, 200, "{name}");
        }
        gate.store(true, Ordering::SeqCst);
        asking.into_iter().for_each(|asking| assert_eq!(asking.join().expect("an answer"), "busy"));
    });
    assert_eq!(switchyard.metric("rt/http/bindcache/path/oneshots"), Some(20.0));
    eventually("what was served once leaves no metrics", SOON, || {
        (series(&switchyard, "rt/http/service/svc/").len() <= 2).then_some(())
    });
}

/// So many requests, each for another name; all have this status.
fn scan(switchyard: &Switchyard, names: usize, headers: &[(&str, &str)], wanted: u16) {
    let mut client = Client::connect(switchyard.addr(0));
    for i in 0..names {
        let host = format!("host-{i}.example.com");
        assert_eq!(client.request("GET", &host, "/", headers, b"").status, wanted, "name {i}");
    }
}

#[test]
fn a_scan_of_names_that_do_not_exist_leaves_little_behind() {
    let switchyard = Switchyard::start(FS_CONFIG);
    scan(&switchyard, 10_000, &[], 502);
    let services = series(&switchyard, "rt/http/service/svc/").len();
    assert!(services <= 1000, "{services} services have metrics");
    assert!(switchyard.rss_kib() < 200 * 1024, "{} KiB", switchyard.rss_kib());
    let watches = switchyard.page("/namer_state/io.l5d.fs.json").json().as_array().map_or(0, Vec::len);
    assert!(watches <= 10, "{watches} watches for names that do not exist");
}

#[test]
fn a_scan_of_names_that_all_lead_to_one_client_leaves_little_behind() {
    let config = FS_CONFIG.replace("/svc => /#/io.l5d.fs ;", "/svc => /#/io.l5d.fs/web ;");
    let switchyard = Switchyard::start(&config);
    let web = Backend::text("hello");
    switchyard.disco().set("web", &[web.addr()]);
    scan(&switchyard, 3000, &[], 200);
    let services = series(&switchyard, "rt/http/service/svc/").len();
    assert!(services <= 1000, "{services} services have metrics");
    let split = series(&switchyard, "rt/http/client/#/io.l5d.fs/web/service/svc/").len();
    assert!(split <= 1000, "the client has metrics for {split} services");
    assert!(switchyard.rss_kib() < 200 * 1024, "{} KiB", switchyard.rss_kib());
    let idle = switchyard.metric("rt/http/client/#/io.l5d.fs/web/connects");
    assert!(idle.is_some_and(|connects| connects <= 4.0), "one client serves all: {idle:?}");
}

#[test]
fn a_scan_under_an_override_leaves_little_behind() {
    let switchyard = Switchyard::start(FS_CONFIG);
    scan(&switchyard, 3000, &[("l5d-dtab", "/nothing => /of/note")], 502);
    let services = series(&switchyard, "rt/http/service/svc/").len();
    assert!(services <= 1000, "{services} services have metrics");
    assert!(switchyard.rss_kib() < 200 * 1024, "{} KiB", switchyard.rss_kib());
}

#[test]
fn ever_new_overrides_leave_little_behind() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let web = Backend::text("hello");
    switchyard.disco().set("web", &[web.addr()]);
    let mut client = Client::connect(switchyard.addr(0));
    for i in 0..3000 {
        let local = format!("/svc/lane-{i} => /#/io.l5d.fs/web");
        assert_eq!(client.request("GET", "web", "/", &[("l5d-dtab", &local)], b"").status, 200, "override {i}");
    }
    let metric = |name: &str| switchyard.metric(&format!("rt/http/{name}"));
    // All overrides of a name share its counters.
    switchyard.await_metric("rt/http/service/svc/web/requests", 3000.0);
    assert_eq!(metric("bindcache/path/misses"), Some(3000.0));
    assert_eq!(metric("bindcache/client/misses"), Some(1.0), "clients are shared by bound name");
    assert!(switchyard.rss_kib() < 200 * 1024, "{} KiB", switchyard.rss_kib());
}
