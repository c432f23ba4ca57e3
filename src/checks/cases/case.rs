//! One case: what was seen when somebody was turned away. Of the recipient it holds the domain and nothing else; local parts of
//! addresses are left out wherever they stand.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::mail::{Client, Domain, Enhanced, Finding, Reply, ReversePath, Timestamp};

/// The store's memory keeps what is smaller, in bytes.
const VALUE_MAX: usize = 4096;
/// Findings kept; a client has a handful.
const FINDINGS_MAX: usize = 12;
/// Of the authentication results, in bytes.
const RESULTS_MAX: usize = 600;

/// What was seen, and what was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub at: Timestamp,
    pub kind: Kind,
    pub client: IpAddr,
    /// Its name in DNS, as far as that was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Domain>,
    #[serde(default)]
    pub confirmed: bool,
    #[serde(default)]
    pub helo: String,
    /// The domain of MAIL FROM; `None`: the null sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Domain>,
    /// The recipient's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// As `Authentication-Results` has them; empty: nobody asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub results: String,
    /// Greylisting: when the message was first tried, and from when on it is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Wait>,
    pub reply: Reply,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    pub first_try: Timestamp,
    pub ready: Timestamp,
}

/// Why somebody was turned away, as the page tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    NoReverseName,
    NotConfirmed,
    DynamicName,
    Helo,
    Listed,
    Limits,
    Banned,
    Relay,
    Recipient,
    Greylisted,
    Dmarc,
    Spam,
    Virus,
    /// For policy, in the reply's own words.
    Other,
}

/// First words of replies that are of one kind. They are the contract with senders, who search for them.
const WORDS: [(&str, Kind); 12] = [
    ("Client host rejected: cannot find your reverse hostname", Kind::NoReverseName),
    ("may be forged", Kind::NotConfirmed),
    ("looks like a dial-up", Kind::DynamicName),
    ("EHLO rejected", Kind::Helo),
    ("Too much from you", Kind::Limits),
    ("Too many connections", Kind::Limits),
    ("Your address is blocked", Kind::Banned),
    ("isn't in my list of allowed rcpthosts", Kind::Relay),
    ("Greylisted", Kind::Greylisted),
    ("DMARC policy", Kind::Dmarc),
    ("Message refused as spam", Kind::Spam),
    ("Virus found", Kind::Virus),
];

impl Kind {
    /// `None`: the reply is no matter of policy; it says that a command was wrong, or that we have a problem ourselves.
    pub fn of(reply: &Reply) -> Option<Kind> {
        let Enhanced(_, subject, _) = reply.enhanced.filter(|_| !reply.is_positive())?;
        let text = reply.lines.first()?;
        let known = WORDS.iter().find(|(words, _)| text.contains(words)).map(|(_, kind)| *kind);
        match subject {
            // RFC 3463 §3.2: the address.
            1 => Some(Kind::Recipient),
            7 if known.is_none() && text.contains(" listed ") => Some(Kind::Listed),
            // RFC 3463 §3.8: security or policy.
            7 => Some(known.unwrap_or(Kind::Other)),
            _ => None,
        }
    }
}

impl Case {
    /// `None`: there is nothing to explain ([`Kind::of`]).
    pub fn new(at: Timestamp, client: &Client, sender: &ReversePath, domain: Option<Domain>, reply: &Reply) -> Option<Case> {
        let lines = reply.lines.iter().map(|line| Cow::Owned(without_local_parts(line))).collect();
        Some(Case {
            at,
            kind: Kind::of(reply)?,
            client: client.address.to_canonical(),
            name: client.reverse_name.clone(),
            confirmed: client.reverse_confirmed,
            helo: client.helo.clone(),
            sender: sender.address().and_then(|address| address.domain()).cloned(),
            domain,
            findings: findings(&client.findings),
            results: String::new(),
            wait: None,
            reply: Reply { lines, ..reply.clone() },
        })
    }

    /// With what SPF, DKIM and DMARC said about a message, or about the sender alone.
    pub fn with_results(mut self, results: &str, found: &[Finding]) -> Case {
        let end = (0..=RESULTS_MAX.min(results.len())).rev().find(|end| results.is_char_boundary(*end)).unwrap_or_default();
        self.results = without_local_parts(&results[..end]).replace(char::is_control, " ");
        self.findings.extend(findings(found));
        self.findings.truncate(FINDINGS_MAX);
        self
    }

    /// Asked to come back in so many seconds, `delay` after its first try.
    pub fn with_wait(mut self, seconds: u64, delay: Duration) -> Case {
        let ready = self.at + Duration::from_secs(seconds);
        self.wait = Some(Wait { first_try: (ready - delay).min(self.at), ready });
        self
    }

    /// `None`: it does not fit, which nothing a stranger sends can bring about without also being cut.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut case = Cow::Borrowed(self);
        loop {
            let value = serde_json::to_vec(&*case).ok()?;
            if value.len() < VALUE_MAX {
                return Some(value);
            }
            // Escaped, texts can be longer than they are: the least important goes first.
            let case = case.to_mut();
            match (case.results.is_empty(), case.findings.pop()) {
                (false, _) => case.results.clear(),
                (true, Some(_)) => {}
                (true, None) => return None,
            }
        }
    }

    /// `None`: damaged, which is like forgotten.
    pub fn decode(value: &[u8]) -> Option<Case> {
        serde_json::from_slice(value).ok()
    }

    /// Whether this was found.
    pub fn has(&self, finding: &str) -> bool {
        self.findings.iter().any(|found| found.id == finding)
    }
}

