//! As an operator, I bound every wait of a request: for a name, a connection, an answer, a body, and for all of it
//! together (requirements P14.1, F14, F15; attacks H1-16, X5).

use e2e::{Backend, Client, FS_CONFIG, Reply, Response, Switchyard, eventually, get, holds_for};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The usual config with these keys in the router.
fn with(keys: &str) -> String {
    FS_CONFIG.replace("  dtab: |", &format!("  {keys}\n  dtab: |"))
}

/// The usual config with these keys in the server, and those in the router.
fn with_server(server: &str, keys: &str) -> String {
    with(keys).replace("port: @P0@ }", &format!("port: @P0@, {server} }}"))
}

fn start(config: &str, web: SocketAddr) -> Switchyard {
    let switchyard = Switchyard::start(config);
    switchyard.disco().set("web", &[web]);
    switchyard
}

/// An answer and how long it took.
fn timed(ask: impl FnOnce() -> Response) -> (Response, Duration) {
    let asked = Instant::now();
    let response = ask();
    (response, asked.elapsed())
}

/// Less than the limits that count when none is said, the shortest of which are ten seconds. A busy machine takes its time.
const BY_DEFAULT: Duration = Duration::from_secs(9);

/// Asserts that a wait ended by a limit of `ms` and by nothing else.
fn assert_limit(waited: Duration, ms: u64) {
    assert!(waited >= Duration::from_millis(ms - 5) && waited < BY_DEFAULT, "{waited:?}");
}

/// Accepts connections, reads what comes and never answers.
fn silent() -> Backend {
    Backend::raw(|mut socket| {
        let mut scratch = [0; 4096];
        while matches!(socket.read(&mut scratch), Ok(1..)) {}
    })
}

/// A listener whose accept queue is full: connections to it are neither accepted nor refused.
struct BlackHole {
    addr: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> BlackHole {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("it listens");
        let addr = listener.local_addr().expect("an address").as_socket().expect("an IP address");
        let mut queued = Vec::new();
        while let Ok(socket) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            queued.push(socket);
            assert!(queued.len() < 64, "the accept queue has no end");
        }
        BlackHole { addr, _listener: listener, _queued: queued }
    }
}

#[test]
fn f14_a_connection_is_made_in_its_time() {
    let hole = BlackHole::new();
    let switchyard = start(&with("client: { connectTimeoutMs: 150 }"), hole.addr);
    let (response, waited) = timed(|| get(switchyard.addr(0), "web"));
    assert_eq!(response.status, 502, "{}", response.text());
    assert!(response.text().contains("no answer within 150.milliseconds"), "{}", response.text());
    assert_limit(waited, 150);
    let client = "rt/http/client/#/io.l5d.fs/web";
    assert!(switchyard.metric(&format!("{client}/retries/not_open")).is_some_and(|times| times >= 1.0));
    switchyard.await_metric(&format!("{client}/service_creation/failures/java.net.ConnectException"), 1.0);
    switchyard.await_metric(&format!("{client}/pool_size"), 0.0);
}

#[test]
fn p14_1_the_total_timeout_covers_a_connect_that_hangs() {
    let hole = BlackHole::new();
    let keys = "service: { totalTimeoutMs: 200, responseClassifier: { kind: io.l5d.http.retryableRead5XX } }\n  \
                client: { connectTimeoutMs: 60 }";
    let switchyard = start(&with(keys), hole.addr);
    let (response, waited) = timed(|| get(switchyard.addr(0), "web"));
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.text().starts_with("exceeded 200.milliseconds"), "{}", response.text());
    assert_limit(waited, 200);
}

#[test]
fn p14_1_the_total_timeout_covers_services_that_accept_and_never_answer() {
    let web = silent();
    let keys = "service: { totalTimeoutMs: 900, responseClassifier: { kind: io.l5d.http.retryableRead5XX } }\n  \
                client: { requestAttemptTimeoutMs: 150 }";
    let switchyard = start(&with(keys), web.addr());
    let (response, waited) = timed(|| get(switchyard.addr(0), "web"));
    assert_eq!(response.status, 503);
    assert!(response.text().starts_with("exceeded 900.milliseconds"), "{}", response.text());
    assert_limit(waited, 900);
    let retries = switchyard.metric("rt/http/service/svc/web/retries/total").unwrap_or_default();
    assert!((1.0..6.0).contains(&retries), "{retries}");
}

#[test]
fn p14_1_the_total_timeout_covers_pauses_between_attempts() {
    let web = Backend::with(|_| Reply::status(503));
    let keys = "service: { totalTimeoutMs: 200, responseClassifier: { kind: io.l5d.http.retryableRead5XX }, \
                retries: { backoff: { kind: constant, ms: 60000 } } }";
    let switchyard = start(&with(keys), web.addr());
    let (response, waited) = timed(|| get(switchyard.addr(0), "web"));
    assert!(response.text().starts_with("exceeded 200.milliseconds"), "{}", response.text());
    assert_limit(waited, 200);
    assert_eq!(web.count(), 1);
}

