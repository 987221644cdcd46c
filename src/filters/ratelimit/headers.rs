//! `RateLimit-Policy` and `RateLimit`: what holds for a request, and what is left of it.
//!
//! Source: draft-ietf-httpapi-ratelimit-headers-09, "RateLimit header fields for HTTP": lists of
//! structured fields (RFC 9651), a member for each limit that held. `q` requests in `w` seconds; `r` are
//! left, and in `t` seconds all of them are again. `Retry-After` of a refusal may be sooner, and wins.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};
use pileus_sdk::{Fault, Response};

use super::limits::Limit;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What is told of one request.
#[derive(Debug, Default)]
pub(super) struct Told {
    policy: String,
    limit: String,
}

impl Told {
    /// Adds a limit that held.
    #[inline(never)]
    pub(super) fn add(&mut self, limit: &Limit, left: u64, full_ms: u64) {
        let comma = if self.policy.is_empty() { "" } else { ", " };
        let (name, seconds) = (&limit.name, limit.unit_ms / 1000);
        // Into a text: it cannot fail.
        write!(self.policy, "{comma}\"{name}\";q={};w={seconds}", limit.value).ok();
        write!(self.limit, "{comma}\"{name}\";r={left};t={}", full_ms.div_ceil(1000)).ok();
    }

    /// As headers have it; nothing, where nothing was added.
    pub(super) fn values(self) -> Option<Box<[HeaderValue; 2]>> {
        let value = |text: String| HeaderValue::try_from(text).ok().filter(|value| !value.is_empty());
        Some(Box::new([value(self.policy)?, value(self.limit)?]))
    }
}

/// Adds the fields to a response or a fault, beside those of other filters of this kind.
pub(super) fn added(
    answer: Result<Response, Fault>,
    [policy, limit]: [HeaderValue; 2],
) -> Result<Response, Fault> {
    match answer {
        Ok(mut response) => {
            response.headers_mut().append(POLICY, policy);
            response.headers_mut().append(LIMIT, limit);
            Ok(response)
        }
        Err(fault) => Err(fault.with_headers([(POLICY, policy), (LIMIT, limit)])),
    }
}
