//! `spam score` and `spam train` over manifests: no gateway, no configuration, and what was fitted is what judges.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::gateway::binary;

/// Sources of each kind, and years.
const SOURCES: usize = 3;
const EACH: usize = 40;

const HONEST: [&str; 6] = [
    "the minutes of the meeting",
    "a delivery of paper",
    "rehearsal on Thursday",
    "the heating pump",
    "proofs of the leaflet",
    "keys to the shed",
];
const DISHONEST: [&str; 6] = [
    "spin the golden reels",
    "jackpots without deposit",
    "pills at half price",
    "a fortune unclaimed",
    "roulette all night",
    "bonus codes inside",
];

fn message(kind: usize, source: usize, number: usize) -> String {
    let (phrases, host) = if kind == 0 { (HONEST, "office") } else { (DISHONEST, "reels") };
    let text = format!("{} and {}, number {number}", phrases[number % 6], phrases[(number / 6 + source) % 6]);
    format!(
        "From: Someone <s{number}@{host}{source}-{number}.example>\nTo: joe@customer.example\nSubject: about {number}\n\
         Date: Mon, 2 Nov 2026 10:00:00 +0000\nMessage-ID: <{kind}{source}{number}@{host}.example>\n\n{text}\n"
    )
}

/// A folder with messages and its manifest.
fn corpus(directory: &Path) -> String {
    std::fs::create_dir_all(directory.join("mail")).unwrap();
    let mut manifest = "id\tyear\tlabel\tsource\tpath\tip\thelo\trdns\tmailfrom\n".to_owned();
    for (kind, label) in ["ham", "spam"].into_iter().enumerate() {
        for source in 0..SOURCES {
            for number in 0..EACH {
                let id = format!("{label}{source}-{number}");
                std::fs::write(directory.join(format!("mail/{id}.eml")), message(kind, source, number)).unwrap();
                let _ = writeln!(
                    manifest,
                    "{id}\t2026\t{label}\t{label}-{source}\tmail/{id}.eml\t192.0.2.7\tmx.example.net\tmx.example.net\t<>"
                );
            }
        }
    }
    std::fs::write(directory.join("manifest.tsv"), &manifest).unwrap();
    directory.join("manifest.tsv").display().to_string()
}

fn rules(directory: &Path) -> String {
    let directory = directory.join("rules");
    std::fs::create_dir_all(&directory).unwrap();
    let levels = "[thresholds]\nlow = 2.0\nmed = 3.0\nhigh = 4.0\n[calibration]\neven = 1.0\nsteepness = 1.0\n";
    std::fs::write(directory.join("levels.toml"), levels).unwrap();
    let rule = "# what a person wrote\n[[rule]]\nid = \"REELS\"\npoints = 1.0\nwhy = \"It names reels.\"\nwhen = { body = 'reels' }\n\
                hit = [\"golden reels\"]\nmiss = [\"reel\"]\n";
    std::fs::write(directory.join("games.toml"), rule).unwrap();
    directory.display().to_string()
}

/// From an empty place, without any configuration.
fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.current_dir(directory).env_remove("FEEDGATE_CONFIG").arg("spam").args(arguments).output().unwrap()
}

