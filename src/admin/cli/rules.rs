//! `feedgate rules …`: the spam rules, and what they say about a message in a file. Needs no running gateway.

use std::collections::HashMap;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::Serialize;

use super::{Context, Failure};
use crate::admin::output::{Grid, printable};
use crate::config::Config;
use crate::mail::{Address, Client, Envelope, IdSource, MailParameters, Protocol, Recipient, ReversePath, SpamLevel, Timestamp};
use crate::spam::{Engine, Facts, RuleInfo};

/// More than this of a message is not read, in bytes; the rules look at less.
const MESSAGE_MAX: u64 = 256 << 20;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// All rules with their points
    List,
    /// Judge a message
    Test {
        /// The message, as a mail client saves it (.eml); - reads standard input
        file: PathBuf,
        /// Judge it as if this address had handed it over
        #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
        client: IpAddr,
        /// Judge it as if the client had said this in EHLO
        #[arg(long, value_name = "NAME")]
        helo: Option<String>,
        /// The envelope's sender; else that of Return-Path or From
        #[arg(long, value_name = "ADDRESS")]
        sender: Option<Address>,
    },
}

pub fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::List => {
            let rules = Rules::new(&engine(context, None)?);
            context.show(&rules, |rules| list_text(rules, context.width))
        }
        Command::Test { file, client, helo, sender } => {
            let content = read(&file)?;
            let engine = engine(context, None)?;
            let envelope = envelope(&content, client, helo, sender, context.now());
            let shown = &content[..content.len().min(Facts::CONTENT_MAX as usize)];
            let verdict = Judged::new(&engine, &Facts::gather(&envelope, shown));
            context.show(&verdict, |verdict| judged_text(verdict, context.width))
        }
    }
}

/// What each rule means, as far as it can be found out: to explain a judgement.
pub fn reasons(context: &Context) -> HashMap<String, String> {
    let rules = engine(context, None).map(|engine| engine.rules()).unwrap_or_default();
    rules.into_iter().map(|rule| (rule.id, rule.why)).collect()
}

/// The rules of `directory`; else the configured ones; those of the binary when there is no configuration.
pub fn engine(context: &Context, directory: Option<&Path>) -> Result<Engine, Failure> {
    if directory.is_some() || !context.config.exists() {
        return load(directory).map_err(Failure::Configuration);
    }
    load(Config::load(&context.config)?.rules.as_deref()).map_err(Failure::Configuration)
}

/// The rules of a directory, or those of the binary.
pub fn load(directory: Option<&Path>) -> Result<Engine, String> {
    directory.map_or_else(|| Ok(Engine::builtin()), |directory| Engine::load(directory).map_err(|errors| errors.to_string()))
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut content = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(MESSAGE_MAX).read_to_end(&mut content)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(MESSAGE_MAX).read_to_end(&mut content))
    };
    read.map_err(|error| Failure::CouldNot(format!("{}: {error}", file.display())))?;
    Ok(with_crlf(&content))
}

/// Saved messages usually have the line ends of the system; what arrives by SMTP has CRLF, and that is what is judged.
pub fn with_crlf(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + content.len() / 40);
    let mut before = 0;
    for &byte in content {
        if byte == b'\n' && before != b'\r' {
            wire.push(b'\r');
        }
        wire.push(byte);
        before = byte;
    }
    wire
}

/// An envelope as an unsuspicious client would have brought it, so that only the content is judged, apart from what was
/// asked for.
fn envelope(content: &[u8], client: IpAddr, helo: Option<String>, sender: Option<Address>, now: Timestamp) -> Envelope {
    let parser = mail_parser::MessageParser::new().with_minimal_headers().header_address(mail_parser::HeaderName::ReturnPath);
    let head = &content[..content.len().min(Facts::CONTENT_MAX as usize)];
    let message = parser.parse_headers(head);
    let first = |address: Option<&mail_parser::Address<'_>>| {
        address.and_then(|address| address.first()?.address()).and_then(|text| Address::parse(text).ok())
    };
    let written = |name: mail_parser::HeaderName<'static>| {
        first(message.as_ref().and_then(|message| message.header(name)).and_then(|value| value.as_address()))
    };
    let sender =
        sender.or_else(|| written(mail_parser::HeaderName::ReturnPath)).or_else(|| written(mail_parser::HeaderName::From));
    let recipient = written(mail_parser::HeaderName::To);
    let recipient = recipient.unwrap_or_else(|| Address::parse("postmaster@customer.invalid").expect("a valid mailbox"));
    let name = sender.as_ref().and_then(|sender| sender.domain().cloned());
    Envelope {
        id: IdSource::new(None).next(now).message(1),
        received_at: now,
        client: Client {
            findings: Vec::new(),
            address: client,
            helo: helo.unwrap_or_else(|| name.as_ref().map(ToString::to_string).unwrap_or_else(|| "localhost".to_owned())),
            reverse_name: name,
            reverse_confirmed: true,
            protocol: Protocol::Esmtps,
            tls: Some("TLSv1.3".to_owned()),
        },
        reverse_path: sender.map_or(ReversePath::Null, ReversePath::Address),
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new(recipient)],
        size: content.len() as u64,
    }
}

