//! Retries of gRPC calls: what is tried again is what the classifier says, and only as long as nothing was delivered.

use e2e::Switchyard;
use e2e::h2::{Answer, Caller, GRPC_CONFIG, Gate, Origin, Script, Step, fields, grpc, pattern, story, with, within};
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const SERVICE: &str = "pkg.Greeter";

/// A router with this section for services.
fn start(service: &str, origin: &Origin) -> Switchyard {
    let switchyard = Switchyard::start(&with(GRPC_CONFIG, &format!("service: {{ {service} }}")));
    switchyard.disco().set(SERVICE, &[origin.addr()]);
    switchyard
}

fn classifier(kind: &str) -> String {
    format!("responseClassifier: {{ kind: io.l5d.h2.grpc.{kind} }}")
}

/// Does this on the first call, then replies.
fn first(script: impl Fn() -> Script + Send + Sync + 'static) -> Origin {
    Origin::with(move |asked| match asked.number {
        0 => script(),
        _ => grpc::reply(&[b"at last"]),
    })
}

async fn ask(switchyard: &Switchyard) -> Answer {
    let caller = Caller::connect(switchyard.addr(0)).await;
    within("an answer", SOON, caller.ask(&grpc::call(SERVICE, "Call", &[b"a"]))).await
}

fn retries(switchyard: &Switchyard) -> f64 {
    switchyard.metric(&format!("rt/h2/service/svc/{SERVICE}/retries/total")).unwrap_or(0.0)
}

/// What a router further in says of a call that reached nobody, whatever the classifier says; as over HTTP/1.
#[test]
fn a_call_that_reached_nobody_is_tried_again() {
    story(async {
        for (said, tries) in [("true", 2), ("false", 1)] {
            let refused = fields(&[("grpc-status", "14"), ("l5d-retryable", said)]);
            let origin = first(move || vec![Step::Only(200, refused.clone())]);
            let switchyard = start(&classifier("neverRetryable"), &origin);
            let wanted = if tries == 2 { 0 } else { 14 };
            assert_eq!((grpc::status(&ask(&switchyard).await), origin.count()), (Some(wanted), tries), "{said}");
        }
    });
}

/// The request is sent again whole.
#[test]
fn unavailable_alone_is_tried_again() {
    story(async {
        let origin = first(|| grpc::only(14, "away"));
        let switchyard = start(&classifier("default"), &origin);
        let answer = ask(&switchyard).await;
        assert_eq!((grpc::status(&answer), grpc::messages(&answer.body)), (Some(0), vec![b"at last".to_vec()]));
        assert_eq!((origin.count(), retries(&switchyard)), (2, 1.0));
        assert_eq!(origin.last().sum, e2e::h2::Sum::of(&grpc::framed(b"a")), "the message was sent again");
    });
}

#[test]
fn unavailable_after_the_request_was_read_is_tried_again() {
    story(async {
        let origin = first(|| [vec![Step::Read], grpc::only(14, "away")].concat());
        let switchyard = start(&classifier("default"), &origin);
        assert_eq!((grpc::status(&ask(&switchyard).await), origin.count()), (Some(0), 2));
    });
}

