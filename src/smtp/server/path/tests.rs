use super::*;

const LIMIT: u64 = 50_000_000;

#[track_caller]
fn sender(arguments: &str, expected: &str) -> MailParameters {
    match mail(arguments, LIMIT) {
        Ok((path, parameters)) => {
            assert_eq!(path.to_string(), expected, "{arguments}");
            parameters
        }
        Err(reply) => panic!("{arguments}: {reply}"),
    }
}

#[track_caller]
fn sender_refused(arguments: &str, code: &str) {
    let reply = mail(arguments, LIMIT).expect_err(arguments).to_string();
    assert!(reply.starts_with(code), "{arguments}: {reply}");
}

#[track_caller]
fn recipient_refused(arguments: &str, code: &str) {
    let reply = rcpt(arguments, false).expect_err(arguments).to_string();
    assert!(reply.starts_with(code), "{arguments}: {reply}");
}

#[test]
fn senders_of_all_kinds_are_read() {
    sender("FROM:<joe@a.example>", "joe@a.example");
    sender("from: <joe@a.example>", "joe@a.example");
    sender("FROM:<>", "");
    sender("FROM:<@relay.example,@[IPv6:2001:db8::1]:joe@a.example>", "joe@a.example");
    sender("FROM:<\"a> SIZE=1 <x\"@a.example> SIZE=5", "\"a> SIZE=1 <x\"@a.example");
    sender("FROM:<\"a\\\">b\"@a.example>", "\"a\\\">b\"@a.example");
    sender("FROM:<joe@[192.0.2.1]>", "joe@[192.0.2.1]");
    sender("FROM:<jürgen@bücher.example> SMTPUTF8", "jürgen@xn--bcher-kva.example");
}

#[test]
fn senders_that_are_none_are_refused() {
    for arguments in
        ["", "FROM", "FROM:", "FROM:joe@a.example", "FROM:<joe@a.example", "FROM <joe@a.example>", "TO:<joe@a.example>"]
    {
        sender_refused(arguments, "501 5.5.4");
    }
    for arguments in ["FROM:<joe@a.example>SIZE=1", "FROM:<joe@a.example>>", "FROM:<joe@a.example> <x>", "FROM:<\"joe@a.example>"]
    {
        sender_refused(arguments, "501 5.5.4");
    }
    for arguments in
        ["FROM:<joe>", "FROM:<postmaster>", "FROM:< >", "FROM:<a@b@c.example>", "FROM:<@:joe@a.example>", "FROM:<@a.example>"]
    {
        sender_refused(arguments, "501 5.1.7");
    }
    sender_refused("FROM:<jürgen@a.example>", "553 5.6.7");
    sender_refused("FROM:<joe@bücher.example> BODY=8BITMIME", "553 5.6.7");
}

#[test]
fn parameters_of_mail_are_read_and_kept() {
    let read = sender("FROM:<a@b.example> size=1000 BODY=8bitmime SMTPUTF8  RET=HDRS ENVID=x+2Bz", "a@b.example");
    let expected = MailParameters {
        body: BodyKind::EightBitMime,
        smtputf8: true,
        size: Some(1000),
        ret: Some(Ret::Headers),
        envid: Some("x+2Bz".to_owned()),
    };
    assert_eq!(read, expected);
    assert_eq!(sender("FROM:<a@b.example> SIZE=50000000", "a@b.example").size, Some(LIMIT));
}

#[test]
fn parameters_of_mail_that_are_wrong_are_refused() {
    for size in ["50000001", "18446744073709551616", "99999999999999999999"] {
        sender_refused(&format!("FROM:<a@b.example> SIZE={size}"), "552 5.3.4");
    }
    for parameters in [
        "SIZE=999999999999999999999",
        "SIZE=-1",
        "SIZE=+1",
        "SIZE=",
        "SIZE",
        "SIZE=1 SIZE=1",
        "SIZE=1=2",
        "BODY=BINARYMIME",
        "BODY=7BIT BODY=7BIT",
        "SMTPUTF8=1",
        "RET=NONE",
        "ENVID=+2",
        "ENVID=a+zz",
        "=1",
        "ä=1",
        "ENVID=ä",
    ] {
        sender_refused(&format!("FROM:<a@b.example> {parameters}"), "501 5.5.4");
    }
    sender_refused(&format!("FROM:<a@b.example> ENVID={}", "x".repeat(101)), "501 5.5.4");
    for parameters in ["AUTH=<>", "REQUIRETLS", "XOORG=x", "NOTIFY=NEVER", "HOLDFOR=1"] {
        sender_refused(&format!("FROM:<a@b.example> {parameters}"), "555 5.5.4");
    }
}

