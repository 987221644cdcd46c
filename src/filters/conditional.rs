//! `conditional`: an answer that a client has already is not sent again, and what changed meanwhile is
//! not overwritten.
//!
//! Gives every whole 200 to a `GET` or `HEAD` an `ETag`, a hash of its bytes, unless a controller did. Such an answer
//! is `private, no-cache` and varies by the headers that authenticators read, unless a controller said otherwise: a
//! cache may keep it for one client, and has to ask before it uses it.
//!
//! `If-None-Match` with the tag is answered 304, without a body. `If-Match` with another is 412: of a
//! `PUT`, `PATCH`, `DELETE` or `POST` by looking first, as the same caller's `GET`. The tag of any content coding is
//! as good as any other there. Between that look and the change somebody else may come: it keeps people from
//! overwriting each other, not programs in a race. Where a path has nothing to look at, a condition does not hold.
//!
//! Stands below an authenticator and above `policy`, which then also decides the look. `compress` may stand above or
//! below. Costs one hash of the body; streams have none.
//! Source: RFC 9110 §8.8.3, §13; RFC 9111 §5.2.2.

pub(super) mod preconditions;

use http::{HeaderValue, Method, StatusCode, header};
use pileus_sdk::{Answer, Body, Fault, Filter, Request, Response, Stack};
use serde::Deserialize;

use self::preconditions::Preconditions;
use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind =
    FilterKind { name: "conditional", capabilities: |_| Capabilities::NONE, factory };

/// Headers that one of the authenticators reads.
const CREDENTIALS: HeaderValue = HeaderValue::from_static("x-auth-token, x-service-token, authorization");

/// What a section with `factory = "conditional"` may say: nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let Config {} = section.parse()?;
    Ok(Filter::around(|inner, mut request| {
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            let conditions = Preconditions::take(request.headers_mut());
            return inner.send(request).map(move |answer| {
                let response = tagged(answer?);
                match conditions {
                    Some(conditions) => conditions.apply(response),
                    None => Ok(response),
                }
            });
        }
        let Some(conditions) = Preconditions::of(request.headers()) else { return inner.send(request) };
        let inner = inner.clone();
        Answer::soon(async move {
            let looks = ["identity", "gzip"].map(|coding| look(&request, coding));
            let tags = current_tags(&inner, looks).await?;
            if conditions.allow_change(&tags) {
                inner.send(request).await
            } else {
                Err(preconditions::failed())
            }
        })
    }))
}

/// Gives an answer its tag, and says what caches may do with it.
fn tagged(mut response: Response) -> Response {
    if response.status() != StatusCode::OK {
        return response;
    }
    let Some(tag) = preconditions::tag(&response) else { return response };
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    headers.append(header::VARY, CREDENTIALS);
    response
}

/// The tags of what the target is now, one for each content coding that clients may have it in. None where there
/// is no such thing.
async fn current_tags(inner: &Stack, [plain, packed]: [Request; 2]) -> Result<Vec<HeaderValue>, Fault> {
    let plain = match inner.send(plain).await {
        Ok(response) if response.status() == StatusCode::OK => response,
        // A caller that may not read, or reads too often, gets that fault.
        Err(fault) if !matches!(fault.code().0, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
            return Err(fault);
        }
        _ => return Ok(Vec::new()),
    };
    let mut tags = Vec::from_iter(preconditions::tag(&plain));
    // With `compress` above, the tag of its coding is made of this one.
    tags.extend(tags.first().and_then(preconditions::of_gzip));
    if preconditions::varies_by_coding(&plain)
        && let Ok(packed) = inner.send(packed).await
        && packed.status() == StatusCode::OK
    {
        tags.extend(preconditions::tag(&packed));
    }
    Ok(tags)
}

