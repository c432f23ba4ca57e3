//! The rules in the binary: each does what its examples say, each sample message gets its level, and nothing a sender
//! writes keeps the judgement busy.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use feedgate::mail::{Client, Envelope, MailParameters, Protocol, Recipient, ReversePath, SessionId, SpamLevel, Timestamp};
use feedgate::spam::{Assessment, Engine, Facts, named_checks};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Where a message came from, as a manifest says it; what it does not say is as the head of tests/mail/manifest.toml
/// has it.
#[derive(Clone)]
pub struct Origin {
    /// The confirmed name of the host, or "" for a host without a name.
    pub client_name: String,
    pub helo: String,
    /// "" is the null sender.
    pub sender: String,
    pub received: String,
}

impl Default for Origin {
    fn default() -> Origin {
        let host = "mail.example.net".to_owned();
        Origin {
            client_name: host.clone(),
            helo: host,
            sender: "bounce@mail.example.net".to_owned(),
            received: "2026-11-20T22:36:00Z".to_owned(),
        }
    }
}

impl Origin {
    pub fn envelope(&self, size: usize) -> Envelope {
        let named = !self.client_name.is_empty();
        Envelope {
            id: SessionId::from_u64(1).unwrap().message(1),
            received_at: Timestamp::from_system(humantime::parse_rfc3339(&self.received).unwrap()),
            client: Client {
                address: "192.0.2.1".parse().unwrap(),
                reverse_name: named.then(|| self.client_name.parse().unwrap()),
                reverse_confirmed: named,
                helo: self.helo.clone(),
                protocol: Protocol::Esmtp,
                tls: None,
                findings: Vec::new(),
            },
            reverse_path: self.sender.parse::<ReversePath>().unwrap(),
            parameters: MailParameters::default(),
            recipients: vec![Recipient::new("joe@customer.example".parse().unwrap())],
            size: size as u64,
        }
    }

    pub fn assess(&self, engine: &Engine, message: &[u8]) -> Assessment {
        engine.assess(&Facts::gather(&self.envelope(message.len()), message))
    }
}

fn assess(engine: &Engine, message: &[u8]) -> Assessment {
    Origin::default().assess(engine, message)
}

#[derive(serde::Deserialize)]
struct Manifest {
    mail: Vec<Sample>,
}

/// A message and the level it must get: either `level`, or one between `at_least` and `at_most`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    file: String,
    level: Option<SpamLevel>,
    at_least: Option<SpamLevel>,
    at_most: Option<SpamLevel>,
    #[serde(rename = "shows")]
    _shows: String,
    client_name: Option<String>,
    helo: Option<String>,
    sender: Option<String>,
}

impl Sample {
    fn expected(&self) -> RangeInclusive<SpamLevel> {
        match (self.level, self.at_least, self.at_most) {
            (Some(level), None, None) => level..=level,
            (None, None, None) | (Some(_), _, _) => panic!("{}: either `level`, or `at_least` and `at_most`", self.file),
            (None, low, high) => low.unwrap_or(SpamLevel::None)..=high.unwrap_or(SpamLevel::High),
        }
    }

    /// A host greets with its name unless `helo` says otherwise.
    fn assess(&self, engine: &Engine) -> Assessment {
        let mut origin = Origin::default();
        if let Some(name) = &self.client_name {
            origin.client_name.clone_from(name);
            origin.helo.clone_from(name);
        }
        self.helo.iter().for_each(|helo| origin.helo.clone_from(helo));
        self.sender.iter().for_each(|sender| origin.sender.clone_from(sender));
        origin.assess(engine, &fs::read(here("tests/mail").join(&self.file)).unwrap())
    }
}

fn manifest() -> Manifest {
    toml::from_str(&fs::read_to_string(here("tests/mail/manifest.toml")).unwrap()).unwrap()
}

#[test]
fn every_rule_does_what_its_examples_say() {
    assert_eq!(Engine::builtin().failing_examples(), Vec::<String>::new());
}

