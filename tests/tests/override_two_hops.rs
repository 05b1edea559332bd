//! As a developer, I send one request through my branch of `world`, two calls deep, with a header; services in between
//! only forward `l5d-ctx-*`. Nobody else is affected, and a listener at the edge ignores such headers.

use e2e::{Backend, Client, Received, Reply, Response, Switchyard};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

/// `edge` takes calls to hello on P0, and on P2 from outside; hello calls world through `inner`.
const CONFIG: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: http
  label: edge
  servers:
  - { port: @P0@ }
  - { port: @P2@, clearContext: true }
  dtab: /svc => /#/io.l5d.fs ;
- protocol: http
  label: inner
  servers: [{ port: @P1@ }]
  dtab: |
    /svc => /#/io.l5d.fs ;
    /svc/world => /#/io.l5d.fs/world-v1 ;
"#;

const BRANCH: (&str, &str) = ("l5d-dtab", "/svc/world => /#/io.l5d.fs/world-v2 ;");

struct Mesh {
    switchyard: Switchyard,
    world_v1: Backend,
    world_v2: Backend,
    hello: Backend,
    forgetful: Backend,
}

/// Calls world through the router, with the headers of `request` that `forward` lets through.
fn call_world(router: SocketAddr, request: &Received, forward: fn(&str) -> bool) -> Reply {
    let kept = request.headers.iter().filter(|(name, _)| forward(&name.to_ascii_lowercase()));
    let headers: Vec<(&str, &str)> = kept.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let world = Client::connect(router).request("GET", "world", "/", &headers, b"");
    Reply { status: world.status, ..Reply::text(format!("hello {}", world.text())) }
}

impl Mesh {
    fn start() -> Mesh {
        let switchyard = Switchyard::start(CONFIG);
        let inner = switchyard.addr(1);
        let hello = Backend::with(move |request| call_world(inner, request, |name| name.starts_with("l5d-ctx-")));
        let forgetful = Backend::with(move |request| call_world(inner, request, |_| false));
        let (world_v1, world_v2) = (Backend::text("world v1"), Backend::text("world v2"));
        let disco = switchyard.disco();
        for (name, backend) in
            [("hello", &hello), ("forgetful", &forgetful), ("world-v1", &world_v1), ("world-v2", &world_v2)]
        {
            disco.set(name, &[backend.addr()]);
        }
        Mesh { switchyard, world_v1, world_v2, hello, forgetful }
    }

    fn ask(&self, port: usize, host: &str, headers: &[(&str, &str)]) -> Response {
        Client::connect(self.switchyard.addr(port)).request("GET", host, "/", headers, b"")
    }
}

#[test]
fn one_request_is_rerouted_two_calls_deep() {
    let mesh = Mesh::start();
    assert_eq!(mesh.ask(0, "hello", &[]).text(), "hello world v1");
    assert_eq!(mesh.hello.last().header("l5d-ctx-dtab"), None);
    let response = mesh.ask(0, "hello", &[BRANCH]);
    assert_eq!((response.status, response.text().as_str()), (200, "hello world v2"));
    for backend in [&mesh.hello, &mesh.world_v2] {
        let seen = backend.last();
        assert_eq!(seen.all("l5d-ctx-dtab"), ["/svc/world=>/#/io.l5d.fs/world-v2"], "canonical, once");
        assert_eq!(seen.header("l5d-dtab"), None);
    }
    let id = |backend: &Backend| backend.last().header("l5d-reqid").map(str::to_owned);
    assert_eq!(id(&mesh.hello), id(&mesh.world_v2), "one request id for the whole call");
    assert_eq!(mesh.ask(0, "hello", &[]).text(), "hello world v1", "it was one request");
    assert_eq!(mesh.world_v1.last().header("l5d-ctx-dtab"), None);
}

#[test]
fn a_service_that_forwards_nothing_ends_the_override() {
    let mesh = Mesh::start();
    assert_eq!(mesh.ask(0, "forgetful", &[BRANCH]).text(), "hello world v1");
    assert_eq!(mesh.forgetful.last().header("l5d-ctx-dtab"), Some("/svc/world=>/#/io.l5d.fs/world-v2"));
}

