//! The edge: where hyper's request becomes ours, and a fault that nobody caught becomes a response.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, uri::Authority};
use http_body::Body as _;
use hyper::body::Incoming;
use pileus_model::BoxFuture;
use pileus_sdk::{Answer, Body, Connection, Context, Fault, Media, Peer, Request, Response, Stack, path};
use tokio::time::timeout;

use super::{
    glance::{Glance, drop_identity},
    guard::BusyGuard,
    http1::{HeadLimits, length_beside_coding},
    incoming::IncomingBody,
    target::{self, Odd},
};
use crate::{filters::request_id, paste::ServerSettings};

/// The connection that a request came on.
pub struct Line {
    /// Who is at the other end.
    pub peer: Peer,
    /// The address of our end, where it has one.
    pub local: Option<SocketAddr>,
    /// Whether it speaks TLS.
    pub secure: bool,
    /// The same for all requests on it.
    pub connection: Arc<Connection>,
}

impl Line {
    /// Facts of a connection with this peer, this local address, and with TLS or without.
    pub fn new(
        (peer, local, secure): (Peer, Option<SocketAddr>, bool),
        facts: Connection,
        client_cert: Option<String>,
    ) -> Self {
        // One for each connection: processors do not share its count.
        let connection = Arc::new(Connection { client_cert, ..facts });
        Self { peer, local, secure, connection }
    }
}

/// What hyper waits for. Most answers are there at once, and then it waits for nothing and costs neither
/// an allocation nor a timer.
pub enum Answered {
    /// There; `None` once it was taken.
    Now(Option<Response>),
    /// Awaited.
    Later(BoxFuture<Response>),
    /// None: the stream is reset, as RFC 9113 §8.1.1 wants it for a malformed request.
    Malformed,
}

impl Future for Answered {
    type Output = Result<Response, h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Now(response) => response.take().map_or(Poll::Pending, |it| Poll::Ready(Ok(it))),
            Self::Later(awaited) => awaited.as_mut().poll(cx).map(Ok),
            // hyper looks for this type, and takes the reason from it.
            Self::Malformed => Poll::Ready(Err(h2::Reason::PROTOCOL_ERROR.into())),
        }
    }
}

/// Answers one request: a fault that rose past every stage is written here. Fails for a malformed request of
/// HTTP/2 alone.
///
/// hyper, before it asks for an answer, makes room to read on: in the same buffer, if no request holds
/// bytes of it any more, else in a new one of some kilobytes. So what can be done is done before this
/// returns. Not so on HTTP/2, where this is called in the connection's task: there each request is
/// worked on in one of its own, which asks for the answer.
pub fn answer(
    request: http::Request<Incoming>,
    line: &Line,
    app: &Stack,
    settings: &ServerSettings,
    in_flight: BusyGuard,
) -> Answered {
    let http2 = request.version() == Version::HTTP_2;
    let (head, body) = request.into_parts();
    let glance = Glance::at(&head.headers);
    let body = if body.is_end_stream() {
        Body::Empty
    } else {
        let connection = (!http2).then(|| in_flight.connection().clone());
        Body::Stream(Box::pin(IncomingBody::new(body, glance.expects, connection)))
    };
    // Where it is looked at: it is large, and moved once.
    let mut request = Request::from_parts(head, body, Context::new(line.peer));
    if glance.claims_identity {
        drop_identity(request.headers_mut());
    }
    // What the client wrote counts, in which a segment may be longer than it is read.
    let length = request.uri().path_and_query().map_or(0, |it| it.as_str().len());
    let path_read = path::normalize(request.uri_mut());
    let uri = request.uri();
    let path = uri.path();
    let plain = !glance.chooses_media && !path.ends_with(".xml");
    let media = if plain { Media::Json } else { Media::wanted(path, request.headers()) };
    let reply = Reply { media, head: *request.method() == Method::HEAD, in_flight };
    let ordinary = glance.is_ordinary()
        && request.version() == Version::HTTP_11
        && uri.authority().is_none()
        && path.starts_with('/')
        && length <= settings.max_target_bytes.get() as usize;
    if !ordinary && let Some(refused) = unusual(&mut request, length, &glance, settings) {
        return refused.answered(reply, http2);
    }
    if let Err(fault) = path_read {
        return Answered::Now(Some(reply.write(Err(fault))));
    }
    let context = request.context_mut();
    (context.media, context.local, context.secure) = (media, line.local, line.secure);
    context.connection = Some(line.connection.clone());
    let limit = Duration::from_secs(settings.request_timeout_s.get().into());
    if http2 {
        return later(app.clone(), request, limit, reply);
    }
    match begin(app, request).ready() {
        Ok(answer) => Answered::Now(Some(reply.write(answer))),
        Err(awaited) => Answered::Later(Box::pin(in_time(awaited, limit, reply))),
    }
}

