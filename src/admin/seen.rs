//! `feedgate check-client`: what the gateway thinks of a client at this moment, question by question, as the door asks them: what
//! is seen, what that is, and what it means by the settings in force.
//!
//! It asks what a session asks, with the same caches, and remembers nothing: no first try is recorded, nothing is counted against
//! anybody. Each source fills rows of its own; a question that cannot be answered has a row that says so.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::operations::{OperationError, Operations};
use crate::checks::{Answer, ClientReport, DnsNow, Existence, ListAnswer, Newcomer, Sender, Spf, SpfProof, SpfResult};
use crate::config::{CheckMode, CheckModes, Config, DomainConfig, Greylisting};
use crate::mail::{Address, Client, Domain, Enhanced, Protocol, Reply, ReversePath};

/// First tries that are looked through for this client.
const GREYLIST_READ: usize = 10_000;

/// About whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientQuery {
    pub client: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
    /// Empty: the null sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Address>,
}

/// The whole reasoning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub rows: Vec<Row>,
    /// What such a client would be answered, as far as it was asked about.
    pub answer: String,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub question: String,
    /// As it was found, in DNS or here; may be strangers' words.
    pub seen: String,
    /// `ok`, `bad`, `unknown`, or `-` where nothing is right or wrong.
    pub result: String,
    /// By the settings in force: nothing, points, or a reply.
    pub meaning: String,
}

impl Seen {
    fn row(&mut self, question: &str, seen: impl Into<String>, result: Is, meaning: impl Into<String>) {
        let (question, result) = (question.to_owned(), result.as_str().to_owned());
        self.rows.push(Row { question, seen: seen.into(), result, meaning: meaning.into() });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Ok,
    Bad,
    Unknown,
    Neither,
}

impl Is {
    fn as_str(self) -> &'static str {
        match self {
            Is::Ok => "ok",
            Is::Bad => "bad",
            Is::Unknown => "unknown",
            Is::Neither => "-",
        }
    }

    fn of(is_good: Option<bool>) -> Is {
        match is_good {
            Some(true) => Is::Ok,
            Some(false) => Is::Bad,
            None => Is::Unknown,
        }
    }
}

