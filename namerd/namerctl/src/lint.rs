//! What is wrong with a dtab although it parses: loops, entries and alternatives that nothing reaches, explosive unions,
//! weights without effect.
//!
//! Uses the evaluator of crate `dtab` over two worlds of namers: one that knows no name at all, and one that knows every
//! name. What holds in both holds in all between, since only Neg lets the next alternative have its turn. Called by `dtab
//! check`. Not for: what a namerd's namers know today, which is [`crate::plan`]'s.

mod reach;
mod trees;
mod world;

use dtab::{Dtab, Element, NameTree, Path, Prefix, State};
use world::{Knows, World};

/// Lookups that take more steps than this are worth a warning.
const MANY_NODES: usize = 500;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Requests fail.
    Error,
    /// It has no effect, or not the one that it looks like.
    Warning,
}

impl Severity {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// Something that is wrong with one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is; stable, for scripts.
    pub code: &'static str,
    /// The entry, counted from 0.
    pub entry: usize,
    /// For people.
    pub message: String,
}

/// Looks at all entries. `roots`: what names begin with; entries that no such name reaches are reported, unless there are
/// no roots. Sorted by entry.
pub fn lint(dtab: &Dtab, roots: &[Path]) -> Vec<Finding> {
    let world = World::new(dtab);
    let mut found = Vec::new();
    for (i, dentry) in dtab.dentries().iter().enumerate() {
        explodes_or_loops(&world, i, &mut found);
        trees::look(&world, i, dentry, &mut found);
        reach::dangling(dtab, i, dentry, &mut found);
    }
    shadowed(dtab, &world, &mut found);
    if !roots.is_empty() {
        reach::unreachable(dtab, roots, &mut found);
    }
    found.sort_by_key(|finding| (finding.entry, finding.severity));
    found
}

fn finding(severity: Severity, code: &'static str, entry: usize, message: String) -> Finding {
    Finding { severity, code, entry, message }
}

fn explodes_or_loops(world: &World, i: usize, found: &mut Vec<Finding>) {
    let always = failure(world.bind(i, &Path::empty(), Knows::Everything));
    let never = failure(world.bind(i, &Path::empty(), Knows::Nothing));
    let (reason, severity, when) = match (always, never) {
        (Some(reason), _) => (reason, Severity::Error, ""),
        (None, Some(reason)) => (reason, Severity::Warning, " as soon as nothing before answers"),
        (None, None) => {
            let nodes = world.nodes(i);
            if nodes > MANY_NODES {
                let text =
                    format!("one lookup may take {nodes} steps: every union that leads to unions multiplies them");
                found.push(finding(Severity::Warning, "exponential", i, text));
            }
            return;
        }
    };
    if reason.starts_with("Max recursion") {
        let text = format!("leads back to itself{when}: lookups end at the depth limit of {}", dtab::MAX_DEPTH);
        found.push(finding(severity, "loop", i, text));
    } else if reason.starts_with("Name too") {
        // Also when only some namers make it so: the cost of the worst moment counts.
        let text = format!("a lookup is given up{when}: {reason}");
        found.push(finding(Severity::Error, "exponential", i, text));
    }
}

fn failure<T>(state: State<T>) -> Option<std::sync::Arc<str>> {
    match state {
        State::Failed(reason) => Some(reason),
        State::Ok(_) | State::Pending => None,
    }
}

/// Entries that a later one hides: it matches whatever they match, and its answer is never negative.
fn shadowed(dtab: &Dtab, world: &World, found: &mut Vec<Finding>) {
    let entries = dtab.dentries();
    let hides: Vec<bool> = (0..entries.len()).map(|j| world.never_neg(j, &Path::empty())).collect();
    for (i, entry) in entries.iter().enumerate() {
        let later = entries.iter().enumerate().skip(i + 1).filter(|(_, later)| covers(&later.prefix, &entry.prefix));
        let sample = world.sample(&entry.prefix);
        for (j, later) in later {
            if later.prefix == entry.prefix && later.dst == entry.dst {
                let text = format!("entry {} says the same again; this one has no effect", j + 1);
                found.push(finding(Severity::Warning, "duplicate", i, text));
                break;
            }
            if hides[j] && world.never_neg(j, &sample.skip(later.prefix.len())) {
                let text =
                    format!("never used: entry {} ({} => {}) always answers first", j + 1, later.prefix, later.dst);
                found.push(finding(Severity::Warning, "shadowed", i, text));
                break;
            }
        }
    }
}

/// True when every path that begins with `inner` begins with `outer`.
fn covers(outer: &Prefix, inner: &Prefix) -> bool {
    outer.len() <= inner.len()
        && outer.elements().iter().zip(inner.elements()).all(|(a, b)| a == &Element::Wildcard || a == b)
}

