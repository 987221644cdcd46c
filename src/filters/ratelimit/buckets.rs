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
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pileus_model::Monotonic;

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
    last: Monotonic,
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

    fn level(&self, bucket: &Bucket, now: Monotonic) -> u64 {
        let passed = now.ms().saturating_sub(bucket.last.ms());
        bucket.water.saturating_sub(passed.saturating_mul(self.value))
    }

    /// How long a request has to wait, in milliseconds, rounded up; 0: not at all.
    fn wait_ms(&self, bucket: &Bucket, now: Monotonic) -> u64 {
        match (self.level(bucket, now) + self.unit_ms).saturating_sub(self.capacity()) {
            // Nearly always. A division costs as much as the rest.
            0 => 0,
            over => over.div_ceil(self.value),
        }
    }

    /// How full the bucket is, in parts of `u32::MAX`.
    fn fill(&self, bucket: &Bucket, now: Monotonic) -> u64 {
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
    /// Moment of the monotonic count at which all that was charged afterwards has drained, or [`NEVER`].
    charged_until: AtomicU64,
}

/// [`Buckets::charged_until`] while nothing is charged.
const NEVER: u64 = 0;

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
            charged_until: AtomicU64::new(NEVER),
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
        now: Monotonic,
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
    pub(super) fn refused(&self, key: Key, limits: u64, now: Monotonic) -> Option<(usize, u64)> {
        let shard = self.shard(key).lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = shard.get(&key)?;
        let chosen = self.rates.iter().zip(buckets).enumerate().filter(|(at, _)| limits & (1 << at) != 0);
        let waits = chosen.map(|(at, (rate, bucket))| (rate.wait_ms(bucket, now), at));
        waits.max().filter(|(wait, _)| *wait > 0).map(|(wait, at)| (at, wait))
    }

    /// Returns what is left of the limits that are bits of `limits`, by their index.
    pub(super) fn left(&self, key: Key, limits: u64, now: Monotonic) -> Vec<(usize, Left)> {
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
    pub(super) fn are_empty(&self, now: Monotonic) -> bool {
        let until = self.charged_until.load(Ordering::Relaxed);
        if now.0 < until {
            return false;
        }
        // Where another request charges meanwhile, its time stays.
        let _ = self.charged_until.compare_exchange(until, NEVER, Ordering::Relaxed, Ordering::Relaxed);
        true
    }

    /// Charges a request to all limits of `limits`, be they used up or not. `told` gets what is left of each.
    pub(super) fn charge(&self, key: Key, limits: u64, now: Monotonic, mut told: impl FnMut(usize, Left)) {
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
    pub(super) fn remaining(&self, key: Key, now: Monotonic) -> Vec<(u64, u64)> {
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
    fn first<'a>(&self, shard: &'a mut Shard, key: Key, now: Monotonic) -> &'a mut [Bucket] {
        if shard.len() >= self.most {
            self.make_room(shard, now);
        }
        shard.entry(key).or_insert_with(|| vec![Bucket::default(); self.rates.len()].into())
    }

    /// Forgets idle callers; where they are too few, the emptiest as well, an eighth of all at once,
    /// so that looking at everybody is paid for by many newcomers.
    fn make_room(&self, shard: &mut Shard, now: Monotonic) {
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
mod tests;
