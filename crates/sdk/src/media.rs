//! In which form a client wants to read: what `Accept` and its like say. Source: RFC 9110 §12.
//!
//! What is unacceptable falls back to the default, as in Nova: an answer that nobody asked for says
//! more than a 406.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The form of what has no other: faults, lists of versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Media {
    /// What everything is written in.
    #[default]
    Json,
    /// Nova's older form.
    Xml,
}

const JSON: [&str; 2] = ["application/json", "application/vnd.openstack.compute+json"];
/// Rank of a range that is one media type.
const EXACT: u8 = 3;
const XML: [&str; 2] = ["application/xml", "application/vnd.openstack.compute+xml"];

impl Media {
    /// What a request asks for: the path's suffix decides, then `Accept`, then JSON; on a tie JSON, as
    /// in Nova. Nearly every request pays one look for a header that is not there or is `*/*`.
    pub fn wanted(path: &str, headers: &HeaderMap) -> Self {
        if path.ends_with(".xml") {
            return Self::Xml;
        }
        let mut said = headers.get_all(header::ACCEPT).iter();
        let Some(accept) = said.next() else { return Self::Json };
        if said.next().is_none() && Self::is_everybodys(accept) {
            return Self::Json;
        }
        if path.ends_with(".json") {
            return Self::Json;
        }
        if best(headers, &XML).0 > best(headers, &JSON).0 { Self::Xml } else { Self::Json }
    }

    /// `true` if a client prefers the media type `name` to JSON: it has the higher weight, or the same one
    /// by a more specific range. `false` where both are refused.
    pub fn prefers_to_json(headers: &HeaderMap, name: &str) -> bool {
        let (weight, rank) = best(headers, &[name]);
        weight > 0 && (weight, rank) > best(headers, &JSON)
    }

    /// Whether an `Accept` asks for nothing but what is sent unasked.
    pub fn is_everybodys(accept: &HeaderValue) -> bool {
        accept == "*/*" || accept == JSON[0]
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => JSON[0],
            Self::Xml => XML[0],
        }
    }
}

/// Weight of a form, and how specific the range is. Only its first name is what is sent: others count where
/// the client names them.
fn best(headers: &HeaderMap, names: &[&str]) -> (u16, u8) {
    let weighed = names.iter().enumerate().filter_map(|(at, name)| {
        let (rank, weight) = weigh(headers, &header::ACCEPT, name)?;
        (at == 0 || rank == EXACT).then_some((weight, rank))
    });
    weighed.max().unwrap_or_default()
}

/// How much a client wants `name`, in thousandths: the weight of the most specific member that holds
/// for it (`text/html`, then `text/*`, then `*/*` or `*`). `None` where none does.
pub fn quality(headers: &HeaderMap, list: &HeaderName, name: &str) -> Option<u16> {
    weigh(headers, list, name).map(|(_, weight)| weight)
}

/// How specific the member is that holds for `name`, 1 to 3, and its weight.
fn weigh(headers: &HeaderMap, list: &HeaderName, name: &str) -> Option<(u8, u16)> {
    let family = name.split_once('/').map(|(family, _)| family);
    let mut best: Option<(u8, u16)> = None;
    for member in headers.get_all(list).iter().filter_map(|it| it.to_str().ok()).flat_map(|it| it.split(','))
    {
        let mut parts = member.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let rank = match range.split_once('/') {
            _ if range.eq_ignore_ascii_case(name) => EXACT,
            Some((of, "*")) if family.is_some_and(|family| of.eq_ignore_ascii_case(family)) => 2,
            Some(("*", "*")) | None if matches!(range, "*" | "*/*") => 1,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = weight.map_or(1000, thousandths);
        if best.is_none_or(|(known, other)| (known, other) < (rank, weight)) {
            best = Some((rank, weight));
        }
    }
    best
}

/// `0.5` is 500. What is no weight is as good as 0: it was not asked for in earnest.
fn thousandths(text: &str) -> u16 {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = rest.len() <= 3 && rest.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, digits) {
        ("1", true) if rest.bytes().all(|byte| byte == b'0') => 1000,
        ("0", true) => format!("{rest:0<3}").parse().unwrap_or(0),
        _ => 0,
    }
}

