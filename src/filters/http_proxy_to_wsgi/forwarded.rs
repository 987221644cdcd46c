//! Grammar of `Forwarded` and of the values of `X-Forwarded-*`. What is not of it is an error, never a guess.
//!
//! `Forwarded` is parsed whole, also the elements that a client wrote: an open quoted string of a client would
//! take in the element of the proxy. `X-Forwarded-For` has no quoted strings, so that only the entries of trusted
//! proxies have to be good.
//! Source: RFC 7239, §4, §6; RFC 9110, §5.6.2, §5.6.4, §7.2; RFC 3986, §3.1.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Why a value is not of the grammar, for the client.
pub(super) type Malformed = &'static str;

/// The other end of a connection, as a proxy names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// An address. Port 0: the proxy does not name a port, or hides it.
    Address(SocketAddr),
    /// `unknown`, or a name of the proxy's own: `_hidden`.
    Hidden,
}

/// Parameters of one element of `Forwarded` that have a meaning here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) node: Option<Node>,
    pub(super) proto: Option<String>,
    pub(super) host: Option<String>,
}

/// Parses a value of `Forwarded`. Empty elements of the list are left out.
pub(super) fn elements(value: &[u8]) -> Result<Vec<Element>, Malformed> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.is_ascii());
    let mut rest = text.ok_or("it is not ASCII")?;
    let mut elements = Vec::new();
    loop {
        let (mut element, mut names, mut is_empty) = (Element::default(), HashSet::new(), true);
        loop {
            rest = blank(rest);
            if !rest.starts_with([';', ',']) && !rest.is_empty() {
                let (name, value, after) = pair(rest)?;
                rest = blank(after);
                is_empty = false;
                let name = name.to_ascii_lowercase();
                element.set(&name, value)?;
                if !names.insert(name) {
                    return Err("a parameter stands twice in one element");
                }
            }
            match rest.strip_prefix(';') {
                Some(after) => (rest, is_empty) = (after, false),
                None => break,
            }
        }
        if !is_empty {
            elements.push(element);
        }
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(elements),
            None => return Err("behind a value stands neither `;` nor `,`"),
        }
    }
}

impl Element {
    fn set(&mut self, name: &str, value: String) -> Result<(), Malformed> {
        match name {
            "for" => self.node = Some(node(&value)?),
            "by" => drop(node(&value)?),
            "proto" => self.proto = Some(scheme(&value).map(|()| value)?),
            "host" => self.host = Some(host(&value).map(|()| value)?),
            _ => {}
        }
        Ok(())
    }
}

fn blank(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// `name=value`: the name, the value without quotes, and what stands behind.
fn pair(text: &str) -> Result<(&str, String, &str), Malformed> {
    let (name, rest) = token(text).ok_or("a parameter has no name")?;
    let rest = rest.strip_prefix('=').ok_or("a parameter has no value")?;
    if let Some(rest) = rest.strip_prefix('"') {
        let (value, rest) = quoted(rest)?;
        return Ok((name, value, rest));
    }
    let (value, rest) = token(rest).ok_or("a value is neither a token nor a quoted string")?;
    Ok((name, value.to_owned(), rest))
}

fn token(text: &str) -> Option<(&str, &str)> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let length = text.bytes().take_while(|byte| is_token(*byte)).count();
    text.split_at_checked(length).filter(|_| length > 0)
}

/// The value of a quoted string whose first quote has been taken, and what stands behind it.
fn quoted(text: &str) -> Result<(String, &str), Malformed> {
    let (mut value, mut letters) = (String::new(), text.char_indices());
    while let Some((at, letter)) = letters.next() {
        let letter = match letter {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => letters.next().map_or('\0', |(_, escaped)| escaped),
            letter => letter,
        };
        if letter != '\t' && letter.is_ascii_control() {
            break;
        }
        value.push(letter);
    }
    Err("a quoted string does not end")
}

/// Parses `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80`, `unknown`, `_hidden`, `_hidden:_port`.
pub(super) fn node(text: &str) -> Result<Node, Malformed> {
    const WRONG: Malformed = "an address is neither one of IPv4, nor one of IPv6 in brackets, nor hidden";
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or(WRONG)?;
        let address: Ipv6Addr = address.parse().map_err(|_| WRONG)?;
        return Ok(Node::Address(SocketAddr::new(address.into(), port(rest)?)));
    }
    let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
    let port = port(rest)?;
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return Ok(Node::Address(SocketAddr::new(address.into(), port)));
    }
    if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) { Ok(Node::Hidden) } else { Err(WRONG) }
}

