//! What was found out about a message, and what becomes of it for one recipient.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Authentication, Domain, Reply, SpamLevel, Timestamp};

/// The virus scanner's answer. Only `Clean` lets a message reach delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Clean,
    /// The signature's name, as the scanner gave it.
    Infected(String),
    /// It was looked at but cannot be vouched for: over a limit, or encrypted. The reason, in the scanner's words.
    Unscannable(String),
    /// Nobody looked at it: the scanner is away, too slow or answers nonsense. Never "clean"; ask again later.
    Unavailable(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Clean => f.write_str("clean"),
            Verdict::Infected(name) => write!(f, "infected: {name}"),
            Verdict::Unscannable(why) => write!(f, "unscannable: {why}"),
            Verdict::Unavailable(why) => write!(f, "not scanned: {why}"),
        }
    }
}

/// One rule that matched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleHit {
    /// The rule's id in `rules/*.toml`.
    pub rule: String,
    /// What it added to the score; negative speaks for the message.
    pub points: f32,
    /// What matched, cut to a short printable text; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub evidence: String,
}

impl RuleHit {
    /// A rule in shadow: it adds nothing, and its evidence begins with what it would have added.
    pub fn shadow(rule: String, points: f32, evidence: &str) -> RuleHit {
        RuleHit { rule, points: 0.0, evidence: format!("{SHADOW}{points:+}] {evidence}").trim_end().to_owned() }
    }

    pub fn is_shadow(&self) -> bool {
        self.points == 0.0 && self.evidence.starts_with(SHADOW)
    }
}

/// How the evidence of a rule in shadow begins.
const SHADOW: &str = "[shadow ";

/// All that was found out about a message's content. Never holds [`Verdict::Unavailable`]: without a verdict there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub at: Timestamp,
    pub verdict: Verdict,
    /// The sum of the points.
    pub score: f32,
    pub level: SpamLevel,
    /// Most points first.
    pub hits: Vec<RuleHit>,
    #[serde(default)]
    pub authentication: Authentication,
    /// Where a recipient's domain sees it otherwise: its lists, what it learned, its share of spam.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainJudgement>,
}

/// What a message is to one domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainJudgement {
    pub domain: Domain,
    /// The message's score and the points of `hits`.
    pub score: f32,
    pub level: SpamLevel,
    /// Only what counts for this domain alone, most points first.
    pub hits: Vec<RuleHit>,
}

impl Judgement {
    /// Score and level as this domain sees them.
    pub fn seen_by(&self, domain: Option<&Domain>) -> (f32, SpamLevel) {
        let own = self.domains.iter().find(|own| Some(&own.domain) == domain);
        own.map_or((self.score, self.level), |own| (own.score, own.level))
    }

    /// The whole judgement as this domain sees it, with the hits that count for it alone.
    pub fn as_seen_by(&self, domain: Option<&Domain>) -> Cow<'_, Judgement> {
        let Some(own) = self.domains.iter().find(|own| Some(&own.domain) == domain) else { return Cow::Borrowed(self) };
        let mut hits = [own.hits.clone(), self.hits.clone()].concat();
        hits.sort_by(|one, other| other.points.total_cmp(&one.points));
        Cow::Owned(Judgement { score: own.score, level: own.level, hits, domains: Vec::new(), ..self.clone() })
    }
}

/// What becomes of a message for one recipient: a value with its reason; somebody else acts on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// Deliver as it came, with our `Received` and nothing about the judgement.
    Deliver,
    /// Deliver with the judgement's headers.
    DeliverMarked,
    /// Deliver with the judgement's headers and this text in front of the subject.
    DeliverTagged {
        text: String,
    },
    Quarantine {
        why: String,
    },
    Delete {
        why: String,
    },
    /// Only while the sender still waits.
    Reject {
        reply: Reply,
    },
}

impl Decision {
    /// The word for logs and tables.
    pub fn as_str(&self) -> &'static str {
        match self {
            Decision::Deliver => "deliver",
            Decision::DeliverMarked => "deliver-marked",
            Decision::DeliverTagged { .. } => "deliver-tagged",
            Decision::Quarantine { .. } => "quarantine",
            Decision::Delete { .. } => "delete",
            Decision::Reject { .. } => "reject",
        }
    }
}
