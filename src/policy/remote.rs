//! `http:` and `https:` checks: another server says whether the caller may.
//!
//! As in oslo.policy: a POST of the enforced rule, the target and the credentials, each as JSON, in a form
//! or in one JSON object; the answer `True` allows, anything else does not. We differ where it is
//! dangerous: the status has to be 200 (there a refusal with `True` in its body allows); what a client
//! sends cannot leave its place in the URL, since every value put in is percent-encoded, and none may
//! stand in the name of the host; and a server that is late, away or says too much is an error, which denies even
//! below a `not`. The certificate of an `https:` server is always verified (there it is not, unless one asks
//! for it).
//!
//! The evaluator stays what it is, synchronous and pure: it is run with the answers that are there, ends
//! at the first question that has none, and is run again. Source: oslo.policy, `_external.py`; reference §6.6.

use std::{path::Path, time::Duration};

use http::{Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::{
    Decision, Field, Policy, RuleId, Target,
    check::Test,
    eval::{Eval, Watch},
    format::Format,
};
use crate::{
    client::{self, Endpoint, Tls},
    diagnostic::Diagnostic,
    paste::Section,
};

/// Most bytes of an answer; `True` has four.
const ANSWER_MAX: usize = 1024;

/// Most questions of one decision.
const QUESTIONS_MAX: usize = 16;

/// What stays as it is in a part of a path or of a query (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How a question is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ContentType {
    /// Three fields, each JSON: what oslo.policy sends unless it is told otherwise.
    #[default]
    #[serde(rename = "application/x-www-form-urlencoded")]
    Form,
    /// One object.
    #[serde(rename = "application/json")]
    Json,
}

/// Where a check asks.
#[derive(Debug, PartialEq)]
pub(super) struct Url {
    endpoint: Endpoint,
    /// `/may/%(project_id)s`, and the query.
    path: Format,
}

impl Url {
    /// Understands what stands behind `http:` or `https:`. `Err`: why not.
    pub(super) fn parse(scheme: &str, right: &str) -> Result<Self, String> {
        let wrong = || format!("a policy server is named as in `{scheme}://127.0.0.1:8000/path`");
        let rest = right.strip_prefix("//").ok_or_else(wrong)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("no user and no password may stand in the URL of a policy server".into());
        }
        if authority.contains('%') {
            return Err("the name of a policy server is fixed: a `%` may stand in its path alone".into());
        }
        if path.contains('#') {
            return Err("a `#` means nothing in the URL of a policy server".into());
        }
        let endpoint = Endpoint::new(scheme, authority).ok_or_else(wrong)?;
        let path = match Format::parse(&format!("{}{path}", if path.starts_with('/') { "" } else { "/" })) {
            Format::Bad(why) => return Err(why.into()),
            path => path,
        };
        Ok(Self { endpoint, path })
    }

    /// Whether the question leaves this host for anybody on its way to read.
    pub(super) fn is_exposed(&self) -> bool {
        self.endpoint.is_remote() && !self.endpoint.is_secure()
    }

    /// Whether TLS is spoken.
    pub(super) fn is_secure(&self) -> bool {
        self.endpoint.is_secure()
    }

    /// The keys that its path takes from the target.
    pub(super) fn path(&self) -> &Format {
        &self.path
    }

    /// The path for this target.
    pub(super) fn fill(&self, target: &dyn Target) -> Result<Question<'_>, String> {
        let encoded = Encoded(target);
        let path = self.path.fill(&encoded)?;
        let path = path.ok_or_else(|| format!("the target lacks what the URL of {self} needs"))?;
        Ok(Question { url: self, path: path.into_owned() })
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.endpoint.fmt(f)
    }
}

/// A target whose values stay where they are put.
struct Encoded<'a>(&'a dyn Target);

impl Target for Encoded<'_> {
    fn get(&self, key: &str) -> Option<Field<'_>> {
        Some(match self.0.get(key)? {
            number @ Field::Json(Value::Number(_)) => number,
            other => Field::Text(utf8_percent_encode(&other.into_text(), ENCODED).to_string().into()),
        })
    }
}

/// What is asked, and whom.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question<'a> {
    url: &'a Url,
    path: String,
}

impl std::fmt::Display for Question<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.url, self.path)
    }
}

/// The answers that are there, and the first question that has none.
#[derive(Default)]
struct Answers<'a> {
    known: Vec<(Question<'a>, bool)>,
    wanted: Option<Question<'a>>,
}

impl<'a> Watch<'a> for &mut Answers<'a> {
    fn answer(&mut self, question: Question<'a>) -> Option<bool> {
        let known = self.known.iter().find(|(known, _)| *known == question).map(|(_, yes)| *yes);
        if known.is_none() {
            self.wanted = Some(question);
        }
        known
    }
}

