//! As an operator with Linkerd 1 dashboards, I see the same counters move for the same events (telemetry reference §7).

use e2e::{Backend, Client, FS_CONFIG, Reply, Switchyard, eventually, free_ports, get};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// How Linkerd 1 names a failure that is a 5xx response.
const SYNTHETIC: &str = "failures/com.twitter.finagle.service.ResponseClassificationSyntheticException";
const CANCELLED: &str = "failures/com.twitter.finagle.CancelledRequestException";

#[derive(Debug, Clone, Copy)]
enum Scope {
    Server,
    Service,
    Client,
    /// The client's counters for this service.
    ClientService,
    Router,
}
use Scope::{Client as C, ClientService as CS, Router as R, Server as S, Service as P};

impl Scope {
    fn key(self, switchyard: &Switchyard, name: &str) -> String {
        match self {
            S => format!("rt/http/server/127.0.0.1/{}/{name}", switchyard.port(0)),
            P => format!("rt/http/service/svc/web/{name}"),
            C => format!("rt/http/client/#/io.l5d.fs/web/{name}"),
            CS => format!("rt/http/client/#/io.l5d.fs/web/service/svc/web/{name}"),
            R => format!("rt/http/{name}"),
        }
    }
}

/// Waits until all counters have these values; one that is not there counts as 0.
fn expect(switchyard: &Switchyard, wanted: &[(Scope, &str, u64)]) {
    let started = Instant::now();
    loop {
        let metrics: Value = switchyard.page("/admin/metrics.json").json();
        let wrong: Vec<String> = wanted
            .iter()
            .filter_map(|(scope, name, value)| {
                let key = scope.key(switchyard, name);
                let got = metrics[&key].as_f64().unwrap_or(0.0);
                (got != *value as f64).then(|| format!("{key} is {got} and not {value}"))
            })
            .collect();
        if wrong.is_empty() {
            return;
        }
        assert!(started.elapsed() < SOON, "{wrong:#?}\n{metrics:#}");
    }
}

fn start(backend: &Backend) -> Switchyard {
    let switchyard = Switchyard::start(FS_CONFIG);
    switchyard.disco().set("web", &[backend.addr()]);
    switchyard
}

#[test]
fn a_success() {
    let web = Backend::text("hello");
    let switchyard = start(&web);
    let mut client = Client::connect(switchyard.addr(0));
    for _ in 0..3 {
        assert_eq!(client.get("web", "/").status, 200);
    }
    for scope in [S, P, C, CS] {
        expect(&switchyard, &[(scope, "requests", 3), (scope, "success", 3), (scope, "failures", 0)]);
    }
    expect(
        &switchyard,
        &[
            (S, "status/200", 3),
            (S, "status/2XX", 3),
            (S, "connects", 1),
            (S, "connections", 1),
            (S, "pending", 0),
            (C, "status/200", 3),
            (C, "status/2XX", 3),
            (C, "connects", 1),
            (C, "loadbalancer/size", 1),
            (C, "loadbalancer/available", 1),
            (P, "retries/budget", 100),
            (R, "bindcache/path/misses", 1),
            (R, "bindcache/client/misses", 1),
        ],
    );
}

#[test]
fn a_backends_500() {
    let web = Backend::with(|_| Reply::status(500));
    let switchyard = start(&web);
    assert_eq!(get(switchyard.addr(0), "web").status, 500);
    for scope in [S, P, C, CS] {
        expect(&switchyard, &[(scope, "requests", 1), (scope, "success", 0), (scope, "failures", 1)]);
    }
    expect(&switchyard, &[(S, "status/500", 1), (S, "status/5XX", 1), (C, "status/500", 1)]);
    for scope in [S, P, C] {
        expect(&switchyard, &[(scope, SYNTHETIC, 1)]);
    }
}

#[test]
fn a_500_that_counts_as_success() {
    let config = FS_CONFIG
        .replace("  dtab: |", "  service: { responseClassifier: { kind: io.l5d.http.allSuccessful } }\n  dtab: |");
    let switchyard = Switchyard::start(&config);
    let web = Backend::with(|_| Reply::status(500));
    switchyard.disco().set("web", &[web.addr()]);
    assert_eq!(get(switchyard.addr(0), "web").status, 500);
    for scope in [S, P, C, CS] {
        expect(&switchyard, &[(scope, "requests", 1), (scope, "success", 1), (scope, "failures", 0)]);
    }
    expect(&switchyard, &[(S, "status/500", 1)]);
}

#[test]
fn connections_are_refused_everywhere() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let refusing: Vec<SocketAddr> =
        free_ports(2).into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect();
    switchyard.disco().set("web", &refusing);
    let response = get(switchyard.addr(0), "web");
    assert_eq!(response.status, 502);
    let text = response.text();
    assert!(text.starts_with("Unable to establish connection to 127.0.0.1:"), "{text}");
    assert!(text.contains("\nservice name: /svc/web\nclient name: /#/io.l5d.fs/web\naddresses: ["), "{text}");
    expect(
        &switchyard,
        &[
            (S, "requests", 1),
            (S, "failures", 1),
            (S, SYNTHETIC, 1),
            (S, "status/502", 1),
            (P, "requests", 1),
            (P, "failures", 1),
            (P, "failures/com.twitter.finagle.ConnectionFailedException", 1),
            (P, SYNTHETIC, 0),
            (C, "requests", 0),
            (C, "connects", 0),
        ],
    );
    switchyard.await_metric(&P.key(&switchyard, "requests"), 1.0);
    let metric = |name: &str| switchyard.metric(&C.key(&switchyard, name)).unwrap_or(0.0);
    let requeues = metric("retries/requeues");
    assert!((1.0..=25.0).contains(&requeues), "{requeues}");
    assert_eq!(metric("service_creation/failures/java.net.ConnectException"), requeues + 1.0);
    assert_eq!(metric("retries/budget_exhausted"), 0.0, "connecting again spends no budget");
}

