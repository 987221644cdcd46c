//! File of a Unix socket: made, given to its users, and removed, without following what another user puts in
//! its place.
//!
//! A folder may belong to another user, who can replace the socket by a link at any time. So mode and group
//! are changed on the inode that was bound, never by a path.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    sys::stat::{Mode, fchmod},
    unistd::geteuid,
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::paste::ServerSettings;

/// File of a socket that this process has bound. Removed with this value, if it still is at its path.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// The inode, held open so that no other file gets its number.
    inode: File,
}

impl SocketFile {
    /// The file at the path, if it is what [`bind`] makes: a socket of this user that has no permissions yet.
    fn bound(path: &Path) -> io::Result<Self> {
        let flags = (OFlag::O_PATH | OFlag::O_NOFOLLOW).bits();
        let inode = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = inode.metadata()?;
        let bound =
            found.file_type().is_socket() && found.nlink() == 1 && is_own(&found) && mode(&found) == 0;
        if !bound {
            return Err(replaced());
        }
        Ok(Self { path: path.to_owned(), inode })
    }

    /// Gives the socket the group and the mode of the settings.
    pub fn admit(&self, settings: &ServerSettings) -> io::Result<()> {
        if !self.is_in_place() {
            return Err(replaced());
        }
        // Leads to the inode itself, whatever is at the path.
        let inode = format!("/proc/self/fd/{}", self.inode.as_raw_fd());
        if let Some(group) = settings.socket_group {
            chown(&inode, None, Some(group))?;
        }
        fs::set_permissions(&inode, PermissionsExt::from_mode(settings.mode()))
    }

    fn is_in_place(&self) -> bool {
        same(&self.inode, &self.path)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            // One that stays is known for stale by the next start.
            fs::remove_file(&self.path).ok();
        }
    }
}

fn replaced() -> io::Error {
    io::Error::other("another file is in the place of the socket: others may write its folder")
}

fn is_own(file: &Metadata) -> bool {
    file.uid() == geteuid().as_raw()
}

fn mode(file: &Metadata) -> u32 {
    file.mode() & 0o777
}

/// `true` if the open file is the one at the path. A link at the path is another file.
fn same(open: &File, path: &Path) -> bool {
    let inode = |file: Metadata| (file.dev(), file.ino());
    let at_path = fs::symlink_metadata(path).map(inode);
    open.metadata().map(inode).is_ok_and(|open| at_path.is_ok_and(|at_path| at_path == open))
}

/// Makes a socket that listens at the path. It accepts no connection before it has its mode.
pub fn bind(path: &Path, settings: &ServerSettings, backlog: i32) -> io::Result<(Socket, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let _lock = StartLock::take(path)?;
    make_room(path, &address)?;
    // The mode of the file to come, by which it is told from other sockets.
    fchmod(&socket, Mode::empty())?;
    socket.bind(&address)?;
    let file = SocketFile::bound(path)?;
    file.admit(settings)?;
    socket.listen(backlog)?;
    Ok((socket, file))
}

/// Removes the socket of a killed process. One that answers, and a file that is no socket, stays.
fn make_room(path: &Path, address: &SockAddr) -> io::Result<()> {
    let taken = |why| Err(io::Error::new(ErrorKind::AddrInUse, why));
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => return taken("there is a file that is no socket"),
        Ok(found) => found,
    };
    let caller = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A process that has stopped accepting lives: do not wait for it.
    caller.set_nonblocking(true)?;
    match caller.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        // The process was killed between bind and listen.
        Err(error) if error.kind() == ErrorKind::PermissionDenied && is_own(&found) && mode(&found) == 0 => {
            fs::remove_file(path)
        }
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => taken("somebody answers there"),
    }
}

/// Lock of a start: a file beside the socket that no other user can open. Without it, one of two starts takes
/// the other's socket, which does not listen yet, for stale.
///
/// The folder itself is unsuitable: any user who can read it can lock it, and prevent every start.
#[derive(Debug)]
struct StartLock {
    path: PathBuf,
    _file: File,
}

impl StartLock {
    /// `None` where another user has put a file in its place: no other user prevents a start.
    fn take(socket: &Path) -> io::Result<Option<Self>> {
        let Some(name) = socket.file_name() else { return Ok(None) };
        let path = socket.with_file_name(format!(".{}.lock", name.to_string_lossy()));
        for _ in 0..100 {
            let Some(file) = own_file(&path) else { return Ok(None) };
            match file.try_lock() {
                Ok(()) if same(&file, &path) => return Ok(Some(Self { path, _file: file })),
                // Its holder has removed it meanwhile.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(2)),
                Err(TryLockError::Error(_)) => return Ok(None),
            }
        }
        Err(io::Error::new(ErrorKind::ResourceBusy, format!("another start holds {}", path.display())))
    }
}

impl Drop for StartLock {
    fn drop(&mut self) {
        // Still locked: who waits for it looks whether it is there.
        fs::remove_file(&self.path).ok();
    }
}

/// Opens or makes a file that this user alone can open.
fn own_file(path: &Path) -> Option<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = options.open(path).ok()?;
    let found = file.metadata().ok()?;
    let own = found.is_file() && found.nlink() == 1 && is_own(&found) && mode(&found) & 0o077 == 0;
    own.then_some(file)
}

