//! Sockets and DNS, made real: the resolver (hickory), outgoing connections (tokio, rustls), certificates for STARTTLS.

// (skeleton: types and signatures)

use std::io;
use std::sync::Arc;

use crate::config;

/// DNS through hickory.
pub struct Dns {}

impl Dns {
    pub fn new(settings: &config::Dns) -> io::Result<Dns> {
        let _ = settings;
        todo!()
    }
}

/// Outgoing TCP and TLS.
pub struct Tcp {}

impl Tcp {
    pub fn new() -> Tcp {
        todo!()
    }
}

impl Default for Tcp {
    fn default() -> Tcp {
        Tcp::new()
    }
}

/// Reads certificate and key for STARTTLS. The error names the file.
pub fn server_tls(files: &config::TlsFiles) -> Result<Arc<rustls::ServerConfig>, String> {
    let _ = files;
    todo!()
}
