//! Load that can account for every byte: numbered messages whose whole content follows from their number, clients that
//! note each `250`, a customer's server that compares what arrives, and the sums at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::gateway::{self, Life, PATIENCE};

/// The customer whose server is there, and the one whose server is away most of the time.
pub const UP: &str = "jane@up.test";
pub const AWAY: &str = "jane@away.test";

/// Everything that was sent, answered and delivered. Cloning shares it.
#[derive(Clone, Default)]
pub struct Account(Arc<Shared>);

#[derive(Default)]
struct Shared {
    next: AtomicU64,
    /// How often the gateway was started.
    life: AtomicUsize,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// Answered 250: the number, and the queue id in the answer.
    accepted: BTreeMap<u64, String>,
    /// What arrived whole, by queue id: the number, and the gateway's life at each delivery.
    delivered: BTreeMap<String, (u64, Vec<usize>)>,
    /// Deliveries that the gateway's log calls recorded, and in which life.
    recorded: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

/// What the whole run comes to.
#[derive(Debug)]
pub struct Sums {
    pub sent: u64,
    pub accepted: usize,
    pub lost: Vec<u64>,
    /// Messages that arrived more than once.
    pub twice: usize,
    /// Of these, delivered again although the delivery had been recorded.
    pub again: Vec<String>,
    pub wrong: Vec<String>,
    pub clean_end: bool,
}

impl Sums {
    #[track_caller]
    pub fn assert_good(&self) {
        assert!(self.lost.is_empty(), "{} of {} are lost: {:?}", self.lost.len(), self.accepted, self.lost);
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        assert!(self.again.is_empty(), "delivered again after it was recorded: {:#?}", self.again);
        assert!(self.clean_end, "SIGTERM must lead to a clean end");
    }
}

impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sums { sent, accepted, lost, twice, again, wrong, .. } = self;
        write!(
            f,
            "{sent} sent, {accepted} answered 250, {} lost, {} with wrong bytes, {twice} delivered twice, ",
            lost.len(),
            wrong.len()
        )?;
        write!(f, "{} of them although their delivery was recorded", again.len())
    }
}

impl Account {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().expect("nobody panics with the books in hand")
    }

    /// To be called before each start of the gateway.
    pub fn begin_life(&self) {
        self.0.life.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes what the log of the life that has ended says about deliveries.
    pub fn end_life(&self, log: &[String]) {
        let life = self.0.life.load(Ordering::SeqCst);
        let mut books = self.books();
        for line in log {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            if line["message"] == "delivered" {
                let id = line["id"].as_str().expect("a line of the mail log has an id").to_owned();
                books.recorded.entry(id).or_insert(life);
            }
        }
    }

    /// Queue ids of messages that were answered 250 and have not arrived.
    pub fn outstanding(&self) -> BTreeSet<String> {
        let books = self.books();
        books.accepted.values().filter(|id| !books.delivered.contains_key(*id)).cloned().collect()
    }

    pub fn sums(&self) -> Sums {
        let books = self.books();
        let arrived: BTreeSet<u64> = books.delivered.values().map(|(number, _)| *number).collect();
        let again = |(id, (_, lives)): (&String, &(u64, Vec<usize>))| {
            let recorded = *books.recorded.get(id)?;
            lives.iter().any(|life| *life > recorded).then(|| format!("{id}: recorded in life {recorded}, arrived in {lives:?}"))
        };
        Sums {
            sent: self.0.next.load(Ordering::SeqCst),
            accepted: books.accepted.len(),
            lost: books.accepted.keys().filter(|number| !arrived.contains(number)).copied().collect(),
            twice: books.delivered.values().filter(|(_, lives)| lives.len() > 1).count(),
            again: books.delivered.iter().filter_map(again).collect(),
            wrong: books.wrong.clone(),
            clean_end: true,
        }
    }
}

