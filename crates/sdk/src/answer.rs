//! What comes back from below: there at once, or later.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use pileus_model::BoxFuture;

use crate::{Fault, Response};

/// What answers a request. Most answers are there at once, and cost no future and no allocation.
pub struct Answer(State);

enum State {
    Now(Option<Result<Response, Fault>>),
    Later(BoxFuture<Result<Response, Fault>>),
}

impl Answer {
    /// An answer that is there.
    pub fn now(answer: Result<Response, Fault>) -> Self {
        Self(State::Now(Some(answer)))
    }

    /// A refusal. It is the seldom case: what leads to it is kept out of the way of what passes.
    #[cold]
    pub fn refused(fault: Fault) -> Self {
        Self::now(Err(fault))
    }

    /// One that has to be waited for.
    pub fn later<F>(answer: F) -> Self
    where
        F: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        Self(State::Later(Box::pin(answer)))
    }

    /// One that may be there at once: it is asked for. If it is not, it is asked again by whoever
    /// waits for it, with a waker that wakes somebody.
    pub fn soon<F>(answer: F) -> Self
    where
        F: Future<Output = Result<Response, Fault>> + Send + 'static,
    {
        let mut answer: BoxFuture<_> = Box::pin(answer);
        match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Self::now(answer),
            Poll::Pending => Self(State::Later(answer)),
        }
    }

    /// The response, to be added to, where it is there and all went well.
    pub fn response_mut(&mut self) -> Option<&mut Response> {
        match &mut self.0 {
            State::Now(Some(Ok(response))) => Some(response),
            _ => None,
        }
    }

    /// What is there; else what has to be waited for.
    pub fn ready(self) -> Result<Result<Response, Fault>, BoxFuture<Result<Response, Fault>>> {
        match self.0 {
            State::Now(answer) => Ok(answer.unwrap_or_else(spent)),
            State::Later(answer) => Err(answer),
        }
    }

    /// Another answer, made of this one when it is there.
    pub fn map<F>(self, change: F) -> Self
    where
        F: FnOnce(Result<Response, Fault>) -> Result<Response, Fault> + Send + 'static,
    {
        match self.ready() {
            Ok(answer) => Self::now(change(answer)),
            Err(later) => Self::later(async move { change(later.await) }),
        }
    }
}

/// What is given away has been given away.
fn spent() -> Result<Response, Fault> {
    Err(Fault::internal("polled after its end"))
}

impl From<Result<Response, Fault>> for Answer {
    fn from(answer: Result<Response, Fault>) -> Self {
        Self::now(answer)
    }
}

impl Future for Answer {
    type Output = Result<Response, Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Now(answer) => Poll::Ready(answer.take().unwrap_or_else(spent)),
            State::Later(answer) => answer.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Now(_) => "Answer(there)",
            State::Later(_) => "Answer(awaited)",
        })
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::Body;

    fn answer(status: StatusCode) -> Result<Response, Fault> {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        Ok(response)
    }

    #[tokio::test]
    async fn what_is_there_is_not_waited_for_and_the_rest_is() {
        let teapot = |_| answer(StatusCode::IM_A_TEAPOT);
        let there = Answer::soon(async { answer(StatusCode::OK) }).map(teapot);
        assert_eq!(there.ready().ok().unwrap().unwrap().status(), StatusCode::IM_A_TEAPOT);
        let (tell, told) = tokio::sync::oneshot::channel();
        let awaited = Answer::soon(async move { answer(told.await.unwrap()) });
        let awaited = awaited.map(|answer| {
            assert_eq!(answer.unwrap().status(), StatusCode::ACCEPTED);
            Err(Fault::NoRoute)
        });
        let Err(awaited) = awaited.ready() else { panic!("it is there") };
        // Told after it was asked by nobody: who waits now is woken all the same.
        let waiting = tokio::spawn(awaited);
        tokio::task::yield_now().await;
        tell.send(StatusCode::ACCEPTED).unwrap();
        assert!(matches!(waiting.await.unwrap(), Err(Fault::NoRoute)));
    }
}
