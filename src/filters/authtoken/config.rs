//! The settings of `[filter.authtoken]`. Their names are keystonemiddleware's where they have a meaning.

use std::{fmt, num::NonZeroU32, path::PathBuf, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::{Value, json};

use super::{
    keystone::{Credentials, Password, Reach, Secret, Unread},
    wire::Address,
};
use crate::{
    client::{File, Files, Patience, Tls},
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::Watched,
};

/// What a section with `factory = "authtoken"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// One, or several that are one Keystone.
    #[serde(default)]
    auth_url: Urls,
    /// Who asks Keystone: a user with a password, of a project …
    username: Option<String>,
    password: Option<Secret>,
    password_file: Option<PathBuf>,
    user_domain_name: Option<String>,
    user_domain_id: Option<String>,
    project_name: Option<String>,
    project_domain_name: Option<String>,
    project_domain_id: Option<String>,
    /// … or what he made for this service.
    application_credential_id: Option<String>,
    application_credential_secret: Option<Secret>,
    /// How long an answer is kept, in seconds; 0: every request asks.
    #[serde(default = "default_cache_time")]
    token_cache_time: u32,
    /// How many answers are kept. One takes about two kilobytes.
    #[serde(default = "default_max_entries")]
    token_cache_max_entries: NonZeroU32,
    /// Ids of the projects whose role `admin` makes an administrator of this service. `None`: every project's, unless
    /// Keystone says that the project is not the administrators' (`is_admin_project`).
    admin_projects: Option<Vec<String>>,
    /// Let a request without a good token go on, as nobody's.
    #[serde(default)]
    delay_auth_decision: bool,
    /// Where a 401 says that tokens are made. Else the first of `auth_url`.
    www_authenticate_uri: Option<String>,
    /// A service with one of these roles may hand on a token that has expired.
    #[serde(default = "default_service_roles")]
    service_token_roles: Vec<String>,
    /// A service token without one of them is not good.
    #[serde(default = "yes")]
    service_token_roles_required: bool,
    /// Authorities that may have signed Keystone's certificate. Else those of the system.
    cafile: Option<PathBuf>,
    /// By what this service proves who it is already in TLS.
    certfile: Option<PathBuf>,
    keyfile: Option<PathBuf>,
    /// There to be refused: files of other services say it.
    #[serde(default)]
    insecure: bool,
    /// With the agreement on TLS.
    #[serde(default = "default_connect_timeout")]
    http_connect_timeout_s: NonZeroU32,
    #[serde(default = "default_request_timeout")]
    http_request_timeout_s: NonZeroU32,
}

fn default_cache_time() -> u32 {
    300
}

fn default_max_entries() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(9_999)
}

fn default_service_roles() -> Vec<String> {
    vec!["service".into()]
}

fn yes() -> bool {
    true
}

fn default_connect_timeout() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(4)
}

fn default_request_timeout() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(9)
}

/// One text, or a list of them.
#[derive(Debug, Default)]
struct Urls(Vec<String>);

