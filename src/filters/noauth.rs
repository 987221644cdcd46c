//! `noauth`: takes everybody at his word. For development, and for the old ports, which have no users.
//!
//! Stands where `tokens` would. A pipeline with it counts as open: on another address than loopback
//! the server refuses it. Two manners, for requests without a token:
//!
//! - `handshake`, as Nova had it: 204, with the token to use next. The token is `user:project`; the
//!   user `admin` is an administrator, nobody else (Nova's first `noauth` made everybody one).
//! - `operator`: whoever calls is the operator. A token is not even looked at.
//!
//! Source: reference §3.8, "`noauth` filter".

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pileus_model::{Actor, Name, OPERATOR};
use pileus_sdk::{Answer, Body, Caller, Fault, Filter, Request, Response};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// A caller that is not proved may be a web page: `samesite` has to stand above.
const CAPABILITIES: Capabilities = Capabilities::NONE.requires(&[Fact::SameSite]).provides(&[Fact::Caller]);

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind { name: "noauth", capabilities: |_| CAPABILITIES, factory };

static X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
static X_AUTH_USER: HeaderName = HeaderName::from_static("x-auth-user");
static X_AUTH_PROJECT_ID: HeaderName = HeaderName::from_static("x-auth-project-id");
static X_SERVER_MANAGEMENT_URL: HeaderName = HeaderName::from_static("x-server-management-url");

/// What a section with `factory = "noauth"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What a request without a token gets.
    #[serde(default)]
    pub anonymous: Anonymous,
    /// The operator's project.
    #[serde(default = "default_project")]
    pub project: String,
}

/// What a request without a token gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// A token to use next.
    #[default]
    Handshake,
    /// The rights of an administrator.
    Operator,
}

fn default_project() -> String {
    "default".into()
}

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let config: Config = section.parse()?;
    if config.project.is_empty() {
        return Err(section.wrong("project", "a project has a name"));
    }
    let operator = (config.anonymous == Anonymous::Operator).then(|| {
        let project = config.project.as_str().into();
        Arc::new(Caller::new(OPERATOR.into(), project, vec!["admin".into()], true))
    });
    Ok(Filter::around(move |inner, mut request| {
        let caller = match &operator {
            // Whoever calls, and whatever he says.
            Some(operator) => operator.clone(),
            None => match request.headers().get(&X_AUTH_TOKEN) {
                None => return handshake(&request).into(),
                Some(token) => match caller(token) {
                    Some(caller) => Arc::new(caller),
                    None => return Answer::refused(Fault::Unauthorized { challenge: None }),
                },
            },
        };
        let context = request.context_mut();
        context.caller = Some(caller);
        context.note();
        inner.send(request)
    }))
}

/// Who `user:project` is; a project that is not said is the user's own. `None`: no user, or one that stands for
/// an actor of the server itself.
fn caller(token: &HeaderValue) -> Option<Caller> {
    let token = token.to_str().ok()?;
    let (user, project) = token.split_once(':').unwrap_or((token, ""));
    let project = if project.is_empty() { user } else { project };
    let is_admin = user == "admin";
    let roles = if is_admin { vec!["admin".to_owned()] } else { Vec::new() };
    (!user.is_empty() && !Actor::is_reserved(user))
        .then(|| Caller::new(Name::from(user), Name::from(project), roles, is_admin))
}

