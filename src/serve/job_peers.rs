//! Connections of jobs of this host, on listeners that do not authenticate their callers.
//!
//! Where the service runs as root, each VM has a user of its own. The kernel reports the owner of the other end of
//! a connection: for a Unix socket by `SO_PEERCRED`, for TCP by `sock_diag`. A socket without a process has no owner
//! any more; while VMs have users, such a peer is refused.
//!
//! Elsewhere jobs have the service's own user. Then the process at the other end of a Unix socket tells: a job
//! descends from a worker. A process that has ended tells nothing and is refused, once there are such VMs.
//! Ports are closed to these jobs by Landlock. A port that was not known when a VM was started, or that the kernel
//! cannot close, takes a connection of the service's own user only if a process that is no job holds its other end.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    os::fd::AsRawFd,
};

use nix::unistd::geteuid;
use nix::{
    errno::Errno,
    sys::socket::{getsockopt, sockopt::PeerPidfd},
};
use pileus_engine::drivers::local::{
    tcp_owner::{owner_of, plain},
    vm_processes, vm_users,
};
use pileus_sdk::Peer;
use tokio::net::UnixStream;

use super::socket::Stream;

/// Owner of the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// A user, and the inode of the socket; 0 for a Unix socket.
    User(u32, u32),
    /// On this host, without a process.
    Unknown,
    /// Not on this host.
    Elsewhere,
}

/// Returns `true` if the other end belongs to a job, or may belong to one.
pub fn is_job(stream: &Stream, peer: Peer) -> bool {
    // Without VMs that have users there is no such process. This costs one look-up of a name.
    if vm_users::exist() && may_be_job(owner(stream, peer)) {
        return true;
    }
    match stream {
        Stream::Unix(stream) => vm_processes::exist() && !is_outside(stream),
        Stream::Tcp(tcp) => {
            let reached =
                tcp.local_addr().map_or_else(|_| vm_processes::exist(), |at| vm_processes::reach(at.port()));
            reached && shares_user(owner(stream, peer), geteuid().as_raw(), vm_processes::others_hold)
        }
    }
}

/// Returns `true` if the other end is of this user, and no process holds it that is known to belong to no VM.
fn shares_user(owner: Owner, own: u32, others_hold: impl Fn(u32) -> bool) -> bool {
    match owner {
        Owner::User(user, inode) => user == own && !others_hold(inode),
        Owner::Unknown => true,
        Owner::Elsewhere => false,
    }
}

/// Returns `true` if the process at the other end is known to belong to no VM.
fn is_outside(stream: &UnixStream) -> bool {
    let Some(pid) = stream.peer_cred().ok().and_then(|who| who.pid()) else { return false };
    // The number may be another process's by now. Kernels before 6.5 do not tell.
    let still = match getsockopt(stream, PeerPidfd) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::ENOPROTOOPT) => None,
        Err(_) => return false,
    };
    let outside = vm_processes::contain(pid) == Some(false);
    outside && still.is_none_or(|pidfd| pid_of(pidfd.as_raw_fd()) == Some(pid))
}

/// The number of the process of a pidfd; `None`, or -1, once it has ended.
fn pid_of(pidfd: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{pidfd}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

fn may_be_job(owner: Owner) -> bool {
    match owner {
        Owner::User(user, _) => vm_users::contain(user),
        Owner::Unknown => true,
        Owner::Elsewhere => false,
    }
}

fn owner(stream: &Stream, peer: Peer) -> Owner {
    let (address, local) = match (stream, peer) {
        (_, Peer::Unix(user)) => return user.map_or(Owner::Unknown, |user| Owner::User(user, 0)),
        (Stream::Tcp(stream), Peer::Address(address)) => match stream.local_addr() {
            Ok(local) => (address, local),
            Err(_) => return Owner::Unknown,
        },
        (Stream::Unix(_), Peer::Address(_)) => return Owner::Unknown,
    };
    match owner_of(plain(address), plain(local)) {
        Ok(Some((user, inode))) if inode != 0 => Owner::User(user, inode),
        Ok(Some(_)) => Owner::Unknown,
        Ok(None) | Err(_) if is_local(plain(address).ip()) => Owner::Unknown,
        Ok(None) | Err(_) => Owner::Elsewhere,
    }
}

/// Returns `true` if an address is one of this host.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_without_an_owner_may_be_a_job() {
        let cases = [
            (Owner::User(0, 7), false),
            (Owner::User(1000, 7), false),
            (Owner::User(65_534, 7), false),
            (Owner::User(2_100_000_000, 7), true),
            (Owner::User(2_100_999_999, 7), true),
            (Owner::User(2_101_000_000, 7), false),
            (Owner::User(60_706, 7), true),
            (Owner::Unknown, true),
            (Owner::Elsewhere, false),
        ];
        for (owner, refused) in cases {
            assert_eq!(may_be_job(owner), refused, "{owner:?}");
        }
        assert!(is_local("127.9.9.9".parse().unwrap()) && !is_local("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_socket_of_the_own_user_needs_a_holder_that_is_no_job() {
        // Owner, whether a process outside of VMs holds its socket, whether it is refused.
        let cases = [
            (Owner::User(1000, 7), true, false),
            (Owner::User(1000, 7), false, true),
            (Owner::User(1001, 7), false, false),
            (Owner::User(0, 7), false, false),
            (Owner::Unknown, true, true),
            (Owner::Elsewhere, false, false),
        ];
        for (owner, held, refused) in cases {
            assert_eq!(shares_user(owner, 1000, |inode| inode == 7 && held), refused, "{owner:?} {held}");
        }
    }
}
