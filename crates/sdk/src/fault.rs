//! Everything a filter or a controller may refuse with.
//!
//! The client reads `Display`; only the log sees a cause. Source of names and codes: Nova,
//! `nova/api/openstack/wsgi.py`, `Fault._fault_names`.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use pileus_model::Refusal;
use serde_json::{Value, json};

use crate::{Body, Media, Response, body::BoxError, media::xml_text};

/// Of faults in XML.
const XMLNS: &str = "http://docs.openstack.org/compute/api/v1.1";

/// A refusal, typed until the stage that turns it into a response.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// 400: what was sent makes no sense; the text says where.
    #[error("{0}")]
    BadRequest(String),
    /// 401: nobody is known to call.
    #[error("This request needs a valid token in the header X-Auth-Token.")]
    Unauthorized {
        /// The `WWW-Authenticate` header, where there is somebody to ask for a token.
        challenge: Option<String>,
    },
    /// 403: the caller is known, and may not.
    #[error("{0}")]
    Forbidden(String),
    /// 404: there is no such thing, or none that this caller may see. `kind` is a capitalised noun.
    #[error("{kind} {id} could not be found.")]
    NotFound {
        /// `Cloud`, `VM`, `Job`, …
        kind: &'static str,
        /// As the client named it.
        id: String,
    },
    /// 404: no route has this path.
    #[error("The resource could not be found.")]
    NoRoute,
    /// 405: the path has other methods.
    #[error("The method {method} is not allowed for this resource.")]
    MethodNotAllowed {
        /// What was sent.
        method: Method,
        /// What the path has: the `Allow` header.
        allow: String,
    },
    /// 408: the client took too long to send its request.
    #[error("The request took too long to arrive.")]
    Timeout,
    /// 409: not in this state.
    #[error("{0}")]
    Conflict(String),
    /// 412: it is not, or no more, what the client took it for.
    #[error("{0}")]
    PreconditionFailed(String),
    /// 413: the body is larger than `limit` bytes.
    #[error("Request is too large. At most {limit} bytes are accepted.")]
    TooLarge {
        /// In bytes.
        limit: u64,
    },
    /// 414: the request's target is longer than `limit` bytes.
    #[error("The request's target is too long. At most {limit} bytes are accepted.")]
    TargetTooLong {
        /// In bytes.
        limit: u32,
    },
    /// 431: the request has more header fields than `fields`, or they are larger than `bytes` together.
    #[error("The request's header is too large. At most {fields} fields and {bytes} bytes are accepted.")]
    HeaderTooLarge {
        /// Number of fields.
        fields: u32,
        /// Size of the whole head, in bytes.
        bytes: u32,
    },
    /// 415: a body of a type that this resource does not read.
    #[error("Unsupported Content-Type")]
    UnsupportedMediaType,
    /// 415: a body in a content coding. None is decoded, and `Accept-Encoding` says so.
    #[error("A request body is read without a content coding: Content-Encoding must be identity.")]
    UnsupportedCoding,
    /// 416: none of the bytes that the range wants exists.
    #[error("{0}")]
    RangeNotSatisfiable(String),
    /// 422: understood, and contrary to what was said before.
    #[error("{0}")]
    Unprocessable(String),
    /// 429: faster than the limit allows.
    #[error("This request was rate-limited.")]
    OverLimit {
        /// Which limit: `Only 10 POST request(s) can be made to * every minute.`
        details: String,
        /// When it is worth trying again.
        retry_after: Duration,
        /// The headers `RateLimit-Policy` and `RateLimit`, where clients are told.
        quota: Option<Box<[HeaderValue; 2]>>,
    },
    /// 501: named, and not there yet.
    #[error("{0}")]
    NotImplemented(String),
    /// 502: another service, which was needed for it, is not there or said no.
    #[error("{0}")]
    BadGateway(String),
    /// 503: not now.
    #[error("{reason}")]
    Unavailable {
        /// For the client.
        reason: String,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// 507: the disk is full; nothing was changed.
    #[error("{0}")]
    InsufficientStorage(String),
    /// 500: our mistake. The cause goes to the log alone.
    #[error("Unexpected error. Quote the request id when you report it.")]
    Internal(#[source] BoxError),
    /// A fault to whose response a stage on the way adds header fields.
    #[error("{}", .0.fault)]
    WithHeaders(Box<FaultHeaders>),
}

/// A fault, and header fields for its response beside its own.
#[derive(Debug)]
pub struct FaultHeaders {
    fault: Fault,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Fault {
    /// The status, and Nova's name for it. No `_` arm: a new variant has to choose here.
    pub fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "badRequest"),
            Self::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound { .. } | Self::NoRoute => (StatusCode::NOT_FOUND, "itemNotFound"),
            Self::MethodNotAllowed { .. } => (StatusCode::METHOD_NOT_ALLOWED, "badMethod"),
            Self::Timeout => (StatusCode::REQUEST_TIMEOUT, "computeFault"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflictingRequest"),
            Self::PreconditionFailed(_) => (StatusCode::PRECONDITION_FAILED, "computeFault"),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "overLimit"),
            Self::TargetTooLong { .. } => (StatusCode::URI_TOO_LONG, "computeFault"),
            Self::HeaderTooLarge { .. } => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "computeFault"),
            Self::UnsupportedMediaType | Self::UnsupportedCoding => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "badMediaType")
            }
            Self::RangeNotSatisfiable(_) => (StatusCode::RANGE_NOT_SATISFIABLE, "computeFault"),
            Self::Unprocessable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unprocessableEntity"),
            Self::OverLimit { .. } => (StatusCode::TOO_MANY_REQUESTS, "overLimit"),
            Self::NotImplemented(_) => (StatusCode::NOT_IMPLEMENTED, "notImplemented"),
            Self::BadGateway(_) => (StatusCode::BAD_GATEWAY, "computeFault"),
            Self::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, "serviceUnavailable"),
            Self::InsufficientStorage(_) => (StatusCode::INSUFFICIENT_STORAGE, "computeFault"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "computeFault"),
            Self::WithHeaders(it) => it.fault.code(),
        }
    }

    /// The fault with further header fields for its response, appended to those that it has.
    pub fn with_headers(self, more: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> Self {
        let (fault, mut headers) = self.split();
        headers.extend(more);
        Self::WithHeaders(Box::new(FaultHeaders { fault, headers }))
    }

    /// The fault itself, and the header fields that stages added to it.
    pub fn split(self) -> (Self, Vec<(HeaderName, HeaderValue)>) {
        match self {
            Self::WithHeaders(it) => (it.fault, it.headers),
            fault => (fault, Vec::new()),
        }
    }

    /// The fault itself, without the header fields that stages added to it.
    pub fn kind(&self) -> &Self {
        match self {
            Self::WithHeaders(it) => &it.fault,
            fault => fault,
        }
    }

    /// The same, to be changed in place.
    pub fn kind_mut(&mut self) -> &mut Self {
        match self {
            Self::WithHeaders(it) => &mut it.fault,
            fault => fault,
        }
    }

    /// A policy rule said no.
    #[cold]
    pub fn denied(rule: &str) -> Self {
        Self::Forbidden(format!("Policy doesn't allow {rule} to be performed."))
    }

    /// An internal fault from a text.
    #[cold]
    pub fn internal(cause: impl Into<BoxError>) -> Self {
        Self::Internal(cause.into())
    }

    /// What `Retry-After` says: whole seconds, rounded up.
    pub fn retry_after_s(&self) -> Option<u64> {
        match self.kind() {
            Self::OverLimit { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                Some(retry_after.as_millis().div_ceil(1000) as u64)
            }
            _ => None,
        }
    }

    /// The fault on the wire as Nova writes it: `{"itemNotFound": {"code": 404, "message": "…"}}`.
    pub fn to_json(&self) -> Value {
        let (status, name) = self.code();
        let mut inner = json!({ "code": status.as_u16(), "message": self.to_string() });
        if let Self::OverLimit { details, .. } = self.kind() {
            inner["details"] = json!(details);
        }
        if let Some(seconds) = self.retry_after_s() {
            inner["retryAfter"] = json!(seconds.to_string());
        }
        json!({ name: inner })
    }

    /// The same in XML, as Nova writes it: the element is the fault's name, without a declaration.
    /// A rate limit has its wait as an attribute, every other fault as a child.
    pub fn to_xml(&self) -> String {
        let (status, name) = self.code();
        let (mut attribute, mut children) = (String::new(), String::new());
        let retry_after = self.retry_after_s();
        if let Self::OverLimit { details, .. } = self.kind() {
            children = format!("<details>{}</details>", xml_text(details));
            attribute = retry_after.map(|seconds| format!(" retryAfter=\"{seconds}\"")).unwrap_or_default();
        } else if let Some(seconds) = retry_after {
            children = format!("<retryAfter>{seconds}</retryAfter>");
        }
        let (code, message) = (status.as_u16(), xml_text(&self.to_string()));
        format!(
            "<{name} code=\"{code}\"{attribute} xmlns=\"{XMLNS}\"><message>{message}</message>{children}</{name}>"
        )
    }

    /// The response in JSON, headers and all. Logs a cause: once, here, nowhere else.
    pub fn into_response(self) -> Response {
        self.into_response_as(Media::Json)
    }

    /// The response in the form that the client reads.
    pub fn into_response_as(self, media: Media) -> Response {
        if let Self::WithHeaders(it) = self {
            let FaultHeaders { fault, headers: more } = *it;
            let mut response = fault.into_response_as(media);
            for (name, value) in more {
                response.headers_mut().append(name, value);
            }
            return response;
        }
        if let Self::Internal(cause) = &self {
            tracing::error!(error = cause.as_ref(), "request failed");
        }
        if let Self::MethodNotAllowed { method: Method::OPTIONS, allow } = &self
            && allow.ends_with("OPTIONS")
            && let Ok(allow) = HeaderValue::from_str(allow)
        {
            // Not a refusal but the answer: this is what OPTIONS asks.
            let mut response = Response::new(Body::Empty);
            *response.status_mut() = StatusCode::NO_CONTENT;
            response.headers_mut().insert(header::ALLOW, allow);
            return response;
        }
        let text = match media {
            Media::Json => self.to_json().to_string(),
            Media::Xml => self.to_xml(),
        };
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = self.code().0;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media.content_type()));
        if let Self::OverLimit { quota: Some(quota), .. } = &self {
            let [policy, limit] = &**quota;
            headers.insert("ratelimit-policy", policy.clone());
            headers.insert("ratelimit", limit.clone());
        }
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::UnsupportedCoding = &self {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let extra = match &self {
            Self::MethodNotAllowed { allow, .. } => Some((header::ALLOW, allow)),
            Self::Unauthorized { challenge: Some(challenge) } => Some((header::WWW_AUTHENTICATE, challenge)),
            _ => None,
        };
        if let Some((name, value)) = extra
            && let Ok(value) = HeaderValue::from_str(value)
        {
            headers.insert(name, value);
        }
        response
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound { kind, id } => Self::NotFound { kind, id },
            Refusal::Conflict(text) => Self::Conflict(text),
            Refusal::Invalid { .. } => Self::BadRequest(refusal.to_string()),
            Refusal::Quota { .. } => Self::Forbidden(refusal.to_string()),
            Refusal::Elsewhere(text) => Self::BadGateway(text),
            Refusal::Full => Self::InsufficientStorage(refusal.to_string()),
            Refusal::Unavailable => {
                Self::Unavailable { reason: refusal.to_string(), retry_after: Duration::from_secs(5) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_with_headers_is_the_same_fault() {
        let faults: [fn() -> Fault; 4] = [
            || Fault::NoRoute,
            || Fault::MethodNotAllowed { method: Method::PUT, allow: "GET".into() },
            || Fault::Unavailable { reason: "not now".into(), retry_after: Duration::from_secs(5) },
            || Fault::OverLimit { details: "few".into(), retry_after: Duration::from_secs(5), quota: None },
        ];
        let header = |value| (HeaderName::from_static("ratelimit"), HeaderValue::from_static(value));
        for fault in faults {
            let twice = fault().with_headers([header("one")]).with_headers([header("two")]);
            assert_eq!((twice.code(), twice.to_string()), (fault().code(), fault().to_string()));
            assert_eq!(format!("{:?}", twice.kind()), format!("{:?}", fault()));
            for media in [Media::Json, Media::Xml] {
                let twice = fault().with_headers([header("one")]).with_headers([header("two")]);
                let (mut found, expected) = (twice.into_response_as(media), fault().into_response_as(media));
                let values: Vec<_> = found.headers().get_all("ratelimit").iter().cloned().collect();
                assert_eq!(values, ["one", "two"]);
                found.headers_mut().remove("ratelimit");
                assert_eq!((found.status(), found.headers()), (expected.status(), expected.headers()));
                assert_eq!(found.body().bytes(), expected.body().bytes());
            }
        }
    }

    #[test]
    fn faults_in_xml_are_novas_to_the_byte() {
        let xmlns = "xmlns=\"http://docs.openstack.org/compute/api/v1.1\"";
        let limited = Fault::OverLimit {
            details: "Only 1 GET request(s) can be made to * every minute.".into(),
            retry_after: Duration::from_millis(59_001),
            quota: None,
        };
        let closed = Fault::Unavailable { reason: "not now".into(), retry_after: Duration::from_secs(5) };
        let cases = [
            (
                Fault::BadRequest("scram".into()),
                format!("<badRequest code=\"400\" {xmlns}><message>scram</message></badRequest>"),
            ),
            (
                Fault::NotFound { kind: "Cloud", id: "<a> & \"b\"\u{1}".into() },
                format!(
                    "<itemNotFound code=\"404\" {xmlns}><message>Cloud &lt;a&gt; &amp; &quot;b&quot;\u{fffd} \
                     could not be found.</message></itemNotFound>"
                ),
            ),
            (
                limited,
                format!(
                    "<overLimit code=\"429\" retryAfter=\"60\" {xmlns}><message>This request was \
                     rate-limited.</message><details>Only 1 GET request(s) can be made to * every \
                     minute.</details></overLimit>"
                ),
            ),
            (
                closed,
                format!(
                    "<serviceUnavailable code=\"503\" {xmlns}><message>not now</message>\
                     <retryAfter>5</retryAfter></serviceUnavailable>"
                ),
            ),
        ];
        for (fault, expected) in cases {
            assert_eq!(fault.to_xml(), expected);
            let status = fault.code().0;
            let response = fault.into_response_as(Media::Xml);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/xml");
            assert_eq!(response.body().bytes().unwrap(), expected.as_bytes());
        }
    }
}
