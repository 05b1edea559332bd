//! The HTTP/2 harness proves itself: what its client asks of its server without a router in between is what stories may
//! rely on.

use e2e::h2::{
    Ask, Caller, Frame, Gate, Knobs, Origin, RawOrigin, Relay, Step, Sum, Wire, fields, grpc, kind, pattern, story,
    text, within,
};
use e2e::{Issued, eventually};
use http::HeaderMap;
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn bodies_and_trailers_go_both_ways() {
    story(async {
        let origin = Origin::with(|_| Step::echo());
        let caller = Caller::connect(origin.addr()).await;
        let body = pattern(0, 300_000);
        let answer = caller.ask(&Ask::post("web", "/a", body.clone()).trailer("x-after", "yes")).await;
        assert_eq!((answer.status, answer.body == body, text(&answer.trailers, "x-after")), (200, true, "yes"));
        let seen = origin.last();
        assert_eq!((seen.sum, seen.complete), (Sum::of(&body), true));
        assert_eq!((seen.asked.uri.authority().map(|it| it.as_str()), seen.asked.uri.path()), (Some("web"), "/a"));
    });
}

#[test]
fn what_was_read_is_summed_and_what_was_sent_can_be() {
    story(async {
        for (window, bytes) in [(65_535, 200_000), (1, 1000), (17, 10_000)] {
            let origin = Origin::tuned(Knobs::window(window), move |asked| match asked.uri.path() {
                "/sum" => Step::sum(),
                "/slowly" => vec![Step::ReadSlowly(10_000, Duration::from_millis(1)), Step::Sum],
                _ => Step::bytes(bytes),
            });
            let caller = Caller::tuned(origin.addr(), Knobs::window(window)).await;
            let answer = caller.ask(&Ask::get("web", "/bytes")).await;
            assert_eq!(text(&answer.trailers, "sum"), Sum::of(&answer.body).to_string());
            assert_eq!(answer.body, pattern(0, bytes));
            for path in ["/sum", "/slowly"] {
                let answer = caller.ask(&Ask::post("web", path, answer.body.clone())).await;
                assert_eq!(answer.text(), Sum::of(&pattern(0, bytes)).to_string(), "{path} {window}");
            }
        }
    });
}

#[test]
fn messages_ping_pong() {
    story(async {
        let origin = Origin::with(|_| grpc::echo());
        let caller = Caller::connect(origin.addr()).await;
        let mut call = caller.open(&grpc::call("a.B", "C", &[]), false).await.expect("a stream");
        assert_eq!(call.head().await.expect("a head").status(), 200);
        for i in 0..100_u8 {
            call.send(grpc::framed(&[i]), false).await;
            let piece = within("an echo", SOON, call.next()).await.expect("a piece").expect("no reset");
            assert_eq!(grpc::messages(&piece), [[i]]);
        }
        call.send("", true).await;
        assert!(call.next().await.is_none());
        assert_eq!(text(&call.trailers().await.expect("trailers"), "grpc-status"), "0");
    });
}

#[test]
fn resets_are_seen_on_both_sides() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path() {
            "/hang" => vec![Step::Hang],
            "/half" => vec![Step::Head(200, HeaderMap::new()), Step::Pattern(1000), Step::Hang],
            "/reset" => vec![Step::Reset(7)],
            _ => vec![
                Step::Head(200, HeaderMap::new()),
                Step::Pattern(1000),
                Step::Wait(Duration::from_millis(5)),
                Step::Reset(11),
            ],
        });
        let caller = Caller::connect(origin.addr()).await;
        for path in ["/hang", "/half"] {
            let before = origin.cancels().len();
            let mut call = caller.open(&Ask::get("web", path), true).await.expect("a stream");
            eventually("the stream is open", SOON, || (origin.open() == 1).then_some(()));
            call.reset(8);
            eventually("the cancel is known", SOON, || (origin.cancels().len() == before + 1).then_some(()));
            assert_eq!(origin.cancels()[before].code, 8);
            eventually("the stream is closed", SOON, || (origin.open() == 0).then_some(()));
        }
        for (path, code) in [("/reset", 7), ("/later", 11)] {
            let error = caller.try_ask(&Ask::get("web", path)).await.expect_err("a reset");
            assert_eq!(error.reason().map(u32::from), Some(code), "{path}");
        }
    });
}

#[test]
fn few_streams_at_once_and_a_gate() {
    story(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::tuned(Knobs { streams: Some(3), ..Knobs::default() }, move |_| {
            vec![Step::Hold(held.clone()), Step::Only(204, HeaderMap::new())]
        });
        let caller = Caller::connect(origin.addr()).await;
        let asking: Vec<_> = (0..3).map(|_| caller.ask_later(&Ask::get("web", "/"))).collect();
        eventually("all are open", SOON, || (origin.open() == 3).then_some(()));
        gate.open();
        for asked in asking {
            assert_eq!(asked.await.expect("no panic").expect("an answer").status, 204);
        }
        assert_eq!((origin.most_open(), origin.connections()), (3, 1));
    });
}

