//! As a service owner, I set policy for the names it is for, and the rest keeps what the file says for all (requirement
//! P14.4: per name; config reference §4.3, §8.1).

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, get};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The usual config with these lines in the router.
fn with(lines: &str) -> String {
    FS_CONFIG.replace("  dtab: |", &format!("{lines}\n  dtab: |"))
}

const SERVICES: &str = r#"
  service:
    kind: io.l5d.static
    configs:
    - prefix: /svc
      responseClassifier: { kind: io.l5d.http.retryableRead5XX }
      retries: { maxAttempts: 4 }
    - prefix: "/svc/{tier}-batch"
      retries: { maxAttempts: 2 }
    - prefix: "/svc/gold-{what}"
      totalTimeoutMs: 60000
    - prefix: /svc/none-batch
      responseClassifier: { kind: io.l5d.http.nonRetryable5XX }"#;

#[test]
fn sections_of_services_fold_in_order() {
    let names = ["web", "gold-batch", "silver-batch", "none-batch"];
    let backends: Vec<Backend> = names.iter().map(|_| Backend::with(|_| Reply::status(503))).collect();
    let switchyard = Switchyard::start(&with(SERVICES));
    for (name, backend) in names.iter().zip(&backends) {
        switchyard.disco().set(name, &[backend.addr()]);
    }
    names.iter().for_each(|name| assert_eq!(get(switchyard.addr(0), name).status, 503));
    let attempts: Vec<usize> = backends.iter().map(Backend::count).collect();
    assert_eq!(attempts, [4, 2, 2, 1]);
}

const CLIENTS: &str = r#"
  client:
    kind: io.l5d.static
    configs:
    - prefix: /
      requestAttemptTimeoutMs: 150
      hostConnectionPool: { maxSize: 1, maxWaiters: 0 }
    - prefix: "/#/*/patient-{name}"
      requestAttemptTimeoutMs: 0
    - prefix: /#/io.l5d.fs/patient-wide
      hostConnectionPool: {}"#;

/// Answers once it is let go, or when it has waited for long enough to hang a test.
fn held(go: &Arc<AtomicBool>) -> Backend {
    let go = go.clone();
    Backend::with(move |_| {
        let started = Instant::now();
        while !go.load(Ordering::SeqCst) && started.elapsed() < Duration::from_secs(120) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Reply::text("done")
    })
}

#[test]
fn sections_of_clients_fold_in_order_and_objects_are_replaced_as_a_whole() {
    let go = Arc::new(AtomicBool::new(false));
    let backends: Vec<Backend> = (0..3).map(|_| held(&go)).collect();
    let switchyard = Switchyard::start(&with(CLIENTS));
    let names = ["hasty", "patient-narrow", "patient-wide"];
    names.iter().zip(&backends).for_each(|(name, backend)| switchyard.disco().set(name, &[backend.addr()]));
    assert_eq!(get(switchyard.addr(0), "hasty").status, 503, "the limit of an attempt");
    let ask = |name: &'static str| {
        let addr = switchyard.addr(0);
        std::thread::spawn(move || Client::connect(addr).get(name, "/").status)
    };
    let mut asking = Vec::new();
    for (name, backend) in names.iter().zip(&backends).skip(1) {
        asking.push(ask(name));
        e2e::eventually("it is under way", Duration::from_secs(30), || (backend.count() == 1).then_some(()));
    }
    assert_eq!(get(switchyard.addr(0), "patient-narrow").status, 502, "it may have one connection");
    asking.push(ask("patient-wide"));
    e2e::eventually("a second connection", Duration::from_secs(30), || (backends[2].count() == 2).then_some(()));
    go.store(true, Ordering::SeqCst);
    asking.into_iter().for_each(|asked| assert_eq!(asked.join().expect("no panic"), 200));
}
