//! How long something took, as counts in buckets: relaxed atomics, no lock and no allocation.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pileus_sdk::host::Times;

/// The upper borders of the buckets, in nanoseconds: 1, 2 and 5 of each decade from 100 ns to 10 s. What
/// takes longer is in one more bucket.
pub const BOUNDS_NS: [u64; 25] = bounds();

const fn bounds() -> [u64; 25] {
    let mut bounds = [0; 25];
    let (mut decade, mut at) = (100, 0);
    while at < bounds.len() {
        bounds[at] = decade * [1, 2, 5][at % 3];
        at += 1;
        if at % 3 == 0 {
            decade *= 10;
        }
    }
    bounds
}

/// Counts of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Counts one that took so many nanoseconds.
    pub fn add(&self, ns: u64) {
        let bucket = BOUNDS_NS.partition_point(|bound| *bound < ns);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// What it holds now. One that is being counted meanwhile may be in the sum and not yet in a bucket.
    pub fn counts(&self) -> Counts {
        let mut buckets = [0; BOUNDS_NS.len() + 1];
        for (count, bucket) in buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Relaxed);
        }
        Counts { buckets, sum_ns: self.sum_ns.load(Relaxed) }
    }
}

/// What a histogram held at a time.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Of each bucket alone.
    pub buckets: [u64; BOUNDS_NS.len() + 1],
    /// All durations together.
    pub sum_ns: u64,
}

impl Counts {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration that `permille` of a thousand do not exceed, taken as if those of a bucket lay evenly
    /// in it; 0 where there are none, and of the last bucket its lower border.
    pub fn quantile_ns(&self, permille: u64) -> u64 {
        let rank = (u128::from(self.count()) * u128::from(permille)).div_ceil(1000).max(1);
        let mut below: u128 = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            let count = u128::from(*count);
            if count > 0 && below + count >= rank {
                let lower = at.checked_sub(1).map_or(0, |at| BOUNDS_NS[at]);
                let upper = BOUNDS_NS.get(at).copied().unwrap_or(lower);
                let part = u128::from(upper - lower) * (rank - below) / count;
                return lower.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
            }
            below += count;
        }
        0
    }

    /// For people.
    pub fn times(&self) -> Times {
        Times { sum_ns: self.sum_ns, p50_ns: self.quantile_ns(500), p99_ns: self.quantile_ns(990) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_1_2_5_from_100_ns_to_10_s_and_belong_to_the_bucket_below() {
        assert_eq!(BOUNDS_NS[..5], [100, 200, 500, 1000, 2000]);
        assert_eq!(BOUNDS_NS[22..], [2_000_000_000, 5_000_000_000, 10_000_000_000]);
        assert!(BOUNDS_NS.is_sorted_by(|one, two| one < two));
        let cases = [
            (0, 0),
            (100, 0),
            (101, 1),
            (1000, 3),
            (1001, 4),
            (10_000_000_000, 24),
            (10_000_000_001, 25),
            (u64::MAX, 25),
        ];
        for (ns, bucket) in cases {
            let histogram = Histogram::default();
            histogram.add(ns);
            let counts = histogram.counts();
            assert_eq!(counts.buckets.iter().position(|count| *count == 1), Some(bucket), "{ns}");
            assert_eq!((counts.count(), counts.sum_ns), (1, ns));
        }
    }

    #[test]
    fn quantiles_lie_in_the_bucket_of_their_rank() {
        // Durations and how often; a quantile, and what it is.
        type Case<'a> = (&'a [(u64, u64)], u64, u64);
        let cases: [Case<'_>; 8] = [
            (&[], 500, 0),
            (&[(150, 1)], 500, 200),
            (&[(150, 100)], 500, 150),
            (&[(150, 100)], 990, 199),
            (&[(50, 90), (3000, 10)], 500, 55),
            (&[(50, 90), (3000, 10)], 990, 4700),
            (&[(50, 99), (1_000_000, 1)], 990, 100),
            (&[(20_000_000_000, 5)], 500, 10_000_000_000),
        ];
        for (durations, permille, expected) in cases {
            let histogram = Histogram::default();
            for (ns, times) in durations {
                (0..*times).for_each(|_| histogram.add(*ns));
            }
            assert_eq!(histogram.counts().quantile_ns(permille), expected, "{durations:?} {permille}");
        }
    }
}
