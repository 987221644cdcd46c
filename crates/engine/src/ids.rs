//! Names that the engine chooses: UUIDs of version 7 that only ever grow.
//!
//! `Uuid::now_v7` would ask the system's clock and start over in every process. Jobs and VMs sort
//! by creation because of their ids, so these go on from the newest one in the state, even when the
//! clock was set back in between.
//! Source: RFC 9562, section 6.2, method 1 (a counter in `rand_a`).

use pileus_model::{Name, Time, View};
use uuid::{Builder, Uuid};

/// Ids per millisecond before the next one is borrowed: `rand_a` has 12 bits.
const PER_MILLISECOND: u16 = 1 << 12;

/// Longest prefix of a VM's id, in bytes: with what follows, 63, the most that DNS takes as one label.
const PREFIX_MAX: usize = 63 - 1 - 36;

/// The generator. There is one, in the writer.
#[derive(Debug, Default)]
pub struct Ids {
    /// Milliseconds since the Unix epoch in the last id.
    millis: u64,
    /// The counter in the last id.
    count: u16,
}

impl Ids {
    /// Goes on after every job and VM in `view`.
    pub fn after(view: &View) -> Self {
        let ids = view.jobs.keys().chain(view.vms.keys());
        Self { millis: ids.filter_map(|id| millis_in(id)).max().map_or(0, |millis| millis + 1), count: 0 }
    }

    /// The id of a job.
    pub fn job(&mut self, now: Time) -> Name {
        self.next(now).hyphenated().to_string().into()
    }

    /// The id of a VM: the start of its cloud's name, as far as a host name may hold it, then what makes it
    /// unique. At most 63 bytes.
    pub fn vm(&mut self, cloud: &str, now: Time) -> Name {
        let keep = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-');
        let cloud = cloud.chars().map(|c| c.to_ascii_lowercase()).map(|c| if keep(c) { c } else { '-' });
        format!("{}-{}", cloud.take(PREFIX_MAX).collect::<String>(), self.next(now).hyphenated()).into()
    }

    fn next(&mut self, now: Time) -> Uuid {
        let now = u64::try_from(now.0).unwrap_or(0);
        if now > self.millis {
            (self.millis, self.count) = (now, 0);
        } else {
            self.count += 1;
            if self.count == PER_MILLISECOND {
                (self.millis, self.count) = (self.millis + 1, 0);
            }
        }
        let mut random = [0; 10];
        let [high, low] = self.count.to_be_bytes();
        random[2..].copy_from_slice(&Uuid::new_v4().into_bytes()[8..]);
        (random[0], random[1]) = (high, low);
        Builder::from_unix_timestamp_millis(self.millis, &random).into_uuid()
    }
}

/// The milliseconds in an id of ours; `None` for ids of other sources.
fn millis_in(id: &str) -> Option<u64> {
    let uuid = Uuid::parse_str(id.get(id.len().checked_sub(36)?..)?).ok()?;
    let (secs, nanos) = uuid.get_timestamp()?.to_unix();
    (uuid.get_version_num() == 7).then(|| secs * 1000 + u64::from(nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pileus_model::Job;

    use super::*;
    use crate::testing;

    #[test]
    fn ids_grow_whatever_the_clock_does() {
        let mut ids = Ids::default();
        let times = [5_000, 5_000, 4_000, 5_001, 0, 9_000].into_iter().chain([9_000; 10_000]);
        let made: Vec<_> = times.map(|at| ids.job(Time(at))).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn ids_go_on_after_a_restart_with_an_earlier_clock() {
        let mut ids = Ids::default();
        let vm = ids.vm("A", Time(7_000_000));
        let mut view = View::default();
        let job = Job { id: vm.clone(), ..testing::job("j") };
        view.jobs.insert(vm.clone(), Arc::new(job));
        assert!(Ids::after(&view).vm("A", Time(1)) > vm);
    }

    #[test]
    fn a_vm_is_named_after_its_cloud() {
        let (long, wide) = ("long".repeat(50), "ü".repeat(200));
        let (cut, dashes) = (format!("{}lo-", "long".repeat(6)), "-".repeat(27));
        let cases = [
            ("Alpha", "alpha-"),
            ("a_b.c/d", "a-b-c-d-"),
            ("Ütt 1", "-tt-1-"),
            ("x-9", "x-9-"),
            (&*long, &*cut),
            (&*wide, &*dashes),
        ];
        for (cloud, prefix) in cases {
            let id = Ids::default().vm(cloud, Time(1));
            assert_eq!((&id[..prefix.len()], id.len()), (prefix, prefix.len() + 36), "{cloud}");
            assert!(id.len() <= 63, "{cloud}");
        }
    }
}
