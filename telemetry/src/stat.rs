//! A stat: the distribution of whole numbers, by minute.
//!
//! What it is for: latencies and sizes on the hot path. A value is added with two relaxed `fetch_add`s and two loads;
//! once a minute [`Stat::roll`] takes the buckets away, one swap each, so no sample is ever lost or counted twice.
//! What it is not: a Prometheus histogram; only quantiles of the last completed minute are exported (telemetry
//! reference section 2).
//! Called by: the data path (`add`), `Metrics::snapshot` (`roll`), the exporters (`summary`).
//!
//! Buckets are log-linear: values below 64 exactly, then 32 buckets per power of two. A quantile reads the middle of its
//! bucket, at most 1.6 % off. The 32 buckets of one power of two are allocated when the first value falls there, so a
//! stat that was never used costs about 120 bytes, a typical latency stat 2 to 3 KiB, and the worst one 16 KiB.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

const SUB_BITS: u32 = 5;
const SUB_BUCKETS: usize = 1 << SUB_BITS;
/// One for the values below 32, one for each of the powers 2⁵ … 2⁶³.
const CHUNKS: usize = 1 + (64 - SUB_BITS as usize);

type Chunk = [AtomicU64; SUB_BUCKETS];
type Table = [OnceLock<Box<Chunk>>; CHUNKS];

/// A histogram of `u64` values (unit: whatever its name says, mostly milliseconds).
#[derive(Debug)]
pub struct Stat {
    table: OnceLock<Box<Table>>,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
    past: Mutex<Past>,
}

/// What earlier windows left behind.
#[derive(Debug, Default)]
struct Past {
    last: Option<Summary>,
    count: u64,
    sum: u64,
}

/// The summary of one window: the numbers of telemetry reference section 2, all in the unit of the stat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Number of values; all other fields are 0 when this is 0.
    pub count: u64,
    /// Their exact sum.
    pub sum: u64,
    /// Smallest value.
    pub min: u64,
    /// Largest value.
    pub max: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p9990: u64,
    /// 99.99th percentile.
    pub p9999: u64,
}

impl Default for Stat {
    fn default() -> Self {
        Self::new()
    }
}

impl Stat {
    /// An empty stat that no tree knows. [`crate::Scope::stat`] gives one that is exported.
    pub const fn new() -> Self {
        Self {
            table: OnceLock::new(),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            past: Mutex::new(Past { last: None, count: 0, sum: 0 }),
        }
    }

    /// Adds one value. Never blocks; allocates only when a value falls into a power of two for the first time.
    #[inline]
    pub fn add(&self, v: u64) {
        let (chunk, sub) = place(v);
        let table = self.table.get_or_init(|| Box::new([const { OnceLock::new() }; CHUNKS]));
        let buckets = table[chunk].get_or_init(|| Box::new([const { AtomicU64::new(0) }; SUB_BUCKETS]));
        buckets[sub].fetch_add(1, Relaxed);
        self.sum.fetch_add(v, Relaxed);
        if v < self.min.load(Relaxed) {
            self.min.fetch_min(v, Relaxed);
        }
        if v > self.max.load(Relaxed) {
            self.max.fetch_max(v, Relaxed);
        }
    }

    /// What the exporters show: the last completed window or, before the first one is complete, all values so far.
    pub fn summary(&self) -> Summary {
        let past = self.past.lock();
        match past.last {
            Some(last) => last,
            None => self.summarise(
                &self.buckets(|b| b.load(Relaxed)),
                self.sum.load(Relaxed),
                (self.min.load(Relaxed), self.max.load(Relaxed)),
            ),
        }
    }

    /// Count and sum of every value ever added, whatever the windows did.
    pub fn totals(&self) -> (u64, u64) {
        let past = self.past.lock();
        let now: u64 = self.buckets(|b| b.load(Relaxed)).iter().map(|b| b.count).sum();
        (past.count + now, past.sum.wrapping_add(self.sum.load(Relaxed)))
    }

    /// Ends the current window: its summary becomes what [`Stat::summary`] shows, and the next window starts empty.
    pub(crate) fn roll(&self) {
        let mut past = self.past.lock();
        let buckets = self.buckets(|b| b.swap(0, Relaxed));
        let sum = self.sum.swap(0, Relaxed);
        let extremes = (self.min.swap(u64::MAX, Relaxed), self.max.swap(0, Relaxed));
        let summary = self.summarise(&buckets, sum, extremes);
        past.count += summary.count;
        past.sum = past.sum.wrapping_add(sum);
        past.last = Some(summary);
    }

    /// The non-empty buckets in ascending order; `take` reads, or reads and clears, one of them.
    fn buckets(&self, take: impl Fn(&AtomicU64) -> u64) -> Vec<Bucket> {
        let mut out = Vec::new();
        let Some(table) = self.table.get() else { return out };
        for (chunk, cell) in table.iter().enumerate() {
            let Some(buckets) = cell.get() else { continue };
            for (sub, bucket) in buckets.iter().enumerate() {
                if bucket.load(Relaxed) > 0 {
                    let (low, high) = bounds(chunk, sub);
                    out.push(Bucket { low, high, count: take(bucket) });
                }
            }
        }
        out
    }

