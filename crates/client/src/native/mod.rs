//! `/v2/{project_id}`: the same options in Pileus's own API, with tables, JSON and real exit codes.
//!
//! What has no counterpart there says so; nothing is made up from something else.

pub mod admin;
pub mod queues;
pub mod render;
pub mod status;

use std::fmt;

use http::Method;
use serde_json::{Value, json};

use crate::{
    http::{Answer, Call, Failure, JSON, Server, form, quote},
    outcome::{End, Outcome},
};

/// Most pages of one list: a server that never comes to an end is no server.
const MAX_PAGES: usize = 10_000;
/// Most characters of an answer that an error repeats.
const MAX_TOLD: usize = 200;

/// The API of one project.
#[derive(Debug)]
pub struct Api<'a> {
    /// Who is asked.
    pub server: &'a Server,
    /// The project.
    pub project: &'a str,
    /// Ask for what every project has.
    pub all_projects: bool,
}

/// What is shown: to people, or to programs.
#[derive(Debug, Default)]
pub struct Shown {
    /// For people.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// A part of it was refused.
    pub refused: bool,
}

/// Why nothing is shown.
#[derive(Debug)]
pub enum Trouble {
    /// No answer.
    Failed(Failure),
    /// The server refused.
    Refused {
        /// The status.
        status: u16,
        /// The fault's name, where it is one.
        name: String,
        /// What it says.
        message: String,
        /// To be quoted in a report.
        request_id: Option<String>,
        /// The body, where it is JSON.
        fault: Option<Value>,
    },
    /// An answer that this program does not understand.
    Garbled(String),
    /// Options are lacking, or make no sense here.
    Incomplete(String),
    /// The old ports have it, this API does not.
    NotOffered(&'static str),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(Failure::Unreachable(why)) => write!(f, "couldn't connect: {why}"),
            Self::Failed(Failure::Unexpected(class, why)) => write!(f, "{class}: {why}"),
            Self::Refused { status, name, message, request_id, .. } => {
                write!(f, "{}", if name.is_empty() { "refused" } else { name })?;
                write!(f, " ({status}): {}", render::clean(message))?;
                if let Some(id) = request_id {
                    write!(f, " [{}]", render::clean(id))?;
                }
                if *status == 401 {
                    write!(f, "\nA token is given with --token-file, --token, or $PILEUS_TOKEN.")?;
                }
                Ok(())
            }
            Self::Garbled(what) => write!(f, "the answer makes no sense: {}", render::clean(what)),
            Self::Incomplete(what) => f.write_str(what),
            Self::NotOffered(what) => {
                write!(f, "{what}: /v2 has no counterpart; the old ports (without --project) may have it")
            }
        }
    }
}

impl Trouble {
    fn end(&self) -> End {
        match self {
            Self::Failed(_) | Self::Garbled(_) => End::NoAnswer,
            Self::Refused { .. } => End::Refused,
            Self::Incomplete(_) => End::Incomplete,
            Self::NotOffered(_) => End::NotOffered,
        }
    }
}

/// Makes an outcome of what is shown, or of why nothing is.
pub fn outcome(program: &str, server: &Server, json: bool, result: Result<Shown, Trouble>) -> Outcome {
    let mut outcome = Outcome::default();
    match result {
        Ok(shown) => {
            if json {
                outcome.say(&format!("{:#}", shown.json));
            } else if !shown.text.is_empty() {
                outcome.say(shown.text.trim_end_matches('\n'));
            }
            if shown.refused {
                outcome.ends(End::Refused);
            }
        }
        Err(trouble) => {
            outcome.ends(trouble.end());
            let at = match trouble {
                Trouble::Failed(_) | Trouble::Garbled(_) => format!("{}:{}: ", server.host, server.port),
                _ => String::new(),
            };
            outcome.complain(&format!("{program}: {at}{trouble}"));
            if json {
                let fault = match trouble {
                    Trouble::Refused { fault: Some(fault), .. } => fault,
                    trouble => json!({ "error": trouble.to_string() }),
                };
                outcome.say(&format!("{fault:#}"));
            }
        }
    }
    outcome
}

impl Api<'_> {
    /// One document.
    pub async fn get(&self, path: &[&str]) -> Result<Value, Trouble> {
        self.call(Method::GET, path, &[], None).await
    }

    /// One member: what stands below the document's one key.
    pub async fn member(&self, path: &[&str], key: &str) -> Result<Value, Trouble> {
        let mut document = self.get(path).await?;
        document.get_mut(key).map(Value::take).ok_or_else(|| Trouble::Garbled(format!("it has no `{key}`")))
    }

    /// A whole list, however many pages it has.
    pub async fn list(
        &self,
        path: &[&str],
        key: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<Value>, Trouble> {
        let mut all: Vec<Value> = Vec::new();
        let links = format!("{key}_links");
        let mut marker: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut query = query.to_vec();
            query.extend(marker.as_deref().map(|marker| ("marker", marker)));
            let mut document = self.call(Method::GET, path, &query, None).await?;
            let Some(Value::Array(mut page)) = document.get_mut(key).map(Value::take) else {
                return Err(Trouble::Garbled(format!("it has no list `{key}`")));
            };
            let last = page.last().and_then(|last| last["id"].as_str()).map(str::to_owned);
            all.append(&mut page);
            if document.get(&links).is_none() {
                return Ok(all);
            }
            if last.is_none() || last == marker {
                return Err(Trouble::Garbled(format!("`{links}` leads nowhere")));
            }
            marker = last;
        }
        Err(Trouble::Garbled(format!("`{key}` does not end")))
    }

    /// A verb; what it answers, which may be nothing.
    pub async fn act(&self, path: &[&str], verb: &str, body: Value) -> Result<Value, Trouble> {
        let path = [path, &["action"]].concat();
        self.call(Method::POST, &path, &[], Some(json!({ verb: body }))).await
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, Trouble> {
        let mut query = query.to_vec();
        if self.all_projects && of_projects(path) {
            query.push(("all_projects", "1"));
        }
        let mut target = format!("/v2/{}", quote(self.project));
        for part in path {
            target.push('/');
            target.push_str(&quote(part));
        }
        if !query.is_empty() {
            target.push('?');
            target.push_str(&form(&query));
        }
        let body = body.map(|body| (JSON, body.to_string()));
        read(self.server.send(&Call { method, target, body }).await?)
    }
}

/// `true` if a path leads to objects that belong to projects. Others refuse the parameter.
fn of_projects(path: &[&str]) -> bool {
    match path {
        ["vms" | "jobs" | "events", ..] | ["clouds", _, "vms"] | ["users"] => true,
        // The action without a user reads the limit file again.
        ["users", user, ..] => *user != "action" || path.len() > 2,
        _ => false,
    }
}

/// The document of an answer; null where it is empty.
pub fn read(answer: Answer) -> Result<Value, Trouble> {
    let document = serde_json::from_slice::<Value>(&answer.body);
    if answer.status >= 400 {
        let told = || String::from_utf8_lossy(&answer.body).trim().chars().take(MAX_TOLD).collect();
        let fault = document.ok().filter(Value::is_object);
        let first = fault.as_ref().and_then(Value::as_object).and_then(|faults| faults.iter().next());
        let (name, message) = first
            .and_then(|(name, fault)| Some((name.clone(), fault["message"].as_str()?.to_owned())))
            .unwrap_or_else(|| (String::new(), told()));
        let (status, request_id) = (answer.status, answer.request_id);
        return Err(Trouble::Refused { status, name, message, request_id, fault });
    }
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    document.map_err(|error| Trouble::Garbled(format!("{error} (status {})", answer.status)))
}
