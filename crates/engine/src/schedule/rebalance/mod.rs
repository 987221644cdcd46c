//! Who gives up VMs for whom, once the clouds are full.
//!
//! A user above the share gives VMs to users below theirs who find no room. One VM goes for one that
//! comes: it stands in a cloud where the other may run, and its leaving makes room enough there.
//! What has been given up and is not gone yet counts as given. Against flip-flop: the next cycle is
//! foreseen, and who would want back there what is given here gives less, down to one VM at a time;
//! among types of one user a VM changes hands only for a job of higher priority; and a VM whose going
//! would send a job back into the queue goes only while its user keeps the whole share ([`Spare`]).
//! Source: cloud-scheduler 1.x, `cloud_scheduler`, `clean_balance_vms_fairshare`.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Duration,
};

use pileus_model::{Name, Time, View, Vm, VmState};

use super::{
    Held, Key, Rank, Waiting,
    hash::{HashMap, HashSet},
    lane::InOrder,
    room::{Needs, Room},
    shares::{self, ALL, Billionths, Demand},
    survey::{Queue, Survey},
    targets::Which,
};
use crate::{
    change::Change,
    config::{Algorithm, SchedulerConfig},
};

/// How many VMs of a cloud are looked at for one job.
const TRIES: usize = 16;

/// Who gives up VMs for whom in this cycle.
pub fn rebalance(
    view: &View,
    now: Time,
    config: &SchedulerConfig,
    closed: &std::collections::HashSet<Name>,
) -> Vec<Change> {
    of(&Survey::new(view, now, config, closed), now, config)
}

/// The same upon a survey that is there already.
pub fn of(survey: &Survey<'_>, now: Time, config: &SchedulerConfig) -> Vec<Change> {
    if !config.rebalance || survey.queues.is_empty() || survey.held.is_empty() {
        return Vec::new();
    }
    let wants = Wants::of(survey, config);
    if wants.keys.is_empty() {
        return Vec::new();
    }
    let swaps = Match::new(survey, &wants, now, config).swaps(&wants);
    let swaps = match config.algorithm {
        Algorithm::Fairshare => damped(swaps, survey, config),
        Algorithm::Fifo => swaps,
    };
    let mut changes = Vec::with_capacity(swaps.len());
    for Swap { vm, class, .. } in swaps {
        let seen = vm.clone();
        let at_once = matches!(class, Class::Broken | Class::Starting) || lost_work_max(config).is_some();
        changes.push(match class {
            _ if at_once => Change::Destroy { seen, why: "its room is for users below their share".into() },
            _ => Change::GiveUp { seen },
        });
    }
    changes
}

/// How long a job may have run that is ended for others; `None`: none is. Who came first was not served
/// fairly, but in order: there none is, either.
fn lost_work_max(config: &SchedulerConfig) -> Option<Duration> {
    let most = config.rebalance_lost_work_max_s.filter(|_| config.algorithm == Algorithm::Fairshare);
    most.map(Duration::from_secs)
}

/// How many VMs each user can do without though their jobs would wait anew: as many as stand above
/// the share which the user has with these jobs in the queue.
///
/// Without it a VM would go to and fro between users who wait, and boot for ever.
struct Spare<'a> {
    left: HashMap<(&'a str, &'a str), i64>,
}

