//! DNS for real: our resolver against hickory's name server on loopback, with answers as they should be and with everything
//! that goes wrong out there. Only "there is no such thing" is knowledge; all else is "ask again later".

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use feedgate::config;
use feedgate::mail::Domain;
use feedgate::net::Dns;
use feedgate::outside::{DnsError, Resolver};
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, CNAME, MX, PTR, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

/// The resolver's patience in these tests.
const TIMEOUT: Duration = Duration::from_millis(600);

#[derive(Clone, Copy)]
enum Fault {
    /// No answer at all.
    Silence,
    Code(ResponseCode),
}

/// What the server knows, and whom it treats badly.
#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<RData>>,
    faults: HashMap<String, Fault>,
    asked: AtomicUsize,
}

impl Zone {
    fn with(mut self, name: &str, records: impl IntoIterator<Item = RData>) -> Zone {
        self.records.entry(name.to_owned()).or_default().extend(records);
        self
    }

    fn fault(mut self, name: &str, fault: Fault) -> Zone {
        self.faults.insert(name.to_owned(), fault);
        self
    }

    /// Records of this kind, with the CNAMEs that lead to them, each once.
    fn answer(&self, name: &str, kind: RecordType) -> Vec<Record> {
        let (mut found, mut seen, mut name) = (Vec::new(), HashSet::new(), name.to_owned());
        while seen.insert(name.clone()) {
            let here = self.records.get(&name).map(Vec::as_slice).unwrap_or_default();
            let owner = Name::from_ascii(&name).expect("a name");
            found.extend(here.iter().filter(|data| data.record_type() == kind).map(|data| record(&owner, data)));
            match here.iter().find(|data| matches!(data, RData::CNAME(_))) {
                Some(data @ RData::CNAME(target)) => {
                    found.push(record(&owner, data));
                    name = target.0.to_ascii();
                }
                _ => return found,
            }
        }
        found
    }
}

fn record(owner: &Name, data: &RData) -> Record {
    Record::from_rdata(owner.clone(), 60, data.clone())
}

struct Handler(Arc<Mutex<Arc<Zone>>>);

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let zone = Arc::clone(&self.0.lock().expect("not poisoned"));
        let query = request.request_info().expect("one question").query.clone();
        let name = query.name().to_string().to_ascii_lowercase();
        zone.asked.fetch_add(1, Ordering::Relaxed);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let mut answers = Vec::new();
        match zone.faults.get(&name) {
            Some(Fault::Silence) => std::future::pending::<()>().await,
            Some(Fault::Code(code)) => metadata.response_code = *code,
            None if !zone.records.contains_key(&name) => metadata.response_code = ResponseCode::NXDomain,
            None => answers = zone.answer(&name, query.query_type()),
        }
        let builder = MessageResponseBuilder::from_message_request(request);
        let response = builder.build(metadata, answers.iter(), [], [], []);
        respond.send_response(response).await.expect("the answer can be sent")
    }
}

/// A server with this zone, and our resolver that asks it.
struct World {
    _server: Server<Handler>,
    zone: Arc<Zone>,
    dns: Dns,
}

async fn world(zone: Zone) -> World {
    let zone = Arc::new(zone);
    let mut server = Server::new(Handler(Arc::new(Mutex::new(Arc::clone(&zone)))));
    // The same port over UDP and TCP: taken by one, nearly always free for the other.
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("bound")).await {
            break (udp, tcp);
        }
    };
    let address: SocketAddr = udp.local_addr().expect("bound");
    server.register_socket(udp);
    server.register_listener(tcp, Duration::from_secs(5), 65_535);
    let dns = Dns::new(&config::Dns { servers: vec![address], timeout: TIMEOUT }).expect("a resolver");
    World { _server: server, zone, dns }
}

fn name(text: &str) -> Domain {
    text.parse().expect("a domain")
}

fn a(address: &str) -> RData {
    RData::A(A(address.parse().expect("an address")))
}

fn cname(target: &str) -> RData {
    RData::CNAME(CNAME(Name::from_ascii(target).expect("a name")))
}

fn ptr(target: &str) -> RData {
    RData::PTR(PTR(Name::from_ascii(target).expect("a name")))
}

fn is_temporary<T: std::fmt::Debug>(answer: Result<T, DnsError>) {
    assert!(matches!(answer, Err(DnsError::Temporary(_))), "{answer:?}");
}

