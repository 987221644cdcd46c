//! An engine that a test fills by hand.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use pileus_model::{
    Actor, Beat, BoxFuture, Command, Engine, Event, Explanation, History, Holding, Name, Output, OutputPart,
    OutputRange, Receipt, Refusal, Shares, Stray, View,
};

type React = Box<dyn FnMut(&Command, &mut View) -> Result<String, Refusal> + Send>;

/// Shows the view that it was given, records every command, and answers as it was told. Clones are
/// the same engine.
#[derive(Clone, Default)]
pub struct FakeEngine(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    view: Arc<View>,
    commands: Vec<(Command, Actor)>,
    refusals: VecDeque<Refusal>,
    react: Option<React>,
    outputs: BTreeMap<String, Output>,
    live: BTreeMap<String, Output>,
    beats: Vec<Beat>,
    events: Vec<Arc<Event>>,
    explanations: Vec<Explanation>,
    shares: Shares,
    holdings: Vec<Holding>,
    strays: Vec<Stray>,
    waiting: Vec<Waker>,
}

impl FakeEngine {
    /// Changes the picture and publishes it.
    pub fn edit(&self, change: impl FnOnce(&mut View)) {
        self.lock().publish(change);
    }

    /// Refuses the next command that no earlier refusal answers.
    pub fn refuse(&self, refusal: Refusal) {
        self.lock().refusals.push_back(refusal);
    }

    /// From now on commands that are not refused go to `react`: it may change the picture, and gives
    /// the receipt's id. Without one every command is answered with an empty id.
    pub fn react(&self, react: impl FnMut(&Command, &mut View) -> Result<String, Refusal> + Send + 'static) {
        self.lock().react = Some(Box::new(react));
    }

    /// The commands since the last time that somebody asked, refused ones too.
    pub fn commands(&self) -> Vec<Command> {
        self.commands_by().into_iter().map(|(command, _)| command).collect()
    }

    /// The same, with on whose behalf.
    pub fn commands_by(&self) -> Vec<(Command, Actor)> {
        std::mem::take(&mut self.lock().commands)
    }

    /// Says what a job wrote.
    pub fn put_output(&self, job: &str, output: Output) {
        self.lock().outputs.insert(job.to_owned(), output);
    }

    /// Says what a job wrote so far that runs; wakes its readers.
    pub fn put_live(&self, job: &str, output: Output) {
        let mut inner = self.lock();
        inner.live.insert(job.to_owned(), output);
        inner.waiting.drain(..).for_each(Waker::wake);
    }

    /// Says the signs of life.
    pub fn put_beats(&self, beats: Vec<Beat>) {
        self.lock().beats = beats;
    }

    /// Says why a job is where it is.
    pub fn put_explanation(&self, explanation: Explanation) {
        self.lock().explanations.push(explanation);
    }

    /// Lets events have happened: they can be read, and the picture has the number of the last one.
    /// What they mean for the picture is [`edit`](Self::edit)'s.
    pub fn happen(&self, events: Vec<Event>) {
        let mut inner = self.lock();
        let last = events.last().map_or(0, |event| event.seq);
        inner.events.extend(events.into_iter().map(Arc::new));
        inner.publish(|_| ());
        let view = Arc::make_mut(&mut inner.view);
        view.seq = view.seq.max(last);
    }

    /// Says the shares.
    pub fn put_shares(&self, shares: Shares) {
        self.lock().shares = shares;
    }

    /// Says what the reconcilers hold.
    pub fn put_holdings(&self, holdings: Vec<Holding>) {
        self.lock().holdings = holdings;
    }

