//! What is kept of a judged message: which rules hit, and not a word of its text. Some hundred bytes as JSON; enough to count
//! its hits again under other rules (`replay`), and to explain it when it is gone.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::engine::{Assessment, Fired, Kind};
use super::scale::rounded;
use crate::mail::{Decision, Domain, Envelope, Judgement, QueueId, SpamLevel, Timestamp};

/// Domains of one message that are kept; to more of them the same message is the same.
const DOMAINS_MAX: usize = 20;
/// Hits of one kind that are kept.
const FIRED_MAX: usize = 100;
/// What is kept of a judged message, as compact JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vector {
    #[serde(rename = "i")]
    pub id: QueueId,
    #[serde(rename = "t")]
    pub at: Timestamp,
    /// The author's domain.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Domain>,
    /// The client's network (/24, /64).
    #[serde(rename = "c")]
    pub client: IpNet,
    /// Rules with their points before caps.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    rules: Vec<(String, f32)>,
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    shadow: Vec<(String, f32)>,
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<(String, f32)>,
    /// The token model's log-odds.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<f32>,
    #[serde(rename = "s")]
    pub score: f32,
    #[serde(rename = "l")]
    pub level: SpamLevel,
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Seen>,
}

/// What a message was to a recipient's domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    #[serde(rename = "d")]
    pub domain: Domain,
    /// Points that count for this domain alone.
    #[serde(rename = "o", default, skip_serializing_if = "is_zero")]
    pub own: f32,
    #[serde(rename = "l")]
    pub level: SpamLevel,
    /// The word of its decision.
    #[serde(rename = "a")]
    pub decision: String,
}

// serde hands it a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(points: &f32) -> bool {
    *points == 0.0
}

impl Vector {
    /// Of a message just judged; `decided` completes it.
    pub fn judged(envelope: &Envelope, at: Timestamp, assessment: &Assessment) -> Vector {
        let of = |kind: Kind| {
            let fired = assessment.fired.iter().filter(|fired| fired.kind == kind).take(FIRED_MAX);
            fired.map(|fired| (fired.rule.clone(), fired.points)).collect()
        };
        Vector {
            id: envelope.id,
            at,
            author: assessment.author.clone(),
            client: network(envelope),
            rules: of(Kind::Rule),
            shadow: of(Kind::Shadow),
            others: of(Kind::Other),
            tokens: assessment.tokens,
            score: assessment.score,
            level: assessment.level,
            domains: Vec::new(),
        }
    }

    /// What each recipient's domain made of it; one decision for each recipient.
    pub fn decided(&mut self, envelope: &Envelope, judgement: &Judgement, decisions: &[Decision]) {
        for (recipient, decision) in envelope.recipients.iter().zip(decisions) {
            let Some(domain) = recipient.address.domain() else { continue };
            if self.domains.len() >= DOMAINS_MAX || self.domains.iter().any(|seen| seen.domain == *domain) {
                continue;
            }
            let own = judgement.domains.iter().filter(|own| own.domain == *domain).flat_map(|own| &own.hits);
            let own = rounded(own.map(|hit| hit.points).sum());
            let (_, level) = judgement.seen_by(Some(domain));
            self.domains.push(Seen { domain: domain.clone(), own, level, decision: decision.as_str().to_owned() });
        }
    }

    /// All that hit, before caps.
    pub fn fired(&self) -> Vec<Fired> {
        let of = |list: &[(String, f32)], kind: Kind| -> Vec<Fired> {
            list.iter().map(|(rule, points)| Fired { rule: rule.clone(), points: *points, kind }).collect()
        };
        [of(&self.rules, Kind::Rule), of(&self.shadow, Kind::Shadow), of(&self.others, Kind::Other)].concat()
    }
}

fn network(envelope: &Envelope) -> IpNet {
    let address = envelope.client.address.to_canonical();
    let length = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new(address, length).map_or_else(|_| IpNet::from(address), |network| network.trunc())
}
