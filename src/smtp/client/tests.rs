//! The client against simulated servers, which are strict about what was offered.

use std::net::IpAddr;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::mail::{Address, Client, IdSource, MailParameters, Protocol, Recipient, ReversePath, Scope, Segment, Timestamp};
use crate::sim::{At, Do, Network, Received, Server, Way};

const AT: &str = "192.0.2.25:25";
const HOST: &str = "mail.customer.example [192.0.2.25]:25";
const TEXT: &[u8] = b"Subject: hi\r\n\r\nhello\r\n";

pub(super) fn envelope(from: &str, to: &[&str]) -> Envelope {
    Envelope {
        id: IdSource::new(None).next(Timestamp(1)).message(1),
        received_at: Timestamp(1),
        client: Client {
            address: IpAddr::from([192, 0, 2, 1]),
            reverse_name: None,
            reverse_confirmed: false,
            helo: "sender.example".into(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: from.parse::<ReversePath>().unwrap(),
        parameters: MailParameters::default(),
        recipients: to.iter().map(|address| Recipient::new(Address::parse(address).unwrap())).collect(),
        size: 0,
    }
}

async fn open_as(server: &Server, tls: TlsUse) -> Result<Connection, ConnectFailure> {
    let network = Network::new().host(AT, server);
    let to = AT.parse().unwrap();
    Connection::open(&network, to, "mail.customer.example", "mx1.isp.example", tls, &Timeouts::default()).await
}

async fn open(server: &Server) -> Connection {
    open_as(server, TlsUse::Opportunistic).await.unwrap()
}

/// Offers `text` for all recipients of the envelope.
async fn offer(connection: &mut Connection, envelope: &Envelope, text: &[u8]) -> Vec<Outcome> {
    let recipients: Vec<_> = (0..envelope.recipients.len()).collect();
    let body = Body::Memory(Bytes::copy_from_slice(text));
    let rewrite = Rewrite::unchanged(body.size());
    connection.offer(&Offer { envelope, recipients: &recipients, body: &body, rewrite: &rewrite, chunking: true }).await
}

/// One small message on a new connection; the connection for a look at it afterwards.
async fn deliver(server: &Server, to: &[&str]) -> (Vec<Outcome>, Connection) {
    let mut connection = open(server).await;
    let outcomes = offer(&mut connection, &envelope("joe@sender.example", to), TEXT).await;
    (outcomes, connection)
}

fn delivered(reply: &str) -> Outcome {
    Outcome::Delivered { host: HOST.into(), reply: reply.into() }
}

fn queued() -> Outcome {
    delivered("250 2.6.0 Queued mail for delivery")
}

fn retry(scope: Scope, reply: &str) -> Outcome {
    Outcome::Retry { scope, host: Some(HOST.into()), reply: reply.into() }
}

fn failed(reply: &str) -> Outcome {
    Outcome::Failed { host: Some(HOST.into()), reply: reply.into() }
}

fn only(server: &Server) -> Received {
    let mut received = server.received();
    assert_eq!(received.len(), 1, "one message arrives");
    received.remove(0)
}

const A: &str = "a@customer.example";
const B: &str = "b@customer.example";
const C: &str = "c@customer.example";

// Opening

#[tokio::test]
async fn exchange_is_talked_to_in_tls() {
    let server = Server::exchange();
    let (outcomes, connection) = deliver(&server, &[A, B]).await;
    assert_eq!(outcomes, [queued(), queued()]);
    assert!(connection.is_reusable());
    connection.quit().await;
    let size = TEXT.len();
    assert_eq!(
        server.commands(),
        [
            "EHLO mx1.isp.example",
            "STARTTLS",
            "EHLO mx1.isp.example",
            &format!("MAIL FROM:<joe@sender.example> SIZE={size}"),
            "RCPT TO:<a@customer.example>",
            "RCPT TO:<b@customer.example>",
            &format!("BDAT {size} LAST"),
            "QUIT"
        ]
    );
    let received = only(&server);
    assert!(received.encrypted);
    assert_eq!((received.way, received.content.as_slice()), (Way::Bdat, TEXT));
    assert_eq!(
        (received.reverse_path.as_str(), received.recipients.as_slice()),
        ("joe@sender.example", &[A.into(), B.into()][..])
    );
}

#[tokio::test]
async fn a_host_without_ehlo_is_talked_to_with_helo_one_command_at_a_time() {
    let server = Server::ancient();
    let (outcomes, _) = deliver(&server, &[A, B]).await;
    assert_eq!(outcomes, [queued(), queued()]);
    let expected = ["EHLO mx1.isp.example", "HELO mx1.isp.example", "MAIL FROM:<joe@sender.example>"];
    assert_eq!(server.commands()[..3], expected);
    assert_eq!(only(&server).way, Way::Data);
}

#[tokio::test]
async fn starttls_that_is_refused_leaves_clear_text() {
    for refusal in ["454 4.7.0 TLS not available", "501 5.5.4 No"] {
        let server = Server::exchange().at(At::StartTls, Do::say(refusal));
        assert_eq!(deliver(&server, &[A]).await.0, [queued()]);
        assert!(!only(&server).encrypted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_fails_is_told_apart_and_can_be_left_out() {
    for what in [Do::Drop, Do::Hang, Do::say("15 no cipher in common")] {
        let server = Server::exchange().at(At::Handshake, what.clone());
        let failure = open_as(&server, TlsUse::Opportunistic).await.err();
        assert!(matches!(failure, Some(ConnectFailure::Tls { .. })), "{what:?}: {failure:?}");
        assert!(open_as(&server, TlsUse::Never).await.is_ok());
        assert!(!server.commands()[2..].contains(&"STARTTLS".to_owned()));
    }
}

#[tokio::test]
async fn a_tls_session_that_ends_at_once_is_a_failed_handshake() {
    let server = Server::exchange().once(At::Ehlo, Do::say("250-customer.example\r\n250 STARTTLS")).once(At::Ehlo, Do::Drop);
    assert!(matches!(open_as(&server, TlsUse::Opportunistic).await, Err(ConnectFailure::Tls { .. })));
}

#[track_caller]
fn refused_with(opened: Result<Connection, ConnectFailure>, words: &str) {
    match opened.err() {
        Some(ConnectFailure::Host { why }) => assert!(why.contains(words), "{why:?} should say {words:?}"),
        other => panic!("{other:?} should be the host's failure"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_takes_no_session_is_named_with_its_words() {
    let tls = TlsUse::Opportunistic;
    let busy = "421 4.3.2 The maximum number of concurrent connections has exceeded a limit";
    refused_with(open_as(&Server::new().at(At::Greeting, Do::say(busy)), tls).await, busy);
    refused_with(open_as(&Server::new().at(At::Greeting, Do::say("554-5.7.1 No\r\n554 5.7.1 way")), tls).await, "554 5.7.1 No");
    refused_with(open_as(&Server::new().at(At::Greeting, Do::say("421 4.7.500 Busy")), tls).await, "421 Busy");
    refused_with(open_as(&Server::new().at(At::Greeting, Do::say("HTTP/1.1 400 Bad")), tls).await, "not SMTP");
    refused_with(open_as(&Server::new().at(At::Greeting, Do::Drop), tls).await, "closed");
    refused_with(open_as(&Server::new().at(At::Greeting, Do::Hang), tls).await, "no answer to the greeting within 5m");
    refused_with(open_as(&Server::new().at(At::Ehlo, Do::Hang), tls).await, "no answer to EHLO within 5m");
    refused_with(open_as(&Server::new().at(At::Ehlo, Do::say("451 4.3.0 later")), tls).await, "451 4.3.0 later");
    refused_with(open_as(&Server::ancient().at(At::Helo, Do::say("550 go away")), tls).await, "550 go away");
    let server = Server::new();
    server.go_down();
    refused_with(open_as(&server, tls).await, "cannot connect: connection refused");
    server.vanish();
    refused_with(open_as(&server, tls).await, "cannot connect: timed out");
}

// Refusals

#[tokio::test]
async fn each_recipient_has_its_own_answer() {
    for server in [Server::new(), Server::exchange(), Server::ancient()] {
        let server = server.recipient(A, Do::say("550 5.1.1 User unknown")).recipient(B, Do::say("451 4.2.1 Mailbox busy"));
        let (outcomes, mut connection) = deliver(&server, &[A, B, C]).await;
        assert_eq!(outcomes, [failed("550 5.1.1 User unknown"), retry(Scope::Recipient, "451 4.2.1 Mailbox busy"), queued()]);
        assert_eq!(only(&server).recipients, [C]);
        assert!(connection.is_reusable());
        let next = offer(&mut connection, &envelope("", &[C]), TEXT).await;
        assert_eq!(next, [queued()]);
    }
}

#[tokio::test]
async fn when_all_recipients_are_refused_no_text_is_sent_and_the_session_goes_on() {
    for data_reply in [None, Some("354 go ahead"), Some("503 5.5.1 no recipients")] {
        let mut server = Server::new().recipient(A, Do::say("550 5.1.1 User unknown"));
        if let Some(reply) = data_reply {
            server = server.once(At::Data, Do::say(reply));
        }
        let (outcomes, mut connection) = deliver(&server, &[A]).await;
        assert_eq!(outcomes, [failed("550 5.1.1 User unknown")]);
        assert_eq!(server.received(), []);
        assert_eq!(offer(&mut connection, &envelope("", &[B]), TEXT).await, [queued()]);
        assert!(server.commands().contains(&"RSET".to_owned()));
        assert_eq!(only(&server).recipients, [B]);
    }
}

#[tokio::test]
async fn a_refused_sender_is_the_answer_for_all() {
    for server in [Server::new(), Server::exchange(), Server::ancient()] {
        for (reply, outcome) in [
            ("550 5.7.1 Sender denied", failed("550 5.7.1 Sender denied")),
            ("451 4.7.500 Server busy", retry(Scope::Message, "451 4.7.500 Server busy")),
            ("452 4.3.1 Insufficient system resources", retry(Scope::Host, "452 4.3.1 Insufficient system resources")),
        ] {
            let server = server.clone().once(At::Mail, Do::say(reply));
            let (outcomes, mut connection) = deliver(&server, &[A, B]).await;
            assert_eq!(outcomes, [outcome.clone(), outcome]);
            assert!(connection.is_reusable());
            assert_eq!(offer(&mut connection, &envelope("", &[B]), TEXT).await, [queued()]);
        }
    }
}

#[tokio::test]
async fn what_was_sent_ahead_of_a_refused_sender_fails_nobody() {
    // RCPT gets 503, and the session ends before DATA is answered.
    let server = Server::new().at(At::Mail, Do::say("451 4.7.1 Later")).at(At::Data, Do::Drop);
    let (outcomes, connection) = deliver(&server, &[A, B]).await;
    assert_eq!(outcomes, [retry(Scope::Message, "451 4.7.1 Later"), retry(Scope::Message, "451 4.7.1 Later")]);
    assert!(!connection.is_reusable());
}

#[tokio::test]
async fn a_421_in_the_middle_is_the_hosts_and_keeps_what_was_answered() {
    for server in [Server::new(), Server::exchange(), Server::ancient()] {
        let bye = "421 4.3.2 Service not active";
        let server = server.recipient(A, Do::say("550 5.1.1 User unknown")).recipient(C, Do::say(bye));
        let (outcomes, mut connection) = deliver(&server, &[A, B, C]).await;
        assert_eq!(outcomes, [failed("550 5.1.1 User unknown"), retry(Scope::Host, bye), retry(Scope::Host, bye)]);
        assert!(!connection.is_reusable());
        let outcomes = offer(&mut connection, &envelope("", &[B]), TEXT).await;
        assert_eq!(outcomes, [retry(Scope::Message, "the session is over")]);
    }
}

#[tokio::test]
async fn too_many_recipients_come_next_and_are_not_asked_now() {
    let addresses: Vec<_> = (0..250).map(|number| format!("user{number}@customer.example")).collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    for server in
        [Server::exchange().recipients_max(120), Server::new().recipients_max(120), Server::ancient().recipients_max(120)]
    {
        let (outcomes, mut connection) = deliver(&server, &addresses).await;
        assert!(outcomes[..120].iter().all(|outcome| *outcome == queued()));
        assert!(outcomes[120..].iter().all(|outcome| *outcome == retry(Scope::Recipient, "452 4.5.3 Too many recipients")));
        let asked = server.commands().iter().filter(|command| command.starts_with("RCPT")).count();
        assert!(asked <= 200, "{asked} were asked");
        let rest = offer(&mut connection, &envelope("", &addresses[120..200]), TEXT).await;
        assert!(rest.iter().all(|outcome| *outcome == queued()));
    }
}

#[tokio::test]
async fn refusals_at_data_and_at_the_end_are_for_who_was_accepted() {
    for (at, reply, outcome) in [
        (At::Data, "451 4.3.0 later", retry(Scope::Message, "451 4.3.0 later")),
        (At::Data, "554 5.7.1 no", failed("554 5.7.1 no")),
        (At::Data, "421 4.3.2 bye", retry(Scope::Host, "421 4.3.2 bye")),
        (At::End, "550 5.7.1 Message refused", failed("550 5.7.1 Message refused")),
        (At::End, "451 4.4.0 Shadow copy failed", retry(Scope::Message, "451 4.4.0 Shadow copy failed")),
        (At::End, "432 4.3.2 STOREDRV busy", retry(Scope::Message, "432 4.3.2 STOREDRV busy")),
        (At::End, "452 4.3.1 No space", retry(Scope::Host, "452 4.3.1 No space")),
        (At::End, "421 4.3.2 bye", retry(Scope::Host, "421 4.3.2 bye")),
        (At::End, "421 4.4.2 too slow", retry(Scope::Message, "421 4.4.2 too slow")),
    ] {
        for server in [Server::new(), Server::exchange(), Server::ancient()] {
            let server = server.without("CHUNKING").at(at, Do::say(reply)).recipient(A, Do::say("550 5.1.1 unknown"));
            let (outcomes, _) = deliver(&server, &[A, B]).await;
            assert_eq!(outcomes, [failed("550 5.1.1 unknown"), outcome.clone()], "{at:?} {reply}");
            assert_eq!(server.received(), []);
        }
    }
    let server = Server::exchange().at(At::End, Do::say("550 5.7.1 Message refused"));
    assert_eq!(deliver(&server, &[A]).await.0, [failed("550 5.7.1 Message refused")]);
}

#[tokio::test]
async fn a_peers_reply_is_kept_as_one_clean_line() {
    let server = Server::new().at(At::End, Do::say("250-2.6.0 <id@customer.example>\r\n250 2.6.0 Queued\tfor\x1bdelivery"));
    assert_eq!(deliver(&server, &[A]).await.0, [delivered("250 2.6.0 <id@customer.example> Queued for?delivery")]);
}

// Silence, and broken connections

#[tokio::test(start_paused = true)]
async fn silence_ends_in_a_retry() {
    for (at, scope, words) in [
        (At::Mail, Scope::Host, "no reply to MAIL within 5m"),
        (At::Rcpt, Scope::Host, "no reply to RCPT within 5m"),
        (At::Data, Scope::Host, "no reply to DATA within 2m"),
        (At::End, Scope::Message, "no reply to the final dot within 10m"),
    ] {
        for server in [Server::new(), Server::ancient()] {
            let (outcomes, connection) = deliver(&server.at(at, Do::Hang), &[A]).await;
            assert_eq!(outcomes, [retry(scope, words)]);
            assert!(!connection.is_reusable());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_ends_in_a_retry() {
    // More than the connection holds: the client cannot write on.
    let text = b"0123456789abcdef\r\n".repeat(20_000);
    for server in [Server::new(), Server::exchange()] {
        let stalled = Stalled(Network::new().host(AT, &server));
        let to = AT.parse().unwrap();
        let timeouts = Timeouts::default();
        let mut connection =
            Connection::open(&stalled, to, "mail.customer.example", "mx1", TlsUse::Never, &timeouts).await.unwrap();
        let outcomes = offer(&mut connection, &envelope("", &[A]), &text).await;
        assert_eq!(outcomes, [retry(Scope::Message, "nothing was taken within 3m")]);
    }
}

/// A network whose connections take nothing any more after 8 KiB.
struct Stalled(Network);

impl Transport for Stalled {
    fn connect<'a>(&'a self, to: SocketAddr, wait: Duration) -> crate::outside::Pending<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let mut far = self.0.connect(to, wait).await?;
            let (near, mut middle) = tokio::io::duplex(4096);
            tokio::spawn(async move {
                let (mut far_read, mut far_write) = tokio::io::split(&mut far);
                let (mut read, mut write) = tokio::io::split(&mut middle);
                let mut some = tokio::io::AsyncReadExt::take(&mut read, 8192);
                let there = async {
                    let _ = tokio::io::copy(&mut some, &mut far_write).await;
                    std::future::pending::<()>().await;
                };
                tokio::join!(there, tokio::io::copy(&mut far_read, &mut write))
            });
            Ok(Box::new(near) as Box<dyn Stream>)
        })
    }

    fn start_tls<'a>(
        &'a self,
        stream: Box<dyn Stream>,
        name: &'a str,
        wait: Duration,
    ) -> crate::outside::Pending<'a, std::io::Result<Box<dyn Stream>>> {
        self.0.start_tls(stream, name, wait)
    }
}

#[tokio::test]
async fn a_connection_that_breaks_ends_in_a_retry() {
    for (at, scope) in [
        (At::Mail, Scope::Host),
        (At::Rcpt, Scope::Host),
        (At::Data, Scope::Host),
        (At::Text, Scope::Message),
        (At::End, Scope::Message),
    ] {
        for server in [Server::new(), Server::ancient()] {
            let (outcomes, connection) = deliver(&server.at(at, Do::Drop), &[A]).await;
            assert!(matches!(&outcomes[0], Outcome::Retry { scope: seen, .. } if *seen == scope), "{at:?}: {outcomes:?}");
            assert!(!connection.is_reusable());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_between_messages_is_not_the_hosts_trouble() {
    for (what, words) in [
        (Do::Drop, "no reply to MAIL: the connection was closed"),
        (Do::say("421 4.4.2 Idle for too long"), "421 4.4.2 Idle for too long"),
        (Do::Hang, "no reply to MAIL within 5m"),
    ] {
        let server = Server::new();
        let (_, mut connection) = deliver(&server, &[A]).await;
        let server = server.at(At::Mail, what);
        assert_eq!(offer(&mut connection, &envelope("", &[A]), TEXT).await, [retry(Scope::Message, words)]);
        assert!(!connection.is_reusable());
        drop(server);
    }
}

#[tokio::test]
async fn a_lost_reply_to_the_end_is_tried_again_although_the_peer_has_it() {
    for server in [Server::new(), Server::exchange()] {
        let server = server.at(At::End, Do::Drop);
        assert!(matches!(&deliver(&server, &[A]).await.0[0], Outcome::Retry { scope: Scope::Message, .. }));
        assert_eq!(only(&server).content, TEXT);
    }
}

#[tokio::test]
async fn last_words_in_the_middle_of_the_text_are_heard() {
    let text = b"0123456789abcdef\r\n".repeat(100_000);
    let server = Server::new().at(At::Text, Do::say("552 5.3.4 Message too big"));
    let mut connection = open(&server).await;
    let outcomes = offer(&mut connection, &envelope("", &[A]), &text).await;
    assert_eq!(outcomes, [failed("552 5.3.4 Message too big")]);
    assert!(!connection.is_reusable());
}

#[tokio::test]
async fn a_peer_that_is_a_reply_ahead_is_not_believed() {
    let server = Server::exchange().at(At::Rcpt, Do::say("250 2.1.5 OK\r\n250 2.0.0 Queued, honestly"));
    let (outcomes, connection) = deliver(&server, &[A]).await;
    assert_eq!(outcomes, [retry(Scope::Host, "the host sent a reply that nobody had asked for")]);
    assert_eq!(server.received(), []);
    assert!(!connection.is_reusable());
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_not_sent_as_half_a_message() {
    for server in [Server::new(), Server::exchange()] {
        let mut connection = open(&server).await;
        let body = Body::Memory(Bytes::from_static(TEXT));
        let rewrite = Rewrite { segments: vec![Segment::Keep(0..10), Segment::Keep(10..500)] };
        let envelope = envelope("", &[A]);
        let outcomes = connection
            .offer(&Offer { envelope: &envelope, recipients: &[0], body: &body, rewrite: &rewrite, chunking: true })
            .await;
        assert!(
            matches!(&outcomes[0], Outcome::Retry { scope: Scope::Message, reply, .. } if reply.contains("could not be read"))
        );
        drop(connection);
        tokio::task::yield_now().await;
        assert_eq!(server.received(), []);
    }
}

// The text

#[track_caller]
fn arrives(server: &Server, sent: &[u8], expected: &[u8], way: Way) {
    let received = only(server);
    assert_eq!(received.way, way);
    assert!(
        received.content == expected,
        "{:?} became {:?}",
        sent.escape_ascii().to_string(),
        received.content.escape_ascii().to_string()
    );
}

async fn send(server: Server, text: &[u8]) -> Server {
    let mut connection = open(&server).await;
    assert_eq!(offer(&mut connection, &envelope("", &[A]), text).await, [queued()]);
    server
}

#[tokio::test]
async fn whole_lines_arrive_byte_exact_either_way() {
    let long = [b"x".repeat(200_000), b"\r\n".to_vec()].concat();
    let dots = b".\r\n..\r\n...\r\n. \r\n".repeat(20_000);
    let texts = [
        TEXT,
        b"",
        b"\r\n",
        b".\r\n",
        b".\r\n.\r\n",
        b"a\r\n\r\n",
        b".hidden\r\nMAIL FROM:<x@y.example>\r\n",
        b"\x00\xff\x80\r\n",
        &long,
        &dots,
    ];
    for text in texts {
        arrives(&send(Server::new(), text).await, text, text, Way::Data);
        arrives(&send(Server::exchange(), text).await, text, text, Way::Bdat);
    }
}

#[tokio::test]
async fn chunks_carry_every_byte() {
    let text: Vec<u8> = (0..2_500_000u32).map(|number| (number * 7 % 256) as u8).collect();
    let server = send(Server::exchange(), &text).await;
    arrives(&server, &text[..20], &text, Way::Bdat);
    let chunks: Vec<_> = server.commands().into_iter().filter(|command| command.starts_with("BDAT")).collect();
    assert_eq!(chunks, ["BDAT 1048576", "BDAT 1048576", "BDAT 402848 LAST"]);
    arrives(&send(Server::exchange(), b"no end\nand bare\r").await, b"", b"no end\nand bare\r", Way::Bdat);
}

#[tokio::test]
async fn a_refused_chunk_ends_the_message_but_not_the_session() {
    let text = vec![b'x'; 3_000_000];
    let server = Server::exchange().once(At::Chunk, Do::say("552 5.3.4 too big"));
    let mut connection = open(&server).await;
    assert_eq!(offer(&mut connection, &envelope("", &[A]), &text).await, [failed("552 5.3.4 too big")]);
    assert_eq!(offer(&mut connection, &envelope("", &[A]), TEXT).await, [queued()]);
    assert_eq!(only(&server).content, TEXT);
}

#[tokio::test]
async fn a_peer_that_offers_chunks_and_does_not_know_them_loses_no_mail() {
    let server = Server::exchange().at(At::End, Do::say("500 5.5.1 Unrecognized command"));
    let (outcomes, connection) = deliver(&server, &[A]).await;
    assert_eq!(outcomes, [retry(Scope::Message, "500 5.5.1 Unrecognized command")]);
    assert!(!connection.is_reusable());
}

#[tokio::test]
async fn bare_line_ends_are_mended_for_hosts_without_chunks() {
    let server = send(Server::new().refusing_bare_line_ends(), b"a\nb\n.\nc\rd").await;
    arrives(&server, b"", b"a\r\nb\r\n.\r\nc d\r\n", Way::Data);
}

#[tokio::test]
async fn what_was_put_in_goes_out_with_what_was_kept() {
    for server in [Server::new(), Server::exchange()] {
        let mut connection = open(&server).await;
        let body = Body::Memory(Bytes::from_static(b"X-Bad: 1\r\nSubject: hi\r\n\r\n.dot\r\n"));
        let segments = vec![Segment::Insert("Received: by us\r\n".into()), Segment::Keep(10..body.size())];
        let envelope = envelope("", &[A]);
        let rewrite = Rewrite { segments };
        let outcomes = connection
            .offer(&Offer { envelope: &envelope, recipients: &[0], body: &body, rewrite: &rewrite, chunking: true })
            .await;
        assert_eq!(outcomes, [queued()]);
        let expected = b"Received: by us\r\nSubject: hi\r\n\r\n.dot\r\n";
        assert_eq!(only(&server).content, expected);
        assert_eq!(only(&server).parameters, format!("SIZE={}", expected.len()));
    }
}

// What cannot go

#[tokio::test]
async fn a_message_over_the_peers_size_fails_without_being_sent() {
    let server = Server::new().with("SIZE 100000");
    let mut connection = open(&server).await;
    let outcomes = offer(&mut connection, &envelope("", &[A]), &vec![b'x'; 100_001]).await;
    assert_eq!(outcomes, [failed(&format!("552 5.3.4 Message has 100001 bytes, {HOST} takes 100000 at most"))]);
    assert_eq!(server.commands(), ["EHLO mx1.isp.example"]);
    assert_eq!(offer(&mut connection, &envelope("", &[A]), TEXT).await, [queued()]);
}

#[tokio::test]
async fn smtputf8_addresses_need_a_peer_that_takes_them() {
    let refusal = failed(&format!("550 5.6.7 {HOST} does not take addresses with such letters (SMTPUTF8)"));
    let mut message = envelope("joe@sender.example", &[A, "jürgen@customer.example"]);
    message.parameters.smtputf8 = true;
    let server = Server::new();
    assert_eq!(offer(&mut open(&server).await, &message, TEXT).await, [queued(), refusal.clone()]);
    assert_eq!(only(&server).recipients, [A]);
    let server = Server::exchange();
    assert_eq!(offer(&mut open(&server).await, &message, TEXT).await, [queued(), queued()]);
    assert!(only(&server).parameters.contains("SMTPUTF8"));
    let from_such = envelope("jürgen@sender.example", &[A]);
    assert_eq!(offer(&mut open(&Server::new()).await, &from_such, TEXT).await, [refusal]);
}

#[tokio::test]
async fn an_address_with_brackets_and_quotes_adds_no_command() {
    for address in ["\"a> SIZE=1 <x\"@customer.example", "\"\\\"> \\\\\"@customer.example", "\"a@b\"@customer.example"] {
        let server = Server::exchange();
        let mut connection = open(&server).await;
        assert_eq!(offer(&mut connection, &envelope(address, &[address]), TEXT).await, [queued()]);
        let received = only(&server);
        assert_eq!((received.reverse_path.as_str(), received.recipients[0].as_str()), (address, address));
        assert_eq!(received.parameters, format!("SIZE={}", TEXT.len()));
    }
}

proptest! {
    #[test]
    fn no_address_that_parses_leaves_its_path(local in "[ -~\r\n\t]{1,12}") {
        let quoted = format!("\"{local}\"@customer.example");
        for text in [quoted, format!("{local}@customer.example")] {
            let Ok(address) = Address::parse(&text) else { continue };
            let line = commands::rcpt(&Recipient::new(address.clone()), &Extensions::default());
            prop_assert_eq!(line.find(['\r', '\n']), Some(line.len() - 2));
            prop_assert_eq!(&line[..line.len() - 2], format!("RCPT TO:<{address}>"));
        }
    }
}

// Reuse

#[tokio::test(start_paused = true)]
async fn a_session_is_reused_until_it_is_old_or_has_done_enough() {
    let server = Server::new();
    let mut connection = open(&server).await;
    for _ in 0..99 {
        assert_eq!(offer(&mut connection, &envelope("", &[A]), TEXT).await, [queued()]);
        assert!(connection.is_reusable());
    }
    offer(&mut connection, &envelope("", &[A]), TEXT).await;
    assert!(!connection.is_reusable());
    assert!(!server.commands().contains(&"RSET".to_owned()), "RSET is only for transactions that failed");
    let connection = open(&server).await;
    tokio::time::advance(Duration::from_secs(8 * 60)).await;
    assert!(!connection.is_reusable());
}

#[tokio::test(start_paused = true)]
async fn a_reset_that_fails_ends_the_session() {
    for what in [Do::Drop, Do::Hang, Do::say("421 4.3.2 bye"), Do::say("500 what?")] {
        let server = Server::new().once(At::Mail, Do::say("550 5.7.1 no")).at(At::Reset, what);
        let (_, mut connection) = deliver(&server, &[A]).await;
        assert_eq!(offer(&mut connection, &envelope("", &[A]), TEXT).await, [retry(Scope::Message, "the session is over")]);
        assert!(!connection.is_reusable());
        connection.quit().await;
    }
}

#[tokio::test(start_paused = true)]
async fn quit_does_not_wait_for_a_peer_that_hangs() {
    let connection = open(&Server::new().at(At::Quit, Do::Hang)).await;
    let before = Instant::now();
    connection.quit().await;
    assert!(before.elapsed() <= QUIT_WAIT);
}

#[tokio::test]
async fn a_delivery_can_run_as_a_task() {
    let server = Server::exchange();
    let task = tokio::spawn({
        let server = server.clone();
        async move { deliver(&server, &[A]).await.0 }
    });
    assert_eq!(task.await.unwrap(), [queued()]);
}

#[tokio::test]
async fn nobody_to_deliver_to_is_nothing_to_say() {
    let server = Server::new();
    let mut connection = open(&server).await;
    assert_eq!(offer(&mut connection, &envelope("", &[]), TEXT).await, []);
    assert_eq!(server.commands(), ["EHLO mx1.isp.example"]);
}
