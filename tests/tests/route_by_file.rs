//! As an operator of Linkerd 1, I start Switchyard with my `linkerd.yaml` unchanged, and my applications, which set
//! `http_proxy` or a Host header, reach their services with the headers they know.

use e2e::{Backend, Client, Reply, Response, Switchyard, get};
use std::process::Command;

/// The shape of the config in Linkerd 1's own guide.
const LINKERD_YAML: &str = r#"
# A simple linkerd config
admin:
  ip: 127.0.0.1
  port: @ADMIN@

usage:
  orgId: my-company

namers:
- kind: io.l5d.fs
  rootDir: @DISCO@

telemetry:
- kind: io.l5d.prometheus

routers:
- protocol: http
  label: int
  dtab: |
    /svc => /#/io.l5d.fs;
    /svc/deep => /#/io.l5d.fs/web/more/segments;
  servers:
  - port: @P0@
    ip: 127.0.0.1
"#;

fn start() -> (Switchyard, Backend) {
    let switchyard = Switchyard::start(LINKERD_YAML);
    let web = Backend::text("hello from web");
    switchyard.disco().set("web", &[web.addr()]);
    (switchyard, web)
}

#[test]
fn host_and_absolute_form_reach_the_backend() {
    let (switchyard, web) = start();
    let mut client = Client::connect(switchyard.addr(0));
    let response = client.get("web", "/a/path?query=1");
    assert_eq!((response.status, response.text().as_str()), (200, "hello from web"));
    let seen = web.last();
    assert_eq!((seen.target.as_str(), seen.header("host")), ("/a/path?query=1", Some("web")));

    client.send_raw(b"GET http://web/through/proxy?x=y HTTP/1.1\r\nHost: something.else\r\n\r\n");
    let response = client.read_response(false).expect("an answer");
    assert_eq!((response.status, response.text().as_str()), (200, "hello from web"));
    let seen = web.last();
    assert_eq!((seen.target.as_str(), seen.all("host")), ("/through/proxy?x=y", vec!["web"]));
}

#[test]
fn the_backend_sees_the_context_headers() {
    let (switchyard, web) = start();
    let mut client = Client::connect(switchyard.addr(0));
    let forged = [("l5d-dst-service", "/svc/forged"), ("l5d-reqid", "forged"), ("via", "1.0 before")];
    client.request("GET", "web", "/", &forged, b"");
    let seen = web.last();
    assert_eq!(seen.all("l5d-dst-service"), ["/svc/web"]);
    assert_eq!(seen.all("l5d-dst-client"), ["/#/io.l5d.fs/web"]);
    assert_eq!(seen.header("l5d-dst-residual"), None);
    assert_eq!(seen.all("via"), ["1.0 before, 1.1 linkerd"]);
    let id = seen.header("l5d-reqid").expect("a request id");
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(seen.all("l5d-reqid").len(), 1);
    let trace = seen.header("l5d-ctx-trace").expect("a trace");
    assert!(trace.len() == 44 && trace.ends_with('='), "{trace}");

    client.get("deep", "/");
    let seen = web.last();
    assert_eq!(seen.header("l5d-dst-service"), Some("/svc/deep"));
    assert_eq!(seen.header("l5d-dst-client"), Some("/#/io.l5d.fs/web"));
    assert_eq!(seen.header("l5d-dst-residual"), Some("/more/segments"));
}

#[test]
fn a_trace_goes_on_and_keeps_its_id() {
    let (switchyard, web) = start();
    let mut client = Client::connect(switchyard.addr(0));
    client.get("web", "/");
    let first = web.last();
    let trace = first.header("l5d-ctx-trace").expect("a trace").to_owned();
    client.request("GET", "web", "/", &[("l5d-ctx-trace", &trace)], b"");
    let second = web.last();
    assert_eq!(second.header("l5d-reqid"), first.header("l5d-reqid"));
    assert_ne!(second.header("l5d-ctx-trace"), Some(trace.as_str()), "the call has a span of its own");
}

#[test]
fn the_response_carries_via_and_success_class() {
    let switchyard = Switchyard::start(LINKERD_YAML);
    let web = Backend::with(|request| {
        let status = request.target.trim_start_matches('/').parse().unwrap_or(200);
        Reply::status(status).header("l5d-success-class", "0.5").header("via", "1.1 inner")
    });
    switchyard.disco().set("web", &[web.addr()]);
    let mut client = Client::connect(switchyard.addr(0));
    let class = |response: &Response| response.header("l5d-success-class").map(str::to_owned);
    for (path, status, wanted) in [("/200", 200, "1.0"), ("/404", 404, "1.0"), ("/500", 500, "0.0")] {
        let response = client.get("web", path);
        assert_eq!((response.status, class(&response).as_deref()), (status, Some(wanted)));
        assert_eq!(response.header("via"), Some("1.1 inner, 1.1 linkerd"));
        assert_eq!(response.header("l5d-err"), None);
    }
}

#[test]
fn a_name_without_a_file_says_what_was_looked_for() {
    let (switchyard, _web) = start();
    let response = get(switchyard.addr(0), "nobody");
    assert_eq!(response.status, 502);
    let text = response.text();
    assert!(text.starts_with("Unable to route request!\n\nservice name: /svc/nobody\n"), "{text}");
    assert!(text.contains("  /svc => /#/io.l5d.fs\n"), "{text}");
    assert!(response.header("l5d-err").is_some_and(|error| error.starts_with("Unable+to+route+request%21")));
}

#[test]
fn curl_reaches_it_with_http_proxy() {
    let (switchyard, web) = start();
    let proxy = format!("http://{}", switchyard.addr(0));
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "10", "http://web/from-curl"]).env("http_proxy", proxy).env_remove("no_proxy");
    let Ok(output) = curl.env_remove("NO_PROXY").output() else {
        eprintln!("not run: curl is not installed");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "hello from web");
    assert_eq!(web.last().target, "/from-curl");
}
