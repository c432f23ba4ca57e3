//! Clients with DNS as data: what is found out, how many questions that costs, and what follows from it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::checks::{Forward, ListAnswer, ReverseState};
use crate::config::{CheckMode, CheckModes};
use crate::mail::{Client, Protocol};
use crate::outside::{MailExchanger, Pending};
use crate::sim;

const CLIENT: &str = "192.0.2.1";

/// DNS as data that counts its questions, and may say nothing at all.
#[derive(Default)]
struct Counting {
    dns: sim::Dns,
    silent: bool,
    questions: AtomicUsize,
}

impl Counting {
    fn ask<'a, T: 'a>(&'a self, answer: Pending<'a, T>) -> Pending<'a, T> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        if self.silent { Box::pin(std::future::pending()) } else { answer }
    }
}

impl Resolver for Counting {
    fn addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Addresses> {
        self.ask(self.dns.addresses(name))
    }
    fn mail_exchangers<'a>(&'a self, domain: &'a Domain) -> Pending<'a, Result<Vec<MailExchanger>, DnsError>> {
        self.ask(self.dns.mail_exchangers(domain))
    }
    fn names<'a>(&'a self, address: IpAddr) -> Pending<'a, Result<Vec<Domain>, DnsError>> {
        self.ask(self.dns.names(address))
    }
    fn texts<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Vec<u8>>, DnsError>> {
        self.ask(self.dns.texts(name))
    }
    fn v4_addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Ipv4Addr>, DnsError>> {
        self.ask(self.dns.v4_addresses(name))
    }
}

/// The checks with what surrounds them.
struct House {
    clients: Clients,
    dns: Arc<Counting>,
    clock: Arc<sim::Clock>,
    config: Config,
}

impl House {
    fn new(dns: sim::Dns) -> House {
        House::with(Counting { dns, ..Counting::default() }, "")
    }

    fn with(dns: Counting, settings: &str) -> House {
        let (dns, clock) = (Arc::new(dns), Arc::new(sim::Clock::new()));
        let clients = Clients::new(Arc::clone(&dns) as Arc<dyn Resolver>, Arc::clone(&clock) as Arc<dyn Clock>);
        let config = Config::parse(&format!("hostname = \"mx1.isp.example\"\n{settings}"), Path::new("feedgate.toml"));
        House { clients, dns, clock, config: config.unwrap_or_else(|errors| panic!("{errors}")) }
    }

    async fn report(&self, helo: &str) -> Arc<ClientReport> {
        self.clients.report(&self.config, CLIENT.parse().unwrap(), helo).await
    }

    /// The ids of the findings, the state of the reverse name in front.
    async fn found(&self, helo: &str) -> String {
        let report = self.report(helo).await;
        let ids: Vec<_> = report.findings.iter().map(|finding| finding.id.as_str()).collect();
        format!("{:?} {}", report.reverse.state, ids.join(" ")).trim().to_owned()
    }

    fn questions(&self) -> usize {
        self.dns.questions.load(Ordering::SeqCst)
    }
}

const GOOD: &str = "mail.sender.example";

fn good() -> sim::Dns {
    sim::Dns::new().host(GOOD, CLIENT)
}

#[tokio::test]
async fn a_mail_server_as_it_should_be_has_no_blemish() {
    let house = House::new(good());
    let report = house.report(GOOD).await;
    assert_eq!((report.name.clone(), report.confirmed), (Some(GOOD.parse().unwrap()), true));
    assert_eq!(report.findings, []);
    assert_eq!(report.reverse.names[0].forward, Forward::Addresses(vec![CLIENT.parse().unwrap()]));
    assert_eq!((report.helo.state, report.helo.is_reverse_name), (HeloState::Resolves, true));
    assert!(!report.is_suspicious());
    let mapped = house.clients.report(&house.config, "::ffff:192.0.2.1".parse().unwrap(), GOOD).await;
    assert_eq!(mapped, report, "however the socket shows the address");
}