#[test]
fn recipients_of_all_kinds_are_read() {
    let address = |text: &str| Mailbox::Address(Address::parse(text).unwrap());
    let on = |success, failure, delay| Some(Notify::On { success, failure, delay });
    assert_eq!(rcpt("TO:<joe@a.example>", false), Ok((address("joe@a.example"), None, None)));
    assert_eq!(rcpt("to: <@r.example:joe@a.example>", false), Ok((address("joe@a.example"), None, None)));
    assert_eq!(rcpt("TO:<PostMaster>", false), Ok((Mailbox::Postmaster, None, None)));
    assert_eq!(rcpt("TO:<postmaster@a.example>", false), Ok((address("postmaster@a.example"), None, None)));
    assert_eq!(rcpt("TO:<ü@a.example> NOTIFY=never", true), Ok((address("ü@a.example"), Some(Notify::Never), None)));
    let full = rcpt("TO:<joe@a.example> NOTIFY=SUCCESS,delay ORCPT=utf-8;joe\\x{fc}@a.example", false);
    assert_eq!(full, Ok((address("joe@a.example"), on(true, false, true), Some("utf-8;joe\\x{fc}@a.example".to_owned()))));
}

#[test]
fn recipients_that_are_none_are_refused() {
    for arguments in ["", "TO:", "TO:joe@a.example", "FROM:<joe@a.example>", "TO:<joe@a.example>NOTIFY=NEVER"] {
        recipient_refused(arguments, "501 5.5.4");
    }
    for arguments in
        ["TO:<>", "TO:<joe>", "TO:<@a.example>", "TO:<joe@[1.2.3]>", "TO:<a..b@c.example>", "TO:<a@b.example:x@c.example>"]
    {
        recipient_refused(arguments, "501 5.1.3");
    }
    recipient_refused("TO:<ü@a.example>", "553 5.6.7");
    for parameters in
        ["NOTIFY=NEVER,DELAY", "NOTIFY=", "NOTIFY=,", "NOTIFY=NEVER NOTIFY=NEVER", "ORCPT=joe", "ORCPT=;x", "ORCPT=rfc822;"]
    {
        recipient_refused(&format!("TO:<a@b.example> {parameters}"), "501 5.5.4");
    }
    recipient_refused(&format!("TO:<a@b.example> ORCPT=rfc822;{}", "x".repeat(500)), "501 5.5.4");
    recipient_refused("TO:<a@b.example> SIZE=1", "555 5.5.4");
}

/// Where smtp-proto is right, it must read the same as we do.
#[test]
fn smtp_proto_agrees_on_ordinary_commands() {
    let commands = [
        "MAIL FROM:<joe@a.example>",
        "MAIL FROM:<>",
        "MAIL FROM:<joe+tag@a.example> SIZE=1234 BODY=8BITMIME RET=FULL ENVID=abc",
        "mail from:<joe@a.example> SMTPUTF8",
        "RCPT TO:<joe@a.example>",
        "RCPT TO:<joe@a.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;joe@a.example",
    ];
    for command in commands {
        let line = format!("{command}\r\n");
        let theirs = match smtp_proto::Request::parse(&mut line.as_bytes().iter()) {
            Ok(smtp_proto::Request::Mail { from }) => (from.address.into_owned(), from.size as u64),
            Ok(smtp_proto::Request::Rcpt { to }) => (to.address.into_owned(), 0),
            other => panic!("{command}: {other:?}"),
        };
        let arguments = &command[5..];
        let ours = match mail(arguments, LIMIT) {
            Ok((path, parameters)) => (path.to_string(), parameters.size.unwrap_or(0)),
            Err(_) => match rcpt(arguments, false) {
                Ok((Mailbox::Address(address), ..)) => (address.to_string(), 0),
                other => panic!("{command}: {other:?}"),
            },
        };
        assert_eq!(ours, theirs, "{command}");
    }
}
