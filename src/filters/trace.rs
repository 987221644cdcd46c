//! `trace`: one line in the access log for each request, and its id on all log lines that it causes.
//!
//! Stands below `request_id` and above everything else. The line is formatted straight into bytes and given to
//! a [`Sink`](crate::logging::Sink), which writes it later: no request waits for a log. While `PILEUS_LOG`
//! turns the target `access` off, a request costs one look at a flag. The query is never logged: it may
//! hold a secret.
//!
//! By the time the reply comes up, the request has moved down and its context is gone. So this stage
//! leaves an empty [`Seen`] in the context, into which the authenticator and `policy` put caller and
//! route ([`Context::note`](pileus_sdk::Context::note)).
//!
//! A reply that is a stream is reported when it ends, or when the client no longer wants it. A
//! request whose client hung up before there was a reply is `request abandoned`.

mod line;

use std::{
    fmt,
    future::Future,
    num::NonZeroU32,
    ops::Deref,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use pileus_model::{BoxFuture, Clock, Monotonic};
use pileus_sdk::{
    Answer, Body, Fault, Filter, Request, Response, Seen,
    body::{BoxError, Stream},
};
use serde::Deserialize;

use self::line::{Format, Line, Outcome};
use crate::{
    diagnostic::Diagnostic,
    logging::{
        Buffering, Sink,
        current::{InRequest, enter},
    },
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind { name: "trace", capabilities: |_| Capabilities::NONE, factory };

/// Settings of a section with `factory = "trace"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// File of the access log; `None`: stderr.
    pub file: Option<PathBuf>,
    /// Format of a line; `None`: that of the general log on stderr, else text.
    pub format: Option<Format>,
    /// Size at which the buffer is written, in bytes.
    #[serde(default = "default_buffer_bytes")]
    pub buffer_bytes: NonZeroU32,
    /// Time after which a line is written, in milliseconds.
    #[serde(default = "default_flush_ms")]
    pub flush_ms: NonZeroU32,
}

/// Largest buffer, in bytes. A stalled log takes up to sixteen of them.
const MAX_BUFFER_BYTES: u32 = 16 << 20;

/// Longest time that a line may wait, in milliseconds.
const MAX_FLUSH_MS: u32 = 60_000;

const fn default_buffer_bytes() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add((64 << 10) - 1)
}

const fn default_flush_ms() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(99)
}

/// Builds the stage. Opens no file: that is done when the service starts.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let Config { file, format, buffer_bytes, flush_ms } = section.parse()?;
    let buffering = Buffering { bytes: buffer_bytes.get(), ms: flush_ms.get() };
    for (key, value, most) in
        [("buffer_bytes", buffering.bytes, MAX_BUFFER_BYTES), ("flush_ms", buffering.ms, MAX_FLUSH_MS)]
    {
        if value > most {
            return Err(section.wrong(key, format!("`{key}` is at most {most}")));
        }
    }
    let file = file.map(|file| section.beside("file", &file));
    if let Some(path) = &file {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        if path.is_dir() || folder.is_some_and(|folder| !folder.is_dir()) {
            let path = path.display();
            return Err(section
                .wrong("file", format!("`{path}` cannot be a file: a folder is missing, or it is one")));
        }
    }
    let json = file.is_none() && deps.logs.is_json();
    let format = format.unwrap_or(if json { Format::Json } else { Format::Text });
    let (sink, clock) = (deps.logs.sink(file, buffering), deps.clock.clone());
    let (log, logs) = (Arc::new(AccessLog { sink, format, clock }), deps.logs.clone());
    Ok(Filter::around(move |inner, mut request| {
        let id = request.context().request_id;
        let entry = logs.logs_requests().then(|| Entry::of(&mut request, &log));
        let mut pending = Pending { log: &*log, entry };
        let mut answer = {
            let _entered = enter(id);
            inner.send(request)
        };
        // Nearly always the answer is there, and whole: then nothing is moved.
        if let Some(response) = answer.response_mut()
            && !matches!(response.body(), Body::Stream(_))
        {
            pending.answered(response);
            return answer;
        }
        let pending = Pending { log: log.clone(), entry: pending.entry.take() };
        match answer.ready() {
            Ok(answer) => pending.finished(answer).into(),
            Err(inner) => Answer::later(Traced { inner: InRequest::new(id, inner), pending }),
        }
    }))
}

