//! What somebody who was turned away can do: pure, from what was seen then and what DNS says now, most important first. The
//! records are exact, with the sender's own values in them; the words around them are the page's.

use std::net::IpAddr;

use super::case::{Case, Kind};
use super::now::{Answer, DnsNow, full_name, pointer_name};
use crate::mail::{Domain, Timestamp};

/// One thing to do, or to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Greylisting: nothing has to be done; from then on the message is taken.
    Wait {
        ready: Option<Timestamp>,
    },
    /// The client has no PTR: its provider sets it.
    Pointer {
        records: Vec<String>,
    },
    /// The name does not lead back.
    Forward {
        name: Domain,
        records: Vec<String>,
    },
    /// The name looks like a subscriber's line.
    Dynamic {
        records: Vec<String>,
    },
    /// What the server calls itself is no name, or does not lead to it. `say`: what would do, where it says something else.
    Helo {
        say: Option<String>,
        records: Vec<String>,
    },
    Spf {
        domain: Domain,
        records: Vec<String>,
        change: SpfChange,
    },
    /// More than one SPF record is an error (RFC 7208 §4.5).
    SpfTwice {
        domain: Domain,
    },
    /// The message was not the author's domain's own, as its DMARC record says.
    Align,
    /// There is no DMARC record; worth having.
    Dmarc {
        domain: Domain,
        records: Vec<String>,
    },
    /// Only the list's keeper takes somebody off.
    Delist {
        zone: String,
    },
    SlowDown,
    Recipient,
    /// The domain's mail goes elsewhere: its MX records say where.
    Relay,
    Virus,
    Spam,
    /// Nothing is known that would help: the postmaster may know.
    Ask,
}

