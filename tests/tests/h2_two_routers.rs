//! P3.1: what holds for one router holds for two in series, the usual pair of hosts: calls of all kinds, cancels, resets,
//! deadlines, trailers, and a change of protocol in between.

use e2e::h2::{Ask, Caller, Origin, Step, Sum, fields, grpc, pattern, story, text, within};
use e2e::{Switchyard, eventually};
use http::HeaderMap;
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const SERVICE: &str = "pkg.Greeter";

/// The outgoing router on P0 sends to the incoming one on P1, in the protocol `@BETWEEN@`.
const PAIR: &str = r#"
admin: { port: @ADMIN@ }
namers:
- kind: io.l5d.fs
  rootDir: @DISCO@
routers:
- protocol: h2
  label: outgoing
  experimental: true
  identifier: { kind: io.l5d.header.path, segments: 1 }
  servers: [{ port: @P0@ }]
  client: { protocol: @BETWEEN@ }
  service: { responseClassifier: { kind: io.l5d.h2.grpc.neverRetryable } }
  dtab: |
    /svc => /$/inet/127.0.0.1/@P1@ ;
- protocol: h2
  label: incoming
  experimental: true
  identifier: { kind: io.l5d.header.path, segments: 1 }
  servers: [{ port: @P1@, protocol: detect }]
  service: { responseClassifier: { kind: io.l5d.h2.grpc.neverRetryable } }
  dtab: |
    /svc => /#/io.l5d.fs ;
"#;

fn start(between: &str, origin: &Origin) -> Switchyard {
    let switchyard = Switchyard::start(&PAIR.replace("@BETWEEN@", between));
    switchyard.disco().set(SERVICE, &[origin.addr()]);
    switchyard
}

#[test]
fn p3_1_calls_of_all_kinds_pass_two_routers() {
    story(async {
        let long = pattern(0, 90_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect::<String>();
        let details = long.clone();
        let origin = Origin::with(move |asked| match asked.uri.path().rsplit('/').next() {
            Some("Unary") => grpc::reply(&[b"hello"]),
            Some("Server") => grpc::reply(&[b"one", b"two", b"three"]),
            Some("Only") => grpc::only(5, "no such thing"),
            Some("Details") => {
                vec![Step::Read, grpc::head(), Step::Trailers(fields(&[("grpc-status", "9"), ("x-details", &details)]))]
            }
            _ => grpc::echo(),
        });
        for between in ["h2", "http"] {
            let switchyard = start(between, &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            for (method, status, wanted) in [
                ("Unary", 0, &[&b"hello"[..]][..]),
                ("Server", 0, &[b"one", b"two", b"three"]),
                ("Echo", 0, &[b"a", b"b"]),
                ("Only", 5, &[]),
            ] {
                let answer = within(method, SOON, caller.ask(&grpc::call(SERVICE, method, &[b"a", b"b"]))).await;
                assert_eq!(grpc::status(&answer), Some(status), "{between} {method}: {answer:?}");
                assert_eq!(grpc::messages(&answer.body), wanted, "{between} {method}");
            }
            if between == "h2" {
                let answer = within("trailers", SOON, caller.ask(&grpc::call(SERVICE, "Details", &[]))).await;
                assert_eq!((grpc::status(&answer), text(&answer.trailers, "x-details") == long), (Some(9), true));
            }
            let body = pattern(0, 3_000_000);
            let echo = Ask::post("web", &format!("/{SERVICE}/Echo"), body.clone());
            let answer = within("an echo", Duration::from_secs(60), caller.ask(&echo)).await;
            assert_eq!(Sum::of(&answer.body), Sum::of(&body), "{between}");
        }
    });
}

#[test]
fn p3_1_messages_ping_pong_through_two_routers() {
    story(async {
        let origin = Origin::with(|_| grpc::echo());
        for between in ["h2", "http"] {
            let switchyard = start(between, &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            let mut call = caller.open(&grpc::call(SERVICE, "Chat", &[]), false).await.expect("a stream");
            call.send(grpc::framed(b"first"), false).await;
            within("a head", SOON, call.head()).await.expect("a head");
            let mut times = Vec::new();
            for i in 0..50_u8 {
                let at = Instant::now();
                let piece = within("an echo", SOON, call.next()).await.expect("a piece").expect("no reset");
                assert_eq!(grpc::messages(&piece).len(), 1, "{between}: one at a time");
                times.push(at.elapsed());
                call.send(grpc::framed(&[i]), false).await;
            }
            times.sort();
            // What is held back for 100 ms at a router is held back each time; a busy machine is slow now and then.
            assert!(times[5] < Duration::from_millis(90), "{between}: nearly all took more than {:?}", times[5]);
        }
    });
}

#[test]
fn p3_4_cancels_and_resets_pass_two_routers() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path().rsplit('/').next() {
            Some("Hang") => vec![Step::Hang],
            Some("Reset") => vec![Step::Read, Step::Reset(11)],
            _ => vec![
                Step::Head(200, HeaderMap::new()),
                Step::Pattern(10),
                Step::Wait(Duration::from_millis(20)),
                Step::Reset(2),
            ],
        });
        let switchyard = start("h2", &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let mut times = Vec::new();
        for at in 0..20 {
            let mut call = caller.open(&Ask::get("web", &format!("/{SERVICE}/Hang")), true).await.expect("a stream");
            eventually("it is open", SOON, || (origin.open() == 1).then_some(()));
            let cancelled = Instant::now();
            call.reset(8);
            eventually("it is cancelled", SOON, || (origin.cancels().len() > at).then_some(()));
            assert_eq!(origin.cancels()[at].code, 8);
            times.push(origin.cancels()[at].at - cancelled);
            eventually("it is over", SOON, || (origin.open() == 0).then_some(()));
        }
        times.sort();
        // Half of them: a busy machine is slow now and then.
        assert!(times[10] < Duration::from_millis(500), "{times:?}");
        for (path, code) in [("Reset", 11), ("Late", 2)] {
            let ask = Ask::get("web", &format!("/{SERVICE}/{path}"));
            let error = within(path, SOON, caller.try_ask(&ask)).await.expect_err("a reset");
            assert_eq!(error.reason().map(u32::from), Some(code), "{path}");
        }
    });
}

