//! Errors that say why (requirements P6): seeded misconfigurations, each with the fact that tells it from the others.
//!
//! Every text begins with what Linkerd 1 says (see `errors`), names the identifier, the entries that matched with their
//! place, the state of every leaf, the id of the request and the command that shows the rest, in less than 2 kB.

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Response, Switchyard, eventually, free_ports, get};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// The dtab of the router of most cases begins in this line of its file.
const DTAB: &str = r"
  dtab: |
    /svc => /#/io.l5d.fs ;
    /svc/no => ~ ;
    /svc/never => ! ;
    /svc/nobody => $ ;
    /svc/split => 1 * $ & 0 * /#/io.l5d.fs/web ;
    /svc/round => /svc/round ;
    /svc/consul => /#/io.l5d.consul/dc1/web ;
    /svc/class => /$/java.lang.Runtime/exec ;
    /svc/port => /$/inet/127.1/http-alt ;
    /svc/back => /$/inet/127.1/@P0@ ;
    /host => /#/io.l5d.fs ;
    /svc/two => /host/one | /host/other ;
";

fn config(dtab: &str, more: &str) -> String {
    let start = FS_CONFIG.split("  dtab:").next().expect("the part before the dtab");
    format!("{}{more}{dtab}", start.trim_end())
}

/// Checks what all such texts have in common, and that the command in it works; returns the text.
fn why(router: &Switchyard, response: &Response, status: u16) -> String {
    let text = response.text();
    assert_eq!(response.status, status, "{text}");
    assert!(text.len() < 2048, "{} bytes", text.len());
    for wanted in ["service name: /", "\nidentifier: io.l5d.", "\nresolution:", "\nrequest id: ", "\nexplain: curl "] {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
    let url = text.split("explain: curl '").nth(1).and_then(|rest| rest.split('\'').next()).expect("a URL");
    let page = url.split_once(&router.admin().to_string()).expect("of the admin server").1;
    let explained = router.page(page);
    let works = explained.status == 200 || explained.text().contains("Max recursion level");
    assert!(works, "{url}: {}", explained.text());
    text
}

fn has(text: &str, facts: &[&str]) {
    for fact in facts {
        assert!(text.contains(fact), "no {fact:?} in:\n{text}");
    }
}

/// Where an entry of the config stands, as texts show it.
fn at(router: &Switchyard, entry: &str) -> String {
    let file = router.folder().join("linkerd.yaml");
    let text = std::fs::read_to_string(&file).expect("the config");
    let line = text.lines().position(|line| line.trim().starts_with(entry)).expect("the entry") + 1;
    format!("({entry}, {}:{line})", file.display())
}

#[test]
fn p6_3_entries_that_lead_nowhere() {
    let router = Switchyard::start(&config(DTAB, ""));
    let all = "/svc => /#/io.l5d.fs";
    let cases: [(&str, &[&str], &str); 9] = [
        ("wbe", &["/#/io.l5d.fs/wbe ", ": the namer knows no such name"], all),
        ("web:4140", &["read Host: web:4140", "/#/io.l5d.fs/web:4140 "], all),
        ("no", &["the dtab says `~`, no such name"], "/svc/no => ~"),
        ("never", &["the dtab says `!`, fail"], "/svc/never => !"),
        ("nobody", &["the dtab says `$`, a name without addresses"], "/svc/nobody => $"),
        ("split", &["1.00 * ", "the dtab says `$`", "0.00 * /#/io.l5d.fs/web"], ""),
        ("consul", &["no namer has this prefix; configured: /#/io.l5d.fs"], "/svc/consul => /#/io.l5d.consul/dc1/web"),
        ("class", &["nknown namer"], "/svc/class => /$/java.lang.Runtime/exec"),
        ("two", &["| /host/one", "| /host/other", "/#/io.l5d.fs/other "], "/host => /#/io.l5d.fs"),
    ];
    for (name, facts, entry) in cases {
        let response = get(router.addr(0), name);
        let text = why(&router, &response, 502);
        has(&text, facts);
        has(&text, &["identifier: io.l5d.header.token read Host: "]);
        if !entry.is_empty() {
            has(&text, &[&at(&router, entry)]);
        }
    }
}

#[test]
fn p6_3_addresses_that_are_none() {
    let router = Switchyard::start(&config(DTAB, ""));
    router.disco().set("empty", &[]);
    router.disco().replace("broken", "one two three\nlocalhost\n");
    let refused = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
    router.disco().set("refused", &[refused]);
    let text = why(&router, &get(router.addr(0), "empty"), 502);
    has(&text, &["reason: its address set is empty", "/#/io.l5d.fs/empty ", "last update "]);
    let text = why(&router, &get(router.addr(0), "broken"), 502);
    has(&text, &["broken", "line 1", "addresses failed: "]);
    let text = why(&router, &get(router.addr(0), "refused"), 502);
    has(&text, &[&format!("Unable to establish connection to {refused}: "), "refused", "1 addresses, 0 of them open"]);
    let text = why(&router, &get(router.addr(0), "port"), 502);
    has(&text, &["http-alt", "/$/inet/127.1/http-alt"]);
}

/// A listener whose queue is full answers no SYN: as good as an address behind a firewall.
#[test]
fn p6_3_an_address_that_does_not_answer() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    socket.listen(0).expect("it listens");
    let listener: TcpListener = socket.into();
    let addr = listener.local_addr().expect("an address");
    let mut held = Vec::new();
    while let Ok(more) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
        held.push(more);
        assert!(held.len() < 100, "the queue is never full");
    }
    let router = Switchyard::start(&config(DTAB, "\n  service: { totalTimeoutMs: 8000 }\n  bindingTimeoutMs: 900"));
    router.disco().set("silent", &[addr]);
    let response = get(router.addr(0), "silent");
    has(&why(&router, &response, 502), &["no answer within 1.seconds", &addr.to_string(), "/#/io.l5d.fs/silent"]);
    assert!(response.header("proxy-status").is_some_and(|value| value.contains("error=connection_timeout;")));
}

