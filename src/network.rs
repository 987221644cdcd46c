//! Networks, as settings name them: `10.0.0.0/8`, `fd00::/8`, `192.0.2.1`, and `unix:` for Unix sockets.

use std::net::IpAddr;

use pileus_sdk::Peer;
use serde::{Deserialize, Deserializer, de::Error};

/// Where somebody may call from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    /// All addresses that begin with the same bits. IPv4 stands within IPv6, so that `::ffff:192.0.2.1` is
    /// `192.0.2.1`.
    Addresses { start: u128, mask: u128 },
    /// Unix sockets.
    Unix,
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        if text == "unix:" {
            return Some(Self::Unix);
        }
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (most, below) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let length: u32 = match length {
            Some(length) => length.parse().ok().filter(|it| plain(length) && *it <= most)?,
            None => most,
        };
        let mask = u128::MAX.checked_shl(128 - (length + below)).unwrap_or(0);
        let start = bits(address);
        // `10.1.2.3/8` is most likely a mistake, and a wide one.
        (start & !mask == 0).then_some(Self::Addresses { start, mask })
    }

    /// Whether who calls is in it.
    pub(crate) fn holds(&self, peer: Peer) -> bool {
        match (self, peer.ip()) {
            (Self::Addresses { start, mask }, Some(address)) => bits(address) & mask == *start,
            (Self::Unix, None) => true,
            (Self::Addresses { .. }, None) | (Self::Unix, Some(_)) => false,
        }
    }
}

/// Key under which connections and requests of one address are counted: an IPv4 address, or the /64 network
/// of an IPv6 address, which one host may have whole.
pub(crate) fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let form =
            "as in `10.0.0.0/8`, `fd00::/8` or `192.0.2.1`, without bits behind its length, or `unix:`";
        Self::read(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no network, {form}")))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn addresses_are_counted_by_network() {
        let cases = [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:1:2:3", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ];
        for (one, two, same) in cases {
            let key = |text: &str| client_network(text.parse().unwrap());
            assert_eq!(key(one) == key(two), same, "{one} {two}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        let cases = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::10.0.0.1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", true),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
            ("::/0", "unix", false),
            ("0.0.0.0/0", "unix", false),
            ("unix:", "unix", true),
            ("unix:", "127.0.0.1", false),
        ];
        for (network, address, held) in cases {
            let network = Network::read(network).unwrap();
            let peer = address.parse().map_or(Peer::Unix(None), |ip: IpAddr| SocketAddr::new(ip, 1).into());
            assert_eq!(network.holds(peer), held, "{network:?} {address}");
        }
        for wrong in
            ["", "10", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.1/8", "::/129", "a/8", "[::1]"]
        {
            assert_eq!(Network::read(wrong), None, "{wrong}");
        }
    }
}
