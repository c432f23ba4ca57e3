//! A customer's mail server: speaks SMTP, keeps what it takes, and fails where a test wants it to.
//!
//! It is strict where real servers are, so that a client that cheats is seen: parameters and pipelining only as offered,
//! CRLF . CRLF and nothing else ends the text, a chunk has the size it was announced with.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

/// Moments of a session at which a test can step in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// In place of the TLS handshake; `Say` makes it fail.
    Handshake,
    Mail,
    Rcpt,
    Data,
    /// Some of the text of DATA was read; `Say` is said in the middle of it, and then the server closes.
    Text,
    /// A chunk that is not the last was read.
    Chunk,
    /// The end of the text or the last chunk was read. The message is kept unless `Say` refuses it: with `Drop` and `Hang`
    /// the server has it, and the client does not know.
    End,
    Reset,
    Quit,
}

/// What the server does there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// This reply, without its final line end. After a 421 it closes.
    Say(String),
    /// Nothing, for ever.
    Hang,
    /// Closes.
    Drop,
}

impl Do {
    pub fn say(reply: &str) -> Do {
        Do::Say(reply.to_owned())
    }
}

/// A message the server has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Without brackets; empty for the null sender.
    pub reverse_path: String,
    pub recipients: Vec<String>,
    /// Everything behind the path of MAIL.
    pub parameters: String,
    /// Unstuffed, byte for byte.
    pub content: Vec<u8>,
    pub way: Way,
    /// STARTTLS was done.
    pub encrypted: bool,
}

/// How the content came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Data,
    Bdat,
}

/// Whether there is somebody at the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    Listens,
    Refuses,
    Nowhere,
}

/// Stands for the TLS handshake, and its success.
pub(super) const HANDSHAKE: &[u8] = b"HANDSHAKE\r\n";
pub(super) const HANDSHAKE_DONE: &[u8; 4] = b"OK\r\n";

/// One server. Cloning shares it: a test keeps a clone to look at what came and to change its ways.
#[derive(Clone)]
pub struct Server {
    script: Arc<Mutex<Script>>,
}

struct Script {
    reach: Reach,
    extensions: Vec<String>,
    always: HashMap<At, Do>,
    once: HashMap<At, VecDeque<Do>>,
    /// By address in lower case.
    recipients: HashMap<String, Do>,
    recipients_max: usize,
    bare_line_ends_refused: bool,
    received: Vec<Received>,
    commands: Vec<String>,
    sessions: usize,
}

/// Kinds of servers.
impl Server {
    /// A plain server of today, without CHUNKING and STARTTLS.
    pub fn new() -> Server {
        Server::offering(["PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN"])
    }

    /// What Exchange 2019 says by default to a stranger on port 25.
    pub fn exchange() -> Server {
        Server::offering([
            "SIZE 37748736",
            "PIPELINING",
            "DSN",
            "ENHANCEDSTATUSCODES",
            "STARTTLS",
            "X-ANONYMOUSTLS",
            "AUTH NTLM",
            "X-EXPS GSSAPI NTLM",
            "8BITMIME",
            "BINARYMIME",
            "CHUNKING",
            "SMTPUTF8",
        ])
        .recipients_max(200)
    }

    /// Knows HELO only.
    pub fn ancient() -> Server {
        Server::offering([]).at(At::Ehlo, Do::say("500 Command unrecognized"))
    }

    pub fn offering<const N: usize>(extensions: [&str; N]) -> Server {
        let script = Script {
            reach: Reach::Listens,
            extensions: extensions.map(str::to_owned).to_vec(),
            always: HashMap::new(),
            once: HashMap::new(),
            recipients: HashMap::new(),
            recipients_max: usize::MAX,
            bare_line_ends_refused: false,
            received: Vec::new(),
            commands: Vec::new(),
            sessions: 0,
        };
        Server { script: Arc::new(Mutex::new(script)) }
    }
}

/// Its ways; they can be changed at any time.
impl Server {
    /// Offers one more, or the same with another parameter.
    pub fn with(self, extension: &str) -> Server {
        let server = self.without(keyword(extension));
        server.script().extensions.push(extension.to_owned());
        server
    }

    pub fn without(self, extension: &str) -> Server {
        self.script().extensions.retain(|offered| keyword(offered) != extension);
        self
    }