#[tokio::test]
async fn the_states_of_a_reverse_name() {
    let forged = || sim::Dns::new().name(CLIENT, "mail.bank.example").address("mail.bank.example", "198.51.100.1");
    for (dns, expected) in [
        (sim::Dns::new(), "NoName no-reverse-name"),
        (sim::Dns::new().fail(CLIENT), "Unanswered"),
        (forged(), "Unconfirmed reverse-name-unconfirmed"),
        (sim::Dns::new().name(CLIENT, "gone.example"), "Unconfirmed reverse-name-unconfirmed"),
        (forged().fail("a mail.bank.example"), "Unsure"),
        (forged().host("second.example", CLIENT), "Confirmed"),
        (forged().fail("a mail.bank.example").host("second.example", CLIENT), "Confirmed"),
        (forged().name(CLIENT, "loop.example").fail("loop.example"), "Unsure"),
        (sim::Dns::new().host("pool-192-0-2-1.isp.example", CLIENT), "Confirmed dynamic-name"),
        (sim::Dns::new().host("pool-192-0-2-1.isp.example", CLIENT).name(CLIENT, GOOD), "Confirmed"),
        (sim::Dns::new().name(CLIENT, "a_b.sender.example"), "Unconfirmed reverse-name-unconfirmed"),
    ] {
        assert_eq!(House::new(dns).found("[192.0.2.1]").await.replace(" helo-literal", ""), expected);
    }
}

#[tokio::test]
async fn five_hundred_names_do_not_cost_five_hundred_questions() {
    let mut dns = sim::Dns::new();
    for number in 0..500 {
        dns = dns.name(CLIENT, &format!("host{number}.farm.example"));
    }
    let house = House::new(dns);
    let report = house.report("").await;
    assert_eq!((report.reverse.state, report.reverse.count), (ReverseState::Unconfirmed, 500));
    assert_eq!(house.questions(), 1 + 10);
    assert_eq!(report.reverse.names.len(), 20);
    assert_eq!(report.reverse.names[15].forward, Forward::Unasked);

    let mut dns = sim::Dns::new();
    for number in 0..500 {
        dns = dns.name(CLIENT, &format!("host{number}.farm.example"));
    }
    let house = House::new(dns.address("host15.farm.example", CLIENT));
    let report = house.report("host15.farm.example").await;
    assert!(report.confirmed, "the one that it greets with was looked up anyway: {report:?}");
    assert_eq!(report.name, Some("host15.farm.example".parse().unwrap()));
    assert_eq!(report.findings, []);
}

#[tokio::test]
async fn the_fifth_name_may_be_the_one_that_leads_back() {
    let mut dns = sim::Dns::new();
    for number in 0..8 {
        dns = dns.name(CLIENT, &format!("host{number}.farm.example"));
    }
    let house = House::new(dns.address("host4.farm.example", CLIENT));
    assert_eq!(house.report("").await.name, Some("host4.farm.example".parse().unwrap()));
}

#[tokio::test]
async fn each_question_is_asked_once() {
    let house = Arc::new(House::new(good()));
    house.clients.prefetch(&house.config, CLIENT.parse().unwrap());
    let sessions = (0..100).map(|_| {
        let house = Arc::clone(&house);
        tokio::spawn(async move { house.report(GOOD).await.confirmed })
    });
    for session in sessions.collect::<Vec<_>>() {
        assert!(session.await.unwrap());
    }
    assert_eq!(house.questions(), 3, "PTR, its forward lookup, EHLO");
    house.dns.dns.change(|zone| zone.names.clear());
    assert!(house.report(GOOD).await.confirmed, "remembered");
    assert!(!house.clients.report_anew(&house.config, CLIENT.parse().unwrap(), GOOD).await.confirmed);
}

#[tokio::test]
async fn dns_that_says_nothing_is_waited_for_two_seconds_and_is_no_blemish() {
    let house = Arc::new(House::with(Counting { silent: true, ..Counting::default() }, ""));
    let asking = {
        let house = Arc::clone(&house);
        tokio::spawn(async move { house.report(GOOD).await })
    };
    while house.clock.sleepers() < 2 {
        tokio::task::yield_now().await;
    }
    house.clock.advance(PATIENCE);
    let report = asking.await.unwrap();
    assert_eq!(report.reverse.state, ReverseState::Unanswered);
    assert_eq!(report.helo.state, HeloState::Unanswered);
    assert_eq!(report.findings, []);
    assert!(!report.is_suspicious());
    house.clock.advance(PATIENCE * 2);
    assert_eq!(house.report(GOOD).await, report, "nobody waits a second time for the same question");
}

#[tokio::test]
async fn who_mends_its_dns_is_seen_after_a_minute() {
    let house = House::new(sim::Dns::new());
    assert_eq!(house.found(GOOD).await, "NoName no-reverse-name helo-unknown");
    house.dns.dns.change(|zone| *zone = good().change(|zone| zone.clone()));
    house.clock.advance(Duration::from_secs(61));
    assert_eq!(house.found(GOOD).await, "Confirmed");
}

