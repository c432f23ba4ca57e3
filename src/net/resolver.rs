//! DNS through hickory, asked like a mail server: full names only, no search domains, no hosts file.
//!
//! Only NXDOMAIN and an answer without such records are knowledge ([`DnsError::NotFound`]). Everything else that is no answer
//! (timeout, SERVFAIL, REFUSED, no server reachable, nonsense) is [`DnsError::Temporary`]: mail is refused for good on the
//! first and waits on the second.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as HickoryDnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{IntoName, Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use crate::config;
use crate::mail::Domain;
use crate::outside::{DnsError, MailExchanger, Pending, Resolver};

/// Of one answer, what is used: a host with more is not worth more attempts.
const ADDRESSES_MAX: usize = 32;
const MAIL_EXCHANGERS_MAX: usize = 32;
/// PTR names of one address. Shared hosts have thousands; each would be looked up in turn.
const NAMES_MAX: usize = 20;
/// TXT records of one name; busy domains have dozens for all sorts of proofs.
const TEXTS_MAX: usize = 100;
/// A customer who mends a PTR or MX is not told "not found" for longer than this.
const NOT_FOUND_KEPT: Duration = Duration::from_secs(5 * 60);
/// Questions under way over one connection to a server; hickory's 32 makes busy gateways fail.
const ACTIVE_MAX: usize = 1024;

/// DNS through hickory. Must be made and used inside a tokio runtime.
pub struct Dns {
    resolver: TokioResolver,
    timeout: Duration,
}

impl Dns {
    /// Asks the servers of the settings, or the system's.
    pub fn new(settings: &config::Dns) -> io::Result<Dns> {
        let servers = if settings.servers.is_empty() {
            read_system_conf().map_err(io::Error::other)?.0.name_servers
        } else {
            settings.servers.iter().map(|server| name_server(*server)).collect()
        };
        let config = ResolverConfig::from_name_servers(servers);
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.ndots = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.max_active_requests = ACTIVE_MAX;
        options.negative_max_ttl = Some(NOT_FOUND_KEPT);
        // One question and one retry fit into the whole wait.
        options.timeout = settings.timeout / 2;
        options.attempts = 1;
        let resolver = builder.build().map_err(io::Error::other)?;
        Ok(Dns { resolver, timeout: settings.timeout })
    }

    /// The records of one kind, taken from the answer by `pick`; at least one.
    async fn ask<T>(&self, name: Name, kind: RecordType, pick: impl Fn(&RData) -> Option<T>) -> Result<Vec<T>, DnsError> {
        let failed = |why: &str| DnsError::Temporary(format!("{kind} {name}: {why}"));
        let answer = tokio::time::timeout(self.timeout, self.resolver.lookup(name.clone(), kind)).await;
        let lookup = match answer {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(error)) if is_knowledge(&error) => return Err(DnsError::NotFound),
            Ok(Err(error)) => return Err(failed(&error.to_string())),
            Err(_) => return Err(failed("no answer in time")),
        };
        let records: Vec<T> = lookup.answers().iter().filter_map(|record| pick(&record.data)).collect();
        if records.is_empty() { Err(DnsError::NotFound) } else { Ok(records) }
    }
}

