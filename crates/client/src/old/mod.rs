//! The old ports: which steps an old command line means ([`status`], [`admin`]), and how they are done
//! ([`run`]).
//!
//! A plan is data, made without asking anybody, so that its test is a table.

pub mod admin;
pub mod refusal;
pub mod run;
pub mod status;

use http::Method;

use crate::{
    audit::Level,
    http::{Call, FORM, form},
};

/// One thing that a program does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Prints a line.
    Say(String),
    /// Prints a line that says what is lacking.
    Lacking(&'static str),
    /// Prints a line that says that this is not to be had.
    NotOffered(&'static str),
    /// Asks, and prints the body.
    Ask(Call),
    /// Asks about something by its name: the answer may say that there is none.
    AskOf(Call),
    /// Asks, and prints one of two lines: `True` is good. Each has a line for the audit log.
    Judge(Call, [&'static str; 2], [&'static str; 2]),
    /// Asks, and prints nothing.
    Tell(Call),
    /// Writes into the audit log.
    Log(Level, String),
}

/// `GET` of a path, with its query.
fn get(target: impl Into<String>) -> Call {
    Call { method: Method::GET, target: format!("/{}", target.into()), body: None }
}

/// A change, with a form.
fn send(method: Method, target: &str, pairs: &[(&str, &str)]) -> Call {
    let body = (!pairs.is_empty()).then(|| (FORM, form(pairs)));
    Call { method, target: format!("/{target}"), body }
}
