use proptest::prelude::*;

use super::*;
use crate::mail::{Address, IdSource, Timestamp};

fn session(errors_max: usize) -> Session {
    let limits = SessionLimits {
        hostname: Domain::parse("mx1.isp.example").unwrap(),
        size_max: 1000,
        recipients_max: 2,
        errors_max,
        tls_offered: true,
        etrn_offered: true,
        xclient_offered: false,
    };
    Session::new(IdSource::new(None).next(Timestamp(1_795_214_160_000)), limits)
}

fn say(session: &mut Session, line: &str) -> Step {
    session.line(CommandLine::Line(line.to_owned().into()))
}

#[track_caller]
fn check(session: &mut Session, line: &str, reply: &str) {
    match say(session, line) {
        Step::Reply(said) => assert!(said.to_string().starts_with(reply), "{line}: {said}"),
        step => panic!("{line}: {step:?}"),
    }
}

fn taken(session: &mut Session, line: &str) {
    match say(session, line) {
        Step::CheckSender(..) => session.sender_answer(Reply::new(250, Enhanced(2, 1, 0), "Ok")),
        Step::CheckRecipient(Incoming { mailbox: Mailbox::Address(address), .. }) => {
            session.recipient_answer(Ok(Recipient::new(address)))
        }
        step => panic!("{line}: {step:?}"),
    };
}

fn ready_for_content() -> Session {
    let mut session = session(10);
    check(&mut session, "EHLO a.example", "250 mx1.isp.example");
    taken(&mut session, "MAIL FROM:<a@a.example>");
    taken(&mut session, "RCPT TO:<b@b.example>");
    session
}

#[test]
fn ehlo_offers_what_the_gateway_does() {
    let mut session = session(10);
    let Step::Reply(reply) = say(&mut session, "EHLO a.example") else { panic!("no reply") };
    let wire = String::from_utf8(reply.to_wire()).unwrap();
    let expected = "250-mx1.isp.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n\
                    250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250-LIMITS RCPTMAX=2\r\n250-ETRN\r\n250 STARTTLS\r\n";
    assert_eq!(wire, expected);
    assert!(session.is_extended() && session.helo() == "a.example");
}

#[test]
fn the_transaction_names_sender_recipients_and_number() {
    let mut session = ready_for_content();
    assert_eq!(session.transaction(), None);
    assert!(matches!(say(&mut session, "DATA"), Step::ReadData(_)));
    let (transaction, number) = session.transaction().unwrap();
    assert_eq!((transaction.reverse_path.to_string().as_str(), number), ("a@a.example", 1));
    assert_eq!(transaction.recipients, [Recipient::new(Address::parse("b@b.example").unwrap())]);
    session.content_answer(Reply::ok());
    assert_eq!(session.transaction(), None);
    taken(&mut session, "MAIL FROM:<>");
    taken(&mut session, "RCPT TO:<b@b.example>");
    assert!(matches!(say(&mut session, "BDAT 3"), Step::ReadChunk { size: 3, last: false, refused: None }));
    session.chunk_answer(Ok(3));
    assert_eq!(session.transaction().map(|(_, number)| number), Some(2));
}

#[test]
fn a_failed_chunk_fails_all_that_follow_up_to_the_last() {
    let mut session = ready_for_content();
    assert!(matches!(say(&mut session, "BDAT 2000"), Step::ReadChunk { refused: None, .. }));
    session.chunk_answer(Err(Reply::too_large(1000)));
    assert_eq!(session.transaction(), None);
    let refused = Some(Reply::too_large(1000));
    check(&mut session, "RCPT TO:<c@b.example>", "503 5.5.1");
    assert_eq!(say(&mut session, "BDAT 5"), Step::ReadChunk { size: 5, last: false, refused: refused.clone() });
    assert_eq!(say(&mut session, "BDAT 0 LAST"), Step::ReadChunk { size: 0, last: true, refused });
    taken(&mut session, "MAIL FROM:<a@a.example>");
}

#[test]
fn a_chunk_whose_size_is_unknown_ends_the_session() {
    let mut session = ready_for_content();
    assert!(matches!(say(&mut session, "BDAT 184467440737095516160"), Step::Close(reply) if reply.code == 501));
}

