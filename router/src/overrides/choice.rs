//! [`Choice`]: whose choice a leaf is, the operator's or the request's (requirements §5, rule 3).
//!
//! Pure; called when a bound list is made. Not for: addresses, which are looked at with every connect.

use super::address;
use dtab::{Path, system};
use std::collections::HashSet;

/// Whose choice a leaf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The name leads there without the override as well.
    Operator,
    /// Only the override leads there; a namer of the config has bound it.
    Override,
    /// Only the override leads there, and the host is its own text: the system namer has bound it. Each address is
    /// looked at before it is used.
    OverrideHost {
        /// Why the text alone is denied.
        denied: Option<&'static str>,
    },
}

impl Choice {
    /// Whose choice `id` is under an override, when `base` are the ids that the name has without it. Ids alone count:
    /// all that a residual changes is what the service is told.
    pub fn of(id: &Path, base: &HashSet<Path>) -> Choice {
        if base.contains(id) {
            return Choice::Operator;
        }
        let concrete = concrete(id);
        match concrete.get(0) {
            Some(b"$") => Choice::OverrideHost { denied: host(&concrete).and_then(|host| address::denied_host(&host)) },
            _ => Choice::Override,
        }
    }
}

/// The id without a leading transformer part `/%/...`, which ends before the first `#` or `$` (naming reference §9): a
/// transformer changes nothing about whose choice the name is.
pub fn concrete(id: &Path) -> Path {
    if id.get(0) != Some(b"%") {
        return id.clone();
    }
    let at = id.labels().position(|label| label == b"#" || label == b"$");
    at.map_or_else(|| id.clone(), |at| id.skip(at))
}

/// The host of a system id as it is written; an absent one is loopback.
fn host(id: &Path) -> Option<String> {
    let label = |at| id.get(at).map(|label| String::from_utf8_lossy(label).into_owned());
    match (id.text(1), id.len()) {
        (Some("io.buoyant.rinet"), _) => label(3),
        (_, 3) => Some(String::new()),
        _ => label(2),
    }
    .filter(|_| system::target(id).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a path")
    }

    fn choice(id: &str) -> Choice {
        Choice::of(&path(id), &HashSet::from([path("/$/inet/127.1/80"), path("/%/io.l5d.port/1/$/inet/127.1/80")]))
    }

    #[test]
    fn what_the_base_reaches_is_the_operators() {
        assert_eq!(choice("/$/inet/127.1/80"), Choice::Operator);
        assert_eq!(choice("/%/io.l5d.port/1/$/inet/127.1/80"), Choice::Operator);
        assert_eq!(choice("/$/inet/127.1/81"), Choice::OverrideHost { denied: Some("loopback") });
    }

    #[test]
    fn hosts_of_requests_are_told_from_names_of_namers() {
        let host = |denied| Choice::OverrideHost { denied };
        for (id, wanted) in [
            ("/#/io.l5d.fs/web", Choice::Override),
            ("/%/io.l5d.port/80/#/io.l5d.fs/web", Choice::Override),
            ("/$/inet/web/80", host(None)),
            ("/$/inet/9990", host(Some("loopback"))),
            ("/$/inet/localhost/80", host(Some("loopback"))),
            ("/$/fixedinet/169.254.169.254/80", host(Some("metadata"))),
            ("/$/io.buoyant.rinet/80/0x7f.1", host(Some("loopback"))),
            ("/$/io.buoyant.rinet/80/web", host(None)),
            ("/%/io.l5d.port/80/$/inet/127.1/80", host(Some("loopback"))),
            ("/$/inet/\\x5bfe80::1%eth0\\x5d/80", host(Some("link-local"))),
        ] {
            assert_eq!(choice(id), wanted, "{id}");
        }
    }
}