#[test]
fn p14_1_the_total_timeout_covers_a_name_that_is_slow_to_bind() {
    let switchyard = Switchyard::start(&with("service: { totalTimeoutMs: 1 }"));
    let (response, waited) = while_binding(&switchyard, |response| response.status == 503);
    assert!(response.text().starts_with("exceeded 1.milliseconds"), "{}", response.text());
    assert!(waited < BY_DEFAULT, "not the ten seconds of the binding timeout, but {waited:?}");
}

/// The first answer that `wanted` takes, each for a name that is not bound yet: its file is being written, and for a
/// moment it is not believed to be empty. A busy machine can miss that moment, so other names follow.
fn while_binding(switchyard: &Switchyard, wanted: impl Fn(&Response) -> bool) -> (Response, Duration) {
    let names = (0..40).map(|i| format!("being-written-{i}"));
    let mut answers = names.map(|name| {
        switchyard.disco().edit(&name, "");
        timed(|| get(switchyard.addr(0), &name))
    });
    answers.find(|(response, _)| wanted(response)).expect("a name that was not bound yet")
}

#[test]
fn f14_the_statuses_of_timeouts_are_those_of_linkerd_or_504() {
    let (web, hole) = (silent(), BlackHole::new());
    for (server, keys, addr, before) in [
        ("timeoutMs: 60", "originator: false", web.addr(), 503),
        ("label: x", "service: { totalTimeoutMs: 60 }", web.addr(), 503),
        ("label: x", "client: { requestAttemptTimeoutMs: 60 }", web.addr(), 503),
        ("label: x", "client: { connectTimeoutMs: 60 }", hole.addr, 502),
    ] {
        for (status, wanted) in [("503", before), ("504", 504)] {
            let config = with_server(server, &format!("timeoutStatus: {status}\n  {keys}"));
            let switchyard = start(&config, addr);
            let response = get(switchyard.addr(0), "web");
            assert_eq!(response.status, wanted, "{server} {keys}: {}", response.text());
            assert!(response.header("l5d-err").is_some());
            switchyard.await_metric(&format!("rt/http/server/127.0.0.1/{}/status/{wanted}", switchyard.port(0)), 1.0);
        }
    }
    let switchyard = Switchyard::start(&with("timeoutStatus: 504\n  bindingTimeoutMs: 1"));
    let (response, _) = while_binding(&switchyard, |response| response.status == 504);
    assert!(response.text().starts_with("Exceeded 1.milliseconds binding timeout"), "{}", response.text());
}

#[test]
fn h1_16_a_head_must_come_in_its_time() {
    let web = Backend::text("hello");
    let switchyard = start(&with_server("headerTimeoutMs: 150", "originator: false"), web.addr());
    let mut client = Client::connect(switchyard.addr(0));
    let (response, waited) = timed(|| {
        client.send_raw(b"GET / HTTP/1.1\r\nhost: we");
        client.read_response(false).expect("an answer")
    });
    assert_eq!(response.status, 400);
    assert_limit(waited, 150);
    assert!(client.closed_by_peer());
    assert_eq!(web.count(), 0);
}

