//! Unit tests for routing: a name, headers and assumed states of namers, and where requests must go. They run offline, by
//! the evaluator that routers use.
//!
//! Called by `dtab test`. Not for: real namers ([`crate::plan`]).

use crate::explain::Node;
use crate::source::Source;
use dtab::{
    BoundName, Dtab, DtabStack, Element, Lookups, Name, NameTree, Path, Prefix, State, parse_prefix, parse_tree,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A file of tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// The dtab.
    pub dtab: Option<String>,
    /// Or the file of it, relative to the file of tests.
    pub file: Option<String>,
    /// What namers answer in every case: a state by id; `*` is any label.
    #[serde(default)]
    pub namers: BTreeMap<String, String>,
    /// The tests.
    pub cases: Vec<Case>,
}

/// One test.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub title: Option<String>,
    /// The name that a router looks up, such as `/svc/web`.
    pub name: String,
    /// Headers of the request: `l5d-dtab`, `l5d-ctx-dtab`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What namers answer here, before those of the file.
    #[serde(default)]
    pub namers: BTreeMap<String, String>,
    /// A tree of ids, or `neg`, `fail`, `empty`, `pending`, `failed`.
    pub expect: String,
    /// What must be left over after the id.
    pub residual: Option<String>,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The title, or the name.
    pub title: String,
    /// Why it fails, readable; None when it passes.
    pub failure: Option<String>,
}

/// What a namer answers.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    Bound,
    Tree(NameTree<Path>),
    Pending,
    Failed(String),
}

/// Assumed states, in the order in which they are asked.
struct States(Vec<(Prefix, Answer)>);

impl Suite {
    /// Reads a file of tests. Errors with the place.
    pub fn read(source: &Source) -> Result<Suite, String> {
        let text = source.text().map_err(|failure| failure.message)?;
        let suite: Suite = serde_yaml::from_str(text).map_err(|error| format!("{}: {error}", source.name))?;
        match (&suite.dtab, &suite.file) {
            (Some(_), None) | (None, Some(_)) => {}
            _ => return Err(format!("{}: one of `dtab` and `file` is needed", source.name)),
        }
        if suite.cases.is_empty() {
            return Err(format!("{}: there are no cases", source.name));
        }
        Ok(suite)
    }

    /// Runs all cases by this dtab. Errors when a case cannot be run at all.
    pub fn run(&self, dtab: &Dtab) -> Result<Vec<Verdict>, String> {
        let run = |(i, case): (usize, &Case)| {
            case.run(dtab, &self.namers).map_err(|why| format!("case {} ({}): {why}", i + 1, case.title()))
        };
        self.cases.iter().enumerate().map(run).collect()
    }
}

impl Case {
    fn title(&self) -> String {
        self.title.clone().unwrap_or_else(|| self.name.clone())
    }

    fn run(&self, dtab: &Dtab, common: &BTreeMap<String, String>) -> Result<Verdict, String> {
        let name = Path::parse(&self.name).map_err(|error| format!("name: {error}"))?;
        let stack = DtabStack::new([vec![dtab.clone()], self.overrides()?].concat());
        let mut states = States::read(&self.namers)?;
        states.0.extend(States::read(common)?.0);
        let expected = Expected::read(&self.expect, self.residual.as_deref())?;
        let got = dtab::bind(&stack, &name, &mut states);
        let failure = (!expected.is_met(&got)).then(|| {
            let way = match dtab::explain(&stack, &name, &mut states) {
                State::Ok(tree) => Node::from(&tree).render(),
                State::Failed(why) => format!("{name}  [failed: {why}]"),
                State::Pending => format!("{name}  [pending]"),
            };
            let indented: Vec<String> = way.lines().map(|line| format!("    {line}")).collect();
            format!("  expected  {}\n  got       {}\n  way\n{}", expected.shown, shown(&got), indented.join("\n"))
        });
        Ok(Verdict { title: self.title(), failure })
    }

