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

use pileus_model::{
    Job, Name, Time, View, VmState,
    reason::{BOOTING, HOLDS, TYPE_LIMIT, USER_LIMIT},
};

use super::{
    Key, Waiting,
    hash::{HashMap, HashSet},
    lane::{InOrder, Lane, turn},
    rebalance::limited,
    release::{Reservation, is_held, reservation},
    room::{Needs, Room},
    survey::{BANNED, BLOCKED, DISABLED, DRAINED, NO_CLOUD, NO_TARGET, Queue, Shares, Survey, TOO_LARGE},
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

pub const FULL: &str = "every cloud that could run it is full";
pub const CLOSED: &str = "no cloud that could run it accepts VMs now";
pub const SHARE: &str = "other users are further below their share";
pub const HIGH: &str = "high-priority jobs go first";
pub const OLDER: &str = "older jobs go first";
pub const HELD: &str = "the room that is left is held for a job that goes before it";
pub const AHEAD: &str = "an earlier job of its type waits for room";

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
    let reservation = reservation(&survey, &survey.shares(config, |key| limited(&survey, key)), config);
    let starting = view.vms.values().filter(|vm| vm.state == VmState::Starting).count();
    let may_boot = config.max_starting_vms;
    let reasons =
        survey.hopeless.iter().map(|(lane, reason)| (lane.first.job, Some((*reason).to_owned()))).collect();
    let mut cycle = Cycle {
        survey: &survey,
        rooms: survey.rooms.clone(),
        user_boots: HashMap::default(),
        type_boots: HashMap::default(),
        may_boot: may_boot.map(|most| usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(starting)),
        full: HashSet::default(),
        reserved: BTreeSet::new(),
        held: None,
        held_for_normal: false,
        reservation,
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
    user_boots: HashMap<(&'a str, &'a str), u32>,
    /// What is planned for each key.
    type_boots: HashMap<Key<'a>, u32>,
    /// VMs that may still be booted in this cycle; `None`: no limit.
    may_boot: Option<usize>,
    rooms: Vec<Room<'a>>,
    /// Sorts of job that fit nowhere now: as room only shrinks, it stays so.
    full: HashSet<(Needs, Which)>,
    /// Places that high-priority jobs wait for, and `held`.
    reserved: BTreeSet<usize>,
    /// Place of the reservation once its job has been tried.
    held: Option<usize>,
    /// That job is a normal one.
    held_for_normal: bool,
    /// Job that room is held for.
    reservation: Option<Reservation<'a>>,
    boots: Vec<Intent>,
    booted: HashSet<&'a str>,
    reasons: Vec<(&'a Job, Option<String>)>,
}

impl<'a> Cycle<'_, 'a> {
    /// High-priority jobs, one VM for each user, whatever the shares.
    fn high_priority(&mut self) {
        let mut users: BTreeMap<_, Vec<Lane<'a>>> = BTreeMap::new();
        for queue in &self.survey.queues {
            users.entry(queue.key.owner()).or_default().extend(queue.high());
        }
        let mut users: Vec<_> = users.into_values().filter(|lanes| !lanes.is_empty()).collect();
        for lanes in &mut users {
            lanes.sort_by_key(|lane| turn(&lane.first));
        }
        users.sort_by_key(|lanes| turn(&lanes[0].first));
        for lanes in users {
            let first = lanes[0].first.job;
            let held = self.held.iter().copied().collect();
            let (booted, waits) = self.first_that_fits(&lanes, &held);
            self.tried(first, booted, waits);
            if self.at_limit(Key::of_job(first)).is_none() {
                // Normal jobs leave alone what these wait for.
                let others = lanes.iter().filter_map(|lane| self.unbooted(lane));
                let others = others.filter(|waiting| self.at_type_limit(waiting.job).is_none());
                let sorts: HashSet<_> = others.map(|waiting| (waiting.needs, waiting.boots)).collect();
                for (needs, boots) in sorts {
                    self.reserved.extend(self.survey.homes(&needs, boots));
                }
            }
        }
    }

    /// The first job of the lane for which nothing was booted in this cycle: each cycle boots for no
    /// more than the first one.
    fn unbooted(&self, lane: &Lane<'a>) -> Option<Waiting<'a>> {
        match self.booted.contains(&*lane.first.job.id) {
            true => lane.after().map(|rest| rest.first),
            false => Some(lane.first),
        }
    }

    /// Normal jobs, one VM for each user and type: who is at or below the share first; others where
    /// nobody who is can use the room.
    fn normal(&mut self, config: &SchedulerConfig) {
        let shares = self.survey.shares(config, |key| self.limit_of(key).is_some());
        let mut order = self.survey.by_share(&shares);
        // The job that room was held for takes it: else users who have given up their VMs for it might be further
        // below their share by now.
        let held =
            order.iter().position(|(_, _, first)| is_held(first) && self.place_held_for(first.job).is_some());
        if let Some(at) = held {
            let (_, queue, first) = order.remove(at);
            self.try_queue(queue, &first);
        }
        let split = order.partition_point(|(above, ..)| *above <= 0);
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

    /// `true` if high-priority jobs wait for this place.
    pub fn is_reserved(&self, place: usize) -> bool {
        self.reserved.contains(&place) && self.held != Some(place)
    }

    /// Job that room is held for, and the place where.
    pub fn reservation(&self) -> Option<&Reservation<'a>> {
        self.reservation.as_ref()
    }

    /// The oldest jobs, as many as there is room for. One that finds none keeps younger ones from
    /// where it could run.
    fn fifo(&mut self) {
        let survey = self.survey;
        let mut jobs = InOrder::of(survey.queues.iter().flat_map(|queue| &queue.lanes).copied());
        let mut not_there = BTreeSet::new();
        let mut waits = HashSet::default();
        if let Some(held) = self.reservation.filter(|it| is_held(&it.waiting)) {
            match self.home(&held.waiting, &not_there).filter(|_| self.may_boot != Some(0)) {
                Some(place) => self.boot(&held.waiting, place),
                None => {
                    not_there.insert(held.place);
                    self.held = Some(held.place);
                    self.reasons.push((held.waiting.job, Some(self.holds(held.place))));
                }
            }
        }
        while let Some(lane) = jobs.pop() {
            if not_there.len() == self.rooms.len() {
                break;
            }
            let waiting = &lane.first;
            let held = self.held.is_some() && self.place_held_for(waiting.job).is_some();
            if held || self.booted.contains(&*waiting.job.id) {
                jobs.put_rest(&lane);
                continue;
            }
            let why = if let Some(limit) = self.at_limit(Key::of_job(waiting.job)) {
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
                jobs.put_rest(&lane);
                continue;
            } else {
                let held = self.place_held_for(waiting.job).map(|place| self.holds(place));
                let why = held.unwrap_or_else(|| self.why(waiting, &BTreeSet::new()).to_owned());
                waits.insert((waiting.needs, waiting.boots));
                not_there.extend(survey.homes(&waiting.needs, waiting.boots));
                why
            };
            self.reasons.push((waiting.job, Some(why)));
        }
        let told: HashSet<&str> = self.reasons.iter().map(|(job, _)| &*job.id).collect();
        let firsts = survey.queues.iter().filter_map(|queue| self.unbooted(&queue.lanes[0]));
        let known = |id: &str| told.contains(id) || self.booted.contains(id);
        let untold = firsts.filter(|first| !known(&first.job.id));
        let why = if self.held.is_some() { HELD } else { OLDER };
        let untold: Vec<_> = untold.map(|first| (first.job, Some(why.to_owned()))).collect();
        self.reasons.extend(untold);
    }

    /// Whether the first job that is left in the queue fits somewhere now.
    fn claims(&mut self, queue: &Queue<'a>) -> bool {
        let left = queue.normal().filter_map(|lane| self.unbooted(lane)).min_by_key(turn);
        left.is_some_and(|waiting| self.home(&waiting, &BTreeSet::new()).is_some())
    }

    fn try_queue(&mut self, queue: &Queue<'a>, first: &Waiting<'a>) {
        let lanes: Vec<_> = queue.normal().copied().collect();
        let reserved = std::mem::take(&mut self.reserved);
        let (booted, waits) = self.first_that_fits(&lanes, &reserved);
        self.reserved = reserved;
        self.tried(first.job, booted, waits);
    }

    /// Boots for the first of these jobs of one user that fits somewhere outside `reserved`. A job
    /// does not overtake an earlier one where that could run. Else says why the first one waits.
    fn first_that_fits(&mut self, lanes: &[Lane<'a>], reserved: &BTreeSet<usize>) -> (bool, String) {
        if let Some(limit) = self.at_limit(Key::of_job(lanes[0].first.job)) {
            return (false, user_limit(limit));
        }
        if self.may_boot == Some(0) {
            return (false, BOOTING.into());
        }
        let mut not_there = Cow::Borrowed(reserved);
        let mut tried = HashSet::default();
        let mut limited = HashSet::default();
        let mut waits: Option<String> = None;
        for Lane { first: waiting, .. } in lanes {
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

    /// The job was tried, and waits where nothing was `booted` for it or its like. If room is held for it, jobs
    /// behind it leave that cloud alone.
    fn tried(&mut self, job: &'a Job, booted: bool, waits: String) {
        if booted {
            return;
        }
        let place = self.place_held_for(job);
        if let Some(place) = place {
            (self.held, self.held_for_normal) = (Some(place), !job.high_priority);
            self.reserved.insert(place);
        }
        self.reasons.push((job, Some(place.map_or(waits, |place| self.holds(place)))));
    }

    fn holds(&self, place: usize) -> String {
        format!("{HOLDS}{}", self.rooms[place].cloud.name)
    }

    fn place_held_for(&self, job: &Job) -> Option<usize> {
        self.reservation.filter(|it| it.waiting.job.id == job.id).map(|it| it.place)
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
        let kept: Vec<_> =
            homes.iter().filter(|place| fits(place) && reserved.contains(place)).copied().collect();
        if !kept.is_empty() && self.held_for_normal && kept.iter().all(|place| self.held == Some(*place)) {
            HELD
        } else if !kept.is_empty() {
            HIGH
        } else if homes.iter().all(|place| self.rooms[*place].closed) {
            CLOSED
        } else {
            FULL
        }
    }

    fn boot(&mut self, waiting: &Waiting<'a>, place: usize) {
        self.rooms[place].take(&waiting.needs);
        *self.user_boots.entry(Key::of_job(waiting.job).owner()).or_default() += 1;
        *self.type_boots.entry(Key::of_job(waiting.job)).or_default() += 1;
        self.may_boot = self.may_boot.map(|left| left.saturating_sub(1));
        self.booted.insert(&waiting.job.id);
        let cloud = self.rooms[place].cloud.name.clone();
        self.boots.push(Intent::Boot { job: waiting.job.id.clone(), cloud });
    }

    /// The user's limit, where it is reached.
    fn at_limit(&self, key: Key<'_>) -> Option<u32> {
        self.survey.at_limit(key, self.user_boots.get(&key.owner()).copied().unwrap_or(0))
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
        self.at_limit(key).or_else(|| self.survey.at_type_limit(key, more))
    }

    /// The intents: VMs, then the reasons that changed.
    fn finish(self) -> Vec<Intent> {
        let told: HashSet<&str> = self.reasons.iter().map(|(job, _)| &*job.id).collect();
        // The first of a lane stands for all of it: a reason of another one may be old, and must go.
        let view = self.survey.view;
        let quiet = view.index.told.iter().filter_map(|id| view.jobs.get(id)).map(|job| &**job);
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
        HIGH, HELD, OLDER, AHEAD,
    ];
    fixed.contains(&reason) || [HOLDS, USER_LIMIT, TYPE_LIMIT].iter().any(|start| reason.starts_with(start))
}

#[cfg(test)]
pub mod tests;
