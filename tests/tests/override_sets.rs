//! As a developer I name a stored override set, in `baggage` or in a header, and every hop applies it, as long as the
//! services in between pass either on. Nothing of it leaves for services of others. Attacks O8 and O11, requirement P20.

use e2e::{Backend, Client, Received, Reply, Response, Switchyard};
use std::net::SocketAddr;

const CONFIG: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: http
  label: http
  servers:
  - { port: @P0@, overrides: named }
  - { port: @P1@, overrides: { mode: named, strict: true } }
  - { port: @P2@, overrides: { mode: legacy, dtabLocal: true } }
  - { port: @P3@, overrides: named, clearContext: true }
  - { port: @P4@, overrides: { mode: policy, rules: [{ raw: false, prefixes: [/svc/world] }] } }
  overrideSets:
  - { name: pr-1, dtab: "/svc/world => /#/io.l5d.fs/world-pr-1", expires: 2999-12-31T23:59:59Z, owner: team-a }
  - { name: pr-2, dtab: "/svc/world => /#/io.l5d.fs/world-pr-2", callers: [127.0.0.0/8] }
  - { name: old, dtab: "/svc/world => /#/io.l5d.fs/world-pr-1", expires: 2001-01-01T00:00:00Z }
  - { name: theirs, dtab: "/svc/world => /#/io.l5d.fs/world-pr-1", callers: [10.99.0.0/16] }
  - { name: wide, dtab: "/svc => /#/io.l5d.fs/world-pr-1" }
  - { name: evil, dtab: "/svc/world => /$/inet/127.1/@ADMIN@" }
  client:
    kind: io.l5d.static
    configs:
    - { prefix: "/#/io.l5d.fs/outside", egress: true }
  dtab: |
    /svc => /#/io.l5d.fs ;
"#;

const NAMED: usize = 0;
const STRICT: usize = 1;
const LEGACY: usize = 2;
const EDGE: usize = 3;
const POLICY: usize = 4;

struct Mesh {
    router: Switchyard,
    world: Backend,
    pr_1: Backend,
    hello: Backend,
    outside: Backend,
}

/// Calls world with the headers that an application passes on.
fn call_world(router: SocketAddr, request: &Received) -> Reply {
    let passed = |name: &str| name == "baggage" || name.starts_with("l5d-ctx-");
    let kept = request.headers.iter().filter(|(name, _)| passed(name));
    let headers: Vec<(&str, &str)> = kept.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Reply::text(format!("hello {}", Client::connect(router).request("GET", "world", "/", &headers, b"").text()))
}

impl Mesh {
    fn start() -> Mesh {
        let router = Switchyard::start(CONFIG);
        let inner = router.addr(NAMED);
        let hello = Backend::with(move |request| call_world(inner, request));
        let (world, pr_1) = (Backend::text("world"), Backend::text("pr-1"));
        let outside = Backend::text("outside");
        for (name, backend) in [("world", &world), ("world-pr-1", &pr_1), ("hello", &hello), ("outside", &outside)] {
            router.disco().set(name, &[backend.addr()]);
        }
        Mesh { router, world, pr_1, hello, outside }
    }

    fn ask(&self, listener: usize, host: &str, headers: &[(&str, &str)]) -> Response {
        Client::connect(self.router.addr(listener)).request("GET", host, "/", headers, b"")
    }

