//! Who may do what, over the wire (attacks A1, A2, A7, A11).

use super::*;
use crate::access::{AccessParams, Namespaces, Right, Rule, TokenParams};
use parking_lot::Mutex;
use setup::tokens::TokenFile;
use std::fmt::Debug;
use tracing::field::{Field, Visit};
use tracing::span;

const CI: &str = "ci-token-0123456789";
const OPS: &str = "ops-token-0123456789";

/// `ci` may change `/svc/web` of `prod`, `ops` everything, everybody may read `prod`.
fn policy(dir: &std::path::Path) -> Access {
    let rule = |right, namespaces, prefixes: &[&str]| Rule {
        right,
        namespaces,
        prefixes: (!prefixes.is_empty())
            .then(|| prefixes.iter().map(|text| dtab::parse_prefix(text).expect("a prefix")).collect()),
    };
    let prod = || Namespaces::Named(vec!["prod".into(), "audited".into()]);
    let token = |name: &str, token: &str, rules| {
        let file = dir.join(name);
        std::fs::write(&file, token).expect("it is written");
        TokenParams { name: name.into(), file: TokenFile::new(file), rules }
    };
    Access::new(Some(AccessParams {
        anonymous: vec![rule(Right::Read, prod(), &[])],
        tokens: vec![
            token("ci", CI, vec![rule(Right::Write, prod(), &["/svc/web"])]),
            token("ops", OPS, vec![rule(Right::Write, Namespaces::All, &[])]),
        ],
        identities: Vec::new(),
    }))
}

async fn guarded() -> (tempfile::TempDir, Server) {
    let dir = tempfile::tempdir().expect("a folder");
    let store = memory(&[("prod", "/svc => /a; /svc/web => /b"), ("secret", "/x => /y")]);
    let server = Server::with(store, policy(dir.path()), HttpParams::default(), "127.0.0.1:0").await;
    (dir, server)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A token that is replaced while namerd runs begins nothing new, and what it has begun ends soon; who keeps its rights, or
/// shows no token, notices nothing.
#[tokio::test]
async fn streams_end_with_the_right_to_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let access = policy(dir.path()).watching(Duration::from_millis(20), &Handle::current());
    let store = memory(&[("prod", "/svc => /a"), ("secret", "/x => /y")]);
    let server = Server::with(store, access, HttpParams::default(), "127.0.0.1:0").await;
    let (old, new, ci) = (bearer(OPS), bearer("another-ops-token-0123456789"), bearer(CI));
    let open = async |target: &str, token: &str| {
        let headers = [("authorization", token), ("accept", "text/plain")];
        Stream::open(server.address, target, &headers[usize::from(token.is_empty())..]).await
    };
    let (secret, prod) = ("/api/1/dtabs/secret?watch=1", "/api/1/dtabs/prod?watch=1");
    let (mut kept, mut open_to_all) = (open(prod, &ci).await, open(prod, "").await);
    for stream in [&mut kept, &mut open_to_all] {
        assert_eq!(stream.next().await.as_deref(), Some("/svc=>/a\n"));
    }
    let mut ending = Vec::new();
    for target in [
        secret,
        "/api/1/dtabs?watch=1",
        "/api/1/bind/secret?path=/x&watch=1",
        "/api/1/addr/secret?path=/$/inet/127.0.0.1/1&watch=1",
        "/api/1/resolve/secret?path=/x&watch=1",
        "/api/1/bound-names?watch=1",
    ] {
        let mut stream = open(target, &old).await;
        assert!(stream.next().await.is_some(), "{target}");
        ending.push((target, stream));
    }
    // Whoever replaces a file by writing into it may be met in the middle.
    let file = dir.path().join("ops");
    std::fs::write(&file, "").expect("it is written");
    std::fs::write(&file, new.trim_start_matches("Bearer ")).expect("it is written");
    let refused = client::ask(server.address, "GET", secret, &[("authorization", &old)], None).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    for (target, stream) in &mut ending {
        assert_eq!(stream.next().await, None, "{target} ends");
    }
    server.has_watches(2).await;
    let mut begun = open(secret, &new).await;
    assert_eq!(begun.next().await.as_deref(), Some("/x=>/y\n"), "the new token begins");
    for (name, stream) in [("secret", vec![&mut begun]), ("prod", vec![&mut kept, &mut open_to_all])] {
        let target = format!("/api/1/dtabs/{name}");
        let written = server.send("PUT", &target, &[DTAB, ("authorization", &new)], "/x => /z").await;
        assert_eq!(written.status, 204, "{written:?}");
        for stream in stream {
            assert_eq!(stream.next().await.as_deref(), Some("/x=>/z\n"), "{name} is still followed");
        }
    }
}

