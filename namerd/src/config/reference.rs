//! The reference of all config keys of a namerd: `namerd reference` prints it, and `docs/namerd-config.md` is that print.
//!
//! Not for: how it is made (`setup::config::reference`).

use super::known;
use setup::config::reference::Document;

const INTRODUCTION: &str = "\
# Config keys of namerd

Every key that is read, made by `namerd reference` from the readers themselves. Keys marked *Switchyard* are not in Linkerd 1;
all others are, and mean what they mean there but for [differences](differences.md). `[]` stands for the elements of a list.
What `check` refuses although Linkerd 1 has it is named at its object, with the reason in
[differences](differences.md#keys-that-are-refused).

";

/// What is written, beside what the readers know.
pub(super) const DOCUMENT: Document = Document {
    keys: include_str!("keys.md"),
    introduction: INTRODUCTION,
    same: &[
        ("storage(io.l5d.etcd).tls", "client tls"),
        ("storage(io.l5d.consul).tls", "client tls"),
        ("storage(io.l5d.etcd).endpoints[]", "storage endpoints[]"),
        ("storage(io.l5d.consul).endpoints[]", "storage endpoints[]"),
    ],
    shared: &[
        (".socketOptions", "socketOptions"),
        (".backoff", "backoff"),
        (".transformers[]", "transformers[]"),
        ("admin.tls", "server tls"),
        ("interfaces[](io.l5d.httpController).tls", "server tls"),
        ("interfaces[](io.l5d.mesh).tls", "server tls"),
        ("interfaces[](io.l5d.thriftNameInterpreter).tls", "server tls"),
        (".rules[]", "rule"),
        (".anonymous[]", "rule"),
    ],
};

/// The whole reference as Markdown.
pub fn reference() -> String {
    DOCUMENT.text(&known())
}
