//! What became of an option.

use serde_json::{Value, json};

use crate::diagnostic::{Diagnostic, Place, Report};

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stands in our file, and means the same.
    Carried,
    /// It stands in our file, and means something else, or not quite the same.
    Differs,
    /// Left out: it has no meaning any more.
    Gone,
    /// Left out: what it speaks of is not there yet.
    NotYet,
    /// Left out: nobody knows it, there as here.
    Unknown,
    /// Nothing in the old file says so: it was put in.
    Added,
}

impl Fate {
    /// As `--json` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Carried => "carried",
            Self::Differs => "differs",
            Self::Gone => "gone",
            Self::NotYet => "not_yet",
            Self::Unknown => "unknown",
            Self::Added => "added",
        }
    }

    /// Whether a person should look at it.
    fn matters(self) -> bool {
        !matches!(self, Self::Carried | Self::Added)
    }
}

/// What became of an option, and why.
#[derive(Debug, Clone)]
pub struct Note {
    /// Where it stands; `None` for what stands nowhere.
    pub place: Option<Place>,
    /// What it is: ``[global] `max_keepalive` ``.
    pub what: String,
    /// What became of it.
    pub fate: Fate,
    /// Where it went, or why it did not.
    pub text: String,
    /// What to do about it.
    pub help: Option<String>,
    /// `true` if the note of its section tells of it: shown to scripts, and counted.
    within: bool,
}

/// All notes of one run.
#[derive(Debug, Default)]
pub struct Notes {
    all: Vec<Note>,
    /// Of files that are read differently there, and of what was made.
    more: Vec<Diagnostic>,
}

impl Notes {
    /// Takes one.
    pub fn add(&mut self, place: &Place, what: impl Into<String>, fate: Fate, text: impl Into<String>) {
        self.push(Some(place.clone()), what.into(), fate, text.into(), None);
    }

    /// Takes one with advice.
    pub fn add_help(
        &mut self,
        place: &Place,
        what: impl Into<String>,
        fate: Fate,
        text: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Some(place.clone()), what.into(), fate, text.into(), Some(help.into()));
    }

    /// Takes a note of an option that the note of its section names.
    pub fn add_within(&mut self, place: &Place, what: String, fate: Fate, text: impl Into<String>) {
        let (place, text) = (Some(place.clone()), text.into());
        self.all.push(Note { place, what, fate, text, help: None, within: true });
    }

    fn push(&mut self, place: Option<Place>, what: String, fate: Fate, text: String, help: Option<String>) {
        self.all.push(Note { place, what, fate, text, help, within: false });
    }

    /// Takes a warning of a reader.
    pub fn warning(&mut self, warning: &Diagnostic) {
        self.more.push(warning.clone());
    }

    /// Takes what our own readers say of what was made.
    pub fn remains(&mut self, problem: Diagnostic) {
        self.more.push(problem);
    }

    /// Number of notes.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Drops all notes behind the first `count`.
    pub fn truncate(&mut self, count: usize) {
        self.all.truncate(count);
    }

    /// Every note.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.all.iter()
    }

    /// Whether everything was carried over, and means the same.
    pub fn clean(&self) -> bool {
        self.more.is_empty() && !self.all.iter().any(|note| note.fate.matters())
    }

    /// `12 carried over, 1 of them with a difference; 3 left out`.
    pub fn summary(&self) -> String {
        let count = |fates: &[Fate]| self.all.iter().filter(|note| fates.contains(&note.fate)).count();
        let carried = count(&[Fate::Carried, Fate::Differs]);
        let left = count(&[Fate::Gone, Fate::NotYet, Fate::Unknown]);
        let differs = count(&[Fate::Differs]);
        let differs = match differs {
            0 => String::new(),
            1 => ", 1 of them with a difference".to_owned(),
            _ => format!(", {differs} of them with a difference"),
        };
        format!("{carried} carried over{differs}; {left} left out")
    }

    /// What a person should read, like a compiler says it.
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        for note in self.all.iter().filter(|note| note.fate.matters() && !note.within) {
            let Note { what, text, .. } = note;
            let text = match note.fate {
                Fate::Differs => format!("{what} is carried over, with a difference: {text}"),
                Fate::NotYet => format!("{what} is left out for now: {text}"),
                _ => format!("{what} is left out: {text}"),
            };
            let told = Diagnostic::warning(text);
            let told = note.place.iter().cloned().fold(told, Diagnostic::at);
            report.push(note.help.iter().fold(told, |told, help| told.help(help)));
        }
        report.extend(self.more.iter().cloned());
        report
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        let note = |note: &Note| {
            let file = note.place.as_ref().map(|it| it.source.name.clone());
            let line = note.place.as_ref().map(Place::line);
            json!({
                "file": file, "line": line, "what": note.what, "fate": note.fate.as_str(),
                "text": note.text, "help": note.help,
            })
        };
        let more = |it: &Diagnostic| {
            let file = it.place.as_ref().map(|it| it.source.name.clone());
            let line = it.place.as_ref().map(Place::line);
            json!({ "file": file, "line": line, "what": null, "fate": "warning", "text": it.message, "help": it.help })
        };
        self.all.iter().map(note).chain(self.more.iter().map(more)).collect()
    }
}
