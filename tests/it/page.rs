//! The explanation pages: from a refusal's link to what a stranger reads, over real HTTP and in a real browser.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use feedgate::admin::client::Client;
use feedgate::admin::seen::{ClientQuery, Seen};
use feedgate::admin::{Operations, serve_http, serve_socket};
use feedgate::checks::{Case, Kind};
use feedgate::mail::{Finding, Reply, Verdict};
use feedgate::telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::gateway::program;
use crate::world::{DAY, MINUTE, World, domain};

const JANE: &str = "jane@customer.example";
const URL: &str = "https://mail.isp.example";
const SETTINGS: &str = "[admin]\npublic_url = \"https://mail.isp.example/\"\n";

/// A world, and its pages served on a port of this machine.
struct House {
    world: World,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Drop for House {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer over HTTP.
struct Got {
    status: u16,
    /// In lower case.
    head: String,
    body: String,
}

impl House {
    async fn new(settings: &str) -> House {
        House::around(World::new(&format!("{SETTINGS}{settings}")).await).await
    }

    async fn around(world: World) -> House {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new());
        let operations = Arc::new(Operations { metrics: Arc::clone(&metrics), ..world.operations() });
        let serving = tokio::spawn(serve_http(listener, operations, std::future::pending()));
        House { world, address, metrics, serving }
    }

    /// For a customer who wants strangers to wait.
    async fn greylisting() -> House {
        House::new(&domain("customer.example", &["203.0.113.5"], "greylist = true")).await
    }

    /// The reply to a first try.
    async fn first_try(&self, client: &str, helo: &str) -> String {
        let mut peer = self.world.session(client, None);
        peer.reply().await;
        peer.say(&format!("EHLO {helo}")).await;
        peer.say("MAIL FROM:<joe@sender.example>").await;
        peer.say(&format!("RCPT TO:<{JANE}>")).await
    }

    async fn get(&self, target: &str, language: &str) -> Got {
        self.get_from("127.0.0.1", target, language).await
    }

    /// As the proxy asks for a visitor.
    async fn get_from(&self, visitor: &str, target: &str, language: &str) -> Got {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: mail.isp.example\r\nAccept-Language: {language}\r\n\
             X-Forwarded-For: 203.0.113.77, {visitor}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP: {answer}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        Got { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    /// A link to this case, as a reply carries it.
    async fn link(&self, case: &Case) -> String {
        self.world.flow().checks.cases.record(URL, case).await.expect("a link")
    }
}

/// `/why/TOKEN` of the link that stands alone on the last line of this reply.
#[track_caller]
fn target(reply: &str) -> &str {
    let (first, last) = reply.split_once('\n').unwrap_or_else(|| panic!("no second line: {reply}"));
    assert_eq!((first.as_bytes()[3], last.as_bytes()[3]), (b'-', b' '), "{reply}");
    assert!(last.len() <= 510, "{reply}");
    let (code, link) = last.split_once(" see ").unwrap_or_else(|| panic!("no link: {reply}"));
    assert!(first.starts_with(&code.replacen(' ', "-", 1)), "code and enhanced code stand on both lines: {reply}");
    let target = link.strip_prefix(URL).unwrap_or_else(|| panic!("not ours: {reply}"));
    assert_eq!(target.len(), "/why/".len() + 24, "{reply}");
    target
}

#[tokio::test]
async fn a_greylisted_sender_learns_that_nothing_has_to_be_done() {
    let house = House::greylisting().await;
    let reply = house.first_try("192.0.2.1", "out.sender.example").await;
    assert!(reply.starts_with("451-4.7.1 Greylisted, please try again in 300 seconds\n451 4.7.1 see https://"), "{reply}");
    let page = house.get(target(&reply), "en").await;
    assert_eq!(page.status, 200, "{}", page.body);
    for text in [
        "<html lang=\"en\">",
        "mx1.feedgate.test",
        "192.0.2.1",
        "out.sender.example",
        "sender.example",
        "…@customer.example",
        "Nothing has to be done",
        "2026-11-20 22:36:00 UTC",
        "2026-11-20 22:41:00 UTC",
        "451 4.7.1 Greylisted, please try again in 300 seconds",
        "1.2.0.192.in-addr.arpa. PTR out.sender.example.",
    ] {
        assert!(page.body.contains(text), "{text} is missing: {}", page.body);
    }
    assert!(!page.body.contains("jane") && !page.body.contains("joe"), "nobody's name: {}", page.body);
    let german = house.get(target(&reply), "de-DE,de;q=0.9,en;q=0.5").await;
    assert!(german.body.contains("<html lang=\"de\">") && german.body.contains("Es ist nichts zu tun"), "{}", german.body);
    // Again within ten minutes: the same link.
    assert_eq!(target(&house.first_try("192.0.2.1", "out.sender.example").await), target(&reply));
}

#[tokio::test]
async fn pages_can_be_cached_and_reach_for_nothing() {
    let house = House::greylisting().await;
    let reply = house.first_try("192.0.2.1", "out.sender.example").await;
    let page = house.get(target(&reply), "en").await;
    for header in [
        "cache-control: public, max-age=60",
        "vary: accept-language",
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'none'; style-src 'sha256-",
        "referrer-policy: no-referrer",
        "x-content-type-options: nosniff",
        "x-robots-tag: noindex",
    ] {
        assert!(page.head.contains(header), "{header} is missing: {}", page.head);
    }
    for reach in ["<script", "http://", "https://", "src=", "url(", "@import", "style=\"", "set-cookie"] {
        assert!(!page.body.contains(reach) && !page.head.contains(reach), "{reach}: {}", page.body);
    }
    assert_eq!(house.get(&format!("{}?again=1", target(&reply)), "en").await.head.matches("cache-control: no-store").count(), 1);
}

#[tokio::test]
async fn what_a_stranger_says_is_text_and_nothing_else() {
    let house = House::greylisting().await;
    let reply = house.first_try("192.0.2.1", "<script>alert(1)</script>\"'&").await;
    let page = house.get(target(&reply), "en").await;
    assert!(!page.body.contains("<script") && page.body.contains("alert(1)"), "{}", page.body);
}

#[tokio::test]
async fn the_button_sees_what_was_mended() {
    let house = House::greylisting().await;
    let reply = house.first_try("192.0.2.1", "out.sender.example").await;
    let target = target(&reply).to_owned();
    let record = "PTR out.sender.example.";
    assert!(house.get(&target, "en").await.body.contains(record));
    house.world.dns.change(|zone| {
        zone.names.insert("192.0.2.1".parse().unwrap(), vec!["out.sender.example".parse().unwrap()]);
        zone.addresses.insert("out.sender.example".parse().unwrap(), vec!["192.0.2.1".parse().unwrap()]);
    });
    assert!(house.get(&target, "en").await.body.contains(record), "an answer is used for a minute");
    let mended = house.get(&format!("{target}?again=1"), "en").await.body;
    assert!(!mended.contains(record) && mended.contains("out.sender.example"), "{mended}");
    assert!(!house.get(&target, "en").await.body.contains(record), "and then the new one");
    house.world.dns.change(|zone| zone.fail.insert("192.0.2.1".to_owned()));
    house.world.pass(MINUTE);
    let unknown = house.get(&target, "en").await.body;
    assert!(!unknown.contains(record) && unknown.contains("DNS does not answer"), "{unknown}");
}

#[tokio::test]
async fn forged_links_and_those_that_are_over_say_so() {
    let house = House::greylisting().await;
    let reply = house.first_try("192.0.2.1", "out.sender.example").await;
    let good = target(&reply);
    let mut forged = good.to_owned();
    let last = if forged.pop() == Some('0') { '1' } else { '0' };
    forged.push(last);
    for target in [forged.as_str(), "/why/x", "/why/00000000000000000000000v", "/why/%3Cscript%3E"] {
        let page = house.get(target, "en").await;
        assert_eq!(page.status, 404, "{target}");
        assert!(page.body.contains("There is no such page") && !page.body.contains("<script"), "{}", page.body);
    }
    assert_eq!(house.get("/why/", "en").await.status, 404);
    assert_eq!(house.get("/v1/status", "en").await.status, 404);
    house.world.pass(30 * DAY);
    let over = house.get(good, "de").await;
    assert_eq!(over.status, 410);
    assert!(over.body.contains("30 Tage"), "{}", over.body);
    let metrics = house.metrics.render();
    assert!(metrics.contains("feedgate_explain_pages_total{answer=\"forged\"} 4"), "{metrics}");
    assert!(metrics.contains("feedgate_explain_pages_total{answer=\"gone\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_visitor_who_asks_too_often_waits_and_others_do_not() {
    let house = House::greylisting().await;
    let reply = house.first_try("192.0.2.1", "out.sender.example").await;
    let again = format!("{}?again=1", target(&reply));
    for _ in 0..10 {
        assert_eq!(house.get_from("198.51.100.1", &again, "en").await.status, 200);
    }
    let page = house.get_from("198.51.100.1", &again, "en").await;
    assert_eq!(page.status, 429);
    assert!(page.head.contains("retry-after: 60") && page.body.contains("in a minute"), "{}", page.body);
    assert_eq!(house.get_from("198.51.100.2", &again, "en").await.status, 200);
    house.world.pass(MINUTE);
    assert_eq!(house.get_from("198.51.100.1", &again, "en").await.status, 200);
}

#[tokio::test]
async fn refused_content_and_strange_domains_are_explained_too() {
    let spam = "[domains.\"customer.example\".spam]\nenabled = true\nhigh = \"reject\"\n";
    let house = House::new(&format!("{}{spam}", domain("customer.example", &["203.0.113.5"], ""))).await;
    let gtube = concat!("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD", "-ANTI-UBE-TEST-EMAIL*C.34X");
    let reply = house.world.send(&[JANE], &format!("From: <joe@sender.example>\r\nSubject: x\r\n\r\n{gtube}\r\n")).await;
    assert!(reply.starts_with("550-5.7.1 Message refused as spam\n"), "{reply}");
    let page = house.get(target(&reply), "en").await;
    assert!(page.body.contains("looked like unwanted mail"), "{}", page.body);

    house.world.scanner.say_next(Verdict::Infected("Eicar".to_owned()));
    let reply = house.world.send(&[JANE], "Subject: x\r\n\r\nx\r\n").await;
    let page = house.get(target(&reply), "de").await;
    assert!(page.body.contains("Virenscanner") && page.body.contains("554 5.7.1 Virus found: Eicar"), "{}", page.body);

    let mut peer = house.world.client().await;
    peer.say("MAIL FROM:<joe@sender.example>").await;
    let reply = peer.say("RCPT TO:<jane@elsewhere.example>").await;
    assert!(reply.starts_with("553-5.7.1 Sorry"), "{reply}");
    let page = house.get(target(&reply), "en").await;
    assert!(page.body.contains("elsewhere.example is not one of them"), "{}", page.body);
}

#[tokio::test]
async fn without_a_public_address_nothing_changes() {
    let world = World::new(&domain("customer.example", &["203.0.113.5"], "greylist = true")).await;
    let house = House::around(world).await;
    let reply = house.first_try("192.0.2.1", "out.sender.example").await;
    assert_eq!(reply, "451 4.7.1 Greylisted, please try again in 300 seconds");
    assert_eq!(house.get("/why/000000000000000000000000", "en").await.status, 404);
}

#[tokio::test]
async fn links_outlive_a_restart() {
    let mut house = House::greylisting().await;
    let reply = house.first_try("192.0.2.1", "out.sender.example").await;
    house.serving.abort();
    house.world.restart().await;
    let again = Operations { metrics: Arc::clone(&house.metrics), ..house.world.operations() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    house.address = listener.local_addr().unwrap();
    house.serving = tokio::spawn(serve_http(listener, Arc::new(again), std::future::pending()));
    assert_eq!(house.get(target(&reply), "en").await.status, 200);
}

#[tokio::test]
async fn check_client_shows_the_whole_reasoning_and_changes_nothing() {
    let house = House::greylisting().await;
    house.world.dns.change(|zone| {
        zone.names.insert("192.0.2.1".parse().unwrap(), vec!["out.sender.example".parse().unwrap()]);
        zone.addresses.insert("out.sender.example".parse().unwrap(), vec!["192.0.2.1".parse().unwrap()]);
        zone.texts.insert("sender.example".parse().unwrap(), vec![b"v=spf1 ip4:192.0.2.1 -all".to_vec()]);
    });
    let operations = Operations { metrics: Arc::clone(&house.metrics), ..house.world.operations() };
    let query = ClientQuery {
        client: "192.0.2.1".parse().unwrap(),
        helo: Some("out.sender.example".to_owned()),
        from: Some("joe@sender.example".to_owned()),
        to: Some(JANE.parse().unwrap()),
    };
    let seen = operations.check_client(query.clone()).await.unwrap();
    for row in [
        "reverse name (PTR)|out.sender.example|ok",
        "forward-confirmed|out.sender.example leads back|ok",
        "EHLO|out.sender.example: 192.0.2.1|ok",
        "SPF record of sender.example|v=spf1 ip4:192.0.2.1 -all|ok",
        "DMARC record of sender.example|none|-",
        "greylist knows|nothing of it|-",
        "recipient|jane@customer.example: exists (any)|ok",
    ] {
        let shown = |seen: &Seen| seen.rows.iter().any(|one| format!("{}|{}|{}", one.question, one.seen, one.result) == row);
        assert!(shown(&seen), "{row} is missing: {seen:#?}");
    }
    assert_eq!(seen.answer, "451 4.7.1 Greylisted, please try again in 300 seconds");
    assert_eq!(operations.check_client(query.clone()).await.unwrap(), seen, "asking changes nothing");
    house.first_try("192.0.2.1", "out.sender.example").await;
    let seen = operations.check_client(query.clone()).await.unwrap();
    assert!(seen.rows.iter().any(|row| row.seen.starts_with("waiting sender.example, tries: 1")), "{seen:#?}");
    let elsewhere = ClientQuery { to: Some("jane@elsewhere.example".parse().unwrap()), ..query.clone() };
    assert!(operations.check_client(elsewhere).await.unwrap().answer.starts_with("553 5.7.1"));
    let error = operations.check_client(ClientQuery { from: Some("joe@".to_owned()), ..query }).await.unwrap_err();
    assert!(error.to_string().starts_with("from: "), "{error}");
}

#[tokio::test]
async fn check_client_is_asked_over_the_socket() {
    let house = House::greylisting().await;
    let operations = Arc::new(Operations { metrics: Arc::clone(&house.metrics), ..house.world.operations() });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let serving = tokio::spawn(serve_socket(path.clone(), operations, std::future::pending()));
    while tokio::net::UnixStream::connect(&path).await.is_err() {
        assert!(!serving.is_finished(), "the socket is served");
        tokio::task::yield_now().await;
    }
    let client = Client::new(path);
    let seen: Seen = client.get("/v1/check-client?client=192.0.2.1&from=&to=jane%40customer.example").await.unwrap();
    assert!(seen.rows.iter().any(|row| row.question == "reverse name (PTR)" && row.seen == "none"), "{seen:#?}");
    for wrong in ["", "client=x", "client=192.0.2.1&to=jane", "client=192.0.2.1&who=me"] {
        assert!(client.get::<Seen>(&format!("/v1/check-client?{wrong}")).await.is_err(), "{wrong}");
    }
    serving.abort();
}

// ---------------------------------------------------------------------------------------------------- in a browser

/// What stands in the page after chromium has read it, and what it complained about.
async fn browse(url: String, language: &'static str, window: &'static str, shot: &'static str) -> (String, String) {
    let looked = tokio::task::spawn_blocking(move || {
        let scratch = tempfile::tempdir().unwrap();
        let run = |more: &[String]| {
            let mut command = Command::new(program("chromium"));
            command
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"])
                .args([
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                    "--enable-logging=stderr",
                ])
                .arg(format!("--user-data-dir={}", scratch.path().display()))
                .args([format!("--accept-lang={language}"), format!("--window-size={window}")])
                .args(more)
                .arg(&url);
            let output = command.output().expect("chromium runs");
            (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        // FEEDGATE_SCREENSHOTS=DIRECTORY keeps pictures for people to look at.
        if let Some(directory) = std::env::var_os("FEEDGATE_SCREENSHOTS") {
            let file = std::path::Path::new(&directory).join(format!("{shot}.png"));
            run(&[format!("--screenshot={}", file.display())]);
        }
        run(&["--dump-dom".to_owned()])
    });
    looked.await.unwrap()
}

/// A case with everything in it.
fn case_with_everything(house: &House) -> Case {
    let finding = |id: &str, evidence: &str, points| Finding::new(id, evidence).with_points(points);
    Case {
        at: house.world.now(),
        kind: Kind::NoReverseName,
        client: "192.0.2.4".parse().unwrap(),
        name: None,
        confirmed: false,
        helo: "mail.sender.example".to_owned(),
        sender: Some("sender.example".parse().unwrap()),
        domain: Some("customer.example".parse().unwrap()),
        findings: vec![
            finding("no-reverse-name", "", 0.0),
            finding("helo-mismatch", "mail.sender.example", 0.0),
            finding("listed", "zen.lists.example 127.0.0.4", 5.0),
            finding("spf-softfail", "sender.example", 0.0),
        ],
        results: String::new(),
        wait: None,
        reply: Reply::no_reverse_name(),
    }
}

#[tokio::test]
async fn a_browser_shows_the_page_in_its_own_language_with_its_style() {
    let house = House::greylisting().await;
    house.world.dns.change(|zone| {
        zone.texts.insert("sender.example".parse().unwrap(), vec![b"v=spf1 mx include:spf.out.example ~all".to_vec()]);
    });
    let link = house.link(&case_with_everything(&house)).await;
    let url = link.replace(URL, &format!("http://{}", house.address));
    for (language, window, shot, text) in [
        ("en-GB", "1200,2400", "desktop", "Give the address a name"),
        ("de-DE", "412,3400", "phone", "Der Adresse einen Namen geben"),
    ] {
        let (dom, complaints) = browse(url.clone(), language, window, shot).await;
        for text in
            [text, "4.2.0.192.in-addr.arpa. PTR mail.sender.example.", "zen.lists.example", "v=spf1 ip4:192.0.2.4 mx include:"]
        {
            assert!(dom.contains(text), "{text} is missing: {dom}");
        }
        let blocked = complaints.lines().find(|line| line.contains("Content Security Policy") || line.contains("Refused to"));
        assert_eq!(blocked, None, "the policy allows the page its own style");
    }
}

#[tokio::test]
async fn a_browser_shows_pages_without_a_case() {
    let house = House::greylisting().await;
    let (dom, _) = browse(format!("http://{}/why/nonsense", house.address), "en-GB", "1200,700", "forged").await;
    assert!(dom.contains("There is no such page"), "{dom}");
    let reply = house.first_try("192.0.2.1", "out.sender.example").await;
    assert!(dom.len() < 10_000, "{dom}");
    let (dom, _) = browse(format!("http://{}{}?again=1", house.address, target(&reply)), "de", "1200,2000", "greylisted").await;
    assert!(dom.contains("Es ist nichts zu tun"), "{dom}");
}
