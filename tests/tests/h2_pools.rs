//! As an operator, I bound the connections of HTTP/2 to each address of a service as those of HTTP/1
//! (`hostConnectionPool`); who finds no room waits in line, and no worker waits for another one.

use e2e::h2::{Answer, Ask, Caller, Gate, H2_CONFIG, Knobs, Origin, Step, story, with, within};
use e2e::{Switchyard, eventually};
use std::time::Duration;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(10);
const CLIENT: &str = "rt/h2/client/#/io.l5d.fs/web";

fn start(pool: &str, workers: &str, origin: &Origin) -> Switchyard {
    let config = with(H2_CONFIG, &format!("client: {{ hostConnectionPool: {pool} }}"));
    let switchyard = Switchyard::start_with(&config, &["--workers", workers]);
    switchyard.disco().set("web", &[origin.addr()]);
    switchyard
}

fn metric(switchyard: &Switchyard, name: &str) -> f64 {
    switchyard.metric(&format!("{CLIENT}/{name}")).unwrap_or_default()
}

/// A service that takes so many streams of a connection. It answers `/` at once, and what has the number of a gate as its
/// path when that is open.
fn gated(streams: u32, gates: &[Gate]) -> Origin {
    let gates = gates.to_vec();
    Origin::tuned(Knobs { streams: Some(streams), ..Knobs::default() }, move |asked| {
        let gate = asked.uri.path()[1..].parse::<usize>().ok();
        gate.map_or_else(|| Step::text("done"), |number| Step::held(&gates[number], "done"))
    })
}

/// So many clients, one connection each, so that all workers have some.
async fn callers(switchyard: &Switchyard, n: usize) -> Vec<Caller> {
    let mut callers = Vec::new();
    for _ in 0..n {
        callers.push(Caller::connect(switchyard.addr(0)).await);
    }
    callers
}

async fn all_done(asking: Vec<JoinHandle<Result<Answer, h2::Error>>>) {
    for asked in asking {
        let answer = within("an answer", SOON, asked).await.expect("no panic").expect("no reset");
        assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
    }
}

#[test]
fn the_size_of_a_pool_holds_over_all_workers_and_the_others_wait() {
    story(async {
        let gate = Gate::default();
        let origin = gated(2, std::slice::from_ref(&gate));
        let switchyard = start("{ maxSize: 3 }", "2", &origin);
        let callers = callers(&switchyard, 12).await;
        // One after the other, so that each worker has one connection.
        for caller in &callers {
            all_done(vec![caller.ask_later(&Ask::get("web", "/"))]).await;
        }
        let twice = callers.iter().chain(&callers);
        let asking: Vec<_> = twice.map(|caller| caller.ask_later(&Ask::get("web", "/0"))).collect();
        switchyard.await_metric(&format!("{CLIENT}/pool_waiters"), 24.0 - 6.0);
        eventually("all that may be are open", SOON, || (origin.open() == 6).then_some(()));
        assert_eq!(metric(&switchyard, "pool_size"), 3.0);
        gate.open();
        all_done(asking).await;
        assert_eq!((origin.count(), origin.cancels().len()), (12 + 24, 0), "none was refused");
        assert_eq!((metric(&switchyard, "pool_waiters"), metric(&switchyard, "pool_num_too_many_waiters")), (0.0, 0.0));
        eventually("all are unused, and no more than may be", SOON, || {
            let (unused, size) = (metric(&switchyard, "pool_cached"), metric(&switchyard, "pool_size"));
            (unused == size && size <= 3.0).then_some(())
        });
    });
}

/// Each worker has its own connections; one that needs more gets the place of one that another worker does not need.
#[test]
fn an_unused_connection_of_one_worker_is_no_obstacle_to_another() {
    story(async {
        let gates: Vec<Gate> = (0..12).map(|_| Gate::default()).collect();
        let origin = gated(1, &gates);
        let switchyard = start("{ maxSize: 3 }", "2", &origin);
        for (number, caller) in callers(&switchyard, gates.len()).await.iter().enumerate() {
            let ask = Ask::get("web", &format!("/{number}"));
            let asking = vec![caller.ask_later(&ask), caller.ask_later(&ask)];
            eventually("both are open", SOON, || (origin.open() == 2).then_some(()));
            gates[number].open();
            all_done(asking).await;
        }
    });
}

