//! Which cloud a VM fits into, and which fits best.

use pileus_model::{Cloud, Job, Size, Vm};

/// What a job wants of its VM. The order is only for sorting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Needs {
    pub cpu_cores: u32,
    pub memory_mib: u64,
    pub storage_gib: u64,
}

impl Needs {
    pub fn of(job: &Job) -> Self {
        Self { cpu_cores: job.cpu_cores, memory_mib: job.memory_mib, storage_gib: job.storage_gib }
    }

    pub fn met_by(vm: &Vm) -> Self {
        Self { cpu_cores: vm.cpu_cores, memory_mib: vm.memory_mib, storage_gib: vm.storage_gib }
    }

    /// Whether `other` has at least as much of everything.
    pub fn fit(&self, other: &Needs) -> bool {
        self.cpu_cores <= other.cpu_cores
            && self.memory_mib <= other.memory_mib
            && self.storage_gib <= other.storage_gib
    }
}

/// How good a home a cloud is: the smallest score wins.
///
/// The derived order compares field by field, from the top: to change what matters more, move a
/// line. `place` is last and unique, so that a tie falls the same way on every run.
/// Source: cloud-scheduler 1.x, `cloudscheduler/cloud_management.py`, `get_fitting_resources`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// From the cloud's settings; the lower number is used first.
    pub priority: i64,
    /// Used slots in millionths of all slots (0..=1 000 000). Whole, because floats have no order.
    pub fill_ppm: u64,
    /// The cloud's place in the configuration.
    pub place: usize,
}

/// A test that a cloud did not pass. The order of the tests is that of [`Room::unfit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// It takes no more VMs.
    Retired,
    /// Its largest VM has fewer cores.
    CpuCores,
    /// Its largest VM has less memory.
    VmMemory,
    /// All of its memory is less.
    Memory,
    /// All of its storage is less.
    Storage,
    /// It may have no VM at all.
    Slots,
    /// It is disabled.
    Disabled,
    /// It does not answer now.
    Closed,
    /// All slots are taken.
    SlotsFree,
    /// What is left of its memory is less.
    MemoryFree,
    /// What is left of its storage is less.
    StorageFree,
}

impl Unfit {
    /// Whether it stays so when all VMs are gone and somebody enables the cloud.
    pub fn is_final(self) -> bool {
        self <= Self::Slots
    }
}

/// A cloud, and what is left of it while VMs are being planned.
#[derive(Debug, Clone)]
pub struct Room<'a> {
    pub cloud: &'a Cloud,
    free: Size,
    used_slots: u32,
    /// Does not answer now: not tried before its back-off has passed.
    pub closed: bool,
}

impl<'a> Room<'a> {
    pub fn of(cloud: &'a Cloud, closed: bool) -> Self {
        Self { cloud, free: cloud.free(), used_slots: cloud.used.vm_slots, closed }
    }

    /// The first test that a VM of this size does not pass now; `None`: it fits. What can never be
    /// comes first.
    pub fn unfit(&self, needs: &Needs) -> Option<Unfit> {
        let spec = &self.cloud.spec;
        let tests = [
            (self.cloud.retired, Unfit::Retired),
            (needs.cpu_cores > spec.cpu_cores, Unfit::CpuCores),
            (spec.max_vm_memory_mib.is_some_and(|most| needs.memory_mib > most), Unfit::VmMemory),
            (needs.memory_mib > spec.memory_mib, Unfit::Memory),
            (needs.storage_gib > spec.storage_gib, Unfit::Storage),
            (self.cloud.vm_slots() == 0, Unfit::Slots),
            (!self.cloud.enabled(), Unfit::Disabled),
            (self.closed, Unfit::Closed),
            (self.free.vm_slots == 0, Unfit::SlotsFree),
            (needs.memory_mib > self.free.memory_mib, Unfit::MemoryFree),
            (needs.storage_gib > self.free.storage_gib, Unfit::StorageFree),
        ];
        tests.into_iter().find_map(|(failed, unfit)| failed.then_some(unfit))
    }

    /// Scores the cloud for a VM of this size at this `place`; `None` where it does not fit now.
    pub fn score(&self, needs: &Needs, place: usize) -> Option<Score> {
        let fits = self.unfit(needs).is_none();
        let used = u64::from(self.used_slots) * 1_000_000;
        let fill_ppm = used.checked_div(self.cloud.vm_slots().into()).unwrap_or(1_000_000);
        fits.then_some(Score { priority: self.cloud.spec.priority, fill_ppm, place })
    }

    /// Puts a VM of this size into it.
    pub fn take(&mut self, needs: &Needs) {
        self.used_slots += 1;
        self.free.vm_slots = self.free.vm_slots.saturating_sub(1);
        self.free.memory_mib = self.free.memory_mib.saturating_sub(needs.memory_mib);
        self.free.storage_gib = self.free.storage_gib.saturating_sub(needs.storage_gib);
    }

    /// Whether such a VM would fit if the cloud were empty, enabled or not.
    pub fn could(&self, needs: &Needs) -> bool {
        self.unfit(needs).is_none_or(|unfit| !unfit.is_final())
    }
}
