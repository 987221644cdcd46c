//! `[server.NAME]`: where a server listens, and what no client may exceed.
//!
//! | setting | default | meaning |
//! | --- | --- | --- |
//! | `listen` | | `ADDRESS:PORT`, `unix:PATH` or `systemd:NAME`; see [`super::listen`] |
//! | `socket_mode` | `"0600"` | who of this host may call, of a Unix socket |
//! | `socket_group` | none | the group that such a socket is given to; the mode is then `"0660"` |
//! | `app` | | a composite, pipeline, filter-app or app |
//! | `allow_unauthenticated` | `false` | other hosts may call what asks nobody who he is |
//! | `backlog` | 1024 | connections that wait to be accepted |
//! | `max_connections` | 10000 | connections at a time |
//! | `max_connections_per_address` | half of `max_connections` | connections of one address at a time; of a /64 with IPv6; not on Unix sockets |
//! | `overflow_connections` | 256 | connections above these limits that get an answer: 503, or that of `/healthcheck`; 0: none |
//! | `max_header_bytes` | 32768 | of all headers of a request together; 8192 or more |
//! | `max_target_bytes` | 8192 | of a request's target; no more than `max_header_bytes` |
//! | `max_headers` | 100 | headers of a request |
//! | `header_timeout_s` | 15 | for all headers of a request to arrive |
//! | `request_timeout_s` | 60 | from the headers until an answer begins |
//! | `idle_timeout_s` | 75 | that a connection may be kept without a request |
//! | `write_timeout_s` | 60 | for the client to take more of an answer |
//! | `drain_timeout_s` | 30 | for running requests to end once the server is told to stop |
//! | `time_one_in` | 64 | of as many requests one is timed, stage by stage; 0: none |
//! | `tls` | none | `{ certificate = "…", key = "…" }` in PEM; with `client_ca`, only its clients are let in, and of these none that `crl` lists as revoked |
//! | `http2` | `true` | whether HTTP/2 is spoken, beside HTTP/1.1 |
//!
//! The size of a body, and the time for it to arrive, are bounded by the filter `sizelimit`.

use std::{num::NonZeroU32, path::PathBuf};

use serde::{Deserialize, Deserializer, de::Error};

use super::Listen;

/// What a server listens on, and its limits. Nothing is endless.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port, or what stands for them.
    pub listen: Listen,
    /// The name of what answers.
    pub app: String,
    /// Whether other hosts may call what asks nobody who he is.
    #[serde(default)]
    pub allow_unauthenticated: bool,
    /// The permissions of a Unix socket, where they were said.
    #[serde(default, deserialize_with = "mode")]
    pub socket_mode: Option<u32>,
    /// The group of a Unix socket, by its number.
    #[serde(default, deserialize_with = "group")]
    pub socket_group: Option<u32>,
    /// Connections that wait to be accepted.
    #[serde(default = "nonzero::<1024>")]
    pub backlog: NonZeroU32,
    /// Connections at a time.
    #[serde(default = "nonzero::<10_000>")]
    pub max_connections: NonZeroU32,
    /// Connections of one address at a time; `None`: half of `max_connections`.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// Connections above these limits that are answered before they are closed.
    #[serde(default = "overflow_connections")]
    pub overflow_connections: u32,
    /// All headers of a request together, in bytes; at least [`MIN_HEADER_BYTES`].
    #[serde(default = "nonzero::<32_768>", deserialize_with = "header_bytes")]
    pub max_header_bytes: NonZeroU32,
    /// Size of a request's target, in bytes; at most `max_header_bytes`.
    #[serde(default = "nonzero::<8192>")]
    pub max_target_bytes: NonZeroU32,
    /// Headers of a request.
    #[serde(default = "nonzero::<100>")]
    pub max_headers: NonZeroU32,
    /// For all headers of a request to arrive, in seconds.
    #[serde(default = "nonzero::<15>")]
    pub header_timeout_s: NonZeroU32,
    /// From the headers until an answer begins, in seconds.
    #[serde(default = "nonzero::<60>")]
    pub request_timeout_s: NonZeroU32,
    /// That a connection may be kept without a request, in seconds.
    #[serde(default = "nonzero::<75>")]
    pub idle_timeout_s: NonZeroU32,
    /// For the client to take more of an answer, in seconds.
    #[serde(default = "nonzero::<60>")]
    pub write_timeout_s: NonZeroU32,
    /// For running requests to end once the server is told to stop, in seconds.
    #[serde(default = "nonzero::<30>")]
    pub drain_timeout_s: NonZeroU32,
    /// Of as many requests one is timed, stage by stage; 0: none.
    #[serde(default = "time_one_in")]
    pub time_one_in: u32,
    /// Whether HTTP/2 is spoken, beside HTTP/1.1.
    #[serde(default = "yes")]
    pub http2: bool,
    /// TLS; `None`: cleartext.
    pub tls: Option<TlsSettings>,
}

/// The files of a listener that speaks TLS, in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Its certificate, and those between it and an authority, in this order.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Authorities of clients: who has no certificate of one of them is refused.
    pub client_ca: Option<PathBuf>,
    /// Lists of certificates that these authorities have revoked, in PEM or DER.
    pub crl: Option<PathBuf>,
}

impl TlsSettings {
    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca).chain(&self.crl)
    }
}

/// The smallest buffer in which hyper reads headers, in bytes.
pub const MIN_HEADER_BYTES: u32 = 8192;

