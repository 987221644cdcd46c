//! `idempotency`: a POST that is sent twice with one `Idempotency-Key` is done once.
//!
//! Stands right above the router, below whatever refuses: a refusal changes nothing and uses no key.
//! The key belongs to the caller and the project. Within a day the same request with it is answered as
//! the first time, with `Idempotency-Replayed: true`; another request is 422; and 409 while the first is
//! being answered. What makes it safe is the engine's: with each change it writes, in one transaction,
//! that the key was used. The answer is kept right after that. Where a crash came between the two, the
//! request goes down once more, and the engine does nothing that it did.
//! Source: draft-ietf-httpapi-idempotency-key-header, §2.

use std::{
    borrow::Cow,
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pileus_model::{Clock, Command, Engine, KeptAnswer, Name, RequestKey};
use pileus_sdk::{Answer, Body, Fault, Filter, Request, Response, Stack};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::{
    diagnostic::Diagnostic,
    logging::current::{InRequest, current},
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind {
    name: "idempotency",
    capabilities: |_| Capabilities::NONE.requires(&[Fact::Caller, Fact::WholeBody]),
    factory,
};

/// What a section with `factory = "idempotency"` may say: nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, in bytes.
const KEY_MAX: usize = 255;

/// Longest body of an answer that is kept, in bytes. A longer one is made again from the state.
const BODY_MAX: usize = 64 * 1024;

/// Headers of an answer that are its own; the others are of the way that it takes.
const KEPT: [HeaderName; 2] = [header::CONTENT_TYPE, header::LOCATION];

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let Config {} = section.parse()?;
    let keys = deps.kept.of(section, || Keys {
        engine: deps.engine.clone(),
        clock: deps.clock.clone(),
        in_flight: Mutex::default(),
    });
    Ok(Filter::around(move |inner, request| {
        if request.method() != Method::POST || !request.headers().contains_key(&KEY) {
            return inner.send(request);
        }
        let (keys, inner) = (keys.clone(), inner.clone());
        Answer::later(async move { keys.answer(inner, request).await })
    }))
}

/// Which requests are being answered, and the engine, which knows which ones were.
struct Keys {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    in_flight: Mutex<HashSet<Name>>,
}

impl Keys {
    async fn answer(self: Arc<Self>, inner: Stack, mut request: Request) -> Result<Response, Fault> {
        let (key, hash) = name(&request)?;
        let mine = self.begin(&key)?;
        let view = self.engine.view();
        let now = self.clock.now();
        let used = view.keys.get(&key).filter(|used| !used.is_old(now));
        if used.is_some_and(|used| used.request != hash) {
            return Err(Fault::Unprocessable(
                "This Idempotency-Key was used for another request: take a new one.".into(),
            ));
        }
        if let Some(answer) = used.and_then(|used| used.answer.as_ref()) {
            return replayed(answer, &request.origin());
        }
        let done = used.is_some_and(|used| !used.done.is_empty());
        let by = Arc::new(RequestKey { key: key.clone(), request: hash.clone(), repeated: done });
        let actor = request.context_mut().actor();
        request.context_mut().key = Some(by);
        // On its own: a client that hangs up leaves no change without its answer.
        let work = async move {
            let answer = inner.send(request).await;
            let answer = match answer {
                // What was ended the first time is gone: that is as it should be.
                Err(fault) if done && matches!(fault.kind(), Fault::NotFound { .. }) => accepted(),
                other => other,
            };
            if let Some(answer) = answer.as_ref().ok().and_then(kept) {
                let command = Command::KeepAnswer { key, request: hash, answer };
                if let Err(refusal) = self.engine.submit(command, actor).await {
                    warn!(%refusal, "an answer was not kept: it is made again when it is asked for again");
                }
            }
            drop(mine);
            answer
        };
        let answer = tokio::spawn(InRequest::new(current(), Box::pin(work))).await;
        let mut answer = answer.map_err(Fault::internal)?;
        if let Ok(response) = &mut answer
            && done
        {
            response.headers_mut().insert(&REPLAYED, HeaderValue::from_static("true"));
        }
        answer
    }

    /// The key is this request's until the mark is dropped.
    fn begin(self: &Arc<Self>, key: &Name) -> Result<Mark, Fault> {
        if !self.lock().insert(key.clone()) {
            return Err(Fault::Conflict("A request with this Idempotency-Key is being answered.".into()));
        }
        Ok(Mark { keys: self.clone(), key: key.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Name>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in flight.
struct Mark {
    keys: Arc<Keys>,
    key: Name,
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}

/// The key as this caller's in this project, and a hash of the request.
fn name(request: &Request) -> Result<(Name, Name), Fault> {
    let wrong = |problem: &str| Err(Fault::BadRequest(format!("The Idempotency-Key {problem}.")));
    let mut values = request.headers().get_all(&KEY).iter();
    let (Some(key), None) = (values.next(), values.next()) else { return wrong("must be there once") };
    if !key.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return wrong("must be of visible ASCII characters");
    }
    let Some(key) = unquoted(key.as_bytes()) else {
        return wrong("begins with a quote and is no string of RFC 9651");
    };
    if key.is_empty() || key.len() > KEY_MAX {
        return wrong("must have from 1 to 255 characters");
    }
    let caller = request.context();
    let caller = caller.known_caller()?;
    let body = request.body().bytes();
    let body = body.ok_or_else(|| Fault::internal("the pipeline has no sizelimit above idempotency"))?;
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let target = request.uri().path_and_query().map(|it| it.as_str()).unwrap_or_default();
    let key = hash(&[caller.user.as_bytes(), caller.project.as_bytes(), &key]);
    Ok((key, hash(&[target.as_bytes(), content_type.unwrap_or_default(), &body])))
}

/// The key that a field value stands for. The draft makes it a string of structured fields, `"k1"`; most clients
/// send the bare key. `None`: the string is malformed. Its parameters have no meaning.
/// Source: RFC 9651, §3.3.3.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(rest) = value.strip_prefix(b"\"") else { return Some(Cow::Borrowed(value)) };
    let (mut key, mut bytes) = (Vec::new(), rest.iter());
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => key.push(*bytes.next().filter(|byte| matches!(byte, b'"' | b'\\'))?),
            byte => key.push(*byte),
        }
    }
    let rest = bytes.as_slice();
    (rest.is_empty() || rest.starts_with(b";")).then_some(Cow::Owned(key))
}

/// One hash of several values, none of which can pass for a part of another.
fn hash(values: &[&[u8]]) -> Name {
    let mut hash = Sha256::new();
    for value in values {
        hash.update((value.len() as u64).to_be_bytes());
        hash.update(value);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// What of an answer is kept; `None`: it is too long, or says of itself that nobody shall.
fn kept(response: &Response) -> Option<KeptAnswer> {
    let secret = |value: &HeaderValue| value.to_str().is_ok_and(|it| it.contains("no-store"));
    if response.headers().get(header::CACHE_CONTROL).is_some_and(secret) {
        return None;
    }
    let body = response.body().bytes().filter(|body| body.len() <= BODY_MAX)?;
    let headers = KEPT.iter().filter_map(|name| {
        let value = response.headers().get(name)?.to_str().ok()?;
        Some((name.to_string(), value.to_owned()))
    });
    let headers = headers.collect();
    Some(KeptAnswer {
        status: response.status().as_u16(),
        headers,
        body: String::from_utf8(body.into()).ok()?,
    })
}

/// The first answer again, with links that begin as the repeated request called this service.
fn replayed(answer: &KeptAnswer, origin: &str) -> Result<Response, Fault> {
    let mut response = Response::new(Body::from(rebased_body(&answer.body, origin)));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(Fault::internal)?;
    for (name, value) in &answer.headers {
        let name = HeaderName::try_from(name).map_err(Fault::internal)?;
        let value = if name == header::LOCATION { rebased(value, origin) } else { Cow::Borrowed(&**value) };
        response.headers_mut().insert(name, HeaderValue::try_from(&*value).map_err(Fault::internal)?);
    }
    response.headers_mut().insert(&REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// A URL of this service with another origin. A path alone stays relative.
fn rebased<'a>(url: &'a str, origin: &str) -> Cow<'a, str> {
    let authority = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let Some(authority) = authority else { return Cow::Borrowed(url) };
    let path = authority.find(['/', '?', '"']).map_or("", |at| &authority[at..]);
    Cow::Owned(format!("{origin}{path}"))
}

/// JSON whose links, all of which lead to this service, have another origin. No string of a client can hold the mark
/// of a link: its quotes are escaped.
fn rebased_body(body: &str, origin: &str) -> String {
    const LINK: &str = "\"href\":\"";
    let mut links = body.split(LINK);
    let first = links.next().unwrap_or_default().to_owned();
    links.fold(first, |all, rest| all + LINK + &rebased(rest, origin))
}

/// 202: it is done, and how it was answered is lost.
fn accepted() -> Result<Response, Fault> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use pileus_model::{Time, UsedKey, View};
    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::filters::testing::{called, deps, over};

    fn post(key: &str, user: &str, project: &str, body: &'static str) -> Request {
        let mut request = called(Method::POST, "/v2/p/jobs", user, project);
        request.headers_mut().insert(&KEY, HeaderValue::from_str(key).unwrap());
        *request.body_mut() = Body::from(body);
        request
    }

    #[tokio::test]
    async fn one_request_at_a_time_has_a_key() {
        let (deps, ..) = deps();
        let gate = Arc::new(Semaphore::new(0));
        let waits = gate.clone();
        let stack = over(KIND, "", &deps, move |_| {
            let waits = waits.clone();
            async move {
                waits.acquire().await.unwrap().forget();
                Ok(Response::new(Body::Empty))
            }
        });
        let first = tokio::spawn(stack.send(post("k", "ada", "p", "1")));
        tokio::task::yield_now().await;
        let busy = stack.send(post("k", "ada", "p", "1")).await.unwrap_err();
        assert_eq!(busy.code().0, 409);
        // Of another caller, or another project, it is another key.
        gate.add_permits(3);
        for (user, project) in [("bob", "p"), ("ada", "q")] {
            assert!(stack.send(post("k", user, project, "1")).await.is_ok());
        }
        assert!(first.await.unwrap().is_ok());
        gate.add_permits(1);
        assert!(stack.send(post("k", "ada", "p", "1")).await.is_ok(), "the mark is gone with the request");
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_stops_nothing() {
        let (deps, ..) = deps();
        let done = Arc::new(Semaphore::new(0));
        let says = done.clone();
        let stack = over(KIND, "", &deps, move |_| {
            let says = says.clone();
            async move {
                tokio::task::yield_now().await;
                says.add_permits(1);
                Ok(Response::new(Body::Empty))
            }
        });
        let call = tokio::spawn(stack.send(post("k", "ada", "p", "1")));
        tokio::task::yield_now().await;
        call.abort();
        done.acquire().await.unwrap().forget();
    }

    #[tokio::test]
    async fn what_is_known_of_a_key_decides() {
        let (deps, clock, engine) = deps();
        let asked = Arc::new(AtomicU32::new(0));
        let counts = asked.clone();
        let stack = over(KIND, "", &deps, move |request: Request| {
            counts.fetch_add(1, Ordering::SeqCst);
            let gone = request.context().key.as_ref().is_some_and(|key| key.repeated);
            let gone = gone.then(|| Fault::NotFound { kind: "VM", id: "v".into() });
            async move { gone.map_or_else(|| Ok(Response::new(Body::from("made"))), Err) }
        });
        let (key, request) = name(&post("k", "ada", "p", "1")).unwrap();
        let since = clock.now();
        let knows = |done: bool, answer: Option<KeptAnswer>, since: Time| {
            let done = if done { vec![("c".into(), String::new())] } else { Vec::new() };
            let used = UsedKey { seq: 1, since, request: request.clone(), done, answer };
            let mut view = View::default();
            view.keys.insert(key.clone(), Arc::new(used));
            *engine.0.lock().unwrap() = Arc::new(view);
        };
        let kept =
            KeptAnswer { status: 201, headers: vec![("location".into(), "/x".into())], body: "first".into() };
        let old = Time(since.0 - 24 * 60 * 60 * 1000);
        // What is known, what is sent, status, body, whether it says so, whether it went down.
        let cases = [
            (false, Some(kept.clone()), since, "1", 201, "first", true, 0),
            (false, Some(kept.clone()), since, "2", 422, "", false, 0),
            (false, Some(kept), old, "2", 200, "made", false, 1),
            // A crash took the answer: the engine does nothing twice, and what is gone is gone.
            (true, None, since, "1", 202, "", true, 1),
            (true, None, since, "2", 422, "", false, 0),
            (false, None, since, "1", 200, "made", false, 1),
        ];
        for (done, answer, since, body, status, text, says, down) in cases {
            let what = format!("{done} {answer:?} {body}");
            knows(done, answer, since);
            asked.store(0, Ordering::SeqCst);
            let (found, said, got) = match stack.send(post("k", "ada", "p", body)).await {
                Ok(response) => {
                    let said = response.headers().contains_key(&REPLAYED);
                    (response.status(), said, response.body().bytes().unwrap())
                }
                Err(fault) => (fault.code().0, false, Default::default()),
            };
            assert_eq!((found.as_u16(), said, &got[..]), (status, says, text.as_bytes()), "{what}");
            assert_eq!(asked.load(Ordering::SeqCst), down, "{what}");
        }
    }

    #[tokio::test]
    async fn a_key_is_one_header_of_visible_characters() {
        let (deps, ..) = deps();
        let stack = over(KIND, "", &deps, crate::filters::testing::fine);
        let long = "x".repeat(256);
        let quoted = format!("\"{long}\"");
        for key in
            ["", &long, "a\tb", "\"", "\"\"", "\"k1", "\"k1\\\"", "\"k\\1\"", "\"k1\"x", "\"k1\" x", &quoted]
        {
            let fault = stack.send(post(key, "ada", "p", "1")).await.unwrap_err();
            assert_eq!(fault.code().0, 400, "{key}");
        }
        let longest = format!("\"{}\\\"\"", "x".repeat(254));
        assert!(stack.send(post(&longest, "ada", "p", "1")).await.is_ok(), "quotes and escapes do not count");
        let mut twice = post("a", "ada", "p", "1");
        twice.headers_mut().append(&KEY, HeaderValue::from_static("b"));
        assert_eq!(stack.send(twice).await.unwrap_err().code().0, 400);
        let mut get = post("", "ada", "p", "");
        *get.method_mut() = Method::GET;
        assert!(stack.send(get).await.is_ok(), "other methods know no key");
    }

    #[test]
    fn a_quoted_key_is_the_key() {
        let of = |key: &str| name(&post(key, "ada", "p", "1")).unwrap().0;
        for (one, other, same) in [
            ("k1", "\"k1\"", true),
            ("k1", "\"k1\";a=b", true),
            ("a \\ b", "\"a \\\\ b\"", true),
            ("a\"b", "\"a\\\"b\"", true),
            ("k1", "\"k2\"", false),
            ("k1", "'k1'", false),
            ("k1", "K1", false),
            ("k1;a=b", "\"k1\";a=b", false),
        ] {
            assert_eq!(of(one) == of(other), same, "{one} {other}");
        }
    }

    #[test]
    fn links_of_a_replayed_answer_begin_as_the_repeated_request_called() {
        let (old, new) = ("http://old.example:8774", "https://new.example");
        // Of the first answer; the same with another origin, and with none.
        let cases = [
            ("http://old.example:8774/v2/p/jobs/1", "https://new.example/v2/p/jobs/1", "/v2/p/jobs/1"),
            ("https://[::1]:80/a?b=http://c/", "https://new.example/a?b=http://c/", "/a?b=http://c/"),
            ("/v2/p/jobs/1", "/v2/p/jobs/1", "/v2/p/jobs/1"),
        ];
        for (location, moved, relative) in cases {
            let job = json!({"job": {
                "id": "1", "command": ["curl", location, format!("\"href\":\"{old}/x")],
                "links": [{"rel": "self", "href": location}, {"href": location}],
            }});
            let body = job.to_string();
            let kept = KeptAnswer {
                status: 202,
                headers: vec![("location".into(), location.into())],
                body: body.clone(),
            };
            for (origin, expected) in [(new, moved), ("", relative)] {
                let answer = replayed(&kept, origin).unwrap();
                assert_eq!(answer.headers()[header::LOCATION], expected);
                let mut told = job.clone();
                told["job"]["links"] = json!([{"rel": "self", "href": expected}, {"href": expected}]);
                let found: serde_json::Value =
                    serde_json::from_slice(&answer.body().bytes().unwrap()).unwrap();
                assert_eq!(found, told, "{location} {origin}");
            }
        }
        assert_eq!(rebased_body("", new), "");
    }

    #[test]
    fn secrets_are_not_kept() {
        let mut response = Response::new(Body::from("secret"));
        assert!(kept(&response).is_some());
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        assert!(kept(&response).is_none());
        assert!(kept(&Response::new(Body::from("x".repeat(BODY_MAX + 1)))).is_none());
    }
}
