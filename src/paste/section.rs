//! One section of `api-paste.toml`, its settings inherited and interpolated, that still knows
//! where each of them stands.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;

use crate::diagnostic::{Diagnostic, Place, Source};

/// A setting, and where it was made.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The value, after interpolation.
    pub value: toml::Value,
    /// The key's place.
    pub key: Place,
    /// The value's place.
    pub place: Place,
}

/// A section as a factory sees it: without `factory`, `use` and the like.
#[derive(Debug, Clone)]
pub struct Section {
    /// `filter.ratelimit`.
    pub name: String,
    /// Its header's place.
    pub place: Place,
    /// Its settings.
    pub settings: BTreeMap<String, Setting>,
}

impl Section {
    /// Reads the settings into a factory's own config; a mistake comes back with its place.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        let table: toml::Table =
            self.settings.iter().map(|(key, setting)| (key.clone(), setting.value.clone())).collect();
        T::deserialize(toml::Value::Table(table))
            .map_err(|error| Diagnostic::error(format!("[{}] {error}", self.name)).at(self.place.clone()))
    }

    /// A mistake in the value of one setting.
    pub fn wrong(&self, key: &str, message: impl std::fmt::Display) -> Diagnostic {
        let place = self.settings.get(key).map_or(&self.place, |setting| &setting.place);
        Diagnostic::error(format!("[{}] {message}", self.name)).at(place.clone())
    }

    /// A section from text, for the unit tests of factories: `rate = 5`.
    #[cfg(test)]
    pub fn from_text(name: &str, text: &str) -> Self {
        let source = Arc::new(Source { name: "test.toml".into(), text: text.into() });
        let place = Place { source, span: 0..0 };
        let table: toml::Table = text.parse().unwrap();
        let settings = table
            .into_iter()
            .map(|(key, value)| (key, Setting { value, key: place.clone(), place: place.clone() }))
            .collect();
        Self { name: name.into(), place, settings }
    }
}
