//! The index of a table: a trie over prefix elements, so that a lookup does not scan the table.
//!
//! For: `Dtab`. A lookup visits the nodes that match the path: at most two per node and label (exact and wildcard). One
//! hash table leads from a node and a label to the node below. Reading a table of many thousand entries in random order
//! costs what it misses in the caches, so a step reads three places only: a slot of eight bytes, the node, its label.
//! The hash is keyed, since labels come from requests.

use crate::dtab::{Dentry, Element};
use crate::path::Path;
use std::hash::{BuildHasher, Hasher, RandomState};

#[derive(Debug)]
pub(crate) struct Index {
    nodes: Vec<Node>,
    /// Open addressing: a power of two of them, or none; at most half full.
    slots: Vec<Slot>,
    /// Nodes that the slots lead to.
    labelled: usize,
    /// The labels of the nodes, one after the other.
    labels: Vec<u8>,
    keys: RandomState,
    /// For each entry the entry before it with the same prefix, or [`NONE`].
    earlier: Vec<u32>,
}

/// In place of a position: there is none.
const NONE: u32 = u32::MAX;
const ROOT: u32 = 0;

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The node above.
    parent: u32,
    /// Where the label that leads here is, and its length; not for the root and below `*`.
    start: u32,
    len: u32,
    /// The last entry whose prefix ends here, or [`NONE`].
    last: u32,
    /// The node below `*`, or [`NONE`].
    wildcard: u32,
    /// More than one entry ends here.
    several: bool,
    /// There are labelled nodes below.
    branches: bool,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    /// [`NONE`] in a free slot.
    node: u32,
}

const FREE: Slot = Slot { hash: 0, node: NONE };

impl Index {
    pub(crate) fn new(dentries: &[Dentry]) -> Index {
        let mut index = Index {
            nodes: Vec::new(),
            slots: Vec::new(),
            labelled: 0,
            labels: Vec::new(),
            keys: RandomState::new(),
            earlier: Vec::with_capacity(dentries.len()),
        };
        index.push_node(NONE, &[]);
        for (at, dentry) in dentries.iter().enumerate() {
            let node = dentry.prefix.elements().iter().fold(ROOT, |node, element| index.child(node, element));
            let node = &mut index.nodes[node as usize];
            node.several = node.last != NONE;
            index.earlier.push(node.last);
            node.last = at as u32;
        }
        index
    }

    /// Positions of the matching entries, last first.
    pub(crate) fn matches(&self, path: &Path) -> Vec<usize> {
        let mut found = Vec::new();
        let mut sorted = true;
        // Where to go on: a node and the number of labels that led to it. Only wildcards ever wait.
        let mut waiting: Vec<(u32, usize)> = Vec::new();
        let mut next = Some((ROOT, 0));
        while let Some((at, depth)) = next.take().or_else(|| waiting.pop()) {
            let node = &self.nodes[at as usize];
            sorted &= found.is_empty() || node.last == NONE;
            self.collect(node, &mut found);
            let Some(label) = path.get(depth) else { continue };
            if node.branches {
                next = self.below(at, label).map(|child| (child, depth + 1));
            }
            if node.wildcard != NONE {
                waiting.push((node.wildcard, depth + 1));
            }
        }
        if !sorted {
            found.sort_unstable_by(|a, b| b.cmp(a));
        }
        found
    }

    fn collect(&self, node: &Node, found: &mut Vec<usize>) {
        let mut entry = node.last;
        while entry != NONE {
            found.push(entry as usize);
            entry = if node.several { self.earlier[entry as usize] } else { NONE };
        }
    }

    /// The node below `parent` that `label` leads to.
    fn below(&self, parent: u32, label: &[u8]) -> Option<u32> {
        let node = self.slots.get(self.find(self.hash(parent, label), parent, label))?.node;
        (node != NONE).then_some(node)
    }

    /// The slot of this node, or the free slot where it belongs.
    fn find(&self, hash: u32, parent: u32, label: &[u8]) -> usize {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        while let Some(slot) = self.slots.get(at) {
            if slot.node == NONE || (slot.hash == hash && self.is(slot.node, parent, label)) {
                break;
            }
            at = (at + 1) & mask;
        }
        at
    }

    fn is(&self, node: u32, parent: u32, label: &[u8]) -> bool {
        let node = &self.nodes[node as usize];
        node.parent == parent && &self.labels[node.start as usize..][..node.len as usize] == label
    }

    fn hash(&self, parent: u32, label: &[u8]) -> u32 {
        let mut hasher = self.keys.build_hasher();
        hasher.write_u32(parent);
        hasher.write(label);
        hasher.finish() as u32
    }

