//! What a new dtab would change: for every name its destination before and after, by the namers of namerd as they are now.
//!
//! Both sides are evaluated by namerd from the text of a dtab alone, so that they differ by the dtab and nothing else.
//! Called by `dtab plan`. Not for: deciding whether the change is wanted.

use crate::api::{ApiError, Namerd};
use crate::error::{CHANGES, Failure, OK};
use crate::explain::{self, Destination};
use crate::wire::quote;
use dtab::{Dentry, Dtab, NameTree, Path, Prefix};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::JoinSet;

/// So many names are looked up at once.
const AT_ONCE: usize = 8;
/// So many names a plan may have.
pub const MAX_NAMES: usize = 100_000;

/// One name whose destination changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The name.
    pub name: String,
    /// Where its requests go now.
    pub before: Destination,
    /// Where they would go.
    pub after: Destination,
    /// False when a scope is given and the name is not in it.
    pub in_scope: bool,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The namespace.
    pub namespace: String,
    /// The version that it was compared with; empty when there is no such namespace.
    pub version: String,
    /// How many names were looked up.
    pub names: usize,
    /// Those that change, sorted.
    pub rows: Vec<Row>,
}

/// Looks up all names by both dtabs.
pub async fn compare(
    namerd: Arc<Namerd>,
    (before, after): (String, String),
    names: Vec<String>,
    scope: &[Prefix],
) -> Result<Vec<Row>, ApiError> {
    let (names, next) = (Arc::new(names), Arc::new(AtomicUsize::new(0)));
    let texts = Arc::new((before, after));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE.min(names.len()) {
        let (namerd, names, next, texts) = (namerd.clone(), names.clone(), next.clone(), texts.clone());
        workers.spawn(async move {
            let mut rows = Vec::new();
            while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                let before = destination(&namerd, &texts.0, name).await?;
                let after = destination(&namerd, &texts.1, name).await?;
                if !same(&before, &after) {
                    rows.push(Row { name: name.clone(), before, after, in_scope: true });
                }
            }
            Ok::<_, ApiError>(rows)
        });
    }
    let mut rows = Vec::new();
    while let Some(done) = workers.join_next().await {
        rows.extend(done.map_err(|error| ApiError::Answer(format!("a lookup broke off: {error}")))??);
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let scope = Dtab::new(scope.iter().map(|prefix| Dentry { prefix: prefix.clone(), dst: NameTree::Empty }).collect());
    for row in &mut rows {
        let name = Path::parse(&row.name).unwrap_or_default();
        row.in_scope = scope.is_empty() || !scope.positions(&name).is_empty();
    }
    Ok(rows)
}

async fn destination(namerd: &Namerd, dtab: &str, name: &str) -> Result<Destination, ApiError> {
    let tree = namerd.delegate_by(dtab, name).await?;
    Ok(explain::read(&tree).map_err(ApiError::Answer)?.destination())
}

/// Two failures are the same: requests go nowhere.
fn same(before: &Destination, after: &Destination) -> bool {
    match (before, after) {
        (Destination::Failed(_), Destination::Failed(_)) => true,
        _ => before == after,
    }
}

fn is_nowhere(destination: &Destination) -> bool {
    !matches!(destination, Destination::To(_))
}

impl Plan {
    /// Names that have a destination now and would have none.
    pub fn lost(&self) -> usize {
        self.rows.iter().filter(|row| !is_nowhere(&row.before) && is_nowhere(&row.after)).count()
    }

    fn outside(&self) -> usize {
        self.rows.iter().filter(|row| !row.in_scope).count()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        for row in &self.rows {
            let outside = if row.in_scope { "" } else { "  (outside of the scope)" };
            lines.push(format!("{}{outside}", explain::clean(&row.name)));
            lines.push(format!("  - {}", row.before));
            lines.push(format!("  + {}", row.after));
        }
        let against = if self.version.is_empty() { "no dtab".to_owned() } else { format!("version {}", self.version) };
        let lost = match self.lost() {
            0 => String::new(),
            lost => format!("; {lost} would go nowhere"),
        };
        lines.push(format!(
            "{}: {} of {} names change against {against}{lost}",
            self.namespace,
            self.rows.len(),
            self.names
        ));
        lines.join("\n")
    }

    /// For programs.
    pub fn json(&self) -> String {
        let row = |row: &Row| {
            format!(
                "{{\"name\":{},\"before\":{},\"after\":{},\"inScope\":{}}}",
                quote(&row.name),
                json(&row.before),
                json(&row.after),
                row.in_scope
            )
        };
        format!(
            "{{\"namespace\":{},\"version\":{},\"names\":{},\"lost\":{},\"changes\":[{}]}}",
            quote(&self.namespace),
            quote(&self.version),
            self.names,
            self.lost(),
            self.rows.iter().map(row).collect::<Vec<_>>().join(",")
        )
    }

    /// The exit status, or why the plan is refused.
    pub fn verdict(&self) -> Result<u8, Failure> {
        match (self.outside(), self.rows.len()) {
            (0, 0) => Ok(OK),
            (0, _) => Ok(CHANGES),
            (outside, _) => Err(Failure::new(format!("{outside} names outside of the scope change"))),
        }
    }
}

fn json(destination: &Destination) -> String {
    match destination {
        Destination::To(list) => {
            let one = |(id, share): &(String, f64)| format!("{{\"id\":{},\"share\":{share}}}", quote(id));
            format!("{{\"type\":\"bound\",\"to\":[{}]}}", list.iter().map(one).collect::<Vec<_>>().join(","))
        }
        Destination::Nowhere(what) => format!("{{\"type\":\"{what}\"}}"),
        Destination::Failed(why) => format!("{{\"type\":\"failed\",\"cause\":{}}}", quote(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(list: &[(&str, f64)]) -> Destination {
        Destination::To(list.iter().map(|(id, share)| ((*id).to_owned(), *share)).collect())
    }

    fn plan(rows: Vec<Row>) -> Plan {
        Plan { namespace: "internal".into(), version: "MQ==".into(), names: 3, rows }
    }

    #[test]
    fn a_plan_reads_as_a_diff() {
        let after = to(&[("/#/a", 0.1), ("/#/b", 0.9)]);
        let row = Row { name: "/svc/world".into(), before: to(&[("/#/b", 1.0)]), after, in_scope: true };
        let gone = Row {
            name: "/svc/x".into(),
            before: to(&[("/#/x", 1.0)]),
            after: Destination::Nowhere("neg"),
            in_scope: false,
        };
        let all = plan(vec![row.clone(), gone]);
        let expected = "/svc/world\n  - /#/b\n  + 10% /#/a, 90% /#/b\n/svc/x  (outside of the scope)\n  - /#/x\n  + neg\ninternal: 2 of 3 names change against version MQ==; 1 would go nowhere";
        assert_eq!(all.text(), expected);
        let value: serde_json::Value = serde_json::from_str(&all.json()).unwrap();
        assert_eq!(value["changes"][0]["after"]["to"][1], serde_json::json!({"id": "/#/b", "share": 0.9}));
        assert_eq!(value["lost"], 1);
        assert!(all.verdict().is_err());
        assert_eq!(plan(vec![row]).verdict(), Ok(CHANGES));
        assert_eq!(plan(vec![]).verdict(), Ok(OK));
    }
}
