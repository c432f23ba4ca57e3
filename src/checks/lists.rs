//! DNS lists of clients (RFC 5782): those that speak against them (DNSBL) and those that speak for them (DNSWL), by their points.
//!
//! - Only an answer among the codes of the settings is a listing. 127.255.255.x ("you may not ask"), anything outside 127.0.0.0/8
//!   (a resolver that invents answers) and codes that the settings do not name are errors; no answer is not known.
//! - A list has an effect only while it is proved: it lists its test address 127.0.0.2 and does not list 127.0.0.1. Each is
//!   proved when it is first used, and hourly. One that fails, or that suddenly lists most clients, goes to shadow: it is asked
//!   and counted, and has no effect, until a proof succeeds again (and it lists few again).

mod zone;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

pub use zone::ListStatus;

pub(super) use self::zone::{Change, Proof, Zone};
use super::clients::Asked;
use crate::config::ListZone;
use crate::mail::Domain;
use crate::outside::{Clock, DnsError, Resolver};

/// What one list says about one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListResult {
    pub zone: Domain,
    pub answer: ListAnswer,
    /// Of the settings.
    pub points: f32,
    /// Why the list has no effect now; `None`: it counts.
    pub shadow: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListAnswer {
    NotListed,
    /// The first of the answers that the settings count.
    Listed(Ipv4Addr),
    /// An answer that is no listing.
    Error(Ipv4Addr),
    /// DNS did not answer, or not in time.
    Unanswered,
}

/// Asks lists and remembers. Cloning shares it.
#[derive(Clone)]
pub(super) struct Lists {
    resolver: Arc<dyn Resolver>,
    clients: Asked<IpAddr, Answers>,
    proofs: Asked<Domain, Proof>,
    zones: Arc<Mutex<HashMap<Domain, Zone<IpAddr>>>>,
}

/// Of one client, by zone.
type Answers = Arc<Vec<(Domain, ListAnswer)>>;

/// Clients remembered.
const KNOWN_MAX: usize = 20_000;
/// Lists remembered: more than anybody has in the settings.
const ZONES_MAX: usize = 1_000;

impl Lists {
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> Lists {
        Lists {
            resolver,
            clients: Asked::new(Arc::clone(&clock), KNOWN_MAX, keep_answers),
            proofs: Asked::new(clock, ZONES_MAX, keep_proof),
            zones: Arc::default(),
        }
    }

    /// Starts to ask, without waiting.
    pub fn prefetch(&self, lists: &[ListZone], client: IpAddr) {
        if !lists.is_empty() && is_public(client) {
            self.clients.start(client, || self.question(lists, client));
        }
    }

    /// What the lists say, as far as it comes within `patience`.
    pub async fn within(&self, lists: &[ListZone], client: IpAddr, patience: Duration) -> Vec<ListResult> {
        if lists.is_empty() || !is_public(client) {
            return Vec::new();
        }
        let answers = self.clients.within(client, patience, || self.question(lists, client)).await.unwrap_or_default();
        let zones = self.zones();
        let result = |list: &ListZone| {
            let answer = answers.iter().find(|(zone, _)| *zone == list.zone);
            let answer = answer.map_or(ListAnswer::Unanswered, |(_, answer)| *answer);
            ListResult { zone: list.zone.clone(), answer, points: list.points, shadow: shadow(zones.get(&list.zone), list) }
        };
        lists.iter().map(result).collect()
    }

    pub fn forget(&self, client: IpAddr) {
        self.clients.forget(&client);
    }

    /// Starts the proofs that are due; lists that left the settings are forgotten.
    pub fn prove(&self, lists: &[ListZone]) {
        self.zones().retain(|zone, _| lists.iter().any(|list| list.zone == *zone));
        for list in lists {
            self.proofs.start(list.zone.clone(), || self.proof(list.zone.clone()));
        }
    }

