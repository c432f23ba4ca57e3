//! What was found out about one client that said one EHLO, and what follows from it: pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::helo::{Helo, HeloState};
use crate::checks::lists::{ListAnswer, ListResult};
use crate::checks::reverse::{Reverse, ReverseState};
use crate::config::{CheckMode, CheckModes};
use crate::mail::{Client, Domain, Enhanced, Finding, Reply};

/// All that is known about one client that said one EHLO: what the checks found, and in the other fields how they came to it,
/// for pages and tables that show the whole reasoning. Bounded: at most [`Reverse::NAMES_MAX`] names, and one entry for each DNS
/// list of the settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClientReport {
    /// A confirmed one when there is one, else the first.
    pub name: Option<Domain>,
    pub confirmed: bool,
    /// The blemishes and the lists that count, as facts for the spam rules. DNS that did not answer leaves none.
    pub findings: Vec<Finding>,
    /// PTR and where its names lead; whether they look dynamic.
    pub reverse: Reverse,
    pub helo: Helo,
    /// What each DNS list of the settings said; those in shadow too.
    pub lists: Vec<ListResult>,
}

/// Findings that speak against a client. [`super::super::lists`] adds `listed`, by its points.
const BLEMISHES: [&str; 7] = [
    "no-reverse-name",
    "reverse-name-unconfirmed",
    "dynamic-name",
    "helo-not-a-name",
    "helo-is-ours",
    "helo-mismatch",
    "helo-unknown",
];

impl ClientReport {
    pub(super) fn of(reverse: Reverse, helo: Helo, lists: Vec<ListResult>) -> ClientReport {
        let mut findings: Vec<Finding> = reverse_findings(&reverse);
        findings.extend(helo_finding(&helo));
        findings.extend(lists.iter().filter_map(ListResult::finding));
        ClientReport { name: reverse.name.clone(), confirmed: reverse.is_confirmed(), findings, reverse, helo, lists }
    }

    /// The report with those findings only that some of these settings ask for: `off` is "not asked".
    pub fn under(self: &Arc<ClientReport>, modes: &[CheckModes]) -> Arc<ClientReport> {
        let asked_for = |finding: &Finding| modes.iter().any(|modes| mode_of(&finding.id, modes) != CheckMode::Off);
        if self.findings.iter().all(asked_for) {
            return Arc::clone(self);
        }
        let mut report = ClientReport::clone(self);
        report.findings.retain(asked_for);
        Arc::new(report)
    }

    /// Something speaks against this client: its reverse name, its EHLO or a DNS list. DNS that did not answer does not, and
    /// lists in shadow do not.
    pub fn is_suspicious(&self) -> bool {
        self.findings.iter().any(|finding| finding.points > 0.0 || BLEMISHES.contains(&finding.id.as_str()))
    }

    /// DNS lists speak for this client (DNSWLs have points below zero), more than others speak against it.
    pub fn is_vouched_for(&self) -> bool {
        self.findings.iter().filter(|finding| finding.id == "listed").map(|finding| finding.points).sum::<f32>() < 0.0
    }

    /// Why this client is not welcome, by these settings; pure. DNS that did not answer is never refused for good.
    pub fn refusal(&self, modes: &CheckModes, client: &Client) -> Option<Reply> {
        let rejects = |mode: CheckMode| mode == CheckMode::Reject;
        let reverse = self.reverse_refusal(rejects(modes.reverse_dns), rejects(modes.forward_confirmed));
        let dynamic = || {
            let name = self.name.as_ref().filter(|_| rejects(modes.dynamic_name) && self.reverse.dynamic.is_some());
            name.map(Reply::dynamic_name)
        };
        let helo = || {
            let reply = Reply::helo_mismatch(&client.helo, client.address.to_canonical());
            match self.helo.state {
                _ if !rejects(modes.helo) => None,
                HeloState::Unanswered => Some(not_for_good(reply)),
                state => state.fault().map(|_| reply),
            }
        };
        reverse.or_else(dynamic).or_else(helo)
    }