/// The same caller's `GET` of the same target.
fn look(request: &Request, coding: &'static str) -> Request {
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
    look.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(coding));
    let mut context = request.context().clone();
    context.matched = None;
    context.key = None;
    // The log speaks of the request that was sent.
    context.seen = None;
    Request::with(look, context)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use pileus_sdk::{Stack, body::pieces};

    use super::*;
    use crate::filters::testing::{build, deps, over, request};

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

    /// An app whose thing is longer than `compress` needs, or shorter (`/short`), and that a `PUT` leaves as it is.
    async fn long(request: Request) -> Result<Response, Fault> {
        let text = if request.uri().path() == "/short" { "short".into() } else { "long ".repeat(1000) };
        let answer = http::Response::builder().header("content-type", "text/plain").header("vary", "accept");
        let answer = match request.uri().path() {
            "/own" => answer.header("etag", "\"own\""),
            "/kept" => answer.header("cache-control", "max-age=9"),
            _ => answer,
        };
        Ok(answer.body(if request.method() == Method::PUT { Body::Empty } else { Body::from(text) }).unwrap())
    }

    fn header(response: &Response, name: &str) -> String {
        let values = response.headers().get_all(name).iter().map(|it| it.to_str().unwrap());
        values.collect::<Vec<_>>().join(", ")
    }

    /// Header fields of an answer that caches read.
    fn metadata(response: &Response) -> [String; 3] {
        ["etag", "vary", "cache-control"].map(|name| header(response, name))
    }

    #[tokio::test]
    async fn each_coding_has_its_tag_in_both_orders_with_compress() {
        let (deps, ..) = deps();
        let filter = |kind| build(kind, "", &deps).unwrap();
        let (compress, conditional) = (filter(super::super::compress::KIND), filter(KIND));
        let app = || Stack::from_fn(long);
        let orders = [
            ("compress above", compress.over(conditional.over(app()))),
            ("conditional above", conditional.over(compress.over(app()))),
        ];
        for (order, stack) in orders {
            let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| {
                let answer = stack.send(request(method, path, headers)).await;
                answer.unwrap_or_else(Fault::into_response)
            };
            for path in ["/long", "/own", "/kept", "/short"] {
                let (plain, packed) = ("identity", "gzip");
                let mut tags = Vec::new();
                for coding in [plain, packed] {
                    let accept = ("accept-encoding", coding);
                    let whole = ask(Method::GET, path, &[accept]).await;
                    let known = metadata(&whole);
                    let what = format!("{order}, {path}, {coding}: {known:?}");
                    assert_eq!(whole.status(), 200, "{what}");
                    let is_packed = coding == packed && path != "/short";
                    assert_eq!(
                        header(&whole, "content-encoding"),
                        if is_packed { packed } else { "" },
                        "{what}"
                    );
                    let [tag, vary, cache] = &known;
                    assert!(tag.starts_with('"'), "{what}");
                    assert_eq!(
                        cache,
                        if path == "/kept" { "max-age=9" } else { "private, no-cache" },
                        "{what}"
                    );
                    for name in ["accept", "x-auth-token", "x-service-token", "authorization"] {
                        assert!(vary.split(", ").any(|it| it == name), "{what}");
                    }
                    assert_eq!(vary.contains("accept-encoding"), path != "/short", "{what}");
                    for method in [Method::GET, Method::HEAD] {
                        let again = ask(method, path, &[accept, ("if-none-match", tag)]).await;
                        assert_eq!(
                            (again.status().as_u16(), metadata(&again)),
                            (304, known.clone()),
                            "{what}"
                        );
                        assert_eq!(header(&again, "content-encoding"), "", "{what}");
                        assert_eq!(again.body().bytes().unwrap(), "", "{what}");
                    }
                    assert_eq!(
                        ask(Method::GET, path, &[accept, ("if-match", tag)]).await.status(),
                        200,
                        "{what}"
                    );
                    tags.push(tag.clone());
                }
                assert_eq!(tags[0] == tags[1], path == "/short", "{order} {path} {tags:?}");
                // A reader is told of the coding that it asks for alone.
                for (coding, other) in [(plain, &tags[1]), (packed, &tags[0])] {
                    let asked = [("accept-encoding", coding), ("if-none-match", other)];
                    let expected = if path == "/short" { 304 } else { 200 };
                    assert_eq!(ask(Method::GET, path, &asked).await.status(), expected, "{order} {path}");
                }
                // A change may name the tag of any coding, whatever it accepts itself.
                let (both, other) = (tags.join(", "), "\"other\"".to_owned());
                for coding in [plain, packed, "br"] {
                    for (name, tag, status) in [
                        ("if-match", &tags[0], 200),
                        ("if-match", &tags[1], 200),
                        ("if-match", &both, 200),
                        ("if-match", &other, 412),
                        ("if-none-match", &tags[0], 412),
                        ("if-none-match", &tags[1], 412),
                        ("if-none-match", &other, 200),
                    ] {
                        let response =
                            ask(Method::PUT, path, &[("accept-encoding", coding), (name, tag)]).await;
                        assert_eq!(response.status(), status, "{order} {path} {coding} {name} {tag}");
                    }
                }
            }
        }
    }

    #[test]
    fn answers_vary_by_what_authenticators_read() {
        let reads: [(&str, &[&str]); 3] = [
            ("authtoken", &["x-auth-token", "x-service-token"]),
            ("noauth", &["x-auth-token"]),
            ("tokens", &["x-auth-token", "authorization"]),
        ];
        let all = crate::pipeline::FILTERS.iter();
        let all = all.filter(|it| it.defaults().provides.contains(&crate::pipeline::Fact::Caller));
        assert!(all.map(|it| it.name).eq(reads.iter().map(|(name, _)| *name)), "a row for each");
        let told = CREDENTIALS;
        for name in reads.iter().flat_map(|(_, names)| *names) {
            assert!(told.to_str().unwrap().split(", ").any(|it| it == *name), "{name}");
        }
    }
}
