//! F16: as an operator, I choose when an address that answers failures is left alone, and for how long: it is taken out, one
//! request finds out whether it works again, and when nothing else is left requests still go there.

use e2e::{Backend, Client, FS_CONFIG, Received, Reply, StopOnDrop, Switchyard, eventually};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const CLIENT: &str = "rt/http/client/#/io.l5d.fs/web";
/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// How long a failure and a probe take: long enough for others to come in between, if they could.
const PROBE_TAKES: Duration = Duration::from_millis(150);
/// Out for ten minutes: for the rest of the story.
const FOR_LONG: &str = "backoff: { kind: constant, ms: 600000 }";

/// A router that asks addresses in turn, with this failure accrual.
fn start(accrual: &str) -> Switchyard {
    start_balanced("roundRobin", accrual)
}

fn start_balanced(balancer: &str, accrual: &str) -> Switchyard {
    let client = format!("client: {{ loadBalancer: {{ kind: {balancer} }}, failureAccrual: {{ {accrual} }} }}");
    Switchyard::start(&FS_CONFIG.replace("  dtab: |", &format!("  {client}\n  dtab: |")))
}

/// `kind` of failure accrual for two addresses, one of which works.
fn beside_a_good_one(accrual: &str, other: &Backend) -> (Switchyard, Backend) {
    let (switchyard, good) = (start(accrual), Backend::text("fine"));
    switchyard.disco().set("web", &[good.addr(), other.addr()]);
    (switchyard, good)
}

/// A counter of failure accrual; one that has not counted yet is not exported.
fn counted(switchyard: &Switchyard, name: &str) -> f64 {
    switchyard.metric(&format!("{CLIENT}/failure_accrual/{name}")).unwrap_or(0.0)
}

fn available(switchyard: &Switchyard) -> Option<f64> {
    switchyard.metric(&format!("{CLIENT}/loadbalancer/available"))
}

/// So many requests, one after the other: how many were answered 503. All others were answered 200.
fn ask(switchyard: &Switchyard, requests: usize) -> usize {
    let mut client = Client::connect(switchyard.addr(0));
    let statuses = (0..requests).map(|_| client.get("web", "/").status);
    let failed = statuses.filter(|status| {
        assert!(matches!(status, 200 | 503), "{status}");
        *status == 503
    });
    failed.count()
}

/// Answers by number: 200 where the pattern, which is repeated, says true.
fn patterned(pattern: &'static [bool]) -> Backend {
    let asked = AtomicUsize::new(0);
    Backend::with(move |_| {
        let good = pattern[asked.fetch_add(1, Ordering::SeqCst) % pattern.len()];
        if good { Reply::text("fine") } else { Reply::status(503) }
    })
}

#[test]
fn f16_consecutive_failures_take_an_address_out() {
    let accrual = format!("kind: io.l5d.consecutiveFailures, failures: 3, {FOR_LONG}");
    let bad = patterned(&[false]);
    let (switchyard, good) = beside_a_good_one(&accrual, &bad);
    assert_eq!(ask(&switchyard, 60), 3, "three failures are seen, then it is asked no more");
    assert_eq!((bad.count(), good.count()), (3, 57));
    assert_eq!((counted(&switchyard, "removals"), available(&switchyard)), (1.0, Some(1.0)));
    assert_eq!(counted(&switchyard, "removed_for_ms"), 600_000.0);

    let uneven = patterned(&[false, false, true]);
    let (switchyard, _good) = beside_a_good_one(&accrual, &uneven);
    assert_eq!((ask(&switchyard, 60), uneven.count()), (20, 30), "a success between failures begins the count anew");
    assert_eq!((counted(&switchyard, "removals"), available(&switchyard)), (0.0, Some(2.0)));
}

#[test]
fn f16_a_low_success_rate_takes_an_address_out() {
    // Never two failures in a row. Ten requests are needed; the eleventh is a failure, and the average is below 0.8.
    let accrual = |rate| format!("kind: io.l5d.successRate, successRate: {rate}, requests: 10, {FOR_LONG}");
    let half = patterned(&[false, true]);
    let (switchyard, _good) = beside_a_good_one(&accrual("0.8"), &half);
    assert_eq!((ask(&switchyard, 60), half.count()), (6, 11));
    assert_eq!((counted(&switchyard, "removals"), available(&switchyard)), (1.0, Some(1.0)));

    let half = patterned(&[true, false]);
    let (switchyard, _good) = beside_a_good_one(&accrual("0.3"), &half);
    assert_eq!((ask(&switchyard, 60), half.count()), (15, 30), "one half is more than was asked for");
    assert_eq!((counted(&switchyard, "removals"), available(&switchyard)), (0.0, Some(2.0)));
}

