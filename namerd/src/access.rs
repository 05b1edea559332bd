//! Who may read and write which dtabs (requirements I13, P18): the policy, and how a caller is judged by it.
//!
//! A caller is known by a bearer token, by the certificate of its connection, or not at all. Each of the three has rules.
//! Without a policy everybody may do everything, as in Linkerd 1. Called by the interfaces; the writes of the HTTP interface
//! are also put on record ([`audit`]). Not for: browsers that are led here by other sites, see `browser`.

pub mod audit;
pub mod browser;
mod changes;
mod standing;

pub use changes::{Changes, changes};
pub use standing::{LOOK, Needs, Standing};

use crate::iface::Peer;
use dtab::{Dtab, Prefix};
use setup::tokens::TokenFile;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// What a rule lets its callers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read dtabs and names.
    Read,
    /// Read, and write dtabs.
    Write,
}

/// Which namespaces a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// `*`: all of them.
    All,
    /// These.
    Named(Vec<String>),
}

impl Namespaces {
    fn contains(&self, namespace: &str) -> bool {
        match self {
            Namespaces::All => true,
            Namespaces::Named(names) => names.iter().any(|name| name == namespace),
        }
    }
}

/// One rule of a caller. A caller may do what any of its rules lets it do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it lets its caller do.
    pub right: Right,
    /// Where.
    pub namespaces: Namespaces,
    /// A write may change only dentries whose prefix lies under one of these; None for all. A `*` in a prefix of a rule
    /// stands for any one label. Namespaces are made and removed only by rules without prefixes. Reading is never
    /// restricted by prefixes.
    pub prefixes: Option<Vec<Prefix>>,
}

/// A caller known by a token, `Authorization: Bearer <token>`.
#[derive(Debug, Clone)]
pub struct TokenParams {
    /// What the caller is called in the audit and in the history.
    pub name: String,
    /// The file with the token.
    pub file: TokenFile,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A caller known by its certificate.
#[derive(Debug, Clone)]
pub struct IdentityParams {
    /// As in [`Peer::identity`], exactly.
    pub identity: String,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A policy.
#[derive(Debug, Clone, Default)]
pub struct AccessParams {
    /// Rules that hold for every caller, known or not.
    pub anonymous: Vec<Rule>,
    /// Callers with tokens.
    pub tokens: Vec<TokenParams>,
    /// Callers with certificates.
    pub identities: Vec<IdentityParams>,
}

/// Why a caller may not do something. The texts are for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Credentials are missing or wrong.
    #[error("{0}")]
    Unauthenticated(String),
    /// The credentials are good, but not for this.
    #[error("{0}")]
    Forbidden(String),
}

/// The policy of a namerd; cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// None: everybody may do everything.
    policy: Option<Arc<AccessParams>>,
    /// None: tokens are looked at when a request shows one, and not again.
    look: Option<standing::Look>,
}

/// A caller, and what it may do.
#[derive(Debug, Clone)]
pub struct Caller {
    /// What it is called; None for one that is not known.
    pub name: Option<String>,
    /// None: everything.
    rules: Option<Vec<Rule>>,
}

/// What of a namespace a caller may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteRight {
    /// All of it.
    All,
    /// Dentries whose prefixes lie under these.
    Within(Vec<Prefix>),
}

impl Access {
    /// Access by this policy; with None everybody may do everything.
    pub fn new(policy: Option<AccessParams>) -> Access {
        Access { policy: policy.map(Arc::new), look: None }
    }

    /// The same, looking so often, on `handle`, at the files with tokens for the sake of streams ([`Standing`]).
    pub fn watching(self, every: Duration, handle: &Handle) -> Access {
        let look = self.policy.as_ref().and_then(|policy| standing::Look::begin(policy, every, handle));
        Access { look, ..self }
    }

    /// Whether there is a policy, by which callers are told apart.
    pub fn is_limited(&self) -> bool {
        self.policy.is_some()
    }

    /// Who is calling, as far as its connection says it: over protocols that have no place for a token.
    pub fn connected(&self, peer: &Peer) -> Caller {
        let name = peer.identity.clone();
        let Some(policy) = &self.policy else { return Caller { name, rules: None } };
        let known = policy.identities.iter().filter(|known| Some(&known.identity) == name.as_ref());
        let own = known.flat_map(|known| known.rules.iter().cloned());
        Caller { rules: Some(policy.anonymous.iter().cloned().chain(own).collect()), name }
    }