impl<'de> Deserialize<'de> for Urls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Urls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL or a list of URLs")
            }

            fn visit_str<E>(self, text: &str) -> Result<Urls, E> {
                Ok(Urls(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Urls, A::Error> {
                let mut urls = Vec::new();
                while let Some(url) = list.next_element()? {
                    urls.push(url);
                }
                Ok(Urls(urls))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

/// The same, checked.
#[derive(Debug)]
pub struct Settings {
    pub reach: Reach,
    pub admin_projects: Option<Vec<String>>,
    pub cache_time: Duration,
    pub cache_max_entries: usize,
    pub delay_auth_decision: bool,
    pub www_authenticate_uri: String,
    pub service_token_roles: Vec<String>,
    pub service_token_roles_required: bool,
}

impl Settings {
    /// Reads the section; says everything that is wrong with it.
    pub fn read(section: &Section, watched: &Watched) -> Result<Self, Diagnostic> {
        let config: Config = section.parse()?;
        let mut problems = Vec::new();
        let addresses = addresses(section, &config.auth_url.0, &mut problems);
        let credentials = credentials(section, &config, &mut problems);
        let files = tls_files(section, &config);
        watched.note(files.paths());
        let password = config.password_file.as_ref().map(|path| section.beside("password_file", path));
        watched.note(password.as_deref());
        for (at, address) in addresses.iter().enumerate().filter(|(_, address)| address.is_open()) {
            let text = format!("tokens and the password go to {} without TLS", address.url);
            let warning = section
                .wrong(&format!("auth_url.{at}"), text)
                .help("name it by `https://`, and its authority by `cafile`");
            watched.warn(Diagnostic { warning: true, ..warning });
        }
        let secure = addresses.iter().any(Address::is_secure);
        let tls = tls(section, config.insecure, &files, secure, &mut problems);
        let uri = config.www_authenticate_uri.or_else(|| addresses.first().map(|it| it.url.clone()));
        let uri = uri.unwrap_or_default();
        if !uri.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
            problems.push(section.wrong("www_authenticate_uri", "`www_authenticate_uri` is no URL"));
        }
        if config.service_token_roles_required && config.service_token_roles.is_empty() {
            let text = "`service_token_roles` is empty: no service token would be good";
            problems.push(section.wrong("service_token_roles", text));
        }
        let first = problems.into_iter().reduce(Diagnostic::and);
        let credentials = match (first, credentials) {
            (None, Some(credentials)) => credentials,
            (Some(problem), _) => return Err(problem),
            (None, None) => return Err(section.wrong("username", "there are no credentials")),
        };
        let seconds = |it: NonZeroU32| Duration::from_secs(it.get().into());
        let patience = Patience {
            connect: seconds(config.http_connect_timeout_s),
            request: seconds(config.http_request_timeout_s),
        };
        Ok(Self {
            reach: Reach { addresses, credentials, tls, patience },
            admin_projects: config.admin_projects,
            cache_time: Duration::from_secs(config.token_cache_time.into()),
            cache_max_entries: config.token_cache_max_entries.get() as usize,
            delay_auth_decision: config.delay_auth_decision,
            www_authenticate_uri: uri,
            service_token_roles: config.service_token_roles,
            service_token_roles_required: config.service_token_roles_required,
        })
    }
}

fn addresses(section: &Section, urls: &[String], problems: &mut Vec<Diagnostic>) -> Vec<Address> {
    if let Some(why) = section.gaps.get("auth_url") {
        problems.push(why.clone());
    } else if urls.is_empty() {
        let wrong = section.wrong("auth_url", "`auth_url` is missing: where Keystone is");
        problems.push(wrong.help("say `auth_url = \"https://HOST:5000/v3\"`, or a list of them"));
    }
    let mut addresses = Vec::new();
    for (at, url) in urls.iter().enumerate() {
        match Address::read(url) {
            Ok(address) => addresses.push(address),
            Err(why) => {
                let text = format!("the address of Keystone {why}");
                problems.push(section.wrong(&format!("auth_url.{at}"), text));
            }
        }
    }
    addresses
}

fn tls_files(section: &Section, config: &Config) -> Files {
    let file = |setting, path: &Option<PathBuf>| File {
        setting,
        path: path.as_ref().map(|path| section.beside(setting, path)),
    };
    Files {
        ca: file("cafile", &config.cafile),
        certificate: file("certfile", &config.certfile),
        key: file("keyfile", &config.keyfile),
    }
}

/// How TLS is spoken, if it is to be. Files that are named are read in any case.
fn tls(
    section: &Section,
    insecure: bool,
    files: &Files,
    wanted: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<Tls> {
    if insecure {
        let wrong = section.wrong("insecure", "the certificate of Keystone is always verified");
        problems.push(wrong.help("name the authority that signed it: `cafile = \"${here}/ca.pem\"`"));
        return None;
    }
    if !wanted && files.paths().next().is_none() {
        return None;
    }
    Tls::read(files).map_err(|error| problems.push(error.at(section, None))).ok()
}

fn credentials(section: &Section, config: &Config, problems: &mut Vec<Diagnostic>) -> Option<Credentials> {
    const HELP: &str = "say `username`, `password` (or `password_file`) and `project_name`; or `application_credential_id` and `application_credential_secret`";
    let mut missing = |key: &str| {
        // It is there, and something else is wrong with it.
        if let Some(why) = section.gaps.get(key) {
            return problems.push(why.clone());
        }
        let wrong = section
            .wrong(key, format!("`{key}` is missing: with it this service asks Keystone about tokens"));
        problems.push(wrong.help(HELP));
    };
    let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let secret = |secret: &Option<Secret>| secret.clone().filter(|it| !it.0.is_empty());
    let (name, id) = (filled(&config.username), filled(&config.application_credential_id));
    if let Some(id) = id {
        let found = secret(&config.application_credential_secret);
        if found.is_none() {
            missing("application_credential_secret");
        }
        if name.is_some() {
            let text = "`username` and `application_credential_id` exclude each other";
            problems.push(section.wrong("username", text).help(HELP));
        }
        return Some(Credentials::ApplicationCredential { id, secret: found? });
    }
    if name.is_none() {
        missing("username");
    }
    let project = filled(&config.project_name);
    if project.is_none() {
        missing("project_name");
    }
    let password = match (secret(&config.password), &config.password_file) {
        (Some(_), Some(_)) => {
            let text = "`password` and `password_file` exclude each other";
            problems.push(section.wrong("password_file", text));
            None
        }
        (Some(password), None) => Some(Password::Said(password)),
        (None, Some(path)) => {
            let path = section.beside("password_file", path);
            let password = Password::File(path.clone());
            if let Err(Unread { why, help }) = password.read() {
                let wrong = section.wrong("password_file", format!("`password_file`: {why}")).about(&path);
                problems.push(help.into_iter().fold(wrong, Diagnostic::help));
            }
            Some(password)
        }
        (None, None) => {
            missing("password");
            None
        }
    };
    let mut domain = |whose: &str, id: &Option<String>, name: &Option<String>| -> Value {
        match (filled(id), filled(name)) {
            (Some(_), Some(_)) => {
                let (id, name) = (format!("{whose}_domain_id"), format!("{whose}_domain_name"));
                problems.push(section.wrong(&id, format!("`{id}` and `{name}` exclude each other")));
                Value::Null
            }
            (Some(id), None) => json!({ "id": id }),
            (None, name) => json!({ "name": name.unwrap_or_else(|| "Default".into()) }),
        }
    };
    let of_user = domain("user", &config.user_domain_id, &config.user_domain_name);
    let of_project = domain("project", &config.project_domain_id, &config.project_domain_name);
    Some(Credentials::User {
        name: name?,
        domain: of_user,
        password: password?,
        project: project?,
        project_domain: of_project,
    })
}
