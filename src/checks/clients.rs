//! What DNS and its greeting say about a client: reverse name, dynamic name, EHLO name, DNS lists.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::reverse::ReverseNames;
use crate::config::{CheckModes, Config};
use crate::mail::{Client, Domain, Finding, Reply};
use crate::outside::{Clock, Resolver};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks about clients and remembers. Cloning shares it.
#[derive(Clone)]
pub struct Clients {
    names: ReverseNames,
}

/// All that is known about one client that said one EHLO.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientReport {
    /// A confirmed one when there is one, else the first.
    pub name: Option<Domain>,
    pub confirmed: bool,
    pub findings: Vec<Finding>,
}

impl Clients {
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> Clients {
        Clients { names: ReverseNames::new(resolver, clock) }
    }

    /// Connected: starts to ask, without waiting.
    pub fn prefetch(&self, _config: &Config, address: IpAddr) {
        self.names.prefetch(address);
    }

    /// What is known, as far as it comes in time.
    pub async fn report(&self, _config: &Config, address: IpAddr, _helo: &str) -> Arc<ClientReport> {
        let name = self.names.within(address, PATIENCE).await;
        Arc::new(ClientReport { name: name.name, confirmed: name.confirmed, findings: Vec::new() })
    }
}

impl ClientReport {
    /// Why this client is not welcome, by these settings; pure.
    pub fn refusal(&self, _modes: &CheckModes, _client: &Client) -> Option<Reply> {
        None
    }
}
