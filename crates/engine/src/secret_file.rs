//! Files that hold a secret: keys, passwords, passphrases, tokens. One rule for all of them: other users of
//! the host may not read or write such a file.

use std::{
    fmt,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::regular_file;

/// Largest file that is read, in bytes. No key or token needs more.
const MAX_BYTES: u64 = 1 << 20;

/// Users that may read a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// The owner.
    Owner,
    /// The owner, and the group if the deployer permits it: keys often belong to a group of services.
    OwnerAndGroup,
}

impl Readers {
    /// Bits of a mode that no such file has.
    fn forbidden(self) -> u32 {
        match self {
            Self::Owner => 0o077,
            Self::OwnerAndGroup => 0o007,
        }
    }
}

/// Secret that cannot be used. Contains nothing of the file's content.
#[derive(Debug)]
pub struct SecretFileError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Unreadable(io::Error),
    TooLarge,
    /// Its mode lets others read it.
    Open(u32),
    NoText,
}

impl SecretFileError {
    /// Remedy, as an imperative; `None` where the message says it.
    pub fn help(&self) -> Option<String> {
        match self.problem {
            Problem::Open(_) => Some(format!("run `chmod 600 {}`", self.path.display())),
            _ => None,
        }
    }
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::Unreadable(error) => write!(f, "{path} cannot be read: {error}"),
            Problem::TooLarge => write!(f, "{path} has more than {MAX_BYTES} bytes"),
            Problem::Open(mode) => write!(f, "{path} can be read by others (mode {mode:04o})"),
            Problem::NoText => write!(f, "{path} is not UTF-8"),
        }
    }
}

impl std::error::Error for SecretFileError {}

/// Reads a file that holds a secret. Follows symbolic links. Blocks, but never on a FIFO.
pub fn read(path: &Path, readers: Readers) -> Result<Vec<u8>, SecretFileError> {
    let wrong = |problem| SecretFileError { path: path.to_owned(), problem };
    let unreadable = |error| wrong(Problem::Unreadable(error));
    let file = regular_file::open(path).map_err(unreadable)?;
    // The open file is checked: another one at the path makes no difference.
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & readers.forbidden() != 0 {
        return Err(wrong(Problem::Open(mode)));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong(Problem::TooLarge));
    }
    Ok(bytes)
}

/// Reads such a file as text.
pub fn read_text(path: &Path, readers: Readers) -> Result<String, SecretFileError> {
    String::from_utf8(read(path, readers)?)
        .map_err(|_| SecretFileError { path: path.to_owned(), problem: Problem::NoText })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_secret_is_read_only_if_others_may_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let (owner, group) = (Readers::Owner, Readers::OwnerAndGroup);
        let (fine, open) = (None, Some("can be read by others"));
        let cases = [
            (0o600, owner, fine),
            (0o400, owner, fine),
            (0o640, owner, open),
            (0o620, owner, open),
            (0o604, owner, open),
            (0o600, group, fine),
            (0o640, group, fine),
            (0o440, group, fine),
            (0o644, group, open),
            (0o604, group, open),
            (0o602, group, open),
            (0o666, group, open),
        ];
        for (mode, readers, expected) in cases {
            fs::write(&path, "s3cret").unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let found = read_text(&path, readers);
            match (found, expected) {
                (Ok(text), None) => assert_eq!(text, "s3cret", "{mode:o}"),
                (Err(error), Some(problem)) => {
                    let help = error.help().unwrap();
                    assert_eq!(help, format!("run `chmod 600 {}`", path.display()));
                    assert!(error.to_string().contains(problem), "{mode:o}: {error}");
                }
                (found, _) => panic!("{mode:o} {readers:?}: {found:?}"),
            }
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(at("bytes"), b"s3cret\xff").unwrap();
        fs::write(at("large"), vec![b's'; (1 << 20) + 1]).unwrap();
        fs::write(at("open"), "s3cret").unwrap();
        for (name, mode) in [("bytes", 0o600), ("large", 0o600), ("open", 0o644)] {
            fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink(at("open"), at("link")).unwrap();
        let cases = [
            ("none", "cannot be read"),
            ("", "it is a folder"),
            ("fifo", "it is a FIFO"),
            ("bytes", "is not UTF-8"),
            ("large", "has more than 1048576 bytes"),
            ("link", "can be read by others (mode 0644)"),
        ];
        for (name, problem) in cases {
            let error = read_text(&at(name), Readers::OwnerAndGroup).unwrap_err();
            assert!(error.to_string().contains(problem), "{name}: {error}");
            assert!(!format!("{error}{error:?}").contains("s3cret"), "{name}");
        }
    }
}
