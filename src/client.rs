//! One question to another server: a connection for it alone (or of a `pool`), HTTP/1.1, with TLS where the URL says
//! `https`; no redirects, no proxies. Bounded in size here, and in time by who asks.
//!
//! So are asked Keystone (`filters/authtoken`), policy servers (`policy/remote.rs`), and a server that runs by
//! the words of the command line (`call`).

mod call;
mod pool;
mod tls;

use std::{error::Error, fmt, io, net::IpAddr};

use bytes::Bytes;
use http::{Response, header, request, uri::Authority};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::rustls::{self, InvalidMessage, pki_types::ServerName};
use tokio_util::task::AbortOnDropHandle;

pub use self::{
    call::{ClientError, Target, call, download},
    pool::{Failure, Patience, Pool, Reply},
    tls::{File, Files, Tls},
};

/// What a URL says before its path: how and where a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `127.0.0.1:8000`, as it is said.
    authority: Box<str>,
    host: Box<str>,
    port: u16,
    /// Whom its certificate has to be for; `None`: it speaks no TLS.
    name: Option<ServerName<'static>>,
}

impl Endpoint {
    /// Of the part of a URL between `scheme://` and the path. `None`: it is none, or none for us: the scheme is
    /// another one, or somebody's password stands in it.
    pub fn new(scheme: &str, authority: &str) -> Option<Self> {
        let parsed: Authority = authority.parse().ok()?;
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']');
        // `Authority` takes any digits for a port, and forgets those that are none.
        let said = authority.strip_prefix(parsed.host())?;
        let said = match said.strip_prefix(':') {
            Some(said) => Some(said.parse().ok().filter(|port| *port != 0)?),
            None if said.is_empty() => None,
            None => return None,
        };
        if host.is_empty() {
            return None;
        }
        let (name, port) = match scheme {
            "http" => (None, 80),
            "https" => (Some(ServerName::try_from(host.to_owned()).ok()?), 443),
            _ => return None,
        };
        let port = said.unwrap_or(port);
        Some(Self { authority: authority.into(), host: host.into(), port, name })
    }

    /// Whether it speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.name.is_some()
    }

    /// Whether it is another host.
    pub fn is_remote(&self) -> bool {
        let loopback = self.host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
        !loopback && !self.host.eq_ignore_ascii_case("localhost")
    }

    /// Connects, and agrees on TLS where it is to be spoken. The error says, for people, why not.
    pub async fn connect(&self, tls: Option<&Tls>) -> Result<Connection, String> {
        let stream = TcpStream::connect((&*self.host, self.port)).await.map_err(|error| error.to_string())?;
        let stream: Box<dyn Stream> = match (&self.name, tls) {
            (None, _) => Box::new(stream),
            (Some(name), Some(tls)) => {
                let stream = tls.connector().connect(name.clone(), stream).await;
                Box::new(stream.map_err(|error| disagreement(&error))?)
            }
            // Never in cleartext what was to be secret.
            (Some(_), None) => return Err("TLS is not set up".into()),
        };
        Connection::over(stream, &self.authority).await
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_secure() { "https" } else { "http" }, self.authority)
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection for one question.
pub struct Connection {
    authority: Box<str>,
    sender: SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<hyper::Result<()>>,
}

impl Connection {
    /// Begins HTTP/1.1 on a stream; `authority` is what the server is called in `Host`.
    async fn over(stream: Box<dyn Stream>, authority: &str) -> Result<Self, String> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| causes(&error))?;
        // Ends with the question, however that ends.
        let driver = AbortOnDropHandle::new(tokio::spawn(connection));
        Ok(Self { authority: authority.into(), sender, _driver: driver })
    }

    /// Asks, and hears how the answer begins. It ends with the connection.
    pub async fn ask(
        &mut self,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let request = request
            .header(header::HOST, &*self.authority)
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, concat!("pileus/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        self.sender.send_request(request).await.map_err(|error| causes(&error))
    }
}

/// The rest of an answer, if it is not too long.
pub async fn read(body: Incoming, max: usize) -> Result<Bytes, String> {
    let body = Limited::new(body, max).collect().await.map_err(|error| causes(&*error))?;
    Ok(body.to_bytes())
}

/// Why there is no TLS.
fn disagreement(error: &io::Error) -> String {
    use rustls::Error::InvalidMessage as Invalid;
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Invalid(InvalidMessage::InvalidContentType)) => "no TLS is spoken there".into(),
        Some(error) => format!("no TLS: {error}"),
        None => format!("no TLS: {error}"),
    }
}

/// An error with what it comes from: hyper says alone that something went wrong.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}
