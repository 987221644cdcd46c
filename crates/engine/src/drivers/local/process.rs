//! Processes as `/proc` shows them: who lives, what belongs to a VM, and how to signal no stranger.
//!
//! A process is known by its number **and** its start time. A signal goes through a pidfd, opened
//! before the start time is compared, so that a reused number is never hit. Kernels without pidfds
//! (before 5.3) leave the instant between comparison and `kill` open.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal},
};

/// Which VM a process belongs to, in its environment; inherited by all that it starts.
pub(super) const VM_VARIABLE: &str = "PILEUS_VM";
/// Which state folder a process belongs to: [`Marker`]'s text.
pub(super) const STATE_VARIABLE: &str = "PILEUS_STATE";

/// An environment is read up to here, in bytes; the kernel allows a program somewhat less.
const ENVIRONMENT_MAX: u64 = 8 << 20;

/// One process, for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Process {
    /// Its number; positive.
    pub(super) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(super) start: u64,
}

/// What `/proc/<pid>/stat` says.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    zombie: bool,
    parent: i32,
    /// `true` if it has a controlling terminal.
    terminal: bool,
    start: u64,
}

impl Process {
    /// This process.
    pub(super) fn current() -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let stat = stat(pid).ok_or_else(|| io::Error::other("/proc is not readable"))?;
        Ok(Self { pid, start: stat.start })
    }

    /// The living process of this number.
    pub(super) fn running(pid: i32) -> Option<Self> {
        let stat = stat(pid).filter(|stat| !stat.zombie && pid > 1)?;
        Some(Self { pid, start: stat.start })
    }

    /// What a worker wrote into its folder: `<pid> <start>`.
    pub(super) fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).ok()?;
        let (pid, start) = text.trim_end().split_once(' ')?;
        let process = Self { pid: pid.parse().ok()?, start: start.parse().ok()? };
        (process.pid > 1).then_some(process)
    }

    /// Whether it still runs; a zombie does not.
    pub(super) fn lives(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start == self.start && !stat.zombie)
    }

    /// Whether it still runs and was started for this VM of this state folder.
    pub(super) fn lives_for(self, marker: &Marker, vm: &str, user: impl FnOnce() -> Option<u32>) -> bool {
        self.lives() && (marker.marks(self.pid, vm) || user().is_some_and(|user| runs_as(self.pid, user)))
    }

    /// Sends it a signal; that it is gone is success.
    pub(super) fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let sent = match pidfd_open(pid, PidfdFlags::empty()) {
            _ if !self.lives() => Ok(()),
            Ok(fd) => pidfd_send_signal(fd, signal),
            Err(Errno::SRCH) => Ok(()),
            Err(_) => kill_process(pid, signal),
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The mark of one state folder on its processes. Not a secret; it cannot be met by chance.
#[derive(Debug, Clone)]
pub(super) struct Marker(pub(super) String);

impl Marker {
    /// The VM that a process of this state folder belongs to.
    fn vm_of(&self, pid: i32) -> Option<Vec<u8>> {
        let mut environment = Vec::new();
        let file = File::open(format!("/proc/{pid}/environ")).ok()?;
        file.take(ENVIRONMENT_MAX).read_to_end(&mut environment).ok()?;
        self.vm_in(&environment).map(<[u8]>::to_vec)
    }

    fn vm_in<'a>(&self, environment: &'a [u8]) -> Option<&'a [u8]> {
        let variable = |name: &str| {
            environment
                .split(|byte| *byte == 0)
                .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        };
        variable(STATE_VARIABLE).filter(|state| *state == self.0.as_bytes())?;
        variable(VM_VARIABLE)
    }

    /// Returns `true` if a process says that it belongs to a VM of this state folder.
    pub(super) fn has(&self, pid: i32) -> bool {
        self.vm_of(pid).is_some()
    }

    /// The VMs of this state folder that have a process, known to anybody or not.
    pub(super) fn vms(&self) -> HashSet<String> {
        let found = all().into_iter().filter_map(|(process, _)| self.vm_of(process.pid));
        found.filter_map(|vm| String::from_utf8(vm).ok()).collect()
    }

    /// All that runs for a VM: marked so, under its own user, in its folder of jobs, or descended from such a
    /// process.
    pub(super) fn processes_of(&self, vm: &str, user: Option<u32>, jobs: &Path) -> Vec<Process> {
        let all = all();
        // A job has no terminal; a person who looks at a job's files has one.
        let terminals: HashSet<i32> =
            all.iter().filter(|(_, stat)| stat.terminal).map(|(process, _)| process.pid).collect();
        closure(&all, |pid| {
            self.marks(pid, vm)
                || user.is_some_and(|user| runs_as(pid, user))
                || (!terminals.contains(&pid) && works_in(pid, jobs))
        })
    }

    /// Whether a process says that it belongs to the VM. Root without `CAP_SYS_PTRACE`, as in most
    /// containers, cannot ask another's process: then its user tells as much.
    fn marks(&self, pid: i32, vm: &str) -> bool {
        self.vm_of(pid).is_some_and(|found| found == vm.as_bytes())
    }
}