#[test]
fn p6_3_hosts_that_dns_does_not_know() {
    let dtab = "\n  dtab: |\n    /svc => /$/inet/no-such-host.invalid ;\n";
    let router = Switchyard::start(&config(dtab, "\n  bindingTimeoutMs: 1500"));
    let text = why(&router, &get(router.addr(0), "80"), 502);
    has(&text, &["/$/inet/no-such-host.invalid/80", &at(&router, "/svc => /$/inet/no-such-host.invalid")]);
    let known = ["does not exist", "address set is empty", "no-such-host.invalid: ", "pending since", "failed"];
    assert!(known.iter().any(|state| text.contains(state)), "{text}");
}

#[test]
fn p6_3_names_that_go_in_circles() {
    let router = Switchyard::start(&config(DTAB, ""));
    let text = why(&router, &get(router.addr(0), "round"), 502);
    has(&text, &["Max recursion level", "service name: /svc/round", &at(&router, "/svc/round => /svc/round")]);
    let text = why(&router, &get(router.addr(0), "back"), 508);
    let entry = format!("/svc/back => /$/inet/127.1/{}", router.port(0));
    has(&text, &["own listener", "loop", &at(&router, &entry)]);
}

#[test]
fn p6_3_prefixes_that_do_not_match() {
    let router = Switchyard::start(&config("\n  dtab: |\n    /srv => /#/io.l5d.fs ;\n", ""));
    let text = why(&router, &get(router.addr(0), "web"), 502);
    has(&text, &["base dtab:\n  /srv => /#/io.l5d.fs\n", "\n  /svc/web: no entry of the dtab matches"]);
    let router = Switchyard::start(&config(DTAB, "\n  dstPrefix: /http"));
    let text = why(&router, &get(router.addr(0), "web"), 502);
    has(&text, &["service name: /http/web", "\n  /http/web: no entry of the dtab matches"]);
}

#[test]
fn p6_3_overrides_that_lead_nowhere() {
    let router = Switchyard::start(&config(DTAB, ""));
    let mut client = Client::connect(router.addr(0));
    let mut ask = |dtab: &str| client.request("GET", "web", "/", &[("l5d-dtab", dtab)], b"");
    let text = why(&router, &ask("/x => /y ; /svc/web => /#/io.l5d.consul/web"), 502);
    let entry = "(/svc/web => /#/io.l5d.consul/web, override entry 2): failed: no namer has this prefix";
    has(&text, &["override dtab:\n  /x => /y\n", entry, "/#/io.l5d.fs/web "]);
    let response = ask("/svc/web => %");
    assert_eq!((response.status, response.text().contains("found at '/svc/web => [%]'")), (400, true));
}

