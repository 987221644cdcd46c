//! How long the stages of a pipeline take, each alone and with all below it.
//!
//! A server has its stages twice on top of each other: once bare, and once with a look at the clock above
//! each. One request in so many takes the timed way; the others pay for none of this. Filters are built once
//! and put over both, so that what they remember is the same.
//!
//! Of a request that is timed every stage adds what it took to one number of the request's
//! ([`spent_ns`](pileus_sdk::Context::spent_ns)), so that the stage above knows what was not its own. Stages
//! stand in each other, and so one number is enough. A time ends when the answer is there, before its body;
//! or when nobody waits for the answer any more.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use pileus_model::{Clock, Monotonic};
use pileus_sdk::{Request, Stack};

use super::Histogram;

/// The times of one stage.
pub struct Stage {
    clock: Arc<dyn Clock>,
    /// Without those below.
    pub own: Histogram,
    /// With them.
    pub total: Histogram,
}

impl Stage {
    /// One that nothing has gone through.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, own: Histogram::default(), total: Histogram::default() }
    }

    /// Puts a look at the clock above a stage.
    pub fn above(self: Arc<Self>, stage: Stack) -> Stack {
        Stack::forward(move |mut request| {
            let span = Span::new(&self, &mut request);
            stage.send(request).map(move |answer| {
                drop(span);
                answer
            })
        })
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage").field("own", &self.own).field("total", &self.total).finish_non_exhaustive()
    }
}

/// A request's time in a stage and below it. Ends when it is dropped.
struct Span {
    stage: Arc<Stage>,
    spent_ns: Arc<AtomicU64>,
    /// What the stages beside this one had spent before.
    before_ns: u64,
    start: Monotonic,
}

impl Span {
    fn new(stage: &Arc<Stage>, request: &mut Request) -> Self {
        let spent_ns = request.context_mut().spent_ns.get_or_insert_default().clone();
        let before_ns = spent_ns.swap(0, Relaxed);
        Self { stage: stage.clone(), spent_ns, before_ns, start: stage.clock.monotonic() }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let spent = self.stage.clock.monotonic().since(self.start);
        let total = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        let below = self.spent_ns.swap(self.before_ns.saturating_add(total), Relaxed);
        self.stage.own.add(total.saturating_sub(below));
        self.stage.total.add(total);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pileus_model::ManualClock;
    use pileus_sdk::{Answer, Body, Fault, Filter, Response};

    use super::*;

    fn ms(times: u64) -> Duration {
        Duration::from_millis(times)
    }

    /// A filter that takes so long on the way down and on the way up.
    fn takes(clock: &ManualClock, down: u64, up: u64) -> Filter {
        let clock = clock.clone();
        Filter::around(move |inner, request| {
            clock.advance(ms(down));
            let clock = clock.clone();
            inner.send(request).map(move |answer| {
                clock.advance(ms(up));
                answer
            })
        })
    }

    /// Own time, time with all below, and count.
    fn seen(stage: &Stage) -> (u64, u64, u64) {
        let (own, total) = (stage.own.counts(), stage.total.counts());
        assert_eq!(own.count(), total.count());
        (own.sum_ns / 1_000_000, total.sum_ns / 1_000_000, own.count())
    }

    fn answer() -> Result<Response, Fault> {
        Ok(Response::new(Body::Empty))
    }

    #[tokio::test]
    async fn own_times_add_up_to_the_time_of_all() {
        let clock = ManualClock::default();
        let [outer, middle, app] = [(); 3].map(|()| Arc::new(Stage::new(Arc::new(clock.clone()))));
        let waits = clock.clone();
        let bottom = Stack::from_fn(move |request: Request| {
            let clock = waits.clone();
            async move {
                match request.uri().path() {
                    "/awaited" => clock.sleep(ms(7)).await,
                    _ => clock.advance(ms(7)),
                }
                answer()
            }
        });
        let refuses = Filter::gate(|request| match request.uri().path() {
            "/refused" => Err(Fault::NoRoute),
            _ => Ok(()),
        });
        let below = refuses.over(app.clone().above(bottom));
        let below = middle.clone().above(takes(&clock, 2, 3).over(below));
        let stack = outer.clone().above(takes(&clock, 1, 0).over(below));
        // A path, and what all three have seen after it.
        let cases = [
            ("/", [(1, 13, 1), (5, 12, 1), (7, 7, 1)]),
            ("/awaited", [(2, 26, 2), (10, 24, 2), (14, 14, 2)]),
            ("/refused", [(3, 32, 3), (15, 29, 3), (14, 14, 2)]),
        ];
        for (path, expected) in cases {
            let mut request = Request::new(Body::Empty);
            *request.uri_mut() = path.parse().unwrap();
            match stack.send(request).ready() {
                Ok(answer) => assert_eq!(answer.is_err(), path == "/refused"),
                Err(later) => {
                    assert_eq!((path, seen(&outer).2), ("/awaited", 1), "not before it is answered");
                    clock.advance(ms(7));
                    assert!(later.await.is_ok());
                }
            }
            assert_eq!([&outer, &middle, &app].map(|stage| seen(stage)), expected, "{path}");
        }
    }

    #[tokio::test]
    async fn two_below_one_are_both_taken_off_and_who_gives_up_has_waited() {
        let clock = ManualClock::default();
        let [outer, one, other] = [(); 3].map(|()| Arc::new(Stage::new(Arc::new(clock.clone()))));
        let slow = clock.clone();
        let app = Stack::from_fn(move |_| {
            slow.advance(ms(4));
            std::future::ready(answer())
        });
        let never = Stack::from_fn(|_| std::future::pending());
        let (one, app) = (one.clone(), one.above(app));
        let (other, never) = (other.clone(), other.above(never));
        let waits = clock.clone();
        let both = Stack::forward(move |request: Request| {
            let context = request.context().clone();
            let first = app.send(request);
            waits.advance(ms(1));
            let second = never.send(Request::with(http::Request::new(Body::Empty), context));
            waits.advance(ms(8));
            drop((first, second));
            Answer::now(answer())
        });
        let stack = outer.clone().above(both);
        assert!(stack.send(Request::new(Body::Empty)).await.is_ok());
        assert_eq!([&outer, &one, &other].map(|stage| seen(stage)), [(1, 13, 1), (4, 4, 1), (8, 8, 1)]);
    }
}
