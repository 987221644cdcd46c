//! `pileus state`: words and options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Options, TokenAccess};

const BACKUP: &str = "\
FILE is one consistent copy of the state, mode 0600. It must not be there yet. While a server runs, it makes the copy and
sends it; this needs an administrator's token (rule `service:backup`). While none holds the state folder, the folder is
read. The backup holds hashes of tokens and outputs of jobs. It does not hold DIR/admin-token, DIR/channel-key and users'
proxies: save admin-token on its own, or make another one with `pileus token create --admin`.

Examples:
  pileus state backup /backup/pileus-$(date +%F)
  pileus state backup pileus.backup --url https://pileus.example.org --token-file admin-token

Exit codes: 0 done; 1 refused, or FILE is there; 64 usage; 69 no server answers, and the folder cannot be read.";

const RESTORE: &str = "\
FILE is checked (integrity, version, every event) before the folder is changed. Refused while a server holds the folder,
and where the folder has a state or parts of one: move those away first. VMs of the backup are not there any more; their
jobs run again. Run it as the user of the service, or as root.

Examples:
  pileus state restore /backup/pileus-2027-01-31 --state /var/lib/pileus
  pileus token create --admin --state /var/lib/pileus    if admin-token is lost

Exit codes: 0 done; 1 the folder is not empty; 64 usage; 69 the folder is in use or cannot be written; 78 FILE is damaged,
of a newer version, or no backup.";

const COMPACT: &str = "\
A running server deletes old events by itself, in the background, as `history_keep_days` and `history_keep_mib` of
[scheduler] say. This does the same at once while no server runs, and gives the space back to the file system. Events are
deleted that a snapshot covers; the state stays as it is. Export them first where they are an audit log.

Examples:
  pileus state export-events events.jsonl && pileus state compact --state /var/lib/pileus
  pileus state compact --keep-days 7

Exit codes: 0 done; 64 usage; 69 the folder is in use or cannot be used; 78 configuration.";

const EXPORT: &str = "\
One line of JSON for each event, the oldest first: seq, time_ms, user, project, request_id, comment, owner, event. Works
beside a running server. FILE is made with mode 0600 and must not be there yet; `-` is stdout.

Examples:
  pileus state export-events events.jsonl --state /var/lib/pileus
  pileus state export-events - | jq 'select(.user == \"ada\")'

Exit codes: 0 done; 1 FILE cannot be written; 64 usage; 69 there is no state, or it cannot be read.";

/// Words below `state`.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Copy the state into one file, from the running server or from the folder
    #[command(after_help = BACKUP, mut_arg("policy", |arg| arg.hide(true)), mut_arg("json", |arg| arg.hide(true)))]
    Backup {
        /// File to make
        file: PathBuf,
        /// Server or folder.
        #[command(flatten)]
        access: TokenAccess,
    },
    /// Bring a backup into an empty state folder
    #[command(after_help = RESTORE)]
    Restore(StateFile),
    /// Delete old events, and give their space back
    #[command(after_help = COMPACT)]
    Compact(Compact),
    /// Write all events as lines of JSON
    #[command(after_help = EXPORT)]
    ExportEvents(StateFile),
}

/// A file, and the state folder.
#[derive(Debug, Args)]
pub struct StateFile {
    /// The file
    pub file: PathBuf,
    /// The state folder.
    #[command(flatten)]
    pub options: Options,
}

/// Bounds of the history.
#[derive(Debug, Args)]
pub struct Compact {
    /// Keep events of so many days before the newest one [default: history_keep_days of [scheduler]]
    #[arg(long, value_name = "N")]
    pub keep_days: Option<u64>,
    /// Keep the newest events up to this size, in MiB [default: history_keep_mib of [scheduler]]
    #[arg(long, value_name = "N")]
    pub keep_mib: Option<u64>,
    /// Settings, and the state folder.
    #[command(flatten)]
    pub options: Options,
}

impl StateCommand {
    /// Returns the options, those of them that count, and the words.
    pub fn options(&mut self) -> (&mut Options, &'static [&'static str], &'static str) {
        match self {
            Self::Backup { access, .. } => (&mut access.options, super::TOKENS, "state backup"),
            Self::Restore(it) => (&mut it.options, &["state"], "state restore"),
            Self::Compact(it) => (&mut it.options, &["config", "state"], "state compact"),
            Self::ExportEvents(it) => (&mut it.options, &["state"], "state export-events"),
        }
    }
}
