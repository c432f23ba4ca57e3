//! Bad content: odd, huge, nested, smuggled.

use std::time::Instant;

use super::*;
use crate::clamd::Clamd;
use crate::gateway::{Sink, domain, wait_for};

const MIB: usize = 1 << 20;

/// Content of about this many bytes that is different on every line.
fn lines(size: usize, text: &str) -> String {
    let mut content = format!("Subject: {text}\r\nX-Text: {text}\r\n\r\n");
    let mut number = 0;
    while content.len() < size {
        content.push_str(&format!("{number:08} {text} .. abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n"));
        if number % 100 == 0 {
            content.push_str(".\r\n..\r\n");
        }
        number += 1;
    }
    content + &format!("end of {text}\r\n")
}

fn stuffed(content: &str) -> String {
    content.replace("\r\n.", "\r\n..")
}

#[test]
fn odd_messages_are_taken_and_arrive() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let spam = "[domains.\"up.test\".spam]\nenabled = true\nhigh = \"header\"\n";
    let changes = [("[smtp]", "[smtp]\nheader_max = \"2MiB\"\nverdict_wait = \"60s\"")];
    let gateway = Gateway::start_with(clamd.socket(), &changes, &(domain("up.test", sink.port, "") + spam));
    let mut talk = Talk::in_data(&gateway);
    let empty = queue_id(&talk.ask(".\r\n", "250 "));
    let deep: String = (0..1000)
        .map(|level| format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n"))
        .chain(["Content-Type: text/plain\r\n\r\nthe core\r\n".to_owned()])
        .chain((0..1000).rev().map(|level| format!("--b{level}--\r\n")))
        .collect();
    let rfc822: String = "Content-Type: message/rfc822\r\n\r\n".repeat(1000) + "Subject: x\r\n\r\nat the end\r\n";
    let wide: String =
        (0..2000).map(|part| format!("--w\r\nContent-Type: text/html\r\n\r\n<a href=http://h{part}.test>\r\n")).collect();
    let messages = [
        ("no headers", "only words, without headers\r\n".to_owned()),
        ("only headers", "Subject: only headers\r\n".to_owned()),
        (
            "header of 1 MiB in one field",
            format!(
                "Subject: a\r\nX-Long: {}\r\n\r\nlong header\r\n",
                "z".repeat(900).repeat(0) + &"zzzzzzzz\r\n ".repeat(100_000)
            ),
        ),
        ("header of many fields", format!("{}\r\n\r\nmany fields\r\n", "X-Many: 1\r\n".repeat(90_000))),
        ("deep", format!("Subject: deep\r\nMIME-Version: 1.0\r\n{deep}")),
        ("rfc822", format!("Subject: matryoshka\r\nMIME-Version: 1.0\r\n{rfc822}")),
        (
            "wide",
            format!("Subject: wide\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=w\r\n\r\n{wide}--w--\r\n"),
        ),
        (
            "html",
            format!("Subject: h\r\nContent-Type: text/html\r\n\r\n{}\r\n", "<div><a href='http://x.test/'>\r\n".repeat(30_000)),
        ),
        (
            "open",
            format!("Subject: =?utf-8?b?{}\r\n\r\n{}\r\n", "=?utf-8?q?".repeat(50), "<![CDATA[<!--<style>\r\n".repeat(10_000)),
        ),
        ("nul", "Subject: \0nul\0\r\nFrom: \x1b[31m\r\n\r\na\0b\r\n".to_owned()),
    ];
    let mut ids = vec![("empty", empty)];
    for (name, message) in messages {
        let started = Instant::now();
        ids.push((name, queue_id(&deliver(&gateway, "jane@up.test", stuffed(&message)))));
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{name} took {:?} {:#?}",
            started.elapsed(),
            gateway.logged("scanned")
        );
    }
    for (name, id) in ids {
        // What is nested deeper than the scanner looks is not clean: it waits in quarantine for somebody to look at it.
        let end = if matches!(name, "deep" | "rfc822") { "quarantine: unscannable" } else { "\"delivered\"" };
        wait_for(&format!("{end} for {name}"), || gateway.logged(&id).iter().any(|line| line.contains(end)).then_some(()));
    }
    assert_unharmed(&gateway);
}

