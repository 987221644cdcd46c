//! Events as they happen, as server-sent events: `id` is the number, `data` the document.
//!
//! A piece is made only once the one before was taken. What waits for a slow reader stands in the
//! store and in the engine's tail, which is one for all; here are a few references at most. Source:
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use pileus_sdk::{
    Standing, json,
    model::{BoxFuture, Clock, Engine, Event, Monotonic},
    watch,
};

use crate::{document::Document, events::Ask};

/// A comment goes out after as long without an event, so that nobody on the way takes the silence for
/// an end.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events that are fetched at a time.
const BATCH: usize = 32;

/// What a client is told before everything else: when to come back after it was cut off, in ms.
const HELLO: &str = "retry: 1000\n\n";

/// One who follows.
pub struct Follow {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    ask: Ask,
    /// Everything up to here was sent, waits in `ready`, or is not asked for.
    after: u64,
    ready: VecDeque<Arc<Event>>,
    /// When something was sent last; `None`: nothing yet.
    sent: Option<Monotonic>,
    /// Ends when the server drains.
    stop: BoxFuture<()>,
    /// Grounds on which the client may follow.
    standing: Standing,
}

impl Follow {
    pub fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        ask: Ask,
        after: u64,
        stop: Option<BoxFuture<()>>,
        standing: Standing,
    ) -> Self {
        let stop = stop.unwrap_or_else(|| Box::pin(std::future::pending()));
        Self { engine, clock, ask, after, ready: VecDeque::new(), sent: None, stop, standing }
    }

    /// The next piece; `None`: the server drains, the store does not answer, or the client may not follow any
    /// more. A client comes back with the last id that it saw.
    pub async fn next(mut self) -> Option<(String, Self)> {
        loop {
            let now = self.clock.monotonic();
            let Some(sent) = self.sent else { return self.send(now, HELLO.to_owned()) };
            if self.stops().await {
                return None;
            }
            if !self.standing.holds().await {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                let document = Document::new(&event, self.ask.project.as_deref());
                let piece = format!("id: {}\ndata: {}\n\n", event.seq, json!(document));
                return self.send(now, piece);
            }
            let quiet = now.since(sent);
            if quiet >= HEARTBEAT {
                return self.send(now, ":\n\n".to_owned());
            }
            let newest = self.engine.view().seq;
            if newest > self.after {
                let read = self.engine.events(self.after, BATCH, self.ask.project.clone()).await.ok()?;
                let last = read.events.last().map_or(self.after, |event| event.seq);
                self.after = if read.more { last } else { last.max(newest) };
                self.ready.extend(read.events.into_iter().filter(|event| self.ask.wants(event)));
                continue;
            }
            let pause = (HEARTBEAT - quiet).min(self.standing.due_in());
            let (engine, clock, after) = (&*self.engine, &*self.clock, self.after);
            let mut change =
                std::pin::pin!(watch(engine, clock, pause, |view| { (view.seq > after).then_some(()) }));
            let stop = &mut self.stop;
            let stopped = poll_fn(|cx| match stop.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => change.as_mut().poll(cx).map(|_| false),
            });
            if stopped.await {
                return None;
            }
        }
    }

    fn send(mut self, now: Monotonic, piece: String) -> Option<(String, Self)> {
        self.sent = Some(now);
        Some((piece, self))
    }

    /// Whether the server drains, without waiting for it.
    async fn stops(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.stop.as_mut().poll(cx).is_ready())).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use pileus_sdk::{
        Admission, Admit, Caller, Secrets, header,
        model::{Actor, Kind, ManualClock, Owner, Time},
        standing::RECHECK,
        testing::FakeEngine,
    };

    use super::*;

    fn event(seq: u64, project: &str) -> Event {
        let kind = Kind::VmRegistered { vm: "v".into() };
        Event { seq, time: Time(0), by: Actor::default(), owner: Owner::Project(project.into()), kind }
    }

    fn follow(engine: &FakeEngine, clock: &ManualClock, stop: Option<BoxFuture<()>>) -> Follow {
        let ask = Ask { project: Some("p".into()), kinds: Vec::new() };
        let standing = Standing::new(Arc::new(clock.clone()), None, None);
        Follow::new(Arc::new(engine.clone()), Arc::new(clock.clone()), ask, 0, stop, standing)
    }

    /// Admits its caller as long as it is `true`.
    struct Gate(AtomicBool);

    impl Admit for Gate {
        fn admit(self: Arc<Self>, _: Secrets) -> BoxFuture<Option<Arc<Caller>>> {
            let caller = self.0.load(Ordering::Relaxed).then(caller);
            Box::pin(async move { caller })
        }
    }

    fn caller() -> Arc<Caller> {
        Arc::new(Caller::new("ada".into(), "p".into(), Vec::new(), false))
    }

    #[tokio::test]
    async fn it_ends_when_its_token_is_revoked_whether_it_waits_or_not() {
        for waits in [true, false] {
            let (engine, clock) = (FakeEngine::default(), ManualClock::at(Time(0)));
            let gate = Arc::new(Gate(AtomicBool::new(true)));
            let secrets = Secrets { user: header::HeaderValue::from_static("secret"), service: None };
            let admission = Some(Admission::new(gate.clone(), secrets));
            let standing = Standing::new(Arc::new(clock.clone()), admission, Some(caller()));
            let (_, mut it) = piece(Follow { standing, ..follow(&engine, &clock, None) }).await;
            // It goes on as long as the token is good.
            clock.advance(RECHECK);
            engine.happen(vec![event(1, "p")]);
            let (id, rest) = piece(it).await;
            assert_eq!(id, "1");
            it = rest;
            gate.0.store(false, Ordering::Relaxed);
            if waits {
                let (end, ()) = tokio::join!(it.next(), async {
                    tokio::task::yield_now().await;
                    clock.advance(RECHECK);
                });
                assert!(end.is_none(), "with nothing to tell");
            } else {
                clock.advance(RECHECK);
                engine.happen(vec![event(2, "p")]);
                assert!(it.next().await.is_none(), "with something to tell");
            }
        }
    }

    /// The id of the piece that comes next, or the whole of it.
    async fn piece(follow: Follow) -> (String, Follow) {
        let (piece, follow) = follow.next().await.expect("it goes on");
        assert!(piece.ends_with("\n\n"), "{piece:?}");
        let id = piece.strip_prefix("id: ").map(|rest| rest.lines().next().unwrap_or_default().to_owned());
        (id.unwrap_or(piece), follow)
    }

    #[tokio::test]
    async fn it_tells_what_was_what_comes_and_that_it_lives() {
        let (engine, clock) = (FakeEngine::default(), ManualClock::at(Time(0)));
        let many = (1..=70).map(|seq| event(seq, if seq % 2 == 0 { "p" } else { "q" }));
        engine.happen(many.collect());
        let (hello, mut it) = piece(follow(&engine, &clock, None)).await;
        assert_eq!(hello, HELLO);
        for seq in (2..=70).step_by(2) {
            let (id, rest) = piece(it).await;
            assert_eq!(id, seq.to_string());
            assert!(rest.ready.len() < BATCH);
            it = rest;
        }
        // Others' events are no sign of life: what comes next is the heart beat.
        let quiet = async {
            for seq in 71..74 {
                clock.advance(HEARTBEAT / 4);
                engine.happen(vec![event(seq, "q")]);
                tokio::task::yield_now().await;
            }
            clock.advance(HEARTBEAT);
        };
        let ((beat, it), ()) = tokio::join!(piece(it), quiet);
        assert_eq!(beat, ":\n\n");
        let ((id, _), ()) = tokio::join!(piece(it), async {
            tokio::task::yield_now().await;
            engine.happen(vec![event(74, "p")]);
        });
        assert_eq!(id, "74");
    }

    #[tokio::test]
    async fn it_ends_when_the_server_drains_whether_it_waits_or_not() {
        let (engine, clock) = (FakeEngine::default(), ManualClock::at(Time(0)));
        let drain = clock.sleep(Duration::from_secs(1));
        let (_, it) = piece(follow(&engine, &clock, Some(drain))).await;
        let (end, ()) = tokio::join!(it.next(), async {
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        });
        assert!(end.is_none());
        engine.happen(vec![event(1, "p")]);
        let (_, it) = piece(follow(&engine, &clock, Some(Box::pin(async {})))).await;
        assert!(it.next().await.is_none(), "even with something to tell");
    }
}
