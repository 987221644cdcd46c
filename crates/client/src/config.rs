//! The configuration files of the old programs: which is read, what is taken of it, what goes wrong.
//!
//! Source: cloud-scheduler 1.13.2, `configstatus.py` and `config.py`.

use std::path::{Path, PathBuf};

use crate::{
    ini::{Ini, NoValue},
    program::Which,
};

/// What a file said.
#[derive(Debug, Default)]
pub struct Config {
    /// `cloud_status`: `[global] info_server_port`.
    pub port: Option<i64>,
    /// `cloud_admin`: `[logging]`.
    pub logging: Logging,
    /// What is said on standard output before anything else.
    pub said: String,
    /// What is said on standard error before anything else.
    pub warned: String,
}

/// `[logging]` of `cloud_scheduler.conf`, as far as it is about `cloud_admin`.
#[derive(Debug)]
pub struct Logging {
    /// `log_level`.
    pub level: String,
    /// `log_location_cloud_admin`.
    pub file: Option<PathBuf>,
    /// `log_stdout`, which means standard error.
    pub stderr: bool,
    /// `log_format`.
    pub format: String,
    /// `admin_log_comments`: changes need a comment.
    pub comments: bool,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: "INFO".into(),
            file: None,
            stderr: false,
            format: "%(asctime)s - %(levelname)s - %(threadName)s - %(message)s".into(),
            comments: false,
        }
    }
}

/// A file with which nobody can work: what is said of it, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    /// Standard output.
    pub said: String,
    /// Standard error.
    pub warned: String,
}

/// The folders that are looked through, in order.
pub fn folders(home: &Path) -> [PathBuf; 3] {
    [home.join(".cloudscheduler"), "/etc/cloudscheduler".into(), "/usr/local/share/cloud-scheduler".into()]
}

const NO_FILE: &str = "Configuration file problem: There doesn't seem to be a configuration file. You can \
    specify one with the --config-file parameter, or put one in \
    ~/.cloudscheduler/cloud_scheduler_status.conf or /etc/cloudscheduler/cloud_scheduler_status.conf \
    Running in full default value mode.\n";

/// Reads the file that was named, else the first that there is. A named file that is not there, or
/// that may not be read, is as an empty one.
pub fn read(which: Which, named: Option<&str>, folders: &[PathBuf]) -> Result<Config, Bad> {
    let file = match which {
        Which::Status => "cloud_scheduler_status.conf",
        Which::Admin => "cloud_scheduler.conf",
    };
    let found = || folders.iter().map(|folder| folder.join(file)).find(|path| path.exists());
    let Some(path) = named.map(PathBuf::from).or_else(found) else {
        let warned = if which == Which::Status { NO_FILE.into() } else { String::new() };
        return Ok(Config { warned, ..Config::default() });
    };
    let bytes = std::fs::read(&path).unwrap_or_default();
    let ini = Ini::parse(&String::from_utf8_lossy(&bytes)).map_err(|wrong| Bad {
        said: String::new(),
        warned: format!(
            "Configuration file problem: Couldn't parse your file. Check for spaces before or after variables.\n{}\n",
            wrong.told(&path.to_string_lossy())
        ),
    })?;
    let mut config = Config::default();
    let port = |name| integer(&ini, "global", name, "");
    match which {
        Which::Status => config.port = port("info_server_port")?,
        Which::Admin => {
            // Neither says where `cloud_admin` connects to; either may be wrong.
            port("info_server_port")?;
            port("admin_server_port")?;
            logging(&ini, &mut config)?;
        }
    }
    Ok(config)
}