/// The same token with other rules: a stream that these let go on does, and one that shows what has changed is begun anew.
#[tokio::test]
async fn a_token_with_fewer_rights_keeps_the_streams_that_these_allow() {
    let dir = tempfile::tempdir().expect("a folder");
    let access = policy(dir.path()).watching(Duration::from_millis(20), &Handle::current());
    let server =
        Server::with(memory(&[("prod", ""), ("secret", "")]), access, HttpParams::default(), "127.0.0.1:0").await;
    let ops = bearer(OPS);
    let headers = [("authorization", ops.as_str())];
    let mut streams = Vec::new();
    for target in ["/api/1/dtabs/prod?watch=1", "/api/1/dtabs/secret?watch=1", "/api/1/dtabs?watch=1"] {
        let mut stream = Stream::open(server.address, target, &headers).await;
        assert!(stream.next().await.is_some(), "{target}");
        streams.push(stream);
    }
    let [mut prod, mut secret, mut list] = <[Stream; 3]>::try_from(streams).unwrap_or_else(|_| panic!("three"));
    std::fs::write(dir.path().join("ci"), OPS).expect("it is written");
    std::fs::write(dir.path().join("ops"), "another-ops-token-0123456789").expect("it is written");
    assert_eq!((secret.next().await, list.next().await), (None, None));
    assert_eq!(client::ask(server.address, "GET", "/api/1/dtabs/secret", &headers, None).await.status, 403);
    assert_eq!(client::ask(server.address, "GET", "/api/1/dtabs", &headers, None).await.body, "[\"prod\"]\n");
    let body = "/svc/web => /a";
    let written = server.send("PUT", "/api/1/dtabs/prod", &[DTAB, headers[0]], body).await;
    assert_eq!(written.status, 204, "{written:?}");
    assert_eq!(prod.next().await.as_deref(), Some("[{\"prefix\":\"/svc/web\",\"dst\":\"/a\"}]\n"));
}

