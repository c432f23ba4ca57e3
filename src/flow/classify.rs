//! Classified: what rules, token model and lists of hosts say about a message, with what was learned here.
//!
//! Facts are gathered once; nothing is read twice. When the content cannot be read there is no judgement and the message waits; what DNS
//! cannot answer counts as unknown.

use std::sync::Arc;

use super::{Flow, NotJudged};
use crate::mail::{Authentication, Domain, Envelope, RuleHit};
use crate::outside::Body;
use crate::spam::{Assessment, Authors, Engine, Facts, Learning, Tokens};

/// Content larger than this is classified on a thread of its own, in bytes.
const INLINE_MAX: u64 = 64 * 1024;

/// What is known of a message once it was read.
#[derive(Default)]
pub(super) struct Classified {
    pub assessment: Assessment,
    pub authors: Authors,
    /// What single domains learned about such messages.
    pub learned: Vec<(Domain, RuleHit)>,
}

impl Flow {
    /// `None` where no recipient's domain asked for levels. Everything is linear in the content; large content is read on a thread of
    /// its own all the same, so that it delays nobody.
    pub(super) async fn classify(
        &self,
        envelope: &Arc<Envelope>,
        body: &Body,
        authentication: &Authentication,
    ) -> Result<Option<Classified>, NotJudged> {
        let config = self.config();
        let domains = || envelope.recipients.iter().filter_map(|recipient| recipient.address.domain());
        if !domains().filter_map(|domain| config.domain(domain)).any(|domain| domain.spam.enabled) {
            return Ok(None);
        }
        let content = body.head(Facts::CONTENT_MAX).await.map_err(|error| {
            tracing::error!(id = %envelope.id, %error, "a message could not be read to be classified; trying again later");
            NotJudged
        })?;
        let (engine, learning) = (self.engine.load_full(), self.lessons.learning());
        let gather = {
            let (envelope, found) = (Arc::clone(envelope), authentication.findings.clone());
            move || Facts::gather(&envelope, &content).with(&found)
        };
        let facts = if body.size() <= INLINE_MAX {
            gather()
        } else {
            tokio::task::spawn_blocking(gather).await.map_err(|_| NotJudged)?
        };
        let listed = self.checks.uris.findings(&config, &facts.link_hosts()).await;
        let facts = facts.with(&listed);
        if body.size() <= INLINE_MAX {
            return Ok(Some(assess(&engine, &learning, envelope, &facts)));
        }
        let envelope = Arc::clone(envelope);
        let assess = move || assess(&engine, &learning, &envelope, &facts);
        tokio::task::spawn_blocking(assess).await.map(Some).map_err(|_| NotJudged)
    }
}

fn assess(engine: &Engine, learning: &Learning, envelope: &Envelope, facts: &Facts) -> Classified {
    let mut taught: Vec<&Domain> = envelope.recipients.iter().filter_map(|recipient| recipient.address.domain()).collect();
    taught.retain(|domain| learning.domains.contains_key(*domain));
    taught.sort();
    taught.dedup();
    let tokens = if taught.is_empty() { Tokens::default() } else { Tokens::of(facts) };
    let learned = |domain: &Domain| Some((domain.clone(), engine.learned_hit(learning.of_domain(domain, &tokens))?));
    Classified {
        assessment: engine.assess_with(facts, learning),
        authors: Authors::of(facts),
        learned: taught.into_iter().filter_map(learned).collect(),
    }
}
