//! Room for jobs that wait: the job that room is held for, and the VMs that go for the sake of others.
//!
//! Shares move one VM for one ([`rebalance`](super::rebalance)). That leaves two gaps. A job larger than every
//! VM that ends never finds room, because smaller jobs take it first: the first such job in the order of
//! service has a [`Reservation`] of one cloud. And a VM that idles for the sake of its owner keeps room from
//! jobs that could run now. Both are computed from the view in each cycle, so that a reservation moves when its
//! cloud is disabled, backed off from or blocked for the job.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet as StdHashSet},
    sync::Arc,
};

use pileus_model::{Job, Name, Size, Vm, VmState, reason::HOLDS};

use super::{
    Key, Waiting,
    hash::{HashMap, HashSet},
    lane::{InOrder, turn},
    rebalance::{is_going, limited, usable},
    room::Needs,
    shares::{self, Billionths},
    survey::{Shares, Survey},
};
use crate::config::{Algorithm, SchedulerConfig};

/// The first job in the order of service that has no VM to wait for and finds no room, and its cloud.
#[derive(Debug, Clone, Copy)]
pub struct Reservation<'a> {
    pub key: Key<'a>,
    pub waiting: Waiting<'a>,
    /// Place of the cloud where room is held as it frees.
    pub place: usize,
}

/// VMs of one cloud.
#[derive(Debug, Default, Clone)]
struct Yard<'a> {
    /// Room that is free or about to be.
    free: Size,
    /// VMs without a job that no waiting job will take.
    idle: Vec<&'a Arc<Vm>>,
    /// VMs that run a job, those that should go first first.
    busy: Vec<&'a Arc<Vm>>,
}

impl Yard<'_> {
    /// `true` if a VM of this size fits once all that goes has gone.
    fn fits(&self, needs: &Needs) -> bool {
        enough(self.free, needs)
    }
}

/// Finds the reservation of this cycle. `None`: every job that may have a VM finds room, or waits for a VM of
/// its own user and type that it fits into.
pub fn reservation<'a>(
    survey: &Survey<'a>,
    shares: &Shares<'a>,
    config: &SchedulerConfig,
) -> Option<Reservation<'a>> {
    if !config.rebalance {
        return None;
    }
    let mut own = None;
    let mut yards = None;
    for (key, waiting) in in_order(survey, shares, config.algorithm) {
        let (needs, boots) = (&waiting.needs, waiting.boots);
        let score = |place: usize| survey.rooms[place].score(needs, place);
        let best = survey.targets.places(boots).filter_map(score).min();
        if limited(survey, key) || (best.is_some() && !is_held(&waiting)) {
            continue;
        }
        if let Some(best) = best {
            return Some(Reservation { key, waiting, place: best.place });
        }
        let homes = survey.homes(needs, boots).filter(|place| !survey.rooms[*place].closed);
        let homes: Vec<_> = homes.collect();
        if homes.is_empty() {
            continue;
        }
        let own = own.get_or_insert_with(|| own_sorts(survey));
        let takes =
            |(size, place): &(Needs, usize)| needs.fit(size) && survey.targets.allow(waiting.targets, *place);
        if own.get(&key).is_some_and(|sorts| sorts.iter().any(takes)) {
            continue;
        }
        let yards = yards.get_or_insert_with(|| yards_of(survey, shares, &StdHashSet::new()));
        let cost = |place: &usize| {
            let (goes, complete) = goes(&yards[*place], needs);
            let busy = goes.iter().filter(|vm| vm.job.is_some()).count();
            (!complete, busy, survey.rooms[*place].cloud.spec.priority, *place)
        };
        // It stays where it was, so that what has been given up already counts.
        let before = held_on(waiting.job).and_then(|cloud| survey.targets.cloud(cloud));
        let stays = |place: &usize| Some(*place) == before;
        let homes = homes.into_iter();
        let place = homes.clone().find(stays).or_else(|| homes.min_by_key(cost))?;
        return Some(Reservation { key, waiting, place });
    }
    None
}

