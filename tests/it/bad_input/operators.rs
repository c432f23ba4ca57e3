//! Bad input for the commands, the admin socket and the monitoring port.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use super::*;
use crate::clamd::Clamd;
use crate::gateway::{command, domain, free_port, wait_for};

#[test]
fn misuse_is_exit_code_2_and_a_gateway_that_is_away_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("feedgate.toml");
    let text = format!("hostname = \"mx1.isp.test\"\ndata_dir = {:?}\n", directory.path().join("data"));
    std::fs::write(&config, text).unwrap();
    let misuse: &[&[&str]] = &[
        &[],
        &["no-such-command"],
        &["queue"],
        &["queue", "no-such-verb"],
        &["queue", "show"],
        &["queue", "show", "not an id"],
        &["queue", "hold"],
        &["queue", "drop"],
        &["queue", "extend", "up.test"],
        &["queue", "extend", "up.test", "five"],
        &["queue", "extend", "up.test", "5"],
        &["queue", "extend", "up.test", "-5d"],
        &["queue", "extend", "up.test", ""],
        &["queue", "extend", "up.test", "99999999999999999999d"],
        &["queue", "extend", "up..test", "5d"],
        &["greylist", "allow", "300.1.1.1"],
        &["greylist", "allow", "joe@sender.test"],
        &["greylist", "stats", "--days", "91"],
        &["status", "--no-such-flag"],
        &["serve", "--json"],
    ];
    for arguments in misuse {
        let output = command(&config, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(!said.is_empty() && !said.contains("panicked") && output.stdout.is_empty(), "{arguments:?}: {said}");
    }
    for arguments in
        [&["status"][..], &["queue", "list"], &["queue", "extend", "up.test", "5d"], &["trace", "x@up.test"], &["reload"]]
    {
        let output = command(&config, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("is not running") && said.contains("admin.sock"), "{arguments:?}: {said}");
    }
}

#[test]
fn commands_answer_what_cannot_be_done() {
    let clamd = Clamd::start();
    let gateway = Gateway::start(clamd.socket(), &domain("up.test", free_port(), ""));
    let id = deliver_ok(&gateway, "waits");
    wait_for("an attempt", || (!gateway.logged("\"deferred\"").is_empty()).then_some(()));
    let unknown = "0123456789ab.1";
    let cases: &[&[&str]] = &[
        &["queue", "show", unknown],
        &["queue", "hold", unknown],
        &["queue", "release", &id],
        &["queue", "extend", &id, "0s"],
        &["queue", "extend", &id, "500000y"],
        &["quarantine", "release", &id],
        &["domain", "show", "nobody.test"],
        &["trace", "nobody@nowhere.test"],
    ];
    for arguments in cases {
        let output = gateway.command(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}: {:?} {said}", output.status);
        assert!(said.starts_with("error: ") && !said.contains("panicked"), "{arguments:?}: {said}");
    }
    let lists: &[&[&str]] = &[
        &["status"],
        &["queue", "list"],
        &["queue", "show", &id],
        &["quarantine", "list"],
        &["domain", "list"],
        &["domain", "show", "up.test"],
        &["greylist", "list"],
        &["greylist", "stats"],
        &["greylist", "lost", "--all"],
        &["trace", &id],
        &["rules", "list"],
        &["queue", "extend", &id, "5d"],
        &["queue", "hold", "up.test"],
        &["queue", "release", &id],
        &["queue", "drop", &id, "--yes"],
    ];
    for arguments in lists {
        gateway.ask_json(arguments);
    }
    assert_unharmed(&gateway);
}

/// Everything that comes back, up to the end or a second of silence.
fn exchange(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn socket_and_monitoring_port_take_no_nonsense() {
    let clamd = Clamd::start();
    let port = free_port();
    let listen = format!("[admin]\nlisten = \"127.0.0.1:{port}\"");
    let changes = [("[admin]\nlisten = \"\"", &*listen)];
    let gateway = Gateway::start_with(clamd.socket(), &changes, &domain("up.test", free_port(), ""));
    deliver_ok(&gateway, "counted");
    let socket = gateway.data().join("admin.sock");
    wait_for("the socket", || std::fs::metadata(&socket).ok());
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o600);
    let silence = Some(Duration::from_millis(500));
    let unix = |bytes: &[u8]| {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(silence).unwrap();
        exchange(stream, bytes)
    };
    let tcp = |bytes: &[u8]| {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(silence).unwrap();
        exchange(stream, bytes)
    };
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    let long = format!("GET /{} HTTP/1.1\r\n{close}", "x".repeat(200_000));
    let many = format!("GET /metrics HTTP/1.1\r\n{}{close}", "X-A: b\r\n".repeat(5000));
    let garbage: [&[u8]; 6] = [
        b"\0\x01\x02\xff\r\n\r\n",
        b"EHLO x\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        long.as_bytes(),
        many.as_bytes(),
        b"\r\n\r\n\r\n",
    ];
    for bytes in garbage {
        for answer in [unix(bytes), tcp(bytes)] {
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
    }
    let large = format!(
        "POST /v1/queue/hold HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 9000000000\r\n\r\n{{{}",
        " ".repeat(20_000)
    );
    let answer = unix(large.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer:?}");
    for target in [
        "/v1/queue/..%2f..%2fetc",
        "/v1/queue/%00",
        "/v1/domains/%1b%5b2J",
        "/v1/queue?limit=-1",
        "/v1/queue?limit=99999999999999999999",
        "/v1/trace",
        "/v1/none",
    ] {
        let answer = unix(format!("GET {target} HTTP/1.1\r\n{close}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 4") && answer.contains("\"error\""), "{target}: {answer}");
        assert!(!answer.contains('\u{1b}') && !answer.contains('\0'));
    }
    // Nothing that changes or tells something is to be had over TCP.
    for target in ["/v1/status", "/v1/queue", "/v1/queue/drop", "/"] {
        assert!(tcp(format!("POST {target} HTTP/1.1\r\n{close}").as_bytes()).starts_with("HTTP/1.1 40"), "{target}");
    }
    let health = tcp(format!("GET /healthz HTTP/1.1\r\n{close}").as_bytes());
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let metrics = tcp(format!("GET /metrics HTTP/1.1\r\n{close}").as_bytes());
    let (head, body) = metrics.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("openmetrics-text"), "{head}");
    assert_is_openmetrics(body);
    assert_unharmed(&gateway);
}

/// As far as a scraper would mind: types before samples, names and numbers where they belong, and the end mark.
#[track_caller]
fn assert_is_openmetrics(text: &str) {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut families = Vec::new();
    let mut samples = 0;
    for line in text.lines().take_while(|line| *line != "# EOF") {
        if let Some(meta) = line.strip_prefix("# ") {
            let words: Vec<_> = meta.splitn(3, ' ').collect();
            assert!(matches!(words[..], ["HELP" | "TYPE" | "UNIT", _, _]), "{line}");
            if words[0] == "TYPE" {
                assert!(!families.contains(&words[1]), "twice: {line}");
                families.push(words[1]);
            }
            continue;
        }
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        assert!(families.iter().any(|family| name.starts_with(family)), "a sample without a type: {line}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{line}");
        assert!(line.rsplit(' ').next().is_some_and(|value| value.parse::<f64>().is_ok()), "{line}");
        samples += 1;
    }
    assert!(samples > 10, "{text}");
}