    pub fn status(&self, lists: &[ListZone]) -> Vec<ListStatus> {
        let zones = self.zones();
        let new = Zone::default();
        lists.iter().map(|list| zones.get(&list.zone).unwrap_or(&new).status(&list.zone, list.points, list.shadow)).collect()
    }

    /// All lists at once. The first client of a list waits for its proof, which is asked for at the same time.
    fn question(&self, lists: &[ListZone], client: IpAddr) -> impl Future<Output = Answers> + Send + 'static {
        let mut questions = JoinSet::new();
        for list in lists {
            let (this, list) = (self.clone(), list.clone());
            questions.spawn(async move {
                let proof = this.proofs.answer(list.zone.clone(), || this.proof(list.zone.clone()));
                let answer = this.ask(&list.zone, client);
                let answer = if this.is_proved(&list.zone) { answer.await } else { tokio::join!(proof, answer).1 };
                (list.zone.clone(), read(&answer, |code| in_ranges(code, &list.codes)))
            });
        }
        let this = self.clone();
        async move {
            let answers = questions.join_all().await;
            for (zone, answer) in &answers {
                this.change(zone, |zone| zone.answered(client, *answer));
            }
            Arc::new(answers)
        }
    }

    fn proof(&self, zone: Domain) -> impl Future<Output = Proof> + Send + 'static {
        let this = self.clone();
        async move {
            let listed = this.ask(&zone, IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)));
            let unlisted = this.ask(&zone, IpAddr::V4(Ipv4Addr::LOCALHOST));
            let (listed, unlisted) = tokio::join!(listed, unlisted);
            let proof = read_proof(("127.0.0.2", &listed), ("127.0.0.1", &unlisted));
            this.change(&zone, |zone| zone.proved(&proof));
            proof
        }
    }

    async fn ask(&self, zone: &Domain, client: IpAddr) -> Result<Vec<Ipv4Addr>, DnsError> {
        let name = question_name(client, zone);
        let name = name.ok_or_else(|| DnsError::Temporary(format!("{zone}: the name of the list is too long")))?;
        self.resolver.v4_addresses(&name).await
    }

    fn is_proved(&self, zone: &Domain) -> bool {
        self.zones().get(zone).is_some_and(Zone::is_proved)
    }

    fn change(&self, zone: &Domain, change: impl FnOnce(&mut Zone<IpAddr>) -> Option<Change>) {
        let changed = change(self.zones().entry(zone.clone()).or_default());
        tell(zone, changed);
    }

    fn zones(&self) -> MutexGuard<'_, HashMap<Domain, Zone<IpAddr>>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What operators hear.
pub(super) fn tell(zone: &Domain, changed: Option<Change>) {
    match changed {
        None => {}
        Some(Change::ToShadow(why)) => {
            tracing::warn!(%zone, why, "a DNS list is counted but has no effect until its proof succeeds again");
        }
        Some(Change::Back) => tracing::info!(%zone, "a DNS list has been proved and has its effect"),
    }
}

/// The settings may ask for it, too.
fn shadow(zone: Option<&Zone<IpAddr>>, list: &ListZone) -> Option<String> {
    zone.map_or_else(|| Zone::<IpAddr>::default().shadow(list.shadow), |zone| zone.shadow(list.shadow))
}

/// A listing ends one day; who was delisted must not wait for long.
fn keep_answers(answers: &Answers) -> Duration {
    let unknown = answers.iter().any(|(_, answer)| matches!(answer, ListAnswer::Unanswered | ListAnswer::Error(_)));
    Duration::from_secs(if unknown { 30 } else { 300 })
}

pub(super) fn keep_proof(proof: &Proof) -> Duration {
    Duration::from_secs(match proof {
        Proof::Passed => 3600,
        Proof::Failed(_) => 600,
        Proof::Unanswered(_) => 60,
    })
}

