//! Grounds of a long answer, checked again while it goes on.
//!
//! A request is admitted once, by its authenticator and by `policy`. A stream that follows something outlives
//! this decision: the token may be revoked or expire, and a reload may take the right away. A handler that
//! streams keeps a [`Standing`] and ends the stream once it does not hold. An ordinary request pays one
//! reference count for it.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;
use pileus_model::{BoxFuture, Clock, Monotonic};

use crate::{Call, Caller, Decide, policy::Successor};

/// Time between two checks. A stream ends within 5 s of a revocation.
pub const RECHECK: Duration = Duration::from_secs(2);

/// Authenticator that can be asked again about a request that it let in.
pub trait Admit: Send + Sync {
    /// Returns the caller that these secrets have now. `None`: a request with them would be refused.
    fn admit(self: Arc<Self>, secrets: Secrets) -> BoxFuture<Option<Arc<Caller>>>;
}

/// Headers by which an authenticator let a request in.
#[derive(Clone)]
pub struct Secrets {
    /// The user's token, as its header has it.
    pub user: HeaderValue,
    /// The token of the service that hands on the request.
    pub service: Option<HeaderValue>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets")
    }
}

/// Admission of a request. Set by an authenticator.
#[derive(Clone)]
pub struct Admission {
    by: Arc<dyn Admit>,
    secrets: Secrets,
}

impl Admission {
    /// An admission by this authenticator.
    pub fn new(by: Arc<dyn Admit>, secrets: Secrets) -> Self {
        Self { by, secrets }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admission")
    }
}

/// Grounds on which a call was let in.
pub struct Standing {
    clock: Arc<dyn Clock>,
    checked: Monotonic,
    admission: Option<Admission>,
    caller: Option<Arc<Caller>>,
    policy: Option<Arc<dyn Decide>>,
    /// The rule of the route with the parameters of its path, then the rules that the handler asked.
    rules: Vec<(&'static str, Vec<(String, String)>)>,
}

impl Standing {
    /// Grounds of a call. `also`: rules that the handler has asked with [`Call::may`].
    pub fn of(call: &Call, clock: Arc<dyn Clock>, also: &[&'static str]) -> Self {
        let context = call.context();
        let mut rules = Vec::new();
        if let Some(matched) = &context.matched {
            let params = matched.route.params.iter();
            let target = params.map(|key| (key.to_string(), call.param(key).into_owned())).collect();
            rules.push((matched.route.rule, target));
        }
        let project = || vec![("project_id".to_owned(), call.project().into_owned())];
        rules.extend(also.iter().map(|rule| (*rule, project())));
        Self {
            checked: clock.monotonic(),
            clock,
            admission: context.admission.clone(),
            caller: context.caller.clone(),
            policy: context.policy.clone(),
            rules,
        }
    }

    /// Grounds that are an admission alone, or nothing: for tests, and for answers that no call began.
    pub fn new(clock: Arc<dyn Clock>, admission: Option<Admission>, caller: Option<Arc<Caller>>) -> Self {
        Self { checked: clock.monotonic(), clock, admission, caller, policy: None, rules: Vec::new() }
    }

    /// Time until the next check is due.
    pub fn due_in(&self) -> Duration {
        RECHECK.saturating_sub(self.clock.monotonic().since(self.checked))
    }

    /// Checks the grounds if that is due. `false`: a new request like this one would be refused.
    pub async fn holds(&mut self) -> bool {
        if !self.due_in().is_zero() {
            return true;
        }
        let holds = self.check().await;
        self.checked = self.clock.monotonic();
        holds
    }

    async fn check(&mut self) -> bool {
        let mut changed = false;
        if let Some(Admission { by, secrets }) = &self.admission {
            let Some(caller) = by.clone().admit(secrets.clone()).await else { return false };
            let same = self.caller.as_ref().is_some_and(|old| **old == *caller);
            // The path, which the router has compared with it, names the old one.
            if self.caller.as_ref().is_none_or(|old| old.project != caller.project) {
                return false;
            }
            changed = !same;
            self.caller = Some(caller);
        }
        let Some(mut policy) = self.policy.clone() else { return true };
        loop {
            match policy.successor() {
                Successor::None => break,
                Successor::Gone => return false,
                Successor::Policy(next) => (policy, changed) = (next, true),
            }
        }
        if changed {
            let Some(caller) = &self.caller else { return false };
            for (rule, target) in &self.rules {
                let decided = policy.clone().ask((*rule).to_owned(), caller.clone(), target.clone()).await;
                let allowed = decided.unwrap_or_else(|| {
                    let target: Vec<_> = target.iter().map(|(key, value)| (&**key, &**value)).collect();
                    policy.allows(rule, Some(caller), &target)
                });
                if !allowed {
                    return false;
                }
            }
            self.policy = Some(policy);
        }
        true
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, OnceLock};

    use pileus_model::{ManualClock, Time};

    use super::*;

    /// Knows one caller, as long as it knows any.
    struct Gate(Mutex<Option<Arc<Caller>>>);

    impl Admit for Gate {
        fn admit(self: Arc<Self>, secrets: Secrets) -> BoxFuture<Option<Arc<Caller>>> {
            assert_eq!(secrets.user, "secret");
            let caller = self.0.lock().unwrap().clone();
            Box::pin(async move { caller })
        }
    }

    /// Allows its rules to callers of the role `member`.
    #[derive(Default)]
    struct Rules {
        allowed: &'static [&'static str],
        successor: OnceLock<Option<Arc<Rules>>>,
    }

