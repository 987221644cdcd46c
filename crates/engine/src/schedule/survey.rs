//! What the planner, the clean-up and the rebalancing all look at: who has what, and who waits for
//! what. Made once, in one pass over jobs and VMs.

use std::{cmp::Reverse, collections::BTreeMap};

use pileus_model::{Job, Name, Time, View, Vm};

use super::{
    Group, Held, Jobs, Key, Rank, Sorted, Waiting,
    barred::Barred,
    groups,
    hash::HashMap,
    room::{Needs, Room},
    shares::{self, Billionths, Demand},
    targets::{Targets, Which},
    will_take,
};
use crate::config::SchedulerConfig;

pub const NO_TARGET: &str = "none of its target clouds exists";
pub const TOO_LARGE: &str = "no cloud where it may run is large enough";
pub const NO_CLOUD: &str = "there is no cloud";
pub const DISABLED: &str = "every cloud that could run it is disabled";
/// The same, and the last one of them is being drained.
pub const DRAINED: &str = "every cloud that could run it is disabled or being drained";
pub const BLOCKED: &str =
    "its VMs did not come up in the clouds that could run it: they are tried again later";
pub const BANNED: &str = "its VMs did not come up, too often: it is tried again later";

/// The survey.
pub struct Survey<'a> {
    pub view: &'a View,
    pub targets: Targets<'a>,
    /// By place.
    pub rooms: Vec<Room<'a>>,
    /// The jobs which want a VM booted; that of the oldest of the best jobs is first.
    pub queues: Vec<Queue<'a>>,
    /// What the VMs of each key hold; only keys with VMs.
    pub held: BTreeMap<Key<'a>, Held>,
    /// VMs of each user over all projects, as an administrator limits them.
    pub user_vms: HashMap<&'a str, u32>,
    /// The users' own limits.
    pub type_limits: HashMap<Key<'a>, u32>,
    /// VMs that waiting jobs will take, and since when such a job has been there.
    pub needed: HashMap<&'a str, Time>,
    /// What the jobs that will take them ask for; only keys with such VMs.
    pub served: BTreeMap<Key<'a>, Demand<'a>>,
    /// Scheduled jobs for which there is no VM.
    pub orphans: Vec<&'a Job>,
    /// Jobs that can run nowhere now, and why.
    pub hopeless: Vec<(&'a Job, &'static str)>,
    /// Jobs that have ended.
    pub ended: Vec<&'a Job>,
}

/// Who has which part of all VMs, and who should have; by key.
#[derive(Debug, Default)]
pub struct Shares<'a> {
    pub current: BTreeMap<Key<'a>, Billionths>,
    pub desired: BTreeMap<Key<'a>, Billionths>,
    /// How far each key is above its share.
    pub diff: BTreeMap<Key<'a>, Billionths>,
}

/// The jobs of one key which want a VM booted, the first to be served first. Never empty.
pub struct Queue<'a> {
    pub key: Key<'a>,
    pub jobs: Vec<Waiting<'a>>,
}

impl<'a> Queue<'a> {
    pub fn normal(&self) -> impl Iterator<Item = &Waiting<'a>> {
        self.jobs.iter().filter(|waiting| !waiting.rank.0)
    }

    pub fn high(&self) -> impl Iterator<Item = &Waiting<'a>> {
        self.jobs.iter().take_while(|waiting| waiting.rank.0)
    }

    pub fn demand(&self) -> Demand<'a> {
        // The greater rank is first, and high priority before all.
        let normal = self.jobs.iter().find(|waiting| !waiting.rank.0).map(|waiting| waiting.rank.1);
        let high = self.jobs.first().filter(|first| first.rank.0).map(|first| first.rank.1);
        Demand { key: self.key, priority: normal.max(high).unwrap_or_default(), high }
    }
}

pub fn first_come(waiting: &Waiting<'_>) -> (Reverse<Rank>, u32) {
    (Reverse(waiting.rank), waiting.order)
}

impl<'a> Survey<'a> {
    /// `closed` clouds are in back-off.
    pub fn new(
        view: &'a View,
        now: Time,
        config: &SchedulerConfig,
        closed: &std::collections::HashSet<Name>,
    ) -> Self {
        let mut targets = Targets::new(view);
        let barred = Barred::at(now, view, &targets, config);
        let Sorted { groups, ended } =
            groups(view, &mut targets, &barred, config.algorithm, Jobs::All, will_take);
        let rooms = view.clouds_in_order().into_iter();
        let rooms: Vec<_> = rooms.map(|cloud| Room::of(cloud, closed.contains(&cloud.name))).collect();
        let mut it = Self {
            view,
            targets,
            rooms,
            queues: Vec::new(),
            held: BTreeMap::new(),
            user_vms: HashMap::default(),
            type_limits: HashMap::default(),
            needed: HashMap::default(),
            served: BTreeMap::new(),
            orphans: Vec::new(),
            hopeless: Vec::new(),
            ended,
        };
        let mut known = Verdicts::default();
        for (key, group) in groups {
            it.add(key, group, &mut known);
        }
        // Nothing may depend on how a map is ordered.
        it.queues.sort_by_key(|queue| first_come(&queue.jobs[0]));
        it.orphans.sort_by_key(|job| &job.id);
        it
    }

