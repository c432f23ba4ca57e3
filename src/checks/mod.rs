//! Questions about client, sender and recipient that are answered before a message is read.

// (skeleton: types and signatures)

use std::net::IpAddr;
use std::sync::Arc;

use crate::config;
use crate::mail::{Address, ReversePath, Timestamp};
use crate::store::Memory;

/// Greylisting: network of the client (/24, /64), sender and recipient must come back once. State in the store's memory.
#[derive(Clone)]
pub struct Greylist {}

/// The answer for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GreylistAnswer {
    Pass,
    /// Ask again in so many seconds.
    Wait {
        seconds: u64,
    },
}

/// One record as `greylist list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GreylistRecord {
    /// `waiting`, `passed` or `allowed`.
    pub state: String,
    /// 192.0.2.0/24
    pub network: String,
    /// Empty for what holds for the whole network.
    pub sender: String,
    pub recipient: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub attempts: u32,
    pub expires: Timestamp,
}

impl Greylist {
    pub fn new(memory: Memory) -> Greylist {
        let _ = memory;
        todo!()
    }

    /// Asks and remembers.
    pub async fn check(
        &self,
        settings: &config::Greylist,
        client: IpAddr,
        sender: &ReversePath,
        recipient: &Address,
        now: Timestamp,
    ) -> GreylistAnswer {
        let _ = (settings, client, sender, recipient, now);
        todo!()
    }

    /// Newest last; without what has expired.
    pub async fn list(&self, now: Timestamp, most: usize) -> Vec<GreylistRecord> {
        let _ = (now, most);
        todo!()
    }

    /// Lets everything from this network pass, for `remember` from now and renewed by each message.
    pub async fn allow(&self, settings: &config::Greylist, network: IpAddr, now: Timestamp) {
        let _ = (settings, network, now);
        todo!()
    }

    /// Forgets all records of this network; how many there were.
    pub async fn forget(&self, network: IpAddr) -> usize {
        let _ = network;
        todo!()
    }

    /// Removes what has expired; how many. Called hourly.
    pub async fn sweep(&self, now: Timestamp) -> usize {
        let _ = now;
        todo!()
    }
}

/// Counts open sessions, in all and by client address.
#[derive(Clone, Default)]
pub struct Door {
    inner: Arc<()>,
}
