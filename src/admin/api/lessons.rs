//! Lessons over HTTP.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::{Answer, Given, Operator, Shared, to_its_end};
use crate::admin::lessons::{LessonReport, Take};
use crate::admin::operations::Operations;
use crate::flow::LessonStats;
use crate::mail::{Domain, QueueId};
use crate::queue::Mode;
use crate::spam::{Digest, Label, Lesson, Tokens};

/// Of an order, in bytes: a hundred messages with as many tokens as there can be, or a thousand of the usual size.
const ORDER_MAX: usize = 8 * 1024 * 1024;

/// `spam learn`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnOrder {
    pub label: Label,
    /// Absent: for the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    #[serde(default)]
    pub dry_run: bool,
    pub messages: Vec<LearnLine>,
}

/// One message of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnLine {
    pub digest: Digest,
    /// Its hashed tokens.
    pub hashes: Vec<u32>,
}

/// `spam learn --forget`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetOrder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    #[serde(default)]
    pub dry_run: bool,
    pub digests: Vec<Digest>,
}

/// Both, of a message in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnQueued {
    pub id: QueueId,
    /// Absent: forget it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Label>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// Not itself: the messages attached to it.
    #[serde(default)]
    pub attached: bool,
    #[serde(default)]
    pub dry_run: bool,
}

impl From<Lesson> for LearnLine {
    fn from(lesson: Lesson) -> LearnLine {
        LearnLine { digest: lesson.digest, hashes: lesson.tokens.hashes().to_vec() }
    }
}

impl From<LearnLine> for Lesson {
    fn from(line: LearnLine) -> Lesson {
        Lesson { digest: line.digest, tokens: Tokens::from_hashes(line.hashes) }
    }
}

pub(super) fn routes() -> Router<Arc<Operations>> {
    Router::new()
        .route("/v1/lessons", get(stats))
        .route("/v1/lessons/learn", post(learn).layer(DefaultBodyLimit::max(ORDER_MAX)))
        .route("/v1/lessons/forget", post(forget).layer(DefaultBodyLimit::max(ORDER_MAX)))
        .route("/v1/lessons/queued", post(queued))
}

async fn stats(State(operations): Shared) -> Answer<LessonStats> {
    Ok(Json(operations.lessons_stats().await?))
}

async fn learn(State(operations): Shared, Operator(by): Operator, Given(order): Given<LearnOrder>) -> Answer<LessonReport> {
    let LearnOrder { label, domain, dry_run, messages } = order;
    let lessons = messages.into_iter().map(Lesson::from).collect();
    to_its_end(async move { operations.lessons_learn(lessons, label, domain, &by, mode(dry_run)).await }).await
}

async fn forget(State(operations): Shared, Operator(by): Operator, Given(order): Given<ForgetOrder>) -> Answer<LessonReport> {
    let ForgetOrder { domain, dry_run, digests } = order;
    to_its_end(async move { operations.lessons_forget(digests, domain, &by, mode(dry_run)).await }).await
}

async fn queued(State(operations): Shared, Operator(by): Operator, Given(order): Given<LearnQueued>) -> Answer<LessonReport> {
    let LearnQueued { id, label, domain, attached, dry_run } = order;
    let take = if attached { Take::Attached } else { Take::Itself };
    to_its_end(async move { operations.lessons_queued(id, take, label, domain, &by, mode(dry_run)).await }).await
}

fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::DryRun } else { Mode::ForReal }
}
