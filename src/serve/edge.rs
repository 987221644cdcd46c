//! The edge: where hyper's request becomes ours, and a fault that nobody caught becomes a response.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, Method, Version, header};
use hyper::body::{Body as _, Incoming};
use pileus_model::BoxFuture;
use pileus_sdk::{Answer, Body, Context, Draining, Fault, Media, Peer, Request, Response, Stack, path};
use tokio::time::timeout;

use super::guard::BusyGuard;
use crate::filters::request_id;

/// Headers that say who calls. Whatever a client sends in them is dropped, under every spelling
/// (`X-User-Id`, `x_user_id`): who calls is a typed value in the request.
///
/// Families rather than names, so that one which a later Keystone adds is dropped as well.
/// `x-service-token` is a secret to be checked, not a claim.
const IDENTITY: [&str; 11] = [
    "openstack-system-scope",
    "x-domain-",
    "x-identity-",
    "x-is-admin",
    "x-project-",
    "x-role",
    "x-service-",
    "x-system-scope",
    "x-tenant",
    "x-trust-",
    "x-user",
];

/// The connection that a request came on.
pub struct Line {
    /// Who is at the other end.
    pub peer: Peer,
    /// The address of our end, where it has one.
    pub local: Option<SocketAddr>,
    /// Whether it speaks TLS.
    pub secure: bool,
    /// Tells when the server drains.
    pub draining: Arc<Draining>,
}

/// What hyper waits for. Most answers are there at once, and then it waits for nothing and costs neither
/// an allocation nor a timer.
pub enum Answered {
    /// There; `None` once it was taken.
    Now(Option<Response>),
    /// Awaited.
    Later(BoxFuture<Response>),
}

impl Future for Answered {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Now(response) => response.take().map_or(Poll::Pending, |it| Poll::Ready(Ok(it))),
            Self::Later(awaited) => awaited.as_mut().poll(cx).map(Ok),
        }
    }
}

/// Answers one request. Never fails: a fault that rose past every stage is written here.
///
/// hyper, before it asks for an answer, makes room to read on: in the same buffer, if no request holds
/// bytes of it any more, else in a new one of some kilobytes. So what can be done is done before this
/// returns. Not so on HTTP/2, where this is called in the connection's task: there each request is
/// worked on in one of its own, which asks for the answer.
pub fn answer(
    request: http::Request<Incoming>,
    line: &Line,
    app: &Stack,
    limit: Duration,
    in_flight: BusyGuard,
) -> Answered {
    let http2 = request.version() == Version::HTTP_2;
    let (head, body) = request.into_parts();
    let body = if body.is_end_stream() { Body::Empty } else { Body::Stream(Box::pin(Lent(body))) };
    // Where it is looked at: it is large, and moved once.
    let mut request = Request::from_parts(head, body, Context::new(line.peer));
    let glance = Glance::at(request.headers());
    if glance.claims_identity {
        drop_identity(request.headers_mut());
    }
    let path_read = path::normalize(request.uri_mut());
    let path = request.uri().path();
    let plain = !glance.chooses_media && !path.ends_with(".xml");
    let media = if plain { Media::Json } else { Media::wanted(path, request.headers()) };
    // HTTP/2 says it in the target, and hyper has seen to that.
    let hosts = if request.version() < Version::HTTP_11 { 0..=1 } else { 1..=1 };
    if !http2 && !hosts.contains(&glance.hosts) {
        let refused = Err(Fault::BadRequest(HOST_ONCE.into()));
        return Answered::Now(Some(written(refused, media, in_flight)));
    }
    if let Err(fault) = path_read {
        return Answered::Now(Some(written(Err(fault), media, in_flight)));
    }
    let context = request.context_mut();
    (context.media, context.local, context.secure) = (media, line.local, line.secure);
    context.draining = Some(line.draining.clone());
    if http2 {
        return later(app.clone(), request, limit, media, in_flight);
    }
    match begin(app, request).ready() {
        Ok(answer) => Answered::Now(Some(written(answer, media, in_flight))),
        Err(awaited) => in_time(awaited, limit, media, in_flight),
    }
}

/// The answer to a request that gets as far as no app.
#[cold]
pub fn refused(request: &http::Request<Incoming>, fault: Fault, in_flight: BusyGuard) -> Answered {
    let media = Media::wanted(request.uri().path(), request.headers());
    Answered::Now(Some(written(Err(fault), media, in_flight)))
}

/// The answer to a request that is worked on in a task of its own.
#[inline(never)]
fn later(app: Stack, request: Request, limit: Duration, media: Media, in_flight: BusyGuard) -> Answered {
    Answered::Later(Box::pin(async move {
        match begin(&app, request).ready() {
            Ok(answer) => written(answer, media, in_flight),
            Err(awaited) => {
                in_time(awaited, limit, media, in_flight).await.unwrap_or_else(|never| match never {})
            }
        }
    }))
}

/// An answer that has to be waited for, but not longer than `limit`.
#[inline(never)]
fn in_time(
    awaited: BoxFuture<Result<Response, Fault>>,
    limit: Duration,
    media: Media,
    in_flight: BusyGuard,
) -> Answered {
    Answered::Later(Box::pin(async move {
        let answer = timeout(limit, awaited).await.unwrap_or_else(|_| {
            let reason = format!("The request was not answered within {} s.", limit.as_secs());
            Err(Fault::Unavailable { reason, retry_after: Duration::from_secs(1) })
        });
        written(answer, media, in_flight)
    }))
}