/// Ends processes that may fork as fast as one can kill: first all are stopped, round by round,
/// until a round finds no fresh one; only then are they killed, and none is left to fork. One that
/// is never the same process for long may still be missed: see who calls.
#[derive(Debug, Default)]
pub(super) struct Hunt {
    stopped: HashSet<Process>,
}

impl Hunt {
    /// One round over those that were found; `true`: there were none.
    pub(super) fn round(&mut self, found: &[Process]) -> bool {
        let known = found.iter().filter(|process| self.stopped.contains(process)).count();
        let signal = if known == found.len() { Signal::KILL } else { Signal::STOP };
        for process in found {
            // Not allowed, say: then it is found again, and the hunt does not succeed.
            let _ = process.signal(signal);
        }
        self.stopped.extend(found);
        found.is_empty()
    }
}

/// Everything that descends from `ancestor`, and lives.
pub(super) fn descendants(ancestor: Process) -> Vec<Process> {
    let all = all();
    closure(&all, |pid| pid == ancestor.pid).into_iter().filter(|process| *process != ancestor).collect()
}

/// `true` if the process works in a folder, or in one that was removed there.
fn works_in(pid: i32, folder: &Path) -> bool {
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|place| place != folder && place.starts_with(folder))
}

/// Whether any process runs as `user`.
pub(super) fn user_is_busy(user: u32) -> bool {
    all().iter().any(|(process, _)| runs_as(process.pid, user))
}

/// The living processes for which `belongs` holds, and their descendants; never the caller.
fn closure(all: &[(Process, Stat)], belongs: impl Fn(i32) -> bool) -> Vec<Process> {
    let parents: HashMap<i32, i32> = all.iter().map(|(process, stat)| (process.pid, stat.parent)).collect();
    let mut known: HashMap<i32, bool> = HashMap::new();
    let own = std::process::id();
    let mut found = Vec::new();
    for (process, stat) in all {
        let mut path = Vec::new();
        let mut pid = process.pid;
        let verdict = loop {
            if let Some(verdict) = known.get(&pid) {
                break *verdict;
            }
            // A process that was born while we read may close a ring of reused numbers.
            if pid <= 1 || path.contains(&pid) {
                break false;
            }
            path.push(pid);
            if belongs(pid) {
                break true;
            }
            match parents.get(&pid) {
                Some(parent) => pid = *parent,
                None => break false,
            }
        };
        // All on the path but its end only inherited the verdict; the end itself has it.
        known.extend(path.into_iter().map(|pid| (pid, verdict)));
        if verdict && !stat.zombie && u32::try_from(process.pid) != Ok(own) {
            found.push(*process);
        }
    }
    found
}

