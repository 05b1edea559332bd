//! The evaluator over a fake namer that writes down what it is asked: order and laziness of lookups, states, the depth
//! rule, and the attacks D1 to D4. What every combination of states gives is in `semantics.rs`.

use dtab::{
    BoundName, DelegateTree, Delegation, Dtab, DtabStack, Lookups, MAX_STEPS, Name, NameTree, Path, State, bind,
    explain,
};
use std::time::Instant;

const LOOP: &str = "Max recursion level: 100 reached in Namer lookup";
const LOOP_EXPLAINED: &str = "Max recursion level reached.";
const TOO_MANY_STEPS: &str = "Name too complex: more than 10000 steps in Namer lookup";
const TOO_NESTED: &str = "Name too complex: more than 400 nested trees in Namer lookup";
const TOO_LARGE: &str = "Explanation too large: more than 16777216 bytes";
const TOO_LONG: &str = "Name too long: rewriting made a path of more than 65536 bytes";

/// A namer that answers by the label after `/#`, and counts.
#[derive(Default)]
struct Fake {
    asked: Vec<String>,
}

impl Lookups for Fake {
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        self.asked.push(path.to_string());
        if path.get(0) != Some(b"#") {
            return State::Ok(NameTree::Neg);
        }
        match path.text(1) {
            Some("pending") => State::Pending,
            Some("failed") => State::Failed("the namer is ill".into()),
            Some("neg") => State::Ok(NameTree::Neg),
            Some("fail") => State::Ok(NameTree::Fail),
            Some("empty") => State::Ok(NameTree::Empty),
            // As the rewrite namer: goes on with what follows.
            Some("to") => State::Ok(NameTree::Leaf(Name::Path(path.skip(2)))),
            Some("deep") => State::Ok(deep_answer(path.text(2).and_then(|n| n.parse().ok()).unwrap_or_default())),
            _ => State::Ok(bound(path)),
        }
    }
}

fn bound(path: &Path) -> NameTree<Name> {
    NameTree::Leaf(Name::Bound(BoundName { id: path.take(2), residual: path.skip(2) }))
}

fn deep_answer(depth: usize) -> NameTree<Name> {
    (0..depth).fold(bound(&Path::empty()), |inner, _| NameTree::Alt(vec![inner, NameTree::Neg]))
}

fn path(text: &str) -> Path {
    Path::parse(text).expect("a legal path")
}

fn stack(text: &str) -> DtabStack {
    DtabStack::new([Dtab::parse(text).expect("a legal dtab")])
}

/// The outcome of binding as text, and what the namers were asked.
fn bind_text(dtab: &str, name: &str) -> (String, Vec<String>) {
    let mut fake = Fake::default();
    let text = match bind(&stack(dtab), &path(name), &mut fake) {
        State::Pending => "pending".to_owned(),
        State::Failed(reason) => format!("failed: {reason}"),
        State::Ok(tree) => tree.map(&mut |leaf| with_residual(leaf)).to_string(),
    };
    (text, fake.asked)
}

fn with_residual(leaf: &BoundName) -> String {
    if leaf.residual.is_empty() { leaf.id.to_string() } else { format!("{}+{}", leaf.id, leaf.residual) }
}

fn explain_failure(dtab: &str, name: &str) -> Option<String> {
    match explain(&stack(dtab), &path(name), &mut Fake::default()) {
        State::Failed(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// Runs on a stack as small as that of a worker thread.
fn on_a_small_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    on_a_stack_of(2 << 20, run)
}

fn on_a_stack_of<T: Send>(bytes: usize, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(bytes);
        thread.spawn_scoped(scope, run).expect("a thread").join().expect("no panic")
    })
}

