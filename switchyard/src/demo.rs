//! `switchyard demo`: three routers, a namerd and a handful of services in one process on loopback, on embedded defaults.
//!
//! The services are real servers of HTTP and gRPC on free ports; the discovery files are real files in a temporary folder; the outgoing
//! router binds its names by the namerd, over gRPC, as it would in a fleet.

mod backends;
mod greeter;

use backends::Backend;
use greeter::{Greeter, PROTO};
use router::config;
use router::linker::{self, Options, Running, StartError};
use setup::shutdown::Shutdown;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::runtime::Handle;

const OUTGOING: u16 = 4140;
const INCOMING: u16 = 4141;
const GRPC: u16 = 4142;
const ADMIN: u16 = 9990;
const NAMERD_HTTP: u16 = 4180;
const NAMERD_MESH: u16 = 4321;
const NAMERD_ADMIN: u16 = 9991;

/// Why the demo does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The routers do not start; most likely a port is taken.
    #[error("{0}. For the demo: --port-offset 1000 moves all ports")]
    Start(#[from] StartError),
    /// The namerd does not start; most likely a port is taken.
    #[error("{0}. For the demo: --port-offset 1000 moves all ports")]
    Namerd(#[from] namerd::linker::StartError),
    /// The discovery files cannot be written, or a service cannot listen.
    #[error("the demo cannot set up its services: {0}")]
    Setup(#[from] std::io::Error),
    /// The offset leads beyond the last port.
    #[error("--port-offset {0} leads beyond port 65535; at most 55544")]
    Offset(u16),
    /// The built-in config does not load.
    #[error("the demo's config does not load:\n{0}")]
    Config(String),
}

/// The running services; their files are removed on drop.
pub(crate) struct Demo {
    folder: PathBuf,
    ports: Ports,
    world: Vec<Backend>,
    world_v2: Backend,
    _hello: Backend,
    greeters: Vec<Greeter>,
}

#[derive(Clone, Copy)]
struct Ports {
    outgoing: u16,
    incoming: u16,
    grpc: u16,
    admin: u16,
    namerd_http: u16,
    namerd_mesh: u16,
    namerd_admin: u16,
}

impl Ports {
    fn new(offset: u16) -> Result<Ports, DemoError> {
        let port = |base: u16| base.checked_add(offset).ok_or(DemoError::Offset(offset));
        Ok(Ports {
            outgoing: port(OUTGOING)?,
            incoming: port(INCOMING)?,
            grpc: port(GRPC)?,
            admin: port(ADMIN)?,
            namerd_http: port(NAMERD_HTTP)?,
            namerd_mesh: port(NAMERD_MESH)?,
            namerd_admin: port(NAMERD_ADMIN)?,
        })
    }
}

/// What serves: the routers and the namerd.
pub(crate) struct Serving {
    routers: Running,
    namerd: namerd::linker::Running,
}

impl Serving {
    /// Stops accepting, finishes what is in flight, at most for `grace`. True when nothing had to be cut.
    pub(crate) async fn stop(self, grace: Duration) -> bool {
        let (routers, namerd) = tokio::join!(self.routers.stop(grace), self.namerd.stop(grace));
        routers && namerd
    }
}

/// Starts the services, the namerd and the routers.
pub(crate) async fn start(
    port_offset: u16,
    options: &Options,
    shutdown: &Shutdown,
    handle: &Handle,
) -> Result<(Demo, Serving), DemoError> {
    let ports = Ports::new(port_offset)?;
    let folder = std::env::temp_dir().join(format!("switchyard-demo-{:08x}", fastrand::u32(..)));
    std::fs::create_dir_all(folder.join("disco"))?;
    let world = vec![Backend::world("world v1 (a)").await?, Backend::world("world v1 (b)").await?];
    let world_v2 = Backend::world("world v2").await?;
    let hello = Backend::hello(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.outgoing))).await?;
    let greeters = vec![Greeter::start("greeter a").await?, Greeter::start("greeter b").await?];
    let demo = Demo { folder, ports, world, world_v2, _hello: hello, greeters };
    demo.write("world-v1", &demo.world.iter().map(|backend| backend.addr).collect::<Vec<_>>())?;
    demo.write("world-v2", &[demo.world_v2.addr])?;
    demo.write("hello-app", &[demo._hello.addr])?;
    demo.write("hello", &[SocketAddr::from((Ipv4Addr::LOCALHOST, ports.incoming))])?;
    demo.write("helloworld.Greeter", &demo.greeters.iter().map(|greeter| greeter.addr).collect::<Vec<_>>())?;
    std::fs::write(demo.folder.join("helloworld.proto"), PROTO)?;
    let text = demo.config();
    std::fs::write(demo.folder.join("linkerd.yaml"), &text)?;
    let config = config::load("demo", &text).map_err(|problems| DemoError::Config(problems.to_string()))?;
    let text = demo.namerd_config();
    std::fs::write(demo.folder.join("namerd.yaml"), &text)?;
    let namerd = namerd::config::load("demo", &text).map_err(|problems| DemoError::Config(problems.to_string()))?;
    let namerd = namerd::linker::start(namerd, shutdown, handle).await?;
    let routers = linker::start(config, options, shutdown, handle).await?;
    Ok((demo, Serving { routers, namerd }))
}

