//! What only all rules together show: names that nobody has, circles, and checks that say no to
//! everybody because of a slip.
//!
//! An error is what can never make sense; a warning is what may be meant, and decides as it stands.

use std::collections::HashSet;

use super::{
    DEFAULT, Policy, Rule,
    check::{Leaf, Seen, Test},
    eval::MAX_DEPTH,
    format::Format,
    kind::nearest,
    meaning, project_alone,
};
use crate::diagnostic::{Diagnostic, Place, SHOWN_MAX};

/// What the credentials of every caller have.
const CREDS: [&str; 4] = ["user_id", "project_id", "roles", "is_admin"];

/// What those of some callers have, as their authenticator sets it.
const MORE_CREDS: [&str; 13] = [
    "system",
    "system_scope",
    "domain_id",
    "user_domain_id",
    "project_domain_id",
    "user_name",
    "project_name",
    "token",
    "is_admin_project",
    "application_credential_id",
    "service_user_id",
    "service_project_id",
    "service_roles",
];

/// Returns `true` if credentials of a caller may have this attribute.
pub(crate) fn is_credential(name: &str) -> bool {
    CREDS.contains(&name) || MORE_CREDS.contains(&name)
}

/// What a rule refers to.
struct Edge<'a> {
    to: usize,
    /// How deep in the rule it stands.
    depth: usize,
    /// Whether it is evaluated whenever the rule is.
    always: bool,
    leaf: &'a Leaf,
}

/// Looks at all rules.
pub(super) fn lint(policy: &Policy) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut edges: Vec<Vec<Edge<'_>>> = Vec::with_capacity(policy.rules.len());
    for rule in &policy.rules {
        let mut out = Vec::new();
        rule.check.leaves(&mut |seen| {
            let Seen { leaf, depth, always, .. } = seen;
            if let Test::Rule { to: Some(to), .. } = leaf.test {
                out.push(Edge { to: to.index(), depth, always, leaf });
            }
            // What stands in no file was looked at by whoever wrote the code; but what it refers to may be gone.
            let own = rule.origin.place.is_some() || policy.settings.policy_defaults;
            let told = own.then(|| reference(policy, &seen, found.len())).flatten();
            let told = told.or_else(|| slip(leaf)).or_else(|| meaning::leaf(policy, rule, &seen));
            found.extend(told.map(|told| {
                let message = format!("rule `{}`: {}", rule.name, told.message);
                placed(Diagnostic { message, ..told }, rule, leaf)
            }));
        });
        edges.push(out);
    }
    nested(policy, &edges, &mut found);
    found.extend(meaning::rules(policy));
    found.extend(project_alone::check(policy));
    found
}

/// A problem of a check, where it stands; where no file has it, without a place.
pub(super) fn placed(told: Diagnostic, rule: &Rule, leaf: &Leaf) -> Diagnostic {
    let Some(name) = &rule.origin.place else { return told };
    // A rule that is nothing, `[]`, has no check of its own to show.
    let span = if leaf.span.is_empty() { name.span.clone() } else { leaf.span.clone() };
    told.at(Place { source: name.source.clone(), span })
}

/// A reference to a rule that is not there. `others`: problems that were found before.
fn reference(policy: &Policy, seen: &Seen<'_>, others: usize) -> Option<Diagnostic> {
    let Test::Rule { name, to } = &seen.leaf.test else { return None };
    if policy.defines(name) {
        return None;
    }
    let diagnostic = match to {
        None => {
            Diagnostic::error(format!("no rule is called `{name}`, and there is no `{DEFAULT}` to decide"))
        }
        Some(_) if seen.negated => Diagnostic::error(format!(
            "no rule is called `{name}`, and below `not` whomever `{DEFAULT}` denies would be let in"
        )),
        Some(_) => Diagnostic::warning(format!("no rule is called `{name}`, so `{DEFAULT}` decides")),
    };
    // Advice for what is not shown is not worth its time.
    let names = || policy.names.keys().map(|name| &**name);
    Some(match (others <= SHOWN_MAX).then(|| nearest(name, names())).flatten() {
        Some(near) => diagnostic.help(format!("did you mean `rule:{near}`?")),
        None => diagnostic,
    })
}

