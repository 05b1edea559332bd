//! What the attack runner (`tests/attacks/run.py`) found, as stories.
//!
//! Not for: the cases themselves; they are data of the runner.

use e2e::{Backend, Client, FS_CONFIG, Switchyard, eventually, get, try_get};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Answers every request, and closes nothing by itself.
fn serve(mut socket: TcpStream, answered: &AtomicUsize) {
    let (mut seen, mut scratch) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = socket.read(&mut scratch) {
        seen.extend_from_slice(&scratch[..read]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            answered.fetch_add(1, Ordering::SeqCst);
            if socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    }
}

/// H1-4, P15: a server closes after a request of HTTP/1.0, also when its answer is one of HTTP/1.1 and does not say so.
/// A request that meets that close, and cannot be sent twice, fails.
#[test]
fn a_connection_that_carried_http_1_0_is_not_used_again() {
    let (connections, answered) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let shared = (connections.clone(), answered.clone());
    let backend = Backend::raw(move |socket| {
        shared.0.fetch_add(1, Ordering::SeqCst);
        serve(socket, &shared.1);
    });
    let router = Switchyard::start_with(FS_CONFIG, &["--workers", "1"]);
    router.disco().set("web", &[backend.addr()]);
    let up = || try_get(router.addr(0), "web").ok().filter(|response| response.status == 200);
    eventually("web is served", Duration::from_secs(30), up);
    let before = connections.load(Ordering::SeqCst);
    assert_eq!(get(router.addr(0), "web").status, 200);
    assert_eq!(connections.load(Ordering::SeqCst), before, "a connection that carried HTTP/1.1 is used again");
    for keep in ["", "Connection: keep-alive\r\n"] {
        let mut client = Client::connect(router.addr(0));
        client.send_raw(format!("GET /old HTTP/1.0\r\nHost: web\r\n{keep}\r\n").as_bytes());
        assert_eq!(client.read_response(false).expect("an answer").status, 200);
        let before = connections.load(Ordering::SeqCst);
        assert_eq!(get(router.addr(0), "web").status, 200);
        assert_eq!(connections.load(Ordering::SeqCst), before + 1, "{keep:?}");
    }
}

/// O13, N5: a scan of names that do not exist leaves the cache full of them; overrides are remembered all the same, and not
/// bound anew for each request.
#[test]
fn a_scan_does_not_keep_overrides_out_of_the_cache() {
    let yaml =
        format!("{}  bindingCache: {{ paths: 20, overridesPerSource: 5 }}\n", FS_CONFIG.trim_start_matches('\n'));
    let router = Switchyard::start(&yaml);
    let (web, v2) = (Backend::text("web"), Backend::text("v2"));
    router.disco().set("web", &[web.addr()]);
    router.disco().set("v2", &[v2.addr()]);
    let up = || try_get(router.addr(0), "web").ok().filter(|response| response.status == 200);
    eventually("web is served", Duration::from_secs(30), up);
    let mut client = Client::connect(router.addr(0));
    for i in 0..100 {
        assert_eq!(client.get(&format!("unknown-{i}"), "/").status, 502);
    }
    for _ in 0..10 {
        let overridden = client.request("GET", "web", "/", &[("l5d-dtab", "/svc/web => /#/io.l5d.fs/v2")], b"");
        assert_eq!(overridden.text(), "v2");
    }
    let counted = |name: &str| router.metric(&format!("rt/http/bindcache/path/{name}")).unwrap_or_default();
    assert_eq!(counted("oneshots"), 0.0, "an override was bound for one request");
    assert_eq!(counted("misses"), 102.0, "web, 100 unknown names, one override");
}
