//! What is wrong with a configuration file, and the report of it.
//!
//! For: the operator, who gets all problems of a file at once, each with place, key path, what was expected and the
//! nearest valid key. Not for: finding problems. `load` returns them; `switchyard check` and the start-up print them.

use std::fmt;

/// More problems than this are only counted.
pub const MAX_PROBLEMS: usize = 1000;
/// Longer words are not compared with the valid ones.
const MAX_WORD: usize = 64;

/// One thing that is wrong in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Name of the file as given to `load`.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Where in the structure, for example `routers[0].servers[1].port`; empty for the file as a whole.
    pub key_path: String,
    /// What is wrong.
    pub message: String,
    /// What would have been right, where that can be said.
    pub expected: Option<String>,
    /// The valid key or kind nearest to what was written, if one is near.
    pub nearest: Option<String>,
    /// The line of the file, cut to a readable length; empty when the line holds a secret.
    pub source_line: String,
    /// Column in characters, from 1, of the place within `source_line`.
    pub source_column: u32,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key_path.is_empty() {
            write!(f, "{}: ", self.key_path)?;
        }
        f.write_str(&self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        if !self.source_line.is_empty() {
            let indent = (self.source_column as usize).saturating_sub(1);
            write!(f, "\n    {}\n    {:indent$}^", self.source_line, "")?;
        }
        Ok(())
    }
}

/// All problems of a file in the order of their places. `Display` is the whole report with a count at its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// The problems, at most [`MAX_PROBLEMS`]; never empty.
    pub list: Vec<Problem>,
    /// How many more there are.
    pub more: usize,
}

impl Problems {
    /// All of these in the order of their places, and how many more there are.
    pub fn new(mut list: Vec<Problem>, more: usize) -> Problems {
        list.sort_by(|a, b| (a.line, a.column, &a.key_path).cmp(&(b.line, b.column, &b.key_path)));
        list.dedup();
        Problems { list, more }
    }

    /// How many problems there are.
    pub fn count(&self) -> usize {
        self.list.len() + self.more
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.list {
            writeln!(f, "{problem}")?;
        }
        let file = self.list.first().map_or("the configuration", |problem| &problem.file);
        match (self.count(), self.more) {
            (1, _) => write!(f, "1 problem in {file}"),
            (count, 0) => write!(f, "{count} problems in {file}"),
            (count, more) => write!(f, "{count} problems in {file}, {more} of them not shown"),
        }
    }
}

/// A text from the file, fit for a message: in one line, cut, without control characters.
pub fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(80).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// The candidate with the smallest edit distance to `word`, if it is small for the length of the word.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let length = word.chars().count();
    if length == 0 || length > MAX_WORD {
        return None;
    }
    let best = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate)).min()?;
    (best.0 <= length.max(best.1.len()).div_ceil(3)).then(|| best.1.to_owned())
}

/// Edit distance: letter case does not count, two swapped neighbours count once.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().map(|c| c.to_ascii_lowercase()).collect();
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let get = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let change = get(&above, j) + usize::from(x != y);
            let mut cost = change.min(get(&above, j + 1) + 1).min(get(&row, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(y) && b.get(j - 1) == Some(x);
            if swapped {
                cost = cost.min(get(&before, j - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}
