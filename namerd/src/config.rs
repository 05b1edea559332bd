//! Configuration: the text of a `namerd.yaml` to resolved parameters, or every problem at once.
//!
//! For: `namerd` at start and `namerd check`. Not for: building anything from the parameters, and not for opening sockets or
//! asking the network. The only things looked at outside the text are the folders of `io.l5d.fs` namers and of
//! `stateDir`, and the files of certificates, keys and tokens. The reader, and the objects that a `linkerd.yaml` has too,
//! are in `setup`. Facts: config reference §15.

mod access;
mod interface;
mod reference;
mod storage;
#[cfg(test)]
mod tests;

pub use interface::{InterfaceKind, InterfaceParams};
pub use reference::reference;
pub use storage::{BackendParams, StorageParams};

use crate::access::AccessParams;
use setup::config::clash::Sockets;
use setup::config::discovery::{DiscoveryParams, discovery};
use setup::config::moved::Place;
use setup::config::params::{AdminParams, NamerKind, NamerParams, TelemeterParams};
use setup::config::problem::Problems;
use setup::config::reader::{Bad, Context, Item, Reader};
use setup::config::{admin, namer, probe, telemetry};
use std::path::PathBuf;

/// The port of the administrative server (namerd reference §1).
const ADMIN_PORT: u16 = 9991;

/// A whole configuration file (config reference §15).
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The administrative server; its port is 9991 by default.
    pub admin: AdminParams,
    /// How discovery outlives outages and floods.
    pub discovery: DiscoveryParams,
    /// The namers in file order; none has the prefix of another. Default none.
    pub namers: Vec<NamerParams>,
    /// Where dtabs are kept.
    pub storage: StorageParams,
    /// What routers and clients connect to; never empty.
    pub interfaces: Vec<InterfaceParams>,
    /// Who may read and write. Default none: everybody may do everything, as in Linkerd 1.
    pub access: Option<AccessParams>,
    /// The telemeters in file order. Default none.
    pub telemetry: Vec<TelemeterParams>,
    /// What works but is probably not meant, each with place and key path.
    pub warnings: Vec<String>,
    /// The file as written, secrets redacted, for `/config.json`.
    pub as_json: serde_json::Value,
}

/// Reads the text of a configuration file, YAML or JSON. `file_name` appears in problems and warnings only.
pub fn load(file_name: &str, text: &str) -> Result<Config, Problems> {
    let read = setup::config::read(file_name, text, "storage", top)?;
    Ok(Config { warnings: read.warnings, as_json: read.as_json, ..read.config })
}

/// What holds without a file: dtabs in a folder of this host, all three interfaces, on loopback. `folder` is that of the
/// dtabs; default `namerd-data`.
pub fn embedded(folder: Option<PathBuf>) -> Result<Config, Problems> {
    let mut config = load("the embedded config", EMBEDDED)?;
    if let (Some(folder), StorageParams::Local { path, .. }) = (folder, &mut config.storage) {
        *path = folder;
    }
    Ok(config)
}

const EMBEDDED: &str = "\
storage: { kind: io.switchyard.local, path: namerd-data }
interfaces:
- kind: io.l5d.httpController
- kind: io.l5d.mesh
- kind: io.l5d.thriftNameInterpreter
";

/// Every key that is read.
pub fn known() -> probe::Known {
    probe::known(probe_top)
}

/// Runs all readers in a context that only learns which keys they know.
fn probe_top<'a>(context: Context<'a>, item: Item<'a>) {
    top(&context, item, &mut Config::default());
}

fn top<'a>(context: &'a Context<'a>, item: Item<'a>, config: &mut Config) {
    let Some(mut reader) = Reader::open(context, item, Place::Namerd) else { return };
    let mut sockets = Sockets::default();
    config.admin = admin::admin(&mut reader, ADMIN_PORT);
    sockets.admin(&config.admin);
    config.interfaces = interface::interfaces(&mut reader, &mut sockets);
    config.discovery = discovery(&mut reader);
    config.namers = namer::namers(&mut reader, config.discovery.state_dir.is_some());
    overlapping(&reader, &config.namers);
    config.storage = storage::storage(&mut reader);
    config.access = access::access(&mut reader);
    open_to_all(&mut reader, config);
    config.telemetry = telemetry::telemetry(&mut reader);
    reader.finish();
}

/// Two namers of which one has all names of the other: who is asked would depend on their order (namerd reference §1).
fn overlapping(reader: &Reader<'_>, namers: &[NamerParams]) {
    let prefix = |params: &NamerParams| match &params.kind {
        NamerKind::Fs { prefix, .. } | NamerKind::Rewrite { prefix, .. } => prefix.clone(),
    };
    let prefixes: Vec<_> = namers.iter().map(prefix).collect();
    for (at, one) in prefixes.iter().enumerate() {
        if let Some(other) = prefixes.iter().skip(at + 1).find(|other| one.starts_with(other) || other.starts_with(one))
        {
            let message = format!("Namers must not have overlapping prefixes: {one} & {other}");
            let bad = Bad::new(message).expected("a `prefix` of its own for each namer");
            return reader.context.bad(reader.pos("namers"), "namers", bad);
        }
    }
}

/// Whoever reaches an interface that writes can move all traffic.
fn open_to_all(reader: &mut Reader<'_>, config: &Config) {
    let open = |params: &&InterfaceParams| {
        matches!(params.kind, InterfaceKind::Http { .. })
            && !params.ip.is_loopback()
            && !params.tls.as_ref().is_some_and(|tls| tls.require_client_auth)
    };
    if let (None, Some(params)) = (&config.access, config.interfaces.iter().find(open)) {
        let text = format!(
            "anybody who reaches {}:{} can change every dtab, and so redirect all traffic: write `access`, or demand \
            certificates by `tls.requireClientAuth`",
            params.ip, params.port
        );
        if let Some(item) = reader.take("interfaces") {
            reader.context.warn(&item, text);
        }
    }
}
