//! Reader of every configuration file: a regular file of at most 64 MiB that is not empty.
//!
//! An empty file is an error because it is the usual trace of a full disk or of a writer that died. A file
//! that says nothing by intention holds a comment.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use pileus_engine::regular_file;

use crate::diagnostic::{Diagnostic, Source};

/// Size limit, in bytes.
const SIZE_MAX: u64 = 64 << 20;

/// Reason why a file cannot be used.
#[derive(Debug)]
pub struct ReadError {
    path: PathBuf,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Unreadable(io::Error),
    Empty,
    NotText { valid: usize },
}

impl ReadError {
    /// Returns the error with the file that it is about.
    pub fn diagnostic(&self) -> Diagnostic {
        let wrong = Diagnostic::error(format!("{} {self}", self.path.display())).about(&self.path);
        match &self.why {
            Why::Empty => wrong.help("write a comment into a file that is to say nothing"),
            _ => wrong,
        }
    }
}

/// Writes the problem, for a sentence that begins with the path.
impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Why::Empty => f.write_str("is empty"),
            Why::NotText { valid } => write!(f, "is not UTF-8 from byte {valid} on"),
        }
    }
}

/// Returns `true` if there is anything at the path, or if that cannot be seen. A dangling link counts.
pub fn is_there(path: &Path) -> bool {
    !path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads a file, be it empty or not. Blocks.
pub fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    regular_file::read(path, SIZE_MAX)
}

/// Reads a text. Blocks.
pub fn text(path: &Path) -> Result<String, ReadError> {
    let wrong = |why| ReadError { path: path.to_path_buf(), why };
    let bytes = bytes(path).map_err(|error| wrong(Why::Unreadable(error)))?;
    if bytes.trim_ascii().is_empty() {
        return Err(wrong(Why::Empty));
    }
    String::from_utf8(bytes).map_err(|error| wrong(Why::NotText { valid: error.utf8_error().valid_up_to() }))
}

/// Reads a text whose name is its path. Blocks.
pub fn source(path: &Path) -> Result<Arc<Source>, ReadError> {
    Ok(Arc::new(Source { name: path.display().to_string(), text: text(path)? }))
}