impl<'a> Spare<'a> {
    fn of(survey: &Survey<'a>, config: &SchedulerConfig) -> Self {
        let mut left = HashMap::default();
        if config.algorithm == Algorithm::Fifo {
            return Self { left };
        }
        let mut demands = survey.served.clone();
        let mut demand = |it: Demand<'a>| {
            demands.entry(it.key).and_modify(|has| *has = has.and(it)).or_insert(it);
        };
        survey.queues.iter().filter(|queue| !limited(survey, queue.key)).for_each(|it| demand(it.demand()));
        for vm in survey.view.vms.values() {
            let key = Key::of_vm(vm);
            if class(vm) != Class::Going {
                *left.entry(key.owner()).or_default() += 1;
            }
            let job = vm.job.as_ref().filter(|_| lost_work_max(config).is_some());
            if let Some(job) = job.and_then(|job| survey.view.jobs.get(job)) {
                demand(Demand::of_one(key, (job.high_priority, Reverse(job.returns), job.priority)));
            }
        }
        let demands: Vec<_> = demands.into_values().collect();
        let weight = config.high_priority_job_weight.get();
        let all: i64 = survey.held.values().map(|held| i64::from(held.vms)).sum();
        let mut claims: BTreeMap<_, Billionths> = BTreeMap::new();
        for (key, share) in shares::desired(&demands, config.job_distribution, weight) {
            *claims.entry(key.owner()).or_default() += share;
        }
        for (owner, share) in claims {
            *left.entry(owner).or_default() -= up(share, all);
        }
        Self { left }
    }

    fn of_owner(&self, key: Key<'_>) -> i64 {
        self.left.get(&key.owner()).copied().unwrap_or(0)
    }
}

/// A share of `all` VMs, rounded up.
fn up(share: Billionths, all: i64) -> i64 {
    let exact = i128::from(share) * i128::from(all);
    i64::try_from((exact + i128::from(ALL) - 1) / i128::from(ALL)).unwrap_or(i64::MAX)
}

/// VMs that each key is to give up (above 0) or to get (below 0), where `queued` says how many more it
/// could use. What cannot be used is spread evenly over the others.
pub fn changes<'a>(
    diff: &BTreeMap<Key<'a>, Billionths>,
    held: &BTreeMap<Key<'a>, Held>,
    queued: &BTreeMap<Key<'a>, u32>,
) -> BTreeMap<Key<'a>, i64> {
    let all: i64 = held.values().map(|held| i64::from(held.vms)).sum();
    let mut spare = 0;
    let mut changes: BTreeMap<_, _> = diff
        .iter()
        .map(|(key, diff)| {
            let change = rounded(*diff, all);
            let least = -i64::from(queued.get(key).copied().unwrap_or(0));
            let most = i64::from(held.get(key).map_or(0, |held| held.vms));
            spare += (least - change).max(0);
            (*key, change.clamp(least, most))
        })
        .collect();
    // One by one: more to whoever can use it, and less from whoever gives.
    let mut open: VecDeque<Key<'a>> = changes.keys().copied().collect();
    while spare > 0
        && let Some(key) = open.pop_front()
    {
        let Some(change) = changes.get_mut(&key) else { continue };
        let usable =
            *change > 0 || (*change < 0 && -*change < i64::from(queued.get(&key).copied().unwrap_or(0)));
        if usable {
            *change -= 1;
            spare -= 1;
            open.push_back(key);
        }
    }
    changes
}

/// `diff` of `all` VMs, as a whole number. A half is left where it is.
fn rounded(diff: Billionths, all: i64) -> i64 {
    let exact = i128::from(diff) * i128::from(all);
    let (half, whole) = (i128::from(ALL / 2), i128::from(ALL));
    let away = (exact.abs() + half - 1) / whole;
    i64::try_from(away * exact.signum()).unwrap_or(0)
}

