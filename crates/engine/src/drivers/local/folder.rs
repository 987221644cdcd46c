//! What lies where in the state folder.
//!
//! ```text
//! DIR/channel-key        0600  every VM's secret is made from it
//! DIR/vms/ID/            root's (0711) where VMs have users of their own, else ours (0700)
//!   worker.json          0600  what the worker must know before it starts: Orders
//!   secret               0600  proves which VM calls
//!   home                 0644  the channel's address, new after every start of the server
//!   lock  pid            0600  held by the living worker; its number and start time
//!   supervisor           0600  held by the worker's supervisor; its number and start time
//!   worker.log           0600  what the worker has to say
//!   jobs/N/  jobs/N.tmp/ 0700  the VM's user's: a job's home, and its TMPDIR; elsewhere, where its
//!                              user may not pass through to here: see `room`
//!   results/N  current   0700  the VM's user's: what ended and is not acknowledged; what runs
//! ```
//!
//! A job may write where its VM's user may, so that the server takes nothing from there but results.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    job_exec::Sandbox,
    process::Marker,
    room,
    wire::{self, Secret},
};

pub(super) const ORDERS: &str = "worker.json";
pub(super) const SECRET: &str = "secret";
pub(super) const HOME: &str = "home";
pub(super) const LOCK: &str = "lock";
pub(super) const PID: &str = "pid";
pub(super) const SUPERVISOR: &str = "supervisor";
pub(super) const LOG: &str = "worker.log";
pub(super) const JOBS: &str = "jobs";
pub(super) const RESULTS: &str = "results";
pub(super) const CURRENT: &str = "results/current";

/// What a worker must know before it starts: `worker.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Orders {
    /// Whose worker it is.
    pub(super) vm: String,
    /// The CPUs that it may use, by number; empty: any.
    pub(super) cpus: Vec<usize>,
    /// Most data memory of one process, in MiB.
    pub(super) memory_mib: u64,
    /// Most that the VM's folder may hold, and so the largest file, in GiB; `None`: no limit.
    pub(super) storage_gib: Option<u64>,
    /// The user and group to become; `None`: stays who it is.
    pub(super) user: Option<u32>,
    /// Control group of the VM, as an absolute path; `None`: it has none.
    #[serde(default)]
    pub(super) cgroup: Option<PathBuf>,
    /// Most that is kept of each of a job's two streams, in bytes.
    pub(super) output_max: usize,
    /// How long it lives without a server while no job runs, in seconds.
    pub(super) lease_s: u64,
    /// Pause between two signs of life, in seconds.
    #[serde(default = "alive_s")]
    pub(super) alive_s: u64,
    /// Files and processes that its jobs may reach. `None`: all that its user may reach.
    #[serde(default)]
    pub(super) sandbox: Option<Sandbox>,
    /// TCP ports that it and its jobs may not connect to.
    #[serde(default)]
    pub(super) closed_ports: Vec<u16>,
}

fn alive_s() -> u64 {
    wire::ALIVE_S
}

/// The driver's part of a state folder.
#[derive(Debug)]
pub(super) struct StateFolder {
    vms: PathBuf,
    key: Secret,
    pub(super) marker: Marker,
    /// Whether the VMs' users, if they have any, may pass through to it.
    pub(super) open: bool,
}

impl StateFolder {
    /// Opens it; makes what is missing. `shared`: VMs have users of their own, who must pass through.
    pub(super) fn open(state_dir: &Path, shared: bool) -> io::Result<Self> {
        make_dir(state_dir, 0o700)?;
        let root = fs::canonicalize(state_dir)?;
        let vms = root.join("vms");
        make_dir(&vms, 0o700)?;
        fs::set_permissions(&vms, Permissions::from_mode(if shared { 0o711 } else { 0o700 }))?;
        let key = channel_key(&root)?;
        // The folder itself, not its path: one that was moved keeps its VMs, a copy has none.
        let place = fs::metadata(&vms)?;
        let numbers = [place.dev().to_be_bytes(), place.ino().to_be_bytes()];
        let mark = key.derive(&[b"marker", &numbers[0], &numbers[1]]);
        let marker = Marker(mark.as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect());
        Ok(Self { open: room::is_open(&vms), vms, key, marker })
    }

