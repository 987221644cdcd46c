//! `request_id`: gives every request a name of its own, and tells it on every response.
//!
//! Stands outermost. Sets [`Context::request_id`], `req-` and a random UUID, and puts it into both
//! headers of Nova on whatever comes up, unless a stage below did. A fault that comes up has met no
//! `faultwrap`: it becomes a response here, because the server above does not know the id. Where
//! `faultwrap` stands above instead, everything that comes up is a response that has the id.
//!
//! What a client sends never becomes the id: see [`is_id`]. Source: reference §3.7, "Request ids".

use std::{
    cell::RefCell,
    hash::{BuildHasher, Hasher, RandomState},
};

use http::{HeaderMap, HeaderName};
use pileus_sdk::{Fault, Filter, Media, RequestId, Response};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind {
    name: "request_id",
    capabilities: |_| Capabilities::NONE.provides(&[Fact::RequestId]),
    factory,
};

static COMPUTE: HeaderName = HeaderName::from_static("x-compute-request-id");
pub(super) static OPENSTACK: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// What a section with `factory = "request_id"` may say: nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {}

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let Config {} = section.parse()?;
    Ok(Filter::around(|inner, mut request| {
        let id = fresh();
        request.context_mut().request_id = id;
        let media = request.context().media;
        let mut answer = inner.send(request);
        if let Some(response) = answer.response_mut() {
            // Nearly always, and then nothing is moved.
            stamp(response.headers_mut(), &id);
            return answer;
        }
        answer.map(move |answer| {
            let mut response = answer.unwrap_or_else(|fault| into_response(fault, media, &id));
            stamp(response.headers_mut(), &id);
            Ok(response)
        })
    }))
}

/// The response that a fault is on the wire. What is logged of it names the request.
pub(super) fn into_response(fault: Fault, media: Media, id: &RequestId) -> Response {
    match fault.kind() {
        Fault::Internal(_) => {
            tracing::error_span!("fault", request.id = id.as_str()).in_scope(|| fault.into_response_as(media))
        }
        _ => fault.into_response_as(media),
    }
}

/// The same for a fault that no stage has met: it has no id yet, and gets one.
pub(crate) fn named(fault: Fault, media: Media) -> Response {
    let id = fresh();
    let mut response = into_response(fault, media, &id);
    stamp(response.headers_mut(), &id);
    response
}

/// Puts the id into both headers, unless they are there.
pub(super) fn stamp(headers: &mut HeaderMap, id: &RequestId) {
    let Some(value) = id.value() else { return };
    // Answers have a header or two: to look at all of them, once, costs less than to hash a name.
    let (mut compute, mut openstack) = (false, false);
    for name in headers.keys() {
        compute |= *name == COMPUTE;
        openstack |= *name == OPENSTACK;
    }
    if !compute {
        headers.append(COMPUTE.clone(), value.clone());
    }
    if !openstack {
        headers.append(OPENSTACK.clone(), value);
    }
}

/// Returns `true` if a client's `X-OpenStack-Request-Id` has the form of an id. It then names a whole train of
/// requests through several services; else it is ignored. For `trace` alone.
pub(super) fn is_id(id: &[u8]) -> bool {
    let Some(uuid) = id.strip_prefix(b"req-").filter(|uuid| uuid.len() == 36) else { return false };
    uuid.iter().enumerate().all(|(index, letter)| match index {
        8 | 13 | 18 | 23 => *letter == b'-',
        _ => letter.is_ascii_digit() || (b'a'..=b'f').contains(letter),
    })
}

/// `req-` and a new random UUID.
fn fresh() -> RequestId {
    let mut text = *b"req-00000000-0000-0000-0000-000000000000";
    let uuid = uuid::Builder::from_random_bytes(random()).into_uuid();
    uuid.hyphenated().encode_lower(&mut text[4..]);
    RequestId::new(text)
}

