//! As an operator with Linkerd 1 dashboards and scripts, I find every admin page where it was, with the same answers.
//!
//! Not for: which counters move (see `counters`) and the end of the process (see `shutdown`).

use e2e::{Backend, Client, FS_CONFIG, Response, Switchyard, eventually, get};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

fn start() -> (Switchyard, Backend) {
    let switchyard = Switchyard::start(FS_CONFIG);
    let web = Backend::text("hello");
    switchyard.disco().set("web", &[web.addr()]);
    assert_eq!(get(switchyard.addr(0), "web").status, 200);
    (switchyard, web)
}

fn ask(switchyard: &Switchyard, method: &str, path: &str, media_type: &str, body: &str) -> Response {
    let mut client = Client::connect(switchyard.admin());
    client.request(method, "localhost", path, &[("content-type", media_type)], body.as_bytes())
}

#[test]
fn health_pages_answer() {
    let (switchyard, _web) = start();
    for (path, text) in [("/admin/ping", "pong"), ("/admin/live", "live"), ("/admin/ready", "ready")] {
        let response = switchyard.page(path);
        assert_eq!((response.status, response.text().trim_end()), (200, text));
    }
    let mut client = Client::connect(switchyard.admin());
    let head = client.request("HEAD", "localhost", "/admin/ping", &[], b"");
    assert_eq!((head.status, head.header("content-length")), (200, Some("4")));
    assert_eq!(switchyard.page("/admin/nothing-here").status, 404);
}

#[test]
fn the_index_links_every_page() {
    let (switchyard, _web) = start();
    let listing = switchyard.page("/admin").text();
    let paths: Vec<&str> = listing.lines().collect();
    assert!(paths.is_sorted());
    for path in [
        "/",
        "/admin",
        "/admin/live",
        "/admin/logging",
        "/admin/metrics.json",
        "/admin/metrics/prometheus",
        "/admin/ping",
        "/admin/ready",
        "/admin/shutdown",
        "/bound-names.json",
        "/client_state.json",
        "/config.json",
        "/delegator.json",
        "/logging.json",
        "/namer_state/io.l5d.fs.json",
    ] {
        assert!(paths.contains(&path), "{path} is not in {paths:?}");
    }
    let index = switchyard.page("/");
    assert_eq!(index.status, 200);
    assert!(index.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    for path in ["/admin/metrics.json", "/config.json", "/delegator.json"] {
        assert!(index.text().contains(&format!("href=\"{path}\"")), "{path}");
    }
}

#[test]
fn metrics_json_has_the_known_shapes() {
    let (switchyard, _web) = start();
    let server = format!("rt/http/server/127.0.0.1/{}", switchyard.port(0));
    switchyard.await_metric(&format!("{server}/requests"), 1.0);
    let flat = switchyard.page("/admin/metrics.json");
    assert_eq!(flat.header("content-type"), Some("application/json"));
    assert_eq!(flat.json()["rt/http/client/#/io.l5d.fs/web/service/svc/web/requests"], json!(1));

    let pretty = switchyard.page("/admin/metrics.json?pretty=1").text();
    let keys: Vec<&str> = pretty.lines().filter_map(|line| line.trim().strip_prefix('"')?.split('"').next()).collect();
    assert!(keys.len() > 20 && keys.is_sorted(), "{pretty}");
    assert!(pretty.contains(&format!("\"{server}/requests\" : 1")), "{pretty}");

    let tree = switchyard.page("/admin/metrics.json?tree=1").json();
    let label = format!("127.0.0.1/{}", switchyard.port(0));
    assert_eq!(tree["rt"]["http"]["server"][&label]["requests"]["counter"], json!(1), "{tree}");

    let part = switchyard.page("/admin/metrics.json?q=rt/http/bindcache").json();
    assert_eq!(part["path/misses"], json!(1), "{part}");
    assert!(part.as_object().is_some_and(|part| part.keys().all(|key| !key.starts_with("rt/"))), "{part}");
    let missing = switchyard.page("/admin/metrics.json?q=a/b/c");
    assert_eq!((missing.status, missing.json()), (404, json!({ "error": "No such subtree: a/b/c" })));
}

/// The page for Prometheus, with the config's own prefix.
fn prometheus() -> (Switchyard, String) {
    let config = FS_CONFIG.to_owned() + "telemetry:\n- { kind: io.l5d.prometheus, prefix: l5d_ }\n";
    let switchyard = Switchyard::start(&config);
    let web = Backend::text("hello");
    switchyard.disco().set("web", &[web.addr()]);
    get(switchyard.addr(0), "web");
    get(switchyard.addr(0), "nobody");
    switchyard.await_metric(&format!("rt/http/server/127.0.0.1/{}/requests", switchyard.port(0)), 2.0);
    let page = switchyard.page("/admin/metrics/prometheus");
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    (switchyard, page.text())
}

#[test]
fn prometheus_can_read_its_page() {
    let (switchyard, text) = prometheus();
    let server = format!("{{rt=\"http\", server=\"127.0.0.1/{}\"", switchyard.port(0));
    let requests = text.lines().find(|line| line.contains("rt:server:requests") && line.contains(&server));
    assert!(requests.is_some_and(|line| line.starts_with("l5d_") && line.ends_with(" 2")), "{requests:?}\n{text}");
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("not run: promtool is not installed");
        return;
    };
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    // 3: it reads well, but the names are not in today's style; they are Linkerd's.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_config_is_shown_as_it_was_written() {
    let (switchyard, _web) = start();
    let config = switchyard.page("/config.json").json();
    let wanted = json!({
        "admin": { "port": switchyard.admin().port() },
        "namers": [{ "kind": "io.l5d.fs", "rootDir": switchyard.disco().path() }],
        "routers": [{
            "protocol": "http",
            "label": "http",
            "servers": [{ "port": switchyard.port(0) }],
            "dtab": "/svc => /#/io.l5d.fs ;\n",
        }],
    });
    assert_eq!(config, wanted);
}

