//! A link over a pipe, with a namerd at the other end that says what the test wants.

use super::*;
use tokio::io::DuplexStream;

/// The other end: frames, as they come.
struct Namerd {
    io: DuplexStream,
    frames: Frames,
}

impl Namerd {
    async fn hears(&mut self) -> Message {
        loop {
            if let Some(frame) = self.frames.frame().expect("a frame") {
                return Assembler::new(MAX_MESSAGE).accept(&frame).expect("a message").expect("no fragment");
            }
            assert!(self.io.read_buf(self.frames.buffer()).await.expect("bytes") > 0, "the link has ended");
        }
    }

    async fn says(&mut self, message: Message) {
        self.io.write_all(&message.frame()).await.expect("a link that reads");
    }

    /// The tag and the body of the next call.
    async fn called(&mut self) -> (u32, Vec<u8>) {
        match self.hears().await {
            Message::Tdispatch(tag, body) => (tag, body),
            other => panic!("{other:?} in place of a call"),
        }
    }
}

fn pipe() -> (Box<dyn Io>, Namerd) {
    let (ours, io) = tokio::io::duplex(1 << 20);
    (Box::new(ours), Namerd { io, frames: Frames::new(MAX_MESSAGE) })
}

fn probe() -> Message {
    Message::Rerr(1, "tinit check".into())
}

/// A link after the handshake, driven, and what it will have ended with.
async fn linked() -> (Arc<Link>, Namerd, tokio::task::JoinHandle<Arc<str>>) {
    let (io, mut namerd) = pipe();
    let opening = tokio::spawn(async move { Link::open(io, &Pings::default()).await });
    assert_eq!(namerd.hears().await, probe());
    namerd.says(probe()).await;
    assert_eq!(namerd.hears().await, Message::Tinit(1, 1));
    namerd.says(Message::Rinit(1, 1)).await;
    let (link, driven) = opening.await.expect("no panic").expect("a link");
    let link = Arc::new(link);
    let driving = link.clone();
    (link, namerd, tokio::spawn(async move { driving.drive(driven).await }))
}

/// A call under way.
fn calls(link: &Arc<Link>, body: &[u8]) -> tokio::task::JoinHandle<Result<Vec<u8>, CallError>> {
    let (link, body) = (link.clone(), body.to_vec());
    tokio::spawn(async move { link.call(body).await })
}

