//! The judgement over HTTP: explained, and changes rehearsed.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::{Answer, Asked, Given, Shared, to_its_end};
use crate::admin::explain::Explained;
use crate::admin::operations::Operations;
use crate::admin::replay::{ReplayOrder, Replayed};
use crate::mail::QueueId;

/// Of an order, in bytes: it may hold whole rule files.
const ORDER_MAX: usize = 32 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    id: QueueId,
}

pub(super) fn routes() -> Router<Arc<Operations>> {
    Router::new()
        .route("/v1/spam/explain", get(explain))
        .route("/v1/spam/replay", post(replay).layer(DefaultBodyLimit::max(ORDER_MAX)))
        .route("/v1/spam/replay/queue", post(replay_queue).layer(DefaultBodyLimit::max(ORDER_MAX)))
}

async fn explain(State(operations): Shared, Asked(query): Asked<ExplainQuery>) -> Answer<Explained> {
    Ok(Json(operations.spam_explain(query.id).await?))
}

async fn replay(State(operations): Shared, Given(order): Given<ReplayOrder>) -> Answer<Replayed> {
    to_its_end(async move { operations.spam_replay(order).await }).await
}

async fn replay_queue(State(operations): Shared, Given(order): Given<ReplayOrder>) -> Answer<Replayed> {
    to_its_end(async move { operations.spam_replay_queue(order).await }).await
}
