//! Backup of a state in one file, and its way back.
//!
//! The file is an SQLite database without a journal. It holds the events that are kept, a snapshot and the outputs
//! of jobs. It holds no secret in clear: tokens are kept by their hashes. `admin-token`, `channel-key` and users'
//! proxies are not in it.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    OpenError, acknowledged,
    claim::Claim,
    compact, folder,
    sqlite::{APPLICATION, SCHEMA, load, version},
};

/// Name of a backup that is being made, in the state folder. One that was left behind is replaced.
const MAKING: &str = "pileus.backup";

/// Reason why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// SQLite's.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// The file's.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Copies the state of an open folder into a file that has no name any more.
pub fn make(dir: &Path) -> Result<File, Failure> {
    let path = dir.join(MAKING);
    remove(&path)?;
    // Made first, so that no other user can read it for a moment. SQLite takes an empty file.
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    let copied = open_read_only(&dir.join("pileus.db"))
        .and_then(|db| db.execute("VACUUM INTO ?1", [path.to_string_lossy()]));
    fs::remove_file(&path)?;
    copied?;
    Ok(file)
}

/// Brings a backup into a folder without a state. Returns the sequence number of its newest event.
pub fn restore(backup: &Path, dir: &Path) -> Result<u64, RestoreError> {
    let unusable = |cause| RestoreError::Folder(OpenError::Unusable { dir: dir.to_owned(), cause });
    let unreadable = |cause: io::Error| RestoreError::File(format!("{}: {cause}", backup.display()));
    let mut source = File::open(backup).map_err(unreadable)?;
    folder::make_private(dir).map_err(RestoreError::Folder)?;
    let _claim = Claim::take(dir).map_err(RestoreError::Folder)?;
    let path = dir.join("pileus.db");
    if fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
        return Err(RestoreError::NotEmpty("pileus.db is there".into()));
    }
    if let Err(OpenError::Lost { cause, .. }) = folder::check_remains(dir, &path) {
        return Err(RestoreError::NotEmpty(cause));
    }
    let making = dir.join(MAKING);
    remove(&making).map_err(unusable)?;
    let restored = (|| {
        let mut target = folder::open_private(&making).map_err(unusable)?;
        io::copy(&mut source, &mut target).map_err(unusable)?;
        target.sync_all().map_err(unusable)?;
        check(&making, backup)
    })();
    let seq = match restored {
        Ok(seq) => seq,
        Err(error) => {
            remove(&making).ok();
            return Err(error);
        }
    };
    for name in [acknowledged::NAME, "pileus.db-wal", "pileus.db-shm"] {
        remove(&dir.join(name)).map_err(unusable)?;
    }
    fs::rename(&making, &path).map_err(unusable)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(unusable)?;
    Ok(seq)
}

/// Checks that a file is a whole state that this program can read. Returns the number of its newest event.
pub fn check(path: &Path, shown: &Path) -> Result<u64, RestoreError> {
    let wrong = |cause: &dyn std::fmt::Display| RestoreError::File(format!("{}: {cause}", shown.display()));
    let dir = shown.parent().unwrap_or(Path::new("."));
    match folder::check_header(dir, path, APPLICATION, SCHEMA) {
        Ok(()) => {}
        Err(OpenError::Newer { found, known, .. }) => {
            return Err(wrong(&format!(
                "it has schema version {found} and this program knows up to {known}"
            )));
        }
        Err(_) => return Err(wrong(&"it is not a backup of a state")),
    }
    let db = open_read_only(path).map_err(|cause| wrong(&cause))?;
    let found = version(&db).map_err(|cause| wrong(&cause))?;
    let sound: String =
        db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(|cause| wrong(&cause))?;
    if sound != "ok" {
        return Err(wrong(&format!("it is damaged ({sound})")));
    }
    match found {
        0 => Err(wrong(&"it is not a backup of a state")),
        // An older one is brought up to date by the next start.
        found if found < SCHEMA => {
            let newest = db.query_row("SELECT max(seq) FROM events", [], |row| row.get::<_, Option<i64>>(0));
            newest.map(|seq| seq.map_or(0, i64::cast_unsigned)).map_err(|cause| wrong(&cause))
        }
        _ => load(&db).map(|(view, _)| view.seq).map_err(|cause| wrong(&cause)),
    }
}

/// Writes the events of a folder as lines of JSON, also while a server works with it. Returns their number.
pub fn export_events(dir: &Path, out: &mut dyn io::Write) -> Result<u64, RestoreError> {
    let path = dir.join("pileus.db");
    if !path.exists() {
        return Err(RestoreError::NotEmpty(format!("there is no state in {}", dir.display())));
    }
    let claim = match Claim::take(dir) {
        Err(OpenError::InUse { .. }) => None,
        taken => Some(taken.map_err(RestoreError::Folder)?),
    };
    let wrong = |cause: String| RestoreError::File(format!("{}: {cause}", path.display()));
    let db = open_read_only(&path).map_err(|cause| wrong(cause.to_string()))?;
    let count = compact::export(&db, out).map_err(wrong);
    drop((db, claim));
    count
}

/// Reason why a backup was not brought back.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The folder cannot be used, or a server works with it.
    #[error(transparent)]
    Folder(OpenError),
    /// The folder is not as it should be.
    #[error("{0}")]
    NotEmpty(String),
    /// The file cannot be used.
    #[error("{0}")]
    File(String),
}

fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_ONLY,
    )?;
    db.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(db)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// Makes the file that a backup goes to: it is not there yet, and its owner alone may read it.
pub fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}