/// Requests without a name: who was asked, and what was missing.
#[test]
fn p6_3_requests_without_a_name() {
    let ask = |router: &Switchyard, request: &str| {
        let mut client = Client::connect(router.addr(0));
        client.send_raw(request.as_bytes());
        client.read_response(false).expect("an answer")
    };
    let router = Switchyard::start(&config(DTAB, ""));
    let response = ask(&router, "GET / HTTP/1.0\r\n\r\n");
    assert_eq!(response.status, 400);
    has(&response.text(), &["Unknown destination", "Host header is absent"]);
    let router = Switchyard::start(&config(DTAB, "\n  identifier: { kind: io.l5d.path, segments: 2 }"));
    let response = ask(&router, "GET /one HTTP/1.1\r\nHost: web\r\n\r\n");
    assert_eq!(response.status, 400);
    has(&response.text(), &["GET /one", "not enough segments in path"]);
    let text = why(&router, &ask(&router, "GET /no/web/x HTTP/1.1\r\nHost: h\r\n\r\n"), 502);
    has(&text, &["io.l5d.path read 2 segment(s) of the path", "service name: /svc/no/web"]);
    let router = Switchyard::start(&config(DTAB, "\n  identifier: { kind: io.l5d.header, header: my-name }"));
    let text = why(&router, &ask(&router, "GET / HTTP/1.1\r\nHost: h\r\nMy-Name: /no\r\n\r\n"), 502);
    has(&text, &["io.l5d.header read my-name: /no"]);
    let router = Switchyard::start(&config(DTAB, "\n  identifier: { kind: io.l5d.methodAndHost }"));
    let text = why(&router, &ask(&router, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"), 502);
    has(&text, &["io.l5d.methodAndHost read PUT and Host: h", "service name: /svc/1.1/PUT/h"]);
}

/// What is not known yet is pending, and for how long.
#[test]
fn p6_3_a_file_that_is_not_believed_yet() {
    let router = Switchyard::start(&config(DTAB, "\n  bindingTimeoutMs: 1"));
    // A file may be settled before it is asked for: then another one is tried.
    let text = (0..50).find_map(|i| {
        let name = format!("slow{i}");
        router.disco().edit(&name, "");
        let text = why(&router, &get(router.addr(0), &name), 502);
        text.starts_with("Exceeded 1.milliseconds binding timeout").then_some(text)
    });
    has(&text.expect("one of many is asked for in time"), &["pending"]);
}

/// l5d#2201: the text does not grow with the dtab, and neither does what it costs.
#[test]
fn p6_1_a_large_dtab_is_not_in_the_text() {
    let many: String = (0..5000).map(|i| format!("    /svc/some-long-name-{i} => /#/io.l5d.fs/{i} ;\n")).collect();
    let router = Switchyard::start(&config(&format!("{DTAB}{many}"), ""));
    let text = why(&router, &get(router.addr(0), "wbe"), 502);
    has(&text, &[" entries before these\n", "/svc/some-long-name-4999 => ", &at(&router, "/svc => /#/io.l5d.fs")]);
    let long = "x".repeat(4000);
    let mut client = Client::connect(router.addr(0));
    let response = client.request("GET", &long, "/", &[("l5d-dtab", &format!("/svc => /{long}"))], b"");
    assert_eq!(response.status, 502);
    assert!(response.text().len() < 2048 && response.text().contains("\nrequest id: "), "{}", response.text());
}

/// The id is that of the trace, and the one a service would have seen.
#[test]
fn the_request_id_is_that_of_the_trace() {
    let web = Backend::text("web");
    let router = Switchyard::start(&config(DTAB, ""));
    router.disco().set("web", &[web.addr()]);
    // Span aa, parent and trace bb (data-plane reference §5.3).
    let trace = "AAAAAAAAAKoAAAAAAAAAuwAAAAAAAAC7AAAAAAAAAAY=";
    let ask = |host: &str| Client::connect(router.addr(0)).request("GET", host, "/", &[("l5d-ctx-trace", trace)], b"");
    eventually("web is there", Duration::from_secs(30), || (ask("web").status == 200).then_some(()));
    assert_eq!(web.last().header("l5d-reqid"), Some("00000000000000bb"));
    has(&why(&router, &ask("wbe"), 502), &["\nrequest id: 00000000000000bb\n"]);
}
