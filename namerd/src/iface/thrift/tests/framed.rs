//! Framed thrift on the same port.

use super::*;

async fn says(client: &mut Client, message: &[u8]) {
    let length = u32::try_from(message.len()).expect("a length");
    client.io.write_all(&[&length.to_be_bytes(), message].concat()).await.expect("a server that reads");
}

async fn bound(client: &mut Client, header: &[u8]) -> Bound {
    let frame = client.frame().await.expect("a reply");
    let reply = frame.strip_prefix(header).expect("the header");
    call::read_reply::<Bound, Failure>(reply).expect("a reply").expect("a tree")
}

#[tokio::test(start_paused = true)]
async fn a_client_without_mux_is_served() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    let (mut client, task) = server.connect();
    says(&mut client, &call::write_call("bind", &bind(b"", "/svc/web"))).await;
    let first = bound(&mut client, b"").await;
    says(&mut client, &call::write_call("bind", &bind(&first.stamp, "/svc/web"))).await;
    client.hears_nothing().await;
    // Calls may be sent ahead; replies come in order.
    says(&mut client, &call::write_call("dtab", &dtab_of(b"", "ns"))).await;
    server.world.binds("web", "/#/test/b");
    assert_ne!(bound(&mut client, b"").await.stamp, first.stamp);
    assert!(String::from_utf8_lossy(&client.frame().await.expect("a reply")).contains("/svc=>/#/test"));
    drop(client);
    task.await.expect("no panic");
    assert_eq!(server.interface.room.available_permits(), MAX_CALLS);
}

#[tokio::test(start_paused = true)]
async fn a_client_of_old_writes_without_a_version() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    let (mut client, _task) = server.connect();
    let strict = call::write_call("bind", &bind(b"", "/svc/web"));
    let old = [&b"\0\0\0\x04bind\x01\0\0\0\x07"[..], &strict[16..]].concat();
    says(&mut client, &old).await;
    bound(&mut client, b"").await;
}

#[tokio::test(start_paused = true)]
async fn headers_of_ttwitter_are_understood_once_asked_for() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    let (mut client, _task) = server.connect();
    says(&mut client, b"\x80\x01\0\x01\0\0\0\x1b__can__finagle__trace__v3__\0\0\0\x03\0").await;
    let reply = client.frame().await.expect("a reply");
    assert_eq!(&reply[..], b"\x80\x01\0\x02\0\0\0\x1b__can__finagle__trace__v3__\0\0\0\x03\0");
    // Trace id, span id, a flag, a list of contexts, then the call.
    let header = b"\x0a\0\x01\0\0\0\0\0\0\0\x05\x0a\0\x02\0\0\0\0\0\0\0\x06\x02\0\x05\x01\x0f\0\x08\x0c\0\0\0\0\0";
    for _ in 0..2 {
        says(&mut client, &[&header[..], &call::write_call("bind", &bind(b"", "/svc/web"))].concat()).await;
        bound(&mut client, b"\0").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_oneway_call_has_no_reply() {
    let server = server();
    let (mut client, _task) = server.connect();
    let mut oneway = call::write_call("bond", &bind(b"", "/svc/web"));
    oneway[3] = 4;
    says(&mut client, &oneway).await;
    says(&mut client, &call::write_call("what", &bind(b"", "/svc/web"))).await;
    let reply = client.frame().await.expect("a reply");
    assert!(String::from_utf8_lossy(&reply).contains("Invalid method name: 'what'"));
}

#[tokio::test(start_paused = true)]
async fn a_dtab_that_is_too_long_to_be_kept_is_refused() {
    let server = server();
    let (mut client, _task) = server.connect();
    let long = BindReq { dtab: format!("/a=>/{}", "x".repeat(64 << 10)), ..bind(b"", "/svc/web") };
    says(&mut client, &call::write_call("bind", &long)).await;
    let reply = client.frame().await.expect("a reply");
    assert!(String::from_utf8_lossy(&reply).contains("the dtab has 65541 bytes, and at most 65536 are taken"));
}

#[tokio::test(start_paused = true)]
async fn who_breaks_the_protocol_is_cut_off() {
    let server = server();
    server.world.binds("web", "/#/test/a");
    let (mut client, task) = server.connect();
    says(&mut client, &call::write_call("bind", &bind(b"", "/svc/web"))).await;
    says(&mut client, b"garbage").await;
    bound(&mut client, b"").await;
    assert_eq!(client.frame().await, None);
    task.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn who_asks_on_and_on_without_waiting_is_cut_off() {
    let server = server();
    let (mut client, task) = server.connect();
    for _ in 0..20 {
        says(&mut client, &call::write_call("bind", &bind(b"", "/svc/web"))).await;
    }
    assert_eq!(client.frame().await, None);
    task.await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_wants_to_end_closes() {
    let server = server();
    let (mut client, task) = server.connect();
    says(&mut client, &call::write_call("bind", &bind(b"", "/svc/web"))).await;
    client.hears_nothing().await;
    server.closing.send(true).expect("a server");
    assert_eq!(client.frame().await, None);
    task.await.expect("no panic");
}