    /// `extremes` may belong to a neighbouring window when a value is added meanwhile; the buckets bound them.
    fn summarise(&self, buckets: &[Bucket], sum: u64, extremes: (u64, u64)) -> Summary {
        let (Some(first), Some(last)) = (buckets.first(), buckets.last()) else {
            return Summary::default();
        };
        let count = buckets.iter().map(|b| b.count).sum();
        let min = extremes.0.clamp(first.low, first.high);
        let max = extremes.1.clamp(last.low, last.high).max(min);
        let at = |p: f64| quantile(buckets, count, p).clamp(min, max);
        Summary {
            count,
            sum,
            min,
            max,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p9990: at(0.999),
            p9999: at(0.9999),
        }
    }
}

impl Summary {
    /// Mean value; 0 when there are no values.
    pub fn avg(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }
}

/// A non-empty bucket and the smallest and largest value it holds.
struct Bucket {
    low: u64,
    high: u64,
    count: u64,
}

/// Chunk and bucket of a value.
#[inline]
fn place(v: u64) -> (usize, usize) {
    if v < SUB_BUCKETS as u64 {
        return (0, v as usize);
    }
    let shift = (63 - v.leading_zeros()) - SUB_BITS;
    (shift as usize + 1, (v >> shift) as usize & (SUB_BUCKETS - 1))
}

/// Smallest and largest value of a bucket: the inverse of [`place`].
fn bounds(chunk: usize, sub: usize) -> (u64, u64) {
    if chunk == 0 {
        return (sub as u64, sub as u64);
    }
    let shift = chunk - 1;
    let low = ((SUB_BUCKETS + sub) as u64) << shift;
    (low, low + ((1u64 << shift) - 1))
}

/// Middle of the bucket that holds the value of rank `round(p · count)`, the rule of Twitter's `BucketedHistogram`.
fn quantile(buckets: &[Bucket], count: u64, p: f64) -> u64 {
    let rank = ((p * count as f64).round() as u64).clamp(1, count.max(1));
    let mut seen = 0;
    for bucket in buckets {
        seen += bucket.count;
        if seen >= rank {
            return bucket.low + (bucket.high - bucket.low) / 2;
        }
    }
    buckets.last().map_or(0, |b| b.high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_that_contains_it() {
        let mut values: Vec<u64> = (0..2_000).collect();
        for e in 5..64 {
            let p = 1u64 << e;
            values.extend([p - 1, p, p + 1, p + p / 3, p.wrapping_mul(2).wrapping_sub(1)]);
        }
        for v in values {
            let (chunk, sub) = place(v);
            assert!(chunk < CHUNKS && sub < SUB_BUCKETS, "{v}");
            let (low, high) = bounds(chunk, sub);
            assert!(low <= v && v <= high, "{v} not in {low}..={high}");
            assert!((high - low) as f64 <= low as f64 / 32.0, "{low}..={high} too wide");
        }
    }

    #[test]
    fn quantiles_are_close() {
        let stat = Stat::new();
        (1..=10_000).for_each(|v| stat.add(v));
        let s = stat.summary();
        assert_eq!((s.count, s.sum, s.min, s.max), (10_000, 50_005_000, 1, 10_000));
        assert_eq!(s.avg(), 5_000.5);
        for (got, want) in [(s.p50, 5_000.0), (s.p90, 9_000.0), (s.p95, 9_500.0), (s.p99, 9_900.0), (s.p9990, 9_990.0)]
        {
            assert!((got as f64 - want).abs() / want < 0.017, "{got} for {want}");
        }
        assert!(s.p9999 <= s.max);
    }

    #[test]
    fn small_values_are_exact_and_one_value_is_everything() {
        let stat = Stat::new();
        stat.add(31);
        let s = stat.summary();
        assert_eq!([s.min, s.p50, s.p9999, s.max], [31; 4]);
        let big = Stat::new();
        big.add(u64::MAX);
        assert_eq!([big.summary().min, big.summary().p50, big.summary().max], [u64::MAX; 3]);
    }

    #[test]
    fn a_window_replaces_the_values_since_start_and_totals_stay() {
        let stat = Stat::new();
        assert_eq!(stat.summary(), Summary::default());
        stat.add(5);
        assert_eq!(stat.summary().count, 1, "shown before the first window is complete");
        stat.roll();
        stat.add(7);
        stat.add(9);
        assert_eq!((stat.summary().count, stat.summary().max), (1, 5), "the running window is not shown");
        assert_eq!(stat.totals(), (3, 21));
        stat.roll();
        assert_eq!((stat.summary().count, stat.summary().min, stat.summary().max), (2, 7, 9));
        stat.roll();
        assert_eq!(stat.summary(), Summary::default());
        assert_eq!(stat.totals(), (3, 21));
    }

    #[test]
    fn no_sample_is_lost_while_windows_roll() {
        let stat = Stat::new();
        let mut shown = 0;
        std::thread::scope(|s| {
            for t in 0..3u64 {
                let stat = &stat;
                s.spawn(move || (0..50_000u64).for_each(|i| stat.add((i * 7 + t) % 1_000)));
            }
            for _ in 0..200 {
                stat.roll();
                shown += stat.summary().count;
            }
        });
        stat.roll();
        shown += stat.summary().count;
        assert_eq!(shown, 150_000);
        assert_eq!(stat.totals().0, 150_000);
    }
}
