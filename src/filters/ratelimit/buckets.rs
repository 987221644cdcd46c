//! How much of each limit each caller has used: leaky buckets in whole numbers, in bounded memory.
//!
//! A bucket of a limit of `value` requests per unit holds one unit of time times `value`; a request
//! weighs one unit; each millisecond `value` drains off. So nothing is ever divided but for display,
//! and a burst admits exactly `value`. (In floating point, 498 of the 1200 limits of 1 to 300 per
//! second, minute, hour and day lose their last request to rounding.)
//!
//! A caller is known by a keyed 64-bit hash of his name: a fixed size, however long the name. That two
//! of a million callers meet has a chance of three in a hundred million, and nobody can choose to.
//! Callers that are too many lose their buckets, idle ones first, then the
//! emptiest. Forgetting a bucket is a gift to its owner, so a full one is forgotten last: to get rid of
//! his own full bucket somebody has to fill those of nearly everybody else, which takes as many
//! requests as the limits of as many callers allow.
//! Source: leaky bucket as a meter, <https://en.wikipedia.org/wiki/Leaky_bucket>; reference §4.4.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use pileus_model::Time;

/// A limit, as far as a bucket needs to know it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Requests per unit; at most `u32::MAX`.
    pub(super) value: u64,
    /// In milliseconds; at most a day.
    pub(super) unit_ms: u64,
}

/// What a caller has used of a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Bucket {
    /// At `last`, in milliseconds times the limit's value.
    water: u64,
    last: Time,
}

impl Rate {
    fn capacity(&self) -> u64 {
        self.unit_ms * self.value
    }

    /// The largest level: twice the capacity. Requests that were let in at the same time may overfill a bucket
    /// that is charged only afterwards; their owner pays for that by waiting.
    fn brim(&self) -> u64 {
        self.capacity().saturating_mul(2)
    }

    fn level(&self, bucket: &Bucket, now: Time) -> u64 {
        let passed = u64::try_from(now.0.saturating_sub(bucket.last.0)).unwrap_or(0);
        bucket.water.saturating_sub(passed.saturating_mul(self.value))
    }

    /// How long a request has to wait, in milliseconds, rounded up; 0: not at all.
    fn wait_ms(&self, bucket: &Bucket, now: Time) -> u64 {
        match (self.level(bucket, now) + self.unit_ms).saturating_sub(self.capacity()) {
            // Nearly always. A division costs as much as the rest.
            0 => 0,
            over => over.div_ceil(self.value),
        }
    }

    /// How full the bucket is, in parts of `u32::MAX`.
    fn fill(&self, bucket: &Bucket, now: Time) -> u64 {
        let fill = u128::from(self.level(bucket, now)) * u128::from(u32::MAX) / u128::from(self.capacity());
        u64::try_from(fill).unwrap_or(u64::MAX)
    }
}

/// What is left of a limit. Worked out when it is asked for: a division costs as much as the rest.
pub(super) struct Left {
    rate: Rate,
    level: u64,
}

impl Left {
    /// How many requests.
    pub(super) fn requests(&self) -> u64 {
        self.rate.capacity().saturating_sub(self.level) / self.rate.unit_ms
    }

    /// In how many milliseconds all of them are again.
    pub(super) fn full_ms(&self) -> u64 {
        self.level.div_ceil(self.rate.value)
    }
}

/// A caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

impl Key {
    /// Of somebody who has been hashed already, with a key that nobody knows.
    pub(super) fn hashed(hash: u64) -> Self {
        Self(hash)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The low bits have chosen the shard, and are the same in all of it.
        state.write_u64(self.0.rotate_right(16));
    }
}

/// A key is a hash already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

type Shard = HashMap<Key, Box<[Bucket]>, BuildHasherDefault<AsItIs>>;

/// The buckets of all callers.
#[derive(Debug)]
pub(super) struct Buckets {
    rates: Vec<Rate>,
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    /// Callers in a shard.
    most: usize,
    /// Time in milliseconds at which all that was charged afterwards has drained, or [`NEVER`].
    charged_until: AtomicI64,
}

/// [`Buckets::charged_until`] while nothing is charged.
const NEVER: i64 = i64::MIN;

