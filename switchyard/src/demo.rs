//! `switchyard demo`: two routers and a handful of services in one process on loopback, on embedded defaults.
//!
//! The services are real HTTP servers on free ports; the discovery files are real files in a temporary folder.

mod backends;

use backends::Backend;
use router::config;
use router::linker::{self, Options, Running, StartError};
use setup::shutdown::Shutdown;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::runtime::Handle;

const OUTGOING: u16 = 4140;
const INCOMING: u16 = 4141;
const ADMIN: u16 = 9990;

/// Why the demo does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// The routers do not start; most likely a port is taken.
    #[error("{0}. For the demo: --port-offset 1000 moves all ports")]
    Start(#[from] StartError),
    /// The discovery files cannot be written, or a service cannot listen.
    #[error("the demo cannot set up its services: {0}")]
    Setup(#[from] std::io::Error),
    /// The offset leads beyond the last port.
    #[error("--port-offset {0} leads beyond port 65535; at most 55545")]
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
}

#[derive(Clone, Copy)]
struct Ports {
    outgoing: u16,
    incoming: u16,
    admin: u16,
}

impl Ports {
    fn new(offset: u16) -> Result<Ports, DemoError> {
        let port = |base: u16| base.checked_add(offset).ok_or(DemoError::Offset(offset));
        Ok(Ports { outgoing: port(OUTGOING)?, incoming: port(INCOMING)?, admin: port(ADMIN)? })
    }
}

/// Starts the services and the routers.
pub(crate) async fn start(
    port_offset: u16,
    options: &Options,
    shutdown: &Shutdown,
    handle: &Handle,
) -> Result<(Demo, Running), DemoError> {
    let ports = Ports::new(port_offset)?;
    let folder = std::env::temp_dir().join(format!("switchyard-demo-{:08x}", fastrand::u32(..)));
    std::fs::create_dir_all(folder.join("disco"))?;
    let world = vec![Backend::world("world v1 (a)").await?, Backend::world("world v1 (b)").await?];
    let world_v2 = Backend::world("world v2").await?;
    let hello = Backend::hello(SocketAddr::from((Ipv4Addr::LOCALHOST, ports.outgoing))).await?;
    let demo = Demo { folder, ports, world, world_v2, _hello: hello };
    demo.write("world-v1", &demo.world.iter().map(|backend| backend.addr).collect::<Vec<_>>())?;
    demo.write("world-v2", &[demo.world_v2.addr])?;
    demo.write("hello-app", &[demo._hello.addr])?;
    demo.write("hello", &[SocketAddr::from((Ipv4Addr::LOCALHOST, ports.incoming))])?;
    let text = demo.config();
    std::fs::write(demo.folder.join("linkerd.yaml"), &text)?;
    let config = config::load("demo", &text).map_err(|problems| DemoError::Config(problems.to_string()))?;
    let running = linker::start(config, options, shutdown, handle).await?;
    Ok((demo, running))
}

impl Demo {
    fn disco(&self) -> PathBuf {
        self.folder.join("disco")
    }

    fn write(&self, name: &str, addrs: &[SocketAddr]) -> std::io::Result<()> {
        let lines: String = addrs.iter().map(|addr| format!("{} {}\n", addr.ip(), addr.port())).collect();
        std::fs::write(self.disco().join(name), lines)
    }

    /// The config: an outgoing router for calls of the services, an incoming one in front of `hello`.
    fn config(&self) -> String {
        let Ports { outgoing, incoming, admin } = self.ports;
        let disco = json_text(&self.disco());
        format!(
            "admin: {{ port: {admin} }}\n\
             namers:\n- kind: io.l5d.fs\n  rootDir: {disco}\n\
             routers:\n\
             - protocol: http\n  label: outgoing\n  servers: [{{ port: {outgoing} }}]\n  dtab: |\n    \
             /host => /#/io.l5d.fs ;\n    \
             /svc => /host ;\n    \
             /svc/world => /host/world-v1 | /host/world-v2 ;\n    \
             /svc/canary => 9 * /host/world-v1 & 1 * /host/world-v2 ;\n\
             - protocol: http\n  label: incoming\n  servers: [{{ port: {incoming} }}]\n  dtab: |\n    \
             /svc/hello => /#/io.l5d.fs/hello-app ;\n\
             telemetry:\n- kind: io.l5d.prometheus\n"
        )
    }

    /// What to try, with the ports of this run.
    pub(crate) fn instructions(&self) -> String {
        let Ports { outgoing, incoming, admin } = self.ports;
        let (disco, folder) = (self.disco(), &self.folder);
        let (disco, folder) = (disco.display(), folder.display());
        let (a, b) = (self.world[0].addr, self.world[1].addr);
        format!(
            r#"Switchyard demo: outgoing router on {outgoing}, incoming router on {incoming}, admin on {admin}.

  config            {folder}/linkerd.yaml
  discovery files   {disco}/   (world-v1, world-v2, hello, hello-app)
  a request         you -> :{outgoing} -> :{incoming} -> hello -> :{outgoing} -> world

Try, in another terminal:

  1. A plain request: hello calls world, both through the router.
       http_proxy=localhost:{outgoing} curl -s http://hello

  2. A canary by weights: one request in ten goes to world v2.
       for i in $(seq 20); do http_proxy=localhost:{outgoing} curl -s http://canary; done

  3. Reroute one request two calls deep with a header; nobody else is affected.
       http_proxy=localhost:{outgoing} curl -s -H 'l5d-dtab: /svc/world => /host/world-v2' http://hello

  4. Kill a backend; its sibling takes over and no request fails.
       curl -s -X POST http://{a}/quit
       for i in $(seq 20); do http_proxy=localhost:{outgoing} curl -s http://world; done

  5. Edit a discovery file while running.
       echo '{ip} {b}' > {disco}/world-v1
       http_proxy=localhost:{outgoing} curl -s http://world

  6. Fail over: without world-v1, the second alternative of the dtab serves.
       rm {disco}/world-v1
       http_proxy=localhost:{outgoing} curl -s http://world

  7. See how a name resolves, and what is counted.
       curl -s -G http://localhost:{admin}/delegator.json -d namespace=outgoing -d path=/svc/world \
            --data-urlencode 'dtab=/host=>/#/io.l5d.fs; /svc=>/host; /svc/world=>/host/world-v1 | /host/world-v2'
       curl -s 'http://localhost:{admin}/admin/metrics.json?pretty=1' | grep requests
       http://localhost:{admin}/ links the rest.

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
