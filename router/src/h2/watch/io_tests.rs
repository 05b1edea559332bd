//! [`Watched`] below the real codec: honest traffic, and floods of raw frames over a real socket.

use super::*;
use crate::h2::detect::PREFACE;
use bytes::Bytes;
use h2::{Reason, client, server};
use std::future::poll_fn;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(120);

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let addr = listener.local_addr().expect("its address");
    let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

/// Serves a watched connection with the codec as a driver would: every request is echoed; on a verdict GOAWAY.
/// Returns how many requests it saw.
async fn serve(socket: TcpStream, limits: WatchLimits, handles: tokio::sync::oneshot::Sender<WatchHandle>) -> usize {
    let watched = Watched::new(socket, Side::Server, limits);
    let handle = watched.handle();
    assert!(handles.send(handle.clone()).is_ok());
    let mut builder = server::Builder::new();
    builder.max_pending_accept_reset_streams(10_000).max_local_error_reset_streams(None).max_header_list_size(8192);
    let mut connection = builder.handshake::<_, Bytes>(watched).await.expect("a preface");
    let (mut seen, mut told) = (0, false);
    let end = poll_fn(|cx| {
        loop {
            let polled = if told { connection.poll_closed(cx).map(|_| None) } else { connection.poll_accept(cx) };
            if !told && handle.verdict().is_some() {
                told = true;
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                continue;
            }
            match ready!(polled) {
                Some(Ok((request, respond))) => {
                    seen += 1;
                    tokio::task::spawn_local(echo(request, respond));
                }
                Some(Err(_)) | None => return Poll::Ready(()),
            }
        }
    });
    timeout(LIMIT, end).await.expect("the connection ends");
    seen
}