impl Advice {
    fn records(&self) -> &[String] {
        match self {
            Advice::Pointer { records } | Advice::Forward { records, .. } | Advice::Dynamic { records } => records,
            _ => &[],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpfChange {
    /// There is none.
    New,
    /// There is one; this is it with the client added.
    Add,
}

/// All that can be done.
pub fn advice(case: &Case, now: &DnsNow) -> Vec<Advice> {
    let mut advice: Vec<_> = for_the_reason(case).into_iter().collect();
    let names = for_names(case, now);
    let published: Vec<_> = names.iter().flat_map(Advice::records).cloned().collect();
    advice.extend(names);
    advice.extend(for_the_greeting(case, now, &published));
    advice.extend(for_lists(case));
    advice.extend(for_spf(case, now));
    if let (Answer::Nothing, Some(domain)) = (&now.dmarc, &now.domain) {
        let record = format!("_dmarc.{domain}. TXT \"v=DMARC1; p=none; rua=mailto:postmaster@{domain}\"");
        advice.push(Advice::Dmarc { domain: domain.clone(), records: vec![record] });
    }
    if advice.is_empty() && case.kind == Kind::Other {
        advice.push(Advice::Ask);
    }
    advice
}

fn for_the_reason(case: &Case) -> Option<Advice> {
    match case.kind {
        Kind::Greylisted => Some(Advice::Wait { ready: case.wait.map(|wait| wait.ready) }),
        Kind::Limits | Kind::Banned => Some(Advice::SlowDown),
        Kind::Relay => Some(Advice::Relay),
        Kind::Recipient => Some(Advice::Recipient),
        Kind::Dmarc => Some(Advice::Align),
        Kind::Spam => Some(Advice::Spam),
        Kind::Virus => Some(Advice::Virus),
        _ => None,
    }
}

fn for_names(case: &Case, now: &DnsNow) -> Option<Advice> {
    let dynamic = || (case.kind == Kind::DynamicName || case.has("dynamic-name")).then(|| host_name(case, None));
    let dynamic = || dynamic().map(|host| Advice::Dynamic { records: both_ways(case.client, &host) });
    match &now.names {
        Answer::Nothing => Some(Advice::Pointer { records: both_ways(case.client, &host_name(case, None)) }),
        Answer::Found(names) if names.iter().all(|named| named.leads_back == Some(false)) => {
            let name = names.first()?.name.clone();
            Some(Advice::Forward { records: vec![forward(&name, case.client)], name })
        }
        // It has the name that it had then, as far as anybody knows.
        Answer::Found(names) if names.first().map(|named| &named.name) == case.name.as_ref() => dynamic(),
        Answer::Unknown | Answer::NotAsked => dynamic(),
        Answer::Found(_) => None,
    }
}

/// `published`: records that were advised already.
fn for_the_greeting(case: &Case, now: &DnsNow, published: &[String]) -> Option<Advice> {
    let leads_here = now.helo_leads_to(case.client);
    let is_fine = leads_here == Some(true) || (now.helo.is_some() && leads_here.is_none());
    if case.helo.is_empty() || is_fine {
        return None;
    }
    let host = host_name(case, now.confirmed());
    let say = (now.helo.as_ref() != Some(&host)).then(|| format!("EHLO {host}"));
    // A name that is confirmed needs no further record.
    let is_needed = |record: &String| now.confirmed() != Some(&host) && !published.contains(record);
    let records: Vec<_> = Some(forward(&host, case.client)).filter(is_needed).into_iter().collect();
    (say.is_some() || !records.is_empty()).then_some(Advice::Helo { say, records })
}

fn for_lists(case: &Case) -> Vec<Advice> {
    let zone = |evidence: &str| evidence.split([' ', ',', ':']).next().unwrap_or_default().to_owned();
    let listed = case.findings.iter().filter(|finding| finding.id == "listed" && finding.points >= 0.0);
    let mut zones: Vec<_> = listed.map(|finding| zone(&finding.evidence)).filter(|zone| !zone.is_empty()).collect();
    zones.dedup();
    zones.into_iter().map(|zone| Advice::Delist { zone }).collect()
}

fn for_spf(case: &Case, now: &DnsNow) -> Option<Advice> {
    let domain = now.domain.clone()?;
    let mechanism = match case.client {
        IpAddr::V4(address) => format!("ip4:{address}"),
        IpAddr::V6(address) => format!("ip6:{address}"),
    };
    match &now.spf {
        Answer::Nothing => {
            let records = vec![format!("{domain}. TXT \"v=spf1 {mechanism} -all\"")];
            Some(Advice::Spf { domain, records, change: SpfChange::New })
        }
        Answer::Found(records) if records.len() > 1 => Some(Advice::SpfTwice { domain }),
        Answer::Found(records) => {
            let record = records.first()?;
            let failed = case.has("spf-fail") || case.has("spf-softfail") || case.results.contains("spf=fail");
            let names_it = record.split_ascii_whitespace().any(|word| word.trim_start_matches('+') == mechanism);
            // What was cut cannot be changed.
            if !failed || names_it || record.ends_with('…') {
                return None;
            }
            let rest = record.split_once(' ').map_or("-all", |(_, rest)| rest.trim());
            let records = vec![format!("{domain}. TXT \"v=spf1 {mechanism} {rest}\"")];
            Some(Advice::Spf { domain, records, change: SpfChange::Add })
        }
        Answer::Unknown | Answer::NotAsked => None,
    }
}

/// The name that the server should have: one that is confirmed, what it calls itself, or one of the sender's domain.
fn host_name(case: &Case, confirmed: Option<&Domain>) -> Domain {
    let of_sender = || case.sender.as_ref().and_then(|domain| Domain::parse(&format!("mail.{domain}")).ok());
    // Not the recipient's: some call themselves what they write to.
    let own = full_name(&case.helo).filter(|name| Some(name) != case.domain.as_ref());
    let placeholder = || Domain::parse("mail.your-domain.example").expect("it is a domain");
    confirmed.cloned().or(own).or_else(of_sender).unwrap_or_else(placeholder)
}

/// A PTR record, and the one that leads back.
fn both_ways(client: IpAddr, host: &Domain) -> Vec<String> {
    vec![format!("{} PTR {host}.", pointer_name(client)), forward(host, client)]
}

fn forward(name: &Domain, client: IpAddr) -> String {
    let kind = if client.is_ipv4() { "A" } else { "AAAA" };
    format!("{name}. {kind} {client}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::cases::now::Named;
    use crate::mail::{Finding, Reply};

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    fn case(reply: &Reply) -> Case {
        Case::sample("192.0.2.4", NOW, reply)
    }

    /// A sender with whom nothing is wrong.
    fn in_order() -> DnsNow {
        let name: Domain = "mail.sender.example".parse().unwrap();
        DnsNow {
            at: NOW,
            names: Answer::Found(vec![Named { name: name.clone(), leads_back: Some(true) }]),
            helo: Some(name),
            helo_addresses: Answer::Found(vec!["192.0.2.4".parse().unwrap()]),
            domain: Some("sender.example".parse().unwrap()),
            spf: Answer::Found(vec!["v=spf1 mx -all".to_owned()]),
            dmarc: Answer::Found(("_dmarc.sender.example".parse().unwrap(), "v=DMARC1; p=none".to_owned())),
        }
    }

    #[test]
    fn who_has_no_name_learns_the_two_records() {
        let now = DnsNow { names: Answer::Nothing, ..in_order() };
        let records = ["4.2.0.192.in-addr.arpa. PTR mail.sender.example.", "mail.sender.example. A 192.0.2.4"];
        let expected = Advice::Pointer { records: records.map(str::to_owned).to_vec() };
        assert_eq!(advice(&case(&Reply::no_reverse_name()), &now), [expected]);
        let v6 = Case::sample("2001:db8::1", NOW, &Reply::no_reverse_name());
        let [Advice::Pointer { records }] = &advice(&v6, &now)[..] else { panic!("{:?}", advice(&v6, &now)) };
        assert!(records[0].ends_with("8.b.d.0.1.0.0.2.ip6.arpa. PTR mail.sender.example."), "{records:?}");
        assert_eq!(records[1], "mail.sender.example. AAAA 2001:db8::1");
    }

    #[test]
    fn what_was_mended_needs_no_advice() {
        assert_eq!(advice(&case(&Reply::no_reverse_name()), &in_order()), []);
    }

    #[test]
    fn dns_that_does_not_answer_gives_no_advice_either() {
        let now = DnsNow {
            names: Answer::Unknown,
            helo_addresses: Answer::Unknown,
            spf: Answer::Unknown,
            dmarc: Answer::Unknown,
            ..in_order()
        };
        assert_eq!(advice(&case(&Reply::no_reverse_name_yet()), &now), []);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_named() {
        let name: Domain = "forged.example".parse().unwrap();
        let names = Answer::Found(vec![Named { name: name.clone(), leads_back: Some(false) }]);
        let now = DnsNow { names, ..in_order() };
        let records = vec!["forged.example. A 192.0.2.4".to_owned()];
        assert_eq!(advice(&case(&Reply::may_be_forged(&name)), &now), [Advice::Forward { name, records }]);
    }

    #[test]
    fn a_greeting_is_mended_with_a_name_that_is_confirmed() {
        let now = DnsNow { helo: None, helo_addresses: Answer::NotAsked, ..in_order() };
        let case =
            Case { helo: "localhost".to_owned(), ..case(&Reply::helo_mismatch("localhost", "192.0.2.4".parse().unwrap())) };
        let say = Some("EHLO mail.sender.example".to_owned());
        assert_eq!(advice(&case, &now), [Advice::Helo { say, records: Vec::new() }]);
        let literal = Case { helo: "[192.0.2.4]".to_owned(), ..case.clone() };
        let found = Answer::Found(vec!["192.0.2.4".parse().unwrap()]);
        assert_eq!(advice(&literal, &DnsNow { helo_addresses: found, ..now.clone() }), []);
        let now = DnsNow { names: Answer::Unknown, ..now };
        let case = Case { helo: "[192.0.2.9]".to_owned(), sender: None, ..case };
        let [Advice::Helo { say, records }] = &advice(&case, &now)[..] else { panic!("{:?}", advice(&case, &now)) };
        assert_eq!(say.as_deref(), Some("EHLO mail.your-domain.example"));
        assert_eq!(records[..], ["mail.your-domain.example. A 192.0.2.4".to_owned()]);
        let elsewhere =
            DnsNow { helo_addresses: Answer::Found(vec!["192.0.2.9".parse().unwrap()]), names: Answer::Unknown, ..in_order() };
        let records = vec!["mail.sender.example. A 192.0.2.4".to_owned()];
        let case = Case { helo: "mail.sender.example".to_owned(), ..case };
        assert_eq!(advice(&case, &elsewhere), [Advice::Helo { say: None, records }], "it says the right name already");
    }

    #[test]
    fn spf_is_proposed_new_or_with_the_client_added() {
        let spf = |case: &Case, spf| match &advice(case, &DnsNow { spf, ..in_order() })[..] {
            [Advice::Align, Advice::Spf { records, .. }] => records[0].clone(),
            other => format!("{other:?}"),
        };
        let record = |text: &str| Answer::Found(vec![text.to_owned()]);
        let case = case(&Reply::dmarc(&"sender.example".parse().unwrap()));
        assert_eq!(spf(&case, Answer::Nothing), "sender.example. TXT \"v=spf1 ip4:192.0.2.4 -all\"");
        let failed = Case { findings: vec![Finding::new("spf-fail", "")], ..case.clone() };
        assert_eq!(
            spf(&failed, record("v=spf1 mx include:out.example ~all")),
            "sender.example. TXT \"v=spf1 ip4:192.0.2.4 mx include:out.example ~all\""
        );
        assert_eq!(advice(&failed, &DnsNow { spf: record("v=spf1 ip4:192.0.2.4 -all"), ..in_order() }).len(), 1);
        assert_eq!(
            advice(&case, &DnsNow { spf: record("v=spf1 mx -all"), ..in_order() }).len(),
            1,
            "nothing says that it failed"
        );
        let twice = Answer::Found(vec!["v=spf1 a".to_owned(), "v=spf1 b".to_owned()]);
        assert!(matches!(advice(&case, &DnsNow { spf: twice, ..in_order() })[..], [_, Advice::SpfTwice { .. }]));
    }

    #[test]
    fn lists_are_named_by_their_zone_and_those_that_speak_for_a_client_are_not() {
        let listed = |zone: &str, points| Finding::new("listed", zone).with_points(points);
        let findings = vec![listed("zen.lists.example 127.0.0.4", 5.0), listed("good.lists.example 127.0.9.2", -3.0)];
        let case = Case { findings, ..case(&Reply::greylisted(300)).with_wait(300, std::time::Duration::from_secs(300)) };
        let ready = Some(NOW + std::time::Duration::from_secs(300));
        let zone = "zen.lists.example".to_owned();
        assert_eq!(advice(&case, &in_order()), [Advice::Wait { ready }, Advice::Delist { zone }]);
    }
}
