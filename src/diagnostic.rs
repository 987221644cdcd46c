//! A mistake in a file, with its place, as a compiler would show it.

use std::{ops::Range, sync::Arc};

/// A file that was read, or text that stands for one.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// As people named it.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A place in a file: bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The bytes meant.
    pub span: Range<usize>,
}

/// One problem. All problems of all files are collected before anything is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the program goes on in spite of it.
    pub warning: bool,
    /// What is wrong: `[filter.limit] unknown field …`.
    pub message: String,
    /// Where; `None` where no file is at fault.
    pub place: Option<Place>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(message: impl Into<String>) -> Self {
        Self { warning: false, message: message.into(), place: None, help: None }
    }

    /// A warning.
    pub fn warning(message: impl Into<String>) -> Self {
        Self { warning: true, ..Self::error(message) }
    }

    /// At this place.
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// With this advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
