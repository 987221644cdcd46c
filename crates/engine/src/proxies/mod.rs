//! Users' proxies: fetched from MyProxy, kept in files, known in the state by their end alone.
//!
//! An effect, not a decision: [`Hub::renew_proxy`] runs the program, puts the file in its place and has
//! the writer say so, in this order; a crash in between leaves the newer file and the older word, and
//! the next renewal mends it. Cloud Scheduler renewed the proxy of every job and VM of a user by itself,
//! each with a server that the job named; here a user has one proxy for jobs and one for VMs, and the
//! deployer says which servers Pileus speaks to ([why](../../../../docs/decisions/0006-proxies.md)).

mod config;
mod logon;
mod pem;
mod proxy_file;
mod public_key;
mod refresher;
mod subject;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

pub use config::{CredentialsConfig, UserCredentials};
use pileus_model::{Actor, Clock, Name, ProxyUse, Receipt, Refusal, Time};
pub use refresher::run as refresh;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use self::{
    logon::{Login, Proof},
    proxy_file::ProxyFile,
};
use crate::{
    change::Change,
    command::valid,
    hub::{Hub, lock},
    writer::Work,
};

/// Most programs that fetch at a time. Servers that hang cost no more than this.
const AT_ONCE: usize = 32;
/// Longest part of a user's name in the name of a folder, in bytes.
const FOLDER_MAX: usize = 180;
/// A longer file is no proxy, in bytes.
const PROXY_MAX: u64 = 1024 * 1024;

/// Where proxies are fetched and kept.
#[derive(Debug)]
pub struct Office {
    config: CredentialsConfig,
    directory: PathBuf,
    /// Those that are being fetched.
    busy: Mutex<BTreeSet<(Name, ProxyUse)>>,
    programs: Semaphore,
}

impl Office {
    pub fn new(config: CredentialsConfig, state_dir: &Path) -> Self {
        let directory = config.directory.clone().unwrap_or_else(|| state_dir.join("credentials"));
        Self { config, directory, busy: Mutex::default(), programs: Semaphore::new(AT_ONCE) }
    }

    /// Whom to ask for a user's proxy; a refusal where nobody is known.
    fn login(&self, user: &str, which: ProxyUse) -> Result<Login, Refusal> {
        let (config, nobody) = (&self.config, UserCredentials::default());
        let own = config.users.get(user).unwrap_or(&nobody);
        let Some(server) = own.server.as_ref().or(config.server.as_ref()) else {
            return Err(Refusal::Conflict(format!(
                "No MyProxy server is known for user {user}: `server` in [credentials] of pileus.toml names one."
            )));
        };
        // Port and subject belong to the server that they stand beside.
        let (port, server_dn) = match own.server {
            Some(_) => (own.port.unwrap_or(CredentialsConfig::default().port), own.server_dn.as_ref()),
            None => (own.port.unwrap_or(config.port), own.server_dn.as_ref().or(config.server_dn.as_ref())),
        };
        let there = self.file(user, which);
        let proof = match &own.passphrase_file {
            Some(path) => Proof::Passphrase(path.clone()),
            None if there.exists() => Proof::Renewal(there),
            None if config.client_cert.is_some() => Proof::Client,
            None => {
                return Err(Refusal::Conflict(format!(
                    "User {user} has no {} to renew, and no `passphrase_file` in [credentials.users] of \
                     pileus.toml to fetch a first one with.",
                    which.as_str()
                )));
            }
        };
        Ok(Login {
            program: config.myproxy_logon.clone(),
            server: server.clone(),
            port: port.get(),
            server_dn: server_dn.cloned(),
            account: own.account.clone().unwrap_or_else(|| user.to_owned()),
            credential_name: own.credential_name.clone(),
            lifetime_h: own.lifetime_h.unwrap_or(config.lifetime_h).get(),
            proof,
            subject: own.subject.clone(),
            trusted_ca_dir: config.trusted_ca_dir.clone(),
            client: config.client_cert.clone().zip(config.client_key.clone()),
        })
    }

    /// Where a user's proxy is.
    fn file(&self, user: &str, which: ProxyUse) -> PathBuf {
        self.directory.join(folder(user)).join(format!("{}.pem", which.as_str()))
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.config.timeout_s.get())
    }
}

/// A user's name of any characters as the name of a folder; no two have the same.
fn folder(user: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let spell = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let name: String = user.bytes().map(spell).collect();
    if name.len() <= FOLDER_MAX {
        return name;
    }
    let hash: String = Sha256::digest(user).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // `%%` stands in no other name.
    format!("{}%%{hash}", &name[..FOLDER_MAX])
}

/// Somebody fetches it, until this is dropped.
struct Claim<'a> {
    office: &'a Office,
    key: (Name, ProxyUse),
}

impl<'a> Claim<'a> {
    fn new(office: &'a Office, user: &Name, which: ProxyUse) -> Option<Self> {
        let key = (user.clone(), which);
        let is_new = lock(&office.busy).insert(key.clone());
        // Lazily: one that is made and dropped here would end the other's claim.
        is_new.then(|| Self { office, key })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.office.busy).remove(&self.key);
    }
}

