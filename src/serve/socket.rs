//! A listening socket of whatever kind, and what is accepted on it.

use std::{
    fs::{self, File, TryLockError},
    io::{self, ErrorKind},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use pileus_sdk::Peer;
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::systemd::{self, Passed};
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
                let (socket, file) = open_unix(path, settings)?;
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

/// The file of a Unix socket that was made here. Goes when this goes, if it is still the same one.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: inode(path)? })
    }

    /// Lets call whom the settings let.
    fn admit(&self, settings: &ServerSettings) -> io::Result<()> {
        if let Some(group) = settings.socket_group {
            chown(&self.path, None, Some(group))?;
        }
        fs::set_permissions(&self.path, PermissionsExt::from_mode(settings.mode()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|now| now == self.inode) {
            // One that stays is known for stale by the next start.
            fs::remove_file(&self.path).ok();
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Before it listens nobody can connect, so that it never lets in more than its permissions say.
fn open_unix(path: &Path, settings: &ServerSettings) -> io::Result<(socket2::Socket, SocketFile)> {
    let address = SockAddr::unix(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let _alone = alone_in(path.parent())?;
    make_room(path, &address)?;
    socket.bind(&address)?;
    let file = SocketFile::of(path)?;
    file.admit(settings)?;
    socket.listen(backlog(settings))?;
    Ok((socket, file))
}

/// Removes what a killed process has left. What somebody answers on, or what is no socket, stays.
fn make_room(path: &Path, address: &SockAddr) -> io::Result<()> {
    let taken = |why| Err(io::Error::new(ErrorKind::AddrInUse, why));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => return taken("there is a file that is no socket"),
        Ok(_) => {}
    }
    let caller = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A process that has stopped accepting lives: nobody waits for it here.
    caller.set_nonblocking(true)?;
    match caller.connect(address) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => taken("somebody answers there"),
    }
}

/// Two that start at once do not take each other's socket, which does not listen yet, for stale. As long
/// as the file lives; `None` where the folder cannot be locked.
fn alone_in(folder: Option<&Path>) -> io::Result<Option<File>> {
    let Some(folder) = folder.and_then(|folder| File::open(folder).ok()) else { return Ok(None) };
    for _ in 0..100 {
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(2)),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    Err(io::Error::new(ErrorKind::ResourceBusy, "somebody has locked its folder"))
}
