//! Steering over the real socket, with a real spool and queue behind it.

use std::path::Path;
use std::sync::Arc;

use feedgate::admin::answers::{DomainView, Message, MessageList, Status, SteeringReport};
use feedgate::admin::api::{Extend, ListQuery};
use feedgate::admin::client::{Client, ClientError, exchange};
use feedgate::admin::operations::Selection;
use feedgate::admin::{Operations, serve_http, serve_socket, socket_path};
use feedgate::checks::Checks;
use feedgate::config::Config;
use feedgate::flow::LessonKeeper;
use feedgate::mail::{
    self, Decision, Envelope, IdSource, Judgement, MailParameters, Protocol, QueueId, Recipient, SpamLevel, Timestamp, Verdict,
};
use feedgate::outside::{Body, Clock, Pending, Resolver, Scanner, ScannerHealth};
use feedgate::queue::Queue;
use feedgate::sim;
use feedgate::store::{History, RealDisk, ReceivedBody, Store, StoreSettings};
use feedgate::telemetry::{MailLog, Metrics};

const NOW: Timestamp = Timestamp(1_795_214_160_000);

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
    fn sleep_until(&self, _: Timestamp) -> Pending<'static, ()> {
        Box::pin(std::future::pending())
    }
}

/// A scanner that is away.
struct Away;

impl Scanner for Away {
    fn scan<'a>(&'a self, _: &'a Body) -> Pending<'a, Verdict> {
        Box::pin(async { Verdict::Unavailable("away".to_owned()) })
    }
    fn health(&self) -> ScannerHealth {
        ScannerHealth::Away { why: "no clamd answers".to_owned() }
    }
}

/// A gateway without sessions and deliveries: the spool, the queue, and its operators.
struct House {
    queue: Queue,
    ids: Arc<IdSource>,
    operations: Arc<Operations>,
    directory: tempfile::TempDir,
}

impl House {
    async fn open() -> House {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let data_dir = config.data_dir.clone();
        std::fs::create_dir_all(&data_dir).unwrap();
        let config = Arc::new(arc_swap::ArcSwap::from_pointee(config));
        let settings = StoreSettings { reserve: 0, ..StoreSettings::default() };
        let opened = tokio::task::spawn_blocking(move || Store::open(&data_dir, Arc::new(RealDisk), settings)).await.unwrap();
        let (store, _) = opened.unwrap();
        let (ids, clock) = (Arc::new(IdSource::new(None)), Arc::new(Still));
        let metrics = Arc::new(Metrics::new());
        let maillog = MailLog::new(Arc::clone(&metrics), None);
        let queue = Queue::load(store.clone(), clock.clone(), Arc::clone(&config), maillog, Arc::clone(&ids)).await.unwrap();
        let resolver: Arc<dyn Resolver> = Arc::new(sim::Dns::new());
        let checks = Checks::new(&store, clock.clone(), Arc::clone(&resolver), Arc::new(sim::Network::new()));
        let operations = Operations {
            queue: queue.clone(),
            checks,
            resolver,
            history: History::new(&store),
            store,
            config,
            scanner: Arc::new(Away),
            clock,
            lessons: LessonKeeper::open(
                directory.path(),
                Arc::new(RealDisk),
                Arc::new(Still),
                Arc::new(|_| 0.0),
                Arc::clone(&metrics),
            ),
            metrics,
            reload: Arc::new(|| Box::pin(async { Err("error: unknown key `listne`".to_owned()) })),
            engine: Arc::new(|| Arc::new(feedgate::spam::Engine::builtin())),
            started_at: NOW,
        };
        House { queue, ids, operations: Arc::new(operations), directory }
    }

    /// A judged message to each recipient.
    async fn accept(&self, recipients: &[&str], decision: Decision, verdict: Verdict) -> QueueId {
        let content = b"From: Joe <joe@sender.example>\r\nSubject: hello\r\n\r\nhello\r\n";
        let id = self.ids.next(NOW).message(1);
        let envelope = Envelope {
            id,
            received_at: NOW,
            client: mail::Client {
                address: "192.0.2.7".parse().unwrap(),
                reverse_name: None,
                reverse_confirmed: false,
                helo: "mail.sender.example".to_owned(),
                protocol: Protocol::Esmtp,
                tls: None,
                findings: Vec::new(),
            },
            reverse_path: "joe@sender.example".parse().unwrap(),
            parameters: MailParameters::default(),
            recipients: recipients.iter().map(|address| Recipient::new(address.parse().unwrap())).collect(),
            size: content.len() as u64,
        };
        let body = ReceivedBody::from_bytes(bytes::Bytes::from_static(content));
        self.queue.accept(envelope, body).await.unwrap();
        let judgement = Judgement {
            at: NOW,
            verdict,
            score: 0.0,
            level: SpamLevel::None,
            hits: Vec::new(),
            authentication: Default::default(),
            domains: Vec::new(),
        };
        self.queue.judged(id, judgement, vec![decision; recipients.len()]).await.unwrap();
        id
    }