#[test]
fn f16_a_low_success_rate_in_a_window_takes_an_address_out() {
    let accrual = format!("kind: io.l5d.successRateWindowed, successRate: 0.8, window: 1, {FOR_LONG}");
    let bad = patterned(&[false]);
    let begun = Instant::now();
    let (switchyard, _good) = beside_a_good_one(&accrual, &bad);
    let mut client = Client::connect(switchyard.addr(0));
    eventually("it is taken out", SOON, || {
        client.get("web", "/");
        (counted(&switchyard, "removals") == 1.0).then_some(())
    });
    assert!(begun.elapsed() >= Duration::from_secs(1), "not before the window is over: {:?}", begun.elapsed());
    let before = bad.count();
    assert!(before >= 5, "{before}");
    assert_eq!((ask(&switchyard, 40), bad.count(), available(&switchyard)), (0, before, Some(1.0)));
}

#[test]
fn f16_none_takes_nothing_out() {
    let bad = patterned(&[false]);
    let (switchyard, good) = beside_a_good_one("kind: none", &bad);
    assert_eq!(ask(&switchyard, 60), 30);
    assert_eq!((bad.count(), good.count(), available(&switchyard)), (30, 30, Some(2.0)));
    assert_eq!(counted(&switchyard, "removals"), 0.0);
}

/// A service that fails while it is told to; failures and the first success after them take their time. It remembers when
/// it was asked, and what it said.
struct Moody {
    backend: Backend,
    failing: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<(Instant, bool)>>>,
}

impl Moody {
    fn new() -> Moody {
        let (failing, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(Mutex::new(Vec::new())));
        let (mood, seen) = (failing.clone(), asked.clone());
        let backend = Backend::with(move |_: &Received| {
            let mut seen = seen.lock().expect("no panic");
            let failing = mood.load(Ordering::SeqCst);
            let after_a_failure = seen.last().is_none_or(|(_, failed)| *failed);
            seen.push((Instant::now(), failing));
            let reply = if failing { Reply::status(503) } else { Reply::text("fine") };
            if failing || after_a_failure { reply.after(PROBE_TAKES) } else { reply }
        });
        Moody { backend, failing, asked }
    }

    fn asked(&self) -> Vec<(Instant, bool)> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// Eight clients that ask without a pause until `told` returns. The number of 503 that they got.
fn under_load(addr: SocketAddr, told: impl FnOnce()) -> usize {
    let (stop, failed) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(addr);
                let begun = std::time::Instant::now();
                while !stop.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(300) {
                    let status = client.get("web", "/").status;
                    assert!(matches!(status, 200 | 503), "{status}");
                    failed.fetch_add(usize::from(status == 503), Ordering::SeqCst);
                }
            });
        }
        told();
    });
    failed.into_inner()
}

/// While eight requests are under way all the time, the address gets one request when its time is over, and no other one
/// until that is answered; after a failure it is out again; after a success it gets its share.
#[test]
fn f16_one_request_is_the_probe() {
    for backoff in ["{ kind: constant, ms: 300 }", "{ kind: jittered, minMs: 300, maxMs: 1000 }"] {
        let moody = Moody::new();
        let good = Backend::with(|_| Reply::text("fine").after(Duration::from_millis(4)));
        let switchyard = start(&format!("kind: io.l5d.consecutiveFailures, failures: 1, backoff: {backoff}"));
        switchyard.disco().set("web", &[good.addr(), moody.backend.addr()]);
        assert_eq!((ask(&switchyard, 2), counted(&switchyard, "removals")), (1, 1.0), "{backoff}");
        let failed = under_load(switchyard.addr(0), || {
            eventually("three probes fail", SOON, || (moody.backend.count() >= 4).then_some(()));
            assert_eq!((counted(&switchyard, "revivals"), available(&switchyard)), (0.0, Some(1.0)), "{backoff}");
            moody.failing.store(false, Ordering::SeqCst);
            eventually("a probe succeeds", SOON, || (counted(&switchyard, "revivals") == 1.0).then_some(()));
            let back = moody.backend.count();
            eventually("it has its share again", SOON, || (moody.backend.count() > back + 20).then_some(()));
        });
        let asked = moody.asked();
        let failures = asked.iter().filter(|(_, failed)| *failed).count();
        assert!(asked[failures..].iter().all(|(_, failed)| !failed));
        assert_eq!(failed, failures - 1, "{backoff}: who got the failures");
        // All failures but the first one were probes, and so was the first success.
        assert_eq!((counted(&switchyard, "probes"), counted(&switchyard, "removals")), (failures as f64, 1.0));
        let gap = |at: usize| asked[at].0.duration_since(asked[at - 1].0);
        for probe in 1..=failures {
            assert!(gap(probe) >= PROBE_TAKES + Duration::from_millis(300), "{backoff}: {:?}", gap(probe));
        }
        assert!(gap(failures + 1) >= PROBE_TAKES, "nobody else before the good probe is answered: {backoff}");
    }
}