/// What is wanted and what is given.
struct Wants<'r, 'a> {
    /// Who gets how many, for which jobs; who lacks most is first.
    keys: Vec<(&'r Queue<'a>, Vec<Waiting<'a>>)>,
    /// Who gives how many.
    gives: BTreeMap<Key<'a>, i64>,
}

impl<'r, 'a> Wants<'r, 'a> {
    fn of(survey: &'r Survey<'a>, config: &SchedulerConfig) -> Self {
        let changes = match config.algorithm {
            Algorithm::Fairshare => fair_changes(survey, config),
            Algorithm::Fifo => fifo_changes(survey),
        };
        let mut rooms = survey.rooms.clone();
        let mut full = HashSet::default();
        let mut keys = Vec::new();
        for queue in &survey.queues {
            let wanted = changes.get(&queue.key).map_or(0, |change| usize::try_from(-change).unwrap_or(0));
            let jobs: Vec<_> = queue.jobs().take(wanted).collect();
            // Whoever finds room needs nobody to give any.
            let finds_room = jobs.iter().any(|waiting| {
                let sort = (waiting.needs, waiting.boots);
                if full.contains(&sort) {
                    return false;
                }
                let places = survey.targets.places(waiting.boots);
                let best = places.filter_map(|place| rooms[place].score(&waiting.needs, place)).min();
                if best.is_none() {
                    full.insert(sort);
                }
                best.map(|best| rooms[best.place].take(&waiting.needs)).is_some()
            });
            if !jobs.is_empty() && !finds_room {
                keys.push((queue, jobs));
            }
        }
        keys.sort_by_key(|(queue, _)| changes.get(&queue.key).copied().unwrap_or(0));
        Self { keys, gives: changes.into_iter().filter(|(_, change)| *change > 0).collect() }
    }
}

fn fair_changes<'a>(survey: &Survey<'a>, config: &SchedulerConfig) -> BTreeMap<Key<'a>, i64> {
    let limited = |key: Key<'_>| limited(survey, key);
    let diff = survey.shares(config, limited).diff;
    let queued = survey.queues.iter().map(|queue| (queue.key, usable(survey, queue)));
    changes(&diff, &survey.held, &queued.collect())
}

/// `true` if the key has reached a limit of its user or of its type.
pub fn limited(survey: &Survey<'_>, key: Key<'_>) -> bool {
    survey.at_limit(key, 0).or_else(|| survey.at_type_limit(key, 0)).is_some()
}

/// How many more VMs a key could use: for its jobs, and within limits.
pub fn usable(survey: &Survey<'_>, queue: &Queue<'_>) -> u32 {
    let user = survey.view.user_limit(queue.key.project, queue.key.user);
    let has = survey.user_vms.get(&queue.key.owner()).copied().unwrap_or(0);
    let of_user = user.map_or(u32::MAX, |limit| limit.saturating_sub(has));
    let has = survey.held.get(&queue.key).map_or(0, |held| held.vms);
    let of_type = survey.type_limits.get(&queue.key).map_or(u32::MAX, |limit| limit.saturating_sub(has));
    u32::try_from(queue.len()).unwrap_or(u32::MAX).min(of_user).min(of_type)
}

/// Looks ahead as many jobs as there are slots: who has VMs and none of these gives all.
fn fifo_changes<'a>(survey: &Survey<'a>) -> BTreeMap<Key<'a>, i64> {
    let slots: u32 =
        survey.rooms.iter().filter(|room| room.cloud.enabled()).map(|room| room.cloud.vm_slots()).sum();
    let ahead = InOrder::of(survey.queues.iter().flat_map(|queue| &queue.lanes).copied());
    let mut changes: BTreeMap<_, _> =
        survey.held.iter().map(|(key, held)| (*key, i64::from(held.vms))).collect();
    let mut wanted: BTreeMap<Key<'a>, u32> = BTreeMap::new();
    for waiting in ahead.take(usize::try_from(slots).unwrap_or(usize::MAX)) {
        *wanted.entry(Key::of_job(waiting.job)).or_default() += 1;
    }
    for queue in &survey.queues {
        if let Some(wanted) = wanted.get(&queue.key) {
            let most = if limited(survey, queue.key) { 0 } else { usable(survey, queue) };
            changes.insert(queue.key, -i64::from((*wanted).min(most)));
        }
    }
    changes
}

/// How little is lost with a VM: what comes first goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// On its way out already.
    Going,
    Broken,
    Starting,
    Idle,
    Busy,
}

/// A VM that may go.
struct Candidate<'r, 'a> {
    class: Class,
    /// How far down its key's list it stands, in millionths of what the key gives: keys take turns.
    turn: i64,
    key: Key<'a>,
    vm: &'r Arc<Vm>,
    /// A job would wait anew.
    costs: bool,
    taken: bool,
}

/// A VM of a key.
struct Holding<'r> {
    class: Class,
    /// When its job began, or else when it was made.
    started: Time,
    vm: &'r Arc<Vm>,
    place: usize,
    costs: bool,
}

/// VMs of each key that stay, by size.
struct Sizes<'a>(HashMap<Key<'a>, BTreeMap<Needs, u32>>);

