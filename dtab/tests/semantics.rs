//! What every combination of neg, empty, fail, pending, failed and bound gives under `|`, `&`, weights and several matching
//! entries, with Linkerd 1's answer beside ours (requirement P7.2).
//!
//! The answers of Linkerd 1 are written here by hand from the naming reference (§2.4, §3.2, §4.1, §4.2); ours are computed.
//! They must be equal unless the row says why not. `docs/naming-semantics.md` is printed from these rows;
//! `UPDATE_DOCS=1 cargo test -p dtab --test semantics` writes it anew.

use dtab::{BoundName, Dtab, DtabStack, Lookups, Name, NameTree, Path, State, bind};
use std::fmt::Write;

/// The operands, as a dentry writes them.
const OPERANDS: [&str; 6] = ["~", "!", "$", "/#/pending", "/#/failed", "/#/a"];
const PENDING: &str = "pending";
const FAILED: &str = "failed: the namer is ill";
const LOOP: &str = "failed: Max recursion level: 100 reached in Namer lookup";

/// Where we wait and Linkerd 1 says neg for a moment.
const WAITS: &str = "differs: nothing is bound and something may be, so the name waits";

/// `first | second` in Linkerd 1: a line per first operand, a column per second operand.
const ALTERNATIVES: [[&str; 6]; 6] = [
    ["~", "!", "$", PENDING, FAILED, "/#/b"],
    ["!", "!", "!", "!", "!", "!"],
    ["$", "$", "$", "$", "$", "$"],
    [PENDING, PENDING, PENDING, PENDING, PENDING, PENDING],
    [FAILED, FAILED, FAILED, FAILED, FAILED, FAILED],
    ["/#/a", "/#/a", "/#/a", "/#/a", "/#/a", "/#/a"],
];

/// `first & second` in Linkerd 1.
const UNIONS: [[&str; 6]; 6] = [
    ["~", "~", "$", "~", "~", "/#/b"],
    ["~", "~", "$", "~", "~", "/#/b"],
    ["$", "$", "$ & $", "$", "$", "$ & /#/b"],
    ["~", "~", "$", PENDING, FAILED, "/#/b"],
    ["~", "~", "$", FAILED, FAILED, "/#/b"],
    ["/#/a", "/#/a", "/#/a & $", "/#/a", "/#/a", "/#/a & /#/b"],
];

/// Table, name, Linkerd 1's answer, remark.
type Case<'a> = (&'a str, &'a str, &'a str, &'a str);

const WEIGHTS: &[Case<'_>] = &[
    ("/s=>3*/#/a & 1*/#/b", "/s", "3.00*/#/a & /#/b", "three quarters, one quarter"),
    ("/s=>0.5*/#/a", "/s", "/#/a", "the weight of a single term is lost"),
    ("/s=>0*/#/a & 1*/#/b", "/s", "0.00*/#/a & /#/b", "`/#/a` is never chosen"),
    ("/s=>0*/#/a & 0*/#/b", "/s", "0.00*/#/a & 0.00*/#/b", "all weights zero: equal shares"),
    ("/s=>3*/#/a & 1*~", "/s", "/#/a", "the rest shares the traffic"),
    ("/s=>3*/#/a & 1*!", "/s", "/#/a", "fail is ignored in a union"),
    ("/s=>3*/#/a & 1*$", "/s", "3.00*/#/a & $", "a quarter of the requests has no hosts"),
    ("/s=>3*/#/a & 1*/#/pending", "/s", "/#/a", "the branch joins when it is known"),
    ("/s=>3*/#/a & 1*/#/failed", "/s", "/#/a", "the branch joins when it is well again"),
    ("/s=>3*/#/a & 2*/#/b & 1*~", "/s", "3.00*/#/a & 2.00*/#/b", "the other weights stay"),
    ("/s=>1*(2*/#/a & 2*/#/b) & 3*/#/c", "/s", "(2.00*/#/a & 2.00*/#/b) & 3.00*/#/c", "chosen level by level"),
    ("/s=>9*/#/a & 1*(/#/neg | /#/b)", "/s", "9.00*/#/a & /#/b", "alternatives are decided inside the branch"),
    ("/s=>9*/#/a & 1*(/#/neg | /#/pending)", "/s", "/#/a", ""),
    ("/s=>9*/#/a & 1*(/#/b & ~)", "/s", "9.00*/#/a & /#/b", "the inner weight is lost, the outer stays"),
    ("/s=>~ & ! | /#/b", "/s", "/#/b", "a union of neg and fail is neg, so the alternative goes on"),
    ("/s=>! & ! | /#/b", "/s", "/#/b", "even of fail alone"),
    ("/s=>$ & ~ | /#/b", "/s", "$", "empty is an answer"),
    ("/s=>/#/pending & ~ | /#/b", "/s", "/#/b", WAITS),
    ("/s=>/#/failed & ! | /#/b", "/s", "/#/b", ""),
    ("/s=>/#/pending & /#/failed | /#/b", "/s", FAILED, "nothing is known, one failed"),
    ("/s=>/#/pending & /#/pending | /#/b", "/s", PENDING, ""),
    ("/s=>(/#/a & !) | /#/b", "/s", "/#/a", ""),
];