#[tokio::test]
async fn allowed_networks_are_asked_for_their_name_only() {
    let settings = "[limits]\nallow = [\"192.0.2.0/24\"]\n[checks.lists.\"bl.example\"]\npoints = 5";
    let dns = sim::Dns::new().host("pool-192-0-2-1.isp.example", CLIENT).address("1.2.0.192.bl.example", "127.0.0.2");
    let house = House::with(Counting { dns, ..Counting::default() }, settings);
    house.clients.prefetch(&house.config, CLIENT.parse().unwrap());
    let report = house.report("PC-7").await;
    assert!(report.confirmed && report.findings.is_empty() && report.lists.is_empty());
    assert_eq!(house.questions(), 2);
}

fn lists() -> sim::Dns {
    good()
        .address("2.0.0.127.bl.example", "127.0.0.2")
        .address("2.0.0.127.wl.example", "127.0.10.0")
        .address("2.0.0.127.trial.example", "127.0.0.2")
}

const LISTS: &str = "[checks.lists.\"bl.example\"]\npoints = 4.5\ncodes = [\"127.0.0.2-11\"]\n\
    [checks.lists.\"wl.example\"]\npoints = -2\n[checks.lists.\"trial.example\"]\npoints = 9\nshadow = true\n";

#[tokio::test]
async fn lists_speak_against_and_for_clients() {
    let listed = |zone: &str, code: &str| lists().address(&format!("1.2.0.192.{zone}"), code);
    for (dns, expected, suspicious, vouched) in [
        (lists(), "", false, false),
        (listed("bl.example", "127.0.0.4"), "listed 4.5 bl.example 127.0.0.4", true, false),
        (listed("wl.example", "127.0.5.1"), "listed -2 wl.example 127.0.5.1", false, true),
        (listed("trial.example", "127.0.0.2"), "", false, false),
        (listed("bl.example", "127.0.0.12"), "", false, false),
        (listed("bl.example", "127.255.255.254"), "", false, false),
        (listed("bl.example", "198.51.100.80"), "", false, false),
        (lists().fail("1.2.0.192.bl.example"), "", false, false),
    ] {
        let house = House::with(Counting { dns, ..Counting::default() }, LISTS);
        let report = house.report(GOOD).await;
        let found = report.findings.iter().map(|finding| format!("{} {} {}", finding.id, finding.points, finding.evidence));
        assert_eq!(found.collect::<Vec<_>>().join(","), expected);
        assert_eq!((report.is_suspicious(), report.is_vouched_for()), (suspicious, vouched));
        assert_eq!(report.lists.len(), 3);
    }
    let house = House::with(Counting { dns: listed("trial.example", "127.0.0.2"), ..Counting::default() }, LISTS);
    let trial = house.report(GOOD).await.lists.iter().find(|list| list.zone.as_str() == "trial.example").cloned().unwrap();
    assert_eq!(trial.answer, ListAnswer::Listed(Ipv4Addr::new(127, 0, 0, 2)));
    assert_eq!(trial.shadow.unwrap(), "the settings say so");
    let status = house.clients.lists_status(&house.config);
    assert!(status.iter().any(|list| list.zone.as_str() == "trial.example" && list.listed == 1), "it is counted");
}

#[tokio::test]
async fn ipv6_clients_are_asked_for_in_nibbles() {
    let name = format!("1.{}8.b.d.0.1.0.0.2.bl.example", "0.".repeat(23));
    let house = House::with(Counting { dns: lists().address(&name, "127.0.0.3"), ..Counting::default() }, LISTS);
    let report = house.clients.report(&house.config, "2001:db8::1".parse().unwrap(), "").await;
    assert!(report.findings.iter().any(|finding| finding.evidence == "bl.example 127.0.0.3"), "{report:?}");
}

