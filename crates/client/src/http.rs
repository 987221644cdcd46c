//! One request, one connection, one answer: as the old programs did, but with a time-out, and with a
//! limit to what an answer may hold.
//!
//! hyper speaks the protocol (chunks included); a pool and redirects are not needed. Proxies of the
//! environment are not used.

use std::{fmt, io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use tokio::net::TcpStream;

/// Most bytes of an answer.
const MAX_BODY: usize = 64 << 20;

/// Whatever Python's `urllib.quote(text, safe='')` quotes.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'.').remove(b'-');

/// One part of a path, with no character left that could end it.
pub fn quote(part: &str) -> String {
    percent_encoding::utf8_percent_encode(part, UNSAFE).to_string()
}

/// A form, or a query.
pub fn form(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Something that no log, error or `Debug` shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// `None`: it could not stand in a header.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Who is asked, and how.
#[derive(Debug)]
pub struct Server {
    /// A name or an address.
    pub host: String,
    /// As it was said: a text, that may be no number.
    pub port: String,
    /// Nobody said which host: where `host` does not answer, loopback is tried.
    pub or_loopback: bool,
    /// For connecting, and again for the answer.
    pub timeout: Duration,
    /// `X-Auth-Token`.
    pub token: Option<Secret>,
    /// `X-Pileus-Comment`: why, for the history of events. Another server does not read it.
    pub comment: Option<HeaderValue>,
}

/// Longest comment that a server takes, in bytes.
const COMMENT_MAX: usize = 1024;

/// A comment as a header: on one line, and cut where it is too long.
pub fn comment(text: &str) -> Option<HeaderValue> {
    let mut line = String::new();
    for letter in text.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter }) {
        if line.len() + letter.len_utf8() > COMMENT_MAX {
            break;
        }
        line.push(letter);
    }
    HeaderValue::from_bytes(line.as_bytes()).ok().filter(|value| !value.is_empty())
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query, encoded.
    pub target: String,
    /// The body's type, and the body.
    pub body: Option<(&'static str, String)>,
}

/// The type of a form.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// The type of JSON.
pub const JSON: &str = "application/json";

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `x-compute-request-id`, or OpenStack's newer name for it.
    pub request_id: Option<String>,
    /// The whole body.
    pub body: Bytes,
}

/// Why nothing came back.
#[derive(Debug)]
pub enum Failure {
    /// Nobody is there, or nobody answers: what the old programs call "couldn't connect".
    Unreachable(String),
    /// Anything else: a class and a text, as the old programs print them.
    Unexpected(&'static str, String),
}

impl Server {
    /// Sends a call and reads the answer.
    pub async fn send(&self, call: &Call) -> Result<Answer, Failure> {
        let port: u16 = self.port.parse().map_err(|_| self.invalid())?;
        let (stream, host) = self.connect(port).await?;
        let exchange = tokio::time::timeout(self.timeout, self.exchange(stream, &host, port, call)).await;
        exchange.unwrap_or_else(|_| {
            Err(Failure::Unexpected("Timeout", format!("no answer within {} s", self.timeout.as_secs())))
        })
    }

    fn invalid(&self) -> Failure {
        Failure::Unexpected("InvalidURL", format!("Failed to parse: {}:{}", self.host, self.port))
    }

    /// A connection, and the host that it is to.
    async fn connect(&self, port: u16) -> Result<(TcpStream, String), Failure> {
        let name = self.host.trim_start_matches('[').trim_end_matches(']');
        let mut first = None;
        let loopback = ["127.0.0.1", "::1"].iter().filter(|_| self.or_loopback);
        for host in std::iter::once(&name).chain(loopback) {
            let error = match tokio::time::timeout(self.timeout, TcpStream::connect((*host, port))).await {
                Ok(Ok(stream)) => return Ok((stream, (*host).to_owned())),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no connection within {} s", self.timeout.as_secs()),
            };
            first.get_or_insert(error);
        }
        Err(Failure::Unreachable(first.unwrap_or_default()))
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        host: &str,
        port: u16,
        call: &Call,
    ) -> Result<Answer, Failure> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
        // Ends with the exchange.
        tokio::spawn(connection);
        let host = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(&call.target)
            .header(header::HOST, host)
            .header(header::ACCEPT, "*/*")
            .header(header::USER_AGENT, concat!("pileus-client/", env!("CARGO_PKG_VERSION")))
            .header(header::CONNECTION, "close");
        if let Some(Secret(token)) = &self.token {
            request = request.header("x-auth-token", token);
        }
        if let Some(comment) = &self.comment {
            request = request.header("x-pileus-comment", comment);
        }
        let mut body = Bytes::new();
        if let Some((kind, text)) = &call.body {
            request = request.header(header::CONTENT_TYPE, *kind);
            body = Bytes::from(text.clone());
        }
        if call.method != Method::GET {
            request = request.header(header::CONTENT_LENGTH, body.len());
        }
        let request = request.body(Full::new(body)).map_err(|_| self.invalid())?;
        let response = sender.send_request(request).await.map_err(lost)?;
        let (head, body) = response.into_parts();
        let id = ["x-compute-request-id", "x-openstack-request-id"]
            .iter()
            .find_map(|name| head.headers.get(*name));
        let request_id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| Failure::Unexpected("IncompleteAnswer", error.to_string()))?;
        Ok(Answer { status: head.status.as_u16(), request_id, body: body.to_bytes() })
    }
}

/// Before an answer began: hung up, or no HTTP.
fn lost(error: hyper::Error) -> Failure {
    if error.is_parse() {
        return Failure::Unexpected("InvalidAnswer", error.to_string());
    }
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
    Failure::Unreachable(cause.map_or_else(|| error.to_string(), ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_ends_a_part_of_a_path() {
        let cases = [
            ("alpha_1-2.3", "alpha_1-2.3"),
            ("a/b", "a%2Fb"),
            ("a b?c#d", "a%20b%3Fc%23d"),
            ("100%", "100%25"),
            ("é~", "%C3%A9%7E"),
            ("host#12.0#1460000000", "host%2312.0%231460000000"),
        ];
        for (part, quoted) in cases {
            assert_eq!(quote(part), quoted);
        }
    }

    #[test]
    fn a_comment_is_one_line_of_bounded_length() {
        let long = "é".repeat(600);
        let cases = [
            (" the roof leaks\nfür immer\t", Some("the roof leaks für immer")),
            (long.as_str(), Some(&long[..1024])),
            ("", None),
            (" \n", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(
                comment(text).as_ref().map(HeaderValue::as_bytes),
                wanted.map(str::as_bytes),
                "{text}"
            );
        }
    }

    #[test]
    fn a_secret_is_shown_to_nobody() {
        let secret = Secret::new(" s3cret\n").unwrap();
        assert_eq!((secret.0.as_str(), format!("{secret:?}")), ("s3cret", "Secret(…)".to_owned()));
        for text in ["", "  ", "two words", "line\nbreak", "é"] {
            assert!(Secret::new(text).is_none(), "{text}");
        }
    }
}