const ENTRIES: &[Case<'_>] = &[
    ("/x=>/#/a", "/s", "~", "no entry matches and no namer knows it"),
    ("/s=>/#/b; /s=>/#/a", "/s", "/#/a", "the later entry wins"),
    ("/s=>/#/b; /s=>~", "/s", "/#/b", "neg falls back to the entry before"),
    ("/s=>/#/b; /s=>/#/neg", "/s", "/#/b", ""),
    ("/s=>/#/b; /s=>!", "/s", "!", "fail does not"),
    ("/s=>/#/b; /s=>$", "/s", "$", "nor does empty"),
    ("/s=>/#/b; /s=>/#/pending", "/s", PENDING, "nor pending"),
    ("/s=>/#/b; /s=>/#/failed", "/s", FAILED, "nor failed"),
    ("/s=>/#/b; /s=>/s/x; /s/x=>~", "/s", LOOP, "the second entry matches its own result, again and again"),
    ("/s/x=>/#/b; /s=>/#/a", "/s/x", "/#/a+/x", "a later shorter prefix beats an earlier longer one"),
    ("/s=>/#/a; /s/x=>/#/b", "/s/x", "/#/b", ""),
    ("/s=>/#/a; /s/x=>~", "/s/x", "/#/a+/x", "fallback to the shorter prefix appends the rest"),
    ("/s=>/#/a; /s/x=>!", "/s/x", "!", ""),
    ("/s=>/#/a; /s/*=>/#/b", "/s/x/y", "/#/b+/y", "what `*` matched is gone"),
    ("/s=>/#/a | $", "/s/x", "/#/a+/x", "the rest is appended to leaves, not to constants"),
    ("/s=>/#/neg | $", "/s/x", "$", ""),
    ("/#/a=>/#/b", "/#/a", "/#/b", "entries come before namers"),
    ("/#/a=>~", "/#/a", "/#/a", "a single `~` does not hide a namer"),
    ("/#/a=>~; /#/a=>~", "/#/a", "~", "two do"),
    ("/#/a=>~ | ~", "/#/a", "~", "and so does a tree that means the same"),
    ("/#/a=>!", "/#/a", "!", "fail hides it"),
    ("/#/a=>$", "/#/a", "$", ""),
    ("/=>!", "/#/a", "!", "a catch-all matches the names of namers, too"),
    ("/=>~", "/#/a", "/#/a", ""),
    ("/s=>/$/nope | /#/b", "/s", "failed: Unknown namer: nope for path: /$/nope", "unknown is failed, not neg"),
    ("/s=>/$/nope & /#/b", "/s", "/#/b", ""),
    ("/s=>/$/inet/host/http | /#/b", "/s", "failed: Unknown namer: inet for path: /$/inet/host/http", "no port number"),
    ("/s=>/$/fail | /#/b", "/s", "!", ""),
    ("/s=>/$/nil | /#/b", "/s", "$", ""),
    ("/s=>/$/inet/nowhere/80 | /#/b", "/s", "/$/inet/nowhere/80", "whether it has addresses does not matter"),
    ("/s=>/l | /#/b; /l=>/l", "/s", LOOP, "a loop fails the alternatives"),
    ("/s=>/l & /#/b; /l=>/l", "/s", "/#/b", "and only loses its branch of a union"),
];

