//! A request's body as it comes, and what is done with the rest of one that is not wanted.
//!
//! A request may be refused before its body was read. The body is then no reason to keep the answer back, and
//! its bytes must not be taken for the next request. A short body is read and thrown away while the answer
//! goes out, and the connection is kept. What is left of a longer one is thrown away after the answer, in
//! [`Http1Stream`](super::http1::Http1Stream), and then the connection ends.
//!
//! A client that waits for a 100 gets none after a refusal: asking hyper for the body would send it.
//!
//! On HTTP/2 the stream is reset in the end. It is kept for a moment before that: clients take a reset that comes
//! with a whole answer for an error (curl 7.88), although it is none.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use pileus_sdk::body::BoxError;
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

use super::guard::Busy;

/// Most bytes of an unwanted body that are read and thrown away: what fits into a socket's buffers anyway.
pub const DRAIN_BYTES: usize = 64 * 1024;

/// Longest time for that.
pub const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Time between the answer and the reset of its stream. The client's bytes that wait meanwhile count in the window
/// of the connection, which the other streams share.
const RESET_DELAY: Duration = Duration::from_millis(200);

/// hyper's body, with its error behind a box.
pub struct IncomingBody {
    /// `None` once it is drained elsewhere.
    body: Option<Incoming>,
    state: State,
    /// `true` if the client waits for a 100.
    expects: bool,
    /// The connection, where it is of HTTP/1.
    connection: Option<Busy>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Ended,
    Broken,
}

impl IncomingBody {
    /// The body of a request; `expects` if the client waits for a 100. `connection` where the rest of it would
    /// stand before the next request.
    pub fn new(body: Incoming, expects: bool, connection: Option<Busy>) -> Self {
        Self { body: Some(body), state: State::Open, expects, connection }
    }
}

impl http_body::Body for IncomingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.state = State::Ended,
            Poll::Ready(Some(Err(_))) => self.state = State::Broken,
            _ => {}
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        if self.state != State::Ended && !self.is_end_stream() {
            self.leave();
        }
    }
}

impl IncomingBody {
    /// Sees to what is left of it.
    #[cold]
    fn leave(&mut self) {
        let Some(mut body) = self.body.take() else { return };
        let (connection, open) = (self.connection.take(), self.state == State::Open);
        let Some(connection) = connection else {
            if let (Ok(runtime), true) = (Handle::try_current(), open) {
                drop(runtime.spawn(async move {
                    if let Ok(Ok(false)) = timeout(DRAIN_TIME, drain(&mut body)).await {
                        sleep(RESET_DELAY).await;
                    }
                }));
            }
            return;
        };
        connection.set_unread(true);
        let short = body.size_hint().lower() <= DRAIN_BYTES as u64;
        if let (Ok(runtime), true) = (Handle::try_current(), open && short && !self.expects) {
            // While it is read, the connection is busy.
            drop(runtime.spawn(async move {
                if let Ok(Ok(true)) = timeout(DRAIN_TIME, drain(&mut body)).await {
                    connection.set_unread(false);
                }
            }));
        }
    }
}

/// Reads a body to its end; `false` if it is too long.
async fn drain(body: &mut Incoming) -> Result<bool, hyper::Error> {
    let mut left = DRAIN_BYTES;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        match left.checked_sub(frame?.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return Ok(false),
        }
    }
    Ok(true)
}
