//! Fields of a `multipart/form-data` body that is whole in memory.
//!
//! `multer`, the usual library, reads a stream and brings an async stack for it; here all bytes are
//! there, and at most `sizelimit` of them. What does not keep to the form has no fields, as a body of
//! another type has none. Source: RFC 7578, RFC 2046 §5.1.

/// Longest boundary, in bytes (RFC 2046 §5.1.1).
const BOUNDARY_MAX: usize = 70;

/// The fields in the order of the body; a file is a field with its content. Not valid UTF-8 is
/// replaced, as in urlencoded forms.
pub fn multipart(content_type: &str, body: &[u8]) -> Vec<(String, String)> {
    let boundary = parameter(content_type, "boundary").unwrap_or_default();
    if boundary.is_empty() || boundary.len() > BOUNDARY_MAX {
        return Vec::new();
    }
    fields(&format!("--{boundary}"), body).unwrap_or_default()
}

fn fields(delimiter: &str, body: &[u8]) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    let inner = format!("\r\n{delimiter}");
    let mut rest = match body.strip_prefix(delimiter.as_bytes()) {
        Some(rest) => rest,
        // What stands before the first delimiter is for readers that know no multipart.
        None => split(body, inner.as_bytes())?.1,
    };
    loop {
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        // Blanks after a delimiter are padding.
        let (padding, after) = split(rest, b"\r\n")?;
        if !padding.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return None;
        }
        // A part without a header begins with the empty line.
        let (head, after) = match after.strip_prefix(b"\r\n") {
            Some(after) => (&[][..], after),
            None => split(after, b"\r\n\r\n")?,
        };
        let (content, after) = split(after, inner.as_bytes())?;
        if let Some(name) = name(head) {
            fields.push((name, String::from_utf8_lossy(content).into_owned()));
        }
        rest = after;
    }
}

/// What a part's header calls it.
fn name(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    head.split("\r\n").find_map(|line| {
        let (header, value) = line.split_once(':')?;
        let kind = value.split(';').next()?.trim();
        let is = header.trim().eq_ignore_ascii_case("content-disposition");
        (is && kind.eq_ignore_ascii_case("form-data")).then(|| parameter(value, "name"))?
    })
}

/// The parameter of this name in `kind; name=value; name="quoted"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header.split_once(';')?.1;
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let mut value = String::new();
        let end = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next()? {
                        (at, '"') => break at + 2,
                        (_, '\\') => value.push(chars.next()?.1),
                        (_, c) => value.push(c),
                    }
                };
                after.get(end..)?
            }
            None => {
                let (token, _) = after.split_once(';').unwrap_or((after, ""));
                value.push_str(token.trim());
                &after[token.len()..]
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = end.trim_start().strip_prefix(';')?;
    }
}

/// What stands before and after the first `mark`.
fn split<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=XX";

    #[test]
    fn fields_are_found() {
        let one = "--XX\r\nContent-Disposition: form-data; name=\"action\"\r\n\r\nshutdown\r\n--XX--\r\n";
        type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, &'a str)]);
        let cases: &[Case<'_>] = &[
            ("one field", TYPE, one, &[("action", "shutdown")]),
            (
                "a quoted boundary",
                "multipart/form-data; charset=utf-8; boundary=\"XX\"",
                one,
                &[("action", "shutdown")],
            ),
            ("an upper-case parameter", "multipart/form-data;BOUNDARY=XX", one, &[("action", "shutdown")]),
            (
                "two fields, a preamble, an epilogue, padding",
                TYPE,
                "hello\r\n--XX \r\ncontent-disposition:form-data;name=a\r\n\r\n1\r\n2\r\n--XX\r\nX-Y: z\r\nContent-Disposition: form-data; filename=\"f;\\\"g\"; name=\"b c\"\r\nContent-Type: text/plain\r\n\r\n\r\n--XX--bye",
                &[("a", "1\r\n2"), ("b c", "")],
            ),
            ("a part without a name", TYPE, "--XX\r\n\r\nx\r\n--XX--", &[]),
            ("no field", TYPE, "--XX--", &[]),
            ("another boundary", "multipart/form-data; boundary=YY", one, &[]),
            ("no boundary", "multipart/form-data", one, &[]),
            ("an empty boundary", "multipart/form-data; boundary=", one, &[]),
            ("no end", TYPE, "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx", &[]),
            ("no empty line", TYPE, "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n--XX--", &[]),
            (
                "a longer boundary",
                TYPE,
                "--XXY\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--XX--",
                &[],
            ),
            ("an endless quote", "multipart/form-data; boundary=\"XX", one, &[]),
            (
                "an attachment",
                TYPE,
                "--XX\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n--XX--",
                &[],
            ),
            ("nothing", TYPE, "", &[]),
        ];
        for (what, content_type, body, expected) in cases {
            let fields = multipart(content_type, body.as_bytes());
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(fields, *expected, "{what}");
        }
        let bytes = [
            &b"--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n"[..],
            &[0xff, b'\r'],
            b"\r\n--XX--",
        ];
        assert_eq!(multipart(TYPE, &bytes.concat()), [("a".to_owned(), "\u{fffd}\r".to_owned())]);
    }
}
