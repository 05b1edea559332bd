//! Rules about where names can get: leaves that nothing answers, entries that no name reaches.
//!
//! Names are followed as patterns: labels, some of them any, and more after them that is not known. That is more than what
//! names can really be, so what is not reached by patterns is not reached at all.

use super::{Finding, Severity, finding};
use dtab::{Dentry, Dtab, Element, Path, Prefix};
use std::collections::HashSet;

/// So many patterns are followed; beyond that everything counts as reached.
const MAX_PATTERNS: usize = 20_000;
/// So many labels of a pattern are told apart.
const MAX_LABELS: usize = 32;

/// The first labels of names; None is any label. What follows is open.
type Pattern = Vec<Option<Box<[u8]>>>;

fn pattern(path: &Path) -> Pattern {
    path.labels().map(|label| Some(label.into())).collect()
}

/// True when a name of this pattern may begin with the prefix.
fn meets(pattern: &Pattern, prefix: &Prefix) -> bool {
    pattern.iter().zip(prefix.elements()).all(|(known, element)| match (known, element) {
        (Some(known), Element::Label(label)) => known == label,
        _ => true,
    })
}

/// Leaves for which there is no entry, and which no namer is asked for.
pub(super) fn dangling(dtab: &Dtab, i: usize, dentry: &Dentry, found: &mut Vec<Finding>) {
    dentry.dst.for_each(&mut |leaf| {
        let asks = matches!(leaf.get(0), Some(b"#" | b"$" | b"%"));
        let known = || {
            let pattern = pattern(leaf);
            dtab.dentries().iter().any(|entry| meets(&pattern, &entry.prefix))
        };
        if !asks && !leaf.is_empty() && !known() {
            let text = format!("nothing answers {leaf}: no entry matches it, and it names no namer");
            found.push(finding(Severity::Warning, "dangling", i, text));
        }
    });
}

/// Entries that no name below the roots leads to.
pub(super) fn unreachable(dtab: &Dtab, roots: &[Path], found: &mut Vec<Finding>) {
    let mut reached = vec![false; dtab.dentries().len()];
    let mut known: HashSet<Pattern> = HashSet::new();
    let mut waiting: Vec<Pattern> = roots.iter().map(pattern).collect();
    while let Some(pattern) = waiting.pop() {
        if known.len() >= MAX_PATTERNS {
            return;
        }
        if !known.insert(pattern.clone()) {
            continue;
        }
        for (entry, reached) in dtab.dentries().iter().zip(&mut reached) {
            if !meets(&pattern, &entry.prefix) {
                continue;
            }
            *reached = true;
            let rest = pattern.get(entry.prefix.len()..).unwrap_or_default();
            entry.dst.for_each(&mut |leaf| waiting.push(after(leaf, rest)));
        }
    }
    for (i, _) in reached.iter().enumerate().filter(|(_, reached)| !**reached) {
        let shown: Vec<String> = roots.iter().map(Path::to_string).collect();
        let text = format!("no name below {} leads here; only overrides can", shown.join(", "));
        found.push(finding(Severity::Warning, "unreachable", i, text));
    }
}

/// Where a leaf leads, with what follows it. The built-in namers that rewrite lead to what their names say.
fn after(leaf: &Path, rest: &[Option<Box<[u8]>>]) -> Pattern {
    if leaf.get(0) == Some(b"$") {
        let at = match leaf.text(1) {
            Some(
                "io.buoyant.hostportPfx"
                | "io.buoyant.porthostPfx"
                | "io.buoyant.http.anyMethodPfx"
                | "io.buoyant.http.anyHostPfx"
                | "io.buoyant.http.domainToPathPfx",
            ) => 2,
            Some("io.buoyant.http.subdomainOfPfx") => 3,
            // To anything.
            Some(name) if name.starts_with("io.buoyant.http.") => return Pattern::new(),
            _ => usize::MAX,
        };
        return match leaf.get(at) {
            Some(label) => vec![Some(label.into())],
            None if at == usize::MAX => pattern(leaf),
            None => Pattern::new(),
        };
    }
    pattern(leaf).into_iter().chain(rest.iter().cloned()).take(MAX_LABELS).collect()
}