#[tokio::test]
async fn rights_hold_on_every_route() {
    let (_dir, server) = guarded().await;
    let (ci, ops) = (bearer(CI), bearer(OPS));
    let ask = async |token: Option<&str>, method: &str, target: &str, body: &str| {
        let mut headers = vec![DTAB];
        headers.extend(token.map(|token| ("authorization", token)));
        server.send(method, target, &headers, body).await
    };
    for route in [
        "dtabs/secret",
        "dtabs/secret?watch=1",
        "bind/secret?path=/x",
        "addr/secret?path=/x",
        "resolve/secret?path=/x",
        "delegate/secret?path=/x",
        "delegate?path=/x&namespace=secret",
        "history/secret",
        "names/secret",
    ] {
        let target = format!("/api/1/{route}");
        let reply = ask(None, "GET", &target, "").await;
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")), "{route}");
        assert_eq!(ask(Some(&ci), "GET", &target, "").await.status, 403, "{route}");
        assert_eq!(ask(Some("Bearer wrong-token-0123456789"), "GET", &target, "").await.status, 401, "{route}");
    }
    assert_eq!(ask(None, "GET", "/api/1/dtabs", "").await.body, "[\"prod\"]\n");
    assert_eq!(ask(Some(&ops), "GET", "/api/1/dtabs", "").await.body, "[\"prod\",\"secret\"]\n");
    assert_eq!(ask(Some(&ops), "GET", "/api/1/dtabs/secret", "").await.status, 200);
    let prod = "/api/1/dtabs/prod";
    assert_eq!(ask(None, "PUT", prod, "/svc => /a").await.status, 401);
    assert_eq!(ask(None, "DELETE", prod, "").await.status, 401);
    for (method, body, part) in [
        ("PUT", "/svc => /evil; /svc/web => /b", "dentries of /svc in"),
        ("PUT", "/svc => /a; /svc/web => /b; /svc/* => /evil", "dentries of /svc/* in"),
        ("DELETE", "", "remove namespace prod"),
    ] {
        let reply = ask(Some(&ci), method, prod, body).await;
        assert_eq!(reply.status, 403, "{method} {body}");
        assert!(reply.body.contains(part), "{}", reply.body);
    }
    assert_eq!(ask(Some(&ci), "POST", "/api/1/dtabs/new", "").await.status, 403);
    assert_eq!(ask(Some(&ci), "PUT", prod, "/svc => /a; /svc/web => /canary").await.status, 204);
    assert_eq!(ask(Some("bearer ops-token-0123456789"), "PUT", prod, "/svc => /c").await.status, 204);
    assert_eq!(ask(Some(&ops), "DELETE", prod, "").await.status, 204);
    assert_eq!(ask(Some(&ci), "PUT", prod, "/svc/web => /b").await.status, 403, "a namespace is made");
}

/// A body of somebody without rights is not waited for, and no question is large.
#[tokio::test]
async fn rights_are_judged_before_a_question_is_read() {
    let access = Access::new(Some(AccessParams::default()));
    let server = Server::with(memory(&[]), access, HttpParams::default(), "127.0.0.1:0").await;
    let json = [("content-type", "application/json")];
    let head = client::head("POST", "/api/1/delegate", &json, Some(1000));
    assert_eq!(client::raw(server.address, head.as_bytes()).await.status, 401);
    let server = Server::of(&[]).await;
    let large = format!("{{\"dtab\":\"{}\",\"path\":\"/a\"}}", " ".repeat(body::MAX_FORM));
    assert_eq!(server.send("POST", "/api/1/delegate", &json, &large).await.status, 413);
}

/// Requirement P13.5: without a version, writers with different prefixes do not undo each other's rights.
#[tokio::test]
async fn limited_writers_race_by_what_is_stored_at_that_moment() {
    let (_dir, server) = guarded().await;
    let (ci, ops) = (bearer(CI), bearer(OPS));
    let mut writers = JoinSet::new();
    for i in 0..40 {
        let (at, token) = (server.address, if i % 2 == 0 { ci.clone() } else { ops.clone() });
        writers.spawn(async move {
            let dtab = match i % 2 {
                0 => format!("/svc => /a; /svc/web => /{i}"),
                _ => format!("/svc => /changed; /svc/web => /{i}"),
            };
            let headers = [DTAB, ("authorization", token.as_str())];
            (i % 2, client::ask(at, "PUT", "/api/1/dtabs/prod", &headers, Some(dtab.as_bytes())).await.status)
        });
    }
    for (who, status) in writers.join_all().await {
        assert!(status == 204 || (who == 0 && matches!(status, 403 | 412)), "{who}: {status}");
    }
    let history: serde_json::Value =
        serde_json::from_str(&server.get("/api/1/history/prod?limit=100").await.body).expect("JSON");
    let list = history.as_array().expect("a list");
    for pair in list.windows(2).filter(|pair| pair[0]["author"] == "ci") {
        assert_eq!(pair[0]["dtab"][0], pair[1]["dtab"][0], "ci has changed /svc");
    }
}

