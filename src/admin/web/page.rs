//! An explanation page as it is shown: what the template (`templates/why.html`) needs, in the words of the visitor's language.
//! Everything that stands in it goes through the template, which escapes it.

use std::sync::LazyLock;

use askama::Template;
use data_encoding::BASE64;

use super::words::{self, Labels};
use crate::checks::{Advice, Answer, Case, DnsNow, Kind, advice};
use crate::config::Language;
use crate::mail::Finding;

/// In the page itself: it needs nothing from elsewhere.
const STYLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/templates/why.css"));

/// Our style and a form that leads back here; nothing else, from nowhere.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = BASE64.encode(ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes()).as_ref());
    format!("default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
});

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An explanation.
    Shown,
    /// One for which DNS was asked anew.
    Tested,
    Gone,
    Forged,
    TooMany,
}

impl Notice {
    /// As metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Notice::Shown => "shown",
            Notice::Tested => "tested",
            Notice::Gone => "gone",
            Notice::Forged => "forged",
            Notice::TooMany => "too-many",
        }
    }
}

/// A whole page.
#[derive(Template)]
#[template(path = "why.html")]
pub struct Page {
    labels: &'static Labels,
    style: &'static str,
    hostname: String,
    title: &'static str,
    lead: Vec<String>,
    reply: Vec<String>,
    facts: Vec<Fact>,
    checks: Vec<Check>,
    /// Everything is in order by now.
    all_well: Option<&'static str>,
    tips: Vec<Tip>,
    worth: Vec<Tip>,
    /// When DNS was asked; `None`: a page without an explanation.
    tested: Option<String>,
}

pub struct Fact {
    label: &'static str,
    value: String,
}

/// One question to DNS, with the answer of then and that of now.
pub struct Check {
    label: String,
    answers: Vec<Answered>,
}

pub struct Answered {
    when: &'static str,
    cell: Cell,
}

pub struct Cell {
    text: String,
    mark: Mark,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Good,
    Bad,
    Plain,
}

/// One thing to do.
pub struct Tip {
    pub title: String,
    pub text: String,
    pub records: Vec<String>,
}

impl Page {
    /// A page that explains nothing.
    pub fn notice(notice: Notice, language: Language, hostname: &str) -> Page {
        let (title, text) = match notice {
            Notice::Gone => words::gone(language),
            Notice::TooMany => words::too_many(language),
            Notice::Forged | Notice::Shown | Notice::Tested => words::forged(language),
        };
        Page {
            labels: words::labels(language),
            style: STYLE,
            hostname: hostname.to_owned(),
            title,
            lead: vec![text.to_owned()],
            reply: Vec::new(),
            facts: Vec::new(),
            checks: Vec::new(),
            all_well: None,
            tips: Vec::new(),
            worth: Vec::new(),
            tested: None,
        }
    }

    pub fn explanation(case: &Case, now: &DnsNow, language: Language, hostname: &str) -> Page {
        let labels = words::labels(language);
        let (worth, todo): (Vec<_>, Vec<_>) = advice(case, now).into_iter().partition(|advice| is_aside(case, advice));
        let was_about_dns = matches!(case.kind, Kind::NoReverseName | Kind::NotConfirmed | Kind::DynamicName | Kind::Helo);
        let is_known = now.names != Answer::Unknown;
        let in_words = |advice: Vec<Advice>| advice.into_iter().map(|advice| words::tip(advice, language)).collect();
        Page {
            lead: words::lead(case, language),
            reply: reply_lines(case),
            facts: facts(case, language),
            checks: checks(case, now, labels),
            all_well: (todo.is_empty() && was_about_dns && is_known).then(|| words::all_well(case, language)),
            tips: in_words(todo),
            worth: in_words(worth),
            tested: Some(words::moment(now.at)),
            title: words::title(case, language),
            ..Page::notice(Notice::Shown, language, hostname)
        }
    }

    fn has_lists(&self) -> bool {
        !self.tips.is_empty() || self.all_well.is_some()
    }
}

