//! Clients that keep others waiting, on a paused clock: each bound of time is met, and not before.

use super::super::{GREETING, MeshInterface, PING_EVERY};
use super::world::World;
use super::{calls, linkerd, path, paths};
use crate::access::Access;
use crate::iface::mesh::filter::PREFACE;
use crate::iface::{Interface, Peer};
use bytes::Bytes;
use dtab::Addr;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A connection without a network, and the task that serves it.
fn connect(world: &World) -> (DuplexStream, JoinHandle<()>) {
    let (client, server) = duplex(1 << 20);
    let (closing, closed) = watch::channel(false);
    let peer = Peer { address: world.address, identity: None };
    let serve =
        Arc::new(MeshInterface::new(world.names.clone(), Access::default())).serve(Box::new(server), peer, closed);
    let serving = async move {
        serve.await;
        drop(closing);
    };
    (client, tokio::spawn(serving))
}

#[tokio::test(start_paused = true)]
async fn one_who_says_nothing_is_left() {
    let world = World::new().await;
    for begun in [&b""[..], &PREFACE[..20], b"POST / HTT"] {
        let (mut client, serving) = connect(&world);
        client.write_all(begun).await.expect("room");
        let since = Instant::now();
        serving.await.expect("no panic");
        assert_eq!(since.elapsed().as_secs(), GREETING.as_secs(), "{begun:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_does_not_answer_pings_is_left_and_its_names_are_released() {
    let world = World::new().await;
    world.namer.says("a", Addr::Neg);
    let (mut client, serving) = connect(&world);
    let id = calls::write_id(&path("/#/t/a"));
    client.write_all(&[PREFACE, &linkerd::frame(4, 0, 0, &[])].concat()).await.expect("room");
    client.write_all(&linkerd::request(1, &linkerd::first(paths::STREAM_REPLICAS), &id)).await.expect("room");
    world.watched(1).await;
    let since = Instant::now();
    serving.await.expect("no panic");
    let waited = since.elapsed();
    assert!(waited >= PING_EVERY && waited <= 2 * PING_EVERY + Duration::from_secs(1), "{waited:?}");
    world.watched(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_end_is_refused() {
    let world = World::new().await;
    let (client, _serving) = connect(&world);
    let (requests, connection) = h2::client::handshake(client).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://namerd{}", paths::GET_REPLICAS)).body(()).expect("a request");
    let (response, mut stream) = requests.ready().await.expect("room").send_request(request, false).expect("a stream");
    stream.send_data(Bytes::from_static(&[0, 0]), false).expect("room");
    let since = Instant::now();
    let mut body = response.await.expect("a response").into_body();
    let status = super::next(&mut body).await.expect_err("no message");
    assert_eq!((status.code, since.elapsed().as_secs()), (4, 10), "{status}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_taken_is_given_up() {
    let world = World::new().await;
    world.namer.says("a", Addr::Neg);
    let _held = world.told("a", &Addr::Neg).await;
    let (client, _serving) = connect(&world);
    let (requests, connection) =
        h2::client::Builder::new().initial_window_size(4).handshake::<_, Bytes>(client).await.expect("HTTP/2");
    tokio::spawn(connection);
    let id = calls::write_id(&path("/#/t/a"));
    let mut body = super::call(&requests, "POST", paths::STREAM_REPLICAS, id).await.into_body();
    let begun = poll_fn(|cx| body.poll_data(cx)).await.expect("data").expect("data");
    assert_eq!(begun.len(), 4);
    let since = Instant::now();
    let error = poll_fn(|cx| body.poll_data(cx)).await.expect("an end").expect_err("a reset");
    assert_eq!((error.reason(), since.elapsed().as_secs()), (Some(h2::Reason::CANCEL), 60));
}
