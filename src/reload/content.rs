//! Content of the files that the service goes by, as a look finds it.
//!
//! Each look follows the links again, so that a switched link is a change like any other.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use pileus_model::Time;
use pileus_sdk::host::LoadedFile;
use sha2::{Digest, Sha256};

use crate::config_file;

/// Content of files and folders by path.
pub type Contents = BTreeMap<PathBuf, Content>;

/// Content of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// SHA-256 of a file, in lower-case hex.
    File(String),
    /// A folder. Its files have entries of their own.
    Folder,
    /// Nothing is there.
    Missing,
    /// The reason why it cannot be read.
    Unreadable(String),
}

/// Reads the content of all paths, and of the files in those that are folders. Blocks.
pub fn contents(paths: impl IntoIterator<Item = PathBuf>) -> Contents {
    let mut all = Contents::new();
    for path in paths {
        let content = of(&path);
        if content == Content::Folder {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            let files = entries.map(|entry| entry.path()).filter(|path| !path.is_dir());
            all.extend(files.map(|path| (path.clone(), of(&path))));
        }
        all.insert(path, content);
    }
    all
}

fn of(path: &Path) -> Content {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => match fs::read_dir(path) {
            Ok(_) => Content::Folder,
            Err(error) => Content::Unreadable(error.to_string()),
        },
        _ => match config_file::bytes(path) {
            Ok(bytes) => {
                Content::File(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Content::Missing,
            Err(error) => Content::Unreadable(error.to_string()),
        },
    }
}

/// Returns the files for the status of the service.
pub fn loaded(contents: &Contents, at: Time) -> Vec<LoadedFile> {
    let file = |(path, content): (&PathBuf, &Content)| match content {
        Content::File(sha256) => {
            Some(LoadedFile { name: path.display().to_string(), sha256: sha256.clone(), loaded: at })
        }
        Content::Folder | Content::Missing | Content::Unreadable(_) => None,
    };
    contents.iter().filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_look_follows_the_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| fs::write(at(name), text).unwrap();
        let link = |to: &str, name: &str| {
            fs::remove_file(at(name)).ok();
            symlink(to, at(name)).unwrap();
        };
        for (release, text) in [("r1", "one"), ("r2", "two")] {
            fs::create_dir(at(release)).unwrap();
            write(&format!("{release}/file"), text);
        }
        link("r1", "current");
        link("current/file", "file");
        let look = || contents([at("file")]).remove(&at("file")).unwrap();
        let mut seen = vec![look()];
        let steps: [&dyn Fn(); 7] = [
            &|| link("r2", "current"),
            &|| write("r2/file", "three"),
            &|| link("r1/file", "file"),
            &|| link("nowhere", "file"),
            &|| {
                fs::remove_file(at("file")).unwrap();
                write("file", "plain");
            },
            &|| {
                fs::remove_file(at("file")).unwrap();
                fs::create_dir(at("file")).unwrap();
            },
            &|| {
                fs::remove_dir(at("file")).unwrap();
                link("/dev/zero", "file");
            },
        ];
        for (step, change) in steps.iter().enumerate() {
            change();
            let now = look();
            assert_ne!(seen.last(), Some(&now), "step {step}");
            seen.push(now);
        }
        assert_eq!(seen[0], seen[3], "the same content is no change");
        assert!(matches!(
            &seen[4..],
            [Content::Missing, Content::File(_), Content::Folder, Content::Unreadable(_)]
        ));
    }
}
