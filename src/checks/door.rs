//! The door: how many sessions are open, in all and for each client, and who may still come in.
//!
//! A client is an IPv4 address or an IPv6 /64. Memory is bounded by the open sessions: a client without one is forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use super::network;
use crate::config::Limits;
use crate::mail::Reply;

/// Counts open sessions. Cloning shares it.
#[derive(Clone, Default)]
pub struct Door {
    open: Arc<Mutex<Open>>,
}

/// One lock for both numbers: they are looked at and changed together, for a few instructions.
#[derive(Default)]
struct Open {
    total: usize,
    by_client: HashMap<IpNet, usize>,
}

impl Door {
    /// Lets a client in, or says what it is told. `allowed`: its network is without limits; it is counted all the same, so that
    /// an operator's own hosts come in while strangers fill the house.
    pub fn enter(&self, address: IpAddr, limits: &Limits, allowed: bool) -> Result<Pass, Reply> {
        let client = network::client(address);
        let mut open = lock(&self.open);
        let of_client = open.by_client.get(&client).copied().unwrap_or(0);
        if !allowed && of_client >= limits.connections_per_client {
            return Err(Reply::too_many_connections());
        }
        if !allowed && open.total >= limits.connections {
            return Err(Reply::server_full());
        }
        open.total += 1;
        open.by_client.insert(client, of_client + 1);
        Ok(Pass { open: Arc::clone(&self.open), client })
    }

    /// Open sessions in all.
    pub fn open(&self) -> usize {
        lock(&self.open).total
    }
}

/// A session that is counted for as long as this is held.
pub struct Pass {
    open: Arc<Mutex<Open>>,
    client: IpNet,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        open.total = open.total.saturating_sub(1);
        match open.by_client.get_mut(&self.client) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.by_client.remove(&self.client)),
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { connections: 5, connections_per_client: 2, ..Limits::default() }
    }

    fn enter(door: &Door, address: &str) -> Result<Pass, Reply> {
        door.enter(address.parse().unwrap(), &limits(), false)
    }

    #[test]
    fn a_client_has_its_share_and_the_house_its_size() {
        let door = Door::default();
        let first = enter(&door, "192.0.2.1").unwrap();
        let second = enter(&door, "::ffff:192.0.2.1").unwrap();
        assert_eq!(enter(&door, "192.0.2.1").err(), Some(Reply::too_many_connections()));
        let others: Vec<_> = ["192.0.2.2", "192.0.2.3", "192.0.2.4"].map(|address| enter(&door, address).unwrap()).into();
        assert_eq!(enter(&door, "192.0.2.5").err(), Some(Reply::server_full()));
        assert_eq!(door.open(), 5);
        drop(others);
        drop(second);
        assert!(enter(&door, "192.0.2.1").is_ok(), "who leaves makes room");
        drop(first);
        assert_eq!(door.open(), 0);
        assert!(lock(&door.open).by_client.is_empty(), "nobody is remembered");
    }

    #[test]
    fn a_v6_network_is_one_client() {
        let door = Door::default();
        let _inside = [enter(&door, "2001:db8::1").unwrap(), enter(&door, "2001:db8::2").unwrap()];
        assert_eq!(enter(&door, "2001:db8::3").err(), Some(Reply::too_many_connections()));
        assert!(enter(&door, "2001:db8:0:1::1").is_ok());
    }

    #[test]
    fn allowed_networks_come_in_always_and_are_counted() {
        let door = Door::default();
        let own: Vec<_> = (0..8).map(|_| door.enter("192.0.2.1".parse().unwrap(), &limits(), true).unwrap()).collect();
        assert_eq!(door.open(), 8);
        assert_eq!(enter(&door, "192.0.2.9").err(), Some(Reply::server_full()));
        drop(own);
        assert!(enter(&door, "192.0.2.9").is_ok());
    }
}
