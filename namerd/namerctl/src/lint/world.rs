//! A dtab under two worlds of namers, with a name for every part of it that is asked about.
//!
//! A tree is asked about by an entry of its own at the end of the table. Called by the rules of [`super`].

use dtab::{
    BoundName, DelegateTree, Delegation, Dentry, Dtab, DtabStack, Element, Lookups, Name, NameTree, Path, Prefix, State,
};

/// Begins the names of the questions; nobody else's names begin so.
const QUESTION: &str = "namerctl-lint";
/// Stands for a label that no entry names.
const ANY: &[u8] = b"namerctl-any";

/// What the namers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knows {
    /// Every name below `/#` is bound.
    Everything,
    /// No name is.
    Nothing,
}

impl Lookups for Knows {
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        if *self == Knows::Nothing || path.get(0) != Some(b"#") {
            return State::Ok(NameTree::Neg);
        }
        State::Ok(NameTree::Leaf(Name::Bound(BoundName { id: path.clone(), residual: Path::empty() })))
    }
}

/// See the module.
pub(super) struct World {
    plain: DtabStack,
    /// The table with every question, each once with `$` and once with `!` as the last alternative.
    asked: DtabStack,
    /// The questions: the tree of entry `i` is number `i`; parts of trees follow.
    parts: Vec<NameTree<Path>>,
}

impl World {
    pub(super) fn new(dtab: &Dtab) -> World {
        let mut parts: Vec<NameTree<Path>> = dtab.dentries().iter().map(|dentry| dentry.dst.clone()).collect();
        for dentry in dtab.dentries() {
            collect(&dentry.dst, &mut parts);
        }
        let question = |(i, tree): (usize, &NameTree<Path>)| {
            let with = |kind: &str, last: NameTree<Path>| Dentry {
                prefix: Prefix::new(
                    [QUESTION, kind, &i.to_string()]
                        .iter()
                        .map(|label| Element::Label(label.as_bytes().into()))
                        .collect(),
                ),
                dst: NameTree::Alt(vec![tree.clone(), last]),
            };
            [with("empty", NameTree::Empty), with("fail", NameTree::Fail), with("neg", NameTree::Neg)]
        };
        let questions = parts.iter().enumerate().flat_map(question).collect();
        let plain = DtabStack::new([dtab.clone()]);
        let asked = DtabStack::new([dtab.clone(), Dtab::new(questions)]);
        World { plain, asked, parts }
    }

    /// A path that begins with the prefix; `*` is a label that no entry names.
    pub(super) fn sample(&self, prefix: &Prefix) -> Path {
        let labels = prefix.elements().iter().map(|element| match element {
            Element::Wildcard => ANY,
            Element::Label(label) => label,
        });
        Path::from_labels(labels).unwrap_or_default()
    }

    fn ask(&self, kind: &str, i: usize, rest: &Path, mut knows: Knows) -> State<NameTree<BoundName>> {
        let name = Path::from_labels([QUESTION, kind, &i.to_string()]).unwrap_or_default();
        dtab::bind(&self.asked, &name.concat(rest), &mut knows)
    }

    /// Binds the tree of entry `i` with `rest` after its leaves.
    pub(super) fn bind(&self, i: usize, rest: &Path, knows: Knows) -> State<NameTree<BoundName>> {
        self.ask("neg", i, rest, knows)
    }

    /// True when the tree of entry `i` has an answer that is not negative, whatever the namers know and whatever follows.
    pub(super) fn never_neg(&self, i: usize, rest: &Path) -> bool {
        let any = Path::from_labels([ANY]).unwrap_or_default();
        let one = rest.concat(&any);
        [rest.clone(), one.clone(), one.concat(&any)].iter().all(|rest| {
            let empty = self.ask("empty", i, rest, Knows::Nothing);
            let fail = self.ask("fail", i, rest, Knows::Nothing);
            match (empty, fail) {
                // It was the last alternative that answered.
                (State::Ok(NameTree::Empty), State::Ok(NameTree::Fail)) => false,
                (State::Ok(_), State::Ok(_)) => true,
                _ => false,
            }
        })
    }

    /// As [`World::never_neg`], of a part of a tree.
    pub(super) fn part_never_neg(&self, part: &NameTree<Path>) -> bool {
        let at = self.parts.iter().position(|known| known == part);
        at.is_some_and(|at| self.never_neg(at, &Path::empty()))
    }

    /// Nodes of the delegation tree of entry `i`: what a lookup costs when every alternative has its turn.
    pub(super) fn nodes(&self, i: usize) -> usize {
        let Some(dentry) = self.plain.dentries().nth(i) else { return 0 };
        match dtab::explain(&self.plain, &self.sample(&dentry.prefix), &mut Knows::Nothing) {
            State::Ok(tree) => count(&tree),
            State::Failed(_) | State::Pending => 0,
        }
    }
}

/// The alternatives of a tree but the last of each.
fn collect(tree: &NameTree<Path>, parts: &mut Vec<NameTree<Path>>) {
    match tree {
        NameTree::Alt(trees) => {
            parts.extend(trees.iter().take(trees.len().saturating_sub(1)).cloned());
            trees.iter().for_each(|tree| collect(tree, parts));
        }
        NameTree::Union(branches) => branches.iter().for_each(|branch| collect(&branch.tree, parts)),
        NameTree::Neg | NameTree::Fail | NameTree::Empty | NameTree::Leaf(_) => {}
    }
}

fn count(tree: &DelegateTree) -> usize {
    1 + match &tree.node {
        Delegation::Delegate(child) | Delegation::Transformation { tree: child, .. } => count(child),
        Delegation::Alt(children) => children.iter().map(count).sum(),
        Delegation::Union(branches) => branches.iter().map(|(_, child)| count(child)).sum(),
        _ => 0,
    }
}
