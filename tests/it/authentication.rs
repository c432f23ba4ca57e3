//! SPF, DKIM, DMARC and ARC as a message meets them: what the sender is told, what the customer's server reads, what becomes of
//! mail that its author's policy speaks against.

use std::ops::Deref;
use std::time::Duration;

use feedgate::sim::Server;
use mail_auth::arc::ArcSealer;
use mail_auth::common::crypto::Ed25519Key;
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::DkimSigner;
use mail_auth::{ArcOutput, AuthenticatedMessage, AuthenticationResults, DmarcOutput, DmarcResult};
use mail_builder::encoders::base64::Base64Encoder;

use crate::world::{World, domain, only, queued_as, text};

const JANE: &str = "jane@customer.example";
const MAX: &str = "max@plain.example";
const REFUSED: &str = "550 5.7.26 Message rejected by the DMARC policy of bank.example";

/// Policies are followed, and nothing else of the door is asked.
const CHECKS: &str = "[checks]\nreverse_dns = \"off\"\nforward_confirmed = \"off\"\ndynamic_name = \"off\"\nhelo = \"off\"\nearly_talker_wait = \"0s\"\n";

/// A gateway with two customers whose servers are up.
struct Place {
    world: World,
    /// Of customer.example.
    server: Server,
}

impl Deref for Place {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl Place {
    /// What the server of customer.example got of the one message that comes.
    async fn arrived(&self) -> String {
        text(&self.world.received(&self.server, 1).await[0])
    }
}

async fn place(settings: &str) -> Place {
    let world = World::new(settings).await;
    let server = world.host("203.0.113.5", Server::new());
    world.host("203.0.113.9", Server::new());
    Place { world, server }
}

/// `more`: in the section of the checks.
async fn world(more: &str) -> Place {
    let customers = domain("customer.example", &["203.0.113.5"], "") + &domain("plain.example", &["203.0.113.9"], "");
    place(&format!("{CHECKS}{more}\n{customers}")).await
}

fn message(from: &str) -> String {
    format!(
        "From: {from}\r\nTo: Jane <jane@customer.example>\r\nSubject: hello\r\nDate: Fri, 20 Nov 2026 22:30:00 +0000\r\n\
         Message-ID: <1@sender.example>\r\n\r\nThe text.\r\n"
    )
}

fn publish(world: &World, name: &str, record: &str) {
    world.dns.change(|zone| zone.texts.insert(name.parse().unwrap(), vec![record.as_bytes().to_vec()]));
}

/// The author whom everybody imitates: rejects what is not proved.
fn bank(world: &World) {
    publish(world, "_dmarc.bank.example", "v=DMARC1; p=reject");
    publish(world, "bank.example", "v=spf1 ip4:198.51.100.0/24 -all");
}

/// Somebody with a key, which stands in DNS.
pub struct Signer {
    key: Ed25519Key,
    domain: &'static str,
}

impl Signer {
    pub fn new(world: &World, domain: &'static str) -> Signer {
        let key = Ed25519Key::from_pkcs8_der(&Ed25519Key::generate_pkcs8().unwrap()).unwrap();
        let public = String::from_utf8(Base64Encoder::new().encode(&key.public_key()).unwrap()).unwrap();
        publish(world, &format!("s._domainkey.{domain}"), &format!("v=DKIM1; k=ed25519; p={public}"));
        Signer { key, domain }
    }

    pub fn sign(self, message: &str) -> String {
        let signer = DkimSigner::from_key(self.key).domain(self.domain).selector("s").headers(["From", "Subject", "Date"]);
        signer.sign(message.as_bytes()).unwrap().to_header() + message
    }

