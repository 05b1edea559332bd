//! As the operator of a shared router, I let callers choose routes only as far as I said, and nobody chooses addresses
//! that reach into the host: attacks O1 to O4, O6, O7, O12 and O13, and the rules of requirements §5.

use e2e::{Backend, Client, Response, Switchyard, get};
use std::net::{SocketAddr, UdpSocket};

/// One router with a listener for each way to treat overrides.
const CONFIG: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: http
  label: http
  servers:
  - { port: @P0@, overrides: legacy }
  - { port: @P1@, overrides: off }
  - port: @P2@
    overrides:
      mode: policy
      rules:
      - from: [10.99.0.0/16]
        raw: true
      - from: [127.0.0.0/8]
        prefixes: [/svc/web]
        destinations: [/#/io.l5d.fs/web, /#/io.l5d.fs/v2, /$/inet]
        maxDentries: 2
        maxBytes: 200
      - from: [127.0.0.0/8]
        expires: 2001-01-01T00:00:00Z
  - port: @P3@
    overrides: { mode: policy, rules: [{ from: [10.99.0.0/16] }] }
  - { port: @P4@ }
  - { port: @P5@, overrides: named }
  dtab: |
    /svc       => /#/io.l5d.fs ;
    /svc/local => /$/inet/127.1/@P8@ ;
"#;

const LEGACY: usize = 0;
const OFF: usize = 1;
const POLICY: usize = 2;
const NOBODY: usize = 3;
const UNSTATED: usize = 4;
const NAMED: usize = 5;

struct Site {
    router: Switchyard,
    web: Backend,
    v2: Backend,
    local: Backend,
}

impl Site {
    fn start() -> Site {
        let router = Switchyard::start(CONFIG);
        let (web, v2) = (Backend::text("web"), Backend::text("v2"));
        let local = Backend::at(router.addr(8), |_| e2e::Reply::text("local"));
        router.disco().set("web", &[web.addr()]);
        router.disco().set("v2", &[v2.addr()]);
        Site { router, web, v2, local }
    }

    fn ask(&self, listener: usize, host: &str, headers: &[(&str, &str)]) -> Response {
        Client::connect(self.router.addr(listener)).request("GET", host, "/", headers, b"")
    }

    fn counter(&self, name: &str, reason: &str) -> u64 {
        let page = self.router.page("/admin/metrics/prometheus").text();
        let start = format!("{name}{{reason=\"{reason}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
    }

    fn bytes(&self) -> usize {
        [&self.web, &self.v2, &self.local].iter().map(|backend| backend.bytes_seen().len()).sum()
    }

    /// The override is refused: 403, no byte reaches a service, both counters count.
    fn denied(&self, listener: usize, dtab: &str, reason: &str) -> Response {
        let before = (self.bytes(), self.counter("override_denied_total", reason));
        let rejected = self.counter("rejected_total", "override-denied");
        let response = self.ask(listener, "web", &[("l5d-dtab", dtab)]);
        assert_eq!(response.status, 403, "{dtab}: {}", response.text());
        let after = (self.bytes(), self.counter("override_denied_total", reason));
        assert_eq!(after, (before.0, before.1 + 1), "{dtab}: bytes upstream, override_denied_total of {reason}");
        assert_eq!(self.counter("rejected_total", "override-denied"), rejected + 1, "{dtab}");
        response
    }

    fn allowed(&self, listener: usize, dtab: &str, wanted: &str) {
        let response = self.ask(listener, "web", &[("l5d-dtab", dtab)]);
        assert_eq!((response.status, response.text().as_str()), (200, wanted), "{dtab}");
    }
}

/// An address of this machine that is not loopback, if it has one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

const TO_V2: &str = "/svc/web => /#/io.l5d.fs/v2";
const TO_METADATA: &str = "/svc => /$/inet/169.254.169.254/80";

#[test]
fn o1_a_listener_that_is_off_removes_and_ignores() {
    let site = Site::start();
    let before = site.counter("override_ignored_total", "off");
    for header in ["l5d-dtab", "l5d-ctx-dtab", "L5D-CTX-DTAB", "l5d-override", "l5d-ctx-override"] {
        for value in [TO_METADATA, TO_V2, "not a dtab"] {
            let response = site.ask(OFF, "web", &[(header, value), ("baggage", "a=1,dtab=x;p,b=2")]);
            assert_eq!((response.status, response.text().as_str()), (200, "web"), "{header}: {value}");
            let seen = site.web.last();
            assert!(seen.headers.iter().all(|(name, value)| !name.contains("dtab") && !value.contains("dtab")));
            assert_eq!(seen.header("baggage"), Some("a=1,b=2"), "the rest of baggage goes on");
        }
    }
    assert_eq!(site.counter("override_ignored_total", "off"), before + 15);
    assert_eq!(site.ask(OFF, "web", &[("baggage", "a=1")]).status, 200);
    assert_eq!(site.counter("override_ignored_total", "off"), before + 15, "nothing to ignore");
}

#[test]
fn o2_metadata_is_denied_to_allowed_callers_too() {
    let site = Site::start();
    let response = site.denied(LEGACY, TO_METADATA, "metadata");
    assert!(response.text().contains("169.254.169.254"), "a trusted caller is told why: {}", response.text());
    site.denied(UNSTATED, TO_METADATA, "metadata");
    site.denied(POLICY, "/svc/web => /$/inet/169.254.169.254/80", "metadata");
    for address in ["fd00:ec2::254", "100.100.100.200", "168.63.129.16"] {
        site.denied(LEGACY, &format!("/svc/web => /$/inet/{address}/80"), "metadata");
    }
    let log = site.router.log();
    let line = log.lines().find(|line| line.contains("override denied")).expect("a line in the log");
    for part in ["127.0.0.1", "prefix", "/svc", "/$/inet/169.254.169.254/80", "metadata"] {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
}

/// Both barriers hold alone: the router does not send it, whatever the admin server would say.
#[test]
fn o3_the_admin_port_is_out_of_reach() {
    let mut site = Site::start();
    let (admin, own) = (site.router.admin().port(), own_address());
    for target in [format!("/$/inet/{admin}"), format!("/$/inet/127.1/{admin}"), format!("/$/inet/localhost/{admin}")] {
        let dtab = format!("/svc/* => {target}");
        let mut client = Client::connect(site.router.addr(LEGACY));
        let response = client.request("POST", "web", "/admin/shutdown", &[("l5d-dtab", &dtab)], b"");
        assert_eq!(response.status, 403, "{dtab}: {}", response.text());
    }
    if let Some(own) = own {
        for port in [admin, site.router.port(OFF)] {
            site.denied(LEGACY, &format!("/svc/web => /$/inet/{own}/{port}"), "own-port");
        }
    }
    assert!(site.router.is_running());
    assert_eq!(site.router.page("/admin/ready").status, 200);
}

#[test]
fn o4_every_spelling_is_denied() {
    let site = Site::start();
    let port = site.local.addr().port();
    for (host, reason) in [
        ("127.1", "loopback"),
        ("127.0.0.1", "loopback"),
        ("2130706433", "loopback"),
        ("0177.0.0.1", "loopback"),
        ("0x7f.1", "loopback"),
        ("0x7f000001", "loopback"),
        ("::1", "loopback"),
        ("\\x5b::1\\x5d", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::127.0.0.1", "loopback"),
        ("64:ff9b::127.0.0.1", "loopback"),
        ("2002:7f00:1::", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0", "unspecified"),
        ("::", "unspecified"),
        ("fe80::1", "link-local"),
        ("\\x5bfe80::1%eth0\\x5d", "link-local"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("localhost", "loopback"),
        ("localhost.", "loopback"),
        ("LOCALHOST", "loopback"),
        ("web.localhost", "loopback"),
    ] {
        site.denied(LEGACY, &format!("/svc/web => /$/inet/{host}/{port}"), reason);
    }
    for (name, reason) in [
        (format!("/$/inet/{port}"), "loopback"),
        (format!("/$/fixedinet/127.1/{port}"), "loopback"),
        (format!("/$/io.buoyant.rinet/{port}/127.1"), "loopback"),
        (format!("/x ; /x => /$/io.buoyant.hostportPfx/y/127.1:{port} ; /y => /$/inet"), "loopback"),
        (format!("/$/com.twitter.finagle.namer.global/$/inet/127.1/{port}"), "loopback"),
        (format!("/nobody | /$/inet/127.1/{port}"), "loopback"),
        (format!("/svc/local | /$/inet/127.1/{port}"), "loopback"),
    ] {
        site.denied(LEGACY, &format!("/svc/web => {name}"), reason);
    }
}

/// Attack O5, for what the hosts file says; names that move are in `rebinding.rs`.
#[test]
fn o5_a_name_of_a_denied_address_is_denied() {
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names = hosts.lines().filter_map(|line| line.strip_prefix("127.0.0.1")).flat_map(str::split_whitespace);
    let site = Site::start();
    for name in names.filter(|name| !name.contains("localhost")) {
        site.denied(LEGACY, &format!("/svc/web => /$/inet/{name}/{}", site.local.addr().port()), "loopback");
    }
}

#[test]
fn o6_nothing_is_loaded_by_a_name() {
    let site = Site::start();
    let before = site.bytes();
    for name in ["java.lang.Runtime", "io.buoyant.nothing", "com.twitter.serverset/a/b"] {
        let response = site.ask(LEGACY, "web", &[("l5d-dtab", &format!("/svc/web => /$/{name} | /#/io.l5d.fs/v2"))]);
        let class = name.split('/').next().unwrap_or_default();
        assert_eq!(response.status, 502);
        assert!(response.text().contains(&format!("Unknown namer: {class}")), "{}", response.text());
    }
    assert_eq!(site.bytes(), before);
}

#[test]
fn o7_spoofed_spellings_do_nothing() {
    let site = Site::start();
    let spoofs = [
        ("l5d_ctx_dtab", TO_V2),
        ("l5d-ctx_dtab", TO_V2),
        ("dtab-local", TO_V2),
        ("X-Dtab-01-A", "L3N2Yy93ZWI="),
        ("X-Dtab-01-B", "LyMvaW8ubDVkLmZzL3Yy"),
        ("Connection", "l5d-ctx-dtab, l5d-dtab"),
    ];
    for listener in [OFF, LEGACY] {
        assert_eq!(site.ask(listener, "web", &spoofs).text(), "web", "listener {listener}");
        let passed = site.web.last().headers.iter().filter(|(name, _)| name.to_lowercase().contains("dtab")).count();
        assert_eq!(passed, if listener == OFF { 0 } else { 3 }, "Finagle's own pass a listener that trusts");
    }
    let as_named = [("l5d-ctx-dtab", TO_V2), ("connection", "l5d-ctx-dtab")];
    assert_eq!(site.ask(LEGACY, "web", &as_named).text(), "v2", "Connection takes nothing away");
    let conflicting = [("l5d-dtab", "/svc/web => /#/io.l5d.fs/web"), ("L5D-Dtab", TO_V2)];
    assert_eq!(site.ask(LEGACY, "web", &conflicting).text(), "v2", "the later line wins");
    let conflicting = [("l5d-dtab", "/svc/web => /#/io.l5d.fs/web"), ("l5d-ctx-dtab", TO_V2)];
    assert_eq!(site.ask(LEGACY, "web", &conflicting).text(), "web", "the user's wins over the context's");
    let count = site.web.count() + site.v2.count();
    for bad in [format!(":l5d-dtab: {TO_V2}\r\n"), format!("l5d-dtab:\r\n {TO_V2}\r\n")] {
        let mut client = Client::connect(site.router.addr(LEGACY));
        client.send_raw(format!("GET / HTTP/1.1\r\nHost: web\r\n{bad}\r\n").as_bytes());
        assert_eq!(client.read_response(false).expect("an answer").status, 400, "{bad}");
    }
    assert_eq!(site.web.count() + site.v2.count(), count);
    let mut client = Client::connect(site.router.addr(LEGACY));
    let body = format!("3\r\nabc\r\n0\r\nl5d-ctx-dtab: {TO_V2}\r\nl5d-dtab: {TO_V2}\r\n\r\n");
    let head = "POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send_raw(format!("{head}{body}").as_bytes());
    assert_eq!(client.read_response(false).expect("an answer").text(), "web", "trailers never count");
    assert!(site.web.last().trailers.is_empty());
}

/// Rule 3: only what the override adds is restricted.
#[test]
fn what_the_base_reaches_stays_reachable() {
    let site = Site::start();
    let port = site.local.addr().port();
    assert_eq!(get(site.router.addr(LEGACY), "local").text(), "local", "the operator may");
    for dtab in [
        format!("/svc/local => /$/inet/127.1/{port}"),
        "/svc/web => /#/io.l5d.fs/v2".to_owned(),
        format!("/svc/local => 1 * /$/inet/127.1/{port} & 1 * /$/inet/127.1/{port}/more"),
    ] {
        let response = site.ask(LEGACY, "local", &[("l5d-dtab", &dtab)]);
        assert_eq!((response.status, response.text().as_str()), (200, "local"), "{dtab}");
    }
    site.denied(LEGACY, &format!("/svc/web => /$/inet/127.1/{port}"), "loopback");
    site.denied(LEGACY, "/svc/web => /svc/local", "loopback");
    site.allowed(LEGACY, TO_V2, "v2");
    if let Some(own) = own_address() {
        let out = Backend::at(SocketAddr::new(own, 0), |_| e2e::Reply::text("out"));
        site.allowed(LEGACY, &format!("/svc/web => /$/inet/{own}/{}", out.addr().port()), "out");
    }
}

/// Idea I6 and attack O12: the policy holds for what the override says and for where it ends.
#[test]
fn o12_a_policy_decides_on_the_final_name() {
    let site = Site::start();
    site.router.disco().set("secret", &[site.local.addr()]);
    site.allowed(POLICY, TO_V2, "v2");
    site.allowed(POLICY, "/svc/web => /a ; ", "web");
    site.denied(POLICY, "/svc/web => /#/io.l5d.fs/secret", "destination");
    site.denied(POLICY, "/svc/web => /nobody | /svc/secret", "destination");
    site.denied(POLICY, "/svc => /#/io.l5d.fs/v2", "prefix");
    site.denied(POLICY, "/svc/* => /#/io.l5d.fs/v2", "prefix");
    site.denied(POLICY, "/svc/web => /x ; /x => /#/io.l5d.fs/v2", "prefix");
    site.denied(POLICY, "/svc/web => /#/io.l5d.fs/v2 ;/svc/web/a=>/b;/svc/web/c=>/d", "size");
    site.denied(POLICY, &format!("/svc/web => /#/io.l5d.fs/{}", "v".repeat(200)), "size");
    site.denied(POLICY, &format!("/svc/web => /$/inet/127.1/{}", site.local.addr().port()), "loopback");
    let log = site.router.log();
    let line = log.lines().find(|line| line.contains("\"destination\"")).expect("a line in the log");
    for part in ["127.0.0.1", "/svc/web", "/#/io.l5d.fs/secret"] {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
    let refused = site.denied(NOBODY, TO_V2, "caller");
    let text = refused.text();
    let told = text.starts_with("override-denied (request id ") && text.len() < 50;
    assert!(told && refused.header("l5d-err").is_none(), "a code is all that is told: {refused:?}");
    assert_eq!(site.ask(NOBODY, "web", &[]).text(), "web", "without an override there is nothing to refuse");
    assert_eq!(site.ask(NOBODY, "web", &[("l5d-ctx-deadline", "1 2")]).text(), "web");
    assert_eq!(site.web.last().header("l5d-ctx-deadline"), None, "and no context is taken from a stranger");
}

#[test]
fn tables_are_ignored_where_only_names_count() {
    let site = Site::start();
    let before = site.counter("override_ignored_total", "raw");
    for (header, value) in [("l5d-dtab", TO_V2), ("l5d-ctx-dtab", TO_METADATA), ("l5d-dtab", "not a dtab")] {
        assert_eq!(site.ask(NAMED, "web", &[(header, value)]).text(), "web");
        assert_eq!(site.web.last().header("l5d-ctx-dtab"), None);
    }
    assert_eq!(site.counter("override_ignored_total", "raw"), before + 3);
}

/// Rule 1: a listener that does not say is told of, once.
#[test]
fn an_unstated_mode_is_noticed() {
    let site = Site::start();
    let server = |n: usize, gauge: &str| {
        site.router.metric(&format!("rt/http/server/127.0.0.1/{}/overrides/{gauge}", site.router.port(n)))
    };
    assert_eq!((server(UNSTATED, "legacy"), server(UNSTATED, "unstated")), (Some(1.0), Some(1.0)));
    assert_eq!((server(LEGACY, "legacy"), server(LEGACY, "unstated")), (Some(1.0), None));
    assert_eq!((server(OFF, "off"), server(POLICY, "policy")), (Some(1.0), Some(1.0)));
    let log = site.router.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("does not say what it does")).collect();
    assert!(lines.len() == 1 && lines[0].contains(&site.router.port(UNSTATED).to_string()), "{lines:?}");
    site.allowed(UNSTATED, TO_V2, "v2");
}

/// Attack O13: one source with ever new overrides has its share of the cache, and base routes stay.
#[test]
fn o13_one_source_has_its_share_of_the_cache() {
    const FLOOD: usize = 20_000;
    let site = Site::start();
    let bases: Vec<String> = (0..200).map(|i| format!("base-{i}")).collect();
    bases.iter().for_each(|name| site.router.disco().set(name, &[site.web.addr()]));
    let ask_bases =
        || bases.iter().for_each(|name| assert_eq!(get(site.router.addr(LEGACY), name).status, 200, "{name}"));
    ask_bases();
    let metric = |name: &str| site.router.metric(&format!("rt/http/bindcache/path/{name}")).unwrap_or(0.0);
    let misses = metric("misses");
    let mut client = Client::connect(site.router.addr(LEGACY));
    for i in 0..FLOOD {
        let dtab = format!("/svc/lane-{i} => /x ; {TO_V2}");
        let response = client.request("GET", "web", "/", &[("l5d-dtab", &dtab)], b"");
        assert_eq!(response.text(), "v2", "override {i}");
    }
    assert_eq!(metric("misses"), misses + FLOOD as f64);
    assert!(metric("evicts") >= (FLOOD - 250) as f64, "a quarter of the 1000 paths is kept: {}", metric("evicts"));
    assert_eq!(metric("oneshots"), 0.0);
    ask_bases();
    assert_eq!(metric("misses"), misses + FLOOD as f64, "no base route was thrown out");
    assert!(site.router.rss_kib() < 300 * 1024, "{} KiB", site.router.rss_kib());
}