impl Resolver for Dns {
    /// hickory's own lookup of both families returns the first family's "not found" when the second fails: not used.
    fn addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async move {
            let full = full_name(name)?;
            let v4 = self.ask(full.clone(), RecordType::A, |data| match data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                _ => None,
            });
            let v6 = self.ask(full, RecordType::AAAA, |data| match data {
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            });
            match tokio::join!(v4, v6) {
                (Ok(mut addresses), v6) => {
                    addresses.extend(v6.unwrap_or_default());
                    addresses.truncate(ADDRESSES_MAX);
                    Ok(addresses)
                }
                (Err(_), Ok(mut addresses)) => {
                    addresses.truncate(ADDRESSES_MAX);
                    Ok(addresses)
                }
                (Err(DnsError::NotFound), Err(error)) | (Err(error), Err(_)) => Err(error),
            }
        })
    }

    fn mail_exchangers<'a>(&'a self, domain: &'a Domain) -> Pending<'a, Result<Vec<MailExchanger>, DnsError>> {
        Box::pin(async move {
            let pick = |data: &RData| match data {
                RData::MX(mx) => Some((mx.preference, mx.exchange.clone())),
                _ => None,
            };
            let records = self.ask(full_name(domain)?, RecordType::MX, pick).await?;
            if let [(preference, host)] = records.as_slice()
                && host.is_root()
            {
                return Ok(vec![MailExchanger { preference: *preference, host: None }]);
            }
            let mut exchangers: Vec<MailExchanger> = records
                .iter()
                .filter_map(|(preference, host)| Some(MailExchanger { preference: *preference, host: Some(domain_of(host)?) }))
                .collect();
            if exchangers.is_empty() {
                // It has MX records, so its own address does not count; but no mail can be sent to them.
                return Err(DnsError::Temporary(format!("MX {domain}: no record names a valid host")));
            }
            // RFC 5321 §5.1: hosts of equal preference are tried in random order, to spread the load.
            let dice = RandomState::new();
            exchangers.sort_by_cached_key(|exchanger| (exchanger.preference, dice.hash_one(&exchanger.host)));
            exchangers.truncate(MAIL_EXCHANGERS_MAX);
            Ok(exchangers)
        })
    }

    /// Names that are no domain names (a blank, a wildcard, an empty label) are left out.
    fn names<'a>(&'a self, address: IpAddr) -> Pending<'a, Result<Vec<Domain>, DnsError>> {
        Box::pin(async move {
            let reverse = address.into_name().map_err(|error| DnsError::Temporary(error.to_string()))?;
            let pick = |data: &RData| match data {
                RData::PTR(name) => domain_of(name),
                _ => None,
            };
            let mut names = self.ask(reverse, RecordType::PTR, pick).await?;
            names.truncate(NAMES_MAX);
            Ok(names)
        })
    }

    fn texts<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Vec<u8>>, DnsError>> {
        Box::pin(async move {
            let pick = |data: &RData| match data {
                RData::TXT(text) => Some(text.txt_data.concat()),
                _ => None,
            };
            let mut texts = self.ask(full_name(name)?, RecordType::TXT, pick).await?;
            texts.truncate(TEXTS_MAX);
            Ok(texts)
        })
    }

    fn v4_addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Ipv4Addr>, DnsError>> {
        Box::pin(async move {
            let pick = |data: &RData| match data {
                RData::A(address) => Some(address.0),
                _ => None,
            };
            let mut addresses = self.ask(full_name(name)?, RecordType::A, pick).await?;
            addresses.truncate(ADDRESSES_MAX);
            Ok(addresses)
        })
    }
}

/// NXDOMAIN, or NOERROR without such a record.
fn is_knowledge(error: &NetError) -> bool {
    let NetError::Dns(HickoryDnsError::NoRecordsFound(nothing)) = error else {
        return false;
    };
    matches!(nothing.response_code, ResponseCode::NXDomain | ResponseCode::NoError)
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    (udp.port, tcp.port) = (server.port(), server.port());
    NameServerConfig::new(server.ip(), true, vec![udp, tcp])
}

/// With the final dot that keeps search domains out. A domain that DNS cannot hold does not exist there.
fn full_name(domain: &Domain) -> Result<Name, DnsError> {
    Name::from_ascii(format!("{domain}.")).map_err(|_| DnsError::NotFound)
}