/// Returns the parent and the start of a process.
pub(super) fn ancestor(pid: i32) -> Option<(i32, u64)> {
    stat(pid).map(|stat| (stat.parent, stat.start))
}

/// Returns the numbers of all processes that are seen.
pub(super) fn numbers() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn all() -> Vec<(Process, Stat)> {
    numbers()
        .into_iter()
        .filter_map(|pid| stat(pid).map(|stat| (Process { pid, start: stat.start }, stat)))
        .collect()
}

fn stat(pid: i32) -> Option<Stat> {
    // The second field is the program's name, which may hold anything, even not UTF-8.
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&text))
}

/// Source of the fields: proc_pid_stat(5); state is the 3rd, parent the 4th, terminal the 7th, threads the
/// 20th, start time the 22nd. A process whose first thread ended shows as a zombie although others run.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let terminal = fields.nth(2)? != "0";
    let threads: u32 = fields.nth(12)?.parse().ok()?;
    Some(Stat { zombie: zombie && threads <= 1, parent, terminal, start: fields.nth(1)?.parse().ok()? })
}

/// Whether the real, effective or saved user is `user`. The owner of `/proc/<pid>` does not tell:
/// that is root where a process may not be dumped.
fn runs_as(pid: i32, user: u32) -> bool {
    let Ok(status) = fs::read(format!("/proc/{pid}/status")) else { return false };
    let status = String::from_utf8_lossy(&status);
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    users.is_some_and(|users| users.split_ascii_whitespace().any(|word| word.parse() == Ok(user)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let line = "7 (a) Z 1 (b) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 25 5 1 0 4242 9 9";
        assert_eq!(parse_stat(line), Some(Stat { zombie: false, parent: 3, terminal: false, start: 4242 }));
        assert_eq!(parse_stat("7 (a"), None);
    }

    #[test]
    fn a_zombie_with_threads_is_none() {
        let line = |threads| format!("7 (a) Z 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 25 5 {threads} 0 4242 9 9");
        assert_eq!(
            parse_stat(&line(1)),
            Some(Stat { zombie: true, parent: 3, terminal: false, start: 4242 })
        );
        assert_eq!(
            parse_stat(&line(2)),
            Some(Stat { zombie: false, parent: 3, terminal: false, start: 4242 })
        );
    }

    #[test]
    fn the_marker_wants_both_variables() {
        let marker = Marker("m1".into());
        let cases: [(&[u8], Option<&[u8]>); 5] = [
            (b"A=1\0PILEUS_VM=v-1\0PILEUS_STATE=m1\0", Some(b"v-1")),
            (b"PILEUS_VM=v-1\0", None),
            (b"PILEUS_VM=v-1\0PILEUS_STATE=m2\0", None),
            (b"PILEUS_VM=v-1\0PILEUS_STATE=m10\0", None),
            (b"", None),
        ];
        for (environment, vm) in cases {
            assert_eq!(marker.vm_in(environment), vm);
        }
    }

    #[test]
    fn descendants_inherit_and_strangers_do_not() {
        let process = |pid, parent| {
            (Process { pid, start: 1 }, Stat { zombie: pid == 14, parent, terminal: false, start: 1 })
        };
        // 10 → 11 → 12, 14 (zombie) → 13; 20 is a stranger, 30 and 31 a ring.
        let all = [
            process(13, 14),
            process(12, 11),
            process(10, 1),
            process(11, 10),
            process(14, 10),
            process(20, 1),
            process(30, 31),
            process(31, 30),
        ];
        let mut found: Vec<_> = closure(&all, |pid| pid == 10).into_iter().map(|found| found.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [10, 11, 12, 13]);
    }

    #[test]
    fn this_process_lives_and_one_with_another_start_does_not() {
        let own = Process::current().unwrap();
        assert!(own.lives());
        assert!(!Process { start: own.start + 1, ..own }.lives());
        assert!(Process { start: own.start + 1, ..own }.signal(Signal::KILL).is_ok(), "hits nobody");
    }
}
