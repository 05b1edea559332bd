//! TLS with a server's and a client's certificate, also through a proxy's tunnel.

use crate::fake::Fake;
use crate::tool::Tool;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tls::{ServerTlsParams, Tls};

/// An authority, a server called `namerd.test` and a client, as PEM files in the folder.
fn certificates(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::from_params(&params, &key);
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for name in ["namerd.test", "client.test"] {
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), signed.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Takes TLS off in front of a namerd; wants a client certificate. Gives the port.
fn terminate(folder: &Path, plain: &str) -> u16 {
    let params = ServerTlsParams {
        cert_path: folder.join("namerd.test.pem"),
        key_path: folder.join("namerd.test.key"),
        ca_cert_path: Some(folder.join("ca.pem")),
        require_client_auth: true,
        ..ServerTlsParams::default()
    };
    let plain = plain.trim_start_matches("http://").to_owned();
    let (send, port) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let server = Tls::new(&tokio::runtime::Handle::current()).server(&params).unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (server, plain) = (server.clone(), plain.clone());
                tokio::spawn(async move {
                    let Ok(mut secured) = server.accept(socket).await else { return };
                    let mut behind = tokio::net::TcpStream::connect(&plain).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut secured, &mut behind).await;
                });
            }
        });
    });
    port.recv().unwrap()
}

/// A proxy whose tunnels all lead to this port of loopback. Keeps what it was asked for.
fn tunnels(port: u16) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:pw@{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut reader = BufReader::new(socket.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            kept.lock().unwrap().push(head);
            let (mut there, mut back) = (TcpStream::connect(("127.0.0.1", port)).unwrap(), socket);
            back.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let (mut from, mut to) = (there.try_clone().unwrap(), back.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut reader, &mut there));
        }
    });
    (url, asked)
}

#[test]
fn both_sides_show_certificates_also_through_a_tunnel() {
    let fake = Fake::start();
    fake.put("internal", "/a=>/b");
    let mut tool = Tool::new("");
    certificates(tool.folder.path());
    let port = terminate(tool.folder.path(), &fake.url);
    let (proxy, asked) = tunnels(port);
    tool.env = vec![("NAMERCTL_BASE_URL".into(), "https://namerd.test:4180".into()), ("HTTPS_PROXY".into(), proxy)];
    let words = ["dtab", "list", "--cacert", "ca.pem", "--cert", "client.test.pem", "--key", "client.test.key"];
    assert_eq!(tool.ok(&words, ""), "internal\n");
    let head = asked.lock().unwrap()[0].clone();
    assert!(head.starts_with("CONNECT namerd.test:4180 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic dXNlcjpwdw=="), "{head}");

    let run = tool.run(&["dtab", "list", "--cacert", "ca.pem"], "");
    assert_eq!(run.status, 1, "no certificate of ours: {run:?}");
    let run = tool.run(&["dtab", "list", "--cacert", "client.test.pem"], "");
    assert!(run.status == 1 && run.stderr.contains("TLS with namerd.test:4180"), "{run:?}");
    tool.env[0].1 = "https://other.test:4180".into();
    let run = tool.run(&words, "");
    assert!(run.status == 1 && run.stderr.contains("other.test"), "another name: {run:?}");
    let run = tool.run(&["dtab", "list", "--cacert", "missing.pem"], "");
    assert!(run.status == 1 && run.stderr.contains("missing.pem"), "{run:?}");
}

/// What was to be sent in secret is not sent in the open, whoever says so.
#[test]
fn a_redirect_from_https_to_http_is_refused() {
    let (secured, open) = (Fake::start(), Fake::start());
    open.put("internal", "/a=>/b");
    let mut tool = Tool::new("");
    certificates(tool.folder.path());
    let (proxy, _) = tunnels(terminate(tool.folder.path(), &secured.url));
    tool.env = vec![("NAMERCTL_BASE_URL".into(), "https://namerd.test:4180".into()), ("HTTPS_PROXY".into(), proxy)];
    let certificate = ["--cacert", "ca.pem", "--cert", "client.test.pem", "--key", "client.test.key"];
    for (status, words) in [
        ("302 Found", vec!["dtab", "get", "internal"]),
        ("307 Temporary Redirect", vec!["dtab", "update", "internal", "-", "--token", "secret"]),
        ("303 See Other", vec!["dtab", "update", "internal", "-"]),
    ] {
        let location = format!("Location: {}/api/1/dtabs/internal\r\n", open.url);
        secured.lock().scripted.push((status.into(), location, String::new()));
        let run = tool.run(&[words, certificate.to_vec()].concat(), "/a=>/c");
        assert_eq!(run.status, 1, "{run:?}");
        assert!(run.stderr.contains("redirected from https to http://127.0.0.1:"), "{run:?}");
        assert!(run.stderr.contains("which is refused"), "{run:?}");
    }
    assert_eq!(secured.lock().seen.len(), 3);
    assert!(open.lock().seen.is_empty(), "nothing was sent in the open");
    assert_eq!(open.dtab("internal"), "/a=>/b");
}
