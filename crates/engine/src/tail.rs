//! The newest events, kept in memory once for everybody who follows them.
//!
//! A follower that keeps up never reads the store, however many there are; one that does not keep up
//! reads there what the tail has let go. So no follower has a buffer of its own.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use pileus_model::{Event, History};

use crate::hub::lock;

/// Events that are kept.
const KEPT: usize = 1024;

/// The end of the table of events.
#[derive(Debug, Default)]
pub struct Tail(Mutex<VecDeque<Arc<Event>>>);

impl Tail {
    /// Adds what is durable.
    pub fn push(&self, events: impl IntoIterator<Item = Event>) {
        let mut kept = lock(&self.0);
        for event in events {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(Arc::new(event));
        }
    }

    /// What happened after `after`; `None` where not all of that is kept.
    pub fn read(&self, after: u64, limit: usize, project: Option<&str>) -> Option<History> {
        let kept = lock(&self.0);
        let first = kept.front()?.seq;
        let skip = usize::try_from((after + 1).checked_sub(first)?).unwrap_or(usize::MAX);
        let seen = |event: &&Arc<Event>| project.is_none_or(|project| event.owner.is_seen_by(project));
        let mut rest = kept.range(skip.min(kept.len())..).filter(seen);
        let events: Vec<_> = rest.by_ref().take(limit).cloned().collect();
        Some(History { more: rest.next().is_some(), events })
    }
}

#[cfg(test)]
mod tests {
    use pileus_model::{Actor, Kind, Owner, Time};

    use super::*;

    fn event(seq: u64) -> Event {
        let owner = if seq.is_multiple_of(2) { Owner::Project("p".into()) } else { Owner::Service };
        let kind = Kind::AliasGone { alias: "a".into() };
        Event { seq, time: Time(0), by: Actor::default(), owner, kind }
    }

    #[test]
    fn it_reads_what_it_keeps_and_says_what_it_has_let_go() {
        let tail = Tail::default();
        assert_eq!(tail.read(0, 9, None), None, "nothing is kept");
        tail.push((5..).take(KEPT + 3).map(event));
        let last = 5 + KEPT as u64 + 2;
        // after, limit, project, sequence numbers, more
        let cases = [
            (6, 2, None, None),
            (7, 2, None, Some((vec![8, 9], true))),
            (7, 2, Some("p"), Some((vec![8, 10], true))),
            (last - 2, 2, None, Some((vec![last - 1, last], false))),
            (last - 2, 1, Some("q"), Some((vec![], false))),
            (last, 9, None, Some((vec![], false))),
            (last + 9, 9, None, Some((vec![], false))),
            (last - 1, 0, None, Some((vec![], true))),
        ];
        for (after, limit, project, wanted) in cases {
            let read = tail.read(after, limit, project);
            let read = read.map(|it| (it.events.iter().map(|event| event.seq).collect(), it.more));
            assert_eq!(read, wanted, "after {after}, {limit} of {project:?}");
        }
    }
}
