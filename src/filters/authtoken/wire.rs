//! One question to one Keystone, over plain HTTP: one connection, no redirects, no proxies; bounded in time
//! and size.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pileus_model::Clock;
use tokio::{net::TcpStream, select};

/// Most bytes of an answer's body. Asked without the catalogue, a token's document has about one kilobyte.
const ANSWER_MAX: usize = 1 << 20;

/// Where a Keystone is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `http://host:5000/v3`, for people.
    pub url: String,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Address {
    /// Reads `http://HOST[:PORT][/PATH]`; the version need not be said. An error says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "is no URL of the form http://HOST:PORT/v3";
        let uri: Uri = text.trim().parse().map_err(|_| WANTED)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("asks for TLS, which is not there yet towards Keystone"),
            _ => return Err(WANTED),
        }
        let authority = uri.authority().ok_or(WANTED)?;
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(WANTED);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(WANTED);
        }
        let path = uri.path().trim_end_matches('/');
        if path.ends_with("/v2.0") {
            return Err("names version 2.0 of Keystone's API, which nobody serves any more");
        }
        let path = if path.ends_with("/v3") { path.to_owned() } else { format!("{path}/v3") };
        // `Authority` takes any digits for a port, and forgets those that are none.
        let said = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let port = match said.strip_prefix(':') {
            Some(said) => said.parse().ok().filter(|port| *port != 0).ok_or(WANTED)?,
            None => 80,
        };
        let authority = authority.as_str().to_owned();
        Ok(Self { url: format!("http://{authority}{path}"), host, port, authority, path })
    }
}

/// What is asked.
#[derive(Clone)]
pub struct Question {
    /// `GET` or `POST`.
    pub method: Method,
    /// Below the version, with its query.
    pub path: &'static str,
    /// `X-Auth-Token` and `X-Subject-Token`, where there are any.
    pub tokens: Option<(HeaderValue, HeaderValue)>,
    /// JSON, or nothing.
    pub body: Bytes,
}

/// What came back.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// How long anything may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    pub connect: Duration,
    pub request: Duration,
}

/// Asks. The error says, for the log, why there is no answer.
pub async fn ask(
    address: &Address,
    question: Question,
    patience: Patience,
    clock: &dyn Clock,
) -> Result<Reply, String> {
    let mut request = Request::builder()
        .method(question.method)
        .uri(format!("{}{}", address.path, question.path))
        .header(header::HOST, &address.authority)
        .header(header::CONNECTION, "close")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("pileus/", env!("CARGO_PKG_VERSION")));
    if let Some((own, subject)) = question.tokens {
        request = request.header("x-auth-token", own).header("x-subject-token", subject);
    }
    if !question.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(Full::new(question.body)).map_err(|error| error.to_string())?;
    let connect = TcpStream::connect((address.host.as_str(), address.port));
    let stream = within(clock, patience.connect, "no connection", connect).await?;
    let stream = stream.map_err(|error| error.to_string())?;
    let exchange = async {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // Ends with the exchange.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| error.to_string())?;
        Ok(Reply { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    within(clock, patience.request, "no answer", exchange).await?
}

async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, String> {
    select! {
        biased;
        done = work => Ok(done),
        () = clock.sleep(limit) => Err(format!("{what} within {} s", limit.as_secs())),
    }
}