#[test]
fn the_binary_carries_the_rules_of_the_directory() {
    let loaded = Engine::load(&here("rules")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.rules(), Engine::builtin().rules());
    for level in SpamLevel::ALL {
        assert_eq!(loaded.threshold(level), Engine::builtin().threshold(level));
    }
}

#[test]
fn every_message_gets_its_level() {
    let engine = Engine::builtin();
    let wrong: Vec<String> = manifest()
        .mail
        .iter()
        .filter_map(|sample| {
            let assessment = sample.assess(&engine);
            let expected = sample.expected();
            let hits: Vec<String> = assessment.hits.iter().map(|hit| format!("{} {:.1}", hit.rule, hit.points)).collect();
            (!expected.contains(&assessment.level)).then(|| {
                let (low, high) = expected.into_inner();
                let (got, score) = (assessment.level, assessment.score);
                format!("{}: {low} to {high} expected, {got} with {score:.1}: {}", sample.file, hits.join(", "))
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_messages_show_every_level() {
    let all: Vec<RangeInclusive<SpamLevel>> = manifest().mail.iter().map(Sample::expected).collect();
    for level in [SpamLevel::Low, SpamLevel::Med, SpamLevel::High] {
        let count = all.iter().filter(|expected| expected.contains(&level)).count();
        assert!(count >= 15, "{level}: {count} messages");
    }
    assert!(all.len() >= 65, "{} messages", all.len());
}

#[test]
fn every_message_is_in_the_manifest_and_has_crlf_line_ends() {
    let listed: BTreeSet<String> = manifest().mail.into_iter().map(|sample| sample.file).collect();
    let entries = fs::read_dir(here("tests/mail")).unwrap().map(|entry| entry.unwrap().path());
    let messages: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|extension| extension == "eml")).collect();
    let found: BTreeSet<String> = messages.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(found, listed);
    for path in messages {
        let message = fs::read(&path).unwrap();
        let bare = message.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || message[at - 1] != b'\r'));
        assert!(!bare && message.ends_with(b"\r\n"), "{}", path.display());
    }
}

#[test]
fn the_points_of_all_hits_are_the_score() {
    let engine = Engine::builtin();
    for sample in manifest().mail {
        let assessment = sample.assess(&engine);
        let sum: f32 = assessment.hits.iter().map(|hit| hit.points).sum();
        assert!((sum - assessment.score).abs() < 0.01, "{}: {assessment:?}", sample.file);
        assert!(assessment.hits.is_sorted_by(|one, other| one.points >= other.points), "{}", sample.file);
        for hit in &assessment.hits {
            let printable = hit.evidence.chars().count() <= 60 && !hit.evidence.chars().any(char::is_control);
            assert!(printable, "{}: {hit:?}", sample.file);
        }
    }
}

#[test]
fn a_test_string_decides_unless_the_rest_is_worse() {
    let engine = Engine::builtin();
    let level = |file: &str, letter: &str| {
        let message = fs::read_to_string(here(file)).unwrap();
        let message = format!("{message}{letter}JS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n");
        assess(&engine, message.as_bytes()).level
    };
    assert_eq!(level("tests/mail/low.eml", "X"), SpamLevel::High);
    assert_eq!(level("tests/mail/low.eml", "Y"), SpamLevel::Med);
    assert_eq!(level("tests/mail/low.eml", "Z"), SpamLevel::Low, "its own points do not lift it");
    assert_eq!(level("tests/mail/high.eml", "Z"), SpamLevel::High, "nobody hides behind a test string");
}

#[test]
fn every_check_is_asked_by_a_rule_and_described() {
    let manual = fs::read_to_string(here("docs/RULES.md")).unwrap();
    let files = fs::read_dir(here("rules")).unwrap().map(|entry| entry.unwrap().path());
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let rules: String = files.filter(is_toml).map(|path| fs::read_to_string(path).unwrap()).collect();
    for (name, finds) in named_checks() {
        assert!(manual.contains(&format!("| `{name}` | {finds} |")), "docs/RULES.md lacks: | `{name}` | {finds} |");
        assert!(rules.contains(&format!("check = \"{name}\"")), "no rule asks {name}");
    }
}

#[test]
fn all_mistakes_of_a_directory_are_told_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("levels.toml", "[thresholds]\nlow = 5.0\nmed = 4.0\nhigh = 10.0\n");
    write("broken.toml", "[[rule]\n");
    write(
        "some.toml",
        r#"
        unknown = 1
        [[rule]]
        id = "GOOD"
        points = 1
        why = "It is good."
        when = { subject = "x" }
        hit = ["Subject: x"]
        miss = ["Subject: y"]
        [[rule]]
        id = "bad id"
        points = 5000
        why = "no sentence"
        when = { all = [{ body = "Capital" }, { subject = "(" }, { check = "no_such_check" }, { body = "a*" }] }
        hit = []
        miss = []
        [[rule]]
        id = "GOOD"
        points = 1
        why = "The id is taken."
        when = { header = { name = "X Y", matches = "z" } }
        hit = ["a"]
        miss = ["b"]
        [[rule]]
        id = "UNKNOWN_MATCHER"
        points = 1
        why = "There is no such matcher."
        when = { colour = "red" }
        hit = ["a"]
        miss = ["b"]
        "#,
    );
    let errors = Engine::load(directory.path()).err().expect("it is full of mistakes").to_string();
    for part in [
        "levels.toml: thresholds must",
        "broken.toml: line 1",
        "some.toml: unknown key `unknown`",
        "some.toml: bad id: an id is",
        "some.toml: bad id: points are",
        "some.toml: bad id: why is",
        "some.toml: bad id: a rule has at least one `hit`",
        "some.toml: bad id: a rule has at least one `miss`",
        "some.toml: bad id: `Capital`",
        "some.toml: bad id: `(`",
        "some.toml: bad id: there is no check `no_such_check`",
        "some.toml: bad id: `a*` matches the empty text",
        "some.toml: GOOD: this id is taken",
        "some.toml: GOOD: `X Y` is no header name",
        "some.toml: UNKNOWN_MATCHER: unknown variant `colour`",
    ] {
        assert!(errors.contains(part), "{part:?} is not among:\n{errors}");
    }
    assert_eq!(errors.lines().count(), 15, "{errors}");
}

