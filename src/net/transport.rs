//! Outgoing TCP, and opportunistic TLS on it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::outside::{Pending, Stream, Transport};

use super::tls;

/// Outgoing TCP and TLS.
pub struct Tcp {
    connector: TlsConnector,
}

impl Tcp {
    pub fn new() -> Tcp {
        Tcp { connector: TlsConnector::from(Arc::new(tls::any_server())) }
    }
}

impl Default for Tcp {
    fn default() -> Tcp {
        Tcp::new()
    }
}

impl Transport for Tcp {
    fn connect<'a>(&'a self, to: SocketAddr, wait: Duration) -> Pending<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = timeout(wait, TcpStream::connect(to)).await.map_err(|_| too_late(wait))??;
            // Commands are small and each waits for its reply: nothing is gained by waiting for more to send.
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn start_tls<'a>(
        &'a self,
        stream: Box<dyn Stream>,
        name: &'a str,
        wait: Duration,
    ) -> Pending<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let handshake = self.connector.connect(server_name(name), stream);
            let stream = timeout(wait, handshake).await.map_err(|_| too_late(wait))??;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// What goes into SNI. rustls sends none for an address (RFC 6066 §3), so one stands for every text that is no host name.
fn server_name(name: &str) -> ServerName<'static> {
    let name = name.trim_end_matches('.');
    ServerName::try_from(name.to_owned()).unwrap_or(ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()))
}

fn too_late(wait: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {}", humantime::format_duration(wait)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    const WAIT: Duration = Duration::from_secs(10);

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        (listener, at)
    }

    #[tokio::test]
    async fn connects_to_who_listens() {
        let (listener, at) = listener().await;
        let mut stream = Tcp::new().connect(at, WAIT).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut seen = [0; 5];
        peer.read_exact(&mut seen).await.unwrap();
        assert_eq!(&seen, b"hello");
        drop((peer, listener));
        let refused = Tcp::new().connect(at, WAIT).await.err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
    }

    /// A server with a certificate that nobody vouches for; says which name it was asked for, then "hello".
    async fn tls_session(name: &str) -> io::Result<(Option<String>, [u8; 5])> {
        let (listener, at) = listener().await;
        let directory = tempfile::tempdir().unwrap();
        let files = tls::tests::files(directory.path(), "mx.customer.example");
        let acceptor = TlsAcceptor::from(tls::server_tls(&files).unwrap());
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let asked = stream.get_ref().1.server_name().map(str::to_owned);
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            asked
        });
        let transport = Tcp::new();
        let stream = transport.connect(at, WAIT).await?;
        let mut stream = transport.start_tls(stream, name, WAIT).await?;
        let mut seen = [0; 5];
        stream.read_exact(&mut seen).await?;
        Ok((server.await.unwrap(), seen))
    }

    #[tokio::test]
    async fn any_certificate_is_good_enough() {
        let (asked, seen) = tls_session("another.example").await.unwrap();
        assert_eq!((asked.as_deref(), &seen), (Some("another.example"), b"hello"));
    }

    #[tokio::test]
    async fn names_that_cannot_be_sent_are_left_out() {
        for name in ["192.0.2.1", "[192.0.2.1]", "", "a b"] {
            assert_eq!(tls_session(name).await.unwrap().0, None, "{name}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_speaks_no_tls_fails_the_handshake() {
        let (listener, at) = listener().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"500 what?\r\n").await.unwrap();
            stream
        });
        let transport = Tcp::new();
        let stream = transport.connect(at, WAIT).await.unwrap();
        assert!(transport.start_tls(stream, "mx.customer.example", WAIT).await.is_err());
        drop(server.await.unwrap());
    }

    #[tokio::test]
    async fn a_peer_that_keeps_silent_fails_the_handshake_in_time() {
        let (listener, at) = listener().await;
        let transport = Tcp::new();
        let stream = transport.connect(at, WAIT).await.unwrap();
        let error = transport.start_tls(stream, "mx.customer.example", Duration::from_millis(20)).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(listener);
    }
}
