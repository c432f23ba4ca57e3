//! SMTP, both sides, without sockets. The server session is a state machine: lines and answers in, steps out. The client is a
//! plain async function over any stream. Neither knows of settings files, queues, DNS or clocks.

mod client;
mod data;
mod line;
mod server;
mod tls_memory;

pub use client::{ConnectFailure, Connection, Offer, Timeouts, TlsUse};
pub use data::{DataError, DataReader, DataStatus};
pub use line::{CommandLine, LineReader};
pub use server::{Claims, Incoming, Session, SessionLimits, Step, Transaction};
pub use tls_memory::TlsMemory;
