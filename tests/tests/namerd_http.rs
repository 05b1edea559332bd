//! As somebody with curl, I read namerd's HTTP interface: the corners of it that no program of ours uses (namerd reference
//! §2.1, §2.6, §2.8, §3).

use e2e::{Client, NAMERD_CONFIG, Namerd};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn namerd() -> (Namerd, tempfile::TempDir) {
    let disco = tempfile::tempdir().expect("a folder");
    std::fs::write(disco.path().join("web"), "127.0.0.1 1\n").expect("written");
    let namerd = Namerd::start(NAMERD_CONFIG, disco.path());
    namerd.ctl(&["dtab", "create", "default", "-"], "/svc => /#/io.l5d.fs");
    (namerd, disco)
}

/// HEAD is GET without the body, on every route but that of bound names, which is for GET alone.
#[test]
fn head_is_get_without_its_body() {
    let (namerd, _disco) = namerd();
    for path in [
        "/api/1/dtabs",
        "/api/1/dtabs/default",
        "/api/1/bind/default?path=/svc/web",
        "/api/1/addr/default?path=/%23/io.l5d.fs/web",
        "/api/1/resolve/default?path=/svc/web",
        "/api/1/delegate/default?path=/svc/web",
    ] {
        let mut client = Client::connect(namerd.http());
        client.send_raw(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        let head = client.read_response(true).expect("a head");
        assert_eq!((head.status, head.text().as_str()), (200, ""), "{path}");
        // The connection goes on: nothing followed the head.
        assert_eq!(client.get("localhost", path).status, 200, "{path}");
    }
}

/// A dtab in the headers of a request for the API changes nothing of its answer.
#[test]
fn dtabs_in_headers_have_no_effect_on_the_interface() {
    let (namerd, _disco) = namerd();
    let path = "/api/1/bind/default?path=/svc/web";
    let plain = Client::connect(namerd.http()).get("localhost", path);
    let headers = [("l5d-dtab", "/svc => /$/inet/127.0.0.1/9"), ("dtab-local", "/svc=>/$/inet/127.0.0.1/9")];
    let with = Client::connect(namerd.http()).request("GET", "localhost", path, &headers, b"");
    assert_eq!((plain.status, plain.text()), (with.status, with.text()));
    assert!(plain.text().contains("/#/io.l5d.fs/web"), "{}", plain.text());
}

/// A watch of a namespace that does not exist is an open stream that says nothing, until there is one.
#[test]
fn a_watch_of_nothing_is_silent_and_then_speaks() {
    let (namerd, _disco) = namerd();
    let mut watch = TcpStream::connect(namerd.http()).expect("it listens");
    watch.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
    watch.write_all(b"GET /api/1/dtabs/later?watch=true HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    let mut said = Vec::new();
    let mut bytes = [0; 1024];
    // Ends by the time limit: the stream is open.
    while let Ok(count) = watch.read(&mut bytes) {
        assert!(count > 0, "the stream ended");
        said.extend_from_slice(&bytes[..count]);
        if said.ends_with(b"\r\n\r\n") {
            watch.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout can be set");
        }
    }
    let head = String::from_utf8_lossy(&said).into_owned();
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    namerd.ctl(&["dtab", "create", "later", "-"], "/a => /b");
    watch.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout can be set");
    let count = watch.read(&mut bytes).expect("a document");
    assert!(String::from_utf8_lossy(&bytes[..count]).contains(r#"[{"prefix":"/a","dst":"/b"}]"#));
}
