//! DNS lists of hosts in links (URIBL; RFC 5782 §2.2), by their points.
//!
//! Proved and counted as the lists of clients are: one that does not list its test entry, that lists `invalid`, or that suddenly
//! lists most of what it is asked about has no effect until a proof succeeds again. Addresses are never asked about: lists of
//! names answer them with errors. DNS that does not answer in time finds nothing; the message is judged without it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::clients::Asked;
use super::lists::{Change, ListAnswer, ListStatus, Proof, Zone, in_ranges, keep_proof, read, read_proof, tell};
use crate::config::{Config, UriAsk, UriCodes, UriZone};
use crate::mail::{Domain, Finding};
use crate::outside::{Clock, DnsError, Resolver};

/// How long a message waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// Hosts asked about for one message.
const HOSTS_MAX: usize = 20;
/// Answers remembered.
const KNOWN_MAX: usize = 50_000;
/// Lists remembered: more than anybody has in the settings.
const ZONES_MAX: usize = 1_000;

/// Asks lists about hosts and remembers. Cloning shares it.
#[derive(Clone)]
pub struct Uris {
    resolver: Arc<dyn Resolver>,
    answers: Asked<(Domain, Domain), ListAnswer>,
    proofs: Asked<Domain, Proof>,
    zones: Arc<Mutex<HashMap<Domain, Zone<Domain>>>>,
}

impl Uris {
    pub fn new(resolver: Arc<dyn Resolver>, clock: Arc<dyn Clock>) -> Uris {
        Uris {
            resolver,
            answers: Asked::new(Arc::clone(&clock), KNOWN_MAX, keep_answer),
            proofs: Asked::new(clock, ZONES_MAX, keep_proof),
            zones: Arc::default(),
        }
    }

    /// What the lists of the settings say about these hosts, as far as it comes within two seconds: at most one `uri-listed` a
    /// list, with its points. The hosts that matter most stand first.
    pub async fn findings(&self, config: &Config, hosts: &[String]) -> Vec<Finding> {
        let lists = &config.checks.uri_lists;
        let hosts: Vec<Names> = hosts.iter().filter_map(|host| Names::of(host)).take(HOSTS_MAX).collect();
        if lists.is_empty() || hosts.is_empty() {
            return Vec::new();
        }
        self.prove(config);
        let mut questions = JoinSet::new();
        for (place, list) in lists.iter().enumerate() {
            let mut names: Vec<&Domain> = Vec::new();
            for name in hosts.iter().map(|host| host.asked_by(list)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            for (order, name) in names.into_iter().enumerate() {
                let (this, list, name) = (self.clone(), list.clone(), name.clone());
                questions.spawn(async move { (place, order, this.answer(&list, &name).await, name) });
            }
        }
        let mut answers = questions.join_all().await;
        answers.sort_by_key(|(place, order, ..)| (*place, *order));
        let listed = |wanted: usize| {
            answers.iter().filter_map(move |(place, _, answer, name)| match answer {
                Some(ListAnswer::Listed(code)) if *place == wanted => Some((name, *code)),
                _ => None,
            })
        };
        let effective = lists.iter().enumerate().filter(|(_, list)| self.shadow(list).is_none());
        effective.filter_map(|(place, list)| finding(list, listed(place))).collect()
    }

    /// Starts the proofs that are due, without waiting; lists that left the settings are forgotten.
    pub fn prove(&self, config: &Config) {
        let lists = &config.checks.uri_lists;
        self.zones().retain(|zone, _| lists.iter().any(|list| list.zone == *zone));
        for list in lists {
            self.proofs.start(list.zone.clone(), || self.proof(list));
        }
    }

    /// How the lists of the settings are doing.
    pub fn status(&self, config: &Config) -> Vec<ListStatus> {
        let (zones, new) = (self.zones(), Zone::default());
        let status = |list: &UriZone| zones.get(&list.zone).unwrap_or(&new).status(&list.zone, list.points, list.shadow);
        config.checks.uri_lists.iter().map(status).collect()
    }

    /// The first question to a list waits for its proof, which is asked for at the same time.
    async fn answer(&self, list: &UriZone, name: &Domain) -> Option<ListAnswer> {
        let about = (list.zone.clone(), name.clone());
        let answer = self.answers.within(about, PATIENCE, || self.question(list, name));
        let proved = self.zones().get(&list.zone).is_some_and(Zone::is_proved);
        if proved {
            return answer.await;
        }
        let proof = self.proofs.within(list.zone.clone(), PATIENCE, || self.proof(list));
        tokio::join!(answer, proof).0
    }

    fn question(&self, list: &UriZone, name: &Domain) -> impl Future<Output = ListAnswer> + Send + 'static {
        let (this, list, name) = (self.clone(), list.clone(), name.clone());
        async move {
            let answer = read(&this.ask(name.as_str(), &list.zone).await, |code| counts(code, &list.counts));
            this.change(&list.zone, |zone| zone.answered(name, answer));
            answer
        }
    }

