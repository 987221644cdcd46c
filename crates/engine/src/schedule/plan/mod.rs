//! One cycle of the scheduler: which VMs to boot for whom, and why other jobs wait.
//!
//! It differs from the reference where that starves or overruns somebody: high-priority jobs which
//! cannot run are passed over instead of stopping every normal job, hold back normal jobs only where
//! they could run themselves, and respect an administrator's limit; nothing boots for a job that an
//! idle or booting VM will take; and nobody is held because clouds are disabled.
//! Source: cloud-scheduler 1.x, `cloud_scheduler`, `scheduler_fair_share`.

pub mod shown;

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use pileus_model::{Job, Name, Time, View, VmState};

use super::{
    Group, Jobs, Key, Rank, Waiting, groups,
    room::{Needs, Room},
    shares::{self, Demand},
    targets::{Targets, Which},
    will_take,
};
use crate::config::SchedulerConfig;

/// Something that shall be done.
#[allow(missing_docs, reason = "a variant says what its fields are")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Boot a VM of this job's size in this cloud.
    Boot { job: Name, cloud: Name },
    /// Tell people why this job waits; `None`: it is merely not its turn yet.
    Reason { job: Name, reason: Option<String> },
}

/// Most reasons in one cycle; the next cycle tells the others.
const REASONS_MAX: usize = 1000;

/// How many sorts of job (size and targets) of one user and type are tried in a cycle.
const TRIES: usize = 64;

const NO_TARGET: &str = "none of its target clouds exists";
const TOO_LARGE: &str = "no cloud where it may run is large enough";
const NO_CLOUD: &str = "there is no cloud";
const DISABLED: &str = "every cloud that could run it is disabled";
const FULL: &str = "every cloud that could run it is full";
const CLOSED: &str = "no cloud that could run it accepts VMs now";
const BOOTING: &str = "as many VMs as allowed are booting";
const SHARE: &str = "other users are further below their share";
const HIGH: &str = "high-priority jobs go first";
const AHEAD: &str = "an earlier job of its type waits for room";

/// What to boot in this cycle: at most one VM for each user and type, and for each user one whose
/// job has high priority.
///
/// `now` is not used yet by any algorithm; it is here so that one which needs it is no other call.
pub fn plan(view: &View, now: Time, config: &SchedulerConfig) -> Vec<Intent> {
    plan_without(view, now, config, &HashSet::new())
}

/// The same without the `closed` clouds, which are in back-off.
pub fn plan_without(view: &View, _: Time, config: &SchedulerConfig, closed: &HashSet<Name>) -> Vec<Intent> {
    let mut targets = Targets::new(view);
    let mut groups = groups(view, &mut targets, Jobs::All, will_take);
    let rooms = view.clouds_in_order().into_iter();
    let rooms: Vec<_> = rooms.map(|cloud| Room::of(cloud, closed.contains(&cloud.name))).collect();
    let mut verdicts = Verdicts { targets: &targets, rooms: &rooms, known: HashMap::new(), last: None };
    let mut reasons = Vec::new();
    let mut queues: Vec<Queue<'_>> = groups
        .iter_mut()
        .filter_map(|(key, group)| queue(*key, group, &mut verdicts, &mut reasons))
        .collect();
    // The oldest of the best jobs first, so that nothing depends on how a map is ordered.
    queues.sort_by_key(|queue| first_come(&queue.jobs[0]));
    let mut user_vms: HashMap<&str, u32> = HashMap::new();
    for vm in view.vms.values() {
        *user_vms.entry(&*vm.user).or_default() += 1;
    }
    let starting = view.vms.values().filter(|vm| vm.state == VmState::Starting).count();
    let vms = groups.iter().filter(|(_, group)| group.vms > 0);
    let mut cycle = Cycle {
        view,
        targets: &targets,
        vms: vms.map(|(key, group)| (*key, group.vms)).collect(),
        user_vms,
        may_boot: config
            .max_starting_vms
            .map(|most| usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(starting)),
        rooms,
        full: HashSet::new(),
        reserved: BTreeSet::new(),
        boots: Vec::new(),
        booted: HashSet::new(),
        reasons,
    };
    cycle.high_priority(&queues);
    cycle.normal(&queues, config);
    cycle.finish(&queues)
}

/// The jobs of one key which want a VM booted, the first to be served first. Never empty.
struct Queue<'a> {
    key: Key<'a>,
    jobs: Vec<Waiting<'a>>,
}

