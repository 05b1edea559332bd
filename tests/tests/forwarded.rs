//! `addForwardedHeader` (RFC 7239, data-plane reference §6.6, attack X2).
//!
//! The unit tests of `router::forwarded` have the tables of addresses; here is what a service sees.

use e2e::{Backend, Client, FS_CONFIG, Switchyard};

fn start(server: &str) -> (Switchyard, Backend) {
    let web = Backend::text("web");
    let config = FS_CONFIG.replace("{ port: @P0@ }", &format!("{{ port: @P0@, {server} }}"));
    let router = Switchyard::start(&config);
    router.disco().set("web", &[web.addr()]);
    (router, web)
}

fn is_random(label: &str) -> bool {
    label.len() == 7 && label.starts_with('_') && label[1..].bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[test]
fn random_labels_by_default_and_nothing_when_off() {
    let (router, web) = start("addForwardedHeader: {}");
    let mut client = Client::connect(router.addr(0));
    let mut ask = || {
        assert_eq!(client.get("web", "/").status, 200);
        let line = web.last().header("forwarded").map(str::to_owned).unwrap_or_default();
        let parts: Vec<String> = line.split(';').map(str::to_owned).collect();
        assert_eq!(parts[2..], ["host=web", "proto=http"], "{line}");
        let value = |at: usize, key: &str| parts[at].strip_prefix(key).unwrap_or_default().to_owned();
        (value(0, "by="), value(1, "for="))
    };
    let (one, two) = (ask(), ask());
    for label in [&one.0, &one.1, &two.0, &two.1] {
        assert!(is_random(label), "{label}");
    }
    assert!(one.0 != two.0 && one.1 != two.1, "another one for every request");
    let (router, web) = start("addForwardedHeader: null");
    Client::connect(router.addr(0)).get("web", "/");
    assert_eq!(web.last().header("forwarded"), None);
}

#[test]
fn addresses_and_labels() {
    let (router, web) = start("addForwardedHeader: { by: { kind: 'ip:port' }, for: { kind: ip } }");
    let ask = |request: &str| {
        let mut client = Client::connect(router.addr(0));
        client.send_raw(request.as_bytes());
        assert_eq!(client.read_response(false).expect("an answer").status, 200);
        web.last().header("forwarded").map(str::to_owned).unwrap_or_default()
    };
    let start_of = format!("by=\"127.0.0.1:{}\";for=127.0.0.1", router.port(0));
    let one = ask("GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(one, format!("{start_of};host=web;proto=http"));
    let absolute = ask("GET http://web/ HTTP/1.1\r\nHost: other:99\r\n\r\n");
    assert_eq!(absolute, format!("{start_of};host=web;proto=http"), "the host that is routed by");
    let (router, web) = start("addForwardedHeader: { by: { kind: router }, for: { kind: connectionRandom } }");
    let mut client = Client::connect(router.addr(0));
    let mut ask = || {
        client.get("web", "/");
        web.last().header("forwarded").map(str::to_owned).unwrap_or_default()
    };
    let (one, two) = (ask(), ask());
    assert_eq!(one, two, "the same for every request of a connection");
    assert!(
        one.starts_with("by=_http;for=_") && one.len() == "by=_http;for=_123456;host=web;proto=http".len(),
        "{one}"
    );
    let mut client = Client::connect(router.addr(0));
    client.get("web", "/");
    assert_ne!(web.last().header("forwarded"), Some(one.as_str()));
    let (router, web) =
        start("addForwardedHeader: { by: { kind: static, label: _edge }, for: { kind: requestRandom } }");
    Client::connect(router.addr(0)).get("web", "/");
    assert!(web.last().header("forwarded").is_some_and(|line| line.starts_with("by=_edge;for=_")));
}

/// A host with a port is quoted; the discovery file is called as the host.
#[test]
fn hosts_are_quoted_when_they_must_be() {
    let (router, web) = start("addForwardedHeader: { by: { kind: ip }, for: { kind: ip } }");
    router.disco().set("web:80", &[web.addr()]);
    let mut client = Client::connect(router.addr(0));
    assert_eq!(client.get("web:80", "/").status, 200);
    assert_eq!(web.last().header("forwarded"), Some("by=127.0.0.1;for=127.0.0.1;host=\"web:80\";proto=http"));
}

/// Lines of callers that are believed stay before ours; those of others go (attack X2).
#[test]
fn x2_lines_of_callers() {
    let own = "by=127.0.0.1;for=127.0.0.1;host=web;proto=http";
    let labels = "addForwardedHeader: { by: { kind: ip }, for: { kind: ip } }";
    let sent = [("Forwarded", "for=192.0.2.1"), ("forwarded", "for=192.0.2.2, for=192.0.2.3")];
    let (router, web) = start(labels);
    Client::connect(router.addr(0)).request("GET", "web", "/", &sent, b"");
    assert_eq!(web.last().all("forwarded"), ["for=192.0.2.1", "for=192.0.2.2, for=192.0.2.3", own]);
    let (router, web) = start(&format!("clearContext: true, {labels}"));
    Client::connect(router.addr(0)).request("GET", "web", "/", &sent, b"");
    assert_eq!(web.last().all("forwarded"), [own]);
}