/// Random bytes, from a supply that each thread fetches for many requests at once: the system's own
/// source costs more than the rest of this stage.
fn random() -> [u8; 16] {
    struct Supply {
        bytes: [u8; 2048],
        left: usize,
    }
    impl Supply {
        #[cold]
        fn fill(&mut self) {
            if getrandom::fill(&mut self.bytes).is_err() {
                // An id is no secret. It has to differ from others, which the keys of hash maps do.
                for chunk in self.bytes.chunks_mut(8) {
                    chunk.copy_from_slice(&RandomState::new().build_hasher().finish().to_ne_bytes());
                }
            }
            self.left = self.bytes.len() / 16;
        }
    }
    thread_local! {
        static SUPPLY: RefCell<Supply> = const { RefCell::new(Supply { bytes: [0; 2048], left: 0 }) };
    }
    SUPPLY.with_borrow_mut(|supply| {
        if supply.left == 0 {
            supply.fill();
        }
        supply.left -= 1;
        let mut taken = [0; 16];
        taken.copy_from_slice(&supply.bytes[supply.left * 16..][..16]);
        taken
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::{Method, StatusCode};
    use pileus_sdk::{Body, Request};

    use super::*;
    use crate::filters::{
        faultwrap,
        testing::{build, deps, over, request},
    };

    fn ids(response: &Response) -> (&str, &str) {
        let text = |name: &HeaderName| response.headers().get(name).unwrap().to_str().unwrap();
        (text(&COMPUTE), text(&OPENSTACK))
    }

    #[test]
    fn ids_are_random_uuids_and_differ() {
        let ids: HashSet<String> = (0..1000).map(|_| fresh().as_str().to_owned()).collect();
        assert_eq!(ids.len(), 1000);
        for id in &ids {
            let uuid = uuid::Uuid::parse_str(id.strip_prefix("req-").unwrap()).unwrap();
            assert_eq!(uuid.get_version_num(), 4);
            assert_eq!(*id.to_lowercase(), **id);
        }
    }

    #[tokio::test]
    async fn every_response_and_fault_has_both_headers() {
        let (deps, ..) = deps();
        let echo = |mut request: Request| async move {
            let id = request.context_mut().request_id.as_str().to_owned();
            match request.uri().path() {
                "/fault" => Err(Fault::Conflict(id)),
                "/panic" => Err(Fault::internal(id)),
                _ => Ok(Response::new(Body::from(id))),
            }
        };
        let alone = over(KIND, "", &deps, echo);
        let wrap = build(faultwrap::KIND, "", &deps).unwrap();
        let inside = build(KIND, "", &deps).unwrap().over(wrap.over(pileus_sdk::Stack::from_fn(echo)));
        let outside = wrap.over(alone.clone());
        for (stack, what) in [(alone, "alone"), (inside, "above faultwrap"), (outside, "below faultwrap")] {
            for (path, status) in [("/", 200), ("/fault", 409), ("/panic", 500)] {
                let foreign = "req-00000000-0000-4000-8000-000000000000";
                let sent = request(Method::GET, path, &[("x-openstack-request-id", foreign)]);
                let response = stack.send(sent).await.unwrap();
                assert_eq!(response.status(), StatusCode::from_u16(status).unwrap(), "{what} {path}");
                let (compute, openstack) = ids(&response);
                assert_eq!(compute, openstack, "{what} {path}");
                assert_ne!(compute, foreign, "{what} {path}");
                let body = String::from_utf8(response.body().bytes().unwrap().to_vec()).unwrap();
                assert_eq!(body.contains(compute), path != "/panic", "{what} {path}: {body}");
            }
        }
    }

    #[tokio::test]
    async fn an_id_that_is_there_stays() {
        let (deps, ..) = deps();
        let stack = over(KIND, "", &deps, |_| async {
            let response = http::Response::builder().header(&COMPUTE, "req-mine").body(Body::Empty);
            Ok(response.unwrap())
        });
        let response = stack.send(request(Method::GET, "/", &[])).await.unwrap();
        assert_eq!(ids(&response).0, "req-mine");
        assert_ne!(ids(&response).1, "req-mine");
    }

    #[test]
    fn a_global_id_has_a_form() {
        let good = "req-0a1b2c3d-0000-4000-8000-abcdefabcdef";
        let cases = [
            (good.to_owned(), true),
            (good.to_uppercase(), false),
            (good.replace("req-", ""), false),
            (format!("{good}0"), false),
            (good.replace('a', "g"), false),
            (good.replacen('-', "0", 2), false),
            (format!("{good} "), true), // HTTP takes blanks away
            ("req-".to_owned(), false),
            (String::new(), false),
        ];
        for (sent, kept) in cases {
            let sent = sent.trim();
            let request = request(Method::GET, "/", &[("X-OpenStack-Request-Id", sent)]);
            assert_eq!(is_id(request.headers()[&OPENSTACK].as_bytes()), kept, "{sent}");
        }
    }

    #[test]
    fn it_takes_no_settings() {
        let (deps, ..) = deps();
        assert!(build(KIND, "header = 'x'", &deps).is_err());
    }
}