impl Demo {
    fn disco(&self) -> PathBuf {
        self.folder.join("disco")
    }

    fn write(&self, name: &str, addrs: &[SocketAddr]) -> std::io::Result<()> {
        let lines: String = addrs.iter().map(|addr| format!("{} {}\n", addr.ip(), addr.port())).collect();
        std::fs::write(self.disco().join(name), lines)
    }

    /// The routers: an outgoing one for calls of the services, which asks the namerd, an incoming one before `hello`, and one
    /// for gRPC, where the service of a call is its name.
    fn config(&self) -> String {
        let Ports { outgoing, incoming, grpc, admin, namerd_mesh, .. } = self.ports;
        let disco = json_text(&self.disco());
        format!(
            "admin: {{ port: {admin} }}\n\
             namers:\n- kind: io.l5d.fs\n  rootDir: {disco}\n\
             routers:\n\
             - protocol: http\n  label: outgoing\n  servers: [{{ port: {outgoing} }}]\n  interpreter:\n    \
             kind: io.l5d.mesh\n    dst: /$/inet/127.0.0.1/{namerd_mesh}\n    root: /demo\n\
             - protocol: http\n  label: incoming\n  servers: [{{ port: {incoming} }}]\n  dtab: |\n    \
             /svc/hello => /#/io.l5d.fs/hello-app ;\n\
             - protocol: h2\n  label: grpc\n  servers: [{{ port: {grpc} }}]\n  \
             identifier: {{ kind: io.l5d.header.path, segments: 1 }}\n  \
             service: {{ responseClassifier: {{ kind: io.l5d.h2.grpc.default }} }}\n  dtab: |\n    \
             /svc => /#/io.l5d.fs ;\n\
             telemetry:\n- kind: io.l5d.prometheus\n"
        )
    }

    /// The namerd, with the dtab of the outgoing router in the namespace `demo`.
    fn namerd_config(&self) -> String {
        let Ports { namerd_http, namerd_mesh, namerd_admin, .. } = self.ports;
        let disco = json_text(&self.disco());
        format!(
            "admin: {{ port: {namerd_admin} }}\n\
             namers:\n- kind: io.l5d.fs\n  rootDir: {disco}\n\
             storage:\n  kind: io.l5d.inMemory\n  namespaces:\n    demo: |\n      \
             /host => /#/io.l5d.fs ;\n      \
             /svc => /host ;\n      \
             /svc/world => /host/world-v1 | /host/world-v2 ;\n      \
             /svc/canary => 9 * /host/world-v1 & 1 * /host/world-v2 ;\n\
             interfaces:\n\
             - {{ kind: io.l5d.httpController, port: {namerd_http} }}\n\
             - {{ kind: io.l5d.mesh, port: {namerd_mesh} }}\n"
        )
    }