impl Operations {
    pub async fn check_client(&self, query: ClientQuery) -> Result<Seen, OperationError> {
        let config = self.config.load_full();
        let from: Option<ReversePath> = query
            .from
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| OperationError::Invalid(format!("from: {error}")))?;
        let domain = query.to.as_ref().and_then(|to| config.domain(to.domain()?));
        let modes = domain.map_or(config.checks.modes, |domain| domain.checks);
        let client = client(&query);
        let sender = from.as_ref().and_then(|from| from.address()).and_then(|address| address.domain());
        let sender = Sender { client: client.address, helo: &client.helo, domain: sender };
        let spf = async {
            match &from {
                Some(from) => Some(self.checks.authenticator.spf(client.address, &client.helo, from).await),
                None => None,
            }
        };
        let (report, now, spf) = tokio::join!(
            self.checks.clients.report(&config, client.address, &client.helo),
            self.checks.cases.ask(&*self.resolver, &sender),
            spf,
        );
        let report = report.under(&[modes]);
        let mut seen = Seen::default();
        let is_allowed = config.allows(client.address);
        if is_allowed {
            seen.row("limits.allow", "its network is in it", Is::Ok, "no checks, no limits, no greylisting");
        }
        let banned = self.ban_row(&mut seen, &client).filter(|_| !is_allowed);
        names(&mut seen, &now, &client, &modes);
        findings(&mut seen, &report);
        lists(&mut seen, &report);
        records(&mut seen, &now);
        spf_row(&mut seen, spf.as_ref());
        let unwelcome = report.refusal(&modes, &client).filter(|_| !is_allowed);
        let unknown = self.recipient_rows(&mut seen, &config, query.to.as_ref()).await;
        let asked = Asked { client: &client, report: &report, spf: spf.as_ref(), from: from.as_ref(), to: query.to.as_ref() };
        let greylisted = self.greylist_rows(&mut seen, &config, asked, domain).await.filter(|_| !is_allowed);
        let refusal = banned.or(unwelcome).or(unknown).or(greylisted);
        seen.answer = refusal.unwrap_or_else(|| Reply::new(250, Enhanced(2, 1, 5), "Ok")).to_string();
        Ok(seen)
    }

    /// Whether the client is banned; the reply, when it is.
    fn ban_row(&self, seen: &mut Seen, client: &Client) -> Option<Reply> {
        match self.checks.limiter.ban_of(client.address, self.clock.now()) {
            Some(ban) => {
                let reply = Reply::banned();
                seen.row("ban", format!("{} until {}: {}", ban.network, ban.until, ban.why), Is::Bad, reply.to_string());
                Some(reply)
            }
            None => {
                seen.row("ban", "none", Is::Ok, "");
                if self.checks.limiter.knows(client.address, self.clock.now()) {
                    seen.row("known client", "mail of it was taken in the last weeks", Is::Ok, "no wait before the banner");
                }
                None
            }
        }
    }

    /// What greylisting remembers of the client, and what it would say to this sender and recipient; the reply, when it would ask
    /// to come back. As far as it was asked about: without a recipient there are no settings.
    async fn greylist_rows(
        &self,
        seen: &mut Seen,
        config: &Config,
        asked: Asked<'_>,
        domain: Option<&DomainConfig>,
    ) -> Option<Reply> {
        let now = self.clock.now();
        let client = asked.client;
        let organisation = asked.report.name.as_ref().filter(|_| asked.report.confirmed).map(Domain::organisation);
        let is_its = |whose: &str| {
            whose.parse::<IpNet>().is_ok_and(|network| network.contains(&client.address))
                || organisation.as_ref().is_some_and(|organisation| organisation.as_str() == whose)
        };
        let records = self.checks.greylist.list(now, GREYLIST_READ).await;
        let known: Vec<_> = records.iter().filter(|record| is_its(&record.network)).collect();
        for record in &known {
            let tries = format!("{} {}, tries: {}, last {}", record.state, record.network, record.attempts, record.last_seen);
            let result = if record.state == "waiting" { Is::Neither } else { Is::Ok };
            seen.row("greylist knows", tries, result, "");
        }
        if known.is_empty() {
            seen.row("greylist knows", "nothing of it", Is::Neither, "");
        }
        let (Some(from), Some(to), Some(domain)) = (asked.from, asked.to, domain) else {
            seen.row("greylist", "not asked (--from and --to)", Is::Neither, "");
            return None;
        };
        if domain.greylist == Greylisting::Off {
            seen.row("greylist", "off for this domain", Is::Neither, "");
            return None;
        }
        let newcomer = Newcomer::new(client, asked.report, from, to, domain.greylist);
        let spf = asked.spf.map_or(SpfProof::Unknown, |spf| SpfProof::of(spf.result.as_str()));
        match self.checks.greylist.would_pass(&config.greylist, &newcomer, spf, now).await {
            Some(why) => {
                seen.row("greylist", why.as_str(), Is::Ok, "");
                None
            }
            None => {
                let reply = Reply::greylisted(config.greylist.delay.as_secs());
                seen.row("greylist", "new here, or it has not come back yet", Is::Neither, reply.to_string());
                Some(reply)
            }
        }
    }

    /// Whether mail for the recipient is taken here, and whether it exists.
    async fn recipient_rows(&self, seen: &mut Seen, config: &Arc<Config>, to: Option<&Address>) -> Option<Reply> {
        let to = to?;
        let Some(domain) = to.domain().filter(|domain| config.domain(domain).is_some()) else {
            let reply = Reply::not_served();
            seen.row("recipient", format!("{} is not served here", to.host()), Is::Bad, reply.to_string());
            return Some(reply);
        };
        let existence = self.checks.recipients.exists(config, to, self.queue.is_away(domain)).await;
        let (is, reply) = match &existence {
            Existence::Exists(_) => (Is::Ok, None),
            Existence::Unknown(_) => (Is::Bad, Some(Reply::no_such_recipient(to))),
            Existence::NotYet(_) => (Is::Unknown, Some(Reply::recipient_not_known_yet(to))),
        };
        let meaning = reply.as_ref().map_or("taken".to_owned(), Reply::to_string);
        seen.row("recipient", format!("{to}: {} ({})", existence.as_str(), existence.ground().as_str()), is, meaning);
        reply
    }
}

/// What greylisting is asked about.
struct Asked<'a> {
    client: &'a Client,
    report: &'a ClientReport,
    spf: Option<&'a Spf>,
    from: Option<&'a ReversePath>,
    to: Option<&'a Address>,
}

/// As a session would describe it.
fn client(query: &ClientQuery) -> Client {
    Client {
        address: query.client.to_canonical(),
        reverse_name: None,
        reverse_confirmed: false,
        helo: query.helo.clone().unwrap_or_default(),
        protocol: Protocol::Esmtp,
        tls: None,
        findings: Vec::new(),
    }
}

