//! Plays every file of `tests/dialogs` against a gateway: whole, byte by byte, and in odd pieces, for the answers must not
//! depend on how the network cuts what a client says. The customers' servers are away, so what is accepted stays in the queue.
//!
//! A dialog is read line by line:
//!
//! | line | meaning |
//! |---|---|
//! | `# …` | a comment |
//! | `set size_max=1000 …` | settings, before anything else: see [`Settings`] |
//! | `start` | reads the greeting and says EHLO |
//! | `C: text` | the client sends this and CRLF |
//! | `c: bytes` | the client sends exactly this |
//! | `S: pattern` | the next line from the server; `S*9: pattern` the next nine |
//! | `S+: 250` | the next whole reply, of however many lines, all with this code |
//! | `quiet` | the server says nothing |
//! | `hang up` | the client closes |
//! | `closed` | the server has closed, after nothing else |
//! | `kept: from > to, to \| content` | the next message that was accepted; a pattern. Without ` \| ` when it is empty |
//! | `found: finding, finding` | what the client of that message was found out to be; `found:` nothing |
//! | `client: address helo protocol` | the client of that message |
//! | `pass 5m` | so much time passes |
//! | `again` | the client hangs up and comes again; `again from=192.0.2.2`: from there |
//!
//! Names that begin with `client-` are the behaviours of clients, good and bad.
//!
//! In text: `\r \n \t \0 \\ \xHH`, and `\{text*300}` for 300 times text. In a pattern `*` stands for anything and `\*` for itself.
//! At the end no accepted message may be left unmentioned.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use feedgate::config::{Config, Limits, Rate};
use feedgate::mail::QueueId;
use feedgate::store::Entry;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::world::{PATIENCE, Peer, World, domain, ip};

/// What a dialog can set. Recipients in `served.test` are taken, in `grey.test` greylisted, elsewhere refused.
#[derive(Clone, Debug)]
struct Settings {
    size_max: u64,
    header_max: u64,
    text_line_max: u64,
    recipients_max: usize,
    errors_max: usize,
    idle_timeout: Duration,
    tls: bool,
    from: String,
    early_talker_wait: Duration,
    limits: Limits,
    xclient: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            size_max: 10 << 20,
            header_max: 256 << 10,
            text_line_max: 10_000,
            recipients_max: 1000,
            errors_max: 20,
            idle_timeout: Duration::from_secs(300),
            tls: false,
            from: "192.0.2.1".to_owned(),
            early_talker_wait: Duration::ZERO,
            limits: unlimited(),
            xclient: false,
        }
    }
}

fn unlimited() -> Limits {
    let rate = per_minute("10000000");
    Limits {
        sessions_per_client: rate,
        messages_per_client: rate,
        recipients_per_client: rate,
        errors_per_client: rate,
        messages_per_sender_domain: rate,
        ..Limits::default()
    }
}

fn per_minute(count: &str) -> Rate {
    Rate { count: count.parse().expect("a number"), per: Duration::from_secs(60) }
}

/// Dialogs that send more than this are played whole only.
const BYTE_BY_BYTE_MAX: usize = 8_000;
/// The server is quiet when nothing comes for so long: what was wrongly said would have come at once.
const QUIET: Duration = Duration::from_millis(20);

#[tokio::test]
async fn every_dialog_goes_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogs");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let behaviours =
        files.iter().filter(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("client-")));
    let behaviours = behaviours.count();
    assert!(behaviours >= 30 && files.len() >= 80, "only {} dialogs in {folder}, {behaviours} of clients", files.len());
    let read =
        |file: &std::path::PathBuf| (file.file_stem().unwrap().to_string_lossy().into_owned(), fs::read_to_string(file).unwrap());
    let dialogs: Vec<_> = files.iter().map(read).collect();
    let (whole, bytes, pieces) = tokio::join!(play_all(&dialogs, usize::MAX), play_all(&dialogs, 1), play_all(&dialogs, 7));
    let failures = [whole, bytes, pieces].concat();
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// Plays all dialogs one after the other against one gateway, sending `piece` bytes at a time. Returns what went wrong.
async fn play_all(dialogs: &[(String, String)], piece: usize) -> Vec<String> {
    let settings = "postmaster = \"postmaster@served.test\"\n".to_owned()
        + &domain("served.test", &["203.0.113.5"], "")
        + &domain("grey.test", &["203.0.113.6"], "greylist = true");
    let mut stage = Stage { world: World::new(&settings).await, piece, tls: tls(), last: None };
    let mut failures = Vec::new();
    for (name, text) in dialogs {
        if piece != usize::MAX && (sent(text) > BYTE_BY_BYTE_MAX || text.contains("pieces=whole")) {
            continue;
        }
        if let Err(failure) = play(&mut stage, text).await {
            failures.push(format!("{name}.txt{failure} (in pieces of {piece})"));
            // The next dialog shall not find what this one left.
            stage.last = stage.kept().await.last().map(|entry| entry.envelope.id).or(stage.last);
        }
    }
    failures
}

