//! Messages made to be slow, for the tests and for `cargo bench --bench classify -- --hostile`.

use feedgate::mail::{Client, Envelope, MailParameters, Protocol, Recipient, SessionId, Timestamp};

const MIB: usize = 1 << 20;

/// As the door would have seen one of them.
pub fn envelope(content: &[u8]) -> Envelope {
    Envelope {
        id: SessionId::from_u64(0).expect("less than 60 bits").message(1),
        received_at: Timestamp(1_795_214_160_000),
        client: Client {
            address: [192, 0, 2, 1].into(),
            reverse_name: Some("mail.sender.example".parse().expect("a domain")),
            reverse_confirmed: true,
            helo: "mail.sender.example".to_owned(),
            protocol: Protocol::Esmtp,
            tls: None,
            findings: Vec::new(),
        },
        reverse_path: "joe@sender.example".parse().expect("an address"),
        parameters: MailParameters::default(),
        recipients: vec![Recipient::new("jane@customer.example".parse().expect("an address"))],
        size: content.len() as u64,
    }
}

/// Each with its name.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = texts();
    all.extend(html());
    all.extend(structures());
    all.extend(headers());
    all
}

const HEAD: &str = "From: Joe <joe@sender.example>\r\nTo: jane@customer.example\r\nSubject: hello\r\nDate: Fri, 20 Nov 2026 22:36:00 +0000\r\nMIME-Version: 1.0\r\n";

fn message(fields: &str, body: &str) -> Vec<u8> {
    format!("{HEAD}{fields}\r\n{body}").into_bytes()
}

/// `what` until it is a megabyte.
fn megabyte(what: &str) -> String {
    what.repeat(MIB / what.len())
}

fn texts() -> Vec<(&'static str, Vec<u8>)> {
    let plain = |body: &str| message("Content-Type: text/plain; charset=utf-8\r\n", body);
    let base64 = |body: &str| message("Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n", body);
    let numbered = |what: &str| (0..100_000).map(|n| format!("{what}{n}.example/ ")).collect::<String>();
    // Beginnings of what rules seek, over and over.
    let phrases = "verify your account click here dear customer your account has been you have won bitcoin wallet ";
    vec![
        ("one letter", plain(&megabyte("a"))),
        ("words of one letter", plain(&megabyte("a "))),
        ("lines of one letter", plain(&megabyte("a\r\n"))),
        ("empty lines", plain(&megabyte("\r\n"))),
        ("100,000 links", plain(&numbered("http://h"))),
        ("half a link", plain(&megabyte("http://"))),
        ("www", plain(&megabyte("www."))),
        ("at signs", plain(&megabyte("a@a.a "))),
        ("digits", plain(&megabyte("1234 "))),
        ("phrases", plain(&megabyte(phrases))),
        ("marks", plain(&megabyte("!$?"))),
        ("zero-width", plain(&megabyte("\u{200b}"))),
        ("zero-width in words", plain(&megabyte("a\u{200b}"))),
        ("combining", plain(&megabyte("\u{301}"))),
        ("struck through", plain(&megabyte("a\u{336}"))),
        ("mixed alphabets", plain(&megabyte("pаypаl "))),
        ("one mixed word", plain(&megabyte("pа"))),
        ("turned around", plain(&megabyte("\u{202e}"))),
        ("turned around after blanks", plain(&format!("{}{}", " \u{a0}".repeat(100_000), megabyte("\u{202e}")))),
        ("control characters", plain(&megabyte("\u{1}"))),
        ("not UTF-8", [message("Content-Type: text/plain; charset=utf-8\r\n", ""), vec![0xff; MIB]].concat()),
        ("base64, broken", base64(&megabyte("Y\r\n"))),
        ("base64, foreign", base64(&megabyte("Y*"))),
        ("base64, padding", base64(&megabyte("="))),
        (
            "quoted, broken",
            message("Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n", &megabyte("=zz\r\n")),
        ),
        ("Japanese escapes", message("Content-Type: text/plain; charset=iso-2022-jp\r\n", &megabyte("\u{1b}$B\u{1b}(B"))),
        ("UTF-7", message("Content-Type: text/plain; charset=utf-7\r\n", &megabyte("+AGEAYQ-"))),
    ]
}

