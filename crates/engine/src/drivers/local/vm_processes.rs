//! Processes of VMs that have no user of their own, for listeners that have to keep jobs out.
//!
//! A worker and its supervisor carry the mark of their state folder in their first environment, which no job changes.
//! Both adopt orphans, so that a job's process always descends from one of them while they live; a control group,
//! where there is one, tells also afterwards.

use std::{
    fs,
    sync::{PoisonError, RwLock},
};

use super::process::{self, Marker};

/// State folders of this process that have such VMs: their marks, and the TCP ports that none of their VMs reaches.
static FOLDERS: RwLock<Vec<(Marker, Vec<u16>)>> = RwLock::new(Vec::new());
/// Ancestors of a process that are looked at, at most.
const STEPS_MAX: usize = 4096;

/// Records that a state folder has such a VM, whose rules close these TCP ports to its jobs.
pub(super) fn found(marker: &Marker, closed_ports: &[u16]) {
    let mut folders = FOLDERS.write().unwrap_or_else(PoisonError::into_inner);
    match folders.iter_mut().find(|(known, _)| known.0 == marker.0) {
        Some((_, closed)) => closed.retain(|port| closed_ports.contains(port)),
        None => folders.push((marker.clone(), closed_ports.to_vec())),
    }
}

/// Returns `true` if this process has had VMs without a user of their own.
pub fn exist() -> bool {
    !FOLDERS.read().unwrap_or_else(PoisonError::into_inner).is_empty()
}

/// Returns `true` if such a VM was started without a rule that closes this TCP port to its jobs.
pub fn reach(port: u16) -> bool {
    let folders = FOLDERS.read().unwrap_or_else(PoisonError::into_inner);
    folders.iter().any(|(_, closed)| !closed.contains(&port))
}

/// Returns `true` if a process that belongs to no such VM holds the socket of this inode. Processes of other users
/// are not seen, unless this process is root.
pub fn others_hold(inode: u32) -> bool {
    let socket = format!("socket:[{inode}]");
    let holds = |pid: i32| {
        let mut files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == &*socket))
    };
    process::numbers().into_iter().any(|pid| holds(pid) && contain(pid) == Some(false))
}

/// Returns `true` if a process belongs to such a VM. `None`: it is gone, not of this host, or cannot be read.
pub fn contain(pid: i32) -> Option<bool> {
    let folders = FOLDERS.read().unwrap_or_else(PoisonError::into_inner);
    let marks: Vec<Marker> = folders.iter().map(|(marker, _)| marker.clone()).collect();
    drop(folders);
    let grouped = |group: &str| marks.iter().any(|mark| group.contains(&format!("/pileus-{}-", mark.0)));
    if grouped(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?) {
        return Some(true);
    }
    descends(pid, process::ancestor, |pid| marks.iter().any(|mark| mark.has(pid)))
}

/// Returns `true` if `marked` holds for a process or an ancestor of it. `of` returns parent and start of a process.
/// An ancestor that cannot be read though it lives is another user's, and so no worker.
fn descends(pid: i32, of: impl Fn(i32) -> Option<(i32, u64)>, marked: impl Fn(i32) -> bool) -> Option<bool> {
    let (mut at, mut seen) = (pid, of(pid)?);
    for _ in 0..STEPS_MAX {
        if marked(at) {
            return Some(true);
        }
        let (parent, start) = seen;
        if parent <= 1 {
            // It may have ended since, and its child have another parent by now.
            return (of(at) == Some(seen)).then_some(false);
        }
        match of(parent) {
            // A number that was used again names a younger process.
            Some(next) if next.1 <= start && of(at) == Some(seen) => (at, seen) = (parent, next),
            None if of(at) == Some(seen) => return Some(false),
            // Its parent ended meanwhile: another has adopted it. If it ended itself, from the beginning.
            _ => match of(at) {
                Some(again) if again.1 == start => seen = again,
                _ => (at, seen) = (pid, of(pid)?),
            },
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::HashMap};

    use super::*;

    #[test]
    fn a_process_descends_from_a_worker_also_while_its_parents_end() {
        type Tree = &'static [(i32, i32, u64)];
        // Processes (number, parent, start) before and after some looks; process 10 is marked.
        let tree: Tree = &[(10, 1, 1), (11, 10, 2), (12, 11, 3), (20, 1, 1), (21, 20, 2)];
        let adopted: Tree = &[(10, 1, 1), (12, 10, 3), (20, 1, 1), (21, 20, 2)];
        let reused: Tree = &[(10, 1, 1), (11, 20, 9), (12, 10, 3), (20, 1, 1)];
        let cases: [(&str, Tree, Tree, i32, Option<bool>); 9] = [
            ("a worker", tree, tree, 10, Some(true)),
            ("a job", tree, tree, 12, Some(true)),
            ("a stranger", tree, tree, 21, Some(false)),
            ("gone", tree, tree, 13, None),
            ("its parent is another user's", &[(21, 20, 2)], &[(21, 20, 2)], 21, Some(false)),
            ("its parent ends", tree, adopted, 12, Some(true)),
            ("its parent's number is used again", tree, reused, 12, Some(true)),
            ("it ends", tree, &[(10, 1, 1), (11, 10, 2)], 12, None),
            ("a ring", &[(30, 31, 1), (31, 30, 1)], &[(30, 31, 1), (31, 30, 1)], 30, None),
        ];
        for (what, before, after, pid, expected) in cases {
            for looks in 1..6 {
                let count = Cell::new(0);
                let of = |pid| {
                    count.set(count.get() + 1);
                    let tree = if count.get() > looks { after } else { before };
                    let tree: HashMap<_, _> = tree.iter().map(|it| (it.0, (it.1, it.2))).collect();
                    tree.get(&pid).copied()
                };
                let found = descends(pid, of, |pid| pid == 10);
                // A job that ends late was found already.
                let fits = found == expected || (what == "it ends" && found == Some(true));
                assert!(fits, "{what} after {looks} looks: {found:?}");
            }
        }
    }
}
