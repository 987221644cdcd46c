//! A socket that does not wait for ever: idle, header and write time-outs of one connection.
//!
//! hyper has a time-out for headers, but it makes and drops a timer at every request. Here one
//! timer serves the whole connection: it is moved only when it fires, so that a request costs one
//! look at the monotonic clock.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::frames::Frames;
use crate::metrics::ServerCounts;

/// With what a client begins that speaks HTTP/2 (RFC 9113, §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may make us wait.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the next request to begin.
    pub idle: Duration,
    /// For a request's head, from its first byte to its last.
    pub header: Duration,
    /// For the client to take what we write.
    pub write: Duration,
}

/// Whether requests of a connection are being answered: while there are any, nobody is idle. Who holds
/// it is counted anyway, so nothing else has to be.
#[derive(Debug, Clone)]
pub struct Busy(Arc<Requests>);

#[derive(Debug)]
struct Requests {
    server: Arc<ServerCounts>,
    /// `true` if a request's body was left unread.
    unread: AtomicBool,
}

/// The socket and the service hold one each, and answer nothing.
const HOLDERS: usize = 2;

impl Busy {
    /// Of a new connection to this server.
    pub fn new(server: Arc<ServerCounts>) -> Self {
        Self(Arc::new(Requests { server, unread: AtomicBool::new(false) }))
    }

    /// One more request, until the guard is dropped; and how many the server had before.
    pub fn enter(&self) -> (BusyGuard, u64) {
        self.set_unread(false);
        (BusyGuard { busy: self.clone(), status: None }, self.0.server.begin())
    }

    /// Notes whether the body of the newest request is left unread.
    pub fn set_unread(&self, unread: bool) {
        self.0.unread.store(unread, Relaxed);
    }

    fn is_busy(&self) -> bool {
        Arc::strong_count(&self.0) > HOLDERS
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct BusyGuard {
    busy: Busy,
    status: Option<StatusCode>,
}

impl BusyGuard {
    /// The connection of the request.
    pub fn connection(&self) -> &Busy {
        &self.busy
    }

    /// It has an answer, whose body may still be on its way.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.busy.0.server.end(self.status);
    }
}

/// What the connection is waiting for, and since when.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wait {
    /// A request is being answered; its own time-outs hold.
    Busy,
    /// The next request.
    Idle(Instant),
    /// Nothing yet: bytes of a head have come, and the rest of it may have come with them.
    Begun,
    /// The rest of a request's head.
    Head(Instant),
}

/// The socket.
#[derive(Debug)]
pub struct Guard<S> {
    socket: S,
    patience: Patience,
    busy: Busy,
    wait: Wait,
    /// Frames of HTTP/2, by which its time-outs go: not all that comes belongs to a request.
    frames: Option<Box<Frames>>,
    /// What was read to find that out, and is read again.
    ahead: Vec<u8>,
    write_since: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer knows whom to wake: the one task that ever looks at this socket.
    armed: bool,
}

impl<S> Guard<S> {
    /// Guards a socket that was just accepted.
    pub fn new(socket: S, patience: Patience, busy: Busy) -> Self {
        let now = now();
        let timer = Box::pin(sleep_until(now + patience.idle.min(patience.header).min(patience.write)));
        Self {
            socket,
            patience,
            busy,
            wait: Wait::Idle(now),
            frames: None,
            ahead: Vec::new(),
            write_since: None,
            timer,
            armed: false,
        }
    }

    /// `true` while a request is being answered.
    pub fn is_busy(&self) -> bool {
        self.busy.is_busy()
    }

    /// `true` if the newest request's body was left unread.
    pub fn is_unread(&self) -> bool {
        self.busy.0.unread.load(Relaxed)
    }

    /// `true` if a part of a request's head has come.
    pub fn is_amid_head(&self) -> bool {
        matches!(self.wait, Wait::Begun | Wait::Head(_))
    }

    /// Counts a request that hyper has refused, which no service does.
    pub fn count_refused(&self, status: StatusCode) {
        self.busy.enter().0.answered(status);
    }

    /// Fails once the deadline has passed; else sees to it that the task is woken then. `now`, where the
    /// caller has just looked.
    fn watch(&mut self, cx: &mut Context<'_>, now: Option<Instant>) -> io::Result<()> {
        let read = match (&mut self.frames, self.wait) {
            (Some(frames), _) => frames.deadline(&self.patience, || now.unwrap_or_else(self::now)),
            (None, Wait::Busy | Wait::Begun) => None,
            (None, Wait::Idle(since)) => Some(since + self.patience.idle),
            (None, Wait::Head(since)) => Some(since + self.patience.header),
        };
        let write = self.write_since.map(|since| since + self.patience.write);
        let Some(deadline) = read.into_iter().chain(write).min() else { return Ok(()) };
        // A timer that is early fires, looks, and is moved; only one that is late is moved now.
        if self.timer.deadline() > deadline {
            self.timer.as_mut().reset(deadline);
            self.armed = false;
        }
        // It costs a tenth of what hyper takes to be asked what is known.
        if self.armed && now.is_some_and(|now| now < self.timer.deadline()) {
            return Ok(());
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the client took too long"));
            }
            self.timer.as_mut().reset(deadline);
        }
        self.armed = true;
        Ok(())
    }
}

