//! Issue 5, item 4: calls are balanced one by one, as many connections as needed are made and no more, those that nobody
//! needs are closed, and those that are dead are found out.

use e2e::h2::{
    Ask, Caller, Frame, Gate, H2_CONFIG, Knobs, Origin, RawOrigin, Relay, Step, Wire, flag, kind, mute, story, with,
    within,
};
use e2e::{Issued, Switchyard, eventually, holds_for};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const ENDPOINT: &str = "rt/h2/client/#/io.l5d.fs/web";
const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

fn start(config: &str, addrs: &[SocketAddr]) -> Switchyard {
    let switchyard = Switchyard::start(config);
    switchyard.disco().set("web", addrs);
    switchyard
}

/// The usual config with these keys in the server.
fn serving(keys: &str) -> String {
    H2_CONFIG.replace("port: @P0@", &format!("port: @P0@, {keys}"))
}

/// Why gRPC needs a proxy that knows it: connections are balanced by anybody.
#[test]
fn the_calls_of_one_connection_are_balanced() {
    story(async {
        let origins: Vec<Origin> = (0..3).map(|i| Origin::text(&i.to_string())).collect();
        let addrs: Vec<SocketAddr> = origins.iter().map(Origin::addr).collect();
        let switchyard = start(H2_CONFIG, &addrs);
        let caller = Caller::connect(switchyard.addr(0)).await;
        const CALLS: usize = 300;
        for _ in 0..CALLS / 30 {
            let asking: Vec<_> = (0..30).map(|_| caller.ask_later(&Ask::get("web", "/"))).collect();
            for asked in asking {
                assert_eq!(asked.await.expect("no panic").expect("an answer").status, 200);
            }
        }
        let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
        assert_eq!(counts.iter().sum::<usize>(), CALLS, "{counts:?}");
        assert!(counts.iter().all(|count| *count > CALLS / 6), "{counts:?}");
    });
}

