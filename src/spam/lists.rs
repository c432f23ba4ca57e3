//! Allow and block lists: who stands on which, and which entry counts. Pure: the entries come from the settings.
//!
//! - **The domain's lists beat the platform's.** Within one layer the more specific entry wins (address, then domain, then domain
//!   with all below it, then network; a smaller network before a larger one), and of two that are alike the one that blocks.
//! - **A forged friend is no friend.** An allowed address or domain counts only when it is proven ([`Proof`]); where it is not, the
//!   entry has no effect, and the hit `ALLOW_UNPROVEN` says so. An entry may do without, and a network needs no proof.
//! - Who is blocked needs no proof: whoever takes the name of a blocked sender gains nothing.
//!
//! It is not here what an entry leads to (`policy`), nor the networks that nobody checks (`limits.allow`).

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::proof::Proof;
use crate::mail::{Address, Domain, Envelope, Finding};

/// The lists of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lists {
    pub allow: Vec<Entry>,
    pub block: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub who: Who,
    /// Allowed also where nothing proves the sender.
    pub unauthenticated: bool,
}

/// Whom an entry means.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// Compared without regard to case.
    Address(Address),
    /// This domain and no other.
    Domain(Domain),
    /// `*.partner.example`: the domain and all below it.
    Within(Domain),
    /// Of the client.
    Network(IpNet),
}

/// Where a setting stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    Platform,
    Domain,
}

impl Layer {
    pub fn as_str(self) -> &'static str {
        match self {
            Layer::Platform => "platform",
            Layer::Domain => "domain",
        }
    }
}

/// Who a message says it is from, who brought it, and what of that is proven.
#[derive(Clone, Debug)]
pub struct Claimed<'a> {
    /// All in `From`.
    pub authors: &'a [Address],
    /// In the envelope; `None` for the null sender.
    pub sender: Option<&'a Address>,
    pub client: IpAddr,
    pub proof: Proof,
}

impl<'a> Claimed<'a> {
    /// `findings`: what authentication found out. The authors are those of `Authors`.
    pub fn new(envelope: &'a Envelope, authors: &'a [Address], findings: &[Finding]) -> Claimed<'a> {
        let (sender, client) = (envelope.reverse_path.address(), envelope.client.address.to_canonical());
        Claimed { authors, sender, client, proof: Proof::of(findings) }
    }
}

/// What the lists say about a message for one domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// No entry counts.
    #[default]
    None,
    Allowed {
        entry: Who,
        layer: Layer,
        /// How the sender is proven; `None`: the entry needs no proof.
        proof: Option<String>,
    },
    Blocked {
        entry: Who,
        layer: Layer,
    },
    /// An allowed sender, but nothing proves that it is the one.
    Unproven {
        entry: Who,
        layer: Layer,
    },
}

/// What counts: the domain's own lists, else the platform's. An unproven friend of the domain's is told only where nothing
/// else counts.
pub fn listed(domain: &Lists, platform: &Lists, claimed: &Claimed<'_>) -> Listing {
    let mut unproven = Listing::None;
    for (lists, layer) in [(domain, Layer::Domain), (platform, Layer::Platform)] {
        match in_layer(lists, layer, claimed) {
            Listing::None => {}
            found @ Listing::Unproven { .. } if unproven == Listing::None => unproven = found,
            Listing::Unproven { .. } => {}
            found => return found,
        }
    }
    unproven
}

fn in_layer(lists: &Lists, layer: Layer, claimed: &Claimed<'_>) -> Listing {
    let blocked = lists.block.iter().filter(|entry| entry.who.means(claimed)).max_by_key(|entry| entry.who.specificity());
    let friends = lists.allow.iter().filter(|entry| entry.who.means(claimed));
    let (mut allowed, mut unproven): (Option<(&Entry, Option<String>)>, Option<&Entry>) = (None, None);
    for entry in friends {
        let counts = match &entry.who {
            _ if entry.unauthenticated => Some(None),
            Who::Network(_) => Some(None),
            who => who.proof(claimed).map(Some),
        };
        let is_better = |than: &Entry| entry.who.specificity() > than.who.specificity();
        match counts {
            Some(proof) if allowed.as_ref().is_none_or(|(best, _)| is_better(best)) => allowed = Some((entry, proof)),
            None if unproven.is_none_or(is_better) => unproven = Some(entry),
            _ => {}
        }
    }
    let is_blocked = |than: &Entry| blocked.is_some_and(|blocked| blocked.who.specificity() >= than.who.specificity());
    match (allowed, blocked, unproven) {
        (Some((entry, proof)), _, _) if !is_blocked(entry) => Listing::Allowed { entry: entry.who.clone(), layer, proof },
        (_, Some(entry), _) => Listing::Blocked { entry: entry.who.clone(), layer },
        (None, None, Some(entry)) => Listing::Unproven { entry: entry.who.clone(), layer },
        _ => Listing::None,
    }
}

