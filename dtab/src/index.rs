//! The index of a table: a trie over prefix elements, so that a lookup does not scan the table.
//!
//! For: `Dtab`. A lookup visits the nodes that match the path: at most two per node and label (exact and wildcard).

use crate::dtab::{Dentry, Element};
use crate::path::Path;
use std::collections::HashMap;

#[derive(Debug)]
pub(crate) struct Index {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    labels: HashMap<Box<[u8]>, u32>,
    wildcard: Option<u32>,
    /// Entries whose prefix ends here, in ascending order.
    entries: Vec<u32>,
}

impl Index {
    pub(crate) fn new(dentries: &[Dentry]) -> Index {
        let mut index = Index { nodes: vec![Node::default()] };
        for (at, dentry) in dentries.iter().enumerate() {
            let node = dentry.prefix.elements().iter().fold(0, |node, element| index.child(node, element));
            index.nodes[node as usize].entries.push(at as u32);
        }
        index
    }

    fn child(&mut self, node: u32, element: &Element) -> u32 {
        let next = self.nodes.len() as u32;
        let parent = &mut self.nodes[node as usize];
        let child = match element {
            Element::Wildcard => *parent.wildcard.get_or_insert(next),
            Element::Label(label) => *parent.labels.entry(label.clone()).or_insert(next),
        };
        if child == next {
            self.nodes.push(Node::default());
        }
        child
    }

    /// Positions of the matching entries, last first.
    pub(crate) fn matches(&self, path: &Path) -> Vec<u32> {
        let mut found = Vec::new();
        let mut level = vec![0_u32];
        let mut labels = path.labels();
        loop {
            for &node in &level {
                found.extend_from_slice(&self.nodes[node as usize].entries);
            }
            let Some(label) = labels.next() else { break };
            let mut next = Vec::new();
            for &node in &level {
                let node = &self.nodes[node as usize];
                next.extend(node.labels.get(label));
                next.extend(node.wildcard);
            }
            if next.is_empty() {
                break;
            }
            level = next;
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        found
    }
}
