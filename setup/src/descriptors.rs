//! Descriptors: the limit of the process is raised to what the system allows, as a JVM does for Linkerd 1.
//!
//! Every connection takes one, and the usual soft limit of 1024 is far below what is allowed. Called at start. Not for: what
//! happens when they are used up.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. What is refused is logged; the process then goes on with what it has.
pub fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(?current, ?maximum, "the limit of open files is raised"),
        Err(error) => tracing::warn!(?current, ?maximum, %error, "the limit of open files cannot be raised"),
    }
}

/// Of the connections that a listener may take as many as the process can have: a quarter of its descriptors is for
/// everything else. None without a limit.
pub fn most_connections() -> Option<usize> {
    let limit = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(limit / 4 * 3).unwrap_or(usize::MAX).max(1))
}
