//! How much one client, network or sender domain may ask for, who is banned for going on, and who has proved itself.
//!
//! - A client is an IPv4 address or an IPv6 /64, its network the /24 or /48 around it. Both have a bucket for sessions, messages,
//!   recipients and errors each; a sender domain has one for messages.
//! - **Errors.** From half of its allowance on a client's refused recipients wait for their answer (the tarpit: guessing addresses
//!   becomes slow); beyond it the client is banned, for longer each time. A network that has used up its errors puts its clients
//!   into the tarpit and bans nobody: neighbours at a hoster are not each other's keepers.
//! - **A message that is taken takes one error back**, so that a large sender whose lists are old is not mistaken for a guesser.
//!
//! Allowed networks are the caller's to know. All of it is bounded, whoever comes. Buckets live in memory only; bans and clients that
//! proved themselves are in the store's memory too, under the prefixes `b` and `k`. When that is lost nobody is banned and nobody
//! known.

mod bans;
mod buckets;
mod known;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;

use self::bans::Bans;
use self::buckets::{Buckets, Quota};
use self::known::Known;
use super::network;
use crate::config::{Limits, Rate};
use crate::mail::{ReversePath, Timestamp};
use crate::store::Memory;

pub use self::bans::Ban;

/// Clients, networks and sender domains whose buckets are remembered, each.
const COUNTED_MAX: usize = 100_000;
const BANS_MAX: usize = 100_000;
const KNOWN_MAX: usize = 200_000;
/// Records read at a time.
const PAGE: usize = 1000;
const BAN: &[u8] = b"b";
const KNOWN: &[u8] = b"k";

/// Counts. Cloning shares it.
#[derive(Clone)]
pub struct Limiter {
    memory: Memory,
    state: Arc<Mutex<State>>,
}

/// One lock for all: it is held for a few lookups.
struct State {
    clients: Buckets<IpNet, 4>,
    networks: Buckets<IpNet, 4>,
    /// By a keyed hash of the domain's name: names are long, and strangers choose them.
    sender_domains: Buckets<u64, 1>,
    hasher: RandomState,
    bans: Bans,
    known: Known,
}

/// What is counted: the place of its bucket.
#[derive(Clone, Copy)]
enum Resource {
    Sessions,
    Messages,
    Recipients,
    Errors,
}

/// Who has had too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverLimit {
    Client,
    Network,
    SenderDomain,
}

/// How a client stands after one more error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Fine,
    /// When it was a recipient that was refused, the answer waits for so long.
    Tarpit(Duration),
    Banned(Ban),
}

/// What may be asked for.
impl Limiter {
    pub fn new(memory: Memory) -> Limiter {
        let state = State {
            clients: Buckets::new(COUNTED_MAX),
            networks: Buckets::new(COUNTED_MAX),
            sender_domains: Buckets::new(COUNTED_MAX),
            hasher: RandomState::new(),
            bans: Bans::new(BANS_MAX),
            known: Known::new(KNOWN_MAX),
        };
        Limiter { memory, state: Arc::new(Mutex::new(state)) }
    }

    /// One more session.
    pub fn session(&self, limits: &Limits, client: IpAddr, now: Timestamp) -> Result<(), OverLimit> {
        self.state().count(Resource::Sessions, limits.sessions_per_client, limits.network_factor, client, now)
    }

    /// One more message, of this sender.
    pub fn message(&self, limits: &Limits, client: IpAddr, from: &ReversePath, now: Timestamp) -> Result<(), OverLimit> {
        let mut state = self.state();
        let domain = from.address().and_then(|address| address.domain());
        let Some(domain) = domain.map(|domain| state.hasher.hash_one(domain)) else {
            return state.count(Resource::Messages, limits.messages_per_client, limits.network_factor, client, now);
        };
        let quota = Quota::new(limits.messages_per_sender_domain, 1);
        let of_domain = state.sender_domains.with_one_more(domain, 0, quota, now).ok_or(OverLimit::SenderDomain)?;
        state.count(Resource::Messages, limits.messages_per_client, limits.network_factor, client, now)?;
        state.sender_domains.set(domain, 0, of_domain, now);
        Ok(())
    }

