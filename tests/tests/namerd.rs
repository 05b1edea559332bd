//! As an operator, I keep the routing rules of my fleet in namerd: I change them with `namerctl`, and every router follows
//! within a second, whatever protocol it speaks; tests name the protocol by its interpreter (issue of namerd, requirements
//! P12, P13).

use e2e::{Backend, Client, NAMERD_CONFIG, Namerd, Reply, Switchyard, eventually, get, try_get};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KINDS: [&str; 3] = ["io.l5d.mesh", "io.l5d.namerd", "io.l5d.namerd.http"];
/// A router must follow within this time. It does not each time on a busy machine: then in [`LATER`].
const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(60);

/// A folder of discovery files for namerd.
fn disco(services: &[(&str, &Backend)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, backend) in services {
        let addr = backend.addr();
        std::fs::write(folder.path().join(name), format!("{} {}\n", addr.ip(), addr.port())).expect("written");
    }
    folder
}

/// A router whose names are bound by `namerd`, over `kind`.
fn router(namerd: &Namerd, kind: &str) -> String {
    let interpreter = namerd.interpreter(kind);
    format!(
        "admin: {{ port: @ADMIN@ }}
routers:
- protocol: http
  servers: [{{ port: @P0@ }}]
  interpreter: {interpreter}
  bindingTimeoutMs: 3000
"
    )
}

fn follows(router: &Switchyard, host: &str, wanted: &str, limit: Duration) {
    eventually(&format!("{host} is answered by {wanted}"), limit, || {
        (try_get(router.addr(0), host).ok()?.text() == wanted).then_some(())
    });
}

fn follows_what_namerctl_does(kind: &str) {
    let (v1, v2) = (Backend::text("v1"), Backend::text("v2"));
    let disco = disco(&[("web-v1", &v1), ("web-v2", &v2)]);
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    let router = Switchyard::start(&router(&namerd, kind));
    assert_eq!(get(router.addr(0), "web").status, 502, "a namespace that does not exist binds nothing");
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc/web => /#/io.l5d.fs/web-v1");
    follows(&router, "web", "v1", LATER);
    let followed_soon = |version: &str| {
        namerd.ctl(&["dtab", "set", "default", "/svc/web", &format!("/#/io.l5d.fs/web-{version}")], "");
        let edited = Instant::now();
        follows(&router, "web", version, LATER);
        edited.elapsed() < SOON
    };
    let soon = (0..5).flat_map(|_| ["v2", "v1"]).any(followed_soon);
    assert!(soon, "none of ten edits was followed within {SOON:?}");
    followed_soon("v2");
    let moved = Backend::text("moved");
    std::fs::write(disco.path().join("web-v2"), format!("127.0.0.1 {}\n", moved.addr().port())).expect("written");
    follows(&router, "web", "moved", LATER);
    namerd.ctl(&["dtab", "delete", "default"], "");
    eventually("nothing is bound", LATER, || (get(router.addr(0), "web").status == 502).then_some(()));
}

#[test]
fn a_router_follows_over_mesh() {
    follows_what_namerctl_does(KINDS[0]);
}

#[test]
fn a_router_follows_over_thrift() {
    follows_what_namerctl_does(KINDS[1]);
}

#[test]
fn a_router_follows_over_http() {
    follows_what_namerctl_does(KINDS[2]);
}

/// The router's own dtab and a request's come after that of namerd; explaining works through each protocol.
#[test]
fn overrides_and_explanations_work_through_each() {
    let (v1, v2) = (Backend::text("v1"), Backend::text("v2"));
    let disco = disco(&[("web-v1", &v1), ("web-v2", &v2)]);
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    namerd.ctl(&["dtab", "create", "default", "-"], "/fs => /#/io.l5d.fs; /svc/web => /fs/web-v1");
    for kind in KINDS {
        let config =
            router(&namerd, kind).replace("  bindingTimeoutMs", "  dtab: /svc/api => /svc/web\n  bindingTimeoutMs");
        let router = Switchyard::start(&config);
        follows(&router, "api", "v1", LATER);
        let header = [("l5d-dtab", "/svc/web => /fs/web-v2")];
        let response = Client::connect(router.addr(0)).request("GET", "api", "/", &header, b"");
        assert_eq!(response.text(), "v2", "{kind}");
        let page = router.page("/delegator.json?namespace=http&path=/svc/web&dtab=");
        let text = page.text();
        for part in ["\"type\":\"leaf\"", "/#/io.l5d.fs/web-v1", "\"prefix\":\"/svc/web\"", "/fs/web-v1"] {
            assert!(page.status == 200 && text.contains(part), "{kind}: no {part}: {text}");
        }
        let state = router.page("/admin/watches.json").text();
        assert!(state.contains(kind), "{kind}: {state}");
        let state = router.page(&format!("/http/interpreter_state/{kind}/default.json")).json();
        assert_eq!(state["trees"][0]["state"], "ok", "{kind}: {state}");
        assert_eq!(state["addresses"][0]["state"], "ok", "{kind}: {state}");
    }
}

