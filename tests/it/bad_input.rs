//! What bad input gets: a clear answer, never a panic, a hang or a lost message. Against the gateway's own binary, over real
//! sockets, with the tricks that real clients and real accidents play.

mod commands;
mod content;
mod disk;
mod operators;
mod peers;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::gateway::{Gateway, PATIENCE};

/// The client's end of a session: sends any bytes at all, and reads replies.
struct Talk {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Talk {
    /// Connects and says nothing.
    #[track_caller]
    fn connect(address: SocketAddr) -> Talk {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        let replies = BufReader::new(stream.try_clone().expect("a second handle"));
        Talk { stream, replies }
    }

    /// Connects and says EHLO.
    #[track_caller]
    fn open(gateway: &Gateway) -> Talk {
        let mut talk = Talk::connect(gateway.smtp);
        talk.expect("220 ");
        talk.ask("EHLO client.sender.test\r\n", "250 ");
        talk
    }

    /// With a transaction for one recipient, up to the 354.
    #[track_caller]
    fn in_data(gateway: &Gateway) -> Talk {
        let mut talk = Talk::open(gateway);
        talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
        talk.ask("RCPT TO:<jane@up.test>\r\n", "250 ");
        talk.ask("DATA\r\n", "354 ");
        talk
    }

    /// An error is no failure: the gateway may have closed, and its last reply is still there to be read.
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// The last line of the next reply; `None` after the end.
    fn reply(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            match self.replies.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.as_bytes().get(3) == Some(&b'-') => {}
                Ok(_) => return Some(line.trim_end().to_owned()),
                Err(error) => panic!("no reply: {error}"),
            }
        }
    }

    #[track_caller]
    fn expect(&mut self, start: &str) -> String {
        let reply = self.reply();
        assert!(reply.as_deref().is_some_and(|reply| reply.starts_with(start)), "{reply:?} and not {start}");
        reply.unwrap_or_default()
    }

    #[track_caller]
    fn ask(&mut self, bytes: impl AsRef<[u8]>, start: &str) -> String {
        self.send(bytes);
        self.expect(start)
    }

    /// Nothing comes any more.
    #[track_caller]
    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.replies.read_to_end(&mut rest) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("the connection stays open"),
            // Reset because we sent more than was read: an end as well.
            Ok(_) | Err(_) => assert!(rest.is_empty(), "{}", rest.escape_ascii()),
        }
    }
}

/// Sends one message and returns the reply to it.
#[track_caller]
fn deliver(gateway: &Gateway, to: &str, content: impl AsRef<[u8]>) -> String {
    let mut talk = Talk::open(gateway);
    talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
    talk.ask(format!("RCPT TO:<{to}>\r\n"), "250 ");
    talk.ask("DATA\r\n", "354 ");
    talk.send(content);
    talk.send("\r\n.\r\n");
    let reply = talk.reply().expect("an answer to the message");
    talk.ask("QUIT\r\n", "221 ");
    reply
}

/// The queue id in `250 2.0.0 Ok: queued as ID`.
#[track_caller]
fn queue_id(reply: &str) -> String {
    reply.strip_prefix("250 2.0.0 Ok: queued as ").unwrap_or_else(|| panic!("{reply}")).to_owned()
}

/// It still takes mail, and nothing broke on the way here.
#[track_caller]
fn assert_unharmed(gateway: &Gateway) {
    deliver_ok(gateway, "still here");
    let broken: Vec<_> = ["panicked", "\"ERROR\""].iter().flat_map(|word| gateway.logged(word)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[track_caller]
fn deliver_ok(gateway: &Gateway, text: &str) -> String {
    queue_id(&deliver(gateway, "jane@up.test", format!("Subject: {text}\r\n\r\n{text}\r\n")))
}

/// A number of `/proc/PID/status`, in KiB.
fn memory_kib(gateway: &Gateway, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel tells");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// Open file descriptors of the gateway.
fn open_files(gateway: &Gateway) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", gateway.id())).expect("it runs").count()
}

/// Names of the files in a directory.
fn files_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("it can be listed").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Short enough for a test, long enough for a busy machine.
const A_MOMENT: Duration = Duration::from_millis(50);
