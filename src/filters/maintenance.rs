//! `maintenance`: the service is closed, and says so (503, with `Retry-After`).
//!
//! Closed is what a setting says, or a file that is there: `touch` closes without a reload, `rm` opens.
//! The file is looked at once a second at most; what stands in it is told to clients in place of
//! `message`. Some may pass all the same: methods (`["GET"]`, which `HEAD` counts as, is a service that can be
//! read and not changed), and roles, for which this filter stands below an authenticator.
//!
//! Open, and without a file, a request pays one comparison.

use std::{
    fs, io,
    io::Read as _,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::Method;
use pileus_model::{Clock, Monotonic};
use pileus_sdk::{Fault, Filter, Request};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind { name: "maintenance", capabilities, factory };

/// Roles are those of a caller.
fn capabilities(section: &Section) -> Capabilities {
    let requires: &[Fact] = if section.list("roles").is_empty() { &[] } else { &[Fact::Caller] };
    Capabilities::NONE.requires(requires)
}

/// How old the last look at the file may be.
const FRESH: Duration = Duration::from_secs(1);

/// The longest text that is taken from the file, in bytes.
const MAX_TEXT: u64 = 1000;

/// What a section with `factory = "maintenance"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Closed, whatever files there are.
    #[serde(default)]
    pub closed: bool,
    /// Closed while this file is there.
    pub file: Option<PathBuf>,
    /// What clients read.
    #[serde(default = "default_message")]
    pub message: String,
    /// When they may try again, in seconds.
    #[serde(default = "default_retry_after")]
    pub retry_after_s: NonZeroU32,
    /// Methods that pass.
    #[serde(default)]
    pub methods: Vec<String>,
    /// Roles that pass, in any case of letters.
    #[serde(default)]
    pub roles: Vec<String>,
}

fn default_message() -> String {
    "The service is closed for maintenance. Please try again later.".into()
}

const fn default_retry_after() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(299)
}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let config: Config = section.parse()?;
    let method = |(index, name): (usize, &String)| {
        let read = Method::from_bytes(name.as_bytes()).ok().filter(|_| *name == name.to_ascii_uppercase());
        let wrong = || section.wrong(&format!("methods.{index}"), format!("`{name}` is no method"));
        read.ok_or_else(wrong)
    };
    let methods = config.methods.iter().enumerate().map(method).collect::<Result<Vec<_>, _>>()?;
    let retry_after = Duration::from_secs(config.retry_after_s.get().into());
    let (message, roles) = (config.message, config.roles);
    let always = config.closed.then(|| Arc::<str>::from(message.as_str()));
    let sign = |path| Arc::new(Sign { path, clock: deps.clock.clone(), seen: Mutex::default() });
    let sign = config.file.map(sign);
    Ok(Filter::gate(move |request| {
        let closed = always.clone().or_else(|| sign.as_ref()?.look(&message));
        match closed {
            Some(reason) if !passes(request, &methods, &roles) => {
                Err(Fault::Unavailable { reason: (*reason).into(), retry_after })
            }
            _ => Ok(()),
        }
    }))
}

fn passes(request: &Request, methods: &[Method], roles: &[String]) -> bool {
    let has = |role: &String| {
        let caller = request.context().caller.as_ref();
        caller.is_some_and(|caller| caller.roles.iter().any(|it| it.eq_ignore_ascii_case(role)))
    };
    // HEAD is a GET without its content.
    let as_get = *request.method() == Method::HEAD && methods.contains(&Method::GET);
    as_get || methods.contains(request.method()) || roles.iter().any(has)
}

/// The file that closes.
struct Sign {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// When it was looked at, and what it said if it was there.
    seen: Mutex<Option<(Monotonic, Option<Arc<str>>)>>,
}

impl Sign {
    /// What clients are told, where the file is there.
    fn look(&self, message: &str) -> Option<Arc<str>> {
        let now = self.clock.monotonic();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            Some((at, said)) if now.since(*at) < FRESH => said.clone(),
            _ => {
                let said = read(&self.path, message).map(Arc::from);
                *seen = Some((now, said.clone()));
                said
            }
        }
    }
}

/// A file that is there and cannot be read closes as well.
fn read(path: &Path, message: &str) -> Option<String> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        _ => return Some(message.into()),
    }
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_TEXT).read_to_string(&mut text));
    let text = text.trim();
    Some(if read.is_ok() && !text.is_empty() { text } else { message }.into())
}

#[cfg(test)]
mod tests {
    use pileus_sdk::Caller;

    use super::*;
    use crate::filters::testing::{build, deps, fine, over, request};

    fn by(method: Method, role: Option<&str>) -> Request {
        let mut request = request(method, "/", &[]);
        request.context_mut().caller =
            role.map(|role| Arc::new(Caller::new("ann".into(), "p".into(), vec![role.into()], false)));
        request
    }

    #[tokio::test]
    async fn closed_is_a_fault_that_some_pass() {
        let read_only = "closed = true\nmethods = ['GET', 'HEAD']\nroles = ['operator']";
        let cases = [
            ("", Method::POST, None, true),
            ("closed = true", Method::GET, Some("admin"), false),
            (read_only, Method::GET, None, true),
            (read_only, Method::POST, None, false),
            ("closed = true\nmethods = ['GET']", Method::HEAD, None, true),
            ("closed = true\nmethods = ['HEAD']", Method::HEAD, None, true),
            ("closed = true\nmethods = ['HEAD']", Method::GET, None, false),
            (read_only, Method::POST, Some("member"), false),
            (read_only, Method::POST, Some("Operator"), true),
        ];
        for (text, method, role, open) in cases {
            let (deps, ..) = deps();
            let answer = over(KIND, text, &deps, fine).send(by(method.clone(), role)).await;
            assert_eq!(answer.is_ok(), open, "{text} {method} {role:?}");
            if let Err(fault) = answer {
                assert_eq!((fault.code().0.as_u16(), fault.retry_after_s()), (503, Some(300)));
            }
        }
    }

    #[tokio::test]
    async fn a_file_closes_and_opens() {
        let (deps, clock, _) = deps();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("closed");
        let text = format!("file = {:?}\nmessage = 'later'\nretry_after_s = 9", file.to_str().unwrap());
        let stack = over(KIND, &text, &deps, fine);
        let told = async || stack.send(by(Method::GET, None)).await.err().map(|fault| fault.to_string());
        assert_eq!(told().await, None);
        fs::write(&file, "").unwrap();
        assert_eq!(told().await, None, "looked at within this second");
        clock.advance(FRESH);
        assert_eq!(told().await.as_deref(), Some("later"));
        for (bytes, expected) in
            [(b"back at noon\n".as_slice(), "back at noon"), (b"\xff", "later"), (b" \n", "later")]
        {
            fs::write(&file, bytes).unwrap();
            clock.advance(FRESH);
            assert_eq!(told().await.as_deref(), Some(expected));
        }
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        clock.advance(FRESH);
        assert_eq!(told().await.as_deref(), Some("later"), "what is there closes");
        fs::remove_dir(&file).unwrap();
        clock.advance(FRESH);
        assert_eq!(told().await, None);
    }

    #[test]
    fn settings() {
        let (deps, ..) = deps();
        for (text, expected) in [
            ("methods = ['get']", "`get` is no method"),
            ("methods = ['a b']", "`a b` is no method"),
            ("retry_after_s = 0", "whole number from 1"),
            ("open = true", "unknown field `open`"),
        ] {
            let error = build(KIND, text, &deps).unwrap_err();
            assert!(error.message.contains(expected), "{text}: {}", error.message);
        }
    }
}
