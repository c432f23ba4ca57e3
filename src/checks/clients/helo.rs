//! The name a client greets with: whether it is one, and whether it is the client's.
//!
//! RFC 5321 §4.1.4 asks for the client's own full name or its address as a literal, and forbids to refuse mail for a name that
//! does not fit; what is done about it is the operator's choice. A DNS that does not answer is a state of its own.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::reverse::{Reverse, kept, leads_back};
use crate::mail::{Domain, Host};
use crate::outside::DnsError;

/// What is known about a greeting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Helo {
    /// As it was said.
    pub name: String,
    pub state: HeloState,
    /// Where the name leads, as far as it was asked for.
    pub addresses: Vec<IpAddr>,
    /// It is one of the client's PTR names.
    pub is_reverse_name: bool,
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeloState {
    /// Nothing was said, or nobody asked.
    #[default]
    Unasked,
    /// The name leads to the client.
    Resolves,
    /// `[192.0.2.1]`, said by 192.0.2.1.
    Literal,
    /// The name leads elsewhere, but it is another host of the organisation whose name the client's confirmed PTR is.
    OtherHost,
    /// DNS did not answer.
    Unanswered,
    /// No host name by its letters, or an address without brackets.
    NotAName,
    /// One label, or a top label that exists nowhere: `PC-7`, `server.local`.
    NotFull,
    /// The literal of another address.
    WrongLiteral,
    /// The gateway's own name.
    Ours,
    /// The name leads elsewhere.
    Mismatch,
    /// The name does not exist in DNS.
    Unknown,
}

impl HeloState {
    /// What is wrong, as the log says it; `None`: nothing, or it is not known.
    pub fn fault(self) -> Option<&'static str> {
        match self {
            HeloState::Unasked | HeloState::Resolves | HeloState::Literal | HeloState::OtherHost | HeloState::Unanswered => None,
            HeloState::NotAName => Some("not a hostname"),
            HeloState::NotFull => Some("not a full hostname"),
            HeloState::WrongLiteral | HeloState::Mismatch => Some("inconsistent hostname / IP address"),
            HeloState::Ours => Some("our own hostname"),
            HeloState::Unknown => Some("hostname not found in DNS"),
        }
    }
}

/// What the letters alone tell.
pub(super) enum Said {
    Nothing,
    NotAName,
    NotFull,
    Literal(IpAddr),
    Name(Domain),
}

/// Top labels that are in no DNS (RFC 6761, RFC 6762 appendix G, RFC 9476): names that a machine got when it was set up.
const TOPS_NOWHERE: [&str; 13] = [
    "local",
    "localdomain",
    "localhost",
    "lan",
    "internal",
    "intranet",
    "intern",
    "home",
    "corp",
    "private",
    "invalid",
    "workgroup",
    "arpa",
];

pub(super) fn read(helo: &str) -> Said {
    if helo.is_empty() {
        return Said::Nothing;
    }
    match helo.parse::<Host>() {
        Ok(Host::Literal(address)) => Said::Literal(address.to_canonical()),
        Ok(Host::Domain(domain)) => {
            let full = domain.as_str().rsplit_once('.').is_some_and(|(_, top)| !TOPS_NOWHERE.contains(&top));
            if full { Said::Name(domain) } else { Said::NotFull }
        }
        Err(_) => Said::NotAName,
    }
}

/// `forward`: what DNS says about the name, when it is one; `None`: no answer in time.
pub(super) fn judge(
    helo: &str,
    ours: &Domain,
    client: IpAddr,
    reverse: &Reverse,
    forward: Option<Result<Vec<IpAddr>, DnsError>>,
) -> Helo {
    let known = |state| Helo { name: helo.to_owned(), state, ..Helo::default() };
    let name = match read(helo) {
        Said::Nothing => return Helo::default(),
        Said::NotAName => return known(HeloState::NotAName),
        Said::NotFull => return known(HeloState::NotFull),
        Said::Literal(address) if address == client => return known(HeloState::Literal),
        Said::Literal(_) => return known(HeloState::WrongLiteral),
        Said::Name(name) => name,
    };
    let is_reverse_name = reverse.has(&name);
    let is_proven = reverse.is_confirmed() && reverse.name.as_ref() == Some(&name);
    let (state, addresses) = match forward {
        Some(Ok(addresses)) if leads_back(&addresses, client) => (HeloState::Resolves, addresses),
        // The PTR proves it already.
        _ if is_proven => (HeloState::Resolves, vec![client]),
        None | Some(Err(DnsError::Temporary(_))) => (HeloState::Unanswered, Vec::new()),
        Some(forward) if name == *ours => (HeloState::Ours, forward.unwrap_or_default()),
        Some(Err(DnsError::NotFound)) => (HeloState::Unknown, Vec::new()),
        Some(Ok(addresses)) if is_neighbour(&name, reverse) => (HeloState::OtherHost, addresses),
        Some(Ok(addresses)) => (HeloState::Mismatch, addresses),
    };
    Helo { addresses: kept(addresses, client), is_reverse_name, ..known(state) }
}

