//! As an operator, I have responses compressed for clients that ask for it (`compressionLevel`), and nobody gets a wrong,
//! late or unbounded body by it. What arrives is judged by Python's zlib.

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::{Backend, Client, FS_CONFIG, Reply, Response, Switchyard, eventually, get};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const TEXT: &str = "text/html; charset=utf-8";

fn start(level: &str, web: &Backend) -> Switchyard {
    let switchyard = Switchyard::start(&FS_CONFIG.replace("  dtab: |", &format!("  {level}\n  dtab: |")));
    switchyard.disco().set("web", &[web.addr()]);
    switchyard
}

fn ask(switchyard: &Switchyard, accept: &str) -> Response {
    Client::connect(switchyard.addr(0)).request("GET", "web", "/", &[("Accept-Encoding", accept)], b"")
}

/// What is in these bytes as far as they go, and whether they are a whole stream of that coding and nothing more.
fn unpack(coding: &str, bytes: &[u8]) -> (Vec<u8>, bool) {
    let script = "import sys, zlib\n\
                  d = zlib.decompressobj(31 if sys.argv[1] == 'gzip' else 15)\n\
                  sys.stdout.buffer.write(d.decompress(sys.stdin.buffer.read()))\n\
                  sys.exit(0 if d.eof and not d.unused_data else 9)";
    let mut command = Command::new("python3");
    command.args(["-c", script, coding]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = command.spawn().expect("python3 is there");
    let (mut stdin, bytes) = (python.stdin.take().expect("its input"), bytes.to_vec());
    let writing = std::thread::spawn(move || stdin.write_all(&bytes));
    let done = python.wait_with_output().expect("it ends");
    assert!(writing.join().is_ok_and(|written| written.is_ok()));
    match done.status.code() {
        Some(0) => (done.stdout, true),
        Some(9) => (done.stdout, false),
        other => panic!("zlib does not understand it: {other:?}"),
    }
}

/// A megabyte that is half text, half noise.
fn megabyte() -> Vec<u8> {
    let mut seed = 88_172_645_463_325_252_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    (0..1 << 20)
        .map(|i: usize| if (i / 1000).is_multiple_of(2) { b'a' + (i % 7) as u8 } else { next() as u8 })
        .collect()
}

#[test]
fn nothing_is_compressed_unless_the_config_says_so() {
    let web = Backend::with(|_| Reply::text("hello").header("content-type", TEXT));
    for level in ["originator: false", "compressionLevel: 0"] {
        let switchyard = start(level, &web);
        let answer = ask(&switchyard, "gzip");
        assert_eq!((answer.text().as_str(), answer.header("content-encoding")), ("hello", None));
        assert_eq!((answer.header("vary"), answer.header("content-length")), (None, Some("5")));
    }
}

#[test]
fn a_megabyte_arrives_as_it_was_sent() {
    let body = megabyte();
    for (level, chunked) in [("-1", false), ("1", true)] {
        let sent = body.clone();
        let web = Backend::with(move |_| {
            let reply = Reply { body: sent.clone(), ..Reply::text("") }.header("content-type", TEXT);
            let reply = reply.header("ETag", "\"a\"").header("Accept-Ranges", "bytes");
            if chunked { reply.chunked() } else { reply }
        });
        let switchyard = start(&format!("compressionLevel: {level}"), &web);
        let mut client = Client::connect(switchyard.addr(0));
        for coding in ["gzip", "deflate"] {
            let answer = client.request("GET", "web", "/", &[("Accept-Encoding", coding)], b"");
            assert_eq!((answer.status, answer.header("content-encoding")), (200, Some(coding)));
            assert_eq!((answer.header("content-length"), answer.header("transfer-encoding")), (None, Some("chunked")));
            assert_eq!((answer.header("vary"), answer.header("etag")), (Some("accept-encoding"), Some("W/\"a\"")));
            assert_eq!((answer.header("accept-ranges"), answer.header("content-type")), (None, Some(TEXT)));
            assert!(answer.body.len() < 700_000, "{} bytes", answer.body.len());
            assert!(unpack(coding, &answer.body) == (body.clone(), true), "{coding} at {level}");
        }
        let server = format!("rt/http/server/127.0.0.1/{}", switchyard.port(0));
        assert!(switchyard.metric(&format!("{server}/response_payload_bytes.max")) < Some(700_000.0));
        switchyard.await_metric("rt/http/client/#/io.l5d.fs/web/response_payload_bytes.max", (1 << 20) as f64);
    }
}

#[test]
fn clients_decide() {
    let web = Backend::with(|_| Reply::text("hello").header("content-type", TEXT).header("ETag", "\"a\""));
    let switchyard = start("compressionLevel: -1", &web);
    for (accept, wanted) in [
        ("gzip;q=0", None),
        ("gzip;q=0, deflate", Some("deflate")),
        ("deflate;q=0.9, gzip;q=0.1", Some("deflate")),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0, gzip;q=0.1", Some("gzip")),
        ("br", None),
        ("*", Some("gzip")),
    ] {
        let answer = ask(&switchyard, accept);
        assert_eq!(answer.header("content-encoding"), wanted, "{accept}");
        assert_eq!(answer.header("vary"), Some("accept-encoding"), "another client gets another body");
        let plain = wanted.map_or(answer.body.clone(), |coding| unpack(coding, &answer.body).0);
        assert_eq!(plain, b"hello", "{accept}");
        assert_eq!(answer.header("etag"), Some(if wanted.is_some() { "W/\"a\"" } else { "\"a\"" }));
    }
    assert_eq!(get(switchyard.addr(0), "web").header("content-encoding"), None);
}

#[test]
fn some_bodies_are_left_alone() {
    let png = [("content-type", "image/png")];
    for (status, lines, level, wanted) in [
        (200, &png[..], "-1", None),
        (200, &png[..], "1", Some("gzip")),
        (500, &[("content-type", TEXT)][..], "-1", Some("gzip")),
        (206, &[("content-type", TEXT), ("content-range", "bytes 0-2/9")], "1", None),
        (200, &[("content-type", TEXT), ("content-encoding", "br")], "1", Some("br")),
        (200, &[("content-type", TEXT), ("cache-control", "no-transform")], "1", None),
        (204, &[], "1", None),
    ] {
        let reply = lines.iter().fold(Reply::status(status), |reply, (name, value)| reply.header(name, value));
        let web = Backend::with(move |_| reply.clone());
        let switchyard = start(&format!("compressionLevel: {level}"), &web);
        let answer = ask(&switchyard, "gzip");
        assert_eq!((answer.status, answer.header("content-encoding")), (status, wanted), "{lines:?}");
        if wanted != Some("gzip") && status != 204 {
            assert_eq!(answer.text(), status.to_string());
        }
    }
    let web = Backend::with(|_| Reply::text("hello").header("content-type", TEXT));
    let switchyard = start("compressionLevel: 6", &web);
    let mut client = Client::connect(switchyard.addr(0));
    let head = client.request("HEAD", "web", "/", &[("Accept-Encoding", "gzip")], b"");
    assert_eq!((head.header("content-encoding"), head.header("content-length")), (None, Some("5")));
    assert_eq!(client.get("web", "/").text(), "hello", "the connection goes on");
}

#[test]
fn http_1_0_gets_it_until_the_end() {
    let web = Backend::with(|_| Reply::text("hello").header("content-type", TEXT));
    let switchyard = start("compressionLevel: -1", &web);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.0\r\nHost: web\r\nConnection: keep-alive\r\nAccept-Encoding: gzip\r\n\r\n");
    let answer = client.read_response(false).expect("an answer");
    assert_eq!((answer.header("transfer-encoding"), answer.header("content-length")), (None, None));
    assert_eq!(unpack("gzip", &answer.body), (b"hello".to_vec(), true));
}

/// A service that writes what it is told, after the head of a stream of events.
fn events() -> (Backend, mpsc::SyncSender<&'static str>) {
    let (say, said) = mpsc::sync_channel::<&str>(1);
    let said = std::sync::Mutex::new(said);
    let web = Backend::raw(move |mut socket| {
        let mut scratch = [0; 4096];
        let _ = socket.read(&mut scratch);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let _ = socket.write_all(head.as_bytes());
        while let Ok(text) = said.lock().expect("one reader").recv() {
            let _ = socket.write_all(text.as_bytes());
        }
    });
    (web, say)
}

/// The body so far: the data of the chunks in these bytes.
fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..at]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let data = size.and_then(|size| bytes.get(at + 2..at + 2 + size));
        let Some(data) = data.filter(|data| !data.is_empty()) else { break };
        body.extend_from_slice(data);
        bytes = bytes.get(at + 4 + data.len()..).unwrap_or_default();
    }
    body
}

