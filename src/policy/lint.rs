//! What only all rules together show: names that nobody has, circles, and checks that say no to
//! everybody because of a slip.
//!
//! An error is what can never make sense; a warning is what may be meant, and decides as it stands.

use std::{collections::HashSet, sync::Arc};

use super::{
    DEFAULT, Policy, RuleId,
    check::{Leaf, Test},
    eval::MAX_DEPTH,
    format::Format,
    kind::nearest,
};
use crate::diagnostic::{Diagnostic, Place, Source};

/// What the credentials of every caller have.
const CREDS: [&str; 4] = ["user_id", "project_id", "roles", "is_admin"];

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
pub(super) fn lint(policy: &Policy, source: &Arc<Source>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut edges: Vec<Vec<Edge<'_>>> = Vec::with_capacity(policy.rules.len());
    for rule in &policy.rules {
        let mut out = Vec::new();
        rule.check.leaves(&mut |leaf, depth, always| {
            if let Test::Rule { to: Some(RuleId(to)), .. } = leaf.test {
                out.push(Edge { to: to as usize, depth, always, leaf });
            }
            let told = reference(policy, leaf).or_else(|| slip(leaf));
            found.extend(told.map(|told| {
                let message = format!("rule `{}`: {}", rule.name, told.message);
                Diagnostic { message, ..told }.at(place(source, leaf))
            }));
        });
        edges.push(out);
    }
    nested(policy, &edges, source, &mut found);
    found
}

fn place(source: &Arc<Source>, leaf: &Leaf) -> Place {
    Place { source: source.clone(), span: leaf.span.clone() }
}

/// A reference to a rule that is not there.
fn reference(policy: &Policy, leaf: &Leaf) -> Option<Diagnostic> {
    let Test::Rule { name, to } = &leaf.test else { return None };
    if policy.defines(name) {
        return None;
    }
    let diagnostic = match to {
        None => {
            Diagnostic::error(format!("no rule is called `{name}`, and there is no `{DEFAULT}` to decide"))
        }
        Some(_) => Diagnostic::warning(format!("no rule is called `{name}`, so `{DEFAULT}` decides")),
    };
    Some(match nearest(name, policy.names.keys().map(|name| &**name)) {
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
fn nested(policy: &Policy, edges: &[Vec<Edge<'_>>], source: &Arc<Source>, found: &mut Vec<Diagnostic>) {
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
        found.extend(leaf.map(|leaf| diagnostic.at(place(source, leaf))));
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
            found.push(Diagnostic::error(message).at(place(source, edge.leaf)));
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