    /// What the headers say, in the order in which routers read them.
    fn overrides(&self) -> Result<Vec<Dtab>, String> {
        let mut found = [None, None];
        for (name, text) in &self.headers {
            let at = match name.to_lowercase().as_str() {
                "l5d-ctx-dtab" => 0,
                "l5d-dtab" => 1,
                _ => return Err(format!("header {name}: only l5d-dtab and l5d-ctx-dtab change names")),
            };
            found[at] = Some(Dtab::parse(text).map_err(|error| format!("header {name}: {error}"))?);
        }
        Ok(found.into_iter().flatten().collect())
    }
}

impl States {
    fn read(states: &BTreeMap<String, String>) -> Result<States, String> {
        let mut list = Vec::new();
        for (id, state) in states {
            let prefix = parse_prefix(id).map_err(|error| format!("namers: {error}"))?;
            let answer = match state.trim() {
                "bound" => Answer::Bound,
                "neg" => Answer::Tree(NameTree::Neg),
                "fail" => Answer::Tree(NameTree::Fail),
                "empty" => Answer::Tree(NameTree::Empty),
                "pending" => Answer::Pending,
                "failed" => Answer::Failed("the namer fails".into()),
                text if text.starts_with("failed:") => Answer::Failed(text["failed:".len()..].trim().into()),
                text if text.starts_with('/') => {
                    Answer::Tree(parse_tree(text).map_err(|error| format!("namers: {id}: {error}"))?)
                }
                other => {
                    return Err(format!(
                        "namers: {id}: {other:?} is no state; write bound, neg, fail, empty, pending, failed, or another name"
                    ));
                }
            };
            list.push((prefix, answer));
        }
        let wildcards = |prefix: &Prefix| prefix.elements().iter().filter(|e| **e == Element::Wildcard).count();
        list.sort_by_key(|(prefix, _)| (std::cmp::Reverse(prefix.len()), wildcards(prefix)));
        Ok(States(list))
    }
}

impl Lookups for States {
    /// The longest id that matches; a name that nobody says anything about is negative.
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        let Some((prefix, answer)) = self.0.iter().find(|(prefix, _)| begins(path, prefix)) else {
            return State::Ok(NameTree::Neg);
        };
        match answer {
            Answer::Bound => {
                let name = BoundName { id: path.take(prefix.len()), residual: path.skip(prefix.len()) };
                State::Ok(NameTree::Leaf(Name::Bound(name)))
            }
            Answer::Tree(tree) => State::Ok(tree.map(&mut |path| Name::Path(path.clone()))),
            Answer::Pending => State::Pending,
            Answer::Failed(why) => State::Failed(why.as_str().into()),
        }
    }
}

fn begins(path: &Path, prefix: &Prefix) -> bool {
    path.len() >= prefix.len()
        && prefix.elements().iter().zip(path.labels()).all(|(element, label)| match element {
            Element::Wildcard => true,
            Element::Label(own) => **own == *label,
        })
}

struct Expected {
    shown: String,
    /// None for what is not known, by its word.
    tree: Option<NameTree<Path>>,
    residual: Option<Path>,
}

impl Expected {
    fn read(text: &str, residual: Option<&str>) -> Result<Expected, String> {
        let tree = match text.trim() {
            "neg" => Some(NameTree::Neg),
            "fail" => Some(NameTree::Fail),
            "empty" => Some(NameTree::Empty),
            "pending" | "failed" => None,
            other => Some(parse_tree(other).map_err(|error| format!("expect: {error}"))?),
        };
        let path = residual.map(Path::parse).transpose().map_err(|error| format!("residual: {error}"))?;
        let shown =
            residual.map_or_else(|| text.trim().to_owned(), |rest| format!("{} and left over {rest}", text.trim()));
        Ok(Expected { shown, tree, residual: path })
    }

    fn is_met(&self, got: &State<NameTree<BoundName>>) -> bool {
        match (&self.tree, got) {
            (None, State::Pending) => self.shown == "pending",
            (None, State::Failed(_)) => self.shown == "failed",
            (Some(expected), State::Ok(got)) => {
                let mut left_over = true;
                got.for_each(&mut |name| left_over &= self.residual.as_ref().is_none_or(|rest| *rest == name.residual));
                left_over && *expected == got.map(&mut |name| name.id.clone())
            }
            _ => false,
        }
    }
}

