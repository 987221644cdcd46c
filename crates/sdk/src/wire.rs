//! How times and links stand in JSON.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pileus_model::Time;
use serde::{
    Serialize, Serializer,
    ser::{SerializeSeq, SerializeStruct},
};

/// What a path segment may hold as it is. Source: RFC 3986 §2.3, *unreserved*.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A name of any characters as one path segment.
pub fn segment(name: &str) -> impl fmt::Display + '_ {
    // `.` and `..` would be taken as steps of the path.
    let dots = name == "." || name == "..";
    let set = if dots { NON_ALPHANUMERIC } else { SEGMENT };
    utf8_percent_encode(name, set)
}

/// A moment as RFC 3339 in UTC: `2026-01-31T12:00:00Z`, with a fraction where it has one.
/// One outside the years that RFC 3339 can write stands as the nearest that it can.
pub fn at<S: Serializer>(time: &Time, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&rfc3339(*time))
}

/// The same as a text.
pub fn rfc3339(time: Time) -> impl fmt::Display {
    jiff::Timestamp::from_millisecond(time.0).unwrap_or(jiff::Timestamp::MAX)
}

/// A moment as RFC 3339, or `null`.
pub fn at_opt<S: Serializer>(time: &Option<Time>, to: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => at(time, to),
        None => to.serialize_none(),
    }
}

/// Bytes in base64, for JSON that holds what is no text.
pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// `"links": [{"rel": "self", "href": "…/COLLECTION/ID"}]`, written without a copy.
#[derive(Debug, Clone, Copy)]
pub struct Links<'a> {
    /// The collection's URL, from [`Call::collection`](crate::Call::collection).
    pub collection: &'a str,
    /// The member's id, of any characters.
    pub id: &'a str,
}

impl Links<'_> {
    /// The member's URL.
    pub fn href(&self) -> String {
        format!("{}/{}", self.collection, segment(self.id))
    }
}

impl Serialize for Links<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        struct Link<'a>(&'a Links<'a>);
        impl Serialize for Link<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                let mut link = to.serialize_struct("Link", 2)?;
                link.serialize_field("rel", "self")?;
                link.serialize_field("href", &Href(self.0))?;
                link.end()
            }
        }
        struct Href<'a>(&'a Links<'a>);
        impl Serialize for Href<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(&format_args!("{}/{}", self.0.collection, segment(self.0.id)))
            }
        }
        let mut links = to.serialize_seq(Some(1))?;
        links.serialize_element(&Link(self))?;
        links.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_characters_is_one_segment() {
        let cases = [
            ("alpha", "alpha"),
            ("a b/c", "a%20b%2Fc"),
            ("e.org#0.0#1460000000", "e.org%230.0%231460000000"),
            ("100%", "100%25"),
            ("ü", "%C3%BC"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("...", "..."),
        ];
        for (name, expected) in cases {
            assert_eq!(segment(name).to_string(), expected);
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        #[derive(Serialize)]
        struct T(#[serde(serialize_with = "at_opt")] Option<Time>);
        let cases = [
            (Some(0), r#""1970-01-01T00:00:00Z""#),
            (Some(1_769_860_800_250), r#""2026-01-31T12:00:00.25Z""#),
            (Some(-1), r#""1969-12-31T23:59:59.999Z""#),
            (None, "null"),
        ];
        for (ms, expected) in cases {
            assert_eq!(serde_json::to_string(&T(ms.map(Time))).unwrap(), expected);
        }
        let never = serde_json::to_string(&T(Some(Time(i64::MAX)))).unwrap();
        assert!(never.starts_with("\"9999-12-"), "{never}");
    }
}
