//! The client's names in DNS: its PTR names, and whether one of them leads back to its address (forward-confirmed, RFC 8601
//! §2.7.3). Any one is enough. Asked while the dialogue goes on, remembered for a while. A DNS that does not answer is a state
//! of its own and never "no name".

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::clients::{Asked, DynamicNames};
use crate::mail::Domain;
use crate::outside::{Clock, DnsError, Resolver};

/// What DNS says about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reverse {
    pub state: ReverseState,
    /// The confirmed one when there is one, else the first.
    pub name: Option<Domain>,
    /// The first of its PTR names, at most [`Reverse::NAMES_MAX`].
    pub names: Vec<ReverseName>,
    /// How many there are.
    pub count: usize,
    /// All its names look like those of access lines: why the one in `name` does.
    pub dynamic: Option<String>,
}

/// How far the names go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReverseState {
    /// Nobody asked.
    #[default]
    Unasked,
    /// DNS did not answer for the PTR.
    Unanswered,
    /// There is no PTR.
    NoName,
    /// There are names, and none that was looked up leads back.
    Unconfirmed,
    /// There are names; whether one leads back is not known, since DNS did not answer.
    Unsure,
    Confirmed,
}

/// One PTR name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReverseName {
    pub name: Domain,
    pub forward: Forward,
}

/// Where a PTR name leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forward {
    /// Another name was enough, or there were too many.
    Unasked,
    Unanswered,
    /// Its A and AAAA; none: it does not exist.
    Addresses(Vec<IpAddr>),
}

/// Looks names up and remembers them. Cloning shares it.
#[derive(Clone)]
pub(super) struct ReverseNames {
    resolver: Arc<dyn Resolver>,
    dynamic: Arc<DynamicNames>,
    asked: Asked<IpAddr, Arc<Reverse>>,
}

/// Clients remembered.
const KNOWN_MAX: usize = 20_000;
/// PTR names that are looked up at most: an address with hundreds proves nothing more, and each costs a question.
const LOOKED_UP_MAX: usize = 10;
/// Of one name.
const ADDRESSES_MAX: usize = 8;

impl Reverse {
    pub const NAMES_MAX: usize = 20;

    fn unanswered() -> Reverse {
        Reverse { state: ReverseState::Unanswered, ..Reverse::default() }
    }

    pub fn is_confirmed(&self) -> bool {
        self.state == ReverseState::Confirmed
    }

    /// One of its PTR names, confirmed or not.
    pub fn has(&self, name: &Domain) -> bool {
        self.names.iter().any(|known| known.name == *name)
    }

    /// The same, when a name of it is known to lead back from elsewhere: it is the client's EHLO name.
    pub(super) fn confirmed_by(&self, name: &Domain) -> Reverse {
        Reverse { state: ReverseState::Confirmed, name: Some(name.clone()), ..self.clone() }
    }
}

impl ReverseNames {
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>, dynamic: Arc<DynamicNames>) -> ReverseNames {
        ReverseNames { resolver, dynamic, asked: Asked::new(clock, KNOWN_MAX, keep) }
    }

    /// Starts to ask, without waiting.
    pub fn prefetch(&self, address: IpAddr) {
        self.asked.start(address, || self.question(address));
    }

    /// The answer, if it comes within `patience`.
    pub async fn within(&self, address: IpAddr, patience: Duration) -> Arc<Reverse> {
        let answer = self.asked.within(address, patience, || self.question(address)).await;
        answer.unwrap_or_else(|| Arc::new(Reverse::unanswered()))
    }

    pub fn forget(&self, address: IpAddr) {
        self.asked.forget(&address);
    }

    fn question(&self, address: IpAddr) -> impl Future<Output = Arc<Reverse>> + Send + 'static {
        let (resolver, dynamic) = (Arc::clone(&self.resolver), Arc::clone(&self.dynamic));
        async move {
            let mut reverse = look_up(resolver, address).await;
            reverse.dynamic = why_dynamic(&reverse, &dynamic, address);
            Arc::new(reverse)
        }
    }
}

