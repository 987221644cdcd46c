//! A store that fails when it is told to, below an engine that must not mind.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use pileus_model::{BoxFuture, Engine, History, ManualClock, Name, Output, OutputPart, OutputRange};
use tokio::sync::watch;

use super::*;
use crate::{
    Config, Running, SchedulerConfig,
    death::Death,
    drivers::DriverError,
    hub::lock,
    start::start_upon,
    store::{Store, StoreError},
};

/// Keeps everything in memory.
#[derive(Default)]
struct Moody {
    full: AtomicBool,
    /// The task that writes panics.
    panics: AtomicBool,
    /// Events that the start found after the last snapshot.
    folded: std::sync::atomic::AtomicUsize,
    /// The thread of the store ends.
    death: watch::Sender<Option<Death>>,
    /// The sequence numbers of the pictures that were kept.
    snapshots: Mutex<Vec<u64>>,
    batches: Mutex<Vec<Arc<Batch>>>,
    /// A batch waits for this, so that others gather behind it.
    gate: tokio::sync::RwLock<()>,
}

struct Shared(Arc<Moody>);

impl Store for Shared {
    fn append(&self, batch: Arc<Batch>) -> BoxFuture<Result<(), StoreError>> {
        let moody = self.0.clone();
        Box::pin(async move {
            let _open = moody.gate.read().await;
            assert!(!moody.panics.load(Ordering::SeqCst), "a mistake in the writer");
            if moody.full.load(Ordering::SeqCst) {
                return Err(StoreError::Full);
            }
            lock(&moody.batches).push(batch);
            Ok(())
        })
    }

    fn snapshot(&self, view: Arc<View>) -> BoxFuture<Result<(), StoreError>> {
        lock(&self.0.snapshots).push(view.seq);
        Box::pin(async { Ok(()) })
    }

    fn output(&self, job: Name) -> BoxFuture<Result<Option<Output>, StoreError>> {
        let moody = self.0.clone();
        Box::pin(async move {
            let batches = lock(&moody.batches);
            let found = batches.iter().flat_map(|batch| &batch.outputs).find(|(of, _)| *of == job);
            Ok(found.map(|(_, output)| output.clone()))
        })
    }

    fn output_part(
        &self,
        job: Name,
        range: OutputRange,
    ) -> BoxFuture<Result<Option<OutputPart>, StoreError>> {
        let output = self.output(job);
        Box::pin(async move {
            Ok(output.await?.map(|output| {
                let stream = output.stream(range.stream);
                let (head, tail) = stream.parts();
                OutputPart::cut(head, stream.gap, [tail, b""], range, true)
            }))
        })
    }

    fn events(
        &self,
        after: u64,
        last: u64,
        limit: usize,
        project: Option<Name>,
    ) -> BoxFuture<Result<History, StoreError>> {
        let batches = lock(&self.0.batches);
        let events = batches.iter().flat_map(|batch| &batch.events);
        let seen = |event: &&Event| {
            let owned = project.as_ref().is_none_or(|project| event.owner.is_seen_by(project));
            event.seq > after && event.seq <= last && owned
        };
        let mut rest = events.filter(seen);
        let events = rest.by_ref().take(limit).cloned().map(Arc::new).collect();
        let history = History { more: rest.next().is_some(), events };
        Box::pin(async { Ok(history) })
    }

    fn folded(&self) -> usize {
        self.0.folded.load(Ordering::SeqCst)
    }

    fn death(&self) -> BoxFuture<Death> {
        let mut death = self.0.death.subscribe();
        Box::pin(async move { death.wait_for(Option::is_some).await.unwrap().clone().unwrap() })
    }

    fn close(&self) -> BoxFuture<()> {
        Box::pin(async {})
    }
}

async fn engine(store: &Arc<Moody>) -> (Running, Arc<dyn Engine>) {
    let (_, running) = start(store).await;
    let engine = running.engine();
    (running, engine)
}

