//! Which recipients exist: a list, or what the customer's server says when it is asked.

use std::sync::Arc;

use crate::config::DomainConfig;
use crate::mail::{Address, Client, Reply, ReversePath};
use crate::outside::{Clock, Resolver, Transport};
use crate::store::Memory;

/// Knows and asks. Cloning shares it.
#[derive(Clone)]
pub struct RecipientDirectory {
    _memory: Memory,
    _clock: Arc<dyn Clock>,
    _resolver: Arc<dyn Resolver>,
    _transport: Arc<dyn Transport>,
}

impl RecipientDirectory {
    pub fn new(
        memory: Memory,
        clock: Arc<dyn Clock>,
        resolver: Arc<dyn Resolver>,
        transport: Arc<dyn Transport>,
    ) -> RecipientDirectory {
        RecipientDirectory { _memory: memory, _clock: clock, _resolver: resolver, _transport: transport }
    }

    /// `Err`: `550 5.1.1`, or a temporary refusal.
    pub async fn exists(
        &self,
        _domain: &DomainConfig,
        _client: &Client,
        _from: &ReversePath,
        _to: &Address,
    ) -> Result<(), Reply> {
        Ok(())
    }
}
