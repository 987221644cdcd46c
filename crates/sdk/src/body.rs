//! The one body of requests and replies: whole, or a stream.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Why a stream broke.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A stream of frames, behind one allocation.
pub type Stream = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BoxError> + Send>>;

/// The largest piece of a whole body that is handed out at once, in bytes: a server that puts head and body
/// together, to write them at once, needs no more room than for that.
const PIECE: usize = 16 * 1024;

/// A request's body is a stream until `sizelimit` has read it; a reply's is whole unless it is long.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// All of it.
    Whole(Bytes),
    /// As it comes.
    Stream(Stream),
}

impl Body {
    /// The bytes, where the body is whole; `None` while it is a stream.
    pub fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Empty => Some(Bytes::new()),
            Self::Whole(bytes) => Some(bytes.clone()),
            Self::Stream(_) => None,
        }
    }
}

/// A stream whose pieces are made one after the other: `next` is asked for a piece, and for the state
/// to ask the next one with, only once the piece before was taken. `None` ends it. So a reader that is
/// slow costs no memory.
pub fn pieces<S, B, F>(state: S, next: impl FnMut(S) -> F + Send + 'static) -> Stream
where
    S: Send + 'static,
    B: Into<Bytes> + 'static,
    F: Future<Output = Option<(B, S)>> + Send + 'static,
{
    Box::pin(Pieces { state: Some(state), next, making: None })
}

struct Pieces<S, N, F> {
    state: Option<S>,
    next: N,
    making: Option<Pin<Box<F>>>,
}

// Nothing is pinned but what stands in its own box.
impl<S, N, F> Unpin for Pieces<S, N, F> {}

impl<S, B, N, F> http_body::Body for Pieces<S, N, F>
where
    B: Into<Bytes>,
    N: FnMut(S) -> F,
    F: Future<Output = Option<(B, S)>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(state) = this.state.take() {
            this.making = Some(Box::pin((this.next)(state)));
        }
        let Some(making) = &mut this.making else { return Poll::Ready(None) };
        let made = std::task::ready!(making.as_mut().poll(cx));
        this.making = None;
        Poll::Ready(made.map(|(piece, state)| {
            this.state = Some(state);
            Ok(Frame::data(piece.into()))
        }))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Whole(bytes) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
            Self::Whole(bytes) => {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                if bytes.is_empty() {
                    *self = Self::Empty;
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(_) => false,
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    // Says the size alone: a body may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Whole(bytes) => write!(f, "Whole({} bytes)", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[test]
    fn a_whole_body_comes_in_pieces_of_its_bytes() {
        for (length, pieces) in [(1, 1), (PIECE, 1), (PIECE + 1, 2), (3 * PIECE, 3)] {
            let bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let (mut body, mut got) = (Body::from(bytes.clone()), Vec::new());
            let mut cx = Context::from_waker(std::task::Waker::noop());
            for index in 0..pieces {
                assert_eq!(body.size_hint().exact(), Some((length - got.len()) as u64));
                assert!(!body.is_end_stream(), "{length}: {index}");
                let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) else { panic!() };
                got.extend_from_slice(frame.data_ref().unwrap());
            }
            assert!(body.is_end_stream() && got == bytes, "{length}");
            assert!(matches!(Pin::new(&mut body).poll_frame(&mut cx), Poll::Ready(None)));
        }
    }
}
