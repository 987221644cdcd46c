//! View of the host that the processes of a VM have: `/proc` without the processes of others, and a name for the VM's
//! user.
//!
//! The supervisor changes it in a mount namespace of its own while it is root. The worker and its jobs inherit it; the
//! host sees none of it. Ends of VMs do not depend on it: the kernel also signals processes that `/proc` hides.
//!
//! Source: `hidepid`, proc(5); mount_namespaces(7).

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{note, setup::doing};
use crate::drivers::local::folder::{self, JOBS};

/// Name of the VM's user and of its group.
const NAME: &str = "pileus-vm";
/// Files with names of users and of groups: the host's, and the VM's copy in its folder.
const USERS: (&str, &str) = ("/etc/passwd", "passwd");
const GROUPS: (&str, &str) = ("/etc/group", "group");
const NONE: Option<&str> = None;

/// Gives this process, and all that it starts, a view of its own. `user` is the VM's user. What is not permitted is
/// noted and left as it is.
pub(super) fn limit(user: u32) {
    if let Err(error) = separate() {
        note(&format!("jobs see the processes of others, and their user has no name: {error}"));
        return;
    }
    if let Err(error) = hide_processes() {
        note(&format!("jobs see the processes of others: {error}"));
    }
    if let Err(error) = give_name(user) {
        note(&format!("the user of jobs has no name: {error}"));
    }
}

/// Mounts of the host still come and go here; those made here stay here.
fn separate() -> io::Result<()> {
    doing("make a mount namespace", unshare(CloneFlags::CLONE_NEWNS))?;
    doing("part from the host's mounts", mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE))
}

fn hide_processes() -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // The number, because kernels before 5.8 know no words for it.
    doing("mount /proc", mount(Some("proc"), "/proc", Some("proc"), flags, Some("hidepid=2")))
}

fn give_name(user: u32) -> io::Result<()> {
    let home = fs::canonicalize(JOBS)?;
    let home = home.to_str().filter(|home| !home.contains([':', '\n'])).unwrap_or("/");
    bind(USERS, user, &format!("{NAME}:x:{user}:{user}::{home}:/bin/sh"))?;
    bind(GROUPS, user, &format!("{NAME}:x:{user}:"))
}

/// Puts a copy with one more line in the place of a file of names. A host without the file keeps none.
fn bind((host, copy): (&str, &str), number: u32, line: &str) -> io::Result<()> {
    let names = match fs::read(host) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => doing("read the names of users", names)?,
    };
    let Some(names) = with_line(&names, number, line) else { return Ok(()) };
    doing("write the names of users", folder::replace(Path::new(copy), &names, 0o644))?;
    // Also where the server's umask is narrower.
    fs::set_permissions(copy, fs::Permissions::from_mode(0o644))?;
    doing("show the names of users", mount(Some(copy), host, NONE, MsFlags::MS_BIND, NONE))
}

/// Returns the names with one more line. `None`: the number or the name is taken.
fn with_line(names: &[u8], number: u32, line: &str) -> Option<Vec<u8>> {
    let number = number.to_string();
    let taken = |entry: &[u8]| {
        let mut fields = entry.split(|byte| *byte == b':');
        fields.next() == Some(NAME.as_bytes()) || fields.nth(1) == Some(number.as_bytes())
    };
    if names.split(|byte| *byte == b'\n').any(taken) {
        return None;
    }
    let mut all = names.to_vec();
    if !all.is_empty() && !all.ends_with(b"\n") {
        all.push(b'\n');
    }
    all.extend_from_slice(line.as_bytes());
    all.push(b'\n');
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_added_where_neither_number_nor_name_is_taken() {
        let cases: [(&str, Option<&str>); 6] = [
            ("", Some("LINE\n")),
            ("root:x:0:0::/:/bin/sh\n", Some("root:x:0:0::/:/bin/sh\nLINE\n")),
            ("root:x:0:0::/:/bin/sh", Some("root:x:0:0::/:/bin/sh\nLINE\n")),
            ("a:x:70:7::/:\n", Some("a:x:70:7::/:\nLINE\n")),
            ("a:x:7:0::/:\n", None),
            ("pileus-vm:x:9:9::/:\n", None),
        ];
        for (names, all) in cases {
            let found = with_line(names.as_bytes(), 7, "LINE");
            assert_eq!(found.as_deref(), all.map(str::as_bytes), "{names:?}");
        }
    }
}
