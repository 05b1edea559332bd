//! Frames through the filter, in pieces of all sizes, and an independent encoder as the oracle.

use super::*;
use proptest::prelude::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What becomes of `bytes` after the preface when they arrive `step` at a time.
fn filtered(bytes: &[u8], step: usize) -> (Vec<u8>, Result<(), Reason>) {
    let (mut frames, mut incoming, mut out) = (Frames::new(), BytesMut::new(), BytesMut::new());
    frames.pass(&mut BytesMut::from(PREFACE), &mut BytesMut::new()).expect("a preface");
    for part in bytes.chunks(step) {
        incoming.put_slice(part);
        loop {
            let mut checked = BytesMut::new();
            let passed = frames.pass(&mut incoming, &mut checked);
            out.put_slice(&checked);
            match passed {
                Err(reason) => return (out.to_vec(), Err(reason)),
                Ok(()) if checked.is_empty() => break,
                Ok(()) => {}
            }
        }
    }
    (out.to_vec(), Ok(()))
}

/// The block that a Linkerd 1 router begins a stream with: `:authority` is kept in the table with an empty value.
fn linkerd() -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x41, 0x00];
    for (name, value) in [(&b":path"[..], &b"/x"[..]), (b"content-type", b"application/grpc+proto")] {
        let mut header = BytesMut::new();
        hpack::encode(name, value, &mut header);
        header[0] = 0x40;
        block.extend(&header);
    }
    block
}

fn expected() -> Vec<u8> {
    let mut block = BytesMut::new();
    let headers =
        [(":method", "POST"), (":scheme", "http"), (":path", "/x"), ("content-type", "application/grpc+proto")];
    headers.iter().for_each(|(name, value)| hpack::encode(name.as_bytes(), value.as_bytes(), &mut block));
    block.to_vec()
}

#[test]
fn an_empty_authority_is_left_out_and_all_else_passes_unchanged() {
    let settings = frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]);
    let data = frame(DATA, END_STREAM, 1, b"hello");
    let again = [0x83, 0x86, 0xc0, 0xbf, 0xbe];
    let bytes = [
        settings.clone(),
        frame(HEADERS, END_HEADERS, 1, &linkerd()),
        data.clone(),
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &again),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9]),
    ]
    .concat();
    let wanted = [
        settings,
        frame(HEADERS, END_HEADERS, 1, &expected()),
        data,
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &expected()),
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9]),
    ]
    .concat();
    for step in [1, 2, 7, 9, 10, bytes.len()] {
        assert_eq!(filtered(&bytes, step), (wanted.clone(), Ok(())), "{step} at a time");
    }
}

#[test]
fn padding_priority_and_continuations_are_understood() {
    let (block, priority) = (linkerd(), [0, 0, 0, 0, 16]);
    let padded = [&[3][..], &priority, &block[..4], &[0; 3]].concat();
    let bytes = [
        frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, &padded),
        frame(CONTINUATION, 0, 1, &block[4..9]),
        frame(CONTINUATION, END_HEADERS, 1, &block[9..]),
    ]
    .concat();
    let wanted = frame(HEADERS, END_HEADERS | END_STREAM | PRIORITY, 1, &[&priority[..], &expected()].concat());
    assert_eq!(filtered(&bytes, 4), (wanted, Ok(())));
    let full = [(":authority", "a")];
    let mut block = BytesMut::new();
    full.iter().for_each(|(name, value)| hpack::encode(name.as_bytes(), value.as_bytes(), &mut block));
    let bytes = frame(HEADERS, END_HEADERS, 1, &block);
    assert_eq!(filtered(&bytes, 100), (bytes.clone(), Ok(())), "an authority that says something stays");
}

#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let open = frame(HEADERS, 0, 1, &linkerd());
    let flood: Vec<u8> = (0..9).flat_map(|_| frame(CONTINUATION, 0, 1, &[])).collect();
    let large: Vec<u8> = (0..3).flat_map(|_| frame(CONTINUATION, 0, 1, &[0; MAX_PAYLOAD])).collect();
    let mut seed = BytesMut::new();
    hpack::encode(b"a", &[b'x'; 3900], &mut seed);
    seed[0] = 0x40;
    let bomb = [&seed[..], &[0xbe; 12_000]].concat();
    for (bytes, reason) in [
        (vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1], Reason::FRAME_SIZE_ERROR),
        (frame(CONTINUATION, END_HEADERS, 1, &[0x82]), Reason::PROTOCOL_ERROR),
        ([&open[..], &frame(DATA, 0, 1, &[])].concat(), Reason::PROTOCOL_ERROR),
        ([&open[..], &frame(CONTINUATION, 0, 3, &[])].concat(), Reason::PROTOCOL_ERROR),
        ([&open[..], &flood].concat(), Reason::ENHANCE_YOUR_CALM),
        ([&open[..], &large].concat(), Reason::ENHANCE_YOUR_CALM),
        (frame(HEADERS, END_HEADERS, 1, &bomb), Reason::ENHANCE_YOUR_CALM),
        (frame(HEADERS, END_HEADERS, 1, &[0x80]), Reason::COMPRESSION_ERROR),
        (frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x82]), Reason::PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | PADDED, 1, &[]), Reason::PROTOCOL_ERROR),
        (frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4]), Reason::PROTOCOL_ERROR),
    ] {
        let (_, passed) = filtered(&bytes, 1000);
        assert_eq!(passed, Err(reason), "{:x?}", &bytes[..bytes.len().min(20)]);
    }
}