#[test]
fn there_is_no_binding() {
    let switchyard = Switchyard::start(FS_CONFIG);
    assert_eq!(get(switchyard.addr(0), "web").status, 502);
    expect(
        &switchyard,
        &[
            (S, "requests", 1),
            (S, "failures", 1),
            (S, SYNTHETIC, 1),
            (S, "status/502", 1),
            (P, "requests", 1),
            (P, "failures", 1),
            (P, "failures/com.twitter.finagle.NoBrokersAvailableException", 1),
            (C, "requests", 0),
            (R, "bindcache/path/misses", 1),
        ],
    );
}

#[test]
fn a_request_without_a_name() {
    let switchyard = Switchyard::start(FS_CONFIG);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.0\r\n\r\n");
    let response = client.read_response(false).expect("an answer");
    assert_eq!(response.status, 400);
    let text = response.text();
    assert!(text.starts_with("Unknown destination: Request(\"GET /\", from /127.0.0.1:"), "{text}");
    assert!(text.ends_with(") / Host header is absent"), "{text}");
    expect(
        &switchyard,
        &[
            (S, "requests", 1),
            (S, "failures", 1),
            (S, "failures/io.buoyant.router.RoutingFactory$UnknownDst", 1),
            (S, SYNTHETIC, 0),
            (S, "status/400", 1),
            (S, "status/4XX", 1),
            (P, "requests", 0),
            (R, "bindcache/path/misses", 0),
        ],
    );
}

#[test]
fn the_caller_hangs_up() {
    let hung = Backend::with(|_| Reply::text("too late").after(Duration::from_secs(60)));
    let switchyard = start(&hung);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    eventually("it is in flight", SOON, || (hung.count() == 1).then_some(()));
    expect(&switchyard, &[(S, "pending", 1), (P, "pending", 1), (C, "pending", 1), (S, "requests", 0)]);
    drop(client);
    expect(
        &switchyard,
        &[
            (S, "requests", 1),
            (S, "failures", 1),
            (S, SYNTHETIC, 1),
            (S, "status/502", 1),
            (S, "pending", 0),
            (P, "requests", 1),
            (P, "failures", 1),
            (P, CANCELLED, 1),
            (P, "pending", 0),
            (C, "requests", 1),
            (C, "failures", 1),
            (C, CANCELLED, 1),
            (C, "pending", 0),
            (C, "loadbalancer/load", 0),
        ],
    );
}

#[test]
fn the_upstream_connection_closes_when_the_caller_hangs_up() {
    let (closed, seen) = std::sync::mpsc::channel();
    let hung = Backend::raw(move |mut socket| {
        use std::io::Read;
        let mut buffer = [0; 4096];
        while socket.read(&mut buffer).is_ok_and(|n| n > 0) {}
        let _ = closed.send(());
    });
    let switchyard = start(&hung);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    expect(&switchyard, &[(C, "pending", 1)]);
    assert!(seen.try_recv().is_err());
    drop(client);
    seen.recv_timeout(SOON).expect("the backend's connection is closed");
}

#[test]
fn more_at_a_time_than_the_server_takes() {
    let config = FS_CONFIG.replace("port: @P0@", "port: @P0@, maxConcurrentRequests: 1");
    let switchyard = Switchyard::start(&config);
    let hung = Backend::with(|_| Reply::text("too late").after(Duration::from_secs(60)));
    switchyard.disco().set("web", &[hung.addr()]);
    let mut first = Client::connect(switchyard.addr(0));
    first.send_raw(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n");
    eventually("it is in flight", SOON, || (hung.count() == 1).then_some(()));
    let response = get(switchyard.addr(0), "web");
    assert_eq!((response.status, response.header("finagle-http-nack")), (503, Some("true")));
    assert_eq!((response.header("retry-after"), response.header("l5d-err")), (Some("0"), None));
    expect(
        &switchyard,
        &[
            (S, "requests", 1),
            (S, "failures", 1),
            (S, "nacks", 1),
            (S, "status/503", 1),
            (S, "request_concurrency", 1),
            (P, "requests", 0),
            (C, "requests", 0),
        ],
    );
    let metrics = switchyard.page("/admin/metrics.json").json();
    let rejected = S.key(&switchyard, "failures/rejected/");
    let keys: Vec<&String> = metrics.as_object().expect("an object").keys().collect();
    let failures: Vec<_> = keys.iter().filter(|key| key.contains("/failures/")).collect();
    assert!(keys.iter().any(|key| key.starts_with(&rejected)), "nothing begins with {rejected}: {failures:?}");
}

#[test]
fn the_process_has_the_gauges_that_dashboards_use() {
    let web = Backend::text("hello");
    let switchyard = start(&web);
    for name in ["jvm/uptime", "jvm/mem/current/used", "jvm/thread/count"] {
        assert!(switchyard.metric(name).is_some_and(|value| value > 0.0), "{name}: {:?}", switchyard.metric(name));
    }
}