#[test]
fn h1_16_a_client_that_stalls_in_its_body_is_told_so() {
    let web = Backend::text("hello");
    let switchyard = start(&with_server("stallTimeoutMs: 150", "originator: false"), web.addr());
    let mut client = Client::connect(switchyard.addr(0));
    let (response, waited) = timed(|| {
        client.send_raw(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 10\r\n\r\n12");
        client.read_response(false).expect("an answer")
    });
    assert_eq!(response.status, 408);
    assert_eq!(response.text(), "the client sent nothing of the request body for 150.milliseconds");
    assert_limit(waited, 150);
    // A slow one that moves is no stall, however long it takes. A busy machine may make its pauses longer.
    let switchyard = start(&with_server("stallTimeoutMs: 2000", "originator: false"), web.addr());
    let mut slow = Client::connect(switchyard.addr(0));
    slow.send_raw(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 10\r\n\r\n");
    let started = Instant::now();
    for byte in b"0123456789" {
        slow.send_raw(&[*byte]);
        holds_for("the client pauses", Duration::from_millis(250), || true);
    }
    assert!(started.elapsed() > Duration::from_millis(2100));
    assert_eq!(slow.read_response(false).expect("an answer").status, 200);
    assert_eq!(web.last().body, b"0123456789");
}

/// The same when the service has answered already, with a body that does not end.
#[test]
fn h1_16_a_client_that_stalls_after_an_early_response_is_cut_off() {
    let web = Backend::raw(|mut socket| {
        let mut scratch = [0; 4096];
        let _ = socket.read(&mut scratch);
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n");
        while socket.read(&mut scratch).is_ok_and(|read| read > 0) {}
    });
    let switchyard = start(&with_server("stallTimeoutMs: 200", "originator: false"), web.addr());
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 10\r\n\r\n12");
    assert!(client.read_response(false).is_err(), "the response is not whole");
    switchyard.await_metric(&format!("rt/http/server/127.0.0.1/{}/connections", switchyard.port(0)), 0.0);
    switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/pool_size", 0.0);
}

#[test]
fn h1_16_a_service_that_takes_nothing_of_a_body_is_given_up() {
    // Accepts and never reads.
    let web = Backend::raw(|socket| holds_for("it sleeps", Duration::from_secs(60), || socket.peer_addr().is_ok()));
    for (server, keys) in [
        ("stallTimeoutMs: 200", "originator: false"),
        ("label: x", "client: { socketOptions: { writeTimeoutMs: 200 } }"),
    ] {
        let switchyard = start(&with_server(server, keys), web.addr());
        let mut client = Client::connect(switchyard.addr(0));
        let mut sending = client.socket().try_clone().expect("a clone");
        let sender = std::thread::spawn(move || {
            let _ = sending.write_all(b"POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 67108864\r\n\r\n");
            // Ends when the router closes the connection.
            let piece = vec![b'x'; 64 * 1024];
            while sending.write_all(&piece).is_ok() {}
        });
        let response = client.read_response(false).expect("an answer");
        assert_eq!(response.status, 502);
        let text = response.text();
        assert!(text.starts_with("the upstream took nothing of the request body for 200.milliseconds"), "{text}");
        drop(client);
        sender.join().expect("the sender ends");
    }
}

#[test]
fn h1_16_a_client_that_takes_nothing_of_its_response_is_cut_off() {
    let web = Backend::with(|_| Reply::text("x".repeat(32 * 1024 * 1024)));
    for server in ["stallTimeoutMs: 200", "socketOptions: { writeTimeoutMs: 200 }"] {
        let switchyard = start(&with_server(server, "originator: false"), web.addr());
        let mut client = Client::connect(switchyard.addr(0));
        client.send_raw(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
        switchyard.await_metric(&format!("rt/http/server/127.0.0.1/{}/connects", switchyard.port(0)), 1.0);
        switchyard.await_metric(&format!("rt/http/server/127.0.0.1/{}/connections", switchyard.port(0)), 0.0);
        assert!(client.read_response(false).is_err(), "the response is not whole");
        switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/pool_size", 0.0);
    }
}

#[test]
fn f14_the_read_timeout_of_a_client_bounds_silence_of_the_service() {
    let head_only = Backend::raw(|mut socket| {
        let mut scratch = [0; 4096];
        let _ = socket.read(&mut scratch);
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12");
        let _ = socket.read(&mut scratch);
    });
    let web = silent();
    let switchyard = start(&with("client: { socketOptions: { readTimeoutMs: 150 } }"), web.addr());
    switchyard.disco().set("half", &[head_only.addr()]);
    let (response, waited) = timed(|| get(switchyard.addr(0), "web"));
    assert_eq!(response.status, 502);
    assert!(response.text().starts_with("the upstream sent nothing for 150.milliseconds"), "{}", response.text());
    assert_limit(waited, 150);
    let asked = Instant::now();
    assert!(e2e::try_get(switchyard.addr(0), "half").is_err(), "the body is not whole");
    assert_limit(asked.elapsed(), 150);
}

#[test]
fn f14_connections_of_clients_that_ask_nothing_are_closed() {
    let web = Backend::text("hello");
    for server in ["serverSession: { idleTimeMs: 150 }", "socketOptions: { readTimeoutMs: 150 }"] {
        let switchyard = start(&with_server(server, "originator: false"), web.addr());
        let mut client = Client::connect(switchyard.addr(0));
        let idle = Instant::now();
        assert_eq!(client.get("web", "/").status, 200);
        assert!(client.closed_by_peer(), "{server}");
        assert_limit(idle.elapsed(), 150);
        switchyard.await_metric(&format!("rt/http/server/127.0.0.1/{}/idle", switchyard.port(0)), 1.0);
    }
}

fn epoch_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(now.as_nanos()).expect("before 2554")
}

fn ask_by(switchyard: &Switchyard, server: usize, deadline: &str) -> Response {
    Client::connect(switchyard.addr(server)).request("GET", "web", "/", &[("l5d-ctx-deadline", deadline)], b"")
}

const TWO_SERVERS: &str = "servers: [{ port: @P0@, enforceDeadlines: true }, { port: @P1@ }, \
                           { port: @P2@, enforceDeadlines: true, clearContext: true }]";

#[test]
fn x5_a_deadline_that_is_over_ends_a_request_where_deadlines_are_enforced() {
    let web = Backend::text("hello");
    let config = FS_CONFIG.replace("servers: [{ port: @P0@ }]", TWO_SERVERS);
    let switchyard = start(&config, web.addr());
    let past = format!("{} {}", epoch_ns() - 2_000_000_000, epoch_ns() - 1_000_000_000);
    let (response, waited) = timed(|| ask_by(&switchyard, 0, &past));
    assert_eq!(response.status, 504);
    assert_eq!(response.text(), "the deadline in l5d-ctx-deadline was over when the request came in");
    assert!(waited < BY_DEFAULT && web.count() == 0, "{waited:?}, {} requests", web.count());
    assert_eq!(ask_by(&switchyard, 0, "0 0").status, 504);
    let server = format!("rt/http/server/127.0.0.1/{}/admission_control/deadline", switchyard.port(0));
    switchyard.await_metric(&format!("{server}/exceeded"), 2.0);
    switchyard.await_metric(&format!("{server}/rejected"), 2.0);
    // Not enforced by default: measured only, as in Linkerd 1. And strangers set no limits.
    assert_eq!(ask_by(&switchyard, 1, &past).status, 200);
    let other = format!("rt/http/server/127.0.0.1/{}/admission_control/deadline", switchyard.port(1));
    switchyard.await_metric(&format!("{other}/exceeded"), 1.0);
    switchyard.await_metric(&format!("{other}/rejected"), 0.0);
    assert_eq!(ask_by(&switchyard, 2, &past).status, 200);
    assert_eq!(web.last().header("l5d-ctx-deadline"), None);
}

#[test]
fn x5_deadlines_that_make_no_sense_are_ignored() {
    let web = Backend::text("hello");
    let config = FS_CONFIG.replace("servers: [{ port: @P0@ }]", TWO_SERVERS);
    let switchyard = start(&config, web.addr());
    for nonsense in [
        "soon",
        "",
        "5",
        "-1 -1",
        "1 2 3",
        // The year 3000, in nanoseconds, and numbers that no integer holds.
        "0 32503680000000000000",
        "99999999999999999999999999 99999999999999999999999999",
        "0 18446744073709551615",
        "18446744073709551615 18446744073709551615",
        "0x10 0x10",
    ] {
        assert_eq!(ask_by(&switchyard, 0, nonsense).status, 200, "{nonsense:?}");
    }
}

#[test]
fn f15_a_request_ends_with_its_deadline() {
    let web = silent();
    let config = FS_CONFIG.replace("servers: [{ port: @P0@ }]", TWO_SERVERS);
    let switchyard = start(&config, web.addr());
    let (response, waited) =
        timed(|| ask_by(&switchyard, 0, &format!("{} {}", epoch_ns(), epoch_ns() + 1_500_000_000)));
    assert_eq!(response.status, 504);
    let text = response.text();
    assert!(text.contains("the deadline in l5d-ctx-deadline is over"), "{text}");
    assert_limit(waited, 1490);
    let class = "com.twitter.finagle.service.DeadlineFilter$DeadlineExceededException";
    switchyard.await_metric(&format!("rt/http/service/svc/web/failures/{class}"), 1.0);
}

/// Data-plane reference §12: the latest timestamp, and the earliest deadline of all limits.
#[test]
fn f15_services_are_told_the_strictest_deadline() {
    let web = Backend::text("hello");
    let keys = "service: { totalTimeoutMs: 20000 }\n  client: { requestAttemptTimeoutMs: 10000 }";
    let switchyard = start(&with_server("timeoutMs: 30000", keys), web.addr());
    let told = || {
        let value = web.last().header("l5d-ctx-deadline").expect("a deadline").to_owned();
        let (timestamp, deadline) = value.split_once(' ').expect("two numbers");
        (timestamp.parse::<u64>().expect("a number"), deadline.parse::<u64>().expect("a number"))
    };
    let before = epoch_ns();
    assert_eq!(get(switchyard.addr(0), "web").status, 200);
    let (timestamp, deadline) = told();
    assert!((before..=epoch_ns()).contains(&timestamp));
    assert_eq!(deadline - timestamp, 10_000_000_000, "that of the attempt");
    let near = epoch_ns() + 9_000_000_000;
    assert_eq!(ask_by(&switchyard, 0, &format!("7 {near}")).status, 200);
    let (timestamp, deadline) = told();
    assert!(timestamp > before && deadline == near);
    eventually("the metric is there", Duration::from_secs(30), || {
        switchyard.page("/admin/metrics.json").text().contains("transit_latency_ms").then_some(())
    });
}
