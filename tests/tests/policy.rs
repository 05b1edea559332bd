//! As a service owner, I set policy for the names it is for, and the rest keeps what the file says for all (requirement
//! P14.4: per name; config reference §4.3, §8.1).

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, get};
use std::time::Duration;

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

#[test]
fn sections_of_clients_fold_in_order_and_objects_are_replaced_as_a_whole() {
    let slow = Backend::with(|_| Reply::text("done").after(Duration::from_millis(500)));
    let switchyard = Switchyard::start(&with(CLIENTS));
    ["hasty", "patient-narrow", "patient-wide"].iter().for_each(|name| switchyard.disco().set(name, &[slow.addr()]));
    for (name, status, second) in [("hasty", 503, 502), ("patient-narrow", 200, 502), ("patient-wide", 200, 200)] {
        let asked = slow.count();
        let addr = switchyard.addr(0);
        let first = std::thread::spawn(move || Client::connect(addr).get(name, "/").status);
        e2e::eventually("it is under way", Duration::from_secs(5), || (slow.count() > asked).then_some(()));
        assert_eq!(get(switchyard.addr(0), name).status, second, "{name}: a second connection");
        assert_eq!(first.join().expect("no panic"), status, "{name}");
    }
}