/// RFC 5782 §2.1 and §2.4: octets or nibbles backwards, in front of the zone. `None`: DNS has no names that long.
fn question_name(client: IpAddr, zone: &Domain) -> Option<Domain> {
    let labels: Vec<String> = match client {
        IpAddr::V4(address) => address.octets().iter().rev().map(u8::to_string).collect(),
        IpAddr::V6(address) => (0..32).map(|nibble| format!("{:x}", (address.to_bits() >> (4 * nibble)) & 15)).collect(),
    };
    Domain::parse(&format!("{}.{zone}", labels.join("."))).ok()
}

/// One error among the answers says that the list, or the resolver, is not what it should be: then nothing of it counts.
pub(super) fn read(answer: &Result<Vec<Ipv4Addr>, DnsError>, counts: impl Fn(Ipv4Addr) -> bool) -> ListAnswer {
    let answers = match answer {
        Ok(answers) => answers,
        Err(DnsError::NotFound) => return ListAnswer::NotListed,
        Err(DnsError::Temporary(_)) => return ListAnswer::Unanswered,
    };
    if let Some(error) = answers.iter().find(|code| !is_code(**code)) {
        return ListAnswer::Error(*error);
    }
    match (answers.iter().find(|code| counts(**code)), answers.first()) {
        (Some(code), _) => ListAnswer::Listed(*code),
        (None, Some(other)) => ListAnswer::Error(*other),
        (None, None) => ListAnswer::NotListed,
    }
}

pub(super) fn in_ranges(code: Ipv4Addr, ranges: &[(Ipv4Addr, Ipv4Addr)]) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

/// An answer that a list may give: in 127.0.0.0/8, and none of the errors in 127.255.255.0/24 (RFC 8904 §2, and as the large
/// lists use it).
fn is_code(code: Ipv4Addr) -> bool {
    code.is_loopback() && !matches!(code.octets(), [127, 255, 255, _])
}

/// By any code: the test address need not have one that the settings count. Each with the name of what was asked about.
pub(super) fn read_proof(
    (test, listed): (&str, &Result<Vec<Ipv4Addr>, DnsError>),
    (never, unlisted): (&str, &Result<Vec<Ipv4Addr>, DnsError>),
) -> Proof {
    let wrong = |codes: &[Ipv4Addr]| codes.iter().find(|code| !is_code(**code)).copied();
    match (listed, unlisted) {
        (_, Ok(codes)) => {
            let code = codes.first().map_or_else(String::new, Ipv4Addr::to_string);
            Proof::Failed(format!("it lists {never} ({code}), which no list may do"))
        }
        (Ok(codes), _) if wrong(codes).is_some() => {
            let code = wrong(codes).map_or_else(String::new, |code| code.to_string());
            Proof::Failed(format!("it answers {code}, an error, to the question for its test entry {test}"))
        }
        (Err(DnsError::NotFound), _) => Proof::Failed(format!("it does not list its test entry {test}")),
        (Err(DnsError::Temporary(why)), _) | (_, Err(DnsError::Temporary(why))) => Proof::Unanswered(why.clone()),
        (Ok(_), Err(DnsError::NotFound)) => Proof::Passed,
    }
}

