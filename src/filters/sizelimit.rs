//! `sizelimit`: reads a request's body whole, up to a limit and within a time.
//!
//! Stands above everything that looks at a body. A body that is too large is refused before it is
//! read where its length is known, and else as soon as it is too large (413); one that takes too long
//! is given up (408); one that breaks off is a bad request (400). Exactly the limit is allowed. A
//! body of one piece is passed on as it came, without a copy; a request without a body costs nothing.
//! Source: reference §3.7, "Request size".

use std::{
    future::poll_fn,
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::header;
use http_body::Body as _;
use pileus_model::{BoxFuture, Clock};
use pileus_sdk::{Answer, Body, Fault, Filter, Request, Stack, body::Stream};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind {
    name: "sizelimit",
    capabilities: |_| Capabilities::NONE.provides(&[Fact::WholeBody]),
    factory,
};

/// What a section with `factory = "sizelimit"` may say.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The largest body that is accepted, in bytes.
    #[serde(default = "default_size")]
    pub max_request_body_size: NonZeroU64,
    /// How long a body may take to arrive, in seconds.
    #[serde(default = "default_timeout")]
    pub body_timeout_s: NonZeroU32,
}

const fn default_size() -> NonZeroU64 {
    NonZeroU64::MIN.saturating_add(114_687)
}

const fn default_timeout() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(29)
}

/// Builds the stage.
pub fn factory(section: &Section, deps: &Deps) -> Result<Filter, Diagnostic> {
    let config: Config = section.parse()?;
    let clock = deps.clock.clone();
    Ok(Filter::around(move |inner, request| match request.body() {
        Body::Empty => inner.send(request),
        Body::Whole(bytes) => {
            let limit = config.max_request_body_size.get();
            let fits = bytes.len() as u64 <= limit;
            if fits { inner.send(request) } else { Answer::refused(Fault::TooLarge { limit }) }
        }
        Body::Stream(_) => read(inner, request, &config, &clock),
    }))
}

/// Reads the body before it sends the request on.
#[inline(never)]
fn read(inner: &Stack, mut request: Request, config: &Config, clock: &Arc<dyn Clock>) -> Answer {
    let Body::Stream(stream) = std::mem::take(request.body_mut()) else { return inner.send(request) };
    let limit = config.max_request_body_size.get();
    let said = request.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|length| length.to_str().ok()?.parse().ok());
    let length: u64 = stream.size_hint().lower().max(said.unwrap_or(0));
    if length > limit {
        return Answer::refused(Fault::TooLarge { limit });
    }
    if stream.is_end_stream() {
        return inner.send(request);
    }
    let inner = inner.clone();
    let mut reading = Reading {
        stream,
        first: Bytes::new(),
        rest: Vec::new(),
        length: usize::try_from(length).unwrap_or(0),
        limit,
        clock: clock.clone(),
        timeout: Duration::from_secs(config.body_timeout_s.get().into()),
        alarm: None,
    };
    Answer::soon(async move {
        let bytes = poll_fn(|cx| reading.poll_read(cx)).await?;
        *request.body_mut() = bytes.into();
        inner.send(request).await
    })
}

/// A body that is being read.
struct Reading {
    stream: Stream,
    /// The first piece, which is all of most bodies.
    first: Bytes,
    /// All of them, once there is a second.
    rest: Vec<u8>,
    /// What the client said of its length; 0 where it did not.
    length: usize,
    limit: u64,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    /// Set when the body is waited for.
    alarm: Option<BoxFuture<()>>,
}

