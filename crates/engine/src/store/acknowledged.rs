//! `pileus.seq`: sequence number of the newest event that was acknowledged.
//!
//! The file lies beside the database and is written after each commit, without `fsync`. The number is therefore
//! never above what is durable. A database that ends below it has lost its journal, or is an older copy.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::Path,
};

use tracing::warn;

use super::folder;

/// Name in the state folder.
pub const NAME: &str = "pileus.seq";

/// Digits of the largest number, so that each number overwrites all of the one before.
const DIGITS: usize = 20;

/// Open file.
#[derive(Debug)]
pub struct Acknowledged {
    file: File,
    is_failing: bool,
}

impl Acknowledged {
    /// Opens the file; makes it where it is missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Ok(Self { file: folder::open_private(&dir.join(NAME))?, is_failing: false })
    }

    /// Writes the number. A failure is logged once: the number is a safeguard, the commit is done.
    pub fn write(&mut self, seq: u64) {
        let written = self.file.write_all_at(format!("{seq:0DIGITS$}\n").as_bytes(), 0);
        if let Err(error) = &written
            && !self.is_failing
        {
            warn!(%error, file = NAME, "acknowledged sequence number not written, a lost journal may stay unnoticed");
        }
        self.is_failing = written.is_err();
    }
}

/// Reads the number; `None` where there is no file or no whole number in it.
pub fn read(dir: &Path) -> Option<u64> {
    let mut text = String::new();
    File::open(dir.join(NAME)).ok()?.take(DIGITS as u64 + 1).read_to_string(&mut text).ok()?;
    let digits = text.strip_suffix('\n').filter(|digits| digits.len() == DIGITS)?;
    digits.parse().ok()
}
