//! Bounds of the jobs of the driver `local`, from the settings and the files that they name.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use pileus_engine::{
    CredentialsConfig,
    drivers::local::{Confinement, Kernel, LocalSettings},
};

use crate::{cli::Options, config::Config, diagnostic::Report};

/// Permission of other users to read a file.
const OTHERS_READ: u32 = 0o004;

/// Reads `[local]`. `paths` are the files of the service. Files that all users may read are not hidden.
pub fn confinement(
    config: &Config,
    credentials: &CredentialsConfig,
    paths: &[PathBuf],
    options: &Options,
    report: &mut Report,
) -> Option<Confinement> {
    let settings = report.take(config.local().parse::<LocalSettings>())?;
    let hidden = hidden(config, credentials, paths, options);
    if let Some((key, problem)) = settings.problem(&hidden) {
        report.push(config.local().wrong(key, problem));
    }
    // The ports are those that are really bound: a start adds them.
    Some(Confinement { settings, hidden, kernel: Kernel::probe(), closed_ports: Vec::new() })
}

/// Real paths of what no job may read: the state folder, folders and files that are not for all users.
fn hidden(
    config: &Config,
    credentials: &CredentialsConfig,
    paths: &[PathBuf],
    options: &Options,
) -> Vec<PathBuf> {
    let private = |path: &Path| fs::metadata(path).is_ok_and(|it| it.permissions().mode() & OTHERS_READ == 0);
    let folder = if config.folder.as_os_str().is_empty() { Path::new(".") } else { &config.folder };
    let files = paths.iter().map(PathBuf::as_path).chain(credentials.files()).chain([folder]);
    let private = files.filter(|path| private(path));
    let always = [Some(options.state()), credentials.directory.as_deref()];
    let mut hidden: Vec<PathBuf> =
        private.chain(always.into_iter().flatten()).filter_map(|path| path.canonicalize().ok()).collect();
    hidden.sort_unstable();
    hidden.dedup();
    hidden
}
