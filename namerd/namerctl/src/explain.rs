//! How a name resolves, step by step, as a tree for the terminal; and where its requests go in the end.
//!
//! Reads the JSON of namerd's delegate API (namerd reference §2.12) and the trees of crate `dtab` alike. Called by
//! `delegate`, [`crate::plan`] and [`crate::unit`]. Not for: the rules of names.

use crate::wire::Entry;
use dtab::{Addr, BoundName, DelegateTree, Delegation};
use serde_json::Value;

/// So many addresses of a leaf are shown.
const ADDRESSES: usize = 4;

/// A step.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What was looked up.
    pub path: String,
    /// The entry that led here.
    pub dentry: Option<Entry>,
    /// What came of it.
    pub kind: Kind,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// One entry matched, or a namer gave another name.
    Delegate(Box<Node>),
    /// Alternatives in order.
    Alt(Vec<Node>),
    /// Weighted branches.
    Union(Vec<(f64, Node)>),
    /// A concrete name.
    Leaf {
        /// The bound id.
        id: String,
        /// What is left over; `/` for nothing.
        residual: String,
        /// What is known of its addresses.
        addr: String,
    },
    /// No such name.
    Neg,
    /// No such name, and no alternatives.
    Fail,
    /// A name without addresses.
    Empty,
    /// The lookup failed.
    Exception(String),
    /// A transformer changed the name.
    Transformation(String, Box<Node>),
}

/// Where requests go.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// To these, by share, sorted by name; the shares are together 1.
    To(Vec<(String, f64)>),
    /// Nowhere: neg, fail or empty.
    Nowhere(&'static str),
    /// Nowhere, since the lookup fails.
    Failed(String),
}

/// Reads a node of namerd's JSON. Errors with what is wrong.
pub fn read(value: &Value) -> Result<Node, String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let member = |key: &str| value.get(key).ok_or_else(|| format!("a node has no `{key}`"));
    let list = |key: &str| {
        member(key).and_then(|list| list.as_array().ok_or_else(|| format!("`{key}` of a node is no array")))
    };
    let kind = match text(value, "type").as_str() {
        "delegate" => Kind::Delegate(Box::new(read(member("delegate")?)?)),
        "alt" => Kind::Alt(list("alt")?.iter().map(read).collect::<Result<_, _>>()?),
        "union" => {
            let branch = |branch: &Value| {
                let weight = branch.get("weight").and_then(Value::as_f64).ok_or("a branch has no weight")?;
                Ok::<_, String>((weight, read(branch.get("tree").ok_or("a branch has no tree")?)?))
            };
            Kind::Union(list("union")?.iter().map(branch).collect::<Result<_, _>>()?)
        }
        "leaf" => {
            let bound = member("bound")?;
            let addr = bound.get("addr").map(addresses).unwrap_or_default();
            Kind::Leaf { id: text(bound, "id"), residual: text(bound, "path"), addr }
        }
        "neg" => Kind::Neg,
        "fail" => Kind::Fail,
        "empty" => Kind::Empty,
        "exception" => Kind::Exception(text(value, "message")),
        "transformation" => Kind::Transformation(text(value, "name"), Box::new(read(member("tree")?)?)),
        other => return Err(format!("a node of the type {other:?} is not known")),
    };
    let dentry = value.get("dentry").map(|dentry| Entry { prefix: text(dentry, "prefix"), dst: text(dentry, "dst") });
    Ok(Node { path: text(value, "path"), dentry, kind })
}

fn addresses(addr: &Value) -> String {
    let kind = addr.get("type").and_then(Value::as_str).unwrap_or("unknown");
    let Some(list) = addr.get("addrs").and_then(Value::as_array) else {
        let cause = addr.get("cause").and_then(Value::as_str);
        return cause.map_or_else(|| kind.to_owned(), |cause| format!("{kind}: {cause}"));
    };
    let one = |item: &Value| {
        let ip = item.get("ip").and_then(Value::as_str).unwrap_or("?");
        let port = item.get("port").and_then(Value::as_u64).unwrap_or_default();
        if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
    };
    count(list.len(), list.iter().map(one))
}

fn count(number: usize, list: impl Iterator<Item = String>) -> String {
    let shown: Vec<String> = list.take(ADDRESSES).collect();
    let more = if number > ADDRESSES { ", ..." } else { "" };
    match number {
        0 => "no addresses".to_owned(),
        1 => format!("1 address: {}", shown.join("")),
        _ => format!("{number} addresses: {}{more}", shown.join(", ")),
    }
}

