//! GOAWAY, received and sent: connections retire and no stream is lost, in a rolling restart of the services or of the
//! router. Linkerd 1 never sent one, and reset all streams when it received one.

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::h2::{
    Answer, Ask, Caller, Frame, Gate, H2_CONFIG, Origin, RawOrigin, Step, Wire, kind, pattern, story, within,
};
use e2e::{Switchyard, eventually};
use http::HeaderMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

/// One worker, so that all streams share a connection, and more time to drain than a story waits for the end.
fn start(addrs: &[SocketAddr]) -> Switchyard {
    let switchyard = Switchyard::start_with(H2_CONFIG, &["--workers", "1", "--grace", "600s"]);
    switchyard.disco().set("web", addrs);
    switchyard
}

/// Holds calls of `/held`, then answers with 100,000 bytes.
fn holding(gate: &Gate) -> Origin {
    let held = gate.clone();
    Origin::with(move |asked| match asked.uri.path() {
        "/held" => vec![
            Step::Head(200, HeaderMap::new()),
            Step::Pattern(10),
            Step::Hold(held.clone()),
            Step::Data(pattern(10, 99_990)),
        ],
        "/retire" => vec![Step::Retire, Step::Head(200, HeaderMap::new()), Step::Data("bye".into())],
        _ => Step::text("hello"),
    })
}

/// A router with five calls of one client that are held.
struct Held {
    gate: Gate,
    origin: Origin,
    switchyard: Switchyard,
    caller: Caller,
    calls: Vec<JoinHandle<Result<Answer, h2::Error>>>,
}

