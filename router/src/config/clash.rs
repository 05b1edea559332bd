//! What may be there only once in a file: labels of routers, listen addresses (config reference §17).
//!
//! For: the readers of routers and `load`. Not for: binding anything; no socket is opened. Linkerd found some of these
//! clashes only after it had opened its first sockets, or told them without a place.

use super::params::AccessLogParams;
use super::problem::quote;
use super::reader::{Bad, Context, Item};
use setup::config::clash::{Claim, Sockets};
use setup::config::params::AdminParams;
use std::collections::HashMap;
use std::path::{Component, PathBuf};

/// What was claimed so far.
#[derive(Default)]
pub(super) struct Claims {
    /// Label to router.
    labels: HashMap<String, String>,
    sockets: Sockets,
    /// Access logs by file, with the key path of the first that names it.
    logs: HashMap<PathBuf, (String, AccessLogParams)>,
}

impl Claims {
    /// Claims the label of a router; `at` is the label or the router itself.
    pub(super) fn label(&mut self, context: &Context<'_>, at: &Item<'_>, label: &str) {
        if let Some(first) = self.labels.get(label) {
            let message = format!("two routers are called {}, the other is {first}", quote(label));
            context.bad(at.pos, &at.path, Bad::new(message).expected("a `label` of its own for each router"));
            return;
        }
        let router = at.path.strip_suffix(".label").unwrap_or(&at.path);
        self.labels.insert(label.to_owned(), router.to_owned());
    }

    /// Notes the access log at `at`. Routers may share a file, and then keep it alike.
    pub(super) fn access_log(&mut self, context: &Context<'_>, at: &Item<'_>, log: &AccessLogParams) {
        // Without `.` and doubled slashes.
        let file = log.path.components().filter(|part| *part != Component::CurDir).collect();
        match self.logs.get(&file) {
            None => _ = self.logs.insert(file, (at.path.clone(), log.clone())),
            Some((_, known)) if (known.format, known.options) == (log.format, log.options) => {}
            Some((first, _)) => {
                let message = format!("the same file as {first}, with other settings");
                let expected = "the same format, roll policy, append, rotate count and queue, or another file";
                context.bad(at.pos, &at.path, Bad::new(message).expected(expected));
            }
        }
    }

    /// Claims the address of the administrative server, before all others.
    pub(super) fn admin(&mut self, admin: &AdminParams) {
        self.sockets.admin(admin);
    }

    /// Claims the address of a server; `at` is its port or the object around.
    pub(super) fn socket(&mut self, context: &Context<'_>, at: &Item<'_>, claim: Claim) {
        self.sockets.claim(context, at, claim);
    }
}
