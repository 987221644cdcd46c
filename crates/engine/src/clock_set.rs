//! Moves the times of the state with the engine's time, so that no age changes.

use std::sync::Arc;

use pileus_model::{Job, JobIndex, Name, OrdMap, Time, View, Vm};

use crate::timeline::moved;

/// Moves times by `by_ms` milliseconds. `since`: earlier times of what has happened stay; `None`: all move.
/// `now`: the new time; nothing has happened after it.
pub fn move_times(view: &mut View, by_ms: i64, since: Option<Time>, now: Time) {
    let step = Step { by_ms, since, now };
    view.jobs = each(&view.jobs, |job: &mut Job| step.job(job));
    view.index = JobIndex::of(view.jobs.values());
    view.vms = each(&view.vms, |vm: &mut Vm| step.vm(vm));
    view.keys = each(&view.keys, |key| step.past(&mut key.since));
    view.tokens = each(&view.tokens, |token| step.past(&mut token.created));
    view.proxies = each(&view.proxies, |proxies| {
        for which in pileus_model::ProxyUse::ALL {
            if let Some(proxy) = proxies.get_mut(which) {
                step.past(&mut proxy.renewed);
            }
        }
    });
    view.images = each(&view.images, |images| {
        images
            .values_mut()
            .filter_map(|record| record.failure.as_mut())
            .for_each(|failure| step.past(&mut failure.at));
    });
}

struct Step {
    by_ms: i64,
    since: Option<Time>,
    now: Time,
}

impl Step {
    /// An end that lies ahead stays as far ahead, and one that is over stays over.
    fn end(&self, time: &mut Time) {
        *time = moved(*time, self.by_ms);
    }

    fn past(&self, time: &mut Time) {
        if self.since.is_none_or(|since| *time >= since) {
            *time = moved(*time, self.by_ms);
        }
        *time = self.now.min(*time);
    }

    fn job(&self, job: &mut Job) {
        self.past(&mut job.submitted);
        job.started.iter_mut().chain(&mut job.finished).for_each(|time| self.past(time));
        job.failures.iter_mut().for_each(|failure| self.past(&mut failure.at));
        let blocked = job.blocked_clouds.iter_mut().map(|blocked| &mut blocked.until);
        blocked.chain(&mut job.banned_until).for_each(|until| self.end(until));
    }

    fn vm(&self, vm: &mut Vm) {
        self.past(&mut vm.created);
        self.past(&mut vm.changed);
        let others = vm.running.iter_mut().chain(&mut vm.registered).chain(&mut vm.idle_since);
        others.for_each(|time| self.past(time));
    }
}

fn each<T: Clone>(map: &OrdMap<Name, Arc<T>>, change: impl Fn(&mut T)) -> OrdMap<Name, Arc<T>> {
    let changed = map.iter().map(|(name, it)| {
        let mut it = T::clone(it);
        change(&mut it);
        (name.clone(), Arc::new(it))
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_over_stays_over() {
        // The time, an end, the step, and the end afterwards.
        let cases = [
            (1000, 900, -500, 400),
            (1000, 1100, -500, 600),
            (1000, 900, 500, 1400),
            (1000, 1100, 500, 1600),
        ];
        for (before, until, by_ms, after) in cases {
            let step = Step { by_ms, since: None, now: moved(Time(before), by_ms) };
            let mut end = Time(until);
            step.end(&mut end);
            assert_eq!(
                (end, end > step.now),
                (Time(after), until > before),
                "{until} at {before} by {by_ms}"
            );
        }
    }
}