impl Buckets {
    /// Empty buckets for at most about `max_keys` callers.
    pub(super) fn new(rates: Vec<Rate>, max_keys: usize) -> Self {
        // So many locks that two requests seldom meet, but none with a handful of callers.
        // A power of two, so that a key finds its own without a division.
        let shards = (max_keys / 1024).clamp(1, 64).next_power_of_two();
        Self {
            rates,
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            most: max_keys.div_ceil(shards),
            charged_until: AtomicI64::new(NEVER),
        }
    }

    /// The caller of this name.
    pub(super) fn key(&self, name: impl Hash) -> Key {
        Key(self.hasher.hash_one(&name))
    }

    /// Takes a request out of all limits that are bits of `limits`, or, where one of them refuses, out of
    /// none: then which one takes longest, and how long in milliseconds. `told` hears what is left of
    /// each of them.
    pub(super) fn take(
        &self,
        key: Key,
        limits: u64,
        now: Time,
        mut told: impl FnMut(usize, Left),
    ) -> Result<(), (usize, u64)> {
        let chosen = || self.rates.iter().enumerate().filter(|(index, _)| limits & (1 << index) != 0);
        let mut shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let shard = &mut *shard;
        let buckets = match shard.get_mut(&key) {
            Some(known) => known,
            None => self.first(shard, key, now),
        };
        let waits = chosen().map(|(index, rate)| (rate.wait_ms(&buckets[index], now), index));
        let refused = waits.max().filter(|(wait, _)| *wait > 0);
        for (index, rate) in chosen() {
            let bucket = &mut buckets[index];
            let level = rate.level(bucket, now);
            let level = if refused.is_none() { level + rate.unit_ms } else { level };
            if refused.is_none() {
                // Another thread may have read a later time, and come first.
                *bucket = Bucket { water: level, last: now.max(bucket.last) };
            }
            told(index, Left { rate: *rate, level });
        }
        refused.map_or(Ok(()), |(wait, index)| Err((index, wait)))
    }

    /// Returns the limit of `limits` that would refuse a request, and the wait in milliseconds. Charges nothing.
    pub(super) fn refused(&self, key: Key, limits: u64, now: Time) -> Option<(usize, u64)> {
        let shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = shard.get(&key)?;
        let chosen = self.rates.iter().zip(buckets).enumerate().filter(|(at, _)| limits & (1 << at) != 0);
        let waits = chosen.map(|(at, (rate, bucket))| (rate.wait_ms(bucket, now), at));
        waits.max().filter(|(wait, _)| *wait > 0).map(|(wait, at)| (at, wait))
    }

    /// Returns what is left of the limits that are bits of `limits`, by their index.
    pub(super) fn left(&self, key: Key, limits: u64, now: Time) -> Vec<(usize, Left)> {
        let shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let Some(buckets) = shard.get(&key) else { return Vec::new() };
        let each = self.rates.iter().zip(buckets).enumerate().filter(|(at, _)| limits & (1 << at) != 0);
        each.map(|(at, (rate, bucket))| (at, Left { rate: *rate, level: rate.level(bucket, now) })).collect()
    }

    /// `true` if a bucket may hold something that [`Buckets::charge`] put there.
    pub(super) fn are_charged(&self) -> bool {
        self.charged_until.load(Ordering::Relaxed) != NEVER
    }

    /// `true` if everything that [`Buckets::charge`] put into a bucket has drained.
    pub(super) fn are_empty(&self, now: Time) -> bool {
        let until = self.charged_until.load(Ordering::Relaxed);
        if now.0 < until {
            return false;
        }
        // Where another request charges meanwhile, its time stays.
        let _ = self.charged_until.compare_exchange(until, NEVER, Ordering::Relaxed, Ordering::Relaxed);
        true
    }

    /// Charges a request to all limits of `limits`, be they used up or not. `told` gets what is left of each.
    pub(super) fn charge(&self, key: Key, limits: u64, now: Time, mut told: impl FnMut(usize, Left)) {
        let mut shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let shard = &mut *shard;
        let buckets = match shard.get_mut(&key) {
            Some(known) => known,
            None => self.first(shard, key, now),
        };
        let mut empty = now;
        for (index, (rate, bucket)) in self.rates.iter().zip(buckets).enumerate() {
            if limits & (1 << index) == 0 {
                continue;
            }
            let level = (rate.level(bucket, now) + rate.unit_ms).min(rate.brim());
            *bucket = Bucket { water: level, last: now.max(bucket.last) };
            let left = Left { rate: *rate, level };
            empty = empty.max(bucket.last.after(Duration::from_millis(left.full_ms())));
            told(index, left);
        }
        self.charged_until.fetch_max(empty.0, Ordering::Relaxed);
    }