fn html() -> Vec<(&'static str, Vec<u8>)> {
    let html = |body: &str| message("Content-Type: text/html; charset=utf-8\r\n", body);
    let links: String = (0..100_000).map(|n| format!("<a href=//h{n}.x>")).collect();
    let shown: String = (0..50_000).map(|n| format!("<a href=//h{n}.x>h{n}.y</a>")).collect();
    vec![
        ("opening brackets", html(&megabyte("<"))),
        ("open tags", html(&megabyte("<a "))),
        ("divs", html(&"<div>".repeat(100_000))),
        ("divs, hidden", html(&"<div style=display:none>".repeat(50_000))),
        ("divs, closed wrongly", html(&format!("{}{}", "<div>".repeat(50_000), "</p>".repeat(100_000)))),
        ("one attribute", html(&format!("<a href=\"{}", megabyte("a")))),
        ("many attributes", html(&format!("<a {}", megabyte("b=c ")))),
        ("one style", html(&format!("<p style=\"{}\">", megabyte("color:#fff;")))),
        ("entities", html(&megabyte("&amp;"))),
        ("half an entity", html(&megabyte("&"))),
        ("numbers", html(&megabyte("&#97;"))),
        ("anchors", html(&links)),
        ("anchors with text", html(&shown)),
        ("anchors within one", html(&format!("<a href=//h.x>{}", megabyte("word <a href=//h.x>")))),
        ("styles", html(&megabyte("<style>"))),
        ("half a style", html(&format!("<style>{}", megabyte("</styl")))),
        ("comments", html(&megabyte("<!---->"))),
        ("half a comment", html(&megabyte("<!--"))),
        ("nonsense tags", html(&megabyte("<qx>"))),
        ("images", html(&megabyte("<img src=//h.x/>"))),
        ("parted words", html(&megabyte("a<b></b>"))),
        ("white on white", html(&megabyte("<font color=white>a</font>"))),
    ]
}

fn structures() -> Vec<(&'static str, Vec<u8>)> {
    let mixed =
        |boundary: &str, body: &str| message(&format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n"), body);
    let nested: String =
        (0..200).map(|n| format!("--x{n}\r\nContent-Type: multipart/mixed; boundary=x{}\r\n\r\n", n + 1)).collect();
    let letters: String =
        (0..100).map(|n| format!("--b\r\nContent-Type: text/html\r\n\r\n{}\r\n", "<a>".repeat(3_000 + n))).collect();
    let files = "--b\r\nContent-Type: application/zip; name=a.zip\r\n\r\nPK\u{3}\u{4}\r\n";
    let huge = "b".repeat(100_000);
    vec![
        ("5,000 parts", mixed("b", &"--b\r\n\r\nhello\r\n".repeat(5_000))),
        ("5,000 files", mixed("b", &files.repeat(5_000))),
        ("200 multiparts", mixed("x0", &nested)),
        ("attached messages", mixed("b", &format!("--b\r\n{}", "Content-Type: message/rfc822\r\n\r\n".repeat(30_000)))),
        ("huge boundary", mixed(&huge, &format!("--{huge}\r\n\r\nhello\r\n--{huge}--\r\n"))),
        ("boundaries in a line", mixed("b", &megabyte("--b"))),
        ("boundaries like it", mixed("b", &megabyte("\r\n--bc"))),
        ("boundary of one letter", mixed("-", &megabyte("--\r\n"))),
        ("100 texts", mixed("b", &letters)),
        ("texts to choose from", message("Content-Type: multipart/alternative; boundary=b\r\n", &letters)),
    ]
}

fn headers() -> Vec<(&'static str, Vec<u8>)> {
    let with = |fields: &str| message(fields, "hello\r\n");
    let first = |fields: String| format!("{fields}\r\n\r\nhello\r\n").into_bytes();
    let received =
        "Received: from a.example (b.example [192.0.2.1]) by c.example with ESMTP; Fri, 20 Nov 2026 22:36:00 +0000\r\n";
    vec![
        ("10,000 fields", with(&"X-A: 1\r\n".repeat(10_000))),
        ("100,000 Received", with(&received.repeat(100_000))),
        ("short Received", with(&"Received: x\r\n".repeat(80_000))),
        ("From of a megabyte", first(format!("From: {}", megabyte("a@b.example, ")))),
        ("From of brackets", first(format!("From: {}", megabyte("<")))),
        ("From of comments", first(format!("From: {}", megabyte("(")))),
        ("Subject of a megabyte", first(format!("Subject: {}", megabyte("a ")))),
        ("Subject of encoded words", first(format!("Subject: {}", megabyte("=?utf-8?Q?=C3=BC?= ")))),
        ("half encoded words", first(format!("Subject: {}", megabyte("=?utf-8?Q?")))),
        ("folds", first(format!("Subject: a{}", megabyte("\r\n ")))),
        ("Content-Type of a megabyte", first(format!("Content-Type: text/plain; {}", megabyte("a*0=b; ")))),
        ("no colon", first(megabyte("a"))),
        ("no line end", megabyte("a:").into_bytes()),
        ("names", with(&format!("Reply-To: {}\r\n", "paypa1-login.".repeat(600)))),
    ]
}
