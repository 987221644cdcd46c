//! Which CPUs a VM may use: as many as it has cores, and those that the fewest others use.

use std::collections::HashMap;

use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

/// The CPUs of this host, and who is on them.
#[derive(Debug, Default)]
pub(super) struct Cpus {
    /// Those that the server itself may use.
    usable: Vec<usize>,
    taken: HashMap<String, Vec<usize>>,
}

impl Cpus {
    /// This host's. Where they cannot be learnt, nothing is pinned.
    pub(super) fn of_this_host() -> Self {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let usable = (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect();
        Self { usable, taken: HashMap::new() }
    }

    /// The CPUs of a VM with so many cores; none: any.
    pub(super) fn take(&mut self, vm: &str, cores: u32) -> Vec<usize> {
        self.give_back(vm);
        let cores = usize::try_from(cores.max(1)).unwrap_or(usize::MAX);
        if cores >= self.usable.len() {
            return Vec::new();
        }
        let mut users: HashMap<usize, usize> = HashMap::new();
        self.taken.values().flatten().for_each(|cpu| *users.entry(*cpu).or_default() += 1);
        let mut cpus = self.usable.clone();
        cpus.sort_by_key(|cpu| (users.get(cpu).copied().unwrap_or(0), *cpu));
        cpus.truncate(cores);
        cpus.sort_unstable();
        self.taken.insert(vm.to_owned(), cpus.clone());
        cpus
    }

    /// A VM that was there before the server has these.
    pub(super) fn found(&mut self, vm: &str, cpus: Vec<usize>) {
        self.taken.insert(vm.to_owned(), cpus);
    }

    /// The VM is gone.
    pub(super) fn give_back(&mut self, vm: &str) {
        self.taken.remove(vm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vms_spread_over_the_cpus() {
        let mut cpus = Cpus { usable: vec![0, 1, 2, 5], taken: HashMap::new() };
        let cases: [(&str, u32, &[usize]); 6] = [
            ("a", 1, &[0]),
            ("b", 2, &[1, 2]),
            ("c", 2, &[0, 5]),
            ("d", 4, &[]),
            ("e", 99, &[]),
            ("f", 0, &[1]),
        ];
        for (vm, cores, wanted) in cases {
            assert_eq!(cpus.take(vm, cores), wanted, "{vm}");
        }
        cpus.give_back("b");
        assert_eq!(cpus.take("g", 1), [2]);
    }
}