#[track_caller]
fn done(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn what_is_fitted_tells_spam_from_ham_that_it_has_not_seen() {
    let scratch = tempfile::tempdir().unwrap();
    let (manifest, rules) = (corpus(scratch.path()), rules(scratch.path()));
    let of = |name: &str| scratch.path().join(name);
    let read = |name: &str| std::fs::read_to_string(of(name)).unwrap();

    let tried = done(&run(scratch.path(), &["train", "--manifest", &manifest, "--rules", &rules, "--dry-run"]));
    assert!(tried.starts_with("120 ham and 120 spam. ") && tried.contains("| REELS | 1.0 |"), "{tried}");
    assert!(!of("rules/tokens.model").exists(), "a dry run writes nothing");

    let arguments = ["train", "--manifest", &manifest, "--rules", &rules, "--report", "report.md", "--scores", "held.tsv"];
    done(&run(scratch.path(), &arguments));
    assert!(read("report.md").contains("| each source judged by a fit without it | area 1.0000"), "{}", read("report.md"));
    let held = read("held.tsv");
    assert_eq!(held.lines().count(), 2 * SOURCES * EACH);
    assert!(of("rules/tokens.model").exists() && read("rules/games.toml").starts_with("# what a person wrote\n"));
    assert!(!read("rules/levels.toml").contains("low = 2.0\n"), "{}", read("rules/levels.toml"));

    // A manifest of another order, and of nothing but what must be there.
    let id_and_path: String = read("manifest.tsv").lines().rev().map(|line| line.split('\t').collect::<Vec<_>>()).fold(
        "path\tid\n".to_owned(),
        |text, cells| if cells[0] == "id" { text } else { format!("{text}{}\t{}\n", cells[4], cells[0]) },
    );
    std::fs::write(of("short.tsv"), id_and_path).unwrap();
    for manifest in ["manifest.tsv", "short.tsv"] {
        done(&run(scratch.path(), &["score", "--manifest", manifest, "--out", "scores.tsv", "--rules", &rules]));
        let scores = read("scores.tsv");
        let (mut ham, mut spam) = (Vec::new(), Vec::new());
        for line in scores.lines() {
            let [id, score, level] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert!(["None", "Low", "Med", "High"].contains(&level), "{line}");
            let score: f32 = score.parse().unwrap();
            if id.starts_with("ham") { ham.push(score) } else { spam.push(score) }
        }
        assert_eq!((ham.len(), spam.len()), (SOURCES * EACH, SOURCES * EACH));
        let highest = ham.iter().copied().fold(f32::MIN, f32::max);
        assert!(spam.iter().all(|score| *score > highest), "{manifest}: ham up to {highest}, spam {spam:?}");
    }
    done(&run(scratch.path(), &["score", "--manifest", &manifest, "--out", "bare.tsv", "--rules", &rules, "--no-tokens"]));
    assert!(read("bare.tsv").lines().any(|line| line == "ham0-0\t0.00\tNone"), "{}", read("bare.tsv"));
}

#[test]
fn what_cannot_be_used_is_said() {
    let scratch = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let output = run(scratch.path(), arguments);
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    std::fs::write(scratch.path().join("no.tsv"), "name\tfile\n").unwrap();
    let why = refused(&["score", "--manifest", "no.tsv", "--out", "out.tsv"]);
    assert!(why.contains("no.tsv: the first line must name the columns, `id` and `path`"), "{why}");
    std::fs::write(scratch.path().join("gone.tsv"), "id\tpath\na\tgone.eml\n\tx\n").unwrap();
    let why = refused(&["score", "--manifest", "gone.tsv", "--out", "out.tsv"]);
    assert!(why.contains("gone.tsv: line 3 has no id or no path"), "{why}");
    std::fs::write(scratch.path().join("gone.tsv"), "id\tpath\na\tgone.eml\n").unwrap();
    let why = refused(&["score", "--manifest", "gone.tsv", "--out", "out.tsv"]);
    assert!(why.contains("gone.eml: No such file"), "{why}");
    std::fs::write(scratch.path().join("a.eml"), "Subject: x\n\nx\n").unwrap();
    std::fs::write(scratch.path().join("few.tsv"), "id\tpath\tlabel\na\ta.eml\tham\n").unwrap();
    let rules = rules(scratch.path());
    let why = refused(&["train", "--manifest", "few.tsv", "--rules", &rules]);
    assert!(why.contains("0 spam and 1 ham: fitting needs 100 of each at least"), "{why}");
    std::fs::write(scratch.path().join("few.tsv"), "id\tpath\na\ta.eml\n").unwrap();
    let why = refused(&["train", "--manifest", "few.tsv", "--rules", &rules]);
    assert!(why.contains("a: without a label nothing can be learned"), "{why}");
}
