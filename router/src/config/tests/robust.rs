//! Hostile and damaged texts: `load` ends soon and never panics.

use super::*;
use std::time::Instant;

const SAMPLE: &str = r"
admin: {port: 9990, security: {pathWhitelist: ['/a.*']}}
usage: &u {orgId: 'x', enabled: no}
telemetry:
- kind: io.l5d.prometheus
namers:
- {kind: io.l5d.fs, rootDir: .}
- {kind: io.l5d.rewrite, prefix: /h, pattern: '/{a}', name: '/b/{a}'}
routers:
- protocol: http
  dtab: |
    /svc => /#/io.l5d.fs | /$/inet/127.1/80;
  identifier: [{kind: io.l5d.path, segments: 2}]
  client:
    kind: io.l5d.static
    configs:
    - prefix: '/#/{x}'
      failureAccrual: {kind: io.l5d.successRate, successRate: 0.9, requests: 20, backoff: {kind: constant, ms: 5}}
  servers:
  - port: 4_140
";

/// A small generator of the same numbers on every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn five_thousand_damaged_files_end_without_a_panic() {
    good(SAMPLE);
    let mut numbers = Numbers(0x5eed_cafe);
    let pieces = [
        "&a ", "*a", "*u", "<<: ", "- ", "{", "}", "[", "]", "!t ", "!!int ", "? ", ": ", "|\n", "\u{e9}", "\t", "'",
        "\"", "%", "---\n", "~", "\u{2028}",
    ];
    for _ in 0..5000 {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for _ in 0..=numbers.below(6) {
            let at = numbers.below(bytes.len());
            match numbers.below(4) {
                0 => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
                1 => drop(bytes.drain(at..(at + numbers.below(9)).min(bytes.len()))),
                2 => drop(bytes.splice(at..at, pieces[numbers.below(pieces.len())].bytes())),
                _ => {
                    let copy = bytes[at..(at + numbers.below(40)).min(bytes.len())].to_vec();
                    drop(bytes.splice(at..at, copy));
                }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        match load("f", &text) {
            Ok(config) => assert!(!config.routers.is_empty()),
            Err(problems) => {
                assert!(!problems.list.is_empty());
                assert!(problems.list.iter().all(|p| p.line >= 1 && p.column >= 1), "{problems}\n{text}");
                assert!(
                    problems.list.iter().all(|p| p.line as usize <= text.lines().count() + 2),
                    "{problems}\n{text}"
                );
            }
        }
    }
}

#[test]
fn hostile_texts_end_soon() {
    let bomb: String =
        (1..40).map(|i| format!("a{i}: &a{i} [{0}, {0}, {0}, {0}]\n", format_args!("*a{}", i - 1))).collect();
    let key = format!("? {}\n: 1\n", "k".repeat(300));
    for (text, part) in [
        (format!("a0: &a0 [x]\n{bomb}"), "repetition limit exceeded"),
        ("a: &a [*a]\n".to_owned(), "nested deeper than 64 levels"),
        ("[".repeat(1 << 20), "nested deeper than 64 levels"),
        ("{a: ".repeat(1 << 20), "nested deeper than 64 levels"),
        ("- ".repeat(1 << 20), "nested deeper than 64 levels"),
        ("%TAG !a! b\n".repeat(1 << 18), "YAML directives"),
        (format!("routers: [{}]", "a,".repeat(150_000)), "f:1:11: routers[0]: a single value where a map belongs"),
        (format!("routers: [{}]", "5,".repeat(1_200_000)), "values in one file"),
        ("x: 1\n".repeat(30_000), "already there in line 1"),
        ((0..50_000).map(|i| format!("unknown-key-number-{i}: 1\n")).collect(), "unknown key `unknown-key-number-0`"),
        (format!("namers: [{}]", "{kind: io.l5d.unknown.kind},".repeat(20_000)), "unknown kind `io.l5d.unknown.kind`"),
        (
            format!("routers: [{}]", "{protocol: http, servers: [{port: 0}], dtab: '^'},".repeat(20_000)),
            "f:1:57: routers[0].dtab",
        ),
        (
            format!("routers: [{}]", "{protocol: http, servers: [{port: 0}], dtab: \"\\x5e\"},".repeat(20_000)),
            "routers[0].dtab",
        ),
        (key, "f:1:3: a key is longer than 256 bytes"),
        ("# ".repeat(MAX_TEXT_BYTES / 2 + 1), "more than 8388608"),
        (format!("routers: '{}'", "é".repeat(2_000_000)), "routers: a single value where a list belongs"),
    ] {
        let start = Instant::now();
        let found = bad(&text);
        let shown: Vec<_> = found.iter().take(3).collect();
        assert!(found.iter().any(|line| line.contains(part)), "wanted {part}, found {shown:?}");
        // Seconds when it is linear, hours when it is not: also on a busy machine.
        assert!(start.elapsed() < Duration::from_secs(900), "{part} took {:?}", start.elapsed());
    }
}

#[test]
fn many_problems_are_counted_but_not_all_shown() {
    let text = format!("routers: [{}]", "a,".repeat(3000));
    let problems = load("f", &text).unwrap_err();
    assert_eq!((problems.list.len(), problems.more, problems.count()), (MAX_PROBLEMS, 2000, 3000));
    assert!(problems.to_string().ends_with("3000 problems in f, 2000 of them not shown"));
}

#[test]
fn long_lines_and_control_characters_are_shown_short() {
    let text = router(&format!("label: [{}]", "word, ".repeat(1000)));
    let problems = load("f", &text).unwrap_err();
    assert!(problems.list[0].to_string().lines().all(|line| line.chars().count() < 200));
    let text = router("\"a\\e[31mb\": 1");
    assert!(!load("f", &text).unwrap_err().to_string().contains('\u{1b}'));
}
