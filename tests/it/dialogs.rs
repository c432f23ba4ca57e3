//! Plays every file of `tests/dialogs` against a session: whole, byte by byte, and in odd pieces, for the answers must not
//! depend on how the network cuts what a client says.
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
//! | `quiet` | the server says nothing for a second |
//! | `hang up` | the client closes |
//! | `closed` | the server has closed, after nothing else |
//! | `kept: from > to, to \| content` | the next message that was accepted; a pattern. Without ` \| ` when it is empty |
//!
//! In text: `\r \n \t \0 \\ \xHH`, and `\{text*300}` for 300 times text. In a pattern `*` stands for anything and `\*` for itself.
//! At the end no accepted message may be left unmentioned.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

/// What a dialog can set. Recipients in `served.test` are taken, in `grey.test` greylisted, elsewhere refused.
#[derive(Clone, Debug)]
struct Settings {
    size_max: u64,
    header_max: u64,
    text_line_max: u64,
    recipients_max: usize,
    errors_max: usize,
    tls: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            size_max: 10 << 20,
            header_max: 256 << 10,
            text_line_max: 10_000,
            recipients_max: 1000,
            errors_max: 20,
            tls: false,
        }
    }
}

/// One message that was accepted, as `kept:` shows it.
type Kept = Arc<Mutex<Vec<Vec<u8>>>>;

/// No dialog waits for longer than this; time is simulated.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Dialogs that send more than this are played whole only.
const BYTE_BY_BYTE_MAX: usize = 8_000;

#[tokio::test(start_paused = true)]
async fn every_dialog_goes_as_written() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dialogs");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(files.len() >= 40, "only {} dialogs in {folder}", files.len());
    let mut failures = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        for piece in [usize::MAX, 1, 7] {
            match play(&text, piece).await {
                Ok(sent) if sent > BYTE_BY_BYTE_MAX => break,
                Ok(_) => {}
                Err(failure) => {
                    failures.push(format!("{name}.txt{failure}"));
                    break;
                }
            }
        }
    }
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

/// Plays one dialog, sending `piece` bytes at a time. Returns how many bytes the client sent.
async fn play(text: &str, piece: usize) -> Result<usize, String> {
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
        let player = player.get_or_insert_with(|| Player::new(&settings, piece));
        player.act(line).await.map_err(place)?;
    }
    let player = player.expect("a dialog says something");
    let (sent, kept) = player.finish().await;
    if kept.is_empty() { Ok(sent) } else { Err(format!(": accepted and not mentioned: {}", kept.join("; "))) }
}

fn set(settings: &mut Settings, word: &str) {
    let (key, value) = word.split_once('=').expect("key=value");
    match key {
        "size_max" => settings.size_max = value.parse().unwrap(),
        "header_max" => settings.header_max = value.parse().unwrap(),
        "text_line_max" => settings.text_line_max = value.parse().unwrap(),
        "recipients_max" => settings.recipients_max = value.parse().unwrap(),
        "errors_max" => settings.errors_max = value.parse().unwrap(),
        "tls" => settings.tls = value == "offered",
        _ => panic!("no such setting: {key}"),
    }
}

/// The client's side of one dialog.
struct Player {
    stream: DuplexStream,
    server: tokio::task::JoinHandle<()>,
    kept: Kept,
    received: Vec<u8>,
    piece: usize,
    sent: usize,
}

impl Player {
    fn new(settings: &Settings, piece: usize) -> Player {
        let (stream, theirs) = duplex(4 << 20);
        let kept = Kept::default();
        let server = tokio::spawn(stub::serve(theirs, settings.clone(), Arc::clone(&kept)));
        Player { stream, server, kept, received: Vec::new(), piece, sent: 0 }
    }