/// Text within XML, as Python's `minidom` writes it; what no XML may hold stands as `\u{fffd}`.
pub fn xml_text(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => written.push_str("&amp;"),
            '<' => written.push_str("&lt;"),
            '>' => written.push_str("&gt;"),
            '"' => written.push_str("&quot;"),
            '\t' | '\n' | '\r' => written.push(letter),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => written.push('\u{fffd}'),
            letter => written.push(letter),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_weighed() {
        use Media::{Json, Xml};
        let vendor = "application/vnd.openstack.compute+xml;version=2";
        let cases: &[(&str, &[&str], Media)] = &[
            ("/a", &[], Json),
            ("/a", &["*/*"], Json),
            ("/a", &["application/xml"], Xml),
            ("/a", &["APPLICATION/XML"], Xml),
            ("/a", &[vendor], Xml),
            ("/a", &["application/json"], Json),
            ("/a", &["application/xml, application/json"], Json), // a tie
            ("/a", &["application/xml;q=0.9, application/json;q=0.8"], Xml),
            ("/a", &["application/xml; q=0.8, application/json; q=0.9"], Json),
            ("/a", &["application/xml;q=0.8", "application/json;q=0.7"], Xml),
            ("/a", &["application/xml, */*"], Json),
            ("/a", &["application/xml, */*;q=0.1"], Xml),
            ("/a", &["application/xml;q=0, */*"], Json),
            ("/a", &["application/xml;q=0"], Json),
            ("/a", &["application/xml;q=2"], Json), // no weight
            ("/a", &["application/xml;q=0.5, application/*;q=0.4"], Xml),
            ("/a", &["application/xml;q=0.3, application/*;q=0.4"], Json),
            ("/a", &["application/json;q=0"], Json),
            ("/a", &["application/json;q=0, */*"], Xml),
            ("/a", &["*/*, application/json;q=0.5"], Xml),
            ("/a", &["application/*;q=0.5"], Json),
            ("/a", &["application/atom+xml"], Json),
            ("/a", &["text/html,application/xml;q=0.9,*/*;q=0.8"], Xml),
            ("/a", &["image/png"], Json),
            ("/a", &[",;,xml,;q=,/"], Json),
            ("/a.xml", &["application/json"], Xml),
            ("/a.json", &["application/xml"], Json),
        ];
        for (path, accept, media) in cases {
            let mut headers = HeaderMap::new();
            for value in *accept {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            assert_eq!(Media::wanted(path, &headers), *media, "{path} {accept:?}");
        }
    }

    #[test]
    fn a_stream_is_weighed_against_json() {
        let stream = "text/event-stream";
        let cases: &[(&[&str], bool)] = &[
            (&[], false),
            (&["*/*"], false),
            (&[stream], true),
            (&["TEXT/Event-Stream; charset=utf-8"], true),
            (&["text/event-stream;q=0"], false),
            (&["text/event-stream;q=0, */*"], false),
            (&["text/event-stream;q=0", stream], true), // of two weights the higher
            (&["text/event-stream;q=0.001"], true),
            (&["text/event-stream;q=x"], false),
            (&["text/event-stream;q=0.5, application/json;q=0.9"], false),
            (&["text/event-stream;q=0.5", "application/json"], false),
            (&["text/event-stream;q=0.9, application/json;q=0.5"], true),
            (&["text/event-stream, application/json"], false), // a tie
            (&["text/event-stream, */*"], true),
            (&["text/event-stream;q=0.5, */*"], false),
            (&["text/event-stream;q=0.5, */*;q=0.4"], true),
            (&["text/event-stream;q=0.5, application/*;q=0.6"], false),
            (&["text/*"], true),
            (&["text/*, application/json"], false),
            (&["text/*;q=0.9, application/json;q=0.8"], true),
            (&["text/*, text/event-stream;q=0"], false),
            (&["text/html, */*;q=0.8"], false),
            (&["application/vnd.openstack.compute+json, text/event-stream;q=0.9"], false),
            (&["application/json;q=0, */*;q=0.1"], true),
        ];
        for (accept, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in *accept {
                headers.append(header::ACCEPT, value.parse().unwrap());
            }
            assert_eq!(Media::prefers_to_json(&headers, stream), *expected, "{accept:?}");
        }
    }

    #[test]
    fn weights() {
        let cases = [
            ("gzip", Some(1000)),
            ("*", Some(1000)),
            ("br", None),
            ("gzip;q=0", Some(0)),
            ("*;q=0.5, gzip;q=0.25", Some(250)),
            ("gzip;q=0.25, *;q=0.5", Some(250)),
            ("identity, GZIP;Q=1.000", Some(1000)),
            ("gzip;q=1.001", Some(0)),
            ("gzip;q=0.12345", Some(0)),
            ("", None),
        ];
        for (list, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, list.parse().unwrap());
            assert_eq!(quality(&headers, &header::ACCEPT_ENCODING, "gzip"), expected, "{list}");
        }
    }

    #[test]
    fn xml_holds_any_text() {
        assert_eq!(xml_text("a<b> & \"c\" 'd' ü\n\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot; 'd' ü\n\u{fffd}");
    }
}