    /// As a forwarder that saw the author proved.
    fn seal(self, message: &str, author: &str) -> String {
        let parsed = AuthenticatedMessage::parse(message.as_bytes()).unwrap();
        let proved = DmarcOutput::new(author.to_owned()).with_dkim_result(DmarcResult::Pass);
        let results = AuthenticationResults::new("mx.forwarder.example").with_dmarc_result(&proved);
        let sealer = ArcSealer::from_key(self.key).domain(self.domain).selector("s").headers(["From", "Subject", "Date"]);
        sealer.seal(&parsed, &results, &ArcOutput::default()).unwrap().to_header() + message
    }
}

#[tokio::test]
async fn what_is_proved_stands_in_the_header_at_the_customers_server() {
    let world = world("").await;
    publish(&world, "sender.example", "v=spf1 ip4:192.0.2.1 -all");
    publish(&world, "_dmarc.sender.example", "v=DMARC1; p=reject");
    let signed = Signer::new(&world, "sender.example").sign(&message("Joe <joe@sender.example>"));
    world.take(&[JANE], &signed).await;
    let text = world.arrived().await;
    for result in [
        "\r\nAuthentication-Results: mx1.feedgate.test;\r\n\tiprev=none policy.iprev=192.0.2.1;\r\n\tspf=pass (",
        " smtp.mailfrom=joe@sender.example;\r\n\tdkim=pass header.d=sender.example header.s=s header.b=",
        ";\r\n\tdmarc=pass header.from=sender.example policy.dmarc=reject\r\n",
    ] {
        assert!(text.contains(result), "{result:?} in {text}");
    }
    assert!(text.ends_with(&signed), "nothing else is changed");
}

#[tokio::test]
async fn a_forged_author_is_refused_while_the_sender_waits() {
    let world = world("").await;
    bank(&world);
    assert_eq!(world.send(&[JANE, MAX], &message("support@bank.example")).await, REFUSED);
    let below = message("support@login.bank.example");
    assert_eq!(world.send(&[JANE], &below).await, REFUSED.replace("of bank", "of login.bank"));
    let stranger = Signer::new(&world, "sender.example").sign(&message("support@bank.example"));
    assert_eq!(world.send(&[JANE], &stranger).await, REFUSED, "a signature of somebody else proves nothing");
    let cut = Signer::new(&world, "bank.example").sign(&message("support@bank.example")).replace("The text", "Another text");
    assert_eq!(world.send(&[JANE], &cut).await, REFUSED, "as a mailing list does that changes the text and does not seal");
    assert!(world.queued().await.is_empty());
}

#[tokio::test]
async fn a_forged_author_found_late_is_quarantined() {
    let world = world("").await;
    bank(&world);
    world.scanner.hold();
    let mut peer = world.client().await;
    let sending = tokio::spawn(async move { peer.send("joe@sender.example", &[JANE], &message("support@bank.example")).await });
    world.until("the scan", async || (world.scanner.scans() > 0 && world.queued().await.len() == 1).then_some(())).await;
    world.pass(Duration::from_secs(10));
    let id = queued_as(&sending.await.unwrap());
    world.scanner.go_on();
    world.until("the quarantine", async || (world.status(id).await == "quarantined").then_some(())).await;
    world.told(id, "decided: quarantine: rejected by the DMARC policy of bank.example").await;
    let (released, _) = world.queue().quarantine_release(&only(id), "ops").await.unwrap();
    assert_eq!(released.len(), 1, "unlike a virus it may be released");
}

#[tokio::test]
async fn each_domain_says_whether_policies_are_followed() {
    let spam = "[domains.\"customer.example\".spam]\nenabled = true\n[domains.\"customer.example\".checks]\ndmarc = \"score\"\n";
    let customers = domain("customer.example", &["203.0.113.5"], "") + spam + &domain("plain.example", &["203.0.113.9"], "");
    let world = place(&format!("{CHECKS}\n{customers}")).await;
    bank(&world);
    assert_eq!(world.send(&[MAX], &message("support@bank.example")).await, REFUSED);
    let id = world.take(&[JANE, MAX], &message("support@bank.example")).await;
    world.told(id, "decided: quarantine: rejected by the DMARC policy").await;
    let text = world.arrived().await;
    assert!(text.contains("DMARC_FAIL_REJECT=3.5"), "it is scored instead: {text}");
    assert!(text.contains("\tdmarc=fail "), "{text}");
}

#[tokio::test]
async fn off_means_that_it_does_not_count_and_the_header_still_tells() {
    let customer = domain("customer.example", &["203.0.113.5"], "");
    let spam = "[domains.\"customer.example\".spam]\nenabled = true\n";
    let world = place(&format!("{CHECKS}dmarc = \"off\"\n{customer}{spam}")).await;
    bank(&world);
    world.take(&[JANE], &message("support@bank.example")).await;
    let text = world.arrived().await;
    assert!(text.contains("\tdmarc=fail (policy not aligned) header.from=bank.example"), "{text}");
    assert!(text.contains("X-Spam-Status: No") && !text.contains("DMARC_FAIL"), "{text}");
}

#[tokio::test]
async fn a_trusted_sealer_vouches_and_a_stranger_does_not() {
    let world = world("trusted_sealers = [\"lists.example\"]").await;
    bank(&world);
    let changed = message("support@bank.example");
    let sealed = |signer: &'static str, author| Signer::new(&world, signer).seal(&changed, author);
    assert_eq!(world.send(&[JANE], &sealed("stranger.example", "bank.example")).await, REFUSED);
    assert_eq!(world.send(&[JANE], &sealed("google.com", "other.example")).await, REFUSED, "another author was proved");
    let broken = sealed("google.com", "bank.example").replace("The text", "Another text");
    assert_eq!(world.send(&[JANE], &broken).await, REFUSED, "changed after it was sealed");
    world.take(&[MAX], &sealed("lists.example", "bank.example")).await;
    world.take(&[JANE], &sealed("google.com", "bank.example")).await;
    let text = world.arrived().await;
    assert!(text.contains("\tdmarc=fail (") && text.contains("\tarc=pass smtp.remote-ip=192.0.2.1"), "{text}");
}

#[tokio::test]
async fn a_known_forwarders_host_vouches() {
    let world = world("").await;
    bank(&world);
    world.dns.change(|zone| {
        zone.names.insert("192.0.2.9".parse().unwrap(), vec!["eforward3.registrar-servers.com".parse().unwrap()]);
    });
    let mut peer = world.client_at("192.0.2.9").await;
    let reply = peer.send("joe@sender.example", &[JANE], &message("support@bank.example")).await;
    assert_eq!(reply, REFUSED, "anybody can write a name into a reverse zone");
    world.dns.change(|zone| {
        zone.names.insert("192.0.2.10".parse().unwrap(), vec!["eforward4.registrar-servers.com".parse().unwrap()]);
        zone.addresses.insert("eforward4.registrar-servers.com".parse().unwrap(), vec!["192.0.2.10".parse().unwrap()]);
    });
    let mut peer = world.client_at("192.0.2.10").await;
    queued_as(&peer.send("joe@sender.example", &[JANE], &message("support@bank.example")).await);
}

#[tokio::test]
async fn of_several_authors_the_strictest_counts() {
    let world = world("").await;
    bank(&world);
    publish(&world, "_dmarc.sender.example", "v=DMARC1; p=none");
    let two = message("joe@sender.example, support@bank.example");
    let signed = Signer::new(&world, "sender.example").sign(&two);
    assert_eq!(world.send(&[JANE], &signed).await, REFUSED);
    let twice = format!("From: support@bank.example\r\n{}", message("joe@sender.example"));
    let signed = Signer::new(&world, "sender.example").sign(&twice);
    assert_eq!(world.send(&[JANE], &signed).await, REFUSED);
}

#[tokio::test]
async fn what_dns_does_not_answer_refuses_nobody() {
    for question in ["txt _dmarc.bank.example", "txt s._domainkey.bank.example", "txt bank.example"] {
        let world = world("").await;
        bank(&world);
        let signed = Signer::new(&world, "bank.example").sign(&message("support@bank.example"));
        let signed = if question == "txt bank.example" { message("support@bank.example") } else { signed };
        world.dns.change(|zone| zone.fail.insert(question.to_owned()));
        let reply = world.client().await.send("news@bank.example", &[JANE], &signed).await;
        queued_as(&reply);
        let text = world.arrived().await;
        assert!(text.contains("=temperror") && text.contains("\tdmarc=temperror"), "{question}: {text}");
    }
}

#[tokio::test]
async fn spf_alone_refuses_nobody() {
    let world = world("").await;
    publish(&world, "sender.example", "v=spf1 -all");
    world.take(&[JANE], &message("joe@sender.example")).await;
    let text = world.arrived().await;
    assert!(text.contains("\tspf=fail (") && text.contains("\tdkim=none;\r\n\tdmarc=none header.from=sender.example"), "{text}");
}

#[tokio::test]
async fn lesser_policies_and_trials_reject_nothing() {
    for (record, word) in [
        ("v=DMARC1; p=quarantine", "policy.dmarc=quarantine"),
        ("v=DMARC1; p=none", "policy.dmarc=none"),
        ("v=DMARC1; p=reject; t=y", "policy.dmarc=quarantine"),
    ] {
        let world = world("").await;
        publish(&world, "_dmarc.bank.example", record);
        world.take(&[JANE], &message("support@bank.example")).await;
        let text = world.arrived().await;
        assert!(text.contains(&format!("\tdmarc=fail (policy not aligned) header.from=bank.example {word}")), "{record}: {text}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_has_a_policy_of_its_own() {
    let world = world("").await;
    publish(&world, "_dmarc.bank.example", "v=DMARC1; p=none; np=reject");
    world.dns.change(|zone| zone.addresses.insert("there.bank.example".parse().unwrap(), vec!["192.0.2.44".parse().unwrap()]));
    let refused = "550 5.7.26 Message rejected by the DMARC policy of nowhere.bank.example";
    assert_eq!(world.send(&[JANE], &message("a@nowhere.bank.example")).await, refused);
    world.take(&[JANE], &message("a@there.bank.example")).await;
}
