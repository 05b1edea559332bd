//! [`Path`]: a list of byte-string labels. Cloning, taking a prefix and dropping a prefix are a reference count.
//!
//! Not for: parsing (see `parse`) or printing rules of labels (see `show`).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A path such as `/svc/web`: labels that are any non-empty byte strings (naming reference §1).
///
/// All labels are one allocation: where each label starts and the last one ends, four bytes each, then the labels. A
/// table of many thousand paths is read in random order; every further allocation would be a cache miss per lookup.
#[derive(Clone)]
pub struct Path {
    store: Arc<[u8]>,
    from: u32,
    to: u32,
}

/// Bytes of one offset in the store of a path.
const OFFSET: usize = size_of::<u32>();

/// A label of a path may not be empty (naming reference §1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("requirement failed")]
pub struct EmptyLabel;

/// Collects labels into a [`Path`].
#[derive(Default)]
pub struct PathBuilder {
    bytes: Vec<u8>,
    /// End of each label in `bytes`.
    ends: Vec<usize>,
}

impl PathBuilder {
    /// Appends one label. Errors when it is empty.
    pub fn push(&mut self, label: &[u8]) -> Result<(), EmptyLabel> {
        if label.is_empty() {
            return Err(EmptyLabel);
        }
        self.bytes.extend_from_slice(label);
        self.ends.push(self.bytes.len());
        Ok(())
    }

    /// Appends all labels of `path`.
    pub fn extend(&mut self, path: &Path) {
        for label in path.labels() {
            self.bytes.extend_from_slice(label);
            self.ends.push(self.bytes.len());
        }
    }

    /// The finished path.
    pub fn build(self) -> Path {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let labels = starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end]);
        Path::assemble(self.ends.len(), self.bytes.len(), labels)
    }
}

impl Path {
    /// `/`: the path without labels.
    pub fn empty() -> Path {
        Path { store: Arc::default(), from: 0, to: 0 }
    }

    /// A path of these `count` labels with together `bytes` bytes.
    fn assemble<'a>(count: usize, bytes: usize, labels: impl Iterator<Item = &'a [u8]>) -> Path {
        if count == 0 {
            return Path::empty();
        }
        let mut at = (count + 1) * OFFSET;
        let mut store: Arc<[u8]> = std::iter::repeat_n(0, at + bytes).collect();
        if let Some(store) = Arc::get_mut(&mut store) {
            store[..OFFSET].copy_from_slice(&(at as u32).to_le_bytes());
            for (i, label) in labels.enumerate() {
                store[at..at + label.len()].copy_from_slice(label);
                at += label.len();
                store[(i + 1) * OFFSET..(i + 2) * OFFSET].copy_from_slice(&(at as u32).to_le_bytes());
            }
        }
        Path { store, from: 0, to: count as u32 }
    }

    /// Where label `index` of the store starts; one past the last label: where that ends.
    fn offset(&self, index: u32) -> usize {
        let at = index as usize * OFFSET;
        self.store.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
    }

    /// A path of raw labels. Errors when one is empty.
    pub fn from_labels<I, L>(labels: I) -> Result<Path, EmptyLabel>
    where
        I: IntoIterator<Item = L>,
        L: AsRef<[u8]>,
    {
        let mut builder = PathBuilder::default();
        for label in labels {
            builder.push(label.as_ref())?;
        }
        Ok(builder.build())
    }

    /// Parses the text form. Error texts as naming reference §1.2.
    pub fn parse(text: &str) -> Result<Path, crate::ParseError> {
        crate::parse_path(text)
    }

    /// Number of labels.
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// True for `/`.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// The label at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        if index >= self.len() {
            return None;
        }
        let at = self.from + index as u32;
        Some(&self.store[self.offset(at)..self.offset(at + 1)])
    }

    /// All labels in order.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }

    /// The label at `index` as text, if it is UTF-8.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.get(index).and_then(|label| std::str::from_utf8(label).ok())
    }

    /// The first `count` labels (all of them when there are fewer).
    pub fn take(&self, count: usize) -> Path {
        let to = self.from + count.min(self.len()) as u32;
        Path { store: self.store.clone(), from: self.from, to }
    }

    /// Without the first `count` labels.
    pub fn skip(&self, count: usize) -> Path {
        let from = self.from + count.min(self.len()) as u32;
        Path { store: self.store.clone(), from, to: self.to }
    }

    /// This path followed by `rest`.
    pub fn concat(&self, rest: &Path) -> Path {
        if rest.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return rest.clone();
        }
        let bytes = self.byte_len() + rest.byte_len();
        Path::assemble(self.len() + rest.len(), bytes, self.labels().chain(rest.labels()))
    }

    /// True when the first labels of this path are those of `prefix`.
    pub fn starts_with(&self, prefix: &Path) -> bool {
        self.len() >= prefix.len() && prefix.labels().zip(self.labels()).all(|(a, b)| a == b)
    }

    /// Bytes of all labels together; what the path costs.
    pub fn byte_len(&self) -> usize {
        self.offset(self.to) - self.offset(self.from)
    }

    /// The canonical print without the leading slash, as metric scopes use it (telemetry reference §3).
    pub fn show_bare(&self) -> String {
        self.to_string().trim_start_matches('/').to_owned()
    }
}

impl Default for Path {
    fn default() -> Path {
        Path::empty()
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Path) -> bool {
        self.len() == other.len() && self.labels().eq(other.labels())
    }
}

impl Eq for Path {}

impl Hash for Path {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for label in self.labels() {
            label.hash(state);
        }
    }
}

impl PartialOrd for Path {
    fn partial_cmp(&self, other: &Path) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Path {
    fn cmp(&self, other: &Path) -> std::cmp::Ordering {
        self.labels().cmp(other.labels())
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Path {
    type Err = crate::ParseError;
    fn from_str(text: &str) -> Result<Path, Self::Err> {
        crate::parse_path(text)
    }
}
