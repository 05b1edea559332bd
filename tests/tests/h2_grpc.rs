//! Issue 5, item 5: gRPC as its callers know it: all four kinds of calls, statuses that count, deadlines, failures of the
//! router as statuses, and one call rerouted by a header.

#![allow(clippy::panic, reason = "a story that cannot go on has failed")]

use e2e::h2::{
    Answer, Ask, Caller, GRPC_CONFIG, Gate, H2_CONFIG, Origin, Script, Step, fields, grpc, story, text, with, within,
};
use e2e::{Switchyard, eventually, free_ports};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const SERVICE: &str = "pkg.Greeter";
const CLASSIFIED: &str = "service: { responseClassifier: { kind: io.l5d.h2.grpc.neverRetryable } }";

fn start(config: &str, origin: &Origin) -> Switchyard {
    let switchyard = Switchyard::start(config);
    switchyard.disco().set(SERVICE, &[origin.addr()]);
    switchyard
}

type Answering = fn() -> Script;

async fn ask(switchyard: &Switchyard, ask: &Ask) -> Answer {
    let caller = Caller::connect(switchyard.addr(0)).await;
    within("an answer", SOON, caller.ask(ask)).await
}

fn hello() -> Ask {
    grpc::call(SERVICE, "SayHello", &[b"world"])
}

#[test]
fn all_four_kinds_of_calls_work() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path().rsplit('/').next() {
            Some("Unary") => grpc::reply(&[b"hello"]),
            Some("Server") => grpc::reply(&[b"one", b"two", b"three"]),
            Some("Client") => {
                [vec![Step::Read, grpc::head()], vec![Step::Data(grpc::framed(b"all")), grpc::trailers(0, "")]].concat()
            }
            _ => grpc::echo(),
        });
        let switchyard = start(GRPC_CONFIG, &origin);
        for (method, sent, wanted) in [
            ("Unary", &[&b"a"[..]][..], &[&b"hello"[..]][..]),
            ("Server", &[b"a"], &[b"one", b"two", b"three"]),
            ("Client", &[b"a", b"b", b"c"], &[b"all"]),
            ("Both", &[b"a", b"b", b"c"], &[b"a", b"b", b"c"]),
            ("Unary", &[b""], &[b"hello"]),
        ] {
            let answer = ask(&switchyard, &grpc::call(SERVICE, method, sent)).await;
            assert_eq!(
                (grpc::status(&answer), grpc::messages(&answer.body)),
                (Some(0), wanted.iter().map(|it| it.to_vec()).collect()),
                "{method}"
            );
            assert_eq!(text(&answer.headers, "content-type"), "application/grpc");
        }
        let seen = origin.last();
        assert_eq!(seen.asked.uri.path(), format!("/{SERVICE}/Unary"));
        assert_eq!(text(&seen.asked.headers, "te"), "trailers", "a gRPC server asks for it");
    });
}

#[test]
fn statuses_count_as_success_and_failure() {
    // What the service answers, and whether it is a success.
    let cases: [(&str, Answering, bool); 7] = [
        ("0 in trailers", || grpc::reply(&[b"hello"]), true),
        ("0 alone", || grpc::only(0, ""), true),
        ("13 in trailers", || vec![grpc::head(), grpc::trailers(13, "broken")], false),
        ("13 after a message", || vec![grpc::head(), Step::Data(grpc::framed(b"x")), grpc::trailers(13, "")], false),
        ("5 alone", || grpc::only(5, "no such thing"), false),
        ("no status", || vec![grpc::head(), Step::Data(grpc::framed(b"x")), Step::End], false),
        ("HTTP 503", || Step::status(503), false),
    ];
    for (what, script, good) in cases {
        story(async move {
            let origin = Origin::with(move |_| script());
            let switchyard = start(&with(GRPC_CONFIG, CLASSIFIED), &origin);
            let answer = ask(&switchyard, &hello()).await;
            assert!(answer.status == 200 || what == "HTTP 503", "{what}: {answer:?}");
            let (moved, still) = if good { ("success", "failures") } else { ("failures", "success") };
            for scope in [format!("service/svc/{SERVICE}"), format!("client/#/io.l5d.fs/{SERVICE}")] {
                switchyard.await_metric(&format!("rt/h2/{scope}/requests"), 1.0);
                switchyard.await_metric(&format!("rt/h2/{scope}/{moved}"), 1.0);
                let other = switchyard.metric(&format!("rt/h2/{scope}/{still}")).unwrap_or(0.0);
                assert_eq!(other, 0.0, "{what}: {scope}/{still}");
            }
            assert_eq!(origin.count(), 1, "{what}");
        });
    }
}

