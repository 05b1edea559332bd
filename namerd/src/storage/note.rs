//! [`Note`]: who writes and why, made safe for logs and terminals. Called by the interfaces. Not for: whether the caller is
//! who it says.

/// Characters of an author at most.
const AUTHOR_CHARS: usize = 200;
/// Characters of a reason at most.
const REASON_CHARS: usize = 1_000;

/// Who writes, and why: for the history and the audit line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Note {
    /// Who says to have written it, or who the caller is known to be. As [`Note::new`] leaves it.
    pub author: Option<String>,
    /// Why. As [`Note::new`] leaves it.
    pub reason: Option<String>,
}

impl Note {
    /// A note of what a caller says, as far as it can be shown: control characters and characters that turn the direction
    /// of text or cannot be seen are removed, runs of white space, line ends included, become one space. What is longer
    /// than 200 characters (author) or 1,000 (reason) is cut. What is empty then is None (attack A11).
    pub fn new(author: Option<&str>, reason: Option<&str>) -> Note {
        let clean = |text: Option<&str>, chars| text.and_then(|text| showable(text, chars));
        Note { author: clean(author, AUTHOR_CHARS), reason: clean(reason, REASON_CHARS) }
    }
}

/// The first `chars` characters of what can be shown of `text`; None when that is nothing.
fn showable(text: &str, chars: usize) -> Option<String> {
    let mut shown = String::new();
    let mut left = chars;
    for word in text.split(char::is_whitespace) {
        let mut visible = word.chars().filter(|&c| !misleads(c)).peekable();
        if visible.peek().is_some() && !shown.is_empty() && left > 0 {
            shown.push(' ');
            left -= 1;
        }
        let before = shown.len();
        shown.extend(visible.take(left));
        left -= shown[before..].chars().count();
        if left == 0 {
            break;
        }
    }
    shown.truncate(shown.trim_end().len());
    (!shown.is_empty()).then_some(shown)
}

/// Control characters, marks and overrides of the direction of text, and characters without width that hide or split words.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::Note;

    #[test]
    fn a11_what_misleads_is_removed() {
        let cases = [
            ("Ana <ana@example.com>", Some("Ana <ana@example.com>")),
            ("Zoë 張 👩\u{200d}💻", Some("Zoë 張 👩\u{200d}💻")),
            ("a\r\nINFO audit: all is well", Some("a INFO audit: all is well")),
            ("a\u{85}b\u{2028}c\u{2029}d\x0be", Some("a b c d e")),
            ("\u{202e}gpj.exe\u{202c}", Some("gpj.exe")),
            ("\u{2066}a\u{2067}b\u{2068}c\u{2069}\u{200e}\u{200f}\u{61c}", Some("abc")),
            ("\x1b[31mred\x1b[0m\x07\x7f\u{9b}", Some("[31mred[0m")),
            ("a\0b", Some("ab")),
            ("pay\u{200b}pal\u{feff}", Some("paypal")),
            ("x\u{e0041}\u{e007f}", Some("x")),
            ("  a   b\t\t", Some("a b")),
            ("", None),
            (" \n\u{202e} ", None),
        ];
        for (text, shown) in cases {
            let shown = shown.map(str::to_owned);
            assert_eq!(Note::new(Some(text), None), Note { author: shown.clone(), reason: None }, "{text:?}");
            assert_eq!(Note::new(None, Some(text)), Note { author: None, reason: shown }, "{text:?}");
        }
        assert_eq!(Note::new(None, None), Note::default());
    }

    #[test]
    fn a11_length_is_bounded_in_characters() {
        let note = Note::new(Some(&"ü".repeat(5_000)), Some(&"word ".repeat(5_000)));
        assert_eq!(note.author, Some("ü".repeat(200)));
        assert_eq!(note.reason, Some("word ".repeat(200).trim_end().to_owned()));
        let hidden = format!("{}a", "\u{202e}".repeat(100_000));
        assert_eq!(Note::new(Some(&hidden), None).author.as_deref(), Some("a"));
        let edge = format!("{} b", "a".repeat(200));
        assert_eq!(Note::new(Some(&edge), None).author, Some("a".repeat(200)));
    }

    #[test]
    fn a_clean_note_stays_as_it_is() {
        let note = Note::new(Some("a\nb \u{202e}c"), Some("  d  e "));
        assert_eq!(Note::new(note.author.as_deref(), note.reason.as_deref()), note);
    }
}
