//! Who knocks, as far as it is proven: the identities that greylisting counts by, best first. Pure, but for the questions that
//! the caller has asked already.
//!
//! An identity is an organisation's domain or a network. An organisation stands for all of its hosts, so that a large sender whose
//! retries come from anywhere waits once, and only once, for all of them. It is proven by SPF (the owner of the sender's domain
//! names the client), by DKIM (an earlier message from there was signed by it), or by a reverse name that leads back to the client.
//! What proves nothing: a name that only spells the client's address. It is the provider's, and every infected machine there has one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::checks::ClientReport;
use crate::checks::network::{client as host, neighbourhood};
use crate::config::Greylisting;
use crate::mail::{Address, Client, Domain, Finding, ReversePath};

/// One recipient's question to greylisting.
#[derive(Clone, Debug)]
pub struct Newcomer<'a> {
    pub client: IpAddr,
    /// Its name in DNS, confirmed or not: shown to operators.
    pub reverse_name: Option<&'a Domain>,
    /// Whose host it is, by its confirmed name.
    pub reverse_organisation: Option<Domain>,
    pub sender: &'a ReversePath,
    pub recipient: &'a Address,
    /// Something about it is not as a mail server's is; SPF not counted.
    pub is_suspicious: bool,
    /// DNS lists speak for it.
    pub is_vouched: bool,
    pub how: Greylisting,
}

/// What SPF says of the sender and the client, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpfProof {
    Pass,
    /// Fail, softfail.
    Blemish,
    /// None, neutral, an error, or nobody asked.
    Unknown,
}

impl SpfProof {
    /// By the result's name (RFC 8601 §2.7.2).
    pub fn of(result: &str) -> SpfProof {
        match result {
            "pass" => SpfProof::Pass,
            "fail" | "softfail" => SpfProof::Blemish,
            _ => SpfProof::Unknown,
        }
    }
}

/// What no well-kept mail server does in a session. Names and lists are the report's to judge, SPF is asked last.
const BAD_MANNERS: [&str; 2] = ["early-talker", "pipelining"];

impl<'a> Newcomer<'a> {
    pub fn new(
        client: &Client,
        report: &'a ClientReport,
        sender: &'a ReversePath,
        recipient: &'a Address,
        how: Greylisting,
    ) -> Newcomer<'a> {
        // Also where the settings do not ask for it: the domain's check may be off.
        let is_access_line =
            report.reverse.dynamic.is_some() || report.findings.iter().any(|finding| finding.id == "dynamic-name");
        let confirmed = report.name.as_ref().filter(|_| report.confirmed);
        Newcomer {
            client: client.address,
            reverse_name: report.name.as_ref(),
            reverse_organisation: confirmed.and_then(|name| owner(name, client.address, is_access_line)),
            sender,
            recipient,
            is_suspicious: report.is_suspicious() || client.findings.iter().any(is_bad_manners),
            is_vouched: report.is_vouched_for(),
            how,
        }
    }

    /// What is known without asking anybody.
    pub(super) fn proven(&self) -> Proven {
        Proven::new(self.client, self.reverse_organisation.clone())
    }
}

pub(super) fn sender_organisation(sender: &ReversePath) -> Option<Domain> {
    Some(sender.address()?.domain()?.organisation())
}

/// Whose host it is that has this confirmed name; `None`: its provider's, who does not know what it sends.
pub(in crate::checks) fn owner(name: &Domain, address: IpAddr, is_access_line: bool) -> Option<Domain> {
    let is_providers = is_access_line || spells_address(name.as_str(), address);
    // A lone label, like `localhost`, is nobody's.
    Some(name.organisation()).filter(|organisation| !is_providers && organisation.as_str().contains('.'))
}

fn is_bad_manners(finding: &Finding) -> bool {
    BAD_MANNERS.contains(&finding.id.as_str())
}

/// Whom greylisting counts as one: an organisation with all its hosts, or a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Organisation(Domain),
    Network(IpNet),
}

impl Identity {
    /// The organisation that a domain belongs to.
    pub fn of_domain(domain: &Domain) -> Identity {
        Identity::Organisation(domain.organisation())
    }

    /// The /24 or /64 around it.
    pub fn of_address(address: IpAddr) -> Identity {
        Identity::Network(neighbourhood(address))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Organisation(domain) => domain.fmt(f),
            Identity::Network(network) => network.fmt(f),
        }
    }
}

/// As [`Identity`] is shown: a slash stands in every network and in no domain.
impl FromStr for Identity {
    type Err = ();
    fn from_str(text: &str) -> Result<Identity, ()> {
        match text.contains('/') {
            true => text.parse().map(Identity::Network).map_err(drop),
            false => Domain::parse(text).map(Identity::Organisation).map_err(drop),
        }
    }
}