/// A message of exactly that number; its size depends on it: 2 KB, each ninth 20 KB, each 25th 2 MB.
fn message(number: u64) -> Vec<u8> {
    let size = match number {
        _ if number.is_multiple_of(25) => 2_000_000,
        _ if number.is_multiple_of(9) => 20_000,
        _ => 2_000,
    };
    let to = recipient(number);
    let mut text =
        format!("From: <load@sender.test>\r\nTo: <{to}>\r\nSubject: load {number}\r\nX-Number: {number}\r\n\r\n").into_bytes();
    // Lines that are another in each message, and say where they belong in theirs.
    let mut seed = number;
    let mut pattern = String::new();
    for _ in 0..60 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        pattern += &format!("{seed:016x}{:016x}{number:016x}{seed:016x}\r\n", seed.rotate_left(17));
    }
    let mut block = 0;
    while text.len() < size {
        text.extend_from_slice(format!("block {block} of {number}\r\n").as_bytes());
        text.extend_from_slice(&pattern.as_bytes()[..pattern.len().min(66 * (1 + (size - text.len()) / 66))]);
        block += 1;
    }
    text.extend_from_slice(format!("the end of {number}\r\n").as_bytes());
    text
}

/// Each eighth is for the customer whose server is mostly away.
fn recipient(number: u64) -> &'static str {
    if number % 8 == 3 { AWAY } else { UP }
}

/// Clients that send one message after the other until told to stop or cut off.
pub struct Clients {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Clients {
    pub fn start(account: &Account, server: SocketAddr, sessions: usize) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let session = || {
            let (account, stop) = (account.clone(), Arc::clone(&stop));
            // A connection that breaks ends its session quietly: what was not answered is not noted.
            std::thread::spawn(move || drop(send(&account, server, &stop)))
        };
        let threads = (0..sessions).map(|_| session()).collect();
        Clients { stop, threads }
    }

    /// Waits for what is under way.
    pub fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("a client does not panic"));
    }
}

fn send(account: &Account, server: SocketAddr, stop: &AtomicBool) -> std::io::Result<()> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let (mut replies, mut stream) = (BufReader::new(stream.try_clone()?), stream);
    reply(&mut replies, "220")?;
    stream.write_all(b"EHLO load.sender.test\r\n")?;
    reply(&mut replies, "250")?;
    while !stop.load(Ordering::SeqCst) {
        let number = account.0.next.fetch_add(1, Ordering::SeqCst);
        let start = format!("MAIL FROM:<load@sender.test>\r\nRCPT TO:<{}>\r\nDATA\r\n", recipient(number));
        stream.write_all(start.as_bytes())?;
        for code in ["250", "250", "354"] {
            reply(&mut replies, code)?;
        }
        // No line of it begins with a dot.
        stream.write_all(&message(number))?;
        stream.write_all(b".\r\n")?;
        let answer = reply(&mut replies, "250")?;
        let id = answer.rsplit(' ').next().unwrap_or_default().to_owned();
        account.books().accepted.insert(number, id);
    }
    Ok(())
}

/// The last line of a reply with this code; any other is an error.
fn reply(replies: &mut impl BufRead, code: &str) -> std::io::Result<String> {
    loop {
        let mut line = String::new();
        replies.read_line(&mut line)?;
        if !line.ends_with('\n') || !line.starts_with(code) {
            return Err(std::io::Error::other(line));
        }
        if line.as_bytes().get(3) == Some(&b' ') {
            return Ok(line.trim_end().to_owned());
        }
    }
}

/// The customers' servers: one that is there, and one that is away most of the time.
pub struct Customers {
    account: Account,
    up: SocketAddr,
    away: SocketAddr,
    is_away: Arc<AtomicBool>,
}

impl Customers {
    pub fn start(account: &Account) -> Customers {
        let is_away = Arc::new(AtomicBool::new(true));
        let up = listen(account, &Arc::default());
        Customers { account: account.clone(), up, away: listen(account, &is_away), is_away }
    }

    /// For the configuration. What waits is tried again in each life.
    pub fn sections(&self) -> String {
        let section =
            |(name, server): (&str, SocketAddr)| format!("[domains.\"{name}\"]\ndeliver_to = [\"{server}\"]\ngreylist = false\n");
        let queue = "[queue]\nreserve = \"16MiB\"\nretry = [\"1s\"]\n".to_owned();
        queue + &[("up.test", self.up), ("away.test", self.away)].map(section).concat()
    }

