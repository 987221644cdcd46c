//! Connections to one server that stay open between questions.
//!
//! A question takes an idle connection or a new one. A connection that is lost is replaced once by a new one: the
//! server may close an idle connection at the very moment at which it is used. So only questions that may be
//! asked twice belong here. Bounded in number, in the size of an answer, and in time by the caller.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header, response::Parts};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::SendRequest;
use pileus_model::{Clock, Monotonic};
use tokio::select;

use super::{Connection, Endpoint, Tls, causes};

/// Idle connections that are kept. More are only needed for a burst.
const IDLE_MAX: usize = 16;

/// Age at which an idle connection is not used any more: what forgets connections on the way does so later.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// Timeouts of a question.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until there is a connection, with TLS where that is spoken.
    pub connect: Duration,
    /// Until the answer is there.
    pub request: Duration,
}

/// Answer of a server.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body, whole.
    pub body: Bytes,
}

/// Reason why there is no answer, for the log.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection, or no answer in time: other questions would not be answered either.
    #[error("{0}")]
    Unreachable(String),
    /// The connection was lost, twice. Says nothing about other questions.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The answer is too long or malformed. Says nothing about other questions.
    #[error("{0}")]
    Malformed(String),
}

/// Idle connections to one server.
pub struct Pool {
    endpoint: Endpoint,
    idle: Mutex<Vec<(Connection, Monotonic)>>,
}

impl Pool {
    /// Connects to no server yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, idle: Mutex::default() }
    }

    /// Asks a question that may be asked twice. The answer's body has at most `max` bytes.
    pub async fn ask(
        &self,
        request: &Request<Bytes>,
        max: usize,
        tls: Option<&Tls>,
        patience: Patience,
        clock: &dyn Clock,
    ) -> Result<Reply, Failure> {
        let mut idle = self.take(clock.monotonic());
        for last in [false, true] {
            let mut connection = match idle.take() {
                Some(connection) => connection,
                None => {
                    let connection = self.endpoint.connect(tls);
                    let connection = within(clock, patience.connect, "no connection", connection).await?;
                    connection.map_err(Failure::Unreachable)?
                }
            };
            let exchange = exchange(&mut connection, request, max);
            match within(clock, patience.request, "no answer", exchange).await? {
                Err(Failure::Lost(_)) if !last => {}
                Err(failure) => return Err(failure),
                Ok(reply) => {
                    self.put(connection, &reply, clock.monotonic());
                    return Ok(reply);
                }
            }
        }
        // Never reached: the last turn returns.
        Err(Failure::Lost("twice".into()))
    }

    /// Takes an idle connection that is still open. All others are dropped.
    fn take(&self, now: Monotonic) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The youngest first: the rest age, and go.
        idle.retain(|(connection, since)| !connection.sender.is_closed() && now.since(*since) < IDLE_TIME);
        idle.pop().map(|(connection, _)| connection)
    }

    fn put(&self, connection: Connection, reply: &Reply, now: Monotonic) {
        let closes = reply.headers.get_all(header::CONNECTION).iter().any(|value| {
            let options = value.to_str().unwrap_or_default().split(',');
            options.map(str::trim).any(|option| option.eq_ignore_ascii_case("close"))
        });
        if closes || connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push((connection, now));
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.endpoint)
    }
}

/// Asks on one connection, and reads the answer to its end.
async fn exchange(
    connection: &mut Connection,
    request: &Request<Bytes>,
    max: usize,
) -> Result<Reply, Failure> {
    let Connection { authority, sender, .. } = connection;
    let mut own = Request::new(Full::new(request.body().clone()));
    own.method_mut().clone_from(request.method());
    own.uri_mut().clone_from(request.uri());
    own.headers_mut().clone_from(request.headers());
    let host = header::HeaderValue::try_from(&**authority);
    let host = host.map_err(|error| Failure::Malformed(error.to_string()))?;
    own.headers_mut().insert(header::HOST, host);
    let (Parts { status, headers, .. }, body) = send(sender, own).await?.into_parts();
    let body = Limited::new(body, max).collect().await.map_err(|error| {
        match error.downcast_ref::<hyper::Error>() {
            _ if error.is::<LengthLimitError>() => {
                Failure::Malformed(format!("the answer is longer than {max} bytes"))
            }
            Some(error) => failure(error),
            None => Failure::Lost(causes(&*error)),
        }
    })?;
    Ok(Reply { status, headers, body: body.to_bytes() })
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<http::Response<hyper::body::Incoming>, Failure> {
    // Between two questions the connection needs a turn to be ready again.
    sender.ready().await.map_err(|error| failure(&error))?;
    sender.send_request(request).await.map_err(|error| failure(&error))
}

fn failure(error: &hyper::Error) -> Failure {
    match error.is_parse() || error.is_user() {
        true => Failure::Malformed(format!("the answer is malformed: {}", causes(error))),
        false => Failure::Lost(causes(error)),
    }
}

async fn within<T>(
    clock: &dyn Clock,
    limit: Duration,
    what: &str,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    select! {
        biased;
        done = work => Ok(done),
        () = clock.sleep(limit) => Err(Failure::Unreachable(format!("{what} within {} s", limit.as_secs()))),
    }
}