    fn counter(&self, name: &str, reason: &str) -> u64 {
        let page = self.router.page("/admin/metrics/prometheus").text();
        let start = format!("{name}{{reason=\"{reason}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
    }
}

#[test]
fn p20_a_name_in_baggage_travels_two_calls_deep() {
    let mesh = Mesh::start();
    let baggage = ("baggage", "user=42;secret=no , dtab=pr-1;ttl=5,x=%20");
    assert_eq!(mesh.ask(NAMED, "hello", &[baggage]).text(), "hello pr-1");
    for backend in [&mesh.hello, &mesh.pr_1] {
        let seen = backend.last();
        assert_eq!(seen.all("baggage"), [baggage.1], "byte by byte");
        assert_eq!((seen.header("l5d-ctx-dtab"), seen.header("l5d-ctx-override")), (None, None), "a name, no table");
    }
    assert_eq!(mesh.ask(NAMED, "hello", &[("baggage", "user=42")]).text(), "hello world");
}

#[test]
fn p20_a_name_in_a_header_travels_two_calls_deep() {
    let mesh = Mesh::start();
    for header in ["l5d-override", "L5D-Ctx-Override"] {
        assert_eq!(mesh.ask(NAMED, "hello", &[(header, "pr-1")]).text(), "hello pr-1");
        for backend in [&mesh.hello, &mesh.pr_1] {
            let seen = backend.last();
            assert_eq!((seen.header("l5d-ctx-override"), seen.header("l5d-override")), (Some("pr-1"), None));
        }
    }
}

#[test]
fn p20_tables_travel_beside_names() {
    let mesh = Mesh::start();
    let headers = [
        ("l5d-dtab", "/c => /d"),
        ("dtab-local", "/b => /c"),
        ("l5d-ctx-dtab", "/a => /b"),
        ("l5d-override", "pr-1"),
        ("baggage", "dtab=pr-2"),
        ("l5d-ctx-override", "pr-2, pr-1"),
    ];
    assert_eq!(mesh.ask(LEGACY, "hello", &headers).text(), "hello pr-1", "the later set wins");
    let seen = mesh.hello.last();
    assert_eq!(seen.all("l5d-ctx-dtab"), ["/a=>/b;/b=>/c;/c=>/d"], "context, dtab-local, user; the sets are not in it");
    assert_eq!(seen.all("l5d-ctx-override"), ["pr-2, pr-1"], "once each");
    assert_eq!((seen.header("dtab-local"), seen.header("baggage")), (None, Some("dtab=pr-2")));
    let headers = [("l5d-override", "pr-1"), ("l5d-dtab", "/svc/world => /#/io.l5d.fs/world")];
    assert_eq!(mesh.ask(LEGACY, "world", &headers).text(), "world", "tables win over sets");
}

#[test]
fn a_listener_for_strangers_may_let_them_name_sets() {
    let mesh = Mesh::start();
    let headers = [("baggage", "dtab=pr-1"), ("l5d-dtab", "/svc => /x"), ("l5d-ctx-deadline", "1 2")];
    let response = mesh.ask(EDGE, "world", &headers);
    assert_eq!(response.text(), "pr-1");
    assert!(response.headers.iter().all(|(name, _)| !name.starts_with("l5d-")), "{response:?}");
    assert_eq!(mesh.pr_1.last().header("l5d-ctx-deadline"), None);
    assert_eq!(mesh.ask(EDGE, "world", &[("l5d-override", "pr-1")]).text(), "world", "clearContext takes headers");
    let text = mesh.ask(EDGE, "nobody", &[("baggage", "dtab=pr-1")]).text();
    assert!(text.starts_with("no-route (request id ") && text.len() < 50, "a code is all that is told: {text}");
}

/// Attack O8: never 5xx, and the rest of baggage is as it was.
#[test]
fn o8_what_is_no_set_is_as_if_absent_or_refused() {
    let mesh = Mesh::start();
    let many = vec!["a=1"; 199].join(",");
    let (with_ours, long) = (format!("{many},dtab=pr-1"), format!("dtab=pr-1,a={}", "x".repeat(7000)));
    for (baggage, rest, reason) in [
        ("a=1,dtab=none,b=2", Some("a=1,b=2"), "unknown-set"),
        ("dtab=old", None, "expired-set"),
        ("x=y , dtab=theirs", Some("x=y "), "forbidden-set"),
        ("dtab=%0d%0aevil:1", None, "unknown-set"),
        ("dtab", None, "unknown-set"),
        ("dtab=", None, "unknown-set"),
        ("dtab=../pr-1", None, "unknown-set"),
        ("dtab=PR-1;x=y,q", Some("q"), "unknown-set"),
        (&with_ours, Some(many.as_str()), "large-baggage"),
    ] {
        let before = (mesh.counter("override_ignored_total", reason), mesh.counter("override_denied_total", reason));
        let response = mesh.ask(NAMED, "world", &[("baggage", baggage)]);
        assert_eq!((response.status, response.text().as_str()), (200, "world"), "{baggage}");
        assert_eq!(mesh.world.last().header("baggage"), rest.map(str::trim_end), "{baggage}");
        let bytes = (mesh.world.bytes_seen().len(), mesh.pr_1.bytes_seen().len());
        assert_eq!(mesh.ask(STRICT, "world", &[("baggage", baggage)]).status, 403, "{baggage}");
        assert_eq!((mesh.world.bytes_seen().len(), mesh.pr_1.bytes_seen().len()), bytes, "{baggage}");
        let after = (mesh.counter("override_ignored_total", reason), mesh.counter("override_denied_total", reason));
        assert_eq!(after, (before.0 + 1, before.1 + 1), "{baggage}: {reason}");
    }
    for (baggage, wanted) in [
        ("%64tab=pr-1", "world"),
        ("DTAB=pr-1", "world"),
        ("a=dtab=pr-1", "world"),
        ("dtab=%70r-1", "pr-1"),
        ("dtab=none,dtab=pr-1", "pr-1"),
        (&long, "pr-1"),
    ] {
        assert_eq!(mesh.ask(NAMED, "world", &[("baggage", baggage)]).text(), wanted, "{baggage}");
    }
    let huge = format!("dtab=pr-1,a={}", "x".repeat(64 * 1024));
    assert_eq!(mesh.ask(NAMED, "world", &[("baggage", &huge)]).status, 431);
    for (header, name) in [("l5d-override", "none"), ("l5d-ctx-override", "pr-1, old")] {
        assert_eq!(mesh.ask(STRICT, "world", &[(header, name)]).status, 403, "{name}");
        assert_eq!(mesh.ask(NAMED, "world", &[(header, name)]).status, 200, "{name}");
    }
    assert_eq!(mesh.pr_1.last().header("l5d-ctx-override"), Some("pr-1"), "what does not count goes no further");
}

/// A set is an override as well: the absolute denials and the policy hold for it.
#[test]
fn sets_are_under_the_same_rules() {
    let mesh = Mesh::start();
    let denied = |reason: &str| mesh.counter("override_denied_total", reason);
    assert_eq!(mesh.ask(NAMED, "world", &[("baggage", "dtab=evil")]).status, 403);
    assert_eq!(denied("loopback"), 1);
    assert_eq!(mesh.ask(POLICY, "world", &[("baggage", "dtab=pr-1")]).text(), "pr-1");
    assert_eq!(mesh.ask(POLICY, "world", &[("baggage", "dtab=wide")]).status, 403);
    assert_eq!(denied("prefix"), 1);
    assert_eq!(mesh.ask(POLICY, "world", &[("l5d-dtab", "/svc/world => /x")]).status, 403);
    assert_eq!(denied("raw"), 1);
    let as_key = mesh.ask(LEGACY, "world", &[("l5d-dtab", "\u{a0}pr-1")]);
    assert_eq!(as_key.status, 400, "a table is no name");
    let log = mesh.router.log();
    assert!(log.lines().any(|line| line.contains("override denied") && line.contains("set wide of nobody")));
}

/// Attack O11: what leaves the mesh carries nothing of ours.
#[test]
fn o11_nothing_of_ours_leaves_by_an_egress_leaf() {
    let mesh = Mesh::start();
    let headers = [
        ("l5d-dtab", "/a => /b"),
        ("l5d-override", "pr-1"),
        ("l5d-ctx-deadline", "1 9999999999999999999"),
        ("l5d-anything", "x"),
        ("baggage", "a=1,dtab=pr-1,b=2"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ];
    assert_eq!(mesh.ask(LEGACY, "outside", &headers).text(), "outside");
    let seen = mesh.outside.last();
    let ours: Vec<&String> = seen.headers.iter().map(|(name, _)| name).filter(|name| name.starts_with("l5d")).collect();
    assert_eq!(ours, [""; 0]);
    assert_eq!(seen.all("baggage"), ["a=1,b=2"]);
    assert!(seen.header("traceparent").is_some() && seen.header("via").is_some());
    let bytes = mesh.outside.bytes_seen();
    assert!(!bytes.windows(4).any(|window| window == b"dtab" || window == b"pr-1"));
    assert_eq!(mesh.ask(LEGACY, "world", &headers).text(), "pr-1");
    let inside = mesh.pr_1.last();
    assert_eq!(inside.header("baggage"), Some("a=1,dtab=pr-1,b=2"), "within the mesh it goes on");
    assert!(inside.header("l5d-ctx-dtab").is_some() && inside.header("l5d-dst-client").is_some());
}
