//! The interpreter of a router, as its config asks for it.
//!
//! Called by `live`. Routers that ask the same namerd for the same namespace in the same way share one interpreter, with its
//! connections and what it knows; a reload that keeps the settings keeps it too, and one that changes how the same place is
//! asked takes over what was known. Not for: protocols (crate `namers`).

use crate::config::{InterpreterKind, NamerdParams, NamerdProtocol};
use crate::linker::StartError;
use dtab::{Interpreter, Path};
use namers::DtabFile;
use namers::control::{ControlNames, ControlOptions};
use namers::mesh::{MeshClient, MeshOptions};
use namers::remote::peers::Peers;
use namers::remote::{RemoteInterpreter, RemoteNames, RemoteOptions, TokenSource};
use namers::thrift::client::{Pings, ThriftNames};
use setup::naming::{Naming, World};
use setup::secure::secure;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// The interpreters over a namerd that are in use, by their settings.
#[derive(Default)]
pub struct Remotes(HashMap<String, Known>);

struct Known {
    /// What it asks; see [`place`].
    place: String,
    interpreter: Weak<RemoteInterpreter>,
}

impl Remotes {
    /// What `kind` asks for, over the names of `naming`. `what` is the router, for errors.
    pub fn interpreter(
        &mut self,
        kind: &InterpreterKind,
        world: &World,
        naming: &Naming,
        what: &str,
    ) -> Result<Arc<dyn Interpreter>, StartError> {
        match kind {
            InterpreterKind::Local => Ok(naming.shared.clone()),
            InterpreterKind::File(path) => {
                let failed = |error| StartError::DtabFile { path: path.clone(), error };
                let file = DtabFile::new(path, &world.discovery).map_err(failed)?;
                Ok(world.over(naming, file.dtab()))
            }
            InterpreterKind::Namerd(params) => {
                self.0.retain(|_, known| known.interpreter.strong_count() > 0);
                let names = if params.is_system() { "" } else { &naming.params };
                let shown = format!("{params:?} {names}");
                if let Some(same) = self.0.get(&shown).and_then(|known| known.interpreter.upgrade()) {
                    return Ok(same);
                }
                let made = Arc::new(remote(params, world, naming, what)?);
                let place = place(params);
                let before = self.0.values().filter(|known| known.place == place);
                before.filter_map(|known| known.interpreter.upgrade()).for_each(|old| made.inherit(&old));
                self.0.insert(shown, Known { place, interpreter: Arc::downgrade(&made) });
                Ok(made)
            }
        }
    }
}

fn remote(params: &NamerdParams, world: &World, naming: &Naming, what: &str) -> Result<RemoteInterpreter, StartError> {
    let alpn = match params.protocol {
        NamerdProtocol::Mesh { .. } => vec![b"h2".to_vec()],
        NamerdProtocol::Thrift | NamerdProtocol::Http => Vec::new(),
    };
    let failed = |error| StartError::Tls { what: format!("the interpreter of {what}"), error };
    let secure = params.tls.as_ref().map(|tls| secure(tls, alpn, &world.tls)).transpose().map_err(failed)?;
    let found_by = if params.is_system() { &naming.bare } else { &naming.shared };
    let peers = Peers::new(found_by.clone(), params.dst.clone(), secure);
    let names = protocol(params, peers, world)?;
    let options = RemoteOptions { min_backoff: params.min_backoff, max_backoff: params.max_backoff };
    Ok(RemoteInterpreter::new(names, &place(params), &world.discovery, &options))
}

/// What an interpreter over a namerd is called in metrics, on pages and on disk.
pub(crate) fn place(params: &NamerdParams) -> String {
    format!("{} {} {}", params.protocol.kind(), params.dst, params.namespace)
}

/// The client.
fn protocol(params: &NamerdParams, peers: Peers, world: &World) -> Result<Arc<dyn RemoteNames>, StartError> {
    let namespace = &params.namespace;
    Ok(match params.protocol {
        NamerdProtocol::Thrift => {
            let pings = Pings { every: params.ping, timeout: params.pong };
            Arc::new(ThriftNames::new(peers, namespace, pings, world.discovery.handle.clone()))
        }
        NamerdProtocol::Http => {
            let options = ControlOptions { host: host(&params.dst), token: token(params) };
            Arc::new(ControlNames::new(peers, namespace, options))
        }
        NamerdProtocol::Mesh { window } => {
            let token = token(params);
            let options = MeshOptions { ping_every: params.ping, close_timeout: params.pong, window, token };
            let root = Path::from_labels([namespace.as_bytes()]);
            let root = root.map_err(|_| StartError::Namespace(namespace.clone()))?;
            Arc::new(MeshClient::new(peers, root, options))
        }
    })
}

/// The token that is shown, read from its file for each request.
fn token(params: &NamerdParams) -> Option<TokenSource> {
    let file = params.token_file.clone()?;
    Some(Arc::new(move || setup::tokens::read(&file)))
}

/// The host of `/$/inet/host/port`, which requests are for; None for other names.
fn host(dst: &Path) -> Option<String> {
    match (dst.text(0), dst.text(1), dst.text(2), dst.text(3)) {
        (Some("$"), Some("inet"), Some(host), Some(port)) => Some(format!("{host}:{port}")),
        _ => None,
    }
}