    impl Decide for Rules {
        fn allows(&self, rule: &str, caller: Option<&Caller>, _: &[(&str, &str)]) -> bool {
            self.allowed.contains(&rule) && caller.is_some_and(|it| it.roles.iter().any(|it| it == "member"))
        }

        fn successor(&self) -> Successor {
            match self.successor.get() {
                None => Successor::None,
                Some(None) => Successor::Gone,
                Some(Some(next)) => Successor::Policy(next.clone()),
            }
        }
    }

    fn caller(project: &str, role: &str) -> Option<Arc<Caller>> {
        Some(Arc::new(Caller::new("ada".into(), project.into(), vec![role.into()], false)))
    }

    fn rules(allowed: &'static [&'static str]) -> Arc<Rules> {
        Arc::new(Rules { allowed, ..Rules::default() })
    }

    #[tokio::test]
    async fn grounds_hold_until_one_of_them_is_taken_away() {
        const BOTH: &[&str] = &["events:index", "events:index:all_projects"];
        type Step = fn(&Gate, &Rules);
        let cases: [(&str, Step, bool); 11] = [
            ("nothing changes", |_, _| (), true),
            ("the token is revoked", |gate, _| *gate.0.lock().unwrap() = None, false),
            ("the caller is found again", |gate, _| *gate.0.lock().unwrap() = caller("p", "member"), true),
            ("the role is taken", |gate, _| *gate.0.lock().unwrap() = caller("p", "reader"), false),
            ("another project", |gate, _| *gate.0.lock().unwrap() = caller("q", "member"), false),
            ("a policy that says the same", |_, policy| drop(policy.successor.set(Some(rules(BOTH)))), true),
            (
                "a policy without the right",
                |_, policy| drop(policy.successor.set(Some(rules(&["events:index:all_projects"])))),
                false,
            ),
            (
                "a policy without the second right",
                |_, policy| drop(policy.successor.set(Some(rules(&["events:index"])))),
                false,
            ),
            ("the pipeline is gone", |_, policy| drop(policy.successor.set(None)), false),
            (
                "two reloads, and the last one counts",
                |_, policy| {
                    let next = rules(&[]);
                    next.successor.set(Some(rules(BOTH))).ok();
                    policy.successor.set(Some(next)).ok();
                },
                true,
            ),
            (
                "two reloads, the last one takes the right",
                |_, policy| {
                    let next = rules(BOTH);
                    next.successor.set(Some(rules(&[]))).ok();
                    policy.successor.set(Some(next)).ok();
                },
                false,
            ),
        ];
        for (what, step, holds) in cases {
            let clock = ManualClock::at(Time(0));
            let gate = Arc::new(Gate(Mutex::new(caller("p", "member"))));
            let policy = rules(BOTH);
            let secrets = Secrets { user: HeaderValue::from_static("secret"), service: None };
            let mut standing = Standing {
                clock: Arc::new(clock.clone()),
                checked: clock.monotonic(),
                admission: Some(Admission::new(gate.clone(), secrets)),
                caller: caller("p", "member"),
                policy: Some(policy.clone()),
                rules: BOTH.iter().map(|rule| (*rule, Vec::new())).collect(),
            };
            step(&gate, &policy);
            assert!(standing.holds().await, "{what}: no check is due");
            clock.advance(RECHECK);
            assert_eq!(standing.holds().await, holds, "{what}");
            assert_eq!(standing.due_in(), RECHECK, "{what}");
        }
    }
}