/// Addresses that mean something to others.
fn is_public(client: IpAddr) -> bool {
    match client {
        IpAddr::V4(address) => {
            let shared = matches!(address.octets(), [100, 64..=127, _, _]);
            !(address.is_private() || address.is_loopback() || address.is_link_local() || address.is_unspecified() || shared)
        }
        IpAddr::V6(address) => {
            !(address.is_loopback() || address.is_unspecified() || address.is_unique_local() || address.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn questions_are_backwards() {
        let name = |client: &str| question_name(client.parse().unwrap(), &"bl.example".parse().unwrap()).unwrap().to_string();
        assert_eq!(name("192.0.2.99"), "99.2.0.192.bl.example");
        assert_eq!(
            name("2001:db8:1:2:3:4:567:89ab"),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.bl.example"
        );
        let long: Domain = format!("{}bl.example", "a23456789.".repeat(20)).parse().unwrap();
        assert_eq!(question_name("2001:db8::1".parse().unwrap(), &long), None);
    }

    #[test]
    fn only_codes_of_the_settings_are_listings() {
        let codes = [(code("127.0.0.2"), code("127.0.0.11")), (code("127.0.2.0"), code("127.0.2.255"))];
        let answer =
            |answers: &[&str]| read(&Ok(answers.iter().map(|answer| code(answer)).collect()), |code| in_ranges(code, &codes));
        let listed = |text: &str| ListAnswer::Listed(code(text));
        let error = |text: &str| ListAnswer::Error(code(text));
        assert_eq!(answer(&["127.0.0.2"]), listed("127.0.0.2"));
        assert_eq!(answer(&["127.0.0.11"]), listed("127.0.0.11"));
        assert_eq!(answer(&["127.0.2.9"]), listed("127.0.2.9"));
        assert_eq!(answer(&["127.0.9.9", "127.0.0.4"]), listed("127.0.0.4"));
        assert_eq!(answer(&["127.0.0.12"]), error("127.0.0.12"));
        assert_eq!(answer(&["127.0.0.1"]), error("127.0.0.1"));
        assert_eq!(answer(&["127.255.255.254"]), error("127.255.255.254"));
        assert_eq!(answer(&["127.0.0.2", "127.255.255.1"]), error("127.255.255.1"));
        assert_eq!(answer(&["198.51.100.7"]), error("198.51.100.7"));
        assert_eq!(answer(&["127.0.0.2", "198.51.100.7"]), error("198.51.100.7"));
        assert_eq!(answer(&["0.0.0.0"]), error("0.0.0.0"));
        assert_eq!(read(&Err(DnsError::NotFound), |code| in_ranges(code, &codes)), ListAnswer::NotListed);
        assert_eq!(read(&Err(DnsError::Temporary(String::new())), |code| in_ranges(code, &codes)), ListAnswer::Unanswered);
        let all = [(code("127.0.0.0"), code("127.255.255.255"))];
        assert_eq!(
            read(&Ok(vec![code("127.255.255.252")]), |code| in_ranges(code, &all)),
            error("127.255.255.252"),
            "not even when it is asked for"
        );
    }

    #[test]
    fn a_proof_needs_both_answers() {
        let proof = |listed: &Result<Vec<Ipv4Addr>, DnsError>, unlisted: &Result<Vec<Ipv4Addr>, DnsError>| {
            read_proof(("127.0.0.2", listed), ("127.0.0.1", unlisted))
        };
        let (none, fail) = (Err(DnsError::NotFound), Err(DnsError::Temporary("timeout".into())));
        let some = |text: &str| Ok(vec![code(text)]);
        assert_eq!(proof(&some("127.0.0.10"), &none), Proof::Passed);
        assert_eq!(proof(&some("127.0.0.10"), &fail), Proof::Unanswered("timeout".into()));
        assert_eq!(proof(&fail, &none), Proof::Unanswered("timeout".into()));
        for (listed, unlisted) in [
            (none.clone(), none.clone()),
            (some("127.255.255.254"), none.clone()),
            (some("198.51.100.1"), none.clone()),
            (some("127.0.0.2"), some("127.0.0.2")),
            (some("198.51.100.1"), some("198.51.100.1")),
            (none, fail),
        ] {
            assert!(matches!(proof(&listed, &unlisted), Proof::Failed(_)), "{listed:?} {unlisted:?}");
        }
    }

    #[test]
    fn nobody_is_asked_about_inner_addresses() {
        for inner in
            ["10.1.2.3", "127.0.0.1", "192.168.1.1", "172.16.0.1", "100.64.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"]
        {
            assert!(!is_public(inner.parse().unwrap()), "{inner}");
        }
        assert!(is_public("198.51.100.1".parse().unwrap()) && is_public("2001:db8::1".parse().unwrap()));
    }
}
