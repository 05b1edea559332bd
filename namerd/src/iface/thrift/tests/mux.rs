//! Long polls, stamps, discards, pings and draining over mux.

use super::*;
use namers::thrift::messages::{AddrReply, DelegateReq, Delegation, DtabRef};
use namers::thrift::{convert, delegation};

#[tokio::test(start_paused = true)]
async fn a_poll_is_held_until_there_is_news() {
    let server = server();
    let (mut client, _task) = server.connect();
    client.binds(2, b"", "/svc/web").await;
    client.hears_nothing().await;
    server.world.binds("web", "/#/test/a");
    let (first, id) = client.bound(2).await;
    assert_eq!((first.len(), id.as_str()), (8, "/#/test/a"));

    client.binds(2, &first, "/svc/web").await;
    client.hears_nothing().await;
    server.world.binds("web", "/#/test/a");
    client.hears_nothing().await;
    server.world.binds("web", "/#/test/b");
    let (second, id) = client.bound(2).await;
    assert_eq!(id, "/#/test/b");
    assert_ne!(first, second);

    // Whoever has seen something else, or another namerd's answer, is told at once.
    for stamp in [&b""[..], &first, &[0; 8], b"foreign"] {
        client.binds(3, stamp, "/svc/web").await;
        assert_eq!(client.bound(3).await, (second.clone(), "/#/test/b".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn what_changed_between_two_polls_is_not_missed() {
    let server = server();
    server.world.binds("web", "/#/test/0");
    let (mut client, _task) = server.connect();
    let mut stamp = Stamp::new();
    for round in 0..20 {
        client.binds(2, &stamp, "/svc/web").await;
        let (next, id) = client.bound(2).await;
        assert_eq!(id, format!("/#/test/{round}"));
        assert_ne!(next, stamp);
        stamp = next;
        server.world.binds("web", &format!("/#/test/{}", round + 1));
        // Long enough for what nobody reads elsewhere to be given up.
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_that_stays_keeps_its_stamp_between_polls() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    let (mut client, _task) = server.connect();
    client.binds(2, b"", "/svc/web").await;
    let (stamp, _) = client.bound(2).await;
    tokio::time::sleep(Duration::from_secs(500)).await;
    // The server has asked meanwhile whether anybody is there and then closed: the observation is the interface's.
    let (mut client, _task) = server.connect();
    client.binds(2, &stamp, "/svc/web").await;
    client.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_a_value_too() {
    let server = server();
    let (mut client, _task) = server.connect();
    of(&server.world.trees, "web").publish(State::Failed("no registry".into()));
    client.binds(2, b"old", "/svc/web").await;
    let failure = client.answer::<Bound>(2).await.expect_err("a failure");
    assert_eq!(failure.reason, "no registry");
    assert_eq!((failure.name, failure.ns), (Some(name(b"old", "/svc/web")), Some("ns".into())));
    server.world.binds("web", "/#/test/a");
    tokio::time::sleep(Duration::from_secs(10)).await;
    client.binds(2, b"old", "/svc/web").await;
    assert_eq!(client.bound(2).await.1, "/#/test/a");
}

#[tokio::test(start_paused = true)]
async fn addresses_have_these_states() {
    let server = server();
    let (mut client, _task) = server.connect();
    let live = of(&server.world.addrs, "/#/test/a");
    client.calls(2, "addr", &addr(b"", "/#/test/a")).await;
    live.publish(State::Ok(Addr::Pending));
    client.hears_nothing().await;
    let mut stamp = Stamp::new();
    let mut facts = dtab::Address::new(([10, 0, 0, 1], 80).into());
    facts.weight = 0.125;
    facts.meta.insert("nodeName".into(), "7".into());
    for state in [Addr::Neg, Addr::bound([]), Addr::Bound(dtab::AddrSet::new([facts]))] {
        live.publish(State::Ok(state.clone()));
        let reply: AddrReply = client.answer(2).await.expect("addresses");
        assert_eq!(convert::read_addr(&reply), Ok(state));
        stamp = reply.stamp;
        client.calls(2, "addr", &addr(&stamp, "/#/test/a")).await;
    }
    // What was known stays.
    live.publish(State::Ok(Addr::failed("no answer")));
    client.hears_nothing().await;
    of(&server.world.addrs, "/#/test/b").publish(State::Ok(Addr::failed("no answer")));
    client.calls(3, "addr", &addr(&stamp, "/#/test/b")).await;
    let failure = client.answer::<AddrReply>(3).await.expect_err("a failure");
    assert_eq!((failure.reason.as_str(), failure.ns), ("no answer", None));
    assert_eq!(failure.name, Some(name(&stamp, "/#/test/b")));
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_not_there_is_an_empty_dtab() {
    let server = server();
    let (mut client, _task) = server.connect();
    client.calls(2, "dtab", &dtab_of(b"", "new")).await;
    client.hears_nothing().await;
    of(&server.world.dtabs, "new").publish(State::Ok(None));
    let absent: DtabRef = client.answer(2).await.expect("a dtab");
    assert_eq!(absent.dtab, "");
    client.calls(2, "dtab", &dtab_of(&absent.stamp, "new")).await;
    server.world.stores("new", "/a => 2 * /b & /c", "1");
    let stored: DtabRef = client.answer(2).await.expect("a dtab");
    assert_eq!(stored.dtab, "/a=>2.00*/b & /c");
    client.calls(2, "dtab", &dtab_of(&stored.stamp, "new")).await;
    server.world.stores("new", "/a => 2 * /b & /c", "2");
    client.hears_nothing().await;
    of(&server.world.dtabs, "new").publish(State::Ok(None));
    assert_eq!(client.answer::<DtabRef>(2).await.expect("a dtab").dtab, "");
}

#[tokio::test(start_paused = true)]
async fn stamps_are_of_one_sequence_that_no_other_process_has() {
    let (mut seen, mut bases) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..3 {
        let server = server();
        server.world.binds("web", "/#/test/a");
        of(&server.world.addrs, "/#/test/a").publish(State::Ok(Addr::Neg));
        let (mut client, _task) = server.connect();
        client.binds(2, b"", "/svc/web").await;
        let mut stamps = vec![client.bound(2).await.0];
        client.calls(2, "addr", &addr(b"", "/#/test/a")).await;
        stamps.push(client.answer::<AddrReply>(2).await.expect("addresses").stamp);
        client.calls(2, "dtab", &dtab_of(b"", "ns")).await;
        stamps.push(client.answer::<DtabRef>(2).await.expect("a dtab").stamp);
        let numbers: Vec<u64> =
            stamps.iter().map(|stamp| u64::from_be_bytes(stamp[..].try_into().expect("8"))).collect();
        assert!(numbers.windows(2).all(|pair| pair[1].wrapping_sub(pair[0]) < 100), "{numbers:?}");
        bases.insert(numbers[0] >> 20);
        seen.extend(numbers);
    }
    assert_eq!((seen.len(), bases.len()), (9, 3));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_answered_says_why() {
    let server = server();
    let (mut client, _task) = server.connect();
    let exception = |body: &[u8]| call::read_reply::<Bound, Failure>(body).expect_err("an exception").to_string();
    for (method, request, text) in [
        ("bind", BindReq { dtab: "/a => ".into(), ..bind(b"", "/svc/web") }.encode(), "Internal error processing bind"),
        ("bond", bind(b"", "/svc/web").encode(), "Invalid method name: 'bond'"),
        ("bind", b"\x0c\0\x02\x0b\0\x01\x7f\xff\xff\xff".to_vec(), "the message ends early"),
        ("delegate", b"\0".to_vec(), "the name to explain is missing"),
    ] {
        let mut body = call::write_call(method, &AddrReq::default());
        let head = 12 + method.len();
        body.truncate(head);
        body.extend([12, 0, 1]);
        body.extend(request);
        body.push(0);
        client.says(Message::Tdispatch(2, body)).await;
        let Message::Rdispatch(2, status::OK, reply) = client.hears().await else { panic!("no reply") };
        let said = exception(&reply);
        assert!(said.contains(text), "{said} in place of {text}");
    }
    client.binds(2, b"", "/").await;
    assert_eq!(client.answer::<Bound>(2).await.expect_err("a failure").reason, "empty path");
    client.calls(2, "addr", &addr(b"", "/")).await;
    assert_eq!(client.answer::<AddrReply>(2).await.expect_err("a failure").reason, "empty path");
}

#[tokio::test(start_paused = true)]
async fn explaining_is_answered_once() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    of(&server.world.addrs, "/#/test/a").publish(State::Ok(Addr::Neg));
    let (mut client, _task) = server.connect();
    let question = delegation::question("/x => /svc".into(), "ns".into(), path("/x/web"));
    client.calls(2, "delegate", &question).await;
    let answer: Delegation = client.answer(2).await.expect("an explanation");
    assert_eq!(answer.stamp, [0, 0, 0, 0, 0, 0, 0, 1]);
    let tree = delegation::read(&answer.tree).expect("a tree");
    let dtab::Delegation::Delegate(svc) = tree.node else { panic!("{tree:?}") };
    assert_eq!((svc.path.as_str(), svc.dentry.expect("a dentry").to_string()), ("/svc/web", "/x=>/svc".into()));

    let again =
        DelegateReq { delegation: Delegation { stamp: answer.stamp, ..question.delegation.clone() }, ..question };
    client.calls(2, "delegate", &again).await;
    client.hears_nothing().await;
    let complex = Delegation { stamp: Stamp::new(), tree: delegation::write(&explained()), ns: "ns".into() };
    client.calls(3, "delegate", &DelegateReq { dtab: String::new(), delegation: complex }).await;
    assert_eq!(client.answer::<Delegation>(3).await.expect_err("a failure").reason, "Delegation too complex");
}

fn explained() -> dtab::DelegateTree {
    dtab::DelegateTree { path: "/a".into(), dentry: None, node: dtab::Delegation::Neg }
}

impl Server {
    /// How many polls read each observation of a tree.
    fn readers(&self) -> Vec<usize> {
        self.interface.calls.readers()
    }
}

#[tokio::test(start_paused = true)]
async fn a_discarded_poll_is_freed() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    let (mut client, task) = server.connect();
    client.binds(2, b"", "/svc/web").await;
    let (stamp, _) = client.bound(2).await;
    for tag in 2..102 {
        client.binds(tag, &stamp, "/svc/web").await;
    }
    client.says(Message::Tping(1)).await;
    assert_eq!(client.hears().await, Message::Rping(1));
    assert_eq!(server.readers(), [100]);
    for tag in 2..102 {
        client.says(Message::Tdiscarded(tag, "released".into())).await;
        assert_eq!(client.hears().await, Message::Rdiscarded(tag));
    }
    // Nobody knows this tag: its reply is on its way already.
    client.says(Message::Tdiscarded(7, "released".into())).await;
    client.says(Message::Tping(1)).await;
    assert_eq!(client.hears().await, Message::Rping(1));
    assert_eq!(server.readers(), [0]);
    assert_eq!(server.interface.room.available_permits(), MAX_CALLS);
    client.binds(2, &stamp, "/svc/web").await;
    client.says(Message::Tping(1)).await;
    assert_eq!(client.hears().await, Message::Rping(1));
    assert_eq!(server.readers(), [1]);
    drop(client);
    task.await.expect("no panic");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.readers(), [0]);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_while_ten_thousand_polls_wait() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    let (mut client, _task) = server.connect();
    client.binds(2, b"", "/svc/web").await;
    let (stamp, _) = client.bound(2).await;
    for tag in 2..10_002 {
        client.binds(tag, &stamp, "/svc/web").await;
    }
    client.says(Message::Tping(1)).await;
    assert_eq!(client.hears().await, Message::Rping(1));
    assert_eq!(server.readers(), [10_000]);
    server.world.binds("web", "/#/test/b");
    let mut tags = BTreeSet::new();
    while tags.len() < 10_000 {
        match client.hears().await {
            Message::Rdispatch(tag, status::OK, _) => assert!(tags.insert(tag)),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_last_state_and_never_a_stale_one_after() {
    let server = server();
    server.world.binds("web", "/#/test/0");
    let (mut client, _task) = server.connect();
    client.binds(2, b"", "/svc/web").await;
    let (stamp, _) = client.bound(2).await;
    for tag in 2..1002 {
        client.binds(tag, &stamp, "/svc/web").await;
    }
    for round in 1..=500 {
        server.world.binds("web", &format!("/#/test/{}", round % 7));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.world.binds("web", "/#/test/last");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (mut last, mut stale) = (None, 0);
    for _ in 2..1002 {
        let Message::Rdispatch(_, status::OK, body) = client.hears().await else { panic!("no reply") };
        let bound = call::read_reply::<Bound, Failure>(&body).expect("a reply").expect("a tree");
        let number = u64::from_be_bytes(bound.stamp[..].try_into().expect("8 bytes"));
        let since = number.wrapping_sub(u64::from_be_bytes(stamp[..].try_into().expect("8 bytes")));
        assert!(last.is_none_or(|last| last <= since), "an older state came after a newer one");
        stale += usize::from(!format!("{:?}", bound.tree).contains("/#/test/last"));
        last = Some(since);
    }
    // What was queued or in the pipe when the client stopped reading.
    assert!(stale < 900, "{stale} of 1000 replies are stale");
    let last = last.expect("replies").wrapping_add(u64::from_be_bytes(stamp[..].try_into().expect("8 bytes")));
    client.binds(2, &last.to_be_bytes(), "/svc/web").await;
    client.hears_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_cut_off() {
    let server = server();
    server.world.binds("web", "/#/test/0");
    let (mut client, task) = server.connect();
    for tag in 2..1002 {
        client.binds(tag, b"", "/svc/web").await;
    }
    timeout(Duration::from_secs(40), task).await.expect("cut off").expect("no panic");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.interface.room.available_permits(), MAX_CALLS);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_asked_and_then_left() {
    let server = server();
    let (mut client, task) = server.connect();
    client.says(Message::Tping(1)).await;
    assert_eq!(client.hears().await, Message::Rping(1));
    for _ in 0..3 {
        let heard = timeout(Duration::from_secs(70), next_frame(&mut client.io, &mut client.frames)).await;
        assert_eq!(&heard.expect("in time").expect("a frame").expect("a frame")[..], b"\x41\0\0\x01");
        client.says(Message::Rping(1)).await;
    }
    timeout(Duration::from_secs(100), task).await.expect("left").expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_to_end_drains() {
    let server = server();
    let (mut client, task) = server.connect();
    client.binds(2, b"", "/svc/web").await;
    client.says(Message::Tping(1)).await;
    assert_eq!(client.hears().await, Message::Rping(1));
    server.closing.send(true).expect("a server");
    assert_eq!(client.hears().await, Message::Tdrain(1));
    client.binds(3, b"", "/svc/web").await;
    assert_eq!(client.hears().await, Message::Rdispatch(3, status::NACK, Vec::new()));
    client.says(Message::Rdrain(1)).await;
    assert_eq!(client.frame().await, None);
    task.await.expect("no panic");
    // One that does not answer is left all the same.
    let (mut client, task) = server.connect();
    client.says(Message::Tping(1)).await;
    timeout(Duration::from_secs(3), task).await.expect("left").expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn the_handshake_and_old_forms_are_understood() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    let (mut client, _task) = server.connect();
    client.io.write_all(b"\0\0\0\x0f\x7f\0\0\x01tinit check").await.expect("room");
    assert_eq!(&client.frame().await.expect("a frame")[..], b"\x7f\0\0\x01tinit check");
    client.io.write_all(b"\0\0\0\x18\x44\0\0\x01\0\x01\0\0\0\x0amux-framer\0\0\0\0").await.expect("room");
    assert_eq!(&client.frame().await.expect("a frame")[..], b"\xbc\0\0\x01\0\x01");
    client.says(Message::Treq(5, call::write_call("bind", &bind(b"", "/svc/web")))).await;
    assert!(matches!(client.hears().await, Message::Rreq(5, status::OK, _)));
    client.says(Message::Tlease).await;
    client.says(Message::Unknown(9, 4)).await;
    assert_eq!(client.hears().await, Message::Rerr(4, "Unexpected mux message type 9".into()));
    // A call in two fragments.
    let whole = Message::Tdispatch(6, call::write_call("bind", &bind(b"", "/svc/web"))).frame();
    let (first, rest) = whole[8..].split_at(30);
    let part = |tag: [u8; 3], body: &[u8]| [&(4 + body.len() as u32).to_be_bytes()[..], &[2], &tag, body].concat();
    client.io.write_all(&part([0x80, 0, 6], first)).await.expect("room");
    client.io.write_all(&part([0, 0, 6], rest)).await.expect("room");
    assert_eq!(client.bound(6).await.1, "/#/test/a");
}

#[tokio::test(start_paused = true)]
async fn who_breaks_the_protocol_is_cut_off() {
    let call = |tag| Message::Tdispatch(tag, call::write_call("bind", &bind(b"", "/svc/web"))).frame();
    for (bytes, answer) in [
        ([call(2), call(2)].concat(), Some(Message::Rerr(2, "Received duplicate tag 2 from client.".into()))),
        (call(0), Some(Message::Rerr(0, "Received duplicate tag 0 from client.".into()))),
        (Message::Tinit(1, 9).frame(), Some(Message::Rerr(1, "Unsupported Mux version: 9".into()))),
        (Message::Tdispatch(2, b"no call".into()).frame(), None),
        (b"\0\0\0\x02\x41\0".to_vec(), None),
        (b"\xff\xff\xff\xff".to_vec(), None),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), None),
    ] {
        let server = server();
        let (mut client, task) = server.connect();
        client.io.write_all(&bytes).await.expect("room");
        if let Some(answer) = answer {
            assert_eq!(client.hears().await, answer);
        }
        assert_eq!(client.frame().await, None, "{bytes:?}");
        task.await.expect("no panic");
    }
}

#[tokio::test(start_paused = true)]
async fn observations_are_limited_and_make_room_for_others() {
    let limits = CacheLimits { active: 2, inactive: 1, ..CacheLimits::default() };
    let server = server_with(&ThriftOptions { bindings: limits, ..ThriftOptions::default() });
    let (mut client, _task) = server.connect();
    for (tag, name) in [(2, "/svc/a"), (3, "/svc/b"), (4, "/svc/c")] {
        client.binds(tag, b"", name).await;
    }
    client.binds(5, b"", "/svc/d").await;
    let failure = client.answer::<Bound>(5).await.expect_err("a failure");
    assert_eq!(failure.reason, "The maximum number of concurrent observations has been reached (3)");
    client.says(Message::Tdiscarded(3, String::new())).await;
    assert_eq!(client.hears().await, Message::Rdiscarded(3));
    tokio::time::sleep(Duration::from_secs(10)).await;
    client.binds(5, b"", "/svc/d").await;
    server.world.binds("d", "/#/test/d");
    assert_eq!(client.bound(5).await.1, "/#/test/d");
}