/// PTR, the way back, and EHLO: live.
fn names(seen: &mut Seen, now: &DnsNow, client: &Client, modes: &CheckModes) {
    let if_bad = |mode: CheckMode, is: Is, reply: Reply| match (mode, is) {
        (CheckMode::Off, _) => "not asked".to_owned(),
        (_, Is::Ok | Is::Neither) => String::new(),
        (_, Is::Unknown) => "DNS did not answer: nothing for good".to_owned(),
        (CheckMode::Score, Is::Bad) => "a fact for the spam rules".to_owned(),
        (CheckMode::Reject, Is::Bad) => reply.to_string(),
    };
    let (text, is) =
        in_words(&now.names, |names| names.iter().map(|named| named.name.to_string()).collect::<Vec<_>>().join(", "));
    let is = if now.names == Answer::Nothing { Is::Bad } else { is };
    seen.row("reverse name (PTR)", text, is, if_bad(modes.reverse_dns, is, Reply::no_reverse_name()));
    if let Answer::Found(names) = &now.names {
        let confirmed = now.confirmed();
        let unanswered = names.iter().any(|named| named.leads_back.is_none());
        let is = if confirmed.is_some() { Is::Ok } else { Is::of((!unanswered).then_some(false)) };
        let text = confirmed.map_or("none of them leads back".to_owned(), |name| format!("{name} leads back"));
        let first = names.first().map(|named| Reply::may_be_forged(&named.name)).unwrap_or_else(Reply::no_reverse_name);
        seen.row("forward-confirmed", text, is, if_bad(modes.forward_confirmed, is, first));
    }
    if client.helo.is_empty() {
        return seen.row("EHLO", "not given (--helo)", Is::Neither, "");
    }
    let is = if now.helo_addresses == Answer::NotAsked { Is::Bad } else { Is::of(now.helo_leads_to(client.address)) };
    let (text, _) = match &now.helo_addresses {
        Answer::NotAsked => ("no full name".to_owned(), Is::Bad),
        _ => in_words(&now.helo_addresses, |found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    };
    let reply = Reply::helo_mismatch(&client.helo, client.address);
    seen.row("EHLO", format!("{}: {text}", client.helo), is, if_bad(modes.helo, is, reply));
}

/// What the checks themselves noted down.
fn findings(seen: &mut Seen, report: &ClientReport) {
    for finding in report.findings.iter().filter(|finding| finding.id != "listed") {
        let meaning = if finding.points == 0.0 { "a fact for the spam rules".to_owned() } else { points(finding.points) };
        seen.row(&format!("finding {}", finding.id), finding.evidence.clone(), Is::Bad, meaning);
    }
}

fn lists(seen: &mut Seen, report: &ClientReport) {
    for list in &report.lists {
        let (text, mut is, mut meaning) = match list.answer {
            ListAnswer::NotListed => ("not listed".to_owned(), Is::Neither, String::new()),
            ListAnswer::Listed(code) => {
                let is = if list.points > 0.0 { Is::Bad } else { Is::Ok };
                (format!("listed: {code}"), is, points(list.points))
            }
            ListAnswer::Error(code) => (format!("{code}, which is no listing"), Is::Unknown, String::new()),
            ListAnswer::Unanswered => ("DNS did not answer".to_owned(), Is::Unknown, String::new()),
        };
        if let Some(why) = &list.shadow {
            (is, meaning) = (Is::Neither, format!("no effect: {why}"));
        }
        seen.row(&format!("DNS list {}", list.zone), text, is, meaning);
    }
}

fn spf_row(seen: &mut Seen, spf: Option<&Spf>) {
    let Some(spf) = spf else { return };
    let is = match spf.result {
        SpfResult::Pass => Is::Ok,
        SpfResult::Fail | SpfResult::SoftFail | SpfResult::PermError => Is::Bad,
        SpfResult::TempError => Is::Unknown,
        SpfResult::Neutral | SpfResult::None => Is::Neither,
    };
    let domain = spf.domain.as_ref().map_or_else(|| "no domain".to_owned(), ToString::to_string);
    let meaning = if is == Is::Bad { "a fact for the spam rules" } else { "" };
    seen.row("SPF", format!("{} for {domain}", spf.result.as_str()), is, meaning);
}

/// The records that the sender's domain has published.
fn records(seen: &mut Seen, now: &DnsNow) {
    let Some(domain) = &now.domain else {
        return seen.row("SPF, DMARC", "no sender given (--from)", Is::Neither, "");
    };
    let (text, is) = in_words(&now.spf, |records| records.join(" | "));
    let is = if matches!(&now.spf, Answer::Found(records) if records.len() > 1) { Is::Bad } else { is };
    seen.row(&format!("SPF record of {domain}"), text, is, "");
    let (text, is) = in_words(&now.dmarc, |(_, record)| record.clone());
    seen.row(&format!("DMARC record of {domain}"), text, is, "");
}

fn points(points: f32) -> String {
    format!("{points:+.1} points")
}

fn in_words<T>(answer: &Answer<T>, found: impl FnOnce(&T) -> String) -> (String, Is) {
    match answer {
        Answer::Found(records) => (found(records), Is::Ok),
        Answer::Nothing => ("none".to_owned(), Is::Neither),
        Answer::Unknown => ("DNS did not answer".to_owned(), Is::Unknown),
        Answer::NotAsked => ("not asked".to_owned(), Is::Neither),
    }
}
