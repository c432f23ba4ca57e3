//! How fast the built-in rules judge the messages of `tests/mail`, on one core: facts and rules, without scanner and disk.
//!
//! `cargo bench --bench classify`

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use feedgate::mail::{Client, Envelope, MailParameters, Protocol, Recipient, SessionId, Timestamp};
use feedgate::spam::{Engine, Facts};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(1);
/// Messages named at the end.
const SLOWEST: usize = 3;

fn main() {
    let messages = messages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail"));
    if messages.is_empty() {
        println!("tests/mail has no messages: nothing is measured");
        return;
    }
    let started = Instant::now();
    let engine = Engine::builtin();
    println!("{} rules, made ready in {:.0} ms", engine.rules().len(), started.elapsed().as_secs_f64() * 1000.0);
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    println!("{} messages, {} bytes on average", messages.len(), bytes / messages.len());

    let judge = |message: &Message| drop(black_box(engine.assess(&Facts::gather(&message.envelope, &message.content))));
    println!("{:>6} {:>14} {:>10} {:>14}", "round", "messages/s", "MiB/s", "µs a message");
    for round in 0..ROUNDS {
        let started = Instant::now();
        let mut passes = 0;
        while started.elapsed() < ROUND {
            messages.iter().for_each(judge);
            passes += 1;
        }
        let each = started.elapsed().as_secs_f64() / f64::from(passes);
        let count = messages.len() as f64;
        println!("{round:>6} {:>14.0} {:>10.1} {:>14.0}", count / each, bytes as f64 / each / 1_048_576.0, each / count * 1e6);
    }

    let mut times: Vec<(Duration, &Message)> = messages.iter().map(|message| (fastest(|| judge(message)), message)).collect();
    times.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    println!("slowest, at their best of {TRIES}:");
    for (time, message) in times.iter().take(SLOWEST) {
        println!("{:>10.0} µs  {} ({} bytes)", time.as_secs_f64() * 1e6, message.name, message.content.len());
    }
}

const TRIES: usize = 20;

fn fastest(work: impl Fn()) -> Duration {
    let time = |_| {
        let started = Instant::now();
        work();
        started.elapsed()
    };
    (0..TRIES).map(time).min().expect("there are tries")
}

struct Message {
    name: String,
    envelope: Envelope,
    content: Vec<u8>,
}

fn messages(directory: &Path) -> Vec<Message> {
    let paths = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|extension| extension == "eml")).collect();
    paths.sort();
    let message = |path: &std::path::PathBuf| {
        let content = std::fs::read(path).expect("a message can be read");
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        Message { name, envelope: envelope(content.len() as u64), content }
    };
    paths.iter().map(message).collect()
}

fn envelope(size: u64) -> Envelope {
    Envelope {
        id: SessionId::from_u64(0).expect("less than 60 bits").message(1),
        received_at: Timestamp(1_795_214_160_000),
        client: Client {
            address: [192, 0, 2, 1].into(),
            reverse_name: Some("mail.sender.example".parse().expect("a domain")),
            reverse_confirmed: true,
            helo: "mail.sender.example".to_owned(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: "joe@sender.example".parse().expect("an address"),
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new("jane@customer.example".parse().expect("an address"))],
        size,
    }
}