#[test]
fn what_is_refused_is_refused_with_a_reason() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start_with(clamd.socket(), &[], &domain("up.test", sink.port, ""));
    let loops = "Received: from a by b; now\r\n".repeat(51);
    let cases = [
        ("Subject: x\r\n\r\na bare\nLF\r\n".to_owned(), "554 5.6.0"),
        ("Subject: x\r\n\r\na bare\rCR\r\n".to_owned(), "554 5.6.0"),
        (format!("{loops}Subject: loop\r\n\r\nround and round\r\n"), "554 5.4.6"),
        (format!("X-Long: {}\r\n\r\nx\r\n", "zzzz\r\n ".repeat(200_000)), "552 5.3.4 Message header"),
        (format!("Subject: x\r\n\r\n{}\r\n", "l".repeat(2 * MIB)), "554 5.6.0 Message has a line longer"),
    ];
    let mut talk = Talk::open(&gateway);
    for (message, start) in cases {
        talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
        talk.ask("RCPT TO:<jane@up.test>\r\n", "250 ");
        talk.ask("DATA\r\n", "354 ");
        talk.send(message);
        talk.ask("\r\n.\r\n", start);
    }
    assert_unharmed(&gateway);
    sink.wait_for_message("still here");
    assert_eq!(sink.messages().len(), 1);
}

/// Two servers that disagree about where a message ends let a sender hide a second message in the first one.
#[test]
fn nothing_can_be_smuggled_behind_a_false_end() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start_with(clamd.socket(), &[], &domain("up.test", sink.port, ""));
    let ends = [
        "\n.\n",
        "\r.\r",
        "\n.\r\n",
        "\r.\r\n",
        "\r\n.\n",
        "\r\n.\r",
        "\n.\r",
        "\r\r\n.\r\r\n",
        "\r\n.\r\r\n",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
    ];
    let hidden = "MAIL FROM:<ceo@up.test>\r\nRCPT TO:<jane@up.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled";
    let mut taken = 0;
    for end in ends {
        let mut talk = Talk::in_data(&gateway);
        talk.send(format!("Subject: outer\r\n\r\nouter{end}{hidden}\r\n.\r\nNOOP\r\n"));
        let reply = talk.reply().unwrap();
        assert!(reply.starts_with("554 5.6.0") || end.contains('\0'), "{end:?}: {reply}");
        taken += usize::from(reply.starts_with("250 "));
        talk.expect("250 2.0.0 Ok");
        talk.ask("QUIT\r\n", "221 ");
        talk.expect_end();
    }
    // In BDAT bare line ends are kept, and become harmless where they go on by DATA.
    for end in ends {
        let mut talk = Talk::open(&gateway);
        let message = format!("Subject: outer\r\n\r\nouter{end}{hidden}\r\n.\r\n");
        talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
        talk.ask("RCPT TO:<jane@up.test>\r\n", "250 ");
        talk.ask(format!("BDAT {} LAST\r\n{message}", message.len()), "250 2.0.0 Ok: queued");
        taken += 1;
    }
    wait_for("all to be delivered", || gateway.ask_json(&["queue", "list"])["messages"].as_array()?.is_empty().then_some(()));
    let messages = sink.messages();
    assert_eq!(messages.len(), taken);
    assert!(
        messages.iter().all(|message| message.contains("X-Mail-Args: <joe@sender.test>") && message.contains("Subject: outer"))
    );
}

