//! Idempotency keys: a command of a request that was done is not done again.
//!
//! That a key was used becomes durable in the transaction of the change itself, so that no crash can
//! keep one and lose the other. What was answered comes after it: where that is lost, whoever asks again
//! finds the change done. Keys count for a day; of very many the oldest are forgotten earlier.

use std::hash::{DefaultHasher, Hash, Hasher};

use pileus_model::{Command, KeptAnswer, Kind, Name, Refusal, RequestKey, Time, UsedKey, View};

use super::valid;

/// Most keys that are known at a time.
pub const KEYS_MAX: usize = 20_000;

/// Most old keys that a new one takes with it.
const FORGOTTEN_MAX: usize = 64;

/// Longest answer that is kept, in bytes.
pub const ANSWER_MAX: usize = 64 * 1024;

/// A command, as a key remembers it. Collisions matter within one request alone.
pub fn hash(command: &Command) -> Name {
    let mut hasher = DefaultHasher::new();
    format!("{command:?}").hash(&mut hasher);
    format!("{:016x}", hasher.finish()).into()
}

/// The id of what this command made when the request was sent before; `None`: it was not done.
pub fn done(view: &View, by: &RequestKey, command: &Name, now: Time) -> Result<Option<String>, Refusal> {
    let Some(used) = known(view, &by.key, now) else { return Ok(None) };
    if used.request != by.request {
        return Err(another());
    }
    Ok(used.done.iter().find(|(done, _)| done == command).map(|(_, id)| id.clone()))
}

/// What is to be written beside a command's own events.
pub fn used(view: &View, by: &RequestKey, command: Name, id: &str, now: Time) -> Vec<Kind> {
    let (key, request, id) = (by.key.clone(), by.request.clone(), id.to_owned());
    let mut kinds = forgotten(view, &by.key, now);
    kinds.push(Kind::KeyUsed { key, request, command, id });
    kinds
}

/// Keeps an answer.
pub fn answered(
    view: &View,
    key: Name,
    request: Name,
    answer: KeptAnswer,
    now: Time,
) -> Result<Vec<Kind>, Refusal> {
    valid::name("key", &key)?;
    valid::text("answer", &answer.body, ANSWER_MAX)?;
    match known(view, &key, now) {
        Some(used) if used.request != request => return Err(another()),
        // The first answer stays.
        Some(used) if used.answer.is_some() => return Ok(Vec::new()),
        _ => (),
    }
    let mut kinds = forgotten(view, &key, now);
    kinds.push(Kind::KeyAnswered { key, request, answer });
    Ok(kinds)
}

fn known<'a>(view: &'a View, key: &Name, now: Time) -> Option<&'a UsedKey> {
    view.keys.get(key).map(|used| &**used).filter(|used| !used.is_old(now))
}

/// Makes room for `key`, where it is new: what is old goes, a few at a time, and itself where it is old.
fn forgotten(view: &View, key: &Name, now: Time) -> Vec<Kind> {
    if known(view, key, now).is_some() {
        return Vec::new();
    }
    let surplus = (view.keys.len() + 1).saturating_sub(KEYS_MAX);
    let is_old = |old: &Name| view.keys.get(old).is_none_or(|used| used.is_old(now));
    let oldest = view.keys_by_age.values().take(FORGOTTEN_MAX).enumerate();
    let mut keys: Vec<Name> =
        oldest.filter(|(at, old)| *at < surplus || is_old(old)).map(|(_, old)| old.clone()).collect();
    if view.keys.contains_key(key) && !keys.contains(key) {
        keys.push(key.clone());
    }
    if keys.is_empty() { Vec::new() } else { vec![Kind::KeysForgotten { keys }] }
}

fn another() -> Refusal {
    Refusal::Conflict("This Idempotency-Key was used for another request.".into())
}

#[cfg(test)]
mod tests {
    use pileus_model::KEY_KEPT_S;

    use super::*;
    use crate::testing::happen;

    fn by(key: &str, request: &str) -> RequestKey {
        RequestKey { key: key.into(), request: request.into(), repeated: false }
    }

    fn keep(view: &mut View, key: &str, now: Time) {
        let kinds = used(view, &by(key, "r"), "c".into(), "1", now);
        happen(view, now, kinds);
    }

    #[test]
    fn a_key_counts_for_its_request_and_for_a_day() {
        let (mut view, noon) = (View::default(), Time(43_200_000));
        let day_ms = KEY_KEPT_S as i64 * 1000;
        let command = hash(&Command::ReloadAliases);
        assert_eq!(done(&view, &by("k", "r"), &command, noon), Ok(None));
        let kinds = used(&view, &by("k", "r"), command.clone(), "7", noon);
        happen(&mut view, noon, kinds);
        let later = Time(noon.0 + day_ms - 1);
        assert_eq!(done(&view, &by("k", "r"), &command, later), Ok(Some("7".into())));
        assert_eq!(done(&view, &by("k", "r"), &hash(&Command::ReloadUserLimits), later), Ok(None));
        assert!(done(&view, &by("k", "other"), &command, later).is_err());
        let next = Time(noon.0 + day_ms);
        assert_eq!(done(&view, &by("k", "other"), &command, next), Ok(None), "a day is over");
        let kinds = used(&view, &by("k", "other"), command.clone(), "8", next);
        happen(&mut view, next, kinds);
        assert_eq!((view.keys.len(), view.keys_by_age.len()), (1, 1));
        assert_eq!(done(&view, &by("k", "other"), &command, next), Ok(Some("8".into())));
    }

    #[test]
    fn the_first_answer_stays() {
        let mut view = View::default();
        let answer = |status| KeptAnswer { status, headers: Vec::new(), body: String::new() };
        for (status, events) in [(201, 1), (409, 0)] {
            let kinds = answered(&view, "k".into(), "r".into(), answer(status), Time(0)).unwrap();
            assert_eq!(kinds.len(), events);
            happen(&mut view, Time(0), kinds);
        }
        assert_eq!(view.keys["k"].answer, Some(answer(201)));
        assert!(answered(&view, "k".into(), "other".into(), answer(200), Time(0)).is_err());
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let mut view = View::default();
        for at in 0..KEYS_MAX + 3 {
            keep(&mut view, &format!("k{at}"), Time(0));
        }
        assert_eq!((view.keys.len(), view.keys_by_age.len()), (KEYS_MAX, KEYS_MAX));
        assert!(!view.keys.contains_key("k2") && view.keys.contains_key("k3"));
        // A day later each new key takes old ones with it.
        keep(&mut view, "new", Time(KEY_KEPT_S as i64 * 1000));
        assert_eq!(view.keys.len(), KEYS_MAX + 1 - FORGOTTEN_MAX);
    }
}
