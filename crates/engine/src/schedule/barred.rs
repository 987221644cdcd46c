//! Where nothing is booted for a while: clouds in which VMs of a job, or of an image, did not come up.

use pileus_model::{ImageRecord, Job, Time, View};

use super::{
    hash::HashMap,
    targets::{Targets, Which},
};
use crate::config::SchedulerConfig;

/// What is barred now.
#[derive(Debug)]
pub struct Barred<'a> {
    now: Time,
    /// The places of the clouds in which an image fails, in ascending order.
    images: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Barred<'a> {
    /// Nothing.
    pub fn nothing() -> Self {
        Self { now: Time(i64::MAX), images: HashMap::default() }
    }

    pub fn at(now: Time, view: &'a View, targets: &Targets<'a>, config: &SchedulerConfig) -> Self {
        let mut images: HashMap<&str, Vec<usize>> = HashMap::default();
        for (cloud, records) in view.images.iter().filter(|_| config.ban_tracking) {
            let Some(place) = targets.cloud(cloud) else { continue };
            for (image, _) in records.iter().filter(|(_, record)| fails(record, now, config)) {
                images.entry(image).or_default().push(place);
            }
        }
        images.values_mut().for_each(|places| places.sort_unstable());
        Self { now, images }
    }

    /// The list without what is barred for the job.
    pub fn but_for(&self, job: &'a Job, which: Which, targets: &mut Targets<'a>) -> Which {
        let image = job.image.as_ref().and_then(|image| self.images.get(&**image));
        if job.blocked_clouds.is_empty() && image.is_none() {
            return which;
        }
        let blocked = job.blocked_clouds.iter().filter(|blocked| blocked.until > self.now);
        let mut places: Vec<_> = blocked.filter_map(|blocked| targets.cloud(&blocked.cloud)).collect();
        places.extend(image.into_iter().flatten());
        places.sort_unstable();
        places.dedup();
        targets.without(which, places)
    }

    /// Whether nothing at all is booted for the job.
    pub fn bans(&self, job: &Job) -> bool {
        job.banned_until.is_some_and(|until| until > self.now)
    }
}

/// Whether an image failed so often in a cloud that it is not tried there. After the time-out it is
/// tried once; if that fails, too, it is barred anew.
fn fails(record: &ImageRecord, now: Time, config: &SchedulerConfig) -> bool {
    let (tried, failed) = (record.boots.len(), record.boots.iter().filter(|up| !**up).count());
    let enough = usize::try_from(config.ban_min_track.get()).unwrap_or(usize::MAX);
    let rate = usize::try_from(config.ban_failrate_threshold_percent.get()).unwrap_or(usize::MAX);
    let late = record.failure.as_ref().is_some_and(|last| now.since(last.at) < config.job_ban_timeout());
    tried >= enough && failed.saturating_mul(100) >= rate.saturating_mul(tried) && late
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pileus_model::{BlockedCloud, BootFailure, BootFault};

    use super::*;
    use crate::testing::{self, cloud, job};

    #[test]
    fn clouds_are_barred_for_an_image_that_fails_in_them() {
        let record = |boots: &[bool]| {
            let failure = BootFailure {
                fault: BootFault::NotBooted,
                detail: String::new(),
                cloud: "d".into(),
                at: Time(0),
            };
            ImageRecord { boots: boots.into(), failure: Some(failure) }
        };
        let on = |percent: u32| SchedulerConfig {
            ban_tracking: true,
            ban_failrate_threshold_percent: percent.try_into().unwrap(),
            ..SchedulerConfig::default()
        };
        let off = SchedulerConfig::default();
        let bad = [false; 5];
        let mixed = [true, false, false, false, true, false, false, false];
        // what it shows, boots, settings, seconds later, barred
        let cases = [
            ("five failures of five", &bad[..], on(100), 3599, true),
            ("too few", &bad[..4], on(100), 0, false),
            ("one good one", &mixed[..], on(100), 0, false),
            ("three of four are bad, as may be", &mixed[..], on(76), 0, false),
            ("three of four are bad, which is too much", &mixed[..], on(75), 0, true),
            ("not watched", &bad[..], off, 0, false),
            ("an hour later", &bad[..], on(100), 3600, false),
        ];
        for (what, boots, config, later_s, wanted) in cases {
            let mut view = testing::view([cloud("c", 1), cloud("d", 1)]);
            view.images.insert("d".into(), Arc::new([("i".into(), record(boots))].into()));
            let mut targets = Targets::new(&view);
            let barred = Barred::at(Time(later_s * 1000), &view, &targets, &config);
            let mut it = job("1");
            it.image = Some("i".into());
            let which = targets.of(&[]);
            let left = barred.but_for(&it, which, &mut targets);
            assert_eq!(targets.allow(left, 1), !wanted, "{what}");
            assert!(targets.allow(left, 0), "{what}: elsewhere it is tried");
        }
    }

    #[test]
    fn a_job_is_let_alone_until_its_time_is_over() {
        let view = testing::view([cloud("c", 1), cloud("d", 1)]);
        let it = Job {
            blocked_clouds: vec![BlockedCloud { cloud: "d".into(), until: Time(9) }],
            banned_until: Some(Time(5)),
            ..job("1")
        };
        for (now, blocked, banned) in [(4, true, true), (5, true, false), (9, false, false)] {
            let mut targets = Targets::new(&view);
            let barred = Barred::at(Time(now), &view, &targets, &SchedulerConfig::default());
            let which = targets.of(&[]);
            let left = barred.but_for(&it, which, &mut targets);
            assert_eq!((!targets.allow(left, 1), barred.bans(&it)), (blocked, banned), "at {now}");
        }
    }
}
