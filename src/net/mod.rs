//! Sockets and DNS, made real: the resolver (hickory), outgoing connections (tokio, rustls), certificates for STARTTLS,
//! commands and webhooks that tell operators.
//! It decides nothing: who is asked and connected to, and what an answer means, is the caller's.

mod hooks;
mod resolver;
mod tls;
mod transport;

pub use hooks::{post_json, run_hook};
pub use resolver::Dns;
pub use tls::server_tls;
pub use transport::Tcp;