    /// Who is calling. `token` is what followed `Bearer` in the request, if it has one. A token that nobody has is an
    /// error, whatever callers without a token may do.
    pub fn caller(&self, peer: &Peer, token: Option<&[u8]>) -> Result<Caller, Denied> {
        match token {
            Some(token) => self.caller_by(peer, |_, known| known.file.is(token)),
            None => Ok(self.connected(peer)),
        }
    }

    /// Who is calling, with the token that is the first of which `is_shown`, given its place in the policy, is true.
    fn caller_by(&self, peer: &Peer, is_shown: impl Fn(usize, &TokenParams) -> bool) -> Result<Caller, Denied> {
        let caller = self.connected(peer);
        let Some(policy) = &self.policy else { return Ok(caller) };
        let Some((_, known)) = policy.tokens.iter().enumerate().find(|(at, known)| is_shown(*at, known)) else {
            let text = "the bearer token is not one that this namerd knows; check that it is complete and has not been replaced";
            return Err(Denied::Unauthenticated(text.into()));
        };
        let rules = caller.rules.into_iter().flatten().chain(known.rules.iter().cloned()).collect();
        Ok(Caller { name: Some(known.name.clone()), rules: Some(rules) })
    }

    /// Whether a caller that was let in just now, by this token if it has shown one, keeps what a stream needs.
    pub fn standing(&self, peer: &Peer, token: Option<&[u8]>, needs: Needs) -> Standing {
        Standing::new(self, peer, token, needs)
    }

    /// Whether the caller may read the dtab of `namespace` and names by it.
    pub fn may_read(&self, peer: &Peer, token: Option<&[u8]>, namespace: &str) -> Result<(), Denied> {
        self.caller(peer, token)?.may_read(namespace)
    }
}

impl Caller {
    /// The rules that hold in this namespace.
    fn rules_of<'a>(&'a self, namespace: &'a str) -> Option<impl Iterator<Item = &'a Rule>> {
        self.rules.as_ref().map(|rules| rules.iter().filter(|rule| rule.namespaces.contains(namespace)))
    }

    /// Whether the dtab of `namespace` and names by it may be read.
    pub fn may_read(&self, namespace: &str) -> Result<(), Denied> {
        match self.rules_of(namespace).is_none_or(|mut rules| rules.next().is_some()) {
            true => Ok(()),
            false => Err(self.denied(&format!("read namespace {namespace}"))),
        }
    }

    /// Whether anything at all may be read.
    pub fn may_read_something(&self) -> Result<(), Denied> {
        match self.rules.as_ref().is_none_or(|rules| !rules.is_empty()) {
            true => Ok(()),
            false => Err(self.denied("read anything here")),
        }
    }

    /// What of `namespace` may be written; an error when nothing of it may.
    pub fn may_write(&self, namespace: &str) -> Result<WriteRight, Denied> {
        let Some(rules) = self.rules_of(namespace) else { return Ok(WriteRight::All) };
        let mut within = Vec::new();
        let mut any = false;
        for rule in rules.filter(|rule| rule.right == Right::Write) {
            let Some(prefixes) = &rule.prefixes else { return Ok(WriteRight::All) };
            any = true;
            within.extend(prefixes.iter().cloned());
        }
        if any { Ok(WriteRight::Within(within)) } else { Err(self.denied(&format!("write namespace {namespace}"))) }
    }

    fn denied(&self, what: &str) -> Denied {
        match &self.name {
            None => Denied::Unauthenticated(format!(
                "callers without credentials may not {what}; show a client certificate, or send `Authorization: Bearer <token>` \
                 where the protocol has a place for it"
            )),
            Some(name) => {
                Denied::Forbidden(format!("{name} may not {what}; its rights are in the config of this namerd"))
            }
        }
    }
}

impl WriteRight {
    /// Whether the dtab of a namespace may go from `before` to `after`; None stands for no namespace.
    pub fn judge(&self, namespace: &str, before: Option<&Dtab>, after: Option<&Dtab>) -> Result<(), Denied> {
        let WriteRight::Within(allowed) = self else { return Ok(()) };
        let (Some(before), Some(after)) = (before, after) else {
            let what = if after.is_some() { "make" } else { "remove" };
            let text = format!("to {what} namespace {namespace} takes a write right that is not limited to prefixes");
            return Err(Denied::Forbidden(text));
        };
        let Some(prefix) = changes::first_outside(before, after, allowed) else { return Ok(()) };
        let allowed = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(Denied::Forbidden(format!(
            "this write changes dentries of {prefix} in namespace {namespace}, and this caller may change only what lies under {allowed}"
        )))
    }
}

#[cfg(test)]
mod tests;
