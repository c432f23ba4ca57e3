//! The operations over HTTP, as JSON: `/v1/…` for the unix socket, `/metrics` and `/healthz` for TCP.
//!
//! This file maps paths to operations and errors to status codes, and decides nothing. Errors are `{"error": "…"}`: 400 the
//! request is not understood, 404 no such message or domain, 409 not possible for this message now, 500 the gateway's trouble.

mod lessons;
mod recipients;
mod spam;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::answers::{BanReport, DomainView, GreylistReport, Message, MessageList, ReloadReport, Status, SteeringReport};
use super::operations::{OperationError, Operations, Selection};
use super::output::printable;
use super::seen::{ClientQuery, Seen};
use super::selection::{any_network, bounce_text, duration, moment, reroute};
use crate::checks::{Ban, GreylistRecord, GreylistStatistics, Identity, LostTry, WhichLost};
use crate::mail::{Address, Domain, QueueId};
use crate::queue::{By, Longer, Mode, Steer};
use crate::spam::Label;
use crate::store::Verification;
use crate::telemetry::Line;

pub use lessons::{ForgetOrder, LearnLine, LearnOrder, LearnQueued};
pub use recipients::Recipients;

/// The header in which the command line says who is asking.
pub const OPERATOR_HEADER: &str = "feedgate-operator";
/// Entries in a list when nothing else is asked for.
pub const LIMIT_DEFAULT: usize = 100;
/// Days in statistics when nothing else is asked for.
const DAYS_DEFAULT: usize = 30;

/// Of a request, in bytes: the largest one is a selection.
const REQUEST_MAX: usize = 16 * 1024;
/// Of an operator's name, in characters.
const OPERATOR_MAX: usize = 64;
/// Of a reason, in characters.
const REASON_MAX: usize = 200;

/// Everything, for the private socket.
pub fn router(operations: Arc<Operations>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/reload", post(reload))
        .route("/v1/queue", get(queue_list))
        .route("/v1/queue/{id}", get(queue_show))
        .route("/v1/queue/retry", post(queue_retry))
        .route("/v1/queue/hold", post(queue_hold))
        .route("/v1/queue/release", post(queue_release))
        .route("/v1/queue/extend", post(queue_extend))
        .route("/v1/queue/reroute", post(queue_reroute))
        .route("/v1/queue/bounce", post(queue_bounce))
        .route("/v1/queue/drop", post(queue_drop))
        .route("/v1/queue/verify", post(queue_verify))
        .route("/v1/quarantine", get(quarantine_list))
        .route("/v1/quarantine/release", post(quarantine_release))
        .route("/v1/quarantine/delete", post(quarantine_delete))
        .route("/v1/domains", get(domain_list))
        .route("/v1/domains/{domain}", get(domain_show))
        .route("/v1/greylist", get(greylist_list))
        .route("/v1/greylist/stats", get(greylist_stats))
        .route("/v1/greylist/lost", get(greylist_lost))
        .route("/v1/greylist/allow", post(greylist_allow))
        .route("/v1/greylist/forget", post(greylist_forget))
        .route("/v1/bans", get(ban_list))
        .route("/v1/bans/add", post(ban_add))
        .route("/v1/bans/lift", post(ban_lift))
        .merge(lessons::routes())
        .merge(recipients::routes())
        .merge(spam::routes())
        .route("/v1/check-client", get(check_client))
        .route("/v1/trace", get(trace))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "no such operation"))
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(DefaultBodyLimit::max(REQUEST_MAX))
        .with_state(operations)
}

/// What monitoring may see: numbers, and whether mail is taken. Nothing about messages, nothing that changes anything.
pub fn health_router(operations: Arc<Operations>) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(healthz)).with_state(operations)
}

/// A page of a list, and what to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<QueueId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Address>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_than: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<QueueId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl ListQuery {
    fn selection(self) -> Selection {
        let ListQuery { id, domain, sender, recipient, state, older_than, newer_than, after: _, limit: _ } = self;
        Selection { id, domain, sender, recipient, state, older_than, newer_than, all: false }
    }
}

/// How a steering is meant: in the query of its request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manner {
    /// Why: kept with every message.
    #[serde(default)]
    pub reason: String,
    /// Say what would change, and change nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Of what leaves quarantine: learned as this for the recipients' domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learn: Option<Label>,
}

