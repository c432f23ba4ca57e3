//! What DNS and its greeting say about a client, at RCPT and in the score, in the whole gateway: the replies that senders meet,
//! each domain's own words, and DNS that fails in every way.

use feedgate::mail::QueueId;
use feedgate::sim;
use feedgate::telemetry::Line;

use crate::world::{World, domain, ip, queued_as};

const CLIENT: &str = "192.0.2.1";
const GOOD: &str = "mail.sender.example";
const JOE: &str = "joe@sender.example";
const CONTENT: &str = "From: joe@sender.example\r\nTo: ann@customer.example\r\nSubject: hello\r\nDate: Fri, 20 Nov 2026 22:36:00 +0000\r\n\
    Message-ID: <1@sender.example>\r\n\r\nHello Ann, see you on Monday at ten. Joe\r\n";

/// `[checks]` with one word for everything, and more keys.
fn checks(mode: &str, more: &str) -> String {
    format!(
        "[checks]\nreverse_dns = \"{mode}\"\nforward_confirmed = \"{mode}\"\ndynamic_name = \"{mode}\"\nhelo = \"{mode}\"\n\
         dmarc = \"off\"\nearly_talker_wait = \"0s\"\n{more}\n"
    )
}

/// A gateway for `customer.example`, whose spam is judged and delivered all the same.
async fn world(checks: &str, of_domain: &str) -> World {
    let spam = "[domains.\"customer.example\".spam]\nenabled = true\nlow = \"header\"\nmed = \"header\"\nhigh = \"header\"\n";
    let more = format!("{of_domain}\n{spam}");
    let world = World::new(&format!("{checks}\n{}", domain("customer.example", &["203.0.113.5"], &more))).await;
    zone(&world, sim::Dns::new());
    world
}

fn zone(world: &World, dns: sim::Dns) {
    let new = dns.change(|zone| zone.clone());
    world.dns.change(|zone| {
        *zone = new;
        // What the sender has published is not these tests' business: a temporary error has no points.
        zone.fail.insert("txt sender.example".to_owned());
    });
}

/// The reply to RCPT for a client that greets so.
async fn rcpt(world: &World, client: &str, helo: &str, to: &str) -> String {
    let mut peer = world.session(client, None);
    assert!(peer.reply().await.starts_with("220 "));
    assert!(peer.say(&format!("EHLO {helo}")).await.starts_with("250"), "{helo}");
    assert!(peer.say(&format!("MAIL FROM:<{JOE}>")).await.starts_with("250 "));
    peer.say(&format!("RCPT TO:<{to}>")).await
}

/// Sends a message that must be taken.
async fn take(world: &World, client: &str, helo: &str, to: &[&str]) -> QueueId {
    let mut peer = world.session(client, None);
    assert!(peer.reply().await.starts_with("220 "));
    assert!(peer.say(&format!("EHLO {helo}")).await.starts_with("250"), "{helo}");
    queued_as(&peer.send(JOE, to, CONTENT).await)
}

fn good() -> sim::Dns {
    sim::Dns::new().host(GOOD, CLIENT)
}

const TO: &str = "ann@customer.example";
const NO_NAME: &str = "550 5.7.1 Client host rejected: cannot find your reverse hostname";
const NO_ANSWER: &str = "450 4.7.1 Client host rejected: cannot find your reverse hostname";

