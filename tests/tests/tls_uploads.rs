//! Request bodies over TLS: what the far side says while the body is under way must not cost a byte of it, or pass a part
//! for the whole (requirements P8, P14.3; attack T4).

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Authority, Backend, Client, PairFiles, Switchyard};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const FAR: &str = r"
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- protocol: http
  servers:
  - port: @P0@
    tls: { certPath: @CERTS@/web.pem, keyPath: @CERTS@/web.key, caCertPath: @CERTS@/ca.pem, requireClientAuth: true }
  - port: @P1@
    tls: { certPath: @CERTS@/web.pem, keyPath: @CERTS@/web.key, caCertPath: @CERTS@/other.pem, requireClientAuth: true }
  identifier: { kind: io.l5d.static, path: /web }
  dtab: /svc => /#/io.l5d.fs ;
";

const NEAR: &str = r"
admin: { port: @ADMIN@ }
namers:
- { kind: io.l5d.fs, rootDir: @DISCO@ }
routers:
- protocol: http
  servers: [{ port: @P0@ }]
  identifier: { kind: io.l5d.static, path: /far }
  dtab: /svc => /#/io.l5d.fs ;
  client:
    failureAccrual: { kind: none }
    tls:
      commonName: web.example
      trustCertsBundle: @CERTS@/ca.pem
      clientAuth: { certPath: @CERTS@/caller.pem, keyPath: @CERTS@/caller.key }
";

/// Two routers: the near one speaks TLS to the far one, which has one listener that knows the near one and one that does
/// not.
struct Hosts {
    near: Switchyard,
    far: Switchyard,
    _folder: TempDir,
    _caller: PairFiles,
}

fn hosts() -> Hosts {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("ca");
    authority.issue(&["web.example"]).write(folder.path(), "web");
    let caller = authority.issue(&["caller.example"]).write(folder.path(), "caller");
    authority.write(folder.path(), "ca");
    Authority::new("other").write(folder.path(), "other");
    let fill = |config: &str, folder: &Path| config.replace("@CERTS@", &folder.display().to_string());
    let far = Switchyard::start(&fill(FAR, folder.path()));
    let near = Switchyard::start(&fill(NEAR, folder.path()));
    Hosts { near, far, _folder: folder, _caller: caller }
}

impl Hosts {
    fn lead(&self, far: &[SocketAddr], service: SocketAddr) {
        self.near.disco().set("far", far);
        self.far.disco().set("web", &[service]);
    }
}

/// A refusal of our certificate comes after the first bytes of the body have left: what is not kept is not sent again, and
/// never is a part of a body taken for all of it.
#[test]
fn t4_a_refusal_in_the_middle_of_an_upload_does_not_cut_the_body() {
    let hosts = hosts();
    let web = Backend::text("taken");
    hosts.lead(&[hosts.far.addr(0), hosts.far.addr(1)], web.addr());
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..30 {
        let mut client = Client::connect(hosts.near.addr(0));
        client.send_raw(
            b"POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n",
        );
        let response = client.read_response(false).expect("an answer");
        match response.status {
            200 => taken += 1,
            502 => refused += 1,
            other => panic!("{other}: {}", response.text()),
        }
    }
    let whole = web.requests().iter().filter(|request| request.body == b"helloworld").count();
    assert_eq!((whole, web.count()), (taken, taken), "every request that arrives is whole");
    assert!(taken > 0 && refused + taken == 30, "{taken} taken, {refused} refused");
}

/// A service that answers before it has read the request gets the rest of it all the same, to the last byte.
#[test]
fn p8_an_upload_goes_on_after_an_early_response_head() {
    const SIZE: usize = 24 * 1024 * 1024 + 17;
    let hosts = hosts();
    let web = Backend::raw(|mut socket| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).is_ok_and(|read| read > 0) {
            head.push(byte[0]);
        }
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\nearly \r\n");
        let (mut got, mut piece) = (0, vec![0; 64 * 1024]);
        while got < SIZE {
            match socket.read(&mut piece) {
                Ok(read) if read > 0 => got += read,
                _ => break,
            }
        }
        let text = format!("{got:8}");
        let _ = socket.write_all(format!("8\r\n{text}\r\n0\r\n\r\n").as_bytes());
    });
    hosts.lead(&[hosts.far.addr(0)], web.addr());
    for _ in 0..2 {
        let mut client = Client::connect(hosts.near.addr(0));
        client.set_read_timeout(Duration::from_secs(60));
        let mut sending = client.socket().try_clone().expect("a clone");
        let sender = std::thread::spawn(move || {
            sending.write_all(format!("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {SIZE}\r\n\r\n").as_bytes())?;
            sending.write_all(&vec![b'x'; SIZE])
        });
        let response = client.read_response(false).expect("a whole answer");
        assert_eq!(response.text(), format!("early {SIZE:8}"));
        sender.join().expect("no panic").expect("all was taken");
    }
}
