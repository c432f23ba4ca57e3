//! One clamd at one address.
//!
//! VERSION is asked through clamav-client. INSTREAM is spoken here, for two reasons: when a message is over StreamMaxLength, clamd
//! answers and hangs up in the middle of it, and clamav-client gives the write error instead of that answer; and its answers
//! have no bound. Here the answer is awaited while the message is sent, so it is never lost, and it ends at [`REPLY_MAX`].
//!
//! One connection serves one scan: IDSESSION was measured to be slower. Every step ends at a deadline of the caller's.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use clamav_client::tokio::TransportProtocol;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Join, ReadHalf, Take, WriteHalf};
use tokio::net::{TcpStream, UnixStream};

use super::reply::{self, REPLY_MAX};
use crate::config::ClamdAddress;
use crate::mail::{Timestamp, Verdict};
use crate::outside::{Body, Clock, Stream};

/// A clamd, known by its address. Holds no connection.
pub(super) struct Clamd {
    pub address: ClamdAddress,
    pub connect_timeout: Duration,
    pub clock: Arc<dyn Clock>,
}

/// Why a scan gave no verdict, by whose fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// This clamd is not to be relied on now.
    Clamd(String),
    /// The message could not be read from our own disk; no other clamd would help.
    Body(String),
}

impl Clamd {
    /// Sends EICAR, which must be found, and a clean text, which must pass. Returns the engine's version line, or in words
    /// what is wrong; the same fault gives the same words, so that it is reported once.
    pub async fn prove(&self, deadline: Timestamp) -> Result<String, String> {
        let version = self.version(deadline).await?;
        match self.canary(eicar(), deadline).await? {
            Verdict::Infected(_) => {}
            Verdict::Clean => return Err("does not find EICAR: database missing?".to_owned()),
            other => return Err(format!("does not find EICAR, but says {other}")),
        }
        match self.canary(CLEAN_CANARY.to_vec(), deadline).await? {
            Verdict::Clean => Ok(version),
            other => Err(format!("does not pass a clean text: {other}")),
        }
    }

    async fn canary(&self, text: Vec<u8>, deadline: Timestamp) -> Result<Verdict, String> {
        self.scan(&Body::Memory(Bytes::from(text)), deadline).await.map_err(|trouble| match trouble {
            Trouble::Clamd(why) | Trouble::Body(why) => why,
        })
    }

    /// The line that VERSION gives: engine, database and its date.
    async fn version(&self, deadline: Timestamp) -> Result<String, String> {
        match self.before(deadline, clamav_client::tokio::get_version(Bounded(self))).await {
            None => Err(NOT_IN_TIME.to_owned()),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(line)) if line.is_empty() => Err("closes the connection without an answer".to_owned()),
            Some(Ok(line)) => Ok(reply::printable(line.strip_suffix(b"\0").unwrap_or(&line))),
        }
    }

    /// The verdict on a message; never [`Verdict::Unavailable`], which is the caller's to say.
    pub async fn scan(&self, body: &Body, deadline: Timestamp) -> Result<Verdict, Trouble> {
        let late = || Err(Trouble::Clamd(NOT_IN_TIME.to_owned()));
        self.before(deadline, self.instream(body)).await.unwrap_or_else(late)
    }

    async fn instream(&self, body: &Body) -> Result<Verdict, Trouble> {
        let stream = self.connect().await.map_err(|error| Trouble::Clamd(error.to_string()))?;
        let (reader, mut writer) = tokio::io::split(stream);
        let mut reply = pin!(read_reply(reader));
        let sent = tokio::select! {
            biased;
            sent = send(&mut writer, body) => sent,
            early = &mut reply => return before_the_end(&early),
        };
        match sent {
            Ok(()) => reply::read(&reply.await).map_err(Trouble::Clamd),
            // clamd hung up; what it said before that is the cause.
            Err(SendError::Connection) => before_the_end(&reply.await),
            Err(SendError::Body(error)) => Err(Trouble::Body(format!("cannot read the message: {error}"))),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let deadline = self.clock.now() + self.connect_timeout;
        let late = || Err(io::Error::new(io::ErrorKind::TimedOut, "does not take the connection in time"));
        self.before(deadline, self.connect_when_there_is_room()).await.unwrap_or_else(late)
    }

    /// A unix socket whose listen queue is full answers EAGAIN at once instead of letting us wait as TCP does. clamd works the
    /// queue off in milliseconds, so that is no failure yet.
    async fn connect_when_there_is_room(&self) -> io::Result<Box<dyn Stream>> {
        let mut pause = Duration::from_millis(5);
        loop {
            let stream: io::Result<Box<dyn Stream>> = match &self.address {
                ClamdAddress::Unix(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as _),
                ClamdAddress::Tcp(address) => TcpStream::connect(address).await.map(|stream| Box::new(stream) as _),
            };
            match stream {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.clock.sleep_until(self.clock.now() + pause).await;
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
                done => return done,
            }
        }
    }

    /// `None` when the moment comes first.
    pub async fn before<T>(&self, deadline: Timestamp, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.clock.sleep_until(deadline) => None,
        }
    }
}