    /// What to try, with the ports of this run.
    pub(crate) fn instructions(&self) -> String {
        let Ports { outgoing, incoming, grpc, admin, namerd_http, namerd_admin, .. } = self.ports;
        let (disco, folder) = (self.disco(), &self.folder);
        let (disco, folder) = (disco.display(), folder.display());
        let (a, b) = (self.world[0].addr, self.world[1].addr);
        let call = format!(
            r"printf '\0\0\0\0\7\n\5world' | curl -s --http2-prior-knowledge --data-binary @- \
         -H 'content-type: application/grpc' -H 'te: trailers' \
         'http://localhost:{grpc}/helloworld.Greeter"
        );
        format!(
            r#"Switchyard demo: outgoing router on {outgoing}, incoming router on {incoming}, gRPC router on {grpc},
admin on {admin}; namerd on {namerd_http}.

  configs           {folder}/linkerd.yaml, {folder}/namerd.yaml
  discovery files   {disco}/   (world-v1, world-v2, hello, hello-app, helloworld.Greeter)
  a request         you -> :{outgoing} -> :{incoming} -> hello -> :{outgoing} -> world
  a gRPC call       you -> :{grpc} -> greeter a or greeter b

Try, in another terminal:

  1. A plain request: hello calls world, both through the router.
       http_proxy=localhost:{outgoing} curl -s http://hello

  2. A canary by weights: one request in ten goes to world v2.
       for i in $(seq 20); do http_proxy=localhost:{outgoing} curl -s http://canary; done

  3. Reroute one request two calls deep with a header; nobody else is affected.
       http_proxy=localhost:{outgoing} curl -s -H 'l5d-dtab: /svc/world => /host/world-v2' http://hello

  4. Change the rules for everybody, as a pipeline does: they live in namerd. (cargo build --release makes namerctl.)
       export PATH=$PWD/target/release:$PATH NAMERCTL_BASE_URL=http://localhost:{namerd_http}
       namerctl dtab get demo
       namerctl dtab set demo /svc/canary '1 * /host/world-v1 & 1 * /host/world-v2' --reason 'half and half'
       for i in $(seq 20); do http_proxy=localhost:{outgoing} curl -s http://canary; done

  5. Who changed what, and back again; one write, and every router follows.
       namerctl dtab history demo
       namerctl dtab rollback demo
       namerctl delegate demo /svc/canary

  6. Kill a backend; its sibling takes over and no request fails.
       curl -s -X POST http://{a}/quit
       for i in $(seq 20); do http_proxy=localhost:{outgoing} curl -s http://world; done

  7. Edit a discovery file while running.
       echo '{ip} {b}' > {disco}/world-v1
       http_proxy=localhost:{outgoing} curl -s http://world

  8. Fail over: without world-v1, the second alternative of the dtab serves.
       rm {disco}/world-v1
       http_proxy=localhost:{outgoing} curl -s http://world

  9. See how a name resolves in a router, and what is counted.
       curl -s -G http://localhost:{admin}/delegator.json -d namespace=outgoing -d path=/svc/world -d dtab=
       curl -s 'http://localhost:{admin}/admin/metrics.json?pretty=1' | grep requests
       http://localhost:{admin}/ and http://localhost:{namerd_admin}/ link the rest.

 10. Call a gRPC service. Each call is balanced for itself, whichever connection it comes by.
       grpcurl -plaintext -import-path {folder} -proto helloworld.proto -d '{{"name":"world"}}' \
         localhost:{grpc} helloworld.Greeter/SayHello
     Without grpcurl: a message is five bytes of framing, and one field with a text.
       for i in $(seq 6); do {call}/SayHello'; done | grep -ao 'hello[[:print:]]*'
       {call}/SayHelloStreamReply' | grep -ao 'hello[[:print:]]*'
       curl -s 'http://localhost:{admin}/admin/metrics.json?pretty=1' | grep grpc/status

Ctrl-C ends the demo."#,
            ip = b.ip(),
            b = b.port(),
        )
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // What is left in the temporary folder harms nobody.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A path as a quoted YAML scalar.
fn json_text(path: &Path) -> String {
    serde_json::Value::String(path.display().to_string()).to_string()
}