impl Check {
    /// What was not asked then is not shown.
    fn new(label: impl Into<String>, labels: &Labels, then: Option<Cell>, now: Cell) -> Check {
        let then = then.map(|cell| Answered { when: labels.then, cell });
        let now = Answered { when: labels.now, cell: now };
        Check { label: label.into(), answers: then.into_iter().chain([now]).collect() }
    }
}

impl Cell {
    fn new(text: impl Into<String>, mark: Mark) -> Cell {
        Cell { text: text.into(), mark }
    }

    fn yes_or_no(is_so: Option<bool>, labels: &Labels) -> Cell {
        match is_so {
            Some(true) => Cell::new(labels.yes, Mark::Good),
            Some(false) => Cell::new(labels.no, Mark::Bad),
            None => Cell::new(labels.not_known, Mark::Plain),
        }
    }

    fn class(&self) -> &'static str {
        match self.mark {
            Mark::Good => "good",
            Mark::Bad => "bad",
            Mark::Plain => "plain",
        }
    }

    fn sign(&self) -> &'static str {
        match self.mark {
            Mark::Good => "✓",
            Mark::Bad => "✗",
            Mark::Plain => "",
        }
    }

    /// The sign in words, for those who do not see it.
    fn sign_in_words(&self, labels: &Labels) -> &'static str {
        match self.mark {
            Mark::Good => labels.good,
            Mark::Bad => labels.bad,
            Mark::Plain => "",
        }
    }
}

/// What is good to have, where it was not the reason.
fn is_aside(case: &Case, advice: &Advice) -> bool {
    match advice {
        Advice::Dmarc { .. } => true,
        Advice::Spf { .. } | Advice::SpfTwice { .. } => !matches!(case.kind, Kind::Dmarc | Kind::Spam),
        Advice::Pointer { .. } => case.kind != Kind::NoReverseName && case.kind != Kind::NotConfirmed,
        Advice::Forward { .. } => !matches!(case.kind, Kind::NotConfirmed | Kind::NoReverseName | Kind::Helo),
        Advice::Helo { .. } => case.kind != Kind::Helo,
        Advice::Dynamic { .. } => case.kind != Kind::DynamicName,
        _ => false,
    }
}

/// As it stood in the session, without the link.
fn reply_lines(case: &Case) -> Vec<String> {
    let mark = case.reply.enhanced.map(|enhanced| format!(" {enhanced}")).unwrap_or_default();
    case.reply.lines.iter().map(|line| format!("{}{mark} {line}", case.reply.code)).collect()
}

fn facts(case: &Case, language: Language) -> Vec<Fact> {
    let labels = words::labels(language);
    let mut facts = Vec::new();
    let mut fact = |label, value: String| {
        if !value.is_empty() {
            facts.push(Fact { label, value });
        }
    };
    fact(labels.time, words::moment(case.at));
    fact(labels.client, case.client.to_string());
    fact(labels.helo, case.helo.clone());
    fact(labels.sender, case.sender.as_ref().map_or(labels.null_sender.to_owned(), ToString::to_string));
    fact(labels.recipient, case.domain.as_ref().map(|domain| format!("…@{domain}")).unwrap_or_default());
    if let Some(wait) = case.wait {
        fact(labels.first_try, words::moment(wait.first_try));
        fact(labels.ready, words::moment(wait.ready));
    }
    let (listed, others): (Vec<_>, Vec<_>) = case.findings.iter().partition(|finding| finding.id == "listed");
    fact(labels.lists, listed.iter().map(|finding| finding.evidence.as_str()).collect::<Vec<_>>().join(", "));
    let (results, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|finding| is_authentication(&finding.id));
    fact(labels.also, others.iter().filter_map(|finding| words::finding(&finding.id, language)).collect::<Vec<_>>().join(", "));
    let result = |finding: &&Finding| match finding.evidence.as_str() {
        "" => finding.id.replacen('-', " ", 1),
        evidence => format!("{} ({evidence})", finding.id.replacen('-', " ", 1)),
    };
    let results = results.iter().map(result).collect::<Vec<_>>().join(", ");
    fact("SPF, DKIM, DMARC", if case.results.is_empty() { results } else { case.results.clone() });
    facts
}

