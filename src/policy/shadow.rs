//! A second policy beside the first: it decides nothing, and what it would decide otherwise is said.
//!
//! For whoever wants to know what a change of rules will do before he makes it. Differences are counted,
//! and logged, but not more than [`LINES`] a minute: a change that matters is a change for every request.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use pileus_model::{Clock, Monotonic};
use pileus_sdk::{Caller, Route};

use super::{Decision, Policy, Target};

/// Most lines of the log in a minute.
const LINES: u32 = 20;

const MINUTE: Duration = Duration::from_secs(60);

/// A policy that is compared with the one that decides.
pub struct Shadow {
    policy: Policy,
    file: String,
    clock: Arc<dyn Clock>,
    compared: AtomicU64,
    differed: AtomicU64,
    /// Not compared, since the rule asks another server: no request waits for a policy that decides nothing.
    passed_over: AtomicU64,
    log: Mutex<Log>,
}

/// What was logged in this minute.
#[derive(Default)]
struct Log {
    since: Monotonic,
    lines: u32,
    left_out: u64,
}

impl Shadow {
    /// Compares with the rules of `file`.
    pub fn new(policy: Policy, file: String, clock: Arc<dyn Clock>) -> Self {
        let (compared, differed, passed_over) = Default::default();
        Self { policy, file, clock, compared, differed, passed_over, log: Mutex::default() }
    }

    /// Decides again, and says where that differs from what was decided.
    pub fn compare(&self, route: &Route, caller: &Caller, target: &dyn Target, decided: &Decision) {
        let rule = self.policy.rule(route.rule);
        if self.policy.asks_others(rule) {
            self.passed_over.fetch_add(1, Relaxed);
            return;
        }
        self.compared.fetch_add(1, Relaxed);
        let next = self.policy.check(rule, &caller.creds, target);
        if next.allowed() == decided.allowed() {
            return;
        }
        let differences = self.differed.fetch_add(1, Relaxed) + 1;
        let Some(left_out) = self.may_log() else { return };
        tracing::warn!(
            rule = route.rule,
            http.route = %format_args!("{} {}", route.method, route.path),
            user.id = &*caller.user,
            project.id = &*caller.project,
            old = word(decided),
            new = word(&next),
            shadow = self.file,
            differences,
            left_out,
            "shadow policy decided differently"
        );
    }

    /// How many lines were left out before this one; `None`: this one is, too.
    fn may_log(&self) -> Option<u64> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        if log.lines == 0 || now.since(log.since) >= MINUTE {
            (log.since, log.lines) = (now, 0);
        }
        if log.lines >= LINES {
            log.left_out += 1;
            return None;
        }
        log.lines += 1;
        Some(std::mem::take(&mut log.left_out))
    }

    /// How many requests were compared, and how many of them came out otherwise.
    pub fn counts(&self) -> (u64, u64) {
        (self.compared.load(Relaxed), self.differed.load(Relaxed))
    }
}

fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
        Decision::Scope { .. } => "deny: scope",
        Decision::Error(_) => "deny: error",
    }
}

/// The sum, once the pipeline is given up.
impl Drop for Shadow {
    fn drop(&mut self) {
        let (compared, differences) = self.counts();
        let passed_over = self.passed_over.load(Relaxed);
        if compared + passed_over > 0 {
            let shadow = &*self.file;
            tracing::info!(shadow, compared, differences, passed_over, "shadow policy was compared");
        }
    }
}

impl fmt::Debug for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shadow({})", self.file)
    }
}
