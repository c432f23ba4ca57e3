//! DNS as data.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::mail::Domain;
use crate::outside::{DnsError, MailExchanger, Pending, Resolver};

/// All records there are, and the questions that get no answer.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    pub addresses: HashMap<Domain, Vec<IpAddr>>,
    pub mail_exchangers: HashMap<Domain, Vec<MailExchanger>>,
    pub names: HashMap<IpAddr, Vec<Domain>>,
    pub texts: HashMap<Domain, Vec<Vec<u8>>>,
    /// A name or an address: every question about it is `Temporary`. With `a `, `mx `, `ptr ` or `txt ` in front: this one only.
    pub fail: HashSet<String>,
}

/// A resolver that knows a [`Zone`] and nothing else.
#[derive(Debug, Default)]
pub struct Dns {
    zone: Mutex<Zone>,
}

/// Building; a text that is no domain or address is a mistake in the test, and panics.
impl Dns {
    pub fn new() -> Dns {
        Dns::default()
    }

    /// A or AAAA.
    pub fn address(self, name: &str, address: &str) -> Dns {
        self.change(|zone| zone.addresses.entry(domain(name)).or_default().push(ip(address)));
        self
    }

    pub fn mail_exchanger(self, name: &str, preference: u16, host: &str) -> Dns {
        let record = MailExchanger { preference, host: Some(domain(host)) };
        self.change(|zone| zone.mail_exchangers.entry(domain(name)).or_default().push(record));
        self
    }

    /// The domain takes no mail (RFC 7505).
    pub fn null_mail_exchanger(self, name: &str) -> Dns {
        let record = MailExchanger { preference: 0, host: None };
        self.change(|zone| zone.mail_exchangers.insert(domain(name), vec![record]));
        self
    }

    /// PTR only.
    pub fn name(self, address: &str, name: &str) -> Dns {
        self.change(|zone| zone.names.entry(ip(address)).or_default().push(domain(name)));
        self
    }

    pub fn text(self, name: &str, text: &str) -> Dns {
        self.change(|zone| zone.texts.entry(domain(name)).or_default().push(text.as_bytes().to_vec()));
        self
    }

    /// A host as it should be: its address, and its PTR leading back to it.
    pub fn host(self, name: &str, address: &str) -> Dns {
        self.address(name, address).name(address, name)
    }

    /// See [`Zone::fail`].
    pub fn fail(self, question: &str) -> Dns {
        self.change(|zone| zone.fail.insert(question.to_owned()));
        self
    }

    /// Changes the zone, also while it is in use.
    pub fn change<T>(&self, change: impl FnOnce(&mut Zone) -> T) -> T {
        change(&mut self.zone())
    }

    fn zone(&self) -> MutexGuard<'_, Zone> {
        // A test that panicked while it changed the zone has failed already.
        self.zone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer<T: Clone>(
        &self,
        kind: &str,
        name: String,
        records: impl FnOnce(&Zone) -> Option<&Vec<T>>,
    ) -> Result<Vec<T>, DnsError> {
        let zone = self.zone();
        if zone.fail.contains(&name) || zone.fail.contains(&format!("{kind} {name}")) {
            return Err(DnsError::Temporary(format!("{kind} {name}: simulated failure")));
        }
        records(&zone).filter(|records| !records.is_empty()).cloned().ok_or(DnsError::NotFound)
    }
}

impl Resolver for Dns {
    fn addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async move { self.answer("a", name.to_string(), |zone| zone.addresses.get(name)) })
    }

    fn mail_exchangers<'a>(&'a self, domain: &'a Domain) -> Pending<'a, Result<Vec<MailExchanger>, DnsError>> {
        Box::pin(async move {
            let mut records = self.answer("mx", domain.to_string(), |zone| zone.mail_exchangers.get(domain))?;
            records.sort_by_key(|record| record.preference);
            Ok(records)
        })
    }

    fn names<'a>(&'a self, address: IpAddr) -> Pending<'a, Result<Vec<Domain>, DnsError>> {
        Box::pin(async move { self.answer("ptr", address.to_string(), |zone| zone.names.get(&address)) })
    }

    fn texts<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Vec<u8>>, DnsError>> {
        Box::pin(async move { self.answer("txt", name.to_string(), |zone| zone.texts.get(name)) })
    }

    fn v4_addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Ipv4Addr>, DnsError>> {
        Box::pin(async move {
            let addresses = self.answer("a", name.to_string(), |zone| zone.addresses.get(name))?;
            let v4 = |address: &IpAddr| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            };
            let addresses: Vec<_> = addresses.iter().filter_map(v4).collect();
            if addresses.is_empty() { Err(DnsError::NotFound) } else { Ok(addresses) }
        })
    }
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_are_answered_from_the_zone() {
        let dns = Dns::new()
            .host("mx.customer.example", "192.0.2.1")
            .mail_exchanger("customer.example", 20, "mx2.customer.example")
            .mail_exchanger("customer.example", 10, "mx.customer.example")
            .null_mail_exchanger("nomail.example");
        let mx = dns.mail_exchangers(&domain("customer.example")).await.unwrap();
        assert_eq!(mx[0], MailExchanger { preference: 10, host: Some(domain("mx.customer.example")) });
        assert_eq!(dns.addresses(&domain("mx.customer.example")).await, Ok(vec![ip("192.0.2.1")]));
        assert_eq!(dns.names(ip("192.0.2.1")).await, Ok(vec![domain("mx.customer.example")]));
        assert_eq!(dns.mail_exchangers(&domain("nomail.example")).await.unwrap()[0].host, None);
        assert_eq!(dns.addresses(&domain("customer.example")).await, Err(DnsError::NotFound));
    }

    #[tokio::test]
    async fn questions_that_fail_are_no_knowledge() {
        let dns = Dns::new().host("a.example", "192.0.2.1").fail("mx a.example").fail("192.0.2.1");
        let name = domain("a.example");
        assert!(dns.addresses(&name).await.is_ok());
        assert!(matches!(dns.mail_exchangers(&name).await, Err(DnsError::Temporary(_))));
        assert!(matches!(dns.names(ip("192.0.2.1")).await, Err(DnsError::Temporary(_))));
        dns.change(|zone| zone.fail.clear());
        assert!(dns.names(ip("192.0.2.1")).await.is_ok());
    }
}