    /// For each limit: how many requests are left now, and in how many milliseconds the next will do.
    pub(super) fn remaining(&self, key: Key, now: Time) -> Vec<(u64, u64)> {
        let shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = shard.get(&key);
        let each = self.rates.iter().enumerate().map(|(index, rate)| {
            let bucket = buckets.map(|buckets| buckets[index]).unwrap_or_default();
            let room = rate.capacity().saturating_sub(rate.level(&bucket, now));
            (room / rate.unit_ms, rate.wait_ms(&bucket, now))
        });
        each.collect()
    }

    fn shard(&self, key: Key) -> &Mutex<Shard> {
        &self.shards[key.0 as usize & (self.shards.len() - 1)]
    }

    /// The buckets of somebody who has none.
    #[cold]
    fn first<'a>(&self, shard: &'a mut Shard, key: Key, now: Time) -> &'a mut [Bucket] {
        if shard.len() >= self.most {
            self.make_room(shard, now);
        }
        shard.entry(key).or_insert_with(|| vec![Bucket::default(); self.rates.len()].into())
    }

    /// Forgets idle callers; where they are too few, the emptiest as well, an eighth of all at once,
    /// so that looking at everybody is paid for by many newcomers.
    fn make_room(&self, shard: &mut Shard, now: Time) {
        let fill = |buckets: &[Bucket]| {
            let fills = self.rates.iter().zip(buckets).map(|(rate, bucket)| rate.fill(bucket, now));
            fills.max().unwrap_or(0)
        };
        shard.retain(|_, buckets| {
            self.rates.iter().zip(buckets).any(|(rate, bucket)| rate.level(bucket, now) > 0)
        });
        let stay = (self.most - self.most / 8).saturating_sub(1);
        let Some(mut go) = shard.len().checked_sub(stay).filter(|go| *go > 0) else { return };
        let mut fills: Vec<_> = shard.values().map(|buckets| fill(buckets)).collect();
        let (_, &mut fullest, _) = fills.select_nth_unstable(go - 1);
        // Those below the line go before those on it.
        for line in [fullest.checked_sub(1), Some(fullest)].into_iter().flatten() {
            shard.retain(|_, buckets| {
                let goes = go > 0 && fill(buckets) <= line;
                go -= usize::from(goes);
                !goes
            });
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNITS: [u64; 4] = [1000, 60_000, 3_600_000, 86_400_000];

    impl Buckets {
        fn took(&self, key: Key, limits: u64, now: Time) -> Result<(), (usize, u64)> {
            self.take(key, limits, now, |_, _| {})
        }
    }

    fn buckets(limits: &[(u64, u64)], max_keys: usize) -> Buckets {
        Buckets::new(
            limits.iter().map(|(value, unit_ms)| Rate { value: *value, unit_ms: *unit_ms }).collect(),
            max_keys,
        )
    }

    #[test]
    fn requests_at_given_times_are_admitted_or_wait() {
        // Reference §4.4: (value, unit) and rows of (at ms, wait ms or 0).
        type Rows<'a> = &'a [(i64, u64)];
        let cases: [(u64, u64, Rows<'_>); 7] = [
            (1, 1000, &[(0, 0), (0, 1000), (500, 500), (1000, 0), (4000, 0)]),
            (1, 60_000, &[(0, 0), (1000, 59_000), (59_000, 1000), (60_000, 0)]),
            (3, 60_000, &[(0, 0), (0, 0), (0, 0), (0, 20_000), (20_000, 0), (20_000, 20_000), (40_000, 0)]),
            (2, 60_000, &[(0, 0), (30_000, 0), (60_000, 0), (60_000, 0), (61_000, 29_000)]),
            (7, 60_000, &[(0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 8572)]),
            (
                10,
                60_000,
                &[
                    (0, 0),
                    (0, 0),
                    (0, 0),
                    (0, 0),
                    (0, 0),
                    (0, 0),
                    (0, 0),
                    (0, 0),
                    (0, 0),
                    (0, 0),
                    (0, 6000),
                    (6000, 0),
                    (6000, 6000),
                    (7000, 5000),
                ],
            ),
            // A clock that was read late, and one that went backwards, fill nothing.
            (1, 1000, &[(5000, 0), (4000, 1000), (5000, 1000), (6000, 0)]),
        ];
        for (value, unit_ms, rows) in cases {
            let buckets = buckets(&[(value, unit_ms)], 10);
            let key = buckets.key("ann");
            for (index, (at, wait)) in rows.iter().enumerate() {
                let found = buckets.took(key, 1, Time(1_000_000 + at)).map_or_else(|(_, wait)| wait, |()| 0);
                assert_eq!(found, *wait, "{value} per {unit_ms} ms, row {index}: at {at}");
            }
        }
    }

    #[test]
    fn remaining_counts_what_has_drained() {
        let buckets = buckets(&[(2, 60_000)], 10);
        let key = buckets.key("ann");
        let rows = [(0, 1), (30_000, 1), (60_000, 1), (60_000, 0)];
        assert_eq!(buckets.remaining(key, Time(0)), [(2, 0)]);
        for (at, remaining) in rows {
            buckets.took(key, 1, Time(at)).unwrap();
            assert_eq!(buckets.remaining(key, Time(at))[0].0, remaining, "at {at}");
        }
        assert_eq!(buckets.remaining(key, Time(61_000)), [(0, 29_000)]);
        assert_eq!(buckets.remaining(key, Time(90_000)), [(1, 0)], "read, not remembered");
        assert_eq!(buckets.remaining(key, Time(1_000_000)), [(2, 0)]);
    }

    #[test]
    fn every_limit_admits_exactly_its_value() {
        for unit_ms in UNITS {
            for value in 1..=300 {
                let buckets = buckets(&[(value, unit_ms)], 10);
                let key = buckets.key("ann");
                let now = Time(1_700_000_000_123);
                let admitted = (0..value + 5).filter(|_| buckets.took(key, 1, now).is_ok()).count() as u64;
                assert_eq!(admitted, value, "{value} per {unit_ms} ms");
                // One slot comes back after each part of the unit, and not a millisecond earlier.
                let wait = buckets.took(key, 1, now).unwrap_err().1;
                assert_eq!(wait, unit_ms.div_ceil(value), "{value} per {unit_ms} ms");
                let later = now.after(Duration::from_millis(wait));
                assert!(buckets.took(key, 1, Time(later.0 - 1)).is_err(), "{value} per {unit_ms} ms");
                assert!(buckets.took(key, 1, later).is_ok(), "{value} per {unit_ms} ms");
            }
        }
        let largest = buckets(&[(u32::MAX.into(), 86_400_000)], 10);
        assert!(largest.took(largest.key("ann"), 1, Time(i64::MAX)).is_ok());
    }

    #[test]
    fn a_refusal_costs_nothing_and_the_longest_wait_is_told() {
        let buckets = buckets(&[(10, 60_000), (5, 60_000)], 10);
        let key = buckets.key("ann");
        for _ in 0..5 {
            buckets.took(key, 0b11, Time(0)).unwrap();
        }
        for _ in 0..20 {
            assert_eq!(buckets.took(key, 0b11, Time(0)), Err((1, 12_000)));
        }
        // Nova charged the first limit for each refusal of the second: here five are left.
        for _ in 0..5 {
            buckets.took(key, 0b01, Time(0)).unwrap();
        }
        assert_eq!(buckets.took(key, 0b01, Time(0)), Err((0, 6000)));
        assert_eq!(buckets.took(key, 0b11, Time(0)), Err((1, 12_000)));
        assert_eq!(buckets.took(buckets.key("bob"), 0b11, Time(0)), Ok(()));
    }

    #[test]
    fn what_is_charged_afterwards_is_paid_in_full() {
        let buckets = buckets(&[(2, 60_000), (9, 1000)], 10);
        let key = buckets.key("ann");
        assert_eq!(buckets.refused(key, 0b11, Time(0)), None);
        assert!(buckets.len() == 0 && !buckets.are_charged(), "asking remembers nothing");
        // At (ms), the time (ms) when all is empty, what is left of the first limit, wait (ms) of the next request.
        let rows = [
            (0, 30_000, 1, None),
            (0, 60_000, 0, Some(30_000)),
            // Two that were let in before these were charged.
            (0, 90_000, 0, Some(60_000)),
            (0, 120_000, 0, Some(90_000)),
            (0, 120_000, 0, Some(90_000)),
            (90_000, 150_000, 0, Some(30_000)),
        ];
        for (index, (at, empty, left, wait)) in rows.into_iter().enumerate() {
            let mut told = Vec::new();
            buckets.charge(key, 0b01, Time(at), |at, left| told.push((at, left.requests())));
            assert_eq!(told, [(0, left)], "row {index}");
            assert!(buckets.are_charged() && !buckets.are_empty(Time(empty - 1)), "row {index}");
            assert_eq!(buckets.refused(key, 0b11, Time(at)), wait.map(|wait| (0, wait)), "row {index}");
        }
        assert_eq!(buckets.refused(key, 0b10, Time(90_000)), None, "another limit");
        assert_eq!(buckets.refused(buckets.key("bob"), 0b11, Time(90_000)), None, "another caller");
        assert_eq!(buckets.refused(key, 0b11, Time(120_000)), None);
        assert!(buckets.are_charged() && buckets.are_empty(Time(150_000)) && !buckets.are_charged());
    }

    #[test]
    fn what_is_left_is_told_with_the_answer() {
        let buckets = buckets(&[(10, 60_000), (2, 1000)], 10);
        let key = buckets.key("ann");
        let take = |limits: u64, at: i64| {
            let mut told = Vec::new();
            let answer = buckets.take(key, limits, Time(at), |index, left| {
                told.push((index, left.requests(), left.full_ms()));
            });
            (answer.is_ok(), told)
        };
        assert_eq!(take(0b11, 0), (true, vec![(0, 9, 6000), (1, 1, 500)]));
        assert_eq!(take(0b11, 100), (true, vec![(0, 8, 11_900), (1, 0, 900)]));
        assert_eq!(take(0b11, 100), (false, vec![(0, 8, 11_900), (1, 0, 900)]), "charged to none");
        assert_eq!(take(0b01, 100), (true, vec![(0, 7, 17_900)]));
    }

    /// The resident memory of this process, in bytes.
    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Run it alone, and optimised: `cargo test --release -- --ignored a_million_callers --nocapture`.
    #[test]
    #[ignore = "takes seconds, and measures the memory of the whole process"]
    fn a_million_callers_fit_into_200_mib() {
        let most = 1_000_000;
        let buckets = buckets(&[(120, 60_000), (120, 60_000), (120, 60_000)], most);
        let before = resident();
        let fill = |names: std::ops::Range<usize>, at: i64| {
            for name in names {
                buckets.took(buckets.key(("user", name, "project")), 0b111, Time(at)).unwrap();
            }
        };
        fill(0..most, 0);
        let held = buckets.len();
        let full = resident() - before;
        // Another million, a minute later: the first ones are idle, and go.
        fill(most..2 * most, 60_000);
        let after = resident() - before;
        eprintln!(
            "{held} callers of 3 limits: {} MiB; after another million: {} MiB, {} callers",
            full >> 20,
            after >> 20,
            buckets.len()
        );
        assert!(held > most * 9 / 10 && full < 200 << 20 && after < 200 << 20);
    }

    #[test]
    fn idle_callers_are_forgotten_first() {
        let buckets = buckets(&[(10, 1000)], 100);
        for name in 0..99 {
            buckets.took(buckets.key(name), 1, Time(0)).unwrap();
        }
        let busy = buckets.key("busy");
        (0..10).for_each(|_| buckets.took(busy, 1, Time(500)).unwrap());
        buckets.took(buckets.key("new"), 1, Time(590)).unwrap();
        assert_eq!(buckets.len(), 2);
        assert!(buckets.took(busy, 1, Time(590)).is_err());
    }

    #[test]
    fn a_flood_of_names_neither_grows_nor_frees_a_full_bucket() {
        for max_keys in [1, 2, 50, 5000, 20_000] {
            let buckets = buckets(&[(10, 86_400_000), (1000, 60_000)], max_keys);
            let attacker = buckets.key("mallory");
            (0..10).for_each(|_| buckets.took(attacker, 0b11, Time(0)).unwrap());
            for name in 0..3 * max_keys {
                // As many names as fit three times over, and each of them asks five times.
                (0..5).for_each(|_| buckets.took(buckets.key(name), 0b11, Time(1)).unwrap());
                assert!(max_keys < 1000 || name % 1000 != 0 || buckets.len() <= max_keys + 64);
            }
            assert!(buckets.len() <= max_keys + 64, "{} of {max_keys}", buckets.len());
            if max_keys > 1 {
                assert!(buckets.took(attacker, 0b11, Time(1)).is_err(), "free again with {max_keys}");
            }
        }
    }
}
