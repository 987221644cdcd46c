//! Number of outputs that each user follows at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use pileus_sdk::{Call, Fault, model::Name};

/// Most outputs that a user of a project follows at a time.
pub const FOLLOWERS_MAX: usize = 16;

/// Project and user.
type User = (Name, Name);

/// Outputs that are followed, counted by user.
#[derive(Default)]
pub struct Followers(Mutex<HashMap<User, usize>>);

/// One output that is followed. Counts until it is dropped.
pub struct Follower {
    of: Arc<Followers>,
    user: User,
}

impl Followers {
    /// Counts one more for the caller. 429: there are [`FOLLOWERS_MAX`].
    pub fn enter(self: &Arc<Self>, call: &Call) -> Result<Follower, Fault> {
        let user =
            call.caller().map(|caller| (caller.project.clone(), caller.user.clone())).unwrap_or_default();
        let mut counts = self.counts();
        let count = counts.entry(user.clone()).or_default();
        if *count >= FOLLOWERS_MAX {
            return Err(Fault::OverLimit {
                details: format!(
                    "A user may follow {FOLLOWERS_MAX} outputs of jobs at a time: end one first."
                ),
                retry_after: Duration::from_secs(5),
                quota: None,
            });
        }
        *count += 1;
        Ok(Follower { of: self.clone(), user })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<User, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut counts = self.of.counts();
        if let Some(count) = counts.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}