    /// Does this there each time.
    pub fn at(self, at: At, what: Do) -> Server {
        self.script().always.insert(at, what);
        self
    }

    /// Does this there the next time only; several are done in their order.
    pub fn once(self, at: At, what: Do) -> Server {
        self.script().once.entry(at).or_default().push_back(what);
        self
    }

    /// Answers RCPT for this address so.
    pub fn recipient(self, address: &str, what: Do) -> Server {
        self.script().recipients.insert(address.to_ascii_lowercase(), what);
        self
    }

    /// `452 4.5.3` to every RCPT after so many good ones.
    pub fn recipients_max(self, most: usize) -> Server {
        self.script().recipients_max = most;
        self
    }

    /// Refuses a text with bare CR or LF at its end.
    pub fn refusing_bare_line_ends(self) -> Server {
        self.script().bare_line_ends_refused = true;
        self
    }

    /// Forgets what it was told to do, and listens.
    pub fn behave(&self) {
        let mut script = self.script();
        script.reach = Reach::Listens;
        script.always.clear();
        script.once.clear();
        script.recipients.clear();
    }

    /// Refuses connections from now on.
    pub fn go_down(&self) {
        self.script().reach = Reach::Refuses;
    }

    /// Does not answer connections from now on.
    pub fn vanish(&self) {
        self.script().reach = Reach::Nowhere;
    }

    pub fn come_up(&self) {
        self.script().reach = Reach::Listens;
    }
}

/// What it has seen.
impl Server {
    pub fn received(&self) -> Vec<Received> {
        self.script().received.clone()
    }

    /// Every command line, over all sessions.
    pub fn commands(&self) -> Vec<String> {
        self.script().commands.clone()
    }

    /// How many sessions were begun.
    pub fn sessions(&self) -> usize {
        self.script().sessions
    }

    pub(super) fn reach(&self) -> Reach {
        self.script().reach
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        // A test that panicked while it held the lock has failed already.
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn offers(&self, extension: &str) -> bool {
        self.script().extensions.iter().any(|offered| keyword(offered) == extension)
    }

    /// What the test wants to happen there.
    fn wish(&self, at: At) -> Option<Do> {
        let mut script = self.script();
        let once = script.once.get_mut(&at).and_then(VecDeque::pop_front);
        once.or_else(|| script.always.get(&at).cloned())
    }

    /// One session, to its end.
    pub(super) async fn serve(self, stream: DuplexStream) {
        self.script().sessions += 1;
        let mut session =
            Session { server: self, stream: BufReader::new(stream), encrypted: false, extended: false, transaction: None };
        // An error is a client that has gone, or the way to close.
        let _ = session.run().await;
    }
}

impl Default for Server {
    fn default() -> Server {
        Server::new()
    }
}

struct Session {
    server: Server,
    stream: BufReader<DuplexStream>,
    encrypted: bool,
    extended: bool,
    transaction: Option<Transaction>,
}

#[derive(Default)]
struct Transaction {
    reverse_path: String,
    parameters: String,
    recipients: Vec<String>,
    content: Vec<u8>,
}

impl Session {
    async fn run(&mut self) -> io::Result<()> {
        self.act(At::Greeting, "220 customer.example ESMTP simulated").await?;
        loop {
            let line = self.line().await?;
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.server.script().commands.push(text.clone());
            let verb = text.split(' ').next().unwrap_or_default().to_ascii_uppercase();
            if !self.stream.buffer().is_empty() && verb != "BDAT" && !(self.extended && self.server.offers("PIPELINING")) {
                self.say("503 5.5.1 Pipelining was not offered").await?;
                return Ok(());
            }
            match verb.as_str() {
                "EHLO" => self.ehlo().await?,
                "HELO" => drop(self.act(At::Helo, "250 customer.example").await?),
                "STARTTLS" if self.server.offers("STARTTLS") => self.start_tls().await?,
                "MAIL" => self.mail(&text).await?,
                "RCPT" => self.rcpt(&text).await?,
                "DATA" => self.data().await?,
                "BDAT" if self.server.offers("CHUNKING") => self.bdat(&text).await?,
                "RSET" => {
                    self.transaction = None;
                    self.act(At::Reset, "250 2.0.0 Resetting").await?;
                }
                "QUIT" => {
                    self.act(At::Quit, "221 2.0.0 Bye").await?;
                    return Ok(());
                }
                _ => self.say("500 5.5.1 Unrecognized command").await?,
            }
        }
    }

