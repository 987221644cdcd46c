//! A listening socket of whatever kind, and what is accepted on it.

use std::io::{self, ErrorKind};

use pileus_sdk::Peer;
use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{
    socket_file::{self, SocketFile},
    systemd::{self, Passed},
};
use crate::paste::{Listen, ServerSettings};

/// A socket that listens. Dropping it removes the file of one that was made here.
#[derive(Debug)]
pub struct Socket {
    kind: Kind,
    made: Made,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Whose socket it is: its backlog and its file are the business of whoever made it.
#[derive(Debug)]
enum Made {
    Here(Option<SocketFile>),
    BySystemd,
}

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// Of a host.
    Tcp(TcpStream),
    /// Of a process of this host.
    Unix(UnixStream),
}

impl Socket {
    /// Opens what `settings` ask for; answers with where it really listens. Needs a runtime.
    pub fn open(settings: &ServerSettings) -> io::Result<(Self, Listen)> {
        match &settings.listen {
            Listen::Tcp(address) => {
                let socket =
                    socket2::Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
                // A restart must not wait for connections of the last run to be forgotten.
                socket.set_reuse_address(true)?;
                socket.set_nonblocking(true)?;
                socket.bind(&(*address).into())?;
                socket.listen(backlog(settings))?;
                let socket = TcpListener::from_std(socket.into())?;
                let address = Listen::Tcp(socket.local_addr()?);
                Ok((Self { kind: Kind::Tcp(socket), made: Made::Here(None) }, address))
            }
            Listen::Unix(path) => {
                let (socket, file) = socket_file::bind(path, settings, backlog(settings))?;
                let kind = Kind::Unix(UnixListener::from_std(socket.into())?);
                Ok((Self { kind, made: Made::Here(Some(file)) }, settings.listen.clone()))
            }
            Listen::Systemd(name) => Self::take(name, settings),
        }
    }

    /// One that systemd has opened.
    fn take(name: &str, settings: &ServerSettings) -> io::Result<(Self, Listen)> {
        let (kind, address) = match systemd::take(name)? {
            Passed::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                let address = Listen::Tcp(socket.local_addr()?);
                (Kind::Tcp(TcpListener::from_std(socket)?), address)
            }
            Passed::Unix(_) if settings.tls.is_some() => {
                return Err(io::Error::new(ErrorKind::InvalidInput, "it is a Unix socket, and has no TLS"));
            }
            Passed::Unix(socket) => {
                socket.set_nonblocking(true)?;
                let path = socket.local_addr()?.as_pathname().map(|path| Listen::Unix(path.into()));
                (Kind::Unix(UnixListener::from_std(socket)?), path.unwrap_or(settings.listen.clone()))
            }
        };
        Ok((Self { kind, made: Made::BySystemd }, address))
    }

    /// Waits for the next connection.
    pub async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.kind {
            Kind::Tcp(socket) => {
                let (stream, peer) = socket.accept().await?;
                Ok((Stream::Tcp(stream), Peer::Address(peer)))
            }
            Kind::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let uid = stream.peer_cred().ok().map(|who| who.uid());
                Ok((Stream::Unix(stream), Peer::Unix(uid)))
            }
        }
    }

    /// Takes over what other settings say of it.
    pub fn change(&self, settings: &ServerSettings) -> io::Result<()> {
        let Made::Here(file) = &self.made else { return Ok(()) };
        if let Some(file) = file {
            file.admit(settings)?;
        }
        let socket = match &self.kind {
            Kind::Tcp(socket) => SockRef::from(socket),
            Kind::Unix(socket) => SockRef::from(socket),
        };
        socket.listen(backlog(settings))
    }
}

fn backlog(settings: &ServerSettings) -> i32 {
    i32::try_from(settings.backlog.get()).unwrap_or(i32::MAX)
}