/// More than the limit are there when a worker with several is busy and another one needs its first.
#[test]
fn what_is_above_the_size_is_given_up() {
    story(async {
        let gate = Gate::default();
        let origin = gated(1, std::slice::from_ref(&gate));
        let switchyard = start("{ maxSize: 2 }", "2", &origin);
        let callers = callers(&switchyard, 12).await;
        let mut asking: Vec<_> = (0..2).map(|_| callers[0].ask_later(&Ask::get("web", "/0"))).collect();
        eventually("one worker has both places", SOON, || (origin.open() == 2).then_some(()));
        asking.extend(callers.iter().map(|caller| caller.ask_later(&Ask::get("web", "/0"))));
        // One for the other worker, if it has any of these clients.
        eventually("all others wait", SOON, || {
            let waiting = metric(&switchyard, "pool_waiters");
            (waiting + origin.open() as f64 == 14.0 && waiting >= 11.0).then_some(())
        });
        gate.open();
        all_done(asking).await;
        eventually("two are left", SOON, || {
            (origin.live() == 2 && metric(&switchyard, "pool_size") == 2.0).then_some(())
        });
    });
}

/// Streams that end make room for those who wait, without another connection.
#[test]
fn who_waits_gets_the_next_stream_of_the_connection_that_is_there() {
    story(async {
        let origin = Origin::tuned(Knobs { streams: Some(3), ..Knobs::default() }, |_| {
            [vec![Step::Wait(Duration::from_millis(10))], Step::text("done")].concat()
        });
        let switchyard = start("{ maxSize: 1 }", "1", &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let asking: Vec<_> = (0..40).map(|_| caller.ask_later(&Ask::get("web", "/"))).collect();
        all_done(asking).await;
        assert_eq!((origin.connections(), origin.most_open(), origin.count()), (1, 3, 40));
        assert!(metric(&switchyard, "pool_num_waited") >= 1.0);
    });
}

#[test]
fn more_than_may_wait_are_refused_at_once() {
    story(async {
        let gate = Gate::default();
        let origin = gated(1, std::slice::from_ref(&gate));
        let switchyard = start("{ maxSize: 1, maxWaiters: 2 }", "1", &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let first = caller.ask_later(&Ask::get("web", "/0"));
        eventually("the connection is in use", SOON, || (origin.open() == 1).then_some(()));
        let waiting = (0..2).map(|_| caller.ask_later(&Ask::get("web", "/0")));
        let asking: Vec<_> = [first].into_iter().chain(waiting).collect();
        switchyard.await_metric(&format!("{CLIENT}/pool_waiters"), 2.0);
        for _ in 0..5 {
            let refused = within("a refusal", SOON, caller.ask(&Ask::get("web", "/"))).await;
            assert_eq!(refused.status, 502);
            assert!(refused.text().contains("2 requests wait for one already"), "{}", refused.text());
            assert!(refused.headers.get("l5d-retryable").is_some_and(|value| value == "true"), "nothing was sent");
        }
        assert_eq!((metric(&switchyard, "pool_num_too_many_waiters"), metric(&switchyard, "pool_waiters")), (5.0, 2.0));
        switchyard.await_metric("rt/h2/service/svc/web/failures/com.twitter.finagle.TooManyWaitersException", 5.0);
        gate.open();
        all_done(asking).await;
        assert_eq!((origin.connections(), origin.count()), (1, 3));
    });
}

/// A stream cannot move to another worker, so none waits for a stream of hours there.
#[test]
fn each_worker_has_a_connection_whatever_the_size() {
    story(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::with(move |asked| match asked.uri.path() {
            "/long" => Step::held(&held, "done"),
            _ => Step::text("done"),
        });
        let switchyard = start("{ maxSize: 1 }", "2", &origin);
        let callers = callers(&switchyard, 12).await;
        let long = callers[0].ask_later(&Ask::get("web", "/long"));
        eventually("it is open", SOON, || (origin.open() == 1).then_some(()));
        for _ in 0..10 {
            all_done(callers.iter().map(|caller| caller.ask_later(&Ask::get("web", "/"))).collect()).await;
        }
        assert!(origin.live() <= 2 && origin.connections() <= 2, "{} of {}", origin.live(), origin.connections());
        assert_eq!(metric(&switchyard, "pool_num_waited"), 0.0);
        gate.open();
        all_done(vec![long]).await;
    });
}

/// GOAWAY: what the connection serves goes on, and others need not wait for its end.
#[test]
fn a_connection_that_retires_leaves_its_place() {
    story(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::with(move |asked| match asked.uri.path() {
            "/long" => Step::held(&held, "done"),
            "/retire" => [vec![Step::Retire], Step::text("done")].concat(),
            _ => Step::text("done"),
        });
        let switchyard = start("{ maxSize: 1 }", "1", &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let long = caller.ask_later(&Ask::get("web", "/long"));
        eventually("it is open", SOON, || (origin.open() == 1).then_some(()));
        all_done(vec![caller.ask_later(&Ask::get("web", "/retire"))]).await;
        // The news may come after the first of these.
        for _ in 0..20 {
            all_done(vec![caller.ask_later(&Ask::get("web", "/"))]).await;
        }
        assert_eq!((origin.connections(), origin.live(), metric(&switchyard, "pool_size")), (2, 2, 1.0));
        gate.open();
        all_done(vec![long]).await;
        eventually("it is closed", SOON, || (origin.live() == 1).then_some(()));
    });
}
