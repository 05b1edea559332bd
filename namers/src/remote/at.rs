//! [`At`]: replicas at known addresses, in place of discovery, for the tests of the clients of namerd.

use dtab::{Activity, Addr, BoundName, BoxFuture, DelegateTree, DtabStack, Interpreter, NameTree, Path, State};
use std::net::SocketAddr;

/// Replicas at these addresses, whatever the name.
pub(crate) struct At(pub(crate) Vec<SocketAddr>);

impl Interpreter for At {
    fn bind(&self, _: &DtabStack, path: &Path) -> Activity<NameTree<BoundName>> {
        let bound = BoundName { id: path.clone(), residual: Path::empty() };
        Activity::constant(State::Ok(NameTree::Leaf(bound)))
    }

    fn resolve(&self, _: &Path) -> Activity<Addr> {
        Activity::constant(State::Ok(Addr::bound(self.0.iter().copied())))
    }

    fn explain<'a>(&'a self, _: &'a DtabStack, _: &'a Path) -> BoxFuture<'a, Result<DelegateTree, String>> {
        Box::pin(async { Err("not explained".into()) })
    }
}
