//! Servers that are not what the config says, or lie: nothing that they answer is taken for an empty store.

use crate::help::{discovery, dtab};
use dtab::State;
use namerd::storage::consul::{self, ConsulParams};
use namerd::storage::etcd::{self, EtcdApi, EtcdParams};
use namerd::storage::{Endpoint, Note, Store, StoreError};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const ANSWERS: [&str; 16] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{\"node\":null}",
    "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"kvs\":[{}]}",
    "HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{\"header\":{\"revision\":\"x\"}}",
    "HTTP/1.1 200 OK\r\nContent-Length: 46\r\n\r\n{\"header\":{\"revision\":\"1\"},\"kvs\":[{\"key\":\"!\"}]",
    "HTTP/1.1 200 OK\r\nX-Consul-Index: -1\r\nX-Etcd-Index: 1e9\r\nContent-Length: 4\r\n\r\ntrue",
    "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n<html>Please log in</ht",
    "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found",
    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "\0\0\0\0\0\0\0\0",
];

/// Answers everything with this.
async fn serve(answer: &'static str) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = vec![0; 65536];
                while matches!(socket.read(&mut bytes).await, Ok(1..)) {
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    port
}

async fn learns_nothing(store: Arc<dyn Store>, answer: &str) {
    let what = format!("{} {answer:?}", store.kind());
    let read = store.read("ns").await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{what}: {read:?}");
    let put = store.put("ns", dtab("/a => /b"), Note::default()).await;
    assert!(matches!(put, Err(StoreError::Unavailable(_))), "{what}: {put:?}");
    let delete = store.delete("ns", None, Note::default()).await;
    assert!(matches!(delete, Err(StoreError::Unavailable(_))), "{what}: {delete:?}");
    let (mut live, mut list) = (store.observe("ns"), store.list());
    let limit = Duration::from_secs(20);
    let live = tokio::time::timeout(limit, live.settled()).await.expect("a reason");
    assert!(matches!(live, State::Failed(_)), "{what}: {live:?}");
    let list = tokio::time::timeout(limit, list.settled()).await.expect("a reason");
    assert!(matches!(list, State::Failed(_)), "{what}: {list:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_learned_from_junk() {
    for answer in ANSWERS {
        let endpoints = vec![Endpoint::plain("127.0.0.1", serve(answer).await)];
        for api in [EtcdApi::V2, EtcdApi::V3, EtcdApi::Auto] {
            let params = EtcdParams { api, ..EtcdParams::new(endpoints.clone()) };
            learns_nothing(etcd::open(params, &discovery()), answer).await;
        }
        learns_nothing(consul::open(ConsulParams::new(endpoints), &discovery()), answer).await;
    }
}
