//! `pileus token create`, `list`, `revoke`: over HTTP with an administrator's token, or on the state folder
//! while no server owns it.

use std::{io::Write, sync::Arc};

use bytes::Bytes;
use http::{Method, Uri};
use jiff::{Span, SpanRelativeTo, Timestamp};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pileus_engine::{OpenError, Running, StartError, SystemClock};
use pileus_model::{Actor, Clock, Command, Engine, Refusal, Time};
use serde_json::{Value, json};

use super::{
    CONFIG, FAILED, OK, SOFTWARE, UNAVAILABLE, USAGE,
    api_server::{self, Failure},
    explain::{exchange, fail},
    listing::columns,
};
use crate::{
    cli::{CreateToken, TokenAccess, TokenCommand},
    client::Target,
    identity::{self, TOKEN_COMMAND},
    logging::visible,
    tokens::document,
};

/// Runs the command.
pub fn run(command: &TokenCommand) -> u8 {
    let done = match command {
        TokenCommand::Create(asked) if asked.admin => admin(asked),
        TokenCommand::Create(asked) => create(asked),
        TokenCommand::List { access } => list(access),
        TokenCommand::Revoke { name, access } => revoke(name, access),
    };
    match done {
        Ok(text) => {
            // A closed pipe means that the reader has seen enough.
            std::io::stdout().lock().write_all(text.as_bytes()).ok();
            OK
        }
        Err((code, text)) => fail(code, &text),
    }
}

/// Place where tokens are changed.
enum Tokens {
    Server(Api),
    Folder(Folder),
}

impl Tokens {
    fn open(access: &TokenAccess) -> Result<Self, Failure> {
        let state = access.options.state();
        let store = store(access)?;
        let asks = access.url.is_some() || access.token_file.is_some();
        if !asks && state.join("pileus.db").exists() {
            match Folder::open(access, store) {
                Ok(folder) => return Ok(Self::Folder(folder)),
                Err(StartError::Store(OpenError::InUse { .. })) => {}
                Err(error) => return Err((UNAVAILABLE, error.to_string())),
            }
        }
        let (target, secret) =
            api_server::find(&access.options, access.url.as_deref(), access.token_file.as_deref())?;
        let project = utf8_percent_encode(&access.own_project, NON_ALPHANUMERIC);
        Ok(Self::Server(Api { target, secret, tokens: format!("/{project}/tokens") }))
    }
}

/// A server that runs.
struct Api {
    target: Target,
    secret: String,
    /// Path of the collection, below the API's mount.
    tokens: String,
}

impl Api {
    fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Value, Failure> {
        exchange(&self.target, method, path, &self.secret, body)
    }

    /// All pages.
    fn list(&self) -> Result<Vec<Value>, Failure> {
        let (mut all, mut path) = (Vec::new(), self.tokens.clone());
        loop {
            let mut page = self.send(Method::GET, &path, Bytes::new())?;
            let Some(Value::Array(tokens)) = page.get_mut("tokens").map(Value::take) else {
                return Err((FAILED, "the answer has no `tokens`".into()));
            };
            let is_last = tokens.is_empty();
            all.extend(tokens);
            let links = page["tokens_links"].as_array().into_iter().flatten();
            let next = links.filter(|link| link["rel"] == "next").find_map(|link| link["href"].as_str());
            let query = next.and_then(|next| next.parse::<Uri>().ok()?.query().map(str::to_owned));
            match query.filter(|_| !is_last) {
                Some(query) => path = format!("{}?{query}", self.tokens),
                None => return Ok(all),
            }
        }
    }
}

/// A state folder that no server owns, opened without its engine.
struct Folder {
    runtime: tokio::runtime::Runtime,
    running: Running,
}

impl Folder {
    fn open(access: &TokenAccess, store: String) -> Result<Self, StartError> {
        let state = access.options.state().to_path_buf();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime =
            runtime.map_err(|cause| StartError::Store(OpenError::Unusable { dir: state.clone(), cause }))?;
        let running = runtime.block_on(pileus_engine::open(state, store, clock()))?;
        Ok(Self { runtime, running })
    }