/// `true` if room was held for the job in the last cycle.
pub fn is_held(waiting: &Waiting<'_>) -> bool {
    held_on(waiting.job).is_some()
}

/// Cloud where room was held for the job in the last cycle.
fn held_on(job: &Job) -> Option<&str> {
    job.reason.as_deref()?.strip_prefix(HOLDS)
}

/// The first job of each queue in the order of service: high priority, then the one that room is held for,
/// then by share or by age.
fn in_order<'a>(
    survey: &Survey<'a>,
    shares: &Shares<'a>,
    algorithm: Algorithm,
) -> Vec<(Key<'a>, Waiting<'a>)> {
    let queues = || survey.queues.iter();
    let mut high: Vec<_> =
        queues().filter_map(|queue| Some((queue.key, queue.high().next()?.first))).collect();
    high.sort_by_key(|(_, first)| turn(first));
    let mut normal: Vec<_> =
        survey.by_share(shares).into_iter().map(|(_, queue, first)| (queue.key, first)).collect();
    if algorithm == Algorithm::Fifo {
        normal.sort_by_key(|(_, first)| turn(first));
    }
    normal.sort_by_key(|(_, first)| !is_held(first));
    high.extend(normal);
    high
}

/// Sizes and places of the VMs of each key that take its jobs, now or after their present one.
fn own_sorts<'a>(survey: &Survey<'a>) -> HashMap<Key<'a>, HashSet<(Needs, usize)>> {
    let mut sorts: HashMap<_, HashSet<_>> = HashMap::default();
    for vm in survey.view.vms.values() {
        let stays = !is_going(vm) && matches!(vm.state, VmState::Starting | VmState::Running);
        let drains = |place: &usize| survey.rooms[*place].cloud.draining;
        if let Some(place) = survey.targets.cloud(&vm.cloud).filter(|place| stays && !drains(place)) {
            sorts.entry(Key::of_vm(vm)).or_default().insert((Needs::met_by(vm), place));
        }
    }
    sorts
}

/// VMs by place; those in `gone` count as gone. VMs that boot, or that a waiting job will take, are left out:
/// they run a job first.
fn yards_of<'a>(survey: &Survey<'a>, shares: &Shares<'a>, gone: &StdHashSet<Name>) -> Vec<Yard<'a>> {
    let mut yards = vec![Yard::default(); survey.rooms.len()];
    for (yard, room) in yards.iter_mut().zip(&survey.rooms) {
        yard.free = room.cloud.free();
    }
    for vm in survey.view.vms.values() {
        let Some(place) = survey.targets.cloud(&vm.cloud) else { continue };
        let yard = &mut yards[place];
        if is_going(vm) || gone.contains(&vm.id) {
            add(&mut yard.free, vm);
        } else if vm.job.is_some() {
            yard.busy.push(vm);
        } else if vm.registered.is_some() && !survey.needed.contains_key(&*vm.id) {
            yard.idle.push(vm);
        }
    }
    let above = |vm: &Vm| shares.diff.get(&Key::of_vm(vm)).copied().unwrap_or(shares::ALL);
    let started = |vm: &Vm| vm.job.as_ref().and_then(|job| survey.view.jobs.get(job)?.started);
    for yard in &mut yards {
        // VMs of users above their share first; a job that began first ends first, likely.
        yard.busy.sort_by_key(|vm| (Reverse::<Billionths>(above(vm)), started(vm), &vm.id));
    }
    yards
}

/// The VMs that go so that a VM of this size fits, and `true` if they are enough. Busy ones go after their job.
fn goes<'a>(yard: &Yard<'a>, needs: &Needs) -> (Vec<&'a Arc<Vm>>, bool) {
    let mut free = yard.free;
    let mut goes = Vec::new();
    for vm in yard.idle.iter().chain(&yard.busy) {
        if enough(free, needs) {
            break;
        }
        add(&mut free, vm);
        goes.push(*vm);
    }
    let complete = enough(free, needs);
    // Whatever turned out not to be necessary stays: a large VM may have made small ones superfluous.
    if complete {
        goes.retain(|vm| {
            let less = without(free, vm);
            let stays = enough(less, needs);
            if stays {
                free = less;
            }
            !stays
        });
    }
    (goes, complete)
}