    async fn act(&mut self, line: &str) -> Result<(), String> {
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
                self.stream.shutdown().await.unwrap();
                self.expect_end().await
            }
            ("closed", _) => self.expect_end().await,
            ("kept", pattern) => self.expect_kept(pattern),
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
        self.sent += bytes.len();
        for piece in bytes.chunks(self.piece.min(bytes.len()).max(1)) {
            if self.stream.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The next line from the server without its end; `None`: it has closed.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<_> = self.received.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(Some(line));
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            match read.map_err(|_| "the server hangs".to_owned())? {
                Ok(0) | Err(_) if self.received.is_empty() => return Ok(None),
                Ok(0) | Err(_) => return Err(format!("closed in the line {}", self.received.escape_ascii())),
                Ok(_) => {}
            }
        }
    }

    async fn expect_line(&mut self, pattern: &str) -> Result<(), String> {
        let line = self.line().await?.ok_or("the server has closed")?;
        if matches(pattern, &line) { Ok(()) } else { Err(format!("the server said: {}", line.escape_ascii())) }
    }

    async fn expect_reply(&mut self, code: &str) -> Result<(), String> {
        loop {
            let line = self.line().await?.ok_or("the server has closed")?;
            match line.strip_prefix(code.as_bytes()) {
                Some([b' ', ..]) => return Ok(()),
                Some([b'-', ..]) => {}
                _ => return Err(format!("the server said: {}", line.escape_ascii())),
            }
        }
    }

    async fn expect_silence(&mut self) -> Result<(), String> {
        match timeout(Duration::from_secs(1), self.line()).await {
            Err(_) => Ok(()),
            Ok(line) => Err(format!("not quiet: {:?}", line?.map(|line| line.escape_ascii().to_string()))),
        }
    }

    async fn expect_end(&mut self) -> Result<(), String> {
        match self.line().await? {
            None => Ok(()),
            Some(line) => Err(format!("not closed; the server said: {}", line.escape_ascii())),
        }
    }

    fn expect_kept(&mut self, pattern: &str) -> Result<(), String> {
        let mut kept = self.kept.lock().unwrap();
        if kept.is_empty() {
            return Err("nothing was accepted".to_owned());
        }
        let message = kept.remove(0);
        if matches(pattern, &message) { Ok(()) } else { Err(format!("accepted: {}", message.escape_ascii())) }
    }

    async fn finish(self) -> (usize, Vec<String>) {
        drop(self.stream);
        timeout(PATIENCE, self.server).await.expect("the session ends when its client is gone").expect("no panic");
        let kept = self.kept.lock().unwrap().iter().map(|message| message.escape_ascii().to_string()).collect();
        (self.sent, kept)
    }
}

