//! Tasks that work as long as the engine: restarted after a panic, or the end of the process.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use pileus_model::{Clock, Monotonic};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{death::Death, hub::Hub};

/// Pause before a task is restarted.
const PAUSE: Duration = Duration::from_secs(1);

/// So many panics within [`WINDOW`] end the process.
const PANICS_MAX: usize = 5;

const WINDOW: Duration = Duration::from_secs(60);

/// Runs a task until it is told to stop. A panic restarts it; many panics in a row end the process.
/// `which` is its place among the reconcilers, if it is one.
pub async fn supervise<F>(
    hub: Arc<Hub>,
    name: &'static str,
    which: Option<usize>,
    stop: CancellationToken,
    run: impl Fn() -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut panics = Panics::default();
    loop {
        let Err(panic) = outcome(run()).await else { return };
        error!(task = name, error = panic, "task panicked");
        if let Some(which) = which {
            hub.beat(which, Some(panic.clone()));
            hub.health.panicked(which, true);
        }
        if panics.too_many(&*hub.clock) {
            let why = format!("{PANICS_MAX} panics within {} s, the last one: {panic}", WINDOW.as_secs());
            return hub.die(Death::ended(name, why));
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = hub.clock.sleep(PAUSE) => (),
        }
    }
}

/// Runs a task whose panic ends the process.
pub async fn vital<F>(hub: Arc<Hub>, name: &'static str, run: F)
where
    F: Future<Output = ()> + Send + 'static,
{
    if let Err(panic) = outcome(run).await {
        hub.die(Death::ended(name, panic));
    }
}

/// Runs a future in a task of its own, which ends with this future. An error is the message of a panic.
pub async fn outcome<F>(run: F) -> Result<F::Output, String>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut task = JoinSet::new();
    task.spawn(run);
    match task.join_next().await {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => Err(match error.try_into_panic() {
            Ok(panic) => said(&*panic).to_owned(),
            Err(error) => error.to_string(),
        }),
        None => Err("the task is not there".into()),
    }
}

/// Message of a panic.
pub fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

/// Moments of the latest panics, by the monotonic count.
#[derive(Default)]
struct Panics(VecDeque<Monotonic>);

impl Panics {
    /// Notes a panic. `true` if there were too many within the window.
    fn too_many(&mut self, clock: &dyn Clock) -> bool {
        let now = clock.monotonic();
        self.0.push_back(now);
        self.0.retain(|at| now.since(*at) < WINDOW);
        self.0.len() >= PANICS_MAX
    }
}

#[cfg(test)]
mod tests {
    use pileus_model::ManualClock;

    use super::*;

    #[test]
    fn panics_count_within_a_minute() {
        for (case, pauses_s, expected) in [
            ("few", &[0, 0, 0, 0][..], false),
            ("at once", &[0, 0, 0, 0, 0], true),
            ("within a minute", &[0, 14, 14, 14, 14], true),
            ("now and then", &[0, 15, 15, 15, 15, 15, 15], false),
            ("few, long ago", &[0, 0, 0, 0, 61, 0, 0], false),
        ] {
            let (clock, mut panics) = (ManualClock::default(), Panics::default());
            let mut last = false;
            for pause in pauses_s {
                clock.advance(Duration::from_secs(*pause));
                last = panics.too_many(&clock);
            }
            assert_eq!(last, expected, "{case}");
        }
    }
}
