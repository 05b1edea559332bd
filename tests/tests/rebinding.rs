//! Attack O5: a name that a request wrote has a harmless address at first and another one later. The address is looked at
//! each time, whether a connection is made for it or one is there already. The router runs in this process, over an
//! interpreter whose addresses the story moves.

use dtab::{
    Activity, Addr, BoundName, BoxFuture, DelegateTree, DtabStack, Interpreter, Lookups, Name, NameTree, Path,
    Publisher, State,
};
use e2e::{Backend, Client, Response, eventually};
use router::client::TlsFiles;
use router::config;
use router::router::Router;
use router::scopes::Scopes;
use router::server::{self, Server};
use router::worker::{self, Command, Listening};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use telemetry::Metrics;
use tokio::sync::{mpsc, oneshot};

const CONFIG: &str = r#"
routers:
- protocol: http
  servers: [{ port: 0, overrides: legacy }]
  dtab: |
    /svc/web   => /nowhere ;
    /svc/local => /$/inet/evil.example/80 ;
"#;

const OVERRIDE: (&str, &str) = ("l5d-dtab", "/svc/web => /$/inet/evil.example/80");

/// The built-in names, and one address for whatever they bind. What `/svc/slow` is without an override comes later.
struct Moving {
    address: Publisher<Addr>,
    slow: Publisher<NameTree<BoundName>>,
}

struct NoNamers;

impl Lookups for NoNamers {
    fn lookup(&mut self, _: &Path) -> State<NameTree<Name>> {
        State::Ok(NameTree::Neg)
    }
}

impl Interpreter for Moving {
    fn bind(&self, dtab: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        let has_override = dtab.dentries().count() > 2;
        if path.text(1) == Some("slow") && !has_override {
            return self.slow.subscribe();
        }
        Activity::constant(dtab::bind(dtab, path, &mut NoNamers))
    }

    fn resolve(&self, _: &Path) -> Activity<Addr> {
        self.address.subscribe()
    }

    fn explain<'a>(&'a self, _: &'a DtabStack, _: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async { Err("this story asks for no explanation".to_owned()) })
    }
}

/// A router in this process.
struct Site {
    router: Arc<Router>,
    addr: SocketAddr,
    address: Publisher<Addr>,
    slow: Publisher<NameTree<BoundName>>,
    _control: tokio::runtime::Runtime,
    _commands: mpsc::Sender<Command>,
}

impl Site {
    fn start() -> Site {
        let control = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let control = control.expect("a runtime");
        let params = Arc::new(config::load("linkerd.yaml", CONFIG).expect("a good config").routers.remove(0));
        let ((address, _), (slow, _)) = (Activity::channel(), Activity::channel());
        let scope = Metrics::new().root();
        let interpreter = Arc::new(Moving { address: address.clone(), slow: slow.clone() });
        let router = Router::new(
            params.clone(),
            interpreter,
            TlsFiles::new(),
            Scopes::new(scope.clone()),
            control.handle().clone(),
        );
        let router = Arc::new(router);
        let (addr, mut sockets) = server::listen(&params.servers[0], 1, false).expect("a listener");
        let server = Arc::new(Server::new(params.servers[0].clone(), addr, &params, &scope, None, None));
        router.set_listeners(vec![addr]);
        router.set_reserved(vec![addr]);
        let listening = Listening { id: 1, socket: sockets.pop(), server, router: router.clone() };
        let (_commands, receiver) = mpsc::channel(1);
        std::thread::spawn(move || worker::run(receiver).expect("a worker"));
        let (answer, answered) = oneshot::channel();
        assert!(_commands.blocking_send(Command::Serve(vec![listening], answer)).is_ok());
        answered.blocking_recv().expect("the worker serves");
        Site { router, addr, address, slow, _control: control, _commands }
    }

