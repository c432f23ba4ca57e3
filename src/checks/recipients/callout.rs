//! One session with a customer's server to ask for addresses: from the null sender, in its own connection, and not for long.
//!
//! A host may hold each refusal back for 5 s (Exchange's tarpit) and closes after five protocol errors: so patience is 30 s,
//! and a session ends after four refusals.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::mail::{Address, Domain, Host};
use crate::outside::{Clock, Resolver, Transport};
use crate::queue::route;
use crate::smtp::{ConnectFailure, Connection, Timeouts, TlsUse};

/// For the session to be there, and for each answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Exchange's MaxProtocolErrors is 5.
const REFUSALS_MAX: usize = 4;

/// What a callout needs of the outside.
#[derive(Clone)]
pub struct Outside {
    pub clock: Arc<dyn Clock>,
    pub resolver: Arc<dyn Resolver>,
    pub transport: Arc<dyn Transport>,
}

impl Outside {
    /// `None`: it took longer than that.
    async fn within<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Option<T> {
        let over = self.clock.sleep_until(self.clock.now() + patience);
        tokio::select! {
            done = work => Some(done),
            () = over => None,
        }
    }
}

/// An open session.
pub struct Callout {
    connection: Connection,
    refusals: usize,
}

impl Callout {
    /// With the first of the domain's servers that answers. `Err`: none does, and why.
    pub async fn open(outside: &Outside, config: &Config, domain: &Domain) -> Result<Callout, String> {
        let open = Callout::try_hosts(outside, config, domain);
        outside.within(PATIENCE, open).await.unwrap_or_else(|| Err("no session within 30 s".to_owned()))
    }

    async fn try_hosts(outside: &Outside, config: &Config, domain: &Domain) -> Result<Callout, String> {
        let hops =
            route(&Host::Domain(domain.clone()), config, &*outside.resolver).await.map_err(|failure| failure.to_string())?;
        let port = config.domain(domain).and_then(|settings| settings.recipients.callout_port);
        let helo = config.hostname.to_string();
        let timeouts = Timeouts { command: PATIENCE, ..Timeouts::default() };
        let mut why = "no server to ask".to_owned();
        for mut hop in hops {
            hop.address.set_port(port.unwrap_or(hop.address.port()));
            let open = |tls| Connection::open(&*outside.transport, hop.address, &hop.name, &helo, tls, &timeouts);
            let opened = match open(TlsUse::Opportunistic).await {
                Err(ConnectFailure::Tls { .. }) => open(TlsUse::Never).await,
                opened => opened,
            };
            match opened {
                Ok(connection) => return Ok(Callout { connection, refusals: 0 }),
                Err(failure) => why = format!("{hop}: {failure}"),
            }
        }
        Err(why)
    }

    /// The server's reply to RCPT. `Err`: there is none, and the session is over.
    pub async fn ask(&mut self, outside: &Outside, address: &Address) -> Result<String, String> {
        let reply = outside.within(PATIENCE, self.connection.would_take(address)).await;
        let reply = reply.unwrap_or_else(|| Err("no answer within 30 s".to_owned()))?;
        self.refusals += usize::from(!reply.starts_with('2'));
        Ok(reply)
    }

    /// Fit for another question.
    pub fn is_reusable(&self) -> bool {
        self.refusals < REFUSALS_MAX && self.connection.is_reusable()
    }

    pub async fn end(self) {
        self.connection.quit().await;
    }
}

/// An address that nobody can have. A server that takes it takes everything.
pub fn nobody(domain: &Domain) -> Address {
    // The standard library's own seeds: as unguessable as a hash table's, which is all that is needed here.
    let chance = RandomState::new().build_hasher().finish();
    Address::parse(&format!("feedgate-callout-{chance:016x}@{domain}")).expect("letters, digits and hyphens are a local part")
}
