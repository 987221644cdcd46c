//! `api-paste.toml`: parse, inherit, interpolate, plan, diagnose.

mod section;

pub use section::Section;
