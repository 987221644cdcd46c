//! Exclusive claim of one process on a state folder.
//!
//! The claim is `flock` on the folder's own descriptor: no file can be removed from under it. The file `lock`
//! is locked, too, because older versions lock that file alone. SQLite's own locks are no claim: POSIX locks of
//! a file end once any descriptor of the file is closed in the process.

use std::{
    fs::{self, File, Metadata, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use nix::errno::Errno;
use tracing::warn;

use super::{OpenError, folder};

/// Attempts to lock, and the pause between two of them. A former owner may have left its lock with a program
/// that it was starting; that program closes it once it runs.
const ATTEMPTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(10);

/// Files that must stay the ones that were opened, in the state folder.
const FILES: [&str; 3] = ["pileus.db", JOURNAL, "pileus.db-shm"];
const JOURNAL: &str = "pileus.db-wal";

/// Device and inode.
type Identity = (u64, u64);

/// Claim on a state folder, held until it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    identity: Identity,
    /// Identities of [`FILES`]; empty until [`Claim::opened`].
    files: Vec<Identity>,
    /// `true` once the journal was seen with something in it. It is never empty again while it is open.
    has_journal: bool,
    /// Dropped before the folder: the folder's lock is the last one to go.
    _lock: File,
    _folder: File,
}

impl Claim {
    /// Claims the folder. Blocks for half a second where it is taken.
    pub fn take(dir: &Path) -> Result<Self, OpenError> {
        let unusable = |cause| OpenError::Unusable { dir: dir.to_owned(), cause };
        let held = File::open(dir).map_err(unusable)?;
        match lock(&held) {
            Ok(true) => {}
            Ok(false) => return Err(OpenError::InUse { dir: dir.to_owned() }),
            // NFS locks files that are open for writing, which a folder never is.
            Err(cause) if is_unsupported(&cause) => {
                warn!(dir = %dir.display(), error = %cause, "state folder cannot be locked, its file `lock` is locked alone");
            }
            Err(cause) => return Err(unusable(cause)),
        }
        let identity = identity(&held.metadata().map_err(unusable)?);
        if fs::metadata(dir).map(|found| self::identity(&found)).ok() != Some(identity) {
            let cause = io::Error::other("it was replaced while it was opened");
            return Err(unusable(cause));
        }
        let file = folder::open_private(&dir.join("lock")).map_err(unusable)?;
        if !lock(&file).map_err(unusable)? {
            return Err(OpenError::InUse { dir: dir.to_owned() });
        }
        Ok(Self {
            path: dir.to_owned(),
            identity,
            files: Vec::new(),
            _lock: file,
            _folder: held,
            has_journal: false,
        })
    }

    /// Notes the database's files, which are all there and open.
    pub fn opened(&mut self) -> io::Result<()> {
        let files = FILES.iter().map(|name| Ok(identity(&fs::metadata(self.path.join(name))?)));
        self.files = files.collect::<io::Result<_>>()?;
        Ok(())
    }

    /// Notes that something was committed: the journal holds it.
    pub fn committed(&mut self) {
        self.has_journal = true;
    }

    /// Compares the paths with what was opened. `Err`: the first one that is missing or another file now.
    /// Cost: four calls of `stat`.
    pub fn check(&mut self) -> Result<(), String> {
        let look = |path: &Path, identity| match fs::metadata(path) {
            Ok(found) if self::identity(&found) == identity => Ok(found.len()),
            Ok(_) => Err(format!("{} was replaced by another one", path.display())),
            Err(cause) => Err(format!("{}: {cause}", path.display())),
        };
        look(&self.path, self.identity)?;
        for (name, identity) in FILES.iter().zip(&self.files) {
            let path = self.path.join(name);
            let is_empty = look(&path, *identity)? == 0;
            if is_empty && (*name != JOURNAL || self.has_journal) {
                return Err(format!("{} was emptied", path.display()));
            }
            self.has_journal |= *name == JOURNAL && !is_empty;
        }
        Ok(())
    }

    /// `true` if the journal can be written into the database and removed: the database is the one at its
    /// path, and no other journal is there. SQLite removes the journal by its path.
    pub fn may_remove_journal(&self) -> bool {
        let at = |name: &str| fs::metadata(self.path.join(name)).map(|found| identity(&found)).ok();
        let folder = fs::metadata(&self.path).map(|found| identity(&found)).ok();
        let [db, journal, _] = *self.files else { return true };
        folder == Some(self.identity)
            && at(FILES[0]) == Some(db)
            && at(FILES[1]).is_none_or(|found| found == journal)
    }
}

/// `false`: another process holds it.
fn lock(file: &File) -> io::Result<bool> {
    for _ in 0..ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
            Err(TryLockError::Error(cause)) => return Err(cause),
        }
    }
    Ok(false)
}

fn is_unsupported(cause: &io::Error) -> bool {
    let codes = [Errno::EBADF, Errno::EOPNOTSUPP, Errno::ENOLCK, Errno::ENOSYS];
    codes.iter().any(|code| cause.raw_os_error() == Some(*code as i32))
}

fn identity(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}
