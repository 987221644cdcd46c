//! The command line: words and options, and what `--help` teaches.

mod explain;
mod state;
mod token;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind,
    parser::ValueSource,
};

use self::explain::EXPLAIN;
pub use self::{
    explain::{ExplainCommand, ExplainJob, ExplainRequest},
    state::{Compact, StateCommand, StateFile},
    token::{CreateToken, TokenAccess, TokenCommand},
};
use crate::convert::FileKind;

/// Boots virtual machines on clouds for queued batch jobs, and answers for it over HTTP.
#[derive(Debug, Parser)]
#[command(name = "pileus", version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do; nothing said: `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Files and state. Options before a subcommand count as if they stood behind it.
    #[command(flatten)]
    pub options: Options,
}

const EXAMPLES: &str = "Examples:
  pileus                                  serve with the files of this folder, or the built-in ones
  pileus check                            show every mistake in the files, start nothing
  pileus pipeline                         show listeners, mounts and filters as they were understood
  pileus routes --json                    list every route with its policy rule
  pileus explain GET /v2/demo/clouds      tell the way of a request: filters, route, rule
  pileus explain --time GET /v2/d/clouds  tell how long each filter on that way takes
  pileus explain job ID                   tell why a job waits, by the server of this host
  pileus convert api-paste.ini            turn Nova's or Cloud Scheduler's files into Pileus's own
  pileus token create laptop --user ada   make a token, and print its secret
  pileus state backup FILE                copy the whole state into one file, also of a server that runs
  pileus policy list                      show every rule, where it comes from, who asks it
  pileus policy test tests/*.json         decide vectors, show why a decision differs

Environment, for `serve`:
  PILEUS_LOG         log filter: LEVEL or TARGET=LEVEL, separated by commas [default: info]
                     levels: off, error, warn, info, debug, trace. Example: info,pileus=debug
  PILEUS_LOG_FORMAT  text or json [default: text]

Exit codes: 0 done, 64 usage, 69 unavailable (a port or the state folder is taken), 78 configuration.";

const CONVERT: &str = "\
cloud_scheduler.conf and cloud_resources.conf become pileus.toml; api-paste.ini becomes api-paste.toml;
policy.json and policy.yaml become policy.json; nova.conf, keystone.conf and their like become settings of
pileus.toml and api-paste.toml. Name files that belong together in one run. Passwords and keys are never
written: the made file names a variable of the environment or a file in their place.

Examples:
  pileus convert /etc/cloudscheduler/cloud_scheduler.conf /etc/cloudscheduler/cloud_resources.conf
  pileus convert /etc/nova/api-paste.ini --out .     write ./api-paste.toml, unless it is there
  pileus convert /etc/nova/nova.conf /etc/nova/api-paste.ini --out .
  pileus convert policy.yaml --json                  the made text and what became of each rule, for scripts

Exit codes: 0 everything was carried over; 1 something was left out, or means something else here, and
stderr says what; 64 usage; 69 a file cannot be written; 78 a file is broken, and nothing was made.";

/// The words.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the files, build the pipelines, and serve until SIGTERM or Ctrl-C
    #[command(
        after_help = "SIGTERM and Ctrl-C drain: requests in flight finish, then VMs are ended and their jobs wait for the next start. A second signal stops at once."
    )]
    Serve(Options),
    /// Find everything that is wrong in the files, in one run; exit 0, or 78
    Check(Listing),
    /// List every route: method, path, action, policy rule, extension
    #[command(mut_arg("state", |arg| arg.hide(true)))]
    Routes(Listing),
    /// Show listeners, mounts, filters in their order, and where each setting comes from
    #[command(mut_arg("state", |arg| arg.hide(true)))]
    Pipeline {
        /// Which files, and how.
        #[command(flatten)]
        listing: Listing,
        /// As a graph for Graphviz: `pileus pipeline --graph | dot -Tsvg > pipeline.svg`
        #[arg(long, conflicts_with = "json")]
        graph: bool,
    },
    /// List the extensions, those that failed included
    #[command(mut_arg("state", |arg| arg.hide(true)))]
    Extensions(Listing),
    /// Tell the way of a request through the files, or why a job waits
    #[command(
        subcommand_negates_reqs = true,
        after_help = EXPLAIN,
        override_usage = "pileus explain [OPTIONS] METHOD PATH\n       pileus explain job [OPTIONS] ID"
    )]
    Explain {
        /// What
        #[command(subcommand)]
        command: Option<ExplainCommand>,
        /// Which request.
        #[command(flatten)]
        request: ExplainRequest,
    },
    /// Work with policy rules
    #[command(mut_arg("state", |arg| arg.hide(true)))]
    Policy {
        /// Which files.
        #[command(flatten)]
        options: Options,
        /// Subcommand
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Create, list and revoke tokens of the embedded identity
    #[command(mut_arg("policy", |arg| arg.hide(true)))]
    Token {
        /// Files of the server, and its state folder.
        #[command(flatten)]
        options: Options,
        /// Subcommand
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Back up, restore, compact and export the state folder
    #[command(mut_arg("policy", |arg| arg.hide(true)), mut_arg("paste", |arg| arg.hide(true)))]
    State {
        /// Files of the server, and its state folder.
        #[command(flatten)]
        options: Options,
        /// Subcommand
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Turn files of Cloud Scheduler or of Nova into Pileus's own, and say what could not be carried over
    #[command(after_help = CONVERT)]
    Convert(Convert),
    /// Run the jobs of one VM (started by the driver `local`)
    #[command(hide = true)]
    Worker {
        /// The VM's folder
        folder: PathBuf,
    },
    /// Become the program of a job, with its limits (started by the worker)
    #[command(hide = true)]
    JobExec {
        /// Limits in JSON, the program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// Words below `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// List every rule: what decides, where it comes from, which routes ask it
    #[command(
        mut_arg("state", |arg| arg.hide(true)),
        after_help = "FROM is `code` for the default of a route that no file says anything about. Of a rule that several files have, the last one holds; the others are named behind `over`."
    )]
    List(Listing),
    /// Find what is wrong with files of rules, or may be meant otherwise; exit 0, or 78
    #[command(
        mut_arg("paste", |arg| arg.hide(true)),
        mut_arg("policy", |arg| arg.hide(true)),
        mut_arg("state", |arg| arg.hide(true)),
        after_help = "The files are read as policy.json and the files of policy.d would be: in this order, later over earlier, above the defaults in code. Warnings leave the exit code 0."
    )]
    Check {
        /// Files of rules, JSON or YAML
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Settings, for their [policy].
        #[command(flatten)]
        options: Options,
    },
    /// Decide a rule, and show how: every check with its value and its reason
    #[command(
        mut_arg("state", |arg| arg.hide(true)),
        after_help = "Example: pileus policy explain clouds:create --creds '{\"roles\": [\"member\"], \"project_id\": \"p1\"}' --target '{\"project_id\": \"p1\"}'\n\nExit 0 where the rule allows, else 1; 64 where a JSON is none; 78 where the rules are broken. No other server is asked, except with --ask."
    )]
    Explain(ExplainRule),
    /// Decide the vectors of JSON files: [{"name", "rules", "rule", "creds", "target", "expect"}]
    #[command(
        after_help = "`expect` is allow, deny or error. For error, anything but allow passes. Each failure is shown with its evaluation tree; the last line is `N passed, N failed`. Exit 0 only when all passed."
    )]
    Test {
        /// Files of vectors
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
}

/// Which rule, for whom, of what.
#[derive(Debug, Args)]
pub struct ExplainRule {
    /// The rule: `clouds:create`
    pub rule: String,
    /// The caller's credentials, a JSON object, or @FILE
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub creds: String,
    /// The attributes of what is to be done something to, a JSON object, or @FILE
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub target: String,
    /// Ask the servers of `http:` checks
    #[arg(long)]
    pub ask: bool,
    /// Which files.
    #[command(flatten)]
    pub options: Options,
}

/// Which files, and where the state lies.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Service settings: store, clouds, scheduler, extensions [default: ./pileus.toml, else built in]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Pipelines [default: ./api-paste.toml, else built in]
    #[arg(long, value_name = "FILE")]
    pub paste: Option<PathBuf>,
    /// Rules [default: ./policy.json, else built in]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Folder of the state, the VMs and the administrator's token [default: ./var]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// `true` if the service has read a `policy.d`: a reload demands the folder.
    #[arg(skip)]
    pub policy_d: bool,
}

impl Options {
    /// Returns the state folder.
    pub fn state(&self) -> &Path {
        self.state.as_deref().unwrap_or(Path::new("./var"))
    }

    fn entries(&mut self) -> [(&'static str, &mut Option<PathBuf>); 4] {
        let Self { config, paste, policy, state, policy_d: _ } = self;
        [("config", config), ("paste", paste), ("policy", policy), ("state", state)]
    }
}

/// Options that `serve` and `check` use.
const ALL: &[&str] = &["config", "paste", "policy", "state"];
/// Options of commands that read the files and have no use for the state folder.
const FILES: &[&str] = &["config", "paste", "policy"];
/// Options of `token`: it finds the server by its pipelines, and the store by the settings.
const TOKENS: &[&str] = &["config", "paste", "state"];

impl Cli {
    /// Parses the command line. An option of [`Options`] counts before and after a subcommand. One that is
    /// given twice, or that the subcommand does not use, is an error.
    pub fn read(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(args)?;
        stray(&matches)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.settle().map_err(usage)?;
        Ok(cli)
    }

    /// Moves the options to the innermost subcommand.
    fn settle(&mut self) -> Result<(), String> {
        let (mut levels, uses, word) = self.levels();
        let Some(last) = levels.pop() else { return Ok(()) };
        for above in levels {
            for ((name, from), (_, to)) in above.entries().into_iter().zip(last.entries()) {
                match (from.take(), &to) {
                    (Some(_), Some(_)) => return Err(format!("the option `--{name}` is given twice")),
                    (Some(path), None) => *to = Some(path),
                    (None, _) => {}
                }
            }
        }
        match last.entries().into_iter().find(|(name, path)| path.is_some() && !uses.contains(name)) {
            Some((name, _)) => Err(format!("the option `--{name}` has no effect on `pileus {word}`")),
            None => Ok(()),
        }
    }

    /// Returns the options of each level from the outside in, those that the innermost subcommand uses, and
    /// its name.
    fn levels(&mut self) -> (Vec<&mut Options>, &'static [&'static str], &'static str) {
        let top = &mut self.options;
        match &mut self.command {
            None => (vec![top], ALL, "serve"),
            Some(Command::Serve(options)) => (vec![top, options], ALL, "serve"),
            Some(Command::Check(it)) => (vec![top, &mut it.options], ALL, "check"),
            Some(Command::Routes(it)) => (vec![top, &mut it.options], FILES, "routes"),
            Some(Command::Pipeline { listing, .. }) => (vec![top, &mut listing.options], FILES, "pipeline"),
            Some(Command::Extensions(it)) => (vec![top, &mut it.options], FILES, "extensions"),
            Some(Command::Explain { command: Some(ExplainCommand::Job(job)), request }) => {
                (vec![top, &mut request.options, &mut job.options], &["paste", "state"], "explain job")
            }
            Some(Command::Explain { command: None, request }) => {
                let uses = if request.time { ALL } else { FILES };
                (vec![top, &mut request.options], uses, "explain")
            }
            Some(Command::Policy { options, command }) => match command {
                PolicyCommand::List(it) => (vec![top, options, &mut it.options], FILES, "policy list"),
                PolicyCommand::Check { options: own, .. } => {
                    (vec![top, options, own], &["config"], "policy check")
                }
                PolicyCommand::Explain(it) => (vec![top, options, &mut it.options], FILES, "policy explain"),
                PolicyCommand::Test { .. } => (vec![top, options], &[], "policy test"),
            },
            Some(Command::Token { options, command }) => {
                (vec![top, options, &mut command.access().options], TOKENS, "token")
            }
            Some(Command::State { options, command }) => {
                let (own, uses, word) = command.options();
                (vec![top, options, own], uses, word)
            }
            Some(Command::Convert(_)) => (vec![top], &[], "convert"),
            Some(Command::Worker { .. }) => (vec![top], &[], "worker"),
            Some(Command::JobExec { .. }) => (vec![top], &[], "job-exec"),
        }
    }
}

/// Refuses what stands before a subcommand and belongs to none of its options: `explain --json job 7`.
fn stray(matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((word, inner)) = matches.subcommand() else { return Ok(()) };
    let given = |id: &&str| {
        // Groups have an id, too, and no source.
        matches!(matches.try_get_raw_occurrences(id), Ok(Some(_)))
            && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let ids: Vec<&str> = matches.ids().map(|id| id.as_str()).filter(|id| !ALL.contains(id)).collect();
    match ids.iter().find(|id| given(id) && !id.starts_with(char::is_uppercase)) {
        Some(id) => Err(usage(format!("`{id}` has no effect before `{word}`"))),
        None => stray(inner),
    }
}

fn usage(text: String) -> clap::Error {
    Cli::command().error(ErrorKind::ArgumentConflict, text)
}

/// A list for people, or for scripts.
#[derive(Debug, Clone, Args)]
pub struct Listing {
    /// Which files.
    #[command(flatten)]
    pub options: Options,
    /// As JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// Which files, and where to.
#[derive(Debug, Clone, Args)]
pub struct Convert {
    /// Files of Cloud Scheduler or of Nova
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write into this folder; `-` is stdout
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Replace what is there
    #[arg(long, requires = "out")]
    pub force: bool,
    /// What the files are, where that cannot be seen
    #[arg(long, value_enum)]
    pub kind: Option<FileKind>,
    /// As JSON, for scripts
    #[arg(long)]
    pub json: bool,
}
