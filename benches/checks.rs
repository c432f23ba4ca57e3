//! What a client costs that is turned away: processor time of the gateway for each session over real sockets, with everything
//! it does beside DNS (whose answers are data here): the session, the checks, the reply, the log line.
//!
//! `cargo bench --bench checks`

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use arc_swap::ArcSwap;
use feedgate::checks::Checks;
use feedgate::config::Config;
use feedgate::daemon::serve_session;
use feedgate::flow::{Base, Flow, LessonKeeper};
use feedgate::mail::IdSource;
use feedgate::outside::{Clock, Resolver, Transport};
use feedgate::queue::Queue;
use feedgate::sim;
use feedgate::smtp::{Timeouts, TlsMemory};
use feedgate::spam::Engine;
use feedgate::store::{RealDisk, Store, StoreSettings};
use feedgate::telemetry::{MailLog, Metrics};
use tokio::net::TcpListener;
use tokio::sync::watch;

const SESSIONS: u32 = 5_000;
const ROUNDS: usize = 5;
/// The target, in microseconds.
const TARGET: f64 = 50.0;

/// What a client says, what must come of it, and when it comes from an address without a name.
const CASES: [(&str, &[&str], &str); 4] = [
    ("says QUIT at once", &["QUIT"], "221 "),
    (
        "refused: no reverse name",
        &["EHLO host.bad.example", "MAIL FROM:<a@bad.example>", "RCPT TO:<max@customer.example>", "QUIT"],
        "550 5.7.1 Client host",
    ),
    (
        "refused: domain not served",
        &["EHLO host.bad.example", "MAIL FROM:<a@bad.example>", "RCPT TO:<max@other.example>", "QUIT"],
        "553 5.7.1 ",
    ),
    (
        "refused five times",
        &[
            "EHLO host.bad.example",
            "MAIL FROM:<a@bad.example>",
            "RCPT TO:<a@customer.example>",
            "RCPT TO:<b@customer.example>",
            "RCPT TO:<c@customer.example>",
            "RCPT TO:<d@customer.example>",
            "RCPT TO:<e@customer.example>",
            "QUIT",
        ],
        "550 5.7.1 ",
    ),
];

fn main() {
    // The log is written, to nowhere.
    tracing_subscriber::fmt().json().with_writer(std::io::sink).init();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a scratch directory");
    let gateway = Gateway::start(directory.path());
    println!("{SESSIONS} sessions a round over 127.0.0.1, one after the other; processor time of the gateway's thread");
    println!("{:<30} {:>14} {:>10} {:>10} {:>14}", "", "µs a session", "least", "most", "in the kernel");
    for (title, lines, expected) in CASES {
        gateway.play(200, lines, expected);
        let before = gateway.ticks();
        let mut times: Vec<f64> = (0..ROUNDS).map(|_| gateway.play(SESSIONS, lines, expected)).collect();
        let (user, kernel) = gateway.ticks();
        let (user, kernel) = (user - before.0, kernel - before.1);
        times.sort_by(f64::total_cmp);
        let in_kernel = 100.0 * kernel / (user + kernel).max(1.0);
        println!("{title:<30} {:>14.1} {:>10.1} {:>10.1} {in_kernel:>12.0} %", times[ROUNDS / 2], times[0], times[ROUNDS - 1]);
    }
    println!("target: under {TARGET} µs");
}

/// A gateway on a thread of its own.
struct Gateway {
    address: SocketAddr,
    /// Where the kernel says how long that thread has run, in nanoseconds.
    clock: String,
}

