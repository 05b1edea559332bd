//! As an operator, I have one line per request of an h2 router: in the form of Linkerd 1, and as JSON with the status of
//! gRPC calls, however they end.

use e2e::h2::{Ask, Caller, GRPC_CONFIG, Origin, Step, grpc, story, with, within};
use e2e::{Switchyard, eventually};
use serde_json::Value;
use std::time::Duration;

/// For what takes a moment, on a busy machine too.
const SOON: Duration = Duration::from_secs(30);
const SERVICE: &str = "pkg.Greeter";

fn start(keys: &str, origin: &Origin) -> Switchyard {
    let switchyard = Switchyard::start(&with(GRPC_CONFIG, &format!("h2AccessLog: '@DISCO@/../access.log'\n  {keys}")));
    switchyard.disco().set(SERVICE, &[origin.addr()]);
    switchyard
}

/// The lines of the log once there are so many.
fn lines(switchyard: &Switchyard, wanted: usize) -> Vec<String> {
    let path = switchyard.folder().join("access.log");
    let found = eventually(&format!("{wanted} lines"), SOON, || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() >= wanted).then_some(text)
    });
    let found: Vec<String> = found.lines().map(str::to_owned).collect();
    assert_eq!(found.len(), wanted, "{found:#?}");
    found
}

fn origin() -> Origin {
    Origin::with(|asked| match asked.uri.path().rsplit('/').next() {
        Some("Only") => grpc::only(14, "away"),
        Some("Late") => vec![Step::Read, grpc::head(), Step::Data(grpc::framed(b"half")), grpc::trailers(13, "broken")],
        Some("Hang") => vec![Step::Hang],
        _ => grpc::reply(&[b"hello"]),
    })
}

#[test]
fn the_line_is_that_of_linkerd() {
    story(async {
        let origin = origin();
        let switchyard = start("originator: true", &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        let ask =
            grpc::call(SERVICE, "SayHello", &[b"world"]).header("user-agent", "grpc-test/1").header("referer", "x");
        within("an answer", SOON, caller.ask(&ask)).await;
        let line = lines(&switchyard, 1).remove(0);
        let (head, rest) = line.split_once(" - - [").expect("the columns of Linkerd");
        let (time, rest) = rest.split_once("] ").expect("a time");
        assert_eq!(head, format!("{SERVICE} 127.0.0.1"));
        assert!(time.ends_with(" +0000") && time.len() == "21/11/2026:21:00:00 +0000".len(), "{time}");
        assert_eq!(rest, format!(r#""POST /{SERVICE}/SayHello HTTP/2" 200 - "x" "grpc-test/1""#));
    });
}

#[test]
fn json_has_the_status_of_the_call_however_it_ends() {
    story(async {
        let origin = origin();
        let switchyard = start("h2AccessLogFormat: json", &origin);
        let caller = Caller::connect(switchyard.addr(0)).await;
        for (i, (method, status, name)) in
            [("SayHello", 0, "OK"), ("Only", 14, "UNAVAILABLE"), ("Late", 13, "INTERNAL")].into_iter().enumerate()
        {
            within("an answer", SOON, caller.ask(&grpc::call(SERVICE, method, &[b"world"]))).await;
            let line: Value = serde_json::from_str(&lines(&switchyard, i + 1)[i]).expect("JSON");
            assert_eq!(
                (line["grpcStatus"].as_u64(), line["grpcStatusName"].as_str()),
                (Some(status), Some(name)),
                "{line}"
            );
            assert_eq!((line["status"].as_u64(), line["requestBytes"].as_u64()), (Some(200), Some(10)), "{line}");
            assert!(line.to_string().contains(&format!("/{SERVICE}/{method}")), "{line}");
        }
        within("an answer", SOON, caller.ask(&grpc::call("pkg.Unknown", "Call", &[b"a"]))).await;
        let line: Value = serde_json::from_str(&lines(&switchyard, 4)[3]).expect("JSON");
        assert_eq!(line["grpcStatus"].as_u64(), Some(14), "the router's own: {line}");
        assert!(line["failure"].is_string(), "{line}");
        let mut call = caller.open(&grpc::call(SERVICE, "Hang", &[]), true).await.expect("a stream");
        eventually("it is open", SOON, || (origin.open() == 1).then_some(()));
        call.reset(8);
        let line: Value = serde_json::from_str(&lines(&switchyard, 5)[4]).expect("JSON");
        assert!(line["status"].is_null() || line["status"].as_u64() == Some(499), "cancelled: {line}");
        within("an answer", SOON, caller.ask(&Ask::get("x", &format!("/{SERVICE}/plain")))).await;
        lines(&switchyard, 6);
    });
}
