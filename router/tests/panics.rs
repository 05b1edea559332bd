//! M2: a panic in one request is counted and ends only that request. The panic is one of an interpreter, which runs on
//! the worker when a name is seen for the first time.

#![allow(clippy::panic, reason = "a panic is what this is about")]

use dtab::{Activity, Addr, BoundName, BoxFuture, DelegateTree, DtabStack, Interpreter, NameTree, Path, State};
use router::client::TlsFiles;
use router::config;
use router::router::Router;
use router::scopes::Scopes;
use router::server::{self, Server};
use router::worker::{self, Command, Listening};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

struct Brittle;

impl Interpreter for Brittle {
    fn bind(&self, _: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        assert!(!path.to_string().contains("boom"), "injected");
        Activity::constant(State::Ok(NameTree::Neg))
    }

    fn resolve(&self, _: &Path) -> Activity<Addr> {
        Activity::constant(State::Ok(Addr::Neg))
    }

    fn explain<'a>(&'a self, _: &'a DtabStack, _: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async { Err("not here".to_owned()) })
    }
}

fn ask(socket: &mut TcpStream, host: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    // A connection that was ended refuses; reading tells.
    let _ = socket.write_all(request.as_bytes());
    let mut buffer = [0; 4096];
    let read = socket.read(&mut buffer).unwrap_or(0);
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

#[test]
fn m2_a_panic_ends_only_its_request() {
    let config = config::load("test", "routers: [{ protocol: http, servers: [{ port: 0 }] }]").expect("a config");
    let params = Arc::new(config.routers[0].clone());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let metrics = telemetry::Metrics::new();
    let scope = metrics.root().scope("rt").scope("http");
    let scopes = Scopes::new(scope.clone());
    let routes =
        Arc::new(Router::new(params.clone(), Arc::new(Brittle), TlsFiles::new(), scopes, runtime.handle().clone()));
    let (addr, mut sockets) = server::listen(&params.servers[0], 1, false).expect("a port");
    let server = Arc::new(Server::new(params.servers[0].clone(), addr, &params, &scope, None, None));
    let (commands, receiver) = mpsc::channel(1);
    let thread = std::thread::spawn(move || worker::run(receiver));
    let listening = Listening { id: 1, socket: sockets.pop(), server, router: routes };
    let (answer, answered) = oneshot::channel();
    assert!(commands.blocking_send(Command::Serve(vec![listening], answer)).is_ok());
    answered.blocking_recv().expect("the worker serves");

    let connect = || {
        let socket = TcpStream::connect(addr).expect("a connection");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("an option");
        socket
    };
    let (mut good, mut bad) = (connect(), connect());
    assert!(ask(&mut good, "web").starts_with("HTTP/1.1 502"));
    assert_eq!(ask(&mut bad, "boom"), "", "its connection is closed");
    assert!(ask(&mut good, "web").starts_with("HTTP/1.1 502"), "others on the same worker go on");
    assert!(ask(&mut connect(), "web2").starts_with("HTTP/1.1 502"), "and so do new ones");
    drop((good, bad));
    let label = format!("rt/http/server/127.0.0.1/{}", addr.port());
    let shown = metrics.render_json(&telemetry::JsonQuery::default()).expect("JSON");
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown[format!("{label}/requests")], 4, "the one that panicked is counted");
    assert_eq!(shown[format!("{label}/pending")], 0.0);

    let (answer, answered) = oneshot::channel();
    assert!(commands.blocking_send(Command::Drain(answer)).is_ok());
    answered.blocking_recv().expect("the worker drains: no connection is left over");
    thread.join().expect("the worker ends").expect("without an error");
}