#[test]
fn floods_are_ended_and_busy_clients_are_not() {
    for (kind, payload) in [(6, &[0; 8][..]), (4, &[]), (2, &[0; 5]), (0xfa, b"?"), (DATA, &[])] {
        let flood = frame(kind, 0, u32::from(kind == DATA || kind == 2), payload).repeat(3000);
        assert_eq!(filtered(&flood, 16_384).1, Err(Reason::ENHANCE_YOUR_CALM), "frame {kind}");
    }
    let reset = [frame(HEADERS, END_HEADERS, 1, &linkerd()), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    assert_eq!(filtered(&reset.repeat(15_000), 16_384).1, Ok(()), "15,000 streams begun and given up");
    assert_eq!(filtered(&reset.repeat(60_000), 16_384).1, Err(Reason::ENHANCE_YOUR_CALM));
}

#[test]
fn a_bomb_waits_in_short_pieces() {
    let mut seed = BytesMut::new();
    hpack::encode(b"a", &[b'x'; 3900], &mut seed);
    seed[0] = 0x40;
    let bytes =
        [frame(HEADERS, END_HEADERS, 1, &seed), frame(HEADERS, END_HEADERS, 3, &[0xbe; 4]).repeat(1000)].concat();
    let (mut frames, mut checked) = (Frames::new(), BytesMut::new());
    frames.pass(&mut BytesMut::from(PREFACE), &mut BytesMut::new()).expect("a preface");
    frames.pass(&mut BytesMut::from(&bytes[..]), &mut checked).expect("frames");
    assert!(checked.len() < MAX_CHECKED + 2 * MAX_PAYLOAD, "{}", checked.len());
}

/// The h2 library as the client: its encoder knows nothing of ours, keeps a table and uses Huffman's code.
#[tokio::test]
async fn an_independent_encoder_is_understood() {
    let (client, server) = duplex(50_000);
    let (filter, verdict) = Filter::new(server, b"", Bytes::new());
    let serving = tokio::spawn(async move {
        let mut connection = h2::server::handshake(filter).await.expect("a client");
        while let Some(stream) = connection.accept().await {
            let (request, mut respond) = stream.expect("a request");
            let mut response = http::Response::new(());
            *response.headers_mut() = request.headers().clone();
            response.headers_mut().insert("path", request.uri().path().parse().expect("a value"));
            respond.send_response(response, true).expect("a response");
        }
    });
    let (requests, connection) = h2::client::handshake(client).await.expect("a server");
    tokio::spawn(connection);
    fastrand::seed(7);
    for i in 0..500 {
        let value: String = (0..fastrand::usize(0..60)).map(|_| fastrand::char(' '..='~')).collect();
        let (path, value) = (format!("/{}", i % 7), value.trim().to_owned());
        let request = http::Request::get(format!("http://a{path}"))
            .header(format!("x-{}", fastrand::u8(0..40)), &value)
            .header("x-all", "always")
            .body(())
            .expect("a request");
        let sent = request.headers().clone();
        let (response, _) =
            requests.clone().ready().await.expect("room").send_request(request, true).expect("a stream");
        let mut got = response.await.expect("a response").headers().clone();
        assert_eq!(got.remove("path").expect("a path"), path.as_str());
        assert_eq!(got, sent);
    }
    drop(requests);
    assert_eq!(*verdict.borrow(), None);
    serving.abort();
}

/// Without the filter the library resets the stream of a Linkerd 1 router: why there is a filter.
#[tokio::test]
async fn the_library_alone_refuses_what_the_filter_lets_through() {
    let bytes = [PREFACE, &frame(4, 0, 0, &[]), &frame(HEADERS, END_HEADERS | END_STREAM, 1, &linkerd())].concat();
    let (mut plain, server) = duplex(50_000);
    plain.write_all(&bytes).await.expect("room");
    let refused = tokio::spawn(async move {
        let mut connection = h2::server::handshake(server).await.expect("a client");
        connection.accept().await.map(|stream| stream.is_ok())
    });
    // RST_STREAM of stream 1 with PROTOCOL_ERROR.
    let wanted = frame(RST_STREAM, 0, 1, &[0, 0, 0, 1]);
    let mut seen = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), async {
        while !seen.windows(wanted.len()).any(|window| window == wanted) {
            plain.read_buf(&mut seen).await.expect("bytes");
        }
    })
    .await
    .expect("a reset");
    refused.abort();

    let (mut through, server) = duplex(50_000);
    through.write_all(&bytes).await.expect("room");
    let (filter, _verdict) = Filter::new(server, b"", Bytes::new());
    let mut connection = h2::server::handshake(filter).await.expect("a client");
    let (request, _) = connection.accept().await.expect("a stream").expect("a request");
    assert_eq!((request.uri().path(), request.uri().authority()), ("/x", None));
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2000), step in 1..100_usize) {
        let _ = filtered(&bytes, step);
    }

    /// Frames with sensible heads and any payloads; what passes is made of whole frames within the limits.
    #[test]
    fn what_passes_is_frames(
        frames in proptest::collection::vec((0..11_u8, any::<u8>(), 0..4_u32, proptest::collection::vec(any::<u8>(), 0..60)), 0..30),
        step in 1..100_usize,
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload)).collect();
        let (out, passed) = filtered(&bytes, step);
        let mut rest = &out[..];
        while let Some(head) = rest.first_chunk::<HEAD>() {
            let head = Head::of(head);
            prop_assert!(head.length <= MAX_PAYLOAD && head.kind != CONTINUATION);
            prop_assert!(head.kind != HEADERS || head.flags & (END_HEADERS | PADDED) == END_HEADERS);
            let whole = HEAD + head.length;
            prop_assert!(whole <= rest.len() || passed.is_err());
            rest = &rest[whole.min(rest.len())..];
        }
        prop_assert_eq!(filtered(&bytes, bytes.len().max(1)).1.is_ok(), passed.is_ok(), "pieces make no difference");
    }
}