impl Held {
    async fn begin() -> Held {
        let gate = Gate::default();
        let origin = holding(&gate);
        let switchyard = start(&[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let calls = (0..5).map(|_| caller.ask_later(&Ask::get("web", "/held"))).collect();
        eventually("all are open", SOON, || (origin.open() == 5).then_some(()));
        Held { gate, origin, switchyard, caller, calls }
    }

    /// Lets them go on; all come to a good end.
    async fn end(&mut self) {
        self.gate.open();
        for asked in self.calls.drain(..) {
            let answer = within("a held call", SOON, asked).await.expect("no panic").expect("no reset");
            assert!(answer.body == pattern(0, 100_000));
        }
    }
}

#[test]
fn a_received_goaway_loses_no_stream() {
    story(async {
        let mut held = Held::begin().await;
        let (caller, origin) = (&held.caller, &held.origin);
        assert_eq!(caller.ask(&Ask::get("web", "/retire")).await.text(), "bye");
        for _ in 0..20 {
            assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        }
        assert!(origin.connections() >= 2, "new streams have a new connection");
        held.end().await;
        assert!(!held.caller.is_closed(), "the client has nothing to do with it");
    });
}

/// A rolling restart of a service under load.
#[test]
fn services_that_retire_under_load_cost_no_call() {
    story(async {
        let origins: Vec<Origin> = (0..2)
            .map(|_| {
                Origin::with(|asked| match asked.number % 25 {
                    24 => vec![Step::Retire, Step::Read, Step::Head(200, HeaderMap::new()), Step::Data("hello".into())],
                    _ => [vec![Step::Read, Step::Wait(Duration::from_millis(2))], Step::text("hello")].concat(),
                })
            })
            .collect();
        let switchyard = Switchyard::start(H2_CONFIG);
        switchyard.disco().set("web", &[origins[0].addr(), origins[1].addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        for _ in 0..50 {
            let asking: Vec<_> = (0..20).map(|_| caller.ask_later(&Ask::post("web", "/", "a body"))).collect();
            for asked in asking {
                let answer = within("an answer", SOON, asked).await.expect("no panic").expect("no reset");
                assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
            }
        }
        let asked: usize = origins.iter().map(Origin::count).sum();
        assert_eq!(asked, 1000, "no call ran twice");
        assert!(origins.iter().map(Origin::connections).sum::<u64>() >= 20, "connections did retire");
    });
}

/// Answers the first stream of the first connection. Of the next three, it says that the last two were not processed.
fn forgetful(heads: Arc<AtomicUsize>) -> RawOrigin {
    let answer = |stream| [Frame::headers(stream, &[(":status", "200")], false), Frame::data(stream, b"done", true)];
    RawOrigin::with(move |mut wire, connection| {
        let heads = heads.clone();
        async move {
            let mut streams = Vec::new();
            while let Some(frame) = wire.next().await {
                if frame.kind != kind::HEADERS {
                    continue;
                }
                heads.fetch_add(1, Ordering::SeqCst);
                streams.push(frame.stream);
                if connection > 0 || streams.len() == 1 {
                    wire.send_all(&answer(frame.stream)).await.expect("sent");
                } else if streams.len() == 4 {
                    wire.send(&Frame::goaway(streams[1], 0)).await.expect("sent");
                    wire.send_all(&answer(streams[1])).await.expect("sent");
                }
            }
        }
    })
}

#[test]
fn streams_that_a_goaway_disowns_are_tried_elsewhere() {
    story(async {
        let heads = Arc::new(AtomicUsize::new(0));
        let origin = forgetful(heads.clone());
        let switchyard = start(&[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "done");
        // A body that has been sent, and is small, is no obstacle: nobody has processed it.
        let asks = [Ask::get("web", "/"), Ask::get("web", "/"), Ask::post("web", "/", "a body")];
        let asking: Vec<_> = asks.iter().map(|ask| caller.ask_later(ask)).collect();
        for asked in asking {
            let answer = within("an answer", SOON, asked).await.expect("no panic").expect("no reset");
            assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
        }
        assert_eq!((heads.load(Ordering::SeqCst), origin.connections()), (6, 2), "two were sent twice");
    });
}

/// RFC 9113, 8.7: a refused stream was not processed.
#[test]
fn refused_streams_are_tried_again_whatever_they_ask() {
    story(async {
        let origin = Origin::with(|asked| match asked.number {
            0 | 2 => vec![Step::Reset(7)],
            _ => Step::sum(),
        });
        let switchyard = start(&[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.status, 200);
        let answer = caller.ask(&Ask::post("web", "/", "a body")).await;
        assert_eq!(answer.text(), e2e::h2::Sum::of(b"a body").to_string());
        assert_eq!(origin.count(), 4);
    });
}

/// Nobody knows what became of streams that were processed: they are not tried again.
#[test]
fn a_cut_connection_repeats_nothing_that_may_have_happened() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path() {
            "/cut" => vec![Step::Read, Step::Abort(2)],
            _ => Step::text("hello"),
        });
        let switchyard = start(&[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        let ended = within("an end", SOON, caller.try_ask(&Ask::post("web", "/cut", "pay 5"))).await;
        assert!(ended.as_ref().map_or(true, |answer| answer.status >= 500), "{ended:?}");
        assert_eq!(origin.count(), 2, "the payment was made once");
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
    });
}

#[test]
fn a_router_that_drains_sends_goaway_and_finishes_open_streams() {
    story(async {
        let mut held = Held::begin().await;
        let router = held.switchyard.addr(0);
        let mut wire = Wire::client(router, &[]).await;
        wire.send(&Frame::headers(1, GET, true)).await.expect("sent");
        wire.until(SOON, |frame| frame.kind == kind::DATA).await.expect("an answer");
        let mut idle = Wire::client(router, &[]).await;
        idle.until(SOON, |frame| frame.kind == kind::SETTINGS).await.expect("settings");
        held.switchyard.signal_term();
        for wire in [&mut wire, &mut idle] {
            let goaway = wire.until(SOON, |frame| frame.kind == kind::GOAWAY).await.expect("a goodbye");
            assert_eq!(goaway.number(4), Some(0), "NO_ERROR");
            assert!(wire.until(SOON, |_| false).await.is_none(), "a connection without a stream ends");
        }
        held.end().await;
        let Held { caller, switchyard, .. } = held;
        assert!(within("the end of the connection", SOON, caller.closed()).await.is_ok(), "a good end");
        assert!(switchyard.wait_exit(SOON).success(), "it does not wait for the whole grace period");
    });
}

/// A connection that is closed while the client still sends is reset, and what was said last is lost with it.
#[test]
fn a_client_may_speak_until_it_has_seen_the_end() {
    // A busy machine may be slow once: the quickest of some counts.
    let mut waits = (0..8).map(|_| wait_after_the_end_of_the_client());
    assert!(waits.any(|waited| waited < Duration::from_millis(700)), "it waits no longer than for the client");
}

/// How long a router that drains goes on after a client that spoke on after the goodbye has closed its connection.
fn wait_after_the_end_of_the_client() -> Duration {
    let (told, heard) = std::sync::mpsc::channel();
    story(async move {
        let origin = Origin::text("hello");
        let switchyard = start(&[origin.addr()]);
        let mut wire = Wire::client(switchyard.addr(0), &[]).await;
        wire.send(&Frame::headers(1, GET, true)).await.expect("sent");
        wire.until(SOON, |frame| frame.kind == kind::DATA).await.expect("an answer");
        switchyard.signal_term();
        wire.until(SOON, |frame| frame.kind == kind::GOAWAY).await.expect("a goodbye");
        assert!(wire.until(SOON, |_| false).await.is_none(), "the router has said all");
        let said_all = Instant::now();
        for _ in 0..10 {
            let sent = wire.send(&Frame::window(0, 10)).await;
            // It has a second: on a busy machine that may be over.
            assert!(sent.is_ok() || said_all.elapsed() > Duration::from_millis(500), "still taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let closed = Instant::now();
        drop(wire);
        assert!(switchyard.wait_exit(SOON).success());
        told.send(closed.elapsed()).expect("the story is heard");
    });
    heard.recv().expect("the story tells it")
}

/// The same for one that never ends: it has a second.
#[test]
fn a_client_that_does_not_close_is_waited_for_a_second() {
    story(async {
        let switchyard = start(&[]);
        let mut wire = Wire::client(switchyard.addr(0), &[]).await;
        let at = Instant::now();
        wire.send(&Frame::data(1, b"of no stream", true)).await.expect("sent");
        let goaway = wire.until(SOON, |frame| frame.kind == kind::GOAWAY).await.expect("a goodbye");
        assert_eq!(goaway.number(4), Some(1), "PROTOCOL_ERROR");
        while wire.send(&Frame::window(0, 10)).await.is_ok() {
            assert!(at.elapsed() < SOON, "it is still taken");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(at.elapsed() > Duration::from_millis(500), "{:?}", at.elapsed());
        let counted = || switchyard.series("rejected_total{reason=\"h2-protocol\"}");
        eventually("it is counted", SOON, || counted().filter(|count| *count == 1.0));
    });
}

/// Two steps (RFC 9113, 6.8): what a client sent before it knew is served.
#[test]
fn streams_that_cross_the_goaway_are_served() {
    story(async {
        let origin = Origin::text("hello");
        let switchyard = start(&[origin.addr()]);
        let mut wire = Wire::client(switchyard.addr(0), &[]).await;
        wire.send(&Frame::headers(1, GET, true)).await.expect("sent");
        wire.until(SOON, |frame| frame.kind == kind::DATA).await.expect("an answer");
        wire.polite = false;
        switchyard.signal_term();
        let first = wire.until(SOON, |frame| frame.kind == kind::GOAWAY).await.expect("a goodbye");
        assert_eq!((first.number(0), first.number(4)), (Some(i32::MAX as u32), Some(0)), "streams may still come");
        wire.send(&Frame::headers(3, GET, true)).await.expect("sent");
        let head = wire.until(SOON, |frame| frame.kind == kind::HEADERS).await.expect("an answer");
        assert_eq!((head.stream, head.status()), (3, Some(200)));
        drop(wire);
        assert!(switchyard.wait_exit(SOON).success());
    });
}

#[test]
fn a_stream_that_never_ends_is_cut_at_the_grace_period() {
    story(async {
        let origin = Origin::with(|_| vec![Step::Hang]);
        let switchyard = Switchyard::start_with(H2_CONFIG, &["--grace", "500ms"]);
        switchyard.disco().set("web", &[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let asked = caller.ask_later(&Ask::get("web", "/"));
        eventually("it is open", SOON, || (origin.open() == 1).then_some(()));
        let at = Instant::now();
        switchyard.signal_term();
        assert!(within("an end", SOON, asked).await.expect("no panic").is_err(), "cut");
        assert!(at.elapsed() > Duration::from_millis(400), "{:?}", at.elapsed());
        assert!(switchyard.wait_exit(SOON).success());
        assert!(at.elapsed() < Duration::from_secs(9), "less than without the option: {:?}", at.elapsed());
    });
}

/// Calls under way while the process is asked to end: all that were accepted are answered.
#[test]
fn a_signal_under_load_breaks_no_call() {
    story(async {
        let origin = Origin::with(|_| [vec![Step::Wait(Duration::from_millis(5))], Step::text("hello")].concat());
        let switchyard = Switchyard::start(H2_CONFIG);
        switchyard.disco().set("web", &[origin.addr()]);
        let mut asking = Vec::new();
        for _ in 0..4 {
            let caller = Caller::connect(switchyard.addr(0)).await;
            asking.push(tokio::spawn(async move {
                for answered in 0..100_000 {
                    match caller.try_ask(&Ask::get("web", "/")).await {
                        Ok(answer) => assert_eq!(answer.text(), "hello"),
                        // A stream that the goodbye disowned was not accepted; a client tries it elsewhere.
                        Err(error) if error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM) => {
                            return answered;
                        }
                        Err(error) if error.is_io() || caller.is_closed() => return answered,
                        Err(error) => panic!("a call broke off: {error}"),
                    }
                }
                panic!("the router does not end");
            }));
        }
        eventually("load runs", SOON, || (origin.count() > 200).then_some(()));
        switchyard.signal_term();
        let mut answered = 0;
        for asked in asking {
            answered += within("the load ends", SOON, asked).await.expect("no call broke off");
        }
        assert_eq!(answered, origin.count(), "what reached the service reached the client");
        assert!(switchyard.wait_exit(SOON).success());
    });
}