/// `queue extend`: exactly one of the three beside the selection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extend {
    pub selection: Selection,
    /// With its unit: `5d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longer: Option<String>,
    /// A date, or a moment as RFC 3339 writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Ends what was granted to the domain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clear: bool,
}

/// `queue reroute`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    pub selection: Selection,
    /// `203.0.113.5:2525`, `mail2.customer.example`; absent: to its domain's own servers again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// `queue bounce`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refuse {
    pub selection: Selection,
    /// What the sender is told.
    pub text: String,
}

/// `greylist allow`, `greylist forget`: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whom {
    /// An address that stands for its network (/24, /64).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<IpAddr>,
    /// A domain of an organisation, which is meant with all its hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<Domain>,
}

impl Whom {
    fn identity(&self) -> Result<Identity, Problem> {
        match (self.network, &self.organisation) {
            (Some(address), None) => Ok(Identity::of_address(address)),
            (None, Some(domain)) => Ok(Identity::of_domain(domain)),
            _ => Err(misunderstood("whom? Give exactly one of network and organisation".to_owned())),
        }
    }
}

/// `ban add`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BanOrder {
    /// An address, or a network.
    pub network: String,
    /// With its unit: `1h`.
    #[serde(rename = "for")]
    pub length: String,
    #[serde(default)]
    pub reason: String,
}

/// `ban lift`: one of the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftOrder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceQuery {
    of: String,
    limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitQuery {
    limit: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct DaysQuery {
    days: Option<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LostQuery {
    limit: Option<usize>,
    #[serde(default)]
    all: bool,
}

type Shared = State<Arc<Operations>>;
type Answer<T> = Result<Json<T>, Problem>;

async fn status(State(operations): Shared) -> Answer<Status> {
    Ok(Json(operations.status().await?))
}

async fn reload(State(operations): Shared, Operator(by): Operator) -> Answer<ReloadReport> {
    to_its_end(async move { operations.reload(&by).await }).await
}

async fn queue_list(State(operations): Shared, Asked(query): Asked<ListQuery>) -> Answer<MessageList> {
    let (after, limit) = (query.after, query.limit.unwrap_or(LIMIT_DEFAULT));
    Ok(Json(operations.queue_list(&query.selection(), after, limit).await?))
}

async fn queue_show(State(operations): Shared, Path(id): Path<String>) -> Answer<Message> {
    let id = id.parse::<QueueId>().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(Json(operations.queue_show(id).await?))
}

async fn queue_retry(State(operations): Shared, how: How, Given(which): Given<Selection>) -> Answer<SteeringReport> {
    steer(operations, Steer::Retry, which, how).await
}

async fn queue_hold(State(operations): Shared, how: How, Given(which): Given<Selection>) -> Answer<SteeringReport> {
    steer(operations, Steer::Hold, which, how).await
}

async fn queue_release(State(operations): Shared, how: How, Given(which): Given<Selection>) -> Answer<SteeringReport> {
    steer(operations, Steer::Release, which, how).await
}

async fn queue_extend(State(operations): Shared, how: How, Given(extend): Given<Extend>) -> Answer<SteeringReport> {
    let How { by, mode, learn: _ } = how;
    let Extend { selection, longer, until, clear } = extend;
    let longer = match (longer, until, clear) {
        (Some(longer), None, false) => duration(&longer).map(Longer::By),
        (None, Some(until), false) => moment(&until).map(Longer::Until),
        (None, None, true) => {
            return to_its_end(async move { operations.queue_extend_clear(&selection, by, mode).await }).await;
        }
        _ => Err("by how much? Give exactly one of longer, until, and clear".to_owned()),
    };
    let longer = longer.map_err(misunderstood)?;
    to_its_end(async move { operations.queue_extend(&selection, longer, by, mode).await }).await
}

async fn queue_reroute(State(operations): Shared, how: How, Given(elsewhere): Given<Elsewhere>) -> Answer<SteeringReport> {
    let to = elsewhere.to.as_deref().map(reroute).transpose().map_err(misunderstood)?;
    steer(operations, Steer::Reroute(to), elsewhere.selection, how).await
}

async fn queue_bounce(State(operations): Shared, how: How, Given(refuse): Given<Refuse>) -> Answer<SteeringReport> {
    let text = bounce_text(&refuse.text).map_err(misunderstood)?;
    steer(operations, Steer::Bounce(text), refuse.selection, how).await
}

async fn queue_drop(State(operations): Shared, how: How, Given(which): Given<Selection>) -> Answer<SteeringReport> {
    steer(operations, Steer::Drop, which, how).await
}

async fn steer(operations: Arc<Operations>, steer: Steer, which: Selection, how: How) -> Answer<SteeringReport> {
    to_its_end(async move { operations.queue_steer(steer, &which, how.by, how.mode).await }).await
}

fn misunderstood(why: String) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, why)
}

