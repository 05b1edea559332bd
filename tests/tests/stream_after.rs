//! As an operator, I say with `streamAfterContentLengthKB` which request bodies are small enough to be sent again.

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard};
use std::sync::atomic::{AtomicUsize, Ordering};

const RETRY: &str = "service: { responseClassifier: { kind: io.l5d.http.retryableAll5XX } }";

#[test]
fn bodies_up_to_the_limit_are_sent_again() {
    for (key, bytes, tries) in [
        ("originator: false", 5 * 1024, 2),
        ("originator: false", 5 * 1024 + 1, 1),
        ("streamAfterContentLengthKB: 0", 1, 1),
        ("streamAfterContentLengthKB: 0", 0, 2),
        ("streamAfterContentLengthKB: 40", 40 * 1024, 2),
        ("streamAfterContentLengthKB: 40", 40 * 1024 + 1, 1),
    ] {
        let asked = AtomicUsize::new(0);
        let web = Backend::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::status(503),
            _ => Reply::text("at last"),
        });
        let config = FS_CONFIG.replace("  dtab: |", &format!("  {key}\n  {RETRY}\n  dtab: |"));
        let switchyard = Switchyard::start(&config);
        switchyard.disco().set("web", &[web.addr()]);
        let body = vec![b'x'; bytes];
        let answer = Client::connect(switchyard.addr(0)).request("POST", "web", "/", &[], &body);
        assert_eq!((answer.status, web.count()), (if tries == 2 { 200 } else { 503 }, tries), "{key}, {bytes} bytes");
        assert_eq!(web.last().body, body);
    }
}
