//! `samesite`: rejects browser requests of foreign sites on ports without an authenticator.
//!
//! Stands above `noauth`; `pileus check` demands it there. Anybody on this machine may use them, and so may a web page
//! in a browser on this machine, unless it is refused here (403). Three things give a page away: the
//! browser says that it comes from elsewhere (`Sec-Fetch-Site`); it says from where (`Origin`), and
//! that is not here; or it asks for a host that is not here (`Host`), because the page's own name was
//! made to point at us. Programs send none of the first two, and pass. What cannot be read is refused.
//!
//! Here is: a loopback name or address, our end's own address, this machine's node name (the old
//! programs' default), and what `hosts` adds. Any port will do: it may be forwarded.
//! Source: Fetch Metadata, <https://www.w3.org/TR/fetch-metadata/>; DNS rebinding,
//! <https://en.wikipedia.org/wiki/DNS_rebinding>.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use http::{HeaderMap, HeaderName, header, uri::Authority};
use pileus_sdk::{Fault, Filter, Request};
use serde::Deserialize;

use crate::{
    diagnostic::Diagnostic,
    paste::Section,
    pipeline::{Capabilities, Deps, Fact, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind = FilterKind {
    name: "samesite",
    capabilities: |_| Capabilities::NONE.provides(&[Fact::SameSite]),
    factory,
};

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a section with `factory = "samesite"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Further names or addresses under which this port may be called, without a port.
    #[serde(default)]
    pub hosts: Vec<String>,
}

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let config: Config = section.parse()?;
    let mut hosts = Vec::new();
    for host in &config.hosts {
        let bare =
            if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.clone() };
        let read = Site::read(&bare).filter(|site| site.port.is_none());
        let wrong = || section.wrong("hosts", format!("`{host}` is no name of a host (without a port)"));
        hosts.push(read.ok_or_else(wrong)?.host);
    }
    hosts.extend(node_name());
    Ok(Filter::gate(move |request| match refused(request, &hosts) {
        None => Ok(()),
        Some(why) => {
            tracing::debug!(path = request.uri().path(), why, "cross-site call refused");
            Err(Fault::Forbidden(why.into()))
        }
    }))
}

/// The name of this machine, where it is easily known.
fn node_name() -> Option<Host> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Site::read(name.trim()).map(|site| site.host)
}

/// Why a request is refused.
fn refused(request: &Request, hosts: &[Host]) -> Option<&'static str> {
    let headers = request.headers();
    match one(headers, &SEC_FETCH_SITE) {
        Ok(None) => {}
        Ok(Some(site)) if ["same-origin", "none"].iter().any(|own| site.eq_ignore_ascii_case(own)) => {}
        _ => return Some("Calls from other web sites are refused."),
    }
    let host = match one(headers, &header::HOST) {
        Ok(host) => host,
        Err(()) => return Some("The header Host cannot be read."),
    };
    // HTTP/2, and a request to a proxy, name the host in the request line.
    let line = request.uri().authority().map(Authority::as_str);
    let local = request.context().local;
    let mut called = None;
    for named in [host, line].into_iter().flatten() {
        let Some(site) = Site::read(named) else { return Some("The header Host cannot be read.") };
        if !site.host.is_here(local, hosts) {
            return Some("This port is not called by this host's name.");
        }
        called = Some(site);
    }
    let origin = match one(headers, &header::ORIGIN) {
        Ok(None) => return None,
        Ok(Some(origin)) => Site::of_origin(origin),
        Err(()) => None,
    };
    match (origin, called) {
        (Some((origin, port)), Some(called)) => {
            // The port that is not said is the scheme's.
            let same =
                origin.host == called.host && origin.port.unwrap_or(port) == called.port.unwrap_or(port);
            (!same).then_some("Calls from other web sites are refused.")
        }
        _ => Some("Calls from other web sites are refused."),
    }
}

/// The only value of a header; an error where there are several, or it is no text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

/// A host, in a form that can be compared.
#[derive(Debug, Clone, PartialEq)]
enum Host {
    Address(IpAddr),
    /// In lower case, without a dot at the end.
    Name(String),
}

impl Host {
    fn is_here(&self, local: Option<SocketAddr>, hosts: &[Host]) -> bool {
        let own = match self {
            Self::Address(address) => {
                address.is_loopback() || local.is_some_and(|local| local.ip().to_canonical() == *address)
            }
            Self::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        };
        own || hosts.contains(self)
    }
}

/// A host with its port, as `Host` says it.
#[derive(Debug, PartialEq)]
struct Site {
    host: Host,
    port: Option<u16>,
}

impl Site {
    fn read(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, rest) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                (Host::Address(IpAddr::V6(address).to_canonical()), rest)
            }
            None => {
                let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
                let known = |letter: u8| letter.is_ascii_alphanumeric() || b"-._".contains(&letter);
                if name.is_empty() || !name.bytes().all(known) || name.contains("..") {
                    return None;
                }
                let address: Option<IpAddr> = name.parse().ok();
                (address.map_or(Host::Name(name), Host::Address), rest)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(digits.parse().ok()?),
            None if port.is_empty() => None,
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// The site of an `Origin`, and its scheme's port.
    fn of_origin(origin: &str) -> Option<(Self, u16)> {
        let (scheme, rest) = origin.split_once("://")?;
        let port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        Some((Self::read(rest)?, port))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::filters::testing::{build, deps, fine, over, request};

    #[tokio::test]
    async fn programs_pass_and_foreign_pages_do_not() {
        let (deps, ..) = deps();
        let stack = over(KIND, "hosts = ['cloud.example.org', 'FE80::1', '10.0.0.7']", &deps, fine);
        let node = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or("localhost".into());
        let node_port = format!("{}:8112", node.trim().to_uppercase());
        let host = |host: &'static str| vec![("host", host)];
        let page = |host: &'static str, origin: &'static str| vec![("host", host), ("origin", origin)];
        let site = |site: &'static str| vec![("host", "localhost"), ("sec-fetch-site", site)];
        let rows: Vec<(Vec<(&str, &str)>, bool)> = vec![
            (vec![], true),
            (host("localhost"), true),
            (host("LocalHost:8112"), true),
            (host("localhost.:8112"), true),
            (host("app.localhost"), true),
            (host("127.0.0.1:1"), true),
            (host("127.9.9.9"), true),
            (host("[::1]"), true),
            (host("[::1]:8112"), true),
            (host("[::ffff:127.0.0.1]:8112"), true),
            (vec![("host", &node_port)], true),
            (host("cloud.example.org:80"), true),
            (host("CLOUD.example.org."), true),
            (host("[fe80::1]:9"), true),
            (host("10.0.0.7"), true),
            (host("198.51.100.7:8112"), true), // our end's address, see below
            (host("198.51.100.8:8112"), false),
            (host("evil.example"), false),
            (host("localhost.evil.example"), false),
            (host("evil.cloud.example.org"), false),
            (host("10.0.0.8"), false),
            (host("0.0.0.0"), false),
            (host("[::]"), false),
            (host("2130706433"), false), // 127.0.0.1 as one number: no browser sends it so
            (host(""), false),
            (host(":8112"), false),
            (host("localhost:"), false),
            (host("localhost:x"), false),
            (host("localhost:70000"), false),
            (host("[::1"), false),
            (host("[::1]x"), false),
            (host("::1"), false),
            (host("localhost@evil"), false),
            (host("localhost/evil"), false),
            (vec![("host", "localhost"), ("host", "localhost")], false),
            (site("same-origin"), true),
            (site("Same-Origin"), true),
            (site("none"), true),
            (site("same-site"), false),
            (site("cross-site"), false),
            (site(""), false),
            (site("none, cross-site"), false),
            (page("localhost:8112", "http://localhost:8112"), true),
            (page("localhost:8112", "HTTP://LOCALHOST:8112"), true),
            (page("localhost", "http://localhost:80"), true),
            (page("localhost:443", "https://localhost"), true),
            (page("[::1]:8112", "http://[0:0:0:0:0:0:0:1]:8112"), true),
            (page("localhost:8112", "http://localhost:8113"), false),
            (page("localhost:8112", "http://localhost"), false),
            (page("localhost:8112", "http://127.0.0.1:8112"), false),
            (page("localhost:8112", "http://evil.example"), false),
            (page("localhost:8112", "null"), false),
            (page("localhost:8112", ""), false),
            (page("localhost:8112", "localhost:8112"), false),
            (page("localhost:8112", "file://localhost:8112"), false),
            (page("localhost:8112", "http://localhost:8112/path"), false),
            (vec![("origin", "http://localhost:8112")], false),
        ];
        for (headers, passes) in rows {
            let mut sent = request(Method::GET, "/cloud", &[]);
            for (name, value) in &headers {
                sent.headers_mut().append(*name, value.parse().unwrap());
            }
            sent.context_mut().local = Some("198.51.100.7:8112".parse().unwrap());
            let answer = stack.send(sent).await;
            assert_eq!(answer.is_ok(), passes, "{headers:?}");
            assert!(answer.err().is_none_or(|fault| fault.code().0 == 403), "{headers:?}");
        }
        // The request line counts as well as the header.
        for (uri, host, passes) in [
            ("http://localhost:8112/cloud", "localhost:8112", true),
            ("http://evil.example/cloud", "localhost:8112", false),
            ("http://localhost:8112/cloud", "evil.example", false),
        ] {
            let answer = stack.send(request(Method::GET, uri, &[("host", host)])).await;
            assert_eq!(answer.is_ok(), passes, "{uri} {host}");
        }
    }

    #[test]
    fn a_host_in_the_settings_has_to_be_one() {
        let (deps, ..) = deps();
        for wrong in ["hosts = ['a b']", "hosts = ['']", "hosts = ['a:80']", "hosts = 'a'", "host = ['a']"] {
            assert!(build(KIND, wrong, &deps).is_err(), "{wrong}");
        }
    }
}
