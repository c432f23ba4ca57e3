//! Recipients over HTTP.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::{Answer, Asked, Given, LIMIT_DEFAULT, Operator, Shared, to_its_end};
use crate::admin::operations::Operations;
use crate::admin::recipients::{RecipientList, RecipientReport, RecipientVerdict};
use crate::mail::{Address, Domain};

/// Of an order, in bytes: some ten thousand addresses.
const ORDER_MAX: usize = 1024 * 1024;

/// `recipient add`, `remove`, `forget`: addresses; in the first two also patterns with `*`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipients {
    pub addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    domain: Domain,
    limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckQuery {
    address: Address,
}

pub(super) fn routes() -> Router<Arc<Operations>> {
    Router::new()
        .route("/v1/recipients", get(list))
        .route("/v1/recipients/check", get(check))
        .route("/v1/recipients/add", post(add).layer(DefaultBodyLimit::max(ORDER_MAX)))
        .route("/v1/recipients/remove", post(remove).layer(DefaultBodyLimit::max(ORDER_MAX)))
        .route("/v1/recipients/forget", post(forget))
}

async fn list(State(operations): Shared, Asked(query): Asked<ListQuery>) -> Answer<RecipientList> {
    Ok(Json(operations.recipient_list(&query.domain, query.limit.unwrap_or(LIMIT_DEFAULT)).await?))
}

async fn check(State(operations): Shared, Asked(query): Asked<CheckQuery>) -> Answer<RecipientVerdict> {
    Ok(Json(operations.recipient_check(&query.address).await?))
}

async fn add(State(operations): Shared, Operator(by): Operator, Given(which): Given<Recipients>) -> Answer<RecipientReport> {
    to_its_end(async move { operations.recipient_add(which.addresses, &by).await }).await
}

async fn remove(State(operations): Shared, Operator(by): Operator, Given(which): Given<Recipients>) -> Answer<RecipientReport> {
    to_its_end(async move { operations.recipient_remove(which.addresses, &by).await }).await
}

async fn forget(State(operations): Shared, Operator(by): Operator, Given(which): Given<Recipients>) -> Answer<RecipientReport> {
    let forget = async move {
        let mut report = RecipientReport::default();
        for address in which.addresses {
            report.changed += operations.recipient_forget(&address, &by).await?.changed;
        }
        Ok(report)
    };
    to_its_end(forget).await
}