/// As it goes out. A connection whose answer is still on its way is not idle.
fn written(answer: Result<Response, Fault>, media: Media, mut in_flight: BusyGuard) -> Response {
    let mut response = answer.unwrap_or_else(|fault| request_id::named(fault, media));
    in_flight.answered(response.status());
    if matches!(response.body(), Body::Stream(_)) {
        let body = std::mem::take(response.body_mut());
        *response.body_mut() = hold(body, in_flight);
    }
    response
}

fn begin(app: &Stack, request: Request) -> Answer {
    if *request.method() == Method::CONNECT {
        // Any 2xx to it would promise a tunnel.
        return Answer::refused(Fault::MethodNotAllowed { method: Method::CONNECT, allow: String::new() });
    }
    app.send(request)
}

/// Bytes that may stand in the name or address of a host, and before its port.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        plain[byte] = it.is_ascii_graphic()
            && !matches!(it, b'/' | b'\\' | b'@' | b',' | b'?' | b'#' | b'"' | b'<' | b'>');
        byte += 1;
    }
    plain
};

/// A request says which host it is for, once and clearly (RFC 9112, §3.2): who does not may have been
/// understood by somebody before us as one for another host.
const HOST_ONCE: &str = "The header Host has to be there once, and to be the name or address of a host.";

/// What one pass over a request's headers tells of them. They are few: to look for one by its hash costs
/// as much as to look at all.
#[derive(Debug, Default)]
struct Glance {
    claims_identity: bool,
    /// Two or more, where there is one that is none.
    hosts: usize,
    /// `Accept` says something else than what everybody gets.
    chooses_media: bool,
}

impl Glance {
    fn at(headers: &HeaderMap) -> Self {
        let mut glance = Self::default();
        for (name, value) in headers {
            if *name == header::HOST {
                let plain = value.as_bytes().iter().all(|byte| PLAIN[usize::from(*byte)]);
                glance.hosts += if plain { 1 } else { 2 };
            } else if *name == header::ACCEPT {
                glance.chooses_media |= !Media::is_everybodys(value);
            } else {
                glance.claims_identity |= claims_identity(name);
            }
        }
        glance
    }
}

/// Removes every header that claims an identity.
#[cold]
pub fn drop_identity(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| claims_identity(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Names are lower-case here. Nearly all requests have none of these: look at two letters first.
fn claims_identity(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes() {
        [b'x', _, b'd' | b'i' | b'p' | b'r' | b's' | b't' | b'u', ..] | [b'o', b'p', ..] => is_identity(name),
        _ => false,
    }
}

fn is_identity(name: &str) -> bool {
    let same = |family: &str| {
        name.len() >= family.len()
            && name.bytes().zip(family.bytes()).all(|(a, b)| if a == b'_' { b == b'-' } else { a == b })
    };
    IDENTITY.iter().any(|family| same(family)) && name.replace('_', "-") != "x-service-token"
}

/// Keeps `guard` until a streamed body has ended; else lets go of it at once.
fn hold<G: Send + Unpin + 'static>(body: Body, guard: G) -> Body {
    match body {
        Body::Stream(stream) => Body::Stream(Box::pin(Held { stream, _guard: guard })),
        body => body,
    }
}

struct Held<G> {
    stream: pileus_sdk::body::Stream,
    _guard: G,
}

impl<G: Unpin> http_body::Body for Held<G> {
    type Data = bytes::Bytes;
    type Error = pileus_sdk::body::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        self.stream.as_mut().poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.stream.size_hint()
    }
}

/// hyper's body, with its error behind a box.
struct Lent(Incoming);

impl http_body::Body for Lent {
    type Data = bytes::Bytes;
    type Error = pileus_sdk::body::BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_letters_leave_no_family_out() {
        for family in IDENTITY {
            let name: HeaderName = format!("{family}-a").parse().unwrap();
            assert!(claims_identity(&name), "{family}");
        }
    }

    #[test]
    fn identity_headers_are_dropped_in_every_spelling_and_nothing_else_is() {
        let cases = [
            ("X-User-Id", true),
            ("x_user_id", true),
            ("X-Roles", true),
            ("X-Role", true),
            ("x_roles", true),
            ("X-Tenant", true),
            ("X-Tenant_Name", true),
            ("X-Project-Id", true),
            ("X-Identity-Status", true),
            ("X-Service-Roles", true),
            ("X-Is-Admin-Project", true),
            ("OpenStack-System-Scope", true),
            ("openstack_system_scope", true),
            ("X-Domain-Name", true),
            ("X-Service-Token", false),
            ("x_service_token", false),
            ("X-Auth-Token", false),
            ("X-Openstack-Request-Id", false),
            ("X-Forwarded-For", false),
            ("Origin", false),
            ("Host", false),
        ];
        for (name, dropped) in cases {
            let mut headers = HeaderMap::new();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name.clone(), "a".parse().unwrap());
            headers.append(name.clone(), "b".parse().unwrap());
            drop_identity(&mut headers);
            assert_eq!(headers.is_empty(), dropped, "{name}");
        }
    }
}
