//! The client side: connect, EHLO, STARTTLS when offered, hand messages over. Uses mail-send for commands and replies; the
//! text is written here, streamed and byte-exact, because mail-send's `data` is not safe for it (docs/ARCHITECTURE.md).

use std::net::SocketAddr;
use std::time::Duration;

use crate::mail::{Envelope, Outcome, Rewrite};
use crate::outside::{Body, Transport};

/// How long each stage may take (RFC 5321 §4.5.3.2).
#[derive(Clone, Debug)]
pub struct Timeouts {
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

/// Whether to use STARTTLS where it is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsUse {
    Opportunistic,
    /// An earlier handshake with this host failed.
    Never,
}

/// A session with a next hop, ready for a message.
pub struct Connection {}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// The handshake failed: connect again with [`TlsUse::Never`] and remember it.
    Tls { why: String },
    /// The host is not there, does not answer in time, or refuses the session (4xx or 5xx greeting or EHLO): try the next
    /// host, or later. One line, with the peer's words if there were any.
    Host { why: String },
}

/// A message to hand over.
pub struct Offer<'a> {
    pub envelope: &'a Envelope,
    /// Indices into `envelope.recipients`.
    pub recipients: &'a [usize],
    pub body: &'a Body,
    pub rewrite: &'a Rewrite,
}

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
        let _ = (transport, to, name, helo, tls, timeouts);
        todo!()
    }

    /// Hands one message over; one outcome for each of `offer.recipients`, in their order. Never fails as a whole: a
    /// connection that breaks is an `Outcome::Retry` for those without an answer.
    pub async fn offer(&mut self, offer: &Offer<'_>) -> Vec<Outcome> {
        let _ = offer;
        todo!()
    }

    /// Fit for another message: nothing went wrong and it is younger than the limits of its peer.
    pub fn is_reusable(&self) -> bool {
        todo!()
    }

    /// QUIT, without waiting long.
    pub async fn quit(self) {
        todo!()
    }
}