/// The jittered back-off grows with each failed probe up to its end, and begins anew after a good one. The constant one
/// stays as it is.
#[test]
fn f16_after_a_failed_probe_it_stays_out_longer() {
    let moody = Moody::new();
    let accrual = "kind: io.l5d.consecutiveFailures, failures: 1, backoff: { kind: jittered, minMs: 50, maxMs: 1000 }";
    let (switchyard, _good) = beside_a_good_one(accrual, &moody.backend);
    assert_eq!(
        (ask(&switchyard, 2), counted(&switchyard, "removed_for_ms")),
        (1, 50.0),
        "the first time is the shortest"
    );
    let mut client = Client::connect(switchyard.addr(0));
    let mut times = vec![50.0];
    eventually("it stays out for three times as long", SOON, || {
        client.get("web", "/");
        let time = counted(&switchyard, "removed_for_ms") - times.iter().sum::<f64>();
        if time > 0.0 {
            times.push(time);
        }
        (time >= 150.0).then_some(())
    });
    // Each is cut to whole milliseconds.
    let grows = times.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] <= 3.0 * (pair[0] + 1.0));
    assert!(grows && times.iter().all(|time| *time <= 1000.0), "{times:?}");
    let asked = moody.asked();
    for (pair, time) in asked.windows(2).zip(&times) {
        let out = pair[1].0.duration_since(pair[0].0);
        assert!(out >= PROBE_TAKES + Duration::from_millis(*time as u64), "{out:?}, and not {time} ms");
    }

    moody.failing.store(false, Ordering::SeqCst);
    eventually("it is back", SOON, || {
        client.get("web", "/");
        (counted(&switchyard, "revivals") == 1.0).then_some(())
    });
    let before = counted(&switchyard, "removed_for_ms");
    moody.failing.store(true, Ordering::SeqCst);
    assert_eq!((ask(&switchyard, 2), counted(&switchyard, "removals")), (1, 2.0));
    assert_eq!(counted(&switchyard, "removed_for_ms") - before, 50.0, "after a success it begins with the shortest");
}

/// differences.md, "no address is open": what is left shares the requests, and one that takes connections goes before one
/// that has just refused.
#[test]
fn f16_when_no_address_is_left_requests_still_go_somewhere() {
    ["p2c", "roundRobin"].into_iter().for_each(when_no_address_is_left);
}

fn when_no_address_is_left(balancer: &str) {
    let accrual = format!("kind: io.l5d.consecutiveFailures, failures: 1, {FOR_LONG}");
    let works = Arc::new(AtomicBool::new(false));
    let service = || {
        let works = works.clone();
        Backend::with(move |_| if works.load(Ordering::SeqCst) { Reply::text("fine") } else { Reply::status(503) })
    };
    let (one, two, gone) = (service(), service(), Backend::text("gone"));
    let switchyard = start_balanced(balancer, &accrual);
    switchyard.disco().set("web", &[one.addr(), two.addr()]);
    eventually("both are out", SOON, || {
        ask(&switchyard, 1);
        (available(&switchyard) == Some(0.0)).then_some(())
    });
    assert_eq!(ask(&switchyard, 400), 400, "the answers are those of the services");
    // Were it by lot, one in a million of a million runs would give one of them less.
    assert!(one.count() >= 100 && two.count() >= 100, "{balancer}: {} and {}", one.count(), two.count());
    works.store(true, Ordering::SeqCst);
    assert_eq!(ask(&switchyard, 40), 0, "they work, although their time is not over");
    assert_eq!((counted(&switchyard, "removals"), counted(&switchyard, "probes")), (2.0, 0.0));

    gone.kill();
    switchyard.disco().set("web", &[one.addr(), gone.addr()]);
    switchyard.await_metric(&format!("{CLIENT}/loadbalancer/removes"), 1.0);
    let mut client = Client::connect(switchyard.addr(0));
    let statuses: Vec<u16> = (0..100).map(|_| client.get("web", "/").status).collect();
    assert!(statuses.iter().all(|status| matches!(status, 200 | 502)), "{statuses:?}");
    // Who asks the other one when its time is over gets 502, and the time doubles.
    let refused = statuses.iter().filter(|status| **status == 502).count();
    assert!((1..=10).contains(&refused), "{balancer}: {refused} of 100 went to the address that refuses");
}