impl Gateway {
    fn start(directory: &Path) -> Gateway {
        let (directory, (tell, told)) = (directory.to_owned(), channel());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let flow = flow(&directory).await;
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
                let thread = std::fs::read_link("/proc/thread-self").expect("Linux");
                let address = listener.local_addr().expect("bound");
                tell.send(Gateway { address, clock: format!("/proc/{}/schedstat", thread.display()) }).expect("somebody waits");
                serve(flow, listener).await;
            });
        });
        told.recv_timeout(Duration::from_secs(30)).expect("the gateway starts")
    }

    fn processor_time(&self) -> f64 {
        let text = std::fs::read_to_string(&self.clock).expect("the kernel counts");
        text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number")
    }

    /// Its time in user mode and in the kernel, in the kernel's ticks.
    fn ticks(&self) -> (f64, f64) {
        let text = std::fs::read_to_string(self.clock.replace("schedstat", "stat")).expect("the kernel counts");
        let mut fields = text.rsplit(") ").next().expect("after the name").split(' ').skip(11);
        let mut next = || fields.next().and_then(|ticks| ticks.parse().ok()).expect("a number");
        (next(), next())
    }

    /// Plays so many sessions; the gateway's microseconds for each.
    fn play(&self, sessions: u32, lines: &[&str], expected: &str) -> f64 {
        let before = self.processor_time();
        for _ in 0..sessions {
            let stream = TcpStream::connect(self.address).expect("it listens");
            stream.set_nodelay(true).expect("a socket");
            let mut reader = BufReader::new(stream);
            let mut met = reply(&mut reader).starts_with("220 ") && lines.is_empty();
            for line in lines {
                reader.get_mut().write_all(format!("{line}\r\n").as_bytes()).expect("it reads");
                met |= reply(&mut reader).starts_with(expected);
            }
            assert!(met, "nothing was answered with {expected:?}");
        }
        (self.processor_time() - before) / f64::from(sessions) / 1000.0
    }
}

/// The last line of a reply.
fn reply(reader: &mut BufReader<TcpStream>) -> String {
    loop {
        let mut line = String::new();
        let length = reader.read_line(&mut line).expect("it answers");
        if length == 0 || line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    }
}

async fn serve(flow: Arc<Flow>, listener: TcpListener) {
    let (_stop, stopping) = watch::channel(false);
    let ids = IdSource::new(None);
    loop {
        let (stream, peer) = listener.accept().await.expect("a connection");
        let _ = stream.set_nodelay(true);
        let sid = ids.next(flow.now());
        tokio::spawn(serve_session(Arc::clone(&flow), stream, peer, sid, None, stopping.clone()));
    }
}

async fn flow(directory: &Path) -> Arc<Flow> {
    let settings = format!(
        "hostname = \"mx1.isp.example\"\ndata_dir = {:?}\n[checks]\nearly_talker_wait = \"0s\"\n\
         [limits]\nsessions_per_client = \"10000000/1m\"\nerrors_per_client = \"10000000/1m\"\nrecipients_per_client = \"10000000/1m\"\n\
         messages_per_client = \"10000000/1m\"\nmessages_per_sender_domain = \"10000000/1m\"\n\
         [domains.\"customer.example\"]\ndeliver_to = [\"203.0.113.5\"]\n",
        directory.display().to_string()
    );
    let config = Config::parse(&settings, Path::new("feedgate.toml")).unwrap_or_else(|errors| panic!("{errors}"));
    let (store, recovery) = Store::open(directory, Arc::new(RealDisk), StoreSettings::default()).expect("a new spool opens");
    let clock: Arc<dyn Clock> = Arc::new(sim::Clock::new());
    let resolver: Arc<dyn Resolver> = Arc::new(sim::Dns::new());
    let transport: Arc<dyn Transport> = Arc::new(sim::Network::new());
    let ids = Arc::new(IdSource::new(recovery.highest));
    let maillog = MailLog::new(Arc::new(Metrics::new()), None);
    let config = Arc::new(ArcSwap::from_pointee(config));
    let queue = Queue::load(store.clone(), Arc::clone(&clock), Arc::clone(&config), maillog.clone(), ids);
    let untaught: Base = Arc::new(|_| 0.0);
    let lessons = LessonKeeper::open(directory, Arc::new(RealDisk), Arc::clone(&clock), untaught, Arc::new(Metrics::new()));
    Arc::new(Flow {
        lessons,
        checks: Checks::new(&store, Arc::clone(&clock), Arc::clone(&resolver), Arc::clone(&transport)),
        queue: queue.await.expect("the queue loads"),
        scanner: Arc::new(sim::Scanner::new()),
        engine: ArcSwap::from_pointee(Engine::builtin()),
        tls_memory: TlsMemory::default(),
        timeouts: Timeouts::default(),
        config,
        clock,
        resolver,
        transport,
        store,
        maillog,
    })
}
