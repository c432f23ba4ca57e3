//! JUDGE, in detail: what a message is to each of its recipients' domains, where that is not what it is to everybody.
//!
//! Brings together what the settings say (lists, share, people), what the customers' memories know of the sender, and what was learned
//! for the domain; the sum is `spam::for_domain`'s. Nothing here fails: what memory cannot answer counts as unknown.

use std::collections::BTreeSet;

use super::Flow;
use crate::checks::Reputed;
use crate::config::{Config, DomainConfig};
use crate::mail::{Authentication, Domain, DomainJudgement, Envelope, RuleHit, SpamLevel};
use crate::spam::{Assessment, Authors, Claimed, for_domain, listed, protected_name};

impl Flow {
    /// For each domain that asked for levels and sees the message otherwise. `learned`: what was learned for that domain.
    pub async fn seen_by_domains(
        &self,
        envelope: &Envelope,
        authors: &Authors,
        authentication: &Authentication,
        message: &Assessment,
        learned: &[(Domain, RuleHit)],
    ) -> Vec<DomainJudgement> {
        let (config, engine) = (self.config(), self.engine.load_full());
        let claimed = Claimed::new(envelope, &authors.addresses, &authentication.findings);
        let who = Reputed::of(envelope, &authors.addresses, &authentication.findings);
        let mut seen = Vec::new();
        for (domain, settings) in judging(&config, envelope) {
            let spam = &settings.spam;
            let own = learned.iter().filter(|(taught, _)| taught == domain);
            let mut hits: Vec<RuleHit> = own.map(|(_, hit)| hit.clone()).collect();
            hits.extend(protected_name(&spam.people, authors, &claimed.proof));
            hits.extend(self.checks.acquaintance.hits(domain, &claimed, who.as_ref(), self.now()).await);
            let listing = listed(&spam.lists, &config.spam.lists, &claimed);
            seen.extend(for_domain(&engine, domain, message, spam.share, &listing, hits));
        }
        seen
    }

    /// Its sender is remembered for what the message is to everybody: what a domain adds would feed itself.
    pub async fn remember_reputation(
        &self,
        envelope: &Envelope,
        authors: &Authors,
        authentication: &Authentication,
        level: SpamLevel,
    ) {
        let Some(who) = Reputed::of(envelope, &authors.addresses, &authentication.findings) else { return };
        for (domain, _) in judging(&self.config(), envelope) {
            self.checks.acquaintance.reputation.saw(domain, &who, level, self.now()).await;
        }
    }
}

/// The recipients' domains that asked for levels, each once.
fn judging<'c>(config: &'c Config, envelope: &Envelope) -> Vec<(&'c Domain, &'c DomainConfig)> {
    let domains: BTreeSet<&Domain> = envelope.recipients.iter().filter_map(|recipient| recipient.address.domain()).collect();
    let asked = domains.into_iter().filter_map(|domain| config.domains.get_key_value(domain));
    asked.filter(|(_, settings)| settings.spam.enabled).collect()
}