#[test]
fn events_arrive_at_once() {
    let (web, say) = events();
    let switchyard = start("compressionLevel: -1", &web);
    let client = Client::connect(switchyard.addr(0));
    let mut socket = client.socket();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nAccept-Encoding: gzip\r\n\r\n").expect("it is sent");
    let (mut read, mut wanted) = (Vec::new(), Vec::new());
    // The next event is not said before the last one has arrived.
    for event in ["data: one\n\n", "data: two\n\n", ": beat\n\n", "data: three\n\n"] {
        say.send(Box::leak(format!("{:x}\r\n{event}\r\n", event.len()).into_boxed_str())).expect("it is said");
        wanted.extend_from_slice(event.as_bytes());
        let mut scratch = [0; 4096];
        eventually("the event arrives", SOON, || {
            let n = socket.read(&mut scratch).expect("bytes");
            read.extend_from_slice(&scratch[..n]);
            let head = read.windows(4).position(|four| four == b"\r\n\r\n")?;
            let body = dechunk(&read[head + 4..]);
            (!body.is_empty() && unpack("gzip", &body).0 == wanted).then_some(())
        });
    }
    assert!(String::from_utf8_lossy(&read).contains("content-encoding: gzip\r\n"));
}

#[test]
fn a_body_that_breaks_off_does_not_look_whole() {
    let web = Backend::raw(|mut socket| {
        let mut scratch = [0; 4096];
        let _ = socket.read(&mut scratch);
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 100\r\n\r\nhello");
    });
    let switchyard = start("compressionLevel: -1", &web);
    let mut client = Client::connect(switchyard.addr(0));
    let answer = client.try_request("GET", "web", "/", &[("Accept-Encoding", "gzip")], b"");
    assert!(answer.is_err(), "{answer:?}");
}

/// A client that does not read holds the service back: no more is taken from it than sockets and buffers hold.
#[test]
fn back_pressure_goes_through() {
    const MEGABYTES: usize = 96;
    let body = megabyte().repeat(MEGABYTES);
    let web = Backend::with(move |_| Reply { body: body.clone(), ..Reply::text("") }.header("content-type", TEXT));
    let switchyard = start("compressionLevel: 1", &web);
    let mut client = Client::connect(switchyard.addr(0));
    client.send_raw(b"GET / HTTP/1.1\r\nHost: web\r\nAccept-Encoding: gzip\r\n\r\n");
    let (mut last, mut since) = (None, Instant::now());
    let taken = eventually("nothing more is taken", Duration::from_secs(300), || {
        let now = switchyard.metric("rt/http/client/#/io.l5d.fs/web/received_bytes");
        if now != last {
            (last, since) = (now, Instant::now());
        }
        now.filter(|taken| *taken > 1e5 && since.elapsed() > Duration::from_secs(2))
    });
    assert!(taken < (MEGABYTES << 19) as f64, "{taken} bytes were taken");
}
