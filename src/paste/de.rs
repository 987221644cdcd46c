//! Reads a [`Section`] into any type that `serde` can make, and reports **all** its mistakes, each at
//! the deepest place that has it.
//!
//! `serde` stops at the first mistake. So the part that is wrong is noted, taken out, and the rest
//! read again, at most [`READS_MAX`] times. Unknown keys of one table are found in one reading.

use std::fmt::Display;

use serde::de::{
    self, DeserializeOwned, Expected, IntoDeserializer, Unexpected, Visitor,
    value::{MapAccessDeserializer, StrDeserializer},
};

use super::{
    Section,
    value::{Kind, Setting, Table, Value, in_order},
};
use crate::diagnostic::{Diagnostic, Place, nearest, shortened, words};

/// Most readings of one section. Each takes time in proportion to its size, and finds one mistake, or all unknown
/// keys of a table.
const READS_MAX: usize = 200;

/// Reads the settings of a section. An error carries the further ones in [`Diagnostic::more`].
pub fn read<T: DeserializeOwned>(section: &Section) -> Result<T, Diagnostic> {
    let mut error = match T::deserialize(Root(&section.settings)) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut rest = section.settings.clone();
    // Fields that are missing because of another mistake: taken out, or written as another word.
    let mut excused: Vec<Vec<Step>> = Vec::new();
    let mut found: Vec<Diagnostic> = Vec::new();
    for reading in 1.. {
        let mut path = std::mem::take(&mut error.path);
        path.reverse();
        let gap = section.gaps.iter().find(|(key, _)| path.is_empty() && error.misses(key));
        if let Some((_, why)) = gap {
            found.push(why.clone());
        } else if !excused.iter().any(|it| error.is_excused(&path, it)) {
            if let (Some(meant), Some((_, table))) = (error.meant(), path.split_last()) {
                excused.push([table, &[Step::Key(meant.into())]].concat());
            }
            let others = error.others(&mut rest, &path);
            found.push(error.diagnostic(section));
            for other in others {
                if let (Some(meant), Some((_, table))) = (other.meant(), path.split_last()) {
                    excused.push([table, &[Step::Key(meant.into())]].concat());
                }
                found.push(other.diagnostic(section));
            }
        }
        if reading == READS_MAX {
            let text = format!("[{}] has more mistakes, which were not looked for", section.name);
            found.push(Diagnostic::error(text).at(section.place.clone()));
            break;
        }
        if path.is_empty() || !remove(&mut rest, &path) {
            break;
        }
        // What was inside of it is gone with it, and the next element of a list takes its place.
        excused.retain(|it| !it.starts_with(&path));
        excused.push(path);
        match T::deserialize(Root(&rest)) {
            Ok(_) => break,
            Err(next) => error = next,
        }
    }
    let mut found = found.into_iter();
    // There is a first one: nothing was excused before it.
    let first =
        found.next().unwrap_or_else(|| Diagnostic::error(format!("[{}] cannot be read", section.name)));
    Err(found.fold(first, Diagnostic::and))
}

/// One step down a value.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Takes out what `path` leads to; an element of a list leaves the others where they are.
fn remove(table: &mut Table, path: &[Step]) -> bool {
    match path {
        [Step::Key(key)] => table.remove(key).is_some(),
        [Step::Key(key), rest @ ..] => match table.get_mut(key) {
            Some(setting) => remove_in(&mut setting.value, rest),
            None => false,
        },
        _ => false,
    }
}

fn remove_in(value: &mut Value, path: &[Step]) -> bool {
    match (&mut value.kind, path) {
        (Kind::Table(table), path) => remove(table, path),
        (Kind::List(list), [Step::Index(at)]) if *at < list.len() => {
            list.remove(*at);
            true
        }
        (Kind::List(list), [Step::Index(at), rest @ ..]) => {
            list.get_mut(*at).is_some_and(|value| remove_in(value, rest))
        }
        _ => false,
    }
}

