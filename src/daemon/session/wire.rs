//! The connection of a session: buffers with a bound, timeouts, and the change to TLS.
//!
//! Replies are gathered and written when there is nothing left to read (RFC 2920 §3.2: a server must not flush after every
//! command of a pipelined group). Everything waits at most for the idle timeout, and nothing goes on after the session's end.
//! `line`, `fill` and `skip` can be dropped at any await without losing a byte in either direction.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use crate::mail::Reply;
use crate::outside::Stream;
use crate::smtp::{CommandLine, LineReader};

/// Of a command line, in bytes.
const LINE_MAX: usize = 2048;
/// Room for one read of commands: what an idle session holds, times 10,000.
const COMMAND_READ: usize = 1024;
/// Room for one read of content.
pub(super) const CONTENT_READ: usize = 32 * 1024;
/// Replies are written out when there are this many bytes of them, however many commands still wait.
const OUTPUT_MAX: usize = 16 * 1024;
/// A peer that has asked for TLS begins at once.
const HANDSHAKE_MAX: Duration = Duration::from_secs(60);
/// For the last reply and the peer's own end.
const CLOSE_MAX: Duration = Duration::from_secs(2);
/// Reads of what a peer still sends although we are closing.
const LINGER_READS: usize = 64;

/// Why a session ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// The peer closed, or cannot be read from or written to.
    Gone,
    Idle,
    /// It lasted longer than a session may.
    SessionOver,
    /// The gateway stops.
    Stopping,
    /// This is the last reply.
    Closed(Reply),
}

