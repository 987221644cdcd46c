//! Decides a tree of checks, in bounded time and on a bounded stack.
//!
//! Three values: yes, no, and unclear, which is what a check that nobody understands says. Unclear
//! never becomes yes: not through `not`, not through a reference. An error (credentials of the wrong
//! shape, a bad `%`, a circle of rules) ends the whole decision, as the exception does in the library.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    Policy, Target,
    check::{Check, Leaf, Test},
    format::Format,
    remote::Question,
    text::{repr, text},
};

/// Checks within checks and rules within rules; the deepest rule of people has perhaps ten.
pub(super) const MAX_DEPTH: u32 = 200;

/// Checks in one decision: rules that refer to each other many times over would go on for ever.
const MAX_STEPS: u32 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    Yes,
    No,
    Unclear,
}

impl From<bool> for Truth {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

pub(super) type Outcome = Result<Truth, String>;

/// Who looks on while a decision is made. Nobody, `()`, costs nothing.
pub(super) trait Watch<'a> {
    /// A check is about to be evaluated.
    fn enter(&mut self, _: &Check) {}
    /// Why the check that is being evaluated comes out as it does.
    fn because(&mut self, _: impl FnOnce() -> String) {}
    /// It was evaluated.
    fn leave(&mut self, _: &Outcome) {}
    /// It was not, because the outcome was clear.
    fn skip(&mut self, _: &Check) {}
    /// What another server says, if that is known.
    fn answer(&mut self, _: Question<'a>) -> Option<bool> {
        None
    }
}

impl Watch<'_> for () {}

/// One decision.
pub(super) struct Eval<'a, W> {
    policy: &'a Policy,
    creds: &'a Value,
    target: &'a dyn Target,
    depth: u32,
    steps: u32,
    pub(super) watch: W,
}

