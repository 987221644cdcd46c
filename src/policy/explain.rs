//! Decides aloud: the tree of checks with the value and the reason of each, for operators.
//!
//! Shows credentials: not for clients.

use serde_json::{Map, Value};

use super::{
    Decision, Policy, Target,
    check::{Check, Test},
    eval::{Eval, Outcome, Truth, Watch},
    remote::Question,
};

/// A tree longer than this is cut: a circle of rules has no end worth reading.
const MAX_LINES: usize = 400;

/// Writes down what happens.
#[derive(Default)]
struct Record<'a> {
    /// What other servers said.
    known: Vec<(Question<'a>, bool)>,
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

impl Record<'_> {
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

impl<'a> Watch<'a> for Record<'a> {
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

    fn answer(&mut self, question: Question<'a>) -> Option<bool> {
        let known = self.known.iter().find(|(known, _)| *known == question).map(|(_, yes)| *yes);
        self.because(|| format!("POST {question}"));
        known
    }
}

impl Policy {
    /// Decides `rule` and shows how: one line for each check, those below it indented. Asks no other server.
    pub fn explain(&self, rule: &str, creds: &Value, target: &dyn Target) -> (Decision, String) {
        self.tell(rule, creds, target, Record::default(), None)
    }

    /// The same, and asks the servers that the rule names.
    pub async fn explain_asking(
        &self,
        rule: &str,
        creds: &Value,
        target: &Map<String, Value>,
    ) -> (Decision, String) {
        let (decision, known) = self.decide_by_answers(self.rule(rule), rule, creds, target).await;
        self.tell(rule, creds, target, Record { known, ..Record::default() }, Some(decision))
    }

    fn tell<'a>(
        &'a self,
        rule: &str,
        creds: &'a Value,
        target: &'a dyn Target,
        record: Record<'a>,
        decided: Option<Decision>,
    ) -> (Decision, String) {
        let id = self.rule(rule);
        let Some(found) = self.get(id) else {
            let text = format!("{rule}: deny (no rule has this name, and there is no `default`)\n");
            return (Decision::Deny, text);
        };
        let mut eval = Eval::new(self, creds, target, record);
        let outcome = eval.decide(&found.check);
        let decision = decided.or_else(|| found.refuses(creds)).unwrap_or_else(|| found.decision(outcome));
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
            rule.check.leaves(&mut |seen| {
                if let Test::Rule { name, .. } = &seen.leaf.test {
                    names.push(&**name);
                }
            });
        }
        names
    }
}