    /// Runs one change, and lets go of the folder.
    fn close_after<T>(
        self,
        change: impl AsyncFnOnce(Arc<dyn Engine>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let Self { runtime, running } = self;
        runtime.block_on(async {
            let outcome = change(running.engine()).await;
            running.stop_with(true).await;
            outcome
        })
    }
}

fn store(access: &TokenAccess) -> Result<String, Failure> {
    crate::store_of(&access.options).map_err(|report| (CONFIG, report.render(false)))
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn refused(refusal: Refusal) -> Failure {
    let code = if matches!(refusal, Refusal::Full | Refusal::Unavailable) { UNAVAILABLE } else { FAILED };
    (code, refusal.to_string())
}

fn actor() -> Actor {
    Actor { user: TOKEN_COMMAND.into(), ..Actor::default() }
}

fn create(asked: &CreateToken) -> Result<String, Failure> {
    let name = asked.name.as_deref().unwrap_or_default();
    let user = asked.user.as_deref().unwrap_or(name);
    let roles = if asked.roles.is_empty() { vec!["member".to_owned()] } else { asked.roles.clone() };
    let expires = expires(asked)?;
    let made = match Tokens::open(&asked.access)? {
        Tokens::Server(api) => {
            let expires_at = expires.map(shown);
            let body = json!({ "token": {
                "name": name, "user": user, "project": asked.project, "roles": roles, "expires_at": expires_at,
            }});
            let mut made = api.send(Method::POST, &api.tokens, body.to_string().into())?;
            made["token"].take()
        }
        Tokens::Folder(folder) => {
            let secret = identity::new_secret().map_err(|error| (SOFTWARE, error.to_string()))?;
            let sha256 = identity::hash(&secret);
            let command = Command::CreateToken {
                sha256: sha256.as_str().into(),
                name: name.into(),
                user: user.into(),
                project: asked.project.as_str().into(),
                roles,
                expires,
                replaces: false,
            };
            let made = folder.close_after(async |engine| {
                let receipt = engine.submit(command, actor()).await.map_err(refused)?;
                Ok(receipt.view.tokens.get(sha256.as_str()).map(|token| document(token)))
            })?;
            let mut made = made.ok_or_else(|| (SOFTWARE, "the token is not in the view".to_owned()))?;
            made["secret"] = secret.into();
            made
        }
    };
    if asked.access.json {
        return Ok(format!("{:#}\n", json!({ "token": made })));
    }
    super::tell(format_args!("{}", visible(&described(&made))));
    let secret = made["secret"].as_str();
    let secret = secret.ok_or_else(|| (FAILED, "the answer has no `secret`".to_owned()))?;
    Ok(format!("{secret}\n"))
}

/// For people: the token in one line.
fn described(token: &Value) -> String {
    let text = |key: &str| token[key].as_str().unwrap_or_default();
    let end = token["expires_at"].as_str().map_or("until it is revoked".into(), |end| format!("until {end}"));
    let (name, user, project) = (text("name"), text("user"), text("project"));
    format!("token `{name}` of user `{user}` in project `{project}`, roles {}, {end}", roles(token))
}

fn roles(token: &Value) -> String {
    let roles = token["roles"].as_array().into_iter().flatten().filter_map(Value::as_str);
    roles.collect::<Vec<_>>().join(", ")
}

fn admin(asked: &CreateToken) -> Result<String, Failure> {
    let state = asked.access.options.state();
    let expires = expires(asked)?;
    if !state.join("pileus.db").exists() {
        let help = "name the state folder of the server with --state; the first start makes the administrator's token";
        return Err((UNAVAILABLE, format!("there is no state in {}\nhelp: {help}", state.display())));
    }
    let folder = Folder::open(&asked.access, store(&asked.access)?).map_err(|error| match error {
        StartError::Store(OpenError::InUse { .. }) => {
            let help = "stop the server, or create a token with another administrator's: `pileus token create NAME --role admin`";
            (UNAVAILABLE, format!("a server holds the state folder {}\nhelp: {help}", state.display()))
        }
        error => (UNAVAILABLE, error.to_string()),
    })?;
    let (file, made) = folder.close_after(async |engine| {
        let file = identity::replace_admin(&*engine, state, expires).await;
        let file = file.map_err(|error| (UNAVAILABLE, error.to_string()))?;
        let view = engine.view();
        let made = view.tokens.values().find(|token| &*token.name == identity::ADMIN);
        Ok((file, made.map(|token| document(token)).unwrap_or_default()))
    })?;
    if asked.access.json {
        return Ok(format!("{:#}\n", json!({ "token": made, "file": file })));
    }
    super::tell(format_args!("{}", visible(&described(&made))));
    Ok(format!("{}\n", file.display()))
}

fn list(access: &TokenAccess) -> Result<String, Failure> {
    let mut tokens = match Tokens::open(access)? {
        Tokens::Server(api) => api.list()?,
        Tokens::Folder(folder) => folder.close_after(async |engine| {
            let view = engine.view();
            Ok(view.tokens.values().map(|token| document(token)).collect())
        })?,
    };
    tokens.sort_by(|a: &Value, b| a["name"].as_str().cmp(&b["name"].as_str()));
    if access.json {
        return Ok(format!("{:#}\n", json!({ "tokens": tokens })));
    }
    let now = shown(clock().now());
    let mut table = columns(&["NAME", "USER", "PROJECT", "ROLES", "CREATED", "EXPIRES"]);
    for token in &tokens {
        let text = |key: &str| visible(token[key].as_str().unwrap_or("-"));
        let is_over = is_over(&text("expires_at"), &now);
        let end = if is_over { format!("{} (expired)", text("expires_at")) } else { text("expires_at") };
        table.add_row([
            text("name"),
            text("user"),
            text("project"),
            visible(&roles(token)),
            text("created"),
            end,
        ]);
    }
    Ok(format!("{}\n", table.trim_fmt()))
}

fn is_over(end: &str, now: &str) -> bool {
    let parsed = |text: &str| text.parse::<Timestamp>().ok();
    parsed(end).zip(parsed(now)).is_some_and(|(end, now)| end <= now)
}

fn revoke(name: &str, access: &TokenAccess) -> Result<String, Failure> {
    match Tokens::open(access)? {
        Tokens::Server(api) => {
            let path = format!("{}/{}", api.tokens, utf8_percent_encode(name, NON_ALPHANUMERIC));
            api.send(Method::DELETE, &path, Bytes::new())?;
        }
        Tokens::Folder(folder) => folder.close_after(async |engine| {
            let command = Command::RevokeToken { name: name.into() };
            engine.submit(command, actor()).await.map(drop).map_err(refused)
        })?,
    }
    Ok(if access.json { format!("{:#}\n", json!({ "revoked": name })) } else { String::new() })
}

fn expires(asked: &CreateToken) -> Result<Option<Time>, Failure> {
    let end = asked.expires.as_deref().map(|text| moment(text, clock().now()));
    end.transpose().map_err(|problem| (USAGE, format!("--expires: {problem}")))
}

/// Parses a duration from now on, or an RFC 3339 time.
fn moment(text: &str, now: Time) -> Result<Time, String> {
    let wrong =
        || format!("`{text}` is neither a duration (30d, 12h, 1h30m) nor a time (2027-01-31T12:00:00Z)");
    let end = match text.parse::<Timestamp>() {
        Ok(end) => Time(end.as_millisecond()),
        Err(_) => {
            let span: Span = text.parse().map_err(|_| wrong())?;
            let lasts = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
            let millis = i64::try_from(lasts.as_millis()).map_err(|_| wrong())?;
            Time(now.0.checked_add(millis).ok_or_else(wrong)?)
        }
    };
    if end <= now {
        return Err(format!("`{text}` lies in the past"));
    }
    // The largest year that RFC 3339 can write.
    Timestamp::from_millisecond(end.0).map_err(|_| wrong())?;
    Ok(end)
}

fn shown(at: Time) -> String {
    Timestamp::from_millisecond(at.0).map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_durations_or_times() {
        const NOW: Time = Time(1_769_860_800_000); // 2026-01-31T12:00:00Z
        let cases = [
            ("30d", Some("2026-03-02T12:00:00Z")),
            ("2w", Some("2026-02-14T12:00:00Z")),
            ("12h", Some("2026-02-01T00:00:00Z")),
            ("1h30m", Some("2026-01-31T13:30:00Z")),
            ("90 minutes", Some("2026-01-31T13:30:00Z")),
            ("45s", Some("2026-01-31T12:00:45Z")),
            ("P1DT1H", Some("2026-02-01T13:00:00Z")),
            ("2027-01-31T12:00:00Z", Some("2027-01-31T12:00:00Z")),
            ("2027-01-31T12:00:00+02:00", Some("2027-01-31T10:00:00Z")),
            ("2026-01-31T12:00:00Z", None),
            ("2025-01-31T12:00:00Z", None),
            ("2027-01-31", None),
            ("1mo", None),
            ("1y", None),
            ("0s", None),
            ("-1d", None),
            ("30", None),
            ("soon", None),
            ("", None),
            ("99999999999d", None),
        ];
        for (text, expected) in cases {
            let found = moment(text, NOW);
            assert_eq!(found.as_ref().ok().map(|end| shown(*end)).as_deref(), expected, "{text}: {found:?}");
        }
    }
}
