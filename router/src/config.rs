//! Configuration: the text of a `linkerd.yaml` to resolved parameters, or every problem at once.
//!
//! For: `switchyard` at start and at reload, and `switchyard check`. Not for: building anything from the parameters, and
//! not for opening sockets or asking the network. The only things looked at outside the text are whether the directory of
//! an `io.l5d.fs` namer exists, whether `stateDir` is a folder, the files of certificates and keys, and the environment
//! variables of `io.l5d.k8s.localnode`.
//!
//! Two layers. `tree` gives the file as written, each value with its place. The readers of the objects walk it, apply the
//! defaults and note every problem with its place. Each object has one file and its keys stand in it in one place. What
//! Linkerd 1 has and this release has not is refused with a message that says so: nothing is ignored silently.
//! Facts: config reference; sections are named at each item.
//!
//! ```text
//! linkerd.yaml:12:7: routers[0].servers[0].prot: unknown key `prot`; expected one of: ip, port; did you mean `port`?
//!           prot: 4140
//!           ^
//! 1 problem in linkerd.yaml
//! ```

mod access_log;
mod balancer;
mod bodies;
mod clash;
mod classifier;
mod client;
mod forwarded;
mod h2;
mod identifier;
mod interpreter;
mod limits;
mod objects;
mod overrides;
mod params;
mod policy;
mod reference;
mod router;
mod sections;
mod server;
mod service;
mod settings;
#[cfg(test)]
mod tests;
mod when;

use setup::config::{
    admin, discovery, kinds, moved, namer, probe, problem, reader, scalar, socket, telemetry, tls, transformer, tree,
};

pub use balancer::BalancerParams;
pub use forwarded::{ForwardedParams, Labeler};
pub use h2::{ClientProtocol, H2Limits, H2Params, H2Settings, Protocol, ServerProtocol};
pub use interpreter::{InterpreterKind, InterpreterParams, NamerdParams, NamerdProtocol};
pub use limits::LimitParams;
pub use overrides::{OverrideMode, OverrideParams, OverrideRule, OverrideSet, OverrideSets, is_set_name};
pub use params::{
    AccessLogParams, BindingCacheParams, Compression, Config, DtabSource, IdentifierParams, RouterParams, ServerParams,
};
pub use reference::reference;
pub use settings::{
    BudgetParams, Classifier, ClientParams, ClientSettings, GrpcClassifier, GrpcRetry, PoolSettings, Sections,
    ServiceParams, ServiceSettings, SessionSettings, Settings,
};
pub use setup::config::MAX_TEXT_BYTES;
pub use setup::config::discovery::DiscoveryParams;
pub use setup::config::params::{AdminParams, NamerKind, NamerParams, SecurityParams, SocketParams, TelemeterParams};
pub use setup::config::probe::{Known, KnownKey};
pub use setup::config::problem::{MAX_PROBLEMS, Problem, Problems};
pub use setup::config::tls::{PeerTls, TlsSetting};
pub use setup::config::transformer::{TransformerKind, TransformerParams};

use moved::Place;
use reader::{Context, Item, Reader};

/// The port of the administrative server (config reference §3.1).
const ADMIN_PORT: u16 = 9990;

/// Reads the text of a configuration file, YAML or JSON. `file_name` appears in problems and warnings only.
pub fn load(file_name: &str, text: &str) -> Result<Config, Problems> {
    let read = setup::config::read(file_name, text, "routers", top)?;
    Ok(Config { warnings: read.warnings, as_json: read.as_json, ..read.config })
}

/// Every key that is read.
pub fn known() -> Known {
    probe::known(probe_top)
}

/// Runs all readers in a context that only learns which keys they know.
fn probe_top<'a>(context: Context<'a>, item: Item<'a>) {
    top(&context, item, &mut Config::default());
}

fn top<'a>(context: &'a Context<'a>, item: Item<'a>, config: &mut Config) {
    let Some(mut reader) = Reader::open(context, item, Place::Top) else { return };
    let mut claims = clash::Claims::default();
    config.admin = admin::admin(&mut reader, ADMIN_PORT);
    claims.admin(&config.admin);
    config.discovery = discovery::discovery(&mut reader);
    config.routers = router::routers(&mut reader, &mut claims, config.discovery.state_dir.as_deref());
    config.namers = namer::namers(&mut reader, config.discovery.state_dir.is_some());
    config.telemetry = telemetry::telemetry(&mut reader);
    telemetry::usage(&mut reader);
    reader.finish();
}
