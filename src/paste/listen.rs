//! Where a server listens: `listen` of `[server.NAME]`.
//!
//! | written | is |
//! | --- | --- |
//! | `127.0.0.1:8774`, `[::1]:8774` | address and port; port 0: any that is free |
//! | `unix:/run/pileus/api.sock` | a Unix socket; a relative path begins at the file's folder |
//! | `systemd:api` | a socket that systemd has opened, by its `FileDescriptorName=` |

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error};

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// What systemd calls a socket that it passes.
    Systemd(String),
}

/// The longest path of a Unix socket on Linux, in bytes (`sun_path`, and its zero).
const MAX_PATH: usize = 107;

impl Listen {
    /// Whether this host alone can reach it, as far as that is known: what systemd opens is not.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
            Self::Systemd(_) => false,
        }
    }

    /// The port, where it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) | Self::Systemd(_) => None,
        }
    }

    /// Whether two servers that say the same are two nevertheless: each gets a port of its own.
    pub fn is_any_port(&self) -> bool {
        self.port() == Some(0)
    }

    /// Whether both cannot be had at a time.
    pub fn clashes(&self, other: &Self) -> bool {
        let (Self::Tcp(one), Self::Tcp(two)) = (self, other) else { return self == other };
        let (ip, others) = (one.ip().to_canonical(), two.ip().to_canonical());
        let everywhere = |it: IpAddr| it.is_unspecified() && ip.is_ipv4() == others.is_ipv4();
        let same_host = ip == others || everywhere(ip) || everywhere(others);
        one.port() != 0 && one.port() == two.port() && same_host
    }

    /// Lets a relative path begin at `folder`.
    pub fn relative_to(&mut self, folder: &Path) {
        if let Self::Unix(path) = self {
            *path = folder.join(&*path);
        }
    }

    /// What the system would dislike in any case.
    pub fn problem(&self) -> Option<String> {
        let Self::Unix(path) = self else { return None };
        let length = path.as_os_str().len();
        (length > MAX_PATH).then(|| {
            format!(
                "the path of a Unix socket has at most {MAX_PATH} bytes, and {} has {length}",
                path.display()
            )
        })
    }

    fn read(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("`unix:` without a path, as in `unix:/run/pileus/api.sock`".into()),
                _ if path.starts_with('@') => Err(format!(
                    "`{text}`: an abstract socket is open to everybody on this host; name a file"
                )),
                _ if path.contains('\0') => Err("a path has no zero byte".into()),
                _ => Ok(Self::Unix(path.into())),
            };
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return match name {
                "" => Err("`systemd:` without the name of a socket, as in `systemd:api`".into()),
                _ => Ok(Self::Systemd(name.into())),
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            let form = "as in `127.0.0.1:8774` or `[::1]:8774`; a Unix socket is `unix:PATH`";
            format!("`{text}` is no address with a port, {form}")
        })
    }
}

/// As it is written.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        Listen::read(text).unwrap()
    }

    #[test]
    fn what_is_written_is_read_and_shown_alike() {
        let cases = [
            ("127.0.0.2:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
            ("unix:/run/a.sock", true),
            ("unix:a b", true),
            ("systemd:api", false),
        ];
        for (text, local) in cases {
            assert_eq!((listen(text).to_string(), listen(text).is_local()), (text.into(), local));
        }
        for wrong in ["", "api", "127.0.0.1", "unix:", "unix:@a", "unix:a\0b", "systemd:", "tcp:127.0.0.1:1"]
        {
            assert!(Listen::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_address_is_for_one_server() {
        let cases = [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix:/b", false),
            ("systemd:a", "systemd:a", true),
            ("systemd:a", "unix:a", false),
            ("0.0.0.0:1", "unix:/a", false),
        ];
        for (one, two, expected) in cases {
            assert_eq!(listen(one).clashes(&listen(two)), expected, "{one} {two}");
            assert_eq!(listen(two).clashes(&listen(one)), expected, "{two} {one}");
        }
    }

    #[test]
    fn paths_begin_at_the_folder_and_have_a_bound() {
        for (text, path) in [("unix:a", "/etc/a"), ("unix:/run/a", "/run/a"), ("unix:a/../b", "/etc/a/../b")]
        {
            let mut it = listen(text);
            it.relative_to(Path::new("/etc"));
            assert_eq!(it, Listen::Unix(path.into()));
        }
        for (length, fits) in [(107, true), (108, false)] {
            assert_eq!(listen(&format!("unix:{:/<length$}", "")).problem().is_none(), fits, "{length}");
        }
    }
}