/// Who mends its DNS is not told the old state for long, and no answer is asked for again soon.
fn keep(reverse: &Arc<Reverse>) -> Duration {
    Duration::from_secs(match reverse.state {
        ReverseState::Confirmed => 600,
        ReverseState::NoName | ReverseState::Unconfirmed => 60,
        ReverseState::Unasked | ReverseState::Unanswered | ReverseState::Unsure => 20,
    })
}

async fn look_up(resolver: Arc<dyn Resolver>, address: IpAddr) -> Reverse {
    let mut all = match resolver.names(address).await {
        Ok(names) => names,
        Err(DnsError::NotFound) => Vec::new(),
        Err(DnsError::Temporary(_)) => return Reverse::unanswered(),
    };
    let count = all.len();
    all.truncate(Reverse::NAMES_MAX);
    let mut names: Vec<_> = all.into_iter().map(|name| ReverseName { name, forward: Forward::Unasked }).collect();
    let Some(first) = names.first_mut() else {
        return Reverse { state: ReverseState::NoName, ..Reverse::default() };
    };
    // Most hosts have one name, and most of the others are known by their first.
    first.forward = forward(&resolver, &first.name, address).await;
    if !leads_to(&first.forward, address) {
        look_up_others(&resolver, &mut names, address).await;
    }
    let confirmed = names.iter().find(|name| leads_to(&name.forward, address));
    let unanswered = names.iter().any(|name| name.forward == Forward::Unanswered);
    let state = match confirmed {
        Some(_) => ReverseState::Confirmed,
        None if unanswered => ReverseState::Unsure,
        None => ReverseState::Unconfirmed,
    };
    let name = confirmed.or(names.first()).map(|name| name.name.clone());
    Reverse { state, name, names, count, dynamic: None }
}

/// All at once, until one leads back.
async fn look_up_others(resolver: &Arc<dyn Resolver>, names: &mut [ReverseName], address: IpAddr) {
    let mut questions = JoinSet::new();
    for (place, name) in names.iter().enumerate().take(LOOKED_UP_MAX).skip(1) {
        let (resolver, name) = (Arc::clone(resolver), name.name.clone());
        questions.spawn(async move { (place, forward(&resolver, &name, address).await) });
    }
    while let Some(answer) = questions.join_next().await {
        let Ok((place, forward)) = answer else { continue };
        names[place].forward = forward;
        if leads_to(&names[place].forward, address) {
            return;
        }
    }
}

async fn forward(resolver: &Arc<dyn Resolver>, name: &Domain, client: IpAddr) -> Forward {
    match resolver.addresses(name).await {
        Ok(addresses) => Forward::Addresses(kept(addresses, client)),
        Err(DnsError::NotFound) => Forward::Addresses(Vec::new()),
        Err(DnsError::Temporary(_)) => Forward::Unanswered,
    }
}

fn leads_to(forward: &Forward, address: IpAddr) -> bool {
    matches!(forward, Forward::Addresses(addresses) if leads_back(addresses, address))
}

/// `::ffff:192.0.2.1` is 192.0.2.1.
pub(super) fn leads_back(addresses: &[IpAddr], address: IpAddr) -> bool {
    addresses.iter().any(|known| known.to_canonical() == address)
}

/// An ordinary name beside the provider's is a mail server's: every name must look dynamic.
fn why_dynamic(reverse: &Reverse, dynamic: &DynamicNames, address: IpAddr) -> Option<String> {
    let why = dynamic.why(reverse.name.as_ref()?, address)?.to_owned();
    reverse.names.iter().all(|name| dynamic.why(&name.name, address).is_some()).then_some(why)
}

/// What is kept of many addresses, the client's first.
pub(super) fn kept(mut addresses: Vec<IpAddr>, client: IpAddr) -> Vec<IpAddr> {
    addresses.sort_by_key(|address| address.to_canonical() != client);
    addresses.truncate(ADDRESSES_MAX);
    addresses
}
