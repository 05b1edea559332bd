//! P3.4: a client that cancels is heard by the service within 100 ms, whatever was under way, and a service that resets is
//! heard by its client with the same code.

use e2e::h2::{Ask, Call, Caller, Gate, H2_CONFIG, Origin, Step, fields, grpc, pattern, story, within};
use e2e::{Backend, Client, FS_CONFIG, Switchyard, eventually};
use http::HeaderMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// P3.4, measured where the service learns it. It holds for half of some at least: a busy machine is slow now and then.
const HEARD: Duration = Duration::from_millis(100);
const CANCEL: u32 = 8;

fn start(addr: SocketAddr) -> Switchyard {
    let switchyard = Switchyard::start(H2_CONFIG);
    switchyard.disco().set("web", &[addr]);
    switchyard
}

/// A service that is cancelled in the middle of what the path says.
fn waiting() -> Origin {
    Origin::with(|asked| match asked.uri.path() {
        // Before a head.
        "/head" => vec![Step::Hang],
        // In the middle of a response.
        "/body" => vec![Step::Head(200, HeaderMap::new()), Step::Data("some".into()), Step::Hang],
        // While the response waits for the client, who does not read.
        "/full" => vec![Step::Head(200, HeaderMap::new()), Step::Pattern(16 << 20)],
        // In the middle of a request.
        "/read" => vec![Step::Read],
        "/echo" => Step::echo(),
        _ => Step::status(404),
    })
}

/// Opens a stream and brings it to where it is to be cancelled.
async fn under_way(caller: &Caller, origin: &Origin, path: &str) -> Call {
    // Not by those that are open: one that was cancelled is open for a moment yet.
    let asked = origin.count();
    let body = matches!(path, "/read" | "/echo");
    let ask = if body { Ask::post("web", path, "") } else { Ask::get("web", path) };
    let mut call = caller.open(&ask, !body).await.expect("a stream");
    if body {
        call.send(pattern(0, 10_000), false).await;
    }
    if path == "/echo" || path == "/body" || path == "/full" {
        within("a head", SOON, call.head()).await.expect("a head");
        call.hold().await.expect("a piece").expect("no reset");
    }
    eventually("the service is asked", SOON, || (origin.count() > asked).then_some(()));
    call
}

fn half_are_heard(mut times: Vec<Duration>, what: &str) {
    times.sort();
    assert!(times[times.len() / 2] < HEARD, "{what}: {times:?}");
}

