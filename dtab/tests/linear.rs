//! Large inputs: parsing and printing take time in proportion to the text, and neither they nor dropping the result
//! need a deep stack (attack D5).
//!
//! What can be counted is counted: entries, labels, leaves, where an error is. The clock is only asked whether eight
//! times the text takes less than thirty times as long, so that a quadratic step (64 times as long) is found.

use dtab::{Dtab, MAX_NESTING, NameTree, Path, parse_dtab, parse_path, parse_prefix, parse_tree};
use std::time::{Duration, Instant};

/// The smallest text; the largest is eight times as long.
const SMALLEST: usize = 100_000;
const NAME: &str = "/service-with-a-name";

/// Runs on a stack that holds no recursion over the input.
fn on_a_small_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(1 << 20);
        thread.spawn_scoped(scope, run).expect("a thread").join().expect("no panic")
    })
}

/// Runs `check` on `text(size)` for four sizes, each twice the one before. `check` is given the text and the number of units it is made of.
fn grows_linearly(unit: &str, text: impl Fn(usize) -> String, check: impl Fn(&str, usize) + Sync) {
    let mut times = Vec::new();
    for size in [1, 2, 4, 8].map(|times| times * SMALLEST) {
        let count = size / unit.len();
        let text = text(count);
        assert!(text.len() >= size - unit.len(), "the text is as long as it should be");
        // The best of three: others run on the same cores.
        let run = |_| {
            let start = Instant::now();
            on_a_small_stack(|| check(&text, count));
            start.elapsed()
        };
        times.push((0..3).map(run).min().unwrap_or_default());
    }
    let floor = Duration::from_millis(50);
    assert!(times[3] < times[0].max(floor) * 30, "{unit}: {times:?}");
}

#[test]
fn a_long_label() {
    grows_linearly(
        "a",
        |n| format!("/{}", "a".repeat(n)),
        |text, n| {
            let path = parse_path(text).expect("legal");
            assert_eq!((path.len(), path.byte_len()), (1, n));
            assert_eq!(path.to_string(), text);
        },
    );
}

#[test]
fn a_long_escaped_label() {
    grows_linearly(
        r"\x00",
        |n| format!("/{}", r"\x00".repeat(n)),
        |text, n| {
            let path = parse_path(text).expect("legal");
            assert_eq!((path.len(), path.byte_len()), (1, n));
            assert_eq!(path.to_string(), text);
        },
    );
}

#[test]
fn many_labels() {
    grows_linearly(
        "/label",
        |n| "/label".repeat(n),
        |text, n| {
            let path = parse_path(text).expect("legal");
            assert_eq!((path.len(), path.byte_len()), (n, 5 * n));
            assert_eq!(path.to_string(), text);
        },
    );
}

#[test]
fn a_long_prefix() {
    grows_linearly(
        "/*/label",
        |n| "/*/label".repeat(n),
        |text, n| {
            let prefix = parse_prefix(text).expect("legal");
            assert_eq!(prefix.len(), 2 * n);
            assert_eq!(prefix.to_string(), text);
            let table = parse_dtab(&format!("{text}=>/x")).expect("legal");
            assert_eq!(table.matches(&Path::parse("/a/ab/a").expect("legal")).len(), 0);
        },
    );
}

#[test]
fn many_dentries() {
    let line = |i: usize| format!("/svc/web-{i:07}=>9.00*/#/fs/{i:07} & /#/fs/c{i:07};\n");
    let unit = line(0);
    grows_linearly(
        &unit,
        |n| (0..n).map(line).collect(),
        |text, n| {
            let table = parse_dtab(text).expect("legal");
            assert_eq!(table.dentries().len(), n);
            assert_eq!(table.to_string().len(), text.len() - 2 * n + n - 1, "without line ends and the last semicolon");
            let name = Path::parse(&format!("/svc/web-{:07}/x", n - 1)).expect("legal");
            assert_eq!(table.matches(&name).len(), 1);
        },
    );
}

#[test]
fn many_dentries_with_one_prefix() {
    grows_linearly(
        "/=>/service-with-a-name;",
        |n| "/=>/service-with-a-name;".repeat(n),
        |text, n| {
            let table = parse_dtab(text).expect("legal");
            assert_eq!(table.matches(&Path::empty()).len(), n);
            assert_eq!(table.to_string().len(), text.len() - 1);
        },
    );
}

#[test]
fn many_alternatives_and_branches() {
    for (op, printed) in [("|", " | "), ("&", " & ")] {
        grows_linearly(
            &format!("{NAME}|"),
            |n| format!("{}{NAME}", format!("{NAME}{op}").repeat(n)),
            |text, n| {
                let tree = parse_tree(text).expect("legal");
                let (mut leaves, shown) = (0, tree.to_string());
                tree.for_each(&mut |_| leaves += 1);
                assert_eq!(leaves, n + 1);
                assert_eq!(shown.len(), (n + 1) * NAME.len() + n * printed.len());
                assert_eq!(tree.simplify(), tree);
            },
        );
    }
}

