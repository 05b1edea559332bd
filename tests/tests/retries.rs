//! As a service owner, I say in the config what may be tried again and how long a caller may wait, and the router keeps
//! to it exactly.

use e2e::{Backend, Client, FS_CONFIG, Reply, Response, Switchyard, get};
use std::io::{BufRead, BufReader, Read, Write};
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
    let budget = "retries: { budget: { minRetriesPerSec: 1, percentCanRetry: 0.0, ttlSecs: 10 }, maxAttempts: 0 }";
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
    let web = Backend::with(|_| Reply::status(503).after(Duration::from_millis(200)));
    let switchyard = start(&format!("service: {{ totalTimeoutMs: 900, {RETRY_READS} }}"), &web);
    let asked = Instant::now();
    let response = get(switchyard.addr(0), "web");
    let waited = asked.elapsed();
    assert_eq!(response.status, 503);
    let text = "exceeded 900.milliseconds to unspecified while waiting for a response for the request, including \
                retries (if applicable). Remote Info: Not Available";
    assert_eq!(response.text(), text);
    assert!(response.header("l5d-err").is_some_and(|error| error.starts_with("exceeded+900.milliseconds+to+")));
    assert!(waited >= Duration::from_millis(890) && waited < Duration::from_secs(9), "{waited:?}");
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
    assert!(waited >= Duration::from_millis(95) && waited < Duration::from_secs(9), "{waited:?}");
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
        start(&format!("client: {{ requestAttemptTimeoutMs: 1000 }}\n  service: {{ {RETRY_READS} }}"), &web);
    assert_eq!(get(switchyard.addr(0), "web").text(), "at last");
    assert_eq!((web.count(), retries(&switchyard, "total")), (2, 1.0));
}

#[test]
fn a_name_that_is_not_bound_in_time_is_given_up() {
    let web = Backend::text("hello");
    let switchyard = Switchyard::start(&with("bindingTimeoutMs: 1"));
    // A file that is being written is not believed to be empty yet. A busy machine can miss that moment.
    let found = (0..40).map(|i| format!("being-written-{i}")).find(|name| {
        switchyard.disco().edit(name, "");
        let response = get(switchyard.addr(0), name);
        assert_eq!(response.status, 502);
        let text = response.text();
        let late = text.starts_with("Exceeded 1.milliseconds binding timeout while ");
        let first = text.lines().next().unwrap_or_default();
        assert!(!late || first.ends_with(&format!(" name: /svc/{name}")), "{text}");
        late
    });
    assert!(found.is_some(), "all names were bound within a millisecond");
    switchyard.disco().set("web", &[web.addr()]);
    e2e::eventually("it is bound", Duration::from_secs(30), || {
        (get(switchyard.addr(0), "web").status == 200).then_some(())
    });
}

/// Linkerd 1 has no such cap: one failing request could spend the idle budget of all.
#[test]
fn p14_2_one_request_has_ten_attempts_unless_said() {
    for (keys, attempts, exhausted) in [("", 10, 1.0), (", retries: { maxAttempts: 2 }", 2, 1.0)] {
        let web = Backend::with(|_| Reply::status(503));
        let switchyard = start(&format!("service: {{ {RETRY_READS}{keys} }}"), &web);
        assert_eq!(get(switchyard.addr(0), "web").status, 503);
        assert_eq!(web.count(), attempts);
        assert_eq!(retries(&switchyard, "total"), attempts as f64 - 1.0);
        assert_eq!(
            (retries(&switchyard, "attempts_exhausted"), retries(&switchyard, "budget_exhausted")),
            (exhausted, 0.0)
        );
    }
}

const RETRY_ALL: &str = "responseClassifier: { kind: io.l5d.http.retryableAll5XX }";

/// A body of `bytes`, in two chunks or with its length.
fn post(switchyard: &Switchyard, bytes: usize, chunked: bool) -> Response {
    let body = vec![b'x'; bytes];
    let mut client = Client::connect(switchyard.addr(0));
    if !chunked {
        return client.request("POST", "web", "/", &[], &body);
    }
    let mut message = b"POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in body.chunks(bytes.div_ceil(2).max(1)) {
        message.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        message.extend_from_slice(piece);
        message.extend_from_slice(b"\r\n");
    }
    message.extend_from_slice(b"0\r\n\r\n");
    client.send_raw(&message);
    client.read_response(false).expect("an answer")
}