#[test]
fn a_directory_without_levels_is_no_rule_directory() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Engine::load(directory.path()).err().unwrap().to_string().contains("levels.toml"));
    assert!(Engine::load(&directory.path().join("absent")).is_err());
}

#[test]
fn a_family_adds_no_more_than_its_cap_and_negative_points_count() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let rule = |id: &str, points: &str, word: &str| {
        format!(
            "[[rule]]\nid = \"{id}\"\npoints = {points}\nwhy = \"A word.\"\nwhen = {{ body = '{word}' }}\n\
             hit = [\"{word}\"]\nmiss = [\"x\"]\n"
        )
    };
    write("levels.toml", "[thresholds]\nlow = 2.0\nmed = 3.0\nhigh = 4.0\n");
    write("capped.toml", &format!("cap = 2.5\n{}{}", rule("ONE", "2.0", "one"), rule("TWO", "1.5", "two")));
    write("free.toml", &format!("{}{}", rule("THREE", "1.1", "three"), rule("FOUR", "-0.6", "four")));
    let engine = Engine::load(directory.path()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(engine.failing_examples(), Vec::<String>::new());

    let assessment = assess(&engine, b"Subject: one\r\n\r\ntwo three four\r\n");
    let hits: Vec<(&str, f32)> = assessment.hits.iter().map(|hit| (hit.rule.as_str(), hit.points)).collect();
    assert_eq!(hits, [("ONE", 2.0), ("THREE", 1.1), ("TWO", 0.5), ("FOUR", -0.6)]);
    assert_eq!((assessment.score, assessment.level), (3.0, SpamLevel::Med));
    assert_eq!(assess(&engine, b"\r\nfour").level, SpamLevel::None);
}