impl From<&DelegateTree> for Node {
    fn from(tree: &DelegateTree) -> Node {
        let boxed = |tree: &DelegateTree| Box::new(Node::from(tree));
        let kind = match &tree.node {
            Delegation::Delegate(child) => Kind::Delegate(boxed(child)),
            Delegation::Alt(children) => Kind::Alt(children.iter().map(Node::from).collect()),
            Delegation::Union(branches) => Kind::Union(branches.iter().map(|(w, t)| (*w, t.into())).collect()),
            Delegation::Leaf(BoundName { id, residual }, addr) => {
                let addr = match addr {
                    Addr::Bound(set) => count(set.addresses.len(), set.addresses.iter().map(|a| a.socket.to_string())),
                    Addr::Neg => "neg".to_owned(),
                    Addr::Failed(why) => format!("failed: {why}"),
                    Addr::Pending => String::new(),
                };
                Kind::Leaf { id: id.to_string(), residual: residual.to_string(), addr }
            }
            Delegation::Neg => Kind::Neg,
            Delegation::Fail => Kind::Fail,
            Delegation::Empty => Kind::Empty,
            Delegation::Exception(why) => Kind::Exception(why.clone()),
            Delegation::Transformation { name, tree, .. } => Kind::Transformation((*name).to_owned(), boxed(tree)),
        };
        let entry = |d: &dtab::Dentry| Entry { prefix: d.prefix.to_string(), dst: dtab::Exact(&d.dst).to_string() };
        Node { path: tree.path.clone(), dentry: tree.dentry.as_ref().map(entry), kind }
    }
}

/// What is left of a tree once it is decided, as binding decides it.
enum Decided {
    To(Vec<(String, f64)>),
    Neg,
    Fail,
    Empty,
    Failed(String),
}

impl Node {
    /// Where requests go: the first alternative that is not negative, branches by weight without those that are.
    pub fn destination(&self) -> Destination {
        match self.decide() {
            Decided::To(shares) => Destination::To(merged(shares)),
            Decided::Neg => Destination::Nowhere("neg"),
            Decided::Fail => Destination::Nowhere("fail"),
            Decided::Empty => Destination::Nowhere("empty"),
            Decided::Failed(why) => Destination::Failed(why),
        }
    }

    fn decide(&self) -> Decided {
        match &self.kind {
            Kind::Delegate(child) | Kind::Transformation(_, child) => child.decide(),
            Kind::Alt(children) => {
                let decided = children.iter().map(Node::decide).find(|child| !matches!(child, Decided::Neg));
                decided.unwrap_or(Decided::Neg)
            }
            Kind::Union(branches) => decide_union(branches),
            Kind::Leaf { id, residual, .. } => {
                let rest = if residual == "/" || residual.is_empty() { String::new() } else { format!("+{residual}") };
                Decided::To(vec![(format!("{id}{rest}"), 1.0)])
            }
            Kind::Neg => Decided::Neg,
            Kind::Fail => Decided::Fail,
            Kind::Empty => Decided::Empty,
            Kind::Exception(why) => Decided::Failed(why.clone()),
        }
    }

    /// The tree as lines, without a final newline.
    pub fn render(&self) -> String {
        let mut lines = Vec::new();
        self.lines("", "", "", &mut lines);
        lines.join("\n")
    }

    fn lines(&self, lead: &str, below: &str, label: &str, out: &mut Vec<String>) {
        let by = self.dentry.as_ref().map(|entry| format!("  ({} => {})", entry.prefix, entry.dst)).unwrap_or_default();
        let what = match &self.kind {
            Kind::Delegate(_) | Kind::Alt(_) | Kind::Union(_) => String::new(),
            Kind::Leaf { id, residual, addr } => {
                let rest =
                    if residual == "/" || residual.is_empty() { String::new() } else { format!(", rest {residual}") };
                let addr = if addr.is_empty() { String::new() } else { format!(", {addr}") };
                format!("  [bound {id}{rest}{addr}]")
            }
            Kind::Neg => "  [neg]".to_owned(),
            Kind::Fail => "  [fail]".to_owned(),
            Kind::Empty => "  [empty]".to_owned(),
            Kind::Exception(why) => format!("  [failed: {why}]"),
            Kind::Transformation(name, _) => format!("  [transformed by {name}]"),
        };
        out.push(clean(&format!("{lead}{label}{}{what}{by}", self.path)));
        let children: Vec<(String, &Node)> = match &self.kind {
            Kind::Delegate(child) | Kind::Transformation(_, child) => vec![(String::new(), child)],
            Kind::Alt(children) => {
                let taken = children.iter().position(|child| !matches!(child.decide(), Decided::Neg));
                let label = |i: usize| if taken == Some(i) { format!("{}. * ", i + 1) } else { format!("{}. ", i + 1) };
                children.iter().enumerate().map(|(i, child)| (label(i), child)).collect()
            }
            Kind::Union(branches) => {
                let weights: Vec<f64> = branches.iter().map(|(weight, _)| *weight).collect();
                let shares = shares(&weights);
                branches.iter().zip(shares).map(|((_, child), share)| (format!("{} ", percent(share)), child)).collect()
            }
            _ => Vec::new(),
        };
        let last = children.len().saturating_sub(1);
        for (i, (label, child)) in children.iter().enumerate() {
            let (branch, space) = if i == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            child.lines(&format!("{below}{branch}"), &format!("{below}{space}"), label, out);
        }
    }
}

