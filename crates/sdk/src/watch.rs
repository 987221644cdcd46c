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
