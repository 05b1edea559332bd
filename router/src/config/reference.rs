//! The reference of all config keys of a router: `switchyard reference` prints it, and `docs/config.md` is that print.
//!
//! Not for: how it is made (`setup::config::reference`).

use super::known;
use setup::config::reference::Document;

const INTRODUCTION: &str = "\
# Config keys

Every key that is read, made by `switchyard reference` from the readers themselves. Keys marked *Switchyard* are not in
Linkerd 1; all others are, and mean what they mean there but for [differences](differences.md). `[]` stands for the elements
of a list. What `check` refuses although Linkerd 1 has it is named at its object, with the reason in
[differences](differences.md#keys-that-are-refused).

";

/// What is written, beside what the readers know.
pub(super) const DOCUMENT: Document =
    Document { keys: include_str!("keys.md"), introduction: INTRODUCTION, same: SAME, shared: SHARED };

/// What the classifiers of h2 routers are called, which are not those of http routers.
const H2_CLASSIFIERS: &str = "response classifiers of h2 routers";

/// Objects that are written in two ways: what a path is called in the reference.
const SAME: &[(&str, &str)] = &[
    ("routers[](http)", "routers[]"),
    ("routers[](h2).service(io.l5d.global).responseClassifier", H2_CLASSIFIERS),
    ("routers[](h2).service(io.l5d.static).configs[].responseClassifier", H2_CLASSIFIERS),
    ("routers[](h2)", "routers[]"),
    ("interpreter(io.l5d.mesh).tls", "client.tls"),
    ("interpreter(io.l5d.namerd).tls.clientAuth", "client.tls.clientAuth"),
    ("interpreter(io.l5d.namerd.http).tls", "client.tls"),
    ("client(io.l5d.static).configs[]", "client"),
    ("client(io.l5d.static)", "client"),
    ("client(io.l5d.global)", "client"),
    ("service(io.l5d.static).configs[]", "service"),
    ("service(io.l5d.static)", "service"),
    ("service(io.l5d.global)", "service"),
];

/// Objects that are described once, wherever they stand: by the last part of their path.
const SHARED: &[(&str, &str)] = &[
    (".socketOptions", "socketOptions"),
    (".backoff", "backoff"),
    (".retry", "retry"),
    (".failureThreshold", "failureThreshold"),
    (".requeueBudget", "budget"),
    (".budget", "budget"),
    (".clientSession", "session"),
    (".serverSession", "session"),
    (".transformers[]", "transformers[]"),
    ("admin.tls", "server tls"),
    ("servers[].tls", "server tls"),
];

/// The whole reference as Markdown.
pub fn reference() -> String {
    DOCUMENT.text(&known())
}

#[cfg(test)]
#[path = "tests/reference.rs"]
mod tests;
