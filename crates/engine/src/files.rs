//! The two JSON files that operators edit beside the configuration: cloud aliases and user limits.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
};

use pileus_model::Refusal;
use serde::de::DeserializeOwned;

use crate::{command::valid, regular_file};

/// Larger files are refused, in bytes.
const SIZE_MAX: u64 = 16 * 1024 * 1024;

/// What is wrong with a file.
#[allow(missing_docs, reason = "a variant says what its fields are")]
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    /// It is not JSON, or not of the wanted shape. Line and column count from 1.
    #[error("{}:{line}:{column}: {problem}", path.display())]
    Wrong { path: PathBuf, line: usize, column: usize, problem: String },
    /// A name or number in it makes no sense.
    #[error("{}: `{name}`: {problem}", path.display())]
    Senseless { path: PathBuf, name: String, problem: String },
}

impl FileError {
    /// Returns the file that is wrong.
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. } | Self::Wrong { path, .. } | Self::Senseless { path, .. } => path,
        }
    }
}

/// Reads an object of alias names and arrays of cloud names. Blocks.
pub fn aliases(path: &Path) -> Result<BTreeMap<String, Vec<String>>, FileError> {
    let aliases: BTreeMap<String, Vec<String>> = read(path)?;
    let mut seen = HashSet::new();
    for (alias, clouds) in &aliases {
        check(path, alias, valid::new_name("name", alias).and_then(|()| valid::names("clouds", clouds)))?;
        if !seen.insert(alias.to_ascii_lowercase()) {
            let problem = "it is there twice, and targets ignore case".into();
            return Err(FileError::Senseless { path: path.into(), name: alias.clone(), problem });
        }
    }
    Ok(aliases)
}

/// Reads an object of user names and whole numbers, the most VMs of each. Blocks.
pub fn user_limits(path: &Path) -> Result<BTreeMap<String, u32>, FileError> {
    let limits: BTreeMap<String, u32> = read(path)?;
    for (user, vms) in &limits {
        check(path, user, valid::new_name("user", user).and_then(|()| valid::count("vms", *vms, 0)))?;
    }
    Ok(limits)
}

/// What is wrong with the two files, each where it is named. Blocks.
pub fn check_files(
    cloud_aliases: Option<&Path>,
    user_limits_at: Option<&Path>,
) -> [Result<(), FileError>; 2] {
    [
        cloud_aliases.map_or(Ok(()), |path| aliases(path).map(drop)),
        user_limits_at.map_or(Ok(()), |path| user_limits(path).map(drop)),
    ]
}

fn check(path: &Path, name: &str, checked: Result<(), Refusal>) -> Result<(), FileError> {
    checked.map_err(|refusal| FileError::Senseless {
        path: path.into(),
        name: name.into(),
        problem: refusal.to_string(),
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, FileError> {
    let unreadable = |cause| FileError::Unreadable { path: path.into(), cause };
    let text = regular_file::read(path, SIZE_MAX).map_err(unreadable)?;
    serde_json::from_slice(&text).map_err(|cause| {
        let problem = cause.to_string();
        // The place stands in front, where editors look for it.
        let problem = problem.rsplit_once(" at line ").map_or(problem.as_str(), |(what, _)| what);
        let (line, column) = (cause.line(), cause.column());
        FileError::Wrong { path: path.into(), line, column, problem: problem.into() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_is_shown_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.json");
        let aliases = |path: &Path| aliases(path).map(drop);
        let limits = |path: &Path| user_limits(path).map(drop);
        type Read<'a> = &'a dyn Fn(&Path) -> Result<(), FileError>;
        let cases: [(&str, Read<'_>, &str); 12] = [
            (r#"{"West": ["alpha", "beta"]}"#, &aliases, ""),
            ("{}", &aliases, ""),
            ("{\n  \"West\": \"alpha\"\n}", &aliases, "file.json:2:17: invalid type: string \"alpha\""),
            ("[1]", &aliases, "file.json:1:0: invalid type: sequence"),
            ("{\"a\": [", &aliases, "file.json:1:7: EOF while parsing"),
            (r#"{"a": [], "A": []}"#, &aliases, "file.json: `a`: it is there twice"),
            (r#"{"alice": 2, "bob": 0}"#, &limits, ""),
            (r#"{"alice": -1}"#, &limits, "file.json:1:12: invalid value: integer `-1`"),
            (r#"{"": 1}"#, &limits, "file.json: ``: Invalid user: must not be empty"),
            (r#"{"a\nb": 1}"#, &limits, "Invalid user: must not hold the control character U+000A"),
            (r#"{"a\u0085b": []}"#, &aliases, "Invalid name: must not hold the control character U+0085"),
            (r#"{"a": ["b\u2028"]}"#, &aliases, "Invalid clouds: must not hold the control character U+2028"),
        ];
        for (text, read, wanted) in cases {
            std::fs::write(&path, text).unwrap();
            let problem = read(&path).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(problem.contains(wanted) && problem.is_empty() == wanted.is_empty(), "{text}: {problem}");
        }
        assert!(matches!(aliases(dir.path()), Err(FileError::Unreadable { .. })));
    }
}
