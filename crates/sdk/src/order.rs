//! Order of a list: sort columns, their values, and positions between two items.
//!
//! The id ends every order, so that an order is total and a position stays valid when its item has gone.

use std::{borrow::Cow, cmp::Ordering};

use serde::{Deserialize, Serialize};

use crate::Fault;

/// Value of an item in a column. Absent values come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortValue<'a> {
    /// The item has no value.
    Absent,
    /// `false` comes first.
    Flag(bool),
    /// A number, or a time in milliseconds.
    Number(i64),
    /// A text, compared by its bytes.
    Text(Cow<'a, str>),
}

impl<'a> SortValue<'a> {
    /// Returns a text.
    pub fn text(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// Returns a number; one outside of `i64` becomes the nearest in it.
    pub fn number(number: impl TryInto<i64>) -> Self {
        Self::Number(number.try_into().unwrap_or(i64::MAX))
    }

    /// Returns the value of an optional text.
    pub fn text_or_absent(text: Option<&'a str>) -> Self {
        text.map_or(Self::Absent, Self::text)
    }

    /// Returns the value of an optional number.
    pub fn number_or_absent(number: Option<impl TryInto<i64>>) -> Self {
        number.map_or(Self::Absent, Self::number)
    }

    fn into_owned(self) -> SortValue<'static> {
        match self {
            Self::Absent => SortValue::Absent,
            Self::Flag(flag) => SortValue::Flag(flag),
            Self::Number(number) => SortValue::Number(number),
            Self::Text(text) => SortValue::Text(text.into_owned().into()),
        }
    }
}

/// Column by which a list can be sorted: a word of `sort_key` and the value of an item.
pub struct Column<T: ?Sized> {
    /// The word, which is the name of a member of the document.
    pub name: &'static str,
    value: fn(&T) -> SortValue<'_>,
    is_id: bool,
}

impl<T: ?Sized> Column<T> {
    /// Returns a column.
    pub const fn new(name: &'static str, value: fn(&T) -> SortValue<'_>) -> Self {
        Self { name, value, is_id: false }
    }

    /// Returns a column with the id, whatever its name is: the text that addresses the item.
    pub const fn id(name: &'static str, value: fn(&T) -> SortValue<'_>) -> Self {
        Self { name, value, is_id: true }
    }
}

impl<T: ?Sized> Clone for Column<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Column<T> {}

/// Order of a list: columns with their directions; the last one is the id.
pub(crate) struct Order<T: ?Sized>(Vec<(Column<T>, Direction)>);

/// Direction of a column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Smallest first.
    #[default]
    Ascending,
    /// Largest first.
    Descending,
}

impl Direction {
    /// Words of `sort_dir`.
    pub const WORDS: [&str; 2] = ["asc", "desc"];

    /// Parses a word of `sort_dir`, which was checked before.
    pub fn from_word(word: &str) -> Self {
        if word == "desc" { Self::Descending } else { Self::Ascending }
    }
}

/// Position in an order: the values of an item that is or was there.
pub(crate) type Position = Vec<SortValue<'static>>;

impl<T: ?Sized> Order<T> {
    /// Returns the order by these columns; `id` is appended unless it is one of them.
    pub fn new(mut columns: Vec<(Column<T>, Direction)>, id: Column<T>) -> Self {
        match columns.iter().position(|(column, _)| column.is_id) {
            // An id is unique: what would come behind it decides nothing.
            Some(at) => columns.truncate(at + 1),
            None => {
                let direction = columns.last().map(|(_, direction)| *direction).unwrap_or_default();
                columns.push((id, direction));
            }
        }
        Self(columns)
    }

    /// The direction, if the order is by the id alone. A position is an id then.
    pub fn by_id(&self) -> Option<Direction> {
        match self.0[..] {
            [(_, direction)] => Some(direction),
            _ => None,
        }
    }

    /// The values of an item.
    pub fn position(&self, item: &T) -> Position {
        self.0.iter().map(|(column, _)| (column.value)(item).into_owned()).collect()
    }

    /// Parses the JSON array that [`token`] writes. `None`: `text` is none of this order.
    pub fn parse(&self, text: &str) -> Option<Position> {
        let position: Position = serde_json::from_str(text).ok()?;
        let id_is_text = matches!(position.last(), Some(SortValue::Text(_)));
        (position.len() == self.0.len() && id_is_text).then_some(position)
    }

    /// `true` if the values of a position are of the same types as those of an item.
    pub fn fits(&self, position: &Position, item: &T) -> bool {
        let same = |own: &SortValue<'_>, other: &SortValue<'_>| {
            let absent = |value: &SortValue<'_>| matches!(value, SortValue::Absent);
            absent(own) || absent(other) || std::mem::discriminant(own) == std::mem::discriminant(other)
        };
        self.0.iter().zip(position).all(|((column, _), other)| same(&(column.value)(item), other))
    }

    /// Compares an item with a position.
    pub fn compare_to(&self, item: &T, position: &Position) -> Ordering {
        let pairs = self.0.iter().zip(position);
        first(pairs.map(|((column, direction), other)| turn((column.value)(item).cmp(other), *direction)))
    }

    /// Compares two items.
    pub fn compare(&self, one: &T, other: &T) -> Ordering {
        first(
            self.0
                .iter()
                .map(|(column, direction)| turn((column.value)(one).cmp(&(column.value)(other)), *direction)),
        )
    }
}

/// Writes a position as one line of JSON.
pub(crate) fn token(position: &Position) -> Result<String, Fault> {
    serde_json::to_string(position).map_err(Fault::internal)
}

fn turn(ordering: Ordering, direction: Direction) -> Ordering {
    match direction {
        Direction::Ascending => ordering,
        Direction::Descending => ordering.reverse(),
    }
}

fn first(mut orderings: impl Iterator<Item = Ordering>) -> Ordering {
    orderings.find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}
