//! `conditional`: an answer that a client has already is not sent again, and what changed meanwhile is
//! not overwritten.
//!
//! Gives every whole 200 to a `GET` or `HEAD` an `ETag`, a hash of its bytes, unless a controller did.
//! `If-None-Match` with that tag is answered 304, without a body. `If-Match` with another is 412: of a
//! `PUT`, `PATCH`, `DELETE` or `POST` by looking first, as the same caller's `GET`. Between that look and
//! the change somebody else may come: it keeps people from overwriting each other, not programs in a
//! race. Where a path has nothing to look at, a condition does not hold.
//!
//! Stands below an authenticator and above `policy`, which then also decides the look. Costs one hash of
//! the body; streams have none.
//! Source: RFC 9110 §8.8.3, §13.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use pileus_sdk::{Answer, Body, Fault, Filter, Request, Response};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind =
    FilterKind { name: "conditional", capabilities: |_| Capabilities::NONE, factory };

/// What a section with `factory = "conditional"` may say: nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let Config {} = section.parse()?;
    Ok(Filter::around(|inner, request| {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let conditions = Conditions::of(request.headers());
        if reads {
            return inner.send(request).map(move |answer| read(answer?, conditions.as_ref()));
        }
        let Some(conditions) = conditions else { return inner.send(request) };
        let inner = inner.clone();
        Answer::soon(async move {
            let tag = match inner.send(look(&request)).await {
                Ok(response) if response.status() == StatusCode::OK => tag(&response),
                // Who may not look, or too often, hears so.
                Err(fault)
                    if !matches!(fault.code().0, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) =>
                {
                    return Err(fault);
                }
                _ => None,
            };
            match conditions.hold(tag.as_ref()) {
                Holds::Yes => inner.send(request).await,
                Holds::NotModified | Holds::No => Err(failed()),
            }
        })
    }))
}

fn failed() -> Fault {
    Fault::PreconditionFailed("It is not what the conditions of the request took it for.".into())
}

/// An answer to a `GET` or `HEAD`.
fn read(mut response: Response, conditions: Option<&Conditions>) -> Result<Response, Fault> {
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    let Some(tag) = tag(&response) else { return Ok(response) };
    match conditions.map_or(Holds::Yes, |conditions| conditions.hold(Some(&tag))) {
        Holds::No => return Err(failed()),
        Holds::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::Empty;
            for of_the_body in [
                header::CONTENT_TYPE,
                header::CONTENT_LENGTH,
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_RANGE,
            ] {
                response.headers_mut().remove(of_the_body);
            }
        }
        Holds::Yes => {}
    }
    response.headers_mut().insert(header::ETAG, tag);
    Ok(response)
}

/// The tag that a controller gave, or the body's own.
fn tag(response: &Response) -> Option<HeaderValue> {
    if let Some(tag) = response.headers().get(header::ETAG) {
        return Some(tag.clone());
    }
    let bytes = response.body().bytes()?;
    let mut text = String::with_capacity(34);
    text.push('"');
    // Half of the hash: tags of one address are compared, nobody gains by two that meet.
    for byte in Sha256::digest(&bytes).iter().take(16) {
        write!(text, "{byte:02x}").ok()?;
    }
    text.push('"');
    HeaderValue::try_from(text).ok()
}

/// The same caller's `GET` of the same target.
fn look(request: &Request) -> Request {
    let mut look = http::Request::new(Body::Empty);
    *look.uri_mut() = request.uri().clone();
    *look.headers_mut() = request.headers().clone();
    for of_the_request in [
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::TRANSFER_ENCODING,
    ] {
        look.headers_mut().remove(of_the_request);
    }
    let mut context = request.context().clone();
    context.matched = None;
    context.key = None;
    // The log speaks of the request that was sent.
    context.seen = None;
    Request::with(look, context)
}

/// What a request says of the state in which it is meant.
struct Conditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

enum Tags {
    Any,
    /// With their `W/`, if they are weak.
    These(Vec<String>),
}

#[derive(Debug, PartialEq)]
enum Holds {
    Yes,
    No,
    /// `If-None-Match` does not: a reader has it already.
    NotModified,
}

impl Conditions {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let if_match = Tags::of(headers, &header::IF_MATCH);
        let if_none_match = Tags::of(headers, &header::IF_NONE_MATCH);
        (if_match.is_some() || if_none_match.is_some()).then_some(Self { if_match, if_none_match })
    }

    /// Of what has this tag; `None`: there is no such thing.
    fn hold(&self, tag: Option<&HeaderValue>) -> Holds {
        let tag = tag.and_then(|tag| tag.to_str().ok());
        match (&self.if_match, &self.if_none_match) {
            (Some(tags), _) if !tags.name(tag, true) => Holds::No,
            (_, Some(tags)) if tags.name(tag, false) => Holds::NotModified,
            _ => Holds::Yes,
        }
    }
}

impl Tags {
    fn of(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut values = headers.get_all(name).iter().peekable();
        values.peek()?;
        let mut tags = Vec::new();
        for value in values {
            // Tags may hold commas, but no quotes.
            let mut rest = value.to_str().unwrap_or_default().trim_start_matches([' ', '\t', ',']);
            if rest.trim_end() == "*" {
                return Some(Self::Any);
            }
            while let Some(start) = rest.find('"') {
                let (weak, opened) =
                    (rest.get(..start) == Some("W/"), rest.get(start + 1..).unwrap_or_default());
                let Some((inner, after)) = opened.split_once('"') else { break };
                tags.push(format!("{}\"{inner}\"", if weak { "W/" } else { "" }));
                rest = after.trim_start_matches([' ', '\t', ',']);
            }
        }
        Some(Self::These(tags))
    }

