//! Documents that were written before: a thing is written anew when it has changed, not when it is
//! asked for.
//!
//! Clients that wait ask for the same thing again and again. What the engine publishes is never
//! changed in place: so long as the view holds the very same `Arc`, the document is the same.

use std::{fmt, hash::BuildHasher, sync::Arc};

use arc_swap::ArcSwapOption;
use bytes::Bytes;

use crate::{Call, Fault, Reply};

/// How many documents a memo keeps; of one that is looked for, there is one place where it may be.
const PLACES: usize = 1024;

/// Documents of things of one kind, each under the address at which it was asked for.
pub struct Memo<T> {
    places: Box<[ArcSwapOption<Written<T>>]>,
    hasher: foldhash::fast::RandomState,
}

struct Written<T> {
    /// Kept, so that no other thing can come to lie where it lies.
    of: Arc<T>,
    host: Box<[u8]>,
    secure: bool,
    path: Box<str>,
    bytes: Bytes,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        let places = (0..PLACES).map(|_| ArcSwapOption::empty()).collect();
        Self { places, hasher: foldhash::fast::RandomState::default() }
    }
}

impl<T> Memo<T> {
    /// The document of `of`: what `write` answers, which is 200 with JSON that depends on `of` and on
    /// the address in links, on nothing else. Whether the caller may see it was asked before.
    pub fn reply(
        &self,
        call: &Call,
        of: &Arc<T>,
        write: impl FnOnce() -> Result<Reply, Fault>,
    ) -> Result<Reply, Fault> {
        // Links of a request without a host depend on the address that it came to.
        let Some(host) = call.host().map(str::as_bytes) else { return write() };
        let (secure, path) = (call.secure(), call.path());
        // As many places as a hash has remainders: the index is always one of them.
        let place = self.hasher.hash_one((host, path)) as usize % PLACES;
        let Some(place) = self.places.get(place) else { return write() };
        if let Some(known) = &*place.load()
            && Arc::ptr_eq(&known.of, of)
            && *known.path == *path
            && *known.host == *host
            && known.secure == secure
        {
            return Ok(Reply::written(known.bytes.clone()));
        }
        let reply = write()?;
        if let Some(bytes) = reply.plain_json() {
            let written = Written { of: of.clone(), host: host.into(), secure, path: path.into(), bytes };
            place.store(Some(Arc::new(written)));
        }
        Ok(reply)
    }
}

impl<T> fmt::Debug for Memo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, StatusCode, header};

    use super::*;
    use crate::{Body, Request};

    fn call(host: &'static str, path: &str, secure: bool) -> Call {
        let mut request = Request::new(Body::Empty);
        *request.uri_mut() = path.parse().unwrap();
        request.headers_mut().insert(header::HOST, HeaderValue::from_static(host));
        request.context_mut().secure = secure;
        Call::new(request).unwrap()
    }

    #[test]
    fn a_document_is_written_anew_for_another_thing_or_another_address() {
        let memo = Memo::default();
        let (first, second) = (Arc::new(1), Arc::new(1));
        // Each row: what is shown, under which address, and whether it is written.
        let rows = [
            (&first, ("a", "/v2/p/x/1", false), true),
            (&first, ("a", "/v2/p/x/1", false), false),
            (&first, ("a", "/v2/p/x/1?y=z", false), false),
            (&first, ("b", "/v2/p/x/1", false), true),
            (&first, ("a", "/v2/q/x/1", false), true),
            (&first, ("a", "/v2/q/x/1", false), false),
            (&first, ("a", "/v2/q/x/1", true), true),
            (&second, ("a", "/v2/p/x/1", false), true),
            (&second, ("a", "/v2/p/x/1", false), false),
            (&first, ("a", "/v2/p/x/1", false), true),
        ];
        for (index, (of, (host, path, secure), written)) in rows.into_iter().enumerate() {
            let (call, mut wrote) = (call(host, path, secure), false);
            let document =
                serde_json::json!({ "of": **of, "host": host, "path": call.path(), "secure": secure });
            let reply = memo.reply(&call, of, || {
                wrote = true;
                Reply::ok(&document)
            });
            let response = reply.unwrap().into_response();
            assert_eq!(wrote, written, "row {index}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json", "row {index}");
            assert_eq!(response.body().bytes().unwrap(), document.to_string(), "row {index}");
        }
    }

    #[test]
    fn what_is_no_plain_document_is_not_kept() {
        let (memo, of) = (Memo::default(), Arc::new(()));
        let call = call("a", "/v2/p/x/1", false);
        let replies: [fn() -> Result<Reply, Fault>; 4] = [
            || Err(Fault::NoRoute),
            || Reply::text("{}"),
            || Reply::json(StatusCode::ACCEPTED, &()),
            || Reply::ok(&()).map(|reply| reply.header(header::LOCATION, "/")),
        ];
        for (index, reply) in replies.into_iter().enumerate() {
            for _ in 0..2 {
                let mut wrote = false;
                let _ = memo.reply(&call, &of, || {
                    wrote = true;
                    reply()
                });
                assert!(wrote, "reply {index}");
            }
        }
    }
}