#[tokio::test]
async fn each_blemish_has_its_reply() {
    let forged = sim::Dns::new().name(CLIENT, "mail.bank.example").address("mail.bank.example", "198.51.100.1");
    let line = sim::Dns::new().host("pool-192-0-2-1.isp.example", CLIENT);
    let mut farm = sim::Dns::new();
    for number in 0..500 {
        farm = farm.name(CLIENT, &format!("host{number}.farm.example"));
    }
    let mismatch = |name: &str| format!("550 5.7.1 EHLO rejected: inconsistent hostname / IP address {name} [192.0.2.1]");
    let may_be_forged = |name: &str| format!("550 5.7.1 Client host rejected: {name} may be forged (its address is not yours)");
    let temporary = |reply: String| reply.replace("550 5.7.1", "450 4.7.1");
    let ok = || "250 2.1.5 Ok".to_owned();
    let elsewhere = || good().address("other.example", "198.51.100.1");
    let cases = [
        (good(), GOOD, ok()),
        (good(), "[192.0.2.1]", ok()),
        (sim::Dns::new().address(GOOD, CLIENT), GOOD, NO_NAME.to_owned()),
        (good().fail(&format!("ptr {CLIENT}")), GOOD, NO_ANSWER.to_owned()),
        (forged, GOOD, may_be_forged("mail.bank.example")),
        (sim::Dns::new().name(CLIENT, "a_b.sender.example"), GOOD, may_be_forged("a_b.sender.example")),
        // A loop of CNAMEs is an answer that never comes.
        (sim::Dns::new().name(CLIENT, "loop.example").fail("loop.example"), GOOD, temporary(may_be_forged("loop.example"))),
        (farm, "host1.farm.example", may_be_forged("host0.farm.example")),
        (
            line,
            "pool-192-0-2-1.isp.example",
            "550 5.7.1 Client host rejected: pool-192-0-2-1.isp.example looks like a dial-up or DSL line; \
             use your provider's mail relay"
                .to_owned(),
        ),
        (elsewhere(), "other.example", mismatch("other.example")),
        (elsewhere().fail("other.example"), "other.example", temporary(mismatch("other.example"))),
        (good(), "gone.example", mismatch("gone.example")),
        (good(), "PC-7", mismatch("PC-7")),
        (good(), "[192.0.2.9]", mismatch("[192.0.2.9]")),
        (good(), "192.0.2.1", mismatch("192.0.2.1")),
        (good(), "mx1.feedgate.test", mismatch("mx1.feedgate.test")),
    ];
    for (dns, helo, expected) in cases {
        let world = world(&checks("reject", ""), "").await;
        zone(&world, dns);
        let reply = rcpt(&world, CLIENT, helo, TO).await;
        assert!(reply.starts_with(&expected), "{helo}: {reply}, and not {expected}");
        let lines = world.lines();
        let refused = lines.iter().any(|line| line.what == "refused" && line.text.starts_with("rcpt: "));
        assert_eq!(refused, !expected.starts_with("250"), "{helo}");
        let told = lines.iter().filter(|line| line.what == "client").count();
        assert!(told == 1 || !expected.starts_with("550"), "{helo}: {lines:?}");
        assert!(told == 0 || !expected.starts_with("250"), "{helo}: {lines:?}");
    }
}

#[tokio::test]
async fn the_log_says_which_check_of_the_greeting_failed() {
    let world = world(&checks("score", "").replace("helo = \"score\"", "helo = \"reject\""), "").await;
    zone(&world, good().address("other.example", "198.51.100.1"));
    rcpt(&world, CLIENT, "other.example", TO).await;
    let line = world.lines().into_iter().find(|line| line.what == "client").unwrap();
    assert_eq!(line.text, "EHLO - inconsistent hostname / IP address other.example [192.0.2.1]");
    assert_eq!(line.client, Some(ip(CLIENT)));
}

#[tokio::test]
async fn what_only_scores_lands_in_the_envelope_and_in_the_score() {
    let world = world(&checks("score", ""), "").await;
    let id = take(&world, CLIENT, "PC-7", &[TO]).await;
    world.told(id, "judged: level=none score=2.0 HELO_NO_DOMAIN=1.2 NO_REVERSE_NAME=0.8").await;
    world.told(id, "client: reverse DNS - no hostname [192.0.2.1]; EHLO - not a full hostname PC-7 [192.0.2.1]").await;
    let entry = world.entry(id).await.unwrap();
    let found: Vec<_> = entry.envelope.client.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!(found, ["no-reverse-name", "helo-not-a-name"]);
}

#[tokio::test]
async fn dns_that_does_not_answer_adds_no_points() {
    let world = world(&checks("score", ""), "").await;
    zone(&world, good().fail(CLIENT).fail(GOOD));
    let id = take(&world, CLIENT, GOOD, &[TO]).await;
    world.told(id, "judged: level=none score=0.0").await;
    assert!(world.lines().iter().all(|line| line.what != "client"));
}

#[tokio::test]
async fn each_domain_has_its_own_words() {
    let strict = "[domains.\"customer.example\".checks]\nreverse_dns = \"reject\"";
    let others = domain("easy.example", &["203.0.113.6"], "") + &domain("off.example", &["203.0.113.7"], "");
    let off = "[domains.\"off.example\".checks]\nreverse_dns = \"off\"\nhelo = \"off\"\n\
               [domains.\"off.example\".spam]\nenabled = true\nhigh = \"header\"\n";
    let world = world(&checks("score", ""), &format!("{strict}\n{others}{off}")).await;
    assert!(rcpt(&world, CLIENT, GOOD, TO).await.starts_with(NO_NAME));
    assert!(rcpt(&world, CLIENT, GOOD, "bob@easy.example").await.starts_with("250 "));
    let off = take(&world, CLIENT, "PC-7", &["bob@off.example"]).await;
    world.told(off, "judged: level=none score=0.0").await;
    assert_eq!(world.entry(off).await.unwrap().envelope.client.findings, []);
    let both = take(&world, CLIENT, "PC-7", &["bob@off.example", "bob@easy.example"]).await;
    world.told(both, "score=2.0").await;
}

