//! Writing: conditions, bodies, types, history.

use super::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const NS: &str = "/api/1/dtabs/ns";

#[tokio::test]
async fn a_namespace_is_made_changed_and_removed() {
    let server = Server::of(&[]).await;
    let made = server.send("POST", NS, &[DTAB], "/a => /b").await;
    assert_eq!((made.status, made.body.as_str()), (204, ""));
    assert_eq!(server.send("POST", NS, &[DTAB], "/a => /c").await.status, 409);
    let read = server.get(NS).await;
    assert_eq!((read.etag(), read.body.as_str()), (made.etag(), "[{\"prefix\":\"/a\",\"dst\":\"/b\"}]\n"));
    let matching = ("if-match", read.etag());
    let updated = server.send("PUT", NS, &[DTAB, matching], "/a => /c").await;
    assert_eq!(updated.status, 204);
    let stale = server.send("PUT", NS, &[DTAB, matching], "/a => /d").await;
    assert_eq!(stale.status, 412);
    assert!(stale.body.contains("read it again"), "{}", stale.body);
    let quoted = format!("\"{}\"", updated.etag());
    assert_eq!(server.send("PUT", NS, &[DTAB, ("if-match", &quoted)], "/a => /d").await.status, 204);
    assert_eq!(server.send("PUT", NS, &[DTAB, ("if-match", "*")], "/a => /e").await.status, 204);
    assert_eq!(server.send("PUT", NS, &[DTAB, ("if-match", "?")], "/a => /f").await.status, 400);
    assert_eq!(server.send("DELETE", NS, &[matching], "").await.status, 412, "an old version is not removed");
    assert_eq!(server.send("DELETE", NS, &[], "").await.status, 204);
    assert_eq!(server.send("DELETE", NS, &[], "").await.status, 404);
    for condition in [read.etag(), "*"] {
        let gone = server.send("PUT", NS, &[DTAB, ("if-match", condition)], "/a => /b").await;
        assert_eq!(gone.status, 404, "{condition}");
    }
    let again = server.put("ns", "/a => /b").await;
    assert_eq!(again.status, 204);
    assert_ne!(again.etag(), made.etag(), "versions are not used again");
}

/// Trap 2.
#[tokio::test]
async fn types_of_bodies() {
    let server = Server::of(&[]).await;
    let json = "[{\"prefix\":\"/a\",\"dst\":\"0.001 * /b & /c\"}]";
    for content_type in ["application/json", "application/json;charset=UTF-8", "Application/JSON ; x=y"] {
        assert_eq!(server.send("PUT", NS, &[("content-type", content_type)], json).await.status, 204, "{content_type}");
    }
    assert_eq!(server.get(NS).await.body, "[{\"prefix\":\"/a\",\"dst\":\"0.001*/b & /c\"}]\n");
    let plain = ("content-type", "text/plain; charset=utf-8");
    assert_eq!(server.send("PUT", NS, &[plain], " /a => /b ; # comment\n").await.status, 204);
    for method in ["PUT", "POST"] {
        let none = server.send(method, NS, &[], json).await;
        assert_eq!((none.status, none.body.as_str()), (400, "Invalid Content-Type \"\". "));
        let unknown = server.send(method, NS, &[("content-type", "text/yaml")], json).await;
        assert_eq!((unknown.status, unknown.body.as_str()), (400, "Invalid Content-Type \"text/yaml\". "));
        let bad = server.send(method, NS, &[DTAB], "/a => /b;\n/c => &").await;
        assert!(bad.status == 400 && bad.body.contains("expected but"), "{bad:?}");
        assert!(bad.body.contains("line 2, column 7, about entry 2"), "{bad:?}");
        let null = server.send(method, NS, &[("content-type", "application/json")], "[null]").await;
        assert!(null.status == 400 && null.body.starts_with("The dtab contains invalid dentries: [null]"), "{null:?}");
    }
    for name in ["a%20b", "a/b", "..", "", &"x".repeat(300)] {
        let target = format!("/api/1/dtabs/{name}");
        let reply = server.send("PUT", &target, &[DTAB], "/a => /b").await;
        assert_eq!(reply.status, if name.is_empty() { 200 } else { 400 }, "{name}: {}", reply.body);
    }
}

