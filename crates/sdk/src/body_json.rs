//! JSON bodies: keys that stand twice, and serde's messages in the words of JSON.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// Keys of an object that are compared one by one; beyond that they are hashed.
const FEW: usize = 16;

/// Refuses JSON in which an object has a key twice, at any depth: two readers could take it for two
/// different things. Source: RFC 8259 §4, RFC 7493 §2.3.
pub fn unique_keys(body: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<Unique>(body).map(drop)
}

/// Any value, read and dropped.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Checks)
    }
}

struct Checks;

impl<'de> Visitor<'de> for Checks {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Unique, A::Error> {
        let (mut few, mut many) = (Vec::new(), HashSet::new());
        while let Some(Key(key)) = entries.next_key()? {
            let new = if few.len() < FEW { !few.contains(&key) } else { !many.contains(&key) };
            if !new {
                return Err(A::Error::custom(format_args!("the key `{key}` stands twice in one object")));
            }
            if few.len() < FEW {
                few.push(key);
                if few.len() == FEW {
                    many = few.iter().cloned().collect();
                }
            } else {
                many.insert(key);
            }
            entries.next_value::<Unique>()?;
        }
        Ok(Unique)
    }
}

/// A key, borrowed from the body unless it has escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Rewrites a message of serde: no position, which is one of an inner value, and no name of a Rust type.
pub fn plain(problem: &str) -> String {
    let problem = problem.rsplit_once(" at line ").map_or(problem, |(text, _)| text);
    // The value that the client sent stands before the last `expected`.
    let Some((found, expected)) = problem.rsplit_once(", expected ") else { return problem.to_owned() };
    let found = match found {
        "invalid type: map" => "invalid type: object",
        "invalid type: sequence" => "invalid type: array",
        "invalid type: unit value" => "invalid type: null",
        found => found,
    };
    let words = |range: std::ops::RangeInclusive<i128>| {
        format!("a whole number from {} to {}", range.start(), range.end())
    };
    let expected = match expected {
        "u8" => words(0..=u8::MAX.into()),
        "u16" => words(0..=u16::MAX.into()),
        "u32" => words(0..=u32::MAX.into()),
        "u64" | "usize" => words(0..=u64::MAX.into()),
        "i8" => words(i8::MIN.into()..=i8::MAX.into()),
        "i16" => words(i16::MIN.into()..=i16::MAX.into()),
        "i32" => words(i32::MIN.into()..=i32::MAX.into()),
        "i64" | "isize" => words(i64::MIN.into()..=i64::MAX.into()),
        "f32" | "f64" => "a number".to_owned(),
        "unit" => "null".to_owned(),
        "option" => "a value or null".to_owned(),
        "a map" => "an object".to_owned(),
        "a sequence" => "an array".to_owned(),
        "string or map" => "a string or an object".to_owned(),
        "variant identifier" => "one of its words".to_owned(),
        "field identifier" => "the name of a field".to_owned(),
        other if other.starts_with("enum ") => "one of its words".to_owned(),
        other if other.starts_with("tuple") || other.starts_with("newtype struct ") => "an array".to_owned(),
        other if other.starts_with("struct ") || other.starts_with("unit struct ") => "an object".to_owned(),
        other => other.to_owned(),
    };
    format!("{found}, expected {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_once_in_its_object() {
        let many: Vec<_> = (0..40).map(|at| format!("\"k{at}\": {at}")).collect();
        let many = many.join(",");
        let again = |key: &str| format!("{{{many}, \"{key}\": 0}}");
        let deep = format!("{}{{\"a\":1,\"a\":2}}{}", "[".repeat(99), "]".repeat(99));
        let cases = [
            (r#"{"job":{"command":["a"]},"job":{"command":["b"]}}"#.to_owned(), Some("job")),
            (r#"{"check":{"target":{"id":"a","id":"b"}}}"#.to_owned(), Some("id")),
            (r#"{"a":[{"b":null,"c":1.5,"b":true}]}"#.to_owned(), Some("b")),
            (r#"{"a":1,"\u0061":2}"#.to_owned(), Some("a")),
            (r#"{"":1,"":2}"#.to_owned(), Some("")),
            (deep, Some("a")),
            (again("k0"), Some("k0")),
            (again("k15"), Some("k15")),
            (again("k16"), Some("k16")),
            (again("k39"), Some("k39")),
            (again("k40"), None),
            (r#"{"a":{"a":{"a":-1}},"A":"a"}"#.to_owned(), None),
            (r#"[{"a":1},{"a":1}]"#.to_owned(), None),
            ("null".to_owned(), None),
        ];
        for (body, key) in cases {
            let found = unique_keys(body.as_bytes()).map_err(|error| error.to_string());
            match key {
                None => assert_eq!(found, Ok(()), "{body}"),
                Some(key) => {
                    let text = found.unwrap_err();
                    let expected = format!("the key `{key}` stands twice in one object at line 1");
                    assert!(text.starts_with(&expected), "{body}: {text}");
                }
            }
        }
        // Text that is not JSON is an error too.
        assert!(unique_keys(b"{").is_err() && unique_keys(b"{} x").is_err());
    }

    #[test]
    fn messages_speak_of_json_alone() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only its errors matter")]
        struct Create {
            number: Option<u32>,
            signed: Option<i64>,
            large: Option<u64>,
            list: Option<Vec<String>>,
            map: Option<std::collections::BTreeMap<String, String>>,
            word: Option<Word>,
            nothing: Option<crate::Nothing>,
            flag: Option<bool>,
        }
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            One,
            Two,
        }
        let cases = [
            ("null", "invalid type: null, expected an object"),
            ("5", "invalid type: integer `5`, expected an object"),
            (r#"", expected struct X""#, r#"invalid type: string ", expected struct X", expected an object"#),
            (r#"{"number":-1}"#, "invalid value: integer `-1`, expected a whole number from 0 to 4294967295"),
            (
                r#"{"number":1.5}"#,
                "invalid type: floating point `1.5`, expected a whole number from 0 to 4294967295",
            ),
            (
                r#"{"large":"x"}"#,
                "invalid type: string \"x\", expected a whole number from 0 to 18446744073709551615",
            ),
            (
                r#"{"signed":[]}"#,
                "invalid type: array, expected a whole number from -9223372036854775808 to 9223372036854775807",
            ),
            (r#"{"list":{}}"#, "invalid type: object, expected an array"),
            (r#"{"list":[1]}"#, "invalid type: integer `1`, expected a string"),
            (r#"{"map":[]}"#, "invalid type: array, expected an object"),
            (r#"{"word":"three"}"#, "unknown variant `three`, expected `one` or `two`"),
            (r#"{"word":5}"#, "expected value"),
            (r#"{"nothing":7}"#, "invalid type: integer `7`, expected an object"),
            (r#"{"flag":"yes"}"#, "invalid type: string \"yes\", expected a boolean"),
            (
                r#"{"x":1}"#,
                "unknown field `x`, expected one of `number`, `signed`, `large`, `list`, `map`, `word`, `nothing`, `flag`",
            ),
        ];
        for (body, expected) in cases {
            let error = serde_json::from_str::<Create>(body).unwrap_err().to_string();
            assert_eq!(plain(&error), expected, "{body}");
        }
        let _ = (Word::One, Word::Two);
    }
}
