//! `[credentials]`: where users' proxies come from.

use std::{
    collections::BTreeMap,
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    path::{Path, PathBuf},
};

use pileus_model::ProxyUse;
use serde::Deserialize;

use crate::command::valid;

/// The `[credentials]` table. Every line may be left out; without a server no proxy is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CredentialsConfig {
    /// The program that fetches proxies; without a slash it is looked for in `PATH`.
    pub myproxy_logon: PathBuf,
    /// Where proxies are kept; absent: `credentials` in the state folder.
    pub directory: Option<PathBuf>,
    /// The MyProxy server of users who have no other.
    pub server: Option<String>,
    /// Its port.
    pub port: NonZeroU16,
    /// The subject of its certificate, where that is not its host's name.
    pub server_dn: Option<String>,
    /// Certificates of authorities that a server's may be signed by.
    pub trusted_ca_dir: Option<PathBuf>,
    /// Who Pileus is, for servers that renew for known clients only.
    pub client_cert: Option<PathBuf>,
    /// The key of that certificate.
    pub client_key: Option<PathBuf>,
    /// What a proxy is asked to last, in hours.
    pub lifetime_h: NonZeroU32,
    /// Longest wait for a proxy, in seconds.
    pub timeout_s: NonZeroU64,
    /// Pause between two looks for job proxies that end soon, in seconds; absent: none is renewed unasked.
    pub job_proxy_refresher_interval_s: Option<NonZeroU64>,
    /// Pause between two looks for VM proxies that end soon, in seconds; absent: none is renewed unasked.
    pub vm_proxy_refresher_interval_s: Option<NonZeroU64>,
    /// A job proxy that lasts no longer is renewed, in seconds.
    pub job_proxy_renewal_threshold_s: u64,
    /// A VM proxy that lasts no longer is renewed, in seconds.
    pub vm_proxy_renewal_threshold_s: u64,
    /// What is special about a user.
    pub users: BTreeMap<String, UserCredentials>,
}

/// A `[credentials.users.NAME]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UserCredentials {
    /// The user's MyProxy server.
    pub server: Option<String>,
    /// Its port.
    pub port: Option<NonZeroU16>,
    /// The subject of its certificate, where that is not its host's name.
    pub server_dn: Option<String>,
    /// The user's name there; absent: as here.
    pub account: Option<String>,
    /// Which credential of that account; absent: its only one.
    pub credential_name: Option<String>,
    /// Subject of the user's own certificate, as in `/O=Grid/CN=Ada`: proxies of another are refused. Absent: that of the
    /// proxy that is replaced.
    pub subject: Option<String>,
    /// What a proxy is asked to last, in hours.
    pub lifetime_h: Option<NonZeroU32>,
    /// A file that holds the passphrase and that nobody else may read; absent: the proxy that is there
    /// is shown to the server in order to get its successor.
    pub passphrase_file: Option<PathBuf>,
}

impl Default for CredentialsConfig {
    fn default() -> Self {
        Self {
            myproxy_logon: "myproxy-logon".into(),
            directory: None,
            server: None,
            port: const { NonZeroU16::new(7512).unwrap() },
            server_dn: None,
            trusted_ca_dir: None,
            client_cert: None,
            client_key: None,
            lifetime_h: const { NonZeroU32::new(12).unwrap() },
            timeout_s: const { NonZeroU64::new(30).unwrap() },
            job_proxy_refresher_interval_s: None,
            vm_proxy_refresher_interval_s: None,
            job_proxy_renewal_threshold_s: 15 * 60,
            vm_proxy_renewal_threshold_s: 60 * 60,
            users: BTreeMap::new(),
        }
    }
}

impl CredentialsConfig {
    /// Takes every relative path as one from `folder`; a program without a slash stays a name.
    pub fn relative_to(&mut self, folder: &Path) {
        let places =
            [&mut self.directory, &mut self.trusted_ca_dir, &mut self.client_cert, &mut self.client_key];
        let of_users = self.users.values_mut().map(|user| &mut user.passphrase_file);
        for path in places.into_iter().chain(of_users).flatten() {
            *path = folder.join(&path);
        }
        if self.myproxy_logon.components().count() > 1 {
            self.myproxy_logon = folder.join(&self.myproxy_logon);
        }
    }