    async fn ehlo(&mut self) -> io::Result<()> {
        let mut lines = vec!["customer.example".to_owned()];
        lines.extend(self.server.script().extensions.iter().filter(|offered| !(self.encrypted && *offered == "STARTTLS")).cloned());
        let last = lines.pop().unwrap_or_default();
        let reply = lines.iter().map(|line| format!("250-{line}\r\n")).collect::<String>() + &format!("250 {last}");
        self.extended = self.act(At::Ehlo, &reply).await? == 250;
        Ok(())
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        if self.act(At::StartTls, "220 2.0.0 Ready to start TLS").await? != 220 {
            return Ok(());
        }
        if self.line().await? != HANDSHAKE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match self.server.wish(At::Handshake) {
            None => self.stream.write_all(HANDSHAKE_DONE).await?,
            Some(wish) => drop(self.perform(wish).await?),
        }
        (self.encrypted, self.extended, self.transaction) = (true, false, None);
        Ok(())
    }

    async fn mail(&mut self, line: &str) -> io::Result<()> {
        let Some((path, parameters)) = line.get(10..).filter(|_| line.starts_with("MAIL FROM:")).and_then(split_path) else {
            return self.say("501 5.5.4 Invalid address").await;
        };
        if let Some(unknown) = self.unknown_parameter(parameters) {
            return self.say(&format!("555 5.5.4 {unknown} was not offered")).await;
        }
        if self.transaction.is_some() {
            return self.say("503 5.5.1 Nested MAIL").await;
        }
        if self.act(At::Mail, "250 2.1.0 Sender OK").await? == 250 {
            let (reverse_path, parameters) = (path.to_owned(), parameters.to_owned());
            self.transaction = Some(Transaction { reverse_path, parameters, ..Transaction::default() });
        }
        Ok(())
    }

    async fn rcpt(&mut self, line: &str) -> io::Result<()> {
        let Some((path, parameters)) = line.get(8..).filter(|_| line.starts_with("RCPT TO:")).and_then(split_path) else {
            return self.say("501 5.5.4 Invalid address").await;
        };
        if let Some(unknown) = self.unknown_parameter(parameters) {
            return self.say(&format!("555 5.5.4 {unknown} was not offered")).await;
        }
        let Some(transaction) = &self.transaction else {
            return self.say("503 5.5.2 Need mail command").await;
        };
        let wish = self.server.script().recipients.get(&path.to_ascii_lowercase()).cloned();
        let most = self.server.script().recipients_max;
        let code = match wish {
            Some(wish) => self.perform(wish).await?,
            None if transaction.recipients.len() >= most => self.perform(Do::say("452 4.5.3 Too many recipients")).await?,
            None => self.act(At::Rcpt, "250 2.1.5 Recipient OK").await?,
        };
        if let Some(transaction) = self.transaction.as_mut().filter(|_| code == 250) {
            transaction.recipients.push(path.to_owned());
        }
        Ok(())
    }

    async fn data(&mut self) -> io::Result<()> {
        if self.transaction.as_ref().is_none_or(|transaction| transaction.recipients.is_empty()) {
            // A server may say 354 here too, and refuse at the end (RFC 2920 §3.1): tests ask for it with `At::Data`.
            let Some(wish) = self.server.wish(At::Data) else {
                return self.say("554 5.5.1 No valid recipients").await;
            };
            if self.perform(wish).await? == 354 {
                self.text().await?;
                self.say("554 5.5.1 No valid recipients").await?;
            }
            return Ok(());
        }
        if self.act(At::Data, "354 Start mail input; end with <CRLF>.<CRLF>").await? != 354 {
            return Ok(());
        }
        let content = self.text().await?;
        let mut transaction = self.transaction.take().unwrap_or_default();
        transaction.content = content;
        self.end(transaction, Way::Data).await
    }