async fn queue_verify(State(operations): Shared) -> Answer<Verification> {
    Ok(Json(operations.queue_verify().await?))
}

async fn quarantine_list(State(operations): Shared, Asked(query): Asked<ListQuery>) -> Answer<MessageList> {
    let (after, limit) = (query.after, query.limit.unwrap_or(LIMIT_DEFAULT));
    Ok(Json(operations.quarantine_list(&query.selection(), after, limit).await?))
}

async fn quarantine_release(State(operations): Shared, how: How, Given(which): Given<Selection>) -> Answer<SteeringReport> {
    leave_quarantine(operations, Steer::ReleaseQuarantined, which, how).await
}

async fn quarantine_delete(State(operations): Shared, how: How, Given(which): Given<Selection>) -> Answer<SteeringReport> {
    leave_quarantine(operations, Steer::DeleteQuarantined, which, how).await
}

async fn leave_quarantine(operations: Arc<Operations>, steer: Steer, which: Selection, how: How) -> Answer<SteeringReport> {
    let How { by, mode, learn } = how;
    to_its_end(async move { operations.leave_quarantine(steer, &which, by, mode, learn).await }).await
}

async fn domain_list(State(operations): Shared) -> Answer<Vec<DomainView>> {
    Ok(Json(operations.domain_list().await?))
}

async fn domain_show(State(operations): Shared, Path(domain): Path<String>) -> Answer<DomainView> {
    let domain = domain.parse::<Domain>().map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(Json(operations.domain_show(&domain).await?))
}

async fn greylist_list(State(operations): Shared, Asked(query): Asked<LimitQuery>) -> Answer<Vec<GreylistRecord>> {
    Ok(Json(operations.greylist_list(query.limit.unwrap_or(LIMIT_DEFAULT)).await?))
}

async fn greylist_stats(State(operations): Shared, Asked(query): Asked<DaysQuery>) -> Answer<GreylistStatistics> {
    to_its_end(async move { operations.greylist_stats(query.days.unwrap_or(DAYS_DEFAULT)).await }).await
}

async fn greylist_lost(State(operations): Shared, Asked(query): Asked<LostQuery>) -> Answer<Vec<LostTry>> {
    let which = if query.all { WhichLost::All } else { WhichLost::Plausible };
    to_its_end(async move { operations.greylist_lost(which, query.limit.unwrap_or(LIMIT_DEFAULT)).await }).await
}

async fn greylist_allow(State(operations): Shared, Operator(by): Operator, Given(whom): Given<Whom>) -> Answer<GreylistReport> {
    let identity = whom.identity()?;
    to_its_end(async move { operations.greylist_allow(identity, &by).await }).await
}

async fn greylist_forget(State(operations): Shared, Operator(by): Operator, Given(whom): Given<Whom>) -> Answer<GreylistReport> {
    let identity = whom.identity()?;
    to_its_end(async move { operations.greylist_forget(identity, &by).await }).await
}

async fn ban_list(State(operations): Shared, Asked(query): Asked<LimitQuery>) -> Answer<Vec<Ban>> {
    Ok(Json(operations.ban_list(query.limit.unwrap_or(LIMIT_DEFAULT)).await?))
}

async fn ban_add(State(operations): Shared, Operator(by): Operator, Given(order): Given<BanOrder>) -> Answer<Ban> {
    let network = any_network(&order.network).map_err(misunderstood)?;
    let length = duration(&order.length).map_err(misunderstood)?;
    let reason: String = printable(&order.reason).chars().take(REASON_MAX).collect();
    to_its_end(async move { operations.ban_add(network, length, &reason, &by).await }).await
}

async fn ban_lift(State(operations): Shared, Operator(by): Operator, Given(order): Given<LiftOrder>) -> Answer<BanReport> {
    let network = match (order.network, order.all) {
        (Some(network), false) => Some(any_network(&network).map_err(misunderstood)?),
        (None, true) => None,
        _ => return Err(misunderstood("which? Give exactly one of network and all".to_owned())),
    };
    to_its_end(async move { operations.ban_lift(network, &by).await }).await
}