pub(super) struct Wire {
    stream: Box<dyn Stream>,
    /// Read and not yet used.
    pub(super) input: BytesMut,
    output: BytesMut,
    lines: LineReader,
    idle_timeout: Duration,
    session_end: Instant,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>, idle_timeout: Duration, session_timeout: Duration) -> Wire {
        Wire {
            stream,
            input: BytesMut::new(),
            output: BytesMut::new(),
            lines: LineReader::new(LINE_MAX),
            idle_timeout,
            session_end: Instant::now() + session_timeout,
        }
    }

    /// Goes out with the next flush.
    pub(super) fn reply(&mut self, reply: &Reply) {
        self.output.extend_from_slice(&reply.to_wire());
    }

    /// The next command line.
    pub(super) async fn line(&mut self) -> Result<CommandLine, Ended> {
        loop {
            if self.output.len() > OUTPUT_MAX {
                self.flush().await?;
            }
            if let Some(line) = self.lines.next(&mut self.input) {
                return Ok(line);
            }
            self.fill(COMMAND_READ).await?;
        }
    }

    /// Waits until the peer says something, and leaves it in the buffer.
    pub(super) async fn hear(&mut self) -> Result<(), Ended> {
        self.fill(COMMAND_READ).await
    }

    /// Reads something, after writing what is to be written. `room`: for how much, when the buffer is empty.
    pub(super) async fn fill(&mut self, room: usize) -> Result<(), Ended> {
        self.flush().await?;
        if self.input.is_empty() && self.input.capacity() > 2 * room {
            self.input = BytesMut::new();
        }
        self.input.reserve(room);
        let deadline = self.deadline()?;
        match timeout_at(deadline, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0) | Err(_)) => Err(Ended::Gone),
            Ok(Ok(_)) => Ok(()),
            Err(_) => Err(self.overdue()),
        }
    }

    /// Reads this many bytes and drops them.
    pub(super) async fn skip(&mut self, mut size: u64) -> Result<(), Ended> {
        loop {
            let count = usize::try_from(size).unwrap_or(usize::MAX).min(self.input.len());
            self.input.advance(count);
            size -= count as u64;
            if size == 0 {
                return Ok(());
            }
            self.fill(CONTENT_READ).await?;
        }
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        if self.output.is_empty() {
            return Ok(());
        }
        let deadline = self.deadline()?;
        match timeout_at(deadline, self.write_out()).await {
            Ok(Ok(())) => Ok(()),
            // A peer that does not read its replies would not read a 421 either.
            Ok(Err(_)) | Err(_) => Err(Ended::Gone),
        }
    }

    /// Keeps count of what was written, so that nothing is written twice when it is dropped halfway.
    async fn write_out(&mut self) -> std::io::Result<()> {
        while !self.output.is_empty() {
            if self.stream.write_buf(&mut self.output).await? == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
        }
        self.output = BytesMut::new();
        self.stream.flush().await
    }

    /// Looked at before every wait: a stream that always has something to read would never let a timer win.
    fn deadline(&self) -> Result<Instant, Ended> {
        let now = Instant::now();
        if now >= self.session_end { Err(Ended::SessionOver) } else { Ok(self.session_end.min(now + self.idle_timeout)) }
    }

    fn overdue(&self) -> Ended {
        if Instant::now() >= self.session_end { Ended::SessionOver } else { Ended::Idle }
    }

    /// Changes to TLS: returns version and cipher suite. A handshake that fails ends the session, for after it nobody knows
    /// what the peer believes.
    pub(super) async fn encrypt(&mut self, config: Arc<ServerConfig>, go_ahead: &Reply) -> Result<String, Ended> {
        // What came before the handshake came in clear text and perhaps from somebody else: taken as said under TLS it would
        // be a command injection (CVE-2011-0411). An honest client waits for the 220, so this is done before it is written.
        self.drop_input().await;
        self.reply(go_ahead);
        self.flush().await?;
        let clear = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let accept = TlsAcceptor::from(config).accept(clear);
        match timeout(HANDSHAKE_MAX.min(self.idle_timeout), accept).await {
            Ok(Ok(stream)) => {
                let name = tls_name(stream.get_ref().1);
                self.stream = Box::new(stream);
                Ok(name)
            }
            Ok(Err(error)) => {
                tracing::debug!("TLS handshake failed: {error}");
                Err(Ended::Gone)
            }
            Err(_) => Err(Ended::Gone),
        }
    }

    /// Drops what was read, and what has arrived and was not read yet, without waiting for more.
    async fn drop_input(&mut self) {
        self.input = BytesMut::new();
        self.lines = LineReader::new(LINE_MAX);
        let mut scratch = [0; 1024];
        for _ in 0..LINGER_READS {
            let got_some = poll_fn(|context| {
                let mut scratch = ReadBuf::new(&mut scratch);
                let read = Pin::new(&mut self.stream).poll_read(context, &mut scratch);
                Poll::Ready(matches!(read, Poll::Ready(Ok(()))) && !scratch.filled().is_empty())
            });
            if !got_some.await {
                break;
            }
        }
    }

    /// Writes the last word and closes; the wire is of no use afterwards. `None`: the peer is gone already.
    pub(super) async fn close(&mut self, last_word: Option<Reply>) {
        let Some(last_word) = last_word else { return };
        self.reply(&last_word);
        let close = async {
            self.write_out().await?;
            self.stream.shutdown().await?;
            if !last_word.is_positive() {
                self.linger().await?;
            }
            std::io::Result::Ok(())
        };
        // However it ends: there is no one left to tell.
        let _ = timeout(CLOSE_MAX, close).await;
    }

    /// A socket closed while input waits in it is reset, and the peer may lose the reply that says why. So read on a little.
    async fn linger(&mut self) -> std::io::Result<()> {
        for _ in 0..LINGER_READS {
            self.input.clear();
            self.input.reserve(COMMAND_READ);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// `TLSv1.3 TLS_AES_256_GCM_SHA384`: the words of OpenSSL, which other servers write into `Received`.
fn tls_name(connection: &ServerConnection) -> String {
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLS",
    };
    let suite = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown");
    format!("{version} {}", suite.replace("TLS13_", "TLS_"))
}

#[cfg(test)]
mod tests;
