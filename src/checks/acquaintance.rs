//! What a customer's domain knows of a sender from before: whether somebody there wrote to the author, and what the author's
//! organisation sent until now.
//!
//! It speaks about who is proven and about nobody else. It is not here what a message says, nor what an operator wrote into a list.
//! What the store's memory cannot answer is unknown, which speaks neither for nor against the message.

use super::greylist::Correspondents;
use super::reputation::{Reputation, Reputed};
use crate::mail::{Address, Domain, RuleHit, Timestamp};
use crate::spam::Claimed;

/// For an author to whom the domain wrote.
const CORRESPONDENT_POINTS: f32 = -2.0;
/// Authors looked at; honest mail has one.
const AUTHORS_MAX: usize = 5;

/// Memories of senders. Cloning shares it.
#[derive(Clone)]
pub struct Acquaintance {
    pub reputation: Reputation,
    correspondents: Correspondents,
}

impl Acquaintance {
    pub fn new(reputation: Reputation, correspondents: Correspondents) -> Acquaintance {
        Acquaintance { reputation, correspondents }
    }

    /// What counts for this domain: `CORRESPONDENT`, and `REPUTATION_GOOD` or `REPUTATION_BAD`. Writes nothing down.
    pub async fn hits(&self, domain: &Domain, claimed: &Claimed<'_>, who: Option<&Reputed>, now: Timestamp) -> Vec<RuleHit> {
        let mut hits = Vec::new();
        hits.extend(self.correspondent(domain, claimed, now).await);
        if let Some(who) = who {
            hits.extend(self.reputation.points(domain, who, now).await);
        }
        hits
    }

    async fn correspondent(&self, domain: &Domain, claimed: &Claimed<'_>, now: Timestamp) -> Option<RuleHit> {
        let proof = |author: &Address| claimed.proof.of_author(author.domain()?);
        for author in claimed.authors.iter().take(AUTHORS_MAX) {
            let Some(proof) = proof(author) else { continue };
            if self.correspondents.is_correspondent(domain, author, now).await {
                let evidence = format!("{domain} wrote to {author}; {proof}");
                return Some(RuleHit { rule: "CORRESPONDENT".to_owned(), points: CORRESPONDENT_POINTS, evidence });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Greylist;
    use crate::checks::greylist::testing::Scratch;
    use crate::mail::Finding;
    use crate::spam::Proof;

    #[tokio::test]
    async fn a_proven_author_to_whom_the_domain_wrote_is_known() {
        let scratch = Scratch::new();
        let greylist = Greylist::new(scratch.memory());
        let acquaintance = Acquaintance::new(Reputation::new(scratch.memory()), greylist.correspondents.clone());
        let (customer, now) = ("customer.example".parse().unwrap(), Timestamp(1_795_214_160_000));
        let joe: Address = "joe@partner.example".parse().unwrap();
        greylist.correspondents.wrote(&customer, &joe, now).await;
        let hits = async |author: &str, findings: &[(&str, &str)]| {
            let findings: Vec<_> = findings.iter().map(|(id, evidence)| Finding::new(id, evidence)).collect();
            let (authors, client) = ([author.parse().unwrap()], "192.0.2.9".parse().unwrap());
            let claimed = Claimed { authors: &authors, sender: None, client, proof: Proof::of(&findings) };
            let hits = acquaintance.hits(&customer, &claimed, None, now).await;
            hits.into_iter().map(|hit| format!("{} {} {}", hit.rule, hit.points, hit.evidence)).collect::<Vec<_>>()
        };
        let known = "CORRESPONDENT -2 customer.example wrote to joe@partner.example; dmarc-pass partner.example";
        assert_eq!(hits("joe@partner.example", &[("dmarc-pass", "partner.example")]).await, [known]);
        assert!(hits("joe@partner.example", &[("dmarc-fail", "partner.example")]).await.is_empty());
        assert!(hits("ann@partner.example", &[("dmarc-pass", "partner.example")]).await.is_empty());
    }
}
