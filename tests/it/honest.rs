//! Honest mail is not called spam: every message of tests/mail/ham, in many languages and of all kinds that reach an
//! office, stays below Low. The messages are no part of what the judgement was fitted on; a failure here is a fault of
//! the rules or the model, never of the message.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use feedgate::mail::SpamLevel;
use feedgate::spam::{Assessment, Engine};

use crate::rules::Origin;

/// Each with this many messages at least.
const LANGUAGES: [(&str, usize); 10] = [
    ("English", 40),
    ("German", 15),
    ("French", 7),
    ("Spanish", 7),
    ("Dutch", 7),
    ("Polish", 7),
    ("Russian", 7),
    ("Japanese", 7),
    ("Chinese", 7),
    ("Arabic", 7),
];

const KINDS: [&str; 23] = [
    "order",
    "invoice",
    "shipping",
    "password-reset",
    "one-time-code",
    "invitation",
    "meeting-notes",
    "ticket",
    "teams",
    "sharepoint",
    "payroll",
    "newsletter",
    "marketing",
    "forward",
    "reply",
    "list",
    "bounce",
    "auto-reply",
    "scan",
    "tnef",
    "office",
    "private",
    "notice",
];

#[derive(serde::Deserialize)]
struct Manifest {
    mail: Vec<Letter>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Letter {
    file: String,
    language: String,
    kind: String,
    shows: String,
    sender: String,
    client_name: String,
    received: String,
}

impl Letter {
    fn bytes(&self) -> Vec<u8> {
        fs::read(folder().join(&self.file)).unwrap()
    }

    fn assess(&self, engine: &Engine) -> Assessment {
        let (client_name, helo) = (self.client_name.clone(), self.client_name.clone());
        let origin = Origin { client_name, helo, sender: self.sender.clone(), received: self.received.clone() };
        origin.assess(engine, &self.bytes())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mail/ham")
}

fn letters() -> Vec<Letter> {
    toml::from_str::<Manifest>(&fs::read_to_string(folder().join("manifest.toml")).unwrap()).unwrap().mail
}

#[test]
fn no_honest_message_is_called_spam() {
    let engine = Engine::builtin();
    let wrong: Vec<String> = letters()
        .iter()
        .filter_map(|letter| {
            let assessment = letter.assess(&engine);
            let hits: Vec<String> = assessment.hits.iter().map(|hit| format!("{} {:.1}", hit.rule, hit.points)).collect();
            (assessment.level >= SpamLevel::Low).then(|| {
                let (level, score) = (assessment.level, assessment.score);
                format!("{} ({}): {level} with {score:.1}: {}", letter.file, letter.shows, hits.join(", "))
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{} honest messages are called spam:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_honest_message_is_in_the_manifest_once() {
    let letters = letters();
    let listed: BTreeSet<&str> = letters.iter().map(|letter| letter.file.as_str()).collect();
    assert_eq!(listed.len(), letters.len(), "a file is listed twice");
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<String> = entries.filter(|name| name != "manifest.toml").collect();
    assert_eq!(found.iter().map(String::as_str).collect::<BTreeSet<_>>(), listed);
    for letter in &letters {
        let message = letter.bytes();
        let bare = message.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || message[at - 1] != b'\r'));
        assert!(!bare && message.ends_with(b"\r\n"), "{}: line ends", letter.file);
    }
}

#[test]
fn the_honest_messages_show_all_kinds_in_ten_languages() {
    let letters = letters();
    assert!(letters.len() >= 120, "{} messages", letters.len());
    let mut languages: BTreeMap<&str, usize> = BTreeMap::new();
    letters.iter().for_each(|letter| *languages.entry(&letter.language).or_default() += 1);
    for (language, least) in LANGUAGES {
        let count = languages.get(language).copied().unwrap_or(0);
        assert!(count >= least, "{language}: {count} messages");
    }
    let kinds: BTreeSet<&str> = letters.iter().map(|letter| letter.kind.as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(KINDS));
}
