//! Fair shares: who has how many of the VMs, and who should have.
//!
//! Shares are whole billionths, not floats: equal fractions are equal, and there is an order.
//! Source: cloud-scheduler 1.x, `cloudscheduler/cloud_management.py`, `get_diff_types`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Held, Key, Rank};
use crate::config::{Distribution, Metric, SchedulerConfig};

/// A share of all VMs, in billionths.
pub type Billionths = i64;

/// The whole.
pub const ALL: Billionths = 1_000_000_000;

/// What one key's jobs ask for.
#[derive(Debug, Clone, Copy)]
pub struct Demand<'a> {
    pub key: Key<'a>,
    /// The highest priority among all its jobs that wait.
    pub priority: i64,
    /// The highest priority among those that go before all others; `None`: there are none.
    pub high: Option<i64>,
}

impl<'a> Demand<'a> {
    /// One job's.
    pub fn of_one(key: Key<'a>, (high, _, priority): Rank) -> Self {
        Self { key, priority, high: high.then_some(priority) }
    }

    /// Both, of the same key.
    pub fn and(self, other: Self) -> Self {
        Self { key: self.key, priority: self.priority.max(other.priority), high: self.high.max(other.high) }
    }
}

/// The share that each key should have, by the jobs that wait.
///
/// Each user gets an equal part. While high-priority jobs wait, every normal part is divided by
/// `weight`, and every user of such jobs gets one more part, multiplied by it; with
/// [`Distribution::Normal`] that part counts in the divisor too, so that the sum need not be 1.
pub fn desired<'a>(
    demands: &[Demand<'a>],
    distribution: Distribution,
    weight: u32,
) -> BTreeMap<Key<'a>, Billionths> {
    let normal = parts(demands.iter().map(|demand| (demand.key, demand.priority)), distribution);
    let high = parts(demands.iter().filter_map(|demand| Some((demand.key, demand.high?))), distribution);
    let users = match distribution {
        Distribution::Normal => normal.len() + high.len(),
        Distribution::Split => normal.len(),
    };
    let users = i64::try_from(users).unwrap_or(i64::MAX);
    let (divisor, factor) = if high.is_empty() { (1, 1) } else { (i64::from(weight), i64::from(weight)) };
    let mut shares = BTreeMap::new();
    for (of, multiply, divide) in [(normal, 1, divisor), (high, factor, 1)] {
        for keys in of.into_values() {
            let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
            for key in keys {
                let parts = users.saturating_mul(divide).saturating_mul(count);
                *shares.entry(key).or_default() += ALL * multiply / parts;
            }
        }
    }
    shares
}

/// The keys among which each user's part is divided.
fn parts<'a>(
    demands: impl Iterator<Item = (Key<'a>, i64)>,
    distribution: Distribution,
) -> BTreeMap<(&'a str, &'a str), Vec<Key<'a>>> {
    let mut best: BTreeMap<_, (i64, Vec<Key<'a>>)> = BTreeMap::new();
    for (key, priority) in demands {
        let (top, keys) = best.entry(key.owner()).or_insert((priority, Vec::new()));
        if priority > *top {
            (*top, *keys) = (priority, Vec::new());
        }
        if priority == *top && (distribution == Distribution::Split || keys.is_empty()) {
            keys.push(key);
        }
    }
    best.into_iter().map(|(owner, (_, keys))| (owner, keys)).collect()
}

/// The share of all VMs that each key has, by the metric.
///
/// In a product of all three a weight of cores or memory weighs alike for everybody, and so for
/// nobody; that of storage tells who has some from who has none.
pub fn current<'a>(
    held: &BTreeMap<Key<'a>, Held>,
    config: &SchedulerConfig,
) -> BTreeMap<Key<'a>, Billionths> {
    let exact = |of: fn(&Held) -> u64| -> BTreeMap<Key<'a>, Billionths> {
        let all = held.values().map(|held| u128::from(of(held))).sum::<u128>().max(1);
        let part = |held| u128::from(of(held)) * ALL.unsigned_abs() as u128 / all;
        held.iter().map(|(key, held)| (*key, i64::try_from(part(held)).unwrap_or(ALL))).collect()
    };
    match config.scheduling_metric {
        Metric::Slot => exact(|held| held.vms.into()),
        Metric::Memory => exact(|held| held.memory_mib),
        Metric::MemoryCpu => product(held, |held| float(held.memory_mib) * float(held.cpu_cores)),
        Metric::MemoryCpuStorage => product(held, |held| {
            let two = float(held.memory_mib)
                * config.memory_distribution_weight.get()
                * float(held.cpu_cores)
                * config.cpu_distribution_weight.get();
            match held.storage_gib {
                0 => two,
                storage => two * float(storage) * config.storage_distribution_weight.get(),
            }
        }),
    }
}

fn product<'a>(held: &BTreeMap<Key<'a>, Held>, of: impl Fn(&Held) -> f64) -> BTreeMap<Key<'a>, Billionths> {
    let all: f64 = held.values().map(&of).sum();
    let part = |held| if all > 0.0 { of(held) / all * ALL as f64 } else { 0.0 };
    held.iter().map(|(key, held)| (*key, part(held).round() as Billionths)).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a share need not be exact")]
