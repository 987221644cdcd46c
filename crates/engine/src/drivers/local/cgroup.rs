//! Control groups of VMs (cgroup v2), where this host lets the server make them.
//!
//! A VM's group is named `pileus-MARKER-VM`. It lies in the server's own group, or beside it where
//! that one is called `server` (`DelegateSubgroup=server` of a systemd unit): a group that holds
//! processes cannot hand controllers to groups in it. Without a group a VM is ended by other means,
//! and its memory is bounded for each process alone.
//!
//! Source: <https://docs.kernel.org/admin-guide/cgroup-v2.html>.

use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::process::{Marker, Process};

/// Name of a group beside which those of VMs are made.
const SUBGROUP: &str = "server";
/// Memory of a VM for its worker and supervisor, beside that of its jobs, in MiB.
const WORKER_MIB: u64 = 32;

/// Control groups that this server can make.
#[derive(Debug, Clone, Default)]
pub(super) struct Cgroups {
    /// Folder of the groups. `None`: this server can make none.
    base: Option<PathBuf>,
    /// `true` if a group bounds the memory of its processes together.
    pub(super) bounds_memory: bool,
}

impl Cgroups {
    /// The groups that can be made on this host.
    pub(super) fn of_this_host() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let own = own_group(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        own.map_or_else(Self::default, |own| Self::at(base_of(&own)))
    }

    /// The groups that can be made in a folder.
    fn at(base: &Path) -> Self {
        let probe = base.join(format!("pileus-probe-{}", std::process::id()));
        if make_dir(&probe).and_then(|()| fs::remove_dir(&probe)).is_err() {
            return Self::default();
        }
        // Refused where the group itself holds processes, unless it is the root of all.
        let _ = fs::write(base.join("cgroup.subtree_control"), "+memory");
        let enabled = fs::read_to_string(base.join("cgroup.subtree_control")).unwrap_or_default();
        let bounds_memory = enabled.split_whitespace().any(|controller| controller == "memory");
        Self { base: Some(base.to_owned()), bounds_memory }
    }