    /// Whether the second customer's server takes mail from now on. When it does, old segments become empty or nearly so.
    pub fn set_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    /// The last life: everything that is still there is delivered, also what waited for the one that was away; a proper end.
    #[track_caller]
    pub fn finish(&self, gateway: &mut Command, directory: &Path) -> Sums {
        self.account.begin_life();
        let mut life = Life::begin(gateway);
        life.wait_until_it_listens();
        self.set_away(false);
        let (mut left, mut progressed) = (usize::MAX, Instant::now());
        loop {
            let outstanding = self.account.outstanding();
            if outstanding.len() < left {
                (left, progressed) = (outstanding.len(), Instant::now());
            }
            if left == 0 {
                break;
            }
            if progressed.elapsed() > PATIENCE {
                let queue = gateway::command(&directory.join("feedgate.toml"), &["queue", "list"]);
                eprintln!("never arrived: {outstanding:?}\nthe queue: {}", String::from_utf8_lossy(&queue.stdout));
                break;
            }
            gateway::command(&directory.join("feedgate.toml"), &["queue", "retry", "--all"]);
            std::thread::sleep(Duration::from_millis(500));
        }
        let clean_end = life.terminate();
        self.account.end_life(&life.kill());
        Sums { clean_end, ..self.account.sums() }
    }
}

/// A customer's server: compares each message with what was sent, notes it, and only then takes it. Until the test ends.
fn listen(account: &Account, is_away: &Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port to listen on");
    let address = listener.local_addr().expect("it has an address");
    let (account, is_away) = (account.clone(), Arc::clone(is_away));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if is_away.load(Ordering::SeqCst) {
                let _ = stream.write_all(b"421 4.3.2 not now\r\n");
                continue;
            }
            let account = account.clone();
            std::thread::spawn(move || drop(serve(&account, &stream)));
        }
    });
    address
}

fn serve(account: &Account, stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut input, mut output) = (BufReader::with_capacity(64 * 1024, stream), stream);
    output.write_all(b"220 customer.test ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let answer: &[u8] = match verb.as_str() {
            "EHLO" => b"250-customer.test\r\n250-8BITMIME\r\n250 SIZE\r\n",
            "DATA" => {
                output.write_all(b"354 go on\r\n")?;
                account.arrived(&data(&mut input)?);
                b"250 2.0.0 taken\r\n"
            }
            "QUIT" => b"221 bye\r\n",
            _ => b"250 2.0.0 ok\r\n",
        };
        output.write_all(answer)?;
    }
}

/// Up to the dot; an error when the connection breaks before.
fn data(input: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        input.read_until(b'\n', &mut content)?;
        match &content[start..] {
            b".\r\n" => {
                content.truncate(start);
                return Ok(content);
            }
            line if !line.ends_with(b"\n") => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            line if line.starts_with(b".") => drop(content.remove(start)),
            _ => {}
        }
    }
}

impl Account {
    fn arrived(&self, content: &[u8]) {
        let life = self.0.life.load(Ordering::SeqCst);
        let head = String::from_utf8_lossy(&content[..content.len().min(4096)]).into_owned();
        let after = |name: &str| Some(head.split_once(name)?.1.split_whitespace().next()?.trim_end_matches(';').to_owned());
        // Our own header field in front says the queue id: `… with ESMTP id ID`.
        let (id, number) = (after(" id "), after("X-Number: ").and_then(|number| number.parse().ok()));
        let (Some(id), Some(number)) = (id, number) else {
            return self.books().wrong.push(format!("neither id nor number: {head}"));
        };
        let is_whole = content.ends_with(&message(number));
        let mut books = self.books();
        if !is_whole {
            books.wrong.push(format!("message {number} ({id}) arrived with other bytes, {} in all", content.len()));
        }
        books.delivered.entry(id).or_insert_with(|| (number, Vec::new())).1.push(life);
    }
}

/// Numbers for the test's own choices, the same in each run: splitmix64 (Steele, Lea and Flood, 2014).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }
}

/// How many rounds: `variable` of the environment, or `default`.
pub fn rounds(variable: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(variable) else { return default };
    text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number"))
}
