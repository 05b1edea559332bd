//! One line per write, accepted, refused or of unknown outcome: who, from where, what, why (tracing target `audit`).
//!
//! Called by the interface that writes. Not for: the history, which the store keeps.

use crate::access::Changes;
use crate::storage::Note;
use std::net::SocketAddr;
use std::sync::Arc;
use telemetry::{Counter, Scope};

/// Author and name of a caller are cut after so many characters.
pub(crate) const MAX_NAME: usize = 200;
/// Other texts are cut after so many.
const MAX_TEXT: usize = 1000;

/// A write, as the audit shows it.
#[derive(Debug, Default)]
pub struct Write {
    /// What the caller is known to be; None when it is not.
    pub caller: Option<String>,
    /// Who the caller says to be, and why it writes.
    pub note: Note,
    /// Where the request came from.
    pub from: Option<SocketAddr>,
    /// `create`, `put`, `update` or `delete`.
    pub action: &'static str,
    /// The namespace.
    pub namespace: String,
    /// The version before, as an ETag; None when there was none or it is not known.
    pub before: Option<String>,
    /// The version after; None when there is none.
    pub after: Option<String>,
    /// What differs.
    pub changes: Changes,
    /// The store was asked and has not said what it did: a write that fails may be stored all the same.
    pub unknown: bool,
}

/// How writes end, counted: `audit/accepted`, `audit/refused` and `audit/unknown`.
#[derive(Debug, Clone)]
pub struct Outcomes {
    accepted: Arc<Counter>,
    refused: Arc<Counter>,
    unknown: Arc<Counter>,
}

impl Outcomes {
    /// Counters below `scope`.
    pub fn new(scope: &Scope) -> Outcomes {
        let counter = |outcome: &str| scope.counter(&format!("audit/{outcome}"));
        Outcomes { accepted: counter("accepted"), refused: counter("refused"), unknown: counter("unknown") }
    }
}

impl Write {
    /// Writes the line, and counts it. `refusal` is the status and the text that the caller gets; None for an accepted
    /// write.
    pub fn log(&self, outcomes: &Outcomes, refusal: Option<(u16, &str)>) {
        let (outcome, counter) = match refusal {
            None => ("accepted", &outcomes.accepted),
            Some(_) if self.unknown => ("unknown", &outcomes.unknown),
            Some(_) => ("refused", &outcomes.refused),
        };
        counter.incr();
        let part = |text: &Option<String>| clean(text.as_deref().unwrap_or("-"), MAX_NAME);
        let mut prefixes = self.changes.prefixes.join(" ");
        if self.changes.more > 0 {
            prefixes.push_str(&format!(" and {} more", self.changes.more));
        }
        let from = self.from.map_or_else(|| "-".to_owned(), |from| from.to_string());
        let (status, why) = refusal.unwrap_or((204, ""));
        tracing::info!(
            target: "audit",
            outcome,
            action = self.action,
            // Texts of callers are quoted, as all that is not `%`: they cannot look like fields.
            namespace = clean(&self.namespace, MAX_NAME),
            caller = part(&self.caller),
            author = part(&self.note.author),
            from = %from,
            before = %part(&self.before),
            after = %part(&self.after),
            prefixes = clean(&prefixes, MAX_TEXT),
            reason = clean(self.note.reason.as_deref().unwrap_or("-"), MAX_TEXT),
            status,
            why = clean(why.trim_end(), MAX_TEXT),
            "write"
        );
    }
}

/// A text from a caller that can stand in a line of a log: without control characters and without those that change the
/// direction or hide (attack A11), and not too long.
pub fn clean(text: &str, longest: usize) -> String {
    let safe = |c: char| if c.is_control() || is_invisible(c) { '\u{fffd}' } else { c };
    text.chars().map(safe).take(longest).collect()
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_callers_cannot_forge_a_line() {
        assert_eq!(clean("a\r\nb\u{202e}c\u{1b}[0m\u{2028}", 99), "a\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}[0m\u{fffd}");
        assert_eq!(clean("Zoë – 日本", 99), "Zoë – 日本");
        assert_eq!(clean(&"x".repeat(5000), MAX_NAME).len(), MAX_NAME);
    }
}
