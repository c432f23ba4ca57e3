//! SPF (RFC 7208): the walk through a sender's record. mail-auth parses records and expands macros, everything else is here.
//!
//! The RFC's limits are kept: 10 terms that ask DNS, 2 of them in vain, 10 names of an `mx` or `ptr`. A record that needs more is
//! a permanent error of its owner, as is one that cannot be read. What DNS does not answer is a temporary error. Neither is a
//! failure, and a failure is a fact for rules, greylisting and DMARC: nobody is refused for SPF alone.

mod record;

use std::net::IpAddr;
use std::pin::Pin;

use mail_auth::common::parse::TxtRecordParser;
use mail_auth::spf::{Directive, Macro, Mechanism, Qualifier, Spf as Record, Variables};

use super::questions::Questions;
use crate::mail::{Domain, Host, ReversePath};
use crate::outside::DnsError;

/// RFC 7208 §4.6.4.
const TERMS_MAX: u32 = 10;
const VOIDS_MAX: u32 = 2;
const NAMES_MAX: usize = 10;
/// RFC 7208 §7.3: longer names lose labels on the left.
const NAME_MAX: usize = 253;
/// Of an explanation, in bytes: it is quoted in pages and logs.
const EXPLANATION_MAX: usize = 200;

/// What SPF says about a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spf {
    pub result: SpfResult,
    /// Whose record it was: the domain of the sender, or the greeting's; `None` where there was no domain to ask.
    pub domain: Option<Domain>,
    /// What the domain's owner says about a failure (`exp=`); printable ASCII. Somebody else's words: to be quoted as such.
    pub explanation: Option<String>,
}

/// RFC 7208 §2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpfResult {
    Pass,
    Fail,
    SoftFail,
    Neutral,
    /// No domain, or no record.
    None,
    /// The owner's record cannot be used.
    PermError,
    /// DNS did not answer.
    TempError,
}

impl Spf {
    /// The organisation that SPF has proved to be the sender.
    pub fn organisation(&self) -> Option<Domain> {
        self.domain.as_ref().filter(|_| self.result == SpfResult::Pass).map(Domain::organisation)
    }
}

impl SpfResult {
    /// The word of RFC 8601 §2.7.2.
    pub fn as_str(self) -> &'static str {
        match self {
            SpfResult::Pass => "pass",
            SpfResult::Fail => "fail",
            SpfResult::SoftFail => "softfail",
            SpfResult::Neutral => "neutral",
            SpfResult::None => "none",
            SpfResult::PermError => "permerror",
            SpfResult::TempError => "temperror",
        }
    }
}

/// Checks a sender, or the greeting where there is none. Asks nothing when there is no domain (RFC 7208 §4.3).
pub(super) async fn evaluate(questions: &Questions, client: IpAddr, helo: &str, reverse_path: &ReversePath) -> Spf {
    let domain = match reverse_path {
        // "mail" and "[192.0.2.1]" are no domain names.
        ReversePath::Null => Some(helo).filter(|helo| helo.contains('.')).and_then(|helo| Domain::parse(helo).ok()),
        ReversePath::Address(address) => match address.host() {
            Host::Domain(domain) => Some(domain.clone()),
            Host::Literal(_) => None,
        },
    };
    let Some(domain) = domain.filter(|domain| domain.as_str().contains('.')) else {
        return Spf { result: SpfResult::None, domain: None, explanation: None };
    };
    let sender = match reverse_path {
        ReversePath::Address(address) => format!("{}@{domain}", address.local()),
        ReversePath::Null => format!("postmaster@{domain}"),
    };
    let mut walk = Walk { questions, client, helo, sender, terms: 0, voids: 0 };
    let (result, explanation) = match walk.check(domain.to_string()).await {
        Ok(Finding { result, explain }) => (result, walk.explanation(explain.filter(|_| result == SpfResult::Fail)).await),
        Err(Stop::Temporary) => (SpfResult::TempError, None),
        Err(Stop::Permanent) => (SpfResult::PermError, None),
    };
    Spf { result, domain: Some(domain), explanation }
}

/// Why a walk ends before its end.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Temporary,
    Permanent,
}

type Step<T> = Result<T, Stop>;

/// What one record says, and where its explanation is found.
struct Finding {
    result: SpfResult,
    explain: Option<(Macro, String)>,
}

impl Finding {
    fn plain(result: SpfResult) -> Finding {
        Finding { result, explain: None }
    }
}

/// One check from its first record to its end.
struct Walk<'a> {
    questions: &'a Questions,
    client: IpAddr,
    helo: &'a str,
    sender: String,
    /// Terms that asked DNS, and those that asked in vain.
    terms: u32,
    voids: u32,
}