/// The answer of `/delegator.json` for `/svc/web` (telemetry reference §17.2).
fn delegation(web: &Backend) -> Value {
    json!({ "type": "delegate", "path": "/svc/web", "delegate": {
        "type": "leaf",
        "path": "/#/io.l5d.fs/web",
        "dentry": { "prefix": "/svc", "dst": "/#/io.l5d.fs" },
        "bound": {
            "addr": {
                "type": "bound",
                "addrs": [{ "ip": "127.0.0.1", "port": web.addr().port(), "meta": {} }],
                "meta": {},
            },
            "id": "/#/io.l5d.fs/web",
            "path": "/",
        },
    } })
}

#[test]
fn the_delegator_explains_by_get_and_post() {
    let (switchyard, web) = start();
    let query = "/delegator.json?namespace=http&path=/svc/web&dtab=%2Fsvc%3D%3E%2F%23%2Fio.l5d.fs";
    let by_get = switchyard.page(query);
    assert_eq!((by_get.status, by_get.json()), (200, delegation(&web)));
    let question = json!({ "namespace": "http", "dtab": "/svc=>/#/io.l5d.fs", "path": "/svc/web" }).to_string();
    let by_post = ask(&switchyard, "POST", "/delegator.json", "application/json", &question);
    assert_eq!((by_post.status, by_post.json()), (200, delegation(&web)));

    let neg = switchyard.page("/delegator.json?namespace=http&path=/svc/web").json();
    assert_eq!(neg, json!({ "type": "neg", "path": "/svc/web" }), "the base dtab is the caller's to pass");
    let question = json!({ "dtab": "/svc=>/#/io.l5d.fs", "path": "/svc/web" }).to_string();
    let bare = ask(&switchyard, "POST", "/delegator.json", "application/json", &question).json();
    assert_eq!(bare["delegate"]["type"], json!("neg"), "without a namespace there are no configured namers: {bare}");
    let question = json!({ "dtab": "/svc=>/$/inet/127.1", "path": "/svc/80" }).to_string();
    let system = ask(&switchyard, "POST", "/delegator.json", "application/json", &question).json();
    assert_eq!(system["delegate"]["type"], json!("leaf"), "but there is /$: {system}");
}