#[test]
fn p14_3_a_body_is_sent_again_when_all_of_it_is_kept() {
    for (buffer, bytes, chunked, tries) in [
        // Linkerd's rule, unless the key is there: nothing chunked, nothing above 5 KiB.
        ("", 5 * 1024, false, 2),
        ("", 5 * 1024 + 1, false, 1),
        ("", 10, true, 1),
        (", retries: { replayBufferKB: 64 }", 64 * 1024, false, 2),
        (", retries: { replayBufferKB: 64 }", 64 * 1024 + 1, false, 1),
        (", retries: { replayBufferKB: 64 }", 64 * 1024, true, 2),
        (", retries: { replayBufferKB: 64 }", 64 * 1024 + 1, true, 1),
        (", retries: { replayBufferKB: 2048 }", 2_000_000, true, 2),
        (", retries: { replayBufferKB: 0 }", 1, false, 1),
    ] {
        let web = failing_first(1);
        let switchyard = start(&format!("service: {{ {RETRY_ALL}{buffer} }}"), &web);
        let status = post(&switchyard, bytes, chunked).status;
        let what = format!("{buffer} {bytes} {chunked}");
        assert_eq!((status, web.count()), (if tries == 2 { 200 } else { 503 }, tries), "{what}");
        assert!(web.requests().iter().all(|request| request.body.len() == bytes), "{what}: all of it each time");
    }
}

#[test]
fn p14_3_the_classifier_decides_however_much_is_kept() {
    let web = failing_first(1);
    let switchyard = start(&format!("service: {{ {RETRY_READS}, retries: {{ replayBufferKB: 64 }} }}"), &web);
    assert_eq!((post(&switchyard, 10, true).status, web.count()), (503, 1));
}

#[test]
fn the_answer_of_a_failed_attempt_does_not_cost_its_connection() {
    for chunked in [false, true] {
        let asked = AtomicUsize::new(0);
        let web = Backend::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0..3 if chunked => Reply { body: vec![b'x'; 3000], ..Reply::status(503) }.chunked(),
            0..3 => Reply { body: vec![b'x'; 3000], ..Reply::status(503) },
            _ => Reply::text("at last"),
        });
        let switchyard = start(&format!("service: {{ {RETRY_READS} }}"), &web);
        assert_eq!(get(switchyard.addr(0), "web").text(), "at last");
        assert_eq!((web.count(), web.connections()), (4, 1), "chunked: {chunked}");
    }
}

#[test]
fn the_long_answer_of_a_failed_attempt_is_not_read() {
    let asked = AtomicUsize::new(0);
    let web = Backend::with(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply { body: vec![b'x'; 8 * 1024 * 1024], ..Reply::status(503) },
        _ => Reply::text("at last"),
    });
    let switchyard = start(&format!("service: {{ {RETRY_READS} }}"), &web);
    assert_eq!(get(switchyard.addr(0), "web").text(), "at last");
    assert_eq!(web.connections(), 2);
    switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/pool_size", 1.0);
}

/// Answers the first request of the first connection, and closes that one when a second request comes on it.
fn dies_when_reused() -> Backend {
    let connections = AtomicUsize::new(0);
    Backend::raw(move |socket| {
        let answers = if connections.fetch_add(1, Ordering::SeqCst) == 0 { 1 } else { usize::MAX };
        let mut reader = BufReader::new(socket.try_clone().expect("a clone"));
        for _ in 0..answers {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            (&socket).write_all(answer.as_bytes()).and_then(|()| (&socket).write_all(&body)).expect("written");
        }
        // The next request is read, and not a byte of an answer sent.
        let _ = reader.fill_buf();
    })
}

#[test]
fn p15_2_a_reused_connection_that_dies_is_no_failure_when_the_request_can_be_sent_again() {
    for (method, body, status) in [("GET", "", 200), ("PUT", "a body", 200), ("POST", "a body", 502)] {
        let web = dies_when_reused();
        let switchyard = Switchyard::start_with(&with("originator: false"), &["--workers", "1"]);
        switchyard.disco().set("web", &[web.addr()]);
        assert_eq!(ask(&switchyard, "GET", b"").status, 200);
        let response = ask(&switchyard, method, body.as_bytes());
        assert_eq!(response.status, status, "{method}: {}", response.text());
        let client = |what: &str| switchyard.metric(&format!("rt/http/client/#/io.l5d.fs/web/retries/{what}"));
        let (requeues, refused) = if status == 200 { (1.0, 0.0) } else { (0.0, 1.0) };
        assert_eq!((client("requeues"), client("cannot_retry")), (Some(requeues), Some(refused)), "{method}");
        if status == 200 {
            assert_eq!(response.text(), body);
        }
    }
}

/// A service that dies of a request is not killed address by address.
#[test]
fn p15_2_a_request_that_no_connection_survives_is_given_up() {
    let web = Backend::raw(|socket| {
        let mut reader = BufReader::new(socket);
        let _ = reader.fill_buf();
    });
    let switchyard = start("originator: false", &web);
    assert_eq!(ask(&switchyard, "GET", b"").status, 502);
    assert_eq!(web.connections(), 2, "a fresh connection died, and one more");
    let client = |what: &str| switchyard.metric(&format!("rt/http/client/#/io.l5d.fs/web/retries/{what}"));
    assert_eq!((client("requeues"), client("request_limit")), (Some(1.0), Some(1.0)));
}