impl Policy {
    /// Gets ready to ask servers by TLS, if any is to be asked so; files that `[policy]` names are read in any
    /// case. Relative paths start at `folder`.
    pub fn set_up_tls(&mut self, section: &Section, folder: &Path) -> Result<(), Diagnostic> {
        if !self.settings.remote_ssl_verify_server_crt {
            let key = "remote_ssl_verify_server_crt";
            let wrong = section.wrong(key, "the certificate of a policy server is always verified");
            return Err(
                wrong.help("name the authority that signed it: `remote_ssl_ca_crt_file = \"ca.pem\"`")
            );
        }
        let files = self.settings.tls_files(folder);
        if files.paths().next().is_some() || self.asks_by_tls() {
            self.tls = Some(Tls::read(&files).map_err(|error| error.at(section, None))?);
        }
        Ok(())
    }

    fn asks_by_tls(&self) -> bool {
        let mut found = false;
        for rule in &self.rules {
            rule.check.leaves(&mut |seen| {
                found |= matches!(&seen.leaf.test, Test::Http(url) if url.is_secure());
            });
        }
        found
    }

    /// Whether deciding this rule may take a question to another server.
    pub fn asks_others(&self, rule: RuleId) -> bool {
        self.get(rule).is_some_and(|rule| rule.asks)
    }

    /// Decides `rule` as [`check`](Self::check) does, and asks the servers that it names: one after the
    /// other, each once, and only those that it gets to. `name` is what is enforced.
    pub async fn decide(
        &self,
        rule: RuleId,
        name: &str,
        creds: &Value,
        target: &Map<String, Value>,
    ) -> Decision {
        self.decide_by_answers(rule, name, creds, target).await.0
    }

    /// The same, with what the servers said.
    pub(super) async fn decide_by_answers<'a>(
        &'a self,
        rule: RuleId,
        name: &str,
        creds: &'a Value,
        target: &'a Map<String, Value>,
    ) -> (Decision, Vec<(Question<'a>, bool)>) {
        let mut answers = Answers::default();
        let Some(found) = self.get(rule) else { return (Decision::Deny, answers.known) };
        if let Some(refused) = found.refuses(creds) {
            return (refused, answers.known);
        }
        for _ in 0..=QUESTIONS_MAX {
            let outcome = Eval::new(self, creds, target, &mut answers).decide(&found.check);
            let Some(question) = answers.wanted.take() else {
                return (found.decision(outcome), answers.known);
            };
            let asked = timeout(self.settings.remote_timeout(), self.ask(&question, name, creds, target));
            let why = match asked.await {
                Ok(Ok(yes)) => {
                    answers.known.push((question, yes));
                    continue;
                }
                Ok(Err(why)) => format!("{} {why}", question.url),
                Err(_) => {
                    format!("{} did not answer within {} s", question.url, self.settings.remote_timeout_s)
                }
            };
            return (Decision::Error(why), answers.known);
        }
        let why = format!("the rule asks other servers more than {QUESTIONS_MAX} times");
        (Decision::Error(why), answers.known)
    }

    async fn ask(
        &self,
        question: &Question<'_>,
        rule: &str,
        creds: &Value,
        target: &Map<String, Value>,
    ) -> Result<bool, String> {
        let (content_type, body) = body(self.settings.remote_content_type, rule, creds, target);
        let lost = |error| format!("cannot be asked: {error}");
        let request = Request::builder().method(Method::POST).uri(&question.path);
        let request = request.header(header::CONTENT_TYPE, content_type);
        let mut connection = question.url.endpoint.connect(self.tls.as_ref()).await.map_err(lost)?;
        let response = connection.ask(request, body.into()).await.map_err(lost)?;
        if response.status() != StatusCode::OK {
            return Err(format!("answered {}", response.status()));
        }
        let said = client::read(response.into_body(), ANSWER_MAX).await;
        let said = said.map_err(|_| format!("broke off, or said more than {ANSWER_MAX} bytes"))?;
        Ok(is_true(&said))
    }
}

/// `True`, also in double quotes; nothing else, not even in another case.
fn is_true(said: &[u8]) -> bool {
    let mut said = said;
    while let Some(rest) = said.strip_prefix(b"\"") {
        said = rest;
    }
    while let Some(rest) = said.strip_suffix(b"\"") {
        said = rest;
    }
    said == b"True"
}

fn body(
    content_type: ContentType,
    rule: &str,
    creds: &Value,
    target: &Map<String, Value>,
) -> (&'static str, String) {
    match content_type {
        ContentType::Json => {
            let object = json!({ "rule": rule, "target": target, "credentials": creds });
            ("application/json", object.to_string())
        }
        ContentType::Form => {
            let field = |value: Value| utf8_percent_encode(&value.to_string(), ENCODED).to_string();
            let (rule, target) = (field(rule.into()), field(target.clone().into()));
            let credentials = field(creds.clone());
            let form = format!("rule={rule}&target={target}&credentials={credentials}");
            ("application/x-www-form-urlencoded", form)
        }
    }
}

impl super::Settings {
    fn remote_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.remote_timeout_s.get()))
    }
}

#[cfg(test)]
mod tests;
