//! What is taken from a message to be learned: which message it is, and its tokens.
//!
//! The same message is met in quarantine, in the queue and, with the marks of several servers on it, in somebody's mailbox. What
//! those put in front is taken out before tokens are made ([`stripped`]), so that "our gateway called it spam" is never
//! learned as a reason to call it spam; and the digest is of what the author wrote, so that it counts once.

use std::net::{IpAddr, Ipv4Addr};

use mail_parser::MessageParser;
use ring::digest::{Context, SHA256};

use super::super::facts::Facts;
use super::super::tokens::Tokens;
use super::example::Digest;
use crate::mail::{Client, Envelope, HeaderSection, MailParameters, Protocol, ReversePath, SessionId, Timestamp};

/// Fields that tell one message from another, all written by its author's side.
const IDENTITY: [&str; 6] = ["from", "to", "cc", "date", "message-id", "subject"];
/// Of the body, for the digest: blanks at the ends of lines not counted.
const DIGESTED_MAX: usize = 256 * 1024;
/// Messages taken out of a report.
const ATTACHED_MAX: usize = 100;
/// A field of more than this is cut for the digest.
const FIELD_MAX: usize = 4 * 1024;

/// Fields that servers on the way, mailboxes and filters add, ours among them. What stands in them says how a message came here or
/// what others thought of it.
const TRACE: [&str; 26] = [
    "received",
    "x-received",
    "received-spf",
    "delivered-to",
    "x-delivered-to",
    "x-original-to",
    "envelope-to",
    "x-envelope-to",
    "x-envelope-from",
    "delivery-date",
    "return-path",
    "authentication-results",
    "x-authentication-warning",
    "status",
    "x-status",
    "x-keywords",
    "x-uid",
    "x-uidl",
    "content-length",
    "lines",
    "x-barracuda-spam-score",
    "x-rspamd-server",
    "x-amavis-alert",
    "x-scanned-by",
    "x-filter-label",
    "thread-index",
];
const TRACE_PREFIXES: [&str; 14] = [
    "x-feedgate-",
    "x-spam-",
    "x-spamd-",
    "x-virus-",
    "x-ms-exchange-",
    "x-ms-has-",
    "x-ms-public",
    "x-microsoft-antispam",
    "x-forefront-",
    "x-google-",
    "x-gm-",
    "x-mozilla-",
    "x-evolution",
    "arc-",
];

/// A message, ready to be learned or forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    pub digest: Digest,
    pub tokens: Tokens,
}

/// Why nothing can be learned from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLesson {
    #[error("it is empty")]
    Empty,
    #[error("it has no header fields: not a message")]
    NoMessage,
    #[error("nothing in it can be weighed")]
    NoTokens,
    #[error("no message is attached to it")]
    NothingAttached,
}

impl Lesson {
    /// `content`: the message, or its first [`Facts::CONTENT_MAX`] bytes. `tags`: what this gateway puts in front of subjects.
    pub fn of(content: &[u8], tags: &[String]) -> Result<Lesson, NoLesson> {
        if content.trim_ascii().is_empty() {
            return Err(NoLesson::Empty);
        }
        let section = HeaderSection::parse(content);
        let is_known = |name: &&str| section.named(content, name).next().is_some();
        if !IDENTITY.iter().chain(&["received", "return-path"]).any(is_known) {
            return Err(NoLesson::NoMessage);
        }
        let content = stripped(content, tags);
        let tokens = Tokens::of(&Facts::gather(&nobodys_envelope(content.len()), &content));
        match tokens.hashes() {
            [] => Err(NoLesson::NoTokens),
            _ => Ok(Lesson { digest: digest(&content), tokens }),
        }
    }
}

