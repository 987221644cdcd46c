//! The socket of a connection of HTTP/1, as hyper gets it: what hyper itself does not do.
//!
//! - hyper answers a head that it cannot read with a status and nothing else (400, 414, 431). Such an answer is
//!   replaced on its way out by a fault, as every other refusal is one.
//! - hyper drops a `Content-Length` beside `Transfer-Encoding`. So the head is kept as it came, and
//!   [`length_beside_coding`] looks there.
//! - An answer is lost where the socket is closed while bytes of the client wait to be read: the system resets
//!   the connection. So the rest of a refused request is read and thrown away, within bounds, before that.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::StatusCode;
use pileus_sdk::{Fault, Media};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{
    guard::Guard,
    incoming::{DRAIN_BYTES, DRAIN_TIME},
};
use crate::{filters::request_id, paste::ServerSettings};

tokio::task_local! {
    /// What a connection's newest request began with, as it came. In the task, because the socket and the
    /// service are both hyper's, and have nothing else in common that costs no lock.
    pub static RAW_HEAD: RefCell<Vec<u8>>;
}

/// Longest answer that hyper writes by itself, in bytes; twice that.
const HYPERS_OWN: usize = 256;

/// Room for a head that a connection keeps for the next, in bytes.
const KEPT: usize = 4096;

/// Room for the method and the version beside a target, in bytes.
const BESIDE_TARGET: usize = 32;

/// The bounds of a request's head.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Of the target, in bytes.
    pub target: u32,
    /// Number of header fields.
    pub fields: u32,
    /// Of the whole head, in bytes.
    pub bytes: u32,
}

impl HeadLimits {
    /// Those of a server.
    pub fn of(settings: &ServerSettings) -> Self {
        Self {
            target: settings.max_target_bytes.get(),
            fields: settings.max_headers.get(),
            bytes: settings.max_header_bytes.get(),
        }
    }

    /// Refuses a target that is too long.
    pub fn target_too_long(&self) -> Fault {
        Fault::TargetTooLong { limit: self.target }
    }

    /// Refuses a header that is too large.
    pub fn header_too_large(&self) -> Fault {
        Fault::HeaderTooLarge { fields: self.fields, bytes: self.bytes }
    }
}

/// A guarded socket under hyper's HTTP/1.
pub struct Http1Stream<S> {
    guard: Guard<S>,
    limits: HeadLimits,
    /// `true` if nothing of an answer is on its way: what is written next begins one.
    between: bool,
    /// `true` if the newest bytes came while a request was being answered: the next head may begin in them.
    ahead: bool,
    /// What is written instead of hyper's own answer, and how much of it was.
    refusal: Option<(Vec<u8>, usize)>,
    end: End,
}

/// How far the end of a connection is.
enum End {
    /// There is none.
    Open,
    /// The rest of what the client sends is thrown away: so much more, and not for longer than this.
    Lingering(usize, Pin<Box<Sleep>>),
    /// Nothing is left to do.
    Closed,
}

impl<S> Http1Stream<S> {
    /// The socket of a new connection.
    pub fn new(guard: Guard<S>, limits: HeadLimits) -> Self {
        Self { guard, limits, between: true, ahead: false, refusal: None, end: End::Open }
    }

    /// Keeps bytes that have come; `more` if they may not be the first of a head. The newest are kept: a head that
    /// is larger is refused.
    fn keep(&self, bytes: &[u8], more: bool) {
        // Without a place to keep them they are missed in one check, after which hyper closes as it should.
        let _ = RAW_HEAD.try_with(|head| {
            let mut head = head.borrow_mut();
            if !more && head.capacity() > KEPT {
                *head = Vec::new();
            } else if !more {
                head.clear();
            }
            head.extend_from_slice(bytes);
            let above = head.len().saturating_sub(self.limits.bytes as usize);
            head.drain(..above);
        });
    }

