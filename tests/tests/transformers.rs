//! As an operator (requirement F10), I hand requests to the router of the host where the service runs, which passes
//! them on to what runs there; I send a whole router, or the names of one namer, somewhere else; and every change of
//! discovery is followed through the transformer.

use e2e::{Backend, Client, Disco, Reply, Response, Switchyard, eventually, get};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Requirement P1.1.
/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// `outgoing` on P0 sends to port P1 of each host that has the service; `incoming`, there, serves what runs on its host.
const LINKER_TO_LINKER: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: http
  label: outgoing
  servers: [{ port: @P0@ }]
  dtab: /svc => /#/io.l5d.fs ;
  interpreter:
    kind: default
    transformers:
    - kind: io.l5d.port
      port: @P1@
  client:
    kind: io.l5d.static
    configs:
    - prefix: /%/io.l5d.port/*/#/io.l5d.fs
      loadBalancer: { kind: ewma }
    - prefix: /#/io.l5d.fs
      loadBalancer: { kind: p2c }
- protocol: http
  label: incoming
  servers: [{ port: @P1@ }]
  dtab: /svc => /#/io.l5d.fs ;
  interpreter:
    kind: default
    transformers:
    - kind: io.l5d.localhost
"#;

fn follows(switchyard: &Switchyard, body: &str) {
    eventually(&format!("requests reach {body}"), SOON, || {
        (get(switchyard.addr(0), "web").text() == body).then_some(())
    });
}

fn explained(switchyard: &Switchyard, namespace: &str, dtab: &str, path: &str) -> Response {
    let body = json!({ "namespace": namespace, "dtab": dtab, "path": path }).to_string();
    let headers = [("content-type", "application/json")];
    Client::connect(switchyard.admin()).request("POST", "localhost", "/delegator.json", &headers, body.as_bytes())
}

/// The addresses of a client.
fn addresses(switchyard: &Switchyard, id: &str) -> Value {
    switchyard.page("/client_state.json").json()[id]["addresses"].clone()
}

#[test]
fn a_request_goes_through_the_router_of_the_other_host() {
    let switchyard = Switchyard::start(LINKER_TO_LINKER);
    let backend = Backend::text("one");
    switchyard.disco().set("web", &[backend.addr()]);
    follows(&switchyard, "one");
    let response = get(switchyard.addr(0), "web");
    assert_eq!((response.status, response.text().as_str()), (200, "one"));
    let seen = backend.last();
    assert_eq!(seen.header("via").map(|via| via.split(',').count()), Some(2), "two routers: {:?}", seen.headers);
    assert_eq!(seen.header("l5d-dst-client"), Some("/%/io.l5d.localhost/#/io.l5d.fs/web"));

    let id = format!("/%/io.l5d.port/{}/#/io.l5d.fs/web", switchyard.port(1));
    assert_eq!(addresses(&switchyard, &id), json!([switchyard.addr(1).to_string()]));
    assert_eq!(addresses(&switchyard, "/%/io.l5d.localhost/#/io.l5d.fs/web"), json!([backend.addr().to_string()]));
    let counted = switchyard.metric(&format!("rt/outgoing/client{id}/requests"));
    assert!(counted.is_some_and(|requests| requests > 0.0), "the scope of the client has the whole id: {counted:?}");
    let ewma = format!("rt/outgoing/client{id}/loadbalancer/algorithm/p2c_peak_ewma");
    assert_eq!(switchyard.metric(&ewma), Some(1.0), "settings of clients are those of the whole id");
    assert_eq!(switchyard.page("/bound-names.json").json(), json!(["/#/io.l5d.fs/web"]));
}

#[test]
fn discovery_is_followed_through_both_transformers() {
    let switchyard = Switchyard::start(LINKER_TO_LINKER);
    let (one, two) = (Backend::text("one"), Backend::text("two"));
    let disco = switchyard.disco();
    assert_eq!(get(switchyard.addr(0), "web").status, 502, "nobody has said where it is");
    disco.set("web", &[one.addr()]);
    follows(&switchyard, "one");
    disco.edit("web", &Disco::lines(&[two.addr()]));
    follows(&switchyard, "two");
    let id = format!("/%/io.l5d.port/{}/#/io.l5d.fs/web", switchyard.port(1));
    let updates = || switchyard.metric(&format!("rt/outgoing/client{id}/loadbalancer/updates"));
    let before = updates();
    disco.edit("web", &Disco::lines(&[one.addr(), two.addr()]));
    eventually("the incoming router knows both", SOON, || {
        let known = addresses(&switchyard, "/%/io.l5d.localhost/#/io.l5d.fs/web");
        (known.as_array().map(Vec::len) == Some(2)).then_some(())
    });
    assert_eq!(updates(), before, "for the outgoing router nothing has changed: one host, one port");
    disco.remove("web");
    eventually("the name is gone", SOON, || (get(switchyard.addr(0), "web").status == 502).then_some(()));
    disco.set("web", &[one.addr()]);
    follows(&switchyard, "one");
}

#[test]
fn only_what_runs_here_is_served_and_nothing_falls_back() {
    let switchyard = Switchyard::start(LINKER_TO_LINKER);
    let (here, fallback) = (Backend::text("here"), Backend::text("fallback"));
    let elsewhere: SocketAddr = "198.51.100.7:80".parse().expect("an address");
    switchyard.disco().set("web", &[elsewhere, here.addr()]);
    switchyard.disco().set("far", &[elsewhere]);
    switchyard.disco().set("fallback", &[fallback.addr()]);
    let incoming = |host: &str, dtab: &str| {
        Client::connect(switchyard.addr(1)).request("GET", host, "/", &[("l5d-dtab", dtab)], b"")
    };
    eventually("the files are seen", SOON, || (get(switchyard.addr(1), "web").text() == "here").then_some(()));
    (0..20).for_each(|_| assert_eq!(get(switchyard.addr(1), "web").text(), "here"));
    let far = incoming("far", "/svc/far => /#/io.l5d.fs/far | /#/io.l5d.fs/fallback");
    assert_eq!((far.status, fallback.count()), (502, 0), "a filter that leaves nothing is no negative name");
    assert!(far.text().contains("Unable to route request!"), "{}", far.text());
    assert!(far.text().contains("/%/io.l5d.localhost/#/io.l5d.fs/far"), "{}", far.text());
}

#[test]
fn the_delegator_shows_transformations() {
    let switchyard = Switchyard::start(LINKER_TO_LINKER);
    let backend = Backend::text("one");
    switchyard.disco().set("web", &[backend.addr()]);
    follows(&switchyard, "one");
    let tree = explained(&switchyard, "outgoing", "/svc => /#/io.l5d.fs", "/svc/web").json();
    let shown = &tree["delegate"];
    assert_eq!((&tree["type"], &shown["type"]), (&json!("delegate"), &json!("transformation")), "{tree}");
    assert_eq!(shown["name"], "DelegatingNameTreeTransformer$");
    assert_eq!(shown["bound"]["addr"]["addrs"][0]["port"], backend.addr().port());
    assert_eq!(shown["tree"]["bound"]["addr"]["addrs"][0]["port"], switchyard.port(1));
    assert_eq!(shown["tree"]["path"], format!("/%/io.l5d.port/{}/#/io.l5d.fs/web", switchyard.port(1)));
}

/// `const` sends whatever a router binds, and what it cannot bind, to one place; a namer's own transformer changes the
/// names of that namer alone.
#[test]
fn a_constant_and_a_namer_of_its_own() {
    let (pinned, moved) = (Backend::text("pinned"), Backend::text("moved"));
    let config = format!(
        r#"
admin: {{ port: @ADMIN@ }}
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
  prefix: /plain
- kind: io.l5d.fs
  rootDir: @DISCO@
  prefix: /moved
  transformers:
  - kind: io.l5d.port
    port: {}
    prefix: /to
- kind: io.l5d.fs
  rootDir: @DISCO@
  prefix: /pinned
  transformers:
  - kind: io.l5d.replace
    path: /#/plain/pinned/x
routers:
- protocol: http
  label: constant
  servers: [{{ port: @P0@ }}]
  dtab: /svc => /#/plain ;
  interpreter:
    kind: default
    transformers:
    - kind: io.l5d.const
      path: /#/plain/pinned
- protocol: http
  label: namers
  servers: [{{ port: @P1@ }}]
  dtab: /svc => /#/plain ; /svc/moved => /#/moved/other ; /svc/pin => /#/pinned/other ;
"#,
        moved.addr().port()
    );
    let switchyard = Switchyard::start(&config);
    let other = Backend::text("other");
    let disco = switchyard.disco();
    assert_eq!(get(switchyard.addr(0), "anything").status, 502, "the constant is not there yet");
    disco.set("pinned", &[pinned.addr()]);
    disco.set("other", &[other.addr()]);
    for host in ["anything", "other", "no.such"] {
        eventually("it is pinned", SOON, || (get(switchyard.addr(0), host).text() == "pinned").then_some(()));
    }
    assert_eq!(pinned.last().header("l5d-dst-client"), Some("/%/io.l5d.const/#/plain/pinned"));
    let refused = explained(&switchyard, "constant", "/svc => /#/plain", "/svc/other");
    let wanted = (501, "Name Interpreter for constant cannot show delegations".to_owned());
    assert_eq!((refused.status, refused.text().trim_end().to_owned()), wanted);

    let reaches = |host: &str, body: &str| {
        eventually(host, SOON, || (get(switchyard.addr(1), host).text() == body).then_some(()));
    };
    reaches("other", "other");
    assert_eq!(other.last().header("l5d-dst-client"), Some("/#/plain/other"), "another namer's names are as they were");
    reaches("moved", "moved");
    assert_eq!(moved.last().header("l5d-dst-client"), Some("/%/to/#/moved/other"));
    reaches("pin", "pinned");
    assert_eq!(pinned.last().header("l5d-dst-client"), Some("/%/io.l5d.replace/#/plain/pinned/x"));
    assert_eq!(pinned.last().header("l5d-dst-residual"), Some("/x"));
    let tree = explained(&switchyard, "namers", "", "/#/moved/other").json();
    assert_eq!((&tree["type"], &tree["bound"]["id"]), (&json!("leaf"), &json!("/%/to/#/moved/other")));

    let again = Backend::text("again");
    disco.set("pinned", &[again.addr()]);
    eventually("the constant follows", SOON, || (get(switchyard.addr(0), "other").text() == "again").then_some(()));
    eventually("the namer follows", SOON, || (get(switchyard.addr(1), "pin").text() == "again").then_some(()));
    disco.remove("other");
    eventually("a gone name is gone", SOON, || (get(switchyard.addr(1), "pin").status == 502).then_some(()));
    assert_eq!(get(switchyard.addr(0), "other").text(), "again", "a constant does not care");
}

/// `@NAMER@` and `@INTERPRETER@` are the transformers of a namer `/some`, and those of the router on P0, which knows the
/// plain namer alone; the router on P1 asks `/some`.
const CHOSEN: &str = r"
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
- { kind: io.l5d.fs, rootDir: @DISCO@, prefix: /some, transformers: [ @NAMER@ ] }
routers:
- protocol: http
  label: interpreter
  servers: [{ port: @P0@ }]
  dtab: /svc => /#/io.l5d.fs ;
  interpreter: { kind: default, transformers: [ @INTERPRETER@ ] }
- protocol: http
  label: namer
  servers: [{ port: @P1@ }]
  dtab: /svc => /#/some ;
";

fn chosen(interpreter: &str, namer: &str, env: &[(&str, &str)]) -> Switchyard {
    let config = CHOSEN.replace("@NAMER@", namer).replace("@INTERPRETER@", interpreter);
    Switchyard::start_in(&config, &[], env)
}

/// A service on any address of this host.
fn service_at(ip: [u8; 4], body: &'static str) -> Backend {
    Backend::at(SocketAddr::from((ip, 0)), move |_| Reply::text(body))
}

/// `web` on the router at port `n` has the client `id`: services and metrics say so. Its requests reach `among` alone.
fn goes_to(switchyard: &Switchyard, (n, label): (usize, &str), id: &str, among: &[&Backend]) {
    let mut wanted: Vec<String> = among.iter().map(|backend| backend.addr().to_string()).collect();
    wanted.sort();
    eventually(&format!("{id} has the addresses {wanted:?}"), SOON, || {
        // The name stays known by being asked for.
        get(switchyard.addr(n), "web");
        let known = addresses(switchyard, id);
        let mut known: Vec<&str> = known.as_array()?.iter().filter_map(Value::as_str).collect();
        known.sort_unstable();
        (known == wanted).then_some(())
    });
    let (before, requests) = (among.iter().map(|backend| backend.count()).sum::<usize>(), 30);
    let mut client = Client::connect(switchyard.addr(n));
    (0..requests).for_each(|_| assert_eq!(client.get("web", "/").status, 200));
    assert_eq!(among.iter().map(|backend| backend.count()).sum::<usize>(), before + requests);
    for backend in among {
        assert_eq!(backend.last().header("l5d-dst-client"), Some(id));
    }
    let counted = switchyard.metric(&format!("rt/{label}/client{id}/requests"));
    assert!(counted.is_some_and(|counted| counted >= requests as f64), "{label}, {id}: {counted:?}");
}

/// F10: of all addresses those of one host are left, by its address or by a name that is resolved at the start.
#[test]
fn f10_one_host_is_chosen() {
    let switchyard = chosen(
        "{ kind: io.l5d.specificHost, host: 127.0.5.1 }",
        "{ kind: io.l5d.specificHost, host: localhost, prefix: /at-home }",
        &[],
    );
    let (away, other) = (service_at([127, 0, 5, 1], "away"), service_at([127, 0, 5, 1], "other"));
    let home = service_at([127, 0, 0, 1], "home");
    let all = [away.addr(), home.addr(), other.addr()];
    switchyard.disco().set("web", &all);
    goes_to(&switchyard, (0, "interpreter"), "/%/io.l5d.specificHost/#/io.l5d.fs/web", &[&away, &other]);
    goes_to(&switchyard, (1, "namer"), "/%/at-home/#/some/web", &[&home]);

    switchyard.disco().set("web", &all[1..]);
    goes_to(&switchyard, (0, "interpreter"), "/%/io.l5d.specificHost/#/io.l5d.fs/web", &[&other]);
    switchyard.disco().set("web", &[home.addr()]);
    eventually("nothing is left", SOON, || (get(switchyard.addr(0), "web").status == 502).then_some(()));
    let text = get(switchyard.addr(0), "web").text();
    assert!(text.contains("/%/io.l5d.specificHost/#/io.l5d.fs/web"), "{text}");
    goes_to(&switchyard, (1, "namer"), "/%/at-home/#/some/web", &[&home]);
}

/// F10: of all addresses those of this Kubernetes node are left: by the net of `POD_IP`; by `NODE_NAME`, which addresses in
/// files do not have.
#[test]
fn f10_this_node_is_chosen() {
    let switchyard = chosen(
        "{ kind: io.l5d.k8s.localnode }",
        "{ kind: io.l5d.k8s.localnode, hostNetwork: true }",
        &[("POD_IP", "127.0.5.77"), ("NODE_NAME", "node-7")],
    );
    let (here, beside) = (service_at([127, 0, 5, 1], "here"), service_at([127, 0, 5, 200], "beside"));
    let (next, far) = (service_at([127, 0, 6, 1], "next"), service_at([127, 0, 0, 1], "far"));
    switchyard.disco().set("web", &[far.addr(), here.addr(), next.addr(), beside.addr()]);
    let id = "/%/io.l5d.k8s.localnode/127.0.5.77/#/io.l5d.fs/web";
    goes_to(&switchyard, (0, "interpreter"), id, &[&here, &beside]);
    let by_name = get(switchyard.addr(1), "web");
    assert_eq!(by_name.status, 502, "{}", by_name.text());
    assert!(by_name.text().contains("/%/io.l5d.k8s.localnode/node-7/#/some/web"), "{}", by_name.text());
    assert_eq!((next.count(), far.count()), (0, 0));
}
