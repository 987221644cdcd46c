//! A request on its way down the stages, and the response on its way up.

use std::{fmt, net::SocketAddr};

use http::{Extensions, HeaderMap, Method, Uri, Version, header, request::Parts};

use crate::{Body, Context};

/// A reply on its way up.
pub type Response = http::Response<Body>;

/// A request on its way down: what came over the wire, and what is known of it beside that.
///
/// All but the body is behind one allocation, because it is handed from stage to stage, and because what
/// is known of it would need three in [`Extensions`] and a search whenever it is looked at.
pub struct Request {
    pub(crate) top: Box<Top>,
    body: Body,
}

/// What stands above a request's body.
pub(crate) struct Top {
    pub(crate) head: Parts,
    pub(crate) context: Context,
}

impl Top {
    /// Returns the host and port that the client called, as the client wrote them. The target's authority
    /// comes first, then the header `Host` (RFC 9112, §3.2.2).
    pub(crate) fn host(&self) -> Option<&str> {
        match self.head.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            // Among a few names it is found sooner than hashed.
            None => {
                let host = self.head.headers.iter().find(|(name, _)| *name == header::HOST);
                host.and_then(|(_, host)| host.to_str().ok())
            }
        }
    }

    /// Returns `http://host:port` as the client called the server. A request without a host (HTTP/1.0) gets
    /// the listener's address; empty where there is none, so that links are relative.
    ///
    /// The scheme is that of [`Context::secure`]: the target's is the client's claim.
    pub(crate) fn origin(&self) -> String {
        let mut origin = String::with_capacity(128);
        // A link does not repeat user information before `@`.
        let host = self.host().map(|host| host.rsplit('@').next().unwrap_or_default());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte);
        let scheme = if self.context.secure { "https://" } else { "http://" };
        match host.filter(|host| !host.is_empty()) {
            Some(host) if host.bytes().all(plain) => {
                origin.push_str(scheme);
                origin.push_str(host);
            }
            Some(_) => {}
            None => {
                if let Some(local) = self.context.local {
                    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
                    origin.push_str(scheme);
                    origin.push_str(&local.to_string());
                }
            }
        }
        origin
    }
}

impl Request {
    /// `GET /` of nobody in particular.
    pub fn new(body: Body) -> Self {
        http::Request::new(body).into()
    }

    /// A request as it came, with what the server knows of it.
    pub fn with(request: http::Request<Body>, context: Context) -> Self {
        let (head, body) = request.into_parts();
        Self::from_parts(head, body, context)
    }

    /// From its three parts.
    pub fn from_parts(head: Parts, body: Body, context: Context) -> Self {
        Self { top: Box::new(Top { head, context }), body }
    }

    /// What is known of it.
    pub fn context(&self) -> &Context {
        &self.top.context
    }

    /// The same, to be added to.
    pub fn context_mut(&mut self) -> &mut Context {
        &mut self.top.context
    }

    /// All that came before the body.
    pub fn head(&self) -> &Parts {
        &self.top.head
    }

    /// The same, to be changed.
    pub fn head_mut(&mut self) -> &mut Parts {
        &mut self.top.head
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.top.head.method
    }

    /// The same, to be changed.
    pub fn method_mut(&mut self) -> &mut Method {
        &mut self.top.head.method
    }

    /// The target.
    pub fn uri(&self) -> &Uri {
        &self.top.head.uri
    }

    /// The same, to be changed.
    pub fn uri_mut(&mut self) -> &mut Uri {
        &mut self.top.head.uri
    }

    /// The host and port that the client called, as the client wrote them: those of the target, else the
    /// header `Host`. `None`: the client named no host.
    pub fn host(&self) -> Option<&str> {
        self.top.host()
    }

    /// Returns the beginning of links to this server, `http://host:port`; empty if no address is known.
    pub fn origin(&self) -> String {
        self.top.origin()
    }

    /// The version of HTTP.
    pub fn version(&self) -> Version {
        self.top.head.version
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.top.head.headers
    }

    /// The same, to be changed.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.top.head.headers
    }

    /// What `tower` layers have left.
    pub fn extensions(&self) -> &Extensions {
        &self.top.head.extensions
    }

    /// The body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The same, to be changed.
    pub fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The body alone.
    pub fn into_body(self) -> Body {
        self.body
    }

    /// Its three parts.
    pub fn into_parts(self) -> (Parts, Body, Context) {
        let Top { head, context } = *self.top;
        (head, self.body, context)
    }
}

/// What a `tower` layer sees; the context rides in the extensions meanwhile.
impl From<Request> for http::Request<Body> {
    fn from(request: Request) -> Self {
        let (mut head, body, context) = request.into_parts();
        head.extensions.insert(context);
        Self::from_parts(head, body)
    }
}

/// What comes out of a `tower` layer. One that came in without a context gets an empty one.
impl From<http::Request<Body>> for Request {
    fn from(mut request: http::Request<Body>) -> Self {
        let context = request.extensions_mut().remove();
        let context = context.unwrap_or_else(|| Context::new(SocketAddr::from(([0, 0, 0, 0], 0))));
        Self::with(request, context)
    }
}

impl fmt::Debug for Request {
    // No headers: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.uri().path())
    }
}