    /// The fault in the place of an answer that hyper wrote; `None`: it is not hyper's.
    #[cold]
    fn instead(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let text = std::str::from_utf8(answer).ok()?.strip_suffix("\r\n\r\n")?;
        let mut lines = text.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse::<StatusCode>().ok()?;
        let fields: Option<Vec<_>> = lines.map(|line| line.split_once(": ")).collect();
        let fields = fields?;
        let own = |(name, value): &(&str, &str)| match *name {
            "content-length" => *value == "0",
            "connection" | "date" => true,
            _ => false,
        };
        let empty = fields.iter().any(|(name, _)| *name == "content-length");
        if !empty || !fields.iter().all(own) {
            return None;
        }
        let line = RAW_HEAD.try_with(|head| {
            let head = head.borrow();
            head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len())
        });
        let long = line.is_ok_and(|length| length > self.limits.target as usize + BESIDE_TARGET);
        let fault = match status {
            StatusCode::BAD_REQUEST => Fault::BadRequest(UNREADABLE.into()),
            StatusCode::URI_TOO_LONG => self.limits.target_too_long(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if long => self.limits.target_too_long(),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => self.limits.header_too_large(),
            _ => return None,
        };
        let response = request_id::named(fault, Media::Json);
        let status = response.status();
        self.guard.count_refused(status);
        let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
        let body = response.body().bytes().unwrap_or_default();
        let date = fields.iter().filter(|(name, _)| *name == "date");
        let date = date.map(|(name, value)| (*name, value.as_bytes()));
        let length = body.len().to_string();
        let own = [
            ("connection", &b"close"[..]),
            ("cache-control", &b"no-store"[..]),
            ("content-length", length.as_bytes()),
        ];
        let named = response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        for (name, value) in named.chain(own).chain(date) {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        Some(bytes)
    }
}

/// hyper does not say what is wrong with a head, nor where.
const UNREADABLE: &str = "The request's line or header cannot be read as HTTP/1.1.";

/// `true` if a head that was kept has both a length and a transfer coding. Looks at all that was kept: where
/// requests follow each other without a pause, that is more than one head.
#[cold]
pub fn length_beside_coding() -> bool {
    RAW_HEAD.try_with(|head| has_both(&head.borrow())).unwrap_or(false)
}

fn has_both(bytes: &[u8]) -> bool {
    let (mut length, mut coding) = (false, false);
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is = |name: &[u8]| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line.get(name.len()) == Some(&b':')
        };
        if line.is_empty() {
            (length, coding) = (false, false);
        }
        length |= is(b"content-length");
        coding |= is(b"transfer-encoding");
        if length && coding {
            return true;
        }
    }
    false
}

impl<S: AsyncRead + Unpin> AsyncRead for Http1Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (busy, amid, before) = (this.guard.is_busy(), this.guard.is_amid_head(), buf.filled().len());
        ready!(Pin::new(&mut this.guard).poll_read(cx, buf))?;
        this.keep(&buf.filled()[before..], busy || amid || this.ahead);
        this.ahead = busy;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Http1Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.between && buf.len() < HYPERS_OWN && buf.starts_with(b"HTTP/1.1 4") && this.refusal.is_none()
        {
            this.refusal = this.instead(buf).map(|bytes| (bytes, 0));
        }
        if let Some((bytes, written)) = &mut this.refusal {
            while *written < bytes.len() {
                let more = ready!(Pin::new(&mut this.guard).poll_write(cx, &bytes[*written..]))?;
                if more == 0 {
                    return Poll::Ready(Ok(0));
                }
                *written += more;
            }
            this.between = false;
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut this.guard).poll_write(cx, buf))?;
        this.between = false;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        // hyper is told not to; and what is written has to come in one piece to be known.
        false
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.guard).poll_flush(cx))?;
        // hyper flushes once all that it has is written.
        self.between = !self.guard.is_busy();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let End::Open = this.end {
            ready!(Pin::new(&mut this.guard).poll_shutdown(cx))?;
            let unread = this.refusal.is_some() || this.guard.is_unread();
            this.end =
                if unread { End::Lingering(DRAIN_BYTES, Box::pin(sleep(DRAIN_TIME))) } else { End::Closed };
        }
        if let End::Lingering(left, timer) = &mut this.end {
            let mut room = [0; 4096];
            while *left > 0 && timer.as_mut().poll(cx).is_pending() {
                let mut buf = ReadBuf::new(&mut room);
                // An error ends it as well as an end.
                match ready!(Pin::new(&mut this.guard).poll_read(cx, &mut buf)) {
                    Ok(()) if !buf.filled().is_empty() => *left = left.saturating_sub(buf.filled().len()),
                    _ => break,
                }
            }
            this.end = End::Closed;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_and_a_coding_are_seen_in_one_head() {
        let cases = [
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ncontent-length:5\r\nTRANSFER-ENCODING:chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\nContent-Length: 5\nTransfer-Encoding: chunked\n\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nTransfer-Encoding: chunked\r\n", false),
            ("A\r\nContent-Length: 0\r\n\r\nB\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("A\r\nX-Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("A\r\nContent-Length-X: 0\r\nTransfer-Encoding: chunked\r\n\r\n", false),
            ("", false),
        ];
        for (head, both) in cases {
            assert_eq!(has_both(head.as_bytes()), both, "{head:?}");
        }
    }
}