const NOT_IN_TIME: &str = "gives no answer in time";

/// The size of the piece that follows, in network order, before each piece; a size of zero ends the message. What is small goes
/// out in one write, and clamd wakes up once for it.
async fn send(writer: &mut (impl AsyncWrite + Unpin), body: &Body) -> Result<(), SendError> {
    let connection = |_: io::Error| SendError::Connection;
    let mut command = INSTREAM;
    let mut at = 0;
    loop {
        let end = body.size().min(at + Body::CHUNK);
        let chunk = body.read(at..end).await.map_err(SendError::Body)?;
        let size = u32::try_from(chunk.len()).expect("a chunk is 64 KiB at most").to_be_bytes();
        let piece = if chunk.is_empty() { &[][..] } else { &size[..] };
        let end_mark = if end == body.size() { END_MARK } else { &[] };
        let mut block = Buf::chain(Buf::chain(command, piece), Buf::chain(chunk, end_mark));
        writer.write_all_buf(&mut block).await.map_err(connection)?;
        if end == body.size() {
            return writer.flush().await.map_err(connection);
        }
        command = &[];
        at = end;
    }
}

/// With `z`, command and answer end with NUL.
const INSTREAM: &[u8] = b"zINSTREAM\0";
const END_MARK: &[u8] = &[0; 4];

enum SendError {
    Connection,
    Body(io::Error),
}

/// Everything until the other side closes; an error ends it too, and what came before it counts: clamd that hangs up with our
/// bytes unread resets the connection behind its answer.
async fn read_reply(mut reader: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut reply = Vec::new();
    while reply.len() < REPLY_MAX {
        match reader.read_buf(&mut reply).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    reply
}

/// An answer that came before the message was sent to its end cannot vouch for it.
fn before_the_end(reply: &[u8]) -> Result<Verdict, Trouble> {
    match reply::read(reply) {
        Ok(Verdict::Clean) => Err(Trouble::Clamd("said OK before it had the whole message".to_owned())),
        Ok(verdict) => Ok(verdict),
        Err(why) => Err(Trouble::Clamd(why)),
    }
}

/// Lets clamav-client connect as we do, and bounds what it reads.
struct Bounded<'a>(&'a Clamd);

impl TransportProtocol for Bounded<'_> {
    type Stream = Join<Take<ReadHalf<Box<dyn Stream>>>, WriteHalf<Box<dyn Stream>>>;

    async fn connect(&self) -> io::Result<Self::Stream> {
        let (reader, writer) = tokio::io::split(self.0.connect().await?);
        Ok(tokio::io::join(reader.take(REPLY_MAX as u64), writer))
    }
}

/// The test file of eicar.org, which every virus scanner finds. It stands here backwards: in one piece it would make scanners
/// report this file and the program made of it.
pub(super) fn eicar() -> Vec<u8> {
    const BACKWARDS: &[u8; 68] = br"*H+H$!ELIF-TSET-SURIVITNA-DRADNATS-RACIE$}7)CC7)^P(45XZP\4[PA@%P!O5X";
    BACKWARDS.iter().rev().copied().collect()
}