    /// One more recipient.
    pub fn recipient(&self, limits: &Limits, client: IpAddr, now: Timestamp) -> Result<(), OverLimit> {
        self.state().count(Resource::Recipients, limits.recipients_per_client, limits.network_factor, client, now)
    }

    /// One more error; `why`: what was said about it.
    pub async fn error(&self, limits: &Limits, client: IpAddr, why: &str, now: Timestamp) -> Standing {
        let standing = self.state().error(limits, client, why, now);
        if let Standing::Banned(ban) = &standing {
            self.keep(ban).await;
        }
        standing
    }

    /// Its mail was taken: it is known from now on, and has one error less.
    pub async fn passed(&self, limits: &Limits, client: IpAddr, now: Timestamp) {
        let (client, network) = (network::client(client), network::surroundings(client));
        let is_news = {
            let mut state = self.state();
            let (errors, rate) = (Resource::Errors as usize, limits.errors_per_client);
            state.clients.take_back(client, errors, Quota::new(rate, 1));
            state.networks.take_back(network, errors, Quota::new(rate, limits.network_factor));
            state.known.note(client, now)
        };
        if is_news {
            self.memory.put(key(KNOWN, &client), now.0.to_be_bytes().to_vec()).await;
        }
    }

    /// Whether mail of this client was taken in the last weeks.
    pub fn knows(&self, client: IpAddr, now: Timestamp) -> bool {
        self.state().known.knows(&network::client(client), now)
    }
}

/// Bans.
impl Limiter {
    /// Whether a client that comes now is banned; it is counted as turned away.
    pub fn turns_away(&self, client: IpAddr, now: Timestamp) -> bool {
        let mut state = self.state();
        let ban = state.bans.of(client.to_canonical(), now);
        ban.map(|ban| ban.turned_away += 1).is_some()
    }

    pub fn is_banned(&self, client: IpAddr, now: Timestamp) -> bool {
        self.state().bans.of(client.to_canonical(), now).is_some()
    }

    /// The ban that holds for an address, perhaps that of a network around it.
    pub fn ban_of(&self, client: IpAddr, now: Timestamp) -> Option<Ban> {
        self.state().bans.of(client.to_canonical(), now).cloned()
    }

    /// Those that hold now, the newest last.
    pub fn bans(&self, now: Timestamp) -> Vec<Ban> {
        self.state().bans.list(now)
    }

    /// An operator's own; replaces one of the same network.
    pub async fn ban(&self, network: IpNet, length: Duration, why: &str, by: &str, now: Timestamp) -> Ban {
        let network = widened(network);
        let (why, by) = (why.to_owned(), by.to_owned());
        let ban = Ban { network, why, by, since: now, until: now + length, times: 1, turned_away: 0 };
        self.state().bans.insert(ban.clone(), now);
        self.keep(&ban).await;
        ban
    }

    /// Ends the bans in a network, or all; which. Whoever is banned next is banned for the first time.
    pub async fn lift(&self, network: Option<IpNet>) -> Vec<IpNet> {
        let lifted = self.state().bans.lift(network.map(widened));
        let changes = lifted.iter().map(|network| (key(BAN, network), None)).collect();
        self.memory.change(changes).await;
        lifted
    }

    async fn keep(&self, ban: &Ban) {
        if let Ok(value) = serde_json::to_vec(ban) {
            self.memory.put(key(BAN, &ban.network), value).await;
        }
    }
}

/// Memory.
impl Limiter {
    /// What was known before the start.
    pub async fn load(&self, now: Timestamp) {
        let mut after = None;
        while let Some(page) = self.page(BAN, &mut after).await {
            let mut state = self.state();
            for ban in page.iter().filter_map(|(_, value)| serde_json::from_slice::<Ban>(value).ok()) {
                state.bans.insert(Ban { turned_away: 0, ..ban }, now);
            }
        }
        let mut after = None;
        while let Some(page) = self.page(KNOWN, &mut after).await {
            let mut state = self.state();
            for (key, value) in &page {
                if let (Some(client), Ok(last)) = (network_of(key), <[u8; 8]>::try_from(value.as_slice())) {
                    state.known.restore(client, Timestamp(u64::from_be_bytes(last)), now);
                }
            }
        }
    }