/// `rules list`
#[derive(Debug, Serialize)]
struct Rules {
    thresholds: Vec<Threshold>,
    rules: Vec<RuleInfo>,
}

#[derive(Debug, Serialize)]
struct Threshold {
    level: SpamLevel,
    /// The lowest score of this level.
    from: f32,
}

impl Rules {
    fn new(engine: &Engine) -> Rules {
        Rules { thresholds: thresholds(engine), rules: engine.rules() }
    }
}

fn thresholds(engine: &Engine) -> Vec<Threshold> {
    SpamLevel::ALL.into_iter().filter_map(|level| Some(Threshold { level, from: engine.threshold(level)? })).collect()
}

fn thresholds_text(thresholds: &[Threshold]) -> String {
    thresholds.iter().map(|threshold| format!("{} from {:.1}", threshold.level, threshold.from)).collect::<Vec<_>>().join(", ")
}

fn list_text(rules: &Rules, width: Option<usize>) -> String {
    let mut grid = Grid::new(&["RULE", "FAMILY", "POINTS", "WHY"], &["WHY"]);
    rules.rules.iter().for_each(|rule| grid.row([&rule.id, &rule.family, &format!("{:+.1}", rule.points), &rule.why]));
    format!("{}\n{} rules; levels: {}\n", grid.render(width, 0), rules.rules.len(), thresholds_text(&rules.thresholds))
}

/// `rules test`
#[derive(Debug, Serialize)]
struct Judged {
    level: SpamLevel,
    score: f32,
    thresholds: Vec<Threshold>,
    hits: Vec<Hit>,
}

#[derive(Debug, Serialize)]
struct Hit {
    rule: String,
    points: f32,
    why: String,
    evidence: String,
}

impl Judged {
    fn new(engine: &Engine, facts: &Facts) -> Judged {
        let assessment = engine.assess(facts);
        let mut reasons: HashMap<_, _> = engine.rules().into_iter().map(|rule| (rule.id, rule.why)).collect();
        let hit = |hit: crate::mail::RuleHit| Hit {
            why: reasons.remove(&hit.rule).unwrap_or_default(),
            rule: hit.rule,
            points: hit.points,
            evidence: hit.evidence,
        };
        Judged {
            level: assessment.level,
            score: assessment.score,
            thresholds: thresholds(engine),
            hits: assessment.hits.into_iter().map(hit).collect(),
        }
    }
}

fn judged_text(judged: &Judged, width: Option<usize>) -> String {
    let mut text = format!("level  {}\n", judged.level);
    text += &format!("score  {:.1}  ({})\n", judged.score, printable(&thresholds_text(&judged.thresholds)));
    if judged.hits.is_empty() {
        return text + "\nNo rule matched.\n";
    }
    let mut grid = Grid::new(&["POINTS", "RULE", "WHY", "EVIDENCE"], &["WHY", "EVIDENCE"]);
    for hit in &judged.hits {
        grid.row([&format!("{:+.1}", hit.points), &hit.rule, &hit.why, &hit.evidence]);
    }
    format!("{text}\n{}", grid.render(width, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_214_160_000);

    #[test]
    fn saved_messages_are_judged_as_they_would_arrive() {
        assert_eq!(with_crlf(b"A: 1\n\nx\r\n\r\ny"), b"A: 1\r\n\r\nx\r\n\r\ny");
    }

    #[test]
    fn the_envelope_is_taken_from_the_message_unless_given() {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let content = b"From: Joe <joe@sender.example>\r\nTo: sales@customer.example\r\n\r\nhello\r\n";
        let envelope_of = |content: &[u8], sender: Option<&str>| {
            envelope(content, local, None, sender.map(|sender| sender.parse().unwrap()), NOW)
        };
        let read = envelope_of(content, None);
        assert_eq!(read.reverse_path.to_string(), "joe@sender.example");
        assert_eq!(read.recipients[0].address.to_string(), "sales@customer.example");
        assert_eq!((read.client.helo.as_str(), read.size), ("sender.example", content.len() as u64));
        assert_eq!(envelope_of(content, Some("a@b.example")).reverse_path.to_string(), "a@b.example");
        let returned = [b"Return-Path: <bounce@list.example>\r\n".as_slice(), content].concat();
        assert_eq!(envelope_of(&returned, None).reverse_path.to_string(), "bounce@list.example");
        assert!(envelope_of(b"", None).reverse_path.is_null());
    }

    #[test]
    fn a_judgement_explains_itself() {
        let judged = Judged {
            level: SpamLevel::Low,
            score: 4.2,
            thresholds: vec![Threshold { level: SpamLevel::Low, from: 4.0 }],
            hits: vec![Hit { rule: "GTUBE".to_owned(), points: 4.2, why: "a test".to_owned(), evidence: "XJS*".to_owned() }],
        };
        assert_eq!(
            judged_text(&judged, None),
            "level  low\nscore  4.2  (low from 4.0)\n\nPOINTS  RULE   WHY     EVIDENCE\n+4.2    GTUBE  a test  XJS*\n"
        );
    }
}
