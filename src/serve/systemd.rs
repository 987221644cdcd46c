//! What systemd does for a service: it opens sockets beforehand, and is told how the service stands.
//!
//! A socket that systemd has opened outlives a restart: whoever connects meanwhile waits, and is answered.
//! Source: systemd, `sd_listen_fds(3)`, `sd_notify(3)`.

use std::{
    env, io,
    net::TcpListener,
    os::{fd::AsFd, unix::net::UnixListener},
    sync::OnceLock,
};

use listenfd::ListenFd;
use nix::sys::socket::{getsockopt, sockopt::AcceptConn};
use sd_notify::NotifyState;
use tracing::warn;

use crate::diagnostic::words;

/// A socket that was passed.
#[derive(Debug)]
pub enum Passed {
    /// For other hosts, or for this one.
    Tcp(TcpListener),
    /// For processes of this host.
    Unix(UnixListener),
}

/// All that were passed, each with its name (`FileDescriptorName=`), for as long as the process lives:
/// a reload may want one that it did not want before.
static PASSED: OnceLock<Vec<(String, io::Result<Passed>)>> = OnceLock::new();

/// Takes what was passed to this process. To be called while it has a single thread: the variables that
/// tell of it are removed, so that no worker takes them for its own.
pub fn receive() {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut all = ListenFd::from_env();
    let passed = (0..all.len()).map(|index| {
        // What systemd calls those that have no name.
        let name = names.next().filter(|name| !name.is_empty()).unwrap_or("unknown");
        (name.to_owned(), receive_one(&mut all, index))
    });
    PASSED.set(passed.collect()).ok();
}

fn receive_one(all: &mut ListenFd, index: usize) -> io::Result<Passed> {
    let wrong =
        || io::Error::new(io::ErrorKind::InvalidInput, "it is neither a TCP nor a Unix stream socket");
    let passed = match all.take_unix_listener(index) {
        Ok(Some(socket)) => Passed::Unix(socket),
        _ => Passed::Tcp(all.take_tcp_listener(index).ok().flatten().ok_or_else(wrong)?),
    };
    let listens = match &passed {
        Passed::Tcp(socket) => getsockopt(&socket.as_fd(), AcceptConn),
        Passed::Unix(socket) => getsockopt(&socket.as_fd(), AcceptConn),
    };
    match listens {
        Ok(true) => Ok(passed),
        _ => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen: its unit needs `Accept=no`"))
        }
    }
}

/// The socket of this name. May be asked for again once it was dropped.
pub fn take(name: &str) -> io::Result<Passed> {
    let all = PASSED.get().map(Vec::as_slice).unwrap_or_default();
    let mut named = all.iter().filter(|(it, _)| it == name);
    let not_found = |text: String| Err(io::Error::new(io::ErrorKind::NotFound, text));
    match (named.next(), named.next()) {
        (None, _) if all.is_empty() => not_found("systemd passed no socket at all".into()),
        (None, _) => {
            let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
            not_found(format!("systemd passed no socket `{name}`, but {}", words(&names, "and")))
        }
        (Some(_), Some(_)) => not_found(format!(
            "systemd passed several sockets `{name}`; each needs a unit with a `FileDescriptorName=` of its own"
        )),
        (Some((_, Ok(Passed::Tcp(socket)))), None) => socket.try_clone().map(Passed::Tcp),
        (Some((_, Ok(Passed::Unix(socket)))), None) => socket.try_clone().map(Passed::Unix),
        (Some((_, Err(error))), None) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

/// Requests are answered from now on.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The files are read again; [`ready`] follows, whatever comes of it.
pub fn reloading() {
    // For which systemd wants to know since when.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// No new connections from now on.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Does nothing where nobody asked to be told.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "systemd could not be told");
    }
}