#[test]
fn other_statuses_may_be_good_ones() {
    story(async {
        let origin = Origin::with(|_| grpc::only(5, "not found"));
        let kind = "kind: io.l5d.h2.grpc.neverRetryable, successStatusCodes: [0, 5]";
        let switchyard =
            start(&with(GRPC_CONFIG, &format!("service: {{ responseClassifier: {{ {kind} }} }}")), &origin);
        assert_eq!(grpc::status(&ask(&switchyard, &hello()).await), Some(5));
        switchyard.await_metric(&format!("rt/h2/service/svc/{SERVICE}/success"), 1.0);
    });
}

#[test]
fn each_status_has_a_counter() {
    story(async {
        let origin = Origin::with(|asked| match asked.number {
            0..3 => grpc::reply(&[b"hello"]),
            3 => grpc::only(14, "away"),
            _ => vec![grpc::head(), grpc::trailers(13, "broken")],
        });
        let switchyard = start(&with(GRPC_CONFIG, CLASSIFIED), &origin);
        for _ in 0..5 {
            ask(&switchyard, &hello()).await;
        }
        for (name, count) in [("OK", 3.0), ("UNAVAILABLE", 1.0), ("INTERNAL", 1.0)] {
            switchyard.await_metric(&format!("rt/h2/service/svc/{SERVICE}/grpc/status/{name}"), count);
        }
    });
}

/// A `grpc-timeout` as time.
fn timeout(value: &str) -> Duration {
    let (number, unit) = value.split_at(value.len() - 1);
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("{value:?} is no grpc-timeout"));
    match unit {
        "n" => Duration::from_nanos(number),
        "u" => Duration::from_micros(number),
        "m" => Duration::from_millis(number),
        "S" => Duration::from_secs(number),
        _ => panic!("{value:?} is longer than a story"),
    }
}

#[test]
fn a_deadline_is_kept_and_passed_on_reduced() {
    story(async {
        let origin = Origin::with(|asked| match asked.uri.path().ends_with("/Fast") {
            true => grpc::reply(&[b"hello"]),
            false => vec![Step::Hang],
        });
        let switchyard = start(GRPC_CONFIG, &origin);
        let at = Instant::now();
        let answer = ask(&switchyard, &hello().header("grpc-timeout", "2000m")).await;
        let took = at.elapsed();
        assert_eq!((answer.status, grpc::status(&answer)), (200, Some(4)), "{answer:?}");
        assert!(took > Duration::from_millis(1990) && took < SOON, "{took:?}");
        eventually("the service is rid of it", SOON, || (origin.open() == 0).then_some(()));
        assert_eq!(origin.cancels()[0].code, 8, "CANCEL");
        let passed = timeout(text(&origin.last().asked.headers, "grpc-timeout"));
        assert!(passed < Duration::from_millis(2000) && passed > Duration::from_millis(100), "{passed:?}");
        let answer = ask(&switchyard, &grpc::call(SERVICE, "Fast", &[b"a"]).header("grpc-timeout", "60S")).await;
        assert_eq!(grpc::status(&answer), Some(0));
        let passed = timeout(text(&origin.last().asked.headers, "grpc-timeout"));
        assert!(passed < Duration::from_secs(60) && passed > Duration::from_secs(30), "{passed:?}");
    });
}

