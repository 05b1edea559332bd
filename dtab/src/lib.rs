//! Names as values: paths, name trees, delegation tables, addresses, and the one evaluator that turns a path into
//! bound names.
//!
//! For: every crate that speaks of names. Not for: any IO. Namers and interpreters are traits here and live in `namers`.
//! The facts are in `docs/naming-semantics.md` and `tests/conformance`.

mod activity;
mod addr;
mod dtab;
mod evaluate;
mod explain;
mod index;
mod parse;
mod path;
mod pattern;
mod show;
pub mod system;
mod traits;
mod tree;

pub use crate::activity::{Activity, Publisher, State};
pub use crate::addr::{Addr, AddrSet, Address, Meta};
pub use crate::dtab::{Dentry, Dtab, DtabStack, Element, Prefix};
pub use crate::evaluate::{Lookups, MAX_DEPTH, MAX_PATH_BYTES, MAX_STEPS, bind, bind_with_gaps};
pub use crate::explain::{DelegateTree, Delegation, MAX_EXPLAIN_BYTES, explain, explain_within};
pub use crate::parse::{MAX_NESTING, ParseError, dentry_offsets, parse_dtab, parse_path, parse_prefix, parse_tree};
pub use crate::path::{EmptyLabel, Path, PathBuilder};
pub use crate::pattern::{Captures, Pattern, PatternError};
pub use crate::show::Exact;
pub use crate::traits::{BoundName, BoxFuture, Interpreter, Name, Namer};
pub use crate::tree::{NameTree, Value, Weighted};
