//! One cycle of the scheduler: which VMs to boot for whom, and why other jobs wait.
//!
//! It differs from the reference where that starves or overruns somebody: high-priority jobs which
//! cannot run are passed over instead of stopping every normal job, hold back normal jobs only where
//! they could run themselves, and respect an administrator's limit; nothing boots for a job that an
//! idle or booting VM will take; and nobody is held because clouds are disabled.
//! Source: cloud-scheduler 1.x, `cloud_scheduler`, `scheduler_fair_share`.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use pileus_model::{Job, Name, Time, View, VmState};

use super::{
    Key, Waiting,
    hash::{HashMap, HashSet},
    room::{Needs, Room},
    shares,
    survey::{
        BANNED, BLOCKED, DISABLED, DRAINED, NO_CLOUD, NO_TARGET, Queue, Shares, Survey, TOO_LARGE, first_come,
    },
    targets::Which,
};
use crate::config::{Algorithm, SchedulerConfig};

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

const FULL: &str = "every cloud that could run it is full";
const CLOSED: &str = "no cloud that could run it accepts VMs now";
const BOOTING: &str = "as many VMs as allowed are booting";
const SHARE: &str = "other users are further below their share";
const HIGH: &str = "high-priority jobs go first";
const AHEAD: &str = "an earlier job of its type waits for room";

/// What to boot in this cycle: at most one VM for each user and type, and for each user one whose
/// job has high priority.
pub fn plan(view: &View, now: Time, config: &SchedulerConfig) -> Vec<Intent> {
    plan_without(view, now, config, &Default::default())
}

/// The same without the `closed` clouds, which are in back-off.
pub fn plan_without(
    view: &View,
    now: Time,
    config: &SchedulerConfig,
    closed: &std::collections::HashSet<Name>,
) -> Vec<Intent> {
    cycle(view, now, config, closed, |cycle| cycle.finish())
}

/// One cycle, and what `look` makes of it.
pub fn cycle<T>(
    view: &View,
    now: Time,
    config: &SchedulerConfig,
    closed: &std::collections::HashSet<Name>,
    look: impl FnOnce(Cycle<'_, '_>) -> T,
) -> T {
    let survey = Survey::new(view, now, config, closed);
    let starting = view.vms.values().filter(|vm| vm.state == VmState::Starting).count();
    let may_boot = config.max_starting_vms;
    let reasons = survey.hopeless.iter().map(|(job, reason)| (*job, Some((*reason).to_owned()))).collect();
    let mut cycle = Cycle {
        survey: &survey,
        rooms: survey.rooms.clone(),
        user_boots: HashMap::default(),
        type_boots: HashMap::default(),
        may_boot: may_boot.map(|most| usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(starting)),
        full: HashSet::default(),
        reserved: BTreeSet::new(),
        boots: Vec::new(),
        booted: HashSet::default(),
        reasons,
        shares: Shares::default(),
    };
    match config.algorithm {
        Algorithm::Fairshare => {
            cycle.high_priority();
            cycle.normal(config);
        }
        Algorithm::Fifo => cycle.fifo(),
    }
    look(cycle)
}

