//! Descriptors: the limit of the process is raised to what the system allows, as a JVM does for Linkerd 1.
//!
//! Every connection takes one, and the usual soft limit of 1024 is far below `maxConnections`.
//! Called by `cli` and by `server`. Not for: what happens when they are used up (`connect`, `worker`).

use crate::config::ServerParams;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. What is refused is logged; the process then goes on with what it has.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "the limit of open files is raised"),
        Err(error) => tracing::warn!(?current, ?maximum, %error, "the limit of open files cannot be raised"),
    }
}

/// Of the connections that a listener may take, and of those of one source, as many as the process can have: a quarter of its
/// descriptors is for connections to services, files and the admin server.
pub(crate) fn within(params: &mut ServerParams) {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    let most = usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX).max(1);
    if params.max_connections > most {
        tracing::debug!(
            most,
            wanted = params.max_connections,
            "maxConnections is more than the limit of open files allows"
        );
    }
    params.max_connections = params.max_connections.min(most);
    params.max_connections_per_source = params.max_connections_per_source.min(most);
}