fn logging(ini: &Ini, config: &mut Config) -> Result<(), Bad> {
    integer(ini, "logging", "log_max_size", " in bytes")?;
    let text = |name| ini.get("logging", name).map_err(unexpected);
    let mut switch = |name| match text(name)?.map(|word| word.to_ascii_lowercase()).as_deref() {
        Some("1" | "yes" | "true" | "on") => Ok(true),
        None | Some("0" | "no" | "false" | "off") => Ok(false),
        Some(_) => {
            config.said.push_str(&format!("Configuration file problem: {name} must be a Boolean value.\n"));
            Ok(false)
        }
    };
    config.logging.stderr = switch("log_stdout")?;
    config.logging.comments = switch("admin_log_comments")?;
    if let Some(level) = text("log_level")? {
        config.logging.level = level;
    }
    config.logging.file = text("log_location_cloud_admin")?.filter(|path| !path.is_empty()).map(expand);
    if let Some(format) = ini.raw("logging", "log_format") {
        config.logging.format = format.to_owned();
    }
    Ok(())
}

/// `~/x` is below the home folder.
fn expand(path: String) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(below), Some(home)) => Path::new(&home).join(below),
        _ => path.into(),
    }
}

fn integer(ini: &Ini, section: &str, name: &str, unit: &str) -> Result<Option<i64>, Bad> {
    let Some(value) = ini.get(section, name).map_err(unexpected)? else { return Ok(None) };
    value.trim().parse().map(Some).map_err(|_| Bad {
        said: format!("Configuration file problem: {name} must be an integer value{unit}.\n"),
        warned: String::new(),
    })
}

fn unexpected(error: NoValue) -> Bad {
    Bad { said: String::new(), warned: format!("{error}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_there_is_wins_and_a_named_one_wins_over_it() {
        let top = tempfile::tempdir().unwrap();
        let folders: Vec<PathBuf> = ["home", "etc", "share"].map(|name| top.path().join(name)).into();
        let write = |folder: &Path, port: &str| {
            std::fs::create_dir_all(folder).unwrap();
            let text = format!("[global]\ninfo_server_port: {port}\n");
            std::fs::write(folder.join("cloud_scheduler_status.conf"), text).unwrap();
        };
        let port = |named| read(Which::Status, named, &folders).unwrap().port;
        assert_eq!(read(Which::Status, None, &folders).unwrap().warned, NO_FILE);
        for (at, expected) in [(2, 3), (1, 2), (0, 1)] {
            write(&folders[at], &expected.to_string());
            assert_eq!(port(None), Some(expected));
        }
        let named = top.path().join("named.conf");
        assert_eq!(port(named.to_str()), None, "not there: silently nothing");
        std::fs::write(&named, "[global]\ninfo_server_port = 4\n").unwrap();
        assert_eq!(port(named.to_str()), Some(4));
    }

    #[test]
    fn cloud_admin_takes_its_logging_and_nothing_more() {
        let top = tempfile::tempdir().unwrap();
        let file = top.path().join("cloud_scheduler.conf");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read(Which::Admin, None, &[top.path().to_owned()])
        };
        let config = read(
            "[global]\nadmin_server_port: 9\n[logging]\nlog_level: DEBUG\nlog_stdout: Yes\n\
            log_location_cloud_admin: /tmp/x.log\nadmin_log_comments: maybe\nlog_format: %(message)s\n",
        );
        let config = config.unwrap();
        assert_eq!((config.port, config.logging.level.as_str()), (None, "DEBUG"));
        assert_eq!((config.logging.stderr, config.logging.comments), (true, false));
        assert_eq!(config.logging.file.as_deref(), Some(Path::new("/tmp/x.log")));
        assert_eq!(config.logging.format, "%(message)s");
        assert_eq!(config.said, "Configuration file problem: admin_log_comments must be a Boolean value.\n");

        let bad = |text| read(text).unwrap_err().said;
        let problem = "Configuration file problem:";
        assert_eq!(
            bad("[global]\nadmin_server_port: x\n"),
            format!("{problem} admin_server_port must be an integer value.\n")
        );
        assert_eq!(
            bad("[logging]\nlog_max_size: 1M\n"),
            format!("{problem} log_max_size must be an integer value in bytes.\n")
        );
    }
}