    /// A VM's folder. Only for a name that cannot lead elsewhere.
    pub(super) fn vm(&self, id: &str) -> io::Result<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if id.is_empty() || id.len() > 200 || id.starts_with('.') || !id.bytes().all(plain) {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!("VM id {id:?} cannot name a folder"),
            ));
        }
        Ok(self.vms.join(id))
    }

    /// A VM's folder of jobs, as the kernel names it. A path that does not exist, where it is gone.
    pub(super) fn jobs(&self, id: &str) -> PathBuf {
        let jobs = self.vms.join(id).join(JOBS);
        fs::canonicalize(&jobs).unwrap_or(jobs)
    }

    /// The names of all VM folders.
    pub(super) fn ids(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.vms)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        let names: io::Result<Vec<_>> = names.collect();
        Ok(names?.into_iter().flatten().filter(|name| self.vm(name).is_ok()).collect())
    }

    /// What proves that a worker is this VM's.
    pub(super) fn secret(&self, vm: &str) -> Secret {
        self.key.derive(&[b"vm", vm.as_bytes()])
    }

    /// Lays out a VM's folder, or what is missing in it.
    pub(super) fn lay_out(&self, orders: &Orders, home: &str) -> io::Result<PathBuf> {
        let folder = self.vm(&orders.vm)?;
        make_dir(&folder, 0o700)?;
        replace(&folder.join(SECRET), self.secret(&orders.vm).as_bytes(), 0o600)?;
        replace(&folder.join(ORDERS), &serde_json::to_vec_pretty(orders)?, 0o600)?;
        replace(&folder.join(HOME), home.as_bytes(), 0o644)?;
        if orders.user.is_some() && !self.open && !folder.join(JOBS).exists() {
            remove_file(&folder.join(JOBS))?; // a link whose end is gone
            symlink(room::make(&self.marker, &orders.vm)?, folder.join(JOBS))?;
        }
        for name in [JOBS, RESULTS] {
            let inner = folder.join(name);
            if !inner.exists() {
                make_dir(&inner, 0o700)?;
            }
            chown(&inner, orders.user, orders.user)?;
        }
        // Only now, so that a stranger never passes through a folder that is half laid out.
        let mode = if orders.user.is_some() { 0o711 } else { 0o700 };
        fs::set_permissions(&folder, Permissions::from_mode(mode))?;
        Ok(folder)
    }

    /// Removes a VM's folder and all in it.
    pub(super) fn remove(&self, vm: &str) -> io::Result<()> {
        room::remove(&self.marker, vm)?;
        remove_tree(&self.vm(vm)?)
    }

    /// The orders that a VM's worker was started with.
    pub(super) fn orders(&self, vm: &str) -> Option<Orders> {
        serde_json::from_slice(&fs::read(self.vm(vm).ok()?.join(ORDERS)).ok()?).ok()
    }
}

/// The key, made once: a second maker finds the first one's.
fn channel_key(root: &Path) -> io::Result<Secret> {
    let path = root.join("channel-key");
    if !path.try_exists()? {
        let fresh = root.join(format!(".channel-key.{}", std::process::id()));
        replace(&fresh, Secret::random()?.as_bytes(), 0o600)?;
        File::open(&fresh)?.sync_all()?;
        let linked = fs::hard_link(&fresh, &path);
        fs::remove_file(&fresh)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => File::open(root)?.sync_all()?,
        }
    }
    Secret::from_bytes(&fs::read(&path)?)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("{path:?} is not 32 bytes long")))
}

/// Makes a folder and its parents; that it is there is success.
fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Gives a file new content in one step: a reader sees the old or the new.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_then_rename(path, content, mode, false)
}

/// [`replace`], and the content is on the disk when it answers.
pub(super) fn replace_durably(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    write_then_rename(path, content, mode, true)?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn write_then_rename(path: &Path, content: &[u8], mode: u32, durably: bool) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    remove_file(&fresh)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    file.write_all(content)?;
    if durably {
        file.sync_all()?;
    }
    // The umask took from the mode what others are to have.
    file.set_permissions(Permissions::from_mode(mode))?;
    fs::rename(&fresh, path)
}

/// Removes a file; that it is not there is success.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a folder and all in it, also where a job took away its own right to; never follows a
/// symbolic link. That it is not there is success.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Reads a file that a job may have meddled with: a plain one, at most `max` bytes long.
pub(super) fn read_untrusted(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    // Non-blocking, because a pipe in its place would be opened for ever.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > max as u64 {
        return Err(io::Error::new(ErrorKind::InvalidData, "not a plain file of a sensible size"));
    }
    let mut content = Vec::new();
    file.take(max as u64).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_ours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateFolder::open(dir.path(), false).unwrap();
        let again =
            StateFolder::open(&dir.path().join("../").join(dir.path().file_name().unwrap()), false).unwrap();
        assert_eq!(first.marker.0, again.marker.0);
        assert_eq!(first.secret("a").as_bytes(), again.secret("a").as_bytes());
        assert_ne!(first.secret("a").as_bytes(), first.secret("b").as_bytes());
        let key = dir.path().join("channel-key");
        assert_eq!(fs::metadata(&key).unwrap().mode() & 0o777, 0o600);
        fs::write(&key, "short").unwrap();
        assert!(StateFolder::open(dir.path(), false).is_err());
    }

    #[test]
    fn two_state_folders_have_two_markers() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(one.path().join("channel-key"), [1; 32]).unwrap();
        fs::write(two.path().join("channel-key"), [1; 32]).unwrap();
        let marker = |dir: &Path| StateFolder::open(dir, false).unwrap().marker.0;
        assert_ne!(marker(one.path()), marker(two.path()), "a copy is not the original");
    }

    #[test]
    fn a_name_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateFolder::open(dir.path(), false).unwrap();
        let cases = [
            ("here-0190", true),
            ("A_b.c", true),
            ("", false),
            (".", false),
            ("..", false),
            ("a/b", false),
            ("/etc", false),
            (".hidden", false),
            ("a\0", false),
            ("ä", false),
        ];
        for (id, fits) in cases {
            assert_eq!(state.vm(id).is_ok(), fits, "{id:?}");
        }
    }

    #[test]
    fn a_tree_goes_although_its_owner_closed_it() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "x").unwrap();
        std::os::unix::fs::symlink("/", tree.join("a/root")).unwrap();
        for closed in ["a/b", "a", ""] {
            fs::set_permissions(tree.join(closed), Permissions::from_mode(0o000)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_link_or_a_pipe_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        fs::write(path("plain"), "content").unwrap();
        std::os::unix::fs::symlink(path("plain"), path("link")).unwrap();
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read_untrusted(&path("plain"), 100).unwrap(), b"content");
        for (name, max) in [("plain", 3), ("link", 100), ("pipe", 100), ("none", 100)] {
            assert!(read_untrusted(&path(name), max).is_err(), "{name}");
        }
    }
}