impl<'a> Sizes<'a> {
    fn of(survey: &Survey<'a>) -> Self {
        let mut sizes: HashMap<_, BTreeMap<_, u32>> = HashMap::default();
        for vm in survey.view.vms.values().filter(|vm| !is_going(vm)) {
            *sizes.entry(Key::of_vm(vm)).or_default().entry(Needs::met_by(vm)).or_default() += 1;
        }
        Self(sizes)
    }

    /// `true` if no other VM of its key is as large.
    fn is_only(&self, vm: &Vm) -> bool {
        let own = Needs::met_by(vm);
        let Some(sizes) = self.0.get(&Key::of_vm(vm)) else { return true };
        let as_large = sizes.range(own..).filter(|(size, _)| own.fit(size));
        as_large.map(|(_, count)| *count).sum::<u32>() <= 1
    }
}

/// A VM that goes, and for whom.
struct Swap<'r, 'a> {
    class: Class,
    from: Key<'a>,
    to: Key<'a>,
    vm: &'r Arc<Vm>,
}

/// How soon a VM goes, and where it is: the smallest goes first.
type Head = (Class, i64, usize);

/// Finds a VM for each job.
struct Match<'r, 'a> {
    survey: &'r Survey<'a>,
    gives: BTreeMap<Key<'a>, i64>,
    spare: Spare<'a>,
    /// By place; what should go first is first.
    candidates: Vec<VecDeque<Candidate<'r, 'a>>>,
    /// The first of each place, as it was last looked at.
    heads: BTreeSet<Head>,
    /// Where jobs of a sort can run, by place.
    homes: HashMap<(Needs, Which), Vec<bool>>,
    /// The best job that waits of each key.
    ranks: HashMap<Key<'a>, Rank>,
}

impl<'r, 'a> Match<'r, 'a> {
    fn new(survey: &'r Survey<'a>, wants: &Wants<'r, 'a>, now: Time, config: &SchedulerConfig) -> Self {
        let mut useful = vec![false; survey.rooms.len()];
        let sorts = wants.keys.iter().flat_map(|(_, jobs)| jobs.iter());
        let sorts: HashSet<_> = sorts.map(|waiting| (waiting.needs, waiting.boots)).collect();
        for (needs, boots) in sorts {
            survey.homes(&needs, boots).for_each(|place| useful[place] = true);
        }
        let (mut gives, hard) = (wants.gives.clone(), lost_work_max(config));
        let sizes = Sizes::of(survey);
        let mut by_key: BTreeMap<Key<'a>, Vec<Holding<'r>>> = BTreeMap::new();
        for vm in survey.view.vms.values() {
            let key = Key::of_vm(vm);
            let class = class(vm);
            if class == Class::Going
                && let Some(gives) = gives.get_mut(&key)
            {
                *gives -= 1;
            }
            let Some(place) = survey.targets.cloud(&vm.cloud).filter(|place| useful[*place]) else {
                continue;
            };
            let full = survey.rooms[place].cloud;
            if survey.rooms[place].closed || full.used.vm_slots > full.vm_slots() {
                continue;
            }
            if class != Class::Going && !wants.gives.contains_key(&key) {
                continue;
            }
            let started = vm.job.as_ref().and_then(|job| survey.view.jobs.get(job)?.started);
            let started = started.unwrap_or(vm.created);
            // The only VM that a waiting job fits into runs it first: room may have been held for it.
            let stays = hard.is_some_and(|most| class == Class::Busy && now.since(started) >= most)
                || (class == Class::Starting && survey.needed.contains_key(&*vm.id) && sizes.is_only(vm));
            let costs = match class {
                Class::Going | Class::Broken => false,
                Class::Starting | Class::Idle => survey.needed.contains_key(&*vm.id),
                Class::Busy => hard.is_some(),
            };
            if !stays {
                by_key.entry(key).or_default().push(Holding { class, started, vm, place, costs });
            }
        }
        let mut candidates: Vec<Vec<_>> = survey.rooms.iter().map(|_| Vec::new()).collect();
        for (key, mut vms) in by_key {
            // A job that began first ends first, likely.
            vms.sort_by_key(|it| (it.class, it.started, &it.vm.id));
            let gives = gives.get(&key).copied().unwrap_or(0).max(1);
            let mut turn = 0;
            for Holding { class, vm, place, costs, .. } in vms {
                candidates[place].push(Candidate {
                    class,
                    turn: turn * 1_000_000 / gives,
                    key,
                    vm,
                    costs,
                    taken: false,
                });
                turn += i64::from(class != Class::Going);
            }
        }
        for vms in &mut candidates {
            vms.sort_by_key(|it| (it.class, it.turn, &it.vm.id));
        }
        let heads = candidates.iter().enumerate();
        let heads =
            heads.filter_map(|(place, vms)| vms.first().map(|it| (it.class, it.turn, place))).collect();
        let candidates = candidates.into_iter().map(VecDeque::from).collect();
        let ranks = survey.queues.iter().map(|queue| (queue.key, queue.lanes[0].first.rank)).collect();
        let spare = Spare::of(survey, config);
        Self { survey, gives, spare, candidates, heads, homes: HashMap::default(), ranks }
    }

