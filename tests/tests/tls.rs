//! F20 to F22: two routers with mutual TLS between them. Nobody in between reads anything, who is not whom it should be
//! gets nothing but a reason, and certificates and authorities are replaced while requests run.

use e2e::{Authority, Backend, Client, Received, Reply, Switchyard, eventually};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// The outgoing router: plain text on P0, TLS to what discovery says. `@CLIENT@` is the `client` object.
const OUT: &str = r"
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- protocol: http
  label: out
  servers: [{ port: @P0@ }]
  dtab: /svc => /#/io.l5d.fs ;
  client: @CLIENT@
";

/// The incoming router: mutual TLS on P0, and on P1 with a certificate that is over; plain text to the service.
const IN: &str = r"
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- protocol: http
  label: in
  servers:
  - port: @P0@
    tls: { certPath: @CERTS@/in.pem, keyPath: @CERTS@/in.key, caCertPath: @CERTS@/clients.pem, requireClientAuth: true }
  - port: @P1@
    tls: { certPath: @CERTS@/old.pem, keyPath: @CERTS@/old.key }
  dtab: /svc => /#/io.l5d.fs/backend ;
  client: { forwardClientCert: true }
";

const MUTUAL: &str = "{ tls: { commonName: in.mesh.example, trustCertsBundle: @CERTS@/servers.pem,
    clientAuth: { certPath: @CERTS@/out.pem, keyPath: @CERTS@/out.key } } }";

const CALLER: &str = "spiffe://mesh.example/host/out";

/// Authorities, and the files they have issued.
struct Certs {
    servers: Authority,
    clients: Authority,
    folder: TempDir,
}