#[test]
fn chunks_that_lie_about_their_size_harm_nobody() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start_with(clamd.socket(), &[], &domain("up.test", sink.port, ""));
    let begin = |talk: &mut Talk| {
        talk.ask("MAIL FROM:<joe@sender.test>\r\n", "250 ");
        talk.ask("RCPT TO:<jane@up.test>\r\n", "250 ");
    };
    // Too small: the rest of the chunk is read as commands, and is none.
    let mut talk = Talk::open(&gateway);
    begin(&mut talk);
    talk.ask("BDAT 5\r\nHello, this is longer\r\n", "250 2.0.0 5 bytes");
    talk.expect("500 ");
    talk.ask("RSET\r\n", "250 ");
    // Sizes that are none end the session: what follows is somebody's text.
    for size in ["99999999999999999999", "-1", "0x10", "", "1 LAST LAST", "LAST"] {
        let mut talk = Talk::open(&gateway);
        begin(&mut talk);
        talk.ask(format!("BDAT {size}\r\nRSET\r\n"), "501 5.5.4");
        talk.expect_end();
    }
    // A flood of small and of empty chunks.
    let mut talk = Talk::open(&gateway);
    begin(&mut talk);
    let mut writer = talk.stream.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        writer.write_all("BDAT 9\r\nX-A: abc\nBDAT 0\r\n".repeat(20_000).as_bytes()).unwrap();
        writer.write_all(b"BDAT 11 LAST\r\n\r\nthe flood").unwrap();
    });
    for _ in 0..20_000 {
        talk.expect("250 2.0.0 9 bytes");
        talk.expect("250 2.0.0 0 bytes");
    }
    flood.join().unwrap();
    talk.expect("250 2.0.0 Ok: queued as");
    sink.wait_for_message("the flood");
    // More than the limit, in chunks: refused once for all of them.
    let mut talk = Talk::open(&gateway);
    begin(&mut talk);
    let chunk = "z".repeat(998) + "\r\n";
    let chunk = format!("BDAT {}\r\n{}", 1000 * 8000, chunk.repeat(8000));
    talk.ask(&chunk, "250 ");
    talk.ask(&chunk, "250 ");
    talk.ask(&chunk, "552 5.3.4");
    talk.ask(&chunk, "552 5.3.4");
    talk.ask("BDAT 0 LAST\r\n", "552 5.3.4");
    begin(&mut talk);
    talk.ask("QUIT\r\n", "221 ");
    assert_unharmed(&gateway);
}

#[test]
fn large_messages_arrive_byte_for_byte() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let gateway = Gateway::start_with(clamd.socket(), &[], &domain("up.test", sink.port, ""));
    for size in [MIB - 80, MIB, MIB + 1, MIB + 300 * 1024, 5 * MIB] {
        let text = format!("size-{size}");
        let content = lines(size, &text);
        let reply = deliver(&gateway, "jane@up.test", stuffed(&content).trim_end());
        queue_id(&reply);
        let arrived = sink.wait_for_message(&format!("end of {text}")).replace("\r\n", "\n");
        let expected = content.replace("\r\n", "\n");
        assert!(arrived.contains(&expected), "{size}: {} bytes arrived", arrived.len());
    }
    wait_for("the bodies to go", || files_in(&gateway.data().join("spool/bodies")).is_empty().then_some(()));
}

#[test]
fn memory_does_not_grow_with_the_size_of_a_message() {
    let (clamd, sink) = (Clamd::start(), Sink::start());
    let changes = [("size_max = \"20MiB\"", "size_max = \"50MiB\"")];
    let gateway = Gateway::start_with(clamd.socket(), &changes, &domain("up.test", sink.port, ""));
    deliver_ok(&gateway, "first");
    let line = "q".repeat(1022) + "\r\n";
    let content = |bytes: usize| format!("Subject: 50\r\n\r\n{}", line.repeat(bytes / 1024));
    let mut at_limit = content(50 * MIB - 1024);
    at_limit.push_str(&"r".repeat(50 * MIB - at_limit.len() - 2 - "the end".len()));
    at_limit.push_str("the end");
    assert_eq!(at_limit.len() + 2, 50 * MIB);
    let before = memory_kib(&gateway, "VmHWM");
    queue_id(&deliver(&gateway, "jane@up.test", &at_limit));
    at_limit.push('r');
    let mut talk = Talk::in_data(&gateway);
    talk.send(&at_limit);
    talk.ask("\r\n.\r\n", "552 5.3.4");
    let arrived = sink.wait_for_message("the end");
    assert!(arrived.len() > 49 * MIB, "{}", arrived.len());
    let grown = memory_kib(&gateway, "VmHWM") - before;
    assert!(grown < 12 * 1024, "{grown} KiB for 50 MiB");
    assert_unharmed(&gateway);
}