const CLEAN_CANARY: &[u8] = b"From: canary@feedgate.invalid\r\nSubject: A clean message\r\n\r\nNothing is wrong here.\r\n";

#[cfg(test)]
mod tests {
    use super::super::fake::{Behaviour, Fake, TestClock};
    use super::*;

    const CHUNK: usize = Body::CHUNK as usize;

    async fn scan(behaviour: Behaviour, size: usize) -> Result<Verdict, Trouble> {
        let mut verdicts = Vec::new();
        for fake in [Fake::on_unix(behaviour.clone()), Fake::on_tcp(behaviour).await] {
            let body = Body::Memory(Bytes::from(vec![b'x'; size]));
            verdicts.push(fake.clamd().scan(&body, fake.soon()).await);
        }
        assert_eq!(verdicts[0], verdicts[1], "unix and TCP give the same");
        verdicts.remove(0)
    }

    fn trouble(why: &str) -> Result<Verdict, Trouble> {
        Err(Trouble::Clamd(why.to_owned()))
    }

    #[tokio::test]
    async fn verdicts_arrive() {
        assert_eq!(scan(Behaviour::Reply("stream: OK\0"), 10).await, Ok(Verdict::Clean));
        assert_eq!(scan(Behaviour::Reply("stream: OK\0"), 0).await, Ok(Verdict::Clean));
        assert_eq!(scan(Behaviour::Reply("stream: OK\0"), CHUNK * 5 + 1).await, Ok(Verdict::Clean));
        assert_eq!(scan(Behaviour::Reply("stream: X FOUND\0"), 10).await, Ok(Verdict::Infected("X".to_owned())));
    }

    #[tokio::test]
    async fn a_message_arrives_byte_for_byte() {
        let fake = Fake::on_unix(Behaviour::Honest);
        let mut message = vec![b'-'; CHUNK * 2 - 30];
        message.extend(eicar());
        message.extend(vec![b'-'; CHUNK]);
        let verdict = fake.clamd().scan(&Body::Memory(message.clone().into()), fake.soon()).await;
        assert_eq!(verdict, Ok(Verdict::Infected("Eicar-Test-Signature".to_owned())));
        assert!(fake.last_message() == message, "{} of {} bytes", fake.last_message().len(), message.len());
    }

    #[tokio::test]
    async fn no_answer_is_no_verdict() {
        let silent = trouble("closed the connection without an answer");
        assert_eq!(scan(Behaviour::Reply(""), 10).await, silent);
        assert_eq!(scan(Behaviour::CloseAfter(0), 10).await, silent);
        assert_eq!(scan(Behaviour::CloseAfter(CHUNK), CHUNK * 100).await, silent);
    }

    #[tokio::test]
    async fn strange_answers_are_no_verdict() {
        assert_eq!(scan(Behaviour::Reply("stream: OK"), 10).await, trouble("its answer is cut short: stream: OK"));
        assert_eq!(scan(Behaviour::Reply("stream: O"), 10).await, trouble("its answer is cut short: stream: O"));
        assert_eq!(
            scan(Behaviour::Reply("stream: lstat() failed. ERROR\0"), 10).await,
            trouble("answered: stream: lstat() failed. ERROR")
        );
        assert_eq!(
            scan(Behaviour::Reply("HTTP/1.1 400 Bad Request\r\n\r\n"), 10).await,
            trouble("its answer is cut short: HTTP/1.1 400 Bad Request")
        );
    }

    #[tokio::test]
    async fn an_endless_answer_is_cut() {
        let Err(Trouble::Clamd(why)) = scan(Behaviour::Endless, 10).await else { panic!("no verdict") };
        assert!(why.starts_with("its answer is cut short: stream: OK") && why.len() < 300, "{why}");
    }

    #[tokio::test]
    async fn over_the_limit_is_read_although_writing_fails() {
        for _ in 0..20 {
            let over = Behaviour::Early { after: CHUNK, reply: "INSTREAM size limit exceeded. ERROR\0" };
            let verdict = scan(over, CHUNK * 200).await;
            assert_eq!(verdict, Ok(Verdict::Unscannable("larger than clamd's StreamMaxLength".to_owned())));
        }
    }