    /// Whether the tag is among them; strongly: both name the very same bytes.
    fn name(&self, tag: Option<&str>, strongly: bool) -> bool {
        let Some(tag) = tag else { return false };
        let bare = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        match self {
            Self::Any => true,
            Self::These(tags) if strongly => !tag.starts_with("W/") && tags.iter().any(|it| it == tag),
            Self::These(tags) => tags.iter().any(|it| bare(it) == bare(tag)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use pileus_sdk::{Stack, body::pieces};

    use super::*;
    use crate::filters::testing::{deps, over, request};

    /// Something that a `PUT` changes; `/weak` has a tag of its own, `/stream` no end that is known.
    fn stack() -> Stack {
        let (deps, ..) = deps();
        let state = Arc::new(Mutex::new("one".to_owned()));
        over(KIND, "", &deps, move |request: Request| {
            let state = state.clone();
            async move {
                let mut state = state.lock().unwrap();
                let answer =
                    http::Response::builder().header("content-type", "text/plain").header("vary", "x");
                let body = match (request.method().as_str(), request.uri().path()) {
                    ("GET" | "HEAD", "/gone") => return Err(Fault::NoRoute),
                    ("GET", "/secret") => return Err(Fault::denied("a:b")),
                    ("GET" | "HEAD", "/stream") => {
                        Body::Stream(pieces(Some("a"), |it| async move { Some((it?, None)) }))
                    }
                    ("GET" | "HEAD", "/weak") => {
                        return Ok(answer.header("etag", "W/\"own\"").body(Body::from("a")).unwrap());
                    }
                    ("GET" | "HEAD", "/made") => {
                        return Ok(answer.status(202).body(Body::from("a")).unwrap());
                    }
                    ("GET" | "HEAD", _) => Body::from(state.clone()),
                    (method, _) => {
                        *state = method.to_owned();
                        Body::Empty
                    }
                };
                Ok(answer.body(body).unwrap())
            }
        })
    }

    /// Half of the SHA-256 of `one`.
    const ONE: &str = "\"7692c3ad3540bb803c020b3aee66cd88\"";

    #[tokio::test]
    async fn what_a_reader_has_is_not_sent_again() {
        let (weak, many) = (format!("W/{ONE}"), format!("\"a,b\" , W/\"c\",{ONE}"));
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, Option<&'a str>);
        let cases: &[Row<'_>] = &[
            ("/", &[], 200, Some(ONE)),
            ("/", &[("if-none-match", ONE)], 304, Some(ONE)),
            ("/", &[("if-none-match", &weak)], 304, Some(ONE)),
            ("/", &[("if-none-match", &many)], 304, Some(ONE)),
            ("/", &[("if-none-match", "\"a\""), ("if-none-match", ONE)], 304, Some(ONE)),
            ("/", &[("if-none-match", "*")], 304, Some(ONE)),
            ("/", &[("if-none-match", "\"other\"")], 200, Some(ONE)),
            ("/", &[("if-none-match", ONE.trim_matches('"'))], 200, Some(ONE)),
            ("/", &[("if-none-match", "\"")], 200, Some(ONE)),
            ("/", &[("if-match", ONE)], 200, Some(ONE)),
            ("/", &[("if-match", "*")], 200, Some(ONE)),
            ("/", &[("if-match", &weak)], 412, None),
            ("/", &[("if-match", "\"other\"")], 412, None),
            ("/", &[("if-match", ONE), ("if-none-match", ONE)], 304, Some(ONE)),
            ("/weak", &[("if-none-match", "\"own\"")], 304, Some("W/\"own\"")),
            ("/weak", &[("if-match", "W/\"own\"")], 412, None),
            ("/stream", &[("if-none-match", "*")], 200, None),
            ("/made", &[("if-none-match", "*")], 202, None),
            ("/gone", &[("if-none-match", "*")], 404, None),
        ];
        for (path, headers, status, tag) in cases {
            for method in [Method::GET, Method::HEAD] {
                let response = stack().send(request(method, path, headers)).await;
                let response = response.unwrap_or_else(Fault::into_response);
                let found = response.headers().get("etag").map(|it| it.to_str().unwrap());
                assert_eq!((response.status().as_u16(), found), (*status, *tag), "{path} {headers:?}");
                if *status == 304 {
                    assert_eq!(response.body().bytes().unwrap(), "");
                    assert!(!response.headers().contains_key("content-type"));
                    assert!(response.headers().contains_key("vary"));
                }
            }
        }
    }

    #[tokio::test]
    async fn what_changed_meanwhile_is_not_overwritten() {
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);
        let cases: &[Row<'_>] = &[
            ("/", &[], 200),
            ("/", &[("if-match", ONE)], 200),
            ("/", &[("if-match", "*")], 200),
            ("/", &[("if-match", "\"other\"")], 412),
            ("/", &[("if-none-match", "*")], 412),
            ("/", &[("if-none-match", "\"other\"")], 200),
            ("/gone", &[("if-match", "*")], 412),
            ("/gone", &[("if-none-match", "*")], 200),
            ("/secret", &[("if-match", "*")], 403),
            ("/stream", &[("if-match", "*")], 412),
        ];
        for (path, headers, expected) in cases {
            for method in [Method::PUT, Method::DELETE] {
                let stack = stack();
                let response = stack.send(request(method.clone(), path, headers)).await;
                let status = response.unwrap_or_else(Fault::into_response).status();
                assert_eq!(status, *expected, "{method} {path} {headers:?}");
                let now = stack.send(request(Method::GET, "/", &[])).await.unwrap().body().bytes().unwrap();
                let expected = if *expected == 200 { method.as_str() } else { "one" };
                assert_eq!(now, expected, "{path} {headers:?}");
            }
        }
    }
}
