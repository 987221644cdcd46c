//! `[server.NAME]`: where a server listens, and what no client may exceed.
//!
//! | setting | default | meaning |
//! | --- | --- | --- |
//! | `listen` | | `ADDRESS:PORT`; port 0: any that is free |
//! | `app` | | a composite, pipeline, filter-app or app |
//! | `allow_unauthenticated` | `false` | other hosts may call what asks nobody who he is |
//! | `backlog` | 1024 | connections that wait to be accepted |
//! | `max_connections` | 10000 | connections at a time; the next one waits |
//! | `max_header_bytes` | 32768 | of all headers of a request together; 8192 or more |
//! | `max_headers` | 100 | headers of a request |
//! | `header_timeout_s` | 15 | for all headers of a request to arrive |
//! | `request_timeout_s` | 60 | from the headers until an answer begins |
//! | `idle_timeout_s` | 75 | that a connection may be kept without a request |
//! | `write_timeout_s` | 60 | for the client to take more of an answer |
//! | `drain_timeout_s` | 30 | for running requests to end once the server is told to stop |
//! | `time_one_in` | 64 | of as many requests one is timed, stage by stage; 0: none |
//! | `tls` | none | `{ certificate = "…", key = "…" }` in PEM; with `client_ca`, only its clients are let in |
//! | `http2` | `true` | whether HTTP/2 is spoken, beside HTTP/1.1 |
//!
//! The size of a body, and the time for it to arrive, are bounded by the filter `sizelimit`.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
};

use serde::{Deserialize, Deserializer, de::Error};

/// What a server listens on, and its limits. Nothing is endless.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Address and port; port 0: any that is free.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// The name of what answers.
    pub app: String,
    /// Whether other hosts may call what asks nobody who he is.
    #[serde(default)]
    pub allow_unauthenticated: bool,
    /// Connections that wait to be accepted.
    #[serde(default = "nonzero::<1024>")]
    pub backlog: NonZeroU32,
    /// Connections at a time.
    #[serde(default = "nonzero::<10_000>")]
    pub max_connections: NonZeroU32,
    /// All headers of a request together, in bytes; at least [`MIN_HEADER_BYTES`].
    #[serde(default = "nonzero::<32_768>", deserialize_with = "header_bytes")]
    pub max_header_bytes: NonZeroU32,
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
}

impl TlsSettings {
    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificate, &self.key].into_iter().chain(&self.client_ca)
    }
}

/// The smallest buffer in which hyper reads headers, in bytes.
pub const MIN_HEADER_BYTES: u32 = 8192;

impl ServerSettings {
    /// Whether this host alone can reach it.
    pub fn loopback(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    /// Whether both cannot listen at a time.
    pub fn clashes(&self, other: &Self) -> bool {
        let (one, two) = (self.listen.ip().to_canonical(), other.listen.ip().to_canonical());
        let everywhere = |ip: IpAddr| ip.is_unspecified() && one.is_ipv4() == two.is_ipv4();
        let same_host = one == two || everywhere(one) || everywhere(two);
        self.listen.port() != 0 && self.listen.port() == other.listen.port() && same_host
    }
}

fn address<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(|_| {
        let form = "as in `127.0.0.1:8774` or `[::1]:8774`";
        D::Error::custom(format!("`{text}` is no address with a port, {form}"))
    })
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
        assert!(settings.http2 && !settings.allow_unauthenticated && settings.loopback());
    }

    #[test]
    fn addresses() {
        let loopback = [("127.0.0.2:1", true), ("[::1]:1", true), ("[::ffff:127.0.0.1]:1", true)];
        let others = [("0.0.0.0:1", false), ("[::]:1", false), ("10.0.0.1:1", false)];
        for (listen, expected) in loopback.into_iter().chain(others) {
            assert_eq!(listening(listen).loopback(), expected, "{listen}");
        }
        let cases = [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ];
        for (one, two, expected) in cases {
            assert_eq!(listening(one).clashes(&listening(two)), expected, "{one} {two}");
            assert_eq!(listening(two).clashes(&listening(one)), expected, "{two} {one}");
        }
    }
}