/// Whether a field of this name was put there on the way.
pub fn is_trace(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    TRACE.contains(&name.as_str()) || TRACE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The message without what was added on its way, with our tag taken off its subject; with the line ends it would have on the
/// wire. Everything else as it is.
pub fn stripped(content: &[u8], tags: &[String]) -> Vec<u8> {
    let section = HeaderSection::parse(content);
    let mut kept = Vec::with_capacity(content.len());
    for field in &section.fields {
        let name = std::str::from_utf8(&content[field.name.clone()]).unwrap_or_default();
        if is_trace(name) {
            continue;
        }
        let whole = &content[field.whole()];
        match name.eq_ignore_ascii_case("subject").then(|| untagged(whole, tags)).flatten() {
            Some(subject) => kept.extend_from_slice(&subject),
            None => kept.extend_from_slice(whole),
        }
    }
    kept.extend_from_slice(&content[section.end..]);
    with_crlf(kept)
}

/// The messages attached to a report: forwarded as attachments, or saved and attached as files. `content`: all of it. It ends
/// whatever the structure is, which mail-parser's does not (`facts::mime`).
pub fn attached(content: &[u8]) -> Vec<Vec<u8>> {
    Facts::attached(content, ATTACHED_MAX)
}

/// A Subject field without our tag; `None` when it has none.
fn untagged(field: &[u8], tags: &[String]) -> Option<Vec<u8>> {
    // An encoded tag, or one that another server encoded with the rest, is only seen when the field is read.
    let mut text = vec![];
    text.extend_from_slice(field);
    text.extend_from_slice(b"\r\n");
    let message = MessageParser::new().parse_headers(&text)?;
    let subject = message.subject().unwrap_or_default();
    let mut rest = subject;
    // Several gateways of one house may each have put theirs.
    while let Some(shorter) = without_tag(rest, tags) {
        rest = shorter;
    }
    (rest.len() < subject.len()).then(|| format!("Subject: {rest}\r\n").into_bytes())
}

fn without_tag<'a>(subject: &'a str, tags: &[String]) -> Option<&'a str> {
    let subject = subject.trim_start();
    let mut found = tags.iter().map(|tag| tag.trim()).filter(|tag| !tag.is_empty());
    found.find_map(|tag| subject.strip_prefix(tag)).map(str::trim_start)
}

/// Of a stripped message. Blanks count for nothing: servers fold fields and end lines as they like.
fn digest(content: &[u8]) -> Digest {
    let section = HeaderSection::parse(content);
    let mut context = Context::new(&SHA256);
    for name in IDENTITY {
        context.update(name.as_bytes());
        for field in section.named(content, name) {
            let value = &content[field.value.clone()];
            for word in value[..value.len().min(FIELD_MAX)].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
                context.update(b" ");
                context.update(word);
            }
        }
        context.update(b"\n");
    }
    let (mut blank, mut left) = (0, DIGESTED_MAX);
    let body = content.get(section.end..).unwrap_or_default().trim_ascii_start();
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii_end();
        // Empty lines count where something follows them.
        if line.is_empty() {
            blank += 1;
            continue;
        }
        let (lines, line) = (std::mem::take(&mut blank) + 1, &line[..line.len().min(left)]);
        context.update(&u32::to_le_bytes(lines));
        context.update(line);
        left -= line.len();
        if left == 0 {
            break;
        }
    }
    let mut short = [0; 16];
    short.copy_from_slice(&context.finish().as_ref()[..16]);
    Digest(short)
}

/// Who brought it is nothing to be learned.
fn nobodys_envelope(size: usize) -> Envelope {
    Envelope {
        id: SessionId::from_u64(0).expect("zero is an id").message(0),
        received_at: Timestamp(0),
        client: Client {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            reverse_name: None,
            reverse_confirmed: false,
            helo: String::new(),
            protocol: Protocol::Local,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: ReversePath::Null,
        parameters: MailParameters::default(),
        recipients: Vec::new(),
        size: size as u64,
    }
}

/// Saved messages usually have the line ends of the system.
fn with_crlf(content: Vec<u8>) -> Vec<u8> {
    let bare = memchr::memchr_iter(b'\n', &content).any(|at| at == 0 || content[at - 1] != b'\r');
    if !bare {
        return content;
    }
    let mut wire = Vec::with_capacity(content.len() + content.len() / 40);
    let mut before = 0;
    for byte in content {
        if byte == b'\n' && before != b'\r' {
            wire.push(b'\r');
        }
        wire.push(byte);
        before = byte;
    }
    wire
}