#[tokio::test]
async fn a_healthy_zone_answers_every_question() {
    let mx = RData::MX(MX::new(10, Name::from_ascii("mx.sender.example.").unwrap()));
    let text = RData::TXT(TXT::new(vec!["v=spf1 ip4:192.0.2.1".to_owned(), " -all".to_owned()]));
    let world = world(
        Zone::default()
            .with("sender.example.", [mx, text])
            .with("mx.sender.example.", [a("192.0.2.1")])
            .with("alias.sender.example.", [cname("mx.sender.example.")])
            .with("1.2.0.192.in-addr.arpa.", [ptr("mx.sender.example.")])
            .with("2.0.0.127.zen.lists.example.", [a("127.0.0.4"), a("127.0.0.10")]),
    )
    .await;
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    assert_eq!(world.dns.addresses(&name("alias.sender.example")).await, Ok(vec![address]));
    assert_eq!(world.dns.names(address).await, Ok(vec![name("mx.sender.example")]));
    assert_eq!(world.dns.mail_exchangers(&name("sender.example")).await.unwrap()[0].host, Some(name("mx.sender.example")));
    assert_eq!(world.dns.texts(&name("sender.example")).await, Ok(vec![b"v=spf1 ip4:192.0.2.1 -all".to_vec()]));
    let mut codes = world.dns.v4_addresses(&name("2.0.0.127.zen.lists.example")).await.unwrap();
    codes.sort();
    assert_eq!(codes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.4", "127.0.0.10"]);
    // What exists without such a record, and what does not exist.
    assert_eq!(world.dns.texts(&name("mx.sender.example")).await, Err(DnsError::NotFound));
    assert_eq!(world.dns.v4_addresses(&name("nothing.sender.example")).await, Err(DnsError::NotFound));
}

#[tokio::test]
async fn every_kind_of_no_answer_is_temporary_and_takes_bounded_time() {
    let faults = [
        ("silent.example.", Fault::Silence),
        ("servfail.example.", Fault::Code(ResponseCode::ServFail)),
        ("refused.example.", Fault::Code(ResponseCode::Refused)),
        ("notimp.example.", Fault::Code(ResponseCode::NotImp)),
        ("formerr.example.", Fault::Code(ResponseCode::FormErr)),
    ];
    let zone = faults.iter().fold(Zone::default(), |zone, (name, fault)| zone.fault(name, *fault));
    let zone = zone.fault("9.2.0.192.in-addr.arpa.", Fault::Silence);
    let world = world(zone).await;
    let started = Instant::now();
    for (domain, _) in faults {
        is_temporary(world.dns.addresses(&name(domain)).await);
        is_temporary(world.dns.texts(&name(domain)).await);
        is_temporary(world.dns.v4_addresses(&name(domain)).await);
        is_temporary(world.dns.mail_exchangers(&name(domain)).await);
    }
    is_temporary(world.dns.names("192.0.2.9".parse().unwrap()).await);
    assert!(started.elapsed() < TIMEOUT * 10, "{:?}", started.elapsed());
}

#[tokio::test]
async fn cnames_that_go_round_in_circles_end() {
    let world = world(
        Zone::default()
            .with("one.example.", [cname("two.example.")])
            .with("two.example.", [cname("one.example.")])
            .with("self.example.", [cname("self.example.")]),
    )
    .await;
    for domain in ["one.example", "self.example"] {
        let answer = world.dns.addresses(&name(domain)).await;
        assert!(answer.is_err(), "{answer:?}");
        assert!(world.dns.texts(&name(domain)).await.is_err());
    }
    assert!(world.zone.asked.load(Ordering::Relaxed) < 200, "it does not ask for ever");
}

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_comes_over_tcp_and_is_bounded() {
    let long: Vec<String> = (0..40).map(|_| "x".repeat(250)).collect();
    let names = (0..500).map(|number| ptr(&format!("host{number}.pool.example.")));
    let world = world(
        Zone::default()
            .with("long.example.", [RData::TXT(TXT::new(long))])
            .with("7.2.0.192.in-addr.arpa.", names)
            .with("many.example.", (0..200).map(|number| a(&format!("198.51.100.{number}")))),
    )
    .await;
    let texts = world.dns.texts(&name("long.example")).await.unwrap();
    assert_eq!((texts.len(), texts[0].len()), (1, 10_000));
    let names = world.dns.names("192.0.2.7".parse().unwrap()).await.unwrap();
    assert!((1..=20).contains(&names.len()), "{}", names.len());
    let addresses = world.dns.addresses(&name("many.example")).await.unwrap();
    assert!((1..=32).contains(&addresses.len()), "{}", addresses.len());
}
