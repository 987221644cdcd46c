//! What the planner, the clean-up and the rebalancing all look at: who has what, and who waits for
//! what. Made once, in one pass over jobs and VMs.

use std::collections::BTreeMap;

use pileus_model::{Job, Name, Time, View, Vm};

use super::{
    Group, Held, Jobs, Key, Waiting,
    barred::Barred,
    groups,
    hash::HashMap,
    lane::{InOrder, Lane, turn},
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
    pub user_vms: HashMap<(&'a str, &'a str), u32>,
    /// The users' own limits.
    pub type_limits: HashMap<Key<'a>, u32>,
    /// VMs that waiting jobs will take, and since when such a job has been there.
    pub needed: HashMap<&'a str, Time>,
    /// What the jobs that will take them ask for; only keys with such VMs.
    pub served: BTreeMap<Key<'a>, Demand<'a>>,
    /// Scheduled jobs for which there is no VM.
    pub orphans: Vec<&'a Job>,
    /// Lanes of jobs that can run nowhere now, and why.
    pub hopeless: Vec<(Lane<'a>, &'static str)>,
}

/// Who has which part of all VMs, and who should have; by key.
#[derive(Debug, Default)]
pub struct Shares<'a> {
    pub current: BTreeMap<Key<'a>, Billionths>,
    pub desired: BTreeMap<Key<'a>, Billionths>,
    /// How far each key is above its share.
    pub diff: BTreeMap<Key<'a>, Billionths>,
}

/// The jobs of one key which want a VM booted, the lane to be served first first. Never empty.
pub struct Queue<'a> {
    pub key: Key<'a>,
    pub lanes: Vec<Lane<'a>>,
}

impl<'a> Queue<'a> {
    /// Number of jobs.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(|lane| lane.left).sum()
    }

    /// All jobs, the first to be served first.
    pub fn jobs(&self) -> InOrder<'a> {
        InOrder::of(self.lanes.iter().copied())
    }

    pub fn normal(&self) -> impl Iterator<Item = &Lane<'a>> {
        self.lanes.iter().filter(|lane| !lane.first.rank.0)
    }

    pub fn high(&self) -> impl Iterator<Item = &Lane<'a>> {
        self.lanes.iter().take_while(|lane| lane.first.rank.0)
    }

    pub fn demand(&self) -> Demand<'a> {
        // The greater rank is first, and high priority before all.
        let normal = self.normal().next().map(|lane| lane.first.rank.2);
        let high = self.high().next().map(|lane| lane.first.rank.2);
        Demand { key: self.key, priority: normal.max(high).unwrap_or_default(), high }
    }
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
        let groups = groups(view, &mut targets, &barred, config.algorithm, Jobs::All, will_take);
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
        };
        let mut known = Verdicts::default();
        for (key, group) in groups {
            it.add(key, group, &mut known);
        }
        // Nothing may depend on how a map is ordered.
        it.queues.sort_by_key(|queue| turn(&queue.lanes[0].first));
        it.hopeless.sort_by_key(|(lane, _)| &lane.first.job.id);
        it.orphans.sort_by_key(|job| &job.id);
        it
    }

    /// Gives the key's jobs the VMs that they will take, and sorts out those that cannot run.
    fn add(&mut self, key: Key<'a>, group: Group<'a>, known: &mut Verdicts) {
        if group.held.vms > 0 {
            self.held.insert(key, group.held);
            *self.user_vms.entry(key.owner()).or_default() += group.held.vms;
        }
        if let Some(limit) = group.limit {
            self.type_limits.insert(key, limit);
        }
        let Group { mut scheduled, lanes, mut free, .. } = group;
        let mut served: Option<Demand<'a>> = None;
        let mut serve = |waiting: &Waiting<'a>, vm: &'a Vm| {
            self.needed.insert(&vm.id, waiting.job.submitted);
            let demand = Demand::of_one(key, waiting.rank);
            served = Some(served.map_or(demand, |served| served.and(demand)));
        };
        // Those for whom one was booted before all.
        scheduled.sort_by_key(turn);
        for waiting in &scheduled {
            match free.take(waiting, &self.targets) {
                Some(vm) => serve(waiting, vm),
                None => self.orphans.push(waiting.job),
            }
        }
        let (mut order, mut left) = (InOrder::of(lanes), Vec::new());
        while let Some(lane) = order.pop() {
            let waiting = &lane.first;
            if let Some(vm) = free.take(waiting, &self.targets) {
                serve(waiting, vm);
                order.put_rest(&lane);
            } else if let Some(reason) = known.of(waiting, &self.targets, &self.rooms) {
                self.hopeless.push((lane, reason));
            } else if waiting.banned {
                self.hopeless.push((lane, BANNED));
            } else {
                left.push(lane);
            }
        }
        self.served.extend(served.map(|served| (key, served)));
        if !left.is_empty() {
            self.queues.push(Queue { key, lanes: left });
        }
    }

    /// Where such a job could run if there were room.
    pub fn homes(&self, needs: &Needs, boots: Which) -> impl Iterator<Item = usize> {
        let could = |place: &usize| self.rooms[*place].could(needs) && self.rooms[*place].cloud.enabled();
        self.targets.places(boots).filter(could)
    }

    /// The limit that an administrator set, where the user has reached it; `more` VMs are planned.
    pub fn at_limit(&self, key: Key<'_>, more: u32) -> Option<u32> {
        let limit = self.view.user_limit(key.project, key.user)?;
        (self.user_vms.get(&key.owner()).copied().unwrap_or(0) + more >= limit).then_some(limit)
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

    /// Queues with normal jobs in the order of service, each with how far its key is above the share and its
    /// first normal job.
    pub fn by_share<'r>(&'r self, shares: &Shares<'a>) -> Vec<(Billionths, &'r Queue<'a>, Waiting<'a>)> {
        // A key with waiting jobs and neither VM nor share is one whose user's share is spent on
        // another type: it stands behind, as if it were a whole above.
        let above = |key| shares.diff.get(key).copied().unwrap_or(shares::ALL);
        // Among equals whoever has fewer VMs, so that a last slot goes where it weighs more.
        let has = |key| self.held.get(key).map_or(0, |held| held.vms);
        let first = |queue: &'r Queue<'a>| Some((above(&queue.key), queue, queue.normal().next()?.first));
        let mut order: Vec<_> = self.queues.iter().filter_map(first).collect();
        order.sort_by_key(|(above, queue, first)| (*above, has(&queue.key), turn(first)));
        order
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