/// What a cycle finds out, step by step.
pub struct Cycle<'r, 'a> {
    pub survey: &'r Survey<'a>,
    /// As it found them once it had served high priority; empty where they do not count.
    pub shares: Shares<'a>,
    /// What is planned for each user over all projects, as an administrator limits them.
    user_boots: HashMap<&'a str, u32>,
    /// What is planned for each key.
    type_boots: HashMap<Key<'a>, u32>,
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
    fn high_priority(&mut self) {
        let mut users: BTreeMap<_, Vec<&Waiting<'a>>> = BTreeMap::new();
        for queue in &self.survey.queues {
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
                let mut others = others.filter(|waiting| self.at_type_limit(waiting.job).is_none());
                let sorts: HashSet<_> =
                    others.by_ref().map(|waiting| (waiting.needs, waiting.boots)).collect();
                for (needs, boots) in sorts {
                    self.reserved.extend(self.survey.homes(&needs, boots));
                }
            }
            if !booted {
                self.reasons.push((jobs[0].job, Some(waits)));
            }
        }
    }

    /// Normal jobs, one VM for each user and type: who is at or below the share first; others where
    /// nobody who is can use the room.
    fn normal(&mut self, config: &SchedulerConfig) {
        let queues = &self.survey.queues;
        let shares = self.survey.shares(config, |key| self.limit_of(key).is_some());
        let diff = &shares.diff;
        // A key with waiting jobs and neither VM nor share is one whose user's share is spent on
        // another type: it stands behind, as if it were a whole above.
        let above = |queue: &Queue<'_>| diff.get(&queue.key).copied().unwrap_or(shares::ALL);
        // Among equals whoever has fewer VMs, so that a last slot goes where it weighs more.
        let has = |queue: &Queue<'_>| self.survey.held.get(&queue.key).map_or(0, |held| held.vms);
        let ranked = |queue| {
            let first = Queue::normal(queue).next()?;
            Some(((above(queue), has(queue), first_come(first)), queue, first))
        };
        let mut order: Vec<_> = queues.iter().filter_map(ranked).collect();
        order.sort_by_key(|(rank, ..)| *rank);
        let split = order.partition_point(|((above, ..), ..)| *above <= 0);
        for (_, queue, first) in &order[..split] {
            self.try_queue(queue, first);
        }
        // Users who still have a claim on the room.
        let mut claims = BTreeSet::new();
        for (_, queue, _) in &order[..split] {
            if self.limit_of(queue.key).is_none() && self.claims(queue) {
                claims.insert(queue.key.owner());
            }
        }
        for (_, queue, first) in &order[split..] {
            match claims.first() {
                Some(owner) if claims.len() > 1 || *owner != queue.key.owner() => {
                    self.reasons.push((first.job, Some(SHARE.into())));
                }
                _ => self.try_queue(queue, first),
            }
        }
        self.shares = shares;
    }

    /// What the cycle found out of a job, as far as it looked at it.
    pub fn found(&self, id: &str) -> Option<Found<'_>> {
        let boots = self.boots.iter().find_map(|intent| match intent {
            Intent::Boot { job, cloud } if &**job == id => Some(Found::Boots(cloud)),
            _ => None,
        });
        boots.or_else(|| {
            // A job may be looked at twice; people are told the last word.
            let (_, said) = self.reasons.iter().rfind(|(job, _)| &*job.id == id)?;
            Some(Found::Waits(said.as_deref()?))
        })
    }

    /// Whether high-priority jobs wait for this place.
    pub fn is_reserved(&self, place: usize) -> bool {
        self.reserved.contains(&place)
    }

    /// The oldest jobs, as many as there is room for. One that finds none keeps younger ones from
    /// where it could run.
    fn fifo(&mut self) {
        let survey = self.survey;
        let mut jobs: Vec<_> = survey.queues.iter().flat_map(|queue| &queue.jobs).collect();
        jobs.sort_by_key(|waiting| waiting.order);
        let mut not_there = BTreeSet::new();
        let mut waits = HashSet::default();
        for waiting in jobs {
            if not_there.len() == self.rooms.len() {
                break;
            }
            let why = if let Some(limit) = self.at_limit(&waiting.job.user) {
                user_limit(limit)
            } else if let Some(limit) = self.at_type_limit(waiting.job) {
                type_limit(limit)
            } else if self.may_boot == Some(0) {
                self.reasons.push((waiting.job, Some(BOOTING.into())));
                break;
            } else if waits.contains(&(waiting.needs, waiting.boots)) {
                continue;
            } else if let Some(place) = self.home(waiting, &not_there) {
                self.boot(waiting, place);
                continue;
            } else {
                let why = self.why(waiting, &BTreeSet::new()).to_owned();
                waits.insert((waiting.needs, waiting.boots));
                not_there.extend(survey.homes(&waiting.needs, waiting.boots));
                why
            };
            self.reasons.push((waiting.job, Some(why)));
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
            return (false, user_limit(limit));
        }
        if self.may_boot == Some(0) {
            return (false, BOOTING.into());
        }
        let mut not_there = Cow::Borrowed(reserved);
        let mut tried = HashSet::default();
        let mut limited = HashSet::default();
        let mut waits: Option<String> = None;
        for waiting in jobs {
            let vm_type = &*waiting.job.vm_type;
            if limited.contains(vm_type) || !tried.insert((waiting.needs, waiting.boots)) {
                continue;
            }
            if let Some(limit) = self.at_type_limit(waiting.job) {
                tried.remove(&(waiting.needs, waiting.boots));
                limited.insert(vm_type);
                waits.get_or_insert_with(|| type_limit(limit));
                continue;
            }
            if let Some(place) = self.home(waiting, &not_there) {
                self.boot(waiting, place);
                return (true, String::new());
            }
            waits.get_or_insert_with(|| self.why(waiting, reserved).into());
            not_there.to_mut().extend(self.survey.homes(&waiting.needs, waiting.boots));
            if tried.len() == TRIES || not_there.len() == self.rooms.len() {
                break;
            }
        }
        (false, waits.unwrap_or_else(|| AHEAD.into()))
    }

    /// The best cloud for the job now.
    fn home(&mut self, waiting: &Waiting<'a>, not_there: &BTreeSet<usize>) -> Option<usize> {
        if self.full.contains(&(waiting.needs, waiting.boots)) {
            return None;
        }
        let places = self.survey.targets.places(waiting.boots);
        let scores = places.filter_map(|place| self.rooms[place].score(&waiting.needs, place));
        let mut fits = false;
        let best = scores.inspect(|_| fits = true).filter(|score| !not_there.contains(&score.place)).min();
        if !fits {
            self.full.insert((waiting.needs, waiting.boots));
        }
        best.map(|score| score.place)
    }

    fn why(&self, waiting: &Waiting<'_>, reserved: &BTreeSet<usize>) -> &'static str {
        let homes: Vec<_> = self.survey.homes(&waiting.needs, waiting.boots).collect();
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
        *self.user_boots.entry(&*waiting.job.user).or_default() += 1;
        *self.type_boots.entry(Key::of_job(waiting.job)).or_default() += 1;
        self.may_boot = self.may_boot.map(|left| left.saturating_sub(1));
        self.booted.insert(&waiting.job.id);
        let cloud = self.rooms[place].cloud.name.clone();
        self.boots.push(Intent::Boot { job: waiting.job.id.clone(), cloud });
    }

    /// The user's limit, where it is reached.
    fn at_limit(&self, user: &str) -> Option<u32> {
        self.survey.at_limit(user, self.user_boots.get(user).copied().unwrap_or(0))
    }

    /// The user's own limit for the job's type, where it is reached.
    fn at_type_limit(&self, job: &Job) -> Option<u32> {
        if self.survey.type_limits.is_empty() {
            return None;
        }
        let key = Key::of_job(job);
        self.survey.at_type_limit(key, self.type_boots.get(&key).copied().unwrap_or(0))
    }

    /// The limit that the key has reached, of whichever sort.
    fn limit_of(&self, key: Key<'_>) -> Option<u32> {
        let more = self.type_boots.get(&key).copied().unwrap_or(0);
        self.at_limit(key.user).or_else(|| self.survey.at_type_limit(key, more))
    }

    /// The intents: VMs, then the reasons that changed.
    fn finish(self) -> Vec<Intent> {
        let told: HashSet<&str> = self.reasons.iter().map(|(job, _)| &*job.id).collect();
        // Who merely waits for others of the same user and type needs no reason; but one that is
        // no longer true must go.
        let quiet = self.survey.queues.iter().flat_map(|queue| &queue.jobs).filter(|waiting| waiting.told);
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

/// What a cycle found out of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'c> {
    /// A VM is booted for it on this cloud.
    Boots(&'c str),
    /// It waits, for this reason.
    Waits(&'c str),
}

const USER_LIMIT: &str = "its user has reached the limit of ";
const TYPE_LIMIT: &str = "its user's own limit for its type of VM is reached: ";

fn user_limit(limit: u32) -> String {
    format!("{USER_LIMIT}{limit} VMs")
}

fn type_limit(limit: u32) -> String {
    format!("{TYPE_LIMIT}{limit} VMs")
}

/// Whether a reason came from here; others (how a VM was lost) stay until there is a better one.
fn is_ours(reason: &str) -> bool {
    let fixed = [
        NO_TARGET, TOO_LARGE, NO_CLOUD, DISABLED, DRAINED, BLOCKED, BANNED, FULL, CLOSED, BOOTING, SHARE,
        HIGH, AHEAD,
    ];
    fixed.contains(&reason) || reason.starts_with(USER_LIMIT) || reason.starts_with(TYPE_LIMIT)
}

#[cfg(test)]
pub mod tests;