#[test]
fn a_server_goes_away_gracefully_or_not() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path() {
            "/retire" => vec![Step::Retire, Step::Wait(Duration::from_millis(20)), Step::Only(204, HeaderMap::new())],
            _ => vec![Step::Abort(11), Step::Hang],
        });
        let caller = Caller::connect(origin.addr()).await;
        assert_eq!(caller.ask(&Ask::get("web", "/retire")).await.status, 204);
        assert!(within("the end", SOON, caller.closed()).await.is_ok());
        let caller = Caller::connect(origin.addr()).await;
        assert!(caller.try_ask(&Ask::get("web", "/abort")).await.is_err());
        let error = within("the end", SOON, caller.closed()).await.expect_err("no good end");
        assert_eq!((error.is_go_away(), error.reason().map(u32::from)), (true, Some(11)));
        let caller = Caller::connect(origin.addr()).await;
        origin.retire();
        assert!(within("the end", SOON, caller.closed()).await.is_ok());
    });
}

#[test]
fn interims_come_before_the_answer() {
    story(async {
        let hint = fields(&[("link", "</a.css>; rel=preload")]);
        let origin = Origin::with(move |_| [vec![Step::Interim(103, hint.clone())], Step::text("done")].concat());
        let caller = Caller::connect(origin.addr()).await;
        let mut call = caller.open(&Ask::get("web", "/"), true).await.expect("a stream");
        let interim = call.interim().await.expect("one").expect("no reset");
        assert_eq!((interim.status().as_u16(), interim.headers().len()), (103, 1));
        assert_eq!(call.answer().await.expect("an answer").text(), "done");
    });
}

#[test]
fn tls_agrees_on_h2() {
    story(async {
        let Issued { ca, files, .. } = &Issued::to("web.example");
        let origin = Origin::tls(files, |_| Step::text("secret"));
        let caller = Caller::tls(origin.addr(), "web.example", ca, &["h2"]).await.expect("a connection");
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "secret");
        let refused = Caller::tls(origin.addr(), "web.example", ca, &["http/1.1"]).await;
        assert!(refused.is_err(), "the origin speaks h2 alone");
    });
}

#[test]
fn a_relay_becomes_a_hole() {
    story(async {
        let origin = Origin::text("hello");
        let relay = Relay::to(origin.addr());
        let caller = Caller::connect(relay.addr()).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
        relay.swallow();
        let silence = tokio::time::timeout(Duration::from_millis(200), caller.ask(&Ask::get("web", "/"))).await;
        assert!(silence.is_err() && !caller.is_closed());
        let caller = Caller::connect(relay.addr()).await;
        assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "hello");
    });
}

const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

#[test]
fn frames_by_hand_are_understood_as_a_client_and_as_a_server() {
    story(async {
        let origin = Origin::text("hello");
        let mut wire = Wire::client(origin.addr(), &[(1, 0)]).await;
        wire.send(&Frame::headers(1, GET, true)).await.expect("sent");
        let head = wire.until(SOON, |frame| frame.kind == kind::HEADERS).await.expect("a head");
        assert_eq!((head.stream, head.status()), (1, Some(200)));
        let data = wire.until(SOON, |frame| frame.kind == kind::DATA).await.expect("a body");
        assert_eq!(data.payload, b"hello");
        let raw = RawOrigin::with(|mut wire, _| async move {
            while let Some(frame) = wire.next().await {
                if frame.kind == kind::HEADERS {
                    let head = Frame::headers(frame.stream, &[(":status", "200")], false);
                    wire.send_all(&[head, Frame::data(frame.stream, b"raw", true)]).await.expect("sent");
                }
            }
        });
        let caller = Caller::connect(raw.addr()).await;
        for _ in 0..3 {
            assert_eq!(caller.ask(&Ask::get("web", "/")).await.text(), "raw");
        }
        assert_eq!(raw.connections(), 1);
    });
}

#[test]
fn statuses_of_grpc_are_found_in_trailers_and_heads() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path() {
            "/a.B/Only" => grpc::only(14, "away"),
            _ => grpc::reply(&[b"one", b"two"]),
        });
        let caller = Caller::connect(origin.addr()).await;
        let answer = caller.ask(&grpc::call("a.B", "Only", &[b"?"])).await;
        assert_eq!((grpc::status(&answer), answer.field("grpc-message")), (Some(14), "away"));
        let answer = caller.ask(&grpc::call("a.B", "Two", &[b"?"])).await;
        assert_eq!(
            (grpc::status(&answer), grpc::messages(&answer.body)),
            (Some(0), vec![b"one".to_vec(), b"two".to_vec()])
        );
    });
}
