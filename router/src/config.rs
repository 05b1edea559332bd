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
mod admin;
mod balancer;
mod bodies;
mod clash;
mod client;
mod discovery;
mod forwarded;
mod identifier;
mod json;
mod kinds;
mod limits;
mod moved;
mod namer;
mod objects;
mod overrides;
mod params;
mod policy;
mod probe;
mod problem;
mod reader;
mod reference;
mod router;
mod scalar;
mod sections;
mod server;
mod service;
mod settings;
mod source;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod transformer;
mod tree;
mod when;

pub use balancer::BalancerParams;
pub use discovery::DiscoveryParams;
pub use forwarded::{ForwardedParams, Labeler};
pub use limits::LimitParams;
pub use overrides::{OverrideMode, OverrideParams, OverrideRule, OverrideSet, OverrideSets, is_set_name};
pub use params::{
    AccessLogParams, AdminParams, BindingCacheParams, Compression, Config, DtabSource, IdentifierParams, NamerKind,
    NamerParams, RouterParams, SecurityParams, ServerParams, SocketParams, TelemeterParams,
};
pub use probe::{Known, KnownKey, known};
pub use problem::{MAX_PROBLEMS, Problem, Problems};
pub use reference::reference;
pub use settings::{
    BudgetParams, Classifier, ClientParams, ClientSettings, PeerTls, PoolSettings, Sections, ServiceParams,
    ServiceSettings, SessionSettings, Settings, TlsSetting,
};
pub use transformer::{TransformerKind, TransformerParams};

use moved::Place;
use reader::{Bad, Context, Item, Reader};
use source::{Pos, Source};
use tree::{Node, Value};

/// Longest text of a configuration file in bytes.
pub const MAX_TEXT_BYTES: usize = 8 * 1024 * 1024;

/// Reads the text of a configuration file, YAML or JSON. `file_name` appears in problems and warnings only. Of several
/// YAML documents only the first counts (config reference §2.1).
pub fn load(file_name: &str, text: &str) -> Result<Config, Problems> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let sized = if text.len() > MAX_TEXT_BYTES { "" } else { text };
    let source = Source::new(sized);
    let context = Context::new(file_name, &source);
    if sized.len() < text.len() {
        let message = format!("the file has {} bytes, more than {MAX_TEXT_BYTES}", text.len());
        context.bad(Pos::START, "", Bad::new(message));
    }
    let root = match tree::parse(sized, &source) {
        Ok((root, more)) => {
            if more {
                context.warn(&Item::root(&root), "the file has several YAML documents; only the first one counts");
            }
            root
        }
        Err(broken) => {
            context.bad(broken.pos, "", Bad::new(broken.message));
            Node::default()
        }
    };
    resolve(context, &root)
}

/// Walks the tree. Problems found before, or an empty tree, end as problems.
fn resolve(context: Context<'_>, root: &Node) -> Result<Config, Problems> {
    let mut config = Config::default();
    if !context.is_clean() {
        // There is no tree to walk.
    } else if let Value::Null = root.value {
        context.bad(root.pos, "", Bad::new("the file has no content").expected("a map with the key `routers`"));
    } else {
        let item = Item::root(root);
        reader::duplicates(&context, &item);
        top(&context, item, &mut config);
    }
    config.warnings = context.end()?;
    config.as_json = json::json(root);
    Ok(config)
}

/// Runs all readers in a context that only learns which keys they know.
fn probe_top<'a>(context: Context<'a>, item: Item<'a>) {
    top(&context, item, &mut Config::default());
}

fn top<'a>(context: &'a Context<'a>, item: Item<'a>, config: &mut Config) {
    let Some(mut reader) = Reader::open(context, item, Place::Top) else { return };
    let mut claims = clash::Claims::default();
    config.admin = admin::admin(&mut reader);
    claims.admin(&config.admin);
    config.routers = router::routers(&mut reader, &mut claims);
    config.discovery = discovery::discovery(&mut reader);
    config.namers = namer::namers(&mut reader, config.discovery.state_dir.is_some());
    config.telemetry = telemetry::telemetry(&mut reader);
    telemetry::usage(&mut reader);
    reader.finish();
}
