use tokio::io::{DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer};

use super::*;
use crate::mail::Enhanced;

const MINUTE: Duration = Duration::from_secs(60);

fn wire(buffer: usize) -> (Wire, DuplexStream) {
    let (ours, theirs) = duplex(buffer);
    (Wire::new(Box::new(ours), 5 * MINUTE, 60 * MINUTE), theirs)
}

async fn line(wire: &mut Wire) -> String {
    match wire.line().await {
        Ok(CommandLine::Line(line)) => String::from_utf8(line.to_vec()).unwrap(),
        other => format!("{other:?}"),
    }
}

async fn read(stream: &mut DuplexStream) -> String {
    let mut some = vec![0; 65_536];
    let count = stream.read(&mut some).await.unwrap();
    String::from_utf8(some[..count].to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn replies_to_a_pipelined_group_go_out_together() {
    let (mut wire, mut peer) = wire(65_536);
    peer.write_all(b"NOOP\r\nRSET\r\nNO").await.unwrap();
    assert_eq!(line(&mut wire).await, "NOOP");
    wire.reply(&Reply::ok());
    assert_eq!(line(&mut wire).await, "RSET");
    wire.reply(&Reply::ok());
    assert!(timeout(MINUTE, read(&mut peer)).await.is_err(), "nothing is written while a command waits");
    assert!(timeout(MINUTE, wire.line()).await.is_err());
    assert_eq!(read(&mut peer).await, "250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n");
    peer.write_all(b"OP\r\n").await.unwrap();
    assert_eq!(line(&mut wire).await, "NOOP", "waiting can be given up and taken up again");
}

#[tokio::test(start_paused = true)]
async fn silence_and_long_sessions_end() {
    let (mut wire, mut peer) = wire(1000);
    let began = Instant::now();
    assert!(matches!(wire.line().await, Err(Ended::Idle)));
    assert_eq!(began.elapsed().as_secs(), 300);
    let drip = tokio::spawn(async move {
        while peer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(MINUTE).await;
        }
    });
    assert!(matches!(wire.fill(10).await, Ok(())));
    assert!(matches!(wire.line().await, Err(Ended::SessionOver)));
    assert_eq!(began.elapsed().as_secs(), 3600);
    drop(wire);
    drip.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_gone() {
    let (mut wire, _peer) = wire(16);
    wire.reply(&Reply::greylisted(300));
    assert!(matches!(wire.line().await, Err(Ended::Gone)));
}

#[tokio::test]
async fn a_peer_that_closes_is_gone() {
    let (mut wire, peer) = wire(1000);
    drop(peer);
    assert!(matches!(wire.line().await, Err(Ended::Gone)));
    wire.close(Some(Reply::ok())).await;
}

#[tokio::test]
async fn whatever_comes_in_the_buffers_stay_small() {
    let (mut wire, mut peer) = wire(1 << 20);
    peer.write_all(&b"x".repeat(1_000_000)).await.unwrap();
    peer.write_all(b"\r\nNOOP\r\n").await.unwrap();
    assert!(matches!(wire.line().await, Ok(CommandLine::TooLong)));
    assert!(wire.input.capacity() <= 8 * 1024, "{}", wire.input.capacity());
    assert_eq!(line(&mut wire).await, "NOOP");
    peer.write_all(&b"x".repeat(500_000)).await.unwrap();
    wire.skip(499_999).await.unwrap();
    assert!(wire.input.capacity() <= 64 * 1024, "{}", wire.input.capacity());
    peer.write_all(b"\r\n").await.unwrap();
    assert_eq!(line(&mut wire).await, "x");
    assert!(timeout(Duration::from_millis(1), wire.line()).await.is_err());
    assert!(wire.input.capacity() <= 4 * 1024, "idle again: {}", wire.input.capacity());
}

#[tokio::test(start_paused = true)]
async fn the_last_word_reaches_a_peer_that_is_still_sending() {
    let (mut wire, mut peer) = wire(4096);
    peer.write_all(&b"NOOP\r\n".repeat(500)).await.unwrap();
    wire.close(Some(Reply::new(421, Enhanced(4, 7, 0), "Too many errors, closing"))).await;
    drop(wire);
    assert_eq!(read(&mut peer).await, "421 4.7.0 Too many errors, closing\r\n");
    assert_eq!(read(&mut peer).await, "");
}

fn certificate() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["mx1.isp.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

#[tokio::test]
async fn what_was_said_before_the_handshake_is_dropped() {
    let (server, client) = certificate();
    let (mut wire, mut peer) = wire(65_536);
    // More than one read takes: some of it waits in the buffer, some still in the socket.
    peer.write_all(format!("STARTTLS\r\n{}", "MAIL FROM:<injected@evil.example>\r\n".repeat(200)).as_bytes()).await.unwrap();
    assert_eq!(line(&mut wire).await, "STARTTLS");
    let go_ahead = Reply::new(220, Enhanced(2, 0, 0), "Ready to start TLS");
    let peer = tokio::spawn(async move {
        assert_eq!(read(&mut peer).await, "220 2.0.0 Ready to start TLS\r\n");
        let name = "mx1.isp.example".try_into().unwrap();
        let mut peer = TlsConnector::from(client).connect(name, peer).await.unwrap();
        peer.write_all(b"EHLO a.example\r\n").await.unwrap();
        let mut reply = String::new();
        peer.read_to_string(&mut reply).await.unwrap();
        reply
    });
    let tls = wire.encrypt(server, &go_ahead).await.unwrap();
    assert_eq!(tls, "TLSv1.3 TLS_AES_256_GCM_SHA384");
    assert_eq!(line(&mut wire).await, "EHLO a.example");
    wire.close(Some(Reply::ok())).await;
    drop(wire);
    assert_eq!(peer.await.unwrap(), "250 2.0.0 Ok\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_fails_or_hangs_ends_the_session() {
    let (server, _) = certificate();
    let (mut wire, mut peer) = wire(65_536);
    let talker = tokio::spawn(async move {
        read(&mut peer).await;
        peer.write_all(b"EHLO again in clear text\r\n").await.unwrap();
        peer
    });
    assert!(matches!(wire.encrypt(Arc::clone(&server), &Reply::ok()).await, Err(Ended::Gone)));
    talker.await.unwrap();
    let (mut wire, _silent) = self::wire(65_536);
    let began = Instant::now();
    assert!(matches!(wire.encrypt(server, &Reply::ok()).await, Err(Ended::Gone)));
    assert_eq!(began.elapsed(), HANDSHAKE_MAX);
}
