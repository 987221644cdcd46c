//! Owners of TCP sockets of this host, from `sock_diag`.
//!
//! Source: sock_diag(7); `include/uapi/linux/inet_diag.h` of Linux.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`.
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Length of a netlink header and of the request, in bytes.
const HEADER: usize = 16;
const LENGTH: usize = HEADER + 56;

/// Returns an IPv4 address also where IPv6 maps it.
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Asks the kernel for the user and the inode of the TCP socket at `here` that is connected to `there`. `None`: this
/// host has none. Inode 0: the socket belongs to no process any more.
///
/// # Errors
/// The kernel does not answer, or not as expected.
pub fn owner_of(here: SocketAddr, there: SocketAddr) -> io::Result<Option<(u32, u32)>> {
    let family = if here.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 } as u8;
    let mut request = Vec::with_capacity(LENGTH);
    request.extend(u32::try_from(LENGTH).unwrap_or_default().to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    request.extend([0; 8]); // sequence number, port: one request by socket
    request.extend([family, 6, 0, 0]); // 6: TCP
    request.extend(u32::MAX.to_ne_bytes()); // in any state
    request.extend(here.port().to_be_bytes());
    request.extend(there.port().to_be_bytes());
    for address in [here.ip(), there.ip()] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes = address.octets(),
        }
        request.extend(bytes);
    }
    request.extend([0; 4]); // any interface
    request.extend([0xff; 8]); // no cookie
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink =
        socket(AddressFamily::Netlink, SockType::Datagram, flags, Some(SockProtocol::NetlinkSockDiag))?;
    send(netlink.as_raw_fd(), &request, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    parse(answer.get(..length).unwrap_or_default(), there.port())
}

/// Reads the user and the inode of an answer about a socket that is connected to port `there`.
fn parse(answer: &[u8], there: u16) -> io::Result<Option<(u32, u32)>> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let word = |at: usize| {
        let bytes = answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_ne_bytes).ok_or_else(cut)
    };
    let half = |at: usize| -> io::Result<[u8; 2]> {
        answer.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).ok_or_else(cut)
    };
    match u16::from_ne_bytes(half(4)?) {
        ERROR => match i32::from_ne_bytes(word(HEADER)?.to_ne_bytes()).wrapping_neg() {
            code if code == Errno::ENOENT as i32 => Ok(None),
            code => Err(io::Error::from_raw_os_error(code)),
        },
        // Without a connection, the kernel answers with what listens there.
        BY_FAMILY if u16::from_be_bytes(half(HEADER + 6)?) != there => Ok(None),
        BY_FAMILY => Ok(Some((word(HEADER + 64)?, word(HEADER + 68)?))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_names_the_owner_of_the_other_end() {
        let own = nix::unistd::geteuid().as_raw();
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("no address {address} here");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let to = if address.starts_with("[::1") { "::1" } else { "127.0.0.1" };
            let client = TcpStream::connect((to, port)).unwrap();
            let (stream, peer) = listener.accept().unwrap();
            let (peer, local) = (plain(peer), plain(stream.local_addr().unwrap()));
            let owner = owner_of(peer, local).unwrap();
            assert!(owner.is_some_and(|(user, inode)| user == own && inode != 0), "{address}: {owner:?}");
            drop(client);
            // Closed by its owner: it belongs to no process.
            let owner = owner_of(peer, local).unwrap();
            assert!(owner.is_none_or(|(_, inode)| inode == 0), "{address}: {owner:?}");
            let listens = owner_of(local, peer).unwrap();
            assert!(listens.is_some_and(|(user, _)| user == own), "the other way round: {listens:?}");
        }
    }
}