    /// The node below `parent`, made when there is none.
    fn child(&mut self, parent: u32, element: &Element) -> u32 {
        match element {
            Element::Wildcard => match self.nodes[parent as usize].wildcard {
                NONE => {
                    let node = self.push_node(parent, &[]);
                    self.nodes[parent as usize].wildcard = node;
                    node
                }
                node => node,
            },
            Element::Label(label) => self.below(parent, label).unwrap_or_else(|| {
                let node = self.push_node(parent, label);
                self.nodes[parent as usize].branches = true;
                self.insert(node, parent, label);
                node
            }),
        }
    }

    fn push_node(&mut self, parent: u32, label: &[u8]) -> u32 {
        let (start, len) = (self.labels.len() as u32, label.len() as u32);
        self.labels.extend_from_slice(label);
        self.nodes.push(Node { parent, start, len, last: NONE, wildcard: NONE, several: false, branches: false });
        self.nodes.len() as u32 - 1
    }

    fn insert(&mut self, node: u32, parent: u32, label: &[u8]) {
        self.labelled += 1;
        if self.labelled * 2 > self.slots.len() {
            self.grow();
        }
        let hash = self.hash(parent, label);
        let at = self.find(hash, parent, label);
        self.slots[at] = Slot { hash, node };
    }

    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(8);
        let old = std::mem::replace(&mut self.slots, vec![FREE; size]);
        for slot in old.into_iter().filter(|slot| slot.node != NONE) {
            let mut at = slot.hash as usize & (size - 1);
            while self.slots[at].node != NONE {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Index, ROOT};
    use crate::{Dtab, Element, Path};

    fn matches(table: &str, path: &str) -> Vec<usize> {
        let dtab = Dtab::parse(table).expect("a legal dtab");
        Index::new(dtab.dentries()).matches(&Path::parse(path).expect("a legal path"))
    }

    #[test]
    fn entries_come_last_first_whatever_their_prefix() {
        let table = "/=>/0;/a=>/1;/*=>/2;/a/b=>/3;/*/b=>/4;/a/*=>/5;/a=>/6;/*/*/*=>/7;/b=>/8;/=>/9";
        assert_eq!(matches(table, "/"), [9, 0]);
        assert_eq!(matches(table, "/a"), [9, 6, 2, 1, 0]);
        assert_eq!(matches(table, "/b"), [9, 8, 2, 0]);
        assert_eq!(matches(table, "/a/b"), [9, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(matches(table, "/a/b/c"), [9, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(matches(table, "/c/c"), [9, 2, 0]);
        assert_eq!(matches("", "/a"), [0; 0]);
        assert_eq!(matches(r"/\x2a=>/a", "/b"), [0; 0], "an escaped star is a label");
    }

    #[test]
    fn a_lookup_visits_matching_nodes_only() {
        // All pairs of 50 labels: a label that is a prefix of another, or the same below another parent, is another edge.
        let label = |i: usize| "ab".repeat(25)[..=i].to_owned();
        let pairs = (0..50).flat_map(|i| (0..50).map(move |j| (i, j)));
        let table: Vec<String> = pairs.clone().map(|(i, j)| format!("/{}/{}=>/x", label(i), label(j))).collect();
        let dtab = Dtab::parse(&table.join(";")).expect("a legal dtab");
        let index = Index::new(dtab.dentries());
        assert_eq!(index.nodes.len(), 1 + 50 + 2_500);
        for (at, (i, j)) in pairs.enumerate() {
            let path = Path::from_labels([label(i), label(j), label(j)]).expect("no label is empty");
            assert_eq!(index.matches(&path), [at]);
            assert_eq!(index.matches(&path.take(1)), [0; 0]);
        }
    }

    #[test]
    fn nodes_are_found_while_the_index_grows() {
        let mut index = Index::new(&[]);
        assert_eq!(index.below(ROOT, b"none"), None);
        let parents: Vec<u32> = (0..7_u8).map(|i| index.child(ROOT, &Element::Label([i].into()))).collect();
        let mut nodes = Vec::new();
        for i in 0..5_000_usize {
            let label = Element::Label(i.to_le_bytes().into());
            nodes.push(index.child(parents[i % 7], &label));
            assert_eq!(index.child(parents[i % 7], &label), nodes[i], "it is there already");
        }
        assert!(index.slots.len() >= 2 * 5_000 && index.slots.len() < 5 * 5_000);
        for i in 0..5_000_usize {
            assert_eq!(index.below(parents[i % 7], &i.to_le_bytes()), Some(nodes[i]));
            assert_eq!(index.below(parents[(i + 1) % 7], &i.to_le_bytes()), None);
        }
    }
}