/// Parses an entry of `X-Forwarded-For`: a node, or an address of IPv6 without brackets.
pub(super) fn entry(bytes: &[u8]) -> Result<Node, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not ASCII")?;
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Ok(Node::Address(SocketAddr::new(IpAddr::V6(address), 0))),
        Err(_) => node(text),
    }
}

/// The port behind an address; 0 where there is none, or a hidden one.
fn port(text: &str) -> Result<u16, Malformed> {
    let Some(port) = text.strip_prefix(':') else {
        return if text.is_empty() {
            Ok(0)
        } else {
            Err("behind an address stands something else than a port")
        };
    };
    match is_obfuscated(port) {
        true => Ok(0),
        false => number(port).ok_or("a port is no number up to 65535"),
    }
}

fn number(port: &str) -> Option<u16> {
    port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
}

fn is_obfuscated(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.strip_prefix('_').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(known))
}

/// Checks the grammar of a scheme.
pub(super) fn scheme(text: &str) -> Result<(), Malformed> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let starts = text.starts_with(|letter: char| letter.is_ascii_alphabetic());
    if starts && text.bytes().all(known) { Ok(()) } else { Err("it is no scheme") }
}

/// Checks that a text is the name or address of a host, with or without a port.
pub(super) fn host(text: &str) -> Result<(), Malformed> {
    let (host, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().is_ok(), rest),
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (!name.is_empty() && name.bytes().all(known), rest)
        }
    };
    let port = rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| number(port).is_some());
    if host && port { Ok(()) } else { Err("it is no host") }
}