/// A deadline in the middle of a stream: the status comes in the trailers, or the stream is reset; nothing hangs.
#[test]
fn a_deadline_ends_a_stream_that_has_begun() {
    story(async {
        let origin = Origin::with(|_| vec![grpc::head(), Step::Data(grpc::framed(b"one")), Step::Hang]);
        let switchyard = start(GRPC_CONFIG, &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let at = Instant::now();
        let asked = within("an end", SOON, caller.try_ask(&hello().header("grpc-timeout", "300m"))).await;
        assert!(at.elapsed() > Duration::from_millis(290), "{:?}", at.elapsed());
        match asked {
            Ok(answer) => assert_eq!(grpc::status(&answer), Some(4), "{answer:?}"),
            Err(error) => assert_eq!(error.reason().map(u32::from), Some(8), "{error}"),
        }
        eventually("the service is rid of it", SOON, || (origin.open() == 0).then_some(()));
    });
}

/// Attack X5: what is no timeout is none.
#[test]
fn a_timeout_that_is_none_harms_nobody() {
    story(async {
        let origin = Origin::with(|_| grpc::reply(&[b"hello"]));
        let switchyard = start(GRPC_CONFIG, &origin);
        for value in ["99999999H", "soon", "", "5", "-5S", "123456789S", "1.5S", "5x"] {
            let answer = ask(&switchyard, &hello().header("grpc-timeout", value)).await;
            assert_eq!(grpc::status(&answer), Some(0), "{value:?}: {answer:?}");
        }
        let answer = ask(&switchyard, &hello().header("grpc-timeout", "0m")).await;
        assert_eq!(grpc::status(&answer), Some(4), "no time is left: {answer:?}");
    });
}

/// A failure of the router: HTTP 200, no message, this status, and why.
fn assert_failed(answer: &Answer, status: u32, what: &str) {
    assert_eq!((answer.status, grpc::status(answer), answer.body.len()), (200, Some(status), 0), "{what}: {answer:?}");
    assert!(text(&answer.headers, "content-type").starts_with("application/grpc"), "{what}: {answer:?}");
    assert!(!text(&answer.headers, "grpc-status").is_empty(), "{what}: trailers-only: {answer:?}");
    assert!(!answer.field("grpc-message").is_empty(), "{what}: it says why");
}

#[test]
fn failures_of_the_router_have_a_status() {
    story(async {
        let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)[0]));
        let slow = Origin::with(|_| vec![Step::Hang]);
        let config = with(GRPC_CONFIG, "client: { requestAttemptTimeoutMs: 1000 }");
        let switchyard = Switchyard::start(&config);
        switchyard.disco().set("pkg.Dead", &[dead]);
        switchyard.disco().set("pkg.Slow", &[slow.addr()]);
        for (service, status) in [("pkg.Dead", 14), ("pkg.Unknown", 14), ("pkg.Slow", 4)] {
            let answer = ask(&switchyard, &grpc::call(service, "Call", &[b"a"])).await;
            assert_failed(&answer, status, service);
            assert!(!text(&answer.headers, "l5d-err").is_empty(), "{service}: {answer:?}");
        }
        // Who does not speak gRPC gets what HTTP has for it.
        for (path, status) in [("/pkg.Dead/x", 502), ("/pkg.Unknown/x", 502), ("/pkg.Slow/x", 503)] {
            let answer = ask(&switchyard, &Ask::get("web", path)).await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            assert!(!text(&answer.headers, "l5d-err").is_empty() && !answer.body.is_empty(), "{answer:?}");
            assert_eq!(text(&answer.headers, "content-length"), answer.body.len().to_string());
        }
    });
}

