//! Lanes of waiting jobs, and their order of service.

use std::{cmp::Reverse, collections::BTreeMap, ops::Bound};

use pileus_model::{Job, Name, OrdSet, View};

use super::{Rank, Waiting, barred::Barred, room::Needs, targets::Targets};
use crate::config::Algorithm;

impl<'a> Waiting<'a> {
    pub fn of(job: &'a Job, targets: &mut Targets<'a>, barred: &Barred<'a>, algorithm: Algorithm) -> Self {
        let rank = match algorithm {
            Algorithm::Fairshare => (job.high_priority, Reverse(job.returns), job.priority),
            Algorithm::Fifo => (false, Reverse(job.returns), 0),
        };
        let which = targets.of(&job.target_clouds);
        let boots = barred.but_for(job, which, targets);
        Self { job, needs: Needs::of(job), targets: which, boots, rank, banned: barred.bans(job) }
    }
}

/// Waiting jobs that differ in their age alone, from the first that is left on. Never empty.
#[derive(Debug, Clone, Copy)]
pub struct Lane<'a> {
    pub view: &'a View,
    pub ids: &'a OrdSet<Name>,
    /// Number of jobs from the first one on.
    pub left: usize,
    /// The oldest of them.
    pub first: Waiting<'a>,
}

impl<'a> Lane<'a> {
    /// The same lane without its first job; `None`: that was the last one.
    pub fn after(&self) -> Option<Self> {
        let from = (Bound::Excluded(&*self.first.job.id), Bound::Unbounded);
        let mut later = self.ids.range::<_, str>(from).filter_map(|id| self.view.jobs.get(id));
        let job = &**later.next()?;
        Some(Self { left: self.left.saturating_sub(1), first: Waiting { job, ..self.first }, ..*self })
    }
}

/// Order of service: the greater rank, then the older id.
pub type Turn<'a> = (Reverse<Rank>, &'a Name);

pub fn turn<'a>(waiting: &Waiting<'a>) -> Turn<'a> {
    (Reverse(waiting.rank), &waiting.job.id)
}

/// Lanes in the order of service of the jobs in them.
#[derive(Debug, Default)]
pub struct InOrder<'a>(BTreeMap<Turn<'a>, Lane<'a>>);

impl<'a> InOrder<'a> {
    pub fn of(lanes: impl IntoIterator<Item = Lane<'a>>) -> Self {
        Self(lanes.into_iter().map(|lane| (turn(&lane.first), lane)).collect())
    }

    /// Takes out the lane whose first job is to be served first.
    pub fn pop(&mut self) -> Option<Lane<'a>> {
        self.0.pop_first().map(|(_, lane)| lane)
    }

    pub fn put(&mut self, lane: Lane<'a>) {
        self.0.insert(turn(&lane.first), lane);
    }

    /// Puts what is left of a lane behind its first job back.
    pub fn put_rest(&mut self, lane: &Lane<'a>) {
        self.0.extend(lane.after().map(|rest| (turn(&rest.first), rest)));
    }
}

/// All jobs, one after the other.
impl<'a> Iterator for InOrder<'a> {
    type Item = Waiting<'a>;

    fn next(&mut self) -> Option<Waiting<'a>> {
        let lane = self.pop()?;
        self.put_rest(&lane);
        Some(lane.first)
    }
}
