//! As an operator, I start namerd, check its config, look at its pages, and end it (namerd reference §1, §6; attacks A4, A5).

use e2e::{Client, NAMERD_CONFIG, Namerd, eventually, namerd_command};
use std::io::Write;
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::Duration;

const LATER: Duration = Duration::from_secs(60);

/// What `namerd` with these arguments and this on stdin ends with.
fn run(args: &[&str], stdin: &str) -> Output {
    let mut command = namerd_command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    // Who reads no stdin closes it.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const GOOD: &str = "storage: { kind: io.l5d.inMemory }\ninterfaces: [{ kind: io.l5d.mesh }]\n";

#[test]
fn a_config_is_checked_without_serving() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("namerd.yaml");
    std::fs::write(&file, GOOD).expect("written");
    let path = file.to_str().expect("a path");
    for (args, stdin) in [
        (&["check", path][..], ""),
        (&["check", "-"], GOOD),
        (&["-validate", path], ""),
        (
            &["--validate", "-"],
            "{\"storage\":{\"kind\":\"io.l5d.inMemory\"},\"interfaces\":[{\"kind\":\"io.l5d.mesh\"}]}",
        ),
    ] {
        let output = run(args, stdin);
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert!(text(&output.stdout).contains("ok: 1 interface(s), 0 namer(s)"), "{args:?}: {output:?}");
    }
    let bad = run(&["check", "-"], "storage: { kind: io.l5d.zk }\ninterfaces: []\nrouters: []\n");
    let said = text(&bad.stderr);
    assert!(!bad.status.success(), "{said}");
    for part in ["<stdin>:1:", "`zkAddrs` is missing", "One or more interfaces must be specified", "3 problems"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let missing = run(&["/nowhere/namerd.yaml"], "");
    assert!(
        !missing.status.success() && text(&missing.stderr).contains("/nowhere/namerd.yaml: cannot read the config")
    );
    assert!(text(&run(&["reference"], "").stdout).starts_with("# Config keys of namerd"));
}

/// What a start cannot have is said, with what to do; nothing hangs.
#[test]
fn a_start_that_fails_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let data = folder.path().join("data");
    let config = |port: u16| {
        format!(
            "admin: {{ port: 0 }}\nstorage: {{ kind: io.switchyard.local, path: {} }}\n\
            interfaces: [{{ kind: io.l5d.httpController, port: {port} }}]\n",
            data.display()
        )
    };
    let output = run(&["-"], &config(port));
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{said}");
    let namerd = Namerd::start(NAMERD_CONFIG, folder.path());
    let same = config(0).replace(&data.display().to_string(), &namerd.folder().join("data").display().to_string());
    let output = run(&["-"], &same);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("is in use by process"), "{said}");
}