/// Long calls count where they run: who has many gets no more.
#[test]
fn calls_go_where_fewer_are_open() {
    story(async {
        let gate = Gate::default();
        let origins = [Origin::held(&gate, "done"), Origin::held(&gate, "done")];
        let switchyard = Switchyard::start_with(H2_CONFIG, &["--workers", "1"]);
        switchyard.disco().set("web", &[origins[0].addr(), origins[1].addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let asking: Vec<_> = (0..40).map(|_| caller.ask_later(&Ask::get("web", "/"))).collect();
        eventually("all are open", SOON, || (origins.iter().map(Origin::open).sum::<usize>() == 40).then_some(()));
        let open = [origins[0].open(), origins[1].open()];
        assert!(open[0].abs_diff(open[1]) <= 10, "{open:?}");
        gate.open();
        for asked in asking {
            assert_eq!(asked.await.expect("no panic").expect("an answer").text(), "done");
        }
    });
}

/// Linkerd 1 let streams beyond the limit fail.
#[test]
fn a_hundred_calls_are_served_by_a_service_that_takes_ten_at_once() {
    story(async {
        let origin = Origin::tuned(Knobs { streams: Some(10), ..Knobs::default() }, |_| {
            [vec![Step::Wait(Duration::from_millis(20))], Step::text("done")].concat()
        });
        let switchyard = start(H2_CONFIG, &[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let asking: Vec<_> = (0..100).map(|_| caller.ask_later(&Ask::get("web", "/"))).collect();
        for asked in asking {
            let answer = within("an answer", SOON, asked).await.expect("no panic").expect("no reset");
            assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
        }
        assert_eq!((origin.count(), origin.cancels().len()), (100, 0), "none was refused");
        assert!(origin.connections() >= 2, "full ones are joined by others");
    });
}

/// Answers what is open when nothing comes for 50 ms; tells the most that were open at once.
async fn one_at_a_time(mut wire: Wire, most: Arc<AtomicUsize>) {
    wire.send(&Frame::settings(&[(3, 1)])).await.expect("sent");
    let mut open = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(50), wire.next()).await {
            Ok(None) => return,
            Ok(Some(frame)) if frame.kind == kind::HEADERS => open.push(frame.stream),
            Ok(Some(_)) => {}
            Err(_) => {
                most.fetch_max(open.len(), Ordering::SeqCst);
                let heads: Vec<_> =
                    open.drain(..).map(|stream| Frame::headers(stream, &[(":status", "200")], true)).collect();
                if wire.send_all(&heads).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[test]
fn a_service_that_takes_one_stream_is_obeyed() {
    story(async {
        let most = Arc::new(AtomicUsize::new(0));
        let seen = most.clone();
        let raw = RawOrigin::with(move |wire, _| one_at_a_time(wire, seen.clone()));
        let switchyard = start(H2_CONFIG, &[raw.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        caller.ask(&Ask::get("web", "/")).await;
        // From now on the router knows.
        most.store(0, Ordering::SeqCst);
        let asking: Vec<_> = (0..10).map(|_| caller.ask_later(&Ask::get("web", "/"))).collect();
        for asked in asking {
            let answer = within("an answer", 2 * SOON, asked).await.expect("no panic");
            assert_eq!(answer.expect("no reset").status, 200);
        }
        // New connections begin with what they are told last; the protocol lets them have more streams until then.
        let connections = usize::try_from(raw.connections()).expect("a number");
        let most = most.load(Ordering::SeqCst);
        assert!(most == 1 || connections > 1, "{most} streams at once on the only connection");
    });
}

#[test]
fn a_client_has_as_many_streams_as_the_listener_says() {
    story(async {
        let gate = Gate::default();
        let origin = Origin::held(&gate, "done");
        let switchyard = start(&serving("maxConcurrentStreamsPerConnection: 3"), &[origin.addr()]);
        let mut wire = Wire::client(switchyard.addr(0), &[]).await;
        let settings = wire.until(SOON, |frame| frame.kind == kind::SETTINGS && !frame.has(flag::ACK)).await;
        let settings = settings.expect("settings").payload;
        let limit = settings.chunks(6).find(|pair| pair[..2] == [0, 3]).expect("MAX_CONCURRENT_STREAMS");
        assert_eq!(limit[2..], [0, 0, 0, 3]);
        for stream in [1, 3, 5, 7] {
            wire.send(&Frame::headers(stream, GET, true)).await.expect("sent");
        }
        let reset = wire.until(SOON, |frame| frame.kind == kind::RST_STREAM).await.expect("a refusal");
        assert_eq!((reset.stream, reset.number(0)), (7, Some(7)), "REFUSED_STREAM");
        eventually("the others are open", SOON, || (origin.open() == 3).then_some(()));
        gate.open();
        let mut heads = Vec::new();
        while heads.len() < 3 {
            let head = wire.until(SOON, |frame| frame.kind == kind::HEADERS).await.expect("an answer");
            heads.push((head.stream, head.status()));
        }
        heads.sort_unstable();
        assert_eq!(heads, [(1, Some(200)), (3, Some(200)), (5, Some(200))]);
    });
}

#[test]
fn a_connection_that_nobody_needs_is_closed() {
    story(async {
        let origin = Origin::text("hello");
        let config = with(H2_CONFIG, "client: { hostConnectionPool: { minSize: 0, idleTimeMs: 200 } }");
        let switchyard = start(&config, &[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        eventually("it is closed", SOON, || (origin.live() == 0).then_some(()));
        assert_eq!(origin.broken(), Vec::<String>::new(), "with a goodbye");
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        assert_eq!(origin.connections(), 2);
    });
}

#[test]
fn a_connection_with_a_stream_is_not_idle() {
    story(async {
        let origin = Origin::with(|_| [vec![Step::Wait(Duration::from_secs(1))], Step::text("done")].concat());
        let config = with(H2_CONFIG, "client: { hostConnectionPool: { minSize: 0, idleTimeMs: 100 } }");
        let switchyard = start(&config, &[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "done");
        assert_eq!((origin.connections(), origin.cancels().len()), (1, 0));
    });
}

#[test]
fn connections_to_an_endpoint_that_is_gone_are_closed_after_their_streams() {
    story(async {
        let gate = Gate::default();
        let old = Origin::held(&gate, "old");
        let new = Origin::text("new");
        let switchyard = start(H2_CONFIG, &[old.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let asked = caller.ask_later(&Ask::get("web", "/"));
        eventually("it is open", SOON, || (old.open() == 1).then_some(()));
        switchyard.disco().set("web", &[new.addr()]);
        // A call to the old address would wait for the gate.
        within("new calls go to the new address", SOON, async {
            loop {
                let asked = tokio::time::timeout(Duration::from_secs(1), caller.try_ask(&Ask::get("web", "/"))).await;
                if asked.is_ok_and(|answer| answer.expect("an answer").text() == "new") {
                    return;
                }
            }
        })
        .await;
        gate.open();
        assert_eq!(within("the old call", SOON, asked).await.expect("no panic").expect("an answer").text(), "old");
        eventually("the old connection is closed", SOON, || (old.live() == 0).then_some(()));
    });
}

/// One limit is for all of a connection; the error says what was still missing when it was over.
#[test]
fn a_connection_that_is_not_ready_in_time_says_what_was_missing() {
    story(async {
        let Issued { ca, files, .. } = &Issued::to("web.example");
        let tls = format!("tls: {{ commonName: web.example, trustCerts: [{}] }}", ca.display());
        let sections = ["plain", "shaken", "deaf"].map(|name| {
            let tls = if name == "plain" { "connectTimeoutMs: 3000" } else { &tls };
            format!("{{ prefix: '/#/io.l5d.fs/{name}', {tls} }}")
        });
        let client = format!(
            "client: {{ kind: io.l5d.static, configs: [{{ prefix: /, connectTimeoutMs: 3000 }}, {}] }}",
            sections.join(", ")
        );
        let switchyard = Switchyard::start(&with(H2_CONFIG, &client));
        let cases = [
            ("plain", mute(None), "connected, but HTTP/2 was not begun: no SETTINGS within 3.seconds"),
            (
                "shaken",
                mute(Some(files)),
                "connected, and the TLS handshake was done, but HTTP/2 was not begun: no SETTINGS within 3.seconds",
            ),
            ("deaf", mute(None), "TLS: the handshake was not done within 3.seconds"),
        ];
        let caller = Caller::connect(switchyard.addr(0)).await;
        let asking = cases.map(|(name, addr, wanted)| {
            switchyard.disco().set(name, &[addr]);
            (caller.ask_later(&Ask::get(name, "/")), wanted)
        });
        for (asked, wanted) in asking {
            let answer = within("an answer", 3 * SOON, asked).await.expect("no panic").expect("no reset");
            assert_eq!(answer.status, 502);
            assert!(answer.text().contains(wanted), "{}", answer.text());
            let status = answer.headers.get("proxy-status").and_then(|value| value.to_str().ok()).unwrap_or_default();
            assert!(status.contains("error=connection_timeout"), "{status}");
        }
    });
}

/// A host that lost its power closes no connection.
#[test]
fn a_service_that_fell_silent_is_found_by_ping() {
    story(async {
        // A request that may be sent again is answered when it comes by a new connection.
        let origin = Origin::with(|asked| match (asked.uri.path(), asked.connection) {
            ("/hang", 0) => vec![Step::Hang],
            _ => Step::text("hello"),
        });
        let relay = Relay::to(origin.addr());
        let config = with(H2_CONFIG, "client: { pingIntervalMs: 300, pingTimeoutMs: 2000 }");
        let switchyard = Switchyard::start_with(&config, &["--workers", "1"]);
        switchyard.disco().set("web", &[relay.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        // Signs of life are enough: nothing is closed.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        assert_eq!(relay.connections(), 1, "a service that answers PING is alive");
        let hanging = caller.ask_later(&Ask::get("web", "/hang"));
        eventually("it is open", SOON, || (origin.open() == 1).then_some(()));
        let at = Instant::now();
        relay.swallow();
        let ended = within("the hanging call ends", SOON, hanging).await.expect("no panic");
        assert!(at.elapsed() < Duration::from_secs(8), "before it would without keys: {:?}", at.elapsed());
        assert!(ended.is_err() || ended.is_ok_and(|answer| answer.status >= 500 || answer.text() == "hello"));
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        assert_eq!(relay.connections(), 2);
        switchyard.await_metric(&format!("{ENDPOINT}/failure_detector/close"), 1.0);
        assert!(switchyard.metric(&format!("{ENDPOINT}/failure_detector/ping")).unwrap_or(0.0) >= 2.0);
    });
}

/// The same without keys: as Linkerd 1, PING after five seconds, and four to answer.
#[test]
fn silence_is_found_without_a_key() {
    story(async {
        let origin = Origin::text("hello");
        let relay = Relay::to(origin.addr());
        let switchyard = Switchyard::start_with(H2_CONFIG, &["--workers", "1"]);
        switchyard.disco().set("web", &[relay.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        relay.swallow();
        // Whatever becomes of those that were sent into the hole, none hangs.
        let lost = within("an end", SOON, caller.ask_later(&Ask::get("web", "/"))).await;
        assert!(lost.is_ok());
        assert_eq!(within("an answer", SOON, caller.ask(&Ask::get("web", "/"))).await.text(), "hello");
    });
}

#[test]
fn a_client_that_fell_silent_is_closed_and_one_that_only_waits_is_not() {
    story(async {
        let origin = Origin::text("hello");
        let switchyard = start(&serving("pingIntervalMs: 200, pingTimeoutMs: 2000"), &[origin.addr()]);
        let mut silent = Wire::client(switchyard.addr(0), &[]).await;
        silent.polite = false;
        let waiting = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(waiting.ask(&Ask::get("web", "/")).await.text(), "hello");
        silent.until(SOON, |frame| frame.kind == kind::PING).await.expect("a question");
        assert!(silent.until(SOON, |_| false).await.is_none(), "the connection ends");
        holds_for("who answers stays", Duration::from_secs(3), || !waiting.is_closed());
        assert_eq!(waiting.ask(&Ask::get("web", "/")).await.text(), "hello");
    });
}

#[test]
fn streams_are_counted_while_they_are_open() {
    story(async {
        let gate = Gate::default();
        let origin = Origin::held(&gate, "done");
        let switchyard = start(H2_CONFIG, &[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let asking: Vec<_> = (0..7).map(|_| caller.ask_later(&Ask::get("web", "/"))).collect();
        let server = format!("rt/h2/server/127.0.0.1/{}", switchyard.port(0));
        for scope in [&server[..], ENDPOINT] {
            switchyard.await_metric(&format!("{scope}/open_streams"), 7.0);
        }
        gate.open();
        for asked in asking {
            asked.await.expect("no panic").expect("an answer");
        }
        for scope in [&server[..], ENDPOINT, "rt/h2/service/svc/web"] {
            if scope != "rt/h2/service/svc/web" {
                switchyard.await_metric(&format!("{scope}/open_streams"), 0.0);
            }
            switchyard.await_metric(&format!("{scope}/requests"), 7.0);
            switchyard.await_metric(&format!("{scope}/success"), 7.0);
        }
    });
}
