//! Issue 5, F36: HTTP/2 by prior knowledge and by ALPN, both protocols on one port, and messages that change the protocol
//! on their way, with bodies that stream and with trailers.

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::h2::{
    Ask, Caller, Frame, H2_CONFIG, Origin, Step, Sum, Wire, fields, kind, pattern, story, text, with, within,
};
use e2e::{Backend, Client, FS_CONFIG, Https, Issued, Offer, Received, Reply, Switchyard};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

/// One h2 router whose listener tells the protocols apart.
fn detecting() -> String {
    H2_CONFIG.replace("port: @P0@", "port: @P0@, protocol: detect")
}

fn start(config: &str, addr: std::net::SocketAddr) -> Switchyard {
    let switchyard = Switchyard::start(config);
    switchyard.disco().set("web", &[addr]);
    switchyard
}

#[test]
fn h2c_by_prior_knowledge_is_passed_on_whole() {
    story(async {
        let origin = Origin::with(|_| Step::echo());
        let switchyard = start(H2_CONFIG, origin.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        let body = pattern(0, 200_000);
        let ask = Ask::post("web", "/a/b?c=d", body.clone()).header("x-one", "1").trailer("x-after", "yes");
        let answer = caller.ask(&ask).await;
        assert_eq!((answer.status, Sum::of(&answer.body)), (200, Sum::of(&body)));
        assert_eq!(text(&answer.trailers, "x-after"), "yes");
        let seen = origin.last();
        assert_eq!((seen.asked.method.as_str(), seen.asked.uri.to_string()), ("POST", "http://web/a/b?c=d".to_owned()));
        assert_eq!(text(&seen.asked.headers, "x-one"), "1");
        assert_eq!(text(&seen.trailers, "x-after"), "yes");
        assert!(!text(&seen.asked.headers, "l5d-dst-service").is_empty(), "{:?}", seen.asked.headers);
    });
}

#[test]
fn tls_on_both_sides_agrees_on_h2_by_alpn() {
    story(async {
        let Issued { ca, files, .. } = &Issued::to("web.example");
        let origin = Origin::tls(files, |_| Step::echo());
        let (cert, key) = (files.cert.display(), files.key.display());
        let config =
            H2_CONFIG.replace("port: @P0@", &format!("port: @P0@, tls: {{ certPath: {cert}, keyPath: {key} }}"));
        let tls = format!("client: {{ tls: {{ commonName: web.example, trustCerts: [{}] }} }}", ca.display());
        let switchyard = start(&with(&config, &tls), origin.addr());
        for alpn in [&["h2"][..], &["h2", "http/1.1"], &["http/1.1", "h2"]] {
            let caller = Caller::tls(switchyard.addr(0), "web.example", ca, alpn).await.expect("h2");
            let answer = caller.ask(&Ask::post("web", "/", "secret").trailer("x-after", "yes")).await;
            assert_eq!((answer.text().as_str(), text(&answer.trailers, "x-after")), ("secret", "yes"));
        }
        let only = Offer { alpn: &["http/1.1"], ..Offer::default() };
        let refused = Https::offering(switchyard.addr(0), "web.example", ca, None, only);
        assert!(refused.is_err(), "a client that speaks HTTP/1 alone learns it in the handshake");
    });
}

#[test]
fn f36_alpn_chooses_on_a_listener_that_detects() {
    story(async {
        let Issued { ca, files, .. } = &Issued::to("web.example");
        let origin = Origin::text("hello");
        let (cert, key) = (files.cert.display(), files.key.display());
        let tls = format!("port: @P0@, protocol: detect, tls: {{ certPath: {cert}, keyPath: {key} }}");
        let switchyard = start(&H2_CONFIG.replace("port: @P0@", &tls), origin.addr());
        let caller = Caller::tls(switchyard.addr(0), "web.example", ca, &["h2", "http/1.1"]).await.expect("h2");
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        for (alpn, agreed) in [(&["http/1.1"][..], Some("http/1.1")), (&[], None)] {
            let offer = Offer { alpn, ..Offer::default() };
            let https = Https::offering(switchyard.addr(0), "web.example", ca, None, offer).expect("a handshake");
            assert_eq!(https.alpn().as_deref(), agreed);
            assert!(https.get("web", "/").expect("an answer").contains("\r\nhello\r\n"), "in a chunk");
        }
    });
}

#[test]
fn f36_one_port_takes_both_protocols() {
    story(async {
        let origin = Origin::text("hello");
        let switchyard = start(&detecting(), origin.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        let mut client = Client::connect(switchyard.addr(0));
        for _ in 0..3 {
            assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
            let response = client.get("web", "/");
            assert_eq!(
                (response.status, response.text().as_str(), response.version.as_str()),
                (200, "hello", "HTTP/1.1")
            );
        }
        assert_eq!(origin.count(), 6);
    });
}

const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

/// Linkerd 1 looked at the first read alone.
#[test]
fn f36_the_preface_may_come_byte_by_byte() {
    story(async {
        let origin = Origin::text("hello");
        for config in [H2_CONFIG.to_owned(), detecting()] {
            let switchyard = start(&config, origin.addr());
            let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &Frame::settings(&[]).bytes()].concat();
            for cut in [1, 3, 23] {
                let mut wire = Wire::silent(switchyard.addr(0)).await;
                for piece in preface.chunks(cut) {
                    wire.raw(piece).await.expect("sent");
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                wire.send(&Frame::headers(1, GET, true)).await.expect("sent");
                let head = wire.until(SOON, |frame| frame.kind == kind::HEADERS).await.expect("an answer");
                assert_eq!(head.status(), Some(200), "in pieces of {cut}");
            }
        }
    });
}

/// What HTTP/1 says that begins as HTTP/2 does, or nothing at all.
#[test]
fn f36_a_preface_that_is_none_is_no_http2() {
    story(async {
        let origin = Origin::text("hello");
        let switchyard = start(&detecting(), origin.addr());
        for text in [&b"PRI / HTTP/1.1\r\nhost: web\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n"] {
            let mut wire = Wire::silent(switchyard.addr(0)).await;
            wire.raw(text).await.expect("sent");
            let said = within("an answer", SOON, wire.some(4096)).await;
            let said = String::from_utf8_lossy(&said).into_owned();
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 "), "{said:?}");
            assert!(!said.starts_with("HTTP/1.1 5"), "{said:?}");
        }
        assert_eq!(Client::connect(switchyard.addr(0)).get("web", "/").text(), "hello");
    });
}

#[test]
fn an_http_listener_refuses_h2c_and_says_so() {
    story(async {
        let web = Backend::text("hello");
        let switchyard = start(FS_CONFIG, web.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        let refused = within("a refusal", SOON, caller.try_ask(&Ask::get("web", "/"))).await;
        assert!(refused.is_err(), "{refused:?}");
        let mut wire = Wire::client(switchyard.addr(0), &[]).await;
        let mut said = Vec::new();
        loop {
            let piece = within("the end of the connection", SOON, wire.some(4096)).await;
            if piece.is_empty() {
                break;
            }
            said.extend_from_slice(&piece);
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("http2"), "the reason is told: {said:?}");
        assert_eq!(web.count(), 0);
    });
}

#[test]
fn an_h2_listener_refuses_http1_and_says_so() {
    story(async {
        let origin = Origin::text("hello");
        let switchyard = start(H2_CONFIG, origin.addr());
        let mut client = Client::connect(switchyard.addr(0));
        let response = client.get("web", "/");
        assert!((400..600).contains(&response.status), "{response:?}");
        assert!(response.text().contains("HTTP/2"), "{}", response.text());
        assert!(client.closed_by_peer());
        assert_eq!(origin.count(), 0);
    });
}

/// Reads until the text was seen; all that came.
fn read_until(socket: &mut TcpStream, wanted: &str) -> String {
    let mut came = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&came).contains(wanted) {
        let n = socket.read(&mut buffer).unwrap_or_else(|error| panic!("{error}: no {wanted:?} in {came:?}"));
        assert!(n > 0, "no {wanted:?} in {:?}", String::from_utf8_lossy(&came));
        came.extend_from_slice(&buffer[..n]);
    }
    String::from_utf8_lossy(&came).into_owned()
}

#[test]
fn http1_becomes_http2_and_streams_both_ways_with_trailers() {
    story(async {
        let origin = Origin::with(|_| Step::echo());
        let switchyard = start(&with(FS_CONFIG, "client: { protocol: h2 }"), origin.addr());
        let mut socket = TcpStream::connect(switchyard.addr(0)).expect("a connection");
        socket.set_read_timeout(Some(SOON)).expect("a limit");
        let head = "POST /a HTTP/1.1\r\nhost: web\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\n\
                    trailer: x-after\r\n\r\n";
        socket.write_all(format!("{head}5\r\nfirst\r\n").as_bytes()).expect("sent");
        // The first piece comes back while the request is open.
        let came = read_until(&mut socket, "first");
        assert!(came.starts_with("HTTP/1.1 200 "), "{came}");
        socket.write_all(b"6\r\nsecond\r\n").expect("sent");
        read_until(&mut socket, "second");
        socket.write_all(b"0\r\nx-after: yes\r\n\r\n").expect("sent");
        let end = read_until(&mut socket, "0\r\n");
        let end = if end.ends_with("\r\n\r\n") { end } else { end + &read_until(&mut socket, "\r\n\r\n") };
        assert!(end.to_ascii_lowercase().contains("x-after: yes"), "{end:?}");
        let seen = origin.last();
        assert_eq!((seen.sum, text(&seen.trailers, "x-after")), (Sum::of(b"firstsecond"), "yes"));
        assert_eq!(seen.asked.uri.authority().map(|it| it.as_str()), Some("web"));
        for hop in ["connection", "transfer-encoding", "host", "keep-alive", "upgrade"] {
            assert!(!seen.asked.headers.contains_key(hop), "{hop}: {:?}", seen.asked.headers);
        }
    });
}

/// Echoes chunks as they come, then the trailers, as a service of HTTP/1.
fn chunk_by_chunk(mut socket: TcpStream) {
    let mut reader = BufReader::new(socket.try_clone().expect("a clone"));
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        reader.read_line(line).expect("a line")
    };
    while next(&mut line) > 2 {}
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-after\r\n\r\n";
    socket.write_all(head.as_bytes()).expect("the router reads");
    // Sizes, pieces and trailers are lines all: what is echoed has no line ends in it.
    while next(&mut line) > 0 {
        socket.write_all(line.as_bytes()).expect("the router reads");
    }
}

#[test]
fn http2_becomes_http1_and_streams_both_ways_with_trailers() {
    story(async {
        let web = Backend::raw(chunk_by_chunk);
        let switchyard = start(&with(H2_CONFIG, "client: { protocol: http }"), web.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        let ask = Ask::post("web", "/a", "").header("te", "trailers");
        let mut call = caller.open(&ask, false).await.expect("a stream");
        call.send("first", false).await;
        assert_eq!(within("a head", SOON, call.head()).await.expect("a head").status(), 200);
        let piece = within("the first piece", SOON, call.next()).await.expect("a piece").expect("no reset");
        assert_eq!(piece, "first", "while the request is open");
        call.send("second", false).await;
        let piece = within("the second piece", SOON, call.next()).await.expect("a piece").expect("no reset");
        assert_eq!(piece, "second");
        call.send_trailers(fields(&[("x-after", "yes")]));
        assert!(within("the end", SOON, call.next()).await.is_none());
        let trailers = within("trailers", SOON, call.trailers()).await.expect("trailers");
        assert_eq!(text(&trailers, "x-after"), "yes");
    });
}

#[test]
fn a_request_of_http2_is_a_good_one_of_http1() {
    story(async {
        let web = Backend::with(|received: &Received| match received.target.as_str() {
            "/empty" => Reply::status(204),
            "/same" => Reply::status(304),
            _ => Reply::text("hello").header("x-answer", "Yes").header("keep-alive", "timeout=5"),
        });
        let switchyard = start(&with(H2_CONFIG, "client: { protocol: http }"), web.addr());
        let caller = Caller::connect(switchyard.addr(0)).await;
        let ask = Ask::get("web", "/a?b=c").header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers");
        let answer = caller.ask(&ask).await;
        assert_eq!((answer.status, answer.text().as_str(), text(&answer.headers, "x-answer")), (200, "hello", "Yes"));
        assert_eq!(text(&answer.headers, "content-length"), "5");
        for hop in ["connection", "keep-alive", "transfer-encoding"] {
            assert!(!answer.headers.contains_key(hop), "{hop}: {:?}", answer.headers);
        }
        let received = web.last();
        assert_eq!(
            (received.method.as_str(), received.target.as_str(), received.version.as_str()),
            ("GET", "/a?b=c", "HTTP/1.1")
        );
        assert_eq!(received.all("host"), ["web"]);
        assert_eq!(received.all("cookie"), ["a=1; b=2"], "crumbs are joined: RFC 9113, 8.2.3");
        assert!(received.headers.iter().all(|(name, _)| !name.starts_with(':')), "{:?}", received.headers);
        for (path, status) in [("/empty", 204), ("/same", 304)] {
            let answer = caller.ask(&Ask::get("web", path)).await;
            assert_eq!((answer.status, answer.body.len()), (status, 0));
        }
        let answer = caller.ask(&Ask { method: http::Method::HEAD, ..Ask::get("web", "/") }).await;
        assert_eq!((answer.status, answer.body.len(), text(&answer.headers, "content-length")), (200, 0, "5"));
        let answer = caller.ask(&Ask::post("web", "/", "body")).await;
        assert_eq!((answer.status, web.last().body), (200, b"body".to_vec()));
    });
}

#[test]
fn an_answer_of_http2_is_a_good_one_of_http1() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path() {
            "/empty" => Step::status(204),
            "/long" => Step::bytes(300_000),
            _ => vec![
                Step::Head(200, fields(&[("content-length", "5"), ("x-answer", "Yes")])),
                Step::Data("hello".into()),
            ],
        });
        let switchyard = start(&with(FS_CONFIG, "client: { protocol: h2 }"), origin.addr());
        let mut client = Client::connect(switchyard.addr(0));
        let response = client.get("web", "/");
        assert_eq!(
            (response.status, response.text().as_str(), response.header("x-answer")),
            (200, "hello", Some("Yes"))
        );
        assert_eq!(response.header("content-length"), Some("5"));
        assert_eq!((client.get("web", "/empty").status, origin.count()), (204, 2));
        let response = client.request("GET", "web", "/long", &[("te", "trailers")], b"");
        assert_eq!((response.body.len(), Sum::of(&response.body)), (300_000, Sum::of(&pattern(0, 300_000))));
        assert_eq!(client.get("web", "/").text(), "hello", "the connection is kept");
    });
}

/// `same`: a service is asked in the protocol that its client speaks.
#[test]
fn the_protocol_of_the_client_may_be_kept() {
    story(async {
        let (origin, web) = (Origin::text("by h2"), Backend::text("by http"));
        let config = with(&detecting(), "client: { protocol: same }");
        let switchyard = Switchyard::start(&config);
        switchyard.disco().set("two", &[origin.addr()]);
        switchyard.disco().set("one", &[web.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        assert_eq!(caller.ask(&Ask::get("two", "/")).await.text(), "by h2");
        assert_eq!(Client::connect(switchyard.addr(0)).get("one", "/").text(), "by http");
    });
}