#[tokio::test]
async fn a_list_that_is_not_proved_has_no_effect() {
    let settle = async |house: &House| {
        house.clients.prove_lists(&house.config);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let shadow = |house: &House| house.clients.lists_status(&house.config)[0].shadow.clone();
    let settings = "[checks.lists.\"bl.example\"]\npoints = 4.5";
    // The zone was sold, and answers everything.
    let all = |dns: sim::Dns| dns.address("1.0.0.127.bl.example", "127.0.0.2").address("1.2.0.192.bl.example", "127.0.0.2");
    let house = House::with(Counting { dns: all(lists()), ..Counting::default() }, settings);
    assert_eq!(house.report(GOOD).await.findings, []);
    assert!(shadow(&house).unwrap().contains("127.0.0.1"));
    house.dns.dns.change(|zone| zone.addresses.remove(&"1.0.0.127.bl.example".parse().unwrap()));
    house.clock.advance(Duration::from_secs(601));
    settle(&house).await;
    assert_eq!(shadow(&house), None, "its proof succeeds again");
    assert_eq!(house.report(GOOD).await.findings.len(), 1);
    // It dies: the hourly proof tells.
    house.dns.dns.change(|zone| zone.addresses.remove(&"2.0.0.127.bl.example".parse().unwrap()));
    settle(&house).await;
    assert_eq!(shadow(&house), None);
    house.clock.advance(Duration::from_secs(3601));
    settle(&house).await;
    assert!(shadow(&house).unwrap().contains("does not list its test entry"));
    assert_eq!(house.report(GOOD).await.findings, []);
}

#[tokio::test]
async fn a_list_that_suddenly_lists_everybody_has_no_effect() {
    let settings = "[checks.lists.\"bl.example\"]\npoints = 4.5";
    let house = House::with(Counting { dns: lists(), ..Counting::default() }, settings);
    let knock = async |number: u32| {
        let client = Ipv4Addr::from_bits(0xc633_0000 + number);
        house.clients.report(&house.config, IpAddr::V4(client), "").await.findings.iter().any(|finding| finding.id == "listed")
    };
    for number in 0..200 {
        assert!(!knock(number).await);
    }
    house.dns.dns.change(|zone| {
        for number in 200..400 {
            let [_, _, third, fourth] = Ipv4Addr::from_bits(0xc633_0000 + number).octets();
            let name = format!("{fourth}.{third}.51.198.bl.example").parse().unwrap();
            zone.addresses.insert(name, vec!["127.0.0.2".parse().unwrap()]);
        }
    });
    let mut believed = 0;
    for number in 200..400 {
        believed += u32::from(knock(number).await);
    }
    assert!((1..=51).contains(&believed), "{believed} were believed before it was noticed");
    assert!(house.clients.lists_status(&house.config)[0].shadow.as_ref().unwrap().starts_with("it suddenly lists"));
}

/// What a client is told under these settings.
#[track_caller]
fn check(reverse: ReverseState, dynamic: bool, helo: HeloState, modes: CheckModes, expected: &str) {
    let name = (!matches!(reverse, ReverseState::NoName | ReverseState::Unanswered)).then(|| GOOD.parse().unwrap());
    let dynamic = dynamic.then(|| "it says dynamic".to_owned());
    let reverse = crate::checks::Reverse { state: reverse, name, dynamic, ..Default::default() };
    let greeting = Helo { name: "helo.example".to_owned(), state: helo, ..Helo::default() };
    let report = ClientReport::of(reverse, greeting, Vec::new());
    let client = Client {
        address: CLIENT.parse().unwrap(),
        reverse_name: None,
        reverse_confirmed: false,
        helo: "helo.example".to_owned(),
        protocol: Protocol::Esmtp,
        tls: None,
        findings: Vec::new(),
    };
    let reply = report.refusal(&modes, &client).map_or_else(String::new, |reply| reply.to_string());
    assert_eq!(reply, expected);
}

#[test]
fn the_table_of_refusals() {
    use HeloState as H;
    use ReverseState as R;
    let off = CheckModes {
        reverse_dns: CheckMode::Off,
        forward_confirmed: CheckMode::Off,
        dynamic_name: CheckMode::Off,
        helo: CheckMode::Off,
        dmarc: CheckMode::Off,
    };
    let reject = CheckMode::Reject;
    let reverse = CheckModes { reverse_dns: reject, ..off };
    let forward = CheckModes { forward_confirmed: reject, ..off };
    let dynamic = CheckModes { dynamic_name: reject, ..off };
    let helo = CheckModes { helo: reject, ..off };
    let all = CheckModes { reverse_dns: reject, forward_confirmed: reject, dynamic_name: reject, helo: reject, ..off };
    let score = CheckMode::Score;
    let scores = CheckModes { reverse_dns: score, forward_confirmed: score, dynamic_name: score, helo: score, ..off };
    let no_name = "550 5.7.1 Client host rejected: cannot find your reverse hostname";
    let no_answer = "450 4.7.1 Client host rejected: cannot find your reverse hostname";
    let forged = "550 5.7.1 Client host rejected: mail.sender.example may be forged (its address is not yours)";
    let perhaps_forged = "450 4.7.1 Client host rejected: mail.sender.example may be forged (its address is not yours)";
    let line = "550 5.7.1 Client host rejected: mail.sender.example looks like a dial-up or DSL line; \
                use your provider's mail relay";
    let mismatch = "550 5.7.1 EHLO rejected: inconsistent hostname / IP address helo.example [192.0.2.1]";
    let no_helo_answer = "450 4.7.1 EHLO rejected: inconsistent hostname / IP address helo.example [192.0.2.1]";

    check(R::Confirmed, false, H::Resolves, all, "");
    for modes in [off, scores] {
        for state in [R::NoName, R::Unanswered, R::Unconfirmed, R::Unsure, R::Confirmed] {
            check(state, true, H::Mismatch, modes, "");
        }
    }
    check(R::NoName, false, H::Resolves, reverse, no_name);
    check(R::NoName, false, H::Resolves, forward, "");
    check(R::Unanswered, false, H::Resolves, reverse, no_answer);
    check(R::Unanswered, false, H::Resolves, forward, no_answer);
    check(R::Unanswered, false, H::Resolves, dynamic, "");
    check(R::Unconfirmed, false, H::Resolves, reverse, "");
    check(R::Unconfirmed, false, H::Resolves, forward, forged);
    check(R::Unsure, false, H::Resolves, forward, perhaps_forged);
    check(R::Unsure, false, H::Resolves, reverse, "");
    check(R::Confirmed, true, H::Resolves, dynamic, line);
    check(R::Unconfirmed, true, H::Resolves, dynamic, line);
    check(R::Unconfirmed, true, H::Mismatch, all, forged);
    check(R::Confirmed, true, H::Mismatch, all, line);
    for state in [H::Mismatch, H::WrongLiteral, H::NotAName, H::NotFull, H::Ours, H::Unknown] {
        check(R::Confirmed, true, state, helo, mismatch);
    }
    for state in [H::Unasked, H::Resolves, H::Literal, H::OtherHost] {
        check(R::Confirmed, true, state, helo, "");
    }
    check(R::Confirmed, false, H::Unanswered, helo, no_helo_answer);
    check(R::Confirmed, false, H::Unanswered, scores, "");
}

#[tokio::test]
async fn what_a_domain_does_not_ask_for_is_not_found() {
    let house = House::with(Counting::default(), "");
    let report = house.report("PC-7").await;
    assert_eq!(report.findings.len(), 2);
    let modes = house.config.checks.modes;
    assert_eq!(report.under(&[modes]).findings.len(), 2);
    let no_helo = CheckModes { helo: CheckMode::Off, ..modes };
    assert_eq!(report.under(&[no_helo]).findings[0].id, "no-reverse-name");
    assert_eq!(report.under(&[no_helo, modes]).findings.len(), 2, "one of its recipients asks");
    let neither = CheckModes { reverse_dns: CheckMode::Off, ..no_helo };
    assert!(!report.under(&[neither]).is_suspicious());
}

#[tokio::test]
async fn the_log_says_which_check_failed() {
    let client = |helo: &str| Client {
        address: CLIENT.parse().unwrap(),
        reverse_name: None,
        reverse_confirmed: false,
        helo: helo.to_owned(),
        protocol: Protocol::Esmtp,
        tls: None,
        findings: Vec::new(),
    };
    let house = House::new(good().address("other.example", "198.51.100.1"));
    let faults = async |helo: &str| house.report(helo).await.faults(&client(helo));
    assert_eq!(faults("other.example").await, "EHLO - inconsistent hostname / IP address other.example [192.0.2.1]");
    assert_eq!(faults("PC-7").await, "EHLO - not a full hostname PC-7 [192.0.2.1]");
    assert_eq!(faults("192.0.2.1").await, "EHLO - not a hostname 192.0.2.1 [192.0.2.1]");
    assert_eq!(faults("mx1.isp.example").await, "EHLO - our own hostname mx1.isp.example [192.0.2.1]");
    assert_eq!(faults("gone.example").await, "EHLO - hostname not found in DNS gone.example [192.0.2.1]");
    assert_eq!(faults(GOOD).await, "");
    let bad = House::new(sim::Dns::new().name(CLIENT, "dyn-1.isp.example"));
    assert_eq!(
        bad.report("").await.faults(&client("")),
        "reverse DNS - dyn-1.isp.example may be forged [192.0.2.1]; reverse DNS - dynamic name dyn-1.isp.example [192.0.2.1]"
    );
}

#[tokio::test]
async fn a_report_can_be_kept_and_read_again() {
    let house = House::with(Counting { dns: lists(), ..Counting::default() }, LISTS);
    let report = house.report("PC-7").await;
    let text = serde_json::to_string(&*report).unwrap();
    assert_eq!(serde_json::from_str::<ClientReport>(&text).unwrap(), *report);
    assert!(text.contains(r#""state":"confirmed""#) && text.contains(r#""state":"not-full""#), "{text}");
}
