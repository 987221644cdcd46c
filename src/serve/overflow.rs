//! Connections above a limit. Each may send one request: `/healthcheck` is answered by the server's app, any
//! other gets 503. So a load balancer still learns that the server lives, and no caller waits for a slot.
//!
//! They share nothing with the connections below the limits but the app. All their times are short, so that
//! silent clients do not keep this room.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Method;
use hyper::{
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use pileus_sdk::{Connection, Fault, Peer, path};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::debug;

use super::{
    Answering,
    edge::{self, Line},
    guard::{Busy, Guard, Patience},
    http1::{Http1Stream, RAW_HEAD},
    listener::{Front, Protocols},
    slots::Slot,
    socket::Stream,
    tls,
};

/// TLS handshakes at a time of these connections: one costs as much as many answers.
pub const MAX_HANDSHAKES: usize = 32;

/// Time for a handshake, and then for the head of the request.
const HEAD: Duration = Duration::from_secs(1);

/// Time from then on until the answer is sent.
const ANSWER: Duration = Duration::from_secs(4);

/// Bytes of a request's body that are read after its refusal. A socket that is closed with unread bytes takes
/// the answer away from a client that still sends.
const LINGER_BYTES: u64 = 64 * 1024;

/// Serves a connection above a limit.
pub async fn connection(
    (stream, peer, slot): (Stream, Peer, Slot),
    facts: Connection,
    front: Arc<Front>,
    protocols: Arc<Protocols>,
    handshakes: Arc<Semaphore>,
) {
    let Answering { keys, counts, .. } = &front.answering;
    let _held = (counts.open(), slot);
    let busy = Busy::new(counts.clone());
    let local = match &stream {
        Stream::Tcp(stream) => stream.local_addr().ok(),
        Stream::Unix(_) => None,
    };
    let secure = keys.is_some();
    let line = |client_cert| Line::new((peer, local, secure), facts, client_cert);
    let stream = match stream {
        Stream::Unix(stream) => return serve(stream, line(None), busy, &front, &protocols).await,
        Stream::Tcp(stream) => stream,
    };
    stream.set_nodelay(true).ok();
    let Some(keys) = keys else { return serve(stream, line(None), busy, &front, &protocols).await };
    let Ok(Ok(permit)) = timeout(HEAD, handshakes.acquire()).await else {
        return debug!(%peer, "connection above a limit closed before tls handshake");
    };
    let agreed = timeout(HEAD, keys.acceptor().accept(stream)).await;
    drop(permit);
    match agreed {
        Ok(Ok(stream)) => {
            let line = line(tls::client_name(&stream));
            Box::pin(serve(stream, line, busy, &front, &protocols)).await;
        }
        Ok(Err(error)) => debug!(%peer, %error, "tls handshake above a limit failed"),
        Err(_) => debug!(%peer, "tls handshake above a limit timed out"),
    }
}

/// Serves a request and closes the connection, all in time.
async fn serve<S>(stream: S, line: Line, busy: Busy, front: &Arc<Front>, protocols: &Protocols)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = line.peer;
    let asked = Arc::new(AtomicBool::new(false));
    let begun = asked.clone();
    let deadline = async {
        sleep(HEAD).await;
        if begun.load(Relaxed) {
            sleep(ANSWER).await;
        }
    };
    tokio::select! {
        () = converse(stream, line, busy, front, protocols, asked) => {}
        () = deadline => debug!(%peer, "connection above a limit timed out"),
    }
}

async fn converse<S>(
    stream: S,
    line: Line,
    busy: Busy,
    front: &Arc<Front>,
    protocols: &Protocols,
    asked: Arc<AtomicBool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = line.peer;
    let patience = Patience { idle: HEAD, header: HEAD, write: ANSWER };
    let mut socket = Guard::new(stream, patience, busy.clone());
    let http2 = match &protocols.http2 {
        Some(http2) => match socket.begins_http2().await {
            Ok(begins) => begins.then_some(http2),
            Err(error) => return debug!(%peer, %error, "connection above a limit ended without a request"),
        },
        None => None,
    };
    let (front, begun) = (front.clone(), asked.clone());
    let service = service_fn(move |request: http::Request<Incoming>| {
        let (in_flight, turn) = busy.enter();
        if !asked.swap(true, Relaxed) && asks_for_health(&request) {
            return edge::answer(request, &line, front.app(turn), &front.settings, in_flight);
        }
        let reason = "The server has too many connections. Try again later.".into();
        let fault = Fault::Unavailable { reason, retry_after: Duration::from_secs(1) };
        edge::refused(&request, fault, in_flight)
    });
    let Some(http2) = http2 else {
        let socket = TokioIo::new(Http1Stream::new(socket, protocols.limits));
        let mut http1 = protocols.http1.clone();
        let connection = http1.keep_alive(false).serve_connection(socket, service).without_shutdown();
        return match RAW_HEAD.scope(RefCell::default(), connection).await {
            Ok(parts) => linger(parts.io.into_inner()).await,
            Err(error) => debug!(%peer, %error, "connection above a limit ended early"),
        };
    };
    let mut connection = std::pin::pin!(http2.serve_connection(TokioIo::new(socket), service));
    let mut closing = false;
    let ended = std::future::poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        if polled.is_pending() && begun.load(Relaxed) && !closing {
            closing = true;
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(cx);
        }
        polled
    });
    if let Err(error) = ended.await {
        debug!(%peer, %error, "connection above a limit ended early");
    }
}

/// `true` if the request is one of a load balancer. One with a body is none.
fn asks_for_health(request: &http::Request<Incoming>) -> bool {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let asks = || path::normal(request.uri().path()).is_ok_and(|it| path::collapsed(&it) == "/healthcheck");
    reads && asks() && request.body().is_end_stream()
}

/// Closes a connection so that its client receives the answer. [`serve`] bounds the time.
async fn linger(mut socket: impl AsyncRead + AsyncWrite + Unpin) {
    if socket.shutdown().await.is_ok() {
        // What comes and how it ends makes no difference any more.
        tokio::io::copy(&mut socket.take(LINGER_BYTES), &mut tokio::io::sink()).await.ok();
    }
}