/// Large senders greet with one name for a whole farm.
fn is_neighbour(name: &Domain, reverse: &Reverse) -> bool {
    let confirmed = reverse.name.as_ref().filter(|_| reverse.is_confirmed());
    confirmed.is_some_and(|confirmed| organisation(confirmed.as_str()) == organisation(name.as_str()))
}

/// The part that somebody registered, by the shape of names: two labels, three where the second is one of a country's.
fn organisation(name: &str) -> &str {
    const SECOND_LEVEL: [&str; 14] =
        ["co", "com", "org", "net", "gov", "edu", "ac", "or", "ne", "go", "gob", "gouv", "nom", "ad"];
    let dots: Vec<usize> = name.rmatch_indices('.').map(|(at, _)| at).take(3).collect();
    let (Some(last), Some(second)) = (dots.first(), dots.get(1)) else { return name };
    let below_country = name.len() - last == 3 && SECOND_LEVEL.contains(&&name[second + 1..*last]);
    match (below_country, dots.get(2)) {
        (false, _) => &name[second + 1..],
        (true, Some(third)) => &name[third + 1..],
        (true, None) => name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::reverse::ReverseState;
    use super::*;

    const CLIENT: &str = "192.0.2.1";

    fn reverse(name: &str) -> Reverse {
        let name: Domain = name.parse().unwrap();
        let names = vec![crate::checks::ReverseName { name: name.clone(), forward: crate::checks::Forward::Unasked }];
        Reverse { state: ReverseState::Confirmed, name: Some(name), names, ..Reverse::default() }
    }

    /// `forward`: addresses, `none`, `fail` or nothing for no answer in time.
    #[track_caller]
    fn check(helo: &str, forward: &str, expected: HeloState) {
        let forward = match forward {
            "" => None,
            "none" => Some(Err(DnsError::NotFound)),
            "fail" => Some(Err(DnsError::Temporary(String::new()))),
            addresses => Some(Ok(addresses.split(' ').map(|address| address.parse().unwrap()).collect())),
        };
        let ours = "mx1.isp.example".parse().unwrap();
        let helo = judge(helo, &ours, CLIENT.parse().unwrap(), &reverse("out7.sender.co.uk"), forward);
        assert_eq!(helo.state, expected, "{helo:?}");
    }

    #[test]
    fn the_table_of_greetings() {
        use HeloState as S;
        check("", "", S::Unasked);
        check("mail.sender.example", CLIENT, S::Resolves);
        check("mail.sender.example", "198.51.100.1 ::ffff:192.0.2.1", S::Resolves);
        check("Mail.Sender.Example.", "198.51.100.1 192.0.2.1", S::Resolves);
        check("out7.sender.co.uk", "fail", S::Resolves);
        check("out7.sender.co.uk", "none", S::Resolves);
        check("mail.sender.example", "198.51.100.1", S::Mismatch);
        check("farm.sender.co.uk", "198.51.100.1", S::OtherHost);
        check("other.co.uk", "198.51.100.1", S::Mismatch);
        check("farm.sender.co.uk", "none", S::Unknown);
        check("mail.sender.example", "none", S::Unknown);
        check("mail.sender.example", "fail", S::Unanswered);
        check("mail.sender.example", "", S::Unanswered);
        check("MX1.isp.example", "198.51.100.1", S::Ours);
        check("mx1.isp.example", "none", S::Ours);
        check("mx1.isp.example", "fail", S::Unanswered);
        check("mx1.isp.example", CLIENT, S::Resolves);
        check("[192.0.2.1]", "", S::Literal);
        check("[::ffff:192.0.2.1]", "", S::NotAName);
        check("[IPv6:::ffff:192.0.2.1]", "", S::Literal);
        check("[192.0.2.2]", "", S::WrongLiteral);
        check("[192.0.2.1", "", S::NotAName);
        check("192.0.2.1", "", S::NotAName);
        check("no_good!.example", "", S::NotAName);
        check("a..b.example", "", S::NotAName);
        check("-a.example", "", S::NotAName);
        check("DESKTOP-4711", "", S::NotFull);
        check("localhost.localdomain", "", S::NotFull);
        check("exchange.firma.local", "", S::NotFull);
        check(&"a".repeat(255), "", S::NotAName);
        check(&format!("{}example", "a.".repeat(110)), "none", S::Unknown);
    }
}