    /// Makes the group of a VM, or finds it. `None`: this server can make none.
    pub(super) fn make(&self, marker: &Marker, vm: &str, memory_mib: u64) -> io::Result<Option<PathBuf>> {
        let Some(group) = self.of(marker, vm) else { return Ok(None) };
        make_dir(&group)?;
        if self.bounds_memory {
            let bytes = memory_mib.saturating_add(WORKER_MIB).saturating_mul(1 << 20);
            fs::write(group.join("memory.max"), bytes.to_string())?;
            // Absent where the kernel does not account swap.
            match fs::write(group.join("memory.swap.max"), "0") {
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(Some(group))
    }

    /// The group of a VM, made or not.
    pub(super) fn of(&self, marker: &Marker, vm: &str) -> Option<PathBuf> {
        Some(self.base.as_ref()?.join(format!("{}{vm}", prefix(marker))))
    }

    /// The VMs of this state folder that have a group.
    pub(super) fn vms(&self, marker: &Marker) -> Vec<String> {
        let entries = self.base.iter().filter_map(|base| fs::read_dir(base).ok()).flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_prefix(&prefix(marker)).map(str::to_owned)).collect()
    }
}

fn prefix(marker: &Marker) -> String {
    format!("pileus-{}-", marker.0)
}

/// Kills all processes of a group and of those in it, in one step that no fork outruns (Linux 5.14).
/// Returns those that still live.
pub(super) fn kill(group: &Path) -> Vec<Process> {
    let _ = fs::write(group.join("cgroup.kill"), "1");
    let mut found = Vec::new();
    for group in groups(group) {
        let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
        found.extend(text.lines().filter_map(|pid| Process::running(pid.parse().ok()?)));
    }
    found
}

/// Removes a group and those in it; that it is not there is success. None may have a process.
pub(super) fn remove(group: &Path) -> io::Result<()> {
    for group in groups(group).iter().rev() {
        match fs::remove_dir(group) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Number of processes of a group that ended because its memory did.
pub(super) fn memory_kills(group: &Path) -> u64 {
    let events = fs::read_to_string(group.join("memory.events")).unwrap_or_default();
    let kills = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    kills.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// A group and those in it, an outer one before those in it.
fn groups(group: &Path) -> Vec<PathBuf> {
    let mut found = vec![group.to_owned()];
    let mut at = 0;
    while let Some(group) = found.get(at) {
        let entries = fs::read_dir(group).into_iter().flatten().flatten();
        let inner: Vec<_> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(inner);
        at += 1;
    }
    found
}

fn make_dir(group: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(group)
}

/// Folder for the groups of VMs of a server in this group.
fn base_of(own: &Path) -> &Path {
    match own.parent() {
        Some(parent) if own.ends_with(SUBGROUP) => parent,
        _ => own,
    }
}

/// Folder of this process's group, from `/proc/self/cgroup` and `/proc/self/mountinfo`. `None`: cgroup v2 is
/// not mounted, or does not show it. Source: cgroups(7), proc_pid_mountinfo(5).
fn own_group(cgroup: &str, mounts: &str) -> Option<PathBuf> {
    let own = Path::new(cgroup.lines().find_map(|line| line.strip_prefix("0::"))?);
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A backslash begins the code of a space, say.
        let plain = kind.starts_with("cgroup2 ") && !root.contains('\\') && !point.contains('\\');
        let inner = own.strip_prefix(root).ok().filter(|_| plain)?;
        Some(Path::new(point).join(inner).components().collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found() {
        let v2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        let hybrid = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        let bound = "31 23 0:28 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup rw";
        let cases = [
            ("0::/\n", v2, Some("/sys/fs/cgroup")),
            ("0::/system.slice/pileus.service\n", v2, Some("/sys/fs/cgroup/system.slice/pileus.service")),
            ("4:memory:/x\n0::/a\n", hybrid, Some("/sys/fs/cgroup/unified/a")),
            ("0::/docker/1/a\n", bound, Some("/sys/fs/cgroup/a")),
            ("0::/docker/2\n", bound, None),
            ("4:memory:/x\n", hybrid, None),
            ("0::/\n", "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw", None),
            ("0::/\n", r"31 23 0:28 / /a\040b rw - cgroup2 cgroup2 rw", None),
            ("", "", None),
        ];
        for (cgroup, mounts, group) in cases {
            assert_eq!(own_group(cgroup, mounts).as_deref(), group.map(Path::new), "{cgroup:?} {mounts:?}");
        }
    }

    #[test]
    fn vms_are_beside_a_subgroup_for_the_server() {
        for (own, base) in
            [("/c/u/server", "/c/u"), ("/c/u", "/c/u"), ("/c", "/c"), ("/c/my-server", "/c/my-server")]
        {
            assert_eq!(base_of(Path::new(own)), Path::new(base), "{own}");
        }
    }

    /// A plain folder in place of the kernel's: what is written is seen.
    #[test]
    fn memory_is_bounded_where_the_controller_is_there() {
        let marker = Marker("m".into());
        for (controllers, bound) in [("cpu memory pids\n", true), ("cpu pids\n", false)] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("cgroup.subtree_control"), controllers).unwrap();
            let mut cgroups = Cgroups { base: Some(dir.path().to_owned()), bounds_memory: bound };
            let group = cgroups.make(&marker, "v", 128).unwrap().unwrap();
            let read = |file| fs::read_to_string(group.join(file)).ok();
            assert_eq!(read("memory.max").as_deref(), bound.then_some("167772160"));
            assert_eq!(read("memory.swap.max").as_deref(), bound.then_some("0"));
            assert_eq!(cgroups.vms(&marker), ["v"]);
            assert_eq!(memory_kills(&group), 0);
            fs::write(group.join("memory.events"), "low 0\noom 3\noom_kill 2\noom_group_kill 0\n").unwrap();
            assert_eq!(memory_kills(&group), 2);
            cgroups.base = None;
            assert_eq!(cgroups.make(&marker, "v", 128).unwrap(), None);
        }
        let closed = Cgroups::at(Path::new("/proc/self"));
        assert!(closed.base.is_none() && !closed.bounds_memory);
    }
}