#[test]
fn p3_4_a_client_that_cancels_is_heard_within_100_ms() {
    story(async {
        let origin = waiting();
        let switchyard = start(origin.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        for path in ["/head", "/body", "/full", "/read", "/echo"] {
            let mut times = Vec::new();
            for _ in 0..20 {
                let before = origin.cancels().len();
                let mut call = under_way(&caller, &origin, path).await;
                let at = Instant::now();
                call.reset(CANCEL);
                eventually(&format!("{path} is cancelled"), SOON, || (origin.cancels().len() > before).then_some(()));
                let cancel = origin.cancels()[before];
                assert_eq!(cancel.code, CANCEL, "{path}");
                times.push(cancel.at - at);
            }
            half_are_heard(times, path);
        }
        eventually("no stream is left", SOON, || (origin.open() == 0).then_some(()));
        assert_eq!(caller.ask(&Ask::post("web", "/echo", "still here")).await.text(), "still here");
        assert!(origin.connections() <= 8, "{} connections: none was lost", origin.connections());
    });
}

#[test]
fn p3_4_a_client_that_vanishes_has_cancelled_all() {
    story(async {
        let origin = waiting();
        let switchyard = start(origin.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        let mut calls = Vec::new();
        for path in ["/head", "/body", "/read", "/echo"] {
            calls.push(under_way(&caller, &origin, path).await);
        }
        drop((caller, calls));
        eventually("all are cancelled", SOON, || (origin.cancels().len() == 4).then_some(()));
    });
}

/// The codes that have a name, but for NO_ERROR and REFUSED_STREAM, and one that has none: Linkerd 1 broke at it.
const CODES: [u32; 8] = [1, 2, 3, 8, 9, 11, 13, 0xdead];

#[test]
fn p3_4_a_service_that_resets_is_heard_with_the_same_code() {
    story(async {
        let origin = Origin::with(|asked| {
            let (place, code) = asked.uri.path()[1..].split_once('/').expect("a place and a code");
            let reset = Step::Reset(code.parse().expect("a code"));
            let head = Step::Head(200, HeaderMap::new());
            match place {
                "head" => vec![reset],
                "request" => vec![Step::Wait(Duration::from_millis(5)), reset],
                "body" => vec![head, Step::Pattern(1000), Step::Wait(Duration::from_millis(5)), reset],
                _ => vec![head, Step::Echo, reset],
            }
        });
        let switchyard = start(origin.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        for place in ["head", "request", "body", "echo"] {
            for code in CODES {
                let path = format!("/{place}/{code}");
                let ask = if place == "head" { Ask::get("web", &path) } else { Ask::post("web", &path, "some bytes") };
                let error = within(&path, SOON, caller.try_ask(&ask)).await.expect_err(&path);
                assert_eq!((error.reason().map(u32::from), error.is_reset()), (Some(code), true), "{path}: {error}");
            }
        }
        assert!(!caller.is_closed());
    });
}

/// An answer that comes before the request is over is whole; what is left of the request is not wanted.
#[test]
fn an_early_answer_arrives_whole() {
    story(async {
        let origin = Origin::with(|_| vec![Step::Head(413, fields(&[("x-why", "too long")])), Step::Data("no".into())]);
        let switchyard = start(origin.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        for _ in 0..10 {
            let answer = within("an answer", SOON, caller.ask(&Ask::post("web", "/", pattern(0, 4 << 20)))).await;
            assert_eq!((answer.status, answer.text().as_str(), answer.field("x-why")), (413, "no", "too long"));
        }
        eventually("no stream is left", SOON, || (origin.open() == 0).then_some(()));
    });
}

#[test]
fn p3_4_over_http1_a_cancel_closes_the_connection_to_the_service() {
    story(async {
        let (told, heard) = std::sync::mpsc::channel();
        let told = std::sync::Mutex::new(told);
        let web = Backend::raw(move |mut socket: TcpStream| {
            let mut buffer = [0; 4096];
            // The head, and then nothing until the end.
            while socket.read(&mut buffer).is_ok_and(|n| n > 0) {
                let _ = told.lock().expect("one at a time").send(None);
            }
            let _ = told.lock().expect("one at a time").send(Some(Instant::now()));
        });
        let switchyard = Switchyard::start(&e2e::h2::with(H2_CONFIG, "client: { protocol: http }"));
        switchyard.disco().set("web", &[web.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let mut times = Vec::new();
        for _ in 0..10 {
            let mut call = caller.open(&Ask::get("web", "/"), true).await.expect("a stream");
            assert_eq!(heard.recv_timeout(SOON), Ok(None), "the service has the request");
            let at = Instant::now();
            call.reset(CANCEL);
            let end = std::iter::from_fn(|| heard.recv_timeout(SOON).ok()).flatten().next().expect("the end");
            times.push(end - at);
        }
        half_are_heard(times, "the end of a connection");
    });
}

#[test]
fn p3_4_a_client_of_http1_that_vanishes_cancels_the_stream() {
    story(async {
        let origin = waiting();
        let switchyard = Switchyard::start(&e2e::h2::with(FS_CONFIG, "client: { protocol: h2 }"));
        switchyard.disco().set("web", &[origin.addr()]);
        for path in ["/head", "/body"] {
            let mut times = Vec::new();
            for _ in 0..10 {
                eventually("no stream is open", SOON, || (origin.open() == 0).then_some(()));
                let before = origin.cancels().len();
                let mut client = Client::connect(switchyard.addr(0));
                client.send_raw(format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n").as_bytes());
                eventually("the service is asked", SOON, || (origin.open() == 1).then_some(()));
                let at = Instant::now();
                drop(client);
                eventually("the stream is cancelled", SOON, || (origin.cancels().len() > before).then_some(()));
                times.push(origin.cancels()[before].at - at);
            }
            half_are_heard(times, path);
        }
    });
}

/// What a stream costs is given back, whoever ends it: after more than the window of a connection, all still works.
#[test]
fn the_window_of_a_connection_survives_cancelled_streams() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path() {
            "/down" => vec![Step::Head(200, HeaderMap::new()), Step::Pattern(200_000), Step::Hang],
            "/up" => vec![Step::Hang],
            _ => grpc::echo(),
        });
        let switchyard = Switchyard::start_with(H2_CONFIG, &["--workers", "1"]);
        switchyard.disco().set("web", &[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        for round in 0..100 {
            let path = if round % 2 == 0 { "/down" } else { "/up" };
            let mut call = caller.open(&Ask::post("web", path, ""), false).await.expect("a stream");
            if path == "/up" {
                let sent = tokio::time::timeout(SOON, call.try_send(pattern(0, 50_000), false)).await;
                sent.expect("50,000 bytes are less than a window").expect("sent");
            } else {
                within("a head", SOON, call.head()).await.expect("a head");
                within("a piece", SOON, call.hold()).await.expect("a piece").expect("no reset");
            }
            call.reset(CANCEL);
        }
        eventually("all are cancelled", SOON, || (origin.open() == 0).then_some(()));
        let body = pattern(0, 2 << 20);
        let answer = within("an echo", Duration::from_secs(60), caller.ask(&Ask::post("web", "/", body.clone()))).await;
        assert!(answer.body == body);
    });
}

/// A service that breaks off has not answered: no half answer passes for a whole one, in any protocol.
#[test]
fn a_broken_stream_is_no_whole_answer() {
    story(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::with(move |_| {
            vec![Step::Head(200, HeaderMap::new()), Step::Pattern(1000), Step::Hold(held.clone()), Step::Reset(2)]
        });
        let switchyard = Switchyard::start(&e2e::h2::with(FS_CONFIG, "client: { protocol: h2 }"));
        switchyard.disco().set("web", &[origin.addr()]);
        let mut socket = TcpStream::connect(switchyard.addr(0)).expect("a connection");
        socket.set_read_timeout(Some(SOON)).expect("a limit");
        socket.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").expect("sent");
        let mut came = vec![0; 4096];
        let n = socket.read(&mut came).expect("a head");
        gate.open();
        came.truncate(n);
        // Either end of the connection will do, but for the last chunk.
        let _ = socket.read_to_end(&mut came);
        let text = String::from_utf8_lossy(&came);
        assert!(text.starts_with("HTTP/1.1 200 ") && !text.ends_with("0\r\n\r\n"), "{text:?}");
    });
}
