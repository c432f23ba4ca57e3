//! Sockets and DNS, made real: the resolver (hickory), outgoing connections (tokio, rustls), certificates for STARTTLS.
//! It decides nothing: who is asked and connected to, and what an answer means, is the caller's.

mod resolver;
mod tls;
mod transport;

pub use resolver::Dns;
pub use tls::server_tls;
pub use transport::Tcp;