fn findings(findings: &[Finding]) -> Vec<Finding> {
    let without = |finding: &Finding| Finding { evidence: without_local_parts(&finding.evidence), ..finding.clone() };
    findings.iter().take(FINDINGS_MAX).map(without).collect()
}

/// `<…@customer.example>` for `<jane@customer.example>`: a link may be passed on.
fn without_local_parts(text: &str) -> String {
    let ends_a_word = |letter: char| letter.is_whitespace() || letter.is_control() || "<>()[],;:=\"'".contains(letter);
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter == '@' {
            let start = shown.char_indices().rev().find(|(_, letter)| ends_a_word(*letter));
            let start = start.map_or(0, |(at, letter)| at + letter.len_utf8());
            if start < shown.len() {
                shown.truncate(start);
                shown.push('…');
            }
        }
        shown.push(letter);
    }
    shown
}

#[cfg(test)]
impl Case {
    pub fn sample(client: &str, at: Timestamp, reply: &Reply) -> Case {
        Case {
            at,
            kind: Kind::of(reply).unwrap(),
            client: client.parse().unwrap(),
            name: None,
            confirmed: false,
            helo: "mail.sender.example".to_owned(),
            sender: Some("sender.example".parse().unwrap()),
            domain: Some("customer.example".parse().unwrap()),
            findings: Vec::new(),
            results: String::new(),
            wait: None,
            reply: reply.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    #[test]
    fn every_refusal_for_policy_has_its_kind_and_no_other_reply_has_one() {
        let name = "dsl.provider.example".parse().unwrap();
        let kinds = [
            (Reply::no_reverse_name(), Kind::NoReverseName),
            (Reply::no_reverse_name_yet(), Kind::NoReverseName),
            (Reply::may_be_forged(&name), Kind::NotConfirmed),
            (Reply::dynamic_name(&name), Kind::DynamicName),
            (Reply::helo_mismatch("x", "192.0.2.4".parse().unwrap()), Kind::Helo),
            (Reply::too_fast(), Kind::Limits),
            (Reply::too_many_connections(), Kind::Limits),
            (Reply::banned(), Kind::Banned),
            (Reply::not_served(), Kind::Relay),
            (Reply::new(550, Enhanced(5, 1, 1), "No such user here"), Kind::Recipient),
            (Reply::greylisted(300), Kind::Greylisted),
            (Reply::dmarc(&name), Kind::Dmarc),
            (Reply::spam(), Kind::Spam),
            (Reply::infected("Eicar"), Kind::Virus),
            (Reply::new(550, Enhanced(5, 7, 1), "Not today"), Kind::Other),
            (Reply::new(550, Enhanced(5, 7, 1), "192.0.2.4 is listed at zen.lists.example"), Kind::Listed),
        ];
        for (reply, kind) in kinds {
            assert_eq!(Kind::of(&reply), Some(kind), "{reply}");
        }
        for reply in [Reply::ok(), Reply::disk_full(), Reply::local_error(), Reply::too_many_recipients(), Reply::shutting_down()]
        {
            assert_eq!(Kind::of(&reply), None, "{reply}");
        }
    }

    #[test]
    fn nothing_of_an_address_but_its_domain_is_kept() {
        let case = |text: &str| without_local_parts(text);
        assert_eq!(case("<jane@customer.example>... User unknown"), "<…@customer.example>... User unknown");
        assert_eq!(case("smtp.mailfrom=joe+x@sender.example"), "smtp.mailfrom=…@sender.example");
        assert_eq!(case("a@b@c and d@e"), "…@c and …@e");
        assert_eq!(case("@ alone, and ü@x"), "@ alone, and …@x");
        assert_eq!(case(&"@".repeat(50_000)), "…@");
    }

    #[test]
    fn the_largest_case_fits() {
        let finding = || Finding::new("listed", &"\"".repeat(500));
        let reply = Reply::new(550, Enhanced(5, 7, 1), "\"".repeat(2000));
        let case = Case { helo: "\"".repeat(255), ..Case::sample("192.0.2.4", NOW, &reply) };
        let found: Vec<_> = (0..100).map(|_| finding()).collect();
        let case = case.with_results(&"\"".repeat(100_000), &found);
        assert!(case.findings.len() == FINDINGS_MAX && case.results.len() == RESULTS_MAX);
        let value = case.encode().unwrap();
        assert!(value.len() < VALUE_MAX);
        let kept = Case::decode(&value).unwrap();
        assert_eq!((kept.reply, kept.helo), (case.reply, case.helo), "what matters most stays");
        assert!(Case::decode(b"{").is_none());
    }

    #[test]
    fn a_wait_knows_its_first_try() {
        let minute = Duration::from_secs(60);
        let case = Case::sample("192.0.2.4", NOW, &Reply::greylisted(120)).with_wait(120, 5 * minute);
        assert_eq!(case.wait, Some(Wait { first_try: NOW - 3 * minute, ready: NOW + 2 * minute }));
    }
}