#[test]
fn binds_and_asks_only_what_it_must() {
    // Table, name, result, what the namers were asked.
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("", "/#/a", "/#/a", &["/#/a"]),
        ("", "/#/a/b/c", "/#/a+/b/c", &["/#/a/b/c"]),
        ("", "/svc/a", "~", &["/svc/a"]),
        ("/svc=>/#", "/svc/a/b", "/#/a+/b", &["/#/a/b"]),
        // Alternatives are lazy.
        ("/s=>/#/a|/#/b", "/s", "/#/a", &["/#/a"]),
        ("/s=>/#/neg|/#/b|/#/c", "/s", "/#/b", &["/#/neg", "/#/b"]),
        ("/s=>/#/empty|/#/b", "/s", "$", &["/#/empty"]),
        ("/s=>/#/fail|/#/b", "/s", "!", &["/#/fail"]),
        ("/s=>/#/pending|/#/b", "/s", "pending", &["/#/pending"]),
        ("/s=>/#/failed|/#/b", "/s", "failed: the namer is ill", &["/#/failed"]),
        ("/s=>/#/b;/s=>/#/a", "/s", "/#/a", &["/#/a"]),
        ("/s=>/#/b;/s=>/#/neg", "/s", "/#/b", &["/#/neg", "/#/b"]),
        ("/s=>/#/b;/s/x=>/#/c;/s=>/#/neg", "/s/x", "/#/c", &["/#/neg/x", "/#/c"]),
        // Unions ask every branch.
        ("/s=>/#/a&/#/b", "/s", "/#/a & /#/b", &["/#/a", "/#/b"]),
        ("/s=>3*/#/a&/#/neg&2*/#/b", "/s", "3.00*/#/a & 2.00*/#/b", &["/#/a", "/#/neg", "/#/b"]),
        ("/s=>/#/failed&/#/b", "/s", "/#/b", &["/#/failed", "/#/b"]),
        ("/s=>/#/pending&/#/b", "/s", "/#/b", &["/#/pending", "/#/b"]),
        ("/s=>/#/pending&/#/failed", "/s", "failed: the namer is ill", &["/#/pending", "/#/failed"]),
        ("/s=>/#/pending&/#/pending", "/s", "pending", &["/#/pending", "/#/pending"]),
        ("/s=>/#/pending&/#/neg", "/s", "pending", &["/#/pending", "/#/neg"]),
        ("/s=>(/#/neg&/#/fail)|/#/b", "/s", "/#/b", &["/#/neg", "/#/fail", "/#/b"]),
        // A union of one: its weight is gone.
        ("/s=>5*/#/a&~", "/s", "/#/a", &["/#/a"]),
        ("/s=>1*/#/a&3*(2*/#/b&5*/#/c)", "/s", "/#/a & 3.00*(2.00*/#/b & 5.00*/#/c)", &["/#/a", "/#/b", "/#/c"]),
        // Constants written in the table.
        ("/s=>~", "/s", "~", &["/s"]),
        ("/#/a=>~", "/#/a", "/#/a", &["/#/a"]),
        ("/#/a=>~;/#/a=>~", "/#/a", "~", &[]),
        ("/#/a=>~|~", "/#/a", "~", &[]),
        ("/#/a=>!", "/#/a", "!", &[]),
        ("/=>!", "/#/a", "!", &[]),
        ("/=>$", "/#/a", "$", &[]),
        ("/#=>/#/neg", "/#/a", "failed: Max recursion level: 100 reached in Namer lookup", &[]),
        // Wildcards take a label away.
        ("/*/x=>/#/a", "/s/x/y", "/#/a+/y", &["/#/a/y"]),
        // A namer's path goes through the table again.
        ("/b=>/#/c", "/#/to/b/d", "/#/c+/d", &["/#/to/b/d", "/#/c/d"]),
    ];
    for (dtab, name, result, asked) in cases {
        let (got, calls) = bind_text(dtab, name);
        assert_eq!(got, *result, "{dtab} {name}");
        assert_eq!(calls, *asked, "{dtab} {name}");
    }
}

#[test]
fn layers_of_tables_bind_as_one_table() {
    let layers = ["/s=>/#/low;/t=>/#/t", "", "/s=>/#/neg", "/s=>/#/high"].map(|text| Dtab::parse(text).expect("legal"));
    let mut fake = Fake::default();
    let bound = bind(&DtabStack::new(layers), &path("/s"), &mut fake);
    assert_eq!(bound.ok().map(|tree| tree.map(&mut with_residual).to_string()).as_deref(), Some("/#/high"));
    assert_eq!(fake.asked, ["/#/high"]);
}