#[test]
fn nothing_said_before_the_handshake_is_remembered() {
    let mut session = ready_for_content();
    assert!(matches!(say(&mut session, "STARTTLS"), Step::StartTls(_)));
    session.encrypted();
    assert_eq!((session.helo(), session.transaction()), ("", None));
    check(&mut session, "MAIL FROM:<a@a.example>", "503 5.5.1");
    check(&mut session, "STARTTLS", "503 5.5.1");
    let Step::Reply(reply) = say(&mut session, "EHLO a.example") else { panic!("no reply") };
    assert!(!reply.to_string().contains("STARTTLS"));
}

#[test]
fn etrn_is_for_between_transactions_and_names_one_domain() {
    let mut session = session(20);
    check(&mut session, "ETRN b.example", "503 5.5.1");
    check(&mut session, "HELO a.example", "250");
    check(&mut session, "ETRN b.example", "503 5.5.1");
    let Step::Reply(reply) = say(&mut session, "EHLO a.example") else { panic!("no reply") };
    assert!(reply.to_string().contains("ETRN"), "{reply}");
    for arguments in ["", "a.example b.example", &"x".repeat(256)] {
        check(&mut session, &format!("ETRN {arguments}"), "501 5.5.4");
    }
    assert_eq!(say(&mut session, "etrn B.example"), Step::CheckDrain("B.example".to_owned()));
    assert!(matches!(session.drain_answer(Reply::ok()), Step::Reply(reply) if reply.code == 250));
    taken(&mut session, "MAIL FROM:<a@a.example>");
    check(&mut session, "ETRN b.example", "503 5.5.1");
}

#[test]
fn xclient_begins_the_session_of_another_client() {
    let mut session = Session::new(
        IdSource::new(None).next(Timestamp(1_795_214_160_000)),
        SessionLimits { xclient_offered: true, ..session(10).limits },
    );
    let Step::Reply(reply) = say(&mut session, "EHLO front.example") else { panic!("no reply") };
    assert!(reply.to_string().ends_with("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT"), "{reply}");
    assert!(session.pipelining_offered());
    taken(&mut session, "MAIL FROM:<a@a.example>");
    check(&mut session, "XCLIENT ADDR=192.0.2.7", "503 5.5.1");
    check(&mut session, "RSET", "250");
    check(&mut session, "XCLIENT ADDR=nowhere", "501 5.5.4");
    let Step::SpeaksFor(claims) = say(&mut session, "xclient ADDR=192.0.2.7 PROTO=ESMTP") else { panic!("not taken") };
    assert_eq!(claims.address, Some("192.0.2.7".parse().unwrap()));
    assert_eq!(session.begin_for(claims, false), Step::Reply(session.greeting()));
    assert_eq!((session.helo(), session.pipelining_offered()), ("", false));
    check(&mut session, "MAIL FROM:<a@a.example>", "503 5.5.1");
    let Step::Reply(reply) = say(&mut session, "EHLO a.example") else { panic!("no reply") };
    assert!(!reply.to_string().contains("ETRN"), "it is another client: {reply}");
    let Step::SpeaksFor(claims) = say(&mut session, "XCLIENT HELO=b.example PROTO=ESMTP") else { panic!("not taken") };
    session.begin_for(claims, false);
    assert!(session.helo() == "b.example" && session.is_extended());
    taken(&mut session, "MAIL FROM:<a@a.example>");
}

#[test]
fn a_session_that_only_idles_ends() {
    let mut session = session(3);
    check(&mut session, "EHLO a.example", "250");
    for command in ["NOOP", "RSET", "VRFY a", "HELP"].into_iter().cycle().take(99) {
        let Step::Reply(reply) = say(&mut session, command) else { panic!("{command}") };
        assert!(reply.is_positive() && session.errors() == 0, "{command}: {reply}");
    }
    check(&mut session, "NOOP", "250");
    check(&mut session, "NOOP", "250");
    assert_eq!(session.errors(), 2);
    assert!(matches!(say(&mut session, "NOOP"), Step::Close(reply) if reply.to_string().starts_with("421 4.7.0")));
}

#[test]
fn pipelining_is_offered_by_ehlo_and_not_by_helo() {
    let mut session = session(10);
    assert!(!session.pipelining_offered());
    check(&mut session, "EHLO two words", "501");
    check(&mut session, "HELO a.example", "250");
    assert!(!session.pipelining_offered());
    check(&mut session, "EHLO a.example", "250");
    assert!(session.pipelining_offered());
}

#[test]
fn an_answer_of_421_ends_the_session() {
    let mut session = session(10);
    check(&mut session, "EHLO a.example", "250");
    assert!(matches!(say(&mut session, "MAIL FROM:<a@a.example>"), Step::CheckSender(_)));
    assert_eq!(session.sender_answer(Reply::banned()), Step::Close(Reply::banned()));
    assert_eq!(session.errors(), 0);
}

