//! The text of a configuration file: from line and column to byte offset and back to a line that can be shown.
//!
//! For: the tree builder, which learns lines and columns from the YAML parser, and the problem report. Not for: parsing.
//! Lines end where YAML says they end (LF, CR, CR LF, NEL, LS, PS); columns count characters.

/// A place in the text; line and column start at 1, line 0 means unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Pos {
    /// From 1; 0 for unknown.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl Pos {
    /// The first character.
    pub const START: Pos = Pos { line: 1, column: 1 };

    /// False where the parser does not say.
    pub fn is_known(self) -> bool {
        self.line > 0
    }
}

/// A byte offset is kept for every so many characters, so that no lookup walks further than this.
const STRIDE: usize = 64;
/// How far the opening bracket of a list may be before its first element.
const LOOK_BACK: usize = 200;

/// The text with an index of its lines.
pub struct Source<'t> {
    text: &'t str,
    /// Character index and byte offset of the start of each line.
    lines: Vec<(usize, usize)>,
    /// Byte offset of every `STRIDE`th character.
    strides: Vec<usize>,
}

impl<'t> Source<'t> {
    /// With the index of its lines.
    pub fn new(text: &'t str) -> Source<'t> {
        let mut lines = vec![(0, 0)];
        let mut strides = Vec::new();
        let mut chars = text.char_indices().peekable();
        let mut count = 0;
        while let Some((at, c)) = chars.next() {
            if count % STRIDE == 0 {
                strides.push(at);
            }
            count += 1;
            let crlf = c == '\r' && chars.peek().is_some_and(|(_, next)| *next == '\n');
            if is_break(c) && !crlf {
                lines.push((count, at + c.len_utf8()));
            }
        }
        Source { text, lines, strides }
    }

    /// Byte offset of a place; none when the text has no such place.
    pub fn offset(&self, pos: Pos) -> Option<usize> {
        let line = (pos.line as usize).checked_sub(1)?;
        let (first, _) = *self.lines.get(line)?;
        let index = first + (pos.column as usize).checked_sub(1)?;
        let start = *self.strides.get(index / STRIDE)?;
        let rest = self.text.get(start..)?;
        rest.char_indices().nth(index % STRIDE).map(|(at, _)| start + at)
    }

    /// The text from a place to the end; empty for an unknown place.
    pub fn from(&self, pos: Pos) -> &'t str {
        self.offset(pos).and_then(|at| self.text.get(at..)).unwrap_or("")
    }

    /// The place of a byte offset.
    pub fn pos(&self, offset: usize) -> Pos {
        let line = self.lines.partition_point(|(_, start)| *start <= offset).saturating_sub(1);
        let first = self.lines.get(line).map_or(0, |(first, _)| *first);
        let stride = self.strides.partition_point(|start| *start <= offset).saturating_sub(1);
        let start = self.strides.get(stride).copied().unwrap_or(0);
        let rest = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        let column = (stride * STRIDE + rest).saturating_sub(first);
        Pos { line: narrow(line + 1), column: narrow(column + 1) }
    }

    /// A line without its end, `line` counted from 1.
    pub fn line(&self, line: u32) -> &'t str {
        let Some(index) = (line as usize).checked_sub(1) else { return "" };
        let Some((_, start)) = self.lines.get(index) else { return "" };
        let end = self.lines.get(index + 1).map_or(self.text.len(), |(_, next)| *next);
        self.text.get(*start..end).unwrap_or("").trim_end_matches(is_break)
    }

    /// A line cut to `width` characters around a column, and the column within it.
    pub fn excerpt(&self, pos: Pos, width: u32) -> (String, u32) {
        let long = self.line(pos.line).chars().nth(width as usize).is_some();
        let first = if long { pos.column.saturating_sub(width / 2).max(1) } else { 1 };
        let from = self.from(Pos { line: pos.line, column: first });
        let shown = from.chars().take(width as usize).take_while(|c| !is_break(*c));
        let shown: String = shown.map(|c| if c.is_control() { ' ' } else { c }).collect();
        (shown.trim_end().to_owned(), (pos.column + 1).saturating_sub(first))
    }

    /// The place of the bracket or dash that opens the list or map whose first element is at `first`; `first` itself
    /// when there is none.
    pub fn opening(&self, first: Pos, openers: &[char]) -> Pos {
        let Some(at) = self.offset(first) else { return first };
        let before = self.text.get(..at).unwrap_or("");
        let mut back = before.char_indices().rev().take(LOOK_BACK).skip_while(|(_, c)| c.is_ascii_whitespace());
        match back.next() {
            Some((at, c)) if openers.contains(&c) => self.pos(at),
            _ => first,
        }
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Texts are at most 8 MiB, so nothing is lost.
pub fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
