//! As a service owner, I say in the config what may be tried again and how long a caller may wait, and the router keeps
//! to it exactly.

use e2e::{Backend, Client, FS_CONFIG, Reply, Response, Switchyard, get};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const RETRY_READS: &str = "responseClassifier: { kind: io.l5d.http.retryableRead5XX }";

/// The usual config with these keys in the router.
fn with(keys: &str) -> String {
    FS_CONFIG.replace("  dtab: |", &format!("  {keys}\n  dtab: |"))
}

fn start(keys: &str, web: &Backend) -> Switchyard {
    let switchyard = Switchyard::start(&with(keys));
    switchyard.disco().set("web", &[web.addr()]);
    switchyard
}

/// Answers 503 to the first `n` requests, then 200.
fn failing_first(n: usize) -> Backend {
    let asked = AtomicUsize::new(0);
    Backend::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        at if at < n => Reply::status(503),
        _ => Reply::text("at last"),
    })
}

fn retries(switchyard: &Switchyard, what: &str) -> f64 {
    switchyard.metric(&format!("rt/http/service/svc/web/retries/{what}")).unwrap_or(0.0)
}

fn ask(switchyard: &Switchyard, method: &str, body: &[u8]) -> Response {
    Client::connect(switchyard.addr(0)).request(method, "web", "/", &[], body)
}

#[test]
fn a_read_is_tried_again() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let web = failing_first(2);
        let switchyard = start(&format!("service: {{ {RETRY_READS} }}"), &web);
        assert_eq!(ask(&switchyard, method, b"").status, 200, "{method}");
        assert_eq!(web.count(), 3);
        assert_eq!(retries(&switchyard, "total"), 2.0);
        switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/requests", 3.0);
        switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/failures", 2.0);
        switchyard.await_metric("rt/http/service/svc/web/requests", 1.0);
        switchyard.await_metric("rt/http/service/svc/web/success", 1.0);
    }
}

#[test]
fn a_write_is_never_tried_again() {
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        let web = failing_first(1);
        let switchyard = start(&format!("service: {{ {RETRY_READS} }}"), &web);
        assert_eq!(ask(&switchyard, method, b"body").status, 503, "{method}");
        assert_eq!((web.count(), retries(&switchyard, "total")), (1, 0.0));
    }
}

#[test]
fn nothing_is_tried_again_by_default() {
    let web = failing_first(1);
    let switchyard = start("originator: false", &web);
    assert_eq!(ask(&switchyard, "GET", b"").status, 503);
    assert_eq!(web.count(), 1);
}

#[test]
fn the_other_classifiers_retry_what_they_say() {
    for (kind, method, tries) in [
        ("retryableIdempotent5XX", "PUT", 2),
        ("retryableIdempotent5XX", "POST", 1),
        ("retryableAll5XX", "POST", 2),
        ("nonRetryable5XX", "GET", 1),
    ] {
        let web = failing_first(1);
        let switchyard = start(&format!("service: {{ responseClassifier: {{ kind: io.l5d.http.{kind} }} }}"), &web);
        let status = ask(&switchyard, method, b"body").status;
        assert_eq!((status, web.count()), (if tries == 2 { 200 } else { 503 }, tries), "{kind} {method}");
        if tries == 2 {
            assert_eq!(web.last().body, b"body", "the body is sent again");
        }
    }
}

#[test]
fn a_backend_may_ask_for_a_retry() {
    let asked = AtomicUsize::new(0);
    let web = Backend::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::status(500).header("l5d-retryable", "true"),
        _ => Reply::text("at last"),
    });
    let switchyard = start("originator: false", &web);
    assert_eq!((ask(&switchyard, "POST", b"body").status, web.count()), (200, 2));
}

#[test]
fn the_budget_ends_retries() {
    let web = Backend::with(|_| Reply::status(503));
    let budget = "retries: { budget: { minRetriesPerSec: 1, percentCanRetry: 0.0, ttlSecs: 10 } }";
    let switchyard = start(&format!("service: {{ {RETRY_READS}, {budget} }}"), &web);
    assert_eq!(get(switchyard.addr(0), "web").status, 503);
    assert_eq!(web.count(), 11, "one request, ten retries");
    assert_eq!((retries(&switchyard, "total"), retries(&switchyard, "budget_exhausted")), (10.0, 1.0));
    assert_eq!(retries(&switchyard, "budget"), 0.0);
    assert_eq!(get(switchyard.addr(0), "web").status, 503);
    assert_eq!((web.count(), retries(&switchyard, "budget_exhausted")), (12, 2.0));
}