/// A row of the document.
struct Row {
    table: String,
    name: String,
    ours: String,
    linkerd: String,
    remark: String,
    /// The table is too long to show; this says what it is.
    shown: Option<String>,
}

struct Fake;

impl Lookups for Fake {
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        match (path.text(0), path.text(1)) {
            (Some("#"), Some("pending")) => State::Pending,
            (Some("#"), Some("failed")) => State::Failed("the namer is ill".into()),
            (Some("#"), Some("neg")) => State::Ok(NameTree::Neg),
            (Some("#"), Some("fail")) => State::Ok(NameTree::Fail),
            (Some("#"), Some("empty")) => State::Ok(NameTree::Empty),
            (Some("#"), _) => {
                State::Ok(NameTree::Leaf(Name::Bound(BoundName { id: path.take(2), residual: path.skip(2) })))
            }
            _ => State::Ok(NameTree::Neg),
        }
    }
}

fn evaluate(table: &str, name: &str) -> String {
    let dtab = DtabStack::new([Dtab::parse(table).expect("a legal dtab")]);
    let show = |name: &BoundName| match name.residual.is_empty() {
        true => name.id.to_string(),
        false => format!("{}+{}", name.id, name.residual),
    };
    match bind(&dtab, &Path::parse(name).expect("a legal path"), &mut Fake) {
        State::Pending => PENDING.to_owned(),
        State::Failed(reason) => format!("failed: {reason}"),
        State::Ok(tree) => tree.map(&mut |leaf| show(leaf)).to_string(),
    }
}

fn row(&(table, name, linkerd, remark): &Case<'_>) -> Row {
    let ours = evaluate(table, name);
    Row { table: table.into(), name: name.into(), ours, linkerd: linkerd.into(), remark: remark.into(), shown: None }
}

/// One row for each pair of operands.
fn pairs(operator: &str, linkerd: &[[&str; 6]; 6]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (i, first) in OPERANDS.iter().enumerate() {
        for (j, second) in OPERANDS.iter().enumerate() {
            let second = if *second == "/#/a" { "/#/b" } else { second };
            let table = format!("/s=>{first} {operator} {second}");
            let constant = |operand: &str| matches!(operand, "~" | "!");
            let pending = |operand: &str| operand == "/#/pending";
            let waits = (constant(first) && pending(second)) || (pending(first) && constant(second));
            let remark = if operator == "&" && waits { WAITS } else { "" };
            rows.push(row(&(&table, "/s", linkerd[i][j], remark)));
        }
    }
    rows
}

/// What Linkerd 1 has no limit for.
fn limits() -> Vec<Row> {
    let doubling = |i: usize| format!("/a{i}=>/a{next} & /a{next}", next = i + 1);
    let doubling: Vec<String> = (0..14).map(doubling).collect();
    let long = format!("/s=>/x/{}; /x=>/#/a", "y".repeat(70_000));
    let nested = |i: usize| format!("/l{i}=>{}/l{}{}", "(~|".repeat(64), i + 1, ")".repeat(64));
    let nested: Vec<String> = (0..8).map(nested).chain(["/l8=>/#/a".to_owned()]).collect();
    let case = |table: String, name: &str, shown: &str, linkerd: &str, remark: &str| Row {
        ours: evaluate(&table, name),
        table,
        name: name.into(),
        linkerd: linkerd.into(),
        remark: remark.into(),
        shown: Some(shown.into()),
    };
    vec![
        case(
            doubling.join(";"),
            "/a0",
            "`/a0=>/a1 & /a1; …; /a13=>/a14 & /a14`",
            "~",
            "differs: Linkerd 1 does all 32,767 lookups; each further entry doubles them",
        ),
        case(
            long,
            "/s",
            "a path of 70,000 bytes",
            "/#/a+/y…",
            "differs: Linkerd 1 does not bound the length of a path",
        ),
        case(
            nested.join(";"),
            "/l0",
            "eight lookups with 64 nested parentheses each",
            "/#/a",
            "differs: Linkerd 1 does not bound how deep trees nest",
        ),
    ]
}