#[test]
fn a_deadline_shrinks_at_each_router() {
    story(async {
        let origin = Origin::with(|_| vec![Step::Hang]);
        for between in ["h2", "http"] {
            let switchyard = start(between, &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            let asked = grpc::call(SERVICE, "Hang", &[b"a"]).header("grpc-timeout", "3000m");
            let answer = within("an answer", SOON, caller.ask(&asked)).await;
            assert_eq!(grpc::status(&answer), Some(4), "{between}: {answer:?}");
            eventually("the service is rid of it", SOON, || (origin.open() == 0).then_some(()));
            let passed = origin.last().asked.headers;
            assert!(!text(&passed, "grpc-timeout").is_empty(), "{between}: {passed:?}");
            assert_ne!(text(&passed, "grpc-timeout"), "3000m", "{between}: it is less");
        }
    });
}

/// A dtab of one call is known to both, over HTTP/2 as over HTTP/1.
#[test]
fn a_dtab_of_one_call_reaches_the_second_router() {
    story(async {
        let (old, new) = (Origin::with(|_| grpc::reply(&[b"old"])), Origin::with(|_| grpc::reply(&[b"new"])));
        for between in ["h2", "http"] {
            let switchyard = start(between, &old);
            switchyard.disco().set("next", &[new.addr()]);
            let caller = Caller::connect(switchyard.addr(0)).await;
            let hello = grpc::call(SERVICE, "SayHello", &[b"world"]);
            // The first router has no such namer path; the second one knows it.
            let rerouted = hello.clone().header("l5d-dtab", &format!("/#/io.l5d.fs/{SERVICE} => /#/io.l5d.fs/next ;"));
            for (asked, wanted) in [(&hello, b"old"), (&rerouted, b"new"), (&hello, b"old")] {
                let answer = within("an answer", SOON, caller.ask(asked)).await;
                assert_eq!(grpc::messages(&answer.body), [wanted.to_vec()], "{between}: {answer:?}");
            }
        }
    });
}