    /// The text of DATA, unstuffed.
    async fn text(&mut self) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let mut asked = false;
        loop {
            let start = content.len();
            // Only CRLF ends a line: one that ends in a bare LF goes on.
            while !content[start..].ends_with(b"\r\n") {
                if self.stream.read_until(b'\n', &mut content).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            if &content[start..] == b".\r\n" {
                content.truncate(start);
                return Ok(content);
            }
            if content[start] == b'.' {
                content.remove(start);
            }
            if !asked && let Some(wish) = self.server.wish(At::Text) {
                self.perform(wish).await?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            asked = true;
        }
    }

    async fn bdat(&mut self, line: &str) -> io::Result<()> {
        let mut words = line.split(' ').skip(1);
        let Some(size) = words.next().and_then(|size| size.parse::<usize>().ok()) else {
            self.say("501 5.5.4 Bad chunk size").await?;
            return Err(io::ErrorKind::InvalidData.into());
        };
        let last = words.next() == Some("LAST");
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk).await?;
        let Some(mut transaction) = self.transaction.take().filter(|transaction| !transaction.recipients.is_empty()) else {
            return self.say("503 5.5.1 Need RCPT command").await;
        };
        transaction.content.extend_from_slice(&chunk);
        if last {
            return self.end(transaction, Way::Bdat).await;
        }
        if self.act(At::Chunk, "250 2.0.0 Chunk received").await? == 250 {
            self.transaction = Some(transaction);
        }
        Ok(())
    }

    async fn end(&mut self, transaction: Transaction, way: Way) -> io::Result<()> {
        if self.server.script().bare_line_ends_refused && has_bare_line_end(&transaction.content) {
            return self.say("550 5.6.11 Bare linefeeds are illegal").await;
        }
        let wish = self.server.wish(At::End).unwrap_or(Do::say("250 2.6.0 Queued mail for delivery"));
        if !matches!(&wish, Do::Say(reply) if !reply.starts_with('2')) {
            let Transaction { reverse_path, parameters, recipients, content } = transaction;
            let encrypted = self.encrypted;
            let received = Received { reverse_path, recipients, parameters, content, way, encrypted };
            self.server.script().received.push(received);
        }
        self.perform(wish).await.map(drop)
    }

    /// Does there what the test wants, or says the usual. The code that was said.
    async fn act(&mut self, at: At, usual: &str) -> io::Result<u16> {
        let wish = self.server.wish(at).unwrap_or(Do::say(usual));
        self.perform(wish).await
    }

    async fn perform(&mut self, wish: Do) -> io::Result<u16> {
        match wish {
            Do::Say(reply) => {
                self.say(&reply).await?;
                match reply.get(..3).and_then(|code| code.parse().ok()) {
                    Some(421) | None => Err(io::ErrorKind::ConnectionAborted.into()),
                    Some(code) => Ok(code),
                }
            }
            Do::Hang => {
                tokio::io::copy_buf(&mut self.stream, &mut tokio::io::sink()).await?;
                Err(io::ErrorKind::UnexpectedEof.into())
            }
            Do::Drop => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        self.stream.write_all(format!("{reply}\r\n").as_bytes()).await
    }

    /// One line with its end.
    async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// A parameter of MAIL or RCPT whose extension is not offered.
    fn unknown_parameter(&self, parameters: &str) -> Option<String> {
        let offered = |parameter: &&str| {
            let extension = match parameter.split('=').next().unwrap_or_default() {
                "SIZE" => "SIZE",
                "BODY" => "8BITMIME",
                "SMTPUTF8" => "SMTPUTF8",
                "RET" | "ENVID" | "NOTIFY" | "ORCPT" => "DSN",
                _ => return false,
            };
            self.extended && self.server.offers(extension)
        };
        parameters.split_whitespace().find(|parameter| !offered(parameter)).map(str::to_owned)
    }
}

fn keyword(extension: &str) -> &str {
    extension.split(' ').next().unwrap_or_default()
}

/// `<path> parameters`, where the path may hold a quoted string with brackets in it.
fn split_path(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = text.find(|letter| {
        let ends = letter == '>' && !quoted;
        quoted ^= letter == '"' && !escaped;
        escaped = quoted && letter == '\\' && !escaped;
        ends
    })?;
    Some((&text[..end], text[end + 1..].trim()))
}

fn has_bare_line_end(content: &[u8]) -> bool {
    let lone = |at: usize| match content[at] {
        b'\r' => content.get(at + 1) != Some(&b'\n'),
        _ => at == 0 || content[at - 1] != b'\r',
    };
    memchr::memchr2_iter(b'\r', b'\n', content).any(lone)
}