/// How many bytes the client of a dialog sends.
fn sent(text: &str) -> usize {
    let said = text.lines().filter_map(|line| line.strip_prefix("C: ").or(line.strip_prefix("c: ")));
    said.map(|text| unescape(text).len()).sum()
}

async fn play(stage: &mut Stage, text: &str) -> Result<(), String> {
    let mut settings = Settings::default();
    let mut player: Option<Player> = None;
    for (number, line) in text.lines().enumerate() {
        let place = |why: String| format!(":{}: {line}\n    {why}", number + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(words) = line.strip_prefix("set ") {
            assert!(player.is_none(), "{line}: settings come first");
            words.split(' ').for_each(|word| set(&mut settings, word));
            continue;
        }
        if let Some(words) = line.strip_prefix("again") {
            player.take().expect("again comes after something").finish().await;
            words.split(' ').filter(|word| !word.is_empty()).for_each(|word| set(&mut settings, word));
            player = Some(stage.begin(&settings));
            continue;
        }
        let player = player.get_or_insert_with(|| stage.begin(&settings));
        player.act(stage, line).await.map_err(place)?;
    }
    player.expect("a dialog says something").finish().await;
    let kept = stage.kept().await;
    let kept: Vec<_> = kept.iter().map(|entry| entry.envelope.id.to_string()).collect();
    if kept.is_empty() { Ok(()) } else { Err(format!(": accepted and not mentioned: {}", kept.join("; "))) }
}

fn set(settings: &mut Settings, word: &str) {
    let (key, value) = word.split_once('=').expect("key=value");
    match key {
        "size_max" => settings.size_max = value.parse().expect("a number"),
        "header_max" => settings.header_max = value.parse().expect("a number"),
        "text_line_max" => settings.text_line_max = value.parse().expect("a number"),
        "recipients_max" => settings.recipients_max = value.parse().expect("a number"),
        "errors_max" => settings.errors_max = value.parse().expect("a number"),
        "idle_timeout" => settings.idle_timeout = humantime::parse_duration(value).expect("a duration"),
        "tls" => settings.tls = value == "offered",
        "from" => settings.from = value.to_owned(),
        "early_talker_wait" => settings.early_talker_wait = humantime::parse_duration(value).expect("a duration"),
        "sessions_per_client" => settings.limits.sessions_per_client = per_minute(value),
        "messages_per_client" => settings.limits.messages_per_client = per_minute(value),
        "recipients_per_client" => settings.limits.recipients_per_client = per_minute(value),
        "errors_per_client" => settings.limits.errors_per_client = per_minute(value),
        "messages_per_sender_domain" => settings.limits.messages_per_sender_domain = per_minute(value),
        "network_factor" => settings.limits.network_factor = value.parse().expect("a number"),
        "allow" => settings.limits.allow = vec![value.parse().expect("a network")],
        "xclient" => settings.xclient = value == "offered",
        // Played whole only: what it shows depends on several commands coming in one piece.
        "pieces" => assert_eq!(value, "whole"),
        _ => panic!("no such setting: {key}"),
    }
}

/// A gateway on which dialogs are played one after the other.
struct Stage {
    world: World,
    piece: usize,
    tls: Arc<ServerConfig>,
    /// The last message that a dialog has mentioned.
    last: Option<QueueId>,
}

impl Stage {
    /// A session takes the settings when it begins.
    fn begin(&self, settings: &Settings) -> Player {
        let flow = self.world.flow();
        let mut config = Config::clone(&flow.config());
        config.smtp.size_max = settings.size_max;
        config.smtp.header_max = settings.header_max;
        config.smtp.text_line_max = settings.text_line_max;
        config.smtp.idle_timeout = settings.idle_timeout;
        config.smtp.xclient_from = if settings.xclient { vec![ip(&settings.from).into()] } else { Vec::new() };
        config.checks.early_talker_wait = settings.early_talker_wait;
        config.limits = Limits {
            recipients_per_message: settings.recipients_max,
            errors_per_session: settings.errors_max,
            ..settings.limits.clone()
        };
        flow.config.store(Arc::new(config));
        let tls = settings.tls.then(|| Arc::clone(&self.tls));
        Player { peer: self.world.session_here(&settings.from, tls), piece: self.piece }
    }

    /// Messages that were accepted and that no dialog has mentioned yet.
    async fn kept(&self) -> Vec<Arc<Entry>> {
        self.world.flow().store.entries(self.last, 100).await.expect("the queue can be read")
    }
}

fn tls() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["mx1.feedgate.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key);
    Arc::new(config.expect("the key belongs to the certificate"))
}

/// The client's side of one dialog.
struct Player {
    peer: Peer,
    piece: usize,
}

impl Player {
    async fn act(&mut self, stage: &mut Stage, line: &str) -> Result<(), String> {
        let (word, text) = line.split_once(':').unwrap_or((line, ""));
        match (word, text.strip_prefix(' ').unwrap_or(text)) {
            ("start", _) => {
                self.expect_reply("220").await?;
                self.send(b"EHLO client.example\r\n").await;
                self.expect_reply("250").await
            }
            ("C", text) => {
                self.send(&[&unescape(text)[..], b"\r\n"].concat()).await;
                Ok(())
            }
            ("c", text) => {
                self.send(&unescape(text)).await;
                Ok(())
            }
            ("S", pattern) => self.expect_line(pattern).await,
            ("S+", code) => self.expect_reply(code).await,
            ("quiet", _) => self.expect_silence().await,
            ("hang up", _) => {
                // A client that is gone does not see what happens next; let the server see it first.
                self.peer.stream.shutdown().await.expect("a pipe closes");
                self.expect_end().await
            }
            ("closed", _) => self.expect_end().await,
            ("kept", pattern) => expect_kept(stage, pattern).await,
            ("found" | "client", pattern) => expect_client(stage, word, pattern).await,
            (pass, _) if pass.starts_with("pass ") => {
                stage.world.pass(humantime::parse_duration(&pass[5..]).expect("a duration"));
                Ok(())
            }
            (times, pattern) if times.starts_with("S*") => {
                for _ in 0..times[2..].parse().expect("a number") {
                    self.expect_line(pattern).await?;
                }
                Ok(())
            }
            _ => panic!("not a line of a dialog: {line}"),
        }
    }

    /// A server that has closed does not take what we say; whether it should have is seen by what it said.
    async fn send(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.piece.min(bytes.len()).max(1)) {
            if self.peer.stream.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn expect_line(&mut self, pattern: &str) -> Result<(), String> {
        let line = self.peer.line().await?.ok_or("the server has closed")?;
        if matches(pattern, &line) { Ok(()) } else { Err(format!("the server said: {}", line.escape_ascii())) }
    }

    async fn expect_reply(&mut self, code: &str) -> Result<(), String> {
        let reply = self.peer.reply().await;
        if reply.starts_with(code) { Ok(()) } else { Err(format!("the server said: {reply}")) }
    }

    async fn expect_silence(&mut self) -> Result<(), String> {
        match timeout(QUIET, self.peer.line()).await {
            Err(_) => Ok(()),
            Ok(line) => Err(format!("not quiet: {:?}", line?.map(|line| line.escape_ascii().to_string()))),
        }
    }

    async fn expect_end(&mut self) -> Result<(), String> {
        match self.peer.line().await? {
            None => Ok(()),
            Some(line) => Err(format!("not closed; the server said: {}", line.escape_ascii())),
        }
    }

    async fn finish(self) {
        let Peer { stream, session, .. } = self.peer;
        drop(stream);
        timeout(PATIENCE, session).await.expect("the session ends when its client is gone").expect("no panic");
    }
}

/// The oldest message that was not mentioned yet is as the pattern says.
async fn expect_kept(stage: &mut Stage, pattern: &str) -> Result<(), String> {
    let Some(entry) = stage.kept().await.first().cloned() else { return Err("nothing was accepted".to_owned()) };
    stage.last = Some(entry.envelope.id);
    let body = stage.world.flow().store.body(entry.envelope.id).await.map_err(|error| error.to_string())?;
    let content = body.head(u64::MAX).await.map_err(|error| error.to_string())?;
    let to: Vec<_> = entry.envelope.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
    let head = format!("{} > {}", entry.envelope.reverse_path, to.join(", "));
    let bar: &[u8] = if content.is_empty() { b"" } else { b" | " };
    let message = [head.as_bytes(), bar, &content].concat();
    if matches(pattern, &message) { Ok(()) } else { Err(format!("accepted: {}", message.escape_ascii())) }
}

/// The client of the message that was mentioned last is as the pattern says.
async fn expect_client(stage: &Stage, what: &str, pattern: &str) -> Result<(), String> {
    let id = stage.last.expect("found: and client: come after kept:");
    let entry = stage.world.flow().store.entry(id).await.map_err(|error| error.to_string())?;
    let client = &entry.envelope.client;
    let said = match what {
        "found" => client.findings.iter().map(|finding| finding.id.clone()).collect::<Vec<_>>().join(", "),
        _ => format!("{} {} {}", client.address, client.helo, client.protocol.as_str()),
    };
    if matches(pattern, said.as_bytes()) { Ok(()) } else { Err(format!("it is: {said}")) }
}

/// Resolves escapes and repetitions.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(place) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..place]);
        let escape = &rest[place + 1..];
        let letter = escape.chars().next().expect("something after a backslash");
        let length = match letter {
            'x' => {
                bytes.push(u8::from_str_radix(&escape[1..3], 16).expect("two hexadecimal digits"));
                3
            }
            '{' => {
                let end = escape.find('}').expect("a closing brace");
                let (text, times) = escape[1..end].rsplit_once('*').expect("{text*times}");
                bytes.extend_from_slice(&unescape(text).repeat(times.parse().expect("a number")));
                end + 1
            }
            letter => {
                bytes.extend_from_slice(match letter {
                    'r' => b"\r",
                    'n' => b"\n",
                    't' => b"\t",
                    '0' => b"\0",
                    '\\' => b"\\",
                    '*' => b"*",
                    _ => panic!("no such escape: \\{letter}"),
                });
                1
            }
        };
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Whether `pattern`, in which `*` stands for anything, describes the whole of `text`.
pub fn matches(pattern: &str, text: &[u8]) -> bool {
    let mut pieces = vec![String::new()];
    let mut letters = pattern.chars().peekable();
    let mut braces = false;
    while let Some(letter) = letters.next() {
        match (letter, letters.peek()) {
            ('*', _) if !braces => {
                pieces.push(String::new());
                continue;
            }
            ('\\', Some('{')) => braces = true,
            ('}', _) => braces = false,
            ('\\', Some(_)) => pieces.last_mut().unwrap().push(letter),
            _ => {}
        }
        let escaped = if letter == '\\' && !braces { letters.next().unwrap() } else { letter };
        pieces.last_mut().unwrap().push(escaped);
    }
    let pieces: Vec<_> = pieces.iter().map(|piece| unescape(piece)).collect();
    let Some(mut rest) = text.strip_prefix(&pieces[0][..]) else { return false };
    let Some((last, middle)) = pieces[1..].split_last() else { return rest.is_empty() };
    for piece in middle.iter().filter(|piece| !piece.is_empty()) {
        let Some(place) = rest.windows(piece.len()).position(|window| window == piece) else { return false };
        rest = &rest[place + piece.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn patterns_and_escapes() {
    assert_eq!(unescape("a\\r\\n\\x41\\{ab\\0*2}\\\\"), b"a\r\nAab\0ab\0\\");
    for (pattern, text) in
        [("250 *", "250 2.0.0 Ok"), ("a*b*c", "a--b--c"), ("a", "a"), ("*", ""), ("\\*", "*"), ("x\\{y*2}*", "xyyz")]
    {
        assert!(matches(pattern, text.as_bytes()), "{pattern}");
    }
    for (pattern, text) in [("250", "250 Ok"), ("a*b", "ab c"), ("\\*", "a"), ("a*a", "a"), ("a*b*b", "ab")] {
        assert!(!matches(pattern, text.as_bytes()), "{pattern}");
    }
}