/// Returns the answer to a request that gets as far as no app.
#[cold]
pub fn refused(request: &http::Request<Incoming>, fault: Fault, in_flight: BusyGuard) -> Answered {
    let media = Media::wanted(request.uri().path(), request.headers());
    let reply = Reply { media, head: *request.method() == Method::HEAD, in_flight };
    Answered::Now(Some(reply.write(Err(fault))))
}

/// An answer that no pipeline gives.
enum Refused {
    /// A refusal, after which an HTTP/1 connection ends: bytes that follow may belong to no request.
    Fault(Fault),
    /// A request that HTTP/2 calls malformed.
    Malformed,
    /// The answer to `OPTIONS *`.
    Pong,
}

impl Refused {
    #[cold]
    fn answered(self, reply: Reply, http2: bool) -> Answered {
        let mut response = match self {
            Self::Malformed => return Answered::Malformed,
            Self::Pong => return Answered::Now(Some(reply.write(Ok(Response::new(Body::Empty))))),
            Self::Fault(fault) => reply.write(Err(fault)),
        };
        if !http2 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Answered::Now(Some(response))
    }
}

/// A request says which host it is for, once and clearly (RFC 9112, §3.2). One that does not may have been
/// understood by a proxy before as one for another host.
const HOST_ONCE: &str = "The header Host has to be there once, and to be the name or address of a host.";

/// A form that the method does not have, a scheme that is none of the Web, or a host that is none.
const WRONG_TARGET: &str = "The request's target has to be a path, or a URL of http or https without a user.";

/// Looks twice at a request that is not of the usual form: of another version than HTTP/1.1, with a host in its
/// target, or with header fields that may contradict each other. `length`: bytes of the target's path and query.
#[inline(never)]
fn unusual(
    request: &mut Request,
    mut length: usize,
    glance: &Glance,
    settings: &ServerSettings,
) -> Option<Refused> {
    let refused = |why: &str| Some(Refused::Fault(Fault::BadRequest(why.into())));
    let limits = HeadLimits::of(settings);
    let odd = if request.version() == Version::HTTP_2 {
        let odd = target::of_http2(request.head(), glance.hosts);
        if odd == Some(Odd::Wrong) {
            return Some(Refused::Malformed);
        }
        if request.headers().len() > limits.fields as usize {
            return Some(Refused::Fault(limits.header_too_large()));
        }
        odd
    } else {
        let hosts = if request.version() < Version::HTTP_11 { 0..=1 } else { 1..=1 };
        if !hosts.contains(&glance.hosts) {
            return refused(HOST_ONCE);
        }
        length += request.uri().authority().map_or(0, |host: &Authority| host.as_str().len());
        target::of_http1(request.head_mut())
    };
    if length > limits.target as usize {
        return Some(Refused::Fault(limits.target_too_long()));
    }
    match odd {
        Some(Odd::Wrong) => return refused(WRONG_TARGET),
        Some(Odd::Server) => return Some(Refused::Pong),
        None => {}
    }
    let headers = request.headers();
    let fault = if glance.coded { coding(headers) } else { None };
    fault.or_else(|| credentials(headers, glance)).map(Refused::Fault)
}

