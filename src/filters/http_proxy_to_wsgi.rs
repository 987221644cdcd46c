//! `http_proxy_to_wsgi`: believes a proxy that it trusts what it says of the client, and nobody else.
//!
//! Stands outermost. A proxy says who called it (`X-Forwarded-For`), how (`-Proto`), by which name
//! (`-Host`) and below which path (`-Prefix`), or all but the last in one header, `Forwarded`. From then
//! on [`Context::peer`](pileus_sdk::Context::peer) is the client, links begin as the client called us, and
//! the prefix is a mount above all others (`SCRIPT_NAME`).
//!
//! Anybody can write these headers, so they hold only where the other end of the socket is in
//! `trusted_proxies`; by default that is nobody. Each proxy adds its entry on the right. They are read
//! from there, for as long as the one who wrote an entry is trusted: what a client wrote stands further
//! left, and is never reached. One family of headers is believed, because a proxy hands on what it does
//! not know: `Forwarded` from a proxy that writes `X-Forwarded-For` is the client's own word. So is each
//! header of the family that the proxy neither sets nor drops. None of them is seen by the stages below.
//! A header of a trusted proxy that does not match its grammar is rejected (400): see [`forwarded`].
//! Source: RFC 7239; oslo.middleware, `http_proxy_to_wsgi.py`, which believes everybody.

mod forwarded;

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};
use pileus_sdk::{Fault, Filter, Peer, Request};
use serde::Deserialize;

use self::forwarded::{Element, Malformed, Node};
use crate::{
    diagnostic::Diagnostic,
    network::Network,
    paste::Section,
    pipeline::{Capabilities, Deps, FilterKind},
};

/// What the pipeline knows of it.
pub const KIND: FilterKind =
    FilterKind { name: "http_proxy_to_wsgi", capabilities: |_| Capabilities::NONE, factory };

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// What a section with `factory = "http_proxy_to_wsgi"` may say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Networks of proxies: `["127.0.0.1", "10.0.0.0/8"]`; `"unix:"`: whoever calls on a Unix socket.
    #[serde(default)]
    trusted_proxies: Vec<Network>,
    /// What these proxies write.
    #[serde(default)]
    headers: Family,
}

/// Headers that belong together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Family {
    /// `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`: what most proxies write.
    #[default]
    XForwarded,
    /// `Forwarded` of RFC 7239.
    Forwarded,
}

/// Builds the stage.
pub fn factory(section: &Section, _: &Deps) -> Result<Filter, Diagnostic> {
    let config = Arc::new(section.parse::<Config>()?);
    Ok(Filter::gate(move |request| {
        if request.headers().keys().any(is_forwarded) {
            let peer = request.context().peer;
            if config.trusted_proxies.iter().any(|network| network.holds(peer)) {
                let told = Told::read(request.headers(), peer, &config)?;
                told.apply(request);
            }
            let names = request.headers().keys().filter(|name| is_forwarded(name)).cloned();
            for name in names.collect::<Vec<_>>() {
                request.headers_mut().remove(name);
            }
        }
        Ok(())
    }))
}

/// Every header of both families, also those that nobody here believes.
fn is_forwarded(name: &HeaderName) -> bool {
    *name == header::FORWARDED || name.as_str().starts_with("x-forwarded-")
}

/// What trusted proxies said.
#[derive(Debug, Default, PartialEq)]
struct Told {
    client: Option<SocketAddr>,
    secure: Option<bool>,
    host: Option<String>,
    prefix: Option<String>,
}

impl Told {
    fn read(headers: &HeaderMap, peer: Peer, config: &Config) -> Result<Self, Fault> {
        let trusted = |node: Peer| config.trusted_proxies.iter().any(|network| network.holds(node));
        match config.headers {
            Family::XForwarded => Self::of_x_forwarded(headers, peer, trusted),
            Family::Forwarded => Self::of_forwarded(headers, trusted),
        }
    }

