//! One message, several domains: each sees it with its own lists, share and memory, and reads why in its header.

use feedgate::sim::Server;

use crate::world::{World, domain, queued_as, text};

const JANE: &str = "jane@customer.example";
const MAX: &str = "max@plain.example";
const CHECKS: &str = "[checks]\nreverse_dns = \"off\"\nforward_confirmed = \"off\"\ndynamic_name = \"off\"\nhelo = \"off\"\n\
     dmarc = \"score\"\nearly_talker_wait = \"0s\"\n";
/// The level low by name, 4 points.
const GTUBE_LOW: &str = "ZJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

struct Place {
    world: World,
    customer: Server,
    plain: Server,
}

/// Both want levels; `platform` and `customer` say more. sender.example is proven by SPF when it sends from 192.0.2.1.
async fn place(platform: &str, customer: &str) -> Place {
    let customers = domain("customer.example", &["203.0.113.5"], customer) + &domain("plain.example", &["203.0.113.9"], "");
    let world = World::new(&format!("{CHECKS}[spam]\nenabled = true\n{platform}\n{customers}")).await;
    let record = b"v=spf1 ip4:192.0.2.1 -all".to_vec();
    world.dns.change(|zone| zone.texts.insert("sender.example".parse().unwrap(), vec![record.clone()]));
    let (customer, plain) = (world.host("203.0.113.5", Server::new()), world.host("203.0.113.9", Server::new()));
    Place { world, customer, plain }
}

fn message(from: &str, body: &str) -> String {
    format!(
        "From: {from}\r\nTo: Jane <jane@customer.example>\r\nSubject: hello\r\nDate: Fri, 20 Nov 2026 22:30:00 +0000\r\n\
         Message-ID: <1@sender.example>\r\n\r\n{body}\r\n"
    )
}

/// The fields in which a customer reads the judgement, as `level; hit=points, …`, and the subject.
fn read(text: &str) -> String {
    let unfolded = text.replace("\r\n\t", " ").replace("\r\n ", " ");
    let field = |name: &str| unfolded.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("-").trim().to_owned();
    format!("{} | {} | {}", field("X-Feedgate-Level:"), field("X-Feedgate-Score:"), field("Subject:"))
}

#[tokio::test]
async fn an_allowed_sender_is_allowed_where_he_is_proven_and_listed() {
    let place = place("", "spam = { allow = [\"*.sender.example\"] }").await;
    let content = message("Joe <joe@sender.example>", GTUBE_LOW);
    place.world.take(&[JANE, MAX], &content).await;
    let arrived = text(&place.world.received(&place.customer, 1).await[0]);
    let seen = read(&arrived);
    assert!(seen.starts_with("none | -9") && seen.contains("ALLOWED=-100.0") && seen.ends_with("| hello"), "{seen}");
    let seen = read(&text(&place.world.received(&place.plain, 1).await[0]));
    assert!(seen.starts_with("low | ") && !seen.contains("ALLOWED") && seen.ends_with("[SPAM: low] hello"), "{seen}");

    let forged = place.world.client_at("198.51.100.7").await.send("joe@sender.example", &[JANE], &content).await;
    queued_as(&forged);
    let seen = read(&text(&place.world.received(&place.customer, 2).await[1]));
    assert!(seen.contains("ALLOW_UNPROVEN=0.0") && !seen.starts_with("none"), "{seen}");
}

#[tokio::test]
async fn the_domains_word_beats_the_platforms() {
    let place = place("block = [\"sender.example\"]\nhigh = \"quarantine\"", "spam = { allow = [\"joe@sender.example\"] }").await;
    let id = place.world.take(&[JANE, MAX], &message("Joe <joe@sender.example>", "The text.")).await;
    let seen = read(&text(&place.world.received(&place.customer, 1).await[0]));
    assert!(seen.starts_with("none | ") && seen.contains("ALLOWED"), "{seen}");
    let entry = place.world.entry(id).await.expect("one is in quarantine");
    let judgement = entry.progress.judgement.clone().expect("judged");
    let plain = judgement.domains.iter().find(|own| own.domain.as_str() == "plain.example").expect("sees it otherwise");
    assert_eq!((plain.level.as_str(), plain.hits[0].rule.as_str()), ("high", "BLOCKED"));
    assert_eq!(plain.hits[0].evidence, "sender.example (platform list)");
}

#[tokio::test]
async fn a_sender_who_always_sent_good_mail_is_known_by_it() {
    let place = place("", "spam = { share = \"20%\" }").await;
    for count in 1..=6 {
        place.world.take(&[JANE], &message("Joe <joe@sender.example>", "The text.")).await;
        place.world.received(&place.customer, count).await;
    }
    let received = place.world.received(&place.customer, 6).await;
    let (first, last) = (read(&text(&received[0])), read(&text(&received[5])));
    assert!(first.contains("SHARE=-1.") && !first.contains("REPUTATION"), "{first}");
    assert!(last.contains("REPUTATION_GOOD=-1.2"), "{last}");
}