#[test]
fn refusals_for_now_are_no_errors() {
    let mut session = ready_for_content();
    taken(&mut session, "RCPT TO:<c@b.example>");
    for _ in 0..100 {
        check(&mut session, "RCPT TO:<d@b.example>", "452 4.5.3");
    }
    for _ in 0..9 {
        check(&mut session, "NONSENSE", "500 5.5.1");
    }
    assert!(matches!(say(&mut session, "NONSENSE"), Step::Close(reply) if reply.to_string().starts_with("421 4.7.0")));
}

#[test]
fn data_after_refused_recipients_is_no_error() {
    let mut session = session(2);
    check(&mut session, "HELO a", "250 mx1.isp.example");
    taken(&mut session, "MAIL FROM:<a@a.example>");
    assert!(matches!(say(&mut session, "RCPT TO:<b@b.example>"), Step::CheckRecipient(_)));
    session.recipient_answer(Err(Reply::greylisted(300)));
    for _ in 0..5 {
        check(&mut session, "DATA", "554 5.5.1");
        assert!(matches!(say(&mut session, "BDAT 5 LAST"), Step::ReadChunk { size: 5, last: true, refused: Some(_) }));
    }
}

#[test]
fn whoever_does_not_speak_smtp_is_sent_away_at_once() {
    for noise in ["GET / HTTP/1.1", "\u{16}\u{3}\u{1}", "\0", "{\"json\":1}", "\u{feff}EHLO a"] {
        assert!(matches!(say(&mut session(10), noise), Step::Close(reply) if reply.code == 421), "{noise:?}");
    }
    let binary = CommandLine::Line((&b"\x80\xff\xfe"[..]).into());
    assert!(matches!(session(10).line(binary), Step::Close(_)));
    check(&mut session(10), "", "500 5.5.1");
    check(&mut session(10), "HALLO", "500 5.5.1");
    let mut known = ready_for_content();
    check(&mut known, "NOOP \0", "501 5.5.2");
    assert!(matches!(say(&mut known, "POST / HTTP/1.1"), Step::Close(_)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Every line gets a step, and every refusal has an enhanced code of the class of its code.
    #[test]
    fn no_line_gets_a_session_out_of_step(lines in prop::collection::vec(prop_oneof![
        "(EHLO|HELO|MAIL|RCPT|DATA|BDAT|RSET|NOOP|VRFY|EXPN|HELP|ETRN|STARTTLS|XCLIENT) ?[ -~]{0,20}",
        "XCLIENT( (ADDR|HELO|PROTO|NAME)=[!-~]{0,8}){1,3}", "XCLIENT ADDR=192.0.2.7 HELO=b",
        "(MAIL FROM|RCPT TO):<[ -~\u{e4}]{0,12}> ?[A-Z]{0,8}=?[ -~]{0,10}",
        "EHLO a", "MAIL FROM:<a@a\\.example>", "RCPT TO:<b@b\\.example>", "DATA", "BDAT [0-9]{1,3}( LAST)?",
        "\\PC{0,30}",
    ], 0..30)) {
        let mut session = session(1000);
        session.limits.xclient_offered = true;
        for line in lines {
            let step = match say(&mut session, &line) {
                Step::CheckSender(..) => session.sender_answer(Reply::ok()),
                Step::SpeaksFor(claims) => { session.begin_for(claims, true); continue }
                Step::CheckDrain(_) => session.drain_answer(Reply::new(459, Enhanced(4, 7, 1), "no")),
                Step::CheckRecipient(_) => session.recipient_answer(Ok(Recipient::new(Address::parse("b@b.example").unwrap()))),
                Step::ReadData(_) | Step::ReadChunk { last: true, refused: None, .. } => session.content_answer(Reply::ok()),
                Step::ReadChunk { size, last: false, refused: None } => session.chunk_answer(Ok(size)),
                Step::StartTls(_) => { session.encrypted(); continue }
                step => step,
            };
            match step {
                Step::Reply(reply) | Step::ReadChunk { refused: Some(reply), .. } => {
                    let class = reply.enhanced.map(|enhanced| u16::from(enhanced.0));
                    prop_assert!(class.is_none_or(|class| class == reply.code / 100), "{}", reply);
                    prop_assert!(class.is_some() || reply.code == 250, "{}", reply);
                }
                Step::Close(_) => break,
                step => prop_assert!(false, "{:?}", step),
            }
        }
    }
}
