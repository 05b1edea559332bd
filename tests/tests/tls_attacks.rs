//! Group T of the attacks, and X2 for the caller's certificate, against the real binary.

use e2e::{Authority, Backend, Client, Https, PairFiles, StopOnDrop, Switchyard, eventually};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
const CONFIG: &str = r"
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- protocol: http
  label: http
  servers:
  - port: @P0@
  - { port: @P1@, addForwardedHeader: {}, tls: { certPath: @CERTS@/web.pem, keyPath: @CERTS@/web.key } }
  - port: @P2@
    tls: { certPath: @CERTS@/web.pem, keyPath: @CERTS@/web.key, caCertPath: @CERTS@/ca.pem, requireClientAuth: true }
  - { port: @P3@, tls: { certPath: @CERTS@/web.pem, keyPath: @CERTS@/web.key, requireSniMatch: true } }
  identifier: { kind: io.l5d.static, path: /web }
  dtab: /svc => /#/io.l5d.fs ;
  client: @CLIENT@
";

struct Story {
    router: Switchyard,
    backend: Backend,
    ca: PathBuf,
    caller: PairFiles,
    folder: TempDir,
}

fn fill(folder: &TempDir, client: &str) -> String {
    CONFIG.replace("@CERTS@", &folder.path().display().to_string()).replace("@CLIENT@", client)
}

fn story(client: &str) -> Story {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("ca");
    authority.issue(&["web.example", "api.example", "127.0.0.1"]).write(folder.path(), "web");
    let caller = authority.issue(&["caller.example"]).write(folder.path(), "caller");
    let ca = authority.write(folder.path(), "ca");
    let router = Switchyard::start(&fill(&folder, client));
    let backend = Backend::text("hello");
    router.disco().set("web", &[backend.addr()]);
    Story { router, backend, ca, caller, folder }
}

impl Story {
    fn https(&self, port: usize, name: &str) -> Https {
        let own = (port == 2).then_some(&self.caller);
        Https::connect(self.router.addr(port), name, &self.ca, own).expect("a handshake")
    }
}

/// T3: where something decides by SNI, `requireSniMatch` makes Host agree with it; elsewhere nothing depends on it.
#[test]
fn t3_a_host_other_than_the_sni_is_refused() {
    let story = story("{}");
    let status = |port, sni: &str, host: &str| {
        let answer = story.https(port, sni).get(host, "/").expect("an answer");
        answer.split(' ').nth(1).map(str::to_owned).unwrap_or_default()
    };
    for host in ["web.example", "WEB.Example:443", "web.example."] {
        assert_eq!(status(3, "web.example", host), "200", "{host}");
    }
    let before = story.backend.count();
    for host in ["api.example", "web.example.evil", "web", "127.0.0.1", "x.web.example:443"] {
        assert_eq!(status(3, "web.example", host), "421", "{host}");
    }
    assert_eq!(status(3, "127.0.0.1", "web.example"), "421", "without SNI");
    assert_eq!(story.backend.count(), before);
    assert_eq!(story.router.series("rejected_total{reason=\"misdirected\"}"), Some(6.0));
    for port in [1, 2] {
        assert_eq!(status(port, "web.example", "api.example"), "200", "nothing decides by SNI");
    }
}

/// X2: the header about the caller's certificate is the router's own, or absent; never the client's.
#[test]
fn x2_the_callers_certificate_cannot_be_spoofed() {
    for (client, told) in [("{}", false), ("{ forwardClientCert: true }", true)] {
        let story = story(client);
        let spoofed = [("x-forwarded-client-cert", "Hash=0"), ("X-Forwarded-Client-Cert", "Hash=1")];
        Client::connect(story.router.addr(0)).request("GET", "web", "/", &spoofed, b"");
        assert_eq!(story.backend.last().header("x-forwarded-client-cert"), None, "plain text, {client}");
        let get = |port| story.https(port, "web.example").get("web.example\r\nx-forwarded-client-cert: Hash=0", "/");
        assert!(get(1).expect("an answer").starts_with("HTTP/1.1 200"));
        assert_eq!(story.backend.last().header("x-forwarded-client-cert"), None, "TLS without certificate, {client}");
        let forwarded = story.backend.last().header("forwarded").unwrap_or_default().to_owned();
        assert!(forwarded.contains("proto=https"), "{forwarded}");
        assert!(get(2).expect("an answer").starts_with("HTTP/1.1 200"));
        let seen = story.backend.last();
        let values = seen.all("x-forwarded-client-cert");
        assert_eq!(values.len(), usize::from(told), "{client}");
        let ours = values.iter().all(|value| value.ends_with(";DNS=caller.example;Subject=\"CN=caller.example\""));
        assert!(ours, "{values:?}");
    }
}

