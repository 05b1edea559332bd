//! Paths, trees, tables, lookup and evaluation: `path.json`, `nametree.json`, `dtab.json`, `lookup.json`, `eval.json`.

use crate::Verdict;
use dtab::{BoundName, Dtab, DtabStack, NameTree, Path, Value, Weighted};
use serde_json::{Value as Json, json};

pub(crate) fn text<'a>(case: &'a Json, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("`{key}` is text in {case}"))
}

/// Compares `got` with `ok` or `error.message` of the case.
fn judge(case: &Json, got: Result<Json, String>) -> Verdict {
    match got {
        Ok(got) => match case.get("ok") {
            Some(want) => same_members(&got, want),
            None => Verdict::Fail(format!("succeeded with {got}")),
        },
        Err(message) => match case.get("error") {
            Some(want) => Verdict::equal(&message.as_str(), &text(want, "message")),
            None => Verdict::Fail(format!("failed with {message}")),
        },
    }
}

/// Every member of `want` is in `got`, numbers compared as numbers.
fn same_members(got: &Json, want: &Json) -> Verdict {
    for (key, value) in want.as_object().expect("an object is expected") {
        if !alike(&got[key], value) {
            return Verdict::Fail(format!("`{key}`: got  {}\n       want {value}", got[key]));
        }
    }
    Verdict::Pass
}

/// Equal, with numbers compared as numbers.
pub(crate) fn alike(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Number(a), Json::Number(b)) => {
            (a.as_f64().unwrap_or(f64::NAN) - b.as_f64().unwrap_or(f64::NAN)).abs() < 1e-9
        }
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        _ => a == b,
    }
}

fn hex(label: &[u8]) -> String {
    label.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex")).collect()
}

pub(crate) fn path(case: &Json) -> Verdict {
    if case["op"] == "show" {
        let labels = case["segments_hex"].as_array().expect("labels");
        let path = Path::from_labels(labels.iter().map(|l| from_hex(l.as_str().expect("hex text"))));
        let shown = path.map(|p| p.to_string()).map_err(|e| e.to_string());
        let back = shown.as_ref().ok().map(|text| Path::parse(text).map(|p| p.to_string()));
        if let (Ok(shown), Some(Ok(back))) = (&shown, back)
            && *shown != back
        {
            return Verdict::Fail(format!("{shown} parses back to {back}"));
        }
        return judge(case, shown.map(|canonical| json!({ "canonical": canonical })));
    }
    judge(case, Path::parse(text(case, "input")).map(|path| describe_path(&path)).map_err(|e| e.to_string()))
}

fn describe_path(path: &Path) -> Json {
    let texts: Option<Vec<_>> = path.labels().map(|l| String::from_utf8(l.to_vec()).ok()).collect();
    json!({
        "canonical": path.to_string(),
        "segments_hex": path.labels().map(hex).collect::<Vec<_>>(),
        "segments": texts,
    })
}

/// The structure of a tree, leaves made by `leaf`.
pub(crate) fn structure<T>(tree: &NameTree<T>, leaf: &dyn Fn(&T) -> Json) -> Json {
    match tree {
        NameTree::Neg => json!({ "type": "neg" }),
        NameTree::Fail => json!({ "type": "fail" }),
        NameTree::Empty => json!({ "type": "empty" }),
        NameTree::Leaf(value) => leaf(value),
        NameTree::Alt(trees) => {
            json!({ "type": "alt", "trees": trees.iter().map(|t| structure(t, leaf)).collect::<Vec<_>>() })
        }
        NameTree::Union(branches) => {
            let branch = |b: &Weighted<T>| json!({ "weight": b.weight, "tree": structure(&b.tree, leaf) });
            json!({ "type": "union", "trees": branches.iter().map(branch).collect::<Vec<_>>() })
        }
    }
}

fn path_leaf(path: &Path) -> Json {
    json!({ "type": "leaf", "path": path.to_string() })
}

pub(crate) fn nametree(case: &Json) -> Verdict {
    let parsed = dtab::parse_tree(text(case, "input")).map_err(|e| e.to_string());
    let described = parsed.map(|tree| {
        json!({
            "canonical": tree.to_string(),
            "simplified": tree.simplify().to_string(),
            "tree": structure(&tree, &path_leaf),
        })
    });
    judge(case, described)
}

