//! `[local]` of `pileus.toml`.

use std::path::PathBuf;

use serde::Deserialize;

/// Consequence of a protection that this host lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// The service starts, and reports each protection that is missing.
    #[default]
    Auto,
    /// The service does not start.
    Required,
}

/// The `[local]` table. Every line may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LocalSettings {
    /// Consequence of a protection that this host lacks.
    pub isolation: Isolation,
    /// Absolute paths of files and folders that jobs may read and execute, beside those of the system.
    pub readable: Vec<PathBuf>,
    /// Absolute paths of files and folders that jobs may also write.
    pub writable: Vec<PathBuf>,
}

impl LocalSettings {
    /// Returns the key of a setting that cannot hold, and the problem. `hidden` are the paths that no job may
    /// write.
    pub fn problem(&self, hidden: &[PathBuf]) -> Option<(&'static str, String)> {
        for (key, paths) in [("readable", &self.readable), ("writable", &self.writable)] {
            if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
                return Some((key, format!("`{}` is not an absolute path", path.display())));
            }
        }
        let real = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
        let opens = |path: &&PathBuf| {
            let path = real(path);
            hidden.iter().any(|hidden| hidden.starts_with(&path) || path.starts_with(hidden))
        };
        let path = self.writable.iter().find(opens)?;
        Some(("writable", format!("`{}` has files of the service, which no job may write", path.display())))
    }
}
