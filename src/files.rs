//! The three files: found, read, or built in.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    cli::Options,
    config,
    diagnostic::{Diagnostic, Report, Source},
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
        let mut paths = vec![named(&options.config, "pileus.toml"), named(&options.policy, "policy.json")];
        let files = self.paste.iter().flat_map(|files| files.paths());
        paths.extend(files.map(Path::to_path_buf));
        if paths.len() == 2 {
            // What is built in holds until there is such a file.
            paths.push(named(&options.paste, "api-paste.toml"));
        }
        paths
    }

    /// Reads `pileus.toml` alone, by the same rule.
    pub fn read_config(options: &Options, report: &mut Report) -> Option<Arc<Source>> {
        text(options.config.as_deref(), "pileus.toml", config::SHIPPED, report)
    }

    /// Reads the files that the options name; of those that they do not name, the working folder's;
    /// of those that are not there, the built-in ones.
    pub fn read(options: &Options, report: &mut Report) -> Self {
        let config = Self::read_config(options, report);
        let policy = text(options.policy.as_deref(), "policy.json", SHIPPED_POLICY, report);
        let environment = |name: &str| std::env::var(name).ok();
        let default = Path::new("api-paste.toml");
        let paste = match options.paste.as_deref() {
            Some(path) => paste::Files::read(path, &environment, report),
            None if default.exists() => paste::Files::read(default, &environment, report),
            None => paste::Files::from_text(
                "api-paste.toml (built in)",
                paste::SHIPPED,
                Path::new("."),
                &environment,
                report,
            ),
        };
        let folder = options.config.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_path_buf();
        Self { config, folder, paste, policy }
    }
}

fn text(named: Option<&Path>, default: &str, shipped: &str, report: &mut Report) -> Option<Arc<Source>> {
    let path = named.unwrap_or(Path::new(default));
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => Some(Arc::new(Source { name, text })),
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            Some(Arc::new(Source { name: format!("{default} (built in)"), text: shipped.to_owned() }))
        }
        Err(error) => {
            report.push(Diagnostic::error(format!("{name} cannot be read: {error}")));
            None
        }
    }
}
