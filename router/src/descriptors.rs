//! Descriptors: the limit of the process is raised to what the system allows, as a JVM does for Linkerd 1.
//!
//! Every connection takes one, and the usual soft limit of 1024 is far below `maxConnections`. Called once by `cli`. Not
//! for: what happens when they are used up (`pool`, `worker`).

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
