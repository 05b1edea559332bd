//! The namers and interpreters of a config, built once and kept by a reload that does not change them.
//!
//! Called by the linker of the router and by namerd. Not for: what a namer does (crate `namers`).

pub mod transformers;

use crate::config::discovery::DiscoveryParams;
use crate::config::params::{NamerKind, NamerParams};
use crate::config::transformer::TransformerParams;
use dtab::{Interpreter, Namer};
use namers::{
    Discovery, DnsOptions, DnsResolver, FsNamer, LocalInterpreter, RewriteNamer, Snapshot, SnapshotOptions, SystemNamer,
};
use std::path::PathBuf;
use std::sync::Arc;
use tls::Tls;
use tokio::runtime::Handle;

/// Why names cannot be had. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NamingError {
    /// A namer cannot be made.
    #[error("namer {prefix}: {reason}")]
    Namer {
        /// Its prefix.
        prefix: String,
        /// What is wrong.
        reason: String,
    },
    /// A transformer cannot be made.
    #[error("transformer {prefix}: {reason}")]
    Transformer {
        /// The prefix of its ids.
        prefix: String,
        /// What is wrong.
        reason: String,
    },
}

/// What all configs of a process share: the resolver, the built-in names, and the files of TLS.
pub struct World {
    /// What all namers share.
    pub discovery: Discovery,
    dns: Arc<DnsResolver>,
    system: SystemNamer,
    /// Certificates and keys, watched.
    pub tls: Tls,
    handle: Handle,
}

/// The names of one config.
pub struct Naming {
    /// What it was built from: a config with the same parameters keeps it.
    pub params: String,
    /// All namers, each behind its transformers; the interpreter of a router without transformers.
    pub shared: Arc<dyn Interpreter>,
    /// An interpreter without configured namers.
    pub bare: Arc<dyn Interpreter>,
    /// The namers in preference order, each behind its transformers.
    pub namers: Vec<Arc<dyn Namer>>,
    /// The file-system namers, for the admin pages.
    pub fs: Vec<Arc<FsNamer>>,
    /// The namers without transformers, each with its parameters as text: those that are the same are kept.
    built: Vec<(String, Built)>,
}

/// A namer, with what the admin pages need of it.
#[derive(Clone)]
struct Built {
    namer: Arc<dyn Namer>,
    fs: Option<Arc<FsNamer>>,
}

impl World {
    /// What these parameters ask for; all tasks run on `handle`.
    pub fn new(params: &DiscoveryParams, handle: &Handle) -> World {
        let stored = SnapshotOptions { max_entries: params.max_stored_names, ..SnapshotOptions::default() };
        let open = |folder: &PathBuf| Snapshot::open(folder.clone(), stored.clone(), handle);
        let snapshot = params.state_dir.as_ref().map(open);
        let discovery = Discovery { watch: params.watch(), snapshot, ..Discovery::new(handle.clone()) };
        let options = DnsOptions {
            new_names_per_sec: params.new_names_per_sec,
            max_waiting: params.max_waiting_names,
            max_unknown: params.max_unknown_names,
            deny: params.deny.clone(),
            watch: params.watch(),
            ..DnsOptions::default()
        };
        let dns = DnsResolver::within(&discovery, &params.dns_servers, options);
        let system = SystemNamer::new(dns.clone(), handle.clone());
        World { discovery, dns, system, tls: Tls::new(handle), handle: handle.clone() }
    }

    /// Builds the namers of a config; `before` is kept when it was built from the same parameters.
    pub async fn naming(
        &self,
        params: &[NamerParams],
        before: Option<&Arc<Naming>>,
    ) -> Result<Arc<Naming>, NamingError> {
        let shown = format!("{params:?}");
        if let Some(before) = before.filter(|before| before.params == shown) {
            return Ok(before.clone());
        }
        let mut known: Vec<(String, Built)> = before.map_or_else(Vec::new, |before| before.built.clone());
        let mut built = Vec::new();
        for params in params {
            let text = format!("{:?}", params.kind);
            let same = known.iter().position(|(known, _)| *known == text);
            let namer = same.map_or_else(|| self.namer(&params.kind), |at| Ok(known.swap_remove(at).1))?;
            built.push((text, namer));
        }
        let plain = built.iter().map(|(_, built)| built.namer.clone()).collect();
        let in_preference = transformers::namers(params, plain, &self.system, &self.dns, &self.handle).await?;
        Ok(Arc::new(Naming {
            params: shown,
            shared: self.local(in_preference.clone()),
            namers: in_preference,
            bare: self.local(Vec::new()),
            fs: built.iter().filter_map(|(_, built)| built.fs.clone()).collect(),
            built,
        }))
    }

    /// `interpreter`, behind these transformers, which look their own names up in `naming`.
    pub async fn behind(
        &self,
        interpreter: Arc<dyn Interpreter>,
        transformers: &[TransformerParams],
        naming: &Naming,
    ) -> Result<Arc<dyn Interpreter>, NamingError> {
        let list = transformers::built(transformers, &self.dns).await?;
        Ok(transformers::around_interpreter(interpreter, list, &naming.shared, &self.handle))
    }

    /// What `/$` names stand for.
    pub fn system(&self) -> &SystemNamer {
        &self.system
    }

    fn local(&self, namers: Vec<Arc<dyn Namer>>) -> Arc<dyn Interpreter> {
        Arc::new(LocalInterpreter::new(namers, None, self.system.clone(), self.handle.clone()))
    }

    fn namer(&self, params: &NamerKind) -> Result<Built, NamingError> {
        match params {
            NamerKind::Fs { prefix, root_dir } => {
                let fs = FsNamer::within(&self.discovery, prefix.clone(), root_dir.clone(), self.dns.clone())
                    .map_err(|error| NamingError::Namer { prefix: prefix.to_string(), reason: error.to_string() })?;
                let fs = Arc::new(fs);
                Ok(Built { namer: fs.clone(), fs: Some(fs) })
            }
            NamerKind::Rewrite { prefix, pattern, name } => {
                let rewrite = RewriteNamer::new(prefix.clone(), pattern.text(), name)
                    .map_err(|error| NamingError::Namer { prefix: prefix.to_string(), reason: error.to_string() })?;
                Ok(Built { namer: Arc::new(rewrite), fs: None })
            }
        }
    }
}