impl ServerSettings {
    /// The permissions of a Unix socket. Nobody else may call unless that was said.
    pub fn mode(&self) -> u32 {
        self.socket_mode.unwrap_or(if self.socket_group.is_some() { 0o660 } else { 0o600 })
    }

    /// Connections of one address at a time. Half of all by default, so that no address locks out the
    /// others, and a single proxy in front still has room.
    pub fn per_address(&self) -> u32 {
        self.max_connections_per_address.map_or(self.max_connections.get().div_ceil(2), NonZeroU32::get)
    }

    /// A setting that makes no sense beside the others, and why.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let unix = matches!(self.listen, Listen::Unix(_));
        let of_unix = |key| format!("`{key}` is for a Unix socket, and this is `{}`", self.listen);
        if let Some(problem) = self.listen.problem() {
            return Some(("listen", problem));
        }
        if unix && self.tls.is_some() {
            return Some(("tls", "no TLS on a Unix socket: what it carries leaves no host".into()));
        }
        if self.max_target_bytes > self.max_header_bytes {
            let bytes = self.max_header_bytes;
            return Some((
                "max_target_bytes",
                format!("the target is within the header, of which `max_header_bytes` allows {bytes}"),
            ));
        }
        let said = [("socket_mode", self.socket_mode), ("socket_group", self.socket_group)];
        let said = said.into_iter().find(|(_, said)| said.is_some() && !unix);
        said.map(|(key, _)| (key, of_unix(key)))
    }
}

fn mode<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(from)?;
    let octal = text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| octal && *mode <= 0o777);
    let wrong = || D::Error::custom(format!("`{text}` is no mode of a file, as in `0660`"));
    mode.map(Some).ok_or_else(wrong)
}

fn group<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let name = String::deserialize(from)?;
    match nix::unistd::Group::from_name(&name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        Ok(None) => Err(D::Error::custom(format!("this host has no group `{name}`"))),
        Err(error) => Err(D::Error::custom(format!("the group `{name}` cannot be looked up: {error}"))),
    }
}

fn header_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<NonZeroU32, D::Error> {
    let bytes = NonZeroU32::deserialize(from)?;
    if bytes.get() < MIN_HEADER_BYTES {
        return Err(D::Error::custom(format!("`max_header_bytes` has to be {MIN_HEADER_BYTES} or more")));
    }
    Ok(bytes)
}

fn nonzero<const N: u32>() -> NonZeroU32 {
    NonZeroU32::new(N).unwrap_or(NonZeroU32::MIN)
}

fn overflow_connections() -> u32 {
    256
}

fn time_one_in() -> u32 {
    64
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paste::Section;

    fn listening(listen: &str) -> ServerSettings {
        Section::from_text("server.x", &format!("listen = {listen:?}\napp = \"a\"")).parse().unwrap()
    }

    #[test]
    fn defaults_are_bounded() {
        let settings = listening("127.0.0.1:0");
        assert_eq!((settings.backlog.get(), settings.max_connections.get()), (1024, 10_000));
        assert_eq!((settings.max_header_bytes.get(), settings.max_headers.get()), (32_768, 100));
        assert_eq!((settings.per_address(), settings.overflow_connections), (5_000, 256));
        assert_eq!(settings.max_target_bytes.get(), 8192);
        assert!(settings.http2 && !settings.allow_unauthenticated && settings.listen.is_local());
    }

    #[test]
    fn an_address_has_half_of_all_connections_unless_set() {
        let cases = [
            ("max_connections = 50", 25),
            ("max_connections = 1", 1),
            ("max_connections = 3", 2),
            ("max_connections_per_address = 7", 7),
        ];
        for (more, expected) in cases {
            let text = format!("listen = \"127.0.0.1:1\"\napp = \"a\"\n{more}");
            let settings: ServerSettings = Section::from_text("server.x", &text).parse().unwrap();
            assert_eq!(settings.per_address(), expected, "{more}");
        }
    }

    #[test]
    fn permissions_are_of_unix_sockets() {
        let cases = [
            ("unix:a", "", Ok(0o600)),
            ("unix:a", "socket_mode = '0660'", Ok(0o660)),
            ("unix:a", "socket_mode = '0666'", Ok(0o666)),
            ("unix:a", "socket_group = 'root'", Ok(0o660)),
            ("unix:a", "socket_group = 'root'\nsocket_mode = '600'", Ok(0o600)),
            ("127.0.0.1:1", "socket_mode = '0660'", Err("socket_mode")),
            ("systemd:a", "socket_group = 'root'", Err("socket_group")),
            ("unix:a", "tls = { certificate = 'a', key = 'b' }", Err("tls")),
        ];
        for (listen, more, expected) in cases {
            let text = format!("listen = {listen:?}\napp = \"a\"\n{more}");
            let settings: ServerSettings = Section::from_text("server.x", &text).parse().unwrap();
            let found = settings.problem().map_or(Ok(settings.mode()), |(key, _)| Err(key));
            assert_eq!(found, expected, "{text}");
        }
        let wrong =
            ["mode = '0668'", "mode = ''", "mode = '+600'", "mode = '1777'", "group = 'no such group'"];
        for more in wrong {
            let text = format!("listen = \"unix:a\"\napp = \"a\"\nsocket_{more}");
            assert!(Section::from_text("server.x", &text).parse::<ServerSettings>().is_err(), "{text}");
        }
    }
}