/// A line of a chunked stream that holds `part`.
fn await_line(lines: &mut impl BufRead, part: &str) -> String {
    let mut line = String::new();
    while !line.contains(part) {
        line.clear();
        assert!(lines.read_line(&mut line).expect("the stream goes on") > 0, "the stream ended before {part}");
    }
    line
}

#[test]
fn create_watch_update_conflict_delete() {
    let disco = disco(&[]);
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    let mut watch = TcpStream::connect(namerd.http()).expect("it listens");
    watch.set_read_timeout(Some(LATER)).expect("a timeout can be set");
    watch.write_all(b"GET /api/1/dtabs/default?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut lines = BufReader::new(watch);
    await_line(&mut lines, "HTTP/1.1 200");
    assert_eq!(namerd.ctl(&["dtab", "create", "default", "-"], "/a => /b"), "Created default\n");
    await_line(&mut lines, r#"[{"prefix":"/a","dst":"/b"}]"#);
    assert_eq!(namerd.ctl(&["dtab", "list"], ""), "default\n");
    let stamped = namerd.ctl(&["dtab", "get", "default", "--json"], "");
    assert_eq!(
        namerd.ctl(&["dtab", "update", "default", "-"], &stamped.replace("\"/b\"", "\"/c\"")),
        "Updated default\n"
    );
    await_line(&mut lines, r#"[{"prefix":"/a","dst":"/c"}]"#);
    let late = namerd.namerctl(&["dtab", "update", "default", "-"], &stamped);
    assert!(!late.status.success());
    assert!(String::from_utf8_lossy(&late.stderr).contains("412"), "{late:?}");
    let twice = namerd.namerctl(&["dtab", "create", "default", "-"], "/a => /d");
    assert!(String::from_utf8_lossy(&twice.stderr).contains("409"), "{twice:?}");
    assert_eq!(namerd.ctl(&["dtab", "delete", "default"], ""), "Deleted default\n");
    assert!(!namerd.namerctl(&["dtab", "get", "default"], "").status.success());
    let history = namerd.ctl(&["dtab", "history", "default", "--json"], "");
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    let dtabs: Vec<_> =
        history.as_array().expect("a list").iter().map(|entry| entry["dtab"][0]["dst"].clone()).collect();
    assert_eq!(dtabs, [serde_json::Value::Null, "/c".into(), "/b".into()]);
}

/// Two jobs that edit different prefixes at once both succeed (requirements P13.5).
#[test]
fn p13_5_two_jobs_edit_different_prefixes_at_once() {
    let disco = disco(&[]);
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /fs");
    std::thread::scope(|scope| {
        for job in 0..8 {
            let namerd = &namerd;
            scope.spawn(move || {
                for round in 0..5 {
                    let (prefix, dst) = (format!("/svc/{job}"), format!("/fs/{round}"));
                    namerd.ctl(&["dtab", "set", "default", &prefix, &dst], "");
                }
            });
        }
    });
    let dtab = namerd.ctl(&["dtab", "get", "default"], "");
    for job in 0..8 {
        let entry = dtab.lines().find(|line| line.starts_with(&format!("/svc/{job} "))).expect("its entry");
        assert!(entry.contains("/fs/4"), "{dtab}");
    }
}

/// The largest dtab that users told of.
#[test]
fn a_dtab_of_1811_dentries() {
    let web = Backend::text("web");
    let disco = disco(&[("web", &web)]);
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    let dtab: String = (0..1811).map(|n| format!("/svc/name-{n} => /#/io.l5d.fs/web ;\n")).collect();
    namerd.ctl(&["dtab", "create", "default", "-"], &dtab);
    for kind in KINDS {
        let router = Switchyard::start(&router(&namerd, kind));
        for n in [0, 900, 1810] {
            follows(&router, &format!("name-{n}"), "web", LATER);
        }
    }
    assert_eq!(namerd.ctl(&["dtab", "get", "default"], "").lines().count(), 1812);
}

/// Bytes that are no request, on every port (attacks A8): namerd closes, and goes on.
#[test]
fn a8_garbage_on_every_port_harms_nobody() {
    let web = Backend::text("web");
    let disco = disco(&[("web", &web)]);
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /#/io.l5d.fs");
    let routers: Vec<_> = KINDS.map(|kind| Switchyard::start(&router(&namerd, kind))).into();
    let ports = KINDS.map(|kind| {
        let text = namerd.interpreter(kind);
        text.rsplit('/').next().and_then(|rest| rest.trim_end_matches(" }").parse::<u16>().ok()).expect("a port")
    });
    let garbage: [&[u8]; 6] = [
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff\x01\x00\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x00\x00\x00\x00\x00\x00",
        b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PUT /api/1/dtabs/default HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/dtab\r\nContent-Length: 99999999999\r\n\r\n/",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ];
    for port in ports {
        for bytes in garbage {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout can be set");
            // It may close before all is written, or wait for more.
            let _ = socket.write_all(bytes);
            let _ = socket.read(&mut [0; 1024]);
        }
    }
    for router in &routers {
        follows(router, "web", "web", LATER);
    }
    assert_eq!(namerd.ctl(&["dtab", "get", "default", "--pretty=false"], ""), "/svc=>/#/io.l5d.fs;\n");
    let log = namerd.log();
    assert!(!log.contains("panic"), "{log}");
}

/// Reroutes one request two calls deep by a header, with the base dtab in namerd.
#[test]
fn staging_by_l5d_dtab_over_two_hops() {
    let world = Backend::text("world v1");
    let world2 = Backend::text("world v2");
    let folder = disco(&[("world-v1", &world), ("world-v2", &world2)]);
    let namerd = Namerd::start(NAMERD_CONFIG, folder.path());
    let base = "/srv => /#/io.l5d.fs; /host => /srv; /svc => /host; /host/world => /srv/world-v1";
    namerd.ctl(&["dtab", "create", "default", "-"], base);
    let router = Switchyard::start(&router(&namerd, "io.l5d.mesh"));
    let port = router.port(0);
    // Passes the context of its request on, as services of Linkerd 1 do.
    let hello = Backend::with(move |request: &e2e::Received| {
        let header = request.header("l5d-ctx-dtab").map(str::to_owned);
        let headers: Vec<(&str, &str)> = header.iter().map(|value| ("l5d-ctx-dtab", value.as_str())).collect();
        let inner = Client::connect(([127, 0, 0, 1], port).into()).request("GET", "world", "/", &headers, b"");
        Reply::text(format!("hello, {}", inner.text()))
    });
    let addr = hello.addr();
    std::fs::write(folder.path().join("hello"), format!("{} {}\n", addr.ip(), addr.port())).expect("written");
    follows(&router, "hello", "hello, world v1", LATER);
    let header = [("l5d-dtab", "/host/world => /srv/world-v2")];
    let staged = Client::connect(router.addr(0)).request("GET", "hello", "/", &header, b"");
    assert_eq!(staged.text(), "hello, world v2");
    assert_eq!(get(router.addr(0), "hello").text(), "hello, world v1");
}

/// An edit that leaves most names in use without a destination is refused, unless it is meant (attack A10).
#[test]
fn a10_an_edit_that_takes_all_names_away_is_refused_unless_forced() {
    let web = Backend::text("web");
    let disco = disco(&[("web", &web)]);
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc/* => /#/io.l5d.fs/web");
    let router = Switchyard::start(&router(&namerd, "io.l5d.mesh"));
    for n in 0..6 {
        follows(&router, &format!("name-{n}"), "web", LATER);
    }
    for (args, stdin) in [
        (&["dtab", "update", "default", "-"][..], "/svc => /#/io.l5d.fs/nowhere"),
        (&["dtab", "set", "default", "/svc/*", "/#/io.l5d.fs/nowhere"], ""),
        (&["dtab", "delete", "default"], ""),
    ] {
        let refused = namerd.namerctl(args, stdin);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && text.contains("6 of the 6 names"), "{args:?}: {text}");
        assert_eq!(get(router.addr(0), "name-0").text(), "web");
    }
    // An edit of a part is nobody's business.
    namerd.ctl(&["dtab", "set", "default", "/svc/name-1", "!"], "");
    eventually("one name is gone", LATER, || (get(router.addr(0), "name-1").status == 502).then_some(()));
    namerd.ctl(&["dtab", "update", "default", "-", "--force"], "/svc => /#/io.l5d.fs/nowhere");
    eventually("it was meant", LATER, || (get(router.addr(0), "name-0").status == 502).then_some(()));
}
