//! What is accepted and what is refused, with the reason (attacks T4, T5).

use super::{client, mutual, refused, server_params, shake, showing, trusting};
use crate::check_server;
use crate::error::Part;
use crate::params::{ClientTlsParams, ServerTlsParams, Trust};
use crate::server::ServerTls;
use crate::test_certs::{Authority, Issued, Leaf, self_signed};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::ProtocolVersion;
use std::path::Path;
use tempfile::tempdir;
use tokio::io::AsyncWriteExt as _;

fn web() -> Leaf {
    Leaf::cn("web").dns("web.example")
}

fn serving(issued: &Issued, folder: &Path) -> ServerTls {
    ServerTls::new(&server_params(issued.write(folder, "server"))).unwrap()
}

#[tokio::test]
async fn a_server_with_the_right_name_is_accepted_and_the_name_is_the_sni() {
    let folder = tempdir().unwrap();
    let ca = Authority::new("ca");
    let server = serving(&ca.issue(&web()), folder.path());
    let client = client(&trusting(ca.write(folder.path(), "ca")), Some("Web.Example"));
    let (accepted, connected) = shake(&server, &client).await.unwrap();
    assert_eq!(ServerTls::server_name(&accepted), Some("web.example"));
    assert!(ServerTls::peer(&accepted).is_none());
    let connection = connected.get_ref().1;
    assert_eq!(connection.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert!(!connection.is_early_data_accepted(), "T5");
}

/// T4 and lessons 1.7.0.
#[tokio::test]
async fn an_address_is_never_sent_as_sni() {
    let folder = tempdir().unwrap();
    let ca = Authority::new("ca");
    let server = serving(&ca.issue(&Leaf::cn("x").ip("127.0.0.1").uri("spiffe://a/web")), folder.path());
    let trust = trusting(ca.write(folder.path(), "ca"));
    for name in [Some("127.0.0.1"), Some("spiffe://a/web"), None] {
        let (accepted, _) = shake(&server, &client(&trust, name)).await.unwrap();
        assert_eq!(ServerTls::server_name(&accepted), None, "{name:?}");
    }
}

/// T4.
#[tokio::test]
async fn bad_servers_are_refused_with_the_cause() {
    let folder = tempdir().unwrap();
    let ca = Authority::new("ca");
    let trust = trusting(ca.write(folder.path(), "ca"));
    let web_client = client(&trust, Some("web.example"));
    let cases: [(&str, Issued, &str); 7] = [
        ("name-mismatch", ca.issue(&Leaf::cn("api").dns("api.example")), "the server presented the names api.example"),
        ("expired", ca.issue(&web().days(-10, -2)), "the certificate expired on 20"),
        ("not-yet-valid", ca.issue(&web().days(2, 10)), "the certificate is valid only from 20"),
        (
            "unknown-issuer",
            Authority::new("other").issue(&web()),
            r"is from CN=other,O=Example\, Inc; trusted are those of",
        ),
        ("unknown-issuer", self_signed(&web(), false), "is self-signed and not among the trusted ones"),
        ("unknown-issuer", self_signed(&web(), true), "is self-signed and not among the trusted ones"),
        ("wrong-usage", ca.issue_for(&web(), &[ExtendedKeyUsagePurpose::ClientAuth]), "extendedKeyUsage"),
    ];
    for (reason, issued, text) in cases {
        let error = refused(&serving(&issued, folder.path()), &web_client).await;
        assert!(error.is_about_certificate() && !error.is_refusal());
        assert!(error.reason == reason && error.text.contains(text), "{reason}: {error:?}");
    }
    let by_cn = serving(&ca.issue(&Leaf::cn("web.example")), folder.path());
    let error = refused(&by_cn, &client(&trust, Some("api.example"))).await;
    assert!(error.text.contains("the common name web.example"), "{error:?}");
    let spiffe = client(&trust, Some("spiffe://example.org/web"));
    let error =
        refused(&serving(&ca.issue(&Leaf::cn("x").uri("spiffe://example.org/api")), folder.path()), &spiffe).await;
    assert!(error.reason == "name-mismatch" && error.text.contains("spiffe://example.org/api"), "{error:?}");
}

/// T4: name constraints, by webpki for alternative names and by us for the common name.
#[tokio::test]
async fn name_constraints_hold_for_every_kind_of_name() {
    let folder = tempdir().unwrap();
    let root = Authority::new("root");
    let below = root.below("below", &["good.example"]);
    let limited = Authority::limited("limited", &["good.example"]);
    for (anchor, issuer) in [(&root, &below), (&limited, &limited)] {
        let trust = trusting(anchor.write(folder.path(), "ca"));
        let serve = |leaf: Leaf| {
            let mut issued = issuer.issue(&leaf);
            issued.cert.push_str(&below.cert);
            serving(&issued, folder.path())
        };
        let good = serve(Leaf::cn("x").dns("web.good.example"));
        shake(&good, &client(&trust, Some("web.good.example"))).await.unwrap();
        let bad = serve(Leaf::cn("x").dns("web.bad.example"));
        let error = refused(&bad, &client(&trust, Some("web.bad.example"))).await;
        assert_eq!(error.reason, "name-constraints", "{error:?}");
        let by_cn = serve(Leaf::cn("web.bad.example"));
        let error = refused(&by_cn, &client(&trust, Some("web.bad.example"))).await;
        assert_eq!(error.reason, "name-constraints", "{error:?}");
    }
}

/// The certificate itself is trusted, an authority or not, as Java has it; its time and its name still count.
#[tokio::test]
async fn a_trusted_certificate_may_be_the_servers_own() {
    let folder = tempdir().unwrap();
    for ca in [true, false] {
        let issued = self_signed(&web(), ca);
        let (cert, _) = issued.write(folder.path(), "own");
        let server = serving(&issued, folder.path());
        shake(&server, &client(&trusting(cert.clone()), Some("web.example"))).await.unwrap();
        assert_eq!(refused(&server, &client(&trusting(cert), Some("api.example"))).await.reason, "name-mismatch");
        let old = self_signed(&web().days(-10, -2), ca);
        let (cert, _) = old.write(folder.path(), "own");
        let error = refused(&serving(&old, folder.path()), &client(&trusting(cert), Some("web.example"))).await;
        assert_eq!(error.reason, "expired");
    }
    let ca = Authority::new("ca");
    let as_server = self_signed(&web(), true);
    let trust = client(&trusting(ca.write(folder.path(), "ca")), Some("web.example"));
    assert_eq!(refused(&serving(&as_server, folder.path()), &trust).await.reason, "unknown-issuer");
}

/// T6: without validation the chain does not count, but a configured name still does, as in Linkerd 1.
#[tokio::test]
async fn without_validation_anything_is_accepted_but_a_wrong_name() {
    let folder = tempdir().unwrap();
    let params = ClientTlsParams { disable_validation: true, ..ClientTlsParams::default() };
    let server = serving(&self_signed(&web().days(-10, -2), true), folder.path());
    shake(&server, &client(&params, None)).await.unwrap();
    shake(&server, &client(&params, Some("web.example"))).await.unwrap();
    assert_eq!(refused(&server, &client(&params, Some("api.example"))).await.reason, "name-mismatch");
}

#[tokio::test]
async fn clients_are_known_by_their_certificate_or_refused() {
    let folder = tempdir().unwrap();
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let ca_path = ca.write(folder.path(), "ca");
    let server = ServerTls::new(&mutual(ca.issue(&web()).write(folder.path(), "server"), ca_path.clone())).unwrap();
    let mut shown = 0;
    let mut with = |issued: Issued| {
        shown += 1;
        let files = issued.write(folder.path(), &format!("client{shown}"));
        client(&showing(ca_path.clone(), files), Some("web.example"))
    };
    let known = with(ca.issue(&Leaf::cn("caller").uri("spiffe://example.org/caller")));
    let (accepted, _) = shake(&server, &known).await.unwrap();
    let peer = ServerTls::peer(&accepted).unwrap();
    assert_eq!(peer.identity().uris, ["spiffe://example.org/caller"]);
    let nobody = client(&trusting(ca_path.clone()), Some("web.example"));
    let (here, there) = shake(&server, &nobody).await.map(|_| ()).unwrap_err();
    assert_eq!((here.unwrap().reason, there.reason), ("no-certificate", "alert-certificate-required"));
    let foreign = with(other.issue(&Leaf::cn("caller")));
    let (here, there) = shake(&server, &foreign).await.map(|_| ()).unwrap_err();
    assert_eq!((here.unwrap().reason, there.reason), ("unknown-issuer", "alert-certificate"));
    let old = with(ca.issue(&Leaf::cn("caller").days(-10, -2)));
    let (here, there) = shake(&server, &old).await.map(|_| ()).unwrap_err();
    assert_eq!((here.unwrap().reason, there.reason), ("expired", "alert-certificate-expired"));
}

#[tokio::test]
async fn plain_text_and_silence_are_told_apart() {
    let folder = tempdir().unwrap();
    let server = serving(&Authority::new("ca").issue(&web()), folder.path());
    let (mut here, there) = tokio::io::duplex(1024);
    here.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    assert_eq!(server.accept(there).await.unwrap_err().reason, "not-tls");
    let (here, there) = tokio::io::duplex(1024);
    drop(here);
    assert_eq!(server.accept(there).await.unwrap_err().reason, "closed");
}

#[tokio::test]
async fn versions_in_common_are_needed() {
    let folder = tempdir().unwrap();
    let ca = Authority::new("ca");
    let params = server_params(ca.issue(&web()).write(folder.path(), "server"));
    let only = |version: &str| vec![version.to_owned()];
    let server = |version| ServerTls::new(&ServerTlsParams { protocols: only(version), ..params.clone() }).unwrap();
    let trust = ClientTlsParams { protocols: only("TLSv1.2"), ..trusting(ca.write(folder.path(), "ca")) };
    let old = client(&trust, Some("web.example"));
    let (_, connected) = shake(&server("TLSv1.2"), &old).await.unwrap();
    assert_eq!(connected.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    let (here, there) = shake(&server("TLSv1.3"), &old).await.map(|_| ()).unwrap_err();
    assert_eq!((here.unwrap().reason, there.reason), ("protocol-version", "alert-protocol-version"));
}

#[test]
fn files_that_cannot_be_used_are_refused_with_file_and_reason() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ca = Authority::new("ca");
    let good = server_params(ca.issue(&web()).write(folder.path(), "good"));
    let (_, other_key) = ca.issue(&web()).write(folder.path(), "other");
    let write = |name: &str, bytes: &[u8]| std::fs::write(at(name), bytes).unwrap();
    write("empty", b"");
    write("noise", &[0x30, 0x82, 0xff, 0x00]);
    write("cut", &std::fs::read(&good.cert_path).unwrap()[..300]);
    write("locked", b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let with = |change: &dyn Fn(&mut ServerTlsParams)| {
        let mut params = good.clone();
        change(&mut params);
        check_server(&params).unwrap_err()
    };
    let cases: [(Part, &str, crate::TlsError); 9] = [
        (Part::Certificate, "cannot be read", with(&|p| p.cert_path = at("absent"))),
        (Part::Certificate, "looks like DER", with(&|p| p.cert_path = at("noise"))),
        (Part::Certificate, "not whole", with(&|p| p.cert_path = at("cut"))),
        (Part::Certificate, "swapped", with(&|p| p.cert_path = good.key_path.clone())),
        (Part::Key, "swapped", with(&|p| p.key_path = good.cert_path.clone())),
        (Part::Key, "holds no private key", with(&|p| p.key_path = at("empty"))),
        (Part::Key, "encrypted", with(&|p| p.key_path = at("locked"))),
        (Part::Key, "does not belong", with(&|p| p.key_path = other_key.clone())),
        (Part::Intermediates, "holds no certificate", with(&|p| p.intermediate_certs_path = Some(at("empty")))),
    ];
    for (part, text, error) in cases {
        assert!(error.part == part && error.text.contains(text) && error.text.starts_with('/'), "{text}: {error:?}");
    }
    let error = with(&|p| {
        p.require_client_auth = true;
        p.ca_cert_path = Some(at("empty"));
    });
    assert_eq!(error.part, Part::Trust);
}

/// Lessons 1.1.1: no trusted files means the system's.
#[test]
fn the_systems_authorities_are_the_default() {
    match crate::check_client(&ClientTlsParams { trust: Trust::System, ..ClientTlsParams::default() }) {
        Ok(infos) => assert!(infos.is_empty()),
        Err(error) => assert!(error.text.contains("ca-certificates"), "{error}"),
    }
}