/// A check that decides, but hardly what was meant.
fn slip(leaf: &Leaf) -> Option<Diagnostic> {
    let (path, right) = match &leaf.test {
        Test::Creds(path, right) => (path, right),
        _ => return None,
    };
    let first = path.first().map_or("", |first| &**first);
    if MORE_CREDS.contains(&first) {
        return None;
    }
    if !CREDS.contains(&first) {
        let near = nearest(&first.to_lowercase(), ["role", "rule"].into_iter().chain(CREDS));
        let lower = first.to_lowercase();
        let same = ["role", "rule"].into_iter().chain(CREDS).find(|word| *word == lower);
        let near = same.or(near)?;
        let told =
            Diagnostic::warning(format!("`{first}` is looked for in the credentials, and no caller has it"));
        return Some(told.help(format!("did you mean `{near}`?")));
    }
    let Format::Text(right) = right else { return None };
    let truth =
        ["True", "False"].into_iter().find(|word| word.eq_ignore_ascii_case(right) && **word != **right);
    if let (Some(word), "is_admin") = (truth, first) {
        let told = Diagnostic::warning(format!("`{right}` is never true: values are compared as text"));
        return Some(told.help(format!("did you mean `is_admin:{word}`?")));
    }
    let quoted =
        right.len() >= 2 && ['\'', '"'].iter().any(|it| right.starts_with(*it) && right.ends_with(*it));
    quoted.then(|| {
        Diagnostic::warning(format!("{right} is compared with its quotes"))
            .help("the right side of a check is taken as it stands: leave the quotes out")
    })
}

/// Circles, and rules that are nested too deep to be decided.
fn nested(policy: &Policy, edges: &[Vec<Edge<'_>>], found: &mut Vec<Diagnostic>) {
    let name = |rule: usize| policy.rules.get(rule).map_or("", |rule| &*rule.name);
    let mut told = HashSet::new();
    let order = deepest_first(edges, |from, circle| {
        // Each circle is told once, however it was entered.
        let mut members = circle.to_vec();
        members.sort_unstable();
        if !told.insert(members) {
            return;
        }
        let closing = |from: usize, to: usize| edges[from].iter().filter(move |edge| edge.to == to);
        let pairs = || circle.iter().zip(circle.iter().cycle().skip(1));
        let endless = pairs().all(|(from, to)| closing(*from, *to).any(|edge| edge.always));
        let names: Vec<_> = circle.iter().chain(circle.first()).map(|rule| name(*rule)).collect();
        let names = names.join("` → `");
        let diagnostic = match endless {
            true => Diagnostic::error(format!("rules refer to each other in a circle: `{names}`")),
            false => Diagnostic::warning(format!(
                "rules refer to each other in a circle, which ends only where another check decides first: `{names}`"
            )),
        };
        let leaf = closing(from, circle[0]).next().map(|edge| edge.leaf);
        let closing = leaf.zip(policy.rules.get(from));
        found.extend(closing.map(|(leaf, rule)| placed(diagnostic, rule, leaf)));
    });
    let mut heights = vec![0usize; edges.len()];
    for rule in order {
        let deepest = edges[rule].iter().max_by_key(|edge| edge.depth + heights[edge.to]);
        let Some(edge) = deepest else { continue };
        heights[rule] = edge.depth + heights[edge.to];
        if heights[rule] >= MAX_DEPTH as usize && heights[edge.to] < MAX_DEPTH as usize {
            let message = format!(
                "rule `{}` refers to rules nested deeper than {MAX_DEPTH} levels, and cannot be decided",
                name(rule)
            );
            let own = policy.rules.get(rule);
            found.extend(own.map(|rule| placed(Diagnostic::error(message), rule, edge.leaf)));
        }
    }
}

/// Every rule after those it refers to; tells of circles, as (the rule that closes it, its members).
/// Walks without recursion: a file may chain ten thousand rules.
fn deepest_first(edges: &[Vec<Edge<'_>>], mut circle: impl FnMut(usize, &[usize])) -> Vec<usize> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; edges.len()];
    let mut order = Vec::with_capacity(edges.len());
    for start in 0..edges.len() {
        if states[start] != State::New {
            continue;
        }
        states[start] = State::Open;
        // The way from `start`: a rule, and the next of its edges.
        let mut way = vec![(start, 0)];
        while let Some((rule, next)) = way.last_mut() {
            let rule = *rule;
            let Some(edge) = edges[rule].get(*next) else {
                states[rule] = State::Done;
                order.push(rule);
                way.pop();
                continue;
            };
            *next += 1;
            match states[edge.to] {
                State::Done => {}
                State::New => {
                    states[edge.to] = State::Open;
                    way.push((edge.to, 0));
                }
                State::Open => {
                    let on_way: Vec<_> = way.iter().map(|(rule, _)| *rule).collect();
                    let from = on_way.iter().position(|rule| *rule == edge.to).unwrap_or(0);
                    circle(rule, &on_way[from..]);
                }
            }
        }
    }
    order
}
