//! From a destination to the hosts to try, in order: what the customer named, or the mail exchangers (RFC 5321 §5.1).
//!
//! On failure: what DNS does not answer is tried again later. Only what DNS answered can be a reason to give up, and only for
//! domains that are not served here: a customer's server that cannot be found is an outage.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Config, DomainConfig, HopHost};
use crate::mail::{Domain, Host, Outcome, Reroute, Scope};
use crate::outside::{DnsError, MailExchanger, Resolver};

/// Hosts tried for one delivery at most.
const HOPS_MAX: usize = 10;
const SMTP_PORT: u16 = 25;

/// One host to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// For logs, notices and SNI: a host name, or an address in brackets.
    pub name: String,
    pub address: SocketAddr,
}

impl std::fmt::Display for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Hop { name, address } = self;
        if name.starts_with('[') { write!(f, "{address}") } else { write!(f, "{name} [{}]:{}", address.ip(), address.port()) }
    }
}

/// Why there is nothing to try. The texts read like replies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteFailure {
    /// Nobody knows yet: try again later.
    #[error("{0}")]
    Temporary(String),
    /// The destination takes no mail.
    #[error("{0}")]
    Permanent(String),
}

impl From<RouteFailure> for Outcome {
    /// The same end for each recipient there.
    fn from(failure: RouteFailure) -> Outcome {
        match failure {
            RouteFailure::Temporary(reply) => Outcome::Retry { scope: Scope::Host, host: None, reply },
            RouteFailure::Permanent(reply) => Outcome::Failed { host: None, reply },
        }
    }
}

/// The hosts to try for a destination, best first; at least one.
pub async fn route(destination: &Host, config: &Config, resolver: &dyn Resolver) -> Result<Vec<Hop>, RouteFailure> {
    match destination {
        Host::Literal(address) => Ok(vec![literal(*address, SMTP_PORT)]),
        Host::Domain(domain) => match config.domain(domain) {
            Some(settings) => customer(domain, settings, resolver).await,
            None => stranger(domain, &config.hostname, resolver).await,
        },
    }
}

/// The server that an operator named, instead of the destination's own. One that DNS does not know is an outage, not a refusal.
pub async fn route_to(reroute: &Reroute, resolver: &dyn Resolver) -> Result<Vec<Hop>, RouteFailure> {
    let name = match &reroute.host {
        Host::Literal(address) => return Ok(vec![literal(*address, reroute.port)]),
        Host::Domain(name) => name,
    };
    let found = match resolver.addresses(name).await {
        Ok(addresses) => named(name, reroute.port, addresses).take(HOPS_MAX).collect::<Vec<_>>(),
        Err(error) => {
            return Err(RouteFailure::Temporary(format!("451 4.4.4 no address for {name}, named by an operator ({error})")));
        }
    };
    if found.is_empty() {
        return Err(RouteFailure::Temporary(format!("451 4.4.4 no address for {name}, named by an operator")));
    }
    Ok(found)
}

/// A domain served here: the hosts its settings name, in their order. One that DNS does not know now is left out while
/// another works.
async fn customer(domain: &Domain, settings: &DomainConfig, resolver: &dyn Resolver) -> Result<Vec<Hop>, RouteFailure> {
    let mut hops = Vec::new();
    let mut why = String::new();
    for next in &settings.deliver_to {
        match &next.host {
            HopHost::Address(address) => hops.push(literal(*address, next.port)),
            HopHost::Name(name) => match resolver.addresses(name).await {
                Ok(addresses) => hops.extend(named(name, next.port, addresses)),
                Err(error) => why = format!("{name}: {error}"),
            },
        }
    }
    hops.truncate(HOPS_MAX);
    if hops.is_empty() {
        return Err(RouteFailure::Temporary(format!("451 4.4.4 no address for a mail server of {domain} ({why})")));
    }
    Ok(hops)
}

/// A domain not served here, for notices to senders: its mail exchangers, or its own address when it has none.
async fn stranger(domain: &Domain, hostname: &Domain, resolver: &dyn Resolver) -> Result<Vec<Hop>, RouteFailure> {
    let exchangers = match resolver.mail_exchangers(domain).await {
        // RFC 5321 §5.1: without MX the domain stands for itself.
        Ok(exchangers) if exchangers.is_empty() => vec![MailExchanger { preference: 0, host: Some(domain.clone()) }],
        Err(DnsError::NotFound) => vec![MailExchanger { preference: 0, host: Some(domain.clone()) }],
        Err(DnsError::Temporary(why)) => return Err(unanswered(domain, &why)),
        Ok(exchangers) => exchangers,
    };
    // RFC 7505 §3.
    if exchangers.iter().all(|exchanger| exchanger.host.is_none()) {
        return Err(RouteFailure::Permanent(format!("556 5.1.10 {domain} does not accept mail (null MX)")));
    }
    // RFC 5321 §5.1: no exchanger that is no better than ourselves, or the mail goes in circles.
    let ours = exchangers.iter().find(|exchanger| exchanger.host.as_ref() == Some(hostname));
    let limit = ours.map_or(u32::from(u16::MAX) + 1, |ours| u32::from(ours.preference));
    let better = exchangers.iter().filter(|exchanger| u32::from(exchanger.preference) < limit);
    let names: Vec<_> = better.filter_map(|exchanger| exchanger.host.as_ref()).take(HOPS_MAX).collect();
    if names.is_empty() {
        return Err(RouteFailure::Permanent(format!("554 5.4.6 mail for {domain} loops back to this host")));
    }
    let mut hops = Vec::new();
    let mut temporary = None;
    for name in names {
        match resolver.addresses(name).await {
            Ok(addresses) => hops.extend(named(name, SMTP_PORT, addresses)),
            Err(DnsError::NotFound) => {}
            Err(DnsError::Temporary(why)) => temporary = Some(why),
        }
        if hops.len() >= HOPS_MAX {
            break;
        }
    }
    hops.truncate(HOPS_MAX);
    match (hops.is_empty(), temporary) {
        (false, _) => Ok(hops),
        (true, Some(why)) => Err(unanswered(domain, &why)),
        (true, None) => Err(RouteFailure::Permanent(format!("550 5.1.2 no mail server found for {domain}"))),
    }
}

fn unanswered(domain: &Domain, why: &str) -> RouteFailure {
    RouteFailure::Temporary(format!("451 4.4.3 DNS did not answer for {domain}: {why}"))
}

fn literal(address: IpAddr, port: u16) -> Hop {
    Hop { name: Host::Literal(address).to_string(), address: SocketAddr::new(address, port) }
}

fn named(name: &Domain, port: u16, addresses: Vec<IpAddr>) -> impl Iterator<Item = Hop> {
    let name = name.to_string();
    addresses.into_iter().map(move |address| Hop { name: name.clone(), address: SocketAddr::new(address, port) })
}

#[cfg(test)]
mod tests;
