//! Reads clamd's answer to `zINSTREAM`. Pure.
//!
//! Invariant: [`Verdict::Clean`] comes from these eleven bytes and from nothing else: `stream: OK` and the NUL that ends an
//! answer to a `z` command. Whatever is not understood is an error, and the caller makes "not scanned" of it.

use crate::mail::Verdict;

/// An answer longer than this is not read to its end, in bytes. Real ones have a signature's name and little more.
pub(super) const REPLY_MAX: usize = 4096;

/// How much of an answer reaches verdicts and logs, in characters.
const SHOWN_MAX: usize = 200;

/// What clamd says when the message is larger than its StreamMaxLength. It says so while the message is still being sent.
const OVER_LIMIT: &[u8] = b"INSTREAM size limit exceeded. ERROR";

/// The verdict in an answer, or in words why there is none. Never [`Verdict::Unavailable`].
pub(super) fn read(reply: &[u8]) -> Result<Verdict, String> {
    let Some(text) = reply.strip_suffix(b"\0") else {
        return Err(match reply {
            [] => "closed the connection without an answer".to_owned(),
            cut => format!("its answer is cut short: {}", printable(cut)),
        });
    };
    if text == b"stream: OK" {
        return Ok(Verdict::Clean);
    }
    if text == OVER_LIMIT {
        return Ok(Verdict::Unscannable("larger than clamd's StreamMaxLength".to_owned()));
    }
    match found(text) {
        Some(name) if is_unscannable(name) => Ok(Verdict::Unscannable(printable(name))),
        Some(name) => Ok(Verdict::Infected(printable(name))),
        None => Err(format!("answered: {}", printable(text))),
    }
}

/// `stream: NAME FOUND`: the name.
fn found(text: &[u8]) -> Option<&[u8]> {
    let name = text.strip_prefix(b"stream: ")?.strip_suffix(b" FOUND")?;
    let is_name = !name.trim_ascii().is_empty() && !name.iter().any(u8::is_ascii_control);
    is_name.then_some(name)
}

/// clamd did not see all of it. With AlertExceedsMax and AlertEncrypted it says so in the form of a finding; that is no
/// virus, and a customer may wish to get such mail.
fn is_unscannable(name: &[u8]) -> bool {
    name.starts_with(b"Heuristics.Limits.") || name.starts_with(b"Heuristics.Encrypted.")
}

/// What another process said, made fit for logs and reply lines.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(REPLY_MAX)]);
    let shown = text.trim().chars().take(SHOWN_MAX);
    shown.map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ok_is_clean() {
        assert_eq!(read(b"stream: OK\0"), Ok(Verdict::Clean));
        for not_clean in [
            "",
            "\0",
            "OK\0",
            "stream: OK",
            "stream: OK\n",
            "stream: OK\n\0",
            "stream: OK\0\0",
            "stream: OK\0stream: OK\0",
            " stream: OK\0",
            "stream:  OK\0",
            "stream: ok\0",
            "Stream: OK\0",
            "stream: NOK\0",
            "1: stream: OK\0",
            "/tmp/x: OK\0",
            "stream: OK FOUND OK\0",
            "stream: Can't allocate memory ERROR\0",
            "COMMAND READ TIMED OUT\0",
            "COMMAND READ TIMED OUT\n",
            "UNKNOWN COMMAND\0",
            "PONG\0",
            "stream:  FOUND\0",
            "stream: FOUND\0",
            "stream: OK\nstream: Eicar FOUND\0",
            "stream: A\0stream: B FOUND\0",
        ] {
            assert!(read(not_clean.as_bytes()).is_err(), "{not_clean:?} says nothing about the message");
        }
    }

    #[test]
    fn a_finding_names_the_signature() {
        let infected = |name: &str| Ok(Verdict::Infected(name.to_owned()));
        assert_eq!(read(b"stream: Win.Test.EICAR_HDB-1 FOUND\0"), infected("Win.Test.EICAR_HDB-1"));
        assert_eq!(read(b"stream: Local.Rule.UNOFFICIAL FOUND\0"), infected("Local.Rule.UNOFFICIAL"));
        assert_eq!(read(b"stream: Heuristics.Phishing.Email FOUND\0"), infected("Heuristics.Phishing.Email"));
        assert_eq!(read(b"stream: Eicar(44d88612:68) FOUND\0"), infected("Eicar(44d88612:68)"));
        assert_eq!(read(b"stream: OK FOUND\0"), infected("OK"));
        assert_eq!(read(b"stream: B\xf6se FOUND\0"), infected("B\u{fffd}se"));
    }

    #[test]
    fn limits_and_encryption_are_no_viruses() {
        let unscannable = |why: &str| Ok(Verdict::Unscannable(why.to_owned()));
        let limit = "Heuristics.Limits.Exceeded.MaxFileSize";
        assert_eq!(read(format!("stream: {limit} FOUND\0").as_bytes()), unscannable(limit));
        let encrypted = "Heuristics.Encrypted.Zip";
        assert_eq!(read(format!("stream: {encrypted} FOUND\0").as_bytes()), unscannable(encrypted));
        let over = read(b"INSTREAM size limit exceeded. ERROR\0");
        assert_eq!(over, unscannable("larger than clamd's StreamMaxLength"));
    }

    #[test]
    fn strange_answers_are_shown_short_and_printable() {
        let why = read(b"stream: \x1b[2J\x07 ERROR\0").unwrap_err();
        assert_eq!(why, "answered: stream: ?[2J? ERROR");
        let long = [b"x".repeat(100_000), vec![0]].concat();
        assert!(read(&long).unwrap_err().len() < 300);
        let name = format!("stream: {} FOUND\0", "n".repeat(4000));
        assert_eq!(read(name.as_bytes()), Ok(Verdict::Infected("n".repeat(200))));
    }
}