impl<'a, W: Watch<'a>> Eval<'a, W> {
    pub(super) fn new(policy: &'a Policy, creds: &'a Value, target: &'a dyn Target, watch: W) -> Self {
        Self { policy, creds, target, depth: 0, steps: 0, watch }
    }

    pub(super) fn decide(&mut self, check: &'a Check) -> Outcome {
        self.watch.enter(check);
        self.depth += 1;
        self.steps += 1;
        let outcome = if self.depth > MAX_DEPTH {
            Err(format!(
                "rules refer to each other in a circle, or are nested deeper than {MAX_DEPTH} levels"
            ))
        } else if self.steps > MAX_STEPS {
            Err(format!("the rule takes more than {MAX_STEPS} checks"))
        } else {
            self.outcome(check)
        };
        self.depth -= 1;
        self.watch.leave(&outcome);
        outcome
    }

    fn outcome(&mut self, check: &'a Check) -> Outcome {
        match check {
            Check::Leaf(leaf) => self.leaf(leaf),
            Check::Not(inner) => Ok(match self.decide(inner)? {
                Truth::Yes => Truth::No,
                Truth::No => Truth::Yes,
                Truth::Unclear => Truth::Unclear,
            }),
            Check::All(parts) => self.series(parts, Truth::Yes),
            Check::Any(parts) => self.series(parts, Truth::No),
        }
    }

    /// Goes on while the parts say `neutral`. An unclear part ends an `and`, but not an `or`, where a
    /// later part may still say yes.
    fn series(&mut self, parts: &'a [Check], neutral: Truth) -> Outcome {
        let mut result = neutral;
        for (index, part) in parts.iter().enumerate() {
            let found = self.decide(part)?;
            let unclear_or = found == Truth::Unclear && neutral == Truth::No;
            if found != neutral {
                result = found;
            }
            if found != neutral && !unclear_or {
                parts[index + 1..].iter().for_each(|part| self.watch.skip(part));
                break;
            }
        }
        Ok(result)
    }

    fn leaf(&mut self, leaf: &'a Leaf) -> Outcome {
        match &leaf.test {
            Test::Always => Ok(Truth::Yes),
            Test::Never => Ok(Truth::No),
            Test::Unclear(why) => {
                self.watch.because(|| why.to_string());
                Ok(Truth::Unclear)
            }
            Test::Raises(why) => Err(why.to_string()),
            Test::Rule { name, to } => match to.and_then(|to| self.policy.get(to)) {
                None => {
                    self.watch.because(|| format!("no rule is called `{name}`, and there is no `default`"));
                    Ok(Truth::No)
                }
                Some(rule) => {
                    if *rule.name != **name {
                        self.watch.because(|| format!("no rule is called `{name}`, so `default` decides"));
                    }
                    self.decide(&rule.check)
                }
            },
            Test::Role(wanted) => {
                let Some(wanted) = self.fill(wanted)? else { return Ok(Truth::No) };
                self.role(&wanted)
            }
            Test::Literal(left, right) => {
                let Some(right) = self.fill(right)? else { return Ok(Truth::No) };
                self.watch.because(|| format!("the target has `{right}`"));
                Ok(Truth::from(*right == **left))
            }
            Test::Http(url) => {
                let question = url.fill(self.target)?;
                match self.watch.answer(question) {
                    Some(yes) => Ok(Truth::from(yes)),
                    None => Err(format!("{url} was not asked")),
                }
            }
            Test::Creds(path, right) => {
                let Some(right) = self.fill(right)? else { return Ok(Truth::No) };
                self.creds(path, &right)
            }
        }
    }

    fn fill<'f>(&mut self, format: &'f Format) -> Result<Option<Cow<'f, str>>, String>
    where
        'a: 'f,
    {
        let filled = format.fill(self.target)?;
        if filled.is_none() {
            self.watch.because(|| "the target has no such attribute".to_owned());
        }
        Ok(filled)
    }

    fn role(&mut self, wanted: &str) -> Outcome {
        let Some(roles) = self.creds.as_object().and_then(|creds| creds.get("roles")) else {
            self.watch.because(|| "the caller has no roles".to_owned());
            return Ok(Truth::No);
        };
        let roles = roles.as_array().ok_or_else(|| format!("`roles` is no list, but {}", repr(roles)))?;
        self.watch.because(|| format!("the caller's roles are {}", repr(&Value::Array(roles.clone()))));
        let mut found = false;
        for role in roles {
            let role = role.as_str().ok_or_else(|| format!("a role is no text, but {}", repr(role)))?;
            found |= same_lower_case(role, wanted);
        }
        Ok(Truth::from(found))
    }

    fn creds(&mut self, path: &[Box<str>], wanted: &str) -> Outcome {
        // A scope for the whole system stands in for `system`, as the library copies it.
        let system = match path.first().map(|first| &**first) {
            Some("system") => self.creds.get("system_scope").filter(|scope| is_truthy(scope)),
            _ => None,
        };
        let found = match system {
            Some(scope) => self.below(scope, path.get(1..).unwrap_or_default(), wanted)?,
            None => self.walk(self.creds, path, wanted)?,
        };
        Ok(Truth::from(found))
    }

    /// Whether what stands at `path` of `value` is `wanted`.
    fn walk(&mut self, value: &Value, path: &[Box<str>], wanted: &str) -> Result<bool, String> {
        let Some((key, rest)) = path.split_first() else {
            self.watch.because(|| format!("the caller has `{}`, wanted is `{wanted}`", text(value)));
            return Ok(text(value) == wanted);
        };
        let members = value
            .as_object()
            .ok_or_else(|| format!("`{key}` was looked for in {}, which has no members", repr(value)))?;
        match members.get(&**key) {
            Some(next) => self.below(next, rest, wanted),
            None => {
                self.watch.because(|| format!("the caller has no `{key}`"));
                Ok(false)
            }
        }
    }

    /// The same, for each element where the value is a list.
    fn below(&mut self, value: &Value, rest: &[Box<str>], wanted: &str) -> Result<bool, String> {
        let Value::Array(elements) = value else { return self.walk(value, rest, wanted) };
        for element in elements {
            if self.walk(element, rest, wanted)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// Whether two names are the same in lower case, by Unicode's mapping. Usual names cost no allocation.
fn same_lower_case(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        one.eq_ignore_ascii_case(other)
    } else {
        one.to_lowercase() == other.to_lowercase()
    }
}