    /// Gives the key's jobs the VMs that they will take, and sorts out those that cannot run.
    fn add(&mut self, key: Key<'a>, group: Group<'a>, known: &mut Verdicts) {
        if group.held.vms > 0 {
            self.held.insert(key, group.held);
            *self.user_vms.entry(key.user).or_default() += group.held.vms;
        }
        if let Some(limit) = group.limit {
            self.type_limits.insert(key, limit);
        }
        let (mut jobs, mut free) = (group.waiting, group.free);
        let mut served: Option<Demand<'a>> = None;
        let mut serve = |waiting: &Waiting<'a>, vm: &'a Vm| {
            self.needed.insert(&vm.id, waiting.job.submitted);
            let demand = Demand::of_one(key, waiting.rank);
            served = Some(served.map_or(demand, |served| served.and(demand)));
        };
        // Those for whom one was booted before all.
        for waiting in jobs.iter().filter(|waiting| waiting.scheduled) {
            match free.take(waiting, &self.targets) {
                Some(vm) => serve(waiting, vm),
                None => self.orphans.push(waiting.job),
            }
        }
        jobs.retain(|waiting| {
            if waiting.scheduled {
                return false;
            }
            if let Some(vm) = free.take(waiting, &self.targets) {
                serve(waiting, vm);
            } else if let Some(reason) = known.of(waiting, &self.targets, &self.rooms) {
                self.hopeless.push((waiting.job, reason));
            } else if waiting.banned {
                self.hopeless.push((waiting.job, BANNED));
            } else {
                return true;
            }
            false
        });
        self.served.extend(served.map(|served| (key, served)));
        if !jobs.is_empty() {
            self.queues.push(Queue { key, jobs });
        }
    }

    /// Where such a job could run if there were room.
    pub fn homes(&self, needs: &Needs, boots: Which) -> impl Iterator<Item = usize> {
        let could = |place: &usize| self.rooms[*place].could(needs) && self.rooms[*place].cloud.enabled();
        self.targets.places(boots).filter(could)
    }

    /// The limit that an administrator set, where the user has reached it; `more` VMs are planned.
    pub fn at_limit(&self, user: &str, more: u32) -> Option<u32> {
        let limit = *self.view.user_limits.get(user)?;
        (self.user_vms.get(user).copied().unwrap_or(0) + more >= limit).then_some(limit)
    }

    /// The same for the user's own limit for the key.
    pub fn at_type_limit(&self, key: Key<'_>, more: u32) -> Option<u32> {
        let limit = *self.type_limits.get(&key)?;
        (self.held.get(&key).map_or(0, |held| held.vms) + more >= limit).then_some(limit)
    }

    /// The shares as they are and should be. `limited` keys have no part in them.
    pub fn shares(&self, config: &SchedulerConfig, limited: impl Fn(Key<'_>) -> bool) -> Shares<'a> {
        let (current, desired) = (shares::current(&self.held, config), self.desired(config, &limited));
        let diff = shares::diff(&current, &desired, limited);
        Shares { current, desired, diff }
    }

    /// The share that each key should have.
    pub fn desired(
        &self,
        config: &SchedulerConfig,
        limited: impl Fn(Key<'_>) -> bool,
    ) -> BTreeMap<Key<'a>, Billionths> {
        let mut demands: Vec<_> = self.queues.iter().map(Queue::demand).collect();
        demands.retain(|demand| demand.high.is_some() || !limited(demand.key));
        shares::desired(&demands, config.job_distribution, config.high_priority_job_weight.get())
    }
}

/// Why jobs of a sort can run nowhere, however empty the clouds are; `None`: they can.
#[derive(Default)]
struct Verdicts {
    /// Where the last job with these targets could run: likely others can, too, whatever their size.
    homes: HashMap<Which, usize>,
    known: HashMap<(Needs, Which), Option<&'static str>>,
}

impl Verdicts {
    fn of(
        &mut self,
        waiting: &Waiting<'_>,
        targets: &Targets<'_>,
        rooms: &[Room<'_>],
    ) -> Option<&'static str> {
        let (needs, boots) = (&waiting.needs, waiting.boots);
        let takes = |place: &usize| rooms[*place].could(needs) && rooms[*place].cloud.enabled();
        if self.homes.get(&boots).is_some_and(takes) {
            return None;
        }
        if let Some(home) = targets.places(boots).find(takes) {
            self.homes.insert(boots, home);
            return None;
        }
        *self.known.entry((*needs, boots)).or_insert_with(|| {
            let barred = waiting.boots != waiting.targets;
            if barred && verdict(needs, waiting.targets, targets, rooms).is_none() {
                return Some(BLOCKED);
            }
            verdict(needs, boots, targets, rooms)
        })
    }
}

fn verdict(needs: &Needs, which: Which, targets: &Targets<'_>, rooms: &[Room<'_>]) -> Option<&'static str> {
    let mut verdict = if rooms.is_empty() { NO_CLOUD } else { NO_TARGET };
    for place in targets.places(which) {
        match rooms[place].could(needs) {
            true if rooms[place].cloud.enabled() => return None,
            true if rooms[place].cloud.draining => verdict = DRAINED,
            true => verdict = DISABLED,
            false if verdict == NO_TARGET => verdict = TOO_LARGE,
            false => (),
        }
    }
    Some(verdict)
}