fn sections() -> Vec<(&'static str, Vec<Row>)> {
    vec![
        ("Alternatives", pairs("|", &ALTERNATIVES)),
        ("Unions", pairs("&", &UNIONS)),
        ("Weights, and unions inside alternatives", WEIGHTS.iter().map(row).collect()),
        ("Several entries, fallback to a prefix, namers", ENTRIES.iter().map(row).collect()),
        ("Limits", limits()),
    ]
}

const INTRODUCTION: &str = "\
# What a name means

Printed by `dtab/tests/semantics.rs`, which checks every row; do not edit by hand.

`~` neg: no such name, go on. `!` fail: no such name, stop. `$` empty: a name without addresses. `/#/pending` a namer that
knows nothing yet. `/#/failed` a namer that failed. `/#/neg` a namer that knows there is no such name. `/#/a`, `/#/b`,
`/#/c` are bound; `/#/a+/x` is bound to `/#/a` with `/x` left over.

The answers of Linkerd 1 are those of its naming rules (naming reference §2 to §5), written down by hand; ours are computed.

What a request gets: *neg*, *fail* and *empty* are 502 \"no hosts\"; *pending* waits for at most `bindingTimeoutMs`; *failed* is
502 with the text. An empty branch of a union keeps its share, and that share is 502. A bound name without addresses is
still bound: it never causes a fallback.
";

fn code(text: &str) -> String {
    format!("`{}`", text.replace('|', "\\|"))
}

fn document() -> String {
    let mut out = INTRODUCTION.to_owned();
    for (title, rows) in sections() {
        let _ = write!(out, "\n## {title}\n\n| table | name | Switchyard | Linkerd 1 | |\n|---|---|---|---|---|\n");
        for row in rows {
            let table = row.shown.unwrap_or_else(|| code(&row.table));
            let (ours, linkerd) = (code(&row.ours), code(&row.linkerd));
            let line = format!("| {table} | {} | {ours} | {linkerd} | {} |", code(&row.name), row.remark);
            let _ = writeln!(out, "{}", line.replace("|  |", "| |"));
        }
    }
    out
}

#[test]
fn we_answer_as_linkerd_1_does_unless_the_row_says_why_not() {
    for (title, rows) in sections() {
        for row in rows {
            let table = row.shown.unwrap_or(row.table);
            let differs = row.remark.starts_with("differs: ");
            assert_eq!(row.ours != row.linkerd, differs, "{title}: {table}: {} and {}", row.ours, row.linkerd);
        }
    }
}

/// Neg, fail and empty mean the same in the answer of a namer as written in the table.
#[test]
fn constants_of_namers_are_constants() {
    let by_namer = |text: &str| text.replace('~', "/#/neg").replace('!', "/#/fail").replace('$', "/#/empty");
    for first in OPERANDS {
        for second in OPERANDS {
            for operator in ["|", "&"] {
                let table = format!("/s=>{first} {operator} {second}");
                assert_eq!(evaluate(&by_namer(&table), "/s"), evaluate(&table, "/s"), "{table}");
            }
        }
    }
}

#[test]
fn the_document_is_current() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/naming-semantics.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(&file, &document).expect("the document can be written");
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == document, "{} is old: run this test with UPDATE_DOCS=1", file.display());
}
