//! `compress`: answers in gzip for clients that take it.
//!
//! Takes whole bodies of some length alone: a stream (events, a job's output) is wanted as it comes, and
//! gzip makes small bodies larger. Images and archives are compressed already. What is compressed is
//! another representation: `Vary` says what it hangs on, a strong `ETag` ends in `-gzip`.
//!
//! Stands above `faultwrap`, so that faults are compressed too. With `conditional` below, the answer gets its final
//! tag here; so the conditions of a `GET` are applied here, and what the client has already is not compressed. With
//! `conditional` above, that filter sees the final answer. In one piece, with `Content-Length`; `tower_http::compression` would make a stream of it, needs four crates more,
//! and turns an answer into a 406 after the work is done.
//! Source: RFC 9110 §8.4, §8.8.3.3, §12.5.3.

use std::{io::Write as _, num::NonZeroU32};

use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use pileus_sdk::{Body, Filter, Response, media::quality};
use serde::Deserialize;

use super::conditional::preconditions::{self, Preconditions};
use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind { name: "compress", capabilities: |_| Capabilities::NONE, factory };

/// What a section with `factory = "compress"` may say.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The shortest body that is compressed, in bytes.
    #[serde(default = "default_min_bytes")]
    pub min_bytes: NonZeroU32,
    /// From 1, fast, to 9, small.
    #[serde(default = "default_level")]
    pub level: NonZeroU32,
}

const fn default_min_bytes() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(1023)
}

const fn default_level() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let config: Config = section.parse()?;
    if config.level.get() > 9 {
        return Err(section.wrong("level", format!("expected a level from 1 to 9, found `{}`", config.level)));
    }
    Ok(Filter::around(move |inner, mut request| {
        let wanted = wanted(request.headers());
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let conditions = if reads { Preconditions::take(request.headers_mut()) } else { None };
        inner.send(request).map(move |answer| {
            let mut response = answer?;
            let may = may(&response, config.min_bytes.get());
            if may {
                response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
            }
            if may && wanted {
                retag(response.headers_mut());
            }
            if let Some(conditions) = conditions {
                response = conditions.apply(response)?;
            }
            if may && wanted && response.status() != StatusCode::NOT_MODIFIED {
                compress(&mut response, config.level.get());
            }
            Ok(response)
        })
    }))
}

/// Gives a strong tag the form of this coding's.
fn retag(headers: &mut HeaderMap) {
    if let Some(tag) = headers.get(header::ETAG).and_then(preconditions::of_gzip) {
        headers.insert(header::ETAG, tag);
    }
}

/// Whether the client takes gzip at least as gladly as what is not compressed.
fn wanted(headers: &HeaderMap) -> bool {
    let gzip = quality(headers, &header::ACCEPT_ENCODING, "gzip").unwrap_or(0);
    // Not named, it is always taken, but only where nothing else is.
    let plain = quality(headers, &header::ACCEPT_ENCODING, "identity");
    gzip > 0 && plain.is_none_or(|plain| gzip >= plain)
}

/// Whether a response gains by it.
fn may(response: &Response, min_bytes: u32) -> bool {
    let headers = response.headers();
    let media = headers.get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let dense = ["image/", "audio/", "video/", "application/zip", "application/gzip", "application/x-"];
    let no_transform = headers.get_all(header::CACHE_CONTROL).iter();
    let no_transform = no_transform.filter_map(|it| it.to_str().ok()).any(|it| it.contains("no-transform"));
    let Body::Whole(bytes) = response.body() else { return false };
    bytes.len() >= min_bytes as usize
        && response.status() != StatusCode::PARTIAL_CONTENT
        && !headers.contains_key(header::CONTENT_ENCODING)
        && !headers.contains_key(header::CONTENT_RANGE)
        && !no_transform
        && (media.starts_with("image/svg") || !dense.iter().any(|dense| media.starts_with(dense)))
}

fn compress(response: &mut Response, level: u32) {
    let Some(plain) = response.body().bytes() else { return };
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::new(level));
    // Into memory: it cannot fail. What does not become smaller goes out in gzip all the same: the tag says so, and
    // a 304 has to say it without compressing.
    let Ok(packed) = encoder.write_all(&plain).and_then(|()| encoder.finish()) else { return };
    *response.body_mut() = Body::from(packed);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use pileus_sdk::{Fault, Request, body::pieces};

    use super::*;
    use crate::filters::testing::{build, deps, over, request};

    /// `/TYPE/SUBTYPE/LENGTH`, with an ETag.
    async fn app(request: Request) -> Result<Response, Fault> {
        let path = request.uri().path();
        let (media, length) = path[1..].rsplit_once('/').unwrap();
        let body = match length {
            "stream" => {
                Body::Stream(pieces(Some("x".repeat(5000)), |text| async move { Some((text?, None)) }))
            }
            length => Body::from("x".repeat(length.parse().unwrap())),
        };
        let response = http::Response::builder().header("content-type", media).header("etag", "\"a\"");
        Ok(response.body(body).unwrap())
    }

    #[tokio::test]
    async fn long_bodies_are_compressed_for_who_wants_it() {
        let (deps, ..) = deps();
        let stack = over(KIND, "min_bytes = 100", &deps, app);
        let json = "/application/json/5000";
        let cases = [
            // path, Accept-Encoding, compressed, Vary
            (json, "gzip", true, true),
            (json, "br, GZIP;q=0.5", true, true),
            (json, "*", true, true),
            (json, "gzip;q=0.5, identity", false, true),
            (json, "gzip, identity", true, true),
            (json, "gzip;q=0", false, true),
            (json, "gzip;q=0, identity;q=0", false, true),
            (json, "br", false, true),
            (json, "", false, true),
            ("/application/json/100", "gzip", true, true),
            ("/application/json/99", "gzip", false, false),
            ("/application/json/0", "gzip", false, false),
            ("/image/png/5000", "gzip", false, false),
            ("/image/svg+xml/5000", "gzip", true, true),
            ("/text/event-stream/stream", "gzip", false, false),
            ("/text/plain/stream", "gzip", false, false),
        ];
        for (path, accept, compressed, varies) in cases {
            let sent = request(Method::GET, path, &[("accept-encoding", accept)]);
            let response = stack.send(sent).await.unwrap();
            let headers = response.headers();
            assert_eq!(headers.contains_key("content-encoding"), compressed, "{path} {accept}");
            assert_eq!(headers.contains_key("vary"), varies, "{path} {accept}");
            assert_eq!(headers["etag"], if compressed { "\"a-gzip\"" } else { "\"a\"" }, "{path} {accept}");
            if compressed {
                let bytes = response.body().bytes().unwrap();
                let mut text = String::new();
                flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
                assert!(text.len() > bytes.len() && text.bytes().all(|byte| byte == b'x'), "{path}");
            }
        }
        assert!(
            !stack
                .send(request(Method::GET, json, &[]))
                .await
                .unwrap()
                .headers()
                .contains_key("content-encoding")
        );
    }

    #[test]
    fn settings() {
        let (deps, ..) = deps();
        assert!(build(KIND, "", &deps).is_ok());
        for wrong in ["min_bytes = 0", "level = 0", "level = 10", "min = 5"] {
            assert!(build(KIND, wrong, &deps).is_err(), "{wrong}");
        }
    }
}