    /// Says which machines no VM matches.
    pub fn put_strays(&self, strays: Vec<Stray>) {
        self.lock().strays = strays;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn output_part(&self, job: &str, range: OutputRange) -> Option<OutputPart> {
        let ended = self.view.jobs.get(job)?.state.is_final();
        let (found, ended) = match self.outputs.get(job) {
            Some(output) => (Some(output), true),
            None => (self.live.get(job), ended),
        };
        let output = found.cloned().unwrap_or_default();
        let stream = output.stream(range.stream);
        let (head, tail) = stream.parts();
        Some(OutputPart::cut(head, stream.gap, [tail, b""], range, ended))
    }

    fn publish<T>(&mut self, change: impl FnOnce(&mut View) -> T) -> T {
        let mut view = View::clone(&self.view);
        let answer = change(&mut view);
        view.seq += 1;
        self.view = Arc::new(view);
        self.waiting.drain(..).for_each(Waker::wake);
        answer
    }

    fn submit(&mut self, command: Command, by: Actor) -> Result<Receipt, Refusal> {
        self.commands.push((command.clone(), by));
        if let Some(refusal) = self.refusals.pop_front() {
            return Err(refusal);
        }
        let mut react = self.react.take();
        let id = match &mut react {
            Some(react) => self.publish(|view| react(&command, view)),
            None => Ok(String::new()),
        };
        self.react = react;
        Ok(Receipt { view: self.view.clone(), id: id? })
    }
}

impl Engine for FakeEngine {
    fn view(&self) -> Arc<View> {
        self.lock().view.clone()
    }

    fn submit(&self, command: Command, by: Actor) -> BoxFuture<Result<Receipt, Refusal>> {
        let answer = self.lock().submit(command, by);
        Box::pin(async { answer })
    }

    fn output(&self, job: &str) -> BoxFuture<Result<Option<Output>, Refusal>> {
        let output = self.lock().outputs.get(job).cloned();
        Box::pin(async { Ok(output) })
    }

    /// Waits until something is published where it should wait, and not for a time.
    fn output_part(
        &self,
        job: &str,
        range: OutputRange,
        wait: Duration,
    ) -> BoxFuture<Result<Option<OutputPart>, Refusal>> {
        let (engine, job) = (self.clone(), job.to_owned());
        let mut waits = !wait.is_zero();
        Box::pin(poll_fn(move |cx| {
            let mut inner = engine.lock();
            let part = inner.output_part(&job, range);
            let nothing = part.as_ref().is_some_and(|part| part.bytes.is_empty() && !part.ended);
            if !std::mem::take(&mut waits) || !nothing {
                return Poll::Ready(Ok(part));
            }
            inner.waiting.push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn events(&self, after: u64, limit: usize, project: Option<Name>) -> BoxFuture<Result<History, Refusal>> {
        let inner = self.lock();
        let seen = |event: &&Arc<Event>| {
            let owned = project.as_ref().is_none_or(|project| event.owner.is_seen_by(project));
            event.seq > after && owned
        };
        let mut rest = inner.events.iter().filter(seen);
        let events = rest.by_ref().take(limit).cloned().collect();
        let history = History { more: rest.next().is_some(), events };
        Box::pin(async { Ok(history) })
    }

    fn explain(&self, job: &str) -> BoxFuture<Result<Option<Explanation>, Refusal>> {
        let found = self.lock().explanations.iter().find(|it| &*it.job == job).cloned();
        Box::pin(async { Ok(found) })
    }

    fn changed_since(&self, seq: u64) -> BoxFuture<()> {
        let engine = self.clone();
        Box::pin(poll_fn(move |cx| {
            let mut inner = engine.lock();
            if inner.view.seq > seq {
                return Poll::Ready(());
            }
            inner.waiting.push(cx.waker().clone());
            Poll::Pending
        }))
    }

    fn beats(&self) -> Vec<Beat> {
        self.lock().beats.clone()
    }

    fn shares(&self) -> BoxFuture<Result<Shares, Refusal>> {
        let shares = self.lock().shares.clone();
        Box::pin(async { Ok(shares) })
    }

    fn holdings(&self) -> Vec<Holding> {
        self.lock().holdings.clone()
    }

    fn strays(&self) -> Vec<Stray> {
        self.lock().strays.clone()
    }
}

impl fmt::Debug for FakeEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeEngine")
    }
}