impl Who {
    fn means(&self, claimed: &Claimed<'_>) -> bool {
        match self {
            Who::Network(network) => network.contains(&claimed.client),
            who => claimed.authors.iter().chain(claimed.sender).any(|address| who.is(address)),
        }
    }

    fn is(&self, address: &Address) -> bool {
        match self {
            Who::Address(meant) => meant.host() == address.host() && same_local(meant.local(), address.local()),
            Who::Domain(domain) => address.domain() == Some(domain),
            Who::Within(domain) => address.domain().is_some_and(|name| name.is_within(domain)),
            Who::Network(_) => false,
        }
    }

    /// How one of the addresses that are meant is proven to be its owner's.
    fn proof(&self, claimed: &Claimed<'_>) -> Option<String> {
        let meant = |address: &&Address| self.is(address);
        let mut authors = claimed.authors.iter().filter(meant).filter_map(Address::domain);
        let author = authors.find_map(|domain| claimed.proof.of_author(domain));
        let sender = || claimed.proof.of_sender(claimed.sender.filter(meant)?.domain()?);
        author.or_else(sender)
    }

    /// The larger one wins.
    fn specificity(&self) -> (u8, usize) {
        match self {
            Who::Address(_) => (4, 0),
            Who::Domain(_) => (3, 0),
            Who::Within(domain) => (2, domain.as_str().len()),
            Who::Network(network) => (1, usize::from(network.prefix_len())),
        }
    }
}

/// RFC 5321 §2.4 leaves the case to the host; nobody gives two people names that differ in nothing else.
fn same_local(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || one.to_lowercase() == other.to_lowercase()
}

