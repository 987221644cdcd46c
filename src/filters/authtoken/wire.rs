//! One question to one Keystone, bounded in time and size.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use pileus_model::Clock;

use crate::client::{Endpoint, Failure, Patience, Pool, Reply, Tls};

/// Most bytes of an answer's body. Asked without the catalogue, a token's document has about one kilobyte.
const ANSWER_MAX: usize = 1 << 20;

/// Where a Keystone is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `http://host:5000/v3`, for people.
    pub url: String,
    endpoint: Endpoint,
    path: String,
}

impl Address {
    /// Reads `http://HOST[:PORT][/PATH]`, or `https:`; the version need not be said. An error says what is wrong
    /// with it.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "is no URL of the form https://HOST:PORT/v3 or http://HOST:PORT/v3";
        let uri: Uri = text.trim().parse().map_err(|_| WANTED)?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or(WANTED)?;
        let endpoint = Endpoint::new(scheme, authority.as_str()).ok_or(WANTED)?;
        if uri.query().is_some() {
            return Err(WANTED);
        }
        let path = uri.path().trim_end_matches('/');
        if path.ends_with("/v2.0") {
            return Err("names version 2.0 of Keystone's API, which nobody serves any more");
        }
        let path = if path.ends_with("/v3") { path.to_owned() } else { format!("{path}/v3") };
        Ok(Self { url: format!("{endpoint}{path}"), endpoint, path })
    }

    /// Connections to it, none of which is open yet.
    pub fn pool(&self) -> Pool {
        Pool::new(self.endpoint.clone())
    }

    /// `true` if it is another host and speaks no TLS.
    pub fn is_open(&self) -> bool {
        self.endpoint.is_remote() && !self.endpoint.is_secure()
    }

    /// Whether it speaks TLS.
    pub fn is_secure(&self) -> bool {
        self.endpoint.is_secure()
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

/// Asks over the open connections of a pool, or over a new one.
pub async fn ask(
    pool: &Pool,
    address: &Address,
    question: Question,
    tls: Option<&Tls>,
    patience: Patience,
    clock: &dyn Clock,
) -> Result<Reply, Failure> {
    let mut request = Request::builder()
        .method(question.method)
        .uri(format!("{}{}", address.path, question.path))
        .header(header::USER_AGENT, concat!("pileus/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "application/json");
    if let Some((own, subject)) = question.tokens {
        request = request.header("x-auth-token", own).header("x-subject-token", subject);
    }
    if !question.body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let request = request.body(question.body).map_err(|error| Failure::Malformed(error.to_string()))?;
    pool.ask(&request, ANSWER_MAX, tls, patience, clock).await
}