    fn proof(&self, list: &UriZone) -> impl Future<Output = Proof> + Send + 'static {
        let (this, list) = (self.clone(), list.clone());
        async move {
            let test = list.test.as_str();
            let (listed, unlisted) = tokio::join!(this.ask(test, &list.zone), this.ask("invalid", &list.zone));
            let proof = read_proof((test, &listed), ("invalid", &unlisted));
            this.change(&list.zone, |zone| zone.proved(&proof));
            proof
        }
    }

    /// A name too long for DNS in front of this zone is on no list.
    async fn ask(&self, name: &str, zone: &Domain) -> Result<Vec<Ipv4Addr>, DnsError> {
        let name = Domain::parse(&format!("{name}.{zone}")).map_err(|_| DnsError::NotFound)?;
        self.resolver.v4_addresses(&name).await
    }

    fn shadow(&self, list: &UriZone) -> Option<String> {
        self.zones()
            .get(&list.zone)
            .map_or_else(|| Zone::<Domain>::default().shadow(list.shadow), |zone| zone.shadow(list.shadow))
    }

    fn change(&self, zone: &Domain, change: impl FnOnce(&mut Zone<Domain>) -> Option<Change>) {
        let changed = change(self.zones().entry(zone.clone()).or_default());
        tell(zone, changed);
    }

    fn zones(&self) -> MutexGuard<'_, HashMap<Domain, Zone<Domain>>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A host and what somebody registered of it.
struct Names {
    host: Domain,
    registered: Domain,
}

impl Names {
    /// `None` for what is not asked about: addresses, names that cannot be in DNS, and those that everybody links to.
    fn of(host: &str) -> Option<Names> {
        let host = host.strip_prefix("www.").unwrap_or(host).trim_end_matches('.');
        if host.parse::<IpAddr>().is_ok() || !host.contains('.') {
            return None;
        }
        let host = Domain::parse(host).ok()?;
        let registered = Domain::parse(psl::domain_str(host.as_str())?).ok()?;
        let known = |name: &Domain| WELL_KNOWN.binary_search(&name.as_str()).is_ok();
        (!known(&registered) && !known(&host)).then_some(Names { host, registered })
    }

    fn asked_by(&self, list: &UriZone) -> &Domain {
        match list.ask {
            UriAsk::Domain => &self.registered,
            UriAsk::Host => &self.host,
        }
    }
}

fn finding<'a>(list: &UriZone, mut listed: impl Iterator<Item = (&'a Domain, Ipv4Addr)>) -> Option<Finding> {
    let (name, code) = listed.next()?;
    let more = match listed.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let evidence = format!("{name} on {} ({code}){more}", list.zone);
    Some(Finding { points: list.points, ..Finding::new("uri-listed", &evidence) })
}

fn counts(code: Ipv4Addr, wanted: &UriCodes) -> bool {
    match wanted {
        UriCodes::Ranges(ranges) => in_ranges(code, ranges),
        UriCodes::Bits(bits) => matches!(code.octets(), [127, 0, 0, seen] if seen & bits != 0),
    }
}

/// A listing ends one day; who was delisted must not wait for long.
fn keep_answer(answer: &ListAnswer) -> Duration {
    let unknown = matches!(answer, ListAnswer::Unanswered | ListAnswer::Error(_));
    Duration::from_secs(if unknown { 30 } else { 300 })
}

/// On no list, in most mail: questions about them are wasted. Sorted. None where anybody puts up pages under the name itself.
const WELL_KNOWN: [&str; 113] = [
    "adobe.com",
    "airbnb.com",
    "akamai.net",
    "akamaized.net",
    "aliexpress.com",
    "amazon.ca",
    "amazon.co.jp",
    "amazon.co.uk",
    "amazon.com",
    "amazon.de",
    "amazon.es",
    "amazon.fr",
    "amazon.in",
    "amazon.it",
    "aol.com",
    "apache.org",
    "apple.com",
    "bbc.co.uk",
    "bing.com",
    "bitbucket.org",
    "booking.com",
    "cisco.com",
    "cloudflare.com",
    "cnn.com",
    "constantcontact.com",
    "debian.org",
    "dell.com",
    "deutschepost.de",
    "dhl.com",
    "dhl.de",
    "docusign.net",
    "dropbox.com",
    "ebay.co.uk",
    "ebay.com",
    "ebay.de",
    "europa.eu",
    "facebook.com",
    "fbcdn.net",
    "fedex.com",
    "flickr.com",
    "gmail.com",
    "gmx.de",
    "gmx.net",
    "gnu.org",
    "google.ca",
    "google.co.uk",
    "google.com",
    "google.de",
    "google.es",
    "google.fr",
    "google.it",
    "gravatar.com",
    "gstatic.com",
    "hotmail.com",
    "hp.com",
    "ibm.com",
    "icloud.com",
    "ietf.org",
    "imdb.com",
    "ing.de",
    "instagram.com",
    "intel.com",
    "intuit.com",
    "kernel.org",
    "linkedin.com",
    "linux.org",
    "live.com",
    "mailchimp.com",
    "mcusercontent.com",
    "microsoft.com",
    "microsoftonline.com",
    "mozilla.org",
    "msn.com",
    "netflix.com",
    "nytimes.com",
    "office.com",
    "oracle.com",
    "outlook.com",
    "paypal.com",
    "paypal.de",
    "paypalobjects.com",
    "pinterest.com",
    "python.org",
    "reddit.com",
    "redhat.com",
    "salesforce.com",
    "sap.com",
    "shopify.com",
    "skype.com",
    "sparkasse.de",
    "spotify.com",
    "stackoverflow.com",
    "stripe.com",
    "t-online.de",
    "telekom.de",
    "theguardian.com",
    "tiktok.com",
    "twitch.tv",
    "twitter.com",
    "ups.com",
    "usps.com",
    "vimeo.com",
    "w3.org",
    "web.de",
    "whatsapp.com",
    "wikipedia.org",
    "windowsupdate.com",
    "x.com",
    "xing.com",
    "yahoo.com",
    "youtu.be",
    "youtube.com",
    "zoom.us",
];

#[cfg(test)]
mod tests;