    /// Serves the socket while `steer` talks to it.
    async fn steered<T>(&self, steer: impl AsyncFnOnce(Client) -> T) -> T {
        let path = socket_path(&self.directory.path().join("data"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(serve_socket(path.clone(), Arc::clone(&self.operations), until(stopped)));
        while tokio::net::UnixStream::connect(&path).await.is_err() {
            assert!(!serving.is_finished(), "the socket is served");
            tokio::task::yield_now().await;
        }
        let answer = steer(Client::new(path)).await;
        drop(stop);
        serving.await.unwrap().unwrap();
        answer
    }
}

async fn until(stopped: tokio::sync::oneshot::Receiver<()>) {
    let _ = stopped.await;
}

fn config(directory: &Path) -> Config {
    let text = format!(
        "hostname = \"mx1.isp.example\"\ndata_dir = \"{}\"\n[clamav]\naddress = [\"tcp:127.0.0.1:3310\"]\n\
         [domains.\"customer.example\"]\ndeliver_to = [\"203.0.113.5\"]\n",
        directory.join("data").display()
    );
    let file = directory.join("feedgate.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(&file).unwrap_or_else(|errors| panic!("{errors}"))
}

fn only(id: QueueId) -> Selection {
    Selection { id: Some(id), ..Selection::default() }
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    match answer.unwrap_err() {
        ClientError::Refused(text) => text,
        error => panic!("not the gateway's own words: {error}"),
    }
}

#[tokio::test]
async fn a_message_is_held_shown_extended_released_and_dropped() {
    let house = House::open().await;
    let recipients = ["sales@customer.example", "info@customer.example"];
    let id = house.accept(&recipients, Decision::Deliver, Verdict::Clean).await;
    house
        .steered(async |client| {
            let held: SteeringReport = client.post("/v1/queue/hold", &only(id)).await.unwrap();
            assert_eq!((held.messages, held.recipients), (1, 2));

            let shown: Message = client.get(&format!("/v1/queue/{id}")).await.unwrap();
            assert_eq!(shown.states, ["held"]);
            assert_eq!(shown.headers.unwrap().subject.as_deref(), Some("hello"));
            assert!(shown.steerings[0].by.contains("(uid "), "{:?}", shown.steerings);
            let planned = shown.recipients[0].lifetime_end.unwrap();

            let longer = Extend { selection: only(id), longer: Some("5d".to_owned()), ..Extend::default() };
            let extended: SteeringReport = client.post("/v1/queue/extend", &longer).await.unwrap();
            assert_eq!(extended.recipients, 2);
            let shown: Message = client.get(&format!("/v1/queue/{id}")).await.unwrap();
            assert_eq!(shown.recipients[0].lifetime_end, Some(planned + std::time::Duration::from_secs(5 * 86_400)));

            client.post::<SteeringReport>("/v1/queue/release", &only(id)).await.unwrap();
            let again = refusal(client.post::<SteeringReport>("/v1/queue/release", &only(id)).await);
            assert!(again.contains("cannot be released: none of it is held"), "{again}");

            let all = Selection { all: true, ..Selection::default() };
            let dropped: SteeringReport = client.post("/v1/queue/drop", &all).await.unwrap();
            assert_eq!(dropped.messages, 1);
            let gone = refusal(client.get::<Message>(&format!("/v1/queue/{id}")).await);
            assert!(gone.contains("not in the queue") && gone.contains("feedgate trace"), "{gone}");
        })
        .await;
}

#[tokio::test]
async fn lists_are_paged_and_say_how_many_more() {
    let house = House::open().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(house.accept(&["sales@customer.example"], Decision::Deliver, Verdict::Clean).await);
    }
    house
        .steered(async |client| {
            let list: MessageList = client.get("/v1/queue?domain=customer.example&limit=2").await.unwrap();
            assert_eq!(list.messages.iter().map(|message| message.id).collect::<Vec<_>>(), ids[..2]);
            assert_eq!((list.more, list.more_uncounted), (1, false));
            let list: MessageList = client.get(&format!("/v1/queue?after={}", ids[1])).await.unwrap();
            assert_eq!((list.messages[0].id, list.more), (ids[2], 0));
            let list: MessageList = client.get("/v1/queue?domain=other.example").await.unwrap();
            assert!(list.messages.is_empty());

            let status: Status = client.get("/v1/status").await.unwrap();
            assert_eq!((status.queue.messages, status.queue.waiting), (3, 3));
            assert!(!status.scanner.up && status.spool.free_bytes.is_some());
            let domains: Vec<DomainView> = client.get("/v1/domains").await.unwrap();
            assert_eq!(domains[0].queue.as_ref().map(|queue| queue.waiting), Some(3));
        })
        .await;
}

#[tokio::test]
async fn infected_mail_stays_in_quarantine() {
    let house = House::open().await;
    let why = || Decision::Quarantine { why: "unscannable".to_owned() };
    let encrypted = Verdict::Unscannable("Heuristics.Encrypted.Zip".to_owned());
    let released = house.accept(&["sales@customer.example"], why(), encrypted).await;
    let infected = house.accept(&["sales@customer.example"], why(), Verdict::Infected("Eicar".to_owned())).await;
    house
        .steered(async |client| {
            let list: MessageList = client.get("/v1/quarantine").await.unwrap();
            assert_eq!(list.messages.len(), 2);
            let all = Selection { all: true, ..Selection::default() };
            let report: SteeringReport = client.post("/v1/quarantine/release", &all).await.unwrap();
            assert_eq!(report.steered.iter().map(|steered| steered.id).collect::<Vec<_>>(), [released]);
            assert_eq!((report.infected, report.infected_ids), (1, vec![infected]));
            client.post::<SteeringReport>("/v1/quarantine/delete", &only(infected)).await.unwrap();
        })
        .await;
}

#[tokio::test]
async fn what_is_not_understood_changes_nothing_and_says_why() {
    let house = House::open().await;
    house.accept(&["sales@customer.example"], Decision::Deliver, Verdict::Clean).await;
    house
        .steered(async |client| {
            let nothing = refusal(client.post::<SteeringReport>("/v1/queue/drop", &Selection::default()).await);
            assert!(nothing.starts_with("nothing selects"), "{nothing}");
            let misspelt = serde_json::json!({ "domian": "customer.example", "all": true });
            let misspelt = refusal(client.post::<SteeringReport>("/v1/queue/drop", &misspelt).await);
            assert!(misspelt.contains("domian"), "{misspelt}");
            let state = refusal(client.get::<MessageList>("/v1/queue?state=frozen").await);
            assert!(state.contains("known are waiting"), "{state}");
            assert_eq!(refusal(client.get::<Status>("/v1/nonsense").await), "no such operation");
            assert_eq!(refusal(client.get::<Status>("/v1/queue/drop").await), "not with this method");
            let reload = refusal(client.post::<serde_json::Value>("/v1/reload", &()).await);
            assert_eq!(reload, "error: unknown key `listne`");
            let large = ListQuery { state: Some("x".repeat(100_000)), ..ListQuery::default() };
            refusal(client.post::<SteeringReport>("/v1/queue/drop", &large).await);
            let status: Status = client.get("/v1/status").await.unwrap();
            assert_eq!(status.queue.messages, 1);
        })
        .await;
}

#[tokio::test]
async fn greylisting_is_looked_at_and_steered() {
    let house = House::open().await;
    house
        .steered(async |client| {
            for whom in
                [serde_json::json!({ "network": "192.0.2.7" }), serde_json::json!({ "organisation": "mx1.sender.example" })]
            {
                client.post::<serde_json::Value>("/v1/greylist/allow", &whom).await.unwrap();
            }
            let list: serde_json::Value = client.get("/v1/greylist").await.unwrap();
            let mut networks =
                list.as_array().unwrap().iter().map(|record| record["network"].as_str().unwrap()).collect::<Vec<_>>();
            networks.sort_unstable();
            assert_eq!(networks, ["192.0.2.0/24", "sender.example"]);
            let both = serde_json::json!({ "network": "192.0.2.7", "organisation": "sender.example" });
            let both = refusal(client.post::<serde_json::Value>("/v1/greylist/allow", &both).await);
            assert!(both.contains("exactly one"), "{both}");
            refusal(client.post::<serde_json::Value>("/v1/greylist/allow", &serde_json::json!({})).await);
            let whom = serde_json::json!({ "organisation": "sender.example" });
            let forgotten: serde_json::Value = client.post("/v1/greylist/forget", &whom).await.unwrap();
            assert_eq!(forgotten, serde_json::json!({ "identity": "sender.example", "forgotten": 1 }));
            let stats: serde_json::Value = client.get("/v1/greylist/stats?days=100000").await.unwrap();
            assert_eq!((&stats["days"], &stats["total"]["delayed"]), (&serde_json::json!([]), &serde_json::json!(0)));
            let lost: serde_json::Value = client.get("/v1/greylist/lost?all=true&limit=0").await.unwrap();
            assert_eq!(lost, serde_json::json!([]));
            refusal(client.get::<serde_json::Value>("/v1/greylist/lost?all=perhaps").await);
        })
        .await;
}

#[tokio::test]
async fn monitoring_sees_numbers_and_an_absent_scanner_and_no_operations() {
    let house = House::open().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(serve_http(listener, Arc::clone(&house.operations), until(stopped)));
    let ask = async |target: &str| {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (status, body) = exchange(stream, hyper::Method::GET, target, bytes::Bytes::new()).await.unwrap();
        (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, text) = ask("/metrics").await;
    assert_eq!(status, 200);
    assert!(text.contains("feedgate_scan_up 0") && text.ends_with("# EOF\n"), "{text}");
    let (status, text) = ask("/healthz").await;
    assert_eq!(status, 503);
    assert!(text.contains("\"accepting\":true") && text.contains("no clamd answers"), "{text}");
    assert_eq!(ask("/v1/status").await.0, 404);
    drop(stop);
    serving.await.unwrap().unwrap();
}
