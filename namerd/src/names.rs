//! [`Names`]: what every interface answers from: names by the dtab of a namespace, over namers of this process.
//!
//! A namespace that does not exist is an empty dtab here, as in Linkerd 1 (namerd reference §1). Equal questions share one
//! binding, however many routers ask. Called by the interfaces. Not for: protocols, rights.

use crate::storage::Store;
use dtab::{Activity, Addr, BoundName, DelegateTree, Dtab, NameTree, Path};
use std::sync::Arc;

/// See the module; cloning shares it.
#[derive(Clone)]
pub struct Names {
    store: Arc<dyn Store>,
}

impl Names {
    /// The store behind, for what concerns dtabs and not names.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The tree of `path` by the namespace's dtab and then `extra`. Holds no Alt; live until dropped. The last good tree
    /// stays when a later one cannot be known.
    pub fn bind(&self, namespace: &str, extra: &Dtab, path: &Path) -> Activity<NameTree<BoundName>> {
        todo!("{namespace} {extra} {path}")
    }

    /// The addresses of a bound id; transformers' `/%/...` ids are understood. Live until dropped.
    pub fn resolve(&self, id: &Path) -> Activity<Addr> {
        todo!("{id}")
    }

    /// How `path` resolves by the namespace's dtab, if one is named, and then `extra`. At most 2 s.
    pub async fn explain(&self, namespace: Option<&str>, extra: &Dtab, path: &Path) -> Result<DelegateTree, String> {
        todo!("{namespace:?} {extra} {path}")
    }

    /// All names that interfaces have bound in this namespace within the last hour, sorted.
    pub fn known(&self, namespace: &str) -> Vec<Path> {
        todo!("{namespace}")
    }
}
