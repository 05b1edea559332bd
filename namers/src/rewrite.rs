//! [`RewriteNamer`]: `io.l5d.rewrite`: a pattern over the path, and a path made of what it captured.
//!
//! Pure; nothing is watched. The pattern language is `dtab::Pattern`.

use dtab::{Activity, Addr, Name, NameTree, Namer, Path, Pattern, PatternError, State};

/// The namer of kind `io.l5d.rewrite` (naming reference §6.13).
#[derive(Debug)]
pub struct RewriteNamer {
    prefix: Path,
    pattern: Pattern,
    name: String,
}

/// Why a rewrite namer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The `pattern` setting is not a pattern.
    #[error("malformed pattern: {0}")]
    Pattern(#[from] PatternError),
}

impl RewriteNamer {
    /// A namer at `prefix` (with its `/#`). Errors when `pattern` is malformed. `name` is checked per lookup: whether it
    /// is a legal path depends on what is captured.
    pub fn new(prefix: Path, pattern: &str, name: &str) -> Result<RewriteNamer, RewriteError> {
        Ok(RewriteNamer { prefix, pattern: Pattern::parse(pattern)?, name: name.to_owned() })
    }

    /// One rewrite of the path after the prefix: a path to look up again, Neg without a match, Failed where Linkerd's
    /// lookup throws.
    pub fn rewrite(&self, rest: &Path) -> State<NameTree<Name>> {
        let captures = match self.pattern.match_path(rest) {
            Ok(Some(captures)) => captures,
            Ok(None) => return State::Ok(NameTree::Neg),
            Err(error) => return State::Failed(error.to_string().into()),
        };
        match Path::parse(&captures.substitute(&self.name)) {
            Ok(path) => State::Ok(NameTree::Leaf(Name::Path(path))),
            Err(error) => State::Failed(error.to_string().into()),
        }
    }
}

impl Namer for RewriteNamer {
    fn prefix(&self) -> &Path {
        &self.prefix
    }

    fn lookup(&self, rest: &Path) -> Activity<NameTree<Name>> {
        Activity::constant(self.rewrite(rest))
    }

    /// This namer binds nothing.
    fn resolve(&self, _: &Path) -> Activity<Addr> {
        Activity::constant(State::Ok(Addr::Neg))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(pattern: &str, name: &str, rest: &str) -> State<NameTree<Name>> {
        let namer = RewriteNamer::new(Path::parse("/#/rw").unwrap(), pattern, name).unwrap();
        namer.lookup(&Path::parse(rest).unwrap()).get()
    }

    #[test]
    fn a_match_is_a_path_and_drops_the_rest() {
        let path = Path::parse("/k8s/prod/http/web").unwrap();
        let got = rewrite("/{svc}/api", "/k8s/prod/http/{svc}", "/web/api/dropped");
        assert_eq!(got, State::Ok(NameTree::Leaf(Name::Path(path))));
    }

    #[test]
    fn no_match_is_neg() {
        assert_eq!(rewrite("/{svc}/api", "/{svc}", "/web/other"), State::Ok(NameTree::Neg));
        assert_eq!(rewrite("/a/b", "/x", "/a"), State::Ok(NameTree::Neg));
    }

    #[test]
    fn what_throws_is_failed() {
        assert!(matches!(rewrite("/a/*", "/x", "/a"), State::Failed(_)));
        assert!(matches!(rewrite("/{a}", "/x/{b}", "/web"), State::Failed(_)));
    }
}