fn domain_of(name: &Name) -> Option<Domain> {
    Domain::parse(&name.to_ascii()).ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::UdpSocket;

    use super::*;

    /// What the server answers for one question: records as (type, data), or a response code; silence when there is no entry.
    type Zone = Vec<(&'static str, u16, Result<Vec<Vec<u8>>, u8>)>;

    const A: u16 = 1;
    const PTR: u16 = 12;
    const MX: u16 = 15;
    const AAAA: u16 = 28;
    const SERVFAIL: u8 = 2;
    const NXDOMAIN: u8 = 3;
    const REFUSED: u8 = 5;

    fn wire_name(name: &str) -> Vec<u8> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        labels.flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).chain([0]).collect()
    }

    fn mx(preference: u16, host: &str) -> Vec<u8> {
        [preference.to_be_bytes().to_vec(), wire_name(host)].concat()
    }

    /// An answer to `query`, by hand: header, question, records (RFC 1035 §4.1).
    fn response(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
        let name_end = 12 + query[12..].iter().position(|byte| *byte == 0)? + 1;
        let question = &query[12..name_end + 4];
        let kind = u16::from_be_bytes([query[name_end], query[name_end + 1]]);
        let is_asked = |name: &str, asked| asked == kind && wire_name(name).eq_ignore_ascii_case(&query[12..name_end]);
        let (_, _, answer) = zone.iter().find(|(name, asked, _)| is_asked(name, *asked))?;
        let (code, records) = answer.as_ref().map_or_else(|code| (*code, &[][..]), |records| (0, records.as_slice()));
        let mut packet = [&query[..2], &[0x81, 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0], question].concat();
        for data in records {
            packet.extend([0xc0, 12]);
            packet.extend(kind.to_be_bytes());
            packet.extend([0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            packet.extend(data);
        }
        Some(packet)
    }

    /// A resolver that asks a server which knows `zone`.
    async fn dns(zone: Zone) -> Dns {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                if let Some(answer) = response(&query[..length], &zone) {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        Dns::new(&config::Dns { servers: vec![server], timeout: Duration::from_millis(400) }).unwrap()
    }

    fn domain(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    #[tokio::test]
    async fn addresses_of_both_families_are_one_answer() {
        let v6 = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec();
        let dns = dns(vec![
            ("mx.customer.example", A, Ok(vec![vec![192, 0, 2, 1], vec![192, 0, 2, 2]])),
            ("mx.customer.example", AAAA, Ok(vec![v6])),
            ("v4.customer.example", A, Ok(vec![vec![192, 0, 2, 1]])),
            ("v4.customer.example", AAAA, Err(SERVFAIL)),
        ])
        .await;
        let addresses = dns.addresses(&domain("mx.customer.example")).await.unwrap();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.contains(&"2001:db8::1".parse().unwrap()));
        assert_eq!(dns.addresses(&domain("v4.customer.example")).await, Ok(vec!["192.0.2.1".parse().unwrap()]));
    }

    #[tokio::test]
    async fn only_nxdomain_and_no_record_are_knowledge() {
        let dns = dns(vec![
            ("gone.example", A, Err(NXDOMAIN)),
            ("gone.example", AAAA, Err(NXDOMAIN)),
            ("empty.example", MX, Ok(vec![])),
            ("broken.example", MX, Err(SERVFAIL)),
            ("closed.example", MX, Err(REFUSED)),
            ("half.example", A, Err(SERVFAIL)),
            ("half.example", AAAA, Ok(vec![])),
            ("other.example", A, Ok(vec![])),
            ("other.example", AAAA, Err(SERVFAIL)),
        ])
        .await;
        assert_eq!(dns.addresses(&domain("gone.example")).await, Err(DnsError::NotFound));
        assert_eq!(dns.mail_exchangers(&domain("empty.example")).await, Err(DnsError::NotFound));
        for name in ["broken.example", "closed.example", "silent.example"] {
            let answer = dns.mail_exchangers(&domain(name)).await;
            assert!(matches!(answer, Err(DnsError::Temporary(_))), "{name}: {answer:?}");
        }
        for name in ["half.example", "other.example", "silent.example"] {
            let answer = dns.addresses(&domain(name)).await;
            assert!(matches!(answer, Err(DnsError::Temporary(_))), "{name}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn localhost_needs_no_server() {
        let addresses = dns(vec![]).await.addresses(&domain("localhost")).await.unwrap();
        assert!(addresses.contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[tokio::test]
    async fn mail_exchangers_come_best_first() {
        let dns = dns(vec![
            (
                "customer.example",
                MX,
                Ok(vec![mx(20, "b.customer.example"), mx(10, "a.customer.example"), mx(5, "192.0.2.1"), mx(30, "")]),
            ),
            ("nomail.example", MX, Ok(vec![mx(0, "")])),
            ("wrong.example", MX, Ok(vec![mx(0, "192.0.2.1")])),
        ])
        .await;
        let hosts: Vec<_> = dns
            .mail_exchangers(&domain("customer.example"))
            .await
            .unwrap()
            .into_iter()
            .map(|record| record.host.map(|host| host.to_string()))
            .collect();
        assert_eq!(hosts, [Some("a.customer.example".to_owned()), Some("b.customer.example".to_owned())]);
        let null = MailExchanger { preference: 0, host: None };
        assert_eq!(dns.mail_exchangers(&domain("nomail.example")).await, Ok(vec![null]));
        assert!(matches!(dns.mail_exchangers(&domain("wrong.example")).await, Err(DnsError::Temporary(_))));
    }

    #[tokio::test]
    async fn names_that_are_no_names_are_left_out() {
        let many = (0..30).map(|number| wire_name(&format!("host{number}.example"))).collect();
        let dns = dns(vec![
            (
                "1.2.0.192.in-addr.arpa",
                PTR,
                Ok(vec![wire_name("mail.customer.example"), wire_name("a b.example"), wire_name("")]),
            ),
            ("2.2.0.192.in-addr.arpa", PTR, Ok(many)),
            ("3.2.0.192.in-addr.arpa", PTR, Err(NXDOMAIN)),
        ])
        .await;
        let names = |last| dns.names(IpAddr::from([192, 0, 2, last]));
        assert_eq!(names(1).await, Ok(vec![domain("mail.customer.example")]));
        assert_eq!(names(2).await.unwrap().len(), NAMES_MAX);
        assert_eq!(names(3).await, Err(DnsError::NotFound));
    }
}
