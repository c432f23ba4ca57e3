//! One session of a simulated server.
//!
//! It is strict where real servers are, so that a client that cheats is seen: parameters and pipelining only as offered,
//! CRLF . CRLF and nothing else ends the text, a chunk has the size it was announced with.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

use super::server::{At, Do, Received, Server, Way};

/// Stands for the TLS handshake, and its success.
pub(super) const HANDSHAKE: &[u8] = b"HANDSHAKE\r\n";
pub(super) const HANDSHAKE_DONE: &[u8; 4] = b"OK\r\n";

/// What the client has said so far.
pub(super) struct Session {
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
    pub fn new(server: Server, stream: DuplexStream) -> Session {
        Session { server, stream: BufReader::new(stream), encrypted: false, extended: false, transaction: None }
    }

    /// Serves until the client or the script ends it.
    pub async fn run(&mut self) -> io::Result<()> {
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
        lines.extend(
            self.server.script().extensions.iter().filter(|offered| !(self.encrypted && *offered == "STARTTLS")).cloned(),
        );
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
