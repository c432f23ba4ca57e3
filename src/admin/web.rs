//! The explanation pages: `/why/TOKEN` tells somebody who was turned away what was seen, what DNS says now, and what to publish.
//!
//! For strangers: no login, nothing that changes anything, no script, nothing from elsewhere. A page shows what its case holds
//! ([`crate::checks::Case`]), which is nothing about recipients but the domain written to. Visitors are counted ([`visits`]);
//! DNS is asked for a bounded number of pages in a minute, and each answer is used for a minute. `?again=1` asks anew.
//!
//! On failure: a page that says so. Forged links are 404, those whose case is over 410, too many visits 429.

mod page;
mod visits;
mod words;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use askama::Template;
use axum::Router;
use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::operations::Operations;
use crate::checks::{Case, DnsNow, Found, Sender};
use crate::config::Language;
use crate::mail::Timestamp;
use page::{Notice, POLICY, Page};
use visits::{TooMany, Visits};

/// So long an answer of DNS is used for further looks at a page.
const ANSWER_KEPT: Duration = Duration::from_secs(60);
/// Answers kept; when there are more, all are forgotten.
const ANSWERS_MAX: usize = 1000;

/// The TCP peer of a request.
#[derive(Clone, Copy, Debug)]
pub struct HttpPeer(pub SocketAddr);

/// What the pages need.
struct Web {
    operations: Arc<Operations>,
    visits: Mutex<Visits>,
    /// By token.
    answers: Mutex<HashMap<String, Arc<DnsNow>>>,
}

/// The pages, for the side that strangers may reach.
pub fn router(operations: Arc<Operations>) -> Router {
    let web = Web { operations, visits: Mutex::default(), answers: Mutex::default() };
    Router::new().route("/why/{token}", get(why)).with_state(Arc::new(web))
}

async fn why(
    State(web): State<Arc<Web>>,
    ConnectInfo(HttpPeer(peer)): ConnectInfo<HttpPeer>,
    Path(token): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let operations = &web.operations;
    let config = operations.config.load_full();
    if config.admin.public_url.is_none() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let (visitor, language) = (visitor(peer.ip(), &headers), language(&headers, config.notices.language));
    let hostname = config.hostname.as_str();
    let notice = |notice| answer(operations, language, &Page::notice(notice, language, hostname), notice);
    if web.counted(|visits, now| visits.page(visitor, now)).is_err() {
        return notice(Notice::TooMany);
    }
    let case = match operations.checks.cases.find(&token).await {
        Found::Case(case) => case,
        Found::Gone => return notice(Notice::Gone),
        Found::Forged => return notice(Notice::Forged),
    };
    let again = query.is_some_and(|query| query.split('&').any(|pair| pair == "again=1"));
    let kept = web.answer(&token).filter(|_| !again);
    let now = match kept {
        Some(now) => now,
        None if web.counted(|visits, now| visits.question(visitor, now)).is_err() => return notice(Notice::TooMany),
        None => web.ask(token, &case).await,
    };
    let notice = if again { Notice::Tested } else { Notice::Shown };
    answer(operations, language, &Page::explanation(&case, &now, language, hostname), notice)
}

