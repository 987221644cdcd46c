//! The header `Range` (RFC 9110, §14.2): one range of bytes.
//!
//! Anything that is no such range is ignored, as the RFC allows: several ranges, another unit, a condition by `If-Range`
//! (nothing here has a validator).

use pileus_sdk::header::{self, HeaderMap};

/// Range of a representation that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// Bytes `start..end`; never empty.
    Part { start: u64, end: u64 },
    /// None of its bytes exists.
    Unsatisfiable,
}

/// Range that the headers want of `length` bytes; `None`: all of them.
pub fn of(headers: &HeaderMap, length: u64) -> Option<ByteRange> {
    if headers.contains_key(header::IF_RANGE) {
        return None;
    }
    let mut values = headers.get_all(header::RANGE).iter();
    let (value, more) = (values.next()?.to_str().ok()?, values.next());
    let (unit, range) = value.split_once('=')?;
    if more.is_some() || !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    let (start, end) = match (number(first)?, number(last)?) {
        (None, None) => return None,
        (None, Some(0)) => return Some(ByteRange::Unsatisfiable),
        (None, Some(suffix)) => (length.saturating_sub(suffix), length),
        (Some(start), None) => (start, length),
        (Some(start), Some(last)) if last < start => return None,
        (Some(start), Some(last)) => (start, last.saturating_add(1).min(length)),
    };
    Some(if start < length { ByteRange::Part { start, end } } else { ByteRange::Unsatisfiable })
}

/// A position, or its absence. `None`: neither. One beyond 64 bits is the largest.
fn number(text: &str) -> Option<Option<u64>> {
    match text.trim() {
        "" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Some(digits.parse().unwrap_or(u64::MAX)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_understood_and_all_else_ignored() {
        let part = |start, end| Some(ByteRange::Part { start, end });
        let none = Some(ByteRange::Unsatisfiable);
        let cases = [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-4", part(2, 5)),
            ("Bytes = 2 - 4", part(2, 5)),
            ("bytes=2-", part(2, 10)),
            ("bytes=2-999", part(2, 10)),
            ("bytes=2-99999999999999999999999", part(2, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-99", part(0, 10)),
            ("bytes=9-9", part(9, 10)),
            ("bytes=10-", none),
            ("bytes=99999999999999999999999-", none),
            ("bytes=-0", none),
            ("bytes=4-2", None),
            ("bytes=-", None),
            ("bytes=a-b", None),
            ("bytes=+1-2", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes", None),
            ("", None),
        ];
        for (text, wanted) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, text.parse().unwrap());
            assert_eq!(of(&headers, 10), wanted, "{text}");
            headers.insert(header::IF_RANGE, "\"tag\"".parse().unwrap());
            assert_eq!(of(&headers, 10), None, "{text}, on a condition");
        }
        let mut headers = HeaderMap::new();
        assert_eq!(of(&headers, 10), None);
        headers.insert(header::RANGE, "bytes=0-".parse().unwrap());
        assert_eq!(of(&headers, 0), none, "of nothing");
        headers.append(header::RANGE, "bytes=0-".parse().unwrap());
        assert_eq!(of(&headers, 10), None, "twice");
    }
}