    /// The swaps that are new, those of keys which lack most first; keys take turns.
    fn swaps(mut self, wants: &Wants<'r, 'a>) -> Vec<Swap<'r, 'a>> {
        let mut swaps = Vec::new();
        let mut in_vain = HashSet::default();
        let mut queues: VecDeque<_> =
            wants.keys.iter().map(|(queue, jobs)| (queue.key, jobs.iter())).collect();
        while let Some((to, mut jobs)) = queues.pop_front() {
            let Some(waiting) = jobs.next() else { continue };
            let sort = (waiting.needs, waiting.boots, to, waiting.rank);
            if !in_vain.contains(&sort) {
                match self.take(waiting, to) {
                    Some(Swap { class: Class::Going, .. }) => (),
                    Some(swap) => swaps.push(swap),
                    None => drop(in_vain.insert(sort)),
                }
            }
            queues.push_back((to, jobs));
        }
        swaps
    }

    /// The VM whose going costs least and makes room for the job.
    fn take(&mut self, waiting: &Waiting<'a>, to: Key<'a>) -> Option<Swap<'r, 'a>> {
        let sort = (waiting.needs, waiting.boots);
        let survey = self.survey;
        let homes = self.homes.entry(sort).or_insert_with(|| {
            let mut homes = vec![false; survey.rooms.len()];
            survey.homes(&waiting.needs, waiting.boots).for_each(|place| homes[place] = true);
            homes
        });
        let mut best: Option<Head> = None;
        let mut at = 0;
        let mut from = Bound::Unbounded;
        while let Some(head) = self.heads.range((from, Bound::Unbounded)).next().copied() {
            if best.is_some_and(|best| best <= head) {
                break;
            }
            from = Bound::Excluded(head);
            let (_, _, place) = head;
            if !homes[place] {
                continue;
            }
            let gone = |it: &Candidate<'_, 'a>| {
                let given = it.class != Class::Going && self.gives.get(&it.key).is_none_or(|left| *left <= 0);
                it.taken || given || (it.costs && self.spare.of_owner(it.key) <= 0)
            };
            // What cannot go any more is dropped from the front, once and for all.
            let vms = &mut self.candidates[place];
            while vms.front().is_some_and(&gone) {
                vms.pop_front();
            }
            let now = vms.front().map(|it| (it.class, it.turn, place));
            if now != Some(head) {
                self.heads.remove(&head);
                self.heads.extend(now);
                continue;
            }
            let may = |it: &Candidate<'_, 'a>| {
                let yields = it.class == Class::Going || yields(it.key, to, waiting.rank, &self.ranks);
                yields && !gone(it)
            };
            let room = &survey.rooms[place];
            let mut found = vms.iter().enumerate().filter(|(_, it)| may(it)).take(TRIES);
            if let Some((which, it)) = found.find(|(_, it)| makes_room(room, it.vm, &waiting.needs))
                && best.is_none_or(|best| (it.class, it.turn, place) < best)
            {
                (best, at) = (Some((it.class, it.turn, place)), which);
            }
        }
        let (_, _, place) = best?;
        let it = &mut self.candidates[place][at];
        it.taken = true;
        if it.class != Class::Going {
            *self.gives.entry(it.key).or_default() -= 1;
        }
        if it.costs {
            *self.spare.left.entry(it.key.owner()).or_default() -= 1;
        }
        Some(Swap { class: it.class, from: it.key, to, vm: it.vm })
    }
}

