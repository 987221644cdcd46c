//! Normal form of a request's path: the one spelling that every stage, the router and the log see.
//!
//! A path is split at `/`, and each segment is decoded once. What a segment may not hold as it is stays
//! percent-encoded, in capitals: `/%63louds/a%2fb` becomes `/clouds/a%2Fb`. An encoded slash is data and separates
//! nothing. A segment that decodes to `.` or `..` and a percent sign without two digits are errors: what stands
//! before the server may have understood them in another way.
//!
//! Empty segments stay. [`collapsed`] drops them, as `urlmap` does in front of its keys.
//! Source: RFC 3986 §3.3, §6.2.2.

use std::{borrow::Cow, fmt::Write as _};

use http::{Uri, uri::PathAndQuery};

use crate::Fault;

/// A byte that is encoded in the normal form.
const ENCODED: u8 = 1;
/// A dot: with a slash before it, the segment may be `.` or `..`.
const DOT: u8 = 2;

/// Classes of bytes, 0 for those that stand for themselves: `pchar` and `/`.
static CLASSES: [u8; 256] = {
    let mut classes = [ENCODED; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        let of_pchar = matches!(
            it,
            b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        );
        if it.is_ascii_alphanumeric() || of_pchar || matches!(it, b':' | b'@' | b'/') {
            classes[byte] = 0;
        } else if it == b'.' {
            classes[byte] = DOT;
        }
        byte += 1;
    }
    classes
};

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(ENCODED)
}

/// Puts the target's path into its normal form. Nearly all paths have it: they cost one pass over their bytes.
pub fn normalize(uri: &mut Uri) -> Result<(), Fault> {
    if is_plain(uri.path()) { Ok(()) } else { rewrite(uri) }
}

/// `true` if the path is in its normal form by the look of its bytes alone. `false` means that it may be.
fn is_plain(path: &str) -> bool {
    match path.bytes().fold(0, |classes, byte| classes | class(byte)) {
        0 => true,
        DOT => !path.contains("/."),
        _ => false,
    }
}

#[cold]
fn rewrite(uri: &mut Uri) -> Result<(), Fault> {
    let Cow::Owned(path) = normal(uri.path())? else { return Ok(()) };
    replace_path(uri, &path)
}

/// Replaces the target's path and keeps the rest of it.
pub fn replace_path(uri: &mut Uri, path: &str) -> Result<(), Fault> {
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = std::mem::take(uri).into_parts();
    let wrong = |_| Fault::BadRequest("The path cannot be read.".into());
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(wrong)?);
    *uri = Uri::from_parts(parts).map_err(|_| Fault::BadRequest("The target cannot be read.".into()))?;
    Ok(())
}

/// The path in its normal form.
pub fn normal(path: &str) -> Result<Cow<'_, str>, Fault> {
    let mut written = String::with_capacity(path.len() + 16);
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            written.push('/');
        }
        let start = written.len();
        let mut bytes = segment.bytes();
        while let Some(byte) = bytes.next() {
            let byte = if byte == b'%' { escaped(&mut bytes).ok_or_else(broken_escape)? } else { byte };
            if byte == b'/' || class(byte) == ENCODED {
                // Writing into a string cannot fail.
                write!(written, "%{byte:02X}").ok();
            } else {
                written.push(byte.into());
            }
        }
        if matches!(written.get(start..), Some("." | "..")) {
            return Err(Fault::BadRequest("No segment of a path may be `.` or `..`.".into()));
        }
    }
    Ok(if written == path { Cow::Borrowed(path) } else { Cow::Owned(written) })
}

/// The byte that two hexadecimal digits stand for.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    let mut digit = || char::from(bytes.next()?).to_digit(16);
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

fn broken_escape() -> Fault {
    Fault::BadRequest("A percent sign in a path needs two hexadecimal digits behind it.".into())
}

/// The path with slashes that repeat as one.
pub fn collapsed(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut written = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !written.ends_with('/') {
            written.push(letter);
        }
    }
    Cow::Owned(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_has_one_normal_form() {
        const DOTS: &str = "No segment of a path may be `.` or `..`.";
        const BROKEN: &str = "A percent sign in a path needs two hexadecimal digits behind it.";
        let cases: &[(&str, Result<&str, &str>)] = &[
            ("/v2/default/clouds", Ok("/v2/default/clouds")),
            ("/v2/default/%63louds", Ok("/v2/default/clouds")),
            ("/v2/default/cloud%2Daliases", Ok("/v2/default/cloud-aliases")),
            ("/v2/default/cloud%2daliases", Ok("/v2/default/cloud-aliases")),
            ("/he%61lthcheck", Ok("/healthcheck")),
            ("/a%2Fb", Ok("/a%2Fb")),
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a%252Fb", Ok("/a%252Fb")), // decoded once
            ("/%25%32%35", Ok("/%2525")),
            ("/a%3Fb%23c%20d", Ok("/a%3Fb%23c%20d")),
            ("/a%3fb", Ok("/a%3Fb")),
            ("/%C3%BC", Ok("/%C3%BC")),
            ("/%c3%bc", Ok("/%C3%BC")),
            ("/ü", Ok("/%C3%BC")),
            ("/%FF", Ok("/%FF")), // no text: the router's business
            ("/%00%0a%7F", Ok("/%00%0A%7F")),
            ("/[a]^|", Ok("/%5Ba%5D%5E%7C")),
            ("/a%21%24%26%27%28%29%2A%2B%2C%3B%3D%3A%40", Ok("/a!$&'()*+,;=:@")),
            ("/a\\b", Ok("/a%5Cb")),
            ("//v2///p//", Ok("//v2///p//")),
            ("/", Ok("/")),
            ("*", Ok("*")),
            ("", Ok("")),
            ("/.hidden/a.json/...", Ok("/.hidden/a.json/...")),
            ("/a%2Ejson", Ok("/a.json")),
            ("/.", Err(DOTS)),
            ("/v2/../x", Err(DOTS)),
            ("/v2/..", Err(DOTS)),
            ("/v2/./x", Err(DOTS)),
            ("/%2e", Err(DOTS)),
            ("/%2E.", Err(DOTS)),
            ("/a/%2e%2E/b", Err(DOTS)),
            ("/..%2Fa", Ok("/..%2Fa")),
            ("/%", Err(BROKEN)),
            ("/%4", Err(BROKEN)),
            ("/%4/1", Err(BROKEN)),
            ("/%zz", Err(BROKEN)),
            ("/%+1", Err(BROKEN)),
        ];
        for (path, expected) in cases {
            let found = normal(path).map_err(|fault| fault.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), *expected, "{path}");
            let Ok(found) = &found else {
                assert!(!is_plain(path), "{path}");
                continue;
            };
            assert_eq!(normal(found).unwrap(), *found, "{path} has one normal form");
            if is_plain(path) {
                assert_eq!(found, path);
            }
            // As the target of a request, with a query, which stays as it is.
            let Ok(mut uri) = format!("http://h:1{path}?a=%63//..").parse::<Uri>() else { continue };
            if path.starts_with('/') {
                normalize(&mut uri).unwrap();
                assert_eq!(uri.to_string(), format!("http://h:1{found}?a=%63//.."));
            }
        }
    }

    #[test]
    fn slashes_that_repeat_are_one() {
        for (path, expected) in
            [("/a/b", "/a/b"), ("//", "/"), ("//a///b//", "/a/b/"), ("", ""), ("/ü//%2F/", "/ü/%2F/")]
        {
            assert_eq!(collapsed(path), expected, "{path}");
        }
    }
}
