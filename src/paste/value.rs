//! A parsed value that knows its place, down to the last element of a list.
//!
//! `toml::Value` forgets places, and `toml`'s own spanned values borrow the text and know one file
//! only; an inherited section has settings of several files.

use std::{collections::BTreeMap, fmt, sync::Arc};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
    value::Datetime,
};

use crate::diagnostic::{Place, Source};

/// A table, by key.
pub type Table = BTreeMap<String, Setting>;

/// A key with its value.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key's place.
    pub key: Place,
    /// The value, which knows its own.
    pub value: Value,
}

/// A value and where it was written.
#[derive(Clone)]
pub struct Value {
    /// Where it was written. A value that an interpolation brought stands where it was asked for.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// What is shown in its place: the text as written, where a part of the value came from the
    /// environment and may be a secret, and stars where its key says that it is one.
    pub hidden: Option<Arc<str>>,
}

/// What a value is.
#[derive(Clone)]
pub enum Kind {
    /// Text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A date, a time, or both.
    Time(Datetime),
    /// A list.
    List(Vec<Value>),
    /// A table.
    Table(Table),
}

impl Value {
    /// From what `toml` has parsed. A whole number that no 64 bits hold becomes a float, so that
    /// whoever reads it as a whole number refuses it.
    pub fn new(source: &Arc<Source>, from: &Spanned<DeValue<'_>>) -> Self {
        let place = Place { source: source.clone(), span: from.span() };
        let kind = match from.get_ref() {
            DeValue::String(text) => Kind::Text(text.to_string()),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(parsed) => Kind::Integer(parsed),
                Err(_) => Kind::Float(number.as_str().parse().unwrap_or(f64::MAX)),
            },
            DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(is) => Kind::Bool(*is),
            DeValue::Datetime(time) => Kind::Time(*time),
            DeValue::Array(list) => Kind::List(list.iter().map(|it| Self::new(source, it)).collect()),
            DeValue::Table(inner) => Kind::Table(table(source, inner)),
        };
        Self { place, kind, hidden: None }
    }

    /// A value that stands in no file: a default.
    pub fn text(text: &str, place: &Place) -> Self {
        Self { place: place.clone(), kind: Kind::Text(text.into()), hidden: None }
    }

    /// The text, where it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, where it is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match &self.kind {
            Kind::List(list) => Some(list),
            _ => None,
        }
    }

    /// `a string`, `an integer`, …
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            Kind::Text(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a float",
            Kind::Bool(_) => "a boolean",
            Kind::Time(_) => "a date",
            Kind::List(_) => "a list",
            Kind::Table(_) => "a table",
        }
    }

    /// As JSON, for people: what came from the environment is shown as it was written.
    pub fn to_json(&self) -> serde_json::Value {
        if let Some(raw) = &self.hidden {
            return (&**raw).into();
        }
        match &self.kind {
            Kind::Text(text) => text.as_str().into(),
            Kind::Integer(number) => (*number).into(),
            Kind::Float(number) => (*number).into(),
            Kind::Bool(is) => (*is).into(),
            Kind::Time(time) => time.to_string().into(),
            Kind::List(list) => list.iter().map(Self::to_json).collect(),
            Kind::Table(table) => table.iter().map(|(key, it)| (key.clone(), it.value.to_json())).collect(),
        }
    }
}

/// As one would write it in a file; what came from the environment as it was written there.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(raw) = &self.hidden {
            return write!(f, "{raw:?}");
        }
        let separator = |i: usize| if i == 0 { "" } else { ", " };
        match &self.kind {
            Kind::Text(text) => write!(f, "{text:?}"),
            Kind::Integer(number) => write!(f, "{number}"),
            Kind::Float(number) => write!(f, "{number:?}"),
            Kind::Bool(is) => write!(f, "{is}"),
            Kind::Time(time) => write!(f, "{time}"),
            Kind::List(list) => {
                f.write_str("[")?;
                for (i, value) in list.iter().enumerate() {
                    write!(f, "{}{value}", separator(i))?;
                }
                f.write_str("]")
            }
            Kind::Table(table) => {
                f.write_str("{ ")?;
                for (i, (key, setting)) in in_order(table).into_iter().enumerate() {
                    write!(f, "{}{key} = {}", separator(i), setting.value)?;
                }
                f.write_str(" }")
            }
        }
    }
}

// As it is shown: a derived one would print what is hidden.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A table from what `toml` has parsed.
pub fn table(source: &Arc<Source>, from: &DeTable<'_>) -> Table {
    let setting = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let place = Place { source: source.clone(), span: key.span() };
        let word: &str = AsRef::as_ref(key.get_ref());
        let mut value = Value::new(source, value);
        if is_secret(word) {
            // What asks for a secret of another place may be seen; not so what it gets.
            let asks = value.as_text().filter(|text| text.starts_with("${") && text.ends_with('}'));
            value.hidden = Some(asks.unwrap_or("***").into());
        }
        (word.to_owned(), Setting { key: place, value })
    };
    from.iter().map(setting).collect()
}

/// Whether a key says that its value is to be shown to nobody.
fn is_secret(key: &str) -> bool {
    key.ends_with("password") || key.ends_with("secret")
}

/// The settings in the order in which they were written.
pub fn in_order(table: &Table) -> Vec<(&String, &Setting)> {
    let mut settings: Vec<_> = table.iter().collect();
    settings.sort_by_key(|(_, setting)| setting.key.span.start);
    settings
}
