//! The state folder: whose it is, and what lies in it, before anything in it is opened.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    thread,
    time::Duration,
};

use super::OpenError;

/// How often a folder that is taken is looked at again, and the pause before each look.
const LOOKS: u32 = 50;
const LOOK: Duration = Duration::from_millis(10);

/// Takes the folder for this process.
pub fn lock(dir: &Path) -> Result<File, OpenError> {
    let unusable = |cause| OpenError::Unusable { dir: dir.to_owned(), cause };
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(dir.join("lock"))
        .map_err(unusable)?;
    // An owner that has just ended may have left the lock with a program that it was starting, which lets
    // go of it once it runs.
    for _ in 0..LOOKS {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => thread::sleep(LOOK),
            Err(TryLockError::Error(cause)) => return Err(unusable(cause)),
        }
    }
    Err(OpenError::InUse { dir: dir.to_owned() })
}

/// Makes the database if it is missing, and keeps other users out of it and its journal. The folder alone does not:
/// it may be older, and users of jobs may pass through it. SQLite gives a journal the mode of its database.
pub fn keep_private(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let unusable = |cause| OpenError::Unusable { dir: dir.to_owned(), cause };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600).open(path).map_err(unusable)?;
    for file in [path.to_owned(), path.with_extension("db-wal"), path.with_extension("db-shm")] {
        let mode = match fs::metadata(&file) {
            Ok(found) => found.permissions().mode(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(unusable(cause)),
        };
        if mode & 0o007 != 0 {
            fs::set_permissions(&file, PermissionsExt::from_mode(mode & 0o770)).map_err(unusable)?;
        }
    }
    Ok(())
}

/// Looks at the file's first bytes, because opening a database may already change its folder.
/// Source: <https://www.sqlite.org/fileformat.html>, section 1.3.
pub fn check_header(dir: &Path, path: &Path, application: u32, known: u32) -> Result<(), OpenError> {
    let unusable = |cause| OpenError::Unusable { dir: dir.to_owned(), cause };
    let damaged = |cause: &str| OpenError::Damaged { dir: dir.to_owned(), cause: cause.into() };
    let mut header = [0; 100];
    let read = match File::open(path) {
        Ok(mut file) => file.read_exact(&mut header),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(unusable(cause)),
    };
    match read {
        Ok(()) => (),
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            // A process that died while it made the folder leaves an empty file.
            let empty = fs::metadata(path).map_err(unusable)?.len() == 0;
            return if empty { Ok(()) } else { Err(damaged("pileus.db is not a database")) };
        }
        Err(cause) => return Err(unusable(cause)),
    }
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (pages, found, owner) = (word(28), word(60), word(68));
    // Ours says so from its first commit on. Before that it is one empty page, or still has its journal.
    let unborn = owner == 0 && found == 0 && (pages <= 1 || has_journal(path));
    if !header.starts_with(b"SQLite format 3\0") || (owner != application && !unborn) {
        return Err(damaged("pileus.db is not a state of this program"));
    }
    if found > known {
        return Err(OpenError::Newer { dir: dir.to_owned(), found, known });
    }
    Ok(())
}

fn has_journal(path: &Path) -> bool {
    fs::metadata(path.with_extension("db-wal")).is_ok_and(|journal| journal.len() > 0)
}
