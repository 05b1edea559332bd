//! How a proxy copies both ways in one task: the request's body up while the response comes down.

use bytes::Bytes;
use http::{HeaderMap, Method};
use http1::{
    BodyDecoder, BodyEncoder, BodyFrame, Conn, Limits, ResponseHead, encode_request_head, encode_response_head,
};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

/// One direction: a body read from one connection and written to another, one chunk in flight.
struct Copy {
    decoder: BodyDecoder,
    encoder: BodyEncoder,
}

impl Copy {
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Conn<DuplexStream>, to: &mut Conn<DuplexStream>) -> Poll<()> {
        loop {
            ready!(to.poll_flush(cx)).unwrap();
            if self.encoder.is_finished() {
                return Poll::Ready(());
            }
            match ready!(from.poll_body(cx, &mut self.decoder)).unwrap() {
                Some(BodyFrame::Data(data)) => to.queue_body(&mut self.encoder, data).unwrap(),
                Some(BodyFrame::Trailers(trailers)) => self.encoder.finish(Some(&trailers), to.out()).unwrap(),
                None => self.encoder.finish(None, to.out()).unwrap(),
            }
        }
    }
}

fn forward(head: &ResponseHead, client: &mut Conn<DuplexStream>) -> Option<Copy> {
    let reason = head.reason.as_deref();
    let (status, version) = (head.status, head.version);
    encode_response_head(client.out(), status, reason, version, &head.headers, head.body, true, head.content_length);
    let interim = head.status.is_informational();
    (!interim).then(|| Copy { decoder: BodyDecoder::new(head.body), encoder: BodyEncoder::new(head.body) })
}

async fn proxy(client: DuplexStream, upstream: DuplexStream) {
    let (mut client, mut upstream) = (Conn::new(client), Conn::new(upstream));
    let limits = Limits::default();
    let head = client.read_request(&limits, HeaderMap::new()).await.unwrap();
    encode_request_head(upstream.out(), &head.method, &head.target, head.version, &head.headers, head.body);
    let mut up = Copy { decoder: BodyDecoder::new(head.body), encoder: BodyEncoder::for_request(head.body) };
    let mut down: Option<Copy> = None;
    let mut recycled = HeaderMap::new();
    poll_fn(|cx| {
        let sent = up.poll(cx, &mut client, &mut upstream).is_ready();
        loop {
            match &mut down {
                Some(copy) => {
                    ready!(copy.poll(cx, &mut upstream, &mut client));
                    return if sent { Poll::Ready(()) } else { Poll::Pending };
                }
                None => {
                    let got = ready!(upstream.poll_response(cx, &limits, &Method::POST, &mut recycled)).unwrap();
                    down = forward(&got, &mut client);
                    let _ = client.poll_flush(cx).map(Result::unwrap);
                }
            }
        }
    })
    .await;
}

/// An echo server that answers chunk by chunk while the request is still being sent, through pipes of 100 bytes.
#[tokio::test]
async fn an_echo_streams_both_ways() {
    let (mut user, client) = duplex(100);
    let (upstream, server) = duplex(100);
    let proxied = tokio::spawn(proxy(client, upstream));
    let served = tokio::spawn(async move {
        let mut conn = Conn::new(server);
        let head = conn.read_request(&Limits::default(), HeaderMap::new()).await.unwrap();
        assert!(head.expect_continue);
        conn.out().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
        conn.out().extend_from_slice(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let mut decoder = BodyDecoder::new(head.body);
        let mut encoder = BodyEncoder::new(http1::BodyLength::Chunked);
        while let Some(BodyFrame::Data(data)) = conn.next_body(&mut decoder).await.unwrap() {
            conn.queue_body(&mut encoder, data).unwrap();
            conn.flush().await.unwrap();
        }
        let trailers = [("sum", "1")].map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).into_iter().collect();
        encoder.finish(Some(&trailers), conn.out()).unwrap();
        conn.flush().await.unwrap();
    });
    user.write_all(b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 40000\r\n\r\n").await.unwrap();
    let (mut read, mut write) = tokio::io::split(user);
    let body: Bytes = (0..40_000u32).map(|i| (i / 7) as u8).collect();
    let sent = body.clone();
    let writer = tokio::spawn(async move { write.write_all(&sent).await.unwrap() });
    let mut answer = vec![];
    let reader = tokio::spawn(async move {
        let mut piece = [0; 512];
        while !answer.ends_with(b"0\r\nsum: 1\r\n\r\n") {
            let n = read.read(&mut piece).await.unwrap();
            assert!(n > 0);
            answer.extend_from_slice(&piece[..n]);
        }
        answer
    });
    let answer = reader.await.unwrap();
    writer.await.unwrap();
    proxied.await.unwrap();
    served.await.unwrap();
    let heads = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(&answer[..heads.len()], heads);
    let chunks = &answer[heads.len()..];
    let (data, trailers, rest) = crate::body::run(http1::BodyLength::Chunked, chunks, 999, 8192).unwrap();
    assert!(data == body);
    assert_eq!(trailers.unwrap()["sum"], "1");
    assert!(rest.is_empty());
}
