//! Disk space that is kept for the ends of jobs, deletes and retires while the disk is full.
//!
//! The reserve is part of the database's journal: blocks behind the end of `pileus.db-wal` (`fallocate` with
//! `FALLOC_FL_KEEP_SIZE`). What has to become durable goes there first, also where the database itself cannot
//! grow. A separate file that is removed when the disk is full would be no reserve: a job that fills the disk
//! takes its space before the journal does.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};
use tracing::{info, warn};

/// Size of the reserve, in bytes. SQLite reuses the journal's first 4 MB (1000 pages) while the disk has room; a
/// small change takes about 30 kB.
const RESERVE: u64 = 16 << 20;

/// Free space below which only what needs no lasting room is written, in bytes. It is left at twice as much.
const FREE_MIN: u64 = 2 << 20;

/// Reserve of an open store.
#[derive(Debug)]
pub struct Reserve {
    dir: PathBuf,
    journal: File,
    is_tight: Arc<AtomicBool>,
    /// `true` if the file system cannot keep a reserve.
    is_unsupported: bool,
}

impl Reserve {
    /// Opens the journal, which is there, and takes the space. `is_tight` is set while there is none.
    pub fn open(dir: &Path, journal: &Path, is_tight: Arc<AtomicBool>) -> io::Result<Self> {
        // No lock is lost when this descriptor closes: SQLite locks the database and the journal's index.
        let journal = OpenOptions::new().write(true).open(journal)?;
        let mut reserve = Self { dir: dir.to_owned(), journal, is_tight, is_unsupported: false };
        reserve.keep();
        Ok(reserve)
    }

    /// Takes what is missing of the reserve, and looks at the free space. Cost: two system calls.
    pub fn keep(&mut self) {
        let was_tight = self.is_tight.load(Relaxed);
        let wanted = if was_tight { 2 * FREE_MIN } else { FREE_MIN };
        let free = statvfs(&self.dir)
            .map_or(u64::MAX, |found| found.blocks_available().saturating_mul(found.fragment_size()));
        let is_tight = !self.take() || free < wanted;
        self.is_tight.store(is_tight, Relaxed);
        match (was_tight, is_tight) {
            (false, true) => {
                warn!(dir = %self.dir.display(), free, "disk full, only deletes and ends are written: free some space");
            }
            (true, false) => info!(dir = %self.dir.display(), free, "disk has space again"),
            _ => {}
        }
    }

    /// `true` if the journal has its blocks, or never can.
    fn take(&mut self) -> bool {
        let has_blocks = |journal: &File| journal.metadata().is_ok_and(|it| it.blocks() * 512 >= RESERVE);
        if self.is_unsupported || has_blocks(&self.journal) {
            return true;
        }
        let size = i64::try_from(RESERVE).unwrap_or(i64::MAX);
        match fallocate(&self.journal, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, size) {
            Ok(()) => true,
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                warn!(
                    dir = %self.dir.display(),
                    "file system keeps no reserve: ends of jobs may not be written while the disk is full"
                );
                self.is_unsupported = true;
                true
            }
            Err(_) => false,
        }
    }
}