#[test]
fn shallow_parentheses() {
    let unit = format!("(({NAME}))|");
    grows_linearly(
        &unit,
        |n| format!("{}~", unit.repeat(n)),
        |text, n| {
            let NameTree::Alt(trees) = parse_tree(text).expect("legal") else { panic!("alternatives") };
            assert_eq!(trees.len(), n + 1);
        },
    );
}

#[test]
fn deep_parentheses_are_refused_where_they_get_too_deep() {
    for (unit, width) in [("(", 1), ("(~|", 3), ("(2*", 3), ("( #\n", 4)] {
        grows_linearly(
            unit,
            |n| unit.repeat(n),
            |text, _| {
                let error = parse_tree(text).expect_err("too deep");
                assert_eq!(error.offset(), MAX_NESTING * width, "nothing is read beyond the limit");
                let shown = error.to_string();
                assert!(shown.starts_with("at most 64 nested parentheses expected but '(' found at '"), "{shown}");
                assert!(shown.len() < 16_384);
                assert_eq!(parse_dtab(&format!("/a=>{text}")).expect_err("too deep").offset(), MAX_NESTING * width + 4);
            },
        );
    }
}

#[test]
fn the_deepest_legal_value_is_parsed_printed_compared_and_dropped() {
    on_a_small_stack(|| {
        let text = format!("{}/a{}", "(~ | ~ & ".repeat(MAX_NESTING), ")".repeat(MAX_NESTING));
        let tree = parse_tree(&text).expect("legal");
        assert_eq!(tree.to_string(), text[1..text.len() - 1], "the outermost parentheses are not needed");
        assert_eq!(tree.clone(), tree);
        assert_eq!(tree.simplify(), parse_tree("/a").expect("legal"));
        let deeper = parse_tree(&format!("{}({})", "(~ | ~ & ".repeat(MAX_NESTING - 1), "(/a)")).expect_err("too deep");
        assert_eq!(deeper.offset(), "(~ | ~ & ".len() * (MAX_NESTING - 1) + 1);
    });
}

#[test]
fn long_comments_and_blanks() {
    grows_linearly(
        "x",
        |n| format!("#{}\n/a", "x".repeat(n)),
        |text, _| {
            assert_eq!(parse_path(text).expect("legal").len(), 1);
            assert_eq!(parse_dtab(&format!("{text}=>/b;{text}=>/c")).expect("legal").dentries().len(), 2);
        },
    );
    grows_linearly(
        "#;\n",
        |n| "#;\n".repeat(n),
        |text, _| {
            assert!(parse_dtab(text).expect("legal").is_empty());
        },
    );
    grows_linearly(
        " ",
        |n| format!("/a{}=>{}/b", " ".repeat(n / 2), "\t".repeat(n - n / 2)),
        |text, _| {
            assert_eq!(parse_dtab(text).expect("legal").to_string(), "/a=>/b");
        },
    );
}

#[test]
fn long_weights() {
    grows_linearly(
        "1",
        |n| format!("{}*/a", "1".repeat(n)),
        |text, n| {
            let error = parse_tree(text).expect_err("not finite");
            assert_eq!(error.offset(), n);
            let shown = error.to_string();
            assert!(shown.starts_with("weight expected but '111") && shown.len() < 16_384, "{}", shown.len());
        },
    );
    grows_linearly(
        "0",
        |n| format!("0.{}1*/a & /b", "0".repeat(n)),
        |text, _| {
            assert_eq!(parse_tree(text).expect("legal").to_string(), "0.00*/a & /b");
        },
    );
    grows_linearly(
        ".",
        |n| ".".repeat(n),
        |text, _| {
            assert_eq!(parse_tree(text).expect_err("one dot").offset(), 1);
        },
    );
}

#[test]
fn errors_at_the_end_of_a_long_text() {
    let unit = format!("/a=>{NAME};");
    grows_linearly(
        &unit,
        |n| format!("{};", unit.repeat(n)),
        |text, n| {
            let error = parse_dtab(text).expect_err("two semicolons");
            assert_eq!(error.offset(), n * unit.len());
            assert!(error.to_string().len() < 16_384);
        },
    );
    grows_linearly(
        "/é",
        |n| format!("/a {}", "/é".repeat(n)),
        |text, _| {
            assert_eq!(parse_path(text).expect_err("two paths").offset(), 3);
        },
    );
}

#[test]
fn concatenation_and_simplification() {
    let unit = format!("/a=>~|{NAME};");
    grows_linearly(
        &unit,
        |n| unit.repeat(n),
        |text, n| {
            let table = parse_dtab(text).expect("legal");
            assert_eq!(table.concat(&Dtab::parse("/c=>/d").expect("legal")).dentries().len(), n + 1);
            assert_eq!(table.simplify().dentries().len(), n);
        },
    );
}