impl<'a> Queue<'a> {
    fn normal(&self) -> impl Iterator<Item = &Waiting<'a>> {
        self.jobs.iter().filter(|waiting| !waiting.rank.0)
    }

    fn high(&self) -> impl Iterator<Item = &Waiting<'a>> {
        self.jobs.iter().take_while(|waiting| waiting.rank.0)
    }
}

fn first_come<'a>(waiting: &Waiting<'a>) -> (Reverse<Rank>, &'a str) {
    (Reverse(waiting.rank), &waiting.job.id)
}

/// Takes away the jobs that VMs of the key will take, and those that cannot run.
fn queue<'a>(
    key: Key<'a>,
    group: &mut Group<'a>,
    verdicts: &mut Verdicts<'_, 'a>,
    reasons: &mut Vec<(&'a Job, Option<String>)>,
) -> Option<Queue<'a>> {
    for waiting in group.waiting.iter().filter(|waiting| waiting.scheduled) {
        group.free.take(waiting, verdicts.targets);
    }
    let mut jobs = Vec::new();
    for waiting in group.waiting.iter().filter(|waiting| !waiting.scheduled) {
        if group.free.take(waiting, verdicts.targets).is_some() {
            continue;
        }
        match verdicts.of(waiting) {
            None => jobs.push(*waiting),
            Some(reason) => reasons.push((waiting.job, Some(reason.to_owned()))),
        }
    }
    (!jobs.is_empty()).then_some(Queue { key, jobs })
}

/// Why jobs of a sort can run nowhere, however empty the clouds are; `None`: they can.
struct Verdicts<'r, 'a> {
    targets: &'r Targets<'a>,
    rooms: &'r [Room<'a>],
    known: HashMap<(Needs, Which), Option<&'static str>>,
    /// The one before: jobs of a sort often stand together.
    last: Option<((Needs, Which), Option<&'static str>)>,
}