/// `true` if the VM is on its way out.
pub fn is_going(vm: &Vm) -> bool {
    vm.destroy.is_some() || vm.override_state.is_some()
}

fn class(vm: &Vm) -> Class {
    match vm.state {
        _ if is_going(vm) => Class::Going,
        VmState::Error | VmState::Shutdown => Class::Broken,
        VmState::Starting => Class::Starting,
        VmState::Running if vm.job.is_none() => Class::Idle,
        VmState::Running => Class::Busy,
    }
}

/// Whether a key gives to this one: always to another user's; to one of its own user's only for a job
/// that goes before its own.
fn yields(from: Key<'_>, to: Key<'_>, rank: Rank, ranks: &HashMap<Key<'_>, Rank>) -> bool {
    from.owner() != to.owner() || ranks.get(&from).is_none_or(|own| *own < rank)
}

/// Whether the job fits into what its cloud has left together with what the VM holds.
fn makes_room(room: &Room<'_>, vm: &Vm, needs: &Needs) -> bool {
    let free = room.cloud.free();
    needs.cpu_cores <= room.cloud.spec.cpu_cores
        && needs.memory_mib <= free.memory_mib.saturating_add(vm.memory_mib)
        && needs.storage_gib <= free.storage_gib.saturating_add(vm.storage_gib)
}

/// Foresees the next cycle, and takes back as many swaps as would be wanted back there; one of each key
/// stays.
fn damped<'r, 'a>(
    swaps: Vec<Swap<'r, 'a>>,
    survey: &Survey<'a>,
    config: &SchedulerConfig,
) -> Vec<Swap<'r, 'a>> {
    let mut given: BTreeMap<Key<'a>, i64> = BTreeMap::new();
    let mut got: BTreeMap<Key<'a>, i64> = BTreeMap::new();
    let mut held = survey.held.clone();
    for swap in &swaps {
        *given.entry(swap.from).or_default() += 1;
        *got.entry(swap.to).or_default() += 1;
        // As if all VMs were alike.
        let mut one = Held::default();
        one.add(swap.vm);
        if let Some(from) = held.get_mut(&swap.from) {
            *from = Held {
                vms: from.vms - 1,
                cpu_cores: from.cpu_cores - one.cpu_cores,
                memory_mib: from.memory_mib - one.memory_mib,
                storage_gib: from.storage_gib - one.storage_gib,
            };
        }
        held.entry(swap.to).or_default().add(swap.vm);
    }
    held.retain(|_, held| held.vms > 0);
    let limited = |key: Key<'_>| limited(survey, key);
    // Whoever was served still has a share: the jobs run now.
    let desired = survey.desired(config, limited);
    let diff = shares::diff(&shares::current(&held, config), &desired, limited);
    let queued = survey.queues.iter().map(|queue| (queue.key, usable(survey, queue))).collect();
    let next = changes(&diff, &held, &queued);
    let back = |key: &Key<'a>, sign: i64| next.get(key).map_or(0, |change| (change * sign).max(0));
    given.iter_mut().for_each(|(key, count)| *count = (*count - back(key, -1)).max(1));
    got.iter_mut().for_each(|(key, count)| *count = (*count - back(key, 1)).max(1));
    swaps
        .into_iter()
        .filter(|swap| {
            let (Some(given), Some(got)) = (given.get_mut(&swap.from), got.get_mut(&swap.to)) else {
                return false;
            };
            let stays = *given > 0 && *got > 0;
            if stays {
                (*given, *got) = (*given - 1, *got - 1);
            }
            stays
        })
        .collect()
}

#[cfg(test)]
mod tests;