    /// Moves the name, and waits until the router knows.
    fn move_to(&self, addr: SocketAddr) {
        self.address.publish(State::Ok(Addr::bound([addr])));
        let client = self.router.clients.get(&evil());
        eventually("the router knows the address", Duration::from_secs(30), || {
            (client.addresses() == [addr]).then_some(())
        });
    }

    fn ask(&self, host: &str, headers: &[(&str, &str)]) -> Response {
        Client::connect(self.addr).request("GET", host, "/", headers, b"")
    }
}

fn evil() -> Path {
    Path::parse("/$/inet/evil.example/80").expect("a path")
}

/// An address of this machine that is not loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn o5_a_name_that_moves_to_loopback_is_denied_from_then_on() {
    let (site, inside) = (Site::start(), Backend::text("inside"));
    if let Some(own) = own_address() {
        let outside = Backend::at(SocketAddr::new(own, 0), |_| e2e::Reply::text("outside"));
        site.move_to(outside.addr());
        for _ in 0..3 {
            assert_eq!(site.ask("web", &[OVERRIDE]).text(), "outside");
        }
        site.move_to(inside.addr());
        assert_eq!(site.ask("web", &[OVERRIDE]).status, 403);
        site.move_to(outside.addr());
        assert_eq!(site.ask("web", &[OVERRIDE]).text(), "outside");
        site.move_to(SocketAddr::new(own, site.addr.port()));
        assert_eq!(site.ask("web", &[OVERRIDE]).status, 403, "a port of this router on another address of the host");
    }
    for denied in [IpAddr::from([169, 254, 169, 254]), Ipv4Addr::UNSPECIFIED.into(), inside.addr().ip()] {
        site.move_to(SocketAddr::new(denied, inside.addr().port()));
        let response = site.ask("web", &[OVERRIDE]);
        assert_eq!(response.status, 403, "{denied}");
        assert!(response.text().contains("evil.example"), "{}", response.text());
    }
    assert_eq!(inside.bytes_seen().len(), 0);
}

#[test]
fn o5_a_connection_that_is_there_is_no_way_around() {
    let (site, inside) = (Site::start(), Backend::text("inside"));
    site.move_to(inside.addr());
    for _ in 0..3 {
        assert_eq!(site.ask("local", &[]).text(), "inside", "the operator's own rule goes there");
    }
    let bytes = inside.bytes_seen().len();
    assert_eq!(site.ask("web", &[OVERRIDE]).status, 403, "an idle connection to the very endpoint waits");
    assert_eq!((inside.bytes_seen().len(), inside.connections()), (bytes, 1));
    assert_eq!(site.ask("local", &[OVERRIDE]).text(), "inside", "this name leads there without the override too");
    assert_eq!(inside.connections(), 1);
}

/// Rule 3: whose choice an address is must be known before it is used, and may change.
#[test]
fn the_base_is_waited_for_and_followed() {
    let (site, inside) = (Site::start(), Backend::text("inside"));
    let to_evil = ("l5d-dtab", "/svc/slow => /$/inet/evil.example/80");
    site.move_to(inside.addr());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| site.ask("slow", &[to_evil]).status);
        e2e::holds_for("the request waits", Duration::from_millis(100), || !waiting.is_finished());
        site.slow.publish(State::Ok(NameTree::Neg));
        assert_eq!(waiting.join().expect("an answer"), 403, "without the override the name leads nowhere");
    });
    assert_eq!(inside.bytes_seen().len(), 0);
    let leads_there = NameTree::Leaf(BoundName { id: evil(), residual: Path::empty() });
    site.slow.publish(State::Ok(leads_there));
    eventually("the operator leads there as well", Duration::from_secs(30), || {
        (site.ask("slow", &[to_evil]).text() == "inside").then_some(())
    });
    site.slow.publish(State::Ok(NameTree::Neg));
    eventually("and no longer", Duration::from_secs(30), || (site.ask("slow", &[to_evil]).status == 403).then_some(()));
}
