//! What rules mean for the routes there are: who asks them, who gets in by them, what never holds.
//!
//! All of it is said only where the routes are known. A warning is what may be meant; an error is what lets
//! somebody in by a slip.

use std::collections::{BTreeMap, HashSet};

use super::{
    DEFAULT, Policy, Rule,
    check::{Check, Seen, Test},
    format::Format,
    kind::nearest,
};
use crate::diagnostic::{Diagnostic, words};

/// Rules within rules that are followed to see whether somebody is meant at all.
const FOLLOWED: u32 = 32;

/// How many rules of a file that nobody asks are shown one by one: a file of Nova's has a hundred.
const UNASKED_SHOWN: usize = 8;

/// One check of a rule.
pub(super) fn leaf(policy: &Policy, rule: &Rule, seen: &Seen<'_>) -> Option<Diagnostic> {
    rule.origin.place.as_ref()?;
    let known = !policy.defaults.rules().is_empty();
    let format = match &seen.leaf.test {
        Test::Literal(left, Format::Text(right)) => {
            let what = if left == right { "always true" } else { "never true" };
            let told = format!("both sides of `{}` are fixed: it is {what}", seen.leaf.text);
            return Some(
                Diagnostic::warning(told)
                    .help("on the right, `%(name)s` is what a route says of its target; on the left, a name without quotes is of the caller"),
            );
        }
        Test::Http(url) if url.is_exposed() => {
            let told =
                format!("{url} is another host, and is sent credentials that anybody on the way can read");
            return Some(Diagnostic::warning(told).help("ask it by `https:`, or a server on 127.0.0.1"));
        }
        Test::Http(url) => {
            let key =
                url.path().keys().into_iter().find(|key| known && !policy.defaults.has_attribute(key))?;
            let told = format!("no route says `{key}` of its target, so nobody can be asked, and it denies");
            return Some(Diagnostic::warning(told).suggest(key, policy.defaults.attributes()));
        }
        Test::Role(right) | Test::Literal(_, right) | Test::Creds(_, right) => right,
        _ => return None,
    };
    let keys = format.keys();
    let missing = keys.iter().find(|key| known && !policy.defaults.has_attribute(key));
    if let Some(key) = missing {
        let never = format!("no route says `{key}` of its target, so this is never true");
        let told = match seen.negated {
            true => Diagnostic::error(format!("{never}, and `not` makes it true for everybody")),
            false => Diagnostic::warning(never),
        };
        return Some(told.suggest(key, policy.defaults.attributes()));
    }
    let Test::Creds(path, Format::Key(key)) = &seen.leaf.test else { return None };
    let is_itself = known && path.len() == 1 && *path[0] == *"project_id" && **key == *"project_id";
    let narrows = matches!(rule.check, Check::Any(_)) || seen.negated;
    (is_itself && narrows).then(|| {
        let what = if seen.negated { "never so below `not`" } else { "so the rest of the rule decides nothing" };
        let told = format!(
            "this compares the caller's project with itself: a path with another project is refused before, {what}"
        );
        Diagnostic::warning(told).help("test a role, as in `role:member`, where not every caller is meant")
    })
}

/// The rules as a whole.
pub(super) fn rules(policy: &Policy) -> Vec<Diagnostic> {
    if policy.defaults.rules().is_empty() {
        return Vec::new();
    }
    let mut found = unasked(policy);
    for rule in &policy.rules {
        let asked = policy.defaults.get(&rule.name).filter(|default| !default.routes.is_empty());
        if asked.is_none() && *rule.name != *DEFAULT {
            continue;
        }
        let mut told = |diagnostic: Diagnostic| {
            let at = rule.origin.place.clone();
            found.push(at.into_iter().fold(diagnostic, Diagnostic::at));
        };
        if rule.asks && asked.is_some_and(|default| default.asked_by_controllers_alone()) {
            let text = format!(
                "rule `{}` asks another server, and is asked in the middle of a call, where nobody can wait: it denies",
                rule.name
            );
            told(Diagnostic::warning(text).help("ask the server in the rule of the route"));
        }
        if rule.origin.place.is_none() {
            continue;
        }
        let expression = rule.check.to_string();
        match (constant(policy, &rule.check, 0), asked) {
            (Some(true), None) => told(
                Diagnostic::warning(format!(
                    "`{DEFAULT}` lets in everybody: whoever forgets a rule opens what it should guard"
                ))
                .help("write \"!\", or leave it away: what has no rule denies"),
            ),
            (Some(true), Some(default)) if default.expression != "@" => {
                let text = format!("rule `{}` lets in everybody who has a token", rule.name);
                told(Diagnostic::warning(text).help(format!("its default is \"{}\"", default.expression)));
            }
            (Some(false), Some(_)) if expression != "!" => {
                let text = format!("rule `{}` lets in nobody, whoever asks", rule.name);
                told(Diagnostic::warning(text).help("write \"!\" where that is meant"));
            }
            _ => {}
        }
    }
    found.extend(defaults(policy));
    found
}

