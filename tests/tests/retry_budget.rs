//! P14: whatever many clients ask at one time, a service that fails is not asked more often than its budget says, and
//! never later than the total timeout.
//!
//! The bound, for a run of `t` seconds with `requests` requests, `reserve` (`minRetriesPerSec`), `share`
//! (`percentCanRetry`) and `ttl` (`ttlSecs`):
//!
//! ```text
//! attempts <= requests * (1 + share) + reserve * (t + ttl)
//! ```
//!
//! Why: a budget is a sum over ten slices of `ttl / 10` each, and what is in a slice leaves the sum at one moment. Each
//! request puts in what pays `share` retries; each retry takes out one; the sum may be below zero by the reserve of
//! `reserve * ttl` retries. A retry comes after the requests that pay for it, so it never leaves the sum before they do:
//! no request pays twice, which makes `share * requests` retries in all. What requests do not pay is of the reserve, and
//! comes back to it not before the next ten slices. A run of `t` seconds touches at most `10 * t / ttl + 1` slices, so
//! the reserve is spent at most `t / ttl + 1` times: `reserve * ttl * (t / ttl + 1) = reserve * (t + ttl)` retries. Time
//! is measured around the requests, so it is never too short here.

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, eventually};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CLIENTS: usize = 8;
/// Some lives of a budget.
const RUN: Duration = Duration::from_millis(3300);
const RESERVE: f64 = 2.0;
const SHARE: f64 = 0.2;
const TTL: f64 = 1.0;
const BUDGET: &str = "{ minRetriesPerSec: 2, percentCanRetry: 0.2, ttlSecs: 1 }";

fn start(keys: &str, web: SocketAddr) -> Switchyard {
    let switchyard = Switchyard::start(&FS_CONFIG.replace("  dtab: |", &format!("  {keys}\n  dtab: |")));
    switchyard.disco().set("web", &[web]);
    switchyard
}

/// What the clients saw.
struct Load {
    requests: usize,
    /// Those of them that were answered with 200.
    good: usize,
    seconds: f64,
}

impl Load {
    /// The most attempts that the budget allows; see the module.
    fn most(&self, paid: usize) -> f64 {
        self.requests as f64 + SHARE * paid as f64 + RESERVE * (self.seconds + TTL)
    }
}

/// All clients ask for as long as a run takes; every answer has a status that `wanted` accepts.
fn load(switchyard: &Switchyard, wanted: impl Fn(u16) -> bool + Sync) -> Load {
    let started = Instant::now();
    let (requests, good) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let asking = || {
        let mut client = Client::connect(switchyard.addr(0));
        while started.elapsed() < RUN {
            requests.fetch_add(1, Ordering::SeqCst);
            let response = client.get("web", "/");
            assert!(wanted(response.status), "{}: {}", response.status, response.text());
            good.fetch_add(usize::from(response.status == 200), Ordering::SeqCst);
        }
    };
    std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|_| _ = scope.spawn(asking));
    });
    Load { requests: requests.into_inner(), good: good.into_inner(), seconds: started.elapsed().as_secs_f64() }
}

#[test]
fn p14_2_retries_of_many_clients_stay_within_the_budget() {
    let web = Backend::with(|_| Reply::status(503));
    let service = format!(
        "service: {{ responseClassifier: {{ kind: io.l5d.http.retryableRead5XX }}, \
         retries: {{ budget: {BUDGET}, maxAttempts: 0 }} }}\n  client: {{ failureAccrual: {{ kind: none }} }}"
    );
    let switchyard = start(&service, web.addr());
    let load = load(&switchyard, |status| status == 503);
    let (attempts, requests) = (web.count() as f64, load.requests as f64);
    let most = load.most(load.requests);
    assert!(attempts <= most, "{attempts} attempts of {requests} requests in {} s, at most {most}", load.seconds);
    // All requests want more than there is: what the budget has is spent.
    assert!(attempts - requests >= 0.9 * SHARE * requests, "{attempts} attempts of {requests} requests");
    switchyard.await_metric("rt/http/service/svc/web/retries/total", attempts - requests);
    switchyard.await_metric("rt/http/service/svc/web/requests", requests);
    switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/requests", attempts);
    // Each request ends because nothing is left.
    switchyard.await_metric("rt/http/service/svc/web/retries/budget_exhausted", requests);
}

