//! What is known of tokens, for a while; and who waits for an answer about which token.
//!
//! A token is known by its HMAC-SHA256 under a key that this process made for itself: whoever reads the
//! memory finds no token, and whoever knows a token's hash of another place finds nothing.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use pileus_model::{Clock, Monotonic};
use pileus_sdk::Caller;
use sha2::Sha256;
use tokio::{runtime::Handle, sync::watch};

use super::{keystone::Outcome, token::Token};
use crate::filters::tokens::Taken;

/// A token's name in here.
pub type Key = [u8; 32];

type Map<V> = HashMap<Key, V, BuildHasherDefault<Taken>>;

/// How long a refusal is kept: long enough that a client which repeats itself costs Keystone nothing.
const REFUSED: Duration = Duration::from_secs(10);

/// The cache is split, so that two requests seldom meet at one lock.
const SHARDS: usize = 16;

/// What is known of a token now.
pub enum Found<T> {
    /// It is good.
    Known(T),
    /// It is not.
    Refused,
    /// Somebody has to ask.
    Nothing,
}

/// What is known, and what is asked.
pub struct Cache {
    keyed: Hmac<Sha256>,
    time: Duration,
    /// Of each kind, in each shard.
    max: usize,
    shards: [RwLock<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    known: Map<Known>,
    /// Apart from the known ones: strangers, who may send any number of wrong tokens, push nobody out.
    refused: Map<Monotonic>,
    /// One question for all who wait for its answer.
    asked: Map<watch::Receiver<Option<Outcome>>>,
}

struct Known {
    token: Arc<Token>,
    until: Monotonic,
}

impl Cache {
    /// An empty one, with a key that nobody knows.
    pub fn new(time: Duration, max_entries: usize) -> Result<Self, getrandom::Error> {
        let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
        getrandom::fill(&mut key)?;
        let max = max_entries.div_ceil(SHARDS);
        Ok(Self { keyed: Hmac::new(&key), time, max, shards: Default::default() })
    }

    /// A token's name. What was heard of it as one that may have expired is kept under another.
    pub fn key(&self, token: &[u8], allow_expired: bool) -> Key {
        let mut mac = self.keyed.clone();
        mac.update(token);
        if allow_expired {
            // No token has such a byte.
            mac.update(b"\0expired");
        }
        mac.finalize().into_bytes().into()
    }

    /// Whose a token is, if that is known.
    pub fn find(&self, key: &Key, now: Monotonic) -> Found<Arc<Caller>> {
        let shard = self.shard(key).read().unwrap_or_else(PoisonError::into_inner);
        match shard.find(key, now) {
            // Every request of a token counts its references: of its caller, and of nothing else.
            Found::Known(token) => Found::Known(token.caller.clone()),
            Found::Refused => Found::Refused,
            Found::Nothing => Found::Nothing,
        }
    }

    /// What is known of a token, or else what is heard of it: by a question that somebody else began, or else by this one. It is
    /// asked in a task of its own, so that a client who hangs up takes it from nobody.
    pub async fn find_or_ask<F, A>(self: &Arc<Self>, key: Key, clock: &Arc<dyn Clock>, begin: F) -> Outcome
    where
        F: FnOnce() -> A,
        A: Future<Output = Outcome> + Send + 'static,
    {
        let mut answer = {
            let mut shard = self.write(&key);
            match shard.find(&key, clock.monotonic()) {
                Found::Known(token) => return Outcome::Valid(token.clone()),
                Found::Refused => return Outcome::Invalid,
                Found::Nothing => {}
            }
            // A question whose task has died is asked anew.
            match shard.asked.get(&key).filter(|answer| answer.has_changed().is_ok()) {
                Some(answer) => answer.clone(),
                None => {
                    let Ok(runtime) = Handle::try_current() else { return Outcome::Unavailable };
                    let (tell, answer) = watch::channel(None);
                    shard.asked.insert(key, answer.clone());
                    let (cache, clock, question) = (self.clone(), clock.clone(), begin());
                    runtime.spawn(async move {
                        // A revoked token is good for `time` after this: the answer is not younger.
                        let asked = clock.monotonic();
                        let outcome = question.await;
                        cache.keep(key, &outcome, asked, &*clock);
                        tell.send_replace(Some(outcome));
                    });
                    answer
                }
            }
        };
        let told = answer.wait_for(Option::is_some).await;
        told.ok().and_then(|outcome| outcome.clone()).unwrap_or(Outcome::Unavailable)
    }

    fn keep(&self, key: Key, outcome: &Outcome, asked: Monotonic, clock: &dyn Clock) {
        let now = clock.monotonic();
        let mut shard = self.write(&key);
        shard.asked.remove(&key);
        match outcome {
            Outcome::Valid(token) => {
                let mut until = asked.after(self.time);
                if !token.is_overdue {
                    // Its end is a wall time. A clock that jumps afterwards makes it neither older nor younger.
                    until = until.min(now.after(token.expires.since(clock.now())));
                }
                if until > now {
                    make_room(&mut shard.known, self.max, now, |known| known.until);
                    shard.known.insert(key, Known { token: token.clone(), until });
                }
            }
            Outcome::Invalid => {
                make_room(&mut shard.refused, self.max, now, |until| *until);
                shard.refused.insert(key, asked.after(REFUSED.min(self.time)));
            }
            // Whoever asks next may find Keystone well again.
            Outcome::Unavailable => {}
        }
    }

    fn shard(&self, key: &Key) -> &RwLock<Shard> {
        &self.shards[usize::from(key[0]) % SHARDS]
    }

    fn write(&self, key: &Key) -> RwLockWriteGuard<'_, Shard> {
        self.shard(key).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are known, and how many refused.
    #[cfg(test)]
    pub fn len(&self) -> (usize, usize) {
        let of = |shard: &RwLock<Shard>| {
            let shard = shard.read().unwrap();
            (shard.known.len(), shard.refused.len())
        };
        self.shards.iter().map(of).fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    }
}

impl Shard {
    fn find(&self, key: &Key, now: Monotonic) -> Found<&Arc<Token>> {
        if let Some(known) = self.known.get(key).filter(|known| now < known.until) {
            return Found::Known(&known.token);
        }
        match self.refused.get(key) {
            Some(until) if now < *until => Found::Refused,
            _ => Found::Nothing,
        }
    }
}

/// Room for one more: who has ended goes, then who ends first. Costs a look at each of a shard, beside the
/// question to Keystone that it goes with.
fn make_room<V>(map: &mut Map<V>, max: usize, now: Monotonic, until: impl Fn(&V) -> Monotonic) {
    if map.len() < max {
        return;
    }
    map.retain(|_, it| now < until(it));
    while map.len() >= max {
        let Some(first) = map.iter().min_by_key(|(_, it)| until(it)).map(|(key, _)| *key) else { return };
        map.remove(&first);
    }
}