    /// Forgets what is over; how many records. Called hourly.
    pub async fn sweep(&self, limits: &Limits, now: Timestamp) -> usize {
        {
            let mut state = self.state();
            state.clients.sweep(now);
            state.networks.sweep(now);
            state.sender_domains.sweep(now);
            state.bans.sweep(limits.ban_max, now);
            state.known.sweep(now);
        }
        let mut removed = 0;
        for prefix in [BAN, KNOWN] {
            let mut after = None;
            while let Some(page) = self.page(prefix, &mut after).await {
                let forgotten: Vec<_> = {
                    let state = self.state();
                    let is_kept = |key: &[u8]| {
                        network_of(key).is_some_and(|network| match prefix {
                            BAN => state.bans.contains(&network),
                            _ => state.known.contains(&network),
                        })
                    };
                    page.into_iter().filter(|(key, _)| !is_kept(key)).map(|(key, _)| (key, None)).collect()
                };
                removed += forgotten.len();
                self.memory.change(forgotten).await;
            }
        }
        removed
    }

    /// The next records with this prefix; `None` at the end.
    async fn page(&self, prefix: &[u8], after: &mut Option<Vec<u8>>) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let page = self.memory.scan(prefix.to_vec(), after.take(), PAGE).await;
        *after = Some(page.last()?.0.clone());
        Some(page)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One more of something, for a client and its network. What is over the limit does not count.
    fn count(&mut self, what: Resource, rate: Rate, factor: u32, client: IpAddr, now: Timestamp) -> Result<(), OverLimit> {
        let (client, network) = (network::client(client), network::surroundings(client));
        let of_client = self.clients.with_one_more(client, what as usize, Quota::new(rate, 1), now);
        let of_network = self.networks.with_one_more(network, what as usize, Quota::new(rate, factor), now);
        let of_client = of_client.ok_or(OverLimit::Client)?;
        let of_network = of_network.ok_or(OverLimit::Network)?;
        self.clients.set(client, what as usize, of_client, now);
        self.networks.set(network, what as usize, of_network, now);
        Ok(())
    }

    fn error(&mut self, limits: &Limits, client: IpAddr, why: &str, now: Timestamp) -> Standing {
        let rate = limits.errors_per_client;
        match self.count(Resource::Errors, rate, limits.network_factor, client, now) {
            Ok(()) => {
                // Half full: as many again would not fit.
                let half = Rate { count: rate.count.div_ceil(2), per: rate.per / 2 };
                let more =
                    self.clients.with_one_more(network::client(client), Resource::Errors as usize, Quota::new(half, 1), now);
                if more.is_some() { Standing::Fine } else { Standing::Tarpit(limits.tarpit) }
            }
            Err(OverLimit::Client) if !limits.ban.is_zero() => {
                let why = format!("more than {} errors in {}, at last: {why}", rate.count, humantime::format_duration(rate.per));
                Standing::Banned(self.bans.punish(network::client(client), &why, limits, now))
            }
            Err(_) => Standing::Tarpit(limits.tarpit),
        }
    }
}

/// A single IPv6 address is nobody: its /64 is meant.
fn widened(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) => match v6.addr().to_ipv4_mapped() {
            Some(address) if v6.prefix_len() >= 96 => {
                IpNet::new(address.into(), v6.prefix_len() - 96).expect("128 - 96 is at most 32").trunc()
            }
            _ => IpNet::new(v6.addr().into(), v6.prefix_len().min(64)).expect("64 is an IPv6 prefix").trunc(),
        },
        IpNet::V4(_) => network.trunc(),
    }
}

fn key(prefix: &[u8], network: &IpNet) -> Vec<u8> {
    [prefix, network.to_string().as_bytes()].concat()
}

fn network_of(key: &[u8]) -> Option<IpNet> {
    std::str::from_utf8(key.get(1..)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
