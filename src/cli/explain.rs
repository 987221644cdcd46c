//! `pileus explain`: words and options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Options;

pub(super) const EXPLAIN: &str = "\
METHOD PATH needs no server that runs: mount, filters in their order with where each setting comes from, route,
action and policy rule are read from the files. `job ID` asks a server, and so does `--time`: how long the filters
of this way took, of all requests that went through them and were timed.

Examples:
  pileus explain GET /v2/demo/clouds/west
  pileus explain PUT http://127.0.0.1:8112/clouds/west --json
  pileus explain --time GET /v2/demo/clouds
  pileus explain job 01jd3x

Exit codes: 0 there is such a route, or such a job; 1 there is none; 64 usage; 69 the server is not there;
78 configuration.";

/// Words below `explain`.
#[derive(Debug, Subcommand)]
pub enum ExplainCommand {
    /// Why a job waits: every cloud with the first test that it fails, the shares, the limits
    #[command(
        mut_arg("config", |arg| arg.hide(true)),
        mut_arg("policy", |arg| arg.hide(true)),
        after_help = "Asks a server that runs, as the administrator: with the token in DIR/admin-token. The server is the one that api-paste.toml describes; --url names another one. Exit 0; 1 where the server refuses (no such job); 69 where it, or the token, is not there."
    )]
    Job(ExplainJob),
}

/// Which request, by which files.
#[derive(Debug, Args)]
pub struct ExplainRequest {
    /// GET, POST, …
    #[arg(required = true)]
    pub method: Option<String>,
    /// The path as it is called, `/v2/demo/clouds/west`; with host and port their server is meant
    #[arg(required = true)]
    pub path: Option<String>,
    /// Which [server.NAME] [default: api, else the first]
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// Which files.
    #[command(flatten)]
    pub options: Options,
    /// Ask the server that runs how long each filter on this way takes
    #[arg(long)]
    pub time: bool,
    /// Server to ask: http://HOST:PORT, https://HOST:PORT or unix:PATH [default: that of PATH, else of the files]
    #[arg(long, value_name = "URL", requires = "time")]
    pub url: Option<String>,
    /// Read the token from this file [default: $PILEUS_TOKEN, else the administrator's of --state]
    #[arg(long, value_name = "FILE", requires = "time")]
    pub token_file: Option<PathBuf>,
    /// As JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// Which job, of which server.
#[derive(Debug, Args)]
pub struct ExplainJob {
    /// The job's id
    pub id: String,
    /// Server to ask: http://HOST:PORT, https://HOST:PORT or unix:PATH [default: the one that the files describe]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The project that asks, and has the job [default: the administrator's, which sees every job]
    #[arg(long, value_name = "ID")]
    pub project: Option<String>,
    /// Read the token from this file [default: $PILEUS_TOKEN, else the administrator's of --state]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Pipelines of the server, and its state folder, for the administrator's token.
    #[command(flatten)]
    pub options: Options,
    /// As JSON, for scripts
    #[arg(long)]
    pub json: bool,
}
