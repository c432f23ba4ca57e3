//! The five seams: everything outside the process that the gateway depends on. Each has a real implementor and a simulated
//! one in `sim`. Anything that is not outside the process is a function or a struct, not a trait.
//!
//! | seam | real | simulated |
//! |---|---|---|
//! | [`Clock`] | `daemon::clock` | `sim::Clock` |
//! | [`Resolver`] | `net::resolver` | `sim::Dns` |
//! | [`Scanner`] | `scan` | `sim::Scanner` |
//! | [`Disk`] | `store::disk` | `sim::Disk` |
//! | [`Transport`] | `net::transport` | `sim::Network` |

mod body;
mod disk;

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::mail::{Domain, Timestamp, Verdict};

pub use body::Body;
pub use disk::{Disk, DiskFile, read_exact_at};

/// What the async methods of the seams return: a future that can be boxed, so that the seams can be trait objects.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The time of day, and waiting for it.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
    /// Returns at once when `moment` has passed.
    fn sleep_until(&self, moment: Timestamp) -> Pending<'static, ()>;
}

/// Questions to DNS. Every answer is bounded by a timeout of the implementor's.
pub trait Resolver: Send + Sync + 'static {
    /// A and AAAA of a name, CNAMEs followed.
    fn addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<IpAddr>, DnsError>>;
    /// MX of a domain, best preference first. `Err(NotFound)` when it has none: then its own address counts (RFC 5321 §5.1).
    fn mail_exchangers<'a>(&'a self, domain: &'a Domain) -> Pending<'a, Result<Vec<MailExchanger>, DnsError>>;
    /// The PTR names of an address.
    fn names<'a>(&'a self, address: IpAddr) -> Pending<'a, Result<Vec<Domain>, DnsError>>;
    /// TXT of a name, CNAMEs followed: each record with its character strings joined, as bytes (RFC 7208 §3.3).
    fn texts<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Vec<u8>>, DnsError>>;
    /// A of a name, CNAMEs followed, as DNS lists answer (RFC 5782 §2.1).
    fn v4_addresses<'a>(&'a self, name: &'a Domain) -> Pending<'a, Result<Vec<Ipv4Addr>, DnsError>>;
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailExchanger {
    pub preference: u16,
    /// `None`: the null MX of RFC 7505, the domain takes no mail.
    pub host: Option<Domain>,
}

/// Why DNS gave no answer. The two must never be mixed up: only `NotFound` is knowledge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// NXDOMAIN or no such record.
    #[error("no such name or record in DNS")]
    NotFound,
    /// Timeout, SERVFAIL, REFUSED, nonsense: ask again later. The cause, for the log.
    #[error("DNS did not answer: {0}")]
    Temporary(String),
}

/// The virus scanner.
pub trait Scanner: Send + Sync + 'static {
    /// Reads the whole body. Never returns an error: what goes wrong is [`Verdict::Unavailable`], within a bounded time.
    fn scan<'a>(&'a self, body: &'a Body) -> Pending<'a, Verdict>;
    /// How it is doing, as last proved by the canaries; cheap.
    fn health(&self) -> ScannerHealth;
}

/// What the canaries last proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScannerHealth {
    /// Finds EICAR and passes a clean text. The engine's own version line.
    Up { version: String },
    /// Not usable, and why.
    Away { why: String },
}

/// A connection, of whatever kind.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Connections that the gateway opens.
pub trait Transport: Send + Sync + 'static {
    /// Opens a TCP connection within `timeout`.
    fn connect<'a>(&'a self, to: SocketAddr, timeout: Duration) -> Pending<'a, io::Result<Box<dyn Stream>>>;
    /// Upgrades a connection to TLS without verifying the certificate (opportunistic, RFC 3207 §4.1: a certificate that
    /// does not verify is still better than clear text). `name`: for SNI, left out when it is no valid one.
    fn start_tls<'a>(
        &'a self,
        stream: Box<dyn Stream>,
        name: &'a str,
        timeout: Duration,
    ) -> Pending<'a, io::Result<Box<dyn Stream>>>;
}