/// VMs that go so that jobs which wait find room, beside those that are `gone` already: VMs that idle and that no
/// waiting job will take, and for the reservation busy ones after their job.
pub fn releases<'a>(
    survey: &Survey<'a>,
    config: &SchedulerConfig,
    gone: &StdHashSet<Name>,
) -> Vec<&'a Arc<Vm>> {
    let shares = survey.shares(config, |key| limited(survey, key));
    let reservation = reservation(survey, &shares, config);
    let mut yards = yards_of(survey, &shares, gone);
    let mut released = Vec::new();
    let mut release = |yard: &mut Yard<'a>, vms: Vec<&'a Arc<Vm>>, needs: &Needs| {
        for vm in &vms {
            add(&mut yard.free, vm);
        }
        let stays = |vm: &&Arc<Vm>| !vms.iter().any(|gone| gone.id == vm.id);
        yard.idle.retain(stays);
        yard.busy.retain(stays);
        released.extend(vms);
        take(&mut yard.free, needs);
    };
    let mut usable: BTreeMap<_, _> =
        survey.queues.iter().map(|queue| (queue.key, usable(survey, queue))).collect();
    if let Some(Reservation { key, waiting, place }) = reservation {
        let yard = &mut yards[place];
        let (vms, _) = goes(yard, &waiting.needs);
        release(yard, vms, &waiting.needs);
        usable.entry(key).and_modify(|left| *left = left.saturating_sub(1));
    }
    let held = reservation.map(|it| &*it.waiting.job.id);
    let lanes = survey.queues.iter().filter(|queue| !limited(survey, queue.key));
    let mut order = InOrder::of(lanes.flat_map(|queue| &queue.lanes).copied());
    while yards.iter().any(|yard| !yard.idle.is_empty())
        && let Some(lane) = order.pop()
    {
        let (waiting, key) = (&lane.first, Key::of_job(lane.first.job));
        if held == Some(&*waiting.job.id) {
            order.put_rest(&lane);
            continue;
        }
        let Some(left) = usable.get_mut(&key).filter(|left| **left > 0) else { continue };
        let homes: Vec<_> = survey.homes(&waiting.needs, waiting.boots).collect();
        let open = homes.iter().copied().filter(|place| !survey.rooms[*place].closed);
        if let Some(place) = open.clone().find(|place| yards[*place].fits(&waiting.needs)) {
            take(&mut yards[place].free, &waiting.needs);
        } else {
            let idle = open.map(|place| {
                let yard = Yard { busy: Vec::new(), ..yards[place].clone() };
                (place, goes(&yard, &waiting.needs))
            });
            let Some((place, (vms, _))) = idle.into_iter().find(|(_, (_, complete))| *complete) else {
                continue;
            };
            release(&mut yards[place], vms, &waiting.needs);
        }
        *left -= 1;
        order.put_rest(&lane);
    }
    released
}

fn enough(free: Size, needs: &Needs) -> bool {
    free.vm_slots > 0 && needs.memory_mib <= free.memory_mib && needs.storage_gib <= free.storage_gib
}

fn add(free: &mut Size, vm: &Vm) {
    free.vm_slots = free.vm_slots.saturating_add(1);
    free.memory_mib = free.memory_mib.saturating_add(vm.memory_mib);
    free.storage_gib = free.storage_gib.saturating_add(vm.storage_gib);
}

fn without(free: Size, vm: &Vm) -> Size {
    Size {
        vm_slots: free.vm_slots.saturating_sub(1),
        memory_mib: free.memory_mib.saturating_sub(vm.memory_mib),
        storage_gib: free.storage_gib.saturating_sub(vm.storage_gib),
    }
}

fn take(free: &mut Size, needs: &Needs) {
    free.vm_slots = free.vm_slots.saturating_sub(1);
    free.memory_mib = free.memory_mib.saturating_sub(needs.memory_mib);
    free.storage_gib = free.storage_gib.saturating_sub(needs.storage_gib);
}
