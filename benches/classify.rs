//! What judging a message costs: from its bytes to its level, as `feedgate spam score` does it, without scanner and disk.
//!
//! `cargo bench --bench classify -- --manifest FILE.tsv`, or `FEEDGATE_MANIFEST=FILE.tsv`; without either the messages of
//! `tests/mail`. `--rounds N` (3), `--threads N` (1), `--rspamd` measures rspamd on the same files, `--hostile` messages that
//! were made to be slow instead.

#[path = "../tests/it/hostile/messages.rs"]
mod messages;
#[path = "classify/report.rs"]
mod report;
#[path = "classify/rspamd.rs"]
mod rspamd;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use feedgate::admin::cli::spam::manifest::{self, Item};
use feedgate::mail::Envelope;
use feedgate::spam::{Engine, Facts, Tokens};
use report::{Judged, kilobytes};
use rustix::time::{ClockId, clock_gettime};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let number = |name: &str, default: usize| {
        value(name).map_or(default, |number| number.parse().unwrap_or_else(|_| panic!("{name} wants a number")))
    };
    let has = |name: &str| arguments.iter().any(|word| word == name);

    let (before, started) = (kilobytes("VmRSS"), Instant::now());
    let engine = Engine::builtin();
    let ready = started.elapsed();
    let loaded = kilobytes("VmRSS").saturating_sub(before);
    println!(
        "{} rules and the token model: made ready in {:.0} ms, {} MiB",
        engine.rules().len(),
        ready.as_secs_f64() * 1000.0,
        loaded >> 10
    );
    if has("--hostile") {
        return hostile(&engine);
    }

    let manifest = value("--manifest").map(PathBuf::from).or_else(|| std::env::var_os("FEEDGATE_MANIFEST").map(PathBuf::from));
    // A folder that lives as long as the table in it.
    let (_folder, path) = match manifest {
        Some(path) => (None, path),
        None => {
            let (folder, path) = own_manifest();
            (Some(folder), path)
        }
    };
    let items = manifest::read(&path).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(!items.is_empty(), "{}: no messages", path.display());
    let judged = judge(&engine, &items, number("--rounds", 3).max(1), number("--threads", 1).max(1));
    judged.print();
    println!("memory at its highest: {} MiB in all, with rules, model and the manifest", kilobytes("VmHWM") >> 10);
    if has("--rspamd") {
        rspamd::compare(&items, judged.mean());
    }
}

/// `tests/mail` as a manifest.
fn own_manifest() -> (tempfile::TempDir, PathBuf) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail");
    println!("no --manifest and no FEEDGATE_MANIFEST: the messages of {}", directory.display());
    let paths = std::fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|extension| extension == "eml")).collect();
    paths.sort();
    let lines = paths.iter().map(|path| {
        format!(
            "{}\t{}\t192.0.2.1\tmail.sender.example\tmail.sender.example\tjoe@sender.example\n",
            path.file_stem().unwrap_or_default().to_string_lossy(),
            path.display()
        )
    });
    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = folder.path().join("mail.tsv");
    let table: String = std::iter::once("id\tpath\tip\thelo\trdns\tmailfrom\n".to_owned()).chain(lines).collect();
    std::fs::write(&path, table).expect("the table is written");
    (folder, path)
}

/// Every message of the manifest in each round; only the judging counts, not the reading of files.
fn judge(engine: &Engine, items: &[Item], rounds: usize, threads: usize) -> Judged {
    let rules = engine.clone().with_model(None);
    let work = |first: usize| {
        let mut judged = Judged::default();
        for item in items.iter().skip(first).step_by(threads) {
            let Ok((envelope, content)) = item.message() else {
                judged.unread += 1;
                continue;
            };
            judged.bytes += content.len();
            judged.add(&item.id, (0..rounds).map(|_| whole(engine, &envelope, &content)).collect());
            // Once more, in parts.
            let start = cpu();
            let facts = black_box(Facts::gather(&envelope, &content));
            let gathered = cpu();
            black_box(rules.assess(&facts));
            let ruled = cpu();
            black_box(engine.model().map(|model| model.log_odds(&Tokens::of(&facts))));
            let all = cpu();
            judged.gather += gathered - start;
            judged.rules += ruled - gathered;
            judged.tokens += all - ruled;
        }
        judged
    };
    let started = Instant::now();
    // The first message on a thread builds the automata of the expressions.
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|first| scope.spawn(move || work(first))).collect();
        threads.into_iter().map(|thread| thread.join().expect("judging does not panic")).reduce(Judged::and)
    });
    println!("{} messages, {rounds} rounds, {threads} threads: {:.1} s", items.len(), started.elapsed().as_secs_f64());
    all.expect("there is a thread")
}

/// From the bytes to the level: CPU time of this thread.
fn whole(engine: &Engine, envelope: &Envelope, content: &[u8]) -> Duration {
    let start = cpu();
    black_box(engine.assess(&Facts::gather(envelope, content)));
    cpu() - start
}

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// Messages made to be slow. Each is judged three times, the first time with automata that have not seen its like.
fn hostile(engine: &Engine) {
    println!(
        "{:>28} {:>10} {:>10} {:>10} {:>10} {:>10}  hits",
        "message", "bytes", "first ms", "best ms", "gather ms", "rules ms"
    );
    for (name, content) in messages::all() {
        let envelope = messages::envelope(&content);
        let head = &content[..content.len().min(1 << 20)];
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let first = whole(engine, &envelope, head);
        let best = (0..3).map(|_| whole(engine, &envelope, head)).min().unwrap_or_default();
        let start = cpu();
        let facts = Facts::gather(&envelope, head);
        let gathered = cpu();
        let assessment = engine.assess(&facts);
        let done = cpu();
        let hits: Vec<&str> = assessment.hits.iter().filter(|hit| hit.points > 0.0).map(|hit| hit.rule.as_str()).collect();
        println!(
            "{name:>28} {:>10} {:>10.1} {:>10.1} {:>10.1} {:>10.1}  {}",
            content.len(),
            ms(first),
            ms(best),
            ms(gathered - start),
            ms(done - gathered),
            hits.join(" ")
        );
    }
}
