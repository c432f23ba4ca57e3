//! DNS for one check: so many questions, so much time, and not one more. What is over the bound was not answered, which is a
//! temporary error and so neither for nor against anybody.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::mail::{Domain, Timestamp};
use crate::outside::{Clock, DnsError, MailExchanger, Pending, Resolver};

/// Cloning shares the bounds.
#[derive(Clone)]
pub(super) struct Questions {
    resolver: Arc<dyn Resolver>,
    clock: Arc<dyn Clock>,
    until: Timestamp,
    left: Arc<AtomicUsize>,
}

impl Questions {
    pub(super) fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>, patience: Duration, at_most: usize) -> Questions {
        let until = clock.now() + patience;
        Questions { resolver, clock, until, left: Arc::new(AtomicUsize::new(at_most)) }
    }

    pub(super) async fn texts(&self, name: &str) -> Result<Vec<Vec<u8>>, DnsError> {
        let name = domain(name)?;
        self.ask(self.resolver.texts(&name)).await
    }

    /// Those of the family of `client`. An IPv4 client's are asked for alone, so that a failure of the other family's question
    /// is not seen, and one of its own is.
    pub(super) async fn addresses_like(&self, client: IpAddr, name: &str) -> Result<Vec<IpAddr>, DnsError> {
        let name = domain(name)?;
        if client.is_ipv4() {
            let addresses = self.ask(self.resolver.v4_addresses(&name)).await?;
            return Ok(addresses.into_iter().map(IpAddr::V4).collect());
        }
        let mut addresses = self.ask(self.resolver.addresses(&name)).await?;
        addresses.retain(IpAddr::is_ipv6);
        if addresses.is_empty() { Err(DnsError::NotFound) } else { Ok(addresses) }
    }

    pub(super) async fn v4_addresses(&self, name: &str) -> Result<Vec<Ipv4Addr>, DnsError> {
        let name = domain(name)?;
        self.ask(self.resolver.v4_addresses(&name)).await
    }

    pub(super) async fn mail_exchangers(&self, name: &str) -> Result<Vec<MailExchanger>, DnsError> {
        let name = domain(name)?;
        self.ask(self.resolver.mail_exchangers(&name)).await
    }

    pub(super) async fn names(&self, address: IpAddr) -> Result<Vec<Domain>, DnsError> {
        self.ask(self.resolver.names(address)).await
    }

    /// Whether a name has neither address nor mail exchanger (RFC 9091 §2.7); `false` where DNS does not say.
    pub(super) async fn is_absent(&self, name: &str) -> bool {
        let Ok(name) = domain(name) else { return true };
        let addresses = self.ask(self.resolver.addresses(&name)).await;
        matches!(addresses, Err(DnsError::NotFound))
            && matches!(self.ask(self.resolver.mail_exchangers(&name)).await, Err(DnsError::NotFound))
    }

    async fn ask<T>(&self, question: Pending<'_, Result<T, DnsError>>) -> Result<T, DnsError> {
        let take_one = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take_one).is_err() {
            return Err(DnsError::Temporary("too many questions for one message".to_owned()));
        }
        tokio::select! {
            biased;
            answer = question => answer,
            () = self.clock.sleep_until(self.until) => Err(DnsError::Temporary("no answer in time".to_owned())),
        }
    }
}

/// What is no domain name has no records.
fn domain(name: &str) -> Result<Domain, DnsError> {
    Domain::parse(name).map_err(|_| DnsError::NotFound)
}