#[test]
fn all_override_headers_become_one() {
    let mesh = Mesh::start();
    let headers = [
        ("l5d-dtab", "/b => /c ; /d => 2 * /e & /f"),
        ("L5d-Ctx-Dtab", "/svc/world => /#/io.l5d.fs/world-v2"),
        ("l5d-dtab", "/g=>/h|/i"),
        ("dtab-local", "/x => /y"),
    ];
    assert_eq!(mesh.ask(0, "hello", &headers).text(), "hello world v2");
    let seen = mesh.hello.last();
    let wanted = "/svc/world=>/#/io.l5d.fs/world-v2;/b=>/c;/d=>2.00*/e & /f;/g=>/h | /i";
    assert_eq!(seen.all("l5d-ctx-dtab"), [wanted]);
    assert_eq!(seen.all("dtab-local"), ["/x => /y"], "not ours, passed on");
}

#[test]
fn a_bad_override_is_refused_with_the_parsers_words() {
    let mesh = Mesh::start();
    for (text, wanted, encoded) in [
        (
            "a=>b",
            "'/' expected but 'a' found at '[a]=>b'",
            "%27%2F%27+expected+but+%27a%27+found+at+%27%5Ba%5D%3D%3Eb%27",
        ),
        ("xyz", "'/' expected but 'x' found at '[x]yz'", "%27%2F%27+expected+but+%27x%27+found+at+%27%5Bx%5Dyz%27"),
    ] {
        for name in ["l5d-dtab", "l5d-ctx-dtab"] {
            let response = mesh.ask(0, "hello", &[(name, text)]);
            assert_eq!((response.status, response.text().as_str()), (400, wanted));
            assert_eq!(response.header("l5d-err"), Some(encoded));
        }
    }
    assert_eq!(mesh.hello.count(), 0);
    assert_eq!(mesh.ask(0, "hello", &[("l5d-dtab", "")]).status, 200, "an empty override is none");
}

#[test]
fn a_listener_that_clears_context_ignores_and_hides_it() {
    let mesh = Mesh::start();
    let from_outside =
        [BRANCH, ("l5d-ctx-dtab", "not a dtab"), ("L5D-Sample", "1.0"), ("l5d-anything", "x"), ("x-own", "kept")];
    let response = mesh.ask(2, "hello", &from_outside);
    assert_eq!((response.status, response.text().as_str()), (200, "hello world v1"));
    let l5d = |headers: &[(String, String)]| -> Vec<String> {
        let names = headers.iter().map(|(name, _)| name.to_ascii_lowercase());
        names.filter(|name| name.starts_with("l5d-")).collect()
    };
    assert_eq!(l5d(&response.headers), [""; 0]);
    let seen = mesh.hello.last();
    for gone in ["l5d-dtab", "l5d-ctx-dtab", "l5d-sample", "l5d-anything"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    assert_eq!(seen.header("x-own"), Some("kept"));

    let refused = mesh.ask(2, "nobody", &[]);
    assert_eq!(refused.status, 502);
    assert!(refused.text().starts_with("no-route (request id "), "no detail for callers outside: {}", refused.text());
    assert_eq!(l5d(&refused.headers), [""; 0]);
}

#[test]
fn others_are_unaffected_at_the_same_time() {
    let mesh = Mesh::start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(mesh.switchyard.addr(0));
                    let mut asked = 0;
                    while !stop.load(Ordering::Relaxed) && asked < 5000 {
                        assert_eq!(client.get("hello", "/").text(), "hello world v1");
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        let mut client = Client::connect(mesh.switchyard.addr(0));
        for _ in 0..100 {
            assert_eq!(client.request("GET", "hello", "/", &[BRANCH], b"").text(), "hello world v2");
        }
        stop.store(true, Ordering::Relaxed);
        others.into_iter().for_each(|other| assert!(other.join().expect("no other was rerouted") > 0));
    });
    assert_eq!(mesh.world_v2.count(), 100);
}
