//! Cuts the input into command lines, with a bound (RFC 5321 §4.5.3.1.4 promises 512 bytes; parameters add to that).

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
pub struct LineReader {}

impl LineReader {
    /// `limit`: of a line with its end, in bytes.
    pub fn new(limit: usize) -> LineReader {
        let _ = limit;
        todo!()
    }

    /// The next complete line, taken out of `buffer`; `None`: more input is needed. The buffer never has to hold more than
    /// `limit` bytes for this to make progress. Linear in the input overall.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Option<CommandLine> {
        let _ = buffer;
        todo!()
    }
}