#[tokio::test]
async fn a2_browsers_that_were_led_here_change_nothing() {
    let params = HttpParams { hosts: HostCheck::new(["namerd.example"]), ..HttpParams::default() };
    let server = Server::with(memory(&[("a", "/keep => /me")]), Access::default(), params, "127.0.0.1:0").await;
    let target = "/api/1/dtabs/a";
    for headers in [
        &[DTAB, ("origin", "http://evil.example")][..],
        &[DTAB, ("origin", "null")],
        &[DTAB, ("sec-fetch-site", "cross-site")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[DTAB, ("host", "evil.example")],
        &[DTAB, ("host", "localhost.evil.example")],
    ] {
        for method in ["PUT", "POST", "DELETE"] {
            let reply = server.send(method, target, headers, "/a => /evil").await;
            assert_eq!(reply.status, 403, "{method} {headers:?}: {}", reply.body);
            assert!(reply.header("access-control-allow-origin").is_none());
        }
    }
    assert_eq!(client::ask(server.address, "GET", target, &[("host", "evil.example")], None).await.status, 403);
    for host in ["namerd.example:4180", "localhost:4180", "[::1]:4180"] {
        let reply = client::ask(server.address, "GET", target, &[("host", host)], None).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "[{\"prefix\":\"/keep\",\"dst\":\"/me\"}]\n"), "{host}");
    }
    let own =
        [DTAB, ("host", "localhost:4180"), ("origin", "http://localhost:4180"), ("sec-fetch-site", "same-origin")];
    assert_eq!(server.send("PUT", target, &own, "/a => /b").await.status, 204);
}

/// Keeps what is said to the target `audit`, by all tests of this process.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "audit"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0.push_str(&format!("{}={value:?};", field.name()));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().push(text.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn every_write_is_on_record() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).expect("the only one");
    let dir = tempfile::tempdir().expect("a folder");
    let store = memory(&[("audited", "/svc => /a; /svc/web => /b")]);
    let server = Server::with(store, policy(dir.path()), HttpParams::default(), "127.0.0.1:0").await;
    let (target, token) = ("/api/1/dtabs/audited", bearer(CI));
    let ci = ("authorization", token.as_str());
    let before = server.get(target).await.etag().to_owned();
    let said = [DTAB, ci, ("l5d-author", "Ana\u{202e}"), ("l5d-reason", "ticket\t7\" status=500")];
    let after = server.send("PUT", target, &said, "/svc => /a; /svc/web => /c").await.etag().to_owned();
    server.send("PUT", target, &[DTAB, ci], "/svc => /evil").await;
    server.send("PUT", target, &[DTAB], "/svc => /evil").await;
    server.send("DELETE", target, &[("sec-fetch-site", "cross-site")], "").await;
    server.send("PUT", target, &[DTAB, ci, ("if-match", &before)], "/svc => /a").await;
    server.send("POST", target, &[DTAB, ("origin", "http://evil.example")], "/a => /b").await;
    server.get(target).await;
    let lines: Vec<String> =
        lines.0.lock().iter().filter(|line| line.contains("namespace=\"audited\";")).cloned().collect();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    for part in [
        "outcome=\"accepted\"",
        "caller=\"ci\";",
        "author=\"Ana (ci)\";",
        // A text of a caller cannot look like a field.
        "reason=\"ticket 7\\\" status=500\";",
        "from=127.0.0.1:",
        "prefixes=\"/svc/web\";",
        "action=\"put\"",
        &format!("before={before};"),
        &format!("after={after};"),
    ] {
        assert!(lines[0].contains(part), "{part} in {}", lines[0]);
    }
    for (line, status, part) in [
        (1, 403, "prefixes=\"/svc /svc/web\";"),
        (2, 401, "caller=\"-\";"),
        (3, 403, "action=\"delete\""),
        (4, 412, "action=\"update\""),
        (5, 403, "action=\"create\""),
    ] {
        assert!(
            lines[line].contains("outcome=\"refused\"") && lines[line].contains(&format!("status={status};")),
            "{}",
            lines[line]
        );
        assert!(lines[line].contains(part) && lines[line].contains("after=-;"), "{part} in {}", lines[line]);
    }
}