fn float(quantity: u64) -> f64 {
    quantity as f64
}

/// How far each key is above its share; who is at or below it may boot.
///
/// A key with VMs and no waiting job is a whole above. What the `limited` ones (who are at a limit)
/// lack is spread evenly over the others.
pub fn diff<'a>(
    current: &BTreeMap<Key<'a>, Billionths>,
    desired: &BTreeMap<Key<'a>, Billionths>,
    limited: impl Fn(Key<'a>) -> bool,
) -> BTreeMap<Key<'a>, Billionths> {
    let keys: BTreeSet<_> = current.keys().chain(desired.keys()).copied().collect();
    let mut diff: BTreeMap<_, _> = keys
        .into_iter()
        .map(|key| match (current.get(&key), desired.get(&key)) {
            (Some(_), None) => (key, ALL),
            (has, wants) => (key, has.copied().unwrap_or(0) - wants.copied().unwrap_or(0)),
        })
        .collect();
    let (lacking, others): (Vec<_>, Vec<_>) = diff.iter().partition(|(key, _)| limited(**key));
    let spare: Billionths = lacking.into_iter().map(|(_, diff)| *diff).filter(|diff| *diff < 0).sum();
    let each = spare.checked_div(i64::try_from(others.len()).unwrap_or(i64::MAX)).unwrap_or(0);
    let others: Vec<_> = others.into_iter().map(|(key, _)| *key).collect();
    for key in others {
        diff.entry(key).and_modify(|diff| *diff += each);
    }
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Key<'static> {
        let (user, vm_type) = text.split_once(':').unwrap();
        Key { project: "p", user, vm_type }
    }

    fn slots<const N: usize>(vms: [(&'static str, u32); N]) -> BTreeMap<Key<'static>, Billionths> {
        let held = vms.map(|(of, vms)| (key(of), Held { vms, ..Held::default() }));
        current(&held.into(), &SchedulerConfig::default())
    }

    #[test]
    fn what_is_shared_is_a_setting() {
        let held = |vms, cpu_cores, memory_mib, storage_gib| Held { vms, cpu_cores, memory_mib, storage_gib };
        let all = [(key("alice:t"), held(1, 8, 3000, 0)), (key("bob:t"), held(3, 8, 1000, 2))];
        // the metric, the weight of storage, alice's share in thousandths
        let cases = [
            (Metric::Slot, 1.0, 250),
            (Metric::Memory, 1.0, 750),
            (Metric::MemoryCpu, 1.0, 750),
            (Metric::MemoryCpuStorage, 1.0, 600),
            (Metric::MemoryCpuStorage, 4.5, 250),
        ];
        for (scheduling_metric, weight, wanted) in cases {
            let storage_distribution_weight = weight.try_into().unwrap();
            let memory_distribution_weight = 7.0.try_into().unwrap();
            let config = SchedulerConfig {
                scheduling_metric,
                storage_distribution_weight,
                memory_distribution_weight,
                ..SchedulerConfig::default()
            };
            let shares = current(&all.into(), &config);
            assert_eq!(shares[&key("alice:t")] / 1_000_000, wanted, "{scheduling_metric:?} {weight}");
            assert_eq!(shares.values().sum::<Billionths>(), ALL);
        }
        assert!(current(&BTreeMap::new(), &SchedulerConfig::default()).is_empty());
    }

    #[test]
    fn shares_go_by_the_highest_priority() {
        use Distribution::{Normal, Split};
        let job = |of, priority| Demand { key: key(of), priority, high: None };
        // what it shows, distribution, weight, demands, shares in thousandths
        let cases = [
            (
                "split at the highest priority alone",
                Split,
                1,
                vec![job("alice:t1", 0), job("bob:t2", 0), job("bob:t3", 5)],
                vec![("alice:t1", 500), ("bob:t3", 500)],
            ),
            ("nobody waits", Normal, 1, vec![], vec![]),
        ];
        for (what, distribution, weight, demands, wanted) in cases {
            let shares = desired(&demands, distribution, weight);
            let thousandths: Vec<_> =
                shares.iter().map(|(key, share)| (*key, (share + 500_000) / 1_000_000)).collect();
            let wanted: Vec<_> = wanted.into_iter().map(|(of, share)| (key(of), share)).collect();
            assert_eq!(thousandths, wanted, "{what}");
        }
    }

    #[test]
    fn what_a_limited_user_lacks_goes_to_the_others() {
        let vms = slots([("alice:t", 1), ("bob:t", 3)]);
        let desired = BTreeMap::from([(key("alice:t"), ALL / 2), (key("bob:t"), ALL / 2)]);
        let diff = diff(&vms, &desired, |key| key.user == "alice");
        assert_eq!((diff[&key("alice:t")], diff[&key("bob:t")]), (-ALL / 4, 0));
    }
}
