//! F20 to F22: as an operator, I say by the name of a service which certificate it must have, and by keys which chain a
//! router shows, which versions of TLS and which protocols (ALPN) it speaks: real handshakes do just that.

use e2e::{Authority, Backend, Https, Offer, Switchyard, eventually, get};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error};
use std::io;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// A router with one listener by TLS for each line of keys, in front of one service.
const IN: &str = r"
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- protocol: http
  label: in
  servers:
@SERVERS@
  dtab: /svc => /#/io.l5d.fs/backend ;
";

/// A router that speaks TLS to its services; `@CLIENT@` is its `client` section.
const OUT: &str = r"
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- protocol: http
  label: out
  servers: [{ port: @P0@ }]
  dtab: /svc => /#/io.l5d.fs ;
  client: @CLIENT@
";

struct Certs(TempDir);

impl Certs {
    fn new() -> Certs {
        Certs(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn fill(&self, yaml: &str) -> String {
        yaml.replace("@CERTS@", &self.path().display().to_string())
    }

    /// `tls`: the keys of each listener.
    fn start_in(&self, backend: &Backend, tls: &[&str]) -> Switchyard {
        let servers: Vec<String> =
            tls.iter().enumerate().map(|(n, keys)| format!("  - {{ port: @P{n}@, tls: {{ {keys} }} }}")).collect();
        let router = Switchyard::start(&self.fill(&IN.replace("@SERVERS@", &servers.join("\n"))));
        router.disco().set("backend", &[backend.addr()]);
        router
    }

    /// `services`: names, and the listeners of `incoming` where they are.
    fn start_out(&self, client: &str, incoming: &Switchyard, services: &[(&str, usize)]) -> Switchyard {
        let router = Switchyard::start(&self.fill(&OUT.replace("@CLIENT@", client)));
        for (name, listener) in services {
            router.disco().set(name, &[incoming.addr(*listener)]);
        }
        router
    }
}

/// Waits until a request for this service gets 200.
fn reaches(router: &Switchyard, service: &str) {
    eventually(&format!("{service} answers"), SOON, || (get(router.addr(0), service).status == 200).then_some(()));
}

/// Waits until a request for this service gets 502 with this reason.
fn fails(router: &Switchyard, service: &str, reason: &str) {
    eventually(&format!("{service} fails: {reason}"), SOON, || {
        let response = get(router.addr(0), service);
        (response.status == 502 && response.text().contains(reason)).then_some(())
    });
}

/// The alert that ended a handshake.
fn alert(handshake: io::Result<Https>) -> Option<AlertDescription> {
    let error = handshake.err()?;
    match error.get_ref()?.downcast_ref()? {
        Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

fn handshake_failures(router: &Switchyard, side: &str, reason: &str) -> Option<f64> {
    router.series(&format!("tls_handshake_failures_total{{side=\"{side}\",reason=\"{reason}\"}}"))
}

/// What a prefix catches of the name is the name that the certificate must have.
#[test]
fn f21_a_captured_part_of_the_name_is_who_the_service_must_be() {
    let (certs, authority, backend) = (Certs::new(), Authority::new("servers"), Backend::text("ok"));
    authority.write(certs.path(), "ca");
    for name in ["web.svc.example", "api.svc.example", "v2.shop.example"] {
        authority.issue(&[name]).write(certs.path(), name);
    }
    let server = |name: &str| format!("certPath: @CERTS@/{name}.pem, keyPath: @CERTS@/{name}.key");
    let servers = ["web.svc.example", "api.svc.example", "v2.shop.example"].map(server);
    let incoming = certs.start_in(&backend, &servers.each_ref().map(String::as_str));
    let client = r#"
    kind: io.l5d.static
    configs:
    - prefix: "/#/io.l5d.fs/{service}"
      tls: { commonName: "{service}.svc.example", trustCertsBundle: @CERTS@/ca.pem }
    - prefix: "/#/*/shop-{version}"
      tls: { commonName: "{version}.shop.example", trustCertsBundle: @CERTS@/ca.pem }"#;
    let services = [("web", 0), ("api", 1), ("shop-v2", 2), ("other", 0), ("shop-v1", 2)];
    let outgoing = certs.start_out(client, &incoming, &services);
    for good in ["web", "api", "shop-v2"] {
        reaches(&outgoing, good);
    }
    let reached = backend.count();
    let text = |expected: &str, presented: &str| {
        format!("expected a certificate for the name {expected}; the server presented the names {presented}")
    };
    fails(&outgoing, "other", &text("other.svc.example", "web.svc.example"));
    fails(&outgoing, "shop-v1", &text("v1.shop.example", "v2.shop.example"));
    assert_eq!(backend.count(), reached, "nothing was sent to who is somebody else");
    // The same service by the address of another one.
    outgoing.disco().set("web", &[incoming.addr(1)]);
    fails(&outgoing, "web", &text("web.svc.example", "api.svc.example"));
    let reached = backend.count();
    (0..5).for_each(|_| assert_eq!(get(outgoing.addr(0), "web").status, 502));
    assert_eq!(backend.count(), reached);
}

/// A certificate of an authority in between is believed when the router sends that one too: as a server, and as a client.
#[test]
fn f20_the_chain_in_between_is_sent() {
    let (certs, root, backend) = (Certs::new(), Authority::new("root"), Backend::text("ok"));
    let between = root.intermediate("between");
    root.write(certs.path(), "root");
    between.write(certs.path(), "between");
    between.issue(&["in.example"]).write(certs.path(), "in");
    between.issue(&["out.example"]).write(certs.path(), "out");
    let pair = |name: &str| format!("certPath: @CERTS@/{name}.pem, keyPath: @CERTS@/{name}.key");
    let chain = "intermediateCertsPath: @CERTS@/between.pem";
    let whole = format!("{}, {chain}", pair("in"));
    let choosy = format!("{whole}, caCertPath: @CERTS@/root.pem, requireClientAuth: true");
    let incoming = certs.start_in(&backend, &[&whole, &pair("in"), &choosy]);
    let ca = certs.path().join("root.pem");
    let connect = |listener| Https::connect(incoming.addr(listener), "in.example", &ca, None);
    let answer = eventually("the service is known", SOON, || {
        connect(0).and_then(|client| client.get("web", "/")).ok().filter(|answer| answer.contains(" 200 "))
    });
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    let error = connect(1).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("UnknownIssuer"), "without the chain nobody can verify it: {error:?}");

    let services = [("whole", 0), ("leaf", 1), ("choosy", 2)];
    let client = |auth: &str| {
        let own = pair("out");
        let trust = "commonName: in.example, trustCertsBundle: @CERTS@/root.pem";
        certs.start_out(&format!("{{ tls: {{ {trust}, clientAuth: {{ {own}{auth} }} }} }}"), &incoming, &services)
    };
    let outgoing = client(&format!(", {chain}"));
    reaches(&outgoing, "whole");
    fails(&outgoing, "leaf", "the certificate of CN=in.example is from CN=between");
    reaches(&outgoing, "choosy");
    let alone = client("");
    reaches(&alone, "whole");
    fails(&alone, "choosy", "it does not accept our certificate");
    let refused = handshake_failures(&incoming, "server", "unknown-issuer");
    assert!(refused.is_some_and(|count| count >= 1.0), "{refused:?}");
}

/// An `http` listener names HTTP/1 by ALPN. Who speaks HTTP/2 alone learns it in the handshake, by an alert.
#[test]
fn f20_alpn_names_http_1_and_refuses_http_2_alone() {
    let (certs, authority, backend) = (Certs::new(), Authority::new("servers"), Backend::text("ok"));
    let ca = authority.write(certs.path(), "ca");
    authority.issue(&["in.example"]).write(certs.path(), "in");
    let incoming = certs.start_in(&backend, &["certPath: @CERTS@/in.pem, keyPath: @CERTS@/in.key"]);
    let offer = |alpn| {
        let offer = Offer { alpn, ..Offer::default() };
        Https::offering(incoming.addr(0), "in.example", &ca, None, offer)
    };
    for (alpn, agreed) in [
        (&["http/1.1"][..], Some("http/1.1")),
        (&["h2", "http/1.1"], Some("http/1.1")),
        (&["http/1.0"], Some("http/1.0")),
        (&[], None),
    ] {
        let answer = eventually("a handshake and an answer", SOON, || {
            let client = offer(alpn).expect("a handshake");
            assert_eq!(client.alpn().as_deref(), agreed, "{alpn:?}");
            client.get("web", "/").ok().filter(|answer| answer.contains(" 200 "))
        });
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let reached = backend.count();
    assert_eq!(alert(offer(&["h2"])), Some(AlertDescription::NoApplicationProtocol));
    eventually("it is counted", SOON, || handshake_failures(&incoming, "server", "alpn").filter(|n| *n == 1.0));
    assert_eq!(backend.count(), reached);
}

/// `protocols`, of a listener and of a client.
#[test]
fn f20_versions_of_tls_are_those_of_the_config() {
    let (certs, authority, backend) = (Certs::new(), Authority::new("servers"), Backend::text("ok"));
    let ca = authority.write(certs.path(), "ca");
    authority.issue(&["in.example"]).write(certs.path(), "in");
    let pair = "certPath: @CERTS@/in.pem, keyPath: @CERTS@/in.key";
    let only = |version: &str| format!("{pair}, protocols: [{version}]");
    let incoming = certs.start_in(&backend, &[&only("TLSv1.3"), &only("TLSv1.2"), pair]);
    let with = |listener, version| {
        let offer = Offer { versions: &[version], ..Offer::default() };
        Https::offering(incoming.addr(listener), "in.example", &ca, None, offer)
    };
    for (listener, old, new) in [(0, false, true), (1, true, false), (2, true, true)] {
        for (version, fits) in [(&TLS12, old), (&TLS13, new)] {
            let wanted = (!fits).then_some(AlertDescription::ProtocolVersion);
            let handshake = with(listener, version);
            assert_eq!(handshake.is_ok(), fits, "{listener}, {version:?}");
            assert_eq!(alert(handshake), wanted, "{listener}, {version:?}");
        }
    }
    let refused = || handshake_failures(&incoming, "server", "protocol-version").filter(|n| *n == 2.0);
    eventually("both are counted", SOON, refused);

    let client = "{ tls: { commonName: in.example, trustCertsBundle: @CERTS@/ca.pem, protocols: [TLSv1.2] } }";
    let outgoing = certs.start_out(client, &incoming, &[("new", 0), ("old", 1), ("any", 2)]);
    reaches(&outgoing, "old");
    reaches(&outgoing, "any");
    fails(&outgoing, "new", "no TLS version in common; see `protocols`");
}
