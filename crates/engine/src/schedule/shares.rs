//! Fair shares: who has how many of the VMs, and who should have.
//!
//! Shares are whole billionths, not floats: equal fractions are equal, and there is an order.
//! Source: cloud-scheduler 1.x, `cloudscheduler/cloud_management.py`, `get_diff_types`.

use std::collections::{BTreeMap, BTreeSet};

use super::Key;
use crate::config::Distribution;

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

/// How far each key is above its share; who is at or below it may boot.
///
/// A key with VMs and no waiting job is a whole above. What the `limited` ones (who are at a limit)
/// lack is spread evenly over the others.
pub fn diff<'a>(
    vms: &BTreeMap<Key<'a>, u32>,
    desired: &BTreeMap<Key<'a>, Billionths>,
    limited: impl Fn(Key<'a>) -> bool,
) -> BTreeMap<Key<'a>, Billionths> {
    let all: i64 = vms.values().copied().map(i64::from).sum();
    let keys: BTreeSet<_> = vms.keys().chain(desired.keys()).copied().collect();
    let mut diff: BTreeMap<_, _> = keys
        .into_iter()
        .map(|key| match (vms.get(&key), desired.get(&key)) {
            (Some(_), None) => (key, ALL),
            (has, wants) => {
                let has = has.map_or(0, |has| ALL * i64::from(*has) / all);
                (key, has - wants.copied().unwrap_or(0))
            }
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

    #[test]
    fn the_reference_shares_hold() {
        use Distribution::{Normal, Split};
        let job = |of, priority| Demand { key: key(of), priority, high: None };
        let high = |of, priority| Demand { key: key(of), priority, high: Some(priority) };
        // what it shows, distribution, weight, demands, shares in thousandths
        let cases = [
            (
                "vector 2",
                Normal,
                1,
                vec![job("alice:t1", 0), job("bob:t2", 0), job("bob:t3", 5)],
                vec![("alice:t1", 500), ("bob:t3", 500)],
            ),
            (
                "vector 3",
                Split,
                1,
                vec![job("alice:t1", 0), job("bob:t2", 0), job("bob:t3", 0)],
                vec![("alice:t1", 500), ("bob:t2", 250), ("bob:t3", 250)],
            ),
            (
                "split at the highest priority alone",
                Split,
                1,
                vec![job("alice:t1", 0), job("bob:t2", 0), job("bob:t3", 5)],
                vec![("alice:t1", 500), ("bob:t3", 500)],
            ),
            (
                "vector 4",
                Normal,
                4,
                vec![job("alice:t1", 0), high("bob:t2", 0)],
                vec![("alice:t1", 83), ("bob:t2", 1417)],
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
    fn the_reference_differences_hold() {
        // Vector 12.
        let vms = BTreeMap::from([(key("alice:vmt"), 2), (key("bob:other"), 1), (key("bob:vmt"), 2)]);
        let desired = BTreeMap::from([
            (key("alice:vmt"), ALL / 5),
            (key("bob:other"), ALL * 2 / 5),
            (key("dave:x"), ALL / 5),
            (key("carol:y"), ALL / 5),
        ]);
        let diff = diff(&vms, &desired, |key| key.user == "alice");
        let tenths = |of| diff[&key(of)] * 10 / ALL;
        assert_eq!(
            ["alice:vmt", "bob:other", "bob:vmt", "carol:y", "dave:x"].map(tenths),
            [2, -2, 10, -2, -2]
        );
    }

    #[test]
    fn what_a_limited_user_lacks_goes_to_the_others() {
        let vms = BTreeMap::from([(key("alice:t"), 1), (key("bob:t"), 3)]);
        let desired = BTreeMap::from([(key("alice:t"), ALL / 2), (key("bob:t"), ALL / 2)]);
        let diff = diff(&vms, &desired, |key| key.user == "alice");
        assert_eq!((diff[&key("alice:t")], diff[&key("bob:t")]), (-ALL / 4, 0));
    }
}