impl Walk<'_> {
    /// `check_host()` of RFC 7208 §4. It calls itself for `include` and `redirect`, at most as often as there are terms.
    fn check(&mut self, domain: String) -> Pin<Box<dyn Future<Output = Step<Finding>> + Send + '_>> {
        Box::pin(async move {
            let texts = match self.questions.texts(&domain).await {
                Ok(texts) => texts,
                Err(DnsError::NotFound) => return Ok(Finding::plain(SpfResult::None)),
                Err(DnsError::Temporary(_)) => return Err(Stop::Temporary),
            };
            let Some(record) = record::of(&texts)? else { return Ok(Finding::plain(SpfResult::None)) };
            for directive in &record.directives {
                if self.matches(directive, &domain).await? {
                    return Ok(Finding { result: result_of(&directive.qualifier), explain: explain_of(&record, domain) });
                }
            }
            let Some(redirect) = &record.redirect else { return Ok(Finding::plain(SpfResult::Neutral)) };
            self.count_term()?;
            let target = self.target(redirect, &domain).await;
            let found = self.check(target).await?;
            // RFC 7208 §6.1: where there is no record, the one that sent us there is wrong.
            if found.result == SpfResult::None { Err(Stop::Permanent) } else { Ok(found) }
        })
    }

    async fn matches(&mut self, directive: &Directive, domain: &str) -> Step<bool> {
        match &directive.mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip4 { addr, mask } => Ok(self.is_in(IpAddr::V4(*addr), *mask, 0)),
            Mechanism::Ip6 { addr, mask } => Ok(self.is_in(IpAddr::V6(*addr), 0, *mask)),
            Mechanism::A { macro_string, ip4_mask, ip6_mask } => {
                self.count_term()?;
                let target = self.target(macro_string, domain).await;
                let answer = self.questions.addresses_like(self.client, &target).await;
                let addresses = self.none_is_void(answer)?;
                Ok(addresses.into_iter().any(|address| self.is_in(address, *ip4_mask, *ip6_mask)))
            }
            Mechanism::Mx { macro_string, ip4_mask, ip6_mask } => {
                self.count_term()?;
                let target = self.target(macro_string, domain).await;
                self.is_at_exchanger(&target, *ip4_mask, *ip6_mask).await
            }
            Mechanism::Include { macro_string } => {
                self.count_term()?;
                let target = self.target(macro_string, domain).await;
                // RFC 7208 §5.2: the table of results.
                match self.check(target).await?.result {
                    SpfResult::Pass => Ok(true),
                    SpfResult::None => Err(Stop::Permanent),
                    _ => Ok(false),
                }
            }
            Mechanism::Ptr { macro_string } => {
                self.count_term()?;
                let target = self.target(macro_string, domain).await;
                let Ok(target) = Domain::parse(&target) else { return Ok(false) };
                let names = self.validated_names().await?;
                Ok(names.iter().any(|name| name.is_within(&target)))
            }
            Mechanism::Exists { macro_string } => {
                self.count_term()?;
                let target = self.target(macro_string, domain).await;
                // RFC 7208 §5.7: A records, whatever the client's family.
                let answer = self.questions.v4_addresses(&target).await;
                Ok(!self.none_is_void(answer)?.is_empty())
            }
        }
    }

    /// RFC 7208 §5.4.
    async fn is_at_exchanger(&mut self, target: &str, v4_mask: u32, v6_mask: u128) -> Step<bool> {
        let answer = self.questions.mail_exchangers(target).await;
        let hosts: Vec<Domain> = self.none_is_void(answer)?.into_iter().filter_map(|exchanger| exchanger.host).collect();
        for (place, host) in hosts.iter().enumerate() {
            if place >= NAMES_MAX {
                return Err(Stop::Permanent);
            }
            match self.questions.addresses_like(self.client, host.as_str()).await {
                Ok(addresses) if addresses.iter().any(|address| self.is_in(*address, v4_mask, v6_mask)) => return Ok(true),
                Ok(_) | Err(DnsError::NotFound) => {}
                Err(DnsError::Temporary(_)) => return Err(Stop::Temporary),
            }
        }
        Ok(false)
    }

    /// The client's names that lead back to it. RFC 7208 §5.5: errors on the way mean that there are none, names after the tenth
    /// do not count.
    async fn validated_names(&mut self) -> Step<Vec<Domain>> {
        let names = match self.questions.names(self.client).await {
            Ok(names) => names,
            Err(DnsError::NotFound) => {
                self.count_void()?;
                return Ok(Vec::new());
            }
            Err(DnsError::Temporary(_)) => return Ok(Vec::new()),
        };
        let mut validated = Vec::new();
        for name in names.into_iter().take(NAMES_MAX) {
            let addresses = self.questions.addresses_like(self.client, name.as_str()).await;
            if addresses.is_ok_and(|addresses| addresses.contains(&self.client)) {
                validated.push(name);
            }
        }
        Ok(validated)
    }

    /// RFC 7208 §7.2, the macro `p`: the domain itself, else a name below it, else any, else "unknown".
    async fn validated_name(&self, domain: &str) -> String {
        // Its questions are no terms; what it finds is remembered by nobody, as nobody shall use it.
        let mut aside =
            Walk { questions: self.questions, client: self.client, helo: "", sender: String::new(), terms: 0, voids: 0 };
        let names = aside.validated_names().await.unwrap_or_default();
        let below = |name: &&Domain| Domain::parse(domain).is_ok_and(|domain| name.is_within(&domain));
        let same = names.iter().find(|name| name.as_str().eq_ignore_ascii_case(domain));
        let best = same.or_else(|| names.iter().find(below)).or_else(|| names.first());
        best.map_or_else(|| "unknown".to_owned(), Domain::to_string)
    }

    /// The domain that a term names, or the record's own.
    async fn target(&self, text: &Macro, domain: &str) -> String {
        let expanded = self.expand(text, domain).await;
        let mut target = expanded.trim_end_matches('.');
        while target.len() > NAME_MAX {
            target = target.split_once('.').map_or("", |(_, rest)| rest);
        }
        target.to_owned()
    }

    async fn expand(&self, text: &Macro, domain: &str) -> String {
        let validated = if text.needs_ptr() { self.validated_name(domain).await } else { String::new() };
        let mut variables = Variables::new();
        variables.set_ip(&self.client);
        variables.set_sender(self.sender.as_bytes());
        variables.set_domain(domain.as_bytes());
        variables.set_helo_domain(self.helo.as_bytes());
        variables.set_host_domain("unknown".as_bytes());
        variables.set_validated_domain(validated.as_bytes());
        text.eval(&variables, domain, false).into_owned()
    }

    /// RFC 7208 §6.2: whatever goes wrong, there is none.
    async fn explanation(&self, explain: Option<(Macro, String)>) -> Option<String> {
        let (place, domain) = explain?;
        let target = self.target(&place, &domain).await;
        let texts = self.questions.texts(&target).await.ok()?;
        let [text] = texts.as_slice() else { return None };
        let text = Macro::parse(text).ok()?;
        let mut explanation = self.expand(&text, &domain).await;
        let printable = explanation.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        explanation.truncate(if printable { EXPLANATION_MAX } else { 0 });
        Some(explanation).filter(|explanation| !explanation.is_empty())
    }

    fn count_term(&mut self) -> Step<()> {
        self.terms += 1;
        if self.terms > TERMS_MAX { Err(Stop::Permanent) } else { Ok(()) }
    }

    fn count_void(&mut self) -> Step<()> {
        self.voids += 1;
        if self.voids > VOIDS_MAX { Err(Stop::Permanent) } else { Ok(()) }
    }

    fn none_is_void<T>(&mut self, answer: Result<Vec<T>, DnsError>) -> Step<Vec<T>> {
        match answer {
            Ok(records) => Ok(records),
            Err(DnsError::NotFound) => self.count_void().map(|()| Vec::new()),
            Err(DnsError::Temporary(_)) => Err(Stop::Temporary),
        }
    }

    fn is_in(&self, network: IpAddr, v4_mask: u32, v6_mask: u128) -> bool {
        match (self.client, network) {
            (IpAddr::V4(client), IpAddr::V4(network)) => u32::from(client) & v4_mask == u32::from(network) & v4_mask,
            (IpAddr::V6(client), IpAddr::V6(network)) => u128::from(client) & v6_mask == u128::from(network) & v6_mask,
            _ => false,
        }
    }
}

fn result_of(qualifier: &Qualifier) -> SpfResult {
    match qualifier {
        Qualifier::Pass => SpfResult::Pass,
        Qualifier::Fail => SpfResult::Fail,
        Qualifier::SoftFail => SpfResult::SoftFail,
        Qualifier::Neutral => SpfResult::Neutral,
    }
}

fn explain_of(record: &Record, domain: String) -> Option<(Macro, String)> {
    record.exp.clone().map(|place| (place, domain))
}
