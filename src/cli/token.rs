//! `pileus token`: words and options.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Options;

const CREATE: &str = "\
The secret is printed to stdout, once: Pileus keeps its SHA-256 alone. While a server runs, it is asked over HTTP, with
an administrator's token. While none holds the state folder, the folder itself is changed. --url and --token-file always
ask a server.

Examples:
  pileus token create laptop --user ada                       ada's, in the project `default`, role `member`
  pileus token create ci --project physics --expires 30d > ci-token
  pileus token create ops --user eve --role admin --role member --expires 2027-01-31T00:00:00Z
  pileus token create --admin --state /var/lib/pileus         after a loss of DIR/admin-token; stop the server first

Exit codes: 0 done; 1 refused (the name is taken, no administrator's token); 64 usage; 69 no server answers, or it holds
the state folder of --admin; 78 configuration.";

const LIST: &str = "\
Examples:
  pileus token list
  pileus token list --json | jq -r '.tokens[].name'

Exit codes: 0 done; 1 refused; 64 usage; 69 no server answers, and the state folder cannot be read.";

const REVOKE: &str = "\
A revoked token is refused at once, and streams that were opened with it end within 5 s.

Examples:
  pileus token revoke laptop
  pileus token revoke laptop --url https://pileus.example:8774 --token-file ~/admin-token

Exit codes: 0 done; 1 refused (there is no such token); 64 usage; 69 no server answers, and the state folder cannot be read.";

/// Words below `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token, and print its secret
    #[command(mut_arg("policy", |arg| arg.hide(true)), after_help = CREATE)]
    Create(CreateToken),
    /// List tokens: names, users, projects, roles, ends; no secrets
    #[command(mut_arg("policy", |arg| arg.hide(true)), after_help = LIST)]
    List {
        /// Server or folder.
        #[command(flatten)]
        access: TokenAccess,
    },
    /// Revoke a token by its name
    #[command(mut_arg("policy", |arg| arg.hide(true)), after_help = REVOKE)]
    Revoke {
        /// Name of the token
        name: String,
        /// Server or folder.
        #[command(flatten)]
        access: TokenAccess,
    },
}

impl TokenCommand {
    pub(super) fn access(&mut self) -> &mut TokenAccess {
        match self {
            Self::Create(asked) => &mut asked.access,
            Self::List { access } | Self::Revoke { access, .. } => access,
        }
    }
}

/// The token to create.
#[derive(Debug, Args)]
pub struct CreateToken {
    /// Name of the token: `list` shows it, `revoke` takes it
    #[arg(required_unless_present = "admin", conflicts_with = "admin")]
    pub name: Option<String>,
    /// User who calls with it [default: NAME]
    #[arg(long, value_name = "ID", conflicts_with = "admin")]
    pub user: Option<String>,
    /// Project that it is for
    #[arg(long, value_name = "ID", default_value = "default", conflicts_with = "admin")]
    pub project: String,
    /// Role, repeatable [default: member]
    #[arg(long = "role", value_name = "ROLE", conflicts_with = "admin")]
    pub roles: Vec<String>,
    /// End of its validity: a duration (30d, 12h, 1h30m) or a time (2027-01-31T12:00:00Z) [default: none]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Replace the administrator's token in the state folder, and write DIR/admin-token
    #[arg(long, conflicts_with_all = ["url", "token_file", "own_project"])]
    pub admin: bool,
    /// Server or folder.
    #[command(flatten)]
    pub access: TokenAccess,
}

/// The server that is asked, or the folder that is changed.
#[derive(Debug, Args)]
pub struct TokenAccess {
    /// Server to ask: http://HOST:PORT, https://HOST:PORT or unix:PATH [default: the one that the files describe]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Read the administrator's token from this file [default: $PILEUS_TOKEN, else DIR/admin-token]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Project of the administrator's token
    #[arg(long, value_name = "ID", default_value = "default")]
    pub own_project: String,
    /// Files of the server, and its state folder.
    #[command(flatten)]
    pub options: Options,
    /// As JSON, for scripts
    #[arg(long)]
    pub json: bool,
}