fn chunked(body: &str) -> String {
    let head = client::head("PUT", NS, &[DTAB, ("transfer-encoding", "chunked")], None);
    let chunks: String = body
        .as_bytes()
        .chunks((body.len() / 100).max(3))
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
        .collect();
    format!("{head}{chunks}0\r\n\r\n")
}

/// Trap 1.
#[tokio::test]
async fn no_framing_wipes_a_dtab() {
    let server = Server::of(&[("ns", "/keep => /me")]).await;
    let kept = "[{\"prefix\":\"/keep\",\"dst\":\"/me\"}]\n";
    let empty = client::raw(server.address, chunked("").as_bytes()).await;
    assert_eq!((empty.status, server.get(NS).await.body.as_str()), (400, kept), "{}", empty.body);
    let large = "x".repeat(body::MAX_BODY + 1);
    let declared = server.send("PUT", NS, &[DTAB], &large).await;
    assert_eq!((declared.status, server.get(NS).await.body.as_str()), (413, kept));
    let streamed = client::raw(server.address, chunked(&large).as_bytes()).await;
    assert_eq!((streamed.status, server.get(NS).await.body.as_str()), (413, kept));
    let mut cut = TcpStream::connect(server.address).await.expect("a connection");
    let half = client::head("PUT", NS, &[DTAB], Some(1000)) + "/a => /b";
    cut.write_all(half.as_bytes()).await.expect("it is sent");
    drop(cut);
    let whole = client::raw(server.address, chunked("/new => /one").as_bytes()).await;
    assert_eq!((whole.status, server.get(NS).await.body.as_str()), (204, "[{\"prefix\":\"/new\",\"dst\":\"/one\"}]\n"));
    let explicit = server.put("ns", "").await;
    assert_eq!((explicit.status, server.get(NS).await.body.as_str()), (204, "[]\n"), "Content-Length: 0 is meant");
    let comments = format!("/a => /b # {}", "x".repeat(4 << 20));
    assert_eq!(server.put("ns", &comments).await.status, 204);
}

/// Trap 4.
#[tokio::test]
async fn of_concurrent_writes_by_one_version_one_wins() {
    let server = Server::of(&[("ns", "/a => /0")]).await;
    let etag = server.get(NS).await.etag().to_owned();
    let mut writers = JoinSet::new();
    for i in 0..50 {
        let (at, etag) = (server.address, etag.clone());
        writers.spawn(async move {
            let dtab = format!("/a => /{i}");
            client::ask(at, "PUT", NS, &[DTAB, ("if-match", &etag)], Some(dtab.as_bytes())).await.status
        });
    }
    let statuses = writers.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 204).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 49, "{statuses:?}");
}

#[tokio::test]
async fn writes_are_remembered_with_who_and_why() {
    let server = Server::of(&[]).await;
    let by = [DTAB, ("l5d-author", "Zoë\u{202e} <zoe@example.com>"), ("l5d-reason", "ticket 7")];
    assert_eq!(server.send("POST", NS, &by, "/a => 0.001 * /b & /c").await.status, 204);
    let second = server.put("ns", "/a => /d").await;
    assert_eq!(server.send("DELETE", NS, &[("l5d-reason", "done")], "").await.status, 204);
    let history: serde_json::Value = serde_json::from_str(&server.get("/api/1/history/ns").await.body).expect("JSON");
    let list = history.as_array().expect("a list");
    assert_eq!(list.len(), 3, "{history}");
    assert_eq!((&list[0]["dtab"], &list[0]["reason"]), (&serde_json::Value::Null, &"done".into()));
    assert_eq!((&list[1]["version"], &list[1]["author"]), (&second.etag().into(), &serde_json::Value::Null));
    assert_eq!(list[2]["author"], "Zoë <zoe@example.com>");
    assert_eq!(list[2]["dtab"], serde_json::json!([{"prefix": "/a", "dst": "0.001*/b & /c"}]));
    let time = list[2]["time"].as_str().expect("a time");
    assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
    assert!(list[0]["version"].is_string());
    let one: serde_json::Value =
        serde_json::from_str(&server.get("/api/1/history/ns?limit=1").await.body).expect("JSON");
    assert_eq!(one[0], list[0]);
    assert_eq!(one.as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("/api/1/history/none").await.body, "[]\n");
}