#[test]
fn the_delegator_says_what_is_wrong() {
    let (switchyard, _web) = start();
    let page = |path: &str| switchyard.page(path);
    let bad_dtab = page("/delegator.json?namespace=http&path=/svc/web&dtab=foo");
    let text = "Invalid dtab: '/' expected but 'f' found at '[f]oo'";
    assert_eq!((bad_dtab.status, bad_dtab.text().trim_end()), (400, text));
    let bad_path = page("/delegator.json?namespace=http&path=foo&dtab=");
    let text = "Invalid path: '/' expected but 'f' found at '[f]oo'";
    assert_eq!((bad_path.status, bad_path.text().trim_end()), (400, text));
    let unknown = page("/delegator.json?namespace=nobody&path=/svc/web");
    let text = "Name Interpreter for nobody cannot show delegations";
    assert_eq!((unknown.status, unknown.text().trim_end()), (501, text));

    for body in ["not json", "{\"dtab\":\"\"}", "{\"path\":\"/svc/web\"}", "[]"] {
        let malformed = ask(&switchyard, "POST", "/delegator.json", "application/json", body);
        let text = format!("Malformed delegation request: {body}");
        assert_eq!((malformed.status, malformed.text().trim_end()), (400, text.as_str()));
    }
    for media_type in ["text/plain", "application/x-www-form-urlencoded"] {
        assert_eq!(ask(&switchyard, "POST", "/delegator.json", media_type, "{}").status, 415);
    }
    for method in ["PUT", "DELETE"] {
        let refused = ask(&switchyard, method, "/delegator.json", "application/json", "{}");
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, POST")));
    }
}

#[test]
fn names_and_clients_are_listed() {
    let (switchyard, web) = start();
    assert_eq!(
        switchyard.page("/client_state.json").json(),
        json!({
            "/#/io.l5d.fs/web": { "state": "bound", "addresses": [web.addr().to_string()] }
        })
    );
    assert_eq!(switchyard.page("/bound-names.json").json(), json!(["/#/io.l5d.fs/web"]));
    switchyard.disco().set("another", &[web.addr()]);
    eventually("the new name is listed", SOON, || {
        let names = switchyard.page("/bound-names.json").json();
        (names == json!(["/#/io.l5d.fs/another", "/#/io.l5d.fs/web"])).then_some(())
    });
    let watches = switchyard.page("/namer_state/io.l5d.fs.json").json();
    assert!(watches.as_array().is_some_and(|watches| !watches.is_empty()), "{watches}");
}

#[test]
fn log_levels_can_be_read_and_set() {
    let (switchyard, _web) = start();
    for path in ["/admin/logging", "/logging.json"] {
        assert_eq!(switchyard.page(path).json()[0], json!({ "logger": "root", "level": "DEBUG" }));
        let form = "application/x-www-form-urlencoded";
        for missing in ["", "logger=root", "level=INFO"] {
            assert_eq!(ask(&switchyard, "POST", path, form, missing).status, 400, "{missing}");
        }
        assert_eq!(ask(&switchyard, "POST", path, form, "logger=root&level=LOUD").status, 400);
        assert_eq!(ask(&switchyard, "POST", path, form, "logger=root&level=warning").status, 200);
        assert_eq!(switchyard.page(path).json()[0], json!({ "logger": "root", "level": "WARNING" }));
        assert_eq!(ask(&switchyard, "PUT", path, form, "logger=root&level=INFO").status, 405);
        assert_eq!(ask(&switchyard, "POST", &format!("{path}?logger=root&level=DEBUG"), form, "").status, 200);
    }
}

