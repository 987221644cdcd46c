use super::*;

const UNITS: [u64; 4] = [1000, 60_000, 3_600_000, 86_400_000];

impl Buckets {
    fn took(&self, key: Key, limits: u64, now: Monotonic) -> Result<(), (usize, u64)> {
        self.take(key, limits, now, |_, _| {})
    }
}

/// The moment so many milliseconds after the clock's origin.
fn at_ms(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
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
    type Rows<'a> = &'a [(u64, u64)];
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
            let found = buckets.took(key, 1, at_ms(1_000_000 + at)).map_or_else(|(_, wait)| wait, |()| 0);
            assert_eq!(found, *wait, "{value} per {unit_ms} ms, row {index}: at {at}");
        }
    }
}

#[test]
fn remaining_counts_what_has_drained() {
    let buckets = buckets(&[(2, 60_000)], 10);
    let key = buckets.key("ann");
    let rows = [(0, 1), (30_000, 1), (60_000, 1), (60_000, 0)];
    assert_eq!(buckets.remaining(key, at_ms(0)), [(2, 0)]);
    for (at, remaining) in rows {
        buckets.took(key, 1, at_ms(at)).unwrap();
        assert_eq!(buckets.remaining(key, at_ms(at))[0].0, remaining, "at {at}");
    }
    assert_eq!(buckets.remaining(key, at_ms(61_000)), [(0, 29_000)]);
    assert_eq!(buckets.remaining(key, at_ms(90_000)), [(1, 0)], "read, not remembered");
    assert_eq!(buckets.remaining(key, at_ms(1_000_000)), [(2, 0)]);
}

#[test]
fn every_limit_admits_exactly_its_value() {
    for unit_ms in UNITS {
        for value in 1..=300 {
            let buckets = buckets(&[(value, unit_ms)], 10);
            let key = buckets.key("ann");
            let now = at_ms(1_700_000_000_123);
            let admitted = (0..value + 5).filter(|_| buckets.took(key, 1, now).is_ok()).count() as u64;
            assert_eq!(admitted, value, "{value} per {unit_ms} ms");
            // One slot comes back after each part of the unit, and not a millisecond earlier.
            let wait = buckets.took(key, 1, now).unwrap_err().1;
            assert_eq!(wait, unit_ms.div_ceil(value), "{value} per {unit_ms} ms");
            let later = now.after(Duration::from_millis(wait));
            assert!(buckets.took(key, 1, Monotonic(later.0 - 1)).is_err(), "{value} per {unit_ms} ms");
            assert!(buckets.took(key, 1, later).is_ok(), "{value} per {unit_ms} ms");
        }
    }
    let largest = buckets(&[(u32::MAX.into(), 86_400_000)], 10);
    assert!(largest.took(largest.key("ann"), 1, Monotonic(u64::MAX)).is_ok());
}

#[test]
fn a_refusal_costs_nothing_and_the_longest_wait_is_told() {
    let buckets = buckets(&[(10, 60_000), (5, 60_000)], 10);
    let key = buckets.key("ann");
    for _ in 0..5 {
        buckets.took(key, 0b11, at_ms(0)).unwrap();
    }
    for _ in 0..20 {
        assert_eq!(buckets.took(key, 0b11, at_ms(0)), Err((1, 12_000)));
    }
    // Nova charged the first limit for each refusal of the second: here five are left.
    for _ in 0..5 {
        buckets.took(key, 0b01, at_ms(0)).unwrap();
    }
    assert_eq!(buckets.took(key, 0b01, at_ms(0)), Err((0, 6000)));
    assert_eq!(buckets.took(key, 0b11, at_ms(0)), Err((1, 12_000)));
    assert_eq!(buckets.took(buckets.key("bob"), 0b11, at_ms(0)), Ok(()));
}

#[test]
fn what_is_charged_afterwards_is_paid_in_full() {
    let buckets = buckets(&[(2, 60_000), (9, 1000)], 10);
    let key = buckets.key("ann");
    assert_eq!(buckets.refused(key, 0b11, at_ms(0)), None);
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
        buckets.charge(key, 0b01, at_ms(at), |at, left| told.push((at, left.requests())));
        assert_eq!(told, [(0, left)], "row {index}");
        assert!(buckets.are_charged() && !buckets.are_empty(at_ms(empty - 1)), "row {index}");
        assert_eq!(buckets.refused(key, 0b11, at_ms(at)), wait.map(|wait| (0, wait)), "row {index}");
    }
    assert_eq!(buckets.refused(key, 0b10, at_ms(90_000)), None, "another limit");
    assert_eq!(buckets.refused(buckets.key("bob"), 0b11, at_ms(90_000)), None, "another caller");
    assert_eq!(buckets.refused(key, 0b11, at_ms(120_000)), None);
    assert!(buckets.are_charged() && buckets.are_empty(at_ms(150_000)) && !buckets.are_charged());
}

#[test]
fn what_is_left_is_told_with_the_answer() {
    let buckets = buckets(&[(10, 60_000), (2, 1000)], 10);
    let key = buckets.key("ann");
    let take = |limits: u64, at: u64| {
        let mut told = Vec::new();
        let answer = buckets.take(key, limits, at_ms(at), |index, left| {
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
    let fill = |names: std::ops::Range<usize>, at: u64| {
        for name in names {
            buckets.took(buckets.key(("user", name, "project")), 0b111, at_ms(at)).unwrap();
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
        buckets.took(buckets.key(name), 1, at_ms(0)).unwrap();
    }
    let busy = buckets.key("busy");
    (0..10).for_each(|_| buckets.took(busy, 1, at_ms(500)).unwrap());
    buckets.took(buckets.key("new"), 1, at_ms(590)).unwrap();
    assert_eq!(buckets.len(), 2);
    assert!(buckets.took(busy, 1, at_ms(590)).is_err());
}

#[test]
fn a_flood_of_names_neither_grows_nor_frees_a_full_bucket() {
    for max_keys in [1, 2, 50, 5000, 20_000] {
        let buckets = buckets(&[(10, 86_400_000), (1000, 60_000)], max_keys);
        let attacker = buckets.key("mallory");
        (0..10).for_each(|_| buckets.took(attacker, 0b11, at_ms(0)).unwrap());
        for name in 0..3 * max_keys {
            // As many names as fit three times over, and each of them asks five times.
            (0..5).for_each(|_| buckets.took(buckets.key(name), 0b11, at_ms(1)).unwrap());
            assert!(max_keys < 1000 || name % 1000 != 0 || buckets.len() <= max_keys + 64);
        }
        assert!(buckets.len() <= max_keys + 64, "{} of {max_keys}", buckets.len());
        if max_keys > 1 {
            assert!(buckets.took(attacker, 0b11, at_ms(1)).is_err(), "free again with {max_keys}");
        }
    }
}
