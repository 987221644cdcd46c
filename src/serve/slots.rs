//! Slots for connections: how many are taken, in total and by each address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pileus_sdk::Peer;

use crate::{metrics::Limit, network::client_network};

/// Counter of open connections. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Slots(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: u32,
    /// Of each address that has any.
    by_address: HashMap<IpAddr, u32>,
}

impl Slots {
    /// Takes a slot, unless `max` are taken, or `per_address` by this peer's address. A Unix socket has no
    /// addresses: its permissions say which users connect.
    pub fn take(&self, peer: Peer, max: u32, per_address: u32) -> Result<Slot, Limit> {
        let address = peer.ip().map(client_network);
        let mut taken = self.lock();
        if taken.all >= max {
            return Err(Limit::Connections);
        }
        if let Some(address) = address {
            let own = taken.by_address.entry(address).or_default();
            // Zero is impossible here where `per_address` is not zero, so that no empty entry stays.
            if *own >= per_address.max(1) {
                return Err(Limit::PerAddress);
            }
            *own += 1;
        }
        taken.all += 1;
        Ok(Slot { slots: self.clone(), address })
    }

    /// Ignores poisoning: no critical section leaves partial state.
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Slot of an open connection; free again once it is dropped.
#[derive(Debug)]
pub struct Slot {
    slots: Slots,
    address: Option<IpAddr>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.all = taken.all.saturating_sub(1);
        if let Some(address) = self.address
            && let Some(own) = taken.by_address.get_mut(&address)
        {
            *own = own.saturating_sub(1);
            if *own == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn slots_are_limited_in_total_and_by_address() {
        // Peers that are open, the next one, and its limit.
        let cases: [(&[&str], &str, Option<Limit>); 10] = [
            (&[], "192.0.2.1", None),
            (&["192.0.2.1"], "192.0.2.1", None),
            (&["192.0.2.1", "192.0.2.1"], "192.0.2.1", Some(Limit::PerAddress)),
            (&["192.0.2.1", "192.0.2.1"], "::ffff:192.0.2.1", Some(Limit::PerAddress)),
            (&["192.0.2.1", "192.0.2.1"], "192.0.2.2", None),
            (&["2001:db8::1", "2001:db8::2"], "2001:db8::3", Some(Limit::PerAddress)),
            (&["2001:db8::1", "2001:db8::2"], "2001:db8:0:1::3", None),
            (&["unix", "unix", "unix"], "unix", None),
            (&["unix", "unix", "unix", "unix"], "unix", Some(Limit::Connections)),
            (&["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"], "192.0.2.1", Some(Limit::Connections)),
        ];
        for (open, next, limit) in cases {
            let peer = |text: &str| {
                text.parse().map_or(Peer::Unix(None), |ip: IpAddr| SocketAddr::new(ip, 1).into())
            };
            let slots = Slots::default();
            let mut held: Vec<Slot> =
                open.iter().map(|it| slots.take(peer(it), 4, 2).expect("a slot")).collect();
            assert_eq!(slots.take(peer(next), 4, 2).err(), limit, "{open:?} {next}");
            // What is closed makes room, and leaves nothing behind.
            held.clear();
            assert!(slots.take(peer(next), 4, 2).is_ok(), "{open:?} {next}");
            assert!(slots.lock().by_address.is_empty() && slots.lock().all == 0, "{open:?}");
        }
        assert_eq!(Slots::default().take(peer_of("192.0.2.1"), 0, 0).err(), Some(Limit::Connections));
    }

    fn peer_of(text: &str) -> Peer {
        SocketAddr::new(text.parse().unwrap(), 1).into()
    }
}
