//! One run of `myproxy-logon`: the proxy comes in a file, and what went wrong as a text.
//!
//! MyProxy's protocol is GSI's delegation inside TLS, which no crate speaks; the program is what grid
//! sites have and trust. A passphrase goes through its standard input, where no list of processes
//! shows it, and no text from here repeats it.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    process::{ChildStderr, ChildStdin, Command},
};

use crate::secret_file::{self, Readers};

/// Most that is kept of what the program says, in bytes.
const SAID_MAX: u64 = 4096;
/// What of our own environment the program gets: no token, no password that stands in another.
const ENVIRONMENT: [&str; 7] = [
    "PATH",
    "HOME",
    "GLOBUS_LOCATION",
    "X509_CERT_DIR",
    "X509_USER_CERT",
    "X509_USER_KEY",
    "MYPROXY_SERVER_DN",
];

/// Whom to ask, as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    pub program: PathBuf,
    pub server: String,
    pub port: u16,
    pub server_dn: Option<String>,
    pub account: String,
    pub credential_name: Option<String>,
    pub lifetime_h: u32,
    pub proof: Proof,
    /// Subject of the user's own certificate; `None`: that of the proxy before.
    pub subject: Option<String>,
    pub trusted_ca_dir: Option<PathBuf>,
    /// Certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How the server is convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The passphrase in this file.
    Passphrase(PathBuf),
    /// The proxy in this file, which has not ended yet.
    Renewal(PathBuf),
    /// The client's certificate alone.
    Client,
}

/// Has the proxy written to `target`, which is not there yet. Dropped, it ends the program with all that it started.
pub async fn fetch(login: &Login, target: &Path) -> Result<(), String> {
    let secret = match &login.proof {
        Proof::Passphrase(path) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || passphrase(&path)).await;
            Some(read.map_err(|error| error.to_string())??)
        }
        Proof::Renewal(_) | Proof::Client => None,
    };
    let mut child = command(login, target).spawn().map_err(|error| not_run(&login.program, &error))?;
    let group = Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
    let (to, from) = (child.stdin.take(), child.stderr.take());
    // One that wants no passphrase may not read it: how it ends is what counts.
    let (_, said, ended) = tokio::join!(tell(to, secret.as_deref()), hear(from), child.wait());
    let status = ended.map_err(|error| error.to_string())?;
    // Its number may be another's from now on.
    std::mem::forget(group);
    if status.success() {
        return Ok(());
    }
    let said = words(&said, secret.as_deref());
    let at = format!("{}:{}", login.server, login.port);
    Err(if said.is_empty() {
        format!("{at} gave no proxy: {status}")
    } else {
        format!("{at} gave no proxy: {said}")
    })
}

fn command(login: &Login, target: &Path) -> Command {
    let mut command = Command::new(&login.program);
    command.arg("-q").args(["-s", &login.server]).args(["-p", &login.port.to_string()]);
    command.args(["-l", &login.account]).args(["-t", &login.lifetime_h.to_string()]);
    if let Some(name) = &login.credential_name {
        command.args(["-k", name]);
    }
    command.arg("-o").arg(target);
    match &login.proof {
        Proof::Passphrase(_) => command.arg("-S"),
        Proof::Renewal(proxy) => command.arg("-a").arg(proxy),
        Proof::Client => command.arg("-n"),
    };
    command.env_clear().envs(ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(login.server_dn.iter().map(|dn| ("MYPROXY_SERVER_DN", dn)));
    command.envs(login.trusted_ca_dir.iter().map(|folder| ("X509_CERT_DIR", folder)));
    if let Some((cert, key)) = &login.client {
        command.env("X509_USER_CERT", cert).env("X509_USER_KEY", key);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // A group of its own: what it starts ends with it.
    command.process_group(0).kill_on_drop(true);
    command
}

fn not_run(program: &Path, error: &io::Error) -> String {
    let program = program.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "The program `{program}` is not there. Debian's package `myproxy` has it; `myproxy_logon` in \
             [credentials] of pileus.toml names another place."
        ),
        _ => format!("The program `{program}` does not start: {error}."),
    }
}

/// Reads the first line. Blocks. A file that others can read is no secret, and not used.
fn passphrase(path: &Path) -> Result<String, String> {
    let text = secret_file::read_text(path, Readers::Owner).map_err(|error| match error.help() {
        Some(help) => format!("The passphrase file {error}: {help}."),
        None => format!("The passphrase file {error}."),
    })?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(format!("The passphrase file {} is empty.", path.display()));
    }
    Ok(line.to_owned())
}

/// Closes its input in the end: it waits for nothing more.
async fn tell(to: Option<ChildStdin>, secret: Option<&str>) -> io::Result<()> {
    if let (Some(mut to), Some(secret)) = (to, secret) {
        to.write_all(secret.as_bytes()).await?;
        to.write_all(b"\n").await?;
    }
    Ok(())
}

/// Reads to the end, so that the program is never kept waiting; keeps the beginning.
async fn hear(from: Option<ChildStderr>) -> Vec<u8> {
    let mut said = Vec::new();
    if let Some(mut from) = from {
        let kept = (&mut from).take(SAID_MAX).read_to_end(&mut said).await;
        if kept.is_ok() {
            drop(copy(&mut from, &mut sink()).await);
        }
    }
    said
}

/// What the program said in one line, for people: no control characters, and not the secret.
fn words(said: &[u8], secret: Option<&str>) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut line = lines.join("; ");
    if let Some(secret) = secret {
        line = line.replace(secret, "…");
    }
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

/// The program and all that it started; they end when it is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // None of them may be left; then there is nothing to end.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