/// Refuses a body whose end is not clear (RFC 9112, §6.1 and §6.3), or that is coded in another way than in
/// chunks. hyper refuses a coding in HTTP/1.0, and one that does not end in `chunked`.
#[cold]
fn coding(headers: &HeaderMap) -> Option<Fault> {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings: Vec<&[u8]> = values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    let is_chunked = |coding: &&&[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if headers.contains_key(header::CONTENT_LENGTH) || length_beside_coding() {
        return Some(Fault::BadRequest(
            "A request has Content-Length or Transfer-Encoding, not both.".into(),
        ));
    }
    if codings.iter().filter(is_chunked).count() != 1 || codings.contains(&&b""[..]) {
        return Some(Fault::BadRequest("Transfer-Encoding has to name `chunked` once, at its end.".into()));
    }
    let other = codings.iter().find(|coding| !is_chunked(coding))?;
    let other = String::from_utf8_lossy(other);
    Some(Fault::NotImplemented(format!("The transfer coding `{other}` is not known here: `chunked` is.")))
}

/// Refuses credentials that contradict each other: two readers may take different ones.
fn credentials(headers: &HeaderMap, glance: &Glance) -> Option<Fault> {
    let mut said = headers.get_all(header::AUTHORIZATION).iter();
    let first = if glance.authorizations > 1 { said.next() } else { None };
    let name = if glance.tokens > 1 {
        "X-Auth-Token"
    } else if first.is_some_and(|first| said.any(|other| other != first)) {
        "Authorization"
    } else {
        return None;
    };
    Some(Fault::BadRequest(format!("The header {name} has to be there once.")))
}

/// The answer to a request that is worked on in a task of its own.
#[inline(never)]
fn later(app: Stack, request: Request, limit: Duration, reply: Reply) -> Answered {
    Answered::Later(Box::pin(async move {
        match begin(&app, request).ready() {
            Ok(answer) => reply.write(answer),
            Err(awaited) => in_time(awaited, limit, reply).await,
        }
    }))
}

/// An answer that has to be waited for, but not longer than `limit`.
async fn in_time(awaited: BoxFuture<Result<Response, Fault>>, limit: Duration, reply: Reply) -> Response {
    let answer = timeout(limit, awaited).await.unwrap_or_else(|_| {
        let reason = format!("The request was not answered within {} s.", limit.as_secs());
        Err(Fault::Unavailable { reason, retry_after: Duration::from_secs(1) })
    });
    reply.write(answer)
}

/// What an answer depends on beside its pipeline.
struct Reply {
    media: Media,
    /// `true` if the request was a `HEAD`.
    head: bool,
    in_flight: BusyGuard,
}

/// Largest body, in bytes, that hyper takes at once: with it, the answer is out of our hands.
const AT_ONCE: usize = 16 * 1024;

impl Reply {
    /// Makes the response that goes out. A connection whose answer is still on its way is not idle.
    fn write(self, answer: Result<Response, Fault>) -> Response {
        let Self { media, head, mut in_flight } = self;
        let mut response = answer.unwrap_or_else(|fault| request_id::named(fault, media));
        let status = response.status();
        in_flight.answered(status);
        forbid_caching(&mut response);
        let bare = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match response.body() {
            Body::Empty => {}
            _ if head || bare => leave_content_out(&mut response, bare),
            Body::Whole(bytes) if bytes.len() <= AT_ONCE => {}
            _ => {
                let stream = match std::mem::take(response.body_mut()) {
                    Body::Stream(stream) => stream,
                    body => Box::pin(body),
                };
                *response.body_mut() = Body::Stream(Box::pin(Held { stream, _guard: in_flight }));
            }
        }
        response
    }
}

/// Forbids caches to keep what says nothing of them. They may keep it otherwise, 404 and 405 included, and know
/// nothing of `X-Auth-Token` (RFC 9111, §3).
fn forbid_caching(response: &mut Response) {
    let stream = matches!(response.body(), Body::Stream(_));
    let headers = response.headers_mut();
    // To look at the few that there are costs less than to hash a name.
    if headers.keys().all(|name| *name != header::CACHE_CONTROL) {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    } else if stream {
        // `no-cache` alone lets a cache keep a stream, which has no tag to ask about it with.
        let said = headers.get_mut(header::CACHE_CONTROL).filter(|said| **said == "no-cache");
        if let Some(said) = said {
            *said = HeaderValue::from_static("no-cache, no-store");
        }
    }
}

/// Drops a body that may not be sent (RFC 9110, §9.3.2, §15.3.5 and §15.4.5). hyper does so on HTTP/1 alone. The
/// length stays, where a `GET` would have told it.
fn leave_content_out(response: &mut Response, bare: bool) {
    let length = std::mem::take(response.body_mut()).size_hint().exact();
    if let Some(length) = length.filter(|_| !bare) {
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
}

fn begin(app: &Stack, request: Request) -> Answer {
    if *request.method() == Method::CONNECT {
        // Any 2xx to it would promise a tunnel.
        return Answer::refused(Fault::MethodNotAllowed { method: Method::CONNECT, allow: String::new() });
    }
    app.send(request)
}

/// A body that keeps `guard` until it has ended.
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