    fn reverse_refusal(&self, reverse_dns: bool, forward_confirmed: bool) -> Option<Reply> {
        match (self.reverse.state, &self.name) {
            (ReverseState::NoName, _) if reverse_dns => Some(Reply::no_reverse_name()),
            (ReverseState::Unanswered, _) if reverse_dns || forward_confirmed => Some(Reply::no_reverse_name_yet()),
            (ReverseState::Unconfirmed, Some(name)) if forward_confirmed => Some(Reply::may_be_forged(name)),
            (ReverseState::Unsure, Some(name)) if forward_confirmed => Some(not_for_good(Reply::may_be_forged(name))),
            _ => None,
        }
    }

    /// What failed, for the log: `EHLO - inconsistent hostname / IP address NAME [IP]`. Empty: nothing.
    pub fn faults(&self, client: &Client) -> String {
        let address = client.address.to_canonical();
        let line = |finding: &Finding| {
            let what = &finding.evidence;
            match finding.id.as_str() {
                "no-reverse-name" => Some(format!("reverse DNS - no hostname [{address}]")),
                "reverse-name-unconfirmed" => Some(format!("reverse DNS - {what} may be forged [{address}]")),
                "dynamic-name" => Some(format!("reverse DNS - dynamic name {what} [{address}]")),
                "listed" if finding.points > 0.0 => Some(format!("DNS list - {what} [{address}]")),
                _ => None,
            }
        };
        let helo = self.helo.state.fault().filter(|_| self.findings.iter().any(|finding| is_about_helo(&finding.id)));
        let helo = helo.map(|fault| format!("EHLO - {fault} {} [{address}]", client.helo));
        self.findings.iter().filter_map(line).chain(helo).collect::<Vec<_>>().join("; ")
    }
}

fn reverse_findings(reverse: &Reverse) -> Vec<Finding> {
    let name = reverse.name.as_ref().map_or("", Domain::as_str);
    let state = match reverse.state {
        ReverseState::NoName => Some(Finding::new("no-reverse-name", "")),
        ReverseState::Unconfirmed => Some(Finding::new("reverse-name-unconfirmed", name)),
        _ => None,
    };
    let dynamic = reverse.dynamic.as_ref().map(|_| Finding::new("dynamic-name", name));
    state.into_iter().chain(dynamic).collect()
}

fn helo_finding(helo: &Helo) -> Option<Finding> {
    let id = match helo.state {
        HeloState::Unasked | HeloState::Resolves | HeloState::Unanswered => return None,
        HeloState::Literal => "helo-literal",
        HeloState::OtherHost => "helo-other-host",
        HeloState::NotAName | HeloState::NotFull => "helo-not-a-name",
        HeloState::Ours => "helo-is-ours",
        HeloState::WrongLiteral | HeloState::Mismatch => "helo-mismatch",
        HeloState::Unknown => "helo-unknown",
    };
    Some(Finding::new(id, &helo.name))
}

fn is_about_helo(id: &str) -> bool {
    id.starts_with("helo-")
}

/// Lists have no mode: they are asked where the settings name them.
fn mode_of(id: &str, modes: &CheckModes) -> CheckMode {
    match id {
        "no-reverse-name" => modes.reverse_dns,
        "reverse-name-unconfirmed" => modes.forward_confirmed,
        "dynamic-name" => modes.dynamic_name,
        id if is_about_helo(id) => modes.helo,
        _ => CheckMode::Score,
    }
}

/// The same words for a client that may come back.
fn not_for_good(reply: Reply) -> Reply {
    Reply { code: 450, enhanced: Some(Enhanced(4, 7, 1)), ..reply }
}

impl ListResult {
    /// As a fact for the score, where the list counts.
    pub(super) fn finding(&self) -> Option<Finding> {
        let ListAnswer::Listed(code) = self.answer else { return None };
        let listed = Finding::new("listed", &format!("{} {code}", self.zone)).with_points(self.points);
        self.shadow.is_none().then_some(listed)
    }
}