/// The token to use next, for whomever the client says it is.
fn handshake(request: &Request) -> Result<Response, Fault> {
    let headers = request.headers();
    let (user, project) = (text(headers, &X_AUTH_USER)?, text(headers, &X_AUTH_PROJECT_ID)?);
    let (user, project) = (user.unwrap_or("admin"), project.unwrap_or("admin"));
    if Actor::is_reserved(user) {
        return Err(Fault::BadRequest(format!(
            "The user `{user}` stands for an actor of the server itself."
        )));
    }
    let path = request.uri().path();
    let slash = if path.ends_with('/') { "" } else { "/" };
    let url = format!("{}{path}{slash}{project}", request.origin());
    let value = |text: String| {
        HeaderValue::try_from(text).map_err(|_| Fault::BadRequest("This user or project is no text.".into()))
    };
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(&X_AUTH_TOKEN, value(format!("{user}:{project}"))?);
    headers.insert(&X_SERVER_MANAGEMENT_URL, value(url)?);
    Ok(response)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Fault> {
    let wrong = |_| Fault::BadRequest(format!("The header {name} is no text."));
    headers.get(name).map(HeaderValue::to_str).transpose().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::filters::testing::{build, deps, over, request};

    /// Says who called.
    async fn who(mut request: Request) -> Result<Response, Fault> {
        let caller = request.context_mut().known_caller()?;
        let (roles, is_admin) = (caller.roles.join(","), caller.is_admin);
        Ok(Response::new(Body::from(format!("{} of {} [{roles}] {is_admin}", caller.user, caller.project))))
    }

    fn body(response: &Response) -> String {
        String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_request_without_a_token_gets_one() {
        let (deps, ..) = deps();
        let stack = over(KIND, "", &deps, who);
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);
        let cases: [Row<'_>; 6] = [
            ("/v2", &[("host", "h:8774")], "admin:admin", "http://h:8774/v2/admin"),
            ("/v2/", &[("host", "h:8774")], "admin:admin", "http://h:8774/v2/admin"),
            ("/v2/?a=b", &[("host", "h")], "admin:admin", "http://h/v2/admin"),
            (
                "/",
                &[("host", "h"), ("x-auth-user", "ann"), ("x-auth-key", "k")],
                "ann:admin",
                "http://h/admin",
            ),
            ("/v2", &[("host", "h"), ("x-auth-project-id", "p1")], "admin:p1", "http://h/v2/p1"),
            ("https://h:1/x", &[], "admin:admin", "http://h:1/x/admin"),
        ];
        for (uri, headers, token, url) in cases {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let response = stack.send(request(method, uri, headers)).await.unwrap();
                assert_eq!(response.status(), 204, "{uri}");
                assert_eq!(response.headers()["x-auth-token"], token, "{uri}");
                assert_eq!(response.headers()["x-server-management-url"], url, "{uri}");
                assert_eq!(response.headers()["content-type"], "text/plain", "{uri}");
                assert_eq!(body(&response), "", "{uri}");
            }
        }
    }

    #[tokio::test]
    async fn no_token_is_made_for_an_actor_of_the_server() {
        let (deps, ..) = deps();
        let stack = over(KIND, "", &deps, who);
        for user in ["[scheduler]", "operator"] {
            let answer = stack.send(request(Method::GET, "/v2", &[("x-auth-user", user)])).await;
            assert_eq!(answer.unwrap_err().code().0, 400, "{user}");
        }
    }

    #[tokio::test]
    async fn a_token_is_a_user_and_a_project() {
        let (deps, ..) = deps();
        let stack = over(KIND, "anonymous = 'handshake'", &deps, who);
        for (token, expected) in [
            ("ann:p1", Some("ann of p1 [] false")),
            ("ann", Some("ann of ann [] false")),
            ("ann:", Some("ann of ann [] false")),
            ("ann:p:1", Some("ann of p:1 [] false")),
            ("admin:p1", Some("admin of p1 [admin] true")),
            ("Admin:p1", Some("Admin of p1 [] false")),
            ("", None),
            (":p1", None),
            ("[scheduler]:p1", None),
            ("operator:p1", None),
            ("Operator", None),
        ] {
            let answer = stack.send(request(Method::GET, "/", &[("x-auth-token", token)])).await;
            assert_eq!(answer.as_ref().map(body).ok().as_deref(), expected, "{token}");
            assert!(answer.err().is_none_or(|fault| fault.code().0 == 401), "{token}");
        }
        let mut sent = request(Method::GET, "/", &[]);
        sent.headers_mut().insert("x-auth-token", HeaderValue::from_bytes(b"\xff:p").unwrap());
        assert_eq!(stack.send(sent).await.unwrap_err().code().0, 401);
    }

    #[tokio::test]
    async fn the_operator_is_an_administrator_whatever_he_sends() {
        let (deps, ..) = deps();
        for (text, project) in [("", "default"), ("\nproject = 'hep'", "hep")] {
            let stack = over(KIND, &format!("anonymous = 'operator'{text}"), &deps, who);
            for headers in [&[][..], &[("x-auth-token", "ann:p1")]] {
                let response = stack.send(request(Method::POST, "/", headers)).await.unwrap();
                assert_eq!(body(&response), format!("operator of {project} [admin] true"));
            }
        }
    }

    #[test]
    fn it_counts_as_open_and_its_settings_are_checked() {
        const { assert!(!CAPABILITIES.authenticates) };
        let (deps, ..) = deps();
        for wrong in ["anonymous = 'nobody'", "project = ''", "user = 'x'"] {
            assert!(build(KIND, wrong, &deps).is_err(), "{wrong}");
        }
    }
}
