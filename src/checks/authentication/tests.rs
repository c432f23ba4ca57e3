//! Remembering, and what strangers and broken DNS can do to the checks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;

use super::*;
use crate::mail::{Client, MailParameters, Protocol, Recipient, SessionId};
use crate::outside::{DnsError, MailExchanger, Pending};
use crate::sim;

/// Counts the questions for texts; with `silent` nothing is ever answered.
struct Counting {
    dns: sim::Dns,
    texts: AtomicUsize,
    silent: bool,
}

impl Resolver for Counting {
    fn addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<IpAddr>, DnsError>> {
        self.dns.addresses(name)
    }
    fn mail_exchangers<'a>(&'a self, domain: &'a Domain) -> Pending<'a, Result<Vec<MailExchanger>, DnsError>> {
        self.dns.mail_exchangers(domain)
    }
    fn names<'a>(&'a self, address: IpAddr) -> Pending<'a, Result<Vec<Domain>, DnsError>> {
        self.dns.names(address)
    }
    fn texts<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Vec<u8>>, DnsError>> {
        self.texts.fetch_add(1, Ordering::Relaxed);
        if self.silent { Box::pin(std::future::pending()) } else { self.dns.texts(name) }
    }
    fn v4_addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<std::net::Ipv4Addr>, DnsError>> {
        self.dns.v4_addresses(name)
    }
}

fn authenticator(dns: sim::Dns, silent: bool) -> (Authenticator, Arc<Counting>, Arc<sim::Clock>) {
    let resolver = Arc::new(Counting { dns, texts: AtomicUsize::new(0), silent });
    let clock = Arc::new(sim::Clock::new());
    (Authenticator::new(Arc::clone(&resolver) as _, Arc::clone(&clock) as _), resolver, clock)
}

async fn spf(authenticator: &Authenticator, from: &str) -> Spf {
    authenticator.spf("192.0.2.1".parse().unwrap(), "out.sender.example", &from.parse().unwrap()).await
}

