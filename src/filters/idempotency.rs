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
mod tests;