impl Reading {
    fn poll_read(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<Bytes, Fault>> {
        loop {
            let frame = match self.stream.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let alarm = self.alarm.get_or_insert_with(|| self.clock.sleep(self.timeout));
                    return alarm.as_mut().poll(cx).map(|()| Err(Fault::Timeout));
                }
            };
            match frame {
                None if self.rest.is_empty() => return Poll::Ready(Ok(std::mem::take(&mut self.first))),
                None => return Poll::Ready(Ok(std::mem::take(&mut self.rest).into())),
                Some(Err(_)) => {
                    let text = "The request's body broke off before its end.";
                    return Poll::Ready(Err(Fault::BadRequest(text.into())));
                }
                Some(Ok(frame)) => {
                    // Trailers say nothing that anybody here reads.
                    let Ok(data) = frame.into_data() else { continue };
                    let so_far = self.first.len().max(self.rest.len()) + data.len();
                    if so_far as u64 > self.limit {
                        return Poll::Ready(Err(Fault::TooLarge { limit: self.limit }));
                    }
                    if self.first.is_empty() {
                        self.first = data;
                    } else if !data.is_empty() {
                        if self.rest.is_empty() {
                            self.rest.reserve_exact(self.length.max(so_far));
                            self.rest.extend_from_slice(&self.first);
                        }
                        self.rest.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http::Method;
    use http_body::{Frame, SizeHint};
    use pileus_model::ManualClock;
    use pileus_sdk::{Stack, body::BoxError};

    use std::pin::Pin;

    use pileus_sdk::{Request, Response};

    use super::*;
    use crate::filters::testing::{build, deps, over, request};

    /// A body in pieces: data, an error, or nothing for now.
    enum Piece {
        Data(Vec<u8>),
        Breaks,
        Waits,
    }
    use Piece::{Breaks, Data, Waits};

    struct Pieces(VecDeque<Piece>, SizeHint);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = BoxError;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut task::Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            match self.0.pop_front() {
                None => Poll::Ready(None),
                Some(Data(data)) => Poll::Ready(Some(Ok(Frame::data(data.into())))),
                Some(Breaks) => Poll::Ready(Some(Err("reset by peer".into()))),
                Some(Waits) => {
                    self.0.push_front(Waits);
                    Poll::Pending
                }
            }
        }

        fn size_hint(&self) -> SizeHint {
            self.1
        }
    }

    fn sized(pieces: Vec<Piece>, hint: SizeHint, length: Option<&str>) -> Request {
        let headers: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
        let mut request = request(Method::POST, "/", &headers);
        *request.body_mut() = Body::Stream(Box::pin(Pieces(pieces.into(), hint)));
        request
    }

    fn stack(text: &str) -> (Stack, ManualClock) {
        let (deps, clock, _) = deps();
        let echo = |request: Request| async move {
            assert!(!matches!(request.body(), Body::Stream(_)));
            Ok(Response::new(Body::from(request.body().bytes().unwrap())))
        };
        (over(KIND, text, &deps, echo), clock)
    }

    #[tokio::test]
    async fn bodies_up_to_the_limit_pass_and_larger_ones_do_not() {
        let (stack, _) = stack("max_request_body_size = 10");
        let data = |length: usize| Data(vec![b'x'; length]);
        let unknown = SizeHint::default;
        let too_large = "Request is too large. At most 10 bytes are accepted.";
        let broken = "The request's body broke off before its end.";
        let cases = [
            ("exactly the limit", sized(vec![data(10)], unknown(), Some("10")), Ok(10)),
            ("in pieces", sized(vec![data(4), data(0), data(3), data(3)], unknown(), None), Ok(10)),
            ("an empty stream", sized(vec![], unknown(), None), Ok(0)),
            ("an empty piece first", sized(vec![data(0), data(2)], unknown(), None), Ok(2)),
            ("said to be larger", sized(vec![Waits], unknown(), Some("11")), Err(too_large)),
            ("known to be larger", sized(vec![Waits], SizeHint::with_exact(11), None), Err(too_large)),
            ("larger in one piece", sized(vec![data(11), Waits], unknown(), None), Err(too_large)),
            (
                "larger in the end",
                sized(vec![data(5), data(5), data(1), Waits], unknown(), None),
                Err(too_large),
            ),
            ("said smaller than it is", sized(vec![data(9), data(9)], unknown(), Some("3")), Err(too_large)),
            ("breaks off", sized(vec![data(5), Breaks], unknown(), Some("9")), Err(broken)),
            ("breaks off at once", sized(vec![Breaks], unknown(), None), Err(broken)),
        ];
        for (what, sent, expected) in cases {
            let answer = stack.send(sent).await;
            let length = answer.map(|response| response.body().bytes().unwrap().len());
            assert_eq!(length.map_err(|fault| fault.to_string()), expected.map_err(str::to_owned), "{what}");
        }
        let mut whole = request(Method::POST, "/", &[]);
        *whole.body_mut() = Body::from(vec![0; 11]);
        assert_eq!(stack.send(whole).await.unwrap_err().code().0, 413);
        assert!(stack.send(request(Method::GET, "/", &[])).await.is_ok());
    }

    #[tokio::test]
    async fn pieces_come_out_in_their_order() {
        let (stack, _) = stack("");
        let sent =
            sized(vec![Data(b"ab".into()), Data(b"c".into()), Data(b"de".into())], SizeHint::default(), None);
        let response = stack.send(sent).await.unwrap();
        assert_eq!(response.body().bytes().unwrap(), "abcde");
    }

    #[tokio::test]
    async fn a_body_that_takes_too_long_is_given_up() {
        let (stack, clock) = stack("body_timeout_s = 5");
        let mut answer = stack.send(sized(vec![Data(vec![1]), Waits], SizeHint::default(), None));
        let mut poll = || {
            let mut cx = task::Context::from_waker(task::Waker::noop());
            std::pin::Pin::new(&mut answer).poll(&mut cx)
        };
        assert!(poll().is_pending());
        clock.advance(Duration::from_millis(4999));
        assert!(poll().is_pending());
        clock.advance(Duration::from_millis(1));
        assert!(matches!(poll(), Poll::Ready(Err(Fault::Timeout))));
    }

    #[test]
    fn settings() {
        let (deps, ..) = deps();
        assert_eq!((default_size().get(), default_timeout().get()), (114_688, 30));
        for wrong in ["max_request_body_size = 0", "body_timeout_s = 0", "body_timeout_s = -1", "limit = 5"] {
            assert!(build(KIND, wrong, &deps).is_err(), "{wrong}");
        }
    }
}
