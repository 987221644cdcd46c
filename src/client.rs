//! One call to a server that runs, for the words of the command line that ask it something.
//!
//! Plain HTTP, one connection, no redirects, no proxies; bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// For connecting, and again for the answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of an answer.
const ANSWER_MAX: usize = 64 << 20;

/// Why there is no answer; for people.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is none, or none that this speaks.
    #[error("`{0}` is no URL of the form http://HOST:PORT")]
    Url(String),
    /// Nobody answers there.
    #[error("nobody answers at {url}: {cause}")]
    Unreachable {
        /// As it was said.
        url: String,
        /// Why.
        cause: String,
    },
}

/// `GET` of a path with a token: the status and the body.
pub async fn get(url: &str, path: &str, token: &str) -> Result<(u16, Bytes), ClientError> {
    let wrong = || ClientError::Url(url.to_owned());
    let base: Uri = url.parse().map_err(|_| wrong())?;
    let base = Some(base).filter(|base| base.scheme_str().is_none_or(|scheme| scheme == "http"));
    let host = base.as_ref().and_then(|base| base.host()).ok_or_else(wrong)?;
    let port = base.as_ref().and_then(Uri::port_u16).unwrap_or(80);
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(header::HOST, if port == 80 { host.to_owned() } else { format!("{host}:{port}") })
        .header(header::CONNECTION, "close")
        .header("x-auth-token", token)
        .body(Empty::<Bytes>::new())
        .map_err(|_| wrong())?;
    let lost = |cause: String| ClientError::Unreachable { url: url.to_owned(), cause };
    let late = |_| lost(format!("nothing within {} s", PATIENCE.as_secs()));
    let address = (host.trim_start_matches('[').trim_end_matches(']'), port);
    let stream = timeout(PATIENCE, TcpStream::connect(address)).await.map_err(late)?;
    let stream = stream.map_err(|cause| lost(cause.to_string()))?;
    let exchange = async {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|it| it.to_string())?;
        // Ends with the exchange.
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|it| it.to_string())?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        Ok((status, body.map_err(|it| it.to_string())?.to_bytes()))
    };
    timeout(PATIENCE, exchange).await.map_err(late)?.map_err(lost)
}
