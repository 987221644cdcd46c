//! One listener: from an open socket to connections that are served.

use std::{cell::RefCell, future::poll_fn, io, num::NonZeroU32, pin::pin, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, Cache};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use pileus_sdk::{Connection, Draining, Peer, Stack};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, info, warn};

use super::{
    Answering,
    edge::{self, Line},
    guard::{Busy, Guard, Patience},
    http1::{HeadLimits, Http1Stream, RAW_HEAD},
    job_peers, overflow,
    slots::{Slot, Slots},
    socket::{Socket, Stream},
    tls,
};
use crate::paste::{Listen, ServerSettings};

/// A listener that was bound and has not accepted anything yet.
#[derive(Debug)]
pub struct Bound {
    /// The name of its section, `api`.
    pub name: String,
    /// Where it really listens: port 0 is resolved.
    pub address: Listen,
    socket: Socket,
    settings: ServerSettings,
}

/// Opens a server's socket. Needs a runtime.
pub fn bind(name: &str, settings: &ServerSettings) -> io::Result<Bound> {
    let (socket, address) = Socket::open(settings)?;
    Ok(Bound { name: name.to_owned(), address, socket, settings: settings.clone() })
}

/// What answers at a listener now, and how.
#[derive(Debug)]
pub struct Front {
    /// Requests that have begun end on the app that they began with. Keys and counts are for connections
    /// that are accepted from now on.
    pub answering: Answering,
    /// For connections that are accepted from now on; `request_timeout_s` for requests.
    pub settings: ServerSettings,
}

impl Front {
    /// What answers the request before which so many began: of `time_one_in` of them one is timed.
    pub fn app(&self, turn: u64) -> &Stack {
        match turn.checked_rem(self.settings.time_one_in.into()) {
            Some(0) => &self.answering.timed,
            _ => &self.answering.app,
        }
    }
}

/// Requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 100;

/// Headers that hyper takes unless it is told otherwise.
const HYPERS_MAX_HEADERS: u32 = 100;

fn seconds(setting: NonZeroU32) -> Duration {
    Duration::from_secs(setting.get().into())
}

impl Bound {
    /// What it was bound for.
    pub fn settings(&self) -> &ServerSettings {
        &self.settings
    }

    /// Accepts until it is told to stop, then drains. `changed` tells that there is another front.
    pub async fn accept(
        self,
        front: Arc<ArcSwap<Front>>,
        mut changed: watch::Receiver<()>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut settings = self.settings;
        let mut protocols = Arc::new(Protocols::new(&settings));
        let mut connections = JoinSet::new();
        let (slots, overflow) = (Slots::default(), Slots::default());
        let handshakes = Arc::new(Semaphore::new(overflow::MAX_HANDSHAKES));
        let drains = stopped.clone();
        let draining: Arc<Draining> = Arc::new(move || {
            let mut drains = drains.clone();
            // Without a sender there is nobody left who would wait.
            Box::pin(async move { drop(drains.wait_for(|stopped| *stopped).await) })
        });
        let facts = Connection { listener: self.name.clone(), client_cert: None, draining: Some(draining) };
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = stopped.wait_for(|stopped| *stopped) => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                Ok(()) = changed.changed() => {
                    settings = front.load().settings.clone();
                    protocols = Arc::new(Protocols::new(&settings));
                    if let Err(error) = self.socket.change(&settings) {
                        warn!(server = self.name, %error, "the socket stays as it is");
                    }
                    continue;
                }
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to come back.
                    warn!(server = self.name, %error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if front.load().answering.open && job_peers::is_job(&stream, peer) {
                front.load().answering.counts.refuse_job();
                debug!(server = self.name, %peer, "connection of a job refused");
                continue;
            }
            let limit = match slots.take(peer, settings.max_connections.get(), settings.per_address()) {
                Ok(slot) => {
                    connections.spawn(connection(
                        (stream, peer, slot),
                        facts.clone(),
                        &settings,
                        front.clone(),
                        protocols.clone(),
                        stopped.clone(),
                    ));
                    continue;
                }
                Err(limit) => limit,
            };
            let counts = front.load().answering.counts.clone();
            counts.over_limit(limit);
            let most = settings.overflow_connections;
            match overflow.take(peer, most, most.div_ceil(2)) {
                Ok(slot) => drop(connections.spawn(overflow::connection(
                    (stream, peer, slot),
                    facts.clone(),
                    front.load_full(),
                    protocols.clone(),
                    handshakes.clone(),
                ))),
                Err(_) => counts.drop_connection(),
            }
        }
        drop(self.socket);
        let open = connections.len();
        let drained = async { while connections.join_next().await.is_some() {} };
        match timeout(seconds(settings.drain_timeout_s), drained).await {
            Ok(()) => debug!(server = self.name, open, "drained"),
            Err(_) => {
                warn!(server = self.name, connections = connections.len(), "cut after the drain time-out");
            }
        }
        connections.shutdown().await;
        info!(server = self.name, "stopped listening");
    }
}

