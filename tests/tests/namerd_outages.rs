//! As an operator, I lose namerd, and the routers, in any order, and my traffic does not notice (requirements P1, P2, P12;
//! attacks A8, A9).

use e2e::{Authority, Backend, Load, NAMERD_CONFIG, Namerd, Switchyard, eventually, free_ports, get, try_get};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const KINDS: [&str; 3] = ["io.l5d.mesh", "io.l5d.namerd", "io.l5d.namerd.http"];
const LATER: Duration = Duration::from_secs(60);

fn disco(services: &[(&str, &Backend)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, backend) in services {
        std::fs::write(folder.path().join(name), format!("127.0.0.1 {}\n", backend.addr().port())).expect("written");
    }
    folder
}

fn router(interpreter: &str, more: &str) -> String {
    format!(
        "admin: {{ port: @ADMIN@ }}
{more}
routers:
- protocol: http
  servers: [{{ port: @P0@ }}]
  interpreter: {interpreter}
  bindingTimeoutMs: 2000
"
    )
}

fn follows(router: &Switchyard, host: &str, wanted: &str) {
    eventually(&format!("{host} is answered by {wanted}"), LATER, || {
        (try_get(router.addr(0), host).ok()?.text() == wanted).then_some(())
    });
}

/// namerd is killed under load: no request fails. Edits work again once it is back, without a restart of the router.
fn survives_a_kill(kind: &str) {
    let (v1, v2) = (Backend::text("v1"), Backend::text("v2"));
    let disco = disco(&[("web-v1", &v1), ("web-v2", &v2)]);
    let mut namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc/web => /#/io.l5d.fs/web-v1");
    let router = Switchyard::start(&router(&namerd.interpreter(kind), ""));
    follows(&router, "web", "v1");
    let load = Load::during(router.addr(0), "web", |load| {
        namerd.kill();
        load.more(200);
        assert_eq!(get(router.addr(0), "web").text(), "v1");
        namerd.run();
        namerd.ctl(&["dtab", "set", "default", "/svc/web", "/#/io.l5d.fs/web-v2"], "");
        eventually("the edit is followed", LATER, || (load.next(20).get("v1") == Some(&0)).then_some(()));
        assert!(namerd.terminate(), "it ends when it is asked to");
        load.more(100);
    });
    assert_eq!(load.failures(), [""; 0], "{kind}");
}

#[test]
fn p2_1_a_killed_namerd_fails_no_request_over_mesh() {
    survives_a_kill(KINDS[0]);
}

#[test]
fn p2_1_a_killed_namerd_fails_no_request_over_thrift() {
    survives_a_kill(KINDS[1]);
}

#[test]
fn p2_1_a_killed_namerd_fails_no_request_over_http() {
    survives_a_kill(KINDS[2]);
}

/// A router that is restarted while namerd is down serves the names that it knew, from `stateDir`.
#[test]
fn p2_2_a_router_restarted_without_namerd_serves_what_it_knew() {
    let web = Backend::text("web");
    let disco = disco(&[("web", &web)]);
    for kind in KINDS {
        let mut namerd = Namerd::start(NAMERD_CONFIG, disco.path());
        namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /#/io.l5d.fs");
        let state = tempfile::tempdir().expect("a folder");
        let config = router(&namerd.interpreter(kind), &format!("stateDir: {}", state.path().display()));
        let before = Switchyard::start(&config);
        follows(&before, "web", "web");
        before.signal_term();
        assert!(before.wait_exit(LATER).success());
        namerd.kill();
        let after = Switchyard::start(&config);
        follows(&after, "web", "web");
        namerd.run();
        let second = Backend::text("second");
        std::fs::write(disco.path().join("second"), format!("127.0.0.1 {}\n", second.addr().port())).expect("written");
        follows(&after, "second", "second");
    }
}

/// A name that was never known says so soon, and why, when namerd is not there.
#[test]
fn p6_a_name_that_namerd_was_never_asked_for_says_who_is_missing() {
    let port = free_ports(1)[0];
    for kind in KINDS {
        let router = Switchyard::start(&router(&format!("{{ kind: {kind}, dst: /$/inet/127.0.0.1/{port} }}"), ""));
        let response = get(router.addr(0), "web");
        assert!((500..600).contains(&response.status), "{kind}: {}", response.status);
        let text = response.text();
        assert!(text.contains(&port.to_string()) && text.contains("/svc/web"), "{kind}: {text}");
    }
}