impl Web {
    fn counted(&self, count: impl FnOnce(&mut Visits, Timestamp) -> Result<(), TooMany>) -> Result<(), TooMany> {
        let now = self.operations.clock.now();
        count(&mut self.visits.lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// What DNS said a moment ago.
    fn answer(&self, token: &str) -> Option<Arc<DnsNow>> {
        let now = self.operations.clock.now();
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(token).filter(|answer| now >= answer.at && now.since(answer.at) < ANSWER_KEPT).cloned()
    }

    async fn ask(&self, token: String, case: &Case) -> Arc<DnsNow> {
        let sender = Sender { client: case.client, helo: &case.helo, domain: case.sender.as_ref() };
        let now = Arc::new(self.operations.checks.cases.ask(&*self.operations.resolver, &sender).await);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS_MAX {
            answers.clear();
        }
        answers.insert(token, Arc::clone(&now));
        now
    }
}

/// Behind a proxy on this machine or a private network, the visitor is whom the proxy names last; what strangers add themselves
/// stands before that.
fn visitor(peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let is_near = match peer.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    };
    let named = || headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok();
    Some(peer).filter(|_| !is_near).or_else(named).unwrap_or(peer)
}

/// English or German, as the browser prefers (RFC 9110 §12.5.4).
fn language(headers: &HeaderMap, default: Language) -> Language {
    let wished = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut best: Option<(f32, Language)> = None;
    for range in wished.split(',') {
        let (tag, quality) = range.split_once(";q=").unwrap_or((range, "1"));
        let quality = quality.trim().parse().unwrap_or(0.0);
        let language = match tag.trim().split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "en" => Language::English,
            "de" => Language::German,
            _ => continue,
        };
        if quality > best.map_or(0.0, |(best, _)| best) {
            best = Some((quality, language));
        }
    }
    match best {
        Some((_, language)) => language,
        // Another language than these two: English is the more widely read.
        None if !wished.trim().is_empty() && wished.trim() != "*" => Language::English,
        None => default,
    }
}

/// The page with its headers: nothing from elsewhere, no script, no frame, no trace in other sites' logs, and not in search engines.
fn answer(operations: &Operations, language: Language, page: &Page, notice: Notice) -> Response {
    operations.metrics.explanation(notice.as_str());
    let Ok(html) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let (status, cache) = match notice {
        // What was seen then never changes; what DNS says now is used for a minute.
        Notice::Shown => (StatusCode::OK, "public, max-age=60"),
        Notice::Tested => (StatusCode::OK, "no-store"),
        Notice::Gone => (StatusCode::GONE, "public, max-age=3600"),
        Notice::Forged => (StatusCode::NOT_FOUND, "no-store"),
        Notice::TooMany => (StatusCode::TOO_MANY_REQUESTS, "no-store"),
    };
    let headers = [
        (header::CACHE_CONTROL, cache),
        (header::VARY, "accept-language"),
        (header::CONTENT_LANGUAGE, words::code(language)),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
    ];
    let mut response = (status, headers, Html(html)).into_response();
    if notice == Notice::TooMany {
        response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("60"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_language_is_the_browsers() {
        let wished = |value: &str| language(&headers("accept-language", &[value]), Language::German);
        assert_eq!(wished("de-AT,de;q=0.9,en;q=0.8"), Language::German);
        assert_eq!(wished("fr-FR, en-GB;q=0.7, de;q=0.3"), Language::English);
        assert_eq!(wished("de;q=0.2,en"), Language::English);
        assert_eq!(wished("fr"), Language::English);
        assert_eq!(wished("de;q=nan,;;,=,en;q=x"), Language::English);
        assert_eq!(wished("*"), Language::German);
        assert_eq!(language(&HeaderMap::new(), Language::German), Language::German);
    }

    #[test]
    fn only_a_near_proxy_says_who_comes() {
        let near: IpAddr = "127.0.0.1".parse().unwrap();
        let far: IpAddr = "198.51.100.9".parse().unwrap();
        let said = |peer, values: &[&str]| visitor(peer, &headers("x-forwarded-for", values)).to_string();
        assert_eq!(said(near, &["203.0.113.1, 192.0.2.4"]), "192.0.2.4");
        assert_eq!(said(near, &["203.0.113.1", "192.0.2.4"]), "192.0.2.4");
        assert_eq!(said(far, &["192.0.2.4"]), "198.51.100.9");
        assert_eq!(said(near, &["nonsense"]), "127.0.0.1");
        assert_eq!(said("::ffff:10.0.0.1".parse().unwrap(), &["2001:db8::1"]), "2001:db8::1");
    }
}