async fn found(authenticator: &Authenticator, content: impl Into<Bytes>) -> Authentication {
    let content = content.into();
    let envelope = Envelope {
        id: SessionId::from_u64(1).unwrap().message(1),
        received_at: Timestamp(1_795_214_160_000),
        client: Client {
            address: "192.0.2.1".parse().unwrap(),
            reverse_name: None,
            reverse_confirmed: false,
            helo: "out.sender.example".to_owned(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: "joe@sender.example".parse().unwrap(),
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new("jane@customer.example".parse().unwrap())],
        size: content.len() as u64,
    };
    authenticator.message(&envelope, &Body::Memory(content), &[]).await
}

fn ids(authentication: &Authentication) -> Vec<&str> {
    authentication.findings.iter().map(|finding| finding.id.as_str()).collect()
}

#[tokio::test]
async fn a_sender_is_asked_for_once_in_a_few_minutes() {
    let (authenticator, resolver, clock) =
        authenticator(sim::Dns::new().text("sender.example", "v=spf1 ip4:192.0.2.1 -all"), false);
    let (one, two) = tokio::join!(spf(&authenticator, "joe@sender.example"), spf(&authenticator, "joe@sender.example"));
    assert_eq!((one.result, two.result), (SpfResult::Pass, SpfResult::Pass));
    assert_eq!(one.organisation(), Domain::parse("sender.example").ok());
    assert_eq!(resolver.texts.load(Ordering::Relaxed), 1);
    clock.advance(REMEMBER);
    resolver.dns.change(|zone| zone.texts.clear());
    let later = spf(&authenticator, "joe@sender.example").await;
    assert_eq!((later.result, later.organisation()), (SpfResult::None, None));
}

#[tokio::test]
async fn what_dns_did_not_answer_is_asked_again() {
    let (authenticator, resolver, clock) = authenticator(sim::Dns::new().fail("txt sender.example"), false);
    assert_eq!(spf(&authenticator, "joe@sender.example").await.result, SpfResult::TempError);
    resolver.dns.change(|zone| zone.fail.clear());
    assert_eq!(spf(&authenticator, "joe@sender.example").await.result, SpfResult::TempError, "not for each message");
    clock.advance(REMEMBER_FAILURE);
    assert_eq!(spf(&authenticator, "joe@sender.example").await.result, SpfResult::None);
}

#[tokio::test]
async fn a_dns_that_is_silent_costs_its_time_and_nothing_else() {
    let (authenticator, _, clock) = authenticator(sim::Dns::new(), true);
    let asking = tokio::spawn(async move { found(&authenticator, "From: a@bank.example\r\n\r\ntext\r\n").await });
    while clock.sleepers() < 3 {
        tokio::task::yield_now().await;
    }
    clock.advance(PATIENCE);
    let found = asking.await.unwrap();
    assert_eq!(ids(&found), ["spf-temperror", "dkim-none", "dmarc-temperror"]);
    assert_eq!(found.dmarc_reject, None);
}

#[tokio::test]
async fn a_record_that_asks_too_much_is_its_owners_error() {
    let dns = sim::Dns::new()
        .text("sender.example", &format!("v=spf1 {}-all", "a:a.sender.example ".repeat(11)))
        .address("a.sender.example", "198.51.100.1")
        .text("void.example", "v=spf1 a:x.example a:y.example a:z.example -all")
        .text("loop.example", "v=spf1 include:loop.example -all")
        .text("long.example", &format!("v=spf1 {} -all", "ip4:198.51.100.1 ".repeat(600)));
    let (authenticator, ..) = authenticator(dns, false);
    for (sender, result) in [
        ("joe@sender.example", SpfResult::PermError),
        ("joe@void.example", SpfResult::PermError),
        ("joe@loop.example", SpfResult::PermError),
        ("joe@long.example", SpfResult::Fail),
        ("joe@[192.0.2.1]", SpfResult::None),
        ("", SpfResult::None),
    ] {
        assert_eq!(spf(&authenticator, sender).await.result, result, "{sender}");
    }
}

#[tokio::test]
async fn five_hundred_names_of_a_client_are_ten_questions() {
    let mut dns = sim::Dns::new().text("sender.example", "v=spf1 ptr -all");
    for number in 0..500 {
        dns = dns.host(&format!("h{number}.other.example"), "192.0.2.1");
    }
    let (authenticator, ..) = authenticator(dns, false);
    assert_eq!(spf(&authenticator, "joe@sender.example").await.result, SpfResult::Fail);
}

#[tokio::test]
async fn nothing_a_stranger_writes_keeps_the_checks_busy() {
    let signature = "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; bh=YQ==; b=YQ==; h=from";
    let long_list = format!("{signature}{}\r\nFrom: a@a.example\r\n\r\n", ":to".repeat(80_000));
    let many = format!("{signature}\r\n").repeat(1_900) + "From: a@a.example\r\n\r\ntext\r\n";
    let fields =
        format!("{signature}{}\r\n", ":to".repeat(2_600)).repeat(9) + &"To: x\r\n".repeat(1_900) + "From: a@a.example\r\n\r\n";
    let authors = format!("From: {}\r\n\r\n", "a@a.example, ".repeat(20_000));
    let chain = "ARC-Seal: i=1; a=rsa-sha256; cv=none; d=a.example; s=s; b=YQ==\r\n".repeat(1_500) + "From: a@a.example\r\n\r\n";
    let endless = "A: b\r\n".repeat(500_000);
    let parentheses = format!("ARC-Authentication-Results: i=1; {}\r\nFrom: a@a.example\r\n\r\n", "(".repeat(100_000));
    let no_header = "\r\n".repeat(10) + &"x".repeat(100_000);
    let key = format!("v=DKIM1; p={}", "A".repeat(10_000));
    for content in [long_list, many, fields, authors, chain, endless, parentheses, no_header, String::new(), "\0\r\n".to_owned()]
    {
        let beginning: String = content.chars().take(60).collect();
        let dns = sim::Dns::new()
            .text("s._domainkey.a.example", &key)
            .text("_dmarc.a.example", &format!("v=DMARC1; p=reject; x={key}"));
        let (authenticator, ..) = authenticator(dns, false);
        let started = Instant::now();
        let found = found(&authenticator, content).await;
        assert!(started.elapsed().as_secs() < 5, "{beginning}: {:?}", started.elapsed());
        assert!(found.results.len() < 8_000 && found.findings.len() < 10, "{beginning}: {}", found.results.len());
    }
}

#[tokio::test]
async fn content_too_large_to_verify_is_not_held_against_its_author() {
    let head = "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; s=s; bh=YQ==; b=YQ==; h=from\r\nFrom: a@a.example\r\n\r\n";
    let dns = || sim::Dns::new().text("_dmarc.a.example", "v=DMARC1; p=reject");
    let (one, ..) = authenticator(dns(), false);
    let large = head.to_owned() + &"x".repeat(content::CONTENT_MAX as usize);
    let result = found(&one, large).await;
    assert!(result.results.contains("\tdkim=neutral") && result.results.contains("\tdmarc=temperror"), "{}", result.results);
    assert_eq!(result.dmarc_reject, None);
    let (other, ..) = authenticator(dns(), false);
    assert_eq!(found(&other, head).await.dmarc_reject, Domain::parse("a.example").ok());
}

#[tokio::test]
async fn a_signature_that_leaves_the_author_out_proves_nothing() {
    use mail_auth::common::crypto::Ed25519Key;
    use mail_auth::common::headers::HeaderWriter;
    let key = Ed25519Key::from_pkcs8_der(&Ed25519Key::generate_pkcs8().unwrap()).unwrap();
    let public =
        String::from_utf8(mail_builder::encoders::base64::Base64Encoder::new().encode(&key.public_key()).unwrap()).unwrap();
    let dns = sim::Dns::new()
        .text("s._domainkey.a.example", &format!("v=DKIM1; k=ed25519; p={public}"))
        .text("_dmarc.a.example", "v=DMARC1; p=reject");
    let content = "From: a@a.example\r\nSubject: x\r\n\r\ntext\r\n";
    let signer = mail_auth::dkim::DkimSigner::from_key(key).domain("a.example").selector("s").headers(["Subject"]);
    let signed = signer.sign(content.as_bytes()).unwrap().to_header() + content;
    let (authenticator, ..) = authenticator(dns, false);
    let found = found(&authenticator, signed).await;
    assert!(ids(&found).contains(&"dkim-fail") && found.dmarc_reject.is_some(), "{found:?}");
}
