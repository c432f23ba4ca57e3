use super::*;
use crate::config::NextHop;
use crate::outside::Pending;
use crate::queue::steer::samples::config;

/// Preference and host.
type Mx = (u16, Option<&'static str>);

/// DNS as data. Names under `away.example` get no answer.
#[derive(Default)]
struct Names {
    addresses: Vec<(&'static str, Vec<&'static str>)>,
    exchangers: Vec<(&'static str, Vec<Mx>)>,
}

fn answer<T: Clone>(known: &[(&'static str, T)], name: &Domain) -> Result<T, DnsError> {
    if name.as_str().ends_with("away.example") {
        return Err(DnsError::Temporary("SERVFAIL".into()));
    }
    known.iter().find(|(known, _)| *known == name.as_str()).map(|(_, answer)| answer.clone()).ok_or(DnsError::NotFound)
}

impl Resolver for Names {
    fn addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<IpAddr>, DnsError>> {
        let found = answer(&self.addresses, name);
        Box::pin(async { Ok(found?.iter().map(|address| address.parse().unwrap()).collect()) })
    }
    fn mail_exchangers<'a>(&'a self, domain: &'a Domain) -> Pending<'a, Result<Vec<MailExchanger>, DnsError>> {
        let found = answer(&self.exchangers, domain);
        let exchanger = |(preference, host): Mx| MailExchanger { preference, host: host.map(|host| host.parse().unwrap()) };
        Box::pin(async move { Ok(found?.into_iter().map(exchanger).collect()) })
    }
    fn names<'a>(&'a self, _: IpAddr) -> Pending<'a, Result<Vec<Domain>, DnsError>> {
        Box::pin(async { Err(DnsError::NotFound) })
    }
    fn texts<'a>(&'a self, _: &'a Domain) -> Pending<'a, Result<Vec<Vec<u8>>, DnsError>> {
        Box::pin(async { Err(DnsError::NotFound) })
    }
    fn v4_addresses<'a>(&'a self, _: &'a Domain) -> Pending<'a, Result<Vec<std::net::Ipv4Addr>, DnsError>> {
        Box::pin(async { Err(DnsError::NotFound) })
    }
}

fn names() -> Names {
    Names {
        addresses: vec![
            ("mail.customer.example", vec!["203.0.113.7", "2001:db8::7"]),
            ("mx1.sender.example", vec!["192.0.2.1"]),
            ("mx2.sender.example", vec!["192.0.2.2"]),
            ("plain.example", vec!["192.0.2.9"]),
            ("mx1.isp.example", vec!["198.51.100.1"]),
            ("many.example", vec!["192.0.2.3"; 30]),
        ],
        exchangers: vec![
            ("sender.example", vec![(10, Some("mx1.sender.example")), (20, Some("mx2.sender.example"))]),
            ("partly.example", vec![(10, Some("mx.away.example")), (20, Some("mx2.sender.example"))]),
            ("unknown-mx.example", vec![(10, Some("gone.example"))]),
            ("dead-mx.example", vec![(10, Some("gone.example")), (20, Some("mx.away.example"))]),
            ("null.example", vec![(0, None)]),
            ("loop.example", vec![(10, Some("mx1.isp.example")), (20, Some("mx2.sender.example"))]),
            ("backup.example", vec![(10, Some("mx1.sender.example")), (20, Some("mx1.isp.example"))]),
        ],
    }
}

fn hop(host: &str, port: u16) -> NextHop {
    let host = host.parse().map(HopHost::Address).unwrap_or_else(|_| HopHost::Name(host.parse().unwrap()));
    NextHop { host, port }
}

#[track_caller]
fn check(destination: &str, deliver_to: Vec<NextHop>, expected: Result<&[&str], &str>) {
    let config = config(&[("customer.example", deliver_to)]);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let found = runtime.block_on(route(&destination.parse().unwrap(), &config, &names()));
    let found = found.map(|hops| hops.iter().map(|hop| format!("{} {}", hop.name, hop.address)).collect::<Vec<_>>());
    match (found, expected) {
        (Ok(hops), Ok(expected)) => assert_eq!(hops, expected, "{destination}"),
        (Err(failure), Err(expected)) => {
            let kind = if matches!(failure, RouteFailure::Permanent(_)) { "never" } else { "later" };
            assert!(format!("{kind} {failure}").starts_with(expected), "{destination}: {kind} {failure}");
        }
        (found, expected) => panic!("{destination}: {found:?}, not {expected:?}"),
    }
}

#[test]
fn a_customers_hosts_in_the_order_the_settings_give() {
    let all = vec![hop("203.0.113.5", 25), hop("mail.customer.example", 2525)];
    let expected =
        ["[203.0.113.5] 203.0.113.5:25", "mail.customer.example 203.0.113.7:2525", "mail.customer.example [2001:db8::7]:2525"];
    check("customer.example", all, Ok(&expected));
    let one_unknown = vec![hop("mail.away.example", 25), hop("gone.example", 25), hop("203.0.113.5", 25)];
    check("customer.example", one_unknown, Ok(&["[203.0.113.5] 203.0.113.5:25"]));
}

#[test]
fn a_customer_whose_hosts_dns_does_not_know_is_tried_later_never_given_up() {
    check("customer.example", vec![hop("gone.example", 25)], Err("later 451 4.4.4"));
    check("customer.example", vec![hop("mail.away.example", 25)], Err("later 451 4.4.4"));
}

#[test]
fn strangers_are_reached_through_their_mail_exchangers() {
    check("sender.example", vec![], Ok(&["mx1.sender.example 192.0.2.1:25", "mx2.sender.example 192.0.2.2:25"]));
    check("partly.example", vec![], Ok(&["mx2.sender.example 192.0.2.2:25"]));
    check("plain.example", vec![], Ok(&["plain.example 192.0.2.9:25"]));
    check("[192.0.2.77]", vec![], Ok(&["[192.0.2.77] 192.0.2.77:25"]));
    check("backup.example", vec![], Ok(&["mx1.sender.example 192.0.2.1:25"]));
    check("many.example", vec![], Ok(&["many.example 192.0.2.3:25"; HOPS_MAX]));
}

#[test]
fn strangers_without_a_mail_server_are_given_up_only_on_an_answer() {
    check("null.example", vec![], Err("never 556 5.1.10"));
    check("gone.example", vec![], Err("never 550 5.1.2"));
    check("unknown-mx.example", vec![], Err("never 550 5.1.2"));
    check("loop.example", vec![], Err("never 554 5.4.6"));
    check("dead-mx.example", vec![], Err("later 451 4.4.3"));
    check("some.away.example", vec![], Err("later 451 4.4.3"));
}
