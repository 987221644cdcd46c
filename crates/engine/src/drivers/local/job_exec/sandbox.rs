//! Files and processes that a job may reach, by Landlock.
//!
//! Landlock denies what no rule allows. It does not deny the look-up of names, and neither `stat`, `chmod` nor
//! `utime`. Connections to Unix sockets by path are not denied either.
//! Source: <https://docs.kernel.org/userspace-api/landlock.html>.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use landlock::{
    Access, AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, Scope, path_beneath_rules,
};
use serde::{Deserialize, Serialize};

use crate::drivers::local::kernel;

/// Files and folders of the system that jobs may read and execute. What a host lacks is left out.
const SYSTEM: [&str; 20] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt",
    "/etc",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/var/cache/fontconfig",
    "/var/lib/ca-certificates",
    "/var/lib/alternatives",
    "/dev/fd",
];
/// Devices that jobs may read and write.
const DEVICES: [&str; 8] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts",
];
/// Files of a job's own processes, which it may write: the kernel admits no others.
const PROCESSES: &str = "/proc";
/// Folders of all users of the host, for VMs with a user of their own: their files go with the VM.
const COMMON: [&str; 4] = ["/tmp", "/var/tmp", "/dev/shm", "/dev/mqueue"];

/// Files and processes that a job may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::drivers::local) struct Sandbox {
    /// Version of Landlock.
    pub(in crate::drivers::local) landlock: u8,
    /// Paths that may be read beside those of the system.
    pub(in crate::drivers::local) readable: Vec<PathBuf>,
    /// Paths that may be written beside the job's own.
    pub(in crate::drivers::local) writable: Vec<PathBuf>,
    /// Real paths that may not be read, whatever folder they are in.
    pub(in crate::drivers::local) hidden: Vec<PathBuf>,
    /// `true` if the job may write to the common folders of the host.
    pub(in crate::drivers::local) common: bool,
}

impl Sandbox {
    /// Restricts this process, and all that it executes, for good. `own` are the job's folders.
    pub(super) fn enter(&self, own: &[PathBuf]) -> io::Result<()> {
        let level = kernel::level(self.landlock)
            .ok_or_else(|| io::Error::other("Landlock has no version that is known"))?;
        let (all, read) = (AccessFs::from_all(level), AccessFs::from_read(level));
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        ruleset = ruleset.handle_access(all).map_err(io::Error::other)?;
        let scopes = Scope::from_all(level);
        if !scopes.is_empty() {
            ruleset = ruleset.scope(scopes).map_err(io::Error::other)?;
        }
        let ruleset = ruleset.create().map_err(io::Error::other)?;
        let mut readable = Vec::new();
        for path in SYSTEM.iter().map(Path::new).chain(self.readable.iter().map(PathBuf::as_path)) {
            if let Ok(path) = path.canonicalize() {
                visible(&path, &self.hidden, &mut readable);
            }
        }
        let devices =
            all & (AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ReadDir | AccessFs::IoctlDev);
        let processes = all & (read | AccessFs::WriteFile | AccessFs::Truncate);
        let common = COMMON.iter().map(Path::new).filter(|_| self.common);
        let writable = common.chain(self.writable.iter().chain(own).map(PathBuf::as_path));
        allow(ruleset, readable.iter().map(PathBuf::as_path), read)
            .and_then(|ruleset| allow(ruleset, DEVICES.iter().map(Path::new), devices))
            .and_then(|ruleset| allow(ruleset, [Path::new(PROCESSES)].into_iter(), processes))
            .and_then(|ruleset| allow(ruleset, writable, all))
            .and_then(|ruleset| ruleset.restrict_self().map_err(io::Error::other))
            .map(drop)
    }
}

/// Adds rules. Paths that are not there are left out.
fn allow<'a>(
    ruleset: RulesetCreated,
    paths: impl Iterator<Item = &'a Path>,
    access: BitFlags<AccessFs>,
) -> io::Result<RulesetCreated> {
    ruleset.add_rules(path_beneath_rules(paths, access)).map_err(io::Error::other)
}

/// Lists `path`, or, where it has hidden files, all that is in it and has none. Both are real paths.
fn visible(path: &Path, hidden: &[PathBuf], into: &mut Vec<PathBuf>) {
    if hidden.iter().any(|hidden| path.starts_with(hidden)) {
        return;
    }
    if !hidden.iter().any(|hidden| hidden.starts_with(path)) {
        into.push(path.to_path_buf());
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        // A rule for a symbolic link would hold for its target.
        if entry.file_type().is_ok_and(|it| !it.is_symlink()) {
            visible(&entry.path(), hidden, into);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_paths_split_the_folders_above_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for folder in ["a/b", "a/c", "d"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("a/b/secret"), "").unwrap();
        fs::write(root.join("a/b/plain"), "").unwrap();
        std::os::unix::fs::symlink(root.join("a/b"), root.join("a/link")).unwrap();
        // Hidden paths, and what stays visible.
        let cases: [(&[&str], &[&str]); 6] = [
            (&[], &[""]),
            (&["elsewhere"], &["a", "d"]),
            (&["a/b/secret"], &["a/b/plain", "a/c", "d"]),
            (&["a/b"], &["a/c", "d"]),
            (&["a"], &["d"]),
            (&[""], &[]),
        ];
        for (hidden, expected) in cases {
            let paths = |names: &[&str]| names.iter().map(|name| root.join(name)).collect::<Vec<_>>();
            let mut found = Vec::new();
            visible(&root, &paths(hidden), &mut found);
            found.sort();
            let expected: Vec<_> =
                paths(expected).iter().map(|path| path.components().collect::<PathBuf>()).collect();
            assert_eq!(found, expected, "{hidden:?}");
        }
    }
}
