//! Host and target of a request: what RFC 9112 §3.2 and RFC 9113 §8.3.1 ask of them.

use std::{borrow::Cow, net::Ipv6Addr};

use http::{HeaderValue, Method, Uri, header, request::Parts, uri::Authority};

/// Bytes of a registered name or an IPv4 address (RFC 3986, §3.2.2), without the comma: a list of hosts is
/// none.
static NAME: [bool; 256] = {
    let mut name = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        name[byte] = it.is_ascii_alphanumeric()
            || matches!(it, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&')
            || matches!(it, b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        byte += 1;
    }
    name
};

/// `true` if the bytes are a host, and perhaps a port, without user information.
pub fn is_host(bytes: &[u8]) -> bool {
    match bytes.iter().position(|byte| !NAME[usize::from(*byte)]) {
        None => !bytes.is_empty(),
        Some(0) => is_address(bytes),
        Some(end) => is_port(&bytes[end..]),
    }
}

/// `true` if it is `[ADDRESS]`, and perhaps a port.
#[cold]
fn is_address(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let parts = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    parts.is_some_and(|(address, port)| {
        address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port.as_bytes()))
    })
}

/// `true` if it is a colon and a port, which may be empty.
fn is_port(bytes: &[u8]) -> bool {
    let Some((b':', port)) = bytes.split_first() else { return false };
    let number = |port: &[u8]| port.iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    port.len() <= 5 && port.iter().all(u8::is_ascii_digit) && number(port) <= u32::from(u16::MAX)
}

/// `true` if both name the same host and port. Capitals make no difference, nor does the scheme's own port.
fn is_same(one: &str, other: &str, port: &str) -> bool {
    let split = |text| {
        let (host, said) = match str::rsplit_once(text, ':') {
            Some((host, said)) if !said.ends_with(']') => (host, said),
            _ => (text, ""),
        };
        (host, if said.is_empty() { port } else { said })
    };
    let ((host, port), (other, other_port)) = (split(one), split(other));
    host.eq_ignore_ascii_case(other) && port == other_port
}

/// A target that is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// The server as a whole: `OPTIONS *`.
    Server,
    /// Another form than the method has, or a host that is none.
    Wrong,
}

/// Reads a target of HTTP/1 that is not `/…`. One with a host replaces the header `Host`, whatever it says
/// (RFC 9112, §3.2.2). `None`: the path is what counts.
pub fn of_http1(head: &mut Parts) -> Option<Odd> {
    let uri = &head.uri;
    let host = match (uri.scheme_str(), uri.authority()) {
        // `HOST:PORT` is for a tunnel, which is refused elsewhere.
        (None, Some(_)) if head.method == Method::CONNECT => return None,
        (None, Some(_)) => return Some(Odd::Wrong),
        (_, None) => return starless(&head.method, uri),
        (Some(scheme), Some(host)) => {
            let known = matches!(scheme, "http" | "https") && is_host(host.as_str().as_bytes());
            known.then(|| HeaderValue::from_str(host.as_str()).ok()).flatten()
        }
    };
    let Some(host) = host else { return Some(Odd::Wrong) };
    head.headers.insert(header::HOST, host);
    None
}

/// The same of HTTP/2, where a host is in the target, or in one header `Host`, or in both. `hosts`: how often
/// it is in the header; two or more where it is none.
pub fn of_http2(head: &Parts, hosts: usize) -> Option<Odd> {
    let uri = &head.uri;
    let port = if uri.scheme_str() == Some("https") { "443" } else { "80" };
    let named = || head.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    let fine = match (uri.authority().map(Authority::as_str), hosts) {
        (Some(host), 0) => is_host(host.as_bytes()),
        (Some(host), 1) => {
            is_host(host.as_bytes()) && named().is_some_and(|named: Cow<'_, str>| is_same(host, &named, port))
        }
        (None, 1) => true,
        _ => false,
    };
    match fine {
        true if head.method == Method::CONNECT => None,
        true => starless(&head.method, uri),
        false => Some(Odd::Wrong),
    }
}

/// A path, or `*` for `OPTIONS` alone.
fn starless(method: &Method, uri: &Uri) -> Option<Odd> {
    match uri.path() {
        "*" if *method == Method::OPTIONS => Some(Odd::Server),
        path if path.starts_with('/') => None,
        _ => Some(Odd::Wrong),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        let cases = [
            ("a", true),
            ("a.example", true),
            ("a_b-c.d", true),
            ("192.0.2.1", true),
            ("a:80", true),
            ("a:", true),
            ("a:65535", true),
            ("[::1]", true),
            ("[::1]:8774", true),
            ("a%20b", true),
            ("", false),
            (":80", false),
            ("a:b", false),
            ("a:65536", false),
            ("a:080808", false),
            ("a:+1", false),
            ("a:1:2", false),
            ("::1", false),
            ("[::1", false),
            ("[::1]x", false),
            ("[::1]:x", false),
            ("[a]", false),
            ("[fe80::1%25eth0]", false),
            ("u@a", false),
            ("u:p@a:1", false),
            ("a,b", false),
            ("a b", false),
            ("a/b", false),
            ("a?b", false),
            ("a#b", false),
            ("a\\b", false),
            ("a\"b", false),
            ("\u{fc}", false),
        ];
        for (host, expected) in cases {
            assert_eq!(is_host(host.as_bytes()), expected, "{host}");
        }
    }

    #[test]
    fn hosts_are_the_same_without_case_and_default_port() {
        let cases = [
            ("a", "a", true),
            ("A.example", "a.EXAMPLE", true),
            ("a", "a:80", true),
            ("a:", "a:80", true),
            ("[::1]", "[::1]:80", true),
            ("a:8774", "a:8774", true),
            ("a", "a:443", false),
            ("a:1", "a:2", false),
            ("a", "b", false),
            ("[::1]", "[::2]", false),
        ];
        for (one, other, same) in cases {
            assert_eq!(is_same(one, other, "80"), same, "{one} {other}");
            assert_eq!(is_same(other, one, "80"), same, "{other} {one}");
        }
    }
}
