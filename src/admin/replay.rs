//! A change to the rules, rehearsed for an operator: on what is kept of judged mail, and on the messages that are still here.
//!
//! Nothing is changed, whatever is found. Every answer is bounded; the messages of the queue are judged a piece at a time, and who
//! asks goes on where the last piece ended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::operations::{OperationError, Operations};
use super::selection::duration;
use crate::mail::{Domain, Judgement, QueueId, Timestamp};
use crate::queue::Selector;
use crate::spam::{Change, Engine, Facts, Rehearsal, Replay, RuleFile, RuleSources, Thresholds, Vector};
use crate::store::Entry;

/// Messages looked at in one answer: some weeks of a busy gateway.
const VECTORS_MAX: u64 = 5_000_000;
/// Vectors read at a time.
const VECTORS_PIECE: usize = 2_000;
/// Messages of the queue that are judged for one answer.
const QUEUE_PIECE: usize = 200;
const EXAMPLES_MAX: usize = 1_000;

/// What to rehearse.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayOrder {
    /// How far back, with its unit: `7d`.
    pub since: String,
    /// What other domains would see does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// Examples shown.
    #[serde(default)]
    pub examples: usize,
    /// Other rules altogether.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RuleSources>,
    /// Another local layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<Vec<RuleFile>>,
    /// Other points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<(String, f32)>,
    #[serde(default)]
    pub levels: Levels,
    /// For the queue: where the last piece ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<QueueId>,
}

/// Thresholds that are others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Levels {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f32>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replayed {
    pub replay: Replay,
    /// There was more to look at: only the oldest messages of the time asked for were.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Of the queue: where to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<QueueId>,
    /// Of the queue: messages that could not be read, or are not judged yet.
    #[serde(default)]
    pub left_out: u64,
}

impl ReplayOrder {
    /// The rules to rehearse.
    fn engine(&self, before: &Engine) -> Result<Engine, OperationError> {
        let wrong = |errors: crate::spam::RuleErrors| OperationError::Invalid(errors.to_string());
        let engine = match (&self.rules, &self.local) {
            (Some(rules), _) => Engine::from_sources(rules.clone()).map_err(wrong)?,
            (None, Some(local)) => {
                Engine::from_sources(RuleSources { local: local.clone(), ..before.sources().clone() }).map_err(wrong)?
            }
            (None, None) => before.clone(),
        };
        let Thresholds { low, med, high } = engine.levels();
        let Levels { low: new_low, med: new_med, high: new_high } = self.levels;
        let levels = Thresholds { low: new_low.unwrap_or(low), med: new_med.unwrap_or(med), high: new_high.unwrap_or(high) };
        let levels = (levels != engine.levels()).then_some(levels);
        engine.changed(&Change { points: self.points.clone(), levels }).map_err(wrong)
    }

    /// Compiling rules takes a moment.
    async fn rehearsal(self: &Arc<Self>, before: Arc<Engine>) -> Result<(Rehearsal, Engine), OperationError> {
        let order = Arc::clone(self);
        let prepare = move || {
            let after = order.engine(&before)?;
            let examples = order.examples.min(EXAMPLES_MAX);
            Ok((Rehearsal::new((*before).clone(), after.clone(), order.domain.clone(), examples), after))
        };
        tokio::task::spawn_blocking(prepare).await.unwrap_or_else(|error| Err(OperationError::Failed(error.to_string())))
    }

    fn begin(&self, now: Timestamp) -> Result<Timestamp, OperationError> {
        let since = duration(&self.since).map_err(OperationError::Invalid)?;
        Ok(now - since)
    }
}

impl Operations {
    /// On what is kept of judged mail.
    pub async fn spam_replay(&self, order: ReplayOrder) -> Result<Replayed, OperationError> {
        let since = order.begin(self.clock.now())?;
        self.is_served(order.domain.as_ref())?;
        let (mut rehearsal, _) = Arc::new(order).rehearsal((self.engine)()).await?;
        let (mut looked_at, mut after) = (0, None);
        let cut = loop {
            let (vectors, more) = self.store.vectors().since(since, after, VECTORS_PIECE).await;
            looked_at += vectors.len() as u64;
            let add = move || {
                vectors.iter().for_each(|vector| rehearsal.add(vector));
                rehearsal
            };
            let added = tokio::task::spawn_blocking(add).await;
            rehearsal = added.map_err(|error| OperationError::Failed(error.to_string()))?;
            after = more;
            if after.is_none() || looked_at >= VECTORS_MAX {
                break after.is_some();
            }
        };
        Ok(Replayed { replay: rehearsal.finish(), cut, ..Replayed::default() })
    }

    /// On messages of queue and quarantine, judged whole by the other rules: a piece of them.
    pub async fn spam_replay_queue(&self, order: ReplayOrder) -> Result<Replayed, OperationError> {
        self.is_served(order.domain.as_ref())?;
        let after = order.after;
        let selector = Selector { domain: order.domain.clone(), ..Selector::default() };
        let (rehearsal, engine) = Arc::new(order).rehearsal((self.engine)()).await?;
        let (mut rehearsal, engine) = (rehearsal.anew(), Arc::new(engine));
        let entries = self.queue.list(&selector, after, QUEUE_PIECE).await?;
        let mut left_out = 0;
        for entry in &entries {
            match self.judged_anew(entry, &engine).await {
                Some((vector, assessment)) => rehearsal.add_judged(&vector, &assessment),
                None => left_out += 1,
            }
        }
        let after = (entries.len() == QUEUE_PIECE).then(|| entries.last().map(|entry| entry.envelope.id)).flatten();
        Ok(Replayed { replay: rehearsal.finish(), after, left_out, ..Replayed::default() })
    }

    /// `None`: not judged yet, or its content cannot be read.
    async fn judged_anew(&self, entry: &Arc<Entry>, engine: &Arc<Engine>) -> Option<(Vector, crate::spam::Assessment)> {
        let id = entry.envelope.id;
        let judgement = entry.progress.judgement.as_ref()?;
        let vector = match self.store.vectors().get(id).await {
            Some(vector) => vector,
            None => recorded(entry, judgement, &(self.engine)()),
        };
        let content = self.store.body(id).await.ok()?.head(Facts::CONTENT_MAX).await.ok()?;
        let (engine, entry, found) = (Arc::clone(engine), Arc::clone(entry), judgement.authentication.findings.clone());
        let assess = move || engine.assess(&Facts::gather(&entry.envelope, &content).with(&found));
        tokio::task::spawn_blocking(assess).await.ok().map(|assessment| (vector, assessment))
    }

    fn is_served(&self, domain: Option<&Domain>) -> Result<(), OperationError> {
        match domain.filter(|domain| self.config.load().domain(domain).is_none()) {
            Some(domain) => Err(OperationError::Missing(format!("{domain} is not served here"))),
            None => Ok(()),
        }
    }
}

/// A vector from the judgement itself, whose points are after caps.
fn recorded(entry: &Entry, judgement: &Judgement, engine: &Engine) -> Vector {
    let decisions: Vec<_> = entry.progress.recipients.iter().filter_map(|recipient| recipient.decision.clone()).collect();
    let mut vector = Vector::judged(&entry.envelope, judgement.at, &engine.recorded(judgement));
    vector.decided(&entry.envelope, judgement, &decisions);
    vector
}