/// Headers that wait for their trailers are held back only when the config says so.
#[test]
fn headers_are_held_back_for_as_long_as_the_config_says() {
    story(async {
        let late = || vec![grpc::head(), Step::Wait(Duration::from_millis(200)), grpc::trailers(14, "away")];
        let origin = first(late);
        let switchyard = start(&format!("{}, classificationTimeoutMs: 30000", classifier("default")), &origin);
        assert_eq!((grpc::status(&ask(&switchyard).await), origin.count()), (Some(0), 2), "held, and tried again");

        for (keys, what) in [("", "not held"), (", classificationTimeoutMs: 50", "held for a moment")] {
            let gate = Gate::default();
            let held = gate.clone();
            let origin = first(move || vec![grpc::head(), Step::Hold(held.clone()), grpc::trailers(14, "away")]);
            let switchyard = start(&format!("{}{keys}", classifier("default")), &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            let mut call = caller.open(&grpc::call(SERVICE, "Call", &[]), true).await.expect("a stream");
            // There are no trailers to wait for until the gate is open.
            within(what, SOON, call.head()).await.expect("a head");
            gate.open();
            assert!(within("an end", SOON, call.next()).await.is_none());
            assert_eq!(e2e::h2::text(&call.trailers().await.expect("trailers"), "grpc-status"), "14");
            assert_eq!((origin.count(), retries(&switchyard)), (1, 0.0), "{what}: the head was delivered");
        }
    });
}

#[test]
fn headers_and_trailers_at_once_are_one_answer_or_one_retry() {
    story(async {
        let origin = first(|| vec![grpc::head(), grpc::trailers(14, "away")]);
        let switchyard = start(&classifier("default"), &origin);
        let answer = ask(&switchyard).await;
        let told = (grpc::status(&answer), origin.count());
        assert!(told == (Some(14), 1) || told == (Some(0), 2), "{told:?}");
    });
}

#[test]
fn nothing_is_tried_again_once_a_message_was_delivered() {
    story(async {
        for hold in ["", ", classificationTimeoutMs: 2000"] {
            let gate = Gate::default();
            let held = gate.clone();
            let origin = first(move || {
                let message = Step::Data(grpc::framed(b"half"));
                vec![grpc::head(), message, Step::Hold(held.clone()), grpc::trailers(14, "away")]
            });
            let switchyard = start(&format!("{}{hold}", classifier("alwaysRetryable")), &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            let mut call = caller.open(&grpc::call(SERVICE, "Call", &[b"a"]), true).await.expect("a stream");
            within("a head", SOON, call.head()).await.expect("a head");
            let message = within("a message", SOON, call.next()).await.expect("a message").expect("no reset");
            assert_eq!(grpc::messages(&message), [b"half".to_vec()]);
            gate.open();
            assert!(within("an end", SOON, call.next()).await.is_none());
            assert_eq!(e2e::h2::text(&call.trailers().await.expect("trailers"), "grpc-status"), "14");
            assert_eq!((origin.count(), retries(&switchyard)), (1, 0.0), "{hold:?}");
        }
    });
}

#[test]
fn classifiers_say_what_is_tried_again() {
    let cases = [
        ("default", 14, 2),
        ("default", 13, 1),
        ("compliant", 14, 2),
        ("alwaysRetryable", 13, 2),
        ("alwaysRetryable", 5, 2),
        ("neverRetryable", 14, 1),
        ("retryableStatusCodes, retryableStatusCodes: [5, 8]", 5, 2),
        ("retryableStatusCodes, retryableStatusCodes: [5, 8]", 14, 1),
    ];
    for (kind, status, tries) in cases {
        story(async move {
            let origin = first(move || grpc::only(status, "not now"));
            let switchyard = start(&classifier(kind), &origin);
            let answer = ask(&switchyard).await;
            let wanted = if tries == 2 { 0 } else { status };
            assert_eq!((grpc::status(&answer), origin.count()), (Some(wanted), tries), "{kind} {status}");
        });
    }
}

/// Linkerd 1's `compliant` was `default` by mistake.
#[test]
fn compliant_is_what_it_was_documented_to_be() {
    for (what, script) in [("429", Step::status(429)), ("503", Step::status(503)), ("refused", vec![Step::Reset(7)])] {
        story(async move {
            let origin = first(move || script.clone());
            let switchyard = start(&classifier("compliant"), &origin);
            assert_eq!((grpc::status(&ask(&switchyard).await), origin.count()), (Some(0), 2), "{what}");
        });
    }
}

#[test]
fn http_classifiers_of_h2_go_by_the_status_and_the_method() {
    for (kind, method, tries) in [
        ("retryableRead5XX", "GET", 2),
        ("retryableRead5XX", "POST", 1),
        ("retryableAll5XX", "POST", 2),
        ("nonRetryable5XX", "GET", 1),
    ] {
        story(async move {
            let origin = first(|| Step::status(503));
            let switchyard = start(&format!("responseClassifier: {{ kind: io.l5d.h2.{kind} }}"), &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            let ask = grpc::call(SERVICE, "Call", &[]);
            let ask = e2e::h2::Ask { method: method.parse().expect("a method"), ..ask };
            let answer = within("an answer", SOON, caller.ask(&ask)).await;
            assert_eq!((answer.status, origin.count()), (if tries == 2 { 200 } else { 503 }, tries), "{kind} {method}");
        });
    }
}

/// More than is kept is sent once; the stream never waits for what is kept.
#[test]
fn a_long_request_is_not_tried_again() {
    story(async {
        for (bytes, tries) in [(10_000, 2), (100_000, 1)] {
            let origin = first(|| [vec![Step::Read], grpc::only(14, "away")].concat());
            let switchyard =
                start(&format!("{}, retryBufferSize: {{ requestBytes: 16383 }}", classifier("default")), &origin);
            let caller = Caller::connect(switchyard.addr(0)).await;
            let ask = grpc::call(SERVICE, "Call", &[&pattern(0, bytes)]);
            let answer = within("an answer", SOON, caller.ask(&ask)).await;
            let wanted = if tries == 2 { 0 } else { 14 };
            assert_eq!((grpc::status(&answer), origin.count()), (Some(wanted), tries), "{bytes} bytes");
            let seen = origin.seen();
            assert!(seen.iter().all(|seen| seen.sum == e2e::h2::Sum::of(&ask.body)), "all of it each time: {seen:?}");
        }
    });
}

/// A stream that is still open is tried again with what there was of it, and goes on.
#[test]
fn an_open_request_is_tried_again_and_goes_on() {
    story(async {
        let origin = Origin::with(|asked| match asked.number {
            0 => grpc::only(14, "away"),
            _ => grpc::echo(),
        });
        let switchyard = start(&classifier("default"), &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let mut call = caller.open(&grpc::call(SERVICE, "Chat", &[]), false).await.expect("a stream");
        call.send(grpc::framed(b"one"), false).await;
        let head = within("a head", SOON, call.head()).await.expect("a head");
        if head.headers().contains_key("grpc-status") {
            // An open request need not be tried again; then the caller learns it.
            assert_eq!((head.headers()["grpc-status"].as_bytes(), origin.count()), (&b"14"[..], 1));
            return;
        }
        let mut came = Vec::new();
        for message in [&b"two"[..], b"three"] {
            call.send(grpc::framed(message), message == b"three").await;
        }
        while let Some(piece) = within("an echo", SOON, call.next()).await {
            came.extend_from_slice(&piece.expect("no reset"));
        }
        assert_eq!(grpc::messages(&came), [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
        assert_eq!(origin.count(), 2);
    });
}

#[test]
fn the_budget_and_the_attempts_end_retries() {
    story(async {
        let origin = Origin::with(|_| grpc::only(14, "away"));
        let switchyard = start(&classifier("default"), &origin);
        assert_eq!((grpc::status(&ask(&switchyard).await), origin.count()), (Some(14), 10), "ten attempts at most");
        let origin = Origin::with(|_| grpc::only(14, "away"));
        let budget = "retries: { budget: { minRetriesPerSec: 0, percentCanRetry: 0.0, ttlSecs: 10 } }";
        let switchyard = start(&format!("{}, {budget}", classifier("default")), &origin);
        assert_eq!((grpc::status(&ask(&switchyard).await), origin.count()), (Some(14), 1));
    });
}

/// The deadline of the caller is over all attempts.
#[test]
fn a_deadline_ends_retries() {
    story(async {
        let origin = Origin::with(|_| [vec![Step::Wait(Duration::from_millis(800))], grpc::only(14, "away")].concat());
        let switchyard = start(&classifier("default"), &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let ask = grpc::call(SERVICE, "Call", &[b"a"]).header("grpc-timeout", "2500m");
        let answer = within("an answer", SOON, caller.ask(&ask)).await;
        assert!(matches!(grpc::status(&answer), Some(4 | 14)), "{answer:?}");
        assert!(matches!(origin.count(), 2..=4), "{}", origin.count());
    });
}
