//! One call of the command line to a server that runs: by URL, on a Unix socket, or by the certificate that
//! the server's own files name.

use std::{
    fmt,
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Uri, header};
use http_body_util::BodyExt;
use tokio::{net::UnixStream, time::timeout};

use super::{Connection, Endpoint, Tls, read};

/// Time for connecting, and again for the answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Most bytes of an answer.
const ANSWER_MAX: usize = 64 << 20;

/// Server that a command calls, and the path below which its API is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    reach: Reach,
    /// `/v2`, without a slash at its end.
    mount: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    /// `certificate`: the file whose first certificate the server has. `None`: the system's authorities decide.
    Tcp {
        endpoint: Endpoint,
        certificate: Option<PathBuf>,
    },
    Unix(PathBuf),
}

/// Reason why there is no answer; for people.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be understood.
    #[error("`{0}` is no URL of the form http://HOST:PORT, https://HOST:PORT or unix:PATH")]
    Url(String),
    /// No server answers there.
    #[error("no answer from {server}: {cause}")]
    Unreachable {
        /// The server, as it was named.
        server: String,
        /// Why.
        cause: String,
    },
}

impl Target {
    /// Parses `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`. A path of the URL stands before `/v2`.
    pub fn from_url(url: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(url.to_owned());
        if let Some(path) = url.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::unix(Path::new(path), "/v2")) };
        }
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        let endpoint = Endpoint::new(uri.scheme_str().unwrap_or("http"), authority.as_str());
        let endpoint = endpoint.ok_or_else(wrong)?;
        let mount = format!("{}/v2", uri.path().trim_end_matches('/'));
        Ok(Self { reach: Reach::Tcp { endpoint, certificate: None }, mount })
    }

    /// A Unix socket.
    pub fn unix(path: &Path, mount: &str) -> Self {
        Self { reach: Reach::Unix(path.to_path_buf()), mount: mount.to_owned() }
    }

    /// A TCP socket of this host. `certificate`: the server speaks TLS, with the first certificate of the file.
    /// `None`: the authority is none.
    pub fn tcp(authority: &str, certificate: Option<&Path>, mount: &str) -> Option<Self> {
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let endpoint = Endpoint::new(scheme, authority)?;
        let certificate = certificate.map(Path::to_path_buf);
        Some(Self { reach: Reach::Tcp { endpoint, certificate }, mount: mount.to_owned() })
    }

    /// The path below which the API is mounted.
    pub fn mount(&self) -> &str {
        &self.mount
    }

    async fn connect(&self) -> Result<Connection, String> {
        match &self.reach {
            Reach::Tcp { endpoint, certificate } => {
                let tls = endpoint.is_secure().then(|| match certificate {
                    Some(path) => Tls::pinned(path),
                    None => Tls::system(),
                });
                let tls = tls.transpose().map_err(|error| error.problem)?;
                endpoint.connect(tls.as_ref()).await
            }
            Reach::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
                Connection::over(Box::new(stream), "localhost").await
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reach {
            Reach::Tcp { endpoint, .. } => endpoint.fmt(f),
            Reach::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Calls a path below the API's mount with a token. Returns status and body.
pub async fn call(
    target: &Target,
    method: Method,
    path: &str,
    token: &str,
    body: Bytes,
) -> Result<(u16, Bytes), ClientError> {
    let lost = |cause: String| ClientError::Unreachable { server: target.to_string(), cause };
    let late = |_| lost(format!("nothing within {} s", PATIENCE.as_secs()));
    let connection = timeout(PATIENCE, target.connect()).await.map_err(late)?;
    let mut connection = connection.map_err(lost)?;
    let exchange = async {
        let request = Request::builder().method(method).uri(format!("{}{path}", target.mount));
        let mut request = request.header("x-auth-token", token);
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let response = connection.ask(request, body).await?;
        let status = response.status().as_u16();
        Ok((status, read(response.into_body(), ANSWER_MAX).await?))
    };
    timeout(PATIENCE, exchange).await.map_err(late)?.map_err(lost)
}

/// Writes the answer to a GET into a file, from its beginning. `Some`: status and body of a refusal. An answer that
/// breaks off is an error. [`PATIENCE`] bounds the time without a piece.
pub async fn download(
    target: &Target,
    path: &str,
    token: &str,
    file: &File,
) -> Result<Option<(u16, Bytes)>, ClientError> {
    let lost = |cause: String| ClientError::Unreachable { server: target.to_string(), cause };
    let late = |_| lost(format!("nothing within {} s", PATIENCE.as_secs()));
    let connection = timeout(PATIENCE, target.connect()).await.map_err(late)?;
    let mut connection = connection.map_err(lost)?;
    let request = Request::builder().uri(format!("{}{path}", target.mount)).header("x-auth-token", token);
    let response = timeout(PATIENCE, connection.ask(request, Bytes::new())).await.map_err(late)?;
    let response = response.map_err(lost)?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    if status != 200 {
        return Ok(Some((status, read(body, ANSWER_MAX).await.map_err(lost)?)));
    }
    let mut at = 0;
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(late)? {
        let frame = frame.map_err(|error| lost(error.to_string()))?;
        if let Ok(piece) = frame.into_data() {
            file.write_all_at(&piece, at)
                .map_err(|error| lost(format!("the file is not written: {error}")))?;
            at += piece.len() as u64;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_servers() {
        let cases = [
            ("http://127.0.0.1:8774", Some(("http://127.0.0.1:8774", "/v2"))),
            ("http://127.0.0.1:8774/", Some(("http://127.0.0.1:8774", "/v2"))),
            ("https://example.org/compute/", Some(("https://example.org", "/compute/v2"))),
            ("http://[::1]:8774", Some(("http://[::1]:8774", "/v2"))),
            ("unix:/run/pileus/api.sock", Some(("unix:/run/pileus/api.sock", "/v2"))),
            ("unix:///run/pileus/api.sock", Some(("unix:/run/pileus/api.sock", "/v2"))),
            ("unix:api.sock", Some(("unix:api.sock", "/v2"))),
            ("127.0.0.1:8774", Some(("http://127.0.0.1:8774", "/v2"))),
            ("unix:", None),
            ("ftp://x", None),
            ("http://", None),
            ("http://user:secret@x", None),
            ("/v2", None),
            ("", None),
        ];
        for (url, expected) in cases {
            let target = Target::from_url(url).ok();
            let found = target.as_ref().map(|it| (it.to_string(), it.mount.as_str()));
            assert_eq!(found.as_ref().map(|(shown, mount)| (shown.as_str(), *mount)), expected, "{url}");
        }
    }
}
