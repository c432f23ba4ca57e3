//! Cuts the input into command lines, with a bound (RFC 5321 §4.5.3.1.4 promises 512 bytes; parameters add to that).
//!
//! Nothing here looks at what a line says. A line over the limit is skipped up to its end, so that its tail is never taken for
//! a command, and reported once.

use bytes::{Bytes, BytesMut};

/// One command line, or what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Without its line end. Ended by CRLF, or by a bare LF, which is tolerated for commands only.
    Line(Bytes),
    /// Longer than the limit; it was skipped up to its end.
    TooLong,
}

/// Takes lines off the front of a buffer.
#[derive(Debug)]
pub struct LineReader {
    limit: usize,
    /// This much of the buffer was searched before and holds no line end.
    searched: usize,
    /// Inside a line that is too long.
    skipping: bool,
}

impl LineReader {
    /// `limit`: of a line with its end, in bytes.
    pub fn new(limit: usize) -> LineReader {
        LineReader { limit, searched: 0, skipping: false }
    }

    /// The next complete line, taken out of `buffer`; `None`: more input is needed. The buffer never has to hold more than
    /// `limit` bytes for this to make progress. Linear in the input overall.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Option<CommandLine> {
        let searched = self.searched.min(buffer.len());
        if let Some(place) = memchr::memchr(b'\n', &buffer[searched..]) {
            let mut line = buffer.split_to(searched + place + 1);
            self.searched = 0;
            let too_long = std::mem::take(&mut self.skipping) || line.len() > self.limit;
            if too_long {
                return Some(CommandLine::TooLong);
            }
            line.truncate(line.len() - 1);
            if line.last() == Some(&b'\r') {
                line.truncate(line.len() - 1);
            }
            return Some(CommandLine::Line(line.freeze()));
        }
        self.skipping |= buffer.len() >= self.limit;
        if self.skipping {
            buffer.clear();
        }
        self.searched = buffer.len();
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `input` in pieces of `piece` bytes through a buffer that is as small as it may be.
    fn lines(input: &[u8], limit: usize, piece: usize) -> Vec<String> {
        let mut reader = LineReader::new(limit);
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for piece in input.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(line) = reader.next(&mut buffer) {
                seen.push(match line {
                    CommandLine::Line(line) => String::from_utf8_lossy(&line).into_owned(),
                    CommandLine::TooLong => "TOO LONG".to_owned(),
                });
            }
            assert!(buffer.len() < limit, "never more than the limit is held");
        }
        seen
    }

    #[test]
    fn lines_end_with_crlf_or_lf_however_they_are_split() {
        for piece in 1..12 {
            assert_eq!(lines(b"EHLO a\r\n\r\nNOOP\nRSET\r\r\nQUI", 20, piece), ["EHLO a", "", "NOOP", "RSET\r"]);
        }
    }

    #[test]
    fn an_overlong_line_is_one_error_and_its_tail_is_no_command() {
        let input = format!("NOOP\r\n{}\r\nQUIT\r\n{}\nRSET\r\n", "x".repeat(500), "MAIL ".repeat(50));
        for piece in 1..40 {
            assert_eq!(lines(input.as_bytes(), 12, piece), ["NOOP", "TOO LONG", "QUIT", "TOO LONG", "RSET"], "pieces of {piece}");
        }
    }

    #[test]
    fn the_limit_counts_the_line_end() {
        for piece in 1..12 {
            assert_eq!(lines(b"12345678\r\n123456789\r\n12345678\n", 10, piece), ["12345678", "TOO LONG", "12345678"]);
        }
    }
}
