//! The state folder before its database is opened: who may read it, and whether parts of a state are missing.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

use super::{OpenError, acknowledged};

/// Entries of a state folder by the start of their names; others belong to other programs.
const OURS: [&str; 7] = ["pileus.", "lock", "admin-token", "channel-key", "vms", "credentials", "lost+found"];

/// Makes the folder where it is missing, and keeps other users from reading it.
///
/// An existing folder loses its bits of reading and writing for others. It keeps the bits of passing through:
/// users of VMs may need it. Refused: a folder of another user, and one that holds files of other programs.
pub fn make_private(dir: &Path) -> Result<(), OpenError> {
    let unusable = |cause| OpenError::Unusable { dir: dir.to_owned(), cause };
    if !dir.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        // The umask may have taken bits away.
        return fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(unusable);
    }
    let found = fs::metadata(dir).map_err(unusable)?;
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o066 == 0 || !found.is_dir() {
        return Ok(());
    }
    let open = |why: &str| OpenError::Open { dir: dir.to_owned(), mode, why: why.to_owned() };
    let user = nix::unistd::geteuid();
    if found.uid() != user.as_raw() && !user.is_root() {
        return Err(open("it belongs to another user"));
    }
    if mode & 0o1000 != 0 {
        return Err(open("it is a folder for files of all users"));
    }
    let is_foreign = |name: &str| !OURS.iter().any(|ours| name.starts_with(ours));
    for entry in fs::read_dir(dir).map_err(unusable)? {
        let entry = entry.map_err(unusable)?;
        let kind = entry.file_type().map_err(unusable)?;
        if (kind.is_file() || kind.is_dir()) && is_foreign(&entry.file_name().to_string_lossy()) {
            return Err(open(&format!("{} is not of a state", entry.path().display())));
        }
    }
    fs::set_permissions(dir, Permissions::from_mode(mode & 0o711)).map_err(unusable)
}

/// Opens a file for writing; makes it where it is missing, with mode 0600. A file that root makes belongs to the
/// owner of its folder: root may work on the folder of a service.
pub fn open_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let file = match options.clone().create_new(true).open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => return options.open(path),
        Err(cause) => return Err(cause),
    };
    file.set_permissions(Permissions::from_mode(0o600))?;
    if nix::unistd::geteuid().is_root()
        && let Some(folder) = path.parent()
    {
        let (made, folder) = (file.metadata()?, fs::metadata(folder)?);
        if (made.uid(), made.gid()) != (folder.uid(), folder.gid()) {
            fchown(&file, Some(folder.uid()), Some(folder.gid()))?;
        }
    }
    Ok(file)
}

/// Makes the database if it is missing, and keeps other users out of it and its journal. SQLite gives a journal
/// the mode of its database.
pub fn keep_private(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let unusable = |cause| OpenError::Unusable { dir: dir.to_owned(), cause };
    let own = [dir.join("lock"), dir.join(acknowledged::NAME)];
    let journals = [path.to_owned(), path.with_extension("db-wal"), path.with_extension("db-shm")];
    for file in own.into_iter().chain(journals) {
        let mode = match fs::metadata(&file) {
            Ok(found) => found.permissions().mode() & 0o7777,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(unusable(cause)),
        };
        if mode != 0o600 {
            fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(unusable)?;
        }
    }
    open_private(path).map(drop).map_err(unusable)
}

/// Refuses a folder that has parts of a state and no database. SQLite would remove a journal beside an empty
/// database, and the service would begin with an empty state.
pub fn check_remains(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let unusable = |cause| OpenError::Unusable { dir: dir.to_owned(), cause };
    let database = match fs::metadata(path) {
        Ok(found) if found.len() > 0 => return Ok(()),
        Ok(_) => "is empty",
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => "is missing",
        Err(cause) => return Err(unusable(cause)),
    };
    let journal = path.with_extension("db-wal");
    let has_vms = fs::read_dir(dir.join("vms")).is_ok_and(|mut entries| entries.next().is_some());
    let remains = [
        ("admin-token", dir.join("admin-token").exists()),
        (acknowledged::NAME, acknowledged::read(dir).is_some_and(|seq| seq > 0)),
        ("pileus.db-wal", fs::metadata(&journal).is_ok_and(|found| found.len() > 0)),
        ("vms/", has_vms),
    ];
    let names: Vec<&str> = remains.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(OpenError::Lost {
        dir: dir.to_owned(),
        cause: format!(
            "pileus.db {database}, {} there",
            names.join(", ") + if names.len() == 1 { " is" } else { " are" }
        ),
        other_way: format!("move the rest out of {} to begin with an empty state", dir.display()),
    })
}

/// Refuses a state that ends before the newest event that was acknowledged.
pub fn check_acknowledged(dir: &Path, seq: u64) -> Result<(), OpenError> {
    match acknowledged::read(dir) {
        Some(acknowledged) if acknowledged > seq => Err(OpenError::Lost {
            dir: dir.to_owned(),
            cause: format!(
                "it ends at event {seq}, and event {acknowledged} was acknowledged: pileus.db-wal is lost, or pileus.db is an older copy"
            ),
            other_way: format!(
                "remove {} to go on without the lost events",
                dir.join(acknowledged::NAME).display()
            ),
        }),
        _ => Ok(()),
    }
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