/// Resolves escapes and repetitions.
fn unescape(text: &str) -> Vec<u8> {
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
fn matches(pattern: &str, text: &[u8]) -> bool {
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

/// The smallest driver that a session can have: no flow, no store, no TLS.
mod stub {
    use std::time::Duration;

    use bytes::BytesMut;
    use feedgate::mail::{Address, Enhanced, IdSource, Mailbox, Recipient, Reply, Timestamp};
    use feedgate::smtp::{CommandLine, DataReader, DataStatus, Incoming, LineReader, Session, SessionLimits, Step};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::timeout;

    use super::{Kept, Settings};

    const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

    pub async fn serve(stream: DuplexStream, settings: Settings, kept: Kept) {
        let limits = SessionLimits {
            hostname: "mx1.feedgate.test".parse().unwrap(),
            size_max: settings.size_max,
            recipients_max: settings.recipients_max,
            errors_max: settings.errors_max,
            tls_offered: settings.tls,
        };
        let session = Session::new(IdSource::new(None).next(Timestamp(1_795_214_160_000)), limits);
        let mut server = Server { stream, input: BytesMut::new(), session, settings, kept, content: None };
        // Ends with `None` when the client is gone or the session is over.
        let _ = server.run().await;
    }

    struct Server {
        stream: DuplexStream,
        input: BytesMut,
        session: Session,
        settings: Settings,
        kept: Kept,
        content: Option<(DataReader, BytesMut)>,
    }

    impl Server {
        async fn run(&mut self) -> Option<()> {
            let greeting = self.session.greeting();
            self.write(&greeting).await?;
            let mut lines = LineReader::new(2048);
            loop {
                let line = loop {
                    match lines.next(&mut self.input) {
                        Some(line) => break line,
                        None => self.read().await?,
                    }
                };
                self.act(line).await?;
            }
        }

        async fn act(&mut self, line: CommandLine) -> Option<()> {
            let step = self.session.line(line);
            if self.session.transaction().is_none() {
                self.content = None;
            }
            let said = match step {
                Step::CheckSender(..) => self.session.sender_answer(Reply::new(250, Enhanced(2, 1, 0), "Ok")),
                Step::CheckRecipient(incoming) => self.session.recipient_answer(recipient(incoming)),
                Step::ReadData(go_ahead) => {
                    self.write(&go_ahead).await?;
                    self.read_content(None, true).await?
                }
                Step::ReadChunk { size, refused: Some(reply), .. } => {
                    for _ in 0..size {
                        while self.input.is_empty() {
                            self.read().await?;
                        }
                        let _ = self.input.split_to(1);
                    }
                    Step::Reply(reply)
                }
                Step::ReadChunk { size, last, refused: None } => self.read_content(Some(size), last).await?,
                Step::StartTls(go_ahead) => Step::Close(go_ahead),
                said => said,
            };
            match said {
                Step::Reply(reply) => self.write(&reply).await,
                Step::Close(reply) => self.write(&reply).await.and(None),
                step => panic!("{step:?}"),
            }
        }

        async fn read_content(&mut self, chunk: Option<u64>, last: bool) -> Option<Step> {
            let limits = &self.settings;
            let new = || (DataReader::new(limits.size_max, limits.header_max, limits.text_line_max), BytesMut::new());
            let (mut reader, mut content) = self.content.take().unwrap_or_else(new);
            let mut remaining = chunk.unwrap_or(0);
            let result = loop {
                let status = match chunk {
                    Some(_) => reader.chunk(&mut self.input, &mut remaining, &mut content),
                    None => reader.data(&mut self.input, &mut content),
                };
                match status {
                    DataStatus::More => self.read().await?,
                    DataStatus::End(result) => break result,
                }
            };
            Some(match (result, last) {
                (Ok(()), true) => {
                    assert_eq!(reader.size(), content.len() as u64);
                    let reply = self.keep(&content);
                    self.session.content_answer(reply)
                }
                (Ok(()), false) => {
                    self.content = Some((reader, content));
                    self.session.chunk_answer(Ok(chunk.unwrap()))
                }
                (Err(error), true) => self.session.content_answer(error.reply()),
                (Err(error), false) => self.session.chunk_answer(Err(error.reply())),
            })
        }

        fn keep(&self, content: &[u8]) -> Reply {
            let (transaction, number) = self.session.transaction().unwrap();
            let to: Vec<_> = transaction.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
            let head = format!("{} > {}", transaction.reverse_path, to.join(", "));
            let bar: &[u8] = if content.is_empty() { b"" } else { b" | " };
            self.kept.lock().unwrap().push([head.as_bytes(), bar, content].concat());
            Reply::queued(self.session.id().message(number))
        }

        async fn write(&mut self, reply: &Reply) -> Option<()> {
            self.stream.write_all(&reply.to_wire()).await.ok()
        }

        async fn read(&mut self) -> Option<()> {
            match timeout(IDLE_TIMEOUT, self.stream.read_buf(&mut self.input)).await {
                Ok(Ok(0) | Err(_)) => None,
                Ok(Ok(_)) => Some(()),
                Err(_) => self.write(&Reply::new(421, Enhanced(4, 4, 2), "Idle for too long")).await.and(None),
            }
        }
    }

    fn recipient(incoming: Incoming) -> Result<Recipient, Reply> {
        let address = match incoming.mailbox {
            Mailbox::Address(address) => address,
            Mailbox::Postmaster => Address::parse("postmaster@served.test").unwrap(),
        };
        match address.domain().map_or("", |domain| domain.as_str()) {
            "served.test" => Ok(Recipient { address, notify: incoming.notify, orcpt: incoming.orcpt }),
            "grey.test" => Err(Reply::greylisted(300)),
            _ => Err(Reply::not_served()),
        }
    }
}
