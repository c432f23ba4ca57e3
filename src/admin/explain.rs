//! A judgement explained to an operator: what counted, and which setting of which domain made what of it.
//!
//! Of a message that is still here, what was recorded with it is explained; of one that is gone, what the history of judgements
//! keeps. Nothing is judged again: what was decided then is what has to be explained.

use serde::{Deserialize, Serialize};

use super::operations::{OperationError, Operations};
use crate::config::Config;
use crate::mail::{Action, Decision, Domain, Judgement, QueueId, RuleHit, SpamLevel, Timestamp};
use crate::spam::{Engine, Explanation, Fired, Kind, Layer, Vector};
use crate::store::StoreError;

/// Of the mail log of a message that is gone.
const LINES_READ: usize = 200;

/// `spam explain`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// The message: a queue id, or a file.
    pub message: String,
    /// When it was judged.
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Domain>,
    pub explanation: Explanation,
    /// The token model's log-odds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<f32>,
    /// What each recipient's domain made of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<DomainExplained>,
    /// The mail log's line, of a message that is gone: it has what the rules saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// What to know about this explanation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What one domain made of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainExplained {
    pub domain: Domain,
    pub score: f32,
    pub level: SpamLevel,
    /// The chance that mail with this score is spam, with the domain's share of spam, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f32>,
    /// What counts for this domain alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<RuleHit>,
    /// The word of the decision.
    pub decision: String,
    /// Its reason, where it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The setting that counts now, and whose it is.
    pub setting: String,
    /// What would change it, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<String>,
}

