//! Rules about the right-hand side of one entry: weights, constants among branches, alternatives after an answer.

use super::world::World;
use super::{Finding, Severity, finding, is_constant};
use dtab::{Dentry, NameTree, Path, Weighted, system};

/// A weight below this prints as 0.00.
const PRINTED: f64 = 0.005;

pub(super) fn look(world: &World, i: usize, dentry: &Dentry, found: &mut Vec<Finding>) {
    let mut told = |code: &'static str, message: String| found.push(finding(Severity::Warning, code, i, message));
    tree(world, &dentry.dst, &mut told);
    dentry.dst.for_each(&mut |leaf| {
        if let Some(why) = unknown_namer(leaf) {
            told("unknown-namer", why);
        }
    });
}

fn tree(world: &World, node: &NameTree<Path>, told: &mut dyn FnMut(&'static str, String)) {
    match node {
        NameTree::Alt(trees) => {
            alternatives(world, trees, told);
            trees.iter().for_each(|child| tree(world, child, told));
        }
        NameTree::Union(branches) => {
            union(branches, told);
            branches.iter().for_each(|branch| tree(world, &branch.tree, told));
        }
        NameTree::Neg | NameTree::Fail | NameTree::Empty | NameTree::Leaf(_) => {}
    }
}

fn alternatives(world: &World, trees: &[NameTree<Path>], told: &mut dyn FnMut(&'static str, String)) {
    for (at, alternative) in trees.iter().enumerate() {
        let next = trees.get(at + 1);
        if *alternative == NameTree::Neg {
            told("alternative", "`~` among alternatives is passed over; leave it out".into());
        } else if trees[..at].contains(alternative) {
            told("alternative", format!("{alternative} cannot win: it stands before already"));
        } else if let Some(next) = next.filter(|_| world.part_never_neg(alternative)) {
            told("alternative", format!("{next} cannot win: {alternative} before it always answers"));
            return;
        }
    }
}

fn union(branches: &[Weighted<Path>], told: &mut dyn FnMut(&'static str, String)) {
    if branches.iter().all(|branch| branch.weight == 0.0) {
        told("weight", "all weights are 0: the branches get equal shares".into());
        return;
    }
    for Weighted { weight, tree } in branches {
        if *weight == 0.0 {
            told("weight", format!("{tree} has the weight 0 and gets no requests"));
        } else if *weight < PRINTED {
            told(
                "weight",
                format!("the weight {weight} of {tree} is 0.00 for a namerd of Linkerd 1, which keeps two decimals"),
            );
        }
        if is_constant(tree) && *tree != NameTree::Empty {
            told("branch", format!("the branch {tree} is left out, and the others share its requests"));
        }
    }
}

/// Names below `/$` are a closed list.
fn unknown_namer(leaf: &Path) -> Option<String> {
    if leaf.get(0) != Some(b"$") || leaf.len() < 2 || matches!(leaf.text(1), Some("inet" | "fixedinet")) {
        return None;
    }
    match system::lookup(leaf) {
        Err(system::SystemError::Unknown(_)) => Some(format!("{} is no name that every router knows", leaf.take(2))),
        _ => None,
    }
}