#[test]
fn the_system_namer_is_a_closed_list() {
    let unknown = |name: &str, path: &str| format!("failed: Unknown namer: {name} for path: {path}");
    let cases = [
        ("/$/inet/host/80/rest", "/$/inet/host/80+/rest".to_owned()),
        ("/$/inet/80", "/$/inet/80".to_owned()),
        ("/$/fixedinet/host/80", "/$/fixedinet/host/80".to_owned()),
        ("/$/inet/host/http", unknown("inet", "/$/inet/host/http")),
        ("/$/inet", unknown("inet", "/$/inet")),
        ("/$/nil/x", "$".to_owned()),
        ("/$/fail/x", "!".to_owned()),
        ("/$", "~".to_owned()),
        ("/$/io.buoyant.rinet/80/host/rest", "/$/io.buoyant.rinet/80/host+/rest".to_owned()),
        ("/$/java.lang.Runtime", unknown("java.lang.Runtime", "/$/java.lang.Runtime")),
        ("/$/java.lang.Runtime/exec/id", unknown("java.lang.Runtime", "/$/java.lang.Runtime/exec/id")),
        ("/$/neg", unknown("neg", "/$/neg")),
        ("/$/INET/host/80", unknown("INET", "/$/INET/host/80")),
        (r"/$/\xff/x", unknown(r"\xff", r"/$/\xff/x")),
        ("/$/com.twitter.finagle.namer.global/$/nil", "$".to_owned()),
        ("/$/com.twitter.finagle.namer.global/x", "~".to_owned()),
        ("/$/com.twitter.serverset/zk/x", unknown("com.twitter.serverset", "/$/com.twitter.serverset/zk/x")),
        ("/$/io.buoyant.hostportPfx/p/:80", "failed: requirement failed".to_owned()),
        ("/$/io.buoyant.http.domainToPath/a..b", "failed: requirement failed".to_owned()),
    ];
    for (name, result) in cases {
        assert_eq!(bind_text("", name).0, result, "{name}");
    }
    // Shadowed by the table like any other name, and no fallback from an unknown one.
    assert_eq!(bind_text("/$/java.lang.Runtime=>/#/a", "/$/java.lang.Runtime").0, "/#/a");
    assert_eq!(bind_text("/s=>/$/nope|/#/a", "/s").0, "failed: Unknown namer: nope for path: /$/nope");
    assert_eq!(bind_text("/s=>/$/nope&/#/a", "/s").0, "/#/a");
}

#[test]
fn the_system_namer_does_not_recurse_on_the_stack() {
    let nested = "/$/com.twitter.finagle.namer.global".repeat(1_700);
    let (got, _) = on_a_stack_of(256 << 10, || bind_text("", &format!("{nested}/$/nil")));
    assert_eq!(got, "$");
}

/// Weights are finite and not negative, whatever the text (attack D5).
#[test]
fn weights_are_plain_decimal_numbers() {
    let digits = "9".repeat(400);
    let texts = [
        ("1e999*/a", "'*' expected but 'e' found at '1[e]999*/a & /b'"),
        ("1e3*/a", "'*' expected but 'e' found at '1[e]3*/a & /b'"),
        ("-1*/a", "simple expected but '-' found at '[-]1*/a & /b'"),
        ("+1*/a", "simple expected but '+' found at '[+]1*/a & /b'"),
        ("NaN*/a", "simple expected but 'N' found at '[N]aN*/a & /b'"),
        ("inf*/a", "simple expected but 'i' found at '[i]nf*/a & /b'"),
        ("1.2.3*/a", "number char expected but '.' found at '1.2[.]3*/a & /b'"),
        (".*/a", "weight expected but '.' found at '.[*]/a & /b'"),
        ("1_000*/a", "'*' expected but '_' found at '1[_]000*/a & /b'"),
        ("0x1*/a", "'*' expected but 'x' found at '0[x]1*/a & /b'"),
        ("1*2*/a", "simple expected but '2' found at '1*[2]*/a & /b'"),
    ];
    for (text, error) in texts {
        let got = Dtab::parse(&format!("/s=>{text} & /b")).expect_err(text).to_string();
        assert_eq!(got, error.replace("at '", "at '/s=>"), "{text}");
    }
    let error = Dtab::parse(&format!("/s=>{digits}*/a & /b")).expect_err("infinite").to_string();
    assert!(error.starts_with(&format!("weight expected but '{digits}' found at '/s=>{digits}[*]")), "{error}");
    for (text, weight) in
        [("0", 0.0), ("007", 7.0), (".5", 0.5), ("5.", 5.0), (&digits[..308], 9.999_999_999_999_999e307)]
    {
        let table = Dtab::parse(&format!("/s=>{text}*/a & /b")).expect("legal");
        let NameTree::Union(branches) = &table.dentries()[0].dst else { panic!("a union") };
        assert!((branches[0].weight - weight).abs() <= weight * 1e-15, "{text}: {}", branches[0].weight);
    }
}

