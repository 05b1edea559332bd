//! As an operator, I stop the router with SIGTERM or a POST: what was accepted is answered completely, nothing new is
//! accepted, and the process ends within the grace period.

use e2e::{Backend, Client, FS_CONFIG, Received, Reply, Response, Switchyard, eventually};
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// Less than the grace period that counts when none is said.
const BY_DEFAULT: Duration = Duration::from_secs(9);
/// Longer than a story waits for the end: what ends by itself does not wait for this.
const GRACE: [&str; 2] = ["--grace", "600s"];

/// A backend that holds all requests until the gate opens.
fn gated(gate: &Arc<AtomicBool>) -> Backend {
    let gate = gate.clone();
    Backend::with(move |_: &Received| {
        eventually("the gate opens", 4 * SOON, || gate.load(Ordering::SeqCst).then_some(()));
        Reply::text("x".repeat(100_000)).chunked()
    })
}

/// What the admin server says; None when it no longer listens.
fn admin(switchyard: &Switchyard, method: &str, path: &str) -> Option<Response> {
    Client::try_connect(switchyard.admin()).ok()?.try_request(method, "localhost", path, &[], b"").ok()
}

#[test]
fn what_is_in_flight_is_answered_and_nothing_else_accepted() {
    const CLIENTS: usize = 8;
    let switchyard = Switchyard::start_with(FS_CONFIG, &GRACE);
    let gate = Arc::new(AtomicBool::new(false));
    let web = gated(&gate);
    switchyard.disco().set("web", &[web.addr()]);
    let mut idle = Client::connect(switchyard.addr(0));
    std::thread::scope(|scope| {
        let ask = || {
            let mut client = Client::connect(switchyard.addr(0));
            let response = client.get("web", "/");
            (response, client.closed_by_peer())
        };
        let asking: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask)).collect();
        eventually("all are in flight", SOON, || (web.count() == CLIENTS).then_some(()));
        let metrics = admin(&switchyard, "GET", "/admin/ready").expect("an answer");
        assert_eq!(metrics.status, 200);
        switchyard.signal_term();
        eventually("it is not ready any more", SOON, || {
            (admin(&switchyard, "GET", "/admin/ready")?.status == 503).then_some(())
        });
        assert_eq!(admin(&switchyard, "GET", "/admin/ping").map(|pong| pong.text()).as_deref(), Some("pong"));
        eventually("nothing new is accepted", SOON, || TcpStream::connect(switchyard.addr(0)).err());
        assert!(idle.closed_by_peer(), "a connection without a request is closed");
        gate.store(true, Ordering::SeqCst);
        for asking in asking {
            let (response, closed) = asking.join().expect("the client got an answer");
            assert_eq!((response.status, response.body.len()), (200, 100_000));
            assert_eq!(response.header("connection"), Some("close"));
            assert!(closed);
        }
    });
    assert!(switchyard.wait_exit(SOON).success(), "it does not wait for the whole grace period");
}

/// Asks on kept connections until one is closed; the number of answers. Errors when an answer breaks off.
fn ask_until_closed(switchyard: &Switchyard, signalled: &AtomicBool) -> io::Result<usize> {
    let mut client = Client::connect(switchyard.addr(0));
    let limit = Instant::now() + 2 * SOON;
    for answered in 0.. {
        let before = signalled.load(Ordering::SeqCst);
        let response = match client.try_get("web", "/") {
            Ok(response) => response,
            // A request that crosses the close of an idle connection was not accepted.
            Err(error) if before && is_close(&error) => return Ok(answered),
            Err(error) => return Err(error),
        };
        assert_eq!((response.status, response.text().as_str()), (200, "hello"));
        if response.header("connection") == Some("close") {
            assert!(client.closed_by_peer());
            return Ok(answered + 1);
        }
        if Instant::now() > limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    unreachable!("the loop returns")
}

fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

#[test]
fn a_signal_under_load_breaks_no_answer() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let web = Backend::with(|_| Reply::text("hello").after(Duration::from_millis(5)));
    switchyard.disco().set("web", &[web.addr()]);
    let (signalled, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let n = ask_until_closed(&switchyard, &signalled).expect("no answer broke off");
                answered.fetch_add(n, Ordering::SeqCst);
            });
        }
        eventually("load runs", SOON, || (web.count() > 200).then_some(()));
        signalled.store(true, Ordering::SeqCst);
        switchyard.signal_term();
    });
    assert_eq!(answered.load(Ordering::SeqCst), web.count(), "what reached the backend reached the client");
    assert!(switchyard.wait_exit(SOON).success());
}