    #[tokio::test]
    async fn ok_before_the_end_is_not_clean() {
        let early = Behaviour::Early { after: CHUNK, reply: "stream: OK\0" };
        assert_eq!(scan(early, CHUNK * 200).await, trouble("said OK before it had the whole message"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clamd_that_hangs_is_left_at_the_deadline() {
        let fake = Fake::on_unix(Behaviour::Hang);
        let (clamd, deadline) = (fake.clamd(), fake.soon());
        assert_eq!(clamd.scan(&Body::Memory(Bytes::from_static(b"x")), deadline).await, trouble(NOT_IN_TIME));
        assert!(clamd.clock.now() >= deadline);
        assert_eq!(clamd.prove(fake.soon()).await, Err(NOT_IN_TIME.to_owned()));
    }

    #[tokio::test]
    async fn nobody_listens() {
        let directory = tempfile::tempdir().unwrap();
        let address = ClamdAddress::Unix(directory.path().join("nobody"));
        let clock = Arc::new(TestClock::new());
        let deadline = clock.now() + Duration::from_secs(60);
        let clamd = Clamd { address, connect_timeout: Duration::from_secs(5), clock };
        let Err(Trouble::Clamd(why)) = clamd.scan(&Body::Memory(Bytes::new()), deadline).await else { panic!("no verdict") };
        assert!(why.contains("No such file"), "{why}");
    }

    #[tokio::test]
    async fn a_full_listen_queue_is_waited_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clamd.sock");
        let socket = tokio::net::UnixSocket::new_stream().unwrap();
        socket.bind(&path).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 100, "the queue fills up");
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);

        let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
        let address = ClamdAddress::Unix(path);
        let clamd = Clamd { address, connect_timeout: Duration::from_secs(20), clock };
        let accept = async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            listener.accept().await
        };
        let (connected, accepted) = tokio::join!(clamd.connect(), accept);
        assert!(connected.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn unreadable_content_is_not_clamds_fault() {
        struct Torn;
        impl crate::outside::DiskFile for Torn {
            fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
                Ok(())
            }
            fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
                Err(io::Error::other("medium error"))
            }
            fn len(&self) -> io::Result<u64> {
                Ok(10)
            }
            fn set_len(&self, _: u64) -> io::Result<()> {
                Ok(())
            }
            fn sync(&self) -> io::Result<()> {
                Ok(())
            }
        }
        let fake = Fake::on_unix(Behaviour::Honest);
        let body = Body::File { file: Arc::new(Torn), size: 10 };
        let Err(Trouble::Body(why)) = fake.clamd().scan(&body, fake.soon()).await else { panic!("no verdict") };
        assert!(why.contains("medium error"), "{why}");
    }

    #[tokio::test]
    async fn canaries_prove_a_scanner() {
        let proof = |behaviour| async {
            let fake = Fake::on_unix(behaviour);
            fake.clamd().prove(fake.soon()).await
        };
        assert_eq!(proof(Behaviour::Honest).await, Ok("ClamAV 9.9.9/1/Fri Nov 20 22:36:00 2026".to_owned()));
        assert_eq!(proof(Behaviour::Reply("stream: OK\0")).await, Err("does not find EICAR: database missing?".to_owned()));
        assert_eq!(
            proof(Behaviour::Reply("stream: Paranoid FOUND\0")).await,
            Err("does not pass a clean text: infected: Paranoid".to_owned())
        );
        let limit = Behaviour::Reply("stream: Heuristics.Limits.Exceeded.MaxScanTime FOUND\0");
        assert!(proof(limit).await.unwrap_err().starts_with("does not find EICAR, but says unscannable"));
        assert_eq!(proof(Behaviour::Reply("")).await, Err("closed the connection without an answer".to_owned()));
    }

    #[test]
    fn eicar_stands_nowhere_in_one_piece() {
        let eicar = String::from_utf8(eicar()).unwrap();
        assert!(eicar.starts_with("X5O!P%@AP[4") && eicar.ends_with("$H+H*"));
        for source in [include_str!("clamd.rs"), include_str!("fake.rs"), include_str!("pool.rs"), include_str!("reply.rs")] {
            assert!(!source.contains(&eicar));
        }
    }
}
