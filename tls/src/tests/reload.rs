//! Files that change: by rename, by symbolic link, slowly, wrongly; and what a change of trust ends (attacks T1, T2).

use super::{client, mutual, refused, server_params, shake, showing, trusting};
use crate::client::ClientTls;
use crate::server::ServerTls;
use crate::test_certs::{Authority, Issued, Leaf};
use crate::watch::Tls;
use rustls::HandshakeKind;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;

/// T1 allows five seconds; more is for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

fn web(ca: &Authority) -> Issued {
    ca.issue(&Leaf::cn("web").dns("web.example"))
}

/// Handshakes until the client gets this certificate; how long it took.
async fn until_served(server: &ServerTls, client: &ClientTls, wanted: &Issued) -> Duration {
    let started = Instant::now();
    loop {
        let (_, connected) = shake(server, client).await.unwrap();
        if connected.get_ref().1.peer_certificates().unwrap()[0] == wanted.der() {
            return started.elapsed();
        }
        assert!(started.elapsed() < LIMIT, "the new certificate is not served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

#[tokio::test]
async fn a_pair_replaced_by_rename_is_served_and_open_connections_go_on() {
    let folder = tempdir().unwrap();
    let ca = Authority::new("ca");
    let client = client(&trusting(ca.write(folder.path(), "ca")), Some("web.example"));
    let params = server_params(web(&ca).write(folder.path(), "server"));
    let tls = Tls::new(&Handle::current());
    let server = tls.server(&params).unwrap();
    let (mut accepted, mut connected) = shake(&server, &client).await.unwrap();
    let new = web(&ca);
    replace(&params.cert_path, &new.cert);
    replace(&params.key_path, &new.key);
    until_served(&server, &client, &new).await;
    accepted.write_all(b"still").await.unwrap();
    accepted.flush().await.unwrap();
    let mut read = [0; 5];
    connected.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still");
}

/// As the kubelet does: `tls.crt -> ..data/tls.crt`, `..data -> ..1`, and then `..data` is renamed over.
#[tokio::test]
async fn a_swapped_symbolic_link_is_followed() {
    let folder = tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let ca = Authority::new("ca");
    let client = client(&trusting(ca.write(folder.path(), "ca")), Some("web.example"));
    let (one, two) = (web(&ca), web(&ca));
    for (version, issued) in [("..1", &one), ("..2", &two)] {
        std::fs::create_dir(at(version)).unwrap();
        issued.write(&at(version), "tls");
    }
    let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, at(from)).unwrap();
    link("..1", "..data");
    link("..data/tls.pem", "tls.pem");
    link("..data/tls.key", "tls.key");
    let tls = Tls::new(&Handle::current());
    let server = tls.server(&server_params((at("tls.pem"), at("tls.key")))).unwrap();
    until_served(&server, &client, &one).await;
    link("..2", "..data_tmp");
    std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
    until_served(&server, &client, &two).await;
}

/// A slow writer, byte by byte over more than a second: the old pair is served until all is there, and no reload fails.
#[tokio::test]
async fn slow_partial_writes_are_waited_for() {
    let folder = tempdir().unwrap();
    let ca = Authority::new("ca");
    let client = client(&trusting(ca.write(folder.path(), "ca")), Some("web.example"));
    let old = web(&ca);
    let params = server_params(old.write(folder.path(), "server"));
    let tls = Tls::new(&Handle::current());
    let server = tls.server(&params).unwrap();
    let new = web(&ca);
    for (path, text) in [(&params.cert_path, &new.cert), (&params.key_path, &new.key)] {
        let mut file = std::fs::File::create(path).unwrap();
        for piece in text.as_bytes().chunks(100) {
            // Before the next piece: with the last one all is there.
            let (_, connected) = shake(&server, &client).await.unwrap();
            assert_eq!(connected.get_ref().1.peer_certificates().unwrap()[0], old.der());
            file.write_all(piece).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    until_served(&server, &client, &new).await;
}

#[tokio::test]
async fn a_key_that_does_not_match_leaves_the_old_pair() {
    let folder = tempdir().unwrap();
    let ca = Authority::new("ca");
    let client = client(&trusting(ca.write(folder.path(), "ca")), Some("web.example"));
    let old = web(&ca);
    let params = server_params(old.write(folder.path(), "server"));
    let tls = Tls::new(&Handle::current());
    let server = tls.server(&params).unwrap();
    let new = web(&ca);
    replace(&params.cert_path, &new.cert);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        until_served(&server, &client, &old).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    replace(&params.key_path, &new.key);
    until_served(&server, &client, &new).await;
}

/// T2: a session that was made under the old authority is not resumed, on either side.
#[tokio::test]
async fn a_new_ca_bundle_ends_old_trust_and_its_sessions() {
    for version in ["TLSv1.2", "TLSv1.3"] {
        let folder = tempdir().unwrap();
        let (servers, old, new) = (Authority::new("servers"), Authority::new("old"), Authority::new("new"));
        let clients = old.write(folder.path(), "clients");
        let params = crate::ServerTlsParams {
            protocols: vec![version.to_owned()],
            ..mutual(web(&servers).write(folder.path(), "server"), clients.clone())
        };
        let tls = Tls::new(&Handle::current());
        let server = tls.server(&params).unwrap();
        let files = old.issue(&Leaf::cn("caller")).write(folder.path(), "caller");
        let caller = client(&showing(servers.write(folder.path(), "servers"), files), Some("web.example"));
        shake(&server, &caller).await.unwrap();
        let (accepted, _) = shake(&server, &caller).await.unwrap();
        let kind = accepted.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(HandshakeKind::Resumed), "sessions are resumed while trust is the same");
        assert!(ServerTls::peer(&accepted).is_some(), "and the peer is still known");
        replace(&clients, &new.cert);
        let started = Instant::now();
        let (here, _) = loop {
            match shake(&server, &caller).await {
                Err(refused) => break refused,
                Ok(_) => assert!(started.elapsed() < LIMIT, "the old client is still accepted"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(here.unwrap().reason, "unknown-issuer", "{version}");
    }
}

/// T2, the other direction: a client whose bundle changed does not resume with a server it no longer trusts.
#[tokio::test]
async fn a_client_with_a_new_bundle_trusts_no_old_session() {
    let folder = tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let bundle = old.write(folder.path(), "bundle");
    let server = ServerTls::new(&server_params(web(&old).write(folder.path(), "server"))).unwrap();
    let tls = Tls::new(&Handle::current());
    let files = tls.client(&trusting(bundle.clone())).unwrap();
    let same = tls.client(&trusting(bundle.clone())).unwrap();
    assert!(std::sync::Arc::ptr_eq(&files, &same), "clients with the same settings share their files");
    let client = ClientTls::new(files.clone(), Some("web.example"));
    shake(&server, &client).await.unwrap();
    let (accepted, _) = shake(&server, &client).await.unwrap();
    assert_eq!(accepted.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    let other = ClientTls::new(files, Some("api.example"));
    assert_eq!(refused(&server, &other).await.reason, "name-mismatch", "a session belongs to one name");
    replace(&bundle, &new.cert);
    let started = Instant::now();
    while shake(&server, &client).await.is_ok() {
        assert!(started.elapsed() < LIMIT, "the old server is still trusted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(refused(&server, &client).await.reason, "unknown-issuer");
}

/// The gauges of each file, and the counter of reloads; content that was tried is not tried again.
#[tokio::test]
async fn metrics_tell_expiry_and_failed_reloads() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let folder = tempdir().unwrap();
    let ca = Authority::new("ca");
    let params = server_params(web(&ca).write(folder.path(), "server"));
    let held = metrics::with_local_recorder(&recorder, || ServerTls::new(&params).unwrap()).held();
    let observe = |ms| {
        let files = crate::files::Files::read(held.paths());
        metrics::with_local_recorder(&recorder, || held.observe(&files, Instant::now() + Duration::from_millis(ms)));
    };
    let file = params.cert_path.display();
    let end = check_end(&params);
    let shown = handle.render();
    assert!(shown.contains(&format!("tls_certificate_expiry_seconds{{file=\"{file}\"}} {end}")), "{shown}");
    assert!(shown.contains(&format!("tls_reload_failing{{file=\"{file}\"}} 0")), "{shown}");
    std::fs::write(&params.key_path, "nonsense").unwrap();
    observe(0);
    observe(1000);
    observe(2000);
    let shown = handle.render();
    assert!(shown.contains("tls_reload_total{result=\"failed\"} 1"), "{shown}");
    assert!(shown.contains(&format!("tls_reload_failing{{file=\"{file}\"}} 1")), "{shown}");
    let new = ca.issue(&Leaf::cn("web").dns("web.example").days(-1, 20));
    new.write(folder.path(), "server");
    observe(3000);
    observe(4000);
    let shown = handle.render();
    assert!(shown.contains("tls_reload_total{result=\"ok\"} 1"), "{shown}");
    assert!(shown.contains(&format!("tls_reload_failing{{file=\"{file}\"}} 0")), "{shown}");
    assert_ne!(check_end(&params), end);
    assert!(shown.contains(&format!("tls_certificate_expiry_seconds{{file=\"{file}\"}} {}", check_end(&params))));
}

fn check_end(params: &crate::ServerTlsParams) -> i64 {
    crate::check_server(params).unwrap()[0].not_after
}
