//! Waiting for something to come true in the engine's picture.

use std::{future::poll_fn, task::Poll, time::Duration};

use pileus_model::{Clock, Engine, View};

/// Looks at every new view until `look` finds something; `None` once `limit` has passed on `clock`.
/// Looks at the present view first, so that it never waits for what is already there.
pub async fn watch<T>(
    engine: &dyn Engine,
    clock: &dyn Clock,
    limit: Duration,
    mut look: impl FnMut(&View) -> Option<T>,
) -> Option<T> {
    let mut deadline = clock.sleep(limit);
    loop {
        let view = engine.view();
        if let Some(found) = look(&view) {
            return Some(found);
        }
        let mut change = engine.changed_since(view.seq);
        let late = poll_fn(|cx| match change.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => deadline.as_mut().poll(cx).map(|()| true),
        });
        if late.await {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FakeEngine, put_cloud};
    use pileus_model::{ManualClock, Time};

    fn there(view: &View) -> Option<String> {
        view.clouds.values().next().map(|cloud| cloud.name.to_string())
    }

    #[tokio::test]
    async fn it_sees_what_is_there_and_what_comes() {
        let (engine, clock) = (FakeEngine::default(), ManualClock::at(Time(0)));
        let limit = Duration::from_secs(1);
        let come = async {
            tokio::task::yield_now().await;
            engine.edit(|_| ());
            tokio::task::yield_now().await;
            engine.edit(|view| put_cloud(view, "a", |_| ()));
        };
        let (seen, ()) = tokio::join!(watch(&engine, &clock, limit, there), come);
        assert_eq!(seen.as_deref(), Some("a"));
        let seen = watch(&engine, &clock, Duration::ZERO, there).await;
        assert_eq!(seen.as_deref(), Some("a"), "what is there needs no time");
    }

    #[tokio::test]
    async fn it_ends_when_its_time_is_up() {
        let (engine, clock) = (FakeEngine::default(), ManualClock::at(Time(0)));
        let late = async {
            tokio::task::yield_now().await;
            engine.edit(|_| ());
            clock.advance(Duration::from_secs(1));
        };
        let (seen, ()) = tokio::join!(watch(&engine, &clock, Duration::from_secs(1), there), late);
        assert_eq!(seen, None);
    }
}