async fn echo(request: http::Request<h2::RecvStream>, mut respond: server::SendResponse<Bytes>) {
    let mut body = request.into_body();
    let Ok(mut stream) = respond.send_response(http::Response::new(()), false) else { return };
    while let Some(Ok(data)) = body.data().await {
        let _ = body.flow_control().release_capacity(data.len());
        if stream.send_data(data, false).is_err() {
            return;
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
}

/// One call of the codec's client: `size` bytes there and back, or cancelled when the answer begins.
async fn call(mut requests: client::SendRequest<Bytes>, size: usize, cancel: bool) {
    let request = http::Request::post("http://svc/echo").body(()).expect("a request");
    poll_fn(|cx| requests.poll_ready(cx)).await.expect("room for a stream");
    let (response, mut stream) = requests.send_request(request, false).expect("sent");
    stream.send_data(Bytes::from(vec![7; size]), !cancel).expect("sent");
    let mut body = response.await.expect("a response").into_body();
    if cancel {
        stream.send_reset(Reason::CANCEL);
        return;
    }
    let mut back = 0;
    while let Some(data) = body.data().await {
        let data = data.expect("data");
        back += data.len();
        body.flow_control().release_capacity(data.len()).expect("released");
    }
    assert_eq!(back, size);
}

/// Both ends are watched, and neither takes the other for a flood.
#[tokio::test]
async fn honest_traffic_passes_and_is_counted() {
    let work = async {
        let (near, far) = pair().await;
        let (handles, served_handle) = tokio::sync::oneshot::channel();
        let served = tokio::task::spawn_local(serve(far, WatchLimits::downstream(), handles));
        let watched = Watched::new(near, Side::Client, WatchLimits::upstream());
        let ours = watched.handle();
        let (requests, connection) = client::handshake(watched).await.expect("a handshake");
        let driver = tokio::task::spawn_local(connection);
        for round in 0..20 {
            let calls: Vec<_> = (0..20)
                .map(|n| tokio::task::spawn_local(call(requests.clone(), n * 300 + round, n % 4 == 3)))
                .collect();
            for call in calls {
                call.await.expect("a call");
            }
        }
        drop(requests);
        timeout(LIMIT, driver).await.expect("the client ends").expect("no panic").expect("no error");
        assert_eq!(timeout(LIMIT, served).await.expect("the server ends").expect("no panic"), 400);
        let theirs = served_handle.await.expect("a handle");
        assert_eq!((ours.verdict(), theirs.verdict()), (None, None));
        // One for each that was cancelled, and more for what came late on streams that the client had forgotten.
        assert!(ours.sent().resets >= 100, "{:?}", ours.sent());
        let bytes: u64 = (0..20).flat_map(|round| (0..20).filter(|n| n % 4 != 3).map(move |n| n * 300 + round)).sum();
        // And what was sent of the cancelled ones before they were.
        assert!(bytes <= theirs.sent().data_bytes, "{bytes}, {:?}", theirs.sent());
    };
    LocalSet::new().run_until(work).await;
}

/// Sends frames until the connection is over, then what the peer said at last: the error of its GOAWAY.
async fn attack(mut socket: TcpStream, begin: &[u8], bytes: &[u8]) -> Option<u32> {
    let (mut reader, mut writer) = socket.split();
    let bytes = bytes.repeat((16_384 / bytes.len()).max(1));
    let write = async {
        let _ = writer.write_all(&[&PREFACE[..], b"\0\0\0\x04\0\0\0\0\0", begin].concat()).await;
        // 100 MB at most.
        for _ in 0..100_000_000 / bytes.len() {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let mut said = Vec::new();
        let _ = (&mut reader).take(10_000_000).read_to_end(&mut said).await;
        said
    };
    let said =
        tokio::select! { said = read => said, () = async { write.await; std::future::pending().await } => vec![] };
    let mut rest = said.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = after.get(..length)?;
        if head[3] == 7 {
            return payload.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_be_bytes);
        }
        rest = &after[length..];
    }
    None
}

/// H2-2, H2-5 and H2-7 on the wire: the verdict, GOAWAY with ENHANCE_YOUR_CALM to the peer, and the end.
#[tokio::test]
async fn floods_are_answered_with_enhance_your_calm() {
    let get = b"\0\0\x09\x01\x05\0\0\0\x01\x82\x84\x86\x41\x04name".as_slice();
    let open = b"\0\0\x09\x01\x04\0\0\0\x01\x83\x84\x86\x41\x04name".as_slice();
    let endless = b"\0\0\x09\x01\x01\0\0\0\x01\x82\x84\x86\x41\x04name".as_slice();
    for (name, begin, flood) in [
        ("h2-control-flood", get, b"\0\0\x08\x06\0\0\0\0\0pingping".as_slice()),
        ("h2-control-flood", get, b"\0\0\0\x04\0\0\0\0\0"),
        ("h2-control-flood", get, b"\0\0\x05\x02\0\0\0\0\x09\0\0\0\0\0"),
        ("h2-control-flood", get, b"\0\0\x02\xbe\0\0\0\0\0hi"),
        ("h2-window-updates", get, b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"),
        ("h2-empty-frames", open, b"\0\0\0\0\0\0\0\0\x01"),
        ("h2-continuation-flood", endless, b"\0\0\0\x09\0\0\0\0\x01"),
    ] {
        let work = async {
            let (near, far) = pair().await;
            let (handles, handle) = tokio::sync::oneshot::channel();
            // The codec has limits of its own for some of these; ours are met first.
            let limits = WatchLimits::downstream().sized_for(8192);
            let served = tokio::task::spawn_local(serve(far, limits, handles));
            let error = timeout(LIMIT, attack(near, begin, flood)).await.expect("the attack ends");
            assert!(served.await.expect("no panic") <= 1, "{name}");
            let handle = handle.await.expect("a handle");
            assert_eq!(handle.verdict().map(|flood| flood.what), Some(name));
            assert_eq!((error, handle.sent().goaways), (Some(11), 1), "{name}");
        };
        LocalSet::new().run_until(work).await;
    }
}

/// H2-2: of 100,000 requests that are reset at once, few reach who serves them.
#[tokio::test]
async fn a_rapid_reset_reaches_few() {
    let work = async {
        let (near, far) = pair().await;
        let (handles, handle) = tokio::sync::oneshot::channel();
        let served = tokio::task::spawn_local(serve(far, WatchLimits::downstream(), handles));
        let mut flood = Vec::new();
        for stream in (1u32..200_000).step_by(2) {
            for (head, body) in
                [(b"\0\0\x09\x01\x05", &b"\x82\x84\x86\x41\x04name"[..]), (b"\0\0\x04\x03\0", b"\0\0\0\x08")]
            {
                flood.extend_from_slice(head);
                flood.extend_from_slice(&stream.to_be_bytes());
                flood.extend_from_slice(body);
            }
        }
        let error = timeout(LIMIT, attack(near, &[], &flood)).await.expect("the attack ends");
        let seen = served.await.expect("no panic");
        let handle = handle.await.expect("a handle");
        assert_eq!(handle.verdict().map(|flood| flood.what), Some("h2-rapid-reset"));
        assert_eq!(error, Some(11));
        // As many as may come at once, and what the rate adds on a slow machine.
        assert!(seen <= 20_000, "{seen}");
    };
    LocalSet::new().run_until(work).await;
}