/// Returns the table that `path` leads to.
fn table_at<'a>(table: &'a mut Table, path: &[Step]) -> Option<&'a mut Table> {
    let Some((Step::Key(key), mut rest)) = path.split_first() else {
        return path.is_empty().then_some(table);
    };
    let mut value = &mut table.get_mut(key)?.value;
    loop {
        value = match (&mut value.kind, rest) {
            (Kind::Table(table), rest) => return table_at(table, rest),
            (Kind::List(list), [Step::Index(at), below @ ..]) => {
                rest = below;
                list.get_mut(*at)?
            }
            _ => return None,
        };
    }
}

/// What `serde` found, and where.
#[derive(Debug)]
struct Error {
    what: What,
    place: Option<Place>,
    /// From the inside out.
    path: Vec<Step>,
}

#[derive(Debug)]
enum What {
    Text(String),
    Unknown { what: &'static str, word: String, expected: &'static [&'static str] },
    Missing(&'static str),
    Wrong { found: String, found_kind: &'static str, expected: String },
}

impl Error {
    fn new(what: What) -> Self {
        Self { what, place: None, path: Vec::new() }
    }

    /// Whether it says that this field is missing.
    fn misses(&self, field: &str) -> bool {
        matches!(self.what, What::Missing(missing) if missing == field)
    }

    /// Whether it says, of the table at `path`, that the field at `excused` is missing.
    fn is_excused(&self, path: &[Step], excused: &[Step]) -> bool {
        match excused.split_last() {
            Some((Step::Key(field), table)) => table == path && self.misses(field),
            _ => false,
        }
    }

    /// Takes out the other keys of the table at `path` that are unknown as this one is.
    fn others(&self, rest: &mut Table, path: &[Step]) -> Vec<Self> {
        let What::Unknown { what: "field", expected, .. } = self.what else { return Vec::new() };
        let Some((Step::Key(own), above)) = path.split_last() else { return Vec::new() };
        let Some(table) = table_at(rest, above) else { return Vec::new() };
        let keys: Vec<String> = in_order(table).into_iter().map(|(key, _)| key.clone()).collect();
        let unknown = keys.into_iter().filter(|key| key != own && !expected.contains(&key.as_str()));
        let error = |word: String| {
            let place = table.remove(&word).map(|setting| setting.key);
            Self { what: What::Unknown { what: "field", word, expected }, place, path: Vec::new() }
        };
        unknown.map(error).collect()
    }

    /// The field that was meant by a word that is none.
    fn meant(&self) -> Option<&'static str> {
        match &self.what {
            What::Unknown { word, expected, .. } => nearest(word, expected.iter().copied()),
            _ => None,
        }
    }

    /// Came up through this step, out of this place.
    fn through(mut self, place: &Place, step: Option<Step>) -> Self {
        self.place.get_or_insert_with(|| place.clone());
        self.path.extend(step);
        self
    }

    /// Came out of this value.
    fn of(mut self, value: &Value) -> Self {
        if self.place.is_none()
            && value.hidden.is_some()
            && let What::Wrong { found, found_kind, .. } = &mut self.what
        {
            *found = (*found_kind).into();
        }
        self.through(&value.place, None)
    }

    fn diagnostic(self, section: &Section) -> Diagnostic {
        let place = self.place.unwrap_or_else(|| section.place.clone());
        let say = |text: String| {
            let name = if section.name.is_empty() { String::new() } else { format!("[{}] ", section.name) };
            Diagnostic::error(format!("{name}{text}")).at(place)
        };
        match self.what {
            What::Text(text) => say(text),
            What::Missing(field) => say(format!("missing field `{field}`")),
            What::Wrong { found, expected, .. } => say(format!("expected {expected}, found {found}")),
            What::Unknown { what, word, expected: [] } => {
                say(format!("unknown {what} `{}`, there are no settings here", shortened(&word)))
            }
            What::Unknown { what, word, expected } => {
                let near = nearest(&word, expected.iter().copied());
                let shown = shortened(&word);
                let said = say(format!("unknown {what} `{shown}`, expected {}", words(expected, "or")));
                match near {
                    Some(near) => said.help(format!("did you mean `{near}`?")),
                    None => said,
                }
            }
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.what)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(text: T) -> Self {
        Self::new(What::Text(text.to_string()))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::Unknown { what: "field", word: field.into(), expected })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(What::Unknown { what: "word", word: variant.into(), expected })
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let (found_kind, found) = people(found);
        Self::new(What::Wrong { found, found_kind, expected: wanted(&expected.to_string()) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }
}

/// What was found: its kind, and the whole of it.
fn people(found: Unexpected<'_>) -> (&'static str, String) {
    match found {
        Unexpected::Bool(is) => ("a boolean", format!("the boolean `{is}`")),
        Unexpected::Unsigned(number) => ("an integer", format!("`{number}`")),
        Unexpected::Signed(number) => ("an integer", format!("`{number}`")),
        Unexpected::Float(number) => ("a float", format!("`{number:?}`")),
        Unexpected::Str(text) => ("a string", format!("the string {:?}", shortened(text))),
        Unexpected::Seq => ("a list", "a list".into()),
        Unexpected::Map => ("a table", "a table".into()),
        other => ("something else", other.to_string()),
    }
}

/// The names of Rust's types in words.
fn wanted(expected: &str) -> String {
    let (nonzero, name) = match expected.strip_prefix("a nonzero ") {
        Some(name) => (true, name),
        None => (false, expected),
    };
    let largest = match name {
        "u8" => u64::from(u8::MAX),
        "u16" => u64::from(u16::MAX),
        "u32" => u64::from(u32::MAX),
        "u64" | "usize" => i64::MAX as u64,
        "i8" | "i16" | "i32" | "i64" => return "a whole number".into(),
        "f32" | "f64" => return "a number".into(),
        "a boolean" => return "true or false".into(),
        "a sequence" => return "a list".into(),
        "a map" => return "a table".into(),
        _ if name.starts_with("struct ") => return "a table".into(),
        _ => return expected.into(),
    };
    match (nonzero, largest == i64::MAX as u64) {
        (true, true) => "a whole number, 1 or more".into(),
        (false, true) => "a whole number, 0 or more".into(),
        (true, false) => format!("a whole number from 1 to {largest}"),
        (false, false) => format!("a whole number from 0 to {largest}"),
    }
}

/// The whole table.
struct Root<'a>(&'a Table);

impl<'de> de::Deserializer<'de> for Root<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries::new(self.0))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// One value.
struct One<'a>(&'a Value);

impl<'de> de::Deserializer<'de> for One<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.kind {
            Kind::Text(text) => visitor.visit_str(text),
            Kind::Integer(number) => visitor.visit_i64(*number),
            Kind::Float(number) => visitor.visit_f64(*number),
            Kind::Bool(is) => visitor.visit_bool(*is),
            Kind::Time(time) => visitor.visit_string(time.to_string()),
            Kind::List(list) => visitor.visit_seq(Elements { list, at: 0 }),
            Kind::Table(table) => visitor.visit_map(Entries::new(table)),
        }
        .map_err(|error| error.of(self.0))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.0.kind {
            Kind::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            Kind::Table(table) if table.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(Entries::new(table)))
            }
            _ => Err(de::Error::invalid_type(Unexpected::Other(self.0.kind_name()), &"a string")),
        }
        .map_err(|error: Error| error.of(self.0))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The entries of a table, in the order of the file.
struct Entries<'a> {
    entries: std::vec::IntoIter<(&'a String, &'a Setting)>,
    value: Option<(&'a String, &'a Setting)>,
}

impl<'a> Entries<'a> {
    fn new(table: &'a Table) -> Self {
        Self { entries: in_order(table).into_iter(), value: None }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: de::DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, setting)) = self.entries.next() else { return Ok(None) };
        self.value = Some((key, setting));
        let word: StrDeserializer<'_, Error> = key.as_str().into_deserializer();
        let step = || Some(Step::Key(key.clone()));
        seed.deserialize(word).map(Some).map_err(|error| error.through(&setting.key, step()))
    }

    fn next_value_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((key, setting)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        let step = || Some(Step::Key(key.clone()));
        seed.deserialize(One(&setting.value)).map_err(|error| error.through(&setting.value.place, step()))
    }
}

/// The elements of a list.
struct Elements<'a> {
    list: &'a [Value],
    at: usize,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<S: de::DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(value) = self.list.get(self.at) else { return Ok(None) };
        self.at += 1;
        let step = Step::Index(self.at - 1);
        seed.deserialize(One(value)).map(Some).map_err(|error| error.through(&value.place, Some(step)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.list.len() - self.at)
    }
}