/// Everything a newcomer has proven to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proven {
    /// Best first: SPF or DKIM, then the reverse name. At most two.
    pub organisations: Vec<Domain>,
    /// An IPv4 address, or a /64.
    pub host: IpNet,
    /// /24 or /64.
    pub network: IpNet,
    /// SPF says that it may not send in this name.
    pub is_denied: bool,
}

impl Proven {
    fn new(client: IpAddr, organisation: Option<Domain>) -> Proven {
        Proven {
            organisations: organisation.into_iter().collect(),
            host: host(client),
            network: neighbourhood(client),
            is_denied: false,
        }
    }

    /// Of a client that has been looked up.
    pub fn of(client: &Client) -> Proven {
        let confirmed = client.reverse_name.as_ref().filter(|_| client.reverse_confirmed);
        Proven::new(
            client.address,
            confirmed
                .and_then(|name| owner(name, client.address, client.findings.iter().any(|finding| finding.id == "dynamic-name"))),
        )
    }

    /// A better proof than those before.
    pub fn add(&mut self, organisation: Domain) {
        self.organisations.retain(|known| *known != organisation);
        self.organisations.insert(0, organisation);
    }

    /// By which its first try is remembered.
    pub fn best(&self) -> Identity {
        let organisation = self.organisations.first().cloned().map(Identity::Organisation);
        organisation.unwrap_or(Identity::Network(self.network))
    }

    /// Whoever of these passed before, it passes.
    pub fn known_by(&self) -> Vec<Identity> {
        let organisations = self.organisations.iter().cloned().map(Identity::Organisation);
        organisations.chain(self.networks().map(Identity::Network)).collect()
    }

    /// Who is remembered when it has come back. Its neighbours only where it is nobody's: hosts of different owners live side by
    /// side in large data centres.
    pub fn earned_by(&self) -> Vec<Identity> {
        match self.organisations.is_empty() {
            true => vec![Identity::Network(self.network)],
            false => {
                let organisations = self.organisations.iter().cloned().map(Identity::Organisation);
                organisations.chain([Identity::Network(self.host)]).collect()
            }
        }
    }

    /// From where signatures are remembered: the organisation of the reverse name, or the network.
    pub fn places(&self) -> Vec<Identity> {
        let organisations = self.organisations.iter().cloned().map(Identity::Organisation);
        organisations.chain([Identity::Network(self.network)]).collect()
    }

    /// One for IPv6.
    fn networks(&self) -> impl Iterator<Item = IpNet> {
        [Some(self.network), Some(self.host).filter(|host| *host != self.network)].into_iter().flatten()
    }
}

