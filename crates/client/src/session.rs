//! One call of a program: where it connects to, with which token, in which tongue.

use std::{
    env,
    io::{IsTerminal, Read},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use jiff::Zoned;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    audit::Audit,
    config::{self, Bad, Config},
    http::{Secret, Server, comment},
    native::{self, Api},
    old::{self, run::Run},
    options::Id,
    outcome::{Codes, End, Outcome},
    parse::Given,
    program::{NATIVE_PORT, Program, Which},
    watch::{Paper, Watch},
};

const TIMEOUT_S: u64 = 60;
/// Of a terminal that does not tell its size.
const SIZE: (usize, usize) = (80, 24);

/// All that was made of the options.
struct Session<'a> {
    program: &'static Program,
    called: &'a str,
    base: &'a str,
    given: &'a Given,
    server: Server,
    audit: Audit,
}

/// Does what was asked. `title` is the command line, for a screen.
pub fn run(program: &'static Program, called: &str, base: &str, title: &str, given: &Given) -> ExitCode {
    let native = given.text(Id::Project).is_some();
    let codes = if native || given.is(Id::Strict) { Codes::Strict } else { Codes::Old(program.which) };
    let finish = |outcome: &Outcome| {
        outcome.show();
        ExitCode::from(outcome.end.code(codes))
    };
    let bad = |bad: Bad| Outcome { out: bad.said.into(), err: bad.warned, end: End::BadConfig };
    let warn = |text: String| Bad { said: String::new(), warned: text };

    let mut config = Config::default();
    // `/v2` has no port in those files, but the audit log is the operator's wish wherever he works.
    if !native || program.which == Which::Admin {
        let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        match config::read(program.which, given.text(Id::ConfigFile), &config::folders(&home)) {
            Ok(read) => config = read,
            Err(error) => return finish(&bad(error)),
        }
    }
    let audit = match Audit::new(std::mem::take(&mut config.logging), Zoned::now) {
        Ok(audit) => audit,
        Err(error) => return finish(&bad(warn(error))),
    };
    let token = match token(given, native) {
        Ok(token) => token,
        Err(error) => return finish(&bad(warn(format!("{base}: {error}\n")))),
    };
    let server = server(program, given, &config, token);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(&bad(warn(format!("{base}: {error}\n")))),
    };
    let session = Session { program, called, base, given, server, audit };
    let before = Outcome { out: config.said.into(), err: config.warned, end: End::Done };
    before.show();
    runtime.block_on(async {
        match given.seconds(Id::Watch) {
            Some(seconds) => session.watch(seconds, title).await,
            None => finish(&session.once().await),
        }
    })
}

fn server(program: &Program, given: &Given, config: &Config, token: Option<Secret>) -> Server {
    let port = match given.text(Id::Project) {
        Some(_) => i64::from(NATIVE_PORT),
        None => config.port.unwrap_or_else(|| i64::from(program.port)),
    };
    let host = given.text(Id::Host).map(str::to_owned);
    Server {
        or_loopback: host.is_none(),
        host: host.unwrap_or_else(node_name),
        port: given.text(Id::Port).map_or_else(|| port.to_string(), str::to_owned),
        timeout: Duration::from_secs(given.seconds(Id::Timeout).unwrap_or(TIMEOUT_S)),
        token,
        comment: given.text(Id::Comment).and_then(comment),
    }
}

/// This machine's name, as Python's `platform.node()`.
fn node_name() -> String {
    let name = nix::sys::utsname::uname().ok();
    let name = name.and_then(|name| name.nodename().to_str().map(str::to_owned));
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".into())
}

/// The token, which no error repeats. The environment's is for `/v2` alone: the old ports may be
/// somebody else's.
fn token(given: &Given, native: bool) -> Result<Option<Secret>, String> {
    let (from, text) = if let Some(token) = given.text(Id::Token) {
        ("--token".to_owned(), token.to_owned())
    } else if let Some(path) = given.text(Id::TokenFile) {
        (path.to_owned(), token_file(path)?)
    } else {
        match env::var("PILEUS_TOKEN") {
            Ok(token) if native && !token.is_empty() => ("$PILEUS_TOKEN".to_owned(), token),
            _ => return Ok(None),
        }
    };
    let token =
        Secret::new(&text).ok_or_else(|| format!("{from} holds no token: it is empty, or not one word"))?;
    Ok(Some(token))
}

/// Content of a token's file. The rule is that of the server's own secret files: other users of the host may
/// not read or write them.
fn token_file(path: &str) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("{path}: {error}");
    let mut file = std::fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(format!("{path} can be read by others (mode {mode:04o})\nhelp: run `chmod 600 {path}`"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

impl Session<'_> {
    /// Does it once.
    async fn once(&self) -> Outcome {
        let given = self.given;
        let Some(project) = given.text(Id::Project) else { return self.old().await };
        let api = Api { server: &self.server, project, all_projects: given.is(Id::AllProjects) };
        let result = match self.program.which {
            Which::Status => native::status::show(&api, given).await,
            Which::Admin => native::admin::act(&api, given, &self.audit).await,
        };
        let json = given.is(Id::Json) || given.is(Id::ShortJson);
        native::outcome(self.base, &self.server, json, result)
    }

    async fn old(&self) -> Outcome {
        let Server { host, port, .. } = &self.server;
        let (steps, audit) = match self.program.which {
            Which::Status => (old::status::plan(self.given), None),
            Which::Admin => {
                let base = format!("http://{host}:{port}/");
                (old::admin::plan(self.given, self.audit.wants_comments(), &base), Some(&self.audit))
            }
        };
        let (json, strict) = (self.given.is(Id::Json), self.given.is(Id::Strict));
        Run { server: &self.server, audit, called: self.called, json, strict }.steps(&steps).await
    }

    /// Does it until somebody presses Ctrl-C.
    async fn watch(&self, seconds: u64, title: &str) -> ExitCode {
        let terminal = std::io::stdout().is_terminal();
        let title = format!("{} {title}", self.base);
        // A token on the command line is visible enough as it is.
        let title = match self.given.text(Id::Token) {
            Some(token) => title.replace(token, "…"),
            None => title,
        };
        let watch = Watch {
            every: Duration::from_secs(seconds),
            paper: if terminal { Paper::Screen } else { Paper::Roll },
            size: || {
                let size = terminal_size::terminal_size();
                size.map_or(SIZE, |(columns, rows)| (columns.0.into(), rows.0.into()))
            },
            title: &title,
            now: Zoned::now,
        };
        watch.run(&mut std::io::stdout(), async || self.once().await, stopped()).await;
        ExitCode::SUCCESS
    }
}

/// Ends with Ctrl-C, SIGTERM or SIGHUP.
async fn stopped() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [interrupt, terminate, hangup] = kinds.map(|kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    });
    tokio::select! {
        () = interrupt => {}
        () = terminate => {}
        () = hangup => {}
    }
}
