//! `trace`.

use pileus_sdk::Filter;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind =
    FilterKind { name: "trace", needs: &[], gives: &[], authenticates: false, factory };

/// Refused until it can do its work: a filter that does nothing must not look like one that guards.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    Err(section.wrong("factory", "this filter is not there yet"))
}