async fn check_client(State(operations): Shared, Asked(query): Asked<ClientQuery>) -> Answer<Seen> {
    Ok(Json(operations.check_client(query).await?))
}

async fn trace(State(operations): Shared, Asked(query): Asked<TraceQuery>) -> Answer<Vec<Line>> {
    Ok(Json(operations.trace(query.of.trim(), query.limit.unwrap_or(LIMIT_DEFAULT)).await?))
}

async fn metrics(State(operations): Shared) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], operations.metrics_text())
}

async fn healthz(State(operations): Shared) -> impl IntoResponse {
    let health = operations.health();
    (if health.healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(health))
}

/// An operator who hangs up while a steering runs must not stop it between two messages: it runs in a task of its own.
async fn to_its_end<T: Serialize + Send + 'static>(
    operation: impl Future<Output = Result<T, OperationError>> + Send + 'static,
) -> Answer<T> {
    match tokio::spawn(operation).await {
        Ok(answer) => Ok(Json(answer?)),
        Err(broken) => {
            tracing::error!(%broken, "an operation for an operator broke off");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the operation broke off; the log says why"))
        }
    }
}

/// An error as the API writes it.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    text: String,
}

/// The body of every error.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProblemBody {
    pub error: String,
}

impl Problem {
    fn new(status: StatusCode, text: impl Into<String>) -> Problem {
        Problem { status, text: text.into() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(ProblemBody { error: self.text })).into_response()
    }
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Problem {
        let status = match &error {
            OperationError::Invalid(_) => StatusCode::BAD_REQUEST,
            OperationError::Missing(_) => StatusCode::NOT_FOUND,
            OperationError::Refused(_) => StatusCode::CONFLICT,
            OperationError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error.to_string())
    }
}

/// A query string, with our form of error.
struct Asked<T>(T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Problem> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Asked(query)).map_err(|error: QueryRejection| Problem::new(error.status(), error.body_text()))
    }
}

/// A request's JSON, with our form of error.
struct Given<T>(T);

impl<S: Send + Sync, T: serde::de::DeserializeOwned> FromRequest<S> for Given<T> {
    type Rejection = Problem;
    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Given<T>, Problem> {
        let json = Json::<T>::from_request(request, state).await;
        json.map(|Json(json)| Given(json)).map_err(|error: JsonRejection| Problem::new(error.status(), error.body_text()))
    }
}

/// Who connected to the socket, as the kernel knows it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub uid: Option<u32>,
}

/// Who asks: what the command line says, and what the kernel knows. The name is a courtesy among people who all may do
/// everything; the uid is certain.
struct Operator(String);

impl<S: Send + Sync> FromRequestParts<S> for Operator {
    type Rejection = std::convert::Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Operator, Self::Rejection> {
        let name = parts.headers.get(OPERATOR_HEADER).map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        let uid = parts.extensions.get::<ConnectInfo<Peer>>().and_then(|ConnectInfo(peer)| peer.uid);
        Ok(Operator(operator(name.as_deref(), uid)))
    }
}

/// Who steers, why, and whether for real.
struct How {
    by: By,
    mode: Mode,
    learn: Option<Label>,
}

impl<S: Send + Sync> FromRequestParts<S> for How {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<How, Problem> {
        let Ok(Operator(name)) = Operator::from_request_parts(parts, state).await;
        let Asked(Manner { reason, dry_run, learn }) = Asked::<Manner>::from_request_parts(parts, state).await?;
        let reason = printable(reason.trim()).chars().take(REASON_MAX).collect();
        let mode = if dry_run { Mode::DryRun } else { Mode::ForReal };
        Ok(How { by: By { name, reason }, mode, learn })
    }
}

fn operator(name: Option<&str>, uid: Option<u32>) -> String {
    let name = name.map(|name| printable(name.trim()).chars().take(OPERATOR_MAX).collect::<String>()).unwrap_or_default();
    let name = if name.is_empty() { "unknown".to_owned() } else { name };
    match uid {
        Some(uid) => format!("{name} (uid {uid})"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_name_is_cleaned_and_bounded() {
        assert_eq!(operator(Some(" alice "), Some(0)), "alice (uid 0)");
        assert_eq!(operator(None, Some(1000)), "unknown (uid 1000)");
        assert_eq!(operator(Some("a\u{1b}[2Jb"), None), "a\\u{1b}[2Jb");
        assert_eq!(operator(Some(&"x".repeat(500)), None).len(), OPERATOR_MAX);
    }
}
