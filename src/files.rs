//! The three files: found, read, or built in.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    cli::Options,
    config, config_file,
    diagnostic::{Report, Source},
    file_kind::{self, Kind},
    paste,
};

/// The shipped rules, for whoever has none of his own.
pub static SHIPPED_POLICY: &str = include_str!("../policy.json");

/// What was read; `None` for a file that cannot be, which the report then says.
#[derive(Debug)]
pub struct Files {
    /// `pileus.toml`.
    pub config: Option<Arc<Source>>,
    /// The folder that its paths are relative to.
    pub folder: PathBuf,
    /// `api-paste.toml`, and the files that it names.
    pub paste: Option<paste::Files>,
    /// `policy.json`.
    pub policy: Option<Arc<Source>>,
}

impl Files {
    /// All that were read, or would have been, if they were there.
    pub fn paths(&self, options: &Options) -> Vec<PathBuf> {
        let named = |path: &Option<PathBuf>, default: &str| path.clone().unwrap_or_else(|| default.into());
        let mut paths = vec![
            named(&options.config, CONFIG),
            named(&options.policy, POLICY),
            // Also where it is built in, and where it cannot be read.
            named(&options.paste, PASTE),
        ];
        let others = self.paste.iter().flat_map(|files| files.paths()).map(Path::to_path_buf);
        paths.extend(others.filter(|path| *path != paths[2]).collect::<Vec<_>>());
        paths
    }

    /// Returns the options with the names of the files that were found in the working folder. A service that
    /// reads its files by them again fails where one is gone: a built-in file never takes its place.
    pub fn pinned(&self, options: &Options) -> Options {
        let pin = |named: &Option<PathBuf>, default: &str, found: bool| {
            named.clone().or_else(|| found.then(|| PathBuf::from(default)))
        };
        let is = |source: &Option<Arc<Source>>, name| source.as_ref().is_some_and(|it| it.name == name);
        let paste = self.paste.as_ref().and_then(|files| files.files.first());
        Options {
            config: pin(&options.config, CONFIG, is(&self.config, CONFIG)),
            paste: pin(&options.paste, PASTE, paste.is_some_and(|file| file.source.name == PASTE)),
            policy: pin(&options.policy, POLICY, is(&self.policy, POLICY)),
            ..options.clone()
        }
    }

    /// Reads `pileus.toml` alone, by the same rule.
    pub fn read_config(options: &Options, report: &mut Report) -> Option<Arc<Source>> {
        text(options.config.as_deref(), (CONFIG, Kind::Config), config::SHIPPED, report)
    }

    /// Reads the files that the options name; of those that they do not name, the working folder's;
    /// of those that are not there, the built-in ones.
    pub fn read(options: &Options, report: &mut Report) -> Self {
        let config = Self::read_config(options, report);
        let policy = text(options.policy.as_deref(), (POLICY, Kind::Policy), SHIPPED_POLICY, report);
        let environment = |name: &str| std::env::var(name).ok();
        let path = options.paste.as_deref().unwrap_or(Path::new(PASTE));
        let paste =
            text(options.paste.as_deref(), (PASTE, Kind::Paste), paste::SHIPPED, report).and_then(|source| {
                match source.name == built_in(PASTE) {
                    true => paste::Files::from_text(
                        &source.name,
                        &source.text,
                        Path::new("."),
                        &environment,
                        report,
                    ),
                    false => paste::Files::from_source(source, path, &environment, report),
                }
            });
        let folder = options.config.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_path_buf();
        Self { config, folder, paste, policy }
    }
}

const CONFIG: &str = "pileus.toml";
const PASTE: &str = "api-paste.toml";
const POLICY: &str = "policy.json";

fn text(
    named: Option<&Path>,
    (default, kind): (&str, Kind),
    shipped: &str,
    report: &mut Report,
) -> Option<Arc<Source>> {
    match named {
        None if !config_file::is_there(Path::new(default)) => {
            Some(Arc::new(Source { name: built_in(default), text: shipped.to_owned() }))
        }
        _ => {
            let source = config_file::source(named.unwrap_or(Path::new(default)));
            let source = report.take(source.map_err(|error| error.diagnostic()))?;
            report.take(file_kind::check(&source, kind))?;
            Some(source)
        }
    }
}

/// The name of a file that is compiled in.
fn built_in(name: &str) -> String {
    format!("{name} (built in)")
}