#[tokio::test]
async fn an_old_namerd_is_spoken_to_without_tinit() {
    let (io, mut namerd) = pipe();
    let opening = tokio::spawn(async move { Link::open(io, &Pings::default()).await });
    assert_eq!(namerd.hears().await, probe());
    namerd.says(Message::Rerr(1, "bad message".into())).await;
    let (link, driven) = opening.await.expect("no panic").expect("a link");
    let link = Arc::new(link);
    let driving = link.clone();
    tokio::spawn(async move { driving.drive(driven).await });
    let call = calls(&link, b"hello");
    assert_eq!(namerd.called().await, (2, b"hello".to_vec()));
    namerd.says(Message::Rdispatch(2, status::OK, b"hi".into())).await;
    assert_eq!(call.await.expect("no panic"), Ok(b"hi".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_fails_says_why() {
    let (io, _silent) = pipe();
    let error = Link::open(io, &Pings::default()).await.err();
    assert_eq!(error.as_deref(), Some("no answer to the handshake within 4s"));

    for (answers, expected) in [
        (vec![probe(), Message::Rerr(1, "no".into())], "namerd refuses the handshake: no"),
        (vec![probe(), Message::Rinit(1, 9)], "namerd answers the handshake with Rinit(1, 9)"),
    ] {
        let (io, mut namerd) = pipe();
        let opening = tokio::spawn(async move { Link::open(io, &Pings::default()).await.err() });
        for answer in answers {
            namerd.hears().await;
            namerd.says(answer).await;
        }
        assert_eq!(opening.await.expect("no panic").as_deref(), Some(expected));
    }

    let (io, mut namerd) = pipe();
    namerd.io.write_all(b"HTTP/1.1 400 Bad Request\r\n").await.expect("room");
    let error = Link::open(io, &Pings::default()).await.err().expect("an error");
    assert!(error.contains("larger than the limit"), "{error}");
}

#[tokio::test]
async fn replies_find_their_calls_in_any_order() {
    let (link, mut namerd, _driver) = linked().await;
    let first = calls(&link, b"a");
    assert_eq!(namerd.called().await, (2, b"a".to_vec()));
    let second = calls(&link, b"b");
    assert_eq!(namerd.called().await, (3, b"b".to_vec()));
    namerd.says(Message::Rdispatch(3, status::OK, b"B".into())).await;
    assert_eq!(second.await.expect("no panic"), Ok(b"B".to_vec()));
    namerd.says(Message::Rreq(2, status::OK, b"A".into())).await;
    assert_eq!(first.await.expect("no panic"), Ok(b"A".to_vec()));
}

#[tokio::test]
async fn a_refusal_is_of_one_call() {
    let (link, mut namerd, _driver) = linked().await;
    for (answer, text) in [
        (Message::Rdispatch(2, status::NACK, Vec::new()), "namerd takes no calls now"),
        (Message::Rdispatch(3, status::ERROR, b"broken".into()), "broken"),
        (Message::Rerr(4, "what?".into()), "what?"),
        (Message::Rdiscarded(5), "namerd dropped the call"),
    ] {
        let call = calls(&link, b"a");
        namerd.called().await;
        namerd.says(answer).await;
        assert_eq!(call.await.expect("no panic"), Err(CallError::Refused(text.into())));
    }
    assert!(link.is_open());
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_discarded_and_its_tag_kept_until_namerd_knows() {
    let (link, mut namerd, _driver) = linked().await;
    let call = calls(&link, b"a");
    assert_eq!(namerd.called().await.0, 2);
    call.abort();
    assert_eq!(namerd.hears().await, Message::Tdiscarded(2, "released".into()));
    link.state.lock().next = 2;
    let next = calls(&link, b"b");
    assert_eq!(namerd.called().await.0, 3);
    namerd.says(Message::Rdispatch(2, status::OK, b"late".into())).await;
    namerd.says(Message::Rdispatch(3, status::OK, b"B".into())).await;
    assert_eq!(next.await.expect("no panic"), Ok(b"B".to_vec()));
    link.state.lock().next = 2;
    let _next = calls(&link, b"c");
    assert_eq!(namerd.called().await.0, 2);
    assert_eq!(link.state.lock().calls.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_namerd_that_answers_no_ping_is_given_up_after_four_seconds() {
    let (link, mut namerd, driver) = linked().await;
    let begun = Instant::now();
    let call = calls(&link, b"a");
    namerd.called().await;
    for _ in 0..3 {
        assert_eq!(namerd.hears().await, Message::Tping(1));
        namerd.says(Message::Rping(1)).await;
    }
    assert_eq!(namerd.hears().await, Message::Tping(1));
    let reason = driver.await.expect("no panic");
    assert_eq!(&*reason, "namerd has not answered a ping within 4s");
    assert_eq!(begun.elapsed().as_secs(), 4 * 5 + 4);
    assert_eq!(call.await.expect("no panic"), Err(CallError::Lost(reason.clone())));
    assert_eq!(link.call(Vec::new()).await, Err(CallError::Lost(reason)));
    assert!(!link.is_open());
}

#[tokio::test]
async fn pings_of_namerd_are_answered_and_leases_ignored() {
    let (_link, mut namerd, _driver) = linked().await;
    namerd.says(Message::Tlease).await;
    namerd.says(Message::Tping(9)).await;
    assert_eq!(namerd.hears().await, Message::Rping(9));
}

#[tokio::test]
async fn a_namerd_that_drains_is_left_with_its_answer() {
    let (link, mut namerd, driver) = linked().await;
    let call = calls(&link, b"a");
    namerd.called().await;
    namerd.says(Message::Tdrain(1)).await;
    assert_eq!(namerd.hears().await, Message::Rdrain(1));
    assert_eq!(call.await.expect("no panic"), Err(CallError::Lost("namerd is about to end".into())));
    assert_eq!(&*driver.await.expect("no panic"), "namerd is about to end");
}

#[tokio::test]
async fn garbage_ends_the_link() {
    for (garbage, reason) in [
        (&b"\xff\xff\xff\xff"[..], "is larger than the limit"),
        (b"\0\0\0\x04\x02\0\0\x02", "the message ends early"),
        (b"\0\0\0\x04\x09\0\0\x02", "what only clients send"),
        (b"\0\0\0\x0a\x02\0\0\x02\0\0\0\0\0\0", "what only clients send"),
    ] {
        let (_link, mut namerd, driver) = linked().await;
        namerd.io.write_all(garbage).await.expect("room");
        let ended = driver.await.expect("no panic");
        assert!(ended.contains(reason), "{ended} in place of {reason}");
    }
}
