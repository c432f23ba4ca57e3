//! What DNS says about a sender at this moment: reverse names and whether they lead back, the EHLO name, SPF and DMARC records.
//!
//! Records are shown, not judged: who is allowed to send is for `checks::authentication` to say. Each question has a time limit,
//! and DNS that does not answer is [`Answer::Unknown`], never "there is none".

use std::net::IpAddr;
use std::time::Duration;

use crate::mail::{Domain, Timestamp};
use crate::outside::{Clock, DnsError, Resolver};

/// For all questions, which are asked at the same time.
const PATIENCE: Duration = Duration::from_secs(5);
/// PTR names that are followed; an address with more proves nothing more.
const NAMES_MAX: usize = 5;
/// RFC 9989 §4.10: labels of a name that are walked up to find a DMARC record; here also the questions asked.
const DMARC_WALK_MAX: usize = 5;
/// Of a record, in bytes: longer ones are cut where they are shown.
const RECORD_SHOWN: usize = 600;
/// Records of one kind that are shown; there should be one.
const RECORDS_MAX: usize = 4;

/// Who is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    pub client: IpAddr,
    pub helo: &'a str,
    /// Of the sender's address; `None`: the null sender, for whom the EHLO name answers (RFC 7208 §2.4).
    pub domain: Option<&'a Domain>,
}

/// An answer of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    Found(T),
    /// There is none.
    Nothing,
    /// DNS did not answer.
    Unknown,
    /// There is no name to ask for.
    NotAsked,
}

/// A PTR name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: Domain,
    /// Whether its addresses contain the client's; `None`: DNS did not answer.
    pub leads_back: Option<bool>,
}

/// All answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsNow {
    pub at: Timestamp,
    pub names: Answer<Vec<Named>>,
    /// The EHLO name as a name, and its addresses. A literal is no name, but has an address.
    pub helo: Option<Domain>,
    pub helo_addresses: Answer<Vec<IpAddr>>,
    /// Whose SPF and DMARC records these are.
    pub domain: Option<Domain>,
    pub spf: Answer<Vec<String>>,
    /// Where the record was found, and the record.
    pub dmarc: Answer<(Domain, String)>,
}

impl DnsNow {
    pub(super) async fn ask(resolver: &dyn Resolver, clock: &dyn Clock, sender: &Sender<'_>) -> DnsNow {
        let client = sender.client.to_canonical();
        let helo = full_name(sender.helo);
        let domain = sender.domain.cloned().or_else(|| helo.clone());
        let (names, helo_addresses, spf, dmarc) = tokio::join!(
            in_time(clock, names(resolver, client)),
            in_time(clock, addresses(resolver, sender.helo, helo.as_ref())),
            in_time(clock, spf(resolver, domain.as_ref())),
            in_time(clock, dmarc(resolver, domain.as_ref())),
        );
        DnsNow { at: clock.now(), names, helo, helo_addresses, domain, spf, dmarc }
    }

    /// A reverse name that leads back.
    pub fn confirmed(&self) -> Option<&Domain> {
        let Answer::Found(names) = &self.names else { return None };
        names.iter().find(|named| named.leads_back == Some(true)).map(|named| &named.name)
    }

    /// Whether the EHLO name leads to the client; `None`: not known.
    pub fn helo_leads_to(&self, client: IpAddr) -> Option<bool> {
        match &self.helo_addresses {
            Answer::Found(addresses) => Some(is_among(addresses, client)),
            Answer::Nothing => Some(false),
            Answer::NotAsked | Answer::Unknown => None,
        }
    }
}

/// An EHLO name that is one: a domain of more than one label. `[192.0.2.4]` is none.
pub(super) fn full_name(helo: &str) -> Option<Domain> {
    Domain::parse(helo).ok().filter(|name| name.as_str().contains('.'))
}

/// `[192.0.2.4]`, `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
fn literal(helo: &str) -> Option<IpAddr> {
    let inside = helo.strip_prefix('[')?.strip_suffix(']')?;
    let v6 = inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")).and_then(|_| inside.get(5..));
    v6.unwrap_or(inside).parse().ok()
}

/// The name under which the PTR record of an address stands (RFC 1035 §3.5, RFC 3596 §2.5), with its final dot.
pub fn pointer_name(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa."
        }
    }
}