/// Timers of sockets follow the runtime's clock, which is not the one that tests move.
#[allow(clippy::disallowed_methods)]
pub(super) fn now() -> Instant {
    Instant::now()
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.ahead.is_empty() {
            let length = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..length]);
            this.ahead.drain(..length);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.socket).poll_read(cx, buf);
        if let Some(frames) = &mut this.frames {
            match polled {
                Poll::Ready(_) => frames.received(buf.filled().get(before..).unwrap_or_default()),
                Poll::Pending => this.watch(cx, None)?,
            }
            return polled;
        }
        let busy = this.busy.is_busy();
        if polled.is_ready() {
            // The first bytes after a pause begin a head; more bytes of it gain no time.
            if !busy && !matches!(this.wait, Wait::Head(_)) {
                this.wait = Wait::Begun;
            }
            return polled;
        }
        let mut looked = None;
        this.wait = match this.wait {
            _ if busy => Wait::Busy,
            Wait::Busy => Wait::Idle(*looked.insert(now())),
            Wait::Begun => Wait::Head(*looked.insert(now())),
            waiting => waiting,
        };
        this.watch(cx, looked)?;
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Whether the client speaks HTTP/2: how it begins says so. Waits for as much of it as that takes.
    pub async fn begins_http2(&mut self) -> io::Result<bool> {
        let (mut first, mut filled) = ([0; PREFACE.len()], 0);
        while filled < PREFACE.len() && PREFACE.starts_with(&first[..filled]) {
            match self.read(&mut first[filled..]).await? {
                0 => break,
                read => filled += read,
            }
        }
        self.ahead = first[..filled].to_vec();
        let http2 = first == PREFACE;
        self.frames = http2.then(|| Box::new(Frames::new()));
        Ok(http2)
    }
}

impl<S: AsyncWrite + Unpin> Guard<S> {
    fn wrote<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_since = None;
            if let Some(frames) = &self.frames {
                // What is sent now may be the last that happens for long: see that the task is woken.
                if frames.changed() {
                    self.watch(cx, None)?;
                }
            } else if self.wait != Wait::Busy && !self.busy.is_busy() {
                // An answer went out: from here on the connection is idle.
                self.wait = Wait::Busy;
            }
        } else {
            self.write_since.get_or_insert_with(now);
            self.watch(cx, None)?;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        if let (Some(frames), Poll::Ready(Ok(written))) = (&mut self.frames, &polled) {
            frames.sent(buf.get(..*written).unwrap_or(buf));
        }
        self.wrote(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        if let (Some(frames), Poll::Ready(Ok(written))) = (&mut self.frames, &polled) {
            let mut left = *written;
            for buf in bufs {
                let part = buf.get(..left).unwrap_or(buf);
                frames.sent(part);
                left -= part.len();
            }
        }
        self.wrote(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use pileus_model::ManualClock;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_to_know_the_protocol_is_read_again() {
        let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        // What a client sends, piece by piece; the last row says nothing at all.
        let cases: [(&[&str], bool); 8] = [
            (&[http2, "frames"], true),
            (&["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nframes"], true),
            (&["P", "RI * HT", "TP/2.0\r\n\r\nSM\r\n\r", "\n", "frames"], true),
            (&["GET / HTTP/1.1\r\n\r\n"], false),
            (&["P", "O", "ST / HTTP/1.1\r\n\r\n"], false),
            (&["PRI * HTTP/2.0\r\n\r\nSM\r\n", "Host: a\r\n"], false),
            (&["PRI * HTTP/2.0"], false),
            (&[], false),
        ];
        for (pieces, http2) in cases {
            let (mut client, server) = tokio::io::duplex(1024);
            let second = Duration::from_secs(1);
            let patience = Patience { idle: second, header: second, write: second };
            let counts = Arc::new(ServerCounts::new(Arc::new(ManualClock::default())));
            let mut guard = Guard::new(server, patience, Busy::new(counts));
            let sent = pieces.concat();
            let send = async move {
                for piece in pieces {
                    client.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let read = async {
                let begins = guard.begins_http2().await.unwrap();
                let mut all = String::new();
                guard.read_to_string(&mut all).await.unwrap();
                (begins, all)
            };
            let ((), read) = tokio::join!(send, read);
            assert_eq!(read, (http2, sent), "{pieces:?}");
        }
    }
}
