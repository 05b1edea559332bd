//! OpenSSL as the other side, and as the maker of what rcgen does not make. Skipped, with a notice, where it is not
//! installed.

use super::{client, server_params, shake, trusting};
use crate::server::ServerTls;
use crate::test_certs::{Authority, Leaf};
use crate::{Part, check_server};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::tempdir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// Runs it in `folder`; None when it is not installed.
fn openssl(folder: &Path, args: &str) -> Option<Output> {
    let output = Command::new("openssl").args(args.split(' ')).current_dir(folder).stdin(Stdio::null()).output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            eprintln!("NOTICE: skipped, openssl cannot be run: {error}");
            None
        }
    }
}

fn made(folder: &Path, args: &str) -> Option<()> {
    let output = openssl(folder, args)?;
    assert!(output.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&output.stderr));
    Some(())
}

/// Keys of every usual kind and encoding.
#[tokio::test]
async fn pkcs8_pkcs1_and_sec1_keys_work() {
    let folder = tempdir().unwrap();
    let at = folder.path();
    let kinds = [
        ("rsa8.key", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa8.key", "PRIVATE KEY"),
        ("rsa1.key", "rsa -in rsa8.key -traditional -out rsa1.key", "RSA PRIVATE KEY"),
        ("ec8.key", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out ec8.key", "PRIVATE KEY"),
        ("sec1.key", "ec -in ec8.key -out sec1.key", "EC PRIVATE KEY"),
        ("ed.key", "genpkey -algorithm ED25519 -out ed.key", "PRIVATE KEY"),
    ];
    for (key, make, word) in kinds {
        let Some(()) = made(at, make) else { return };
        assert!(std::fs::read_to_string(at.join(key)).unwrap().contains(&format!("-----BEGIN {word}")), "{key}");
        let req =
            format!("req -x509 -new -key {key} -subj /CN=web -addext subjectAltName=DNS:web.example -out {key}.pem");
        made(at, &req).unwrap();
        let cert = at.join(format!("{key}.pem"));
        let server = ServerTls::new(&server_params((cert.clone(), at.join(key)))).unwrap();
        shake(&server, &client(&trusting(cert), Some("web.example"))).await.unwrap();
    }
}

/// webpki refuses certificates of version 1, so the error says what to do.
#[tokio::test]
async fn version_1_is_refused_with_advice_on_both_sides() {
    let folder = tempdir().unwrap();
    let at = folder.path();
    let Some(()) = made(at, "req -x509 -newkey rsa:2048 -nodes -subj /CN=ca -keyout ca.key -out ca.pem") else {
        return;
    };
    made(at, "req -new -newkey rsa:2048 -nodes -subj /CN=web.example -keyout v1.key -out v1.csr").unwrap();
    made(at, "x509 -req -in v1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out v1.pem").unwrap();
    let shown = openssl(at, "x509 -in v1.pem -noout -text").map(|shown| shown.stdout).unwrap_or_default();
    if !String::from_utf8_lossy(&shown).contains("Version: 1 ") {
        // Newer ones do so only when asked for it in another way.
        return eprintln!("NOTICE: skipped, this openssl makes no certificate of version 1");
    }
    let error = check_server(&server_params((at.join("v1.pem"), at.join("v1.key")))).unwrap_err();
    assert!(error.part == Part::Certificate && error.text.contains("issue it again as version 3"), "{error}");
    let mut child = Command::new("openssl")
        .args("s_server -quiet -accept 0 -cert v1.pem -key v1.key".split(' '))
        .current_dir(at)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let port = listening_port(child.id()).await;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let client = client(&trusting(at.join("ca.pem")), Some("web.example"));
    let error = client.connect(stream, [127, 0, 0, 1].into(), None).await.unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(error.reason == "x509-v1" && error.text.contains("issue it again as version 3"), "{error:?}");
}

/// The TCP port that a process of ours listens on, from /proc.
async fn listening_port(pid: u32) -> u16 {
    for _ in 0..6000 {
        let of_process = |table: &str| {
            let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
                .into_iter()
                .flatten()
                .filter_map(|fd| Some(std::fs::read_link(fd.ok()?.path()).ok()?.display().to_string()))
                .collect();
            let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            text.lines().skip(1).find_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let ours = fields[3] == "0A" && sockets.contains(&format!("socket:[{}]", fields[9]));
                ours.then(|| u16::from_str_radix(fields[1].rsplit(':').next()?, 16).ok()).flatten()
            })
        };
        if let Some(port) = of_process("tcp").or_else(|| of_process("tcp6")) {
            return port;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("openssl s_server does not listen");
}

/// What `s_client` with these arguments says of our server, which accepts one connection.
async fn s_client(folder: &Path, server: &Arc<ServerTls>, args: &str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = server.clone();
    let accepting = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        if let Ok(mut stream) = server.accept(socket).await {
            let _ = stream.read(&mut [0; 1]).await;
        }
    });
    let (folder, args) = (folder.to_owned(), format!("s_client -connect 127.0.0.1:{port} {args}"));
    let output = tokio::task::spawn_blocking(move || openssl(&folder, &args)).await.unwrap();
    accepting.abort();
    output
        .map(|output| format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// T5 and lessons 1.4.1: early data is not offered, and the whole chain is sent.
#[tokio::test]
async fn openssl_sees_the_whole_chain_no_early_data_and_no_old_protocol() {
    let folder = tempdir().unwrap();
    let root = Authority::new("root");
    let below = root.below("below", &[]);
    root.write(folder.path(), "root");
    let mut params = server_params(below.issue(&Leaf::cn("web").dns("web.example")).write(folder.path(), "server"));
    params.intermediate_certs_path = Some(below.write(folder.path(), "below"));
    let server = Arc::new(ServerTls::new(&params).unwrap());
    let verify = "-servername web.example -verify_hostname web.example -verify_return_error -CAfile root.pem";
    let Some(seen) = s_client(folder.path(), &server, verify).await else { return };
    assert!(seen.contains("Verify return code: 0 (ok)"), "{seen}");
    // Versions of it write names with and without spaces.
    assert!(seen.replace("CN = ", "CN=").contains("CN=below"), "{seen}");
    assert!(!seen.contains("Max Early Data: 1") && !seen.contains("Early data was accepted"), "{seen}");
    for old in ["-tls1_1", "-tls1", "-tls1_2 -cipher AES128-SHA"] {
        let seen = s_client(folder.path(), &server, &format!("{old} -CAfile root.pem")).await.unwrap();
        assert!(!seen.contains("Verify return code: 0 (ok)") || seen.contains("Cipher is (NONE)"), "{old}: {seen}");
    }
}

/// The hash that `x-forwarded-client-cert` tells is the fingerprint that OpenSSL tells.
#[tokio::test]
async fn the_hash_is_the_sha256_fingerprint() {
    let folder = tempdir().unwrap();
    let issued = Authority::new("ca").issue(&Leaf::cn("web"));
    issued.write(folder.path(), "web");
    let Some(output) = openssl(folder.path(), "x509 -in web.pem -noout -fingerprint -sha256") else { return };
    let said = String::from_utf8_lossy(&output.stdout).trim().rsplit('=').next().unwrap().replace(':', "");
    let peer = crate::Peer::of(&issued.der());
    assert!(peer.forwarded().starts_with(&format!("Hash={said};")), "{said} {}", peer.forwarded());
    let Some(output) = openssl(folder.path(), "x509 -in web.pem -noout -subject -nameopt RFC2253") else { return };
    let subject = String::from_utf8_lossy(&output.stdout).trim().strip_prefix("subject=").unwrap().to_owned();
    assert!(peer.forwarded().ends_with(&format!("Subject=\"{subject}\"")), "{subject} {}", peer.forwarded());
}
