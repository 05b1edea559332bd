//! The dtabs that questions bring along: how long they may be, and how much of them is shown.
//!
//! What is asked is kept for as long as it is followed, and a while longer, by thousands; so it is bounded in bytes. Called by
//! the interfaces, and by what shows the tables of names. Not for: dtabs of namespaces.

use dtab::{Dtab, Exact, Path};
use std::fmt::{self, Write};

/// The text of an extra dtab may have so many bytes, over every protocol.
pub(crate) const MAX_EXTRA: usize = 64 << 10;
/// So many characters of a question are shown.
const SHOWN: usize = 200;

/// Whether the text of `extra` has more than [`MAX_EXTRA`] bytes.
pub(crate) fn is_too_long(extra: &Dtab) -> bool {
    struct Left(usize);
    impl Write for Left {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0 = self.0.checked_sub(text.len()).ok_or(fmt::Error)?;
            Ok(())
        }
    }
    write!(Left(MAX_EXTRA), "{}", Exact(extra)).is_err()
}

/// Shows the beginning of a question, for people.
pub(crate) fn show_question(f: &mut fmt::Formatter<'_>, namespace: &str, path: &Path, extra: &Dtab) -> fmt::Result {
    let mut short = Short { out: f, left: SHOWN };
    // It ends with an error where it is cut.
    let shown = match extra.is_empty() {
        true => write!(short, "{namespace} {path}"),
        false => write!(short, "{namespace} {path} by {}", Exact(extra)),
    };
    if short.left == 0 { f.write_str("…") } else { shown }
}

/// Passes on the first characters; `left` is 0 once something has been left out.
struct Short<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
}

impl Write for Short<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.left == 1 {
                self.left = 0;
                return Err(fmt::Error);
            }
            self.out.write_char(c)?;
            self.left -= 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Question(Dtab);

    impl fmt::Display for Question {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            show_question(f, "ns", &Path::parse("/a").expect("a path"), &self.0)
        }
    }

    #[test]
    fn long_questions_are_cut() {
        let extra = |bytes: usize| Dtab::parse(&format!("/a=>/{}", "b".repeat(bytes - 5))).expect("a dtab");
        assert_eq!(Question(Dtab::empty()).to_string(), "ns /a");
        assert_eq!(Question(extra(6)).to_string(), "ns /a by /a=>/b");
        let cut = Question(extra(5000)).to_string();
        assert!(cut.starts_with("ns /a by /a=>/bbb") && cut.ends_with("b…"), "{cut}");
        assert_eq!(cut.chars().count(), SHOWN);
        assert!(!is_too_long(&extra(MAX_EXTRA)));
        assert!(is_too_long(&extra(MAX_EXTRA + 1)));
    }
}