/// `/a0=>/a1; ... ;/a<rewrites - 1>=>/#/end`.
fn chain(rewrites: usize, last: &str) -> String {
    let steps = (0..rewrites).map(|i| {
        let next = if i + 1 == rewrites { last.to_owned() } else { format!("/a{}", i + 1) };
        format!("/a{i}=>{next}")
    });
    steps.collect::<Vec<_>>().join(";")
}

#[test]
fn depth_is_a_hundred_lookups() {
    assert_eq!(bind_text(&chain(99, "/#/end"), "/a0").0, "/#/end");
    assert_eq!(bind_text(&chain(100, "/#/end"), "/a0").0, format!("failed: {LOOP}"));
    assert_eq!(bind_text(&chain(100, "!"), "/a0").0, "!", "no lookup is needed for a constant");
    assert_eq!(bind_text(&chain(101, "!"), "/a0").0, format!("failed: {LOOP}"));
    assert_eq!(explain_failure(&chain(99, "/#/end"), "/a0"), None);
    assert_eq!(explain_failure(&chain(100, "/#/end"), "/a0").as_deref(), Some(LOOP_EXPLAINED));
}

#[test]
fn loops_end_with_a_named_error() {
    let failed = format!("failed: {LOOP}");
    for (dtab, name) in [
        ("/a=>/a", "/a"),
        ("/a=>/b;/b=>/a", "/a"),
        ("/=>/", "/x"),
        ("/a=>/#/to/a", "/a"),
        ("/a=>/$/io.buoyant.http.anyHost/x/a", "/a"),
        ("/a=>/a|/#/b", "/a"),
        ("/a=>/#/b;/a=>/a", "/a"),
    ] {
        let start = Instant::now();
        assert_eq!(bind_text(dtab, name).0, failed, "{dtab}");
        assert!(start.elapsed().as_secs() < 20, "{dtab}: a loop is cheap to find");
    }
    // A loop in a union only loses its branch.
    assert_eq!(bind_text("/a=>/a&/#/b", "/a").0.matches("/#/b").count(), 99, "every time round adds its branch");
    assert_eq!(bind_text("/s=>/a&/#/b;/a=>/a", "/s").0, "/#/b");
}

#[test]
fn explain_shows_loops_where_they_are() {
    let tree = explain(&stack("/s=>/#/b;/s=>/a;/a=>/a"), &path("/s"), &mut Fake::default()).ok();
    let Some(DelegateTree { node: Delegation::Alt(children), .. }) = tree else { panic!("{tree:?}") };
    assert_eq!(children.len(), 2);
    assert_eq!(children[0].node, Delegation::Exception(LOOP_EXPLAINED.to_owned()));
    assert!(matches!(&children[1].node, Delegation::Leaf(name, _) if name.id == path("/#/b")), "{children:?}");
    assert_eq!(explain_failure("/a=>/a", "/a").as_deref(), Some(LOOP_EXPLAINED));
}

#[test]
fn explain_asks_everything() {
    let mut fake = Fake::default();
    let dtab = stack("/s=>/#/a|/#/b;/s=>/#/neg&!&/#/c");
    assert!(matches!(explain(&dtab, &path("/s"), &mut fake), State::Ok(_)));
    assert_eq!(fake.asked, ["/#/neg", "/#/c", "/#/a", "/#/b"]);
    // Pending anywhere: the whole is not known; failed anywhere: shown in its place.
    assert_eq!(explain(&stack("/s=>/#/a|/#/pending"), &path("/s"), &mut fake), State::Pending);
    assert!(matches!(explain(&stack("/s=>/#/a|/#/failed"), &path("/s"), &mut fake), State::Ok(_)));
    // A lone `~` is shown and the namer is not asked, unlike when binding.
    fake.asked.clear();
    assert!(matches!(explain(&stack("/#/a=>~"), &path("/#/a"), &mut fake), State::Ok(_)));
    assert_eq!(fake.asked, [""; 0]);
}