fn connection(
    (stream, peer, slot): (Stream, Peer, Slot),
    facts: Connection,
    settings: &ServerSettings,
    front: Arc<ArcSwap<Front>>,
    protocols: Arc<Protocols>,
    stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + Send + 'static {
    let patience = Patience {
        idle: seconds(settings.idle_timeout_s),
        header: seconds(settings.header_timeout_s),
        write: seconds(settings.write_timeout_s),
    };
    let local = match &stream {
        Stream::Tcp(stream) => stream.local_addr().ok(),
        Stream::Unix(_) => None,
    };
    let Answering { keys, counts, .. } = front.load().answering.clone();
    let open = counts.open();
    let handshake = seconds(settings.header_timeout_s);
    async move {
        let _held = (open, slot);
        let secure = keys.is_some();
        let line = |client_cert| Line::new((peer, local, secure), facts, client_cert);
        let busy = Busy::new(counts);
        let stream = match stream {
            Stream::Unix(stream) => {
                return converse(stream, patience, line(None), busy, front, protocols, stopped).await;
            }
            Stream::Tcp(stream) => stream,
        };
        // Answers are small and wanted at once; a socket that refuses this works all the same.
        stream.set_nodelay(true).ok();
        let Some(keys) = keys else {
            return converse(stream, patience, line(None), busy, front, protocols, stopped).await;
        };
        let mut stops = stopped.clone();
        let agreed = tokio::select! {
            agreed = timeout(handshake, keys.acceptor().accept(stream)) => agreed,
            // Nothing was asked yet.
            _ = stops.wait_for(|stopped| *stopped) => return,
        };
        match agreed {
            Ok(Ok(stream)) => {
                let line = line(tls::client_name(&stream));
                Box::pin(converse(stream, patience, line, busy, front, protocols, stopped)).await;
            }
            Ok(Err(error)) => debug!(%peer, %error, "a client and the listener could not agree on TLS"),
            Err(_) => debug!(%peer, "a client took too long for TLS"),
        }
    }
}

/// Serves a connection to its end.
async fn converse<S>(
    stream: S,
    patience: Patience,
    line: Line,
    busy: Busy,
    front: Arc<ArcSwap<Front>>,
    protocols: Arc<Protocols>,
    mut stopped: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = line.peer;
    let mut socket = Guard::new(stream, patience, busy.clone());
    let http2 = match &protocols.http2 {
        Some(http2) => tokio::select! {
            biased;
            begins = socket.begins_http2() => match begins {
                Ok(begins) => begins.then_some(http2),
                Err(error) => return debug!(%peer, %error, "a connection ended before its first request"),
            },
            // Nobody has asked anything yet.
            _ = stopped.wait_for(|stopped| *stopped) => return,
        },
        None => None,
    };
    // A look at the front costs a comparison, until there is another one.
    let front = RefCell::new(Cache::new(front));
    let service = service_fn(move |request| {
        let (in_flight, turn) = busy.enter();
        let mut front = front.borrow_mut();
        let front = front.load();
        edge::answer(request, &line, front.app(turn), &front.settings, in_flight)
    });
    let ended = match http2 {
        // Large, and seldom: in its own room, so that the others need none for it.
        Some(http2) => {
            let connection = http2.serve_connection(TokioIo::new(socket), service);
            Box::pin(to_the_end(connection, stopped)).await
        }
        None => {
            let socket = TokioIo::new(Http1Stream::new(socket, protocols.limits));
            let connection = protocols.http1.serve_connection(socket, service);
            RAW_HEAD.scope(RefCell::default(), to_the_end(connection, stopped)).await
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "a connection ended early");
    }
}

/// Serves a connection until its client ends it; once the server is told to stop, until the requests that
/// have begun are answered.
async fn to_the_end<C: GracefulConnection>(
    connection: C,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), C::Error> {
    let news = stopped.clone();
    let mut stop = pin!(stopped.wait_for(|stopped| *stopped));
    let mut connection = pin!(connection);
    let (mut heard, mut awaited) = (false, false);
    poll_fn(|cx| {
        // Asked once, it knows whom to wake: this task. A look whether there is news costs a tenth of asking
        // again, and nearly all wakes are about requests.
        if !heard && (!awaited || news.has_changed().unwrap_or(true)) {
            awaited = true;
            heard = stop.as_mut().poll(cx).is_ready();
            if heard {
                connection.as_mut().graceful_shutdown();
            }
        }
        connection.as_mut().poll(cx)
    })
    .await
}

/// How both versions of HTTP are spoken.
pub struct Protocols {
    /// HTTP/1.1, and 1.0.
    pub http1: http1::Builder,
    /// `None`: not at all.
    pub http2: Option<http2::Builder<TokioExecutor>>,
    /// Bounds of a head, of HTTP/1.
    pub limits: HeadLimits,
}

impl Protocols {
    fn new(it: &ServerSettings) -> Self {
        // No `header_read_timeout`: the guard around the socket does it for less. No `pipeline_flush`:
        // with it hyper buffers without a bound for a client that does not read. No `writev`: two pieces of an
        // answer (its head, its body) cost the system half a microsecond more than one, and hyper as much again
        // to keep them; a copy of a short body costs a tenth of that. A long one comes in pieces.
        let mut http1 = http1::Builder::new();
        http1
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .writev(false)
            .max_buf_size(it.max_header_bytes.get() as usize);
        // hyper has room for its default on the stack, and makes more of it anew for every request.
        if it.max_headers.get() != HYPERS_MAX_HEADERS {
            http1.max_headers(it.max_headers.get() as usize);
        }
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(it.max_header_bytes.get())
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(100)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Self { http1, http2: it.http2.then_some(http2), limits: HeadLimits::of(it) }
    }
}