/// Without a file: the embedded config, on the ports of Linkerd 1.
#[test]
fn without_a_config_it_runs_on_embedded_defaults() {
    if [4100, 4180, 4321, 9991].iter().any(|port| TcpListener::bind(("127.0.0.1", *port)).is_err()) {
        eprintln!("NOTICE: a port of namerd is taken, the embedded defaults are not tried");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = namerd_command();
    command.arg("--data").arg(folder.path().join("data")).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("it starts");
    eventually("it is ready", LATER, || {
        let page =
            Client::try_connect(([127, 0, 0, 1], 9991).into()).and_then(|mut c| c.try_get("localhost", "/admin/ready"));
        page.is_ok_and(|page| page.status == 200).then_some(())
    });
    let response = Client::connect(([127, 0, 0, 1], 4180).into()).request(
        "POST",
        "localhost",
        "/api/1/dtabs/default",
        &[("Content-Type", "application/dtab")],
        b"/svc => /$/inet/127.0.0.1/1",
    );
    assert_eq!(response.status, 204);
    let ended =
        Client::connect(([127, 0, 0, 1], 9991).into()).request("POST", "localhost", "/admin/shutdown", &[], b"");
    assert_eq!(ended.text(), "quitting\n");
    assert!(eventually("it ends", LATER, || child.try_wait().ok().flatten()).success());
    assert!(folder.path().join("data/dtabs.redb").is_file());
}

#[test]
fn the_pages_of_the_admin_server() {
    let disco = tempfile::tempdir().expect("a folder");
    std::fs::write(disco.path().join("web"), "127.0.0.1 1\n").expect("written");
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    assert!(namerd.page("/").text().contains("No namespaces found"));
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /#/io.l5d.fs");
    assert!(namerd.page("/").text().contains("<a href=\"/dtab/default\">default</a>"));
    let page = namerd.page("/dtab/default");
    assert!(page.text().contains("/#/io.l5d.fs") && page.text().contains("{\"dtab\":[{"), "{}", page.text());
    assert_eq!(namerd.page("/dtab/nobody").status, 404);
    let explained = namerd.page("/dtab/default?path=/svc/web").text();
    assert!(explained.contains("<b>/#/io.l5d.fs/web</b>"), "{explained}");
    let tree = namerd.page("/dtab/delegator.json?dtab=/a%3D%3E/%23/io.l5d.fs&path=/a/web").json();
    assert_eq!(tree["delegate"]["type"], "leaf", "{tree}");
    assert_eq!(namerd.page("/dtab/delegator.json?dtab=/a&path=/a").status, 400);
    let storage = namerd.page("/storage/io.switchyard.local.json").json();
    assert_eq!((&storage["kind"], &storage["namespaces"]), (&"io.switchyard.local".into(), &1.into()), "{storage}");
    for (path, part) in [
        ("/config.json", "io.l5d.thriftNameInterpreter"),
        ("/logging.json", "root"),
        ("/admin/metrics.json", "dtabstore/namespaces"),
        ("/admin/metrics/prometheus", "dtabstore"),
        ("/admin/watches.json", "default"),
        ("/namer_state/io.l5d.fs.json", "web"),
        ("/admin", "/dtab/delegator.json"),
        ("/admin/ping", "pong"),
    ] {
        let page = namerd.page(path);
        assert!(page.status == 200 && page.text().contains(part), "{path}: no {part} in {}", page.text());
    }
}

/// What a dtab or a request says is text on every page (attack A4).
#[test]
fn a4_markup_in_dtabs_and_requests_stays_text() {
    let disco = tempfile::tempdir().expect("a folder");
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /$/fail | /$/x/nothing");
    let attack = "%3C/script%3E%3Cscript%3Ealert(1)%3C/script%3E";
    for path in [
        format!("/dtab/default?path=/{attack}"),
        format!("/dtab/default?path={attack}&dtab={attack}"),
        format!("/dtab/{attack}"),
        format!("/dtab/delegator.json?path=/{attack}&dtab=/{attack}"),
    ] {
        let page = namerd.page(&path);
        let html = page.header("content-type").is_some_and(|kind| kind.contains("html"));
        assert!(!html || !page.text().contains("<script>alert"), "{path}: {}", page.text());
        assert!(
            !html || page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'"))
        );
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

/// Secrets of a config are on no page and in no log (attack A5).
#[test]
fn a5_secrets_are_shown_nowhere() {
    let disco = tempfile::tempdir().expect("a folder");
    let config = NAMERD_CONFIG.replace(
        "storage: { kind: io.switchyard.local, path: @DATA@ }",
        "storage: { kind: io.l5d.consul, port: 1, token: planted-secret }",
    );
    let mut namerd = Namerd::prepare(e2e::Place::free(), &config, disco.path());
    namerd.spawn();
    eventually("the admin server answers", LATER, || {
        Client::try_connect(namerd.admin()).and_then(|mut c| c.try_get("localhost", "/admin/ping")).ok()
    });
    let paths = namerd.page("/admin").text();
    for path in paths.lines().filter(|path| !path.ends_with('/') && !path.contains("shutdown")) {
        let page = namerd.page(path);
        assert!(!page.text().contains("planted-secret"), "{path}");
    }
    assert!(namerd.page("/config.json").text().contains("<redacted>"));
    assert!(!namerd.log().contains("planted-secret"));
}