async fn in_time<T>(clock: &dyn Clock, question: impl Future<Output = Answer<T>>) -> Answer<T> {
    tokio::select! {
        answer = question => answer,
        () = clock.sleep_until(clock.now() + PATIENCE) => Answer::Unknown,
    }
}

async fn names(resolver: &dyn Resolver, client: IpAddr) -> Answer<Vec<Named>> {
    let names = match resolver.names(client).await {
        Ok(names) => names,
        Err(error) => return no_answer(&error),
    };
    let mut named = Vec::new();
    for name in names.into_iter().take(NAMES_MAX) {
        let leads_back = match resolver.addresses(&name).await {
            Ok(addresses) => Some(is_among(&addresses, client)),
            Err(DnsError::NotFound) => Some(false),
            Err(DnsError::Temporary(_)) => None,
        };
        named.push(Named { name, leads_back });
        if leads_back == Some(true) {
            break;
        }
    }
    Answer::Found(named)
}

async fn addresses(resolver: &dyn Resolver, helo: &str, name: Option<&Domain>) -> Answer<Vec<IpAddr>> {
    let Some(name) = name else { return literal(helo).map_or(Answer::NotAsked, |address| Answer::Found(vec![address])) };
    resolver.addresses(name).await.map_or_else(|error| no_answer(&error), Answer::Found)
}

/// RFC 7208 §4.5: the records that begin with the version and end there or go on after a space.
async fn spf(resolver: &dyn Resolver, domain: Option<&Domain>) -> Answer<Vec<String>> {
    let Some(domain) = domain else { return Answer::NotAsked };
    match resolver.texts(domain).await {
        Ok(texts) => records(&texts, "v=spf1", ' ').map_or(Answer::Nothing, Answer::Found),
        Err(error) => no_answer(&error),
    }
}

/// Of the domain, or of the nearest one above it that has a record (RFC 9989 §4.10).
async fn dmarc(resolver: &dyn Resolver, domain: Option<&Domain>) -> Answer<(Domain, String)> {
    let Some(domain) = domain else { return Answer::NotAsked };
    let labels: Vec<_> = domain.as_str().split('.').collect();
    // Not at the top: no registry's wishes are a sender's.
    for above in 0..labels.len().saturating_sub(1).clamp(1, DMARC_WALK_MAX) {
        let Ok(place) = Domain::parse(&format!("_dmarc.{}", labels[above..].join("."))) else { break };
        match resolver.texts(&place).await {
            Ok(texts) => {
                if let Some(record) = records(&texts, "v=DMARC1", ';').and_then(|records| records.into_iter().next()) {
                    return Answer::Found((place, record));
                }
            }
            Err(DnsError::NotFound) => {}
            Err(error) => return no_answer(&error),
        }
    }
    Answer::Nothing
}

/// The records of one kind, as they are shown.
fn records(texts: &[Vec<u8>], version: &str, after: char) -> Option<Vec<String>> {
    let is_one = |text: &&Vec<u8>| {
        let text = text.trim_ascii_start();
        let (Some(head), rest) = (text.get(..version.len()), text.get(version.len())) else { return false };
        head.eq_ignore_ascii_case(version.as_bytes()) && rest.is_none_or(|next| [b' ', after as u8].contains(next))
    };
    let shown = |text: &Vec<u8>| {
        let text = String::from_utf8_lossy(&text[..text.len().min(RECORD_SHOWN)]).into_owned();
        let more = if text.len() >= RECORD_SHOWN { " …" } else { "" };
        text.replace(char::is_control, "?") + more
    };
    let records: Vec<_> = texts.iter().filter(is_one).take(RECORDS_MAX).map(shown).collect();
    (!records.is_empty()).then_some(records)
}

fn no_answer<T>(error: &DnsError) -> Answer<T> {
    match error {
        DnsError::NotFound => Answer::Nothing,
        DnsError::Temporary(_) => Answer::Unknown,
    }
}