#[test]
fn overload_is_a_status_too() {
    story(async {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = Origin::with(move |_| [vec![Step::Hold(held.clone())], grpc::reply(&[b"hello"])].concat());
        let config = GRPC_CONFIG.replace("port: @P0@", "port: @P0@, maxConcurrentRequests: 1");
        let switchyard = start(&config, &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let first = caller.ask_later(&hello());
        eventually("the first is open", SOON, || (origin.open() == 1).then_some(()));
        let refused = within("a refusal", SOON, caller.ask(&hello())).await;
        assert_failed(&refused, 14, "overload");
        gate.open();
        assert_eq!(grpc::status(&first.await.expect("no panic").expect("an answer")), Some(0));
        assert_eq!(grpc::status(&caller.ask(&hello()).await), Some(0), "there is room again");
        assert_eq!(origin.count(), 2);
    });
}

/// A service that breaks off before its head: a caller of gRPC gets a status and not a riddle.
#[test]
fn a_service_that_dies_is_unavailable() {
    story(async {
        let origin = Origin::with(|_| vec![Step::Read, Step::Abort(2)]);
        let switchyard = start(GRPC_CONFIG, &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let ended = within("an end", SOON, caller.try_ask(&hello())).await;
        match ended {
            Ok(answer) => assert_failed(&answer, 14, "a dying service"),
            Err(error) => assert!(error.is_reset(), "{error}"),
        }
        assert_eq!(origin.count(), 1);
    });
}

/// Requirements §5, rule 4: what the router knows is for those who may know it.
#[test]
fn only_who_is_trusted_learns_why() {
    story(async {
        let config = GRPC_CONFIG.replace(
            "[{ port: @P0@ }]",
            "[{ port: @P0@ }, { port: @P1@, overrides: off }, { port: @P2@, clearContext: true }]",
        );
        let switchyard = Switchyard::start(&config);
        for (port, told) in [(0, true), (1, false), (2, false)] {
            let caller = Caller::connect(switchyard.addr(port)).await;
            let answer = within("an answer", SOON, caller.ask(&grpc::call("pkg.Secret", "Call", &[b"a"]))).await;
            assert_eq!(grpc::status(&answer), Some(14), "{answer:?}");
            let all = format!("{:?} {:?}", answer.headers, answer.trailers);
            assert_eq!(all.contains("pkg.Secret"), told, "{all}");
            assert_eq!(answer.headers.contains_key("l5d-err"), told, "{all}");
        }
    });
}

/// Linkerd 1 lost the context of gRPC calls before 1.4.1.
#[test]
fn a_dtab_of_one_call_reroutes_it_alone() {
    story(async {
        let (old, new) = (Origin::with(|_| grpc::reply(&[b"old"])), Origin::with(|_| grpc::reply(&[b"new"])));
        let switchyard = start(GRPC_CONFIG, &old);
        switchyard.disco().set("next", &[new.addr()]);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let rerouted = hello().header("l5d-dtab", &format!("/svc/{SERVICE} => /#/io.l5d.fs/next ;"));
        for _ in 0..3 {
            for (asked, wanted) in [(&hello(), b"old"), (&rerouted, b"new")] {
                let answer = within("an answer", SOON, caller.ask(asked)).await;
                assert_eq!(grpc::messages(&answer.body), [wanted.to_vec()], "{answer:?}");
            }
        }
        assert!(!text(&new.last().asked.headers, "l5d-ctx-dtab").is_empty(), "{:?}", new.last().asked.headers);
        let wrong = within("an answer", SOON, caller.ask(&hello().header("l5d-dtab", "/svc => ;; =>"))).await;
        assert!(grpc::status(&wrong).is_some_and(|status| status != 0), "{wrong:?}");
    });
}

#[test]
fn identifiers_of_h2_name_calls() {
    story(async {
        let origin = Origin::with(|_| grpc::reply(&[b"hello"]));
        for (identifier, files) in [
            ("{ kind: io.l5d.header.path, segments: 1 }", vec![SERVICE]),
            ("{ kind: io.l5d.header.token, header: x-service }", vec!["by-header"]),
            ("{ kind: io.l5d.header.token }", vec!["greeter"]),
        ] {
            let config = with(H2_CONFIG, &format!("identifier: {identifier}"));
            let switchyard = Switchyard::start(&config);
            files.iter().for_each(|file| switchyard.disco().set(file, &[origin.addr()]));
            let asked = Ask { authority: "greeter".to_owned(), ..hello() }.header("x-service", "by-header");
            let answer = ask(&switchyard, &asked).await;
            assert_eq!(grpc::status(&answer), Some(0), "{identifier}: {answer:?}");
        }
    });
}

/// What belongs to gRPC passes unchanged, odd as it may be.
#[test]
fn metadata_passes_unchanged() {
    story(async {
        let origin = Origin::with(|asked| {
            let metadata =
                Step::Head(200, fields(&[("content-type", "application/grpc+proto"), ("x-head-bin", "AAEC")]));
            let status = fields(&[
                ("grpc-status", "0"),
                ("grpc-message", "%E2%82%AC"),
                ("x-tail-bin", text(&asked.headers, "x-bin")),
            ]);
            vec![Step::Read, metadata, Step::Trailers(status)]
        });
        let switchyard = start(GRPC_CONFIG, &origin);
        let asked =
            hello().header("x-bin", "/+8=").header("grpc-encoding", "identity").header("user-agent", "grpc-test/1");
        let answer = ask(&switchyard, &asked).await;
        assert_eq!((text(&answer.headers, "x-head-bin"), answer.field("grpc-message")), ("AAEC", "%E2%82%AC"));
        assert_eq!(
            (text(&answer.trailers, "x-tail-bin"), text(&answer.headers, "content-type")),
            ("/+8=", "application/grpc+proto")
        );
        let headers = origin.last().asked.headers;
        assert_eq!((text(&headers, "grpc-encoding"), text(&headers, "user-agent")), ("identity", "grpc-test/1"));
    });
}
