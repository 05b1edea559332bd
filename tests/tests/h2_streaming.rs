//! P3.3, P3.5, P3.6: nothing stalls at any window or frame, whoever is slow bounds what is kept, bytes arrive as they were
//! sent, and long trailers pass.

use e2e::h2::{
    Ask, Caller, Gate, H2_CONFIG, Knobs, Origin, Step, Sum, fields, grpc, pattern, story, text, with, within,
};
use e2e::{Switchyard, eventually};
use http::HeaderMap;
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
/// Retries and classification, which must hold nothing back.
const RETRYING: &str = "service: { responseClassifier: { kind: io.l5d.h2.grpc.alwaysRetryable }, \
                        retryBufferSize: { requestBytes: 16383, responseBytes: 16383 } }";

fn start(config: &str, origin: &Origin) -> Switchyard {
    let switchyard = Switchyard::start(config);
    switchyard.disco().set("web", &[origin.addr()]);
    switchyard
}

/// The usual config with these keys in the server and in the client of the router.
fn tuned(server: &str, client: &str) -> String {
    let config = H2_CONFIG.replace("port: @P0@", &format!("port: @P0@, {server}"));
    with(&config, &format!("client: {{ {client} }}\n  {RETRYING}"))
}

/// Linkerd 1 held streaming responses back for up to 100 ms.
#[test]
fn p3_3_messages_ping_pong_at_once() {
    story(async {
        let origin = Origin::with(|_| grpc::echo());
        let switchyard = start(&with(H2_CONFIG, RETRYING), &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let ask = Ask { authority: "web".to_owned(), ..grpc::call("a.B", "Chat", &[]) };
        let mut call = caller.open(&ask, false).await.expect("a stream");
        within("the head before any message", SOON, call.head()).await.expect("a head");
        let mut times = Vec::new();
        for i in 0..100_u8 {
            let sent = Instant::now();
            call.send(grpc::framed(&[i]), false).await;
            let piece = within("an echo", SOON, call.next()).await.expect("a piece").expect("no reset");
            times.push(sent.elapsed());
            assert_eq!(grpc::messages(&piece), [[i]]);
        }
        times.sort();
        // What is held back is held back each time; a busy machine is slow now and then.
        assert!(times[10] < Duration::from_millis(50), "nearly all took more than {:?}", times[10]);
        call.send("", true).await;
        assert!(call.next().await.is_none());
        assert_eq!(text(&call.trailers().await.expect("trailers"), "grpc-status"), "0");
    });
}

/// Up and down at once, and the sums on both sides.
async fn both_ways(caller: &Caller, bytes: usize, what: &str) {
    let body = pattern(7, bytes);
    let echo = Ask::post("web", "/echo", body.clone()).header("content-type", "application/grpc");
    let down = Ask::get("web", &format!("/{bytes}"));
    let asking = async { tokio::join!(caller.ask(&echo), caller.ask(&down)) };
    let (echoed, answer) = within(what, Duration::from_secs(120), asking).await;
    assert_eq!((Sum::of(&echoed.body), echoed.status), (Sum::of(&body), 200), "{what}");
    assert_eq!(text(&answer.trailers, "sum"), Sum::of(&answer.body).to_string(), "{what}");
    assert_eq!(answer.body.len(), bytes, "{what}");
}

fn echo_or_bytes(knobs: Knobs) -> Origin {
    Origin::tuned(knobs, |asked| match asked.uri.path().trim_start_matches('/').parse() {
        Ok(bytes) => Step::bytes(bytes),
        Err(_) => vec![grpc::head(), Step::Echo, grpc::trailers(0, "")],
    })
}

/// Windows that peers announce, and how many bytes are tried with them.
const WINDOWS: [(u32, usize); 8] = [
    (1, 300),
    (2, 500),
    (17, 5000),
    (1023, 100_000),
    (16_384, 300_000),
    (65_535, 500_000),
    (1 << 20, 3_000_000),
    (i32::MAX as u32, 3_000_000),
];

#[test]
fn p3_3_no_window_of_a_client_stalls() {
    story(async {
        let origin = echo_or_bytes(Knobs::default());
        let switchyard = start(&with(H2_CONFIG, RETRYING), &origin);
        for (window, bytes) in WINDOWS {
            let caller = Caller::tuned(switchyard.addr(0), Knobs::window(window)).await;
            both_ways(&caller, bytes, &format!("a client with a window of {window}")).await;
        }
    });
}

#[test]
fn p3_3_no_window_of_a_service_stalls() {
    story(async {
        for (window, bytes) in WINDOWS {
            let origin = echo_or_bytes(Knobs::window(window));
            let switchyard = start(&with(H2_CONFIG, RETRYING), &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            both_ways(&caller, bytes, &format!("a service with a window of {window}")).await;
        }
    });
}

#[test]
fn p3_3_no_window_of_the_router_stalls() {
    story(async {
        let origin = echo_or_bytes(Knobs::default());
        for (window, bytes) in WINDOWS {
            let keys = format!("initialStreamWindowBytes: {window}");
            let switchyard = start(&tuned(&keys, &keys), &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            both_ways(&caller, bytes, &format!("a router with windows of {window}")).await;
        }
    });
}

/// A frame that is larger than the window less what is kept for a retry hung Linkerd 1.
#[test]
fn p3_3_no_frame_size_stalls() {
    story(async {
        const LARGEST: u32 = (1 << 24) - 1;
        for (frame, window) in
            [(16_384, 16_384), (16_385, 65_535), (1 << 20, 1 << 20), (LARGEST, 1 << 25), (LARGEST, 20_000)]
        {
            let knobs = Knobs { frame: Some(frame), connection_window: Some(1 << 26), ..Knobs::window(window) };
            let origin = echo_or_bytes(knobs);
            let keys = format!("maxFrameBytes: {frame}, initialStreamWindowBytes: {window}");
            let switchyard = start(&tuned(&keys, &keys), &origin);
            let caller = Caller::tuned(switchyard.addr(0), knobs).await;
            both_ways(
                &caller,
                20_000_000.min(window as usize * 20),
                &format!("frames of {frame}, windows of {window}"),
            )
            .await;
        }
    });
}

#[test]
fn p3_3_a_slow_client_bounds_what_is_kept() {
    story(async {
        const STREAMS: usize = 20;
        let origin = Origin::with(|_| Step::bytes(16 << 20));
        let switchyard = start(H2_CONFIG, &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        caller.ask(&Ask::get("web", "/")).await;
        let before = switchyard.rss_kib();
        let mut calls = Vec::new();
        for _ in 0..STREAMS {
            let mut call = caller.open(&Ask::get("web", "/"), true).await.expect("a stream");
            within("a head", SOON, call.head()).await.expect("a head");
            calls.push(call);
        }
        // What the windows allow has come when nothing comes any more.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let grown = switchyard.rss_kib().saturating_sub(before);
        assert!(grown < 24 * 1024, "{STREAMS} streams that nobody reads hold {grown} KiB");
        assert_eq!(origin.open(), STREAMS, "the service waits");
    });
}

/// All clients of a worker share its connections to a service, and their windows.
#[test]
fn p3_3_streams_that_nobody_reads_hold_no_other_client_back() {
    story(async {
        const STREAMS: usize = 30;
        let origin = Origin::with(|_| Step::bytes(4 << 20));
        let switchyard = Switchyard::start_with(H2_CONFIG, &["--workers", "1"]);
        switchyard.disco().set("web", &[origin.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let mut unread = Vec::new();
        for _ in 0..STREAMS {
            let mut call = caller.open(&Ask::get("web", "/"), true).await.expect("a stream");
            within("a head", SOON, call.head()).await.expect("a head");
            unread.push(call);
        }
        let other = Caller::connect(switchyard.addr(0)).await;
        let answer = within("another client", Duration::from_secs(60), other.ask(&Ask::get("web", "/"))).await;
        assert_eq!(answer.body.len(), 4 << 20);
        assert_eq!(origin.open(), STREAMS, "the others still wait");
    });
}

/// Applications have one connection to the router for all services that they call.
#[test]
fn p3_3_uploads_that_stall_hold_no_other_service_back() {
    story(async {
        let stuck = Origin::with(|_| vec![Step::Hang]);
        let web = Origin::with(|_| Step::sum());
        let switchyard = start(H2_CONFIG, &web);
        switchyard.disco().set("stuck", &[stuck.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let mut calls = Vec::new();
        for _ in 0..30 {
            let mut call = caller.open(&Ask::post("stuck", "/", ""), false).await.expect("a stream");
            // More than a window: it will not all be taken.
            _ = tokio::time::timeout(Duration::from_millis(50), call.try_send(pattern(0, 1 << 20), false)).await;
            calls.push(call);
        }
        let body = pattern(0, 100_000);
        let answer = within("another service", SOON, caller.ask(&Ask::post("web", "/", body.clone()))).await;
        assert_eq!(answer.text(), Sum::of(&body).to_string());
    });
}

#[test]
fn p3_3_a_slow_service_bounds_what_is_kept() {
    story(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::with(move |_| [vec![Step::Hold(held.clone())], Step::sum()].concat());
        let switchyard = start(&with(H2_CONFIG, RETRYING), &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let before = switchyard.rss_kib();
        let mut call = caller.open(&Ask::post("web", "/", ""), false).await.expect("a stream");
        let mut sent = 0;
        // Until nothing more is taken for half a second.
        while let Ok(done) =
            tokio::time::timeout(Duration::from_millis(500), call.try_send(pattern(sent, 16_384), false)).await
        {
            done.expect("sent");
            sent += 16_384;
            assert!(sent < 8 << 20, "{sent} bytes for a service that does not read");
        }
        let grown = switchyard.rss_kib().saturating_sub(before);
        // Some of it are pages of the program that are used for the first time.
        assert!(grown < 16 * 1024, "{grown} KiB for {sent} bytes");
        gate.open();
        call.reset(8);
        eventually("the stream is over", SOON, || (origin.open() == 0).then_some(()));
    });
}

#[test]
fn p3_5_checksums_hold_under_pressure() {
    story(async {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let origin = Origin::tuned(Knobs { frame: Some(50_000), ..Knobs::window(30_000) }, |asked| {
            let slow = Duration::from_micros(asked.number as u64 % 5 * 200);
            match asked.number % 3 {
                0 => vec![Step::ReadSlowly(20_000, slow), Step::Sum],
                1 => vec![grpc::head(), Step::Echo, grpc::trailers(0, "")],
                _ => Step::sum(),
            }
        });
        let switchyard = start(&with(H2_CONFIG, RETRYING), &origin);
        let mut asking = Vec::new();
        for _ in 0..6 {
            let knobs = Knobs { frame: Some(random.u32(16_384..100_000)), ..Knobs::window(random.u32(1000..200_000)) };
            let caller = Caller::tuned(switchyard.addr(0), knobs).await;
            for _ in 0..8 {
                let body = pattern(random.usize(0..100_000), random.usize(0..600_000));
                asking.push((caller.ask_later(&Ask::post("web", "/", body.clone())), Sum::of(&body)));
            }
        }
        for (asked, sum) in asking {
            let answer =
                within("an answer", Duration::from_secs(60), asked).await.expect("no panic").expect("no reset");
            let echoed = Sum::of(&answer.body);
            assert!(echoed == sum || answer.text() == sum.to_string(), "seed {seed}: {echoed} for {sum}");
        }
        assert!(origin.seen().iter().all(|seen| seen.complete));
    });
}

/// So many bytes of trailers in fields of 8 KiB, and one field of a quarter.
fn long_trailers(bytes: usize) -> HeaderMap {
    let names: Vec<String> = (0..bytes * 3 / 4 / 8192).map(|i| format!("x-long-{i}")).collect();
    let mut trailers: HeaderMap = names.iter().map(|name| (name.parse().expect("a name"), value(8192))).collect();
    trailers.insert("grpc-status-details-bin", value(bytes / 4));
    trailers
}

fn value(bytes: usize) -> http::HeaderValue {
    pattern(3, bytes).iter().map(|byte| char::from(b'a' + byte % 26)).collect::<String>().parse().expect("a value")
}

/// The names that are in one alone, or have other values.
fn other_names<'f>(one: &'f HeaderMap, other: &'f HeaderMap) -> Vec<&'f http::HeaderName> {
    one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name)).collect()
}

/// l2#15199: the usual limit of a client is 16 KiB.
#[test]
fn p3_6_trailers_of_64_kb_and_more_pass_unchanged() {
    story(async {
        for bytes in [16_000, 64 * 1024, 100_000, 500_000] {
            let sent = long_trailers(bytes);
            let answered = sent.clone();
            let origin = Origin::with(move |_| {
                vec![Step::Read, grpc::head(), Step::Data(grpc::framed(b"x")), Step::Trailers(answered.clone())]
            });
            // Frames are 16 KiB long: more of them belong to one block than a stranger may send.
            let server = "maxHeaderListBytes: 1048576, h2Limits: { continuationFrames: 64 }";
            let switchyard = start(&tuned(server, "maxHeaderListBytes: 1048576"), &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            let mut answer = caller.ask(&Ask { trailers: sent.clone(), ..Ask::post("web", "/", "body") }).await;
            // Of the router, as in Linkerd 1.
            answer.trailers.remove("l5d-success-class");
            assert!(answer.trailers == sent, "{bytes} bytes down: {:?}", other_names(&answer.trailers, &sent));
            let up = origin.last().trailers;
            assert!(up == sent, "{bytes} bytes up: {:?}", other_names(&up, &sent));
        }
    });
}

#[test]
fn p3_6_no_key_is_needed_for_long_trailers_of_a_service() {
    story(async {
        let sent = long_trailers(100_000);
        let answered = sent.clone();
        let origin = Origin::with(move |_| vec![grpc::head(), Step::Trailers(answered.clone())]);
        let switchyard = start(H2_CONFIG, &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let trailers = caller.ask(&Ask::get("web", "/")).await.trailers;
        assert!(trailers == sent, "{:?}", other_names(&trailers, &sent));
    });
}

/// Linkerd 1 broke the stream at an interim response.
#[test]
fn interim_responses_are_passed_or_dropped_and_harm_nothing() {
    story(async {
        let origin = Origin::with(|_| {
            let hint = Step::Interim(103, fields(&[("link", "</a.css>; rel=preload")]));
            [vec![hint.clone(), hint], Step::text("done")].concat()
        });
        let switchyard = start(H2_CONFIG, &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        for _ in 0..3 {
            let mut call = caller.open(&Ask::get("web", "/"), true).await.expect("a stream");
            let mut interims = 0;
            while let Some(interim) = within("a head", SOON, call.interim()).await {
                assert_eq!(interim.expect("no reset").status(), 103);
                interims += 1;
            }
            assert!(interims == 0 || interims == 2, "{interims} of two");
            let answer = within("an answer", SOON, call.answer()).await.expect("an answer");
            assert_eq!((answer.status, answer.text().as_str()), (200, "done"));
        }
    });
}

#[test]
fn a_body_may_be_awaited_with_100_continue() {
    story(async {
        let origin = Origin::with(|_| [vec![Step::Interim(100, HeaderMap::new())], Step::sum()].concat());
        let switchyard = start(H2_CONFIG, &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let ask = Ask::post("web", "/", "body").header("expect", "100-continue");
        let answer = within("an answer", SOON, caller.ask(&ask)).await;
        assert_eq!((answer.status, answer.text()), (200, Sum::of(b"body").to_string()));
    });
}
