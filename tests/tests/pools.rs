//! As an operator, I bound the connections to each address of a service, and nobody waits for one longer than they would
//! for an answer (requirement F17).

use e2e::{Backend, Client, FS_CONFIG, Reply, StopOnDrop, Switchyard, eventually, get, holds_for};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CLIENT: &str = "rt/http/client/#/io.l5d.fs/web";

fn start(keys: &str, workers: &str, web: &Backend) -> Switchyard {
    let config = FS_CONFIG.replace("  dtab: |", &format!("  {keys}\n  dtab: |"));
    let switchyard = Switchyard::start_with(&config, &["--workers", workers]);
    switchyard.disco().set("web", &[web.addr()]);
    switchyard
}

fn metric(switchyard: &Switchyard, name: &str) -> f64 {
    switchyard.metric(&format!("{CLIENT}/{name}")).unwrap_or_default()
}

const SOON: Duration = Duration::from_secs(30);

/// Answers `done`, each request not before the gate is open.
fn gated() -> (Backend, Arc<AtomicBool>) {
    let gate = Arc::new(AtomicBool::new(false));
    let open = gate.clone();
    let web = Backend::with(move |_| {
        eventually("the gate opens", 4 * SOON, || open.load(Ordering::SeqCst).then_some(()));
        Reply::text("done")
    });
    (web, gate)
}

/// Answers after `delay`, and notes how many requests it had at one time at most.
fn slow(delay: Duration) -> (Backend, Arc<AtomicUsize>) {
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let noted = most.clone();
    let web = Backend::with(move |_| {
        noted.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(delay);
        now.fetch_sub(1, Ordering::SeqCst);
        Reply::text("done")
    });
    (web, most)
}

/// A request that is under way on a thread of its own.
fn in_background(switchyard: &Switchyard, path: &'static str) -> std::thread::JoinHandle<(u16, String)> {
    let addr = switchyard.addr(0);
    std::thread::spawn(move || {
        let response = Client::connect(addr).get("web", path);
        (response.status, response.text())
    })
}

#[test]
fn f17_the_size_of_a_pool_holds_over_all_workers() {
    let (web, most) = slow(Duration::from_millis(100));
    let switchyard = start("client: { hostConnectionPool: { maxSize: 2 } }", "2", &web);
    let asking: Vec<_> = (0..16).map(|_| in_background(&switchyard, "/")).collect();
    for asked in asking {
        assert_eq!(asked.join().expect("no panic"), (200, "done".to_owned()));
    }
    assert_eq!(most.load(Ordering::SeqCst), 2, "two at one time, and both were used");
    assert!(metric(&switchyard, "pool_num_waited") >= 1.0);
    assert_eq!((metric(&switchyard, "pool_waiters"), metric(&switchyard, "pool_num_too_many_waiters")), (0.0, 0.0));
    assert!(metric(&switchyard, "pool_size") <= 2.0);
    eventually("all are idle", SOON, || {
        (metric(&switchyard, "pool_cached") == metric(&switchyard, "pool_size")).then_some(())
    });
}

/// Each worker has its own connections; one that has none left gets the place of another one.
#[test]
fn f17_an_unused_connection_of_one_worker_is_no_obstacle_to_another() {
    let web = Backend::text("hello");
    let switchyard = start("client: { hostConnectionPool: { maxSize: 1 } }", "2", &web);
    let mut clients: Vec<Client> = (0..12).map(|_| Client::connect(switchyard.addr(0))).collect();
    let started = Instant::now();
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(client.get("web", "/").status, 200);
        }
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert!(metric(&switchyard, "pool_size") <= 1.0);
}

#[test]
fn f17_requests_wait_in_turn() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let (noted, gate) = (order.clone(), Arc::new(AtomicBool::new(false)));
    let open = gate.clone();
    let web = Backend::with(move |request| {
        noted.lock().expect("no panic").push(request.target.clone());
        eventually("the gate opens", 4 * SOON, || open.load(Ordering::SeqCst).then_some(()));
        Reply::text("done")
    });
    let switchyard = start("client: { hostConnectionPool: { maxSize: 1 } }", "1", &web);
    let paths = ["/0", "/1", "/2", "/3", "/4", "/5"];
    let mut asking = Vec::new();
    for (i, path) in paths.into_iter().enumerate() {
        asking.push(in_background(&switchyard, path));
        eventually("it waits", SOON, || {
            (i == 0 && web.count() == 1 || metric(&switchyard, "pool_num_waited") as usize >= i && i > 0).then_some(())
        });
    }
    gate.store(true, Ordering::SeqCst);
    asking.into_iter().for_each(|asked| assert_eq!(asked.join().expect("no panic").0, 200));
    assert_eq!(*order.lock().expect("no panic"), paths);
    assert_eq!(web.connections(), 1);
}

#[test]
fn f17_more_than_may_wait_are_refused_at_once() {
    let (web, gate) = gated();
    let switchyard = start("client: { hostConnectionPool: { maxSize: 1, maxWaiters: 1 } }", "2", &web);
    let first = in_background(&switchyard, "/");
    eventually("the connection is in use", SOON, || (web.count() == 1).then_some(()));
    let second = in_background(&switchyard, "/");
    switchyard.await_metric(&format!("{CLIENT}/pool_waiters"), 1.0);
    // Who waits would wait for the gate.
    let refused = get(switchyard.addr(0), "web");
    assert_eq!(refused.status, 502);
    assert!(refused.text().contains("1 requests wait for one already"), "{}", refused.text());
    assert_eq!(refused.header("l5d-retryable"), Some("true"), "nothing was sent");
    assert_eq!(metric(&switchyard, "pool_num_too_many_waiters"), 1.0);
    switchyard.await_metric("rt/http/service/svc/web/failures/com.twitter.finagle.TooManyWaitersException", 1.0);
    gate.store(true, Ordering::SeqCst);
    assert_eq!((first.join().expect("no panic").0, second.join().expect("no panic").0), (200, 200));
}