impl Hub {
    /// Fetches a user's proxy, and answers once that is durable. What was there stays where it fails.
    pub async fn renew_proxy(
        self: Arc<Self>,
        user: Name,
        which: ProxyUse,
        by: Actor,
    ) -> Result<Receipt, Refusal> {
        valid::user("user", &user)?;
        let office = &self.office;
        let busy = || Refusal::Conflict(format!("The {} of user {user} is being renewed.", which.as_str()));
        let _claim = Claim::new(office, &user, which).ok_or_else(busy)?;
        let Ok(_program) = office.programs.try_acquire() else {
            return Err(Refusal::Elsewhere(format!("{AT_ONCE} proxies are being fetched; try again later.")));
        };
        let login = office.login(&user, which)?;
        let expires = self.fetch(&login, &office.file(&user, which)).await.map_err(Refusal::Elsewhere)?;
        let server = login.server.into();
        let change = Change::ProxyRenewed { user, which, expires, server };
        let answer = self.enqueue(Work::Changes(vec![change]), by);
        answer.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// Has the program write beside `file`, looks at what came, and puts it in its place in one step.
    async fn fetch(&self, login: &Login, file: &Path) -> Result<Time, String> {
        let new = New(file.with_extension("pem.new"));
        let path = new.0.clone();
        blocking(move || make_room(&path)).await?;
        let timeout = self.office.timeout();
        tokio::select! {
            biased;
            fetched = logon::fetch(login, &new.0) => fetched?,
            // The program is dropped with its call, and so ended.
            () = self.clock.sleep(timeout) => {
                let (server, port, seconds) = (&login.server, login.port, timeout.as_secs());
                return Err(format!("{server}:{port} gave no proxy within {seconds} s."));
            }
        }
        let (now, file, subject) = (self.clock.now(), file.to_path_buf(), login.subject.clone());
        blocking(move || settle(&new.0, &file, now, subject.as_deref())).await
    }
}

/// A file that goes where it is not put in its place.
struct New(PathBuf);

impl Drop for New {
    fn drop(&mut self) {
        // It is gone already where all went well.
        drop(fs::remove_file(&self.0));
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?
}

/// Makes the folder, which nobody else may enter, and takes away what a crash left.
fn make_room(new: &Path) -> Result<(), String> {
    let folder = new.parent().unwrap_or(Path::new("."));
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| format!("The folder {} cannot be made: {error}.", folder.display()))?;
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("{} cannot be removed: {error}.", new.display()))
        }
        _ => Ok(()),
    }
}

/// Puts a proxy in its place and answers with its end. Readers see the old one or the new one, whole. The new one is of
/// the `subject` that the settings name; where they name none, of the old one's.
fn settle(new: &Path, file: &Path, now: Time, subject: Option<&str>) -> Result<Time, String> {
    let wrong = |what: &dyn std::fmt::Display| format!("The proxy that came is of no use: {what}.");
    let it = ProxyFile::read(&text(new).map_err(|what| wrong(&what))?).map_err(|what| wrong(&what))?;
    // A file that is no proxy names no user.
    let before = text(file).ok().and_then(|text| ProxyFile::read(&text).ok());
    if let Some(problem) = it.problem(now, subject, before.as_ref().map(|before| before.subject.as_str())) {
        return Err(wrong(&problem));
    }
    let kept = || {
        fs::set_permissions(new, Permissions::from_mode(0o600))?;
        File::open(new)?.sync_all()?;
        fs::rename(new, file)?;
        File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    kept().map_err(|error| format!("{} cannot be written: {error}.", file.display()))?;
    Ok(it.expires)
}

/// Reads a file of at most [`PROXY_MAX`] bytes.
fn text(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > PROXY_MAX {
        return Err("it is longer than 1 MiB".into());
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_folder_of_its_own() {
        let (long, longer) = ("ä".repeat(120), format!("{}b", "ä".repeat(119)));
        let names = ["ada", "Ada", "../ada", "a/b", "a%2Fb", "", ".", "/O=x/CN=y z", &long, &longer];
        let folders: BTreeSet<String> = names.iter().map(|name| folder(name)).collect();
        assert_eq!(folders.len(), names.len(), "{folders:?}");
        for folder in folders {
            assert!(folder.len() <= 255 && !folder.contains(['/', '.']), "{folder}");
        }
        assert_eq!((folder("ada"), folder("a/b")), ("ada".into(), "a%2Fb".into()));
    }

    #[test]
    fn a_users_own_server_brings_its_own_port_and_subject() {
        let toml = |text: &str| serde_json::from_str::<CredentialsConfig>(text).unwrap();
        let office = |text: &str| Office::new(toml(text), Path::new("/nowhere"));
        let login = |text: &str, user: &str| office(text).login(user, ProxyUse::JobProxy);
        let shared = r#"{"server": "a", "port": 1, "server_dn": "/CN=a", "client_cert": "c", "client_key": "k",
            "users": {"ada": {"server": "b", "account": "x", "credential_name": "n", "passphrase_file": "p"},
                      "bob": {"port": 2, "lifetime_h": 3}}}"#;
        let of = |user| login(shared, user).unwrap();
        let (ada, bob, cy) = (of("ada"), of("bob"), of("cy"));
        assert_eq!((&*ada.server, ada.port, ada.server_dn, ada.lifetime_h), ("b", 7512, None, 12));
        assert_eq!((&*ada.account, ada.credential_name.as_deref()), ("x", Some("n")));
        assert_eq!((ada.proof, ada.client), (Proof::Passphrase("p".into()), Some(("c".into(), "k".into()))));
        assert_eq!(
            (&*bob.server, bob.port, bob.server_dn.as_deref(), bob.lifetime_h),
            ("a", 2, Some("/CN=a"), 3)
        );
        assert_eq!((&*cy.account, cy.port, cy.proof), ("cy", 1, Proof::Client));
        for (text, wanted) in [
            ("{}", "No MyProxy server is known for user ada"),
            (r#"{"server": "a"}"#, "User ada has no job_proxy to renew"),
        ] {
            let refused = login(text, "ada").unwrap_err();
            assert!(matches!(&refused, Refusal::Conflict(why) if why.starts_with(wanted)), "{refused}");
        }
    }
}
