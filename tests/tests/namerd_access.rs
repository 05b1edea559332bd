//! As an operator, I say who may read and write which rules, and what nobody may do: without credentials (A1), by way of a
//! browser (A2), outside one's prefixes (A7), or with a forged line in the audit (A11); requirements I13, P18.

use e2e::{Authority, Backend, Client, NAMERD_CONFIG, Namerd, Response, Switchyard, eventually, get, try_get};
use std::path::Path;
use std::process::Output;
use std::time::Duration;
use tempfile::TempDir;

const LATER: Duration = Duration::from_secs(60);
const ADMIN: &str = "token-of-the-admin";
const TEAM: &str = "token-of-team-web";
const EDGE: &str = "token-of-the-edge";

/// `admin` may do everything, `team-web` may write `/svc/web` in `default`, `edge` may read it, and so may a certificate.
const ACCESS: &str = "access:
  tokens:
  - { name: admin, tokenFile: @FOLDER@/admin, rules: [{ right: write }] }
  - { name: team-web, tokenFile: @FOLDER@/team, rules: [{ right: write, namespaces: [default], prefixes: [/svc/web] }] }
  - { name: edge, tokenFile: @FOLDER@/edge, rules: [{ right: read, namespaces: [default] }] }
  identities:
  - { identity: router.example, rules: [{ right: read, namespaces: [default] }] }
  - { identity: ops.example, rules: [{ right: write }] }
";

/// Tokens, certificates and discovery files.
struct World {
    folder: TempDir,
    disco: TempDir,
}

