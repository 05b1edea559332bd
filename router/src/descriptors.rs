//! The connections of a listener, within the descriptors that the process has.
//!
//! Called by `server`. Not for: the limit of the process (`setup::descriptors`), or what happens when it is used up
//! (`connect`, `worker`).

use crate::config::ServerParams;

/// Of the connections that a listener may take, and of those of one source, as many as the process can have: a quarter of its
/// descriptors is for connections to services, files and the admin server.
pub(crate) fn within(params: &mut ServerParams) {
    let Some(most) = setup::descriptors::most_connections() else { return };
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
