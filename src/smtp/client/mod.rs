//! The client side: connect, EHLO, STARTTLS when offered, hand messages over. It knows one session with one host; which
//! hosts, in what order, how often and what to remember about them is decided elsewhere.
//!
//! - [`open`]: greeting, EHLO or HELO, STARTTLS.
//! - [`transaction`]: MAIL, RCPT, DATA or BDAT, and what the replies mean for each recipient.
//! - [`commands`]: the command lines, with parameters only where the peer offers them.
//! - [`text`]: the content, streamed, byte-exact.
//! - [`callout`]: MAIL and RCPT alone, to learn whether an address exists.
//! - [`replies`]: the peer's replies, bounded.
//!
//! mail-send does what is one question and one answer: greeting, EHLO, STARTTLS, RSET, QUIT. From MAIL to the end of data
//! this module writes and reads by itself, because there mail-send 0.7
//! - loses all replies of a pipelined group when the peer says 421 and closes in the middle, so that a recipient who was
//!   refused for good would be tried again;
//! - rewrites enhanced codes above 255 (`451 4.7.500`, Exchange Online's throttling, becomes 4.7.255);
//! - sends the text in one piece, adds an empty line to each, and stuffs dots where there is no line (its `data`).
//!
//! On failure: opening returns a [`ConnectFailure`]; a message never fails as a whole, each recipient has an [`Outcome`].
//! Silence, nonsense and broken connections are always `Outcome::Retry`: after the final dot that may make a duplicate,
//! which is better than a loss (RFC 5321 §4.5.4.1).

mod callout;
mod commands;
mod open;
mod replies;
mod text;
mod transaction;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use mail_send::SmtpClient;
use tokio::time::Instant;

use crate::mail::{Envelope, Outcome, Rewrite};
use crate::outside::{Body, Stream, Transport};

use commands::Extensions;
use replies::Replies;

/// How long each stage may take (RFC 5321 §4.5.3.2).
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// The TCP connection, and again the TLS handshake.
    pub connect: Duration,
    /// Greeting, EHLO, MAIL, RCPT: 5 minutes.
    pub command: Duration,
    /// Reply to DATA: 2 minutes.
    pub data_init: Duration,
    /// Each block of the text: 3 minutes.
    pub data_block: Duration,
    /// Reply to the final dot: 10 minutes.
    pub data_end: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(30),
            command: Duration::from_secs(5 * 60),
            data_init: Duration::from_secs(2 * 60),
            data_block: Duration::from_secs(3 * 60),
            data_end: Duration::from_secs(10 * 60),
        }
    }
}

/// Whether to use STARTTLS where it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsUse {
    Opportunistic,
    /// An earlier handshake with this host failed.
    Never,
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The handshake failed: connect again with [`TlsUse::Never`] and remember it.
    Tls { why: String },
    /// The host is not there, does not answer in time, or refuses the session (4xx or 5xx greeting or EHLO): try the next
    /// host, or later. One line, with the peer's words if there were any.
    Host { why: String },
}

impl std::fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConnectFailure::Tls { why } => write!(f, "TLS handshake failed: {why}"),
            ConnectFailure::Host { why } => f.write_str(why),
        }
    }
}

/// A message to hand over.
pub struct Offer<'a> {
    pub envelope: &'a Envelope,
    /// Indices into `envelope.recipients`.
    pub recipients: &'a [usize],
    pub body: &'a Body,
    pub rewrite: &'a Rewrite,
    /// BDAT may be used where it is offered.
    pub chunking: bool,
}

/// A session with a next hop, ready for a message.
pub struct Connection {
    client: SmtpClient<Box<dyn Stream>>,
    replies: Replies,
    extensions: Extensions,
    /// The peer as outcomes name it.
    host: String,
    timeouts: Timeouts,
    opened_at: Instant,
    /// Offered so far.
    messages: u32,
    state: State,
}

/// Where the session stands between two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// MAIL may follow.
    Ready,
    /// A transaction was begun and not finished by the peer: RSET comes first.
    InTransaction,
    /// Nothing may be said any more.
    Broken,
}

/// Exchange ends a session after 10 minutes, even while it works (MSX message-rate-limits).
const AGE_MAX: Duration = Duration::from_secs(8 * 60);
/// A session that goes on for ever would keep a host from sharing its load.
const MESSAGES_MAX: u32 = 100;
/// What politeness at the end is worth.
const QUIT_WAIT: Duration = Duration::from_secs(2);

impl Connection {
    /// Opens a session as `helo`. `name`: the next hop's name or address for TLS.
    pub async fn open(
        transport: &dyn Transport,
        to: SocketAddr,
        name: &str,
        helo: &str,
        tls: TlsUse,
        timeouts: &Timeouts,
    ) -> Result<Connection, ConnectFailure> {
        let (client, extensions) = open::open(transport, to, name, helo, tls, timeouts).await?;
        Ok(Connection {
            client,
            replies: Replies::default(),
            extensions,
            host: host_text(name, to),
            timeouts: timeouts.clone(),
            opened_at: Instant::now(),
            messages: 0,
            state: State::Ready,
        })
    }

    /// Hands one message over; one outcome for each of `offer.recipients`, in their order. Never fails as a whole: a
    /// connection that breaks is an `Outcome::Retry` for those without an answer.
    pub async fn offer(&mut self, offer: &Offer<'_>) -> Vec<Outcome> {
        if offer.recipients.is_empty() {
            return Vec::new();
        }
        let mut answers = vec![None; offer.recipients.len()];
        let (Ok(rest) | Err(rest)) = self.hand_over(offer, &mut answers).await;
        answers.into_iter().map(|answer| answer.unwrap_or_else(|| rest.clone())).collect()
    }

    /// Fit for another message: nothing went wrong and it is younger than the limits of its peer.
    pub fn is_reusable(&self) -> bool {
        self.state != State::Broken && self.opened_at.elapsed() < AGE_MAX && self.messages < MESSAGES_MAX
    }

    /// QUIT, without waiting long.
    pub async fn quit(mut self) {
        if self.state != State::Broken {
            // Whatever comes back, the session is over.
            let _ = tokio::time::timeout(QUIT_WAIT, self.client.cmd("QUIT\r\n")).await;
        }
    }
}

/// `name [address]:port`, or `address:port` when there is no name.
fn host_text(name: &str, to: SocketAddr) -> String {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if bare.is_empty() || bare.parse::<std::net::IpAddr>().is_ok() {
        to.to_string()
    } else {
        format!("{name} [{}]:{}", to.ip(), to.port())
    }
}