/// T7: connections that say nothing, say nonsense, or begin and never end, cost others nothing; each is closed in time.
#[test]
fn t7_half_open_handshakes_leave_plain_traffic_alone() {
    let story = story("{}");
    let mut silent: Vec<TcpStream> = Vec::new();
    for i in 0..300 {
        let mut socket = TcpStream::connect(story.router.addr(1 + i % 2)).expect("a connection");
        match i % 3 {
            0 => {}
            // The head of a handshake record of 16 KiB, and nothing of it.
            1 => socket.write_all(&[0x16, 3, 1, 0x40, 0]).expect("written"),
            _ => socket.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").expect("written"),
        }
        silent.push(socket);
    }
    let mut times = Vec::new();
    let mut plain = Client::connect(story.router.addr(0));
    for _ in 0..200 {
        let started = Instant::now();
        assert_eq!(plain.get("web", "/").status, 200);
        times.push(started.elapsed());
    }
    times.sort();
    assert!(times[100] < Duration::from_millis(100), "half took more than {:?}", times[100]);
    assert!(story.https(1, "web.example").get("web", "/").expect("an answer").starts_with("HTTP/1.1 200"));
    for socket in &mut silent {
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let mut rest = Vec::new();
        // A reset is an end as well.
        if let Err(error) = socket.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    let failures = |reason: &str| {
        story.router.series(&format!("tls_handshake_failures_total{{side=\"server\",reason=\"{reason}\"}}"))
    };
    let (mut timeouts, mut others) = (None, None);
    eventually("all are counted", SOON, || {
        (timeouts, others) = (failures("timeout"), failures("not-tls"));
        assert!(timeouts <= Some(200.0) && others <= Some(100.0), "{timeouts:?} and {others:?}");
        (timeouts == Some(200.0) && others == Some(100.0)).then_some(())
    });
    let failed =
        |port| format!("rt/http/server/127.0.0.1/{}/tls/failed_handshake_latency_ms.count", story.router.port(port));
    story.router.await_metric(&failed(1), 150.0);
}

/// T7: handshakes at full speed get their share of a worker and no more.
#[test]
fn t7_a_flood_of_handshakes_leaves_plain_traffic_alone() {
    let story = story("{}");
    let (addr, ca) = (story.router.addr(1), story.ca.clone());
    let (done, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let (ca, done, over) = (ca.clone(), done.clone(), over.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    let is_done = Https::connect(addr, "web.example", &ca, None).is_ok();
                    done.fetch_add(usize::from(is_done), Ordering::SeqCst);
                }
            })
        })
        .collect();
    let _over = StopOnDrop(&over);
    let mut plain = Client::connect(story.router.addr(0));
    let (mut times, begun) = (Vec::new(), Instant::now());
    // On a busy machine handshakes take their time.
    while begun.elapsed() < Duration::from_secs(2) || done.load(Ordering::SeqCst) <= 50 {
        assert!(begun.elapsed() < 4 * SOON, "{} handshakes", done.load(Ordering::SeqCst));
        let started = Instant::now();
        assert_eq!(plain.get("web", "/").status, 200);
        times.push(started.elapsed());
    }
    over.store(true, Ordering::SeqCst);
    floods.into_iter().for_each(|flood| flood.join().expect("it ends"));
    times.sort();
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(500), "half of the requests took more than {median:?}");
}