#[test]
fn a_level_that_was_set_is_in_force() {
    let config = FS_CONFIG.to_owned();
    let switchyard = Switchyard::start(&config);
    let form = "application/x-www-form-urlencoded";
    let before = switchyard.log().len();
    assert_eq!(ask(&switchyard, "POST", "/logging.json", form, "logger=root&level=OFF").status, 200);
    let quiet = switchyard.log().len();
    // A refused request is told at debug level.
    let refuse = || {
        let mut client = Client::connect(switchyard.addr(0));
        client.send_raw(b"NOT HTTP\r\n\r\n");
        client.read_response(false).map(|response| response.status).ok()
    };
    assert_eq!(refuse(), Some(400));
    assert_eq!(switchyard.log().len(), quiet, "started with {before} bytes: {}", switchyard.log());
    assert_eq!(ask(&switchyard, "POST", "/logging.json", form, "logger=root&level=DEBUG").status, 200);
    eventually("debug lines appear", SOON, || {
        refuse();
        (switchyard.log().len() > quiet).then_some(())
    });
}

#[test]
fn only_loopback_and_only_its_own_hosts_may_ask() {
    let (switchyard, _web) = start();
    let foreign = Client::connect(switchyard.admin()).get("evil.example", "/admin/metrics.json");
    assert_eq!(foreign.status, 403, "a browser that was tricked into asking");
    let headers = [("origin", "http://evil.example")];
    let mut client = Client::connect(switchyard.admin());
    let form = client.request("POST", "localhost", "/admin/shutdown", &headers, b"");
    assert_eq!(form.status, 403);

    // No packet is sent: this asks the system which address it would use.
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let own = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    let Some(own) = own.ok().filter(|own| !own.ip().is_loopback() && !own.ip().is_unspecified()) else {
        eprintln!("not run: this host has no other address than loopback");
        return;
    };
    for port in [switchyard.admin().port(), switchyard.port(0)] {
        assert!(TcpStream::connect((own.ip(), port)).is_err(), "port {port} is open on {}", own.ip());
    }
}

/// The second barrier of O3 on its own: the operator's own table leads to the admin port, and still nobody without the token
/// changes anything.
#[test]
fn o3_who_changes_something_shows_a_token() {
    const TOKEN: &str = "3f8a0c5e9b7d4621";
    const CONFIG: &str = r"
admin: { port: @ADMIN@, security: { tokenFile: @DISCO@/.token } }
routers:
- protocol: http
  servers: [{ port: @P0@ }]
  identifier: { kind: io.l5d.static, path: /admin }
  dtab: /svc/admin => /$/inet/127.0.0.1/@ADMIN@ ;
";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("the token");
    let router = Switchyard::start(&CONFIG.replace("@DISCO@/.token", &file.display().to_string()));
    let right = format!("Bearer {TOKEN}");
    let ask = |addr, method: &str, authorization: Option<&str>| {
        let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        Client::connect(addr).request(method, "localhost", "/logging.json?logger=root&level=INFO", &headers, b"")
    };
    for addr in [router.addr(0), router.admin()] {
        assert_eq!(ask(addr, "GET", None).status, 200, "reading needs no token");
        for wrong in [None, Some("Bearer"), Some("Bearer x"), Some(TOKEN), Some("Bearer 3f8a0c5e9b7d4622")] {
            let refused = ask(addr, "POST", wrong);
            assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{wrong:?}");
            assert!(refused.text().contains("tokenFile"), "{}", refused.text());
        }
        assert_eq!(ask(addr, "POST", Some(&right)).status, 200);
    }
    std::fs::write(&file, "another-token-of-16").expect("a new token");
    assert_eq!(ask(router.admin(), "POST", Some(&right)).status, 401, "it is read anew");
    assert_eq!(ask(router.admin(), "POST", Some("Bearer another-token-of-16")).status, 200);
}
