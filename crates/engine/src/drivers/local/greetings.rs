//! Callers of the channel that have not proved who they are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Most callers at a time that have not proved who they are.
const GREETINGS_MAX: usize = 64;

/// Pending greetings, oldest first. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Greetings(Arc<Mutex<Pending>>);

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    callers: Vec<(u64, Option<u32>, CancellationToken)>,
}

/// Place of one pending greeting; free again once it is dropped.
#[derive(Debug)]
pub(super) struct Greeting {
    greetings: Greetings,
    number: u64,
    /// Cancelled once another caller takes the place.
    pub(super) end: CancellationToken,
}

impl Greetings {
    /// Takes a place for a caller of a user. Without a free one, the oldest caller of the user with the most places
    /// loses its own: a new caller never waits, and callers of one user do not exhaust the places of others.
    pub(super) fn take(&self, user: Option<u32>) -> Greeting {
        let mut pending = self.lock();
        if pending.callers.len() >= GREETINGS_MAX {
            let places = |user| pending.callers.iter().filter(|caller| caller.1 == user).count();
            let most = pending.callers.iter().map(|caller| places(caller.1)).max();
            let oldest = pending.callers.iter().position(|caller| Some(places(caller.1)) == most);
            if let Some(oldest) = oldest {
                pending.callers.remove(oldest).2.cancel();
            }
        }
        pending.next += 1;
        let (number, end) = (pending.next, CancellationToken::new());
        pending.callers.push((number, user, end.clone()));
        Greeting { greetings: self.clone(), number, end }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        self.greetings.lock().callers.retain(|caller| caller.0 != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_caller_of_the_busiest_user_goes() {
        // Callers in order (user, number of them), the next one, and the index of the one that goes.
        type Calls = &'static [(Option<u32>, usize)];
        let cases: [(Calls, Option<u32>, Option<usize>); 6] = [
            (&[(Some(1), 63)], Some(1), None),
            (&[(Some(1), 64)], Some(1), Some(0)),
            (&[(Some(1), 64)], Some(2), Some(0)),
            (&[(Some(2), 1), (Some(1), 63)], Some(2), Some(1)),
            (&[(Some(2), 1), (Some(1), 63)], Some(1), Some(1)),
            (&[(Some(2), 1), (None, 63)], None, Some(1)),
        ];
        for (calls, next, goes) in cases {
            let greetings = Greetings::default();
            let callers = calls.iter().flat_map(|(user, count)| std::iter::repeat_n(*user, *count));
            let held: Vec<_> = callers.map(|user| greetings.take(user)).collect();
            let last = greetings.take(next);
            let gone: Vec<_> = (0..held.len()).filter(|index| held[*index].end.is_cancelled()).collect();
            assert_eq!(gone, goes.into_iter().collect::<Vec<_>>(), "{calls:?} {next:?}");
            assert!(!last.end.is_cancelled());
            drop((held, last));
            assert!(greetings.lock().callers.is_empty(), "{calls:?}");
        }
    }
}
