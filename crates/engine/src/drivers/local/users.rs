//! A user for every VM, where the server is root: no VM reads another's files or signals its jobs.
//!
//! Numbers stand in no user database. They are taken host-wide, by a symbolic link
//! `/run/pileus-users/<number>` → `<marker>/<vm>`: two servers never share one, and only what the
//! link says is ours is ever killed by its user. A number is drawn from the VM's id, so that one
//! is hardly ever used twice and finds nothing that a former VM left in `/tmp`.
//!
//! Not taken, or taken by others: 61184–65519 (systemd's `DynamicUser`), 100000– (`/etc/subuid`),
//! 200000–2000200000 (FreeIPA, SSSD), 524288–1879048191 (containers), 2147352576– (systemd).
//! Source: <https://systemd.io/UIDS-GIDS/>.

use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    ops::Range,
    os::unix::fs::{DirBuilderExt, MetadataExt, symlink},
    path::Path,
};

use super::{
    folder,
    process::{self, Marker},
};

/// Where users are taken.
pub(super) const WIDE: Range<u32> = 2_100_000_000..2_101_000_000;
/// Where they are taken if root is one of a container that maps no more than 65536 users.
pub(super) const NARROW: Range<u32> = 60_706..61_184;

pub(super) const TAKEN: &str = "/run/pileus-users";
/// Folders in which anybody may leave something.
const COMMON: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// What root may have lost in a container and needs here, as bits of `CapEff`: `CAP_CHOWN`,
/// `CAP_DAC_OVERRIDE`, `CAP_FOWNER`, `CAP_KILL`, `CAP_SETGID`, `CAP_SETUID`. Source: capabilities(7).
const RIGHTS: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7;

/// The users that VMs may have here.
#[derive(Debug, Clone)]
pub(super) struct Users {
    range: Range<u32>,
}

impl Users {
    /// `None`: not root, or root of a container that has no users to give, or may not.
    pub(super) fn available() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        if !nix::unistd::geteuid().is_root() || !has_rights(&status) {
            return None;
        }
        let maps = [fs::read_to_string("/proc/self/uid_map"), fs::read_to_string("/proc/self/gid_map")];
        let maps: Vec<String> = maps.into_iter().filter_map(Result::ok).collect();
        let mapped = |range: &Range<u32>| maps.iter().all(|map| maps_all(map, range));
        [WIDE, NARROW].into_iter().find(mapped).map(|range| Self { range })
    }

    /// Takes a user for a VM, or finds the one that it has.
    pub(super) fn take(&self, marker: &Marker, vm: &str) -> io::Result<u32> {
        if let Some(user) = Self::of(marker, vm) {
            return Ok(user);
        }
        let size = self.range.end - self.range.start;
        let first = vm.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3) // FNV-1a: spreads, keeps no secret
        });
        for step in 0..size {
            let place = (first % u64::from(size) + u64::from(step)) % u64::from(size);
            let user = self.range.start + u32::try_from(place).unwrap_or_default();
            let link = Path::new(TAKEN).join(user.to_string());
            match take_link(&owner(marker, vm), &link) {
                // Somebody who knows nothing of us may use it.
                Ok(()) if process::user_is_busy(user) => folder::remove_file(&link)?,
                Ok(()) => return Ok(user),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(ErrorKind::StorageFull, "every user number for VMs is taken"))
    }

    /// Whether a VM has this user.
    pub(super) fn has(marker: &Marker, vm: &str, user: u32) -> bool {
        fs::read_link(Path::new(TAKEN).join(user.to_string()))
            .is_ok_and(|found| found.as_os_str() == owner(marker, vm).as_str())
    }

    /// The user that a VM has. Walks through all that are taken.
    pub(super) fn of(marker: &Marker, vm: &str) -> Option<u32> {
        let wanted = owner(marker, vm);
        taken().find_map(|(user, owner)| (owner == wanted).then_some(user))
    }

    /// The VMs of this state folder that have a user.
    pub(super) fn vms(marker: &Marker) -> Vec<String> {
        let ours = |owner: String| Some(owner.strip_prefix(&marker.0)?.strip_prefix('/')?.to_owned());
        taken().filter_map(|(_, owner)| ours(owner)).collect()
    }

    /// Gives a VM's user back, once nothing runs as it; what it left in common folders goes.
    pub(super) fn give_back(marker: &Marker, vm: &str) -> io::Result<()> {
        while let Some(user) = Self::of(marker, vm) {
            COMMON.iter().for_each(|common| clear(Path::new(common), user));
            folder::remove_file(&Path::new(TAKEN).join(user.to_string()))?;
        }
        // Fails as long as anybody has a user, and then it must.
        let _ = fs::remove_dir(TAKEN);
        Ok(())
    }
}

fn owner(marker: &Marker, vm: &str) -> String {
    format!("{}/{vm}", marker.0)
}

/// The folder may go at any time, with the last user of another server.
fn take_link(owner: &str, link: &Path) -> io::Result<()> {
    loop {
        DirBuilder::new().recursive(true).mode(0o755).create(TAKEN)?;
        match symlink(owner, link) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => return done,
        }
    }
}

fn taken() -> impl Iterator<Item = (u32, String)> {
    let entries = fs::read_dir(TAKEN).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let user = entry.file_name().to_str()?.parse().ok()?;
        Some((user, fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok()?))
    })
}

/// Removes what a user left in a common folder. What cannot be removed stays: it harms nobody
/// before its number is drawn again.
fn clear(common: &Path, user: u32) {
    for entry in fs::read_dir(common).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.uid() == user {
            let _ = match metadata.is_dir() {
                true => folder::remove_tree(&entry.path()),
                false => folder::remove_file(&entry.path()),
            };
        }
    }
}

fn has_rights(status: &str) -> bool {
    let rights =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    rights.is_some_and(|rights| rights & RIGHTS == RIGHTS)
}

/// Whether a user namespace knows all numbers of `range`. Lines: first inside, first outside, count.
fn maps_all(map: &str, range: &Range<u32>) -> bool {
    map.lines().any(|line| {
        let numbers: Vec<u64> = line.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        matches!(numbers[..], [first, _, count]
            if first <= u64::from(range.start) && u64::from(range.end) <= first.saturating_add(count))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_may_have_lost_its_rights() {
        let cases = [
            ("CapPrm:\t0\nCapEff:\t000001ffffffffff\n", true),
            ("CapEff:\t00000000a80425fb\n", true), // what Docker leaves
            ("CapEff:\t00000000a804255b\n", false),
            ("CapEff:\t0000000000000000\n", false),
            ("", false),
        ];
        for (status, has) in cases {
            assert_eq!(has_rights(status), has, "{status:?}");
        }
    }

    #[test]
    fn a_container_may_know_few_users() {
        let cases = [
            ("0 0 4294967295", true, true),
            ("         0     100000      65536\n", false, true),
            ("0 1000 1\n1 100000 65536\n", false, true),
            ("0 1000 1\n", false, false),
            ("", false, false),
        ];
        for (map, wide, narrow) in cases {
            assert_eq!((maps_all(map, &WIDE), maps_all(map, &NARROW)), (wide, narrow), "{map:?}");
        }
    }
}