    fn of_x_forwarded(
        headers: &HeaderMap,
        mut hop: Peer,
        trusted: impl Fn(Peer) -> bool,
    ) -> Result<Self, Fault> {
        let mut told = Self::default();
        // How many entries were written by somebody who is trusted.
        let mut believed = 0;
        for node in list(headers, &FOR).into_iter().rev() {
            if !trusted(hop) {
                break;
            }
            believed += 1;
            // One that hides who called it is the last that is known.
            let Node::Address(address) = forwarded::entry(node).map_err(|why| malformed(&FOR, why))? else {
                break;
            };
            told.client = Some(address);
            hop = address.into();
        }
        // A proxy that appends has written as many of the others; one that sets them has written one.
        let entry = |name: &HeaderName| -> Result<Option<String>, Fault> {
            let entries = list(headers, name);
            let at = entries.len().saturating_sub(believed.max(1));
            let text = entries.get(at).map(|entry| str::from_utf8(entry)).transpose();
            text.map(|text| text.map(str::to_owned)).map_err(|_| malformed(name, "it is not ASCII"))
        };
        if let Some(scheme) = entry(&PROTO)? {
            forwarded::scheme(&scheme).map_err(|why| malformed(&PROTO, why))?;
            told.secure = is_secure(&scheme);
        }
        if let Some(host) = entry(&HOST)? {
            forwarded::host(&host).map_err(|why| malformed(&HOST, why))?;
            told.host = Some(host);
        }
        if list(headers, &PREFIX).len() > 1 {
            return Err(malformed(&PREFIX, "of several, it is not known which stands first"));
        }
        if let Some(prefix) = entry(&PREFIX)? {
            let prefix = forwarded::prefix(&prefix).map_err(|why| malformed(&PREFIX, why))?;
            told.prefix = (!prefix.is_empty()).then(|| prefix.to_owned());
        }
        Ok(told)
    }

    /// Reads elements from the right. The one that names somebody who is not trusted, or nobody, was
    /// written by the outermost proxy that is: what it says of scheme and host is what the client did.
    fn of_forwarded(headers: &HeaderMap, trusted: impl Fn(Peer) -> bool) -> Result<Self, Fault> {
        let mut told = Self::default();
        let mut elements = Vec::new();
        for value in headers.get_all(header::FORWARDED) {
            let of_value = forwarded::elements(value.as_bytes());
            elements.append(&mut of_value.map_err(|why| malformed(&header::FORWARDED, why))?);
        }
        for Element { node, proto, host } in elements.into_iter().rev() {
            told.secure = proto.and_then(|scheme| is_secure(&scheme)).or(told.secure);
            told.host = host.or(told.host.take());
            let Some(Node::Address(address)) = node else { break };
            told.client = Some(address);
            if !trusted(address.into()) {
                break;
            }
        }
        Ok(told)
    }

    fn apply(self, request: &mut Request) {
        let context = request.context_mut();
        context.peer = self.client.map_or(context.peer, Peer::Address);
        context.secure = self.secure.unwrap_or(context.secure);
        if self.host.is_some() || self.prefix.is_some() {
            let prefix = self.prefix.unwrap_or_default();
            if let Some(uri) = moved(request.uri(), self.host.as_deref(), &prefix) {
                *request.uri_mut() = uri;
                let context = request.context_mut();
                context.mounted = context.mounted.saturating_add(u32::try_from(prefix.len()).unwrap_or(0));
            }
        }
        if let Some(host) = self.host.and_then(|host| HeaderValue::try_from(host).ok()) {
            request.headers_mut().insert(header::HOST, host);
        }
    }
}

/// The target below `prefix`; on HTTP/2, where it says the host, with that.
fn moved(uri: &Uri, host: Option<&str>, prefix: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    if let (Some(_), Some(host)) = (&parts.authority, host) {
        parts.authority = Some(host.parse().ok()?);
    }
    if !prefix.is_empty() {
        let target = parts.path_and_query.as_ref().map_or("/", PathAndQuery::as_str);
        parts.path_and_query = Some(PathAndQuery::try_from(format!("{prefix}{target}")).ok()?);
    }
    Uri::from_parts(parts).ok()
}

/// The entries of a list, from left to right, over all headers of its name; without those that are empty.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a [u8]> {
    let values = headers.get_all(name).iter();
    let entries = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    entries.map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()).collect()
}

/// The fault for a header of a trusted proxy that is not of its grammar: to guess would be to let the client
/// choose its address.
#[cold]
fn malformed(name: &HeaderName, why: Malformed) -> Fault {
    tracing::debug!(header = name.as_str(), why, "malformed header of a trusted proxy, request rejected");
    Fault::BadRequest(format!("The header {name} cannot be parsed: {why}."))
}

fn is_secure(scheme: &str) -> Option<bool> {
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    if is("https") || is("http") { Some(is("https")) } else { None }
}

#[cfg(test)]
#[path = "http_proxy_to_wsgi/tests.rs"]
mod tests;