#[test]
fn p14_1_waiting_for_a_connection_is_part_of_the_total_time() {
    let (web, gate) = gated();
    let keys = "client: { hostConnectionPool: { maxSize: 1 } }\n  service: { kind: io.l5d.static, \
                configs: [{ prefix: /svc/hasty, totalTimeoutMs: 150 }] }";
    let config = FS_CONFIG.replace("  dtab: |", &format!("  {keys}\n  dtab: |"));
    let switchyard =
        Switchyard::start(&config.replace("/svc =>", "/svc => /#/io.l5d.fs ;\n    /svc/hasty => /svc/web ; #"));
    switchyard.disco().set("web", &[web.addr()]);
    let first = in_background(&switchyard, "/");
    eventually("the connection is in use", SOON, || (web.count() == 1).then_some(()));
    let asked = Instant::now();
    let response = get(switchyard.addr(0), "hasty");
    let waited = asked.elapsed();
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.text().starts_with("exceeded 150.milliseconds"), "{}", response.text());
    assert!(waited >= Duration::from_millis(145), "{waited:?}");
    gate.store(true, Ordering::SeqCst);
    assert_eq!(first.join().expect("no panic").0, 200);
    assert_eq!(metric(&switchyard, "pool_waiters"), 0.0);
    assert_eq!(get(switchyard.addr(0), "web").status, 200, "whoever gave up holds no place");
}

#[test]
fn f17_who_hangs_up_leaves_the_line() {
    let (web, gate) = gated();
    let switchyard = start("client: { hostConnectionPool: { maxSize: 1 } }", "1", &web);
    let first = in_background(&switchyard, "/");
    eventually("the connection is in use", SOON, || (web.count() == 1).then_some(()));
    let mut impatient = Client::connect(switchyard.addr(0));
    impatient.send_raw(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    switchyard.await_metric(&format!("{CLIENT}/pool_waiters"), 1.0);
    drop(impatient);
    switchyard.await_metric(&format!("{CLIENT}/pool_waiters"), 0.0);
    gate.store(true, Ordering::SeqCst);
    assert_eq!(first.join().expect("no panic").0, 200);
    assert_eq!(get(switchyard.addr(0), "web").status, 200);
    assert_eq!((web.count(), web.connections()), (2, 1));
}

/// A line that is never empty hands connections on; they end when their time is over all the same.
#[test]
fn f17_connections_in_constant_use_have_their_lifetime() {
    let web = Backend::with(|_| Reply::text("done").after(Duration::from_millis(5)));
    let switchyard =
        start("client: { hostConnectionPool: { maxSize: 1 }, clientSession: { lifeTimeMs: 200 } }", "1", &web);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(switchyard.addr(0));
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("web", "/").status, 200);
                }
            });
        }
        eventually("a third connection is made", SOON, || (web.connections() >= 3).then_some(()));
    });
}

#[test]
fn f17_the_smallest_size_of_a_pool_stays_open() {
    for (pool, connections) in [("{ idleTimeMs: 50, minSize: 1 }", 1), ("{ idleTimeMs: 50 }", 2)] {
        let web = Backend::text("hello");
        let switchyard = start(&format!("client: {{ hostConnectionPool: {pool} }}"), "1", &web);
        assert_eq!(get(switchyard.addr(0), "web").status, 200);
        if connections == 1 {
            holds_for("the connection is kept", Duration::from_millis(1500), || {
                metric(&switchyard, "pool_size") == 1.0
            });
        } else {
            switchyard.await_metric(&format!("{CLIENT}/pool_size"), 0.0);
        }
        assert_eq!(get(switchyard.addr(0), "web").status, 200);
        assert_eq!(web.connections(), connections, "{pool}");
    }
}

#[test]
fn p11_unused_connections_are_bounded_per_worker() {
    let (web, most) = slow(Duration::from_secs(1));
    let switchyard = start("maxIdleConnectionsPerWorker: 4", "1", &web);
    let asking: Vec<_> = (0..12).map(|_| in_background(&switchyard, "/")).collect();
    asking.into_iter().for_each(|asked| assert_eq!(asked.join().expect("no panic").0, 200));
    assert!(most.load(Ordering::SeqCst) > 4, "more were open at one time");
    eventually("the rest is closed", SOON, || {
        (metric(&switchyard, "pool_size") == metric(&switchyard, "pool_cached")).then_some(())
    });
    assert!(metric(&switchyard, "pool_cached") <= 4.0);
    let text = switchyard.page("/admin/metrics/prometheus").text();
    assert!(text.contains("idle_connections_closed_total{reason=\"limit\"}"), "{text}");
}

/// A service that says when it closes an unused connection does not have the last word: the router closes first.
#[test]
fn p15_1_a_connection_is_left_before_the_service_closes_it() {
    let web = Backend::with(|_| Reply::text("hello").header("keep-alive", "timeout=4, max=100"));
    let switchyard = start("client: { hostConnectionPool: { minSize: 1 } }", "1", &web);
    let response = get(switchyard.addr(0), "web");
    assert_eq!((response.status, response.header("keep-alive")), (200, None));
    assert_eq!(metric(&switchyard, "pool_size"), 1.0);
    assert_eq!(get(switchyard.addr(0), "web").status, 200);
    assert_eq!(web.connections(), 1, "it is used again until then");
    switchyard.await_metric(&format!("{CLIENT}/pool_size"), 0.0);
}
