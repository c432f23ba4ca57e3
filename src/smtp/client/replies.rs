//! The peer's replies (RFC 5321 §4.2), one after the other from a stream that may hold several. Everything is bounded: a
//! line, a reply, and the text that is kept of it, which is clean enough for a log and a bounce.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncReadExt;

use crate::mail::Enhanced;
use crate::outside::Stream;

/// RFC 5321 §4.5.3.1.5 says 512; some hosts add long links.
const LINE_MAX: usize = 4096;
/// Of one reply with all its lines, in bytes.
const REPLY_MAX: usize = 64 * 1024;
/// Of the text that is kept, in bytes.
const TEXT_MAX: usize = 500;

/// One reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerReply {
    pub code: u16,
    pub enhanced: Option<Enhanced>,
    /// All of it on one line, code in front: `550 5.1.1 No such user`.
    pub text: String,
}

impl PeerReply {
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    pub fn is_temporary(&self) -> bool {
        (400..500).contains(&self.code)
    }

    pub fn is_permanent(&self) -> bool {
        (500..600).contains(&self.code)
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReplyError {
    #[error("the connection was closed")]
    Closed,
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("it is not SMTP: {0}")]
    Nonsense(&'static str),
}

/// What was read and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Replies {
    buffer: BytesMut,
}

impl Replies {
    /// The next reply. Has no timeout: the caller's stage has. After an error or when dropped on the way, the stream is of
    /// no use any more.
    pub async fn next(&mut self, stream: &mut dyn Stream) -> Result<PeerReply, ReplyError> {
        let mut reply: Option<PeerReply> = None;
        let mut size = 0;
        loop {
            let line = self.line(stream).await?;
            size += line.len();
            if size > REPLY_MAX {
                return Err(ReplyError::Nonsense("a reply without end"));
            }
            let line = ReplyLine::parse(&line)?;
            let is_last = line.is_last;
            match &mut reply {
                None => reply = Some(line.into_reply()),
                Some(reply) => line.append_to(reply)?,
            }
            if let Some(reply) = reply.take_if(|_| is_last) {
                return Ok(reply);
            }
        }
    }

    /// Nothing came that was not asked for. A peer that is a reply ahead would have its next one taken for the answer to
    /// another question.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// One line without its end; a bare LF ends it too.
    async fn line(&mut self, stream: &mut dyn Stream) -> Result<BytesMut, ReplyError> {
        let mut searched = 0;
        loop {
            if let Some(lf) = memchr::memchr(b'\n', &self.buffer[searched..]) {
                let mut line = self.buffer.split_to(searched + lf);
                self.buffer.advance(1);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched > LINE_MAX {
                return Err(ReplyError::Nonsense("a reply line without end"));
            }
            self.buffer.reserve(1024);
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(ReplyError::Closed);
            }
        }
    }
}

/// One line of a reply, taken apart.
struct ReplyLine<'a> {
    code: u16,
    is_last: bool,
    enhanced: Option<Enhanced>,
    /// After code and enhanced code.
    words: std::borrow::Cow<'a, str>,
}

impl ReplyLine<'_> {
    fn parse(line: &[u8]) -> Result<ReplyLine<'_>, ReplyError> {
        let Some((&[a, b, c], rest)) = line.split_first_chunk::<3>() else {
            return Err(ReplyError::Nonsense("a line too short for a reply"));
        };
        if !(b'2'..=b'5').contains(&a) || !b.is_ascii_digit() || !c.is_ascii_digit() {
            return Err(ReplyError::Nonsense("a line without a reply code"));
        }
        let code = [a, b, c].iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let (is_last, words) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', words)) => (true, words),
            Some((b'-', words)) => (false, words),
            Some(_) => return Err(ReplyError::Nonsense("a line without a reply code")),
        };
        let (enhanced, words) = split_enhanced(words);
        Ok(ReplyLine { code, is_last, enhanced, words: String::from_utf8_lossy(words) })
    }

    fn into_reply(self) -> PeerReply {
        let mut text = self.code.to_string();
        if let Some(enhanced) = self.enhanced {
            text.push_str(&format!(" {enhanced}"));
        }
        append_clean(&mut text, &self.words);
        PeerReply { code: self.code, enhanced: self.enhanced, text }
    }

    /// The code, and usually the enhanced code, stands on every line; it is kept once.
    fn append_to(self, reply: &mut PeerReply) -> Result<(), ReplyError> {
        if self.code != reply.code {
            return Err(ReplyError::Nonsense("one reply with two codes"));
        }
        if let Some(enhanced) = self.enhanced.filter(|enhanced| reply.enhanced != Some(*enhanced)) {
            append_clean(&mut reply.text, &enhanced.to_string());
        }
        append_clean(&mut reply.text, &self.words);
        Ok(())
    }
}

