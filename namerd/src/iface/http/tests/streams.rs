//! Watches (trap 5).

use super::*;
use crate::storage::Note;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test]
async fn a_dtab_is_followed() {
    let server = Server::of(&[]).await;
    let mut watch = server.watch("/api/1/dtabs/ns?watch=true").await;
    assert_eq!((watch.head.status, watch.head.header("etag")), (200, None));
    assert_eq!(watch.head.header("transfer-encoding"), Some("chunked"));
    assert_eq!(watch.head.header("content-type"), Some("application/json"));
    server.put("ns", "/a => /b").await;
    assert_eq!(watch.next().await.as_deref(), Some("[{\"prefix\":\"/a\",\"dst\":\"/b\"}]\n"), "made later, appears");
    server.put("ns", "/a => /b").await;
    assert_eq!(watch.next().await.as_deref(), Some("[{\"prefix\":\"/a\",\"dst\":\"/b\"}]\n"), "another version");
    server.send("DELETE", "/api/1/dtabs/ns", &[], "").await;
    server.put("ns", "/a => /c").await;
    assert_eq!(watch.next().await.as_deref(), Some("[{\"prefix\":\"/a\",\"dst\":\"/c\"}]\n"), "deletion is silent");
    let mut text = Stream::open(server.address, "/api/1/dtabs/ns?watch=t", &[("accept", "text/plain")]).await;
    assert_eq!(text.head.header("content-type"), Some("text/plain"));
    assert_eq!(text.next().await.as_deref(), Some("/a=>/c\n"), "the first value comes at once");
}

#[tokio::test]
async fn closing_does_not_wait_for_a_first_request() {
    let server = Server::of(&[]).await;
    let mut silent = TcpStream::connect(server.address).await.expect("a connection");
    server.closing.send_replace(true);
    let mut bytes = [0; 16];
    let read = tokio::io::AsyncReadExt::read(&mut silent, &mut bytes);
    let read = tokio::time::timeout(SOON, read).await.expect("the end");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn the_list_and_names_are_followed() {
    let server = Server::of(&[("a", "/svc => /$/inet/127.0.0.1/1")]).await;
    let mut list = server.watch("/api/1/dtabs?watch=1").await;
    let mut tree = server.watch("/api/1/bind/a?path=/svc&watch=1&dtab=").await;
    let mut addr = server.watch("/api/1/addr/a?path=/$/inet/127.0.0.1/1&watch=1").await;
    let mut resolved = server.watch("/api/1/resolve/a?path=/svc&watch=1").await;
    let mut names = server.watch("/api/1/bound-names?watch=1").await;
    assert_eq!((tree.head.header("content-type"), addr.head.header("content-type")), (None, None));
    assert_eq!(list.next().await.as_deref(), Some("[\"a\"]\n"));
    assert_eq!(names.next().await.as_deref(), Some("[]\n"));
    assert!(tree.next().await.expect("a document").contains("/inet/127.0.0.1/1"));
    assert!(addr.next().await.expect("a document").contains("\"port\":1"));
    assert!(resolved.next().await.expect("a document").contains("\"port\":1"));
    server.put("a", "/other => /x; /svc => /$/inet/127.0.0.1/1").await;
    server.put("a", "/svc => /$/inet/127.0.0.1/2").await;
    assert!(tree.next().await.expect("a document").contains("/inet/127.0.0.1/2"), "an equal tree is not repeated");
    assert!(resolved.next().await.expect("a document").contains("\"port\":2"));
    server.put("b", "").await;
    assert_eq!(list.next().await.as_deref(), Some("[\"a\",\"b\"]\n"));
    server.send("DELETE", "/api/1/dtabs/a", &[], "").await;
    assert_eq!(list.next().await.as_deref(), Some("[\"b\"]\n"));
    assert_eq!(tree.next().await.as_deref(), Some("{\"type\":\"neg\"}\n"));
    assert_eq!(resolved.next().await.as_deref(), Some("{\"type\":\"neg\"}\n"));
}

#[tokio::test]
async fn streams_end_only_when_the_process_does() {
    let server = Server::of(&[("a", "")]).await;
    let mut watch = server.watch("/api/1/dtabs/a?watch=1").await;
    assert_eq!(watch.next().await.as_deref(), Some("[]\n"));
    server.closing.send_replace(true);
    assert_eq!(watch.next().await, None);
    server.has_watches(0).await;
}

#[tokio::test]
async fn a_thousand_idle_watchers_that_vanish_are_released() {
    let server = Server::of(&[]).await;
    let mut watchers = Vec::new();
    for i in 0..1000 {
        let route = ["dtabs/none?", "bind/none?path=/svc/x&", "addr/none?path=/%23/stuck&"][i % 3];
        watchers.push(server.watch(&format!("/api/1/{route}watch=1")).await);
    }
    server.has_watches(1000).await;
    watchers.clear();
    server.has_watches(0).await;
}

#[tokio::test]
async fn a_client_has_only_so_many_streams() {
    let params = HttpParams { watches_per_client: 2, ..HttpParams::default() };
    let server = Server::with(memory(&[]), Access::default(), params, "127.0.0.1:0").await;
    let first = server.watch("/api/1/dtabs/a?watch=1").await;
    let _second = server.watch("/api/1/dtabs?watch=1").await;
    let third = server.get("/api/1/dtabs?watch=1").await;
    assert_eq!((third.status, third.header("retry-after")), (429, Some("5")), "{third:?}");
    assert_eq!(server.get("/api/1/dtabs").await.status, 200);
    drop(first);
    server.has_watches(1).await;
    assert_eq!(server.watch("/api/1/dtabs?watch=1").await.head.status, 200);
}

/// Trap 12b and attack A8: what queues for a slow reader is bounded, and the last thing that it reads is the newest state.
#[tokio::test]
async fn a_slow_reader_gets_the_newest_state() {
    let store = memory(&[("a", "")]);
    let server = Server::with(store.clone(), Access::default(), HttpParams::default(), "127.0.0.1:0").await;
    let mut slow = TcpStream::connect(server.address).await.expect("a connection");
    let request = client::head("GET", "/api/1/dtabs/a?watch=1", &[("accept", "text/plain")], None);
    slow.write_all(request.as_bytes()).await.expect("it is sent");
    server.has_watches(1).await;
    let prefix = dtab::parse_prefix("/a").expect("a prefix");
    let filler =
        dtab::Dentry { prefix, dst: NameTree::Leaf(Path::from_labels(["x".repeat(200_000)]).expect("a path")) };
    for _ in 0..100 {
        store.put("a", Dtab::new(vec![filler.clone()]), Note::default()).await.expect("it is stored");
        tokio::task::yield_now().await;
    }
    server.put("a", "/last => /one").await;
    let mut all = Vec::with_capacity(1 << 24);
    let read = async {
        while !all.ends_with(b"/last=>/one\n\r\n") {
            assert!(tokio::io::AsyncReadExt::read_buf(&mut slow, &mut all).await.expect("bytes") > 0);
        }
    };
    tokio::time::timeout(SOON, read).await.expect("the newest state");
    assert!(all.len() < 12_000_000, "{} of 20 MB were queued", all.len());
}
