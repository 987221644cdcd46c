//! Storage of a VM: measures its folder while a job runs, and removes the files of a job that ended.
//!
//! Disk blocks count, once for each file, also for a file that was deleted and is still open in a
//! process of the VM. A file that is only mapped into memory is not found. Between two measurements
//! a job may exceed the limit; `RLIMIT_FSIZE` bounds a single file at once.
//!
//! The worker has one thread. A walk lets it do other work after every few entries.

use std::{
    collections::HashSet,
    fs::{self, Metadata, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{task::yield_now, time::sleep};

use super::{note, setup::Ready};
use crate::drivers::local::{
    folder::{self, RESULTS},
    process::{self, Process},
};

/// Shortest pause between two measurements.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Pause between two measurements, as a multiple of the time that the last one took.
const PAUSE_FACTOR: u32 = 10;
/// Entries of folders between two chances for other work.
const ENTRIES: usize = 128;
/// Unit of `st_blocks`, in bytes. Source: stat(2).
const BLOCK: u64 = 512;

/// Storage of one VM.
pub(super) struct Storage {
    own: Process,
    /// Folder of all jobs of the VM, as an absolute path.
    jobs: PathBuf,
    /// `None`: no limit.
    limit_gib: Option<u64>,
}

impl Storage {
    pub(super) fn of(ready: &Ready) -> Self {
        Self { own: ready.own, jobs: ready.jobs.clone(), limit_gib: ready.orders.storage_gib }
    }

    /// Ends once the VM holds more than it may, or cannot be measured. Returns the reason.
    pub(super) async fn exceeded(&self) -> String {
        let Some(limit_gib) = self.limit_gib else { return std::future::pending().await };
        let limit = limit_gib.saturating_mul(1 << 30);
        let mut pause = PAUSE_MIN;
        loop {
            sleep(pause).await;
            let began = elapsed();
            match self.used().await {
                Ok(used) if used > limit => {
                    return format!("it used {} MiB of storage, more than its {limit_gib} GiB", used >> 20);
                }
                Ok(_) => {}
                Err(error) => return format!("its storage could not be measured: {error}"),
            }
            pause = PAUSE_MIN.max(elapsed().saturating_sub(began).saturating_mul(PAUSE_FACTOR));
        }
    }

    /// Bytes that the VM holds on the disk.
    async fn used(&self) -> io::Result<u64> {
        let mut sum = Sum::default();
        let mut walk = Walk::default();
        for root in [&self.jobs, Path::new(RESULTS)] {
            walk.folders.push(root.to_owned());
            while let Some(found) = walk.next().await? {
                sum.add(&found.metadata);
            }
        }
        let disk = fs::metadata(&self.jobs)?.dev();
        for process in process::descendants(self.own) {
            // A process that ended meanwhile holds nothing.
            let Ok(open) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else { continue };
            for file in open.flatten() {
                walk.rest().await;
                let metadata = fs::metadata(file.path()).ok();
                let deleted = |found: &Metadata| found.is_file() && found.nlink() == 0 && found.dev() == disk;
                metadata.filter(deleted).iter().for_each(|metadata| sum.add(metadata));
            }
        }
        Ok(sum.bytes)
    }

    /// Removes everything from the folder of jobs. No process of a job may run any more.
    pub(super) async fn clear(&self) {
        if let Err(error) = clear(&self.jobs).await {
            note(&format!("a job left something: {error}"));
        }
    }
}

/// Time since the host started. A cost of this host is measured, so no test moves it.
fn elapsed() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    /// Device and number of files that may be found again.
    counted: HashSet<(u64, u64)>,
}

impl Sum {
    fn add(&mut self, metadata: &Metadata) {
        let again = !metadata.is_dir() && metadata.nlink() != 1;
        if !again || self.counted.insert((metadata.dev(), metadata.ino())) {
            self.bytes = self.bytes.saturating_add(metadata.blocks().saturating_mul(BLOCK));
        }
    }
}

/// Entry of a folder.
struct Found {
    path: PathBuf,
    metadata: Metadata,
}

/// Walk through folders that a job may change meanwhile. Follows no symbolic link.
#[derive(Default)]
struct Walk {
    /// Folders that were not listed yet.
    folders: Vec<PathBuf>,
    listing: Option<fs::ReadDir>,
    entries: usize,
}

impl Walk {
    /// The next entry, a folder before what is in it. What is gone meanwhile is passed over.
    async fn next(&mut self) -> io::Result<Option<Found>> {
        loop {
            let Some(listing) = &mut self.listing else {
                let Some(folder) = self.folders.pop() else { return Ok(None) };
                self.listing = present(open(&folder))?;
                continue;
            };
            let Some(entry) = listing.next() else {
                self.listing = None;
                continue;
            };
            self.rest().await;
            let Some(entry) = present(entry)? else { continue };
            let Some(metadata) = present(entry.metadata())? else { continue };
            let path = entry.path();
            if metadata.is_dir() {
                self.folders.push(path.clone());
            }
            return Ok(Some(Found { path, metadata }));
        }
    }

    /// Lets other tasks run, after some entries.
    async fn rest(&mut self) {
        self.entries += 1;
        if self.entries.is_multiple_of(ENTRIES) {
            yield_now().await;
        }
    }
}

/// Lists a folder, also one that its owner has closed to himself.
fn open(folder: &Path) -> io::Result<fs::ReadDir> {
    let closed = |error: &io::Error| error.kind() == ErrorKind::PermissionDenied;
    let mode = fs::symlink_metadata(folder)?.mode();
    if mode & 0o700 != 0o700 {
        match fs::set_permissions(folder, Permissions::from_mode(mode & 0o7777 | 0o700)) {
            Err(error) if !closed(&error) => return Err(error),
            _ => {}
        }
    }
    fs::read_dir(folder)
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes everything in a folder. The folder itself stays.
async fn clear(folder: &Path) -> io::Result<()> {
    let mut walk = Walk { folders: vec![folder.to_owned()], ..Walk::default() };
    let mut folders = Vec::new();
    let walked = loop {
        match walk.next().await {
            Ok(Some(Found { path, metadata })) if metadata.is_dir() => folders.push(path),
            Ok(Some(Found { path, .. })) => drop(fs::remove_file(path)),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    // A folder was found before those in it.
    for folder in folders.iter().rev() {
        walk.rest().await;
        let _ = fs::remove_dir(folder);
    }
    // The rest has a path that is too long, for example, and is removed without one.
    for entry in fs::read_dir(folder)?.flatten() {
        match entry.file_type()?.is_dir() {
            true => folder::remove_tree(&entry.path())?,
            false => folder::remove_file(&entry.path())?,
        }
    }
    match fs::read_dir(folder)?.next() {
        Some(_) => walked.and(Err(ErrorKind::DirectoryNotEmpty.into())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::unix::fs::{FileExt, symlink},
    };

    use nix::{
        fcntl::{OFlag, openat},
        sys::stat::{Mode, mkdirat},
    };

    use super::*;

    const MIB: u64 = 1 << 20;

    fn fill(path: &Path, mib: u64) -> File {
        let file = File::create(path).unwrap();
        file.write_all_at(&vec![1; (mib * MIB) as usize], 0).unwrap();
        file.sync_all().unwrap();
        file
    }

    #[tokio::test]
    async fn blocks_of_a_tree_count_once() {
        type Case = (&'static str, fn(&Path), u64);
        let cases: [Case; 7] = [
            ("nothing", |_| (), 0),
            (
                "files in folders",
                |dir| {
                    fs::create_dir_all(dir.join("a/b")).unwrap();
                    fill(&dir.join("a/one"), 1);
                    fill(&dir.join("a/b/two"), 2);
                },
                3,
            ),
            (
                "hard links",
                |dir| {
                    fill(&dir.join("one"), 2);
                    fs::hard_link(dir.join("one"), dir.join("two")).unwrap();
                },
                2,
            ),
            ("a symbolic link", |dir| symlink("/", dir.join("root")).unwrap(), 0),
            ("a hole", |dir| File::create(dir.join("hole")).unwrap().set_len(64 * MIB).unwrap(), 0),
            (
                "a closed folder",
                |dir| {
                    fs::create_dir(dir.join("closed")).unwrap();
                    fill(&dir.join("closed/one"), 1);
                    fs::set_permissions(dir.join("closed"), Permissions::from_mode(0o000)).unwrap();
                },
                1,
            ),
            ("many", |dir| (0..300).for_each(|at| drop(fill(&dir.join(at.to_string()), 0))), 0),
        ];
        for (what, make, mib) in cases {
            let dir = tempfile::tempdir().unwrap();
            make(dir.path());
            let (mut walk, mut sum) =
                (Walk { folders: vec![dir.path().to_owned()], ..Walk::default() }, Sum::default());
            while let Some(found) = walk.next().await.unwrap() {
                sum.add(&found.metadata);
            }
            assert_eq!(sum.bytes / MIB, mib, "{what}");
            clear(dir.path()).await.unwrap();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{what}");
        }
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_an_error_and_goes_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        let mut folder = std::os::fd::OwnedFd::from(File::open(dir.path()).unwrap());
        for _ in 0..30 {
            mkdirat(&folder, &*name, Mode::S_IRWXU).unwrap();
            folder = openat(&folder, &*name, OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        let mut walk = Walk { folders: vec![dir.path().to_owned()], ..Walk::default() };
        let error = loop {
            match walk.next().await {
                Ok(found) => assert!(found.is_some(), "it ended without an error"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::InvalidFilename);
        clear(dir.path()).await.unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