/// True for a tree that says a constant.
fn is_constant<T>(tree: &NameTree<T>) -> bool {
    matches!(tree, NameTree::Neg | NameTree::Fail | NameTree::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<(&'static str, usize)> {
        let dtab = Dtab::parse(text).unwrap();
        lint(&dtab, &[]).iter().map(|finding| (finding.code, finding.entry + 1)).collect()
    }

    fn severity(text: &str) -> Vec<Severity> {
        lint(&Dtab::parse(text).unwrap(), &[]).iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn dtabs_of_the_reference_are_clean() {
        for text in [
            "/srv=>/#/io.l5d.k8s/default/http; /host=>/srv; /tmp=>/srv; /svc=>/host; /host/world=>/srv/world-v1",
            "/host=>/#/io.l5d.k8s/default/http/hello; /svc/*=>/host",
            "/ph=>/$/io.buoyant.rinet; /svc=>/ph/80; /svc=>/$/io.buoyant.porthostPfx/ph; /svc=>/#/io.l5d.fs",
            "/srv=>/#/io.l5d.fs; /svc=>/srv; /svc/world=>1*/srv/w2 & 9*/srv/w1",
            "/svc => /#/a | /#/b | /$/inet/fallback/80",
            "/svc => /$/inet/127.1",
            "",
        ] {
            assert_eq!(codes(text), [], "{text}");
        }
    }

    #[test]
    fn loops_are_errors_when_they_cannot_be_left() {
        assert_eq!(codes("/s => /s/x"), [("loop", 1)]);
        assert_eq!(severity("/s => /s/x"), [Severity::Error]);
        assert_eq!(codes("/a => /b; /b => /a"), [("loop", 1), ("loop", 2)]);
        assert_eq!(codes("/svc/* => /host/foo; /host/foo => /svc/foo"), [("loop", 1), ("loop", 2)]);
        assert_eq!(severity("/s => /#/a | /s/x"), [Severity::Warning]);
    }

    #[test]
    fn a_catch_all_that_always_answers_hides_what_is_before() {
        assert_eq!(codes("/svc/a => /#/a; /svc => !"), [("shadowed", 1)]);
        assert_eq!(codes("/svc/a => /#/a; / => $"), [("shadowed", 1)]);
        assert_eq!(codes("/svc/a => /#/a; /*/a => /$/inet/h/80"), [("shadowed", 1)]);
        assert_eq!(codes("/svc => /#/a; /svc => /#/b"), []);
        assert_eq!(codes("/svc => /#/a; /svc => /#/a"), [("duplicate", 1)]);
        assert_eq!(codes("/svc => /#/a; /svc/a => !"), []);
        assert_eq!(codes("/svc => /#/a; /svc => /x; /x => $"), [("shadowed", 1)]);
    }

    #[test]
    fn alternatives_after_an_answer_cannot_win() {
        assert_eq!(codes("/s => /#/a | ! | /#/b"), [("alternative", 1)]);
        assert_eq!(codes("/s => $ | /#/b"), [("alternative", 1)]);
        assert_eq!(codes("/s => /$/inet/h/80 | /#/b"), [("alternative", 1)]);
        assert_eq!(codes("/s => /#/a | /#/b | /#/a"), [("alternative", 1)]);
        assert_eq!(codes("/s => 1*/#/x & 1*(! | /#/b)"), [("alternative", 1)]);
        assert_eq!(codes("/s => /x | /#/b; /x/y => !"), []);
        assert_eq!(codes("/s => ~ | /#/b"), [("alternative", 1)]);
    }

    #[test]
    fn weights_without_effect_are_told() {
        assert_eq!(codes("/s => 0*/#/a & 1*/#/b"), [("weight", 1)]);
        assert_eq!(codes("/s => 0*/#/a & 0*/#/b"), [("weight", 1)]);
        assert_eq!(codes("/s => 0.001*/#/a & 1*/#/b"), [("weight", 1)]);
        assert_eq!(codes("/s => 1*/#/a & 1*~"), [("branch", 1)]);
        assert_eq!(codes("/s => 1*/#/a & 1*$"), []);
    }

    #[test]
    fn doubling_unions_explode() {
        let table = |n: usize| {
            (0..n).map(|i| format!("/a{i}=>/a{} & /a{};", i + 1, i + 1)).collect::<String>() + &format!("/a{n}=>/#/x")
        };
        let found = codes(&table(14));
        assert_eq!(found[0], ("exponential", 1));
        assert!(severity(&table(14))[0] == Severity::Error);
        assert!(severity(&table(9)).iter().all(|severity| *severity == Severity::Warning), "{:?}", codes(&table(9)));
        assert_eq!(codes(&table(5)), []);
    }

    #[test]
    fn names_that_nothing_answers_dangle() {
        assert_eq!(codes("/svc => /srv"), [("dangling", 1)]);
        assert_eq!(codes("/svc => /srv; /srv/world => /#/a"), []);
        assert_eq!(codes("/svc => /srv/a; /srv/* => /#/a"), []);
        assert_eq!(codes("/svc => /$/nope/x | /#/b"), [("unknown-namer", 1)]);
    }

    #[test]
    fn with_roots_what_they_do_not_reach_is_told() {
        let roots = [Path::parse("/svc").unwrap()];
        let unreached = |text: &str| -> Vec<usize> {
            let found = lint(&Dtab::parse(text).unwrap(), &roots);
            found.iter().filter(|finding| finding.code == "unreachable").map(|finding| finding.entry + 1).collect()
        };
        assert_eq!(unreached("/srv=>/#/k; /host=>/srv; /tmp=>/srv; /svc=>/host; /host/world=>/srv/w"), [3]);
        assert_eq!(unreached("/svc/* => /host; /host/x/y => /#/a; /hist => /#/b"), [3]);
        assert_eq!(unreached("/ph=>/#/a; /svc=>/$/io.buoyant.porthostPfx/ph; /pi=>/#/b"), [3]);
        assert_eq!(unreached("/any => /#/a; /svc => /$/io.buoyant.http.domainToPath"), Vec::<usize>::new());
    }

    #[test]
    fn large_tables_are_quick() {
        let text: String = (0..1811).map(|i| format!("/svc/s{i} => /#/io.l5d.fs/s{i} | /#/io.l5d.fs/t{i};")).collect();
        assert_eq!(codes(&text), []);
    }
}