#[tokio::test]
async fn allowed_networks_are_not_asked() {
    let limits = "[limits]\nallow = [\"192.0.2.0/24\"]\n";
    let lists = "[checks.lists.\"bl.example\"]\npoints = 50\n";
    let world = world(&format!("{}{limits}", checks("reject", lists)), "").await;
    zone(&world, sim::Dns::new().address("1.2.0.192.bl.example", "127.0.0.2").address("2.0.0.127.bl.example", "127.0.0.2"));
    let id = take(&world, CLIENT, "PC-7", &[TO]).await;
    world.told(id, "judged: level=none score=0.0").await;
    assert!(rcpt(&world, "198.51.100.1", "PC-7", TO).await.starts_with(NO_NAME));
}

#[tokio::test]
async fn a_dns_list_adds_its_points_and_refuses_nobody() {
    let lists = "[checks.lists.\"bl.example\"]\npoints = 7.5\ncodes = [\"127.0.0.2-11\"]\n\
                 [checks.lists.\"wl.example\"]\npoints = -1\n[checks.lists.\"dead.example\"]\npoints = 50\n";
    let world = world(&checks("reject", lists), "").await;
    let dns = good()
        .address("2.0.0.127.bl.example", "127.0.0.2")
        .address("2.0.0.127.wl.example", "127.0.0.2")
        .address("1.2.0.192.bl.example", "127.0.0.4")
        .address("1.2.0.192.wl.example", "127.0.5.2")
        .address("1.2.0.192.dead.example", "198.51.100.80");
    zone(&world, dns);
    let id = take(&world, CLIENT, GOOD, &[TO]).await;
    world.told(id, "judged: level=med score=6.5 LISTED=7.5 ").await;
    world.told(id, " LISTED=-1; ").await;
    world.told(id, "client: DNS list - bl.example 127.0.0.4 [192.0.2.1]").await;
    let status = world.flow().checks.clients.lists_status(&world.flow().config());
    let shadow: Vec<_> = status.iter().filter(|list| list.shadow.is_some()).map(|list| list.zone.as_str()).collect();
    assert_eq!(shadow, ["dead.example"]);
}

#[tokio::test]
async fn a_list_of_hosts_in_links_adds_its_points() {
    let lists = "[checks.uri_lists.\"dbl.example\"]\npoints = 4.5\n[checks.uri_lists.\"dead.example\"]\npoints = 50\n";
    let world = world(&checks("score", lists), "").await;
    let dns = good()
        .address("test.dbl.example", "127.0.1.2")
        .address("evil.co.uk.dbl.example", "127.0.1.4")
        .address("evil.co.uk.dead.example", "127.0.1.4");
    zone(&world, dns);
    let send = async |content: String| {
        let mut peer = world.session(CLIENT, None);
        assert!(peer.reply().await.starts_with("220 "));
        assert!(peer.say(&format!("EHLO {GOOD}")).await.starts_with("250"));
        queued_as(&peer.send(JOE, &[TO], &content).await)
    };
    let hidden = "https://www.google.com/url?q=https://login.evil.co.uk/x";
    let id = send(format!("{CONTENT}See {hidden}\r\n")).await;
    world.told(id, "URI_LISTED=4.5").await;
    // Larger than what is judged at once.
    let long = "Hello again, Ann.\r\n".repeat(5_000);
    let id = send(format!("{CONTENT}See {hidden}\r\n{long}")).await;
    world.told(id, "URI_LISTED=4.5").await;
    let id = send(format!("{CONTENT}See https://www.good.co.uk/\r\n")).await;
    world.told(id, "judged: ").await;
    let listed = |line: &&Line| line.what == "judged" && line.text.contains("URI_LISTED=");
    assert_eq!(world.lines().iter().filter(listed).count(), 2);
    let status = world.flow().checks.uris.status(&world.flow().config());
    let shadow: Vec<_> = status.iter().filter(|list| list.shadow.is_some()).map(|list| list.zone.as_str()).collect();
    assert_eq!(shadow, ["dead.example"]);
}

#[tokio::test]
async fn received_and_envelope_name_the_client() {
    let world = world(&checks("off", ""), "").await;
    zone(&world, good());
    let id = take(&world, CLIENT, GOOD, &[TO]).await;
    let client = world.entry(id).await.unwrap().envelope.client.clone();
    assert_eq!((client.reverse_name, client.reverse_confirmed), (Some(GOOD.parse().unwrap()), true));
}