/// Whether a name says little more than the client's address: `static.7.2.0.192.clients.provider.example`, `p5b0c1234.dip.…`.
/// Two octets alone are no proof: large senders number their hosts so.
fn spells_address(name: &str, address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            let numbers: Vec<u64> =
                name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|run| run.parse().ok()).collect();
            let in_a_row = |octets: [u8; 3]| numbers.windows(3).any(|run| run == octets.map(u64::from));
            let run_together = [format!("{a:03}{b:03}{c:03}{d:03}"), format!("{d:03}{c:03}{b:03}{a:03}")];
            let in_hex = [format!("{a:02x}{b:02x}{c:02x}{d:02x}"), format!("{d:02x}{c:02x}{b:02x}{a:02x}")];
            [[a, b, c], [b, c, d], [d, c, b], [c, b, a]].into_iter().any(in_a_row)
                || run_together.iter().chain(&in_hex).any(|run| name.contains(run.as_str()))
        }
        IpAddr::V6(address) => {
            let letters: String = name.chars().filter(char::is_ascii_hexdigit).collect();
            let host: String = address.octets()[8..].iter().map(|byte| format!("{byte:02x}")).collect();
            name.contains(&address.to_string().replace(':', "-")) || letters.contains(&host)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Protocol;

    fn client(address: &str, findings: &[&str]) -> Client {
        Client {
            address: address.parse().unwrap(),
            reverse_name: None,
            reverse_confirmed: false,
            helo: String::new(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: findings.iter().map(|id| Finding::new(id, "")).collect(),
        }
    }

    fn report(name: &str, confirmed: bool, listed: &[f32]) -> ClientReport {
        let listed = listed.iter().map(|points| Finding::new("listed", "zone.example").with_points(*points));
        ClientReport { name: Domain::parse(name).ok(), confirmed, findings: listed.collect(), ..ClientReport::default() }
    }

    fn found(findings: &[&str], mut report: ClientReport) -> ClientReport {
        report.findings.extend(findings.iter().map(|id| Finding::new(id, "")));
        report
    }

    #[track_caller]
    fn newcomer<T>(client: &Client, report: &ClientReport, look: impl FnOnce(Newcomer<'_>) -> T) -> T {
        let (sender, recipient) = ("joe@list.sender.example".parse().unwrap(), Address::parse("ann@customer.example").unwrap());
        look(Newcomer::new(client, report, &sender, &recipient, Greylisting::Always))
    }

    #[test]
    fn a_confirmed_name_proves_its_organisation() {
        let of = |name, confirmed, findings| {
            let organisation = |newcomer: Newcomer<'_>| newcomer.reverse_organisation.map(|domain| domain.to_string());
            newcomer(&client("192.0.2.27", &[]), &found(findings, report(name, confirmed, &[])), organisation)
        };
        assert_eq!(of("mail-ej1-f27.pool.example", true, &[]).as_deref(), Some("pool.example"));
        assert_eq!(of("a2-27.smtp-out.eu.pool.co.uk", true, &[]).as_deref(), Some("pool.co.uk"));
        assert_eq!(of("mail.pool.example", false, &[]), None, "anybody can claim a name");
        assert_eq!(of("mail.pool.example", true, &["dynamic-name"]), None);
        assert_eq!(of("static.27.2.0.192.clients.provider.example", true, &[]), None, "the provider's, not the sender's");
        assert_eq!(of("localhost", true, &[]), None);
    }

    #[test]
    fn names_that_spell_the_address() {
        let spells = |name, address: &str| spells_address(name, address.parse().unwrap());
        for name in [
            "ec2-198-51-100-7.compute.provider.example",
            "7.100.51.198.static.provider.example",
            "dsl-51-100-7.provider.example",
            "198051100007.provider.example",
            "pc6336407.dip.provider.example",
            "ip198.051.100.007.provider.example",
        ] {
            assert!(spells(name, "198.51.100.7"), "{name}");
            assert!(spells(name, "::ffff:198.51.100.7"), "{name}");
        }
        for name in ["mail7.sender.example", "a100-7.smtp-out.sender.example", "mx198-51.sender.example", "o1.ptr.sender.example"]
        {
            assert!(!spells(name, "198.51.100.7"), "{name}");
        }
        assert!(spells("2001-db8--1234.v6.provider.example", "2001:db8::1234"));
        assert!(spells("x020d.0cff.fe12.3456.provider.example", "2001:db8::20d:cff:fe12:3456"));
        assert!(!spells("mail-db5.sender.example", "2001:db8::1234"));
    }

    #[test]
    fn blemishes_and_lists_are_counted() {
        let judge = |findings: &[&str], manners: &[&str], listed: &[f32]| {
            let report = found(findings, report("mx.sender.example", true, listed));
            newcomer(&client("192.0.2.27", manners), &report, |newcomer| (newcomer.is_suspicious, newcomer.is_vouched))
        };
        assert_eq!(judge(&[], &[], &[]), (false, false));
        assert_eq!(judge(&["reverse-name-unconfirmed"], &[], &[]), (true, false));
        assert_eq!(judge(&["helo-mismatch"], &[], &[]), (true, false));
        assert_eq!(judge(&["helo-literal"], &[], &[]), (false, false));
        assert_eq!(judge(&[], &["early-talker"], &[]), (true, false));
        assert_eq!(judge(&[], &[], &[5.0]), (true, false));
        assert_eq!(judge(&[], &[], &[-2.0]), (false, true));
        assert_eq!(judge(&[], &[], &[5.0, -2.0]), (true, false), "the sum counts");
    }

    #[test]
    fn the_best_proof_comes_first() {
        let domain = |text| Domain::parse(text).unwrap();
        newcomer(&client("192.0.2.27", &[]), &report("mx.pool.example", true, &[]), |newcomer| {
            let mut proven = newcomer.proven();
            assert_eq!(proven.best().to_string(), "pool.example");
            proven.add(domain("sender.example"));
            proven.add(domain("sender.example"));
            assert_eq!(proven.best(), Identity::Organisation(domain("sender.example")));
            let shown = |identities: Vec<Identity>| identities.iter().map(Identity::to_string).collect::<Vec<_>>();
            assert_eq!(shown(proven.known_by()), ["sender.example", "pool.example", "192.0.2.0/24", "192.0.2.27/32"]);
            assert_eq!(shown(proven.earned_by()), ["sender.example", "pool.example", "192.0.2.27/32"]);
            assert_eq!(sender_organisation(newcomer.sender), Some(domain("sender.example")));
        });
        newcomer(&client("2001:db8::1", &[]), &report("mx.pool.example", false, &[]), |newcomer| {
            let proven = newcomer.proven();
            assert_eq!(proven.known_by(), [Identity::Network("2001:db8::/64".parse().unwrap())]);
            assert_eq!(proven.earned_by(), proven.known_by());
        });
    }
}
