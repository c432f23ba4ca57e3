//! The client's name in DNS: its PTR names, and the one that leads back to its address (forward-confirmed, RFC 8601 §2.7.3).
//! Asked while the dialogue goes on, remembered for a while; a DNS that does not answer means "no name known", never a refusal.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::mail::{Domain, Timestamp};
use crate::outside::{Clock, Resolver};

/// What DNS says about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReverseName {
    /// A confirmed one when there is one, else the first.
    pub name: Option<Domain>,
    pub confirmed: bool,
}

/// Looks names up and remembers them. Cloning shares it.
#[derive(Clone)]
pub struct ReverseNames {
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    known: Arc<Mutex<HashMap<IpAddr, Known>>>,
}

#[derive(Clone)]
struct Known {
    until: Timestamp,
    answer: Arc<OnceCell<ReverseName>>,
}

/// How long an answer is used.
const REMEMBER: Duration = Duration::from_secs(600);
/// Addresses remembered; when there are more, all are forgotten: a name is quickly asked again.
const KNOWN_MAX: usize = 20_000;
/// PTR names that are confirmed at most: an address with hundreds proves nothing more (and costs a question each).
const CONFIRM_MAX: usize = 5;

impl ReverseNames {
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> ReverseNames {
        ReverseNames { resolver, clock, known: Arc::default() }
    }

    /// Starts to ask, without waiting.
    pub fn prefetch(&self, address: IpAddr) {
        let names = self.clone();
        tokio::spawn(async move { names.answer(address).await });
    }

    /// The answer, if it comes within `patience`.
    pub async fn within(&self, address: IpAddr, patience: Duration) -> ReverseName {
        let over = self.clock.sleep_until(self.clock.now() + patience);
        tokio::select! {
            answer = self.answer(address) => answer,
            () = over => ReverseName::default(),
        }
    }

    /// One question for an address however many sessions ask.
    async fn answer(&self, address: IpAddr) -> ReverseName {
        let cell = self.cell(address);
        cell.get_or_init(|| self.look_up(address)).await.clone()
    }

    fn cell(&self, address: IpAddr) -> Arc<OnceCell<ReverseName>> {
        let now = self.clock.now();
        let mut known = self.known.lock().expect("nobody panics while holding this lock");
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        let entry = known.entry(address).or_insert_with(|| Known { until: now + REMEMBER, answer: Arc::default() });
        if entry.until <= now {
            *entry = Known { until: now + REMEMBER, answer: Arc::default() };
        }
        Arc::clone(&entry.answer)
    }

    async fn look_up(&self, address: IpAddr) -> ReverseName {
        let names = self.resolver.names(address).await.unwrap_or_default();
        for name in names.iter().take(CONFIRM_MAX) {
            if self.resolver.addresses(name).await.is_ok_and(|addresses| addresses.contains(&address)) {
                return ReverseName { name: Some(name.clone()), confirmed: true };
            }
        }
        ReverseName { name: names.into_iter().next(), confirmed: false }
    }
}