#[test]
fn the_total_timeout_is_a_wall_over_all_attempts() {
    let web = Backend::with(|_| Reply::status(503).after(Duration::from_millis(60)));
    let switchyard = start(&format!("service: {{ totalTimeoutMs: 200, {RETRY_READS} }}"), &web);
    let asked = Instant::now();
    let response = get(switchyard.addr(0), "web");
    let waited = asked.elapsed();
    assert_eq!(response.status, 503);
    let text = "exceeded 200.milliseconds to unspecified while waiting for a response for the request, including \
                retries (if applicable). Remote Info: Not Available";
    assert_eq!(response.text(), text);
    assert!(response.header("l5d-err").is_some_and(|error| error.starts_with("exceeded+200.milliseconds+to+")));
    assert!(waited >= Duration::from_millis(190) && waited < Duration::from_secs(1), "{waited:?}");
    assert!(web.count() >= 2, "{} attempts", web.count());
    switchyard.await_metric("rt/http/service/svc/web/failures/com.twitter.finagle.GlobalRequestTimeoutException", 1.0);
}

#[test]
fn an_attempt_that_takes_too_long_fails() {
    let web = Backend::with(|_| Reply::text("too late").after(Duration::from_secs(60)));
    let switchyard = start("client: { requestAttemptTimeoutMs: 100 }", &web);
    let asked = Instant::now();
    let response = get(switchyard.addr(0), "web");
    let waited = asked.elapsed();
    assert_eq!(response.status, 503);
    let text = "exceeded 100.milliseconds to #/io.l5d.fs/web while waiting for a response for an individual request, \
                excluding retries. Remote Info: ";
    assert!(response.text().starts_with(text), "{}", response.text());
    assert!(waited >= Duration::from_millis(95) && waited < Duration::from_secs(1), "{waited:?}");
    let class = "failures/com.twitter.finagle.IndividualRequestTimeoutException";
    switchyard.await_metric(&format!("rt/http/service/svc/web/{class}"), 1.0);
    switchyard.await_metric(&format!("rt/http/client/#/io.l5d.fs/web/{class}"), 1.0);
    switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/status/error", 1.0);
}

/// The limit is named even while the client still sends: nobody else is to blame.
#[test]
fn an_attempt_is_limited_while_the_body_is_under_way() {
    let web = Backend::text("never asked for");
    let switchyard = start("client: { requestAttemptTimeoutMs: 100 }", &web);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 10\r\n\r\n12");
    let response = client.read_response(false).expect("an answer");
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.text().starts_with("exceeded 100.milliseconds to #/io.l5d.fs/web"), "{}", response.text());
}

#[test]
fn a_slow_attempt_of_a_read_is_tried_again() {
    let asked = AtomicUsize::new(0);
    let web = Backend::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::text("too late").after(Duration::from_secs(60)),
        _ => Reply::text("at last"),
    });
    let switchyard =
        start(&format!("client: {{ requestAttemptTimeoutMs: 200 }}\n  service: {{ {RETRY_READS} }}"), &web);
    assert_eq!(get(switchyard.addr(0), "web").text(), "at last");
    assert_eq!((web.count(), retries(&switchyard, "total")), (2, 1.0));
}

#[test]
fn policies_apply_to_the_names_they_are_for() {
    let slow = Backend::with(|_| Reply::text("done").after(Duration::from_millis(300)));
    let keys = "service: { kind: io.l5d.static, configs: [{ prefix: /svc/web, totalTimeoutMs: 100 }] }";
    let switchyard = start(keys, &slow);
    switchyard.disco().set("patient", &[slow.addr()]);
    assert_eq!(get(switchyard.addr(0), "web").status, 503);
    assert_eq!(get(switchyard.addr(0), "patient").text(), "done");
}

#[test]
fn a_name_that_is_not_bound_in_time_is_given_up() {
    let web = Backend::text("hello");
    let switchyard = Switchyard::start(&with("bindingTimeoutMs: 1"));
    // A file that is being written: it is not believed to be empty yet.
    switchyard.disco().edit("web", "");
    let response = get(switchyard.addr(0), "web");
    assert_eq!(response.status, 502);
    let text = response.text();
    assert!(text.starts_with("Exceeded 1.milliseconds binding timeout while "), "{text}");
    assert!(text.lines().next().is_some_and(|line| line.ends_with(" name: /svc/web")), "{text}");
    switchyard.disco().set("web", &[web.addr()]);
    e2e::eventually("it is bound", Duration::from_secs(2), || {
        (get(switchyard.addr(0), "web").status == 200).then_some(())
    });
}
