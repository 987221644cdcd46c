//! Preconditions of requests and entity tags of answers, for the filters `conditional` and `compress`.
//!
//! Each content coding of an answer is a representation with a strong tag of its own: that of gzip is the plain one's
//! with `-gzip` at its end.
//! Source: RFC 9110 §8.8.3, §13, §15.4.5.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pileus_sdk::{Body, Fault, Response};
use sha2::{Digest as _, Sha256};

/// The fault of a precondition that does not hold.
pub(in crate::filters) fn failed() -> Fault {
    Fault::PreconditionFailed("It is not what the conditions of the request took it for.".into())
}

/// The tag that an answer has, or one of its body. `None` for a stream without one.
pub(in crate::filters) fn tag(response: &Response) -> Option<HeaderValue> {
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

/// The tag of the same answer in gzip. `None` for a weak tag, which holds for all codings.
pub(in crate::filters) fn of_gzip(tag: &HeaderValue) -> Option<HeaderValue> {
    let inner = tag.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?;
    HeaderValue::try_from(format!("\"{inner}-gzip\"")).ok()
}

/// `true` if a stage below chose the answer's content coding, or left it plain, by what the client accepts.
pub(in crate::filters) fn varies_by_coding(response: &Response) -> bool {
    let values = response.headers().get_all(header::VARY).iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case("accept-encoding"))
}

/// The state in which a request is meant.
pub(in crate::filters) struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

enum Tags {
    Any,
    /// With their `W/`, if they are weak.
    These(Vec<String>),
}

impl Preconditions {
    /// Reads them. `None` where there is none.
    pub(in crate::filters) fn of(headers: &HeaderMap) -> Option<Self> {
        let if_match = Tags::of(headers, &header::IF_MATCH);
        let if_none_match = Tags::of(headers, &header::IF_NONE_MATCH);
        (if_match.is_some() || if_none_match.is_some()).then_some(Self { if_match, if_none_match })
    }

    /// Takes them out of the headers, so that no stage below applies them.
    pub(in crate::filters) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let found = Self::of(headers)?;
        headers.remove(header::IF_MATCH);
        headers.remove(header::IF_NONE_MATCH);
        Some(found)
    }

    /// `true` if a target with these current tags may be changed. Without a tag there is no such target.
    pub(in crate::filters) fn allow_change(&self, tags: &[HeaderValue]) -> bool {
        let name = |wanted: &Tags, strongly| tags.iter().any(|tag| wanted.name(tag, strongly));
        self.if_match.as_ref().is_none_or(|wanted| name(wanted, true))
            && self.if_none_match.as_ref().is_none_or(|wanted| !name(wanted, false))
    }

    /// Applies them to the final answer to a `GET` or `HEAD`: 304 without content, or 412. A 304 keeps all headers
    /// that are not of the content, as a cache updates its copy with them.
    pub(in crate::filters) fn apply(&self, mut response: Response) -> Result<Response, Fault> {
        let Some(tag) = response.headers().get(header::ETAG).filter(|_| response.status() == StatusCode::OK)
        else {
            return Ok(response);
        };
        if self.if_match.as_ref().is_some_and(|wanted| !wanted.name(tag, true)) {
            return Err(failed());
        }
        if self.if_none_match.as_ref().is_some_and(|wanted| wanted.name(tag, false)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::Empty;
            for of_the_content in [
                header::CONTENT_TYPE,
                header::CONTENT_LENGTH,
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_RANGE,
            ] {
                response.headers_mut().remove(of_the_content);
            }
        }
        Ok(response)
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

    /// `true` if the tag is among them; strongly: both name the very same bytes.
    fn name(&self, tag: &HeaderValue, strongly: bool) -> bool {
        let tag = tag.to_str().unwrap_or_default();
        let bare = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        match self {
            Self::Any => true,
            Self::These(tags) if strongly => !tag.starts_with("W/") && tags.iter().any(|it| it == tag),
            Self::These(tags) => tags.iter().any(|it| bare(it) == bare(tag)),
        }
    }
}