/// The port of another interface is a mistake that everybody makes once.
#[test]
fn p6_a_router_that_asks_the_wrong_interface_is_told_which_one_it_needs() {
    let disco = disco(&[]);
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    let [http, mesh, thrift, admin] = namerd.place().ports;
    for (kind, port, told) in [
        (KINDS[0], http, "io.l5d.mesh of a namerd?"),
        (KINDS[1], mesh, "io.l5d.thriftNameInterpreter of a namerd?"),
        (KINDS[1], admin, "io.l5d.thriftNameInterpreter of a namerd?"),
        (KINDS[2], mesh, "This port speaks gRPC"),
        (KINDS[2], thrift, "namerd at 127.0.0.1"),
    ] {
        let router = Switchyard::start(&router(&format!("{{ kind: {kind}, dst: /$/inet/127.0.0.1/{port} }}"), ""));
        let response = get(router.addr(0), "web");
        let text = response.text();
        assert!(response.status >= 500 && text.contains(told), "{kind} at {port}: {text}");
        assert!(text.contains(&port.to_string()), "{kind} at {port}: {text}");
    }
}

/// A namerd that answers nothing, or nonsense: the router neither hangs nor grows, and serves once there is a real one.
#[test]
fn a9_a_namerd_that_lies_is_not_believed() {
    let web = Backend::text("web");
    let disco = disco(&[("web", &web)]);
    let nonsense: [&[u8]; 4] =
        [b"", b"\x00\x00\x00\x04\x80\xff\xff\xff", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", &[0xff; 64]];
    for kind in KINDS {
        let liar = Backend::raw(move |mut socket| {
            use std::io::{Read, Write};
            // It may be gone already.
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(nonsense[usize::from(fastrand::u8(..4))]);
        });
        let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
        namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /#/io.l5d.fs");
        let interpreter = format!("{{ kind: {kind}, dst: /$/inet/127.0.0.1/{} }}", liar.addr().port());
        let router = Switchyard::start(&router(&interpreter, ""));
        assert!(get(router.addr(0), "web").status >= 500, "{kind}");
        router.set_config(&self::router(&namerd.interpreter(kind), ""));
        follows(&router, "web", "web");
        assert!(!router.log().contains("panic"), "{kind}: {}", router.log());
    }
}

fn with_tls(namerd: &str, pair: &e2e::PairFiles) -> String {
    let tls = format!("tls: {{ certPath: {}, keyPath: {} }}", pair.cert.display(), pair.key.display());
    namerd
        .replace("port: @MESH@", &format!("port: @MESH@, {tls}"))
        .replace("port: @THRIFT@", &format!("port: @THRIFT@, {tls}"))
}

fn trusting(namerd: &Namerd, kind: &str, name: &str, ca: &Path) -> String {
    let trust = if kind == "io.l5d.namerd" { "caCert" } else { "trustCertsBundle" };
    let tls = format!(", tls: {{ commonName: {name}, {trust}: {} }} }}", ca.display());
    namerd.interpreter(kind).replace(" }", &tls)
}

/// Over TLS; one whose certificate has another name, or is of another authority, is not spoken to.
#[test]
fn a9_a_namerd_with_another_certificate_is_refused() {
    let web = Backend::text("web");
    let disco = disco(&[("web", &web)]);
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().expect("a folder");
    let pair = authority.issue(&["namerd"]).write(folder.path(), "namerd");
    let namerd = Namerd::start(&with_tls(NAMERD_CONFIG, &pair), disco.path());
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /#/io.l5d.fs");
    let (ours, theirs) = (authority.write(folder.path(), "ours"), other.write(folder.path(), "theirs"));
    for kind in ["io.l5d.mesh", "io.l5d.namerd"] {
        let good = Switchyard::start(&router(&trusting(&namerd, kind, "namerd", &ours), ""));
        follows(&good, "web", "web");
        for (name, ca) in [("somebody", &ours), ("namerd", &theirs)] {
            let bad = Switchyard::start(&router(&trusting(&namerd, kind, name, ca), ""));
            let response = get(bad.addr(0), "web");
            assert!(response.status >= 500, "{kind} {name}");
            assert!(response.text().contains("TLS"), "{kind} {name}: {}", response.text());
        }
    }
}
