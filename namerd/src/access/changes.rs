//! Which dentries a write changes, and whether all of them are under allowed prefixes.
//!
//! A dentry decides only about names that its prefix matches. So a caller that may change everything under some prefixes may
//! add, remove, replace and move entries under them as it likes, as long as the other entries stay, in their order.
//! Called by `access` and by the interface that writes. Not for: what the change does to names.

use dtab::{Dentry, Dtab, Element, Exact, Prefix};
use std::collections::{HashMap, HashSet};

/// What differs between two dtabs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Prefixes of changed, added, removed or moved dentries, in order, the first of them only.
    pub prefixes: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

/// As many prefixes stand in an audit line.
const SHOWN: usize = 32;

/// What differs between `before` and `after`.
pub fn changes(before: &Dtab, after: &Dtab) -> Changes {
    let (old, new) = differing(before.dentries(), after.dentries());
    let mut counts: HashMap<String, isize> = HashMap::new();
    new.iter().for_each(|dentry| *counts.entry(dentry_key(dentry)).or_default() += 1);
    old.iter().for_each(|dentry| *counts.entry(dentry_key(dentry)).or_default() -= 1);
    let reordered = counts.values().all(|count| *count == 0);
    let differs = |dentry: &&Dentry| reordered || counts.get(&dentry_key(dentry)).is_some_and(|count| *count != 0);
    let mut changes = Changes::default();
    let mut known = HashSet::new();
    for dentry in new.iter().chain(old).filter(differs).filter(|dentry| known.insert(&dentry.prefix)) {
        match changes.prefixes.len() {
            SHOWN => changes.more += 1,
            _ => changes.prefixes.push(dentry.prefix.to_string()),
        }
    }
    changes
}

/// What prints alike is one dentry for the audit.
fn dentry_key(dentry: &Dentry) -> String {
    Exact(dentry).to_string()
}

/// What is left of both when what they have in common at the start and at the end is gone.
fn differing<'a>(old: &'a [Dentry], new: &'a [Dentry]) -> (&'a [Dentry], &'a [Dentry]) {
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (old, new) = (&old[start..], &new[start..]);
    let end = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    (&old[..old.len() - end], &new[..new.len() - end])
}

/// The prefix of the first dentry outside `allowed` that is not in both tables in the same order; None when there is none.
pub(super) fn first_outside<'a>(before: &'a Dtab, after: &'a Dtab, allowed: &[Prefix]) -> Option<&'a Prefix> {
    let outside = |dentry: &&Dentry| !allowed.iter().any(|allowed| lies_under(&dentry.prefix, allowed));
    let mut old = before.dentries().iter().filter(outside);
    let mut new = after.dentries().iter().filter(outside);
    loop {
        match (old.next(), new.next()) {
            (None, None) => return None,
            (Some(old), Some(new)) if old == new => {}
            (old, new) => return new.or(old).map(|dentry| &dentry.prefix),
        }
    }
}

/// Whether every name that `prefix` matches is one that `allowed` matches.
fn lies_under(prefix: &Prefix, allowed: &Prefix) -> bool {
    let fits = |(element, allowed): (&Element, &Element)| *allowed == Element::Wildcard || element == allowed;
    prefix.len() >= allowed.len() && prefix.elements().iter().zip(allowed.elements()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dtab(text: &str) -> Dtab {
        Dtab::parse(text).expect("a dtab")
    }

    fn prefixes(list: &[&str]) -> Vec<Prefix> {
        list.iter().map(|text| dtab::parse_prefix(text).expect("a prefix")).collect()
    }

    const STORED: &str = "/svc => /#/a; /svc/web => /#/w1; /host/* => /svc; /svc/web/admin => /#/adm";

    #[test]
    fn only_what_lies_under_allowed_prefixes_may_change() {
        let cases = [
            (STORED, None),
            ("/svc => /#/a; /svc/web => /#/w2; /host/* => /svc; /svc/web/admin => /#/adm", None),
            ("/svc => /#/a; /host/* => /svc", None),
            ("/svc/web/admin => /#/adm; /svc => /#/a; /svc/web => /#/w1; /host/* => /svc", None),
            ("/svc => /#/a; /host/* => /svc; /svc/web/new/* => /#/n", None),
            ("/svc => /#/b; /svc/web => /#/w1; /host/* => /svc", Some("/svc")),
            ("/svc => /#/a; /svc => /#/a; /host/* => /svc", Some("/svc")),
            ("/host/* => /svc; /svc => /#/a", Some("/host/*")),
            ("/svc => /#/a", Some("/host/*")),
            ("/svc => /#/a; /host/* => /svc; /svc/* => /#/evil", Some("/svc/*")),
            ("/svc => /#/a; /host/* => /svc; /svc/webx => /#/evil", Some("/svc/webx")),
            ("/svc => /#/a; /host/* => /svc; / => /#/evil", Some("/")),
            ("/svc => 0.001 * /#/a & /#/evil; /host/* => /svc", Some("/svc")),
            ("", Some("/svc")),
        ];
        for (after, offending) in cases {
            let (before, after) = (dtab(STORED), dtab(after));
            let found = first_outside(&before, &after, &prefixes(&["/svc/web"]));
            assert_eq!(found.map(ToString::to_string).as_deref(), offending, "{after}");
        }
    }

    #[test]
    fn a_star_in_a_rule_stands_for_any_label_and_one_in_a_dentry_for_itself() {
        let under = |prefix: &str, allowed: &str| lies_under(&prefixes(&[prefix])[0], &prefixes(&[allowed])[0]);
        assert!(under("/svc/a/x", "/svc/*/x") && under("/svc/*/x", "/svc/*/x") && under("/svc/*", "/svc"));
        assert!(!under("/svc/*", "/svc/a") && !under("/*/a", "/svc/a") && !under("/svc", "/svc/*"));
        assert!(under("/anything", "/"));
    }

    #[test]
    fn the_audit_names_what_differs() {
        let found = |after: &str| changes(&dtab(STORED), &dtab(after));
        assert_eq!(found(STORED), Changes::default());
        let replaced = found("/svc => /#/a; /svc/web => /#/w2; /host/* => /svc; /svc/web/admin => /#/adm");
        assert_eq!(replaced.prefixes, ["/svc/web"]);
        assert_eq!(found("").prefixes, ["/svc", "/svc/web", "/host/*", "/svc/web/admin"]);
        assert_eq!(
            found("/svc/web => /#/w1; /svc => /#/a; /host/* => /svc; /svc/web/admin => /#/adm").prefixes,
            ["/svc/web", "/svc"]
        );
        let many: Vec<String> = (0..100).map(|i| format!("/p{i} => /x")).collect();
        let found = changes(&Dtab::empty(), &dtab(&many.join(";")));
        assert_eq!((found.prefixes.len(), found.more), (SHOWN, 100 - SHOWN));
    }
}
