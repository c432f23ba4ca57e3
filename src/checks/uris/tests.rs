use std::path::Path;

use super::*;
use crate::sim;

const LISTS: &str = "[checks.uri_lists.\"dbl.example\"]\npoints = 4.0\ncodes = [\"127.0.1.2-99\"]\n\
    [checks.uri_lists.\"multi.example\"]\npoints = 2.5\nbits = [8, 64]\nask = \"host\"\ntest = \"permanent.test\"\n";

fn dns() -> sim::Dns {
    sim::Dns::new().address("test.dbl.example", "127.0.1.2").address("permanent.test.multi.example", "127.0.0.254")
}

struct House {
    uris: Uris,
    dns: Arc<sim::Dns>,
    clock: Arc<sim::Clock>,
    config: Config,
}

impl House {
    fn new(dns: sim::Dns, settings: &str) -> House {
        let (dns, clock) = (Arc::new(dns), Arc::new(sim::Clock::default()));
        let text = format!("hostname = \"mx1.isp.example\"\n{settings}");
        let config = Config::parse(&text, Path::new("test.toml")).unwrap();
        House { uris: Uris::new(dns.clone(), clock.clone()), dns, clock, config }
    }

    async fn found(&self, hosts: &[&str]) -> String {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let findings = self.uris.findings(&self.config, &hosts).await;
        assert!(findings.iter().all(|finding| finding.id == "uri-listed"));
        let lines: Vec<String> = findings.iter().map(|finding| format!("{} {}", finding.points, finding.evidence)).collect();
        lines.join("; ")
    }
}

#[tokio::test]
async fn hosts_are_asked_about_as_each_list_wants_them() {
    let dns = dns()
        .address("evil.co.uk.dbl.example", "127.0.1.5")
        .address("page.evil.co.uk.multi.example", "127.0.0.72")
        .address("other.example.multi.example", "127.0.0.4")
        .address("bad.example.dbl.example", "127.0.1.2")
        .address("worse.example.dbl.example", "127.0.1.4");
    let house = House::new(dns, LISTS);
    assert_eq!(
        house.found(&["www.good.example", "page.evil.co.uk"]).await,
        "4 evil.co.uk on dbl.example (127.0.1.5); 2.5 page.evil.co.uk on multi.example (127.0.0.72)"
    );
    assert_eq!(house.found(&["other.example"]).await, "", "another bit");
    assert_eq!(
        house.found(&["bad.example", "a.bad.example", "worse.example"]).await,
        "4 bad.example on dbl.example (127.0.1.2) and 1 more"
    );
    assert_eq!(house.found(&[]).await, "");
}

#[tokio::test]
async fn errors_and_silence_find_nothing() {
    let dns = dns()
        .address("ip.example.dbl.example", "127.0.1.255")
        .address("refused.example.dbl.example", "127.255.255.254")
        .address("refused.example.multi.example", "127.0.0.1")
        .address("sold.example.dbl.example", "198.51.100.1")
        .fail("lost.example.dbl.example");
    let house = House::new(dns, LISTS);
    assert_eq!(house.found(&["ip.example", "refused.example", "sold.example", "lost.example"]).await, "");
    let status = house.uris.status(&house.config);
    assert_eq!((status[0].errors, status[0].unanswered, status[1].errors), (3, 1, 1));
}

#[tokio::test]
async fn addresses_and_well_known_hosts_are_never_asked_about() {
    let house = House::new(dns(), LISTS);
    let many: Vec<String> = (0..100).map(|number| format!("host{number}.example")).collect();
    let hosts: Vec<&str> = ["192.0.2.1", "2001:db8::1", "localhost", "www.paypal.com", "", "a..b", "😀.example", "com"].into();
    assert_eq!(house.found(&hosts).await, "");
    assert_eq!(house.uris.status(&house.config)[0].not_listed, 1, "the one with an odd letter is a name");
    house.found(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(house.uris.status(&house.config)[0].not_listed, 21, "and no more than twenty a message");
    assert!(WELL_KNOWN.is_sorted());
}

#[tokio::test]
async fn a_list_has_its_effect_while_it_is_proved() {
    let settings = "[checks.uri_lists.\"dbl.example\"]\npoints = 4";
    let all = sim::Dns::new().address("bad.example.dbl.example", "127.0.1.2");
    let house = House::new(all, settings);
    let shadow = |house: &House| house.uris.status(&house.config)[0].shadow.clone().unwrap_or_default();
    assert_eq!(house.found(&["bad.example"]).await, "");
    assert_eq!(shadow(&house), "it does not list its test entry test");
    house.dns.change(|zone| zone.addresses.insert("test.dbl.example".parse().unwrap(), vec!["127.0.1.2".parse().unwrap()]));
    house.clock.advance(Duration::from_secs(601));
    assert_eq!(house.found(&["bad.example"]).await, "4 bad.example on dbl.example (127.0.1.2)");
    house.dns.change(|zone| zone.addresses.insert("invalid.dbl.example".parse().unwrap(), vec!["127.0.1.2".parse().unwrap()]));
    house.clock.advance(Duration::from_secs(3601));
    house.found(&["bad.example"]).await;
    assert_eq!(house.found(&["bad.example"]).await, "");
    assert!(shadow(&house).starts_with("it lists invalid"));
}

#[tokio::test]
async fn a_list_in_shadow_is_counted() {
    let dns = dns().address("bad.example.dbl.example", "127.0.1.2");
    let house = House::new(dns, "[checks.uri_lists.\"dbl.example\"]\npoints = 4\nshadow = true");
    assert_eq!(house.found(&["bad.example"]).await, "");
    assert_eq!(house.uris.status(&house.config)[0].listed, 1);
}