impl Certs {
    fn new() -> Certs {
        let certs = Certs {
            servers: Authority::new("servers"),
            clients: Authority::new("clients"),
            folder: tempfile::tempdir().expect("a folder"),
        };
        certs.servers.write(certs.path(), "servers");
        certs.clients.write(certs.path(), "clients");
        certs.servers.issue_expired(&["in.mesh.example"], Duration::from_secs(86_400)).write(certs.path(), "old");
        certs.renew();
        certs
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces the certificates of both routers.
    fn renew(&self) {
        self.servers.issue(&["in.mesh.example"]).write(self.path(), "in");
        self.clients.issue(&[CALLER, "out.mesh.example"]).write(self.path(), "out");
    }

    fn fill(&self, yaml: &str) -> String {
        yaml.replace("@CERTS@", &self.path().display().to_string())
    }

    fn start_in(&self, backend: &Backend) -> Switchyard {
        let router = Switchyard::start(&self.fill(IN));
        router.disco().set("backend", &[backend.addr()]);
        router
    }

    fn start_out(&self, client: &str, endpoint: SocketAddr) -> Switchyard {
        let router = Switchyard::start(&self.fill(&OUT.replace("@CLIENT@", client)));
        router.disco().set("web", &[endpoint]);
        router
    }
}

/// A wire between two routers that remembers every byte of both directions.
struct Wire {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(target: SocketAddr) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let wire =
            Wire { addr: listener.local_addr().expect("an address"), seen: Arc::default(), open: Arc::default() };
        let (seen, open) = (wire.seen.clone(), wire.open.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(target) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().expect("a handle"), to.try_clone().expect("a handle"));
                    let seen = seen.clone();
                    std::thread::spawn(move || copy(from, to, &seen));
                }
                open.lock().expect("no panic").extend([near, far]);
            }
        });
        wire
    }

    /// Cuts every connection.
    fn cut(&self) {
        for socket in self.open.lock().expect("no panic").drain(..) {
            // It may be gone.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, seen: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        seen.lock().expect("no panic").extend_from_slice(&buffer[..read]);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn contains(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

/// F21: nothing of request or response is on the wire in clear, and the service learns who called.
#[test]
fn f21_nobody_on_the_wire_reads_anything() {
    let certs = Certs::new();
    let backend = Backend::with(|request: &Received| {
        Reply::text(format!("answer-body-{}", "z".repeat(40_000))).header("answer-header", request.target.as_str())
    });
    let incoming = certs.start_in(&backend);
    let wire = Wire::to(incoming.addr(0));
    let outgoing = certs.start_out(MUTUAL, wire.addr);
    let mut client = Client::connect(outgoing.addr(0));
    let body = format!("request-body-{}", "y".repeat(40_000));
    let headers = [("request-header", "request-value"), ("x-forwarded-client-cert", "Hash=spoofed")];
    for _ in 0..3 {
        let response = client.request("POST", "web", "/request-path", &headers, body.as_bytes());
        assert_eq!((response.status, response.header("answer-header")), (200, Some("/request-path")));
        assert!(response.text().starts_with("answer-body-zzz") && response.body.len() == 40_012);
    }
    let received = backend.last();
    assert_eq!(received.body, body.as_bytes());
    let told = received.all("x-forwarded-client-cert");
    assert!(told.len() == 1 && told[0].starts_with("Hash=") && !told[0].contains("spoofed"), "{told:?}");
    let expected = format!(";SAN={CALLER};DNS=out.mesh.example;Subject=\"CN={CALLER}\"");
    assert!(told[0].ends_with(&expected), "{told:?}");
    let seen = wire.seen.lock().expect("no panic");
    assert!(seen.len() > 200_000 && seen.first() == Some(&0x16), "a TLS handshake and all the bodies");
    for word in [
        "POST",
        "HTTP/1",
        "request-path",
        "request-header",
        "request-value",
        "request-body",
        "yyyyyyyy",
        "answer-header",
        "answer-body",
        "zzzzzzzz",
        "l5d-",
        "host: web",
        "mesh.example/host",
    ] {
        assert!(!contains(&seen, word), "{word:?} is readable on the wire");
    }
    let scope = format!("rt/in/server/127.0.0.1/{}", incoming.port(0));
    assert_eq!(incoming.metric(&format!("{scope}/tls/connections")), Some(1.0), "one connection for all requests");
    assert_eq!(incoming.metric(&format!("{scope}/tls/handshake_latency_ms.count")), Some(1.0));
    let file = certs.path().join("in.pem");
    let expiry = format!("tls_certificate_expiry_seconds{{file=\"{}\"}}", file.display());
    assert!(incoming.series(&expiry).is_some_and(|seconds| seconds > 1.7e9), "expiry is a metric");
}

/// T4, and the other direction: 502 with the cause in the text and in a metric, and not a byte for the service.
#[test]
fn t4_who_is_not_whom_it_should_be_gets_a_reason() {
    let certs = Certs::new();
    let backend = Backend::text("reached");
    let incoming = certs.start_in(&backend);
    Authority::new("foreign").write(certs.path(), "foreign");
    Authority::new("foreign").issue(&["out.mesh.example"]).write(certs.path(), "stranger");
    let cases = [
        (
            0,
            "commonName: other.example, trustCertsBundle: @CERTS@/servers.pem",
            "name-mismatch",
            "expected a certificate for the name other.example; the server presented the names in.mesh.example",
        ),
        (
            0,
            "commonName: in.mesh.example, trustCertsBundle: @CERTS@/foreign.pem",
            "unknown-issuer",
            "the certificate of CN=in.mesh.example is from CN=servers",
        ),
        (
            1,
            "commonName: in.mesh.example, trustCertsBundle: @CERTS@/servers.pem",
            "expired",
            "the certificate expired on 20",
        ),
        (
            0,
            "commonName: in.mesh.example, trustCertsBundle: @CERTS@/servers.pem",
            "alert-certificate-required",
            "it requires a client certificate",
        ),
        (
            0,
            "commonName: in.mesh.example, trustCertsBundle: @CERTS@/servers.pem,
            clientAuth: { certPath: @CERTS@/stranger.pem, keyPath: @CERTS@/stranger.key }",
            "alert-certificate",
            "it does not accept our certificate",
        ),
    ];
    for (port, tls, reason, text) in cases {
        let outgoing = certs.start_out(&format!("{{ tls: {{ {tls} }} }}"), incoming.addr(port));
        for method in ["GET", "POST"] {
            let response = Client::connect(outgoing.addr(0)).request(method, "web", "/", &[], b"");
            assert_eq!(response.status, 502, "{reason}: {}", response.text());
            let alert = reason.starts_with("alert-");
            let error = if alert { "error=tls_alert_received;" } else { "error=tls_certificate_error;" };
            assert!(response.header("proxy-status").is_some_and(|status| status.contains(error)), "{response:?}");
            assert!(response.text().contains(text), "{reason}: {}", response.text());
            assert!(response.header("l5d-err").is_some_and(|err| err.contains("TLS")));
        }
        let series = format!("tls_handshake_failures_total{{side=\"client\",reason=\"{reason}\"}}");
        assert!(
            outgoing.series(&series).is_some_and(|count| count >= 2.0),
            "{series}: {}",
            outgoing.page("/admin/metrics/prometheus").text()
        );
    }
    assert_eq!(backend.count(), 0, "nothing came through");
    let refused =
        |reason: &str| incoming.series(&format!("tls_handshake_failures_total{{side=\"server\",reason=\"{reason}\"}}"));
    assert!(refused("no-certificate").is_some() && refused("unknown-issuer").is_some());
}

/// F22, T1: certificates of both sides are replaced again and again under load, and no request fails.
#[test]
fn f22_certificates_rotate_under_load_without_an_error() {
    let certs = Certs::new();
    let backend = Backend::text("ok");
    let incoming = certs.start_in(&backend);
    // New connections all the time, so that every generation of certificates is used.
    // A handshake takes its time where many tests run at once.
    let client = MUTUAL.replace("{ tls:", "{ hostConnectionPool: { idleTimeMs: 0 }, connectTimeoutMs: 10000, tls:");
    let outgoing = certs.start_out(&client, incoming.addr(0));
    let stop = Arc::new(AtomicBool::new(false));
    let (failed, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let loads: Vec<_> = (0..3)
        .map(|_| {
            let (addr, stop, failed, served) = (outgoing.addr(0), stop.clone(), failed.clone(), served.clone());
            std::thread::spawn(move || {
                let mut client = Client::connect(addr);
                let begun = std::time::Instant::now();
                while !stop.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(300) {
                    match client.try_get("web", "/") {
                        Ok(response) if response.status == 200 => _ = served.fetch_add(1, Ordering::SeqCst),
                        other => {
                            eprintln!("{other:?}");
                            failed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    for round in 1..=3 {
        certs.renew();
        for router in [&incoming, &outgoing] {
            eventually("the new certificates are in use", SOON, || {
                let reloads = router.series("tls_reload_total{result=\"ok\"}").unwrap_or(0.0);
                (reloads >= f64::from(round)).then_some(())
            });
        }
        let target = served.load(Ordering::SeqCst) + 20;
        eventually("requests are answered", Duration::from_secs(60), || {
            (served.load(Ordering::SeqCst) >= target).then_some(())
        });
    }
    stop.store(true, Ordering::SeqCst);
    loads.into_iter().for_each(|load| load.join().expect("the load ends"));
    assert_eq!(failed.load(Ordering::SeqCst), 0);
    assert!(served.load(Ordering::SeqCst) > 50);
    let connects = format!("rt/in/server/127.0.0.1/{}/connects", incoming.port(0));
    assert!(incoming.metric(&connects).is_some_and(|connects| connects > 20.0), "many handshakes");
    // No word of failed reloads: a look between the two files of a pair finds that they do not belong together, and
    // leaves the old ones in use.
}

/// T2: once the bundle of client authorities is another one, the old client is refused, sessions or not; what is open
/// goes on.
#[test]
fn t2_a_new_bundle_refuses_the_old_client() {
    let certs = Certs::new();
    let backend = Backend::text("ok");
    let incoming = certs.start_in(&backend);
    let wire = Wire::to(incoming.addr(0));
    let outgoing = certs.start_out(MUTUAL, wire.addr);
    let mut client = Client::connect(outgoing.addr(0));
    assert_eq!(client.get("web", "/").status, 200);
    Authority::new("clients-2").write(certs.path(), "clients");
    eventually("the new bundle is in use", SOON, || incoming.series("tls_reload_total{result=\"ok\"}"));
    assert_eq!(client.get("web", "/").status, 200, "a connection that is open goes on");
    wire.cut();
    eventually("the old client is refused", SOON, || {
        let response = client.get("web", "/");
        (response.status == 502 && response.text().contains("does not accept our certificate")).then_some(())
    });
    let requests = backend.count();
    for _ in 0..5 {
        assert_eq!(client.get("web", "/").status, 502);
    }
    assert_eq!(backend.count(), requests);
}
