//! Request that a thread works on, for the log lines that it writes meanwhile.
//!
//! A thread-local id costs a request some ten instructions. A `tracing` span costs a thousand: it is
//! formatted and kept in a registry even if no line is ever written below it.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pileus_sdk::RequestId;

thread_local! {
    static CURRENT: Cell<RequestId> = const { Cell::new(RequestId::EMPTY) };
}

/// Mark of the request that this thread works on. Dropping it restores the one before.
#[derive(Debug)]
#[must_use]
pub struct Entered(RequestId);

/// Marks the request that this thread works on. The mark must not be kept over an `await`.
pub fn enter(id: RequestId) -> Entered {
    Entered(CURRENT.replace(id))
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// Returns the id of the request that this thread works on; empty if there is none.
pub fn current() -> RequestId {
    CURRENT.get()
}

/// Future that marks its request while it is polled.
#[derive(Debug)]
pub struct InRequest<F> {
    id: RequestId,
    inner: F,
}

impl<F> InRequest<F> {
    /// Wraps a future of the request with this id.
    pub fn new(id: RequestId, inner: F) -> Self {
        Self { id, inner }
    }
}

impl<F: Future + Unpin> Future for InRequest<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = enter(self.id);
        Pin::new(&mut self.inner).poll(cx)
    }
}

/// Adds the id of the current request to a formatted log line, unless the line has it already.
pub fn tagged(line: &[u8], json: bool, write: impl FnOnce(&[u8])) {
    let id = current();
    let id = id.as_bytes();
    if id.is_empty() || line.windows(id.len()).any(|part| part == id) {
        return write(line);
    }
    let end: &[u8] = if json { b"}\n" } else { b"\n" };
    let Some(start) = line.strip_suffix(end) else { return write(line) };
    let key: &[u8] = if json { b",\"request.id\":\"" } else { b" request.id=\"" };
    write(&[start, key, id, b"\"", end].concat());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_id_of_its_request_once() {
        let id = RequestId::new("req-7");
        let cases = [
            (id, false, "INFO a: b\n", "INFO a: b request.id=\"req-7\"\n"),
            (id, true, "{\"a\":{}}\n", "{\"a\":{},\"request.id\":\"req-7\"}\n"),
            (id, false, "INFO a: b request.id=req-7\n", "INFO a: b request.id=req-7\n"),
            (id, false, "no end", "no end"),
            (RequestId::EMPTY, false, "INFO a: b\n", "INFO a: b\n"),
        ];
        for (id, json, line, expected) in cases {
            let _entered = enter(id);
            tagged(line.as_bytes(), json, |tagged| {
                assert_eq!(String::from_utf8_lossy(tagged), expected);
            });
        }
        assert_eq!(current(), RequestId::EMPTY, "left again");
    }

    #[test]
    fn the_request_before_is_restored() {
        let outer = enter(RequestId::new("outer"));
        drop(enter(RequestId::new("inner")));
        assert_eq!(current().as_str(), "outer");
        drop(outer);
        assert_eq!(current().as_str(), "");
    }
}