impl Verdicts<'_, '_> {
    fn of(&mut self, waiting: &Waiting<'_>) -> Option<&'static str> {
        let sort = (waiting.needs, waiting.targets);
        if let Some((last, verdict)) = self.last
            && last == sort
        {
            return verdict;
        }
        let (targets, rooms) = (self.targets, self.rooms);
        let verdict = *self.known.entry(sort).or_insert_with(|| {
            let mut verdict = if rooms.is_empty() { NO_CLOUD } else { NO_TARGET };
            for place in targets.places(waiting.targets) {
                match rooms[place].could(&waiting.needs) {
                    true if rooms[place].cloud.enabled() => return None,
                    true => verdict = DISABLED,
                    false if verdict == NO_TARGET => verdict = TOO_LARGE,
                    false => (),
                }
            }
            Some(verdict)
        });
        self.last = Some((sort, verdict));
        verdict
    }
}

struct Cycle<'r, 'a> {
    view: &'a View,
    targets: &'r Targets<'a>,
    /// VMs of each key, as the cycle began.
    vms: BTreeMap<Key<'a>, u32>,
    /// VMs of each user over all projects, as an administrator limits them; with those planned.
    user_vms: HashMap<&'a str, u32>,
    /// VMs that may still be booted in this cycle; `None`: no limit.
    may_boot: Option<usize>,
    rooms: Vec<Room<'a>>,
    /// Sorts of job that fit nowhere now: as room only shrinks, it stays so.
    full: HashSet<(Needs, Which)>,
    /// Places that high-priority jobs wait for.
    reserved: BTreeSet<usize>,
    boots: Vec<Intent>,
    booted: HashSet<&'a str>,
    reasons: Vec<(&'a Job, Option<String>)>,
}

impl<'a> Cycle<'_, 'a> {
    /// High-priority jobs, one VM for each user, whatever the shares.
    fn high_priority(&mut self, queues: &[Queue<'a>]) {
        let mut users: BTreeMap<_, Vec<&Waiting<'a>>> = BTreeMap::new();
        for queue in queues {
            users.entry(queue.key.owner()).or_default().extend(queue.high());
        }
        let mut users: Vec<_> = users.into_values().filter(|jobs| !jobs.is_empty()).collect();
        for jobs in &mut users {
            jobs.sort_by_key(|waiting| first_come(waiting));
        }
        users.sort_by_key(|jobs| first_come(jobs[0]));
        for jobs in users {
            let (booted, waits) = self.first_that_fits(&jobs, &BTreeSet::new());
            let others = jobs.iter().filter(|waiting| !self.booted.contains(&*waiting.job.id));
            if self.at_limit(&jobs[0].job.user).is_none() {
                // Normal jobs leave alone what these wait for.
                let sorts: HashSet<_> = others.map(|waiting| (waiting.needs, waiting.targets)).collect();
                let places = sorts.into_iter().flat_map(|(needs, targets)| self.homes(needs, targets));
                let places: Vec<_> = places.collect();
                self.reserved.extend(places);
            }
            if !booted {
                self.reasons.push((jobs[0].job, Some(waits)));
            }
        }
    }

    /// Normal jobs, one VM for each user and type: who is at or below the share first; others where
    /// nobody who is can use the room.
    fn normal(&mut self, queues: &[Queue<'a>], config: &SchedulerConfig) {
        let mut demands: Vec<_> = queues.iter().map(demand).collect();
        demands.retain(|demand| demand.high.is_some() || self.at_limit(demand.key.user).is_none());
        let desired =
            shares::desired(&demands, config.job_distribution, config.high_priority_job_weight.get());
        let diff = shares::diff(&self.vms, &desired, |key| self.at_limit(key.user).is_some());
        // A key with waiting jobs and neither VM nor share is one whose user's share is spent on
        // another type: it stands behind, as if it were a whole above.
        let above = |queue: &Queue<'_>| diff.get(&queue.key).copied().unwrap_or(shares::ALL);
        let mut order: Vec<_> =
            queues.iter().filter_map(|queue| Some((queue, queue.normal().next()?))).collect();
        // Among equals whoever has fewer VMs, so that a last slot goes where it weighs more.
        let has = |queue: &Queue<'_>| self.vms.get(&queue.key).copied().unwrap_or(0);
        order.sort_by_key(|(queue, first)| (above(queue), has(queue), first_come(first)));
        let split = order.partition_point(|(queue, _)| above(queue) <= 0);
        for (queue, first) in &order[..split] {
            self.try_queue(queue, first);
        }
        // Users who still have a claim on the room.
        let mut claims = BTreeSet::new();
        for (queue, _) in &order[..split] {
            if self.at_limit(queue.key.user).is_none() && self.claims(queue) {
                claims.insert(queue.key.owner());
            }
        }
        for (queue, first) in &order[split..] {
            match claims.first() {
                Some(owner) if claims.len() > 1 || *owner != queue.key.owner() => {
                    self.reasons.push((first.job, Some(SHARE.into())));
                }
                _ => self.try_queue(queue, first),
            }
        }
    }

    /// Whether the first job that is left in the queue fits somewhere now.
    fn claims(&mut self, queue: &Queue<'a>) -> bool {
        let left = queue.normal().find(|waiting| !self.booted.contains(&*waiting.job.id)).copied();
        left.is_some_and(|waiting| self.home(&waiting, &BTreeSet::new()).is_some())
    }

    fn try_queue(&mut self, queue: &Queue<'a>, first: &Waiting<'a>) {
        let jobs: Vec<_> = queue.normal().collect();
        let reserved = std::mem::take(&mut self.reserved);
        let (booted, waits) = self.first_that_fits(&jobs, &reserved);
        self.reserved = reserved;
        if !booted {
            self.reasons.push((first.job, Some(waits)));
        }
    }

    /// Boots for the first of these jobs of one user that fits somewhere outside `reserved`. A job
    /// does not overtake an earlier one where that could run. Else says why the first one waits.
    fn first_that_fits(&mut self, jobs: &[&Waiting<'a>], reserved: &BTreeSet<usize>) -> (bool, String) {
        if let Some(limit) = self.at_limit(&jobs[0].job.user) {
            return (false, format!("its user has reached the limit of {limit} VMs"));
        }
        if self.may_boot == Some(0) {
            return (false, BOOTING.into());
        }
        let mut not_there = Cow::Borrowed(reserved);
        let mut tried = HashSet::new();
        let mut waits = None;
        for waiting in jobs {
            if !tried.insert((waiting.needs, waiting.targets)) {
                continue;
            }
            if let Some(place) = self.home(waiting, &not_there) {
                self.boot(waiting, place);
                return (true, String::new());
            }
            waits.get_or_insert_with(|| self.why(waiting, reserved));
            not_there.to_mut().extend(self.homes(waiting.needs, waiting.targets));
            if tried.len() == TRIES || not_there.len() == self.rooms.len() {
                break;
            }
        }
        (false, waits.unwrap_or(AHEAD).into())
    }

    /// The best cloud for the job now.
    fn home(&mut self, waiting: &Waiting<'a>, not_there: &BTreeSet<usize>) -> Option<usize> {
        if self.full.contains(&(waiting.needs, waiting.targets)) {
            return None;
        }
        let places = self.targets.places(waiting.targets);
        let scores = places.filter_map(|place| self.rooms[place].score(&waiting.needs, place));
        let mut fits = false;
        let best = scores.inspect(|_| fits = true).filter(|score| !not_there.contains(&score.place)).min();
        if !fits {
            self.full.insert((waiting.needs, waiting.targets));
        }
        best.map(|score| score.place)
    }

    /// Where such a job could run if there were room.
    fn homes(&self, needs: Needs, targets: Which) -> Vec<usize> {
        let could = |place: &usize| self.rooms[*place].could(&needs) && self.rooms[*place].cloud.enabled();
        self.targets.places(targets).filter(could).collect()
    }

    fn why(&self, waiting: &Waiting<'_>, reserved: &BTreeSet<usize>) -> &'static str {
        let homes = self.homes(waiting.needs, waiting.targets);
        let fits = |place: &usize| self.rooms[*place].score(&waiting.needs, *place).is_some();
        if homes.iter().any(|place| fits(place) && reserved.contains(place)) {
            HIGH
        } else if homes.iter().all(|place| self.rooms[*place].closed) {
            CLOSED
        } else {
            FULL
        }
    }

    fn boot(&mut self, waiting: &Waiting<'a>, place: usize) {
        self.rooms[place].take(&waiting.needs);
        *self.user_vms.entry(&*waiting.job.user).or_default() += 1;
        self.may_boot = self.may_boot.map(|left| left.saturating_sub(1));
        self.booted.insert(&waiting.job.id);
        let cloud = self.rooms[place].cloud.name.clone();
        self.boots.push(Intent::Boot { job: waiting.job.id.clone(), cloud });
    }

    /// The user's limit, where it is reached.
    fn at_limit(&self, user: &str) -> Option<u32> {
        let limit = *self.view.user_limits.get(user)?;
        (self.user_vms.get(user).copied().unwrap_or(0) >= limit).then_some(limit)
    }

    /// The intents: VMs, then the reasons that changed.
    fn finish(self, queues: &[Queue<'a>]) -> Vec<Intent> {
        let told: HashSet<&str> = self.reasons.iter().map(|(job, _)| &*job.id).collect();
        // Who merely waits for others of the same user and type needs no reason; but one that is
        // no longer true must go.
        let quiet = queues.iter().flat_map(|queue| &queue.jobs).filter(|waiting| waiting.told);
        let quiet = quiet.map(|waiting| waiting.job);
        let quiet = quiet.filter(|job| job.reason.as_deref().is_some_and(is_ours));
        let quiet = quiet.filter(|job| !told.contains(&*job.id) && !self.booted.contains(&*job.id));
        let mut reasons: Vec<_> = quiet.map(|job| (job, None)).collect();
        reasons.extend(self.reasons.into_iter().filter(|(job, reason)| job.reason != *reason));
        reasons.sort_by_key(|(job, _)| &job.id);
        let reasons = reasons.into_iter().take(REASONS_MAX);
        let reasons = reasons.map(|(job, reason)| Intent::Reason { job: job.id.clone(), reason });
        self.boots.into_iter().chain(reasons).collect()
    }
}

/// Whether a reason came from here; others (how a VM was lost) stay until there is a better one.
fn is_ours(reason: &str) -> bool {
    let fixed = [NO_TARGET, TOO_LARGE, NO_CLOUD, DISABLED, FULL, CLOSED, BOOTING, SHARE, HIGH, AHEAD];
    fixed.contains(&reason) || reason.starts_with("its user has reached the limit of ")
}

fn demand<'a>(queue: &Queue<'a>) -> Demand<'a> {
    let top = |jobs: &mut dyn Iterator<Item = &Waiting<'a>>| jobs.map(|waiting| waiting.rank.1).max();
    Demand {
        key: queue.key,
        priority: top(&mut queue.jobs.iter()).unwrap_or_default(),
        high: top(&mut queue.high()),
    }
}

#[cfg(test)]
mod tests;