fn is_authentication(id: &str) -> bool {
    ["spf-", "dkim-", "dmarc-", "arc-"].iter().any(|kind| id.starts_with(kind))
}

fn checks(case: &Case, now: &DnsNow, labels: &Labels) -> Vec<Check> {
    let mut checks = vec![name(case, now, labels)];
    checks.extend(leads_back(case, now, labels));
    if !case.helo.is_empty() {
        checks.push(greeting(case, now, labels));
    }
    let Some(domain) = &now.domain else { return checks };
    let then = |kind: &str| {
        let result = case.findings.iter().find_map(|finding| finding.id.strip_prefix(kind))?;
        let mark = match result {
            "pass" => Mark::Good,
            "fail" => Mark::Bad,
            _ => Mark::Plain,
        };
        Some(Cell::new(result, mark))
    };
    let spf =
        shown(&now.spf, labels, |records| Cell::new(records.join("\n"), if records.len() > 1 { Mark::Bad } else { Mark::Plain }));
    let dmarc = shown(&now.dmarc, labels, |(_, record)| Cell::new(record, Mark::Plain));
    checks.push(Check::new(format!("SPF: {domain}"), labels, then("spf-"), spf));
    checks.push(Check::new(format!("DMARC: {domain}"), labels, then("dmarc-"), dmarc));
    checks
}

fn name(case: &Case, now: &DnsNow, labels: &Labels) -> Check {
    let nothing_then = case.has("no-reverse-name") || (case.kind == Kind::NoReverseName && case.reply.is_permanent());
    let then = match &case.name {
        Some(name) => Some(Cell::new(name.to_string(), Mark::Plain)),
        None => nothing_then.then(|| Cell::new(labels.none, Mark::Bad)),
    };
    let names = shown(&now.names, labels, |names| {
        Cell::new(names.iter().map(|named| named.name.to_string()).collect::<Vec<_>>().join("\n"), Mark::Good)
    });
    // To have none is the matter here.
    let now = if now.names == Answer::Nothing { Cell { mark: Mark::Bad, ..names } } else { names };
    Check::new(labels.name, labels, then, now)
}

/// `None`: there never was a name.
fn leads_back(case: &Case, now: &DnsNow, labels: &Labels) -> Option<Check> {
    let then = case.name.as_ref().map(|_| Cell::yes_or_no(Some(case.confirmed), labels));
    let now = match &now.names {
        Answer::Found(_) if now.confirmed().is_some() => Some(true),
        Answer::Found(names) if names.iter().all(|named| named.leads_back == Some(false)) => Some(false),
        Answer::Nothing if then.is_none() => return None,
        _ => None,
    };
    Some(Check::new(labels.leads_back, labels, then, Cell::yes_or_no(now, labels)))
}

fn greeting(case: &Case, now: &DnsNow, labels: &Labels) -> Check {
    let was_wrong = case.kind == Kind::Helo || case.findings.iter().any(|finding| finding.id.starts_with("helo-"));
    let then = was_wrong.then(|| Cell::yes_or_no(Some(false), labels));
    let now = match (&now.helo, &now.helo_addresses) {
        (None, Answer::NotAsked) => Cell::new(labels.not_a_name, Mark::Bad),
        (_, Answer::Unknown) => Cell::new(labels.no_answer, Mark::Plain),
        _ => Cell::yes_or_no(now.helo_leads_to(case.client), labels),
    };
    Check::new(labels.helo_leads, labels, then, now)
}

fn shown<T>(answer: &Answer<T>, labels: &Labels, found: impl FnOnce(&T) -> Cell) -> Cell {
    match answer {
        Answer::Found(records) => found(records),
        Answer::Nothing => Cell::new(labels.none, Mark::Plain),
        Answer::Unknown => Cell::new(labels.no_answer, Mark::Plain),
        Answer::NotAsked => Cell::new(labels.not_known, Mark::Plain),
    }
}
