//! What Keystone says of a token, and the caller that it makes.

use std::sync::Arc;

use jiff::Timestamp;
use pileus_model::{Actor, Name, Time};
use pileus_sdk::Caller;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A token that Keystone calls good.
#[derive(Debug)]
pub struct Token {
    /// Whose it is.
    pub caller: Arc<Caller>,
    /// When it ends.
    pub expires: Time,
    /// It had ended when Keystone was asked, which was told to call it good all the same.
    pub is_overdue: bool,
}

#[derive(Deserialize)]
struct Answer {
    token: Document,
}

/// As much of a token's document as matters here.
#[derive(Deserialize)]
struct Document {
    expires_at: String,
    user: Owned,
    project: Option<Owned>,
    domain: Option<Named>,
    system: Option<System>,
    #[serde(default)]
    roles: Vec<Role>,
    is_admin_project: Option<bool>,
    application_credential: Option<ApplicationCredential>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

#[derive(Deserialize)]
struct Owned {
    id: String,
    domain: Option<Named>,
}

#[derive(Deserialize)]
struct System {
    #[serde(default)]
    all: bool,
}

#[derive(Deserialize)]
struct Role {
    name: String,
}

#[derive(Deserialize)]
struct ApplicationCredential {
    id: String,
    restricted: Option<bool>,
    access_rules: Option<Value>,
}

/// When a token of ours ends.
pub fn expiry(answer: &[u8]) -> Result<Time, String> {
    #[derive(Deserialize)]
    struct Own {
        token: Expiry,
    }
    #[derive(Deserialize)]
    struct Expiry {
        expires_at: String,
    }
    let own: Own = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    time(&own.token.expires_at)
}

fn time(text: &str) -> Result<Time, String> {
    let time = text.parse::<Timestamp>().map_err(|_| "`expires_at` is no time".to_owned())?;
    Ok(Time(time.as_millisecond()))
}

impl Token {
    /// Reads an answer of `GET /v3/auth/tokens`; `None`: the token is not good. What cannot be read is an
    /// error: nobody gets in by it, and nobody is refused by it.
    ///
    /// `admin_projects`: the projects whose role `admin` makes an administrator; `None`: as Keystone says.
    pub fn read(
        answer: &[u8],
        now: Time,
        allow_expired: bool,
        admin_projects: Option<&[String]>,
    ) -> Result<Option<Self>, String> {
        let Answer { token: it } = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
        let expires = time(&it.expires_at)?;
        let is_overdue = expires <= now;
        if is_overdue && !allow_expired {
            return Ok(None);
        }
        let ids =
            [Some(&it.user.id), it.project.as_ref().map(|it| &it.id), it.domain.as_ref().map(|it| &it.id)];
        if ids.into_iter().flatten().any(String::is_empty) {
            return Err("an id is empty".into());
        }
        if Actor::is_reserved(&it.user.id) {
            // Events would show what such a user does as done by the server itself.
            return Ok(None);
        }
        // Keystone gives no such token to who does not say that he enforces them.
        let rules = it.application_credential.as_ref().and_then(|it| it.access_rules.as_ref());
        if rules.is_some_and(|rules| !rules.is_null()) {
            return Ok(None);
        }
        Ok(Some(Self { caller: Arc::new(it.caller(admin_projects)), expires, is_overdue }))
    }

    /// The caller of a request that a service hands on.
    pub fn through(&self, service: &Self) -> Caller {
        let mut caller = Caller::clone(&self.caller);
        if let (Value::Object(creds), Value::Object(of)) = (&mut caller.creds, &service.caller.creds) {
            let names = ["user_id", "user_domain_id", "project_id", "project_domain_id", "roles"];
            let taken =
                names.iter().filter_map(|name| Some((format!("service_{name}"), of.get(*name)?.clone())));
            creds.extend(taken);
        }
        caller
    }
}

impl Document {
    /// `true` if the deployer lets administrators of the token's project be administrators of this service. The
    /// system's always are.
    fn is_named(&self, admin_projects: Option<&[String]>) -> bool {
        let Some(named) = admin_projects else { return true };
        let of_system = self.system.as_ref().is_some_and(|it| it.all);
        of_system || self.project.as_ref().is_some_and(|it| named.contains(&it.id))
    }

    /// The names of the credentials are those that `oslo.context` gives to `oslo.policy`. What a token has
    /// not, say a project, is not there: no rule finds it.
    fn caller(self, admin_projects: Option<&[String]>) -> Caller {
        // Keystone says it where an administrator's project is configured. Where none is, none is asked for.
        let is_admin_project = self.is_admin_project.unwrap_or(true) && self.is_named(admin_projects);
        let roles: Vec<String> = self.roles.into_iter().map(|role| role.name).collect();
        let is_admin = is_admin_project && roles.iter().any(|role| role == "admin");
        let mut creds = Map::new();
        let mut say = |name: &str, value: Option<Value>| {
            value.map(|value| creds.insert(name.to_owned(), value));
        };
        let domain = |it: &Owned| it.domain.as_ref().map(|it| it.id.as_str().into());
        say("user_domain_id", domain(&self.user));
        say("project_domain_id", self.project.as_ref().and_then(domain));
        say("domain_id", self.domain.map(|it| it.id.into()));
        say("system_scope", self.system.filter(|it| it.all).map(|_| "all".into()));
        say("is_admin_project", Some(is_admin_project.into()));
        let credential = self.application_credential.as_ref();
        say("application_credential_id", credential.map(|it| it.id.as_str().into()));
        say("application_credential_restricted", credential.and_then(|it| it.restricted).map(Value::from));
        let project = self.project.map(|it| it.id);
        let of_project: Name = project.as_deref().unwrap_or_default().into();
        let mut caller = Caller::new(self.user.id.as_str().into(), of_project, roles, is_admin);
        if let Value::Object(all) = &mut caller.creds {
            if project.is_none() {
                all.remove("project_id");
            }
            all.extend(creds);
        }
        caller
    }
}