fn decide_union(branches: &[(f64, Node)]) -> Decided {
    if let [(_, only)] = branches {
        return only.decide();
    }
    let mut kept = Vec::new();
    let mut failed = None;
    for (weight, branch) in branches {
        match branch.decide() {
            Decided::Neg | Decided::Fail => {}
            Decided::Failed(why) => failed = failed.or(Some(why)),
            Decided::Empty => kept.push((*weight, None)),
            Decided::To(shares) => kept.push((*weight, Some(shares))),
        }
    }
    match (kept.len(), failed) {
        (0, Some(why)) => Decided::Failed(why),
        (0, None) => Decided::Neg,
        _ if kept.iter().all(|(_, branch)| branch.is_none()) => Decided::Empty,
        _ => {
            let weights: Vec<f64> = kept.iter().map(|(weight, _)| *weight).collect();
            let parts = kept.into_iter().zip(shares(&weights));
            let flat = parts.flat_map(|((_, branch), share)| {
                let inner = branch.unwrap_or_else(|| vec![("$".to_owned(), 1.0)]);
                inner.into_iter().map(move |(id, part)| (id, part * share)).collect::<Vec<_>>()
            });
            Decided::To(flat.collect())
        }
    }
}

/// Weights as parts of 1; equal ones when all are zero.
fn shares(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    let one = |weight: &f64| if sum > 0.0 && sum.is_finite() { weight / sum } else { 1.0 / weights.len() as f64 };
    weights.iter().map(one).collect()
}

fn merged(shares: Vec<(String, f64)>) -> Vec<(String, f64)> {
    let mut sums = std::collections::BTreeMap::new();
    for (id, share) in shares {
        // Rounded, so that sums in another order are the same.
        *sums.entry(id).or_insert(0.0) += share;
    }
    sums.into_iter().map(|(id, share): (String, f64)| (id, (share * 1e9).round() / 1e9)).collect()
}

/// A part of 1 as percent with as many decimals as it needs, three at most.
pub fn percent(share: f64) -> String {
    let text = format!("{:.3}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Without characters that a terminal would act on, those that turn the direction of text included (attack A11).
pub fn clean(text: &str) -> String {
    let acts = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if acts(c) { '\u{fffd}' } else { c }).collect()
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Destination::To(list) => match list.as_slice() {
                [(id, _)] => f.write_str(&clean(id)),
                many => {
                    let one = |(id, share): &(String, f64)| format!("{} {}", percent(*share), clean(id));
                    f.write_str(&many.iter().map(one).collect::<Vec<_>>().join(", "))
                }
            },
            Destination::Nowhere(what) => f.write_str(what),
            Destination::Failed(why) => write!(f, "failed: {}", clean(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(id: &str) -> String {
        format!(
            r#"{{"type":"leaf","path":"{id}","bound":{{"addr":{{"type":"bound","addrs":[{{"ip":"10.0.0.1","port":80,"meta":{{}}}}],"meta":{{}}}},"id":"{id}","path":"/"}}}}"#
        )
    }

    fn node(text: &str) -> Node {
        read(&serde_json::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn alternatives_are_decided_and_branches_weighed() {
        let neg = r#"{"type":"neg","path":"~"}"#;
        let (a, b) = (leaf("/#/a"), leaf("/#/b"));
        let union = format!(
            r#"{{"type":"union","path":"/s","union":[{{"weight":1.0,"tree":{a}}},{{"weight":9.0,"tree":{b}}},{{"weight":5.0,"tree":{neg}}}]}}"#
        );
        let tree = node(&format!(r#"{{"type":"alt","path":"/s","alt":[{neg},{union},{a}]}}"#));
        assert_eq!(tree.destination().to_string(), "10% /#/a, 90% /#/b");
        let exception = r#"{"type":"exception","path":"/s","message":"no \u001b[2J way"}"#;
        let tree = node(&format!(r#"{{"type":"alt","path":"/s","alt":[{exception},{a}]}}"#));
        assert_eq!(tree.destination().to_string(), "failed: no \u{fffd}[2J way");
        assert_eq!(node(neg).destination(), Destination::Nowhere("neg"));
    }

    #[test]
    fn a_tree_is_readable() {
        let text = format!(
            r#"{{"type":"alt","path":"/svc/w","alt":[{{"type":"neg","path":"/#/x","dentry":{{"prefix":"/svc","dst":"/#/x | /#/a"}}}},{}]}}"#,
            leaf("/#/a")
        );
        let expected =
            "/svc/w\n├─ 1. /#/x  [neg]  (/svc => /#/x | /#/a)\n└─ 2. * /#/a  [bound /#/a, 1 address: 10.0.0.1:80]";
        assert_eq!(node(&text).render(), expected);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for text in ["{}", "[]", r#"{"type":"alt"}"#, r#"{"type":"union","union":[{}]}"#, r#"{"type":"what"}"#] {
            assert!(read(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }
}