/// Binds and explains on a small stack; both must fail with `text` within the budget of steps.
fn attack(dtab: &str, name: &str, bound: &str, explained: Option<&str>) {
    let (got, asked) = on_a_small_stack(|| bind_text(dtab, name));
    assert_eq!(got, bound);
    assert!(asked.len() <= MAX_STEPS, "{} lookups", asked.len());
    let failure = on_a_small_stack(|| explain_failure(dtab, name));
    assert_eq!(failure.as_deref(), explained);
}

/// `/a0=>/a1<op>/a1; ... ;/a<levels>=>...`: twice as many names with every level.
fn doubling(levels: usize, op: &str) -> String {
    (0..levels).map(|i| format!("/a{i}=>/a{next}{op}/a{next}", next = i + 1)).collect::<Vec<_>>().join(";")
}

#[test]
fn d1_doubling_unions_end_in_the_budget() {
    let failed = format!("failed: {TOO_MANY_STEPS}");
    attack(&doubling(40, "&"), "/a0", &failed, Some(TOO_MANY_STEPS));
    attack(&doubling(40, "|"), "/a0", &failed, Some(TOO_MANY_STEPS));
    attack(&format!("{};/a40=>/#/x", doubling(40, "&")), "/a0", &failed, Some(TOO_MANY_STEPS));
    // Deep enough to meet the depth limit first: each branch is lost, until the budget ends the whole.
    attack(&doubling(200, "&"), "/a0", &failed, Some(TOO_MANY_STEPS));
    // Within the budget it is legal.
    assert_eq!(bind_text(&doubling(8, "&"), "/a0").0, "~");
}

/// Steps that take longer count more: what a budget of steps costs does not depend on the name or the table.
#[test]
fn d1_long_names_and_many_entries_end_in_the_budget_sooner() {
    let failed = format!("failed: {TOO_MANY_STEPS}");
    let bound = format!("{};/a40=>/#/x", doubling(40, "&"));
    let asked = |table: &str, name: &str| {
        let (got, asked) = bind_text(table, name);
        assert_eq!(got, failed);
        asked.len()
    };
    assert!(asked(&bound, "/a0") > 1_000);
    assert!(asked(&bound, &format!("/a0/{}", "y".repeat(60_000))) < 10_000 / 58);
    assert!(asked(&format!("{}{bound}", "/=>/#/x;".repeat(6_400)), "/a0") < 10_000 / 100);
}

#[test]
fn d2_growth_ends_in_a_limit() {
    attack("/x=>/x/x/x", "/x", &format!("failed: {LOOP}"), Some(LOOP_EXPLAINED));
    let long = "y".repeat(1_000);
    attack(&format!("/x=>/x/{long}"), "/x", &format!("failed: {TOO_LONG}"), Some(TOO_LONG));
    let huge = format!("/{}", "z".repeat(70_000));
    attack("", &huge, &format!("failed: {TOO_LONG}"), Some(TOO_LONG));
    // Doubling by a namer that repeats its rest would end the same way; in a union it ends the whole, too.
    attack(&format!("/s=>/x&/#/a;/x=>/x/{long}"), "/s", &format!("failed: {TOO_LONG}"), Some(TOO_LONG));
}

#[test]
fn d3_cycles_through_namers_end_with_the_depth_limit() {
    attack("/a=>/#/to/b;/b=>/#/to/a", "/a", &format!("failed: {LOOP}"), Some(LOOP_EXPLAINED));
    attack("/*=>/b;/b=>/c", "/a", &format!("failed: {LOOP}"), Some(TOO_MANY_STEPS));
    let method = "/$/io.buoyant.http.anyMethod/GET";
    attack(&format!("/a=>{method}/a"), "/a", &format!("failed: {LOOP}"), Some(LOOP_EXPLAINED));
}