impl Operations {
    pub async fn spam_explain(&self, id: QueueId) -> Result<Explained, OperationError> {
        let engine = (self.engine)();
        let vector = self.store.vectors().get(id).await;
        match self.store.entry(id).await {
            Ok(entry) => {
                let Some(judgement) = &entry.progress.judgement else {
                    return Err(OperationError::Refused(format!("{id} is not judged yet: it waits for the virus scanner")));
                };
                let decisions = entry.progress.recipients.iter().map(|recipient| recipient.decision.clone());
                let decided = entry.envelope.recipients.iter().zip(decisions);
                let decided = decided.filter_map(|(recipient, decision)| Some((recipient.address.domain()?.clone(), decision?)));
                Ok(of_judgement(&engine, &self.config.load(), id, judgement, vector.as_ref(), decided.collect()))
            }
            Err(StoreError::NotFound) => {
                let missing = || {
                    let text = format!(
                        "{id} is not in the queue, and its judgement is not known: never judged, or longer ago than queue.history keeps"
                    );
                    OperationError::Missing(text)
                };
                let mut explained = of_vector(&engine, &self.config.load(), &vector.ok_or_else(missing)?);
                let lines = self.history.trace(&id.to_string(), LINES_READ).await;
                explained.line = lines.into_iter().rev().find(|line| line.what == "judged").map(|line| line.text);
                Ok(explained)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn of_judgement(
    engine: &Engine,
    config: &Config,
    id: QueueId,
    judgement: &Judgement,
    vector: Option<&Vector>,
    decided: Vec<(Domain, Decision)>,
) -> Explained {
    let fired = vector.map(Vector::fired);
    let explanation = Explanation::new(engine, judgement.score, judgement.level, &judgement.hits, fired.as_deref());
    let author = vector.and_then(|vector| vector.author.clone());
    let mut domains: Vec<DomainExplained> = Vec::new();
    for (domain, decision) in decided {
        if domains.iter().any(|known| known.domain == domain) {
            continue;
        }
        let own = judgement.domains.iter().find(|own| own.domain == domain).map(|own| own.hits.clone()).unwrap_or_default();
        let (score, level) = judgement.seen_by(Some(&domain));
        let why = match &decision {
            Decision::Quarantine { why } | Decision::Delete { why } => why.clone(),
            Decision::Reject { reply } => reply.to_string(),
            Decision::DeliverTagged { text } => text.trim().to_owned(),
            Decision::Deliver | Decision::DeliverMarked => String::new(),
        };
        let turns = turns(config, &domain, author.as_ref(), level);
        let (setting, decision) = (setting(config, &domain, level), decision.as_str().to_owned());
        domains.push(DomainExplained { domain, score, level, chance: engine.chance(score), own, decision, why, setting, turns });
    }
    let tokens = vector.and_then(|vector| vector.tokens);
    Explained { message: id.to_string(), at: judgement.at, author, explanation, tokens, domains, line: None, notes: Vec::new() }
}

/// The message is gone: what its vector tells.
fn of_vector(engine: &Engine, config: &Config, vector: &Vector) -> Explained {
    let fired = vector.fired();
    let hits = counted(engine, &fired);
    let mut notes = vec!["the message is gone; this is what was kept of its judgement".to_owned()];
    let (score, level) = engine.recount(&fired);
    if (score, level) != (vector.score, vector.level) {
        notes.push("the rules were changed since: points are those of then, before caps".to_owned());
    }
    let domains = vector.domains.iter().map(|seen| DomainExplained {
        domain: seen.domain.clone(),
        score: vector.score + seen.own,
        level: seen.level,
        chance: engine.chance(vector.score + seen.own),
        own: Vec::new(),
        decision: seen.decision.clone(),
        why: String::new(),
        setting: setting(config, &seen.domain, seen.level),
        turns: turns(config, &seen.domain, vector.author.as_ref(), seen.level),
    });
    Explained {
        message: vector.id.to_string(),
        at: vector.at,
        author: vector.author.clone(),
        explanation: Explanation::new(engine, vector.score, vector.level, &hits, Some(&fired)),
        tokens: vector.tokens,
        domains: domains.collect(),
        line: None,
        notes,
    }
}

/// Hits with what each added, or with its points before caps where other rules judged it.
fn counted(engine: &Engine, fired: &[Fired]) -> Vec<RuleHit> {
    let counted = engine.counted(fired);
    let hit = |(fired, points): (&Fired, f32)| match fired.kind {
        Kind::Shadow => RuleHit::shadow(fired.rule.clone(), fired.points, ""),
        Kind::Rule | Kind::Other => RuleHit { rule: fired.rule.clone(), points, evidence: String::new() },
    };
    let mut hits: Vec<RuleHit> = fired.iter().zip(counted).map(hit).collect();
    hits.sort_by(|one, other| other.points.total_cmp(&one.points));
    hits
}

/// Which setting decides what becomes of a level, in words.
fn setting(config: &Config, domain: &Domain, level: SpamLevel) -> String {
    let Some(settings) = config.domain(domain) else { return format!("{domain} is not served (any more): delivered as it came") };
    let whose = |key: &str| match settings.origins.layer(key) {
        None => "the default".to_owned(),
        Some(Layer::Platform) => format!("the platform's, in {}", settings.origins.main().display()),
        Some(Layer::Domain) => format!("the domain's own, in {}", settings.file.display()),
    };
    if !settings.spam.enabled {
        return format!("spam.enabled = false ({}): spam is not judged for it", whose("spam.enabled"));
    }
    let Some(policy) = settings.spam.at(level) else { return "level none: delivered with headers".to_owned() };
    let key = format!("spam.{level}");
    format!("{key} = \"{}\" ({})", policy.action, whose(&key))
}

fn turns(config: &Config, domain: &Domain, author: Option<&Domain>, level: SpamLevel) -> Vec<String> {
    let policy = config.domain(domain).filter(|settings| settings.spam.enabled).and_then(|settings| settings.spam.at(level));
    match (policy, author) {
        (Some(policy), Some(author)) if policy.action != Action::None => {
            vec![format!("an allow entry for {author} would deliver it to {domain}")]
        }
        _ => Vec::new(),
    }
}