/// Rules of files that no route asks and no rule refers to.
fn unasked(policy: &Policy) -> Vec<Diagnostic> {
    let mut referred = HashSet::new();
    for rule in &policy.rules {
        rule.check.leaves(&mut |seen| {
            if let Test::Rule { name, .. } = &seen.leaf.test {
                referred.insert(&**name);
            }
        });
    }
    let mut by_file: BTreeMap<&str, Vec<&Rule>> = BTreeMap::new();
    for rule in &policy.rules {
        let asked = policy.defaults.get(&rule.name).is_some() || *rule.name == *DEFAULT;
        if let Some(place) = rule.origin.place.as_ref().filter(|_| !asked && !referred.contains(&*rule.name))
        {
            by_file.entry(&place.source.name).or_default().push(rule);
        }
    }
    let mut found = Vec::new();
    for rules in by_file.into_values() {
        let names = || policy.defaults.rules().iter().map(|rule| rule.name);
        for rule in rules.iter().take(UNASKED_SHOWN) {
            let told =
                Diagnostic::warning(format!("no route asks rule `{}`, and no rule refers to it", rule.name));
            let told = match nearest(&rule.name, names()) {
                Some(near) => told.help(format!("did you mean `{near}`?")),
                None => told.help("`pileus policy list` shows what is asked; take it away"),
            };
            found.extend(rule.origin.place.clone().map(|place| told.at(place)));
        }
        if let Some(next) = rules.get(UNASKED_SHOWN) {
            let more = rules.len() - UNASKED_SHOWN;
            let told = Diagnostic::warning(format!(
                "nor does any route ask `{}`, of {more} more such rules",
                next.name
            ));
            found.extend(next.origin.place.clone().map(|place| told.at(place)));
        }
    }
    found
}

/// Where a deployer wrote `default`, and something else decides what he left out.
fn defaults(policy: &Policy) -> Option<Diagnostic> {
    let of_code = policy.defaults.rules().iter().filter(|rule| {
        let origin = policy.origin(rule.name);
        !rule.routes.is_empty() && origin.is_some_and(|origin| origin.place.is_none())
    });
    let names: Vec<_> = of_code.map(|rule| rule.name).collect();
    let shown = match names.len() {
        0 => return None,
        1..=4 => words(&names, "and"),
        more => format!("`{}`, `{}`, `{}` and {} more", names[0], names[1], names[2], more - 3),
    };
    let default = policy.origin(DEFAULT).and_then(|origin| origin.place.clone());
    match (policy.settings.policy_defaults, default) {
        (true, None) => None,
        (true, Some(place)) => Some(
            Diagnostic::warning(format!("`{DEFAULT}` does not decide {shown}: no file has them, and their own defaults do"))
                .at(place)
                .help("`pileus policy list` shows these; with `policy_defaults = false` under [policy] of pileus.toml, or with rules of their own, they go"),
        ),
        (false, place) => {
            let told = format!("no file has the rules {shown}, which routes ask: `{DEFAULT}` decides");
            let told = Diagnostic::warning(told).help("give them rules: `pileus policy list` shows who asks them");
            Some(place.into_iter().fold(told, Diagnostic::at))
        }
    }
}

/// What a check says whoever asks; `None`: that depends.
fn constant(policy: &Policy, check: &Check, followed: u32) -> Option<bool> {
    let series = |parts: &[Check], ends: bool| {
        let all: Vec<_> = parts.iter().map(|part| constant(policy, part, followed)).collect();
        match all.iter().all(|it| *it == Some(!ends)) {
            true => Some(!ends),
            false => all.contains(&Some(ends)).then_some(ends),
        }
    };
    match check {
        Check::Not(inner) => constant(policy, inner, followed).map(|yes| !yes),
        Check::All(parts) => series(parts, false),
        Check::Any(parts) => series(parts, true),
        Check::Leaf(leaf) => match &leaf.test {
            Test::Always => Some(true),
            Test::Never => Some(false),
            Test::Literal(left, Format::Text(right)) => Some(left == right),
            // A rule that refers to many is followed along one way alone: no file makes this slow.
            Test::Rule { to: Some(to), .. } if followed < FOLLOWED => match &policy.get(*to)?.check {
                inner @ (Check::Leaf(_) | Check::Not(_)) => constant(policy, inner, followed + 1),
                inner if followed == 0 => constant(policy, inner, FOLLOWED),
                _ => None,
            },
            _ => None,
        },
    }
}