/// T6: a client that checks nothing is named at start and in a metric.
#[test]
fn t6_validation_that_is_off_is_seen() {
    let story = story("{ tls: { disableValidation: true } }");
    assert!(story.router.log().contains("CERTIFICATES ARE NOT CHECKED"));
    assert_eq!(story.router.series("tls_validation_disabled{router=\"http\"}"), Some(1.0));
    // Even the router's own listener with another name will do as an endpoint.
    let other = Switchyard::start(&fill(&story.folder, "{}"));
    other.disco().set("web", &[story.backend.addr()]);
    story.router.disco().set("web", &[other.addr(1)]);
    eventually("the endpoint with TLS is used", SOON, || {
        (Client::connect(story.router.addr(0)).get("web", "/").text() == "hello").then_some(())
    });
}

/// A listener that speaks TLS from now on serves nothing more on connections from before.
#[test]
fn a_reload_to_tls_ends_plain_connections() {
    let story = story("{}");
    let text = fill(&story.folder, "{}");
    let tls = format!(
        "- port: @P0@\n    tls: {{ certPath: {0}/web.pem, keyPath: {0}/web.key }}",
        story.folder.path().display()
    );
    let mut plain = Client::connect(story.router.addr(0));
    assert_eq!(plain.get("web", "/").status, 200);
    story.router.set_config(&text.replace("- port: @P0@", &tls));
    let secure = || Https::connect(story.router.addr(0), "web.example", &story.ca, None);
    eventually("the listener speaks TLS", SOON, || secure().ok());
    let before = story.backend.count();
    assert!(plain.try_get("web", "/").is_err());
    assert_eq!(story.backend.count(), before);
    assert!(secure().expect("a handshake").get("web", "/").expect("an answer").starts_with("HTTP/1.1 200"));
}

/// A handshake that was begun and goes nowhere does not hold the end of the process.
#[test]
fn a_half_open_handshake_does_not_hold_the_shutdown() {
    let story = story("{}");
    let mut begun = TcpStream::connect(story.router.addr(1)).expect("a connection");
    begun.write_all(&[0x16, 3, 1]).expect("written");
    let connections = format!("rt/http/server/127.0.0.1/{}/connections", story.router.port(1));
    story.router.await_metric(&connections, 1.0);
    story.router.signal_term();
    assert!(story.router.wait_exit(SOON).success());
}

/// The admin server speaks TLS, asks for certificates, and takes up new ones, as every listener does.
#[test]
fn f20_the_admin_server_speaks_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("ca");
    authority.issue(&["127.0.0.1"]).write(folder.path(), "admin");
    let caller = authority.issue(&["operator"]).write(folder.path(), "operator");
    let ca = authority.write(folder.path(), "ca");
    let tls = "{ certPath: @CERTS@/admin.pem, keyPath: @CERTS@/admin.key, caCertPath: @CERTS@/ca.pem, requireClientAuth: true }";
    let config = format!(
        "admin: {{ port: @ADMIN@, tls: {tls} }}\nrouters: [{{ protocol: http, servers: [{{ port: @P0@ }}] }}]\n"
    );
    let config = config.replace("@CERTS@", &folder.path().display().to_string());
    let page = |admin, own: Option<&PairFiles>, path: &str| {
        Https::connect(admin, "127.0.0.1", &ca, own).and_then(|https| https.get("localhost", path))
    };
    let router = Switchyard::start_when(&config, (&[], &[]), |admin| {
        page(admin, Some(&caller), "/admin/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    assert!(page(router.admin(), None, "/admin/ping").is_err(), "no certificate, no page");
    assert!(Client::connect(router.admin()).try_get("localhost", "/admin/ping").is_err(), "no plain text");
    let metrics = || page(router.admin(), Some(&caller), "/admin/metrics/prometheus").expect("a page");
    let counted = "tls_handshake_failures_total{side=\"admin\",reason=\"not-tls\"} 1";
    eventually("plain text is counted", SOON, || metrics().contains(counted).then_some(()));
    authority.issue(&["127.0.0.1"]).write(folder.path(), "admin");
    eventually("the new certificate is in use", SOON, || {
        metrics().contains("tls_reload_total{result=\"ok\"} 1").then_some(())
    });
}
