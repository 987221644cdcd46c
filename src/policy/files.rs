//! `[policy]` of `pileus.toml`, and the files of `policy.d`.
//!
//! Source: oslo.policy, `opts.py` and `Enforcer._walk_through_policy_directory`; reference §6.8. We differ:
//! a file that is not read, since its name ends otherwise, is a mistake, and not a rule that silently does
//! not hold.

use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{read::ENDINGS, remote::ContentType};
use crate::{
    client::{self, File},
    config_file,
    diagnostic::{Diagnostic, Report, Source},
};

/// What `[policy]` may say.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Folders whose files are read after `policy.json`; none said: `policy.d` beside it, if it is there.
    pub policy_dirs: Option<Vec<PathBuf>>,
    /// Whether what no file has is decided by its default in code; else by the rule `default`.
    pub policy_defaults: bool,
    /// Whether a token for something else than a route is for is refused.
    pub enforce_scope: bool,
    /// How long a policy server (`http:`, `https:`) may take, in seconds.
    pub remote_timeout_s: NonZeroU32,
    /// How a policy server is asked.
    pub remote_content_type: ContentType,
    /// Authorities that may have signed the certificate of an `https:` server; none said: those of the system.
    pub remote_ssl_ca_crt_file: Option<PathBuf>,
    /// By what Pileus proves to such a server who it is; none said: not at all.
    pub remote_ssl_client_crt_file: Option<PathBuf>,
    /// The key of that certificate; none said: it stands in the same file.
    pub remote_ssl_client_key_file: Option<PathBuf>,
    /// There to be refused where it is false: files of other services say so.
    pub remote_ssl_verify_server_crt: bool,
}

impl Settings {
    /// The files of TLS. Relative paths start at `folder`, that of the settings.
    pub fn tls_files(&self, folder: &Path) -> client::Files {
        let file = |setting, path: &Option<PathBuf>| File {
            setting,
            path: path.as_ref().map(|path| folder.join(path)),
        };
        client::Files {
            ca: file("remote_ssl_ca_crt_file", &self.remote_ssl_ca_crt_file),
            certificate: file("remote_ssl_client_crt_file", &self.remote_ssl_client_crt_file),
            key: file("remote_ssl_client_key_file", &self.remote_ssl_client_key_file),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy_dirs: None,
            policy_defaults: true,
            enforce_scope: true,
            remote_timeout_s: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            remote_content_type: ContentType::default(),
            remote_ssl_ca_crt_file: None,
            remote_ssl_client_crt_file: None,
            remote_ssl_client_key_file: None,
            remote_ssl_verify_server_crt: true,
        }
    }
}

/// Returns the file `main` and the files of the folders, in the order of the folders and of their names.
/// Relative folders start at `folder`, that of the settings. `read_before`: `policy.d` was there once, and has
/// to be there.
pub fn collect(
    main: Arc<Source>,
    settings: &Settings,
    folder: &Path,
    read_before: bool,
    report: &mut Report,
) -> Vec<Arc<Source>> {
    let folders = folders(&main, settings, folder);
    let mut files = vec![main];
    let named = settings.policy_dirs.is_some() || read_before;
    for folder in folders.iter().filter(|it| named || config_file::is_there(it)) {
        read_folder(folder, &mut files, report);
    }
    files
}

/// The folders, be they there or not.
pub fn folders(main: &Source, settings: &Settings, folder: &Path) -> Vec<PathBuf> {
    match &settings.policy_dirs {
        None => vec![Path::new(&main.name).parent().unwrap_or(Path::new("")).join("policy.d")],
        Some(folders) => folders.iter().map(|it| folder.join(it)).collect(),
    }
}

fn read_folder(folder: &Path, files: &mut Vec<Arc<Source>>, report: &mut Report) {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| {
        let text = format!("the folder {} cannot be read: {error}", folder.display());
        let help = "keep the folder, be it empty, or write `policy_dirs = []` into [policy] of pileus.toml";
        Diagnostic::error(text).about(folder).help(help)
    });
    let Some(entries) = report.take(entries) else { return };
    let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    // In the order of their names, not of the disk.
    paths.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Hidden files, and what editors leave.
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let known = path.extension().is_some_and(|it| ENDINGS.iter().any(|ending| it == *ending));
        // A folder in the place of a file is a mistake: the rules of that file would be gone.
        if path.is_dir() && !known {
            let text = format!("{} is a folder, and what is in it is not read", path.display());
            report.push(Diagnostic::warning(text).help("put its files one folder higher"));
            continue;
        }
        if !known {
            let text = format!("{} is not read: its name ends neither in .json nor in .yaml", path.display());
            let help = "rename it; a name that starts with a dot is passed over";
            report.push(Diagnostic::error(text).about(&path).help(help));
            continue;
        }
        files.extend(report.take(config_file::source(&path).map_err(|error| error.diagnostic())));
    }
}
