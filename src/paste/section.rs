//! One section of a file, its settings inherited and interpolated, that still knows where each of
//! them stands.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{
    de,
    value::{Kind, Table, Value},
};
use crate::diagnostic::{Diagnostic, Place};

/// A section as a factory sees it: without `factory`, `use` and the like.
#[derive(Debug, Clone)]
pub struct Section {
    /// `filter.ratelimit`.
    pub name: String,
    /// Its header's place; of what stands in no file, the place that names it.
    pub place: Place,
    /// Its settings.
    pub settings: Table,
    /// Settings that are left out because something is wrong with them by themselves, and what.
    pub gaps: BTreeMap<String, Diagnostic>,
}

impl Section {
    /// What has no section in any file: compiled-in code with its defaults, named at `place`.
    pub fn bare(name: &str, place: &Place) -> Self {
        Self { name: name.into(), place: place.clone(), settings: Table::new(), gaps: BTreeMap::new() }
    }

    /// Reads the settings into a factory's own config. Every mistake comes back with its place:
    /// the first one, the others in its [`Diagnostic::more`].
    ///
    /// Give the config `#[serde(deny_unknown_fields)]`, and units in the names of its fields.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Diagnostic> {
        de::read(self)
    }

    /// A mistake in the value of a setting; `limits.0.regex` leads into lists and tables. Stands
    /// at the deepest value that is there, or else at the header.
    pub fn wrong(&self, key: &str, message: impl std::fmt::Display) -> Diagnostic {
        let place = self.value(key).map_or(&self.place, |value| &value.place);
        Diagnostic::error(format!("[{}] {message}", self.name)).at(place.clone())
    }

    /// The text of a setting. `None`: it is missing, or no text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key)?.value.as_text()
    }

    /// The elements of a setting that is a list; none where it is missing, or no list.
    pub fn list(&self, key: &str) -> &[Value] {
        self.settings.get(key).and_then(|it| it.value.as_list()).unwrap_or_default()
    }

    /// A path that a setting names, as seen from the file that says it.
    pub fn beside(&self, key: &str, path: &Path) -> PathBuf {
        let said = self.settings.get(key).map_or(&self.place, |it| &it.value.place);
        Path::new(&said.source.name).parent().unwrap_or(Path::new("")).join(path)
    }

    /// The value that `key` leads to, or the last one on the way.
    fn value(&self, key: &str) -> Option<&Value> {
        if let Some(setting) = self.settings.get(key) {
            return Some(&setting.value);
        }
        let mut steps = key.split('.');
        let mut value = &self.settings.get(steps.next()?)?.value;
        for step in steps {
            let inner = match &value.kind {
                Kind::Table(table) => table.get(step).map(|setting| &setting.value),
                Kind::List(list) => step.parse::<usize>().ok().and_then(|at| list.get(at)),
                _ => None,
            };
            let Some(inner) = inner else { break };
            value = inner;
        }
        Some(value)
    }

    /// A section from text, for the unit tests of factories: `rate = 5`.
    #[cfg(test)]
    pub fn from_text(name: &str, text: &str) -> Self {
        use std::sync::Arc;
        let source = Arc::new(crate::diagnostic::Source { name: "test.toml".into(), text: text.into() });
        let parsed = toml::de::DeTable::parse(&source.text).unwrap();
        let settings = super::value::table(&source, parsed.get_ref());
        Self { settings, ..Self::bare(name, &Place { source: source.clone(), span: 0..0 }) }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use serde::Deserialize;

    use super::*;
    use crate::diagnostic::Report;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        rate: NonZeroU32,
        #[serde(default)]
        burst: Option<u64>,
        #[serde(default)]
        unit: Unit,
        #[serde(default)]
        limits: Vec<Limit>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        verb: String,
        value: u32,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(rename_all = "snake_case")]
    enum Unit {
        #[default]
        Second,
        Minute,
    }

    #[test]
    fn a_config_is_read() {
        let text = "rate = 5\nunit = \"minute\"\nlimits = [{ verb = \"GET\", value = 3 }]";
        let config: Config = Section::from_text("filter.x", text).parse().unwrap();
        let limits = vec![Limit { verb: "GET".into(), value: 3 }];
        let expected = Config { rate: NonZeroU32::new(5).unwrap(), burst: None, unit: Unit::Minute, limits };
        assert_eq!(config, expected);
    }

    #[test]
    fn every_mistake_is_found_at_its_place() {
        let text = "\
rate = 0
brust = 5
unit = \"minut\"
limits = [{ verb = 1, value = -1 }, { value = 3 }, { verb = \"x\", value = 1, vlaue = 2 }, 7]
";
        let mut report = Report::default();
        report.take(Section::from_text("filter.x", text).parse::<Config>());
        let found: Vec<String> = report
            .sorted()
            .into_iter()
            .map(|it| {
                let place = it.place.as_ref().unwrap();
                let help = it.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
                format!("{} {:?}: {}{help}", place.line(), &text[place.span.clone()], it.message)
            })
            .collect();
        let expected = [
            "1 \"0\": [filter.x] expected a whole number from 1 to 4294967295, found `0`",
            "2 \"brust\": [filter.x] unknown field `brust`, expected `rate`, `burst`, `unit` or `limits` (did you mean `burst`?)",
            "3 \"\\\"minut\\\"\": [filter.x] unknown word `minut`, expected `second` or `minute` (did you mean `minute`?)",
            "4 \"1\": [filter.x] expected a string, found `1`",
            "4 \"-1\": [filter.x] expected a whole number from 0 to 4294967295, found `-1`",
            "4 \"{ value = 3 }\": [filter.x] missing field `verb`",
            "4 \"vlaue\": [filter.x] unknown field `vlaue`, expected `verb` or `value` (did you mean `value`?)",
            "4 \"7\": [filter.x] expected a table, found `7`",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn very_many_mistakes_take_no_more_than_their_number() {
        let keys: String = (0..20_000).map(|at| format!("unknown_{at} = 1\n")).collect();
        let elements = format!("rate = 1\nlimits = [{}]", "7, ".repeat(20_000));
        let inner = format!(
            "rate = 1\nlimits = [{{ verb = \"GET\", value = 1, {} }}]",
            keys.trim_end().replace('\n', ", ")
        );
        let cases = [(format!("rate = 1\n{keys}"), 20_000), (inner, 20_000), (elements, 201)];
        for (text, count) in cases {
            let mut report = Report::default();
            report.take(Section::from_text("filter.x", &text).parse::<Config>());
            assert_eq!(report.errors(), count);
        }
    }

    #[test]
    fn a_factory_points_into_its_settings() {
        let section = Section::from_text("filter.x", "limits = [{ regex = \"(\" }]");
        let cases =
            [("limits.0.regex", 20..23), ("limits.0.verb", 10..25), ("limits", 9..26), ("rate", 0..0)];
        for (key, span) in cases {
            let place = section.wrong(key, "x").place.unwrap();
            assert_eq!(place.span, span, "{key}");
        }
    }
}
