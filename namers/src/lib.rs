//! Everything that answers names over IO: the watch table, the namers, the local interpreter, transformers, and the JSON of
//! addresses and delegation trees.
//!
//! For: `router` and `namerd`, which build these things from config. Not for: the rules of names, which are pure and live
//! in `dtab`. Facts are in `docs/naming-semantics.md` and `tests/conformance`.
//!
//! Two pieces carry the rest: [`WatchTable`] owns one source task per live key, and the update loop in `update` turns
//! what those sources publish into answers (evaluate, publish, wait for a change in what was read, repeat).

mod addresses;
mod backoff;
mod binder;
pub mod control;
mod deny;
mod dns;
mod dns_query;
mod dtab_file;
mod folders;
mod fs;
mod fs_file;
mod fs_list;
mod gate;
mod host;
mod local;
mod local_ips;
pub mod mesh;
pub mod remote;
mod rewrite;
mod snapshot;
mod snapshot_file;
mod supervise;
mod system;
pub mod thrift;
mod transform;
mod transformed;
mod update;
mod watch;
mod watched;
mod watches;
pub mod wire;

pub use crate::deny::{DenyList, Net};
pub use crate::dns::{DnsOptions, DnsResolver, HostIps};
pub use crate::dtab_file::DtabFile;
pub use crate::fs::{FsError, FsNamer};
pub use crate::host::{Host, parse_ipv4};
pub use crate::local::LocalInterpreter;
pub use crate::local_ips::local_ips;
pub use crate::rewrite::{RewriteError, RewriteNamer};
pub use crate::snapshot::{Snapshot, SnapshotOptions, SnapshotReport};
pub use crate::system::SystemNamer;
pub use crate::transform::{AddressEffect, AddressTransformer, Replacement, Replaces, Transformer};
pub use crate::transformed::{TransformedInterpreter, TransformedNamer};
pub use crate::watch::{Key, Source, SourceError, Val, WatchOptions, WatchReport, WatchTable, Watched};
pub use crate::watched::WatchSums;
pub use crate::watches::{Discovery, TableReport, WatchList, Watches};