async fn start(store: &Arc<Moody>) -> (ManualClock, Running) {
    let config = Config {
        state_dir: "/nowhere".into(),
        store: "sqlite".into(),
        worker_exe: "/nowhere".into(),
        scheduler: SchedulerConfig::default(),
        clouds: Vec::new(),
        cloud_aliases: None,
        user_limits: None,
        credentials: Default::default(),
        confinement: Default::default(),
    };
    let none: Box<crate::DriverFactory> =
        Box::new(|_, _| Box::pin(async { Err(DriverError::Failed("no cloud, no driver".into())) }));
    let clock = ManualClock::at(Time(1_000));
    let store = Arc::new(Shared(store.clone()));
    let running = start_upon(config, Arc::new(clock.clone()), none, store, View::default()).await.unwrap();
    (clock, running)
}

fn limit(user: &str, vms: u32) -> Command {
    Command::SetUserLimit { user: user.into(), vms: Some(vms) }
}

#[tokio::test]
async fn a_full_disk_refuses_the_whole_batch_and_nothing_else_suffers() {
    let store = Arc::new(Moody::default());
    let (running, engine) = engine(&store).await;
    let ask = |command| engine.submit(command, Actor::default());
    let first = ask(limit("a", 1)).await.unwrap();
    assert_eq!(first.view.user_limits.get("a"), Some(&1));
    store.full.store(true, Ordering::SeqCst);
    // Nobody awaits in between: they go in one batch.
    let asked = [
        ask(Command::RevokeToken { name: "none".into() }),
        ask(limit("c", 1)),
        ask(Command::SetAlias { alias: "x".into(), clouds: vec![] }),
        // Decided upon the alias, which is not kept: this cannot stand either.
        ask(Command::SetAlias { alias: "X".into(), clouds: vec![] }),
    ];
    let mut answers = Vec::new();
    for answer in asked {
        answers.push(answer.await.unwrap_err());
    }
    let none = Refusal::NotFound { kind: "Token", id: "none".into() };
    assert_eq!(answers, [none, Refusal::Full, Refusal::Full, Refusal::Full]);
    let view = engine.view();
    assert_eq!((view.seq, view.user_limits.len(), view.aliases.len()), (first.view.seq, 1, 0));
    assert_eq!(engine.output("j").await, Ok(None), "readers go on");
    store.full.store(false, Ordering::SeqCst);
    let after = ask(limit("d", 4)).await.unwrap();
    assert_eq!(after.view.seq, first.view.seq + 1, "numbers have no gap");
    running.stop().await;
    let batches = lock(&store.batches);
    let seqs: Vec<_> = batches.iter().flat_map(|batch| &batch.events).map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=after.view.seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_health_says_whether_changes_can_be_written() {
    let store = Arc::new(Moody::default());
    let (clock, running) = start(&store).await;
    let engine = running.engine();
    assert_eq!(engine.problems(), [""; 0]);
    store.full.store(true, Ordering::SeqCst);
    engine.submit(limit("a", 1), Actor::default()).await.unwrap_err();
    assert_eq!(engine.problems(), ["the last change could not be written: the disk is full"]);
    clock.advance(PROBE_EVERY);
    tokio::task::yield_now().await;
    assert_eq!(engine.problems().len(), 1, "still full");
    store.full.store(false, Ordering::SeqCst);
    // Without any change: the writer tries by itself.
    while !engine.problems().is_empty() {
        clock.advance(PROBE_EVERY);
        tokio::task::yield_now().await;
    }
    let closed = store.gate.write().await;
    let waiting = tokio::spawn(engine.submit(limit("a", 1), Actor::default()));
    while engine.problems() != ["the writer has been at one change for 11 s"] {
        tokio::task::yield_now().await;
        if engine.problems().is_empty() {
            clock.advance(Duration::from_secs(11));
        }
    }
    drop(closed);
    waiting.await.unwrap().unwrap();
    assert_eq!(engine.problems(), [""; 0]);
    running.stop().await;
}

#[tokio::test]
async fn a_part_that_ends_is_the_end_of_the_engine() {
    type Kill = fn(&Moody, &Running);
    let other = "another process writes";
    let cases: [(&str, Kill, &str); 4] = [
        ("writer", |store, _| store.panics.store(true, Ordering::SeqCst), "the writer has ended: a mistake"),
        (
            "store",
            |store, _| drop(store.death.send_replace(Some(Death::ended("the store", "a mistake")))),
            "the store has ended: a mistake",
        ),
        (
            "another owner",
            |store, _| {
                let taken = Death::StateTaken("another process writes".into());
                drop(store.death.send_replace(Some(taken)));
            },
            other,
        ),
        (
            "a driver",
            |_, running| running.desk().ended("the channel of workers", "a mistake".into()),
            "the channel of workers has ended: a mistake",
        ),
    ];
    for (case, kill, expected) in cases {
        let store = Arc::new(Moody::default());
        let (running, engine) = engine(&store).await;
        let mut died = std::pin::pin!(running.died());
        assert_eq!(asked_once(&mut died), None, "{case}");
        kill(&store, &running);
        drop(engine.submit(limit("a", 1), Actor::default()).await);
        let death = died.await.to_string();
        assert!(death.starts_with(expected), "{case}: {death}");
        assert_eq!(running.died().await.to_string(), death, "{case}: also for a late listener");
    }
}

#[tokio::test]
async fn many_commands_become_few_transactions() {
    let store = Arc::new(Moody::default());
    let (running, engine) = engine(&store).await;
    let closed = store.gate.write().await;
    let asked: Vec<_> =
        (0..500).map(|at| engine.submit(limit(&format!("u{at}"), at), Actor::default())).collect();
    drop(closed);
    for answer in asked {
        answer.await.unwrap();
    }
    let batches = lock(&store.batches).len();
    assert!(batches < 10, "{batches} transactions for 500 commands");
    running.stop().await;
}

#[tokio::test]
async fn who_waits_for_a_change_hears_of_it_and_of_no_other() {
    let store = Arc::new(Moody::default());
    let (running, engine) = engine(&store).await;
    let seq = engine.view().seq;
    let mut waits = std::pin::pin!(engine.changed_since(seq));
    assert!(asked_once(&mut waits).is_none());
    engine.submit(Command::RevokeToken { name: "none".into() }, Actor::default()).await.unwrap_err();
    assert!(asked_once(&mut waits).is_none(), "a refusal is no change");
    let receipt = engine.submit(limit("a", 1), Actor::default()).await.unwrap();
    waits.await;
    assert_eq!(engine.view().seq, receipt.view.seq);
    engine.changed_since(seq).await;
    running.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_taken_now_and_then_and_at_the_stop() {
    let store = Arc::new(Moody::default());
    let (running, engine) = engine(&store).await;
    let vms = u32::try_from(SNAPSHOT_EVERY).unwrap();
    let asked: Vec<_> = (0..vms).map(|at| engine.submit(limit("a", at), Actor::default())).collect();
    for answer in asked {
        answer.await.unwrap();
    }
    let last = engine.view().seq;
    running.stop().await;
    let taken = lock(&store.snapshots).clone();
    assert!(taken.len() == 2 && taken[1] == last, "{taken:?} of {last}");
}

#[tokio::test]
async fn lives_that_end_early_take_a_snapshot_together() {
    let store = Arc::new(Moody::default());
    store.folded.store(SNAPSHOT_EVERY, Ordering::SeqCst);
    let (running, engine) = engine(&store).await;
    engine.submit(limit("a", 1), Actor::default()).await.unwrap();
    while lock(&store.snapshots).is_empty() {
        tokio::task::yield_now().await;
    }
    drop(running);
}

/// What a future answers if it is asked once.
fn asked_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(answer) => Some(answer),
        std::task::Poll::Pending => None,
    }
}