#[test]
fn d4_alternation_bombs_end_in_the_budget() {
    let failed = format!("failed: {TOO_MANY_STEPS}");
    let bomb = format!("/a=>{}", vec!["/b"; 20_000].join("|"));
    // Every node of the explanation repeats the dentry: its size is bounded before its steps are.
    attack(&bomb, "/a", &failed, Some(TOO_LARGE));
    let many = vec!["/a=>/b"; 20_000].join(";");
    attack(&many, "/a", &failed, Some(TOO_MANY_STEPS));
    let union = format!("/a=>{}", vec!["/#/pending"; 20_000].join("&"));
    assert_eq!(bind_text(&union, "/a").0, failed);
    // Pending does not fall through: the first one decides.
    let pending = format!("/a=>{}", vec!["/#/pending"; 20_000].join("|"));
    assert_eq!(bind_text(&pending, "/a"), ("pending".to_owned(), vec!["/#/pending".to_owned()]));
}

/// Alternatives cost nothing until they are wanted: neither time nor memory for the rewritten paths, which would be
/// 6 GB each time here.
#[test]
fn leaves_are_rewritten_when_they_are_reached() {
    let dtab = stack(&format!("/a=>/#/x|{}", vec!["/b"; 100_000].join("|")));
    let name = path(&format!("/a/{}", "y".repeat(60_000)));
    let start = Instant::now();
    for _ in 0..20 {
        assert!(matches!(bind(&dtab, &name, &mut Fake::default()), State::Ok(NameTree::Leaf(_))));
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

/// `levels` dentries, each with 64 nested parentheses around the next name.
fn nested(levels: usize, open: &str, close: &str) -> String {
    let step = |i: usize| format!("/l{i}=>{}/l{}{}", open.repeat(64), i + 1, close.repeat(64));
    (0..levels).map(step).chain([format!("/l{levels}=>/#/end")]).collect::<Vec<_>>().join(";")
}

#[test]
fn the_deepest_nesting_fits_a_small_stack() {
    let failed = format!("failed: {TOO_NESTED}");
    for (open, close) in [("(", "|~)"), ("(~|", ")")] {
        // One dentry may nest as deep as the grammar lets it, and three in a chain may.
        assert_eq!(on_a_small_stack(|| bind_text(&nested(1, open, close), "/l0").0), "/#/end");
        assert_eq!(on_a_small_stack(|| bind_text(&nested(3, open, close), "/l0").0), "/#/end");
        assert_eq!(on_a_small_stack(|| bind_text(&nested(99, open, close), "/l0").0), failed);
        assert_eq!(on_a_small_stack(|| explain_failure(&nested(99, open, close), "/l0")), None);
    }
    for (open, close) in [("(", "&/#/x)"), ("(/#/x&", ")"), ("(", "&/#/x|~)"), ("(!&", "|~)")] {
        let dtab = nested(99, open, close);
        // In a union the deepest branch is lost; the rest is bound, shown and dropped.
        let (bound, asked) = on_a_small_stack(|| bind_text(&dtab, "/l0"));
        assert!(!bound.starts_with("failed") || bound == failed, "{bound}");
        assert!(asked.len() <= MAX_STEPS);
        assert_eq!(on_a_small_stack(|| explain_failure(&dtab, "/l0")), None, "the failure is shown where it is");
    }
}

#[test]
fn long_chains_with_alternatives_fit_a_small_stack() {
    let step = |i: usize| format!("/l{i}=>!;/l{i}=>~|(/l{next}&5*/#/x);/l{i}=>~", next = i + 1);
    let dtab = (0..98).map(step).chain(["/l98=>/#/end".to_owned()]).collect::<Vec<_>>().join(";");
    let (bound, asked) = on_a_small_stack(|| bind_text(&dtab, "/l0"));
    assert!(bound.contains("/#/end & 5.00*/#/x"), "{bound}");
    assert_eq!(asked.len(), 99, "one for each branch and one for the end");
    assert_eq!(on_a_small_stack(|| explain_failure(&dtab, "/l0")), None);
}

#[test]
fn deep_answers_of_namers_are_bounded() {
    assert_eq!(on_a_small_stack(|| bind_text("", "/#/deep/300").0), "/");
    assert_eq!(on_a_small_stack(|| bind_text("", "/#/deep/2000").0), format!("failed: {TOO_NESTED}"));
    assert_eq!(on_a_small_stack(|| explain_failure("", "/#/deep/2000")), None);
}