/// The reason why other users may replace a socket at this path, or take its name; `None` if they may not, or
/// if that cannot be seen.
pub fn open_folder(socket: &Path) -> Option<String> {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).ok()?;
    folder.ancestors().enumerate().find_map(|(depth, at)| {
        let found = fs::metadata(at).ok()?;
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        if owner != 0 && !is_own(&found) {
            return Some(format!("the folder {} belongs to another user (uid {owner})", at.display()));
        }
        // A sticky folder above keeps its entries from others.
        let open = if depth == 0 { mode & 0o022 != 0 } else { mode & 0o002 != 0 && mode & 0o1000 == 0 };
        open.then(|| format!("other users may write the folder {} (mode {mode:04o})", at.display()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use super::*;
    use crate::paste::Section;

    fn settings(more: &str) -> ServerSettings {
        Section::from_text("server.x", &format!("listen = 'unix:a'\napp = 'a'\n{more}")).parse().unwrap()
    }

    fn mode_at(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn what_is_in_the_place_of_a_socket_keeps_its_mode() {
        let (before, after) = (settings(""), settings("socket_mode = '0666'"));
        // What an attacker puts at the path. The victim is `victim`.
        type Replace = fn(&Path, &Path);
        let cases: [(&str, Replace); 4] = [
            ("a link", |path, victim| symlink(victim, path).unwrap()),
            ("a hard link", |path, victim| fs::hard_link(victim, path).unwrap()),
            ("a file", |path, _| fs::write(path, "x").unwrap()),
            ("another socket", |path, _| drop(UnixListener::bind(path).unwrap())),
        ];
        for (what, replace) in cases {
            let folder = tempfile::tempdir().unwrap();
            let (path, victim) = (folder.path().join("a.sock"), folder.path().join("victim"));
            fs::write(&victim, "secret").unwrap();
            fs::set_permissions(&victim, PermissionsExt::from_mode(0o600)).unwrap();
            let (_socket, file) = bind(&path, &before, 1).unwrap();
            assert_eq!(mode_at(&path), 0o600);
            file.admit(&after).unwrap();
            assert_eq!(mode_at(&path), 0o666);
            fs::remove_file(&path).unwrap();
            replace(&path, &victim);
            let found = mode_at(&path);
            // At a reload, and between bind and the first change.
            assert!(file.admit(&after).is_err(), "{what}");
            assert!(SocketFile::bound(&path).is_err(), "{what}");
            assert_eq!((mode_at(&victim), mode_at(&path)), (0o600, found), "{what}");
            drop(file);
            assert!(fs::symlink_metadata(&path).is_ok(), "{what}: it is not removed");
        }
    }

    #[test]
    fn other_users_prevent_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let lock = folder.path().join(".a.sock.lock");
        // Any user who can read a folder can lock it.
        let held = File::open(folder.path()).unwrap();
        held.lock().unwrap();
        drop(bind(&path, &settings(""), 1).unwrap());
        assert!(!path.exists() && !lock.exists(), "nothing stays behind");
        // Files that others can open, or that lead elsewhere.
        let open = |mode| {
            let file = File::create(&lock).unwrap();
            fs::set_permissions(&lock, PermissionsExt::from_mode(mode)).unwrap();
            file.lock().unwrap();
            file
        };
        let readable = open(0o644);
        drop(bind(&path, &settings(""), 1).unwrap());
        drop(readable);
        fs::remove_file(&lock).unwrap();
        symlink("/nowhere", &lock).unwrap();
        drop(bind(&path, &settings(""), 1).unwrap());
        fs::remove_file(&lock).unwrap();
        // A start of the same user.
        let own = open(0o600);
        let busy = bind(&path, &settings(""), 1).unwrap_err();
        assert_eq!(busy.kind(), ErrorKind::ResourceBusy);
        drop(own);
        drop(bind(&path, &settings(""), 1).unwrap());
    }

    #[test]
    fn a_folder_that_others_may_write_has_a_warning() {
        let top = tempfile::tempdir().unwrap();
        let (above, folder) = (top.path().join("above"), top.path().join("above/run"));
        fs::create_dir_all(&folder).unwrap();
        let cases = [
            (0o755, 0o755, None),
            (0o700, 0o711, None),
            (0o755, 0o775, Some("run (mode 0775)")),
            (0o755, 0o777, Some("run (mode 0777)")),
            (0o755, 0o1777, Some("run (mode 1777)")),
            (0o1777, 0o755, None),
            (0o777, 0o755, Some("above (mode 0777)")),
        ];
        for (upper, lower, expected) in cases {
            fs::set_permissions(&above, PermissionsExt::from_mode(upper)).unwrap();
            fs::set_permissions(&folder, PermissionsExt::from_mode(lower)).unwrap();
            let found = open_folder(&folder.join("a.sock"));
            match expected {
                None => assert_eq!(found, None, "{upper:o} {lower:o}"),
                Some(expected) => {
                    assert!(found.as_ref().is_some_and(|it| it.ends_with(expected)), "{found:?}")
                }
            }
        }
        assert_eq!(open_folder(Path::new("/nowhere/a.sock")), None);
        if geteuid().is_root() {
            fs::set_permissions(&above, PermissionsExt::from_mode(0o755)).unwrap();
            fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).unwrap();
            chown(&folder, Some(12_345), None).unwrap();
            assert!(open_folder(&folder.join("a.sock")).is_some_and(|it| it.contains("uid 12345")));
        }
    }
}