/// Each takes milliseconds; what grows faster than its input would take minutes.
#[test]
fn hostile_messages_are_judged_like_others() {
    let engine = Engine::builtin();
    let nested = |n: usize| format!("Content-Type: multipart/mixed; boundary=x{n}\r\n\r\n--x{n}\r\n");
    let unclosed = |n: usize| format!("--b\r\nContent-Type: multipart/mixed; boundary=x{n}\r\n\r\n");
    let html = "Content-Type: text/html\r\n\r\n";
    let messages: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("an empty line", b"\r\n".to_vec()),
        ("NULs", vec![0; 1 << 20]),
        ("a header of NULs", [b"Subject: ".to_vec(), vec![0; 1 << 20]].concat()),
        ("one letter", vec![b'a'; 1 << 20]),
        ("a header of 1 MB", [b"Subject: ".to_vec(), vec![b'a'; 1 << 20]].concat()),
        ("encoded words without end", [b"Subject: ".to_vec(), b"=?utf-8?Q?a ".repeat(80_000)].concat()),
        ("brackets", [b"From: ".to_vec(), b"(<\"".repeat(300_000)].concat()),
        ("header fields", b"A: 1\r\n".repeat(170_000)),
        ("1,000 levels", (0..1000).map(nested).collect::<String>().into_bytes()),
        ("messages in messages", b"Content-Type: message/rfc822\r\n\r\n".repeat(32_000)),
        (
            "boundaries that never come",
            format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", (0..19_000).map(unclosed).collect::<String>())
                .into_bytes(),
        ),
        (
            "boundaries on one line",
            [b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".to_vec(), b"--b".repeat(330_000)].concat(),
        ),
        ("100,000 links", format!("{html}{}", "<a href=http://a.example>x</a>".repeat(100_000)).into_bytes()),
        (
            "100,000 different links",
            format!("\r\n{}", (0..100_000).map(|n| format!("www.{n}.a ")).collect::<String>()).into_bytes(),
        ),
        (
            "links within links",
            format!("\r\n{}", format!("http://a.b/{} ", "?u=http://c.d/".repeat(140)).repeat(500)).into_bytes(),
        ),
        (
            "links with much in code",
            format!("\r\n{}", (0..500).map(|n| format!("www.{n}.b/{} ", "aHR0cHM6Ly9h/".repeat(150))).collect::<String>())
                .into_bytes(),
        ),
        ("links as text", format!("\r\n{}", "www.a ".repeat(170_000)).into_bytes()),
        ("open tags", format!("{html}{}", "<a href='".repeat(110_000)).into_bytes()),
        ("scripts without end", format!("{html}{}", "<script>".repeat(130_000)).into_bytes()),
        ("hidden elements", format!("{html}{}", "<p style=display:none>x".repeat(45_000)).into_bytes()),
        ("angle brackets", format!("{html}{}", "<".repeat(1 << 20)).into_bytes()),
        ("quotes", format!("{html}{}", "<a \"'".repeat(200_000)).into_bytes()),
        ("elements within elements", format!("{html}{}", "<div><font color=white>x".repeat(40_000)).into_bytes()),
        ("comments in words", format!("{html}{}", "a<!--x-->".repeat(110_000)).into_bytes()),
        ("invisible letters", format!("\r\n{}", "a\u{200b}".repeat(250_000)).into_bytes()),
        ("letters spaced out", format!("\r\n{}", "v i a g r a ".repeat(80_000)).into_bytes()),
        ("empty lines", format!("\r\n{}x", "\r\n".repeat(500_000)).into_bytes()),
        ("entities", format!("{html}{}", "&amp".repeat(250_000)).into_bytes()),
        ("beginnings of phrases", format!("\r\n{}", "your account your account ".repeat(40_000)).into_bytes()),
        ("bytes that are no text", (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
    ];
    for (name, message) in messages {
        let start = Instant::now();
        let assessment = assess(&engine, &message);
        assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
        assert!(assessment.score.is_finite(), "{name}");
    }
}