/// As the settings write it.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Address(address) => address.fmt(f),
            Who::Domain(domain) => domain.fmt(f),
            Who::Within(domain) => write!(f, "*.{domain}"),
            Who::Network(network) => network.fmt(f),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.who.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `allow a, b; block c`; `!` behind an entry: also without proof.
    fn lists(text: &str) -> Lists {
        let mut lists = Lists::default();
        for list in text.split(';').map(str::trim).filter(|list| !list.is_empty()) {
            let (kind, entries) = list.split_once(' ').unwrap();
            let entries = entries.split(',').map(|entry| {
                let (name, unauthenticated) = match entry.trim().strip_suffix('!') {
                    Some(name) => (name, true),
                    None => (entry.trim(), false),
                };
                Entry { who: who(name), unauthenticated }
            });
            if kind == "allow" { &mut lists.allow } else { &mut lists.block }.extend(entries);
        }
        lists
    }

    fn who(name: &str) -> Who {
        match (name.strip_prefix("*."), name.parse()) {
            (Some(domain), _) => Who::Within(domain.parse().unwrap()),
            (_, Ok(network)) => Who::Network(network),
            _ if name.contains('@') => Who::Address(name.parse().unwrap()),
            _ => Who::Domain(name.parse().unwrap()),
        }
    }

    fn shown(listing: &Listing) -> String {
        match listing {
            Listing::None => "-".to_owned(),
            Listing::Allowed { entry, layer, .. } => format!("allowed {entry} {}", layer.as_str()),
            Listing::Blocked { entry, layer } => format!("blocked {entry} {}", layer.as_str()),
            Listing::Unproven { entry, layer } => format!("unproven {entry} {}", layer.as_str()),
        }
    }

    /// A message by joe@mail.partner.example, bounces to b@bounce.example, from 192.0.2.9.
    #[track_caller]
    fn check(domain: &str, platform: &str, findings: &[(&str, &str)], expected: &str) {
        let author: Address = "Joe@mail.partner.example".parse().unwrap();
        let sender: Address = "b@bounce.example".parse().unwrap();
        let findings: Vec<_> = findings.iter().map(|(id, evidence)| Finding::new(id, evidence)).collect();
        let (authors, client) = ([author], "192.0.2.9".parse().unwrap());
        let claimed = Claimed { authors: &authors, sender: Some(&sender), client, proof: Proof::of(&findings) };
        let listing = listed(&lists(domain), &lists(platform), &claimed);
        assert_eq!(shown(&listing), expected, "domain: {domain}; platform: {platform}");
    }

    const PROVEN: &[(&str, &str)] = &[("dmarc-pass", "mail.partner.example")];

    #[test]
    fn an_entry_means_an_address_a_domain_all_below_it_or_a_network() {
        for (entry, meant) in [
            ("joe@mail.partner.example", true),
            ("jo@mail.partner.example", false),
            ("mail.partner.example", true),
            ("partner.example", false),
            ("*.partner.example", true),
            ("*.mail.partner.example", true),
            ("*.artner.example", false),
            ("bounce.example", true),
            ("b@bounce.example", true),
            ("192.0.2.0/24", true),
            ("192.0.2.9/32", true),
            ("198.51.100.0/24", false),
            ("2001:db8::/32", false),
        ] {
            check(&format!("block {entry}"), "", &[], &if meant { format!("blocked {entry} domain") } else { "-".into() });
        }
    }

    #[test]
    fn an_allowed_sender_has_to_be_proven() {
        check("allow *.partner.example", "", &[], "unproven *.partner.example domain");
        check("allow *.partner.example", "", PROVEN, "allowed *.partner.example domain");
        check("allow *.partner.example", "", &[("dkim-pass", "partner.example")], "allowed *.partner.example domain");
        check("allow *.partner.example", "", &[("spf-pass", "bounce.example")], "unproven *.partner.example domain");
        check("allow *.partner.example", "", &[("forwarded", "sealed by google.com")], "allowed *.partner.example domain");
        check("allow *.partner.example!", "", &[], "allowed *.partner.example domain");
        check("allow 192.0.2.0/24", "", &[], "allowed 192.0.2.0/24 domain");
        check("allow bounce.example", "", PROVEN, "unproven bounce.example domain");
        check("allow bounce.example", "", &[("spf-pass", "bounce.example")], "allowed bounce.example domain");
        check("allow bounce.example", "", &[("forwarded", "sealed by google.com")], "unproven bounce.example domain");
    }

    #[test]
    fn the_domain_beats_the_platform() {
        check("allow *.partner.example", "block joe@mail.partner.example", PROVEN, "allowed *.partner.example domain");
        check("block 192.0.2.0/24", "allow joe@mail.partner.example", PROVEN, "blocked 192.0.2.0/24 domain");
        check("", "allow joe@mail.partner.example", PROVEN, "allowed joe@mail.partner.example platform");
        check("allow *.partner.example", "block 192.0.2.0/24", &[], "blocked 192.0.2.0/24 platform");
        check("allow *.partner.example", "allow 192.0.2.0/24", &[], "allowed 192.0.2.0/24 platform");
        check("allow *.partner.example", "allow mail.partner.example", &[], "unproven *.partner.example domain");
    }

    #[test]
    fn the_more_specific_entry_wins_and_of_two_alike_the_block() {
        let case = |text: &str, expected: &str| check(text, "", PROVEN, expected);
        case("allow joe@mail.partner.example; block mail.partner.example", "allowed joe@mail.partner.example domain");
        case("allow mail.partner.example; block joe@mail.partner.example", "blocked joe@mail.partner.example domain");
        case("allow mail.partner.example; block *.mail.partner.example", "allowed mail.partner.example domain");
        case("allow *.mail.partner.example; block *.partner.example", "allowed *.mail.partner.example domain");
        case("allow *.partner.example; block *.mail.partner.example", "blocked *.mail.partner.example domain");
        case("allow *.partner.example; block 192.0.2.9/32", "allowed *.partner.example domain");
        case("allow 192.0.2.9/32; block 192.0.2.0/24", "allowed 192.0.2.9/32 domain");
        case("allow mail.partner.example; block mail.partner.example", "blocked mail.partner.example domain");
        check("allow joe@mail.partner.example; block *.partner.example", "", &[], "blocked *.partner.example domain");
    }
}