/// Returns the path that can stand before others, without a slash at its end: no empty, `.` or `..` segments, no
/// query. `/` is the empty path.
pub(super) fn prefix(text: &str) -> Result<&str, Malformed> {
    let path = text.trim_end_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let segment = |it: &str| !matches!(it, "" | "." | "..") && it.bytes().all(plain);
    let is_path = match path.strip_prefix('/') {
        Some(rest) => rest.split('/').all(segment),
        None => path.is_empty() && !text.is_empty(),
    };
    if is_path && path.len() < 1024 { Ok(path) } else { Err("it is no path of plain segments") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Node {
        Node::Address(text.parse().unwrap())
    }

    #[test]
    fn nodes_are_of_the_grammar() {
        let good = [
            ("192.0.2.1", address("192.0.2.1:0")),
            ("192.0.2.1:80", address("192.0.2.1:80")),
            ("192.0.2.1:00080", address("192.0.2.1:80")),
            ("192.0.2.1:_p", address("192.0.2.1:0")),
            ("[2001:db8::1]", address("[2001:db8::1]:0")),
            ("[2001:db8::1]:65535", address("[2001:db8::1]:65535")),
            ("[::ffff:192.0.2.1]", address("[::ffff:192.0.2.1]:0")),
            ("unknown", Node::Hidden),
            ("Unknown:80", Node::Hidden),
            ("_hidden", Node::Hidden),
            ("_a.b-c_d:_port", Node::Hidden),
        ];
        for (text, expected) in good {
            assert_eq!(node(text), Ok(expected), "{text}");
            assert_eq!(entry(text.as_bytes()), Ok(expected), "{text}");
        }
        let bad = [
            "",
            " ",
            ":",
            ":80",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.01",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1:65536",
            "192.0.2.1:+80",
            "192.0.2.1:-1",
            "192.0.2.1:80:80",
            "192.0.2.1/24",
            "192.0.2.1 ",
            "[192.0.2.1]",
            "[::1",
            "::1]",
            "[]",
            "[::1]x",
            "[::1]:",
            "[fe80::1%eth0]",
            "[[::1]]",
            "_",
            "_:80",
            "_a b",
            "_\u{e9}",
            "unknow",
            "unknown2",
            "localhost",
            "proxy.example",
            "\"192.0.2.1\"",
            "192.0.2.1\0",
        ];
        for text in bad {
            assert!(node(text).is_err() && entry(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(entry(b"2001:db8::1"), Ok(address("[2001:db8::1]:0")));
        assert!(node("2001:db8::1").is_err(), "without brackets");
        assert!(entry(b"\xff").is_err());
    }

    #[test]
    fn elements_are_of_the_grammar() {
        let element = |node: Option<&str>, proto: &str, host: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Element { node: node.map(|it| super::node(it).unwrap()), proto: some(proto), host: some(host) }
        };
        let one = |node: &str| vec![element(Some(node), "", "")];
        let good: Vec<(&str, Vec<Element>)> = vec![
            ("", vec![]),
            (" , ,\t", vec![]),
            ("for=192.0.2.1", one("192.0.2.1")),
            (", for=192.0.2.1,", one("192.0.2.1")),
            ("FOR=\"192.0.2.1:80\"", one("192.0.2.1:80")),
            ("For=\"[2001:db8:cafe::17]:4711\"", one("[2001:db8:cafe::17]:4711")),
            ("for=\"19\\2.0.2.1\"", one("192.0.2.1")),
            ("for=_gazonk", one("_gazonk")),
            ("for=unknown;", one("unknown")),
            (";", vec![element(None, "", "")]),
            ("secret=x;other=\"a, b; \\\"c\\\" \\\\\"", vec![element(None, "", "")]),
            ("proto=https", vec![element(None, "https", "")]),
            ("host=\"h:80\" ; for=192.0.2.1;by=203.0.113.43", vec![element(Some("192.0.2.1"), "", "h:80")]),
            (
                "for=192.0.2.43,for=\"[2001:db8::1]\" , for=unknown;proto=http;host=h",
                vec![
                    element(Some("192.0.2.43"), "", ""),
                    element(Some("[2001:db8::1]"), "", ""),
                    element(Some("unknown"), "http", "h"),
                ],
            ),
        ];
        for (text, expected) in good {
            assert_eq!(elements(text.as_bytes()), Ok(expected), "{text}");
        }
        let bad = [
            // Quotes.
            "for=\"",
            "for=\"192.0.2.1",
            "for=\"x, for=203.0.113.1",
            "for=\"192.0.2.1\\\"",
            "for=\"192.0.2.1\\",
            "for=192.0.2.1\"",
            "for=\"192.0.2.1\"x",
            "for=\"192.0.2.1\"\"\"",
            "\"for\"=192.0.2.1",
            "for=''192.0.2.1",
            "for=\"192.0.2.1\0\"",
            "for=\"\"",
            // Pairs.
            "for",
            "for=",
            "=192.0.2.1",
            "=",
            "for =192.0.2.1",
            "for= 192.0.2.1",
            "for==192.0.2.1",
            "for:192.0.2.1",
            "for=192.0.2.1 for=192.0.2.2",
            "for=192.0.2.1 proto=http",
            "for=192.0.2.1/proto=http",
            "garbage;;=,,",
            "(",
            "{}",
            // Parameters that stand twice.
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1;FOR=192.0.2.1",
            "x=1;y=2;X=1",
            "proto=http;proto=https",
            // Values.
            "for=192.0.2.1:80",
            "for=[::1]",
            "for=\"::1\"",
            "for=\"2001:db8::1\"",
            "for=localhost",
            "for=\"192.0.2.1, 192.0.2.2\"",
            "by=localhost",
            "proto=\"\"",
            "proto=\"ht tp\"",
            "proto=1http",
            "proto=\"http:\"",
            "host=\"\"",
            "host=\"a/b\"",
            "host=\"a@b\"",
            "host=\"a:b\"",
            "host=\"a:80:80\"",
            "host=\"[::1\"",
            "host=\"[x]\"",
            "host=\"a b\"",
            "host=\":80\"",
            // Letters.
            "for=192.0.2.1\u{e9}",
            "\u{e9}",
            "for=192.0.2.1\r\n",
        ];
        for text in bad {
            assert!(elements(text.as_bytes()).is_err(), "{text:?}");
            // An element that a proxy appends does not make it valid.
            assert!(elements(format!("{text}, for=203.0.113.1").as_bytes()).is_err(), "{text:?}");
        }
        assert!(elements(b"for=\"\xff\"").is_err());
    }

    #[test]
    fn hosts_and_prefixes_are_plain() {
        for good in ["h", "h:80", "cloud.example.org", "a_b", "192.0.2.1:1", "[::1]", "[::1]:80", "h:0"] {
            assert_eq!(host(good), Ok(()), "{good}");
        }
        for bad in [
            "", ":", ":80", "h:", "h:x", "h:65536", "a b", "a,b", "a@b", "a/b", "[::1", "[::1]x", "::1",
            "h\0",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
        for (good, path) in
            [("/a", "/a"), ("/a/", "/a"), ("/a/b.c", "/a/b.c"), ("/", ""), ("//", ""), ("/~a", "/~a")]
        {
            assert_eq!(prefix(good), Ok(path), "{good}");
        }
        let long = format!("/{}", "a".repeat(1024));
        for bad in [
            "",
            "a",
            "/a//b",
            "//evil.example",
            "/../b",
            "/.",
            "/a?b",
            "/a#b",
            "/a%2Fb",
            "/a b",
            "/\u{e9}",
            &long,
        ] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }
}
