//! Decides aloud: the tree of checks with the value and the reason of each, for operators.
//!
//! Shows credentials: not for clients.

use serde_json::Value;

use super::{
    Decision, Policy, Target,
    check::{Check, Test},
    eval::{Eval, Outcome, Truth, Watch},
};

/// A tree longer than this is cut: a circle of rules has no end worth reading.
const MAX_LINES: usize = 400;

/// Writes down what happens.
#[derive(Default)]
struct Record {
    lines: Vec<Line>,
    /// Lines of the checks that are being evaluated; `None` where it was cut.
    open: Vec<Option<usize>>,
}

struct Line {
    depth: usize,
    label: String,
    value: &'static str,
    reasons: Vec<String>,
}

impl Record {
    fn add(&mut self, check: &Check, value: &'static str) -> Option<usize> {
        let label = match check {
            Check::Not(_) => "not".to_owned(),
            Check::All(_) => "and".to_owned(),
            Check::Any(_) => "or".to_owned(),
            Check::Leaf(leaf) => leaf.text.to_string(),
        };
        let line = Line { depth: self.open.len() + 1, label, value, reasons: Vec::new() };
        (self.lines.len() < MAX_LINES).then(|| {
            self.lines.push(line);
            self.lines.len() - 1
        })
    }
}

impl Watch for Record {
    fn enter(&mut self, check: &Check) {
        let line = self.add(check, "");
        self.open.push(line);
    }

    fn because(&mut self, reason: impl FnOnce() -> String) {
        let line = self.open.last().copied().flatten().and_then(|index| self.lines.get_mut(index));
        if let Some(line) = line {
            line.reasons.push(reason());
        }
    }

    fn leave(&mut self, outcome: &Outcome) {
        let line = self.open.pop().flatten().and_then(|index| self.lines.get_mut(index));
        let Some(line) = line else { return };
        line.value = match outcome {
            Ok(Truth::Yes) => "yes",
            Ok(Truth::No) => "no",
            Ok(Truth::Unclear) => "unclear",
            Err(_) => "error",
        };
        // An error passes through all the checks around it; it is said where it arose.
        let innermost = self.lines.last().is_some_and(|last| last.depth == self.open.len() + 1);
        if let (Err(reason), true) = (outcome, innermost)
            && let Some(last) = self.lines.last_mut()
        {
            last.reasons.push(reason.clone());
        }
    }

    fn skip(&mut self, check: &Check) {
        self.add(check, "not asked");
    }
}

impl Policy {
    /// Decides `rule` and shows how: one line for each check, those below it indented.
    pub fn explain(&self, rule: &str, creds: &Value, target: &dyn Target) -> (Decision, String) {
        let id = self.rule(rule);
        let Some(found) = self.get(id) else {
            let text = format!("{rule}: deny (no rule has this name, and there is no `default`)\n");
            return (Decision::Deny, text);
        };
        let mut eval = Eval::new(self, creds, target, Record::default());
        let outcome = eval.decide(&found.check);
        let decision = found.decision(outcome);
        let mut text = format!("{rule}: {decision}");
        if *found.name != *rule {
            text.push_str(" (no rule has this name, so `default` decides)");
        }
        text.push('\n');
        for line in &eval.watch.lines {
            text.push_str(&"  ".repeat(line.depth.min(40)));
            text.push_str(&format!("{}: {}", line.label, line.value));
            if !line.reasons.is_empty() {
                text.push_str(&format!(" ({})", line.reasons.join("; ")));
            }
            text.push('\n');
        }
        if eval.watch.lines.len() == MAX_LINES {
            text.push_str("  …\n");
        }
        (decision, text)
    }

    /// What this rule's own expression refers to, for `pileus policy list`.
    pub fn refers_to(&self, rule: &str) -> Vec<&str> {
        let mut names = Vec::new();
        if let Some(rule) = self.names.get(rule).and_then(|id| self.get(*id)) {
            rule.check.leaves(&mut |leaf, _, _| {
                if let Test::Rule { name, .. } = &leaf.test {
                    names.push(&**name);
                }
            });
        }
        names
    }
}
