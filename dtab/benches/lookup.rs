//! What it costs to resolve a name, by the size of the table: `cargo bench -p dtab`.
//!
//! One dentry per service with canary weights. Each resolve is a whole `bind`: the dtab lookup of the service, the rewrite
//! of both branches, the dtab lookups of both results (which match nothing) and the answers of a trivial namer.
//! The paths are built in batches just before they are resolved, as in a router, so building them is not counted, while
//! what the table itself occupies is as cold as the walk over it makes it. Results: `bench/lookup/RESULTS.md`.

use dtab::{BoundName, Dtab, DtabStack, Lookups, Name, NameTree, Path, State};
use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Sizes of the tables; 1,811 is the largest table seen in the wild (143 kB).
const SIZES: [usize; 5] = [10, 100, 1_000, 1_811, 10_000];
/// Names resolved between two readings of the clock.
const BATCH: usize = 256;
/// Rounds over all tables; the best round counts, since other load only ever adds time.
const ROUNDS: usize = 7;
/// Time for one table, one kind of names, one round.
const SLICE: Duration = Duration::from_millis(150);

/// Binds the first three labels of every path, as a namer of one-label services does.
struct Trivial;

impl Lookups for Trivial {
    fn lookup(&mut self, path: &Path) -> State<NameTree<Name>> {
        State::Ok(NameTree::Leaf(Name::Bound(BoundName { id: path.take(3), residual: path.skip(3) })))
    }
}

/// Which names are resolved.
#[derive(Clone, Copy)]
enum Names {
    /// Any name of the table, each time another.
    Random,
    /// One name of the table, always.
    Same,
    /// Names that are not in the table.
    Miss,
}

/// A generator of numbers (splitmix64); the seed is fixed, so that runs compare.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

/// One line per service, 79 bytes each: 1,811 of them are the 143 kB of the yardstick.
fn table_text(services: usize) -> String {
    let mut text = String::new();
    for i in 0..services {
        let _ = writeln!(text, "/svc/web-{i:05} => 99 * /#/io.l5d.fs/web-{i:05} & 1 * /#/io.l5d.fs/green-{i:05} ;");
    }
    text
}

fn name(table: usize, names: Names, numbers: &mut Numbers) -> Path {
    let (kind, i) = match names {
        Names::Random => ("web", numbers.below(table)),
        Names::Same => ("web", table / 2),
        Names::Miss => ("db", numbers.below(table)),
    };
    Path::from_labels(["svc", &format!("{kind}-{i:05}")]).unwrap_or_default()
}

/// Nanoseconds per resolve.
fn measure(dtab: &DtabStack, table: usize, names: Names) -> f64 {
    let mut numbers = Numbers(table as u64);
    let mut spent = Duration::ZERO;
    let mut resolved = 0;
    while spent < SLICE {
        let batch: Vec<Path> = (0..BATCH).map(|_| name(table, names, &mut numbers)).collect();
        let start = Instant::now();
        for path in &batch {
            black_box(dtab::bind(dtab, path, &mut Trivial));
        }
        spent += start.elapsed();
        resolved += BATCH;
    }
    spent.as_nanos() as f64 / resolved as f64
}

fn main() {
    let texts: Vec<String> = SIZES.iter().map(|&size| table_text(size)).collect();
    let tables: Vec<(DtabStack, Duration)> = texts
        .iter()
        .map(|text| {
            let start = Instant::now();
            let dtab = Dtab::parse(text).unwrap_or_default();
            let parsed = start.elapsed();
            (DtabStack::new([dtab]), parsed)
        })
        .collect();
    let mut best = [[f64::INFINITY; 3]; SIZES.len()];
    for _ in 0..ROUNDS {
        for (i, row) in best.iter_mut().enumerate() {
            for (cell, names) in row.iter_mut().zip([Names::Random, Names::Same, Names::Miss]) {
                *cell = cell.min(measure(&tables[i].0, SIZES[i], names));
            }
        }
    }
    println!("| entries |   bytes | parse ms | random ns | ratio | same ns | ratio | miss ns | ratio |");
    println!("|--------:|--------:|---------:|----------:|------:|--------:|------:|--------:|------:|");
    for (i, row) in best.iter().enumerate() {
        println!(
            "| {:7} | {:7} | {:8.2} | {:9.0} | {:5.2} | {:7.0} | {:5.2} | {:7.0} | {:5.2} |",
            SIZES[i],
            texts[i].len(),
            tables[i].1.as_secs_f64() * 1e3,
            row[0],
            row[0] / best[0][0],
            row[1],
            row[1] / best[0][1],
            row[2],
            row[2] / best[0][2],
        );
    }
}