/// Reads one request head; false when the connection is at its end.
fn read_head(reader: &mut BufReader<TcpStream>) -> bool {
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if line == "\r\n" {
            return true;
        }
        line.clear();
    }
    false
}

/// Answers so many requests of each connection, then reads one more and closes without an answer. Counts all it reads.
fn dying_after(answers: usize) -> (Backend, Arc<AtomicUsize>) {
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = heads.clone();
    let web = Backend::raw(move |socket| {
        let Ok(clone) = socket.try_clone() else { return };
        let mut reader = BufReader::new(clone);
        for left in (0..=answers).rev() {
            if !read_head(&mut reader) {
                return;
            }
            counted.fetch_add(1, Ordering::SeqCst);
            if left > 0 && (&socket).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    (web, heads)
}

/// Requeues are paid by what succeeds, so a service of which every connection dies has the reserve only.
#[test]
fn p14_2_requeues_of_many_clients_stay_within_the_budget() {
    for answers in [0, 1] {
        let (web, heads) = dying_after(answers);
        let keys = format!("client: {{ requeueBudget: {BUDGET}, failureAccrual: {{ kind: none }} }}");
        let switchyard = start(&keys, web.addr());
        let load = load(&switchyard, |status| status == 502 || (answers > 0 && status == 200));
        let (attempts, requests) = (heads.load(Ordering::SeqCst) as f64, load.requests as f64);
        let most = load.most(load.good);
        let what = format!(
            "{attempts} attempts of {requests} requests, {} of them good, in {} s; at most {most}",
            load.good, load.seconds
        );
        assert!(attempts <= most, "{what}");
        let requeues = "rt/http/client/#/io.l5d.fs/web/retries/requeues";
        switchyard.await_metric(requeues, attempts - requests);
        assert!(attempts - requests >= 0.8 * SHARE * load.good as f64 + RESERVE, "{what}");
        let refused = switchyard.metric("rt/http/client/#/io.l5d.fs/web/retries/budget_exhausted");
        assert!(refused.is_some_and(|refused| refused > 0.0), "{refused:?}");
    }
}

#[test]
fn p14_1_no_attempt_begins_after_the_total_timeout() {
    const TOTAL: Duration = Duration::from_millis(1200);
    /// What a busy machine may take between a write here and a read there.
    const SLACK: Duration = Duration::from_secs(9);
    const REQUESTS: usize = 3;
    let seen: Arc<Mutex<HashMap<String, Vec<Instant>>>> = Arc::default();
    let noted = seen.clone();
    let web = Backend::with(move |request| {
        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.entry(request.target.clone()).or_default().push(Instant::now());
        Reply::status(503)
    });
    let keys = "service:\n    totalTimeoutMs: 1200\n    responseClassifier: { kind: io.l5d.http.retryableRead5XX }\n    \
                retries: { backoff: { kind: constant, ms: 80 }, maxAttempts: 0, \
                budget: { minRetriesPerSec: 100000, percentCanRetry: 1.0, ttlSecs: 60 } }\n  \
                client: { failureAccrual: { kind: none } }";
    let switchyard = start(keys, web.addr());
    let ask = |client: usize| {
        let mut connection = Client::connect(switchyard.addr(0));
        for n in 0..REQUESTS {
            let (target, asked) = (format!("/{client}/{n}"), Instant::now());
            let response = connection.get("web", &target);
            let waited = asked.elapsed();
            assert_eq!(response.status, 503);
            assert!(response.text().starts_with("exceeded 1200.milliseconds"), "{}", response.text());
            assert!(waited >= TOTAL - Duration::from_millis(5) && waited < TOTAL + SLACK, "{waited:?}");
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let attempts = seen.get(&target).map(Vec::as_slice).unwrap_or_default();
            assert!((2..=16).contains(&attempts.len()), "{} attempts in 1200 ms, 80 ms apart", attempts.len());
        }
    };
    std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|client| {
            _ = scope.spawn({
                let ask = &ask;
                move || ask(client)
            })
        });
    });
    // An attempt that was given up may still be on its way to the service.
    let (mut count, mut since) = (web.count(), Instant::now());
    eventually("nothing is tried again for those who have their answer", Duration::from_secs(30), || {
        if web.count() != count {
            (count, since) = (web.count(), Instant::now());
        }
        (since.elapsed() > Duration::from_secs(1)).then_some(())
    });
}