fn is_among(addresses: &[IpAddr], client: IpAddr) -> bool {
    addresses.iter().any(|address| address.to_canonical() == client.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim;

    const CLIENT: &str = "192.0.2.4";

    async fn ask(dns: sim::Dns, helo: &str, domain: Option<&str>) -> DnsNow {
        let domain: Option<Domain> = domain.map(|domain| domain.parse().unwrap());
        let sender = Sender { client: CLIENT.parse().unwrap(), helo, domain: domain.as_ref() };
        DnsNow::ask(&dns, &sim::Clock::new(), &sender).await
    }

    #[test]
    fn pointer_names_are_those_of_the_registries() {
        assert_eq!(pointer_name(CLIENT.parse().unwrap()), "4.2.0.192.in-addr.arpa.");
        assert_eq!(pointer_name("::ffff:192.0.2.4".parse().unwrap()), "4.2.0.192.in-addr.arpa.");
        let v6 = pointer_name("2001:db8::567:89ab".parse().unwrap());
        assert_eq!(v6, "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.");
    }

    #[tokio::test]
    async fn a_sender_in_order_is_seen_whole() {
        let dns = sim::Dns::new()
            .host("mail.sender.example", CLIENT)
            .text("news.sender.example", "other=1")
            .text("news.sender.example", "v=spf1 ip4:192.0.2.4 -all")
            .text("news.sender.example", "v=spf10 no")
            .text("_dmarc.sender.example", "v=DMARC1; p=none");
        let now = ask(dns, "mail.sender.example", Some("news.sender.example")).await;
        assert_eq!(now.confirmed().map(Domain::as_str), Some("mail.sender.example"));
        assert_eq!(now.helo_leads_to(CLIENT.parse().unwrap()), Some(true));
        assert_eq!(now.spf, Answer::Found(vec!["v=spf1 ip4:192.0.2.4 -all".to_owned()]));
        let place = "_dmarc.sender.example".parse().unwrap();
        assert_eq!(now.dmarc, Answer::Found((place, "v=DMARC1; p=none".to_owned())));
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_from_what_does_not_answer() {
        let nothing = ask(sim::Dns::new(), "[192.0.2.4]", Some("sender.example")).await;
        assert_eq!((&nothing.names, &nothing.spf, &nothing.dmarc), (&Answer::Nothing, &Answer::Nothing, &Answer::Nothing));
        assert_eq!((&nothing.helo, nothing.helo_leads_to(CLIENT.parse().unwrap())), (&None, Some(true)));
        assert_eq!(ask(sim::Dns::new(), "[IPv6:2001:db8::1]", None).await.helo_leads_to(CLIENT.parse().unwrap()), Some(false));
        assert_eq!(ask(sim::Dns::new(), "localhost", None).await.helo_addresses, Answer::NotAsked);
        let fails = sim::Dns::new().fail(CLIENT).fail("sender.example").fail("_dmarc.sender.example").fail("mail.sender.example");
        let unknown = ask(fails, "mail.sender.example", Some("sender.example")).await;
        assert_eq!((&unknown.names, &unknown.spf, &unknown.dmarc), (&Answer::Unknown, &Answer::Unknown, &Answer::Unknown));
        assert_eq!(unknown.helo_leads_to(CLIENT.parse().unwrap()), None);
        let half = ask(sim::Dns::new().name(CLIENT, "mail.sender.example").fail("mail.sender.example"), "x", None).await;
        let named = Named { name: "mail.sender.example".parse().unwrap(), leads_back: None };
        assert_eq!((&half.names, &half.spf), (&Answer::Found(vec![named]), &Answer::NotAsked));
    }

    #[tokio::test]
    async fn a_record_of_ten_thousand_bytes_and_a_hundred_names_are_cut() {
        let mut dns = sim::Dns::new().text("sender.example", &format!("v=spf1 {}\u{1b}[2J", "ä".repeat(5000)));
        for number in 0..100 {
            dns = dns.name(CLIENT, &format!("a{number}.sender.example"));
        }
        let now = ask(dns, "x", Some("sender.example")).await;
        let (Answer::Found(names), Answer::Found(spf)) = (now.names, now.spf) else { panic!("both are there") };
        assert_eq!(names.len(), NAMES_MAX);
        assert!(spf[0].len() < RECORD_SHOWN + 10 && spf[0].ends_with('…'), "{}", spf[0]);
    }
}