#[test]
fn a_response_that_is_being_streamed_is_finished() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let stream = Backend::raw(|mut socket| {
        let mut write = |text: &str| socket.write_all(text.as_bytes()).expect("the router reads");
        write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..20 {
            write("4\r\nabcd\r\n");
            std::thread::sleep(Duration::from_millis(20));
        }
        write("0\r\n\r\n");
    });
    switchyard.disco().set("web", &[stream.addr()]);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/connects", 1.0);
    switchyard.signal_term();
    let response = client.read_response(false).expect("the whole answer");
    assert_eq!(response.text(), "abcd".repeat(20));
    assert!(client.closed_by_peer());
    assert!(switchyard.wait_exit(SOON).success());
}

#[test]
fn a_hung_request_is_cut_at_the_grace_period() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let hung = Backend::with(|_| Reply::text("too late").after(Duration::from_secs(60)));
    switchyard.disco().set("web", &[hung.addr()]);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    eventually("it is in flight", SOON, || (hung.count() == 1).then_some(()));
    let asked = Instant::now();
    let response = admin(&switchyard, "POST", "/admin/shutdown?grace=500ms").expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (200, "quitting\n"));
    assert!(client.read_response(false).is_err(), "cut");
    let waited = asked.elapsed();
    assert!(waited >= Duration::from_millis(450) && waited < BY_DEFAULT, "{waited:?}");
    assert!(switchyard.wait_exit(SOON).success());
}

#[test]
fn the_grace_period_comes_from_the_config_or_the_command_line() {
    for (config, args) in [
        (FS_CONFIG.replace("port: @ADMIN@", "port: @ADMIN@, shutdownGraceMs: 300"), &[][..]),
        (FS_CONFIG.to_owned(), &["--grace", "300ms"][..]),
    ] {
        let switchyard = Switchyard::start_with(&config, args);
        let hung = Backend::with(|_| Reply::text("too late").after(Duration::from_secs(60)));
        switchyard.disco().set("web", &[hung.addr()]);
        let mut client = Client::connect(switchyard.addr(0));
        client.send_raw(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
        eventually("it is in flight", SOON, || (hung.count() == 1).then_some(()));
        let asked = Instant::now();
        switchyard.signal_term();
        assert!(switchyard.wait_exit(SOON).success());
        let waited = asked.elapsed();
        assert!(waited >= Duration::from_millis(250) && waited < BY_DEFAULT, "{waited:?}");
    }
}

#[test]
fn the_shutdown_page_is_strict() {
    let mut switchyard = Switchyard::start(FS_CONFIG);
    let get = admin(&switchyard, "GET", "/admin/shutdown").expect("an answer");
    assert_eq!((get.status, get.header("allow")), (405, Some("POST")));
    let bad = admin(&switchyard, "POST", "/admin/shutdown?grace=soon").expect("an answer");
    let text = "could not parse 'grace' parameter: soon is not a valid duration";
    assert_eq!((bad.status, bad.text().trim_end()), (400, text));
    assert!(switchyard.is_running());
    assert_eq!(admin(&switchyard, "GET", "/admin/ready").map(|ready| ready.status), Some(200));
    let response = admin(&switchyard, "POST", "/admin/shutdown?grace=30.seconds").expect("an answer");
    assert_eq!(response.status, 200);
    assert!(switchyard.wait_exit(SOON).success(), "with nothing in flight it ends at once");
}

#[test]
fn the_answer_to_the_shutdown_request_arrives() {
    for start in 0..20 {
        let switchyard = Switchyard::start(FS_CONFIG);
        let answer = admin(&switchyard, "POST", "/admin/shutdown").map(|answer| answer.text());
        assert_eq!(answer.as_deref(), Some("quitting\n"), "start {start}");
        assert!(switchyard.wait_exit(SOON).success());
    }
}

/// Whoever starts and stops processes quickly does not kill requests: what is ready ends as asked.
#[test]
fn a_process_that_has_just_become_ready_ends_as_asked() {
    for round in 0..25 {
        let listens = |admin| Client::try_connect(admin).is_ok();
        let switchyard = Switchyard::start_when(FS_CONFIG, (&[], &[]), listens);
        switchyard.signal_term();
        let status = switchyard.wait_exit(SOON);
        assert!(status.success(), "round {round}: {status:?}");
    }
}
