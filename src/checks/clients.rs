//! What DNS and its greeting say about a client: reverse name, dynamic name, EHLO name, DNS lists.
//!
//! Asked while the dialogue goes on, each question once however many sessions want to know. What does not come in time, or not
//! at all, is not known: it never becomes a blemish. Networks of `limits.allow` are asked for their name only, which stands in
//! `Received`.

mod asked;
mod dynamic;
mod helo;
mod report;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) use asked::Asked;
pub use dynamic::DynamicNames;
pub use helo::{Helo, HeloState};
pub use report::ClientReport;

use super::lists::{ListStatus, Lists};
use super::reverse::ReverseNames;
use crate::config::Config;
use crate::mail::Domain;
use crate::outside::{Clock, DnsError, Resolver};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// EHLO names remembered.
const NAMES_MAX: usize = 20_000;

/// Where a name leads.
type Addresses = Result<Vec<IpAddr>, DnsError>;

/// Asks about clients and remembers. Cloning shares it.
#[derive(Clone)]
pub struct Clients {
    resolver: Arc<dyn Resolver>,
    reverse: ReverseNames,
    names: Asked<Domain, Addresses>,
    lists: Lists,
}

impl Clients {
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> Clients {
        let dynamic = Arc::new(DynamicNames::builtin());
        Clients {
            reverse: ReverseNames::new(Arc::clone(&resolver), Arc::clone(&clock), dynamic),
            names: Asked::new(Arc::clone(&clock), NAMES_MAX, keep),
            lists: Lists::new(Arc::clone(&resolver), clock),
            resolver,
        }
    }

    /// Connected: starts to ask, without waiting.
    pub fn prefetch(&self, config: &Config, address: IpAddr) {
        let address = address.to_canonical();
        self.reverse.prefetch(address);
        if !config.allows(address) {
            self.lists.prefetch(&config.checks.lists, address);
        }
    }

    /// What is known, as far as it comes in time: within two seconds from now, and never after the first question is five
    /// seconds old. `helo`: empty where nothing was said.
    pub async fn report(&self, config: &Config, address: IpAddr, helo: &str) -> Arc<ClientReport> {
        let address = address.to_canonical();
        if config.allows(address) {
            let reverse = self.reverse.within(address, PATIENCE).await;
            let (name, confirmed) = (reverse.name.clone(), reverse.is_confirmed());
            return Arc::new(ClientReport { name, confirmed, reverse: (*reverse).clone(), ..ClientReport::default() });
        }
        let (reverse, forward, lists) = tokio::join!(
            self.reverse.within(address, PATIENCE),
            self.forward(helo),
            self.lists.within(&config.checks.lists, address, PATIENCE),
        );
        let greeting = helo::judge(helo, &config.hostname, address, &reverse, forward);
        // Of hundreds of PTR names only the first are looked up; the one that the client greets with was looked up just now.
        let said = Domain::parse(helo).ok();
        let proves = said.filter(|_| greeting.is_reverse_name && greeting.state == HeloState::Resolves);
        let reverse = match proves {
            Some(name) if !reverse.is_confirmed() => reverse.confirmed_by(&name),
            _ => (*reverse).clone(),
        };
        Arc::new(ClientReport::of(reverse, greeting, lists))
    }

    /// The same with everything asked anew, as far as the resolver does: for whoever has just mended it.
    pub async fn report_anew(&self, config: &Config, address: IpAddr, helo: &str) -> Arc<ClientReport> {
        self.reverse.forget(address.to_canonical());
        self.lists.forget(address.to_canonical());
        if let helo::Said::Name(name) = helo::read(helo) {
            self.names.forget(&name);
        }
        self.report(config, address, helo).await
    }

    /// Proves the DNS lists whose proof is due, without waiting: all when they are new, then hourly. Cheap when none is due.
    pub fn prove_lists(&self, config: &Config) {
        self.lists.prove(&config.checks.lists);
    }

    /// How the DNS lists of the settings are doing.
    pub fn lists_status(&self, config: &Config) -> Vec<ListStatus> {
        self.lists.status(&config.checks.lists)
    }

    async fn forward(&self, helo: &str) -> Option<Addresses> {
        let helo::Said::Name(name) = helo::read(helo) else { return None };
        let resolver = Arc::clone(&self.resolver);
        let asked = name.clone();
        self.names.within(name, PATIENCE, || async move { resolver.addresses(&asked).await }).await
    }
}

fn keep(addresses: &Addresses) -> Duration {
    Duration::from_secs(match addresses {
        Ok(_) => 300,
        Err(DnsError::NotFound) => 60,
        Err(DnsError::Temporary(_)) => 20,
    })
}