fn shown(got: &State<NameTree<BoundName>>) -> String {
    match got {
        State::Pending => "pending".to_owned(),
        State::Failed(why) => format!("failed: {why}"),
        State::Ok(NameTree::Neg) => "neg".to_owned(),
        State::Ok(NameTree::Fail) => "fail".to_owned(),
        State::Ok(NameTree::Empty) => "empty".to_owned(),
        State::Ok(tree) => {
            let mut rests = Vec::new();
            tree.for_each(&mut |name| rests.push(name.residual.to_string()));
            rests.dedup();
            let ids = tree.map(&mut |name| name.id.clone());
            match rests.as_slice() {
                [rest] if rest == "/" => ids.to_string(),
                rests => format!("{ids} and left over {}", rests.join(", ")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r##"
dtab: |
  /srv => /#/io.l5d.fs;
  /svc => /srv;
  /svc/world => 1 * /srv/world-v2 & 9 * /srv/world-v1;
namers:
  /#/io.l5d.fs/*: bound
cases:
- {name: /svc/web/x, expect: /#/io.l5d.fs/web, residual: /x}
- {name: /svc/world, expect: "1*/#/io.l5d.fs/world-v2 & 9*/#/io.l5d.fs/world-v1"}
- {name: /svc/world, namers: {/#/io.l5d.fs/world-v2: neg}, expect: /#/io.l5d.fs/world-v1}
- {name: /svc/world, headers: {L5d-Dtab: "/svc/world => /srv/mine"}, expect: /#/io.l5d.fs/mine}
- {name: /svc/web, namers: {/#/io.l5d.fs: pending}, expect: pending}
- {name: /svc/web, namers: {/#/io.l5d.fs/web: pending}, expect: pending}
- {name: /svc/web, namers: {/#/io.l5d.fs/web: "failed: ill"}, expect: failed}
- {name: /svc/web, namers: {/#/io.l5d.fs/web: /svc/other}, expect: /#/io.l5d.fs/other}
- {name: /nope, expect: neg}
- {title: it is wrong, name: /svc/web, expect: /#/io.l5d.fs/wob}
"##;

    fn run(text: &str) -> Result<Vec<Verdict>, String> {
        let suite = Suite::read(&Source::of("t.yaml", text))?;
        let dtab = Dtab::parse(suite.dtab.as_deref().unwrap()).unwrap();
        suite.run(&dtab)
    }

    #[test]
    fn cases_are_judged_by_the_evaluator() {
        let verdicts = run(SUITE).unwrap();
        let failed: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.failure.is_some()).collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0].title, "it is wrong");
        let expected = "  expected  /#/io.l5d.fs/wob\n  got       /#/io.l5d.fs/web\n  way\n    /svc/web\n    └─ /srv/web  (/svc => /srv)\n       └─ /#/io.l5d.fs/web  [bound /#/io.l5d.fs/web]  (/srv => /#/io.l5d.fs)";
        assert_eq!(failed[0].failure.as_deref().unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for (text, why) in [
            ("cases: []", "dtab"),
            ("dtab: ''\ncases: []", "no cases"),
            ("dtab: ''\nfile: x\ncases: [{name: /a, expect: neg}]", "one of"),
            ("dtab: ''\ncases: [{name: a, expect: neg}]", "name"),
            ("dtab: ''\ncases: [{name: /a, expect: '('}]", "expect"),
            ("dtab: ''\ncases: [{name: /a, expect: neg, headers: {host: x}}]", "only l5d-dtab"),
            ("dtab: ''\ncases: [{name: /a, expect: neg, namers: {/#/x: up}}]", "no state"),
            ("dtab: ''\ncases: [{name: /a, expects: neg}]", "expects"),
        ] {
            let error = run(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
