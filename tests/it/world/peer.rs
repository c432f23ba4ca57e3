//! A client: the other end of a session.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::PATIENCE;

/// The client's side of a session.
pub struct Peer {
    pub stream: DuplexStream,
    pub session: JoinHandle<()>,
    received: Vec<u8>,
}

impl Peer {
    pub fn new(stream: DuplexStream, session: JoinHandle<()>) -> Peer {
        Peer { stream, session, received: Vec::new() }
    }

    /// The next line from the gateway without its end; `None`: it has closed.
    pub async fn line(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.received, b"\r\n") {
                let mut line: Vec<_> = self.received.drain(..end + 2).collect();
                line.truncate(end);
                return Ok(Some(line));
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            match read.map_err(|_| "the gateway hangs".to_owned())? {
                Ok(0) | Err(_) if self.received.is_empty() => return Ok(None),
                Ok(0) | Err(_) => return Err(format!("closed in the line {}", self.received.escape_ascii())),
                Ok(_) => {}
            }
        }
    }

    /// The next whole reply; its lines joined by `\n`. Empty when the gateway has closed.
    pub async fn reply(&mut self) -> String {
        let mut reply = String::new();
        while let Some(line) = self.line().await.unwrap_or_else(|why| panic!("{why}")) {
            reply.push_str(&String::from_utf8_lossy(&line));
            if line.get(3) != Some(&b'-') {
                break;
            }
            reply.push('\n');
        }
        reply
    }

    /// Sends a command and returns the reply.
    pub async fn say(&mut self, command: &str) -> String {
        self.say_bytes(command.as_bytes()).await
    }

    pub async fn say_bytes(&mut self, command: &[u8]) -> String {
        // Whoever has closed does not take it: the reply is then empty.
        let _ = self.stream.write_all(&[command, b"\r\n"].concat()).await;
        self.reply().await
    }

    /// A whole transaction whose sender and recipients must be taken; the reply to its end. An empty `from` is the null sender.
    pub async fn send(&mut self, from: &str, to: &[&str], content: &str) -> String {
        let reply = self.say(&format!("MAIL FROM:<{from}>")).await;
        assert!(reply.starts_with("250 "), "{reply}");
        for to in to {
            let reply = self.say(&format!("RCPT TO:<{to}>")).await;
            assert!(reply.starts_with("250 "), "{to}: {reply}");
        }
        assert!(self.say("DATA").await.starts_with("354 "));
        // RFC 5321 §4.5.2.
        let stuffed = content.replace("\r\n.", "\r\n..");
        self.say(&format!("{stuffed}.")).await
    }
}