pub(crate) fn dtab(case: &Json) -> Verdict {
    let got = match text(case, "op") {
        "parse" => Dtab::parse(text(case, "input")).map(|dtab| {
            let dentry = |d: &dtab::Dentry| json!({ "prefix": d.prefix.to_string(), "dst": d.dst.to_string() });
            let dentries: Vec<_> = dtab.dentries().iter().map(dentry).collect();
            json!({ "canonical": dtab.to_string(), "dentries": dentries })
        }),
        "parse-prefix" => dtab::parse_prefix(text(case, "input")).map(|p| json!({ "canonical": p.to_string() })),
        "concat" => {
            let inputs = case["inputs"].as_array().expect("inputs");
            let tables: Result<Vec<_>, _> = inputs.iter().map(|i| Dtab::parse(i.as_str().expect("text"))).collect();
            tables.map(|tables| {
                let all = tables.iter().fold(Dtab::empty(), |all, next| all.concat(next));
                assert_eq!(all.to_string(), DtabStack::new(tables.clone()).to_string());
                json!({ "canonical": all.to_string() })
            })
        }
        "simplify" => Dtab::parse(text(case, "input")).map(|dtab| json!({ "canonical": dtab.simplify().to_string() })),
        other => return Verdict::Skip(format!("op {other} is not known")),
    };
    judge(case, got.map_err(|e| e.to_string()))
}

pub(crate) fn lookup(case: &Json) -> Verdict {
    let (Ok(dtab), Ok(path)) = (Dtab::parse(text(case, "dtab")), Path::parse(text(case, "path"))) else {
        return Verdict::Fail("the table or the path does not parse".into());
    };
    let tree = DtabStack::new([dtab]).lookup(&path);
    judge(case, Ok(json!({ "result": tree.to_string(), "tree": structure(&tree, &path_leaf) })))
}

/// The value of a tree as the corpus writes it; `leaf` writes one leaf.
pub(crate) fn value_json<T: Clone + PartialEq>(tree: &NameTree<T>, leaf: &dyn Fn(&T) -> Json) -> Json {
    match tree.eval() {
        Value::Neg => json!({ "type": "neg" }),
        Value::Fail => json!({ "type": "fail" }),
        Value::Leaves(leaves) if leaves.is_empty() => json!({ "type": "empty" }),
        Value::Leaves(leaves) => {
            let mut leaves: Vec<_> = leaves.iter().map(leaf).collect();
            leaves.sort_by_key(|leaf| leaf.to_string());
            json!({ "type": "leaves", "leaves": leaves })
        }
    }
}

/// Sorts every array of objects or strings named `leaves` or `distribution`, so that they compare as sets.
pub(crate) fn as_set(json: &Json) -> Json {
    let mut sorted = json.clone();
    let list = if sorted.is_array() { Some(&mut sorted) } else { sorted.get_mut("leaves") };
    if let Some(Json::Array(items)) = list {
        items.sort_by_key(|item| item.to_string());
    }
    sorted
}

pub(crate) fn eval(case: &Json) -> Verdict {
    let Ok(tree) = dtab::parse_tree(text(case, "tree")) else { return Verdict::Fail("the tree does not parse".into()) };
    let bound = bind_leaves(&tree);
    let leaf = |name: &BoundName| json!(name.id.to_string());
    let got = json!({
        "eval": value_json(&tree, &|path: &Path| json!(path.to_string())),
        "bound": bound.map(&mut |name| name.id.clone()).to_string(),
        "distribution": crate::binding::distribution(&bound, &|name| json!({ "path": leaf(name) })),
    });
    for key in ["eval", "bound", "distribution"] {
        if let Some(want) = case.get(key).or_else(|| case["ok"].get(key))
            && !alike(&as_set(&got[key]), &as_set(want))
        {
            return Verdict::Fail(format!("`{key}`: got  {}\n       want {want}", got[key]));
        }
    }
    Verdict::Pass
}

/// Binds a tree whose paths are their own bound names, by binding `/svc` in a table that leads to it.
fn bind_leaves(tree: &NameTree<Path>) -> NameTree<BoundName> {
    struct Identity;
    impl dtab::Lookups for Identity {
        fn lookup(&mut self, path: &Path) -> dtab::State<NameTree<dtab::Name>> {
            let name = BoundName { id: path.clone(), residual: Path::empty() };
            dtab::State::Ok(NameTree::Leaf(dtab::Name::Bound(name)))
        }
    }
    let root = Path::parse("/the-tree").expect("a path");
    let dentry = dtab::Dentry { prefix: dtab::parse_prefix("/the-tree").expect("a prefix"), dst: tree.clone() };
    let table = DtabStack::new([Dtab::new(vec![dentry])]);
    match dtab::bind(&table, &root, &mut Identity) {
        // A lone `~` falls through to the namers, which answer with the path itself.
        dtab::State::Ok(NameTree::Leaf(name)) if name.id == root => NameTree::Neg,
        dtab::State::Ok(tree) => tree,
        other => panic!("binding gave {other:?}"),
    }
}