    /// Returns the files and folders that are named, but for the program.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let places = [&self.directory, &self.trusted_ca_dir, &self.client_cert, &self.client_key];
        let of_users = self.users.values().map(|user| &user.passphrase_file);
        places.into_iter().chain(of_users).flatten().map(PathBuf::as_path)
    }

    /// What makes no sense together: the setting, and why.
    pub fn problem(&self) -> Option<(String, String)> {
        if self.myproxy_logon.as_os_str().is_empty() {
            return Some(("myproxy_logon".into(), "`myproxy_logon` must name a program".into()));
        }
        for (here, there, key, other) in [
            (&self.client_cert, &self.client_key, "client_cert", "client_key"),
            (&self.client_key, &self.client_cert, "client_key", "client_cert"),
        ] {
            if here.is_some() && there.is_none() {
                return Some((key.into(), format!("`{key}` is of no use without `{other}`")));
            }
        }
        for (place, text) in self.spoken() {
            if valid::no_control("name", text).is_err() {
                return Some((
                    place.clone(),
                    format!("`{place}` holds a control character, and names a part of a protocol"),
                ));
            }
        }
        for (name, user) in &self.users {
            if user.subject.as_ref().is_some_and(|subject| !subject.trim_start().starts_with('/')) {
                let problem = "`subject` begins with `/`, as in `/O=Grid/CN=Ada`";
                return Some((format!("users.{name}.subject"), problem.into()));
            }
        }
        let homeless = self.users.iter().find(|(_, user)| self.server.is_none() && user.server.is_none());
        let (user, _) = homeless?;
        Some((
            format!("users.{user}"),
            format!("user `{user}` has no MyProxy server: say `server` here or in [credentials]"),
        ))
    }

    /// Texts that other programs are told, with their settings.
    fn spoken(&self) -> Vec<(String, &str)> {
        let of_all = [("server".into(), self.server.as_ref()), ("server_dn".into(), self.server_dn.as_ref())];
        let of_users = self.users.iter().flat_map(|(name, user)| {
            let key = |key: &str| format!("users.{name}.{key}");
            [
                (format!("users.{name}"), Some(name)),
                (key("server"), user.server.as_ref()),
                (key("server_dn"), user.server_dn.as_ref()),
                (key("account"), user.account.as_ref()),
                (key("credential_name"), user.credential_name.as_ref()),
            ]
        });
        let said = of_all.into_iter().chain(of_users);
        said.filter_map(|(key, text)| Some((key, text?.as_str()))).collect()
    }

    pub(super) fn refresher_interval_s(&self, which: ProxyUse) -> Option<NonZeroU64> {
        match which {
            ProxyUse::JobProxy => self.job_proxy_refresher_interval_s,
            ProxyUse::VmProxy => self.vm_proxy_refresher_interval_s,
        }
    }

    pub(super) fn renewal_threshold_s(&self, which: ProxyUse) -> u64 {
        match which {
            ProxyUse::JobProxy => self.job_proxy_renewal_threshold_s,
            ProxyUse::VmProxy => self.vm_proxy_renewal_threshold_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_and_names_of_programs_are_not() {
        let text =
            r#"{"trusted_ca_dir": "ca", "client_cert": "/c", "users": {"ada": {"passphrase_file": "p"}}}"#;
        let mut config: CredentialsConfig = serde_json::from_str(text).unwrap();
        config.relative_to(Path::new("/etc/pileus"));
        assert_eq!(config.myproxy_logon, Path::new("myproxy-logon"));
        assert_eq!(config.directory, None);
        assert_eq!(config.trusted_ca_dir.as_deref(), Some(Path::new("/etc/pileus/ca")));
        assert_eq!(config.client_cert.as_deref(), Some(Path::new("/c")));
        assert_eq!(config.users["ada"].passphrase_file.as_deref(), Some(Path::new("/etc/pileus/p")));
        config.myproxy_logon = "bin/logon".into();
        config.relative_to(Path::new("/etc/pileus"));
        assert_eq!(config.myproxy_logon, Path::new("/etc/pileus/bin/logon"));
    }

    #[test]
    fn what_makes_no_sense_together_is_found() {
        for (text, wanted) in [
            ("{}", None),
            (r#"{"server": "a", "users": {"ada": {}}}"#, None),
            (r#"{"users": {"ada": {"server": "a"}}}"#, None),
            (r#"{"users": {"ada": {"server": "a"}, "bob": {}}}"#, Some("users.bob")),
            (r#"{"client_cert": "c"}"#, Some("client_cert")),
            (r#"{"client_key": "c"}"#, Some("client_key")),
            (r#"{"myproxy_logon": ""}"#, Some("myproxy_logon")),
            (r#"{"server": "a\nb"}"#, Some("server")),
            (r#"{"server": "a", "users": {"ada": {"subject": "/O=x/CN=Ada"}}}"#, None),
            (r#"{"server": "a", "users": {"ada": {"subject": "CN=Ada,O=x"}}}"#, Some("users.ada.subject")),
            (r#"{"server": "a", "server_dn": "/CN=a\u0085"}"#, Some("server_dn")),
            (r#"{"server": "a", "users": {"ada\n": {}}}"#, Some("users.ada\n")),
            (
                r#"{"server": "a", "users": {"ada": {"account": "x\nCRED_NAME=y"}}}"#,
                Some("users.ada.account"),
            ),
            (
                r#"{"server": "a", "users": {"ada": {"credential_name": "\u001b"}}}"#,
                Some("users.ada.credential_name"),
            ),
        ] {
            let config: CredentialsConfig = serde_json::from_str(text).unwrap();
            assert_eq!(config.problem().map(|(key, _)| key).as_deref(), wanted, "{text}");
        }
    }
}