/// RFC 2034 §4: `class.subject.detail` and a blank, before the text.
fn split_enhanced(words: &[u8]) -> (Option<Enhanced>, &[u8]) {
    let end = words.iter().position(|byte| *byte == b' ').unwrap_or(words.len());
    let numbers = || {
        let mut parts = std::str::from_utf8(&words[..end]).ok()?.split('.').map(|part| {
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        });
        let class = parts.next()?.filter(|class| matches!(class, 2 | 4 | 5))?;
        let enhanced = Enhanced(class as u8, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(enhanced)
    };
    match numbers() {
        Some(enhanced) => (Some(enhanced), words[end..].trim_ascii_start()),
        None => (None, words),
    }
}

/// Adds words after a blank, without control characters and only as far as there is room.
pub(super) fn append_clean(text: &mut String, words: &str) {
    let words = words.trim();
    if words.is_empty() || text.len() >= TEXT_MAX {
        return;
    }
    if !text.is_empty() {
        text.push(' ');
    }
    for letter in words.chars() {
        let letter = match letter {
            '\t' | '\r' | '\n' => ' ',
            letter if letter.is_control() => '?',
            letter => letter,
        };
        if text.len() + letter.len_utf8() > TEXT_MAX {
            break;
        }
        text.push(letter);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn read(input: &[u8], count: usize) -> Result<Vec<PeerReply>, ReplyError> {
        let (mut peer, mut us) = tokio::io::duplex(7);
        let input = input.to_vec();
        tokio::spawn(async move {
            // The reader may have seen enough before all is written.
            let _ = peer.write_all(&input).await;
        });
        let mut replies = Replies::default();
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(replies.next(&mut us).await?);
        }
        Ok(seen)
    }

    #[tokio::test]
    async fn replies_in_a_row_are_told_apart() {
        let seen =
            read(b"250 2.1.0 Sender OK\r\n550-5.1.1 No such\r\n550 5.1.1 user\r\n354\r\n451 4.7.500 Busy\n", 4).await.unwrap();
        let texts: Vec<_> = seen.iter().map(|reply| reply.text.as_str()).collect();
        assert_eq!(texts, ["250 2.1.0 Sender OK", "550 5.1.1 No such user", "354", "451 4.7.500 Busy"]);
        assert_eq!(seen[1].enhanced, Some(Enhanced(5, 1, 1)));
        assert_eq!((seen[2].code, seen[2].enhanced), (354, None));
        assert_eq!(seen[3].enhanced, Some(Enhanced(4, 7, 500)));
    }

    #[tokio::test]
    async fn what_looks_like_an_enhanced_code_but_is_none_stays_text() {
        let seen = read(b"250 10.0.0.1 hello\r\n250 2.1 x\r\n550 5.1.1.1 y\r\n", 3).await.unwrap();
        assert!(seen.iter().all(|reply| reply.enhanced.is_none()));
        assert_eq!(seen[0].text, "250 10.0.0.1 hello");
    }

    #[tokio::test]
    async fn a_peers_text_is_one_printable_line() {
        let seen = read(b"550 \x1b[2Jno\x00 \xff\tway\r\n", 1).await.unwrap();
        assert_eq!(seen[0].text, "550 ?[2Jno? \u{fffd} way");
        let long = format!("550 {}\r\n", "ä".repeat(1500));
        assert!(read(long.as_bytes(), 1).await.unwrap()[0].text.len() <= TEXT_MAX);
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        let endless_line = vec![b'2'; LINE_MAX * 2];
        let endless_reply = b"250-more\r\n".repeat(REPLY_MAX / 4);
        for input in [
            b"HTTP/1.1 400 Bad Request\r\n".as_slice(),
            b"\r\n",
            b"25\r\n",
            b"999 hello\r\n",
            b"250+hello\r\n",
            b"250-a\r\n550 b\r\n",
            &endless_line,
            &endless_reply,
        ] {
            assert!(matches!(read(input, 1).await, Err(ReplyError::Nonsense(_))), "{:?}", &input[..input.len().min(30)]);
        }
        assert!(matches!(read(b"250-and then\r\n", 1).await, Err(ReplyError::Closed)));
    }
}