impl World {
    fn new(services: &[(&str, &Backend)]) -> World {
        let (folder, disco) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        for (name, token) in [("admin", ADMIN), ("team", TEAM), ("edge", EDGE)] {
            std::fs::write(folder.path().join(name), format!("{token}\n")).expect("written");
        }
        for (name, backend) in services {
            let addr = backend.addr();
            std::fs::write(disco.path().join(name), format!("{} {}\n", addr.ip(), addr.port())).expect("written");
        }
        World { folder, disco }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn fill(&self, yaml: &str) -> String {
        yaml.replace("@FOLDER@", &self.path().display().to_string())
    }

    fn namerd(&self, yaml: &str) -> Namerd {
        Namerd::start(&self.fill(yaml), self.disco.path())
    }

    /// Interfaces that demand certificates of this authority.
    fn mutual(&self) -> (String, Authority) {
        let authority = Authority::new("ours");
        authority.write(self.path(), "ca");
        authority.issue(&["127.0.0.1"]).write(self.path(), "namerd");
        let tls = "tls: { certPath: @FOLDER@/namerd.pem, keyPath: @FOLDER@/namerd.key, caCertPath: @FOLDER@/ca.pem, \
                   requireClientAuth: true }";
        let mut yaml = format!("{NAMERD_CONFIG}{ACCESS}");
        for port in ["@HTTP@", "@MESH@", "@THRIFT@"] {
            yaml = yaml.replace(&format!("port: {port}"), &format!("port: {port}, {tls}"));
        }
        (yaml, authority)
    }
}

fn send(namerd: &Namerd, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    Client::connect(namerd.http()).request(method, "localhost", path, headers, body.as_bytes())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A write of text with this token.
fn write(namerd: &Namerd, method: &str, token: &str, more: &[(&str, &str)], body: &str) -> Response {
    let authorization = bearer(token);
    let headers = [&[("content-type", "application/dtab"), ("authorization", authorization.as_str())], more].concat();
    send(namerd, method, "/api/1/dtabs/default", &headers, body)
}

/// The stored text and its version.
fn stored(namerd: &Namerd) -> (String, String) {
    let authorization = bearer(ADMIN);
    let headers = [("accept", "application/dtab"), ("authorization", authorization.as_str())];
    let answer = send(namerd, "GET", "/api/1/dtabs/default", &headers, "");
    (answer.text().trim_end().to_owned(), answer.header("etag").unwrap_or_default().to_owned())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The lines of the audit.
fn audit(namerd: &Namerd) -> Vec<String> {
    namerd.log().lines().filter(|line| line.contains(" audit: ")).map(ToOwned::to_owned).collect()
}

/// A router whose names are bound by this interpreter.
fn router(interpreter: &str) -> Switchyard {
    Switchyard::start(&format!(
        "admin: {{ port: @ADMIN@ }}
routers:
- protocol: http
  servers: [{{ port: @P0@ }}]
  interpreter: {interpreter}
  bindingTimeoutMs: 3000
"
    ))
}

fn with(interpreter: &str, more: &str) -> String {
    format!("{}, {more} }}", interpreter.trim_end_matches(" }"))
}

fn answers(router: &Switchyard, host: &str, wanted: &str) {
    eventually(&format!("{host} is answered by {wanted}"), LATER, || {
        (try_get(router.addr(0), host).ok()?.text() == wanted).then_some(())
    });
}

/// The router says on its pages why it knows nothing.
fn is_told(router: &Switchyard, reason: &str) {
    eventually(&format!("the router is told: {reason}"), LATER, || {
        assert_eq!(get(router.addr(0), "web").status, 502);
        router.page("/admin/watches.json").text().contains(reason).then_some(())
    });
}

#[test]
fn a1_nothing_changes_without_credentials() {
    let world = World::new(&[]);
    let secured = NAMERD_CONFIG
        .replace("admin: { port: @ADMIN@ }", "admin: { port: @ADMIN@, security: { tokenFile: @FOLDER@/admin } }");
    let mut namerd = world.namerd(&format!("{secured}{ACCESS}"));
    assert_eq!(write(&namerd, "POST", ADMIN, &[], "/svc => /a").status, 204);
    let before = stored(&namerd);
    let dtab = ("content-type", "application/dtab");
    for shown in [None, Some("Bearer token-of-nobody-at-all"), Some("Basic YWRtaW46YWRtaW4="), Some("Bearer ")] {
        let shown: Vec<_> = shown.map(|shown| ("authorization", shown)).into_iter().collect();
        for (method, path, more) in [
            ("POST", "/api/1/dtabs/new", &[dtab][..]),
            ("PUT", "/api/1/dtabs/default", &[dtab]),
            ("PUT", "/api/1/dtabs/default", &[dtab, ("if-match", before.1.as_str())]),
            ("PUT", "/api/1/dtabs/new", &[dtab]),
            ("DELETE", "/api/1/dtabs/default", &[]),
            ("DELETE", "/api/1/dtabs/default", &[("if-match", "*")]),
            ("POST", "/api/1/dtabs", &[dtab]),
            ("POST", "/api/1/delegate", &[("content-type", "application/json")]),
        ] {
            let body = match path {
                "/api/1/delegate" => r#"{"namespace":"default","dtab":"","path":"/svc"}"#,
                _ => "/svc => /evil",
            };
            let answer = send(&namerd, method, path, &[more, &shown].concat(), body);
            assert_eq!(answer.status, 401, "{method} {path} {shown:?}: {}", answer.text());
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{method} {path}");
        }
        for (path, body) in [("/admin/shutdown", ""), ("/logging.json?logger=root&level=OFF", "")] {
            let answer = Client::connect(namerd.admin()).request("POST", "localhost", path, &shown, body.as_bytes());
            assert_eq!(answer.status, 401, "{path} {shown:?}: {}", answer.text());
        }
    }
    assert_eq!(stored(&namerd), before);
    assert_eq!(namerd.page("/admin/ping").text(), "pong");
    let authorization = bearer(ADMIN);
    let own = [("authorization", authorization.as_str())];
    let ended = Client::connect(namerd.admin()).request("POST", "localhost", "/admin/shutdown", &own, b"");
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert!(namerd.ends(), "the token ends it");
}

#[test]
fn a2_a_browser_changes_nothing() {
    let world = World::new(&[]);
    let hosts = NAMERD_CONFIG.replace("port: @HTTP@ }", "port: @HTTP@, allowedHosts: [namerd.example] }");
    let namerd = world.namerd(&hosts);
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /a");
    let before = stored(&namerd);
    let path = "/api/1/dtabs/default";
    let dtab = ("content-type", "application/dtab");
    for (method, host, headers) in [
        ("PUT", "localhost", &[dtab, ("origin", "http://evil.example")][..]),
        ("POST", "localhost", &[dtab, ("origin", "null")]),
        ("DELETE", "localhost", &[("origin", "https://localhost.evil.example")]),
        ("PUT", "evil.example", &[dtab]),
        ("DELETE", "evil.example:4180", &[]),
        ("PUT", "namerd.example.evil.example", &[dtab]),
        ("PUT", "localhost", &[dtab, ("sec-fetch-site", "cross-site")]),
        ("POST", "localhost", &[("content-type", "application/x-www-form-urlencoded")]),
        ("PUT", "localhost", &[("content-type", "multipart/form-data; boundary=x")]),
        ("POST", "localhost", &[("content-type", "text/plain"), ("cookie", "a=b")]),
    ] {
        let answer = Client::connect(namerd.http()).request(method, host, path, headers, b"/svc => /evil");
        assert_eq!(answer.status, 403, "{method} {host} {headers:?}: {}", answer.text());
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(stored(&namerd), before);
    for (method, path) in [("POST", "/admin/shutdown"), ("POST", "/logging.json?logger=root&level=OFF")] {
        let foreign = [("origin", "http://evil.example")];
        assert_eq!(Client::connect(namerd.admin()).request(method, "localhost", path, &foreign, b"").status, 403);
        assert_eq!(Client::connect(namerd.admin()).request(method, "evil.example", path, &[], b"").status, 403);
    }
    let named = Client::connect(namerd.http()).request("PUT", "Namerd.example:4180", path, &[dtab], b"/svc => /b");
    assert_eq!(named.status, 204, "{}", named.text());
    assert_eq!(audit(&namerd).iter().filter(|line| line.contains("status=403")).count(), 10, "{:#?}", audit(&namerd));
}

#[test]
fn a7_who_has_a_prefix_changes_nothing_else() {
    let world = World::new(&[]);
    let namerd = world.namerd(&format!("{NAMERD_CONFIG}{ACCESS}"));
    assert_eq!(write(&namerd, "POST", ADMIN, &[], "/svc => /a; /svc/web => /b").status, 204);
    let outside = write(&namerd, "PUT", TEAM, &[], "/svc => /evil; /svc/web => /b");
    assert_eq!(outside.status, 403);
    assert!(outside.text().contains("changes dentries of /svc in namespace default"), "{}", outside.text());
    assert!(outside.text().contains("only what lies under /svc/web"), "{}", outside.text());
    assert_eq!(write(&namerd, "DELETE", TEAM, &[], "").status, 403);
    assert_eq!(write(&namerd, "PUT", EDGE, &[], "/svc => /a").status, 403);
    let (text, version) = stored(&namerd);
    assert_eq!(text, "/svc=>/a;/svc/web=>/b");
    assert_eq!(write(&namerd, "PUT", TEAM, &[("if-match", &version)], "/svc => /a; /svc/web => /c").status, 204);
    let stale = write(&namerd, "PUT", TEAM, &[("if-match", &version)], "/svc => /a; /svc/web => /d");
    assert_eq!(stale.status, 412, "{}", stale.text());
    // By its tool: the same rights, and the server's words.
    let namerctl = |args: &[&str]| namerd.namerctl(&[args, &["--token", TEAM]].concat(), "");
    assert!(namerctl(&["dtab", "set", "default", "/svc/web/admin", "/e"]).status.success());
    let refused = namerctl(&["dtab", "set", "default", "/svc/api", "/evil"]);
    assert!(!refused.status.success() && stderr(&refused).contains("/svc/api"), "{}", stderr(&refused));
    let nobody = namerd.namerctl(&["dtab", "get", "default"], "");
    assert!(!nobody.status.success() && stderr(&nobody).contains("401"), "{}", stderr(&nobody));
}

#[test]
fn a7_of_two_writers_with_one_version_exactly_one_wins() {
    let world = World::new(&[]);
    let namerd = world.namerd(&format!("{NAMERD_CONFIG}{ACCESS}"));
    assert_eq!(write(&namerd, "POST", ADMIN, &[], "/svc => /a; /svc/web => /start").status, 204);
    for round in 0..20 {
        let version = stored(&namerd).1;
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let writer = |token: &'static str, name: &'static str| {
                let (namerd, version) = (&namerd, version.as_str());
                scope.spawn(move || {
                    let text = format!("/svc => /a; /svc/web => /{name}-{round}");
                    write(namerd, "PUT", token, &[("if-match", version)], &text).status
                })
            };
            let writers = [writer(ADMIN, "admin"), writer(TEAM, "team"), writer(TEAM, "other")];
            writers.into_iter().map(|writer| writer.join().expect("an answer")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 2, "{statuses:?}");
    }
}

/// Texts of callers forge nothing: neither in the log nor in what the history gives back.
#[test]
fn a11_author_and_reason_stay_on_their_line() {
    let world = World::new(&[]);
    let namerd = world.namerd(&format!("{NAMERD_CONFIG}{ACCESS}"));
    let forged = "eve\u{202e}nimda\tINFO audit: write outcome=\"accepted\"";
    let headers = [("l5d-author", forged), ("l5d-reason", "why\u{2028}not\u{200b}\u{85}x")];
    assert_eq!(write(&namerd, "POST", ADMIN, &headers, "/svc => /a").status, 204);
    let output = namerd.namerctl(
        &["dtab", "set", "default", "/svc", "/b", "--token", ADMIN, "--author", "e\u{202e}v", "--reason", "a b"],
        "",
    );
    assert!(output.status.success(), "{}", stderr(&output));
    let lines = ["dtab", "set", "default", "/svc", "/c", "--token", ADMIN, "--reason", "a\r\nb"];
    assert!(!namerd.namerctl(&lines, "").status.success(), "namerctl sends no reason of two lines");
    // A line end in a header is no request at all.
    let mut raw = Client::connect(namerd.http());
    raw.send_raw(
        b"PUT /api/1/dtabs/default HTTP/1.1\r\nHost: localhost\r\nl5d-author: a\rb\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(raw.read_response(false).expect("an answer").status, 400);
    let lines = audit(&namerd);
    assert_eq!(lines.len(), 2, "one line for each write: {lines:#?}");
    let history = namerd.ctl(&["dtab", "history", "default", "--json", "--token", ADMIN], "");
    for text in lines.iter().chain([&history]) {
        let bad =
            |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{200b}' | '\u{2028}' | '\u{202e}' | '\u{85}');
        assert!(!text.contains(bad), "{text:?}");
        for escaped in ["\\u202e", "\\u2028", "\\r", "\\t"] {
            assert!(!text.contains(escaped), "{text:?}");
        }
    }
    assert!(lines[0].contains("caller=\"admin\"") && lines[0].contains("(admin)"), "{}", lines[0]);
    assert!(lines[1].contains("reason=\"a b\"") && lines[1].contains("prefixes=\"/svc\""), "{}", lines[1]);
}

/// Every write leaves a line, accepted or refused, at any level of logs, as JSON too; and is counted.
#[test]
fn every_write_is_on_record() {
    let world = World::new(&[]);
    let yaml = world.fill(&format!("{NAMERD_CONFIG}{ACCESS}telemetry: [{{ kind: io.l5d.prometheus }}]\n"));
    let namerd = Namerd::start_with(&yaml, world.disco.path(), &["--log-level", "ERROR", "--log-json"]);
    assert_eq!(write(&namerd, "POST", ADMIN, &[("l5d-reason", "first")], "/svc => /a").status, 204);
    assert_eq!(write(&namerd, "PUT", TEAM, &[], "/svc => /evil").status, 403);
    assert_eq!(write(&namerd, "PUT", "token-of-nobody-at-all", &[], "/svc => /evil").status, 401);
    let lines: Vec<serde_json::Value> =
        namerd.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told: Vec<_> = lines.iter().filter(|line| line["target"] == "audit").map(|line| &line["fields"]).collect();
    let field = |name: &str| told.iter().map(|line| line[name].to_string()).collect::<Vec<_>>();
    assert_eq!(field("outcome"), [r#""accepted""#, r#""refused""#, r#""refused""#], "{}", namerd.log());
    assert_eq!(field("status"), ["204", "403", "401"]);
    assert_eq!(field("caller"), [r#""admin""#, r#""team-web""#, r#""-""#]);
    assert_eq!(field("reason"), [r#""first""#, r#""-""#, r#""-""#]);
    assert_eq!(field("prefixes"), [r#""/svc""#, r#""/svc""#, r#""""#]);
    assert!(told.iter().all(|line| line["from"].to_string().contains("127.0.0.1:")));
    let metric = |name: &str| namerd.metric(name);
    for (name, expected) in [
        ("interface/io.l5d.httpController/audit/accepted", 1.0),
        ("interface/io.l5d.httpController/audit/refused", 2.0),
        ("interface/io.l5d.httpController/requests", 3.0),
        ("interface/io.l5d.httpController/success", 3.0),
        ("interface/io.l5d.httpController/refused", 2.0),
        ("interface/io.l5d.httpController/status/204", 1.0),
        ("interface/io.l5d.mesh/requests", 0.0),
        ("interface/io.l5d.thriftNameInterpreter/bindingcache/active", 0.0),
        ("dtabstore/namespaces", 1.0),
        ("dtabstore/create/success", 1.0),
        ("dtabstore/failing", 0.0),
    ] {
        assert_eq!(metric(name), Some(expected), "{name}: {}", namerd.page("/admin/metrics.json").text());
    }
    assert!(metric("namer/#/io.l5d.fs/failing").is_some());
    let text = namerd.page("/admin/metrics/prometheus").text();
    assert!(text.contains("dtabstore:namespaces 1"), "{text}");
}

/// A certificate reads over mesh and thrift what it may, and is told why it may not read the rest.
#[test]
fn certificates_read_over_mesh_and_thrift() {
    let web = Backend::text("web");
    let world = World::new(&[("web", &web)]);
    let (yaml, authority) = world.mutual();
    for name in ["router.example", "other.example", "ops.example"] {
        authority.issue(&[name]).write(world.path(), name);
    }
    let namerd = world.namerd(&yaml);
    ops(&world, &namerd, &["dtab", "create", "default", "-"], "/svc => /#/io.l5d.fs");
    for (kind, trust) in [("io.l5d.mesh", "trustCertsBundle"), ("io.l5d.namerd", "caCert")] {
        for (name, reason) in [("router.example", None), ("other.example", Some("other.example may not read"))] {
            let own = format!("clientAuth: {{ certPath: @FOLDER@/{name}.pem, keyPath: @FOLDER@/{name}.key }}");
            let tls = format!("tls: {{ commonName: 127.0.0.1, {trust}: @FOLDER@/ca.pem, {own} }}");
            let router = router(&world.fill(&with(&namerd.interpreter(kind), &tls)));
            match reason {
                None => answers(&router, "web", "web"),
                Some(reason) => is_told(&router, reason),
            }
        }
    }
    for kind in ["io.l5d.mesh", "io.l5d.thriftNameInterpreter"] {
        assert!(namerd.metric(&format!("interface/{kind}/refused")) > Some(0.0), "{kind}");
        assert!(namerd.metric(&format!("interface/{kind}/connections")) >= Some(0.0), "{kind}");
    }
}

/// Runs `namerctl` over TLS with the certificate of `ops.example`, which must succeed.
fn ops(world: &World, namerd: &Namerd, args: &[&str], stdin: &str) -> String {
    let output = secured(world, namerd, Some("ops.example"), args, stdin);
    assert!(output.status.success(), "namerctl {args:?}: {}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `namerctl` over TLS with this certificate.
fn secured(world: &World, namerd: &Namerd, own: Option<&str>, args: &[&str], stdin: &str) -> Output {
    let file = |name: &str| world.path().join(name).display().to_string();
    let url = format!("https://{}", namerd.http());
    let mut args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    args.extend(["--base-url".to_owned(), url, "--cacert".to_owned(), file("ca.pem")]);
    if let Some(name) = own {
        args.extend(["--cert".to_owned(), file(&format!("{name}.pem"))]);
        args.extend(["--key".to_owned(), file(&format!("{name}.key"))]);
    }
    namerd.namerctl(&args.iter().map(String::as_str).collect::<Vec<_>>(), stdin)
}

#[test]
fn namerctl_shows_a_certificate() {
    let world = World::new(&[]);
    let (yaml, authority) = world.mutual();
    for name in ["router.example", "ops.example"] {
        authority.issue(&[name]).write(world.path(), name);
    }
    let namerd = world.namerd(&yaml);
    ops(&world, &namerd, &["dtab", "create", "default", "-"], "/svc => /a");
    assert_eq!(ops(&world, &namerd, &["dtab", "list"], ""), "default\n");
    let nobody = secured(&world, &namerd, None, &["dtab", "list"], "");
    assert!(!nobody.status.success(), "who shows no certificate is not let in");
    let reader = secured(&world, &namerd, Some("router.example"), &["dtab", "get", "default"], "");
    assert!(reader.status.success(), "{}", stderr(&reader));
    let written = secured(&world, &namerd, Some("router.example"), &["dtab", "delete", "default"], "");
    assert!(stderr(&written).contains("router.example may not write namespace default"), "{}", stderr(&written));
    let lines = audit(&namerd);
    assert!(lines.len() == 2 && lines[0].contains("caller=\"ops.example\""), "{lines:#?}");
    assert!(lines[1].contains("outcome=\"refused\"") && lines[1].contains("caller=\"router.example\""), "{lines:#?}");
    let history = ops(&world, &namerd, &["dtab", "history", "default"], "");
    assert!(history.contains("ops.example"), "the certificate is the author: {history}");
}

/// Tokens over mesh and HTTP; a token that is replaced holds no more, for streams neither, and the new one without a restart of
/// anybody. Routers keep what they know meanwhile.
#[test]
fn tokens_are_shown_and_replaced() {
    let web = Backend::text("web");
    let world = World::new(&[("web", &web), ("api", &web), ("late", &web)]);
    let namerd = world.namerd(&format!("{NAMERD_CONFIG}{ACCESS}"));
    assert_eq!(write(&namerd, "POST", ADMIN, &[], "/svc => /#/io.l5d.fs").status, 204);
    let shown = world.path().join("shown");
    std::fs::write(&shown, EDGE).expect("written");
    let routers: Vec<Switchyard> = ["io.l5d.mesh", "io.l5d.namerd.http"]
        .map(|kind| router(&with(&namerd.interpreter(kind), &format!("tokenFile: {}", shown.display()))))
        .into();
    routers.iter().for_each(|router| answers(router, "web", "web"));
    let bare = router(&namerd.interpreter("io.l5d.mesh"));
    is_told(&bare, "callers without credentials may not read");
    let by_certificate_only = router(&namerd.interpreter("io.l5d.namerd"));
    is_told(&by_certificate_only, "callers without credentials may not read namespace default");

    let new = "another-token-of-the-edge";
    std::fs::write(world.path().join("edge"), new).expect("written");
    for router in &routers {
        assert_eq!(get(router.addr(0), "late").status, 502, "the old token binds nothing new");
        assert_eq!(get(router.addr(0), "web").text(), "web", "what is bound stays");
        let told = router.page("/admin/watches.json").text();
        assert!(told.contains("not one that this namerd knows"), "{told}");
    }
    for kind in ["io.l5d.mesh", "io.l5d.httpController"] {
        let name = format!("interface/{kind}/watches");
        eventually(&format!("streams by the old token end: {name}"), LATER, || {
            (namerd.metric(&name) == Some(0.0)).then_some(())
        });
    }
    routers.iter().for_each(|router| assert_eq!(get(router.addr(0), "web").text(), "web", "what is bound stays"));
    let get = |token: &str| namerd.namerctl(&["dtab", "get", "default", "--token", token], "").status.success();
    assert!(!get(EDGE) && get(new));
    std::fs::write(&shown, new).expect("written");
    for router in &routers {
        answers(router, "api", "web");
        answers(router, "late", "web");
    }
    for kind in ["io.l5d.mesh", "io.l5d.httpController"] {
        let name = format!("interface/{kind}/watches");
        eventually(&format!("they are followed again: {name}"), LATER, || {
            (namerd.metric(&name) >= Some(2.0)).then_some(())
        });
    }
}