/// Access log, as far as a stage is concerned.
#[derive(Debug)]
struct AccessLog {
    sink: Arc<Sink>,
    format: Format,
    clock: Arc<dyn Clock>,
}

/// Answer that will be reported.
struct Traced {
    inner: InRequest<BoxFuture<Result<Response, Fault>>>,
    pending: Pending<Arc<AccessLog>>,
}

impl Future for Traced {
    type Output = Result<Response, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let answer = ready!(Pin::new(&mut this.inner).poll(cx));
        let pending = Pending { log: this.pending.log.clone(), entry: this.pending.entry.take() };
        Poll::Ready(pending.finished(answer))
    }
}

/// Line that is not complete, and what it still needs.
#[derive(Debug)]
struct Entry {
    line: Line,
    start: Monotonic,
    seen: Arc<Seen>,
    /// `true` if the answer's body is not sent.
    is_head: bool,
    /// `None` until there is an answer.
    status: Option<StatusCode>,
    bytes: u64,
}

impl Entry {
    fn of(request: &mut Request, log: &AccessLog) -> Self {
        let line = Line::of(log.format, request);
        let is_head = *request.method() == Method::HEAD;
        let seen = Arc::<Seen>::default();
        let context = request.context_mut();
        context.seen = Some(seen.clone());
        context.note();
        Self { line, start: log.clock.monotonic(), seen, is_head, status: None, bytes: 0 }
    }
}

/// Entry of a log, if the request is logged. It is written when it is dropped.
struct Pending<L: Deref<Target = AccessLog>> {
    log: L,
    entry: Option<Entry>,
}

impl<L: Deref<Target = AccessLog>> Pending<L> {
    /// Takes what an answer that is no stream says.
    fn answered(&mut self, response: &Response) {
        let Some(entry) = &mut self.entry else { return };
        entry.status = Some(response.status());
        entry.bytes = if entry.is_head { 0 } else { response.body().size_hint().lower() };
    }
}

impl Pending<Arc<AccessLog>> {
    /// Reports at once, or when the stream ends.
    fn finished(mut self, answer: Result<Response, Fault>) -> Result<Response, Fault> {
        let Some(entry) = &mut self.entry else { return answer };
        let mut response = match answer {
            Ok(response) => response,
            Err(fault) => {
                entry.status = Some(fault.code().0);
                return Err(fault);
            }
        };
        if !matches!(response.body(), Body::Stream(_)) {
            self.answered(&response);
            return Ok(response);
        }
        entry.status = Some(response.status());
        if let Body::Stream(inner) = std::mem::take(response.body_mut()) {
            *response.body_mut() = Body::Stream(Box::pin(Counted { inner, pending: self }));
        }
        Ok(response)
    }
}

impl<L: Deref<Target = AccessLog>> Drop for Pending<L> {
    fn drop(&mut self) {
        let Some(Entry { line, start, seen, status, bytes, .. }) = self.entry.take() else { return };
        let clock = &self.log.clock;
        let (end_us, duration) = (clock.now_us(), clock.monotonic().since(start));
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let outcome = Outcome { status, bytes, end_us, duration_us };
        line.finish(&seen, &outcome, |line| self.log.sink.push(line));
    }
}

impl<L: Deref<Target = AccessLog>> fmt::Debug for Pending<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// Stream that counts its bytes for the entry, which ends with it.
struct Counted {
    inner: Stream,
    pending: Pending<Arc<AccessLog>>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        if let (Some(Ok(frame)), Some(entry)) = (&frame, &mut self.pending.entry) {
            entry.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
