//! A network with customer servers in it, at whatever addresses a test likes.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::outside::{Pending, Stream, Transport};

use super::server::{Reach, Server};
use super::session::{HANDSHAKE, HANDSHAKE_DONE};

/// What a connection holds in each direction, in bytes: as much as a real one usually does.
const BUFFER: usize = 64 * 1024;

/// Which server is at which address. At any other address connections are refused. Cloning shares it.
#[derive(Clone, Default)]
pub struct Network {
    hosts: Arc<Mutex<Hosts>>,
}

#[derive(Default)]
struct Hosts {
    servers: HashMap<SocketAddr, Server>,
    tried: Vec<SocketAddr>,
}

impl Network {
    pub fn new() -> Network {
        Network::default()
    }

    /// Building; `at` is `address:port`, and a mistake in it panics.
    pub fn host(self, at: &str, server: &Server) -> Network {
        let at = at.parse().unwrap_or_else(|error| panic!("{at}: {error}"));
        self.hosts().servers.insert(at, server.clone());
        self
    }

    /// Every address that was connected to, or tried, in order.
    pub fn tried(&self) -> Vec<SocketAddr> {
        self.hosts().tried.clone()
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, to: SocketAddr) -> Option<Server> {
        let mut hosts = self.hosts();
        hosts.tried.push(to);
        hosts.servers.get(&to).cloned()
    }
}

impl Transport for Network {
    fn connect<'a>(&'a self, to: SocketAddr, wait: Duration) -> Pending<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let Some(server) = self.find(to) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            match server.reach() {
                Reach::Listens => {}
                Reach::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
                Reach::Nowhere => {
                    tokio::time::sleep(wait).await;
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            let (ours, theirs) = tokio::io::duplex(BUFFER);
            tokio::spawn(server.serve(theirs));
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }

    /// No encryption: a line in place of the handshake, and the stream goes on in clear text.
    fn start_tls<'a>(
        &'a self,
        mut stream: Box<dyn Stream>,
        _name: &'a str,
        wait: Duration,
    ) -> Pending<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let handshake = async {
                stream.write_all(HANDSHAKE).await?;
                let mut answer = [0; HANDSHAKE_DONE.len()];
                stream.read_exact(&mut answer).await?;
                io::Result::Ok(answer == *HANDSHAKE_DONE)
            };
            match timeout(wait, handshake).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))? {
                true => Ok(stream),
                false => Err(io::Error::new(io::ErrorKind::InvalidData, "simulated handshake failure")),
            }
        })
    }
}
